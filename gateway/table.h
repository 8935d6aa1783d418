/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_TABLE_H
#define GATEWAY_TABLE_H

/* Objects by name, sorted. Not locked: the caller's lock guards it. The names belong to the
 * objects. Look-up O(log n), insertion and removal O(n) with one memmove. */

#include <stddef.h>

struct table {
	struct table_row {
		const char *name;
		void *object;
	} * rows; /* [n], sorted by name */
	size_t n, cap;
};

/* borrows; NULL when there is none. */
void *table_find(const struct table *t, const char *name);
/* 0, -EEXIST, -ENOMEM. */
int table_add(struct table *t, const char *name, void *object);
/* The object that was there, or NULL. */
void *table_remove(struct table *t, const char *name);
/* new: malloc'ed array of malloc'ed names, NULL-terminated; NULL when memory is out. */
char **table_names(const struct table *t);
/* Frees the rows, not the objects. */
void table_free(struct table *t);

#endif
