/* SPDX-License-Identifier: Apache-2.0 */
/* A decision as a person reads it: one JSON object, a line for each candidate. Names are of
 * [A-Za-z0-9._-] and numbers finite, so only reasons need quoting. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/router_parts.h"

struct router_decision *router_decision_free(struct router_decision *d)
{
	if (!d)
		return NULL;
	free(d->tried);
	free(d->dropped);
	free(d);
	return NULL;
}

/* NAME or null */
static int print_name(struct buf *out, const char *key, const char *name)
{
	return *name ? buf_printf(out, ", \"%s\": \"%s\"", key, name)
		     : buf_printf(out, ", \"%s\": null", key);
}

static int print_features(const struct classify_features *f, struct buf *out)
{
	const char *const *names = classify_feature_names();
	int r = buf_append_str(out, " \"features\": {");
	for (size_t i = 0; r == 0 && names[i]; i++)
		r = buf_printf(
			out, "%s\"%s\": %.3f", i ? ", " : "", names[i], classify_feature(f, i));
	return r ? r : buf_append_str(out, "},\n");
}

/* Who decided on the class, and what both said. */
static int print_opinion(const struct router_decision *d, struct buf *out)
{
	const struct router_opinion *o = &d->opinion;
	int r = buf_printf(out,
		" \"class_by\": \"%s\", \"class_by_rules\": \"%s\",\n"
		" \"classifier\": {\"model\": \"%s\", \"class\": ",
		o->has_class ? "model" : "rules", classify_name(d->classified.class), o->model);
	if (r == 0 && o->has_class)
		return buf_printf(out,
			"\"%s\", \"shares\": [%.3f, %.3f, %.3f], \"remembered\": %s},\n",
			classify_name(o->class), o->share[0], o->share[1], o->share[2],
			o->is_remembered ? "true" : "false");
	r = r ? r : buf_append_str(out, "null, \"why\": ");
	r = r ? r : text_append_json(out, o->why, strlen(o->why));
	return r ? r : buf_append_str(out, "},\n");
}

static int print_head(const struct router_decision *d, struct buf *out)
{
	const struct classify_result *c = &d->classified;
	bool cascade = d->model == ROUTER_CASCADE;
	int r = buf_printf(out,
		"{\"model\": \"%s\", \"policy\": \"%s\", \"class\": \"%s\", \"score\": %.3f, "
		"\"language\": \"%s\",\n",
		cascade ? "cascade" : "auto", router_setting_policy_name(d->policy),
		classify_name(d->class), c->score, c->language);
	r = r ? r : print_features(&c->features, out);
	r = r || !*d->opinion.model ? r : print_opinion(d, out);
	r = r ? r
	      : buf_printf(out, " \"prompt_tokens\": %" PRIu64 ", \"answer_tokens\": %" PRIu64,
			d->prompt_tok, d->answer_tok);
	r = r ? r : print_name(out, "chosen", d->n ? d->tried[0].name : "");
	r = r ? r : print_name(out, "arm", d->arm);
	if (r == 0 && cascade)
		r = buf_printf(out, ", \"threshold\": %.9g", d->threshold);
	return r;
}

/* Without "-0.0000". */
static double clean(double x)
{
	return x > -0.00005 && x < 0.00005 ? 0 : x;
}

static int print_candidate(const struct router_candidate *k, struct buf *out)
{
	char cost[MONEY_TEXT_SIZE], worst[MONEY_TEXT_SIZE];
	int r = buf_printf(out,
		"{\"model\": \"%s\", \"score\": %.4f, \"quality\": %.4f, \"cost\": %.4f, "
		"\"latency\": %.4f, \"load\": %.4f, \"dollars\": %s, \"dollars_at_most\": %s, "
		"\"measured\": %s, \"expected_ms\": ",
		k->name, clean(k->score), clean(k->quality_term), clean(k->cost_term),
		clean(k->latency_term), clean(k->load_term), money_text(k->cost, cost),
		money_text(k->worst, worst), k->is_measured ? "true" : "false");
	if (r == 0 && k->expected_ms > 0)
		r = buf_printf(out, "%.1f", k->expected_ms);
	else
		r = r ? r : buf_append_str(out, "null");
	if (r == 0 && *k->failure) {
		r = buf_append_str(out, ", \"failed\": ");
		r = r ? r : text_append_json(out, k->failure, strlen(k->failure));
	}
	return r ? r : buf_append_str(out, "}");
}

static int print_dropped(const struct router_dropped *x, struct buf *out)
{
	int r = buf_printf(out, "{\"model\": \"%s\", \"why\": ", x->name);
	r = r ? r : text_append_json(out, x->why, strlen(x->why));
	return r ? r : buf_append_str(out, "}");
}

int router_decision_json(const struct router_decision *d, struct buf *out)
{
	int r = print_head(d, out);
	r = r ? r : buf_append_str(out, ",\n \"candidates\": [");
	for (size_t i = 0; r == 0 && i < d->n; i++) {
		r = i ? buf_append_str(out, ",\n\t") : 0;
		r = r ? r : print_candidate(&d->tried[i], out);
	}
	r = r ? r : buf_append_str(out, "],\n \"dropped\": [");
	for (size_t i = 0; r == 0 && i < d->n_dropped; i++) {
		r = i ? buf_append_str(out, ",\n\t") : 0;
		r = r ? r : print_dropped(&d->dropped[i], out);
	}
	return r ? r : buf_append_str(out, "]}\n");
}
