// Connected regions of masks, and dense ids for maps of labels.
//
// Input   mask    u8  [N, H, W], non-zero is foreground
// Output  labels  int [N, H, W], 0 or 1 + the smallest row-major index (within the frame) of the region
//         ids     int [N, H, W], 0 or 1, 2, 3 ... in raster order of the regions' first pixels
//         bits    int [N, H, ceil(W / 32)], 32 pixels of a row, bit i the i-th; 0 beyond the row's end
//         parents int [N, RUNS, words], words = H * ceil(W / 32): a forest, one tree a region
//         roots   int [N, H] or [N, CHUNKS], how many regions begin in each row, or chunk of a label map
//
// The nodes of the forest are the runs of set bits within a word: run r of word w is node RUNS * w + r, so that nodes
// are ordered as their first pixels are, and its parent is at parents[r][w], so that the few that there are lie close
// together. A root is its own parent. Parents are always smaller than their children, so a root is the first run of its
// region, whatever the order of the threads. From flatten on a root holds minus its region's number.
//
// Passes  tile     a block packs TILE_ROWS rows of TILE_WORDS words and joins their runs in shared memory
//         merge    runs are joined across the tiles' borders
//         flatten  each run points at its root; a root takes its label; roots are counted by row
//         rank     (for ids, after a cumulative sum of roots over the rows) each root takes its id
//         write    each pixel takes its root's number
//         count_roots, rank_roots, number  ids of a map of labels: as flatten, rank and write, of pixels
// Source  Oliveira and Lotufo 2010 (forest of indices); Playne and Hawick 2018 (tiles first; which neighbours need no
//         join); He, Chao and Suzuki 2008 (runs).
// Bytes   per pixel: 1 and 4 for labels or for ids of a mask, and about 1 for bits and runs; 16 for ids of labels.
#include "common.cuh"

#ifndef CHUNK
#define CHUNK 1024
#endif
#ifndef TILE_ROWS
#define TILE_ROWS 16
#endif
#ifndef TILE_WORDS
#define TILE_WORDS 32
#endif
#ifndef QUADS
#define QUADS 2048  // of four pixels, that a block writes
#endif
#define WORDS (TILE_ROWS * TILE_WORDS)
#define RUNS 16  // at most, in a word

DEVICE int words_of(int pixels) { return (pixels - 1) / 32 + 1; }

DEVICE u32 starts_of(u32 word) { return word & ~(word << 1); }

DEVICE int runs_of(u32 word) { return count_bits(starts_of(word)); }

// The node of a set bit, and of the last run of a word.
DEVICE int node_of(int at, u32 word, int bit) {
    return at * RUNS + count_bits(starts_of(word) & lanes_up_to(bit)) - 1;
}
DEVICE int last_node(int at, u32 word) { return at * RUNS + runs_of(word) - 1; }

struct Forest {
    int* parents;
    int words;
};

DEVICE int* parent_of(Forest forest, int node) {
    return forest.parents + ((u32)node % RUNS * forest.words + (u32)node / RUNS);
}

// Halves the path on its way. A join of the same node may be lost to that write, but not its effect: a node that is no
// root when it is joined has its old tree joined as well (join_nodes), and the write keeps it in that tree.
DEVICE int root_of(Forest forest, int node) {
    int parent = load_fresh(parent_of(forest, node));
    while (parent >= 0 && parent != node) {
        int above = load_fresh(parent_of(forest, parent));
        if (above < 0 || above == parent) return parent;
        *(volatile int*)parent_of(forest, node) = above;
        node = above;
        parent = load_fresh(parent_of(forest, node));
    }
    return node;
}

// Makes one tree of the trees of two nodes.
DEVICE void join_nodes(Forest forest, int a, int b) {
    for (;;) {
        a = root_of(forest, a);
        b = root_of(forest, b);
        if (a == b) return;
        int child = larger(a, b), parent = smaller(a, b);
        // child was a root a moment ago: if not any more, what it hung under must join the other.
        a = atomicMin(parent_of(forest, child), parent);
        b = parent;
        if (a == child) return;
    }
}

// A word and those beside it; 0 where there is none.
struct Around {
    u32 word, left, up, up_left, up_right;
};

// Joins the runs of a word, of index here, with those of the row above, of index up.
DEVICE void join_above(Forest forest, const Around& a, int here, int up, int connectivity) {
    u32 left = a.word << 1 | a.left >> 31, up_left = a.up << 1 | a.up_left >> 31;
    u32 up_right = a.up >> 1 | a.up_right << 31;
    u32 above = 0, before = 0, after = 0;
    if (connectivity == 4) {
        above = a.word & a.up & ~(left & up_left);
    } else {
        // The left neighbour, if set, sees the pixels above and above left itself, and its run joins this one.
        above = a.word & a.up & ~left;
        before = a.word & up_left & ~a.up & ~left;
        after = a.word & up_right & ~a.up;
    }
    for (u32 rest = above | before; rest; rest &= rest - 1) {
        int bit = lowest_bit(rest), other = bit - (int)(before >> bit & 1u);
        join_nodes(forest, node_of(here, a.word, bit),
                   other < 0 ? last_node(up - 1, a.up_left) : node_of(up, a.up, other));
    }
    for (u32 rest = after; rest; rest &= rest - 1) {
        int bit = lowest_bit(rest);
        join_nodes(forest, node_of(here, a.word, bit), bit == 31 ? (up + 1) * RUNS : node_of(up, a.up, bit + 1));
    }
}

// Four bytes as four bits, set where a byte is not 0.
DEVICE u32 bits_of_four(u32 bytes) {
    u32 set = (((bytes & 0x7f7f7f7fu) + 0x7f7f7f7fu) | bytes) >> 7 & 0x01010101u;
    return set * 0x01020408u >> 24;
}

template <int COUNT>
DEVICE u32 word_of(const u8* at) {
    u32 word = 0;
    for (int i = 0; i < 8; i += COUNT) {
        Pack<u32, COUNT> part = *(const Pack<u32, COUNT>*)(at + 4 * i);
        for (int j = 0; j < COUNT; ++j) word |= bits_of_four(part.at[j]) << 4 * (i + j);
    }
    return word;
}

// Of the next 32 pixels of a row, or the `left` that there are.
DEVICE u32 word_of(const u8* at, int left) {
    if (left >= 32 && (u64)at % 16 == 0) return word_of<4>(at);
    if (left >= 32 && (u64)at % 4 == 0) return word_of<1>(at);
    u32 word = 0;
    for (int i = 0; i < smaller(left, 32); ++i) word |= (u32)(at[i] != 0) << i;
    return word;
}

// The node that the first run of word k of a tile hangs under: the start of its row's run, or itself.
DEVICE int start_of_run(const u32* words, int k) {
    int at = k;
    while (at % TILE_WORDS && (words[at] & 1u) && words[at - 1] >> 31) {
        --at;
        if (words[at] != 0xffffffffu) break;
    }
    return at == k ? k * RUNS : last_node(at, words[at]);
}

KERNEL connected_components_tile(const u8* __restrict__ mask, int* __restrict__ bits, int* __restrict__ parents,
                                 i64 count, int height, int width, int connectivity) {
    __shared__ u32 words[WORDS];
    __shared__ int nodes[RUNS * WORDS];
    Forest forest = {nodes, WORDS};
    int row_words = words_of(width), across = (row_words - 1) / TILE_WORDS + 1;
    int tiles = across * ((height - 1) / TILE_ROWS + 1);
    FOR_BLOCKS(item, count * tiles) {
        i64 frame = item / tiles, all = (i64)height * row_words;
        int tile = (int)(item % tiles), top = tile / across * TILE_ROWS, first = tile % across * TILE_WORDS;
        FOR_BLOCK(k, WORDS) {
            int y = top + k / TILE_WORDS, at = first + k % TILE_WORDS;
            u32 word = 0;
            if (y < height && at < row_words) {
                word = word_of(mask + (frame * height + y) * width + 32 * at, width - 32 * at);
                bits[frame * all + (i64)y * row_words + at] = (int)word;
            }
            words[k] = word;
        }
        sync_block();
        FOR_BLOCK(k, WORDS) {
            if (words[k]) nodes[k] = start_of_run(words, k);
            for (int run = 1; run < runs_of(words[k]); ++run) nodes[run * WORDS + k] = k * RUNS + run;
        }
        sync_block();
        FOR_BLOCK(k, WORDS) {
            int up = k - TILE_WORDS, column = k % TILE_WORDS;
            if (up < 0 || words[k] == 0) continue;
            Around a = {words[k], 0, words[up], 0, 0};
            if (column > 0) a.left = words[k - 1], a.up_left = words[up - 1];
            if (column < TILE_WORDS - 1) a.up_right = words[up + 1];
            join_above(forest, a, k, up, connectivity);
        }
        sync_block();
        FOR_BLOCK(k, WORDS) {
            int at = (top + k / TILE_WORDS) * row_words + first + k % TILE_WORDS;
            for (int run = 0; run < runs_of(words[k]); ++run) {
                int root = root_of(forest, k * RUNS + run), word = root / RUNS;
                int there = (top + word / TILE_WORDS) * row_words + first + word % TILE_WORDS;
                parents[(frame * RUNS + run) * all + at] = there * RUNS + root % RUNS;
            }
        }
        sync_block();
    }
}

KERNEL connected_components_merge(const int* __restrict__ bits, int* __restrict__ parents, i64 count, int height,
                                  int width, int connectivity) {
    int row_words = words_of(width), all = height * row_words;
    int borders = (row_words - 1) / TILE_WORDS;  // between tiles of a row
    int below = (height - 1) / TILE_ROWS * row_words, each = below + height * borders;
    FOR_GRID(i, count * each) {
        i64 frame = i / each;
        int item = (int)(i % each), beside = item - below;
        int y = beside < 0 ? (item / row_words + 1) * TILE_ROWS : beside / borders;
        int at = beside < 0 ? item % row_words : (beside % borders + 1) * TILE_WORDS;
        int here = y * row_words + at, up = here - row_words;
        const u32* words = (const u32*)bits + frame * all + here;
        Around a = {words[0], at > 0 ? words[-1] : 0, 0, 0, 0};
        if (y > 0) {
            const u32* over = words - row_words;
            a.up = over[0];
            if (at > 0) a.up_left = over[-1];
            if (at < row_words - 1) a.up_right = over[1];
        }
        Forest forest = {parents + frame * RUNS * all, all};
        if (beside < 0) {
            join_above(forest, a, here, up, connectivity);
            continue;
        }
        bool set = a.word & 1u, left = a.left >> 31, above = a.up & 1u, above_left = a.up_left >> 31;
        if (set && left) join_nodes(forest, here * RUNS, last_node(here - 1, a.left));
        // Where the row above is of another tile, join_above saw the corners. Else it saw nothing beyond the border.
        if (y % TILE_ROWS == 0 || connectivity == 4) continue;
        if (set && above_left && !above && !left) join_nodes(forest, here * RUNS, last_node(up - 1, a.up_left));
        if (left && above && !above_left && !set) join_nodes(forest, last_node(here - 1, a.left), up * RUNS);
    }
}

KERNEL connected_components_flatten(const int* __restrict__ bits, int* __restrict__ parents, int* __restrict__ roots,
                                    i64 count, int height, int width) {
    int row_words = words_of(width), all = height * row_words;
    FOR_GRID_WARPS(i, count * height * WARP) {
        i64 row = i / WARP, frame = row / height;
        int y = (int)(row % height), mine = 0;
        Forest forest = {parents + frame * RUNS * all, all};
        for (int at = lane_id(); at < row_words; at += WARP) {
            int node = (y * row_words + at) * RUNS;
            for (u32 starts = starts_of((u32)bits[row * row_words + at]); starts; starts &= starts - 1, ++node) {
                int root = root_of(forest, node);
                if (root == node) ++mine;
                *(volatile int*)parent_of(forest, node) =
                    root == node ? -(y * width + 32 * at + lowest_bit(starts) + 1) : root;
            }
        }
        mine = warp_sum(mine);
        if (lane_id() == 0) roots[row] = mine;
    }
}

// until: int [N, H], how many roots of the frame lie in the rows up to each.
KERNEL connected_components_rank(const int* __restrict__ bits, const int* __restrict__ until,
                                 int* __restrict__ parents, i64 count, int height, int width) {
    int row_words = words_of(width), all = height * row_words;
    FOR_GRID_WARPS(i, count * height * WARP) {
        i64 row = i / WARP, frame = row / height;
        int y = (int)(row % height), next = y ? until[row - 1] : 0;
        if (until[row] == next) continue;  // no root here, as in most rows
        int* run_of = parents + frame * RUNS * all + y * row_words;
        for (int begin = 0; begin < row_words; begin += WARP) {
            int at = begin + lane_id(), mine = 0;
            int runs = at < row_words ? runs_of((u32)bits[row * row_words + at]) : 0;
            for (int run = 0; run < runs; ++run) mine += run_of[(i64)run * all + at] < 0;
            int to = warp_prefix_sum(mine), id = next + to - mine;
            for (int run = 0; run < runs; ++run) {
                int* parent = run_of + ((i64)run * all + at);
                if (*parent < 0) *parent = -++id;
            }
            next += warp_from(to, WARP - 1);
        }
    }
}

DEVICE int number_of(const int* parents, int words, int at, int run) {
    int number = parents[run * words + at];
    while (number >= 0) number = parents[(u32)number % RUNS * words + (u32)number / RUNS];
    return -number;
}

KERNEL connected_components_write(const int* __restrict__ bits, const int* __restrict__ parents,
                                  int* __restrict__ numbers, i64 count, int height, int width) {
    int row_words = words_of(width), all = height * row_words, row_quads = 8 * row_words;
    int blocks = (8 * all - 1) / QUADS + 1;
    bool wide = width % 4 == 0 && (u64)numbers % sizeof(Pack<int, 4>) == 0;
    FOR_BLOCKS(item, count * blocks) {
        i64 frame = item / blocks;
        const int* forest = parents + frame * RUNS * all;
        // Divided once here, not for each quad.
        int begin = (int)(item % blocks) * QUADS + (int)threadIdx.x, y = begin / row_quads, quad = begin % row_quads;
        for (int k = threadIdx.x; k < QUADS && y < height; k += blockDim.x) {
            int x = 4 * quad, at = y * row_words + quad / 8, bit = x % 32;
            if (x < width) {
                u32 word = (u32)bits[frame * all + at], four = word >> bit & 15u;
                Pack<int, 4> out = {{0, 0, 0, 0}};
                if (four) {
                    int first = lowest_bit(four);
                    int run = count_bits(starts_of(word) & lanes_up_to(bit + first)) - 1;
                    int number = number_of(forest, all, at, run);
                    // Four pixels have at most two runs.
                    u32 later = starts_of(word) >> bit & 15u & ~lanes_up_to(first);
                    int second = later ? lowest_bit(later) : 4;
                    int other = later ? number_of(forest, all, at, run + 1) : 0;
#pragma unroll
                    for (int j = 0; j < 4; ++j) out.at[j] = four >> j & 1u ? (j < second ? number : other) : 0;
                }
                int* to = numbers + (frame * height + y) * width + x;
                if (wide)
                    *(Pack<int, 4>*)to = out;
                else
#pragma unroll
                    for (int j = 0; j < 4; ++j)
                        if (x + j < width) to[j] = out.at[j];
            }
            quad += blockDim.x;
            if (quad < row_quads) continue;
            y += quad / row_quads;
            quad %= row_quads;
        }
    }
}

// Of a map of labels: a chunk of pixels a warp.
KERNEL connected_components_count_roots(const int* __restrict__ labels, int* __restrict__ roots, i64 count,
                                        int pixels) {
    int chunks = (pixels - 1) / CHUNK + 1;
    FOR_GRID_WARPS(i, count * chunks * WARP) {
        i64 item = i / WARP, frame = item / chunks;
        int begin = (int)(item % chunks) * CHUNK, end = smaller(begin + CHUNK, pixels), mine = 0;
        const int* map = labels + frame * pixels;
#pragma unroll 4
        for (int local = begin + lane_id(); local < end; local += WARP) mine += map[local] == local + 1;
        mine = warp_sum(mine);
        if (lane_id() == 0) roots[item] = mine;
    }
}

// until: int [N, CHUNKS], how many roots of the frame lie in the chunks up to each.
KERNEL connected_components_rank_roots(const int* __restrict__ labels, const int* __restrict__ until,
                                       int* __restrict__ ids, i64 count, int pixels) {
    int chunks = (pixels - 1) / CHUNK + 1;
    FOR_GRID_WARPS(i, count * chunks * WARP) {
        i64 item = i / WARP, base = item / chunks * pixels;
        int begin = (int)(item % chunks) * CHUNK, next = begin ? until[item - 1] : 0;
        if (until[item] == next) continue;  // no root here
        for (int k = begin; k < smaller(begin + CHUNK, pixels); k += WARP) {
            int local = k + lane_id();
            bool is_root = local < pixels && labels[base + local] == local + 1;
            u32 set = warp_ballot(is_root);
            if (is_root) ids[base + local] = next + count_bits(set & lanes_up_to(lane_id()));
            next += count_bits(set);
        }
    }
}

KERNEL connected_components_number(const int* __restrict__ labels, int* __restrict__ ids, i64 count, int pixels) {
    int chunks = (pixels - 1) / CHUNK + 1;
    FOR_BLOCKS(item, count * chunks) {
        i64 base = item / chunks * pixels;
        int begin = (int)(item % chunks) * CHUNK;
        FOR_BLOCK(k, smaller(CHUNK, pixels - begin)) {
            int label = labels[base + begin + k];
            // A root keeps the id it has; nobody else's id is read.
            if (label != begin + k + 1) ids[base + begin + k] = label == 0 ? 0 : ids[base + label - 1];
        }
    }
}
