/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine says of a request's candidates, against the model's own logits. */
#include "engine/candidates.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/model.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/gguf_writer.h"
#include "tests/engine/tiny_vocab.h"
#include "tests/engine/token_fixture.h"
#include "tests/run_suite.h"

enum { LONGEST = 64, N_BLOCKS = (LONGEST + 15) / 16, N_VOCAB = 320 };

static const struct tiny_llama shape = {.n_kv_heads = 2, .seed = 8};
static const char *const words[] = {"safe", "unsafe", "(", "\xC3\xA9"};
static const uint32_t word_ids[] = {'s', 'u', '(', 0xC3}; /* unless a merge of letters is there */
static struct err err;

/* ---- which token ---- */

/* The vocabulary's text of the token that stands for a word, as part of an answer. */
static void assert_token(
	const struct tokenizer *t, const char *word, bool behind_space, const char *want)
{
	struct candidates c;
	const char *text;
	char got[64];
	size_t len;
	int r = candidates_find(&c, t, &word, 1, behind_space, &err);

	ck_assert_msg(r == 0, "%s: %s", word, err.text);
	text = tokenizer_text(t, c.ids[0], &len);
	snprintf(got, sizeof(got), "%.*s", (int)len, text);
	ck_assert_str_eq(got, want);
}

START_TEST(of_a_byte_level_word_it_is_the_first_token)
{
	static const enum tiny_vocab_kind kinds[] = {
		TINY_VOCAB_GPT2, TINY_VOCAB_LLAMA3, TINY_VOCAB_TEKKEN, TINY_VOCAB_SMOLLM};

	for (int i = 0; i < 4; i++) {
		struct tokenizer *t = token_tiny(kinds[i]);

		assert_token(t, "eat", false, "ea"); /* a merge of two letters */
		assert_token(t, "7eat", false, "7");
		assert_token(t, "\xC3\xA9", false, "\xC3");
		/* White space of its own says nothing. */
		assert_token(t, "\n\neat", false, "ea");
		tokenizer_free(t);
	}
}
END_TEST

/* Every second piece of the tiny vocabulary has U+2581 in front. */
START_TEST(of_a_sentencepiece_word_it_has_no_space_unless_the_template_puts_one_there)
{
	struct tokenizer *t = token_tiny(TINY_VOCAB_SENTENCEPIECE);
	struct token_list opening = {0};

	/* That a sequence's first word gets a space is not to be seen. */
	ck_assert(tokenizer_adds_space(t));
	ck_assert_int_eq(tokenizer_encode(t, "et", 2, true, &opening), 0);
	ck_assert_int_eq(strncmp(tokenizer_text(t, opening.ids[0], &(size_t){0}), " et", 3), 0);
	assert_token(t, "et", false, "et");
	assert_token(t, "et", true, " et");
	/* No piece with the space: what comes behind it. */
	assert_token(t, "7", true, "7");
	assert_token(t, " 7", false, "7");
	tokenizer_free(t);
	token_list_free(&opening);
}
END_TEST

START_TEST(what_cannot_be_told_apart_or_says_nothing_is_refused)
{
	static char long_word[300];
	const char *const bad[][5] = {
		{"safe", "safe"},
		{"et", "eta"}, /* the same first token */
		{"safe", " \n"},
		{"safe", ""},
		{"safe", "\xFF"},
		{"safe", long_word},
		{"a", "b", "c", "d", "e"},
	};
	static const size_t n[] = {2, 2, 2, 2, 2, 2, 5};
	struct engine *e = harness_open(&shape, NULL);
	struct tokenizer *t = token_tiny(TINY_VOCAB_GPT2);
	uint32_t ids[] = {1, 2, 3};
	struct answer a;

	memset(long_word, 'a', sizeof(long_word) - 1);
	for (size_t i = 0; i < sizeof(n) / sizeof(n[0]); i++) {
		struct engine_request r = harness_request(&a, ids, 3);
		struct candidates c;
		uint64_t id;

		err.text[0] = '\0';
		r.candidates = bad[i];
		r.n_candidates = n[i];
		ck_assert_int_eq(engine_submit(e, &r, &id, &err), -EINVAL);
		ck_assert_str_ne(err.text, "");
		ck_assert_int_eq(candidates_find(&c, t, bad[i], n[i], false, &err), -EINVAL);
	}
	tokenizer_free(t);
	engine_free(e);
}
END_TEST

/* ---- which numbers ---- */

/* The model beside the engine: its logits, without a scheduler. */
struct direct {
	char path[32];
	struct gguf *g;
	struct model *m;
	struct tokenizer *t;
	struct candidates c;
};

static void direct_open(struct direct *d)
{
	struct model_options o = {
		.n_threads = 1, .max_rows = LONGEST, .max_logit_rows = 1, .kv_blocks = N_BLOCKS};
	int fd;

	strcpy(d->path, "/tmp/candidates-XXXXXX");
	fd = mkstemp(d->path);
	ck_assert_int_ge(fd, 0);
	close(fd);
	tiny_llama_write(&shape, d->path);
	ck_assert_int_eq(gguf_open(&d->g, d->path, 0, &err), 0);
	ck_assert_int_eq(model_new(&d->m, d->g, &o, &err), 0);
	ck_assert_int_eq(tokenizer_new(&d->t, d->g, &err), 0);
	ck_assert_int_eq(candidates_find(&d->c, d->t, words, 4, false, &err), 0);
}

static void direct_close(struct direct *d)
{
	model_free(d->m);
	tokenizer_free(d->t);
	gguf_free(d->g);
	unlink(d->path);
}

/* The most likely token behind these, and in p, in double, how likely the candidates are. */
static uint32_t direct_next(struct direct *d, const uint32_t *ids, uint32_t n, double p[4])
{
	static const uint32_t blocks[N_BLOCKS] = {3, 1, 0, 2};
	struct batch_run run = {.ids = ids, .n = n, .blocks = blocks, .n_logit_rows = 1};
	const float *logits;
	uint32_t best = 0;
	double sum = 0;

	ck_assert_int_eq(model_step(d->m, &run, 1, &logits, &err), 0);
	for (uint32_t i = 0; i < N_VOCAB; i++)
		best = logits[i] > logits[best] ? i : best;
	for (uint32_t i = 0; i < N_VOCAB; i++)
		sum += exp((double)logits[i] - (double)logits[best]);
	for (int i = 0; i < 4; i++)
		p[i] = exp((double)logits[d->c.ids[i]] - (double)logits[best]) / sum;
	return best;
}

static bool says_nothing(uint32_t id)
{
	return id < 256 && strchr(" \t\n\v\f\r", (int)id) && id;
}

/* Greedy until something is said: how many tokens were white space. 99: it never came. */
static int direct_judge(struct direct *d, const uint32_t *prompt, uint32_t n, double p[4])
{
	uint32_t ids[LONGEST];

	memcpy(ids, prompt, n * sizeof(*ids));
	for (int white = 0; n < LONGEST; white++) {
		uint32_t best = direct_next(d, ids, n, p);

		if (!says_nothing(best))
			return white;
		ids[n++] = best;
	}
	return 99;
}

static struct engine_request asking(struct answer *a, const uint32_t *ids, size_t n)
{
	struct engine_request r = harness_request(a, ids, n);

	r.candidates = words;
	r.n_candidates = 4;
	r.max_tokens = 12;
	return r;
}

static void assert_near(const struct answer *a, const double p[4])
{
	ck_assert_int_eq(a->n_judged, 1);
	ck_assert_uint_eq(a->n_candidates, 4);
	for (int i = 0; i < 4; i++)
		ck_assert_msg(fabs((double)a->candidate_p[i] - p[i]) <= 2e-6 * p[i] + 1e-30,
			"candidate %d: %.9g is not %.9g", i, (double)a->candidate_p[i], p[i]);
}

enum { N_PROMPTS = 60 };

/* Prompts, at least a third of which are answered with white space first. */
struct prompts {
	uint32_t ids[N_PROMPTS][40], n[N_PROMPTS];
	double p[N_PROMPTS][4];
	int white[N_PROMPTS];
};

static void find_prompts(struct direct *d, struct prompts *all)
{
	uint32_t random = 5;

	for (int i = 0; i < N_PROMPTS; i++) {
		for (int tries = 0;; tries++) {
			ck_assert_int_lt(tries, 20000);
			all->n[i] = 1 + harness_random(&random) % 39;
			harness_ids(&random, all->ids[i], all->n[i]);
			all->white[i] = direct_judge(d, all->ids[i], all->n[i], all->p[i]);
			if (all->white[i] < 10 && (i % 3 || all->white[i] > 0))
				break;
		}
	}
}

START_TEST(they_are_the_softmax_of_the_first_position_that_says_something)
{
	struct engine *e = harness_open(&shape, NULL);
	static struct prompts all;
	struct direct d;
	int n_white = 0;

	direct_open(&d);
	for (int i = 0; i < 3; i++)
		ck_assert_uint_eq(tokenizer_text(d.t, d.c.ids[i], &(size_t){0})[0], word_ids[i]);
	find_prompts(&d, &all);
	for (int i = 0; i < N_PROMPTS; i++) {
		struct answer a;
		struct engine_request r = asking(&a, all.ids[i], all.n[i]);

		harness_ask(e, &r, &a);
		ck_assert_int_eq(a.status, 0);
		ck_assert(!a.disorder);
		assert_near(&a, all.p[i]);
		n_white += all.white[i] > 0;
		harness_free(&a);
	}
	ck_assert_int_ge(n_white, N_PROMPTS / 3);
	direct_close(&d);
	engine_free(e);
}
END_TEST

START_TEST(among_others_in_the_batch_and_preempted_they_are_the_same_to_the_bit)
{
	/* 128 blocks of 16 for 120 sequences, half of them of up to 7 blocks. */
	struct engine_options o = {
		.max_sequences = 64, .n_threads = 2, .kv_blocks = 128, .step_budget_tok = 70};
	static struct answer alone[N_PROMPTS], together[N_PROMPTS], others[N_PROMPTS];
	static struct prompts all;
	struct engine_stats stats;
	struct direct d;

	direct_open(&d);
	find_prompts(&d, &all);
	direct_close(&d);
	struct engine *e = harness_open(&shape, NULL);
	for (int i = 0; i < N_PROMPTS; i++) {
		struct engine_request r = asking(&alone[i], all.ids[i], all.n[i]);

		r.salt = i;
		harness_ask(e, &r, &alone[i]);
	}
	engine_free(e);
	e = harness_open(&shape, &o);
	for (int i = 0; i < N_PROMPTS; i++) {
		struct engine_request r = harness_request(&others[i], all.ids[i], all.n[i]);

		r.max_tokens = 70;
		r.ignore_eos = true;
		r.sampling = (struct engine_sampling){.temperature = 1, .top_p = 0.9f, .seed = i};
		harness_submit(e, &r, &others[i]);
		r = asking(&together[i], all.ids[i], all.n[i]);
		harness_submit(e, &r, &together[i]);
	}
	for (int i = 0; i < N_PROMPTS; i++) {
		harness_wait(&together[i]);
		harness_wait(&others[i]);
		ck_assert_uint_eq(others[i].n_candidates, 0);
		ck_assert_int_eq(others[i].n_judged, 0);
		ck_assert_int_eq(together[i].n_judged, 1);
		ck_assert(!memcmp(alone[i].candidate_p, together[i].candidate_p,
			sizeof(alone[i].candidate_p)));
		harness_free(&alone[i]);
		harness_free(&together[i]);
		harness_free(&others[i]);
	}
	engine_stats(e, &stats);
	ck_assert_uint_gt(stats.preemptions, 0);
	engine_free(e);
}
END_TEST

START_TEST(how_tokens_are_sampled_does_not_change_them)
{
	struct engine *e = harness_open(&shape, NULL);
	static struct prompts all;
	struct direct d;

	direct_open(&d);
	find_prompts(&d, &all);
	for (int i = 0; i < N_PROMPTS; i++) {
		struct answer a;
		struct engine_request r = asking(&a, all.ids[i], all.n[i]);

		if (all.white[i] > 0) /* another token may be drawn than the one that leads on */
			continue;
		r.ignore_eos = i % 2;
		r.json = i % 3 == 0;
		r.sampling = (struct engine_sampling){
			.temperature = 5, .top_k = 2, .top_p = 0.1f, .min_p = 0.5f, .seed = i};
		harness_ask(e, &r, &a);
		assert_near(&a, all.p[i]);
		harness_free(&a);
	}
	direct_close(&d);
	engine_free(e);
}
END_TEST

START_TEST(they_are_no_numbers_when_nothing_was_said)
{
	struct engine *e = harness_open(&shape, NULL);
	static struct prompts all;
	struct direct d;

	direct_open(&d);
	find_prompts(&d, &all);
	for (int i = 0; i < N_PROMPTS; i++) {
		struct answer a;
		struct engine_request r = asking(&a, all.ids[i], all.n[i]);

		r.max_tokens = 1;
		harness_ask(e, &r, &a);
		ck_assert_uint_eq(a.n_candidates, 4);
		ck_assert_int_eq(a.n_judged, all.white[i] == 0);
		for (int k = 0; k < 4; k++)
			ck_assert(!isnan(a.candidate_p[k]) == (all.white[i] == 0));
		harness_free(&a);
	}
	direct_close(&d);
	engine_free(e);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("candidates");
	TCase *t = tcase_create("candidates");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, of_a_byte_level_word_it_is_the_first_token);
	tcase_add_test(
		t, of_a_sentencepiece_word_it_has_no_space_unless_the_template_puts_one_there);
	tcase_add_test(t, what_cannot_be_told_apart_or_says_nothing_is_refused);
	tcase_add_test(t, they_are_the_softmax_of_the_first_position_that_says_something);
	tcase_add_test(t, among_others_in_the_batch_and_preempted_they_are_the_same_to_the_bit);
	tcase_add_test(t, how_tokens_are_sampled_does_not_change_them);
	tcase_add_test(t, they_are_no_numbers_when_nothing_was_said);
	suite_add_tcase(s, t);
	return run_suite(s);
}
