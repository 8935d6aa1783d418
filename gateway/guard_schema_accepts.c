/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a text is a value that a schema allows.
 *
 * Values are read with jansson, which refuses integers beyond 64 bits and reals beyond a double;
 * such a text fails. A name that comes twice in an object fails too: two readers would see two
 * values. Numbers are compared as JSON Schema has it: 1.0 is an integer, and the same as 1.
 *
 * Any thread; nothing is kept. The loop waits for it, so a pattern has few steps, and what takes
 * more is not valid.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/guard_schema.h"

enum { STEP_MAX = 2000, TEXT_MAX = 64 << 10 }; /* of a pattern on one string */

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
		return GUARD_SCHEMA_OBJECT;
	case JSON_ARRAY:
		return GUARD_SCHEMA_ARRAY;
	case JSON_STRING:
		return GUARD_SCHEMA_STRING;
	case JSON_INTEGER:
		return GUARD_SCHEMA_INTEGER;
	case JSON_REAL:
		return isfinite(d) && d == floor(d) ? GUARD_SCHEMA_INTEGER : GUARD_SCHEMA_NUMBER;
	case JSON_NULL:
		return GUARD_SCHEMA_NULL;
	default:
		return GUARD_SCHEMA_BOOLEAN;
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
static bool fits_pattern(const pcre2_code *code, const char *text, size_t n)
{
	pcre2_match_data *found = pcre2_match_data_create(1, NULL);
	pcre2_match_context *limits = pcre2_match_context_create(NULL);
	bool ok = false;

	if (found && limits && n <= TEXT_MAX) {
		pcre2_set_match_limit(limits, STEP_MAX);
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
		chars += !utf8_is_inside(text[i]);
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
