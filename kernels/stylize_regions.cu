// The painting network's per-pixel norm, ReLU, residual sum and padding in one launch a layer, and the last composite.
//
// affine: y * scale[row] + shift[row], activated, into the interior of the next layer's padded input, whose border it
// also fills. Two styles and the weight of a pixel are one row of a table of blends: one 4-byte read instead of three
// lookups. After an upsampling layer (UP) the channels of y are four phases, and go to 2 x 2 pixels:
//
//     y [H, W, 4 c] = | p00 p01 p10 p11 |  ->  out | p00 p01 |      a pack may hold p00 and p01, neighbours in out
//                                                  | p10 p11 |
//
// Input   y                SCALAR [N, H, W, CHANNELS], the convolution
//         index            int    [N, H, W], rows of the table, not checked; null: row 0 everywhere
//         scale, shift     float  [R, c], c = CHANNELS, or CHANNELS / 4 where UP; null: already in the convolution
//         rgb              SCALAR [N, H, W, 3], painted, 0..1
//         strength         float  [N, H, W], the painted share of luma, 0..1; null: all is painted
//         chroma_strength  float  [N, H, W], that of chroma; where a share is 0 the original's byte is kept
//         y, u, v          u8     the original, [N, H, W] and [N, H / 2, W / 2], or all [N, H, W]
// Output  out              SCALAR [N, H + 2 pad, W + 2 pad, c] (2 H, 2 W where UP); may be y itself where nothing moves
//         y_out ...        u8     as y, u, v
// Passes  affine         a thread has VEC channels of a pixel, 16 bytes where they divide; those near the frame's edge
//                        also write their mirror images. float inside, rounded once
//         composite      4:2:0: a thread has 4 x 2 (or 2 x 2) pixels
//         composite_444  4:4:4: a thread has 4 pixels (or 1)
// Source  Dumoulin et al. 2017 (conditional instance norm); ITU-R BT.601, 709, 2020; H.264 (left-sited chroma, 1 2 1).
// Bytes   affine: a pixel of 32 bfloat16 channels 64 read, 64 written, 4 of index; 64 more for the residual.
//         composite: 6 (bfloat16) + 4 + 1.5 read, 1.5 written, a pixel; 4 more where colours are kept.
#include "common.cuh"

#ifndef SCALAR
#define SCALAR bf16
#endif
#ifndef VEC
#define VEC 8
#endif
#ifndef CHANNELS
#define CHANNELS 32
#endif
#ifndef UP
#define UP 0
#endif

constexpr int SIDE = UP ? 2 : 1;
constexpr int OUT = CHANNELS / (SIDE * SIDE);  // channels of a pixel of out
constexpr int PIECE = VEC < OUT ? VEC : OUT;   // of a pack, what lies in one pixel of out
static_assert(CHANNELS % VEC == 0 && OUT % PIECE == 0 && VEC % PIECE == 0 && SIDE * OUT % VEC == 0, "VEC");
enum Activation { NONE, RELU, RESIDUAL, SIGMOID };

// The images of x, of 0 .. size - 1, in a border of pad: image 0 is x itself, 1 lies before 0, 2 after size - 1.
// edge: the mirror stands between the pixels (1: the outermost is doubled) or on the outermost (0).
DEVICE bool has_image(int x, int size, int pad, int edge, int image) {
    int depth = image == 1 ? x : size - 1 - x;
    return image == 0 || (depth >= 1 - edge && depth <= pad - edge);
}
DEVICE int image_of(int x, int size, int edge, int image) {
    if (image == 0) return x;
    return image == 1 ? -x - edge : 2 * (size - 1) - x + edge;
}

// Write piece to the images of pixel (x, y) of a frame of height x width in its border; at is the frame's pixel (0, 0).
DEVICE void write_images(SCALAR* at, const Pack<SCALAR, PIECE>& piece, int x, int y, int width, int height, int pad,
                         int edge) {
#pragma unroll 1
    for (int image = 1; image < 9; ++image) {
        int across = image % 3, down = image / 3;
        if (!has_image(x, width, pad, edge, across) || !has_image(y, height, pad, edge, down)) continue;
        i64 row = (i64)image_of(y, height, edge, down) * (width + 2 * pad);
        *(Pack<SCALAR, PIECE>*)(at + (row + image_of(x, width, edge, across)) * OUT) = piece;
    }
}

// RESIDUAL adds to what out holds. edge: as above.
// Five blocks on a multiprocessor keep enough loads under way; a sixth would spill registers.
KERNEL __launch_bounds__(256, 5)
stylize_regions_affine(const SCALAR* y, const int* __restrict__ index, const float* __restrict__ scale,
                       const float* __restrict__ shift, SCALAR* out, i64 count, int height, int width, int pad,
                       int edge, int activation) {
    const int packs = CHANNELS / VEC, out_width = SIDE * width, out_height = SIDE * height;
    const float least = activation == RELU ? 0.0f : -bits_to_float(0x7f800000u);  // or minus infinity
    const i64 out_row = (i64)(out_width + 2 * pad) * OUT;
    FOR_GRID(i, count * height * width * packs) {
        Pack<SCALAR, VEC> values = *(const Pack<SCALAR, VEC>*)(y + i * VEC);
        i64 pixel = (u64)i / packs, row = (u64)pixel / (u32)width;
        int channel = (int)(i - pixel * packs) * VEC, phase = channel / OUT;
        int out_x = SIDE * (int)(pixel - row * width) + phase % SIDE;
        i64 frame = (u64)row / (u32)height;
        int out_y = SIDE * (int)(row - frame * height) + phase / SIDE;
        SCALAR* at = out + (frame * (out_height + 2 * pad) + pad) * out_row + pad * OUT + channel % OUT;
        Pack<SCALAR, VEC>* to = (Pack<SCALAR, VEC>*)(at + out_y * out_row + out_x * OUT);
        Pack<SCALAR, VEC> before = {};
        if (activation == RESIDUAL) before = *to;
        Pack<float, PIECE> scales, shifts;
        if (scale) {
            i64 entry = (index ? (i64)index[pixel] : 0) * OUT + channel % OUT;
            scales = *(const Pack<float, PIECE>*)(scale + entry);
            shifts = *(const Pack<float, PIECE>*)(shift + entry);
        } else {
#pragma unroll
            for (int k = 0; k < PIECE; ++k) {
                scales.at[k] = 1.0f;
                shifts.at[k] = 0.0f;
            }
        }
#pragma unroll
        for (int k = 0; k < VEC; ++k) {
            float value = to_float(values.at[k]) * scales.at[k % PIECE] + shifts.at[k % PIECE];
            if (activation == SIGMOID) value = 1.0f / (1.0f + expf(-value));
            value = value < least ? least : value;
            from_float(value + to_float(before.at[k]), values.at + k);
        }
        *to = values;
        bool inner_row = out_y > pad && out_y < out_height - 1 - pad;
        if (inner_row && out_x > pad && out_x + VEC / PIECE < out_width - pad) continue;
#pragma unroll
        for (int k = 0; k < VEC / PIECE; ++k) {
            const Pack<SCALAR, PIECE>& piece = ((const Pack<SCALAR, PIECE>*)&values)[k];
            write_images(at, piece, out_x + k, out_y, out_width, out_height, pad, edge);
        }
    }
}

constexpr int COLUMNS = VEC >= 4 ? 4 : 2;    // of a thread, 4:2:0
constexpr int TOGETHER = VEC >= 4 ? 4 : 1;  // pixels read at once

// Matrix and range of the planes' numbers.
struct Color {
    float red, green, blue;   // weights in luma
    float cb, cr;             // factors of blue - luma and red - luma
    float luma_range, black;  // black is half a level above, so that cutting off rounds
};
struct Pixel {
    float luma, cb, cr;
};

DEVICE float clipped(float value, float most) { return value > 0.0f ? (value < most ? value : most) : 0.0f; }
DEVICE u8 level(float value) { return (u8)(int)clipped(value, 255.0f); }

// Products and sums are rounded as the reference's are, which the compiler would else fuse.
DEVICE Pixel converted(const SCALAR* rgb, const Color& color) {
    float red = clipped(to_float(rgb[0]), 1.0f), green = clipped(to_float(rgb[1]), 1.0f);
    float blue = clipped(to_float(rgb[2]), 1.0f);
    Pixel pixel;
    pixel.luma = fmaf(blue, color.blue, fmaf(green, color.green, __fmul_rn(red, color.red)));
    pixel.cb = __fmul_rn(blue - pixel.luma, color.cb);
    pixel.cr = __fmul_rn(red - pixel.luma, color.cr);
    return pixel;
}
DEVICE u8 luma_level(const Pixel& pixel, const Color& color) {
    return level(__fadd_rn(__fmul_rn(pixel.luma, color.luma_range), color.black));
}

DEVICE u8 mixed(u8 painted, u8 kept, float share) {
    if (!(share > 0.0f)) return kept;
    float change = (float)painted - (float)kept;
    float value = share < 0.5f ? fmaf(share, change, (float)kept) : fmaf(share - 1.0f, change, (float)painted);
    return level(value + 0.5f);
}

// COUNT values, TOGETHER at once.
template <typename T, int COUNT>
DEVICE void copy_values(const T* from, T* to) {
#pragma unroll
    for (int k = 0; k < COUNT; k += TOGETHER) *(Pack<T, TOGETHER>*)(to + k) = *(const Pack<T, TOGETHER>*)(from + k);
}

// pairs: N * H / 2 pairs of rows.
KERNEL stylize_regions_composite(const SCALAR* __restrict__ rgb, const float* __restrict__ strength,
                                 const float* __restrict__ chroma_strength, const u8* __restrict__ y,
                                 const u8* __restrict__ u, const u8* __restrict__ v, u8* __restrict__ y_out,
                                 u8* __restrict__ u_out, u8* __restrict__ v_out, i64 pairs, int width, float red,
                                 float green, float blue, float cb, float cr, float luma_range, float black) {
    const Color color = {red, green, blue, cb, cr, luma_range, black};
    const int across = width / COLUMNS;
    FOR_GRID(i, pairs * across) {
        i64 pair = (u64)i / (u32)across;
        int x = (int)(i - pair * across) * COLUMNS;
        float cbs[COLUMNS + 1] = {}, crs[COLUMNS + 1] = {}, shares[COLUMNS / 2] = {};  // from column x - 1 on
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            i64 at = (2 * pair + r) * width + x;
            alignas(16) SCALAR colors[3 * COLUMNS];
            alignas(16) float share[COLUMNS];
            alignas(4) u8 lumas[COLUMNS];
            copy_values<SCALAR, 3 * COLUMNS>(rgb + 3 * at, colors);
            if (strength) {
                copy_values<float, COLUMNS>(strength + at, share);
                copy_values<u8, COLUMNS>(y + at, lumas);
            }
            if (x > 0) {
                Pixel left = converted(rgb + 3 * (at - 1), color);
                cbs[0] += left.cb;
                crs[0] += left.cr;
            }
#pragma unroll
            for (int k = 0; k < COLUMNS; ++k) {
                Pixel pixel = converted(colors + 3 * k, color);
                cbs[k + 1] += pixel.cb;
                crs[k + 1] += pixel.cr;
                u8 painted = luma_level(pixel, color);
                lumas[k] = strength ? mixed(painted, lumas[k], share[k]) : painted;
            }
            copy_values<u8, COLUMNS>(lumas, y_out + at);
            if (!strength) continue;
            if (chroma_strength != strength) copy_values<float, COLUMNS>(chroma_strength + at, share);
#pragma unroll
            for (int k = 0; k < COLUMNS; ++k) shares[k / 2] += share[k];
        }
        if (x == 0) {
            cbs[0] = cbs[1];
            crs[0] = crs[1];
        }
#pragma unroll
        for (int k = 0; k < COLUMNS / 2; ++k) {
            i64 at = pair * (width / 2) + x / 2 + k;
            float blue_part = 0.125f * (cbs[2 * k] + cbs[2 * k + 2] + 2.0f * cbs[2 * k + 1]);
            float red_part = 0.125f * (crs[2 * k] + crs[2 * k + 2] + 2.0f * crs[2 * k + 1]);
            u8 painted_u = level(blue_part + 128.5f), painted_v = level(red_part + 128.5f);
            u_out[at] = strength ? mixed(painted_u, u[at], 0.25f * shares[k]) : painted_u;
            v_out[at] = strength ? mixed(painted_v, v[at], 0.25f * shares[k]) : painted_v;
        }
    }
}

// groups: N * H * W / TOGETHER.
KERNEL stylize_regions_composite_444(const SCALAR* __restrict__ rgb, const float* __restrict__ strength,
                                     const float* __restrict__ chroma_strength, const u8* __restrict__ y,
                                     const u8* __restrict__ u, const u8* __restrict__ v, u8* __restrict__ y_out,
                                     u8* __restrict__ u_out, u8* __restrict__ v_out, i64 groups, float red, float green,
                                     float blue, float cb, float cr, float luma_range, float black) {
    const Color color = {red, green, blue, cb, cr, luma_range, black};
    FOR_GRID(i, groups) {
        i64 at = i * TOGETHER;
        alignas(16) SCALAR colors[3 * TOGETHER];
        alignas(16) float share[2][TOGETHER];
        alignas(4) u8 planes[3][TOGETHER];
        copy_values<SCALAR, 3 * TOGETHER>(rgb + 3 * at, colors);
        if (strength) {
            copy_values<float, TOGETHER>(strength + at, share[0]);
            copy_values<float, TOGETHER>(chroma_strength + at, share[1]);
            copy_values<u8, TOGETHER>(y + at, planes[0]);
            copy_values<u8, TOGETHER>(u + at, planes[1]);
            copy_values<u8, TOGETHER>(v + at, planes[2]);
        }
#pragma unroll
        for (int k = 0; k < TOGETHER; ++k) {
            Pixel pixel = converted(colors + 3 * k, color);
            u8 painted[3] = {luma_level(pixel, color), level(pixel.cb + 128.5f), level(pixel.cr + 128.5f)};
#pragma unroll
            for (int p = 0; p < 3; ++p)
                planes[p][k] = strength ? mixed(painted[p], planes[p][k], share[p > 0][k]) : painted[p];
        }
        copy_values<u8, TOGETHER>(planes[0], y_out + at);
        copy_values<u8, TOGETHER>(planes[1], u_out + at);
        copy_values<u8, TOGETHER>(planes[2], v_out + at);
    }
}
