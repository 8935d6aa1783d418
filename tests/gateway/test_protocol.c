/* SPDX-License-Identifier: Apache-2.0 */
/* What is common to the protocols. */
#include "gateway/protocol.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gateway/reading_fixture.h"
#include "tests/run_suite.h"

START_TEST(a_status_means_what_the_table_says)
{
	static const struct {
		long status;
		const char *body;
		int code;
		bool retryable;
		const char *says;
	} cases[] = {
		{401, "{\"error\":{\"message\":\"no\"}}", -EACCES, false,
			"HTTP 401, the key was not accepted: no"},
		{403, "", -EACCES, false, "HTTP 403, the key is not allowed to do this"},
		{404, "{\"error\":{\"message\":\"model claude-3-5-sonnet-20241022 is not here\"}}",
			-EHOSTUNREACH, false, "claude-3-5-sonnet-20241022 is not here"},
		{408, "", -ETIMEDOUT, true, "HTTP 408"},
		{504, "<html>x</html>", -ETIMEDOUT, true, "HTTP 504, the server failed"},
		{413, "", -EMSGSIZE, false, "HTTP 413"},
		{400, "{\"error\":{\"message\":\"This model's maximum context length is 8\"}}",
			-EMSGSIZE, false, "maximum context length"},
		{400, "{\"error\":{\"message\":\"x\",\"code\":\"context_length_exceeded\"}}",
			-EMSGSIZE, false, "x"},
		{400, "{\"error\":{\"type\":\"exceed_context_size_error\",\"message\":\"y\"}}",
			-EMSGSIZE, false, "y"},
		{400, "{\"message\":\"bad stop\"}", -EPROTO, false, "refused: bad stop"},
		{422, "{\"detail\":\"top_p\"}", -EPROTO, false, "top_p"},
		{429, "{\"error\":\"slow down\"}", -EBUSY, true, "too many requests: slow down"},
		{302, "", -EPROTO, false, "redirects"},
		{418, "teapot\n\x01\xc3\xa9", -EPROTO, false, "refused: teapot????"},
		{500, "{\"error\":{\"message\":\"x\"}}", -EHOSTUNREACH, true, "server failed: x"},
		{503, "", -EHOSTUNREACH, true, "overloaded"},
		{529,
			"{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":"
			"\"Overloaded\"}}",
			-EHOSTUNREACH, true, "HTTP 529, overloaded: Overloaded"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct err err = {0};
		bool retryable = !cases[i].retryable;
		int code = protocol_fault(
			cases[i].status, cases[i].body, strlen(cases[i].body), &retryable, &err);
		ck_assert_msg(code == cases[i].code, "%ld: %d", cases[i].status, code);
		ck_assert_int_eq(retryable, cases[i].retryable);
		ck_assert_msg(strstr(err.text, cases[i].says), "%s", err.text);
	}
}
END_TEST

START_TEST(a_fault_does_not_tell_a_key)
{
	static const char *const bodies[] = {
		"{\"error\":{\"message\":\"Incorrect API key provided: sk-SECRETs.\"}}",
		"{\"error\":{\"message\":\"key SECRET0123456789abcdef is bad\"}}",
		"{\"error\":{\"message\":\"Bearer SECRET\"}}",
		"{\"error\":{\"message\":\"{\\\"authorization\\\": \\\"Bearer SECRET\\\"}\"}}",
		"{\"error\":{\"message\":\"Authorization: Basic SECRET\"}}",
		"{\"error\":{\"message\":\"x-api-key=SECRET was refused\"}}",
		"{\"error\":{\"message\":\"uuid SECRET00-1234-1234-1234-123456789012\"}}",
		"SECRETSECRETSECRET1", "api_key: SECRET"};
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		struct err err = {0};
		bool retryable;
		protocol_fault(401, bodies[i], strlen(bodies[i]), &retryable, &err);
		ck_assert_msg(!strstr(err.text, "SECRET"), "%s", err.text);
		ck_assert_msg(strstr(err.text, "..."), "%s", err.text);
	}
	char long_body[5000];
	struct err err = {0};
	memset(long_body, 'x', sizeof long_body);
	ck_assert_int_eq(
		protocol_fault(500, long_body, sizeof long_body, NULL, &err), -EHOSTUNREACH);
	ck_assert_uint_lt(strlen(err.text), 300);
}
END_TEST

START_TEST(our_own_words_end_before_those_of_the_server)
{
	static const struct {
		const char *sentence;
		const char *own; /* NULL: all of it */
	} cases[] = {{"HTTP 500, the server failed: the prompt", "HTTP 500, the server failed"},
		{"models/m: 127.0.0.1:9: HTTP 401, the key was not accepted: x: y: z",
			"models/m: 127.0.0.1:9: HTTP 401, the key was not accepted"},
		{"models/m: is it HTTP ?: HTTP 400, the request was refused: HTTP 500, a: b",
			"models/m: is it HTTP ?: HTTP 400, the request was refused"},
		{"models/m: 127.0.0.1:9: an error in its answer, overloaded: HTTP 500, a: b",
			"models/m: 127.0.0.1:9: an error in its answer, overloaded"},
		{"HTTP 500, the server failed: an error in its answer, a: b",
			"HTTP 500, the server failed"},
		{"an error in its answer, overloaded", NULL}, {"HTTP 503, overloaded", NULL},
		{"cannot connect: Connection refused", NULL}, {"what it sends is not HTTP", NULL},
		{"HTTP 12", NULL}, {"HTTP ", NULL}, {"", NULL}};
	static const long statuses[] = {302, 400, 401, 403, 404, 408, 413, 418, 429, 500, 503, 529};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		ck_assert_msg(protocol_own_words(cases[i].sentence) ==
				      strlen(cases[i].own ? cases[i].own : cases[i].sentence),
			"%s", cases[i].sentence);
	for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
		struct err err = {0};
		protocol_fault(statuses[i], "a: secret", strlen("a: secret"), NULL, &err);
		const char *said = strstr(err.text, ": a: secret");
		ck_assert_ptr_nonnull(said);
		ck_assert_uint_eq(protocol_own_words(err.text), said - err.text);
	}
}
END_TEST

START_TEST(an_estimate_is_near_what_tokenizers_say)
{
	static const struct {
		const char *text;
		size_t low, high;
	} cases[] = {
		{"", 0, 0},
		{" ", 1, 1},
		{"a", 1, 1},
		{"\xff\xfe", 1, 2},
		{"Hello, world!", 4, 5},
		{"The quick brown fox jumps over the lazy dog.", 10, 12},
		{"internationalization of misunderstandings", 7, 12},
		{"12345678901234567890", 7, 20},
		{"\xe4\xbd\xa0\xe5\xa5\xbd\xe4\xb8\x96\xe7\x95\x8c", 3, 5},
		{"\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82", 2, 6},
		{"\xf0\x9f\x98\x80\xf0\x9f\x98\x80", 2, 6},
		{"int main(void)\n{\n\treturn 0;\n}\n", 10, 20},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t len = strlen(cases[i].text), n = protocol_estimate_tok(cases[i].text, len);
		ck_assert_msg(n >= cases[i].low && n <= cases[i].high, "%s: %zu", cases[i].text, n);
		ck_assert_uint_le(n, len);
	}
}
END_TEST

START_TEST(protocols_are_found_by_name)
{
	ck_assert_ptr_eq(protocol_find("openai", 6), OPENAI);
	ck_assert_ptr_eq(protocol_find("anthropic!", 9), CLAUDE);
	ck_assert_ptr_null(protocol_find("openai", 5));
	ck_assert_ptr_null(protocol_find("", 0));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("protocol");
	TCase *c = tcase_create("protocol");
	tcase_add_test(c, a_status_means_what_the_table_says);
	tcase_add_test(c, a_fault_does_not_tell_a_key);
	tcase_add_test(c, our_own_words_end_before_those_of_the_server);
	tcase_add_test(c, an_estimate_is_near_what_tokenizers_say);
	tcase_add_test(c, protocols_are_found_by_name);
	suite_add_tcase(s, c);
	return run_suite(s);
}
