/* SPDX-License-Identifier: Apache-2.0 */
/* What a session still says of its last request, and of what happened to it, after a restart. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/store.h"
#include "tests/gateway/talk_fixture.h"
#include "tests/run_suite.h"

static struct session *restart(struct session *s, const char *id)
{
	session_put(s);
	harness_close(&talk);
	harness_open(&talk);
	s = gateway_session_find(talk.g, id);
	ck_assert_ptr_nonnull(s);
	return s;
}

/* The store between two gateways. */
static struct store *open_store(void)
{
	struct store *store = NULL;
	struct err err = {0};
	ck_assert_msg(store_open(&store, talk.state, &err) == 0, "%s", err.text);
	return store;
}

static struct session *put_and_open(const char *key, const char *value, const char *id)
{
	struct store *store = open_store();
	if (value)
		store_put(store, key, value, strlen(value));
	else
		store_delete(store, key);
	store_free(store);
	harness_open(&talk);
	struct session *s = gateway_session_find(talk.g, id);
	ck_assert_ptr_nonnull(s);
	return s;
}

static int take_value(void *arg, const char *key, size_t key_len, const char *value, size_t len)
{
	struct buf *out = arg;
	return out->len ? 0 : buf_append(out, value, len);
}

/* Of the request that a trace is of. */
static unsigned long number_of(const char *trace)
{
	ck_assert_int_eq(strncmp(trace, "request ", 8), 0);
	return strtoul(trace + 8, NULL, 10);
}

START_TEST(usage_trace_and_events_are_the_same_texts_after_a_restart)
{
	struct session *s = harness_session(&talk, "a", "9");
	int status;
	talk_set(s, "seed", "7");
	talk_set(s, "temperature", "0.5");
	free(talk_ask(s, "one\n", &status));
	ck_assert_int_eq(status, 0);
	char *usage = harness_view(s, SESSION_USAGE), *trace = harness_view(s, SESSION_TRACE);
	char *events = harness_view(s, SESSION_EVENTS);
	ck_assert_ptr_nonnull(strstr(usage, "\nmodel tiny\nprovider local\nseed 7\n"));
	ck_assert_ptr_nonnull(strstr(trace, "release_ms"));
	ck_assert_ptr_nonnull(strstr(events, "\"event\": \"done\""));
	for (int i = 0; i < 2; i++) {
		s = restart(s, "a");
		ck_assert(talk_view_is(s, SESSION_USAGE, usage));
		ck_assert(talk_view_is(s, SESSION_TRACE, trace));
		ck_assert(talk_view_is(s, SESSION_EVENTS, events));
	}
	free(talk_ask(s, "two\n", &status));
	unsigned long before = number_of(trace);
	free(trace);
	trace = harness_view(s, SESSION_TRACE);
	ck_assert_uint_gt(number_of(trace), before);
	char *more = harness_view(s, SESSION_EVENTS);
	ck_assert_int_eq(strncmp(more, events, strlen(events)), 0);
	ck_assert_ptr_nonnull(strstr(more + strlen(events), "submitted"));
	ck_assert_ptr_nonnull(strstr(more + strlen(events), "\"request\": "));
	free(more);
	free(usage);
	free(trace);
	free(events);
	session_put(s);
}
END_TEST

START_TEST(a_failed_request_has_its_own_errno_after_a_restart)
{
	struct session *s = harness_session(&talk, "a", "9");
	struct err err = {0};
	int status;
	ck_assert_int_eq(gateway_model_create(talk.g, "gone", &err), 0);
	struct model *m = gateway_model_find(talk.g, "gone");
	ck_assert_int_eq(model_setting_set(m, "path", "/nowhere/x.gguf", 15, &err), 0);
	model_put(m);
	talk_set(s, "model", "gone");
	free(talk_ask(s, "one\n", &status));
	ck_assert_int_lt(status, 0);
	ck_assert_int_ne(status, -EIO); /* which is what a turn alone can say */
	int before = status;
	char *error = harness_view(s, SESSION_ERROR), *usage = harness_view(s, SESSION_USAGE);
	s = restart(s, "a");
	free(harness_read(s, &status));
	ck_assert_int_eq(status, before);
	ck_assert(talk_view_is(s, SESSION_ERROR, error));
	ck_assert(talk_view_is(s, SESSION_USAGE, usage));
	free(error);
	free(usage);
	session_put(s);
}
END_TEST

START_TEST(what_was_cancelled_while_it_waited_is_the_last_request)
{
	struct session *s = talk_long_session("a");
	harness_say(s, "one\n");
	harness_say(s, "two\n");
	ck_assert_int_eq(talk_ctl(s, "cancel"), 0);
	ck_assert(harness_status(s, "cancelled"));
	char *trace = harness_view(s, SESSION_TRACE), *usage = harness_view(s, SESSION_USAGE);
	ck_assert_ptr_nonnull(strstr(trace, "request "));
	s = restart(s, "a");
	ck_assert(talk_view_is(s, SESSION_TRACE, trace));
	ck_assert(talk_view_is(s, SESSION_USAGE, usage));
	free(trace);
	free(usage);
	session_put(s);
}
END_TEST

START_TEST(events_that_are_kept_are_the_last_ones_in_their_order)
{
	struct session *s = harness_session(&talk, "a", "1");
	int status;
	for (int i = 0; i < 37; i++)
		free(talk_ask(s, "one\n", &status));
	char *before = harness_view(s, SESSION_EVENTS);
	s = restart(s, "a");
	char *after = harness_view(s, SESSION_EVENTS);
	size_t len = strlen(before), kept = strlen(after);
	ck_assert_uint_le(kept, len);
	ck_assert_str_eq(before + len - kept, after);
	ck_assert(kept == len || before[len - kept - 1] == '\n');
	size_t done = 0;
	for (char *p = after; (p = strstr(p, "\"done\"")); p++)
		done++;
	ck_assert_uint_ge(done, 14); /* of the sixteen records, what EVENTS_KEEP leaves */
	free(before);
	free(after);
	session_put(s);
}
END_TEST

START_TEST(refusals_since_the_last_answer_are_kept_by_a_clean_end)
{
	struct session *s = harness_session(&talk, "a", "1");
	int status;
	free(talk_ask(s, "one\n", &status));
	for (int i = 0; i < 200; i++) /* more than are kept */
		harness_say(s, " \n");
	char *before = harness_view(s, SESSION_EVENTS);
	s = restart(s, "a");
	char *after = harness_view(s, SESSION_EVENTS);
	size_t len = strlen(before), kept = strlen(after);
	ck_assert_ptr_nonnull(strstr(after, "\"refused\""));
	ck_assert_uint_le(kept, len); /* a record has some 2 KiB of them */
	char *last = memrchr(before, '\n', len - 1);
	ck_assert_ptr_nonnull(last);
	ck_assert_uint_gt(kept, strlen(last + 1));
	ck_assert_str_eq(after + kept - strlen(last + 1), last + 1);
	free(before);
	free(after);
	session_put(s);
}
END_TEST

START_TEST(a_session_made_anew_has_nothing_of_the_one_that_was_removed)
{
	struct session *s = harness_session(&talk, "a", "1");
	int status;
	for (int i = 0; i < 3; i++)
		free(talk_ask(s, "one\n", &status));
	session_put(s);
	ck_assert_int_eq(gateway_session_remove(talk.g, "a", NULL), 0);
	s = harness_session(&talk, "a", "1");
	s = restart(s, "a");
	ck_assert(talk_view_is(s, SESSION_EVENTS, ""));
	ck_assert(talk_view_is(s, SESSION_TRACE, ""));
	session_put(s);
	harness_close(&talk);
	struct store *store = open_store();
	struct buf value = {0};
	store_scan(store, "e/", take_value, &value);
	store_scan(store, "r/", take_value, &value);
	ck_assert_uint_eq(value.len, 0);
	store_free(store);
	harness_open(&talk);
}
END_TEST

/* A serial may come again where no turn is left, and is not to find what was said of the first. */
START_TEST(of_a_conversation_that_was_emptied_nothing_is_kept)
{
	struct session *s = harness_session(&talk, "a", "1");
	struct err err = {0};
	for (int i = 0; i < 2; i++) {
		int status;
		struct buf value = {0};
		free(talk_ask(s, "one\n", &status));
		if (i)
			ck_assert_int_eq(session_messages_set(s, "[]", 2, &err), 0);
		else
			ck_assert_int_eq(talk_ctl(s, "clear"), 0);
		session_put(s);
		harness_close(&talk);
		struct store *store = open_store();
		ck_assert_int_eq(store_scan(store, "r/", take_value, &value), 0);
		ck_assert_uint_eq(value.len, 0);
		store_free(store);
		harness_open(&talk);
		s = gateway_session_find(talk.g, "a");
		ck_assert_ptr_nonnull(s);
	}
	session_put(s);
}
END_TEST

START_TEST(a_state_without_these_records_says_what_the_turn_has)
{
	struct session *s = harness_session(&talk, "a", "9");
	int status;
	free(talk_ask(s, "one\n", &status));
	double tokens = harness_usage(s, "output_tokens");
	session_put(s);
	harness_close(&talk);
	s = put_and_open("r/a", NULL, "a");
	ck_assert(harness_usage(s, "output_tokens") == tokens);
	char *usage = harness_view(s, SESSION_USAGE);
	ck_assert_ptr_null(strstr(usage, "model"));
	free(usage);
	session_put(s);
}
END_TEST

START_TEST(a_record_of_another_turn_is_none)
{
	struct session *s = harness_session(&talk, "a", "9");
	struct buf value = {0};
	int status;
	free(talk_ask(s, "one\n", &status));
	session_put(s);
	harness_close(&talk);
	struct store *store = open_store();
	ck_assert_int_eq(store_scan(store, "r/a", take_value, &value), 0);
	store_free(store);
	ck_assert_int_eq(buf_append(&value, "", 1), 0);
	harness_open(&talk);
	s = gateway_session_find(talk.g, "a");
	free(talk_ask(s, "two\n", &status));
	session_put(s);
	harness_close(&talk);
	s = put_and_open("r/a", value.data, "a");
	char *usage = harness_view(s, SESSION_USAGE);
	ck_assert_ptr_null(strstr(usage, "model"));
	ck_assert_ptr_nonnull(strstr(usage, "output_tokens 9\n"));
	free(usage);
	buf_free(&value);
	session_put(s);
}
END_TEST

START_TEST(damaged_records_are_skipped_and_the_session_lives)
{
	static const char *const bad[] = {"", "x", "1 2 3", "1 2 3\n", "1 2 3\nno blank\n\n",
		"1  2\nm local\n", "1 2 3\n../x local\n", "1 2 3\nm else\n", "-1\nm local\n"};
	struct session *s = harness_session(&talk, "a", "9");
	int status;
	free(talk_ask(s, "one\n", &status));
	char *chat = harness_view(s, SESSION_CHAT);
	session_put(s);
	harness_close(&talk);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		session_put(put_and_open("r/a", bad[i], "a"));
		harness_close(&talk);
		s = put_and_open("e/a/00", bad[i], "a");
		ck_assert(talk_view_is(s, SESSION_CHAT, chat));
		ck_assert(harness_status(s, "done"));
		session_put(s);
		harness_close(&talk);
	}
	harness_open(&talk);
	free(chat);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("session_last");
	TCase *t = tcase_create("restarts");
	tcase_add_checked_fixture(t, talk_open, talk_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, usage_trace_and_events_are_the_same_texts_after_a_restart);
	tcase_add_test(t, a_failed_request_has_its_own_errno_after_a_restart);
	tcase_add_test(t, what_was_cancelled_while_it_waited_is_the_last_request);
	tcase_add_test(t, events_that_are_kept_are_the_last_ones_in_their_order);
	tcase_add_test(t, refusals_since_the_last_answer_are_kept_by_a_clean_end);
	tcase_add_test(t, a_session_made_anew_has_nothing_of_the_one_that_was_removed);
	tcase_add_test(t, of_a_conversation_that_was_emptied_nothing_is_kept);
	tcase_add_test(t, a_state_without_these_records_says_what_the_turn_has);
	tcase_add_test(t, a_record_of_another_turn_is_none);
	tcase_add_test(t, damaged_records_are_skipped_and_the_session_lives);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
