/* SPDX-License-Identifier: Apache-2.0 */
/* What a draft holds while it is written, and that its writes do not decide what is found in it. */
#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/core.h"
#include "gateway/model.h"
#include "gateway/session.h"
#include "tests/gateway/harness.h"
#include "tests/run_suite.h"

static struct harness h;

static void setup(void)
{
	harness_make(&h, 0);
	h.options.max_queued = 1; /* a place is missed at once */
	harness_open(&h);
}

static void teardown(void)
{
	harness_end(&h);
}

static void set(struct session *s, const char *file, const char *value)
{
	ck_assert_int_eq(session_setting_set(s, file, value, strlen(value), NULL), 0);
}

static struct draft *draft(struct session *s)
{
	struct draft *d;
	ck_assert_int_eq(draft_new(&d, s, getuid(), NULL), 0);
	return d;
}

static int write_text(struct draft *d, const char *text)
{
	return draft_write(d, text, strlen(text), NULL);
}

static void answered(struct session *s)
{
	int status;
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
}

/* ---- what it holds ---- */

/* A ticket of one a day, one in flight, 1,000 dollars, one place: who gets all that has it all. */
static void strict_limits(void)
{
	const char *me = harness_me(&h);
	harness_price(&h, "tiny");
	harness_account(&h, me, "limit", "1000");
	harness_account(&h, me, "requests_per_day", "1");
	harness_account(&h, me, "requests_in_flight", "1");
}

static void assert_nothing_held(struct session *s)
{
	struct err err = {0};
	char *left = harness_account_view(&h, harness_me(&h), ACCOUNT_REMAINING);
	ck_assert_str_eq(left, "1000\n");
	free(left);
	ck_assert_uint_eq(s->n_places, 0);
	struct draft *d = draft(s);
	int r = draft_write(d, "x", 1, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	ck_assert_uint_eq(s->n_places, 1);
	left = harness_account_view(&h, harness_me(&h), ACCOUNT_REMAINING);
	ck_assert_str_ne(left, "1000\n");
	free(left);
	struct draft *second = draft(s); /* while the first holds them */
	ck_assert_int_lt(write_text(second, "x"), 0);
	draft_drop(second);
	draft_drop(d);
	ck_assert_uint_eq(s->n_places, 0);
}

START_TEST(a_dropped_draft_gives_back_ticket_reservation_and_place)
{
	struct session *s = harness_session(&h, "a", "10");
	strict_limits();
	for (int i = 0; i < 4; i++) {
		struct draft *d = draft(s);
		for (int n = 0; n <= i; n++)
			ck_assert_int_eq(write_text(d, "some text "), 0);
		if (i % 2)
			ck_assert_int_eq(draft_flush(d, NULL), 0);
		draft_drop(d);
		assert_nothing_held(s);
	}
	session_put(s);
}
END_TEST

START_TEST(a_poisoned_draft_gives_them_back_while_it_is_still_open)
{
	static const char *const last[] = {"\xFF", "a secret", "\xE2\x82"};
	static const int codes[] = {-EILSEQ, -EPERM, -EILSEQ};
	struct session *s = harness_session(&h, "a", "10");
	strict_limits();
	harness_guard(&h, "input/x.rules", "block S /secret/\n");
	for (size_t i = 0; i < 3; i++) {
		struct draft *d = draft(s);
		ck_assert_int_eq(write_text(d, "fine "), 0);
		int r = write_text(d, last[i]);
		r = r ? r : draft_flush(d, NULL);
		ck_assert_int_eq(r, codes[i]);
		assert_nothing_held(s);
		ck_assert_int_eq(write_text(d, "more"), codes[i]);
		assert_nothing_held(s);
		draft_commit(d);
		assert_nothing_held(s);
	}
	session_put(s);
}
END_TEST

START_TEST(a_draft_refused_at_its_first_write_holds_nothing)
{
	struct session *s = harness_session(&h, "a", "10");
	strict_limits();
	harness_guard(&h, "input/x.rules", "block S /secret/\n");
	ck_assert_int_eq(harness_say(s, "a secret"), -EPERM);
	assert_nothing_held(s);
	set(s, "max_tokens", "5000"); /* dearer than the budget */
	ck_assert_int_eq(harness_say(s, "x"), -EDQUOT);
	set(s, "max_tokens", "10");
	assert_nothing_held(s);
	set(s, "max_cost", "1");
	ck_assert_int_eq(harness_say(s, "x"), -EDQUOT);
	set(s, "max_cost", "");
	assert_nothing_held(s);
	ck_assert_int_eq(harness_say(s, "\n"), 0); /* empty: refused when it is committed */
	int status;
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EINVAL);
	assert_nothing_held(s);
	session_put(s);
}
END_TEST

START_TEST(a_write_that_makes_it_too_dear_or_too_long_gives_back_what_the_ones_before_held)
{
	struct session *s = harness_session(&h, "a", "10");
	char text[4000];
	memset(text, 'q', sizeof text);
	strict_limits();
	struct draft *d = draft(s);
	ck_assert_int_eq(write_text(d, "cheap"), 0);
	ck_assert_int_eq(draft_write(d, text, sizeof text, NULL), -EDQUOT);
	assert_nothing_held(s);
	draft_drop(d);
	/* Its model is loaded, and has 2,048 tokens. */
	harness_account(&h, harness_me(&h), "requests_per_day", "");
	harness_account(&h, harness_me(&h), "limit", "");
	set(s, "max_tokens", "1");
	ck_assert_int_eq(harness_say(s, "x"), 0);
	answered(s);
	ck_assert_int_eq(session_ctl(s, getuid(), getgid(), "clear", 5, NULL), 0);
	d = draft(s);
	ck_assert_int_eq(write_text(d, "short"), 0);
	ck_assert_int_eq(draft_write(d, text, sizeof text, NULL), -EMSGSIZE);
	ck_assert_uint_eq(s->n_places, 0);
	ck_assert_int_eq(harness_say(s, "x"), 0); /* the one in flight */
	answered(s);
	draft_drop(d);
	session_put(s);
}
END_TEST

START_TEST(a_draft_of_a_session_that_goes_gives_them_back)
{
	struct session *s = harness_session(&h, "a", "10"), *other = harness_session(&h, "b", "10");
	strict_limits();
	struct draft *d = draft(s);
	ck_assert_int_eq(write_text(d, "text"), 0);
	ck_assert_int_eq(gateway_session_remove(h.g, "a", NULL), 0);
	ck_assert_int_eq(write_text(d, "text"), -ENOENT);
	assert_nothing_held(other);
	draft_commit(d);
	s = (session_put(s), harness_session(&h, "a", "10"));
	d = draft(s);
	ck_assert_int_eq(write_text(d, "text"), 0);
	ck_assert_int_eq(draft_flush(d, NULL), 0);
	ck_assert_int_eq(gateway_session_remove(h.g, "a", NULL), 0);
	draft_commit(d);
	assert_nothing_held(other);
	session_put(s);
	session_put(other);
}
END_TEST

START_TEST(a_submitted_draft_hands_them_on_and_the_next_may_be_begun)
{
	struct session *s = harness_session(&h, "a", "2");
	harness_account(&h, harness_me(&h), "requests_in_flight", "1");
	struct draft *d = draft(s);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(write_text(d, "text"), 0);
		ck_assert_int_eq(draft_submit(d, NULL), 0);
		answered(s);
		ck_assert(harness_status(s, "done"));
	}
	ck_assert_uint_eq(s->n_places, 0);
	draft_drop(d);
	session_put(s);
}
END_TEST

START_TEST(a_flush_of_blanks_is_no_error_but_their_submission_is)
{
	struct session *s = harness_session(&h, "a", "2");
	struct err err;
	int status;
	struct draft *d = draft(s);
	ck_assert_int_eq(write_text(d, " \t\n"), 0);
	ck_assert_int_eq(draft_flush(d, &err), 0);
	ck_assert_int_eq(write_text(d, "text"), 0);
	ck_assert_int_eq(draft_flush(d, &err), 0);
	ck_assert_int_eq(draft_submit(d, &err), 0);
	answered(s);
	ck_assert_int_eq(write_text(d, "\n\n"), 0);
	ck_assert_int_eq(draft_submit(d, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "blanks"));
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EINVAL);
	static const char *const unseen[] = {"\0", "\u00a0", "\u200b\n", " \0\u200b\t\u00a0 "};
	static const size_t lens[] = {1, 2, 4, 9};
	for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
		ck_assert_int_eq(draft_write(d, unseen[i], lens[i], NULL), 0);
		ck_assert_msg(draft_submit(d, &err) == -EINVAL, "%zu", i);
	}
	ck_assert_int_eq(write_text(d, "\u00a0\u00e0"), 0);
	ck_assert_int_eq(draft_submit(d, &err), 0);
	answered(s);
	draft_drop(d);
	session_put(s);
}
END_TEST

/* ---- its writes ---- */

/* Writes text in pieces, cut at `cut` (0: not), or single bytes (step 1). Appends what became of
 * it: the prompt, or the sentence of its refusal. */
static void outcome(const char *text, size_t cut, size_t step, struct buf *out)
{
	static unsigned n;
	char id[16];
	struct err err = {0};
	int r = 0;
	snprintf(id, sizeof id, "s%u", ++n);
	struct session *s = harness_session(&h, id, "1");
	struct draft *d = draft(s);
	for (size_t at = 0, len = strlen(text); r == 0 && at < len;) {
		size_t piece = step ? step : cut > at ? cut - at : len - at;
		r = draft_write(d, text + at, piece, &err);
		at += piece;
	}
	draft_commit(d);
	buf_clear(out);
	int status;
	free(harness_read(s, &status));
	if (r < 0) {
		ck_assert_int_eq(status, r);
		buf_append_str(out, err.text);
	} else {
		ck_assert_int_eq(status, 0);
		char *view = harness_view(s, SESSION_MESSAGES);
		json_t *messages = json_loads(view, 0, NULL);
		buf_append_str(out,
			json_string_value(json_object_get(json_array_get(messages, 0), "content")));
		json_decref(messages);
		free(view);
	}
	buf_append(out, "", 0);
	ck_assert_int_eq(gateway_session_remove(h.g, id, NULL), 0);
	session_put(s);
}

static void same_for_every_split(const char *text, const char *want)
{
	struct buf out = {0};
	outcome(text, 0, 0, &out);
	ck_assert_str_eq(out.data, want);
	for (size_t cut = 1; cut < strlen(text); cut++) {
		outcome(text, cut, 0, &out);
		ck_assert_msg(!strcmp(out.data, want), "cut at %zu: %s", cut, out.data);
	}
	outcome(text, 0, 1, &out);
	ck_assert_msg(!strcmp(out.data, want), "byte by byte: %s", out.data);
	buf_free(&out);
}

START_TEST(what_is_found_in_a_prompt_does_not_depend_on_its_writes)
{
	harness_guard(&h, "input/a.rules",
		"block secret /top secret/\nredact digits /[0-9]{4}-[0-9]{4}/\n"
		"redact euro /\xE2\x82\xAC [0-9]+;/\n");
	harness_guard(&h, "input/b.rules", "warn w /clean/\n");
	same_for_every_split("here is a top secret thing",
		"blocked by the input guard secret (guards/input/a.rules)");
	same_for_every_split(
		"ends in top secret", "blocked by the input guard secret (guards/input/a.rules)");
	same_for_every_split(
		"call 1234-5678, pay \xE2\x82\xAC 99; now\n", "call [digits], pay [euro] now");
	same_for_every_split("12345-67890 1234-5678", "1[digits]0 [digits]");
	same_for_every_split("quite clean, top of the secrets 123-456", /* nearly */
		"quite clean, top of the secrets 123-456");
}
END_TEST

START_TEST(a_match_that_needs_the_end_counts_at_the_end_of_a_write_that_may_be_the_last)
{
	struct buf out = {0};
	char *page = malloc(4096 + 8);
	static const char blocked[] = "blocked by the input guard cat (guards/input/a.rules)";
	harness_guard(&h, "input/a.rules", "block cat /cat\\b/\n");
	outcome("a cattle", 0, 0, &out);
	ck_assert_str_eq(out.data, "a cattle");
	outcome("a cattle", 5, 0, &out);
	ck_assert_str_eq(out.data, blocked);
	outcome("a cattle", 4, 0, &out);
	ck_assert_str_eq(out.data, "a cattle");
	outcome("a cat", 0, 0, &out);
	ck_assert_str_eq(out.data, blocked);
	outcome("a cat", 2, 0, &out);
	ck_assert_str_eq(out.data, blocked);
	/* A whole page is not the last write, unless it is: then the request fails. */
	memset(page, '.', 4096);
	memcpy(page + 4093, "cattle", 7);
	struct session *s = harness_session(&h, "a", "1");
	set(s, "model", "long");
	struct draft *d = draft(s);
	ck_assert_int_eq(draft_write(d, page, 4096, NULL), 0);
	ck_assert_int_eq(write_text(d, "tle"), 0);
	draft_commit(d);
	answered(s);
	d = draft(s);
	ck_assert_int_eq(draft_write(d, page, 4096, NULL), 0);
	draft_commit(d);
	int status;
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EPERM);
	free(page);
	buf_free(&out);
	session_put(s);
}
END_TEST

START_TEST(writes_go_by_the_rules_of_the_first_and_the_prompt_by_those_in_force_at_its_end)
{
	struct session *s = harness_session(&h, "a", "1");
	struct err err;
	int status;
	harness_guard(&h, "input/a.rules", "redact A /aaa/\n");
	struct draft *d = draft(s), *before = draft(s);
	ck_assert_int_eq(write_text(d, "aaa bb"), 0);
	harness_guard(&h, "input/a.rules", "redact B /bbb/\nblock A /xaa/\n");
	ck_assert_int_eq(write_text(d, "b aaa xaa"), 0);
	harness_guard(&h, "input/a.rules", "redact B /bbb/\n");
	ck_assert_int_eq(write_text(d, " ccc"), 0);
	draft_commit(d);
	answered(s);
	char *chat = harness_view(s, SESSION_CHAT);
	ck_assert_msg(!strncmp(chat, "> aaa [B] aaa xaa ccc\n", 22), "%s", chat);
	free(chat);
	/* One that was blocked by then, or closed. */
	d = draft(s);
	ck_assert_int_eq(write_text(d, "aaa"), 0);
	harness_guard(&h, "input/a.rules", "block A /aaa/\n");
	draft_commit(d);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EPERM);
	d = draft(s);
	ck_assert_int_eq(write_text(d, "fine"), 0);
	ck_assert_int_eq(gateway_guard_set(h.g, "input/b.rules", "bad", 3, &err), -EINVAL);
	draft_commit(d);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EPERM);
	/* One that was open before, and has its first write now. */
	gateway_guard_remove(h.g, "input/b.rules", false);
	ck_assert_int_eq(write_text(before, "aaa"), -EPERM);
	draft_drop(before);
	session_put(s);
}
END_TEST

/* ---- what it costs ---- */

static struct {
	unsigned calls;
	size_t bytes;
} counted;
static const struct provider *under;

static int count(void *handle, const char *text, size_t len, size_t *n_tok, struct err *err)
{
	counted.calls++;
	counted.bytes += len;
	return under->count(handle, text, len, n_tok, err);
}

START_TEST(a_mebibyte_written_byte_by_byte_is_counted_a_few_dozen_times_over)
{
	if (run_suite_skips(RUN_SUITE_FINDS_RACES, RUN_SUITE_ONE_THREAD))
		return;
	enum { LEN = 1 << 20 };
	struct provider counting;
	struct session *s = harness_session(&h, "a", "1");
	struct err err = {0};
	size_t n_tok, first_refused = 0;
	char *text = malloc(LEN);
	for (size_t i = 0; i < LEN; i++)
		text[i] = "the quick brown fox jumps over a lazy dog. "[i * 7 / 3 % 43];
	harness_guard(&h, "input/a.rules",
		"block secret /top secret/\nredact digits /[0-9]{4}-[0-9]{4}/\n"
		"warn mail /[a-z]+@[a-z]+\\.[a-z]+/\n");
	ck_assert_int_eq(harness_say(s, "x"), 0); /* loads it */
	answered(s);
	struct model *m = gateway_model_find(h.g, "tiny");
	struct loaded *l = model_peek(m);
	under = l->provider;
	ck_assert_int_eq(under->count(l->handle, text, LEN, &n_tok, &err), 0);
	ck_assert_uint_lt(n_tok, LEN); /* else nothing needs counting before it is refused */
	counting = *under;
	counting.count = count;
	l->provider = &counting;
	for (int fits = 1; fits >= 0; fits--) {
		counted.calls = 0;
		counted.bytes = 0;
		l->limits.context_tok = (uint32_t)n_tok - (fits ? 0 : 100);
		struct draft *d = draft(s);
		int r = 0;
		size_t i = 0;
		for (; i < LEN && r == 0; i++)
			r = draft_write(d, text + i, 1, &err);
		ck_assert_int_eq(r, fits ? 0 : -EMSGSIZE);
		first_refused = i;
		draft_drop(d);
		ck_assert_uint_gt(counted.calls, 0);
		ck_assert_msg(counted.calls <= 200 && counted.bytes <= (size_t)64 * LEN,
			"%u calls, %zu bytes", counted.calls, counted.bytes);
	}
	ck_assert_uint_gt(first_refused, LEN - LEN / 100);
	l->provider = under;
	loaded_put(l);
	model_put(m);
	free(text);
	session_put(s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("drafts");
	TCase *t = tcase_create("drafts");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_dropped_draft_gives_back_ticket_reservation_and_place);
	tcase_add_test(t, a_poisoned_draft_gives_them_back_while_it_is_still_open);
	tcase_add_test(t, a_draft_refused_at_its_first_write_holds_nothing);
	tcase_add_test(
		t, a_write_that_makes_it_too_dear_or_too_long_gives_back_what_the_ones_before_held);
	tcase_add_test(t, a_draft_of_a_session_that_goes_gives_them_back);
	tcase_add_test(t, a_submitted_draft_hands_them_on_and_the_next_may_be_begun);
	tcase_add_test(t, a_flush_of_blanks_is_no_error_but_their_submission_is);
	tcase_add_test(t, what_is_found_in_a_prompt_does_not_depend_on_its_writes);
	tcase_add_test(
		t, a_match_that_needs_the_end_counts_at_the_end_of_a_write_that_may_be_the_last);
	tcase_add_test(
		t, writes_go_by_the_rules_of_the_first_and_the_prompt_by_those_in_force_at_its_end);
	tcase_add_test(t, a_mebibyte_written_byte_by_byte_is_counted_a_few_dozen_times_over);
	suite_add_tcase(s, t);
	return run_suite(s);
}
