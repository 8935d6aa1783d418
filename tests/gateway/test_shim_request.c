/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests: what is taken of them. What is refused is in test_shim_request_refused.c. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/settings.h"
#include "gateway/shim_request.h"
#include "tests/run_suite.h"

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define SAY(role, content) "{\"role\":\"" role "\",\"content\":\"" content "\"}"
#define WITH(members) "{" HI "," members "}"

static struct shim_ask ask;
static struct shim_embed embed;
static struct shim_fault fault;

static void forget(void)
{
	shim_ask_free(&ask);
	shim_embed_free(&embed);
}

static void take_chat(const char *json)
{
	shim_ask_free(&ask);
	int r = shim_request_chat(&ask, json, strlen(json), &fault);
	ck_assert_msg(r == 0, "%s: %s", json, fault.err.text);
	ck_assert(!*fault.err.text && !*fault.param && !fault.code);
	ck_assert_uint_eq(ask.n_prompts, 1);
}

static void take_completion(const char *json)
{
	shim_ask_free(&ask);
	int r = shim_request_completion(&ask, json, strlen(json), &fault);
	ck_assert_msg(r == 0, "%s: %s", json, fault.err.text);
}

static void take_embed(const char *json)
{
	shim_embed_free(&embed);
	int r = shim_request_embed(&embed, json, strlen(json), &fault);
	ck_assert_msg(r == 0, "%s: %s", json, fault.err.text);
}

static void assert_text(const struct shim_text *t, const char *want)
{
	ck_assert_str_eq(t->text, want);
	ck_assert_uint_eq(t->len, strlen(want));
}

static void assert_turn(size_t i, enum session_role role, const char *want)
{
	ck_assert_uint_lt(i, ask.n_turns);
	ck_assert_int_eq(ask.turns[i].role, role);
	ck_assert_str_eq(ask.turns[i].text, want);
	ck_assert_uint_eq(ask.turns[i].len, strlen(want));
}

/* NULL: it was not set. */
static const char *setting(const char *file)
{
	const char *value = NULL;
	for (size_t i = 0; i < ask.n_settings; i++)
		if (!strcmp(ask.settings[i].file, file)) {
			ck_assert_msg(!value, "%s is set twice", file);
			value = ask.settings[i].value;
		}
	return value;
}

/* ---- what is said ---- */

START_TEST(one_message_is_the_prompt)
{
	take_chat("{\"model\":\"m\"," HI "}");
	ck_assert_str_eq(ask.model, "m");
	ck_assert_uint_eq(ask.n_turns, 0);
	ck_assert_uint_eq(ask.n_settings, 0);
	ck_assert_uint_eq(ask.n, 1);
	ck_assert(!ask.stream && !ask.stream_usage && !ask.echo);
	assert_text(ask.prompts, "hi");
}
END_TEST

START_TEST(a_model_that_is_not_named_is_the_default)
{
	static const char *const bodies[] = {
		"{" HI "}", WITH("\"model\":null"), WITH("\"model\":\"\"")};
	for (size_t i = 0; i < 3; i++) {
		take_chat(bodies[i]);
		ck_assert_str_eq(ask.model, "default");
	}
}
END_TEST

START_TEST(a_conversation_keeps_its_turns)
{
	take_chat("{\"messages\":[" SAY("system", "S") "," SAY("user", "a") "," SAY("assistant",
		"b") "," SAY("user", "c") "," SAY("assistant", "") "," SAY("user", "d") "]}");
	ck_assert_uint_eq(ask.n_turns, 5);
	assert_turn(0, SESSION_SYSTEM, "S");
	assert_turn(1, SESSION_USER, "a");
	assert_turn(2, SESSION_ASSISTANT, "b");
	assert_turn(3, SESSION_USER, "c");
	assert_turn(4, SESSION_ASSISTANT, "");
	assert_text(ask.prompts, "d");
}
END_TEST

START_TEST(system_messages_are_gathered_wherever_they_stand)
{
	take_chat("{\"messages\":[" SAY("system", "S") "," SAY("developer", "T") "," SAY("user",
		"a") "," SAY("system", "U") "," SAY("user", "b") "," SAY("system", "") "]}");
	ck_assert_uint_eq(ask.n_turns, 1);
	assert_turn(0, SESSION_SYSTEM, "S\n\nT\n\nU");
	assert_text(ask.prompts, "a\n\nb");
	take_chat("{\"messages\":[" SAY("user", "a") "," SAY("system", "") "]}");
	ck_assert_uint_eq(ask.n_turns, 0);
}
END_TEST

START_TEST(neighbours_of_a_role_are_one_message)
{
	take_chat("{\"messages\":[" SAY("user", "a") "," SAY("user", "") "," SAY(
		"user", "b") "," SAY("assistant", "") "," SAY("assistant", "c") "," SAY("assistant",
		"d") "," SAY("user", "e") "," SAY("user", "f") "]}");
	ck_assert_uint_eq(ask.n_turns, 2);
	assert_turn(0, SESSION_USER, "a\n\nb");
	assert_turn(1, SESSION_ASSISTANT, "c\n\nd");
	assert_text(ask.prompts, "e\n\nf");
}
END_TEST

START_TEST(parts_of_a_message_are_joined_as_they_are)
{
	take_chat(
		"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
		"{\"type\":\"text\",\"text\":\"\"},{\"text\":\"b\",\"type\":\"text\"}]}]}");
	assert_text(ask.prompts, "ab");
}
END_TEST

START_TEST(an_answer_comes_back_as_a_client_has_it)
{
	take_chat("{\"messages\":[" SAY("user",
		"a") ",{\"role\":\"assistant\",\"content\":null,"
		     "\"refusal\":null,\"audio\":null,\"function_call\":null,\"tool_calls\":null,"
		     "\"annotations\":[]},{\"role\":\"user\",\"name\":\"joe\",\"content\":\"b\"}]"
		     "}");
	ck_assert_uint_eq(ask.n_turns, 2);
	assert_turn(1, SESSION_ASSISTANT, "");
}
END_TEST

START_TEST(a_text_may_have_a_nul_in_it)
{
	take_chat("{\"messages\":[" SAY("user", "a\\u0000b") "]}");
	ck_assert_uint_eq(ask.prompts->len, 3);
	ck_assert_mem_eq(ask.prompts->text, "a\0b", 4);
}
END_TEST

/* As some editors write one before the first character of a file. */
START_TEST(a_byte_order_mark_is_no_part_of_a_body)
{
	take_chat("\xef\xbb\xbf{" HI "}");
	assert_text(ask.prompts, "hi");
}
END_TEST

/* The room is as long as the body: this is the body that has the least around its texts. */
START_TEST(the_room_is_enough_for_the_tightest_body)
{
	enum { N = 200 };
	struct buf body = {0};
	buf_append_str(&body, "{\"prompt\":[\"a\"");
	for (int i = 1; i < N; i++)
		buf_append_str(&body, ",\"a\"");
	buf_append_str(&body, "]}");
	take_completion(body.data);
	ck_assert_uint_eq(ask.n_prompts, N);
	for (int i = 0; i < N; i++)
		assert_text(&ask.prompts[i], "a");
	buf_clear(&body);
	buf_append_str(&body, "{\"messages\":[" SAY("user", "a"));
	for (int i = 1; i < N; i++)
		buf_append_str(&body, "," SAY("user", "b"));
	buf_append_str(&body, "]}");
	take_chat(body.data);
	ck_assert_uint_eq(ask.prompts->len, 1 + 3 * (N - 1));
	buf_free(&body);
}
END_TEST

START_TEST(prompts_of_completions_stand_alone)
{
	take_completion("{\"prompt\":\"Once\",\"echo\":true,\"stream\":true,\"n\":2}");
	ck_assert_uint_eq(ask.n_prompts, 1);
	assert_text(ask.prompts, "Once");
	ck_assert(ask.echo && ask.stream && !ask.stream_usage && ask.n == 2 && !ask.n_turns);
	take_completion("{\"prompt\":[\"a\",\"b\"],\"model\":\"m\",\"best_of\":1,\"suffix\":null}");
	ck_assert_uint_eq(ask.n_prompts, 2);
	assert_text(&ask.prompts[0], "a");
	assert_text(&ask.prompts[1], "b");
}
END_TEST

START_TEST(texts_to_embed_are_taken)
{
	take_embed("{\"input\":\"a\",\"model\":\"e\"}");
	ck_assert_uint_eq(embed.n, 1);
	assert_text(embed.texts, "a");
	ck_assert_str_eq(embed.model, "e");
	ck_assert(!embed.base64 && !embed.dimensions);
	take_embed("{\"input\":[\"a\",\"b\"],\"encoding_format\":\"base64\",\"dimensions\":256}");
	ck_assert_uint_eq(embed.n, 2);
	assert_text(&embed.texts[1], "b");
	ck_assert_str_eq(embed.model, "default");
	ck_assert(embed.base64 && embed.dimensions == 256);
	take_embed("{\"input\":[\"a\"],\"encoding_format\":\"float\",\"dimensions\":null}");
	ck_assert(!embed.base64 && !embed.dimensions);
}
END_TEST

/* ---- settings ---- */

static const struct {
	const char *member, *file, *value; /* value NULL: it is not set */
} said[] = {
	{"\"temperature\":0.7", "temperature", "0.7"},
	{"\"temperature\":1", "temperature", "1"},
	{"\"temperature\":null", "temperature", NULL},
	{"\"temperature\":1.23456789012345678", "temperature", "1.2345678901234567"},
	{"\"top_p\":0.9", "top_p", "0.9"},
	{"\"top_p\":0", "top_p", "1e-06"},
	{"\"top_k\":40", "top_k", "40"},
	{"\"top_k\":-1", "top_k", "0"},
	{"\"min_p\":0.05", "min_p", "0.05"},
	{"\"repetition_penalty\":1.1", "repetition_penalty", "1.1"},
	{"\"repeat_penalty\":1.1", "repetition_penalty", "1.1"},
	{"\"repeat_penalty\":1.1,\"repetition_penalty\":1.2", "repetition_penalty", "1.2"},
	{"\"presence_penalty\":-2", "presence_penalty", "-2"},
	{"\"frequency_penalty\":0.5", "frequency_penalty", "0.5"},
	{"\"max_tokens\":7", "max_tokens", "7"},
	{"\"max_tokens\":7.0", "max_tokens", "7"},
	{"\"max_tokens\":7,\"max_completion_tokens\":9", "max_tokens", "9"},
	{"\"max_tokens\":7,\"max_completion_tokens\":null", "max_tokens", "7"},
	{"\"ignore_eos\":true", "ignore_eos", "1"},
	{"\"ignore_eos\":false", "ignore_eos", "0"},
	{"\"seed\":42", "seed", "42"},
	{"\"seed\":-1", "seed", NULL},
	{"\"seed\":-2", "seed", "18446744073709551614"},
	{"\"seed\":9223372036854775807", "seed", "9223372036854775807"},
	{"\"seed\":-9223372036854775808", "seed", "9223372036854775808"},
	{"\"stop\":\"END\"", "stop", "END"},
	{"\"stop\":[\"a\",\"\",\"b\"]", "stop", "a\nb"},
	{"\"stop\":[]", "stop", NULL},
	{"\"stop\":\"\"", "stop", NULL},
	{"\"stop\":null", "stop", NULL},
	{"\"response_format\":{\"type\":\"json_object\"}", "format", "json"},
	{"\"response_format\":{\"type\":\"text\"}", "format", "text"},
	{"\"response_format\":null", "format", NULL},
};

START_TEST(each_setting_is_said_as_a_session_has_it)
{
	char body[400];
	snprintf(body, sizeof body, WITH("%s"), said[_i].member);
	take_chat(body);
	const char *value = setting(said[_i].file);
	if (!said[_i].value)
		ck_assert_ptr_null(value);
	else
		ck_assert_msg(value && !strcmp(value, said[_i].value), "%s: %s", body, value);
}
END_TEST

/* What was taken is what a session takes. */
static void assert_a_session_takes_all(void)
{
	for (size_t i = 0; i < ask.n_settings; i++) {
		struct err err = {0};
		const struct shim_setting *s = &ask.settings[i];
		ck_assert_uint_lt(settings_find(s->file), N_SETTINGS);
		ck_assert_msg(settings_check(settings_find(s->file), s->value, s->len, &err) == 0,
			"%s=%s: %s", s->file, s->value, err.text);
	}
}

START_TEST(all_settings_at_once_are_what_a_session_takes)
{
	take_chat(WITH("\"temperature\":2,\"top_p\":0,\"top_k\":1000000,\"min_p\":1,"
		       "\"repetition_penalty\":10,\"presence_penalty\":2,\"frequency_penalty\":2,"
		       "\"max_tokens\":1000000,\"ignore_eos\":true,\"seed\":-2,\"stop\":[\"a\\n\","
		       "\"\\n\\n\"],\"response_format\":{\"type\":\"json_object\"}"));
	ck_assert_uint_eq(ask.n_settings, 12);
	assert_a_session_takes_all();
	take_chat(WITH("\"temperature\":0,\"top_p\":1e-7,\"top_k\":-1,\"min_p\":0,"
		       "\"repetition_penalty\":0.1,\"presence_penalty\":-2,"
		       "\"frequency_penalty\":-2,\"max_tokens\":1,\"ignore_eos\":false,\"seed\":0,"
		       "\"stop\":\"a\",\"response_format\":{\"type\":\"text\"}"));
	ck_assert_uint_eq(ask.n_settings, 12);
	assert_a_session_takes_all();
}
END_TEST

START_TEST(as_many_and_as_long_stop_strings_as_a_session_takes)
{
	struct buf body = {0};
	for (int newline = 0; newline < 2; newline++) {
		buf_clear(&body);
		buf_append_str(&body, "{" HI ",\"stop\":[");
		for (int i = 0; i < 16; i++) {
			buf_printf(&body, "%s\"%s", i ? "," : "", newline ? "\\n" : "x");
			for (int k = 1; k < 256; k++)
				buf_append_str(&body, "y");
			buf_append_str(&body, "\"");
		}
		buf_append_str(&body, "]}");
		take_chat(body.data);
		ck_assert_uint_eq(ask.settings[0].len, 16 * 257 - !newline);
		assert_a_session_takes_all();
	}
	buf_free(&body);
}
END_TEST

START_TEST(stop_strings_with_a_newline_end_with_a_nul_each)
{
	take_chat(WITH("\"stop\":[\"\\n\",\"\",\"END\\n\\n\",\"x\"]"));
	ck_assert_uint_eq(ask.settings[0].len, 10);
	ck_assert_mem_eq(ask.settings[0].value, "\n\0END\n\n\0x\0", 11);
	assert_a_session_takes_all();
}
END_TEST

START_TEST(a_stream_has_its_usage_where_it_is_asked_for)
{
	take_chat(WITH("\"stream\":true,\"stream_options\":{\"include_usage\":true}"));
	ck_assert(ask.stream && ask.stream_usage);
	take_chat(WITH("\"stream\":true,\"stream_options\":{\"include_usage\":false}"));
	ck_assert(ask.stream && !ask.stream_usage);
	take_chat(WITH("\"stream\":true,\"stream_options\":{\"include_obfuscation\":false}"));
	ck_assert(ask.stream && !ask.stream_usage);
	take_chat(WITH("\"stream\":false,\"stream_options\":{\"include_usage\":true}"));
	ck_assert(!ask.stream && !ask.stream_usage);
}
END_TEST

START_TEST(what_changes_nothing_is_taken_and_left)
{
	take_chat(WITH("\"user\":\"u\",\"safety_identifier\":\"s\",\"store\":true,\"metadata\":{"
		       "\"a\":\"b\"},\"service_tier\":\"auto\",\"prompt_cache_key\":\"k\","
		       "\"parallel_tool_calls\":true,\"who_knows\":[1]"));
	ck_assert_uint_eq(ask.n_settings, 0);
	take_chat(WITH("\"tools\":[],\"tool_choice\":\"none\",\"functions\":[],\"function_call\":"
		       "\"auto\",\"logprobs\":false,\"top_logprobs\":0,\"logit_bias\":{},"
		       "\"modalities\":[\"text\"],\"audio\":null,\"prediction\":null,"
		       "\"reasoning_effort\":\"none\",\"verbosity\":\"medium\",\"n\":2.0,"
		       "\"best_of\":2,\"suffix\":\"\",\"min_tokens\":0"));
	ck_assert_uint_eq(ask.n_settings, 0);
	ck_assert_uint_eq(ask.n, 2);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("shim_request");
	TCase *c = tcase_create("said");
	tcase_add_checked_fixture(c, NULL, forget);
	tcase_add_test(c, one_message_is_the_prompt);
	tcase_add_test(c, a_model_that_is_not_named_is_the_default);
	tcase_add_test(c, a_conversation_keeps_its_turns);
	tcase_add_test(c, system_messages_are_gathered_wherever_they_stand);
	tcase_add_test(c, neighbours_of_a_role_are_one_message);
	tcase_add_test(c, parts_of_a_message_are_joined_as_they_are);
	tcase_add_test(c, an_answer_comes_back_as_a_client_has_it);
	tcase_add_test(c, a_text_may_have_a_nul_in_it);
	tcase_add_test(c, a_byte_order_mark_is_no_part_of_a_body);
	tcase_add_test(c, the_room_is_enough_for_the_tightest_body);
	tcase_add_test(c, prompts_of_completions_stand_alone);
	tcase_add_test(c, texts_to_embed_are_taken);
	suite_add_tcase(s, c);
	c = tcase_create("settings");
	tcase_add_checked_fixture(c, NULL, forget);
	tcase_add_loop_test(
		c, each_setting_is_said_as_a_session_has_it, 0, (int)(sizeof said / sizeof *said));
	tcase_add_test(c, all_settings_at_once_are_what_a_session_takes);
	tcase_add_test(c, as_many_and_as_long_stop_strings_as_a_session_takes);
	tcase_add_test(c, stop_strings_with_a_newline_end_with_a_nul_each);
	tcase_add_test(c, a_stream_has_its_usage_where_it_is_asked_for);
	tcase_add_test(c, what_changes_nothing_is_taken_and_left);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
