/* SPDX-License-Identifier: Apache-2.0 */
/* Rule files: their names, and what is in force of them. */
#include "gateway/guards.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gateway/force_fixture.h"
#include "tests/run_suite.h"

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
		ck_assert_int_eq(force_set(bad[i], "", &err), -ENOENT);
		ck_assert(*err.text);
	}
	force_names_are("");
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
		ck_assert_int_eq(force_set(name, rule, &err), len <= 64 ? 0 : -ENOENT);
	}
	harness_close(&force_h);
	harness_open(&force_h);
	char **names = gateway_guard_names(force_h.g);
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
	force_passes("foo bar", "foo bar");
	harness_guard(&force_h, "input/a.rules", "redact F /foo/\n");
	force_passes("foo bar", "[F] bar");
	harness_guard(&force_h, "input/b.rules", "redact B /bar/\n");
	force_passes("foo bar", "[F] [B]");
	harness_guard(&force_h, "input/a.rules", "block F /foo/\n");
	force_passes("foo bar", "!blocked by the input guard F (guards/input/a.rules)");
	harness_guard(&force_h, "input/a.rules", "# nothing\n");
	force_passes("foo bar", "foo [B]");
	harness_guard(&force_h, "input/b.rules", "");
	force_passes("foo bar", "foo bar");
	force_names_are("input/a.rules;input/b.rules;");
}
END_TEST

START_TEST(rules_of_answers_are_not_those_of_prompts)
{
	harness_guard(&force_h, "output/a.rules", "block F /foo/\n");
	force_passes("foo", "foo");
}
END_TEST

START_TEST(a_text_with_a_fault_changes_nothing_in_force_and_is_what_was_set_last)
{
	struct err err;
	static const char bad[] = "redact F /bar/\nredact G /(/\n";
	harness_guard(&force_h, "input/a.rules", "redact F /foo/\n");
	ck_assert_int_eq(force_set("input/a.rules", bad, &err), -EINVAL);
	ck_assert_msg(!strncmp(err.text, "input/a.rules:2:", 16), "%s", err.text);
	force_passes("foo bar", "[F] bar");
	ck_assert(gateway_guard_is(force_h.g, "input/a.rules", bad, strlen(bad)));
	ck_assert(!gateway_guard_is(force_h.g, "input/a.rules", "redact F /foo/\n", 15));
	harness_guard(&force_h, "input/a.rules", "redact F /bar/\n");
	force_passes("foo bar", "foo [F]");
	ck_assert(!gateway_guard_is(force_h.g, "input/a.rules", bad, strlen(bad)));
	ck_assert(!gateway_guard_is(force_h.g, "input/b.rules", "", 0));
}
END_TEST

START_TEST(a_stage_with_a_file_that_was_never_good_refuses_everything_and_says_why)
{
	struct err err, sentence;
	struct session *s = harness_session(&force_h, "a", "4");
	int status;
	harness_guard(&force_h, "input/a.rules", "redact F /foo/\n");
	ck_assert_int_eq(force_set("input/b.rules", "redact", &err), -EINVAL);
	force_passes("quite harmless",
		"!the input guards are closed: guards/input/b.rules has a fault "
		"and no earlier text "
		"that was good: input/b.rules:1:7: the rule's name is missing");
	ck_assert_int_eq(harness_say(s, "quite harmless"), -EPERM);
	ck_assert(harness_status(s, "blocked"));
	ck_assert_int_eq(session_setting_set(s, "system", "harmless", 8, &sentence), -EPERM);
	ck_assert_msg(strstr(sentence.text, err.text) != NULL, "%s", sentence.text);
	gateway_guard_remove(force_h.g, "input/b.rules", false);
	force_passes("foo", "[F]");
	ck_assert_int_eq(harness_say(s, "quite harmless"), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	session_put(s);
}
END_TEST

START_TEST(closed_output_guards_refuse_the_answer_and_leave_the_prompts_alone)
{
	struct err err;
	struct session *s = harness_session(&force_h, "a", "4");
	int status;
	ck_assert_int_eq(force_set("output/b.rules", "block X /\n", &err), -EINVAL);
	force_passes("foo", "foo");
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
	harness_guard(&force_h, "output/b.rules", "block X /\\x01/\n");
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
	ck_assert_int_eq(force_set("moderation", "threshold many\n", &err), -EINVAL);
	ck_assert_msg(!strncmp(err.text, "moderation:1:", 13), "%s", err.text);
	for (int stage = 0; stage < 2; stage++) {
		ck_assert_int_eq(
			guards_judge(force_h.g->guards, (enum guard_stage)stage, &m, &err), -EPERM);
		ck_assert_msg(strstr(err.text, "guards/moderation") != NULL, "%s", err.text);
	}
	harness_guard(&force_h, "moderation", "model tiny\nstages input\n");
	ck_assert_int_eq(guards_judge(force_h.g->guards, GUARD_INPUT, &m, &err), 0);
	ck_assert_ptr_nonnull(m);
	moderation_put(m);
	ck_assert_int_eq(guards_judge(force_h.g->guards, GUARD_OUTPUT, &m, &err), 0);
	ck_assert_ptr_null(m);
	ck_assert_int_eq(force_set("moderation", "threshold many\n", &err), -EINVAL);
	ck_assert_int_eq(guards_judge(force_h.g->guards, GUARD_INPUT, &m, &err), 0);
	ck_assert_ptr_nonnull(m);
	moderation_put(m);
	gateway_guard_remove(force_h.g, "moderation", false);
	ck_assert_int_eq(guards_judge(force_h.g->guards, GUARD_INPUT, &m, &err), 0);
	ck_assert_ptr_null(m);
}
END_TEST

START_TEST(a_rules_name_stands_in_one_file_of_a_stage_only)
{
	struct err err;
	harness_guard(&force_h, "input/a.rules", "redact F /foo/\nredact G /goo/\n");
	harness_guard(&force_h, "output/a.rules", "redact F /foo/\n");
	harness_guard(&force_h, "input/b.rules", "redact B /bar/\n");
	ck_assert_int_eq(
		force_set("input/b.rules", "redact X /x/\n\nredact G /bar/\n", &err), -EINVAL);
	ck_assert_str_eq(err.text, "input/b.rules:3:1: the rule G is in input/a.rules too");
	force_passes("goo bar x", "[G] [B] x");
	harness_guard(&force_h, "input/a.rules", "redact F /foo/\n"); /* itself is no other file */
	harness_guard(&force_h, "input/b.rules", "redact X /x/\n\nredact G /bar/\n");
	force_passes("goo bar x", "goo [G] [X]");
}
END_TEST

static bool is_ok(void)
{
	char *text = harness_whole(&force_h, GATEWAY_STATUS);
	bool is = !strcmp(text, "ok\n");
	free(text);
	return is;
}

START_TEST(a_rule_moves_from_file_to_file_in_either_order)
{
	struct err err;
	harness_guard(&force_h, "input/z.rules", "redact F /foo/\nredact B /bar/\n");
	ck_assert_int_eq(force_set("input/a.rules", "redact F /foo+/\n", &err), -EINVAL);
	force_passes("fooo bar", /* it never had a good text */
		"!the input guards are closed: guards/input/a.rules has a fault and no earlier "
		"text "
		"that was good: input/a.rules:1:1: the rule F is in input/z.rules too");
	ck_assert(!is_ok());
	harness_guard(&force_h, "input/z.rules", "redact B /bar/\n");
	force_passes("fooo bar", "[F] [B]");
	ck_assert(is_ok());
	force_view_is(GATEWAY_GUARD_STATUS, "input/a.rules 1 rule\ninput/z.rules 1 rule\n");
	/* And back, with what was good before in force meanwhile, until the other is removed. */
	ck_assert_int_eq(force_set("input/z.rules", "redact F /fo/\n", &err), -EINVAL);
	force_passes("fooo bar", "[F] [B]");
	gateway_guard_remove(force_h.g, "input/a.rules", false);
	force_passes("fooo bar", "[F]oo bar");
	ck_assert(is_ok());
	/* What came into force late is kept like any other. */
	harness_close(&force_h);
	harness_open(&force_h);
	force_passes("fooo bar", "[F]oo bar");
	force_names_are("input/z.rules;");
}
END_TEST

START_TEST(files_that_wait_for_one_another_come_into_force_one_after_the_other)
{
	struct err err;
	harness_guard(&force_h, "input/a.rules", "redact A /a/\n");
	harness_guard(&force_h, "input/b.rules", "redact B /b/\n");
	harness_guard(&force_h, "input/c.rules", "redact C /c/\n");
	ck_assert_int_eq(force_set("input/c.rules", "redact B /c/\n", &err), -EINVAL);
	ck_assert_int_eq(force_set("input/b.rules", "redact A /b/\n", &err), -EINVAL);
	force_passes("a b c", "[A] [B] [C]");
	harness_guard(&force_h, "input/a.rules", "redact C2 /a/\n");
	force_passes("a b c", "[C2] [A] [B]");
	ck_assert(is_ok());
	/* A text that was replaced meanwhile does not come back. */
	ck_assert_int_eq(force_set("input/c.rules", "redact A /c/\n", &err), -EINVAL);
	ck_assert_int_eq(force_set("input/c.rules", "bad\n", &err), -EINVAL);
	harness_guard(&force_h, "input/b.rules", "");
	force_passes("a b c", "[C2] b [B]");
	ck_assert(!is_ok());
}
END_TEST

START_TEST(a_renamed_file_is_in_force_all_the_time)
{
	struct err err;
	static const char text[] = "redact F /foo/\n";
	for (int set_first = 0; set_first < 2; set_first++) {
		harness_guard(&force_h, "input/old.rules", text);
		if (set_first) { /* the front end hears of the new name first */
			ck_assert_int_eq(force_set("input/new.rules", text, &err), -EINVAL);
			gateway_guard_remove(force_h.g, "input/old.rules", true);
		} else {
			gateway_guard_remove(force_h.g, "input/old.rules", true);
			harness_guard(&force_h, "input/new.rules", text);
		}
		ck_assert(is_ok());
		force_passes("foo bar", "[F] bar");
		gateway_guard_remove(force_h.g, "input/old.rules", false);
		force_passes("foo bar", "[F] bar");
		ck_assert(is_ok());
		force_names_are("input/new.rules;");
		gateway_guard_remove(force_h.g, "input/new.rules", false);
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
	harness_guard(&force_h, "input/a.rules", text);
	ck_assert(gateway_guard_is(force_h.g, "input/a.rules", text, MOST));
	force_passes("foo", "[F]");
	text[MOST] = '#';
	memcpy(text, "redact G ", 9);
	ck_assert_int_eq(force_set("input/a.rules", text, &err), -EFBIG);
	ck_assert_msg(!strncmp(err.text, "input/a.rules:1:1: ", 19), "%s", err.text);
	force_passes("foo", "[F]");
	ck_assert_int_eq(force_set("input/b.rules", text, &err), -EFBIG);
	char *status = harness_whole(&force_h, GATEWAY_GUARD_STATUS);
	ck_assert_ptr_nonnull(strstr(status, "input/b.rules closed: nothing passes\n"));
	free(status);
	gateway_guard_remove(force_h.g, "input/b.rules", false);
	text[MOST] = '\0';
	harness_guard(&force_h, "input/a.rules", text);
	harness_close(&force_h);
	harness_open(&force_h);
	force_passes("foo", "[G]");
	free(text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("guards");
	TCase *t = tcase_create("guards");
	tcase_add_checked_fixture(t, force_open, force_close);
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
	suite_add_tcase(s, t);
	return run_suite(s);
}
