/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decode: one query token, its context read once from memory, which is all the time there is.
 *
 * A block takes an item of the plan (some KV blocks of a row's context) and a head part: up to 16
 * query heads that share a KV head are the rows of a matrix instruction, so keys and values are
 * read once for all of them; the rows that a smaller group leaves empty cost nothing that counts,
 * since tensor cores idle here anyway. Warps do not wait for each other: warp w takes KV blocks w,
 * w + WARPS, ..., brings each into its own part of shared memory by cp.async, two blocks ahead of
 * its use, and keeps its own running softmax. At the end they are added up in shared memory; when
 * the row has several items, the sums go to the workspace, and the block that ends last adds those.
 *
 * That last block is found by a counter, which it sets back to zero: the workspace is ready for the
 * next launch, and no second kernel is needed. Sums are added in the order of items and warps,
 * whichever ends last.
 *
 * Where attention ropes, the block with the row's own position brings that one itself, to the cache
 * and, where the KV block is among those that it sets out at its beginning, to shared memory beside
 * what is copied there. If it comes later, the block loads it from the cache like others: by then a
 * barrier lies behind its own store. No other block reads that position in this launch.
 */
#include "engine/cuda/ahead_device.h"
#include "engine/cuda/attention_bring_device.h"

#define STAGES 2
#define AT_ONCE 8       /* items added up */
#define NO_SCORE -1e30f /* below every score, and finite: differences of two of them are 0 */

template <enum cuda_type ACT_, bool E4M3_, int DIM_> struct decode_traits {
	static constexpr enum cuda_type ACT = ACT_;
	static constexpr bool E4M3 = E4M3_;
	static constexpr int DIM = DIM_;
	static constexpr int WARPS = DIM <= 128 ? 4 : 2;
	static constexpr int PITCH = attention_dim<DIM>::pitch;
	static constexpr int ROW = E4M3 ? DIM : PITCH;       /* of K or V as loaded */
	static constexpr int HALF = CUDA_KV_BLOCK_TOK * ROW; /* K, then V */
	static constexpr int STAGE = 2 * HALF;
	static constexpr int WIDE = E4M3 ? 2 * CUDA_KV_BLOCK_TOK * PITCH : 0;
	static constexpr int LOADED = STAGES * STAGE + WIDE;
	static constexpr int SUMS = 16 * DIM * 4; /* what a warp leaves at its end */
	static constexpr int WARP_BYTES = LOADED > SUMS ? LOADED : SUMS;
	static constexpr int Q_BYTES =
		16 * PITCH; /* the left operand; later 2 * 16 floats a warp */
	static constexpr int BYTES = Q_BYTES + WARPS * WARP_BYTES;
	static constexpr bool Q_STAYS = DIM <= 64;        /* the left operand, in registers */
	static constexpr int BLOCKS = DIM <= 128 ? 3 : 1; /* of a multiprocessor, at least */
};

/* Which KV blocks a warp reads. */
struct decode_source {
	const uint8_t *k, *v;   /* of the KV head, in block 0 */
	size_t block_bytes;     /* from a block to the next one */
	const uint32_t *blocks; /* of the run */
	uint32_t len;           /* positions to be seen */
	uint32_t own;           /* the one that is being stored meanwhile; UINT32_MAX: none */
	uint32_t row_bytes;     /* of a position */
};

/* Brings KV block `block`, which is number i of the context, into a stage. SET_OUT: without the
 * position that is being stored, whose row of the stage is left to who stores it. */
template <class T, bool SET_OUT>
static __device__ __forceinline__ void load(
	const struct decode_source *s, uint32_t i, uint32_t block, uint8_t *stage)
{
	constexpr uint32_t chunks = T::DIM * (T::E4M3 ? 1 : 2) / 16;
	const uint8_t *k = s->k + block * s->block_bytes, *v = s->v + block * s->block_bytes;
	uint32_t lane = threadIdx.x % 32, seen = s->len - i * CUDA_KV_BLOCK_TOK;
	uint32_t own = s->own - i * CUDA_KV_BLOCK_TOK; /* of the rows, or of none */

#pragma unroll
	for (uint32_t at = lane; at < CUDA_KV_BLOCK_TOK * chunks; at += 32) {
		uint32_t row = at / chunks, c = at % chunks * 16;
		bool in = row < seen && c < s->row_bytes;
		size_t from = in ? (size_t)row * s->row_bytes + c : 0;
		bool wanted = !SET_OUT || row != own;
		attention_copy_if(wanted, stage + row * T::ROW + c, k + from, in);
		attention_copy_if(wanted, stage + T::HALF + row * T::ROW + c, v + from, in);
	}
}

/* The running softmax of a warp: this lane's part of rows lane / 4 and lane / 4 + 8. */
template <class T> struct decode_state {
	float largest[2], sum[2];
	float out[T::DIM / 8][4];
};

/* One KV block, `seen` positions of it. */
template <class T>
static __device__ __forceinline__ void attend(const uint32_t q[][4], const uint8_t *q_rows,
	const uint8_t *k, const uint8_t *v, uint32_t seen, struct decode_state<T> *st)
{
	constexpr int steps = attention_dim<T::DIM>::steps;
	float s[2][2][4] = {}; /* two sums of two operands: shorter chains */
	uint32_t lane = threadIdx.x % 32, a[4], b[4];

#pragma unroll
	for (int i = 0; i < steps; i++) {
		attention_keys<T::DIM>(k, i, b);
		if (!T::Q_STAYS)
			attention_left<T::DIM>(q_rows, i, a);
		attention_mma<T::ACT>(s[i % 2][0], T::Q_STAYS ? q[i] : a, b);
		attention_mma<T::ACT>(s[i % 2][1], T::Q_STAYS ? q[i] : a, b + 2);
	}
#pragma unroll
	for (int i = 0; i < 2; i++) {
#pragma unroll
		for (int c = 0; c < 4; c++) {
			uint32_t pos = i * 8 + lane % 4 * 2 + c % 2;
			s[0][i][c] = pos < seen ? s[0][i][c] + s[1][i][c] : NO_SCORE;
		}
	}
#pragma unroll
	for (int h = 0; h < 2; h++) {
		float n = fmaxf(fmaxf(s[0][0][2 * h], s[0][0][2 * h + 1]),
			fmaxf(s[0][1][2 * h], s[0][1][2 * h + 1]));
		n = fmaxf(n, __shfl_xor_sync(ROWS_FULL_WARP, n, 1));
		n = fmaxf(n, __shfl_xor_sync(ROWS_FULL_WARP, n, 2));
		n = fmaxf(n, st->largest[h]);
		float shrink = attention_exp2(st->largest[h] - n), sum = 0;
		st->largest[h] = n;
#pragma unroll
		for (int i = 0; i < 2; i++) {
#pragma unroll
			for (int c = 2 * h; c < 2 * h + 2; c++) {
				s[0][i][c] = attention_exp2(s[0][i][c] - n);
				sum += s[0][i][c];
			}
		}
		st->sum[h] = fmaf(st->sum[h], shrink, sum);
#pragma unroll
		for (int d = 0; d < T::DIM / 8; d++) {
			st->out[d][2 * h] *= shrink;
			st->out[d][2 * h + 1] *= shrink;
		}
	}
	a[0] = attention_pack<T::ACT>(s[0][0][0], s[0][0][1]);
	a[1] = attention_pack<T::ACT>(s[0][0][2], s[0][0][3]);
	a[2] = attention_pack<T::ACT>(s[0][1][0], s[0][1][1]);
	a[3] = attention_pack<T::ACT>(s[0][1][2], s[0][1][3]);
#pragma unroll
	for (int i = 0; i < steps; i++) {
		attention_values<T::DIM>(v, i, b);
		attention_mma<T::ACT>(st->out[2 * i], a, b);
		attention_mma<T::ACT>(st->out[2 * i + 1], a, b + 2);
	}
}

/* The first of a warp's KV blocks set out. `own` is its part of shared memory. */
template <class T>
static __device__ __forceinline__ void set_out(
	const struct decode_source *s, const struct attention_item *item, uint8_t *own)
{
	uint32_t i = item->first_block + threadIdx.x / 32;
	uint32_t end = item->first_block + item->n_blocks;

#pragma unroll
	for (int k = 0; k < STAGES; k++, i += T::WARPS) {
		if (i < end)
			load<T, true>(s, i, s->blocks[i], own + k * T::STAGE);
		cp_async_commit();
	}
}

/* Where KV block i of an item is set out, if it is. */
template <class T>
static __device__ __forceinline__ uint8_t *set_out_at(
	const struct attention_item *item, uint32_t i, uint8_t *parts)
{
	uint32_t n = i - item->first_block;

	return n < STAGES * T::WARPS
		       ? parts + n % T::WARPS * T::WARP_BYTES + n / T::WARPS * T::STAGE
		       : NULL;
}

/* All of a warp's KV blocks, after set_out(). */
template <class T>
static __device__ __forceinline__ void walk(const struct decode_source *s,
	const struct attention_item *item, const uint8_t *q_rows, uint8_t *own,
	struct decode_state<T> *st)
{
	constexpr int steps = attention_dim<T::DIM>::steps;
	uint32_t end = item->first_block + item->n_blocks;
	uint32_t i = item->first_block + threadIdx.x / 32, q[T::Q_STAYS ? steps : 1][4];

	st->largest[0] = st->largest[1] = NO_SCORE;
	st->sum[0] = st->sum[1] = 0;
#pragma unroll
	for (int d = 0; d < T::DIM / 8; d++)
		st->out[d][0] = st->out[d][1] = st->out[d][2] = st->out[d][3] = 0;
	if (T::Q_STAYS) {
#pragma unroll
		for (int k = 0; k < steps; k++)
			attention_left<T::DIM>(q_rows, k, q[k]);
	}
	for (uint32_t n = 0; i < end; i += T::WARPS, n++) {
		uint8_t *stage = own + n % STAGES * T::STAGE, *k = stage, *v = stage + T::HALF;
		uint32_t ahead = i + STAGES * T::WARPS;
		uint32_t block = ahead < end ? s->blocks[ahead] : 0;
		cp_async_wait<STAGES - 1>();
		__syncwarp();
		if (T::E4M3) { /* K and V as one matrix of twice the rows */
			k = own + STAGES * T::STAGE;
			v = k + CUDA_KV_BLOCK_TOK * T::PITCH;
			attention_widen<T::ACT, T::DIM>(
				stage, k, 2 * CUDA_KV_BLOCK_TOK, threadIdx.x % 32, 32);
			__syncwarp();
		}
		attend<T>(q, q_rows, k, v, s->len - i * CUDA_KV_BLOCK_TOK, st);
		__syncwarp();
		if (ahead < end)
			load<T, false>(s, ahead, block, stage);
		cp_async_commit();
	}
	cp_async_wait<0>();
#pragma unroll
	for (int h = 0; h < 2; h++) {
		st->sum[h] += __shfl_xor_sync(ROWS_FULL_WARP, st->sum[h], 1);
		st->sum[h] += __shfl_xor_sync(ROWS_FULL_WARP, st->sum[h], 2);
	}
}

/* What the warps leave for the block: sums of query head r of warp w at [w][r]. */
template <class T>
static __device__ __forceinline__ void leave(
	const struct decode_state<T> *st, uint8_t *own, float2 *sums)
{
	uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;

#pragma unroll
	for (int h = 0; h < 2; h++) {
		uint32_t r = lane / 4 + h * 8;
		float *out = (float *)own + r * T::DIM + lane % 4 * 2;
		if (lane % 4 == 0)
			sums[warp * 16 + r] = make_float2(st->largest[h], st->sum[h]);
#pragma unroll
		for (int d = 0; d < T::DIM / 8; d++)
			*(float2 *)(out + d * 8) =
				make_float2(st->out[d][2 * h], st->out[d][2 * h + 1]);
	}
}

/* Adds a part of a softmax to another one. */
static __device__ __forceinline__ void add_part(
	float2 *total, float out[4], float2 part, float4 part_out)
{
	float n = fmaxf(total->x, part.x);
	float keep = attention_exp2(total->x - n), scale = attention_exp2(part.x - n);

	out[0] = out[0] * keep + part_out.x * scale;
	out[1] = out[1] * keep + part_out.y * scale;
	out[2] = out[2] * keep + part_out.z * scale;
	out[3] = out[3] * keep + part_out.w * scale;
	*total = make_float2(n, total->y * keep + part.y * scale);
}

static __device__ __forceinline__ void finish(const struct attention_args *a, size_t row,
	uint32_t head, uint32_t c, bool in, float sum, float out[4])
{
	float inverse = in ? 1 / sum : 0;

#pragma unroll
	for (int k = 0; k < 4; k++)
		out[k] *= inverse;
	attention_put(a, row, head * a->kv.head_dim + c, in, out);
}

/* The warps' sums, added: to the output when the row has no other item, else to the workspace. */
template <class T>
static __device__ __forceinline__ void add_warps(const struct attention_args *a,
	const struct attention_item *item, uint32_t first_head, uint32_t n_heads,
	const uint8_t *parts, const float2 *sums)
{
	uint32_t dim = a->kv.head_dim, pieces = dim / 4, total = n_heads * pieces;

	for (uint32_t base = 0; base < total; base += T::WARPS * 32) {
		uint32_t i = base + threadIdx.x, r = i / pieces, c = i % pieces * 4;
		bool in = i < total;
		float2 sum = make_float2(NO_SCORE, 0);
		float out[4] = {0, 0, 0, 0};
		for (int w = 0; in && w < T::WARPS; w++)
			add_part(&sum, out, sums[w * 16 + r],
				*(const float4 *)((const float *)(parts + w * T::WARP_BYTES) +
						  r * T::DIM + c));
		if (item->n_items == 1) {
			finish(a, item->row, first_head + r, c, in, sum.y, out);
		} else if (in) {
			size_t at = (size_t)blockIdx.y * a->n_heads + first_head + r;
			if (c == 0)
				a->plan.sums[at] = sum;
			*(float4 *)(a->plan.outs + at * dim + c) =
				make_float4(out[0], out[1], out[2], out[3]);
		}
	}
}

/* The items' sums, added. Loads of several items are under way at once: nothing else hides their
 * latency here. */
template <class T>
static __device__ __forceinline__ void add_items(const struct attention_args *a,
	const struct attention_item *item, uint32_t first_head, uint32_t n_heads)
{
	uint32_t dim = a->kv.head_dim, pieces = dim / 4, total = n_heads * pieces;

	for (uint32_t base = 0; base < total; base += T::WARPS * 32) {
		uint32_t i = base + threadIdx.x, r = i / pieces, c = i % pieces * 4;
		bool in = i < total;
		size_t at = (size_t)item->first_item * a->n_heads + first_head + r;
		float2 sum = make_float2(NO_SCORE, 0);
		float out[4] = {0, 0, 0, 0};
		for (uint32_t k = 0; in && k < item->n_items; k += AT_ONCE) {
			float2 part[AT_ONCE];
			float4 part_out[AT_ONCE];
#pragma unroll
			for (uint32_t j = 0; j < AT_ONCE; j++) {
				part[j] = make_float2(NO_SCORE, 0);
				part_out[j] = make_float4(0, 0, 0, 0);
				if (k + j < item->n_items) {
					size_t from = at + (size_t)(k + j) * a->n_heads;
					part[j] = a->plan.sums[from];
					part_out[j] =
						*(const float4 *)(a->plan.outs + from * dim + c);
				}
			}
#pragma unroll
			for (uint32_t j = 0; j < AT_ONCE; j++)
				add_part(&sum, out, part[j], part_out[j]);
		}
		finish(a, item->row, first_head + r, c, in, sum.y, out);
	}
}

/* Whether this block is the last one of its row and head part to end; all threads call. */
static __device__ __forceinline__ bool is_last(
	const struct attention_args *a, const struct attention_item *item, uint32_t *shared)
{
	__syncthreads();
	if (threadIdx.x == 0) { /* what the block has written is seen before the count */
		uint32_t *done = a->plan.done + (size_t)item->row * gridDim.x + blockIdx.x;
		__threadfence();
		*shared = atomicAdd(done, 1u) + 1 == item->n_items;
		__threadfence();
		if (*shared)
			atomicExch(done, 0u);
	}
	__syncthreads();
	return *shared != 0;
}

/* Grid: head parts, items. */
template <class T>
static __global__ void __launch_bounds__(T::WARPS * 32, T::BLOCKS)
	decode_kernel(struct attention_args a)
{
	ahead_load_weights_by_all(a.ahead);
	device_begin();
	DEVICE_SHARED(uint8_t, shared);
	uint8_t *q_rows = shared, *parts = shared + T::Q_BYTES;

	struct attention_item item =
		a.plan.items[blockIdx.y]; /* both loads are under way at once */
	if (blockIdx.y >= a.plan.counts->n_items)
		return;
	uint32_t kv_head = blockIdx.x / a.n_parts, part = blockIdx.x % a.n_parts * 16;
	uint32_t first_head = kv_head * a.group + part, dim = a.kv.head_dim;
	uint32_t n_heads = a.group - part < 16 ? a.group - part : 16;
	uint32_t row_bytes = dim * (T::E4M3 ? 1 : 2), pos = item.len - 1;
	bool has_own = a.rope.k && pos / CUDA_KV_BLOCK_TOK < item.first_block + item.n_blocks;
	size_t head_bytes = (size_t)CUDA_KV_BLOCK_TOK * row_bytes;
	struct decode_source source = {
		(const uint8_t *)a.kv.k + kv_head * head_bytes,
		(const uint8_t *)a.kv.v + kv_head * head_bytes,
		a.kv.n_kv_heads * head_bytes,
		a.rows.blocks + (size_t)item.run * a.rows.max_blocks,
		item.len,
		a.rope.k ? pos : UINT32_MAX,
		row_bytes,
	};
	uint8_t *own = parts + threadIdx.x / 32 * T::WARP_BYTES;

	struct attention_bring<T> brought;

	attention_take<T>(
		&a, item.row, pos, source.blocks, kv_head, first_head, n_heads, has_own, &brought);
	set_out<T>(&source, &item, own);
	attention_put_q<T>(&a, n_heads, &brought, q_rows);
	if (has_own) {
		uint32_t row = pos % CUDA_KV_BLOCK_TOK;
		size_t at = brought.block * source.block_bytes + row * row_bytes;
		uint8_t *stage = set_out_at<T>(&item, pos / CUDA_KV_BLOCK_TOK, parts);
		attention_put_own<T>(&a, &brought, (uint8_t *)a.kv.k + kv_head * head_bytes + at,
			(uint8_t *)a.kv.v + kv_head * head_bytes + at,
			stage ? stage + row * T::ROW : NULL);
	}
	__syncthreads();

	struct decode_state<T> st;
	walk<T>(&source, &item, q_rows, own, &st);

	__syncthreads(); /* the query vectors have been read: their place is free */
	float2 *sums = (float2 *)q_rows;
	leave<T>(&st, own, sums);
	__syncthreads();
	add_warps<T>(&a, &item, first_head, n_heads, parts, sums);
	if (item.n_items > 1 && is_last(&a, &item, (uint32_t *)shared))
		add_items<T>(&a, &item, first_head, n_heads);
}

template <enum cuda_type ACT, bool E4M3, int DIM>
static int launch(const struct attention_args *a, uint32_t n, cudaStream_t stream)
{
	typedef struct decode_traits<ACT, E4M3, DIM> T;
	int r = cudaFuncSetAttribute(
		decode_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, T::BYTES);

	static_assert(T::BYTES <= 99 * 1024, "what every device has");
	static_assert(T::WARPS * 16 * sizeof(float2) <= T::Q_BYTES, "sums of the warps");
	return r ? r
		 : CUDA_LAUNCH(decode_kernel<T>, dim3(a->kv.n_kv_heads * a->n_parts, n),
			   dim3(T::WARPS * 32), T::BYTES, stream, *a);
}

template <enum cuda_type ACT, bool E4M3>
static int launch_dim(const struct attention_args *a, uint32_t n, cudaStream_t stream)
{
	uint32_t dim = a->kv.head_dim;

	return dim <= 64    ? launch<ACT, E4M3, 64>(a, n, stream)
	       : dim <= 96  ? launch<ACT, E4M3, 96>(a, n, stream)
	       : dim <= 128 ? launch<ACT, E4M3, 128>(a, n, stream)
			    : launch<ACT, E4M3, 256>(a, n, stream);
}

int attention_decode(
	const struct attention_args *a, enum cuda_type act, uint32_t n, cudaStream_t stream)
{
	bool e4m3 = a->kv.type == CUDA_TYPE_E4M3;

	if (act == CUDA_TYPE_F16)
		return e4m3 ? launch_dim<CUDA_TYPE_F16, true>(a, n, stream)
			    : launch_dim<CUDA_TYPE_F16, false>(a, n, stream);
	return e4m3 ? launch_dim<CUDA_TYPE_BF16, true>(a, n, stream)
		    : launch_dim<CUDA_TYPE_BF16, false>(a, n, stream);
}
