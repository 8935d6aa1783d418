/* SPDX-License-Identifier: Apache-2.0 */
/* Rule files and what is in force of them, in a real gateway. */
#include "gateway/guards.h"

#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/gateway/harness.h"
#include "tests/run_suite.h"

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

static int set(const char *file, const char *text, struct err *err)
{
	*err = (struct err){0};
	return gateway_guard_set(h.g, file, text, strlen(text), err);
}

/* What the input rules make of a text: it, with redactions; or "!SENTENCE". new. */
static char *passed(const char *text)
{
	const struct guards_subject who = {getuid(), "me", "main", 0};
	struct err err = {0};
	struct buf out = {0};
	int r = guards_text(h.g->guards, &who, text, strlen(text), &out, &err);
	if (r < 0) {
		buf_clear(&out);
		buf_printf(&out, "!%s", err.text);
		ck_assert_int_eq(r, -EPERM);
	}
	buf_append(&out, "", 0);
	return out.data;
}

static void passes(const char *text, const char *want)
{
	char *is = passed(text);
	ck_assert_str_eq(is, want);
	free(is);
}

static void view_is(enum gateway_view view, const char *want)
{
	char *text = harness_whole(&h, view);
	ck_assert_str_eq(text, want);
	free(text);
}

static void names_are(const char *want)
{
	char **names = gateway_guard_names(h.g);
	struct buf out = {0};
	for (size_t i = 0; names[i]; i++) {
		buf_printf(&out, "%s;", names[i]);
		free(names[i]);
	}
	free(names);
	buf_append(&out, "", 0);
	ck_assert_str_eq(out.data, want);
	buf_free(&out);
}

/* ---- names ---- */

START_TEST(names_of_rule_files_are_those_of_the_two_stages_and_moderation)
{
	static const char *const good[] = {"input/a.rules", "output/a.rules", "moderation",
		"input/A-b_c.9.rules", "input/x..rules"};
	static const char *const bad[] = {"", "input", "input/", "input/.rules", "input/a",
		"input/a.rule", "input/a.rules.bak", "input/a.rules ", "input/.a.rules",
		"input/a/b.rules", "input/../input/a.rules", "inputs/a.rules", "/input/a.rules",
		"moderation.rules", "moderation/a.rules", "Input/a.rules", "input/\xC3\xA9.rules",
		"test", "status", "audit", "input//a.rules", "input/.rules.rules"};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		ck_assert_msg(gateway_guard_name_ok(good[i]), "%s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct err err;
		ck_assert_msg(!gateway_guard_name_ok(bad[i]), "%s", bad[i]);
		ck_assert_int_eq(set(bad[i], "", &err), -ENOENT);
		ck_assert(*err.text);
	}
	names_are("");
}
END_TEST

START_TEST(a_name_has_64_bytes_with_its_suffix_and_no_more)
{
	char name[100];
	struct err err;
	for (int len = 63; len <= 66; len++) {
		snprintf(name, sizeof name, "output/%0*d.rules", len - 6, 0);
		ck_assert_int_eq(gateway_guard_name_ok(name), len <= 64);
		char rule[32];
		snprintf(rule, sizeof rule, "warn a%d /a/\n", len);
		ck_assert_int_eq(set(name, rule, &err), len <= 64 ? 0 : -ENOENT);
	}
	harness_close(&h);
	harness_open(&h);
	char **names = gateway_guard_names(h.g);
	ck_assert(names[0] && names[1] && !names[2]);
	ck_assert_uint_eq(strlen(names[1]) + strlen(names[0]), 2 * 7 + 63 + 64);
	for (size_t i = 0; names[i]; i++)
		free(names[i]);
	free(names);
}
END_TEST

/* ---- in force ---- */

START_TEST(a_good_text_is_in_force_with_the_next_request)
{
	passes("foo bar", "foo bar");
	harness_guard(&h, "input/a.rules", "redact F /foo/\n");
	passes("foo bar", "[F] bar");
	harness_guard(&h, "input/b.rules", "redact B /bar/\n");
	passes("foo bar", "[F] [B]");
	harness_guard(&h, "input/a.rules", "block F /foo/\n");
	passes("foo bar", "!blocked by the input guard F (guards/input/a.rules)");
	harness_guard(&h, "input/a.rules", "# nothing\n");
	passes("foo bar", "foo [B]");
	harness_guard(&h, "input/b.rules", "");
	passes("foo bar", "foo bar");
	names_are("input/a.rules;input/b.rules;");
}
END_TEST

START_TEST(rules_of_answers_are_not_those_of_prompts)
{
	harness_guard(&h, "output/a.rules", "block F /foo/\n");
	passes("foo", "foo");
}
END_TEST

START_TEST(a_text_with_a_fault_changes_nothing_in_force_and_is_what_was_set_last)
{
	struct err err;
	static const char bad[] = "redact F /bar/\nredact G /(/\n";
	harness_guard(&h, "input/a.rules", "redact F /foo/\n");
	ck_assert_int_eq(set("input/a.rules", bad, &err), -EINVAL);
	ck_assert_msg(!strncmp(err.text, "input/a.rules:2:", 16), "%s", err.text);
	passes("foo bar", "[F] bar");
	ck_assert(gateway_guard_is(h.g, "input/a.rules", bad, strlen(bad)));
	ck_assert(!gateway_guard_is(h.g, "input/a.rules", "redact F /foo/\n", 15));
	harness_guard(&h, "input/a.rules", "redact F /bar/\n");
	passes("foo bar", "foo [F]");
	ck_assert(!gateway_guard_is(h.g, "input/a.rules", bad, strlen(bad)));
	ck_assert(!gateway_guard_is(h.g, "input/b.rules", "", 0));
}
END_TEST

START_TEST(a_stage_with_a_file_that_was_never_good_refuses_everything_and_says_why)
{
	struct err err, sentence;
	struct session *s = harness_session(&h, "a", "4");
	int status;
	harness_guard(&h, "input/a.rules", "redact F /foo/\n");
	ck_assert_int_eq(set("input/b.rules", "redact", &err), -EINVAL);
	passes("quite harmless", "!the input guards are closed: guards/input/b.rules has a fault "
				 "and no earlier text "
				 "that was good: input/b.rules:1:7: the rule's name is missing");
	ck_assert_int_eq(harness_say(s, "quite harmless"), -EPERM);
	ck_assert(harness_status(s, "blocked"));
	ck_assert_int_eq(session_setting_set(s, "system", "harmless", 8, &sentence), -EPERM);
	ck_assert_msg(strstr(sentence.text, err.text) != NULL, "%s", sentence.text);
	gateway_guard_remove(h.g, "input/b.rules", false);
	passes("foo", "[F]");
	ck_assert_int_eq(harness_say(s, "quite harmless"), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	session_put(s);
}
END_TEST

START_TEST(closed_output_guards_refuse_the_answer_and_leave_the_prompts_alone)
{
	struct err err;
	struct session *s = harness_session(&h, "a", "4");
	int status;
	ck_assert_int_eq(set("output/b.rules", "block X /\n", &err), -EINVAL);
	passes("foo", "foo");
	ck_assert_int_eq(harness_say(s, "hello"), 0);
	char *text = harness_read(s, &status);
	ck_assert_int_eq(status, -EPERM);
	ck_assert_str_eq(text, "");
	free(text);
	ck_assert(harness_status(s, "blocked"));
	text = harness_view(s, SESSION_ERROR);
	ck_assert_msg(strstr(text, "the output guards are closed: guards/output/b.rules") != NULL,
		"%s", text);
	free(text);
	ck_assert(harness_usage(s, "output_tokens") <= 0);
	harness_guard(&h, "output/b.rules", "block X /\x01/\n");
	ck_assert_int_eq(harness_say(s, "hello"), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	session_put(s);
}
END_TEST

START_TEST(a_moderation_file_that_was_never_good_closes_both_stages)
{
	struct err err;
	struct moderation *m;
	ck_assert_int_eq(set("moderation", "threshold many\n", &err), -EINVAL);
	ck_assert_msg(!strncmp(err.text, "moderation:1:", 13), "%s", err.text);
	for (int stage = 0; stage < 2; stage++) {
		ck_assert_int_eq(
			guards_judge(h.g->guards, (enum guard_stage)stage, &m, &err), -EPERM);
		ck_assert_msg(strstr(err.text, "guards/moderation") != NULL, "%s", err.text);
	}
	harness_guard(&h, "moderation", "model tiny\nstages input\n");
	ck_assert_int_eq(guards_judge(h.g->guards, GUARD_INPUT, &m, &err), 0);
	ck_assert_ptr_nonnull(m);
	moderation_put(m);
	ck_assert_int_eq(guards_judge(h.g->guards, GUARD_OUTPUT, &m, &err), 0);
	ck_assert_ptr_null(m);
	ck_assert_int_eq(set("moderation", "threshold many\n", &err), -EINVAL);
	ck_assert_int_eq(guards_judge(h.g->guards, GUARD_INPUT, &m, &err), 0);
	ck_assert_ptr_nonnull(m);
	moderation_put(m);
	gateway_guard_remove(h.g, "moderation", false);
	ck_assert_int_eq(guards_judge(h.g->guards, GUARD_INPUT, &m, &err), 0);
	ck_assert_ptr_null(m);
}
END_TEST

START_TEST(a_rules_name_stands_in_one_file_of_a_stage_only)
{
	struct err err;
	harness_guard(&h, "input/a.rules", "redact F /foo/\nredact G /goo/\n");
	harness_guard(&h, "output/a.rules", "redact F /foo/\n");
	harness_guard(&h, "input/b.rules", "redact B /bar/\n");
	ck_assert_int_eq(set("input/b.rules", "redact X /x/\n\nredact G /bar/\n", &err), -EINVAL);
	ck_assert_str_eq(err.text, "input/b.rules:3:1: the rule G is in input/a.rules too");
	passes("goo bar x", "[G] [B] x");
	harness_guard(&h, "input/a.rules", "redact F /foo/\n"); /* itself is no other file */
	harness_guard(&h, "input/b.rules", "redact X /x/\n\nredact G /bar/\n");
	passes("goo bar x", "goo [G] [X]");
}
END_TEST

static bool is_ok(void)
{
	char *text = harness_whole(&h, GATEWAY_STATUS);
	bool is = !strcmp(text, "ok\n");
	free(text);
	return is;
}

START_TEST(a_rule_moves_from_file_to_file_in_either_order)
{
	struct err err;
	harness_guard(&h, "input/z.rules", "redact F /foo/\nredact B /bar/\n");
	ck_assert_int_eq(set("input/a.rules", "redact F /foo+/\n", &err), -EINVAL);
	passes("fooo bar", /* it never had a good text */
		"!the input guards are closed: guards/input/a.rules has a fault and no earlier "
		"text "
		"that was good: input/a.rules:1:1: the rule F is in input/z.rules too");
	ck_assert(!is_ok());
	harness_guard(&h, "input/z.rules", "redact B /bar/\n");
	passes("fooo bar", "[F] [B]");
	ck_assert(is_ok());
	view_is(GATEWAY_GUARD_STATUS, "input/a.rules 1 rule\ninput/z.rules 1 rule\n");
	/* And back, with what was good before in force meanwhile, until the other is removed. */
	ck_assert_int_eq(set("input/z.rules", "redact F /fo/\n", &err), -EINVAL);
	passes("fooo bar", "[F] [B]");
	gateway_guard_remove(h.g, "input/a.rules", false);
	passes("fooo bar", "[F]oo bar");
	ck_assert(is_ok());
	/* What came into force late is kept like any other. */
	harness_close(&h);
	harness_open(&h);
	passes("fooo bar", "[F]oo bar");
	names_are("input/z.rules;");
}
END_TEST

START_TEST(files_that_wait_for_one_another_come_into_force_one_after_the_other)
{
	struct err err;
	harness_guard(&h, "input/a.rules", "redact A /a/\n");
	harness_guard(&h, "input/b.rules", "redact B /b/\n");
	harness_guard(&h, "input/c.rules", "redact C /c/\n");
	ck_assert_int_eq(set("input/c.rules", "redact B /c/\n", &err), -EINVAL);
	ck_assert_int_eq(set("input/b.rules", "redact A /b/\n", &err), -EINVAL);
	passes("a b c", "[A] [B] [C]");
	harness_guard(&h, "input/a.rules", "redact C2 /a/\n");
	passes("a b c", "[C2] [A] [B]");
	ck_assert(is_ok());
	/* A text that was replaced meanwhile does not come back. */
	ck_assert_int_eq(set("input/c.rules", "redact A /c/\n", &err), -EINVAL);
	ck_assert_int_eq(set("input/c.rules", "bad\n", &err), -EINVAL);
	harness_guard(&h, "input/b.rules", "");
	passes("a b c", "[C2] b [B]");
	ck_assert(!is_ok());
}
END_TEST

START_TEST(a_renamed_file_is_in_force_all_the_time)
{
	struct err err;
	static const char text[] = "redact F /foo/\n";
	for (int set_first = 0; set_first < 2; set_first++) {
		harness_guard(&h, "input/old.rules", text);
		if (set_first) { /* the front end hears of the new name first */
			ck_assert_int_eq(set("input/new.rules", text, &err), -EINVAL);
			gateway_guard_remove(h.g, "input/old.rules", true);
		} else {
			gateway_guard_remove(h.g, "input/old.rules", true);
			harness_guard(&h, "input/new.rules", text);
		}
		ck_assert(is_ok());
		passes("foo bar", "[F] bar");
		gateway_guard_remove(h.g, "input/old.rules", false);
		passes("foo bar", "[F] bar");
		ck_assert(is_ok());
		names_are("input/new.rules;");
		gateway_guard_remove(h.g, "input/new.rules", false);
	}
}
END_TEST

START_TEST(a_text_of_256_kibibytes_is_taken_and_a_byte_more_is_not)
{
	enum { MOST = 256 << 10 };
	struct err err;
	char *text = malloc(MOST + 2);
	memset(text, '#', MOST + 1);
	text[MOST + 1] = '\0';
	memcpy(text, "redact F /foo/\n", 15);
	text[MOST] = '\0';
	harness_guard(&h, "input/a.rules", text);
	ck_assert(gateway_guard_is(h.g, "input/a.rules", text, MOST));
	passes("foo", "[F]");
	text[MOST] = '#';
	memcpy(text, "redact G ", 9);
	ck_assert_int_eq(set("input/a.rules", text, &err), -EFBIG);
	ck_assert_msg(!strncmp(err.text, "input/a.rules:1:1: ", 19), "%s", err.text);
	passes("foo", "[F]");
	ck_assert_int_eq(set("input/b.rules", text, &err), -EFBIG);
	char *status = harness_whole(&h, GATEWAY_GUARD_STATUS);
	ck_assert_ptr_nonnull(strstr(status, "input/b.rules closed: nothing passes\n"));
	free(status);
	gateway_guard_remove(h.g, "input/b.rules", false);
	text[MOST] = '\0';
	harness_guard(&h, "input/a.rules", text);
	harness_close(&h);
	harness_open(&h);
	passes("foo", "[G]");
	free(text);
}
END_TEST

/* ---- gone ---- */

START_TEST(a_removed_file_is_out_of_force_at_once)
{
	harness_guard(&h, "input/a.rules", "redact F /foo/\n");
	harness_guard(&h, "input/b.rules", "redact B /bar/\n");
	gateway_guard_remove(h.g, "input/a.rules", false);
	passes("foo bar", "foo [B]");
	names_are("input/b.rules;");
	ck_assert(!gateway_guard_is(h.g, "input/a.rules", "redact F /foo/\n", 15));
	gateway_guard_remove(h.g, "input/never.rules", false);
	gateway_guard_remove(h.g, "input/never.rules", true);
	gateway_guard_remove(h.g, "not a name", false);
	harness_close(&h);
	harness_open(&h);
	passes("foo bar", "foo [B]");
}
END_TEST

START_TEST(a_file_renamed_away_stays_in_force_for_two_seconds_unless_it_is_back)
{
	struct err err;
	harness_guard(&h, "input/a.rules", "redact F /foo/\n");
	harness_guard(&h, "input/b.rules", "redact B /bar/\n");
	harness_guard(&h, "input/c.rules", "redact C /car/\n");
	harness_guard(&h, "input/d.rules", "redact D /dar/\n");
	uint64_t from = clock_mono_ns();
	gateway_guard_remove(h.g, "input/a.rules", true);
	gateway_guard_remove(h.g, "input/b.rules", true);
	gateway_guard_remove(h.g, "input/c.rules", true);
	gateway_guard_remove(h.g, "input/d.rules", true);
	gateway_guard_remove(h.g, "input/d.rules", false);
	/* That it is there again has to be said, also with the same text. */
	ck_assert(!gateway_guard_is(h.g, "input/b.rules", "redact B /bar/\n", 15));
	harness_guard(&h, "input/b.rules", "redact B /bar/\n");
	ck_assert_int_eq(set("input/c.rules", "bad\n", &err), -EINVAL);
	names_are("input/a.rules;input/b.rules;input/c.rules;");
	for (bool in_force = true; in_force;) {
		char *text = passed("foo bar car dar");
		in_force = clock_mono_ns() - from < 2000000000; /* it was when that was judged */
		ck_assert(!in_force || !strcmp(text, "[F] [B] [C] dar"));
		free(text);
		usleep(20000);
	}
	char **names = NULL;
	size_t n = 3;
	while (n == 3 && clock_mono_ns() - from < 60000000000) {
		usleep(20000);
		names = gateway_guard_names(h.g);
		for (n = 0; names[n]; n++)
			free(names[n]);
		free(names);
	}
	uint64_t ms = (clock_mono_ns() - from) / 1000000;
	ck_assert_msg(ms >= 2000 && ms < 10000, "%u ms", (unsigned)ms);
	/* Its rules go a moment after its name; a change that comes behind waits for that. */
	gateway_guard_remove(h.g, "input/none.rules", false);
	passes("foo bar car dar", "foo [B] [C] dar");
	harness_close(&h);
	harness_open(&h);
	passes("foo bar car dar", "foo [B] [C] dar");
}
END_TEST

START_TEST(a_gateway_may_end_while_a_file_is_away_and_has_it_again)
{
	harness_guard(&h, "input/a.rules", "redact F /foo/\n");
	gateway_guard_remove(h.g, "input/a.rules", true);
	harness_close(&h);
	harness_open(&h);
	passes("foo", "[F]");
}
END_TEST

/* ---- over a restart ---- */

START_TEST(a_fault_set_after_a_restart_leaves_the_text_that_was_good_before_it)
{
	struct err err;
	struct moderation *m;
	harness_guard(&h, "input/a.rules", "redact F /foo/\n");
	harness_guard(&h, "output/a.rules", "redact F /foo/\n");
	harness_guard(&h, "moderation", "model tiny\nthreshold 0.25\n");
	ck_assert_int_eq(set("input/a.rules", "bad\n", &err), -EINVAL);
	ck_assert_int_eq(set("moderation", "bad\n", &err), -EINVAL);
	for (int i = 0; i < 3; i++) {
		harness_close(&h);
		harness_open(&h);
		passes("foo", "[F]"); /* before anything is set */
		ck_assert_int_eq(set("input/a.rules", "bad\n", &err), -EINVAL);
		ck_assert_int_eq(set("moderation", "bad\n", &err), -EINVAL);
		passes("foo", "[F]");
		ck_assert_int_eq(guards_judge(h.g->guards, GUARD_INPUT, &m, &err), 0);
		ck_assert(m->threshold == 0.25);
		moderation_put(m);
		names_are("input/a.rules;moderation;output/a.rules;");
		ck_assert(!gateway_guard_is(h.g, "output/a.rules", "redact F /foo/\n", 15));
	}
	ck_assert_int_eq(set("input/new.rules", "bad\n", &err), -EINVAL);
	harness_close(&h);
	harness_open(&h);
	passes("foo", "[F]"); /* it never had a good text to be kept */
}
END_TEST

/* ---- what is said of it ---- */

START_TEST(status_lists_the_files_and_their_faults)
{
	struct err err;
	view_is(GATEWAY_GUARD_STATUS, "");
	harness_guard(&h, "input/a.rules", "redact F /foo/\n# no rule\nwarn G /goo/\n");
	harness_guard(&h, "output/z.rules", "");
	view_is(GATEWAY_GUARD_STATUS, "input/a.rules 2 rules\noutput/z.rules 0 rules\n");
	ck_assert_int_eq(set("input/a.rules", "redact F /foo/\nbad F /x/\n", &err), -EINVAL);
	ck_assert_int_eq(set("output/b.rules", "bad F /x/\n", &err), -EINVAL);
	harness_guard(&h, "moderation", "model tiny\n");
	char *text = harness_whole(&h, GATEWAY_GUARD_STATUS);
	const char *a = "input/a.rules 2 rules of an earlier text\ninput/a.rules:2:1: ";
	ck_assert_msg(!strncmp(text, a, strlen(a)), "%s", text);
	ck_assert_msg(strstr(text, "\nmoderation tiny: block at 0.5, ") != NULL, "%s", text);
	ck_assert_msg(
		strstr(text, "\noutput/b.rules closed: nothing passes\noutput/b.rules:1:1: ") !=
			NULL,
		"%s", text);
	free(text);
}
END_TEST

static bool status_has(const char *part)
{
	char *text = harness_whole(&h, GATEWAY_STATUS);
	bool has = strstr(text, part);
	free(text);
	return has;
}

START_TEST(the_gateway_is_degraded_while_a_file_has_a_fault)
{
	struct err err;
	view_is(GATEWAY_STATUS, "ok\n");
	ck_assert_int_eq(set("input/a.rules", "bad F /x/\n", &err), -EINVAL);
	ck_assert(status_has("degraded: guards/input/a.rules:1:1: "));
	harness_guard(&h, "input/a.rules", "redact F /x/\n");
	view_is(GATEWAY_STATUS, "ok\n");
	ck_assert_int_eq(set("input/a.rules", "bad F /x/\n", &err), -EINVAL);
	ck_assert_int_eq(set("moderation", "bad\n", &err), -EINVAL);
	ck_assert(status_has("degraded: guards/input/a.rules:1:1: "));
	ck_assert(status_has("degraded: guards/moderation:1:1: "));
	gateway_guard_remove(h.g, "moderation", false);
	ck_assert(!status_has("moderation"));
	gateway_guard_remove(h.g, "input/a.rules", true);
	ck_assert(status_has("degraded: guards/input/a.rules:1:1: "));
	for (int i = 0; i < 1000 && !status_has("ok\n"); i++)
		usleep(10000);
	view_is(GATEWAY_STATUS, "ok\n");
	view_is(GATEWAY_GUARD_STATUS, "");
}
END_TEST

/* ---- at once ---- */

enum { WRITERS = 8, PROMPTS = 40 };

static atomic_int n_running, n_said, n_changes;

static void wait_until(const atomic_int *n, int least)
{
	while (atomic_load(n) < least)
		usleep(100);
}

static void *submit_many(void *arg)
{
	struct session *s = arg;
	for (int i = 0; i < PROMPTS; i++) {
		int status;
		if (i == PROMPTS / 2)
			wait_until(&n_changes, 1); /* or all might be over before it */
		ck_assert_int_eq(harness_say(s, "foo and bar"), 0);
		atomic_fetch_add(&n_said, 1);
		free(harness_read(s, &status));
		ck_assert_int_eq(status, 0);
	}
	atomic_fetch_sub(&n_running, 1);
	return NULL;
}

START_TEST(a_prompt_is_judged_by_the_old_rules_or_the_new_ones_never_by_some_of_each)
{
	static const char *const texts[] = {
		"redact one /foo/\nredact two /bar/\n", "redact uno /foo/\nredact dos /bar/\n"};
	pthread_t threads[WRITERS];
	struct session *sessions[WRITERS];
	unsigned n_old = 0, n_new = 0;
	char id[8];
	harness_guard(&h, "input/a.rules", texts[0]);
	atomic_store(&n_running, WRITERS);
	for (int i = 0; i < WRITERS; i++) {
		snprintf(id, sizeof id, "s%d", i);
		sessions[i] = harness_session(&h, id, "1");
		ck_assert_int_eq(pthread_create(&threads[i], NULL, submit_many, sessions[i]), 0);
	}
	wait_until(&n_said, 1); /* by the old ones */
	harness_guard(&h, "input/a.rules", texts[1]);
	atomic_store(&n_changes, 1);
	wait_until(&n_said, atomic_load(&n_said) + WRITERS + 1); /* one of them was begun since */
	for (unsigned i = 2; atomic_load(&n_running); i++) {
		harness_guard(&h, "input/a.rules", texts[i % 2]);
		usleep(1000);
	}
	for (int i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
		char *text = harness_view(sessions[i], SESSION_MESSAGES);
		json_t *messages = json_loads(text, 0, NULL), *m;
		size_t at;
		unsigned n = 0;
		json_array_foreach(messages, at, m)
		{
			const char *said = json_string_value(json_object_get(m, "content"));
			if (strcmp(json_string_value(json_object_get(m, "role")), "user") != 0)
				continue;
			bool is_old = !strcmp(said, "[one] and [two]");
			ck_assert_msg(is_old || !strcmp(said, "[uno] and [dos]"), "%s", said);
			n_old += is_old;
			n_new += !is_old;
			n++;
		}
		ck_assert_uint_eq(n, PROMPTS);
		json_decref(messages);
		free(text);
		session_put(sessions[i]);
	}
	ck_assert(n_old && n_new);
}
END_TEST

static void *set_many(void *arg)
{
	const char *file = arg;
	struct err err;
	for (int i = 0; i < 200; i++) {
		switch (i % 4) {
		case 0:
			ck_assert_int_eq(set(file, "redact F /foo/\n", &err), 0);
			break;
		case 1:
			ck_assert_int_eq(set(file, "bad", &err), -EINVAL);
			break;
		case 2:
			gateway_guard_remove(h.g, file, i % 8 == 2);
			break;
		case 3:
			ck_assert_int_eq(set(file, i == 199 ? "redact F /foo/\n" : "", &err), 0);
			break;
		}
	}
	return NULL;
}

START_TEST(files_that_are_set_and_removed_at_once_end_as_they_were_set_last)
{
	static const char *const files[] = {"input/a.rules", "output/a.rules"};
	pthread_t threads[2];
	for (size_t i = 0; i < 2; i++)
		ck_assert_int_eq(
			pthread_create(&threads[i], NULL, set_many, (void *)(uintptr_t)files[i]),
			0);
	for (size_t i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	passes("foo", "[F]");
	view_is(GATEWAY_STATUS, "ok\n");
	view_is(GATEWAY_GUARD_STATUS, "input/a.rules 1 rule\noutput/a.rules 1 rule\n");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("guards");
	TCase *t = tcase_create("guards");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, names_of_rule_files_are_those_of_the_two_stages_and_moderation);
	tcase_add_test(t, a_name_has_64_bytes_with_its_suffix_and_no_more);
	tcase_add_test(t, a_good_text_is_in_force_with_the_next_request);
	tcase_add_test(t, rules_of_answers_are_not_those_of_prompts);
	tcase_add_test(t, a_text_with_a_fault_changes_nothing_in_force_and_is_what_was_set_last);
	tcase_add_test(t, a_stage_with_a_file_that_was_never_good_refuses_everything_and_says_why);
	tcase_add_test(t, closed_output_guards_refuse_the_answer_and_leave_the_prompts_alone);
	tcase_add_test(t, a_moderation_file_that_was_never_good_closes_both_stages);
	tcase_add_test(t, a_rules_name_stands_in_one_file_of_a_stage_only);
	tcase_add_test(t, a_rule_moves_from_file_to_file_in_either_order);
	tcase_add_test(t, files_that_wait_for_one_another_come_into_force_one_after_the_other);
	tcase_add_test(t, a_renamed_file_is_in_force_all_the_time);
	tcase_add_test(t, a_text_of_256_kibibytes_is_taken_and_a_byte_more_is_not);
	tcase_add_test(t, a_removed_file_is_out_of_force_at_once);
	tcase_add_test(t, a_file_renamed_away_stays_in_force_for_two_seconds_unless_it_is_back);
	tcase_add_test(t, a_gateway_may_end_while_a_file_is_away_and_has_it_again);
	tcase_add_test(t, a_fault_set_after_a_restart_leaves_the_text_that_was_good_before_it);
	tcase_add_test(t, status_lists_the_files_and_their_faults);
	tcase_add_test(t, the_gateway_is_degraded_while_a_file_has_a_fault);
	tcase_add_test(
		t, a_prompt_is_judged_by_the_old_rules_or_the_new_ones_never_by_some_of_each);
	tcase_add_test(t, files_that_are_set_and_removed_at_once_end_as_they_were_set_last);
	suite_add_tcase(s, t);
	return run_suite(s);
}
