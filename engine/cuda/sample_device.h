/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_SAMPLE_DEVICE_H
#define ENGINE_CUDA_SAMPLE_DEVICE_H

/*
 * What the kernels of sample*.cu share. Only they include this.
 *
 * Every kernel has a grid of (chunks, rows): block (c, r) looks at a chunk of row r. What a chunk
 * finds goes to the row's struct sample_work; the last block of a row to end (sample_is_last) draws
 * the conclusion for the row. Reading order: sample_facts.cu (only on request), sample.cu's
 * sample_best, sample_cut.cu's sample_bins and sample_cut, sample.cu's
 * sample_draw.
 */

#include "engine/cuda/device.h"
#include "engine/cuda/sample.h"

#define SAMPLE_THREADS 256
#define SAMPLE_WARPS (SAMPLE_THREADS / 32)
#define SAMPLE_MAX_CHUNKS 128
#define SAMPLE_LIST 4096
#define SAMPLE_BINS_EACH (CHANCE_BINS / SAMPLE_THREADS) /* of a thread */
#define SAMPLE_ALL CHANCE_BINS /* as a bin: behind all bins, so that none is cut off */

/* A row's results of a step, from one kernel to the next. */
struct sample_work {
	uint64_t chunk[SAMPLE_MAX_CHUNKS]; /* of each chunk: its best key; later its kept chances */
	uint64_t bin_mass[CHANCE_BINS];    /* chances by bin of likelihood */
	uint32_t bin_count[CHANCE_BINS];   /* tokens that have a chance */
	uint64_t top_keys[SAMPLE_MAX_CHUNKS * ENGINE_LOGPROBS_MAX]; /* each chunk's best keys */
	uint32_t list[SAMPLE_LIST]; /* tokens in the bins where something is cut */
	uint32_t n_list;            /* may be more than there is room for: then ask the row */
	uint32_t tickets;           /* blocks of the kernel under way that have ended */
	uint32_t is_open;           /* it is still to be drawn */
	float best;                 /* greatest logit */
	/* Kept are the tokens in bins before cut_bin, and in it those with keys from `last`. */
	uint32_t cut_bin;
	uint64_t last;
	/* If needs_cut: what is known before tokens are looked at. */
	uint32_t needs_cut;
	uint32_t k_bin, k_left; /* top_k ends with the k_left best of this bin; SAMPLE_ALL: known */
	uint32_t low, high;     /* top_p ends in one of these bins, or in k_bin */
	uint64_t total;         /* of chances, without those in k_bin unless it is SAMPLE_ALL */
};

static __device__ __forceinline__ struct sample_work *sample_work_of(
	const struct sample_state *s, uint32_t row)
{
	return static_cast<struct sample_work *>(s->scratch) + row;
}

/* What a block works on. */
struct sample_chunk {
	const struct sample_row *row;
	struct sample_work *work;
	const float *logits; /* [n_vocab] the model's own, but for bans */
	uint32_t from, to;   /* tokens of this chunk */
	bool is_changed;     /* penalties or biases: what counts lies in `changed` */
	float *changed;
	uint16_t *counts;
};

static __device__ __forceinline__ struct sample_chunk sample_chunk_of(
	const struct sample_state *s, const struct sample_step *step, uint32_t length)
{
	struct sample_chunk c;
	size_t at;

	c.row = step->rows + blockIdx.y;
	c.work = sample_work_of(s, blockIdx.y);
	c.logits = step->logits + blockIdx.y * step->ld;
	c.from = min(blockIdx.x * length, s->n_vocab);
	c.to = min(c.from + length, s->n_vocab);
	c.is_changed = c.row->slot < s->n_slots;
	at = c.is_changed ? (size_t)c.row->slot * s->n_words * 32 : 0;
	c.changed = s->changed + at;
	c.counts = s->counts + at;
	return c;
}

/* The logits that tokens are taken by, once sample_best has run. */
static __device__ __forceinline__ const float *sample_logits(const struct sample_chunk *c)
{
	return c->is_changed ? c->changed : c->logits;
}

/* v[0 .. 4) = x[i .. i + 4), -INFINITY from `to` on; i is a multiple of 4. */
static __device__ __forceinline__ void sample_load(
	const float *x, uint32_t i, uint32_t to, float v[4])
{
	if (i + 4 <= to) {
		float4 four = *reinterpret_cast<const float4 *>(x + i);

		v[0] = four.x;
		v[1] = four.y;
		v[2] = four.z;
		v[3] = four.w;
		return;
	}
#pragma unroll
	for (uint32_t k = 0; k < 4; k++)
		v[k] = i + k < to ? x[i + k] : -INFINITY;
}

/* ---- of a whole block; all its threads take part, and all get the result ---- */

static __device__ __forceinline__ uint64_t sample_block_max(uint64_t x)
{
	__shared__ uint64_t of_warp[SAMPLE_WARPS];

#pragma unroll
	for (int by = 16; by; by >>= 1)
		x = max(x, __shfl_xor_sync(0xffffffffu, x, by));
	__syncthreads();
	if (threadIdx.x % 32 == 0)
		of_warp[threadIdx.x / 32] = x;
	__syncthreads();
#pragma unroll
	for (int w = 0; w < SAMPLE_WARPS; w++)
		x = max(x, of_warp[w]);
	return x;
}

/* The sum of the x of all threads before this one; *total: of all. */
static __device__ __forceinline__ uint64_t sample_block_before(uint64_t x, uint64_t *total)
{
	__shared__ uint64_t of_warp[SAMPLE_WARPS];
	uint64_t sum = x, before = 0;

#pragma unroll
	for (unsigned by = 1; by < 32; by <<= 1) {
		uint64_t other = __shfl_up_sync(0xffffffffu, sum, by);

		sum += threadIdx.x % 32 >= by ? other : 0;
	}
	__syncthreads();
	if (threadIdx.x % 32 == 31)
		of_warp[threadIdx.x / 32] = sum;
	__syncthreads();
	*total = 0;
#pragma unroll
	for (uint32_t w = 0; w < SAMPLE_WARPS; w++) {
		before += w < threadIdx.x / 32 ? of_warp[w] : 0;
		*total += of_warp[w];
	}
	return before + sum - x;
}

static __device__ __forceinline__ uint64_t sample_block_sum(uint64_t x)
{
	uint64_t total;

	sample_block_before(x, &total);
	return total;
}

/* Whether this block is the last of its row to come here: then it sees what the others wrote. */
static __device__ __forceinline__ bool sample_is_last(struct sample_work *work)
{
	__shared__ bool is_last;

	__syncthreads();
	if (threadIdx.x == 0) {
		__threadfence();
		is_last = atomicAdd(&work->tickets, 1u) == gridDim.x - 1;
		if (is_last)
			atomicExch(&work->tickets, 0u); /* for the next kernel */
		__threadfence();
	}
	__syncthreads();
	return is_last;
}

/* ---- launchers of the other files; 0 or a cudaError_t ---- */

struct sample_grid {
	uint32_t n_chunks, length; /* of a chunk, a multiple of 128 */
};

int sample_launch_facts(const struct sample_state *s, const struct sample_step *step,
	struct sample_grid g, cudaStream_t stream);
int sample_launch_cut(const struct sample_state *s, const struct sample_step *step,
	struct sample_grid g, cudaStream_t stream);

#endif
