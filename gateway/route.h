/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_ROUTE_H
#define GATEWAY_ROUTE_H

/* The models that one request is tried on, in order, and what came of each. */

#include "base/buf.h"
#include "base/err.h"
#include "gateway/money.h"
#include "gateway/router.h"
#include "gateway/text.h"

#define ROUTE_MODELS_MAX 16 /* of a route, and names in a fallback text */
#define ROUTE_DEPTH_MAX 4   /* fallbacks of fallbacks ... */
#define ROUTE_STEPS_MAX 64  /* kept; later ones are counted */

struct route;

/*
 * The file `fallback` of a model: names below models/ with white space between them, at most 16,
 * each once, and none of the router's; "" is none. That there is no such model (yet) is no fault
 * here. 0; -EINVAL with what is allowed.
 */
int route_fallback_check(const char *text, size_t len, struct err *err);
/* Whether such a text names that model. */
bool route_fallback_has(const char *text, size_t len, const char *model);
/* The next name of such a text from *at on (0 at first), which is moved behind it; false: none. */
bool route_fallback_next(const struct text *t, size_t *at, char name[TEXT_NAME_SIZE]);

/* Appends the fallback text of a model. 0, also when there is no such model; -ENOMEM. */
typedef int route_fallback_fn(void *arg, const char *model, struct buf *out);

/*
 * new: the model, then those of its fallback, then theirs (nearer ones first), each once, to
 * ROUTE_DEPTH_MAX and ROUTE_MODELS_MAX. `fallback` may be NULL. 0; -ENOMEM; what `fallback`
 * returns.
 */
int route_from_model(struct route **out, const char *model, route_fallback_fn *fallback, void *arg,
	struct err *err);
/* new: the candidates of a decision, at most ROUTE_MODELS_MAX. */
int route_from_decision(struct route **out, const struct router_decision *d, struct err *err);
struct route *route_free(struct route *route); /* accepts NULL, returns NULL */

size_t route_count(const struct route *route);
/* borrows the name of a model of the list; NULL from route_count on. */
const char *route_model(const struct route *route, size_t i);

/* What a try on a model took. */
struct route_took {
	struct money_tokens tokens;
	money cost;
};
/* Writes down what came of a model, a sentence: it is cut at 159 bytes, and where it is not UTF-8.
 * took is NULL where that was no try on it. */
void route_step(
	struct route *route, const char *model, const char *outcome, const struct route_took *took);
/*
 * One JSON object, newline at the end: {"models": [NAME, ...], "steps": [{"model", "ms": since the
 * route was made, "outcome", and, where it took any, "prompt_tokens", "cached_tokens",
 * "output_tokens", "cost"}, ...], "more_steps": only if some were not kept}. Errors as buf_append.
 */
int route_json(const struct route *route, struct buf *out);

#endif
