/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON library does the reading: it takes UTF-8 only, refuses a name that stands twice in an
 * object, and what is deeper than 2,048. Here is what is said of what it has read, in the words
 * that OpenAI has for it: a `code` for programs, the param, and a sentence. A null is the same as
 * what is not there, since clients write it for all that nobody has set; true is no number, and
 * "1" is none.
 *
 * Texts may have NULs in them, as prompts may; a name or a stop string has none.
 *
 * The library takes up to 75 times the memory of the text ("{},{},..."). So values are counted
 * before it is asked: no more than MARKS_MAX marks, each of which has a value behind it, are 40 MB
 * at most.
 */
#include "gateway/shim_request_parts.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

int shim_request_fault(
	struct shim_fault *fault, const char *code, const char *param, const char *format, ...)
{
	va_list ap;
	char text[sizeof fault->err.text];
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	fault->code = code;
	snprintf(fault->param, sizeof fault->param, "%s", param);
	return err_set(&fault->err, -EINVAL, "%s%s%s", param, *param ? ": " : "", text);
}

static const char *type_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "true or false";
	case JSON_NULL:
		break;
	}
	return "null";
}

int shim_request_wrong_type(
	struct shim_fault *fault, const char *param, const char *wanted, const json_t *is)
{
	return shim_request_fault(
		fault, "invalid_type", param, "must be %s, not %s", wanted, type_name(is));
}

enum { MARKS_MAX = 1 << 18 };

/* Of a text that need not be JSON: there the library finds it. */
static bool has_too_many_values(const char *json, size_t len)
{
	size_t marks = 0;
	bool in_string = false;
	for (size_t i = 0; i < len && marks <= MARKS_MAX; i++) {
		char c = json[i];
		if (c == '"')
			in_string = !in_string;
		else if (in_string)
			i += c == '\\';
		else
			marks += c == ',' || c == ':' || c == '[' || c == '{';
	}
	return marks > MARKS_MAX;
}

int shim_request_load(json_t **out, const char *json, size_t len, struct shim_fault *fault)
{
	json_error_t e;
	size_t mark = utf8_mark(json, len);
	if (has_too_many_values(json, len))
		return shim_request_fault(
			fault, NULL, "", "the body has more than %d values", MARKS_MAX);
	*out = json_loadb(json + mark, len - mark, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
	if (!*out && json_error_code(&e) == json_error_out_of_memory)
		return -ENOMEM;
	if (!*out)
		return shim_request_fault(fault, NULL, "",
			"the body is not JSON: line %d, column %d: %s", e.line, e.column, e.text);
	if (!json_is_object(*out))
		return shim_request_fault(fault, "invalid_type", "",
			"the body must be a JSON object, not %s", type_name(*out));
	return 0;
}

const json_t *shim_request_member(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	return json_is_null(value) ? NULL : value;
}

int shim_request_bool(const json_t *object, const char *name, bool *out, struct shim_fault *fault)
{
	const json_t *value = shim_request_member(object, name);
	if (value && !json_is_boolean(value))
		return shim_request_wrong_type(fault, name, "true or false", value);
	if (value)
		*out = json_is_true(value);
	return 0;
}

int shim_request_whole(const json_t *value, const char *param, int64_t low, int64_t high,
	int64_t *out, struct shim_fault *fault)
{
	static const double most_exact = 9007199254740992.0; /* 2^53 */
	if (!json_is_number(value))
		return shim_request_wrong_type(fault, param, "a whole number", value);
	double x = json_number_value(value);
	if (json_is_real(value) && (x != floor(x) || fabs(x) > most_exact))
		return shim_request_fault(fault, "invalid_type", param, "must be a whole number");
	int64_t whole = json_is_integer(value) ? json_integer_value(value) : (int64_t)x;
	if (whole < low || whole > high)
		return shim_request_fault(fault,
			whole < low ? "integer_below_min_value" : "integer_above_max_value", param,
			"must be a whole number from %lld to %lld", (long long)low,
			(long long)high);
	*out = whole;
	return 0;
}

int shim_request_model(const json_t *object, char **out, struct shim_fault *fault)
{
	const json_t *value = shim_request_member(object, "model");
	if (value && !json_is_string(value))
		return shim_request_wrong_type(fault, "model", "a string", value);
	const char *name = value ? json_string_value(value) : "";
	if (value && strlen(name) != json_string_length(value))
		return shim_request_fault(
			fault, "invalid_value", "model", "no model's name has a NUL in it");
	*out = strdup(*name ? name : "default");
	return *out ? 0 : -ENOMEM;
}

/* ---- texts ---- */

int shim_request_room(struct buf *room, size_t len)
{
	*room = (struct buf){.max = len};
	return buf_reserve(room, len);
}

int shim_request_say(struct buf *room, const json_t *string)
{
	return buf_append(room, json_string_value(string), json_string_length(string));
}

int shim_request_end(struct buf *room, size_t from, struct shim_text *out)
{
	int r = buf_append(room, "", 1);
	if (r == 0)
		*out = (struct shim_text){room->data + from, room->len - 1 - from};
	return r;
}

static int take_text(const json_t *value, const char *param, struct buf *room,
	struct shim_text *out, struct shim_fault *fault)
{
	if (json_is_number(value) || (json_is_array(value) && json_array_size(value)))
		return shim_request_fault(fault, "unsupported_value", param,
			"must be a string: llmfs takes texts, no ids of tokens");
	if (!json_is_string(value))
		return shim_request_wrong_type(fault, param, "a string", value);
	if (!json_string_length(value))
		return shim_request_fault(fault, "invalid_value", param, "must not be empty");
	size_t from = room->len;
	int r = shim_request_say(room, value);
	return r ? r : shim_request_end(room, from, out);
}

static int take_array(const json_t *array, const char *name, struct buf *room,
	struct shim_text *out, struct shim_fault *fault)
{
	int r = 0;
	/* Ids of tokens are the whole array, not one of its elements. */
	if (json_is_number(json_array_get(array, 0)))
		return take_text(array, name, room, out, fault);
	for (size_t i = 0; r == 0 && i < json_array_size(array); i++) {
		char param[SHIM_PARAM_SIZE];
		snprintf(param, sizeof param, "%s[%zu]", name, i);
		r = take_text(json_array_get(array, i), param, room, out + i, fault);
	}
	return r;
}

int shim_request_texts(const json_t *object, const char *name, size_t most, struct buf *room,
	struct shim_text **out, size_t *n, struct shim_fault *fault)
{
	const json_t *value = shim_request_member(object, name);
	if (!value)
		return shim_request_fault(fault, "missing_required_parameter", name,
			"must be there: a string, or an array of strings");
	size_t count = json_is_array(value) ? json_array_size(value) : 1;
	bool is_ids = json_is_number(json_array_get(value, 0)); /* of them there may be many */
	if (!count)
		return shim_request_fault(fault, "empty_array", name, "must not be empty");
	if (count > most && !is_ids)
		return shim_request_fault(
			fault, "array_above_max_length", name, "must have at most %zu texts", most);
	*out = calloc(count, sizeof **out);
	if (!*out)
		return -ENOMEM;
	*n = count;
	return json_is_array(value) ? take_array(value, name, room, *out, fault)
				    : take_text(value, name, room, *out, fault);
}
