/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list that is fixed when the request begins: what a person changes in a `fallback` meanwhile is
 * for the next one. Fallbacks are followed breadth first, since who writes "b c" wants c before
 * whatever b falls back to; a name that is in the list already is not added again, so circles end.
 *
 * Owned by one request; no lock.
 */
#include "gateway/route.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "gateway/model.h"

struct step {
	char model[TEXT_NAME_SIZE];
	char outcome[160];
	double ms;
	bool has_took;
	struct route_took took;
};

struct route {
	uint64_t made_ns;
	size_t n;
	char models[ROUTE_MODELS_MAX][TEXT_NAME_SIZE];
	unsigned depth[ROUTE_MODELS_MAX]; /* fallbacks between the first and this one */
	struct step *steps;               /* [n_steps], room for a power of two */
	size_t n_steps, n_more;
};

/* ---- fallback texts ---- */

/* The next word from *at on; its length, 0 at the end. */
static size_t next_name(const char *text, size_t len, size_t *at, const char **name)
{
	size_t from = *at;
	*name = text;
	if (from >= len)
		return 0;
	while (from < len && strchr(" \t\r\n", text[from]) && text[from])
		from++;
	size_t to = from;
	while (to < len && (!text[to] || !strchr(" \t\r\n", text[to])))
		to++;
	*at = to;
	*name = text + from;
	return to - from;
}

/* The last of them against those before it. */
static int check_name(char (*names)[TEXT_NAME_SIZE], size_t last, struct err *err)
{
	if (model_name_is_virtual(names[last]))
		return err_set(err, -EINVAL,
			"%s is the router's: it chooses among models and is none to fall back to",
			names[last]);
	for (size_t i = 0; i < last; i++)
		if (!strcmp(names[i], names[last]))
			return err_set(err, -EINVAL, "%s stands there twice", names[last]);
	return 0;
}

int route_fallback_check(const char *text, size_t len, struct err *err)
{
	char names[ROUTE_MODELS_MAX][TEXT_NAME_SIZE];
	const char *name;
	size_t n = 0, size;
	int r = 0;
	for (size_t at = 0; r == 0 && (size = next_name(text, len, &at, &name)) > 0; n++) {
		if (!text_is_name(name, size) || n == ROUTE_MODELS_MAX)
			return err_set(err, -EINVAL,
				"must be names below models/ with white space between them, at "
				"most %d",
				ROUTE_MODELS_MAX);
		memcpy(names[n], name, size);
		names[n][size] = '\0';
		r = check_name(names, n, err);
	}
	return r;
}

bool route_fallback_has(const char *text, size_t len, const char *model)
{
	const char *name;
	size_t at = 0, size;
	while ((size = next_name(text, len, &at, &name)) > 0)
		if (strlen(model) == size && !memcmp(name, model, size))
			return true;
	return false;
}

bool route_fallback_next(const struct text *t, size_t *at, char name[TEXT_NAME_SIZE])
{
	const char *word;
	size_t n = next_name(t->bytes, t->len, at, &word);
	if (!n || n >= TEXT_NAME_SIZE)
		return false;
	memcpy(name, word, n);
	name[n] = '\0';
	return true;
}

/* ---- making ---- */

static struct route *route_new(void)
{
	struct route *route = calloc(1, sizeof *route);
	if (route)
		route->made_ns = clock_mono_ns();
	return route;
}

static void add(struct route *route, const char *name, size_t len, unsigned depth)
{
	if (route->n == ROUTE_MODELS_MAX || !text_is_name(name, len))
		return;
	for (size_t i = 0; i < route->n; i++)
		if (strlen(route->models[i]) == len && !memcmp(route->models[i], name, len))
			return;
	memcpy(route->models[route->n], name, len); /* the rest is zero */
	route->depth[route->n++] = depth;
}

/* The list grows while it is walked. */
static int follow(struct route *route, route_fallback_fn *fallback, void *arg)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < route->n && route->depth[i] < ROUTE_DEPTH_MAX; i++) {
		struct buf text = {0};
		const char *name;
		size_t len;
		r = fallback(arg, route->models[i], &text);
		for (size_t at = 0;
			r == 0 && (len = next_name(text.data, text.len, &at, &name)) > 0;)
			add(route, name, len, route->depth[i] + 1);
		buf_free(&text);
	}
	return r;
}

int route_from_model(struct route **out, const char *model, route_fallback_fn *fallback, void *arg,
	struct err *err)
{
	struct route *route = *out = route_new();
	if (!route)
		return err_set(err, -ENOMEM, "out of memory");
	add(route, model, strlen(model), 0);
	int r = fallback ? follow(route, fallback, arg) : 0;
	if (r < 0) {
		*out = route_free(route);
		return err_set(err, r, "%s: its fallback cannot be read", model);
	}
	return 0;
}

int route_from_decision(struct route **out, const struct router_decision *d, struct err *err)
{
	struct route *route = *out = route_new();
	if (!route)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < d->n; i++)
		add(route, d->tried[i].name, strlen(d->tried[i].name), 0);
	return 0;
}

struct route *route_free(struct route *route)
{
	if (route)
		free(route->steps);
	free(route);
	return NULL;
}

/* ---- walking ---- */

size_t route_count(const struct route *route)
{
	return route->n;
}

const char *route_model(const struct route *route, size_t i)
{
	return i < route->n ? route->models[i] : NULL;
}

static struct step *new_step(struct route *route)
{
	size_t n = route->n_steps;
	if (n == ROUTE_STEPS_MAX)
		return NULL;
	if (!(n & (n - 1))) { /* 0 or a power of two: full */
		struct step *more = realloc(route->steps, (n ? 2 * n : 1) * sizeof *more);
		if (!more)
			return NULL;
		route->steps = more;
	}
	route->n_steps++;
	return &route->steps[n];
}

void route_step(
	struct route *route, const char *model, const char *outcome, const struct route_took *took)
{
	struct step *s = new_step(route);
	if (!s) {
		route->n_more++;
		return;
	}
	snprintf(s->model, sizeof s->model, "%s", model);
	snprintf(s->outcome, sizeof s->outcome, "%s", outcome);
	s->outcome[utf8_valid_prefix(s->outcome, strlen(s->outcome))] = '\0';
	s->ms = (double)(clock_mono_ns() - route->made_ns) / 1e6;
	s->has_took = took && (took->tokens.prompt || took->tokens.output);
	s->took = took ? *took : (struct route_took){0};
}

static int took_json(const struct route_took *t, struct buf *out)
{
	int r = buf_printf(out,
		", \"prompt_tokens\": %" PRIu64 ", \"cached_tokens\": %" PRIu64
		", \"output_tokens\": %" PRIu64 ", \"cost\": ",
		t->tokens.prompt, t->tokens.cached, t->tokens.output);
	return r ? r : money_print(t->cost, out);
}

int route_json(const struct route *route, struct buf *out)
{
	int r = buf_append_str(out, "{\"models\": [");
	for (size_t i = 0; r == 0 && i < route->n; i++)
		r = buf_printf(out, "%s\"%s\"", i ? ", " : "", route->models[i]);
	r = r ? r : buf_append_str(out, "],\n \"steps\": [");
	for (size_t i = 0; r == 0 && i < route->n_steps; i++) {
		const struct step *s = &route->steps[i];
		r = buf_printf(out, "%s{\"model\": ", i ? ",\n\t" : "");
		r = r ? r : text_append_json(out, s->model, strlen(s->model));
		r = r ? r : buf_printf(out, ", \"ms\": %.3f, \"outcome\": ", s->ms);
		r = r ? r : text_append_json(out, s->outcome, strlen(s->outcome));
		if (r == 0 && s->has_took)
			r = took_json(&s->took, out);
		r = r ? r : buf_append_str(out, "}");
	}
	r = r ? r : buf_append_str(out, "]");
	if (r == 0 && route->n_more)
		r = buf_printf(out, ", \"more_steps\": %zu", route->n_more);
	return r ? r : buf_append_str(out, "}\n");
}
