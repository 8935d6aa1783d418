/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which weights are asked for ahead of their product, by which launch, and how much of them.
 *
 * With few rows all a step does is to bring weights from memory, and memory is idle wherever the
 * step does something else: while norms, rotation and attention run, and at the boundary of two
 * launches. So each launch asks for a piece of the product that comes next (ahead.h): its first
 * bytes, one piece behind the other, as blocks of a product begin with its first rows. The order of
 * matrices is that of their numbers, but for the output, which is last; behind it comes the first
 * product of the next step, whoever is in it.
 *
 * The first product of a step is asked for by the end of the step before and by its own beginning.
 * Neither knows of the other (steps are replayed from graphs, in any order), so the beginning goes
 * on where an end stops: behind a step that had many rows the first bytes are missing, no more.
 *
 * With many rows nothing is asked for: there the cache is for activations, and arithmetic is what
 * takes the time.
 */
#include "engine/cuda/gemv.h"
#include "engine/cuda/state.h"

/*
 * How much of a matrix is asked for in all is an option's, and nothing without it: on an H200 a
 * quarter of the cache cost up to 5 % of a step of an 8B, and a fortieth brought 1 %
 * (docs/bench.md).
 */

/*
 * By a launch, in thirds of that: about what memory could bring meanwhile. Of a cache of 50 MB
 * a third is 4.2 MB, 1 us of an H200's memory; small launches take 2 to 3 us. A product asks for
 * what fills the boundary behind it, one that norms for all, as nothing else runs while its last
 * block does; rotation for less than it could, as attention comes behind it,
 * which takes the longest and has but keys and values to read.
 */
#define THIRDS 3
static const size_t thirds[] = {
	[CUDA_ASKER_PRODUCT] = 1,
	[CUDA_ASKER_NORMED] = 3,
	[CUDA_ASKER_ROWS] = 2,
	[CUDA_ASKER_ROPE] = 1,
	[CUDA_ASKER_ATTENTION] = 3,
	[CUDA_ASKER_SAMPLING] = 1,
	[CUDA_ASKER_EMBEDDING] = 3,
};

#define LINE 128                     /* bytes: no two pieces have parts of one */
#define UNIT 16                      /* of what can be asked for */
#define MOST_BYTES ((size_t)1 << 30) /* of an option: pieces are counted in 32 bits */

size_t cuda_ahead_most(const struct model_options *o)
{
	size_t most = (size_t)(o->ahead_kb > 0 ? o->ahead_kb : 0) * 1024;

	return most < MOST_BYTES ? most : MOST_BYTES;
}

static size_t piece_of(const struct cuda_model *s, enum cuda_asker asker)
{
	return s->ahead_bytes * thirds[asker] / THIRDS / LINE * LINE;
}

/* Whether two matrices whose numbers follow each other have one product, if they lie so: q, k, v;
 * gate and up. */
static bool may_follow(uint32_t number)
{
	uint32_t k = (number - 2) % 7;

	return number >= 2 && (k < 2 || k == 4);
}

/* The product that begins with that matrix is next, of which the first `done` bytes were asked
 * for. */
static void point(struct cuda_model *s, uint32_t number, size_t done)
{
	const struct cuda_matrix *w = &s->matrix[number];
	const uint8_t *from = w->data;
	size_t n = cuda_place_matrix_bytes(w);

	for (; may_follow(number) && cuda_place_joins(w, w + 1); number++, w++)
		n += cuda_place_matrix_bytes(w + 1);
	n = (n < s->ahead_bytes ? n : s->ahead_bytes) / UNIT * UNIT;
	s->issue.asked = (struct cuda_asked){
		.from = from,
		.at = done < n ? done : n,
		.end = n,
	};
}

void cuda_ahead_begin(struct cuda_model *s)
{
	point(s, 2, piece_of(s, CUDA_ASKER_PRODUCT) + piece_of(s, CUDA_ASKER_SAMPLING));
}

void cuda_ahead_pass(struct cuda_model *s, uint32_t number)
{
	uint32_t behind = number == 1 ? 2 : number + 1 == s->n_matrices ? 1 : number + 1;

	point(s, behind, 0);
}

struct cuda_ahead cuda_ahead_take(struct cuda_model *s, enum cuda_asker asker)
{
	struct cuda_asked *a = &s->issue.asked;
	size_t left = a->end - a->at, most = piece_of(s, asker), n = left < most ? left : most;
	struct cuda_ahead piece = {a->from + a->at, (uint32_t)n, s->context.n_sm};

	if (s->issue.rows > CUDA_GEMV_MAX_ROWS || n == 0)
		return (struct cuda_ahead){0};
	a->at += n;
	return piece;
}
