/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_PLAN_H
#define ENGINE_PLAN_H

/*
 * Which tokens of which sequences are computed in the next step, and in which KV blocks. Only
 * numbers: no model, no text. One thread at a time.
 */

#include <stdint.h>

#include "base/list.h"
#include "engine/kv.h"
#include "engine/seq.h"

struct plan {
	struct kv *kv;
	struct list waiting, running; /* of seq.link, in order of arrival */
	struct list failed; /* of seq.link: out of memory when they were to start; the caller's */
	uint32_t n_waiting, n_running;
	uint32_t max_sequences, max_rows;
	struct seq **prefills; /* [max_sequences] scratch */
	uint64_t row_ns;       /* what a row of a large step took lately; 0: not known yet */
	uint64_t n_prompt_tok, n_cached_tok, n_preempted;
};

/* max_rows >= max_sequences: most tokens in a step. kv_blocks: no sequence may be longer than the
 * pool. 0 or -ENOMEM; plan_free in any case. */
int plan_init(struct plan *p, uint32_t max_sequences, uint32_t max_rows, uint32_t kv_blocks);
/* Accepts a zeroed one. The sequences are the caller's. */
void plan_free(struct plan *p);

/* Puts q at the end of the queue. */
void plan_add(struct plan *p, struct seq *q);
/* Takes q out, wherever it is, and frees its blocks. */
void plan_remove(struct plan *p, struct seq *q);

/*
 * Decides the next step: fills batch[max_sequences] with the sequences that take part, in order of
 * arrival, each with n_planned tokens from n_computed on and blocks for them; how many. Sends
 * ENGINE_STARTED for those that leave the queue. Moves to p->failed who lacked memory for that; the
 * caller ends them. O(sequences + blocks found), but for equal prompts, which are compared.
 */
uint32_t plan_step(struct plan *p, struct seq **batch);

/* The planned tokens of q are computed before those of any later plan: their full blocks can be
 * found from now on, as far as their ids are known. */
void plan_computed(struct plan *p, struct seq *q);

/* An id of q that was not known when its row was planned (seq.n_ahead) is: n_tok is one more. */
void plan_known(struct plan *p, struct seq *q);

/* A step of n rows took so long: from it follows how large the next ones may be. */
void plan_measured(struct plan *p, uint64_t ns, uint32_t n_rows);

#endif
