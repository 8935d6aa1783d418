/* SPDX-License-Identifier: Apache-2.0 */
/* What a model shows: its state and what it is, its metrics, and the facts that a router decides
 * upon. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/model_parts.h"
#include "gateway/secrets.h"
#include "gateway/upstream.h"

/* Whether it can take requests: as provider.h's health, of what is loaded or would be. */
static int health_of(struct model *m, struct loaded *l, const char **word, struct err *why)
{
	static const char *const words[] = {[MODEL_UNLOADED] = "unloaded",
		[MODEL_LOADING] = "loading",
		[MODEL_READY] = "ready",
		[MODEL_FAILED] = "failed"};
	pthread_mutex_lock(&m->lock);
	enum model_state state = m->state;
	bool upstream = model_is_upstream(m), retired = m->retired;
	bool configured = upstream || model_settings_is_set(&m->settings, MODEL_PATH);
	struct err failure = m->failure;
	pthread_mutex_unlock(&m->lock);
	*word = upstream && state == MODEL_UNLOADED ? "ready" : words[state];
	if (retired)
		return err_set(why, -EHOSTUNREACH, "model %s was removed", m->name);
	if (!configured && state != MODEL_READY)
		return model_unconfigured(m, -EHOSTUNREACH, why);
	if (state == MODEL_FAILED)
		return err_set(why, -EHOSTUNREACH, "%s", failure.text);
	if (l && l->provider->health)
		return l->provider->health(l->handle, word, why);
	return 0;
}

static int render_state(struct model *m, struct buf *out)
{
	struct loaded *l = model_peek(m);
	const char *word;
	struct err why = {0};
	health_of(m, l, &word, &why);
	loaded_put(l);
	if (!strcmp(word, "loading"))
		return buf_printf(out, "loading %u%%\n", atomic_load(&m->percent));
	if (!strcmp(word, "failed"))
		return buf_printf(out, "failed: %s\n", why.text);
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
	struct loaded *l = model_peek(m);
	const char *word;
	struct err why = {0};
	health_of(m, l, &word, &why);
	pthread_mutex_lock(&m->lock);
	struct text *path = text_ref(m->settings.value[MODEL_PATH]);
	bool upstream = model_is_upstream(m);
	pthread_mutex_unlock(&m->lock);
	int r = buf_printf(out, "{\n  \"name\": \"%s\",\n  \"state\": \"%s\"", m->name, word);
	r = r || upstream ? r : add_value(out, "path", path);
	if (r == 0 && upstream && !l) /* else its provider says it */
		r = buf_printf(out, ",\n  \"key\": %s",
			secrets_has(m->g->secrets, m->name) ? "true" : "false");
	r = r || !l ? r : l->provider->info(l->handle, out);
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
	return r ? r : models_render_upstreams(&m, 1, out);
}

/* ---- facts ---- */

/* With the lock held. */
static void take_settings(const struct model *m, struct model_facts *out)
{
	const struct model_settings *s = &m->settings;
	model_settings_price(s, &out->price);
	out->quality = model_settings_real(s, MODEL_QUALITY);
	out->has_quality = model_settings_is_set(s, MODEL_QUALITY);
	strncpy(out->capabilities, model_settings_text(s, MODEL_CAPABILITIES),
		sizeof out->capabilities - 1);
	out->context_tok = (uint32_t)model_settings_integer(s, MODEL_CONTEXT);
	out->max_tokens = (uint32_t)model_settings_integer(s, MODEL_MAX_TOKENS);
	out->weight = (uint32_t)model_settings_integer(s, MODEL_WEIGHT);
	out->upstream = model_is_upstream(m);
	out->configured = out->upstream || model_settings_is_set(s, MODEL_PATH);
}

int model_facts(struct model *m, struct model_facts *out)
{
	struct provider_stats stats = {0};
	struct loaded *l = model_peek(m);
	*out = (struct model_facts){.loaded = l, .answers = true};
	memcpy(out->name, m->name, sizeof out->name);
	pthread_mutex_lock(&m->lock);
	take_settings(m, out);
	pthread_mutex_unlock(&m->lock);
	out->health = health_of(m, l, &out->word, &out->why);
	gate_count(m->gate, &out->running, &out->waiting);
	if (l) {
		uint32_t limit = l->limits.context_tok;
		if (!out->context_tok || limit < out->context_tok)
			out->context_tok = limit;
		out->answers = l->limits.answers;
		out->embeds = l->limits.embeds;
		l->provider->stats(l->handle, &stats);
	}
	/* Not everything comes through the gate: judges do not. */
	if (out->running < stats.running + stats.waiting)
		out->running = stats.running + stats.waiting;
	loaded_put(l);
	return out->health;
}
