/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_MODEL_SETTINGS_H
#define GATEWAY_MODEL_SETTINGS_H

/* The settings of a model: one table of names, checks, defaults and what is allowed; and what they
 * mean for those who use the model. */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "gateway/money.h"
#include "gateway/text.h"

enum model_setting {
	MODEL_PATH,        /* a GGUF file ... */
	MODEL_ENDPOINT,    /* ... or upstreams, "URL [weight=N]" a line. The endpoint wins. */
	MODEL_PROTOCOL,    /* openai (default) or anthropic */
	MODEL_REMOTE_NAME, /* its name there; default: its name here */
	MODEL_TEMPLATE,
	MODEL_BACKEND,      /* auto (default), cpu or cuda: what computes a local one */
	MODEL_GPU,          /* which one; default 0 */
	MODEL_FP8,          /* on or off (default): its weights as FP8 */
	MODEL_KV_FP8,       /* keys and values */
	MODEL_MEMORY_SHARE, /* of the GPU's free memory; default 0.9 */
	MODEL_PRICE_INPUT,
	MODEL_PRICE_CACHED,
	MODEL_PRICE_OUTPUT,
	MODEL_QUALITY,            /* 0 to 1; default: 0.5 */
	MODEL_CAPABILITIES,       /* words: router.h; default: chat json */
	MODEL_CONTEXT,            /* tokens; default: what the model says, upstreams 131072 */
	MODEL_MAX_TOKENS,         /* longest answer it can give; default: none */
	MODEL_FALLBACK,           /* models to try when this one cannot, in order, blanks between */
	MODEL_WEIGHT,             /* its share where router/policy is split; default 1 */
	MODEL_REQUESTS_MAX,       /* at the same time; default 256 */
	MODEL_QUEUE_MAX,          /* that wait for that; default 4096 */
	MODEL_QUEUE_TIMEOUT_MS,   /* default 60000; 0: none */
	MODEL_CONNECT_TIMEOUT_MS, /* 5000 */
	MODEL_FIRST_BYTE_TIMEOUT_MS, /* 60000 */
	MODEL_IDLE_TIMEOUT_MS,       /* 30000 */
	MODEL_TIMEOUT_MS,            /* of the whole; 600000 */
	MODEL_RETRIES,               /* 2 */
	MODEL_RETRY_RATIO,           /* of all requests, besides 10; 0.1 */
	MODEL_BREAKER_FAILURES,      /* 5 */
	MODEL_BREAKER_SUCCESSES,     /* 3 */
	MODEL_BREAKER_OPEN_MS,       /* 30000 */
	MODEL_HEALTH_INTERVAL_MS,    /* default: 10000 with several endpoints, else 0, none */
	MODEL_PROXY,                 /* a URL, "none", or empty: as the environment says */
	MODEL_CA_FILE,               /* PEM; below its directory in TREE, or absolute */
	N_MODEL_SETTINGS
};

/* Values that were set; NULL is the default. */
struct model_settings {
	struct text *value[N_MODEL_SETTINGS];
};

enum model_setting model_settings_find(const char *file); /* N_MODEL_SETTINGS: no such */
const char *const *model_settings_names(void);            /* ends with NULL */
/* 0 or -EINVAL with what is allowed. */
int model_settings_check(enum model_setting i, const char *value, size_t len, struct err *err);
/* As settings_is_hopeless. */
bool model_settings_is_hopeless(enum model_setting i, const char *value, size_t len);
/* Whether a change of it needs another handle of the provider: path, template, and all that
 * upstreams are made from. */
bool model_settings_reloads(enum model_setting i);
/* Of those, whether a local model is made from it: it is in force when that is loaded next. */
bool model_settings_is_of_a_load(enum model_setting i);
/* *to shares the values of *from. */
void model_settings_copy(struct model_settings *to, const struct model_settings *from);
void model_settings_clear(struct model_settings *s);
/* Numbers of checked values, or their defaults. */
uint64_t model_settings_integer(const struct model_settings *s, enum model_setting i);
bool model_settings_is_on(const struct model_settings *s, enum model_setting i);
double model_settings_real(const struct model_settings *s, enum model_setting i);
bool model_settings_is_set(const struct model_settings *s, enum model_setting i);
const char *model_settings_text(const struct model_settings *s, enum model_setting i); /* or "" */
void model_settings_price(const struct model_settings *s, struct money_price *out);

#endif
