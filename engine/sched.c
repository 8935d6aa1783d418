/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Continuous batching without phases. A sequence has n_tok tokens, of which n_computed have their
 * KV rows written. Every step computes some of the missing ones; when none is missing the next
 * token is sampled, and one is missing again. Prefill, decode, a resumed sequence and the rest of a
 * half-cached prompt are all the same thing.
 *
 * A step has a budget of rows. Sequences that miss one token come first, as somebody reads along.
 * Then the queue is let in as far as blocks reach. The rest of the budget goes to those that miss
 * more, the shortest first, so a short question does not wait behind a long document; but the
 * oldest of them always gets a quarter, so the document gets on too. What a row costs is measured,
 * and the budget kept so small that a step lasts about STEP_NS.
 *
 * Blocks are taken as they are needed. `running` is in order of arrival. When a sequence finds no
 * block, the newest one behind it is preempted: its blocks are freed (what is full stays findable),
 * it goes to the head of the queue and will be computed again. The newest itself waits. So the
 * oldest always gets on, and since the longest sequence fits into the pool alone, everything ends.
 * The queue is let in only when blocks for all tokens it has are there, beyond what the running
 * ones still miss, so that preempted ones do not come back to be preempted again.
 */
#include "engine/sched.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "engine/kv.h"
#include "engine/sampler.h"

#define OLDEST_SHARE 4 /* the oldest prefill gets at least 1/4 of what decodes leave */

/* A step should take no longer than this, as decodes and newcomers wait for its end ... */
#define STEP_NS 150000000u
/* ... but many rows at once share the reading of the weights: below this they cost more each. */
#define MIN_STEP_TOK 64u

struct sched {
	struct sched_options o;
	struct kv *kv;
	struct sampler **samplers; /* one for each thread of the model's pool */
	struct list waiting, running;
	uint32_t n_waiting, n_running, n_samplers;
	struct seq **batch;     /* [max_sequences] in the order of runs */
	struct seq **prefills;  /* [max_sequences] */
	struct batch_run *runs; /* [max_sequences] */
	float *logits;          /* [max_sequences][n_vocab] f32 */
	struct seq **sampled;   /* [max_sequences] whose logits these are */
	uint32_t *picked;       /* [max_sequences] their next tokens */
	uint32_t n_vocab;
	struct token_list control, end; /* never sampled; not sampled with ignore_eos */
	struct buf scratch;
	struct engine_stats stats;
	uint64_t row_ns; /* what a row of a large step took lately; 0: not known yet */
};

static struct seq *seq_at(struct list *link)
{
	return list_entry(link, struct seq, link);
}

static uint32_t blocks_for(uint32_t n_tok)
{
	return (n_tok + KV_BLOCK_TOK - 1) / KV_BLOCK_TOK;
}

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

int sched_new(struct sched **out, const struct sched_options *options, struct err *err)
{
	struct sched *s = calloc(1, sizeof(*s));
	size_t n = options->max_sequences;
	bool complete = true;

	*out = NULL;
	if (!s)
		return err_set(err, -ENOMEM, "not enough memory for the scheduler");
	s->o = *options;
	list_init(&s->waiting);
	list_init(&s->running);
	s->n_vocab = model_config(options->model)->n_vocab;
	s->kv = kv_new(options->kv_blocks, NULL);
	s->n_samplers = pool_threads(model_pool(options->model));
	s->samplers = calloc(s->n_samplers, sizeof(struct sampler *));
	for (uint32_t i = 0; s->samplers && i < s->n_samplers; i++) {
		s->samplers[i] = sampler_new(s->n_vocab);
		complete = complete && s->samplers[i];
	}
	s->sampled = calloc(n, sizeof(*s->sampled));
	s->picked = calloc(n, sizeof(*s->picked));
	s->batch = calloc(n, sizeof(*s->batch));
	s->prefills = calloc(n, sizeof(*s->prefills));
	s->runs = calloc(n, sizeof(*s->runs));
	s->logits = calloc(n * s->n_vocab, sizeof(*s->logits));
	if (!s->kv || !s->samplers || !complete || !s->sampled || !s->picked || !s->batch ||
		!s->prefills || !s->runs || !s->logits || list_tokens(s) < 0) {
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
	kv_free(s->kv);
	for (uint32_t i = 0; s->samplers && i < s->n_samplers; i++)
		sampler_free(s->samplers[i]);
	free(s->samplers);
	free(s->sampled);
	free(s->picked);
	free(s->batch);
	free(s->prefills);
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
	list_append(&s->waiting, &q->link);
	s->n_waiting++;
}

bool sched_has_work(const struct sched *s)
{
	return s->n_waiting + s->n_running > 0;
}

/* ---- blocks ---- */

static void drop_blocks(struct sched *s, struct seq *q)
{
	kv_release(s->kv, q->blocks, q->n_blocks);
	q->n_blocks = q->n_published = q->n_computed = 0;
	q->n_planned = 0;
}

static void preempt(struct sched *s, struct seq *q)
{
	drop_blocks(s, q);
	list_remove(&q->link);
	q->running = false;
	s->n_running--;
	list_prepend(&s->waiting, &q->link);
	s->n_waiting++;
	q->preemptions++;
	s->stats.preemptions++;
}

/* Gets q blocks for n_tok tokens, at the cost of those that came after it. False when it is the
 * newest and there are too few; it then holds what there was. */
static bool get_blocks(struct sched *s, struct seq *q, uint32_t n_tok)
{
	while (q->n_blocks < blocks_for(n_tok)) {
		uint32_t block = kv_alloc(s->kv);
		struct seq *newest = seq_at(s->running.prev);

		if (block != KV_NONE)
			q->blocks[q->n_blocks++] = block;
		else if (newest != q)
			preempt(s, newest);
		else
			return false;
	}
	return true;
}

static uint32_t parent_of(const struct seq *q, uint32_t block)
{
	return block > 0 ? q->blocks[block - 1] : KV_NONE;
}

/* Takes over the blocks that somebody else has computed already. The last token is always left to
 * compute, as its logits are needed. */
static void reuse_blocks(struct sched *s, struct seq *q)
{
	while (q->n_computed == q->n_blocks * KV_BLOCK_TOK &&
		q->n_computed + KV_BLOCK_TOK < q->n_tok) {
		uint32_t block =
			kv_find(s->kv, parent_of(q, q->n_blocks), q->ids + q->n_computed, q->salt);

		if (block == KV_NONE)
			break;
		q->blocks[q->n_blocks++] = block;
		q->n_published = q->n_blocks;
		q->n_computed += KV_BLOCK_TOK;
	}
}

/* Makes findable what is full. */
static void publish_blocks(struct sched *s, struct seq *q)
{
	while ((q->n_published + 1) * KV_BLOCK_TOK <= q->n_computed) {
		uint32_t i = q->n_published++;

		q->blocks[i] = kv_publish(s->kv, q->blocks[i], parent_of(q, i),
			q->ids + (size_t)i * KV_BLOCK_TOK, q->salt);
	}
}

/* Tokens up to n_computed were found, not computed: counts the ones of the prompt, once. */
static void count_cached(struct sched *s, struct seq *q)
{
	uint32_t from = q->n_seen;
	uint32_t to = q->n_computed < q->n_prompt ? q->n_computed : q->n_prompt;

	if (to > from) {
		q->cached_tok += to - from;
		s->stats.cached_tok += to - from;
		q->n_seen = to;
	}
}

/* ---- ends ---- */

static void end_seq(
	struct sched *s, struct seq *q, enum engine_finish finish, int status, const char *sentence)
{
	drop_blocks(s, q);
	list_remove(&q->link);
	s->o.over(s->o.over_arg, q);
	seq_end(q, finish, status, sentence, &s->scratch);
	seq_free(q);
}

static void end_running(
	struct sched *s, struct seq *q, enum engine_finish finish, int status, const char *sentence)
{
	s->n_running--;
	end_seq(s, q, finish, status, sentence);
}

void sched_end_all(struct sched *s, enum engine_finish finish, int status, const char *sentence)
{
	list_splice(&s->running, &s->waiting);
	s->n_running = s->n_waiting = 0;
	while (!list_empty(&s->running))
		end_seq(s, seq_at(s->running.next), finish, status, sentence);
}

void sched_cancel(struct sched *s, struct seq *q)
{
	/* Running ones hold blocks or are about to; waiting ones never do. */
	if (q->running)
		s->n_running--;
	else
		s->n_waiting--;
	end_seq(s, q, ENGINE_FINISH_CANCEL, -ECANCELED, "cancelled");
}

/* ---- planning ---- */

static void plan_decodes(struct sched *s, uint32_t *budget)
{
	for (struct list *at = s->running.next; at != &s->running; at = at->next) {
		struct seq *q = seq_at(at);

		/* Only those behind q can be preempted here, so the loop stays on the list. */
		if (q->n_tok - q->n_computed == 1 && get_blocks(s, q, q->n_tok))
			q->n_planned = 1;
	}
	for (struct list *at = s->running.next; at != &s->running; at = at->next)
		*budget -= seq_at(at)->n_planned;
}

/* Blocks that the running ones still need for the tokens they have. */
static uint32_t blocks_promised(struct sched *s)
{
	uint32_t n = 0;

	list_for_each (at, &s->running) {
		struct seq *q = seq_at(at);

		n += blocks_for(q->n_tok) - q->n_blocks;
	}
	return n;
}

/* Lets the head of the queue in. False: not now. */
static bool admit(struct sched *s, uint32_t *promised)
{
	struct seq *q = seq_at(s->waiting.next);
	uint32_t need;

	if (seq_reserve(q) < 0) {
		end_seq(s, q, ENGINE_FINISH_ERROR, -ENOMEM, "not enough memory for the answer");
		return true;
	}
	reuse_blocks(s, q);
	need = blocks_for(q->n_tok) - q->n_blocks;
	if (s->n_running > 0 && need + *promised > kv_n_total(s->kv) - kv_n_used(s->kv)) {
		drop_blocks(s, q);
		return false;
	}
	*promised += need;
	list_remove(&q->link);
	s->n_waiting--;
	list_append(&s->running, &q->link);
	s->n_running++;
	q->running = true;
	if (!q->started) {
		s->stats.prompt_tok += q->n_prompt;
		count_cached(s, q);
		seq_start(q);
	}
	return true;
}

static uint32_t missing(const struct seq *q)
{
	return q->n_tok - q->n_computed;
}

/* True when another sequence computes in this step most of the n tokens that q would: it waits a
 * step then and finds the blocks. */
static bool somebody_computes(struct sched *s, const struct seq *q, uint32_t n)
{
	uint32_t common;

	if (q->n_computed % KV_BLOCK_TOK)
		return false;
	list_for_each (at, &s->running) {
		const struct seq *p = seq_at(at);

		if (p == q || p->n_planned < KV_BLOCK_TOK || p->n_computed != q->n_computed ||
			p->salt != q->salt ||
			parent_of(p, p->n_published) != parent_of(q, q->n_published))
			continue;
		common = 0;
		while (common < missing(q) && common < p->n_planned &&
			p->ids[p->n_computed + common] == q->ids[q->n_computed + common])
			common++;
		common -= common % KV_BLOCK_TOK;
		if (common >= KV_BLOCK_TOK && common >= n / 2)
			return true;
	}
	return false;
}

/* Plans up to n rows of q from n_computed on. A piece ends at a block's end, so that others can
 * share it and it can share theirs; only the oldest takes less than gets it there. */
static void plan_rows(struct sched *s, struct seq *q, uint32_t n, bool is_oldest)
{
	uint32_t end = q->n_computed + n, whole = end - end % KV_BLOCK_TOK;

	if (end < q->n_tok && whole > q->n_computed)
		end = whole;
	else if (end < q->n_tok && !is_oldest)
		return;
	if (!get_blocks(s, q, end) && end > q->n_blocks * KV_BLOCK_TOK)
		end = q->n_blocks * KV_BLOCK_TOK;
	q->n_planned = end - q->n_computed;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Collects the sequences not planned yet, the one that misses least first. */
static uint32_t list_prefills(struct sched *s)
{
	uint32_t n = 0;

	list_for_each (at, &s->running) {
		struct seq *q = seq_at(at);
		uint32_t i = n;

		if (q->n_planned > 0)
			continue;
		reuse_blocks(s, q);
		count_cached(s, q);
		for (; i > 0 && missing(s->prefills[i - 1]) > missing(q); i--)
			s->prefills[i] = s->prefills[i - 1];
		s->prefills[i] = q;
		n++;
	}
	return n;
}

static void plan_prefills(struct sched *s, uint32_t budget)
{
	uint32_t n = list_prefills(s), reserved = 0;
	struct seq *oldest = NULL;

	for (struct list *at = s->running.next; at != &s->running && !oldest; at = at->next)
		if (seq_at(at)->n_planned == 0)
			oldest = seq_at(at);
	if (oldest)
		reserved = min_u32(missing(oldest), (budget + OLDEST_SHARE - 1) / OLDEST_SHARE);
	for (uint32_t i = 0; i < n; i++) {
		struct seq *q = s->prefills[i];
		uint32_t most;

		if (!q->running) /* preempted meanwhile */
			continue;
		if (q == oldest)
			reserved = 0;
		most = min_u32(missing(q), budget - reserved);
		if (most == 0 || somebody_computes(s, q, most))
			continue;
		plan_rows(s, q, most, q == oldest);
		budget -= q->n_planned;
	}
}

/* Rows for this step. */
static uint32_t step_budget(const struct sched *s)
{
	uint64_t n = s->row_ns ? STEP_NS / s->row_ns : MIN_STEP_TOK;

	n = n < MIN_STEP_TOK ? MIN_STEP_TOK : n;
	n = n < s->n_running ? s->n_running : n;
	return n < s->o.step_budget_tok ? (uint32_t)n : s->o.step_budget_tok;
}

static void measure(struct sched *s, uint64_t ns, uint32_t n_rows)
{
	if (n_rows >= MIN_STEP_TOK || n_rows == s->o.step_budget_tok)
		s->row_ns = s->row_ns ? (3 * s->row_ns + ns / n_rows) / 4 : ns / n_rows + 1;
}

static void plan(struct sched *s)
{
	uint32_t budget = step_budget(s), promised;

	list_for_each (at, &s->running)
		seq_at(at)->n_planned = 0;
	plan_decodes(s, &budget);
	promised = blocks_promised(s);
	while (budget > 0 && s->n_waiting > 0 && s->n_running < s->o.max_sequences)
		if (!admit(s, &promised))
			break;
	if (budget > 0)
		plan_prefills(s, budget);
}

/* ---- the step ---- */

/* Writes down what was planned as runs; how many. */
static uint32_t list_runs(struct sched *s)
{
	uint32_t n = 0;

	list_for_each (at, &s->running) {
		struct seq *q = seq_at(at);

		if (q->n_planned == 0)
			continue;
		s->runs[n] = (struct batch_run){
			.ids = q->ids + q->n_computed,
			.n = q->n_planned,
			.first_pos = q->n_computed,
			.blocks = q->blocks,
			.n_logit_rows = q->n_computed + q->n_planned == q->n_tok,
		};
		s->batch[n++] = q;
	}
	return n;
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
		float *logits = s->logits + (size_t)i * s->n_vocab;

		ban(logits, &s->control);
		if (q->ignore_eos)
			ban(logits, &s->end);
		s->picked[i] = q->json ? pick_json(s, sampler, q, logits)
				       : sampler_pick(sampler, logits, &q->sampling, q->n_tok);
	}
}

/* What follows from the next token of a sequence. */
static void answer(struct sched *s, struct seq *q, uint32_t id)
{
	int r;

	if (id == SAMPLER_NONE) {
		end_running(s, q, ENGINE_FINISH_ERROR, -EIO,
			q->json ? "the vocabulary has no token that continues the JSON value"
				: "the model gave no number that could be sampled");
		return;
	}
	s->stats.output_tok++;
	r = seq_accept(q, id, s->o.tokenizer, &s->scratch);
	if (r < 0)
		end_running(s, q, ENGINE_FINISH_ERROR, r, "not enough memory for the answer");
	else if (r == SEQ_STOP)
		end_running(s, q, ENGINE_FINISH_STOP, 0, NULL);
	else if (r == SEQ_LENGTH)
		end_running(s, q, ENGINE_FINISH_LENGTH, 0, NULL);
}

int sched_step(struct sched *s)
{
	uint64_t start = clock_mono_ns(), model_ns;
	uint32_t n, n_rows = 0, n_sampled = 0;

	plan(s);
	n = list_runs(s);
	if (n == 0)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		n_rows += s->runs[i].n;
	model_ns = clock_mono_ns();
	model_step(s->o.model, s->runs, n, s->logits);
	model_ns = clock_mono_ns() - model_ns;
	measure(s, model_ns, n_rows);
	s->stats.steps++;
	if (gguf_damaged(s->o.gguf)) {
		sched_end_all(s, ENGINE_FINISH_ERROR, -EBADMSG,
			"the model's file was truncated while it was in use");
		return -EBADMSG;
	}
	for (uint32_t i = 0; i < n; i++) {
		struct seq *q = s->batch[i];

		q->n_computed += q->n_planned;
		if (q->n_computed > q->n_seen)
			q->n_seen = q->n_computed;
		publish_blocks(s, q);
		if (s->runs[i].n_logit_rows)
			s->sampled[n_sampled++] = q;
	}
	pool_run(model_pool(s->o.model), pick_tokens, s, n_sampled, 1);
	for (uint32_t i = 0; i < n_sampled; i++)
		answer(s, s->sampled[i], s->picked[i]);
	s->stats.model_ns += model_ns;
	s->stats.step_ns += clock_mono_ns() - start;
	return 0;
}

void sched_stats(const struct sched *s, struct engine_stats *out)
{
	*out = s->stats;
	out->running = s->n_running;
	out->waiting = s->n_waiting;
	out->kv_blocks_total = kv_n_total(s->kv);
	out->kv_blocks_used = kv_n_used(s->kv);
	out->kv_blocks_cached = kv_n_cached(s->kv);
}
