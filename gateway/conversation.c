/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An array of turns, each a prompt and what became of it. Texts are shared: a fork, a rendering and
 * a request under way hold the same bytes. Only the last turn can be running, and its answer's text
 * is the answer object's until it is settled.
 *
 * `chat` is followed as a file that grows, so it keeps what it has shown: of a turn that another
 * one takes the place of, its text stays before that one's. A model never sees it.
 *
 * The length of `chat` is a sum kept up to date, so that a stat costs nothing however long the
 * conversation is.
 */
#include "gateway/conversation.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t prompt_bytes(const struct text *user)
{
	size_t lines = 1;
	for (const char *p = user->bytes;
		(p = memchr(p, '\n', user->len - (size_t)(p - user->bytes))); p++)
		lines++;
	return user->len + 2 * lines + 2;
}

/* Most sentences of guards begin with that word. */
static const char *blocked_prefix(const struct turn *t)
{
	return t->error && !strncmp(t->error->bytes, "blocked", 7) ? "" : "blocked: ";
}

/* The bytes of a settled turn behind its prompt. */
static size_t tail_bytes(const struct turn *t)
{
	size_t n = t->assistant ? t->assistant->len + 2 : 0;
	if (t->state == TURN_CANCELLED)
		n += strlen("[cancelled]\n\n");
	if (t->state == TURN_FAILED)
		n += strlen("[failed: ]\n\n") + text_len(t->error);
	if (t->state == TURN_BLOCKED)
		n += strlen("[]\n\n") + strlen(blocked_prefix(t)) + text_len(t->error);
	return n;
}

static int reserve(struct conversation *c, size_t n)
{
	if (c->n + n <= c->cap)
		return 0;
	size_t cap = c->cap ? c->cap * 2 : 4;
	if (cap < c->n + n)
		cap = c->n + n;
	struct turn *turns = realloc(c->turns, cap * sizeof *turns);
	if (!turns)
		return -ENOMEM;
	c->turns = turns;
	c->cap = cap;
	return 0;
}

static void turn_free(struct turn *t)
{
	text_put(t->user);
	text_put(t->assistant);
	text_put(t->error);
	text_put(t->before);
	answer_put(t->answer);
}

int conversation_add(struct conversation *c, struct text *user, struct answer *answer,
	enum turn_state state, struct text *assistant, struct text *error, bool asked)
{
	int r = reserve(c, 1);
	if (r < 0)
		return r;
	struct turn *t = &c->turns[c->n++];
	*t = (struct turn){
		.serial = c->next_serial++,
		.user = text_ref(user),
		.answer = answer ? answer_ref(answer) : NULL,
		.assistant = text_ref(assistant),
		.error = text_ref(error),
		.prompt_bytes = prompt_bytes(user),
		.state = answer ? TURN_RUNNING : state,
		.asked = asked,
	};
	if (!answer)
		c->settled_bytes += t->prompt_bytes + tail_bytes(t);
	return 0;
}

void conversation_recount(struct conversation *c)
{
	c->settled_bytes = 0;
	for (size_t i = 0; i < c->n; i++) {
		struct turn *t = &c->turns[i];
		t->prompt_bytes = prompt_bytes(t->user);
		if (t->state != TURN_RUNNING)
			c->settled_bytes += t->prompt_bytes + tail_bytes(t);
	}
}

struct turn *conversation_last(struct conversation *c)
{
	return c->n ? &c->turns[c->n - 1] : NULL;
}

void conversation_settle(
	struct conversation *c, enum turn_state state, struct text *assistant, struct text *error)
{
	struct turn *t = conversation_last(c);
	t->answer = answer_put(t->answer);
	t->assistant = text_ref(assistant);
	t->error = text_ref(error);
	t->state = state;
	c->settled_bytes += t->prompt_bytes + tail_bytes(t);
}

void conversation_turn_end(struct turn *t)
{
	turn_free(t);
	*t = (struct turn){0};
}

int conversation_put_back(struct conversation *c, struct turn *t)
{
	int r = reserve(c, 1);
	if (r < 0) {
		conversation_turn_end(t);
		return r;
	}
	c->turns[c->n++] = *t;
	c->settled_bytes += t->prompt_bytes + tail_bytes(t);
	c->before_bytes += text_len(t->before);
	*t = (struct turn){0};
	return 0;
}

uint64_t conversation_drop_last(struct conversation *c)
{
	struct turn t;
	uint64_t serial = conversation_take_last(c, &t);
	turn_free(&t);
	return serial;
}

uint64_t conversation_take_last(struct conversation *c, struct turn *out)
{
	struct turn *t = &c->turns[--c->n];
	if (t->state != TURN_RUNNING)
		c->settled_bytes -= t->prompt_bytes + tail_bytes(t);
	c->before_bytes -= text_len(t->before);
	uint64_t serial = t->serial;
	*out = *t;
	if (c->first > c->n)
		c->first = c->n;
	if (c->head > c->first)
		c->head = c->first;
	return serial;
}

bool conversation_unanswered(const struct turn *t)
{
	return t->state != TURN_RUNNING && t->state != TURN_DONE && !t->assistant;
}

void conversation_set_before(struct conversation *c, struct text *before)
{
	conversation_last(c)->before = before;
	c->before_bytes += text_len(before);
}

static int copy_turns(struct conversation *to, const struct conversation *from, bool running)
{
	int r = reserve(to, from->n);
	for (size_t i = 0; r == 0 && i < from->n; i++) {
		const struct turn *t = &from->turns[i];
		if (t->state == TURN_RUNNING && !running)
			continue;
		r = conversation_add(to, t->user, t->answer, t->state, t->assistant, t->error,
			running && t->asked);
		if (r == 0)
			conversation_set_before(to, text_ref(t->before));
	}
	to->head = from->head;
	to->first = from->first;
	return r;
}

int conversation_copy(struct conversation *to, const struct conversation *from)
{
	return copy_turns(to, from, false);
}

int conversation_snapshot(struct conversation *to, const struct conversation *from)
{
	return copy_turns(to, from, true);
}

void conversation_clear(struct conversation *c)
{
	for (size_t i = 0; i < c->n; i++)
		turn_free(&c->turns[i]);
	c->n = c->head = c->first = 0;
	c->settled_bytes = c->before_bytes = 0;
}

void conversation_free(struct conversation *c)
{
	conversation_clear(c);
	free(c->turns);
	c->turns = NULL;
	c->cap = 0;
}

/* ---- views ---- */

uint64_t conversation_chat_bytes(const struct conversation *c)
{
	const struct turn *t = c->n ? &c->turns[c->n - 1] : NULL;
	uint64_t sum = c->before_bytes + c->settled_bytes;
	if (!t || t->state != TURN_RUNNING)
		return sum;
	bool ended;
	uint64_t answered = answer_size(t->answer, &ended);
	return answered ? sum + t->prompt_bytes + answered : sum;
}

static int render_prompt(const struct text *user, struct buf *out)
{
	int r = 0;
	for (size_t i = 0; r == 0;) {
		const char *line = user->bytes + i, *end = memchr(line, '\n', user->len - i);
		size_t n = end ? (size_t)(end - line) : user->len - i;
		r = buf_append(out, "> ", 2);
		r = r ? r : buf_append(out, line, n);
		r = r ? r : buf_append(out, "\n", 1);
		if (!end)
			break;
		i += n + 1;
	}
	return r ? r : buf_append(out, "\n", 1);
}

/* One that is under way: nothing before the first byte of its answer. */
static int render_running(const struct turn *t, struct buf *out)
{
	struct buf answer = {0};
	int r = answer_copy(t->answer, &answer);
	if (r == 0 && answer.len) {
		r = render_prompt(t->user, out);
		r = r ? r : buf_append(out, answer.data, answer.len);
	}
	buf_free(&answer);
	return r;
}

static int render_settled(const struct turn *t, struct buf *out)
{
	int r = render_prompt(t->user, out);
	if (r == 0 && t->assistant) {
		r = buf_append(out, t->assistant->bytes, t->assistant->len);
		r = r ? r : buf_append(out, "\n\n", 2);
	}
	if (r == 0 && t->state == TURN_CANCELLED)
		r = buf_append_str(out, "[cancelled]\n\n");
	if (r == 0 && t->state == TURN_BLOCKED)
		r = buf_printf(
			out, "[%s%s]\n\n", blocked_prefix(t), t->error ? t->error->bytes : "");
	if (r == 0 && t->state == TURN_FAILED)
		r = buf_printf(out, "[failed: %s]\n\n", t->error ? t->error->bytes : "");
	return r;
}

int conversation_render_chat(const struct conversation *c, struct buf *out)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < c->n; i++) {
		const struct turn *t = &c->turns[i];
		if (t->before)
			r = buf_append(out, t->before->bytes, t->before->len);
		if (r == 0)
			r = t->state == TURN_RUNNING ? render_running(t, out)
						     : render_settled(t, out);
	}
	return r;
}

void conversation_stand_in(struct conversation *c, const struct turn *taken)
{
	struct buf out = {0};
	size_t before = text_len(taken->before), own = taken->prompt_bytes + tail_bytes(taken);
	int r = 0;
	if (own > CONVERSATION_BEFORE_MAX)
		return;
	if (before + own <= CONVERSATION_BEFORE_MAX && before)
		r = buf_append(&out, taken->before->bytes, before);
	r = r ? r : render_settled(taken, &out);
	if (r == 0)
		conversation_set_before(c, text_new(out.data, out.len));
	buf_free(&out);
}

static int render_message(
	struct buf *out, bool *first, const char *role, const char *bytes, size_t len)
{
	int r = buf_printf(out, "%s\n  {\"role\": \"%s\", \"content\": ", *first ? "[" : ",", role);
	*first = false;
	r = r ? r : text_append_json(out, bytes, len);
	return r ? r : buf_append(out, "}", 1);
}

static int render_answer(struct buf *out, bool *first, const struct turn *t)
{
	if (t->state != TURN_RUNNING) {
		bool said = t->assistant || t->state == TURN_DONE;
		return said ? render_message(out, first, "assistant",
				      t->assistant ? t->assistant->bytes : "",
				      text_len(t->assistant))
			    : 0;
	}
	struct buf text = {0};
	int r = answer_copy(t->answer, &text);
	if (r == 0 && text.len)
		r = render_message(out, first, "assistant", text.data, text.len);
	buf_free(&text);
	return r;
}

int conversation_render_messages(
	const struct conversation *c, const char *system, size_t system_len, struct buf *out)
{
	bool first = true;
	int r = system_len ? render_message(out, &first, "system", system, system_len) : 0;
	for (size_t i = 0; r == 0 && i < c->n; i++) {
		const struct turn *t = &c->turns[i];
		r = render_message(out, &first, "user", t->user->bytes, t->user->len);
		r = r ? r : render_answer(out, &first, t);
	}
	return r ? r : buf_append_str(out, first ? "[]\n" : "\n]\n");
}
