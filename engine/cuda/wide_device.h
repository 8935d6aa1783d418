/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_WIDE_DEVICE_H
#define ENGINE_CUDA_WIDE_DEVICE_H

/*
 * Chunks of repacked weights (quant.h, chunk_device.h) as gemm_wide.cu takes them in: step by step
 * of 128 columns through shared memory, a warp half of a step, a pair of blocks, and from these the
 * left operands of mma_bf16.
 *
 * A tensor core does not care in which order columns come as long as both operands have the same:
 * that of lane 4 g + t is what the lane has, columns 8 t .. 8 t + 7 of a block, four of them in
 * each of two products; of Q6_K columns 4 t .. 4 t + 3 and 16 + 4 t .. 19 + 4 t.
 *
 * A weight is the number that unpack.cu makes of it, to the bit: what a float holds exactly is
 * computed in one go, the rest rounded where it is rounded there.
 */

#include "engine/cuda/chunk_device.h"

/* What of a chunk comes with a step: the ranges to be copied, and where in a tile's part of the
 * stage what lies. Where there are two steps, scales, and the fifth bits of Q5_K, come with the
 * first and stay in registers for the second. */
template <int TYPE> struct cuda_wide;

/* N pieces of 16 bytes to shared memory, by a warp: a lane has the first one's place and address of
 * those that it copies. */
template <int N>
static __device__ __forceinline__ void cuda_wide_copy(
	uint8_t *to, const uint8_t *from, unsigned lane, bool valid)
{
#pragma unroll
	for (int i = 0; i < N; i += 32)
		if (i + 32 <= N || i + lane < N)
			cp_async_16(to + 16 * i, from + 16 * i, valid);
}

/* Both halves of a word of scales that a pair has, of both steps, in one word. */
static __device__ __forceinline__ uint32_t cuda_wide_scales(uint32_t a, uint32_t b, unsigned pair)
{
	return __byte_perm(a, b, pair ? 0x7632u : 0x5410u);
}

/* Scales for head.of(2 * step + b), b = 0, 1: block b of the warp's pair. */
static __device__ __forceinline__ void cuda_wide_head(
	cuda_chunk_plain_head *h, const uint8_t *tile, unsigned pair, unsigned lane)
{
	const uint8_t *at = tile + 16 * (lane / 4) + 4 * pair;

	h->d.x = cuda_chunk_plain_load::word(at);
	h->d.z = cuda_chunk_plain_load::word(at + 8);
}

static __device__ __forceinline__ void cuda_wide_head(
	cuda_chunk_min_head *h, const uint8_t *tile, unsigned pair, unsigned lane)
{
	const uint8_t *at = tile + 128 + 16 * (lane / 4) + 4 * pair;

	cuda_wide_head(&h->scale, tile, pair, lane);
	h->m.x = cuda_chunk_plain_load::word(at);
	h->m.z = cuda_chunk_plain_load::word(at + 8);
}

static __device__ __forceinline__ void cuda_wide_head(
	cuda_chunk_k_head *h, const uint8_t *tile, unsigned pair, unsigned lane)
{
	h->load<cuda_chunk_plain_load>(tile, lane);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		uint4 &s = h->scales[i];
		s.x = cuda_wide_scales(s.x, s.y, pair);
		s.z = cuda_wide_scales(s.z, s.w, pair);
	}
}

static __device__ __forceinline__ void cuda_wide_head(
	cuda_chunk<TENSOR_Q6_K>::head *h, const uint8_t *tile, unsigned pair, unsigned lane)
{
	const uint8_t *at = tile + 32 + 32 * (lane / 4) + 4 * pair;

	h->d = cuda_chunk_plain_load::word(tile + 4 * (lane / 4));
#pragma unroll
	for (int i = 0; i < 2; i++) {
		h->scales[i].x = cuda_chunk_plain_load::word(at + 16 * i);
		h->scales[i].y = cuda_chunk_plain_load::word(at + 16 * i + 8);
	}
}

template <> struct cuda_wide<TENSOR_Q8_0> {
	enum { BYTES = 2176 };

	template <int STEP>
	static __device__ __forceinline__ void copy(
		uint8_t *to, const uint8_t *chunk, unsigned lane, bool valid)
	{
		cuda_wide_copy<136>(to, chunk, lane, valid);
	}

	/* step.of(b) is then block b of the pair. */
	template <int STEP>
	static __device__ __forceinline__ void load(
		cuda_chunk<TENSOR_Q8_0>::step *s, const uint8_t *tile, unsigned pair, unsigned lane)
	{
		const uint8_t *at = tile + 128 + 1024 * pair + 16 * lane;
		s->q[0] = cuda_chunk_plain_load::words(at);
		s->q[1] = cuda_chunk_plain_load::words(at + 512);
	}
};

template <> struct cuda_wide<TENSOR_Q4_0> {
	enum { BYTES = 1152 };

	template <int STEP>
	static __device__ __forceinline__ void copy(
		uint8_t *to, const uint8_t *chunk, unsigned lane, bool valid)
	{
		cuda_wide_copy<72>(to, chunk, lane, valid);
	}

	template <int STEP>
	static __device__ __forceinline__ void load(
		cuda_chunk<TENSOR_Q4_0>::step *s, const uint8_t *tile, unsigned pair, unsigned lane)
	{
		s->q[0] = cuda_chunk_plain_load::words(tile + 128 + 512 * pair + 16 * lane);
	}
};

template <> struct cuda_wide<TENSOR_Q4_1> {
	enum { BYTES = 1280 };

	template <int STEP>
	static __device__ __forceinline__ void copy(
		uint8_t *to, const uint8_t *chunk, unsigned lane, bool valid)
	{
		cuda_wide_copy<80>(to, chunk, lane, valid);
	}

	template <int STEP>
	static __device__ __forceinline__ void load(
		cuda_chunk<TENSOR_Q4_1>::step *s, const uint8_t *tile, unsigned pair, unsigned lane)
	{
		s->low.q[0] = cuda_chunk_plain_load::words(tile + 256 + 512 * pair + 16 * lane);
	}
};

template <> struct cuda_wide<TENSOR_Q5_1> {
	enum { HIGH = 1280, BYTES = HIGH + 256 };

	template <int STEP>
	static __device__ __forceinline__ void copy(
		uint8_t *to, const uint8_t *chunk, unsigned lane, bool valid)
	{
		cuda_wide_copy<96>(to, chunk, lane, valid);
	}

	template <int STEP>
	static __device__ __forceinline__ void load(
		cuda_chunk<TENSOR_Q5_1>::step *s, const uint8_t *tile, unsigned pair, unsigned lane)
	{
		s->low.q[0] = cuda_chunk_plain_load::words(tile + 256 + 512 * pair + 16 * lane);
		s->high.x = cuda_chunk_plain_load::word(tile + HIGH + 8 * lane + 4 * pair);
	}
};

template <> struct cuda_wide<TENSOR_Q4_K> {
	enum { BYTES = 320 + 1024 };

	template <int STEP>
	static __device__ __forceinline__ void copy(
		uint8_t *to, const uint8_t *chunk, unsigned lane, bool valid)
	{
		if (STEP == 0)
			cuda_wide_copy<84>(to, chunk, lane, valid);
		else
			cuda_wide_copy<64>(to + 320, chunk + 320 + 1024, lane, valid);
	}

	template <int STEP>
	static __device__ __forceinline__ void load(
		cuda_chunk<TENSOR_Q4_K>::step *s, const uint8_t *tile, unsigned pair, unsigned lane)
	{
		s->low.q[0] = cuda_chunk_plain_load::words(tile + 320 + 512 * pair + 16 * lane);
	}
};

template <> struct cuda_wide<TENSOR_Q5_K> {
	enum { HIGH = 320 + 1024, BYTES = HIGH + 512 };

	template <int STEP>
	static __device__ __forceinline__ void copy(
		uint8_t *to, const uint8_t *chunk, unsigned lane, bool valid)
	{
		cuda_wide<TENSOR_Q4_K>::copy<STEP>(to, chunk, lane, valid);
		if (STEP == 0)
			cuda_wide_copy<32>(to + HIGH, chunk + 2368, lane, valid);
	}

	template <int STEP>
	static __device__ __forceinline__ void load(
		cuda_chunk<TENSOR_Q5_K>::step *s, const uint8_t *tile, unsigned pair, unsigned lane)
	{
		s->low.q[0] = cuda_chunk_plain_load::words(tile + 320 + 512 * pair + 16 * lane);
		if (STEP == 0) { /* .y is kept for the second step */
			const uint8_t *at = tile + HIGH + 16 * lane + 4 * pair;
			s->high.x = cuda_chunk_plain_load::word(at);
			s->high.y = cuda_chunk_plain_load::word(at + 8);
		} else {
			s->high.x = s->high.y;
		}
	}
};

template <> struct cuda_wide<TENSOR_Q6_K> {
	enum { HIGH = 288 + 1024, BYTES = HIGH + 512 };

	template <int STEP>
	static __device__ __forceinline__ void copy(
		uint8_t *to, const uint8_t *chunk, unsigned lane, bool valid)
	{
		if (STEP == 0)
			cuda_wide_copy<82>(to, chunk, lane, valid);
		else
			cuda_wide_copy<64>(to + 288, chunk + 288 + 1024, lane, valid);
		cuda_wide_copy<32>(to + HIGH, chunk + 2336 + 512 * STEP, lane, valid);
	}

	template <int STEP>
	static __device__ __forceinline__ void load(
		cuda_chunk<TENSOR_Q6_K>::step *s, const uint8_t *tile, unsigned pair, unsigned lane)
	{
		s->q[0] = cuda_chunk_plain_load::words(tile + 288 + 512 * pair + 16 * lane);
		uint2 high = cuda_chunk_plain_load::pair(tile + HIGH + 16 * lane + 8 * pair);
		s->high.x = high.x;
		s->high.y = high.y;
	}
};

/* Block b of the pair, as step.of() has it. */
template <typename STEP>
static __device__ __forceinline__ void cuda_wide_words(const STEP &step, int b, uint32_t q[4])
{
	step.of(b, q);
}

/* In PTX, because nvcc 13 takes minutes of thinking for the same in C. */
static __device__ __forceinline__ uint32_t cuda_wide_or_masked(
	uint32_t a, uint32_t b, uint32_t mask)
{
#ifdef __CUDACC__
	asm("lop3.b32 %0, %0, %1, %2, 0xf8;" : "+r"(a) : "r"(b), "r"(mask));
	return a;
#else
	return a | (b & mask);
#endif
}

static __device__ __forceinline__ void cuda_wide_five_bits(
	const cuda_chunk_low &low, uint32_t high, int b, uint32_t q[4])
{
	low.of(b, q);
#pragma unroll
	for (int k = 0; k < 4; k++)
		q[k] = cuda_wide_or_masked(q[k], b ? high >> k : high << (4 - k), 0x10101010u);
}

static __device__ __forceinline__ void cuda_wide_words(
	const cuda_chunk<TENSOR_Q5_1>::step &step, int b, uint32_t q[4])
{
	cuda_wide_five_bits(step.low, step.high.x, b, q);
}

static __device__ __forceinline__ void cuda_wide_words(
	const cuda_chunk<TENSOR_Q5_K>::step &step, int b, uint32_t q[4])
{
	cuda_wide_five_bits(step.low, step.high.x, b, q);
}

/* 32768 + byte i of a word, as a float. */
static __device__ __forceinline__ float cuda_wide_byte(uint32_t word, int i)
{
	return __uint_as_float(__byte_perm(word, 0x47000000u, 0x7404u | (unsigned)i << 4));
}

/* The four weights in a word of a block, in bf16: out[0] the first two. upper: of row g + 8; last:
 * of columns 16 .. of Q6_K. */
template <int TYPE>
static __device__ __forceinline__ void cuda_wide_weights(
	uint32_t word, const cuda_chunk_scales &w, int upper, bool last, uint32_t out[2])
{
	const bool has_sign = !cuda_chunk<TYPE>::HAS_MIN;
	const float zero = has_sign ? 32768.0f + 128.0f : 32768.0f;
	float d = (last && cuda_chunk<TYPE>::IS_Q6 ? w.m : w.d)[upper] * cuda_chunk<TYPE>::unit();
	float v[4];

	if (has_sign)
		word ^= 0x80808080u;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		float q = cuda_wide_byte(word, i);
		if (cuda_chunk<TYPE>::HAS_MIN)
			v[i] = fmaf(d, q - zero, -w.m[upper]);
		else if (cuda_chunk<TYPE>::IS_Q6)
			v[i] = d * (q - zero);
		else /* d has 11 bits and zero 9: both products are exact, and so is what is left */
			v[i] = fmaf(d, q, -d * zero);
	}
	out[0] = f32x2_to_bf16x2(v[0], v[1]);
	out[1] = f32x2_to_bf16x2(v[2], v[3]);
}

/* The left operands of both products of a block, from the words of step.of(). */
template <int TYPE>
static __device__ __forceinline__ void cuda_wide_operands(
	const uint32_t q[4], const cuda_chunk_scales &w, uint32_t a[2][4])
{
#pragma unroll
	for (int k = 0; k < 4; k++) {
		uint32_t two[2];
		cuda_wide_weights<TYPE>(q[k], w, k % 2, k / 2 == 1, two);
		a[k / 2][k % 2] = two[0];
		a[k / 2][k % 2 + 2] = two[1];
	}
}

#endif
