/* SPDX-License-Identifier: Apache-2.0 */
/* The whole: channels, which sessions there are, restarts, the end, numbers and the status. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/gateway/talk_fixture.h"
#include "tests/run_suite.h"

START_TEST(a_channel_has_no_history_and_is_in_no_list)
{
	struct session *s = NULL;
	int status;
	ck_assert_int_eq(
		gateway_channel_open(talk.g, GATEWAY_ASK, "no-such", getuid(), &s, NULL), -ENOENT);
	ck_assert_int_eq(
		gateway_channel_open(talk.g, GATEWAY_ASK, "default", getuid(), &s, NULL), 0);
	session_setting_set(s, "max_tokens", "8", 1, NULL);
	struct draft *d;
	draft_new(&d, s, getuid(), NULL);
	ck_assert_int_eq(draft_submit(d, NULL), 1);
	draft_write(d, "one\n", 4, NULL);
	ck_assert_int_eq(draft_submit(d, NULL), 0);
	char *one = harness_read(s, &status);
	double tokens = harness_usage(s, "prompt_tokens");
	draft_write(d, "one\n", 4, NULL);
	ck_assert_int_eq(draft_submit(d, NULL), 0);
	char *two = harness_read(s, &status);
	ck_assert_str_eq(one, two);
	ck_assert(harness_usage(s, "prompt_tokens") == tokens);
	ck_assert_ptr_null(gateway_session_find(talk.g, "ask"));
	draft_drop(d);
	free(one);
	free(two);
	session_put(s);
}
END_TEST

START_TEST(session_names_are_checked_and_counted)
{
	struct err err;
	char *long_name = malloc(66);
	memset(long_name, 'x', 65);
	long_name[65] = '\0';
	static const char *const bad[] = {"", ".", "..", "a/b", "a b", "\xC3\xA9", "a\n"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_int_eq(
			gateway_session_create(talk.g, bad[i], 0, 0, 0700, NULL, &err), -EINVAL);
	ck_assert_int_eq(
		gateway_session_create(talk.g, long_name, 0, 0, 0700, NULL, &err), -ENAMETOOLONG);
	ck_assert_int_eq(gateway_session_create(talk.g, long_name + 1, 0, 0, 0700, NULL, &err), 0);
	ck_assert_int_eq(
		gateway_session_create(talk.g, long_name + 1, 0, 0, 0700, NULL, &err), -EEXIST);
	int r = 0, n = 0;
	for (; n < 1100 && r == 0; n++) {
		char id[16];
		snprintf(id, sizeof id, "n%d", n);
		r = gateway_session_create(talk.g, id, 4711, 0, 0700, NULL, &err);
	}
	ck_assert_int_eq(r, -EDQUOT);
	ck_assert_int_eq(n, 1001);
	ck_assert_int_eq(gateway_session_create(talk.g, "other", 4712, 0, 0700, NULL, &err), 0);
	free(long_name);
}
END_TEST

START_TEST(a_removed_session_refuses_who_still_holds_it)
{
	struct session *s = talk_long_session("a");
	harness_say(s, "go on\n");
	ck_assert(harness_status(s, "generating"));
	ck_assert_int_eq(gateway_session_remove(talk.g, "a", NULL), 0);
	ck_assert_int_eq(gateway_session_remove(talk.g, "a", NULL), -ENOENT);
	ck_assert_int_eq(gateway_session_remove(talk.g, "main", NULL), -EBUSY);
	ck_assert_ptr_null(gateway_session_find(talk.g, "a"));
	int status;
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -ECANCELED);
	struct draft *d;
	draft_new(&d, s, getuid(), NULL);
	ck_assert_int_eq(draft_write(d, "x", 1, NULL), -ENOENT);
	draft_drop(d);
	ck_assert_int_eq(talk_set(s, "top_k", "1"), -ENOENT);
	struct session *again = harness_session(&talk, "a", NULL);
	ck_assert(talk_view_is(again, SESSION_CHAT, ""));
	session_put(again);
	session_put(s);
}
END_TEST

START_TEST(all_is_as_it_was_after_a_restart)
{
	struct session *s = harness_session(&talk, "a", "9");
	int status;
	talk_set(s, "system", "be\nbrief");
	talk_set(s, "temperature", "0.5");
	session_chmod(s, 0750);
	char *answer = talk_ask(s, "one\n", &status), *chat = harness_view(s, SESSION_CHAT);
	char *messages = harness_view(s, SESSION_MESSAGES);
	char *usage = harness_view(s, SESSION_USAGE);
	struct session_attr before, after;
	session_attr(s, &before);
	session_put(s);
	harness_close(&talk);
	harness_open(&talk);
	s = gateway_session_find(talk.g, "a");
	ck_assert_ptr_nonnull(s);
	session_attr(s, &after);
	ck_assert_uint_eq(after.mode, 0750);
	ck_assert_uint_eq(after.created_ns, before.created_ns);
	ck_assert_uint_eq(after.changed_ns, before.changed_ns);
	ck_assert(talk_view_is(s, SESSION_CHAT, chat));
	ck_assert(talk_view_is(s, SESSION_MESSAGES, messages));
	ck_assert(talk_view_is(s, SESSION_STATUS, "done\n"));
	char *later = harness_view(s, SESSION_USAGE);
	ck_assert_int_eq(strncmp(later, usage, strcspn(usage, "q")), 0); /* counts, then times */
	ck_assert_str_eq(strstr(later, "finish"), strstr(usage, "finish"));
	ck_assert(harness_usage(s, "total_ms") > 0);
	free(later);
	free(usage);
	char *again = harness_read(s, &status);
	ck_assert_str_eq(answer, again);
	struct buf value = {0};
	session_setting_get(s, "temperature", &value);
	ck_assert_str_eq(value.data, "0.5");
	buf_free(&value);
	free(answer);
	free(again);
	free(chat);
	free(messages);
	session_put(s);
}
END_TEST

START_TEST(a_removed_session_is_gone_after_a_restart)
{
	struct session *s = harness_session(&talk, "a", "4");
	talk_warm(s);
	session_put(s);
	gateway_session_remove(talk.g, "a", NULL);
	harness_close(&talk);
	harness_open(&talk);
	ck_assert_ptr_null(gateway_session_find(talk.g, "a"));
	s = harness_session(&talk, "a", NULL);
	ck_assert(talk_view_is(s, SESSION_CHAT, ""));
	session_put(s);
}
END_TEST

START_TEST(stopping_ends_what_runs_and_wakes_who_waits)
{
	struct session *s = talk_long_session("a");
	harness_say(s, "go on\n");
	struct answer *a;
	gateway_waiter id;
	ck_assert_int_eq(session_newest(s, &a, NULL, NULL, &id), 0);
	gateway_stop(talk.g);
	int status;
	free(harness_read_answer(a, &status));
	ck_assert_int_eq(status, -ECANCELED);
	ck_assert_int_eq(harness_say(s, "more\n"), -ESHUTDOWN);
	harness_close(&talk);
	/* What is still held is still memory. */
	ck_assert(talk_view_is(s, SESSION_STATUS, "failed\n"));
	bool ended;
	answer_size(a, &ended);
	ck_assert(ended);
	answer_put(a);
	session_put(s);
	harness_open(&talk);
}
END_TEST

static int changes;

static void count_change(void *arg, const struct gateway_change *c)
{
	changes += c->kind == GATEWAY_CHANGE_SESSION && !strcmp(c->name, "a") && c->file &&
		   !strcmp(c->file, "top_k");
}

START_TEST(a_changed_setting_is_told_to_the_front_end)
{
	harness_close(&talk);
	talk.options.changed = count_change;
	harness_open(&talk);
	struct session *s = harness_session(&talk, "a", NULL);
	talk_set(s, "top_k", "3");
	session_setting_reset(s, "top_k");
	session_put(s);
	harness_close(&talk);
	ck_assert_int_eq(changes, 2);
	talk.options.changed = NULL;
	harness_open(&talk);
}
END_TEST

START_TEST(a_small_sum_of_money_is_a_plain_number)
{
	struct session *s = harness_session(&talk, "a", "5");
	struct model *m = gateway_model_find(talk.g, "tiny");
	struct buf out = {0};
	ck_assert_int_eq(model_setting_set(m, "price_output", "1", 1, NULL), 0);
	talk_set(s, "ignore_eos", "1");
	free(talk_ask(s, "x\n", &(int){0}));
	for (int i = 0; i < 10000; i++) { /* counted a moment after its end */
		buf_clear(&out);
		ck_assert_int_eq(gateway_metric(talk.g, "cost_dollars_total", &out), 0);
		if (strcmp(out.data, "0\n") != 0)
			break;
		usleep(1000);
	}
	ck_assert_str_eq(out.data, "0.000005\n");
	buf_free(&out);
	model_put(m);
	session_put(s);
}
END_TEST

START_TEST(numbers_and_traces_count_what_happened)
{
	struct session *s = harness_session(&talk, "a", "5");
	struct buf out = {0};
	talk_warm(s);
	harness_say(s, "\n");
	free(talk_ask(s, "y\n", &(int){0}));
	harness_close(&talk); /* settled for certain */
	ck_assert_int_eq(gateway_metric_names()[0] != NULL, 1);
	session_put(s);
	harness_open(&talk);
	s = gateway_session_find(talk.g, "a");
	free(talk_ask(s, "z\n", &(int){0}));
	ck_assert(harness_usage(s, "session_requests") == 3);
	for (int i = 0; i < 10000; i++) {
		buf_clear(&out);
		gateway_metric(talk.g, "requests_total", &out);
		if (!strcmp(out.data, "1\n"))
			break;
		usleep(1000);
	}
	ck_assert_str_eq(out.data, "1\n");
	for (const char *const *name = gateway_metric_names(); *name; name++) {
		buf_clear(&out);
		ck_assert_int_eq(gateway_metric(talk.g, *name, &out), 0);
		ck_assert(out.len > 1);
		const char *point = strstr(*name, "_ms") ? strchr(out.data, '.') : NULL;
		ck_assert_msg(!point || strlen(point) <= strlen(".123\n"), "%s", out.data);
	}
	ck_assert_int_eq(gateway_metric(talk.g, "no_such", &out), -ENOENT);
	buf_clear(&out);
	gateway_render(talk.g, GATEWAY_PROMETHEUS, &out);
	ck_assert_ptr_null(strstr(out.data, "Of these")); /* a sentence stands alone there */
	ck_assert_ptr_nonnull(
		strstr(out.data, "llm_requests_total{model=\"tiny\",status=\"done\"} 1\n"));
	ck_assert_ptr_nonnull(
		strstr(out.data, "llm_request_latency_seconds_count{model=\"tiny\"} 1\n"));
	buf_clear(&out);
	gateway_render(talk.g, GATEWAY_TRACE_RECENT, &out);
	ck_assert_ptr_nonnull(strstr(out.data, "\"session\": \"a\", \"model\": \"tiny\""));
	buf_clear(&out);
	gateway_render(talk.g, GATEWAY_STATUS, &out);
	ck_assert_str_eq(out.data, "ok\n");
	gateway_report(talk.g, "tree", "TREE is gone");
	buf_clear(&out);
	gateway_render(talk.g, GATEWAY_STATUS, &out);
	ck_assert_str_eq(out.data, "degraded: TREE is gone\n");
	gateway_report(talk.g, "tree", NULL);
	/* Of a model with the longest name, twice. */
	char key[160];
	snprintf(key, sizeof key, "tree:models/%064d/template", 0);
	gateway_report(talk.g, key, "first");
	gateway_report(talk.g, key, "second");
	buf_clear(&out);
	gateway_render(talk.g, GATEWAY_STATUS, &out);
	ck_assert_str_eq(out.data, "degraded: second\n");
	gateway_report(talk.g, key, NULL);
	buf_clear(&out);
	gateway_render(talk.g, GATEWAY_STATUS, &out);
	ck_assert_str_eq(out.data, "ok\n");
	buf_free(&out);
	session_put(s);
}
END_TEST

static void status_is(const char *want)
{
	struct buf out = {0};
	ck_assert_int_eq(gateway_render(talk.g, GATEWAY_STATUS, &out), 0);
	ck_assert_str_eq(out.data, want);
	buf_free(&out);
}

START_TEST(a_default_that_names_no_model_is_in_status_until_it_names_one)
{
	ck_assert_int_eq(gateway_default_set(talk.g, "nosuch", NULL), 0);
	status_is("degraded: models/default points to nosuch, and there is no model nosuch: make "
		  "it, or point to another, ln -sfn NAME models/default\n");
	ck_assert_int_eq(gateway_default_set(talk.g, NULL, NULL), 0);
	status_is("degraded: models/default names no model, and sessions that chose none cannot "
		  "ask: ln -sfn NAME models/default\n");
	ck_assert_int_eq(gateway_default_set(talk.g, "auto", NULL), 0);
	status_is("ok\n");
	ck_assert_int_eq(gateway_default_set(talk.g, NULL, NULL), 0);
	char **names = gateway_model_names(talk.g);
	for (size_t i = 0; names[i]; free(names[i++]))
		gateway_model_remove(talk.g, names[i], NULL);
	free(names);
	status_is("ok\n"); /* no model at all: nothing that default could name */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gateway");
	TCase *t = tcase_create("requests");
	tcase_add_checked_fixture(t, talk_open, talk_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_channel_has_no_history_and_is_in_no_list);
	tcase_add_test(t, session_names_are_checked_and_counted);
	tcase_add_test(t, a_removed_session_refuses_who_still_holds_it);
	tcase_add_test(t, all_is_as_it_was_after_a_restart);
	tcase_add_test(t, a_removed_session_is_gone_after_a_restart);
	tcase_add_test(t, stopping_ends_what_runs_and_wakes_who_waits);
	tcase_add_test(t, a_changed_setting_is_told_to_the_front_end);
	tcase_add_test(t, a_small_sum_of_money_is_a_plain_number);
	tcase_add_test(t, numbers_and_traces_count_what_happened);
	tcase_add_test(t, a_default_that_names_no_model_is_in_status_until_it_names_one);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
