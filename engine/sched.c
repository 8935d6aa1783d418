/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop's body: a plan, a pass of the model, a token for each sequence whose last row was in it,
 * and what follows from that token. What is computed when is engine/plan.c's affair.
 *
 * A model that does not sample has one step at a time: begun, finished, tokens picked. A model that
 * samples has two: step N + 1 is planned and begun while N
 * is still under way, with the tokens that N will pick, and N is finished and its tokens looked at
 * while N + 1 runs. A sequence of which N + 1 computes something may turn out to be over; its place
 * in N + 1 is then empty, and what was computed for it is nobody's. Two kinds cannot run ahead:
 * JSON, where the next mask follows from the token, and those at their last token, which have
 * nothing more to compute. They take part in every second step. A judge whose candidates are not
 * known yet asks at each position as if it were the one; the last time it asks is for nothing.
 *
 * Everything that changes a sequence or calls its owner happens on the worker thread, one sequence
 * after the other, in order of arrival.
 */
#include "engine/sched.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "engine/picker.h"
#include "engine/plan.h"
#include "engine/sampler.h"

#define RATE_NS 1000000000u /* over which tokens a second are counted */

/* A step that was begun. */
struct flight {
	struct seq **sampled; /* [max_sequences] whose token each pick is; NULL: it is over */
	uint32_t n_picks, n_rows;
	uint64_t begun_ns;
};

struct sched {
	struct sched_options o;
	struct plan plan;
	struct picker *picker;
	uint32_t max_flights;     /* 2 of a model that samples, else 1 */
	struct flight flights[2]; /* steps under way: n_flights from `oldest` on */
	uint32_t oldest, n_flights;
	uint64_t finished_ns;         /* when the last one was */
	struct seq **batch;           /* [max_sequences] in the order of runs */
	struct batch_run *runs;       /* [max_sequences] */
	struct model_result *results; /* [max_sequences] */
	struct buf scratch;
	struct engine_stats stats;
	uint64_t rate_ns, rate_tok; /* since when tokens a second are counted, and from where */
};

static int make_arrays(struct sched *s)
{
	uint32_t n = s->o.max_sequences;

	s->batch = calloc(n, sizeof(struct seq *));
	s->runs = calloc(n, sizeof(*s->runs));
	s->results = calloc(n, sizeof(*s->results));
	for (int i = 0; i < 2; i++)
		s->flights[i].sampled = calloc(n, sizeof(struct seq *));
	return s->batch && s->runs && s->results && s->flights[0].sampled && s->flights[1].sampled
		       ? 0
		       : -ENOMEM;
}

int sched_new(struct sched **out, const struct sched_options *options, struct err *err)
{
	struct sched *s = calloc(1, sizeof(*s));
	int r;

	*out = NULL;
	if (!s)
		return err_set(err, -ENOMEM, "not enough memory for the scheduler");
	s->o = *options;
	s->max_flights = model_samples(options->model) ? 2 : 1;
	r = plan_init(
		&s->plan, options->max_sequences, options->step_budget_tok, options->kv_blocks);
	if (r < 0 || make_arrays(s) < 0)
		r = err_set(err, -ENOMEM, "not enough memory for the scheduler");
	else
		r = picker_new(&s->picker, options->model, options->tokenizer, options->json_vocab,
			options->max_sequences, err);
	*out = r < 0 ? sched_free(s) : s;
	return r;
}

struct sched *sched_free(struct sched *s)
{
	if (!s)
		return NULL;
	plan_free(&s->plan);
	picker_free(s->picker);
	for (int i = 0; i < 2; i++)
		free(s->flights[i].sampled);
	free(s->batch);
	free(s->runs);
	free(s->results);
	buf_free(&s->scratch);
	free(s);
	return NULL;
}

/* ---- who is in it ---- */

bool sched_has_work(const struct sched *s)
{
	return s->plan.n_waiting + s->plan.n_running + s->n_flights > 0;
}

void sched_add(struct sched *s, struct seq *q)
{
	if (!sched_has_work(s)) {
		s->rate_ns = clock_mono_ns();
		s->rate_tok = s->stats.output_tok;
	}
	plan_add(&s->plan, q);
}

static struct seq *seq_at(struct list *link)
{
	return list_entry(link, struct seq, link);
}

/* q is in no list any more and holds no blocks. */
static void tell_end(
	struct sched *s, struct seq *q, enum engine_finish finish, int status, const char *sentence)
{
	s->o.over(s->o.over_arg, q);
	seq_end(q, finish, status, sentence, &s->scratch);
	seq_free(q);
}

/* Steps under way may have tokens for q: they are nobody's. */
static void forget_in_flights(struct sched *s, const struct seq *q)
{
	for (uint32_t k = 0; k < s->n_flights; k++) {
		struct flight *f = &s->flights[(s->oldest + k) % 2];

		for (uint32_t i = 0; i < f->n_picks && q->n_ahead; i++)
			if (f->sampled[i] == q)
				f->sampled[i] = NULL;
	}
}

static void end_seq(
	struct sched *s, struct seq *q, enum engine_finish finish, int status, const char *sentence)
{
	forget_in_flights(s, q);
	plan_remove(&s->plan, q);
	tell_end(s, q, finish, status, sentence);
}

void sched_end_all(struct sched *s, enum engine_finish finish, int status, const char *sentence)
{
	while (!list_empty(&s->plan.running))
		end_seq(s, seq_at(s->plan.running.next), finish, status, sentence);
	while (!list_empty(&s->plan.waiting))
		end_seq(s, seq_at(s->plan.waiting.next), finish, status, sentence);
}

void sched_cancel(struct sched *s, struct seq *q)
{
	end_seq(s, q, ENGINE_FINISH_CANCEL, -ECANCELED, "cancelled");
}

static void end_failed(struct sched *s)
{
	while (!list_empty(&s->plan.failed)) {
		struct seq *q = seq_at(s->plan.failed.next);

		list_remove(&q->link);
		tell_end(s, q, ENGINE_FINISH_ERROR, -ENOMEM, "not enough memory for the answer");
	}
}

/* ---- a step begins ---- */

/* Writes down what was planned as runs, and who gets a token. */
static void list_runs(struct sched *s, uint32_t n, struct flight *f)
{
	f->n_rows = f->n_picks = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct seq *q = s->batch[i];
		bool whole = q->n_computed + q->n_planned == q->n_tok + q->n_ahead;

		s->runs[i] = (struct batch_run){
			.ids = q->ids + q->n_computed,
			.n = q->n_planned,
			.first_pos = q->n_computed,
			.blocks = q->blocks,
			.n_logit_rows = whole,
			.follows = q->n_ahead ? q->pick + 1 : 0,
		};
		f->n_rows += q->n_planned;
		if (whole)
			f->sampled[f->n_picks++] = q;
	}
}

/* The step is under way: what it computes counts as computed for every later one. */
static void note_begun(struct sched *s, uint32_t n, struct flight *f)
{
	for (uint32_t i = 0; i < n; i++)
		plan_computed(&s->plan, s->batch[i]);
	for (uint32_t i = 0; i < f->n_picks; i++) {
		struct seq *q = f->sampled[i];

		q->n_ahead++;
		q->pick = i;
		q->waits = q->json || q->n_tok + q->n_ahead == q->max_tok;
	}
	s->n_flights++;
	s->stats.steps++;
	s->stats.step_rows = f->n_rows;
	s->stats.step_sequences = n;
}

/* 1: a step was begun; 0: there is nothing to compute now. */
static int begin_step(struct sched *s, struct err *err)
{
	struct flight *f = &s->flights[(s->oldest + s->n_flights) % 2];
	uint32_t n = plan_step(&s->plan, s->batch);
	const struct model_pick *picks;
	int r;

	end_failed(s);
	if (n == 0)
		return 0;
	list_runs(s, n, f);
	r = picker_list(s->picker, f->sampled, f->n_picks, &picks, err);
	if (r < 0)
		return r;
	f->begun_ns = clock_mono_ns();
	r = model_begin(s->o.model, s->runs, n, picks, err);
	if (r < 0)
		return r;
	note_begun(s, n, f);
	return 1;
}

/* ---- a step ends ---- */

/* What follows from the next token of a sequence, which was pick number i of its step. */
static void answer(struct sched *s, struct seq *q, uint32_t id, uint32_t i)
{
	const float *judged = picker_judged(s->picker, i);
	const struct engine_logprob *logprobs;
	uint32_t n_logprobs;
	int r;

	logprobs = picker_logprobs(s->picker, i, &n_logprobs);
	if (judged)
		seq_judged(q, judged);
	if (id == SAMPLER_NONE) {
		end_seq(s, q, ENGINE_FINISH_ERROR, -EIO,
			q->json ? "the vocabulary has no token that continues the JSON value"
				: "the model gave no number that could be sampled");
		return;
	}
	s->stats.output_tok++;
	if (n_logprobs > 0)
		seq_logprobs(q, logprobs, n_logprobs);
	r = seq_accept(q, id, s->o.tokenizer, &s->scratch);
	if (r < 0)
		end_seq(s, q, ENGINE_FINISH_ERROR, r, "not enough memory for the answer");
	else if (r == SEQ_STOP)
		end_seq(s, q, ENGINE_FINISH_STOP, 0, NULL);
	else if (r == SEQ_LENGTH)
		end_seq(s, q, ENGINE_FINISH_LENGTH, 0, NULL);
	else
		plan_known(&s->plan, q);
}

/* Steps that overlap share the device: one counts from the end of the one before it. */
static void measure(struct sched *s, const struct flight *f)
{
	uint64_t now = clock_mono_ns();
	uint64_t from = f->begun_ns > s->finished_ns ? f->begun_ns : s->finished_ns;

	plan_measured(&s->plan, now - from, f->n_rows);
	s->stats.model_ns += now - from;
	s->finished_ns = now;
}

static void measure_rate(struct sched *s)
{
	uint64_t ns = s->finished_ns - s->rate_ns;

	if (s->finished_ns < s->rate_ns || ns < RATE_NS)
		return;
	s->stats.output_tok_s = (double)(s->stats.output_tok - s->rate_tok) * 1e9 / (double)ns;
	s->rate_ns = s->finished_ns;
	s->rate_tok = s->stats.output_tok;
}

static int finish_step(struct sched *s, struct err *err)
{
	struct flight *f = &s->flights[s->oldest];
	int r = model_finish(s->o.model, s->results, err);

	if (r < 0)
		return r;
	r = gguf_changed(s->o.gguf, "the model's file", "in use", err);
	if (r < 0)
		return r;
	measure(s, f);
	picker_look(s->picker, f->sampled, f->n_picks, s->results);
	for (uint32_t i = 0; i < f->n_picks; i++) {
		struct seq *q = f->sampled[i];

		if (!q)
			continue;
		f->sampled[i] = NULL;
		q->n_ahead--;
		answer(s, q, s->results[i].id, i);
	}
	s->oldest = (s->oldest + 1) % 2;
	s->n_flights--;
	measure_rate(s);
	return 0;
}

int sched_step(struct sched *s, struct err *err)
{
	uint64_t start = clock_mono_ns();
	struct err fault = {""};
	int r = begin_step(s, &fault);

	if (r >= 0 && s->n_flights > 0 && (r == 0 || s->n_flights == s->max_flights))
		r = finish_step(s, &fault);
	s->stats.step_ns += clock_mono_ns() - start;
	if (r >= 0)
		return 0;
	s->n_flights = 0;
	sched_end_all(s, ENGINE_FINISH_ERROR, r, fault.text);
	return err_set(err, r, "%s", fault.text);
}

void sched_stats(const struct sched *s, struct engine_stats *out)
{
	const struct plan *p = &s->plan;

	*out = s->stats;
	out->running = p->n_running;
	out->waiting = p->n_waiting;
	out->prompt_tok = p->n_prompt_tok;
	out->cached_tok = p->n_cached_tok;
	out->preemptions = p->n_preempted;
	out->kv_blocks_total = kv_n_total(p->kv);
	out->kv_blocks_used = kv_n_used(p->kv);
	out->kv_blocks_cached = kv_n_cached(p->kv);
}
