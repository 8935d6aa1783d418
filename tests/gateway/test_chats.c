/* SPDX-License-Identifier: Apache-2.0 */
/* Unlisted sessions whose conversation comes with the request: what a model, the guards, the cache
 * and the accounts see of it, and that nobody else sees anything. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/session.h"
#include "tests/gateway/talk_fixture.h"
#include "tests/run_suite.h"

static const char facts[] = "The lighthouse at the cape was built of grey stone in the year 1821.";

/* One of `tiny` with that many tokens to give. */
static struct session *chat(const char *max_tokens)
{
	struct session *s;
	struct err err = {0};
	int r = gateway_chat_open(talk.g, "tiny", getuid(), &s, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	ck_assert_int_eq(talk_set(s, "max_tokens", max_tokens), 0);
	ck_assert_int_eq(talk_set(s, "ignore_eos", "1"), 0);
	return s;
}

/* What session_turns_set returned for a user's text and an assistant's. */
static int tell(struct session *s, const char *user, const char *assistant, struct err *err)
{
	const struct session_message turns[] = {
		{SESSION_USER, user, strlen(user)},
		{SESSION_ASSISTANT, assistant, strlen(assistant)},
	};
	return session_turns_set(s, turns, 2, err);
}

/* Asks, reads, and gives what came of it. */
static struct session_outcome ask(struct session *s, const char *prompt)
{
	int status;
	struct session_outcome o;
	free(talk_ask(s, prompt, &status));
	ck_assert_int_eq(status, 0);
	session_outcome(s, &o);
	ck_assert(o.over);
	return o;
}

/* ---- the conversation ---- */

START_TEST(what_was_said_before_is_in_the_prompt)
{
	struct session *none = chat("4"), *some = chat("4"),
		       *listed = harness_session(&talk, "a", "4");
	static const char json[] = "[{\"role\":\"system\",\"content\":\"Be brief.\"},"
				   "{\"role\":\"user\",\"content\":\"one\"},{\"role\":"
				   "\"assistant\",\"content\":\"two\"},"
				   "{\"role\":\"user\",\"content\":\"three\"},{\"role\":"
				   "\"assistant\",\"content\":\"four\"}]";
	static const struct session_message turns[] = {
		{SESSION_SYSTEM, "Be brief.", 9},
		{SESSION_USER, "one", 3},
		{SESSION_ASSISTANT, "two", 3},
		{SESSION_USER, "three", 5},
		{SESSION_ASSISTANT, "four", 4},
	};
	talk_set(listed, "ignore_eos", "1");
	ck_assert_int_eq(session_messages_set(listed, json, strlen(json), NULL), 0);
	ck_assert_int_eq(session_turns_set(some, turns, 5, NULL), 0);
	struct session_outcome alone = ask(none, "and?"), told = ask(some, "and?"),
			       same = ask(listed, "and?");
	ck_assert_uint_gt(told.prompt_tok, alone.prompt_tok + 10);
	ck_assert_uint_eq(told.prompt_tok, same.prompt_tok);
	char *a = harness_view(some, SESSION_MESSAGES), *b = harness_view(listed, SESSION_MESSAGES);
	ck_assert_str_eq(a, b);
	free(a);
	free(b);
	/* It goes on as a listed one does. */
	ck_assert_uint_gt(ask(some, "and?").prompt_tok, told.prompt_tok);
	session_put(none);
	session_put(some);
	session_put(listed);
}
END_TEST

START_TEST(turns_take_the_place_of_those_before_and_none_is_a_conversation_too)
{
	struct session *s = chat("4");
	ck_assert_int_eq(session_turns_set(s, NULL, 0, NULL), 0);
	struct session_outcome alone = ask(s, "and?");
	ck_assert_int_eq(tell(s, "one", "", NULL), 0); /* an answer may be empty */
	ck_assert(talk_view_has(s, SESSION_MESSAGES, "\"one\""));
	struct session_outcome told = ask(s, "and?");
	ck_assert_uint_gt(told.prompt_tok, alone.prompt_tok);
	ck_assert_int_eq(session_turns_set(s, NULL, 0, NULL), 0);
	ck_assert_uint_eq(ask(s, "and?").prompt_tok, alone.prompt_tok);
	session_put(s);
}
END_TEST

START_TEST(turns_in_another_order_are_refused_by_their_number_and_change_nothing)
{
	static const struct {
		struct session_message m[3];
		size_t n;
		int code;
		const char *part;
	} bad[] = {
		{{{SESSION_ASSISTANT, "a", 1}}, 1, -EINVAL,
			"message 1: its role must be system or"},
		{{{SESSION_USER, "a", 1}}, 1, -EINVAL, "message 1: it is the last one"},
		{{{SESSION_USER, "a", 1}, {SESSION_USER, "b", 1}}, 2, -EINVAL, "message 2"},
		{{{SESSION_USER, "a", 1}, {SESSION_SYSTEM, "b", 1}}, 2, -EINVAL, "message 2"},
		{{{SESSION_SYSTEM, "a", 1}, {SESSION_USER, "b", 1}, {SESSION_USER, "c", 1}}, 3,
			-EINVAL, "message 3"},
		{{{SESSION_USER, "a", 1}, {SESSION_ASSISTANT, "b\xff", 2}}, 2, -EILSEQ,
			"message 2: not UTF-8 (byte 2)"},
	};
	struct session *s = chat("4");
	ck_assert_int_eq(tell(s, "one", "two", NULL), 0);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct err err = {0};
		ck_assert_int_eq(session_turns_set(s, bad[i].m, bad[i].n, &err), bad[i].code);
		ck_assert_msg(strstr(err.text, bad[i].part) != NULL, "%s", err.text);
	}
	char *system = malloc((1 << 20) + 1);
	memset(system, 'x', (1 << 20) + 1);
	const struct session_message m = {SESSION_SYSTEM, system, (1 << 20) + 1};
	ck_assert_int_eq(session_turns_set(s, &m, 1, NULL), -EMSGSIZE);
	free(system);
	ck_assert(talk_view_has(s, SESSION_MESSAGES, "\"two\""));
	session_put(s);
}
END_TEST

START_TEST(a_conversation_has_a_ceiling)
{
	size_t most = talk.g->options.max_prompt_bytes;
	char *text = malloc(most);
	memset(text, 'x', most);
	struct session *s = chat("4");
	struct session_message m[] = {{SESSION_USER, text, most - 1}, {SESSION_ASSISTANT, "ab", 2}};
	struct err err = {0};
	ck_assert_int_eq(session_turns_set(s, m, 2, &err), -EMSGSIZE);
	m[1].len = 1;
	ck_assert_int_eq(session_turns_set(s, m, 2, &err), 0);
	free(text);
	session_put(s);
}
END_TEST

START_TEST(turns_are_not_set_under_an_answer)
{
	struct session *s = chat("2000");
	ck_assert_int_eq(talk_set(s, "model", "long"), 0);
	ck_assert_int_eq(harness_say(s, "go on"), 0);
	ck_assert_int_eq(tell(s, "one", "two", NULL), -EBUSY);
	session_abandon(s);
	ck_assert_int_eq(tell(s, "one", "two", NULL), -ENOENT);
	session_put(s);
}
END_TEST

/* ---- who else sees it ---- */

static int no_entry(void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	return memmem(key, key_len, "http", 4) ? -EEXIST : 0;
}

START_TEST(nothing_of_it_is_listed_or_stored)
{
	static const char *const prefixes[] = {"s/", "t/", "c/", "q/", "e/", "r/"};
	struct session *s = chat("4");
	ck_assert_int_eq(tell(s, "one", "two", NULL), 0);
	ask(s, "and?");
	ck_assert_ptr_null(gateway_session_find(talk.g, "http"));
	char **names = gateway_session_names(talk.g);
	for (size_t i = 0; names[i]; i++) {
		ck_assert_str_ne(names[i], "http");
		free(names[i]);
	}
	free(names);
	ck_assert_int_eq(talk_ctl(s, "fork b"), -EINVAL);
	ck_assert_ptr_null(gateway_session_find(talk.g, "b"));
	char *ledger = harness_account_view(&talk, harness_me(&talk), ACCOUNT_LEDGER);
	ck_assert_ptr_nonnull(strstr(ledger, "\"session\": \"http\""));
	free(ledger);
	session_put(s);
	harness_close(&talk);
	struct store *store;
	ck_assert_int_eq(store_open(&store, talk.state, NULL), 0);
	for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
		ck_assert_int_eq(store_scan(store, prefixes[i], no_entry, NULL), 0);
	store_close(store);
	store_free(store);
}
END_TEST

START_TEST(it_counts_and_leaves_the_files_of_the_model_alone)
{
	struct session *s = chat("4");
	struct session_outcome o = ask(s, "and?");
	char id[40];
	snprintf(id, sizeof id, "\"id\": %llu,", (unsigned long long)o.id);
	for (int i = 0; i < 10000; i++) { /* the trace comes behind the end */
		char *trace = harness_whole(&talk, GATEWAY_TRACE_RECENT);
		bool there = strstr(trace, "\"session\": \"http\"");
		free(trace);
		if (there)
			break;
		ck_assert_int_lt(i, 9999);
		usleep(1000);
	}
	talk_set(s, "max_cost", "0");
	harness_price(&talk, "tiny");
	ck_assert_int_eq(harness_say(s, "and?"), -EDQUOT);
	struct model *m = gateway_model_find(talk.g, "tiny");
	struct buf out = {0};
	ck_assert_int_eq(model_ask_error(m, getuid(), &out, NULL), 0);
	ck_assert_uint_eq(out.len, 0);
	model_put(m);
	session_put(s);
	ck_assert_int_eq(gateway_chat_open(talk.g, "nobody", getuid(), &s, NULL), -ENOENT);
}
END_TEST

/* ---- who else has a say ---- */

START_TEST(guards_of_prompts_judge_each_turn)
{
	struct session *s = chat("4");
	struct err err = {0};
	const struct session_message system = {SESSION_SYSTEM, "a secret", 8};
	harness_guard(&talk, "input/x.rules", "block S /secret/\nredact N /[0-9]{4}/\n");
	harness_guard(&talk, "output/y.rules", "block Z /harmless/\n");
	ck_assert_int_eq(tell(s, "a secret", "b", &err), -EPERM);
	ck_assert_str_eq(err.text, "blocked by the input guard S (guards/input/x.rules)");
	ck_assert_int_eq(tell(s, "a", "the secret", &err), -EPERM);
	ck_assert_int_eq(session_turns_set(s, &system, 1, &err), -EPERM);
	ck_assert(talk_view_is(s, SESSION_MESSAGES, "[]\n"));
	ck_assert_int_eq(tell(s, "in 1821", "harmless 1822", &err), 0);
	ck_assert(talk_view_has(s, SESSION_MESSAGES, "in [N]"));
	ck_assert(talk_view_has(s, SESSION_MESSAGES, "harmless [N]"));
	char *audit = harness_whole(&talk, GATEWAY_GUARD_AUDIT);
	ck_assert_ptr_nonnull(strstr(audit, "http"));
	free(audit);
	session_put(s);
}
END_TEST

START_TEST(the_judge_of_prompts_sees_the_turns)
{
	harness_guard(&talk, "moderation", "model tiny\nthreshold 1\ntimeout_ms 200000\n");
	struct session *a = chat("1"), *b = chat("1");
	ck_assert_int_eq(tell(b, facts, facts, NULL), 0);
	ask(a, "and?");
	ask(b, "and?");
	double few = harness_usage(a, "judge_prompt_tokens"),
	       many = harness_usage(b, "judge_prompt_tokens");
	ck_assert_msg(few > 0 && many > few + 40, "%g and %g", few, many);
	session_put(a);
	session_put(b);
}
END_TEST

START_TEST(the_cache_has_an_answer_for_the_same_turns_alone)
{
	struct session *a = chat("4"), *same = chat("4"), *other = chat("4"), *none = chat("4");
	ck_assert_int_eq(
		gateway_part_setting_set(talk.g, GATEWAY_CACHE, "enabled", "1", 1, NULL), 0);
	talk_warm(none); /* what is not loaded has no key yet */
	ck_assert_int_eq(session_turns_set(none, NULL, 0, NULL), 0);
	ck_assert_int_eq(tell(a, "one", "two", NULL), 0);
	ck_assert_int_eq(tell(same, "one", "two", NULL), 0);
	ck_assert_int_eq(tell(other, "one", "three", NULL), 0);
	struct session_outcome first = ask(a, "and?"), o = ask(same, "and?");
	ck_assert(!first.from_cache);
	ck_assert(o.from_cache);
	ck_assert_uint_eq(o.prompt_tok + o.output_tok, 0);
	ck_assert_str_eq(o.finish, first.finish);
	ck_assert_str_eq(o.model, "tiny");
	ck_assert(!ask(other, "and?").from_cache);
	ck_assert(!ask(none, "and?").from_cache);
	session_put(a);
	session_put(same);
	session_put(other);
	session_put(none);
}
END_TEST

/* The arm of a request for models/auto with that prompt. */
static void drawn(const char *first, const char *prompt, char arm[TEXT_NAME_SIZE])
{
	struct session *s;
	int status;
	ck_assert_int_eq(gateway_chat_open(talk.g, "auto", getuid(), &s, NULL), 0);
	ck_assert_int_eq(talk_set(s, "max_tokens", "1"), 0);
	if (first)
		ck_assert_int_eq(tell(s, first, "yes", NULL), 0);
	free(talk_ask(s, prompt, &status));
	ck_assert_int_eq(status, 0);
	pthread_mutex_lock(&s->lock);
	memcpy(arm, s->newest->decision->arm, TEXT_NAME_SIZE);
	pthread_mutex_unlock(&s->lock);
	session_put(s);
}

/* What router/explain says of it: that arm. */
static void is_explained(const char *prompt, const char *arm)
{
	struct session *s;
	char chosen[TEXT_NAME_SIZE + 16];
	int status;
	ck_assert_int_eq(
		gateway_channel_open(talk.g, GATEWAY_EXPLAIN, NULL, getuid(), &s, NULL), 0);
	char *said = talk_ask(s, prompt, &status);
	snprintf(chosen, sizeof chosen, "\"chosen\": \"%s\"", arm);
	ck_assert_msg(strstr(said, chosen) != NULL, "%s: not %s", said, arm);
	free(said);
	session_put(s);
}

START_TEST(a_split_draws_for_each_conversation_and_keeps_to_it)
{
	char arm[TEXT_NAME_SIZE], on[TEXT_NAME_SIZE], prompt[20];
	unsigned tiny = 0;
	enum { N = 40 };
	struct err err = {0};
	ck_assert_int_eq(
		gateway_part_setting_set(talk.g, GATEWAY_ROUTER, "policy", "split", 5, &err), 0);
	for (int i = 0; i < N; i++) {
		snprintf(prompt, sizeof prompt, "hello %d", i);
		drawn(NULL, prompt, arm);
		drawn(prompt, "and?", on);
		ck_assert_str_eq(arm, on);
		is_explained(prompt, arm);
		tiny += !strcmp(arm, "tiny");
	}
	ck_assert_uint_gt(tiny, 4);
	ck_assert_uint_lt(tiny, N - 4);
}
END_TEST

START_TEST(what_may_be_spent_is_claimed_for_all_of_it)
{
	struct session *none = chat("4"), *some = chat("4");
	struct buf text = {0};
	for (int i = 0; i < 30; i++)
		buf_append_str(&text, facts);
	buf_append(&text, "", 1);
	ck_assert_int_eq(tell(some, text.data, "two", NULL), 0);
	buf_free(&text);
	harness_price(&talk, "tiny");
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(talk_set(i ? none : some, "max_cost", "300"), 0);
	ck_assert_int_eq(harness_say(some, "and?"), -EDQUOT);
	ask(none, "and?");
	ck_assert_int_eq(talk_set(some, "max_cost", ""), 0);
	harness_account(&talk, harness_me(&talk), "tokens_per_minute", "300");
	ck_assert_int_eq(harness_say(some, "and?"), -EAGAIN);
	struct session_outcome o;
	session_outcome(some, &o);
	ck_assert_int_eq(o.code, -EAGAIN);
	ck_assert_uint_eq(o.retry_ms, 0); /* it does not help */
	session_put(none);
	session_put(some);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gateway/chats");
	TCase *t = tcase_create("chats");
	tcase_add_checked_fixture(t, talk_open, talk_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, what_was_said_before_is_in_the_prompt);
	tcase_add_test(t, turns_take_the_place_of_those_before_and_none_is_a_conversation_too);
	tcase_add_test(t, turns_in_another_order_are_refused_by_their_number_and_change_nothing);
	tcase_add_test(t, a_conversation_has_a_ceiling);
	tcase_add_test(t, turns_are_not_set_under_an_answer);
	tcase_add_test(t, nothing_of_it_is_listed_or_stored);
	tcase_add_test(t, it_counts_and_leaves_the_files_of_the_model_alone);
	tcase_add_test(t, guards_of_prompts_judge_each_turn);
	tcase_add_test(t, the_judge_of_prompts_sees_the_turns);
	tcase_add_test(t, the_cache_has_an_answer_for_the_same_turns_alone);
	tcase_add_test(t, a_split_draws_for_each_conversation_and_keeps_to_it);
	tcase_add_test(t, what_may_be_spent_is_claimed_for_all_of_it);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
