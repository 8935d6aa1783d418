/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A body is read whole: its JSON, what llmfs has not, what the answer is to be like, and last what
 * is said. The first fault is the one that is told. Nothing of the JSON is kept; what is kept is
 * the ask's own, its texts in one piece of memory that is as long as the body (`room`).
 *
 * It knows nothing of models, of a context's length or of what a user may: that is what the gateway
 * says when it is asked. Nor does it know a session's own limits but for those of the settings,
 * where the param of the fault must be the client's.
 *
 * Any thread.
 */
#include "gateway/shim_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/shim_request_parts.h"

static int read_ask(struct shim_ask *out, const char *json, size_t len, struct shim_fault *fault,
	int (*read_said)(struct shim_ask *, const json_t *, struct buf *, struct shim_fault *))
{
	json_t *body = NULL;
	struct buf room = {0};
	*out = (struct shim_ask){.n = 1};
	*fault = (struct shim_fault){0};
	int r = shim_request_load(&body, json, len, fault);
	r = r ? r : shim_request_room(&room, len);
	r = r ? r : shim_request_model(body, &out->model, fault);
	r = r ? r : shim_request_refused(body, fault);
	r = r ? r : shim_request_settings(out, body, fault);
	r = r ? r : read_said(out, body, &room, fault);
	out->room = room.data;
	json_decref(body);
	return r;
}

static int read_prompts(
	struct shim_ask *out, const json_t *object, struct buf *room, struct shim_fault *fault)
{
	int r = shim_request_bool(object, "echo", &out->echo, fault);
	return r ? r
		 : shim_request_texts(object, "prompt", SHIM_PROMPTS, room, &out->prompts,
			   &out->n_prompts, fault);
}

int shim_request_chat(struct shim_ask *out, const char *json, size_t len, struct shim_fault *fault)
{
	return read_ask(out, json, len, fault, shim_request_messages);
}

int shim_request_completion(
	struct shim_ask *out, const char *json, size_t len, struct shim_fault *fault)
{
	return read_ask(out, json, len, fault, read_prompts);
}

void shim_ask_free(struct shim_ask *ask)
{
	for (size_t i = 0; i < ask->n_settings; i++)
		free(ask->settings[i].value);
	free(ask->model);
	free(ask->room);
	free(ask->turns);
	free(ask->prompts);
	*ask = (struct shim_ask){0};
}

/* ---- embeddings ---- */

static int encoding(struct shim_embed *out, const json_t *object, struct shim_fault *fault)
{
	const json_t *value = shim_request_member(object, "encoding_format");
	if (value && !json_is_string(value))
		return shim_request_wrong_type(fault, "encoding_format", "a string", value);
	const char *name = value ? json_string_value(value) : "float";
	out->base64 = !strcmp(name, "base64");
	if (!out->base64 && strcmp(name, "float"))
		return shim_request_fault(
			fault, "invalid_value", "encoding_format", "must be float or base64");
	return 0;
}

static int dimensions(struct shim_embed *out, const json_t *object, struct shim_fault *fault)
{
	enum { MOST = 1 << 20 };
	int64_t n = 0;
	const json_t *value = shim_request_member(object, "dimensions");
	int r = value ? shim_request_whole(value, "dimensions", 1, MOST, &n, fault) : 0;
	out->dimensions = (size_t)n;
	return r;
}

int shim_request_embed(
	struct shim_embed *out, const char *json, size_t len, struct shim_fault *fault)
{
	json_t *body = NULL;
	struct buf room = {0};
	*out = (struct shim_embed){0};
	*fault = (struct shim_fault){0};
	int r = shim_request_load(&body, json, len, fault);
	r = r ? r : shim_request_room(&room, len);
	r = r ? r : shim_request_model(body, &out->model, fault);
	r = r ? r : encoding(out, body, fault);
	r = r ? r : dimensions(out, body, fault);
	if (r == 0)
		r = shim_request_texts(
			body, "input", SHIM_TEXTS, &room, &out->texts, &out->n, fault);
	out->room = room.data;
	json_decref(body);
	return r;
}

void shim_embed_free(struct shim_embed *embed)
{
	free(embed->model);
	free(embed->room);
	free(embed->texts);
	*embed = (struct shim_embed){0};
}
