/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/reading_fixture.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const char *const words[] = {"safe", "unsafe"};
const struct provider_request reading_plain = {.temperature = 0.7, .top_p = 1};
const struct provider_request reading_judge = {
	.temperature = 0, .top_p = 1, .candidates = words, .n_candidates = 2};

void reading_pieces(struct reading *g, const struct protocol *p, const struct provider_request *q,
	const char *type, const char *bytes, size_t len, size_t piece)
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

void reading_all(struct reading *g, const struct protocol *p, const struct provider_request *q,
	const char *type, const char *bytes)
{
	size_t len = strlen(bytes);
	reading_pieces(g, p, q, type, bytes, len, len ? len : 1);
	for (size_t piece = 1; piece < len; piece++) {
		struct reading other;
		reading_pieces(&other, p, q, type, bytes, len, piece);
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

void reading_stream(struct reading *g, const struct protocol *p, const char *bytes)
{
	reading_all(g, p, &reading_plain, "text/event-stream", bytes);
}

void reading_assert_usage(
	const struct reading *g, uint64_t prompt_tok, uint64_t cached_tok, uint64_t output_tok)
{
	ck_assert(g->answer.has_usage);
	ck_assert_uint_eq(g->answer.usage.prompt_tok, prompt_tok);
	ck_assert_uint_eq(g->answer.usage.cached_tok, cached_tok);
	ck_assert_uint_eq(g->answer.usage.output_tok, output_tok);
}

void reading_assert_good(const struct reading *g, const char *text, const char *finish)
{
	ck_assert_msg(g->result == 0, "%s", g->err.text);
	ck_assert_str_eq(g->text.data, text);
	ck_assert_str_eq(g->answer.finish, finish);
	ck_assert(g->answer.complete);
}

void reading_assert_bad(const struct reading *g, int result, const char *says)
{
	ck_assert_msg(g->result == result, "%d: %s", g->result, g->err.text);
	ck_assert_msg(strstr(g->err.text, says) != NULL, "%s", g->err.text);
}

json_t *reading_body_of(const struct protocol *p, const struct provider_request *q,
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

void reading_assert_body(json_t *body, const char *want)
{
	char *text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(12));
	ck_assert_str_eq(text, want);
	free(text);
	json_decref(body);
}
