/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

/*
 * The door of the gateway: models, sessions, requests, answers. Nothing else of this folder is
 * included from outside. It knows requests and users (uids); it knows nothing of files, offsets of
 * `in`, inodes or the kernel. A front end cannot tell a local model from a remote one.
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
struct session; /* reference counted */
struct model;   /* reference counted (the gateway's notion: a name, its settings, its state) */
struct answer;  /* reference counted */
struct draft;   /* one prompt being written: one open of `in` or of a channel */

/* Ids of waiters. 0 is never one. */
typedef uint64_t gateway_waiter;

/* Told once, from the loop thread; then forgotten. */
typedef void gateway_wake_fn(void *arg);

/* ---- the gateway ---- */

enum gateway_change_kind {
	GATEWAY_CHANGE_SESSIONS, /* a session `name` appeared or went */
	GATEWAY_CHANGE_SESSION,  /* a setting (`file`), or, with file NULL, owner or mode of session
				    `name` */
	GATEWAY_CHANGE_MODELS,   /* a model `name` appeared or went, or `default` moved */
	GATEWAY_CHANGE_MODEL,    /* setting `file` of model `name` */
	GATEWAY_CHANGE_ACCOUNTS, /* an account `name` appeared or went */
	GATEWAY_CHANGE_ACCOUNT,  /* setting `file` of account `name` */
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

/* ---- models ---- */

/* Names: [A-Za-z0-9._-]{1,64}, not "." or "..", not "default"; -EEXIST. `auto` and `cascade` are
 * the router's, always there, and have no settings: they can be found, asked and rendered, and
 * `default` may point to them, but not be made or removed (-EEXIST; -EPERM). */
int gateway_model_create(struct gateway *g, const char *name, struct err *err);
/* Whether gateway_model_create takes such a name; says why not. */
int model_name_check(const char *name, struct err *err);
/* Unloads it; running requests end with -ECANCELED. Its key stays for when it is made again.
 * -ENOENT; -EBUSY while `default` points to it. */
int gateway_model_remove(struct gateway *g, const char *name, struct err *err);
/* The key of the model of that name goes, whether the model is there or has gone. Does I/O. 0;
 * -EIO, -ENOSPC. */
int gateway_model_key_forget(struct gateway *g, const char *name, struct err *err);
/* new: names of the models that have a key, whether they are there or have gone, in no order; as
 * gateway_model_names. */
char **gateway_model_key_names(struct gateway *g);
/* new reference, or NULL. "default" is resolved. */
struct model *gateway_model_find(struct gateway *g, const char *name);
struct model *model_ref(struct model *m);
struct model *model_put(struct model *m); /* accepts NULL, returns NULL */
const char *model_name(const struct model *m);
/* new: malloc'ed array of malloc'ed names, sorted; NULL-terminated. NULL when memory is out. */
char **gateway_model_names(struct gateway *g);

/* The sibling that `default` points to; NULL removes the link. A name that does not exist (yet) is
 * taken, as symlinks do. -EINVAL: not a bare name. gateway_default appends the name (nothing when
 * there is none). */
int gateway_default_set(struct gateway *g, const char *name, struct err *err);
/* Whether a person should be let: -EINVAL, with the reason, when it is known that the model of that
 * name does not answer prompts. What TREE says is set all the same, and then in `status`. */
int gateway_default_check(struct gateway *g, const char *name, struct err *err);
int gateway_default(struct gateway *g, struct buf *name);

/* Whether it is one of the router's, `auto` or `cascade`. */
bool model_is_virtual(const struct model *m);

/* Settings of a model, by file name; the table is gateway/model_settings.h's. "path" and "ca_file"
 * are already absolute: the front end knows TREE. A change of what a model is made from (its path,
 * its endpoints ...) takes effect with the next request of an upstream, at the next load of a local
 * one; of the rest with the next request. value without the trailing newline; "" resets. -EINVAL
 * with what is allowed; -ENOENT: no such setting; -EPERM: a virtual model. */
const char *const *model_setting_names(void); /* ends with NULL */
int model_setting_check(const char *file, const char *value, size_t len, struct err *err);
bool model_setting_is_hopeless(const char *file, const char *value, size_t len);
/*
 * What a model of such settings could do, as far as that is known without loading or asking it, for
 * `llmfs --check`. get appends the value that a file has (paths absolute; nothing where there is
 * none); 0 or -errno. Of a local model's file all but the weights is read. 0; what is wrong with
 * that file, as its loading would say: -ENOENT ..., -EINVAL, -EBADMSG, -ENOTSUP.
 */
struct model_powers {
	bool answers, embeds; /* both: nobody knows */
	bool chats;           /* it may answer who did not name it */
	bool is_set;          /* it has a path or an endpoint */
};
int model_powers(int (*get)(void *arg, const char *file, struct buf *out), void *arg,
	struct model_powers *out, struct err *err);
int model_setting_set(
	struct model *m, const char *file, const char *value, size_t len, struct err *err);
int model_setting_get(
	struct model *m, const char *file, struct buf *out); /* appends the value, no newline */

/*
 * The model's key, a secret: it can be written and never be read (gateway/secrets.h has the forms:
 * the secret, "env:NAME", "file:/PATH"). Not a setting: it is kept in the state directory, and TREE
 * knows nothing of it, but that a front end may find a reference ("env:..." or "file:...", no
 * secret) in TREE and set it here. "" removes it. In force with the next request. Does I/O.
 * -EINVAL, -EPERM, -EIO, -ENOSPC.
 */
int model_key_set(struct model *m, const char *value, size_t len, struct err *err);
/* Whether it could be set; says why not, and sets nothing. 0 or -EINVAL. */
int model_key_check(const char *value, size_t len, struct err *err);
/* Whether a text is a reference and no secret. */
bool model_key_is_reference(const char *value, size_t len);

/* "load", "unload" (what runs on it ends with -ECANCELED; the next request loads it again), "reset"
 * (of a failed one: unloaded): begins it; progress and failure are in the state. Nothing is loaded
 * by itself but by requests: a front end that wants `default` loaded at its start says so here.
 * -EINVAL with the verbs; -ENOENT: has no path. */
int model_ctl(struct model *m, const char *verb, size_t len, struct err *err);
bool model_ctl_is_hopeless(const char *line, size_t len); /* as session_setting_is_hopeless */

enum model_view {
	MODEL_STATE,   /* "unset: sentence" (neither path nor endpoint), "unloaded",
			  "loading 43%", "ready", "failed: sentence"; of upstreams
			  "ready", "open", "half-open", "failed: sentence" (where its key is said
			  to be there is none); of virtual ones "ready" or why not */
	MODEL_INFO,    /* JSON object */
	MODEL_METRICS, /* Prometheus text */
};
int model_render(struct model *m, enum model_view view, struct buf *out);
/* Why the last that this user asked through a channel of the model (GATEWAY_ASK, GATEWAY_EMBED) has
 * failed: appends "ask: sentence\n"; nothing when it went well or there was none. Of nobody else.
 * *changed_ns (may be NULL): CLOCK_REALTIME of its end, or 0. */
int model_ask_error(struct model *m, uid_t uid, struct buf *out, uint64_t *changed_ns);

/* ---- guards ---- */

/*
 * Texts below guards/, by their names there: "input/NAME.rules", "output/NAME.rules", "moderation".
 * NAME: [A-Za-z0-9._-], at most 64 bytes with the suffix, not beginning with a dot.
 */
bool gateway_guard_name_ok(const char *file);
/*
 * `text` is what the file holds now. 0: in force with the next request, all of it at once. -EINVAL:
 * it has a fault, the sentence is "input/pii.rules:3:10: reason", and the last good text of that
 * file stays in force (also over a restart; when there is none, the stage refuses everything).
 * Either way the fault is in guards/status. A rule's name that another file of the stage has is a
 * fault until that file has it no more: then the text comes into force by itself. -EFBIG: more than
 * 256 KiB (as -EINVAL).
 */
int gateway_guard_set(
	struct gateway *g, const char *file, const char *text, size_t len, struct err *err);
/* The file is there, but what it holds cannot be known (not a regular file, not to be trusted): a
 * fault, with that sentence, and the last good text stays in force, as above. */
void gateway_guard_fail(struct gateway *g, const char *file, const char *sentence);
/* What the directory "input" or "output" holds cannot be known: that stage refuses everything, with
 * that sentence, until it is said to be well again (NULL). */
void gateway_guard_close(struct gateway *g, const char *stage, const char *sentence);
/* The file is gone: out of force at once, or, when it was renamed away (`away`), in two seconds
 * unless it is set again. */
void gateway_guard_remove(struct gateway *g, const char *file, bool away);
/* Whether that is the text it was set to last, good or bad. */
bool gateway_guard_is(struct gateway *g, const char *file, const char *text, size_t len);
/* Whether rules, or the judge, of that file are in force. */
bool gateway_guard_has_rules(struct gateway *g, const char *file);
/* new: array of the names that were set and not removed, as gateway_session_names. */
char **gateway_guard_names(struct gateway *g);

/* The same judgement without a gateway, for `llmfs --check`: of all files in turn. new; NULL when
 * memory is out. */
struct guards_check *gateway_guards_check_new(void);
struct guards_check *gateway_guards_check_free(struct guards_check *c);
/* Tells each fault, in a sentence as gateway_guard_set's; what is sound beside them is judged as if
 * they were not there. file is a name that gateway_guard_name_ok takes. 0; -ENOMEM. */
int gateway_guards_check(struct guards_check *c, const char *file, const char *text, size_t len,
	void (*tell)(void *arg, const char *sentence), void *arg);
/* borrows: the model that guards/moderation names, if it was among them; "". */
const char *gateway_guards_check_judge(const struct guards_check *c);

/* ---- router/ and cache/ ---- */

/*
 * Settings of a part of the gateway, by file name below its directory. router: policy weights
 * classes threshold cascade_judge cascade_judge_timeout_ms classifier_model classifier_timeout_ms
 * (gateway/router.h); cache: enabled ttl threshold scope embedding_model
 * max_memory max_entries max_disk (gateway/cache.h). Values may have lines (weights, classes). Not
 * kept over a restart, a front end sets them from its files; "" resets. -EINVAL with what is
 * allowed; -ENOENT: no such setting.
 */
enum gateway_part { GATEWAY_ROUTER, GATEWAY_CACHE };
const char *const *gateway_part_setting_names(enum gateway_part part); /* ends with NULL */
int gateway_part_setting_check(
	enum gateway_part part, const char *file, const char *value, size_t len, struct err *err);
bool gateway_part_setting_is_hopeless(
	enum gateway_part part, const char *file, const char *value, size_t len);
int gateway_part_setting_set(struct gateway *g, enum gateway_part part, const char *file,
	const char *value, size_t len, struct err *err);
/* Appends the value, set or default, no newline. */
int gateway_part_setting_get(
	struct gateway *g, enum gateway_part part, const char *file, struct buf *out);
/* What its file holds is no value: the one before stays in force (cache: nothing is served until it
 * is set again). */
void gateway_part_setting_fail(struct gateway *g, enum gateway_part part, const char *file);
/* cache/ctl: "flush", "flush USER". -EINVAL with the verbs. */
int gateway_cache_ctl(struct gateway *g, const char *line, size_t len, struct err *err);
bool gateway_cache_ctl_is_hopeless(const char *line, size_t len);

/* ---- accounts: budgets/NAME ---- */

/*
 * An account has limits, a budget, and what was used of them. It is a user's (by name), a group's
 * (it has members), or `default`, the template for users without one of their own. Accounts of such
 * users exist as soon as they ask something ("unconfigured": they show what default says).
 */
struct account; /* reference counted */

/* Makes it a configured one. Names as sessions'. -EEXIST: it is configured already; -EINVAL. */
int gateway_account_create(struct gateway *g, const char *name, struct err *err);
/* Not configured any more; what was used is kept. -ENOENT. */
int gateway_account_remove(struct gateway *g, const char *name, struct err *err);
struct account *gateway_account_find(struct gateway *g, const char *name); /* new or NULL */
struct account *account_ref(struct account *a);
struct account *account_put(struct account *a); /* accepts NULL, returns NULL */
const char *account_name(const struct account *a);
bool account_is_configured(struct account *a);
/* Whose it is: the uid that asked last in its name. False: nobody has (a group, a template). */
bool account_uid(struct account *a, uid_t *uid);
char **gateway_account_names(struct gateway *g); /* all, as gateway_session_names */

/*
 * Settings, by file name: limit (dollars, "" none), window (day week month total),
 * requests_per_minute requests_per_day tokens_per_minute tokens_per_day requests_in_flight (whole
 * numbers, "" none), alerts (fractions of the limit, with spaces; "" is 0.8 1; off), members (a
 * name a line: makes it a group). value without the trailing newline; "" resets. Not kept over a
 * restart: a front end sets them again from its files. -EINVAL with what is allowed; -ENOENT: no
 * such setting, or the account is not a configured one.
 */
const char *const *account_setting_names(void); /* ends with NULL */
int account_setting_check(const char *file, const char *value, size_t len, struct err *err);
bool account_setting_is_hopeless(const char *file, const char *value, size_t len);
int account_setting_set(
	struct account *a, const char *file, const char *value, size_t len, struct err *err);
/* What the file of a setting holds is no value: the one before stays in force; where there is none
 * (at a start) whatever it limits is refused, until it is set again. */
void account_setting_fail(struct account *a, const char *file);
/* Appends the value, set or default, no newline. An unconfigured account shows default's. */
int account_setting_get(struct account *a, const char *file, struct buf *out);
/* One verb: "reset" (what was spent in the window becomes 0, its alerts can be given again, and
 * windows in which a clock that went wrong has left the account are closed; the ledger says so),
 * "credit DOLLARS" (spent becomes less by so much). -EINVAL with the verbs. */
int account_ctl(struct account *a, const char *line, size_t len, struct err *err);
bool account_ctl_is_hopeless(const char *line, size_t len);

enum account_view {
	ACCOUNT_SPENT,     /* dollars in this window, settled */
	ACCOUNT_REMAINING, /* dollars: limit less spent less reserved; "unlimited" */
	ACCOUNT_LEDGER,    /* a log, JSON lines, the newest 192 to 256 KiB of it; of
			      very many accounts that are idle, 7 to 8 */
	ACCOUNT_EVENTS,    /* a log, JSON lines: alerts */
};
int account_render(struct account *a, enum account_view view, struct buf *out);
/* As session_view_size and session_watch, for LEDGER and EVENTS. */
void account_view_size(
	struct account *a, enum account_view view, uint64_t *bytes, uint64_t *changed_ns);
int account_watch(struct account *a, enum account_view view, uint64_t bytes, gateway_wake_fn *wake,
	void *arg, gateway_waiter *id);
bool account_unwatch(struct account *a, gateway_waiter id);

/* ---- sessions ---- */

struct session_attr {
	uid_t uid;
	gid_t gid;
	mode_t mode; /* permission bits of the directory: 0700 at creation */
	uint64_t created_ns,
		changed_ns; /* CLOCK_REALTIME; changed: last change of conversation or settings */
};

/* Names: [A-Za-z0-9._-]{1,64}, not "." or "..". new reference in *out (may be NULL: not wanted).
 * -EINVAL, -EEXIST, -EDQUOT (too many of this user), -ENAMETOOLONG. Settings are the defaults. The
 * mode is 0700 & mode. */
int gateway_session_create(struct gateway *g, const char *id, uid_t uid, gid_t gid, mode_t mode,
	struct session **out, struct err *err);
/* Cancels what runs, forgets the conversation. The object lives on for who holds it, and refuses
 * with -ENOENT. -EBUSY for `main`. */
int gateway_session_remove(struct gateway *g, const char *id, struct err *err);
struct session *gateway_session_find(struct gateway *g, const char *id); /* new reference or NULL */
struct session *session_ref(struct session *s);
struct session *session_put(struct session *s);  /* accepts NULL, returns NULL */
char **gateway_session_names(struct gateway *g); /* as gateway_model_names */

/*
 * An unlisted session without history for one open of a channel: it is not stored, and each request
 * stands alone. What is asked is answered by
 *	GATEWAY_ASK         a model (models/NAME/ask)
 *	GATEWAY_EMBED       its vector of the text: a JSON array of numbers (models/NAME/embed)
 *	GATEWAY_GUARD_TEST  what all guards say of the text, as JSON; no limits, no model
 *(guards/test) GATEWAY_EXPLAIN     what the router would decide, as JSON (router/explain)
 *	GATEWAY_LOOKUP      what the cache has that is near, as JSON (cache/lookup)
 * The last two take a text as a session's with all defaults; `model` is for the first two. new
 **out. -ENOENT: no such model.
 */
enum gateway_channel {
	GATEWAY_ASK,
	GATEWAY_EMBED,
	GATEWAY_GUARD_TEST,
	GATEWAY_EXPLAIN,
	GATEWAY_LOOKUP
};
int gateway_channel_open(struct gateway *g, enum gateway_channel channel, const char *model,
	uid_t uid, struct session **out, struct err *err);
/* borrows, static: "ask", "embed", "test", "explain", "lookup". */
const char *gateway_channel_name(enum gateway_channel channel);
/* The same as model_ask_error, of a channel that is none of a model's: "explain: sentence\n". */
int gateway_channel_error(struct gateway *g, enum gateway_channel channel, uid_t uid,
	struct buf *out, uint64_t *changed_ns);

void session_attr(struct session *s, struct session_attr *out);
int session_chmod(struct session *s, mode_t mode);
int session_chown(struct session *s, uid_t uid, gid_t gid); /* (uid_t)-1: unchanged */

/*
 * Settings, by file name, from a static table: model system temperature top_p top_k min_p
 * repetition_penalty presence_penalty frequency_penalty max_tokens stop seed format ignore_eos
 * truncate max_cost prompt_budget max_latency_ms cache. Values as text without the trailing newline
 * (`system` and `stop` may have lines). A refused value changes nothing; the sentence (what is
 * allowed) is also what `error` shows next. Takes effect with the next request.
 */
const char *const *session_setting_names(void); /* ends with NULL */
int session_setting_set(struct session *s, const char *file, const char *value, size_t len,
	struct err *err); /* -EINVAL, -ENOENT, -EILSEQ, -EFBIG */
/* Whether the value would be refused whatever bytes came after it, so that a front end need not
 * wait for its end to say so; false where that is not known. The same is below for other settings.
 */
bool session_setting_is_hopeless(
	struct session *s, const char *file, const char *value, size_t len);
int session_setting_reset(struct session *s, const char *file);
int session_setting_get(
	struct session *s, const char *file, struct buf *out); /* appends the value, no newline; ""
								 when it is the default "none" */

/* One verb (a line without its newline): submit, cancel, clear, retry, "fork ID". uid: of who says
 * it; the fork belongs to that user. submit: what stands in the session's open drafts. cancel: what
 * runs and all that is queued; in force at the return. clear: the conversation, not the settings.
 * retry: the newest prompt again, if it was refused before a model saw it (to draft_write: as
 * draft_write says), else the last turn, if its answer is missing or broke off (its prompt passes
 * the guards, limits and budget of now: -EPERM, -EAGAIN, -EDQUOT, -EHOSTUNREACH). fork: settings
 * and settled turns; nothing was asked there yet. -EINVAL with the verbs; those of
 * gateway_session_create for fork; -EBUSY: clear or retry while an answer is under way; -ENOENT:
 * nothing to retry, or more of the refused prompt was, or may have been, to come (a write of whole
 * pages, a second write, no close since), or it is longer than 1 MiB. Why a verb was refused is
 * also what `error` shows next, until one is obeyed. */
int session_ctl(
	struct session *s, uid_t uid, gid_t gid, const char *line, size_t len, struct err *err);
bool session_ctl_is_hopeless(const char *line, size_t len);

/* Replaces the conversation: OpenAI's array of {"role", "content"}; a leading system message
 * becomes the setting `system`, which stays as it is when there is none. All or nothing. -EINVAL
 * with the position; -EBUSY while an answer is under way. What was refused is also what `error`
 * shows next. */
int session_messages_set(struct session *s, const char *json, size_t len, struct err *err);
/* Whether no text that begins with that one can be taken, by its JSON alone. It must not end inside
 * a word of it, a number or a character: whole lines do not. */
bool session_messages_is_hopeless(const char *json, size_t len);
/* What session_messages_set has refused with that code and sentence was refused where perhaps
 * nobody heard it, as shells ignore errors of close: it is the session's newest request, too, but
 * while an answer is under way. `out` fails with it, `status` and `error` say it; a refused prompt
 * can be retried as before. uid: of who wrote. */
void session_messages_unheard(struct session *s, uid_t uid, int code, const char *sentence);

enum session_view {
	/* The conversation as text, grows at its end while an answer is generated. For each turn:
	 * the prompt, each of its lines behind "> ", an empty line, the answer, an empty line; one
	 * that broke off ends with "[cancelled]" or "[failed: why]" and an empty line. */
	SESSION_CHAT,
	SESSION_MESSAGES, /* JSON */
	SESSION_STATUS,   /* "idle\n" queued generating done blocked failed cancelled */
	SESSION_ERROR,    /* a sentence, or nothing */
	SESSION_USAGE,    /* "name value" lines of the newest request and of the session */
	SESSION_TRACE,    /* stages of the newest request with their times, one a line */
	SESSION_EVENTS,   /* JSON lines; bounded: the oldest are dropped */
};
/* Appends the whole text. */
int session_render(struct session *s, enum session_view view, struct buf *out);
/* Exact length of the text now, without rendering it (O(1)), and when it last changed. For
 * SESSION_CHAT and SESSION_EVENTS always; for the others the length of the last rendering. */
void session_view_size(
	struct session *s, enum session_view view, uint64_t *bytes, uint64_t *changed_ns);
/* wake(arg) once the text of CHAT or EVENTS is longer than `bytes` or changed otherwise. 0 and *id;
 * 1: it already is, wake is not called. */
int session_watch(struct session *s, enum session_view view, uint64_t bytes, gateway_wake_fn *wake,
	void *arg, gateway_waiter *id);
/* True: forgotten, wake will not be called. False: it was called, or is being called. */
bool session_unwatch(struct session *s, gateway_waiter id);

/* ---- asking ---- */

/* new *out, at the open of `in`: uid is who pays, by name (it is looked up: gateway/users.h). */
int draft_new(struct draft **out, struct session *s, uid_t uid, struct err *err);
/*
 * More text. Judged over all of the draft so far; never waits. A refusal poisons the draft: it,
 * every later write and the flush return the same errno and nothing is submitted; the refusal is
 * then the session's newest request (`out` fails with it, `status` and `error` say it). -EILSEQ:
 * not UTF-8 (a sequence split between two writes is fine); -EMSGSIZE: longer than the context of
 * the session's model, or than max_prompt_bytes; -EBUSY: the session's queue is full;
 * -EHOSTUNREACH: the session's model does not exist or cannot take it; -EAGAIN: a rate limit, with
 * the time to try again; -EDQUOT: a budget or max_cost; -EPERM: blocked by a guard; -ENOENT: the
 * session was removed; -ESHUTDOWN.
 */
int draft_write(struct draft *d, const char *text, size_t len, struct err *err);
/* Some descriptor of the open was closed: a non-empty draft becomes pending (readers of `out` wait
 * up to a second for its end). 0 or the poison; -EILSEQ when it ends inside a sequence (poisons).
 * Nothing but blanks is no error yet: each program that a shell has begun meanwhile closes one. */
int draft_flush(struct draft *d, struct err *err);
/* As that, though nothing is written to it: readers of `out` wait up to a second for its end. */
void draft_hold(struct draft *d);
/* Submits what is there (one trailing newline dropped) and empties the draft, which can be written
 * again: for channels and `submit`. 0; 1: there was nothing; < 0: the poison, which is gone
 * afterwards, or what is found only now: -EINVAL: there are nothing but blanks. */
int draft_submit(struct draft *d, struct err *err);
/* The last close: submits what is there (unless poisoned or empty) and frees. Accepts NULL, returns
 * NULL. */
struct draft *draft_commit(struct draft *d);
/* Frees without submitting; of a channel, what it has is told as given up (model_ask_error).
 * Accepts NULL, returns NULL. */
struct draft *draft_drop(struct draft *d);

/* ---- answers ---- */

/*
 * The newest request's answer. 0: new reference in *out, NULL when nothing was ever asked. 1: a
 * pending draft holds readers back; wake(arg) comes within a second or so, ask again then; *id
 * names the waiter (session_unwatch).
 */
int session_newest(struct session *s, struct answer **out, gateway_wake_fn *wake, void *arg,
	gateway_waiter *id);
struct answer *answer_ref(struct answer *a);
struct answer *answer_put(struct answer *a); /* accepts NULL, returns NULL */

/*
 * Copies up to size bytes from offset. 0: *n bytes; *n == 0 is the end of a complete answer. 1:
 * nothing there yet. < 0: it broke off there with that errno (all bytes before were given first).
 * Whole UTF-8 sequences only, if size >= 4 and offset is at the start of one.
 */
int answer_read(struct answer *a, uint64_t offset, char *bytes, size_t size, size_t *n);
/* wake(arg) once answer_read(offset) would no longer return 1. 0 and *id; 1: it already would not,
 * wake is not called. */
int answer_wait(
	struct answer *a, uint64_t offset, gateway_wake_fn *wake, void *arg, gateway_waiter *id);
/* As session_unwatch. */
bool answer_unwait(struct answer *a, gateway_waiter id);
/* Bytes so far, and whether that is all. */
uint64_t answer_size(struct answer *a, bool *ended);

#endif
