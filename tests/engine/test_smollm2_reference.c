/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: test_smollm2_reference MODEL.gguf FIXTURES/smollm2
 *
 * A model that somebody trained, in the file that somebody made of it, against transformers: the
 * tokens of conversations, and the logits that answers were chosen by. The reference has the file's
 * weights and computes in f32, so what differs is the 8 bits of our activations and the f16 KV
 * cache. What the fixture is stands in tests/reference/make_smollm2_fixtures.py; the model is
 * fetched by tests/real_models.py, which reference.py does before it runs this.
 */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chat_opening.h"
#include "engine/model.h"
#include "engine/ops.h"
#include "engine/quant.h"
#include "tests/run_suite.h"

#define MAX_MESSAGES 4
#define MAX_TOKENS 256
#define MAX_ANSWER 64
#define SHORTEST 2 /* of the conversations: all that the definition is asked */
/* Of the largest difference, in parts of the range of a position's logits: docs/numerics.md. */
#define TOLERANCE 4e-2

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#	define IS_SLOW true
#else
#	define IS_SLOW false
#endif

static const char *model_path, *folder;

/* What is read from the fixture; pointers into it. */
struct conversation {
	struct engine_message messages[MAX_MESSAGES];
	uint32_t n_messages, n_prompt, n_answer;
	uint32_t ids[MAX_TOKENS]; /* of the prompt, then of the answer */
	float lead[MAX_ANSWER], range[MAX_ANSWER];
	const unsigned char *logits[MAX_ANSWER]; /* f16, each step-th */
};

struct fixture {
	unsigned char *bytes;
	size_t n, at;
	uint32_t n_conversations, n_vocab, step;
};

static const unsigned char *take(struct fixture *f, size_t n)
{
	ck_assert_uint_le(n, f->n - f->at);
	f->at += n;
	return f->bytes + f->at - n;
}

static uint32_t take_u32(struct fixture *f)
{
	uint32_t v;

	memcpy(&v, take(f, 4), 4);
	return v;
}

static struct fixture read_fixture(void)
{
	struct fixture f = {0};
	char path[512];

	snprintf(path, sizeof(path), "%s/expected.bin", folder);
	FILE *stream = fopen(path, "rb");
	ck_assert_msg(stream != NULL, "%s: %s", path, strerror(errno));
	ck_assert_int_eq(fseek(stream, 0, SEEK_END), 0);
	f.n = (size_t)ftell(stream);
	rewind(stream);
	f.bytes = malloc(f.n);
	ck_assert_uint_eq(fread(f.bytes, 1, f.n, stream), f.n);
	fclose(stream);
	f.n_conversations = take_u32(&f);
	f.n_vocab = take_u32(&f);
	f.step = take_u32(&f);
	return f;
}

static struct conversation take_conversation(struct fixture *f)
{
	struct conversation c = {.n_messages = take_u32(f)};

	ck_assert_uint_le(c.n_messages, MAX_MESSAGES);
	for (uint32_t i = 0; i < c.n_messages; i++) {
		uint32_t role = take_u32(f), len = take_u32(f);

		c.messages[i] = (struct engine_message){
			(enum engine_role)role, (const char *)take(f, len), len};
	}
	c.n_prompt = take_u32(f);
	c.n_answer = take_u32(f);
	ck_assert_uint_le(c.n_answer, MAX_ANSWER);
	ck_assert_uint_le(c.n_prompt + c.n_answer, MAX_TOKENS);
	for (uint32_t i = 0; i < c.n_prompt + c.n_answer; i++)
		c.ids[i] = take_u32(f);
	for (uint32_t i = 0; i < c.n_answer; i++) {
		memcpy(&c.lead[i], take(f, 4), 4);
		memcpy(&c.range[i], take(f, 4), 4);
		c.logits[i] = take(f, (f->n_vocab + f->step - 1) / f->step * 2);
	}
	return c;
}

static struct gguf *open_model(void)
{
	struct gguf *g = NULL;
	struct err err = {""};

	ck_assert_msg(gguf_open(&g, model_path, 0, &err) == 0, "%s", err.text);
	return g;
}

START_TEST(conversations_have_the_tokens_of_their_own_template)
{
	struct gguf *g = open_model();
	struct fixture f = read_fixture();
	struct err err = {""};
	struct tokenizer *t = NULL;
	const struct chat_family *family;
	char *opening;
	size_t n;
	const char *text = gguf_string(g, "tokenizer.chat_template", &n);

	ck_assert_msg(tokenizer_new(&t, g, &err) == 0, "%s", err.text);
	ck_assert_int_eq(chat_family_find(&family, NULL, text, n, &err), 0);
	ck_assert_int_eq(chat_opening_find(text, n, &opening, &err), 0);
	for (uint32_t i = 0; i < f.n_conversations; i++) {
		struct conversation c = take_conversation(&f);
		struct token_list got = {0};

		ck_assert_int_eq(chat_opening_render(opening, family, t, c.messages, c.n_messages,
					 true, &got, &err),
			0);
		ck_assert_uint_eq(got.n, c.n_prompt);
		ck_assert_mem_eq(got.ids, c.ids, got.n * sizeof(*got.ids));
		token_list_free(&got);
	}
	ck_assert_uint_eq(f.at, f.n);
	free(opening);
	free(f.bytes);
	tokenizer_free(t);
	gguf_free(g);
}
END_TEST

/* The largest difference of the logits that are known, in parts of their range. */
static double difference(
	const struct fixture *f, const float *got, const unsigned char *want, float range)
{
	double most = 0;

	for (uint32_t i = 0; i < f->n_vocab; i += f->step) {
		uint16_t half;
		memcpy(&half, want + i / f->step * 2, 2);
		double d = fabs((double)got[i] - (double)quant_f16_to_f32(half));
		most = d <= most ? most : d; /* a NaN is large */
	}
	return most / (double)range;
}

static uint32_t best(const float *logits, uint32_t n)
{
	uint32_t id = 0;

	for (uint32_t i = 1; i < n; i++)
		id = logits[i] > logits[id] ? i : id;
	return id;
}

/* The answer's tokens, each after those before it as the reference has them: whoever leads there by
 * more than the tolerance leads here. Returns how many lead, to *off the largest difference. */
static uint32_t compare(
	struct model *m, const struct fixture *f, const struct conversation *c, double *off)
{
	static const uint32_t blocks[] = {7, 2, 5, 0, 6, 1, 4, 3, 9, 8, 10, 11, 12, 13, 14, 15};
	struct batch_run run = {.ids = c->ids,
		.n = c->n_prompt + c->n_answer - 1,
		.blocks = blocks,
		.n_logit_rows = c->n_answer};
	struct err err = {""};
	const float *logits;
	uint32_t n_same = 0;

	ck_assert_msg(model_step(m, &run, 1, &logits, &err) == 0, "%s", err.text);
	for (uint32_t i = 0; i < c->n_answer; i++, logits += f->n_vocab) {
		double d = difference(f, logits, c->logits[i], c->range[i]);
		bool same = best(logits, f->n_vocab) == c->ids[c->n_prompt + i];

		*off = d > *off ? d : *off;
		ck_assert(same || (double)c->lead[i] <= TOLERANCE * (double)c->range[i]);
		n_same += same;
	}
	return n_same;
}

START_TEST(logits_are_those_of_transformers)
{
	const struct ops *ops = ops_at((size_t)_i);
	struct err err = {""};
	struct model_options o = {.n_threads = 2,
		.cpu_path = strchr(ops->name, '/') + 1,
		.max_rows = MAX_TOKENS,
		.max_logit_rows = MAX_ANSWER,
		.kv_blocks = MAX_TOKENS / 16};
	struct model *m = NULL;
	uint32_t n_same = 0, n = 0;
	double off = 0;

	if (run_suite_skips(_i == 0 && IS_SLOW, "minutes with a sanitizer; test_ops.c has what it "
						"finds in plain loops"))
		return;
	struct gguf *g = open_model();
	struct fixture f = read_fixture();
	ck_assert_msg(model_new(&m, g, &o, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(model_config(m)->n_vocab, f.n_vocab);
	for (uint32_t i = 0; i < f.n_conversations; i++) {
		struct conversation c = take_conversation(&f);

		if (_i == 0 && i != SHORTEST)
			continue;
		if (_i == 0) /* it takes its time; the other paths have its bits */
			c.n_answer = 4;
		n_same += compare(m, &f, &c, &off);
		n += c.n_answer;
	}
	printf("%-11s largest difference %.1e of the range, %u of %u tokens\n", ops->name, off,
		n_same, n);
	ck_assert_double_le(off, TOLERANCE);
	model_free(m);
	free(f.bytes);
	gguf_free(g);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *s = suite_create("smollm2");
	TCase *t = tcase_create("smollm2");
	int n_paths = 0;

	if (argc != 3)
		return 2;
	if (run_suite_has_one_thread())
		return 77;
	model_path = argv[1];
	folder = argv[2];
	while (ops_at((size_t)n_paths))
		n_paths++;
	setvbuf(stdout, NULL, _IOLBF, 0);
	tcase_add_test(t, conversations_have_the_tokens_of_their_own_template);
	tcase_add_loop_test(t, logits_are_those_of_transformers, 0, n_paths);
	tcase_set_timeout(t, 120);
	suite_add_tcase(s, t);
	return run_suite(s);
}
