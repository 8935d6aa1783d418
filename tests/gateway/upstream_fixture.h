/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_UPSTREAM_FIXTURE_H
#define TESTS_GATEWAY_UPSTREAM_FIXTURE_H

/* What a server that fails as told (faulty.h) was asked, an upstream in front of it without a
 * gateway around, and somebody who asks it. */

#include <pthread.h>

#include "gateway/upstream.h"
#include "tests/gateway/faulty.h"

/* POST /control; json: {"next": [...]} and so on. */
void server_control(const struct faulty *f, const char *json);
void server_reset(const struct faulty *f);
/* The log as text: free() it. */
char *server_log(const struct faulty *f);
/* How often that stands in the log. */
size_t server_count(const struct faulty *f, const char *what);
/* Waits (5 s) until it stands there n times. */
bool server_awaits(const struct faulty *f, const char *what, size_t n);

struct asked { /* a request, or some embeddings, and what came of it */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t id;
	unsigned n_started, n_ended, n_candidates;
	struct buf text; /* NUL-terminated once there is some */
	int status;
	char sentence[sizeof(struct err)], finish[16];
	struct trace_usage usage, usage_then; /* with the candidates */
	bool retryable, estimated;
	uint64_t retry_after_ms, ended_ns;
	float logprob, p[4];
	float vectors[64];
	size_t dim;
};

struct ups { /* an upstream */
	struct loop *loop;
	struct http *http;
	struct upstream_config config; /* to be changed before ups_load */
	char urls[16][96];
	void *handle;
};

/* No retries, no checks, a context of 4,096; no endpoint yet. */
void ups_open(struct ups *u);
/* "http://127.0.0.1:PORT" and the path behind it. */
void ups_endpoint(struct ups *u, unsigned port, const char *path, uint32_t weight);
void ups_load(struct ups *u);
/* Unloads, if need be, and ends the threads. */
void ups_close(struct ups *u);

/* Begins to ask; request may be NULL, or have fields set that are wanted. */
void ups_begin(
	struct ups *u, struct asked *a, const char *prompt, const struct provider_request *request);
/* Waits (20 s, else the test fails) for the end. */
void ups_wait(struct asked *a);
/* Waits until there is text. */
void ups_wait_text(struct asked *a);
/* Both: returns the status. */
int ups_ask(struct ups *u, struct asked *a);
/* The same with two texts to be embedded. */
int ups_embed(struct ups *u, struct asked *a);
/* Only begins. What embed returned. */
int ups_embed_begin(struct ups *u, struct asked *a);
void asked_free(struct asked *a);

#endif
