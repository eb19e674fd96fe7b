// Connected regions of masks.
//
// Input   mask    u8  [N, H, W], non-zero is foreground
// Output  labels  int [N, H, W], 0 or 1 + the smallest row-major index (within the frame) of the region
//         ids     int [N, H, W], 0 or 1, 2, 3 ... in raster order of the regions' first pixels
//         roots   int [N, CHUNKS], how many regions begin in each chunk of CHUNK pixels of a frame
//
// labels is the parent array of a forest, one tree a region, from the first pass on: label - 1 is the parent, a root
// is its own. Parents only ever become smaller, so a root is the smallest index, whatever the order of the threads.
//
// Passes  init     each pixel points at the start of its run within 32 pixels
//         merge    runs are joined with those above, and across the 32-pixel limits (one atomicMin a join)
//         flatten  each pixel points at its root; roots are counted by chunk
//         rank     (after a cumulative sum of roots over the chunks) each root gets its id
//         number   each pixel takes its root's id
// Source  Oliveira and Lotufo 2010 (forest of indices); Playne and Hawick 2018 (which neighbours need no join).
// Bytes   5 + 9 + 8 for labels; 4 + 8 more for ids, per pixel.
#include "common.cuh"

#ifndef CHUNK
#define CHUNK 1024
#endif

KERNEL connected_components_init(const u8* __restrict__ mask, int* __restrict__ labels, i64 count, int height,
                                 int width) {
    i64 pixels = (i64)height * width;
    FOR_GRID_WARPS(i, count * pixels) {
        bool inside = i < count * pixels;
        bool is_set = inside && mask[i] != 0;
        int local = inside ? (int)(i % pixels) : 0;
        Run run = warp_run(is_set, local % width == 0);
        if (inside) labels[i] = is_set ? 1 + local - (lane_id() - run.first) : 0;
    }
}

KERNEL connected_components_merge(int* __restrict__ labels, i64 count, int height, int width, int connectivity) {
    i64 pixels = (i64)height * width;
    FOR_GRID(i, count * pixels) {
        if (load_fresh(labels + i) == 0) continue;
        int local = (int)(i % pixels), x = local % width;
        int* frame = labels + (i - local);
        bool left = x > 0 && load_fresh(frame + local - 1) != 0;
        if (left && i % WARP == 0) join_trees(frame, local, local - 1);
        if (local < width) continue;
        int up = local - width;
        bool above = load_fresh(frame + up) != 0;
        bool above_left = x > 0 && load_fresh(frame + up - 1) != 0;
        if (connectivity == 4) {
            if (above && !(left && above_left)) join_trees(frame, local, up);
            continue;
        }
        // The left neighbour, if set, sees the pixels above and above left itself, and its run joins this one.
        bool above_right = x + 1 < width && load_fresh(frame + up + 1) != 0;
        if (above && !left) join_trees(frame, local, up);
        if (above_left && !above && !left) join_trees(frame, local, up - 1);
        if (above_right && !above) join_trees(frame, local, up + 1);
    }
}

KERNEL connected_components_flatten(int* __restrict__ labels, int* __restrict__ roots, i64 count, int height,
                                    int width) {
    __shared__ int found;
    int pixels = height * width, chunks = (pixels + CHUNK - 1) / CHUNK;
    FOR_BLOCKS(item, count * chunks) {
        if (threadIdx.x == 0) found = 0;
        sync_block();
        int* frame = labels + item / chunks * pixels;
        int begin = (int)(item % chunks) * CHUNK;
        int mine = 0;
        FOR_BLOCK(k, smaller(CHUNK, pixels - begin)) {
            int local = begin + k;
            if (load_fresh(frame + local) == 0) continue;
            int root = root_of(frame, local);
            *(volatile int*)(frame + local) = root + 1;
            mine += root == local;
        }
        mine = warp_sum(mine);
        if (lane_id() == 0 && mine) atomicAdd(&found, mine);
        sync_block();
        if (threadIdx.x == 0) roots[item] = found;
        sync_block();
    }
}

// before: int [N, CHUNKS], how many roots of the frame lie in earlier chunks.
KERNEL connected_components_rank(const int* __restrict__ labels, const int* __restrict__ before, int* __restrict__ ids,
                                 i64 count, int height, int width) {
    int pixels = height * width, chunks = (pixels + CHUNK - 1) / CHUNK;
    i64 warps = (i64)gridDim.x * (blockDim.x / WARP);
    // One warp a chunk: few chunks have roots, and those are read in order.
    for (i64 item = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / WARP; item < count * chunks; item += warps) {
        i64 base = item / chunks * pixels;
        int begin = (int)(item % chunks) * CHUNK;
        int next = before[item] + 1;
        int last = item % chunks + 1 < chunks ? before[item + 1] + 1 : -1;
        if (last == next) continue;  // no root here
        for (int k = begin; k < smaller(begin + CHUNK, pixels); k += WARP) {
            int local = k + lane_id();
            bool is_root = local < pixels && labels[base + local] == local + 1;
            u32 bits = warp_ballot(is_root);
            if (is_root) ids[base + local] = next + count_bits(bits & lanes_up_to(lane_id())) - 1;
            next += count_bits(bits);
        }
    }
}

KERNEL connected_components_number(const int* __restrict__ labels, int* __restrict__ ids, i64 count, int height,
                                   int width) {
    i64 pixels = (i64)height * width;
    FOR_GRID(i, count * pixels) {
        int label = labels[i], local = (int)(i % pixels);
        // A root keeps the id it has; nobody else's id is read.
        if (label != local + 1) ids[i] = label == 0 ? 0 : ids[i - local + label - 1];
    }
}
