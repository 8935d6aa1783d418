/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sketches and their bounds. Let a vector be x = (h, t), head and tail after the rotation, a query
 * q = (a, b), and let ' be what eight bits keep of a part: h = h' + e. Then
 *
 *	x q = h'a' + e a' + h (a - a') + t b
 *	   <= h'a' + |e| |a'| + |h| |a - a'| + |t| |b|
 *
 * where h'a' is a sum of products of bytes and the other terms are small or, as |t| |b|, known. So
 *a vector whose bound is below what is asked for need not be looked at, whatever its tail: nothing
 *is missed because of eight bits. With the head a third, |t| |b| is about 2/3, hence strangers (x q
 *near 0.1) are far below 0.85; half of that head does for 0.95, so that is looked at first. Of
 *those that are left the tail is bounded in the same way.
 *
 * The rotation does not change a product. It makes a third of the numbers a third of a vector's
 * square, whichever numbers of an embedding are the large ones. It is rounds of turns by 45 degrees
 * in pairs of numbers chosen by a fixed generator, which serves any dimension.
 */
#include "gateway/sketch.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Above what rounding in float32 does to the sums here, rotation included, for vectors of length 1.
 */
#define ROUNDING 2e-5f

static uint32_t dice(uint64_t *seed, uint32_t n)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((*seed >> 33) % n);
}

int sketch_shape_init(struct sketch_shape *s, uint32_t dim)
{
	uint64_t seed = 384;
	*s = (struct sketch_shape){.dim = dim, .n_rounds = 4};
	s->early = (dim + 23) / 24 * 4;
	s->head = 2 * s->early;
	s->tail = dim > s->head ? (dim - s->head + 63) / 64 * 64 : 0;
	while (1u << (s->n_rounds - 4) < dim)
		s->n_rounds++;
	s->order = malloc(sketch_shape_bytes(s));
	if (!s->order)
		return -ENOMEM;
	for (uint32_t r = 0; r < s->n_rounds; r++) {
		uint16_t *order = s->order + (size_t)r * dim;
		for (uint32_t i = 0; i < dim; i++) {
			uint32_t k = dice(&seed, i + 1);
			order[i] = order[k];
			order[k] = (uint16_t)i;
		}
	}
	return 0;
}

void sketch_shape_clear(struct sketch_shape *s)
{
	free(s->order);
	s->order = NULL;
}

size_t sketch_shape_bytes(const struct sketch_shape *s)
{
	return (size_t)s->n_rounds * s->dim * sizeof(*s->order);
}

/* out: [head + tail], zeros behind dim. */
static void rotate(const struct sketch_shape *s, const float *in, float *out)
{
	const float turn = 0.70710678118654752f;

	memcpy(out, in, s->dim * sizeof(*out));
	memset(out + s->dim, 0, (s->head + s->tail - s->dim) * sizeof(*out));
	for (uint32_t r = 0; r < s->n_rounds; r++) {
		const uint16_t *order = s->order + (size_t)r * s->dim;
		for (uint32_t i = 0; i + 1 < s->dim; i += 2) {
			float *a = out + order[i], *b = out + order[i + 1], sum = *a + *b;
			*b = (*a - *b) * turn;
			*a = sum * turn;
		}
	}
}

static float length(const float *x, uint32_t n)
{
	float sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += x[i] * x[i];
	return sqrtf(sum);
}

/* Into bytes of -127 to 127, and the scale; bytes need not be side by side. */
static float code(const float *x, uint32_t n, int8_t *bytes, uint32_t piece, uint32_t stride)
{
	float most = 0;

	for (uint32_t i = 0; i < n; i++)
		most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
	if (!(most > 1e-30f))
		most = 0;
	const float scale = most / 127, inverse = most > 0 ? 127 / most : 0;
	for (uint32_t i = 0; i < n; i++)
		bytes[i / piece * stride + i % piece] = (int8_t)lrintf(x[i] * inverse);
	return scale;
}

void sketch_put(const struct sketch_shape *s, const struct sketch_group *g, uint32_t lane,
	const float *vector)
{
	float x[SKETCH_DIM_MAX + 128];

	rotate(s, vector, x);
	g->lanes->scale[lane] = code(x, s->head, g->heads + lane * 4, 4, SKETCH_LANES * 4);
	g->lanes->tail[lane] = length(x + s->head, s->tail);
	g->lanes->late[lane] = length(x + s->early, s->head - s->early + s->tail);
	g->tail_scale[lane] =
		code(x + s->head, s->tail, g->tails + (size_t)lane * s->tail, s->tail + 1, 0);
}

/* How far the coded part is from x, and how long it is. */
static float coded_error(const float *x, const int8_t *bytes, uint32_t n, float scale, float *coded)
{
	float error = 0, sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		const float c = scale * bytes[i];
		error += (x[i] - c) * (x[i] - c);
		sum += c * c;
	}
	*coded = sqrtf(sum);
	return sqrtf(error);
}

void sketch_query_init(
	struct sketch_query *q, const struct sketch_shape *shape, const float *vector)
{
	const uint32_t head = shape->head, tail = shape->tail;
	float x[SKETCH_DIM_MAX + 128], coded;

	q->shape = shape;
	rotate(shape, vector, x);
	q->head_scale = code(x, head, q->head, head, 0);
	q->rest = coded_error(x, q->head, head, q->head_scale, &coded) * 1.001f;
	/* |e| of a vector whose numbers are each off by scale / 2 at most is scale * sqrt(n) / 2.
	 */
	q->head_slack = coded * sqrtf((float)head) * 0.5001f;
	q->tail_scale = code(x + head, tail, q->tail, tail + 1, 0);
	q->tail_length = length(x + head, tail);
	q->late_length = length(x + shape->early, head - shape->early + tail);
	const float error = coded_error(x + head, q->tail, tail, q->tail_scale, &coded);
	q->tail_slack = coded * sqrtf((float)tail) * 0.5001f;
	q->rest += ROUNDING * (1 + length(x, head) + q->tail_length);
	/* The tail's error is in no bound of heads, where the whole tail is unknown. */
	q->tail_error = error;
}

float sketch_bound(const struct sketch_query *q, const struct sketch_path *path,
	const struct sketch_group *g, uint32_t lane, float bound)
{
	const uint32_t n = q->shape->tail;
	const float scale = g->tail_scale[lane], tail = g->lanes->tail[lane];
	const int32_t dot = path->dot(g->tails + (size_t)lane * n, q->tail, n);

	return bound - q->tail_length * tail + (float)dot * (q->tail_scale * scale) +
	       q->tail_slack * scale + q->tail_error * tail;
}
