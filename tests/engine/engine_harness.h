/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_ENGINE_HARNESS_H
#define TESTS_ENGINE_HARNESS_H

/* Requests to an engine from a test: each collects its events and checks their order. */

#include <check.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "tests/engine/tiny_llama.h"

#define ANSWER_LOGPROBS 512

struct answer {
	uint64_t id;
	struct buf text;
	int n_started, n_ends, n_judged;
	float candidate_p[ENGINE_CANDIDATES_MAX]; /* of the newest event */
	size_t n_candidates;
	uint32_t n_logprobs;                             /* events with log-probabilities */
	size_t n_each;                                   /* how many the newest had */
	struct engine_logprob logprobs[ANSWER_LOGPROBS]; /* all, of events one after the other */
	bool disorder; /* text before the start, or anything after the end */
	enum engine_finish finish;
	int status;
	char sentence[128];
	struct engine_usage usage;
	uint64_t start_order, text_order; /* of its first event of that kind among all; from 1 */
};

/* A request whose answer is collected in *a, which is zeroed here. The rest is the caller's. */
struct engine_request harness_request(struct answer *a, const uint32_t *ids, size_t n_ids);
/* Submits; must succeed. */
void harness_submit(struct engine *e, const struct engine_request *r, struct answer *a);
/* Waits for the end, or for the first text. Fails the test after a minute. */
void harness_wait(struct answer *a);
void harness_wait_text(struct answer *a);
/* Submits, waits. */
void harness_ask(struct engine *e, const struct engine_request *r, struct answer *a);
void harness_free(struct answer *a);

/* Waits until nothing runs and no sequence has blocks; fails the test after a minute. */
void harness_await_idle(struct engine *e);

/* Opens a tiny random llama (a file of its own, removed at once). */
struct engine *harness_open(const struct tiny_llama *model, const struct engine_options *options);

/* Numbers for tests: the next one of a sequence that starts at *state. */
uint32_t harness_random(uint32_t *state);
/* n ids below 256, from *state. */
void harness_ids(uint32_t *state, uint32_t *ids, size_t n);

#endif
