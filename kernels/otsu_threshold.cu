// Otsu's threshold of edge strength: of a frame, of its neighbourhoods in tiles, and of every pixel's own window.
//
// Input   edges    u8  [N, H, W], below 2^27 pixels a frame
// Output  mask     u8  [N, H, W], 1 where the strength is above share * threshold
//         tiles    int [N, ROWS, COLUMNS, 256], histograms of tiles of TILE x TILE pixels, cut from the top left
//         frames   int [N, 256], histograms of frames; zero beforehand
//         overall  int [N], the frames' levels
//         levels   int [N, ROWS, COLUMNS], the level of each tile's window of 3 x 3 tiles, -1 where that is flat;
//                  for sliding u8 [N, H, W], the level of each pixel's window of WINDOW x WINDOW, clipped to the frame
//
// With b pixels and mass M at or below a level, of n and S in all, the variance between the classes is
// (S b - M n)^2 / (b (n - b)) / n^2. The bracket is an exact integer; squared and divided in double it is the same
// number everywhere, and the lowest of the best levels wins.
//
// Passes  tiles     a block a tile counts it, and adds the tile to its frame
//         frames    a block a chunk of a frame counts it (global alone: no tiles)
//         split     a warp finds the level of a frame or of a tile's window
//         binarise  each pixel is compared with its threshold, bilinear between the centres of tiles (exact in float:
//                   weights are multiples of 1/128), or its frame's where there are no tiles
//         sliding   a block holds a histogram of each of its columns, as high as the window, and moves them down row
//                   by row; its warps sweep along the row, a column in, a column out, and find each pixel's level
// Source  Otsu 1979; column histograms: Perreault and Hebert 2007. Differs: tiles share a level and interpolate.
// Bytes   per pixel: tiles 1 + 0.25, split 0.25 (2.25 through L2), binarise 2; frames 1; sliding 3 + 1.
#include "common.cuh"

#define BINS 256
#define PER (BINS / WARP)  // levels of a lane
#define COPIES 8           // histograms of a block, one a warp, so that few threads want the same counter
#define TILE 64

#ifndef CHUNK
#define CHUNK 16384
#endif
#ifndef FLAT_VARIANCE
#define FLAT_VARIANCE 64.0
#endif
#ifndef WINDOW
#define WINDOW 65
#endif
#ifndef STRIP
#define STRIP 96  // pixels along a row that a block does
#endif
#ifndef STRETCH
#define STRETCH 12  // of them, those that a warp does from one start
#endif
#ifndef BAND
#define BAND 32  // rows that a block does
#endif
#define REACH (WINDOW / 2)
#define SPAN (STRIP + WINDOW - 1)
#define PITCH (BINS + 8)  // bytes from column to column: neighbours that meet the same level hit different banks

static_assert(WINDOW % 2 == 1 && WINDOW <= 75, "n^2 * 255 / 4 must fit 32 bits, and a column's count 8");
static_assert(STRIP % STRETCH == 0, "a strip is whole stretches");

typedef Pack<u8, 16> Bytes;
typedef Pack<int, 4> Quad;
typedef Pack<u32, 2> Eight;  // counts of a byte each

// -- histograms -------------------------------------------------------------------------------------------------------

DEVICE bool aligned(const void* at, int width) { return width % 16 == 0 && (u64)at % 16 == 0; }

DEVICE void clear(int* bins) {
    FOR_BLOCK(i, (int)(blockDim.x / WARP) * BINS) bins[i] = 0;
    sync_block();
}

// Count the pixels of a rectangle into the warp's copy.
DEVICE void tally(const u8* corner, int height, int width, int stride, bool packed, int* bins) {
    int* mine = bins + threadIdx.x / WARP * BINS;
    if (packed) {
        int across = width / 16;
        FOR_BLOCK(k, height * across) {
            Bytes pixels = *(const Bytes*)(corner + (i64)(k / across) * stride + k % across * 16);
            for (int i = 0; i < 16; ++i) atomicAdd(mine + pixels.at[i], 1);
        }
    } else {
        FOR_BLOCK(k, height * width) atomicAdd(mine + corner[(i64)(k / width) * stride + k % width], 1);
    }
    sync_block();
}

DEVICE int total(const int* bins, int bin) {
    int sum = 0;
    for (int copy = 0; copy < (int)(blockDim.x / WARP); ++copy) sum += bins[copy * BINS + bin];
    return sum;
}

KERNEL otsu_threshold_tiles(const u8* __restrict__ edges, int* __restrict__ tiles, int* __restrict__ frames, i64 count,
                            int height, int width) {
    __shared__ int bins[COPIES * BINS];
    int rows = (height + TILE - 1) / TILE, columns = (width + TILE - 1) / TILE;
    bool packed = aligned(edges, width);
    FOR_BLOCKS(item, count * rows * columns) {
        i64 frame = item / ((i64)rows * columns);
        int tile = (int)(item % ((i64)rows * columns));
        int y = tile / columns * TILE, x = tile % columns * TILE;
        clear(bins);
        const u8* corner = edges + (frame * height + y) * width + x;
        tally(corner, smaller(TILE, height - y), smaller(TILE, width - x), width, packed, bins);
        FOR_BLOCK(bin, BINS) {
            int sum = total(bins, bin);
            tiles[item * BINS + bin] = sum;
            if (sum) atomicAdd(frames + frame * BINS + bin, sum);
        }
        sync_block();
    }
}

KERNEL otsu_threshold_frames(const u8* __restrict__ edges, int* __restrict__ frames, i64 count, int pixels) {
    __shared__ int bins[COPIES * BINS];
    int chunks = (pixels + CHUNK - 1) / CHUNK;
    FOR_BLOCKS(item, count * chunks) {
        i64 frame = item / chunks;
        int begin = (int)(item % chunks) * CHUNK, size = smaller(CHUNK, pixels - begin);
        clear(bins);
        tally(edges + frame * pixels + begin, 1, size, size, aligned(edges, pixels), bins);
        FOR_BLOCK(bin, BINS) {
            int sum = total(bins, bin);
            if (sum) atomicAdd(frames + frame * BINS + bin, sum);
        }
        sync_block();
    }
}

// -- the best level ---------------------------------------------------------------------------------------------------

struct Split {
    int level;
    double variance;  // times n^2
    double square;    // n^2
};

// The best level of a histogram spread over a warp: counts are those of levels lane * PER and on, and splits below
// `lowest` do not count. U is unsigned and holds n^2 * 255 / 4: S b and M n may wrap, their difference is never
// negative. All lanes call, and all get the answer.
template <typename U>
DEVICE Split best_split(const int* counts, int lowest) {
    int first = lane_id() * PER;
    U own = 0, own_mass = 0;
    for (int k = 0; k < PER; ++k) {
        own += counts[k];
        own_mass += (U)(first + k) * counts[k];
    }
    U below = warp_prefix_sum(own), mass = warp_prefix_sum(own_mass);
    U n = warp_from(below, WARP - 1), sum = warp_from(mass, WARP - 1);
    below -= own;
    mass -= own_mass;

    // Doubles divide slowly: a quick estimate, right to 1e-6, leaves one or two levels to be divided exactly.
    float estimates[PER], highest = 0;
    U b = below, m = mass;
    for (int k = 0; k < PER; ++k) {
        b += counts[k];
        m += (U)(first + k) * counts[k];
        float between = (float)(sum * b - m * n);
        bool may_split = counts[k] > 0 && first + k >= lowest;
        estimates[k] = may_split ? __fdividef(between * between, (float)larger(b * (n - b), (U)1)) : 0.0f;
        highest = larger(highest, estimates[k]);
    }
    float mine = highest;
    for (int step = WARP / 2; step > 0; step /= 2) highest = larger(highest, warp_xor(highest, step));
    float bound = highest * (1 - 1e-5f);
    bool has = mine > 0 && mine >= bound;

    Split best = {0, 0.0, (double)n * (double)n};
    int level = 0;
    double variance = 0;
    if (has) {
        b = below;
        m = mass;
        for (int k = 0; k < PER; ++k) {
            b += counts[k];
            m += (U)(first + k) * counts[k];
            if (estimates[k] < bound) continue;
            double between = (double)(sum * b - m * n), exact = between * between / (double)(b * (n - b));
            if (exact > variance) {
                variance = exact;
                level = first + k;
            }
        }
    }
    for (u32 left = warp_ballot(has); left; left &= left - 1) {
        double other = warp_from(variance, lowest_bit(left));
        int other_level = warp_from(level, lowest_bit(left));
        if (other > best.variance) {
            best.variance = other;
            best.level = other_level;
        }
    }
    return best;
}

DEVICE void add(const int* histogram, int* counts) {
    for (int k = 0; k < PER; k += 4) {
        Quad four = *(const Quad*)(histogram + lane_id() * PER + k);
        for (int i = 0; i < 4; ++i) counts[k + i] += four.at[i];
    }
}

KERNEL otsu_threshold_split(const int* __restrict__ tiles, const int* __restrict__ frames, int* __restrict__ levels,
                            int* __restrict__ overall, i64 count, int rows, int columns) {
    i64 windows = count * rows * columns;
    i64 warps = (i64)gridDim.x * (blockDim.x / WARP);
    for (i64 item = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / WARP; item < count + windows; item += warps) {
        int counts[PER];
        for (int k = 0; k < PER; ++k) counts[k] = 0;
        if (item < count) {
            add(frames + item * BINS, counts);
            Split best = best_split<u64>(counts, 0);
            if (lane_id() == 0) overall[item] = best.level;
            continue;
        }
        i64 tile = item - count;
        int column = (int)(tile % columns), row = (int)(tile / columns % rows);
        for (int y = larger(row - 1, 0); y <= smaller(row + 1, rows - 1); ++y)
            for (int x = larger(column - 1, 0); x <= smaller(column + 1, columns - 1); ++x)
                add(tiles + (tile + (i64)(y - row) * columns + (x - column)) * BINS, counts);
        Split best = best_split<u64>(counts, 0);
        if (lane_id() == 0) levels[tile] = best.variance > FLAT_VARIANCE * best.square ? best.level : -1;
    }
}

// -- pixels -----------------------------------------------------------------------------------------------------------

struct Corners {
    float left, right;  // the levels to both sides, at the height of a row
};

DEVICE float level_at(const int* levels, int at, int overall) { return (float)(levels[at] < 0 ? overall : levels[at]); }

// The levels around a pixel of row y, between the tile centres left and right of x.
DEVICE Corners corners(const int* levels, int overall, int y, int x, int rows, int columns) {
    int row = (y + TILE / 2) / TILE, column = (x + TILE / 2) / TILE;  // of the tile below and to the right
    int above = larger(row - 1, 0), below = smaller(row, rows - 1);
    int left = larger(column - 1, 0), right = smaller(column, columns - 1);
    float down = ((y + TILE / 2) % TILE * 2 + 1) / (2.0f * TILE);
    Corners around;
    around.left = level_at(levels, above * columns + left, overall) * (1 - down) +
                  level_at(levels, below * columns + left, overall) * down;
    around.right = level_at(levels, above * columns + right, overall) * (1 - down) +
                   level_at(levels, below * columns + right, overall) * down;
    return around;
}

// GROUP pixels at once: between 16-pixel limits the tiles around do not change.
template <int GROUP>
DEVICE void binarise(const u8* edges, const int* levels, const int* overall, u8* mask, i64 count, int height, int width,
                     int rows, int columns, float share) {
    int across = width / GROUP;
    FOR_GRID(i, count * height * across) {
        int x = (int)(i % across) * GROUP, y = (int)(i / across % height);
        i64 frame = i / across / height;
        Corners around = {(float)overall[frame], (float)overall[frame]};
        if (rows)
            around = corners(levels + frame * rows * columns, overall[frame], y, x, rows, columns);
        Pack<u8, GROUP> pixels = *(const Pack<u8, GROUP>*)(edges + i * GROUP), result;
        for (int k = 0; k < GROUP; ++k) {
            float along = ((x + k + TILE / 2) % TILE * 2 + 1) / (2.0f * TILE);
            float threshold = around.left + (around.right - around.left) * along;
            result.at[k] = (float)pixels.at[k] > share * threshold;
        }
        *(Pack<u8, GROUP>*)(mask + i * GROUP) = result;
    }
}

KERNEL otsu_threshold_binarise(const u8* __restrict__ edges, const int* __restrict__ levels,
                               const int* __restrict__ overall, u8* __restrict__ mask, i64 count, int height, int width,
                               int rows, int columns, float share) {
    if (aligned(edges, width) && aligned(mask, width))
        binarise<16>(edges, levels, overall, mask, count, height, width, rows, columns, share);
    else
        binarise<1>(edges, levels, overall, mask, count, height, width, rows, columns, share);
}

// -- a window of its own for every pixel ------------------------------------------------------------------------------

// A lane's PER counts as 16-bit halves: bytes 0 and 2 of each four in even, 1 and 3 in odd.
struct Window {
    u32 even[PER / 4], odd[PER / 4];
};

// Add (way 1) or take away (way -1) a column. No half ever runs over, so whole words are added.
DEVICE void slide(Window& window, const u8* column, int way) {
    for (int k = 0; k < PER / 8; ++k) {
        Eight eight = ((const Eight*)(column + lane_id() * PER))[k];
        for (int i = 0; i < 2; ++i) {
            window.even[2 * k + i] += way * (eight.at[i] & 0x00ff00ffu);
            window.odd[2 * k + i] += way * ((eight.at[i] >> 8) & 0x00ff00ffu);
        }
    }
}

DEVICE int level_of(const Window& window) {
    int counts[PER];
    for (int k = 0; k < PER / 4; ++k) {
        counts[4 * k] = window.even[k] & 0xffff;
        counts[4 * k + 1] = window.odd[k] & 0xffff;
        counts[4 * k + 2] = window.even[k] >> 16;
        counts[4 * k + 3] = window.odd[k] >> 16;
    }
    // scikit-image never splits at level 0, and gives a flat window that level.
    return best_split<u32>(counts, 1).level;
}

// A warp's stretch of a row: `held` is the column at the left end of the first pixel's window.
DEVICE void sweep(const u8* held, u8* levels, int size) {
    Window window = {};
    for (int column = 0; column < WINDOW; ++column) slide(window, held + column * PITCH, 1);
    for (int x = 0; x < size; ++x) {
        int level = level_of(window);
        if (lane_id() == 0) levels[x] = (u8)level;
        if (x + 1 == size) break;
        slide(window, held + (x + WINDOW) * PITCH, 1);
        slide(window, held + x * PITCH, -1);
    }
}

KERNEL otsu_threshold_sliding(const u8* __restrict__ edges, u8* __restrict__ levels, i64 count, int height, int width) {
    __shared__ Eight words[SPAN * PITCH / 8];
    u8* held = (u8*)words;
    int bands = (height + BAND - 1) / BAND, strips = (width + STRIP - 1) / STRIP;
    FOR_BLOCKS(item, count * bands * strips) {
        const u8* frame = edges + item / ((i64)bands * strips) * height * width;
        u8* out = levels + (frame - edges);
        int y0 = (int)(item / strips % bands) * BAND, x0 = (int)(item % strips) * STRIP;
        FOR_BLOCK(k, SPAN * PITCH / 8) words[k] = Eight();
        sync_block();
        for (int y = y0; y < smaller(y0 + BAND, height); ++y) {
            // A column is one thread's: no counter is shared.
            FOR_BLOCK(k, SPAN) {
                int x = x0 - REACH + k;
                if (x < 0 || x >= width) continue;
                u8* counts = held + k * PITCH;
                int top = y == y0 ? larger(y - REACH, 0) : y + REACH;
#pragma unroll 4
                for (int in = top; in <= smaller(y + REACH, height - 1); ++in) ++counts[frame[(i64)in * width + x]];
                int out_of = y - REACH - 1;
                if (y > y0 && out_of >= 0) --counts[frame[(i64)out_of * width + x]];
            }
            sync_block();
            for (int begin = threadIdx.x / WARP * STRETCH; begin < STRIP; begin += blockDim.x / WARP * STRETCH) {
                int size = smaller(STRETCH, width - x0 - begin);
                if (size > 0) sweep(held + begin * PITCH, out + (i64)y * width + x0 + begin, size);
            }
            sync_block();
        }
    }
}
