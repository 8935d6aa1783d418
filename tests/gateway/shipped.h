/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_SHIPPED_H
#define TESTS_GATEWAY_SHIPPED_H

/*
 * The rule files of a directory like mnt-example/guards, with the examples that stand under each
 * rule as comments:
 *
 *	#+ a text that the rule must find
 *	#- a text that it must not find
 *
 * Escapes in them: \n \t \r \\ \xHH (a byte, always two digits), and \{N:text} for N times text.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "gateway/guard.h"

struct shipped_text {
	char *text;
	size_t len;
	unsigned line;
	bool must;
};

struct shipped_rule {
	enum guard_action action;
	char *name;
	unsigned line;
	struct shipped_text *texts;
	size_t n_texts;
	struct guard_set *alone; /* of this rule and no other */
};

struct shipped_file {
	char *name; /* "input/pii.rules" */
	enum guard_stage stage;
	struct guard_rules *parsed;
	struct guard_set *set;
	struct shipped_rule *rules;
	size_t n;
};

/* Zeroed memory is a valid empty one. */
struct shipped {
	struct shipped_file *files;
	size_t n;
	struct guard_set *stages[2]; /* all files of a stage, by enum guard_stage */
};

/* Reads input/NAME.rules and output/NAME.rules below `dir`, in the order of their names. 0; -EINVAL
 * with file and line when a file does not parse or an example belongs to no rule; other -errno.
 * *out is to be freed in any case. */
int shipped_read(struct shipped *out, const char *dir, struct err *err);
void shipped_free(struct shipped *s);

#endif
