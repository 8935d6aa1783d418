/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an answer is to be like, as a session's settings have it (gateway/settings.c, by whose
 * limits a test holds those of the table). What is not said is llmfs's default, not OpenAI's:
 * temperature 0, so that the same question gives the same answer and the cache may give it, and
 * max_tokens 1024.
 *
 * Some values mean the same and are said otherwise: top_p 0 is the likeliest token only, top_k -1
 * is off, as top_k 0 is here, and seed -1 is none, as with vLLM and llama.cpp. Other seeds are any
 * integer of 64 bits, with a sign in JSON and without one here: -2 is the last but one. Where a
 * setting has two names the first in the table wins.
 *
 * The setting `stop` has a line for each string. Where one has a newline in it, each ends with a
 * NUL instead.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/shim_request_parts.h"

enum kind { REAL, WHOLE, SWITCH };

struct row {
	const char *name, *file;
	enum kind kind;
	double low, high;
	double least; /* what is less is said so */
};

static const struct row rows[] = {
	{"temperature", "temperature", REAL, 0, 2, 0},
	{"top_p", "top_p", REAL, 0, 1, 1e-6},
	{"top_k", "top_k", WHOLE, -1, 1000000, 0},
	{"min_p", "min_p", REAL, 0, 1, 0},
	{"repetition_penalty", "repetition_penalty", REAL, 0.1, 10, 0.1},
	{"repeat_penalty", "repetition_penalty", REAL, 0.1, 10, 0.1}, /* of llama.cpp */
	{"presence_penalty", "presence_penalty", REAL, -2, 2, -2},
	{"frequency_penalty", "frequency_penalty", REAL, -2, 2, -2},
	{"max_completion_tokens", "max_tokens", WHOLE, 1, 1000000, 1},
	{"max_tokens", "max_tokens", WHOLE, 1, 1000000, 1},
	{"ignore_eos", "ignore_eos", SWITCH, 0, 1, 0},
};

enum { STOPS = 16, STOP_BYTES = 256 };

/* Takes value [len], of which it makes a copy, unless the setting is there already. */
static int put(struct shim_ask *out, const char *file, const char *value, size_t len)
{
	for (size_t i = 0; i < out->n_settings; i++)
		if (!strcmp(out->settings[i].file, file))
			return 0;
	if (out->n_settings == SHIM_SETTINGS)
		return -EFBIG; /* our own bug: a test sets all of them */
	char *copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, value, len);
	copy[len] = '\0';
	out->settings[out->n_settings++] = (struct shim_setting){file, copy, len};
	return 0;
}

/* ---- numbers ---- */

/* As short as it can be without being another number. */
static void print_real(char digits[32], double x)
{
	snprintf(digits, 32, "%.15g", x);
	if (strtod(digits, NULL) != x)
		snprintf(digits, 32, "%.17g", x);
}

static int read_real(
	const struct row *row, const json_t *value, char digits[32], struct shim_fault *fault)
{
	if (!json_is_number(value))
		return shim_request_wrong_type(fault, row->name, "a number", value);
	double x = json_number_value(value);
	if (!(x >= row->low && x <= row->high))
		return shim_request_fault(fault,
			x < row->low ? "decimal_below_min_value" : "decimal_above_max_value",
			row->name, "must be a number from %g to %g", row->low, row->high);
	print_real(digits, x < row->least ? row->least : x);
	return 0;
}

static int read_row(const struct row *row, const json_t *object, const json_t *value,
	char digits[32], struct shim_fault *fault)
{
	int64_t x = 0;
	bool on = false;
	int r;
	switch (row->kind) {
	case REAL:
		return read_real(row, value, digits, fault);
	case WHOLE:
		r = shim_request_whole(
			value, row->name, (int64_t)row->low, (int64_t)row->high, &x, fault);
		snprintf(digits, 32, "%" PRId64, x < (int64_t)row->least ? (int64_t)row->least : x);
		return r;
	case SWITCH:
		break;
	}
	r = shim_request_bool(object, row->name, &on, fault);
	snprintf(digits, 32, "%d", on);
	return r;
}

static int numbers(struct shim_ask *out, const json_t *object, struct shim_fault *fault)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < sizeof rows / sizeof *rows; i++) {
		char digits[32];
		const json_t *value = shim_request_member(object, rows[i].name);
		r = value ? read_row(&rows[i], object, value, digits, fault) : 0;
		if (value && r == 0)
			r = put(out, rows[i].file, digits, strlen(digits));
	}
	return r;
}

static int seed(struct shim_ask *out, const json_t *object, struct shim_fault *fault)
{
	char digits[32];
	int64_t x;
	const json_t *value = shim_request_member(object, "seed");
	if (!value)
		return 0;
	int r = shim_request_whole(value, "seed", INT64_MIN, INT64_MAX, &x, fault);
	if (r < 0 || x == -1)
		return r;
	snprintf(digits, sizeof digits, "%" PRIu64, (uint64_t)x);
	return put(out, "seed", digits, strlen(digits));
}

/* ---- stop, response_format ---- */

static int check_stop(const json_t *one, const char *param, struct shim_fault *fault)
{
	if (!json_is_string(one))
		return shim_request_wrong_type(fault, param, "a string", one);
	if (json_string_length(one) > STOP_BYTES)
		return shim_request_fault(fault, "string_above_max_length", param,
			"must have at most %d bytes", STOP_BYTES);
	if (strlen(json_string_value(one)) != json_string_length(one))
		return shim_request_fault(
			fault, "invalid_value", param, "no stop string has a NUL in it");
	return 0;
}

static int check_stops(const json_t *value, size_t n, bool *newline, struct shim_fault *fault)
{
	int r = 0;
	if (n > STOPS)
		return shim_request_fault(fault, "array_above_max_length", "stop",
			"must have at most %d strings", STOPS);
	for (size_t i = 0; r == 0 && i < n; i++) {
		char param[SHIM_PARAM_SIZE] = "stop";
		const json_t *one = json_is_array(value) ? json_array_get(value, i) : value;
		if (json_is_array(value))
			snprintf(param, sizeof param, "stop[%zu]", i);
		r = check_stop(one, param, fault);
		*newline = *newline || (r == 0 && strchr(json_string_value(one), '\n'));
	}
	return r;
}

/* Empty ones end nothing. */
static int stop(struct shim_ask *out, const json_t *object, struct shim_fault *fault)
{
	const json_t *value = shim_request_member(object, "stop");
	size_t n = json_is_array(value) ? json_array_size(value) : value ? 1 : 0;
	bool newline = false;
	struct buf text = {.max = STOPS * (STOP_BYTES + 1)};
	if (value && !json_is_array(value) && !json_is_string(value))
		return shim_request_wrong_type(
			fault, "stop", "a string or an array of strings", value);
	int r = check_stops(value, n, &newline, fault);
	for (size_t i = 0; r == 0 && i < n; i++) {
		const json_t *one = json_is_array(value) ? json_array_get(value, i) : value;
		if (!json_string_length(one))
			continue;
		r = text.len && !newline ? buf_append(&text, "\n", 1) : 0;
		r = r ? r : buf_append(&text, json_string_value(one), json_string_length(one));
		r = r || !newline ? r : buf_append(&text, "", 1);
	}
	if (r == 0 && text.len)
		r = put(out, "stop", text.data, text.len);
	buf_free(&text);
	return r;
}

static int format(struct shim_ask *out, const json_t *object, struct shim_fault *fault)
{
	const json_t *value = shim_request_member(object, "response_format");
	if (!value)
		return 0;
	if (!json_is_object(value))
		return shim_request_wrong_type(fault, "response_format", "an object", value);
	const json_t *type = shim_request_member(value, "type");
	if (!type)
		return shim_request_fault(fault, "missing_required_parameter",
			"response_format.type", "must be there: text or json_object");
	if (!json_is_string(type))
		return shim_request_wrong_type(fault, "response_format.type", "a string", type);
	if (!strcmp(json_string_value(type), "text"))
		return put(out, "format", "text", 4);
	if (!strcmp(json_string_value(type), "json_object"))
		return put(out, "format", "json", 4);
	return shim_request_fault(fault, "unsupported_value", "response_format.type",
		"must be text or json_object: answers are not held to a schema; say in a message "
		"what the JSON is to be like");
}

/* ---- how many, and how they come ---- */

static int choices(struct shim_ask *out, const json_t *object, struct shim_fault *fault)
{
	int64_t n = 1;
	const json_t *value = shim_request_member(object, "n");
	int r = value ? shim_request_whole(value, "n", 1, SHIM_CHOICES, &n, fault) : 0;
	out->n = (unsigned)n;
	return r;
}

static int streaming(struct shim_ask *out, const json_t *object, struct shim_fault *fault)
{
	const json_t *options = shim_request_member(object, "stream_options");
	int r = shim_request_bool(object, "stream", &out->stream, fault);
	if (r < 0 || !options)
		return r;
	if (!json_is_object(options))
		return shim_request_wrong_type(fault, "stream_options", "an object", options);
	const json_t *usage = shim_request_member(options, "include_usage");
	if (usage && !json_is_boolean(usage))
		return shim_request_wrong_type(
			fault, "stream_options.include_usage", "true or false", usage);
	out->stream_usage = out->stream && json_is_true(usage);
	return 0;
}

int shim_request_settings(struct shim_ask *out, const json_t *object, struct shim_fault *fault)
{
	int r = numbers(out, object, fault);
	r = r ? r : seed(out, object, fault);
	r = r ? r : stop(out, object, fault);
	r = r ? r : format(out, object, fault);
	r = r ? r : choices(out, object, fault);
	return r ? r : streaming(out, object, fault);
}
