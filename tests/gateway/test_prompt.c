/* SPDX-License-Identifier: Apache-2.0 */
/* What is a prompt: pieces of a draft, bytes that are no text, and one that is too long. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/gateway/talk_fixture.h"
#include "tests/run_suite.h"

START_TEST(pieces_of_one_draft_are_one_prompt_and_one_newline_is_dropped)
{
	struct session *s = harness_session(&talk, "a", "4");
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
	ck_assert(talk_view_has(s, SESSION_CHAT, "> a\n> b\n> \n\n"));
	ck_assert(harness_usage(s, "session_requests") == 1);
	session_put(s);
}
END_TEST

START_TEST(a_draft_without_a_write_is_no_request)
{
	struct session *s = harness_session(&talk, "a", "4");
	struct draft *d;
	draft_new(&d, s, getuid(), NULL);
	draft_flush(d, NULL);
	draft_commit(d);
	ck_assert(talk_view_is(s, SESSION_STATUS, "idle\n"));
	session_put(s);
}
END_TEST

START_TEST(an_empty_prompt_is_refused_and_the_old_answer_is_not_shown)
{
	struct session *s = harness_session(&talk, "a", "4");
	int status;
	free(talk_ask(s, "hello\n", &status));
	harness_say(s, "\n");
	char *text = harness_read(s, &status);
	ck_assert_int_eq(status, -EINVAL);
	ck_assert_str_eq(text, "");
	ck_assert(talk_view_is(s, SESSION_STATUS, "failed\n"));
	ck_assert(talk_view_is(
		s, SESSION_ERROR, "the prompt is empty: there is nothing but blanks in it\n"));
	free(text);
	session_put(s);
}
END_TEST

START_TEST(utf8_may_be_split_between_writes_at_every_byte)
{
	static const char prompt[] = "h\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80!";
	struct session *s = harness_session(&talk, "a", "2");
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
	struct session *s = harness_session(&talk, "a", "2");
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
	ck_assert(talk_view_is(s, SESSION_STATUS, "failed\n"));
	ck_assert(talk_view_is(s, SESSION_CHAT, ""));
	ck_assert(talk_view_has(s, SESSION_ERROR, "UTF-8"));
	session_put(s);
}
END_TEST

START_TEST(a_prompt_that_ends_inside_a_character_is_refused)
{
	struct session *s = harness_session(&talk, "a", "2");
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
	struct session *s = harness_session(&talk, "a", "2");
	struct draft *d;
	int status;
	draft_new(&d, s, getuid(), NULL);
	ck_assert_int_eq(draft_write(d, "a\0b", 3, NULL), 0);
	draft_commit(d);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert(talk_view_has(s, SESSION_MESSAGES, "\"a\\u0000b\""));
	session_put(s);
}
END_TEST

START_TEST(a_prompt_longer_than_the_context_is_refused_at_the_write)
{
	struct session *s = harness_session(&talk, "a", "2");
	struct draft *d;
	int r = 0;
	char line[1024];
	memset(line, 'q', sizeof line);
	talk_warm(s);
	draft_new(&d, s, getuid(), NULL);
	for (int i = 0; i < 1000 && r == 0; i++)
		r = draft_write(d, line, sizeof line, NULL);
	ck_assert_int_eq(r, -EMSGSIZE);
	draft_commit(d);
	ck_assert(talk_view_has(s, SESSION_ERROR, "context of 2048 tokens"));
	session_put(s);
}
END_TEST

START_TEST(a_prompt_written_byte_by_byte_costs_no_more_than_a_moment)
{
	struct session *s = harness_session(&talk, "a", "2");
	struct draft *d;
	talk_warm(s);
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
	struct session *s = harness_session(&talk, "a", "2");
	int status;
	char *big = malloc(20001);
	for (int i = 0; i < 20000; i++)
		big[i] = (char)('a' + i % 26);
	big[20000] = '\0';
	ck_assert_int_eq(harness_say(s, big), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EMSGSIZE);
	ck_assert(talk_view_is(s, SESSION_CHAT, ""));
	free(big);
	session_put(s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gateway/prompt");
	TCase *t = tcase_create("requests");
	tcase_add_checked_fixture(t, talk_open, talk_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, pieces_of_one_draft_are_one_prompt_and_one_newline_is_dropped);
	tcase_add_test(t, a_draft_without_a_write_is_no_request);
	tcase_add_test(t, an_empty_prompt_is_refused_and_the_old_answer_is_not_shown);
	tcase_add_test(t, utf8_may_be_split_between_writes_at_every_byte);
	tcase_add_test(t, text_that_is_not_utf8_poisons_the_draft);
	tcase_add_test(t, a_prompt_that_ends_inside_a_character_is_refused);
	tcase_add_test(t, a_nul_in_a_prompt_is_a_character_like_others);
	tcase_add_test(t, a_prompt_longer_than_the_context_is_refused_at_the_write);
	tcase_add_test(t, a_prompt_written_byte_by_byte_costs_no_more_than_a_moment);
	tcase_add_test(t, a_prompt_too_long_for_a_model_not_loaded_fails_when_it_is_read);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
