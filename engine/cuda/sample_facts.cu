/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the model's own logits say, for rows that ask: before anything is held against them. First
 * the greatest ones (sample_top), then the sum of all chances at temperature 1, against the
 * greatest (sample_add_up). Sums are of integers, so blocks may add theirs in any order.
 *
 * The definition is sampler_look() (engine/sampler.h). A row of 128,000 logits is 0.5 MB, what is
 * said of it here 208 bytes: the host gets these and makes numbers of them as it does of its own.
 */
#include "engine/cuda/sample_device.h"

static __device__ bool asks(const struct sample_row *row)
{
	return (row->flags & (SAMPLE_ROW | SAMPLE_FACTS)) == (SAMPLE_ROW | SAMPLE_FACTS);
}

/* What a thread has to offer; 0: none that is a choice. */
struct best_two {
	uint64_t first, second;
};

/* The greatest of a thread's keys that are below `bound`. The keys are those of logits, or ready
 * made. */
static __device__ struct best_two best_below(
	const float *logits, const uint64_t *keys, uint32_t from, uint32_t to, uint64_t bound)
{
	struct best_two best = {0, 0};

	for (uint32_t i = from + threadIdx.x; i < to; i += SAMPLE_THREADS) {
		uint64_t key = keys ? keys[i] : chance_key(logits[i], i);

		key = key < bound && key >> 32 ? key : 0;
		best.second = max(best.second, min(best.first, key));
		best.first = max(best.first, key);
	}
	return best;
}

/* Writes down the n greatest keys of [from, to), greatest first; the rest of out[n] is 0. Each
 * thread holds its best two; who has given both to the block looks for its next. In a large batch
 * a thread has hundreds of keys, all others wait while it looks, and of the block's 20 best few
 * threads have more than one, so two make that rare. */
static __device__ void find_greatest(const float *logits, const uint64_t *keys, uint32_t from,
	uint32_t to, uint32_t n, uint64_t *out)
{
	struct best_two mine = best_below(logits, keys, from, to, ~(uint64_t)0);

	for (uint32_t i = 0; i < n; i++) {
		uint64_t best = sample_block_max(mine.first);

		if (threadIdx.x == 0)
			out[i] = best;
		if (best == 0 || best != mine.first)
			continue;
		mine.first = mine.second;
		mine.second = 0;
		if (mine.first == 0)
			mine = best_below(logits, keys, from, to, best);
	}
}

/* The keys of all chunks are there: what they say of the row. */
static __device__ void conclude(
	const struct sample_chunk *c, uint32_t n_each, uint32_t n_keys, struct sampler_facts *facts)
{
	__shared__ uint64_t top[ENGINE_LOGPROBS_MAX];
	uint32_t n = c->row->n_top;
	uint64_t best;

	find_greatest(NULL, c->work->top_keys, 0, n_keys, n_each, top);
	__syncthreads();
	best = top[0];
	if (threadIdx.x == 0) {
		facts->mass.total = 0;
		facts->mass.best = best ? chance_logit(best) : -INFINITY;
		facts->best_id = best ? chance_id(best) : SAMPLE_NONE;
		facts->picked = -INFINITY;
		facts->n_top = 0;
		while (facts->n_top < n && top[facts->n_top])
			facts->n_top++;
	}
	if (threadIdx.x < n && top[threadIdx.x]) {
		facts->top_ids[threadIdx.x] = chance_id(top[threadIdx.x]);
		facts->top[threadIdx.x] = chance_logit(top[threadIdx.x]);
	}
	if (threadIdx.x < c->row->n_candidates)
		facts->candidates[threadIdx.x] = c->logits[c->row->candidates[threadIdx.x]];
}

__global__ static void __launch_bounds__(SAMPLE_THREADS)
	sample_top(struct sample_state s, struct sample_step step, uint32_t length)
{
	device_begin();
	struct sample_chunk c = sample_chunk_of(&s, &step, length);
	uint32_t n_each;

	if (!asks(c.row))
		return;
	n_each = max(c.row->n_top, 1u);
	find_greatest(c.logits, NULL, c.from, c.to, n_each, c.work->top_keys + blockIdx.x * n_each);
	if (sample_is_last(c.work))
		conclude(&c, n_each, gridDim.x * n_each, step.facts + blockIdx.y);
}

__global__ static void __launch_bounds__(SAMPLE_THREADS)
	sample_add_up(struct sample_state s, struct sample_step step, uint32_t length)
{
	device_begin();
	struct sample_chunk c = sample_chunk_of(&s, &step, length);
	struct sampler_facts *facts = step.facts + blockIdx.y;
	const float scale = 0x1.715476p+0f; /* chance_scale(1) */
	uint64_t sum = 0;
	float best;

	if (!asks(c.row) || !isfinite(facts->mass.best))
		return;
	best = facts->mass.best;
	for (uint32_t i = c.from + 4 * threadIdx.x; i < c.to; i += 4 * SAMPLE_THREADS) {
		float v[4];

		sample_load(c.logits, i, c.to, v);
#pragma unroll
		for (int k = 0; k < 4; k++)
			sum += chance_of(v[k], best, scale);
	}
	sum = sample_block_sum(sum);
	if (threadIdx.x == 0)
		atomicAdd(reinterpret_cast<unsigned long long *>(&facts->mass.total),
			(unsigned long long)sum);
}

int sample_launch_facts(const struct sample_state *s, const struct sample_step *step,
	struct sample_grid g, cudaStream_t stream)
{
	dim3 grid(g.n_chunks, step->n_rows);
	int r = CUDA_LAUNCH(sample_top, grid, SAMPLE_THREADS, 0, stream, *s, *step, g.length);

	return r ? r
		 : (int)CUDA_LAUNCH(
			   sample_add_up, grid, SAMPLE_THREADS, 0, stream, *s, *step, g.length);
}
