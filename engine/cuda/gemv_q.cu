/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantised weights times up to 8 rows of activations: all that counts is how fast weights come
 * from memory. A block of 8 warps has a tile of 16 weight rows, each warp every eighth chunk of its
 * columns; it loads a chunk straight into registers, 16 bytes a lane, while it multiplies the one
 * before. Nothing of the weights is shared, so nothing waits. Activations are small and come out of
 * the L1 cache. The first chunk is asked for before device_begin(): weights stay as they are, so
 * that memory has something to do while the kernel before this one ends. Where a matrix has too few
 * tiles to fill the device its columns are cut among blocks as well (product_device.h).
 *
 * The multiplication is the tensor cores', for one row too: they take 8 at the price of one, the
 * work left over (scales, 4 sums a lane) is less than that of dp4a from 2 rows on, and at 1 row the
 * odd columns are not computed.
 */
#include "engine/cuda/ahead_device.h"
#include "engine/cuda/chunk_device.h"
#include "engine/cuda/next_device.h"
#include "engine/cuda/tail_device.h"

#define WARPS 8
#define THREADS (32 * WARPS)
#define BLOCKS 2 /* of a multiprocessor, at least */

struct weights_load {
	static __device__ __forceinline__ uint4 words(const uint8_t *p)
	{
		return cuda_product_stream(p);
	}

	static __device__ __forceinline__ uint2 pair(const uint8_t *p)
	{
		return __ldg(reinterpret_cast<const uint2 *>(p));
	}

	static __device__ __forceinline__ uint32_t word(const uint8_t *p)
	{
		return __ldg(reinterpret_cast<const uint32_t *>(p));
	}
};

/* The same before device_begin(). */
struct early_load {
	static __device__ __forceinline__ uint4 words(const uint8_t *p)
	{
		return cuda_product_stream_early(p);
	}

	static __device__ __forceinline__ uint2 pair(const uint8_t *p)
	{
		return cuda_product_pair_early(p);
	}

	static __device__ __forceinline__ uint32_t word(const uint8_t *p)
	{
		return cuda_product_word_early(p);
	}
};

template <int TYPE> struct chunk_in_registers {
	typename cuda_chunk<TYPE>::head head;
	typename cuda_chunk<TYPE>::step step[cuda_chunk<TYPE>::STEPS];

	template <typename LOAD>
	__device__ __forceinline__ void load_weights(const uint8_t *chunk, unsigned lane)
	{
		head.template load<LOAD>(chunk, lane);
#pragma unroll
		for (int s = 0; s < cuda_chunk<TYPE>::STEPS; s++)
			step[s].template load<LOAD>(chunk, s, lane);
	}
};

/* x: the block of q8 where the chunk begins. */
template <int TYPE, bool ODD>
static __device__ __forceinline__ void multiply(const chunk_in_registers<TYPE> &c, const uint8_t *x,
	unsigned lane, uint32_t n_rows, float acc[4])
{
#pragma unroll
	for (int b = 0; b < 4 * cuda_chunk<TYPE>::STEPS; b++) {
		cuda_chunk_scales scales;
		cuda_chunk_acts acts;
		uint32_t a[4];
		c.head.of(b, &scales);
		c.step[b / 4].of(b % 4, a);
		cuda_chunk_take<TYPE>(
			x + b * CUDA_QUANT_GROUP_BLOCK_BYTES, lane, lane / 4 < n_rows, &acts);
		cuda_chunk_multiply<TYPE>(a, scales, acts, acc, ODD);
	}
}

/* Blocks that a multiprocessor is to have room for. Where the loop of one row leaves it room for
 * more than two, what follows may not take that away. */
static constexpr int least_blocks(int type, bool odd, enum cuda_tail_kind tail)
{
	if (odd || tail == CUDA_TAIL_NONE)
		return BLOCKS;
	return type == TENSOR_Q4_0 ? 4 : type == TENSOR_Q8_0 ? 3 : 2;
}

/* ODD: there is more than one row of activations. TAIL: what follows. Only the weights are
 * restricted (device.h). */
template <int TYPE, bool ODD, enum cuda_tail_kind TAIL>
__global__ void __launch_bounds__(THREADS, least_blocks(TYPE, ODD, TAIL))
	gemv(const uint8_t *__restrict__ w, uint32_t n_chunks, const uint8_t *x, cuda_product_out o,
		cuda_ahead ahead, uint32_t at_once)
{
	DEVICE_SHARED(float, shared);
	const uint32_t chunk_x = 4 * cuda_chunk<TYPE>::STEPS * CUDA_QUANT_GROUP_BLOCK_BYTES;
	unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, step = gridDim.y * WARPS;
	chunk_in_registers<TYPE> now, next;
	float acc[4] = {};

	const uint8_t *tile =
		w + static_cast<size_t>(blockIdx.x) * n_chunks * cuda_chunk<TYPE>::BYTES;
	uint32_t c = blockIdx.y * WARPS + warp;
	if (c < n_chunks)
		next.template load_weights<early_load>(
			tile + static_cast<size_t>(c) * cuda_chunk<TYPE>::BYTES, lane);
	device_begin();
	for (; c < n_chunks; c += step) {
		now = next;
		if (c + step < n_chunks)
			next.template load_weights<weights_load>(
				tile + static_cast<size_t>(c + step) * cuda_chunk<TYPE>::BYTES,
				lane);
		multiply<TYPE, ODD>(now, x + c * chunk_x, lane, o.n_rows, acc);
	}
	ahead_load_weights_by_last(ahead, at_once);
	device_let_next();
	cuda_tail_finish<WARPS, TAIL, CUDA_TYPE_Q8, ODD>(o, shared, acc, cuda_chunk<TYPE>::unit());
}

template <int TYPE, bool ODD, enum cuda_tail_kind TAIL>
static int launch(
	const cuda_quant_matrix *w, const cuda_product *p, cuda_product_out o, cudaStream_t stream)
{
	uint32_t chunk = 128 * cuda_chunk<TYPE>::STEPS, n_chunks = (w->cols + chunk - 1) / chunk;
	uint32_t n_tiles = (w->rows + 15) / 16;
	uint32_t at_once = BLOCKS * p->n_sm;
	uint32_t parts = cuda_product_parts(n_tiles, 128, at_once, n_chunks, WARPS);

	return CUDA_LAUNCH((gemv<TYPE, ODD, TAIL>), dim3(n_tiles, parts), dim3(THREADS),
		CUDA_PRODUCT_FINISH_BYTES(WARPS), stream, static_cast<const uint8_t *>(w->data),
		n_chunks, static_cast<const uint8_t *>(p->x), o, p->ahead, at_once);
}

template <int TYPE, bool ODD>
static int launch_tail(
	const cuda_quant_matrix *w, const cuda_product *p, cuda_product_out o, cudaStream_t stream)
{
	if (p->tail.kind == CUDA_TAIL_NORM)
		return launch<TYPE, ODD, CUDA_TAIL_NORM>(w, p, o, stream);
	if (p->tail.kind == CUDA_TAIL_GLU)
		return launch<TYPE, ODD, CUDA_TAIL_GLU>(w, p, o, stream);
	return launch<TYPE, ODD, CUDA_TAIL_NONE>(w, p, o, stream);
}

template <int TYPE>
static int launch_type(
	const cuda_quant_matrix *w, const cuda_product *p, cuda_product_out o, cudaStream_t stream)
{
	if (p->n_rows == 1)
		return launch_tail<TYPE, false>(w, p, o, stream);
	return launch_tail<TYPE, true>(w, p, o, stream);
}

extern "C" int cuda_gemv_q(
	const struct cuda_quant_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
	cuda_product_out o;
	int r = cuda_tail_out_of(p, w->rows, CUDA_TYPE_Q8, &o);

	if (r || p->n_rows > CUDA_QUANT_GROUP_ROWS || !cuda_quant_fits(w->type, w->cols))
		return r ? r : static_cast<int>(cudaErrorInvalidValue);
	switch (w->type) {
	case TENSOR_Q8_0:
		return launch_type<TENSOR_Q8_0>(w, p, o, stream);
	case TENSOR_Q4_0:
		return launch_type<TENSOR_Q4_0>(w, p, o, stream);
	case TENSOR_Q4_1:
		return launch_type<TENSOR_Q4_1>(w, p, o, stream);
	case TENSOR_Q5_1:
		return launch_type<TENSOR_Q5_1>(w, p, o, stream);
	case TENSOR_Q4_K:
		return launch_type<TENSOR_Q4_K>(w, p, o, stream);
	case TENSOR_Q5_K:
		return launch_type<TENSOR_Q5_K>(w, p, o, stream);
	case TENSOR_Q6_K:
		return launch_type<TENSOR_Q6_K>(w, p, o, stream);
	default:
		return cudaErrorInvalidValue;
	}
}
