/* SPDX-License-Identifier: Apache-2.0 */
/* The verb `retry` after a prompt that was refused before a model saw it. */
#include <check.h>
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/core.h"
#include "gateway/router.h"
#include "gateway/session.h"
#include "tests/gateway/talk_fixture.h"
#include "tests/run_suite.h"

static const char blocked[] = "blocked by the input guard S (guards/input/x.rules)\n";

static void block_secrets(void)
{
	harness_guard(&talk, "input/x.rules", "block S /secret/\n");
}

static void answered(struct session *s)
{
	int status;
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert(talk_view_is(s, SESSION_ERROR, ""));
}

/* The newest request is over, and the machine has let go of it. */
static void released(struct session *s)
{
	for (bool done = false; !done; usleep(100)) {
		pthread_mutex_lock(&s->lock);
		done = s->newest->over && !s->newest->session;
		pthread_mutex_unlock(&s->lock);
	}
}

START_TEST(a_prompt_that_a_guard_refused_is_sent_again_by_the_guards_of_now)
{
	struct session *s = harness_session(&talk, "a", "4");
	block_secrets();
	ck_assert_int_eq(harness_say(s, "a secret\n"), -EPERM);
	ck_assert(talk_view_is(s, SESSION_ERROR, blocked));
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(talk_ctl(s, "retry"), -EPERM);
		ck_assert(talk_view_is(s, SESSION_ERROR, blocked));
		ck_assert(talk_view_is(s, SESSION_STATUS, "blocked\n"));
		ck_assert(talk_view_is(s, SESSION_CHAT, ""));
	}
	harness_guard(&talk, "input/x.rules", "redact S /secret/\n");
	ck_assert_int_eq(talk_ctl(s, "retry"), 0);
	answered(s);
	ck_assert(talk_view_has(s, SESSION_CHAT, "> a [S]\n"));
	ck_assert_int_eq(talk_ctl(s, "retry"), -ENOENT);
	ck_assert(
		talk_view_is(s, SESSION_ERROR, "nothing to retry: the last answer is complete\n"));
	session_put(s);
}
END_TEST

START_TEST(a_prompt_that_a_limit_or_a_budget_refused_is_sent_again)
{
	const char *me = harness_me(&talk);
	struct session *s = harness_session(&talk, "a", "4");
	harness_price(&talk, "tiny");
	harness_account(&talk, me, "requests_per_day", "1");
	free(talk_ask(s, "first\n", &(int){0}));
	ck_assert_int_eq(harness_say(s, "second\n"), -EAGAIN);
	ck_assert_int_eq(talk_ctl(s, "retry"), -EAGAIN);
	ck_assert(talk_view_has(s, SESSION_ERROR, "1 request per day"));
	ck_assert(talk_view_is(s, SESSION_STATUS, "failed\n"));
	harness_account(&talk, me, "requests_per_day", "");
	ck_assert_int_eq(talk_ctl(s, "retry"), 0);
	answered(s);
	ck_assert(talk_view_has(s, SESSION_CHAT, "> second\n"));
	talk_set(s, "max_cost", "1");
	ck_assert_int_eq(harness_say(s, "third\n"), -EDQUOT);
	ck_assert_int_eq(talk_ctl(s, "retry"), -EDQUOT);
	talk_set(s, "max_cost", "");
	ck_assert_int_eq(talk_ctl(s, "retry"), 0);
	answered(s);
	ck_assert(talk_view_has(s, SESSION_CHAT, "> third\n"));
	char *left = harness_account_view(&talk, me, ACCOUNT_REMAINING);
	ck_assert_str_eq(left, "unlimited\n");
	free(left);
	session_put(s);
}
END_TEST

START_TEST(a_refused_prompt_goes_before_an_older_turn_without_an_answer)
{
	struct session *s = talk_long_session("a");
	block_secrets();
	harness_say(s, "first\n");
	ck_assert_int_eq(harness_say(s, "a secret\n"), -EPERM);
	ck_assert_int_eq(talk_ctl(s, "retry"), -EPERM); /* also while that is under way */
	talk_ctl(s, "cancel");
	talk_set(s, "max_tokens", "4");
	harness_guard(&talk, "input/x.rules", "warn S /secret/\n");
	ck_assert_int_eq(talk_ctl(s, "retry"), 0);
	answered(s);
	char *messages = harness_view(s, SESSION_MESSAGES);
	ck_assert_ptr_nonnull(strstr(messages, "a secret"));
	ck_assert_ptr_null(strstr(messages, "first"));
	free(messages);
	session_put(s);
}
END_TEST

START_TEST(half_a_prompt_is_not_sent_and_the_reason_is_still_said)
{
	struct session *s = harness_session(&talk, "a", "4");
	struct draft *d;
	char page[4096];
	memset(page, 'x', sizeof page);
	memcpy(page, "secret", 6);
	block_secrets();
	/* More was to come, perhaps. */
	draft_new(&d, s, getuid(), NULL);
	ck_assert_int_eq(draft_write(d, page, sizeof page, NULL), -EPERM);
	draft_commit(d);
	ck_assert_int_eq(talk_ctl(s, "retry"), -ENOENT);
	ck_assert(talk_view_has(s, SESSION_ERROR, "write it again"));
	ck_assert(talk_view_has(s, SESSION_ERROR, "blocked by the input guard S"));
	/* More did come: a shell goes on, but not with all that it should have written. */
	draft_new(&d, s, getuid(), NULL);
	ck_assert_int_eq(draft_write(d, "a secret\n", 9, NULL), -EPERM);
	ck_assert_int_eq(draft_write(d, "\n", 1, NULL), -EPERM);
	draft_commit(d);
	ck_assert_int_eq(talk_ctl(s, "retry"), -ENOENT);
	/* Nor is a write after another one known to be the last. */
	draft_new(&d, s, getuid(), NULL);
	ck_assert_int_eq(draft_write(d, "a line\n", 7, NULL), 0);
	ck_assert_int_eq(draft_write(d, "a secret\n", 9, NULL), -EPERM);
	ck_assert_int_eq(draft_flush(d, NULL), -EPERM);
	draft_commit(d);
	ck_assert_int_eq(talk_ctl(s, "retry"), -ENOENT);
	/* And of one that is too long to be kept. */
	char *text = malloc(REQUEST_KEPT_MAX + 1);
	memset(text, 'y', REQUEST_KEPT_MAX + 1);
	memcpy(text, "secret", 6);
	talk_set(s, "model", "long");
	for (size_t more = 0; more < 2; more++) {
		draft_new(&d, s, getuid(), NULL);
		ck_assert_int_eq(
			draft_write(d, text + 1 - more, REQUEST_KEPT_MAX - 1 + 2 * more, NULL),
			more ? -EPERM : 0);
		draft_drop(d);
	}
	ck_assert_int_eq(talk_ctl(s, "retry"), -ENOENT);
	harness_guard(&talk, "input/x.rules", "warn S /nothing/\n");
	ck_assert_int_eq(talk_ctl(s, "retry"), -ENOENT);
	ck_assert(talk_view_is(s, SESSION_CHAT, ""));
	free(text);
	session_put(s);
}
END_TEST

START_TEST(a_refused_write_is_all_of_the_prompt_when_it_is_alone_and_a_close_comes_next)
{
	struct session *s = harness_session(&talk, "a", "4");
	struct draft *d;
	block_secrets();
	draft_new(&d, s, getuid(), NULL);
	ck_assert_int_eq(draft_flush(d, NULL), 0); /* a shell's redirection */
	ck_assert_int_eq(draft_write(d, "a secret\n", 9, NULL), -EPERM);
	ck_assert_int_eq(talk_ctl(s, "retry"), -ENOENT); /* more may come */
	ck_assert(talk_view_has(s, SESSION_ERROR, "write it again"));
	ck_assert_int_eq(draft_flush(d, NULL), -EPERM);
	harness_guard(&talk, "input/x.rules", "warn S /nothing/\n");
	ck_assert_int_eq(talk_ctl(s, "retry"), 0);
	draft_commit(d);
	answered(s);
	ck_assert(talk_view_has(s, SESSION_CHAT, "> a secret\n"));
	ck_assert(talk_view_has(s, SESSION_EVENTS, "\"event\": \"retried\""));
	ck_assert(talk_view_has(s, SESSION_EVENTS, "\"bytes\": 9}\n"));
	session_put(s);
}
END_TEST

/* Python's close() writes what was refused once more. */
START_TEST(the_same_bytes_again_are_the_same_write)
{
	struct session *s = harness_session(&talk, "a", "4");
	struct draft *d;
	for (int other = 0; other < 2; other++) {
		block_secrets();
		draft_new(&d, s, getuid(), NULL);
		for (int i = 0; i < 3; i++)
			ck_assert_int_eq(draft_write(d, "a secret", 8, NULL), -EPERM);
		if (other)
			ck_assert_int_eq(draft_write(d, "a Secret", 8, NULL), -EPERM);
		ck_assert_int_eq(draft_flush(d, NULL), -EPERM);
		draft_commit(d);
		harness_guard(&talk, "input/x.rules", "warn S /nothing/\n");
		ck_assert_int_eq(talk_ctl(s, "retry"), other ? -ENOENT : 0);
		if (!other)
			answered(s);
	}
	session_put(s);
}
END_TEST

START_TEST(whole_pages_that_were_all_of_the_prompt_outlive_their_own_retry)
{
	struct session *s = harness_session(&talk, "a", "4");
	struct draft *d;
	char page[4096];
	int status;
	memset(page, 'x', sizeof page);
	talk_set(s, "model", "long");
	harness_guard(&talk, "input/x.rules", "block S /x$/\n"); /* its end decides */
	draft_new(&d, s, getuid(), NULL);
	ck_assert_int_eq(draft_write(d, page, sizeof page, NULL), 0);
	ck_assert_int_eq(draft_flush(d, NULL), 0);
	draft_commit(d);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EPERM);
	harness_guard(&talk, "input/x.rules", "block S /xxxx/\n");
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(talk_ctl(s, "retry"), -EPERM);
	harness_guard(&talk, "input/x.rules", "warn S /nothing/\n");
	ck_assert_int_eq(talk_ctl(s, "retry"), 0);
	answered(s);
	session_put(s);
}
END_TEST

START_TEST(a_prompt_of_blanks_is_refused_anew_by_each_retry)
{
	struct session *s = harness_session(&talk, "a", "4");
	ck_assert_int_eq(harness_say(s, " \n"), 0);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(talk_ctl(s, "retry"), -EINVAL);
		ck_assert(talk_view_has(s, SESSION_ERROR, "the prompt is empty"));
		ck_assert(talk_view_is(s, SESSION_STATUS, "failed\n"));
	}
	session_put(s);
}
END_TEST

START_TEST(a_prompt_that_was_refused_when_its_turn_came_is_sent_again)
{
	struct session *s = harness_session(&talk, "a", "400");
	int status = 0;
	talk_set(s, "ignore_eos", "1");
	talk_set(s, "truncate", "off");
	for (int i = 0; i < 20 && status == 0; i++)
		free(talk_ask(s, "again\n", &status));
	ck_assert_int_eq(status, -EMSGSIZE);
	released(s);
	ck_assert_int_eq(talk_ctl(s, "retry"), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EMSGSIZE);
	char *before = harness_view(s, SESSION_MESSAGES);
	talk_set(s, "truncate", "middle");
	ck_assert_int_eq(talk_ctl(s, "retry"), 0);
	answered(s);
	char *after = harness_view(s, SESSION_MESSAGES);
	ck_assert_uint_gt(strlen(after), strlen(before));
	free(before);
	free(after);
	session_put(s);
}
END_TEST

/* The turn that was to be asked again is there still: it is not asked beside itself. */
START_TEST(a_retry_that_was_refused_when_its_turn_came_leaves_one_turn_to_retry)
{
	struct session *s = harness_session(&talk, "a", "1000");
	int status;
	talk_set(s, "ignore_eos", "1");
	talk_set(s, "model", "long");
	free(talk_ask(s, "before\n", &status));
	talk_set(s, "max_tokens", "15000");
	harness_say(s, "asked again\n");
	struct answer *a;
	gateway_waiter id;
	char byte[8];
	size_t n = 0;
	ck_assert_int_eq(session_newest(s, &a, NULL, NULL, &id), 0);
	while (answer_read(a, 0, byte, sizeof byte, &n) == 1)
		usleep(100);
	answer_put(a);
	talk_ctl(s, "cancel"); /* its answer has begun: no turn that any prompt replaces */
	talk_set(s, "truncate", "off");
	talk_set(s, "max_tokens", "4");
	talk_set(s, "prompt_budget", "32");
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(talk_ctl(s, "retry"), 0);
		free(harness_read(s, &status));
		ck_assert_int_eq(status, -EMSGSIZE);
	}
	talk_set(s, "prompt_budget", "0");
	ck_assert_int_eq(talk_ctl(s, "retry"), 0);
	answered(s);
	char *messages = harness_view(s, SESSION_MESSAGES), *one = strstr(messages, "asked again");
	ck_assert_ptr_nonnull(one);
	ck_assert_ptr_null(strstr(one + 1, "asked again"));
	free(messages);
	session_put(s);
}
END_TEST

START_TEST(clear_messages_and_the_next_prompt_forget_a_refused_one)
{
	static const char messages[] = "[]";
	struct session *s = harness_session(&talk, "a", "4");
	block_secrets();
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(harness_say(s, "a secret\n"), -EPERM);
		if (i == 0)
			ck_assert_int_eq(talk_ctl(s, "clear"), 0);
		else if (i == 1)
			ck_assert_int_eq(session_messages_set(s, messages, 2, NULL), 0);
		else
			talk_warm(s);
		ck_assert_int_eq(talk_ctl(s, "retry"), -ENOENT);
	}
	ck_assert(
		talk_view_is(s, SESSION_ERROR, "nothing to retry: the last answer is complete\n"));
	session_put(s);
}
END_TEST

START_TEST(messages_refused_unheard_are_the_newest_request_and_nothing_to_retry)
{
	static const char bad[] = "[";
	struct session *s = harness_session(&talk, "a", "4");
	struct err err;
	int status;
	talk_warm(s);
	int r = session_messages_set(s, bad, 1, &err);
	ck_assert_int_eq(r, -EINVAL);
	ck_assert(talk_view_is(s, SESSION_STATUS, "done\n"));
	session_messages_unheard(s, getuid(), r, err.text);
	ck_assert(talk_view_is(s, SESSION_STATUS, "failed\n"));
	ck_assert(talk_view_has(s, SESSION_ERROR, err.text));
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EINVAL);
	ck_assert_int_eq(talk_ctl(s, "retry"), -ENOENT);
	ck_assert(talk_view_is(s, SESSION_ERROR, "messages.json was refused: nothing to retry\n"));
	talk_warm(s);
	ck_assert(talk_view_is(s, SESSION_ERROR, ""));
	ck_assert_int_eq(talk_ctl(s, "retry"), -ENOENT);
	ck_assert(
		talk_view_is(s, SESSION_ERROR, "nothing to retry: the last answer is complete\n"));
	session_put(s);
}
END_TEST

START_TEST(messages_refused_unheard_leave_a_refused_prompt_to_retry)
{
	struct session *s = talk_long_session("a");
	harness_say(s, "an older turn\n");
	talk_ctl(s, "cancel");
	released(s);
	talk_set(s, "max_tokens", "4");
	block_secrets();
	ck_assert_int_eq(harness_say(s, "a secret\n"), -EPERM);
	for (int i = 0; i < 2; i++)
		session_messages_unheard(s, getuid(), -EINVAL, "no messages");
	ck_assert(talk_view_is(s, SESSION_ERROR, "no messages\n"));
	ck_assert_int_eq(talk_ctl(s, "retry"), -EPERM);
	ck_assert(talk_view_is(s, SESSION_ERROR, blocked));
	session_messages_unheard(s, getuid(), -EINVAL, "no messages");
	harness_guard(&talk, "input/x.rules", "warn S /nothing/\n");
	ck_assert_int_eq(talk_ctl(s, "retry"), 0);
	answered(s);
	ck_assert(talk_view_has(s, SESSION_CHAT, "> a secret\n"));
	session_put(s);
}
END_TEST

START_TEST(messages_refused_while_an_answer_is_under_way_are_a_note_alone)
{
	static const char bad[] = "[";
	struct session *s = talk_long_session("a");
	struct err err;
	harness_say(s, "tell\n");
	ck_assert(harness_status(s, "generating"));
	int r = session_messages_set(s, bad, 1, &err);
	ck_assert_int_eq(r, -EINVAL);
	session_messages_unheard(s, getuid(), r, err.text);
	ck_assert(talk_view_is(s, SESSION_STATUS, "generating\n"));
	ck_assert(talk_view_has(s, SESSION_ERROR, err.text));
	talk_ctl(s, "cancel");
	ck_assert(talk_view_is(s, SESSION_STATUS, "cancelled\n"));
	session_put(s);
}
END_TEST

/* ---- what a retry reserves ---- */

struct pause {
	struct loop_work work;
	sem_t begun, over;
};

static void wait_in_loop(struct loop_work *work)
{
	struct pause *p = list_entry(work, struct pause, work);
	sem_post(&p->begun);
	while (sem_wait(&p->over) < 0)
		;
}

/* Dollars that a retry of its last turn holds before anything has begun. */
static double held_by_retry(struct session *s)
{
	struct pause p = {.work.run = wait_in_loop};
	double left[2];
	sem_init(&p.begun, 0, 0);
	sem_init(&p.over, 0, 0);
	list_init(&p.work.link);
	ck_assert(loop_post(talk.g->loop, &p.work));
	while (sem_wait(&p.begun) < 0)
		;
	for (int i = 0; i < 2; i++) {
		char *text = harness_account_view(&talk, harness_me(&talk), ACCOUNT_REMAINING);
		left[i] = atof(text);
		free(text);
		ck_assert_int_eq(i ? 0 : talk_ctl(s, "retry"), 0);
	}
	talk_ctl(s, "cancel");
	sem_post(&p.over);
	released(s);
	sem_destroy(&p.begun);
	sem_destroy(&p.over);
	return left[0] - left[1];
}

START_TEST(a_retry_of_a_virtual_model_reserves_what_the_router_asks)
{
	struct session *s = talk_long_session("a");
	harness_account(&talk, harness_me(&talk), "limit", "1000000");
	talk_set(s, "model", "auto");
	harness_say(s, "hello\n");
	talk_ctl(s, "cancel");
	released(s);
	harness_price(&talk, "tiny");
	double without = held_by_retry(s);
	ck_assert_int_eq(
		router_setting_set(talk.g->router, "classifier_model", "tiny", 4, NULL), 0);
	double with = held_by_retry(s);
	ck_assert_double_gt(with, without);
	session_put(s);
}
END_TEST

START_TEST(a_verb_that_is_obeyed_ends_the_complaint_about_another_and_shows_the_reason_again)
{
	struct session *s = harness_session(&talk, "a", "4");
	block_secrets();
	ck_assert_int_eq(talk_ctl(s, "fork main"), -EEXIST);
	ck_assert(talk_view_has(s, SESSION_ERROR, "main"));
	ck_assert_int_eq(talk_ctl(s, "fork b"), 0);
	ck_assert(talk_view_is(s, SESSION_ERROR, ""));
	ck_assert_int_eq(harness_say(s, "a secret\n"), -EPERM);
	ck_assert_int_eq(talk_ctl(s, "rety"), -EINVAL);
	ck_assert(talk_view_has(s, SESSION_ERROR, "rety: not a verb"));
	ck_assert_int_eq(talk_ctl(s, "cancel"), 0);
	ck_assert(talk_view_is(s, SESSION_ERROR, blocked));
	ck_assert_int_eq(talk_ctl(s, "submit"), 0);
	ck_assert(talk_view_is(s, SESSION_ERROR, blocked));
	session_put(s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gateway/session_retry");
	TCase *t = tcase_create("retry");
	tcase_add_checked_fixture(t, talk_open, talk_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_prompt_that_a_guard_refused_is_sent_again_by_the_guards_of_now);
	tcase_add_test(t, a_prompt_that_a_limit_or_a_budget_refused_is_sent_again);
	tcase_add_test(t, a_refused_prompt_goes_before_an_older_turn_without_an_answer);
	tcase_add_test(t, half_a_prompt_is_not_sent_and_the_reason_is_still_said);
	tcase_add_test(
		t, a_refused_write_is_all_of_the_prompt_when_it_is_alone_and_a_close_comes_next);
	tcase_add_test(t, the_same_bytes_again_are_the_same_write);
	tcase_add_test(t, whole_pages_that_were_all_of_the_prompt_outlive_their_own_retry);
	tcase_add_test(t, a_prompt_of_blanks_is_refused_anew_by_each_retry);
	tcase_add_test(t, a_prompt_that_was_refused_when_its_turn_came_is_sent_again);
	tcase_add_test(t, a_retry_that_was_refused_when_its_turn_came_leaves_one_turn_to_retry);
	tcase_add_test(t, clear_messages_and_the_next_prompt_forget_a_refused_one);
	tcase_add_test(t, messages_refused_unheard_are_the_newest_request_and_nothing_to_retry);
	tcase_add_test(t, messages_refused_unheard_leave_a_refused_prompt_to_retry);
	tcase_add_test(t, messages_refused_while_an_answer_is_under_way_are_a_note_alone);
	tcase_add_test(t, a_retry_of_a_virtual_model_reserves_what_the_router_asks);
	tcase_add_test(t,
		a_verb_that_is_obeyed_ends_the_complaint_about_another_and_shows_the_reason_again);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
