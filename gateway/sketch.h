/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SKETCH_H
#define GATEWAY_SKETCH_H

/*
 * What a search reads of a vector before it reads the vector. A rotation, the same for all, spreads
 * a vector evenly over its numbers; the first third, the head, is then kept in eight bits, 16
 * vectors side by side; the rest, the tail, in eight bits too, a vector at a time. From these and
 * the lengths of what they leave out follows a bound above which the product with a query cannot
 * be.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SKETCH_LANES 16u
#define SKETCH_DIM_MAX 4096u

struct sketch_shape {
	uint32_t dim;
	uint32_t early; /* numbers that are looked at first; a multiple of 4 */
	uint32_t head;  /* numbers in the head, the early ones included; a multiple of 4 */
	uint32_t tail;  /* numbers in the tail, zeros added; a multiple of 64 */
	uint32_t n_rounds;
	uint16_t *order; /* [n_rounds][dim]: the rotation */
};

/* 0 or -ENOMEM. dim is 1 to SKETCH_DIM_MAX. */
int sketch_shape_init(struct sketch_shape *s, uint32_t dim);
void sketch_shape_clear(struct sketch_shape *s);
size_t sketch_shape_bytes(const struct sketch_shape *s);

/* What is known of 16 vectors beside the bytes of their heads. */
struct sketch_lanes {
	float scale[SKETCH_LANES]; /* of the head: numbers are scale * byte, off by scale / 2 */
	float late[SKETCH_LANES];  /* the length of all but the early numbers */
	float tail[SKETCH_LANES];  /* the length of the tail */
};

/* Vectors of one group of 16, borrowed. */
struct sketch_group {
	int8_t *heads;              /* [head / 4][16][4]: of each vector 4 bytes, then the next 4 */
	struct sketch_lanes *lanes; /* [1] */
	int8_t *tails;              /* [16][tail] */
	float *tail_scale;          /* [16] */
};

/* vector: [dim], of length 1. Into a lane of a group. */
void sketch_put(const struct sketch_shape *s, const struct sketch_group *g, uint32_t lane,
	const float *vector);

struct sketch_query {
	const struct sketch_shape *shape;
	float head_scale, head_slack, late_length, tail_scale, tail_slack, tail_error, tail_length;
	float rest;                       /* what else the bound may be short of */
	int8_t head[SKETCH_DIM_MAX];      /* [head] */
	int8_t tail[SKETCH_DIM_MAX + 64]; /* [tail] */
};

/* vector: [dim], finite. The shape is borrowed. */
void sketch_query_init(
	struct sketch_query *q, const struct sketch_shape *shape, const float *vector);

/* How a processor does it. The integers are the same on all, so bounds differ by rounding only. */
struct sketch_path {
	const char *name;
	bool (*runs_here)(void);
	/* Of n groups, beginning with the `from`th, the first with a vector whose product with the
	 * query may be `least` or more, by its head; n if there is none. *mask says which of the
	 * 16, bounds[16] how much at most. heads and lanes are those of group 0; the next ones
	 * follow. */
	size_t (*next)(const struct sketch_query *q, const int8_t *heads,
		const struct sketch_lanes *lanes, size_t from, size_t n, float least,
		uint32_t *mask, float *bounds);
	/* The sum of products of n bytes; n is a multiple of 64 and no byte is -128. */
	int32_t (*dot)(const int8_t *a, const int8_t *b, uint32_t n);
};

/* The i-th path that this processor has, the slowest first; NULL when there are no more. */
const struct sketch_path *sketch_path_at(size_t i);
const struct sketch_path *sketch_path_best(void);

/* A better bound than `bound`, that of the head, for one vector of a group. */
float sketch_bound(const struct sketch_query *q, const struct sketch_path *path,
	const struct sketch_group *g, uint32_t lane, float bound);

#endif
