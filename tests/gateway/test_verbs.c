/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of a `ctl`: what is read, what is said of what is not, and what is known early. */
#include "gateway/verbs.h"

#include <check.h>
#include <errno.h>
#include <string.h>

#include "tests/run_suite.h"

enum { STOP, MOVE, SAY };

static const struct verbs_row rows[] = {
	[STOP] = {.name = "stop"},
	[MOVE] = {"move", "PLACE", "the PLACE is missing, as in: move home"},
	[SAY] = {"say", "WORDS", NULL},
	{0},
};

static const struct verbs_row one[] = {{"flush", "USER", NULL}, {0}};

static int find(const char *line, struct verbs_argument *a, struct err *err)
{
	return verbs_find(rows, line, strlen(line), a, err);
}

static bool is(const struct verbs_argument *a, const char *text)
{
	return a->len == strlen(text) && !memcmp(a->text, text, a->len);
}

START_TEST(a_line_is_a_verb_and_what_it_takes)
{
	struct verbs_argument a;
	ck_assert_int_eq(find("stop", &a, NULL), STOP);
	ck_assert(is(&a, ""));
	ck_assert_int_eq(find("move far away", &a, NULL), MOVE);
	ck_assert(is(&a, "far away"));
	ck_assert_int_eq(find("say", &a, NULL), SAY);
	ck_assert(is(&a, ""));
	ck_assert_int_eq(find("say  a", &a, NULL), SAY);
	ck_assert(is(&a, " a"));
}
END_TEST

START_TEST(what_is_no_verb_is_quoted_with_those_there_are)
{
	static const char *const bad[] = {
		"", "sto", "stopp", "stop now", "Stop", " stop", "moveme"};
	struct verbs_argument a;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct err err;
		char want[160];
		snprintf(want, sizeof want,
			"%s: not a verb; they are stop, move PLACE, say and say WORDS", bad[i]);
		ck_assert_int_eq(find(bad[i], &a, &err), -EINVAL);
		ck_assert_str_eq(err.text, want);
	}
	struct err err;
	ck_assert_int_eq(verbs_find(one, "x", 1, &a, &err), -EINVAL);
	ck_assert_str_eq(err.text, "x: not a verb; they are flush and flush USER");
}
END_TEST

START_TEST(a_long_line_is_quoted_by_its_beginning)
{
	char line[4096];
	struct verbs_argument a;
	struct err err;
	memset(line, 'x', sizeof line);
	ck_assert_int_eq(verbs_find(rows, line, sizeof line, &a, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "xx: not a verb; they are stop"));
	ck_assert_ptr_nonnull(strstr(err.text, "say WORDS"));
}
END_TEST

START_TEST(what_a_verb_lacks_is_said)
{
	struct verbs_argument a;
	struct err err;
	ck_assert_int_eq(find("move", &a, &err), -EINVAL);
	ck_assert_str_eq(err.text, "move: the PLACE is missing, as in: move home");
	err.text[0] = '\0';
	ck_assert_int_eq(find("move ", &a, &err), -EINVAL);
	ck_assert_str_eq(err.text, "move: the PLACE is missing, as in: move home");
}
END_TEST

START_TEST(only_what_begins_as_no_verb_is_hopeless)
{
	static const char *const good[] = {"stop\r", "move home", "say", "say a b"};
	static const char *const bad[] = {"x", "stoop", "stop!", "mov home", "sayy"};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		for (size_t n = 0; n <= strlen(good[i]); n++)
			ck_assert_msg(!verbs_is_hopeless(rows, good[i], n), "%s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(verbs_is_hopeless(rows, bad[i], strlen(bad[i])), "%s", bad[i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gateway/verbs");
	TCase *t = tcase_create("verbs");
	tcase_add_test(t, a_line_is_a_verb_and_what_it_takes);
	tcase_add_test(t, what_is_no_verb_is_quoted_with_those_there_are);
	tcase_add_test(t, a_long_line_is_quoted_by_its_beginning);
	tcase_add_test(t, what_a_verb_lacks_is_said);
	tcase_add_test(t, only_what_begins_as_no_verb_is_hopeless);
	suite_add_tcase(s, t);
	return run_suite(s);
}
