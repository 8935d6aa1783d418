/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_MODEL_H
#define GATEWAY_MODEL_H

/* A model: its settings, its state, and who uses what is loaded of it. */

#include "gateway/core.h"
#include "gateway/digest.h"
#include "gateway/gate.h"
#include "gateway/latency.h"
#include "gateway/money.h"
#include "gateway/provider.h"
#include "gateway/router.h"

/* What is loaded, for the keys of answers; zero of an upstream. */
struct model_print {
	struct digest file; /* which one it was: device, inode, size, time */
	struct digest made; /* what was made of it: provider.h's identity */
};

/* What is loaded of a model: a provider's handle, alive while somebody holds it. */
struct loaded {
	atomic_uint refs;
	struct gateway *g;
	const struct provider *provider;
	void *handle;
	struct provider_limits limits;
	struct model_print print;
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

/* 0: user->loaded is there; 1: it is being loaded, told comes. < 0: -EHOSTUNREACH; -EIO, -EBADMSG:
 * its file was written to or shrank, as model_look_at_file. */
int model_use(struct model *m, struct model_user *user, struct err *err);
/* Lets go. Harmless when it was told, or never used. */
void model_unuse(struct model *m, struct model_user *user);
/* new reference of what is loaded, or NULL. Does not load, but an upstream's handle is made, as
 * that takes no time (unless its key is in a file). */
struct loaded *model_peek(struct model *m);
/* 0, or -EHOSTUNREACH when it could not even be loaded. */
int model_check(struct model *m, struct err *err);
/* A request found its file damaged: state failed, unloaded. */
void model_broke(struct model *m, int status, const char *sentence);
/* Whether the file of what is loaded is the one that was loaded: if it was written to or shrank,
 * model_broke, and *err says so. */
void model_look_at_file(struct model *m, struct err *err);

/* Its prices now: what a request costs that begins now. */
void model_price(struct model *m, struct money_price *out);

/* The models to try when this one cannot: names with blanks between. new reference; NULL: none. */
struct text *model_fallback(struct model *m);
/* borrows: so many requests at a time, as requests_max and queue_max say. */
struct gate *model_gate(struct model *m);
uint64_t model_queue_timeout_ms(struct model *m); /* 0: none */

struct model_facts { /* a copy of what is known of a model now */
	char name[TEXT_NAME_SIZE];
	struct money_price price;
	double quality; /* has_quality: it was said; else it is the default, 0.5 */
	bool has_quality;
	char capabilities[256]; /* words as they were written; "": the default */
	uint32_t context_tok;   /* 0: not known: local, not loaded, nothing said */
	uint32_t max_tokens;    /* 0: none */
	uint32_t weight;
	bool configured; /* it has a path or an endpoint */
	bool upstream;
	bool loaded; /* a handle is there: always of upstreams, but for keys in files */
	/* As provider_limits, of what is loaded or was last; !is_known (it never was, or its path
	 * has changed since): true, false. */
	bool is_known, answers, embeds;
	/* As provider.h's health: 0 and "ready", "unloaded", "loading"; 1 and "half-open"; 2;
	 * -EHOSTUNREACH and why not ("open", "failed", "unset", ...). A failed one would be loaded
	 * again by the next request. word: static. */
	int health;
	const char *word;
	struct err why;
	uint64_t running, waiting; /* requests on it, and before its gate */
};
/* Returns out->health. */
int model_facts(struct model *m, struct model_facts *out);
/* Of all that only whether the router may take it, well or not: it has a path or an endpoint, and
 * gives answers, as far as that is known. *price (NULL: not asked): its prices now. */
bool model_is_offered(struct model *m, struct money_price *price);

/* Whether it can be named for that, as far as is known by its settings and what was loaded: to
 * answer who named none (`default`, a `fallback`), which one without the capability chat does not;
 * to give vectors; to judge, or say a class, which none of the router's own does, nor one without a
 * path and an endpoint (as model_check). 0, also when nobody knows; -ENOTSUP and the sentence. */
int model_answers(struct model *m, struct err *err);
int model_judges(struct model *m, struct err *err);
int model_embeds(struct model *m, struct err *err);
/* What a local model can is found out from its file, soon and once for each path (again where that
 * failed, as of a file that is still copied: every MODEL_LOOK_MS at most), where it was never
 * loaded: model_facts and the three above know it then. Any thread; no lock. */
#define MODEL_LOOK_MS 2000
void model_look(struct model *m);
/* Whether a sentence names that model at its beginning already. */
bool model_begins_with_name(const char *sentence, const char *name);

/* Its own: no other model of this daemon has it, nor a later one of the same name. Not 0. */
uint64_t model_serial(const struct model *m);
/* Who computes: "local", "openai" or "anthropic". static. */
const char *model_provider(struct model *m);
struct metrics *model_metrics(struct model *m); /* borrows */
struct latency *model_latency(struct model *m); /* borrows */
/* The router's decision, by that policy, was for m. */
void model_chosen(struct model *m, enum router_policy policy);
/* A request whose arm of a split m was is over: on the loop. Whichever model answered it. */
void model_arm_add(struct model *m, const struct trace_record *record);
/* metrics_render_arms of those that were one. */
int models_render_arms(struct model *const *models, size_t n, struct buf *out);
/* llm_router_decisions_total{model,policy}. */
int models_render_chosen(struct model *const *models, size_t n, struct buf *out);
void model_stats(struct model *m, struct provider_stats *out, bool *is_loaded);
/* Prometheus text of those that are upstreams. */
int models_render_upstreams(struct model *const *models, size_t n, struct buf *out);
/* The Prometheus text of how those that are loaded in this process are computed. */
int models_render_work(struct model *const *models, size_t n, struct buf *out);

/* Unloads it for good. */
void model_retire(struct model *m, const char *why);
/* Unloads it if nobody used it since then (CLOCK_MONOTONIC). */
void model_unload_idle(struct model *m, uint64_t since_ns);

/* Appends what its name stands for now, for a session: a text that changes when its answers may.
 * Its settings; of one of this process its file and how that is rendered and sampled, as far as it
 * is known, of an upstream no more; of one with a fallback, and of virtual ones, those of all
 * models, and the router's. 0; 1: it cannot be known, as a local model is not loaded; -ENOMEM.
 * Without locks: takes the gateway's. */
int model_identity(struct model *m, const char *session, struct buf *out);
/* It is this process's, may be loaded and is not: then the identity is not known until it is. */
bool model_awaits_load(struct model *m);
/* The identity is that of all models: it is virtual, or has a fallback. */
bool model_may_be_another(struct model *m);
/* new reference: one that is being loaded; NULL: none. Takes the gateway's lock. */
struct model *model_being_loaded(struct gateway *g);
/* The longest answer it may give; 0: no limit of its own. */
uint32_t model_max_tokens(struct model *m);
/* Its server refused its key: one that is in a file is read again for the next request. */
void model_key_refused(struct model *m);

/* auto and cascade. */
bool model_name_is_virtual(const char *name);
/* For gateway.c: new, or NULL. */
struct model *model_make(struct gateway *g, const char *name);

#endif
