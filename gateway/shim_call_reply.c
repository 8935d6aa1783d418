/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replies of a call: a body and the headers that all of them have. Each request has an id: that of
 * the gateway's request, by which ledgers and trace/ know it, or one that was made up for what
 * never became one; the latter has a letter in it, so that nobody looks for it there.
 *
 * In the thread of the call's connection.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/shim_head.h"
#include "gateway/shim_parts.h"

static void add_id(struct shim_call *c, struct MHD_Response *response)
{
	static atomic_uint_least64_t made_up;
	char value[64];
	if (c->request_id)
		snprintf(value, sizeof value, "req_%" PRIu64, c->request_id);
	else
		snprintf(value, sizeof value, "req_x%" PRIu64 "x%" PRIu64,
			(uint64_t)c->shim->started_s, atomic_fetch_add(&made_up, 1) + 1);
	MHD_add_response_header(response, "x-request-id", value);
}

static void add_retry(struct shim_call *c, struct MHD_Response *response, unsigned status)
{
	char value[32];
	if (c->no_retry)
		MHD_add_response_header(response, "x-should-retry", "false");
	if (!c->retry_ms || (status != 429 && status != 503))
		return;
	snprintf(value, sizeof value, "%" PRIu64, shim_head_retry_s(c->retry_ms));
	MHD_add_response_header(response, "retry-after", value);
	snprintf(value, sizeof value, "%" PRIu64, c->retry_ms);
	MHD_add_response_header(response, "retry-after-ms", value);
}

static void add_headers(struct shim_call *c, struct MHD_Response *response, unsigned status)
{
	char value[32];
	MHD_add_response_header(response, "server", c->shim->server);
	add_id(c, response);
	snprintf(value, sizeof value, "%" PRIu64, (clock_mono_ns() - c->began_ns) / 1000000);
	MHD_add_response_header(response, "openai-processing-ms", value);
	add_retry(c, response, status);
	if (atomic_load(&c->shim->stopping))
		MHD_add_response_header(response, "connection", "close");
	if (*c->model)
		MHD_add_response_header(response, "x-llmfs-model", c->model);
	if (c->from_cache)
		MHD_add_response_header(response, "x-llmfs-cache", "hit");
	if (status == 401)
		MHD_add_response_header(response, "www-authenticate", "Bearer");
	if (c->allow)
		MHD_add_response_header(response, "allow", c->allow);
	if (c->key) {
		struct gateway_rates rates;
		gateway_rates(c->shim->g, c->uid, &rates);
		shim_head_rates(response, &rates);
	}
}

/* Queues it, and puts its reference. response may be NULL: memory was out. */
static int queue(struct shim_call *c, unsigned status, struct MHD_Response *response)
{
	if (!response)
		return -ENOMEM;
	add_headers(c, response, status);
	enum MHD_Result queued = MHD_queue_response(c->connection, status, response);
	MHD_destroy_response(response);
	return queued == MHD_YES ? 0 : -EIO;
}

/* A response with that body, which it empties; NULL: memory is out. */
static struct MHD_Response *response_of(struct buf *body)
{
	static char nothing[1];
	/* For who reads it in a terminal. */
	if (body->len && body->data[body->len - 1] != '\n')
		buf_append(body, "\n", 1);
	struct MHD_Response *response =
		body->data ? MHD_create_response_from_buffer(
				     body->len, body->data, MHD_RESPMEM_MUST_FREE)
			   : MHD_create_response_from_buffer(0, nothing, MHD_RESPMEM_PERSISTENT);
	if (response)
		*body = (struct buf){0};
	buf_free(body);
	return response;
}

int shim_call_reply(
	struct shim_call *c, unsigned status, const char *content_type, struct buf *body)
{
	struct MHD_Response *response = response_of(body);
	if (response && status != 204)
		MHD_add_response_header(response, "content-type", content_type);
	return queue(c, status, response);
}

int shim_call_error(
	struct shim_call *c, const struct shim_error *e, const char *sentence, const char *param)
{
	struct buf body = {0};
	c->no_retry = e->no_retry;
	if (shim_reply_error(&body, e, sentence, param) < 0)
		buf_free(&body);
	return shim_call_reply(c, e->status, "application/json", &body);
}

int shim_call_fail(struct shim_call *c, int code, const char *sentence)
{
	struct shim_error e;
	shim_error_of(code, &e);
	/* A limit that this request alone is over: no time is told. */
	e.no_retry = e.no_retry || (code == -EAGAIN && !c->retry_ms);
	return shim_call_error(c, &e, *sentence ? sentence : strerror(-code), NULL);
}

static void let_go(void *call)
{
	shim_call_put(call);
}

static int queue_events(struct shim_call *c, struct MHD_Response *response)
{
	if (response) {
		MHD_add_response_header(response, "content-type", "text/event-stream");
		MHD_add_response_header(response, "cache-control", "no-cache");
	}
	return queue(c, 200, response);
}

int shim_call_events(struct shim_call *c, struct buf *events)
{
	return queue_events(c, response_of(events));
}

int shim_call_stream(struct shim_call *c, MHD_ContentReaderCallback read)
{
	enum { BLOCK = 4096 };
	struct MHD_Response *response =
		MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read, c, let_go);
	if (response)
		shim_call_ref(c);
	return queue_events(c, response);
}
