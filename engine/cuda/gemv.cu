/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weights in rows, not quantised in blocks, times up to 8 rows of activations, at the speed of
 * memory. As in gemv_q.cu a block of 8 warps has 16 weight rows, each warp every eighth piece of
 * their columns, which it loads into registers while it multiplies the one before. Tensor cores do
 * not care in which order columns come as long as both operands have the same: lane 4 g + t loads
 * 16 bytes at 16 t of 64 of rows g and g + 8, of the weights and of row g of the activations, and
 * uses these as they are. The first piece of weights is asked for before device_begin().
 *
 * F32 has no such instruction: there a warp has two weight rows, and lanes add up.
 */
#include "engine/cuda/gemv.h"
#include "engine/cuda/ahead_device.h"
#include "engine/cuda/next_device.h"
#include "engine/cuda/tail_device.h"

#define WARPS 8
#define THREADS (32 * WARPS) /* as tails want it */
#define BLOCKS 2 /* of a multiprocessor, at least */
#define UNITS 4  /* of 64 bytes of a row, in a piece */

/* What follows the sums. */
enum end { PLAIN, GATED, NORMED };

struct rows_of {
	const uint8_t *w, *x;
	size_t row_bytes;               /* a multiple of 16 */
	size_t second;                  /* from a lane's first weight row to its second, bytes */
	const float *w_scale, *x_scale; /* FP8 */
};

/* ---- tensor cores ---- */

template <enum cuda_type TYPE>
static __device__ __forceinline__ void multiply(
	float d[4], const uint32_t a[4], const uint32_t b[2])
{
	if (TYPE == CUDA_TYPE_F16)
		mma_f16(d, a, b);
	else if (TYPE == CUDA_TYPE_BF16)
		mma_bf16(d, a, b);
	else
		mma_e4m3(d, a, b);
}

struct piece {
	uint4 row[UNITS][2];

	/* Both rows of the lane, of which `there` exist, from byte `at` on. EARLY: before
	 * device_begin(). */
	template <bool EARLY>
	__device__ __forceinline__ void load_weights(
		const rows_of &m, const uint8_t *w, size_t at, const bool there[2])
	{
#pragma unroll
		for (int u = 0; u < UNITS; u++) {
			bool inside = at + 64 * u < m.row_bytes;
#pragma unroll
			for (int i = 0; i < 2; i++) {
				const uint8_t *p = w + i * m.second + at + 64 * u;
				row[u][i] = !inside || !there[i] ? make_uint4(0, 0, 0, 0)
					    : EARLY              ? cuda_product_stream_early(p)
								 : cuda_product_stream(p);
			}
		}
	}
};

/* The end of a product of gate and up: thread i has the sum of one of them, and its neighbour of
 * the same warp that of the other. Both are rounded as if they were put down. */
template <enum cuda_type TYPE>
static __device__ __forceinline__ void put_gated(
	const cuda_product_out &o, enum rows_gate kind, float y)
{
	uint32_t i = threadIdx.x / 16, k = threadIdx.x % 16, r = blockIdx.x * 8 + k % 8;

	if (o.bias && r < o.rows)
		y += o.bias[k < 8 ? r : o.rows + r];
	y = TYPE == CUDA_TYPE_F16 ? f16_to_f32(f32_to_f16(y)) : bf16_to_f32(f32_to_bf16(y));
	float up = __shfl_down_sync(0xffffffffu, y, 8);
	if (k >= 8 || i >= o.n_rows || r >= o.rows)
		return;
	float h = rows_gated(kind, y) * up;
	static_cast<uint16_t *>(o.out)[i * o.ld + r] =
		TYPE == CUDA_TYPE_F16 ? f32_to_f16(h) : f32_to_bf16(h);
}

/* GATED: a tile are 8 rows of the gate and the same of up, which lie o.rows behind them, and what
 * is put down is f(gate) * up. NORMED: the norm of what is put down follows (tail.h). */
template <enum cuda_type TYPE, enum end END>
__global__ void __launch_bounds__(THREADS, BLOCKS)
	gemv(rows_of m, cuda_product_out o, enum rows_gate kind, cuda_ahead ahead, uint32_t at_once)
{
	DEVICE_SHARED(float, shared);
	unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4;
	uint32_t row = blockIdx.x * (END == GATED ? 8 : 16) + g;
	const bool there[2] = {row < o.rows, row + (END == GATED ? 0 : 8) < o.rows};
	const uint8_t *w = m.w + row * m.row_bytes;
	const uint8_t *x = m.x + g * m.row_bytes;
	size_t step = static_cast<size_t>(gridDim.y) * WARPS * 64 * UNITS;
	size_t at = (static_cast<size_t>(blockIdx.y) * WARPS + warp) * 64 * UNITS + lane % 4 * 16;
	float acc[4] = {};
	piece now, next;

	/* Whole warps come and go: the loop's end is that of the warp's first lane. */
	next.load_weights<true>(m, w, at, there);
	device_begin();
	for (size_t end = m.row_bytes + lane % 4 * 16; at < end; at += step) {
		now = next;
		next.load_weights<false>(m, w, at + step, there);
#pragma unroll
		for (int u = 0; u < UNITS; u++) {
			bool inside = at + 64 * u < m.row_bytes && g < o.n_rows;
			uint4 b = inside ? *reinterpret_cast<const uint4 *>(x + at + 64 * u)
					 : make_uint4(0, 0, 0, 0);
			const uint4 &r = now.row[u][0], &s = now.row[u][1];
			const uint32_t a0[4] = {r.x, s.x, r.y, s.y}, b0[2] = {b.x, b.y};
			const uint32_t a1[4] = {r.z, s.z, r.w, s.w}, b1[2] = {b.z, b.w};
			multiply<TYPE>(acc, a0, b0);
			multiply<TYPE>(acc, a1, b1);
		}
	}
	ahead_load_weights_by_last(ahead, at_once);
	device_let_next();
	if (TYPE == CUDA_TYPE_E4M3) {
		uint32_t i = lane % 4 * 2;
		float x0 = i < o.n_rows ? m.x_scale[i] : 0,
		      x1 = i + 1 < o.n_rows ? m.x_scale[i + 1] : 0;
		float w0 = there[0] ? m.w_scale[row] : 0, w1 = there[1] ? m.w_scale[row + 8] : 0;
		acc[0] *= w0 * x0;
		acc[1] *= w0 * x1;
		acc[2] *= w1 * x0;
		acc[3] *= w1 * x1;
	}
	const enum cuda_tail_kind tail = END == NORMED ? CUDA_TAIL_NORM : CUDA_TAIL_NONE;
	if (END != GATED)
		return cuda_tail_finish<WARPS, tail, TYPE, true>(o, shared, acc, 1);
	float y;
	if (cuda_product_add_up<WARPS>(o, shared, acc, 1, &y) && threadIdx.x < 128)
		put_gated<TYPE>(o, kind, y);
}

template <enum cuda_type TYPE, enum end END>
static int launch(rows_of m, const cuda_product *p, const cuda_product_out &o, cudaStream_t stream,
	enum rows_gate kind = ROWS_SWIGLU)
{
	uint32_t n_tiles = END == GATED ? (o.rows + 7) / 8 : (o.rows + 15) / 16;
	uint32_t n_pieces = static_cast<uint32_t>((m.row_bytes + 64 * UNITS - 1) / (64 * UNITS));
	uint32_t at_once = BLOCKS * p->n_sm;
	uint32_t parts = cuda_product_parts(n_tiles, 128, at_once, n_pieces, WARPS);

	m.second = (END == GATED ? o.rows : 8) * m.row_bytes;
	return CUDA_LAUNCH((gemv<TYPE, END>), dim3(n_tiles, parts), dim3(THREADS),
		CUDA_PRODUCT_FINISH_BYTES(WARPS), stream, m, o, kind, p->ahead, at_once);
}

template <enum cuda_type TYPE>
static int launch_tail(
	rows_of m, const cuda_product *p, const cuda_product_out &o, cudaStream_t stream)
{
	return p->tail.kind == CUDA_TAIL_NORM ? launch<TYPE, NORMED>(m, p, o, stream)
					      : launch<TYPE, PLAIN>(m, p, o, stream);
}

/* ---- F32 ---- */

/* A warp: weight rows 2 i and 2 i + 1 times N activation rows, of which n_rows exist. Only the
 * weights are restricted (device.h). */
template <int N>
__global__ void __launch_bounds__(THREADS) gemv_f32(const float *__restrict__ w, const float *x,
	uint32_t cols, cuda_product_out o, cuda_ahead ahead, uint32_t at_once)
{
	device_begin();
	unsigned lane = threadIdx.x % 32;
	uint32_t row = (blockIdx.x * WARPS + threadIdx.x / 32) * 2;
	float acc[2][N] = {};

	for (uint32_t c = 4 * lane; c < cols; c += 128) {
		float4 v[2];
#pragma unroll
		for (int i = 0; i < 2; i++)
			v[i] = row + i < o.rows
				       ? *reinterpret_cast<const float4 *>(
						 w + static_cast<size_t>(row + i) * cols + c)
				       : make_float4(0, 0, 0, 0);
#pragma unroll
		for (int k = 0; k < N; k++) {
			if (k >= static_cast<int>(o.n_rows))
				break;
			float4 b = *reinterpret_cast<const float4 *>(
				x + static_cast<size_t>(k) * cols + c);
#pragma unroll
			for (int i = 0; i < 2; i++) {
				acc[i][k] = fmaf(v[i].x, b.x, acc[i][k]);
				acc[i][k] = fmaf(v[i].y, b.y, acc[i][k]);
				acc[i][k] = fmaf(v[i].z, b.z, acc[i][k]);
				acc[i][k] = fmaf(v[i].w, b.w, acc[i][k]);
			}
		}
	}
	ahead_load_weights_by_last(ahead, at_once);
#pragma unroll
	for (int i = 0; i < 2; i++)
#pragma unroll
		for (int k = 0; k < N; k++) {
			float y = warp_sum(acc[i][k]);
			if (lane == 0)
				cuda_product_put(o, k, row + i, y);
		}
}

static int launch_f32(const void *w, uint32_t cols, const cuda_product *p, cuda_product_out o,
	cudaStream_t stream)
{
	dim3 grid((o.rows + 2 * WARPS - 1) / (2 * WARPS)), threads(THREADS);
	const float *from = static_cast<const float *>(w), *x = static_cast<const float *>(p->x);
	uint32_t at_once = BLOCKS * p->n_sm;

	if (p->n_rows == 1)
		return CUDA_LAUNCH(
			gemv_f32<1>, grid, threads, 0, stream, from, x, cols, o, p->ahead, at_once);
	if (p->n_rows <= 4)
		return CUDA_LAUNCH(
			gemv_f32<4>, grid, threads, 0, stream, from, x, cols, o, p->ahead, at_once);
	return CUDA_LAUNCH(
		gemv_f32<8>, grid, threads, 0, stream, from, x, cols, o, p->ahead, at_once);
}

extern "C" int cuda_gemv(enum cuda_type type, const void *w, uint32_t rows, uint32_t cols,
	const struct cuda_product *p, cudaStream_t stream)
{
	rows_of m = {static_cast<const uint8_t *>(w), static_cast<const uint8_t *>(p->x),
		static_cast<size_t>(cols) * 2, 0, nullptr, nullptr};
	cuda_product_out o;
	int r = cuda_tail_out_of(p, rows, type, &o);

	if (r || p->n_rows > CUDA_GEMV_MAX_ROWS || cols == 0)
		return r ? r : static_cast<int>(cudaErrorInvalidValue);
	if (type == CUDA_TYPE_F32 && cols % 4 == 0 && p->tail.kind == CUDA_TAIL_NONE)
		return launch_f32(w, cols, p, o, stream);
	if (type == CUDA_TYPE_F16 && cols % 8 == 0)
		return launch_tail<CUDA_TYPE_F16>(m, p, o, stream);
	if (type == CUDA_TYPE_BF16 && cols % 8 == 0)
		return launch_tail<CUDA_TYPE_BF16>(m, p, o, stream);
	return cudaErrorInvalidValue;
}

extern "C" int cuda_gemv_fp8(const uint8_t *w, const float *w_scale, uint32_t rows, uint32_t cols,
	const float *x_scale, const struct cuda_product *p, cudaStream_t stream)
{
	rows_of m = {w, static_cast<const uint8_t *>(p->x), cols, 0, w_scale, x_scale};
	cuda_product_out o;
	int r = cuda_tail_out_of(p, rows, CUDA_TYPE_E4M3, &o);

	if (r || p->n_rows > CUDA_GEMV_MAX_ROWS || cols == 0 || cols % 16)
		return r ? r : static_cast<int>(cudaErrorInvalidValue);
	return launch_tail<CUDA_TYPE_E4M3>(m, p, o, stream);
}

extern "C" int cuda_gemv_gated(enum cuda_type type, const void *w, uint32_t rows, uint32_t cols,
	enum rows_gate kind, const struct cuda_product *p, cudaStream_t stream)
{
	rows_of m = {static_cast<const uint8_t *>(w), static_cast<const uint8_t *>(p->x),
		static_cast<size_t>(cols) * 2, 0, nullptr, nullptr};
	cuda_product_out o;
	int r = cuda_product_out_of(p, rows, &o);

	if (r || p->n_rows > CUDA_GEMV_MAX_ROWS || cols == 0 || cols % 8 || p->add ||
		p->type != type)
		return r ? r : static_cast<int>(cudaErrorInvalidValue);
	if (type == CUDA_TYPE_F16)
		return launch<CUDA_TYPE_F16, GATED>(m, p, o, stream, kind);
	if (type == CUDA_TYPE_BF16)
		return launch<CUDA_TYPE_BF16, GATED>(m, p, o, stream, kind);
	return cudaErrorInvalidValue;
}
