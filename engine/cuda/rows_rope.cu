/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the products q, k, v and attention: rotation, the scale of the softmax, and the way of
 * keys and values into the cache.
 *
 * A thread takes four values of a head, q, k and v alike: two pairs that rotate, or none. It reads
 * and writes nothing that another thread writes, so q may be rotated in place.
 */
#include "engine/cuda/ahead_device.h"
#include "engine/cuda/next_device.h"
#include "engine/cuda/rows_rope_device.h"

#define THREADS 128

/* Value (slot, head, 0) of the keys or values. */
static __device__ __forceinline__ size_t cache_at(
	const struct cuda_kv *kv, uint32_t slot, uint32_t head)
{
	size_t block = slot / CUDA_KV_BLOCK_TOK, pos = slot % CUDA_KV_BLOCK_TOK;

	return ((block * kv->n_kv_heads + head) * CUDA_KV_BLOCK_TOK + pos) * kv->head_dim;
}

template <enum cuda_type TYPE>
static __device__ __forceinline__ void store(
	void *p, size_t at, uint32_t c, uint32_t head_dim, bool aligned, const float v[4])
{
	if (aligned) {
		rows_set4<TYPE>(p, at + c, v);
	} else {
		for (uint32_t k = 0; k < 4 && c + k < head_dim; k++)
			rows_set<TYPE>(p, at + c + k, v[k]);
	}
}

template <enum cuda_type ACT, enum cuda_type KV>
static __global__ void __launch_bounds__(THREADS)
	rope_kernel(struct rows_rope r, struct cuda_kv kv, struct ahead_aside aside)
{
	if (ahead_load_weights_aside(aside))
		return;
	device_begin();
	device_let_next();
	uint32_t hd = kv.head_dim, n_pieces = (hd + 3) / 4;
	uint32_t unit = blockIdx.y * THREADS + threadIdx.x;
	uint32_t head = unit / n_pieces, c = unit % n_pieces * 4;
	size_t row = blockIdx.x;
	uint32_t slot = r.slot[row];
	bool aligned = hd % 4 == 0;
	float v[1][4], cs[1][4];

	if (slot == CUDA_NO_SLOT)
		return;
	if (head < r.n_heads) {
		uint8_t *q = (uint8_t *)r.q + (row * r.ld_q + (size_t)head * hd) *
						      sizeof(typename rows_stored<ACT>::type);
		rows_load_as<1, ACT>(q, hd, c, 0, aligned, v);
		rows_rope_angles<1>(&r, r.pos[row], c, r.rope_dim % 4 == 0, cs);
		rows_rope_turn(&r, c, cs[0], r.scale * ROWS_ROPE_LOG2_E, v[0]);
		store<ACT>(q, 0, c, hd, aligned, v[0]);
		return;
	}
	head -= r.n_heads;
	bool is_v = head >= kv.n_kv_heads;
	head -= is_v ? kv.n_kv_heads : 0;
	if (head >= kv.n_kv_heads)
		return;
	const uint8_t *in =
		(const uint8_t *)(is_v ? r.v : r.k) +
		(row * r.ld_kv + (size_t)head * hd) * sizeof(typename rows_stored<ACT>::type);
	rows_load_as<1, ACT>(in, hd, c, 0, aligned, v);
	if (!is_v) {
		rows_rope_angles<1>(&r, r.pos[row], c, r.rope_dim % 4 == 0, cs);
		rows_rope_turn(&r, c, cs[0], 1, v[0]);
	}
	store<KV>(is_v ? kv.v : kv.k, cache_at(&kv, slot, head), c, hd, aligned, v[0]);
}

template <enum cuda_type ACT>
static int rope(const struct rows_rope *r, const struct cuda_kv *kv, cudaStream_t stream)
{
	uint32_t units = (r->n_heads + 2 * kv->n_kv_heads) * ((kv->head_dim + 3) / 4);
	struct ahead_aside aside;
	dim3 grid = ahead_grid(
		dim3(r->n_rows, (units + THREADS - 1) / THREADS), THREADS, r->ahead, &aside);

	if (kv->type == CUDA_TYPE_E4M3)
		return CUDA_LAUNCH((rope_kernel<ACT, CUDA_TYPE_E4M3>), grid, dim3(THREADS), 0,
			stream, *r, *kv, aside);
	if (kv->type == ACT)
		return CUDA_LAUNCH(
			(rope_kernel<ACT, ACT>), grid, dim3(THREADS), 0, stream, *r, *kv, aside);
	return cudaErrorInvalidValue;
}

int rows_rope(const struct rows_rope *r, const struct cuda_kv *kv, cudaStream_t stream)
{
	if (r->n_rows == 0)
		return 0;
	if (kv->head_dim % 2 != 0 || r->rope_dim % 2 != 0 || r->rope_dim > kv->head_dim)
		return cudaErrorInvalidValue;
	switch (r->act) {
	case CUDA_TYPE_F32:
		return rope<CUDA_TYPE_F32>(r, kv, stream);
	case CUDA_TYPE_F16:
		return rope<CUDA_TYPE_F16>(r, kv, stream);
	case CUDA_TYPE_BF16:
		return rope<CUDA_TYPE_BF16>(r, kv, stream);
	default:
		return cudaErrorInvalidValue;
	}
}
