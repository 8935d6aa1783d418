/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_REQUEST_H
#define GATEWAY_REQUEST_H

/* A request: a state machine on the loop's thread, from its submission to the settled answer. */

#include "gateway/answer.h"
#include "gateway/book.h"
#include "gateway/conversation.h"
#include "gateway/model.h"
#include "gateway/settings.h"

enum request_state {
	REQUEST_QUEUED,
	REQUEST_GENERATING,
	REQUEST_DONE,
	REQUEST_FAILED,
	REQUEST_CANCELLED,
	REQUEST_BLOCKED, /* by a guard */
};

enum request_stage {    /* where the machine stands: the loop's */
	STAGE_QUEUED,   /* behind others of its session */
	STAGE_JUDGE,    /* its prompt is being judged */
	STAGE_MODEL,    /* waits for the model to be loaded */
	STAGE_RENDER,   /* its conversation is being rendered */
	STAGE_GENERATE, /* in the provider's hands, and until all of it is released */
	STAGE_STORE,    /* answered; being stored */
	STAGE_RELEASED, /* nothing is held any more */
};

/* What other threads have to say to the machine. */
struct request_news {
	struct buf text; /* of the answer, not yet in it */
	bool told, rendered, started, ended, stored, leased;
	int told_status, end_status, stored_status, leased_status;
	struct err told_err, end_err;
	uint64_t started_ns, text_ns, ended_ns; /* text_ns: the first text */
	const char *finish;
	struct trace_usage usage;
};

struct request_inbox {
	pthread_mutex_t lock;
	struct request_news news;
};

struct request {
	atomic_uint refs;
	struct gateway *g; /* borrowed: the session and the answer hold it */
	struct answer *answer;
	uint64_t id;
	uid_t uid;
	char user[TEXT_NAME_SIZE]; /* of its account */
	bool retry;

	/* The session's lock guards these. */
	struct session *session; /* a reference, until it is released */
	struct list link;        /* in the session's queue */
	struct text *prompt;
	struct settings settings;
	enum request_state state;
	bool over;            /* its state is final */
	bool finishing;       /* answered; only the store is missing */
	bool in_turn;         /* it has a turn in the conversation */
	bool refused;         /* before a model saw it: no part of the conversation */
	struct turn replaced; /* that its own took the place of; user NULL: none */
	int code;
	struct text *error;
	const char *finish;
	uint64_t seed;
	bool seeded;
	struct trace_times times;
	struct trace_usage usage;
	char model_name[TEXT_NAME_SIZE];
	struct book_claim *claim; /* until it is settled; NULL: it costs nothing */
	bool claim_started;
	money cost;

	/* The loop's. */
	enum request_stage stage;
	struct model *model;
	struct model_user user_of_model;
	struct judge *judge;           /* of the prompt */
	struct moderation *moderation; /* that it goes by */
	struct rendering *rendering; /* while STAGE_RENDER; the texts' thread's while it is there */
	struct outlet *outlet;       /* from STAGE_GENERATE on */
	uint64_t provider_id, checkpoint_ns;
	uint64_t lease_tok; /* that the running lease covers */
	/* Who may still write into the inbox: the machine waits for them before it lets go. */
	bool with_texts, with_provider, with_store, with_lease;
	bool cancel_sent;
	struct store_waiter after, lease;
	struct loop_work work, render_work;

	struct request_inbox *inbox; /* until it is released */
};

/* new; NULL when memory is out. Takes references of prompt and the settings' values; user (copied)
 * is the name of the uid's account. */
struct request *request_new(struct gateway *g, struct text *prompt, const struct settings *settings,
	uid_t uid, const char *user);
/* new: one that was refused, or restored from the store: over from the start. */
struct request *request_over(struct gateway *g, enum request_state state, int code,
	const char *sentence, struct text *answer, uid_t uid);
struct request *request_ref(struct request *r);
struct request *request_put(struct request *r); /* accepts NULL, returns NULL */

/* Something ends it. With the session's lock held; any thread. Later ends are ignored; so are all
 * while it is only being stored, unless `even_stored`. */
void request_settle(struct request *r, enum request_state state, int code, const char *sentence,
	bool even_stored);

/* What it has used is charged, or, when nothing was computed, its claim goes back. Once. With the
 * session's lock held. */
void request_charge(struct request *r, const char *status);
/* It becomes a part of its conversation as what it is. With the session's lock held. */
void request_settle_turn(struct request *r);

/* Accepts NULL, returns NULL. */
struct request_inbox *request_inbox_free(struct request_inbox *box);

const char *request_state_word(const struct request *r); /* "queued" ... */

#endif
