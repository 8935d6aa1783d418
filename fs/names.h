/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_NAMES_H
#define FS_NAMES_H

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

#endif
