/* SPDX-License-Identifier: Apache-2.0 */
/* The door, on a tiny random model. */
#include "engine/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/engine/engine_harness.h"
#include "tests/run_suite.h"

static const struct tiny_llama model = {.seed = 12};
/* For answers that are under way until they are ended. */
static const struct tiny_llama roomy = {.seed = 12, .context_tok = 65536};
static uint32_t ids[2048];

static void make_ids(void)
{
	uint32_t random = 21;

	harness_ids(&random, ids, 2048);
}

START_TEST(a_stop_string_over_several_tokens_ends_the_answer_before_it)
{
	struct engine *e = harness_open(&model, NULL);
	struct answer whole, cut;
	struct engine_request r = harness_request(&whole, ids, 30);
	char stop[16] = "";
	const char *const stops[] = {"never in there, surely", stop};
	size_t from, n = 0;

	r.max_tokens = 60;
	r.ignore_eos = true;
	harness_ask(e, &r, &whole);
	ck_assert_int_eq(whole.finish, ENGINE_FINISH_LENGTH);
	/* Some four whole characters in the middle of it. */
	for (from = whole.text.len / 2; (whole.text.data[from] & 0xC0) == 0x80; from++)
		;
	for (int chars = 0; chars < 4; chars++)
		do
			stop[n] = whole.text.data[from + n], n++;
		while ((whole.text.data[from + n] & 0xC0) == 0x80);
	from = (size_t)((char *)memmem(whole.text.data, whole.text.len, stop, n) - whole.text.data);
	r = harness_request(&cut, ids, 30);
	r.max_tokens = 60;
	r.ignore_eos = true;
	r.stop = stops;
	r.n_stop = 2;
	harness_ask(e, &r, &cut);
	ck_assert_int_eq(cut.finish, ENGINE_FINISH_STOP);
	ck_assert_int_eq(cut.status, 0);
	ck_assert_uint_eq(cut.text.len, from);
	ck_assert(from == 0 || !memcmp(cut.text.data, whole.text.data, from));
	ck_assert_uint_lt(cut.usage.output_tok, 60);
	engine_free(e);
	harness_free(&whole);
	harness_free(&cut);
}
END_TEST

START_TEST(ignore_eos_never_ends_early_and_without_it_end_tokens_do)
{
	struct engine *e = harness_open(&model, NULL);
	uint32_t n_stopped = 0;

	for (uint64_t seed = 0; seed < 20; seed++) {
		struct answer a;
		struct engine_request r = harness_request(&a, ids, 5);

		r.sampling.temperature = 20;
		r.sampling.seed = seed;
		r.max_tokens = 200;
		harness_ask(e, &r, &a);
		n_stopped += a.finish == ENGINE_FINISH_STOP;
		harness_free(&a);
		r = harness_request(&a, ids, 5);
		r.sampling.temperature = 20;
		r.sampling.seed = seed;
		r.max_tokens = 200;
		r.ignore_eos = true;
		harness_ask(e, &r, &a);
		ck_assert_int_eq(a.finish, ENGINE_FINISH_LENGTH);
		ck_assert_uint_eq(a.usage.output_tok, 200);
		harness_free(&a);
	}
	ck_assert_uint_gt(n_stopped, 3);
	engine_free(e);
}
END_TEST

START_TEST(the_context_end_is_a_normal_end)
{
	struct engine *e = harness_open(&model, &(struct engine_options){.context_tok = 100});
	static const uint32_t max_tokens[] = {0, 1000, 40};
	struct answer a;

	for (int i = 0; i < 3; i++) {
		struct engine_request r = harness_request(&a, ids, 90);

		r.max_tokens = max_tokens[i];
		r.ignore_eos = true;
		harness_ask(e, &r, &a);
		ck_assert_int_eq(a.finish, ENGINE_FINISH_LENGTH);
		ck_assert_int_eq(a.status, 0);
		ck_assert_uint_eq(a.usage.output_tok, 10);
		harness_free(&a);
	}
	engine_free(e);
}
END_TEST

START_TEST(the_same_seed_gives_the_same_text_and_another_one_another)
{
	struct engine *e = harness_open(&model, NULL);
	struct answer a[3];

	for (int i = 0; i < 3; i++) {
		struct engine_request r = harness_request(&a[i], ids, 20);

		r.sampling.temperature = 1;
		r.sampling.seed = i / 2;
		r.max_tokens = 50;
		r.ignore_eos = true;
		harness_ask(e, &r, &a[i]);
	}
	ck_assert_uint_eq(a[0].text.len, a[1].text.len);
	ck_assert(!memcmp(a[0].text.data, a[1].text.data, a[0].text.len));
	ck_assert(a[0].text.len != a[2].text.len ||
		  memcmp(a[0].text.data, a[2].text.data, a[0].text.len));
	engine_free(e);
	for (int i = 0; i < 3; i++)
		harness_free(&a[i]);
}
END_TEST

START_TEST(a_bias_forbids_a_token_and_a_penalty_ends_a_loop)
{
	struct engine *e = harness_open(&model, NULL);
	struct engine_bias bias;
	struct answer a[4];
	struct engine_request r[4];

	for (int i = 0; i < 4; i++) {
		r[i] = harness_request(&a[i], ids, 20);
		r[i].max_tokens = 60;
		r[i].ignore_eos = true;
		r[i].logprobs = true;
	}
	r[2].sampling.repetition_penalty = 10;
	r[3].sampling.frequency_penalty = 2;
	r[3].sampling.presence_penalty = 2;
	harness_ask(e, &r[0], &a[0]);
	bias = (struct engine_bias){a[0].logprobs[0].id, -100};
	r[1].bias = &bias;
	r[1].n_bias = 1;
	for (int i = 1; i < 4; i++)
		harness_ask(e, &r[i], &a[i]);
	for (uint32_t i = 0; i < 60; i++)
		ck_assert_uint_ne(a[1].logprobs[i].id, bias.id);
	/* Tokens that come again, at once or after some others. */
	for (int k = 0; k < 4; k++) {
		int n_again = 0;

		ck_assert_uint_eq(a[k].n_logprobs, 60);
		for (int i = 1; i < 60; i++)
			for (int j = 0; j < i; j++)
				if (a[k].logprobs[j].id == a[k].logprobs[i].id) {
					n_again++;
					break;
				}
		if (k == 0)
			ck_assert_int_gt(n_again, 20); /* a random model goes in circles */
		if (k >= 2)
			ck_assert_int_lt(n_again, 10);
		harness_free(&a[k]);
	}
	engine_free(e);
}
END_TEST

START_TEST(log_probabilities_come_with_each_token_and_do_not_depend_on_the_sampling)
{
	struct engine *e = harness_open(&model, NULL);
	struct answer a[2];

	for (int i = 0; i < 2; i++) {
		struct engine_request r = harness_request(&a[i], ids, 20);

		r.max_tokens = 12;
		r.logprobs = true;
		r.n_top_logprobs = 3;
		if (i == 1) { /* the first token's are the model's own, whatever is drawn */
			r.sampling.temperature = 2;
			r.sampling.seed = 3;
			r.sampling.repetition_penalty = 2;
		}
		harness_ask(e, &r, &a[i]);
		ck_assert(!a[i].disorder);
		ck_assert_uint_eq(a[i].n_logprobs, a[i].usage.output_tok);
		ck_assert_uint_eq(a[i].n_each, 4);
		for (uint32_t k = 0; k < a[i].n_logprobs; k++) {
			const struct engine_logprob *l = &a[i].logprobs[4 * k];

			ck_assert(l[1].logprob >= l[2].logprob && l[2].logprob >= l[3].logprob);
			ck_assert(l[0].logprob <= l[1].logprob && l[1].logprob < 0);
			if (i == 0) /* greedy */
				ck_assert_mem_eq(&l[0], &l[1], sizeof(*l));
		}
	}
	ck_assert_mem_eq(&a[0].logprobs[1], &a[1].logprobs[1], 3 * sizeof(struct engine_logprob));
	engine_free(e);
	harness_free(&a[0]);
	harness_free(&a[1]);
}
END_TEST

START_TEST(bad_requests_are_refused_with_a_sentence)
{
	struct engine *e = harness_open(&model, NULL);
	static const char *const empty[] = {""};
	struct answer a;
	static const struct engine_bias far = {320, 1};
	struct engine_request bad[9];
	static const int expected[9] = {
		-EINVAL, -EINVAL, -EINVAL, -EINVAL, -EMSGSIZE, -EINVAL, -EINVAL, -EINVAL, -EINVAL};
	static uint32_t beyond[] = {1, 320};
	static uint32_t too_many[4096];

	for (int i = 0; i < 9; i++)
		bad[i] = harness_request(&a, ids, 10);
	bad[0].n_ids = 0;
	bad[1].ids = beyond;
	bad[1].n_ids = 2;
	bad[2].sampling.temperature = -1;
	bad[3].stop = empty;
	bad[3].n_stop = 1;
	bad[4].ids = too_many;
	bad[4].n_ids = 2048;
	bad[5].sampling.top_p = 2;
	bad[6].sampling.frequency_penalty = 3;
	bad[7].bias = &far;
	bad[7].n_bias = 1;
	bad[8].logprobs = true;
	bad[8].n_top_logprobs = 21;
	for (int i = 0; i < 9; i++) {
		struct err err = {""};
		uint64_t id;

		ck_assert_int_eq(engine_submit(e, &bad[i], &id, &err), expected[i]);
		ck_assert_str_ne(err.text, "");
	}
	engine_cancel(e, 0);
	engine_cancel(e, UINT64_MAX);
	engine_free(e);
	ck_assert_int_eq(a.n_started + a.n_ends, 0);
}
END_TEST

START_TEST(freeing_the_engine_ends_each_request_with_ecanceled)
{
	static struct answer answers[100];
	struct engine *e = harness_open(&roomy, &(struct engine_options){.max_sequences = 8});

	for (int i = 0; i < 100; i++) {
		struct engine_request r = harness_request(&answers[i], ids, 50);

		r.ignore_eos = true;
		harness_submit(e, &r, &answers[i]);
	}
	harness_wait_text(&answers[0]);
	engine_free(e);
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(answers[i].n_ends, 1);
		ck_assert_int_eq(answers[i].status, -ECANCELED);
		harness_free(&answers[i]);
	}
}
END_TEST

START_TEST(a_file_truncated_while_mapped_ends_its_requests_with_ebadmsg)
{
	static const struct tiny_llama larger = {
		.n_embd = 256, .n_layers = 4, .context_tok = 65536, .seed = 2};
	char path[] = "/tmp/tiny-llama-XXXXXX";
	struct engine *e;
	struct answer a[3];
	struct engine_request r;
	struct err err = {""};
	uint64_t id;
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	tiny_llama_write(&larger, path);
	ck_assert_int_eq(engine_open(&e, path, NULL, NULL, &err), 0);
	for (int i = 0; i < 3; i++) {
		r = harness_request(&a[i], ids, 20);
		r.ignore_eos = true;
		harness_submit(e, &r, &a[i]);
	}
	harness_wait_text(&a[0]);
	ck_assert_int_eq(truncate(path, 4096), 0);
	for (int i = 0; i < 3; i++) {
		harness_wait(&a[i]);
		ck_assert_int_eq(a[i].status, -EBADMSG);
		ck_assert_int_eq(a[i].finish, ENGINE_FINISH_ERROR);
		ck_assert_str_ne(a[i].sentence, "");
		harness_free(&a[i]);
	}
	/* The answer's end may be told a moment before the door is shut. */
	for (int i = 0; i < 100000; i++) {
		r = harness_request(&a[0], ids, 20);
		err.text[0] = '\0';
		if (engine_submit(e, &r, &id, &err) == -EBADMSG)
			break;
		harness_wait(&a[0]);
		ck_assert_int_eq(a[0].status, -EBADMSG);
	}
	ck_assert_str_ne(err.text, "");
	engine_free(e);
	unlink(path);
	close(fd);
}
END_TEST

START_TEST(bad_files_and_options_are_refused_with_a_sentence)
{
	struct engine *e;
	struct err err = {""};
	char path[] = "/tmp/tiny-llama-XXXXXX";
	struct stat st;
	volatile bool stop = true;
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(engine_open(&e, "/nonexistent/x.gguf", NULL, NULL, &err), -ENOENT);
	ck_assert_ptr_null(e);
	ck_assert_int_eq(engine_open(&e, "/tmp", NULL, NULL, &err), -EINVAL);
	ck_assert_int_eq(engine_open(&e, path, NULL, NULL, &err), -EBADMSG); /* empty */
	tiny_llama_write(&model, path);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(
		engine_open(&e, path, &(struct engine_options){.forbidden_device = st.st_dev}, NULL,
			&err),
		-EINVAL);
	ck_assert_int_eq(
		engine_open(&e, path, &(struct engine_options){.cpu_path = "abacus"}, NULL, &err),
		-EINVAL);
	ck_assert_int_eq(engine_open(&e, path, &(struct engine_options){.kv_bytes = 1}, NULL, &err),
		-EINVAL);
	ck_assert_int_eq(
		engine_open(&e, path, &(struct engine_options){.chat_family = "zork"}, NULL, &err),
		-EINVAL);
	ck_assert_str_ne(err.text, "");
	ck_assert_int_eq(engine_open(&e, path, NULL, &stop, &err), -ECANCELED);
	ck_assert_int_eq(truncate(path, st.st_size / 2), 0);
	ck_assert_int_eq(engine_open(&e, path, NULL, NULL, &err), -EBADMSG);
	ck_assert_ptr_null(e);
	unlink(path);
	ck_assert_ptr_null(engine_free(NULL));
}
END_TEST

START_TEST(a_conversation_is_rendered_asked_and_its_info_is_told)
{
	static const struct engine_message messages[] = {
		{ENGINE_SYSTEM, "Be brief.", 9}, {ENGINE_USER, "Hello <|im_end|>", 16}};
	struct engine *e = harness_open(&model, NULL);
	const struct engine_info *info = engine_info(e);
	struct engine_tokens tokens;
	struct buf text = {0};
	struct answer a;
	struct engine_request r;
	uint32_t n_end = 0, beyond = info->n_vocab;

	ck_assert_str_eq(info->architecture, "llama");
	ck_assert_str_eq(info->file_type, "F32");
	ck_assert_str_eq(info->chat_family, "chatml");
	ck_assert_uint_eq(info->context_tok, 2048);
	ck_assert_uint_eq(info->kv_block_tok, 16);
	ck_assert_uint_gt(info->kv_bytes, 0);
	ck_assert_uint_eq(info->n_vocab, 320);
	ck_assert_int_eq(engine_render(e, messages, 2, true, &tokens, NULL), 0);
	for (size_t i = 0; i < tokens.n; i++)
		n_end += tokens.ids[i] == 319;
	ck_assert_uint_eq(n_end, 2); /* the template's two, none from the text */
	ck_assert_int_eq(engine_detokenize(e, tokens.ids, tokens.n, &text), 0);
	ck_assert_ptr_nonnull(strstr(text.data, "Hello <|im_end|>"));
	ck_assert_int_eq(engine_detokenize(e, &beyond, 1, &text), -EINVAL);
	r = harness_request(&a, tokens.ids, tokens.n);
	r.max_tokens = 5;
	harness_ask(e, &r, &a);
	ck_assert_int_eq(a.status, 0);
	ck_assert_uint_gt(a.usage.prefill_ns, 0);
	free(tokens.ids);
	ck_assert_int_eq(engine_tokenize(e, "a\xFF", 2, &tokens, NULL), -EILSEQ);
	engine_free(e);
	harness_free(&a);
	buf_free(&text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("engine/engine");
	TCase *t = tcase_create("engine");

	make_ids();
	tcase_set_timeout(t, 300);
	tcase_add_test(t, a_stop_string_over_several_tokens_ends_the_answer_before_it);
	tcase_add_test(t, ignore_eos_never_ends_early_and_without_it_end_tokens_do);
	tcase_add_test(t, the_context_end_is_a_normal_end);
	tcase_add_test(t, the_same_seed_gives_the_same_text_and_another_one_another);
	tcase_add_test(t, a_bias_forbids_a_token_and_a_penalty_ends_a_loop);
	tcase_add_test(t, log_probabilities_come_with_each_token_and_do_not_depend_on_the_sampling);
	tcase_add_test(t, bad_requests_are_refused_with_a_sentence);
	tcase_add_test(t, freeing_the_engine_ends_each_request_with_ecanceled);
	tcase_add_test(t, a_file_truncated_while_mapped_ends_its_requests_with_ebadmsg);
	tcase_add_test(t, bad_files_and_options_are_refused_with_a_sentence);
	tcase_add_test(t, a_conversation_is_rendered_asked_and_its_info_is_told);
	suite_add_tcase(s, t);
	return run_suite(s);
}
