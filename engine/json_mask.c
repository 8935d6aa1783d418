/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mask looks at every token of the vocabulary. Most tokens are decided without running the
 * automaton: outside of strings by their first byte, inside of strings by having been found to be
 * ordinary text when the vocabulary was made.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/json.h"
#include "engine/json_parts.h"

enum token_kind {
	TOKEN_NEVER, /* no text */
	TOKEN_END,
	TOKEN_PLAIN, /* whole UTF-8 sequences that mean nothing to JSON inside a string */
	TOKEN_OTHER,
};

struct json_vocab {
	const struct tokenizer *tokenizer;
	uint32_t n;
	uint8_t *kinds; /* [n] enum token_kind */
};

static enum token_kind kind_of(const struct tokenizer *t, uint32_t id)
{
	struct json_state s = {.place = STRING};
	size_t len;
	const char *text;

	if (tokenizer_is_end(t, id))
		return TOKEN_END;
	text = tokenizer_text(t, id, &len);
	if (tokenizer_is_control(t, id) || len == 0)
		return TOKEN_NEVER;
	if (memchr(text, '"', len) || memchr(text, '\\', len) || !json_feed(&s, text, len) ||
		s.place != STRING)
		return TOKEN_OTHER;
	return TOKEN_PLAIN;
}

int json_vocab_new(struct json_vocab **out, const struct tokenizer *t)
{
	struct json_vocab *v = calloc(1, sizeof(*v));

	*out = NULL;
	if (!v)
		return -ENOMEM;
	v->tokenizer = t;
	v->n = tokenizer_size(t);
	v->kinds = malloc(v->n ? v->n : 1);
	if (!v->kinds) {
		json_vocab_free(v);
		return -ENOMEM;
	}
	for (uint32_t id = 0; id < v->n; id++)
		v->kinds[id] = (uint8_t)kind_of(t, id);
	*out = v;
	return 0;
}

struct json_vocab *json_vocab_free(struct json_vocab *v)
{
	if (!v)
		return NULL;
	free(v->kinds);
	free(v);
	return NULL;
}

bool json_allows(
	const struct json_vocab *v, const struct json_state *s, uint32_t id, uint32_t n_left)
{
	struct json_state next = *s;
	const char *text;
	size_t len;

	switch (v->kinds[id]) {
	case TOKEN_NEVER:
		return false;
	case TOKEN_END:
		return json_may_end(s);
	case TOKEN_PLAIN:
		if (s->place == STRING)
			return json_bytes_to_end(s) <= n_left;
		break;
	default:
		break;
	}
	text = tokenizer_text(v->tokenizer, id, &len);
	return json_feed(&next, text, len) && json_bytes_to_end(&next) <= n_left;
}

void json_mask(
	const struct json_vocab *v, const struct json_state *s, uint32_t n_left, float *logits)
{
	for (uint32_t id = 0; id < v->n; id++)
		if (!json_allows(v, s, id, n_left))
			logits[id] = -INFINITY;
}

void json_bits(
	const struct json_vocab *v, const struct json_state *s, uint32_t n_left, uint32_t *mask)
{
	for (uint32_t first = 0; first < v->n; first += 32) {
		uint32_t bits = 0;

		for (uint32_t i = 0; i < 32 && first + i < v->n; i++)
			bits |= (uint32_t)json_allows(v, s, first + i, n_left) << i;
		mask[first / 32] = bits;
	}
}
