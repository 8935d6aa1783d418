/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_UPSTREAM_PARTS_H
#define GATEWAY_UPSTREAM_PARTS_H

/* What the files of gateway/upstream_*.c share, and nobody else. */

#include <pthread.h>
#include <stdatomic.h>

#include "gateway/loop.h"
#include "gateway/provider.h"
#include "gateway/replicas.h"
#include "gateway/retry.h"
#include "gateway/upstream.h"

_Static_assert((int)UPSTREAM_ENDPOINTS_MAX == (int)REPLICAS_MAX, "an endpoint is a replica");

enum upstream_outcome { /* of a try */
	UPSTREAM_OK,
	UPSTREAM_UNREACHABLE, /* refused, no such host, TLS */
	UPSTREAM_TIMEOUT,
	UPSTREAM_BROKEN,   /* not the protocol, or it ended early */
	UPSTREAM_BUSY,     /* 429 */
	UPSTREAM_DENIED,   /* 401, 403 */
	UPSTREAM_ERROR,    /* 5xx, 404 */
	UPSTREAM_REJECTED, /* other 4xx */
	UPSTREAM_CANCELLED,
	N_UPSTREAM_OUTCOMES
};

struct upstream_server { /* replicas.list[i] is about servers[i] */
	struct upstream *u;
	const char *url; /* in u->urls */
	char label[128]; /* "HOST:PORT/PATH": no secret, fit for metrics */
	char *chat_url, *embed_url, *health_url;
	uint64_t outcomes[N_UPSTREAM_OUTCOMES]; /* lock */
	char failure[96]; /* lock: of the last request that failed there; for all, so our words */
	uint32_t n_failed_checks; /* lock: in a row */
	char why[160];            /* lock: of the last check that failed */
	struct http_call *check;  /* the loop's */
};

enum { UPSTREAM_CHAINS = 64 };

struct upstream { /* a handle of upstream_provider */
	/* Of load; constant. */
	const struct protocol *protocol;
	struct http *http;
	struct loop *loop;
	char *model, *remote_name, *proxy, *urls;
	struct http_ca *ca;      /* NULL: the system's */
	char *key;               /* NULL: none; wiped */
	struct buf header_bytes; /* with the key: wiped */
	const char **headers;
	uint64_t connect_ms, first_ms, idle_ms, total_ms, health_ms;
	uint32_t retries, context_tok;
	size_t n;

	pthread_mutex_t lock; /* a leaf, but for the loop's */
	pthread_cond_t closed;
	bool is_closed;
	struct replicas replicas;
	struct retry_budget budget;
	struct upstream_server servers[UPSTREAM_ENDPOINTS_MAX];
	struct list calls[UPSTREAM_CHAINS]; /* struct upstream_call, by id */
	uint64_t next_id, n_calls, n_flying, n_retries, random;
	atomic_uint_least32_t embedding_dim; /* 0: not known yet */

	struct loop_timer check_timer;
	struct loop_work close_work;
};

struct upstream_prompt {   /* what render makes */
	uint64_t affinity; /* of the conversation's first messages */
	size_t n_tok, len;
	char json[]; /* [len], NUL */
};

/* ---- upstream_call.c ---- */

/* Any thread. Their provider functions. */
int upstream_submit(
	void *handle, const struct provider_request *request, uint64_t *id, struct err *err);
void upstream_cancel(void *handle, uint64_t id);
int upstream_embed(void *handle, const struct provider_embed *q, uint64_t *id, struct err *err);

/* ---- upstream_answer.c ---- */

/* What a server said, or libcurl of it, without the key. Ours are the words up to the first ": ".
 */
void upstream_hide_key(const struct upstream *u, char *sentence, size_t size);

/* ---- upstream_health.c ---- */

/* With the lock held: why no server can be asked now; how many ms until one can (0: not known).
 * -EBUSY: it asked to be left alone; else -EHOSTUNREACH. */
int upstream_why_not(const struct upstream *u, uint64_t now_ns, uint64_t *wait_ms, struct err *err);
int upstream_health(void *handle, const char **word, struct err *why);
void upstream_checks_begin(struct upstream *u);
/* On the loop. */
void upstream_checks_end(struct upstream *u);
const char *upstream_server_word(const struct upstream *u, size_t i, uint64_t now_ns);

/* ---- upstream_views.c ---- */

int upstream_info(void *handle, struct buf *out);

#endif
