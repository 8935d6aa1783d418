/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A subset of JSON Schema that can be told on one page: type, properties, required,
 * additionalProperties (true or false), items, enum, const, minimum, maximum, minLength, maxLength,
 * minItems, maxItems, pattern. A schema with any other keyword that constrains is refused here,
 * where it is read, because a constraint that is not checked is worse than none; $schema, title,
 * description, default and examples constrain nothing.
 *
 * Immutable after guard_schema_new. What it says of a value is in guard_schema_accepts.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/guard_schema.h"

enum { DEPTH_MAX = 32 };

/* While a schema is read. */
struct reading {
	const char *text;
	size_t n;
	char *reason;
	size_t *offset;
	unsigned depth;
	int error;
};

static void fault(struct reading *r, const char *key, const char *format, const char *what)
{
	char quoted[80];
	const char *at;

	if (r->error)
		return;
	r->error = -EINVAL;
	snprintf(quoted, sizeof(quoted), "\"%s\"", key);
	at = memmem(r->text, r->n, quoted, strlen(quoted));
	*r->offset = at ? (size_t)(at - r->text) : 0;
	snprintf(r->reason, 200, "\"%.32s\" %s%s", key, format, what);
}

static const struct {
	const char *name;
	unsigned bit;
} types[] = {
	{"null", GUARD_SCHEMA_NULL},
	{"boolean", GUARD_SCHEMA_BOOLEAN},
	{"object", GUARD_SCHEMA_OBJECT},
	{"array", GUARD_SCHEMA_ARRAY},
	{"number", GUARD_SCHEMA_NUMBER | GUARD_SCHEMA_INTEGER},
	{"string", GUARD_SCHEMA_STRING},
	{"integer", GUARD_SCHEMA_INTEGER},
};

static unsigned type_bit(const json_t *v)
{
	const char *name = json_string_value(v);

	for (size_t i = 0; name && i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(types[i].name, name) == 0)
			return types[i].bit;
	return 0;
}

static void read_type(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	size_t i;
	json_t *one;
	bool good = json_is_string(v) || json_array_size(v) > 0;

	s->types = type_bit(v);
	good &= !json_is_string(v) || s->types;
	json_array_foreach(v, i, one)
	{
		good &= type_bit(one) != 0;
		s->types |= type_bit(one);
	}
	if (!good)
		fault(r, key, "must be a name of a type, or several in [ ]", "");
}

static struct guard_schema *read_schema(struct reading *r, const char *key, json_t *v);

static void read_properties(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	const char *name;
	json_t *one;

	if (!json_is_object(v)) {
		fault(r, key, "must be an object", "");
		return;
	}
	s->properties = calloc(json_object_size(v) + 1, sizeof(*s->properties));
	if (!s->properties) {
		r->error = -ENOMEM;
		return;
	}
	json_object_foreach(v, name, one)
	{
		struct guard_schema_property *p = &s->properties[s->n_properties++];
		p->name = strdup(name);
		p->schema = p->name ? read_schema(r, name, one) : NULL;
		if (!p->name)
			r->error = -ENOMEM;
		if (r->error)
			return;
	}
}

static void read_required(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	size_t i;
	json_t *one;

	if (!json_is_array(v))
		fault(r, key, "must be an array of names", "");
	json_array_foreach(v, i, one) if (!json_is_string(one))
		fault(r, key, "must be an array of names", "");
	s->required = json_incref(v);
}

static void read_additional(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	if (!json_is_boolean(v))
		fault(r, key, "must be true or false", "");
	s->closed = json_is_false(v);
}

static void read_items(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	s->items = read_schema(r, key, v);
}

static void read_enum(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	if (!json_is_array(v) || !json_array_size(v))
		fault(r, key, "must be an array of values", "");
	s->one_of = json_incref(v);
}

static void read_const(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	s->constant = json_incref(v);
}

static double read_number(struct reading *r, const char *key, json_t *v)
{
	if (!json_is_number(v))
		fault(r, key, "must be a number", "");
	return json_number_value(v);
}

static void read_minimum(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	s->has_minimum = true;
	s->minimum = read_number(r, key, v);
}

static void read_maximum(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	s->has_maximum = true;
	s->maximum = read_number(r, key, v);
}

static size_t read_size(struct reading *r, const char *key, json_t *v)
{
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		fault(r, key, "must be an integer, 0 or more", "");
	return (size_t)json_integer_value(v);
}

static void read_min_length(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	s->min_length = read_size(r, key, v);
}

static void read_max_length(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	s->max_length = read_size(r, key, v);
}

static void read_min_items(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	s->min_items = read_size(r, key, v);
}

static void read_max_items(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	s->max_items = read_size(r, key, v);
}

static void read_pattern(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	char message[120] = "";
	int code = 0;
	PCRE2_SIZE at;

	if (!json_is_string(v)) {
		fault(r, key, "must be a string", "");
		return;
	}
	if (memmem(json_string_value(v), json_string_length(v), "(*", 2)) {
		fault(r, key, "may not have (*...) in it", "");
		return;
	}
	s->pattern = pcre2_compile((PCRE2_SPTR)json_string_value(v), json_string_length(v),
		PCRE2_UTF | PCRE2_NO_UTF_CHECK | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
	if (s->pattern)
		return;
	pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof(message));
	fault(r, key, "is no pattern: ", message);
}

typedef void read_fn(struct reading *, struct guard_schema *, const char *, json_t *);

static const struct {
	const char *name;
	read_fn *read; /* NULL: says nothing about values */
} keywords[] = {
	{"type", read_type},
	{"properties", read_properties},
	{"required", read_required},
	{"additionalProperties", read_additional},
	{"items", read_items},
	{"enum", read_enum},
	{"const", read_const},
	{"minimum", read_minimum},
	{"maximum", read_maximum},
	{"minLength", read_min_length},
	{"maxLength", read_max_length},
	{"minItems", read_min_items},
	{"maxItems", read_max_items},
	{"pattern", read_pattern},
	{"$schema", NULL},
	{"title", NULL},
	{"description", NULL},
	{"default", NULL},
	{"examples", NULL},
};

#define N_KEYWORDS (sizeof(keywords) / sizeof(keywords[0]))

static void read_keyword(struct reading *r, struct guard_schema *s, const char *key, json_t *v)
{
	for (size_t i = 0; i < N_KEYWORDS; i++) {
		if (strcmp(keywords[i].name, key) != 0)
			continue;
		if (keywords[i].read)
			keywords[i].read(r, s, key, v);
		return;
	}
	fault(r, key,
		"is not supported; supported are type properties required "
		"additionalProperties items enum const minimum maximum minLength maxLength "
		"minItems maxItems pattern",
		"");
}

static struct guard_schema *read_schema(struct reading *r, const char *key, json_t *v)
{
	struct guard_schema *s = calloc(1, sizeof(*s));
	const char *name;
	json_t *one;

	if (!s) {
		r->error = -ENOMEM;
		return NULL;
	}
	s->max_length = s->max_items = SIZE_MAX;
	if (!json_is_object(v))
		fault(r, key, "must be a schema, an object", "");
	if (++r->depth > DEPTH_MAX)
		fault(r, key, "is nested too deep", "");
	json_object_foreach(v, name, one) if (!r->error) read_keyword(r, s, name, one);
	r->depth--;
	return s;
}

int guard_schema_new(
	struct guard_schema **out, const char *text, size_t n, char reason[200], size_t *offset)
{
	struct reading r = {text, n, reason, offset, 0, 0};
	json_error_t error;
	json_t *v = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);

	*out = NULL;
	*offset = 0;
	if (!v) {
		*offset = error.position > 0 ? (size_t)error.position - 1 : 0;
		snprintf(reason, 200, "the schema is no JSON object: %.140s", error.text);
		return -EINVAL;
	}
	*out = read_schema(&r, "schema", v);
	json_decref(v);
	if (r.error)
		*out = guard_schema_free(*out);
	return r.error;
}

struct guard_schema *guard_schema_free(struct guard_schema *s)
{
	if (!s)
		return NULL;
	for (size_t i = 0; i < s->n_properties; i++) {
		free(s->properties[i].name);
		guard_schema_free(s->properties[i].schema);
	}
	free(s->properties);
	json_decref(s->required);
	json_decref(s->one_of);
	json_decref(s->constant);
	guard_schema_free(s->items);
	pcre2_code_free(s->pattern);
	free(s);
	return NULL;
}
