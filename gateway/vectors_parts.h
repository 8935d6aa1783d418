/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_VECTORS_PARTS_H
#define GATEWAY_VECTORS_PARTS_H

/* Between vectors.c, which keeps vectors, and vectors_search.c; and for tests and benchmarks,
 * vectors_use(). */

#include "gateway/idmap.h"
#include "gateway/sketch.h"
#include "gateway/vectors.h"

/* Which path a set of vectors uses from now on, instead of the fastest. */
void vectors_use(struct vectors *v, const struct sketch_path *path);

#define SLAB_ROWS 256u
#define CHUNK_GROUPS 64u

struct vectors_row {
	struct vectors_scope *scope;
	uint64_t id;
	uint32_t at;   /* its place in the scope */
	uint32_t next; /* of the free ones */
};

struct vectors_slab {
	struct vectors_row rows[SLAB_ROWS];
	float numbers[]; /* [SLAB_ROWS][dim] */
};

struct vectors_chunk {
	uint32_t cap; /* groups */
	int8_t *heads;
	struct sketch_lanes *lanes; /* [cap] */
	int8_t *tails;              /* [cap][16][tail] */
	float *tail_scale;          /* [cap][16] */
};

struct vectors_scope {
	uint64_t key;
	uint32_t n, cap;
	uint32_t *rows;               /* [cap] */
	struct vectors_chunk *chunks; /* [n_chunks]; each but the last is full */
	uint32_t n_chunks;
};

struct vectors {
	struct sketch_shape shape;
	const struct sketch_path *path;
	size_t n_max, bytes_max, bytes;
	struct vectors_slab **slabs; /* [n_slabs] */
	uint32_t n_slabs, first_free;
	struct idmap ids;    /* to rows */
	struct idmap scopes; /* to struct vectors_scope * */
};

#define NO_ROW UINT32_MAX

static inline struct vectors_row *vectors_row(const struct vectors *v, uint32_t row)
{
	return &v->slabs[row / SLAB_ROWS]->rows[row % SLAB_ROWS];
}

static inline float *vectors_numbers(const struct vectors *v, uint32_t row)
{
	return v->slabs[row / SLAB_ROWS]->numbers + (size_t)(row % SLAB_ROWS) * v->shape.dim;
}

static inline struct vectors_scope *vectors_scope(const struct vectors *v, uint64_t key)
{
	uint64_t value;

	return idmap_get(&v->scopes, key, &value) ? (struct vectors_scope *)(uintptr_t)value : NULL;
}

static inline struct sketch_group vectors_group(
	const struct vectors *v, const struct vectors_scope *s, uint32_t group)
{
	const struct vectors_chunk *c = &s->chunks[group / CHUNK_GROUPS];
	const size_t i = group % CHUNK_GROUPS;

	return (struct sketch_group){
		.heads = c->heads + i * SKETCH_LANES * v->shape.head,
		.lanes = c->lanes + i,
		.tails = c->tails + i * SKETCH_LANES * v->shape.tail,
		.tail_scale = c->tail_scale + i * SKETCH_LANES,
	};
}

#endif
