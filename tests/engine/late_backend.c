/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A step is computed inside begin .. end, with the processor's stages on its own state, so that the
 * tokens it takes are there for the step after it; but they stay in here until finish. Facts and
 * logits that were handed out are freed at the next begin, so that a sanitizer sees who looks at
 * them later.
 */
#include "tests/engine/late_backend.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu_state.h"
#include "engine/cuda_door.h"
#include "engine/sampler.h"

struct late_step {
	struct model_pick *picks;     /* NULL: all logits are wanted */
	uint32_t **masks;             /* [n_picks] copies, or NULL */
	uint32_t *ids;                /* [n_picks] */
	struct sampler_facts **facts; /* [n_picks] or NULL */
	float *all;                   /* [n_picks][V] without picks */
	uint32_t n_picks;
};

/* The history of a sequence, which goes on by itself. */
struct late_text {
	uint32_t *ids;
	uint32_t n_prompt, n_tok;
	struct engine_bias *bias;
	size_t n_bias;
};

struct late {
	struct cpu_state *cpu;
	struct late_ways ways;
	struct sampler *sampler;
	float *row;
	struct late_text *texts; /* [n_texts] one a slot */
	uint32_t n_texts;
	bool *is_control, *is_end; /* [V] */
	bool knows_banned;
	struct late_step steps[2]; /* n from `oldest` on are under way */
	uint32_t oldest, n, n_begun, n_finished, n_sampled;
	struct late_step *handed_out; /* facts or logits of this one are borrowed */
};

struct late_ways late_ways;
static struct late_counts counts;
static pthread_mutex_t counts_lock = PTHREAD_MUTEX_INITIALIZER;

struct late_counts late_counts(void)
{
	struct late_counts c;

	pthread_mutex_lock(&counts_lock);
	c = counts;
	counts = (struct late_counts){0};
	pthread_mutex_unlock(&counts_lock);
	return c;
}

static void *take(size_t n, size_t size)
{
	void *p = calloc(n + 1, size);

	assert(p);
	return p;
}

static void forget(struct late_step *s)
{
	for (uint32_t i = 0; i < s->n_picks; i++) {
		free(s->facts[i]);
		free(s->masks[i]);
	}
	free(s->picks);
	free(s->masks);
	free(s->ids);
	free(s->facts);
	free(s->all);
	*s = (struct late_step){0};
}

/* ---- the object ---- */

static int open_late(struct model *m, const struct model_options *o, struct err *err)
{
	struct late *l = take(1, sizeof(*l));
	struct model_options mo = *o;
	uint32_t n_vocab = m->config.n_vocab;
	int r;

	if (o->kv_may_shrink && late_ways.kv_blocks > 0 && mo.kv_blocks > late_ways.kv_blocks)
		mo.kv_blocks = late_ways.kv_blocks;
	if (mo.kv_blocks > 100000)
		mo.kv_blocks = 100000; /* the processor's memory is not without end */
	r = cpu_backend.open(m, &mo, err);
	l->cpu = m->state;
	m->state = l;
	l->ways = late_ways;
	l->sampler = sampler_new(n_vocab);
	l->row = take(n_vocab, sizeof(*l->row));
	l->n_texts = o->max_runs ? o->max_runs : o->max_rows;
	l->texts = take(l->n_texts, sizeof(*l->texts));
	l->is_control = take(n_vocab, sizeof(bool));
	l->is_end = take(n_vocab, sizeof(bool));
	return r == 0 && l->ways.open_fails < 0 ? err_set(err, l->ways.open_fails, LATE_REFUSAL)
						: r;
}

static void close_late(struct model *m)
{
	struct late *l = m->state;

	if (!l)
		return;
	m->state = l->cpu;
	cpu_backend.close(m);
	forget(&l->steps[0]);
	forget(&l->steps[1]);
	sampler_free(l->sampler);
	free(l->row);
	for (uint32_t i = 0; i < l->n_texts; i++) {
		free(l->texts[i].ids);
		free(l->texts[i].bias);
	}
	free(l->texts);
	free(l->is_control);
	free(l->is_end);
	free(l);
	m->state = NULL;
}

static const char *describe(const struct model *m)
{
	return "cuda/late";
}

static void stats(const struct model *m, struct backend_stats *out)
{
	*out = (struct backend_stats){.memory_used = 1000,
		.memory_free = 2000,
		.graph_hits = 7,
		.graph_misses = 3,
		.utilisation = 0.5f};
}

static int set_banned(struct model *m, const uint32_t *control, size_t n_control,
	const uint32_t *end, size_t n_end, struct err *err)
{
	struct late *l = m->state;

	assert(!l->knows_banned && l->n_begun == 0);
	l->knows_banned = true;
	for (size_t i = 0; i < n_control; i++)
		l->is_control[control[i]] = true;
	for (size_t i = 0; i < n_end; i++)
		l->is_end[end[i]] = true;
	return 0;
}

/* ---- stages: the processor's, on its state ---- */

static struct late *enter(struct model *m)
{
	struct late *l = m->state;

	m->state = l->cpu;
	return l;
}

#define STAGE(name, parameters, call)                                                              \
	static void name parameters                                                                \
	{                                                                                          \
		struct late *l = enter(m);                                                         \
		cpu_backend.call;                                                                  \
		m->state = l;                                                                      \
	}

STAGE(embed, (struct model * m), embed(m))
STAGE(norm, (struct model * m, const float *weight), norm(m, weight))
STAGE(products, (struct model * m, const struct backend_product *p, uint32_t n), products(m, p, n))
STAGE(rope_and_write, (struct model * m, uint32_t layer), rope_and_write(m, layer))
STAGE(attention, (struct model * m, uint32_t layer), attention(m, layer))
STAGE(keep, (struct model * m), keep(m))
STAGE(activate, (struct model * m, enum backend_activation f), activate(m, f))

/* ---- a step ---- */

/* A sequence comes to a slot. */
static void open_text(struct late_text *t, const struct sampler_history *h)
{
	free(t->ids);
	free(t->bias);
	t->ids = take(h->n_tok, sizeof(*t->ids));
	memcpy(t->ids, h->ids, h->n_tok * sizeof(*t->ids));
	t->n_prompt = h->n_prompt;
	t->n_tok = h->n_tok;
	t->bias = take(h->n_bias, sizeof(*t->bias));
	if (h->n_bias > 0)
		memcpy(t->bias, h->bias, h->n_bias * sizeof(*t->bias));
	t->n_bias = h->n_bias;
}

static void add_token(struct late_text *t, uint32_t id)
{
	t->ids = realloc(t->ids, (t->n_tok + 1) * sizeof(*t->ids));
	assert(t->ids);
	t->ids[t->n_tok++] = id;
}

static void copy_picks(struct late *l, struct late_step *s, const struct backend_batch *b, size_t v)
{
	s->n_picks = b->n_picks;
	s->ids = take(b->n_picks, sizeof(*s->ids));
	s->facts = take(b->n_picks, sizeof(struct sampler_facts *));
	s->masks = take(b->n_picks, sizeof(uint32_t *));
	if (!b->picks) {
		s->all = take(b->n_picks * v, sizeof(float));
		return;
	}
	assert(l->knows_banned);
	s->picks = take(b->n_picks, sizeof(*s->picks));
	for (uint32_t i = 0; i < b->n_picks; i++) {
		size_t words = (v + 31) / 32;

		s->picks[i] = b->picks[i];
		if (b->picks[i].history) {
			assert(b->picks[i].slot < l->n_texts);
			for (uint32_t k = 0; k < i; k++)
				assert(!b->picks[k].history ||
					b->picks[k].slot != b->picks[i].slot);
			if (b->picks[i].fresh)
				open_text(&l->texts[b->picks[i].slot], b->picks[i].history);
		}
		if (!b->picks[i].mask)
			continue;
		s->masks[i] = take(words, sizeof(uint32_t));
		memcpy(s->masks[i], b->picks[i].mask, words * sizeof(uint32_t));
	}
}

static int begin(struct model *m, const struct backend_batch *b, struct err *err)
{
	struct late *l = m->state;
	struct late_step *s = &l->steps[(l->oldest + l->n) % 2], *before = &l->steps[l->oldest];
	struct batch_run *runs = take(b->n_runs, sizeof(*runs));
	uint32_t *ids = take(b->n_rows, sizeof(*ids)), n_followed = 0, row = 0;

	assert(l->n < 2);
	if (l->ways.begin_fails_at > 0 && ++l->n_begun >= l->ways.begin_fails_at) {
		free(runs);
		free(ids);
		return err_set(err, -EIO, LATE_FAULT);
	}
	if (l->handed_out)
		forget(l->handed_out);
	l->handed_out = NULL;
	for (uint32_t i = 0; i < b->n_runs; row += b->runs[i].n, i++) {
		const struct batch_run *run = &b->runs[i];
		uint32_t n_known = run->n - (run->follows > 0), last;

		memcpy(ids + row, run->ids, n_known * sizeof(*ids));
		runs[i] = *run;
		runs[i].ids = ids + row;
		runs[i].follows = 0;
		if (run->follows == 0)
			continue;
		assert(l->n == 1 && run->follows <= before->n_picks);
		last = before->ids[run->follows - 1];
		ids[row + n_known] = last == SAMPLER_NONE ? 0 : last;
		n_followed++;
	}
	copy_picks(l, s, b, m->config.n_vocab);
	pthread_mutex_lock(&counts_lock);
	counts.steps++;
	counts.overlapped += l->n == 1;
	counts.followed += n_followed;
	pthread_mutex_unlock(&counts_lock);
	struct backend_batch known = *b;
	known.runs = runs;
	enter(m);
	cpu_backend.begin(m, &known, err);
	/* Tiles of the processor borrow the blocks, not the runs. */
	m->state = l;
	free(runs);
	free(ids);
	return 0;
}

static void take_token(
	struct late *l, struct late_step *s, uint32_t i, const float *logits, size_t v)
{
	const struct model_pick *p = &s->picks[i];

	if (p->asked) {
		s->facts[i] = take(1, sizeof(struct sampler_facts));
		sampler_look(l->sampler, logits, p->asked, s->facts[i]);
		pthread_mutex_lock(&counts_lock);
		counts.asked++;
		pthread_mutex_unlock(&counts_lock);
	}
	memcpy(l->row, logits, v * sizeof(float));
	if (p->history) {
		const struct late_text *t = &l->texts[p->slot];
		struct sampler_history h = {t->ids, t->n_prompt, t->n_tok, t->bias, t->n_bias};

		assert(t->n_tok == p->position);
		sampler_adjust(l->sampler, l->row, &p->how, &h);
	}
	for (size_t id = 0; id < v; id++) {
		bool masked = s->masks[i] && !(s->masks[i][id / 32] >> id % 32 & 1);

		if (masked || l->is_control[id] || (p->ignore_eos && l->is_end[id]))
			l->row[id] = -INFINITY;
	}
	s->ids[i] = sampler_pick(l->sampler, l->row, &p->how, p->position);
	if (p->asked && s->ids[i] != SAMPLER_NONE)
		s->facts[i]->picked = logits[s->ids[i]];
	if (p->history && s->ids[i] != SAMPLER_NONE)
		add_token(&l->texts[p->slot], s->ids[i]);
}

static void sample(struct model *m)
{
	struct late *l = m->state;
	struct late_step *s = &l->steps[(l->oldest + l->n) % 2];
	size_t v = m->config.n_vocab;

	if (l->ways.spoilt_from > 0 && ++l->n_sampled >= l->ways.spoilt_from)
		for (size_t i = 0; i < s->n_picks * v; i++)
			l->cpu->buf.logits[i] = l->ways.spoilt_with;
	for (uint32_t i = 0; i < s->n_picks; i++)
		take_token(l, s, i, l->cpu->buf.logits + i * v, v);
}

static int end(struct model *m)
{
	struct late *l = m->state;
	struct late_step *s = &l->steps[(l->oldest + l->n) % 2];
	struct model_result *results = take(s->n_picks, sizeof(*results));

	if (s->all)
		memcpy(s->all, l->cpu->buf.logits,
			(size_t)s->n_picks * m->config.n_vocab * sizeof(float));
	enter(m);
	cpu_backend.end(m);
	cpu_backend.finish(m, results, NULL);
	m->state = l;
	free(results);
	l->n++;
	return 0;
}

static int finish(struct model *m, struct model_result *results, struct err *err)
{
	struct late *l = m->state;
	struct late_step *s = &l->steps[l->oldest];

	assert(l->n > 0);
	l->n_finished++;
	if (l->ways.fails_at > 0 && l->n_finished >= l->ways.fails_at)
		return err_set(err, -EIO, LATE_FAULT);
	for (uint32_t i = 0; i < s->n_picks; i++)
		results[i] = (struct model_result){
			.id = s->all ? SAMPLER_NONE : s->ids[i],
			.facts = s->facts[i],
			.logits = s->all ? s->all + (size_t)i * m->config.n_vocab : NULL,
		};
	if (l->handed_out)
		forget(l->handed_out);
	l->handed_out = s;
	l->oldest = (l->oldest + 1) % 2;
	l->n--;
	return 0;
}

static size_t kv_block_bytes(
	const struct gguf *g, const struct model_config *c, const struct model_options *o)
{
	return cpu_backend.kv_block_bytes(g, c, o);
}

static const struct backend late_backend = {
	.name = "cuda",
	.samples = true,
	.own_memory = true,
	.default_sequences = 48,
	.default_step_tok = 256,
	.kv_block_bytes = kv_block_bytes,
	.open = open_late,
	.close = close_late,
	.describe = describe,
	.stats = stats,
	.set_banned = set_banned,
	.begin = begin,
	.embed = embed,
	.norm = norm,
	.products = products,
	.rope_and_write = rope_and_write,
	.attention = attention,
	.keep = keep,
	.activate = activate,
	.sample = sample,
	.end = end,
	.finish = finish,
};

int cuda_door_backend(const struct backend **out, uint32_t gpu, struct err *err)
{
	*out = late_ways.refuses < 0 ? NULL : &late_backend;
	return late_ways.refuses < 0 ? err_set(err, late_ways.refuses, LATE_REFUSAL) : 0;
}
