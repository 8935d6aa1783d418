/* SPDX-License-Identifier: Apache-2.0 */
/* The life of sessions and requests, with a real engine behind them. */
#include <check.h>
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/gateway/harness.h"

static struct harness h;

static void setup(void)
{
	harness_make(&h, 0);
	harness_open(&h);
}

static void teardown(void)
{
	harness_end(&h);
}

static int ctl(struct session *s, const char *line)
{
	return session_ctl(s, getuid(), getgid(), line, strlen(line), NULL);
}

static int set(struct session *s, const char *file, const char *value)
{
	return session_setting_set(s, file, value, strlen(value), NULL);
}

static void wake(void *arg)
{
	sem_post(arg);
}

/* Answers until its tokens are spent: long enough to be caught in the act. */
static struct session *long_session(const char *id)
{
	struct session *s = harness_session(&h, id, "15000");
	ck_assert_int_eq(set(s, "model", "long"), 0);
	ck_assert_int_eq(set(s, "ignore_eos", "1"), 0);
	return s;
}

static char *ask(struct session *s, const char *prompt, int *status)
{
	ck_assert_int_eq(harness_say(s, prompt), 0);
	return harness_read(s, status);
}

static bool view_is(struct session *s, enum session_view view, const char *want)
{
	char *text = harness_view(s, view);
	bool is = !strcmp(text, want);
	if (!is)
		fprintf(stderr, "view: %s\nwant: %s\n", text, want);
	free(text);
	return is;
}

static bool view_has(struct session *s, enum session_view view, const char *part)
{
	char *text = harness_view(s, view);
	bool has = strstr(text, part);
	if (!has)
		fprintf(stderr, "view: %s\nwithout: %s\n", text, part);
	free(text);
	return has;
}

/* ---- asking ---- */

START_TEST(a_prompt_is_answered_and_the_answer_can_be_read_again)
{
	struct session *s = harness_session(&h, "a", "16");
	int status;
	char *one = ask(s, "hello\n", &status), *two;
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
	struct session *a = harness_session(&h, "a", "24"), *b = harness_session(&h, "b", "24");
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
	struct session *s = harness_session(&h, "a", NULL);
	int status;
	char *text = harness_read(s, &status);
	ck_assert_str_eq(text, "");
	ck_assert_int_eq(status, 0);
	ck_assert(view_is(s, SESSION_STATUS, "idle\n"));
	ck_assert(view_is(s, SESSION_ERROR, ""));
	ck_assert(view_is(s, SESSION_CHAT, ""));
	ck_assert(view_is(s, SESSION_MESSAGES, "[]\n"));
	free(text);
	session_put(s);
}
END_TEST

START_TEST(pieces_of_one_draft_are_one_prompt_and_one_newline_is_dropped)
{
	struct session *s = harness_session(&h, "a", "4");
	struct draft *d;
	draft_new(&d, s, getuid(), NULL);
	draft_flush(d, NULL); /* the empty one before the first write */
	draft_write(d, "a\n", 2, NULL);
	draft_flush(d, NULL);
	draft_write(d, "b\n\n", 3, NULL);
	draft_flush(d, NULL);
	draft_commit(d);
	int status;
	free(harness_read(s, &status));
	ck_assert(view_has(s, SESSION_CHAT, "> a\n> b\n> \n\n"));
	ck_assert(harness_usage(s, "session_requests") == 1);
	session_put(s);
}
END_TEST

START_TEST(a_draft_without_a_write_is_no_request)
{
	struct session *s = harness_session(&h, "a", "4");
	struct draft *d;
	draft_new(&d, s, getuid(), NULL);
	draft_flush(d, NULL);
	draft_commit(d);
	ck_assert(view_is(s, SESSION_STATUS, "idle\n"));
	session_put(s);
}
END_TEST

START_TEST(an_empty_prompt_is_refused_and_the_old_answer_is_not_shown)
{
	struct session *s = harness_session(&h, "a", "4");
	int status;
	free(ask(s, "hello\n", &status));
	harness_say(s, "\n");
	char *text = harness_read(s, &status);
	ck_assert_int_eq(status, -EINVAL);
	ck_assert_str_eq(text, "");
	ck_assert(view_is(s, SESSION_STATUS, "failed\n"));
	ck_assert(view_is(s, SESSION_ERROR, "the prompt is empty\n"));
	free(text);
	session_put(s);
}
END_TEST

/* A draft of that text, flushed. */
static struct draft *pending(struct session *s, const char *text)
{
	struct draft *d;
	draft_new(&d, s, getuid(), NULL);
	draft_write(d, text, strlen(text), NULL);
	draft_flush(d, NULL);
	return d;
}

START_TEST(a_reader_after_a_flush_gets_the_answer_of_the_prompt_that_is_committed_later)
{
	struct session *s = harness_session(&h, "a", "4");
	int status;
	struct draft *d;
	char *old = ask(s, "first\n", &status);
	struct answer *a;
	gateway_waiter id;
	sem_t told;
	sem_init(&told, 0, 0);
	for (int left = 10;; left--) { /* it is held back for a second, which may be over */
		d = pending(s, "second\n");
		if (session_newest(s, &a, wake, &told, &id) == 1)
			break;
		ck_assert_int_gt(left, 0);
		answer_put(a);
		draft_drop(d);
	}
	draft_commit(d);
	sem_wait(&told);
	ck_assert_int_eq(session_newest(s, &a, wake, &told, &id), 0);
	free(harness_read_answer(a, &status));
	answer_put(a);
	ck_assert(view_has(s, SESSION_CHAT, "> second"));
	free(old);
	session_put(s);
}
END_TEST

START_TEST(a_pending_draft_holds_readers_back_for_a_second_and_no_longer)
{
	struct session *s = harness_session(&h, "a", "4");
	int status;
	char *old = ask(s, "first\n", &status);
	uint64_t took_ms;
	int left = 5; /* tries, for a busy machine */
	do {
		uint64_t from = clock_mono_ns();
		struct draft *d = pending(s, "second\n");
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
	struct session *s = harness_session(&h, "a", "4");
	int status;
	struct draft *d;
	char *old = ask(s, "first\n", &status);
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

START_TEST(utf8_may_be_split_between_writes_at_every_byte)
{
	static const char prompt[] = "h\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80!";
	struct session *s = harness_session(&h, "a", "2");
	int status;
	for (size_t cut = 0; cut < sizeof prompt; cut++) {
		struct draft *d;
		draft_new(&d, s, getuid(), NULL);
		ck_assert_int_eq(draft_write(d, prompt, cut, NULL), 0);
		ck_assert_int_eq(draft_write(d, prompt + cut, sizeof prompt - 1 - cut, NULL), 0);
		ck_assert_int_eq(draft_flush(d, NULL), 0);
		draft_commit(d);
		free(harness_read(s, &status));
		ck_assert_int_eq(status, 0);
	}
	session_put(s);
}
END_TEST

START_TEST(text_that_is_not_utf8_poisons_the_draft)
{
	struct session *s = harness_session(&h, "a", "2");
	struct draft *d;
	struct err err = {0};
	int status;
	draft_new(&d, s, getuid(), NULL);
	ck_assert_int_eq(draft_write(d, "fine", 4, NULL), 0);
	ck_assert_int_eq(draft_write(d, "\xFF", 1, NULL), -EILSEQ);
	ck_assert_int_eq(draft_write(d, "fine again", 10, &err), -EILSEQ);
	ck_assert(*err.text);
	ck_assert_int_eq(draft_flush(d, NULL), -EILSEQ);
	draft_commit(d);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EILSEQ);
	ck_assert(view_is(s, SESSION_STATUS, "failed\n"));
	ck_assert(view_is(s, SESSION_CHAT, ""));
	ck_assert(view_has(s, SESSION_ERROR, "UTF-8"));
	session_put(s);
}
END_TEST

START_TEST(a_prompt_that_ends_inside_a_character_is_refused)
{
	struct session *s = harness_session(&h, "a", "2");
	struct draft *d;
	int status;
	draft_new(&d, s, getuid(), NULL);
	ck_assert_int_eq(draft_write(d, "\xE2\x82", 2, NULL), 0);
	ck_assert_int_eq(draft_flush(d, NULL), -EILSEQ);
	draft_commit(d);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EILSEQ);
	session_put(s);
}
END_TEST

START_TEST(a_nul_in_a_prompt_is_a_character_like_others)
{
	struct session *s = harness_session(&h, "a", "2");
	struct draft *d;
	int status;
	draft_new(&d, s, getuid(), NULL);
	ck_assert_int_eq(draft_write(d, "a\0b", 3, NULL), 0);
	draft_commit(d);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert(view_has(s, SESSION_MESSAGES, "\"a\\u0000b\""));
	session_put(s);
}
END_TEST

/* Loads the model, so that its context is known at the write. */
static void warm(struct session *s)
{
	int status;
	free(ask(s, "x\n", &status));
	ck_assert_int_eq(status, 0);
}

START_TEST(a_prompt_longer_than_the_context_is_refused_at_the_write)
{
	struct session *s = harness_session(&h, "a", "2");
	struct draft *d;
	int r = 0;
	char line[1024];
	memset(line, 'q', sizeof line);
	warm(s);
	draft_new(&d, s, getuid(), NULL);
	for (int i = 0; i < 1000 && r == 0; i++)
		r = draft_write(d, line, sizeof line, NULL);
	ck_assert_int_eq(r, -EMSGSIZE);
	draft_commit(d);
	ck_assert(view_has(s, SESSION_ERROR, "context of 2048 tokens"));
	session_put(s);
}
END_TEST

START_TEST(a_prompt_written_byte_by_byte_costs_no_more_than_a_moment)
{
	struct session *s = harness_session(&h, "a", "2");
	struct draft *d;
	warm(s);
	draft_new(&d, s, getuid(), NULL);
	clock_t from = clock(); /* what it costs, not how long others make it wait */
	int r = 0, n = 0;
	for (; n < 40000 && r == 0; n++)
		r = draft_write(d, n % 7 ? "w" : " ", 1, NULL);
	ck_assert_int_eq(r, -EMSGSIZE);
	ck_assert_int_gt(n, 2048);
	ck_assert_int_lt((clock() - from) / CLOCKS_PER_SEC, 5);
	draft_drop(d);
	session_put(s);
}
END_TEST

START_TEST(a_prompt_too_long_for_a_model_not_loaded_fails_when_it_is_read)
{
	struct session *s = harness_session(&h, "a", "2");
	int status;
	char *big = malloc(20001);
	for (int i = 0; i < 20000; i++)
		big[i] = (char)('a' + i % 26);
	big[20000] = '\0';
	ck_assert_int_eq(harness_say(s, big), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EMSGSIZE);
	ck_assert(view_is(s, SESSION_CHAT, ""));
	free(big);
	session_put(s);
}
END_TEST

START_TEST(requests_of_one_session_are_answered_in_the_order_of_their_commit)
{
	struct session *s = harness_session(&h, "a", "3");
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
	struct draft *d[3] = {pending(s, "1\n"), pending(s, "2\n"), pending(s, "3\n")};
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
	struct session *s = harness_session(&h, "a", "2");
	for (int left = 10; !is_in_order_of_flushes(s); left--) {
		ck_assert_int_gt(left, 0);
		ck_assert_int_eq(ctl(s, "clear"), 0);
	}
	session_put(s);
}
END_TEST

START_TEST(a_prompt_flushed_before_a_refusal_does_not_hide_it_when_its_commit_comes_late)
{
	struct session *s = harness_session(&h, "a", "2");
	struct draft *first = pending(s, "first\n"), *bad;
	int status;
	draft_new(&bad, s, getuid(), NULL);
	ck_assert_int_eq(draft_write(bad, "\xFF", 1, NULL), -EILSEQ);
	draft_commit(first);
	ck_assert(view_is(s, SESSION_STATUS, "failed\n"));
	ck_assert(view_has(s, SESSION_ERROR, "UTF-8"));
	draft_drop(bad);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EILSEQ);
	/* The same with a setting, which is no request: what is read is the prompt's answer. */
	struct draft *second = pending(s, "second\n");
	ck_assert_int_eq(set(s, "temperature", "hot"), -EINVAL);
	draft_commit(second);
	ck_assert(view_has(s, SESSION_ERROR, "temperature"));
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert(view_is(s, SESSION_STATUS, "done\n"));
	/* One that is refused by its commit does not hide what was flushed after it. */
	struct draft *empty = pending(s, "\n"), *third = pending(s, "third\n");
	draft_commit(third);
	draft_commit(empty);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert(view_is(s, SESSION_ERROR, ""));
	ck_assert(view_has(s, SESSION_CHAT, "> first\n"));
	ck_assert(view_has(s, SESSION_CHAT, "> second\n"));
	ck_assert(view_has(s, SESSION_CHAT, "> third\n"));
	session_put(s);
}
END_TEST

START_TEST(a_draft_that_stays_open_holds_up_later_ones_for_a_moment_only)
{
	struct session *s = harness_session(&h, "a", "2");
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
	ck_assert(view_has(s, SESSION_CHAT, "> later\n"));
	ck_assert(harness_usage(s, "session_requests") == 1);
	draft_drop(open);
	session_put(s);
}
END_TEST

START_TEST(the_65th_queued_request_is_refused_at_the_write)
{
	struct session *s = long_session("a");
	int n = 0;
	ck_assert_int_eq(harness_say(s, "go on\n"), 0);
	ck_assert(harness_status(s, "generating")); /* it has left the queue */
	while (n < 200 && harness_say(s, "more\n") == 0)
		n++;
	ck_assert_int_eq(n, 64);
	ck_assert(view_has(s, SESSION_ERROR, "64 requests"));
	ck_assert_int_eq(harness_say(s, "more\n"), -EBUSY);
	ck_assert_int_eq(ctl(s, "cancel"), 0);
	session_put(s);
}
END_TEST

/* ---- settings ---- */

START_TEST(a_refused_setting_changes_nothing_and_the_error_says_what_is_allowed)
{
	struct session *s = harness_session(&h, "a", NULL);
	struct buf value = {0};
	ck_assert_int_eq(set(s, "temperature", "hot"), -EINVAL);
	ck_assert(
		view_is(s, SESSION_ERROR, "temperature: must be a number from 0 (greedy) to 2\n"));
	session_setting_get(s, "temperature", &value);
	ck_assert_str_eq(value.data, "0");
	ck_assert_int_eq(set(s, "temperature", "1"), 0);
	ck_assert(view_is(s, SESSION_ERROR, ""));
	ck_assert_int_eq(set(s, "model", "no-such"), -EINVAL);
	ck_assert(view_has(s, SESSION_ERROR, "tiny"));
	ck_assert_int_eq(set(s, "no-such", "1"), -ENOENT);
	buf_free(&value);
	session_put(s);
}
END_TEST

START_TEST(max_tokens_and_seed_are_obeyed_and_the_seed_used_is_shown)
{
	struct session *s = harness_session(&h, "a", "7");
	int status;
	set(s, "ignore_eos", "1");
	free(ask(s, "go\n", &status));
	ck_assert(harness_usage(s, "output_tokens") == 7);
	ck_assert(harness_usage(s, "seed") == -1);
	ck_assert(view_has(s, SESSION_USAGE, "finish length\n"));
	set(s, "temperature", "1");
	free(ask(s, "go\n", &status));
	ck_assert(harness_usage(s, "seed") >= 0);
	set(s, "seed", "42");
	ctl(s, "clear");
	char *one = ask(s, "go\n", &status);
	ctl(s, "clear");
	char *two = ask(s, "go\n", &status);
	ck_assert(harness_usage(s, "seed") == 42);
	ck_assert_str_eq(one, two);
	free(one);
	free(two);
	session_put(s);
}
END_TEST

START_TEST(a_stop_string_ends_the_answer_and_is_not_part_of_it)
{
	struct session *s = harness_session(&h, "a", "40");
	int status;
	set(s, "ignore_eos", "1");
	char *whole = ask(s, "go\n", &status), *end = whole + strlen(whole) / 2, stop[8] = "";
	while (end > whole && (*end & 0x80 || *end == '\n'))
		end--;
	stop[0] = *end;
	ctl(s, "clear");
	ck_assert_int_eq(set(s, "stop", stop), 0);
	char *cut = ask(s, "go\n", &status);
	*strchr(whole, stop[0]) = '\0';
	ck_assert_str_eq(cut, whole);
	ck_assert(view_has(s, SESSION_USAGE, "finish stop\n"));
	free(whole);
	free(cut);
	session_put(s);
}
END_TEST

/* ---- verbs ---- */

START_TEST(cancel_is_in_force_when_it_returns_and_keeps_what_a_reader_got)
{
	struct session *s = long_session("a");
	harness_say(s, "go on\n");
	ck_assert(harness_status(s, "generating"));
	struct answer *a;
	gateway_waiter id;
	ck_assert_int_eq(session_newest(s, &a, NULL, NULL, &id), 0);
	char bytes[8];
	size_t n = 0;
	while (answer_read(a, 0, bytes, 8, &n) == 1)
		usleep(100);
	ck_assert_int_eq(ctl(s, "cancel"), 0);
	ck_assert(view_is(s, SESSION_STATUS, "cancelled\n"));
	int status;
	char *text = harness_read_answer(a, &status);
	ck_assert_int_eq(status, -ECANCELED);
	ck_assert_uint_eq(strlen(text), n);
	ck_assert_mem_eq(text, bytes, n);
	ck_assert(view_has(s, SESSION_CHAT, "[cancelled]"));
	free(text);
	answer_put(a);
	session_put(s);
}
END_TEST

START_TEST(cancel_with_nothing_to_cancel_succeeds)
{
	struct session *s = harness_session(&h, "a", "2");
	ck_assert_int_eq(ctl(s, "cancel"), 0);
	warm(s);
	ck_assert_int_eq(ctl(s, "cancel"), 0);
	ck_assert(view_is(s, SESSION_STATUS, "done\n"));
	session_put(s);
}
END_TEST

START_TEST(an_unanswered_turn_is_replaced_by_the_next_prompt)
{
	struct session *s = long_session("a");
	harness_say(s, "first\n");
	ctl(s, "cancel");
	set(s, "max_tokens", "4");
	int status;
	free(ask(s, "second\n", &status));
	ck_assert_int_eq(status, 0);
	char *chat = harness_view(s, SESSION_CHAT);
	ck_assert_ptr_null(strstr(chat, "first"));
	ck_assert_ptr_nonnull(strstr(chat, "second"));
	free(chat);
	session_put(s);
}
END_TEST

START_TEST(retry_asks_an_unanswered_turn_again_and_a_complete_one_not)
{
	struct session *s = long_session("a");
	ck_assert_int_eq(ctl(s, "retry"), -ENOENT);
	harness_say(s, "first\n");
	ck_assert_int_eq(ctl(s, "retry"), -EBUSY);
	ctl(s, "cancel");
	set(s, "max_tokens", "4");
	ck_assert_int_eq(ctl(s, "retry"), 0);
	int status;
	char *text = harness_read(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert(*text);
	ck_assert_int_eq(ctl(s, "retry"), -ENOENT);
	char *chat = harness_view(s, SESSION_CHAT);
	ck_assert_ptr_eq(strstr(chat, "first"), chat + 2);
	ck_assert_ptr_null(strstr(chat + 3, "first"));
	free(chat);
	free(text);
	session_put(s);
}
END_TEST

START_TEST(clear_forgets_the_conversation_but_not_while_an_answer_is_under_way)
{
	struct session *s = long_session("a");
	harness_say(s, "first\n");
	ck_assert_int_eq(ctl(s, "clear"), -EBUSY);
	ctl(s, "cancel");
	ck_assert_int_eq(ctl(s, "clear"), 0);
	ck_assert(view_is(s, SESSION_CHAT, ""));
	ck_assert(view_is(s, SESSION_STATUS, "idle\n"));
	session_put(s);
}
END_TEST

START_TEST(an_unknown_verb_is_quoted_back_with_those_there_are)
{
	struct session *s = harness_session(&h, "a", NULL);
	ck_assert_int_eq(ctl(s, "stpo"), -EINVAL);
	ck_assert(view_is(s, SESSION_ERROR,
		"stpo: not a verb; they are submit, cancel, clear, retry and fork ID\n"));
	ck_assert_int_eq(ctl(s, "fork"), -EINVAL);
	ck_assert(view_is(s, SESSION_ERROR, "fork: the ID is missing, as in: fork b\n"));
	ck_assert_int_eq(ctl(s, "cancel now"), -EINVAL);
	ck_assert_int_eq(ctl(s, ""), -EINVAL);
	session_put(s);
}
END_TEST

START_TEST(submit_commits_what_stands_in_the_open_drafts)
{
	struct session *s = harness_session(&h, "a", "2");
	struct draft *d;
	int status;
	draft_new(&d, s, getuid(), NULL);
	draft_write(d, "one\n", 4, NULL);
	ck_assert_int_eq(ctl(s, "submit"), 0);
	free(harness_read(s, &status));
	draft_write(d, "two\n", 4, NULL);
	draft_commit(d);
	free(harness_read(s, &status));
	ck_assert(view_has(s, SESSION_CHAT, "> one\n"));
	ck_assert(view_has(s, SESSION_CHAT, "> two\n"));
	session_put(s);
}
END_TEST

START_TEST(a_fork_continues_the_conversation_and_shares_its_prefix)
{
	struct session *s = harness_session(&h, "a", "20"), *b;
	int status;
	set(s, "system",
		"You are a test of some length, so that whole blocks of it can be shared.");
	set(s, "ignore_eos", "1");
	free(ask(s, "a first question of some words\n", &status));
	ck_assert_int_eq(ctl(s, "fork b"), 0);
	ck_assert_int_eq(ctl(s, "fork b"), -EEXIST);
	ck_assert_int_eq(ctl(s, "fork a/b"), -EINVAL);
	b = gateway_session_find(h.g, "b");
	char *one = harness_view(s, SESSION_MESSAGES), *two = harness_view(b, SESSION_MESSAGES);
	ck_assert_str_eq(one, two);
	ck_assert(view_is(b, SESSION_STATUS, "idle\n"));
	free(ask(b, "next\n", &status));
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
	struct session *a = harness_session(&h, "a", "20"), *b = harness_session(&h, "b", "20");
	int status;
	set(a, "system", "You are a test.");
	free(ask(a, "one\n", &status));
	char *messages = harness_view(a, SESSION_MESSAGES);
	ck_assert_int_eq(session_messages_set(b, messages, strlen(messages), NULL), 0);
	char *copy = harness_view(b, SESSION_MESSAGES);
	ck_assert_str_eq(messages, copy);
	char *one = ask(a, "two\n", &status), *two = ask(b, "two\n", &status);
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
	struct session *s = harness_session(&h, "a", "4");
	warm(s);
	char *before = harness_view(s, SESSION_MESSAGES);
	static const char bad[] = "[{\"role\": \"user\", \"content\": \"x\"}, {}]";
	ck_assert_int_eq(session_messages_set(s, bad, sizeof bad - 1, NULL), -EINVAL);
	ck_assert(view_has(s, SESSION_ERROR, "message 2"));
	ck_assert(view_is(s, SESSION_MESSAGES, before));
	free(before);
	session_put(s);
}
END_TEST

/* ---- conversations ---- */

START_TEST(a_later_turn_finds_the_earlier_ones_in_the_cache)
{
	struct session *s = harness_session(&h, "a", "40");
	int status;
	set(s, "ignore_eos", "1");
	free(ask(s, "a question that is long enough for a few blocks of the cache\n", &status));
	free(ask(s, "and another\n", &status));
	ck_assert(harness_usage(s, "cached_tokens") >= 48);
	session_put(s);
}
END_TEST

START_TEST(a_conversation_longer_than_the_context_goes_on_and_seldom_moves_its_window)
{
	struct session *s = harness_session(&h, "a", "100");
	int status, moved = 0;
	set(s, "ignore_eos", "1");
	for (int i = 0; i < 40; i++) {
		free(ask(s, "a question of about forty bytes to fill it\n", &status));
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
	struct session *s = harness_session(&h, "a", "400");
	int status = 0, i = 0;
	set(s, "ignore_eos", "1");
	set(s, "truncate", "off");
	for (; i < 20 && status == 0; i++)
		free(ask(s, "again\n", &status));
	ck_assert_int_eq(status, -EMSGSIZE);
	ck_assert(view_has(s, SESSION_ERROR, "truncate is off"));
	set(s, "truncate", "middle");
	free(ask(s, "again\n", &status));
	ck_assert_int_eq(status, 0);
	session_put(s);
}
END_TEST

START_TEST(chat_grows_at_its_end_and_its_size_is_exact_all_the_time)
{
	struct session *s = long_session("a");
	set(s, "max_tokens", "300");
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
	struct session *s = harness_session(&h, "a", "4");
	gateway_waiter id, other;
	sem_t chat, events;
	uint64_t bytes, changed;
	sem_init(&chat, 0, 0);
	sem_init(&events, 0, 0);
	session_view_size(s, SESSION_EVENTS, &bytes, &changed);
	ck_assert_int_eq(session_watch(s, SESSION_CHAT, 0, wake, &chat, &id), 0);
	ck_assert_int_eq(session_watch(s, SESSION_EVENTS, bytes, wake, &events, &other), 0);
	harness_say(s, "hello\n");
	sem_wait(&chat);
	sem_wait(&events);
	ck_assert(!session_unwatch(s, id));
	int status;
	free(harness_read(s, &status));
	ck_assert_int_eq(session_watch(s, SESSION_CHAT, 0, wake, &chat, &id), 1);
	session_put(s);
}
END_TEST

START_TEST(events_are_json_lines_and_bounded)
{
	struct session *s = harness_session(&h, "a", "1");
	int status;
	for (int i = 0; i < 60; i++)
		free(ask(s, "x\n", &status));
	char *events = harness_view(s, SESSION_EVENTS);
	ck_assert_uint_le(strlen(events), 8192);
	ck_assert(events[0] == '{');
	ck_assert_ptr_nonnull(strstr(events, "\"event\": \"done\""));
	free(events);
	session_put(s);
}
END_TEST

/* ---- channels, sessions, the whole ---- */

START_TEST(a_channel_has_no_history_and_is_in_no_list)
{
	struct session *s = NULL;
	int status;
	ck_assert_int_eq(
		gateway_channel_open(h.g, GATEWAY_ASK, "no-such", getuid(), &s, NULL), -ENOENT);
	ck_assert_int_eq(gateway_channel_open(h.g, GATEWAY_ASK, "default", getuid(), &s, NULL), 0);
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
	ck_assert_ptr_null(gateway_session_find(h.g, "ask"));
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
			gateway_session_create(h.g, bad[i], 0, 0, 0700, NULL, &err), -EINVAL);
	ck_assert_int_eq(
		gateway_session_create(h.g, long_name, 0, 0, 0700, NULL, &err), -ENAMETOOLONG);
	ck_assert_int_eq(gateway_session_create(h.g, long_name + 1, 0, 0, 0700, NULL, &err), 0);
	ck_assert_int_eq(
		gateway_session_create(h.g, long_name + 1, 0, 0, 0700, NULL, &err), -EEXIST);
	int r = 0, n = 0;
	for (; n < 1100 && r == 0; n++) {
		char id[16];
		snprintf(id, sizeof id, "n%d", n);
		r = gateway_session_create(h.g, id, 4711, 0, 0700, NULL, &err);
	}
	ck_assert_int_eq(r, -EDQUOT);
	ck_assert_int_eq(n, 1001);
	ck_assert_int_eq(gateway_session_create(h.g, "other", 4712, 0, 0700, NULL, &err), 0);
	free(long_name);
}
END_TEST

START_TEST(a_removed_session_refuses_who_still_holds_it)
{
	struct session *s = long_session("a");
	harness_say(s, "go on\n");
	ck_assert(harness_status(s, "generating"));
	ck_assert_int_eq(gateway_session_remove(h.g, "a", NULL), 0);
	ck_assert_int_eq(gateway_session_remove(h.g, "a", NULL), -ENOENT);
	ck_assert_int_eq(gateway_session_remove(h.g, "main", NULL), -EBUSY);
	ck_assert_ptr_null(gateway_session_find(h.g, "a"));
	int status;
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -ECANCELED);
	struct draft *d;
	draft_new(&d, s, getuid(), NULL);
	ck_assert_int_eq(draft_write(d, "x", 1, NULL), -ENOENT);
	draft_drop(d);
	ck_assert_int_eq(set(s, "top_k", "1"), -ENOENT);
	struct session *again = harness_session(&h, "a", NULL);
	ck_assert(view_is(again, SESSION_CHAT, ""));
	session_put(again);
	session_put(s);
}
END_TEST

START_TEST(all_is_as_it_was_after_a_restart)
{
	struct session *s = harness_session(&h, "a", "9");
	int status;
	set(s, "system", "be\nbrief");
	set(s, "temperature", "0.5");
	session_chmod(s, 0750);
	char *answer = ask(s, "one\n", &status), *chat = harness_view(s, SESSION_CHAT);
	char *messages = harness_view(s, SESSION_MESSAGES);
	char *usage = harness_view(s, SESSION_USAGE);
	struct session_attr before, after;
	session_attr(s, &before);
	session_put(s);
	harness_close(&h);
	harness_open(&h);
	s = gateway_session_find(h.g, "a");
	ck_assert_ptr_nonnull(s);
	session_attr(s, &after);
	ck_assert_uint_eq(after.mode, 0750);
	ck_assert_uint_eq(after.created_ns, before.created_ns);
	ck_assert_uint_eq(after.changed_ns, before.changed_ns);
	ck_assert(view_is(s, SESSION_CHAT, chat));
	ck_assert(view_is(s, SESSION_MESSAGES, messages));
	ck_assert(view_is(s, SESSION_STATUS, "done\n"));
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
	struct session *s = harness_session(&h, "a", "4");
	warm(s);
	session_put(s);
	gateway_session_remove(h.g, "a", NULL);
	harness_close(&h);
	harness_open(&h);
	ck_assert_ptr_null(gateway_session_find(h.g, "a"));
	s = harness_session(&h, "a", NULL);
	ck_assert(view_is(s, SESSION_CHAT, ""));
	session_put(s);
}
END_TEST

START_TEST(stopping_ends_what_runs_and_wakes_who_waits)
{
	struct session *s = long_session("a");
	harness_say(s, "go on\n");
	struct answer *a;
	gateway_waiter id;
	ck_assert_int_eq(session_newest(s, &a, NULL, NULL, &id), 0);
	gateway_stop(h.g);
	int status;
	free(harness_read_answer(a, &status));
	ck_assert_int_eq(status, -ECANCELED);
	ck_assert_int_eq(harness_say(s, "more\n"), -ESHUTDOWN);
	harness_close(&h);
	/* What is still held is still memory. */
	ck_assert(view_is(s, SESSION_STATUS, "failed\n"));
	bool ended;
	answer_size(a, &ended);
	ck_assert(ended);
	answer_put(a);
	session_put(s);
	harness_open(&h);
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
	harness_close(&h);
	h.options.changed = count_change;
	harness_open(&h);
	struct session *s = harness_session(&h, "a", NULL);
	set(s, "top_k", "3");
	session_setting_reset(s, "top_k");
	session_put(s);
	harness_close(&h);
	ck_assert_int_eq(changes, 2);
	h.options.changed = NULL;
	harness_open(&h);
}
END_TEST

START_TEST(numbers_and_traces_count_what_happened)
{
	struct session *s = harness_session(&h, "a", "5");
	struct buf out = {0};
	warm(s);
	harness_say(s, "\n");
	free(ask(s, "y\n", &(int){0}));
	harness_close(&h); /* settled for certain */
	ck_assert_int_eq(gateway_metric_names()[0] != NULL, 1);
	session_put(s);
	harness_open(&h);
	s = gateway_session_find(h.g, "a");
	free(ask(s, "z\n", &(int){0}));
	ck_assert(harness_usage(s, "session_requests") == 3);
	for (int i = 0; i < 10000; i++) {
		buf_clear(&out);
		gateway_metric(h.g, "requests_total", &out);
		if (!strcmp(out.data, "1\n"))
			break;
		usleep(1000);
	}
	ck_assert_str_eq(out.data, "1\n");
	for (const char *const *name = gateway_metric_names(); *name; name++) {
		buf_clear(&out);
		ck_assert_int_eq(gateway_metric(h.g, *name, &out), 0);
		ck_assert(out.len > 1);
		const char *point = strstr(*name, "_ms") ? strchr(out.data, '.') : NULL;
		ck_assert_msg(!point || strlen(point) <= strlen(".123\n"), "%s", out.data);
	}
	ck_assert_int_eq(gateway_metric(h.g, "no_such", &out), -ENOENT);
	buf_clear(&out);
	gateway_render(h.g, GATEWAY_PROMETHEUS, &out);
	ck_assert_ptr_null(strstr(out.data, "Of these")); /* a sentence stands alone there */
	ck_assert_ptr_nonnull(
		strstr(out.data, "llm_requests_total{model=\"tiny\",status=\"done\"} 1\n"));
	ck_assert_ptr_nonnull(
		strstr(out.data, "llm_request_latency_seconds_count{model=\"tiny\"} 1\n"));
	buf_clear(&out);
	gateway_render(h.g, GATEWAY_TRACE_RECENT, &out);
	ck_assert_ptr_nonnull(strstr(out.data, "\"session\": \"a\", \"model\": \"tiny\""));
	buf_clear(&out);
	gateway_render(h.g, GATEWAY_STATUS, &out);
	ck_assert_str_eq(out.data, "ok\n");
	gateway_report(h.g, "tree", "TREE is gone");
	buf_clear(&out);
	gateway_render(h.g, GATEWAY_STATUS, &out);
	ck_assert_str_eq(out.data, "degraded: TREE is gone\n");
	gateway_report(h.g, "tree", NULL);
	/* Of a model with the longest name, twice. */
	char key[160];
	snprintf(key, sizeof key, "tree:models/%064d/template", 0);
	gateway_report(h.g, key, "first");
	gateway_report(h.g, key, "second");
	buf_clear(&out);
	gateway_render(h.g, GATEWAY_STATUS, &out);
	ck_assert_str_eq(out.data, "degraded: second\n");
	gateway_report(h.g, key, NULL);
	buf_clear(&out);
	gateway_render(h.g, GATEWAY_STATUS, &out);
	ck_assert_str_eq(out.data, "ok\n");
	buf_free(&out);
	session_put(s);
}
END_TEST

static void status_is(const char *want)
{
	struct buf out = {0};
	ck_assert_int_eq(gateway_render(h.g, GATEWAY_STATUS, &out), 0);
	ck_assert_str_eq(out.data, want);
	buf_free(&out);
}

START_TEST(a_default_that_names_no_model_is_in_status_until_it_names_one)
{
	ck_assert_int_eq(gateway_default_set(h.g, "nosuch", NULL), 0);
	status_is("degraded: models/default points to nosuch, and there is no model nosuch: make "
		  "it, or point to another, ln -sfn NAME models/default\n");
	ck_assert_int_eq(gateway_default_set(h.g, NULL, NULL), 0);
	status_is("degraded: models/default names no model, and sessions that chose none cannot "
		  "ask: ln -sfn NAME models/default\n");
	ck_assert_int_eq(gateway_default_set(h.g, "auto", NULL), 0);
	status_is("ok\n");
	ck_assert_int_eq(gateway_default_set(h.g, NULL, NULL), 0);
	char **names = gateway_model_names(h.g);
	for (size_t i = 0; names[i]; free(names[i++]))
		gateway_model_remove(h.g, names[i], NULL);
	free(names);
	status_is("ok\n"); /* no model at all: nothing that default could name */
}
END_TEST

static void add_tests(TCase *t)
{
	tcase_add_test(t, a_default_that_names_no_model_is_in_status_until_it_names_one);
	tcase_add_test(t, a_prompt_is_answered_and_the_answer_can_be_read_again);
	tcase_add_test(t, the_same_prompt_in_two_sessions_gives_the_same_answer);
	tcase_add_test(t, where_nothing_was_ever_asked_the_answer_is_empty_and_the_status_idle);
	tcase_add_test(t, pieces_of_one_draft_are_one_prompt_and_one_newline_is_dropped);
	tcase_add_test(t, a_draft_without_a_write_is_no_request);
	tcase_add_test(t, an_empty_prompt_is_refused_and_the_old_answer_is_not_shown);
	tcase_add_test(
		t, a_reader_after_a_flush_gets_the_answer_of_the_prompt_that_is_committed_later);
	tcase_add_test(t, a_pending_draft_holds_readers_back_for_a_second_and_no_longer);
	tcase_add_test(t, a_dropped_draft_lets_readers_go_on);
	tcase_add_test(t, utf8_may_be_split_between_writes_at_every_byte);
	tcase_add_test(t, text_that_is_not_utf8_poisons_the_draft);
	tcase_add_test(t, a_prompt_that_ends_inside_a_character_is_refused);
	tcase_add_test(t, a_nul_in_a_prompt_is_a_character_like_others);
	tcase_add_test(t, a_prompt_longer_than_the_context_is_refused_at_the_write);
	tcase_add_test(t, a_prompt_written_byte_by_byte_costs_no_more_than_a_moment);
	tcase_add_test(t, a_prompt_too_long_for_a_model_not_loaded_fails_when_it_is_read);
	tcase_add_test(t, requests_of_one_session_are_answered_in_the_order_of_their_commit);
	tcase_add_test(t, requests_queue_in_the_order_of_their_flushes_when_commits_overtake);
	tcase_add_test(
		t, a_prompt_flushed_before_a_refusal_does_not_hide_it_when_its_commit_comes_late);
	tcase_add_test(t, a_draft_that_stays_open_holds_up_later_ones_for_a_moment_only);
	tcase_add_test(t, the_65th_queued_request_is_refused_at_the_write);
	tcase_add_test(t, a_refused_setting_changes_nothing_and_the_error_says_what_is_allowed);
	tcase_add_test(t, max_tokens_and_seed_are_obeyed_and_the_seed_used_is_shown);
	tcase_add_test(t, a_stop_string_ends_the_answer_and_is_not_part_of_it);
	tcase_add_test(t, cancel_is_in_force_when_it_returns_and_keeps_what_a_reader_got);
	tcase_add_test(t, cancel_with_nothing_to_cancel_succeeds);
	tcase_add_test(t, an_unanswered_turn_is_replaced_by_the_next_prompt);
	tcase_add_test(t, retry_asks_an_unanswered_turn_again_and_a_complete_one_not);
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
	tcase_add_test(t, a_channel_has_no_history_and_is_in_no_list);
	tcase_add_test(t, session_names_are_checked_and_counted);
	tcase_add_test(t, a_removed_session_refuses_who_still_holds_it);
	tcase_add_test(t, all_is_as_it_was_after_a_restart);
	tcase_add_test(t, a_removed_session_is_gone_after_a_restart);
	tcase_add_test(t, stopping_ends_what_runs_and_wakes_who_waits);
	tcase_add_test(t, a_changed_setting_is_told_to_the_front_end);
	tcase_add_test(t, numbers_and_traces_count_what_happened);
}

int main(void)
{
	Suite *suite = suite_create("gateway");
	TCase *t = tcase_create("requests");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	add_tests(t);
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
