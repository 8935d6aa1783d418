/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A subset of JSON Schema that can be told on one page: type, properties, required,
 * additionalProperties (true or false), items, enum, const, minimum, maximum, minLength, maxLength,
 * minItems, maxItems, pattern. A schema with any other keyword that constrains is refused where it
 * is read, because a constraint that is not checked is worse than none; $schema, title,
 * description, default and examples constrain nothing.
 *
 * Values are read with jansson, which refuses integers beyond 64 bits and reals beyond a double;
 * such a text fails. A name that comes twice in an object fails too: two readers would see two
 * values.
 *
 * Immutable after guard_schema_new.
 */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/guard_parts.h"

enum { DEPTH_MAX = 32 };

enum {
	T_NULL = 1,
	T_BOOLEAN = 2,
	T_OBJECT = 4,
	T_ARRAY = 8,
	T_NUMBER = 16,
	T_STRING = 32,
	T_INTEGER = 64
};

struct property {
	char *name;
	struct guard_schema *schema;
};

struct guard_schema {
	unsigned types; /* 0: any */
	struct property *properties;
	size_t n_properties;
	bool closed; /* additionalProperties: false */
	json_t *required, *one_of, *constant;
	struct guard_schema *items;
	bool has_minimum, has_maximum;
	double minimum, maximum;
	size_t min_length, max_length, min_items, max_items;
	pcre2_code *pattern;
};

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
	{"null", T_NULL},
	{"boolean", T_BOOLEAN},
	{"object", T_OBJECT},
	{"array", T_ARRAY},
	{"number", T_NUMBER | T_INTEGER},
	{"string", T_STRING},
	{"integer", T_INTEGER},
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
		struct property *p = &s->properties[s->n_properties++];
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

/* ---- judging ---- */

static bool same(const json_t *a, const json_t *b);

static bool same_object(const json_t *a, const json_t *b)
{
	void *i = json_object_iter((json_t *)(uintptr_t)a);

	if (json_object_size(a) != json_object_size(b))
		return false;
	for (; i; i = json_object_iter_next((json_t *)(uintptr_t)a, i)) {
		const json_t *other = json_object_get(b, json_object_iter_key(i));
		if (!other || !same(json_object_iter_value(i), other))
			return false;
	}
	return true;
}

/* As JSON Schema has it: 1 and 1.0 are the same. */
static bool same(const json_t *a, const json_t *b)
{
	if (json_is_integer(a) && json_is_integer(b))
		return json_integer_value(a) == json_integer_value(b);
	if (json_is_number(a) && json_is_number(b))
		return json_number_value(a) == json_number_value(b);
	if (json_is_object(a) && json_is_object(b))
		return same_object(a, b);
	if (!json_is_array(a) || !json_is_array(b))
		return json_equal(a, b);
	if (json_array_size(a) != json_array_size(b))
		return false;
	for (size_t i = 0; i < json_array_size(a); i++)
		if (!same(json_array_get(a, i), json_array_get(b, i)))
			return false;
	return true;
}

static unsigned type_of(const json_t *v)
{
	double d = json_number_value(v);

	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return T_OBJECT;
	case JSON_ARRAY:
		return T_ARRAY;
	case JSON_STRING:
		return T_STRING;
	case JSON_INTEGER:
		return T_INTEGER;
	case JSON_REAL:
		return isfinite(d) && d == floor(d) ? T_INTEGER : T_NUMBER;
	case JSON_NULL:
		return T_NULL;
	default:
		return T_BOOLEAN;
	}
}

static bool accepts(const struct guard_schema *s, json_t *v);

static bool accepts_object(const struct guard_schema *s, json_t *v)
{
	const char *name;
	json_t *one;
	size_t i;

	json_array_foreach(
		s->required, i, one) if (!json_object_get(v, json_string_value(one))) return false;
	json_object_foreach(v, name, one)
	{
		for (i = 0; i < s->n_properties; i++)
			if (strcmp(s->properties[i].name, name) == 0)
				break;
		if (i == s->n_properties ? s->closed : !accepts(s->properties[i].schema, one))
			return false;
	}
	return true;
}

static bool accepts_array(const struct guard_schema *s, json_t *v)
{
	size_t n = json_array_size(v);

	if (n < s->min_items || n > s->max_items)
		return false;
	for (size_t i = 0; s->items && i < n; i++)
		if (!accepts(s->items, json_array_get(v, i)))
			return false;
	return true;
}

/* Anything but a match, a limit too, is a no. */
/* The loop waits for it: what takes too long is not valid. */
enum { SCHEMA_STEP_MAX = 2000, SCHEMA_TEXT_MAX = 64 << 10 };

static bool fits_pattern(const pcre2_code *code, const char *text, size_t n)
{
	pcre2_match_data *found = pcre2_match_data_create(1, NULL);
	pcre2_match_context *limits = pcre2_match_context_create(NULL);
	bool ok = false;

	if (found && limits && n <= SCHEMA_TEXT_MAX) {
		pcre2_set_match_limit(limits, SCHEMA_STEP_MAX);
		ok = pcre2_match(code, (PCRE2_SPTR)text, n, 0, PCRE2_NO_UTF_CHECK, found, limits) >=
		     0;
	}
	pcre2_match_data_free(found);
	pcre2_match_context_free(limits);
	return ok;
}

static bool accepts_string(const struct guard_schema *s, const json_t *v)
{
	const char *text = json_string_value(v);
	size_t n = json_string_length(v), chars = 0;

	for (size_t i = 0; i < n; i++)
		chars += ((unsigned char)text[i] & 0xC0) != 0x80;
	if (chars < s->min_length || chars > s->max_length)
		return false;
	return !s->pattern || fits_pattern(s->pattern, text, n);
}

static bool accepts(const struct guard_schema *s, json_t *v)
{
	bool listed = !s->one_of;

	if (s->types && !(s->types & type_of(v)))
		return false;
	for (size_t i = 0; !listed && i < json_array_size(s->one_of); i++)
		listed = same(json_array_get(s->one_of, i), v);
	if (!listed || (s->constant && !same(s->constant, v)))
		return false;
	if (json_is_number(v))
		return !(s->has_minimum && json_number_value(v) < s->minimum) &&
		       !(s->has_maximum && json_number_value(v) > s->maximum);
	if (json_is_object(v))
		return accepts_object(s, v);
	if (json_is_array(v))
		return accepts_array(s, v);
	return json_is_string(v) ? accepts_string(s, v) : true;
}

bool guard_schema_accepts(const struct guard_schema *s, const char *text, size_t n)
{
	json_error_t error;
	json_t *v = json_loadb(
		text, n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	bool ok = v && accepts(s, v);

	json_decref(v);
	return ok;
}
