/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_MODEL_PARTS_H
#define GATEWAY_MODEL_PARTS_H

/* What the files of gateway/model*.c share, and nobody else. */

#include "gateway/gate.h"
#include "gateway/model.h"
#include "gateway/model_settings.h"
#include "gateway/router.h"

enum model_state { MODEL_UNLOADED, MODEL_LOADING, MODEL_READY, MODEL_FAILED };

struct model {
	atomic_uint refs;
	struct gateway *g;
	struct metrics *metrics;
	struct gate *gate;
	char name[TEXT_NAME_SIZE];
	uint64_t serial;
	bool is_virtual; /* the router's: no settings, nothing to load */
	struct latency latency;
	atomic_uint_least64_t chosen[ROUTER_SPLIT + 1]; /* by policy */
	struct metrics *_Atomic arm; /* of requests whose arm of a split it was; NULL: none */

	pthread_mutex_t lock;
	struct model_settings settings;
	struct money_price price; /* what the settings say, as numbers */
	enum model_state state;
	struct loaded *loaded; /* MODEL_READY */
	bool stale;            /* what `loaded` was made from has changed: upstreams */
	bool outdated;         /* the same of a local one: in force at the next load */
	bool is_known; /* of a local one's file: what it could when it was loaded, or looked at */
	bool answers, embeds;
	bool looking, looked; /* looked: with this path */
	uint64_t look_ns;     /* that look found nothing, then: CLOCK_MONOTONIC; 0: none did */
	struct err failure;   /* MODEL_FAILED */
	int failure_code;
	struct list waiting, active; /* struct model_user */
	uint64_t used_ns;            /* CLOCK_MONOTONIC */
	bool retired, unload_wanted; /* unload_wanted: while MODEL_LOADING */

	atomic_uint percent;
	volatile bool stop;
	struct loop_work load_work, look_work;
};

/* All of these with the model's lock held, unless they say otherwise. */

bool model_is_upstream(const struct model *m);
/* model_peek; *old is to be put without the lock, and may be NULL. */
struct loaded *model_peek_locked(struct model *m, struct loaded **old);
/* What a handle is made from has changed: it may go well now. */
void model_make_anew(struct model *m);
/* How many may ask it at a time, after a change of that. Without the lock. */
void model_set_gate(struct model *m);
/* Tells everyone in a list and empties it. */
void model_tell_all(struct list *users, int status, const char *sentence);

/* Whether the file of what is loaded is no more what was loaded: as provider.h's file. */
int model_file_locked(const struct model *m, struct err *err);

/* ---- model_virtual.c, without the lock ---- */

int model_is_the_routers(const struct model *m, struct err *err); /* -EPERM */
int model_virtual_state(struct model *m, struct buf *out);
int model_virtual_info(struct model *m, struct buf *out);

/* ---- model_handle.c ---- */

struct loaded *loaded_ref(struct loaded *l); /* accepts NULL; any thread */
/* Whether what is loaded serves the next request. */
bool model_is_current(const struct model *m);
void model_start_loading(struct model *m);
/*
 * A handle for the next request, where that takes no time. 0: m->loaded is current; 1: it has to be
 * loaded, or is being; < 0: -EHOSTUNREACH (state failed) or -ENOMEM. *old is to be put without the
 * lock, and may be NULL.
 */
int model_make_current(struct model *m, struct loaded **old, struct err *err);
/* For model_make: the work of m->look_work, on the loader's thread, without the lock. */
void model_look_now(struct loop_work *work);
/* For model_make: the work of m->load_work, on the loader's thread, without the lock. */
void model_load(struct loop_work *work);
/* -EHOSTUNREACH (code, -ENOENT) when it has neither path nor endpoint. */
int model_unconfigured(const struct model *m, int code, struct err *err);

#endif
