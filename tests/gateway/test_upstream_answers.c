/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of models that are elsewhere: what a session shows of them, and what they count for. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/core.h"
#include "gateway/http.h"
#include "gateway/store.h"
#include "tests/gateway/far_fixture.h"
#include "tests/run_suite.h"

START_TEST(a_session_does_not_notice_that_its_model_is_elsewhere)
{
	struct session *s = far_session("a");
	far_expect_state("ready");
	far_expect_answer(s, far_whole);
	far_expect_answer(s, far_whole);
	ck_assert(harness_usage(s, "output_tokens") == 9);
	ck_assert_uint_eq(server_count(&far_server, "remote"), 0);
	far_set(far_m, "remote_name", "remote/name");
	far_expect_answer(s, far_whole);
	ck_assert_uint_eq(server_count(&far_server, "remote/name"), 1);
	char *chat = harness_view(s, SESSION_CHAT);
	ck_assert_ptr_nonnull(strstr(chat, far_whole));
	free(chat);
	session_put(s);
}
END_TEST

/* Until a call to the server has begun and ended. */
static void wait_for_the_call(void)
{
	size_t running = 1, connections = 0;
	for (int ms = 0; (running || !connections) && ms < 10000; ms += 10) {
		usleep(10000);
		http_count(far_h.g->http, &running, &connections);
	}
	ck_assert_uint_eq(running, 0);
	ck_assert_uint_eq(connections, 1);
	usleep(20000); /* the request has heard of it */
}

/* What is written is counted by its length until the server says how much it was. Here the store is
 * slow: the text is all there before the first of its tokens are written down as spent. */
START_TEST(an_answer_of_fewer_tokens_than_were_counted_ends)
{
	struct session *s = far_session("a");
	int status;
	far_set_endpoint("/b/echo=800/v1");
	store_begin(far_h.g->store);
	ck_assert_int_eq(
		harness_say(s, "a line of many more tokens than the server counts it for, which "
			       "is one a line\n"),
		0);
	wait_for_the_call();
	store_end(far_h.g->store);
	char *answer = harness_read(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(strlen(answer), 800 * 78);
	ck_assert(harness_usage(s, "output_tokens") == 800);
	free(answer);
	session_put(s);
}
END_TEST

START_TEST(an_answer_that_does_not_keep_to_max_tokens_is_charged_as_what_was_shown)
{
	struct session *s = far_session("a");
	int status;
	far_set_endpoint("/b/long/v1");
	ck_assert_int_eq(session_setting_set(s, "max_tokens", "100", 3, NULL), 0);
	ck_assert_int_eq(harness_say(s, "tell me\n"), 0);
	char *answer = harness_read(s, &status);
	ck_assert_int_eq(status, 0);
	size_t words = strlen(answer) / strlen(" more");
	ck_assert(words > 100 && words < 4000);
	ck_assert(harness_usage(s, "output_tokens") >= words);
	free(answer);
	session_put(s);
}
END_TEST

START_TEST(an_answer_that_breaks_off_has_what_was_there_and_an_errno)
{
	struct session *s = far_session("a");
	int status;
	server_control(&far_server, "{\"next\": [\"close-middle\"]}");
	ck_assert_int_eq(harness_say(s, "tell me\n"), 0);
	char *answer = harness_read(s, &status);
	ck_assert_int_eq(status, -EPROTO);
	ck_assert_str_eq(answer, "The quick");
	free(answer);
	server_control(&far_server, "{\"next\": [\"403\", \"context\"]}");
	far_expect_failure(s, "go\n", -EACCES, "models/far/key");
	far_expect_failure(s, "go\n", -EMSGSIZE, "context");
	session_put(s);
}
END_TEST

/* Two pieces, of which a rule holds the second, or a whole answer, of which it holds the last word;
 * and then a fault. */
static void expect_broken(
	struct session *s, const char *rule, const char *behaviour, int expected, const char *text)
{
	char control[64];
	int status;
	harness_guard(&far_h, "output/x.rules", rule);
	snprintf(control, sizeof control, "{\"next\": [\"%s\"]}", behaviour);
	server_control(&far_server, control);
	ck_assert_int_eq(harness_say(s, "tell me\n"), 0);
	char *answer = harness_read(s, &status);
	ck_assert_msg(status == expected, "%s: %d", behaviour, status);
	ck_assert_msg(!strcmp(answer, text), "%s %s: %s", behaviour, rule, answer);
	free(answer);
}

START_TEST(what_a_rule_holds_of_an_answer_that_breaks_off_is_shown_if_it_is_clean)
{
	static const char hold[] = "block w /\\b(?:quick|dog)[a-z.]{0,9}!/\n";
	struct session *s = far_session("a");
	far_set(far_m, "idle_timeout_ms", "300");
	far_set(far_m, "breaker_failures", "1000");
	expect_broken(s, hold, "hang-middle", -ETIMEDOUT, "The quick");
	far_set(far_m, "idle_timeout_ms", "20000");
	expect_broken(s, hold, "reset", -EPROTO, "The quick");
	expect_broken(s, hold, "error-middle", -EHOSTUNREACH, "The quick");
	expect_broken(s, hold, "finish=content_filter", -EPERM, far_whole);
	/* A match that is one as soon as the text ends there. */
	expect_broken(s, "block w /quick\\b/\n", "close-middle", -EPERM, "The ");
	expect_broken(s, "redact w /quick\\b/\n", "garbage-json", -EPROTO, "The [w]");
	expect_broken(s, "block j json\n", "no-end", -EPROTO, "");
	session_put(s);
}
END_TEST

static void expect_without(char *text, const char *secret)
{
	ck_assert_ptr_nonnull(text);
	ck_assert_msg(!strstr(text, secret), "%s", text);
	free(text);
}

/* All that others than the asker may read. */
static void expect_nobody_reads(const char *secret)
{
	for (enum model_view v = MODEL_STATE; v <= MODEL_METRICS; v++)
		expect_without(far_view(far_m, v), secret);
	for (enum gateway_view v = GATEWAY_STATUS; v <= GATEWAY_CACHE_STATS; v++)
		expect_without(harness_whole(&far_h, v), secret);
	struct model_facts f;
	model_facts(far_m, &f);
	ck_assert_msg(!strstr(f.why.text, secret), "%s", f.why.text);
}

START_TEST(what_a_server_says_of_a_prompt_is_told_to_who_asked_only)
{
	static const char secret[] = "hunter2", *const paths[] = {"/b/quote=500/v1",
							"/b/quote=503/v1", "/b/quote=400/v1",
							"/b/quote=401/v1", "/b/quote=504/v1"};
	static const int codes[] = {-EHOSTUNREACH, -EHOSTUNREACH, -EPROTO, -EACCES, -ETIMEDOUT};
	struct session *ann = far_session("ann"), *bob = far_session("bob");
	far_set(far_m, "retries", "0");
	far_set(far_m, "breaker_failures", "2");
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		far_set_endpoint(paths[i]);
		far_expect_failure(ann, "hunter2 is my password\n", codes[i], secret);
		expect_nobody_reads(secret); /* has failed lately */
		far_expect_failure(ann, "hunter2 is my password\n", codes[i], secret);
		expect_nobody_reads(secret); /* or its breaker is open */
		far_expect_failure(bob, "and I?\n",
			codes[i] == -ETIMEDOUT ? -EHOSTUNREACH : codes[i],
			i < 2 || i == 4 ? "has failed 2 times (HTTP 50" : "cannot parse: and I?");
		expect_without(harness_view(bob, SESSION_ERROR), secret);
		expect_without(harness_view(bob, SESSION_TRACE), secret);
		expect_without(harness_view(bob, SESSION_EVENTS), secret);
	}
	session_put(ann);
	session_put(bob);
}
END_TEST

START_TEST(a_conversation_that_is_longer_than_the_estimated_context_loses_its_oldest_turns)
{
	struct session *s = far_session("a");
	char text[4096];
	memset(text, 'x', sizeof text);
	for (size_t i = 4; i < sizeof text; i += 5)
		text[i] = ' ';
	far_set(far_m, "context", "400");
	ck_assert_int_eq(session_setting_set(s, "max_tokens", "20", 2, NULL), 0);
	for (int i = 0; i < 6; i++) {
		char prompt[512];
		int status;
		snprintf(prompt, sizeof prompt, "turn%d %.400s\n", i, text);
		ck_assert_int_eq(harness_say(s, prompt), 0);
		free(harness_read(s, &status));
		ck_assert_int_eq(status, 0);
	}
	char *log = server_log(&far_server), *last = log;
	for (char *at = log; (at = strstr(at, "\"body\"")); at++)
		last = at;
	ck_assert_ptr_null(strstr(last, "turn0"));
	ck_assert_ptr_nonnull(strstr(last, "turn5"));
	free(log);
	text[sizeof text - 1] = '\0';
	far_expect_failure(s, text, -EMSGSIZE, "longer than the model's context of 400 tokens");
	session_put(s);
}
END_TEST

int main(void)
{
	if (!faulty_start(&far_server, NULL, NULL))
		return 77;
	Suite *s = suite_create("upstream_answers");
	TCase *t = tcase_create("upstream_answers");
	tcase_add_checked_fixture(t, far_setup, far_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_session_does_not_notice_that_its_model_is_elsewhere);
	tcase_add_test(t, an_answer_of_fewer_tokens_than_were_counted_ends);
	tcase_add_test(t, an_answer_that_does_not_keep_to_max_tokens_is_charged_as_what_was_shown);
	tcase_add_test(t, an_answer_that_breaks_off_has_what_was_there_and_an_errno);
	tcase_add_test(t, what_a_rule_holds_of_an_answer_that_breaks_off_is_shown_if_it_is_clean);
	tcase_add_test(t, what_a_server_says_of_a_prompt_is_told_to_who_asked_only);
	tcase_add_test(
		t, a_conversation_that_is_longer_than_the_estimated_context_loses_its_oldest_turns);
	suite_add_tcase(s, t);
	int failed = run_suite(s);
	faulty_stop(&far_server);
	return failed;
}
