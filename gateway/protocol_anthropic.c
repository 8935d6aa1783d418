/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Anthropic's messages. The system prompt stands apart; roles must take turns, so what follows of
 * the same role is joined; a text that is empty is refused there and left away here.
 *
 * max_tokens must be said: where we have no limit it is MAX_TOKENS, which every model of theirs
 * takes. top_p is said only where it cuts anything: newer models refuse it beside a temperature.
 * There is no seed, no JSON mode, no log-probability. What a prompt costs comes in three numbers,
 * which do not overlap; ours is their sum. output_tokens is a running total.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/protocol_parts.h"

#define MAX_TOKENS 4096
#define JOIN "\n\n"

/* Joins the texts of `role` from *i on (of all that are left, for the system's), as a new string.
 */
static json_t *join(const struct provider_message *m, size_t n, size_t *i, enum provider_role role)
{
	struct buf text = {0};
	int r = 0;
	for (; r == 0 && *i < n; (*i)++) {
		if (!m[*i].len || (role != PROVIDER_SYSTEM && m[*i].role == PROVIDER_SYSTEM))
			continue;
		if (m[*i].role != role && role != PROVIDER_SYSTEM)
			break;
		if (m[*i].role != role)
			continue;
		if (text.len)
			r = buf_append_str(&text, JOIN);
		if (r == 0)
			r = buf_append(&text, m[*i].text, m[*i].len);
	}
	json_t *string = r == 0 ? json_stringn(text.data ? text.data : "", text.len) : NULL;
	buf_free(&text);
	return string;
}

static int anthropic_messages(char **json, size_t *len, const struct provider_message *messages,
	size_t n, struct err *err)
{
	int r = protocol_check_messages(messages, n, err);
	if (r < 0)
		return r;
	json_t *array = json_array(), *o = json_object();
	size_t i = 0;
	json_t *system = join(messages, n, &i, PROVIDER_SYSTEM);
	bool has_system = json_string_length(system) > 0;
	r = system ? json_object_set_new(o, "system", json_incref(system)) : -1;
	if (!has_system)
		json_object_del(o, "system");
	json_decref(system);
	for (i = 0; r == 0 && i < n;) {
		enum provider_role role = messages[i].role;
		if (role == PROVIDER_SYSTEM || !messages[i].len) {
			i++;
			continue;
		}
		const char *name = role == PROVIDER_USER ? "user" : "assistant";
		json_t *text = join(messages, n, &i, role);
		r = json_array_append_new(
			array, json_pack("{s:s, s:o}", "role", name, "content", text));
	}
	const char *first = json_string_value(json_object_get(json_array_get(array, 0), "role"));
	bool begins = first && !strcmp(first, "user");
	if (r == 0)
		r = json_object_set(o, "messages", array);
	json_decref(array);
	if (r == 0 && !begins) {
		json_decref(o);
		return err_set(err, -EINVAL, "a conversation must begin with a text of the user");
	}
	if (r < 0) {
		json_decref(o);
		o = NULL;
	}
	return protocol_dump(json, len, o, err);
}

static int set(json_t *o, const char *name, json_t *value)
{
	return json_object_set_new(o, name, value);
}

static int anthropic_chat_body(struct buf *out, const struct protocol_ask *ask, struct err *err)
{
	const struct provider_request *q = ask->request;
	json_t *o = json_object();
	int r = set(o, "model", json_string(ask->model));
	r |= set(o, "stream", json_true());
	r |= set(o, "max_tokens", json_integer(q->max_tokens ? q->max_tokens : MAX_TOKENS));
	r |= set(o, "temperature", json_real(q->temperature));
	if (q->top_p < 1)
		r |= set(o, "top_p", json_real(q->top_p));
	if (q->top_k)
		r |= set(o, "top_k", json_integer(q->top_k));
	if (q->n_stop)
		r |= set(o, "stop_sequences", protocol_strings(q->stop, NULL, q->n_stop));
	/* The members of `messages`, without its braces. */
	r = protocol_put_body(out, r ? NULL : json_incref(o), NULL, ask->messages + 1,
		strlen(ask->messages) - 2, err);
	json_decref(o);
	return r;
}

static int anthropic_headers(struct buf *out, const char *key)
{
	static const char fixed[] = "content-type: application/json\0"
				    "anthropic-version: 2023-06-01";
	int r = buf_append(out, fixed, sizeof fixed);
	if (r == 0 && key)
		r = buf_printf(out, "x-api-key: %s", key);
	if (r == 0 && key)
		r = buf_append(out, "", 1);
	return r < 0 ? r : buf_append(out, "", 1);
}

/* ---- answers ---- */

/* Numbers that a later event does not say again stay. */
static void take_usage(const json_t *usage, struct protocol_answer *answer)
{
	uint64_t input = 0, written = 0, cached = 0;
	if (!json_is_object(usage))
		return;
	if (protocol_number(usage, "input_tokens", &input)) {
		protocol_number(usage, "cache_creation_input_tokens", &written);
		protocol_number(usage, "cache_read_input_tokens", &cached);
		answer->usage.cached_tok = cached;
		answer->usage.prompt_tok = input + written + cached;
	}
	if (protocol_number(usage, "output_tokens", &answer->usage.output_tok))
		answer->has_usage = answer->usage.prompt_tok > 0;
}

static int take_reason(const json_t *holder, const struct protocol_sink *to)
{
	const char *reason = json_string_value(json_object_get(holder, "stop_reason"));
	if (!reason)
		return 0;
	if (!strcmp(reason, "refusal"))
		return err_set(to->err, -EPERM, "its content filter stopped the answer");
	bool length =
		!strcmp(reason, "max_tokens") || !strcmp(reason, "model_context_window_exceeded");
	to->answer->finish = length ? "length" : "stop";
	return 0;
}

static int take_block(const json_t *block, const char *type, const struct protocol_sink *to)
{
	const char *is = json_string_value(json_object_get(block, "type"));
	return is && !strcmp(is, type) ? protocol_take_text(json_object_get(block, "text"), to) : 0;
}

/* Why it is none of ours: the usual reason is a wrong `protocol`. */
static int no_message(const json_t *object, const char *what, const struct protocol_sink *to)
{
	return err_set(to->err, -EPROTO, "%s%s", what,
		json_is_array(json_object_get(object, "choices"))
			? ", but OpenAI's: write openai to protocol"
			: "");
}

static int anthropic_event(
	struct protocol_reader *r, const json_t *object, const struct protocol_sink *to)
{
	const char *type = json_string_value(json_object_get(object, "type"));
	int result = 0;
	if (!type)
		return no_message(object, "what it sends is no event of a message", to);
	if (!strcmp(type, "error"))
		return protocol_take_error(object, to);
	if (!strcmp(type, "message_start")) {
		take_usage(
			json_object_get(json_object_get(object, "message"), "usage"), to->answer);
	} else if (!strcmp(type, "content_block_start")) {
		result = take_block(json_object_get(object, "content_block"), "text", to);
	} else if (!strcmp(type, "content_block_delta")) {
		result = take_block(json_object_get(object, "delta"), "text_delta", to);
	} else if (!strcmp(type, "message_delta")) {
		take_usage(json_object_get(object, "usage"), to->answer);
		result = take_reason(json_object_get(object, "delta"), to);
	} else if (!strcmp(type, "message_stop")) {
		to->answer->complete = true;
	}
	return result; /* ping, and what they may add */
}

static int anthropic_body(
	struct protocol_reader *r, const json_t *object, const struct protocol_sink *to)
{
	const char *type = json_string_value(json_object_get(object, "type"));
	const json_t *content = json_object_get(object, "content");
	int result = 0;
	if (type && !strcmp(type, "error"))
		return protocol_take_error(object, to);
	if (!json_is_array(content))
		return no_message(object, "what it sends is no message", to);
	take_usage(json_object_get(object, "usage"), to->answer);
	for (size_t i = 0; result == 0 && i < json_array_size(content); i++)
		result = take_block(json_array_get(content, i), "text", to);
	if (result == 0)
		result = take_reason(object, to);
	if (result == 0 && !*to->answer->finish)
		to->answer->finish = "stop";
	return result;
}

static struct protocol_reader *anthropic_reader_new(
	const struct provider_request *request, const char *content_type)
{
	struct protocol_reader *r = protocol_reader_new(request, content_type);
	if (!r)
		return NULL;
	r->event = anthropic_event;
	r->body = anthropic_body;
	return r;
}

const struct protocol protocol_anthropic = {
	.name = "anthropic",
	.chat_path = "/messages",
	.health_path = "/models",
	.messages = anthropic_messages,
	.chat_body = anthropic_chat_body,
	.headers = anthropic_headers,
	.reader_new = anthropic_reader_new,
	.reader_free = protocol_reader_free,
	.reader_feed = protocol_reader_feed,
	.reader_end = protocol_reader_end,
};
