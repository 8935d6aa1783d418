/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words whose probabilities a request asks for. Two questions are answered here and nowhere
 * else: which token a word is, and at which position of the answer it is looked for. Both have to
 * do with white space that models write before they say something (Llama Guard 3 begins with
 * "\n\n"), so both skip it.
 *
 * The picker looks, on a thread of the pool; the object is the sequence's and is changed on the
 * worker thread only.
 */
#include "engine/candidates.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/utf8.h"

#define MAX_TEXT 256

/* What the text of a token, or a candidate, consists of. "" is not white space. */
static bool is_white(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (text[i] != ' ' && !(text[i] >= '\t' && text[i] <= '\r'))
			return false;
	return n > 0;
}

static bool is_white_token(const struct tokenizer *t, uint32_t id)
{
	size_t n;
	const char *text = tokenizer_text(t, id, &n);

	return is_white(text, n);
}

static int check(const char *text, struct err *err)
{
	size_t n = strnlen(text, MAX_TEXT + 1);

	if (n == 0 || n > MAX_TEXT || is_white(text, n))
		return err_set(err, -EINVAL,
			"a candidate has 1 to %d bytes and is more than white space", MAX_TEXT);
	if (utf8_valid_prefix(text, n) != n)
		return err_set(err, -EINVAL, "a candidate is not UTF-8");
	return 0;
}

/* The token of a text that was checked. */
static int find(const struct tokenizer *t, const char *text, bool behind_space, uint32_t *id,
	struct err *err)
{
	char spaced[MAX_TEXT + 2];
	struct token_list list = {0};
	size_t n = strlen(text), i = 0;
	int r;

	spaced[0] = ' ';
	memcpy(spaced + 1, text, n + 1);
	r = tokenizer_encode(
		t, behind_space ? spaced : text, behind_space ? n + 1 : n, false, &list);
	if (r < 0) {
		token_list_free(&list);
		return err_set(err, r, "not enough memory for a candidate");
	}
	while (i < list.n && is_white_token(t, list.ids[i]))
		i++;
	if (i < list.n)
		*id = list.ids[i];
	else
		r = err_set(err, -EINVAL, "the vocabulary has no token for a candidate");
	token_list_free(&list);
	return r;
}

int candidates_find(struct candidates *out, const struct tokenizer *t, const char *const *texts,
	size_t n, bool behind_space, struct err *err)
{
	*out = (struct candidates){0};
	if (n > ENGINE_CANDIDATES_MAX)
		return err_set(
			err, -EINVAL, "a request has at most %d candidates", ENGINE_CANDIDATES_MAX);
	for (size_t i = 0; i < n; i++) {
		int r = check(texts[i], err);

		if (r == 0)
			r = find(t, texts[i], behind_space, &out->ids[i], err);
		if (r < 0)
			return r;
		for (size_t k = 0; k < i; k++)
			if (out->ids[k] == out->ids[i])
				return err_set(err, -EINVAL,
					"the candidates %.32s and %.32s begin with the same token",
					texts[k], texts[i]);
		out->p[i] = NAN;
	}
	out->n = n;
	return 0;
}

bool candidates_look(const struct candidates *c, const struct tokenizer *t,
	const struct sampler_facts *facts, float *p)
{
	if (facts->mass.total == 0 || is_white_token(t, facts->best_id))
		return false;
	for (size_t i = 0; i < c->n; i++)
		p[i] = sampler_share(&facts->mass, facts->candidates[i]);
	return true;
}
