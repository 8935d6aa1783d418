/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An array of turns, each a prompt and what became of it. Texts are shared: a fork, a rendering and
 * a request under way hold the same bytes. Only the last turn can be running, and its answer's text
 * is the answer object's until it is settled.
 *
 * The length of `chat` is a sum kept up to date, so that a stat costs nothing however long the
 * conversation is.
 */
#include "gateway/conversation.h"

#include <errno.h>
#include <inttypes.h>
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

static size_t text_len(const struct text *t)
{
	return t ? t->len : 0;
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

static int copy_turns(struct conversation *to, const struct conversation *from, bool running)
{
	int r = reserve(to, from->n);
	for (size_t i = 0; r == 0 && i < from->n; i++) {
		const struct turn *t = &from->turns[i];
		if (t->state == TURN_RUNNING && !running)
			continue;
		r = conversation_add(to, t->user, t->answer, t->state, t->assistant, t->error,
			running && t->asked);
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
	c->settled_bytes = 0;
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
	if (!t || t->state != TURN_RUNNING)
		return c->settled_bytes;
	bool ended;
	return c->settled_bytes + t->prompt_bytes + answer_size(t->answer, &ended);
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

int conversation_render_chat(const struct conversation *c, struct buf *out)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < c->n; i++) {
		const struct turn *t = &c->turns[i];
		r = render_prompt(t->user, out);
		if (r == 0 && t->state == TURN_RUNNING)
			r = answer_copy(t->answer, out);
		if (r == 0 && t->assistant) {
			r = buf_append(out, t->assistant->bytes, t->assistant->len);
			r = r ? r : buf_append(out, "\n\n", 2);
		}
		if (r == 0 && t->state == TURN_CANCELLED)
			r = buf_append_str(out, "[cancelled]\n\n");
		if (r == 0 && t->state == TURN_BLOCKED)
			r = buf_printf(out, "[%s%s]\n\n", blocked_prefix(t),
				t->error ? t->error->bytes : "");
		if (r == 0 && t->state == TURN_FAILED)
			r = buf_printf(out, "[failed: %s]\n\n", t->error ? t->error->bytes : "");
	}
	return r;
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

/* ---- stored form ---- */

enum { ENCODED_HEAD = 16 + (5 + 3 + TRACE_PACKED_TIMES) * (TEXT_NUMBER_MAX + 1) };
static const char state_letters[] = "RDCFOB"; /* by enum turn_state */

static char *blank_and_number(char *p, uint64_t x)
{
	*p++ = ' ';
	return text_number(p, x);
}

/* The first line, at most ENCODED_HEAD bytes; returns its end. */
static char *encode_head(const struct turn *t, char *p)
{
	const struct trace_packed *packed = &t->trace;
	*p++ = state_letters[t->state];
	p = text_number(p, t->asked);
	p = blank_and_number(p, t->user->len);
	p = blank_and_number(p, text_len(t->assistant));
	p = blank_and_number(p, text_len(t->error));
	*p++ = ' ';
	*p++ = packed->finish ? packed->finish : '-';
	p = blank_and_number(p, packed->prompt_tok);
	p = blank_and_number(p, packed->cached_tok);
	p = blank_and_number(p, packed->output_tok);
	for (size_t i = 0; i < TRACE_PACKED_TIMES; i++)
		p = blank_and_number(p, packed->us[i]);
	*p++ = ' ';
	p = text_signed(p, t->cost);
	*p++ = '\n';
	return p;
}

int conversation_encode(const struct turn *t, struct buf *out)
{
	int r = buf_reserve(
		out, ENCODED_HEAD + t->user->len + text_len(t->assistant) + text_len(t->error));
	if (r < 0)
		return r;
	out->len = (size_t)(encode_head(t, out->data + out->len) - out->data);
	r = buf_append(out, t->user->bytes, t->user->len);
	if (r == 0 && t->assistant)
		r = buf_append(out, t->assistant->bytes, t->assistant->len);
	if (r == 0 && t->error)
		r = buf_append(out, t->error->bytes, t->error->len);
	return r;
}

static struct text *take(const char **bytes, size_t n)
{
	struct text *t = text_new(*bytes, n);
	*bytes += n;
	return t;
}

struct header { /* the first line of a stored turn */
	char letter;
	unsigned asked;
	size_t user_len, assistant_len, error_len;
	struct trace_packed trace;
	money cost;
};

/* True when the line is a header and nothing else. */
static bool read_header(const char *line, size_t len, struct header *h)
{
	char text[256];
	size_t used = 0;
	uint32_t *us = h->trace.us;
	if (len >= sizeof text)
		return false;
	memcpy(text, line, len);
	text[len] = '\0';
	int n = sscanf(text,
		"%c%1u %zu %zu %zu %c %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32
		" %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 "%zn %" SCNd64 "%zn",
		&h->letter, &h->asked, &h->user_len, &h->assistant_len, &h->error_len,
		&h->trace.finish, &h->trace.prompt_tok, &h->trace.cached_tok, &h->trace.output_tok,
		&us[0], &us[1], &us[2], &us[3], &us[4], &us[5], &us[6], &used, &h->cost, &used);
	/* The cost is not in what an earlier llmfs stored. */
	return n >= 9 + TRACE_PACKED_TIMES && used == len && h->asked <= 1 &&
	       strchr("sl-", h->trace.finish);
}

int conversation_decode(struct conversation *c, uint64_t serial, const char *value, size_t len)
{
	struct header h = {0};
	const char *end = memchr(value, '\n', len);
	if (!end || !read_header(value, (size_t)(end - value), &h))
		return -EBADMSG;
	const char *kind = strchr(state_letters, h.letter), *bytes = end + 1;
	size_t left = len - (size_t)(bytes - value);
	if (!kind || !*kind || h.user_len > left || h.assistant_len > left - h.user_len ||
		h.error_len != left - h.user_len - h.assistant_len)
		return -EBADMSG;
	enum turn_state state = (enum turn_state)(kind - state_letters);
	struct text *user = take(&bytes, h.user_len);
	struct text *assistant = h.assistant_len ? take(&bytes, h.assistant_len) : NULL;
	struct text *error = h.error_len ? take(&bytes, h.error_len) : NULL;
	if (state == TURN_RUNNING) {
		static const char why[] = "daemon restarted";
		state = TURN_FAILED;
		text_put(error);
		error = text_new(why, sizeof why - 1);
	}
	uint64_t next = c->next_serial;
	c->next_serial = serial;
	int r = user ? conversation_add(c, user, NULL, state, assistant, error, h.asked) : -ENOMEM;
	if (r == 0) {
		conversation_last(c)->trace = h.trace;
		conversation_last(c)->cost = h.cost;
	}
	if (r < 0 || c->next_serial < next)
		c->next_serial = next;
	text_put(user);
	text_put(assistant);
	text_put(error);
	return r;
}
