/* SPDX-License-Identifier: Apache-2.0 */
/* The life of requests, with a real engine behind it. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

START_TEST(a_prompt_is_answered_and_the_answer_can_be_read_again)
{
	struct session *s = harness_session(&h, "a", "16");
	int status;
	ck_assert_int_eq(harness_say(s, "hello\n"), 0);
	char *one = harness_read(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert(*one);
	ck_assert(harness_status(s, "done"));
	char *two = harness_read(s, &status);
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
	char *text = harness_read(s, &status), *error = harness_view(s, SESSION_ERROR);
	ck_assert_str_eq(text, "");
	ck_assert_int_eq(status, 0);
	ck_assert_str_eq(error, "");
	ck_assert(harness_status(s, "idle"));
	free(text);
	free(error);
	session_put(s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gateway");
	TCase *t = tcase_create("requests");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_prompt_is_answered_and_the_answer_can_be_read_again);
	tcase_add_test(t, the_same_prompt_in_two_sessions_gives_the_same_answer);
	tcase_add_test(t, where_nothing_was_ever_asked_the_answer_is_empty_and_the_status_idle);
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
