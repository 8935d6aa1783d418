/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_PICKER_H
#define ENGINE_PICKER_H

/*
 * From the logits of a step to the tokens of its sequences, whoever takes them: the model, which is
 * told how, or else the threads of its pool. One thread at a time (the engine's worker).
 */

#include <stdint.h>

#include "base/err.h"
#include "engine/json.h"
#include "engine/model.h"
#include "engine/seq.h"
#include "engine/tokenizer.h"

struct picker;

/* new *out; borrows the three, and tells the model which tokens are never picked. max_picks: of one
 * step. -ENOMEM, -EIO. */
int picker_new(struct picker **out, struct model *m, const struct tokenizer *t,
	const struct json_vocab *v, uint32_t max_picks, struct err *err);
/* Accepts NULL, returns NULL. */
struct picker *picker_free(struct picker *p);

/* For model_begin: how the next token of each seqs[n] is taken, one behind its n_ahead ones. NULL
 * of a model that does not sample. borrows, until the next call. 0 or -ENOMEM. */
int picker_list(struct picker *p, struct seq *const *seqs, uint32_t n,
	const struct model_pick **picks, struct err *err);

/* After model_finish: results[n] get their tokens if the model took none, and what was asked of
 * their rows is looked at. seqs may have NULLs, which are passed over. Logits are used up. */
void picker_look(
	struct picker *p, struct seq *const *seqs, uint32_t n, struct model_result *results);

/* What the last picker_look found for seqs[i]: the probabilities of its candidates, borrowed until
 * the next; NULL: they are not known by this position. */
const float *picker_judged(const struct picker *p, uint32_t i);

/* And the log-probabilities of its token and of the most likely ones, *n of them; 0 when they were
 * not asked for, or the model gave no number. */
const struct engine_logprob *picker_logprobs(const struct picker *p, uint32_t i, uint32_t *n);

#endif
