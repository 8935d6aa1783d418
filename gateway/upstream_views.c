/* SPDX-License-Identifier: Apache-2.0 */
/* What is shown of upstreams: their part of `info`, and their metrics. Names that come from a
 * person are made fit for where they stand; a key is shown as being there. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "gateway/metrics.h"
#include "gateway/text.h"
#include "gateway/upstream_parts.h"

struct picture { /* of a server, taken under the lock */
	const char *word;
	uint32_t weight, outstanding, failures;
	enum breaker_state state;
	uint64_t outcomes[N_UPSTREAM_OUTCOMES];
	char failure[sizeof((struct upstream_server *)0)->failure];
};

static void look(struct upstream *u, struct picture out[UPSTREAM_ENDPOINTS_MAX], uint64_t *retries)
{
	uint64_t now = clock_mono_ns();
	pthread_mutex_lock(&u->lock);
	for (size_t i = 0; i < u->n; i++) {
		const struct replica *r = &u->replicas.list[i];
		out[i] = (struct picture){.word = upstream_server_word(u, i, now),
			.weight = r->weight,
			.outstanding = r->outstanding,
			.failures = r->breaker.n_failures,
			.state = breaker_state(&r->breaker, now)};
		memcpy(out[i].outcomes, u->servers[i].outcomes, sizeof out[i].outcomes);
		memcpy(out[i].failure, u->servers[i].failure, sizeof out[i].failure);
	}
	*retries = u->n_retries;
	pthread_mutex_unlock(&u->lock);
}

static int add_text(struct buf *out, const char *key, const char *value)
{
	int r = buf_append_str(out, key);
	return r ? r : text_append_json(out, value, utf8_valid_prefix(value, strlen(value)));
}

static uint64_t sum(const struct picture *p)
{
	uint64_t n = 0;
	for (size_t i = 0; i < N_UPSTREAM_OUTCOMES; i++)
		n += p->outcomes[i];
	return n;
}

int upstream_info(void *handle, struct buf *out)
{
	struct upstream *u = handle;
	struct picture p[UPSTREAM_ENDPOINTS_MAX];
	uint64_t retries;
	look(u, p, &retries);
	int r = add_text(out, ",\n  \"protocol\": ", u->protocol->name);
	r = r ? r : add_text(out, ",\n  \"remote_name\": ", u->remote_name);
	r = r ? r
	      : buf_printf(out,
			",\n  \"key\": %s,\n  \"context\": %" PRIu32
			",\n  \"retries_made\": %" PRIu64 ",\n  \"endpoints\": [",
			u->key ? "true" : "false", u->context_tok, retries);
	for (size_t i = 0; r == 0 && i < u->n; i++) {
		r = add_text(out, i ? ",\n    {\"url\": " : "\n    {\"url\": ", u->servers[i].url);
		r = r ? r
		      : buf_printf(out,
				", \"weight\": %" PRIu32
				", \"state\": \"%s\", \"outstanding\": %" PRIu32
				", \"requests\": %" PRIu64 ", \"failures_in_a_row\": %" PRIu32,
				p[i].weight, p[i].word, p[i].outstanding, sum(&p[i]),
				p[i].failures);
		if (r == 0 && *p[i].failure)
			r = add_text(out, ", \"last_failure\": ", p[i].failure);
		r = r ? r : buf_append_str(out, "}");
	}
	return r ? r : buf_append_str(out, "\n  ]");
}

/* ---- metrics ---- */

static int breakers(struct upstream *u, const struct picture *p, struct buf *out)
{
	static const int numbers[] = {
		[BREAKER_CLOSED] = 0, [BREAKER_HALF_OPEN] = 1, [BREAKER_OPEN] = 2};
	int r = 0;
	for (size_t i = 0; r == 0 && i < u->n; i++)
		r = buf_printf(out,
			"llm_circuit_breaker_state{provider=\"%s\",endpoint=\"%s\"} %d\n", u->model,
			u->servers[i].label, numbers[p[i].state]);
	return r;
}

static int outcomes(struct upstream *u, const struct picture *p, struct buf *out)
{
	static const char *const words[N_UPSTREAM_OUTCOMES] = {[UPSTREAM_OK] = "ok",
		[UPSTREAM_UNREACHABLE] = "unreachable",
		[UPSTREAM_TIMEOUT] = "timeout",
		[UPSTREAM_BROKEN] = "broken",
		[UPSTREAM_BUSY] = "busy",
		[UPSTREAM_DENIED] = "denied",
		[UPSTREAM_ERROR] = "error",
		[UPSTREAM_REJECTED] = "rejected",
		[UPSTREAM_CANCELLED] = "cancelled"};
	int r = 0;
	for (size_t i = 0; i < u->n; i++)
		for (size_t k = 0; r == 0 && k < N_UPSTREAM_OUTCOMES; k++)
			r = buf_printf(out,
				"llm_upstream_requests_total{provider=\"%s\",endpoint=\"%s\","
				"outcome=\"%s\"} %" PRIu64 "\n",
				u->model, u->servers[i].label, words[k], p[i].outcomes[k]);
	return r;
}

int upstream_metrics(void *const *handles, size_t n, struct buf *out)
{
	struct picture(*p)[UPSTREAM_ENDPOINTS_MAX] = calloc(n ? n : 1, sizeof *p);
	uint64_t *retries = calloc(n ? n : 1, sizeof *retries);
	int r = p && retries ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && i < n; i++)
		look(handles[i], p[i], &retries[i]);
	if (r == 0 && n)
		r = metrics_head(out, "llm_circuit_breaker_state", "gauge",
			"Of a server: 0 closed, 1 half-open, 2 open.");
	for (size_t i = 0; r == 0 && i < n; i++)
		r = breakers(handles[i], p[i], out);
	if (r == 0 && n)
		r = metrics_head(out, "llm_upstream_requests_total", "counter",
			"Tries of requests at a server, by how they ended.");
	for (size_t i = 0; r == 0 && i < n; i++)
		r = outcomes(handles[i], p[i], out);
	if (r == 0 && n)
		r = metrics_head(out, "llm_upstream_retries_total", "counter",
			"Requests that were sent again.");
	for (size_t i = 0; r == 0 && i < n; i++)
		r = buf_printf(out, "llm_upstream_retries_total{provider=\"%s\"} %" PRIu64 "\n",
			((struct upstream *)handles[i])->model, retries[i]);
	free(p);
	free(retries);
	return r;
}
