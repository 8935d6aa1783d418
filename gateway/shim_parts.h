/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SHIM_PARTS_H
#define GATEWAY_SHIM_PARTS_H

/*
 * The HTTP front end as the files named shim_* see it: the server, which has threads that serve
 * connections (libmicrohttpd's) and one that has the sockets (shim_socket.h); a call, one request
 * of HTTP from its head to its end; a run, one text asked of the gateway and what comes of it.
 *
 * Lock order: shim->lock, call->lock, then libmicrohttpd's own. The sockets' lock is around
 * call->lock. None is held across a call of the gateway.
 */

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "gateway/gateway_accounts.h"
#include "gateway/gateway_keys.h"
#include "gateway/gateway_models.h"
#include "gateway/gateway_sessions.h"
#include "gateway/gateway_shim.h"
#include "gateway/shim_reply.h"

struct shim_sockets; /* shim_sockets.h */
struct shim_path;    /* shim_path.h */

enum {
	SHIM_BODY_MAX = 16 << 20,    /* bytes of a request's body */
	SHIM_BODIES_MAX = 512 << 20, /* of all that are being read */
	SHIM_SWALLOW_MAX = 64 << 20, /* of one that is refused already, so that its sender
					hears why */
	SHIM_IDLE_S = 75,            /* a connection without a request, a body that stalls, a
					reply of which nothing is taken. Not one that waits for
					news: it is suspended */
	SHIM_BODY_S = 300,           /* a body as a whole */
};

struct shim {
	struct gateway *g; /* borrowed */
	struct MHD_Daemon *daemon;
	struct shim_sockets *sockets;
	char address[96];
	char server[64]; /* for the header Server */
	int64_t started_s;
	atomic_bool stopping; /* it listens no more */
	atomic_bool ending;   /* nothing waits any more */
	atomic_size_t body_bytes;

	pthread_mutex_t lock; /* guards down to `idle` */
	struct list calls;    /* struct shim_call */
	unsigned n_calls;
	pthread_cond_t idle; /* n_calls became 0 */
};

/* ---- a call: shim_call.c ---- */

struct shim_call;

/* What a call waits for: one table a kind. In the thread of its connection, but for free. */
struct shim_work {
	/* Whenever there may be news. 0: a reply is queued; 1: nothing yet, shim_call_wake comes;
	 * < 0: the connection ends. */
	int (*step)(struct shim_call *c);
	/* Nobody reads any more: what runs is given up, what waits is withdrawn. */
	void (*end)(struct shim_call *c);
	void (*free)(void *state); /* any thread */
};

struct shim_call {
	atomic_uint refs;
	struct shim *shim; /* until shim_call_completed */
	struct MHD_Connection *connection;
	struct list link; /* of shim->calls */

	pthread_mutex_t lock; /* guards down to `left` */
	bool suspended;       /* libmicrohttpd does not look at it until it is resumed */
	bool woken;           /* there was news since the last step */
	bool left;            /* its client has gone */

	/* Its connection's thread's: */
	bool watched; /* by shim_sockets */
	const struct shim_path *path;
	const char *rest; /* of the URL behind a path that is a prefix: borrowed */
	uint64_t began_ns;
	struct api_key *key; /* NULL: none was asked for, or none came */
	uid_t uid;
	struct buf body;
	size_t body_seen;
	unsigned refusal; /* a status: what `refused` says, once the body is there; 0: none */
	struct buf refused;
	const char *allow; /* for the header of that name: static, or NULL */
	bool no_retry;
	uint64_t request_id; /* of the gateway's request; 0: there is none */
	uint64_t retry_ms;
	char model[65];  /* that answers, for a header; "" not known */
	bool from_cache; /* the answer is, as far as is known */
	const struct shim_work *work;
	void *state; /* the work's */
};

/* libmicrohttpd's callbacks. */
enum MHD_Result shim_call_handle(void *shim, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_size,
	void **context);
void shim_call_completed(void *shim, struct MHD_Connection *connection, void **context,
	enum MHD_RequestTerminationCode why);

struct shim_call *shim_call_ref(struct shim_call *c);
struct shim_call *shim_call_put(struct shim_call *c); /* accepts NULL, returns NULL */

/* There may be news for its step. Any thread. */
void shim_call_wake(struct shim_call *c);
/* Its client has gone. Any thread. */
void shim_call_lost(struct shim_call *c);
/* Whether it makes no sense any more. */
bool shim_call_is_lost(struct shim_call *c);
/* In a step that has nothing: true: the step may return, and is made again after shim_call_wake.
 * False: that has come, or the call is lost: look again. */
bool shim_call_wait(struct shim_call *c);

/* Replies. 0; < 0: the connection ends. `body` is emptied. */
int shim_call_reply(
	struct shim_call *c, unsigned status, const char *content_type, struct buf *body);
int shim_call_error(
	struct shim_call *c, const struct shim_error *e, const char *sentence, const char *param);
/* What a door of the gateway said: code is -errno. */
int shim_call_fail(struct shim_call *c, int code, const char *sentence);
/* Events, all of them. As shim_call_reply. */
int shim_call_events(struct shim_call *c, struct buf *events);
/* A stream of events, whose bytes come from `read` (MHD_ContentReaderCallback) with c. */
int shim_call_stream(struct shim_call *c, MHD_ContentReaderCallback read);

/* ---- a run: shim_run.c ---- */

struct shim_run {
	struct shim_call *call; /* its owner */
	struct session *session;
	struct answer *answer;
	gateway_waiter waiter;
	atomic_bool waits; /* for `waiter`, which has a reference of the call */
	bool of_session;   /* whose waiter it is, else the answer's */
	uint64_t offset;
	bool over;
	int code;                       /* 0 or -errno, once it is over */
	struct session_outcome outcome; /* likewise, or once it was refused */
};

/* Asks that of a session, which it steals (on failure, too). 0; -errno, and it is over. */
int shim_run_ask(struct shim_run *r, struct shim_call *c, struct session *s, const char *text,
	size_t len, struct err *err);
/* 0: *n bytes; 1: nothing yet; 2: it is over. */
int shim_run_read(struct shim_run *r, char *bytes, size_t size, size_t *n);
/* 0: shim_call_wake comes; 1: look again. */
int shim_run_wait(struct shim_run *r);
/* Nobody wants it any more. Harmless on one that was never asked, and twice. */
void shim_run_end(struct shim_run *r);
/* Its references. Any thread, after its end. */
void shim_run_free(struct shim_run *r);

#endif
