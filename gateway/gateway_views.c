/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is said of the whole: the plain numbers of metrics/, and the Prometheus text, which has the
 * same numbers behind "llmfs_". Rates and percentiles are computed when they are read. (`status`:
 * gateway_status.c.)
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/audit.h"
#include "gateway/cache.h"
#include "gateway/guards.h"
#include "gateway/session.h"

struct totals {
	uint64_t sessions, models;
	struct provider_stats engines;
};

static void add_up(struct gateway *g, struct totals *t)
{
	*t = (struct totals){0};
	pthread_mutex_lock(&g->lock);
	t->sessions = g->sessions.n;
	pthread_mutex_unlock(&g->lock);
	struct model **models = gateway_all_models(g);
	for (size_t i = 0; models && models[i]; i++) {
		struct provider_stats s;
		bool loaded;
		model_stats(models[i], &s, &loaded);
		t->models += loaded;
		t->engines.kv_blocks_total += s.kv_blocks_total;
		t->engines.kv_blocks_used += s.kv_blocks_used;
		t->engines.kv_blocks_cached += s.kv_blocks_cached;
		t->engines.preemptions += s.preemptions;
	}
	gateway_put_models(models);
}

struct number {
	const char *name, *type, *help;
	double (*read)(struct gateway *g, const struct totals *t);
};

#define NUMBER(name, value)                                                                        \
	static double read_##name(struct gateway *g, const struct totals *t)                       \
	{                                                                                          \
		return (double)(value);                                                            \
	}

NUMBER(requests_total, metrics_sum(g->metrics, METRICS_DONE) +
			       metrics_sum(g->metrics, METRICS_FAILED) +
			       metrics_sum(g->metrics, METRICS_CANCELLED) +
			       metrics_sum(g->metrics, METRICS_BLOCKED))
NUMBER(requests_failed_total, metrics_sum(g->metrics, METRICS_FAILED))
NUMBER(requests_cancelled_total, metrics_sum(g->metrics, METRICS_CANCELLED))
static uint64_t refusals(struct gateway *g)
{
	uint64_t n = 0;
	for (int i = 0; i < N_REFUSALS; i++)
		n += atomic_load(&g->refusals[i]);
	return n;
}

NUMBER(requests_refused_total, refusals(g))
NUMBER(requests_blocked_total, metrics_sum(g->metrics, METRICS_BLOCKED))
NUMBER(guard_findings_total, guards_findings(g->guards))
NUMBER(cost_dollars_total, (double)metrics_sum(g->metrics, METRICS_COST) / 1e9)
NUMBER(prompt_tokens_total, metrics_sum(g->metrics, METRICS_PROMPT_TOK))
NUMBER(cached_tokens_total, metrics_sum(g->metrics, METRICS_CACHED_TOK))
NUMBER(output_tokens_total, metrics_sum(g->metrics, METRICS_OUTPUT_TOK))
NUMBER(judge_tokens_total, metrics_sum(g->metrics, METRICS_JUDGE_PROMPT_TOK) +
				   metrics_sum(g->metrics, METRICS_JUDGE_OUTPUT_TOK))
/* To the microsecond: what is behind it is noise. */
static double quantile_ms(struct gateway *g, enum metrics_time time, double p)
{
	return round(metrics_quantile_ms(g->metrics, time, p) * 1e3) / 1e3;
}

NUMBER(ttft_p50_ms, quantile_ms(g, METRICS_FIRST_TOKEN, 0.5))
NUMBER(ttft_p95_ms, quantile_ms(g, METRICS_FIRST_TOKEN, 0.95))
NUMBER(latency_p50_ms, quantile_ms(g, METRICS_LATENCY, 0.5))
NUMBER(latency_p95_ms, quantile_ms(g, METRICS_LATENCY, 0.95))
NUMBER(sessions, t->sessions)
NUMBER(models_loaded, t->models)
NUMBER(requests_running, atomic_load(&g->n_running))
NUMBER(requests_queued, atomic_load(&g->n_queued))
NUMBER(kv_blocks_total, t->engines.kv_blocks_total)
NUMBER(kv_blocks_used, t->engines.kv_blocks_used)
NUMBER(kv_blocks_cached, t->engines.kv_blocks_cached)
NUMBER(preemptions, t->engines.preemptions)
NUMBER(uptime_s, (clock_real_ns() - g->started_ns) / 1000000000u)

static const struct number numbers[] = {
	{"requests_total", "counter", "Requests that are over.", read_requests_total},
	{"requests_failed_total", "counter", "Requests that failed.", read_requests_failed_total},
	{"requests_cancelled_total", "counter", "Requests that were cancelled.",
		read_requests_cancelled_total},
	{"requests_refused_total", "counter",
		"Prompts that were refused before they were requests (not in requests_total).",
		read_requests_refused_total},
	{"requests_blocked_total", "counter",
		"Requests that were blocked by a judge, or in the middle of their answer.",
		read_requests_blocked_total},
	{"guard_findings_total", "counter", "What guards found.", read_guard_findings_total},
	{"cost_dollars_total", "counter", "What requests have cost, in dollars.",
		read_cost_dollars_total},
	{"prompt_tokens_total", "counter", "Tokens of prompts.", read_prompt_tokens_total},
	{"cached_tokens_total", "counter", "Tokens of prompts that were found in the KV cache.",
		read_cached_tokens_total},
	{"output_tokens_total", "counter", "Tokens of answers.", read_output_tokens_total},
	{"judge_tokens_total", "counter", "Tokens of judges, in none of the sums above.",
		read_judge_tokens_total},
	{"ttft_p50_ms", "gauge", "Time to first token, median of the last 256.", read_ttft_p50_ms},
	{"ttft_p95_ms", "gauge", "Time to first token, 95th percentile of the last 256.",
		read_ttft_p95_ms},
	{"latency_p50_ms", "gauge", "Time to the end, median of the last 256.",
		read_latency_p50_ms},
	{"latency_p95_ms", "gauge", "Time to the end, 95th percentile of the last 256.",
		read_latency_p95_ms},
	{"sessions", "gauge", "Sessions.", read_sessions},
	{"models_loaded", "gauge", "Models that are loaded.", read_models_loaded},
	{"requests_running", "gauge", "Requests whose turn it is.", read_requests_running},
	{"requests_queued", "gauge", "Requests behind others of their session.",
		read_requests_queued},
	{"kv_blocks_total", "gauge", "Blocks of KV cache.", read_kv_blocks_total},
	{"kv_blocks_used", "gauge", "Blocks of KV cache in use.", read_kv_blocks_used},
	{"kv_blocks_cached", "gauge",
		"Blocks of KV cache that are free with content that can be found.",
		read_kv_blocks_cached},
	{"preemptions", "gauge", "Sequences of loaded models that were computed again.",
		read_preemptions},
	{"uptime_s", "gauge", "Seconds since the start.", read_uptime_s},
};

enum { N_NUMBERS = sizeof numbers / sizeof *numbers };

static const char *number_names[N_NUMBERS + 1];

static void list_names(void)
{
	for (size_t i = 0; i < N_NUMBERS; i++)
		number_names[i] = numbers[i].name;
}

const char *const *gateway_metric_names(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, list_names);
	return number_names;
}

/* As money is: never with an exponent, which shells do not add up. */
static int print_plain(double x, struct buf *out)
{
	char text[400];
	int len = snprintf(text, sizeof text, "%.9f", x);
	while (len > 0 && text[len - 1] == '0')
		len--;
	len -= len > 0 && text[len - 1] == '.';
	return buf_printf(out, "%.*s\n", len, text);
}

int gateway_metric(struct gateway *g, const char *name, struct buf *out)
{
	struct totals t;
	for (size_t i = 0; i < N_NUMBERS; i++) {
		if (strcmp(numbers[i].name, name))
			continue;
		add_up(g, &t);
		return print_plain(numbers[i].read(g, &t), out);
	}
	return -ENOENT;
}

static int render_refusals(struct gateway *g, struct buf *out)
{
	static const char *const reasons[N_REFUSALS] = {[REFUSED_RATE] = "rate",
		[REFUSED_BUDGET] = "budget",
		[REFUSED_GUARD] = "guard",
		[REFUSED_BUSY] = "busy",
		[REFUSED_OTHER] = "other"};
	int r = metrics_head(out, "llm_requests_refused_total", "counter",
		"Prompts that were refused before they were requests.");
	for (int i = 0; r == 0 && i < N_REFUSALS; i++)
		r = buf_printf(out, "llm_requests_refused_total{reason=\"%s\"} %" PRIuLEAST64 "\n",
			reasons[i], atomic_load(&g->refusals[i]));
	return r;
}

static int render_prometheus(struct gateway *g, struct buf *out)
{
	struct model **models = gateway_all_models(g);
	size_t n = 0;
	while (models && models[n])
		n++;
	struct metrics **sets = calloc(n + 1, sizeof *sets);
	const char **names = calloc(n + 1, sizeof *names);
	int r = models && sets && names ? 0 : -ENOMEM;
	size_t n_sets = 0;
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (model_is_virtual(models[i]))
			continue;
		sets[n_sets] = model_metrics(models[i]);
		names[n_sets++] = model_name(models[i]);
	}
	r = r ? r : metrics_render(sets, names, n_sets, out);
	r = r ? r : models_render_upstreams(models, n, out);
	r = r ? r : models_render_work(models, n, out);
	r = r ? r : models_render_chosen(models, n, out);
	r = r ? r : models_render_arms(models, n, out);
	r = r ? r : cache_metrics(g->cache, out);
	free(names);
	free(sets);
	gateway_put_models(models);
	r = r ? r : guards_render_metrics(g->guards, out);
	r = r ? r : render_refusals(g, out);
	struct totals t;
	add_up(g, &t);
	for (size_t i = 0; r == 0 && i < N_NUMBERS; i++) {
		char name[64];
		snprintf(name, sizeof name, "llmfs_%s", numbers[i].name);
		r = metrics_head(out, name, numbers[i].type, numbers[i].help);
		r = r ? r : buf_printf(out, "%s ", name);
		r = r ? r : print_plain(numbers[i].read(g, &t), out);
	}
	return r;
}

int gateway_render(struct gateway *g, enum gateway_view view, struct buf *out)
{
	switch (view) {
	case GATEWAY_STATUS:
		return gateway_status(g, out);
	case GATEWAY_PROMETHEUS:
		return render_prometheus(g, out);
	case GATEWAY_GUARD_STATUS:
		return guards_render_status(g->guards, out);
	case GATEWAY_CACHE_STATS:
		return cache_stats(g->cache, out);
	case GATEWAY_GUARD_AUDIT:
		return audit_render(g->audit, out);
	case GATEWAY_TRACE_RECENT:
		break;
	}
	return trace_render(g->trace, out);
}

void gateway_view_size(
	struct gateway *g, enum gateway_view view, uint64_t *bytes, uint64_t *changed_ns)
{
	*bytes = *changed_ns = 0;
	if (view == GATEWAY_GUARD_AUDIT)
		audit_size(g->audit, bytes, changed_ns);
}

int gateway_watch(struct gateway *g, enum gateway_view view, uint64_t bytes, gateway_wake_fn *wake,
	void *arg, gateway_waiter *id)
{
	if (view != GATEWAY_GUARD_AUDIT)
		return 1;
	return audit_watch(g->audit, bytes, wake, arg, id);
}

bool gateway_unwatch(struct gateway *g, gateway_waiter id)
{
	return watch_remove(g->watch, id);
}
