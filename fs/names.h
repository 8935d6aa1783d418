/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_NAMES_H
#define FS_NAMES_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Arrays of names as the gateway gives them: malloc'ed, NULL-terminated, of malloc'ed strings. */

/* Frees all of it. Accepts NULL, returns NULL. */
static inline char **names_free(char **names)
{
	for (size_t i = 0; names && names[i]; i++)
		free(names[i]);
	free(names);
	return NULL;
}

static inline size_t names_count(char *const *names)
{
	size_t n = 0;
	while (names && names[n])
		n++;
	return n;
}

static inline bool names_has(char *const *names, const char *name)
{
	for (size_t i = 0; names && names[i]; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* One being made. Zeroed memory is an empty one. */
struct names {
	char **list;
	size_t n, cap;
};

/* Adds a copy. 0 or -ENOMEM. */
static inline int names_add(struct names *names, const char *name)
{
	if (names->n + 1 >= names->cap) {
		size_t cap = names->cap ? 2 * names->cap : 16;
		char **list = realloc(names->list, cap * sizeof *list);
		if (!list)
			return -ENOMEM;
		names->list = list;
		names->cap = cap;
	}
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	names->list[names->n++] = copy;
	names->list[names->n] = NULL;
	return 0;
}

/* Takes one out; the order changes. */
static inline void names_drop(struct names *names, const char *name)
{
	for (size_t i = 0; i < names->n; i++) {
		if (strcmp(names->list[i], name) == 0) {
			free(names->list[i]);
			names->list[i] = names->list[--names->n];
			names->list[names->n] = NULL;
			return;
		}
	}
}

static inline int names_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* new: the array, sorted; names is empty afterwards. NULL when memory is out, or when r, what came
 * of making it, is not 0. */
static inline char **names_take(struct names *names, int r)
{
	char **list = names->list;
	size_t n = names->n;
	*names = (struct names){0};
	if (r != 0)
		return names_free(list);
	if (!list)
		return calloc(1, sizeof *list);
	qsort(list, n, sizeof *list, names_order);
	return list;
}

/* Whether that is among the n of such an array; of NULL n is 0. */
static inline bool names_has_sorted(char *const *list, size_t n, const char *name)
{
	return n && bsearch(&name, list, n, sizeof *list, names_order);
}

#endif
