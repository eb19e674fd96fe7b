// Builds a kernel as plain C++, so that every machine can run it: g++ -x c++ -include cpu_shim.h <the kernel's text>.
//
// A block has one thread and a warp one lane, which the kernels' grid- and block-stride loops allow. Blocks run one
// after the other in an order given by the caller, or side by side on several CPU threads (atomics are real).
// With -DSHIM_WARPS a block is a warp of 32 lanes, each a CPU thread, that meet wherever they talk to each other: a
// lane that does not come leaves the others waiting. Blocks then run one after the other.
// tests/shim.py appends to the text, for each entry,
//
//     extern "C" void run_<entry>(const i64* order, i64 blocks, i64 workers, <the entry's own arguments>)
#ifndef STREAMSTYLE_CPU_SHIM_H
#define STREAMSTYLE_CPU_SHIM_H

#include <pthread.h>  // <thread> takes the compiler as long as a kernel

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#define STREAMSTYLE_SHIM
#define SHIM_MOST_WORKERS 16
#ifdef SHIM_WARPS
#define WARP 32
#define ALL_LANES 0xffffffffu
#define __shared__ static
#else
#define WARP 1
#define ALL_LANES 1u
#define __shared__ static thread_local
#endif
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define DEVICE static inline
#define MEMBER inline
#define KERNEL static void

struct ShimIndex {
    unsigned x = 0, y = 0, z = 0;
};
static thread_local ShimIndex blockIdx, threadIdx;
static thread_local ShimIndex gridDim{1, 1, 1}, blockDim{1, 1, 1};

#ifdef SHIM_WARPS
static pthread_barrier_t shim_lanes;
static unsigned char shim_said[WARP][16];
DEVICE void shim_meet() { pthread_barrier_wait(&shim_lanes); }
DEVICE int lane_id() { return (int)(threadIdx.x % WARP); }
DEVICE void sync_block() { shim_meet(); }
DEVICE void sync_warp() { shim_meet(); }
template <typename T>
DEVICE T warp_from(T value, int lane) {
    std::memcpy(shim_said[lane_id()], &value, sizeof value);
    shim_meet();
    T found;
    std::memcpy(&found, shim_said[lane % WARP], sizeof found);
    shim_meet();
    return found;
}
template <typename T>
DEVICE T warp_up(T value, int lanes) {
    return warp_from(value, lane_id() < lanes ? lane_id() : lane_id() - lanes);
}
template <typename T>
DEVICE T warp_xor(T value, int mask) {
    return warp_from(value, lane_id() ^ mask);
}
DEVICE unsigned warp_ballot(bool predicate) {
    shim_said[lane_id()][0] = predicate;
    shim_meet();
    unsigned lanes = 0;
    for (int lane = 0; lane < WARP; ++lane) lanes |= (unsigned)shim_said[lane][0] << lane;
    shim_meet();
    return lanes;
}
#else
DEVICE int lane_id() { return 0; }
DEVICE void sync_block() {}
DEVICE void sync_warp() {}
DEVICE unsigned warp_ballot(bool predicate) { return predicate ? 1u : 0u; }
template <typename T>
DEVICE T warp_from(T value, int) {
    return value;
}
template <typename T>
DEVICE T warp_up(T value, int) {
    return value;
}
template <typename T>
DEVICE T warp_xor(T value, int) {
    return value;
}
#endif
DEVICE int count_bits(unsigned bits) { return __builtin_popcount(bits); }
DEVICE int highest_bit(unsigned bits) { return bits ? 31 - __builtin_clz(bits) : -1; }
DEVICE int lowest_bit(unsigned bits) { return __builtin_ffs((int)bits) - 1; }
DEVICE float bits_to_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
DEVICE unsigned float_to_bits(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
template <typename T>
DEVICE T load_fresh(const T* at) {
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}
DEVICE int __float2int_rn(float value) { return (int)std::nearbyint(value); }
DEVICE float __fdividef(float a, float b) { return a / b; }
DEVICE float __fmul_rn(float a, float b) { return a * b; }  // never fused with a sum: -ffp-contract=off
DEVICE float __fadd_rn(float a, float b) { return a + b; }
DEVICE float __saturatef(float value) { return value > 0 ? (value < 1 ? value : 1.0f) : 0.0f; }

template <typename T>
struct ShimSame {
    typedef T type;
};
template <typename T>
DEVICE T shim_replace(T* at, T value, bool (*replaces)(T, T)) {
    T old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (replaces(value, old) &&
           !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}
template <typename T>
DEVICE T atomicMin(T* at, typename ShimSame<T>::type value) {
    return shim_replace<T>(at, value, [](T a, T b) { return a < b; });
}
template <typename T>
DEVICE T atomicMax(T* at, typename ShimSame<T>::type value) {
    return shim_replace<T>(at, value, [](T a, T b) { return a > b; });
}
template <typename T>
DEVICE T atomicAdd(T* at, typename ShimSame<T>::type value) {
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}
template <typename T>
DEVICE T atomicCAS(T* at, typename ShimSame<T>::type expected, typename ShimSame<T>::type value) {
    __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;  // what was there
}

struct f16;
DEVICE float to_float(f16 value);
DEVICE void from_float(float value, f16* out);

#ifdef SHIM_WARPS
// Run body once for each block, in every lane.
template <typename Body>
struct ShimLane {
    const int64_t* order;
    int64_t blocks;
    Body* body;
    unsigned lane;
    pthread_t thread;

    static void* run(void* self) {
        const ShimLane& me = *(const ShimLane*)self;
        threadIdx.x = me.lane;
        blockDim.x = WARP;
        gridDim.x = (unsigned)me.blocks;
        for (int64_t i = 0; i < me.blocks; ++i) {
            blockIdx.x = (unsigned)me.order[i];
            (*me.body)();
            shim_meet();
        }
        return nullptr;
    }
};
template <typename Body>
static void shim_run(const int64_t* order, int64_t blocks, int64_t, Body body) {
    ShimLane<Body> lanes[WARP];
    pthread_barrier_init(&shim_lanes, nullptr, WARP);
    for (unsigned i = 0; i < WARP; ++i) {
        lanes[i] = {order, blocks, &body, i, pthread_t()};
        if (pthread_create(&lanes[i].thread, nullptr, ShimLane<Body>::run, lanes + i)) std::abort();
    }
    for (unsigned i = 0; i < WARP; ++i) pthread_join(lanes[i].thread, nullptr);
    pthread_barrier_destroy(&shim_lanes);
}
#else
// Run body once for each block: a worker takes every workers-th.
template <typename Body>
struct ShimWorker {
    const int64_t* order;
    int64_t first, blocks, workers;
    Body* body;
    pthread_t thread;

    static void* run(void* self) {
        const ShimWorker& me = *(const ShimWorker*)self;
        for (int64_t i = me.first; i < me.blocks; i += me.workers) {
            gridDim.x = (unsigned)me.blocks;
            blockIdx.x = (unsigned)me.order[i];
            (*me.body)();
        }
        return nullptr;
    }
};
template <typename Body>
static void shim_run(const int64_t* order, int64_t blocks, int64_t workers, Body body) {
    ShimWorker<Body> all[SHIM_MOST_WORKERS];
    workers = workers < 1 ? 1 : workers > SHIM_MOST_WORKERS ? SHIM_MOST_WORKERS : workers;
    for (int64_t i = 0; i < workers; ++i) all[i] = {order, i, blocks, workers, &body, pthread_t()};
    if (workers == 1) return (void)ShimWorker<Body>::run(all);
    for (int64_t i = 0; i < workers; ++i) {
        if (pthread_create(&all[i].thread, nullptr, ShimWorker<Body>::run, all + i)) std::abort();
    }
    for (int64_t i = 0; i < workers; ++i) pthread_join(all[i].thread, nullptr);
}
#endif

#endif
