/* SPDX-License-Identifier: Apache-2.0 */
/* An upstream in front of a server that does everything wrong: what is told of each fault, once,
 * and what is tried again. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/gateway/ask_fixture.h"
#include "tests/run_suite.h"

/* ---- faults ---- */

struct fault {
	const char *behaviour;
	int status;
	bool retryable;
	const char *text, *sentence;
	unsigned failures; /* that the breaker counts */
};

static const struct fault faults[] = {
	{"500", -EHOSTUNREACH, true, "", "500", 1},
	{"503", -EHOSTUNREACH, true, "", "503", 1},
	{"529", -EHOSTUNREACH, true, "", "529", 1},
	{"html=502", -EHOSTUNREACH, true, "", "502", 1},
	{"404", -EHOSTUNREACH, true, "", "404", 0},
	{"408", -ETIMEDOUT, true, "", "408", 1},
	{"400", -EPROTO, false, "", "400", 0},
	{"context", -EMSGSIZE, true, "", "context", 0}, /* elsewhere */
	{"401", -EACCES, true, "", "models/m/key", 0},
	{"403", -EACCES, true, "", "models/m/key", 0},
	{"429=2", -EBUSY, true, "", "429", 0},
	{"garbage", -EPROTO, true, "", "127.0.0.1", 1},
	{"garbage-sse", -EPROTO, true, "", "models/m", 1},
	{"garbage-body", -EPROTO, true, "", "models/m", 1},
	{"garbage-shape", -EPROTO, true, "", "models/m", 1},
	{"close", -EPROTO, true, "", "127.0.0.1", 1},
	{"close-headers", -EPROTO, true, "", "127.0.0.1", 1},
	{"silent", -EPROTO, true, "", "without a word: the prompt may be longer",
		0}, /* elsewhere */
	{"silent=2", -EPROTO, true, "", "models/m/context", 0},
	{"error-first", -EHOSTUNREACH, true, "",
		": an error in its answer, the server failed: the model fell over", 1},
	{"hang-first", -ETIMEDOUT, true, "", "127.0.0.1", 1},
	{"hang-headers", -ETIMEDOUT, true, "", "127.0.0.1", 1},
	/* Something of the answer was there. */
	{"hang-middle", -ETIMEDOUT, false, "The quick", "127.0.0.1", 1},
	{"garbage-json", -EPROTO, false, "The quick", "models/m", 1},
	{"close-middle", -EPROTO, false, "The quick", "127.0.0.1", 1},
	{"reset", -EPROTO, false, "The quick", "127.0.0.1", 1},
	{"utf8", -EPROTO, false, "The quick", "models/m", 1},
	{"error-middle", -EHOSTUNREACH, false, "The quick", "fell over", 1},
	{"no-done", 0, false, ask_whole, "", 0},
};

static void expect_fault(const struct fault *f, const struct protocol *protocol)
{
	char control[64], failures[64];
	struct asked a;
	struct buf info = {0};
	snprintf(control, sizeof control, "{\"next\": [\"%s\"]}", f->behaviour);
	server_control(&ask_server, control);
	ask_ups.config.protocol = protocol;
	/* Short only where it is waited for: others run here, too. */
	ask_ups.config.first_ms = ask_ups.config.idle_ms =
		strncmp(f->behaviour, "hang", 4) ? 5000 : 300;
	ups_load(&ask_ups);
	ups_ask(&ask_ups, &a);
	ck_assert_msg(a.status == f->status, "%s: %d: %s", f->behaviour, a.status, a.sentence);
	ck_assert_msg(a.retryable == f->retryable, "%s: %d", f->behaviour, a.retryable);
	ck_assert_msg(!strcmp(ask_text(&a), f->text), "%s: %s", f->behaviour, ask_text(&a));
	ck_assert_msg(protocol != &protocol_openai || strstr(a.sentence, f->sentence), "%s: %s",
		f->behaviour, a.sentence);
	ck_assert_msg(!f->status || !strncmp(a.sentence, "models/m", 8), "%s", a.sentence);
	ck_assert_uint_eq(a.n_ended, 1);
	ck_assert(a.status == 0 || *f->text || !a.usage.output_tok);
	upstream_provider.info(ask_ups.handle, &info);
	snprintf(failures, sizeof failures, "\"failures_in_a_row\": %u%s", f->failures,
		f->failures ? ", \"last_failure\": \"" : "}");
	ck_assert_msg(strstr(info.data, failures), "%s: %s", f->behaviour, info.data);
	ck_assert_msg(strstr(info.data, "\"outstanding\": 0,"), "%s", info.data);
	buf_free(&info);
	asked_free(&a);
	upstream_provider.unload(ask_ups.handle);
	ask_ups.handle = NULL;
}

START_TEST(each_fault_has_its_errno_its_sentence_and_one_end)
{
	ups_endpoint(&ask_ups, ask_server.port, "/v1", 1);
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		expect_fault(&faults[i], &protocol_openai);
		expect_fault(&faults[i], &protocol_anthropic);
	}
}
END_TEST

START_TEST(an_error_that_blames_the_request_is_no_failure_of_its_server)
{
	static const struct {
		const char *type;
		int status;
		bool retryable; /* elsewhere */
	} errors[] = {{"invalid_request_error", -EPROTO, false},
		{"request_too_large", -EMSGSIZE, true}, {"authentication_error", -EACCES, true},
		{"not_found_error", -EHOSTUNREACH, true}};
	ask_ups.config.retries = 4;
	ask_ups.config.breaker_failures = 1;
	ups_endpoint(&ask_ups, ask_server.port, "/v1", 1);
	for (size_t i = 0; i < 2 * sizeof errors / sizeof *errors; i++) {
		struct asked a;
		struct err why = {0};
		char control[64];
		snprintf(
			control, sizeof control, "{\"default\": \"error=%s\"}", errors[i / 2].type);
		server_reset(&ask_server);
		server_control(&ask_server, control);
		ask_ups.config.protocol = i % 2 ? &protocol_anthropic : &protocol_openai;
		ups_load(&ask_ups);
		ups_ask(&ask_ups, &a);
		ck_assert_msg(a.status == errors[i / 2].status, "%d: %s", a.status, a.sentence);
		ck_assert_int_eq(a.retryable, errors[i / 2].retryable);
		ck_assert_str_eq(ask_health(&why), "ready");
		ck_assert_uint_eq(ask_count(), 1);
		asked_free(&a);
		upstream_provider.unload(ask_ups.handle);
		ask_ups.handle = NULL;
	}
	/* One that blames itself is. */
	struct err why = {0};
	ask_ups.config.retries = 0;
	ups_load(&ask_ups);
	server_control(&ask_server, "{\"default\": \"error=api_error\"}");
	ask_for(-EHOSTUNREACH);
	ck_assert_str_eq(ask_health(&why), "open");
}
END_TEST

START_TEST(a_status_is_believed_however_its_body_goes_on)
{
	struct asked a;
	ask_ups.config.total_ms = 10000;
	ask_load();
	server_control(&ask_server, "{\"next\": [\"endless=401\", \"endless=500\"]}");
	uint64_t from = clock_mono_ns();
	ck_assert_int_eq(ups_ask(&ask_ups, &a), -EACCES);
	ck_assert_uint_lt(a.ended_ns - from, 8000000000);
	asked_free(&a);
	ck_assert_int_eq(ups_ask(&ask_ups, &a), -EHOSTUNREACH);
	asked_free(&a);
	ck_assert(server_awaits(&ask_server, "\"state\": \"gone\"", 2));
}
END_TEST

START_TEST(who_does_not_take_a_connection_is_unreachable_or_too_slow)
{
	struct asked a;
	ups_endpoint(&ask_ups, ask_server.closed, "/v1", 1);
	ups_load(&ask_ups);
	ck_assert_int_eq(ups_ask(&ask_ups, &a), -EHOSTUNREACH);
	ck_assert(a.retryable);
	ck_assert_ptr_nonnull(strstr(a.sentence, "127.0.0.1"));
	asked_free(&a);
	upstream_provider.unload(ask_ups.handle);
	ask_ups.config.n_endpoints = 0;
	ask_ups.config.connect_ms = 300;
	ups_endpoint(&ask_ups, ask_server.deaf, "/v1", 1);
	ups_load(&ask_ups);
	uint64_t from = clock_mono_ns();
	ck_assert_int_eq(ups_ask(&ask_ups, &a), -ETIMEDOUT);
	ck_assert(a.ended_ns - from < 4000000000);
	asked_free(&a);
}
END_TEST

START_TEST(an_answer_that_takes_too_long_breaks_off)
{
	struct asked a;
	ask_ups.config.total_ms = 1500;
	ask_load();
	server_control(&ask_server, "{\"next\": [\"pace=400\"]}");
	ck_assert_int_eq(ups_ask(&ask_ups, &a), -ETIMEDOUT);
	ck_assert_str_ne(ask_text(&a), "");
	ck_assert(!a.retryable);
	asked_free(&a);
}
END_TEST

START_TEST(an_answer_without_end_is_cut_where_it_is_longer_than_max_tokens_can_be)
{
	const struct provider_request q = {.max_tokens = 10};
	struct asked a;
	ask_load();
	server_control(&ask_server, "{\"next\": [\"long\"]}");
	ups_begin(&ask_ups, &a, "go on", &q);
	ups_wait(&a);
	ck_assert_int_eq(a.status, 0);
	ck_assert_str_eq(a.finish, "length");
	/* Which costs what it is, whatever was asked for: each of its words is a token. */
	ck_assert(a.estimated);
	ck_assert_uint_ge(a.usage.output_tok, a.text.len / strlen(" more"));
	ck_assert_uint_lt(a.usage.output_tok, 2 * a.text.len / strlen(" more"));
	ck_assert_uint_lt(a.text.len, 20000);
	ck_assert(server_awaits(&ask_server, "\"state\": \"gone\"", 1));
	asked_free(&a);
}
END_TEST

/* ---- tries again ---- */

START_TEST(what_fails_before_the_first_byte_is_tried_again_and_given_once)
{
	ask_ups.config.retries = 4;
	ask_load();
	server_control(
		&ask_server, "{\"next\": [\"500\", \"close\", \"garbage-sse\", \"error-first\"]}");
	ask_well();
	ck_assert_uint_eq(ask_count(), 5);
}
END_TEST

START_TEST(what_fails_after_the_first_byte_is_not_tried_again)
{
	struct asked a;
	ask_ups.config.retries = 4;
	ask_load();
	server_control(&ask_server, "{\"next\": [\"close-middle\"]}");
	ck_assert_int_eq(ups_ask(&ask_ups, &a), -EPROTO);
	ck_assert_str_eq(ask_text(&a), "The quick");
	ck_assert_uint_eq(ask_count(), 1);
	asked_free(&a);
}
END_TEST

START_TEST(what_is_wrong_with_the_request_is_not_tried_again)
{
	ask_ups.config.retries = 4;
	ask_load();
	server_control(&ask_server, "{\"next\": [\"400\", \"context\", \"401\", \"404\"]}");
	ask_for(-EPROTO);
	ask_for(-EMSGSIZE);
	ask_for(-EACCES);
	ask_for(-EHOSTUNREACH);
	ck_assert_uint_eq(ask_count(), 4);
}
END_TEST

START_TEST(an_answer_without_a_word_is_not_asked_for_again_and_opens_no_breaker)
{
	struct err why = {0};
	ask_ups.config.retries = 4;
	ask_ups.config.breaker_failures = 1;
	ask_load();
	server_control(&ask_server, "{\"default\": \"silent\"}");
	for (int i = 0; i < 10; i++) {
		ask_for(-EPROTO);
		ck_assert_str_eq(ask_health(&why), "ready");
	}
	ck_assert_uint_eq(ask_count(), 10);
	server_control(&ask_server, "{\"default\": \"ok\"}");
	ask_well();
	/* Nor does it close one: whoever tries whether it is back has learnt nothing. */
	ask_ups.config.retries = 0;
	ask_ups.config.breaker_open_ms = 50;
	ask_ups.config.breaker_successes = 1;
	upstream_provider.unload(ask_ups.handle);
	ups_load(&ask_ups);
	server_control(&ask_server, "{\"next\": [\"500\", \"silent\"]}");
	ask_for(-EHOSTUNREACH);
	usleep(60000);
	ask_for(-EPROTO);
	ck_assert_str_eq(ask_health(&why), "half-open");
	ask_well();
	ck_assert_str_eq(ask_health(&why), "ready");
}
END_TEST

START_TEST(retry_after_is_waited_for_or_said_when_it_is_too_long)
{
	struct asked a;
	ask_ups.config.retries = 2;
	ask_load();
	server_control(
		&ask_server, "{\"next\": [\"429=1\", \"ok\", \"429=45\", \"429-ms=20000\"]}");
	uint64_t from = clock_mono_ns();
	ask_well();
	ck_assert_uint_ge(clock_mono_ns() - from, 990000000);
	from = clock_mono_ns();
	ck_assert_int_eq(ups_ask(&ask_ups, &a), -EBUSY);
	ck_assert_ptr_nonnull(strstr(a.sentence, "45 s"));
	ck_assert_uint_eq(a.retry_after_ms, 45000);
	asked_free(&a);
	upstream_provider.unload(ask_ups.handle);
	ups_load(&ask_ups); /* one that does not know that it is to wait */
	/* 20 s are not too long for us, but for the deadline. */
	ck_assert_int_eq(ups_ask(&ask_ups, &a), -EBUSY);
	ck_assert_ptr_nonnull(strstr(a.sentence, "20 s"));
	asked_free(&a);
	ck_assert_uint_lt(clock_mono_ns() - from, 5000000000);
	ck_assert_uint_eq(ask_count(), 4);
}
END_TEST

START_TEST(when_to_come_again_binds_all_requests)
{
	struct asked a;
	ask_load();
	server_control(&ask_server, "{\"next\": [\"429=20\"]}");
	ck_assert_int_eq(ups_ask(&ask_ups, &a), -EBUSY);
	asked_free(&a);
	for (int i = 0; i < 9; i++) {
		ck_assert_int_eq(ups_ask(&ask_ups, &a), -EBUSY);
		ck_assert_msg(strstr(a.sentence, "asked to wait 20 s") ||
				      strstr(a.sentence, "asked to wait 19 s"),
			"%s", a.sentence);
		ck_assert(a.retryable);
		ck_assert(a.retry_after_ms > 10000 && a.retry_after_ms <= 20000);
		asked_free(&a);
	}
	ck_assert_uint_eq(ask_count(), 1);
	upstream_provider.unload(ask_ups.handle);
	ups_load(&ask_ups);
	server_control(&ask_server, "{\"next\": [\"429-ms=300\"]}");
	ask_for(-EBUSY);
	usleep(320000);
	ask_well();
}
END_TEST

START_TEST(tries_again_are_bounded_by_the_budget)
{
	enum { N = 200 };
	struct asked *a = calloc(N, sizeof *a);
	ask_ups.config.retries = 3;
	ask_ups.config.breaker_failures = 1000000;
	ask_load();
	server_control(&ask_server, "{\"default\": \"500\"}");
	for (int i = 0; i < N; i++)
		ups_begin(&ask_ups, &a[i], "all at once", NULL);
	for (int i = 0; i < N; i++) {
		ups_wait(&a[i]);
		ck_assert_int_eq(a[i].status, -EHOSTUNREACH);
		asked_free(&a[i]);
	}
	ck_assert_uint_le(ask_count(), N + 10 + N / 10);
	ck_assert_uint_gt(ask_count(), N + 10);
	free(a);
}
END_TEST

int main(void)
{
	if (!faulty_start(&ask_server, NULL, NULL))
		return 77;
	Suite *s = suite_create("upstream_faults");
	TCase *t = tcase_create("upstream_faults");
	tcase_add_checked_fixture(t, ask_open, ask_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, each_fault_has_its_errno_its_sentence_and_one_end);
	tcase_add_test(t, an_error_that_blames_the_request_is_no_failure_of_its_server);
	tcase_add_test(t, a_status_is_believed_however_its_body_goes_on);
	tcase_add_test(t, who_does_not_take_a_connection_is_unreachable_or_too_slow);
	tcase_add_test(t, an_answer_that_takes_too_long_breaks_off);
	tcase_add_test(t, an_answer_without_end_is_cut_where_it_is_longer_than_max_tokens_can_be);
	tcase_add_test(t, what_fails_before_the_first_byte_is_tried_again_and_given_once);
	tcase_add_test(t, what_fails_after_the_first_byte_is_not_tried_again);
	tcase_add_test(t, what_is_wrong_with_the_request_is_not_tried_again);
	tcase_add_test(t, an_answer_without_a_word_is_not_asked_for_again_and_opens_no_breaker);
	tcase_add_test(t, retry_after_is_waited_for_or_said_when_it_is_too_long);
	tcase_add_test(t, when_to_come_again_binds_all_requests);
	tcase_add_test(t, tries_again_are_bounded_by_the_budget);
	suite_add_tcase(s, t);
	int failed = run_suite(s);
	faulty_stop(&ask_server);
	return failed;
}
