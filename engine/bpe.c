/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte-level BPE.
 *
 * Text goes through three sieves: user-defined tokens are found first and taken whole; what lies
 * between is cut into stretches of valid UTF-8 and bytes that are none (those become the byte
 * tokens at once); the stretches are cut into words by the pre-tokenizer, and each word is merged
 * from its bytes by the ranked merge list.
 *
 * Most words of ordinary text are tokens. Whether merging would give just that token is worked out
 * when such a word is first met and remembered in vocab.whole, so for most words the work is one
 * look into a hash table.
 *
 * In the file a byte is written as a printable character (33-126, 161-172 and 174-255 as
 * themselves, the others as U+0100 and up, in order); here tokens have their true bytes. A byte
 * that is no token is left out of the ids, as the libraries do it.
 *
 * Immutable after bpe_new.
 */
#include "engine/bpe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/merge.h"
#include "engine/pretokenize.h"

#define STACK_PIECES 512

struct merge_rule {
	uint64_t pair; /* left id << 32 | right id; NO_PAIR: free */
	uint32_t rank, id;
};

#define NO_PAIR UINT64_MAX

struct bpe {
	const struct vocab *vocab;
	struct pretokenizer *pre;
	uint32_t byte_ids[256];
	struct merge_rule *rules;
	size_t mask;
	bool ignores_merges;
};

struct encoding {
	const struct bpe *bpe;
	struct token_list *out;
};

/* ---- the alphabet ---- */

static int byte_of(uint32_t code)
{
	if ((code > 32 && code < 127) || (code > 160 && code < 256 && code != 173))
		return (int)code;
	if (code < 256 || code > 256 + 67)
		return -1;
	code -= 256;
	if (code <= 32)
		return (int)code;
	return code == 67 ? 173 : (int)(127 + code - 33);
}

/* Writes the bytes a text stands for to out (never more than the text has); false when it has a
 * character that stands for none. All that stand for one are written with one or two bytes. */
static bool decode(const char *text, size_t n, char *out, size_t *out_n)
{
	const unsigned char *t = (const unsigned char *)text;

	*out_n = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t code = t[i];

		if (code >= 0x80) {
			if (code < 0xc2 || code > 0xdf || i + 1 == n || (t[i + 1] & 0xc0) != 0x80)
				return false;
			code = (code & 0x1f) << 6 | (t[++i] & 0x3f);
		}
		int byte = byte_of(code);
		if (byte < 0)
			return false;
		out[(*out_n)++] = (char)byte;
	}
	return true;
}

void bpe_decode_tokens(struct vocab *v)
{
	char buffer[VOCAB_MAX_TOKEN_BYTES];
	uint32_t to = 0;

	for (uint32_t i = 0; i < v->n; i++) {
		uint32_t from = v->starts[i];
		size_t n = v->starts[i + 1] - from, decoded = n;
		bool raw = v->kinds[i] != VOCAB_NORMAL;

		if (!raw && !decode(v->bytes + from, n, buffer, &decoded)) {
			/* No text becomes this one, but it can still be an answer. */
			v->kinds[i] = VOCAB_UNUSED;
			raw = true;
		}
		memmove(v->bytes + to, raw ? v->bytes + from : buffer, raw ? n : decoded);
		v->starts[i] = to;
		to += (uint32_t)(raw ? n : decoded);
	}
	v->starts[v->n] = to;
}

/* ---- the merge rules ---- */

static size_t rule_slot(const struct bpe *b, uint64_t pair)
{
	__uint128_t h = (__uint128_t)(pair ^ b->vocab->seed) * 0x9e3779b97f4a7c15u;

	return (size_t)(h >> 64 ^ h) & b->mask;
}

static const struct merge_rule *find_rule(const struct bpe *b, uint64_t pair)
{
	for (size_t i = rule_slot(b, pair);; i = (i + 1) & b->mask) {
		if (b->rules[i].pair == pair)
			return &b->rules[i];
		if (b->rules[i].pair == NO_PAIR)
			return NULL;
	}
}

static void add_rule(struct bpe *b, uint64_t pair, uint32_t rank, uint32_t id)
{
	size_t i = rule_slot(b, pair);

	while (b->rules[i].pair != NO_PAIR && b->rules[i].pair != pair)
		i = (i + 1) & b->mask;
	b->rules[i] = (struct merge_rule){pair, rank, id};
}

/* "left right", each the printable form of a token. */
static int read_rule(struct bpe *b, const char *text, size_t n, uint32_t rank, struct err *err)
{
	char buffer[2 * VOCAB_MAX_TOKEN_BYTES];
	const char *space = n > 1 ? memchr(text + 1, ' ', n - 1) : NULL;
	size_t left_n, right_n;

	if (space && n <= sizeof(buffer) && decode(text, (size_t)(space - text), buffer, &left_n) &&
		decode(space + 1, n - (size_t)(space - text) - 1, buffer + left_n, &right_n)) {
		uint32_t left = vocab_find(b->vocab, buffer, left_n);
		uint32_t right = vocab_find(b->vocab, buffer + left_n, right_n);
		uint32_t id = vocab_find(b->vocab, buffer, left_n + right_n);

		if (left != VOCAB_NONE && right != VOCAB_NONE && id != VOCAB_NONE) {
			add_rule(b, (uint64_t)left << 32 | right, rank, id);
			return 0;
		}
	}
	return err_set(err, -EBADMSG,
		"tokenizer.ggml.merges: number %u does not join two tokens to a third", rank);
}

static int read_rules(struct bpe *b, const struct gguf *g, struct err *err)
{
	static const char key[] = "tokenizer.ggml.merges";
	size_t n = gguf_strings(g, key), n_slots = 16;

	if (!gguf_has(g, key))
		return err_set(err, -EBADMSG, "the file has no %s", key);
	while (n_slots < n * 2)
		n_slots *= 2;
	b->mask = n_slots - 1;
	b->rules = malloc(n_slots * sizeof(*b->rules));
	if (!b->rules)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n_slots; i++)
		b->rules[i].pair = NO_PAIR;
	for (size_t i = 0; i < n; i++) {
		size_t len;
		const char *text = gguf_string_at(g, key, i, &len);
		int r = read_rule(b, text, len, (uint32_t)i, err);

		if (r)
			return r;
	}
	return 0;
}

int bpe_new(struct bpe **out, const struct vocab *v, const struct gguf *g, struct err *err)
{
	struct bpe *b = calloc(1, sizeof(*b));
	const char *pre;
	size_t len;
	int r;

	*out = NULL;
	if (!b)
		return err_set(err, -ENOMEM, "out of memory");
	b->vocab = v;
	for (unsigned i = 0; i < 256; i++) {
		char byte = (char)i;

		b->byte_ids[i] = vocab_find(v, &byte, 1);
	}
	pre = gguf_string(g, "tokenizer.ggml.pre", &len);
	r = pretokenizer_new(&b->pre, pre ? pre : "default", pre ? len : 7, err);
	if (r == 0)
		b->ignores_merges = pretokenizer_ignores_merges(b->pre);
	if (r == 0)
		r = read_rules(b, g, err);
	*out = r ? bpe_free(b) : b;
	return r;
}

struct bpe *bpe_free(struct bpe *b)
{
	if (!b)
		return NULL;
	pretokenizer_free(b->pre);
	free(b->rules);
	free(b);
	return NULL;
}

/* ---- encoding ---- */

static uint32_t rule_for(const void *arg, const struct merge_piece *left,
	const struct merge_piece *right, uint32_t *key)
{
	const struct merge_rule *rule = find_rule(arg, (uint64_t)left->id << 32 | right->id);

	if (!rule)
		return MERGE_NONE;
	*key = rule->rank;
	return rule->id;
}

/* Merges the word's bytes into out. */
static int encode_bytes(const struct bpe *b, const char *word, size_t n, struct token_list *out)
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
	for (size_t i = 0; i < n; i++) {
		uint32_t id = b->byte_ids[(unsigned char)word[i]];

		if (id != VOCAB_NONE)
			pieces[n_pieces++] = (struct merge_piece){(uint32_t)i, 1, id};
	}
	long kept = merge_word(pieces, n_pieces, rule_for, b);
	if (kept < 0)
		r = (int)kept;
	for (long i = 0; i < kept && r == 0; i++)
		r = token_list_add(out, pieces[i].id);
	if (pieces != on_stack)
		free(pieces);
	return r;
}

static int encode_word(void *arg, const char *word, size_t n)
{
	const struct encoding *e = arg;
	const struct vocab *v = e->bpe->vocab;
	uint32_t id = VOCAB_NONE;
	size_t before = e->out->n;
	int r;

	if (n <= VOCAB_MAX_TOKEN_BYTES)
		id = vocab_find(v, word, n);
	if (id == VOCAB_NONE)
		return encode_bytes(e->bpe, word, n, e->out);
	if (e->bpe->ignores_merges ||
		atomic_load_explicit(&v->whole[id], memory_order_relaxed) == VOCAB_WHOLE_YES)
		return token_list_add(e->out, id);
	r = encode_bytes(e->bpe, word, n, e->out);
	if (r == 0)
		atomic_store_explicit(&v->whole[id],
			e->out->n == before + 1 && e->out->ids[before] == id ? VOCAB_WHOLE_YES
									     : VOCAB_WHOLE_NO,
			memory_order_relaxed);
	return r;
}

/* Text without user-defined tokens. */
static int encode_stretch(struct encoding *e, const char *text, size_t n)
{
	int r = 0;

	while (n > 0 && r == 0) {
		size_t valid = utf8_valid_prefix(text, n);

		if (valid > 0)
			r = pretokenizer_split(e->bpe->pre, text, valid, encode_word, e);
		text += valid;
		n -= valid;
		if (n > 0 && r == 0) {
			uint32_t id = e->bpe->byte_ids[(unsigned char)*text];

			if (id != VOCAB_NONE)
				r = token_list_add(e->out, id);
			text++;
			n--;
		}
	}
	return r;
}

int bpe_encode(const struct bpe *b, const char *text, size_t n, struct token_list *out)
{
	struct encoding e = {b, out};
	int r = 0;

	while (n > 0 && r == 0) {
		uint32_t user;
		size_t before = vocab_next_user(b->vocab, text, n, &user);

		r = encode_stretch(&e, text, before);
		text += before;
		n -= before;
		if (user != VOCAB_NONE && r == 0) {
			size_t len;

			vocab_text(b->vocab, user, &len);
			r = token_list_add(out, user);
			text += len;
			n -= len;
		}
	}
	return r;
}
