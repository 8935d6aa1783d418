/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A decision is a function of its arguments: the configuration copied at its beginning, the ask and
 * the facts. Three steps: drop who cannot, with a sentence each; give the others a score by the
 * policy, every term of it kept; order them. Nothing is remembered between decisions: latencies and
 * health are facts that the caller has measured, and the arm of a split comes from a hash of
 * session and name (rendezvous: each candidate draws a number, the best draw for its weight wins),
 * so that a candidate that comes or goes moves no session but its own. One that is down does not
 * go: its sessions are answered by others and stay its own.
 *
 * Lock order: router->lock is a leaf, held for a copy only. (Files: router_setting.c; JSON:
 * router_decision.c.)
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/router_parts.h"

struct router *router_new(void)
{
	struct router *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	pthread_mutex_init(&r->lock, NULL);
	router_setting_defaults(&r->config);
	return r;
}

struct router *router_free(struct router *r)
{
	if (!r)
		return NULL;
	for (size_t i = 0; i < N_ROUTER_SETTINGS; i++)
		text_put(r->value[i]);
	text_put(r->identity);
	pthread_mutex_destroy(&r->lock);
	free(r);
	return NULL;
}

void router_config(struct router *r, struct router_config *out)
{
	pthread_mutex_lock(&r->lock);
	*out = r->config;
	pthread_mutex_unlock(&r->lock);
}

static unsigned asked(struct router *r, const char *name, const double *ms, char model[])
{
	unsigned most_ms = 0;
	pthread_mutex_lock(&r->lock);
	if (*name) {
		memcpy(model, name, TEXT_NAME_SIZE);
		most_ms = (unsigned)*ms;
	}
	pthread_mutex_unlock(&r->lock);
	return most_ms;
}

unsigned router_classifier(struct router *r, char model[TEXT_NAME_SIZE])
{
	const struct router_config *c = &r->config;
	return asked(r, c->classifier_model, &c->classifier_timeout_ms, model);
}

bool router_counts_class(struct router *r, enum router_model model)
{
	pthread_mutex_lock(&r->lock);
	bool counts = model == ROUTER_CASCADE || r->config.policy == ROUTER_BALANCED;
	pthread_mutex_unlock(&r->lock);
	return counts;
}

unsigned router_cascade_judge(struct router *r, char model[TEXT_NAME_SIZE])
{
	const struct router_config *c = &r->config;
	return asked(r, c->cascade_judge, &c->cascade_judge_timeout_ms, model);
}

/* ---- capabilities ---- */

static const struct {
	const char *word;
	unsigned bit;
} capabilities[] = {{"chat", ROUTER_CHAT}, {"json", ROUTER_JSON}, {"code", ROUTER_CODE},
	{"math", ROUTER_MATH}, {"vision", ROUTER_VISION}, {"audio", ROUTER_AUDIO},
	{"tools", ROUTER_TOOLS}, {"embed", ROUTER_EMBED}};

enum { N_CAPABILITIES = sizeof capabilities / sizeof *capabilities };

static unsigned capability(const char *word, size_t len)
{
	for (size_t i = 0; i < N_CAPABILITIES; i++)
		if (strlen(capabilities[i].word) == len && !memcmp(capabilities[i].word, word, len))
			return capabilities[i].bit;
	return 0;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int router_capabilities_parse(const char *text, size_t len, unsigned *out, struct err *err)
{
	unsigned all = 0;
	for (size_t i = 0, from; i < len; i++) {
		for (from = i; i < len && !is_space(text[i]); i++)
			;
		unsigned bit = capability(text + from, i - from);
		if (i > from && !bit)
			return err_set(err, -EINVAL,
				"capabilities: must be words of chat, json, code, math, vision, "
				"audio, tools and embed");
		all |= bit;
	}
	*out = all ? all : ROUTER_CHAT | ROUTER_JSON;
	return 0;
}

/* ---- who cannot ---- */

/* A decision under way. */
struct choice {
	const struct router_ask *ask;
	struct router_config config;
	struct router_decision *d;
	const struct router_facts **facts; /* [d->n], of d->tried */
	size_t most;                       /* that may be dropped */
	bool out_of_memory;
};

__attribute__((format(printf, 3, 4))) static void drop(
	struct choice *c, const char *name, const char *format, ...)
{
	struct router_decision *d = c->d;
	/* Most often none is, and each takes 256 bytes. */
	if (!d->dropped)
		d->dropped = calloc(c->most, sizeof *d->dropped);
	if (!d->dropped) {
		c->out_of_memory = true;
		return;
	}
	struct router_dropped *out = &d->dropped[d->n_dropped++];
	va_list args;
	memcpy(out->name, name, sizeof out->name);
	va_start(args, format);
	vsnprintf(out->why, sizeof out->why, format, args);
	va_end(args);
	out->why[utf8_valid_prefix(out->why, strlen(out->why))] = '\0';
}

static void drop_incapable(struct choice *c, const struct router_facts *f)
{
	char missing[80] = "";
	for (size_t i = 0; i < N_CAPABILITIES; i++)
		if (c->ask->capabilities & ~f->capabilities & capabilities[i].bit) {
			strcat(missing, " ");
			strcat(missing, capabilities[i].word);
		}
	drop(c, f->name, "cannot do%s", *missing ? missing : " what is asked");
}

/* The longest answer that it may give. */
static uint64_t longest_tok(const struct choice *c, const struct router_facts *f)
{
	uint64_t room = f->context_tok ? f->context_tok - c->ask->prompt_tok : UINT64_MAX;
	uint64_t most = c->ask->max_tokens ? c->ask->max_tokens : UINT64_MAX;
	most = f->max_tokens && f->max_tokens < most ? f->max_tokens : most;
	most = room < most ? room : most;
	return most < UINT64_MAX ? most : c->d->answer_tok;
}

/* True: it was dropped. Else *out has its costs and its time. */
static bool examine(struct choice *c, const struct router_facts *f, struct router_candidate *out)
{
	const struct router_ask *ask = c->ask;
	char a[MONEY_TEXT_SIZE], b[MONEY_TEXT_SIZE];
	if (f->health == ROUTER_DOWN) {
		drop(c, f->name, "down%s%.*s", *f->why ? ": " : "", (int)sizeof f->why, f->why);
		return true;
	}
	if (ask->capabilities & ~f->capabilities) {
		drop_incapable(c, f);
		return true;
	}
	if (f->context_tok && ask->prompt_tok >= f->context_tok) {
		drop(c, f->name, "the prompt has %" PRIu64 " tokens, its context %" PRIu64,
			ask->prompt_tok, f->context_tok);
		return true;
	}
	const struct money_tokens expected = {
		.prompt = ask->prompt_tok, .output = c->d->answer_tok};
	const struct money_tokens most = {.prompt = ask->prompt_tok, .output = longest_tok(c, f)};
	out->cost = money_cost(&f->price, &expected);
	out->worst = money_cost(&f->price, &most);
	if (ask->has_max_cost && out->worst > ask->max_cost) {
		drop(c, f->name, "may cost %s dollars, max_cost is %s", money_text(out->worst, a),
			money_text(ask->max_cost, b));
		return true;
	}
	out->is_measured = f->first_ms > 0 && f->tok_per_s > 0;
	if (out->is_measured)
		out->expected_ms = f->first_ms + (double)c->d->answer_tok * 1000 / f->tok_per_s +
				   (f->health == ROUTER_COLD ? c->config.weights.cold_ms : 0);
	if (ask->max_latency_ms && out->expected_ms > (double)ask->max_latency_ms) {
		drop(c, f->name, "is expected to take %.0f ms, max_latency_ms is %" PRIu64,
			out->expected_ms, ask->max_latency_ms);
		return true;
	}
	memcpy(out->name, f->name, sizeof out->name);
	if (f->failed_lately)
		snprintf(out->failure, sizeof out->failure, "%.*s", (int)sizeof out->failure - 1,
			*f->why ? f->why : "it failed");
	out->failure[utf8_valid_prefix(out->failure, strlen(out->failure))] = '\0';
	return false;
}

/* Those that were never measured are taken for the mean of the others, + what loading takes. */
static void fill_latencies(struct choice *c)
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
static double unit_price(const struct choice *c, const struct money_price *p)
{
	double prompt = (double)c->ask->prompt_tok, answer = (double)c->d->answer_tok;
	double sum = prompt * (double)p->input + answer * (double)p->output; /* 10^-15 dollars */
	return prompt + answer > 0 ? sum / (prompt + answer) * 1e-15 * 1000 / 0.01 : 0;
}

static double quality_of(const struct router_facts *f)
{
	return f->has_quality && f->quality >= 0 && f->quality <= 1 ? f->quality : 0.5;
}

static void score(const struct choice *c, const struct router_facts *f, struct router_candidate *k)
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

static int order(struct choice *c)
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
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	for (; *a; a++)
		h = (h ^ (unsigned char)*a) * UINT64_C(0x100000001b3);
	h = (h ^ 0xFF) * UINT64_C(0x100000001b3); /* no byte of a name */
	for (; *b; b++)
		h = (h ^ (unsigned char)*b) * UINT64_C(0x100000001b3);
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
static void split(struct choice *c, const struct router_facts *facts, size_t n)
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
static void cut_cascade(struct choice *c)
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
		drop(c, d->tried[i].name,
			"may cost %s dollars on top of the steps before, max_cost is %s",
			money_text(d->tried[i].worst, a), money_text(c->ask->max_cost, b));
	}
	d->n = n;
}

/* ---- the whole ---- */

static int refuse(const struct router_decision *d, struct err *err)
{
	char text[sizeof err->text] = "";
	const size_t room = sizeof text - 40; /* for what is said around them */
	size_t at = 0, i = 0;
	for (; i < d->n_dropped; i++) {
		const struct router_dropped *x = &d->dropped[i];
		size_t need = strlen(x->name) + strlen(x->why) + 4;
		if (at + need > room)
			break;
		at += (size_t)sprintf(text + at, "%s%s: %s", i ? "; " : "", x->name, x->why);
	}
	if (!d->n_dropped)
		return err_set(err, -EHOSTUNREACH, "there is no model to choose from");
	if (i < d->n_dropped)
		return err_set(err, -EHOSTUNREACH, "no model can take it: %s; and %zu more", text,
			d->n_dropped - i);
	return err_set(err, -EHOSTUNREACH, "no model can take it: %s", text);
}

static struct router_decision *decision_new(size_t n)
{
	struct router_decision *d = calloc(1, sizeof *d);
	if (!d)
		return NULL;
	d->tried = calloc(n + 1, sizeof *d->tried);
	return d->tried ? d : router_decision_free(d);
}

static int decide(struct choice *c, const struct router_facts *facts, size_t n)
{
	struct router_decision *d = c->d;
	for (size_t i = 0; i < n; i++)
		if (!examine(c, &facts[i], &d->tried[d->n]))
			c->facts[d->n++] = &facts[i];
		else
			d->tried[d->n] = (struct router_candidate){0};
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

int router_decide(struct router *r, const struct router_ask *ask, const struct router_facts *facts,
	size_t n, struct router_decision **out, struct err *err)
{
	struct choice c = {.ask = ask,
		.d = decision_new(n),
		.facts = calloc(n + 1, sizeof *c.facts),
		.most = n};
	struct router_decision *d = *out = c.d;
	if (!d || !c.facts) {
		free(c.facts);
		*out = router_decision_free(d);
		return err_set(err, -ENOMEM, "out of memory");
	}
	router_config(r, &c.config);
	d->model = ask->model;
	d->policy = c.config.policy;
	d->threshold = c.config.threshold;
	d->prompt_tok = ask->prompt_tok;
	d->answer_tok = (uint64_t)c.config.weights.answer_tok;
	if (ask->max_tokens && ask->max_tokens < d->answer_tok)
		d->answer_tok = ask->max_tokens;
	classify_text(ask->text, ask->len, &c.config.classes, &d->classified);
	d->class = d->classified.class;
	if (ask->opinion)
		d->opinion = *ask->opinion;
	if (d->opinion.has_class)
		d->class = d->opinion.class;
	int e = decide(&c, facts, n);
	e = e == 0 && c.out_of_memory ? -ENOMEM : e;
	free(c.facts);
	if (e < 0) {
		*out = router_decision_free(d);
		return err_set(err, e, "out of memory");
	}
	return d->n ? 0 : refuse(d, err);
}
