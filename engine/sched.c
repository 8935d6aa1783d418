/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop's body: a plan, a pass of the model, a token for each sequence whose last row was in it,
 * and what follows from that token. What is computed when is engine/plan.c's affair.
 *
 * Sampling runs on the model's threads, a sequence a unit; everything that changes a sequence or
 * calls its owner happens on the worker thread, one sequence after the other, in order of arrival.
 */
#include "engine/sched.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "engine/plan.h"
#include "engine/sampler.h"

/* What a position says of a sequence's candidates. */
struct judged {
	bool known;
	float p[ENGINE_CANDIDATES_MAX];
};

struct sched {
	struct sched_options o;
	struct plan plan;
	struct sampler **samplers; /* [n_samplers] one for each thread of the model's pool */
	uint32_t n_samplers, n_vocab;
	struct seq **batch;             /* [max_sequences] in the order of runs */
	struct batch_run *runs;         /* [max_sequences] */
	float *logits;                  /* [max_sequences][n_vocab] f32 */
	struct seq **sampled;           /* [max_sequences] whose logits these are */
	uint32_t *picked;               /* [max_sequences] their next tokens */
	struct judged *judged;          /* [max_sequences] of those with candidates */
	struct token_list control, end; /* never sampled; not sampled with ignore_eos */
	struct buf scratch;
	struct engine_stats stats;
};

static int list_tokens(struct sched *s)
{
	const struct tokenizer *t = s->o.tokenizer;
	int r = 0;

	for (uint32_t id = 0; id < s->n_vocab && r == 0; id++) {
		if (id >= tokenizer_size(t))
			r = token_list_add(&s->control, id);
		else if (tokenizer_is_end(t, id))
			r = token_list_add(&s->end, id);
		else if (tokenizer_is_control(t, id))
			r = token_list_add(&s->control, id);
	}
	return r;
}

static int make_samplers(struct sched *s)
{
	s->n_samplers = pool_threads(model_pool(s->o.model));
	s->samplers = calloc(s->n_samplers, sizeof(struct sampler *));
	for (uint32_t i = 0; i < s->n_samplers && s->samplers; i++) {
		s->samplers[i] = sampler_new(s->n_vocab);
		if (!s->samplers[i])
			return -ENOMEM;
	}
	return s->samplers ? 0 : -ENOMEM;
}

int sched_new(struct sched **out, const struct sched_options *options, struct err *err)
{
	struct sched *s = calloc(1, sizeof(*s));
	uint32_t n = options->max_sequences;

	*out = NULL;
	if (!s)
		return err_set(err, -ENOMEM, "not enough memory for the scheduler");
	s->o = *options;
	s->n_vocab = model_config(options->model)->n_vocab;
	s->batch = calloc(n, sizeof(struct seq *));
	s->sampled = calloc(n, sizeof(struct seq *));
	s->picked = calloc(n, sizeof(*s->picked));
	s->judged = calloc(n, sizeof(*s->judged));
	s->runs = calloc(n, sizeof(*s->runs));
	s->logits = calloc((size_t)n * s->n_vocab, sizeof(*s->logits));
	if (plan_init(&s->plan, n, options->step_budget_tok, options->kv_blocks) < 0 ||
		make_samplers(s) < 0 || list_tokens(s) < 0 || !s->batch || !s->sampled ||
		!s->picked || !s->judged || !s->runs || !s->logits) {
		sched_free(s);
		return err_set(err, -ENOMEM, "not enough memory for the scheduler");
	}
	*out = s;
	return 0;
}

struct sched *sched_free(struct sched *s)
{
	if (!s)
		return NULL;
	plan_free(&s->plan);
	for (uint32_t i = 0; i < s->n_samplers && s->samplers; i++)
		sampler_free(s->samplers[i]);
	free(s->samplers);
	free(s->batch);
	free(s->sampled);
	free(s->picked);
	free(s->judged);
	free(s->runs);
	free(s->logits);
	token_list_free(&s->control);
	token_list_free(&s->end);
	buf_free(&s->scratch);
	free(s);
	return NULL;
}

void sched_add(struct sched *s, struct seq *q)
{
	plan_add(&s->plan, q);
}

bool sched_has_work(const struct sched *s)
{
	return s->plan.n_waiting + s->plan.n_running > 0;
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

static void end_seq(
	struct sched *s, struct seq *q, enum engine_finish finish, int status, const char *sentence)
{
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

/* Writes down what was planned as runs; the number of rows. */
static uint32_t list_runs(struct sched *s, uint32_t n)
{
	uint32_t n_rows = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct seq *q = s->batch[i];

		s->runs[i] = (struct batch_run){
			.ids = q->ids + q->n_computed,
			.n = q->n_planned,
			.first_pos = q->n_computed,
			.blocks = q->blocks,
			.n_logit_rows = q->n_computed + q->n_planned == q->n_tok,
		};
		n_rows += q->n_planned;
	}
	return n_rows;
}

static void ban(float *logits, const struct token_list *ids)
{
	for (size_t i = 0; i < ids->n; i++)
		logits[ids->ids[i]] = -INFINITY;
}

/* Samples within JSON. Greedy tries the best few before it looks at the whole vocabulary. */
static uint32_t pick_json(
	const struct sched *s, struct sampler *sampler, const struct seq *q, float *logits)
{
	uint32_t n_left = q->max_tok - q->n_tok - 1;

	for (int i = 0; i < 4 && q->sampling.temperature <= 0; i++) {
		uint32_t id = sampler_greatest(logits, s->n_vocab);

		if (id == SAMPLER_NONE || json_allows(s->o.json_vocab, &q->json_state, id, n_left))
			return id;
		logits[id] = -INFINITY;
	}
	json_mask(s->o.json_vocab, &q->json_state, n_left, logits);
	return sampler_pick(sampler, logits, &q->sampling, q->n_tok);
}

/* Of the pool: the next tokens of sampled[first .. last). Changes nothing but their logits. */
static void pick_tokens(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	struct sched *s = arg;
	struct sampler *sampler = s->samplers[thread];

	for (uint32_t i = first; i < last; i++) {
		const struct seq *q = s->sampled[i];
		const struct candidates *c = &q->candidates;
		float *logits = s->logits + (size_t)i * s->n_vocab;

		s->judged[i].known =
			c->n > 0 && !c->known &&
			candidates_look(c, s->o.tokenizer, sampler, logits, s->judged[i].p);
		ban(logits, &s->control);
		if (q->ignore_eos)
			ban(logits, &s->end);
		s->picked[i] = q->json ? pick_json(s, sampler, q, logits)
				       : sampler_pick(sampler, logits, &q->sampling, q->n_tok);
	}
}

/* What follows from the next token of a sequence. */
static void answer(struct sched *s, struct seq *q, uint32_t id, const struct judged *judged)
{
	int r;

	if (judged->known)
		seq_judged(q, judged->p);
	if (id == SAMPLER_NONE) {
		end_seq(s, q, ENGINE_FINISH_ERROR, -EIO,
			q->json ? "the vocabulary has no token that continues the JSON value"
				: "the model gave no number that could be sampled");
		return;
	}
	s->stats.output_tok++;
	r = seq_accept(q, id, s->o.tokenizer, &s->scratch);
	if (r < 0)
		end_seq(s, q, ENGINE_FINISH_ERROR, r, "not enough memory for the answer");
	else if (r == SEQ_STOP)
		end_seq(s, q, ENGINE_FINISH_STOP, 0, NULL);
	else if (r == SEQ_LENGTH)
		end_seq(s, q, ENGINE_FINISH_LENGTH, 0, NULL);
}

int sched_step(struct sched *s)
{
	uint64_t start = clock_mono_ns(), model_ns;
	uint32_t n, n_rows, n_sampled = 0;

	n = plan_step(&s->plan, s->batch);
	end_failed(s);
	if (n == 0)
		return 0;
	n_rows = list_runs(s, n);
	model_ns = clock_mono_ns();
	model_step(s->o.model, s->runs, n, s->logits);
	model_ns = clock_mono_ns() - model_ns;
	plan_measured(&s->plan, model_ns, n_rows);
	s->stats.steps++;
	if (gguf_damaged(s->o.gguf)) {
		sched_end_all(s, ENGINE_FINISH_ERROR, -EBADMSG,
			"the model's file was truncated while it was in use");
		return -EBADMSG;
	}
	for (uint32_t i = 0; i < n; i++) {
		plan_computed(&s->plan, s->batch[i]);
		if (s->runs[i].n_logit_rows)
			s->sampled[n_sampled++] = s->batch[i];
	}
	pool_run(model_pool(s->o.model), pick_tokens, s, n_sampled, 1);
	for (uint32_t i = 0; i < n_sampled; i++)
		answer(s, s->sampled[i], s->picked[i], &s->judged[i]);
	s->stats.model_ns += model_ns;
	s->stats.step_ns += clock_mono_ns() - start;
	return 0;
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
