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
#include "engine/cuda/rows_device.h"

#define LOG2_E 1.44269504088896341f

#define THREADS 128

/* Value (slot, head, 0) of the keys or values. */
static __device__ __forceinline__ size_t cache_at(
	const struct cuda_kv *kv, uint32_t slot, uint32_t head)
{
	size_t block = slot / CUDA_KV_BLOCK_TOK, pos = slot % CUDA_KV_BLOCK_TOK;

	return ((block * kv->n_kv_heads + head) * CUDA_KV_BLOCK_TOK + pos) * kv->head_dim;
}

/* Columns c .. c + 3 of a head. */
static __device__ __forceinline__ void rotate(
	const struct rows_rope *r, size_t row, uint32_t c, float scale, float v[4])
{
	float cs[1][4];

	if (c < r->rope_dim) {
		rows_load_as<1, CUDA_TYPE_F32>(r->cs + (size_t)r->pos[row] * r->rope_dim,
			r->rope_dim, c, 0, r->rope_dim % 4 == 0, cs);
#pragma unroll
		for (int k = 0; k < 4; k += 2) {
			float x0 = v[k], x1 = v[k + 1], cosine = cs[0][k], sine = cs[0][k + 1];
			if (c + k < r->rope_dim) {
				v[k] = fmaf(x0, cosine, -(x1 * sine));
				v[k + 1] = fmaf(x1, cosine, x0 * sine);
			}
		}
	}
#pragma unroll
	for (int k = 0; k < 4; k++)
		v[k] *= scale;
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
	float v[1][4];

	if (slot == CUDA_NO_SLOT)
		return;
	if (head < r.n_heads) {
		uint8_t *q = (uint8_t *)r.q + (row * r.ld_q + (size_t)head * hd) *
						      sizeof(typename rows_stored<ACT>::type);
		rows_load_as<1, ACT>(q, hd, c, 0, aligned, v);
		rotate(&r, row, c, r.scale * LOG2_E, v[0]);
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
	if (!is_v)
		rotate(&r, row, c, 1, v[0]);
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
