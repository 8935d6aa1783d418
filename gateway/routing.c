/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request has a route: the models it may be tried on, in order. A concrete model's is itself and
 * its fallback; those of models/auto and models/cascade come from a decision (router.h), made from
 * the facts of all models at that moment. What came of each model is a step of the route, which the
 * session's `trace` shows. Where a model says how much the prompt asks (classing.h), and it
 * matters, the decision waits for it. Which answers of a cascade are shown is cascade.h's affair.
 */
#include "gateway/routing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/attempt.h"
#include "gateway/classing.h"
#include "gateway/paying.h"
#include "gateway/route.h"
#include "gateway/session.h"
#include "gateway/stages.h"

/* ---- facts ---- */

/* False: it is none of those that the router may take. */
static bool fill_facts(struct model *m, struct router_facts *out)
{
	struct model_facts f;
	if (model_is_virtual(m))
		return false;
	model_facts(m, &f);
	if (!f.configured || !f.answers)
		return false;
	*out = (struct router_facts){
		.price = f.price,
		.quality = f.quality,
		.has_quality = f.has_quality,
		.context_tok = f.context_tok,
		.max_tokens = f.max_tokens,
		.weight = f.weight,
		.health = f.health < 0 ? ROUTER_DOWN
			  : f.loaded   ? ROUTER_READY
				       : ROUTER_COLD,
		.running = f.running,
		.waiting = f.waiting,
	};
	memcpy(out->name, f.name, sizeof out->name);
	if (*f.why.text)
		snprintf(out->why, sizeof out->why, "%.*s", (int)sizeof out->why - 1, f.why.text);
	out->failed_lately = f.health == 2;
	latency_get(model_latency(m), &out->first_ms, &out->tok_per_s);
	router_capabilities_parse(f.capabilities, strlen(f.capabilities), &out->capabilities, NULL);
	return true;
}

/* Of all models: in room[n_room] if they have room there, else in a new array; NULL when memory is
 * out. */
static struct router_facts *all_facts(
	struct gateway *g, struct router_facts *room, size_t n_room, size_t *n)
{
	struct model **all = gateway_all_models(g);
	struct router_facts *facts = all ? room : NULL;
	size_t most = 0;
	*n = 0;
	while (all && all[most])
		most++;
	if (most > n_room)
		facts = calloc(most, sizeof *facts);
	for (size_t i = 0; facts && i < most; i++)
		*n += fill_facts(all[i], &facts[*n]);
	gateway_put_models(all);
	return facts;
}

int routing_decide(struct gateway *g, const struct router_ask *ask, struct router_decision **out,
	struct err *err)
{
	enum { FEW = 16 };
	struct router_facts room[FEW], *facts;
	size_t n;
	*out = NULL;
	facts = all_facts(g, room, FEW, &n);
	if (!facts)
		return err_set(err, -ENOMEM, "out of memory");
	int r = router_decide(g->router, ask, facts, n, out, err);
	if (facts != room)
		free(facts);
	return r;
}

int routing_decide_for(struct request *r, struct router_ask *ask, void (*go_on)(struct request *r),
	struct router_decision **out, struct err *err)
{
	ask->opinion = r->opinion;
	int e = routing_decide(r->g, ask, out, err);
	struct router_decision *d = *out;
	if (!d || !d->wants_opinion)
		return e;
	if (classing_recall(r)) {
		*out = router_decision_free(d);
		ask->opinion = r->opinion;
		return routing_decide(r->g, ask, out, err);
	}
	if (classing_begin(r, go_on)) {
		*out = router_decision_free(d);
		return 1;
	}
	if (r->opinion) /* why it cannot be asked */
		d->opinion = *r->opinion;
	return e;
}

int routing_check(struct gateway *g, struct err *err)
{
	struct model **all = gateway_all_models(g);
	bool any = false;
	for (size_t i = 0; all && all[i] && !any; i++)
		any = model_is_offered(all[i], NULL);
	int r = all ? 0 : -ENOMEM;
	gateway_put_models(all);
	return any ? 0
	       : r ? err_set(err, r, "out of memory")
		   : err_set(err, -EHOSTUNREACH,
			     "there is no model with a path or an endpoint that the router could "
			     "take");
}

void routing_price(struct gateway *g, struct money_price *out)
{
	struct model **all = gateway_all_models(g);
	struct money_price p;
	bool any = false;
	*out = (struct money_price){0};
	for (size_t i = 0; all && all[i]; i++) {
		if (!model_is_offered(all[i], &p))
			continue;
		if (!any || p.input + p.output < out->input + out->output)
			*out = p;
		any = true;
	}
	gateway_put_models(all);
}

/* ---- the route ---- */

static int fallback_of(void *arg, const char *name, struct buf *out)
{
	struct model *m = gateway_model_find(arg, name);
	struct text *t = m ? model_fallback(m) : NULL;
	int e = t ? buf_append(out, t->bytes, t->len) : 0;
	text_put(t);
	model_put(m);
	return e;
}

/* out borrows the arm. */
static void fill_ask(struct request *r, const char *model, const char *arm, struct router_ask *out)
{
	size_t len;
	const struct settings *s = &r->settings;
	size_t bytes = r->prompt->len;
	settings_get(s, SETTING_SYSTEM, &len);
	pthread_mutex_lock(&r->session->lock);
	if (!r->session->alone)
		bytes += r->session->conversation.settled_bytes;
	pthread_mutex_unlock(&r->session->lock);
	*out = (struct router_ask){
		.model = !strcmp(model, "cascade") ? ROUTER_CASCADE : ROUTER_AUTO,
		.text = r->prompt->bytes,
		.len = r->prompt->len,
		.prompt_tok = (bytes + len) / 4 + 16,
		.max_tokens = settings_integer(s, SETTING_MAX_TOKENS),
		.capabilities = ROUTER_CHAT,
		.max_latency_ms = settings_integer(s, SETTING_MAX_LATENCY_MS),
		.session = arm,
	};
	if (*settings_get(s, SETTING_FORMAT, &len) == 'j')
		out->capabilities |= ROUTER_JSON;
	out->has_max_cost = settings_dollars(s, SETTING_MAX_COST, &out->max_cost);
}

/* As routing_decide_for. */
static int lay_route(struct request *r, struct model *m, struct route **route,
	struct router_decision **d, struct err *err)
{
	if (!model_is_virtual(m))
		return route_from_model(route, model_name(m), fallback_of, r->g, err);
	struct router_ask ask;
	char arm[TEXT_NAME_SIZE];
	session_arm(r->session, r->prompt, arm);
	fill_ask(r, model_name(m), arm, &ask);
	int e = routing_decide_for(r, &ask, routing_begin, d, err);
	return e ? e : route_from_decision(route, *d, err);
}

/* new reference of the next model that is there, or NULL. */
static struct model *next_model(struct request *r)
{
	const char *name;
	while ((name = route_model(r->route, r->n_tried))) {
		r->n_tried++;
		struct model *m = gateway_model_find(r->g, name);
		if (m && !model_is_virtual(m))
			return m;
		model_put(m);
		pthread_mutex_lock(&r->session->lock);
		route_step(r->route, name, "there is no such model", NULL);
		pthread_mutex_unlock(&r->session->lock);
	}
	return NULL;
}

void routing_begin(struct request *r)
{
	struct err err = {0};
	size_t len;
	const char *name = settings_get(&r->settings, SETTING_MODEL, &len);
	struct route *route = NULL;
	struct router_decision *d = NULL;
	struct model *m = gateway_model_find(r->g, name);
	int e = m ? lay_route(r, m, &route, &d, &err)
		  : err_set(&err, -EHOSTUNREACH, "there is no model %s", name);
	if (e == 1) {
		model_put(m);
		return;
	}
	pthread_mutex_lock(&r->session->lock);
	r->route = route_free(r->route);
	router_decision_free(r->decision);
	r->route = route;
	r->decision = d;
	r->n_tried = 0;
	if (e < 0 && m)
		memcpy(r->model_name, model_name(m), strlen(model_name(m)) + 1);
	pthread_mutex_unlock(&r->session->lock);
	model_put(m);
	struct model *first = e == 0 ? next_model(r) : NULL;
	if (first && d && d->model == ROUTER_AUTO)
		model_chosen(first, d->policy);
	if (first)
		attempt_begin(r, first);
	else
		stages_fail(r, e ? e : err_set(&err, -EHOSTUNREACH, "there is no model %s", name),
			&err);
}

/* ---- from one model to the next ---- */

static void step(struct request *r, const char *outcome)
{
	pthread_mutex_lock(&r->session->lock);
	route_step(r->route, r->model_name, outcome, NULL);
	pthread_mutex_unlock(&r->session->lock);
}

/* Of the model that has had its try, with what that took. */
static void step_took(struct request *r, const char *outcome)
{
	pthread_mutex_lock(&r->session->lock);
	const struct route_took took = paying_took(r);
	route_step(r->route, r->model_name, outcome, &took);
	pthread_mutex_unlock(&r->session->lock);
}

/* The models that were tried, each with what came of it. */
static void say_all(struct request *r, const struct err *last, struct err *out)
{
	size_t n = r->n_tried < route_count(r->route) ? r->n_tried : route_count(r->route);
	char names[256] = "";
	for (size_t i = 0, at = 0; i < n && at < sizeof names; i++)
		at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "",
			route_model(r->route, i));
	err_set(out, 0, "no model could take it (tried: %s); the last one: %s", names, last->text);
}

bool routing_failed(struct request *r, int code, const struct err *err)
{
	struct err all;
	if (!r->route)
		return false;
	step_took(r, err->text);
	r->left_code = code;
	r->left_err = *err;
	r->is_makeshift = true;
	if (route_model(r->route, r->n_tried)) {
		r->stage = STAGE_NEXT;
		stages_post(r);
		return true;
	}
	if (r->best.len) {
		step(r, "the best answer before it is given");
		attempt_serve_best(r);
		return true;
	}
	if (r->n_tried < 2)
		return false;
	say_all(r, err, &all);
	stages_fail(r, code, &all);
	return true;
}

void routing_answered(struct request *r)
{
	if (!r->route)
		return;
	if (r->held_is_good) /* what it took is in cascade.c's line of its quality */
		step(r, "answered");
	else
		step_took(r, "answered");
}

void routing_advance(struct request *r)
{
	attempt_stop(r);
	if (attempt_is_busy(r))
		return;
	const char *status = r->left_code ? "failed" : "done";
	attempt_leave(r, status, r->left_code);
	paying_next(r, status);
	struct model *m = next_model(r);
	if (m) {
		attempt_begin(r, m);
	} else if (r->best.len) {
		attempt_serve_best(r);
	} else {
		struct err all;
		say_all(r, &r->left_err, &all);
		stages_fail(r, r->left_code ? r->left_code : -EHOSTUNREACH, &all);
	}
}
