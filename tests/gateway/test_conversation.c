/* SPDX-License-Identifier: Apache-2.0 */
/* Turns, their stored form, and the two texts a person reads. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/conversation.h"
#include "gateway/messages.h"
#include "tests/run_suite.h"

static void add(struct conversation *c, const char *user, const char *assistant,
	enum turn_state state, const char *error)
{
	struct text *u = text_new(user, strlen(user));
	struct text *a = assistant ? text_new(assistant, strlen(assistant)) : NULL;
	struct text *e = error ? text_new(error, strlen(error)) : NULL;
	ck_assert_int_eq(conversation_add(c, u, NULL, state, a, e, true), 0);
	text_put(u);
	text_put(a);
	text_put(e);
}

static void fill(struct conversation *c)
{
	add(c, "one\ntwo", "answer", TURN_DONE, NULL);
	add(c, "three\n", "part", TURN_CANCELLED, NULL);
	add(c, "", NULL, TURN_FAILED, "no memory");
	add(c, "again", NULL, TURN_OPEN, NULL);
}

START_TEST(chat_is_prompts_behind_a_mark_and_answers_as_they_are)
{
	struct conversation c = {0};
	struct buf out = {0};
	fill(&c);
	ck_assert_int_eq(conversation_render_chat(&c, &out), 0);
	ck_assert_str_eq(out.data, "> one\n> two\n\nanswer\n\n"
				   "> three\n> \n\npart\n\n[cancelled]\n\n"
				   "> \n\n[failed: no memory]\n\n"
				   "> again\n\n");
	buf_free(&out);
	conversation_free(&c);
}
END_TEST

START_TEST(the_length_of_chat_is_exact_after_every_change)
{
	struct conversation c = {0};
	fill(&c);
	while (c.n) {
		struct buf out = {0};
		ck_assert_int_eq(conversation_render_chat(&c, &out), 0);
		ck_assert_uint_eq(out.len, conversation_chat_bytes(&c));
		buf_free(&out);
		conversation_drop_last(&c);
	}
	ck_assert_uint_eq(conversation_chat_bytes(&c), 0);
	conversation_free(&c);
}
END_TEST

/* A prompt takes the place of the last turn. */
static void replace_last(struct conversation *c, const char *user, const char *answer)
{
	struct turn taken;
	conversation_take_last(c, &taken);
	add(c, user, answer, TURN_DONE, NULL);
	conversation_stand_in(c, &taken);
	conversation_turn_end(&taken);
}

static void expect_chat(const struct conversation *c, const char *want)
{
	struct buf out = {0};
	ck_assert_int_eq(conversation_render_chat(c, &out), 0);
	ck_assert_str_eq(out.len ? out.data : "", want);
	ck_assert_uint_eq(conversation_chat_bytes(c), strlen(want));
	buf_free(&out);
}

START_TEST(chat_goes_on_to_show_turns_whose_place_was_taken_and_nothing_else_does)
{
	struct conversation c = {0}, copy = {0};
	struct buf messages = {0};
	struct turn taken;
	add(&c, "a", "b", TURN_DONE, NULL);
	add(&c, "one", NULL, TURN_FAILED, "no");
	replace_last(&c, "two", "part");
	replace_last(&c, "three", "whole");
	static const char want[] = "> a\n\nb\n\n> one\n\n[failed: no]\n\n> two\n\npart\n\n"
				   "> three\n\nwhole\n\n";
	expect_chat(&c, want);
	ck_assert_uint_eq(c.settled_bytes, strlen("> a\n\nb\n\n> three\n\nwhole\n\n"));
	ck_assert_int_eq(conversation_copy(&copy, &c), 0);
	expect_chat(&copy, want);
	conversation_render_messages(&c, "", 0, &messages);
	ck_assert_ptr_null(strstr(messages.data, "one"));
	ck_assert_ptr_null(strstr(messages.data, "two"));
	conversation_take_last(&c, &taken);
	expect_chat(&c, "> a\n\nb\n\n");
	conversation_put_back(&c, &taken);
	expect_chat(&c, want);
	conversation_clear(&c);
	expect_chat(&c, "");
	buf_free(&messages);
	conversation_free(&c);
	conversation_free(&copy);
}
END_TEST

START_TEST(what_chat_shows_of_a_place_has_a_ceiling)
{
	struct conversation c = {0};
	char *big = calloc(1, CONVERSATION_BEFORE_MAX / 2 + 1);
	memset(big, 'x', CONVERSATION_BEFORE_MAX / 2);
	add(&c, "first", NULL, TURN_FAILED, "no");
	for (int i = 0; i < 8; i++) {
		replace_last(&c, "again", big);
		ck_assert_uint_le(c.before_bytes, CONVERSATION_BEFORE_MAX);
		ck_assert_uint_gt(c.before_bytes, i ? CONVERSATION_BEFORE_MAX / 2 : 0);
	}
	free(big);
	conversation_free(&c);
}
END_TEST

START_TEST(a_stored_turn_comes_back_as_it_was)
{
	struct conversation c = {0}, back = {0};
	fill(&c);
	replace_last(&c, "instead", "of it");
	for (size_t i = 0; i < c.n; i++) {
		struct buf stored = {0};
		ck_assert_int_eq(conversation_encode(&c.turns[i], &stored), 0);
		ck_assert_int_eq(
			conversation_decode(&back, c.turns[i].serial, stored.data, stored.len), 0);
		buf_free(&stored);
	}
	struct buf one = {0}, two = {0};
	conversation_render_chat(&c, &one);
	conversation_render_chat(&back, &two);
	ck_assert_str_eq(one.data, two.data);
	ck_assert_uint_eq(back.next_serial, c.next_serial);
	buf_free(&one);
	buf_free(&two);
	conversation_free(&c);
	conversation_free(&back);
}
END_TEST

START_TEST(a_damaged_stored_turn_is_refused_wherever_it_is_cut_or_changed)
{
	struct conversation c = {0};
	struct buf stored = {0};
	fill(&c);
	conversation_encode(&c.turns[0], &stored);
	for (size_t n = 0; n < stored.len; n++) {
		char *cut = malloc(n + 1);
		memcpy(cut, stored.data, n);
		ck_assert_int_eq(conversation_decode(&c, 99, cut, n), -EBADMSG);
		free(cut);
	}
	size_t header = (size_t)(strchr(stored.data, '\n') - stored.data);
	for (size_t i = 0; i <= header; i++) {
		char *bad = malloc(stored.len);
		memcpy(bad, stored.data, stored.len);
		bad[i] = 'x';
		ck_assert_int_eq(conversation_decode(&c, 99, bad, stored.len), -EBADMSG);
		free(bad);
	}
	buf_free(&stored);
	conversation_free(&c);
}
END_TEST

START_TEST(a_turn_stored_under_way_comes_back_failed)
{
	static const char stored[] = "R1 2 3 0 - 1 0 0 0 0 0 0 0 0 0\nhiabc";
	struct conversation c = {0};
	ck_assert_int_eq(conversation_decode(&c, 7, stored, sizeof stored - 1), 0);
	struct turn *t = conversation_last(&c);
	ck_assert_int_eq(t->state, TURN_FAILED);
	ck_assert_str_eq(t->error->bytes, "daemon restarted");
	ck_assert_str_eq(t->assistant->bytes, "abc");
	ck_assert_uint_eq(c.next_serial, 8);
	conversation_free(&c);
}
END_TEST

static int parse(const char *json, struct messages *m, struct err *err)
{
	*m = (struct messages){.turns = {.next_serial = 1}};
	return messages_parse(m, json, strlen(json), err);
}

START_TEST(messages_written_and_read_are_the_same)
{
	struct conversation c = {0};
	struct messages m;
	struct err err = {0};
	struct buf one = {0}, two = {0};
	add(&c, "line\n\"quoted\" \\ \x01 \xF0\x9F\x98\x80", "a\tb", TURN_DONE, NULL);
	add(&c, "next", "", TURN_DONE, NULL);
	add(&c, "last", NULL, TURN_OPEN, NULL);
	conversation_render_messages(&c, "be brief", 8, &one);
	ck_assert_msg(parse(one.data, &m, &err) == 0, "%s", err.text);
	conversation_render_messages(&m.turns, m.system->bytes, m.system->len, &two);
	ck_assert_str_eq(one.data, two.data);
	messages_free(&m);
	conversation_free(&c);
	buf_free(&one);
	buf_free(&two);
}
END_TEST

START_TEST(a_bad_message_list_is_refused_with_its_position)
{
	static const char *const bad[][2] = {
		{"", "line 1"},
		{"[", "line 1"},
		{"[\n\n}", "line 3"},
		{"{}", "array"},
		{"[1]", "message 1"},
		{"[{\"role\": \"user\"}]", "message 1"},
		{"[{\"role\": \"user\", \"content\": 1}]", "message 1"},
		{"[{\"role\": \"assistant\", \"content\": \"x\"}]", "message 1"},
		{"[{\"role\": \"tool\", \"content\": \"x\"}]",
			"message 1: its role must be system or user"},
		{"[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"user\", \"content\": "
		 "\"b\"}]",
			"message 2: its role must be assistant: a system message may come first, "
			"then user and assistant alternate"},
		{"[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"system\", \"content\": "
		 "\"b\"}]",
			"message 2: its role must be assistant"},
		{"[{\"role\": \"system\", \"content\": \"a\"}, {\"role\": \"system\", "
		 "\"content\": \"b\"}]",
			"message 2: its role must be user: a system message may come first, then "
			"user "
			"and assistant alternate"},
		{"[{\"role\": \"user\", \"role\": \"user\", \"content\": \"a\"}]", "line 1"},
		{"[] x", "line 1"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct messages m;
		struct err err = {0};
		ck_assert_msg(parse(bad[i][0], &m, &err) == -EINVAL, "%s", bad[i][0]);
		ck_assert_msg(strstr(err.text, bad[i][1]) != NULL, "%s: %s", bad[i][0], err.text);
		ck_assert_msg(!strncmp(err.text, "messages.json: ", 15), "%s", err.text);
		messages_free(&m);
	}
	struct messages m;
	struct err err = {0};
	ck_assert_int_eq(parse("[{\"role\": \"user\", \"content\": \"\xFF\"}]", &m, &err), -EILSEQ);
	messages_free(&m);
}
END_TEST

START_TEST(what_more_text_can_make_a_list_of_messages_is_not_hopeless)
{
	static const char good[] = "[\n{\n\"role\"\n:\n\"user\"\n,\n\"content\"\n:\n\"\u00e9\"\n,\n"
				   "\"n\"\n:\n[\n1.5e3\n,\ntrue\n,\nnull\n]\n}\n]\n";
	for (size_t n = 0; n <= strlen(good); n++)
		if (n == 0 || good[n - 1] == '\n')
			ck_assert_msg(!messages_is_hopeless(good, n), "%.*s", (int)n, good);
	static const char *const bad[] = {"[,\n", "[{\"role\" \"user\"\n", "[{1: 2}\n", "]\n",
		"[{\"role\": \"us\n", "[tru\n", "[{\"a\": 1, \"a\": 2\n", "[] x\n", "[\"\xFF\"\n",
		"[}\n"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(messages_is_hopeless(bad[i], strlen(bad[i])), "%s", bad[i]);
}
END_TEST

START_TEST(an_empty_list_and_one_with_only_a_system_message_are_fine)
{
	struct messages m;
	struct err err;
	ck_assert_int_eq(parse("[]", &m, &err), 0);
	ck_assert_uint_eq(m.turns.n, 0);
	messages_free(&m);
	ck_assert_int_eq(parse("[{\"role\":\"system\",\"content\":\"s\"}]", &m, &err), 0);
	ck_assert_uint_eq(m.turns.n, 0);
	ck_assert_str_eq(m.system->bytes, "s");
	messages_free(&m);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("conversation");
	TCase *t = tcase_create("conversation");
	tcase_add_test(t, chat_is_prompts_behind_a_mark_and_answers_as_they_are);
	tcase_add_test(t, the_length_of_chat_is_exact_after_every_change);
	tcase_add_test(t, chat_goes_on_to_show_turns_whose_place_was_taken_and_nothing_else_does);
	tcase_add_test(t, what_chat_shows_of_a_place_has_a_ceiling);
	tcase_add_test(t, a_stored_turn_comes_back_as_it_was);
	tcase_add_test(t, a_damaged_stored_turn_is_refused_wherever_it_is_cut_or_changed);
	tcase_add_test(t, a_turn_stored_under_way_comes_back_failed);
	tcase_add_test(t, messages_written_and_read_are_the_same);
	tcase_add_test(t, a_bad_message_list_is_refused_with_its_position);
	tcase_add_test(t, what_more_text_can_make_a_list_of_messages_is_not_hopeless);
	tcase_add_test(t, an_empty_list_and_one_with_only_a_system_message_are_fine);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
