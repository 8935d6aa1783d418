/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GATEWAY_SESSIONS_H
#define GATEWAY_GATEWAY_SESSIONS_H

/* The door of the gateway: sessions, what is asked in them, and the answers. */

#include "gateway/gateway.h"

struct session; /* reference counted */
struct answer;  /* reference counted */
struct draft;   /* one prompt being written: one open of `in` or of a channel */

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

/*
 * An unlisted session as that of GATEWAY_ASK, but with a conversation: for a front end whose
 * requests bring theirs with them. It is not stored, nobody finds it by name, and model_ask_error
 * has nothing of it; in ledgers, trace and audit it is "http". new *out. -ENOENT: no such model.
 * What runs in it runs on when the last reference goes: session_abandon comes before.
 */
int gateway_chat_open(
	struct gateway *g, const char *model, uid_t uid, struct session **out, struct err *err);

enum session_role { SESSION_SYSTEM, SESSION_USER, SESSION_ASSISTANT };
struct session_message {
	enum session_role role;
	const char *text; /* UTF-8, NUL-terminated */
	size_t len;
};
/* As session_messages_set: perhaps a system message, then user and assistant in turns, the last
 * one an assistant's (or none). All pass the input guards, and no others; all that no judge of
 * prompts has seen is judged with the next prompt. -EINVAL, -EILSEQ with the number of the message;
 * -EPERM: a guard; -EMSGSIZE: more than max_prompt_bytes in all, or than `system` may have; -EBUSY.
 * It is no request: a refusal is not the newest one, and after a success there is none. */
int session_turns_set(
	struct session *s, const struct session_message *messages, size_t n, struct err *err);

/* How the newest request stands. All zero when nothing was ever asked (finish is ""). */
struct session_outcome {
	uint64_t id; /* of the request: in ledgers and trace/ it has the same */
	bool over;   /* its state is final, and so is all of this */
	int code;    /* 0 or -errno: refused, failed, cancelled */
	struct err why;
	const char *finish;                          /* static: "stop", "length", "" */
	char model[65];                              /* that answered, or was to */
	uint64_t prompt_tok, cached_tok, output_tok; /* of what was computed: 0 from the cache */
	uint64_t retry_ms; /* of -EAGAIN, -EBUSY, -EDQUOT: when to try again; 0: not known, or
			      trying does not help */
	bool from_cache;
	bool begun; /* a model has worked on it: what blocked it blocked an answer */
};
/* Who has seen the end of the request's answer (answer_read, answer_size) finds `over`, with all
 * numbers final: they are settled before the end is told, nobody needs to wait. */
void session_outcome(struct session *s, struct session_outcome *out);
/* The asker of an unlisted session has left: cancels what runs and is queued, as `cancel` does, and
 * whatever is submitted afterwards is refused with -ENOENT. Everything is settled and freed without
 * the asker, who still has a reference and drafts to let go of. Any thread; nothing waits; once or
 * more, also when all is over. */
void session_abandon(struct session *s);

void session_attr(struct session *s, struct session_attr *out);
int session_chmod(struct session *s, mode_t mode);
int session_chown(struct session *s, uid_t uid, gid_t gid); /* (uid_t)-1: unchanged */

/*
 * Settings, by file name, from a static table: model system temperature top_p top_k min_p
 * repetition_penalty presence_penalty frequency_penalty max_tokens stop seed format ignore_eos
 * truncate max_cost prompt_budget max_latency_ms cache. Values as text without the trailing newline
 * (`system` and `stop` may have lines). A refused value changes nothing; the sentence (what is
 * allowed) is also what `error` shows next, until something is changed or asked: a value that is in
 * force already leaves it. Takes effect with the next request.
 */
const char *const *session_setting_names(void); /* ends with NULL */
int session_setting_set(struct session *s, const char *file, const char *value, size_t len,
	struct err *err); /* -EINVAL, -ENOENT, -EILSEQ, -EFBIG */
/* Whether the value would be refused whatever bytes came after it, so that a front end need not
 * wait for its end to say so; false where that is not known. The same is below for other settings.
 */
bool session_setting_is_hopeless(
	struct session *s, const char *file, const char *value, size_t len);
/* To the default; of a refusal before it `error` shows nothing more. */
int session_setting_reset(struct session *s, const char *file);
/* Back to what was in force before, len 0: the default, because what was set after it is refused as
 * well: what `error` shows of that refusal stays, and is shown again where a reset was the last. */
int session_setting_undo(struct session *s, const char *file, const char *value, size_t len);
int session_setting_get(
	struct session *s, const char *file, struct buf *out); /* appends the value, no newline; ""
								 when it is the default "none" */
bool session_setting_is_set(struct session *s, const char *file); /* false: it is the default */

/* One verb (a line without its newline): submit, cancel, clear, retry, "fork ID". uid: of who says
 * it; the fork belongs to that user. submit: what stands in the session's open drafts. cancel: what
 * runs, all that is queued, and what was flushed last (draft_commit comes after that); in force at
 * the return. clear: the conversation, not the settings.
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
