/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_DEVICE_H
#define ENGINE_CUDA_DEVICE_H

/* What kernels use beyond plain CUDA C++. Only .cu files include this. Under nvcc it is PTX and
 * intrinsics; under the host compiler the emulator of tests/simt has the same names, so that every
 * kernel runs without a card too. The dialect (docs/adr/0011):
 *
 *   CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, args...)
 *       instead of <<<>>>; yields cudaError_t. Arguments are copied, converted to the kernel's
 *       types. A template: CUDA_LAUNCH((kernel<128>), ...).
 *   device_begin()
 *       the first statement of every kernel (tests/check_kernels.py): waits until all that was
 *       launched before has ended. Before it a kernel may only declare, and call functions named
 *       load_weights(), which read what no launch writes while the model computes: weights; the
 *       host has waited for whoever wrote them. The emulator holds them to that. Blocks that do
 *       nothing else may end there (ahead_device.h), others not: at least one of a launch waits,
 *       so that the launch is not over before the ones before it. Blocks may be put
 *       in place before that (programmatic dependent launch, sm_90 and later), which hides the time
 *       of a launch. Nothing here lets the next kernel begin before this one's blocks end: its
 *       blocks would take the room of the rest.
 *       So the kernel before this one may be at work while this one is: nothing but weights may be
 *       const T *__restrict__ or read with __ldg(), which promises that nobody writes it as long as
 *       the kernel lives, and lets compilers read it before the wait. check_kernels.py and
 *       tools/cuda_waits.py look.
 *   DEVICE_SHARED(type, name)
 *       declares type *name, the start of the block's dynamic shared memory, 16-byte aligned.
 *
 * Number types are storage integers: uint16_t for f16 and bf16, uint8_t for e4m3 (no infinity).
 *
 *   f16_to_f32(h)  f32_to_f16(f)  bf16_to_f32(b)  f32_to_bf16(f)     nearest even
 *   e4m3_to_f32(e) f32_to_e4m3(f)                                    nearest even, to +-448 at most
 *   f32x2_to_f16x2(low, high)  f32x2_to_bf16x2(low, high)            packed: low in the lower half
 *   f32x2_to_e4m3x2(low, high)
 *   device_exp(x)            e^x, some units in the last place off
 *   dp4a(a, b, c)            c + the four products of signed bytes
 *   warp_sum(x) warp_max(x)  of 32 lanes, all of which take part; every lane gets it. Summed as a
 *                            butterfly of 16, 8, 4, 2, 1.
 *
 *   cp_async_16(to, from, valid)  begins a copy of 16 bytes from global to shared memory, both
 *                            16-byte aligned; not valid: zeros, and from is not read
 *   cp_async_commit()        what this thread has begun becomes a group
 *   cp_async_wait<N>()       until all but the last N groups of this thread have arrived; others
 *                            see them after a barrier
 *   device_ask(from, bytes)  all lanes of a warp: bytes of global memory are to come into the L2
 *                            cache, both multiples of 16. Nobody waits for them, not even the end
 *                            of the kernel, and no number depends on it. Only of weights: the
 *                            emulator holds it to that, and to memory that there is.
 *
 * Tensor cores: all 32 lanes, converged. Group g = lane / 4, place p = lane % 4.
 *
 *   ldmatrix_x4(r, row)      four 8 x 8 matrices of 16-bit values from shared memory: lane 8 i + j
 *                            brings the address (16-byte aligned) of row j of matrix i; r[i] of a
 *                            lane gets row g, columns 2 p and 2 p + 1. _trans: rows 2 p and 2 p + 1
 *                            of column g.
 *   mma_f16, mma_bf16(d, a, b)   d += a b, [16][16] [16][8], sums in f32
 *       a[0] row g, columns 2p, 2p+1   a[1] row g + 8   a[2] row g, columns + 8   a[3] both + 8
 *       b[0] rows 2p, 2p+1 of column g                  b[1] rows + 8
 *       d[0], d[1] row g, columns 2p, 2p+1              d[2], d[3] row g + 8
 *   mma_s8(d, a, b)          the same with [16][32] [32][8] of int8_t, sums in int
 *       a[0] row g, columns 4p ... 4p+3   a[1] row g + 8   a[2] columns + 16   a[3] both
 *       b[0] rows 4p ... 4p+3 of column g                  b[1] rows + 16
 *   mma_e4m3(d, a, b)        as mma_s8, of e4m3, sums in f32. Only where DEVICE_HAS_FP8 (sm_89 and
 *                            later); a launcher asks the device before it launches such a kernel.
 */

#include <stdint.h>

#ifndef __CUDACC__

#	include <simt_device.h>

#else

#	include <cuda_bf16.h>
#	include <cuda_fp16.h>
#	include <cuda_fp8.h>
#	include <cuda_runtime.h>

#	if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
#		define DEVICE_HAS_FP8 1
#	else
#		define DEVICE_HAS_FP8 0
#	endif

/* ---- launches and shared memory ---- */

static __device__ __forceinline__ void device_begin(void)
{
#	if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
#	endif
}

/* Whether the kernels of this file, as they were compiled for the device at hand, wait in
 * device_begin(). Asked once a device. */
static inline bool device_waits(const void *kernel)
{
	enum { DEVICES = 64 };
	static signed char known[DEVICES]; /* 1: they do; -1: they do not */
	int device = 0;
	if (cudaGetDevice(&device) || device >= DEVICES)
		return false;
	signed char k = __atomic_load_n(&known[device], __ATOMIC_RELAXED);
	if (!k) {
		cudaFuncAttributes a = {};
		if (cudaFuncGetAttributes(&a, kernel)) {
			cudaGetLastError(); /* the launch will say it */
			return false;
		}
		k = a.ptxVersion >= 90 ? 1 : -1;
		__atomic_store_n(&known[device], k, __ATOMIC_RELAXED);
	}
	return k > 0;
}

template <typename... P, typename... A>
static inline cudaError_t device_launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
	cudaStream_t stream, A... arguments)
{
	static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has");
	return [&](P... converted) {
		void *pointers[] = {
			const_cast<void *>(static_cast<const void *>(&converted))..., nullptr};
		const void *start = reinterpret_cast<const void *>(kernel);
		cudaLaunchAttribute early = {};
		early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
		early.val.programmaticStreamSerializationAllowed = 1;
		cudaLaunchConfig_t config = {};
		config.gridDim = grid;
		config.blockDim = block;
		config.dynamicSmemBytes = shared;
		config.stream = stream;
		config.attrs = &early;
		config.numAttrs = device_waits(start) ? 1 : 0;
		return cudaLaunchKernelExC(&config, start, pointers);
	}(static_cast<P>(arguments)...);
}

#	define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                        \
		device_launch(kernel, grid, block, shared_bytes, stream __VA_OPT__(, ) __VA_ARGS__)

extern __shared__ uint4 device_shared_start[];
#	define DEVICE_SHARED(type, name) type *name = reinterpret_cast<type *>(device_shared_start)

/* ---- number types ---- */

static __device__ __forceinline__ float f16_to_f32(uint16_t h)
{
	return __half2float(__ushort_as_half(h));
}

static __device__ __forceinline__ uint16_t f32_to_f16(float f)
{
	return __half_as_ushort(__float2half_rn(f));
}

static __device__ __forceinline__ float bf16_to_f32(uint16_t b)
{
	return __uint_as_float((unsigned)b << 16);
}

static __device__ __forceinline__ uint16_t f32_to_bf16(float f)
{
	return __bfloat16_as_ushort(__float2bfloat16_rn(f));
}

static __device__ __forceinline__ float e4m3_to_f32(uint8_t e)
{
	return __half2float(__half(__nv_cvt_fp8_to_halfraw(e, __NV_E4M3)));
}

static __device__ __forceinline__ uint8_t f32_to_e4m3(float f)
{
	return __nv_cvt_float_to_fp8(f, __NV_SATFINITE, __NV_E4M3);
}

static __device__ __forceinline__ uint32_t f32x2_to_f16x2(float low, float high)
{
	uint32_t r;
	asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
	return r;
}

static __device__ __forceinline__ uint32_t f32x2_to_bf16x2(float low, float high)
{
	uint32_t r;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
	return r;
}

static __device__ __forceinline__ uint16_t f32x2_to_e4m3x2(float low, float high)
{
	return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, __NV_E4M3);
}

/* ---- arithmetic ---- */

static __device__ __forceinline__ float device_exp(float x)
{
	return __expf(x);
}

static __device__ __forceinline__ int dp4a(int a, int b, int c)
{
	return __dp4a(a, b, c);
}

static __device__ __forceinline__ float warp_sum(float value)
{
#	pragma unroll
	for (int by = 16; by; by >>= 1)
		value += __shfl_xor_sync(0xffffffffu, value, by);
	return value;
}

static __device__ __forceinline__ float warp_max(float value)
{
#	pragma unroll
	for (int by = 16; by; by >>= 1)
		value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, by));
	return value;
}

/* ---- copies under way ---- */

static __device__ __forceinline__ unsigned device_shared_address(const void *p)
{
	return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

static __device__ __forceinline__ void cp_async_16(void *to, const void *from, bool valid)
{
	asm volatile(
		"cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(device_shared_address(to)),
		"l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0)
		: "memory");
}

static __device__ __forceinline__ void cp_async_commit(void)
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int N> static __device__ __forceinline__ void cp_async_wait(void)
{
	asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

static __device__ __forceinline__ void device_ask(const void *from, uint32_t bytes)
{
#	if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	if (threadIdx.x % 32 == 0)
		asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(
				     __cvta_generic_to_global(from)),
			"r"(bytes));
#	else
	const uint32_t line = 128;
	const char *p = static_cast<const char *>(from);
	for (uint32_t at = threadIdx.x % 32 * line; at < bytes; at += 32 * line)
		asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(p + at)));
#	endif
}

/* ---- tensor cores ---- */

static __device__ __forceinline__ void ldmatrix_x4(uint32_t r[4], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(device_shared_address(row))
		     : "memory");
}

static __device__ __forceinline__ void ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(device_shared_address(row))
		     : "memory");
}

static __device__ __forceinline__ void mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
		     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ void mma_bf16(
	float d[4], const uint32_t a[4], const uint32_t b[2])
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
		     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ void mma_s8(int d[4], const uint32_t a[4], const uint32_t b[2])
{
	asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
		     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
		     : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ void mma_e4m3(
	float d[4], const uint32_t a[4], const uint32_t b[2])
{
#	if DEVICE_HAS_FP8
	asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 "
		     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#	else
	__trap();
#	endif
}

#endif

#endif
