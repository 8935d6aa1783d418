/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/protocol_chunk.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/run_suite.h"

/* Chunks as servers send them: OpenAI, vLLM, llama-cpp-python, Ollama, the plainest. */
static const char *const usual[] = {
	"{\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"created\":1732579200,"
	"\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\"system_fingerprint\":"
	"\"fp_1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\","
	"\"refusal\":null},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}",
	"{\"id\":\"chat-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\","
	"\"choices\":[{\"index\":0,\"delta\":{\"content\":\" d\\u00e9j\\u00e0 \\\"vu\\\"\"},"
	"\"logprobs\":null,\"finish_reason\":null}]}",
	"{\"choices\":[{\"delta\":{\"content\":\"a\\nb\\t\\\"\\\\\\/ \xc3\xa9\"},\"index\":0}]}",
	"{\"id\": \"chatcmpl-1\", \"object\": \"chat.completion.chunk\", \"created\": 1, "
	"\"model\": \"m\", \"choices\": [{\"index\": 0, \"delta\": {\"content\": \"Write\"}, "
	"\"logprobs\": null, \"finish_reason\": null}]}",
	"{\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\",\"content\":null,"
	"\"tool_calls\":[]},\"finish_reason\":\"length\",\"x\":[1,-2,3.5,true,false,{}]}]}",
	"{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":"
	"{\"prompt_tokens\":20,\"completion_tokens\":3,\"total_tokens\":23}}",
	"{\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":{\"prompt_tokens\":20,"
	"\"completion_tokens\":3,\"total_tokens\":23,\"prompt_tokens_details\":{\"cached_tokens\":"
	"16,\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0}}} ",
	"{\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"prompt_tokens_details\":null,"
	"\"completion_tokens\":0}}",
};
enum { N_USUAL = sizeof usual / sizeof *usual };

/* Chunks that say something which only the long way knows, or are none. */
static const char *const unusual[] = {
	"",
	"{",
	"[]",
	"null",
	"{}",
	"{\"choices\":null}",
	"{\"choices\":[]} x",
	"{\"choices\":[],\"choices\":[]}",
	"{\"choices\":[1]}",
	"{\"choices\":[{},{}]}",
	"{\"choices\":[],\"error\":{\"message\":\"no\"}}",
	"{\"object\":\"error\",\"choices\":[]}",
	"{\"choices\":[{\"delta\":{\"content\":\"\\ud83d\\ude00\"}}]}",
	"{\"choices\":[{\"delta\":{\"content\":\"a\"},\"logprobs\":{\"content\":[]}}]}",
	"{\"choices\":[{\"delta\":{\"content\":\"a\",\"content\":\"b\"}}]}",
	"{\"choices\":[{\"delta\":{},\"finish_reason\":\"content_filter\"}]}",
	"{\"choices\":[],\"usage\":{\"prompt_tokens\":1}}",
	"{\"choices\":[],\"usage\":{\"prompt_tokens\":-1,\"completion_tokens\":1}}",
	"{\"choices\":[],\"usage\":{\"prompt_tokens\":1e1,\"completion_tokens\":1}}",
	"{\"choices\":[],\"usage\":{\"prompt_tokens\":9000000000000,\"completion_tokens\":1}}",
	"{\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}",
	"{\"choices\":[],\"a\":01}",
	"{\"choices\":[],\"a\":1.}",
	"{\"choices\":[],\"\\u0061\":1}",
	"{\"choices\":[],\"a\":\"\n\"}",
	"{\"choices\":[],\"a\":\"\\x\"}",
	"{\"choices\":[],}",
	"{\"choices\":[],\"a\":tru}",
	"{\"choices\":[],\"a\":[1,]}",
	"{\"choices\":[],\"a\":-}",
};
enum { N_UNUSUAL = sizeof unusual / sizeof *unusual };

struct reading {
	struct buf text;
	struct protocol_answer answer;
	struct err err;
	int result;
};

static void start(struct reading *g)
{
	memset(g, 0, sizeof *g);
	g->answer.finish = "";
}

/* As an event of a stream; quick: with the short way where it can be taken. */
static void read_event(struct reading *g, const char *json, size_t len, bool quick)
{
	static const struct provider_request request = {.top_p = 1};
	start(g);
	struct protocol_reader *r = protocol_openai.reader_new(&request, "text/event-stream");
	if (!r)
		abort();
	if (!quick)
		r->usual = NULL;
	const char *const pieces[] = {"data: ", json, "\n\n"};
	const size_t lens[] = {6, len, 2};
	for (int i = 0; i < 3 && g->result == 0; i++)
		g->result = protocol_openai.reader_feed(
			r, pieces[i], lens[i], &g->text, &g->answer, &g->err);
	protocol_openai.reader_free(r);
}

static void reads_the_same(const char *json, size_t len)
{
	struct reading a, b;
	read_event(&a, json, len, true);
	read_event(&b, json, len, false);
	bool same = a.result == b.result && !strcmp(a.err.text, b.err.text) &&
		    a.text.len == b.text.len &&
		    !memcmp(a.text.data ? a.text.data : "", b.text.data ? b.text.data : "",
			    a.text.len) &&
		    !strcmp(a.answer.finish, b.answer.finish) &&
		    a.answer.has_usage == b.answer.has_usage &&
		    !memcmp(&a.answer.usage, &b.answer.usage, sizeof a.answer.usage);
	if (!same) /* libcheck writes a file at each assertion */
		ck_abort_msg("%.*s: %d %s, %d %s", (int)len, json, a.result, a.err.text, b.result,
			b.err.text);
	buf_free(&a.text);
	buf_free(&b.text);
}

static int take(struct reading *g, const char *json, size_t len)
{
	start(g);
	const struct protocol_sink to = {&g->text, &g->answer, &g->err};
	return protocol_chunk_take(json, len, &to);
}

START_TEST(what_servers_send_is_taken_but_for_coded_characters)
{
	for (int i = 0; i < N_USUAL; i++) {
		struct reading g;
		ck_assert_int_eq(take(&g, usual[i], strlen(usual[i])), i != 1);
		buf_free(&g.text);
		reads_the_same(usual[i], strlen(usual[i]));
	}
	struct reading g;
	ck_assert_int_eq(take(&g, usual[2], strlen(usual[2])), 1);
	ck_assert_str_eq(g.text.data, "a\nb\t\"\\/ \xc3\xa9");
	buf_free(&g.text);
	ck_assert_int_eq(take(&g, usual[4], strlen(usual[4])), 1);
	ck_assert_str_eq(g.answer.finish, "length");
	ck_assert_int_eq(take(&g, usual[6], strlen(usual[6])), 1);
	ck_assert(g.answer.has_usage && g.answer.usage.prompt_tok == 20 &&
		  g.answer.usage.cached_tok == 16 && g.answer.usage.output_tok == 3);
}
END_TEST

START_TEST(of_what_is_not_usual_nothing_is_taken)
{
	for (int i = 0; i < N_UNUSUAL; i++) {
		struct reading g;
		ck_assert_msg(take(&g, unusual[i], strlen(unusual[i])) == 0, "%s", unusual[i]);
		ck_assert(!g.text.len && !*g.answer.finish && !g.answer.has_usage);
		reads_the_same(unusual[i], strlen(unusual[i]));
	}
}
END_TEST

/* Each byte replaced, left out and doubled, each part of it said twice, each beginning of it. */
START_TEST(a_chunk_with_any_fault_means_what_the_library_says)
{
	static const char others[] = "\"\\{}[]:,-.0e1nt \n\x01\x80\xff";
	const char *from = usual[_i];
	size_t len = strlen(from);
	char *text = malloc(2 * len + 2);
	ck_assert_ptr_nonnull(text);
	for (size_t at = 0; at < len; at++) {
		for (size_t k = 0; k < sizeof others; k++) { /* NUL, too */
			memcpy(text, from, len);
			text[at] = others[k];
			reads_the_same(text, len);
		}
		memcpy(text, from, at);
		memcpy(text + at, from + at + 1, len - at - 1);
		reads_the_same(text, len - 1);
		memcpy(text, from, at + 1);
		memcpy(text + at + 1, from + at, len - at);
		reads_the_same(text, len + 1);
		reads_the_same(from, at);
	}
	for (size_t at = 0; at < len; at++)
		for (size_t to = at + 1; from[at] == '"' && to < len; to++) {
			if (from[to] != ',')
				continue; /* "name": value, twice */
			memcpy(text, from, to + 1);
			memcpy(text + to + 1, from + at, len - at);
			reads_the_same(text, len + to + 1 - at);
		}
	free(text);
}
END_TEST

/* A chunk whose content is n times `a`, but for two bytes at a place. */
static void read_content(size_t n, size_t at, unsigned char one, unsigned char other, bool plain)
{
	static const char head[] = "{\"choices\":[{\"delta\":{\"content\":\"", tail[] = "\"}}]}";
	size_t len = sizeof head - 1 + n + sizeof tail - 1;
	char *text = malloc(len); /* so that a sanitizer sees what is read behind it */
	if (!text)
		abort();
	memcpy(text, head, sizeof head - 1);
	memset(text + sizeof head - 1, 'a', n);
	memcpy(text + sizeof head - 1 + n, tail, sizeof tail - 1);
	if (at < n)
		text[sizeof head - 1 + at] = (char)one;
	if (at + 1 < n)
		text[sizeof head + at] = (char)other;
	struct reading g;
	if (plain && (take(&g, text, len) != 1 || g.text.len != n))
		ck_abort_msg("%zu, %zu: %02x %02x is not taken", n, at, one, other);
	if (plain)
		buf_free(&g.text);
	reads_the_same(text, len);
	free(text);
}

START_TEST(a_byte_anywhere_in_a_string_means_what_the_library_says)
{
	static const unsigned char some[] = {
		0, 1, 0x1f, ' ', '!', '"', '#', '[', '\\', ']', 'b', 'n', 0x7f, 0x80, 0xc3, 0xff};
	for (size_t n = 0; n < 18; n++)
		for (size_t at = 0; at <= n; at++) {
			for (int byte = 0; byte < 256; byte++)
				read_content(n, at, (unsigned char)byte, 'a',
					byte >= ' ' && byte < 0x80 && byte != '"' && byte != '\\');
			for (size_t i = 0; i < sizeof some; i++)
				for (size_t k = 0; k < sizeof some; k++)
					read_content(n, at, some[i], some[k], false);
		}
}
END_TEST

START_TEST(too_deep_a_chunk_is_left_to_the_library)
{
	char text[4096];
	for (int depth = 1; depth < 40; depth++) {
		int n = snprintf(text, sizeof text, "{\"choices\":[],\"a\":");
		for (int i = 0; i < depth; i++)
			text[n++] = '[';
		for (int i = 0; i < depth; i++)
			text[n++] = ']';
		text[n++] = '}';
		reads_the_same(text, (size_t)n);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("protocol_chunk");
	TCase *t = tcase_create("chunks");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, what_servers_send_is_taken_but_for_coded_characters);
	tcase_add_test(t, of_what_is_not_usual_nothing_is_taken);
	tcase_add_loop_test(t, a_chunk_with_any_fault_means_what_the_library_says, 0, N_USUAL);
	tcase_add_test(t, a_byte_anywhere_in_a_string_means_what_the_library_says);
	tcase_add_test(t, too_deep_a_chunk_is_left_to_the_library);
	suite_add_tcase(s, t);
	return run_suite(s);
}
