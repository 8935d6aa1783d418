/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of tokens to text that may be shown.
 *
 * First stage: a carry of up to three bytes, the beginning of a UTF-8 sequence. Second stage: each
 * stop string is followed by a Knuth-Morris-Pratt automaton, so a byte costs constant time for each
 * stop string and the match that ends first wins, however the text arrived. Of the text that is
 * whole, the last `max over automata (matched)` bytes are held back in `held`, all else is
 * released. A stop string is UTF-8 and begins at the start of a sequence, so text is always
 * released in whole sequences.
 */
#include "engine/detok.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

struct stop {
	char *text;
	uint16_t
		*border; /* [len] of text[0..=i], the longest proper prefix that is also a suffix */
	uint32_t len;
	uint32_t matched;
};

struct detok {
	struct stop *stops;
	size_t n_stops;
	char carry[4];
	size_t n_carry;
	struct buf held;
	bool stopped;
};

static int stop_init(struct stop *s, const char *text, struct err *err)
{
	size_t len = strlen(text);
	uint32_t k = 0;

	if (len == 0)
		return err_set(err, -EINVAL, "a stop string is empty");
	if (len > DETOK_MAX_STOP_BYTES)
		return err_set(err, -EINVAL, "a stop string is longer than %d bytes",
			DETOK_MAX_STOP_BYTES);
	if (utf8_valid_prefix(text, len) != len)
		return err_set(err, -EINVAL, "a stop string is not UTF-8");
	s->text = strdup(text);
	s->border = calloc(len, sizeof(*s->border));
	if (!s->text || !s->border)
		return err_set(err, -ENOMEM, "not enough memory for the stop strings");
	s->len = (uint32_t)len;
	for (uint32_t i = 1; i < s->len; i++) {
		while (k > 0 && text[i] != text[k])
			k = s->border[k - 1];
		if (text[i] == text[k])
			k++;
		s->border[i] = (uint16_t)k;
	}
	return 0;
}

int detok_new(struct detok **out, const char *const *stops, size_t n_stops, struct err *err)
{
	struct detok *d;
	int r = 0;

	*out = NULL;
	if (n_stops > DETOK_MAX_STOPS)
		return err_set(err, -EINVAL, "more than %d stop strings", DETOK_MAX_STOPS);
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_set(err, -ENOMEM, "not enough memory for a request");
	if (n_stops > 0) {
		d->stops = calloc(n_stops, sizeof(*d->stops));
		if (!d->stops)
			r = err_set(err, -ENOMEM, "not enough memory for the stop strings");
	}
	for (size_t i = 0; i < n_stops && r == 0; i++) {
		d->n_stops++;
		r = stop_init(&d->stops[i], stops[i], err);
	}
	if (r < 0)
		d = detok_free(d);
	*out = d;
	return r;
}

struct detok *detok_free(struct detok *d)
{
	if (!d)
		return NULL;
	for (size_t i = 0; i < d->n_stops; i++) {
		free(d->stops[i].text);
		free(d->stops[i].border);
	}
	free(d->stops);
	buf_free(&d->held);
	free(d);
	return NULL;
}

/* Moves the automata over one byte; the length of the longest stop string that ends here, or 0. */
static uint32_t match_byte(struct detok *d, char c)
{
	uint32_t ended = 0;

	for (size_t i = 0; i < d->n_stops; i++) {
		struct stop *s = &d->stops[i];

		while (s->matched > 0 && s->text[s->matched] != c)
			s->matched = s->border[s->matched - 1];
		if (s->text[s->matched] == c)
			s->matched++;
		if (s->matched == s->len && s->len > ended)
			ended = s->len;
	}
	return ended;
}

/* Takes one whole sequence into `held`. */
static int take_sequence(struct detok *d, const char *bytes, size_t n)
{
	int r = buf_append(&d->held, bytes, n);
	uint32_t ended;

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		ended = match_byte(d, bytes[i]);
		if (ended > 0) {
			/* A stop string ends where a sequence ends: this was its last byte. */
			d->held.len -= ended;
			d->stopped = true;
			return DETOK_STOP;
		}
	}
	return 0;
}

/* Appends what of `held` cannot become a part of a stop string any more. */
static int release_text(struct detok *d, struct buf *text)
{
	uint32_t keep = 0;
	size_t n;
	int r;

	for (size_t i = 0; i < d->n_stops && !d->stopped; i++)
		if (d->stops[i].matched > keep)
			keep = d->stops[i].matched;
	n = d->held.len - keep;
	if (n == 0)
		return 0;
	r = buf_append(text, d->held.data, n);
	if (r == 0)
		buf_consume(&d->held, n);
	return r;
}

/* How many bytes at the front of bytes[0..n) are one broken sequence: at least 1. */
static size_t broken_len(const char *bytes, size_t n)
{
	size_t len = 1;

	while (len < 3 && len < n && utf8_is_partial(bytes, len + 1))
		len++;
	return len;
}

/* Takes the whole and the broken sequences of bytes[0..n); *rest bytes at its end are neither. */
static int take_bytes(struct detok *d, const char *bytes, size_t n, size_t *rest)
{
	size_t at = 0;
	int r = 0;

	while (at < n && r == 0) {
		uint32_t codepoint;
		size_t left = n - at;
		size_t len = utf8_decode(bytes + at, left, &codepoint);

		if (len > 0) {
			r = take_sequence(d, bytes + at, len);
		} else if (left <= 3 && utf8_is_partial(bytes + at, left)) {
			break;
		} else {
			len = broken_len(bytes + at, left);
			r = take_sequence(d, "\xEF\xBF\xBD", 3);
		}
		at += len;
	}
	*rest = n - at;
	return r;
}

/* Completes the carried sequence with as few bytes as it needs. Returns how many it took, or an
 * error; the carry is empty afterwards unless all n were taken. */
static int feed_carry(struct detok *d, const char *bytes, size_t n, size_t *taken)
{
	size_t rest = d->n_carry;
	int r = 0;

	*taken = 0;
	while (d->n_carry > 0 && *taken < n && r == 0) {
		size_t before = d->n_carry;

		d->carry[d->n_carry++] = bytes[(*taken)++];
		r = take_bytes(d, d->carry, before + 1, &rest);
		if (r == 0 && rest > 0)
			memmove(d->carry, d->carry + before + 1 - rest, rest);
		d->n_carry = rest;
	}
	return r;
}

int detok_feed(struct detok *d, const char *bytes, size_t n, struct buf *text)
{
	size_t taken, rest = 0;
	int r, released;

	if (d->stopped)
		return DETOK_STOP;
	r = feed_carry(d, bytes, n, &taken);
	if (r == 0 && taken < n) {
		r = take_bytes(d, bytes + taken, n - taken, &rest);
		if (r == 0 && rest > 0) {
			memcpy(d->carry, bytes + n - rest, rest);
			d->n_carry = rest;
		}
	}
	if (r < 0)
		return r;
	released = release_text(d, text);
	return released < 0 ? released : r;
}

int detok_finish(struct detok *d, struct buf *text)
{
	int r = 0, released;

	if (d->stopped)
		return 0;
	if (d->n_carry > 0)
		r = take_sequence(d, "\xEF\xBF\xBD", 3);
	d->n_carry = 0;
	d->stopped = true; /* nothing is held back from now on */
	if (r < 0)
		return r;
	released = release_text(d, text);
	return released < 0 ? released : r;
}
