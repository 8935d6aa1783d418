/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WordPiece: a text is folded to lower case without accents, cut at white space and around every
 * sign and CJK ideograph, and each word is covered from its beginning with the longest token there
 * is. A word that cannot be covered is one [UNK], whole; so is one of more than 100 characters.
 *
 * In the vocabulary of a GGUF file a token that begins a word has U+2581 in front, one that goes on
 * in a word has nothing ("##" elsewhere). A word is collected with that mark in front, so that both
 * look-ups read the same bytes.
 *
 * The marks [CLS], [SEP] and their like never come out of a text: brackets are signs, and the
 * vocabulary keeps control tokens out of its look-ups.
 *
 * Marks of combining classes are not put in canonical order: of those that are kept (not Mn) there
 * are four, in no vocabulary. Immutable; any thread.
 */
#include "engine/wordpiece.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/wordpiece_tables.h"

#define MARK "\xe2\x96\x81" /* U+2581 */
#define MARK_BYTES 3

struct wordpiece {
	const struct vocab *vocab;
	uint32_t unknown;
	uint32_t max_bytes; /* of a token */
};

/* A word as far as it has come. */
struct word {
	char text[MARK_BYTES + 4 * WORDPIECE_MAX_WORD];
	size_t len;
	uint32_t n; /* code points; beyond WORDPIECE_MAX_WORD they are only counted */
};

/* ---- one code point ---- */

static bool in_ranges(const struct wordpiece_range *r, uint32_t n, uint32_t c)
{
	uint32_t low = 0, high = n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (r[middle].last < c)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && r[low].first <= c;
}

static bool is_space(uint32_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
	       c == 0x205f || c == 0x3000;
}

static bool is_ideograph(uint32_t c)
{
	static const struct wordpiece_range ideographs[] = {
		{0x3400, 0x4dbf},
		{0x4e00, 0x9fff},
		{0xf900, 0xfaff},
		{0x20000, 0x2a6df},
		{0x2a700, 0x2b73f},
		{0x2b740, 0x2b81f},
		{0x2b820, 0x2ceaf},
		{0x2f800, 0x2fa1f},
	};

	return c >= 0x3400 && in_ranges(ideographs, sizeof ideographs / sizeof ideographs[0], c);
}

static uint32_t fold_hangul(uint32_t syllable, uint32_t *out)
{
	uint32_t s = syllable - 0xac00;

	out[0] = 0x1100 + s / 588;
	out[1] = 0x1161 + s % 588 / 28;
	out[2] = 0x11a7 + s % 28;
	return s % 28 ? 3 : 2;
}

static const struct wordpiece_run *find_run(uint32_t c)
{
	uint32_t low = 0, high = wordpiece_n_runs;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (wordpiece_runs[middle].last < c)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == wordpiece_n_runs || wordpiece_runs[low].first > c)
		return NULL;
	return (c - wordpiece_runs[low].first) % (uint32_t)wordpiece_runs[low].step == 0
		       ? &wordpiece_runs[low]
		       : NULL;
}

static const struct wordpiece_several *find_several(uint32_t c)
{
	uint32_t low = 0, high = wordpiece_n_several;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (wordpiece_several[middle].from < c)
			low = middle + 1;
		else
			high = middle;
	}
	return low < wordpiece_n_several && wordpiece_several[low].from == c
		       ? &wordpiece_several[low]
		       : NULL;
}

uint32_t wordpiece_fold(uint32_t c, uint32_t out[WORDPIECE_MAX_PARTS])
{
	const struct wordpiece_run *run;
	const struct wordpiece_several *several;

	out[0] = c;
	if (c >= ' ' && c < 127) {
		out[0] = c >= 'A' && c <= 'Z' ? c + 32 : c;
		return 1;
	}
	if (is_space(c)) {
		out[0] = ' ';
		return 1;
	}
	if (in_ranges(wordpiece_dropped, wordpiece_n_dropped, c))
		return 0;
	if (c >= 0xac00 && c <= 0xd7a3)
		return fold_hangul(c, out);
	run = find_run(c);
	if (run) {
		out[0] = (uint32_t)((int32_t)c + run->delta);
		return 1;
	}
	several = find_several(c);
	if (several) {
		memcpy(out, wordpiece_pool + several->at, several->n * sizeof *out);
		return several->n;
	}
	return 1;
}

/* ---- one word ---- */

static void begin(struct word *word)
{
	memcpy(word->text, MARK, MARK_BYTES);
	word->len = MARK_BYTES;
	word->n = 0;
}

static void add(struct word *word, uint32_t c)
{
	if (++word->n <= WORDPIECE_MAX_WORD)
		word->len += utf8_encode(c, word->text + word->len);
}

/* The longest token that text[0..n) begins with and its bytes, or VOCAB_NONE. */
static uint32_t longest(const struct wordpiece *w, const char *text, size_t n, size_t *bytes)
{
	size_t len = n < w->max_bytes ? n : w->max_bytes;

	for (; len > 0; len--) {
		uint32_t id;

		if (len < n && utf8_is_inside(text[len]))
			continue; /* within a character */
		id = vocab_find(w->vocab, text, len);
		if (id != VOCAB_NONE) {
			*bytes = len;
			return id;
		}
	}
	return VOCAB_NONE;
}

/* Covers the word with tokens and empties it. */
static int cover(const struct wordpiece *w, struct word *word, struct token_list *out)
{
	size_t at = 0, before = out->n, bytes = 0;
	int r = 0;

	if (word->n == 0)
		return 0;
	while (at < word->len && !r) {
		uint32_t id = VOCAB_NONE;

		size_t left = word->len - at;

		if (at > 0 && left > MARK_BYTES && memcmp(word->text + at, MARK, MARK_BYTES) == 0)
			left = MARK_BYTES; /* the text's own: what has more begins words */
		if (word->n <= WORDPIECE_MAX_WORD)
			id = longest(w, word->text + at, left, &bytes);
		if (id == VOCAB_NONE || (at == 0 && bytes <= MARK_BYTES)) {
			out->n = before; /* one for the whole word */
			r = token_list_add(out, w->unknown);
			break;
		}
		r = token_list_add(out, id);
		at += bytes;
	}
	begin(word);
	return r;
}

/* ---- a text ---- */

/* One folded code point: part of the word, its end, or a word of its own. */
static int take(const struct wordpiece *w, struct word *word, uint32_t c, bool alone,
	struct token_list *out)
{
	int r;

	if (c == ' ')
		return cover(w, word, out);
	if (!alone && !in_ranges(wordpiece_punctuation, wordpiece_n_punctuation, c)) {
		add(word, c);
		return 0;
	}
	r = cover(w, word, out);
	if (r)
		return r;
	add(word, c);
	return cover(w, word, out);
}

int wordpiece_encode(
	const struct wordpiece *w, const char *text, size_t n, size_t most, struct token_list *out)
{
	size_t end = out->n + most > most ? out->n + most : SIZE_MAX, at = 0;
	uint32_t parts[WORDPIECE_MAX_PARTS], c;
	struct word word;
	int r = 0;

	begin(&word);
	while (at < n && out->n < end && !r) {
		size_t len = utf8_decode(text + at, n - at, &c);

		at += len ? len : 1;
		if (len == 0)
			continue;
		bool alone = is_ideograph(c);
		uint32_t n_parts = wordpiece_fold(c, parts);
		for (uint32_t i = 0; i < n_parts && !r; i++)
			r = take(w, &word, parts[i], alone, out);
	}
	if (!r && out->n < end)
		r = cover(w, &word, out);
	out->n = out->n < end ? out->n : end;
	return r;
}

/* ---- the object ---- */

int wordpiece_new(
	struct wordpiece **out, const struct vocab *v, const struct gguf *g, struct err *err)
{
	uint64_t unknown = gguf_uint(g, "tokenizer.ggml.unknown_token_id", 100);
	struct wordpiece *w;
	uint32_t n_marked = 0, most = 0;
	size_t len;

	*out = NULL;
	for (uint32_t i = 0; i < v->n; i++) {
		const char *text = vocab_text(v, i, &len);

		n_marked += len > MARK_BYTES && memcmp(text, MARK, MARK_BYTES) == 0;
		most = len > most ? (uint32_t)len : most;
	}
	if (n_marked == 0)
		return err_set(err, -ENOTSUP,
			"no token of this WordPiece vocabulary begins a word: they should have "
			"U+2581 in front");
	if (unknown >= v->n)
		return err_set(err, -EBADMSG,
			"tokenizer.ggml.unknown_token_id is no token: the vocabulary has %u", v->n);
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(err, -ENOMEM, "out of memory");
	*w = (struct wordpiece){v, (uint32_t)unknown, most};
	*out = w;
	return 0;
}

struct wordpiece *wordpiece_free(struct wordpiece *w)
{
	free(w);
	return NULL;
}
