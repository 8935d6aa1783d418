/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_SEQ_H
#define ENGINE_SEQ_H

/*
 * One request under way: its tokens, its KV blocks, its answer. The scheduler moves it forward;
 * this module makes it, turns its tokens into events and ends it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "engine/candidates.h"
#include "engine/detok.h"
#include "engine/engine.h"
#include "engine/json.h"
#include "engine/tokenizer.h"

struct seq {
	struct list link;        /* scheduler: in waiting or in running */
	struct list cancel_link; /* engine: in a list of cancelled ones */
	bool cancelled;          /* engine: was put there; under its lock */
	uint64_t id;

	/* What was asked. */
	struct engine_sampling sampling;
	bool ignore_eos, json;
	bool drops_space; /* a space that begins the answer is not shown: chat_answer_has_space */
	struct candidates candidates;
	struct engine_bias *bias; /* [n_bias] */
	uint32_t n_bias;
	bool logprobs;
	uint32_t n_top_logprobs;
	uint64_t salt;
	engine_event_fn *event;
	void *arg;

	/* Tokens: the prompt, then the answer. Memory for max_tok once it was started. */
	uint32_t *ids;
	uint32_t n_prompt, n_tok, max_tok;
	/* Tokens behind n_tok that steps under way pick; their ids are not known yet. 0 when the
	 * model does not sample; else 0 or 1 when a step is planned. */
	uint32_t n_ahead;
	bool waits;          /* with n_ahead: what follows depends on that token's id */
	uint32_t pick;       /* with n_ahead: which pick of the newest step under way it is */
	uint32_t n_computed; /* tokens whose KV rows are written, or will be by a step under way: <
				n_tok + n_ahead between steps */
	uint32_t n_seen;     /* the most n_computed has ever been: below it work is repeated */
	uint32_t n_planned;  /* tokens to compute in this step */
	uint32_t slot;       /* picker: where a model that samples may have its history */

	uint32_t *
		blocks; /* [max_tok in blocks], n_blocks held; the first n_published are findable */
	uint32_t n_blocks, n_published;

	struct detok *detok;
	struct json_state json_state;
	bool narrowed; /* there was no room for all that the JSON value could have gone on with */

	bool running;                              /* scheduler: which list it is in */
	bool started, answering;                   /* left the queue once; has sampled */
	uint64_t stage_ns;                         /* when the present stage began */
	uint64_t queued_ns, prefill_ns, decode_ns; /* of the stages that are over */
	uint32_t cached_tok, preemptions;
};

/*
 * new *out: a copy of the request, checked. context_tok: the longest sequence. -EMSGSIZE, -EINVAL,
 * -ENOMEM as engine_submit.
 */
int seq_new(struct seq **out, const struct engine_request *request, uint32_t context_tok,
	uint32_t n_vocab, struct err *err);
/* Sends nothing. Accepts NULL, returns NULL. The blocks must have been released. */
struct seq *seq_free(struct seq *q);

/* Takes memory for all its tokens, unless it has it. 0 or -ENOMEM. */
int seq_reserve(struct seq *q);

/* Its candidates are to be looked at, at the next position. */
static inline bool seq_is_judged(const struct seq *q)
{
	return q->candidates.n > 0 && !q->candidates.known;
}

/* It leaves the queue for the first time: sends ENGINE_STARTED. */
void seq_start(struct seq *q);

/* The probabilities of the candidates are there: sends ENGINE_CANDIDATES. Before the seq_accept of
 * that position. */
void seq_judged(struct seq *q, const float *p);

/* Biases and penalties are held against its logits. */
static inline bool seq_has_history(const struct seq *q)
{
	const struct engine_sampling *how = &q->sampling;

	return q->n_bias > 0 || (how->repetition_penalty > 0 && how->repetition_penalty != 1) ||
	       how->presence_penalty != 0 || how->frequency_penalty != 0;
}

/* The log-probabilities of the next token and of the most likely ones: sends ENGINE_LOGPROBS.
 * Before the seq_accept of that token. */
void seq_logprobs(struct seq *q, const struct engine_logprob *logprobs, size_t n);

/* What seq_accept found beside 0 and -ENOMEM: the answer ends with ... A JSON value that ends by
 * itself within the last few tokens that there is room for ends with SEQ_LENGTH: nobody knows
 * whether it would have gone on. */
#define SEQ_STOP 1
#define SEQ_LENGTH 2

/* Takes the next token of the answer and sends the text it sets free. `scratch` is emptied. */
int seq_accept(struct seq *q, uint32_t id, const struct tokenizer *t, struct buf *scratch);

/* Sends ENGINE_END, before it the text held back unless status is an error other than -ECANCELED.
 * `sentence` may be NULL when status is 0. */
void seq_end(struct seq *q, enum engine_finish finish, int status, const char *sentence,
	struct buf *scratch);

#endif
