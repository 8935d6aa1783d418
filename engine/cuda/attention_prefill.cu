/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prefill: runs of several tokens, computed in tiles of query vectors by keys, as FlashAttention
 * does (Dao et al. 2022): scores never leave registers.
 *
 * A block takes a tile of the plan and a KV head. The query vectors of a tile are tokens times the
 * heads of the group, token by token, so that all of them use the same keys and a group of 4 fills
 * a tile with a quarter of the tokens; a warp has 32 of them (16 where head_dim is above 128). Keys
 * and values come by cp.async from the KV blocks that the block table names, a tile ahead of its
 * use; rows that nobody sees come as zeros, since 0 times what happens to lie there may be a NaN.
 * Keys behind the last position of the tile are never read; only the last tiles of keys are masked,
 * and a warp that sees nothing of a tile leaves it out. Query vectors behind the end of a run are
 * zero and are not stored.
 */
#include "engine/cuda/attention_device.h"

#define WARPS 4
#define THREADS (WARPS * 32)

template <enum cuda_type ACT_, bool E4M3_, int DIM_> struct prefill_traits {
	static constexpr enum cuda_type ACT = ACT_;
	static constexpr bool E4M3 = E4M3_;
	static constexpr int DIM = DIM_;
	static constexpr int MATS = DIM <= 128 ? 2 : 1; /* of 16 query vectors, a warp */
	static constexpr int WARP_ROWS = 16 * MATS;
	static constexpr int ROWS = WARPS * WARP_ROWS;
	static constexpr int KEYS = DIM <= 64 ? 64 : 32; /* of a tile */
	static constexpr int PITCH = attention_dim<DIM>::pitch;
	static constexpr int ROW = E4M3 ? DIM : PITCH; /* of K or V as loaded */
	static constexpr int HALF = KEYS * ROW;        /* K, then V */
	static constexpr int STAGE = 2 * HALF;
	static constexpr int WIDE = E4M3 ? 2 * KEYS * PITCH : 0;
	static constexpr int Q_BYTES = ROWS * PITCH;
	static constexpr int BYTES = Q_BYTES + 2 * STAGE + WIDE;
};

/* What a block works on. */
struct prefill_tile {
	const uint8_t *k, *v;          /* of the KV head, in block 0 */
	size_t block_bytes;            /* from a block to the next one */
	const uint32_t *blocks;        /* of the run */
	uint32_t row_bytes;            /* of a position */
	uint32_t n_keys;               /* that the last query vector sees */
	uint32_t first_row, first_pos; /* of the run */
	uint32_t first, n;             /* query vectors of the run */
	uint32_t first_head;           /* of the group */
};

/* Keys first .. first + KEYS - 1 into a stage. */
template <class T>
static __device__ __forceinline__ void load(
	const struct prefill_tile *t, uint32_t first, uint8_t *stage)
{
	constexpr uint32_t chunks = T::DIM * (T::E4M3 ? 1 : 2) / 16;

#pragma unroll
	for (uint32_t at = threadIdx.x; at < T::KEYS * chunks; at += THREADS) {
		uint32_t row = at / chunks, c = at % chunks * 16, pos = first + row;
		bool in = pos < t->n_keys && c < t->row_bytes;
		size_t from = 0;
		if (in)
			from = t->blocks[pos / CUDA_KV_BLOCK_TOK] * t->block_bytes +
			       pos % CUDA_KV_BLOCK_TOK * t->row_bytes + c;
		cp_async_16(stage + row * T::ROW + c, t->k + from, in);
		cp_async_16(stage + T::HALF + row * T::ROW + c, t->v + from, in);
	}
}

template <class T>
static __device__ __forceinline__ void load_queries(
	const struct attention_args *a, const struct prefill_tile *t, uint8_t *q_rows)
{
	constexpr uint32_t chunks = attention_dim<T::DIM>::chunks;

	for (uint32_t i = threadIdx.x; i < T::ROWS * chunks; i += THREADS) {
		uint32_t r = i / chunks, c = i % chunks * 16, vector = t->first + r;
		bool in = vector < t->n && c < a->kv.head_dim * 2;
		size_t row = t->first_row + (in ? vector / a->group : 0);
		uint32_t head = t->first_head + (in ? vector % a->group : 0);
		cp_async_16(q_rows + r * T::PITCH + c, attention_query(a, row, head) + (in ? c : 0),
			in);
	}
}

/* The running softmax of a warp: this lane's part of rows lane / 4 and lane / 4 + 8 of each
 * matrix. */
template <class T> struct prefill_state {
	float largest[T::MATS][2], sum[T::MATS][2];
	float out[T::MATS][T::DIM / 8][4];
};

template <class T> struct prefill_scores {
	float s[T::MATS][T::KEYS / 8][4];
};

template <class T>
static __device__ __forceinline__ void score(
	const uint8_t *q_rows, const uint8_t *k, struct prefill_scores<T> *p)
{
#pragma unroll
	for (int m = 0; m < T::MATS; m++) {
#pragma unroll
		for (int j = 0; j < T::KEYS / 8; j++) {
#pragma unroll
			for (int c = 0; c < 4; c++)
				p->s[m][j][c] = 0;
		}
	}
#pragma unroll
	for (int i = 0; i < attention_dim<T::DIM>::steps; i++) {
		uint32_t a[T::MATS][4], b[4];
#pragma unroll
		for (int m = 0; m < T::MATS; m++)
			attention_left<T::DIM>(q_rows + m * 16 * T::PITCH, i, a[m]);
#pragma unroll
		for (int j = 0; j < T::KEYS / 16; j++) {
			attention_keys<T::DIM>(k + j * 16 * T::PITCH, i, b);
#pragma unroll
			for (int m = 0; m < T::MATS; m++) {
				attention_mma<T::ACT>(p->s[m][2 * j], a[m], b);
				attention_mma<T::ACT>(p->s[m][2 * j + 1], a[m], b + 2);
			}
		}
	}
}

/* Keys behind a query vector's own position. first: position of the tile's first key. */
template <class T>
static __device__ __forceinline__ void mask(const struct prefill_tile *t, uint32_t group,
	uint32_t vector, uint32_t first, struct prefill_scores<T> *p)
{
	uint32_t lane = threadIdx.x % 32;

#pragma unroll
	for (int m = 0; m < T::MATS; m++) {
#pragma unroll
		for (int h = 0; h < 2; h++) {
			uint32_t own = vector + m * 16 + h * 8 + lane / 4;
			own = own < t->n ? own : t->n - 1;
			uint32_t pos = t->first_pos + own / group;
#pragma unroll
			for (int j = 0; j < T::KEYS / 8; j++) {
				uint32_t key = first + j * 8 + lane % 4 * 2;
				if (key > pos)
					p->s[m][j][2 * h] = -INFINITY;
				if (key + 1 > pos)
					p->s[m][j][2 * h + 1] = -INFINITY;
			}
		}
	}
}

/* Scores to weights; what was summed so far shrinks where a larger score came. */
template <class T>
static __device__ __forceinline__ void weigh(
	struct prefill_scores<T> *p, struct prefill_state<T> *st)
{
#pragma unroll
	for (int m = 0; m < T::MATS; m++) {
#pragma unroll
		for (int h = 0; h < 2; h++) {
			float n = st->largest[m][h], sum = 0;
#pragma unroll
			for (int j = 0; j < T::KEYS / 8; j++)
				n = fmaxf(n, fmaxf(p->s[m][j][2 * h], p->s[m][j][2 * h + 1]));
			n = fmaxf(n, __shfl_xor_sync(ROWS_FULL_WARP, n, 1));
			n = fmaxf(n, __shfl_xor_sync(ROWS_FULL_WARP, n, 2));
			float shrink = attention_exp2(st->largest[m][h] - n);
			st->largest[m][h] = n;
#pragma unroll
			for (int j = 0; j < T::KEYS / 8; j++) {
#pragma unroll
				for (int c = 2 * h; c < 2 * h + 2; c++) {
					p->s[m][j][c] = attention_exp2(p->s[m][j][c] - n);
					sum += p->s[m][j][c];
				}
			}
			st->sum[m][h] = fmaf(st->sum[m][h], shrink, sum);
			if (!__any_sync(ROWS_FULL_WARP, shrink != 1))
				continue;
#pragma unroll
			for (int d = 0; d < T::DIM / 8; d++) {
				st->out[m][d][2 * h] *= shrink;
				st->out[m][d][2 * h + 1] *= shrink;
			}
		}
	}
}

template <class T>
static __device__ __forceinline__ void add_values(
	const uint8_t *v, const struct prefill_scores<T> *p, struct prefill_state<T> *st)
{
#pragma unroll
	for (int j = 0; j < T::KEYS / 16; j++) {
		uint32_t a[T::MATS][4], b[4];
#pragma unroll
		for (int m = 0; m < T::MATS; m++) {
			const float *low = p->s[m][2 * j], *high = p->s[m][2 * j + 1];
			a[m][0] = attention_pack<T::ACT>(low[0], low[1]);
			a[m][1] = attention_pack<T::ACT>(low[2], low[3]);
			a[m][2] = attention_pack<T::ACT>(high[0], high[1]);
			a[m][3] = attention_pack<T::ACT>(high[2], high[3]);
		}
#pragma unroll
		for (int i = 0; i < attention_dim<T::DIM>::steps; i++) {
			attention_values<T::DIM>(v + j * 16 * T::PITCH, i, b);
#pragma unroll
			for (int m = 0; m < T::MATS; m++) {
				attention_mma<T::ACT>(st->out[m][2 * i], a[m], b);
				attention_mma<T::ACT>(st->out[m][2 * i + 1], a[m], b + 2);
			}
		}
	}
}

/* A warp's query vectors to the output, by way of its own rows of shared memory, 32 columns at a
 * time: so whole pieces of a row are written, and q8 sees its blocks. */
template <class T>
static __device__ __forceinline__ void store(const struct attention_args *a,
	const struct prefill_tile *t, uint32_t vector, uint8_t *own, struct prefill_state<T> *st)
{
	uint32_t lane = threadIdx.x % 32, dim = a->kv.head_dim;

#pragma unroll
	for (int m = 0; m < T::MATS; m++) {
#pragma unroll
		for (int h = 0; h < 2; h++) {
			float sum = st->sum[m][h];
			sum += __shfl_xor_sync(ROWS_FULL_WARP, sum, 1);
			sum += __shfl_xor_sync(ROWS_FULL_WARP, sum, 2);
			st->sum[m][h] = 1 / sum;
		}
	}
#pragma unroll
	for (int piece = 0; piece < T::DIM / 32; piece++) {
		__syncwarp();
#pragma unroll
		for (int m = 0; m < T::MATS; m++) {
#pragma unroll
			for (int h = 0; h < 2; h++) {
				uint32_t r = m * 16 + h * 8 + lane / 4;
				float *row = (float *)(own + r * T::PITCH);
#pragma unroll
				for (int j = 0; j < 4; j++) {
					const float *o = st->out[m][piece * 4 + j] + 2 * h;
					*(float2 *)(row + j * 8 + lane % 4 * 2) = make_float2(
						o[0] * st->sum[m][h], o[1] * st->sum[m][h]);
				}
			}
		}
		__syncwarp();
		uint32_t c = lane % 8 * 4, d = piece * 32 + c;
		for (uint32_t r = lane / 8; r < T::WARP_ROWS; r += 4) {
			bool in = vector + r < t->n && d < dim;
			uint32_t of = in ? vector + r : 0;
			float4 x = *(const float4 *)(own + r * T::PITCH + c * 4);
			float v[4] = {x.x, x.y, x.z, x.w};
			attention_put(a, t->first_row + of / a->group,
				(t->first_head + of % a->group) * dim + d, in, v);
		}
	}
}

/* All keys that the tile sees. */
template <class T>
static __device__ __forceinline__ void walk(const struct attention_args *a,
	const struct prefill_tile *t, uint8_t *shared, struct prefill_state<T> *st)
{
	uint8_t *stages = shared + T::Q_BYTES, *wide = stages + 2 * T::STAGE;
	uint32_t row = threadIdx.x / 32 * T::WARP_ROWS, vector = t->first + row;
	uint32_t last = vector + T::WARP_ROWS <= t->n ? vector + T::WARP_ROWS - 1 : t->n - 1;
	uint32_t sees_from = t->first_pos + (vector < t->n ? vector : t->n - 1) / a->group;
	uint32_t sees_to = t->first_pos + last / a->group;

	for (uint32_t first = 0, n = 0; first < t->n_keys; first += T::KEYS, n++) {
		uint8_t *stage = stages + n % 2 * T::STAGE, *k = stage, *v = stage + T::HALF;
		cp_async_wait<0>();
		__syncthreads(); /* and nobody reads the other stage any more */
		if (T::E4M3) {
			k = wide;
			v = wide + T::KEYS * T::PITCH;
			attention_widen<T::ACT, T::DIM>(
				stage, wide, 2 * T::KEYS, threadIdx.x, THREADS);
			__syncthreads();
		}
		if (first + T::KEYS < t->n_keys)
			load<T>(t, first + T::KEYS, stages + (n + 1) % 2 * T::STAGE);
		cp_async_commit();
		if (vector >= t->n || first > sees_to)
			continue;
		struct prefill_scores<T> p;
		score<T>(shared + row * T::PITCH, k, &p);
		if (first + T::KEYS - 1 > sees_from)
			mask<T>(t, a->group, vector, first, &p);
		weigh<T>(&p, st);
		add_values<T>(v, &p, st);
	}
	cp_async_wait<0>();
}

/* Grid: KV heads, tiles. */
template <class T>
static __global__ void __launch_bounds__(THREADS, T::DIM <= 128 ? 2 : 1)
	prefill_kernel(struct attention_args a)
{
	device_begin();
	DEVICE_SHARED(uint8_t, shared);

	if (blockIdx.y >= a.plan.counts->n_tiles)
		return;
	struct attention_tile tile = a.plan.tiles[blockIdx.y];
	uint32_t first_row = a.rows.first_row[tile.run];
	uint32_t n = (a.rows.first_row[tile.run + 1] - first_row) * a.group;
	uint32_t end = tile.first + T::ROWS < n ? tile.first + T::ROWS : n;
	uint32_t row_bytes = a.kv.head_dim * (T::E4M3 ? 1 : 2), kv_head = blockIdx.x;
	size_t head_bytes = (size_t)CUDA_KV_BLOCK_TOK * row_bytes;
	struct prefill_tile t;

	t.k = (const uint8_t *)a.kv.k + kv_head * head_bytes;
	t.v = (const uint8_t *)a.kv.v + kv_head * head_bytes;
	t.block_bytes = a.kv.n_kv_heads * head_bytes;
	t.blocks = a.rows.blocks + (size_t)tile.run * a.rows.max_blocks;
	t.row_bytes = row_bytes;
	t.first_row = first_row;
	t.first_pos = a.rows.first_pos[tile.run];
	t.n_keys = t.first_pos + (end - 1) / a.group + 1;
	t.first = tile.first;
	t.n = n;
	t.first_head = kv_head * a.group;

	load_queries<T>(&a, &t, shared);
	load<T>(&t, 0, shared + T::Q_BYTES);
	cp_async_commit();

	struct prefill_state<T> st;
#pragma unroll
	for (int m = 0; m < T::MATS; m++) {
		st.largest[m][0] = st.largest[m][1] = -INFINITY;
		st.sum[m][0] = st.sum[m][1] = 0;
#pragma unroll
		for (int d = 0; d < T::DIM / 8; d++)
			st.out[m][d][0] = st.out[m][d][1] = st.out[m][d][2] = st.out[m][d][3] = 0;
	}
	walk<T>(&a, &t, shared, &st);

	uint32_t row = threadIdx.x / 32 * T::WARP_ROWS;
	if (tile.first + row < n)
		store<T>(&a, &t, tile.first + row, shared + row * T::PITCH, &st);
}

template <enum cuda_type ACT, bool E4M3, int DIM>
static int launch(const struct attention_args *a, uint32_t n, cudaStream_t stream)
{
	typedef struct prefill_traits<ACT, E4M3, DIM> T;
	int r = cudaFuncSetAttribute(
		prefill_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, T::BYTES);

	static_assert(T::BYTES <= 99 * 1024, "what every device has");
	static_assert(T::PITCH >= 128, "32 values of the output fit a row");
	return r ? r
		 : CUDA_LAUNCH(prefill_kernel<T>, dim3(a->kv.n_kv_heads, n), dim3(THREADS),
			   T::BYTES, stream, *a);
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

int attention_prefill(
	const struct attention_args *a, enum cuda_type act, uint32_t n, cudaStream_t stream)
{
	bool e4m3 = a->kv.type == CUDA_TYPE_E4M3;

	if (act == CUDA_TYPE_F16)
		return e4m3 ? launch_dim<CUDA_TYPE_F16, true>(a, n, stream)
			    : launch_dim<CUDA_TYPE_F16, false>(a, n, stream);
	return e4m3 ? launch_dim<CUDA_TYPE_BF16, true>(a, n, stream)
		    : launch_dim<CUDA_TYPE_BF16, false>(a, n, stream);
}
