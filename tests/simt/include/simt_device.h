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
#include "simt_arithmetic.h"
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
void simt_begin(void);
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
void simt_ask(const void *from, size_t size);
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

/* ---- loads and stores ---- */

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

/* ---- the rest of device.h ---- */

static inline float device_exp(float x)
{
	return expf(x);
}

static inline void device_begin(void)
{
	simt_begin();
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

static inline void device_ask(const void *from, uint32_t bytes)
{
	simt_ask(from, bytes);
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
