// The painting network's per-pixel norm, ReLU, residual sum and padding in one launch a layer, and the last composite.
//
// affine: y * scale[row] + shift[row], activated, into the interior of the next layer's padded input, whose border it
// also fills. Two styles and the weight of a pixel are one row of a table of blends: one 4-byte read instead of three
// lookups. Where UP, the channels of y are four phases, and go to 2 x 2 pixels:
//
//     y [H, W, 4 c] = | p00 p01 p10 p11 |  ->  out | p00 p01 |      a pack may hold p00 and p01, neighbours in out
//                                                  | p10 p11 |
//
// A buffer is folded where its blocks of 2 x 2 pixels are its pixels, with the same phases as channels: of a border of
// pad pixels, an even number, pad / 2 are blocks.
//
// Input   y                SCALAR [N, H, W, y_channels], the convolution, of which the first CHANNELS count
//         index            int    [N, step H, step W], rows of the table, not checked; null: row 0 everywhere
//         scale, shift     float  [R, c], c = CHANNELS, or CHANNELS / 4 where UP; c of 1 and 0 where they are in the
//                                 convolution
//         picture          SCALAR [N, H, W, 3], 0..1; rgb the same, painted
//         shares           float  [R, 2], the painted share of luma and of chroma, 0..1, of each row; where it is 0 the
//                                 original's byte is kept; null: all is painted
//         y, u, v          u8     the original, [N, H, W] and [N, H / 2, W / 2], or all [N, H, W]
// Output  out              SCALAR [N, H + 2 pad, W + 2 pad, c] (2 H, 2 W where UP); where FOLDED half as high and wide,
//                          of 4 c; may be y itself where nothing moves
//         y_out ...        u8     as y, u, v
// Passes  picture_into   the picture to a folded input of 4 channels, the fourth 0: a thread writes a block, border too
//         affine         a thread has VEC channels, 16 bytes where they divide, of each of ITEMS pixels; those near the
//                        frame's edge also write their mirror images. float inside, rounded once
//         picture_from   affine and sigmoid of the last layer's phases, 3 of 4 channels each, to a picture; a row of
//                        the table has 4 floats: a thread has two blocks, and writes 4 x 2 whole pixels
//         composite      4:2:0: a thread has VEC x 2 pixels (or 2 x 2), VEC at most COMPOSITE_VEC
//         composite_444  4:4:4: a thread has VEC pixels
// Source  Dumoulin et al. 2017 (conditional instance norm); ITU-R BT.601, 709, 2020; H.264 (left-sited chroma, 1 2 1).
// Bytes   affine: a pixel of 32 bfloat16 channels 64 read, 64 written, 4 of index; 64 more for the residual.
//         picture_into: 6 read, 8 written. picture_from: 8 and 4 of index read, 6 written.
//         composite: 6 (bfloat16) read, 1.5 written, a pixel; with shares 4 of index and 1.5 more read.
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
#ifndef FOLDED
#define FOLDED 0
#endif
#ifndef ACTIVATION
#define ACTIVATION 1
#endif
#ifndef ITEMS
#define ITEMS 2
#endif
#ifndef AFFINE_BLOCKS
#define AFFINE_BLOCKS 4
#endif
#ifndef COMPOSITE_VEC
#define COMPOSITE_VEC 4
#endif
#ifndef COMPOSITE_BLOCKS
#define COMPOSITE_BLOCKS (sizeof(SCALAR) < 4 ? 3 : 2)
#endif

constexpr int SPAN = 256;  // threads' worth of a row: a block's item, so that row and frame cost no 64-bit division
constexpr int SIDE = UP ? 2 : 1;
constexpr int OUT = CHANNELS / (SIDE * SIDE);  // channels of a pixel of out
constexpr int PIECE = VEC < OUT ? VEC : OUT;   // of a pack, what lies in one pixel of out
static_assert(CHANNELS % VEC == 0 && OUT % PIECE == 0 && VEC % PIECE == 0 && SIDE * OUT % VEC == 0, "VEC");
enum { NONE, RELU, RESIDUAL, SIGMOID };

DEVICE float sigmoid(float value) { return __fdividef(1.0f, 1.0f + expf(-value)); }

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

// Where in a frame of out the pixel of a column and a row lies, both counted with the border; across: pixels of a row.
DEVICE i64 place(int column, int row, int across) {
    if (!FOLDED) return ((i64)row * across + column) * OUT;
    return ((i64)(row >> 1) * (across >> 1) * 4 + 2 * (row & 1)) * OUT + ((column >> 1) * 4 + (column & 1)) * OUT;
}

// Write piece to the images of pixel (x, y) of a frame of height x width in its border.
DEVICE void write_images(SCALAR* frame, const Pack<SCALAR, PIECE>& piece, int x, int y, int width, int height, int pad,
                         int edge) {
#pragma unroll 1
    for (int image = 1; image < 9; ++image) {
        int across = image % 3, down = image / 3;
        if (!has_image(x, width, pad, edge, across) || !has_image(y, height, pad, edge, down)) continue;
        int column = image_of(x, width, edge, across) + pad, row = image_of(y, height, edge, down) + pad;
        *(Pack<SCALAR, PIECE>*)(frame + place(column, row, width + 2 * pad)) = piece;
    }
}

constexpr int PACKS = CHANNELS / VEC, NEXT = SPAN / PACKS;  // NEXT: pixels between two packs of a thread
// Of a thread, at the same channel; where that cannot be, one.
constexpr int EACH = SPAN % (2 * PACKS) == 0 ? ITEMS : 1;
constexpr int NEXT_OUT = NEXT * SIDE * OUT * (FOLDED ? 2 : 1);

// items packs of a row: from y, its rows of the table (none: the first) and, RESIDUAL, out, to out. All are asked for
// before one is waited for: a load of 16 bytes a thread is too little on its way to keep the memory busy.
DEVICE void affine_packs(const SCALAR* from, int y_channels, const int* index, int step,
                         const float* __restrict__ scale, const float* __restrict__ shift, SCALAR* to, int items) {
    Pack<SCALAR, VEC> values[EACH], before[EACH];
    int entries[EACH];
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        entries[i] = index && i < items ? index[i * NEXT * step] : 0;
        if (i >= items) continue;
        values[i] = load_once((const Pack<SCALAR, VEC>*)(from + i * NEXT * y_channels));
        if (ACTIVATION == RESIDUAL) before[i] = *(const Pack<SCALAR, VEC>*)(to + i * NEXT_OUT);
    }
    sync_warp();  // else the compiler looks up the first before it asks for the second
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        if (i >= items) break;
        const Pack<float, PIECE> scales = *(const Pack<float, PIECE>*)(scale + (i64)entries[i] * OUT);
        const Pack<float, PIECE> shifts = *(const Pack<float, PIECE>*)(shift + (i64)entries[i] * OUT);
        float done[VEC];
#pragma unroll
        for (int c = 0; c < VEC; ++c) {
            done[c] = to_float(values[i].at[c]) * scales.at[c % PIECE] + shifts.at[c % PIECE];
            if (ACTIVATION == RELU) done[c] = at_least(done[c], 0.0f);
            if (ACTIVATION == RESIDUAL) done[c] += to_float(before[i].at[c]);
            if (ACTIVATION == SIGMOID) done[c] = sigmoid(done[c]);
        }
        from_floats<VEC>(done, values[i].at);
        store_once((Pack<SCALAR, VEC>*)(to + i * NEXT_OUT), values[i]);
    }
}

// rows: N * H. ACTIVATION: NONE, RELU, SIGMOID, or RESIDUAL, which adds to what out holds. edge: as above. apart: each
// phase has its own row of the table, that of its pixel among the 2 x 2, and a pack is of one phase; else all four have
// that of the first.
// So many blocks on a multiprocessor as spill no registers.
KERNEL __launch_bounds__(256, AFFINE_BLOCKS)
stylize_regions_affine(const SCALAR* y, const int* __restrict__ index, const float* __restrict__ scale,
                       const float* __restrict__ shift, SCALAR* out, int rows, int height, int width, int y_channels,
                       int step, int apart, int pad, int edge) {
    const int out_width = SIDE * width, out_height = SIDE * height, across = out_width + 2 * pad;
    const int row_packs = width * PACKS, spans = (row_packs + EACH * SPAN - 1) / (EACH * SPAN);
    FOR_BLOCKS(item, (i64)rows * spans) {
        const u32 row = (u32)item / (u32)spans, frame = row / (u32)height;
        const int first = (int)((u32)item - row * spans) * (EACH * SPAN), line = (int)(row - frame * height);
        const SCALAR* y_row = y + (i64)row * width * y_channels;
        const int* index_row = index + (i64)row * step * width * step;
        SCALAR* frame_out = out + (i64)frame * (out_height + 2 * pad) * across * OUT;
        FOR_BLOCK(k, SPAN) {
            const int pack = first + k, items = smaller(EACH, (row_packs - pack + SPAN - 1) / SPAN);
            const int x = pack / PACKS, channel = pack % PACKS * VEC, phase = channel / OUT;
            const int out_x = SIDE * x + phase % SIDE, out_y = SIDE * line + phase / SIDE;
            const SCALAR* from = y_row + x * y_channels + channel;
            const int* at = index_row + apart * (phase / SIDE) * width * step + x * step + apart * (phase % SIDE);
            if (!index) at = nullptr;
            const float *scales = scale + channel % OUT, *shifts = shift + channel % OUT;
            SCALAR* to = frame_out + channel % OUT + place(out_x + pad, out_y + pad, across);
            affine_packs(from, y_channels, at, step, scales, shifts, to, items);  // by whole warps
            if (items <= 0) continue;
            const bool inner = out_y > pad && out_y < out_height - 1 - pad && out_x > pad;
            if (inner && out_x + (items - 1) * NEXT * SIDE + VEC / PIECE < out_width - pad) continue;
#pragma unroll 1
            for (int piece = 0; piece < items * (VEC / PIECE); ++piece) {
                const int i = piece / (VEC / PIECE), c = piece % (VEC / PIECE);
                write_images(frame_out + channel % OUT, *(const Pack<SCALAR, PIECE>*)(to + i * NEXT_OUT + c * PIECE),
                             out_x + i * NEXT * SIDE + c, out_y, out_width, out_height, pad, edge);
            }
        }
    }
}

constexpr int WIDE = 16 / sizeof(SCALAR);  // values in 16 bytes

// x, of -pad .. size - 1 + pad, mirrored about the outermost pixels.
DEVICE int mirrored(int x, int size) { return x < 0 ? -x : (x < size ? x : 2 * (size - 1) - x); }

// count: frames. The next layer's border is "reflect"; height, width and pad are even.
KERNEL stylize_regions_picture_into(const SCALAR* __restrict__ picture, SCALAR* __restrict__ out, int count, int height,
                                    int width, int pad) {
    const int down = height / 2 + pad, across = width / 2 + pad, spans = (across + SPAN - 1) / SPAN;
    FOR_BLOCKS(item, (i64)count * down * spans) {
        const u32 row = (u32)item / (u32)spans, frame = row / (u32)down;
        const int first = (int)((u32)item - row * spans) * SPAN, top = 2 * (int)(row - frame * down) - pad;
        FOR_BLOCK(k, SPAN) {
            if (first + k >= across) break;
            alignas(16) SCALAR block[16] = {};
#pragma unroll
            for (int phase = 0; phase < 4; ++phase) {
                int from_y = mirrored(top + phase / 2, height);
                int from_x = mirrored(2 * (first + k) - pad + phase % 2, width);
                const SCALAR* from = picture + (((i64)frame * height + from_y) * width + from_x) * 3;
#pragma unroll
                for (int c = 0; c < 3; ++c) block[4 * phase + c] = from[c];
            }
            Pack<SCALAR, WIDE>* to = (Pack<SCALAR, WIDE>*)(out + ((i64)row * across + first + k) * 16);
#pragma unroll
            for (int p = 0; p < 16 / WIDE; ++p) to[p] = ((const Pack<SCALAR, WIDE>*)block)[p];
        }
    }
}

// rows: N * H of blocks; width: blocks, an even number. index has two rows and columns a block.
KERNEL stylize_regions_picture_from(const SCALAR* __restrict__ y, const int* __restrict__ index,
                                    const float* __restrict__ scale, const float* __restrict__ shift,
                                    SCALAR* __restrict__ out, int rows, int width) {
    const int pairs = width / 2, spans = (pairs + SPAN - 1) / SPAN;
    FOR_BLOCKS(item, (i64)rows * spans) {
        const u32 row = (u32)item / (u32)spans;
        const int first = (int)((u32)item - row * spans) * SPAN;
        FOR_BLOCK(k, SPAN) {
            if (first + k >= pairs) break;
            const SCALAR* from = y + ((i64)row * width + 2 * (first + k)) * 16;
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const i64 at = (2 * (i64)row + r) * 2 * width + 4 * (first + k);  // of four pixels
                Pack<int, 4> entries = {};
                if (index) entries = *(const Pack<int, 4>*)(index + at);
                alignas(16) SCALAR colors[12];
#pragma unroll
                for (int p = 0; p < 4; ++p) {
                    Pack<SCALAR, 4> pixel = *(const Pack<SCALAR, 4>*)(from + 16 * (p / 2) + 8 * r + 4 * (p % 2));
                    Pack<float, 4> scales = *(const Pack<float, 4>*)(scale + 4 * (i64)entries.at[p]);
                    Pack<float, 4> shifts = *(const Pack<float, 4>*)(shift + 4 * (i64)entries.at[p]);
#pragma unroll
                    for (int c = 0; c < 3; ++c) {
                        float value = to_float(pixel.at[c]) * scales.at[c] + shifts.at[c];
                        from_float(sigmoid(value), colors + 3 * p + c);
                    }
                }
#pragma unroll
                for (int p = 0; p < 3; ++p)
                    *(Pack<SCALAR, 4>*)(out + 3 * at + 4 * p) = ((const Pack<SCALAR, 4>*)colors)[p];
            }
        }
    }
}

constexpr int COLUMNS = VEC >= 4 ? VEC : 2;  // of a thread, 4:2:0
constexpr int TOGETHER = VEC >= 4 ? VEC : 1;  // pixels read at once

// Matrix and range of the planes' numbers.
struct Color {
    float red, green, blue;   // weights in luma
    float cb, cr;             // factors of blue - luma and red - luma
    float luma_range, black;  // black is half a level above, so that cutting off rounds
};
struct Pixel {
    float luma, cb, cr;
};

// NaN is 0.
DEVICE u8 level(float value) { return (u8)(int)fminf(fmaxf(value, 0.0f), 255.0f); }

// Products and sums are rounded as the reference's are, which the compiler would else fuse.
DEVICE Pixel converted(const SCALAR* rgb, const Color& color) {
    float red = __saturatef(to_float(rgb[0])), green = __saturatef(to_float(rgb[1]));
    float blue = __saturatef(to_float(rgb[2]));
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

// COUNT values, MOST at once or all.
template <typename T, int COUNT, int MOST = TOGETHER>
DEVICE void copy_values(const T* from, T* to) {
    const int many = VEC < 4 ? 1 : (MOST < COUNT ? MOST : COUNT);
#pragma unroll
    for (int k = 0; k < COUNT; k += many) *(Pack<T, many>*)(to + k) = *(const Pack<T, many>*)(from + k);
}

// The painted shares of luma and of chroma of a row of the table: few rows, which stay in the caches.
DEVICE Pack<float, 2> shares_of(const float* shares, int row) {
    return *(const Pack<float, 2>*)(shares + 2 * (i64)row);
}

// pairs: N * H / 2 pairs of rows of pixels.
KERNEL __launch_bounds__(256, COMPOSITE_BLOCKS)
stylize_regions_composite(const SCALAR* __restrict__ rgb, const int* __restrict__ index,
                          const float* __restrict__ shares, const u8* __restrict__ y, const u8* __restrict__ u,
                          const u8* __restrict__ v, u8* __restrict__ y_out, u8* __restrict__ u_out,
                          u8* __restrict__ v_out, i64 pairs, int width, float red, float green, float blue, float cb,
                          float cr, float luma_range, float black) {
    const Color color = {red, green, blue, cb, cr, luma_range, black};
    const int across = width / COLUMNS;
    FOR_GRID_WARPS(i, pairs * across) {
        const bool here = i < pairs * across;
        i64 pair = (u64)i / (u32)across;
        int x = (int)(i - pair * across) * COLUMNS;
        float cbs[COLUMNS + 1] = {}, crs[COLUMNS + 1] = {}, chroma_shares[COLUMNS / 2] = {};  // from column x - 1 on
        // All is asked for before anything is waited for.
        alignas(16) SCALAR colors[2][3 * COLUMNS], left[2][3];
        alignas(16) int entries[2][COLUMNS] = {};
        alignas(8) u8 lumas[2][COLUMNS], kept[2][COLUMNS / 2];
        const bool alone = here && lane_id() == 0 && x > 0;
        const i64 chroma_at = pair * (width / 2) + x / 2;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            if (!here) break;
            i64 at = (2 * pair + r) * width + x;
            copy_values<SCALAR, 3 * COLUMNS>(rgb + 3 * at, colors[r]);
            if (alone) copy_values<SCALAR, 3, 1>(rgb + 3 * (at - 1), left[r]);
            if (!shares) continue;
            if (index) copy_values<int, COLUMNS, 4>(index + at, entries[r]);
            copy_values<u8, COLUMNS>(y + at, lumas[r]);
            copy_values<u8, COLUMNS / 2>((r ? v : u) + chroma_at, kept[r]);
        }
        sync_warp();  // else the compiler looks up the first before it asks for the rest
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            if (!here) break;
            i64 at = (2 * pair + r) * width + x;
            float luma_shares[COLUMNS];
#pragma unroll
            for (int k = 0; k < COLUMNS; ++k) {
                if (!shares) break;
                Pack<float, 2> share = shares_of(shares, entries[r][k]);
                luma_shares[k] = share.at[0];
                chroma_shares[k / 2] += share.at[1];
            }
            if (alone) {
                Pixel pixel = converted(left[r], color);
                cbs[0] += pixel.cb;
                crs[0] += pixel.cr;
            }
#pragma unroll
            for (int k = 0; k < COLUMNS; ++k) {
                Pixel pixel = converted(colors[r] + 3 * k, color);
                cbs[k + 1] += pixel.cb;
                crs[k + 1] += pixel.cr;
                u8 painted = luma_level(pixel, color);
                lumas[r][k] = shares ? mixed(painted, lumas[r][k], luma_shares[k]) : painted;
            }
            copy_values<u8, COLUMNS>(lumas[r], y_out + at);
        }
        const float left_cb = warp_up(cbs[COLUMNS], 1), left_cr = warp_up(crs[COLUMNS], 1);
        if (!here) continue;
        if (x > 0 && !alone) {
            cbs[0] = left_cb;
            crs[0] = left_cr;
        }
        if (x == 0) {
            cbs[0] = cbs[1];
            crs[0] = crs[1];
        }
        alignas(4) u8 planes[2][COLUMNS / 2];
#pragma unroll
        for (int k = 0; k < COLUMNS / 2; ++k) {
            float blue_part = 0.125f * (cbs[2 * k] + cbs[2 * k + 2] + 2.0f * cbs[2 * k + 1]);
            float red_part = 0.125f * (crs[2 * k] + crs[2 * k + 2] + 2.0f * crs[2 * k + 1]);
            u8 painted_u = level(blue_part + 128.5f), painted_v = level(red_part + 128.5f);
            planes[0][k] = shares ? mixed(painted_u, kept[0][k], 0.25f * chroma_shares[k]) : painted_u;
            planes[1][k] = shares ? mixed(painted_v, kept[1][k], 0.25f * chroma_shares[k]) : painted_v;
        }
        copy_values<u8, COLUMNS / 2>(planes[0], u_out + chroma_at);
        copy_values<u8, COLUMNS / 2>(planes[1], v_out + chroma_at);
    }
}

// groups: N * H * W / TOGETHER.
KERNEL stylize_regions_composite_444(const SCALAR* __restrict__ rgb, const int* __restrict__ index,
                                     const float* __restrict__ shares, const u8* __restrict__ y,
                                     const u8* __restrict__ u, const u8* __restrict__ v, u8* __restrict__ y_out,
                                     u8* __restrict__ u_out, u8* __restrict__ v_out, i64 groups, float red, float green,
                                     float blue, float cb, float cr, float luma_range, float black) {
    const Color color = {red, green, blue, cb, cr, luma_range, black};
    FOR_GRID(i, groups) {
        i64 at = i * TOGETHER;
        alignas(16) SCALAR colors[3 * TOGETHER];
        alignas(16) int entries[TOGETHER] = {};
        alignas(8) u8 planes[3][TOGETHER];
        Pack<float, 2> share[TOGETHER];
        copy_values<SCALAR, 3 * TOGETHER>(rgb + 3 * at, colors);
        if (shares) {
            if (index) copy_values<int, TOGETHER, 4>(index + at, entries);
            copy_values<u8, TOGETHER>(y + at, planes[0]);
            copy_values<u8, TOGETHER>(u + at, planes[1]);
            copy_values<u8, TOGETHER>(v + at, planes[2]);
#pragma unroll
            for (int k = 0; k < TOGETHER; ++k) share[k] = shares_of(shares, entries[k]);
        }
#pragma unroll
        for (int k = 0; k < TOGETHER; ++k) {
            Pixel pixel = converted(colors + 3 * k, color);
            u8 painted[3] = {luma_level(pixel, color), level(pixel.cb + 128.5f), level(pixel.cr + 128.5f)};
#pragma unroll
            for (int p = 0; p < 3; ++p)
                planes[p][k] = shares ? mixed(painted[p], planes[p][k], share[k].at[p > 0]) : painted[p];
        }
        copy_values<u8, TOGETHER>(planes[0], y_out + at);
        copy_values<u8, TOGETHER>(planes[1], u_out + at);
        copy_values<u8, TOGETHER>(planes[2], v_out + at);
    }
}
