/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_UPSTREAM_CALL_H
#define GATEWAY_UPSTREAM_CALL_H

/* A call under way, for upstream_call.c (how it is made, found and ended), upstream_try.c (its
 * tries) and upstream_answer.c (what comes back of one). */

#include "gateway/upstream_json.h"
#include "gateway/upstream_parts.h"

struct upstream_ending { /* how a try went */
	int code;        /* 0 or -errno */
	bool retryable;  /* here */
	bool elsewhere;  /* only at another model: this server is set up wrongly, or too small */
	bool another;    /* here, but not at this server, which would do the same */
	uint64_t retry_after_ms;
	enum upstream_outcome outcome;
	enum breaker_end end;
	struct err err;
	char reason[96]; /* the last part of it, without who says it of whom: our words only */
};

struct upstream_call {
	atomic_uint refs;
	struct upstream *u;
	struct list link; /* in the table of calls: the handle's lock */
	uint64_t id;
	bool cancelled; /* the handle's lock */
	struct loop_work work;

	/* What is asked; constant. */
	bool embeds;
	struct provider_request request; /* its texts are in `texts` */
	struct provider_embed embed;     /* without its texts */
	const char **texts;
	struct buf body;
	uint64_t affinity, n_prompt_tok;

	/* The loop's: all tries. */
	bool begun, over;
	uint64_t deadline_ns;              /* UINT64_MAX: none */
	uint32_t tried, silent, n_retries; /* bits of servers; silent: that ended without a word */
	struct loop_timer timer;
	struct upstream_ending last; /* of the last try */
	uint64_t text_bytes, guessed_tok;
	uint64_t given_bytes; /* of text_bytes: the rest is no part of a JSON answer, or no JSON */
	bool told_candidates;

	/* This try. */
	bool picked, broke, cut; /* broke: `last` says how; cut: the answer is longer than asked */
	struct replicas_pick pick;
	struct http_call *http;
	struct protocol_reader *reader;
	struct protocol_answer answer;
	struct upstream_json json; /* where that is asked for */
	bool no_json;              /* and this is none */
	struct buf text, reply;    /* new text; a body that is read whole */
};

/* upstream_call.c. All on the loop. */

/* The end, without vectors. Nothing of the handle is touched afterwards. */
void upstream_call_finish(struct upstream_call *c, const struct upstream_ending *end);
/* The end of embeddings. */
void upstream_call_give(
	struct upstream_call *c, const float *vectors, size_t dim, const struct trace_usage *usage);
/* It has ended well. */
void upstream_call_done(struct upstream_call *c);
/* STARTED, CANDIDATES or TEXT. */
void upstream_call_tell(struct upstream_call *c, enum provider_event_kind kind);
/* Has it looked at again, outside of http's callbacks. */
void upstream_call_post(struct upstream_call *c);
struct upstream_call *upstream_call_ref(struct upstream_call *c);
void upstream_call_put(struct upstream_call *c);

/* upstream_try.c. All on the loop, but for upstream_try_clear. */

/* The first one, and each one after that: sends the request to a server, or ends the call. */
void upstream_try_first(struct upstream_call *c);
void upstream_try(struct upstream_call *c);
/* This one has failed as c->last says: another one, or the end. Not inside http's `data`. */
void upstream_try_failed(struct upstream_call *c);
/* Gives the server back, if it has one. hold_ms: it asked all to leave it alone for so long. */
void upstream_try_leave(
	struct upstream_call *c, const struct upstream_ending *how, uint64_t hold_ms);
/* Closes what is open of it, and forgets what was read. */
void upstream_try_drop(struct upstream_call *c);
/* There is no answer, nor a part of one. */
void upstream_try_clear(struct upstream_call *c);

/* upstream_answer.c: http's callbacks, with a call as their argument; the longest body that it may
 * have. */
size_t upstream_answer_most(const struct upstream_call *c);
bool upstream_answer_data(
	void *arg, const struct http_response *head, const char *bytes, size_t len);
void upstream_answer_done(
	void *arg, enum http_fault fault, const struct http_response *head, const char *sentence);
/* Tokens that its text so far counts for where the server does not say it. */
uint64_t upstream_answer_tok(const struct upstream_call *c);
/* Whether a complete answer is what was asked for: JSON, whole. False: c->last says so. */
bool upstream_answer_is_good(struct upstream_call *c);
void upstream_answer_set_last(struct upstream_call *c, int code, enum upstream_outcome outcome,
	enum breaker_end end, bool retryable);

#endif
