/* SPDX-License-Identifier: Apache-2.0 */
/* Which back end an engine has, and what is told of it: the late one in the place of CUDA's. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/engine/engine_harness.h"
#include "tests/engine/late_backend.h"
#include "tests/run_suite.h"

static const struct tiny_llama model = {.n_kv_heads = 2, .seed = 3};

static int open_with(struct engine **e, const char *backend, struct late_ways ways, struct err *err)
{
	char path[] = "/tmp/test-backends-XXXXXX";
	int fd = mkstemp(path), r;

	ck_assert_int_ge(fd, 0);
	close(fd);
	tiny_llama_write(&model, path);
	late_ways = ways;
	r = engine_open(e, path, &(struct engine_options){.backend = backend}, NULL, err);
	late_ways = (struct late_ways){0};
	unlink(path);
	return r;
}

START_TEST(auto_takes_what_there_is_and_says_why_it_is_no_gpu)
{
	static const struct late_ways obstacles[] = {
		{.refuses = -ENOTSUP}, {.refuses = -ENODEV}, {.open_fails = -ENOMEM}};
	struct err err = {""};
	struct engine *e;

	ck_assert_int_eq(open_with(&e, "auto", (struct late_ways){0}, &err), 0);
	ck_assert_str_eq(engine_info(e)->backend, "cuda/late");
	ck_assert_str_eq(engine_info(e)->backend_note, "");
	engine_free(e);
	for (size_t i = 0; i < sizeof(obstacles) / sizeof(*obstacles); i++) {
		ck_assert_int_eq(open_with(&e, NULL, obstacles[i], &err), 0);
		ck_assert(!strncmp(engine_info(e)->backend, "cpu/", 4));
		ck_assert_str_eq(engine_info(e)->backend_note, LATE_REFUSAL);
		engine_free(e);
	}
	ck_assert_int_eq(open_with(&e, "cpu", (struct late_ways){0}, &err), 0);
	ck_assert(!strncmp(engine_info(e)->backend, "cpu/", 4));
	ck_assert_str_eq(engine_info(e)->backend_note, "");
	engine_free(e);
}
END_TEST

START_TEST(what_is_asked_for_by_name_is_had_or_refused)
{
	struct err err = {""};
	struct engine *e;

	ck_assert_int_eq(
		open_with(&e, "cuda", (struct late_ways){.refuses = -ENODEV}, &err), -ENODEV);
	ck_assert_str_eq(err.text, LATE_REFUSAL);
	ck_assert_ptr_null(e);
	ck_assert_int_eq(
		open_with(&e, "cuda", (struct late_ways){.open_fails = -ENOMEM}, &err), -ENOMEM);
	ck_assert_str_eq(err.text, LATE_REFUSAL);
	/* Damage is damage, whoever computes. */
	ck_assert_int_eq(
		open_with(&e, "auto", (struct late_ways){.open_fails = -EBADMSG}, &err), -EBADMSG);
	ck_assert_int_eq(open_with(&e, "gpu", (struct late_ways){0}, &err), -EINVAL);
	ck_assert_str_eq(err.text, "a back end is auto, cpu or cuda");
}
END_TEST

START_TEST(a_pool_shrinks_to_the_memory_there_is_and_the_context_with_it)
{
	struct err err = {""};
	struct engine_stats stats;
	struct engine *e;

	ck_assert_int_eq(open_with(&e, "cuda", (struct late_ways){0}, &err), 0);
	ck_assert_uint_eq(engine_info(e)->context_tok, 2048);
	ck_assert_uint_eq(engine_info(e)->kv_blocks, 2048 / 16 * 48);
	engine_free(e);
	ck_assert_int_eq(open_with(&e, "cuda", (struct late_ways){.kv_blocks = 5}, &err), 0);
	ck_assert_uint_eq(engine_info(e)->context_tok, 80);
	ck_assert_uint_eq(engine_info(e)->kv_blocks, 5);
	ck_assert_uint_eq(engine_info(e)->kv_bytes % 5, 0);
	engine_stats(e, &stats);
	ck_assert_uint_eq(stats.kv_blocks_total, 5);
	engine_free(e);
}
END_TEST

START_TEST(what_the_device_says_is_told)
{
	struct err err = {""};
	struct engine_device d;
	struct engine *e;

	ck_assert_int_eq(open_with(&e, "cuda", (struct late_ways){0}, &err), 0);
	engine_device(e, &d);
	ck_assert_uint_eq(d.memory_used, 1000);
	ck_assert_uint_eq(d.memory_free, 2000);
	ck_assert_uint_eq(d.graph_hits, 7);
	ck_assert_uint_eq(d.graph_misses, 3);
	ck_assert_float_eq(d.utilisation, 0.5f);
	engine_free(e);
	ck_assert_int_eq(open_with(&e, "cpu", (struct late_ways){0}, &err), 0);
	engine_device(e, &d);
	ck_assert_uint_eq(d.memory_used + d.memory_free + d.graph_hits + d.graph_misses, 0);
	ck_assert_float_lt(d.utilisation, 0);
	engine_free(e);
}
END_TEST

START_TEST(stats_tell_of_the_last_step_and_of_tokens_a_second)
{
	const struct tiny_llama roomy = {.n_kv_heads = 2, .seed = 3, .context_tok = 65536};
	struct engine *e = harness_open(&roomy, &(struct engine_options){.n_threads = 1});
	struct engine_stats stats;
	uint32_t random = 5, ids[20];
	struct answer a;
	struct engine_request r;

	harness_ids(&random, ids, 20);
	r = harness_request(&a, ids, 20);
	r.ignore_eos = true;
	harness_submit(e, &r, &a);
	for (int i = 0; i < 60000; i++) {
		engine_stats(e, &stats);
		if (stats.output_tok_s > 0)
			break;
		usleep(1000);
	}
	ck_assert_double_gt(stats.output_tok_s, 1);
	ck_assert_uint_eq(stats.step_sequences, 1);
	ck_assert_uint_eq(stats.step_rows, 1);
	engine_cancel(e, a.id);
	harness_wait(&a);
	harness_await_idle(e);
	engine_stats(e, &stats);
	ck_assert_double_eq(stats.output_tok_s, 0);
	engine_free(e);
	harness_free(&a);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("engine/backends");
	TCase *t = tcase_create("backends");

	tcase_set_timeout(t, 600);
	tcase_add_test(t, auto_takes_what_there_is_and_says_why_it_is_no_gpu);
	tcase_add_test(t, what_is_asked_for_by_name_is_had_or_refused);
	tcase_add_test(t, a_pool_shrinks_to_the_memory_there_is_and_the_context_with_it);
	tcase_add_test(t, what_the_device_says_is_told);
	tcase_add_test(t, stats_tell_of_the_last_step_and_of_tokens_a_second);
	suite_add_tcase(s, t);
	return run_suite(s);
}
