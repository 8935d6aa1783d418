/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_ATTENTION_BRING_DEVICE_H
#define ENGINE_CUDA_ATTENTION_BRING_DEVICE_H

/*
 * Inside the decode kernel: the way of what the step has made of a row to shared memory: q, and
 * where attention ropes (attention.h) the row's own k and v, which go to the cache as well.
 *
 * A thread takes eight columns, the same ones of each vector that it has a part in, so it needs
 * their cosines and sines once. attention_take() has all loads under way and uses none of them: it
 * is called before KV blocks are set out, whose addresses come from memory too. attention_put_q()
 * and attention_put_own() come behind that; a barrier after them is the caller's. T is
 * decode_traits of attention_decode.cu.
 */

#include "engine/cuda/attention_device.h"
#include "engine/cuda/rows_rope_device.h"

/* cp_async_16() if it is wanted: as a predicate, where the compiler would jump around each. */
static __device__ __forceinline__ void attention_copy_if(
	bool wanted, void *to, const void *from, bool valid)
{
#ifdef __CUDA_ARCH__
	asm volatile("{\n\t.reg .pred wanted;\n\tsetp.ne.u32 wanted, %3, 0;\n\t"
		     "@wanted cp.async.cg.shared.global [%0], [%1], 16, %2;\n\t}" ::"r"(
			     device_shared_address(to)),
		     "l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0), "r"((int)wanted)
		     : "memory");
#else
	if (wanted)
		cp_async_16(to, from, valid);
#endif
}

template <class T> struct attention_bring {
	static constexpr uint32_t WIDE = T::DIM <= 64 ? 8 : T::DIM <= 128 ? 16 : 32; /* threads */
	static constexpr uint32_t AT_ONCE = T::WARPS * 32 / WIDE;                    /* vectors */
	static constexpr uint32_t N = ATTENTION_PART_HEADS / AT_ONCE;
	uint4 q[N], own; /* as the products left them; of own the last threads have v, those before
			    them k, as the first ones have heads to rotate */
	float cs[2][4];
	uint32_t block; /* where own goes */
};

template <class T> static __device__ __forceinline__ uint32_t attention_column(void)
{
	return threadIdx.x % attention_bring<T>::WIDE * 8;
}

/* pos: of the row. blocks: of its run. own: its position is this block's to bring. */
template <class T>
static __device__ __forceinline__ void attention_take(const struct attention_args *a, size_t row,
	uint32_t pos, const uint32_t *blocks, uint32_t kv_head, uint32_t first_head,
	uint32_t n_heads, bool own, struct attention_bring<T> *b)
{
	uint32_t c = attention_column<T>(), part = threadIdx.x / attention_bring<T>::WIDE;
	bool in = c < a->kv.head_dim;

#pragma unroll
	for (uint32_t p = 0; p < attention_bring<T>::N; p++) {
		uint32_t r = part + p * attention_bring<T>::AT_ONCE;
		const uint8_t *q = attention_query(a, row, first_head + r) + c * 2;
		b->q[p] = in && r < n_heads ? *(const uint4 *)q : make_uint4(0, 0, 0, 0);
	}
	if (a->rope.k)
		rows_rope_angles<2>(&a->rope, pos, c, true, b->cs);
	b->own = make_uint4(0, 0, 0, 0);
	if (own) {
		size_t at = row * a->rope.ld_kv + kv_head * a->kv.head_dim + c;
		uint32_t back = attention_bring<T>::AT_ONCE - 1 - part;
		const uint8_t *from = (const uint8_t *)(back ? a->rope.k : a->rope.v) + at * 2;
		if (in && back < 2)
			b->own = *(const uint4 *)from;
		b->block = blocks[pos / CUDA_KV_BLOCK_TOK];
	}
}

/* Half h of eight columns. */
template <class T>
static __device__ __forceinline__ void attention_half(const uint4 *x, int h, float v[4])
{
	uint2 half = h ? make_uint2(x->z, x->w) : make_uint2(x->x, x->y);

	rows_get4<T::ACT>(&half, 0, v);
}

/* 16 rows of q, as the left operand of scores; zeros where there is no head or column. */
template <class T>
static __device__ __forceinline__ void attention_put_q(const struct attention_args *a,
	uint32_t n_heads, const struct attention_bring<T> *b, uint8_t *q_rows)
{
	uint32_t c = attention_column<T>(), part = threadIdx.x / attention_bring<T>::WIDE;
	float scale = a->rope.scale * ROWS_ROPE_LOG2_E, v[4];

#pragma unroll
	for (uint32_t p = 0; p < attention_bring<T>::N; p++) {
		uint32_t r = part + p * attention_bring<T>::AT_ONCE;
		uint8_t *to = q_rows + r * T::PITCH + c * 2;
		if (c >= T::DIM)
			continue;
		if (!a->rope.k || r >= n_heads) {
			*(uint4 *)to = b->q[p];
			continue;
		}
#pragma unroll
		for (int h = 0; h < 2; h++) {
			attention_half<T>(&b->q[p], h, v);
			rows_rope_turn(&a->rope, c + 4 * h, b->cs[h], scale, v);
			rows_set4<T::ACT>(to, 4 * h, v);
		}
	}
}

/* The row's own k and v, in the cache's type: to `k` and `v` there, and to row `stage` of keys and
 * that of values behind it, unless it is NULL; zeros there where there is no column. */
template <class T>
static __device__ __forceinline__ void attention_put_own(const struct attention_args *a,
	const struct attention_bring<T> *b, uint8_t *k, uint8_t *v, uint8_t *stage)
{
	constexpr enum cuda_type type = T::E4M3 ? CUDA_TYPE_E4M3 : T::ACT;
	uint32_t c = attention_column<T>();
	uint32_t back = attention_bring<T>::AT_ONCE - 1 - threadIdx.x / attention_bring<T>::WIDE;
	float x[4];

	if (back > 1 || c >= T::DIM)
		return;
#pragma unroll
	for (int h = 0; h < 2; h++) {
		attention_half<T>(&b->own, h, x);
		if (back)
			rows_rope_turn(&a->rope, c + 4 * h, b->cs[h], 1, x);
		if (c < a->kv.head_dim)
			rows_set4<type>(back ? k : v, c + 4 * h, x);
		if (stage)
			rows_set4<type>(stage + (back ? 0 : T::HALF), c + 4 * h, x);
	}
}

#endif
