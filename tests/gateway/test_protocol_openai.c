/* SPDX-License-Identifier: Apache-2.0 */
/* Answers in OpenAI's protocol. */
#include "gateway/protocol.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gateway/reading_fixture.h"
#include "tests/run_suite.h"

#define OK_CHUNK(delta, finish)                                                                    \
	"data: {\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"created\":1,"         \
	"\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":" finish  \
	"}]}\n\n"
#define SAY(text) OK_CHUNK("{\"content\":\"" text "\"}", "null")
#define USAGE                                                                                      \
	"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":3,"           \
	"\"total_tokens\":23,\"prompt_tokens_details\":{\"cached_tokens\":16}}}\n\n"
#define DONE "data: [DONE]\n\n"
#define END OK_CHUNK("{}", "\"stop\"") DONE

START_TEST(a_stream_of_openai_is_read_whole)
{
	struct reading g;
	reading_stream(&g, OPENAI,
		OK_CHUNK("{\"role\":\"assistant\",\"content\":\"\"}", "null") SAY("Hel")
			SAY("lo \\u4f60\xe5\xa5\xbd \xf0\x9f\x98\x80") OK_CHUNK("{}", "\"stop\"")
				USAGE DONE);
	reading_assert_good(&g, "Hello \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80", "stop");
	reading_assert_usage(&g, 20, 16, 3);
	buf_free(&g.text);
}
END_TEST

START_TEST(each_way_to_end_is_known)
{
	struct reading g;
	reading_stream(&g, OPENAI, SAY("a") OK_CHUNK("{}", "\"length\"") DONE);
	reading_assert_good(&g, "a", "length");
	ck_assert(!g.answer.has_usage);
	buf_free(&g.text);
	reading_stream(&g, OPENAI, SAY("a") OK_CHUNK("{\"content\":null}", "\"eos\"") DONE);
	reading_assert_good(&g, "a", "stop");
	buf_free(&g.text);
	reading_stream(&g, OPENAI, SAY("a") OK_CHUNK("{}", "\"content_filter\"") DONE);
	reading_assert_bad(&g, -EPERM, "content filter");
	buf_free(&g.text);
	/* [DONE] without an empty line; no [DONE], but a reason. */
	reading_stream(&g, OPENAI, SAY("a") OK_CHUNK("{}", "\"stop\"") "data: [DONE]");
	reading_assert_good(&g, "a", "stop");
	buf_free(&g.text);
	reading_stream(&g, OPENAI, SAY("a") OK_CHUNK("{}", "\"stop\""));
	reading_assert_good(&g, "a", "stop");
	buf_free(&g.text);
	/* What comes behind the end is nothing. */
	reading_stream(&g, OPENAI, SAY("a") OK_CHUNK("{}", "\"stop\"") DONE SAY("b") "data: x\n\n");
	reading_assert_good(&g, "a", "stop");
	buf_free(&g.text);
}
END_TEST

START_TEST(an_end_without_a_reason_to_finish_is_none)
{
	struct reading g;
	reading_stream(&g, OPENAI, SAY("a") DONE);
	reading_assert_bad(&g, -EPROTO, "broke off");
	buf_free(&g.text);
	reading_stream(&g, OPENAI, OK_CHUNK("{\"role\":\"assistant\"}", "null") DONE);
	reading_assert_bad(&g, -EPROTO, "broke off");
	buf_free(&g.text);
	reading_stream(&g, OPENAI, DONE);
	reading_assert_bad(&g, -EPROTO, "broke off");
	buf_free(&g.text);
}
END_TEST

START_TEST(thoughts_are_no_part_of_the_answer)
{
	struct reading g;
	reading_stream(&g, OPENAI,
		OK_CHUNK("{\"reasoning_content\":\"Hm.\"}", "null")
			OK_CHUNK("{\"reasoning\":\"Hm.\",\"content\":null}", "null") SAY("a")
				OK_CHUNK("{}", "\"stop\"") DONE);
	reading_assert_good(&g, "a", "stop");
	buf_free(&g.text);
}
END_TEST

START_TEST(one_body_instead_of_a_stream_is_read)
{
	static const char body[] =
		"{\"id\":\"x\",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,"
		"\"message\":{\"role\":\"assistant\",\"content\":\"Hello.\"},\"finish_reason\":"
		"\"stop\"}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}";
	struct reading g;
	static const char *const types[] = {"application/json", "", "text/plain"};
	for (int i = 0; i < 3; i++) {
		reading_all(&g, OPENAI, &reading_plain, types[i], body);
		reading_assert_good(&g, "Hello.", "stop");
		reading_assert_usage(&g, 5, 0, 2);
		buf_free(&g.text);
	}
	/* And a stream without its type. */
	reading_all(&g, OPENAI, &reading_plain, "", SAY("a") OK_CHUNK("{}", "\"stop\"") DONE);
	reading_assert_good(&g, "a", "stop");
	buf_free(&g.text);
}
END_TEST

START_TEST(what_is_not_openai_is_a_broken_protocol)
{
	static const struct {
		const char *bytes;
		int result;
		const char *says;
	} bad[] = {
		{"", -EPROTO, "without a word"},
		{SAY("a"), -EPROTO, "before it was complete"},
		{SAY("a") "data: {\"choices\": [{\"del", -EPROTO, "not JSON"},
		{"html\nno events here\n\n", -EPROTO, "before it was complete"},
		{"data: {\"choices\":[{\"delta\":{\"content\":\n\n", -EPROTO, "not JSON"},
		{"data: [1]\n\n", -EPROTO, "no JSON object"},
		{"data: hello\n\n", -EPROTO, "not JSON"},
		{"data: {\"choices\":5}\n\n", -EPROTO, "no chat completion"},
		{"data: {\"choices\":[5]}\n\n", -EPROTO, "no chat completion"},
		{"data: {\"answer\":42}\n\n", -EPROTO, "no chat completion"},
		{"data: {\"type\":\"message_start\",\"message\":{}}\n\n", -EPROTO,
			"but Anthropic's: write anthropic to protocol"},
		{SAY("\xc3("), -EPROTO, "not JSON"},
		{SAY("\xed\xa0\x80"), -EPROTO, "not JSON"},
		{SAY("\\ud83d"), -EPROTO, "not JSON"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct reading g;
		reading_stream(&g, OPENAI, bad[i].bytes);
		reading_assert_bad(&g, bad[i].result, bad[i].says);
		buf_free(&g.text);
	}
	static const char *const bodies[] = {
		"", "{", "[]", "{}", "{\"choices\":[]}", "{\"choices\":[{}]} x"};
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		struct reading g;
		reading_all(&g, OPENAI, &reading_plain, "application/json", bodies[i]);
		reading_assert_bad(&g, -EPROTO, "");
		buf_free(&g.text);
	}
}
END_TEST

START_TEST(a_page_of_html_is_named_as_one_whatever_its_server_calls_it)
{
	static const char *const types[] = {
		"text/html", "text/plain", "", "text/event-stream", "application/json"};
	static const char *const pages[] = {"\r\n<!doctype html>\n<title>secret</title>\n\n",
		"<html>\nsecret: no events here\n\n", "<"};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		for (size_t k = 0; k < sizeof pages / sizeof *pages; k++) {
			struct reading g;
			reading_all(&g, OPENAI, &reading_plain, types[i], pages[k]);
			reading_assert_bad(&g, -EPROTO, "as a page of HTML does; look at endpoint");
			ck_assert_ptr_null(strstr(g.err.text, "secret"));
			ck_assert(!g.answer.silent);
			buf_free(&g.text);
		}
	/* A stream that begins with a line which is no field, and goes on as one, is an answer. */
	struct reading g;
	reading_stream(&g, OPENAI, "<?\n" SAY("a") OK_CHUNK("{}", "\"stop\"") DONE);
	reading_assert_good(&g, "a", "stop");
	buf_free(&g.text);
}
END_TEST

START_TEST(a_stream_of_nothing_but_comments_is_silent_and_nothing_else_is)
{
	static const struct {
		const char *type, *bytes;
		bool silent;
	} cases[] = {
		{"text/event-stream", "", true},
		{"text/event-stream", "\r\n\n\r", true},
		{"text/event-stream", ": ping\r\n\r\n: data: x\n", true},
		{"text/event-stream", ":", true},
		{"text/event-stream", "retry: 10\n\n", false},
		{"text/event-stream", ": ping\n <html>\n", false},
		{"text/event-stream", "no events here", false},
		{"text/event-stream", SAY("a"), false},
		{"application/json", "", false},
		{"text/plain", "", false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct reading g;
		reading_all(&g, OPENAI, &reading_plain, cases[i].type, cases[i].bytes);
		reading_assert_bad(&g, -EPROTO, cases[i].silent ? "without a word" : "");
		ck_assert_msg(g.answer.silent == cases[i].silent, "%zu", i);
		buf_free(&g.text);
	}
}
END_TEST

START_TEST(an_error_in_the_stream_is_what_it_says)
{
	static const struct {
		const char *bytes;
		int result;
		const char *says;
	} bad[] = {
		{"data: {\"error\":{\"message\":\"it fell\",\"type\":\"server_error\"}}\n\n",
			-EHOSTUNREACH, "it fell"},
		{"data: {\"error\":{\"message\":\"slow\",\"code\":429}}\n\n", -EBUSY, "slow"},
		{"data: {\"error\":{\"message\":\"x\",\"code\":\"rate_limit_exceeded\"}}\n\n",
			-EBUSY, "x"},
		{"data: {\"error\":{\"message\":\"too long\",\"code\":\"context_length_"
		 "exceeded\"}}\n\n",
			-EMSGSIZE, "too long"},
		{"data: {\"object\":\"error\",\"message\":\"bad\",\"type\":\"BadRequestError\","
		 "\"code\":400}\n\n",
			-EPROTO, "bad"},
		{"data: {\"error\":\"boom\"}\n\n", -EHOSTUNREACH, "boom"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct reading g;
		reading_stream(&g, OPENAI, bad[i].bytes);
		reading_assert_bad(&g, bad[i].result, bad[i].says);
		buf_free(&g.text);
	}
}
END_TEST

START_TEST(what_is_not_json_is_not_repeated)
{
	struct reading g;
	reading_stream(&g, OPENAI, "data: SECRETsecret\n\n");
	reading_assert_bad(&g, -EPROTO, "not JSON");
	ck_assert_ptr_null(strstr(g.err.text, "SECRET"));
	buf_free(&g.text);
}
END_TEST

START_TEST(a_body_is_no_longer_than_an_answer_that_was_asked_for)
{
	static const char begin[] = "{\"choices\":[";
	const struct provider_request asked = {.top_p = 1, .max_tokens = 1000};
	char piece[4096];
	memset(piece, '0', sizeof piece);
	for (size_t i = 1; i < sizeof piece; i += 2)
		piece[i] = ',';
	for (int big = 0; big < 2; big++) {
		struct buf text = {0};
		struct protocol_answer a = {.finish = ""};
		struct err err = {0};
		size_t most = (1 << 20) + (big ? (size_t)64 * 1000 : 0), sent = strlen(begin);
		struct protocol_reader *r =
			OPENAI->reader_new(big ? &asked : &reading_plain, "application/json");
		int result = OPENAI->reader_feed(r, begin, sent, &text, &a, &err);
		for (; result == 0 && sent < 8 << 20; sent += sizeof piece)
			result = OPENAI->reader_feed(r, piece, sizeof piece, &text, &a, &err);
		ck_assert_int_eq(result, -EPROTO);
		ck_assert_ptr_nonnull(strstr(err.text, "longer than"));
		ck_assert(sent > most && sent <= most + 2 * sizeof piece);
		OPENAI->reader_free(r);
		buf_free(&text);
	}
}
END_TEST

START_TEST(nothing_behind_the_end_of_an_answer_and_no_empty_event_is_a_fault)
{
	struct reading g;
	reading_stream(&g, OPENAI, "data:\n\ndata: \n\n" SAY("hi") "data\n\n" END);
	reading_assert_good(&g, "hi", "stop");
	buf_free(&g.text);
	static const char good[] = SAY("hi") END "data: ";
	size_t len = sizeof good - 1 + ((size_t)2 << 20);
	char *bytes = malloc(len);
	memset(bytes, 'x', len);
	memcpy(bytes, good, sizeof good - 1);
	for (size_t piece = len; piece; piece = piece == len ? 65536 : 0) {
		reading_pieces(&g, OPENAI, &reading_plain, "text/event-stream", bytes, len, piece);
		reading_assert_good(&g, "hi", "stop");
		buf_free(&g.text);
	}
	free(bytes);
}
END_TEST

START_TEST(a_reader_that_has_failed_fails_again)
{
	struct buf text = {0};
	struct protocol_answer a = {.finish = ""};
	struct err err = {0};
	struct protocol_reader *r = OPENAI->reader_new(&reading_plain, "text/event-stream");
	ck_assert_int_eq(OPENAI->reader_feed(r, "data: x\n\n", 9, &text, &a, &err), -EPROTO);
	ck_assert_int_eq(
		OPENAI->reader_feed(r, SAY("a"), strlen(SAY("a")), &text, &a, &err), -EPROTO);
	ck_assert_int_eq(OPENAI->reader_end(r, &text, &a, &err), -EPROTO);
	ck_assert_uint_eq(text.len, 0);
	OPENAI->reader_free(r);
}
END_TEST

#define TOP(token, logprob) "{\"token\":\"" token "\",\"logprob\":" #logprob "}"
#define POSITION(token, logprob, top)                                                              \
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" token                         \
	"\"},\"logprobs\":{\"content\":[{\"token\":\"" token "\",\"logprob\":" #logprob            \
	",\"top_logprobs\":[" top "]}]},\"finish_reason\":null}]}\n\n"

START_TEST(log_probabilities_are_summed_and_candidates_found)
{
	struct reading g;
	reading_all(&g, OPENAI, &reading_judge, "text/event-stream",
		POSITION("\\n\\n", -0.25, TOP("\\n\\n", -0.25) "," TOP("safe", -3))
			POSITION("un", -0.5,
				TOP("un", -0.5) "," TOP(" safe", -2) "," TOP("safe", -3) "," TOP(
					"s", -4) "," TOP("Un", -5) "," TOP("\\n", -6))
				POSITION("safe", -0.125, TOP("safe", -0.125)) END);
	reading_assert_good(&g, "\n\nunsafe", "stop");
	ck_assert_uint_eq(g.answer.n_logprob, 3);
	ck_assert_double_eq_tol(g.answer.sum_logprob, -0.875, 1e-9);
	ck_assert(g.answer.has_candidates);
	/* "s" is the beginning of "safe" only; the space before a word is none of it. */
	ck_assert_double_eq_tol((double)g.answer.candidate_p[0], exp(-2) + exp(-3) + exp(-4), 1e-6);
	ck_assert_double_eq_tol((double)g.answer.candidate_p[1], exp(-0.5), 1e-6);
	buf_free(&g.text);
	/* A server that gives none. */
	reading_all(&g, OPENAI, &reading_judge, "text/event-stream", SAY("unsafe") END);
	ck_assert(!g.answer.has_candidates);
	ck_assert(isnan(g.answer.candidate_p[0]));
	ck_assert_uint_eq(g.answer.n_logprob, 0);
	buf_free(&g.text);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("protocol_openai");
	TCase *c = tcase_create("protocol_openai");
	tcase_add_test(c, a_stream_of_openai_is_read_whole);
	tcase_add_test(c, each_way_to_end_is_known);
	tcase_add_test(c, an_end_without_a_reason_to_finish_is_none);
	tcase_add_test(c, thoughts_are_no_part_of_the_answer);
	tcase_add_test(c, one_body_instead_of_a_stream_is_read);
	tcase_add_test(c, what_is_not_openai_is_a_broken_protocol);
	tcase_add_test(c, a_page_of_html_is_named_as_one_whatever_its_server_calls_it);
	tcase_add_test(c, a_stream_of_nothing_but_comments_is_silent_and_nothing_else_is);
	tcase_add_test(c, an_error_in_the_stream_is_what_it_says);
	tcase_add_test(c, what_is_not_json_is_not_repeated);
	tcase_add_test(c, a_body_is_no_longer_than_an_answer_that_was_asked_for);
	tcase_add_test(c, nothing_behind_the_end_of_an_answer_and_no_empty_event_is_a_fault);
	tcase_add_test(c, a_reader_that_has_failed_fails_again);
	tcase_add_test(c, log_probabilities_are_summed_and_candidates_found);
	suite_add_tcase(suite, c);
	return run_suite(suite);
}
