/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantised weights times some dozens to hundreds of rows of bf16. A weight becomes bf16 in
 * registers, once, scale and minimum folded in, and is multiplied with all activation rows of the
 * block by tensor cores, whose f32 sums go along all columns: for each activation row there is
 * nothing to do but its product, where gemm_q.cu scales every sum of every 32 columns.
 *
 * A block has 128 weight rows times 32, 64, 96 or 128 activation rows. Step by step of 128 columns
 * both come to shared memory by cp.async, some steps ahead. Of its 8 warps four have 32 weight rows
 * each and the first half of a step, four the same rows and the other half, so that each weight is
 * taken apart by one warp; the sums of both are added at the end of a tile.
 */
#include "engine/cuda/wide_device.h"
#include "engine/cuda/wide_tile_device.h"

#define SHARED_MOST (99 * 1024) /* which every device since sm_80 has */
#define MOST_SM 160             /* of devices that take this way: each is to have a block */

template <int TYPE, int N_> struct shape {
	enum {
		N = N_, /* groups of 8 activation rows */
		ROWS = 8 * N,
		STEPS = cuda_chunk<TYPE>::STEPS,
		TILE_BYTES = cuda_wide<TYPE>::BYTES,
		W_BYTES = CUDA_WIDE_WARPS_M * CUDA_WIDE_M * TILE_BYTES,
		BLOCK_BYTES = ROWS * 64, /* 32 columns of activations */
		STAGE_BYTES = W_BYTES + 4 * BLOCK_BYTES,
		STAGES = 4 * STAGE_BYTES <= SHARED_MOST   ? 4
			 : 3 * STAGE_BYTES <= SHARED_MOST ? 3
							  : 2,
		SHARED_BYTES = STAGES * STAGE_BYTES,
	};
	static_assert(SHARED_BYTES <= SHARED_MOST && CUDA_WIDE_FINISH_BYTES <= STAGE_BYTES, "");
	static_assert(CUDA_PRODUCT_PART_VALUES / (2 * ROWS * CUDA_WIDE_TILE_ROWS) >= MOST_SM,
		"the workspace has room for two parts of each block");
	static_assert(N % 4 == 0 && CUDA_WIDE_WARPS_M * CUDA_WIDE_M == CUDA_WIDE_WARPS,
		"a warp copies a tile");
};

/* Where in a stage a row of 8 columns begins: block after block of 32 columns, its rows one behind
 * the other, 64 bytes each. Neighbours are exchanged where a block's number is odd, so that the
 * pieces of a row, which are copied together, fall into all banks, and of Q6_K the halves of every
 * other pair of rows, so that lanes which read 8 bytes do. */
template <int TYPE> static __device__ __forceinline__ uint32_t swapped(uint32_t row, uint32_t block)
{
	row ^= block & 1;
	return row * 64 + (cuda_chunk<TYPE>::IS_Q6 ? (row & 2) * 16 : 0);
}

/* Where a thread copies the next step from: its first piece of a tile of weights; and 8 columns of
 * its first row of activations, to which come those of the 16th row behind it and so on. */
struct source {
	const uint8_t *w;
	const uint16_t *x;
};

/* Rows of activations that a thread copies: the first one. */
template <typename S> static __device__ __forceinline__ uint32_t row_of(const cuda_wide_place &p)
{
	return p.across * S::ROWS + threadIdx.x / 16;
}

template <int TYPE, typename S>
static __device__ __forceinline__ source source_of(
	const cuda_wide_work &m, const cuda_wide_place &p)
{
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	size_t tile = static_cast<size_t>(p.down) * CUDA_WIDE_WARPS + warp;
	size_t col = p.chunk * S::STEPS * 128 + lane % 16 * 8;
	source s;

	s.w = m.w + (tile * m.n_chunks + p.chunk) * cuda_chunk<TYPE>::BYTES + 16 * lane;
	s.x = m.x + row_of<S>(p) * static_cast<size_t>(m.cols) + col;
	return s;
}

/* Begins the copy of a step to a stage. What does not exist becomes zeros. */
template <int TYPE, typename S, int STEP>
static __device__ __forceinline__ void fetch(
	const cuda_wide_work &m, const cuda_wide_place &p, source *s, uint8_t *stage)
{
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, piece = lane % 16;
	bool valid = (p.chunk * S::STEPS + STEP) * 128 + 8 * piece < m.cols;
	uint32_t row = row_of<S>(p), rows = valid && row < m.n_rows ? m.n_rows - row : 0;
	const uint16_t *x = s->x;
	uint8_t *to = stage + S::W_BYTES + piece / 4 * S::BLOCK_BYTES +
		      (swapped<TYPE>(2 * warp + lane / 16, piece / 4) ^ piece % 4 * 16);

	cuda_wide<TYPE>::template copy<STEP>(stage + warp * S::TILE_BYTES + 16 * lane, s->w, lane,
		p.down * CUDA_WIDE_WARPS + warp < m.n_tiles);
#pragma unroll
	for (uint32_t i = 0; i < S::ROWS; i += 2 * CUDA_WIDE_WARPS) {
		cp_async_16(to + i * 64, x, i < rows);
		x += static_cast<size_t>(2 * CUDA_WIDE_WARPS) * m.cols;
	}
	s->x += 128;
}

/* The right operands of a group of 8 activation rows, of both products of a block. at: the lane's,
 * in the group. */
template <int TYPE>
static __device__ __forceinline__ void activations(
	const uint8_t *group, uint32_t at, uint32_t b[2][2])
{
	if (cuda_chunk<TYPE>::IS_Q6) {
		uint2 low = *reinterpret_cast<const uint2 *>(group + at);
		uint2 high = *reinterpret_cast<const uint2 *>(group + (at ^ 32));
		b[0][0] = low.x;
		b[0][1] = low.y;
		b[1][0] = high.x;
		b[1][1] = high.y;
	} else {
		uint4 v = *reinterpret_cast<const uint4 *>(group + at);
		b[0][0] = v.x;
		b[0][1] = v.y;
		b[1][0] = v.z;
		b[1][1] = v.w;
	}
}

/* A block of the warp's 32 weight rows times all activation rows, four groups at a time, so that
 * seven products are under way before one is added to. */
template <int TYPE, typename S>
static __device__ __forceinline__ void multiply_block(const uint32_t a[CUDA_WIDE_M][2][4],
	const uint8_t *x, uint32_t at, float acc[CUDA_WIDE_M][S::N][4])
{
#pragma unroll
	for (int k = 0; k < S::N; k += 4) {
		uint32_t b[4][2][2];
#pragma unroll
		for (int j = 0; j < 4; j++)
			activations<TYPE>(x + (k + j) * 512, at, b[j]);
#pragma unroll
		for (int half = 0; half < 2; half++)
#pragma unroll
			for (int j = 0; j < 4; j++)
#pragma unroll
				for (int i = 0; i < CUDA_WIDE_M; i++)
					mma_bf16(acc[i][k + j], a[i][half], b[j][half]);
	}
}

/* What a warp keeps of its weights from one step to the next. */
template <int TYPE> struct weights {
	typename cuda_chunk<TYPE>::head head[CUDA_WIDE_M];
	typename cuda_chunk<TYPE>::step step[CUDA_WIDE_M];
};

template <int TYPE, typename S, int STEP>
static __device__ __forceinline__ void multiply(
	const uint8_t *stage, weights<TYPE> &w, float acc[CUDA_WIDE_M][S::N][4])
{
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
	uint32_t pair = warp / CUDA_WIDE_WARPS_M;
	const uint8_t *tile = stage + warp % CUDA_WIDE_WARPS_M * CUDA_WIDE_M * S::TILE_BYTES;
	const uint8_t *x = stage + S::W_BYTES + 2 * pair * S::BLOCK_BYTES;

#pragma unroll
	for (int i = 0; i < CUDA_WIDE_M; i++) {
		if (STEP == 0)
			cuda_wide_head(&w.head[i], tile + i * S::TILE_BYTES, pair, lane);
		cuda_wide<TYPE>::template load<STEP>(
			&w.step[i], tile + i * S::TILE_BYTES, pair, lane);
	}
#pragma unroll
	for (int b = 0; b < 2; b++) {
		uint32_t a[CUDA_WIDE_M][2][4];
		uint32_t at = swapped<TYPE>(g, b) ^ (cuda_chunk<TYPE>::IS_Q6 ? 8 * t : 16 * t);
#pragma unroll
		for (int i = 0; i < CUDA_WIDE_M; i++) {
			uint32_t q[4];
			cuda_chunk_scales scales;
			cuda_wide_words(w.step[i], b, q);
			w.head[i].of(2 * STEP + b, &scales);
			cuda_wide_operands<TYPE>(q, scales, a[i]);
		}
		multiply_block<TYPE, S>(a, x + b * S::BLOCK_BYTES, at, acc);
	}
}

/* ---- the kernel ---- */

/* The stages, of which some are under way. */
struct ring {
	uint8_t *shared;
	uint32_t now, ahead;  /* which one is multiplied, which one is fetched */
	cuda_wide_place next; /* what to fetch: the step is known where this is used */
	source from;
	uint32_t left; /* items from there on */
};

template <int TYPE, typename S, int STEP>
static __device__ __forceinline__ void fetch_next(const cuda_wide_work &m, ring *r)
{
	if (r->left > 0) {
		fetch<TYPE, S, STEP>(m, r->next, &r->from, r->shared + r->ahead * S::STAGE_BYTES);
		if (STEP == S::STEPS - 1) {
			r->from.w += cuda_chunk<TYPE>::BYTES;
			if (cuda_wide_go_on(m, &r->next))
				r->from = source_of<TYPE, S>(m, r->next);
			r->left--;
		}
	}
	cp_async_commit();
	r->ahead = r->ahead + 1 == S::STAGES ? 0 : r->ahead + 1;
}

/* The stage with the next step, which is there for all; all have done with the one before. */
template <int TYPE, typename S, int STEP>
static __device__ __forceinline__ uint8_t *take(const cuda_wide_work &m, ring *r)
{
	uint8_t *stage = r->shared + r->now * S::STAGE_BYTES;

	cp_async_wait<S::STAGES - 2>();
	__syncthreads();
	fetch_next<TYPE, S, (STEP + S::STAGES - 1) % S::STEPS>(m, r);
	r->now = r->now + 1 == S::STAGES ? 0 : r->now + 1;
	return stage;
}

template <typename S> static __device__ __forceinline__ void clear(float acc[CUDA_WIDE_M][S::N][4])
{
#pragma unroll
	for (int i = 0; i < CUDA_WIDE_M * S::N; i++)
#pragma unroll
		for (int j = 0; j < 4; j++)
			acc[i / S::N][i % S::N][j] = 0;
}

template <int TYPE, typename S>
__global__ void __launch_bounds__(32 * CUDA_WIDE_WARPS, 1)
	gemm_wide(cuda_wide_work m, cuda_product_out o)
{
	device_begin();
	DEVICE_SHARED(uint8_t, shared);
	uint32_t item = cuda_wide_first_of(m, blockIdx.x),
		 last = cuda_wide_first_of(m, blockIdx.x + 1);
	cuda_wide_place at = cuda_wide_place_of(m, item);
	ring r = {shared, 0, 0, at, source_of<TYPE, S>(m, at), last - item};
	weights<TYPE> w;
	float acc[CUDA_WIDE_M][S::N][4];

	fetch_next<TYPE, S, 0>(m, &r);
	if (S::STAGES > 2)
		fetch_next<TYPE, S, 1 % S::STEPS>(m, &r);
	if (S::STAGES > 3)
		fetch_next<TYPE, S, 0>(m, &r);
	while (item < last) {
		at = cuda_wide_place_of(m, item);
		uint32_t end = item - at.chunk + m.n_chunks; /* of the tile, or of the part */
		end = end < last ? end : last;
		uint8_t *stage = nullptr;
		clear<S>(acc);
		for (; item < end; item++) {
			stage = take<TYPE, S, 0>(m, &r);
			multiply<TYPE, S, 0>(stage, w, acc);
			if constexpr (S::STEPS == 2) {
				stage = take<TYPE, S, 1>(m, &r);
				multiply<TYPE, S, 1>(stage, w, acc);
			}
		}
		cuda_wide_finish<S>(m, o, cuda_wide_place_of(m, item - 1), stage, acc);
	}
}

/* ---- launchers ---- */

/* How many blocks: one a multiprocessor, but each has four steps at least, and the workspace has
 * room for its two parts. */
static uint32_t blocks_for(uint64_t n_steps, size_t part_values, uint32_t n_sm)
{
	uint64_t blocks = n_sm, most = n_steps / 4;

	blocks = blocks < most ? blocks : most;
	most = CUDA_PRODUCT_PART_VALUES / (2 * part_values);
	blocks = blocks < most ? blocks : most;
	return blocks < 1 ? 1 : static_cast<uint32_t>(blocks);
}

template <int TYPE, int N>
static int launch(
	const cuda_quant_matrix *w, const cuda_product *p, cuda_product_out o, cudaStream_t stream)
{
	typedef shape<TYPE, N> S;
	const uint32_t chunk = 128 * S::STEPS;
	cuda_wide_work m = {static_cast<const uint8_t *>(w->data),
		static_cast<const uint16_t *>(p->x), (w->rows + 15) / 16,
		(w->cols + chunk - 1) / chunk, w->cols, p->n_rows,
		(p->n_rows + S::ROWS - 1) / S::ROWS, 0};
	uint64_t tiles = static_cast<uint64_t>(w->rows + CUDA_WIDE_TILE_ROWS - 1) /
			 CUDA_WIDE_TILE_ROWS * m.n_across;
	cudaError_t r;

	if (tiles > UINT32_MAX / m.n_chunks)
		return cudaErrorInvalidValue;
	m.n_items = static_cast<uint32_t>(tiles) * m.n_chunks;
	r = cudaFuncSetAttribute(
		gemm_wide<TYPE, S>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::SHARED_BYTES);
	if (r != cudaSuccess)
		return r;
	return CUDA_LAUNCH((gemm_wide<TYPE, S>),
		dim3(blocks_for(static_cast<uint64_t>(m.n_items) * S::STEPS,
			S::ROWS * CUDA_WIDE_TILE_ROWS, p->n_sm)),
		dim3(32 * CUDA_WIDE_WARPS), S::SHARED_BYTES, stream, m, o);
}

/* Rows that are computed when blocks have so many. */
static uint32_t padded(uint32_t n_rows, uint32_t rows)
{
	return (n_rows + rows - 1) / rows * rows;
}

/* Where there are more rows than one block takes, as few as may be are computed in vain. With
 * minima there are not enough registers for 128. */
template <int TYPE>
static int launch_type(
	const cuda_quant_matrix *w, const cuda_product *p, cuda_product_out o, cudaStream_t stream)
{
	uint32_t n = p->n_rows;

	if (n <= 32)
		return launch<TYPE, 4>(w, p, o, stream);
	if constexpr (!cuda_chunk<TYPE>::HAS_MIN)
		if (padded(n, 128) <= padded(n, 96) && padded(n, 128) <= padded(n, 64))
			return launch<TYPE, 16>(w, p, o, stream);
	if (padded(n, 96) <= padded(n, 64))
		return launch<TYPE, 12>(w, p, o, stream);
	return launch<TYPE, 8>(w, p, o, stream);
}

extern "C" int cuda_gemm_wide(
	const struct cuda_quant_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
	cuda_product_out o;
	int r = cuda_product_out_of(p, w->rows, &o);

	if (r || !cuda_quant_fits(w->type, w->cols))
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

/* docs/bench.md has what this was reckoned from, and what an H200 said of it. Cards for gaming and
 * desks (8.6, 8.9, 12) multiply bf16 at a quarter to a half of the rate of int8. */
extern "C" struct cuda_quant_limits cuda_quant_limits(uint32_t sm_major, uint32_t sm_minor)
{
	struct cuda_quant_limits never = {UINT32_MAX, UINT32_MAX}, ampere = {24, UINT32_MAX},
				 hopper = {24, 192};

	return sm_major == 8 && sm_minor == 0    ? ampere
	       : sm_major == 9 || sm_major == 10 ? hopper
						 : never;
}
