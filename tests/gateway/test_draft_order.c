/* SPDX-License-Identifier: Apache-2.0 */
/* A prompt between the close that its writer has waited for and its submission a moment later, and
 * what is done meanwhile. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/session.h"
#include "tests/gateway/harness.h"
#include "tests/run_suite.h"

static struct harness h;
static struct session *s;

static void setup(void)
{
	harness_make(&h, 0);
	harness_open(&h);
	s = harness_session(&h, "a", "4");
}

static void teardown(void)
{
	session_put(s);
	harness_end(&h);
}

static void set(const char *file, const char *value)
{
	ck_assert_int_eq(session_setting_set(s, file, value, strlen(value), NULL), 0);
}

static int ctl(const char *line)
{
	return session_ctl(s, getuid(), getgid(), line, strlen(line), NULL);
}

static void add(struct draft *d, const char *text)
{
	ck_assert_int_eq(draft_write(d, text, strlen(text), NULL), 0);
}

/* One whose writer believes it closed. */
static struct draft *closed(const char *text)
{
	struct draft *d;
	ck_assert_int_eq(draft_new(&d, s, getuid(), NULL), 0);
	add(d, text);
	ck_assert_int_eq(draft_flush(d, NULL), 0);
	return d;
}

static void read_gives(int want)
{
	int status;
	free(harness_read(s, &status));
	ck_assert_int_eq(status, want);
}

static void view_is(enum session_view view, const char *want)
{
	char *text = harness_view(s, view);
	ck_assert_str_eq(text, want);
	free(text);
}

static void nobody(void *arg)
{
}

/* An answer that goes on until it is cancelled. */
static void begin(void)
{
	set("ignore_eos", "1");
	set("model", "long");
	set("max_tokens", "15000");
	ck_assert_int_eq(harness_say(s, "long\n"), 0);
	ck_assert(harness_status(s, "generating"));
}

START_TEST(a_prompt_that_was_closed_before_a_cancel_is_cancelled_however_late_it_is_submitted)
{
	struct draft *d = closed("one\n");
	ck_assert_int_eq(ctl("cancel"), 0);
	draft_commit(d);
	read_gives(-ECANCELED);
	view_is(SESSION_STATUS, "cancelled\n");
	view_is(SESSION_ERROR, "cancelled\n");
	view_is(SESSION_CHAT, "> one\n\n[cancelled]\n\n");
	begin();
	d = closed("two\n");
	ck_assert_int_eq(ctl("cancel"), 0);
	ck_assert(harness_status(s, "cancelled"));
	draft_commit(d);
	read_gives(-ECANCELED);
	ck_assert(harness_usage(s, "session_requests") == 3);
	set("max_tokens", "2");
	ck_assert_int_eq(ctl("retry"), 0);
	read_gives(0);
	char *messages = harness_view(s, SESSION_MESSAGES);
	ck_assert_ptr_nonnull(strstr(messages, "two"));
	ck_assert_ptr_null(strstr(messages, "one"));
	free(messages);
}
END_TEST

START_TEST(a_prompt_whose_file_was_still_open_at_a_cancel_is_asked_when_it_is_closed)
{
	struct draft *d = closed("first, ");
	ck_assert_int_eq(ctl("cancel"), 0);
	add(d, "second\n");
	ck_assert_int_eq(draft_flush(d, NULL), 0);
	draft_commit(d);
	read_gives(0);
	char *chat = harness_view(s, SESSION_CHAT);
	ck_assert_msg(!strncmp(chat, "> first, second\n", 16), "%s", chat);
	free(chat);
	d = closed("all of it\n");
	ck_assert_int_eq(ctl("cancel"), 0);
	ck_assert_int_eq(draft_flush(d, NULL), 0);
	draft_commit(d);
	read_gives(0);
	d = closed("said to be\n");
	ck_assert_int_eq(ctl("cancel"), 0);
	ck_assert_int_eq(ctl("submit"), 0);
	read_gives(0);
	add(d, "after it\n"); /* a prompt of its own */
	draft_commit(d);
	read_gives(0);
	ck_assert(harness_usage(s, "session_requests") == 4);
}
END_TEST

START_TEST(what_is_written_after_a_cancel_is_not_cancelled_by_what_is_said_then)
{
	struct draft *d = closed("first, ");
	ck_assert_int_eq(ctl("cancel"), 0);
	add(d, "second\n");
	ck_assert_int_eq(ctl("clear"), 0); /* as it is not closed */
	draft_commit(d);
	read_gives(0);
	view_is(SESSION_STATUS, "done\n");
	d = closed("third\n");
	ck_assert_int_eq(ctl("cancel"), 0);
	sleep(2); /* so long nobody waits for its close: it is open */
	ck_assert_int_eq(ctl("clear"), 0);
	view_is(SESSION_STATUS, "idle\n");
	ck_assert_int_eq(draft_flush(d, NULL), 0);
	draft_commit(d);
	read_gives(0);
	view_is(SESSION_STATUS, "done\n");
	ck_assert(harness_usage(s, "session_requests") == 2);
}
END_TEST

static bool is_finishing(void)
{
	pthread_mutex_lock(&s->lock);
	bool is = s->running && s->running->finishing;
	pthread_mutex_unlock(&s->lock);
	return is;
}

/* Whether the newest answer has begun: all that it waits for before its end is stored then. */
static bool shows_text(void)
{
	struct answer *a = NULL;
	gateway_waiter id;
	struct buf text = {0};
	if (session_newest(s, &a, nobody, NULL, &id) == 1)
		session_unwatch(s, id);
	if (a)
		ck_assert_int_eq(answer_copy(a, &text), 0);
	bool shows = text.len > 0;
	buf_free(&text);
	answer_put(a);
	return shows;
}

/* Asks, and holds the store before the answer is complete: it is finishing then until that is let
 * go of. False: it was complete already. */
static bool hold_at_its_end(const char *prompt)
{
	ck_assert_int_eq(harness_say(s, prompt), 0);
	while (!shows_text())
		usleep(100);
	store_begin(s->g->store);
	while (!is_finishing()) {
		char *status = harness_view(s, SESSION_STATUS);
		bool over = !strcmp(status, "done\n");
		free(status);
		if (over)
			return false;
		usleep(100);
	}
	return true;
}

static void let_go(void)
{
	store_end(s->g->store);
	store_tell(s->g->store);
}

START_TEST(a_prompt_that_is_cancelled_while_the_answer_before_it_is_stored_can_be_retried)
{
	set("model", "long");
	set("ignore_eos", "1");
	set("max_tokens", "64"); /* one lease (book.h): later ones wait for the store */
	while (!hold_at_its_end("one\n")) {
		let_go();
		read_gives(0);
	}
	ck_assert_int_eq(harness_say(s, "two\n"), 0);
	pthread_mutex_lock(&s->lock);
	session_cancel_all(s, "cancelled");
	pthread_mutex_unlock(&s->lock);
	let_go();
	while (is_finishing())
		usleep(100);
	read_gives(-ECANCELED);
	set("max_tokens", "2");
	ck_assert_int_eq(ctl("retry"), 0);
	read_gives(0);
	char *messages = harness_view(s, SESSION_MESSAGES);
	ck_assert_ptr_nonnull(strstr(messages, "one"));
	ck_assert_ptr_nonnull(strstr(messages, "two"));
	free(messages);
}
END_TEST

START_TEST(what_is_said_after_a_cancel_finds_the_prompt_cancelled_before_its_submission)
{
	static const char talk[] = "[{\"role\": \"user\", \"content\": \"x\"}]";
	struct draft *d = closed("one\n");
	ck_assert_int_eq(ctl("cancel"), 0);
	ck_assert_int_eq(ctl("clear"), 0);
	draft_commit(d);
	view_is(SESSION_CHAT, "");
	view_is(SESSION_STATUS, "idle\n");
	d = closed("two\n");
	ck_assert_int_eq(ctl("cancel"), 0);
	ck_assert_int_eq(ctl("retry"), 0);
	draft_commit(d);
	read_gives(0);
	view_is(SESSION_STATUS, "done\n");
	d = closed("three\n");
	ck_assert_int_eq(ctl("cancel"), 0);
	ck_assert_int_eq(session_messages_set(s, talk, strlen(talk), NULL), 0);
	draft_commit(d);
	view_is(SESSION_CHAT, "> x\n\n");
	ck_assert(harness_usage(s, "session_requests") == 4);
}
END_TEST

START_TEST(what_changes_the_conversation_is_refused_while_a_closed_prompt_is_not_submitted)
{
	struct err err;
	ck_assert_int_eq(harness_say(s, "hello\n"), 0);
	read_gives(0);
	ck_assert(harness_status(s, "done"));
	for (bool in_time = false; !in_time;) {
		uint64_t begin_ns = clock_mono_ns();
		struct draft *d = closed("one\n");
		int set = session_messages_set(s, "[]", 2, &err);
		int clear = ctl("clear"), retry = ctl("retry");
		in_time = clock_mono_ns() - begin_ns < 1000000000; /* so long it is waited for */
		ck_assert(!in_time || (set == -EBUSY && clear == -EBUSY && retry == -EBUSY));
		draft_drop(d);
	}
	ck_assert_str_eq(err.text, "a prompt was just closed; cancel it first");
	ck_assert_int_eq(ctl("clear"), 0);
}
END_TEST

START_TEST(a_cancelled_prompt_that_another_one_has_overtaken_leaves_that_alone)
{
	struct draft *d = closed("late\n");
	ck_assert_int_eq(ctl("cancel"), 0);
	begin(); /* waits for the other one, but for a tenth of a second only */
	draft_commit(d);
	view_is(SESSION_STATUS, "generating\n");
	ck_assert_int_eq(ctl("cancel"), 0);
	read_gives(-ECANCELED);
	view_is(SESSION_CHAT, "> long\n\n[cancelled]\n\n"); /* nobody has read of it */
}
END_TEST

/* ---- readers ---- */

static atomic_uint flushed, seen; /* prompts: those that are closed, those that were looked for */
static _Atomic(struct answer *) before;
static atomic_uint n_older;

/* For each prompt that is closed: what `out` belongs to, as soon as that can be said. */
static void *read_at_once(void *arg)
{
	const unsigned n = *(unsigned *)arg;
	for (unsigned i = 1; i <= n; i++) {
		struct answer *a = NULL;
		gateway_waiter id;
		while (atomic_load(&flushed) < i)
			;
		while (session_newest(s, &a, nobody, NULL, &id) == 1)
			session_unwatch(s, id);
		if (a == atomic_load(&before))
			atomic_fetch_add(&n_older, 1);
		answer_put(a);
		atomic_store(&seen, i);
	}
	return NULL;
}

START_TEST(behind_a_closed_prompt_that_is_refused_no_reader_gets_the_older_answer)
{
	unsigned n = 1000;
	pthread_t reader;
	gateway_waiter id;
	ck_assert_int_eq(harness_say(s, "hello\n"), 0);
	read_gives(0);
	pthread_create(&reader, NULL, read_at_once, &n);
	for (unsigned i = 1; i <= n; i++) {
		struct answer *older;
		ck_assert_int_eq(session_newest(s, &older, nobody, NULL, &id), 0);
		atomic_store(&before, older);
		struct draft *d = closed(" \n");
		atomic_store(&flushed, i);
		draft_commit(d);
		while (atomic_load(&seen) < i)
			;
		answer_put(older);
	}
	pthread_join(reader, NULL);
	ck_assert_uint_eq(atomic_load(&n_older), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("draft_order");
	TCase *t = tcase_create("draft_order");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t,
		a_prompt_that_was_closed_before_a_cancel_is_cancelled_however_late_it_is_submitted);
	tcase_add_test(
		t, a_prompt_whose_file_was_still_open_at_a_cancel_is_asked_when_it_is_closed);
	tcase_add_test(t, what_is_written_after_a_cancel_is_not_cancelled_by_what_is_said_then);
	tcase_add_test(
		t, a_prompt_that_is_cancelled_while_the_answer_before_it_is_stored_can_be_retried);
	tcase_add_test(
		t, what_is_said_after_a_cancel_finds_the_prompt_cancelled_before_its_submission);
	tcase_add_test(
		t, what_changes_the_conversation_is_refused_while_a_closed_prompt_is_not_submitted);
	tcase_add_test(t, a_cancelled_prompt_that_another_one_has_overtaken_leaves_that_alone);
	tcase_add_test(t, behind_a_closed_prompt_that_is_refused_no_reader_gets_the_older_answer);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
