/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIMT_DEVICE_MODELS_H
#define TESTS_SIMT_DEVICE_MODELS_H

/* Tiny random llamas on the device and on the processor beside it, for tests of the whole back end:
 * in the emulator, and on a card where there is one. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/model.h"
#include "tests/engine/tiny_llama.h"
#include "tests/simt/kernel_test.h"

#define DEVICE_MODELS_BLOCKS 64

struct device_models {
	struct gguf *gguf;
	struct model *cpu, *gpu;
	uint32_t n_vocab;
	bool whole; /* whole rows are asked for and tokens taken of them: no step is captured */
	const struct sampler_asked *asked; /* of each row, by device_models_ask */
};

/* Fails the test when one of them cannot be made. `more` may be NULL: options of the one on the
 * device, of which sizes are filled in. */
struct device_models device_models_open(
	const struct tiny_llama *file, const struct model_options *more);
void device_models_close(struct device_models *d);

/* Opens only the one on the device; its error and sentence. */
int device_models_try(struct device_models *d, const struct tiny_llama *file,
	const struct model_options *more, struct err *err);

/* n tokens of a sequence from `first_pos` on, in blocks `from`, `from` + 1, ...: a run. */
struct batch_run device_models_run(
	const uint32_t *ids, uint32_t first_pos, uint32_t n, uint32_t from, uint32_t n_logit_rows);

/* Logits of these runs, copied: free() them. Fails the test on an error. */
float *device_models_logits(const struct device_models *d, struct model *m,
	const struct batch_run *runs, size_t n_runs);

/* The largest difference, in parts of the range of what is expected. */
double device_models_difference(const float *got, const float *expected, size_t n);

/* That of all logits of a prompt of n tokens, processor and device beside each other. */
double device_models_prompt(const struct device_models *d, const uint32_t *ids, uint32_t n);

uint32_t device_models_best(const float *logits, uint32_t n);

/* A prompt of ten tokens, and five picked greedily on the device one by one, so that steps are
 * issued, captured and replayed: the first two are issued, the third is captured. 0, or the first
 * error; tokens of steps that failed are 0. */
int device_models_ask(struct device_models *d, uint32_t tokens[5], struct err *err);

/* n tokens picked one by one after a prompt, greedily or as `how` says. On the processor from the
 * logits of every step. `ahead`: steps are begun before the one before is finished. */
void device_models_answer(const struct device_models *d, struct model *m, const uint32_t *prompt,
	uint32_t n_prompt, uint32_t from_block, const struct engine_sampling *how, bool ahead,
	uint32_t *out, uint32_t n);

#endif
