/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes back of one try of a call: bytes that become text, or a fault that becomes an errno, a
 * sentence, whether it may be tried again, and what the breaker is to think of the server. Both are
 * found inside http's callbacks; a fault in the middle of a body closes it there and is dealt with
 * outside.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "gateway/redact.h"
#include "gateway/upstream_call.h"

enum {
	SENTENCE_BYTES = 64 << 10, /* read of a body that is no answer */
	TEXT_BYTES = 4096,         /* of an answer's text, and for each token: */
	TEXT_TOKEN_BYTES = 64,
	HONEST_BYTES = 16, /* of its text for each token, at the most, if it keeps to max_tokens */
	STREAM_BYTES = 1 << 20, /* of a stream, and for each token: */
	TOKEN_BYTES = 16 << 10, /* JSON around one, with log-probabilities */
	EMBED_BYTES = 2 << 20,  /* of embeddings, and for each number: */
	NUMBER_BYTES = 32,
	DIM_LEAST = 4096, /* of a vector, where one was shorter before */
	DIM_MOST = 65536, /* where none is known */
};
static const uint64_t stream_most = (uint64_t)2 << 30, embed_most = (uint64_t)256 << 20;
static const uint64_t tail_ns = 1000000000; /* what may come behind the end of an answer */

/* ---- faults ---- */

static const char *server_of(const struct upstream_call *c)
{
	return c->u->servers[c->pick.replica].label;
}

void upstream_answer_set_last(struct upstream_call *c, int code, enum upstream_outcome outcome,
	enum breaker_end end, bool retryable)
{
	c->last = (struct upstream_ending){
		.code = code, .retryable = retryable, .outcome = outcome, .end = end};
}

/* Notes what was wrong, apart from the sentence that has it, for all who ask this server: without
 * the server's own words, which are about this request. */
static void note(struct upstream_call *c, const char *reason)
{
	size_t own = protocol_own_words(reason), most = sizeof c->last.reason - 1;
	snprintf(c->last.reason, sizeof c->last.reason, "%.*s", (int)(own < most ? own : most),
		reason);
	c->last.reason[utf8_valid_prefix(c->last.reason, strlen(c->last.reason))] = '\0';
}

/* Something below HTTP went wrong. The sentence begins with the server. */
static void take_fault(struct upstream_call *c, enum http_fault fault, const char *sentence)
{
	struct err said;
	err_set(&said, 0, "%s", sentence);
	upstream_hide_key(c->u, said.text, sizeof said.text);
	switch (fault) {
	case HTTP_OK:
	case HTTP_CONNECT:
		upstream_answer_set_last(
			c, -EHOSTUNREACH, UPSTREAM_UNREACHABLE, BREAKER_FAILURE, true);
		break;
	case HTTP_TIMEOUT_CONNECT:
	case HTTP_TIMEOUT_FIRST:
	case HTTP_TIMEOUT_IDLE:
		upstream_answer_set_last(c, -ETIMEDOUT, UPSTREAM_TIMEOUT, BREAKER_FAILURE, true);
		break;
	case HTTP_TIMEOUT_TOTAL: /* a long answer is nobody's failure */
		upstream_answer_set_last(c, -ETIMEDOUT, UPSTREAM_TIMEOUT,
			c->text_bytes ? BREAKER_NEITHER : BREAKER_FAILURE, true);
		break;
	case HTTP_BROKEN:
	case HTTP_TOO_LONG:
		upstream_answer_set_last(c, -EPROTO, UPSTREAM_BROKEN, BREAKER_FAILURE, true);
		break;
	case HTTP_MEMORY:
		upstream_answer_set_last(c, -ENOMEM, UPSTREAM_BROKEN, BREAKER_NEITHER, false);
		break;
	}
	err_set(&c->last.err, 0, "models/%s: %s", c->u->model, said.text);
	const char *reason = strstr(said.text, ": ");
	note(c, reason ? reason + 2 : said.text);
}

void upstream_hide_key(const struct upstream *u, char *sentence, size_t size)
{
	char *said = strstr(sentence, ": ");
	if (said)
		redact(said + 2, size - (size_t)(said + 2 - sentence), u->key);
}

/* The server says no: with a status, or an error in a body that came with status 200. */
static void take_refusal(struct upstream_call *c, int code, bool retryable, struct err *err)
{
	bool denied = code == -EACCES;
	if (code == -EBUSY)
		upstream_answer_set_last(c, code, UPSTREAM_BUSY, BREAKER_NEITHER, retryable);
	else if (code == -ETIMEDOUT)
		upstream_answer_set_last(c, code, UPSTREAM_TIMEOUT, BREAKER_FAILURE, retryable);
	else if (code == -EHOSTUNREACH && retryable)
		upstream_answer_set_last(c, code, UPSTREAM_ERROR, BREAKER_FAILURE, retryable);
	else
		upstream_answer_set_last(c, code,
			denied                  ? UPSTREAM_DENIED
			: code == -EHOSTUNREACH ? UPSTREAM_ERROR
						: UPSTREAM_REJECTED,
			BREAKER_SUCCESS, retryable);
	c->last.elsewhere = denied || code == -EHOSTUNREACH || code == -EMSGSIZE;
	upstream_hide_key(c->u, err->text, sizeof err->text);
	note(c, err->text);
	if (denied)
		err_set(&c->last.err, 0, "models/%s/key: %s %s: %s", c->u->model, server_of(c),
			c->u->key ? "refuses it" : "wants one", err->text);
	else
		err_set(&c->last.err, 0, "models/%s: %s: %s", c->u->model, server_of(c), err->text);
}

/* An answer that is none: by its status. */
static void take_status(struct upstream_call *c, const struct http_response *head)
{
	bool retryable = false;
	struct err err = {0};
	int code = protocol_fault(
		head->status, c->reply.data ? c->reply.data : "", c->reply.len, &retryable, &err);
	take_refusal(c, code, retryable, &err);
	c->last.retry_after_ms = head->retry_after_ms;
}

/* What came with status 200 is no answer, or an error in the middle of one. refused: it is one that
 * blames the request, and says nothing against the server. */
static void take_broken(struct upstream_call *c, int code, bool refused, struct err *err)
{
	if (refused) {
		take_refusal(c, code, false, err);
		return;
	}
	upstream_hide_key(c->u, err->text, sizeof err->text);

	bool memory = code == -ENOMEM;
	bool retryable =
		code == -EPROTO || code == -EHOSTUNREACH || code == -EBUSY || code == -ETIMEDOUT;
	enum upstream_outcome outcome = code == -EBUSY                        ? UPSTREAM_BUSY
					: code == -EHOSTUNREACH               ? UPSTREAM_ERROR
					: code == -ETIMEDOUT                  ? UPSTREAM_TIMEOUT
					: code == -EACCES                     ? UPSTREAM_DENIED
					: code == -EMSGSIZE || code == -EPERM ? UPSTREAM_REJECTED
									      : UPSTREAM_BROKEN;
	upstream_answer_set_last(c, code, outcome,
		!retryable || code == -EBUSY ? BREAKER_NEITHER : BREAKER_FAILURE, retryable);
	if (memory)
		err_set(&c->last.err, 0, "out of memory");
	else
		err_set(&c->last.err, 0, "models/%s: %s: %s", c->u->model, server_of(c), err->text);
	note(c, memory ? "out of memory" : err->text);
}

/*
 * A stream that ends as it should and has nothing in it: so llama-cpp-python's server treats a
 * prompt that does not fit its context. The server is there and answers, and the same prompt would
 * have the same answer there, so it is neither asked again nor is that a failure: else a few long
 * prompts of one user would open the breaker for all. Where another server of the model has an
 * answer to it, it was the server (upstream_call_done).
 */
static void take_silence(struct upstream_call *c, struct err *err)
{
	upstream_answer_set_last(c, -EPROTO, UPSTREAM_BROKEN, BREAKER_NEITHER, false);
	c->last.elsewhere = c->last.another = true;
	c->silent |= 1u << c->pick.replica;
	err_set(&c->last.err, 0,
		"models/%s: %s: %s: the prompt may be longer than its context, which "
		"models/%s/context can say",
		c->u->model, server_of(c), err->text, c->u->model);
	note(c, err->text);
}

/*
 * What was asked for JSON is none, or the half of one. Nobody is hurt but who asked: the server is
 * there and keeps to its protocol, and asked again it would most likely say the same. Where nothing
 * of it was given another model may.
 */
static void take_no_json(struct upstream_call *c)
{
	bool whole = upstream_json_is_whole(&c->json);
	bool cut = c->cut || *c->answer.finish == 'l';
	const char *what =
		!c->given_bytes ? "its answer is no JSON, which format asks for"
		: c->no_json    ? whole ? "its answer goes on behind the JSON that format asks for"
					: "its answer does not go on as JSON, which format asks for"
		: cut           ? "max_tokens ended its answer before the JSON was whole"
				: "its answer ended before the JSON was whole";
	upstream_answer_set_last(c, -EPROTO, UPSTREAM_BROKEN, BREAKER_SUCCESS, false);
	c->last.elsewhere = true;
	err_set(&c->last.err, 0, "models/%s: %s: %s", c->u->model, server_of(c), what);
	note(c, what);
}

bool upstream_answer_is_good(struct upstream_call *c)
{
	bool is_json = !c->no_json && upstream_json_is_whole(&c->json);
	bool good = !c->request.json || c->embeds || is_json;
	if (!good)
		take_no_json(c);
	return good;
}

/* ---- an answer's bytes ---- */

/* JSON costs up to a hundred times its length: no more of it than what was asked for can be. */
size_t upstream_answer_most(const struct upstream_call *c)
{
	uint64_t dim = atomic_load(&c->u->embedding_dim);
	uint64_t stream = STREAM_BYTES + (uint64_t)c->request.max_tokens * TOKEN_BYTES;
	uint64_t vectors = dim && dim < DIM_LEAST / 2 ? DIM_LEAST : dim ? 2 * dim : DIM_MOST;
	vectors = EMBED_BYTES + c->embed.n * vectors * NUMBER_BYTES;
	uint64_t most = c->embeds ? vectors : stream, limit = c->embeds ? embed_most : stream_most;
	return (size_t)(most < limit ? most : limit);
}

/* A probe that answers has shown what it was to show: the next one need not wait for its end. */
static void probe_answers(struct upstream_call *c)
{
	struct upstream *u = c->u;
	if (c->pick.pass != BREAKER_PROBE)
		return;
	pthread_mutex_lock(&u->lock);
	breaker_leave(&u->replicas.list[c->pick.replica].breaker, BREAKER_PROBE, BREAKER_SUCCESS,
		clock_mono_ns());
	pthread_mutex_unlock(&u->lock);
	c->pick.pass = BREAKER_ADMITTED;
}

/*
 * As estimated. The estimate is rather more than less, and of small pieces much more; so it is at
 * most max_tokens as long as so many tokens may well be that text. What is longer has not kept to
 * it, and counts as what it is.
 */
uint64_t upstream_answer_tok(const struct upstream_call *c)
{
	uint64_t most = c->request.max_tokens;
	bool keeps_to_it = c->text_bytes <= most * HONEST_BYTES;
	return keeps_to_it && c->guessed_tok > most ? most : c->guessed_tok;
}

static void give_text(struct upstream_call *c)
{
	if (c->answer.has_candidates && !c->told_candidates && c->request.n_candidates) {
		c->told_candidates = true;
		upstream_call_tell(c, PROVIDER_CANDIDATES);
	}
	if (!c->text.len || c->no_json)
		return;
	probe_answers(c);
	uint64_t most = c->request.max_tokens;
	c->text_bytes += c->text.len;
	c->guessed_tok += protocol_estimate_tok(c->text.data, c->text.len);
	if (c->request.json)
		c->no_json = !upstream_json_take(&c->json, c->text.data, &c->text.len);
	c->given_bytes += c->text.len;
	if (c->text.len)
		upstream_call_tell(c, PROVIDER_TEXT);
	buf_clear(&c->text);
	/* It does not keep to max_tokens, whatever a token is. */
	c->cut = c->text_bytes > TEXT_BYTES + most * TEXT_TOKEN_BYTES;
}

static int feed(struct upstream_call *c, const char *content_type, const char *bytes, size_t len,
	struct err *err)
{
	const struct protocol *p = c->u->protocol;
	if (!c->reader)
		c->reader = p->reader_new(&c->request, content_type);
	if (!c->reader)
		return -ENOMEM;
	int r = p->reader_feed(c->reader, bytes, len, &c->text, &c->answer, err);
	give_text(c); /* also what came before a fault */
	return r;
}

/* A body that is read whole: embeddings, or what a status that is no success says. */
static int keep(struct upstream_call *c, size_t most, const char *bytes, size_t len)
{
	size_t room = c->reply.len < most ? most - c->reply.len : 0;
	c->reply.max = most + 1;
	return buf_append(&c->reply, bytes, len < room ? len : room);
}

/* On the loop, inside http. */
bool upstream_answer_data(
	void *arg, const struct http_response *head, const char *bytes, size_t len)
{
	struct upstream_call *c = arg;
	struct err err = {0};
	bool was_complete = c->answer.complete;
	int r;
	if (head->status != 200)
		r = keep(c, SENTENCE_BYTES, bytes, len);
	else if (c->embeds)
		r = keep(c, upstream_answer_most(c), bytes, len);
	else
		r = feed(c, head->content_type, bytes, len, &err);
	bool said_enough = head->status != 200 && c->reply.len >= SENTENCE_BYTES;
	if (r < 0)
		take_broken(c, r, c->answer.refused, &err);
	else if (said_enough)
		take_status(c, head);
	else if (c->no_json)
		take_no_json(c);
	c->broke = r < 0 || said_enough || c->no_json;
	if (c->broke || c->cut) {
		c->http = NULL; /* it is closed behind us */
		upstream_call_post(c);
		return false;
	}
	if (c->answer.complete && !was_complete)
		loop_arm(c->u->loop, &c->timer, clock_mono_ns() + tail_ns);
	return true;
}

static void chat_done(struct upstream_call *c, const struct http_response *head)
{
	struct err err = {0};
	int r = feed(c, head->content_type, "", 0, &err);
	r = r ? r : c->u->protocol->reader_end(c->reader, &c->text, &c->answer, &err);
	give_text(c);
	if (r == 0 && !c->no_json) {
		upstream_call_done(c);
		return;
	}
	if (r == 0)
		take_no_json(c);
	else if (r == -EPROTO && c->answer.silent)
		take_silence(c, &err);
	else
		take_broken(c, r, c->answer.refused, &err);
	upstream_try_failed(c);
}

static void embed_done(struct upstream_call *c)
{
	struct err err = {0};
	float *vectors = NULL;
	size_t dim = 0;
	struct trace_usage usage = {0};
	bool retryable = true;
	int r = c->u->protocol->embed_read(c->reply.data ? c->reply.data : "", c->reply.len,
		c->embed.n, &vectors, &dim, &usage, &retryable, &err);
	if (r < 0) {
		take_broken(c, r, !retryable, &err);
		upstream_try_failed(c);
		return;
	}
	atomic_store(&c->u->embedding_dim, (uint_least32_t)dim);
	if (!usage.prompt_tok)
		usage.prompt_tok = c->n_prompt_tok;
	upstream_call_give(c, vectors, dim, &usage);
	free(vectors);
}

/* On the loop, from http: the response is over, or there will be none. */
void upstream_answer_done(
	void *arg, enum http_fault fault, const struct http_response *head, const char *sentence)
{
	struct upstream_call *c = upstream_call_ref(arg);
	c->http = NULL;
	if (!c->embeds && c->answer.complete) { /* however the connection ended */
		upstream_call_done(c);
	} else if (fault != HTTP_OK && (fault == HTTP_MEMORY || head->status < 400)) {
		take_fault(c, fault, sentence);
		upstream_try_failed(c);
	} else if (head->status != 200) { /* of which not all may have come */
		take_status(c, head);
		upstream_try_failed(c);
	} else if (c->embeds) {
		embed_done(c);
	} else {
		chat_done(c, head);
	}
	upstream_call_put(c);
}
