/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SESSION_H
#define GATEWAY_SESSION_H

/* A session, for the files of this folder. */

#include "gateway/conversation.h"
#include "gateway/request.h"

enum { N_SESSION_VIEWS = SESSION_EVENTS + 1 };

struct session_sums {
	uint64_t requests, prompt_tok, cached_tok, output_tok;
	money cost;
};

struct session {
	atomic_uint refs;
	struct gateway *g; /* a reference */
	char id[TEXT_NAME_SIZE];
	bool unlisted;                /* has no name to be found by, and is not stored */
	bool alone;                   /* each request without those before it: a channel's */
	enum gateway_channel channel; /* whose answers are asked for; GATEWAY_ASK: a model's */
	uint64_t asked;               /* model_serial of the one whose channel it is; 0: of none */

	pthread_mutex_t lock; /* guards down to `flags` */
	struct session_attr attr;
	bool removed; /* or, unlisted, abandoned: nothing is asked there any more */
	struct settings settings;
	struct conversation conversation;
	struct list queue; /* struct request, in the order of their commit */
	uint32_t n_queued;
	uint64_t queued_serial;  /* of the last one of them that has a record in the store */
	uint32_t n_places;       /* in the queue, kept for drafts that were begun */
	struct request *running; /* its turn is the conversation's last; a reference */
	struct request *newest;  /* a reference */
	struct text *note;       /* the sentence of a refused setting */
	bool note_withdrawn;     /* it is not told: a setting was reset */
	/* When that became so: later flushes have later serials. 0: none, or restored. */
	uint64_t newest_serial, note_serial;
	struct list drafts;    /* struct draft */
	uint32_t n_pending;    /* drafts that hold readers back */
	uint64_t flush_serial; /* of what was flushed or refused last */
	struct buf events;
	size_t events_unsaved; /* bytes at its end that the store has not got */
	uint64_t events_next;  /* number of the next record there */
	struct session_sums sums;
	uint64_t view_bytes[N_SESSION_VIEWS], view_ns[N_SESSION_VIEWS];
	unsigned flags;

	struct list newest_watch, chat_watch, events_watch; /* the watch table's */
	struct loop_work work;

	struct request *routed; /* how it was routed is not in the store yet; a reference */
	struct list due;        /* the loop's: in the gateway's list of such sessions */
};

enum { /* what session->work has to do */
	SESSION_NEWEST_CHANGED = 1,
	SESSION_CHAT_CHANGED = 2,
	SESSION_EVENTS_GREW = 4,
	SESSION_EVENTS_CHANGED = 8, /* not only at its end */
	SESSION_CHAT_GREW = 16,
	SESSION_ROUTE_DUE = 32, /* session_route_due */
};

/* new, all defaults, in no table. NULL when memory is out. */
struct session *session_make(struct gateway *g, const char *id, bool unlisted);

/* Like gateway_session_create, with the settings and settled turns of `from`: nobody finds it
 * before they are there. In gateway_sessions.c. */
int gateway_session_fork(
	struct session *from, const char *id, uid_t uid, gid_t gid, struct err *err);

/* Asks the loop to look after the session: told watchers by flags, start the next request. With the
 * lock held. */
void session_poke(struct session *s, unsigned flags);

/* One more (1) or one less (-1) is queued in it, or runs: also in the gateway's sums, which have
 * nothing of channels that only look. With the lock held. */
void session_count_queued(struct session *s, int by);
void session_count_running(struct session *s, int by);

/* With the lock held: */
void session_stamp_views(struct session *s); /* what they show changed now */
void session_touch(struct session *s);       /* changed now; stores the session's entry */
void session_store_turn(struct session *s, const struct turn *t);
void session_drop_turn(struct session *s); /* the last one, from the store too */
/* All, with what is known of the last request beside its turn. */
void session_drop_turns(struct session *s);
void session_take_turn(struct session *s, struct turn *out); /* likewise; conversation_take_last */
void session_put_turn_back(struct session *s, struct turn *t);
/* r's prompt becomes the last turn, stored: under way with that answer or, NULL, failed with r's
 * error. One that was not answered, or is answered again, makes room and is in r->replaced. 0, or
 * -ENOMEM and nothing has changed. */
int session_add_turn(struct session *s, struct request *r, struct answer *answer);
/* r may be NULL: it is of none. */
void session_event(struct session *s, const char *event, const struct request *r);
/* The same, but nobody is told: with what session_poke is to be. */
unsigned session_events_add(struct session *s, const char *event, const struct request *r);
/* Of a channel, whose session nobody can look into: how r ended is for its user's model_ask_error
 * or gateway_channel_error. */
void session_tell_asker(struct session *s, const struct request *r);
/* Likewise: what uid wrote was never asked. */
void session_tell_given_up(struct session *s, uid_t uid);
/* r's turn in the conversation begins; one that was not answered makes room. 0 or -ENOMEM. */
int session_begin_turn(struct session *s, struct request *r);
/* r becomes the newest request (steals the reference), unless the newest one, or the note, is later
 * than `serial`: the close of a prompt is told late, and may be told after the refusal of the next.
 * 0: as of now; of no request: whatever comes is later. */
void session_set_newest(struct session *s, struct request *r, uint64_t serial);
void session_set_note(struct session *s, const char *sentence); /* NULL: none */
/* The note, if there is one, is not told, or is told again. */
void session_withdraw_note(struct session *s, bool is_withdrawn);
/* Keeps a place in the queue, until session_submit takes it or it is let go. 0, -EBUSY,
 * -ENOENT. */
int session_take_place(struct session *s, struct err *err);
void session_leave_place(struct session *s);
/* Takes r (steals a reference) to the end of the queue; it is the newest as of the flush with that
 * serial (0: now). `placed`: into the place that was kept for it, which is used up when this
 * succeeds. 0, -EBUSY, -ENOENT. */
int session_submit(
	struct session *s, struct request *r, bool placed, uint64_t serial, struct err *err);
/* By what a split draws the arm of a request with that prompt: the session. Of an unlisted one,
 * whose name is that of all such, it is how its conversation begins, so that what goes on with it
 * has the same arm. Without the lock. */
void session_arm(struct session *s, const struct text *prompt, char out[TEXT_NAME_SIZE]);
/* Ends what runs and what is queued. */
void session_cancel_all(struct session *s, const char *why);
/* 0, or -ENOENT when it was removed. */
int session_alive(const struct session *s, struct err *err);
/* 0, or -EBUSY while a request runs or waits, or a prompt that was closed is not submitted yet
 * (draft.h; draft_end_cancelled comes before). */
int session_is_free(const struct session *s, struct err *err);

/* A prompt, or messages, that were refused before there was a request. */
struct session_refusal {
	uint64_t id; /* of the request that it is refused as */
	uid_t uid;
	int code;
	const char *sentence;
	bool messages;       /* it was no prompt */
	struct text *prompt; /* borrowed: all of it, for `retry`; NULL: that is not known yet */
	uint64_t serial;     /* of its flush; 0: as of now */
	uint64_t retry_ms;   /* when to try again; 0: that is not known */
};
/* It is the newest request. Without the lock. */
void session_refuse(struct session *s, const struct session_refusal *what);
/* That is all of the one with that id (borrowed); NULL: all of it is not known, or not any more.
 * Without the lock. */
void session_refused_prompt(struct session *s, uint64_t id, struct text *prompt);
/* The newest request, if it is a prompt that was refused before a model saw it, also where messages
 * were refused after it; or NULL. borrowed. With the lock held. */
struct request *session_refused(struct session *s);

/* The stored form: session_store.c. With the lock held, but for the restoring. */
bool session_is_stored(const struct session *s);
void session_store(struct session *s);
void session_store_setting(struct session *s, enum setting i);
void session_store_all(struct session *s);
void session_unstore(struct session *s);
/* r waits behind another one: its prompt survives a crash. */
void session_store_queued(struct session *s, struct request *r);
/* r waits no more: that record goes, if there is one. */
void session_unstore_queued(struct session *s, struct request *r);
/* Before somebody is told that it was changed: what was stored of it survives a kill then. A
 * channel's, whose file may be locked and of which nothing is stored, does not wait. Without locks;
 * not on the loop. */
void session_await_stored(struct session *s);
/* Events that the store has not got; nobody waits for that: session_events.c. */
void session_events_store(struct session *s);
void session_events_unstore(struct session *s);
/* A record of them, as a scan of the store gives them: all of a session in a row, with a place that
 * was zeroed before the first of all. Then _restored. 0, -EBADMSG, -ENOMEM. */
struct session_events_place {
	struct session *session;
	size_t older; /* bytes at the beginning that are of records before the first that came */
};
int session_events_restore(
	struct session *s, struct session_events_place *at, const char *value, size_t len);
void session_events_restored(struct session *s);
/* What the views of r, which is over, say that its turn has not; nobody waits for that. The newest
 * request, restored from its turn, has it again: session_last.c. 0, -EBADMSG, -ENOMEM. */
void session_store_last(struct session *s, struct request *r);
/* How it was routed, now. */
void session_store_route(struct session *s);
/* That is to be done within a second. On the loop, without the lock. */
void session_route_due(struct session *s);
void session_routes_run(struct loop_timer *timer); /* of the gateway */
void session_routes_drop(struct gateway *g);       /* once the loop is closed */
void session_unstore_last(struct session *s);
int session_restore_last(struct session *s, const char *value, size_t len);
/* How the model was chosen, where there was a choice, as `trace` shows it: session_views.c. */
int session_render_route(const struct request *r, struct buf *out);
/* r is over: both of these, of it. */
void session_store_ended(struct session *s, struct request *r);
/* What no end of a request has written yet: before the store is closed. Without locks. */
void session_store_rest(struct gateway *g);
int session_restore_all(struct gateway *g, struct err *err);
/* What a crash left of a session's request has been charged: it is in its sums, and, if that was
 * its last one, in its usage. Without locks. */
void session_crashed(struct gateway *g, const struct book_crash *crash);
/* What waited when the daemon was killed becomes failed turns, in its order: as in a conversation
 * that goes on, each takes the place of an unanswered one. Once the store may be written, and after
 * session_crashed, which is about the one before them. Without locks; nobody else knows of the
 * sessions yet. */
int session_restore_queued(struct gateway *g, struct err *err);

#endif
