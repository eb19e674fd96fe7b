// Pixels that each label of one map shares with each label of another: contingency tables.
//
// Input   labels  int [N, H, W], 0 .. rows - 1; a label outside counts as 0
//         first   int [H, W], the map beside frame 0, 0 .. columns - 1 likewise
//         others  int [N - 1, H, W], the maps beside frames 1, 2 ...: for a batch and its frames before, its own memory
// Output  table   i64 [N, rows, columns]. Begins as zeros
//
// A warp reads SPANS times 4 pixels a lane of both maps. It carries the count of one pair, that of the last span that
// was of one pair alone, and adds to it wherever it meets it; other pairs it counts run by run, one atomic a run.
//
// Passes  count_small  where rows * columns <= SLOTS: a block counts TILE pixels in shared memory, then adds them
//         count_large  else: atomics on the table itself, most of them on many different counts
// Source  Warp-aggregated atomics over runs (Adinets 2014); privatised histograms (Podlozhnyuk 2007).
// Bytes   8 per pixel, and 8 per count of the table.
#include "common.cuh"

#ifndef SPANS
#define SPANS 8
#endif
#ifndef TILE
#define TILE 8192
#endif
#ifndef SLOTS
#define SLOTS 4096
#endif
#define SPAN (4 * WARP)
#define CHUNK (SPANS * SPAN)

// Two maps of a frame.
struct Pair {
    const int *label, *other;
    int rows, columns;
    bool wide;  // both may be read four pixels at once
};

DEVICE Pair pair_of(const int* labels, const int* first, const int* others, i64 frame, i64 pixels, int rows,
                    int columns) {
    const int* label = labels + frame * pixels;
    const int* other = frame == 0 ? first : others + (frame - 1) * pixels;
    bool wide = (u64)label % sizeof(Pack<int, 4>) == 0 && (u64)other % sizeof(Pack<int, 4>) == 0;
    return {label, other, rows, columns, wide};
}

DEVICE int slot_of(const Pair& pair, int label, int other) {
    int row = (u32)label < (u32)pair.rows ? label : 0, column = (u32)other < (u32)pair.columns ? other : 0;
    return row * pair.columns + column;
}

DEVICE void add(int* counts, int slot, int found) { atomicAdd(counts + slot, found); }
DEVICE void add(i64* counts, int slot, int found) { atomicAdd((u64*)(counts + slot), (u64)found); }

DEVICE bool is_all(const Pack<int, 4>& four, int value) {
    return four.at[0] == value && four.at[1] == value && four.at[2] == value && four.at[3] == value;
}

// The slot of a span that is of one pair alone, or -1.
DEVICE int slot_of_span(const Pair& pair, int at) {
    Pack<int, 4> label = *(const Pack<int, 4>*)(pair.label + at + 4 * lane_id());
    Pack<int, 4> other = *(const Pack<int, 4>*)(pair.other + at + 4 * lane_id());
    int one_label = warp_from(label.at[0], 0), one_other = warp_from(other.at[0], 0);
    bool same = is_all(label, one_label) && is_all(other, one_other);
    return warp_ballot(same) == ALL_LANES ? slot_of(pair, one_label, one_other) : -1;
}

// One warp's share: the pixels begin .. end - 1, at most CHUNK. Counts is int in shared or i64 in global memory.
template <typename T>
DEVICE void count_chunk(const Pair& pair, int begin, int end, T* counts) {
    int slot = slot_of(pair, pair.label[begin], pair.other[begin]), carried = 0;
    for (int at = begin; at < end; at += SPAN) {
        int whole = pair.wide && end - at >= SPAN ? slot_of_span(pair, at) : -1;
        if (whole >= 0) {
            if (whole != slot && carried && lane_id() == 0) add(counts, slot, carried);
            carried = (whole == slot ? carried : 0) + SPAN;
            slot = whole;
            continue;
        }
        for (int step = 0; step < SPAN && at + step < end; step += WARP) {
            int local = at + step + lane_id();
            int mine = local < end ? slot_of(pair, pair.label[local], pair.other[local]) : -1;
            Run run = warp_run(mine, false);
            carried += count_bits(warp_ballot(mine == slot));
            if (mine >= 0 && mine != slot && lane_id() == run.first) add(counts, mine, run.length);
        }
    }
    if (carried && lane_id() == 0) add(counts, slot, carried);
}

KERNEL label_overlap_count_small(const int* __restrict__ labels, const int* __restrict__ first,
                                 const int* __restrict__ others, i64* __restrict__ table, i64 count, int pixels,
                                 int rows, int columns) {
    __shared__ int counts[SLOTS];
    int tiles = (pixels - 1) / TILE + 1, slots = rows * columns, warps = blockDim.x / WARP;
    FOR_BLOCK(slot, slots) counts[slot] = 0;
    FOR_BLOCKS(item, count * tiles) {
        sync_block();
        i64 frame = item / tiles;
        Pair pair = pair_of(labels, first, others, frame, pixels, rows, columns);
        int begin = (int)(item % tiles) * TILE, end = smaller(begin + TILE, pixels);
        for (int at = begin + (int)(threadIdx.x / WARP) * CHUNK; at < end; at += warps * CHUNK)
            count_chunk(pair, at, smaller(at + CHUNK, end), counts);
        sync_block();
        FOR_BLOCK(slot, slots) {
            if (counts[slot] == 0) continue;
            add(table + frame * slots, slot, counts[slot]);
            counts[slot] = 0;
        }
    }
}

KERNEL label_overlap_count_large(const int* __restrict__ labels, const int* __restrict__ first,
                                 const int* __restrict__ others, i64* __restrict__ table, i64 count, int pixels,
                                 int rows, int columns) {
    int chunks = (pixels - 1) / CHUNK + 1;
    FOR_GRID_WARPS(i, count * chunks * WARP) {
        i64 frame = i / WARP / chunks;
        Pair pair = pair_of(labels, first, others, frame, pixels, rows, columns);
        int begin = (int)(i / WARP % chunks) * CHUNK;
        count_chunk(pair, begin, smaller(begin + CHUNK, pixels), table + frame * rows * columns);
    }
}
