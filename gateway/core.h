/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CORE_H
#define GATEWAY_CORE_H

/*
 * The gateway object, for the files of this folder.
 *
 * Lock order, outermost first:
 *   guards->set_lock and draft->lock, core lock (the tables), session->lock, model->lock,
 *   answer->lock, the gates (of judges and models), inboxes of requests and judges, guards->lock,
 *   the book, the cache (cache.c), API keys (api_keys.c), then
 * the leaves: watch table, upstreams (around the loop's), secrets, router, latencies, loop,
 * runners, store, audit, users, metrics, trace, ask_errors, opinions. Nothing is called back with a
 * lock held, and no lock is held across I/O, a tokenisation or a rendering.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "gateway/gate.h"
#include "gateway/gateway_accounts.h"
#include "gateway/gateway_guards.h"
#include "gateway/gateway_models.h"
#include "gateway/gateway_parts.h"
#include "gateway/gateway_sessions.h"
#include "gateway/loop.h"
#include "gateway/metrics.h"
#include "gateway/question.h"
#include "gateway/runner.h"
#include "gateway/store.h"
#include "gateway/table.h"
#include "gateway/text.h"
#include "gateway/trace.h"
#include "gateway/watch.h"

struct api_keys;   /* gateway/api_keys.h */
struct ask_errors; /* gateway/ask_errors.h */
struct book;       /* gateway/book.h */
struct opinions;   /* gateway/opinions.h */

enum refusal {
	REFUSED_RATE,
	REFUSED_BUDGET,
	REFUSED_GUARD,
	REFUSED_BUSY,
	REFUSED_OTHER,
	N_REFUSALS
};

struct report { /* a lasting fault of a front end */
	struct report *next;
	char key[128], sentence[512];
};

struct gateway {
	atomic_uint refs;               /* of the opener, of each session, model and answer */
	struct gateway_options options; /* with the defaults filled in; state_dir is not kept */

	pthread_mutex_t lock; /* guards down to `reports` */
	struct table sessions, models;
	char default_model[TEXT_NAME_SIZE]; /* "" when there is none */
	struct report *reports;
	bool tells_faults; /* gateway_tell_faults has: what comes now is logged as it comes */

	pthread_mutex_t busy_lock; /* a leaf */
	pthread_cond_t idle;       /* n_busy became 0 */
	unsigned n_busy;           /* requests not released, models being loaded or loaded */

	atomic_bool stopping;
	atomic_uint_least64_t next_request;
	uint64_t started_ns;                        /* CLOCK_REALTIME */
	atomic_uint_least64_t refusals[N_REFUSALS]; /* of prompts, before they were requests */
	atomic_uint_least64_t n_queued, n_running;  /* requests; session.c's */
	dev_t mount_device;

	struct store *store;
	struct book *book;
	struct loop *loop;
	struct runner *loader; /* opens and frees engines */
	struct runner *texts;  /* renders long conversations */
	struct watch_table *watch;
	struct metrics *metrics;
	struct trace *trace;
	struct ask_errors *ask_errors;
	struct users *users;
	struct audit *audit;
	struct guards *guards;
	/* judge.c: those that run and those that wait; of each kind of question apart, so that a
	 * model that hangs keeps nobody from what the guards want to know. */
	struct gate *judges, *questions[QUESTION_KINDS];
	struct http *http;
	struct secrets *secrets;
	struct api_keys *api_keys;
	struct router *router;
	struct opinions *opinions;
	struct cache *cache;
	struct loop_timer idle_timer;
	struct list routes_due; /* struct session, due: the loop's, or the end's */
	struct loop_timer routes_timer;
	struct loop_work stop_work;
	struct loop_work
		stored_work; /* tells who waits for the store, once for all that is posted */
};

struct gateway *gateway_ref(struct gateway *g);
/* Accepts NULL, returns NULL. The last one frees memory only: the threads have ended by then. */
struct gateway *gateway_put(struct gateway *g);

/* Prefixes of prompts are shared among what is asked for one user, and of no two: how fast an
 * answer comes, and how many of its tokens were known, says nothing of what others ask. Never 0. */
uint64_t gateway_salt(uid_t uid);

/* Something that gateway_free has to wait for began or ended. */
void gateway_busy(struct gateway *g);
void gateway_idle(struct gateway *g);

/* Tells options.changed from the loop, soon. file may be NULL. */
void gateway_tell_change(
	struct gateway *g, enum gateway_change_kind kind, const char *name, const char *file);

/* A name of a session or model, `what`: 0, -ENAMETOOLONG or -EINVAL with what is allowed. */
int gateway_check_name(const char *what, const char *name, struct err *err);
/* models/auto and models/cascade come to be. 0 or -ENOMEM. */
int gateway_add_virtual(struct gateway *g, struct err *err);

/* new: references of all sessions or models, NULL-terminated; NULL when memory is out. */
struct session **gateway_all_sessions(struct gateway *g);
struct model **gateway_all_models(struct gateway *g);
/* Accept NULL. */
void gateway_put_sessions(struct session **list);
void gateway_put_models(struct model **list);

/* gateway_status.c: gateway_report, for a fault that may come at any time: it is logged, too, now
 * or by gateway_tell_faults. */
void gateway_report_aloud(struct gateway *g, const char *key, const char *sentence);
/* gateway_status.c: appends what GATEWAY_STATUS is. */
int gateway_status(struct gateway *g, struct buf *out);

/* -ESHUTDOWN, or what the store says when it cannot be written, else 0: asked before anything new
 * is taken. */
int gateway_accepts(struct gateway *g, struct err *err);

#endif
