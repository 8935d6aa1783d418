/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line is a verb, or a verb, a blank and what it takes. Whoever is refused is shown what was
 * written and all verbs that there are, from the table by which the line was read: a verb that is
 * added to one is in its sentence and known by its beginning.
 *
 * No state, any thread.
 */
#include "gateway/verbs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { QUOTED = 64, LIST_BYTES = 160 };

/* "load, unload and reset"; one that takes something or nothing is there twice. */
static void list(const struct verbs_row *rows, char out[LIST_BYTES])
{
	const char *words[32][2];
	size_t n = 0, used = 0;
	for (const struct verbs_row *v = rows; v->name && n + 2 <= 32; v++) {
		if (!v->takes || !v->missing)
			words[n][0] = v->name, words[n++][1] = NULL;
		if (v->takes)
			words[n][0] = v->name, words[n++][1] = v->takes;
	}
	for (size_t i = 0; i < n && used < LIST_BYTES; i++)
		used += (size_t)snprintf(out + used, LIST_BYTES - used, "%s%s%s%s",
			i == 0       ? ""
			: i + 1 == n ? " and "
				     : ", ",
			words[i][0], words[i][1] ? " " : "", words[i][1] ? words[i][1] : "");
}

static int refuse(const struct verbs_row *rows, const char *line, size_t len, struct err *err)
{
	char all[LIST_BYTES];
	list(rows, all);
	return err_set(err, -EINVAL, "%.*s: not a verb; they are %s",
		len < QUOTED ? (int)len : QUOTED, line, all);
}

int verbs_find(const struct verbs_row *rows, const char *line, size_t len,
	struct verbs_argument *argument, struct err *err)
{
	const char *blank = len ? memchr(line, ' ', len) : NULL;
	size_t n = blank ? (size_t)(blank - line) : len;
	int i = 0;
	while (rows[i].name && (strlen(rows[i].name) != n || memcmp(rows[i].name, line, n)))
		i++;
	if (!rows[i].name || (blank && !rows[i].takes))
		return refuse(rows, line, len, err);
	*argument = blank ? (struct verbs_argument){blank + 1, len - n - 1}
			  : (struct verbs_argument){"", 0};
	if (rows[i].missing && !argument->len)
		return err_set(err, -EINVAL, "%s: %s", rows[i].name, rows[i].missing);
	return i;
}

bool verbs_is_hopeless(const struct verbs_row *rows, const char *line, size_t len)
{
	const char *blank = len ? memchr(line, ' ', len) : NULL;
	size_t n = blank ? (size_t)(blank - line) : len;
	n -= !blank && n && line[n - 1] == '\r'; /* the line's */
	for (const struct verbs_row *v = rows; v->name; v++)
		if (blank ? strlen(v->name) == n && !memcmp(v->name, line, n)
			  : !strncmp(v->name, line, n))
			return false;
	return true;
}
