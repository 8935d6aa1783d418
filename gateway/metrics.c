/* SPDX-License-Identifier: Apache-2.0 */
/* Counters, two histograms and the last 256 times of each kind, under a leaf lock. */
#include "gateway/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { N_BUCKETS = 15, RECENT = 256 };

static const double bounds_s[N_BUCKETS] = {
	0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120};

struct times {
	uint64_t buckets[N_BUCKETS + 1], n;
	double sum_s;
	float recent_ms[RECENT];
};

struct metrics {
	pthread_mutex_t lock;
	uint64_t sums[N_METRICS_SUMS];
	struct times times[N_METRICS_TIMES];
};

struct metrics *metrics_new(void)
{
	struct metrics *m = calloc(1, sizeof *m);
	if (m)
		pthread_mutex_init(&m->lock, NULL);
	return m;
}

struct metrics *metrics_free(struct metrics *m)
{
	if (!m)
		return NULL;
	pthread_mutex_destroy(&m->lock);
	free(m);
	return NULL;
}

static void times_add(struct times *t, double ms)
{
	size_t i = 0;
	while (i < N_BUCKETS && ms / 1e3 > bounds_s[i])
		i++;
	t->buckets[i]++;
	t->recent_ms[t->n++ % RECENT] = (float)ms;
	t->sum_s += ms / 1e3;
}

void metrics_add(struct metrics *m, const struct trace_record *c)
{
	enum metrics_sum status = !strcmp(c->status, "done")        ? METRICS_DONE
				  : !strcmp(c->status, "cancelled") ? METRICS_CANCELLED
				  : !strcmp(c->status, "blocked")   ? METRICS_BLOCKED
								    : METRICS_FAILED;
	pthread_mutex_lock(&m->lock);
	m->sums[status]++;
	m->sums[METRICS_PROMPT_TOK] += c->usage.prompt_tok;
	m->sums[METRICS_CACHED_TOK] += c->usage.cached_tok;
	m->sums[METRICS_OUTPUT_TOK] += c->usage.output_tok;
	m->sums[METRICS_COST] += (uint64_t)c->cost;
	if (status == METRICS_DONE)
		times_add(&m->times[METRICS_LATENCY],
			trace_ms(c->times.submitted_ns, c->times.settled_ns));
	if (c->times.first_ns)
		times_add(&m->times[METRICS_FIRST_TOKEN],
			trace_ms(c->times.submitted_ns, trace_first_ns(&c->times)));
	pthread_mutex_unlock(&m->lock);
}

void metrics_judged(struct metrics *m, const struct trace_usage *usage, money cost)
{
	pthread_mutex_lock(&m->lock);
	m->sums[METRICS_JUDGE_PROMPT_TOK] += usage->prompt_tok;
	m->sums[METRICS_JUDGE_CACHED_TOK] += usage->cached_tok;
	m->sums[METRICS_JUDGE_OUTPUT_TOK] += usage->output_tok;
	m->sums[METRICS_COST] += (uint64_t)cost;
	pthread_mutex_unlock(&m->lock);
}

uint64_t metrics_sum(struct metrics *m, enum metrics_sum sum)
{
	pthread_mutex_lock(&m->lock);
	uint64_t n = m->sums[sum];
	pthread_mutex_unlock(&m->lock);
	return n;
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

double metrics_quantile_ms(struct metrics *m, enum metrics_time time, double p)
{
	float values[RECENT];
	pthread_mutex_lock(&m->lock);
	const struct times *t = &m->times[time];
	size_t n = t->n < RECENT ? (size_t)t->n : RECENT;
	memcpy(values, t->recent_ms, n * sizeof *values);
	pthread_mutex_unlock(&m->lock);
	if (!n)
		return 0;
	qsort(values, n, sizeof *values, compare);
	size_t rank = (size_t)(p * (double)n);
	return (double)values[rank < n ? rank : n - 1];
}

int metrics_head(struct buf *out, const char *name, const char *type, const char *help)
{
	return buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

struct label {
	const char *value;
	enum metrics_sum sum;
};

/* Whose sets are rendered: their names, and the labels of their values. */
struct table {
	struct metrics *const *sets; /* [n] */
	const char *const *names;    /* [n] */
	size_t n;
	const char *key; /* "model" or "arm" */
};

static int render_counters(const struct table *t, const char *name, const char *label,
	const struct label *labels, struct buf *out)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < t->n; i++)
		for (size_t j = 0; r == 0 && labels[j].value; j++)
			r = buf_printf(out, "%s{%s=\"%s\",%s=\"%s\"} %" PRIu64 "\n", name, t->key,
				t->names[i], label, labels[j].value,
				metrics_sum(t->sets[i], labels[j].sum));
	return r;
}

static int render_histogram(struct metrics *m, enum metrics_time time, const char *name,
	const char *key, const char *value, struct buf *out)
{
	pthread_mutex_lock(&m->lock);
	struct times t = m->times[time];
	pthread_mutex_unlock(&m->lock);
	uint64_t below = 0;
	int r = 0;
	for (size_t i = 0; r == 0 && i < N_BUCKETS; i++) {
		below += t.buckets[i];
		r = buf_printf(out, "%s_bucket{%s=\"%s\",le=\"%g\"} %" PRIu64 "\n", name, key,
			value, bounds_s[i], below);
	}
	return r ? r
		 : buf_printf(out,
			   "%s_bucket{%s=\"%s\",le=\"+Inf\"} %" PRIu64
			   "\n%s_sum{%s=\"%s\"} %.6f\n%s_count{%s=\"%s\"} %" PRIu64 "\n",
			   name, key, value, t.n, name, key, value, t.sum_s, name, key, value, t.n);
}

static const struct label statuses[] = {{"done", METRICS_DONE}, {"failed", METRICS_FAILED},
	{"cancelled", METRICS_CANCELLED}, {"blocked", METRICS_BLOCKED}, {0}};
static const struct label directions[] = {{"prompt", METRICS_PROMPT_TOK},
	{"cached", METRICS_CACHED_TOK}, {"output", METRICS_OUTPUT_TOK}, {0}};
static const struct label judged[] = {{"prompt", METRICS_JUDGE_PROMPT_TOK},
	{"cached", METRICS_JUDGE_CACHED_TOK}, {"output", METRICS_JUDGE_OUTPUT_TOK}, {0}};

static int render_sums(const struct table *t, const char *name, const char *help, const char *label,
	const struct label *labels, struct buf *out)
{
	int r = metrics_head(out, name, "counter", help);
	return r ? r : render_counters(t, name, label, labels, out);
}

static int render_cost(const struct table *t, const char *name, const char *help, struct buf *out)
{
	int r = metrics_head(out, name, "counter", help);
	for (size_t i = 0; r == 0 && i < t->n; i++)
		r = buf_printf(out, "%s{%s=\"%s\"} %.9f\n", name, t->key, t->names[i],
			(double)metrics_sum(t->sets[i], METRICS_COST) / 1e9);
	return r;
}

static int render_times(
	const struct table *t, const char *const names[N_METRICS_TIMES], struct buf *out)
{
	static const char *const help[N_METRICS_TIMES] = {
		"From the submission to the end of a request that was answered.",
		"From the submission to the first text."};
	int r = 0;
	for (size_t k = 0; r == 0 && k < N_METRICS_TIMES; k++) {
		r = metrics_head(out, names[k], "histogram", help[k]);
		for (size_t i = 0; r == 0 && i < t->n; i++)
			r = render_histogram(t->sets[i], (enum metrics_time)k, names[k], t->key,
				t->names[i], out);
	}
	return r;
}

int metrics_render(
	struct metrics *const *sets, const char *const *models, size_t n, struct buf *out)
{
	static const char *const times[N_METRICS_TIMES] = {
		"llm_request_latency_seconds", "llm_time_to_first_token_seconds"};
	const struct table t = {sets, models, n, "model"};
	int r = render_sums(
		&t, "llm_requests_total", "Requests that are over.", "status", statuses, out);
	r = r ? r
	      : render_sums(&t, "llm_tokens_total",
			"Tokens; cached ones are prompt tokens that were not computed again.",
			"direction", directions, out);
	r = r ? r
	      : render_sums(&t, "llm_judge_tokens_total",
			"Tokens of a model as a judge, which are not in llm_tokens_total.",
			"direction", judged, out);
	r = r ? r : render_cost(&t, "llm_cost_dollars", "What requests have cost.", out);
	return r ? r : render_times(&t, times, out);
}

int metrics_render_arms(
	struct metrics *const *sets, const char *const *arms, size_t n, struct buf *out)
{
	static const char *const times[N_METRICS_TIMES] = {
		"llm_router_arm_latency_seconds", "llm_router_arm_first_token_seconds"};
	const struct table t = {sets, arms, n, "arm"};
	int r = render_sums(&t, "llm_router_arm_requests_total",
		"Requests of an arm of a split that are over, whichever model answered.", "status",
		statuses, out);
	r = r ? r
	      : render_sums(&t, "llm_router_arm_tokens_total",
			"Their tokens; cached ones are prompt tokens that were not computed again.",
			"direction", directions, out);
	r = r ? r
	      : render_cost(&t, "llm_router_arm_cost_dollars",
			"What they have cost, their judges too.", out);
	return r ? r : render_times(&t, times, out);
}
