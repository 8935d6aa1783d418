/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where top_k and top_p cut a row, without sorting it. Tokens are counted, and their chances
 * summed, in bins of likelihood (sample_bins). The sums over the bins tell in which bin the k-th
 * token lies and in which one top_p is reached; where a cut is not between two bins, the few tokens
 * of these bins are listed and the exact place is found among them digit by digit of their keys
 * (sample_cut).
 *
 * top_p is a share of what top_k left. While it is not known which tokens of the bin of the k-th
 * are left, the place of top_p is known only to lie in a range of bins, mostly one or two;
 * sample_cut lists these too.
 *
 * If the list is too short (a flat row, or many equal logits), the one block that resolves the cut
 * reads the row again for each digit instead: slower, and as exact.
 */
#include "engine/cuda/sample_device.h"

static __device__ __forceinline__ bool cuts(
	const struct sample_state *s, const struct sample_row *row)
{
	return (row->top_k > 0 && row->top_k < s->n_vocab) || row->share != CHANCE_NO_SHARE;
}

/* ---- bins ---- */

/* Sums of n chances in shared memory, in halves: atomics of 64 bits are loops there, of 32 bits one
 * instruction. Who makes the low half wrap carries one over. */
template <int n> struct sums {
	uint32_t low[n], high[n], count[n];
};

template <int n> static __device__ __forceinline__ void clear(struct sums<n> *s)
{
	for (uint32_t i = threadIdx.x; i < n; i += SAMPLE_THREADS)
		s->low[i] = s->high[i] = s->count[i] = 0;
}

template <int n>
static __device__ __forceinline__ void add(struct sums<n> *s, uint32_t i, uint64_t chance)
{
	uint32_t low = (uint32_t)chance, high = (uint32_t)(chance >> 32);

	if (atomicAdd(&s->low[i], low) > ~low)
		high++;
	if (high > 0)
		atomicAdd(&s->high[i], high);
	atomicAdd(&s->count[i], 1u);
}

template <int n>
static __device__ __forceinline__ uint64_t sum_of(const struct sums<n> *s, uint32_t i)
{
	return (uint64_t)s->high[i] << 32 | s->low[i];
}

/* A thread's bins, which follow each other. */
struct bins {
	uint64_t mass[SAMPLE_BINS_EACH], count[SAMPLE_BINS_EACH];
	uint64_t mass_before, count_before; /* of all bins before them */
	uint64_t total;                     /* of the mass of all */
};

static __device__ __forceinline__ void load_bins(const struct sample_work *work, struct bins *b)
{
	uint64_t mass = 0, count = 0, n;

#pragma unroll
	for (uint32_t k = 0; k < SAMPLE_BINS_EACH; k++) {
		b->mass[k] = work->bin_mass[threadIdx.x * SAMPLE_BINS_EACH + k];
		b->count[k] = work->bin_count[threadIdx.x * SAMPLE_BINS_EACH + k];
		mass += b->mass[k];
		count += b->count[k];
	}
	b->mass_before = sample_block_before(mass, &b->total);
	b->count_before = sample_block_before(count, &n);
}

struct place {
	uint32_t bin;         /* SAMPLE_ALL: it is not reached */
	uint64_t before, own; /* the sum before this bin, and in it */
};

/* The bin with which the running sum of values reaches target > 0. */
static __device__ __forceinline__ struct place reach(
	const uint64_t value[SAMPLE_BINS_EACH], uint64_t before, uint64_t target)
{
	__shared__ struct place found;

	__syncthreads();
	if (threadIdx.x == 0)
		found.bin = SAMPLE_ALL;
	__syncthreads();
#pragma unroll
	for (uint32_t k = 0; k < SAMPLE_BINS_EACH; k++) {
		if (before < target && target <= before + value[k]) {
			found.bin = threadIdx.x * SAMPLE_BINS_EACH + k;
			found.before = before;
			found.own = value[k];
		}
		before += value[k];
	}
	__syncthreads();
	return found;
}

/* The mass of a bin and before it. */
static __device__ __forceinline__ struct place mass_at(const struct bins *b, uint32_t bin)
{
	__shared__ struct place found;
	uint64_t before = b->mass_before;

	__syncthreads();
#pragma unroll
	for (uint32_t k = 0; k < SAMPLE_BINS_EACH; k++) {
		if (threadIdx.x * SAMPLE_BINS_EACH + k == bin) {
			found.bin = bin;
			found.before = before;
			found.own = b->mass[k];
		}
		before += b->mass[k];
	}
	__syncthreads();
	return found;
}

/* What the bins say of the cut; one thread writes it down. */
static __device__ __forceinline__ void judge_bins(
	struct sample_work *work, const struct sample_row *row, uint32_t n_vocab)
{
	struct bins b;
	struct place k = {SAMPLE_ALL, 0, 0}, low = {SAMPLE_ALL, 0, 0}, high = low;
	uint64_t total, k_left = 0;
	uint32_t k_bin = SAMPLE_ALL;

	load_bins(work, &b);
	total = b.total;
	if (row->top_k > 0 && row->top_k < n_vocab) {
		k = reach(b.count, b.count_before, row->top_k);
		if (k.bin != SAMPLE_ALL) {
			struct place mass = mass_at(&b, k.bin);

			k_left = row->top_k - k.before;
			k_bin = k_left < k.own ? k.bin : SAMPLE_ALL;
			total = mass.before + (k_left < k.own ? 0 : mass.own);
			high = mass;
		}
	}
	if (row->share != CHANCE_NO_SHARE) {
		uint64_t most = k_bin == SAMPLE_ALL ? total : total + high.own;

		low = reach(b.mass, b.mass_before, chance_needed(total, row->share));
		high = reach(b.mass, b.mass_before, chance_needed(most, row->share));
	}
	if (threadIdx.x == 0) {
		bool shares = row->share != CHANCE_NO_SHARE;

		work->k_bin = k_bin;
		work->k_left = (uint32_t)k_left;
		work->low = shares ? low.bin : SAMPLE_ALL;
		work->high = shares ? high.bin : SAMPLE_ALL;
		work->total = total;
		work->needs_cut = shares || k_bin != SAMPLE_ALL;
		work->n_list = 0;
		work->cut_bin = k.bin; /* unless a cut is needed */
		work->last = 0;
	}
}

/*
 * Without top_k: below this y no token can be kept, and their chances are only summed, into the
 * last bin, which no other token falls into. For if each chance is at most (1 - top_p) / n_vocab of
 * the greatest, together they are at most 1 - top_p of the sum. The margin of a hundredth makes up
 * for the rounding of log2f and of chances. -INFINITY: every token has its bin.
 */
static __device__ __forceinline__ float far_below(const struct sample_row *row, uint32_t n_vocab)
{
	uint64_t rest = chance_high(CHANCE_ONE, ((1ull << 32) - row->share) << 31) << 1;

	if ((row->top_k > 0 && row->top_k < n_vocab) || rest / n_vocab == 0)
		return -INFINITY;
	return log2f((float)(rest / n_vocab)) - CHANCE_BITS - 0.01f;
}

__global__ static void __launch_bounds__(SAMPLE_THREADS)
	sample_bins(struct sample_state s, struct sample_step step, uint32_t length)
{
	device_begin();
	__shared__ struct sums<CHANCE_BINS> sums;
	struct sample_chunk c = sample_chunk_of(&s, &step, length);
	uint64_t rest = 0;
	const float *x = sample_logits(&c);
	float best, scale, far;

	if (!(c.row->flags & SAMPLE_ROW) || !c.work->is_open || !cuts(&s, c.row))
		return;
	best = c.work->best;
	scale = c.row->scale;
	far = far_below(c.row, s.n_vocab);
	clear(&sums);
	__syncthreads();
	for (uint32_t i = c.from + 4 * threadIdx.x; i < c.to; i += 4 * SAMPLE_THREADS) {
		float v[4];

		sample_load(x, i, c.to, v);
#pragma unroll
		for (int k = 0; k < 4; k++) {
			float y = chance_log2(v[k], best, scale);
			uint64_t chance = chance_fixed(chance_exp2(y));

			if (y < far)
				rest += chance;
			else if (chance > 0)
				add(&sums, chance_bin(y), chance);
		}
	}
	rest = sample_block_sum(rest);
	if (threadIdx.x == 0 && rest > 0)
		add(&sums, CHANCE_BINS - 1, rest);
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < CHANCE_BINS; i += SAMPLE_THREADS) {
		if (sums.count[i] == 0)
			continue;
		atomicAdd(reinterpret_cast<unsigned long long *>(&c.work->bin_mass[i]),
			(unsigned long long)sum_of(&sums, i));
		atomicAdd(&c.work->bin_count[i], sums.count[i]);
	}
	if (sample_is_last(c.work))
		judge_bins(c.work, c.row, s.n_vocab);
}

/* ---- the tokens at a cut ---- */

/* Tokens to look at, in the list or in the row. */
struct tokens {
	const struct sample_work *work;
	const float *x;
	float best, scale;
	const uint32_t *list; /* NULL: all n of the row */
	uint32_t n;
};

/* Token number j: whether it is in the bin and has a chance, its key and chance. */
static __device__ __forceinline__ bool look(
	const struct tokens *t, uint32_t j, uint32_t bin, uint64_t *key, uint64_t *chance)
{
	uint32_t id = t->list ? t->list[j] : j;
	float v = t->x[id], y = chance_log2(v, t->best, t->scale);

	*key = chance_key(v, id);
	*chance = chance_fixed(chance_exp2(y));
	return *chance > 0 && chance_bin(y) == bin;
}

/* Of the tokens of a bin, greatest key first, the key of the one with which their number, or
 * (by_mass) the sum of their chances, reaches `target`: 1 to all of it. */
static __device__ __forceinline__ uint64_t find_key(
	const struct tokens *t, uint32_t bin, bool by_mass, uint64_t target)
{
	__shared__ struct sums<256> sums;
	__shared__ uint32_t digit;
	__shared__ uint64_t digit_before, only;
	uint64_t key, chance, high = 0, low = 0, mask, prefix, total;
	int shift;

	for (uint32_t j = threadIdx.x; j < t->n; j += SAMPLE_THREADS) {
		if (look(t, j, bin, &key, &chance)) {
			high = max(high, key);
			low = max(low, ~key);
		}
	}
	high = sample_block_max(high);
	low = ~sample_block_max(low);
	if (high == low)
		return high;
	/* All keys agree before the digit of 8 bits at `shift`. */
	shift = (63 - __clzll((long long)(high ^ low))) & ~7;
	mask = shift == 56 ? 0 : ~(uint64_t)0 << (shift + 8);
	prefix = high & mask;
	for (;; shift -= 8) {
		uint64_t own, before;

		__syncthreads();
		clear(&sums);
		__syncthreads();
		for (uint32_t j = threadIdx.x; j < t->n; j += SAMPLE_THREADS)
			if (look(t, j, bin, &key, &chance) && (key & mask) == prefix)
				add(&sums, key >> shift & 255, by_mass ? chance : 1);
		__syncthreads();
		own = sum_of(&sums, 255 - threadIdx.x);
		before = sample_block_before(own, &total);
		if (before < target && target <= before + own) {
			digit = 255 - threadIdx.x;
			digit_before = before;
		}
		__syncthreads();
		target -= digit_before;
		prefix |= (uint64_t)digit << shift;
		mask |= (uint64_t)255 << shift;
		if (shift == 0)
			return prefix;
		if (sums.count[digit] == 1)
			break;
	}
	for (uint32_t j = threadIdx.x; j < t->n; j += SAMPLE_THREADS)
		if (look(t, j, bin, &key, &chance) && (key & mask) == prefix)
			only = key;
	__syncthreads();
	return only;
}

/* The chances of a bin's tokens with keys from `last`. */
static __device__ __forceinline__ uint64_t mass_from(
	const struct tokens *t, uint32_t bin, uint64_t last)
{
	uint64_t key, chance, sum = 0;

	for (uint32_t j = threadIdx.x; j < t->n; j += SAMPLE_THREADS)
		if (look(t, j, bin, &key, &chance) && key >= last)
			sum += chance;
	return sample_block_sum(sum);
}

static __device__ __forceinline__ void resolve(
	struct sample_work *work, const struct sample_row *row, const float *x, uint32_t n_vocab)
{
	struct tokens t = {work, x, work->best, row->scale, work->list, work->n_list};
	uint32_t bin = work->k_bin;
	uint64_t last = 0, total = work->total;

	if (t.n > SAMPLE_LIST) {
		t.list = NULL;
		t.n = n_vocab;
	}
	if (bin != SAMPLE_ALL) {
		last = find_key(&t, bin, false, work->k_left);
		total += mass_from(&t, bin, last);
	}
	if (row->share != CHANCE_NO_SHARE) {
		struct bins b;
		struct place p;
		uint64_t needed = chance_needed(total, row->share);

		load_bins(work, &b);
		p = reach(b.mass, b.mass_before, needed);
		bin = p.bin;
		last = find_key(&t, bin, true, needed - p.before);
	}
	if (threadIdx.x == 0) {
		work->cut_bin = bin;
		work->last = last;
	}
}

__global__ static void __launch_bounds__(SAMPLE_THREADS, 4)
	sample_cut(struct sample_state s, struct sample_step step, uint32_t length)
{
	device_begin();
	struct sample_chunk c = sample_chunk_of(&s, &step, length);
	const float *x = sample_logits(&c);
	struct sample_work *work = c.work;
	uint32_t low, high, k_bin;
	float best, scale;

	if (!(c.row->flags & SAMPLE_ROW) || !work->is_open || !cuts(&s, c.row) || !work->needs_cut)
		return;
	best = work->best;
	scale = c.row->scale;
	low = work->low;
	high = work->high;
	k_bin = work->k_bin;
	for (uint32_t i = c.from + 4 * threadIdx.x; i < c.to; i += 4 * SAMPLE_THREADS) {
		float v[4];

		sample_load(x, i, c.to, v);
#pragma unroll
		for (uint32_t k = 0; k < 4; k++) {
			float y = chance_log2(v[k], best, scale);
			uint32_t bin = chance_bin(y), at;

			if (!(y > CHANCE_FLOOR) || !((bin >= low && bin <= high) || bin == k_bin))
				continue;
			at = atomicAdd(&work->n_list, 1u);
			if (at < SAMPLE_LIST)
				work->list[at] = i + k;
		}
	}
	if (sample_is_last(work))
		resolve(work, c.row, x, s.n_vocab);
}

int sample_launch_cut(const struct sample_state *s, const struct sample_step *step,
	struct sample_grid g, cudaStream_t stream)
{
	dim3 grid(g.n_chunks, step->n_rows);
	int r = CUDA_LAUNCH(sample_bins, grid, SAMPLE_THREADS, 0, stream, *s, *step, g.length);

	return r ? r
		 : (int)CUDA_LAUNCH(
			   sample_cut, grid, SAMPLE_THREADS, 0, stream, *s, *step, g.length);
}
