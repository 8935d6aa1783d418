/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_MODEL_H
#define GATEWAY_MODEL_H

/* A model: its settings, its state, and who uses what is loaded of it. */

#include "gateway/core.h"
#include "gateway/money.h"
#include "gateway/provider.h"

/* What is loaded of a model: a provider's handle, alive while somebody holds it. */
struct loaded {
	atomic_uint refs;
	struct gateway *g;
	const struct provider *provider;
	void *handle;
	struct provider_limits limits;
	struct loop_work work;
};

/* Accepts NULL, returns NULL. The last one frees the handle on the loader's thread. Any thread. */
struct loaded *loaded_put(struct loaded *l);

/* One who needs the model loaded: a request. */
struct model_user {
	struct list link;      /* list_init before model_use */
	struct loaded *loaded; /* from model_use's 0 or told(0) until model_unuse */
	/* 0: it is loaded; < 0: it will not be, or no longer is, and the user must let go. With the
	 * model's lock held: note it and post. The sentence is borrowed. */
	void (*told)(struct model_user *user, int status, const char *sentence);
};

/* 0: user->loaded is there; 1: it is being loaded, told comes. < 0: -EHOSTUNREACH. */
int model_use(struct model *m, struct model_user *user, struct err *err);
/* Lets go. Harmless when it was told, or never used. */
void model_unuse(struct model *m, struct model_user *user);
/* new reference of what is loaded, or NULL. Does not load. */
struct loaded *model_peek(struct model *m);
/* 0, or -EHOSTUNREACH when it could not even be loaded. */
int model_check(struct model *m, struct err *err);
/* A request found its file damaged: state failed, unloaded. */
void model_broke(struct model *m, int status, const char *sentence);

/* Its prices now: what a request costs that begins now. */
void model_price(struct model *m, struct money_price *out);

struct metrics *model_metrics(struct model *m); /* borrows */
void model_stats(struct model *m, struct provider_stats *out, bool *is_loaded);

/* Unloads it for good. */
void model_retire(struct model *m, const char *why);
/* Unloads it if nobody used it since then (CLOCK_MONOTONIC). */
void model_unload_idle(struct model *m, uint64_t since_ns);

/* For gateway.c: new, or NULL. */
struct model *model_make(struct gateway *g, const char *name);

#endif
