/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A response's bytes to JSON objects: the data of server-sent events, or one JSON body where a
 * server ignored that a stream was asked for. Which of the two it is says the content type; where
 * that says neither, the first byte does: a body begins with a brace, no line of a stream does.
 *
 * The JSON library refuses what is not UTF-8, so whole strings are whole sequences, however the
 * bytes came.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/protocol_parts.h"

/* A body as JSON costs up to a hundred times its length, so it may only be as long as an answer
 * is that was asked for. */
enum {
	WHOLE_BYTES = 1 << 20, /* and for each token: */
	WHOLE_TOKEN_BYTES = 64,
	WHOLE_LOGPROB_BYTES = 512, /* where its probability was asked for, too */
	WHOLE_MAX = 4 << 20,
};
#define FLAGS (JSON_ALLOW_NUL)
#define IS_PAGE                                                                                    \
	"what it sends is no answer: it begins with <, as a page of HTML does; look at endpoint"

static size_t whole_most(const struct provider_request *q)
{
	bool logprobs = q->wants_logprob || q->n_candidates;
	uint64_t most = WHOLE_BYTES + (uint64_t)q->max_tokens *
					      (logprobs ? WHOLE_LOGPROB_BYTES : WHOLE_TOKEN_BYTES);
	return most < WHOLE_MAX ? (size_t)most : WHOLE_MAX;
}

struct protocol_reader *protocol_reader_new(
	const struct provider_request *request, const char *content_type)
{
	struct protocol_reader *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	r->request = request;
	r->whole.max = whole_most(request);
	if (!strcmp(content_type, "text/event-stream"))
		r->kind = PROTOCOL_STREAM;
	else if (!strcmp(content_type, "application/json"))
		r->kind = PROTOCOL_BODY;
	return r;
}

struct protocol_reader *protocol_reader_free(struct protocol_reader *r)
{
	if (!r)
		return NULL;
	sse_free(&r->sse);
	buf_free(&r->whole);
	free(r);
	return NULL;
}

int protocol_take_text(const json_t *string, const struct protocol_sink *to)
{
	if (!json_is_string(string))
		return 0;
	size_t len = json_string_length(string);
	int r = buf_append(to->text, json_string_value(string), len);
	return r == -EFBIG ? err_set(to->err, -EPROTO, "its answer is too long")
	       : r < 0     ? err_set(to->err, r, "out of memory")
			   : 0;
}

bool protocol_number(const json_t *object, const char *name, uint64_t *out)
{
	const json_t *v = json_object_get(object, name);
	json_int_t n = json_is_integer(v) ? json_integer_value(v) : -1;
	if (n < 0 || n > PROTOCOL_NUMBER_MAX)
		return false;
	*out = (uint64_t)n;
	return true;
}

struct feeding {
	struct protocol_reader *r;
	struct protocol_sink to;
};

static int read_json(struct protocol_reader *r, const char *text, size_t len,
	const struct protocol_sink *to,
	int (*take)(struct protocol_reader *, const json_t *, const struct protocol_sink *))
{
	json_error_t e;
	json_t *object = json_loadb(text, len, FLAGS, &e);
	if (!object)
		return json_error_code(&e) == json_error_out_of_memory
			       ? err_set(to->err, -ENOMEM, "out of memory")
			       : err_set(to->err, -EPROTO, "what it sends is not JSON: byte %d",
					 e.position);
	int result = json_is_object(object)
			     ? take(r, object, to)
			     : err_set(to->err, -EPROTO, "what it sends is no JSON object");
	json_decref(object);
	return result;
}

static int take_event(void *arg, const char *name, const char *data, size_t len)
{
	const struct feeding *f = arg;
	if (f->to.answer->complete || !len)
		return 0;
	if (len == 6 && !memcmp(data, "[DONE]", 6)) {
		/* So llama-cpp-python's server ends an answer that it leaves for another request.
		 */
		if (!*f->to.answer->finish)
			return err_set(f->to.err, -EPROTO,
				"its answer broke off: its end came without a reason to finish");
		f->to.answer->complete = true;
		return 0;
	}
	int result = f->r->usual ? f->r->usual(data, len, &f->to) : 0;
	if (result)
		return result < 0 ? result : 0;
	return read_json(f->r, data, len, &f->to, f->r->event);
}

static int feed_stream(
	struct protocol_reader *r, const char *bytes, size_t len, const struct protocol_sink *to)
{
	struct feeding f = {r, *to};
	if (to->answer->complete) /* whatever comes behind its end */
		return 0;
	int result = sse_feed(&r->sse, bytes, len, take_event, &f);
	if (result == -EMSGSIZE && r->sse.too_long && to->answer->complete)
		return 0;
	if (result == -EMSGSIZE && r->sse.too_long)
		return err_set(to->err, -EPROTO, "an event of its stream is longer than %zu bytes",
			SSE_EVENT_MAX);
	if (result == -ENOMEM)
		err_set(to->err, result, "out of memory");
	return result;
}

static int feed_body(
	struct protocol_reader *r, const char *bytes, size_t len, const struct protocol_sink *to)
{
	int result = buf_append(&r->whole, bytes, len);
	if (result == -EFBIG)
		return err_set(
			to->err, -EPROTO, "its answer is longer than %zu bytes", r->whole.max);
	return result < 0 ? err_set(to->err, result, "out of memory") : 0;
}

/* Empty lines and comments, which keep connections alive, say nothing; whatever else there is does,
 * also what is no event. */
static void listen_to(struct protocol_reader *r, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len && r->said != PROTOCOL_SPOKEN; i++)
		if (bytes[i] == '\n' || bytes[i] == '\r')
			r->said = PROTOCOL_LINE_BEGIN;
		else if (r->said == PROTOCOL_LINE_BEGIN)
			r->said = bytes[i] == ':' ? PROTOCOL_COMMENT : PROTOCOL_SPOKEN;
}

/* Looks at the first byte that is no space. It says that what came is a page of HTML, whatever the
 * server calls it, and what it is, where the server did not say. */
static void look_at_first(struct protocol_reader *r, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len && !r->begun; i++) {
		if (bytes[i] && strchr(" \t\r\n", bytes[i]))
			continue;
		r->begun = true;
		r->is_page = bytes[i] == '<';
		if (r->kind == PROTOCOL_UNKNOWN)
			r->kind = bytes[i] == '{' ? PROTOCOL_BODY : PROTOCOL_STREAM;
	}
}

int protocol_reader_feed(struct protocol_reader *r, const char *bytes, size_t len, struct buf *text,
	struct protocol_answer *answer, struct err *err)
{
	const struct protocol_sink to = {text, answer, err};
	if (!answer->finish)
		answer->finish = "";
	if (r->failed)
		return err_set(err, r->failed, "its answer was broken off");
	listen_to(r, bytes, len);
	look_at_first(r, bytes, len);
	if (r->kind == PROTOCOL_BODY)
		r->failed = feed_body(r, bytes, len, &to);
	else
		r->failed = feed_stream(r, bytes, len, &to);
	return r->failed;
}

static int end_body(struct protocol_reader *r, const struct protocol_sink *to)
{
	if (r->is_page)
		return err_set(to->err, -EPROTO, IS_PAGE);
	return read_json(r, r->whole.data ? r->whole.data : "", r->whole.len, to, r->body);
}

int protocol_reader_end(struct protocol_reader *r, struct buf *text, struct protocol_answer *answer,
	struct err *err)
{
	const struct protocol_sink to = {text, answer, err};
	if (!answer->finish)
		answer->finish = "";
	if (r->failed)
		return err_set(err, r->failed, "its answer was broken off");
	if (r->kind == PROTOCOL_BODY) {
		r->failed = end_body(r, &to);
		answer->complete = r->failed == 0;
		return r->failed;
	}
	/* The last event may lack its empty line. */
	if (!answer->complete)
		r->failed = feed_stream(r, "\n\n", 2, &to);
	/* A server that gave its reason to stop has given all of the answer, too. */
	if (r->failed == 0 && *answer->finish)
		answer->complete = true;
	answer->silent = r->kind == PROTOCOL_STREAM && r->said != PROTOCOL_SPOKEN;
	if (r->failed == 0 && answer->silent)
		r->failed = err_set(err, -EPROTO, "its answer ended without a word");
	else if (r->failed == 0 && !answer->complete && r->is_page)
		r->failed = err_set(err, -EPROTO, IS_PAGE);
	else if (r->failed == 0 && !answer->complete)
		r->failed = err_set(err, -EPROTO,
			"its answer ended before it was complete (there was no end of the stream)");
	return r->failed;
}
