/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests that are refused: by which name and code. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

enum { CHAT, COMPLETION, EMBED };

#define LIST(...) "{\"messages\":[" __VA_ARGS__ "]}"
#define PART(part)                                                                                 \
	LIST("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}," part "]}")

static const struct {
	int kind;
	const char *body, *param, *code; /* code "": none */
} bad[] = {
	{CHAT, "", "", ""},
	{CHAT, "{", "", ""},
	{CHAT, "{\"model\":\"a\",\"model\":\"b\"," HI "}", "", ""},
	{CHAT, "{" HI "} x", "", ""},
	{CHAT, "[]", "", "invalid_type"},
	{CHAT, "7", "", ""},
	{CHAT, WITH("\"user\":\"\xFF\""), "", ""},
	{CHAT, WITH("\"user\":\"\\ud800\""), "", ""},
	{CHAT, WITH("\"seed\":18446744073709551616"), "", ""},
	{CHAT, WITH("\"model\":7"), "model", "invalid_type"},
	{CHAT, WITH("\"model\":\"a\\u0000b\""), "model", "invalid_value"},
	/* messages */
	{CHAT, "{}", "messages", "missing_required_parameter"},
	{CHAT, "{\"messages\":null}", "messages", "missing_required_parameter"},
	{CHAT, "{\"messages\":\"hi\"}", "messages", "invalid_type"},
	{CHAT, LIST(""), "messages", "empty_array"},
	{CHAT, LIST("\"hi\""), "messages[0]", "invalid_type"},
	{CHAT, LIST("{\"content\":\"hi\"}"), "messages[0].role", "missing_required_parameter"},
	{CHAT, LIST("{\"role\":1,\"content\":\"hi\"}"), "messages[0].role", "invalid_type"},
	{CHAT, LIST(SAY("boss", "hi")), "messages[0].role", "invalid_value"},
	{CHAT, LIST(SAY("tool", "hi")), "messages[0].role", "unsupported_value"},
	{CHAT, LIST(SAY("function", "hi")), "messages[0].role", "unsupported_value"},
	{CHAT, LIST("{\"role\":\"user\"}"), "messages[0].content", "missing_required_parameter"},
	{CHAT, LIST("{\"role\":\"user\",\"content\":null}"), "messages[0].content",
		"missing_required_parameter"},
	{CHAT, LIST("{\"role\":\"user\",\"content\":7}"), "messages[0].content", "invalid_type"},
	{CHAT, LIST("{\"role\":\"user\",\"content\":{}}"), "messages[0].content", "invalid_type"},
	{CHAT, LIST(SAY("user", "")), "messages[0].content", "invalid_value"},
	{CHAT, LIST("{\"role\":\"user\",\"content\":[]}"), "messages[0].content", "invalid_value"},
	{CHAT, PART("\"b\""), "messages[0].content[1]", "invalid_type"},
	{CHAT, PART("{}"), "messages[0].content[1].type", "missing_required_parameter"},
	{CHAT, PART("{\"type\":7}"), "messages[0].content[1].type", "invalid_type"},
	{CHAT, PART("{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:\"}}"),
		"messages[0].content[1].type", "unsupported_value"},
	{CHAT, PART("{\"type\":\"input_audio\"}"), "messages[0].content[1].type",
		"unsupported_value"},
	{CHAT, PART("{\"type\":\"text\"}"), "messages[0].content[1].text",
		"missing_required_parameter"},
	{CHAT, PART("{\"type\":\"text\",\"text\":7}"), "messages[0].content[1].text",
		"invalid_type"},
	{CHAT, LIST(SAY("user", "a") ",{\"role\":\"assistant\",\"tool_calls\":[{}]}"),
		"messages[1].tool_calls", "unsupported_parameter"},
	{CHAT, LIST(SAY("user", "a") ",{\"role\":\"assistant\",\"function_call\":{}}"),
		"messages[1].function_call", "unsupported_parameter"},
	{CHAT, LIST(SAY("user", "a") ",{\"role\":\"assistant\",\"audio\":{\"id\":\"x\"}}"),
		"messages[1].audio", "unsupported_parameter"},
	/* whose turn it is */
	{CHAT, LIST(SAY("system", "a")), "messages[0].role", "invalid_value"},
	{CHAT, LIST(SAY("system", "a") "," SAY("assistant", "b") "," SAY("user", "c")),
		"messages[1].role", "invalid_value"},
	{CHAT, LIST(SAY("user", "a") "," SAY("assistant", "b")), "messages[1].role",
		"invalid_value"},
	{CHAT, LIST(SAY("user", "a") "," SAY("assistant", "b") "," SAY("system", "c")),
		"messages[1].role", "invalid_value"},
	/* what llmfs has not */
	{CHAT, WITH("\"tools\":[{}]"), "tools", "unsupported_parameter"},
	{CHAT, WITH("\"length_penalty\":0.5"), "length_penalty", "unsupported_parameter"},
	{CHAT, WITH("\"typical_p\":0.5"), "typical_p", "unsupported_parameter"},
	{CHAT, WITH("\"tfs_z\":0.5"), "tfs_z", "unsupported_parameter"},
	{CHAT, WITH("\"mirostat\":2"), "mirostat", "unsupported_parameter"},
	{CHAT, WITH("\"dry_multiplier\":0.8"), "dry_multiplier", "unsupported_parameter"},
	{CHAT, WITH("\"xtc_probability\":0.5"), "xtc_probability", "unsupported_parameter"},
	{CHAT, WITH("\"thinking\":{\"type\":\"enabled\"}"), "thinking", "unsupported_parameter"},
	{CHAT, WITH("\"chat_template\":\"x\""), "chat_template", "unsupported_parameter"},
	{CHAT, WITH("\"chat_template_kwargs\":{\"a\":1}"), "chat_template_kwargs",
		"unsupported_parameter"},
	{CHAT, WITH("\"continue_final_message\":true"), "continue_final_message",
		"unsupported_parameter"},
	{CHAT, WITH("\"tool_choice\":\"required\""), "tool_choice", "unsupported_value"},
	{CHAT, WITH("\"tool_choice\":{\"type\":\"function\"}"), "tool_choice", "unsupported_value"},
	{CHAT, WITH("\"functions\":[{}]"), "functions", "unsupported_parameter"},
	{CHAT, WITH("\"function_call\":{\"name\":\"f\"}"), "function_call", "unsupported_value"},
	{CHAT, WITH("\"logprobs\":true"), "logprobs", "unsupported_parameter"},
	{CHAT, WITH("\"top_logprobs\":2"), "top_logprobs", "unsupported_parameter"},
	{CHAT, WITH("\"logit_bias\":{\"50256\":-100}"), "logit_bias", "unsupported_parameter"},
	{CHAT, WITH("\"modalities\":[\"text\",\"audio\"]"), "modalities", "unsupported_value"},
	{CHAT, WITH("\"audio\":{\"voice\":\"v\"}"), "audio", "unsupported_parameter"},
	{CHAT, WITH("\"prediction\":{\"type\":\"content\"}"), "prediction",
		"unsupported_parameter"},
	{CHAT, WITH("\"web_search_options\":{\"x\":1}"), "web_search_options",
		"unsupported_parameter"},
	{CHAT, WITH("\"reasoning_effort\":\"high\""), "reasoning_effort", "unsupported_parameter"},
	{CHAT, WITH("\"verbosity\":\"low\""), "verbosity", "unsupported_parameter"},
	{CHAT, WITH("\"use_beam_search\":true"), "use_beam_search", "unsupported_parameter"},
	{CHAT, WITH("\"min_tokens\":5"), "min_tokens", "unsupported_parameter"},
	{CHAT, WITH("\"stop_token_ids\":[1]"), "stop_token_ids", "unsupported_parameter"},
	{CHAT, WITH("\"allowed_token_ids\":[1]"), "allowed_token_ids", "unsupported_parameter"},
	{CHAT, WITH("\"bad_words\":[\"x\"]"), "bad_words", "unsupported_parameter"},
	{CHAT, WITH("\"prompt_logprobs\":0"), "prompt_logprobs", "unsupported_parameter"},
	{CHAT, WITH("\"guided_json\":{\"a\":1}"), "guided_json", "unsupported_parameter"},
	{CHAT, WITH("\"guided_regex\":\"a\""), "guided_regex", "unsupported_parameter"},
	{CHAT, WITH("\"guided_choice\":[\"a\"]"), "guided_choice", "unsupported_parameter"},
	{CHAT, WITH("\"guided_grammar\":\"a\""), "guided_grammar", "unsupported_parameter"},
	{CHAT, WITH("\"structured_outputs\":{\"a\":1}"), "structured_outputs",
		"unsupported_parameter"},
	{CHAT, WITH("\"json_schema\":{\"a\":1}"), "json_schema", "unsupported_parameter"},
	{CHAT, WITH("\"grammar\":\"root\""), "grammar", "unsupported_parameter"},
	{COMPLETION, "{\"prompt\":\"a\",\"best_of\":3}", "best_of", "unsupported_parameter"},
	{COMPLETION, "{\"prompt\":\"a\",\"best_of\":3,\"n\":2}", "best_of",
		"unsupported_parameter"},
	{COMPLETION, "{\"prompt\":\"a\",\"suffix\":\"z\"}", "suffix", "unsupported_parameter"},
	{COMPLETION, "{\"prompt\":\"a\",\"logprobs\":0}", "logprobs", "unsupported_parameter"},
	/* settings */
	{CHAT, WITH("\"temperature\":\"hot\""), "temperature", "invalid_type"},
	{CHAT, WITH("\"temperature\":true"), "temperature", "invalid_type"},
	{CHAT, WITH("\"temperature\":2.1"), "temperature", "decimal_above_max_value"},
	{CHAT, WITH("\"temperature\":-1"), "temperature", "decimal_below_min_value"},
	{CHAT, WITH("\"top_p\":1.1"), "top_p", "decimal_above_max_value"},
	{CHAT, WITH("\"top_k\":1.5"), "top_k", "invalid_type"},
	{CHAT, WITH("\"top_k\":1e300"), "top_k", "invalid_type"},
	{CHAT, WITH("\"top_k\":1000001"), "top_k", "integer_above_max_value"},
	{CHAT, WITH("\"min_p\":-0.1"), "min_p", "decimal_below_min_value"},
	{CHAT, WITH("\"repetition_penalty\":0"), "repetition_penalty", "decimal_below_min_value"},
	{CHAT, WITH("\"repeat_penalty\":11"), "repeat_penalty", "decimal_above_max_value"},
	{CHAT, WITH("\"presence_penalty\":3"), "presence_penalty", "decimal_above_max_value"},
	{CHAT, WITH("\"frequency_penalty\":-3"), "frequency_penalty", "decimal_below_min_value"},
	{CHAT, WITH("\"max_tokens\":0"), "max_tokens", "integer_below_min_value"},
	{CHAT, WITH("\"max_tokens\":\"7\""), "max_tokens", "invalid_type"},
	{CHAT, WITH("\"max_completion_tokens\":-1"), "max_completion_tokens",
		"integer_below_min_value"},
	{CHAT, WITH("\"ignore_eos\":1"), "ignore_eos", "invalid_type"},
	{CHAT, WITH("\"seed\":1.5"), "seed", "invalid_type"},
	{CHAT, WITH("\"stop\":7"), "stop", "invalid_type"},
	{CHAT, WITH("\"stop\":[\"a\",7]"), "stop[1]", "invalid_type"},
	{CHAT, WITH("\"stop\":\"a\\u0000\""), "stop", "invalid_value"},
	{CHAT,
		WITH("\"stop\":[\"1\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\","
		     "\"\",\"\",\"\",\"17\"]"),
		"stop", "array_above_max_length"},
	{CHAT, WITH("\"response_format\":\"json\""), "response_format", "invalid_type"},
	{CHAT, WITH("\"response_format\":{}"), "response_format.type",
		"missing_required_parameter"},
	{CHAT, WITH("\"response_format\":{\"type\":7}"), "response_format.type", "invalid_type"},
	{CHAT, WITH("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}"),
		"response_format.type", "unsupported_value"},
	{CHAT, WITH("\"n\":0"), "n", "integer_below_min_value"},
	{CHAT, WITH("\"n\":17"), "n", "integer_above_max_value"},
	{CHAT, WITH("\"n\":\"2\""), "n", "invalid_type"},
	{CHAT, WITH("\"stream\":1"), "stream", "invalid_type"},
	{CHAT, WITH("\"stream\":\"true\""), "stream", "invalid_type"},
	{CHAT, WITH("\"stream_options\":[]"), "stream_options", "invalid_type"},
	{CHAT, WITH("\"stream_options\":{\"include_usage\":1}"), "stream_options.include_usage",
		"invalid_type"},
	/* completions */
	{COMPLETION, "{}", "prompt", "missing_required_parameter"},
	{COMPLETION, "{\"prompt\":\"\"}", "prompt", "invalid_value"},
	{COMPLETION, "{\"prompt\":[]}", "prompt", "empty_array"},
	{COMPLETION, "{\"prompt\":{}}", "prompt", "invalid_type"},
	{COMPLETION, "{\"prompt\":[1,2,3]}", "prompt", "unsupported_value"},
	{COMPLETION, "{\"prompt\":[[1,2],[3]]}", "prompt[0]", "unsupported_value"},
	{COMPLETION, "{\"prompt\":[\"a\",\"\"]}", "prompt[1]", "invalid_value"},
	{COMPLETION, "{\"prompt\":[\"a\",null]}", "prompt[1]", "invalid_type"},
	{COMPLETION, "{\"prompt\":\"a\",\"echo\":1}", "echo", "invalid_type"},
	/* embeddings */
	{EMBED, "{\"model\":\"m\"}", "input", "missing_required_parameter"},
	{EMBED, "{\"input\":\"\"}", "input", "invalid_value"},
	{EMBED, "{\"input\":[]}", "input", "empty_array"},
	{EMBED, "{\"input\":[1]}", "input", "unsupported_value"},
	{EMBED, "{\"input\":[[1]]}", "input[0]", "unsupported_value"},
	{EMBED, "{\"input\":[\"a\",true]}", "input[1]", "invalid_type"},
	{EMBED, "{\"input\":\"a\",\"model\":[]}", "model", "invalid_type"},
	{EMBED, "{\"input\":\"a\",\"encoding_format\":\"hex\"}", "encoding_format",
		"invalid_value"},
	{EMBED, "{\"input\":\"a\",\"encoding_format\":1}", "encoding_format", "invalid_type"},
	{EMBED, "{\"input\":\"a\",\"dimensions\":0}", "dimensions", "integer_below_min_value"},
	{EMBED, "{\"input\":\"a\",\"dimensions\":\"1\"}", "dimensions", "invalid_type"},
};

static int refuse(int kind, const char *body, size_t len)
{
	forget();
	return kind == CHAT         ? shim_request_chat(&ask, body, len, &fault)
	       : kind == COMPLETION ? shim_request_completion(&ask, body, len, &fault)
				    : shim_request_embed(&embed, body, len, &fault);
}

START_TEST(each_fault_has_its_param_its_code_and_a_sentence)
{
	int r = refuse(bad[_i].kind, bad[_i].body, strlen(bad[_i].body));
	ck_assert_msg(r == -EINVAL, "%s: %d", bad[_i].body, r);
	const char *code = fault.code ? fault.code : "";
	ck_assert_msg(!strcmp(fault.param, bad[_i].param) && !strcmp(code, bad[_i].code),
		"%s: %s, %s: %s", bad[_i].body, fault.param, code, fault.err.text);
	ck_assert_uint_gt(strlen(fault.err.text), strlen(fault.param) + 2);
	ck_assert(!strncmp(fault.err.text, fault.param, strlen(fault.param)));
}
END_TEST

static void repeat(struct buf *to, const char *text, size_t n)
{
	while (n--)
		buf_append_str(to, text);
}

START_TEST(too_many_texts_are_refused)
{
	static const struct {
		int kind;
		const char *begin, *param;
		size_t most;
	} cases[] = {{COMPLETION, "{\"prompt\":[\"a\"", "prompt", SHIM_PROMPTS},
		{EMBED, "{\"input\":[\"a\"", "input", SHIM_TEXTS}};
	for (size_t i = 0; i < 2; i++) {
		struct buf body = {0};
		buf_append_str(&body, cases[i].begin);
		repeat(&body, ",\"a\"", cases[i].most - 1);
		buf_append_str(&body, "]}");
		ck_assert_int_eq(refuse(cases[i].kind, body.data, body.len), 0);
		body.len -= 2;
		buf_append_str(&body, ",\"a\"]}");
		ck_assert_int_eq(refuse(cases[i].kind, body.data, body.len), -EINVAL);
		ck_assert_str_eq(fault.param, cases[i].param);
		ck_assert_str_eq(fault.code, "array_above_max_length");
		buf_free(&body);
	}
}
END_TEST

/* They are told as what they are, however many there are. */
START_TEST(many_ids_of_tokens_are_refused_as_such)
{
	struct buf body = {0};
	buf_append_str(&body, "{\"prompt\":[1");
	repeat(&body, ",2", 5000);
	buf_append_str(&body, "]}");
	ck_assert_int_eq(refuse(COMPLETION, body.data, body.len), -EINVAL);
	ck_assert_str_eq(fault.code, "unsupported_value");
	buf_free(&body);
}
END_TEST

START_TEST(a_stop_string_that_is_too_long_is_refused)
{
	struct buf body = {0};
	buf_append_str(&body, "{" HI ",\"stop\":[\"a\",\"");
	repeat(&body, "x", 257);
	buf_append_str(&body, "\"]}");
	ck_assert_int_eq(refuse(CHAT, body.data, body.len), -EINVAL);
	ck_assert_str_eq(fault.param, "stop[1]");
	ck_assert_str_eq(fault.code, "string_above_max_length");
	buf_free(&body);
}
END_TEST

START_TEST(hostile_depth_is_refused)
{
	static const char *const open[] = {"[", "{\"a\":"};
	for (size_t i = 0; i < 2; i++) {
		struct buf body = {0};
		buf_append_str(&body, "{" HI ",\"x\":");
		repeat(&body, open[i], 1000000);
		ck_assert_int_eq(refuse(CHAT, body.data, body.len), -EINVAL);
		ck_assert(!fault.code && *fault.err.text);
		buf_free(&body);
	}
}
END_TEST

/* A body of 12 marks and `more`, of which only those outside of strings count. */
static int refuse_with(const char *text, const char *more, size_t n)
{
	struct buf body = {0};
	buf_append_str(&body, "{" HI ",\"user\":\"\\\"");
	buf_append_str(&body, text);
	buf_append_str(&body, "\",\"x\":[");
	repeat(&body, more, n);
	buf_append_str(&body, "1]}");
	int r = refuse(CHAT, body.data, body.len);
	buf_free(&body);
	return r;
}

START_TEST(a_body_of_very_many_values_is_refused)
{
	enum { MOST = 1 << 18, OURS = 12 };
	ck_assert_int_eq(refuse_with("", "1,", MOST - OURS), 0);
	ck_assert_int_eq(refuse_with("", "1,", MOST - OURS + 1), -EINVAL);
	ck_assert_ptr_nonnull(strstr(fault.err.text, "262144 values"));
	ck_assert_int_eq(refuse_with(",:[{\\\",", "1,", MOST - OURS), 0);
	ck_assert_int_eq(refuse_with("", "[],", MOST / 2 - OURS / 2 - 1), 0);
	ck_assert_int_eq(refuse_with("", "[],", MOST / 2), -EINVAL);
	ck_assert_int_eq(refuse_with("", "{},", MOST / 2), -EINVAL);
	ck_assert_int_eq(refuse_with("", "{\"\":1},", MOST / 3), -EINVAL);
}
END_TEST

START_TEST(a_body_with_a_nul_behind_it_is_refused)
{
	static const char body[] = "{" HI "}";
	ck_assert_int_eq(refuse(CHAT, body, sizeof body), -EINVAL);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("shim_request_refused");
	TCase *c = tcase_create("refused");
	tcase_add_checked_fixture(c, NULL, forget);
	tcase_add_loop_test(c, each_fault_has_its_param_its_code_and_a_sentence, 0,
		(int)(sizeof bad / sizeof *bad));
	tcase_add_test(c, too_many_texts_are_refused);
	tcase_add_test(c, many_ids_of_tokens_are_refused_as_such);
	tcase_add_test(c, a_stop_string_that_is_too_long_is_refused);
	tcase_add_test(c, hostile_depth_is_refused);
	tcase_add_test(c, a_body_of_very_many_values_is_refused);
	tcase_add_test(c, a_body_with_a_nul_behind_it_is_refused);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
