/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is shown over HTTP: whether this is there and ready, numbers, names of models.
 *
 * Ready means that a prompt which names no model would be answered as things stand: models/default
 * points to a model, and that one is not known to be unable to. What else `status` has, a server
 * down or a file with a fault, is no reason to send nobody here; it is not told to who has shown no
 * key. One that is not loaded is ready: it is loaded when it is asked.
 *
 * In the thread of the call's connection.
 */
#include "gateway/shim_shown.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/shim_parts.h"

static const char json[] = "application/json";

/* r: of what was appended to body. */
static int show(struct shim_call *c, int r, unsigned status, const char *type, struct buf *body)
{
	if (r < 0) {
		buf_free(body);
		/* That it is too long would be told of the request. */
		return shim_call_fail(c, r == -EFBIG ? -EIO : r, "it cannot be shown");
	}
	return shim_call_reply(c, status, type, body);
}

int shim_shown_health(struct shim_call *c)
{
	struct buf body = {0};
	return show(c, buf_append_str(&body, "{\"status\":\"ok\"}\n"), 200, json, &body);
}

/* Why a model of that state cannot answer now: static; NULL: it can. The rest of the state may be
 * of files and servers, and is in models/NAME/state. */
static const char *why_not(const char *state)
{
	static const struct {
		const char *word, *why;
	} words[] = {
		{"unset", "models/default has neither a path nor an endpoint"},
		{"loading", "models/default is being loaded"},
		{"failed", "models/default has failed"},
		{"open", "no server of models/default can be reached"},
	};
	static const char *const can[] = {"ready", "unloaded", "half-open"};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strncmp(state, words[i].word, strlen(words[i].word)) == 0)
			return words[i].why;
	for (size_t i = 0; i < sizeof can / sizeof *can; i++)
		if (strncmp(state, can[i], strlen(can[i])) == 0)
			return NULL;
	return "models/default cannot answer"; /* a virtual one's sentence */
}

int shim_shown_ready(struct shim_call *c)
{
	struct buf body = {0}, state = {0};
	struct model *m = gateway_model_find(c->shim->g, "default");
	const char *why = m ? NULL : "models/default points to no model";
	int r = m ? model_render(m, MODEL_STATE, &state) : 0;
	model_put(m);
	if (r == 0 && m)
		why = why_not(state.data ? state.data : "");
	if (atomic_load(&c->shim->stopping))
		why = "llmfs is stopping";
	buf_free(&state);
	if (r == 0 && why)
		r = buf_printf(&body, "{\"status\":\"not ready\",\"why\":\"%s\"}\n", why);
	else if (r == 0)
		r = buf_append_str(&body, "{\"status\":\"ready\"}\n");
	return show(c, r, why ? 503 : 200, json, &body);
}

int shim_shown_metrics(struct shim_call *c)
{
	struct buf body = {0};
	int r = gateway_render(c->shim->g, GATEWAY_PROMETHEUS, &body);
	return show(c, r, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}

/* ---- models ---- */

static bool may(struct shim_call *c, const char *name)
{
	return api_key_allows(c->key, API_MODELS, name, NULL) == 0;
}

static void free_names(char **names)
{
	for (size_t i = 0; names && names[i]; i++)
		free(names[i]);
	free(names);
}

int shim_shown_models(struct shim_call *c)
{
	struct buf body = {0};
	char **names = gateway_model_names(c->shim->g);
	struct model *m = gateway_model_find(c->shim->g, "default");
	size_t all = 0, n = 0;
	while (names && names[all])
		all++;
	const char **ids = calloc(all + 1, sizeof *ids);
	int r = names && ids ? 0 : -ENOMEM;
	if (r == 0 && m && may(c, "default"))
		ids[n++] = "default";
	for (size_t i = 0; r == 0 && i < all; i++)
		if (may(c, names[i]))
			ids[n++] = names[i];
	r = r ? r : shim_reply_models(&body, ids, n, c->shim->started_s);
	free(ids);
	model_put(m);
	free_names(names);
	return show(c, r, 200, json, &body);
}

int shim_shown_model(struct shim_call *c)
{
	struct buf body = {0};
	char sentence[128];
	struct model *m = gateway_model_find(c->shim->g, c->rest);
	bool shown = m && may(c, c->rest);
	model_put(m);
	if (!shown) { /* of one that the key may not name nothing is said */
		snprintf(sentence, sizeof sentence, "there is no model %.64s", c->rest);
		return shim_call_fail(c, -ENOENT, sentence);
	}
	return show(c, shim_reply_model(&body, c->rest, c->shim->started_s), 200, json, &body);
}
