/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much text fits is known only when it is tokens. So a length is guessed from the bytes that a
 * token had in the piece before, rendered, and cut down by what it was too long; the guesses get
 * better from piece to piece. A text is never rendered that is longer than tokens usually are, or a
 * long one would be tokenised for nothing.
 *
 * One thread at a time; knows nothing of requests.
 */
#include "gateway/pieces.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

static const size_t inline_bytes = 4096; /* as long conversations: request.c */
static const size_t answer_tok = 16;     /* what is left of the context for the verdict */
static const size_t least_room_tok = 16;
static const double most_bytes_per_tok = 8; /* English: about 4 */

static const char *judged(const struct pieces *p, size_t *len)
{
	*len = p->stage == GUARD_INPUT ? p->user_len : p->agent_len;
	return p->stage == GUARD_INPUT ? p->user : p->agent;
}

/* The longest beginning of at most n bytes that ends between characters. */
static size_t whole_characters(const char *text, size_t len, size_t n)
{
	if (n >= len)
		return len;
	while (n > 0 && utf8_is_inside(text[n]))
		n--;
	return n;
}

bool pieces_are_long(const struct pieces *p)
{
	return p->user_len + p->agent_len > inline_bytes;
}

/* Asks about `len` bytes of the judged text. */
static int render(const struct pieces *p, size_t from, size_t len, const struct provider *provider,
	void *handle, struct provider_prompt *out, struct err *err)
{
	struct buf text = {0};
	const char *user = p->user + p->context_from;
	size_t user_len = p->user_len - p->context_from;
	int r = p->stage == GUARD_INPUT ? moderation_prompt(p->moderation, p->stage, p->user + from,
						  len, NULL, 0, &text)
					: moderation_prompt(p->moderation, p->stage, user, user_len,
						  p->agent + from, len, &text);
	struct provider_message message = {PROVIDER_USER, text.data, text.len};
	r = r < 0 ? err_set(err, r, "not enough memory for what the judge is asked")
		  : provider->render(handle, &message, 1, out, err);
	buf_free(&text);
	return r;
}

static void drop(struct provider_prompt *out)
{
	free(out->data);
	*out = (struct provider_prompt){0};
}

/* What the form takes without any text, and what is left. */
static int measure(struct pieces *p, const struct provider *provider, void *handle, struct err *err)
{
	struct pieces empty = {
		.moderation = p->moderation, .stage = p->stage, .user = "", .agent = ""};
	struct provider_limits limits;
	struct provider_prompt prompt = {0};
	provider->limits(handle, &limits);
	int r = render(&empty, 0, 0, provider, handle, &prompt, err);
	if (r < 0)
		return r;
	p->own_tok = prompt.n_tok;
	drop(&prompt);
	if (p->own_tok + least_room_tok + answer_tok > limits.context_tok)
		return err_set(err, -EMSGSIZE,
			"the judge's context of %" PRIu32 " tokens is too short: what it is asked "
			"takes %zu without the text",
			limits.context_tok, p->own_tok);
	p->room_tok = limits.context_tok - p->own_tok - answer_tok;
	p->bytes_per_tok = most_bytes_per_tok;
	return 0;
}

/* Keeps as much of the end of the prompt as a quarter of the room. */
static int cut_context(
	struct pieces *p, const struct provider *provider, void *handle, struct err *err)
{
	size_t most = p->room_tok / 4, n_tok = 0;
	size_t len = (size_t)((double)most * most_bytes_per_tok);
	len = len < p->user_len ? len : p->user_len;
	for (;;) {
		size_t from = p->user_len - len;
		while (from < p->user_len && utf8_is_inside(p->user[from]))
			from++;
		len = p->user_len - from;
		int r = provider->count(handle, p->user + from, len, &n_tok, err);
		if (r < 0)
			return r;
		if (n_tok <= most) {
			p->context_from = from;
			p->context_tok = n_tok;
			return 0;
		}
		len = len * most / n_tok; /* less: most < n_tok */
	}
}

/* 0: *out has the whole; 1: it does not fit. */
static int try_whole(struct pieces *p, const struct provider *provider, void *handle,
	struct provider_prompt *out, struct err *err)
{
	size_t len, total = p->user_len + (p->stage == GUARD_OUTPUT ? p->agent_len : 0);
	judged(p, &len);
	if ((double)total > (double)p->room_tok * most_bytes_per_tok)
		return 1;
	int r = render(p, 0, len, provider, handle, out, err);
	if (r < 0)
		return r;
	if (out->n_tok <= p->own_tok + p->room_tok) {
		p->finished = true;
		return 0;
	}
	drop(out);
	return 1;
}

/* A piece of `len` bytes from p->from on was taken: where the next begins. */
static void advance(struct pieces *p, size_t len)
{
	size_t total, overlap = len / 4 < PIECES_OVERLAP ? len / 4 : PIECES_OVERLAP;
	const char *text = judged(p, &total);
	size_t end = p->from + len;
	p->finished = end == total;
	p->from = end - overlap;
	while (p->from < end && utf8_is_inside(text[p->from]))
		p->from++;
}

static int next_piece(struct pieces *p, const struct provider *provider, void *handle,
	struct provider_prompt *out, struct err *err)
{
	size_t total;
	const char *text = judged(p, &total) + p->from;
	size_t rest = total - p->from, most = p->room_tok - p->context_tok;
	size_t len = whole_characters(text, rest, (size_t)((double)most * p->bytes_per_tok));
	while (len > 0) {
		int r = render(p, p->from, len, provider, handle, out, err);
		if (r < 0)
			return r;
		size_t around = p->own_tok + p->context_tok; /* about: borders may merge */
		size_t n_tok = out->n_tok > around ? out->n_tok - around : 1;
		p->bytes_per_tok = (double)len / (double)n_tok * 15 / 16;
		if (out->n_tok <= p->own_tok + p->room_tok) {
			advance(p, len);
			return 0;
		}
		drop(out);
		n_tok = n_tok > most ? n_tok : most;
		len = whole_characters(text, rest, len * most / n_tok * 15 / 16);
	}
	return err_set(err, -EMSGSIZE, "the judge's context is too short for a single character");
}

int pieces_next(struct pieces *p, const struct provider *provider, void *handle,
	struct provider_prompt *out, struct err *err)
{
	int r = 0;
	*out = (struct provider_prompt){0};
	if (p->finished)
		return 1;
	if (p->n++ == 0) {
		r = measure(p, provider, handle, err);
		r = r ? r : try_whole(p, provider, handle, out, err);
		if (r <= 0)
			return r;
		r = p->stage == GUARD_OUTPUT ? cut_context(p, provider, handle, err) : 0;
	}
	return r ? r : next_piece(p, provider, handle, out, err);
}
