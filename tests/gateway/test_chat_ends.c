/* SPDX-License-Identifier: Apache-2.0 */
/* How requests of unlisted sessions end: as their outcome says it, and when their asker leaves. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/session.h"
#include "tests/gateway/talker_fixture.h"
#include "tests/run_suite.h"

static struct session *chat(const char *model, const char *max_tokens)
{
	struct session *s;
	ck_assert_int_eq(gateway_chat_open(talker_h.g, model, getuid(), &s, NULL), 0);
	talker_set(s, "max_tokens", max_tokens);
	talker_set(s, "ignore_eos", "1");
	talker_set(s, "cache", "off");
	return s;
}

static struct session_outcome outcome(struct session *s)
{
	struct session_outcome o;
	session_outcome(s, &o);
	return o;
}

/* ---- the outcome ---- */

START_TEST(of_nothing_there_is_nothing)
{
	struct session *s = chat("tiny", "4");
	struct session_outcome o = outcome(s);
	ck_assert(!o.id && !o.over && !o.code && !o.prompt_tok && !*o.model && !*o.finish);
	session_put(s);
}
END_TEST

START_TEST(who_has_read_the_end_finds_all_of_it)
{
	struct session *s = chat("tiny", "4");
	uint64_t last = 0;
	for (int i = 0; i < 100; i++) {
		struct answer *a;
		bool ended = false;
		ck_assert_int_eq(harness_say(s, "tell me"), 0);
		ck_assert_int_eq(session_newest(s, &a, NULL, NULL, NULL), 0);
		while (!ended) /* without a pause, so as to be there at once */
			answer_size(a, &ended);
		struct session_outcome o = outcome(s);
		answer_put(a);
		ck_assert(o.over);
		ck_assert_int_eq(o.code, 0);
		ck_assert_str_eq(o.finish, "length");
		ck_assert_str_eq(o.model, "tiny");
		ck_assert_uint_eq(o.output_tok, 4);
		ck_assert_uint_gt(o.prompt_tok, 0);
		ck_assert_uint_gt(o.id, last);
		ck_assert_uint_eq(o.retry_ms, 0);
		ck_assert(!o.from_cache);
		ck_assert_int_eq((int)harness_usage(s, "prompt_tokens"), (int)o.prompt_tok);
		ck_assert_int_eq((int)harness_usage(s, "cached_tokens"), (int)o.cached_tok);
		last = o.id;
		ck_assert_int_eq(session_turns_set(s, NULL, 0, NULL), 0);
	}
	session_put(s);
}
END_TEST

START_TEST(what_the_engine_had_already_is_told)
{
	struct session *s = chat("tiny", "4");
	char text[800];
	memset(text, 'x', sizeof text);
	const struct session_message turns[] = {
		{SESSION_USER, text, sizeof text}, {SESSION_ASSISTANT, "b", 1}};
	int status;
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(session_turns_set(s, turns, 2, NULL), 0);
		free(talker_ask(s, &status));
	}
	struct session_outcome o = outcome(s);
	ck_assert_uint_gt(o.cached_tok, 0);
	ck_assert_uint_le(o.cached_tok, o.prompt_tok);
	session_put(s);
}
END_TEST

START_TEST(a_rate_limit_says_when_to_try_again)
{
	struct session *s = chat("tiny", "4");
	int status;
	harness_account(&talker_h, harness_me(&talker_h), "requests_per_day", "1");
	free(talker_ask(s, &status));
	ck_assert_int_eq(harness_say(s, "more"), -EAGAIN);
	struct session_outcome o = outcome(s);
	ck_assert(o.over);
	ck_assert_int_eq(o.code, -EAGAIN);
	ck_assert_ptr_nonnull(strstr(o.why.text, "1 request per day; try again in"));
	ck_assert_uint_gt(o.retry_ms, 0);
	ck_assert_uint_le(o.retry_ms, 86400000);
	ck_assert_str_eq(o.model, "tiny");
	ck_assert_str_eq(o.finish, "");
	harness_account(&talker_h, harness_me(&talker_h), "requests_per_day", "0");
	ck_assert_int_eq(harness_say(s, "more"), -EAGAIN);
	ck_assert_uint_eq(outcome(s).retry_ms, 0);
	/* What is refused next is not told with the time of that one. */
	harness_account(&talker_h, harness_me(&talker_h), "requests_per_day", "1");
	ck_assert_int_eq(harness_say(s, "more"), -EAGAIN);
	ck_assert_int_eq(harness_say(s, "\xff"), -EILSEQ);
	o = outcome(s);
	ck_assert_int_eq(o.code, -EILSEQ);
	ck_assert_uint_eq(o.retry_ms, 0);
	session_put(s);
}
END_TEST

START_TEST(a_limit_that_is_met_at_the_model_says_it_too)
{
	struct session *s = chat("tiny", "4");
	int status;
	const char words[] = "a b c d e f g h i j k l m n o p q r s t u v w x y z "
			     "a b c d e f g h i j k l m n o p q r s t u v w x y z "
			     "a b c d e f g h i j k l m n o p q r s t u v w x y z "
			     "a b c d e f g h i j k l m n o p q r s t u v w x y z";
	ck_assert_int_eq(harness_say(s, words), 0);
	free(harness_read(s, &status));
	uint64_t exact = outcome(s).prompt_tok + 4, guess = sizeof words / 4 + 1 + 16 + 4;
	ck_assert_uint_gt(exact, guess); /* else this tries nothing */
	/* Room for what is guessed when it is written, and not for what it is. */
	char most[24];
	snprintf(most, sizeof most, "%u", (unsigned)(exact + guess));
	harness_account(&talker_h, harness_me(&talker_h), "tokens_per_day", most);
	ck_assert_int_eq(session_turns_set(s, NULL, 0, NULL), 0);
	ck_assert_int_eq(harness_say(s, words), 0);
	free(harness_read(s, &status));
	struct session_outcome o = outcome(s);
	ck_assert_int_eq(status, -EBUSY);
	ck_assert_int_eq(o.code, -EBUSY);
	ck_assert_ptr_nonnull(strstr(o.why.text, "tokens per day"));
	ck_assert_uint_gt(o.retry_ms, 0);
	session_put(s);
}
END_TEST

START_TEST(other_ends_have_their_code_and_sentence)
{
	struct session *s = chat("tiny", "4");
	int status;
	harness_guard(&talker_h, "input/x.rules", "block S /secret/\n");
	ck_assert_int_eq(harness_say(s, "a secret"), -EPERM);
	struct session_outcome o = outcome(s);
	ck_assert(o.over);
	ck_assert_int_eq(o.code, -EPERM);
	ck_assert_ptr_nonnull(strstr(o.why.text, "blocked by the input guard S"));
	ck_assert_uint_gt(o.id, 0);
	talker_set(s, "max_cost", "1");
	talker_priced();
	ck_assert_int_eq(harness_say(s, "more"), -EDQUOT);
	ck_assert_int_eq(outcome(s).code, -EDQUOT);
	talker_set(s, "max_cost", "");
	/* Found when it is rendered. */
	char text[6000];
	memset(text, 'x', sizeof text);
	const struct session_message turns[] = {
		{SESSION_USER, text, sizeof text}, {SESSION_ASSISTANT, "b", 1}};
	talker_set(s, "truncate", "off");
	ck_assert_int_eq(session_turns_set(s, turns, 2, NULL), 0);
	free(talker_ask(s, &status));
	o = outcome(s);
	ck_assert_int_eq(status, -EMSGSIZE);
	ck_assert(o.over);
	ck_assert_int_eq(o.code, -EMSGSIZE);
	ck_assert_uint_eq(o.output_tok, 0);
	session_put(s);
}
END_TEST

/* ---- the asker leaves ---- */

/* Waits until a byte of the answer is there. */
static void begun(struct session *s)
{
	struct answer *a;
	bool ended = false;
	ck_assert_int_eq(session_newest(s, &a, NULL, NULL, NULL), 0);
	while (!answer_size(a, &ended) && !ended)
		usleep(100);
	ck_assert(!ended);
	answer_put(a);
}

static void submit(struct session *s)
{
	struct draft *d;
	ck_assert_int_eq(draft_new(&d, s, getuid(), NULL), 0);
	ck_assert_int_eq(draft_write(d, "go on", 5, NULL), 0);
	ck_assert_int_eq(draft_submit(d, NULL), 0);
	draft_drop(d);
}

START_TEST(whatever_it_is_at_all_of_it_ends_and_is_given_back)
{
	talker_priced();
	/* The first has its model loaded; the last is over. */
	for (int state = 0; state < 5; state++) {
		struct session *s = chat("long", state < 4 ? "15000" : "1");
		submit(s);
		if (state == 1)
			usleep(20000); /* somewhere on its way */
		if (state == 2 || state == 3)
			begun(s);
		if (state == 3)
			submit(s); /* that waits behind it */
		int status = 0;
		if (state == 4)
			free(harness_read(s, &status));
		session_abandon(s);
		struct session_outcome o = outcome(s);
		ck_assert(o.over);
		ck_assert_int_eq(o.code, state < 4 ? -ECANCELED : 0);
		struct answer *a;
		bool ended;
		ck_assert_int_eq(session_newest(s, &a, NULL, NULL, NULL), 0);
		answer_size(a, &ended);
		ck_assert(ended);
		answer_put(a);
		session_abandon(s);
		session_put(s);
	}
	talker_assert_all_given_back();
}
END_TEST

START_TEST(what_is_submitted_afterwards_is_refused)
{
	struct session *s = chat("tiny", "4");
	struct draft *d, *flushed;
	struct err err = {0};
	talker_priced();
	draft_new(&d, s, getuid(), NULL);
	ck_assert_int_eq(draft_write(d, "go on", 5, NULL), 0);
	draft_new(&flushed, s, getuid(), NULL);
	ck_assert_int_eq(draft_write(flushed, "go on", 5, NULL), 0);
	ck_assert_int_eq(draft_flush(flushed, NULL), 0);
	session_abandon(s);
	ck_assert_int_eq(draft_submit(d, &err), -ENOENT);
	ck_assert_str_eq(err.text, "who asked has left");
	ck_assert_int_eq(draft_write(d, "go on", 5, NULL), -ENOENT);
	draft_drop(d);
	draft_commit(flushed);
	ck_assert(!outcome(s).id);
	session_put(s);
	talker_assert_all_given_back();
}
END_TEST

START_TEST(a_listed_session_is_only_cancelled)
{
	struct session *s = talker_new("a", "4");
	int status;
	submit(s);
	session_abandon(s);
	free(talker_ask(s, &status));
	ck_assert_int_eq(status, 0);
	session_put(s);
}
END_TEST

static void *leave(void *arg)
{
	usleep((unsigned)rand() % 3000);
	session_abandon(arg);
	return NULL;
}

START_TEST(it_may_leave_on_another_thread_at_any_moment)
{
	talker_priced();
	for (int i = 0; i < 200; i++) {
		struct session *s = chat("tiny", "30");
		pthread_t other;
		struct draft *d;
		ck_assert_int_eq(pthread_create(&other, NULL, leave, s), 0);
		draft_new(&d, s, getuid(), NULL);
		if (draft_write(d, "go on", 5, NULL) == 0)
			draft_submit(d, NULL);
		draft_drop(d);
		if (i % 2) { /* the reference goes while it runs */
			pthread_join(other, NULL);
			session_put(s);
			continue;
		}
		int status;
		free(harness_read(s, &status));
		struct session_outcome o = outcome(s);
		ck_assert_int_eq(o.code, status);
		ck_assert(o.over || !o.id);
		pthread_join(other, NULL);
		session_put(s);
	}
	talker_assert_all_given_back();
}
END_TEST

START_TEST(others_that_share_its_answer_get_it_all_the_same)
{
	struct session *a = chat("long", "400"), *b = chat("long", "400");
	ck_assert_int_eq(
		gateway_part_setting_set(talker_h.g, GATEWAY_CACHE, "enabled", "1", 1, NULL), 0);
	int status;
	free(talker_ask(b, &status)); /* what is not loaded has no key yet */
	ck_assert_int_eq(session_turns_set(b, NULL, 0, NULL), 0);
	talker_set(a, "cache", "auto");
	talker_set(b, "cache", "auto");
	submit(a);
	begun(a);
	submit(b);
	begun(b);
	ck_assert(outcome(b).from_cache);
	session_abandon(a);
	session_put(a);
	free(harness_read(b, &status));
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(outcome(b).output_tok, 400);
	session_put(b);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gateway/chat_ends");
	TCase *t = tcase_create("ends");
	tcase_add_checked_fixture(t, talker_open, talker_close);
	tcase_set_timeout(t, 200);
	tcase_add_test(t, of_nothing_there_is_nothing);
	tcase_add_test(t, who_has_read_the_end_finds_all_of_it);
	tcase_add_test(t, what_the_engine_had_already_is_told);
	tcase_add_test(t, a_rate_limit_says_when_to_try_again);
	tcase_add_test(t, a_limit_that_is_met_at_the_model_says_it_too);
	tcase_add_test(t, other_ends_have_their_code_and_sentence);
	tcase_add_test(t, whatever_it_is_at_all_of_it_ends_and_is_given_back);
	tcase_add_test(t, what_is_submitted_afterwards_is_refused);
	tcase_add_test(t, a_listed_session_is_only_cancelled);
	tcase_add_test(t, it_may_leave_on_another_thread_at_any_moment);
	tcase_add_test(t, others_that_share_its_answer_get_it_all_the_same);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
