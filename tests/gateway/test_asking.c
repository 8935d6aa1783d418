/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks, who reads, and in which order: drafts, commits and answers of one session, with a real
 * engine behind them. */
#include <check.h>
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/gateway/talk_fixture.h"
#include "tests/run_suite.h"

START_TEST(a_prompt_is_answered_and_the_answer_can_be_read_again)
{
	struct session *s = harness_session(&talk, "a", "16");
	int status;
	char *one = talk_ask(s, "hello\n", &status), *two;
	ck_assert_int_eq(status, 0);
	ck_assert(*one);
	ck_assert(harness_status(s, "done"));
	two = harness_read(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_str_eq(one, two);
	free(one);
	free(two);
	session_put(s);
}
END_TEST

START_TEST(the_same_prompt_in_two_sessions_gives_the_same_answer)
{
	struct session *a = harness_session(&talk, "a", "24"),
		       *b = harness_session(&talk, "b", "24");
	int status;
	harness_say(a, "tell me\n");
	harness_say(b, "tell me\n");
	char *one = harness_read(a, &status), *two = harness_read(b, &status);
	ck_assert_str_eq(one, two);
	free(one);
	free(two);
	session_put(a);
	session_put(b);
}
END_TEST

START_TEST(where_nothing_was_ever_asked_the_answer_is_empty_and_the_status_idle)
{
	struct session *s = harness_session(&talk, "a", NULL);
	int status;
	char *text = harness_read(s, &status);
	ck_assert_str_eq(text, "");
	ck_assert_int_eq(status, 0);
	ck_assert(talk_view_is(s, SESSION_STATUS, "idle\n"));
	ck_assert(talk_view_is(s, SESSION_ERROR, ""));
	ck_assert(talk_view_is(s, SESSION_CHAT, ""));
	ck_assert(talk_view_is(s, SESSION_MESSAGES, "[]\n"));
	free(text);
	session_put(s);
}
END_TEST

START_TEST(a_reader_after_a_flush_gets_the_answer_of_the_prompt_that_is_committed_later)
{
	struct session *s = harness_session(&talk, "a", "4");
	int status;
	struct draft *d;
	char *old = talk_ask(s, "first\n", &status);
	struct answer *a;
	gateway_waiter id;
	sem_t told;
	sem_init(&told, 0, 0);
	for (int left = 10;; left--) { /* it is held back for a second, which may be over */
		d = talk_pending(s, "second\n");
		if (session_newest(s, &a, talk_wake, &told, &id) == 1)
			break;
		ck_assert_int_gt(left, 0);
		answer_put(a);
		draft_drop(d);
	}
	draft_commit(d);
	sem_wait(&told);
	ck_assert_int_eq(session_newest(s, &a, talk_wake, &told, &id), 0);
	free(harness_read_answer(a, &status));
	answer_put(a);
	ck_assert(talk_view_has(s, SESSION_CHAT, "> second"));
	free(old);
	session_put(s);
}
END_TEST

START_TEST(a_pending_draft_holds_readers_back_for_a_second_and_no_longer)
{
	struct session *s = harness_session(&talk, "a", "4");
	int status;
	char *old = talk_ask(s, "first\n", &status);
	uint64_t took_ms;
	int left = 5; /* tries, for a busy machine */
	do {
		uint64_t from = clock_mono_ns();
		struct draft *d = talk_pending(s, "second\n");
		char *text = harness_read(s, &status);
		took_ms = (clock_mono_ns() - from) / 1000000;
		ck_assert_str_eq(text, old);
		ck_assert_uint_ge(took_ms, 1000);
		draft_drop(d);
		free(text);
	} while (took_ms >= 2500 && --left);
	ck_assert_uint_lt(took_ms, 2500);
	free(old);
	session_put(s);
}
END_TEST

START_TEST(a_dropped_draft_lets_readers_go_on)
{
	struct session *s = harness_session(&talk, "a", "4");
	int status;
	struct draft *d;
	char *old = talk_ask(s, "first\n", &status);
	draft_new(&d, s, getuid(), NULL);
	draft_write(d, "second\n", 7, NULL);
	draft_flush(d, NULL);
	draft_drop(d);
	char *text = harness_read(s, &status);
	ck_assert_str_eq(text, old);
	free(old);
	free(text);
	session_put(s);
}
END_TEST

START_TEST(requests_of_one_session_are_answered_in_the_order_of_their_commit)
{
	struct session *s = harness_session(&talk, "a", "3");
	for (int i = 0; i < 20; i++) {
		char prompt[16];
		snprintf(prompt, sizeof prompt, "prompt %d\n", i);
		ck_assert_int_eq(harness_say(s, prompt), 0);
	}
	int status;
	free(harness_read(s, &status));
	char *chat = harness_view(s, SESSION_CHAT), *at = chat;
	for (int i = 0; i < 20; i++) {
		char prompt[20];
		snprintf(prompt, sizeof prompt, "> prompt %d\n", i);
		at = strstr(at, prompt);
		ck_assert_ptr_nonnull(at);
	}
	free(chat);
	session_put(s);
}
END_TEST

/* Whether requests were queued in the order of their flushes. If not, the commits were too late. */
static bool is_in_order_of_flushes(struct session *s)
{
	uint64_t from = clock_mono_ns();
	struct draft *d[3] = {
		talk_pending(s, "1\n"), talk_pending(s, "2\n"), talk_pending(s, "3\n")};
	int status;
	draft_commit(d[2]);
	draft_commit(d[1]);
	draft_commit(d[0]);
	bool in_time = clock_mono_ns() - from < 100000000;
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert(harness_status(s, "done"));
	char *chat = harness_view(s, SESSION_CHAT);
	const char *one = strstr(chat, "> 1\n"), *two = strstr(chat, "> 2\n");
	const char *three = strstr(chat, "> 3\n");
	ck_assert(one && two && three);
	bool in_order = one < two && two < three;
	ck_assert(in_order || !in_time);
	free(chat);
	return in_order;
}

START_TEST(requests_queue_in_the_order_of_their_flushes_when_commits_overtake)
{
	struct session *s = harness_session(&talk, "a", "2");
	for (int left = 10; !is_in_order_of_flushes(s); left--) {
		ck_assert_int_gt(left, 0);
		ck_assert_int_eq(talk_ctl(s, "clear"), 0);
	}
	session_put(s);
}
END_TEST

START_TEST(a_prompt_flushed_before_a_refusal_does_not_hide_it_when_its_commit_comes_late)
{
	struct session *s = harness_session(&talk, "a", "2");
	struct draft *first = talk_pending(s, "first\n"), *bad;
	int status;
	draft_new(&bad, s, getuid(), NULL);
	ck_assert_int_eq(draft_write(bad, "\xFF", 1, NULL), -EILSEQ);
	draft_commit(first);
	ck_assert(talk_view_is(s, SESSION_STATUS, "failed\n"));
	ck_assert(talk_view_has(s, SESSION_ERROR, "UTF-8"));
	draft_drop(bad);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EILSEQ);
	/* The same with a setting, which is no request: what is read is the prompt's answer. */
	struct draft *second = talk_pending(s, "second\n");
	ck_assert_int_eq(talk_set(s, "temperature", "hot"), -EINVAL);
	draft_commit(second);
	ck_assert(talk_view_has(s, SESSION_ERROR, "temperature"));
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert(talk_view_is(s, SESSION_STATUS, "done\n"));
	/* One that is refused by its commit does not hide what was flushed after it. */
	struct draft *empty = talk_pending(s, "\n"), *third = talk_pending(s, "third\n");
	draft_commit(third);
	draft_commit(empty);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert(talk_view_is(s, SESSION_ERROR, ""));
	ck_assert(talk_view_has(s, SESSION_CHAT, "> first\n"));
	ck_assert(talk_view_has(s, SESSION_CHAT, "> second\n"));
	ck_assert(talk_view_has(s, SESSION_CHAT, "> third\n"));
	session_put(s);
}
END_TEST

START_TEST(a_draft_that_stays_open_holds_up_later_ones_for_a_moment_only)
{
	struct session *s = harness_session(&talk, "a", "2");
	struct draft *open, *d;
	int status;
	draft_new(&open, s, getuid(), NULL);
	draft_write(open, "open", 4, NULL);
	draft_flush(open, NULL);
	draft_new(&d, s, getuid(), NULL);
	draft_write(d, "later", 5, NULL);
	draft_flush(d, NULL);
	draft_commit(d);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert(talk_view_has(s, SESSION_CHAT, "> later\n"));
	ck_assert(harness_usage(s, "session_requests") == 1);
	draft_drop(open);
	session_put(s);
}
END_TEST

START_TEST(the_65th_queued_request_is_refused_at_the_write)
{
	struct session *s = talk_long_session("a");
	int n = 0;
	ck_assert_int_eq(harness_say(s, "go on\n"), 0);
	ck_assert(harness_status(s, "generating")); /* it has left the queue */
	while (n < 200 && harness_say(s, "more\n") == 0)
		n++;
	ck_assert_int_eq(n, 64);
	ck_assert(talk_view_has(s, SESSION_ERROR, "64 requests"));
	ck_assert_int_eq(harness_say(s, "more\n"), -EBUSY);
	ck_assert_int_eq(talk_ctl(s, "cancel"), 0);
	session_put(s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gateway/asking");
	TCase *t = tcase_create("requests");
	tcase_add_checked_fixture(t, talk_open, talk_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_prompt_is_answered_and_the_answer_can_be_read_again);
	tcase_add_test(t, the_same_prompt_in_two_sessions_gives_the_same_answer);
	tcase_add_test(t, where_nothing_was_ever_asked_the_answer_is_empty_and_the_status_idle);
	tcase_add_test(
		t, a_reader_after_a_flush_gets_the_answer_of_the_prompt_that_is_committed_later);
	tcase_add_test(t, a_pending_draft_holds_readers_back_for_a_second_and_no_longer);
	tcase_add_test(t, a_dropped_draft_lets_readers_go_on);
	tcase_add_test(t, requests_of_one_session_are_answered_in_the_order_of_their_commit);
	tcase_add_test(t, requests_queue_in_the_order_of_their_flushes_when_commits_overtake);
	tcase_add_test(
		t, a_prompt_flushed_before_a_refusal_does_not_hide_it_when_its_commit_comes_late);
	tcase_add_test(t, a_draft_that_stays_open_holds_up_later_ones_for_a_moment_only);
	tcase_add_test(t, the_65th_queued_request_is_refused_at_the_write);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
