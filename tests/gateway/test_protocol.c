/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/protocol.h"

#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tests/run_suite.h"

#define OPENAI (&protocol_openai)
#define CLAUDE (&protocol_anthropic)

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

/* What an answer was, and what became of reading it. */
struct reading {
	struct buf text;
	struct protocol_answer answer;
	struct err err;
	int result;
};

static const char *const words[] = {"safe", "unsafe"};
static const struct provider_request plain = {.temperature = 0.7, .top_p = 1};
static const struct provider_request judge = {
	.temperature = 0, .top_p = 1, .candidates = words, .n_candidates = 2};

static void read_pieces(struct reading *g, const struct protocol *p,
	const struct provider_request *q, const char *type, const char *bytes, size_t len,
	size_t piece)
{
	memset(g, 0, sizeof *g);
	g->answer.finish = "";
	for (int i = 0; i < 4; i++)
		g->answer.candidate_p[i] = NAN;
	ck_assert_int_eq(buf_append(&g->text, "", 0), 0);
	struct protocol_reader *r = p->reader_new(q, type);
	ck_assert_ptr_nonnull(r);
	for (size_t i = 0; i < len && g->result == 0; i += piece)
		g->result = p->reader_feed(r, bytes + i, len - i < piece ? len - i : piece,
			&g->text, &g->answer, &g->err);
	if (g->result == 0)
		g->result = p->reader_end(r, &g->text, &g->answer, &g->err);
	ck_assert_int_eq(g->result < 0, g->err.text[0] != '\0');
	ck_assert_ptr_null(p->reader_free(r));
}

/* Reads it in pieces of every length, which must all mean the same; g is that. */
static void read_all(struct reading *g, const struct protocol *p, const struct provider_request *q,
	const char *type, const char *bytes)
{
	size_t len = strlen(bytes);
	read_pieces(g, p, q, type, bytes, len, len ? len : 1);
	for (size_t piece = 1; piece < len; piece++) {
		struct reading other;
		read_pieces(&other, p, q, type, bytes, len, piece);
		ck_assert_int_eq(other.result, g->result);
		ck_assert_str_eq(other.err.text, g->err.text);
		ck_assert_str_eq(other.text.data, g->text.data);
		ck_assert_str_eq(other.answer.finish, g->answer.finish);
		ck_assert_int_eq(other.answer.complete, g->answer.complete);
		ck_assert_int_eq(other.answer.has_usage, g->answer.has_usage);
		ck_assert_mem_eq(&other.answer.usage, &g->answer.usage, sizeof g->answer.usage);
		ck_assert_mem_eq(
			&other.answer.n_logprob, &g->answer.n_logprob, sizeof g->answer.n_logprob);
		ck_assert_mem_eq(other.answer.candidate_p, g->answer.candidate_p,
			sizeof g->answer.candidate_p);
		buf_free(&other.text);
	}
}

static void read_stream(struct reading *g, const struct protocol *p, const char *bytes)
{
	read_all(g, p, &plain, "text/event-stream", bytes);
}

static void assert_usage(
	const struct reading *g, uint64_t prompt_tok, uint64_t cached_tok, uint64_t output_tok)
{
	ck_assert(g->answer.has_usage);
	ck_assert_uint_eq(g->answer.usage.prompt_tok, prompt_tok);
	ck_assert_uint_eq(g->answer.usage.cached_tok, cached_tok);
	ck_assert_uint_eq(g->answer.usage.output_tok, output_tok);
}

static void assert_good(const struct reading *g, const char *text, const char *finish)
{
	ck_assert_msg(g->result == 0, "%s", g->err.text);
	ck_assert_str_eq(g->text.data, text);
	ck_assert_str_eq(g->answer.finish, finish);
	ck_assert(g->answer.complete);
}

static void assert_bad(const struct reading *g, int result, const char *says)
{
	ck_assert_msg(g->result == result, "%d: %s", g->result, g->err.text);
	ck_assert_msg(strstr(g->err.text, says) != NULL, "%s", g->err.text);
}

/* ---- OpenAI ---- */

START_TEST(a_stream_of_openai_is_read_whole)
{
	struct reading g;
	read_stream(&g, OPENAI,
		OK_CHUNK("{\"role\":\"assistant\",\"content\":\"\"}", "null") SAY("Hel")
			SAY("lo \\u4f60\xe5\xa5\xbd \xf0\x9f\x98\x80") OK_CHUNK("{}", "\"stop\"")
				USAGE DONE);
	assert_good(&g, "Hello \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80", "stop");
	assert_usage(&g, 20, 16, 3);
	buf_free(&g.text);
}
END_TEST

START_TEST(each_way_to_end_is_known)
{
	struct reading g;
	read_stream(&g, OPENAI, SAY("a") OK_CHUNK("{}", "\"length\"") DONE);
	assert_good(&g, "a", "length");
	ck_assert(!g.answer.has_usage);
	buf_free(&g.text);
	read_stream(&g, OPENAI, SAY("a") OK_CHUNK("{\"content\":null}", "\"eos\"") DONE);
	assert_good(&g, "a", "stop");
	buf_free(&g.text);
	read_stream(&g, OPENAI, SAY("a") OK_CHUNK("{}", "\"content_filter\"") DONE);
	assert_bad(&g, -EPERM, "content filter");
	buf_free(&g.text);
	/* [DONE] without an empty line; no [DONE], but a reason. */
	read_stream(&g, OPENAI, SAY("a") OK_CHUNK("{}", "\"stop\"") "data: [DONE]");
	assert_good(&g, "a", "stop");
	buf_free(&g.text);
	read_stream(&g, OPENAI, SAY("a") OK_CHUNK("{}", "\"stop\""));
	assert_good(&g, "a", "stop");
	buf_free(&g.text);
	/* What comes behind the end is nothing. */
	read_stream(&g, OPENAI, SAY("a") OK_CHUNK("{}", "\"stop\"") DONE SAY("b") "data: x\n\n");
	assert_good(&g, "a", "stop");
	buf_free(&g.text);
}
END_TEST

START_TEST(an_end_without_a_reason_to_finish_is_none)
{
	struct reading g;
	read_stream(&g, OPENAI, SAY("a") DONE);
	assert_bad(&g, -EPROTO, "broke off");
	buf_free(&g.text);
	read_stream(&g, OPENAI, OK_CHUNK("{\"role\":\"assistant\"}", "null") DONE);
	assert_bad(&g, -EPROTO, "broke off");
	buf_free(&g.text);
	read_stream(&g, OPENAI, DONE);
	assert_bad(&g, -EPROTO, "broke off");
	buf_free(&g.text);
}
END_TEST

START_TEST(thoughts_are_no_part_of_the_answer)
{
	struct reading g;
	read_stream(&g, OPENAI,
		OK_CHUNK("{\"reasoning_content\":\"Hm.\"}", "null")
			OK_CHUNK("{\"reasoning\":\"Hm.\",\"content\":null}", "null") SAY("a")
				OK_CHUNK("{}", "\"stop\"") DONE);
	assert_good(&g, "a", "stop");
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
		read_all(&g, OPENAI, &plain, types[i], body);
		assert_good(&g, "Hello.", "stop");
		assert_usage(&g, 5, 0, 2);
		buf_free(&g.text);
	}
	/* And a stream without its type. */
	read_all(&g, OPENAI, &plain, "", SAY("a") OK_CHUNK("{}", "\"stop\"") DONE);
	assert_good(&g, "a", "stop");
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
		{"", -EPROTO, "before it was complete"},
		{SAY("a"), -EPROTO, "before it was complete"},
		{SAY("a") "data: {\"choices\": [{\"del", -EPROTO, "not JSON"},
		{"<html>\nno events here\n\n", -EPROTO, "before it was complete"},
		{"data: {\"choices\":[{\"delta\":{\"content\":\n\n", -EPROTO, "not JSON"},
		{"data: [1]\n\n", -EPROTO, "no JSON object"},
		{"data: hello\n\n", -EPROTO, "not JSON"},
		{"data: {\"choices\":5}\n\n", -EPROTO, "no chat completion"},
		{"data: {\"choices\":[5]}\n\n", -EPROTO, "no chat completion"},
		{"data: {\"answer\":42}\n\n", -EPROTO, "no chat completion"},
		{SAY("\xc3("), -EPROTO, "not JSON"},
		{SAY("\xed\xa0\x80"), -EPROTO, "not JSON"},
		{SAY("\\ud83d"), -EPROTO, "not JSON"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct reading g;
		read_stream(&g, OPENAI, bad[i].bytes);
		assert_bad(&g, bad[i].result, bad[i].says);
		buf_free(&g.text);
	}
	static const char *const bodies[] = {
		"", "{", "[]", "{}", "{\"choices\":[]}", "{\"choices\":[{}]} x"};
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		struct reading g;
		read_all(&g, OPENAI, &plain, "application/json", bodies[i]);
		assert_bad(&g, -EPROTO, "");
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
		read_stream(&g, OPENAI, bad[i].bytes);
		assert_bad(&g, bad[i].result, bad[i].says);
		buf_free(&g.text);
	}
}
END_TEST

START_TEST(what_is_not_json_is_not_repeated)
{
	struct reading g;
	read_stream(&g, OPENAI, "data: SECRETsecret\n\n");
	assert_bad(&g, -EPROTO, "not JSON");
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
			OPENAI->reader_new(big ? &asked : &plain, "application/json");
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
	read_stream(&g, OPENAI, "data:\n\ndata: \n\n" SAY("hi") "data\n\n" END);
	assert_good(&g, "hi", "stop");
	buf_free(&g.text);
	static const char good[] = SAY("hi") END "data: ";
	size_t len = sizeof good - 1 + ((size_t)2 << 20);
	char *bytes = malloc(len);
	memset(bytes, 'x', len);
	memcpy(bytes, good, sizeof good - 1);
	for (size_t piece = len; piece; piece = piece == len ? 65536 : 0) {
		read_pieces(&g, OPENAI, &plain, "text/event-stream", bytes, len, piece);
		assert_good(&g, "hi", "stop");
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
	struct protocol_reader *r = OPENAI->reader_new(&plain, "text/event-stream");
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
	read_all(&g, OPENAI, &judge, "text/event-stream",
		POSITION("\\n\\n", -0.25, TOP("\\n\\n", -0.25) "," TOP("safe", -3))
			POSITION("un", -0.5,
				TOP("un", -0.5) "," TOP(" safe", -2) "," TOP("safe", -3) "," TOP(
					"s", -4) "," TOP("Un", -5) "," TOP("\\n", -6))
				POSITION("safe", -0.125, TOP("safe", -0.125)) END);
	assert_good(&g, "\n\nunsafe", "stop");
	ck_assert_uint_eq(g.answer.n_logprob, 3);
	ck_assert_double_eq_tol(g.answer.sum_logprob, -0.875, 1e-9);
	ck_assert(g.answer.has_candidates);
	/* "s" is the beginning of "safe" only; the space before a word is none of it. */
	ck_assert_double_eq_tol((double)g.answer.candidate_p[0], exp(-2) + exp(-3) + exp(-4), 1e-6);
	ck_assert_double_eq_tol((double)g.answer.candidate_p[1], exp(-0.5), 1e-6);
	buf_free(&g.text);
	/* A server that gives none. */
	read_all(&g, OPENAI, &judge, "text/event-stream", SAY("unsafe") END);
	ck_assert(!g.answer.has_candidates);
	ck_assert(isnan(g.answer.candidate_p[0]));
	ck_assert_uint_eq(g.answer.n_logprob, 0);
	buf_free(&g.text);
}
END_TEST

/* ---- what is sent ---- */

static json_t *body_of(const struct protocol *p, const struct provider_request *q,
	const struct provider_message *m, size_t n, bool wants_logprobs)
{
	char *messages = NULL;
	size_t len;
	struct err err = {0};
	struct buf out = {0};
	ck_assert_msg(p->messages(&messages, &len, m, n, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(strlen(messages), len);
	struct protocol_ask ask = {"its-name", messages, q, wants_logprobs};
	ck_assert_msg(p->chat_body(&out, &ask, &err) == 0, "%s", err.text);
	json_t *body = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
	ck_assert_msg(body != NULL, "%s", out.data);
	buf_free(&out);
	free(messages);
	return body;
}

/* Bodies as text with sorted members, so that every field is looked at and none is there too many.
 */
static void assert_body(json_t *body, const char *want)
{
	char *text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(12));
	ck_assert_str_eq(text, want);
	free(text);
	json_decref(body);
}

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
	struct provider_request q = plain;
	assert_body(body_of(OPENAI, &q, talk, 4, false),
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
	assert_body(body_of(OPENAI, &q, talk, 4, true),
		"{\"frequency_penalty\":0.25,\"ignore_eos\":true,\"logprobs\":true,"
		"\"max_tokens\":100," OPENAI_MESSAGES "\"min_p\":0.05,\"model\":\"its-name\","
		"\"presence_penalty\":-0.5,\"repetition_penalty\":1.5,\"response_format\":{"
		"\"type\":\"json_"
		"object\"},\"seed\":7,"
		"\"stop\":[\"\\n\\n\",\"END\"],\"stream\":true,\"stream_options\":{"
		"\"include_usage\":true},\"temperature\":0.0,\"top_k\":40,\"top_logprobs\":1,"
		"\"top_p\":0.9}");
	json_t *body = body_of(OPENAI, &judge, talk, 4, true);
	ck_assert_int_eq(json_integer_value(json_object_get(body, "top_logprobs")), 20);
	json_decref(body);
	q.seed = UINT64_MAX - 5;
	body = body_of(OPENAI, &q, talk, 4, false);
	json_int_t seed = json_integer_value(json_object_get(body, "seed"));
	ck_assert(seed >= 0 && seed <= INT32_MAX);
	json_decref(body);
}
END_TEST

START_TEST(anthropic_is_sent_each_field_that_it_has)
{
	static const char *const stop[] = {"END"};
	struct provider_request q = plain;
	assert_body(body_of(CLAUDE, &q, talk, 4, false),
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
	assert_body(body_of(CLAUDE, &q, talk + 3, 1, true),
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
	assert_body(json_loads(json, 0, NULL),
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

/* ---- Anthropic ---- */

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
	read_stream(&g, CLAUDE,
		START(USED) EV("content_block_start",
			",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}")
			EV("ping", "") TEXT("Hel") EV("something_new", ",\"x\":1")
				TEXT("lo\xe2\x82\xac") EV("content_block_stop", ",\"index\":0")
					FINISH("end_turn", 4) STOP);
	assert_good(&g, "Hello\xe2\x82\xac", "stop");
	assert_usage(&g, 20, 7, 4);
	buf_free(&g.text);
	read_stream(&g, CLAUDE, START(USED) TEXT("a") FINISH("max_tokens", 4) STOP);
	assert_good(&g, "a", "length");
	buf_free(&g.text);
	read_stream(&g, CLAUDE, START(USED) TEXT("a") FINISH("stop_sequence", 4) STOP);
	assert_good(&g, "a", "stop");
	buf_free(&g.text);
	read_stream(&g, CLAUDE, START(USED) TEXT("a") FINISH("refusal", 4) STOP);
	assert_bad(&g, -EPERM, "content filter");
	buf_free(&g.text);
	read_stream(&g, CLAUDE,
		START(USED) EV("content_block_delta",
			",\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"Hm\"}") TEXT("a")
			FINISH("end_turn", 4) STOP);
	assert_good(&g, "a", "stop");
	buf_free(&g.text);
}
END_TEST

START_TEST(a_body_of_anthropic_is_read)
{
	struct reading g;
	read_all(&g, CLAUDE, &plain, "application/json",
		"{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
		"\"tool_use\"},{\"type\":\"text\",\"text\":\"b\"}],\"stop_reason\":\"max_tokens\","
		"\"usage\":" USED "}");
	assert_good(&g, "ab", "length");
	assert_usage(&g, 20, 7, 1);
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
			-EHOSTUNREACH, "529, overloaded: Overloaded"},
		{EV("error", ",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow\"}"),
			-EBUSY, "slow"},
		{EV("error", ",\"error\":{\"type\":\"authentication_error\",\"message\":\"no\"}"),
			-EACCES, "no"},
		{EV("error", ",\"error\":{\"type\":\"invalid_request_error\",\"message\":"
			     "\"prompt is too long: 9 tokens > 8 maximum\"}"),
			-EMSGSIZE, "too long"},
		{"data: {\"x\":1}\n\n", -EPROTO, "no event of a message"},
		{TEXT("\xc3("), -EPROTO, "not JSON"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct reading g;
		read_stream(&g, CLAUDE, bad[i].bytes);
		assert_bad(&g, bad[i].result, bad[i].says);
		buf_free(&g.text);
	}
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
	assert_body(json_loadb(out.data, out.len, JSON_ALLOW_NUL, NULL),
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

/* ---- what is common ---- */

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
	TCase *c = tcase_create("openai");
	tcase_add_test(c, a_stream_of_openai_is_read_whole);
	tcase_add_test(c, each_way_to_end_is_known);
	tcase_add_test(c, an_end_without_a_reason_to_finish_is_none);
	tcase_add_test(c, thoughts_are_no_part_of_the_answer);
	tcase_add_test(c, one_body_instead_of_a_stream_is_read);
	tcase_add_test(c, what_is_not_openai_is_a_broken_protocol);
	tcase_add_test(c, an_error_in_the_stream_is_what_it_says);
	tcase_add_test(c, what_is_not_json_is_not_repeated);
	tcase_add_test(c, a_body_is_no_longer_than_an_answer_that_was_asked_for);
	tcase_add_test(c, nothing_behind_the_end_of_an_answer_and_no_empty_event_is_a_fault);
	tcase_add_test(c, a_reader_that_has_failed_fails_again);
	tcase_add_test(c, log_probabilities_are_summed_and_candidates_found);
	suite_add_tcase(s, c);
	c = tcase_create("sent");
	tcase_add_test(c, openai_is_sent_each_field_that_it_has);
	tcase_add_test(c, anthropic_is_sent_each_field_that_it_has);
	tcase_add_test(c, anthropic_is_sent_roles_in_turns);
	tcase_add_test(c, a_text_that_is_not_utf8_is_not_sent);
	tcase_add_test(c, headers_have_the_key_where_the_protocol_has_it);
	suite_add_tcase(s, c);
	c = tcase_create("anthropic");
	tcase_add_test(c, a_stream_of_anthropic_is_read_whole);
	tcase_add_test(c, a_body_of_anthropic_is_read);
	tcase_add_test(c, faults_of_anthropic_are_what_they_say);
	suite_add_tcase(s, c);
	c = tcase_create("embeddings");
	tcase_add_test(c, embeddings_come_in_the_order_asked_and_of_unit_length);
	tcase_add_test(c, embeddings_that_were_not_asked_for_are_refused);
	tcase_add_test(c, texts_to_embed_are_sent_in_their_order);
	suite_add_tcase(s, c);
	c = tcase_create("common");
	tcase_add_test(c, a_status_means_what_the_table_says);
	tcase_add_test(c, a_fault_does_not_tell_a_key);
	tcase_add_test(c, an_estimate_is_near_what_tokenizers_say);
	tcase_add_test(c, protocols_are_found_by_name);
	suite_add_tcase(s, c);
	return run_suite(s);
}
