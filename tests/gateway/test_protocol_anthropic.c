/* SPDX-License-Identifier: Apache-2.0 */
/* Answers in Anthropic's protocol. */
#include <check.h>
#include <errno.h>

#include "tests/gateway/reading_fixture.h"
#include "tests/run_suite.h"

#define EV(name, members) "event: " name "\ndata: {\"type\":\"" name "\"" members "}\n\n"
#define START(usage)                                                                               \
	EV("message_start", ",\"message\":{\"id\":\"m\",\"content\":[],\"usage\":" usage "}")
#define TEXT(text)                                                                                 \
	EV("content_block_delta",                                                                  \
		",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"" text "\"}")
#define FINISH(reason, n)                                                                          \
	EV("message_delta", ",\"delta\":{\"stop_reason\":\"" reason                                \
			    "\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":" #n "}")
#define STOP EV("message_stop", "")
#define USED                                                                                       \
	"{\"input_tokens\":10,\"cache_creation_input_tokens\":3,\"cache_read_input_tokens\":7,"    \
	"\"output_tokens\":1}"

START_TEST(a_stream_of_anthropic_is_read_whole)
{
	struct reading g;
	reading_stream(&g, CLAUDE,
		START(USED) EV("content_block_start",
			",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}")
			EV("ping", "") TEXT("Hel") EV("something_new", ",\"x\":1")
				TEXT("lo\xe2\x82\xac") EV("content_block_stop", ",\"index\":0")
					FINISH("end_turn", 4) STOP);
	reading_assert_good(&g, "Hello\xe2\x82\xac", "stop");
	reading_assert_usage(&g, 20, 7, 4);
	buf_free(&g.text);
	reading_stream(&g, CLAUDE, START(USED) TEXT("a") FINISH("max_tokens", 4) STOP);
	reading_assert_good(&g, "a", "length");
	buf_free(&g.text);
	reading_stream(&g, CLAUDE, START(USED) TEXT("a") FINISH("stop_sequence", 4) STOP);
	reading_assert_good(&g, "a", "stop");
	buf_free(&g.text);
	reading_stream(&g, CLAUDE, START(USED) TEXT("a") FINISH("refusal", 4) STOP);
	reading_assert_bad(&g, -EPERM, "content filter");
	buf_free(&g.text);
	reading_stream(&g, CLAUDE,
		START(USED) EV("content_block_delta",
			",\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"Hm\"}") TEXT("a")
			FINISH("end_turn", 4) STOP);
	reading_assert_good(&g, "a", "stop");
	buf_free(&g.text);
}
END_TEST

START_TEST(a_body_of_anthropic_is_read)
{
	struct reading g;
	reading_all(&g, CLAUDE, &reading_plain, "application/json",
		"{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
		"\"tool_use\"},{\"type\":\"text\",\"text\":\"b\"}],\"stop_reason\":\"max_tokens\","
		"\"usage\":" USED "}");
	reading_assert_good(&g, "ab", "length");
	reading_assert_usage(&g, 20, 7, 1);
	buf_free(&g.text);
}
END_TEST

START_TEST(faults_of_anthropic_are_what_they_say)
{
	static const struct {
		const char *bytes;
		int result;
		const char *says;
	} bad[] = {
		{START(USED) TEXT("a"), -EPROTO, "before it was complete"},
		{START(USED) EV("error", ",\"error\":{\"type\":\"overloaded_error\",\"message\":"
					 "\"Overloaded\"}"),
			-EHOSTUNREACH, "an error in its answer, overloaded: Overloaded"},
		{EV("error", ",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow\"}"),
			-EBUSY, "slow"},
		{EV("error", ",\"error\":{\"type\":\"authentication_error\",\"message\":\"no\"}"),
			-EACCES, "no"},
		{EV("error", ",\"error\":{\"type\":\"invalid_request_error\",\"message\":"
			     "\"prompt is too long: 9 tokens > 8 maximum\"}"),
			-EMSGSIZE, "too long"},
		{"data: {\"x\":1}\n\n", -EPROTO, "no event of a message"},
		{"data: {\"choices\":[]}\n\n", -EPROTO, "write openai to protocol"},
		{TEXT("\xc3("), -EPROTO, "not JSON"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct reading g;
		reading_stream(&g, CLAUDE, bad[i].bytes);
		reading_assert_bad(&g, bad[i].result, bad[i].says);
		buf_free(&g.text);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("protocol_anthropic");
	TCase *c = tcase_create("anthropic");
	tcase_add_test(c, a_stream_of_anthropic_is_read_whole);
	tcase_add_test(c, a_body_of_anthropic_is_read);
	tcase_add_test(c, faults_of_anthropic_are_what_they_say);
	suite_add_tcase(s, c);
	return run_suite(s);
}
