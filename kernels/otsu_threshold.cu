// Otsu's threshold of edge strength: of a frame, of its neighbourhoods in tiles, and of every pixel's own window.
//
// Input   edges    u8  [N, H, W], below 2^27 pixels a frame
// Output  mask     u8  [N, H, W], 1 where the strength is above share * threshold
//         tiles    u16 [N, ROWS - 1, COLUMNS - 1, 256], histograms of tiles of TILE x TILE, cut from the top left
//         frames   int [N, 256], histograms of frames; zero beforehand
//         overall  int [N], the frames' levels
//         levels   int [N, ROWS, COLUMNS], the level of the window of ACROSS x ACROSS tiles around each corner
//                  of tiles, clipped to the frame, -1 where that is flat;
//                  for sliding u8 [N, H, W], the level of each pixel's window of WINDOW x WINDOW, clipped likewise
//
// With b pixels and mass M at or below a level, of n and S in all, the variance between the classes is
// (S b - M n)^2 / (b (n - b)) / n^2. The bracket is an exact integer; squared and divided in double it is the same
// number everywhere, and the lowest of the best levels wins.
//
// Passes  tiles     a block counts the tiles of a patch, and adds them to their frame
//         frames    a block a chunk of a frame counts it (global alone: no tiles)
//         split     a warp finds the level of a frame or of a corner's window
//         binarise  each pixel is compared with its threshold, bilinear between the corners of its tile (exact in
//                   float: weights are multiples of 1/32), or its frame's where there are no tiles
//         sliding   a block holds a histogram of each of its columns, as high as the window, and moves them down row
//                   by row; its warps sweep along the row, a column in, a column out, and find each pixel's level
// Source  Otsu 1979; column histograms: Perreault and Hebert 2007. Differs: levels are found every TILE pixels, and
//         interpolated.
// Bytes   per pixel: tiles 1 + 2, split 2 (32 through L1), binarise 2; frames 1; sliding 3 + 1.
#include "common.cuh"

#define BINS 256
#define PER (BINS / WARP)  // levels of a lane
#define COPIES 8           // histograms of a block, one a warp, so that few threads want the same counter
#define TILE 16
#define ACROSS 4  // tiles of a window, each way
#define PATCH 4   // tiles that a block counts, each way

#ifndef CHUNK
#define CHUNK 16384
#endif
#ifndef FLAT_VARIANCE
#define FLAT_VARIANCE 16.0
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
#define APART (BINS + 8)  // counters from tile to tile, for the same reason

static_assert(TILE == 16 && ACROSS % 2 == 0, "16 pixels at once are of one tile; a window is centred at a corner");
static_assert(ACROSS * TILE * ACROSS * TILE < 1 << 16, "counts are halves of words");
static_assert(WINDOW % 2 == 1 && WINDOW <= 75, "n^2 * 255 / 4 must fit 32 bits, and a column's count 8");
static_assert(STRIP % STRETCH == 0, "a strip is whole stretches");

typedef Pack<u8, 16> Bytes;
typedef Pack<int, 4> Quad;
typedef Pack<u16, 8> Halves;
typedef Pack<u32, 4> Words;  // two counts each
typedef Pack<u32, 2> Eight;  // counts of a byte each

// -- histograms -------------------------------------------------------------------------------------------------------

DEVICE bool aligned(const void* at, int width) { return width % 16 == 0 && (u64)at % 16 == 0; }

DEVICE void clear(int* bins, int count) {
    FOR_BLOCK(i, count) bins[i] = 0;
    sync_block();
}

// Count the pixels of a patch, each tile's at its own place in bins.
DEVICE void tally_tiles(const u8* corner, int height, int width, int stride, bool packed, int* bins) {
    if (packed) {
        int across = width / TILE;
        FOR_BLOCK(k, height * across) {
            int y = k / across, tile = k % across;
            Bytes pixels = *(const Bytes*)(corner + (i64)y * stride + tile * TILE);
            int* mine = bins + (y / TILE * PATCH + tile) * APART;
            for (int i = 0; i < TILE; ++i) atomicAdd(mine + pixels.at[i], 1);
        }
    } else {
        FOR_BLOCK(k, height * width) {
            int y = k / width, x = k % width;
            atomicAdd(bins + (y / TILE * PATCH + x / TILE) * APART + corner[(i64)y * stride + x], 1);
        }
    }
    sync_block();
}

KERNEL otsu_threshold_tiles(const u8* __restrict__ edges, u16* __restrict__ tiles, int* __restrict__ frames, i64 count,
                            int height, int width) {
    __shared__ Quad quads[PATCH * PATCH * APART / 4];
    int* bins = (int*)quads;
    int rows = (height + TILE - 1) / TILE, columns = (width + TILE - 1) / TILE;
    int down = (rows + PATCH - 1) / PATCH, along = (columns + PATCH - 1) / PATCH;
    bool packed = aligned(edges, width);
    FOR_BLOCKS(item, count * down * along) {
        i64 frame = item / ((i64)down * along);
        int row = (int)(item / along % down) * PATCH, column = (int)(item % along) * PATCH;
        int y = row * TILE, x = column * TILE;
        clear(bins, PATCH * PATCH * APART);
        const u8* corner = edges + (frame * height + y) * width + x;
        tally_tiles(corner, smaller(PATCH * TILE, height - y), smaller(PATCH * TILE, width - x), width, packed, bins);
        FOR_BLOCK(k, PATCH * PATCH * BINS / 8) {
            int tile = k / (BINS / 8), at = k % (BINS / 8), tile_y = row + tile / PATCH, tile_x = column + tile % PATCH;
            if (tile_y >= rows || tile_x >= columns) continue;
            Halves eight;
            for (int i = 0; i < 2; ++i) {
                Quad four = quads[tile * (APART / 4) + at * 2 + i];
                for (int j = 0; j < 4; ++j) eight.at[4 * i + j] = (u16)four.at[j];
            }
            ((Halves*)tiles)[((frame * rows + tile_y) * columns + tile_x) * (BINS / 8) + at] = eight;
        }
        FOR_BLOCK(bin, BINS) {
            int sum = 0;
            for (int tile = 0; tile < PATCH * PATCH; ++tile) sum += bins[tile * APART + bin];
            if (sum) atomicAdd(frames + frame * BINS + bin, sum);
        }
        sync_block();
    }
}

// Count a stretch of pixels into the warp's copy.
DEVICE void tally(const u8* pixels, int size, bool packed, int* bins) {
    int* mine = bins + threadIdx.x / WARP * BINS;
    if (packed) {
        FOR_BLOCK(k, size / 16) {
            Bytes sixteen = ((const Bytes*)pixels)[k];
            for (int i = 0; i < 16; ++i) atomicAdd(mine + sixteen.at[i], 1);
        }
    } else {
        FOR_BLOCK(k, size) atomicAdd(mine + pixels[k], 1);
    }
    sync_block();
}

KERNEL otsu_threshold_frames(const u8* __restrict__ edges, int* __restrict__ frames, i64 count, int pixels) {
    __shared__ int bins[COPIES * BINS];
    int copies = blockDim.x / WARP;
    int chunks = (pixels + CHUNK - 1) / CHUNK;
    FOR_BLOCKS(item, count * chunks) {
        i64 frame = item / chunks;
        int begin = (int)(item % chunks) * CHUNK, size = smaller(CHUNK, pixels - begin);
        clear(bins, copies * BINS);
        tally(edges + frame * pixels + begin, size, aligned(edges, pixels), bins);
        FOR_BLOCK(bin, BINS) {
            int sum = 0;
            for (int copy = 0; copy < copies; ++copy) sum += bins[copy * BINS + bin];
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

DEVICE void load(const int* frame, int* counts) {
    for (int k = 0; k < PER; k += 4) {
        Quad four = *(const Quad*)(frame + lane_id() * PER + k);
        for (int i = 0; i < 4; ++i) counts[k + i] = four.at[i];
    }
}

// The window around the top left corner of a tile: its tiles of the rows x columns there are.
DEVICE void load(const u16* tiles, int row, int column, int rows, int columns, int* counts) {
    u32 pairs[PER / 2];
    for (int k = 0; k < PER / 2; ++k) pairs[k] = 0;
#pragma unroll
    for (int i = 0; i < ACROSS * ACROSS; ++i) {
        int y = row + i / ACROSS - ACROSS / 2, x = column + i % ACROSS - ACROSS / 2;
        if (y < 0 || y >= rows || x < 0 || x >= columns) continue;
        const u16* tile = tiles + ((i64)y * columns + x) * BINS + lane_id() * PER;
        for (int k = 0; k < PER / 2; k += 4) {
            Words four = *(const Words*)(tile + 2 * k);
            for (int j = 0; j < 4; ++j) pairs[k + j] += four.at[j];  // no half ever runs over
        }
    }
    for (int k = 0; k < PER / 2; ++k) {
        counts[2 * k] = pairs[k] & 0xffff;
        counts[2 * k + 1] = pairs[k] >> 16;
    }
}

KERNEL otsu_threshold_split(const u16* __restrict__ tiles, const int* __restrict__ frames, int* __restrict__ levels,
                            int* __restrict__ overall, i64 count, int rows, int columns) {
    i64 windows = count * rows * columns;
    i64 warps = (i64)gridDim.x * (blockDim.x / WARP);
    for (i64 item = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / WARP; item < count + windows; item += warps) {
        int counts[PER];
        if (item < count) {
            load(frames + item * BINS, counts);
            Split best = best_split<u64>(counts, 0);
            if (lane_id() == 0) overall[item] = best.level;
            continue;
        }
        i64 window = item - count, frame = window / ((i64)rows * columns);
        int row = (int)(window / columns % rows), column = (int)(window % columns);
        load(tiles + frame * (rows - 1) * (columns - 1) * BINS, row, column, rows - 1, columns - 1, counts);
        Split best = best_split<u32>(counts, 0);
        if (lane_id() == 0) levels[window] = best.variance > FLAT_VARIANCE * best.square ? best.level : -1;
    }
}

// -- pixels -----------------------------------------------------------------------------------------------------------

struct Corners {
    float left, right;  // the levels to both sides, at the height of a row
};

DEVICE float level_at(const int* levels, int at, int overall) { return (float)(levels[at] < 0 ? overall : levels[at]); }

// The levels to both sides of a pixel.
DEVICE Corners corners(const int* levels, int overall, int y, int x, int columns) {
    const int* above = levels + y / TILE * columns + x / TILE;
    const int* below = above + columns;
    float down = (y % TILE * 2 + 1) / (2.0f * TILE);
    Corners around;
    around.left = level_at(above, 0, overall) * (1 - down) + level_at(below, 0, overall) * down;
    around.right = level_at(above, 1, overall) * (1 - down) + level_at(below, 1, overall) * down;
    return around;
}

// GROUP pixels of one tile at once.
template <int GROUP>
DEVICE void binarise(const u8* edges, const int* levels, const int* overall, u8* mask, i64 count, int height, int width,
                     int rows, int columns, float share) {
    int across = width / GROUP;
    FOR_GRID(i, count * height * across) {
        int x = (int)(i % across) * GROUP, y = (int)(i / across % height);
        i64 frame = i / across / height;
        Corners around = {(float)overall[frame], (float)overall[frame]};
        if (rows) around = corners(levels + frame * rows * columns, overall[frame], y, x, columns);
        Pack<u8, GROUP> pixels = *(const Pack<u8, GROUP>*)(edges + i * GROUP), result;
        for (int k = 0; k < GROUP; ++k) {
            float along = ((x + k) % TILE * 2 + 1) / (2.0f * TILE);
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
