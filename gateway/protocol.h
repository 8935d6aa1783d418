/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_PROTOCOL_H
#define GATEWAY_PROTOCOL_H

/*
 * The languages of upstreams, behind one table: what is sent, and what the answer's bytes mean.
 * Pure: no connection, no thread, no clock. protocol_openai.c (chat completions, embeddings: vLLM,
 * llama.cpp, llmfs, clouds) and protocol_anthropic.c (messages).
 */

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "gateway/provider.h"

struct protocol_ask {
	const char *model;    /* its name there */
	const char *messages; /* from `messages` below */
	const struct provider_request *request;
	bool wants_logprobs; /* the mean log-probability is wanted, or candidates are */
};

/* What an answer's bytes meant so far. */
struct protocol_answer {
	struct trace_usage usage; /* 0 where the upstream has not said it */
	bool has_usage;
	const char *finish; /* static: "stop", "length", "" (not yet) */
	bool complete;      /* its end was seen: [DONE], message_stop, a whole JSON body */
	double sum_logprob;
	uint64_t n_logprob;
	float candidate_p[4]; /* NAN until known */
	bool has_candidates;
	bool refused; /* it sent an error that says that the request is at fault, not the server */
	bool silent;  /* reader_end: it was a stream, and nothing was in it, or comments alone */
};

struct protocol_reader; /* of one response */

struct protocol {
	const char *name;        /* "openai" */
	const char *chat_path;   /* behind the endpoint: "/chat/completions", "/messages" */
	const char *embed_path;  /* NULL: it has none */
	const char *health_path; /* "/models" */

	/* The conversation as this protocol's JSON (for anthropic an object with system and
	 * messages). new *json, one malloc'ed block, NUL-terminated. -EILSEQ, -ENOMEM, -EINVAL. */
	int (*messages)(char **json, size_t *len, const struct provider_message *messages, size_t n,
		struct err *err);
	/* The whole body of a streaming request. Fields that the protocol does not have are left
	 * away; those it has and we set are always said, also where they are a default of ours. */
	int (*chat_body)(struct buf *out, const struct protocol_ask *ask, struct err *err);
	int (*embed_body)(struct buf *out, const char *model, const struct provider_embed *q,
		struct err *err);
	/* Appends "name: value" NUL-terminated strings, one behind the other, with the key in them
	 * (key NULL: none), and an empty one at the end. The caller wipes the buffer. */
	int (*headers)(struct buf *out, const char *key);

	/* A response with status 200, by its content type (an event stream, or one JSON body).
	 * new, or NULL when memory is out. Borrows request, of which it reads the candidates. The
	 * answer is zeroed before the first reader_feed, but for finish "" and candidate_p NAN. */
	struct protocol_reader *(*reader_new)(
		const struct provider_request *request, const char *content_type);
	struct protocol_reader *(*reader_free)(struct protocol_reader *r); /* NULL too */
	/* More bytes: appends answer text to *text (whole UTF-8 sequences), updates *answer. 0;
	 * -EPROTO with a sentence: not this protocol, or not UTF-8; what an error event in the
	 * stream says, as `fault` below (then see `refused`); -EPERM: its content filter stopped
	 * it; -ENOMEM. */
	int (*reader_feed)(struct protocol_reader *r, const char *bytes, size_t len,
		struct buf *text, struct protocol_answer *answer, struct err *err);
	/* The body has ended. 0, or -EPROTO: it was not complete. A reason to finish is an end,
	 * too, where only [DONE] or message_stop is missing. */
	int (*reader_end)(struct protocol_reader *r, struct buf *text,
		struct protocol_answer *answer, struct err *err);
	/* A whole body of embeddings: new *vectors [n][*dim], unit length, in the order asked.
	 * -EPROTO, or what an error in it says, as `fault` below; *retryable: the server is at
	 * fault. */
	int (*embed_read)(const char *body, size_t len, size_t n, float **vectors, size_t *dim,
		struct trace_usage *usage, bool *retryable, struct err *err);
};

extern const struct protocol protocol_openai, protocol_anthropic;
const struct protocol *protocol_find(const char *name, size_t len); /* NULL: no such */

/*
 * What a response with another status means: -errno and a sentence with what the body says (cut,
 * made printable, and without anything that looks like a key). 401, 403: EACCES; 404: EHOSTUNREACH;
 * 408, 504: ETIMEDOUT; 413, and 400 about a context: EMSGSIZE; 429: EBUSY; other 4xx: EPROTO; 5xx
 * and 529: EHOSTUNREACH. *retryable: the server is at fault (408, 429, 5xx), not the request. An
 * error that comes in an answer of status 200 is one of the status that it means, but does not say
 * HTTP.
 */
int protocol_fault(long status, const char *body, size_t len, bool *retryable, struct err *err);
/* How many bytes of a sentence, which may have one of protocol_fault's in it, are our own words:
 * those before what the body says. A server may quote in it what it was asked, so the rest is for
 * who asked, and for nobody else. */
size_t protocol_own_words(const char *sentence);

/* An estimate of a text's tokens for a model whose tokenizer is not here, by its scripts: never 0
 * for a text that has a byte, never more than it has bytes. O(len). */
size_t protocol_estimate_tok(const char *text, size_t len);

#endif
