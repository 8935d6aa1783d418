/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first and the last kernel of sampling, and its memory. sample_best holds biases, penalties
 * and bans against the logits and finds the greatest; a greedy row is done with that. sample_draw
 * adds up the chances of what is kept, chunk by chunk, and looks in the one chunk where the draw
 * falls for the token, in order of id.
 *
 * The greatest logit must be known before the first chance can be computed, the sums before the
 * first cut, and so on: that is why there are four kernels and not one. A row that has nothing to
 * do in one of them leaves it at once.
 */
#include "engine/cuda/ahead_device.h"
#include "engine/cuda/sample_device.h"

/* ---- memory ---- */

static uint32_t bitmap_words(uint32_t n_vocab)
{
	return ((n_vocab + 31) / 32 + 3) & ~3u;
}

/* What is placed one after the other; addresses are multiples of 256. */
static void *part(char *memory, size_t *at, size_t bytes)
{
	char *p = memory + *at;

	*at += (bytes + 255) & ~(size_t)255;
	return p;
}

static size_t place(
	struct sample_state *s, uint32_t n_vocab, uint32_t max_rows, uint32_t n_slots, char *memory)
{
	uint32_t n_words = bitmap_words(n_vocab);
	size_t at = 0, tokens = (size_t)n_words * 32;

	s->n_vocab = n_vocab;
	s->n_words = n_words;
	s->max_rows = max_rows;
	s->n_slots = n_slots;
	s->scratch = part(memory, &at, max_rows * sizeof(struct sample_work));
	s->control = static_cast<uint32_t *>(part(memory, &at, n_words * sizeof(uint32_t)));
	s->ends = static_cast<uint32_t *>(part(memory, &at, n_words * sizeof(uint32_t)));
	s->counts = static_cast<uint16_t *>(part(memory, &at, n_slots * tokens * sizeof(uint16_t)));
	s->changed = static_cast<float *>(part(memory, &at, n_slots * tokens * sizeof(float)));
	s->biases = static_cast<struct sample_bias *>(
		part(memory, &at, n_slots * sizeof(struct sample_bias)));
	return at;
}

extern "C" size_t sample_bytes(uint32_t n_vocab, uint32_t max_rows, uint32_t n_slots)
{
	struct sample_state s;

	return place(&s, n_vocab, max_rows, n_slots, NULL);
}

extern "C" void sample_place(
	struct sample_state *s, uint32_t n_vocab, uint32_t max_rows, uint32_t n_slots, void *memory)
{
	place(s, n_vocab, max_rows, n_slots, static_cast<char *>(memory));
}

extern "C" int sample_clear(const struct sample_state *s, cudaStream_t stream)
{
	char *from = static_cast<char *>(s->scratch);

	return cudaMemsetAsync(
		from, 0, static_cast<size_t>(reinterpret_cast<char *>(s->counts) - from), stream);
}

/* ---- the end of a row ---- */

/* By one thread: where the token goes. `id` may be SAMPLE_NONE. */
static __device__ void give(
	const struct sample_step *step, const struct sample_chunk *c, uint32_t id)
{
	uint32_t row = blockIdx.y;

	step->picked[row] = id;
	if (step->next_id && c->row->next != SAMPLE_NONE)
		step->next_id[c->row->next] = id;
	if (id == SAMPLE_NONE)
		return;
	if (c->is_changed && (c->counts[id] & CHANCE_MOST_COUNT) < CHANCE_MOST_COUNT)
		c->counts[id]++;
	if (step->facts && (c->row->flags & SAMPLE_FACTS))
		step->facts[row].picked = c->logits[id];
}

/* ---- sample_best ---- */

/* changed = logits + biases, for this chunk. */
static __device__ void add_biases(const struct sample_state *s, const struct sample_chunk *c)
{
	const struct sample_bias *b = s->biases + c->row->slot;

	for (uint32_t i = c->from + threadIdx.x; i < c->to; i += SAMPLE_THREADS)
		c->changed[i] = c->logits[i];
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < b->n; i += SAMPLE_THREADS)
		if (b->ids[i] >= c->from && b->ids[i] < c->to)
			c->changed[b->ids[i]] = CHANCE_ADD(c->changed[b->ids[i]], b->bias[i]);
	__syncthreads();
}

/* Which of the tokens i to i + 3 are banned, as bits. */
static __device__ __forceinline__ uint32_t bans_at(const struct sample_state *s,
	const struct sample_row *row, const uint32_t *mask, uint32_t i)
{
	uint32_t bans = s->control[i / 32];

	if (row->flags & SAMPLE_NO_END)
		bans |= s->ends[i / 32];
	if (mask)
		bans |= ~mask[i / 32];
	return bans >> i % 32 & 15;
}

static __device__ __forceinline__ void penalise(
	const struct sample_chunk *c, uint32_t i, float v[4])
{
	const uint2 two = *reinterpret_cast<const uint2 *>(c->counts + i);
	const uint32_t seen[4] = {two.x & 0xffff, two.x >> 16, two.y & 0xffff, two.y >> 16};

#pragma unroll
	for (int k = 0; k < 4; k++)
		v[k] = chance_adjust(
			v[k], seen[k], c->row->repetition, c->row->presence, c->row->frequency);
}

/* Changes and bans the logits of the chunk; the greatest key of this thread's. */
static __device__ uint64_t change_and_find(const struct sample_state *s,
	const struct sample_step *step, const struct sample_chunk *c, const float *from)
{
	float *to = c->is_changed ? c->changed : step->logits + blockIdx.y * step->ld;
	const uint32_t *mask = step->masks && c->row->mask != SAMPLE_NONE
				       ? step->masks + (size_t)c->row->mask * s->n_words
				       : NULL;
	float best = -INFINITY;
	uint32_t best_id = 0;

	for (uint32_t i = c->from + 4 * threadIdx.x; i < c->to; i += 4 * SAMPLE_THREADS) {
		uint32_t bans = bans_at(s, c->row, mask, i);
		float v[4];

		sample_load(from, i, c->to, v);
		if (c->is_changed)
			penalise(c, i, v);
#pragma unroll
		for (uint32_t k = 0; k < 4; k++) {
			if (bans >> k & 1)
				v[k] = -INFINITY;
			if ((c->is_changed || (bans >> k & 1)) && i + k < c->to)
				to[i + k] = v[k];
			if (v[k] > best) {
				best = v[k];
				best_id = i + k;
			}
		}
	}
	return best > -INFINITY ? chance_key(best, best_id) : 0;
}

__global__ static void __launch_bounds__(SAMPLE_THREADS)
	sample_best(struct sample_state s, struct sample_step step, uint32_t length)
{
	ahead_load_weights_by_all(step.ahead);
	device_begin();
	struct sample_chunk c = sample_chunk_of(&s, &step, length);
	struct sample_work *work = c.work;
	uint64_t key;
	bool has_bias;

	if (!(c.row->flags & SAMPLE_ROW)) {
		if (blockIdx.x == 0 && threadIdx.x == 0)
			step.picked[blockIdx.y] = SAMPLE_NONE;
		return;
	}
	for (uint32_t i = blockIdx.x * SAMPLE_THREADS + threadIdx.x; i < CHANCE_BINS;
		i += gridDim.x * SAMPLE_THREADS) {
		work->bin_mass[i] = 0;
		work->bin_count[i] = 0;
	}
	has_bias = c.is_changed && s.biases[c.row->slot].n > 0;
	if (has_bias)
		add_biases(&s, &c);
	key = sample_block_max(change_and_find(&s, &step, &c, has_bias ? c.changed : c.logits));
	if (threadIdx.x == 0)
		work->chunk[blockIdx.x] = key;
	if (!sample_is_last(work))
		return;
	key = sample_block_max(threadIdx.x < gridDim.x ? work->chunk[threadIdx.x] : 0);
	if (threadIdx.x > 0)
		return;
	work->best = key ? chance_logit(key) : 0;
	work->cut_bin = SAMPLE_ALL;
	work->last = 0;
	work->needs_cut = 0;
	/* An infinite logit leaves nothing to weigh. */
	work->is_open = key && !(c.row->flags & SAMPLE_GREEDY) && isfinite(work->best);
	if (!work->is_open)
		give(&step, &c, key ? chance_id(key) : SAMPLE_NONE);
}

/* ---- sample_draw ---- */

/* What is kept of a row. */
struct kept {
	float best, scale;
	uint32_t cut_bin;
	uint64_t last, least;
};

/* The chance of a token if it is kept, else 0. */
static __device__ __forceinline__ uint64_t kept_chance(
	const struct kept *kept, float logit, uint32_t id)
{
	float y = chance_log2(logit, kept->best, kept->scale);
	uint64_t chance = chance_fixed(chance_exp2(y));
	uint32_t bin = chance_bin(y);

	if (chance < kept->least || bin > kept->cut_bin)
		return 0;
	return bin < kept->cut_bin || chance_key(logit, id) >= kept->last ? chance : 0;
}

/* The token of x[from .. to) at `place`, less than the sum of what is kept there. */
static __device__ uint32_t find_drawn(
	const struct kept *kept, const float *x, uint32_t from, uint32_t to, uint64_t place)
{
	__shared__ uint32_t drawn;
	uint32_t each = (to - from + SAMPLE_THREADS - 1) / SAMPLE_THREADS;
	uint32_t mine = min(from + threadIdx.x * each, to), end = min(mine + each, to);
	uint64_t sum = 0, before, total;

	for (uint32_t i = mine; i < end; i++)
		sum += kept_chance(kept, x[i], i);
	before = sample_block_before(sum, &total);
	if (before <= place && place < before + sum) {
		uint64_t chance;

		place -= before;
		while ((chance = kept_chance(kept, x[mine], mine)) <= place) {
			place -= chance;
			mine++;
		}
		drawn = mine;
	}
	__syncthreads();
	return drawn;
}

__global__ static void __launch_bounds__(SAMPLE_THREADS)
	sample_draw(struct sample_state s, struct sample_step step, uint32_t length)
{
	device_begin();
	__shared__ uint32_t chunk;
	__shared__ uint64_t chunk_before;
	struct sample_chunk c = sample_chunk_of(&s, &step, length);
	const float *x = sample_logits(&c);
	struct kept kept;
	uint64_t sum = 0, before, total, place;
	uint32_t id;

	if (!(c.row->flags & SAMPLE_ROW) || !c.work->is_open)
		return;
	kept = {c.work->best, c.row->scale, c.work->cut_bin, c.work->last, c.row->least};
	for (uint32_t i = c.from + 4 * threadIdx.x; i < c.to; i += 4 * SAMPLE_THREADS) {
		float v[4];

		sample_load(x, i, c.to, v);
#pragma unroll
		for (uint32_t k = 0; k < 4; k++)
			sum += kept_chance(&kept, v[k], i + k);
	}
	sum = sample_block_sum(sum);
	if (threadIdx.x == 0)
		c.work->chunk[blockIdx.x] = sum;
	if (!sample_is_last(c.work))
		return;
	sum = threadIdx.x < gridDim.x ? c.work->chunk[threadIdx.x] : 0;
	before = sample_block_before(sum, &total);
	place = chance_draw(total, c.row->random);
	if (before <= place && place < before + sum) {
		chunk = threadIdx.x;
		chunk_before = before;
	}
	__syncthreads();
	id = find_drawn(&kept, x, min(chunk * length, s.n_vocab),
		min((chunk + 1) * length, s.n_vocab), place - chunk_before);
	if (threadIdx.x == 0)
		give(&step, &c, id);
}

/* ---- all of it ---- */

/* A few blocks for each processor, none with less than 256 tokens. */
static struct sample_grid cut_rows(const struct sample_state *s, const struct sample_step *step)
{
	uint32_t most = min((s->n_vocab + 255) / 256, (uint32_t)SAMPLE_MAX_CHUNKS);
	uint32_t n = max(min(4 * step->n_processors / step->n_rows, most), 1u);
	struct sample_grid g;

	g.length = ((s->n_vocab + n - 1) / n + 127) & ~127u;
	g.n_chunks = (s->n_vocab + g.length - 1) / g.length;
	return g;
}

extern "C" int sample_run(
	const struct sample_state *s, const struct sample_step *step, cudaStream_t stream)
{
	struct sample_grid g;
	dim3 grid;
	int r = 0;

	if (step->n_rows > s->max_rows || step->ld < s->n_vocab || step->ld % 4 || s->n_vocab == 0)
		return cudaErrorInvalidValue;
	if (step->n_rows == 0)
		return 0;
	g = cut_rows(s, step);
	grid = dim3(g.n_chunks, step->n_rows);
	if (step->facts)
		r = sample_launch_facts(s, step, g, stream);
	if (!r)
		r = CUDA_LAUNCH(sample_best, grid, SAMPLE_THREADS, 0, stream, *s, *step, g.length);
	if (!r)
		r = sample_launch_cut(s, step, g, stream);
	if (!r)
		r = CUDA_LAUNCH(sample_draw, grid, SAMPLE_THREADS, 0, stream, *s, *step, g.length);
	return r;
}

/* ---- slots ---- */

__global__ static void __launch_bounds__(SAMPLE_THREADS)
	clear_slot(struct sample_state s, uint32_t slot, const struct sample_bias *bias)
{
	device_begin();
	uint32_t *counts = reinterpret_cast<uint32_t *>(s.counts + (size_t)slot * s.n_words * 32);
	struct sample_bias *to = s.biases + slot;
	uint32_t n = bias ? bias->n : 0, first = blockIdx.x * SAMPLE_THREADS + threadIdx.x;

	for (uint32_t i = first; i < s.n_words * 16; i += gridDim.x * SAMPLE_THREADS)
		counts[i] = 0;
	for (uint32_t i = first; i < n; i += gridDim.x * SAMPLE_THREADS) {
		to->ids[i] = bias->ids[i];
		to->bias[i] = bias->bias[i];
	}
	if (first == 0)
		to->n = n;
}

/* Counts are halves of words: there are no atomics of 16 bits everywhere. */
static __device__ void count(uint16_t *counts, uint32_t id, bool is_prompt)
{
	uint32_t *word = reinterpret_cast<uint32_t *>(counts) + id / 2;
	uint32_t shift = id % 2 * 16, old = 0, expected, seen;

	do {
		expected = old;
		seen = expected >> shift & 0xffff;
		if (is_prompt)
			seen |= CHANCE_IN_PROMPT;
		else if ((seen & CHANCE_MOST_COUNT) < CHANCE_MOST_COUNT)
			seen++;
		old = atomicCAS(word, expected, (expected & ~(0xffffu << shift)) | seen << shift);
	} while (old != expected);
}

__global__ static void __launch_bounds__(SAMPLE_THREADS) count_tokens(struct sample_state s,
	uint32_t slot, const uint32_t *ids, uint32_t n_prompt, uint32_t n_tok)
{
	device_begin();
	for (uint32_t i = blockIdx.x * SAMPLE_THREADS + threadIdx.x; i < n_tok;
		i += gridDim.x * SAMPLE_THREADS)
		count(s.counts + (size_t)slot * s.n_words * 32, ids[i], i < n_prompt);
}

extern "C" int sample_open(const struct sample_state *s, uint32_t slot, const uint32_t *ids,
	uint32_t n_prompt, uint32_t n_tok, const struct sample_bias *bias, cudaStream_t stream)
{
	uint32_t blocks = min((s->n_words * 16 + SAMPLE_THREADS - 1) / SAMPLE_THREADS, 64u);
	int r;

	if (slot >= s->n_slots || n_prompt > n_tok)
		return cudaErrorInvalidValue;
	r = CUDA_LAUNCH(clear_slot, blocks, SAMPLE_THREADS, 0, stream, *s, slot, bias);
	if (r || n_tok == 0)
		return r;
	blocks = min((n_tok + SAMPLE_THREADS - 1) / SAMPLE_THREADS, 64u);
	return CUDA_LAUNCH(
		count_tokens, blocks, SAMPLE_THREADS, 0, stream, *s, slot, ids, n_prompt, n_tok);
}
