/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_CHUNK_DEVICE_H
#define ENGINE_CUDA_CHUNK_DEVICE_H

/*
 * Chunks of repacked weights (quant.h), as a warp takes them in. A chunk is a head, the scales, and
 * one or two steps of four blocks of 32 columns. Each lane loads its share of the head and of a
 * step; from these come the left operand of mma_s8 of a block and the scales of the lane's two rows
 * g and g + 8. Loads go through LOAD::words(p), four words at p, so that they may come from global
 * or from shared memory.
 *
 * Half bytes need no arithmetic to become integers: those with a sign are used as the upper half of
 * a byte, which makes them 16 times as large (4 times of Q6_K), and the scale that much smaller.
 */

#include "engine/cuda/device.h"
#include "engine/cuda/quant.h"

/* 8388608 + byte b of a word, as a float: no conversion of integers, which is slow. */
static __device__ __forceinline__ float cuda_chunk_byte(uint32_t word, int b)
{
	return __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440u | (unsigned)b));
}

static __device__ __forceinline__ uint32_t cuda_chunk_word(const uint4 &v, int i)
{
	return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

static __device__ __forceinline__ float cuda_chunk_half(uint32_t word, int i)
{
	return f16_to_f32(static_cast<uint16_t>(i ? word >> 16 : word));
}

/* The sums of mma_s8 begin at the integer that is the float 1.5 * 2^23, so that they need no
 * conversion: as floats they are that and the dot product, exactly, up to 2^22. */
#define CUDA_CHUNK_ZERO 0x4b400000
#define CUDA_CHUNK_ZERO_F 12582912.0f

/* The scales of a block, for rows g and g + 8. */
struct cuda_chunk_scales {
	float d[2]; /* of Q6_K: of columns 0 .. 15 */
	float m[2]; /* HAS_MIN: what -sum is multiplied with; of Q6_K: d of columns 16 .. 31 */
	float z[2]; /* but of Q6_K: -d * CUDA_CHUNK_ZERO_F, exactly */
};

/* Left operands of two rows from a pair of words of half bytes. */
static __device__ __forceinline__ void cuda_chunk_nibbles(
	uint32_t w0, uint32_t w1, bool upper, uint32_t a[4])
{
	uint32_t mask = upper ? 0xf0f0f0f0u : 0x0f0f0f0fu;

	a[0] = (upper ? w0 << 4 : w0) & mask;
	a[1] = (upper ? w0 : w0 >> 4) & mask;
	a[2] = (upper ? w1 << 4 : w1) & mask;
	a[3] = (upper ? w1 : w1 >> 4) & mask;
}

/* Scales and minima of Q4_K and Q5_K. As they come: who converts what is loaded waits for it, and
 * gemv_q.cu loads before device_begin(). */
struct cuda_chunk_k_head {
	uint4 scales[2];
	uint2 both; /* d, dmin of a row each */

	template <typename LOAD>
	__device__ __forceinline__ void load(const uint8_t *chunk, unsigned lane)
	{
		unsigned g = lane / 4;
		both = LOAD::pair(chunk + 8 * g);
		scales[0] = LOAD::words(chunk + 64 + 32 * g);
		scales[1] = LOAD::words(chunk + 80 + 32 * g);
	}

	/* d * (2^23 + n) - d * 2^23 is rounded once, and d * n fits. */
	__device__ __forceinline__ void of(int b, cuda_chunk_scales *s) const
	{
#pragma unroll
		for (int i = 0; i < 2; i++) {
			uint32_t scale = cuda_chunk_word(scales[i], b / 4),
				 min = cuda_chunk_word(scales[i], 2 + b / 4);
			float d = cuda_chunk_half(i ? both.y : both.x, 0),
			      dmin = cuda_chunk_half(i ? both.y : both.x, 1);
			s->d[i] = fmaf(d, cuda_chunk_byte(scale, b % 4), d * -8388608.0f);
			s->m[i] = fmaf(dmin, cuda_chunk_byte(min, b % 4), dmin * -8388608.0f);
			s->z[i] = s->d[i] * -CUDA_CHUNK_ZERO_F;
		}
	}
};

/* Scales of Q8_0 and Q4_0. */
struct cuda_chunk_plain_head {
	uint4 d;

	template <typename LOAD>
	__device__ __forceinline__ void load(const uint8_t *chunk, unsigned lane)
	{
		d = LOAD::words(chunk + 16 * (lane / 4));
	}

	__device__ __forceinline__ void of(int b, cuda_chunk_scales *s) const
	{
		s->d[0] = cuda_chunk_half(cuda_chunk_word(d, b / 2), b % 2);
		s->d[1] = cuda_chunk_half(cuda_chunk_word(d, 2 + b / 2), b % 2);
		s->z[0] = s->d[0] * -CUDA_CHUNK_ZERO_F;
		s->z[1] = s->d[1] * -CUDA_CHUNK_ZERO_F;
	}
};

/* Scales and minima of Q4_1 and Q5_1. */
struct cuda_chunk_min_head {
	cuda_chunk_plain_head scale;
	uint4 m;

	template <typename LOAD>
	__device__ __forceinline__ void load(const uint8_t *chunk, unsigned lane)
	{
		scale.load<LOAD>(chunk, lane);
		m = LOAD::words(chunk + 128 + 16 * (lane / 4));
	}

	__device__ __forceinline__ void of(int b, cuda_chunk_scales *s) const
	{
		scale.of(b, s);
		s->m[0] = cuda_chunk_half(cuda_chunk_word(m, b / 2), b % 2);
		s->m[1] = cuda_chunk_half(cuda_chunk_word(m, 2 + b / 2), b % 2);
	}
};

template <int TYPE> struct cuda_chunk;

template <> struct cuda_chunk<TENSOR_Q8_0> {
	enum { STEPS = 1, BYTES = 2176, HAS_MIN = 0, IS_Q6 = 0 };
	typedef cuda_chunk_plain_head head;
	struct step {
		uint4 q[4];

		template <typename LOAD>
		__device__ __forceinline__ void load(const uint8_t *chunk, int s, unsigned lane)
		{
			(void)s;
#pragma unroll
			for (int b = 0; b < 4; b++)
				q[b] = LOAD::words(chunk + 128 + 512 * b + 16 * lane);
		}

		__device__ __forceinline__ void of(int b, uint32_t a[4]) const
		{
			a[0] = q[b].x;
			a[1] = q[b].y;
			a[2] = q[b].z;
			a[3] = q[b].w;
		}
	};
	static __device__ __forceinline__ float unit(void)
	{
		return 1;
	}
};

template <> struct cuda_chunk<TENSOR_Q4_0> {
	enum { STEPS = 1, BYTES = 1152, HAS_MIN = 0, IS_Q6 = 0 };
	typedef cuda_chunk_plain_head head;
	struct step {
		uint4 q[2];

		template <typename LOAD>
		__device__ __forceinline__ void load(const uint8_t *chunk, int s, unsigned lane)
		{
			(void)s;
			q[0] = LOAD::words(chunk + 128 + 16 * lane);
			q[1] = LOAD::words(chunk + 640 + 16 * lane);
		}

		__device__ __forceinline__ void of(int b, uint32_t a[4]) const
		{
			const uint4 &v = q[b / 2];
			cuda_chunk_nibbles(b % 2 ? v.z : v.x, b % 2 ? v.w : v.y, true, a);
		}
	};
	/* What integers are to be multiplied with, besides their scale. */
	static __device__ __forceinline__ float unit(void)
	{
		return 0.0625f;
	}
};

/* Half bytes that are the integers themselves, and fifth bits, of four blocks: of Q4_1, Q5_1 and
 * the K types. */
struct cuda_chunk_low {
	uint4 q[2];

	template <typename LOAD>
	__device__ __forceinline__ void load(const uint8_t *at, unsigned lane)
	{
		q[0] = LOAD::words(at + 16 * lane);
		q[1] = LOAD::words(at + 512 + 16 * lane);
	}

	__device__ __forceinline__ void of(int b, uint32_t a[4]) const
	{
		const uint4 &v = q[b / 2];
		cuda_chunk_nibbles(b % 2 ? v.z : v.x, b % 2 ? v.w : v.y, false, a);
	}
};

static __device__ __forceinline__ void cuda_chunk_add_fifth(const uint2 &high, int b, uint32_t a[4])
{
	uint32_t h = b / 2 ? high.y : high.x;

#pragma unroll
	for (int k = 0; k < 4; k++)
		a[k] |= (b % 2 ? h >> k : h << (4 - k)) & 0x10101010u;
}

template <> struct cuda_chunk<TENSOR_Q4_1> {
	enum { STEPS = 1, BYTES = 1280, HAS_MIN = 1, IS_Q6 = 0 };
	typedef cuda_chunk_min_head head;
	struct step {
		cuda_chunk_low low;

		template <typename LOAD>
		__device__ __forceinline__ void load(const uint8_t *chunk, int s, unsigned lane)
		{
			(void)s;
			low.load<LOAD>(chunk + 256, lane);
		}

		__device__ __forceinline__ void of(int b, uint32_t a[4]) const
		{
			low.of(b, a);
		}
	};
	static __device__ __forceinline__ float unit(void)
	{
		return 1;
	}
};

template <> struct cuda_chunk<TENSOR_Q5_1> {
	enum { STEPS = 1, BYTES = 1536, HAS_MIN = 1, IS_Q6 = 0 };
	typedef cuda_chunk_min_head head;
	struct step {
		cuda_chunk_low low;
		uint2 high;

		template <typename LOAD>
		__device__ __forceinline__ void load(const uint8_t *chunk, int s, unsigned lane)
		{
			(void)s;
			low.load<LOAD>(chunk + 256, lane);
			high = LOAD::pair(chunk + 1280 + 8 * lane);
		}

		__device__ __forceinline__ void of(int b, uint32_t a[4]) const
		{
			low.of(b, a);
			cuda_chunk_add_fifth(high, b, a);
		}
	};
	static __device__ __forceinline__ float unit(void)
	{
		return 1;
	}
};

template <> struct cuda_chunk<TENSOR_Q4_K> {
	enum { STEPS = 2, BYTES = 2368, HAS_MIN = 1, IS_Q6 = 0 };
	typedef cuda_chunk_k_head head;
	struct step {
		cuda_chunk_low low;

		template <typename LOAD>
		__device__ __forceinline__ void load(const uint8_t *chunk, int s, unsigned lane)
		{
			low.load<LOAD>(chunk + 320 + 1024 * s, lane);
		}

		__device__ __forceinline__ void of(int b, uint32_t a[4]) const
		{
			low.of(b, a);
		}
	};
	static __device__ __forceinline__ float unit(void)
	{
		return 1;
	}
};

template <> struct cuda_chunk<TENSOR_Q5_K> {
	enum { STEPS = 2, BYTES = 2880, HAS_MIN = 1, IS_Q6 = 0 };
	typedef cuda_chunk_k_head head;
	struct step {
		cuda_chunk_low low;
		uint2 high;

		template <typename LOAD>
		__device__ __forceinline__ void load(const uint8_t *chunk, int s, unsigned lane)
		{
			low.load<LOAD>(chunk + 320 + 1024 * s, lane);
			high = LOAD::pair(chunk + 2368 + 16 * lane + 8 * s);
		}

		__device__ __forceinline__ void of(int b, uint32_t a[4]) const
		{
			low.of(b, a);
			cuda_chunk_add_fifth(high, b, a);
		}
	};
	static __device__ __forceinline__ float unit(void)
	{
		return 1;
	}
};

template <> struct cuda_chunk<TENSOR_Q6_K> {
	enum { STEPS = 2, BYTES = 3360, HAS_MIN = 0, IS_Q6 = 1 };
	struct head {
		uint4 scales[2];
		uint32_t d; /* of both rows */

		template <typename LOAD>
		__device__ __forceinline__ void load(const uint8_t *chunk, unsigned lane)
		{
			unsigned g = lane / 4;
			d = LOAD::word(chunk + 4 * g);
			scales[0] = LOAD::words(chunk + 32 + 32 * g);
			scales[1] = LOAD::words(chunk + 48 + 32 * g);
		}

		__device__ __forceinline__ void of(int b, cuda_chunk_scales *s) const
		{
#pragma unroll
			for (int i = 0; i < 2; i++) {
				uint32_t both = cuda_chunk_word(scales[i], b / 2);
				float of = cuda_chunk_half(d, i);
				int at = b % 2 * 2;
				s->d[i] = of * (cuda_chunk_byte(both, at) - 8388736.0f);
				s->m[i] = of * (cuda_chunk_byte(both, at + 1) - 8388736.0f);
			}
		}
	};
	struct step {
		uint4 q[2], high;

		template <typename LOAD>
		__device__ __forceinline__ void load(const uint8_t *chunk, int s, unsigned lane)
		{
			q[0] = LOAD::words(chunk + 288 + 1024 * s + 16 * lane);
			q[1] = LOAD::words(chunk + 800 + 1024 * s + 16 * lane);
			high = LOAD::words(chunk + 2336 + 512 * s + 16 * lane);
		}

		__device__ __forceinline__ void of(int b, uint32_t a[4]) const
		{
			const uint4 &v = q[b / 2];
			uint32_t w0 = b % 2 ? v.z : v.x, w1 = b % 2 ? v.w : v.y;
			uint32_t h = cuda_chunk_word(high, b);
			a[0] = (w0 << 2 & 0x3c3c3c3cu) | (h << 6 & 0xc0c0c0c0u);
			a[1] = (w0 >> 2 & 0x3c3c3c3cu) | (h << 4 & 0xc0c0c0c0u);
			a[2] = (w1 << 2 & 0x3c3c3c3cu) | (h << 2 & 0xc0c0c0c0u);
			a[3] = (w1 >> 2 & 0x3c3c3c3cu) | (h & 0xc0c0c0c0u);
		}
	};
	static __device__ __forceinline__ float unit(void)
	{
		return 0.25f;
	}
};

/* ---- loads ---- */

struct cuda_chunk_plain_load {
	static __device__ __forceinline__ uint4 words(const uint8_t *p)
	{
		return *reinterpret_cast<const uint4 *>(p);
	}

	static __device__ __forceinline__ uint2 pair(const uint8_t *p)
	{
		return *reinterpret_cast<const uint2 *>(p);
	}

	static __device__ __forceinline__ uint32_t word(const uint8_t *p)
	{
		return *reinterpret_cast<const uint32_t *>(p);
	}
};

/* ---- products ---- */

/* One block of a group of 8 rows of q8, as a lane has it. */
struct cuda_chunk_acts {
	uint32_t q[2];
	float d[2], s[2]; /* of rows 2 t, 2 t + 1 */
};

/* q_too: whether the row g exists; d and s may be those of rows that do not. */
template <int TYPE>
static __device__ __forceinline__ void cuda_chunk_take(
	const uint8_t *block, unsigned lane, bool q_too, cuda_chunk_acts *x)
{
	x->q[0] = x->q[1] = 0;
	if (q_too && cuda_chunk<TYPE>::IS_Q6) {
		const uint8_t *at = block + lane / 4 * 32 + lane % 4 * 4;
		x->q[0] = *reinterpret_cast<const uint32_t *>(at);
		x->q[1] = *reinterpret_cast<const uint32_t *>(at + 16);
	} else if (q_too) {
		uint2 both = *reinterpret_cast<const uint2 *>(block + lane * 8);
		x->q[0] = both.x;
		x->q[1] = both.y;
	}
	float2 d = *reinterpret_cast<const float2 *>(block + 256 + lane % 4 * 8);
	x->d[0] = d.x;
	x->d[1] = d.y;
	if (cuda_chunk<TYPE>::HAS_MIN) {
		float2 s = *reinterpret_cast<const float2 *>(block + 288 + lane % 4 * 8);
		x->s[0] = s.x;
		x->s[1] = s.y;
	}
}

/* d = CUDA_CHUNK_ZERO + a b, as mma_s8. The registers that it begins with stay as they are, which
 * saves four moves for each. */
static __device__ __forceinline__ void cuda_chunk_dot(
	int d[4], const uint32_t a[4], const uint32_t b[2])
{
#ifdef __CUDACC__
	asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
	    "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
		: "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
		: "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]),
		"r"(CUDA_CHUNK_ZERO));
#else
	for (int i = 0; i < 4; i++)
		d[i] = CUDA_CHUNK_ZERO;
	mma_s8(d, a, b);
#endif
}

/* acc[0 .. 3] (rows g, g, g + 8, g + 8 of the weights, 2 t, 2 t + 1, 2 t, 2 t + 1 of activations)
 * += a block. odd: whether the odd activation rows are wanted. */
template <int TYPE>
static __device__ __forceinline__ void cuda_chunk_multiply(const uint32_t a[4],
	const cuda_chunk_scales &w, const cuda_chunk_acts &x, float acc[4], bool odd)
{
	int lo[4], hi[4];

	if (cuda_chunk<TYPE>::IS_Q6) {
		const uint32_t a_lo[4] = {a[0], a[1], 0, 0}, a_hi[4] = {a[2], a[3], 0, 0};
		const uint32_t b_lo[2] = {x.q[0], 0}, b_hi[2] = {x.q[1], 0};
		cuda_chunk_dot(lo, a_lo, b_lo);
		cuda_chunk_dot(hi, a_hi, b_hi);
#pragma unroll
		for (int i = 0; i < 4; i++) {
			if (i % 2 && !odd)
				continue;
			float y = (__int_as_float(lo[i]) - CUDA_CHUNK_ZERO_F) * w.d[i / 2];
			y = fmaf(__int_as_float(hi[i]) - CUDA_CHUNK_ZERO_F, w.m[i / 2], y);
			acc[i] = fmaf(y, x.d[i % 2], acc[i]);
		}
		return;
	}
	cuda_chunk_dot(lo, a, x.q);
#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (i % 2 && !odd)
			continue;
		/* (zero + dot) * d - zero * d, rounded once */
		float y = fmaf(__int_as_float(lo[i]), w.d[i / 2], w.z[i / 2]);
		acc[i] = fmaf(y, x.d[i % 2], acc[i]);
		if (cuda_chunk<TYPE>::HAS_MIN)
			acc[i] = fmaf(w.m[i / 2], x.s[i % 2], acc[i]);
	}
}

#endif
