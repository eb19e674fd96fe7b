// What speaks for each object at each pixel: carried here, alike, moving, near; drawn to regions and to colours; and
// the map that comes of it. One frame at a time, for each depends on the one before.
//
// Input   shares   float [K, h, w] of the frame before; slots int [h, w] of it, 0 the background, below S
//         flow     float [h, w, 2] px to the frame before; own float [2, h, w] px, beside the camera's motion
//         moving   float [h, w], log-odds that a pixel moves by itself
//         trust    float [h, w], 0..1: how far what was carried says something of named objects
//         look     float [K + 1, h', w'] probabilities, 0 the background's
//         classes  float [K, 4]: 1 for what has no name (FOUND, at most one) or 0; lost where more than half was
//                  carried of fewer px; 1 if its look is known; partly hidden where more than half was carried of fewer
//         members  float [K], each class's slot
//         facts    float [S, 3] of slots: the largest share that ever moved; 1 if seen long enough to have moved; 1 for
//                  those of named objects
//         weights  float [WEIGHTS], see stages/object_evidence.py
//         ids      int [h, w] finest regions below R; into, at int [R], how they join; rgb u8 [3, h, w]
// Between before float [K, h, w], carried int [h, w], bits int [h, w]: bit k where class k's core is, bit K where
//         anything is; nears float [K + 1, h, w], which weigh opens where somebody comes out;
//         tally i64 [TALLY of K and S]; medians float [K, 2] px
// Output  shares   float [K, h, w]; map int [h, w]: a slot, or minus the number of a piece of FOUND; overlap i64 [P, S]
// Passes  carry, median, reach_rows, reach_columns, weigh, join, mean, shrink, fit, spread, draw, smooth: the shares
//         split, settle, name: the map
// Source  Felzenszwalb and Huttenlocher 2012 (a distance by columns of distances by rows); He and Sun 2015 (a guided
//         filter on a coarse grid); Tomasi and Manduchi 1998 (a bilateral filter).
// Bytes   about 70 a pixel and class, and 20 a pixel. Sums are whole numbers, of 1 / UNIT: the same in every order.
#include "common.cuh"

#ifndef UNIT
#define UNIT 1048576.0f
#endif
#ifndef BINS
#define BINS 8192  // of a median
#endif
#ifndef BINS_A_PX
#define BINS_A_PX 64
#endif
#ifndef LEVELS
#define LEVELS 6
#endif
#ifndef MOST_CLASSES
#define MOST_CLASSES 30
#endif
#ifndef FAR_AWAY
#define FAR_AWAY 30000  // no pixel of a row is of the mask
#endif

// What weights holds, in this order.
enum Weight {
    SCALE,  // of 240 lines
    CARRIED_WEIGHT,
    FOUND_CARRIED_WEIGHT,  // where nobody has a name
    LOOK_WEIGHT,
    NOT_FOUND,
    LOST_PRIOR,
    LOST_MOTION_WEIGHT,
    SEPARATE_PX,
    SEPARATE_FULL_PX,
    RELIABLE,
    RELIABLE_FULL,
    ALIKE_WEIGHT,
    STEEPNESS,
    STILL_TIMES,
    MOVING_SHARE,
    MOVED_SHARE,
    NEWCOMER_ODDS,
    BORDER,
    BORDER_INSIDE,
    BORDER_SHARE,
    NEAR_PX,  // of this picture
    TIE,
    SNAP,
    LEAST_SPREAD,
    FIRMNESS,
    DETAIL,
    EPS,
    SMOOTH_SPACE_PX,
    SMOOTH_COLOR_DISTANCE,
    SPECK_SHARE,
    SPECK_PX
};

// What is known beside the maps; bits of one number.
enum Known { HAS_SHARES = 1, HAS_SLOTS = 2, HAS_MOTION = 4, HAS_LOOK = 8, EAGER = 16, HAS_TRUST = 32 };

// Where tally keeps what: for each class its core's pixels as it was carried, those of them that move as it, the pixels
// around, those of them that do not; later its own pixels, and those that specks left. Then of all classes the rest's
// pixels; then for each slot its pixels and those that move.
enum Tally { CORE, CORE_ALIKE, AROUND, AROUND_ELSE, PIXELS, LEFT, PER_CLASS };
DEVICE int rest_at(int classes) { return classes * PER_CLASS; }
DEVICE int slot_at(int classes, int slot) { return classes * PER_CLASS + 1 + 2 * slot; }

DEVICE int clamped(int at, int size) { return at < 0 ? 0 : at < size ? at : size - 1; }
// NaN is low.
DEVICE float bounded(float value, float low, float high) { return !(value >= low) ? low : value > high ? high : value; }
DEVICE i64 units(float value) { return (i64)(value * UNIT + 0.5f); }
DEVICE float log_weighed(float probability, float weight) { return weight * logf(bounded(probability, 0.03f, 0.97f)); }

// What was carried as a share, drawn to one half as far as it cannot be trusted.
DEVICE float doubted(float share, float trust) { return 0.5f + trust * (share - 0.5f); }

// Adds to a count for the lanes of a warp that hold the predicate; all lanes must call.
DEVICE void count_lanes(i64* at, bool predicate) {
    u32 lanes = warp_ballot(predicate);
    if (lanes && lane_id() == 0) atomicAdd((u64*)at, (u64)count_bits(lanes));
}

// What classes holds of each.
enum OfClass { IS_FOUND, LOST_BELOW_PX, LOOK_IS_KNOWN, HIDDEN_BELOW_PX, PER_ONE };
DEVICE bool is_found(const float* classes, int k) { return classes[PER_ONE * k + IS_FOUND] != 0.0f; }
DEVICE bool has_known_look(const float* classes, int k) { return classes[PER_ONE * k + LOOK_IS_KNOWN] != 0.0f; }

DEVICE bool is_lost(const i64* tally, const float* classes, int k) {
    return !is_found(classes, k) && (float)tally[k * PER_CLASS + CORE] < classes[PER_ONE * k + LOST_BELOW_PX];
}

DEVICE bool is_hidden(const i64* tally, const float* classes, int k) {
    return (float)tally[k * PER_CLASS + CORE] < classes[PER_ONE * k + HIDDEN_BELOW_PX];
}

// Whether nothing that moves by itself is followed, though the shot had the time to show it.
DEVICE bool nobody_found(const i64* tally, const float* facts, int count, int many, int known) {
    bool nobody = (known & HAS_SLOTS) && !(known & EAGER);
    for (int slot = 1; slot < many && nobody; ++slot)
        nobody = facts[3 * slot + 2] != 0.0f || tally[slot_at(count, slot)] == 0;
    return nobody;
}

// With shares but without flow all stays where it is. Between pixels a mean of four; labels of the nearest. What a warp
// has to count it counts together: neighbours are mostly of one slot, and would wait for each other.
KERNEL object_evidence_carry(const float* __restrict__ shares, const int* __restrict__ slots,
                             const float* __restrict__ flow, const float* __restrict__ own,
                             const float* __restrict__ moving, const float* __restrict__ classes,
                             float* __restrict__ before, int* __restrict__ carried, int* __restrict__ bits,
                             i64* __restrict__ tally, int* __restrict__ bins, int count, int many, int height,
                             int width, int known, int flows) {
    const i64 plane = (i64)height * width;
    FOR_GRID_WARPS(at, plane) {
        bool inside = at < plane;
        int y = (int)(at / width), x = (int)(at - (i64)y * width), slot = 0;
        // At the border at most: beyond it an int would overflow, and what is between pixels would be no number.
        float to_x = bounded((float)x + (flows && inside ? flow[2 * at] : 0.0f), -1.0f, (float)width);
        float to_y = bounded((float)y + (flows && inside ? flow[2 * at + 1] : 0.0f), -1.0f, (float)height);
        float left = floorf(to_x), top = floorf(to_y), right_part = to_x - left, lower_part = to_y - top;
        int x0 = clamped((int)left, width), x1 = clamped((int)left + 1, width);
        int y0 = clamped((int)top, height), y1 = clamped((int)top + 1, height);
        u32 here = 0;
        for (int k = 0; k < count && (known & HAS_SHARES); ++k) {
            float share = 0.0f;
            if (inside) {
                const float* from = shares + k * plane;
                float upper = from[(i64)y0 * width + x0] * (1 - right_part) + from[(i64)y0 * width + x1] * right_part;
                float lower = from[(i64)y1 * width + x0] * (1 - right_part) + from[(i64)y1 * width + x1] * right_part;
                share = upper * (1 - lower_part) + lower * lower_part;
                before[k * plane + at] = share;
            }
            count_lanes(tally + k * PER_CLASS + CORE, share > 0.5f);
            if (!(share > 0.5f)) continue;  // no lane has to wait from here on
            here |= 1u << k;
            if (!(known & HAS_MOTION) || is_found(classes, k)) continue;
            for (int axis = 0; axis < 2; ++axis) {
                float bin = floorf(own[axis * plane + at] * BINS_A_PX) + BINS / 2;
                atomicAdd(bins + (2 * k + axis) * BINS + (int)bounded(bin, 0.0f, BINS - 1.0f), 1);
            }
        }
        if (known & HAS_SLOTS) {
            if (inside) {
                int from_x = clamped(__float2int_rn(to_x), width), from_y = clamped(__float2int_rn(to_y), height);
                carried[at] = slot = slots[(i64)from_y * width + from_x];
            }
            bool counts = slot > 0 && slot < many;
            Run run = warp_run(slot, false);
            u32 moves = warp_ballot(counts && (known & HAS_MOTION) && moving[at] > 0.0f);
            if (counts) here |= 1u << count;
            if (counts && lane_id() == run.first) {
                i64* of_slot = tally + slot_at(count, slot);
                atomicAdd((u64*)of_slot, (u64)run.length);
                moves &= lanes_up_to(run.first + run.length - 1) & ~(run.first ? lanes_up_to(run.first - 1) : 0u);
                if (moves) atomicAdd((u64*)(of_slot + 1), (u64)count_bits(moves));
            }
        }
        if (inside) bits[at] = (int)here;
    }
}

// The bin of the number of that rank, of a row of bins whose first `threads` sums are known.
DEVICE int ranked(const int* row, const int* sums, int chunk, int rank) {
    int part = 0, at = 0;
    while (part < (int)blockDim.x - 1 && rank >= sums[part]) rank -= sums[part++];
    for (at = part * chunk; at < BINS - 1 && rank >= row[at]; ++at) rank -= row[at];
    return at;
}

// The median motion of each class's core, the mean of the middle two where they are even; a block for each coordinate.
KERNEL object_evidence_median(const int* __restrict__ bins, float* __restrict__ medians, int count) {
    __shared__ int sums[1024];
    FOR_BLOCKS(item, 2 * count) {
        const int* row = bins + item * BINS;
        int chunk = (BINS + blockDim.x - 1) / blockDim.x, sum = 0;
        for (int i = 0; i < chunk; ++i) {
            int at = (int)threadIdx.x * chunk + i;
            if (at < BINS) sum += row[at];
        }
        sums[threadIdx.x] = sum;
        sync_block();
        if (threadIdx.x == 0) {
            int total = 0;
            for (int i = 0; i < (int)blockDim.x; ++i) total += sums[i];
            int middle = ranked(row, sums, chunk, (total - 1) / 2) + ranked(row, sums, chunk, total / 2);
            medians[item] = total ? ((float)(middle + 1) / 2 - BINS / 2) / BINS_A_PX : 0.0f;
        }
        sync_block();
    }
}

// Of each pixel and each bit the px along the row to the nearest pixel that has it, up to reach.
KERNEL object_evidence_reach_rows(const int* __restrict__ bits, u16* __restrict__ rows, int masks, int height,
                                  int width, int reach) {
    const i64 plane = (i64)height * width;
    FOR_GRID(at, plane) {
        int x = (int)(at % width);
        const int* line = bits + (at - x);
        u32 found = 0, wanted = masks >= 32 ? 0xffffffffu : (1u << masks) - 1u;
        for (int k = 0; k < masks; ++k) rows[k * plane + at] = FAR_AWAY;
        for (int apart = 0; apart <= reach && found != wanted; ++apart) {
            u32 here = x - apart >= 0 ? (u32)line[x - apart] : 0u;
            if (x + apart < width) here |= (u32)line[x + apart];
            for (u32 fresh = here & wanted & ~found; fresh; fresh &= fresh - 1u)
                rows[lowest_bit(fresh) * plane + at] = (u16)apart;
            found |= here & wanted;
        }
    }
}

// How near, 0..1, each mask is; and of named objects, how their motion tells them from what is around.
KERNEL object_evidence_reach_columns(const u16* __restrict__ rows, const int* __restrict__ bits,
                                     const float* __restrict__ own, const float* __restrict__ classes,
                                     const float* __restrict__ weights, const float* __restrict__ medians,
                                     float* __restrict__ nears, i64* __restrict__ tally, int count, int height,
                                     int width, int reach, int known) {
    const i64 plane = (i64)height * width;
    FOR_GRID_WARPS(at, plane) {
        bool inside = at < plane;
        int y = (int)(at / width);
        for (int k = 0; k <= count; ++k) {
            float near = 0.0f;
            if (inside) {
                const u16* column = rows + k * plane + at;
                int best = 1 << 30;
                for (int apart = 0; apart <= reach && apart * apart < best; ++apart) {
                    if (y >= apart) {
                        int across = column[-(i64)apart * width];
                        if (across != FAR_AWAY) best = smaller(best, across * across + apart * apart);
                    }
                    if (y + apart < height) {
                        int across = column[(i64)apart * width];
                        if (across != FAR_AWAY) best = smaller(best, across * across + apart * apart);
                    }
                }
                if (best < 1 << 30) near = bounded(2.0f - sqrtf((float)best) / weights[NEAR_PX], 0.0f, 1.0f);
                nears[k * plane + at] = near;
            }
            if (k == count || !(known & HAS_MOTION) || is_found(classes, k)) continue;
            bool core = inside && ((u32)bits[at] >> k & 1u), around = inside && !core && near > 0.0f;
            float further = 0.0f;
            if (core || around) {
                float u = own[at], v = own[plane + at], du = u - medians[2 * k], dv = v - medians[2 * k + 1];
                further = sqrtf(u * u + v * v) - sqrtf(du * du + dv * dv);
            }
            i64* of_class = tally + k * PER_CLASS;
            count_lanes(of_class + CORE_ALIKE, core && further > 0.0f);
            count_lanes(of_class + AROUND, around);
            count_lanes(of_class + AROUND_ELSE, around && further < 0.0f);
        }
    }
}

// A pixel of a small map [h', w'] enlarged to h x w, half-pixel centres.
struct Spot {
    i64 upper_left, upper_right, lower_left, lower_right;
    float right, lower;
};
DEVICE Spot spot_of(int x, int y, int height, int width, int small_height, int small_width) {
    float to_x = ((float)x + 0.5f) * small_width / width - 0.5f;
    float to_y = ((float)y + 0.5f) * small_height / height - 0.5f;
    to_x = to_x > 0.0f ? to_x : 0.0f;
    to_y = to_y > 0.0f ? to_y : 0.0f;
    int x0 = smaller((int)to_x, small_width - 1), y0 = smaller((int)to_y, small_height - 1);
    int x1 = smaller(x0 + 1, small_width - 1), y1 = smaller(y0 + 1, small_height - 1);
    i64 upper = (i64)y0 * small_width, lower = (i64)y1 * small_width;
    return {upper + x0, upper + x1, lower + x0, lower + x1, to_x - (float)x0, to_y - (float)y0};
}
DEVICE float at_spot(const float* map, const Spot& spot) {
    float upper = map[spot.upper_left] * (1 - spot.right) + map[spot.upper_right] * spot.right;
    float lower = map[spot.lower_left] * (1 - spot.right) + map[spot.lower_right] * spot.right;
    return upper * (1 - spot.lower) + lower * spot.lower;
}

// Log-odds that a pixel moves as a named object rather than as the camera; 0 where motion cannot tell.
DEVICE float moves_alike(float u, float v, const float* median, const i64* tally, const float* weights) {
    if (tally[CORE] == 0 || tally[AROUND] == 0) return 0.0f;
    float x = median[0], y = median[1], scale = weights[SCALE], apart = sqrtf(x * x + y * y) / scale;
    float span = weights[SEPARATE_FULL_PX] - weights[SEPARATE_PX];
    float weight = bounded((apart - weights[SEPARATE_PX]) / span, 0.0f, 1.0f);
    if (weight == 0.0f) return 0.0f;
    float from_camera = sqrtf(u * u + v * v), from_object = sqrtf((u - x) * (u - x) + (v - y) * (v - y));
    float odds = (from_camera - from_object) / scale / larger(1.0f, apart) * weights[STEEPNESS];
    float inside = (float)tally[CORE_ALIKE] / (float)tally[CORE];
    float accuracy = (inside + (float)tally[AROUND_ELSE] / (float)tally[AROUND]) / 2;
    weight *= bounded((accuracy - weights[RELIABLE]) / (weights[RELIABLE_FULL] - weights[RELIABLE]), 0.0f, 1.0f);
    return weights[ALIKE_WEIGHT] * weight * bounded(odds, -3.0f, 3.0f);
}

// Whether a slot's object moves, or never did though it had the time: then what stands still is hardly a part of it.
DEVICE bool is_firm(const i64* of_slot, const float* facts, const float* weights) {
    float share = (float)of_slot[1] / (float)larger((i64)1, of_slot[0]), moved = larger(facts[0], share);
    return share >= weights[MOVING_SHARE] || (moved < weights[MOVED_SHARE] && facts[1] != 0.0f);
}

DEVICE float aimed_at(int x, int y, int height, int width, const float* weights) {
    float across = (float)smaller(x, width - 1 - x) / width, down = (float)smaller(y, height - 1 - y) / height;
    float inwards = bounded(smaller(across, down) / weights[BORDER_SHARE], 0.0f, 1.0f);
    return weights[BORDER] + (weights[BORDER_INSIDE] - weights[BORDER]) * inwards;
}

// Each class's share of each pixel before it is drawn to anything, and nears 1 where it comes out; and over each region
// its sum and that of its square, sums i64 [2, K, R], and the areas.
KERNEL object_evidence_weigh(const float* __restrict__ before, const int* __restrict__ carried,
                             const float* __restrict__ own, const float* __restrict__ moving,
                             const float* __restrict__ trust, const float* __restrict__ look,
                             const float* __restrict__ classes, const float* __restrict__ facts,
                             const float* __restrict__ weights, const float* __restrict__ medians,
                             const i64* __restrict__ tally, const int* __restrict__ ids, float* __restrict__ nears,
                             float* __restrict__ shares, i64* __restrict__ sums, i64* __restrict__ areas, int count,
                             int many, int height, int width, int small_height, int small_width, int regions,
                             int known) {
    const i64 plane = (i64)height * width, small_plane = (i64)small_height * small_width;
    const bool has_shares = known & HAS_SHARES, has_slots = known & HAS_SLOTS, has_motion = known & HAS_MOTION;
    const bool has_look = known & HAS_LOOK, eager = known & EAGER;
    const bool nobody = nobody_found(tally, facts, count, many, known);
    bool any_named = false, knows_named = false;
    for (int k = 0; k < count; ++k) {
        any_named |= !is_found(classes, k);
        knows_named |= !is_found(classes, k) && has_known_look(classes, k);
    }
    const float carried_weight = weights[any_named ? CARRIED_WEIGHT : FOUND_CARRIED_WEIGHT];
    FOR_GRID_WARPS(at, plane) {
        bool inside = at < plane;
        if (!inside) at = plane - 1;  // a lane past the end weighs the last pixel again, and tells nobody
        int y = (int)(at / width), x = (int)(at - (i64)y * width);
        float odds[MOST_CLASSES], seen[MOST_CLASSES], rest = 0.0f, all = 0.0f, named = 0.0f, found_before = 0.0f;
        float like_named = 0.0f, like_others = 0.0f, sure = 0.0f, trusted = known & HAS_TRUST ? trust[at] : 1.0f;
        if (has_look) {
            Spot spot = spot_of(x, y, height, width, small_height, small_width);
            like_others = at_spot(look, spot);
            rest = log_weighed(like_others, weights[LOOK_WEIGHT]);
            for (int k = 0; k < count; ++k) {
                seen[k] = at_spot(look + (k + 1) * small_plane, spot);
                if (!has_known_look(classes, k)) continue;
                float* best = !is_found(classes, k) ? &like_named : &like_others;
                *best = larger(*best, seen[k]);
            }
        }
        if (has_shares) {
            for (int k = 0; k < count; ++k) {
                float share = before[k * plane + at];
                all += share;
                (!is_found(classes, k) ? named : found_before) += share;
            }
            sure = rest + log_weighed(1 - all, carried_weight);
            rest += log_weighed(doubted(1 - all, trusted), carried_weight);
        } else {
            sure = rest;
        }
        bool alike = has_look && knows_named && like_named > like_others;
        float u = has_motion ? own[at] : 0.0f, v = has_motion ? own[plane + at] : 0.0f, top = rest;
        u32 anywhere = 0;  // bit k where class k comes out, be it near or not
        for (int k = 0; k < count; ++k) {
            bool knows = has_look && has_known_look(classes, k);
            float here = has_shares ? before[k * plane + at] : 0.0f, by_look = 0.0f, value;
            if (knows) by_look = log_weighed(seen[k], weights[LOOK_WEIGHT]);
            if (!is_found(classes, k)) {
                bool lost = is_lost(tally, classes, k);
                float prior = lost ? weights[LOST_PRIOR] : doubted(here, trusted), as_it = 0.0f;
                if (has_motion && !lost) as_it = moves_alike(u, v, medians + 2 * k, tally + k * PER_CLASS, weights);
                bool comes_out = as_it > 0.0f && knows && seen[k] > 0.5f && moving[at] > 0.0f;
                comes_out = comes_out && here < weights[LOST_PRIOR] && is_hidden(tally, classes, k);
                if (comes_out) {
                    prior = weights[LOST_PRIOR];
                    anywhere |= 1u << k;
                }
                value = log_weighed(prior, carried_weight) + by_look + as_it;
                if (lost || comes_out) {
                    value += rest - sure;  // of what is lost, or has no name, nothing carried is doubted
                    if (has_motion) value += weights[LOST_MOTION_WEIGHT] * larger(0.0f, moving[at]);
                }
            } else {
                float motion = has_motion ? moving[at] : 0.0f, aimed = aimed_at(x, y, height, width, weights);
                int slot = has_slots ? carried[at] : 0;
                bool stands = has_motion && slot > 0 && slot < many && motion < 0.0f;
                if (stands && is_firm(tally + slot_at(count, slot), facts + 3 * slot, weights))
                    motion *= weights[STILL_TIMES];
                bool far = has_slots && nears[count * plane + at] == 0.0f;
                bool newcomers = !eager && has_motion && has_slots;
                if (nobody) {
                    value = alike || !has_motion ? weights[NOT_FOUND] : aimed + 2 * motion;
                } else if (newcomers && far) {
                    value = alike ? weights[NOT_FOUND] : sure + aimed + 2 * motion - weights[NEWCOMER_ODDS];
                } else if (!has_motion && !has_shares && !knows) {
                    value = weights[NOT_FOUND];
                } else {
                    value = aimed + motion * (has_shares ? 1 : 2) + by_look;
                    if (has_shares) value += log_weighed(here, carried_weight);
                }
                value += rest - sure;
                if (has_shares && any_named && named > larger(0.3f, found_before)) value = weights[NOT_FOUND];
            }
            odds[k] = value;
            top = larger(top, value);
        }
        float total = expf(rest - top);
        for (int k = 0; k < count; ++k) total += odds[k] = expf(odds[k] - top);
        // What a warp has of one region is added at once: neighbours are mostly of one, and would wait for each other.
        int region = inside ? clamped(ids[at], regions) : -1;
        Run run = warp_run(region, false);
        bool adds = inside && lane_id() == run.first;
        if (adds) atomicAdd((u64*)(areas + region), (u64)run.length);
        for (int k = 0; k < count; ++k) {
            float share = odds[k] / total;
            if (anywhere >> k & 1u) {
                if (inside) nears[k * plane + at] = 1.0f;
            } else if (!is_found(classes, k) && !is_lost(tally, classes, k)) {
                share *= nears[k * plane + at];
            }
            if (inside) shares[k * plane + at] = share;
            for (int power = 0; power < 2; ++power) {
                i64 mine = units(power ? share * share : share), until = warp_prefix_sum(inside ? mine : (i64)0);
                i64 sum = warp_from(until, run.first + run.length - 1) - (until - mine);
                if (adds) atomicAdd((u64*)(sums + ((i64)power * count + k) * regions + region), (u64)sum);
            }
        }
        if (!inside) break;
    }
}

// What regions are joined with at each height has these sums and pixels, kept at the one that absorbed the rest.
KERNEL object_evidence_join(const i64* __restrict__ sums, const i64* __restrict__ areas, const int* __restrict__ into,
                            const int* __restrict__ at, const int* __restrict__ heights, i64* __restrict__ joined,
                            i64* __restrict__ pixels, int* __restrict__ tops, int regions) {
    FOR_GRID(i, (i64)LEVELS * regions) {
        int level = (int)(i / regions), region = (int)(i - (i64)level * regions), top = region;
        while (at[top] <= heights[level] && into[top] != top) top = into[top];
        tops[i] = top;
        if (areas[region] == 0) continue;
        atomicAdd((u64*)(joined + (i64)level * regions + top), (u64)sums[region]);
        atomicAdd((u64*)(pixels + (i64)level * regions + top), (u64)areas[region]);
    }
}

// How each class's share is drawn to its region's mean: pulls float [2, K, R], what stays of it and what is added. To
// that of a region that disagrees by less; to that of FOUND, number found (or -1), of what is joined with it by TIE.
KERNEL object_evidence_mean(const i64* __restrict__ sums, const i64* __restrict__ areas, const i64* __restrict__ joined,
                            const i64* __restrict__ pixels, const int* __restrict__ tops,
                            const float* __restrict__ weights, float* __restrict__ pulls, int count, int regions,
                            int found) {
    const i64 all_classes = (i64)count * regions;
    FOR_GRID(i, all_classes) {
        int k = (int)(i / regions), region = (int)(i - (i64)k * regions);
        double area = (double)larger((i64)1, areas[region]), unit = UNIT;
        // double, for a variance is a small difference of large numbers.
        double exactly = (double)sums[i] / unit / area, mean_of_squares = (double)sums[all_classes + i] / unit / area;
        float mean = (float)exactly, snap = weights[SNAP];
        if (k != found) {
            float spread = (float)((mean_of_squares - exactly * exactly) /
                                   larger(exactly * (1 - exactly), (double)weights[LEAST_SPREAD]));
            snap *= 1 - bounded(spread, 0.0f, 1.0f);
        } else {
            float all = 0.0f;
            for (int level = 0; level < LEVELS; ++level) {
                i64 top = (i64)level * regions + tops[(i64)level * regions + region];
                all += (float)joined[top] / UNIT / (float)larger((i64)1, pixels[top]);
            }
            mean = (1 - weights[TIE]) * mean + weights[TIE] * (all / LEVELS);
        }
        pulls[i] = 1 - snap;
        pulls[all_classes + i] = snap * mean;
    }
}

// A class's share, drawn to its region: pulls from that class and region on, the second so much further.
DEVICE float snapped(float share, const float* pulls, i64 second) { return pulls[0] * share + pulls[second]; }
DEVICE float firm(float share, const float* weights) {
    return bounded((share - 0.5f) * weights[FIRMNESS] + 0.5f, 0.0f, 1.0f);
}

// Colours 0..1 and firm shares on a coarse grid, each the exact mean of its cell: coarse float [3 + K, rows, columns].
KERNEL object_evidence_shrink(const u8* __restrict__ rgb, const float* __restrict__ shares,
                              const float* __restrict__ pulls, const int* __restrict__ ids,
                              const float* __restrict__ weights, float* __restrict__ coarse, int count, int height,
                              int width, int rows, int columns, int regions) {
    const i64 plane = (i64)height * width, cells = (i64)rows * columns;
    FOR_GRID(i, cells * (3 + count)) {
        int map = (int)(i / cells), cell = (int)(i - map * cells), row = cell / columns, column = cell - row * columns;
        float top = (float)row * height / rows, bottom = (float)(row + 1) * height / rows;
        float left = (float)column * width / columns, right = (float)(column + 1) * width / columns;
        float sum = 0.0f, weight = 0.0f;
        for (int y = (int)top; y < height && (float)y < bottom; ++y) {
            float down = smaller(bottom, (float)y + 1) - larger(top, (float)y);
            for (int x = (int)left; x < width && (float)x < right; ++x) {
                float part = down * (smaller(right, (float)x + 1) - larger(left, (float)x)), value;
                i64 at = (i64)y * width + x;
                if (map < 3) {
                    value = (float)rgb[map * plane + at] / 255.0f;
                } else {
                    int k = map - 3, region = clamped(ids[at], regions);
                    const float* pull = pulls + (i64)k * regions + region;
                    value = firm(snapped(shares[k * plane + at], pull, (i64)count * regions), weights);
                }
                sum += part * value;
                weight += part;
            }
        }
        coarse[i] = sum / weight;
    }
}

// Beyond its border a map goes on as in a mirror that stands on the border: b a | a b c.
DEVICE int reflected(int at, int size) {
    while (at < 0 || at >= size) at = at < 0 ? -1 - at : 2 * size - 1 - at;
    return at;
}

// The linear function of colour that fits each class best around a cell, and the class's mean there: planes float
// [K, 5, rows, columns].
KERNEL object_evidence_fit(const float* __restrict__ coarse, const float* __restrict__ weights,
                           float* __restrict__ planes, int count, int rows, int columns, int radius) {
    const i64 cells = (i64)rows * columns;
    FOR_GRID(i, cells * count) {
        int k = (int)(i / cells), cell = (int)(i - k * cells), row = cell / columns, column = cell - row * columns;
        const float *red = coarse, *green = coarse + cells, *blue = coarse + 2 * cells;
        const float* share = coarse + (3 + k) * cells;
        // double, for the variance of an even surface is a small difference of large numbers.
        double r = 0, g = 0, b = 0, rr = 0, gg = 0, bb = 0, rg = 0, rb = 0, gb = 0, p = 0, rp = 0, gp = 0, bp = 0;
        for (int down = -radius; down <= radius; ++down) {
            i64 line = (i64)reflected(row + down, rows) * columns;
            for (int across = -radius; across <= radius; ++across) {
                i64 at = line + reflected(column + across, columns);
                double x = red[at], y = green[at], z = blue[at], value = share[at];
                r += x, g += y, b += z, p += value;
                rr += x * x, gg += y * y, bb += z * z, rg += x * y, rb += x * z, gb += y * z;
                rp += x * value, gp += y * value, bp += z * value;
            }
        }
        double size = 1.0 / ((2 * radius + 1) * (2 * radius + 1));
        r *= size, g *= size, b *= size, p *= size;
        double eps = weights[EPS];
        rr = rr * size - r * r + eps, gg = gg * size - g * g + eps, bb = bb * size - b * b + eps;
        rg = rg * size - r * g, rb = rb * size - r * b, gb = gb * size - g * b;
        rp = rp * size - r * p, gp = gp * size - g * p, bp = bp * size - b * p;
        // The inverse of a symmetric 3 x 3, by its cofactors.
        double c0 = gg * bb - gb * gb, c1 = rb * gb - rg * bb, c2 = rg * gb - rb * gg;
        double c3 = rr * bb - rb * rb, c4 = rg * rb - rr * gb, c5 = rr * gg - rg * rg;
        double whole = rr * c0 + rg * c1 + rb * c2;
        double a0 = (c0 * rp + c1 * gp + c2 * bp) / whole, a1 = (c1 * rp + c3 * gp + c4 * bp) / whole;
        double a2 = (c2 * rp + c4 * gp + c5 * bp) / whole;
        float* to = planes + 5 * k * cells + cell;
        to[0] = (float)a0, to[cells] = (float)a1, to[2 * cells] = (float)a2;
        to[3 * cells] = (float)(p - a0 * r - a1 * g - a2 * b), to[4 * cells] = (float)p;
    }
}

// The mean of planes float [maps, rows, columns] around each cell.
KERNEL object_evidence_spread(const float* __restrict__ planes, float* __restrict__ means, int maps, int rows,
                              int columns, int radius) {
    const i64 cells = (i64)rows * columns;
    FOR_GRID(i, cells * maps) {
        int map = (int)(i / cells), cell = (int)(i - map * cells), row = cell / columns, column = cell - row * columns;
        double sum = 0;
        for (int down = -radius; down <= radius; ++down) {
            i64 line = map * cells + (i64)reflected(row + down, rows) * columns;
            for (int across = -radius; across <= radius; ++across)
                sum += planes[line + reflected(column + across, columns)];
        }
        means[i] = (float)(sum / ((2 * radius + 1) * (2 * radius + 1)));
    }
}

// Shares drawn to regions and to colours, together at most 1.
KERNEL object_evidence_draw(const float* __restrict__ shares, const float* __restrict__ pulls,
                            const int* __restrict__ ids, const u8* __restrict__ rgb, const float* __restrict__ planes,
                            const float* __restrict__ nears, const float* __restrict__ classes,
                            const float* __restrict__ facts, const float* __restrict__ weights,
                            const i64* __restrict__ tally, float* __restrict__ drawn, int count, int many, int height,
                            int width, int rows, int columns, int regions, int known) {
    const i64 plane = (i64)height * width, cells = (i64)rows * columns;
    // FOUND may be anything.
    const bool loose = !(known & HAS_SHARES) || (known & EAGER) || nobody_found(tally, facts, count, many, known);
    FOR_GRID(at, plane) {
        int y = (int)(at / width), x = (int)(at - (i64)y * width), region = clamped(ids[at], regions);
        Spot spot = spot_of(x, y, height, width, rows, columns);
        float red = (float)rgb[at] / 255.0f, green = (float)rgb[plane + at] / 255.0f;
        float blue = (float)rgb[2 * plane + at] / 255.0f, total = 0.0f;
        for (int k = 0; k < count; ++k) {
            bool found = is_found(classes, k);
            bool anywhere = found ? loose : is_lost(tally, classes, k);
            const float* pull = pulls + (i64)k * regions + region;
            float share = snapped(shares[k * plane + at], pull, (i64)count * regions);
            if (!found || !loose) {
                const float* of_class = planes + 5 * k * cells;
                float colored = at_spot(of_class, spot) * red + at_spot(of_class + cells, spot) * green +
                                at_spot(of_class + 2 * cells, spot) * blue + at_spot(of_class + 3 * cells, spot);
                colored += weights[DETAIL] * (firm(share, weights) - at_spot(of_class + 4 * cells, spot));
                colored = bounded(colored, 0.0f, 1.0f);
                share = anywhere || nears[k * plane + at] > 0.0f ? colored : found ? share : 0.0f;
            }
            drawn[k * plane + at] = share;
            total += share;
        }
        if (count > 1 && total > 1.0f)
            for (int k = 0; k < count; ++k) drawn[k * plane + at] /= total;
    }
}

// Beside a border, where a class passes a half within reach, each pixel is a mean of those around that have its colour:
// drawn, smooth float [K, h, w].
KERNEL object_evidence_smooth(const float* __restrict__ drawn, const u8* __restrict__ rgb,
                              const float* __restrict__ weights, float* __restrict__ smooth, int count, int height,
                              int width, int reach) {
    const i64 plane = (i64)height * width;
    const float space = -0.5f / (weights[SMOOTH_SPACE_PX] * weights[SMOOTH_SPACE_PX]);
    const float apart_by = weights[SMOOTH_COLOR_DISTANCE], color = -0.5f / (apart_by * apart_by);
    FOR_GRID(at, plane) {
        int y = (int)(at / width), x = (int)(at - (i64)y * width);
        bool beside = false;
        float sums[MOST_CLASSES], total = 0.0f;
        for (int k = 0; k < count; ++k) {
            sums[k] = 0.0f;
            bool has = drawn[k * plane + at] > 0.5f;
            for (int row = larger(0, y - reach); row <= smaller(height - 1, y + reach) && !beside; ++row)
                for (int column = larger(0, x - reach); column <= smaller(width - 1, x + reach) && !beside; ++column)
                    beside = (drawn[k * plane + (i64)row * width + column] > 0.5f) != has;
        }
        for (int down = -reach; down <= reach && beside; ++down) {
            for (int right = -reach; right <= reach; ++right) {
                int apart = down * down + right * right;
                if (apart >= 2 * reach * reach) continue;  // without corners
                i64 there = (i64)clamped(y + down, height) * width + clamped(x + right, width);
                float other = 0.0f;
                for (int channel = 0; channel < 3; ++channel) {
                    float by = (float)rgb[channel * plane + there] - (float)rgb[channel * plane + at];
                    other += by * by;
                }
                float weight = expf(space * (float)apart) * expf(color * other);
                total += weight;
                for (int k = 0; k < count; ++k) sums[k] += weight * drawn[k * plane + there];
            }
        }
        for (int k = 0; k < count; ++k) smooth[k * plane + at] = beside ? sums[k] / total : drawn[k * plane + at];
    }
}

// Which class has more than half of each pixel: masks u8 [K, h, w], and what is not its, outside u8 [K, h + 2, w + 2]
// with a border of 1 that is there before. What classes and the rest have in all.
KERNEL object_evidence_split(const float* __restrict__ shares, u8* __restrict__ masks, u8* __restrict__ outside,
                             i64* __restrict__ tally, int count, int height, int width) {
    const i64 plane = (i64)height * width, padded = (i64)(height + 2) * (width + 2);
    FOR_GRID_WARPS(at, plane) {
        bool inside = at < plane;
        int y = (int)(at / width), x = (int)(at - (i64)y * width);
        float total = 0.0f;
        for (int k = 0; k < count; ++k) {
            float share = inside ? shares[k * plane + at] : 0.0f;
            bool has = share > 0.5f;
            total += share;
            count_lanes(tally + k * PER_CLASS + PIXELS, has);
            if (!inside) continue;
            masks[k * plane + at] = has;
            outside[k * padded + (i64)(y + 1) * (width + 2) + x + 1] = !has;
        }
        count_lanes(tally + rest_at(count), inside && 1 - total > 0.5f);
    }
}

// The map: masks without the specks of named objects, pinholes of all filled, and the numbers of FOUND's pieces. A
// pinhole of FOUND, where it is nobody else's, is of the piece to its left.
// parts: connected_components of masks, part_areas [K, plane + 1] of them, largest [K] the largest; gaps, gap_areas
// [K, padded + 1] likewise of outside, which of FOUND has what is no large part; numbers int [plane + 1], of FOUND's
// large parts, else 0.
KERNEL object_evidence_settle(const u8* __restrict__ masks, const int* __restrict__ parts,
                              const i64* __restrict__ part_areas, const i64* __restrict__ largest,
                              const int* __restrict__ gaps, const i64* __restrict__ gap_areas,
                              const int* __restrict__ numbers, const int* __restrict__ carried,
                              const float* __restrict__ classes, const float* __restrict__ members,
                              const float* __restrict__ facts, const float* __restrict__ weights,
                              i64* __restrict__ tally, int* __restrict__ map, i64* __restrict__ overlap, int count,
                              int many, int pieces, int height, int width, int known) {
    const i64 plane = (i64)height * width, padded = (i64)(height + 2) * (width + 2);
    FOR_GRID(at, plane) {
        int y = (int)(at / width), x = (int)(at - (i64)y * width), owner = -1, value = 0;
        for (int k = 0; k < count; ++k)
            if (masks[k * plane + at]) owner = k;
        bool named = owner >= 0 && !is_found(classes, owner);
        if (named) {
            float least = larger(weights[SPECK_SHARE] * (float)tally[owner * PER_CLASS + PIXELS], weights[SPECK_PX]);
            i64 area = part_areas[owner * (plane + 1) + parts[owner * plane + at]];
            if ((float)area < least && (float)largest[owner] >= least) owner = -1;  // but a tiny object is no speck
        }
        i64 from = at;
        if (owner >= 0 && !named && !numbers[parts[owner * plane + at]]) owner = -1;
        if (owner < 0) {
            i64 here = (i64)(y + 1) * (width + 2) + x + 1;
            int filled = -1;
            for (int k = 0; k < count && owner < 0; ++k) {
                bool found = is_found(classes, k);
                if (!found && masks[k * plane + at]) continue;
                float share = found ? 0.0f : weights[SPECK_SHARE] * (float)tally[k * PER_CLASS + PIXELS];
                int gap = gaps[k * padded + here];  // 1 is what reaches the border
                if (gap == 1 || (float)gap_areas[k * (padded + 1) + gap] >= larger(share, weights[SPECK_PX])) continue;
                if (found) filled = k; else owner = k;
            }
            if (owner < 0 && filled >= 0) {
                owner = filled;
                while (!numbers[parts[filled * plane + from]]) --from;
            }
        }
        if (owner >= 0 && !is_found(classes, owner)) {
            value = (int)members[owner];
            atomicAdd((u64*)(tally + owner * PER_CLASS + LEFT), (u64)1);
        } else if (owner >= 0) {
            int piece = numbers[parts[owner * plane + from]];
            int slot = known & HAS_SLOTS ? carried[at] : 0;
            if (slot < 0 || slot >= many || facts[3 * slot + 2] != 0.0f) slot = 0;
            if (piece > 0 && piece < pieces) {
                value = -piece;
                atomicAdd((u64*)(overlap + (i64)piece * many + slot), (u64)1);
            }
        }
        map[at] = value;
    }
}

// The pieces of a map become their tracks' slots: owners int [P].
KERNEL object_evidence_name(const int* __restrict__ map, const int* __restrict__ owners, int* __restrict__ slots,
                            i64 pixels) {
    FOR_GRID(at, pixels) {
        int value = map[at];
        slots[at] = value < 0 ? owners[-value] : value;
    }
}
