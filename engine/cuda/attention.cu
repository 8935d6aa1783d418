/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention as the step sees it: the plan, made once a step, and the choice of kernels.
 *
 * The plan is made on the device, from positions that are in device memory, by one block of
 * threads: a captured graph can be replayed while contexts grow, and the host need not know where
 * sequences stand. Decode rows are cut into items of about the same length, so many that the card
 * is full even with one row, and no more than that: every item of a row beyond the first costs a
 * partial sum. A grid is as large as the plan can ever be for its number of rows; blocks without an
 * item return at once. Prefill tiles of a run are listed from its end, which sees most, to its
 * beginning.
 */
#include "engine/cuda/attention_parts.h"
#include "engine/cuda/device.h"

#define THREADS 256
#define MIN_BLOCKS 4 /* KV blocks of an item: one for each warp */

static void sizes_of(const struct attention_shape *s, struct attention_sizes *out)
{
	uint32_t parts, slots = 2 * (s->n_processors ? s->n_processors : 1);

	out->group = s->n_heads / s->n_kv_heads;
	out->n_parts = (out->group + ATTENTION_PART_HEADS - 1) / ATTENTION_PART_HEADS;
	parts = s->n_kv_heads * out->n_parts;
	out->n_pieces = (slots + parts - 1) / parts;
	out->tile_rows = attention_tile_rows(s->head_dim);
	out->max_items = out->n_pieces + s->max_runs;
	out->max_tiles = (uint32_t)(((size_t)s->max_rows * out->group + out->tile_rows - 1) /
					    out->tile_rows +
				    s->max_runs);
}

static bool valid(const struct attention_shape *s)
{
	return (s->act == CUDA_TYPE_F32 || s->act == CUDA_TYPE_F16 || s->act == CUDA_TYPE_BF16) &&
	       (s->kv == s->act || s->kv == CUDA_TYPE_E4M3) && s->n_kv_heads > 0 &&
	       s->n_heads >= s->n_kv_heads && s->n_heads % s->n_kv_heads == 0 && s->head_dim > 0 &&
	       s->head_dim % 2 == 0 && s->head_dim <= ATTENTION_MAX_HEAD_DIM;
}

static bool fast(const struct attention_shape *s)
{
	return s->act != CUDA_TYPE_F32 && s->head_dim % (s->kv == CUDA_TYPE_E4M3 ? 16 : 8) == 0;
}

bool attention_gives_q8(const struct attention_shape *s)
{
	return fast(s) && s->head_dim % 32 == 0 && (size_t)s->n_heads * s->head_dim % 128 == 0;
}

/* Takes `size` bytes, aligned to 256. */
static void *take(uint8_t *base, size_t *used, size_t size)
{
	void *p = base ? base + *used : NULL;

	*used += (size + 255) / 256 * 256;
	return p;
}

/* Lays the plan out in a workspace, or in none; returns its bytes. */
static size_t lay_out(const struct attention_shape *s, void *workspace, struct attention_plan *p)
{
	struct attention_sizes z;
	size_t used = 0;

	if (!fast(s))
		return 256;
	sizes_of(s, &z);
	uint8_t *base = (uint8_t *)workspace;
	size_t items = z.max_items, vectors = items * s->n_heads;
	p->counts = (struct attention_counts *)take(base, &used, sizeof *p->counts);
	p->items = (struct attention_item *)take(base, &used, items * sizeof *p->items);
	p->tiles = (struct attention_tile *)take(base, &used, z.max_tiles * sizeof *p->tiles);
	p->done = (uint32_t *)take(
		base, &used, (size_t)s->max_rows * s->n_kv_heads * z.n_parts * sizeof *p->done);
	p->sums = (float2 *)take(base, &used, vectors * sizeof *p->sums);
	p->outs = (float *)take(base, &used, vectors * s->head_dim * sizeof *p->outs);
	return used;
}

size_t attention_workspace_bytes(const struct attention_shape *s)
{
	struct attention_plan plan;

	return valid(s) ? lay_out(s, NULL, &plan) : 0;
}

/* ---- the plan ---- */

struct plan_args {
	struct attention_plan plan;
	struct cuda_rows rows;
	uint32_t n; /* rows of a decode step, else runs */
	uint32_t n_pieces, tile_rows, group;
	uint32_t max_items, max_tiles;
	bool decode;
};

/* Of all threads: the sum of v, and in *before that of the threads with lower numbers. */
static __device__ uint32_t scan(uint32_t v, uint32_t shared[THREADS / 32], uint32_t *before)
{
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, sum = v, total = 0;

#pragma unroll
	for (uint32_t i = 1; i < 32; i *= 2) {
		uint32_t lower = __shfl_up_sync(0xffffffffu, sum, i);
		sum += lane >= i ? lower : 0;
	}
	__syncthreads(); /* the last call's sums have been read */
	if (lane == 31)
		shared[warp] = sum;
	__syncthreads();
	*before = sum - v;
	for (uint32_t i = 0; i < THREADS / 32; i++) {
		*before += i < warp ? shared[i] : 0;
		total += shared[i];
	}
	return total;
}

/* What run i (or row i of a decode step) is. */
struct work {
	uint32_t row, run;
	uint32_t len;     /* positions that a run of one row sees; 0: not such a run */
	uint32_t n_tiles; /* of a longer run */
};

static __device__ struct work work_of(const struct plan_args *a, uint32_t i)
{
	struct work w = {};

	if (i >= a->n)
		return w;
	if (a->decode) {
		w.row = i;
		w.run = a->rows.run[i];
		w.len = a->rows.slot[i] == CUDA_NO_SLOT ? 0 : a->rows.pos[i] + 1;
		return w;
	}
	uint32_t first = a->rows.first_row[i], n = a->rows.first_row[i + 1] - first;
	w.row = first;
	w.run = i;
	if (n == 1)
		w.len = a->rows.slot[first] == CUDA_NO_SLOT ? 0 : a->rows.first_pos[i] + 1;
	else if (n > 1)
		w.n_tiles = (n * a->group + a->tile_rows - 1) / a->tile_rows;
	return w;
}

static __device__ uint32_t blocks_of(const struct work *w)
{
	return (w->len + CUDA_KV_BLOCK_TOK - 1) / CUDA_KV_BLOCK_TOK;
}

static __device__ void list_items(
	const struct plan_args *a, const struct work *w, uint32_t first, uint32_t n)
{
	uint32_t blocks = blocks_of(w);

	for (uint32_t k = 0; k < n && first + k < a->max_items; k++) {
		struct attention_item item = {};
		item.row = w->row;
		item.run = w->run;
		item.len = w->len;
		item.first_block = (uint32_t)((uint64_t)blocks * k / n);
		item.n_blocks = (uint32_t)((uint64_t)blocks * (k + 1) / n) - item.first_block;
		item.first_item = first;
		item.n_items = n;
		a->plan.items[first + k] = item;
	}
}

static __global__ void __launch_bounds__(THREADS) plan_kernel(struct plan_args a)
{
	device_begin();
	__shared__ uint32_t shared[THREADS / 32];
	uint32_t blocks = 0, before, n_items = 0, n_tiles = 0;

	for (uint32_t i = threadIdx.x; i < a.n; i += THREADS) {
		struct work w = work_of(&a, i);
		blocks += blocks_of(&w);
	}
	blocks = scan(blocks, shared, &before);
	uint32_t most = (blocks + a.n_pieces - 1) / a.n_pieces; /* of an item */
	most = most > MIN_BLOCKS ? most : MIN_BLOCKS;
	for (uint32_t base = 0; base < a.n; base += THREADS) {
		struct work w = work_of(&a, base + threadIdx.x);
		uint32_t items = (blocks_of(&w) + most - 1) / most, total;
		total = scan(items, shared, &before);
		list_items(&a, &w, n_items + before, items);
		n_items += total;
		total = scan(w.n_tiles, shared, &before);
		for (uint32_t k = 0; k < w.n_tiles; k++) {
			uint32_t at = n_tiles + before + w.n_tiles - 1 - k;
			if (at < a.max_tiles)
				a.plan.tiles[at] = {w.run, k * a.tile_rows};
		}
		n_tiles += total;
	}
	if (threadIdx.x == 0) {
		a.plan.counts->n_items = n_items < a.max_items ? n_items : a.max_items;
		a.plan.counts->n_tiles = n_tiles < a.max_tiles ? n_tiles : a.max_tiles;
	}
}

int attention_plan(const struct attention_step *s, cudaStream_t stream)
{
	const struct attention_shape *shape = s->shape;
	struct attention_sizes z;
	struct plan_args a = {};

	if (!valid(shape) || s->n_rows > shape->max_rows ||
		(!s->decode && s->n_runs > shape->max_runs))
		return cudaErrorInvalidValue;
	if (s->n_rows == 0 || !fast(shape))
		return 0;
	sizes_of(shape, &z);
	lay_out(shape, s->workspace, &a.plan);
	a.rows = *s->rows;
	a.n = s->decode ? s->n_rows : s->n_runs;
	a.n_pieces = z.n_pieces;
	a.tile_rows = z.tile_rows;
	a.group = z.group;
	a.max_items = z.max_items;
	a.max_tiles = z.max_tiles;
	a.decode = s->decode;
	return CUDA_LAUNCH(plan_kernel, dim3(1), dim3(THREADS), 0, stream, a);
}

/* ---- a layer ---- */

static uint32_t least(size_t a, size_t b)
{
	return (uint32_t)(a < b ? a : b);
}

/* rope.k NULL: q is as rows_rope leaves it. */
static int run(const struct attention_step *s, const struct rows_rope *rope,
	const struct cuda_kv *kv, const struct rows_out *out, cudaStream_t stream)
{
	const struct attention_shape *shape = s->shape;
	struct attention_sizes z;
	struct attention_args a = {};
	int r;

	if (!valid(shape) || kv->type != shape->kv || kv->n_kv_heads != shape->n_kv_heads ||
		kv->head_dim != shape->head_dim || s->n_rows > shape->max_rows ||
		out->type == CUDA_TYPE_E4M3 ||
		(out->type == CUDA_TYPE_Q8 && !attention_gives_q8(shape)))
		return cudaErrorInvalidValue;
	if (s->n_rows == 0)
		return 0;
	sizes_of(shape, &z);
	lay_out(shape, s->workspace, &a.plan);
	a.rows = *s->rows;
	a.kv = *kv;
	a.out = *out;
	a.q = rope->q;
	a.ld_q = rope->ld_q;
	a.rope = *rope;
	a.n_heads = shape->n_heads;
	a.group = z.group;
	a.n_parts = z.n_parts;
	a.n_rows = s->n_rows;
	a.ahead = s->ahead;
	if (!fast(shape))
		return attention_plain(&a, shape->act, stream);
	uint32_t single =
		s->decode ? least(s->n_rows, shape->max_runs) : least(s->n_rows, s->n_runs);
	r = attention_decode(&a, shape->act, z.n_pieces + single, stream);
	if (r || s->decode || s->n_rows < 2)
		return r;
	size_t vectors = (size_t)s->n_rows * z.group;
	return attention_prefill(&a, shape->act,
		least(z.max_tiles, (vectors + z.tile_rows - 1) / z.tile_rows + s->n_runs), stream);
}

int attention_run(const struct attention_step *s, const struct cuda_kv *kv, const void *q,
	size_t ld_q, const struct rows_out *out, cudaStream_t stream)
{
	struct rows_rope done = {};

	done.q = const_cast<void *>(q); /* which is only read */
	done.ld_q = ld_q;
	return run(s, &done, kv, out, stream);
}

bool attention_ropes(const struct attention_step *s, uint32_t rope_dim)
{
	const struct attention_shape *shape = s->shape;

	return s->decode && fast(shape) && rope_dim % 4 == 0 &&
	       shape->n_heads / shape->n_kv_heads <= ATTENTION_PART_HEADS;
}

int attention_rope_and_run(const struct attention_step *s, const struct rows_rope *r,
	const struct cuda_kv *kv, const struct rows_out *out, cudaStream_t stream)
{
	if (!attention_ropes(s, r->rope_dim) || r->act != s->shape->act ||
		r->n_heads != s->shape->n_heads || r->n_rows != s->n_rows || !r->k ||
		r->rope_dim > s->shape->head_dim)
		return cudaErrorInvalidValue;
	return run(s, r, kv, out, stream);
}
