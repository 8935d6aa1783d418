/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_UPSTREAM_H
#define GATEWAY_UPSTREAM_H

/*
 * A model on other servers, as a provider (provider.h: upstream_provider). One or several endpoints
 * are replicas of it, each with a breaker, a health and a count of what it is doing. A request goes
 * to the replica with the least outstanding work for its weight, with a liking for the one that had
 * the same conversation's beginning before (prefix affinity: its KV cache); it is tried again, on
 * another replica if there is one, with jitter and within a retry budget, as long as no byte of the
 * answer was there. After that the answer breaks off with an errno: no text twice.
 *
 * Threads: submit, cancel and embed come from any thread and are carried out on the loop's; events
 * come on the loop's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "gateway/http.h"
#include "gateway/protocol.h"

#define UPSTREAM_ENDPOINTS_MAX 16

struct upstream_endpoint {
	const char *url; /* "https://host/v1": protocol's paths come behind it */
	uint32_t weight; /* 1 to 1000 */
};

struct upstream_config {   /* copied by load */
	const char *model; /* its name here, for sentences and metrics */
	const struct protocol *protocol;
	struct upstream_endpoint endpoints[UPSTREAM_ENDPOINTS_MAX];
	size_t n_endpoints;
	const char *remote_name; /* its name there */
	const char *key;         /* a secret; NULL: none */
	const char *proxy;
	const char *ca; /* certificates of authorities, PEM; NULL: the system's */
	size_t ca_len;
	uint64_t connect_ms, first_ms, idle_ms, total_ms; /* 0: no limit */
	uint32_t breaker_failures, breaker_successes;
	uint64_t breaker_open_ms;
	uint32_t retries;   /* of one request; 0: none */
	double retry_ratio; /* retry budget: of all requests, besides 10 */
	uint64_t health_ms; /* between active checks; 0: none */
	uint32_t context_tok;
	struct http *http;
	struct loop *loop;
};

/* "URL" or "URL weight=N", one a line: 0 and how many; -EINVAL with what is allowed. The urls point
 * into *copy (new: free() it). */
int upstream_endpoints_parse(const char *text, size_t len, char **copy,
	struct upstream_endpoint out[UPSTREAM_ENDPOINTS_MAX], size_t *n, struct err *err);

/* The Prometheus text of some handles of upstream_provider:
 * llm_circuit_breaker_state{provider="MODEL",endpoint="HOST:PORT/PATH"} (0 closed, 1 half-open, 2
 * open), llm_upstream_requests_total{provider,endpoint,outcome} and
 * llm_upstream_retries_total{provider}. Nothing when n is 0. */
int upstream_metrics(void *const *handles, size_t n, struct buf *out);

#endif
