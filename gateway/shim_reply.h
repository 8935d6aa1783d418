/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SHIM_REPLY_H
#define GATEWAY_SHIM_REPLY_H

/* What OpenAI's clients read: objects, events of a stream, errors. Pure. Everything is appended to
 * *out: 0 or -ENOMEM, -EFBIG. */

#include "base/buf.h"
#include "gateway/gateway_sessions.h"

enum shim_kind { SHIM_CHAT, SHIM_COMPLETION };

/* What is the same in all events of an answer. */
struct shim_head {
	enum shim_kind kind;
	const char *id;    /* "chatcmpl-12" */
	const char *model; /* as the client named it */
	int64_t created_s;
};

struct shim_choice {
	unsigned index;
	const char *text; /* UTF-8, of the whole answer */
	size_t len;
	const char *finish; /* "stop", "length", "content_filter" */
};

struct shim_usage {
	uint64_t prompt_tok, cached_tok, output_tok; /* prompt_tok: with the cached ones */
};

/* Not streamed: one object. */
int shim_reply_whole(struct buf *out, const struct shim_head *head,
	const struct shim_choice *choices, size_t n, const struct shim_usage *usage);

/* Streamed: each is a whole event, "data: {...}\n\n". begin: the role, chat only (nothing is
 * appended for completions). `with_usage`: every event but the last has "usage": null, and
 * shim_reply_usage comes, as OpenAI does with stream_options. */
int shim_reply_begin(
	struct buf *out, const struct shim_head *head, unsigned index, bool with_usage);
int shim_reply_text(struct buf *out, const struct shim_head *head, unsigned index, const char *text,
	size_t len, bool with_usage);
int shim_reply_finish(struct buf *out, const struct shim_head *head, unsigned index,
	const char *finish, bool with_usage);
int shim_reply_usage(struct buf *out, const struct shim_head *head, const struct shim_usage *usage);
int shim_reply_done(struct buf *out); /* "data: [DONE]\n\n" */

/* An error, as a status and as OpenAI's object. */
struct shim_error {
	unsigned status;  /* 400 ... */
	const char *type; /* "invalid_request_error", "rate_limit_error" ...: static */
	const char *code; /* "rate_limit_exceeded", "insufficient_quota" ...: static, or NULL */
	bool no_retry;    /* the header x-should-retry: false */
};
/* What an errno of the pipeline is in HTTP (interface.md, section 2): EPERM 400 content_filter,
 * EDQUOT 429 insufficient_quota (no_retry), EAGAIN 429 rate_limit_exceeded, EBUSY 429, EFBIG 413,
 * EMSGSIZE 400 context_length_exceeded, EHOSTUNREACH 503, ETIMEDOUT 504, EPROTO 502, EINVAL EILSEQ
 * 400, ENOENT 404 model_not_found, EACCES 502 (our key at an upstream is refused), ENOTSUP 400,
 * ESHUTDOWN 503, ECANCELED 503, others 500. */
void shim_error_of(int code, struct shim_error *out);
/* {"error": {"message", "type", "param", "code"}}; param NULL or "": null. */
int shim_reply_error(
	struct buf *out, const struct shim_error *e, const char *sentence, const char *param);
/* The same inside a stream that has begun: an event. */
int shim_reply_error_event(struct buf *out, const struct shim_error *e, const char *sentence);

/* /v1/models. */
int shim_reply_model(struct buf *out, const char *id, int64_t created_s); /* one object */
int shim_reply_models(struct buf *out, const char *const *ids, size_t n, int64_t created_s);

/* /v1/embeddings. */
struct shim_vector {
	const float *x; /* [dim] */
	size_t dim;
};
int shim_reply_embeddings(struct buf *out, const char *model, const struct shim_vector *vectors,
	size_t n, bool base64, uint64_t prompt_tok);

#endif
