/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of messages becomes turns, whether it comes as JSON or from a front end that has read it
 * already. The JSON library does the reading and names the line; what is wrong with a message is
 * named by its number. Nothing is taken unless all of it is right.
 */
#include "gateway/messages.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/utf8.h"

struct message {
	const char *role;
	const char *content;
	size_t len;
};

/* Where messages come from: one of the two. */
struct source {
	const json_t *array;
	const struct session_message *list;
	size_t n;
};

static int take_message(
	const struct session_message *m, size_t i, struct message *out, struct err *err)
{
	static const char *const roles[] = {
		[SESSION_SYSTEM] = "system",
		[SESSION_USER] = "user",
		[SESSION_ASSISTANT] = "assistant",
	};
	size_t valid = utf8_valid_prefix(m->text, m->len);
	*out = (struct message){roles[m->role], m->text, m->len};
	return valid == m->len ? 0
			       : err_set(err, -EILSEQ, "message %zu: not UTF-8 (byte %zu)", i + 1,
					 valid + 1);
}

static int read_message(const struct source *from, size_t i, struct message *out, struct err *err)
{
	if (!from->array)
		return take_message(&from->list[i], i, out, err);
	const json_t *o = json_array_get(from->array, i);
	if (!json_is_object(o))
		return err_set(err, -EINVAL, "message %zu: must be an object", i + 1);
	const json_t *role = json_object_get(o, "role"), *content = json_object_get(o, "content");
	if (!json_is_string(role) || !json_is_string(content))
		return err_set(err, -EINVAL,
			"message %zu: role and content must be there and be strings", i + 1);
	*out = (struct message){
		json_string_value(role), json_string_value(content), json_string_length(content)};
	return 0;
}

static int add_turn(struct messages *m, const struct message *user, const struct message *answer)
{
	struct text *u = text_new(user->content, user->len);
	struct text *a = answer && answer->len ? text_new(answer->content, answer->len) : NULL;
	int r = -ENOMEM;
	if (u && (!answer || !answer->len || a))
		r = conversation_add(
			&m->turns, u, NULL, answer ? TURN_DONE : TURN_OPEN, a, NULL, false);
	text_put(u);
	text_put(a);
	return r;
}

static int wrong_role(size_t i, const char *wanted, struct err *err)
{
	return err_set(err, -EINVAL,
		"message %zu: its role must be %s: a system message may come first, then user and "
		"assistant alternate",
		i + 1, wanted);
}

static int read_messages(struct messages *m, const struct source *from, struct err *err)
{
	size_t n = from->n, i = 0;
	struct message first, second;
	int r = n ? read_message(from, 0, &first, err) : 0;
	if (r == 0 && n && !strcmp(first.role, "system")) {
		m->system = text_new(first.content, first.len);
		r = m->system ? 0 : -ENOMEM;
		i = 1;
	}
	for (; r == 0 && i < n; i += 2) {
		bool answered = i + 1 < n;
		r = read_message(from, i, &first, err);
		if (r == 0 && strcmp(first.role, "user"))
			r = wrong_role(i, i ? "user" : "system or user", err);
		if (r == 0 && answered)
			r = read_message(from, i + 1, &second, err);
		if (r == 0 && answered && strcmp(second.role, "assistant"))
			r = wrong_role(i + 1, "assistant", err);
		if (r == 0)
			r = add_turn(m, &first, answered ? &second : NULL);
	}
	return r == -ENOMEM ? err_set(err, r, "out of memory") : r;
}

static int parse(struct messages *m, const char *json, size_t len, struct err *err)
{
	json_error_t e;
	size_t valid = utf8_valid_prefix(json, len);
	if (valid != len)
		return err_set(err, -EILSEQ, "byte %zu: not UTF-8", valid + 1);
	json_t *array = json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
	if (!array)
		return err_set(err, -EINVAL,
			"line %d, column %d: %s; must be an array of {\"role\", \"content\"} "
			"objects",
			e.line, e.column, e.text);
	const struct source from = {.array = array, .n = json_array_size(array)};
	int r = json_is_array(array)
			? read_messages(m, &from, err)
			: err_set(err, -EINVAL,
				  "must be an array of {\"role\", \"content\"} objects");
	json_decref(array);
	return r;
}

int messages_parse(struct messages *m, const char *json, size_t len, struct err *err)
{
	int r = parse(m, json, len, err);
	return r < 0 ? err_prefix(err, r, "messages.json") : 0;
}

int messages_take(struct messages *m, const struct session_message *list, size_t n, struct err *err)
{
	const struct source from = {.list = list, .n = n};
	int r = read_messages(m, &from, err);
	const struct turn *last = r == 0 ? conversation_last(&m->turns) : NULL;
	if (last && last->state == TURN_OPEN)
		r = err_set(err, -EINVAL,
			"message %zu: it is the last one and must be an assistant's: what is asked "
			"comes behind them",
			n);
	return r;
}

bool messages_is_hopeless(const char *json, size_t len)
{
	json_error_t e;
	if (utf8_valid_prefix(json, len) != len)
		return true;
	json_t *value = json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
	json_decref(value);
	return !value && json_error_code(&e) != json_error_premature_end_of_input &&
	       json_error_code(&e) != json_error_out_of_memory;
}

void messages_free(struct messages *m)
{
	m->system = text_put(m->system);
	conversation_free(&m->turns);
}
