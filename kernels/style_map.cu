// From small maps of looks to what painting reads of each full-size pixel: its two strongest looks and their weight.
//
//     looks [h, w]      masks [K, h, w], blurred            enlarged, the strongest two of each pixel
//      0 0 2 2           0: 1 1 .6 0     2: 0 0 .4 1    →    (0, 2, 1.0) (0, 2, .7) (2, 0, .7) ...
//
// Nearly every pixel is far from a border, where one mask alone is not 0: each pixel of the map also carries, as bits,
// which masks reach it, and only those are blurred, enlarged and compared.
//
// Input   looks          int   [N, h, w], 0 .. K - 1, K <= 32
//         curve          int   [2 radius + 1], the blur, in parts of 1 << UNIT; radius < h and w
//         gains          float [K, K], the slope of the border between two looks, 1 or more; 0: hard
// Between rows, masks    u16   [N, K, h, w], blurred along x, then along y too, in parts of 1 << UNIT
//         row_bits, bits int   [N, h, w], bit k is set where mask k may not be 0
// Output  first, second  u8    [N, H, W], the strongest two; of equals the one with the lower number, and where all
//                              others are 0 the lowest other number (K = 1: 0)
//         weight         float [N, H, W], of first, 0.5 .. 1
//         index          int   [N, H, W], (first * K + second) * levels + level, the row of the table of blends
// Passes  blur_rows, blur_columns  a thread has one pixel of the map and all its masks
//         strongest                a thread has 4 pixels of a row: first, second and weight
//         blend_rows               likewise: index
// Source  Separable Gaussian, mirrored at the border (reflect); bilinear as in OpenCV and torch (half-pixel centres).
// Bytes   strongest: 6 written a pixel; blend_rows: 4. The map: 20 + 8 K a pixel of its own.
#include "common.cuh"

#ifndef UNIT
#define UNIT 15
#endif
#define TOGETHER 4

DEVICE int mirrored(int at, int size) {
    at = at < 0 ? -at : at;
    return at < size ? at : 2 * (size - 1) - at;
}

// lines: N * height, here and below.
KERNEL style_map_blur_rows(const int* __restrict__ looks, const int* __restrict__ curve, u16* __restrict__ rows,
                           int* __restrict__ row_bits, i64 lines, int count, int height, int width, int radius) {
    const i64 plane = (i64)height * width;
    FOR_BLOCKS(line, lines) {
        i64 frame = line / height;
        const int* from = looks + line * width;
        FOR_BLOCK(x, width) {
            u32 here = 0;
            for (int tap = -radius; tap <= radius; ++tap) {
                int look = from[mirrored(x + tap, width)];
                if ((u32)look < (u32)count) here |= 1u << look;
            }
            row_bits[line * width + x] = (int)here;
            u16* to = rows + frame * count * plane + (line - frame * height) * width + x;
            for (int k = 0; k < count; ++k, to += plane) {
                u32 sum = 0;
                if (here >> k & 1)
                    for (int tap = -radius; tap <= radius; ++tap)
                        if (from[mirrored(x + tap, width)] == k) sum += (u32)curve[tap + radius];
                *to = (u16)sum;
            }
        }
    }
}

KERNEL style_map_blur_columns(const u16* __restrict__ rows, const int* __restrict__ row_bits,
                              const int* __restrict__ curve, u16* __restrict__ masks, int* __restrict__ bits, i64 lines,
                              int count, int height, int width, int radius) {
    const i64 plane = (i64)height * width;
    FOR_BLOCKS(line, lines) {
        i64 frame = line / height;
        int y = (int)(line - frame * height);
        const int* from_bits = row_bits + frame * plane;
        FOR_BLOCK(x, width) {
            u32 here = 0;
            for (int tap = -radius; tap <= radius; ++tap)
                here |= (u32)from_bits[(i64)mirrored(y + tap, height) * width + x];
            bits[line * width + x] = (int)here;
            for (int k = 0; k < count; ++k) {
                i64 mask = (frame * count + k) * plane;
                const u16* from = rows + mask + x;
                u32 sum = 0;
                if (here >> k & 1)
                    for (int tap = -radius; tap <= radius; ++tap)
                        sum += (u32)from[(i64)mirrored(y + tap, height) * width] * (u32)curve[tap + radius];
                masks[mask + (i64)y * width + x] = (u16)((sum + (1u << (UNIT - 1))) >> UNIT);
            }
        }
    }
}

// Where a pixel lies between two of the map: at before * (1 - part) + after * part.
struct Between {
    int before, after;
    float part;
};
// Products and sums are rounded one by one, as the reference's are; the compiler would else fuse them.
DEVICE Between between(int at, int size, float scale) {
    float position = __fadd_rn(__fmul_rn((float)at + 0.5f, scale), -0.5f);
    position = position > 0.0f ? position : 0.0f;
    int before = smaller((int)position, size - 1);
    return {before, smaller(before + 1, size - 1), position - (float)before};
}
DEVICE float mixed(float before, float after, float part) {
    return __fadd_rn(before, __fmul_rn(after - before, part));
}

// The blurred masks of a frame, [K, height, width], and which of them reach each pixel.
struct Map {
    const u16* masks;
    const int* bits;
    int height, width;
};
// The strongest two masks of a pixel so far.
struct Two {
    int first, second;
    float best, next;
};

DEVICE float down(const u16* mask, int width, int x, const Between& y) {
    return mixed((float)mask[(i64)y.before * width + x], (float)mask[(i64)y.after * width + x], y.part);
}

DEVICE void offer(Two& two, int look, float value) {
    if (value > two.best) {
        two.second = two.first;
        two.next = two.best;
        two.first = look;
        two.best = value;
    } else if (value > two.next) {
        two.second = look;
        two.next = value;
    }
}

// The strongest two of TOGETHER pixels, of which the first is at column x of out_width.
DEVICE void find_two(const Map& map, const Between& y, int x, int out_width, float scale, int count, Two* two) {
    Between at[TOGETHER];
    u32 here = 0;
#pragma unroll
    for (int j = 0; j < TOGETHER; ++j) {
        at[j] = between(smaller(x + j, out_width - 1), map.width, scale);
        two[j] = {0, 0, 0.0f, 0.0f};
        for (int row = 0; row < 2; ++row) {
            const int* bits = map.bits + (i64)(row ? y.after : y.before) * map.width;
            here |= (u32)(bits[at[j].before] | bits[at[j].after]);
        }
    }
    if (here && !(here & (here - 1))) {  // one look alone, whatever its mask
#pragma unroll
        for (int j = 0; j < TOGETHER; ++j) two[j] = {lowest_bit(here), 0, 1.0f, 0.0f};
    } else {
        for (; here; here &= here - 1) {
            int look = lowest_bit(here);
            const u16* mask = map.masks + (i64)look * map.height * map.width;
#pragma unroll
            for (int j = 0; j < TOGETHER; ++j) {
                float left = down(mask, map.width, at[j].before, y), right = down(mask, map.width, at[j].after, y);
                offer(two[j], look, mixed(left, right, at[j].part));
            }
        }
    }
#pragma unroll
    for (int j = 0; j < TOGETHER; ++j)
        if (!(two[j].next > 0.0f)) two[j].second = two[j].first == 0 && count > 1;
}

// A gain is 1 or more, or 0: hard. So where there is no second look the first is alone, whatever their border.
DEVICE float weight_of(const Two& two, const float* gains, int count) {
    if (two.best >= 1.0f && !(two.next > 0.0f)) return 1.0f;
    float gain = gains[two.first * count + two.second];
    if (!(gain > 0.0f)) return 1.0f;
    float share = two.best / larger(two.best + two.next, 1e-6f);
    float weight = __fadd_rn(__fmul_rn(share - 0.5f, gain), 0.5f);
    return weight > 0.5f ? smaller(weight, 1.0f) : 0.5f;
}

// Some of TOGETHER values into a row, at once where the row's width is a multiple of it: buffers are aligned.
template <typename T>
DEVICE void write_together(T* row, int x, int width, const Pack<T, TOGETHER>& values) {
    if (width % TOGETHER == 0) {
        *(Pack<T, TOGETHER>*)(row + x) = values;
        return;
    }
#pragma unroll
    for (int j = 0; j < TOGETHER; ++j)
        if (x + j < width) row[x + j] = values.at[j];
}

DEVICE Map map_of(const u16* masks, const int* bits, i64 frame, int count, int height, int width) {
    i64 plane = (i64)height * width;
    return {masks + frame * count * plane, bits + frame * plane, height, width};
}

// The small maps of all frames, and the frames' size; y_scale, x_scale: pixels of the map a pixel of the frame.
struct Maps {
    const u16* masks;
    const int* bits;
    int count, height, width, out_height, out_width;
    float y_scale, x_scale;
};

// put(at, x, two) for each TOGETHER pixels of each line: at is the line's first pixel in the batch.
template <typename Put>
DEVICE void each_group(const Maps& maps, i64 lines, Put put) {
    FOR_BLOCKS(line, lines) {
        i64 frame = line / maps.out_height;
        Map map = map_of(maps.masks, maps.bits, frame, maps.count, maps.height, maps.width);
        Between y = between((int)(line - frame * maps.out_height), maps.height, maps.y_scale);
        FOR_BLOCK(group, (maps.out_width - 1) / TOGETHER + 1) {
            Two two[TOGETHER];
            find_two(map, y, group * TOGETHER, maps.out_width, maps.x_scale, maps.count, two);
            put(line * maps.out_width, group * TOGETHER, two);
        }
    }
}

// lines: N * out_height. y_scale, x_scale: as Maps says.
KERNEL style_map_strongest(const u16* __restrict__ masks, const int* __restrict__ bits,
                           const float* __restrict__ gains, u8* __restrict__ first, u8* __restrict__ second,
                           float* __restrict__ weight, i64 lines, int count, int height, int width, int out_height,
                           int out_width, float y_scale, float x_scale) {
    Maps maps = {masks, bits, count, height, width, out_height, out_width, y_scale, x_scale};
    each_group(maps, lines, [=](i64 begin, int x, const Two* two) {
        Pack<u8, TOGETHER> firsts, seconds;
        Pack<float, TOGETHER> weights;
#pragma unroll
        for (int j = 0; j < TOGETHER; ++j) {
            firsts.at[j] = (u8)two[j].first;
            seconds.at[j] = (u8)two[j].second;
            weights.at[j] = weight_of(two[j], gains, count);
        }
        write_together(first + begin, x, out_width, firsts);
        write_together(second + begin, x, out_width, seconds);
        write_together(weight + begin, x, out_width, weights);
    });
}

KERNEL style_map_blend_rows(const u16* __restrict__ masks, const int* __restrict__ bits,
                            const float* __restrict__ gains, int* __restrict__ index, i64 lines, int count, int height,
                            int width, int out_height, int out_width, float y_scale, float x_scale, int levels) {
    Maps maps = {masks, bits, count, height, width, out_height, out_width, y_scale, x_scale};
    each_group(maps, lines, [=](i64 begin, int x, const Two* two) {
        Pack<int, TOGETHER> rows;
#pragma unroll
        for (int j = 0; j < TOGETHER; ++j) {
            float weight = weight_of(two[j], gains, count);
            int level = (int)__fadd_rn(__fmul_rn(weight - 0.5f, 2.0f * (float)(levels - 1)), 0.5f);
            rows.at[j] = (two[j].first * count + two[j].second) * levels + smaller(level, levels - 1);
        }
        write_together(index + begin, x, out_width, rows);
    });
}
