// Planes shrunk to a smaller size: each pixel is the rounded mean of its cell, which may cut pixels.
//
//     8 px      | a | b | c | d | e | f | g | h |      cell 1 of 3: c's second third, d, e and f's first third
//     3 cells   |    0     |    1     |    2    |
//
// Counted in parts of 1 / height x 1 / width of a pixel, all in whole numbers: exact, whatever the sizes.
//
// Input   planes  u8 [N, H, W]
// Output  small   u8 [N, height, width], height <= H, width <= W, all below 32768
// Passes  shrink  a thread has a pixel of small: neighbours read neighbouring pixels, a row of their cells at a time
// Source  Area mean, as OpenCV's INTER_AREA.
// Bytes   1 read a pixel, 1 written a pixel of small.
#include "common.cuh"

// Where a cell begins and ends, in parts of a pixel, and its pixels first .. last.
struct Cell {
    int begin, end, first, last;
};
DEVICE Cell cell_of(int at, int small, int full) {
    int begin = at * full, end = begin + full;
    return {begin, end, begin / small, (end - 1) / small};
}
DEVICE u32 share_of(const Cell& cell, int pixel, int small) {
    return (u32)(smaller((pixel + 1) * small, cell.end) - larger(pixel * small, cell.begin));
}

// lines: N * height.
KERNEL resize_shrink(const u8* __restrict__ planes, u8* __restrict__ small, i64 lines, int full_height, int full_width,
                     int height, int width) {
    const u64 parts = (u64)full_height * (u64)full_width;
    FOR_BLOCKS(line, lines) {
        i64 frame = line / height;
        Cell rows = cell_of((int)(line - frame * height), height, full_height);
        FOR_BLOCK(x, width) {
            Cell columns = cell_of(x, width, full_width);
            u64 sum = parts / 2;
            for (int y = rows.first; y <= rows.last; ++y) {
                const u8* from = planes + (frame * full_height + y) * full_width;
                u32 row = 0;
                for (int at = columns.first; at <= columns.last; ++at) row += from[at] * share_of(columns, at, width);
                sum += (u64)row * share_of(rows, y, height);
            }
            small[line * width + x] = (u8)(sum / parts);
        }
    }
}
