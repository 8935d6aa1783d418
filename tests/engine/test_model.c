/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/model.h"
#include "engine/ops.h"
#include "tests/engine/gguf_writer.h"
#include "tests/engine/tiny_llama.h"
#include "tests/run_suite.h"

#define N_SEQ 5
#define N_BLOCKS 64
#define MAX_LEN 70

static struct err err;
static char path[] = "/tmp/test_model.XXXXXX";

#ifdef __SANITIZE_THREAD__ /* how threads share the work is the same for all of a kind */
static const enum tensor_type types[] = {TENSOR_F32, TENSOR_Q8_0, TENSOR_Q4_K};
#else
static const enum tensor_type types[] = {TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_Q8_0,
	TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q5_0, TENSOR_Q5_1, TENSOR_Q4_K, TENSOR_Q5_K, TENSOR_Q6_K};
#endif

/* Odd sizes where the type allows them, so that every remainder loop runs. */
static const struct tiny_llama shapes[] = {
	{.n_layers = 2, .n_embd = 64, .n_heads = 4, .n_kv_heads = 2, .n_ff = 160, .n_vocab = 323},
	{.n_layers = 2, .n_embd = 96, .n_heads = 6, .n_ff = 96, .n_vocab = 301, .tied = true},
	{.n_layers = 1, .n_embd = 256, .n_heads = 8, .n_kv_heads = 1, .n_ff = 96, .n_vocab = 260},
};

/* A sanitizer finds what it can find in the first; the others are about bits. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#	define N_SHAPES 1
#else
#	define N_SHAPES (sizeof shapes / sizeof shapes[0])
#endif

static struct gguf *make_file(struct tiny_llama shape, enum tensor_type type)
{
	struct gguf *g = NULL;

	shape.type = type;
	if (ops_is_k(type)) {
		shape.n_embd = 256;
		shape.n_heads = 8;
		shape.n_kv_heads = shape.n_kv_heads ? shape.n_kv_heads : 8;
		shape.n_ff = shape.n_ff > 96 ? 512 : 256;
	}
	if (type == TENSOR_Q4_K) /* as most files of that type are */
		shape.better = TENSOR_Q6_K;
	shape.seed = 7;
	tiny_llama_write(&shape, path);
	ck_assert_msg(gguf_open(&g, path, 0, &err) == 0, "%s", err.text);
	return g;
}

static struct model *make_model(const struct gguf *g, const struct ops *ops, uint32_t threads)
{
	struct model_options o = {
		.n_threads = threads,
		.cpu_path = strchr(ops->name, '/') + 1,
		.max_rows = N_SEQ * MAX_LEN,
		.max_logit_rows = N_SEQ * MAX_LEN,
		.kv_blocks = N_BLOCKS,
	};
	struct model *m = NULL;

	ck_assert_msg(model_new(&m, g, &o, &err) == 0, "%s", err.text);
	return m;
}

/* One step; its logits are copied to out, which may be NULL when there are none. */
static void step(struct model *m, const struct batch_run *runs, size_t n_runs, float *out)
{
	const float *logits = NULL;
	size_t n_rows = 0;

	ck_assert_msg(model_step(m, runs, n_runs, &logits, &err) == 0, "%s", err.text);
	for (size_t i = 0; i < n_runs; i++)
		n_rows += runs[i].n_logit_rows;
	if (n_rows > 0)
		memcpy(out, logits, n_rows * model_config(m)->n_vocab * sizeof *out);
}

/* A sequence, and the logits of all its tokens as they come. */
struct sequence {
	uint32_t ids[MAX_LEN], n, done;
	uint32_t blocks[(MAX_LEN + 15) / 16];
	float *logits; /* [n][n_vocab] */
};

static void make_sequences(struct sequence *s, uint32_t n_vocab)
{
	static const uint32_t lengths[N_SEQ] = {1, 17, 70, 36, 31};
	uint32_t block = 0;

	srand(3);
	for (int i = 0; i < N_SEQ; i++) {
		s[i].n = lengths[i];
		s[i].done = 0;
		for (uint32_t k = 0; k < s[i].n; k++)
			s[i].ids[k] = (uint32_t)rand() % n_vocab;
		for (uint32_t k = 0; k < (s[i].n + 15) / 16; k++)
			s[i].blocks[k] = (block++ * 7 + 3) % N_BLOCKS;
		s[i].logits = calloc((size_t)s[i].n * n_vocab, sizeof(float));
	}
}

static void free_sequences(struct sequence *s)
{
	for (int i = 0; i < N_SEQ; i++)
		free(s[i].logits);
}

/* Computes sequences in steps of random pieces, all of them mixed; piece_max 1: token by token;
 * alone: one sequence after another. */
static void compute(struct model *m, struct sequence *s, uint32_t piece_max, bool alone)
{
	uint32_t n_vocab = model_config(m)->n_vocab;
	float *out = calloc((size_t)N_SEQ * MAX_LEN * n_vocab, sizeof *out);

	for (;;) {
		struct batch_run runs[N_SEQ];
		struct sequence *of[N_SEQ];
		size_t n = 0;
		for (int i = 0; i < N_SEQ && !(alone && n); i++) {
			uint32_t left = s[i].n - s[i].done, take = 1 + (uint32_t)rand() % piece_max;
			if (left == 0)
				continue;
			take = take < left ? take : left;
			of[n] = &s[i];
			runs[n++] = (struct batch_run){.ids = s[i].ids + s[i].done,
				.n = take,
				.first_pos = s[i].done,
				.blocks = s[i].blocks,
				.n_logit_rows = take};
		}
		if (n == 0)
			break;
		step(m, runs, n, out);
		const float *from = out;
		for (size_t i = 0; i < n; i++) {
			size_t bytes = (size_t)runs[i].n * n_vocab * sizeof *out;
			memcpy(of[i]->logits + (size_t)of[i]->done * n_vocab, from, bytes);
			from += (size_t)runs[i].n * n_vocab;
			of[i]->done += runs[i].n;
		}
	}
	free(out);
}

static void check_same(
	const struct sequence *a, const struct sequence *b, uint32_t n_vocab, const char *what)
{
	for (int i = 0; i < N_SEQ; i++) {
		for (uint32_t k = 0; k < a[i].n; k++)
			ck_assert_msg(memcmp(a[i].logits + (size_t)k * n_vocab,
					      b[i].logits + (size_t)k * n_vocab,
					      n_vocab * sizeof(float)) == 0,
				"%s: sequence %d, position %u", what, i, k);
	}
}

/* The same sequences by another model of the same file, or otherwise cut, are the same to the bit.
 */
static void check_against(struct sequence *expected, struct model *m, uint32_t piece_max,
	bool alone, const char *what)
{
	struct sequence s[N_SEQ];
	uint32_t n_vocab = model_config(m)->n_vocab;

	make_sequences(s, n_vocab);
	compute(m, s, piece_max, alone);
	check_same(expected, s, n_vocab, what);
	free_sequences(s);
}

static void check_shape(const struct tiny_llama *shape, enum tensor_type type)
{
	struct gguf *g = make_file(*shape, type);
	struct model *m = make_model(g, ops_at(0), 1);
	struct sequence expected[N_SEQ];
	char what[100];

	make_sequences(expected, model_config(m)->n_vocab);
	compute(m, expected, MAX_LEN, true);
	float first = expected[2].logits[0], later = expected[2].logits[1];
	ck_assert_msg(
		first == first && first != later, "the logits are not numbers, or all the same");
	model_free(m);
	for (size_t i = 0; ops_at(i); i++) {
		m = make_model(g, ops_at(i), 1 + (uint32_t)i % 3);
		snprintf(what, sizeof what, "%s, %s, %u columns", ops_at(i)->name,
			tensor_type_info(type)->name, shape->n_embd);
		check_against(expected, m, 1, false, what);
		check_against(expected, m, 7, false, what);
		check_against(expected, m, MAX_LEN, false, what);
		model_free(m);
	}
	free_sequences(expected);
	gguf_free(g);
}

START_TEST(every_path_and_batch_and_cut_gives_the_same_bits)
{
	for (size_t s = 0; s < N_SHAPES; s++)
		check_shape(&shapes[s], types[_i]);
}
END_TEST

START_TEST(rows_without_logits_change_nothing)
{
	struct gguf *g = make_file(shapes[0], TENSOR_Q8_0);
	struct model *m = make_model(g, ops_find(NULL), 2);
	uint32_t n_vocab = model_config(m)->n_vocab;
	struct sequence s[N_SEQ];

	make_sequences(s, n_vocab);
	compute(m, s, MAX_LEN, true);
	float *last = calloc((size_t)2 * n_vocab, sizeof *last);
	struct batch_run runs[] = {
		{.ids = s[2].ids, .n = 40, .blocks = s[2].blocks},
		{.ids = s[3].ids, .n = s[3].n, .blocks = s[3].blocks, .n_logit_rows = 1},
	};
	step(m, runs, 2, last);
	ck_assert_mem_eq(
		last, s[3].logits + (size_t)(s[3].n - 1) * n_vocab, n_vocab * sizeof *last);
	step(m, runs, 1, NULL);
	runs[0] = (struct batch_run){.ids = s[2].ids + 40,
		.n = 30,
		.first_pos = 40,
		.blocks = s[2].blocks,
		.n_logit_rows = 2};
	step(m, runs, 1, last);
	ck_assert_mem_eq(last, s[2].logits + (size_t)68 * n_vocab, 2 * n_vocab * sizeof *last);
	free(last);
	free_sequences(s);
	model_free(m);
	gguf_free(g);
}
END_TEST

START_TEST(kv_block_of_float_weights_is_twice_as_large)
{
	struct gguf *g = make_file(shapes[0], TENSOR_F32);
	const struct model_options o = {0};
	size_t full = model_kv_block_bytes(g, &o);

	ck_assert_uint_eq(full, 2 * 2 * 2 * 16 * 16 * 4);
	gguf_free(g);
	g = make_file(shapes[0], TENSOR_Q8_0);
	ck_assert_uint_eq(model_kv_block_bytes(g, &o), full / 2);
	gguf_free(g);
}
END_TEST

/* ---- files that are not a llama as we know it ---- */

struct change {
	const char *drop;       /* a tensor left out */
	const char *widen;      /* a tensor with a row more */
	const char *extra;      /* a tensor more */
	const char *key, *text; /* a key set to a text, */
	uint32_t number;        /* or to a number */
	const char *architecture;
	int result;
	const char *sentence;
};

static void add_tensor(struct gguf_writer *w, const struct change *c, const char *name,
	uint64_t cols, uint64_t rows)
{
	static float ones[64 * 65]; /* of zeros there are no models: test_weights.c */
	uint64_t dims[2] = {cols, rows};

	if (c->drop && strcmp(c->drop, name) == 0)
		return;
	if (c->widen && strcmp(c->widen, name) == 0)
		dims[rows ? 1 : 0]++;
	uint64_t n = dims[0] * (rows ? dims[1] : 1);
	ck_assert_uint_le(n, sizeof ones / sizeof ones[0]);
	for (uint64_t i = 0; i < n; i++)
		ones[i] = 1;
	gguf_writer_add_tensor(w, name, TENSOR_F32, rows ? 2 : 1, dims, ones, n * sizeof(float));
}

static void add_number(
	struct gguf_writer *w, const struct change *c, const char *key, uint32_t value)
{
	if (!c->key || strcmp(c->key, key) != 0)
		gguf_writer_add_u32(w, key, value);
}

static int open_changed(const struct change *c, struct model **m)
{
	struct gguf_writer *w = gguf_writer_new();
	struct model_options o = {
		.n_threads = 1, .max_rows = 4, .max_logit_rows = 4, .kv_blocks = 2};
	struct gguf *g = NULL;
	size_t n;

	gguf_writer_add_string(
		w, "general.architecture", c->architecture ? c->architecture : "llama");
	add_number(w, c, "llama.block_count", 1);
	add_number(w, c, "llama.context_length", 64);
	add_number(w, c, "llama.embedding_length", 32);
	add_number(w, c, "llama.feed_forward_length", 64);
	add_number(w, c, "llama.attention.head_count", 4);
	if (c->key && c->text)
		gguf_writer_add_string(w, c->key, c->text);
	else if (c->key)
		gguf_writer_add_u32(w, c->key, c->number);
	add_tensor(w, c, "token_embd.weight", 32, 20);
	add_tensor(w, c, "output_norm.weight", 32, 0);
	add_tensor(w, c, "blk.0.attn_norm.weight", 32, 0);
	add_tensor(w, c, "blk.0.attn_q.weight", 32, 32);
	add_tensor(w, c, "blk.0.attn_k.weight", 32, 32);
	add_tensor(w, c, "blk.0.attn_v.weight", 32, 32);
	add_tensor(w, c, "blk.0.attn_output.weight", 32, 32);
	add_tensor(w, c, "blk.0.attn_output.bias", 32, 0);
	add_tensor(w, c, "blk.0.ffn_norm.weight", 32, 0);
	add_tensor(w, c, "blk.0.ffn_gate.weight", 32, 64);
	add_tensor(w, c, "blk.0.ffn_up.weight", 32, 64);
	add_tensor(w, c, "blk.0.ffn_down.weight", 64, 32);
	if (c->extra)
		add_tensor(w, c, c->extra, 32, 0);
	unsigned char *bytes = gguf_writer_bytes(w, &n);
	gguf_writer_free(w);
	ck_assert_msg(gguf_parse(&g, bytes, n, &err) == 0, "%s", err.text);
	err.text[0] = '\0';
	int r = model_new(m, g, &o, &err);
	*m = model_free(*m);
	gguf_free(g);
	free(bytes);
	return r;
}

static const struct change changes[] = {
	{.result = 0, .sentence = ""},
	{.drop = "blk.0.ffn_up.weight",
		.result = -EBADMSG,
		.sentence = "blk.0.ffn_up.weight is missing"},
	{.drop = "token_embd.weight", .result = -EBADMSG, .sentence = "token_embd.weight"},
	{.drop = "blk.0.attn_output.bias", .result = 0, .sentence = ""},
	{.widen = "blk.0.attn_k.weight", .result = -EBADMSG, .sentence = "blk.0.attn_k.weight"},
	{.widen = "blk.0.ffn_norm.weight", .result = -EBADMSG, .sentence = "blk.0.ffn_norm.weight"},
	{.widen = "blk.0.attn_output.bias",
		.result = -EBADMSG,
		.sentence = "blk.0.attn_output.bias"},
	{.extra = "blk.0.attn_q_norm.weight",
		.result = -ENOTSUP,
		.sentence = "blk.0.attn_q_norm.weight"},
	{.extra = "blk.1.attn_norm.weight",
		.result = -ENOTSUP,
		.sentence = "blk.1.attn_norm.weight"},
	{.extra = "blk.0.attn_rot_embd", .result = 0, .sentence = ""},
	{.architecture = "qwen2", .result = -ENOTSUP, .sentence = "architecture"},
	{.key = "llama.block_count",
		.number = 0,
		.result = -EBADMSG,
		.sentence = "llama.block_count"},
	{.key = "llama.block_count", .number = 2, .result = -EBADMSG, .sentence = "blk.1."},
	{.key = "llama.block_count",
		.number = 4000000000,
		.result = -EBADMSG,
		.sentence = "llama.block_count"},
	{.key = "llama.attention.head_count_kv",
		.number = 3,
		.result = -EBADMSG,
		.sentence = "heads"},
	{.key = "llama.attention.head_count", .number = 32, .result = -EBADMSG, .sentence = "odd"},
	{.key = "llama.attention.head_count",
		.number = 64,
		.result = -EBADMSG,
		.sentence = "key_length"},
	{.key = "llama.rope.dimension_count",
		.number = 16,
		.result = -EBADMSG,
		.sentence = "dimension_count"},
	{.key = "llama.expert_count", .number = 8, .result = -ENOTSUP, .sentence = "experts"},
	{.key = "llama.attention.value_length",
		.number = 4,
		.result = -ENOTSUP,
		.sentence = "values"},
	{.key = "llama.rope.scaling.type",
		.text = "yarn",
		.result = -ENOTSUP,
		.sentence = "scaling"},
	{.key = "llama.rope.scaling.type", .text = "none", .result = 0, .sentence = ""},
};

START_TEST(file_that_is_no_llama_of_ours_is_refused_with_a_sentence)
{
	const struct change *c = &changes[_i];
	struct model *m = NULL;
	int r = open_changed(c, &m);

	ck_assert_msg(r == c->result, "case %d: %d, \"%s\"", _i, r, err.text);
	ck_assert_msg(strstr(err.text, c->sentence), "case %d: \"%s\" does not say \"%s\"", _i,
		err.text, c->sentence);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("model");
	TCase *t = tcase_create("model");
	int fd = mkstemp(path);

	if (fd < 0)
		return 1;
	close(fd);
	tcase_add_loop_test(t, every_path_and_batch_and_cut_gives_the_same_bits, 0,
		sizeof types / sizeof types[0]);
	tcase_add_test(t, rows_without_logits_change_nothing);
	tcase_add_test(t, kv_block_of_float_weights_is_twice_as_large);
	tcase_add_loop_test(t, file_that_is_no_llama_of_ours_is_refused_with_a_sentence, 0,
		sizeof changes / sizeof changes[0]);
	tcase_set_timeout(t, 300);
	suite_add_tcase(s, t);
	int r = run_suite(s);
	unlink(path);
	return r;
}
