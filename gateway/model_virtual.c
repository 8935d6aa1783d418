/* SPDX-License-Identifier: Apache-2.0 */
/*
 * models/auto and models/cascade: names that stand for a decision of the router. They are models to
 * all who find, ask or render one, and have nothing of their own but that. And what the router
 * keeps of the others.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/metrics.h"
#include "gateway/model_parts.h"
#include "gateway/routing.h"

bool model_name_is_virtual(const char *name)
{
	return !strcmp(name, "auto") || !strcmp(name, "cascade");
}

bool model_is_virtual(const struct model *m)
{
	return m->is_virtual;
}

int model_is_the_routers(const struct model *m, struct err *err)
{
	return err_set(
		err, -EPERM, "models/%s is the router's and has no settings: see router/", m->name);
}

int model_virtual_state(struct model *m, struct buf *out)
{
	struct err why = {0};
	if (routing_check(m->g, &why) == 0)
		return buf_append_str(out, "ready\n");
	return buf_printf(out, "failed: %s\n", why.text);
}

int model_virtual_info(struct model *m, struct buf *out)
{
	struct router_config c;
	static const char *const policies[] = {"cost", "quality", "latency", "balanced", "split"};
	router_config(m->g->router, &c);
	int r = buf_printf(out, "{\n  \"name\": \"%s\",\n  \"state\": \"%s\"", m->name,
		routing_check(m->g, NULL) == 0 ? "ready" : "failed");
	if (r == 0 && !strcmp(m->name, "cascade"))
		r = buf_printf(out, ",\n  \"threshold\": %g", c.threshold);
	else if (r == 0)
		r = buf_printf(out, ",\n  \"policy\": \"%s\"", policies[c.policy]);
	return r ? r : buf_append_str(out, "\n}\n");
}

/* ---- what the router keeps of the others ---- */

struct latency *model_latency(struct model *m)
{
	return &m->latency;
}

void model_chosen(struct model *m, enum router_policy policy)
{
	atomic_fetch_add_explicit(&m->chosen[policy], 1, memory_order_relaxed);
}

int models_render_chosen(struct model *const *models, size_t n, struct buf *out)
{
	static const char *const policies[] = {"cost", "quality", "latency", "balanced", "split"};
	int r = metrics_head(out, "llm_router_decisions_total", "counter",
		"Requests to models/auto that went to a model first, by policy.");
	for (size_t i = 0; r == 0 && i < n; i++)
		for (size_t p = 0; r == 0 && p <= ROUTER_SPLIT; p++) {
			uint64_t times =
				atomic_load_explicit(&models[i]->chosen[p], memory_order_relaxed);
			if (times)
				r = buf_printf(out,
					"llm_router_decisions_total{model=\"%s\",policy=\"%s\"} "
					"%" PRIu64 "\n",
					models[i]->name, policies[p], times);
		}
	return r;
}

void model_arm_add(struct model *m, const struct trace_record *record)
{
	struct metrics *arm = atomic_load(&m->arm);
	if (!arm)
		arm = metrics_new(); /* on the loop: nobody else makes one */
	if (!arm)
		return;
	metrics_add(arm, record);
	atomic_store(&m->arm, arm);
}

int models_render_arms(struct model *const *models, size_t n, struct buf *out)
{
	struct metrics **sets = calloc(n + 1, sizeof *sets);
	const char **names = calloc(n + 1, sizeof *names);
	size_t n_arms = 0;
	int r = sets && names ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && i < n; i++) {
		sets[n_arms] = atomic_load(&models[i]->arm);
		names[n_arms] = models[i]->name;
		n_arms += sets[n_arms] != NULL;
	}
	if (n_arms)
		r = metrics_render_arms(sets, names, n_arms, out);
	free(names);
	free(sets);
	return r;
}

/* ---- what a name stands for ---- */

static const char unset = 1;

/* With the lock held. Each value with its NUL, or `unset`: at once, as all models are asked for
 * each request of models/auto. */
static int add_settings(const struct model *m, struct buf *out)
{
	size_t bytes = N_MODEL_SETTINGS;
	for (size_t i = 0; i < N_MODEL_SETTINGS; i++)
		bytes += text_len(m->settings.value[i]);
	int r = buf_reserve(out, bytes);
	if (r < 0)
		return r;
	char *at = out->data + out->len;
	for (size_t i = 0; i < N_MODEL_SETTINGS; i++) {
		const struct text *t = m->settings.value[i];
		if (!t) {
			*at++ = unset;
			continue;
		}
		memcpy(at, t->bytes, t->len);
		at[t->len] = '\0';
		at += t->len + 1;
	}
	*at = '\0';
	out->len += bytes;
	return 0;
}

/* With the lock held. What it is beside its settings: 1, as it is not loaded, that is not known. Of
 * an upstream there is nothing, whether it has a handle yet or not. Of a local one that is not
 * loaded there is this program's part: behind models/auto it may be loaded after the key was made,
 * and answer. */
static int add_print(const struct model *m, struct buf *out)
{
	static const struct model_print none;
	if (model_is_upstream(m))
		return buf_append(out, (const char *)&none, sizeof none);
	int r = local_provider.identity(NULL, out);
	if (r == 0 && m->loaded)
		r = buf_append(out, (const char *)&m->loaded->print, sizeof m->loaded->print);
	bool known = model_is_current(m) && model_file_locked(m, NULL) >= 0;
	return r ? r : !known;
}

/* Its own settings and what answers. 1: add_print. */
static int add_own(struct model *m, struct buf *out)
{
	pthread_mutex_lock(&m->lock);
	int r = buf_append(out, m->name, strlen(m->name) + 1);
	r = r ? r : add_settings(m, out);
	r = r ? r : add_print(m, out);
	pthread_mutex_unlock(&m->lock);
	return r;
}

/* Which model it is that the router asks: a name such as `default` may stand for another than it
 * did. What that one is, is said with all the others (add_all). */
static int add_asked(struct gateway *g, const char *name, struct buf *out)
{
	struct model *asked = *name ? gateway_model_find(g, name) : NULL;
	const char *stands_for = asked ? asked->name : "";
	int r = buf_append(out, stands_for, strlen(stands_for) + 1);
	model_put(asked);
	return r;
}

static int add_routers(struct model *m, const char *session, struct buf *out)
{
	struct router_config c;
	int r = router_identity(m->g->router, out);
	router_config(m->g->router, &c);
	r = r ? r : add_asked(m->g, c.cascade_judge, out);
	r = r ? r : add_asked(m->g, c.classifier_model, out);
	/* The arm of a split is the session's. */
	return r || c.policy != ROUTER_SPLIT ? r : buf_append(out, session, strlen(session) + 1);
}

/* Any model may be chosen; those that are not loaded say so little that a reload is not seen, but
 * then their settings are the same, and so is the choice. */
static int add_all(struct gateway *g, struct buf *out)
{
	struct model **all = gateway_all_models(g);
	int r = all ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && all[i]; i++) {
		r = all[i]->is_virtual ? 0 : add_own(all[i], out);
		r = r > 0 ? 0 : r;
	}
	gateway_put_models(all);
	return r;
}

int model_identity(struct model *m, const char *session, struct buf *out)
{
	int r;
	if (m->is_virtual) {
		r = buf_append(out, m->name, strlen(m->name) + 1);
		r = r ? r : add_routers(m, session, out);
		return r ? r : add_all(m->g, out);
	}
	r = add_own(m, out);
	struct text *fallback = r == 0 ? model_fallback(m) : NULL;
	if (fallback)
		r = add_all(m->g, out);
	text_put(fallback);
	return r;
}

bool model_awaits_load(struct model *m)
{
	pthread_mutex_lock(&m->lock);
	bool local = !m->is_virtual && !m->retired && !model_is_upstream(m) &&
		     model_settings_is_set(&m->settings, MODEL_PATH);
	bool awaits = local && (m->state == MODEL_UNLOADED || m->state == MODEL_LOADING);
	pthread_mutex_unlock(&m->lock);
	return awaits;
}

bool model_may_be_another(struct model *m)
{
	struct text *fallback = m->is_virtual ? NULL : model_fallback(m);
	bool another = m->is_virtual || fallback;
	text_put(fallback);
	return another;
}

struct model *model_being_loaded(struct gateway *g)
{
	struct model **all = gateway_all_models(g), *found = NULL;
	for (size_t i = 0; all && all[i]; i++) {
		pthread_mutex_lock(&all[i]->lock);
		if (!found && all[i]->state == MODEL_LOADING)
			found = model_ref(all[i]);
		pthread_mutex_unlock(&all[i]->lock);
	}
	gateway_put_models(all);
	return found;
}
