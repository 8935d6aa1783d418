/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The door to all kinds of tokenizer: reads what they have in common (the tokens, which of them
 * are control tokens, which end a turn) and hands text to the one the file asks for.
 *
 * A file's word on control tokens is not quite trusted: the tokens it names as bos, eos and their
 * like are control tokens whatever type they have, so that no text can ever produce one.
 */
#include "engine/tokenizer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bpe.h"
#include "engine/spm.h"
#include "engine/vocab.h"
#include "engine/wordpiece.h"

enum kind { BPE, SPM, WORDPIECE, N_KINDS };

static const char *const kind_names[] = {[BPE] = "gpt2", [SPM] = "llama", [WORDPIECE] = "bert"};

struct tokenizer {
	enum kind kind;
	struct vocab vocab;
	struct bpe *bpe; /* one of them */
	struct spm *spm;
	struct wordpiece *wordpiece;
	char *text;            /* what tokens give as parts of an answer */
	uint32_t *text_starts; /* [n + 1] */
	uint8_t *ends;         /* [n]: 1 for a token that ends a turn */
	uint32_t bos, eos;
	uint32_t max_bytes;
	bool adds_bos;
};

static const char *const end_keys[] = {
	"tokenizer.ggml.eos_token_id",
	"tokenizer.ggml.eot_token_id",
	"tokenizer.ggml.eom_token_id",
};

/* Control tokens that end a turn in one model family or another, whatever the file says. */
static const char *const end_texts[] = {
	"</s>",
	"<eos>",
	"<EOT>",
	"<end_of_turn>",
	"<|end|>",
	"<|endoftext|>",
	"<|end_of_text|>",
	"<|end_of_turn|>",
	"<|eom_id|>",
	"<|eot_id|>",
	"<|im_end|>",
};

/* ---- loading ---- */

/* The id under a key, `fallback` when there is none. */
static int read_id(struct tokenizer *t, const struct gguf *g, const char *key, uint32_t fallback,
	uint32_t *id, struct err *err)
{
	uint64_t value;

	*id = fallback < t->vocab.n ? fallback : TOKENIZER_NONE;
	if (!gguf_has(g, key))
		return 0;
	value = gguf_uint(g, key, UINT64_MAX);
	if (value >= t->vocab.n)
		return err_set(
			err, -EBADMSG, "%s is no token: the vocabulary has %u", key, t->vocab.n);
	*id = (uint32_t)value;
	return 0;
}

static int read_special(struct tokenizer *t, const struct gguf *g, bool spm, struct err *err)
{
	uint32_t id;
	int r;

	r = read_id(t, g, "tokenizer.ggml.bos_token_id", spm ? 1 : TOKENIZER_NONE, &t->bos, err);
	if (r)
		return r;
	if (t->bos != TOKENIZER_NONE)
		vocab_make_control(&t->vocab, t->bos);
	for (size_t i = 0; i < sizeof(end_keys) / sizeof(end_keys[0]); i++) {
		r = read_id(t, g, end_keys[i], spm && i == 0 ? 2 : TOKENIZER_NONE, &id, err);
		if (r)
			return r;
		if (i == 0)
			t->eos = id;
		if (id == TOKENIZER_NONE)
			continue;
		vocab_make_control(&t->vocab, id);
		t->ends[id] = 1;
	}
	return 0;
}

/* The id under the first of three keys that is there; it becomes a control token. */
static int read_mark(struct tokenizer *t, const struct gguf *g, const char *const keys[3],
	uint32_t fallback, uint32_t *id, struct err *err)
{
	size_t i = 0;
	int r;

	while (i < 2 && !gguf_has(g, keys[i]))
		i++;
	r = read_id(t, g, keys[i], fallback, id, err);
	if (!r && *id != TOKENIZER_NONE)
		vocab_make_control(&t->vocab, *id);
	return r;
}

/* The marks of BERT. The converter that most files come from cannot spell one of the keys. [UNK] is
 * the one that may come out of a text, so it is no control token, and no other mark may be it. */
static int read_marks(struct tokenizer *t, const struct gguf *g, struct err *err)
{
	static const char *const keys[][3] = {
		{"tokenizer.ggml.cls_token_id", "tokenizer.ggml.bos_token_id", ""},
		{"tokenizer.ggml.seperator_token_id", "tokenizer.ggml.separator_token_id",
			"tokenizer.ggml.eos_token_id"},
		{"tokenizer.ggml.padding_token_id", "", ""},
		{"tokenizer.ggml.mask_token_id", "", ""},
	};
	uint32_t unknown, pad, mask;
	int r = read_mark(t, g, keys[0], 101, &t->bos, err);

	if (!r)
		r = read_mark(t, g, keys[1], 102, &t->eos, err);
	if (!r)
		r = read_mark(t, g, keys[2], TOKENIZER_NONE, &pad, err);
	if (!r)
		r = read_mark(t, g, keys[3], TOKENIZER_NONE, &mask, err);
	if (!r)
		r = read_id(t, g, "tokenizer.ggml.unknown_token_id", 100, &unknown, err);
	if (r)
		return r;
	if (t->bos == TOKENIZER_NONE || t->eos == TOKENIZER_NONE || unknown == TOKENIZER_NONE)
		return err_set(err, -EBADMSG,
			"the file does not say which tokens are [CLS], [SEP] and [UNK]");
	if (unknown == t->bos || unknown == t->eos || unknown == pad || unknown == mask)
		return err_set(
			err, -EBADMSG, "[UNK] and another mark are the same token, %u", unknown);
	t->vocab.kinds[unknown] = VOCAB_UNKNOWN;
	return 0;
}

static void find_ends(struct tokenizer *t)
{
	for (size_t i = 0; i < sizeof(end_texts) / sizeof(end_texts[0]); i++) {
		uint32_t id = tokenizer_control(t, end_texts[i]);

		if (id != TOKENIZER_NONE)
			t->ends[id] = 1;
	}
}

/* Llama 3 files of the first weeks do not say that they want a bos. */
static bool adds_bos_by_default(const struct gguf *g, bool spm)
{
	size_t n;
	const char *pre = gguf_string(g, "tokenizer.ggml.pre", &n);

	return spm || (pre && n == 9 && memcmp(pre, "llama-bpe", 9) == 0);
}

/* What one token gives as part of an answer, written to out, which has room for the token's own
 * bytes. */
static size_t answer_text(const struct tokenizer *t, uint32_t id, char *out)
{
	size_t n, to = 0;
	const char *text = vocab_text(&t->vocab, id, &n);
	int byte = t->spm ? spm_byte_of(&t->vocab, id) : -1;

	if (t->vocab.kinds[id] == VOCAB_CONTROL || t->vocab.kinds[id] == VOCAB_UNKNOWN)
		return 0;
	if (byte >= 0) {
		*out = (char)byte;
		return 1;
	}
	for (size_t i = 0; i < n; i++) {
		if (t->kind != BPE && n - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0) {
			out[to++] = ' ';
			i += 2;
		} else {
			out[to++] = text[i];
		}
	}
	return to;
}

static int build_text(struct tokenizer *t, struct err *err)
{
	const struct vocab *v = &t->vocab;
	size_t to = 0;

	t->text = malloc((size_t)v->starts[v->n] + 1);
	t->text_starts = malloc(((size_t)v->n + 1) * sizeof(*t->text_starts));
	if (!t->text || !t->text_starts)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < v->n; i++) {
		size_t n = answer_text(t, i, t->text + to);

		t->text_starts[i] = (uint32_t)to;
		to += n;
		if (n > t->max_bytes)
			t->max_bytes = (uint32_t)n;
	}
	t->text_starts[v->n] = (uint32_t)to;
	return 0;
}

static int find_kind(struct tokenizer *t, const struct gguf *g, struct err *err)
{
	size_t len;
	const char *model = gguf_string(g, "tokenizer.ggml.model", &len);

	if (!model)
		return err_set(err, -EBADMSG, "the file has no tokenizer (tokenizer.ggml.model)");
	for (unsigned i = 0; i < N_KINDS; i++) {
		if (len == strlen(kind_names[i]) && memcmp(model, kind_names[i], len) == 0) {
			t->kind = (enum kind)i;
			return 0;
		}
	}
	return err_set(err, -ENOTSUP,
		"this kind of tokenizer is not supported; known are gpt2 (byte-level BPE), llama "
		"(SentencePiece BPE) and bert (WordPiece)");
}

static int make_kind(struct tokenizer *t, const struct gguf *g, struct err *err)
{
	switch (t->kind) {
	case SPM:
		return spm_new(&t->spm, &t->vocab, g, err);
	case WORDPIECE:
		return wordpiece_new(&t->wordpiece, &t->vocab, g, err);
	case BPE:
	case N_KINDS:
		break;
	}
	return bpe_new(&t->bpe, &t->vocab, g, err);
}

static int load(struct tokenizer *t, const struct gguf *g, struct err *err)
{
	bool spm;
	int r = find_kind(t, g, err);

	if (r)
		return r;
	spm = t->kind == SPM;
	r = vocab_init(&t->vocab, g, err);
	if (r)
		return r;
	t->ends = calloc((size_t)t->vocab.n + 1, 1);
	if (!t->ends)
		return err_set(err, -ENOMEM, "out of memory");
	r = t->kind == WORDPIECE ? read_marks(t, g, err) : read_special(t, g, spm, err);
	if (r)
		return r;
	if (t->kind == BPE)
		bpe_decode_tokens(&t->vocab);
	r = vocab_index(&t->vocab, err);
	if (r)
		return r;
	r = make_kind(t, g, err);
	if (r)
		return r;
	find_ends(t);
	t->adds_bos = t->kind != WORDPIECE && t->bos != TOKENIZER_NONE &&
		      gguf_bool(g, "tokenizer.ggml.add_bos_token", adds_bos_by_default(g, spm));
	return build_text(t, err);
}

int tokenizer_new(struct tokenizer **out, const struct gguf *g, struct err *err)
{
	struct tokenizer *t = calloc(1, sizeof(*t));
	int r;

	*out = NULL;
	if (!t)
		return err_set(err, -ENOMEM, "out of memory");
	r = load(t, g, err);
	*out = r ? tokenizer_free(t) : t;
	return r;
}

struct tokenizer *tokenizer_free(struct tokenizer *t)
{
	if (!t)
		return NULL;
	bpe_free(t->bpe);
	spm_free(t->spm);
	wordpiece_free(t->wordpiece);
	vocab_end(&t->vocab);
	free(t->text);
	free(t->text_starts);
	free(t->ends);
	free(t);
	return NULL;
}

/* ---- what is known of tokens ---- */

uint32_t tokenizer_size(const struct tokenizer *t)
{
	return t->vocab.n;
}

const char *tokenizer_model(const struct tokenizer *t)
{
	return kind_names[t->kind];
}

uint32_t tokenizer_max_bytes(const struct tokenizer *t)
{
	return t->max_bytes;
}

uint32_t tokenizer_bos(const struct tokenizer *t)
{
	return t->bos;
}

uint32_t tokenizer_eos(const struct tokenizer *t)
{
	return t->eos;
}

bool tokenizer_adds_bos(const struct tokenizer *t)
{
	return t->adds_bos;
}

bool tokenizer_adds_space(const struct tokenizer *t)
{
	return t->spm && spm_adds_space(t->spm);
}

bool tokenizer_is_end(const struct tokenizer *t, uint32_t id)
{
	return id < t->vocab.n && t->ends[id];
}

bool tokenizer_is_control(const struct tokenizer *t, uint32_t id)
{
	return id < t->vocab.n && t->vocab.kinds[id] == VOCAB_CONTROL;
}

uint32_t tokenizer_control(const struct tokenizer *t, const char *text)
{
	return vocab_find_control(&t->vocab, text, strlen(text));
}

const char *tokenizer_text(const struct tokenizer *t, uint32_t id, size_t *len)
{
	*len = 0;
	if (id >= t->vocab.n)
		return "";
	*len = t->text_starts[id + 1] - t->text_starts[id];
	return t->text + t->text_starts[id];
}

/* ---- token lists ---- */

int token_list_add(struct token_list *l, uint32_t id)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		uint32_t *ids = realloc(l->ids, cap * sizeof(*ids));

		if (!ids)
			return -ENOMEM;
		l->ids = ids;
		l->cap = cap;
	}
	l->ids[l->n++] = id;
	return 0;
}

void token_list_free(struct token_list *l)
{
	free(l->ids);
	*l = (struct token_list){0};
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool at_start,
	struct token_list *out)
{
	switch (t->kind) {
	case SPM:
		return spm_encode(t->spm, text, n, at_start, out);
	case WORDPIECE:
		return wordpiece_encode(t->wordpiece, text, n, SIZE_MAX, out);
	case BPE:
	case N_KINDS:
		break;
	}
	return bpe_encode(t->bpe, text, n, out);
}

int tokenizer_encode_marked(
	const struct tokenizer *t, const char *text, size_t n, size_t most, struct token_list *out)
{
	int r = token_list_add(out, t->bos);

	if (!r)
		r = wordpiece_encode(t->wordpiece, text, n, most - 2, out);
	return r ? r : token_list_add(out, t->eos);
}
