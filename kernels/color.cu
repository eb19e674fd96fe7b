// Planar YUV to RGB in 0..1 and back: BT.601, 709 and 2020, limited and full range, by the numbers given.
//
// Input   y     SAMPLE [N, H, W]
//         u, v  SAMPLE [N, ceil(H/2), ceil(W/2)] (420) or [N, H, W] (444)
// Output  rgb   SCALAR [N, 3, H, W], channels-last in memory
// and the other way round.
//
// SAMPLE is u8 (8 bits) or u16 (10 bits, 0 .. 1023), SCALAR is float, bf16 or f16. Chroma of 420 is sited on the left
// luma column of its pair, between its two rows. A block does a tile of ROWS x COLUMNS pixels, a thread two rows of
// four pixels; RGB goes through shared memory, so that it crosses the bus in whole 16-byte pieces, side by side.
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
#ifndef ROWS
#define ROWS 4
#endif
#ifndef COLUMNS
#define COLUMNS 512
#endif
#define GROUPS (COLUMNS / 4)                // threads for two rows of a tile
#define WIDE (16 / (int)sizeof(SCALAR))     // scalars moved at once
#define PIECES (COLUMNS * 3 / WIDE)         // such moves for one row of a tile
#define TILE_SCALARS (ROWS * COLUMNS * 3)

struct Tile {
    i64 frame;
    int top, left, rows, columns;
};
DEVICE Tile tile_of(i64 item, int height, int width) {
    // 32 bits hold the number of any tile whose frame fits in memory, and divide faster.
    u32 across = (width + COLUMNS - 1) / COLUMNS, down = (height + ROWS - 1) / ROWS;
    u32 line = (u32)item / across, frame = line / down;
    Tile tile;
    tile.frame = frame;
    tile.top = (int)(line - frame * down) * ROWS;
    tile.left = (int)((u32)item - line * across) * COLUMNS;
    tile.rows = smaller(ROWS, height - tile.top);
    tile.columns = smaller(COLUMNS, width - tile.left);
    return tile;
}
DEVICE i64 tiles(i64 count, int height, int width) {
    return count * ((height + ROWS - 1) / ROWS) * ((width + COLUMNS - 1) / COLUMNS);
}

template <typename T>
DEVICE bool aligned(const T* at, int bytes) {
    return (u64)at % bytes == 0;
}

// sample - zero, without the slow integer conversion: 2^23 + sample is a float whose last bits are the sample.
DEVICE float level(SAMPLE sample, float zero) { return bits_to_float(0x4b000000u + sample) - (8388608.0f + zero); }

// COUNT levels from a row's column x on; past the row's end its last one.
template <int COUNT>
DEVICE void load_levels(const SAMPLE* __restrict__ row, int x, int width, float zero, float* out) {
    typedef Pack<SAMPLE, COUNT> Samples;
    if (x + COUNT <= width && aligned(row + x, sizeof(Samples))) {
        Samples samples = *(const Samples*)(row + x);
#pragma unroll
        for (int i = 0; i < COUNT; ++i) out[i] = level(samples.at[i], zero);
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) out[i] = level(row[smaller(x + i, width - 1)], zero);
    }
}

template <int COUNT>
DEVICE void store_samples(SAMPLE* __restrict__ row, int x, int width, const Pack<SAMPLE, COUNT>& samples) {
    typedef Pack<SAMPLE, COUNT> Samples;
    if (x + COUNT <= width && aligned(row + x, sizeof(Samples))) {
        *(Samples*)(row + x) = samples;
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            if (x + i < width) row[x + i] = samples.at[i];
    }
}

// Chroma at two rows (first the upper) of four pixels from column 2j, in eighths of a level: three quarters of the
// nearer chroma row and one of the farther; on odd columns the mean of both sides.
DEVICE void load_chroma(const SAMPLE* __restrict__ plane, int i, int j, int height, int width, float zero,
                        float (*out)[4]) {
    float rows[3][3];
#pragma unroll
    for (int k = 0; k < 3; ++k) {
        const SAMPLE* row = plane + (i64)larger(0, smaller(i + k - 1, height - 1)) * width;
        load_levels<2>(row, j, width, zero, rows[k]);
        rows[k][2] = level(row[smaller(j + 2, width - 1)], zero);
    }
#pragma unroll
    for (int k = 0; k < 2; ++k) {
        float at[3];
#pragma unroll
        for (int x = 0; x < 3; ++x) at[x] = 3 * rows[1][x] + rows[2 * k][x];
        out[k][0] = 2 * at[0];
        out[k][1] = at[0] + at[1];
        out[k][2] = 2 * at[1];
        out[k][3] = at[1] + at[2];
    }
}

DEVICE float clipped(float value) { return smaller(larger(value, 0.0f), 1.0f); }

// A tile from shared memory to RGB, or (IN) the other way round.
template <bool IN, typename Rgb>
DEVICE void move_tile(Rgb* __restrict__ rgb, Pack<SCALAR, WIDE>* __restrict__ packs, Tile tile, int height, int width) {
    i64 first = ((tile.frame * height + tile.top) * width + tile.left) * 3;
    SCALAR* singles = (SCALAR*)packs;
    if (width % WIDE == 0 && aligned(rgb, 16)) {
#pragma unroll 3
        FOR_BLOCK(k, tile.rows * PIECES) {
            int row = k / PIECES, column = k % PIECES * WIDE;
            if (column >= tile.columns * 3) continue;
            auto* at = rgb + first + (i64)row * width * 3 + column;
            if constexpr (IN)
                packs[k] = *(const Pack<SCALAR, WIDE>*)at;
            else
                *(Pack<SCALAR, WIDE>*)at = packs[k];
        }
    } else {
#pragma unroll 4
        FOR_BLOCK(k, tile.rows * COLUMNS * 3) {
            int row = k / (COLUMNS * 3), column = k % (COLUMNS * 3);
            if (column >= tile.columns * 3) continue;
            auto* at = rgb + first + (i64)row * width * 3 + column;
            if constexpr (IN)
                singles[k] = *at;
            else
                *at = singles[k];
        }
    }
}

// What a matrix and a range come to: rgb = luma * (y - black) + red_cr * cr, and so on; chroma is from middle on.
struct ToRgb {
    float black, middle, luma, red_cr, green_cb, green_cr, blue_cb;
};

DEVICE void put_rgb(const float* luma, const float* cb, const float* cr, ToRgb to, SCALAR* out) {
#pragma unroll
    for (int x = 0; x < 4; ++x) {
        float y = luma[x] * to.luma;
        from_float(clipped(y + to.red_cr * cr[x]), out + 3 * x);
        from_float(clipped(y + to.green_cb * cb[x] + to.green_cr * cr[x]), out + 3 * x + 1);
        from_float(clipped(y + to.blue_cb * cb[x]), out + 3 * x + 2);
    }
}

template <bool HALF>
DEVICE void to_rgb(const SAMPLE* __restrict__ y, const SAMPLE* __restrict__ u, const SAMPLE* __restrict__ v,
                   SCALAR* __restrict__ rgb, i64 count, int height, int width, ToRgb to) {
    __shared__ Pack<SCALAR, WIDE> packs[TILE_SCALARS / WIDE];
    int chroma_height = HALF ? (height + 1) / 2 : height, chroma_width = HALF ? (width + 1) / 2 : width;
    FOR_BLOCKS(item, tiles(count, height, width)) {
        Tile tile = tile_of(item, height, width);
        const SAMPLE* luma_frame = y + tile.frame * height * width;
        i64 chroma_frame = tile.frame * chroma_height * chroma_width;
        FOR_BLOCK(k, ROWS / 2 * GROUPS) {
            int top = tile.top + k / GROUPS * 2, x = tile.left + k % GROUPS * 4;
            if (top >= height || x >= width) continue;
            float luma[4], cb[2][4], cr[2][4];
            if (HALF) {
                load_chroma(u + chroma_frame, top / 2, x / 2, chroma_height, chroma_width, to.middle, cb);
                load_chroma(v + chroma_frame, top / 2, x / 2, chroma_height, chroma_width, to.middle, cr);
            }
#pragma unroll
            for (int row = 0; row < 2; ++row) {
                if (top + row >= height) break;
                i64 at = (i64)(top + row) * width;
                if (!HALF) {
                    load_levels<4>(u + chroma_frame + at, x, width, to.middle, cb[row]);
                    load_levels<4>(v + chroma_frame + at, x, width, to.middle, cr[row]);
                }
                load_levels<4>(luma_frame + at, x, width, to.black, luma);
                Pack<SCALAR, 4> pixels[3];
                put_rgb(luma, cb[row], cr[row], to, (SCALAR*)pixels);
                Pack<SCALAR, 4>* out = (Pack<SCALAR, 4>*)packs + ((k / GROUPS * 2 + row) * GROUPS + k % GROUPS) * 3;
#pragma unroll
                for (int i = 0; i < 3; ++i) out[i] = pixels[i];
            }
        }
        sync_block();
        move_tile<false>(rgb, packs, tile, height, width);
        sync_block();
    }
}

KERNEL color_to_rgb_420(const SAMPLE* __restrict__ y, const SAMPLE* __restrict__ u, const SAMPLE* __restrict__ v,
                        SCALAR* __restrict__ rgb, i64 count, int height, int width, float black, float middle,
                        float luma, float red_cr, float green_cb, float green_cr, float blue_cb) {
    // Chroma comes in eighths.
    ToRgb to = {black, middle, luma, red_cr / 8, green_cb / 8, green_cr / 8, blue_cb / 8};
    to_rgb<true>(y, u, v, rgb, count, height, width, to);
}

KERNEL color_to_rgb_444(const SAMPLE* __restrict__ y, const SAMPLE* __restrict__ u, const SAMPLE* __restrict__ v,
                        SCALAR* __restrict__ rgb, i64 count, int height, int width, float black, float middle,
                        float luma, float red_cr, float green_cb, float green_cr, float blue_cb) {
    ToRgb to = {black, middle, luma, red_cr, green_cb, green_cr, blue_cb};
    to_rgb<false>(y, u, v, rgb, count, height, width, to);
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
DEVICE SAMPLE rounded(float value, float top) { return (SAMPLE)(int)smaller(larger(value + 0.5f, 0.0f), top); }
DEVICE float luma_of(Rgb pixel, ToYuv to) { return to.red * pixel.r + to.green * pixel.g + to.blue * pixel.b; }
DEVICE void put_chroma(Rgb sum, float share, ToYuv to, SAMPLE* u, SAMPLE* v) {
    float luma = luma_of(sum, to);
    *u = rounded(to.middle + to.cb * share * (sum.b - luma), to.top);
    *v = rounded(to.middle + to.cr * share * (sum.r - luma), to.top);
}

template <bool HALF>
DEVICE void to_yuv(const SCALAR* __restrict__ rgb, SAMPLE* __restrict__ y, SAMPLE* __restrict__ u,
                   SAMPLE* __restrict__ v, i64 count, int height, int width, ToYuv to) {
    __shared__ Pack<SCALAR, WIDE> packs[TILE_SCALARS / WIDE];
    FOR_BLOCKS(item, tiles(count, height, width)) {
        Tile tile = tile_of(item, height, width);
        move_tile<true>(rgb, packs, tile, height, width);
        sync_block();
        FOR_BLOCK(k, ROWS / 2 * GROUPS) {
            int top = tile.top + k / GROUPS * 2, x = tile.left + k % GROUPS * 4;
            if (top >= height || x >= width) continue;
            // The two rows' sums: of the pixel before the four (of the first again, at the edge), and of the four.
            Rgb columns[5] = {};
#pragma unroll
            for (int row = 0; row < 2; ++row) {
                if (top + row >= height) break;
                i64 at = (tile.frame * height + top + row) * width;
                const Pack<SCALAR, 4>* in =
                    (const Pack<SCALAR, 4>*)packs + ((k / GROUPS * 2 + row) * GROUPS + k % GROUPS) * 3;
                Pack<SCALAR, 4> pixels[3] = {in[0], in[1], in[2]};
                Pack<SAMPLE, 4> luma, cb, cr;
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    Rgb pixel = load_pixel((const SCALAR*)pixels + 3 * i);
                    luma.at[i] = rounded(to.black + to.luma * luma_of(pixel, to), to.top);
                    if (HALF)
                        columns[i + 1] = columns[i + 1] + pixel;
                    else
                        put_chroma(pixel, 1, to, cb.at + i, cr.at + i);
                }
                store_samples(y + at, x, width, luma);
                if (!HALF) {
                    store_samples(u + at, x, width, cb);
                    store_samples(v + at, x, width, cr);
                } else if (k % GROUPS > 0) {
                    columns[0] = columns[0] + load_pixel((const SCALAR*)in - 3);
                } else if (x > 0) {
                    columns[0] = columns[0] + load_pixel(rgb + (at + x - 1) * 3);
                }
            }
            if (HALF) {
                if (x == 0) columns[0] = columns[1];
                Pack<SAMPLE, 2> cb, cr;
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    Rgb here = columns[2 * i + 1];
                    put_chroma(columns[2 * i] + here + here + columns[2 * i + 2], 0.125f, to, cb.at + i, cr.at + i);
                }
                i64 at = (tile.frame * (height / 2) + top / 2) * (width / 2);
                store_samples(u + at, x / 2, width / 2, cb);
                store_samples(v + at, x / 2, width / 2, cr);
            }
        }
        sync_block();
    }
}

// Height and width are even.
KERNEL color_to_yuv_420(const SCALAR* __restrict__ rgb, SAMPLE* __restrict__ y, SAMPLE* __restrict__ u,
                        SAMPLE* __restrict__ v, i64 count, int height, int width, float black, float middle, float top,
                        float red, float green, float blue, float luma, float cb, float cr) {
    ToYuv to = {black, middle, top, red, green, blue, luma, cb, cr};
    to_yuv<true>(rgb, y, u, v, count, height, width, to);
}

KERNEL color_to_yuv_444(const SCALAR* __restrict__ rgb, SAMPLE* __restrict__ y, SAMPLE* __restrict__ u,
                        SAMPLE* __restrict__ v, i64 count, int height, int width, float black, float middle, float top,
                        float red, float green, float blue, float luma, float cb, float cr) {
    ToYuv to = {black, middle, top, red, green, blue, luma, cb, cr};
    to_yuv<false>(rgb, y, u, v, count, height, width, to);
}
