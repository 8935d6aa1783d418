/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who picks tokens depends on the model. One that samples is given, with each step, what it needs
 * to know of each row: temperature and the like, the position, and for JSON a mask, made here on
 * the pool's threads. Of one that does not, the logits come back and the same threads pick, a
 * sequence a unit. The definition of what is picked is engine/sampler.h in both cases.
 *
 * Candidates of a judge and log-probabilities are made here, in any case, of what a row says of the
 * logits as the model gave them (struct sampler_facts): a model that samples is asked for that with
 * the step, of one that does not it is found here.
 *
 * Changes no sequence and calls nobody.
 */
#include "engine/picker.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sampler.h"

/* What a position says of a sequence: of its candidates, and of its token. */
struct looked {
	bool is_judged;
	float p[ENGINE_CANDIDATES_MAX];
	uint32_t n_logprobs;
	struct engine_logprob logprobs[1 + ENGINE_LOGPROBS_MAX];
};

struct picker {
	struct model *model;
	const struct tokenizer *tokenizer;
	const struct json_vocab *json_vocab;
	struct sampler **samplers; /* [n_samplers] one for each thread of the model's pool */
	uint32_t n_samplers, n_vocab;
	struct token_list control, end; /* never picked; not picked with ignore_eos */

	struct model_pick *picks;    /* [max_picks] */
	struct sampler_asked *asked; /* [max_picks] what picks ask */
	struct seq const **masked;   /* [max_picks] sequences that have masks */
	uint32_t *masks;             /* [n_masks][n_words] */
	uint32_t n_masks, n_words;
	struct sampler_history *histories; /* [max_picks] */
	uint64_t *owners; /* [max_picks] of each place for a history: the sequence's id + 1 */
	bool *taken;      /* [max_picks] by a sequence of the step */
	uint32_t max_picks;

	/* Of the picker_look under way, or of the last. */
	struct seq *const *seqs;
	struct model_result *results;
	struct looked *looked; /* [max_picks] */
};

static int list_tokens(struct picker *p)
{
	const struct tokenizer *t = p->tokenizer;
	int r = 0;

	for (uint32_t id = 0; id < p->n_vocab && r == 0; id++) {
		if (id >= tokenizer_size(t))
			r = token_list_add(&p->control, id);
		else if (tokenizer_is_end(t, id))
			r = token_list_add(&p->end, id);
		else if (tokenizer_is_control(t, id))
			r = token_list_add(&p->control, id);
	}
	return r;
}

static int make_samplers(struct picker *p)
{
	p->n_samplers = pool_threads(model_pool(p->model));
	p->samplers = calloc(p->n_samplers, sizeof(struct sampler *));
	for (uint32_t i = 0; i < p->n_samplers && p->samplers; i++) {
		p->samplers[i] = sampler_new(p->n_vocab);
		if (!p->samplers[i])
			return -ENOMEM;
	}
	return p->samplers ? 0 : -ENOMEM;
}

int picker_new(struct picker **out, struct model *m, const struct tokenizer *t,
	const struct json_vocab *v, uint32_t max_picks, struct err *err)
{
	struct picker *p = calloc(1, sizeof(*p));
	int r;

	*out = NULL;
	if (!p)
		return err_set(err, -ENOMEM, "not enough memory for the sampler");
	p->model = m;
	p->tokenizer = t;
	p->json_vocab = v;
	p->n_vocab = model_config(m)->n_vocab;
	p->n_words = (p->n_vocab + 31) / 32;
	p->picks = calloc(max_picks, sizeof(*p->picks));
	p->asked = calloc(max_picks, sizeof(*p->asked));
	p->masked = calloc(max_picks, sizeof(struct seq *));
	p->looked = calloc(max_picks, sizeof(*p->looked));
	p->histories = calloc(max_picks, sizeof(*p->histories));
	p->owners = calloc(max_picks, sizeof(*p->owners));
	p->taken = calloc(max_picks, sizeof(*p->taken));
	p->max_picks = max_picks;
	if (!p->picks || !p->asked || !p->masked || !p->looked || !p->histories || !p->owners ||
		!p->taken || make_samplers(p) < 0 || list_tokens(p) < 0)
		r = err_set(err, -ENOMEM, "not enough memory for the sampler");
	else
		r = model_set_banned(m, p->control.ids, p->control.n, p->end.ids, p->end.n, err);
	*out = r < 0 ? picker_free(p) : p;
	return r;
}

struct picker *picker_free(struct picker *p)
{
	if (!p)
		return NULL;
	for (uint32_t i = 0; i < p->n_samplers && p->samplers; i++)
		sampler_free(p->samplers[i]);
	free(p->samplers);
	free(p->picks);
	free(p->asked);
	free(p->masked);
	free(p->masks);
	free(p->looked);
	free(p->histories);
	free(p->owners);
	free(p->taken);
	token_list_free(&p->control);
	token_list_free(&p->end);
	free(p);
	return NULL;
}

/* Whether a row of q is asked for more than a token, and for what. */
static bool asks(const struct seq *q)
{
	return q->logprobs || seq_is_judged(q);
}

static struct sampler_asked asked_of(const struct seq *q)
{
	return (struct sampler_asked){
		.n_top = q->logprobs ? q->n_top_logprobs : 0,
		.n_candidates = seq_is_judged(q) ? (uint32_t)q->candidates.n : 0,
		.candidates = q->candidates.ids,
	};
}

/* ---- before a step ---- */

/* Memory for n masks. They are rare, so it is taken when the first come. */
static int reserve_masks(struct picker *p, uint32_t n)
{
	size_t bytes = (size_t)p->n_words * sizeof(*p->masks);
	uint32_t *masks;

	if (n <= p->n_masks)
		return 0;
	masks = realloc(p->masks, n * bytes);
	if (!masks)
		return -ENOMEM;
	p->masks = masks;
	p->n_masks = n;
	memset(masks, 0, n * bytes); /* what is beyond the tokenizer's tokens stays so */
	return 0;
}

/* Of the pool: the masks of masked[first .. last). */
static void mask_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct picker *p = arg;

	for (uint32_t i = first; i < last; i++) {
		const struct seq *q = p->masked[i];

		json_bits(p->json_vocab, &q->json_state, q->max_tok - q->n_tok - 1,
			p->masks + (size_t)i * p->n_words);
	}
}

static struct sampler_history history_of(const struct seq *q)
{
	return (struct sampler_history){
		.ids = q->ids,
		.n_prompt = q->n_prompt,
		.n_tok = q->n_tok,
		.bias = q->bias,
		.n_bias = q->n_bias,
	};
}

/* Gives those with a history their places. Who was here in the last step has its place still: only
 * places of sequences that are not in this step go to others. One that comes back later, preempted
 * or passed over, starts afresh, and by then all its tokens are known. */
static void place_histories(struct picker *p, struct seq *const *seqs, uint32_t n)
{
	uint32_t at = 0;

	memset(p->taken, 0, p->max_picks * sizeof(*p->taken));
	for (uint32_t i = 0; i < n; i++)
		if (seq_has_history(seqs[i]) && p->owners[seqs[i]->slot] == seqs[i]->id + 1)
			p->taken[seqs[i]->slot] = true;
	for (uint32_t i = 0; i < n; i++) {
		struct seq *q = seqs[i];
		struct model_pick *pick = &p->picks[i];

		if (!seq_has_history(q))
			continue;
		if (p->owners[q->slot] != q->id + 1) {
			while (p->taken[at])
				at++;
			q->slot = at;
			p->taken[at] = true;
			p->owners[at] = q->id + 1;
			pick->fresh = true;
		}
		p->histories[i] = history_of(q);
		pick->history = &p->histories[i];
		pick->slot = q->slot;
	}
}

/* A sequence with a mask has no token that is not known: seq.waits. */
int picker_list(struct picker *p, struct seq *const *seqs, uint32_t n,
	const struct model_pick **picks, struct err *err)
{
	uint32_t n_masks = 0;

	*picks = NULL;
	if (!model_samples(p->model))
		return 0;
	for (uint32_t i = 0; i < n; i++)
		if (seqs[i]->json)
			p->masked[n_masks++] = seqs[i];
	if (reserve_masks(p, n_masks) < 0)
		return err_set(err, -ENOMEM, "not enough memory for the masks of JSON answers");
	n_masks = 0;
	for (uint32_t i = 0; i < n; i++) {
		const struct seq *q = seqs[i];

		p->picks[i] = (struct model_pick){
			.how = q->sampling,
			.position = q->n_tok + q->n_ahead,
			.mask = q->json ? p->masks + (size_t)n_masks++ * p->n_words : NULL,
			.ignore_eos = q->ignore_eos,
			.asked = asks(q) ? &p->asked[i] : NULL,
		};
		p->asked[i] = asked_of(q);
	}
	place_histories(p, seqs, n);
	if (n_masks > 0)
		pool_run(model_pool(p->model), mask_units, p, n_masks, 1);
	*picks = p->picks;
	return 0;
}

/* ---- after a step ---- */

static void ban(float *logits, const struct token_list *ids)
{
	for (size_t i = 0; i < ids->n; i++)
		logits[ids->ids[i]] = -INFINITY;
}

/* Picks within JSON. Greedy tries the best few before it looks at the whole vocabulary. */
static uint32_t pick_json(
	const struct picker *p, struct sampler *sampler, const struct seq *q, float *logits)
{
	uint32_t n_left = q->max_tok - q->n_tok - 1;

	for (int i = 0; i < 4 && q->sampling.temperature <= 0; i++) {
		uint32_t id = sampler_greatest(logits, p->n_vocab);

		if (id == SAMPLER_NONE || json_allows(p->json_vocab, &q->json_state, id, n_left))
			return id;
		logits[id] = -INFINITY;
	}
	json_mask(p->json_vocab, &q->json_state, n_left, logits);
	return sampler_pick(sampler, logits, &q->sampling, q->n_tok);
}

static uint32_t pick(
	const struct picker *p, struct sampler *sampler, const struct seq *q, float *logits)
{
	if (seq_has_history(q)) {
		struct sampler_history history = history_of(q);

		sampler_adjust(sampler, logits, &q->sampling, &history);
	}
	ban(logits, &p->control);
	if (q->ignore_eos)
		ban(logits, &p->end);
	return q->json ? pick_json(p, sampler, q, logits)
		       : sampler_pick(sampler, logits, &q->sampling, q->n_tok);
}

/* The same, and finds out what q asks of its row. */
static uint32_t pick_and_look(const struct picker *p, struct sampler *sampler, const struct seq *q,
	float *logits, struct sampler_facts *facts)
{
	struct sampler_asked asked = asked_of(q);
	const float *own;
	uint32_t id;

	sampler_look(sampler, logits, &asked, facts);
	own = sampler_copy(sampler, logits);
	id = pick(p, sampler, q, logits);
	if (id != SAMPLER_NONE)
		facts->picked = own[id];
	return id;
}

static void list_logprobs(struct looked *l, const struct sampler_facts *facts, uint32_t id)
{
	const struct sampler_mass *mass = &facts->mass;

	if (mass->total == 0 || id == SAMPLER_NONE)
		return;
	l->logprobs[0] = (struct engine_logprob){id, sampler_logprob(mass, facts->picked)};
	for (uint32_t i = 0; i < facts->n_top; i++)
		l->logprobs[1 + i] = (struct engine_logprob){
			facts->top_ids[i], sampler_logprob(mass, facts->top[i])};
	l->n_logprobs = 1 + facts->n_top;
}

/* What a row says to q, which asks. */
static void look(const struct picker *p, struct looked *l, const struct seq *q,
	const struct sampler_facts *facts, uint32_t id)
{
	if (seq_is_judged(q))
		l->is_judged = candidates_look(&q->candidates, p->tokenizer, facts, l->p);
	if (q->logprobs)
		list_logprobs(l, facts, id);
}

/* Of the pool: results [first .. last). Changes nothing but them. */
static void look_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	struct picker *p = arg;
	struct sampler *sampler = p->samplers[thread];
	bool samples = model_samples(p->model);

	for (uint32_t i = first; i < last; i++) {
		const struct seq *q = p->seqs[i];
		struct model_result *result = &p->results[i];
		struct sampler_facts facts;

		if (!q)
			continue;
		if (!samples && !asks(q))
			result->id = pick(p, sampler, q, result->logits);
		else if (!samples)
			result->id = pick_and_look(p, sampler, q, result->logits, &facts);
		if (asks(q))
			look(p, &p->looked[i], q, samples ? result->facts : &facts, result->id);
	}
}

void picker_look(
	struct picker *p, struct seq *const *seqs, uint32_t n, struct model_result *results)
{
	bool is_needed = !model_samples(p->model);

	p->seqs = seqs;
	p->results = results;
	for (uint32_t i = 0; i < n; i++) {
		p->looked[i].is_judged = false;
		p->looked[i].n_logprobs = 0;
		is_needed = is_needed || (seqs[i] && asks(seqs[i]));
	}
	if (is_needed)
		pool_run(model_pool(p->model), look_units, p, n, 1);
}

const float *picker_judged(const struct picker *p, uint32_t i)
{
	return p->looked[i].is_judged ? p->looked[i].p : NULL;
}

const struct engine_logprob *picker_logprobs(const struct picker *p, uint32_t i, uint32_t *n)
{
	*n = p->looked[i].n_logprobs;
	return p->looked[i].logprobs;
}
