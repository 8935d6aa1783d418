/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a model's text on its way to a reader: rules, the judge, and the ledger that has
 * to have its tokens first. The model is random, but greedy: what it says is known from having
 * asked before. */
#include "gateway/outlet.h"

#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/gateway/talker_fixture.h"
#include "tests/own_mounts.h"
#include "tests/run_suite.h"

/* What is said when nothing is in its way. */
static char *plain_answer(struct session *s)
{
	int status;
	char *text = talker_ask(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_gt(strlen(text), 40);
	talker_ctl(s, "clear");
	return text;
}

/* Six bytes or some more of the middle, whole characters, that stand there first. */
static size_t phrase_of(const char *text, char phrase[32])
{
	size_t len = strlen(text);
	for (size_t at = len / 2; at + 16 < len; at++) {
		if ((text[at] & 0xC0) == 0x80)
			continue;
		size_t n = 6;
		while ((text[at + n] & 0xC0) == 0x80)
			n++;
		memcpy(phrase, text + at, n);
		phrase[n] = '\0';
		if (strstr(text, phrase) == text + at)
			return at;
	}
	ck_abort_msg("the model says the same again and again: %s", text);
	return 0;
}

/* A file with one rule for those bytes. */
static void guard_phrase(const char *file, const char *action, const char *phrase)
{
	struct buf rule = {0};
	buf_printf(&rule, "%s P /", action);
	for (const char *p = phrase; *p; p++)
		if (*p & 0x80)
			buf_append(&rule, p, 1);
		else
			buf_printf(&rule, "\\x%02x", (unsigned)*p);
	buf_append_str(&rule, "/\n");
	harness_guard(&talker_h, file, rule.data);
	buf_free(&rule);
}

/* ---- rules ---- */

START_TEST(a_reader_sees_the_redacted_answer_and_so_does_the_conversation)
{
	struct session *s = talker_new("a", "100");
	char *plain = plain_answer(s), phrase[32];
	size_t at = phrase_of(plain, phrase);
	int status;
	guard_phrase("output/x.rules", "redact", phrase);
	char *text = talker_ask(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_mem_eq(text, plain, at);
	ck_assert_mem_eq(text + at, "[P]", 3);
	ck_assert_ptr_null(strstr(text, phrase));
	char *view = harness_view(s, SESSION_MESSAGES);
	json_t *messages = json_loads(view, 0, NULL);
	json_t *last = json_array_get(messages, json_array_size(messages) - 1);
	ck_assert_str_eq(json_string_value(json_object_get(last, "content")), text);
	json_decref(messages);
	free(view);
	char *chat = harness_view(s, SESSION_CHAT);
	ck_assert_ptr_null(strstr(chat, phrase));
	ck_assert(harness_usage(s, "output_tokens") == 100);
	free(chat);
	free(text);
	free(plain);
	session_put(s);
}
END_TEST

START_TEST(a_reader_sees_all_that_stands_before_a_blocked_match_and_not_a_byte_of_it)
{
	struct session *s = talker_new("a", "100");
	char *plain = plain_answer(s), phrase[32];
	size_t at = phrase_of(plain, phrase);
	int status;
	guard_phrase("output/x.rules", "block", phrase);
	char *text = talker_ask(s, &status);
	ck_assert_int_eq(status, -EPERM);
	ck_assert_uint_eq(strlen(text), at);
	ck_assert_mem_eq(text, plain, at);
	ck_assert(harness_status(s, "blocked"));
	ck_assert(harness_usage(s, "output_tokens") <= 100);
	char *error = harness_view(s, SESSION_ERROR);
	ck_assert_str_eq(error, "blocked by the output guard P (guards/output/x.rules)\n");
	free(error);
	free(text);
	/* Its beginning would be enough for a match that is longer: that is held back as well. */
	char *longer = plain + at + 12;
	while ((*longer & 0xC0) == 0x80)
		longer++;
	*longer = '\0';
	talker_ctl(s, "clear");
	guard_phrase("output/x.rules", "block", plain + at);
	text = talker_ask(s, &status);
	ck_assert_int_eq(status, -EPERM);
	ck_assert_uint_eq(strlen(text), at);
	free(text);
	free(plain);
	session_put(s);
}
END_TEST

START_TEST(the_rules_of_an_answer_are_those_of_its_beginning)
{
	struct session *s = talker_new("a", "1500");
	char *plain = plain_answer(s), phrase[32], bytes[64];
	int status;
	struct answer *a;
	gateway_waiter id;
	size_t n;
	phrase_of(plain, phrase);
	ck_assert_int_eq(harness_say(s, "tell me"), 0);
	ck_assert_int_eq(session_newest(s, &a, NULL, NULL, &id), 0);
	while (answer_read(a, 0, bytes, sizeof bytes, &n) == 1)
		usleep(100);
	guard_phrase("output/x.rules", "block", phrase);
	char *text = harness_read_answer(a, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_str_eq(text, plain);
	free(text);
	free(plain);
	answer_put(a);
	session_put(s);
}
END_TEST

/* ---- the judge ---- */

START_TEST(a_judged_answer_is_the_same_and_one_found_unsafe_is_not_shown)
{
	struct session *s = talker_new("a", "100");
	char *plain = plain_answer(s), *text;
	int status;
	harness_guard(&talker_h, "moderation", talker_safe_judge);
	text = talker_ask(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_str_eq(text, plain);
	free(text);
	talker_ctl(s, "clear");
	harness_guard(&talker_h, "moderation",
		"model tiny\nthreshold 0.000001\nstages output\nwindow_chars 20\n"
		"timeout_ms 200000\n");
	text = talker_ask(s, &status);
	ck_assert_int_eq(status, -EPERM);
	ck_assert_str_eq(text, "");
	free(text);
	ck_assert(harness_status(s, "blocked"));
	talker_ctl(s, "clear");
	harness_guard(&talker_h, "moderation",
		"model tiny\nthreshold 0.000001\nstages output\naction replace\n"
		"replacement Let us talk of cats.\nwindow_chars 20\ntimeout_ms 200000\n");
	text = talker_ask(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_str_eq(text, "Let us talk of cats.");
	free(text);
	free(plain);
	session_put(s);
}
END_TEST

START_TEST(a_judge_sees_what_the_rules_let_through_and_a_block_shows_the_safe_prefix)
{
	struct session *s = talker_new("a", "100");
	char *plain = plain_answer(s), phrase[32];
	size_t at = phrase_of(plain, phrase);
	int status;
	harness_guard(&talker_h, "moderation", talker_safe_judge);
	guard_phrase("output/x.rules", "block", phrase);
	char *text = talker_ask(s, &status);
	ck_assert_int_eq(status, -EPERM);
	/* What the judge has not seen of it is not shown either. */
	ck_assert_uint_le(strlen(text), at);
	ck_assert_mem_eq(text, plain, strlen(text));
	ck_assert(harness_status(s, "blocked"));
	free(text);
	free(plain);
	session_put(s);
}
END_TEST

/* ---- the ledger ---- */

/* The disk is full without the store knowing it yet: what is asked is taken. */
static void ask_while_disk_is_full(struct session *s, const char *prompt)
{
	char path[128];
	int status;
	talker_fill_disk(path);
	ck_assert_int_eq(harness_say(s, prompt), 0);
	char *text = harness_read(s, &status);
	ck_assert_int_eq(status, -ENOSPC);
	ck_assert_str_eq(text, "");
	free(text);
	ck_assert_int_eq(harness_say(s, prompt), -ENOSPC); /* by now it does */
	talker_make_room(path);
}

START_TEST(nothing_is_released_while_the_store_cannot_write_and_the_next_answer_is_when_it_can)
{
	if (run_suite_skips(geteuid() != 0, "only root can mount a small disk"))
		return;
	static const char *const most[] = {"1", "300"};
	char prompt[6001];
	talker_open_on_small_disk();
	struct session *s = talker_new("a", "2");
	talker_set(s, "model", "long");
	int status;
	free(talker_ask(s, &status)); /* loads it */
	ck_assert_int_eq(status, 0);
	memset(prompt, 'p', 6000); /* more than what is left of the last page */
	prompt[6000] = '\0';
	for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
		talker_set(s, "max_tokens", most[i]);
		talker_ctl(s, "clear");
		ask_while_disk_is_full(s, prompt);
		char *text = talker_ask(s, &status);
		ck_assert_int_eq(status, 0);
		ck_assert(*text);
		free(text);
	}
	session_put(s);
	talker_assert_all_given_back();
}
END_TEST

/* Without a model: more than the machine can be made to do at a certain moment. */
struct alone {
	struct outlet *o;
	struct answer *a;
	struct text *prompt;
};

static void woken(void *arg)
{
}

static struct alone alone(void)
{
	struct alone x = {.a = answer_new(talker_h.g), .prompt = text_new("x", 1)};
	const struct outlet_job job = {.g = talker_h.g,
		.answer = x.a,
		.prompt = x.prompt,
		.who = {getuid(), "me", "main", 0},
		.wake = woken};
	ck_assert_int_eq(outlet_new(&x.o, &job, NULL), 0);
	return x;
}

static void let_go(struct alone *x, int want_code, const char *want_text)
{
	struct err err;
	int code;
	char bytes[100];
	size_t n = 0;
	ck_assert_int_eq(outlet_step(x->o), 0);
	ck_assert(outlet_ended(x->o, &code, &err));
	ck_assert_int_eq(code, want_code);
	ck_assert(!code || *err.text);
	if (*want_text)
		ck_assert_int_eq(answer_read(x->a, 0, bytes, sizeof bytes, &n), 0);
	ck_assert_uint_eq(n, strlen(want_text));
	ck_assert_mem_eq(bytes, want_text, n);
	ck_assert_uint_eq(answer_size(x->a, &(bool){false}), n);
	outlet_free(x->o);
	answer_put(x->a);
	text_put(x->prompt);
}

START_TEST(text_is_released_when_its_tokens_are_written_down_and_not_before)
{
	struct alone x = alone();
	bool ended;
	outlet_push(x.o, "one ", 4, 1);
	ck_assert_int_eq(outlet_step(x.o), 1);
	ck_assert_uint_eq(answer_size(x.a, &ended), 0);
	outlet_cover(x.o, 2);
	ck_assert_int_eq(outlet_step(x.o), 1);
	ck_assert_uint_eq(answer_size(x.a, &ended), 4);
	outlet_push(x.o, "two ", 4, 3);
	outlet_end(x.o, 0, NULL);
	ck_assert_int_eq(outlet_step(x.o), 1);
	ck_assert_uint_eq(answer_size(x.a, &ended), 4);
	outlet_cover(x.o, 3);
	let_go(&x, 0, "one two ");
}
END_TEST

START_TEST(what_was_counted_too_high_is_not_waited_for)
{
	struct alone x = alone();
	outlet_push(x.o, "one two", 7, 9);
	outlet_cover(x.o, 5);
	ck_assert_int_eq(outlet_step(x.o), 1);
	outlet_produced(x.o, 6);
	outlet_end(x.o, 0, NULL);
	ck_assert_int_eq(outlet_step(x.o), 1);
	outlet_produced(x.o, 5);
	let_go(&x, 0, "one two");
}
END_TEST

START_TEST(text_whose_tokens_cannot_be_written_down_breaks_off_also_when_it_had_ended)
{
	struct err err = {"no space"};
	struct alone x = alone();
	outlet_push(x.o, "one", 3, 1);
	outlet_uncover(x.o, -ENOSPC, &err);
	let_go(&x, -ENOSPC, "");

	x = alone();
	outlet_push(x.o, "one", 3, 1);
	outlet_end(x.o, 0, NULL);
	ck_assert_int_eq(outlet_step(x.o), 1);
	outlet_uncover(x.o, -ENOSPC, &err);
	let_go(&x, -ENOSPC, "");

	x = alone();
	outlet_push(x.o, "one", 3, 1);
	outlet_cover(x.o, 1);
	outlet_end(x.o, 0, NULL);
	ck_assert_int_eq(outlet_step(x.o), 0);
	outlet_uncover(x.o, -ENOSPC, &err); /* of tokens that were never produced */
	let_go(&x, 0, "one");

	harness_guard(&talker_h, "output/x.rules", "block T /two/\n");
	x = alone();
	outlet_push(x.o, "one two", 7, 1);
	ck_assert_int_eq(outlet_step(x.o), 1);
	outlet_uncover(x.o, -ENOSPC, &err);
	let_go(&x, -EPERM, "");
}
END_TEST

START_TEST(an_answer_that_was_computed_before_the_store_failed_ends_too)
{
	if (run_suite_skips(geteuid() != 0, "only root can mount a small disk"))
		return;
	char path[128];
	int status, r = 0, n = 0;
	talker_open_on_small_disk();
	struct session *s = talker_new("a", "1");
	free(talker_ask(s, &status)); /* loads it */
	talker_fill_disk(path);
	/* Until what is left of the last page is used up. */
	for (status = 0; r == 0 && status == 0 && n < 200; n++) {
		r = harness_say(s, "x");
		if (r == 0)
			free(harness_read(s, &status));
	}
	ck_assert_msg(r == -ENOSPC || status == -ENOSPC, "%d %d", r, status);
	talker_make_room(path);
	session_put(s);
	talker_assert_all_given_back();
}
END_TEST

int main(void)
{
	own_mounts();
	Suite *s = suite_create("outlet");
	TCase *t = tcase_create("outlet");
	tcase_add_checked_fixture(t, talker_open, talker_close);
	tcase_set_timeout(t, 100);
	tcase_add_test(t, a_reader_sees_the_redacted_answer_and_so_does_the_conversation);
	tcase_add_test(
		t, a_reader_sees_all_that_stands_before_a_blocked_match_and_not_a_byte_of_it);
	tcase_add_test(t, the_rules_of_an_answer_are_those_of_its_beginning);
	tcase_add_test(t, a_judged_answer_is_the_same_and_one_found_unsafe_is_not_shown);
	tcase_add_test(
		t, a_judge_sees_what_the_rules_let_through_and_a_block_shows_the_safe_prefix);
	tcase_add_test(t, text_is_released_when_its_tokens_are_written_down_and_not_before);
	tcase_add_test(t, what_was_counted_too_high_is_not_waited_for);
	tcase_add_test(
		t, text_whose_tokens_cannot_be_written_down_breaks_off_also_when_it_had_ended);
	tcase_add_test(t,
		nothing_is_released_while_the_store_cannot_write_and_the_next_answer_is_when_it_can);
	tcase_add_test(t, an_answer_that_was_computed_before_the_store_failed_ends_too);
	suite_add_tcase(s, t);
	return run_suite(s);
}
