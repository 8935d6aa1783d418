/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of fixed-size records under a leaf lock; they become text only when somebody reads. */
#include "gateway/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { RECENT = 256 };

struct trace {
	pthread_mutex_t lock;
	uint64_t n; /* ever added */
	struct trace_record ring[RECENT];
};

struct trace *trace_new(void)
{
	struct trace *t = calloc(1, sizeof *t);
	if (t)
		pthread_mutex_init(&t->lock, NULL);
	return t;
}

struct trace *trace_free(struct trace *t)
{
	if (!t)
		return NULL;
	pthread_mutex_destroy(&t->lock);
	free(t);
	return NULL;
}

void trace_add(struct trace *t, const struct trace_record *record)
{
	pthread_mutex_lock(&t->lock);
	t->ring[t->n++ % RECENT] = *record;
	pthread_mutex_unlock(&t->lock);
}

/* The times behind the submission: first those that are packed. Stored in this order. */
static uint64_t *stamp(struct trace_times *t, size_t i)
{
	uint64_t *all[TRACE_TIMES] = {&t->started_ns, &t->ready_ns, &t->rendered_ns, &t->running_ns,
		&t->first_ns, &t->generated_ns, &t->settled_ns, &t->judged_ns, &t->released_ns,
		&t->tried_ns};
	return all[i];
}

void trace_since(const struct trace_times *times, uint64_t ns[TRACE_TIMES])
{
	struct trace_times t = *times;
	for (size_t i = 0; i < TRACE_TIMES; i++) {
		uint64_t at = *stamp(&t, i);
		ns[i] = at < t.submitted_ns ? 0 : at - t.submitted_ns + 1;
	}
}

void trace_from(const uint64_t ns[TRACE_TIMES], struct trace_times *out)
{
	*out = (struct trace_times){.submitted_ns = 1};
	for (size_t i = 0; i < TRACE_TIMES; i++)
		*stamp(out, i) = ns[i];
}

void trace_pack(struct trace_packed *out, const struct trace_times *times,
	const struct trace_usage *usage, const char *finish)
{
	struct trace_times t = *times;
	*out = (struct trace_packed){
		.prompt_tok = (uint32_t)usage->prompt_tok,
		.cached_tok = (uint32_t)usage->cached_tok,
		.output_tok = (uint32_t)usage->output_tok,
		.finish = *finish ? *finish : '-',
	};
	for (size_t i = 0; i < TRACE_PACKED_TIMES; i++) {
		uint64_t at = *stamp(&t, i);
		if (at < t.submitted_ns)
			continue;
		uint64_t us = (at - t.submitted_ns) / 1000 + 1;
		out->us[i] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
	}
}

void trace_unpack(const struct trace_packed *p, struct trace_times *times,
	struct trace_usage *usage, const char **finish)
{
	*usage = (struct trace_usage){p->prompt_tok, p->cached_tok, p->output_tok};
	*finish = p->finish == 's' ? "stop" : p->finish == 'l' ? "length" : "";
	*times = (struct trace_times){.submitted_ns = 1};
	for (size_t i = 0; i < TRACE_PACKED_TIMES; i++)
		if (p->us[i])
			*stamp(times, i) = 1 + (uint64_t)(p->us[i] - 1) * 1000;
}

double trace_ms(uint64_t from_ns, uint64_t to_ns)
{
	return from_ns && to_ns > from_ns ? (double)(to_ns - from_ns) / 1e6 : 0;
}

enum { RATE_TOK = 3, RATE_MS = 20 }; /* from here on */

bool trace_has_rate(uint64_t output_tok, double decode_ms)
{
	return output_tok >= RATE_TOK && isfinite(decode_ms) && decode_ms >= RATE_MS;
}

bool trace_is_burst(uint64_t output_tok, double decode_ms)
{
	return output_tok >= RATE_TOK && decode_ms >= 0 && decode_ms < RATE_MS;
}

struct stage {
	const char *name;
	uint64_t from_ns, to_ns;
};

enum { N_STAGES = 10 };

static void stages(const struct trace_times *t, struct stage out[N_STAGES])
{
	uint64_t generating = t->first_ns ? t->first_ns : t->generated_ns;
	uint64_t judged = t->judged_ns ? t->judged_ns : t->started_ns;
	const struct stage all[N_STAGES] = {
		{"session", t->submitted_ns, t->started_ns},
		{"judge", t->started_ns, t->judged_ns},
		{"earlier", judged, t->tried_ns},
		{"load", t->tried_ns ? t->tried_ns : judged, t->ready_ns},
		{"render", t->ready_ns, t->rendered_ns},
		{"queue", t->rendered_ns, t->running_ns},
		{"prefill", t->running_ns, generating},
		{"release", t->first_ns, t->released_ns},
		{"decode", t->first_ns, t->generated_ns},
		{"store", t->generated_ns, t->settled_ns},
	};
	memcpy(out, all, sizeof all);
}

uint64_t trace_first_ns(const struct trace_times *t)
{
	return t->released_ns ? t->released_ns : t->first_ns;
}

int trace_render_stages(const struct trace_times *times, struct buf *out)
{
	struct stage s[N_STAGES];
	stages(times, s);
	int r = 0;
	for (size_t i = 0; r == 0 && i < N_STAGES; i++)
		if (s[i].from_ns && s[i].to_ns)
			r = buf_printf(
				out, "%s_ms %.3f\n", s[i].name, trace_ms(s[i].from_ns, s[i].to_ns));
	if (r == 0 && times->submitted_ns && times->settled_ns)
		r = buf_printf(
			out, "total_ms %.3f\n", trace_ms(times->submitted_ns, times->settled_ns));
	return r;
}

static int render_record(const struct trace_record *c, struct buf *out)
{
	const struct trace_times *t = &c->times;
	char time[TEXT_TIME_MAX];
	int r = buf_append(out, time, (size_t)(text_time(time, c->real_ns) - time));
	if (r == 0)
		r = buf_printf(out,
			", \"id\": %" PRIu64 ", \"session\": \"%s\", \"model\": \"%s\", "
			"\"uid\": %u, \"status\": \"%s\", \"errno\": %d, \"finish\": \"%s\"",
			c->id, c->session, c->model, (unsigned)c->uid, c->status, -c->code,
			c->finish);
	r = r ? r
	      : buf_printf(out,
			", \"prompt_tokens\": %" PRIu64 ", \"cached_tokens\": %" PRIu64
			", \"output_tokens\": %" PRIu64,
			c->usage.prompt_tok, c->usage.cached_tok, c->usage.output_tok);
	r = r ? r : buf_append_str(out, ", \"cost\": ");
	r = r ? r : money_print(c->cost, out);
	struct stage s[N_STAGES];
	stages(t, s);
	for (size_t i = 0; r == 0 && i < N_STAGES; i++)
		if (s[i].from_ns && s[i].to_ns)
			r = buf_printf(out, ", \"%s_ms\": %.3f", s[i].name,
				trace_ms(s[i].from_ns, s[i].to_ns));
	return r ? r
		 : buf_printf(out, ", \"ttft_ms\": %.3f, \"total_ms\": %.3f}\n",
			   trace_ms(t->submitted_ns, trace_first_ns(t)),
			   trace_ms(t->submitted_ns, t->settled_ns));
}

int trace_render(struct trace *t, struct buf *out)
{
	struct trace_record *copy = malloc(sizeof t->ring);
	if (!copy)
		return -ENOMEM;
	pthread_mutex_lock(&t->lock);
	uint64_t n = t->n;
	memcpy(copy, t->ring, sizeof t->ring);
	pthread_mutex_unlock(&t->lock);
	int r = 0;
	for (uint64_t i = n > RECENT ? n - RECENT : 0; r == 0 && i < n; i++)
		r = render_record(&copy[i % RECENT], out);
	free(copy);
	return r;
}
