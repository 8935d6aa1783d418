/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GUARD_SCHEMA_H
#define GATEWAY_GUARD_SCHEMA_H

/* A schema of a rule: what guard_schema.c reads and guard_schema_accepts.c holds values against. */

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>
#include <stdbool.h>
#include <stddef.h>

/* Types, as bits. A whole number is an INTEGER and no NUMBER; "number" names both. */
enum {
	GUARD_SCHEMA_NULL = 1,
	GUARD_SCHEMA_BOOLEAN = 2,
	GUARD_SCHEMA_OBJECT = 4,
	GUARD_SCHEMA_ARRAY = 8,
	GUARD_SCHEMA_NUMBER = 16,
	GUARD_SCHEMA_STRING = 32,
	GUARD_SCHEMA_INTEGER = 64
};

struct guard_schema_property {
	char *name;
	struct guard_schema *schema;
};

struct guard_schema {
	unsigned types; /* 0: any */
	struct guard_schema_property *properties;
	size_t n_properties;
	bool closed; /* additionalProperties: false */
	json_t *required, *one_of, *constant;
	struct guard_schema *items;
	bool has_minimum, has_maximum;
	double minimum, maximum;
	size_t min_length, max_length, min_items, max_items;
	pcre2_code *pattern;
};

/* new *out. -EINVAL with the reason and the offset in the text; -ENOMEM. */
int guard_schema_new(
	struct guard_schema **out, const char *text, size_t n, char reason[200], size_t *offset);
struct guard_schema *guard_schema_free(struct guard_schema *s); /* accepts NULL, returns NULL */
/* Whether the text is one JSON value that is valid against it. */
bool guard_schema_accepts(const struct guard_schema *s, const char *text, size_t n);

#endif
