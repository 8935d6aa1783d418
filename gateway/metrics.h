/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_METRICS_H
#define GATEWAY_METRICS_H

/* Sums over requests: one set for the gateway, one for each model. */

#include "gateway/trace.h"

struct metrics;

struct metrics *metrics_new(void);
struct metrics *metrics_free(struct metrics *m); /* accepts NULL, returns NULL */
/* A request is over. */
void metrics_add(struct metrics *m, const struct trace_record *record);
/* It was asked as a judge, or a judge was: tokens that are none of a request's. */
void metrics_judged(struct metrics *m, const struct trace_usage *usage, money cost);

enum metrics_sum {
	METRICS_DONE,
	METRICS_FAILED,
	METRICS_CANCELLED,
	METRICS_BLOCKED,
	METRICS_PROMPT_TOK,
	METRICS_CACHED_TOK,
	METRICS_OUTPUT_TOK,
	METRICS_COST, /* nanodollars */
	METRICS_JUDGE_PROMPT_TOK,
	METRICS_JUDGE_CACHED_TOK,
	METRICS_JUDGE_OUTPUT_TOK,
	N_METRICS_SUMS
};
uint64_t metrics_sum(struct metrics *m, enum metrics_sum sum);

enum metrics_time { METRICS_LATENCY, METRICS_FIRST_TOKEN, N_METRICS_TIMES };
/* Milliseconds: the p-quantile of the last 256 values, nearest rank; 0 when there is none. */
double metrics_quantile_ms(struct metrics *m, enum metrics_time time, double p);

/* The Prometheus text of some models' sets: llm_requests_total{model,status},
 * llm_tokens_total{model,direction}, llm_judge_tokens_total{model,direction},
 * llm_cost_dollars{model}, llm_request_latency_seconds and
 * llm_time_to_first_token_seconds (histograms). */
int metrics_render(
	struct metrics *const *sets, const char *const *models, size_t n, struct buf *out);
/* The same of the arms of a split, of whole requests: llm_router_arm_requests_total{arm,status},
 * llm_router_arm_tokens_total{arm,direction}, llm_router_arm_cost_dollars{arm},
 * llm_router_arm_latency_seconds and llm_router_arm_first_token_seconds. */
int metrics_render_arms(
	struct metrics *const *sets, const char *const *arms, size_t n, struct buf *out);
/* "# HELP" and "# TYPE" lines. */
int metrics_head(struct buf *out, const char *name, const char *type, const char *help);

#endif
