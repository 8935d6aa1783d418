/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SentencePiece BPE with byte fallback.
 *
 * Spaces become U+2581; a text that opens a sequence gets one in front where the vocabulary wants
 * it. User-defined tokens are taken whole first. Then neighbours are joined, always those whose
 * joint piece has the best score, leftmost first, starting from single characters; what is no piece
 * in the end is written with byte tokens, or, when the vocabulary has none, as the unknown token.
 *
 * A piece of a trained vocabulary has U+2581 only at its beginning, unless the vocabulary was
 * trained otherwise. Where that holds (checked when it is loaded) no join can cross the place
 * before a U+2581 that follows something else, so the text may be cut there without changing the
 * result, and the words are short and mostly pieces themselves; vocab.whole remembers which of them
 * merging leaves whole. Where it does not hold the whole text is one word.
 *
 * Bytes that are not UTF-8 become byte tokens. Immutable after spm_new.
 */
#include "engine/spm.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/merge.h"

#define STACK_PIECES 512
#define SPACE "\xe2\x96\x81"
#define SPACE_BYTES 3

struct spm {
	const struct vocab *vocab;
	uint32_t *keys; /* [n]: the better the score, the lower */
	uint32_t byte_ids[256];
	uint32_t unknown;
	size_t max_piece; /* longest normal or user-defined token */
	bool adds_space;
	bool splits; /* no piece has a space behind something else */
};

struct encoding {
	const struct spm *spm;
	struct token_list *out;
	const char *word;   /* the one being merged */
	bool after_unknown; /* unknown characters in a row are one token */
};

/* ---- loading ---- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int spm_byte_of(const struct vocab *v, uint32_t id)
{
	size_t n;
	const char *text = vocab_text(v, id, &n);

	if (v->kinds[id] != VOCAB_BYTE || n != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
		return -1;
	int high = hex(text[3]), low = hex(text[4]);
	return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Orders as -score does; equal scores get equal keys. */
static uint32_t key_of(float score)
{
	uint32_t bits;

	score = -score + 0.0f; /* no negative zero */
	memcpy(&bits, &score, sizeof(bits));
	return bits >> 31 ? ~bits : bits | 0x80000000u;
}

static int read_scores(struct spm *s, const struct gguf *g, struct err *err)
{
	static const char key[] = "tokenizer.ggml.scores";
	const struct vocab *v = s->vocab;
	size_t n;
	const void *scores = gguf_floats(g, key, &n);
	float score;

	if (!scores || n != v->n)
		return err_set(err, -EBADMSG, "%s has %zu entries for %u tokens", key, n, v->n);
	s->keys = malloc((size_t)v->n * sizeof(*s->keys));
	if (!s->keys)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < v->n; i++) {
		memcpy(&score, (const char *)scores + i * sizeof(score), sizeof(score));
		if (isnan(score))
			return err_set(err, -EBADMSG, "the score of token %u is not a number", i);
		s->keys[i] = key_of(score);
	}
	return 0;
}

static bool is_space(const char *text, size_t n)
{
	return n >= SPACE_BYTES && memcmp(text, SPACE, SPACE_BYTES) == 0;
}

static bool has_inner_space(const char *text, size_t n)
{
	bool behind_other = false;

	for (size_t i = 0; i < n;) {
		bool space = is_space(text + i, n - i);

		if (space && behind_other)
			return true;
		behind_other = !space;
		i += space ? SPACE_BYTES : 1;
	}
	return false;
}

static void look_at_pieces(struct spm *s)
{
	const struct vocab *v = s->vocab;

	s->splits = true;
	for (uint32_t i = 0; i < v->n; i++) {
		size_t n;
		const char *text = vocab_text(v, i, &n);
		int byte = spm_byte_of(v, i);

		if (byte >= 0 && s->byte_ids[byte] == VOCAB_NONE)
			s->byte_ids[byte] = i;
		if (v->kinds[i] == VOCAB_UNKNOWN && s->unknown == VOCAB_NONE)
			s->unknown = i;
		if (v->kinds[i] != VOCAB_NORMAL && v->kinds[i] != VOCAB_USER)
			continue;
		if (n > s->max_piece)
			s->max_piece = n;
		if (s->splits && v->kinds[i] == VOCAB_NORMAL && has_inner_space(text, n))
			s->splits = false;
	}
}

int spm_new(struct spm **out, const struct vocab *v, const struct gguf *g, struct err *err)
{
	struct spm *s;
	int r;

	*out = NULL;
	/* What would have to be done to the text first, and no llama vocabulary asks for. */
	if (gguf_has(g, "tokenizer.ggml.precompiled_charsmap") ||
		gguf_bool(g, "tokenizer.ggml.remove_extra_whitespaces", false))
		return err_set(err, -ENOTSUP,
			"the vocabulary wants its text normalised, which is not supported");
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->vocab = v;
	s->unknown = VOCAB_NONE;
	memset(s->byte_ids, 0xff, sizeof(s->byte_ids));
	s->adds_space = gguf_bool(g, "tokenizer.ggml.add_space_prefix", true);
	r = read_scores(s, g, err);
	if (r == 0)
		look_at_pieces(s);
	*out = r ? spm_free(s) : s;
	return r;
}

struct spm *spm_free(struct spm *s)
{
	if (!s)
		return NULL;
	free(s->keys);
	free(s);
	return NULL;
}

bool spm_adds_space(const struct spm *s)
{
	return s->adds_space;
}

/* ---- encoding ---- */

static int put_bytes(struct encoding *e, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t id = e->spm->byte_ids[(unsigned char)bytes[i]];

		if (id == VOCAB_NONE) { /* no fallback, at least not for this byte */
			if (e->after_unknown || e->spm->unknown == VOCAB_NONE)
				continue;
			id = e->spm->unknown;
		}
		if (token_list_add(e->out, id))
			return -ENOMEM;
		e->after_unknown = id == e->spm->unknown;
	}
	return 0;
}

static int put_piece(struct encoding *e, const struct merge_piece *p)
{
	if (p->id == MERGE_NONE)
		return put_bytes(e, e->word + p->start, p->len);
	e->after_unknown = false;
	return token_list_add(e->out, p->id);
}

static uint32_t joined(const void *arg, const struct merge_piece *left,
	const struct merge_piece *right, uint32_t *key)
{
	const struct encoding *e = arg;
	size_t n = (size_t)left->len + right->len;

	if (n > e->spm->max_piece)
		return MERGE_NONE;
	uint32_t id = vocab_find(e->spm->vocab, e->word + left->start, n);
	if (id == VOCAB_NONE)
		return MERGE_NONE;
	*key = e->spm->keys[id];
	return id;
}

/* Merges a word of valid UTF-8, character by character. */
static int merge_characters(struct encoding *e, const char *word, size_t n)
{
	struct merge_piece on_stack[STACK_PIECES];
	struct merge_piece *pieces = on_stack;
	size_t n_pieces = 0;
	int r = 0;

	if (n >= UINT32_MAX)
		return -ENOMEM;
	if (n > STACK_PIECES)
		pieces = malloc(n * sizeof(*pieces));
	if (!pieces)
		return -ENOMEM;
	e->word = word;
	for (size_t i = 0; i < n; n_pieces++) {
		uint32_t code;
		size_t len = utf8_decode(word + i, n - i, &code);

		pieces[n_pieces] = (struct merge_piece){
			(uint32_t)i, (uint32_t)len, vocab_find(e->spm->vocab, word + i, len)};
		i += len;
	}
	long kept = merge_word(pieces, n_pieces, joined, e);
	if (kept < 0)
		r = (int)kept;
	for (long i = 0; i < kept && r == 0; i++)
		r = put_piece(e, &pieces[i]);
	if (pieces != on_stack)
		free(pieces);
	return r;
}

static int encode_word(struct encoding *e, const char *word, size_t n)
{
	const struct vocab *v = e->spm->vocab;
	uint32_t id = n <= e->spm->max_piece ? vocab_find(v, word, n) : VOCAB_NONE;
	size_t before = e->out->n;
	int r;

	if (id == VOCAB_NONE)
		return merge_characters(e, word, n);
	if (atomic_load_explicit(&v->whole[id], memory_order_relaxed) == VOCAB_WHOLE_YES) {
		e->after_unknown = false;
		return token_list_add(e->out, id);
	}
	r = merge_characters(e, word, n);
	if (r == 0)
		atomic_store_explicit(&v->whole[id],
			e->out->n == before + 1 && e->out->ids[before] == id ? VOCAB_WHOLE_YES
									     : VOCAB_WHOLE_NO,
			memory_order_relaxed);
	return r;
}

/* Valid UTF-8 without user-defined tokens. */
static int encode_words(struct encoding *e, const char *text, size_t n)
{
	if (!e->spm->splits)
		return n > 0 ? encode_word(e, text, n) : 0;
	while (n > 0) {
		size_t end = 0;

		while (is_space(text + end, n - end))
			end += SPACE_BYTES;
		while (end < n && !is_space(text + end, n - end))
			end++;
		int r = encode_word(e, text, end);
		if (r)
			return r;
		text += end;
		n -= end;
	}
	return 0;
}

/* Text without user-defined tokens. */
static int encode_stretch(struct encoding *e, const char *text, size_t n)
{
	int r = 0;

	while (n > 0 && r == 0) {
		size_t valid = utf8_valid_prefix(text, n);

		r = encode_words(e, text, valid);
		text += valid;
		n -= valid;
		if (n > 0 && r == 0) {
			r = put_bytes(e, text, 1);
			text++;
			n--;
		}
	}
	return r;
}

static int encode_escaped(struct encoding *e, const char *text, size_t n)
{
	int r = 0;

	while (n > 0 && r == 0) {
		uint32_t user;
		size_t before = vocab_next_user(e->spm->vocab, text, n, &user), len;

		r = encode_stretch(e, text, before);
		text += before;
		n -= before;
		if (user != VOCAB_NONE && r == 0) {
			vocab_text(e->spm->vocab, user, &len);
			e->after_unknown = false;
			r = token_list_add(e->out, user);
			text += len;
			n -= len;
		}
	}
	return r;
}

int spm_encode(
	const struct spm *s, const char *text, size_t n, bool at_start, struct token_list *out)
{
	struct encoding e = {.spm = s, .out = out};
	size_t n_spaces = 1, to = 0;

	if (n == 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		n_spaces += text[i] == ' ';
	char *escaped = malloc(n + n_spaces * SPACE_BYTES);
	if (!escaped)
		return -ENOMEM;
	if (at_start && s->adds_space) {
		memcpy(escaped, SPACE, SPACE_BYTES);
		to = SPACE_BYTES;
	}
	for (size_t i = 0; i < n; i++) {
		if (text[i] == ' ') {
			memcpy(escaped + to, SPACE, SPACE_BYTES);
			to += SPACE_BYTES;
		} else {
			escaped[to++] = text[i];
		}
	}
	int r = encode_escaped(&e, escaped, to);
	free(escaped);
	return r;
}
