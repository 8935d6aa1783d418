/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_PROVIDER_H
#define GATEWAY_PROVIDER_H

/* What computes answers, behind one table of operations: the engine in this process (local.c), or a
 * server somewhere else (upstream.c). */

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

struct upstream_config; /* gateway/upstream.h */

struct provider_config {
	const char *path, *chat_family;         /* chat_family: NULL when not set */
	const struct upstream_config *upstream; /* NULL for the local one; borrowed for the call */
	const char *backend;                    /* "auto", "cpu", "cuda"; NULL: "auto" */
	uint32_t gpu;                           /* its number */
	bool fp8, kv_fp8;                       /* weights, KV rows in 8 bits: a GPU that can */
	double memory_share;                    /* of the GPU's free memory that may be taken */
	uint32_t n_threads;
	size_t kv_bytes;
	dev_t forbidden_device;
	void (*progress)(void *arg, double fraction);
	void *progress_arg;
};

struct provider_limits {
	uint32_t context_tok;     /* the longest prompt and answer together */
	uint32_t max_token_bytes; /* no token stands for more bytes; 0: not known */
	bool answers;             /* it takes `submit`; an encoder does not */
	uint32_t embedding_dim;   /* 0: it takes no `embed`, or (upstreams) not known yet */
	bool embeds;              /* it takes `embed` */
	bool counts;              /* `count` and `render` count tokens; else they estimate */
};

struct provider_stats {
	uint64_t running, waiting, kv_blocks_total, kv_blocks_used, kv_blocks_cached, preemptions;
};

struct provider_work {       /* how a model is computed in this process */
	const char *backend; /* "cpu/avx512", as long as the handle */
	uint32_t step_sequences;
	double output_tok_s;
	uint64_t steps;
	/* Of a GPU; all 0, and utilisation negative, where there is none. */
	uint64_t memory_used, memory_free, graph_hits, graph_misses;
	const char *graphs_off; /* why some steps are not replayed any more, or NULL; as long as
				   the handle */
	float utilisation;      /* 0 to 1; negative: not known */
};

struct provider_prompt {   /* what render gives to submit: opaque but for its length */
	void *data;        /* one malloc'ed block: free() it */
	size_t n_tok;      /* tokens, or an estimate of them */
	uint64_t most_tok; /* it is never more than so many: what is reserved for it */
};

enum provider_event_kind {
	PROVIDER_STARTED,    /* it is computed now; again, where it is tried again */
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
	/* END with a status: the server, not the request, is at fault, nothing was given of the
	 * answer: another model may do better. */
	bool retryable;
	uint64_t retry_after_ms; /* END: it said when to come again; 0: it did not */
	bool estimated;          /* END: usage was counted by us */
	float mean_logprob;      /* END: of the answer's tokens; NAN: not known */
};

/* On a thread of the provider; must not block nor call back into it. */
typedef void provider_event_fn(void *arg, const struct provider_event *event);

struct provider_request {
	const struct provider_prompt *prompt;
	double temperature, top_p, min_p;
	double repetition_penalty; /* 0 and 1: off */
	double presence_penalty, frequency_penalty;
	uint32_t top_k, max_tokens;
	uint64_t seed, salt;
	bool seeded; /* seed was asked for, or drawn; else the answer needs none */
	bool ignore_eos, json;
	const char *const *stop;
	size_t n_stop;
	/* Words whose probabilities as the first one of the answer are wanted: engine_request. At
	 * most 4. An upstream gives them where its protocol has log-probabilities. */
	const char *const *candidates;
	size_t n_candidates;
	bool wants_logprob; /* END's mean_logprob is wanted, where that costs something */
	provider_event_fn *event;
	void *arg;
};

struct provider_embed {
	const char *const *texts; /* [n] UTF-8; copied */
	const size_t *lens;       /* [n] */
	size_t n;
	uint64_t salt; /* whose it is */
	/* Once, on a thread of the provider (perhaps before embed returns) or inside cancel_embed;
	 * must not block nor call back into it. status 0: vectors are [n][dim], row-major, of unit
	 * length, borrowed. Else the sentence, and of usage what is known. */
	void (*done)(void *arg, int status, const char *sentence, const float *vectors, size_t dim,
		const struct trace_usage *usage);
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
	/* May take a millisecond. NULL: it is computed elsewhere. */
	void (*work)(void *handle, struct provider_work *out);
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
	/* Long for long text. *id is set before done can come. -ENOTSUP: it gives none; -EAGAIN:
	 * too many wait. */
	int (*embed)(void *handle, const struct provider_embed *q, uint64_t *id, struct err *err);
	/* It is not wanted any more: its done comes soon, with -ECANCELED unless it came before. */
	void (*cancel_embed)(void *handle, uint64_t id);
	/* Whether it can take requests now: 0 and "ready", 1 and one that tries again
	 * ("half-open"), 2 and "ready" but why the last ones failed, a moment ago; or -EHOSTUNREACH
	 * and why not ("open", ...). word: static. NULL: always ready. */
	int (*health)(void *handle, const char **word, struct err *why);
	/* Appends what answers depend on beside the model's settings and its file: how they are
	 * made. handle NULL: what is the same for all. 0 or -ENOMEM. NULL: that is not ours. */
	int (*identity)(void *handle, struct buf *out);
	/* What has become of the file it was loaded from: 0; 1: another one has its name, or none
	 * has; -EBADMSG, -EIO: it shrank, or was written to, and what is loaded is no good. Takes
	 * no time. NULL: there is none. */
	int (*file)(void *handle, struct err *why);
};

/* local.c: engine_check. */
int local_check(const char *path, const char *chat_family, dev_t forbidden_device, bool *embeds,
	struct err *err);

extern const struct provider local_provider;    /* local.c */
extern const struct provider upstream_provider; /* upstream.c */

#endif
