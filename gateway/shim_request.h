/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SHIM_REQUEST_H
#define GATEWAY_SHIM_REQUEST_H

/*
 * Bodies of OpenAI's requests, read: which model, what is said, which settings. Pure: no
 * connection, no gateway. What the protocol has and llmfs has not is refused by name, never
 * ignored where the answer would be another one (tools, images, logprobs, logit_bias ...); what
 * changes nothing (user, store, metadata ...) is taken and left.
 */

#include "gateway/gateway_sessions.h"

/* A refusal of OpenAI's form: 400, invalid_request_error. */
struct shim_fault {
	struct err err;
	char param[64];   /* "messages[1].content"; "" none */
	const char *code; /* static: "invalid_type", "unsupported_parameter" ..., NULL none */
};

struct shim_text {
	const char *text; /* UTF-8, NUL-terminated; NULs may stand in it as well */
	size_t len;
};

struct shim_setting {     /* as session_setting_set has them */
	const char *file; /* static */
	char *value;      /* NUL-terminated */
	size_t len;
};

enum { SHIM_SETTINGS = 16, SHIM_CHOICES = 16, SHIM_PROMPTS = 256, SHIM_TEXTS = 2048 };

/* /v1/chat/completions and /v1/completions. */
struct shim_ask {
	char *model;                   /* as it was named; "default" where it was not */
	char *room;                    /* the bytes of all texts below */
	struct session_message *turns; /* [n_turns]: [system] user assistant ... assistant */
	size_t n_turns;
	struct shim_text *prompts; /* [n_prompts]: chat: 1, the last user message. Completions:
				      each stands alone */
	size_t n_prompts;
	struct shim_setting settings[SHIM_SETTINGS];
	size_t n_settings;
	unsigned n; /* choices for each prompt */
	bool stream, stream_usage;
	bool echo; /* completions: the prompt comes before its text, streamed or not */
};

/* -EINVAL and *fault; -ENOMEM. Zeroes *out first; shim_ask_free in any case. */
int shim_request_chat(struct shim_ask *out, const char *json, size_t len, struct shim_fault *fault);
int shim_request_completion(
	struct shim_ask *out, const char *json, size_t len, struct shim_fault *fault);
void shim_ask_free(struct shim_ask *ask);

/* /v1/embeddings. */
struct shim_embed {
	char *model;
	char *room;              /* the bytes of the texts */
	struct shim_text *texts; /* [n], none empty */
	size_t n;
	bool base64;       /* encoding_format */
	size_t dimensions; /* 0: as the model has them */
};
int shim_request_embed(
	struct shim_embed *out, const char *json, size_t len, struct shim_fault *fault);
void shim_embed_free(struct shim_embed *embed);

#endif
