/* SPDX-License-Identifier: Apache-2.0 */
/* What is sent, in both protocols, and texts that become vectors. */
#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gateway/reading_fixture.h"
#include "tests/run_suite.h"

/* ---- what is sent ---- */

static const struct provider_message talk[] = {{PROVIDER_SYSTEM, "Be brief.", 9},
	{PROVIDER_USER, "Hi \"you\"\n\xc3\xa9", 11}, {PROVIDER_ASSISTANT, "Yes?", 4},
	{PROVIDER_USER, "One", 3}};

#define OPENAI_MESSAGES                                                                            \
	"\"messages\":[{\"content\":\"Be brief.\",\"role\":\"system\"},{\"content\":\"Hi "         \
	"\\\"you\\\"\\n\xc3\xa9\",\"role\":\"user\"},{\"content\":\"Yes?\",\"role\":"              \
	"\"assistant\"},{\"content\":\"One\",\"role\":\"user\"}],"
#define OPENAI_TALK OPENAI_MESSAGES "\"model\":\"its-name\","

START_TEST(openai_is_sent_each_field_that_it_has)
{
	static const char *const stop[] = {"\n\n", "END"};
	struct provider_request q = reading_plain;
	reading_assert_body(reading_body_of(OPENAI, &q, talk, 4, false),
		"{" OPENAI_TALK "\"stream\":true,\"stream_options\":{\"include_usage\":true},"
		"\"temperature\":0.7,\"top_p\":1.0}");
	q.repetition_penalty = 1; /* under neither of its names */
	reading_assert_body(reading_body_of(OPENAI, &q, talk, 4, false),
		"{" OPENAI_TALK "\"stream\":true,\"stream_options\":{\"include_usage\":true},"
		"\"temperature\":0.7,\"top_p\":1.0}");
	q = (struct provider_request){
		.temperature = 0,
		.top_p = 0.9,
		.min_p = 0.05,
		.repetition_penalty = 1.5,
		.presence_penalty = -0.5,
		.frequency_penalty = 0.25,
		.top_k = 40,
		.max_tokens = 100,
		.seed = 7,
		.seeded = true,
		.ignore_eos = true,
		.json = true,
		.stop = stop,
		.n_stop = 2,
	};
	reading_assert_body(reading_body_of(OPENAI, &q, talk, 4, true),
		"{\"frequency_penalty\":0.25,\"ignore_eos\":true,\"logprobs\":true,"
		"\"max_tokens\":100," OPENAI_MESSAGES "\"min_p\":0.05,\"model\":\"its-name\","
		"\"presence_penalty\":-0.5,\"repeat_penalty\":1.5,\"repetition_penalty\":1.5,"
		"\"response_format\":{"
		"\"type\":\"json_"
		"object\"},\"seed\":7,"
		"\"stop\":[\"\\n\\n\",\"END\"],\"stream\":true,\"stream_options\":{"
		"\"include_usage\":true},\"temperature\":0.0,\"top_k\":40,\"top_logprobs\":1,"
		"\"top_p\":0.9}");
	json_t *body = reading_body_of(OPENAI, &reading_judge, talk, 4, true);
	ck_assert_int_eq(json_integer_value(json_object_get(body, "top_logprobs")), 20);
	json_decref(body);
	q.seed = UINT64_MAX - 5;
	body = reading_body_of(OPENAI, &q, talk, 4, false);
	json_int_t seed = json_integer_value(json_object_get(body, "seed"));
	ck_assert(seed >= 0 && seed <= INT32_MAX);
	json_decref(body);
}
END_TEST

START_TEST(anthropic_is_sent_each_field_that_it_has)
{
	static const char *const stop[] = {"END"};
	struct provider_request q = reading_plain;
	reading_assert_body(reading_body_of(CLAUDE, &q, talk, 4, false),
		"{\"max_tokens\":4096,\"messages\":[{\"content\":\"Hi \\\"you\\\"\\n\xc3\xa9\","
		"\"role\":\"user\"},{\"content\":\"Yes?\",\"role\":\"assistant\"},{\"content\":"
		"\"One\",\"role\":\"user\"}],\"model\":\"its-name\",\"stream\":true,\"system\":"
		"\"Be brief.\",\"temperature\":0.7}");
	q = (struct provider_request){
		.temperature = 1,
		.top_p = 0.9,
		.min_p = 0.05,
		.repetition_penalty = 1.5,
		.presence_penalty = -0.5,
		.frequency_penalty = 0.25,
		.top_k = 40,
		.max_tokens = 100,
		.seed = 7,
		.seeded = true,
		.ignore_eos = true,
		.json = true,
		.stop = stop,
		.n_stop = 1,
	};
	reading_assert_body(reading_body_of(CLAUDE, &q, talk + 3, 1, true),
		"{\"max_tokens\":100,\"messages\":[{\"content\":\"One\",\"role\":\"user\"}],"
		"\"model\":\"its-name\",\"stop_sequences\":[\"END\"],\"stream\":true,"
		"\"temperature\":1.0,\"top_k\":40,\"top_p\":0.9}");
}
END_TEST

START_TEST(anthropic_is_sent_roles_in_turns)
{
	static const struct provider_message m[] = {{PROVIDER_SYSTEM, "S", 1},
		{PROVIDER_USER, "a", 1}, {PROVIDER_ASSISTANT, "", 0}, {PROVIDER_USER, "b", 1},
		{PROVIDER_SYSTEM, "T", 1}, {PROVIDER_USER, "c", 1}, {PROVIDER_ASSISTANT, "d", 1},
		{PROVIDER_ASSISTANT, "e", 1}, {PROVIDER_USER, "f", 1}};
	char *json = NULL;
	size_t len;
	struct err err = {0};
	ck_assert_int_eq(CLAUDE->messages(&json, &len, m, 9, &err), 0);
	reading_assert_body(json_loads(json, 0, NULL),
		"{\"messages\":[{\"content\":\"a\\n\\nb\\n\\nc\",\"role\":\"user\"},{\"content\":"
		"\"d\\n\\ne\",\"role\":\"assistant\"},{\"content\":\"f\",\"role\":\"user\"}],"
		"\"system\":\"S\\n\\nT\"}");
	free(json);
	json = NULL;
	ck_assert_int_eq(CLAUDE->messages(&json, &len, m + 6, 3, &err), -EINVAL);
	ck_assert_int_eq(CLAUDE->messages(&json, &len, m, 1, &err), -EINVAL);
	ck_assert_ptr_null(json);
}
END_TEST

START_TEST(a_text_that_is_not_utf8_is_not_sent)
{
	static const struct provider_message m[] = {
		{PROVIDER_USER, "a", 1}, {PROVIDER_USER, "b\xff", 2}};
	const struct protocol *const all[] = {OPENAI, CLAUDE};
	for (int i = 0; i < 2; i++) {
		char *json = NULL;
		size_t len;
		struct err err = {0};
		ck_assert_int_eq(all[i]->messages(&json, &len, m, 2, &err), -EILSEQ);
		ck_assert_str_eq(err.text, "message 2, byte 2: not UTF-8");
	}
}
END_TEST

/* The headers of a protocol, one a line. */
static char *headers_of(const struct protocol *p, const char *key)
{
	static char lines[512];
	struct buf out = {0};
	size_t n = 0;
	ck_assert_int_eq(p->headers(&out, key), 0);
	for (const char *h = out.data; *h; h += strlen(h) + 1)
		n += (size_t)snprintf(lines + n, sizeof lines - n, "%s\n", h);
	ck_assert_uint_eq(n + 1, out.len);
	buf_free(&out);
	return lines;
}

START_TEST(headers_have_the_key_where_the_protocol_has_it)
{
	ck_assert_str_eq(headers_of(OPENAI, "k1"),
		"content-type: application/json\naccept: text/event-stream, application/json\n"
		"authorization: Bearer k1\n");
	ck_assert_str_eq(headers_of(OPENAI, NULL),
		"content-type: application/json\naccept: text/event-stream, application/json\n");
	ck_assert_str_eq(headers_of(CLAUDE, "k1"),
		"content-type: application/json\nanthropic-version: 2023-06-01\nx-api-key: k1\n");
	ck_assert_str_eq(headers_of(CLAUDE, NULL),
		"content-type: application/json\nanthropic-version: 2023-06-01\n");
}
END_TEST

/* ---- embeddings ---- */

static int embed_read(const char *body, size_t n, float **v, size_t *dim, struct trace_usage *usage)
{
	bool retryable;
	struct err err = {0};
	int r = OPENAI->embed_read(body, strlen(body), n, v, dim, usage, &retryable, &err);
	ck_assert_int_eq(r < 0, err.text[0] != '\0');
	return r;
}

START_TEST(embeddings_come_in_the_order_asked_and_of_unit_length)
{
	float *v = NULL;
	size_t dim = 0;
	struct trace_usage usage;
	ck_assert_int_eq(embed_read("{\"data\":[{\"index\":1,\"embedding\":[0,-2]},{\"index\":0,"
				    "\"embedding\":[3,4.0]}],\"usage\":{\"prompt_tokens\":9}}",
				 2, &v, &dim, &usage),
		0);
	ck_assert_uint_eq(dim, 2);
	ck_assert_uint_eq(usage.prompt_tok, 9);
	ck_assert_float_eq_tol(v[0], 0.6f, 1e-6f);
	ck_assert_float_eq_tol(v[1], 0.8f, 1e-6f);
	ck_assert_float_eq_tol(v[2], 0.0f, 1e-6f);
	ck_assert_float_eq_tol(v[3], -1.0f, 1e-6f);
	free(v);
}
END_TEST

START_TEST(embeddings_that_were_not_asked_for_are_refused)
{
	static const char *const bad[] = {"", "[]", "{}", "{\"data\":[]}", "{\"data\":5}",
		"{\"data\":[{\"index\":0,\"embedding\":[1]}]}",
		"{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":0,\"embedding\":[1]}]}",
		"{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":2,\"embedding\":[1]}]}",
		"{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":1,\"embedding\":[1,2]}]}",
		"{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":1,\"embedding\":[0]}]}",
		"{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":1,\"embedding\":[\"1\"]}]}",
		"{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":1,\"embedding\":[1e300]}]}",
		"{\"data\":[{\"index\":0,\"embedding\":\"A\"},{\"index\":1,\"embedding\":[1]}]}",
		"{\"data\":[{\"embedding\":[1]},{\"embedding\":[1]}]}"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		float *v = NULL;
		size_t dim = 0;
		struct trace_usage usage;
		ck_assert_msg(embed_read(bad[i], 2, &v, &dim, &usage) == -EPROTO, "%s", bad[i]);
		ck_assert_ptr_null(v);
	}
}
END_TEST

START_TEST(texts_to_embed_are_sent_in_their_order)
{
	static const char *const texts[] = {"a\"b", "c\0d"};
	static const size_t lens[] = {3, 3};
	struct provider_embed q = {.texts = texts, .lens = lens, .n = 2};
	struct buf out = {0};
	struct err err = {0};
	ck_assert_int_eq(OPENAI->embed_body(&out, "e", &q, &err), 0);
	reading_assert_body(json_loadb(out.data, out.len, JSON_ALLOW_NUL, NULL),
		"{\"encoding_format\":\"float\",\"input\":[\"a\\\"b\",\"c\\u0000d\"],\"model\":"
		"\"e\"}");
	buf_free(&out);
	static const char *const wrong[] = {"a", "\xff"};
	static const size_t wrong_lens[] = {1, 1};
	q.texts = wrong;
	q.lens = wrong_lens;
	ck_assert_int_eq(OPENAI->embed_body(&out, "e", &q, &err), -EILSEQ);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("protocol_sent");
	TCase *c = tcase_create("sent");
	tcase_add_test(c, openai_is_sent_each_field_that_it_has);
	tcase_add_test(c, anthropic_is_sent_each_field_that_it_has);
	tcase_add_test(c, anthropic_is_sent_roles_in_turns);
	tcase_add_test(c, a_text_that_is_not_utf8_is_not_sent);
	tcase_add_test(c, headers_have_the_key_where_the_protocol_has_it);
	suite_add_tcase(s, c);
	c = tcase_create("embeddings");
	tcase_add_test(c, embeddings_come_in_the_order_asked_and_of_unit_length);
	tcase_add_test(c, embeddings_that_were_not_asked_for_are_refused);
	tcase_add_test(c, texts_to_embed_are_sent_in_their_order);
	suite_add_tcase(s, c);
	return run_suite(s);
}
