// A hierarchy of regions over edge maps: a watershed, borders with their mean strength, merging of the weakest first.
//
// Input   edges     u8  [N, H, W]
//         plateaus  int [N, H, W], connected_components of level
//         ids       int [N, H, W], dense_labels of labels: 1 .. R - 1
// Output  heights   int [N, H, W], smoothed edges, 256 to an edge level
//         parent    int [N, H, W], the neighbour a pixel's water flows to; of no use where level is set
//         level     u8  [N, H, W], whether no neighbour is lower
//         target    int [N, H, W], at the first pixel of a plateau: the pixel it flows to. Begins as FAR
//         roots     int [N, H, W], the first pixel of the plateau that is the minimum of each pixel's basin
//         first     int [N, H, W], at that pixel: the first of the basin. Begins as FAR
//         labels    int [N, H, W], 1 + the first pixel of the basin; later of what basins were joined to
//         found     int [N], how many there are. Begins as zeros; counted again, elsewhere, after each time they join
//         best      i64 [N, H, W], at a basin's first pixel: its lowest pass. Begins as NONE, as join leaves it
//         code      int [N, SLOTS]; total, length, key i64 [N, SLOTS]: a hash table of borders for each frame. They
//                   begin as zeros, key as NONE, and end so
//         list      i64 [N, LIST, 4], borders while they are merged
//         weakest   i64 [N, R], each region's weakest border
//         into, at  int [N, R], the tree; begin as 0 .. R - 1 and NEVER
//
// A border's code is its lower region * R + its higher one, never 0. Its key is its mean height, rounded down, and in
// the low bits the code of one of the first borders it is made of: the one whose key was least. No two keys are equal.
// Region graphs are planar, so a frame has at most 3 R borders; SLOTS is twice that and a power of two.
//
// Passes  smooth   each pixel weighs 9 x 9 pixels
//         fall     each pixel finds its lowest neighbour
//         leave    (after connected_components) each plateau finds the first pixel of its height beside it that falls
//         follow   each pixel goes down to its minimum, which gets to know its first pixel
//         label    each pixel takes its basin's label; basins are counted
//         passes   where there are too many: each basin finds its lowest pass
//         join     and is joined to what is behind it, as in connected_components
//         flatten  each pixel takes its new label; what is left is counted
//         border   (after dense ids) each pair of pixels in different regions adds to its border
//         merge    one block a frame: regions that are each other's weakest neighbour merge, all at once, until one is
//                  left
// Source  Arbelaez et al. 2011 (oriented watershed, mean border strength); Murtagh 1983 (reciprocal neighbours); Playne
//         and Hawick 2018 (forest of indices).
// Bytes   About 110 a pixel: 5 smooth, 9 fall, 22 the plateaus, 12 leave, 20 follow, 12 label, 20 ids, 8 border.
#include "common.cuh"

#define TAPS 9
#define FLOOR 8
#define RING 8
#define CURVED 2
#define FAR 0x7fffffff
#define NONE 0x7fffffffffffffffLL
#define LOW_BITS 0xffffffffLL

KERNEL region_hierarchy_smooth(const u8* __restrict__ edges, int* __restrict__ heights, i64 count, int height,
                               int width) {
    const int taps[TAPS] = {1, 8, 28, 56, 70, 56, 28, 8, 1};
    i64 pixels = (i64)height * width;
    FOR_GRID(i, count * pixels) {
        int local = (int)(i % pixels), y = local / width, x = local % width, sum = 0;
        const u8* frame = edges + (i - local);
#pragma unroll
        for (int dy = 0; dy < TAPS; ++dy) {
            const u8* row = frame + (i64)smaller(larger(y + dy - TAPS / 2, 0), height - 1) * width;
            int across = 0;
#pragma unroll
            for (int dx = 0; dx < TAPS; ++dx)
                across += taps[dx] * larger<int>(row[smaller(larger(x + dx - TAPS / 2, 0), width - 1)], FLOOR);
            sum += taps[dy] * across;
        }
        heights[i] = sum >> 8;
    }
}

KERNEL region_hierarchy_fall(const int* __restrict__ heights, int* __restrict__ parent, u8* __restrict__ level,
                             i64 count, int height, int width) {
    i64 pixels = (i64)height * width;
    FOR_GRID(i, count * pixels) {
        int local = (int)(i % pixels), x = local % width;
        int lowest = heights[i], to = local;
        // In the order of their indices, so that of equal ones the first is taken.
        if (local >= width && heights[i - width] < lowest) lowest = heights[i - width], to = local - width;
        if (x > 0 && heights[i - 1] < lowest) lowest = heights[i - 1], to = local - 1;
        if (x + 1 < width && heights[i + 1] < lowest) lowest = heights[i + 1], to = local + 1;
        if (local + width < pixels && heights[i + width] < lowest) to = local + width;
        parent[i] = to;
        level[i] = to == local;
    }
}

KERNEL region_hierarchy_leave(const int* __restrict__ heights, const int* __restrict__ plateaus,
                              int* __restrict__ target, i64 count, int height, int width) {
    i64 pixels = (i64)height * width;
    FOR_GRID(i, count * pixels) {
        int plateau = plateaus[i];
        if (plateau == 0) continue;
        int local = (int)(i % pixels), x = local % width, own = heights[i];
        int out = FAR;
        if (local + width < pixels && heights[i + width] == own && plateaus[i + width] == 0) out = local + width;
        if (x + 1 < width && heights[i + 1] == own && plateaus[i + 1] == 0) out = local + 1;
        if (x > 0 && heights[i - 1] == own && plateaus[i - 1] == 0) out = local - 1;
        if (local >= width && heights[i - width] == own && plateaus[i - width] == 0) out = local - width;
        if (out != FAR) atomicMin(target + (i - local) + plateau - 1, out);
    }
}

KERNEL region_hierarchy_follow(const int* __restrict__ parent, const int* __restrict__ plateaus,
                               const int* __restrict__ target, int* __restrict__ roots, int* __restrict__ first,
                               i64 count, int height, int width) {
    i64 pixels = (i64)height * width;
    FOR_GRID_WARPS(i, count * pixels) {
        bool inside = i < count * pixels;
        int local = inside ? (int)(i % pixels) : 0, node = local;
        i64 base = i - local;
        while (inside) {
            int plateau = plateaus[base + node];
            int next = plateau == 0 ? parent[base + node] : target[base + plateau - 1];
            if (next == FAR) {
                node = plateau - 1;
                break;
            }
            node = next;
        }
        // One atomic for neighbours that end in the same minimum: the run's first pixel is its least.
        Run run = warp_run(inside ? base + node : -1, local == 0);
        if (!inside) continue;
        roots[i] = node;
        if (lane_id() == run.first) atomicMin(first + base + node, local);
    }
}

KERNEL region_hierarchy_label(const int* __restrict__ roots, const int* __restrict__ first, int* __restrict__ labels,
                              int* __restrict__ found, i64 count, int height, int width) {
    i64 pixels = (i64)height * width;
    FOR_GRID(i, count * pixels) {
        int local = (int)(i % pixels), least = first[i - local + roots[i]];
        labels[i] = 1 + least;
        if (least == local) atomicAdd(found + i / pixels, 1);
    }
}

// Crack k of a frame is between pixel k and the one to its right, or for k >= pixels between k - pixels and below it.
KERNEL region_hierarchy_passes(const int* __restrict__ heights, const int* __restrict__ labels,
                               const int* __restrict__ found, i64* __restrict__ best, i64 count, int height, int width,
                               int most) {
    i64 pixels = (i64)height * width;
    FOR_GRID(i, count * pixels) {
        if (found[i / pixels] <= most) continue;
        int local = (int)(i % pixels), label = labels[i];
        i64* frame = best + (i - local);
        for (int down = 0; down < 2; ++down) {
            if (down ? local + width >= pixels : local % width + 1 == width) continue;
            i64 beside = i + (down ? width : 1);
            if (labels[beside] == label) continue;
            i64 key = (i64)larger(heights[i], heights[beside]) << 32 | (local + (down ? pixels : 0));
            atomicMin(frame + label - 1, key);
            atomicMin(frame + labels[beside] - 1, key);
        }
    }
}

KERNEL region_hierarchy_join(i64* __restrict__ best, int* __restrict__ labels, i64 count, int height, int width) {
    i64 pixels = (i64)height * width;
    FOR_GRID(i, count * pixels) {
        i64 key = best[i];
        if (key == NONE) continue;
        best[i] = NONE;
        i64 crack = key & LOW_BITS;
        bool down = crack >= pixels;
        int one = (int)(down ? crack - pixels : crack);
        join_trees(labels + (i - i % pixels), one, one + (down ? width : 1));
    }
}

KERNEL region_hierarchy_flatten(const int* __restrict__ found, int* __restrict__ labels, int* __restrict__ left,
                                i64 count, int height, int width, int most) {
    i64 pixels = (i64)height * width;
    FOR_GRID(i, count * pixels) {
        i64 frame = i / pixels;
        int local = (int)(i % pixels);
        if (found[frame] <= most) {
            if (local == 0) left[frame] = found[frame];
            continue;
        }
        int root = root_of(labels + (i - local), local);
        *(volatile int*)(labels + i) = root + 1;
        if (root == local) atomicAdd(left + frame, 1);
    }
}

// A hash table of borders; slots is a power of two, and more than there are borders.
struct Borders {
    int* code;
    i64 *total, *length, *key;
    int slots;
};

DEVICE Borders borders_of(int* code, i64* total, i64* length, i64* key, i64 frame, int slots) {
    i64 base = frame * slots;
    return {code + base, total + base, length + base, key + base, slots};
}

DEVICE void add(const Borders& borders, int code, i64 total, i64 length, i64 key) {
    u32 mixed = (u32)code * 0x9e3779b1u;
    for (u32 at = mixed ^ mixed >> 15;; ++at) {
        at &= (u32)borders.slots - 1;
        int seen = atomicCAS(borders.code + at, 0, code);
        if (seen != 0 && seen != code) continue;
        atomicAdd((u64*)borders.total + at, (u64)total);
        atomicAdd((u64*)borders.length + at, (u64)length);
        atomicMin(borders.key + at, key);
        return;
    }
}

// A frame that goes on beyond its border as it ends there.
struct Frame {
    const int *ids, *heights;
    int height, width;
};

DEVICE int place(const Frame& frame, int x, int y) {
    return smaller(larger(y, 0), frame.height - 1) * frame.width + smaller(larger(x, 0), frame.width - 1);
}

// The heights at a step from each of the two pixels of a border, together.
DEVICE i64 both(const Frame& frame, int x, int y, bool down) {
    return (i64)frame.heights[place(frame, x, y)] + frame.heights[place(frame, x + !down, y + down)];
}

// How strong the border between a pixel and that to its right or below is: the higher of the heights where the border
// runs along a ridge, a quarter of it where it runs across. See Note [Along the ridge] in region_hierarchy_ref.py.
DEVICE i64 strength_of(const Frame& frame, int x, int y, bool down) {
    const int ring_x[RING] = {0, 2, 3, 2, 0, -2, -3, -2}, ring_y[RING] = {-3, -2, 0, 2, 3, 2, 0, -2};
    int one = place(frame, x, y), other = place(frame, x + !down, y + down);
    int here = frame.ids[one], there = frame.ids[other];
    i64 normal_x = 0, normal_y = 0;
#pragma unroll
    for (int k = 0; k < RING; ++k) {
        int seen = frame.ids[place(frame, x + ring_x[k], y + ring_y[k])];
        int side = (seen == there) - (seen == here);
        normal_x += ring_x[k] * side;
        normal_y += ring_y[k] * side;
    }
    const int k = CURVED;
    i64 twice = 2 * both(frame, x, y, down);
    i64 xx = both(frame, x - k, y, down) + both(frame, x + k, y, down) - twice;
    i64 yy = both(frame, x, y - k, down) + both(frame, x, y + k, down) - twice;
    i64 four_xy = both(frame, x + k, y + k, down) + both(frame, x - k, y - k, down) -
                  both(frame, x + k, y - k, down) - both(frame, x - k, y + k, down);
    i64 mixed = normal_x * normal_y * four_xy;
    i64 across = 2 * normal_x * normal_x * xx + mixed + 2 * normal_y * normal_y * yy;
    i64 along = 2 * normal_y * normal_y * xx - mixed + 2 * normal_x * normal_x * yy;
    i64 size = larger(across, -across) + larger(along, -along);
    i64 highest = larger(frame.heights[one], frame.heights[other]);
    return size == 0 ? highest : highest * (5 * size + 3 * (along - across)) / (8 * size);
}

KERNEL region_hierarchy_border(const int* __restrict__ ids, const int* __restrict__ heights, int* __restrict__ code,
                               i64* __restrict__ total, i64* __restrict__ length, i64* __restrict__ key, i64 count,
                               int height, int width, int regions, int slots) {
    i64 pixels = (i64)height * width;
    FOR_GRID(i, count * pixels) {
        int local = (int)(i % pixels), id = ids[i];
        Borders borders = borders_of(code, total, length, key, i / pixels, slots);
        Frame frame = {ids + (i - local), heights + (i - local), height, width};
        for (int down = 0; down < 2; ++down) {
            if (down ? local + width >= pixels : local % width + 1 == width) continue;
            i64 beside = i + (down ? width : 1);
            int other = ids[beside];
            if (other == id) continue;
            int pair = smaller(id, other) * regions + larger(id, other);
            add(borders, pair, strength_of(frame, local % width, local / width, down), 1, pair);
        }
    }
}

// A border in a list.
struct Border {
    i64 code, total, length, key;
};

// Moves the borders of a table to a list, in any order, and leaves the table empty; returns how many. All threads call.
DEVICE int collect(const Borders& borders, Border* list) {
    __shared__ int listed;
    sync_block();
    if (threadIdx.x == 0) listed = 0;
    sync_block();
    FOR_BLOCK(slot, borders.slots) {
        int code = load_fresh(borders.code + slot);
        if (code == 0) continue;
        i64 total = load_fresh(borders.total + slot), length = load_fresh(borders.length + slot);
        i64 key = (total / length) << 32 | (load_fresh(borders.key + slot) & LOW_BITS);
        list[atomicAdd(&listed, 1)] = {code, total, length, key};
        borders.code[slot] = 0;
        borders.total[slot] = borders.length[slot] = 0;
        borders.key[slot] = NONE;
    }
    sync_block();
    return listed;
}

KERNEL region_hierarchy_merge(int* __restrict__ code, i64* __restrict__ total, i64* __restrict__ length,
                              i64* __restrict__ key, i64* __restrict__ list, i64* __restrict__ weakest,
                              int* __restrict__ into, int* __restrict__ at, i64 count, int regions, int slots,
                              int longest) {
    FOR_BLOCKS(frame, count) {
        Borders borders = borders_of(code, total, length, key, frame, slots);
        Border* listed = (Border*)list + frame * longest;
        i64* best = weakest + frame * regions;
        int *to = into + frame * regions, *when = at + frame * regions;
        for (;;) {
            int borders_left = collect(borders, listed);
            if (borders_left == 0) break;
            // The table need only be twice as large as what is left.
            while (borders.slots > 32 && borders.slots >= 4 * borders_left) borders.slots /= 2;
            FOR_BLOCK(region, regions) best[region] = NONE;
            sync_block();
            FOR_BLOCK(k, borders_left) {
                atomicMin(best + listed[k].code / regions, listed[k].key);
                atomicMin(best + listed[k].code % regions, listed[k].key);
            }
            sync_block();
            FOR_BLOCK(k, borders_left) {
                int low = (int)(listed[k].code / regions), high = (int)(listed[k].code % regions);
                i64 own = listed[k].key;
                if (load_fresh(best + low) != own || load_fresh(best + high) != own) continue;
                to[high] = low;
                when[high] = (int)(own >> 32);
            }
            sync_block();
            FOR_BLOCK(k, borders_left) {
                Border border = listed[k];
                int low = load_fresh(to + border.code / regions), high = load_fresh(to + border.code % regions);
                if (low == high) continue;
                int pair = smaller(low, high) * regions + larger(low, high);
                add(borders, pair, border.total, border.length, border.key);
            }
        }
    }
}
