/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A turn as it is stored: a line of numbers, then its texts. Later llmfs add numbers at the end of
 * the line, so that what an earlier one has stored is read.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "gateway/conversation.h"

enum { ENCODED_HEAD = 16 + (6 + 3 + TRACE_PACKED_TIMES) * (TEXT_NUMBER_MAX + 1) };
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
	if (t->before)
		p = blank_and_number(p, t->before->len);
	*p++ = '\n';
	return p;
}

int conversation_encode(const struct turn *t, struct buf *out)
{
	int r = buf_reserve(out, ENCODED_HEAD + t->user->len + text_len(t->assistant) +
					 text_len(t->error) + text_len(t->before));
	if (r < 0)
		return r;
	out->len = (size_t)(encode_head(t, out->data + out->len) - out->data);
	r = buf_append(out, t->user->bytes, t->user->len);
	if (r == 0 && t->assistant)
		r = buf_append(out, t->assistant->bytes, t->assistant->len);
	if (r == 0 && t->error)
		r = buf_append(out, t->error->bytes, t->error->len);
	if (r == 0 && t->before)
		r = buf_append(out, t->before->bytes, t->before->len);
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
	size_t user_len, assistant_len, error_len, before_len;
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
		" %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 "%zn %" SCNd64
		"%zn %zu%zn",
		&h->letter, &h->asked, &h->user_len, &h->assistant_len, &h->error_len,
		&h->trace.finish, &h->trace.prompt_tok, &h->trace.cached_tok, &h->trace.output_tok,
		&us[0], &us[1], &us[2], &us[3], &us[4], &us[5], &us[6], &used, &h->cost, &used,
		&h->before_len, &used);
	/* The cost is not in what an earlier llmfs stored, nor what is before it where nothing is.
	 */
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
	if (!kind || !*kind || h.user_len > left || h.assistant_len > left - h.user_len)
		return -EBADMSG;
	left -= h.user_len + h.assistant_len;
	if (h.error_len > left || h.before_len != left - h.error_len)
		return -EBADMSG;
	enum turn_state state = (enum turn_state)(kind - state_letters);
	struct text *user = take(&bytes, h.user_len);
	struct text *assistant = h.assistant_len ? take(&bytes, h.assistant_len) : NULL;
	struct text *error = h.error_len ? take(&bytes, h.error_len) : NULL;
	struct text *before = h.before_len ? take(&bytes, h.before_len) : NULL;
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
		conversation_last(c)->killed = h.letter == state_letters[TURN_RUNNING];
		conversation_set_before(c, text_ref(before));
	}
	if (r < 0 || c->next_serial < next)
		c->next_serial = next;
	text_put(user);
	text_put(assistant);
	text_put(error);
	text_put(before);
	return r;
}
