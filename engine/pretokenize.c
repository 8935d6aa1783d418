/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pre-tokenizer patterns.
 *
 * A vocabulary is only right together with the pattern that cut the text it was trained on, so the
 * patterns here say exactly what the published ones say; a vocabulary with a name that is not in
 * the table is refused, because a nearly right pattern gives nearly right answers. They are written
 * with two macros where PCRE2 and the regular expressions of the training libraries differ: white
 * space (for PCRE2, \s in Unicode mode also means U+180E) is spelled out.
 *
 * Every pattern matches at every place of every text, so splitting is: match, hand on, go on behind
 * it. What would not match all the same is handed on as a word of its own. No pattern backtracks
 * more than once over what it has read, so splitting is linear.
 *
 * What is a letter is PCRE2's word, and the libraries have a newer or older edition of Unicode: a
 * character assigned between the two may be cut off from its neighbours by one and not by the
 * other. The ids are the same all the same unless the vocabulary has merges of such characters with
 * others.
 *
 * The compiled patterns are shared by all threads; match data belongs to a call.
 */
#include "engine/pretokenize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The characters with the Unicode property White_Space, for use inside [...]. */
#define WS                                                                                         \
	"\\x{9}-\\x{d} \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"      \
	"\\x{205f}\\x{3000}"
#define LAST_SPACES "[" WS "]+(?![^" WS "])|[" WS "]+"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" WS "\\p{L}\\p{N}]+|" LAST_SPACES

/* The common shape of the later ones: letters with any one sign before them, so many digits, signs
 * with the line ends behind them, line ends with the space before them. */
#define MODERN(digits)                                                                             \
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^" WS            \
	"\\p{L}\\p{N}]+[\\r\\n]*|[" WS "]*[\\r\\n]+|" LAST_SPACES

#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define TEKKEN                                                                                     \
	"[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER        \
	"*|\\p{N}| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n/]*|[" WS "]*[\\r\\n]+|" LAST_SPACES

static const struct row {
	const char *name;
	const char *pattern;
	bool digits_first; /* every digit is cut out before the pattern is applied */
	bool ignores_merges;
} rows[] = {
	{"gpt-2", GPT2, false, false},
	{"default", GPT2, false, false},
	{"smollm", GPT2, true, false},
	{"starcoder", GPT2, true, false},
	{"llama-bpe", MODERN("\\p{N}{1,3}"), false, true},
	{"llama3", MODERN("\\p{N}{1,3}"), false, true},
	{"qwen2", MODERN("\\p{N}"), false, false},
	{"tekken", TEKKEN, false, true},
};

#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

struct pretokenizer {
	const struct row *row;
	pcre2_code *code;
	pcre2_code *digit; /* NULL unless row->digits_first */
	bool jit;
};

struct split {
	const struct pretokenizer *p;
	pcre2_match_data *match;
	pretokenizer_word_fn *word;
	void *arg;
};

static pcre2_code *compile(const char *pattern, bool *jit)
{
	int code;
	PCRE2_SIZE at;
	pcre2_code *c = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
		PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &code, &at, NULL);

	if (c && pcre2_jit_compile(c, PCRE2_JIT_COMPLETE))
		*jit = false; /* a hardened kernel: the interpreter does the same, slower */
	return c;
}

static int unknown_name(const char *name, size_t len, struct err *err)
{
	char known[128] = "";
	size_t n = 0;

	for (size_t i = 0; i < N_ROWS; i++)
		n += (size_t)snprintf(
			known + n, sizeof(known) - n, "%s%s", i ? ", " : "", rows[i].name);
	for (size_t i = 0; i < len; i++)
		if (name[i] <= ' ' || name[i] > '~')
			len = i;
	return err_set(err, -ENOTSUP, "the pre-tokenizer \"%.*s\" is not known; known are %s",
		(int)(len < 64 ? len : 64), name, known);
}

int pretokenizer_new(struct pretokenizer **out, const char *name, size_t len, struct err *err)
{
	struct pretokenizer *p;
	size_t i = 0;

	*out = NULL;
	while (i < N_ROWS && (strlen(rows[i].name) != len || memcmp(rows[i].name, name, len) != 0))
		i++;
	if (i == N_ROWS)
		return unknown_name(name, len, err);
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	p->row = &rows[i];
	p->jit = true;
	p->code = compile(p->row->pattern, &p->jit);
	if (p->row->digits_first)
		p->digit = compile("\\p{N}", &p->jit);
	if (!p->code || (p->row->digits_first && !p->digit)) {
		pretokenizer_free(p);
		return err_set(err, -ENOMEM, "out of memory");
	}
	*out = p;
	return 0;
}

struct pretokenizer *pretokenizer_free(struct pretokenizer *p)
{
	if (!p)
		return NULL;
	pcre2_code_free(p->code);
	pcre2_code_free(p->digit);
	free(p);
	return NULL;
}

bool pretokenizer_ignores_merges(const struct pretokenizer *p)
{
	return p->row->ignores_merges;
}

/* The next match at or behind `from`: 0, or -ENOMEM. *end is `n` and *start too when there is none.
 */
static int next_match(const struct split *s, const pcre2_code *code, const char *text, size_t n,
	size_t from, size_t *start, size_t *end)
{
	PCRE2_SPTR subject = (PCRE2_SPTR)text;
	int r = PCRE2_ERROR_JIT_STACKLIMIT;

	if (s->p->jit)
		r = pcre2_jit_match(code, subject, n, from, 0, s->match, NULL);
	if (r == PCRE2_ERROR_JIT_STACKLIMIT)
		r = pcre2_match(
			code, subject, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->match, NULL);
	*start = *end = n;
	if (r == PCRE2_ERROR_NOMATCH)
		return 0;
	if (r < 0)
		return -ENOMEM; /* the only thing that can run out */
	const PCRE2_SIZE *found = pcre2_get_ovector_pointer(s->match);
	*start = found[0];
	*end = found[1];
	return 0;
}

static int split_words(const struct split *s, const char *text, size_t n)
{
	size_t at = 0, start, end;
	int r = 0;

	while (at < n && r == 0) {
		r = next_match(s, s->p->code, text, n, at, &start, &end);
		if (r == 0 && start > at)
			r = s->word(s->arg, text + at, start - at);
		if (r == 0 && end > start)
			r = s->word(s->arg, text + start, end - start);
		at = end > at ? end : n;
	}
	return r;
}

static int split_digits(const struct split *s, const char *text, size_t n)
{
	size_t at = 0, start, end;
	int r = 0;

	while (at < n && r == 0) {
		r = next_match(s, s->p->digit, text, n, at, &start, &end);
		if (r == 0)
			r = split_words(s, text + at, start - at);
		if (r == 0 && end > start)
			r = s->word(s->arg, text + start, end - start);
		at = end;
	}
	return r;
}

int pretokenizer_split(const struct pretokenizer *p, const char *text, size_t n,
	pretokenizer_word_fn *word, void *arg)
{
	struct split s = {p, pcre2_match_data_create(1, NULL), word, arg};
	int r;

	if (!s.match)
		return -ENOMEM;
	r = p->digit ? split_digits(&s, text, n) : split_words(&s, text, n);
	pcre2_match_data_free(s.match);
	return r;
}
