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
 *
 * A plan may be made while the step before is still under way. Then a sequence may have one token
 * more than is known (n_ahead): its row is planned like any other, but in no block that others
 * could find, and not when what follows hangs on the token (waits). Everything else holds because
 * steps are computed in order: a block that is freed or found here is written by then. One that is
 * preempted with a token still to come is let in again when that has come.
 */
#include "engine/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OLDEST_SHARE 4 /* the oldest prefill gets at least 1/4 of what decodes leave */

/* A step should take no longer than this, as decodes and newcomers wait for its end ... */
#define STEP_NS 150000000u
/* ... but many rows at once share the reading of the weights: below this they cost more each. */
#define MIN_STEP_TOK 64u

static struct seq *seq_at(struct list *link)
{
	return list_entry(link, struct seq, link);
}

static uint32_t blocks_for(uint32_t n_tok)
{
	return (n_tok + KV_BLOCK_TOK - 1) / KV_BLOCK_TOK;
}

int plan_init(struct plan *p, uint32_t max_sequences, uint32_t max_rows, uint32_t kv_blocks)
{
	memset(p, 0, sizeof(*p));
	list_init(&p->waiting);
	list_init(&p->running);
	list_init(&p->failed);
	p->max_sequences = max_sequences;
	p->max_rows = max_rows;
	p->kv = kv_new(kv_blocks, NULL);
	p->prefills = calloc(max_sequences, sizeof(struct seq *));
	return p->kv && p->prefills ? 0 : -ENOMEM;
}

void plan_free(struct plan *p)
{
	p->kv = kv_free(p->kv);
	free(p->prefills);
	p->prefills = NULL;
}

void plan_add(struct plan *p, struct seq *q)
{
	list_append(&p->waiting, &q->link);
	p->n_waiting++;
}

/* ---- blocks ---- */

/* Tokens it has, those not known yet among them. */
static uint32_t n_all(const struct seq *q)
{
	return q->n_tok + q->n_ahead;
}

static void drop_blocks(struct plan *p, struct seq *q)
{
	kv_release(p->kv, q->blocks, q->n_blocks);
	q->n_blocks = q->n_published = q->n_computed = 0;
	q->n_planned = 0;
}

static void preempt(struct plan *p, struct seq *q)
{
	drop_blocks(p, q);
	list_remove(&q->link);
	q->running = false;
	p->n_running--;
	list_prepend(&p->waiting, &q->link);
	p->n_waiting++;
	q->preemptions++;
	p->n_preempted++;
}

/* Gets q blocks for n_tok tokens, at the cost of those that came after it. False when it is the
 * newest and there are too few; it then holds what there was. */
static bool get_blocks(struct plan *p, struct seq *q, uint32_t n_tok)
{
	while (q->n_blocks < blocks_for(n_tok)) {
		uint32_t block = kv_alloc(p->kv);
		struct seq *newest = seq_at(p->running.prev);

		if (block != KV_NONE)
			q->blocks[q->n_blocks++] = block;
		else if (newest != q)
			preempt(p, newest);
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
static void reuse_blocks(struct plan *p, struct seq *q)
{
	while (q->n_computed == q->n_blocks * KV_BLOCK_TOK &&
		q->n_computed + KV_BLOCK_TOK < q->n_tok) {
		uint32_t block =
			kv_find(p->kv, parent_of(q, q->n_blocks), q->ids + q->n_computed, q->salt);

		if (block == KV_NONE)
			break;
		q->blocks[q->n_blocks++] = block;
		q->n_published = q->n_blocks;
		q->n_computed += KV_BLOCK_TOK;
	}
}

/* Makes findable what is full and known. */
static void publish_blocks(struct plan *p, struct seq *q)
{
	uint32_t n = q->n_computed < q->n_tok ? q->n_computed : q->n_tok;

	while ((q->n_published + 1) * KV_BLOCK_TOK <= n) {
		uint32_t i = q->n_published++;

		q->blocks[i] = kv_publish(p->kv, q->blocks[i], parent_of(q, i),
			q->ids + (size_t)i * KV_BLOCK_TOK, q->salt);
	}
}

/* Tokens up to n_computed were found, not computed: counts the ones of the prompt, once. */
static void count_cached(struct plan *p, struct seq *q)
{
	uint32_t from = q->n_seen;
	uint32_t to = q->n_computed < q->n_prompt ? q->n_computed : q->n_prompt;

	if (to > from) {
		q->cached_tok += to - from;
		p->n_cached_tok += to - from;
		q->n_seen = to;
	}
}

void plan_remove(struct plan *p, struct seq *q)
{
	drop_blocks(p, q);
	list_remove(&q->link);
	if (q->running)
		p->n_running--;
	else
		p->n_waiting--;
	q->running = false;
}

void plan_computed(struct plan *p, struct seq *q)
{
	q->n_computed += q->n_planned;
	q->n_planned = 0;
	if (q->n_computed > q->n_seen)
		q->n_seen = q->n_computed;
	publish_blocks(p, q);
}

void plan_known(struct plan *p, struct seq *q)
{
	publish_blocks(p, q);
}

/* ---- planning ---- */

static uint32_t missing(const struct seq *q)
{
	return n_all(q) - q->n_computed;
}

static void plan_decodes(struct plan *p, uint32_t *budget)
{
	for (struct list *at = p->running.next; at != &p->running; at = at->next) {
		struct seq *q = seq_at(at);

		/* Only those behind q can be preempted here, so the loop stays on the list. */
		if (q->n_ahead && q->waits)
			continue;
		if (missing(q) == 1 && get_blocks(p, q, n_all(q)))
			q->n_planned = 1;
	}
	for (struct list *at = p->running.next; at != &p->running; at = at->next)
		*budget -= seq_at(at)->n_planned;
}

/* Blocks that the running ones still need for the tokens they have. */
static uint32_t blocks_promised(struct plan *p)
{
	uint32_t n = 0;

	list_for_each (at, &p->running) {
		struct seq *q = seq_at(at);

		n += blocks_for(n_all(q)) - q->n_blocks;
	}
	return n;
}

/* Lets the head of the queue in. False: not now. */
static bool admit(struct plan *p, uint32_t *promised)
{
	struct seq *q = seq_at(p->waiting.next);
	uint32_t need;

	if (q->n_ahead)
		return false;
	if (seq_reserve(q) < 0) {
		plan_remove(p, q);
		list_append(&p->failed, &q->link);
		return true;
	}
	reuse_blocks(p, q);
	need = blocks_for(q->n_tok) - q->n_blocks;
	if (p->n_running > 0 && need + *promised > kv_n_total(p->kv) - kv_n_used(p->kv)) {
		drop_blocks(p, q);
		return false;
	}
	*promised += need;
	list_remove(&q->link);
	p->n_waiting--;
	list_append(&p->running, &q->link);
	p->n_running++;
	q->running = true;
	if (!q->started) {
		p->n_prompt_tok += q->n_prompt;
		count_cached(p, q);
		seq_start(q);
	}
	return true;
}

/* True when another sequence computes in this step most of the n tokens that q would: it waits a
 * step then and finds the blocks. */
static bool somebody_computes(struct plan *p, const struct seq *q, uint32_t n)
{
	uint32_t common;

	if (q->n_computed % KV_BLOCK_TOK)
		return false;
	list_for_each (at, &p->running) {
		const struct seq *o = seq_at(at);

		if (o == q || o->n_planned < KV_BLOCK_TOK || o->n_computed != q->n_computed ||
			o->salt != q->salt ||
			parent_of(o, o->n_published) != parent_of(q, q->n_published))
			continue;
		common = 0;
		while (common < missing(q) && common < o->n_planned &&
			o->ids[o->n_computed + common] == q->ids[q->n_computed + common])
			common++;
		common -= common % KV_BLOCK_TOK;
		if (common >= KV_BLOCK_TOK && common >= n / 2)
			return true;
	}
	return false;
}

/* Plans up to n rows of q from n_computed on. A piece ends at a block's end, so that others can
 * share it and it can share theirs; only the oldest takes less than gets it there. */
static void plan_rows(struct plan *p, struct seq *q, uint32_t n, bool is_oldest)
{
	uint32_t end = q->n_computed + n, whole = end - end % KV_BLOCK_TOK;

	if (end < q->n_tok && whole > q->n_computed)
		end = whole;
	else if (end < q->n_tok && !is_oldest)
		return;
	if (!get_blocks(p, q, end) && end > q->n_blocks * KV_BLOCK_TOK)
		end = q->n_blocks * KV_BLOCK_TOK;
	q->n_planned = end - q->n_computed;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Whether q takes part in plan_prefills. */
static bool is_prefill(const struct seq *q)
{
	return q->n_planned == 0 && q->n_ahead == 0;
}

/* Collects the sequences not planned yet, the one that misses least first. */
static uint32_t list_prefills(struct plan *p)
{
	uint32_t n = 0;

	list_for_each (at, &p->running) {
		struct seq *q = seq_at(at);
		uint32_t i = n;

		if (!is_prefill(q))
			continue;
		reuse_blocks(p, q);
		count_cached(p, q);
		for (; i > 0 && missing(p->prefills[i - 1]) > missing(q); i--)
			p->prefills[i] = p->prefills[i - 1];
		p->prefills[i] = q;
		n++;
	}
	return n;
}

static void plan_prefills(struct plan *p, uint32_t budget)
{
	uint32_t n = list_prefills(p), reserved = 0;
	struct seq *oldest = NULL;

	for (struct list *at = p->running.next; at != &p->running && !oldest; at = at->next)
		if (is_prefill(seq_at(at)))
			oldest = seq_at(at);
	if (oldest)
		reserved = min_u32(missing(oldest), (budget + OLDEST_SHARE - 1) / OLDEST_SHARE);
	for (uint32_t i = 0; i < n; i++) {
		struct seq *q = p->prefills[i];
		uint32_t most;

		if (!q->running) /* preempted meanwhile */
			continue;
		if (q == oldest)
			reserved = 0;
		most = min_u32(missing(q), budget - reserved);
		if (most == 0 || somebody_computes(p, q, most))
			continue;
		plan_rows(p, q, most, q == oldest);
		budget -= q->n_planned;
	}
}

/* Rows for this step. */
static uint32_t step_budget(const struct plan *p)
{
	uint64_t n = p->row_ns ? STEP_NS / p->row_ns : MIN_STEP_TOK;

	n = n < MIN_STEP_TOK ? MIN_STEP_TOK : n;
	n = n < p->n_running ? p->n_running : n;
	return n < p->max_rows ? (uint32_t)n : p->max_rows;
}

void plan_measured(struct plan *p, uint64_t ns, uint32_t n_rows)
{
	if (n_rows >= MIN_STEP_TOK || n_rows == p->max_rows)
		p->row_ns = p->row_ns ? (3 * p->row_ns + ns / n_rows) / 4 : ns / n_rows + 1;
}

uint32_t plan_step(struct plan *p, struct seq **batch)
{
	uint32_t budget = step_budget(p), promised, n = 0;

	list_for_each (at, &p->running)
		seq_at(at)->n_planned = 0;
	plan_decodes(p, &budget);
	promised = blocks_promised(p);
	while (budget > 0 && p->n_waiting > 0 && p->n_running < p->max_sequences)
		if (!admit(p, &promised))
			break;
	if (budget > 0)
		plan_prefills(p, budget);
	list_for_each (at, &p->running)
		if (seq_at(at)->n_planned > 0)
			batch[n++] = seq_at(at);
	return n;
}
