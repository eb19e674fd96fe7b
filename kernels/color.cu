// Planar YUV to RGB in 0..1 and back: BT.601, 709 and 2020, limited and full range, by the numbers given.
//
// Input   y     SAMPLE [N, H, W]
//         u, v  SAMPLE [N, ceil(H/2), ceil(W/2)] (420) or [N, H, W] (444)
// Output  rgb   SCALAR [N, 3, H, W], channels-last in memory
// and the other way round.
//
// SAMPLE is u8 (8 bits) or u16 (10 bits, 0 .. 1023), SCALAR is float, bf16 or f16. Chroma of 420 is sited on the left
// luma column of its pair, between its two rows. A thread does two rows of WIDE pixels, whose RGB is three pieces of
// WIDE scalars a row; a warp's lie side by side in a row, and those it writes go through shared memory of its own, so
// that they cross the bus side by side as well. No block waits: a warp that waits for memory holds up no other.
//
// Passes  to_rgb_420, to_rgb_444  planes in, RGB out, clipped
//         to_yuv_420, to_yuv_444  RGB in, clipped; planes out, rounded to nearest
// Source  ITU-R BT.601-7, BT.709-6, BT.2020-2 (matrices); ISO/IEC 14496-10 (siting).
// Bytes   3 * sizeof(SCALAR) + 1.5 (420) or 3 (444) * sizeof(SAMPLE) a pixel, once; 13.5 for float and 8 bits at 420,
//         7.5 for 16-bit floats. A tile's neighbours are read once more, from a cache.
#include "common.cuh"

#ifndef SAMPLE
#define SAMPLE u8
#endif
#ifndef SCALAR
#define SCALAR float
#endif
#ifndef BLOCKS
#define BLOCKS 4
#endif
#define THREADS 256
#ifndef WIDE
#define WIDE 4
#endif
typedef Pack<SCALAR, WIDE> Piece;

// Threads, of whole warps, for two rows of a frame; and what one of them does.
DEVICE int row_threads(int width) { return ((width + WIDE - 1) / WIDE + WARP - 1) / WARP * WARP; }
DEVICE i64 threads_of(i64 count, int height, int width) { return count * ((height + 1) / 2) * row_threads(width); }
struct Spot {
    i64 frame;
    int top, left, x;  // left: the x of the warp's first lane
};
DEVICE Spot spot_of(i64 i, int height, int width) {
    // 32 bits hold the number of any warp whose frame fits in memory, and divide faster.
    u32 strips = row_threads(width) / WARP, pairs = (height + 1) / 2;
    u32 warp = (u32)(i / WARP), line = warp / strips, frame = line / pairs;
    Spot spot;
    spot.frame = frame;
    spot.top = (int)(line - frame * pairs) * 2;
    spot.left = (int)(warp - line * strips) * (WARP * WIDE);
    spot.x = spot.left + lane_id() * WIDE;
    return spot;
}

template <typename T>
DEVICE bool aligned(const T* at, int bytes) {
    return (u64)at % bytes == 0;
}

// sample - zero, without the slow integer conversion: 2^23 + sample is a float whose last bits are the sample.
DEVICE float level(SAMPLE sample, float zero) { return bits_to_float(0x4b000000u + sample) - (8388608.0f + zero); }

// COUNT levels from a row's column x on; past the row's end its last one.
template <int COUNT, bool WHOLE>
DEVICE void load_levels(const SAMPLE* __restrict__ row, int x, int width, float zero, float* out) {
    typedef Pack<SAMPLE, COUNT> Samples;
    if (WHOLE) {
        Samples samples = *(const Samples*)(row + x);
#pragma unroll
        for (int i = 0; i < COUNT; ++i) out[i] = level(samples.at[i], zero);
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) out[i] = level(row[smaller(x + i, width - 1)], zero);
    }
}

template <bool WHOLE, int COUNT>
DEVICE void store_samples(SAMPLE* __restrict__ row, int x, int width, const Pack<SAMPLE, COUNT>& samples) {
    typedef Pack<SAMPLE, COUNT> Samples;
    if (WHOLE) {
        if (x < width) store_once((Samples*)(row + x), samples);
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            if (x + i < width) row[x + i] = samples.at[i];
    }
}

// Chroma at two rows (first the upper) of WIDE pixels from column 2j, in eighths of a level: three quarters of the
// nearer chroma row and one of the farther; on odd columns the mean of both sides.
template <bool WHOLE>
DEVICE void load_chroma(const SAMPLE* __restrict__ plane, int i, int j, int height, int width, float zero,
                        float (*out)[WIDE]) {
    const int half = WIDE / 2;
    float rows[3][half + 1];
#pragma unroll
    for (int k = 0; k < 3; ++k) {
        const SAMPLE* row = plane + (i64)larger(0, smaller(i + k - 1, height - 1)) * width;
        load_levels<half, WHOLE>(row, j, width, zero, rows[k]);
        rows[k][half] = level(row[smaller(j + half, width - 1)], zero);
    }
#pragma unroll
    for (int k = 0; k < 2; ++k) {
        float at[half + 1];
#pragma unroll
        for (int x = 0; x <= half; ++x) at[x] = 3 * rows[1][x] + rows[2 * k][x];
#pragma unroll
        for (int x = 0; x < half; ++x) {
            out[k][2 * x] = 2 * at[x];
            out[k][2 * x + 1] = at[x] + at[x + 1];
        }
    }
}

DEVICE float clipped(float value) { return __saturatef(value); }  // NaN is 0

// Whether all that a thread moves at once is whole and aligned.
template <bool HALF>
DEVICE bool is_whole(const SCALAR* rgb, const SAMPLE* y, const SAMPLE* u, const SAMPLE* v, int width) {
    const int wide = WIDE * sizeof(SAMPLE), chroma = HALF ? wide / 2 : wide;
    return width % WIDE == 0 && aligned(rgb, sizeof(Piece)) && aligned(y, wide) && aligned(u, chroma) &&
           aligned(v, chroma);
}

// What a matrix and a range come to: rgb = luma * (y - black) + red_cr * cr, and so on; chroma is from middle on.
struct ToRgb {
    float black, middle, luma, red_cr, green_cb, green_cr, blue_cb;
};

DEVICE void put_rgb(const float* luma, const float* cb, const float* cr, ToRgb to, SCALAR* out) {
#pragma unroll
    for (int x = 0; x < WIDE; x += 2) {
        float both[6];
#pragma unroll
        for (int k = 0; k < 2; ++k) {
            float y = luma[x + k] * to.luma;
            both[3 * k] = clipped(y + to.red_cr * cr[x + k]);
            both[3 * k + 1] = clipped(y + to.green_cb * cb[x + k] + to.green_cr * cr[x + k]);
            both[3 * k + 2] = clipped(y + to.blue_cb * cb[x + k]);
        }
        from_floats<6>(both, out + 3 * x);
    }
}

template <bool HALF, bool WHOLE>
DEVICE void to_rgb(const SAMPLE* __restrict__ y, const SAMPLE* __restrict__ u, const SAMPLE* __restrict__ v,
                   SCALAR* __restrict__ rgb, i64 count, int height, int width, ToRgb to) {
    __shared__ Piece shared[THREADS / WARP][3 * WARP];
    const int chroma_height = HALF ? (height + 1) / 2 : height, chroma_width = HALF ? (width + 1) / 2 : width;
    FOR_GRID_WARPS(i, threads_of(count, height, width)) {
        const Spot spot = spot_of(i, height, width);
        const SAMPLE* luma_row = y + (spot.frame * height + spot.top) * width;
        const i64 chroma_frame = spot.frame * chroma_height * chroma_width;
        const int rows = smaller(2, height - spot.top), x = spot.x;
        float luma[2][WIDE] = {}, cb[2][WIDE] = {}, cr[2][WIDE] = {};
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            if (row >= rows || x >= width) break;
            load_levels<WIDE, WHOLE>(luma_row + (i64)row * width, x, width, to.black, luma[row]);
            if (!HALF) {
                const i64 at = chroma_frame + (i64)(spot.top + row) * width;
                load_levels<WIDE, WHOLE>(u + at, x, width, to.middle, cb[row]);
                load_levels<WIDE, WHOLE>(v + at, x, width, to.middle, cr[row]);
            }
        }
        if (HALF && x < width) {
            load_chroma<WHOLE>(u + chroma_frame, spot.top / 2, x / 2, chroma_height, chroma_width, to.middle, cb);
            load_chroma<WHOLE>(v + chroma_frame, spot.top / 2, x / 2, chroma_height, chroma_width, to.middle, cr);
        }
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            if (row >= rows) break;  // for whole warps
            Piece own[3];
            put_rgb(luma[row], cb[row], cr[row], to, (SCALAR*)own);
            SCALAR* out = rgb + ((spot.frame * height + spot.top + row) * width + spot.left) * 3;
            if (WHOLE) {
                const int pieces = smaller(WARP * WIDE, width - spot.left) / WIDE * 3;
                store_threes((Piece*)out, own, shared[threadIdx.x / WARP], pieces);
            } else {
#pragma unroll
                for (int k = 0; k < 3 * WIDE; ++k)
                    if (x + k / 3 < width) out[3 * (x - spot.left) + k] = ((const SCALAR*)own)[k];
            }
        }
    }
}

KERNEL __launch_bounds__(THREADS, BLOCKS)
color_to_rgb_420(const SAMPLE* __restrict__ y, const SAMPLE* __restrict__ u, const SAMPLE* __restrict__ v,
                        SCALAR* __restrict__ rgb, i64 count, int height, int width, float black, float middle,
                        float luma, float red_cr, float green_cb, float green_cr, float blue_cb) {
    // Chroma comes in eighths.
    ToRgb to = {black, middle, luma, red_cr / 8, green_cb / 8, green_cr / 8, blue_cb / 8};
    if (is_whole<true>(rgb, y, u, v, width))
        to_rgb<true, true>(y, u, v, rgb, count, height, width, to);
    else
        to_rgb<true, false>(y, u, v, rgb, count, height, width, to);
}

KERNEL __launch_bounds__(THREADS, BLOCKS)
color_to_rgb_444(const SAMPLE* __restrict__ y, const SAMPLE* __restrict__ u, const SAMPLE* __restrict__ v,
                        SCALAR* __restrict__ rgb, i64 count, int height, int width, float black, float middle,
                        float luma, float red_cr, float green_cb, float green_cr, float blue_cb) {
    ToRgb to = {black, middle, luma, red_cr, green_cb, green_cr, blue_cb};
    if (is_whole<false>(rgb, y, u, v, width))
        to_rgb<false, true>(y, u, v, rgb, count, height, width, to);
    else
        to_rgb<false, false>(y, u, v, rgb, count, height, width, to);
}

// The way back: y = black + range * (red * r + green * g + blue * b), cb = middle + cb * (b - that sum), and so on.
struct ToYuv {
    float black, middle, top, red, green, blue, luma, cb, cr;
};
struct Rgb {
    float r, g, b;
};
DEVICE Rgb operator+(Rgb a, Rgb b) { return {a.r + b.r, a.g + b.g, a.b + b.b}; }

DEVICE Rgb load_pixel(const SCALAR* at) {
    return {clipped(to_float(at[0])), clipped(to_float(at[1])), clipped(to_float(at[2]))};
}
DEVICE SAMPLE rounded(float value, float top) { return (SAMPLE)(int)fminf(fmaxf(value + 0.5f, 0.0f), top); }
DEVICE float luma_of(Rgb pixel, ToYuv to) { return to.red * pixel.r + to.green * pixel.g + to.blue * pixel.b; }
DEVICE void put_chroma(Rgb sum, float share, ToYuv to, SAMPLE* u, SAMPLE* v) {
    float luma = luma_of(sum, to);
    *u = rounded(to.middle + to.cb * share * (sum.b - luma), to.top);
    *v = rounded(to.middle + to.cr * share * (sum.r - luma), to.top);
}

// Three pieces of a thread's row from RGB to registers; where they are no pieces, or not all in the row, one by one.
template <bool WHOLE>
DEVICE void load_row(const SCALAR* __restrict__ row, Spot spot, int width, Piece* own) {
    if (WHOLE) {
#pragma unroll
        for (int k = 0; k < 3 && spot.x < width; ++k) own[k] = ((const Piece*)(row + 3 * spot.x))[k];
    } else {
#pragma unroll
        for (int k = 0; k < 3 * WIDE; ++k)
            ((SCALAR*)own)[k] = row[3 * smaller(spot.x + k / 3, width - 1) + k % 3];
    }
}

template <bool HALF, bool WHOLE>
DEVICE void to_yuv(const SCALAR* __restrict__ rgb, SAMPLE* __restrict__ y, SAMPLE* __restrict__ u,
                   SAMPLE* __restrict__ v, i64 count, int height, int width, ToYuv to) {
    FOR_GRID_WARPS(i, threads_of(count, height, width)) {
        const Spot spot = spot_of(i, height, width);
        const i64 first = (spot.frame * height + spot.top) * width;
        const int rows = smaller(2, height - spot.top), x = spot.x;
        Piece own[2][3] = {};
#pragma unroll
        for (int row = 0; row < 2; ++row)
            if (row < rows) load_row<WHOLE>(rgb + (first + (i64)row * width) * 3, spot, width, own[row]);
        SCALAR before_warp[2][3] = {};
        if (HALF && lane_id() == 0 && x > 0)
#pragma unroll
            for (int k = 0; k < 6; ++k)
                before_warp[k / 3][k % 3] = rgb[(first + k / 3 * (i64)width + x - 1) * 3 + k % 3];
        // The two rows' sums: of the pixel before (of the first again, at the edge), and of the thread's own.
        Rgb columns[WIDE + 1] = {};
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            if (row >= rows) break;  // for whole warps
            const i64 at = first + (i64)row * width;
            Pack<SAMPLE, WIDE> luma, cb, cr;
#pragma unroll
            for (int k = 0; k < WIDE; ++k) {
                Rgb pixel = load_pixel((const SCALAR*)own[row] + 3 * k);
                luma.at[k] = rounded(to.black + to.luma * luma_of(pixel, to), to.top);
                if (HALF)
                    columns[k + 1] = columns[k + 1] + pixel;
                else
                    put_chroma(pixel, 1, to, cb.at + k, cr.at + k);
            }
            store_samples<WHOLE>(y + at, x, width, luma);
            if (!HALF) {
                store_samples<WHOLE>(u + at, x, width, cb);
                store_samples<WHOLE>(v + at, x, width, cr);
            } else if (lane_id() == 0 && x > 0) {
                columns[0] = columns[0] + load_pixel(before_warp[row]);
            }
        }
        if (HALF) {
            Rgb before = {warp_up(columns[WIDE].r, 1), warp_up(columns[WIDE].g, 1), warp_up(columns[WIDE].b, 1)};
            if (lane_id() > 0) columns[0] = before;
            if (x == 0) columns[0] = columns[1];
            Pack<SAMPLE, WIDE / 2> cb, cr;
#pragma unroll
            for (int k = 0; k < WIDE / 2; ++k) {
                Rgb here = columns[2 * k + 1];
                put_chroma(columns[2 * k] + here + here + columns[2 * k + 2], 0.125f, to, cb.at + k, cr.at + k);
            }
            i64 at = (spot.frame * (height / 2) + spot.top / 2) * (width / 2);
            store_samples<WHOLE>(u + at, x / 2, width / 2, cb);
            store_samples<WHOLE>(v + at, x / 2, width / 2, cr);
        }
    }
}

// Height and width are even.
KERNEL __launch_bounds__(THREADS, BLOCKS)
color_to_yuv_420(const SCALAR* __restrict__ rgb, SAMPLE* __restrict__ y, SAMPLE* __restrict__ u,
                        SAMPLE* __restrict__ v, i64 count, int height, int width, float black, float middle, float top,
                        float red, float green, float blue, float luma, float cb, float cr) {
    ToYuv to = {black, middle, top, red, green, blue, luma, cb, cr};
    if (is_whole<true>(rgb, y, u, v, width))
        to_yuv<true, true>(rgb, y, u, v, count, height, width, to);
    else
        to_yuv<true, false>(rgb, y, u, v, count, height, width, to);
}

KERNEL __launch_bounds__(THREADS, BLOCKS)
color_to_yuv_444(const SCALAR* __restrict__ rgb, SAMPLE* __restrict__ y, SAMPLE* __restrict__ u,
                        SAMPLE* __restrict__ v, i64 count, int height, int width, float black, float middle, float top,
                        float red, float green, float blue, float luma, float cb, float cr) {
    ToYuv to = {black, middle, top, red, green, blue, luma, cb, cr};
    if (is_whole<false>(rgb, y, u, v, width))
        to_yuv<false, true>(rgb, y, u, v, count, height, width, to);
    else
        to_yuv<false, false>(rgb, y, u, v, count, height, width, to);
}
