/* SPDX-License-Identifier: Apache-2.0 */
/* A sorted array: thousands of names at most, looked up far more often than changed. */
#include "gateway/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The index of the first row whose name is not below `name`. */
static size_t lower_bound(const struct table *t, const char *name)
{
	size_t low = 0, high = t->n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (strcmp(t->rows[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void *table_find(const struct table *t, const char *name)
{
	size_t i = lower_bound(t, name);
	return i < t->n && !strcmp(t->rows[i].name, name) ? t->rows[i].object : NULL;
}

int table_add(struct table *t, const char *name, void *object)
{
	size_t i = lower_bound(t, name);
	if (i < t->n && !strcmp(t->rows[i].name, name))
		return -EEXIST;
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 8;
		struct table_row *rows = realloc(t->rows, cap * sizeof *rows);
		if (!rows)
			return -ENOMEM;
		t->rows = rows;
		t->cap = cap;
	}
	memmove(t->rows + i + 1, t->rows + i, (t->n - i) * sizeof *t->rows);
	t->rows[i] = (struct table_row){name, object};
	t->n++;
	return 0;
}

void *table_remove(struct table *t, const char *name)
{
	size_t i = lower_bound(t, name);
	if (i == t->n || strcmp(t->rows[i].name, name))
		return NULL;
	void *object = t->rows[i].object;
	t->n--;
	memmove(t->rows + i, t->rows + i + 1, (t->n - i) * sizeof *t->rows);
	return object;
}

char **table_names(const struct table *t)
{
	char **names = calloc(t->n + 1, sizeof *names);
	for (size_t i = 0; names && i < t->n; i++) {
		names[i] = strdup(t->rows[i].name);
		if (names[i])
			continue;
		while (i--)
			free(names[i]);
		free(names);
		return NULL;
	}
	return names;
}

void table_free(struct table *t)
{
	free(t->rows);
	*t = (struct table){0};
}
