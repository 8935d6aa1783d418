/* SPDX-License-Identifier: Apache-2.0 */
/* cache/lookup and the cache's own look by vectors: who has a prompt looked for pays for its
 * vector, no limit is passed, and what cannot be had or paid holds no request up. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/gateway/vec_fixture.h"
#include "tests/run_suite.h"

static double stat_of(const char *name)
{
	char *text = harness_whole(&vec_h, GATEWAY_CACHE_STATS), line[64];
	snprintf(line, sizeof line, "%s ", name);
	const char *at = strstr(text, line);
	double value = at ? strtod(at + strlen(line), NULL) : -1;
	free(text);
	return value;
}

/* The ledger's lines with that. */
static int lines(const char *with)
{
	char *text = harness_account_view(&vec_h, harness_me(&vec_h), ACCOUNT_LEDGER);
	int n = 0;
	for (const char *at = text; (at = strstr(at, with)); at += strlen(with))
		n++;
	free(text);
	return n;
}

static struct session *asker(const char *id)
{
	struct session *s = harness_session(&vec_h, id, "4");
	ck_assert_int_eq(session_setting_set(s, "temperature", "0", 1, NULL), 0);
	return s;
}

/* The default model, which is free, answers. */
static void ask(struct session *s)
{
	int status;
	ck_assert_int_eq(harness_say(s, vec_words), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert(harness_status(s, "done"));
}

/* Of a model that was never loaded nobody knows what it is, and nothing is looked for. */
static void cache_by_vectors(void)
{
	struct err err;
	struct session *s = asker("warm");
	ask(s);
	session_put(s);
	ck_assert_int_eq(
		gateway_part_setting_set(vec_h.g, GATEWAY_CACHE, "enabled", "1", 1, &err), 0);
	ck_assert_int_eq(
		gateway_part_setting_set(vec_h.g, GATEWAY_CACHE, "embedding_model", "vec", 3, &err),
		0);
}

static const char vector_line[] = "\"embedding\": true";

START_TEST(lookups_use_their_tickets_up_and_are_paid)
{
	cache_by_vectors();
	harness_account(
		&vec_h, harness_me(&vec_h), "requests_per_minute", "3"); /* one was before */
	for (int i = 0; i < 3; i++) {
		struct session *s = vec_channel(GATEWAY_LOOKUP);
		int status, r = harness_say(s, vec_words);
		ck_assert_int_eq(r, i < 2 ? 0 : -EAGAIN);
		free(harness_read(s, &status));
		ck_assert_int_eq(status, i < 2 ? 0 : -EAGAIN);
		session_put(s);
	}
	ck_assert_double_eq(stat_of("embedding_tokens"), 2 * VEC_WORDS_TOK);
	ck_assert_double_eq(vec_spent(), 2 * VEC_WORDS_TOK);
	ck_assert_int_eq(lines(vector_line), 2);
	char *metrics = harness_whole(&vec_h, GATEWAY_PROMETHEUS);
	ck_assert_ptr_nonnull(strstr(metrics, "\nllm_cache_embedding_tokens_total 6\n"));
	free(metrics);
}
END_TEST

START_TEST(whose_prompt_the_cache_looks_for_pays_for_its_vector)
{
	cache_by_vectors();
	struct session *first = asker("first"), *second = asker("second");
	ask(first);
	ck_assert_double_eq(vec_spent(), VEC_WORDS_TOK);
	ck_assert_double_eq(harness_usage(first, "embedding_tokens"), VEC_WORDS_TOK);
	ck_assert_double_eq(harness_usage(first, "embedding_cost"), VEC_WORDS_TOK);
	ck_assert_double_eq(harness_usage(first, "cost"), VEC_WORDS_TOK);
	ck_assert_int_eq(lines(vector_line), 1);
	ck_assert_int_eq(lines("\"model\": \"vec\""), 1);
	ck_assert_int_eq(lines("\"model\": \"tiny\""), 2);
	ask(second); /* just the same: it is found without one */
	ck_assert_double_eq(vec_spent(), VEC_WORDS_TOK);
	ck_assert_double_eq(harness_usage(second, "cost"), 0);
	ck_assert_double_eq(harness_usage(second, "embedding_cost"), -1);
	session_put(first);
	session_put(second);
}
END_TEST

/* A model on the same server that answers, one at a time. */
static struct model *far_model(void)
{
	char url[96];
	struct err err = {0};
	snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", vec_server.port);
	const char *const files[][2] = {
		{"proxy", "none"}, {"endpoint", url}, {"requests_max", "1"}};
	ck_assert_int_eq(gateway_model_create(vec_h.g, "far", NULL), 0);
	struct model *m = gateway_model_find(vec_h.g, "far");
	for (size_t i = 0; i < 3; i++) {
		const char *value = files[i][1];
		int r = model_setting_set(m, files[i][0], value, strlen(value), &err);
		ck_assert_msg(r == 0, "%s", err.text);
	}
	return m;
}

START_TEST(one_that_is_cancelled_at_the_gate_has_paid_its_vector_and_nothing_else)
{
	cache_by_vectors();
	struct model *far = far_model();
	struct session *first = asker("first"), *second = asker("second");
	struct model_facts facts = {0};
	session_setting_set(first, "model", "far", 3, NULL);
	session_setting_set(second, "model", "far", 3, NULL);
	session_setting_set(first, "cache", "off", 3, NULL);
	server_control(&vec_server, "{\"next\": [\"hang-first\"]}");
	ck_assert_int_eq(harness_say(first, vec_words), 0);
	ck_assert(server_awaits(&vec_server, "\"running\"", 1));
	ck_assert_int_eq(harness_say(second, vec_words), 0);
	for (int i = 0; i < 1000 && !facts.waiting; i++) {
		usleep(10000);
		model_facts(far, &facts);
	}
	ck_assert_uint_eq(facts.waiting, 1);
	session_ctl(second, getuid(), getgid(), "cancel", 6, NULL);
	ck_assert(harness_status(second, "cancelled"));
	ck_assert_double_eq(vec_spent(), VEC_WORDS_TOK);
	ck_assert_double_eq(harness_usage(second, "cost"), VEC_WORDS_TOK);
	ck_assert_int_eq(lines(vector_line), 1);
	ck_assert_int_eq(lines("\"model\": \"far\""), 0);
	/* Two were before: cache_by_vectors' and the first. */
	harness_account(&vec_h, harness_me(&vec_h), "requests_per_minute", "3");
	struct session *third = asker("third");
	ask(third);
	ck_assert_int_eq(harness_say(third, vec_words), -EAGAIN);
	session_ctl(first, getuid(), getgid(), "cancel", 6, NULL);
	session_put(first);
	session_put(second);
	session_put(third);
	model_put(far);
}
END_TEST

START_TEST(a_vector_that_costs_nothing_has_no_line)
{
	cache_by_vectors();
	vec_set("price_input", "");
	struct session *s = asker("free");
	ask(s);
	ck_assert_double_eq(stat_of("embedding_tokens"), VEC_WORDS_TOK);
	ck_assert_int_eq(lines(vector_line), 0);
	ck_assert_int_eq(lines("\"model\": \"tiny\""), 2);
	ck_assert_double_eq(harness_usage(s, "embedding_tokens"), -1);
	session_put(s);
}
END_TEST

START_TEST(a_vector_that_did_not_come_in_time_costs_what_it_probably_was)
{
	cache_by_vectors();
	server_control(&vec_server, "{\"next\": [\"hang-first\"]}");
	struct session *s = asker("late");
	ask(s);
	ck_assert_double_eq(vec_spent(), (sizeof vec_words - 2) / 4 + 2);
	ck_assert_int_eq(lines(vector_line), 1);
	server_control(&vec_server, "{\"next\": [\"403\"]}");
	struct session *other = asker("refused");
	ck_assert_int_eq(session_setting_set(other, "seed", "7", 1, NULL), 0);
	ask(other); /* the server has made none, and says so */
	ck_assert_int_eq(lines(vector_line), 1);
	session_put(s);
	session_put(other);
}
END_TEST

START_TEST(a_vector_that_cannot_be_paid_is_not_made_and_the_free_model_answers)
{
	cache_by_vectors();
	struct session *s = asker("poor"), *tight = asker("tight");
	char most[16];
	snprintf(most, sizeof most, "%d", (int)sizeof vec_words - 1 + 2);
	harness_account(&vec_h, harness_me(&vec_h), "limit", "4");
	ask(s);
	ck_assert_int_eq(lines(vector_line), 0);
	harness_account(&vec_h, harness_me(&vec_h), "limit", "");
	ck_assert_int_eq(session_setting_set(tight, "seed", "7", 1, NULL), 0);
	ck_assert_int_eq(session_setting_set(tight, "max_cost", "4", 1, NULL), 0);
	ask(tight);
	ck_assert_int_eq(lines(vector_line), 0);
	ck_assert_double_eq(vec_spent(), 0);
	ck_assert_uint_eq(server_count(&vec_server, "\"target\""), 0);
	harness_account(&vec_h, harness_me(&vec_h), "limit", most);
	struct session *fits = asker("fits");
	ck_assert_int_eq(session_setting_set(fits, "seed", "8", 1, NULL), 0);
	ask(fits);
	ck_assert_double_eq(vec_spent(), VEC_WORDS_TOK);
	session_put(s);
	session_put(tight);
	session_put(fits);
}
END_TEST

/* What an account holds back for requests under way: with a limit of 1000. */
static double reserved(void)
{
	char *text = harness_account_view(&vec_h, harness_me(&vec_h), ACCOUNT_REMAINING);
	double value = 1000 - strtod(text, NULL);
	free(text);
	return value;
}

START_TEST(a_vector_is_reserved_with_the_prompt_and_not_for_whom_the_cache_is_off)
{
	cache_by_vectors();
	harness_account(&vec_h, harness_me(&vec_h), "limit", "1000");
	struct session *s = asker("reserving");
	struct draft *d = NULL;
	ck_assert_int_eq(draft_new(&d, s, getuid(), NULL), 0);
	ck_assert_int_eq(draft_write(d, vec_words, sizeof vec_words - 1, NULL), 0);
	ck_assert_double_eq(reserved(), sizeof vec_words - 1 + 2);
	draft_drop(d);
	ck_assert_int_eq(session_setting_set(s, "cache", "off", 3, NULL), 0);
	ck_assert_int_eq(draft_new(&d, s, getuid(), NULL), 0);
	ck_assert_int_eq(draft_write(d, vec_words, sizeof vec_words - 1, NULL), 0);
	ck_assert_double_eq(reserved(), 0);
	draft_drop(d);
	session_put(s);
}
END_TEST

int main(void)
{
	if (!faulty_start(&vec_server, NULL, NULL))
		return 77;
	Suite *s = suite_create("cache_vectors");
	TCase *t = tcase_create("cache_vectors");
	tcase_add_checked_fixture(t, vec_setup, vec_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, lookups_use_their_tickets_up_and_are_paid);
	tcase_add_test(t, whose_prompt_the_cache_looks_for_pays_for_its_vector);
	tcase_add_test(t, one_that_is_cancelled_at_the_gate_has_paid_its_vector_and_nothing_else);
	tcase_add_test(t, a_vector_that_costs_nothing_has_no_line);
	tcase_add_test(t, a_vector_that_did_not_come_in_time_costs_what_it_probably_was);
	tcase_add_test(t, a_vector_that_cannot_be_paid_is_not_made_and_the_free_model_answers);
	tcase_add_test(t, a_vector_is_reserved_with_the_prompt_and_not_for_whom_the_cache_is_off);
	suite_add_tcase(s, t);
	int failed = run_suite(s);
	faulty_stop(&vec_server);
	return failed;
}
