/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vectors by scope. A vector is a row of a slab, in float32, and stays there. A scope lists its
 * rows; each whole 16 of them in that order have sketches (sketch.c), in chunks, and the up to 15
 * after these have none: they are compared as they are. So a scope with a handful of entries costs
 * their rows and little more, and one with many is a stream of bytes.
 *
 * A removed row's place in the scope is taken by the scope's last one, which is sketched anew; rows
 * are used again. Memory of slabs goes back when the set ends, that of an empty scope at once.
 *
 * A graph (hnswlib) is not here. A scan is exact, adds and removes in O(1), and of 100,000 entries
 * in one scope takes under half a millisecond, of VECTORS_MAX some ten, on a thread that nobody
 * waits for but the request itself (docs/bench.md): a graph would save a part of that for a request
 * that is about to wait for a model, and would miss some of what is there, keep what was removed,
 * and need a search for each entry that is added. Whoever needs more entries removes the ones used
 * least.
 */
#include "gateway/vectors.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/vectors_parts.h"

struct vectors *vectors_new(uint32_t dim, size_t n_max, size_t bytes_max)
{
	_Static_assert(VECTORS_DIM_MAX == SKETCH_DIM_MAX, "what there are sketches for");
	struct vectors *v = dim && dim <= VECTORS_DIM_MAX ? calloc(1, sizeof(*v)) : NULL;

	if (!v)
		return NULL;
	v->path = sketch_path_best();
	v->n_max = n_max < VECTORS_MAX ? n_max : VECTORS_MAX;
	v->bytes_max = bytes_max;
	v->first_free = NO_ROW;
	v->slabs = calloc(VECTORS_MAX / SLAB_ROWS + 1, sizeof(struct vectors_slab *));
	if (!v->slabs || sketch_shape_init(&v->shape, dim) < 0)
		return vectors_free(v);
	v->bytes = sizeof(*v) + (VECTORS_MAX / SLAB_ROWS + 1) * sizeof(struct vectors_slab *) +
		   sketch_shape_bytes(&v->shape);
	return v;
}

static size_t group_bytes(const struct vectors *v)
{
	return SKETCH_LANES * (v->shape.head + v->shape.tail + sizeof(float)) +
	       sizeof(struct sketch_lanes);
}

static void chunk_free(struct vectors_chunk *c)
{
	free(c->heads);
	free(c->lanes);
	free(c->tails);
	free(c->tail_scale);
}

static void scope_free(struct vectors *v, struct vectors_scope *s)
{
	for (uint32_t i = 0; i < s->n_chunks; i++) {
		v->bytes -= s->chunks[i].cap * group_bytes(v) + sizeof(*s->chunks);
		chunk_free(&s->chunks[i]);
	}
	v->bytes -= sizeof(*s) + s->cap * sizeof(*s->rows);
	free(s->chunks);
	free(s->rows);
	free(s);
}

struct vectors *vectors_free(struct vectors *v)
{
	if (!v)
		return NULL;
	for (size_t i = 0; i < v->scopes.cap; i++) {
		if (v->scopes.rows[i].used)
			scope_free(v, (struct vectors_scope *)(uintptr_t)v->scopes.rows[i].value);
	}
	for (uint32_t i = 0; i < v->n_slabs; i++)
		free(v->slabs[i]);
	free(v->slabs);
	idmap_free(&v->ids);
	idmap_free(&v->scopes);
	sketch_shape_clear(&v->shape);
	free(v);
	return NULL;
}

void vectors_use(struct vectors *v, const struct sketch_path *path)
{
	v->path = path;
}

void vectors_count(const struct vectors *v, struct vectors_stats *stats)
{
	*stats = (struct vectors_stats){v->ids.n, v->scopes.n, v->bytes};
}

/* ---- rows ---- */

/* 0 when `more` bytes may be allocated. */
static int may_grow(const struct vectors *v, size_t more)
{
	return more > v->bytes_max || v->bytes > v->bytes_max - more ? -ENOSPC : 0;
}

/* A free row. */
static int slab_reserve(struct vectors *v)
{
	const size_t bytes =
		sizeof(struct vectors_slab) + (size_t)SLAB_ROWS * v->shape.dim * sizeof(float);

	if (v->first_free != NO_ROW)
		return 0;
	if (may_grow(v, bytes) < 0)
		return -ENOSPC;
	struct vectors_slab *s = malloc(bytes);
	if (!s)
		return -ENOMEM;
	v->bytes += bytes;
	v->slabs[v->n_slabs] = s;
	for (uint32_t i = SLAB_ROWS; i-- > 0;) {
		s->rows[i].next = v->first_free;
		v->first_free = v->n_slabs * SLAB_ROWS + i;
	}
	v->n_slabs++;
	return 0;
}

static int map_reserve(struct vectors *v, struct idmap *m)
{
	const size_t bytes = idmap_growth(m);

	if (may_grow(v, bytes) < 0)
		return -ENOSPC;
	if (idmap_reserve(m) < 0)
		return -ENOMEM;
	v->bytes += bytes;
	return 0;
}

/* ---- scopes ---- */

/* Room in the list of rows. */
static int list_reserve(struct vectors *v, struct vectors_scope *s)
{
	const uint32_t cap = s->cap ? s->cap * 2 : 4;
	const size_t bytes = (cap - s->cap) * sizeof(*s->rows);

	if (s->n < s->cap)
		return 0;
	if (may_grow(v, bytes) < 0)
		return -ENOSPC;
	uint32_t *rows = realloc(s->rows, cap * sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	s->rows = rows;
	s->cap = cap;
	v->bytes += bytes;
	return 0;
}

static void *moved(void *old, size_t old_bytes, size_t bytes)
{
	void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);

	if (p && old_bytes)
		memcpy(p, old, old_bytes);
	return p;
}

/* c with room for `cap` groups. */
static int chunk_grow(const struct vectors *v, struct vectors_chunk *c, uint32_t cap)
{
	const size_t head = (size_t)SKETCH_LANES * v->shape.head;
	const size_t tail = (size_t)SKETCH_LANES * v->shape.tail;
	const size_t scale = SKETCH_LANES * sizeof(float);
	struct vectors_chunk more = {
		.cap = cap,
		.heads = moved(c->heads, c->cap * head, cap * head),
		.lanes = moved(c->lanes, c->cap * sizeof(*c->lanes), cap * sizeof(*c->lanes)),
		.tails = moved(c->tails, c->cap * tail, cap * tail + 1),
		.tail_scale = moved(c->tail_scale, c->cap * scale, cap * scale),
	};

	if (!more.heads || !more.lanes || !more.tails || !more.tail_scale) {
		chunk_free(&more);
		return -ENOMEM;
	}
	chunk_free(c);
	*c = more;
	return 0;
}

/* Room for `n_groups` groups. */
static int groups_reserve(struct vectors *v, struct vectors_scope *s, uint32_t n_groups)
{
	const uint32_t n_chunks = (n_groups + CHUNK_GROUPS - 1) / CHUNK_GROUPS;
	const uint32_t need = n_groups ? (n_groups - 1) % CHUNK_GROUPS + 1 : 0;

	if (n_chunks > s->n_chunks) {
		if (may_grow(v, sizeof(*s->chunks)) < 0)
			return -ENOSPC;
		struct vectors_chunk *chunks = realloc(s->chunks, n_chunks * sizeof(*chunks));
		if (!chunks)
			return -ENOMEM;
		s->chunks = chunks;
		s->chunks[s->n_chunks++] = (struct vectors_chunk){0};
		v->bytes += sizeof(*s->chunks);
	}
	if (!n_chunks || s->chunks[n_chunks - 1].cap >= need)
		return 0;
	struct vectors_chunk *last = &s->chunks[n_chunks - 1];
	const uint32_t cap = n_chunks > 1 ? CHUNK_GROUPS : last->cap ? last->cap * 2 : 1;
	const size_t bytes = (cap - last->cap) * group_bytes(v);
	if (may_grow(v, bytes) < 0)
		return -ENOSPC;
	if (chunk_grow(v, last, cap) < 0)
		return -ENOMEM;
	v->bytes += bytes;
	return 0;
}

static void place_sketch(const struct vectors *v, const struct vectors_scope *s, uint32_t at)
{
	const struct sketch_group g = vectors_group(v, s, at / SKETCH_LANES);

	sketch_put(&v->shape, &g, at % SKETCH_LANES, vectors_numbers(v, s->rows[at]));
}

/* ---- adding and removing ---- */

static bool is_unit(const float *x, uint32_t dim)
{
	double sum = 0;

	for (uint32_t i = 0; i < dim; i++)
		sum += (double)x[i] * (double)x[i];
	return fabs(sqrt(sum) - 1) <= 1e-3; /* false for what is not finite */
}

static void scope_drop(struct vectors *v, struct vectors_scope *s)
{
	idmap_remove(&v->scopes, s->key);
	scope_free(v, s);
}

/* The scope, made if need be, with room for one more. */
static int scope_reserve(struct vectors *v, uint64_t key, struct vectors_scope **scope)
{
	struct vectors_scope *s = vectors_scope(v, key);
	int r = 0;

	if (!s) {
		if (may_grow(v, sizeof(*s)) < 0)
			return -ENOSPC;
		r = map_reserve(v, &v->scopes);
		if (r < 0)
			return r;
		s = calloc(1, sizeof(*s));
		if (!s)
			return -ENOMEM;
		v->bytes += sizeof(*s);
		s->key = key;
		idmap_put(&v->scopes, key, (uintptr_t)s);
	}
	r = list_reserve(v, s);
	if (r == 0)
		r = groups_reserve(v, s, (s->n + 1) / SKETCH_LANES);
	if (r < 0 && s->n == 0)
		scope_drop(v, s);
	*scope = s;
	return r;
}

int vectors_add(struct vectors *v, uint64_t scope, uint64_t id, const float *vector)
{
	struct vectors_scope *s;
	uint64_t other;

	if (!is_unit(vector, v->shape.dim))
		return -EINVAL;
	if (idmap_get(&v->ids, id, &other))
		return -EEXIST;
	if (v->ids.n >= v->n_max)
		return -ENOSPC;
	int r = slab_reserve(v);
	if (r == 0)
		r = map_reserve(v, &v->ids);
	if (r == 0)
		r = scope_reserve(v, scope, &s);
	if (r < 0)
		return r;
	const uint32_t row = v->first_free;
	struct vectors_row *place = vectors_row(v, row);
	v->first_free = place->next;
	*place = (struct vectors_row){.scope = s, .id = id, .at = s->n, .next = NO_ROW};
	memcpy(vectors_numbers(v, row), vector, v->shape.dim * sizeof(*vector));
	s->rows[s->n++] = row;
	idmap_put(&v->ids, id, row);
	for (uint32_t i = s->n - SKETCH_LANES; s->n % SKETCH_LANES == 0 && i < s->n; i++)
		place_sketch(v, s, i);
	return 0;
}

int vectors_remove(struct vectors *v, uint64_t id)
{
	uint64_t row;

	if (!idmap_get(&v->ids, id, &row))
		return -ENOENT;
	struct vectors_row *place = vectors_row(v, (uint32_t)row);
	struct vectors_scope *s = place->scope;
	const uint32_t at = place->at, last = --s->n;
	if (at != last) {
		s->rows[at] = s->rows[last];
		vectors_row(v, s->rows[at])->at = at;
		if (at < s->n / SKETCH_LANES * SKETCH_LANES)
			place_sketch(v, s, at);
	}
	place->next = v->first_free;
	v->first_free = (uint32_t)row;
	idmap_remove(&v->ids, id);
	if (s->n == 0)
		scope_drop(v, s);
	return 0;
}
