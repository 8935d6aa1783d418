/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

/*
 * The door of the gateway, by subject: here the whole of it, its life, its views and who waits;
 * gateway_sessions.h (prompts and answers), gateway_models.h, gateway_guards.h, gateway_accounts.h,
 * gateway_keys.h, gateway_parts.h (router/ and cache/). Nothing else of this folder is included
 * from outside. It knows requests and users (uids); it knows nothing of files, offsets of `in`,
 * inodes or the kernel. A front end cannot tell a local model from a remote one. What is said here
 * of threads and errors holds for all seven.
 *
 * Threads: any thread may call any function. None of them waits for a model, an upstream or the
 * store (gateway_open, gateway_free and the *_wait-less model unloads inside gateway_free
 * excepted): what takes long happens on the loop thread and the small pool behind it, and is
 * reported through the callbacks, which come from the loop thread, hold no lock of the gateway, and
 * may call back into it except for gateway_free.
 *
 * Errors: 0; -errno with a sentence in *err; positive outcomes are declared beside the function.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

struct gateway;

/* Ids of waiters. 0 is never one. */
typedef uint64_t gateway_waiter;

/* Told once, from the loop thread; then forgotten. */
typedef void gateway_wake_fn(void *arg);

enum gateway_change_kind {
	GATEWAY_CHANGE_SESSIONS, /* a session `name` appeared or went */
	GATEWAY_CHANGE_SESSION,  /* a setting (`file`), or, with file NULL, owner or mode of session
				    `name` */
	GATEWAY_CHANGE_MODELS,   /* a model `name` appeared or went, or `default` moved */
	GATEWAY_CHANGE_MODEL,    /* setting `file` of model `name` */
	GATEWAY_CHANGE_ACCOUNTS, /* an account `name` appeared or went */
	GATEWAY_CHANGE_ACCOUNT,  /* setting `file` of account `name` */
	GATEWAY_CHANGE_KEYS,     /* an API key `name` appeared or went */
	GATEWAY_CHANGE_KEY,      /* setting `file` of API key `name` */
	GATEWAY_CHANGE_PART, /* setting `file` of router or cache: `name` is "router" or "cache" */
};

struct gateway_change {
	enum gateway_change_kind kind;
	const char *name, *file; /* borrowed for the call */
};

/* Zeroed memory but for state_dir is valid: 0 means the default named here. */
struct gateway_options {
	const char *state_dir;          /* created with mode 0700 when missing */
	uint32_t max_sessions_per_user; /* 0: 1,000 */
	uint32_t max_queued;            /* queued requests a session; 0: 64 */
	uint32_t max_prompt_bytes;      /* 0: 16 MiB */
	uint32_t idle_unload_s;         /* a local model unused that long is unloaded; 0: never */
	uint32_t n_threads;             /* for each local model; 0: the engine's default */
	size_t kv_bytes;                /* for each local model; 0: the engine's default */
	uid_t daemon_uid;
	gid_t daemon_gid;
	/* For a kernel cache above us: what changed by whichever way. Never called inside a call of
	 * the front end. May be NULL. */
	void (*changed)(void *arg, const struct gateway_change *change);
	void *changed_arg;
};

/*
 * new *out. Takes the lock of the state directory, opens the store, restores the sessions (a turn
 * that was under way is `failed`, "daemon restarted"), starts the threads. Session `main` exists
 * afterwards. -EBUSY: another daemon has the directory (the sentence names its pid); -EIO, -ENOSPC,
 * -EACCES: it cannot be used.
 */
int gateway_open(struct gateway **out, const struct gateway_options *options, struct err *err);

/* From now on nothing is accepted (-ESHUTDOWN), what runs is cancelled, every waiter is woken.
 * Returns at once. */
void gateway_stop(struct gateway *g);
/* gateway_stop, wait until all is settled and stored (seconds at most), free. References of others
 * stay valid memory until they are put. Accepts NULL, returns NULL. */
struct gateway *gateway_free(struct gateway *g);

/* The device of our own mount, on which model files are refused. Call once, before models are
 * loaded. */
void gateway_set_mount_device(struct gateway *g, dev_t device);

/* Rendered texts of the whole. Appended to *out. */
enum gateway_view {
	GATEWAY_STATUS,       /* "ok\n", or "degraded: why\n" lines */
	GATEWAY_PROMETHEUS,   /* Prometheus text format */
	GATEWAY_TRACE_RECENT, /* JSON lines of the last requests, oldest first */
	GATEWAY_GUARD_STATUS, /* guards/status: what is in force, one line a file, then faults */
	GATEWAY_GUARD_AUDIT,  /* guards/audit: a log, JSON lines, see gateway_watch */
	GATEWAY_CACHE_STATS,  /* cache/stats: "name value" lines */
};
int gateway_render(struct gateway *g, enum gateway_view view, struct buf *out);
/* For GATEWAY_GUARD_AUDIT: exact length now, without rendering, and when it last changed. */
void gateway_view_size(
	struct gateway *g, enum gateway_view view, uint64_t *bytes, uint64_t *changed_ns);
/* As session_watch, of GATEWAY_GUARD_AUDIT. */
int gateway_watch(struct gateway *g, enum gateway_view view, uint64_t bytes, gateway_wake_fn *wake,
	void *arg, gateway_waiter *id);
/* As session_unwatch. */
bool gateway_unwatch(struct gateway *g, gateway_waiter id);

/* The plain numbers of metrics/: names from a static table, ends with NULL. */
const char *const *gateway_metric_names(void);
/* Appends "12\n". -ENOENT: no such number. */
int gateway_metric(struct gateway *g, const char *name, struct buf *out);

/* A front end reports a lasting fault of its own (or, with sentence NULL, its end) for `status`,
 * under a short key. */
void gateway_report(struct gateway *g, const char *key, const char *sentence);
/* Logs each fault that `status` has now, once: for the end of a start, on the terminal of who
 * starts the daemon, who would not look there. */
void gateway_tell_faults(struct gateway *g);

#endif
