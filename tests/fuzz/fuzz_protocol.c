/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whatever a server sends, an answer is UTF-8, its numbers agree, and neither depends on how the
 * bytes were cut, nor on whether the usual chunks are read the short way; a fault has a sentence;
 * embeddings are all there and of unit length. The first byte picks the protocol and the content
 * type, the second is the length of the pieces.
 */

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/protocol_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool claim)
{
	if (!claim)
		abort();
}

static const char *const words[] = {"safe", "unsafe"};
static const struct provider_request request = {.candidates = words, .n_candidates = 2};

struct reading {
	struct buf text;
	struct protocol_answer answer;
	int result;
};

static void read_pieces(struct reading *g, const struct protocol *p, const char *type,
	const char *bytes, size_t n, size_t piece, bool quick)
{
	struct err err = {0};
	memset(g, 0, sizeof *g);
	g->answer.finish = "";
	struct protocol_reader *r = p->reader_new(&request, type);
	must(r != NULL);
	if (!quick)
		r->usual = NULL;
	for (size_t i = 0; i < n && g->result == 0; i += piece)
		g->result = p->reader_feed(
			r, bytes + i, n - i < piece ? n - i : piece, &g->text, &g->answer, &err);
	if (g->result == 0)
		g->result = p->reader_end(r, &g->text, &g->answer, &err);
	must((g->result < 0) == (err.text[0] != '\0'));
	must(g->result == 0 || g->result == -EPROTO || g->result == -EPERM ||
		g->result == -EACCES || g->result == -EHOSTUNREACH || g->result == -ETIMEDOUT ||
		g->result == -EMSGSIZE || g->result == -EBUSY);
	must(utf8_valid_prefix(g->text.data, g->text.len) == g->text.len);
	must(g->result < 0 || g->answer.complete);
	p->reader_free(r);
}

static void check_answer(const struct protocol_answer *a)
{
	must(a->usage.cached_tok <= a->usage.prompt_tok || !a->has_usage);
	for (int i = 0; a->has_candidates && i < 2; i++)
		must(a->candidate_p[i] >= 0 && a->candidate_p[i] <= 1);
}

static void check_embeddings(const char *body, size_t n)
{
	float *v = NULL;
	size_t dim = 0;
	struct trace_usage usage;
	bool retryable;
	struct err err = {0};
	if (protocol_openai.embed_read(body, n, 2, &v, &dim, &usage, &retryable, &err) < 0) {
		must(err.text[0] && !v);
		return;
	}
	for (size_t i = 0; i < 2; i++) {
		double sum = 0;
		for (size_t k = 0; k < dim; k++)
			sum += (double)v[i * dim + k] * v[i * dim + k];
		must(fabs(sum - 1) < 1e-3);
	}
	free(v);
}

static void check_fault(long status, const char *body, size_t n)
{
	struct err err = {0};
	bool retryable;
	must(protocol_fault(status, body, n, &retryable, &err) < 0 && err.text[0]);
	for (const char *s = err.text; *s; s++)
		must(*s >= ' ' && *s <= '~');
	size_t tok = protocol_estimate_tok(body, n);
	must(tok <= n && (tok || !n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const types[] = {"text/event-stream", "application/json", ""};
	struct reading whole, pieces;
	if (n < 2)
		return 0;
	const struct protocol *p = data[0] & 1 ? &protocol_anthropic : &protocol_openai;
	const char *type = types[(data[0] >> 1) % 3], *bytes = (const char *)data + 2;
	size_t piece = (size_t)data[1] + 1;
	n -= 2;
	read_pieces(&whole, p, type, bytes, n, n ? n : 1, true);
	read_pieces(&pieces, p, type, bytes, n, piece, false);
	must(whole.result == pieces.result && whole.text.len == pieces.text.len);
	must(!whole.text.len || !memcmp(whole.text.data, pieces.text.data, whole.text.len));
	must(!memcmp(&whole.answer.usage, &pieces.answer.usage, sizeof whole.answer.usage));
	must(!strcmp(whole.answer.finish, pieces.answer.finish));
	check_answer(&whole.answer);
	buf_free(&whole.text);
	buf_free(&pieces.text);
	check_embeddings(bytes, n);
	check_fault(400 + data[1], bytes, n);
	return 0;
}
