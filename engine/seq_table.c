/* SPDX-License-Identifier: Apache-2.0 */
/* An id is count << 32 | place in the table; the count does not repeat while anybody remembers, so
 * the id of a sequence that is over finds nothing. */
#include "engine/seq_table.h"

#include <errno.h>
#include <stdlib.h>

static int grow(struct seq_table *t)
{
	uint32_t n = t->n ? t->n * 2 : 64;
	struct seq **at = realloc(t->at, n * sizeof(struct seq *));
	uint32_t *places;

	if (!at)
		return -ENOMEM;
	t->at = at;
	places = realloc(t->free_places, n * sizeof(*places));
	if (!places)
		return -ENOMEM;
	t->free_places = places;
	for (uint32_t i = n; i-- > t->n;) {
		at[i] = NULL;
		places[t->n_free++] = i;
	}
	t->n = n;
	return 0;
}

int seq_table_add(struct seq_table *t, struct seq *q)
{
	uint32_t place;

	if (t->n_free == 0 && grow(t) < 0)
		return -ENOMEM;
	place = t->free_places[--t->n_free];
	if (++t->count == 0)
		t->count = 1;
	q->id = (uint64_t)t->count << 32 | place;
	t->at[place] = q;
	t->n_live++;
	return 0;
}

void seq_table_remove(struct seq_table *t, const struct seq *q)
{
	uint32_t place = (uint32_t)q->id;

	t->at[place] = NULL;
	t->free_places[t->n_free++] = place;
	t->n_live--;
}

struct seq *seq_table_find(const struct seq_table *t, uint64_t id)
{
	uint32_t place = (uint32_t)id;
	struct seq *q = place < t->n ? t->at[place] : NULL;

	return q && q->id == id ? q : NULL;
}

void seq_table_end(struct seq_table *t)
{
	free(t->at);
	free(t->free_places);
	*t = (struct seq_table){0};
}
