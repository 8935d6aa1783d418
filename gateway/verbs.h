/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_VERBS_H
#define GATEWAY_VERBS_H

/*
 * The verbs of a file `ctl`: one table an object, by which a line is read, refused with those there
 * are, and known before its end to be none.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* A table ends with a row without a name. */
struct verbs_row {
	const char *name;
	const char *takes; /* what follows after a blank, as the sentences call it; NULL: nothing */
	const char *missing; /* the sentence when that is left out; NULL: it may be */
};

/* What follows a verb: borrowed from its line, and may be empty where it may be left out. */
struct verbs_argument {
	const char *text;
	size_t len;
};

/* The index of the row that a line asks for, or -EINVAL with the verbs that there are. */
int verbs_find(const struct verbs_row *rows, const char *line, size_t len,
	struct verbs_argument *argument, struct err *err);
/* Whether no more bytes make one of it. Generous about what follows a verb. */
bool verbs_is_hopeless(const struct verbs_row *rows, const char *line, size_t len);

#endif
