/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts near the border of a rule: its examples whole, cut, with a character changed, in a row,
 * between words, digits and characters of several bytes. Most are about 100 bytes long, so that
 * many can be tried.
 */
#include <stdio.h>
#include <string.h>

#include "tests/gateway/made_text.h"

uint64_t made_text_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

size_t made_text_below(uint64_t *state, size_t n)
{
	return n ? made_text_random(state) % n : 0;
}

/* The start of the character that byte i belongs to. */
static size_t character(const char *s, size_t len, size_t i)
{
	while (i > 0 && i < len && ((unsigned char)s[i] & 0xc0) == 0x80)
		i--;
	return i;
}

/* A piece of an example: whole, a beginning, an end, from the middle, or with one ASCII character
 * changed. Of long ones mostly 300 bytes. */
static void add_fragment(struct buf *out, uint64_t *rng, const struct shipped_text *t)
{
	size_t a = 0, b = t->len, kind = made_text_below(rng, 6);

	if (kind == 2 || kind == 4)
		a = made_text_below(rng, b);
	if (kind == 3 || kind == 4)
		b = a + made_text_below(rng, b - a + 1);
	if (b - a > 600 && made_text_below(rng, 4))
		b = a + 300;
	a = character(t->text, t->len, a);
	b = character(t->text, t->len, b);
	size_t at = out->len;
	buf_append(out, t->text + a, b - a);
	if (kind == 5 && b > a) {
		char *c = &out->data[at + made_text_below(rng, b - a)];
		if ((unsigned char)*c < 0x80)
			*c = " -.0aZ@:/\n"[made_text_below(rng, 10)];
	}
}

const struct shipped_rule *made_text_rule(const struct shipped *s, uint64_t *rng)
{
	const struct shipped_file *f = &s->files[made_text_below(rng, s->n)];
	return &f->rules[made_text_below(rng, f->n)];
}

static void add_filler(struct buf *out, uint64_t *rng)
{
	static const char *const words[] = {"the quick ", "system ", "\n", "your ", ". ", ": ", "@",
		"-", "instructions", "previous ", "\xc3\xa4\xc3\xb6", "\xe2\x82\xac",
		"\xf0\x9f\x98\x80", "\xe4\xb8\xad\xe6\x96\x87", "e\xcc\x81", "ignore ", " and ",
		"=", "\"", "sk-", "eyJ", "\xe2\x80\x8b", "0", "4111 ", "+", "a.b", "://", "-----",
		"<|", "|>", "\r\n", "\t"};
	if (made_text_below(rng, 4) == 0) {
		char digits[32];
		int n = snprintf(
			digits, sizeof digits, "%llu", (unsigned long long)made_text_random(rng));
		buf_append(out, digits, made_text_below(rng, (size_t)n) + 1);
	} else {
		buf_append_str(out, words[made_text_below(rng, sizeof words / sizeof *words)]);
	}
}

void made_text(
	struct buf *out, const struct shipped *s, const struct shipped_rule *about, uint64_t *rng)
{
	size_t parts = 1 + made_text_below(rng, 4);

	buf_clear(out);
	for (size_t i = 0; i < parts; i++) {
		const struct shipped_rule *r =
			made_text_below(rng, 4) ? about : made_text_rule(s, rng);
		for (size_t fill = made_text_below(rng, 4); fill > 1; fill--)
			add_filler(out, rng);
		add_fragment(out, rng, &r->texts[made_text_below(rng, r->n_texts)]);
	}
	if (!out->len || made_text_below(rng, 3) == 0)
		add_filler(out, rng);
}
