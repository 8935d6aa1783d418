/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantised weights times many rows of activations. A block has a tile of weight rows times
 * activation rows; chunk by chunk of columns both go to shared memory by cp.async, some stages
 * ahead, as they lie in memory, which is the order in which lanes want them. A warp has a part of
 * the tile in registers. Each mma_s8 gives the integers of one block of 32 columns, which are
 * scaled and added as floats: that, and not the tensor core, is what a Hopper is busy with here.
 */
#include "engine/cuda/chunk_device.h"
#include "engine/cuda/product_device.h"

/* A block: WARPS_M * WARPS_N warps, each of M tiles of 16 weight rows and N groups of 8 activation
 * rows. */
template <int TYPE, int WARPS_M_, int WARPS_N_, int M_, int N_> struct shape {
	enum {
		WARPS_M = WARPS_M_,
		WARPS_N = WARPS_N_,
		M = M_,
		N = N_,
		THREADS = 32 * WARPS_M * WARPS_N,
		TILES = WARPS_M * M,
		GROUPS = WARPS_N * N,
		ROWS = 8 * GROUPS, /* of activations */
		BLOCKS = 4 * cuda_chunk<TYPE>::STEPS,
		W_BYTES = TILES * cuda_chunk<TYPE>::BYTES,
		X_BYTES = GROUPS * BLOCKS * CUDA_QUANT_GROUP_BLOCK_BYTES,
		STAGE_BYTES = W_BYTES + X_BYTES,
		/* at most 99 KiB, which every device since sm_80 has; less where that is enough,
		 * for more blocks at a time */
		STAGES = 4 * STAGE_BYTES <= 72 * 1024   ? 4
			 : 3 * STAGE_BYTES <= 98 * 1024 ? 3
							: 2,
		SHARED_BYTES = STAGES * STAGE_BYTES + 16,
		VALUES = 4 * M * N,         /* of a thread */
		MIN_BLOCKS = 512 / THREADS, /* 128 registers */
	};
};

struct matrices {
	const uint8_t *w, *x;
	uint32_t n_tiles, n_chunks;  /* of w */
	uint32_t n_groups, n_blocks; /* of x */
};

/* Begins the copy of chunk c to a stage. Tiles and groups that do not exist become zeros. */
template <int TYPE, typename S>
static __device__ __forceinline__ void fetch(const matrices &m, uint32_t c, uint8_t *stage)
{
	const uint32_t w_pieces = cuda_chunk<TYPE>::BYTES / 16;
	const uint32_t x_pieces = S::BLOCKS * CUDA_QUANT_GROUP_BLOCK_BYTES / 16;
	uint32_t first_tile = blockIdx.y * S::TILES, first_group = blockIdx.x * S::GROUPS;

#pragma unroll 1 /* or addresses of all pieces would take registers all the time */
	for (uint32_t i = threadIdx.x; i < S::TILES * w_pieces; i += S::THREADS) {
		uint32_t tile = first_tile + i / w_pieces;
		bool valid = tile < m.n_tiles;
		size_t at = (static_cast<size_t>(valid ? tile : 0) * m.n_chunks + c) *
			    cuda_chunk<TYPE>::BYTES;
		cp_async_16(stage + 16 * i, m.w + at + i % w_pieces * 16, valid);
	}
#pragma unroll 1
	for (uint32_t i = threadIdx.x; i < S::GROUPS * x_pieces; i += S::THREADS) {
		uint32_t group = first_group + i / x_pieces;
		bool valid = group < m.n_groups;
		size_t at = (static_cast<size_t>(valid ? group : 0) * m.n_blocks + c * S::BLOCKS) *
			    CUDA_QUANT_GROUP_BLOCK_BYTES;
		cp_async_16(stage + S::W_BYTES + 16 * i, m.x + at + i % x_pieces * 16, valid);
	}
}

template <int TYPE, typename S>
static __device__ __forceinline__ void multiply(
	const uint8_t *w, const uint8_t *x, unsigned lane, float acc[S::M][S::N][4])
{
	typename cuda_chunk<TYPE>::head head[S::M];

#pragma unroll
	for (int i = 0; i < S::M; i++)
		head[i].template load<cuda_chunk_plain_load>(w + i * cuda_chunk<TYPE>::BYTES, lane);
#pragma unroll
	for (int s = 0; s < cuda_chunk<TYPE>::STEPS; s++) {
		typename cuda_chunk<TYPE>::step step[S::M];
#pragma unroll
		for (int i = 0; i < S::M; i++)
			if (TYPE != TENSOR_Q8_0)
				step[i].template load<cuda_chunk_plain_load>(
					w + i * cuda_chunk<TYPE>::BYTES, s, lane);
#pragma unroll
		for (int b = 0; b < 4; b++) {
			__syncwarp(); /* registers do not hold what later blocks load */
			uint32_t a[S::M][4];
			cuda_chunk_scales scales[S::M];
#pragma unroll
			for (int i = 0; i < S::M; i++) {
				if (TYPE == TENSOR_Q8_0) /* only what block b has of it */
					step[i].template load<cuda_chunk_plain_load>(
						w + i * cuda_chunk<TYPE>::BYTES, s, lane);
				step[i].of(b, a[i]);
				head[i].of(4 * s + b, &scales[i]);
			}
#pragma unroll
			for (int k = 0; k < S::N; k++) {
				cuda_chunk_acts acts;
				cuda_chunk_take<TYPE>(x + (k * S::BLOCKS + 4 * s + b) *
								      CUDA_QUANT_GROUP_BLOCK_BYTES,
					lane, true, &acts);
#pragma unroll
				for (int i = 0; i < S::M; i++)
					cuda_chunk_multiply<TYPE>(
						a[i], scales[i], acts, acc[i][k], true);
			}
		}
	}
}

/* The sums of chunks first .. last - 1. */
template <int TYPE, typename S>
static __device__ __forceinline__ void sum_up(
	const matrices &m, uint32_t first, uint32_t last, uint8_t *shared, float acc[S::M][S::N][4])
{
	unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	size_t w_at = warp % S::WARPS_M * S::M * cuda_chunk<TYPE>::BYTES;
	size_t x_at =
		S::W_BYTES + warp / S::WARPS_M * S::N * S::BLOCKS * CUDA_QUANT_GROUP_BLOCK_BYTES;

#pragma unroll
	for (uint32_t i = 0; i < S::STAGES - 1; i++) {
		if (first + i < last)
			fetch<TYPE, S>(m, first + i, shared + i * S::STAGE_BYTES);
		cp_async_commit();
	}
	uint32_t stage = 0, ahead = S::STAGES - 1;
	for (uint32_t c = first; c < last; c++) {
		cp_async_wait<S::STAGES - 2>();
		__syncthreads(); /* chunk c is there for all; all have done with the one before */
		if (c + S::STAGES - 1 < last)
			fetch<TYPE, S>(m, c + S::STAGES - 1, shared + ahead * S::STAGE_BYTES);
		cp_async_commit();
		const uint8_t *at = shared + stage * S::STAGE_BYTES;
		multiply<TYPE, S>(at + w_at, at + x_at, lane, acc);
		stage = stage + 1 == S::STAGES ? 0 : stage + 1;
		ahead = ahead + 1 == S::STAGES ? 0 : ahead + 1;
	}
}

/* Where blocks have parts of the sums: whether this is the one that has all of them, in acc, now.
 */
template <typename S>
static __device__ __forceinline__ bool join_parts(
	const cuda_product_out &o, float acc[S::M][S::N][4], unsigned *flag)
{
	const size_t values = static_cast<size_t>(S::THREADS) * 4;
	size_t tile = static_cast<size_t>(blockIdx.y) * gridDim.x + blockIdx.x;
	uint32_t n_parts = gridDim.z, part = blockIdx.z;
	float *parts = o.parts + tile * n_parts * S::M * S::N * values + threadIdx.x * 4;

#pragma unroll
	for (int i = 0; i < S::M * S::N; i++) {
		const float *a = acc[i / S::N][i % S::N];
		*reinterpret_cast<float4 *>(parts + (part * S::M * S::N + i) * values) =
			make_float4(a[0], a[1], a[2], a[3]);
	}
	if (!cuda_product_is_last(o, tile, n_parts, flag))
		return false;
#pragma unroll
	for (int i = 0; i < S::M * S::N; i++) {
		float *a = acc[i / S::N][i % S::N];
		a[0] = a[1] = a[2] = a[3] = 0;
		for (uint32_t k = 0; k < n_parts; k++) {
			float4 v = __ldcg(reinterpret_cast<const float4 *>(
				parts + (k * S::M * S::N + i) * values));
			a[0] += v.x;
			a[1] += v.y;
			a[2] += v.z;
			a[3] += v.w;
		}
	}
	return true;
}

/* Blocks on a multiprocessor that registers are to be left for: where two of the largest do not fit
 * 100 KiB of shared memory anyway, one may have them all. */
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200)
#	define GEMM_MIN_BLOCKS(S) (2 * S::SHARED_BYTES > 100 * 1024 ? 1 : S::MIN_BLOCKS)
#else
#	define GEMM_MIN_BLOCKS(S) S::MIN_BLOCKS
#endif

template <int TYPE, typename S>
__global__ void __launch_bounds__(S::THREADS, GEMM_MIN_BLOCKS(S)) gemm(matrices m, cuda_product_out o)
{
	device_begin();
	DEVICE_SHARED(uint8_t, shared);
	unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	uint32_t n_parts = gridDim.z, part = blockIdx.z;
	uint32_t first = static_cast<uint32_t>(static_cast<uint64_t>(m.n_chunks) * part / n_parts),
		 last = static_cast<uint32_t>(
			 static_cast<uint64_t>(m.n_chunks) * (part + 1) / n_parts);
	float acc[S::M][S::N][4] = {};

	sum_up<TYPE, S>(m, first, last, shared, acc);
	unsigned *flag = reinterpret_cast<unsigned *>(shared + S::STAGES * S::STAGE_BYTES);
	if (n_parts > 1 && !join_parts<S>(o, acc, flag))
		return;

	const float unit = cuda_chunk<TYPE>::unit();
	uint32_t r = (blockIdx.y * S::TILES + warp % S::WARPS_M * S::M) * 16 + lane / 4;
	uint32_t row = (blockIdx.x * S::GROUPS + warp / S::WARPS_M * S::N) * 8 + lane % 4 * 2;
#pragma unroll
	for (int i = 0; i < S::M; i++)
#pragma unroll
		for (int k = 0; k < S::N; k++)
#pragma unroll
			for (int j = 0; j < 4; j++)
				cuda_product_put(o, row + 8 * k + j % 2, r + 16 * i + j / 2 * 8,
					acc[i][k][j] * unit);
}

template <int TYPE, typename S>
static int launch(
	const cuda_quant_matrix *w, const cuda_product *p, cuda_product_out o, cudaStream_t stream)
{
	uint32_t chunk = 128 * cuda_chunk<TYPE>::STEPS;
	matrices m = {static_cast<const uint8_t *>(w->data), static_cast<const uint8_t *>(p->x),
		(w->rows + 15) / 16, (w->cols + chunk - 1) / chunk, (p->n_rows + 7) / 8,
		cuda_quant_q8_blocks(w->cols)};
	/* Blocks that follow each other have the same weights, which therefore come from memory
	 * once. */
	dim3 grid((p->n_rows + S::ROWS - 1) / S::ROWS, (m.n_tiles + S::TILES - 1) / S::TILES);
	cudaError_t r;

	static_assert(S::SHARED_BYTES <= 99 * 1024, "what every device has");
	grid.z = cuda_product_parts(static_cast<size_t>(grid.x) * grid.y, S::THREADS * S::VALUES,
		2 * p->n_sm, m.n_chunks, 4 / cuda_chunk<TYPE>::STEPS);
	r = cudaFuncSetAttribute(
		gemm<TYPE, S>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::SHARED_BYTES);
	if (r != cudaSuccess)
		return r;
	return CUDA_LAUNCH((gemm<TYPE, S>), grid, dim3(S::THREADS), S::SHARED_BYTES, stream, m, o);
}

template <int TYPE>
static int launch_type(
	const cuda_quant_matrix *w, const cuda_product *p, cuda_product_out o, cudaStream_t stream)
{
	uint32_t n_large = ((w->rows + 127) / 128) * ((p->n_rows + 63) / 64);

	if (p->n_rows <= 16)
		return launch<TYPE, shape<TYPE, 4, 1, 1, 2>>(w, p, o, stream);
	if (p->n_rows <= 32)
		return launch<TYPE, shape<TYPE, 4, 1, 1, 4>>(w, p, o, stream);
	if (p->n_rows <= 64 || n_large < p->n_sm)
		return launch<TYPE, shape<TYPE, 4, 1, 1, 8>>(w, p, o, stream);
	if constexpr (TYPE == TENSOR_Q5_K ||
		      TYPE == TENSOR_Q6_K) /* two tiles take too many registers */
		return launch<TYPE, shape<TYPE, 8, 1, 1, 8>>(w, p, o, stream);
	else
		return launch<TYPE, shape<TYPE, 4, 2, 2, 4>>(w, p, o, stream);
}

extern "C" int cuda_gemm_q(
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

extern "C" int cuda_quant_product(
	const struct cuda_quant_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
	return p->n_rows <= CUDA_QUANT_GROUP_ROWS ? cuda_gemv_q(w, p, stream)
						  : cuda_gemm_q(w, p, stream);
}
