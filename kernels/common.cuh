// Shared by every kernel: index loops, warp primitives, 16-bit floats. No standard header is needed, so NVRTC compiles
// a kernel from its text alone. kernels/cpu_shim.h gives the same names on a CPU, with warps of one lane.
#ifndef STREAMSTYLE_COMMON_CUH
#define STREAMSTYLE_COMMON_CUH

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

// One thread of the grid for each i in 0 .. count - 1, also where there are fewer threads: a 1 x 1 launch is legal.
#define FOR_GRID(i, count) \
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < (count); i += (i64)gridDim.x * blockDim.x)

// As FOR_GRID, but all lanes of a warp go round together (i may be past the end): for warp primitives inside.
// i % WARP is the lane, because blocks are whole warps.
#define FOR_GRID_WARPS(i, count)                                                              \
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i - i % WARP < (count);          \
         i += (i64)gridDim.x * blockDim.x)

// One block of the grid for each item; its threads share the item's inner loop through FOR_BLOCK.
#define FOR_BLOCKS(item, count) for (i64 item = blockIdx.x; item < (count); item += gridDim.x)
#define FOR_BLOCK(i, count) for (int i = threadIdx.x; i < (count); i += blockDim.x)

#ifndef STREAMSTYLE_SHIM
#define WARP 32
#define ALL_LANES 0xffffffffu
#define DEVICE __device__ __forceinline__
#define MEMBER __device__ __forceinline__  // DEVICE for a member of a struct
#define KERNEL extern "C" __global__ void

DEVICE int lane_id() { return threadIdx.x % WARP; }
DEVICE void sync_block() { __syncthreads(); }
DEVICE void sync_warp() { __syncwarp(); }
// Bit l is set where lane l's predicate holds.
DEVICE u32 warp_ballot(bool predicate) { return __ballot_sync(ALL_LANES, predicate); }
template <typename T>
DEVICE T warp_from(T value, int lane) {
    return __shfl_sync(ALL_LANES, value, lane);
}
template <typename T>
DEVICE T warp_up(T value, int lanes) {
    return __shfl_up_sync(ALL_LANES, value, lanes);
}
template <typename T>
DEVICE T warp_xor(T value, int mask) {
    return __shfl_xor_sync(ALL_LANES, value, mask);
}
DEVICE int count_bits(u32 bits) { return __popc(bits); }
DEVICE int highest_bit(u32 bits) { return 31 - __clz(bits); }  // -1 for none
DEVICE int lowest_bit(u32 bits) { return __ffs(bits) - 1; }    // -1 for none
DEVICE float bits_to_float(u32 bits) { return __uint_as_float(bits); }
DEVICE u32 float_to_bits(float value) { return __float_as_uint(value); }

// An int or float that other blocks may be writing, read past the L1 cache.
template <typename T>
DEVICE T load_fresh(const T* at) {
    return *(const volatile T*)at;
}
#endif

// Lanes 0 .. lane of a warp, as bits.
DEVICE u32 lanes_up_to(int lane) { return (2u << lane) - 1u; }

template <typename T>
DEVICE T smaller(T a, T b) {
    return a < b ? a : b;
}
template <typename T>
DEVICE T larger(T a, T b) {
    return a > b ? a : b;
}

// The larger of both, NaN where value is.
DEVICE float at_least(float value, float least) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    float out;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(out) : "f"(value), "f"(least));
    return out;
#else
    return value < least ? least : value;
#endif
}

// Sum over a warp, in every lane.
template <typename T>
DEVICE T warp_sum(T value) {
    for (int step = WARP / 2; step > 0; step /= 2) value += warp_xor(value, step);
    return value;
}

// Sum over this lane and those before it.
template <typename T>
DEVICE T warp_prefix_sum(T value) {
    for (int step = 1; step < WARP; step *= 2) {
        T before = warp_up(value, step);
        if (lane_id() >= step) value += before;
    }
    return value;
}

// A run: neighbouring lanes with equal keys. Its first lane, and how many lanes it has.
struct Run {
    int first, length;
};
// breaks: this lane starts a run whatever its key (a new row, past the end). All lanes must call.
DEVICE Run warp_run(i64 key, bool breaks) {
    i64 before = warp_up(key, 1);
    int lane = lane_id();
    u32 starts = warp_ballot(lane == 0 || breaks || key != before);
    u32 later = starts & ~lanes_up_to(lane);
    Run run;
    run.first = highest_bit(starts & lanes_up_to(lane));
    run.length = (later ? lowest_bit(later) : WARP) - run.first;
    return run;
}

// A forest over the pixels of a frame: parents[node] - 1 is a node's parent, a root is its own. Parents only ever
// become smaller, so whatever the order of the threads a root ends as the smallest node of its tree.
DEVICE int root_of(const int* parents, int node) {
    for (;;) {
        int parent = load_fresh(parents + node) - 1;
        if (parent == node) return node;
        node = parent;
    }
}

// Makes one tree of the trees of two nodes.
DEVICE void join_trees(int* parents, int a, int b) {
    for (;;) {
        a = root_of(parents, a);
        b = root_of(parents, b);
        if (a == b) return;
        if (a < b) {
            int swapped = a;
            a = b;
            b = swapped;
        }
        // a was a root a moment ago: if it still is, it hangs under b now; if not, what it hung under must join b.
        int parent = atomicMin(parents + a, b + 1) - 1;
        if (parent == a) return;
        a = parent;
    }
}

// bfloat16: the upper half of a float, rounded to nearest even. NaN stays NaN.
struct bf16 {
    u16 bits;
};
DEVICE float to_float(bf16 value) { return bits_to_float((u32)value.bits << 16); }
DEVICE void from_float(float value, bf16* out) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out->bits) : "f"(value));
#else
    u32 bits = float_to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        out->bits = (u16)((bits >> 16) | 0x40u);
    else
        out->bits = (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#endif
}

// float16, IEEE binary16.
struct f16 {
    u16 bits;
};
#ifndef STREAMSTYLE_SHIM
DEVICE float to_float(f16 value) {
    float out;
    asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(value.bits));
    return out;
}
DEVICE void from_float(float value, f16* out) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out->bits) : "f"(value)); }
#else
DEVICE float to_float(f16 value) {
    u32 sign = (value.bits & 0x8000u) << 16, rest = value.bits & 0x7fffu;
    if (rest >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    return bits_to_float(sign | float_to_bits(bits_to_float(rest << 13) * 0x1p112f));
}
DEVICE void from_float(float value, f16* out) {
    u32 bits = float_to_bits(value), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u)
        rest = 0x7e00u;
    else if (rest >= 0x477ff000u)  // 65520 and more round to infinity
        rest = 0x7c00u;
    else if (rest < 0x38800000u)  // subnormal: one half's last place is that of the smallest f16
        rest = float_to_bits(bits_to_float(rest) + 0.5f) - 0x3f000000u;
    else
        rest = (rest - 0x38000000u + 0xfffu + (rest >> 13 & 1u)) >> 13;
    out->bits = (u16)(sign | rest);
}
#endif

DEVICE float to_float(float value) { return value; }
DEVICE void from_float(float value, float* out) { *out = value; }

// COUNT floats at once: one conversion for two of them where the device has it, rounded as from_float rounds.
template <int COUNT, typename T>
DEVICE void from_floats(const float* values, T* out) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) from_float(values[i], out + i);
}
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
DEVICE u32 two_of(float low, float high, bf16) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
DEVICE u32 two_of(float low, float high, f16) {
    u32 both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
template <int COUNT, typename T>
DEVICE void from_pairs(const float* values, T* out) {
#pragma unroll
    for (int i = 0; i < COUNT - 1; i += 2) {
        u32 both = two_of(values[i], values[i + 1], T());
        out[i].bits = (u16)both;
        out[i + 1].bits = (u16)(both >> 16);
    }
    if (COUNT % 2) from_float(values[COUNT - 1], out + COUNT - 1);
}
template <int COUNT>
DEVICE void from_floats(const float* values, bf16* out) { from_pairs<COUNT>(values, out); }
template <int COUNT>
DEVICE void from_floats(const float* values, f16* out) { from_pairs<COUNT>(values, out); }
#endif

// 8, 4 or 2 elements that are read and written at once; the pointer is aligned to all of them.
template <typename T, int COUNT>
struct alignas(sizeof(T) * COUNT) Pack {
    T at[COUNT];
};

// A pack that nobody reads again soon: what is read may leave the caches first, by a hint; what is written, is at once.
#ifndef STREAMSTYLE_SHIM
template <int BYTES>
struct Word {
    typedef u8 type;
};
template <>
struct Word<2> {
    typedef u16 type;
};
template <>
struct Word<4> {
    typedef u32 type;
};
template <>
struct Word<8> {
    typedef uint2 type;
};
template <>
struct Word<16> {
    typedef uint4 type;
};
// At once: what an assignment writes may be split where it is read again soon.
DEVICE void store_word(uint4* at, uint4 word) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(word.x), "r"(word.y), "r"(word.z),
                 "r"(word.w)
                 : "memory");
}
template <typename T>
DEVICE void store_word(T* at, T word) {
    *at = word;
}
template <typename P>
DEVICE P load_once(const P* at) {
    typedef typename Word<sizeof(P)>::type Bits;
    if constexpr (sizeof(Bits) != sizeof(P)) return *at;
    Bits bits = __ldcs((const Bits*)at);
    return *(const P*)&bits;
}
template <typename P>
DEVICE void store_once(P* at, const P& value) {
    typedef typename Word<sizeof(P)>::type Bits;
    if constexpr (sizeof(Bits) != sizeof(P))
        *at = value;
    else
        store_word((Bits*)at, *(const Bits*)&value);
}
#else
template <typename P>
DEVICE P load_once(const P* at) {
    return *at;
}
template <typename P>
DEVICE void store_once(P* at, const P& value) {
    *at = value;
}
#endif

// Each lane's three packs to the warp's 3 * WARP in a row at `to`, side by side, through shared memory of the warp's
// own (3 * WARP packs); of these the first `count` are written. All lanes must call.
template <typename P>
DEVICE void store_threes(P* to, const P* own, P* shared, int count) {
    const int lane = lane_id();
    sync_warp();  // what went before has been read
#pragma unroll
    for (int i = 0; i < 3; ++i) shared[3 * lane + i] = own[i];
    sync_warp();
#pragma unroll
    for (int i = 0; i < 3; ++i)
        if (lane + WARP * i < count) store_once(to + lane + WARP * i, shared[lane + WARP * i]);
}

#endif
