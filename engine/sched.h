/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_SCHED_H
#define ENGINE_SCHED_H

/*
 * The scheduler: which tokens of which sequences are computed in the next step, and what follows
 * from those that were. One thread at a time (the engine's worker).
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/engine.h"
#include "engine/gguf.h"
#include "engine/model.h"
#include "engine/seq.h"

struct sched;

struct sched_options {
	/* All borrowed; they must outlive the scheduler. */
	struct model *model;
	const struct gguf *gguf;
	const struct tokenizer *tokenizer;
	const struct json_vocab *json_vocab;
	uint32_t step_budget_tok; /* most rows in a step, >= max_sequences */
	uint32_t max_sequences;
	uint32_t kv_blocks; /* a sequence of the longest context must fit alone */
	/* A sequence is over, nothing of it is in the scheduler any more. Called before its
	 * ENGINE_END, after which the scheduler frees it: forget it here. */
	void (*over)(void *arg, struct seq *q);
	void *over_arg;
};

/* new *out. -ENOMEM. */
int sched_new(struct sched **out, const struct sched_options *options, struct err *err);
/* The sequences must have ended (sched_end_all). Accepts NULL, returns NULL. */
struct sched *sched_free(struct sched *s);

/* Steals q: puts it at the end of the queue. */
void sched_add(struct sched *s, struct seq *q);

/* Ends one sequence now: over(), ENGINE_END, freed. */
void sched_cancel(struct sched *s, struct seq *q);

/* Ends all with this status and sentence. */
void sched_end_all(struct sched *s, enum engine_finish finish, int status, const char *sentence);

bool sched_has_work(const struct sched *s);

/* Begins a step of the model, and finishes one: the same, or, of a model that samples, the one
 * before it. 0; < 0: every sequence was ended with this status and sentence, and there is no other
 * step: -EBADMSG the model's file shrank, -EIO it was written to, or the device failed, -ENOMEM. */
int sched_step(struct sched *s, struct err *err);

/* Counters and gauges; `waiting` counts what the scheduler knows. */
void sched_stats(const struct sched *s, struct engine_stats *out);

#endif
