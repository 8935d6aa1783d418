/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of those that can take a request, who is tried first: each has a score by the policy, every term
 * of it kept, and they are brought into its order. The arm of a split comes from a hash of session
 * and name (rendezvous: each candidate draws a number, the best draw for its weight wins), so that
 * a candidate that comes or goes moves no session but its own. One that is down does not go: its
 * sessions are answered by others and stay its own. A cascade is in the order of costs, and ends
 * where the request's max_cost does.
 *
 * A function of the facts, with no state; any thread.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/router_parts.h"

#include "base/hash.h"

/* ---- times ---- */

/* Those that were never measured are taken for the mean of the others, + what loading takes. */
static void fill_latencies(struct router_choice *c)
{
	double sum = 0;
	size_t measured = 0;
	const double cold_ms = c->config.weights.cold_ms;
	for (size_t i = 0; i < c->d->n; i++) {
		const struct router_candidate *k = &c->d->tried[i];
		bool cold = c->facts[i]->health == ROUTER_COLD;
		sum += k->is_measured ? k->expected_ms - (cold ? cold_ms : 0) : 0;
		measured += k->is_measured;
	}
	for (size_t i = 0; measured && i < c->d->n; i++) {
		struct router_candidate *k = &c->d->tried[i];
		bool cold = c->facts[i]->health == ROUTER_COLD;
		if (!k->is_measured)
			k->expected_ms = sum / (double)measured + (cold ? cold_ms : 0);
	}
}

/* ---- scores ---- */

/* In hundredths of a dollar per 1,000 tokens of this request's mixture of prompt and answer. */
static double unit_price(const struct router_choice *c, const struct money_price *p)
{
	double prompt = (double)c->ask->prompt_tok, answer = (double)c->d->answer_tok;
	double sum = prompt * (double)p->input + answer * (double)p->output; /* 10^-15 dollars */
	return prompt + answer > 0 ? sum / (prompt + answer) * 1e-15 * 1000 / 0.01 : 0;
}

static double quality_of(const struct router_facts *f)
{
	return f->has_quality && f->quality >= 0 && f->quality <= 1 ? f->quality : 0.5;
}

static void score(
	const struct router_choice *c, const struct router_facts *f, struct router_candidate *k)
{
	const struct router_weights *w = &c->config.weights;
	const enum classify_class class = c->d->class;
	double quality = quality_of(f);
	double price = unit_price(c, &f->price), seconds = k->expected_ms / 1000;
	enum router_policy policy =
		c->ask->model == ROUTER_CASCADE ? ROUTER_COST : c->config.policy;
	switch (policy) {
	case ROUTER_COST:
		k->cost_term = -price;
		break;
	case ROUTER_QUALITY:
		k->quality_term = quality;
		break;
	case ROUTER_LATENCY:
		k->latency_term = -seconds;
		break;
	case ROUTER_BALANCED:
	case ROUTER_SPLIT:
		k->quality_term = w->quality[class] * quality;
		k->cost_term = -w->cost[class] * price;
		k->latency_term = c->ask->max_latency_ms ? -w->latency * seconds : 0;
		k->load_term = -w->load * ((double)f->running + (double)f->waiting) -
			       (f->health == ROUTER_COLD ? w->cold : 0);
		break;
	}
	k->score = k->quality_term + k->cost_term + k->latency_term + k->load_term;
}

/* ---- order ---- */

struct place {
	const struct router_candidate *candidate;
	const struct router_facts *facts;
	size_t from; /* its index before */
	bool is_cascade;
};

#define COMPARE(a, b) (((a) > (b)) - ((a) < (b)))

static int compare_places(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	int r = 0;
	/* A cascade rises, also over one that failed: what its last model says is taken unweighed.
	 */
	if (!x->is_cascade) {
		r = COMPARE(x->facts->failed_lately, y->facts->failed_lately);
		r = r ? r : COMPARE(y->candidate->score, x->candidate->score);
	}
	r = r ? r : COMPARE(x->candidate->cost, y->candidate->cost);
	if (!r)
		r = x->is_cascade ? COMPARE(quality_of(x->facts), quality_of(y->facts))
				  : COMPARE(quality_of(y->facts), quality_of(x->facts));
	r = r ? r : COMPARE(x->facts->health, y->facts->health);
	r = r ? r
	      : COMPARE(x->facts->running + x->facts->waiting,
			y->facts->running + y->facts->waiting);
	return r ? r : strcmp(x->candidate->name, y->candidate->name);
}

/* Brings the candidates to their places, each of which says where its own is, cycle by cycle. */
static void permute(struct router_candidate *tried, struct place *places, size_t n)
{
	for (size_t start = 0; start < n; start++) {
		struct router_candidate first = tried[start];
		size_t to = start, from;
		while ((from = places[to].from) != start) {
			tried[to] = tried[from];
			places[to].from = to;
			to = from;
		}
		tried[to] = first;
		places[to].from = to;
	}
}

static int order(struct router_choice *c)
{
	size_t n = c->d->n;
	struct place *places = calloc(n + 1, sizeof *places);
	if (!places)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		places[i] = (struct place){
			&c->d->tried[i], c->facts[i], i, c->ask->model == ROUTER_CASCADE};
	qsort(places, n, sizeof *places, compare_places);
	for (size_t i = 0; i < n; i++)
		c->facts[i] = places[i].facts;
	permute(c->d->tried, places, n);
	free(places);
	return 0;
}

/* FNV-1a, then splitmix64's last steps: all bits depend on all bytes. */
static uint64_t hash_pair(const char *a, const char *b)
{
	uint64_t h = hash_text(UINT64_C(0xcbf29ce484222325), a);
	h = hash_bytes(h, "\xFF", 1); /* no byte of a name */
	h = hash_text(h, b);
	h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
	return h ^ (h >> 31);
}

/* The session's arm, of those that are able to do what is asked: one that is down, or that this
 * request is too long or too dear for, is still the arm, or the arms would mix. */
static const char *draw_arm(
	const struct router_ask *ask, const struct router_facts *facts, size_t n)
{
	const char *arm = NULL;
	double best = INFINITY;
	for (size_t i = 0; i < n; i++) {
		if (!facts[i].weight || (ask->capabilities & ~facts[i].capabilities))
			continue;
		uint64_t h = hash_pair(ask->session ? ask->session : "", facts[i].name);
		double draw = ((double)(h >> 11) + 0.5) * 0x1p-53; /* above 0, below 1 */
		double time = -log(draw) / facts[i].weight;
		if (time < best) {
			best = time;
			arm = facts[i].name;
		}
	}
	return arm;
}

/* Brings the session's arm to the front, if it can take the request. */
static void split(struct router_choice *c, const struct router_facts *facts, size_t n)
{
	struct router_decision *d = c->d;
	const char *arm = draw_arm(c->ask, facts, n);
	size_t at = 0;
	if (!arm)
		return;
	snprintf(d->arm, sizeof d->arm, "%s", arm);
	while (at < d->n && strcmp(d->tried[at].name, arm) != 0)
		at++;
	if (at == d->n)
		return;
	struct router_candidate first = d->tried[at];
	memmove(d->tried + 1, d->tried, at * sizeof *d->tried);
	d->tried[0] = first;
}

/* A cascade may come to pay for all of its steps. */
static void cut_cascade(struct router_choice *c)
{
	struct router_decision *d = c->d;
	char a[MONEY_TEXT_SIZE], b[MONEY_TEXT_SIZE];
	money sum = 0;
	size_t n = 0;
	for (size_t i = 0; i < d->n; i++) {
		if (d->tried[i].worst <= c->ask->max_cost - sum) {
			sum += d->tried[i].worst;
			d->tried[n++] = d->tried[i];
			continue;
		}
		router_drop(c, d->tried[i].name,
			"may cost %s dollars on top of the steps before, max_cost is %s",
			money_text(d->tried[i].worst, a), money_text(c->ask->max_cost, b));
	}
	d->n = n;
}

int router_order(struct router_choice *c, const struct router_facts *facts, size_t n)
{
	struct router_decision *d = c->d;
	fill_latencies(c);
	for (size_t i = 0; i < d->n; i++)
		score(c, c->facts[i], &d->tried[i]);
	int r = order(c);
	if (r == 0 && d->model == ROUTER_CASCADE && c->ask->has_max_cost)
		cut_cascade(c);
	if (r == 0 && d->model == ROUTER_AUTO && d->policy == ROUTER_SPLIT)
		split(c, facts, n);
	return r;
}
