/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_DEVICE_H
#define SIMT_DEVICE_H

/* The kernel dialect for the host compiler: what CUDA C++ gives a kernel, out of the emulator. Only
 * engine/cuda/device.h includes this. What a wrapper means stands there.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <tuple>

#include "cuda_runtime_api.h"
#include "simt_launch.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static __attribute__((section("simt_constants")))
#define __shared__ static __attribute__((section("simt_static_shared")))
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

/* ---- what tests/simt/ has behind it ---- */

extern "C" {
struct simt_index simt_thread_index(void) __attribute__((const));
struct simt_index simt_block_index(void) __attribute__((const));
struct simt_index simt_block_size(void) __attribute__((const));
struct simt_index simt_grid_size(void) __attribute__((const));
void *simt_shared(void) __attribute__((const));
void simt_barrier(void);
void simt_warp_barrier(uint32_t mask);
void simt_fence(void);
void simt_atomic(void *at, size_t size);
enum simt_how { SIMT_INDEX, SIMT_UP, SIMT_DOWN, SIMT_XOR };
uint64_t simt_shuffle(enum simt_how how, uint32_t mask, uint64_t value, int by, int width);
uint32_t simt_ballot(uint32_t mask, int predicate);
float simt_warp_sum(float value);
float simt_warp_max(float value);
void simt_cp_async(void *to, const void *from, size_t size, int valid);
void simt_cp_async_commit(void);
void simt_cp_async_wait(unsigned may_remain);
void simt_ldmatrix(uint32_t r[4], const void *row, int transposed);
void simt_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2], int bf16);
void simt_mma_s8(int d[4], const uint32_t a[4], const uint32_t b[2]);
void simt_mma_e4m3(float d[4], const uint32_t a[4], const uint32_t b[2]);
void simt_trap(void);
}

#define threadIdx (simt_thread_index())
#define blockIdx (simt_block_index())
#define blockDim (simt_block_size())
#define gridDim (simt_grid_size())
#define warpSize 32

/* ---- vectors ---- */

#define SIMT_VECTOR(type, name, bytes2, bytes4)                                                    \
	struct alignas(bytes2) name##2                                                             \
	{                                                                                          \
		type x, y;                                                                         \
	};                                                                                         \
	struct name##3                                                                             \
	{                                                                                          \
		type x, y, z;                                                                      \
	};                                                                                         \
	struct alignas(bytes4) name##4                                                             \
	{                                                                                          \
		type x, y, z, w;                                                                   \
	};                                                                                         \
	static inline name##2 make_##name##2(type x, type y)                                       \
	{                                                                                          \
		return name##2 {x, y};                                                             \
	}                                                                                          \
	static inline name##3 make_##name##3(type x, type y, type z)                               \
	{                                                                                          \
		return name##3 {x, y, z};                                                          \
	}                                                                                          \
	static inline name##4 make_##name##4(type x, type y, type z, type w)                       \
	{                                                                                          \
		return name##4 {x, y, z, w};                                                       \
	}
SIMT_VECTOR(signed char, char, 2, 4)
SIMT_VECTOR(unsigned char, uchar, 2, 4)
SIMT_VECTOR(short, short, 4, 8)
SIMT_VECTOR(unsigned short, ushort, 4, 8)
SIMT_VECTOR(int, int, 8, 16)
SIMT_VECTOR(unsigned, uint, 8, 16)
SIMT_VECTOR(float, float, 8, 16)
#undef SIMT_VECTOR

/* ---- bits ---- */

template <typename To, typename From> static inline To simt_bits(From from)
{
	static_assert(sizeof(To) == sizeof(From), "of the same size");
	To to;
	memcpy(&to, &from, sizeof to);
	return to;
}

static inline unsigned __float_as_uint(float x)
{
	return simt_bits<unsigned>(x);
}

static inline int __float_as_int(float x)
{
	return simt_bits<int>(x);
}

static inline float __uint_as_float(unsigned x)
{
	return simt_bits<float>(x);
}

static inline float __int_as_float(int x)
{
	return simt_bits<float>(x);
}

static inline int __popc(unsigned x)
{
	return __builtin_popcount(x);
}

static inline int __popcll(unsigned long long x)
{
	return __builtin_popcountll(x);
}

static inline int __ffs(int x)
{
	return __builtin_ffs(x);
}

static inline int __clz(int x)
{
	return x ? __builtin_clz((unsigned)x) : 32;
}

static inline int __clzll(long long x)
{
	return x ? __builtin_clzll((unsigned long long)x) : 64;
}

static inline unsigned __brev(unsigned x)
{
	unsigned r = 0;
	for (int i = 0; i < 32; i++)
		r |= (x >> i & 1u) << (31 - i);
	return r;
}

static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
	uint64_t both = (uint64_t)y << 32 | x;
	unsigned r = 0;
	for (int i = 0; i < 4; i++) {
		unsigned s = selector >> 4 * i & 15;
		unsigned byte = (unsigned)(both >> 8 * (s & 7)) & 255;
		if (s & 8)
			byte = byte & 128 ? 255 : 0;
		r |= byte << 8 * i;
	}
	return r;
}

static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by)
{
	return (unsigned)(((uint64_t)high << 32 | low) >> (by & 31));
}

static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by)
{
	return (unsigned)(((uint64_t)high << 32 | low) << (by & 31) >> 32);
}

static inline unsigned __umulhi(unsigned x, unsigned y)
{
	return (unsigned)((uint64_t)x * y >> 32);
}

static inline unsigned __vsub4(unsigned x, unsigned y)
{
	unsigned r = 0;
	for (int i = 0; i < 32; i += 8)
		r |= (((x >> i) - (y >> i)) & 255u) << i;
	return r;
}

static inline unsigned __vadd4(unsigned x, unsigned y)
{
	unsigned r = 0;
	for (int i = 0; i < 32; i += 8)
		r |= (((x >> i) + (y >> i)) & 255u) << i;
	return r;
}

static inline unsigned __vsubss4(unsigned x, unsigned y)
{
	unsigned r = 0;
	for (int i = 0; i < 32; i += 8) {
		int d = (int8_t)(x >> i) - (int8_t)(y >> i);
		r |= ((unsigned)(d > 127 ? 127 : d < -128 ? -128 : d) & 255u) << i;
	}
	return r;
}

/* ---- arithmetic ---- */

#define SIMT_MIN_MAX(type)                                                                         \
	static inline type min(type a, type b)                                                     \
	{                                                                                          \
		return b < a ? b : a;                                                              \
	}                                                                                          \
	static inline type max(type a, type b)                                                     \
	{                                                                                          \
		return a < b ? b : a;                                                              \
	}
SIMT_MIN_MAX(int)
SIMT_MIN_MAX(unsigned)
SIMT_MIN_MAX(long)
SIMT_MIN_MAX(unsigned long)
SIMT_MIN_MAX(long long)
SIMT_MIN_MAX(unsigned long long)
#undef SIMT_MIN_MAX

static inline unsigned min(int a, unsigned b)
{
	return min((unsigned)a, b);
}

static inline unsigned min(unsigned a, int b)
{
	return min(a, (unsigned)b);
}

static inline unsigned max(int a, unsigned b)
{
	return max((unsigned)a, b);
}

static inline unsigned max(unsigned a, int b)
{
	return max(a, (unsigned)b);
}

static inline float min(float a, float b)
{
	return fminf(a, b);
}

static inline float max(float a, float b)
{
	return fmaxf(a, b);
}

static inline double min(double a, double b)
{
	return fmin(a, b);
}

static inline double max(double a, double b)
{
	return fmax(a, b);
}

static inline float rsqrtf(float x)
{
	return 1.0f / sqrtf(x);
}

static inline float __fmaf_rn(float a, float b, float c)
{
	return fmaf(a, b, c);
}

static inline float __fadd_rn(float a, float b)
{
	return a + b;
}

static inline float __fsub_rn(float a, float b)
{
	return a - b;
}

static inline float __fmul_rn(float a, float b)
{
	return a * b;
}

static inline float __fdiv_rn(float a, float b)
{
	return a / b;
}

static inline float __fsqrt_rn(float a)
{
	return sqrtf(a);
}

static inline float __fdividef(float a, float b)
{
	return a / b;
}

static inline int __float2int_rn(float x)
{
	return (int)rintf(x);
}

static inline int __float2int_rz(float x)
{
	return (int)x;
}

static inline unsigned __float2uint_rn(float x)
{
	return (unsigned)rintf(x);
}

static inline float __int2float_rn(int x)
{
	return (float)x;
}

static inline float __uint2float_rn(unsigned x)
{
	return (float)x;
}

template <typename T> static inline T __ldg(const T *p)
{
	return *p;
}

template <typename T> static inline T __ldcs(const T *p)
{
	return *p;
}

template <typename T> static inline T __ldcg(const T *p)
{
	return *p;
}

template <typename T> static inline void __stcs(T *p, T value)
{
	*p = value;
}

/* ---- a block and its warps ---- */

static inline void __syncthreads(void)
{
	simt_barrier();
}

static inline void __syncwarp(unsigned mask = 0xffffffffu)
{
	simt_warp_barrier(mask);
}

static inline void __threadfence(void)
{
	simt_fence();
}

static inline void __threadfence_block(void)
{
	simt_fence();
}

static inline void __trap(void)
{
	simt_trap();
}

template <typename T>
static inline T simt_shuffle_any(enum simt_how how, unsigned mask, T value, int by, int width)
{
	static_assert(sizeof(T) <= 8, "of at most 8 bytes");
	uint64_t bits = 0;
	memcpy(&bits, &value, sizeof value);
	bits = simt_shuffle(how, mask, bits, by, width);
	memcpy(&value, &bits, sizeof value);
	return value;
}

template <typename T> static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32)
{
	return simt_shuffle_any(SIMT_INDEX, mask, value, lane, width);
}

template <typename T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32)
{
	return simt_shuffle_any(SIMT_UP, mask, value, (int)by, width);
}

template <typename T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32)
{
	return simt_shuffle_any(SIMT_DOWN, mask, value, (int)by, width);
}

template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32)
{
	return simt_shuffle_any(SIMT_XOR, mask, value, by, width);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate)
{
	return simt_ballot(mask, predicate);
}

static inline int __any_sync(unsigned mask, int predicate)
{
	return simt_ballot(mask, predicate) != 0;
}

static inline int __all_sync(unsigned mask, int predicate)
{
	return simt_ballot(mask, predicate) == mask;
}

/* ---- atomics: one thing runs at a time, so they only have to be seen ---- */

#define SIMT_ATOMIC(name, type, expression)                                                        \
	static inline type name(type *at, type value)                                              \
	{                                                                                          \
		simt_atomic(at, sizeof *at);                                                       \
		type old;                                                                          \
		__builtin_memcpy(&old, at, sizeof old);                                            \
		type fresh = (expression);                                                         \
		__builtin_memcpy(at, &fresh, sizeof fresh);                                        \
		return old;                                                                        \
	}
#define SIMT_UNSEEN __attribute__((no_sanitize("thread")))
SIMT_UNSEEN SIMT_ATOMIC(atomicAdd, int, (int)((unsigned)old + (unsigned)value)) SIMT_UNSEEN
	SIMT_ATOMIC(atomicAdd, unsigned, old + value) SIMT_UNSEEN
	SIMT_ATOMIC(atomicAdd, unsigned long long, old + value) SIMT_UNSEEN
	SIMT_ATOMIC(atomicAdd, float, old + value) SIMT_UNSEEN
	SIMT_ATOMIC(atomicMax, int, max(old, value)) SIMT_UNSEEN
	SIMT_ATOMIC(atomicMax, unsigned, max(old, value)) SIMT_UNSEEN
	SIMT_ATOMIC(atomicMax, unsigned long long, max(old, value)) SIMT_UNSEEN
	SIMT_ATOMIC(atomicMin, int, min(old, value)) SIMT_UNSEEN
	SIMT_ATOMIC(atomicMin, unsigned, min(old, value)) SIMT_UNSEEN
	SIMT_ATOMIC(atomicMin, unsigned long long, min(old, value)) SIMT_UNSEEN
	SIMT_ATOMIC(atomicOr, unsigned, old | value) SIMT_UNSEEN
	SIMT_ATOMIC(atomicAnd, unsigned, old &value) SIMT_UNSEEN
	SIMT_ATOMIC(atomicExch, int, ((void)old, value)) SIMT_UNSEEN
	SIMT_ATOMIC(atomicExch, unsigned, ((void)old, value)) SIMT_UNSEEN
	SIMT_ATOMIC(atomicExch, float, ((void)old, value)) SIMT_UNSEEN
	SIMT_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
#undef SIMT_ATOMIC

		template <typename T>
		SIMT_UNSEEN static inline T atomicCAS(T *at, T expected, T value)
{
	simt_atomic(at, sizeof *at);
	T old = *at;
	if (old == expected)
		*at = value;
	return old;
}

/* ---- launches ---- */

template <typename... P> struct simt_call {
	void (*kernel)(P...);
	std::tuple<P...> arguments;

	static void run(void *self)
	{
		auto *c = static_cast<simt_call *>(self);
		std::apply(c->kernel, c->arguments);
	}

	static void destroy(void *self)
	{
		delete static_cast<simt_call *>(self);
	}
};

template <typename... P, typename... A>
static inline cudaError_t simt_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
	size_t shared, cudaStream_t stream, A... arguments)
{
	static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has");
	auto *c = new simt_call<P...>{kernel, std::tuple<P...>(static_cast<P>(arguments)...)};
	return simt_launch_work(name, reinterpret_cast<const void *>(kernel), grid, block, shared,
		stream, simt_call<P...>::run, simt_call<P...>::destroy, c, sizeof *c);
}

#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                \
	simt_launch(#kernel, kernel, grid, block, shared_bytes, stream __VA_OPT__(, ) __VA_ARGS__)

#define DEVICE_SHARED(type, name) type *name = static_cast<type *>(simt_shared())
#define DEVICE_HAS_FP8 1

/* ---- number types ---- */

static inline float f16_to_f32(uint16_t h)
{
	unsigned sign = (unsigned)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
	if (exponent == 31)
		return __uint_as_float(sign | 0x7f800000u | mantissa << 13);
	if (exponent)
		return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
	float tiny = (float)mantissa * 0x1p-24f;
	return sign ? -tiny : tiny;
}

static inline uint16_t f32_to_f16(float f)
{
	unsigned bits = __float_as_uint(f), sign = bits >> 16 & 0x8000, a = bits & 0x7fffffff;
	if (a > 0x7f800000u)
		return 0x7fff;
	if (a >= 0x477ff000u) /* 65520 rounds up */
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x38800000u) /* below the normal ones: the sum's last bit is worth 2^-24 */
		return (uint16_t)(sign |
				  (__float_as_uint(__uint_as_float(a) + 0.5f) - 0x3f000000u));
	a += 0xfffu + (a >> 13 & 1) - (112u << 23);
	return (uint16_t)(sign | a >> 13);
}

static inline float bf16_to_f32(uint16_t b)
{
	return __uint_as_float((unsigned)b << 16);
}

static inline uint16_t f32_to_bf16(float f)
{
	unsigned a = __float_as_uint(f);
	if ((a & 0x7fffffff) > 0x7f800000u)
		return 0x7fff;
	return (uint16_t)((a + 0x7fffu + (a >> 16 & 1)) >> 16);
}

static inline float e4m3_to_f32(uint8_t e)
{
	unsigned exponent = e >> 3 & 15, mantissa = e & 7;
	if ((e & 0x7f) == 0x7f)
		return __uint_as_float(0x7fffffffu);
	float f = exponent ? __uint_as_float((exponent + 120) << 23 | mantissa << 20)
			   : (float)mantissa * 0x1p-9f;
	return e & 0x80 ? -f : f;
}

static inline uint8_t f32_to_e4m3(float f)
{
	unsigned bits = __float_as_uint(f), sign = bits >> 24 & 0x80, a = bits & 0x7fffffff;
	if (a > 0x7f800000u)
		return 0x7f;
	if (a >= 0x43e00000u) /* 448, the largest */
		return (uint8_t)(sign | 0x7e);
	if (a < 0x3c800000u) /* the sum's last bit is worth 2^-9 */
		return (uint8_t)(sign |
				 (__float_as_uint(__uint_as_float(a) + 16384.0f) - 0x46800000u));
	a += 0x7ffffu + (a >> 20 & 1) - (120u << 23);
	return (uint8_t)(sign | a >> 20);
}

static inline uint32_t f32x2_to_f16x2(float low, float high)
{
	return f32_to_f16(low) | (uint32_t)f32_to_f16(high) << 16;
}

static inline uint32_t f32x2_to_bf16x2(float low, float high)
{
	return f32_to_bf16(low) | (uint32_t)f32_to_bf16(high) << 16;
}

static inline uint16_t f32x2_to_e4m3x2(float low, float high)
{
	return (uint16_t)(f32_to_e4m3(low) | f32_to_e4m3(high) << 8);
}

/* ---- the rest of device.h ---- */

static inline float device_exp(float x)
{
	return expf(x);
}

static inline void device_begin(void)
{
}

static inline int dp4a(int a, int b, int c)
{
	for (int i = 0; i < 32; i += 8)
		c += (int8_t)(a >> i) * (int8_t)(b >> i);
	return c;
}

static inline float warp_sum(float value)
{
	return simt_warp_sum(value);
}

static inline float warp_max(float value)
{
	return simt_warp_max(value);
}

static inline void cp_async_16(void *to, const void *from, bool valid)
{
	simt_cp_async(to, from, 16, valid);
}

static inline void cp_async_commit(void)
{
	simt_cp_async_commit();
}

template <int N> static inline void cp_async_wait(void)
{
	simt_cp_async_wait(N);
}

static inline void ldmatrix_x4(uint32_t r[4], const void *row)
{
	simt_ldmatrix(r, row, 0);
}

static inline void ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
	simt_ldmatrix(r, row, 1);
}

static inline void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	simt_mma_f16(d, a, b, 1);
}

static inline void mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	simt_mma_f16(d, a, b, 0);
}

static inline void mma_s8(int d[4], const uint32_t a[4], const uint32_t b[2])
{
	simt_mma_s8(d, a, b);
}

static inline void mma_e4m3(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	simt_mma_e4m3(d, a, b);
}

#endif
