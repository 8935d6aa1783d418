/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIMT_DEVICE_ENGINE_H
#define TESTS_SIMT_DEVICE_ENGINE_H

/* Engines on a device or the processor, and requests to them whose answers are collected. Without
 * libcheck, as kernel_test.h. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"
#include "tests/engine/tiny_llama.h"
#include "tests/simt/kernel_test.h"

struct device_answer {
	uint64_t id;
	char text[4096];
	size_t len;
	bool is_over, has_text;
	enum engine_finish finish;
	int status;
	char sentence[400];
	struct engine_usage usage;
	float candidate_p[ENGINE_CANDIDATES_MAX];
	struct engine_logprob logprobs[1024]; /* all, of events one after the other */
	size_t n_logprobs;
};

/* Opens an engine over such a file; NULL with *status and the sentence. */
struct engine *device_engine_try(const struct tiny_llama *file,
	const struct engine_options *options, int *status, struct err *err);
/* The same; must succeed. */
struct engine *device_engine_open(
	const struct tiny_llama *file, const struct engine_options *options, const char *backend);

/* A greedy request of max_tokens that collects into *a, which is zeroed here. */
struct engine_request device_engine_request(
	struct device_answer *a, const uint32_t *ids, size_t n_ids, uint32_t max_tokens);
/* Submits; the error. */
int device_engine_submit(
	struct engine *e, const struct engine_request *r, struct device_answer *a, struct err *err);
/* Waits for its end; fails the test after some minutes. */
void device_engine_wait(struct device_answer *a);
/* Waits for text or the end. */
void device_engine_wait_text(struct device_answer *a);
/* Submits, which must succeed, and waits. */
void device_engine_ask(struct engine *e, const struct engine_request *r, struct device_answer *a);

#endif
