// Area, box, centre and colour of every region; holes; ids through a table.
//
// Input   ids     int [N, H, W], 0 .. regions - 1; an id outside counts as 0
//         rgb     u8  [N, 3, H, W]
//         labels  int [N, H, W], connected_components of the pixels whose id is 0: 1 + the smallest index of their part
//         table   int [N, R]
// Output  sums    i64 [N, R, 1, 3 or 6]: area; x and y; red, green and blue. Begins as zeros
//         low     int [N, R, 2], smallest x and y of each region. Begins as INT_MAX
//         high    int [N, R, 2], 1 + the largest x and y. Begins as zeros
//         least   int [N, H, W], at a part's first pixel the smallest id beside the part; only there
//         most    int [N, H, W], the largest likewise; beyond any id where the part touches the frame's border
//         filled, found  int [N, H, W]
//
// A warp reads SPANS times 4 pixels a lane. It carries the sums of one region, that of the last span that was of one
// region alone, and writes them once; what it meets of other regions it writes run by run, one atomic a run and sum.
//
// Passes  area, shape, color   the first 1, 3 or 6 sums, and the corners with the last two
//         clear, surround      least and most begin; each pixel without an id tells its part the ids beside it
//         fill                 a part beside one id alone, and not at the border, takes it
//         look_up              each id becomes table[id]
// Source  Warp-aggregated atomics over runs (Adinets 2014).
// Bytes   4 for area and shape, 7 for color; 4 + 8 + 12 for holes (their labels aside); 8 for look_up, per pixel.
#include "common.cuh"

#ifndef SPANS
#define SPANS 8
#endif
#ifndef TILE
#define TILE 1024
#endif
#define SPAN (4 * WARP)
#define CHUNK (SPANS * SPAN)
#define INT_MOST 2147483647
#define INT_LEAST (-2147483647 - 1)

enum What { AREA, SHAPE, COLOR };

// Some pixels of one region, or none.
struct Part {
    int key, area;
    i64 x, y;
    int x0, y0, x1, y1;
    u32 red, green, blue;
};

struct Tables {
    i64* sums;
    int *low, *high;
};

DEVICE int known(int id, int regions) { return (u32)id < (u32)regions ? id : 0; }

DEVICE Part nothing(int key) { return {key, 0, 0, 0, INT_MOST, INT_MOST, 0, 0, 0, 0, 0}; }

// A run of pixels of one row.
DEVICE Part row_of(int key, int x, int y, int length) {
    i64 sum = (i64)length * x + (i64)length * (length - 1) / 2;
    return {key, length, sum, (i64)length * y, x, y, x + length, y + 1, 0, 0, 0};
}

DEVICE void include(Part* part, const Part& other) {
    part->area += other.area;
    part->x += other.x;
    part->y += other.y;
    part->x0 = smaller(part->x0, other.x0);
    part->y0 = smaller(part->y0, other.y0);
    part->x1 = larger(part->x1, other.x1);
    part->y1 = larger(part->y1, other.y1);
    part->red += other.red;
    part->green += other.green;
    part->blue += other.blue;
}

template <int WHAT>
DEVICE Part over_warp(Part part) {
    part.area = warp_sum(part.area);
    if (WHAT == AREA) return part;
    part.x = warp_sum(part.x);
    part.y = warp_sum(part.y);
    for (int step = WARP / 2; step > 0; step /= 2) {
        part.x0 = smaller(part.x0, warp_xor(part.x0, step));
        part.y0 = smaller(part.y0, warp_xor(part.y0, step));
        part.x1 = larger(part.x1, warp_xor(part.x1, step));
        part.y1 = larger(part.y1, warp_xor(part.y1, step));
    }
    if (WHAT == SHAPE) return part;
    part.red = warp_sum(part.red);
    part.green = warp_sum(part.green);
    part.blue = warp_sum(part.blue);
    return part;
}

DEVICE void add(i64* sum, i64 value) { atomicAdd((u64*)sum, (u64)value); }

// slot: frame * regions. One lane calls.
template <int WHAT>
DEVICE void put(const Part& part, Tables to, i64 slot) {
    slot += part.key;
    i64* sums = to.sums + slot * (WHAT == AREA ? 1 : WHAT == SHAPE ? 3 : 6);
    add(sums, part.area);
    if (WHAT == AREA) return;
    add(sums + 1, part.x);
    add(sums + 2, part.y);
    // Corners settle soon: most parts find them reached, and a read is cheaper than an atomic.
    int *low = to.low + slot * 2, *high = to.high + slot * 2;
    int x0 = load_fresh(low), y0 = load_fresh(low + 1), x1 = load_fresh(high), y1 = load_fresh(high + 1);
    if (part.x0 < x0) atomicMin(low, part.x0);
    if (part.y0 < y0) atomicMin(low + 1, part.y0);
    if (part.x1 > x1) atomicMax(high, part.x1);
    if (part.y1 > y1) atomicMax(high + 1, part.y1);
    if (WHAT == SHAPE) return;
    add(sums + 3, part.red);
    add(sums + 4, part.green);
    add(sums + 5, part.blue);
}

template <int WHAT>
DEVICE void put_carried(const Part& carried, Tables to, i64 slot) {
    Part all = over_warp<WHAT>(carried);
    if (lane_id() == 0 && all.area) put<WHAT>(all, to, slot);
}

DEVICE u32 sum_of_four(const u8* at) {
    Pack<u8, 4> four = *(const Pack<u8, 4>*)at;
    return (u32)four.at[0] + four.at[1] + four.at[2] + four.at[3];
}

// A span of one region in one row, or false. x, y: its first pixel. rgb: the frame's three planes.
template <int WHAT>
DEVICE bool take_span(const int* map, const u8* rgb, int at, int x, int y, int pixels, int width, int regions,
                      Part* carried, Tables to, i64 slot) {
    int mine = at + 4 * lane_id();
    Pack<int, 4> four = *(const Pack<int, 4>*)(map + mine);
    // Asked for before it is known whether they are needed: all four reads are under way at once.
    u32 red = WHAT == COLOR ? sum_of_four(rgb + mine) : 0;
    u32 green = WHAT == COLOR ? sum_of_four(rgb + (i64)pixels + mine) : 0;
    u32 blue = WHAT == COLOR ? sum_of_four(rgb + 2 * (i64)pixels + mine) : 0;
    int id = warp_from(four.at[0], 0);
    bool same = four.at[0] == id && four.at[1] == id && four.at[2] == id && four.at[3] == id;
    if (warp_ballot(same) != ALL_LANES || (WHAT != AREA && width - x < SPAN)) return false;
    int key = known(id, regions);
    if (key != carried->key) {
        put_carried<WHAT>(*carried, to, slot);
        *carried = nothing(key);
    }
    Part part = row_of(key, x + 4 * lane_id(), y, 4);
    part.red = red;
    part.green = green;
    part.blue = blue;
    include(carried, part);
    return true;
}

// A span of anything, also one cut short by the chunk's end.
template <int WHAT>
DEVICE void take_runs(const int* map, const u8* rgb, int at, int end, int x, int y, int pixels, int width, int regions,
                      Part* carried, Tables to, i64 slot) {
#pragma unroll 1
    for (int step = 0; step < SPAN && at + step < end; step += WARP) {
        int local = at + step + lane_id(), column = x + step + lane_id(), row = y;
        bool inside = local < end;
        int key = inside ? known(map[local], regions) : -1;
        if (WHAT != AREA && column >= width) {
            row += column / width;
            column %= width;
        }
        Run run = warp_run(key, WHAT != AREA && column == 0);
        Part part = row_of(key, column, row, run.length);
        if (WHAT == COLOR) {
            // A warp's sums of one colour are at most 32 * 255, so that two fit a word.
            u32 two = inside ? rgb[local] | (u32)rgb[(i64)pixels + local] << 16 : 0;
            u32 one = inside ? rgb[2 * (i64)pixels + local] : 0;
            u32 until_two = warp_prefix_sum(two), until_one = warp_prefix_sum(one);
            int last = run.first + run.length - 1;
            two += warp_from(until_two, last) - until_two;
            one += warp_from(until_one, last) - until_one;
            part.red = two & 0xffffu;
            part.green = two >> 16;
            part.blue = one;
        }
        if (!inside || lane_id() != run.first) continue;
        if (key == carried->key)
            include(carried, part);
        else
            put<WHAT>(part, to, slot);
    }
}

template <int WHAT>
DEVICE void measure(const int* ids, const u8* rgb, Tables to, i64 count, int height, int width, int regions) {
    int pixels = height * width, chunks = (pixels - 1) / CHUNK + 1;
    FOR_GRID_WARPS(i, count * chunks * WARP) {
        i64 frame = i / WARP / chunks, slot = frame * regions;
        int begin = (int)(i / WARP % chunks) * CHUNK, end = smaller(begin + CHUNK, pixels);
        const int* map = ids + frame * pixels;
        const u8* colors = WHAT == COLOR ? rgb + frame * 3 * pixels : rgb;
        bool wide = (u64)map % sizeof(Pack<int, 4>) == 0;
        if (WHAT == COLOR) wide = wide && pixels % 4 == 0 && (u64)colors % 4 == 0;
        int x = begin % width, y = begin / width;
        Part carried = nothing(known(map[begin], regions));
        for (int at = begin; at < end; at += SPAN) {
            bool taken = wide && end - at >= SPAN &&
                         take_span<WHAT>(map, colors, at, x, y, pixels, width, regions, &carried, to, slot);
            if (!taken) take_runs<WHAT>(map, colors, at, end, x, y, pixels, width, regions, &carried, to, slot);
            x += SPAN;
            if (x < width) continue;
            y += x / width;
            x %= width;
        }
        put_carried<WHAT>(carried, to, slot);
    }
}

KERNEL region_stats_area(const int* __restrict__ ids, i64* __restrict__ sums, i64 count, int height, int width,
                         int regions) {
    measure<AREA>(ids, nullptr, {sums, nullptr, nullptr}, count, height, width, regions);
}

KERNEL region_stats_shape(const int* __restrict__ ids, i64* __restrict__ sums, int* __restrict__ low,
                          int* __restrict__ high, i64 count, int height, int width, int regions) {
    measure<SHAPE>(ids, nullptr, {sums, low, high}, count, height, width, regions);
}

KERNEL region_stats_color(const int* __restrict__ ids, const u8* __restrict__ rgb, i64* __restrict__ sums,
                          int* __restrict__ low, int* __restrict__ high, i64 count, int height, int width,
                          int regions) {
    measure<COLOR>(ids, rgb, {sums, low, high}, count, height, width, regions);
}

// A block's share of a batch of maps: TILE pixels of one frame, so that no pixel needs a 64-bit division.
struct Tile {
    i64 frame, first;  // first: the tile's first pixel in the batch
    int begin, pixels;  // begin: in the frame
};

DEVICE i64 tiles(i64 count, int pixels) { return count * ((pixels - 1) / TILE + 1); }

DEVICE Tile tile_of(i64 item, int pixels) {
    int each = (pixels - 1) / TILE + 1, begin = (int)(item % each) * TILE;
    return {item / each, item / each * pixels + begin, begin, smaller(TILE, pixels - begin)};
}

KERNEL region_stats_clear(const int* __restrict__ labels, int* __restrict__ least, int* __restrict__ most, i64 count,
                          int pixels) {
    FOR_BLOCKS(item, tiles(count, pixels)) {
        Tile tile = tile_of(item, pixels);
        FOR_BLOCK(k, tile.pixels) {
            if (labels[tile.first + k] != tile.begin + k + 1) continue;
            least[tile.first + k] = INT_MOST;
            most[tile.first + k] = INT_LEAST;
        }
    }
}

// The smallest and largest id beside a pixel without one, or beyond both at the border. False if there is none.
DEVICE bool ids_beside(const int* here, int x, int y, int height, int width, int* low, int* high) {
    *low = INT_LEAST;
    *high = INT_MOST;
    if (x == 0 || y == 0 || x == width - 1 || y == height - 1) return true;
    *low = INT_MOST;
    *high = INT_LEAST;
    int beside[4] = {here[-1], here[1], here[-width], here[width]};
    for (int k = 0; k < 4; ++k) {
        if (beside[k] == 0) continue;
        *low = smaller(*low, beside[k]);
        *high = larger(*high, beside[k]);
    }
    return *low <= *high;
}

KERNEL region_stats_surround(const int* __restrict__ ids, const int* __restrict__ labels, int* __restrict__ least,
                             int* __restrict__ most, i64 count, int height, int width) {
    FOR_BLOCKS(item, tiles(count, height * width)) {
        Tile tile = tile_of(item, height * width);
        FOR_BLOCK(k, tile.pixels) {
            const int* here = ids + tile.first + k;
            int local = tile.begin + k, low, high;
            if (*here != 0 || !ids_beside(here, local % width, local / width, height, width, &low, &high)) continue;
            i64 part = tile.first - tile.begin + labels[tile.first + k] - 1;
            if (low < load_fresh(least + part)) atomicMin(least + part, low);
            if (high > load_fresh(most + part)) atomicMax(most + part, high);
        }
    }
}

KERNEL region_stats_fill(const int* __restrict__ ids, const int* __restrict__ labels, const int* __restrict__ least,
                         const int* __restrict__ most, int* __restrict__ filled, i64 count, int pixels) {
    FOR_BLOCKS(item, tiles(count, pixels)) {
        Tile tile = tile_of(item, pixels);
        FOR_BLOCK(k, tile.pixels) {
            int id = ids[tile.first + k];
            if (id == 0) {
                i64 part = tile.first - tile.begin + labels[tile.first + k] - 1;
                int only = least[part];
                if (only == most[part]) id = only;
            }
            filled[tile.first + k] = id;
        }
    }
}

KERNEL region_stats_look_up(const int* __restrict__ ids, const int* __restrict__ table, int* __restrict__ found,
                            i64 count, int pixels, int regions) {
    FOR_BLOCKS(item, tiles(count, pixels)) {
        Tile tile = tile_of(item, pixels);
        const int* row = table + tile.frame * regions;
        FOR_BLOCK(k, tile.pixels) found[tile.first + k] = row[known(ids[tile.first + k], regions)];
    }
}
