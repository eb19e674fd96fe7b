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
// A thread goes down 4 columns of a tile, 16 bytes a row, and carries the sums of the two regions it met last: regions
// are taller than a row, so that it seldom meets a third. What it carried it adds to the block's own table in shared
// memory, and the block adds that to the batch's; where a table is too large for that, threads add to the batch's.
//
// Passes  area, shape, color   the first 1, 3 or 6 sums, and the corners with the last two
//         clear, surround      least and most begin; each pixel without an id tells its part the ids beside it
//         fill                 a part beside one id alone, and not at the border, takes it
//         look_up              each id becomes table[id]
// Source  Warp-aggregated atomics (Adinets 2014); privatised histograms (Podlozhnyuk 2007).
// Bytes   4 for area and shape, 7 for color; 4 + 8 + 12 for holes (their labels aside); 8 for look_up, per pixel.
#include "common.cuh"

#ifndef TILE
#define TILE 4096  // pixels of a block that looks up or fills
#endif
#ifndef TILE_ROWS
#define TILE_ROWS 16  // of a block that measures
#endif
#ifndef TILE_COLUMNS
#define TILE_COLUMNS 1024
#endif
#ifndef AT_ONCE
#define AT_ONCE 4  // rows that a thread asks for before it looks at the first
#endif
#ifndef POOL
#define POOL 4096  // numbers in a block's own table
#endif
#define INT_MOST 2147483647
#define INT_LEAST (-2147483647 - 1)

enum What { AREA, SHAPE, COLOR };

// Some pixels of one region, or none; x and y from the tile's first pixel, so that the tile's sums fit an int.
struct Part {
    int key, area, x, y, x0, y0, x1, y1, red, green, blue;
};

struct Tables {
    i64* sums;
    int *low, *high;
};

// Where parts are put: a block's own table, a row for each field of a part, or the batch's.
struct Own {
    int* fields;
    int regions;
};
struct Batch {
    Tables tables;
    i64 slot;  // frame * regions
    int left, top;
};

DEVICE int fields_of(int what) { return what == AREA ? 1 : what == SHAPE ? 7 : 10; }

DEVICE int known(int id, int regions) { return (u32)id < (u32)regions ? id : 0; }

DEVICE Part nothing(int key) { return {key, 0, 0, 0, INT_MOST, INT_MOST, 0, 0, 0, 0, 0}; }

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

// Corners settle soon: most parts find them reached, and a read is cheaper than an atomic.
DEVICE void lower(int* least, int value) {
    if (value < load_fresh(least)) atomicMin(least, value);
}
DEVICE void raise(int* most, int value) {
    if (value > load_fresh(most)) atomicMax(most, value);
}

template <int WHAT>
DEVICE void put(const Part& part, const Own& to) {
    int* field = to.fields + part.key;
    atomicAdd(field, part.area);
    if (WHAT == AREA) return;
    atomicAdd(field + to.regions, part.x);
    atomicAdd(field + 2 * to.regions, part.y);
    lower(field + 3 * to.regions, part.x0);
    lower(field + 4 * to.regions, part.y0);
    raise(field + 5 * to.regions, part.x1);
    raise(field + 6 * to.regions, part.y1);
    if (WHAT == SHAPE) return;
    atomicAdd(field + 7 * to.regions, part.red);
    atomicAdd(field + 8 * to.regions, part.green);
    atomicAdd(field + 9 * to.regions, part.blue);
}

DEVICE void add(i64* sum, i64 value) { atomicAdd((u64*)sum, (u64)value); }

template <int WHAT>
DEVICE void put(const Part& part, const Batch& to) {
    i64 slot = to.slot + part.key;
    i64* sums = to.tables.sums + slot * (WHAT == AREA ? 1 : WHAT == SHAPE ? 3 : 6);
    add(sums, part.area);
    if (WHAT == AREA) return;
    add(sums + 1, part.x + (i64)part.area * to.left);
    add(sums + 2, part.y + (i64)part.area * to.top);
    int *low = to.tables.low + slot * 2, *high = to.tables.high + slot * 2;
    lower(low, to.left + part.x0);
    lower(low + 1, to.top + part.y0);
    raise(high, to.left + part.x1);
    raise(high + 1, to.top + part.y1);
    if (WHAT == SHAPE) return;
    add(sums + 3, part.red);
    add(sums + 4, part.green);
    add(sums + 5, part.blue);
}

// The parts of a warp's lanes, those of the first two regions as one each. All lanes must call.
template <int WHAT, typename TO>
DEVICE void put_warp(Part part, const TO& to) {
#pragma unroll 1
    for (int round = 0; round < 2; ++round) {
        u32 full = warp_ballot(part.area > 0);
        if (full == 0) return;
        int leader = lowest_bit(full), key = warp_from(part.key, leader);
        bool same = part.area > 0 && part.key == key;
        Part all = over_warp<WHAT>(same ? part : nothing(key));
        if (lane_id() == leader) put<WHAT>(all, to);
        if (same) part.area = 0;
    }
    if (part.area > 0) put<WHAT>(part, to);
}

// Four pixels of a row: their ids, and a byte of each colour of each.
struct Four {
    Pack<int, 4> id;
    u32 red, green, blue;
};

DEVICE u32 bytes_of(const u8* at, int count, bool wide) {
    if (wide) return *(const u32*)at;
    u32 bytes = 0;
#pragma unroll 1
    for (int j = 0; j < count; ++j) bytes |= (u32)at[j] << 8 * j;
    return bytes;
}

// Of count pixels; the rest stay 0.
template <int WHAT>
DEVICE Four four_at(const int* map, const u8* rgb, int at, int count, i64 pixels, bool wide) {
    Four four = {{{0, 0, 0, 0}}, 0, 0, 0};
    if (wide)
        four.id = *(const Pack<int, 4>*)(map + at);
    else
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (j < count) four.id.at[j] = map[at + j];
    if (WHAT != COLOR) return four;
    four.red = bytes_of(rgb + at, count, wide);
    four.green = bytes_of(rgb + pixels + at, count, wide);
    four.blue = bytes_of(rgb + 2 * pixels + at, count, wide);
    return four;
}

DEVICE int sum_of(u32 bytes) {
    u32 two = (bytes & 0x00ff00ffu) + (bytes >> 8 & 0x00ff00ffu);
    return (int)((two & 0xffffu) + (two >> 16));
}

// Those of four pixels of row y that mask's bits say, at least one; x: the first of the four.
template <int WHAT>
DEVICE Part part_of(int key, u32 mask, const Four& four, int x, int y) {
    int n = count_bits(mask), beyond = count_bits(mask & 10u) + 2 * count_bits(mask & 12u);
    Part part = nothing(key);
    part.area = n;
    part.x = n * x + beyond, part.y = n * y;
    part.x0 = x + lowest_bit(mask), part.x1 = x + highest_bit(mask) + 1;
    part.y0 = y, part.y1 = y + 1;
    if (WHAT != COLOR) return part;
    u32 bytes = (mask * 0x00204081u & 0x01010101u) * 255u;
    part.red = sum_of(four.red & bytes);
    part.green = sum_of(four.green & bytes);
    part.blue = sum_of(four.blue & bytes);
    return part;
}

// Counts rows of four pixels into what the thread carries, if they all are of the region it met last.
template <int WHAT>
DEVICE bool take_all(const Four (&fours)[AT_ONCE], int x, int y, int regions, Part* last) {
    int id = fours[0].id.at[0], apart = 0;
#pragma unroll
    for (int j = 0; j < AT_ONCE; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) apart |= fours[j].id.at[i] ^ id;
    if (apart || known(id, regions) != last->key) return false;
#pragma unroll
    for (int j = 0; j < AT_ONCE; ++j) include(last, part_of<WHAT>(last->key, 15u, fours[j], x, y + j));
    return true;
}

DEVICE void swap(Part* one, Part* other) {
    Part swapped = *one;
    *one = *other;
    *other = swapped;
}

// Counts four pixels of a row, or the first `count`. other: the region met before last.
template <int WHAT, typename TO>
DEVICE void take(const Four& four, int count, int x, int y, int regions, Part* last, Part* other, const TO& to) {
    int a = known(four.id.at[0], regions), b = known(four.id.at[1], regions);
    int c = known(four.id.at[2], regions), d = known(four.id.at[3], regions);
    auto of = [&](int key) {
        return (u32)(a == key) | (u32)(b == key) << 1 | (u32)(c == key) << 2 | (u32)(d == key) << 3;
    };
    u32 rest = (1u << count) - 1u, of_last = rest & of(last->key), of_other = rest & of(other->key) & ~of_last;
    if (of_last) include(last, part_of<WHAT>(last->key, of_last, four, x, y));
    if (of_other) include(other, part_of<WHAT>(other->key, of_other, four, x, y));
    if (of_other && !of_last) swap(last, other);
    rest &= ~(of_last | of_other);
#pragma unroll 1
    while (rest) {
        int bit = lowest_bit(rest), key = bit < 2 ? (bit == 0 ? a : b) : (bit == 2 ? c : d);
        if (other->area) put<WHAT>(*other, to);
        u32 mask = rest & of(key);
        *other = *last;
        *last = part_of<WHAT>(key, mask, four, x, y);
        rest &= ~mask;
    }
}

// at: the tile's first pixel. rows, columns: of the tile, as far as the frame goes.
template <int WHAT, typename TO>
DEVICE void measure_tile(const int* map, const u8* rgb, int at, int rows, int columns, int width, i64 pixels, bool wide,
                         int regions, const TO& to) {
    FOR_BLOCK(k, TILE_COLUMNS / 4) {
        int x = 4 * k, count = larger(0, smaller(4, columns - x));
        Part last = nothing(0), other = nothing(0);
        for (int y = 0; y < rows && count; y += AT_ONCE) {
            Four fours[AT_ONCE];
            int there = smaller(AT_ONCE, rows - y);
#pragma unroll
            for (int j = 0; j < AT_ONCE; ++j) {
                int first = at + (y + smaller(j, there - 1)) * width + x;
                fours[j] = four_at<WHAT>(map, rgb, first, count, pixels, wide);
            }
            if (there == AT_ONCE && count == 4 && take_all<WHAT>(fours, x, y, regions, &last)) continue;
#pragma unroll 1
            for (int j = 0; j < there; ++j) {
                take<WHAT>(fours[0], count, x, y + j, regions, &last, &other, to);
#pragma unroll
                for (int i = 1; i < AT_ONCE; ++i) fours[i - 1] = fours[i];  // so that all stay in registers
            }
        }
        put_warp<WHAT>(last, to);
        put_warp<WHAT>(other, to);
    }
}

template <int WHAT>
DEVICE void clear_own(const Own& own) {
    FOR_BLOCK(key, own.regions) {
        for (int field = 0; field < fields_of(WHAT); ++field)
            own.fields[field * own.regions + key] = field == 3 || field == 4 ? INT_MOST : 0;
    }
}

template <int WHAT>
DEVICE void put_own(const Own& own, const Batch& to) {
    FOR_BLOCK(key, own.regions) {
        const int* field = own.fields + key;
        int n = own.regions;
        Part part = nothing(key);
        part.area = field[0];
        if (part.area == 0) continue;
        if (WHAT != AREA) {
            part.x = field[n], part.y = field[2 * n];
            part.x0 = field[3 * n], part.y0 = field[4 * n], part.x1 = field[5 * n], part.y1 = field[6 * n];
        }
        if (WHAT == COLOR) part.red = field[7 * n], part.green = field[8 * n], part.blue = field[9 * n];
        put<WHAT>(part, to);
    }
}

template <int WHAT>
DEVICE void measure(const int* ids, const u8* rgb, Tables tables, i64 count, int height, int width, int regions) {
    __shared__ int pool[POOL];
    i64 pixels = (i64)height * width;
    int across = (width - 1) / TILE_COLUMNS + 1, tiles = across * ((height - 1) / TILE_ROWS + 1);
    bool is_small = regions <= POOL / fields_of(WHAT);
    bool wide = width % 4 == 0 && (u64)ids % sizeof(Pack<int, 4>) == 0 && (WHAT != COLOR || (u64)rgb % 4 == 0);
    Own own = {pool, regions};
    FOR_BLOCKS(item, count * tiles) {
        i64 frame = item / tiles;
        int tile = (int)(item % tiles), top = tile / across * TILE_ROWS, left = tile % across * TILE_COLUMNS;
        int rows = smaller(TILE_ROWS, height - top), columns = smaller(TILE_COLUMNS, width - left);
        int at = top * width + left;
        const int* map = ids + frame * pixels;
        const u8* colors = WHAT == COLOR ? rgb + frame * 3 * pixels : rgb;
        Batch batch = {tables, frame * regions, left, top};
        if (!is_small) {
            measure_tile<WHAT>(map, colors, at, rows, columns, width, pixels, wide, regions, batch);
            continue;
        }
        clear_own<WHAT>(own);  // each number by the thread that put it last
        sync_block();
        measure_tile<WHAT>(map, colors, at, rows, columns, width, pixels, wide, regions, own);
        sync_block();
        put_own<WHAT>(own, batch);
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

// From pixel k of a tile on, four or as many as there are. wide: they may be read and written at once.
DEVICE Pack<int, 4> read_four(const int* map, const Tile& tile, int k, bool wide) {
    if (wide) return *(const Pack<int, 4>*)(map + tile.first + k);
    Pack<int, 4> four = {{0, 0, 0, 0}};
#pragma unroll
    for (int j = 0; j < 4; ++j)
        if (k + j < tile.pixels) four.at[j] = map[tile.first + k + j];
    return four;
}

DEVICE void write_four(int* map, const Tile& tile, int k, bool wide, const Pack<int, 4>& four) {
    if (wide) {
        *(Pack<int, 4>*)(map + tile.first + k) = four;
        return;
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
        if (k + j < tile.pixels) map[tile.first + k + j] = four.at[j];
}

DEVICE bool is_wide(const int* from, const int* to, int pixels) {
    return pixels % 4 == 0 && (u64)from % sizeof(Pack<int, 4>) == 0 && (u64)to % sizeof(Pack<int, 4>) == 0;
}

KERNEL region_stats_fill(const int* __restrict__ ids, const int* __restrict__ labels, const int* __restrict__ least,
                         const int* __restrict__ most, int* __restrict__ filled, i64 count, int pixels) {
    bool wide = is_wide(ids, filled, pixels);
    FOR_BLOCKS(item, tiles(count, pixels)) {
        Tile tile = tile_of(item, pixels);
        FOR_BLOCK(quad, (tile.pixels + 3) / 4) {
            Pack<int, 4> four = read_four(ids, tile, 4 * quad, wide);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                if (four.at[j] || 4 * quad + j >= tile.pixels) continue;
                i64 part = tile.first - tile.begin + labels[tile.first + 4 * quad + j] - 1;
                int only = least[part];
                if (only == most[part]) four.at[j] = only;
            }
            write_four(filled, tile, 4 * quad, wide, four);
        }
    }
}

KERNEL region_stats_look_up(const int* __restrict__ ids, const int* __restrict__ table, int* __restrict__ found,
                            i64 count, int pixels, int regions) {
    bool wide = is_wide(ids, found, pixels);
    FOR_BLOCKS(item, tiles(count, pixels)) {
        Tile tile = tile_of(item, pixels);
        const int* row = table + tile.frame * regions;
        FOR_BLOCK(quad, (tile.pixels + 3) / 4) {
            Pack<int, 4> four = read_four(ids, tile, 4 * quad, wide);
#pragma unroll
            for (int j = 0; j < 4; ++j) four.at[j] = row[known(four.at[j], regions)];
            write_four(found, tile, 4 * quad, wide, four);
        }
    }
}
