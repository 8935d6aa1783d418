/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash table with open addressing, at most half full. A key is in the first free place at or
 * behind its own; removal moves the ones behind it forward, so there are no tombstones and a table
 * in which much comes and goes stays as fast as a new one.
 */
#include "gateway/idmap.h"

#include <errno.h>
#include <stdlib.h>

/* Keys may be small numbers or hashes; the places must be spread either way. */
static size_t home(const struct idmap *m, uint64_t key)
{
	key ^= key >> 31;
	key *= UINT64_C(0x9E3779B97F4A7C15);
	return (size_t)(key >> 32) & (m->cap - 1);
}

static size_t find(const struct idmap *m, uint64_t key)
{
	size_t i = home(m, key);

	while (m->rows[i].used && m->rows[i].key != key)
		i = (i + 1) & (m->cap - 1);
	return i;
}

bool idmap_get(const struct idmap *m, uint64_t key, uint64_t *value)
{
	if (!m->n)
		return false;
	const struct idmap_row *row = &m->rows[find(m, key)];
	if (row->used)
		*value = row->value;
	return row->used;
}

size_t idmap_growth(const struct idmap *m)
{
	if (m->n * 2 < m->cap)
		return 0;
	return (m->cap ? m->cap : 16) * sizeof(*m->rows);
}

int idmap_reserve(struct idmap *m)
{
	if (!idmap_growth(m))
		return 0;
	struct idmap more = {.cap = m->cap ? m->cap * 2 : 16};
	more.rows = calloc(more.cap, sizeof(*more.rows));
	if (!more.rows)
		return -ENOMEM;
	for (size_t i = 0; i < m->cap; i++) {
		if (m->rows[i].used)
			idmap_put(&more, m->rows[i].key, m->rows[i].value);
	}
	free(m->rows);
	*m = more;
	return 0;
}

void idmap_put(struct idmap *m, uint64_t key, uint64_t value)
{
	m->rows[find(m, key)] = (struct idmap_row){key, value, true};
	m->n++;
}

bool idmap_remove(struct idmap *m, uint64_t key)
{
	if (!m->n)
		return false;
	size_t hole = find(m, key), mask = m->cap - 1;
	if (!m->rows[hole].used)
		return false;
	for (size_t i = (hole + 1) & mask; m->rows[i].used; i = (i + 1) & mask) {
		/* It may move to the hole unless its own place is behind the hole. */
		if (((i - home(m, m->rows[i].key)) & mask) >= ((i - hole) & mask)) {
			m->rows[hole] = m->rows[i];
			hole = i;
		}
	}
	m->rows[hole].used = false;
	m->n--;
	return true;
}

void idmap_free(struct idmap *m)
{
	free(m->rows);
	*m = (struct idmap){0};
}
