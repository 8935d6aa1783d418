/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_READING_FIXTURE_H
#define TESTS_GATEWAY_READING_FIXTURE_H

/* What a protocol of upstreams reads in an answer, however its bytes come, and what it sends. */

#include <jansson.h>

#include "gateway/protocol.h"

#define OPENAI (&protocol_openai)
#define CLAUDE (&protocol_anthropic)

extern const struct provider_request reading_plain;
/* With the candidates "safe" and "unsafe". */
extern const struct provider_request reading_judge;

/* What an answer was, and what became of reading it. */
struct reading {
	struct buf text;
	struct protocol_answer answer;
	struct err err;
	int result;
};

/* In pieces of that many bytes. */
void reading_pieces(struct reading *g, const struct protocol *p, const struct provider_request *q,
	const char *type, const char *bytes, size_t len, size_t piece);
/* Reads it in pieces of every length, which must all mean the same; g is that. */
void reading_all(struct reading *g, const struct protocol *p, const struct provider_request *q,
	const char *type, const char *bytes);
/* A stream, as the answer to reading_plain. */
void reading_stream(struct reading *g, const struct protocol *p, const char *bytes);
/* The text of a reading is still the caller's: buf_free. */
void reading_assert_usage(
	const struct reading *g, uint64_t prompt_tok, uint64_t cached_tok, uint64_t output_tok);
void reading_assert_good(const struct reading *g, const char *text, const char *finish);
void reading_assert_bad(const struct reading *g, int result, const char *says);
/* The body of such a request. new. */
json_t *reading_body_of(const struct protocol *p, const struct provider_request *q,
	const struct provider_message *m, size_t n, bool wants_logprobs);
/* Bodies as text with sorted members, so that every field is looked at and none is there too many.
 */
void reading_assert_body(json_t *body, const char *want);

#endif
