/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_PROVIDER_H
#define GATEWAY_PROVIDER_H

/* What computes answers, behind one table of operations: the engine in this process (local.c). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "gateway/trace.h"

enum provider_role { PROVIDER_SYSTEM, PROVIDER_USER, PROVIDER_ASSISTANT };

struct provider_message {
	enum provider_role role;
	const char *text;
	size_t len;
};

struct provider_config {
	const char *path, *chat_family; /* chat_family: NULL when not set */
	uint32_t n_threads;
	size_t kv_bytes;
	dev_t forbidden_device;
	void (*progress)(void *arg, double fraction);
	void *progress_arg;
};

struct provider_limits {
	uint32_t context_tok, max_token_bytes;
};

struct provider_stats {
	uint64_t running, waiting, kv_blocks_total, kv_blocks_used, kv_blocks_cached, preemptions;
};

struct provider_prompt { /* what count and submit share: opaque but for its length */
	uint32_t *ids;
	size_t n_tok;
};

enum provider_event_kind {
	PROVIDER_STARTED,
	PROVIDER_CANDIDATES, /* candidate_p is known now */
	PROVIDER_TEXT,
	PROVIDER_END,
};

struct provider_event {
	enum provider_event_kind kind;
	const char *text; /* TEXT: whole UTF-8 sequences; END with a status: the sentence */
	size_t len;
	int status;
	const char *finish; /* END: static, "stop", "length", "" */
	struct trace_usage usage;
	const float *candidate_p; /* [n_candidates] borrowed; NAN until known, or for ever */
	size_t n_candidates;
};

/* On a thread of the provider; must not block nor call back into it. */
typedef void provider_event_fn(void *arg, const struct provider_event *event);

struct provider_request {
	const struct provider_prompt *prompt;
	double temperature, top_p, min_p;
	uint32_t top_k, max_tokens;
	uint64_t seed, salt;
	bool ignore_eos, json;
	const char *const *stop;
	size_t n_stop;
	/* Words whose probabilities as the first one of the answer are wanted: engine_request. At
	 * most 4. */
	const char *const *candidates;
	size_t n_candidates;
	provider_event_fn *event;
	void *arg;
};

/* Functions that take long say so. handle: what load gave. */
struct provider {
	/* Long; gives up with -ECANCELED when *stop becomes true. new *handle. */
	int (*load)(void **handle, const struct provider_config *config, const volatile bool *stop,
		struct err *err);
	/* Long. Every request has had its END before. */
	void (*unload)(void *handle);
	void (*limits)(void *handle, struct provider_limits *out);
	void (*stats)(void *handle, struct provider_stats *out);
	/* Appends members of a JSON object, each with a comma before it. */
	int (*info)(void *handle, struct buf *out);
	/* Long for long text: tokens of plain text. */
	int (*count)(void *handle, const char *text, size_t len, size_t *n_tok, struct err *err);
	/* Long for long text. new *out (provider_prompt_free). */
	int (*render)(void *handle, const struct provider_message *messages, size_t n,
		struct provider_prompt *out, struct err *err);
	int (*submit)(void *handle, const struct provider_request *request, uint64_t *id,
		struct err *err);
	void (*cancel)(void *handle, uint64_t id);
};

extern const struct provider local_provider; /* local.c */

#endif
