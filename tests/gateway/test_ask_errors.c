/* SPDX-License-Identifier: Apache-2.0 */
/* Why the last thing asked of a model failed: to whom it is said, and for how long. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/ask_errors.h"
#include "gateway/gateway_sessions.h"
#include "tests/run_suite.h"

static struct ask_errors *a;

enum { X = 1, Y, XX }; /* models */

static void setup(void)
{
	a = ask_errors_new();
	ck_assert_ptr_nonnull(a);
}

static void teardown(void)
{
	a = ask_errors_free(a);
	ck_assert_ptr_null(a);
}

static bool says(uint64_t model, uid_t uid, const char *text)
{
	struct buf out = {0};
	uint64_t ns;

	ck_assert_int_eq(ask_errors_render(a, model, uid, &out, &ns), 0);
	ck_assert_int_eq(out.len > 0, ns > 0);
	bool is = out.len == strlen(text) && !memcmp(out.data ? out.data : "", text, out.len);
	buf_free(&out);
	return is;
}

START_TEST(each_user_has_his_own_of_each_model)
{
	ck_assert(says(X, 1, ""));
	ask_errors_note(a, X, 1, "ask", "no route");
	ask_errors_note(a, X, 2, "embed", "too long");
	ask_errors_note(a, Y, 1, "ask", "spent");
	ck_assert(says(X, 1, "ask: no route\n"));
	ck_assert(says(X, 2, "embed: too long\n"));
	ck_assert(says(Y, 1, "ask: spent\n"));
	ck_assert(says(Y, 2, ""));
	ck_assert(says(X, 3, ""));
}
END_TEST

START_TEST(channels_of_no_model_have_their_own_and_no_model_is_one_of_them)
{
	const uint64_t test = ASK_ERRORS_OF(GATEWAY_GUARD_TEST),
		       explain = ASK_ERRORS_OF(GATEWAY_EXPLAIN),
		       lookup = ASK_ERRORS_OF(GATEWAY_LOOKUP);
	ck_assert(test > UINT64_MAX / 2 && explain > UINT64_MAX / 2 && lookup > UINT64_MAX / 2);
	ask_errors_note(a, test, 1, "test", "too long");
	ask_errors_note(a, explain, 1, "explain", "not UTF-8");
	ck_assert(says(test, 1, "test: too long\n"));
	ck_assert(says(explain, 1, "explain: not UTF-8\n"));
	ck_assert(says(lookup, 1, ""));
	ck_assert(says(test, 2, ""));
	ask_errors_note(a, test, 1, "test", NULL);
	ck_assert(says(test, 1, ""));
	ck_assert(says(explain, 1, "explain: not UTF-8\n"));
}
END_TEST

START_TEST(the_last_one_counts_and_an_answer_clears_it)
{
	ask_errors_note(a, X, 1, "ask", "first");
	ask_errors_note(a, X, 1, "embed", "second");
	ck_assert(says(X, 1, "embed: second\n"));
	ask_errors_note(a, X, 2, "ask", NULL);
	ck_assert(says(X, 1, "embed: second\n"));
	ask_errors_note(a, X, 1, "ask", NULL);
	ck_assert(says(X, 1, ""));
}
END_TEST

START_TEST(a_model_that_goes_takes_its_sentences_along)
{
	for (uid_t uid = 0; uid < 9; uid++) {
		ask_errors_note(a, X, uid, "ask", "no");
		ask_errors_note(a, XX, uid, "ask", "no");
	}
	ask_errors_forget(a, X);
	for (uid_t uid = 0; uid < 9; uid++)
		ck_assert(says(X, uid, "") && says(XX, uid, "ask: no\n"));
}
END_TEST

START_TEST(the_oldest_go_when_there_are_too_many)
{
	for (uid_t uid = 0; uid < 1025; uid++)
		ask_errors_note(a, X, uid, "ask", "no");
	ck_assert(says(X, 0, ""));
	ck_assert(says(X, 1, "ask: no\n"));
	ck_assert(says(X, 1024, "ask: no\n"));
}
END_TEST

START_TEST(long_sentence_ends_with_a_whole_character)
{
	char text[1024] = "x";
	struct buf out = {0};

	for (size_t i = 1; i + 3 < sizeof text; i += 2)
		memcpy(text + i, "\xC3\xA9", 3);
	ask_errors_note(a, X, 1, "ask", text);
	ck_assert_int_eq(ask_errors_render(a, X, 1, &out, NULL), 0);
	ck_assert_uint_gt(out.len, 200);
	ck_assert_uint_lt(out.len, 400);
	ck_assert_uint_eq(utf8_valid_prefix(out.data, out.len), out.len);
	buf_free(&out);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ask_errors");
	TCase *t = tcase_create("ask_errors");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, each_user_has_his_own_of_each_model);
	tcase_add_test(t, channels_of_no_model_have_their_own_and_no_model_is_one_of_them);
	tcase_add_test(t, the_last_one_counts_and_an_answer_clears_it);
	tcase_add_test(t, a_model_that_goes_takes_its_sentences_along);
	tcase_add_test(t, the_oldest_go_when_there_are_too_many);
	tcase_add_test(t, long_sentence_ends_with_a_whole_character);
	suite_add_tcase(s, t);
	return run_suite(s);
}
