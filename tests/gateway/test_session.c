/* SPDX-License-Identifier: Apache-2.0 */
/* One session: its settings, its verbs, its conversation and the views of it. */
#include <check.h>
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/gateway/talk_fixture.h"
#include "tests/run_suite.h"

/* ---- settings ---- */

START_TEST(a_refused_setting_changes_nothing_and_the_error_says_what_is_allowed)
{
	struct session *s = harness_session(&talk, "a", NULL);
	struct buf value = {0};
	ck_assert_int_eq(talk_set(s, "temperature", "hot"), -EINVAL);
	ck_assert(talk_view_is(
		s, SESSION_ERROR, "temperature: must be a number from 0 (greedy) to 2\n"));
	session_setting_get(s, "temperature", &value);
	ck_assert_str_eq(value.data, "0");
	ck_assert_int_eq(talk_set(s, "temperature", "1"), 0);
	ck_assert(talk_view_is(s, SESSION_ERROR, ""));
	ck_assert_int_eq(talk_set(s, "model", "no-such"), -EINVAL);
	ck_assert(talk_view_has(s, SESSION_ERROR, "tiny"));
	ck_assert_int_eq(talk_set(s, "no-such", "1"), -ENOENT);
	buf_free(&value);
	session_put(s);
}
END_TEST

START_TEST(max_tokens_and_seed_are_obeyed_and_the_seed_used_is_shown)
{
	struct session *s = harness_session(&talk, "a", "7");
	int status;
	talk_set(s, "ignore_eos", "1");
	free(talk_ask(s, "go\n", &status));
	ck_assert(harness_usage(s, "output_tokens") == 7);
	ck_assert(harness_usage(s, "seed") == -1);
	ck_assert(talk_view_has(s, SESSION_USAGE, "finish length\n"));
	talk_set(s, "temperature", "1");
	free(talk_ask(s, "go\n", &status));
	ck_assert(harness_usage(s, "seed") >= 0);
	talk_set(s, "seed", "42");
	talk_ctl(s, "clear");
	char *one = talk_ask(s, "go\n", &status);
	talk_ctl(s, "clear");
	char *two = talk_ask(s, "go\n", &status);
	ck_assert(harness_usage(s, "seed") == 42);
	ck_assert_str_eq(one, two);
	free(one);
	free(two);
	session_put(s);
}
END_TEST

START_TEST(a_stop_string_ends_the_answer_and_is_not_part_of_it)
{
	struct session *s = harness_session(&talk, "a", "40");
	int status;
	talk_set(s, "ignore_eos", "1");
	char *whole = talk_ask(s, "go\n", &status), *end = whole + strlen(whole) / 2, stop[8] = "";
	while (end > whole && (*end & 0x80 || *end == '\n'))
		end--;
	stop[0] = *end;
	talk_ctl(s, "clear");
	ck_assert_int_eq(talk_set(s, "stop", stop), 0);
	char *cut = talk_ask(s, "go\n", &status);
	*strchr(whole, stop[0]) = '\0';
	ck_assert_str_eq(cut, whole);
	ck_assert(talk_view_has(s, SESSION_USAGE, "finish stop\n"));
	free(whole);
	free(cut);
	session_put(s);
}
END_TEST

/* ---- verbs ---- */

START_TEST(cancel_is_in_force_when_it_returns_and_keeps_what_a_reader_got)
{
	struct session *s = talk_long_session("a");
	harness_say(s, "go on\n");
	ck_assert(harness_status(s, "generating"));
	struct answer *a;
	gateway_waiter id;
	ck_assert_int_eq(session_newest(s, &a, NULL, NULL, &id), 0);
	char bytes[8];
	size_t n = 0;
	while (answer_read(a, 0, bytes, 8, &n) == 1)
		usleep(100);
	ck_assert_int_eq(talk_ctl(s, "cancel"), 0);
	ck_assert(talk_view_is(s, SESSION_STATUS, "cancelled\n"));
	int status;
	char *text = harness_read_answer(a, &status);
	ck_assert_int_eq(status, -ECANCELED);
	ck_assert_uint_eq(strlen(text), n);
	ck_assert_mem_eq(text, bytes, n);
	ck_assert(talk_view_has(s, SESSION_CHAT, "[cancelled]"));
	free(text);
	answer_put(a);
	session_put(s);
}
END_TEST

START_TEST(cancel_with_nothing_to_cancel_succeeds)
{
	struct session *s = harness_session(&talk, "a", "2");
	ck_assert_int_eq(talk_ctl(s, "cancel"), 0);
	talk_warm(s);
	ck_assert_int_eq(talk_ctl(s, "cancel"), 0);
	ck_assert(talk_view_is(s, SESSION_STATUS, "done\n"));
	session_put(s);
}
END_TEST

START_TEST(an_unanswered_turn_is_replaced_by_the_next_prompt)
{
	struct session *s = talk_long_session("a");
	harness_say(s, "first\n");
	talk_ctl(s, "cancel");
	talk_set(s, "max_tokens", "4");
	int status;
	free(talk_ask(s, "second\n", &status));
	ck_assert_int_eq(status, 0);
	char *messages = harness_view(s, SESSION_MESSAGES);
	ck_assert_ptr_null(strstr(messages, "first"));
	ck_assert_ptr_nonnull(strstr(messages, "second"));
	free(messages);
	session_put(s);
}
END_TEST

START_TEST(retry_asks_an_unanswered_turn_again_and_a_complete_one_not)
{
	struct session *s = talk_long_session("a");
	ck_assert_int_eq(talk_ctl(s, "retry"), -ENOENT);
	harness_say(s, "first\n");
	ck_assert_int_eq(talk_ctl(s, "retry"), -EBUSY);
	talk_ctl(s, "cancel");
	talk_set(s, "max_tokens", "4");
	ck_assert_int_eq(talk_ctl(s, "retry"), 0);
	int status;
	char *text = harness_read(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert(*text);
	ck_assert_int_eq(talk_ctl(s, "retry"), -ENOENT);
	char *messages = harness_view(s, SESSION_MESSAGES), *one = strstr(messages, "first");
	ck_assert_ptr_nonnull(one);
	ck_assert_ptr_null(strstr(one + 1, "first"));
	free(messages);
	free(text);
	session_put(s);
}
END_TEST

/* What chat is by now begins with what it was. An answer may have any bytes. */
static void has_grown(struct session *s, struct buf *was, const char *more)
{
	struct buf now = {0};
	ck_assert_int_eq(session_render(s, SESSION_CHAT, &now), 0);
	ck_assert_uint_ge(now.len, was->len);
	ck_assert(!was->len || !memcmp(now.data, was->data, was->len));
	const char *at = now.len ? now.data + was->len : "";
	ck_assert_msg(memmem(at, now.len - was->len, more, strlen(more)) != NULL, "%s is not in %s",
		more, at);
	buf_free(was);
	*was = now;
}

/* For who follows it: tail -f. */
START_TEST(chat_grows_at_its_end_whatever_becomes_of_prompts)
{
	struct session *s = talk_long_session("a");
	struct buf was = {0};
	char byte[8];
	struct answer *a;
	gateway_waiter id;
	size_t n = 0;
	int status;
	harness_say(s, "cancelled\n");
	talk_ctl(s, "cancel");
	has_grown(s, &was, "> cancelled\n\n[cancelled]\n\n");
	harness_say(s, "broken off\n");
	ck_assert_int_eq(session_newest(s, &a, NULL, NULL, &id), 0);
	while (answer_read(a, 0, byte, sizeof byte, &n) == 1)
		usleep(100);
	answer_put(a);
	has_grown(s, &was, "> broken off\n");
	talk_ctl(s, "cancel");
	has_grown(s, &was, "[cancelled]\n\n");
	talk_set(s, "max_tokens", "4");
	ck_assert_int_eq(talk_ctl(s, "retry"), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	has_grown(s, &was, "> broken off\n");
	talk_set(s, "truncate", "off");
	talk_set(s, "prompt_budget", "1");
	free(talk_ask(s, "too long\n", &status));
	ck_assert_int_eq(status, -EMSGSIZE);
	has_grown(s, &was, ""); /* it was never there */
	ck_assert_ptr_null(memmem(was.data, was.len, "too long", 8));
	/* What a model sees has none of it. */
	char *messages = harness_view(s, SESSION_MESSAGES), *one = strstr(messages, "broken off");
	ck_assert_ptr_nonnull(one);
	ck_assert_ptr_null(strstr(one + 1, "broken off"));
	ck_assert_ptr_null(strstr(messages, "cancelled"));
	free(messages);
	buf_free(&was);
	session_put(s);
}
END_TEST

START_TEST(clear_forgets_the_conversation_but_not_while_an_answer_is_under_way)
{
	struct session *s = talk_long_session("a");
	harness_say(s, "first\n");
	ck_assert_int_eq(talk_ctl(s, "clear"), -EBUSY);
	talk_ctl(s, "cancel");
	ck_assert_int_eq(talk_ctl(s, "clear"), 0);
	ck_assert(talk_view_is(s, SESSION_CHAT, ""));
	ck_assert(talk_view_is(s, SESSION_STATUS, "idle\n"));
	session_put(s);
}
END_TEST

START_TEST(an_unknown_verb_is_quoted_back_with_those_there_are)
{
	struct session *s = harness_session(&talk, "a", NULL);
	ck_assert_int_eq(talk_ctl(s, "stpo"), -EINVAL);
	ck_assert(talk_view_is(s, SESSION_ERROR,
		"stpo: not a verb; they are submit, cancel, clear, retry and fork ID\n"));
	ck_assert_int_eq(talk_ctl(s, "fork"), -EINVAL);
	ck_assert(talk_view_is(s, SESSION_ERROR, "fork: the ID is missing, as in: fork b\n"));
	ck_assert_int_eq(talk_ctl(s, "cancel now"), -EINVAL);
	ck_assert_int_eq(talk_ctl(s, ""), -EINVAL);
	session_put(s);
}
END_TEST

START_TEST(submit_commits_what_stands_in_the_open_drafts)
{
	struct session *s = harness_session(&talk, "a", "2");
	struct draft *d;
	int status;
	draft_new(&d, s, getuid(), NULL);
	draft_write(d, "one\n", 4, NULL);
	ck_assert_int_eq(talk_ctl(s, "submit"), 0);
	free(harness_read(s, &status));
	draft_write(d, "two\n", 4, NULL);
	draft_commit(d);
	free(harness_read(s, &status));
	ck_assert(talk_view_has(s, SESSION_CHAT, "> one\n"));
	ck_assert(talk_view_has(s, SESSION_CHAT, "> two\n"));
	session_put(s);
}
END_TEST

START_TEST(a_fork_continues_the_conversation_and_shares_its_prefix)
{
	struct session *s = harness_session(&talk, "a", "20"), *b;
	int status;
	talk_set(s, "system",
		"You are a test of some length, so that whole blocks of it can be shared.");
	talk_set(s, "ignore_eos", "1");
	free(talk_ask(s, "a first question of some words\n", &status));
	ck_assert_int_eq(talk_ctl(s, "fork b"), 0);
	ck_assert_int_eq(talk_ctl(s, "fork b"), -EEXIST);
	ck_assert_int_eq(talk_ctl(s, "fork a/b"), -EINVAL);
	b = gateway_session_find(talk.g, "b");
	char *one = harness_view(s, SESSION_MESSAGES), *two = harness_view(b, SESSION_MESSAGES);
	ck_assert_str_eq(one, two);
	ck_assert(talk_view_is(b, SESSION_STATUS, "idle\n"));
	free(talk_ask(b, "next\n", &status));
	ck_assert_int_eq(status, 0);
	ck_assert_msg(harness_usage(b, "cached_tokens") >= 64, "%g of %g cached",
		harness_usage(b, "cached_tokens"), harness_usage(b, "prompt_tokens"));
	char *again = harness_view(s, SESSION_MESSAGES);
	ck_assert_str_eq(one, again);
	free(one);
	free(two);
	free(again);
	session_put(b);
	session_put(s);
}
END_TEST

START_TEST(messages_copied_to_another_session_give_the_same_next_answer)
{
	struct session *a = harness_session(&talk, "a", "20"),
		       *b = harness_session(&talk, "b", "20");
	int status;
	talk_set(a, "system", "You are a test.");
	free(talk_ask(a, "one\n", &status));
	char *messages = harness_view(a, SESSION_MESSAGES);
	ck_assert_int_eq(session_messages_set(b, messages, strlen(messages), NULL), 0);
	char *copy = harness_view(b, SESSION_MESSAGES);
	ck_assert_str_eq(messages, copy);
	char *one = talk_ask(a, "two\n", &status), *two = talk_ask(b, "two\n", &status);
	ck_assert_str_eq(one, two);
	free(one);
	free(two);
	free(copy);
	free(messages);
	session_put(a);
	session_put(b);
}
END_TEST

START_TEST(bad_messages_leave_the_conversation_as_it_was)
{
	struct session *s = harness_session(&talk, "a", "4");
	talk_warm(s);
	char *before = harness_view(s, SESSION_MESSAGES);
	static const char bad[] = "[{\"role\": \"user\", \"content\": \"x\"}, {}]";
	ck_assert_int_eq(session_messages_set(s, bad, sizeof bad - 1, NULL), -EINVAL);
	ck_assert(talk_view_has(s, SESSION_ERROR, "message 2"));
	ck_assert(talk_view_is(s, SESSION_MESSAGES, before));
	free(before);
	session_put(s);
}
END_TEST

/* ---- conversations ---- */

START_TEST(a_later_turn_finds_the_earlier_ones_in_the_cache)
{
	struct session *s = harness_session(&talk, "a", "40");
	int status;
	talk_set(s, "ignore_eos", "1");
	free(talk_ask(
		s, "a question that is long enough for a few blocks of the cache\n", &status));
	free(talk_ask(s, "and another\n", &status));
	ck_assert(harness_usage(s, "cached_tokens") >= 48);
	session_put(s);
}
END_TEST

START_TEST(a_conversation_longer_than_the_context_goes_on_and_seldom_moves_its_window)
{
	struct session *s = harness_session(&talk, "a", "100");
	int status, moved = 0;
	talk_set(s, "ignore_eos", "1");
	for (int i = 0; i < 40; i++) {
		free(talk_ask(s, "a question of about forty bytes to fill it\n", &status));
		ck_assert_int_eq(status, 0);
		ck_assert(harness_usage(s, "prompt_tokens") <= 2048 - 100);
		moved += i &&
			 harness_usage(s, "cached_tokens") < harness_usage(s, "prompt_tokens") / 2;
	}
	ck_assert_int_ge(moved, 1);
	ck_assert_int_le(moved, 15);
	session_put(s);
}
END_TEST

START_TEST(with_truncate_off_a_conversation_that_no_longer_fits_is_refused)
{
	struct session *s = harness_session(&talk, "a", "400");
	int status = 0, i = 0;
	talk_set(s, "ignore_eos", "1");
	talk_set(s, "truncate", "off");
	for (; i < 20 && status == 0; i++)
		free(talk_ask(s, "again\n", &status));
	ck_assert_int_eq(status, -EMSGSIZE);
	ck_assert(talk_view_has(s, SESSION_ERROR, "truncate is off"));
	talk_set(s, "truncate", "middle");
	free(talk_ask(s, "again\n", &status));
	ck_assert_int_eq(status, 0);
	session_put(s);
}
END_TEST

START_TEST(chat_grows_at_its_end_and_its_size_is_exact_all_the_time)
{
	struct session *s = talk_long_session("a");
	talk_set(s, "max_tokens", "300");
	harness_say(s, "go on\n");
	struct buf before = {0};
	for (bool done = false; !done;) {
		uint64_t bytes, later, changed;
		session_view_size(s, SESSION_CHAT, &bytes, &changed);
		struct buf now = {0};
		session_render(s, SESSION_CHAT, &now);
		session_view_size(s, SESSION_CHAT, &later, &changed);
		ck_assert(now.len >= bytes && now.len <= later);
		ck_assert(now.len >= before.len);
		if (before.len)
			ck_assert_mem_eq(now.data, before.data, before.len);
		buf_free(&before);
		before = now;
		char *status = harness_view(s, SESSION_STATUS);
		done = !strcmp(status, "done\n");
		free(status);
		usleep(500);
	}
	buf_free(&before);
	session_put(s);
}
END_TEST

START_TEST(watchers_of_chat_and_events_are_told_when_there_is_more)
{
	struct session *s = harness_session(&talk, "a", "4");
	gateway_waiter id, other;
	sem_t chat, events;
	uint64_t bytes, changed;
	sem_init(&chat, 0, 0);
	sem_init(&events, 0, 0);
	session_view_size(s, SESSION_EVENTS, &bytes, &changed);
	ck_assert_int_eq(session_watch(s, SESSION_CHAT, 0, talk_wake, &chat, &id), 0);
	ck_assert_int_eq(session_watch(s, SESSION_EVENTS, bytes, talk_wake, &events, &other), 0);
	harness_say(s, "hello\n");
	sem_wait(&chat);
	sem_wait(&events);
	ck_assert(!session_unwatch(s, id));
	int status;
	free(harness_read(s, &status));
	ck_assert_int_eq(session_watch(s, SESSION_CHAT, 0, talk_wake, &chat, &id), 1);
	session_put(s);
}
END_TEST

START_TEST(events_are_json_lines_and_bounded)
{
	struct session *s = harness_session(&talk, "a", "1");
	int status;
	for (int i = 0; i < 60; i++)
		free(talk_ask(s, "x\n", &status));
	char *events = harness_view(s, SESSION_EVENTS);
	ck_assert_uint_le(strlen(events), 8192);
	ck_assert(events[0] == '{');
	ck_assert_ptr_nonnull(strstr(events, "\"event\": \"done\""));
	free(events);
	session_put(s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gateway/session");
	TCase *t = tcase_create("requests");
	tcase_add_checked_fixture(t, talk_open, talk_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_refused_setting_changes_nothing_and_the_error_says_what_is_allowed);
	tcase_add_test(t, max_tokens_and_seed_are_obeyed_and_the_seed_used_is_shown);
	tcase_add_test(t, a_stop_string_ends_the_answer_and_is_not_part_of_it);
	tcase_add_test(t, cancel_is_in_force_when_it_returns_and_keeps_what_a_reader_got);
	tcase_add_test(t, cancel_with_nothing_to_cancel_succeeds);
	tcase_add_test(t, an_unanswered_turn_is_replaced_by_the_next_prompt);
	tcase_add_test(t, retry_asks_an_unanswered_turn_again_and_a_complete_one_not);
	tcase_add_test(t, chat_grows_at_its_end_whatever_becomes_of_prompts);
	tcase_add_test(t, clear_forgets_the_conversation_but_not_while_an_answer_is_under_way);
	tcase_add_test(t, an_unknown_verb_is_quoted_back_with_those_there_are);
	tcase_add_test(t, submit_commits_what_stands_in_the_open_drafts);
	tcase_add_test(t, a_fork_continues_the_conversation_and_shares_its_prefix);
	tcase_add_test(t, messages_copied_to_another_session_give_the_same_next_answer);
	tcase_add_test(t, bad_messages_leave_the_conversation_as_it_was);
	tcase_add_test(t, a_later_turn_finds_the_earlier_ones_in_the_cache);
	tcase_add_test(
		t, a_conversation_longer_than_the_context_goes_on_and_seldom_moves_its_window);
	tcase_add_test(t, with_truncate_off_a_conversation_that_no_longer_fits_is_refused);
	tcase_add_test(t, chat_grows_at_its_end_and_its_size_is_exact_all_the_time);
	tcase_add_test(t, watchers_of_chat_and_events_are_told_when_there_is_more);
	tcase_add_test(t, events_are_json_lines_and_bounded);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
