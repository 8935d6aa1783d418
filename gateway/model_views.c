/* SPDX-License-Identifier: Apache-2.0 */
/* What a model shows: its state and what it is, its metrics, and the facts that a router decides
 * upon. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/ask_errors.h"
#include "gateway/model_parts.h"
#include "gateway/secrets.h"
#include "gateway/upstream.h"

/* Whether it can take requests, by what the model itself knows: as provider.h's health. With the
 * lock held. */
static int own_health(struct model *m, const char **word, struct err *why)
{
	static const char *const words[] = {[MODEL_UNLOADED] = "unloaded",
		[MODEL_LOADING] = "loading",
		[MODEL_READY] = "ready",
		[MODEL_FAILED] = "failed"};
	bool upstream = model_is_upstream(m);
	bool configured = upstream || model_settings_is_set(&m->settings, MODEL_PATH);
	*word = upstream && m->state == MODEL_UNLOADED ? "ready" : words[m->state];
	if (m->retired)
		return err_set(why, -EHOSTUNREACH, "model %s was removed", m->name);
	if (!configured && m->state != MODEL_READY) {
		if (m->state != MODEL_LOADING)
			*word = "unset";
		return model_unconfigured(m, -EHOSTUNREACH, why);
	}
	if (m->state == MODEL_FAILED)
		return err_set(why, -EHOSTUNREACH, "%s", m->failure.text);
	return 0;
}

/* The same, with what its provider says of what is loaded (l; NULL: nothing). */
static int health_of(struct model *m, struct loaded *l, const char **word, struct err *why)
{
	pthread_mutex_lock(&m->lock);
	int r = own_health(m, word, why);
	pthread_mutex_unlock(&m->lock);
	return r || !l || !l->provider->health ? r : l->provider->health(l->handle, word, why);
}

static int render_state(struct model *m, struct buf *out)
{
	model_look_at_file(m, NULL);
	struct loaded *l = model_peek(m);
	const char *word;
	struct err why = {0};
	health_of(m, l, &word, &why);
	loaded_put(l);
	if (!strcmp(word, "loading"))
		return buf_printf(out, "loading %u%%\n", atomic_load(&m->percent));
	if (!strcmp(word, "failed"))
		return buf_printf(out, "failed: %s\n", why.text);
	if (!strcmp(word, "unset"))
		return buf_printf(out, "unset: %s\n", why.text);
	return buf_printf(out, "%s\n", word);
}

static int add_value(struct buf *out, const char *key, const struct text *value)
{
	size_t valid = value ? utf8_valid_prefix(value->bytes, value->len) : 0;
	int r = buf_printf(out, ",\n  \"%s\": ", key);
	return r ? r : text_append_json(out, value ? value->bytes : "", valid);
}

static int render_info(struct model *m, struct buf *out)
{
	model_look_at_file(m, NULL);
	struct loaded *l = model_peek(m);
	const char *word;
	struct err why = {0};
	health_of(m, l, &word, &why);
	pthread_mutex_lock(&m->lock);
	struct text *path = text_ref(m->settings.value[MODEL_PATH]);
	bool upstream = model_is_upstream(m);
	bool outdated = m->outdated || model_file_locked(m, NULL) > 0;
	pthread_mutex_unlock(&m->lock);
	int r = buf_printf(out, "{\n  \"name\": \"%s\",\n  \"state\": \"%s\"", m->name, word);
	r = r || upstream ? r : add_value(out, "path", path);
	if (r == 0 && !strcmp(word, "unset"))
		r = buf_append_str(out, ",\n  \"unset\": \"has neither path nor endpoint\"");
	if (r == 0 && upstream && !l) /* else its provider says it */
		r = buf_printf(out, ",\n  \"key\": %s",
			secrets_has(m->g->secrets, m->name) ? "true" : "false");
	r = r || !l ? r : l->provider->info(l->handle, out);
	if (r == 0 && l && !upstream && outdated)
		r = buf_append_str(out, ",\n  \"outdated\": true");
	r = r ? r : buf_append_str(out, "\n}\n");
	text_put(path);
	loaded_put(l);
	return r;
}

void model_stats(struct model *m, struct provider_stats *out, bool *is_loaded)
{
	struct loaded *l = model_peek(m);
	*out = (struct provider_stats){0};
	*is_loaded = l;
	if (l)
		l->provider->stats(l->handle, out);
	loaded_put(l);
}

int models_render_upstreams(struct model *const *models, size_t n, struct buf *out)
{
	struct loaded **held = calloc(n ? n : 1, sizeof *held);
	void **handles = calloc(n ? n : 1, sizeof *handles);
	size_t n_held = 0;
	int r = held && handles ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && i < n; i++) {
		struct loaded *l = model_peek(models[i]);
		if (l && l->provider == &upstream_provider) {
			held[n_held] = l;
			handles[n_held++] = l->handle;
		} else {
			loaded_put(l);
		}
	}
	r = r ? r : upstream_metrics(handles, n_held, out);
	for (size_t i = 0; held && i < n_held; i++)
		loaded_put(held[i]);
	free(held);
	free(handles);
	return r;
}

/* ---- how models are computed ---- */

struct work_row {
	const char *name, *type, *help;
	bool of_device; /* only models that are computed on one have it */
	double (*read)(const struct provider_work *w);
};

#define WORK(name, value)                                                                          \
	static double work_##name(const struct provider_work *w)                                   \
	{                                                                                          \
		return (double)(value);                                                            \
	}

WORK(batch, w->step_sequences)
WORK(tok_s, w->output_tok_s)
WORK(steps, w->steps)
WORK(memory_used, w->memory_used)
WORK(memory_free, w->memory_free)
WORK(utilisation, w->utilisation)
WORK(graph_hits, w->graph_hits)
WORK(graph_misses, w->graph_misses)
WORK(graphs_off, w->graphs_off != NULL)

static const struct work_row work_rows[] = {
	{"llm_engine_batch_sequences", "gauge", "Sequences in the last step.", false, work_batch},
	{"llm_engine_tokens_per_second", "gauge", "Tokens of answers, lately.", false, work_tok_s},
	{"llm_engine_steps_total", "counter", "Steps computed since it was loaded.", false,
		work_steps},
	{"llm_device_memory_used_bytes", "gauge", "Memory of its GPU in use, by whomever.", true,
		work_memory_used},
	{"llm_device_memory_free_bytes", "gauge", "Memory of its GPU that is free.", true,
		work_memory_free},
	{"llm_device_utilisation", "gauge", "Of its GPU, 0 to 1.", true, work_utilisation},
	{"llm_engine_graph_hits_total", "counter", "Steps replayed from a graph.", true,
		work_graph_hits},
	{"llm_engine_graph_misses_total", "counter", "Steps that no graph fitted.", true,
		work_graph_misses},
	{"llm_engine_graphs_off", "gauge", "Whether some are not replayed, as one failed.", true,
		work_graphs_off},
};

/* What each model has to say: one without a backend has nothing. */
static void look_at_work(
	struct model *const *models, size_t n, struct provider_work *work, struct loaded **held)
{
	for (size_t i = 0; i < n; i++) {
		held[i] = model_peek(models[i]);
		if (held[i] && held[i]->provider->work)
			held[i]->provider->work(held[i]->handle, &work[i]);
	}
}

static int render_work_row(const struct work_row *row, struct model *const *models, size_t n,
	const struct provider_work *work, struct buf *out)
{
	bool headed = false;
	int r = 0;
	for (size_t i = 0; r == 0 && i < n; i++) {
		const struct provider_work *w = &work[i];
		if (!w->backend || (row->of_device && w->memory_used + w->memory_free == 0) ||
			row->read(w) < 0)
			continue;
		if (!headed)
			r = metrics_head(out, row->name, row->type, row->help);
		headed = true;
		r = r ? r
		      : buf_printf(out, "%s{model=\"%s\",backend=\"%s\"} %.10g\n", row->name,
				models[i]->name, w->backend, row->read(w));
	}
	return r;
}

int models_render_work(struct model *const *models, size_t n, struct buf *out)
{
	struct provider_work *work = calloc(n ? n : 1, sizeof *work);
	struct loaded **held = calloc(n ? n : 1, sizeof *held);
	int r = work && held ? 0 : -ENOMEM;
	if (r == 0)
		look_at_work(models, n, work, held);
	for (size_t i = 0; r == 0 && i < sizeof work_rows / sizeof *work_rows; i++)
		r = render_work_row(&work_rows[i], models, n, work, out);
	for (size_t i = 0; held && i < n; i++)
		loaded_put(held[i]);
	free(held);
	free(work);
	return r;
}

int model_render(struct model *m, enum model_view view, struct buf *out)
{
	const char *name = m->name;
	switch (view) {
	case MODEL_STATE:
		return m->is_virtual ? model_virtual_state(m, out) : render_state(m, out);
	case MODEL_INFO:
		return m->is_virtual ? model_virtual_info(m, out) : render_info(m, out);
	case MODEL_METRICS:
		break;
	}
	int r = metrics_render(&m->metrics, &name, 1, out);
	r = r ? r : models_render_upstreams(&m, 1, out);
	return r ? r : models_render_work(&m, 1, out);
}

/* ---- facts ---- */

/* With the lock held. */
static void take_settings(const struct model *m, struct model_facts *out)
{
	const struct model_settings *s = &m->settings;
	const struct text *capabilities = s->value[MODEL_CAPABILITIES];
	out->price = m->price;
	out->quality = model_settings_real(s, MODEL_QUALITY);
	out->has_quality = model_settings_is_set(s, MODEL_QUALITY);
	if (capabilities)
		snprintf(out->capabilities, sizeof out->capabilities, "%s", capabilities->bytes);
	out->context_tok = (uint32_t)model_settings_integer(s, MODEL_CONTEXT);
	out->max_tokens = (uint32_t)model_settings_integer(s, MODEL_MAX_TOKENS);
	out->weight = (uint32_t)model_settings_integer(s, MODEL_WEIGHT);
	out->upstream = model_is_upstream(m);
	out->configured = out->upstream || model_settings_is_set(s, MODEL_PATH);
}

const char *model_provider(struct model *m)
{
	pthread_mutex_lock(&m->lock);
	const char *provider = !model_is_upstream(m) ? "local"
			       : *model_settings_text(&m->settings, MODEL_PROTOCOL) == 'a'
				       ? "anthropic"
				       : "openai";
	pthread_mutex_unlock(&m->lock);
	return provider;
}

/* What it can, by what is loaded (l; NULL: nothing) or once was, where that was a file that is
 * still the one set. False: nothing is known, and it may give answers. With the lock held. */
static bool knows_powers(const struct model *m, const struct loaded *l, bool *answers, bool *embeds)
{
	bool was = !l && m->is_known && !model_is_upstream(m);
	*answers = l ? l->limits.answers : !was || m->answers;
	*embeds = l ? l->limits.embeds : was && m->embeds;
	return l || was;
}

int model_facts(struct model *m, struct model_facts *out)
{
	struct provider_stats stats = {0};
	struct loaded *old;
	*out = (struct model_facts){0};
	memcpy(out->name, m->name, sizeof out->name);
	/* Once, and not in each of these: it is asked for all models for each request of the
	 * router. */
	pthread_mutex_lock(&m->lock);
	struct loaded *l = model_peek_locked(m, &old);
	take_settings(m, out);
	out->health = own_health(m, &out->word, &out->why);
	out->is_known = knows_powers(m, l, &out->answers, &out->embeds);
	pthread_mutex_unlock(&m->lock);
	loaded_put(old);
	out->loaded = l;
	if (out->health == 0 && l && l->provider->health)
		out->health = l->provider->health(l->handle, &out->word, &out->why);
	gate_count(m->gate, &out->running, &out->waiting);
	if (l) {
		uint32_t limit = l->limits.context_tok;
		if (!out->context_tok || limit < out->context_tok)
			out->context_tok = limit;
		l->provider->stats(l->handle, &stats);
	}
	/* Not everything comes through the gate: judges do not. */
	if (out->running < stats.running + stats.waiting)
		out->running = stats.running + stats.waiting;
	loaded_put(l);
	return out->health;
}

bool model_is_offered(struct model *m, struct money_price *price)
{
	if (m->is_virtual)
		return false;
	pthread_mutex_lock(&m->lock);
	bool configured = model_is_upstream(m) || model_settings_is_set(&m->settings, MODEL_PATH);
	bool answers, embeds;
	struct loaded *old, *l = model_peek_locked(m, &old);
	knows_powers(m, l, &answers, &embeds);
	if (price)
		*price = m->price;
	pthread_mutex_unlock(&m->lock);
	loaded_put(old);
	loaded_put(l);
	return configured && answers;
}

int model_ask_error(struct model *m, uid_t uid, struct buf *out, uint64_t *changed_ns)
{
	return ask_errors_render(m->g->ask_errors, m->serial, uid, out, changed_ns);
}
