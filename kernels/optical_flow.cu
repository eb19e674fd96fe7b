// Dense optical flow, coarse to fine: inverse search of patches, blended and smoothed; and what it cannot follow.
//
// Input   source, target  u8 [N, H, W], a level of both pictures' pyramids
//         forward, backward  float [N, H, W, 2], flows between two pictures, for occlude
// Output  flow      float [N, H, W, 2], (dx, dy) px: where in target each pixel of source is
//         patches   float [N, ROWS, COLUMNS, 2], the motion of patches of 8 x 8 pixels, the first half outside the
//                   picture and each STRIDE px on: every pixel lies in 2 x 2 of them
//         warped    int [N, H, W], target where the flow says, in 1/16 level
//         stiff     float [N, H, W], how much each pixel wants to move as its neighbours do
//         terms     float [N, 5, H, W], the pixel's own two equations: a11, a12, a22, b1, b2
//         hidden    u8 [N, H, W], 1 where forward and backward do not agree
//
// Passes  halve     a level of the pyramid from the one below it
//         enlarge   a flow at twice the size
//         search    a warp a patch: the best of its own and its neighbours' motions, then Gauss-Newton steps
//         blend     each pixel's flow from the patches around it, those that fit it best weighing most
//         warp      warped and stiff
//         equations the pixel's equations: gradients should not change along the flow
//         relax     a block a tile: red-black sweeps over a border wide enough that the tile is what it would be if
//                   the whole picture had been swept
//         occlude   forward-backward check
//
// Costs and products of a patch are whole numbers, so a warp may add them in any order; floats are Real, below, so that
// nothing is fused. All is the same to the last bit as in the torch reference.
//
// Source  search and blend: Kroeger et al. 2016 (DIS); the equations: Brox et al. 2004, Zimmer et al. 2011 (their
//         normalisation); occlude: Sundaram et al. 2010. Differs: patches ask their neighbours (Barnes et al. 2009),
//         several rounds; only gradients are compared, not levels, so a change of light costs nothing.
// Bytes   per pixel of a level: enlarge 10; search 3 a round, and much from L1; blend 10; warp 17, equations 33, relax
//         40, which reads its borders 2.25 times through L2. Halve 1.25, occlude 17.
#include "common.cuh"

#define PATCH 8
#define STRIDE 4
#define PER (PATCH * PATCH / WARP)  // pixels of a lane
#define STEPS 4                    // Gauss-Newton steps of a round
#define DAMPING 4                  // of a step, in squared levels: keeps patches without texture where they are
#define SWEEPS 4                   // of relax, each red and black
#define TILE 32
#define BORDER (2 * SWEEPS)
#define SPAN (TILE + 2 * BORDER)

// A float whose products are never fused with a sum: the reference's numbers to the last bit.
struct Real {
    float is;
};
DEVICE Real real(float value) { return Real{value}; }
DEVICE Real operator*(Real a, Real b) { return Real{__fmul_rn(a.is, b.is)}; }
DEVICE Real operator+(Real a, Real b) { return Real{__fadd_rn(a.is, b.is)}; }
DEVICE Real operator-(Real a, Real b) { return Real{__fadd_rn(a.is, -b.is)}; }
DEVICE Real operator/(Real a, Real b) { return Real{a.is / b.is}; }
DEVICE Real root(Real a) { return Real{sqrtf(a.is)}; }

struct alignas(8) Motion {
    Real x, y;
};

DEVICE int clamped(int at, int length) { return smaller(larger(at, 0), length - 1); }

// A picture read with its border going on for ever.
template <typename T>
struct Picture {
    const T* pixels;
    int height, width;
    MEMBER T operator()(int y, int x) const {
        return pixels[(i64)clamped(y, height) * width + clamped(x, width)];
    }
};

// -- pyramid ----------------------------------------------------------------------------------------------------------

KERNEL optical_flow_halve(const u8* __restrict__ picture, u8* __restrict__ half, i64 count, int height, int width) {
    int rows = (height + 1) / 2, columns = (width + 1) / 2;
    FOR_GRID(i, count * rows * columns) {
        int x = (int)(i % columns) * 2, y = (int)(i / columns % rows) * 2;
        Picture<u8> at = {picture + i / columns / rows * height * width, height, width};
        half[i] = (u8)((at(y, x) + at(y + 1, x) + at(y, x + 1) + at(y + 1, x + 1) + 2) >> 2);
    }
}

DEVICE Real mixed(Real near, Real far) { return near * real(0.75f) + far * real(0.25f); }
DEVICE Motion mixed(Motion near, Motion far) { return Motion{mixed(near.x, far.x), mixed(near.y, far.y)}; }

KERNEL optical_flow_enlarge(const float* __restrict__ flow, float* __restrict__ twice, i64 count, int height,
                            int width) {
    int rows = (height + 1) / 2, columns = (width + 1) / 2;
    FOR_GRID(i, count * height * width) {
        int x = (int)(i % width), y = (int)(i / width % height);
        Picture<Motion> at = {(const Motion*)flow + i / width / height * rows * columns, rows, columns};
        int left = x / 2, above = y / 2, beside = left + (x % 2 ? 1 : -1), beyond = above + (y % 2 ? 1 : -1);
        Motion near = mixed(at(above, left), at(above, beside)), far = mixed(at(beyond, left), at(beyond, beside));
        Motion both = mixed(near, far);
        ((Motion*)twice)[i] = Motion{both.x * real(2), both.y * real(2)};
    }
}

struct Fixed {
    int x, y;  // 1/256 px
};
DEVICE int fixed(Real px) {
    Real scaled = px * real(256) + real(0.5f);
    return (int)floorf(smaller(larger(scaled.is, -1073741824.0f), 1073741824.0f));  // 2^30
}
DEVICE Fixed fixed(Motion motion) { return Fixed{fixed(motion.x), fixed(motion.y)}; }

// The picture at a pixel moved, in 1/16 level.
DEVICE int sample(Picture<u8> at, int y, int x, Fixed by) {
    int right = x * 256 + by.x, down = y * 256 + by.y;
    x = right >> 8;
    y = down >> 8;
    right &= 255;
    down &= 255;
    int above = at(y, x) * (256 - right) + at(y, x + 1) * right;
    int below = at(y + 1, x) * (256 - right) + at(y + 1, x + 1) * right;
    return (above * (256 - down) + below * down + 2048) >> 12;
}

// -- patches ----------------------------------------------------------------------------------------------------------

// A patch of source, spread over a warp.
struct Patch {
    int top, left, pixels;             // pixels in the picture
    int level[PER], gx[PER], gy[PER];  // of the lane's pixels: 1/16 level; differences over 2 px, 0 outside
    bool inside[PER];
    i64 sum_x, sum_y;
    Real xx, xy, yy, determinant;
};

// What a motion leaves of a patch: pixels * sum r^2 - (sum r)^2, and the right sides of its equations.
struct Left {
    i64 cost, x, y;
};

DEVICE void load(Patch& patch, Picture<u8> source, int top, int left) {
    int pixels = 0, x = 0, y = 0, xx = 0, xy = 0, yy = 0;
    for (int k = 0; k < PER; ++k) {
        int i = k * WARP + lane_id(), row = top + i / PATCH, column = left + i % PATCH;
        bool inside = row >= 0 && row < source.height && column >= 0 && column < source.width;
        int gx = inside ? source(row, column + 1) - source(row, column - 1) : 0;
        int gy = inside ? source(row + 1, column) - source(row - 1, column) : 0;
        patch.level[k] = source(row, column) * 16;
        patch.inside[k] = inside;
        patch.gx[k] = gx;
        patch.gy[k] = gy;
        pixels += inside;
        x += gx;
        y += gy;
        xx += gx * gx;
        xy += gx * gy;
        yy += gy * gy;
    }
    patch.top = top;
    patch.left = left;
    i64 n = patch.pixels = warp_sum(pixels);
    i64 sx = patch.sum_x = warp_sum(x), sy = patch.sum_y = warp_sum(y);
    Real damping = real((float)(DAMPING * n * n));
    patch.xx = real((float)(n * warp_sum(xx) - sx * sx)) + damping;
    patch.yy = real((float)(n * warp_sum(yy) - sy * sy)) + damping;
    patch.xy = real((float)(n * warp_sum(xy) - sx * sy));
    patch.determinant = patch.xx * patch.yy - patch.xy * patch.xy;
}

DEVICE Left compare(const Patch& patch, Picture<u8> target, Motion motion) {
    Fixed by = fixed(motion);
    int sum = 0, squares = 0, x = 0, y = 0;
    for (int k = 0; k < PER; ++k) {
        int i = k * WARP + lane_id();
        int r = sample(target, patch.top + i / PATCH, patch.left + i % PATCH, by) - patch.level[k];
        if (!patch.inside[k]) r = 0;
        sum += r;
        squares += r * r;
        x += r * patch.gx[k];
        y += r * patch.gy[k];
    }
    i64 n = patch.pixels, s = warp_sum(sum);
    return Left{n * warp_sum(squares) - s * s, n * warp_sum(x) - s * patch.sum_x, n * warp_sum(y) - s * patch.sum_y};
}

DEVICE bool is_far(Motion a, Motion b) {
    Real x = a.x - b.x, y = a.y - b.y;
    return !(x.is <= PATCH && x.is >= -PATCH && y.is <= PATCH && y.is >= -PATCH);
}

// Steps from a motion, as long as each makes the patch fit better and stays near.
DEVICE Motion descend(const Patch& patch, Picture<u8> target, Motion start) {
    Motion motion = start, best = start;
    i64 lowest = 0x7fffffffffffffffLL;
    for (int step = 0; step <= STEPS; ++step) {
        Left left = compare(patch, target, motion);
        if (left.cost >= lowest || is_far(motion, start)) break;
        lowest = left.cost;
        best = motion;
        Real x = real((float)left.x), y = real((float)left.y);
        motion.x = motion.x - (patch.yy * x - patch.xy * y) / patch.determinant * real(0.125f);
        motion.y = motion.y - (patch.xx * y - patch.xy * x) / patch.determinant * real(0.125f);
    }
    return best;
}

KERNEL optical_flow_search(const u8* __restrict__ source, const u8* __restrict__ target,
                           const float* __restrict__ before, float* __restrict__ patches, i64 count, int height,
                           int width) {
    int rows = (height + STRIDE - 1) / STRIDE + 1, columns = (width + STRIDE - 1) / STRIDE + 1;
    i64 warps = (i64)gridDim.x * (blockDim.x / WARP);
    for (i64 item = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / WARP; item < count * rows * columns; item += warps) {
        int column = (int)(item % columns), row = (int)(item / columns % rows);
        i64 frame = item / columns / rows;
        Picture<u8> from = {source + frame * height * width, height, width};
        Picture<u8> to = {target + frame * height * width, height, width};
        Picture<Motion> motions = {(const Motion*)before + frame * rows * columns, rows, columns};
        Patch patch;
        load(patch, from, row * STRIDE - STRIDE, column * STRIDE - STRIDE);
        Motion start = motions(row, column);
        i64 lowest = compare(patch, to, start).cost;
        for (int k = 0; k < 4; ++k) {  // left, right, above, below
            Motion other = motions(row + (k < 2 ? 0 : k * 2 - 5), column + (k < 2 ? k * 2 - 1 : 0));
            i64 cost = compare(patch, to, other).cost;
            if (cost < lowest) {
                lowest = cost;
                start = other;
            }
        }
        Motion best = descend(patch, to, start);
        if (lane_id() == 0) ((Motion*)patches)[item] = best;
    }
}

// -- pixels -----------------------------------------------------------------------------------------------------------

KERNEL optical_flow_blend(const u8* __restrict__ source, const u8* __restrict__ target,
                          const float* __restrict__ patches, float* __restrict__ flow, i64 count, int height,
                          int width) {
    int rows = (height + STRIDE - 1) / STRIDE + 1, columns = (width + STRIDE - 1) / STRIDE + 1;
    FOR_GRID(i, count * height * width) {
        int x = (int)(i % width), y = (int)(i / width % height);
        i64 frame = i / width / height;
        Picture<u8> to = {target + frame * height * width, height, width};
        const Motion* around = (const Motion*)patches + (frame * rows + y / STRIDE) * columns + x / STRIDE;
        Real dx = real(0), dy = real(0), total = real(0);
        for (int k = 0; k < 4; ++k) {
            Motion motion = around[k / 2 * columns + k % 2];
            int off = sample(to, y, x, fixed(motion)) - source[i] * 16;
            Real weight = real(16) / real((float)larger(larger(off, -off), 16));
            dx = dx + weight * motion.x;
            dy = dy + weight * motion.y;
            total = total + weight;
        }
        ((Motion*)flow)[i] = Motion{dx / total, dy / total};
    }
}

#define TENTH 0.1f        // squared levels per px^2: gradients below its root are noise
#define MILLIONTH 1e-6f   // keeps roots from 0
#define THOUSANDTH 1e-3f  // pull towards the flow there was: a lone pixel has no other equation

KERNEL optical_flow_warp(const u8* __restrict__ target, const float* __restrict__ flow, int* __restrict__ warped,
                         float* __restrict__ stiff, i64 count, int height, int width) {
    FOR_GRID(i, count * height * width) {
        int x = (int)(i % width), y = (int)(i / width % height);
        i64 first = i / width / height * height * width;
        Picture<u8> to = {target + first, height, width};
        Picture<Motion> at = {(const Motion*)flow + first, height, width};
        warped[i] = sample(to, y, x, fixed(at(y, x)));
        Motion left = at(y, x - 1), right = at(y, x + 1), above = at(y - 1, x), below = at(y + 1, x);
        Real xx = (right.x - left.x) * real(0.5f), yx = (right.y - left.y) * real(0.5f);
        Real xy = (below.x - above.x) * real(0.5f), yy = (below.y - above.y) * real(0.5f);
        Real change = xx * xx + yx * yx + xy * xy + yy * yy + real(MILLIONTH);
        stiff[i] = (real(2) / root(change)).is;
    }
}

// Of the mean of both pictures the differences over 2 px, and of their difference.
struct Slopes {
    Picture<u8> source;
    Picture<int> warped;
    MEMBER int mean(int y, int x) const { return source(y, x) * 16 + warped(y, x); }
    MEMBER int change(int y, int x) const { return warped(y, x) - source(y, x) * 16; }
    MEMBER int along_x(int y, int x) const {
        return mean(y, clamped(x, source.width) + 1) - mean(y, clamped(x, source.width) - 1);
    }
    MEMBER int along_y(int y, int x) const {
        return mean(clamped(y, source.height) + 1, x) - mean(clamped(y, source.height) - 1, x);
    }
};

KERNEL optical_flow_equations(const u8* __restrict__ source, const int* __restrict__ warped,
                              const float* __restrict__ flow, float* __restrict__ terms, i64 count, int height,
                              int width) {
    i64 plane = (i64)height * width;
    FOR_GRID(i, count * plane) {
        int x = (int)(i % width), y = (int)(i / width % height);
        i64 frame = i / plane;
        Slopes at = {{source + frame * plane, height, width}, {warped + frame * plane, height, width}};
        Real second = real(1.0f / 128), first = real(1.0f / 32);
        Real xx = real((float)(at.along_x(y, x + 1) - at.along_x(y, x - 1))) * second;
        Real xy = real((float)(at.along_x(y + 1, x) - at.along_x(y - 1, x))) * second;
        Real yy = real((float)(at.along_y(y + 1, x) - at.along_y(y - 1, x))) * second;
        Real xt = real((float)(at.change(y, x + 1) - at.change(y, x - 1))) * first;
        Real yt = real((float)(at.change(y + 1, x) - at.change(y - 1, x))) * first;
        Real nx = xx * xx + xy * xy + real(TENTH), ny = xy * xy + yy * yy + real(TENTH);
        Real size = root(xt * xt / nx + yt * yt / ny + real(MILLIONTH));
        Real wx = real(1) / (size * nx), wy = real(1) / (size * ny);
        Real a11 = wx * xx * xx + wy * xy * xy + real(THOUSANDTH);
        Real a22 = wx * xy * xy + wy * yy * yy + real(THOUSANDTH);
        Real a12 = wx * xx * xy + wy * xy * yy;
        Motion now = ((const Motion*)flow)[i];
        float* own = terms + frame * 5 * plane + i % plane;
        own[0] = a11.is;
        own[plane] = a12.is;
        own[2 * plane] = a22.is;
        own[3 * plane] = (a11 * now.x + a12 * now.y - (wx * xx * xt + wy * xy * yt)).is;
        own[4 * plane] = (a12 * now.x + a22 * now.y - (wx * xy * xt + wy * yy * yt)).is;
    }
}

// One pixel's equations solved with its neighbours as they are, and past that (over-relaxed). `at` points to the
// pixel's motion in a row of SPAN, `own` to its terms, `stiff` to its stiffness.
DEVICE void relax(Motion* at, const float* own, const float* stiff, int y, int x, int height, int width) {
    i64 plane = (i64)height * width;
    int steps[4] = {1, -1, SPAN, -SPAN}, jumps[4] = {1, -1, width, -width};
    bool there[4] = {x + 1 < width, x > 0, y + 1 < height, y > 0};
    Real total = real(0), dx = real(0), dy = real(0);
    for (int k = 0; k < 4; ++k) {
        if (!there[k]) continue;
        Real weight = (real(stiff[0]) + real(stiff[jumps[k]])) * real(0.5f);
        Motion other = at[steps[k]];
        total = total + weight;
        dx = dx + weight * other.x;
        dy = dy + weight * other.y;
    }
    Real a11 = real(own[0]) + total, a12 = real(own[plane]), a22 = real(own[2 * plane]) + total;
    Real b1 = real(own[3 * plane]) + dx, b2 = real(own[4 * plane]) + dy;
    Real determinant = a11 * a22 - a12 * a12;
    Motion now = *at;
    at->x = now.x + ((a22 * b1 - a12 * b2) / determinant - now.x) * real(1.75f);
    at->y = now.y + ((a11 * b2 - a12 * b1) / determinant - now.y) * real(1.75f);
}

KERNEL optical_flow_relax(const float* __restrict__ terms, const float* __restrict__ stiff,
                          const float* __restrict__ before, float* __restrict__ flow, i64 count, int height,
                          int width) {
    __shared__ Motion tile[SPAN * SPAN];
    int rows = (height + TILE - 1) / TILE, columns = (width + TILE - 1) / TILE;
    i64 plane = (i64)height * width;
    FOR_BLOCKS(item, count * rows * columns) {
        int top = (int)(item / columns % rows) * TILE - BORDER, left = (int)(item % columns) * TILE - BORDER;
        i64 frame = item / columns / rows;
        Picture<Motion> from = {(const Motion*)before + frame * plane, height, width};
        FOR_BLOCK(i, SPAN * SPAN) tile[i] = from(top + i / SPAN, left + i % SPAN);
        sync_block();
        for (int half = 0; half < 2 * SWEEPS; ++half) {
            FOR_BLOCK(i, SPAN * SPAN / 2) {
                int row = i / (SPAN / 2), y = top + row, column = i % (SPAN / 2) * 2;
                column += (y + left + half) & 1;  // red where y + x is even
                int x = left + column;
                bool rim = row == 0 || row == SPAN - 1 || column == 0 || column == SPAN - 1;
                if (rim || y < 0 || y >= height || x < 0 || x >= width) continue;
                i64 at = (i64)y * width + x;
                relax(tile + row * SPAN + column, terms + frame * 5 * plane + at, stiff + frame * plane + at, y, x,
                      height, width);
            }
            sync_block();
        }
        FOR_BLOCK(i, TILE * TILE) {
            int row = BORDER + i / TILE, column = BORDER + i % TILE, y = top + row, x = left + column;
            if (y < height && x < width)
                ((Motion*)flow)[frame * plane + (i64)y * width + x] = tile[row * SPAN + column];
        }
        sync_block();
    }
}

// -- what cannot be followed ------------------------------------------------------------------------------------------

DEVICE Real between(Real a, Real b, Real share) { return a + (b - a) * share; }
DEVICE Motion between(Motion a, Motion b, Real share) {
    return Motion{between(a.x, b.x, share), between(a.y, b.y, share)};
}

KERNEL optical_flow_occlude(const float* __restrict__ forward, const float* __restrict__ backward,
                            u8* __restrict__ hidden, i64 count, int height, int width, float share, float slack) {
    FOR_GRID(i, count * height * width) {
        Real x = real((float)(i % width)), y = real((float)(i / width % height));
        Picture<Motion> back = {(const Motion*)backward + i / width / height * height * width, height, width};
        Motion there = ((const Motion*)forward)[i];
        Real to_x = x + there.x, to_y = y + there.y;
        bool out = !(to_x.is >= -0.5f && to_y.is >= -0.5f && to_x.is <= width - 0.5f && to_y.is <= height - 0.5f);
        hidden[i] = 1;
        if (out) continue;
        float left = floorf(to_x.is), above = floorf(to_y.is);
        Real along = to_x - real(left), down = to_y - real(above);
        int column = (int)left, row = (int)above;
        Motion up = between(back(row, column), back(row, column + 1), along);
        Motion low = between(back(row + 1, column), back(row + 1, column + 1), along);
        Motion home = between(up, low, down);
        Real dx = there.x + home.x, dy = there.y + home.y;
        Real lengths = there.x * there.x + there.y * there.y + (home.x * home.x + home.y * home.y);
        hidden[i] = (dx * dx + dy * dy).is > (real(share) * lengths + real(slack)).is;
    }
}
