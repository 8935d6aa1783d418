/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_SAMPLE_H
#define ENGINE_SAMPLE_H

/*
 * From rows of logits to tokens, on the device. engine/sampler.h is the definition: for identical
 * logits, settings, position and history the token is the CPU's, whatever else is in the batch and
 * however many blocks work on a row.
 *
 * sample_run() is a fixed sequence of launches with no decision of the host inside: what each row
 * wants lies in device memory, so the whole may be captured in a graph and replayed with other
 * wishes. Per row there is one record, struct sample_row, which the host fills and copies with
 * the step's other inputs (a record and not one array per field: a block reads all of one row and
 * nothing of the others).
 *
 * Sequences with penalties or biases have a place of their own ("slot") that outlives the step: how
 * often each token was in the text, which sample_run() brings up to date with each pick, so that
 * the next step can run before the host knows the token. The counts are dense, 16 bits a token of
 * the vocabulary: 256 KB for one sequence, read with the logits in one stream, no hashing, an
 * update of one word. Next to them lies a row for the changed logits, so that the model's own stay
 * whole for log-probabilities.
 *
 * Nothing here allocates or waits. Launchers return a cudaError_t as int.
 */

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/chance.h"
#include "engine/cuda/ahead.h"
#include "engine/engine.h"
#include "engine/sampler.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SAMPLE_NONE SAMPLER_NONE /* no slot, mask, place; picked, best_id: no token */

/* Biases of a sequence, in device memory; only read by sample_open(). */
struct sample_bias {
	uint32_t n;
	uint32_t ids[ENGINE_BIAS_MAX]; /* no two alike, < n_vocab */
	float bias[ENGINE_BIAS_MAX];
};

/* All pointers are device memory within one block of sample_bytes(). */
struct sample_state {
	uint32_t n_vocab, n_words; /* n_words: of a bitmap, n_vocab / 32 rounded up to 4 words */
	uint32_t max_rows, n_slots;
	/* Bitmaps that the host uploads once, bit i % 32 of word i / 32 is token i. Bits beyond
	 * n_vocab are not looked at. */
	uint32_t *control; /* [n_words] tokens that are never picked */
	uint32_t *ends;    /* [n_words] tokens that are not picked with SAMPLE_NO_END */
	/* What belongs to slots. */
	uint16_t *counts; /* [n_slots][n_words * 32] bit 15: in the prompt; below: times in the
			     answer, at most CHANCE_MOST_COUNT */
	float *changed;   /* [n_slots][n_words * 32] logits after bias and penalties */
	struct sample_bias *biases; /* [n_slots] */
	/* Scratch of a step. */
	void *scratch;
};

/* Bytes of device memory for all of it. n_slots: the most sequences with penalties or biases at a
 * time; 0 is allowed. n_vocab * 6 bytes a slot, some 50 KB a row. */
size_t sample_bytes(uint32_t n_vocab, uint32_t max_rows, uint32_t n_slots);

/* Fills *s with addresses within `memory` (aligned to 256). Touches no device memory. */
void sample_place(struct sample_state *s, uint32_t n_vocab, uint32_t max_rows, uint32_t n_slots,
	void *memory);

/* Clears all of `memory` but the slots: no token is banned. Once, before the bitmaps are uploaded.
 */
int sample_clear(const struct sample_state *s, cudaStream_t stream);

/* What a row wants. Zeroed memory is a row of padding: nothing is computed, picked is
 * SAMPLE_NONE. */
struct sample_row {
	uint32_t flags; /* SAMPLE_* below */
	uint32_t slot;  /* of the sequence, or SAMPLE_NONE: no penalties, no biases */
	uint32_t mask;  /* number of its bitmap in step.masks, or SAMPLE_NONE */
	uint32_t next;  /* where in step.next_id its token goes too, or SAMPLE_NONE */
	float scale;    /* chance_scale(temperature) */
	float repetition, presence, frequency;
	uint64_t random; /* chance_random(seed, position) */
	uint64_t least;  /* chance_least(min_p) */
	uint32_t share;  /* chance_share(top_p) */
	uint32_t top_k;  /* 0: off */
	uint32_t n_top;  /* log-probabilities wanted, at most ENGINE_LOGPROBS_MAX */
	uint32_t n_candidates;
	uint32_t candidates[ENGINE_CANDIDATES_MAX]; /* ids */
};

#define SAMPLE_ROW 1u    /* not padding: pick a token */
#define SAMPLE_GREEDY 2u /* temperature 0 */
#define SAMPLE_NO_END 4u /* end tokens are banned */
#define SAMPLE_FACTS 8u  /* fill facts[row]; without effect when step.facts is NULL */

/* Host only. The row of a token at `position` of its sequence (= tokens before it: q->n_tok), with
 * no mask, no facts and no place in next_id: these are filled in afterwards. `slot` is kept only
 * when it is needed, that is with penalties or biases. */
static inline struct sample_row sample_row_of(const struct engine_sampling *how, uint64_t position,
	uint32_t slot, bool has_bias, bool no_end)
{
	bool greedy = how->temperature <= 0;
	float repetition = how->repetition_penalty > 0 ? how->repetition_penalty : 1;
	bool changed = has_bias || repetition != 1 || how->presence_penalty != 0 ||
		       how->frequency_penalty != 0;
	struct sample_row r;

	memset(&r, 0, sizeof(r));
	r.flags = SAMPLE_ROW | (greedy ? SAMPLE_GREEDY : 0) | (no_end ? SAMPLE_NO_END : 0);
	r.slot = changed ? slot : SAMPLE_NONE;
	r.mask = r.next = SAMPLE_NONE;
	r.scale = greedy ? 1 : chance_scale(how->temperature);
	r.repetition = repetition;
	r.presence = how->presence_penalty;
	r.frequency = how->frequency_penalty;
	r.random = chance_random(how->seed, position);
	r.least = chance_least(how->min_p);
	r.share = chance_share(how->top_p);
	r.top_k = how->top_k;
	return r;
}

/* All pointers are device memory. */
struct sample_step {
	float *logits; /* [n_rows][ld] aligned to 16; logits of banned tokens may be written over */
	size_t ld;     /* >= n_vocab, a multiple of 4 */
	uint32_t n_rows;               /* as launched, with padding; <= max_rows */
	const struct sample_row *rows; /* [n_rows] */
	const uint32_t *masks;         /* [as rows say][n_words] bit set: allowed; may be NULL */
	uint32_t *picked;              /* [n_rows] out */
	uint32_t *next_id;             /* out: next_id[rows[i].next] = picked[i]; may be NULL */
	struct sampler_facts *facts;   /* [n_rows] out; NULL: nobody asks, two launches less */
	uint32_t n_processors;         /* of the card: how finely few rows are cut */
	struct cuda_ahead ahead;
};

/* Four launches, six with facts. One stream at a time for one sample_state. No two rows of a step
 * have the same slot. cudaErrorInvalidValue: sizes that the comments rule out. */
int sample_run(const struct sample_state *s, const struct sample_step *step, cudaStream_t stream);

/*
 * Gives a slot to a sequence: counts ids[0 .. n_tok), of which the first n_prompt are the prompt
 * and the others its answer so far (of one that was preempted), and takes its biases. Everything in
 * device memory, ids < n_vocab; bias may be NULL. Before the first row that names the slot; a slot
 * needs no end.
 */
int sample_open(const struct sample_state *s, uint32_t slot, const uint32_t *ids, uint32_t n_prompt,
	uint32_t n_tok, const struct sample_bias *bias, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
