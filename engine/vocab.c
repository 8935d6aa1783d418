/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The token table.
 *
 * Bytes of all tokens lie in one block. Look-ups: a hash table from bytes to id for what text can
 * become (normal and user-defined tokens; its hash is seeded per process, so a file cannot be made
 * to collide), and two short sorted lists, for control tokens by name and for user-defined tokens
 * by prefix. Of two tokens with the same bytes the lower id is found.
 *
 * Immutable after vocab_index but for `whole`, a memo: its values depend on nothing but the
 * vocabulary, so threads may fill it in any order without seeing each other.
 */
#include "engine/vocab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MAX_TOKENS ((size_t)2 << 20)
#define MAX_BYTES ((size_t)256 << 20) /* of all tokens */

/* Texts that are control tokens whatever the file calls them. */
static const char *const control_texts[] = {
	"<s>",
	"</s>",
	"<bos>",
	"<eos>",
	"<pad>",
	"<unk>",
	"[INST]",
	"[/INST]",
	"<start_of_turn>",
	"<end_of_turn>",
	"<EOT>",
};

static bool looks_like_control(const char *text, size_t n)
{
	for (size_t i = 0; i < sizeof(control_texts) / sizeof(control_texts[0]); i++)
		if (n == strlen(control_texts[i]) && memcmp(text, control_texts[i], n) == 0)
			return true;
	return n > 4 && memcmp(text, "<|", 2) == 0 && memcmp(text + n - 2, "|>", 2) == 0;
}

/* ---- from the file ---- */

static int copy_tokens(struct vocab *v, const struct gguf *g, struct err *err)
{
	static const char key[] = "tokenizer.ggml.tokens";
	size_t total = 0, len;

	for (size_t i = 0; i < v->n; i++) {
		gguf_string_at(g, key, i, &len);
		if (len > VOCAB_MAX_TOKEN_BYTES)
			return err_set(err, -EBADMSG, "token %zu has %zu bytes, more than %d", i,
				len, VOCAB_MAX_TOKEN_BYTES);
		total += len;
		if (total > MAX_BYTES)
			return err_set(
				err, -EBADMSG, "the tokens have more than %zu bytes", MAX_BYTES);
	}
	v->bytes = malloc(total + 1);
	v->starts = calloc((size_t)v->n + 1, sizeof(*v->starts));
	if (!v->bytes || !v->starts)
		return err_set(err, -ENOMEM, "out of memory");
	total = 0;
	for (size_t i = 0; i < v->n; i++) {
		const char *text = gguf_string_at(g, key, i, &len);

		memcpy(v->bytes + total, text, len);
		v->starts[i] = (uint32_t)total;
		total += len;
	}
	v->starts[v->n] = (uint32_t)total;
	return 0;
}

static int copy_kinds(struct vocab *v, const struct gguf *g, struct err *err)
{
	static const char key[] = "tokenizer.ggml.token_type";
	size_t n, len;
	const void *types = gguf_ints(g, key, &n);
	int32_t type;

	if (gguf_has(g, key) && n != v->n)
		return err_set(err, -EBADMSG, "%s has %zu entries for %u tokens", key, n, v->n);
	v->kinds = malloc((size_t)v->n + 1);
	if (!v->kinds)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < v->n; i++) {
		type = VOCAB_NORMAL;
		if (types)
			memcpy(&type, (const char *)types + i * sizeof(type), sizeof(type));
		if (type < VOCAB_NORMAL || type > VOCAB_BYTE)
			return err_set(err, -EBADMSG, "token %u has the unknown type %d", i, type);
		const char *text = vocab_text(v, i, &len);
		if ((type == VOCAB_USER || !types) && looks_like_control(text, len))
			type = VOCAB_CONTROL;
		v->kinds[i] = (uint8_t)type;
	}
	return 0;
}

int vocab_init(struct vocab *v, const struct gguf *g, struct err *err)
{
	size_t n = gguf_strings(g, "tokenizer.ggml.tokens");
	int r;

	*v = (struct vocab){0};
	if (n == 0)
		return err_set(err, -EBADMSG, "the file has no tokenizer.ggml.tokens");
	if (n > MAX_TOKENS)
		return err_set(err, -EBADMSG, "%zu tokens are more than %zu", n, MAX_TOKENS);
	v->n = (uint32_t)n;
	r = copy_tokens(v, g, err);
	return r ? r : copy_kinds(v, g, err);
}

void vocab_make_control(struct vocab *v, uint32_t id)
{
	v->kinds[id] = VOCAB_CONTROL;
}

void vocab_end(struct vocab *v)
{
	free(v->bytes);
	free(v->starts);
	free(v->kinds);
	free(v->whole);
	free(v->slots);
	free(v->controls);
	free(v->users);
	*v = (struct vocab){0};
}

/* ---- the hash table ---- */

static uint64_t mix(uint64_t a, uint64_t b)
{
	__uint128_t product = (__uint128_t)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The last bytes of a text, fewer than 8, in one word; different for different texts of the same
 * length. */
static uint64_t tail(const char *text, size_t n)
{
	const unsigned char *t = (const unsigned char *)text;
	uint32_t first, last;

	if (n == 0)
		return 0;
	if (n < 4)
		return t[0] | (uint64_t)t[n / 2] << 8 | (uint64_t)t[n - 1] << 16;
	memcpy(&first, text, 4);
	memcpy(&last, text + n - 4, 4);
	return first | (uint64_t)last << 32;
}

static uint64_t hash(const struct vocab *v, const char *text, size_t n)
{
	uint64_t h = v->seed ^ n, word;

	for (; n >= 8; n -= 8, text += 8) {
		memcpy(&word, text, 8);
		h = mix(h ^ word, 0x9e3779b97f4a7c15u);
	}
	return mix(h ^ tail(text, n), v->seed | 0x4000000000000001u);
}

uint32_t vocab_find(const struct vocab *v, const char *text, size_t n)
{
	uint64_t h = hash(v, text, n);
	uint32_t tag = (uint32_t)(h >> 32);
	size_t len;

	for (size_t i = h & v->mask;; i = (i + 1) & v->mask) {
		const struct vocab_slot *s = &v->slots[i];

		if (s->id == VOCAB_NONE)
			return VOCAB_NONE;
		if (s->tag != tag)
			continue;
		const char *found = vocab_text(v, s->id, &len);
		if (len == n && memcmp(found, text, n) == 0)
			return s->id;
	}
}

static void insert(struct vocab *v, uint32_t id)
{
	size_t len;
	const char *text = vocab_text(v, id, &len);

	if (len == 0 || vocab_find(v, text, len) != VOCAB_NONE)
		return;
	uint64_t h = hash(v, text, len);
	size_t i = h & v->mask;
	while (v->slots[i].id != VOCAB_NONE)
		i = (i + 1) & v->mask;
	v->slots[i] = (struct vocab_slot){(uint32_t)(h >> 32), id};
}

/* ---- the sorted lists ---- */

static int compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int r = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (r)
		return r;
	return a_len < b_len ? -1 : a_len > b_len;
}

static int compare_ids(const void *a, const void *b, void *arg)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	size_t x_len, y_len;
	const char *x_text = vocab_text(arg, x, &x_len), *y_text = vocab_text(arg, y, &y_len);
	int r = compare(x_text, x_len, y_text, y_len);

	if (r)
		return r;
	return x < y ? -1 : x > y;
}

/* new: the ids of a kind, sorted by text. NULL: out of memory. */
static uint32_t *sorted_ids(struct vocab *v, enum vocab_kind kind, uint32_t *n)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < v->n; i++)
		count += v->kinds[i] == kind;
	uint32_t *ids = malloc(((size_t)count + 1) * sizeof(*ids));
	if (!ids)
		return NULL;
	count = 0;
	for (uint32_t i = 0; i < v->n; i++)
		if (v->kinds[i] == kind && v->starts[i + 1] > v->starts[i])
			ids[count++] = i;
	qsort_r(ids, count, sizeof(*ids), compare_ids, v);
	*n = count;
	return ids;
}

uint32_t vocab_find_control(const struct vocab *v, const char *text, size_t n)
{
	uint32_t low = 0, high = v->n_controls;
	size_t len;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const char *found = vocab_text(v, v->controls[middle], &len);

		if (compare(found, len, text, n) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == v->n_controls)
		return VOCAB_NONE;
	const char *found = vocab_text(v, v->controls[low], &len);
	return compare(found, len, text, n) == 0 ? v->controls[low] : VOCAB_NONE;
}

/* The first user-defined token in [low, high) whose byte at `depth` is not below `byte`; shorter
 * tokens count as below. */
static uint32_t user_bound(
	const struct vocab *v, uint32_t low, uint32_t high, size_t depth, unsigned byte)
{
	size_t len;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const char *text = vocab_text(v, v->users[middle], &len);

		if (len <= depth || (unsigned char)text[depth] < byte)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint32_t vocab_match_user(const struct vocab *v, const char *text, size_t n)
{
	uint32_t low = 0, high = v->n_users, best = VOCAB_NONE;
	size_t len;

	/* [low, high) are the tokens that begin with the first `depth` bytes of text. */
	for (size_t depth = 0; depth < n && low < high; depth++) {
		unsigned byte = (unsigned char)text[depth];

		low = user_bound(v, low, high, depth, byte);
		high = user_bound(v, low, high, depth, byte + 1);
		if (low == high)
			break;
		vocab_text(v, v->users[low], &len);
		if (len == depth + 1)
			best = v->users[low];
	}
	return best;
}

size_t vocab_next_user(const struct vocab *v, const char *text, size_t n, uint32_t *id)
{
	*id = VOCAB_NONE;
	if (v->n_users == 0)
		return n;
	for (size_t i = 0; i < n; i++) {
		if (!v->user_starts[(unsigned char)text[i]])
			continue;
		*id = vocab_match_user(v, text + i, n - i);
		if (*id != VOCAB_NONE)
			return i;
	}
	return n;
}

int vocab_index(struct vocab *v, struct err *err)
{
	size_t n_slots = 16;

	while (n_slots < (size_t)v->n * 2)
		n_slots *= 2;
	v->mask = n_slots - 1;
	v->slots = malloc(n_slots * sizeof(*v->slots));
	v->whole = calloc((size_t)v->n + 1, sizeof(*v->whole));
	v->controls = sorted_ids(v, VOCAB_CONTROL, &v->n_controls);
	v->users = sorted_ids(v, VOCAB_USER, &v->n_users);
	if (!v->slots || !v->whole || !v->controls || !v->users)
		return err_set(err, -ENOMEM, "out of memory");
	if (getrandom(&v->seed, sizeof(v->seed), 0) != sizeof(v->seed))
		v->seed = (uintptr_t)v ^ 0x9e3779b97f4a7c15u;
	for (size_t i = 0; i < n_slots; i++)
		v->slots[i].id = VOCAB_NONE;
	for (uint32_t i = 0; i < v->n; i++)
		if (v->kinds[i] == VOCAB_NORMAL || v->kinds[i] == VOCAB_USER)
			insert(v, i);
	for (uint32_t i = 0; i < v->n_users; i++)
		v->user_starts[(unsigned char)v->bytes[v->starts[v->users[i]]]] = true;
	return 0;
}
