/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A decision is a function of its arguments: the configuration copied at its beginning, the ask and
 * the facts. Two steps: drop who cannot, with a sentence each; order the others by the policy
 * (router_order.c). Nothing is remembered between decisions: latencies and health are facts that
 * the caller has measured.
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

static bool counts_class(enum router_policy policy, enum router_model model)
{
	return model == ROUTER_CASCADE || policy == ROUTER_BALANCED;
}

bool router_counts_class(struct router *r, enum router_model model)
{
	pthread_mutex_lock(&r->lock);
	enum router_policy policy = r->config.policy;
	pthread_mutex_unlock(&r->lock);
	return counts_class(policy, model);
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

void router_drop(struct router_choice *c, const char *name, const char *format, ...)
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

static void drop_incapable(struct router_choice *c, const struct router_facts *f)
{
	char missing[80] = "";
	for (size_t i = 0; i < N_CAPABILITIES; i++)
		if (c->ask->capabilities & ~f->capabilities & capabilities[i].bit) {
			strcat(missing, " ");
			strcat(missing, capabilities[i].word);
		}
	router_drop(c, f->name, "cannot do%s", *missing ? missing : " what is asked");
}

/* The longest answer that it may give. */
static uint64_t longest_tok(const struct router_choice *c, const struct router_facts *f)
{
	uint64_t room = f->context_tok ? f->context_tok - c->ask->prompt_tok : UINT64_MAX;
	uint64_t most = c->ask->max_tokens ? c->ask->max_tokens : UINT64_MAX;
	most = f->max_tokens && f->max_tokens < most ? f->max_tokens : most;
	most = room < most ? room : most;
	return most < UINT64_MAX ? most : c->d->answer_tok;
}

/* True: it was dropped. Else *out has its costs and its time. */
static bool examine(
	struct router_choice *c, const struct router_facts *f, struct router_candidate *out)
{
	const struct router_ask *ask = c->ask;
	char a[MONEY_TEXT_SIZE], b[MONEY_TEXT_SIZE];
	if (f->health == ROUTER_DOWN) {
		router_drop(
			c, f->name, "down%s%.*s", *f->why ? ": " : "", (int)sizeof f->why, f->why);
		return true;
	}
	if (ask->capabilities & ~f->capabilities) {
		drop_incapable(c, f);
		return true;
	}
	if (f->context_tok && ask->prompt_tok >= f->context_tok) {
		router_drop(c, f->name, "the prompt has %" PRIu64 " tokens, its context %" PRIu64,
			ask->prompt_tok, f->context_tok);
		return true;
	}
	const struct money_tokens expected = {
		.prompt = ask->prompt_tok, .output = c->d->answer_tok};
	const struct money_tokens most = {.prompt = ask->prompt_tok, .output = longest_tok(c, f)};
	out->cost = money_cost(&f->price, &expected);
	out->worst = money_cost(&f->price, &most);
	if (ask->has_max_cost && out->worst > ask->max_cost) {
		router_drop(c, f->name, "may cost %s dollars, max_cost is %s",
			money_text(out->worst, a), money_text(ask->max_cost, b));
		return true;
	}
	out->is_measured = f->first_ms > 0 && f->tok_per_s > 0;
	if (out->is_measured)
		out->expected_ms = f->first_ms + (double)c->d->answer_tok * 1000 / f->tok_per_s +
				   (f->health == ROUTER_COLD ? c->config.weights.cold_ms : 0);
	if (ask->max_latency_ms && out->expected_ms > (double)ask->max_latency_ms) {
		router_drop(c, f->name, "is expected to take %.0f ms, max_latency_ms is %" PRIu64,
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

static int decide(struct router_choice *c, const struct router_facts *facts, size_t n)
{
	struct router_decision *d = c->d;
	for (size_t i = 0; i < n; i++)
		if (!examine(c, &facts[i], &d->tried[d->n]))
			c->facts[d->n++] = &facts[i];
		else
			d->tried[d->n] = (struct router_candidate){0};
	return router_order(c, facts, n);
}

int router_decide(struct router *r, const struct router_ask *ask, const struct router_facts *facts,
	size_t n, struct router_decision **out, struct err *err)
{
	struct router_choice c = {.ask = ask,
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
	d->wants_opinion = !ask->opinion && d->n > 1 && counts_class(d->policy, d->model);
	return d->n ? 0 : refuse(d, err);
}
