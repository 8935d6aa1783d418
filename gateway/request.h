/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_REQUEST_H
#define GATEWAY_REQUEST_H

/* A request: a state machine on the loop's thread, from its submission to the settled answer. */

#include "gateway/answer.h"
#include "gateway/model.h"
#include "gateway/settings.h"

enum request_state {
	REQUEST_QUEUED,
	REQUEST_GENERATING,
	REQUEST_DONE,
	REQUEST_FAILED,
	REQUEST_CANCELLED,
};

enum request_stage {    /* where the machine stands: the loop's */
	STAGE_QUEUED,   /* behind others of its session */
	STAGE_MODEL,    /* waits for the model to be loaded */
	STAGE_RENDER,   /* its conversation is being rendered */
	STAGE_GENERATE, /* in the provider's hands */
	STAGE_STORE,    /* answered; being stored */
	STAGE_RELEASED, /* nothing is held any more */
};

/* What other threads have to say to the machine. */
struct request_news {
	struct buf text; /* of the answer, not yet in it */
	bool told, rendered, started, ended, stored;
	int told_status, end_status, stored_status;
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
	bool retry;

	/* The session's lock guards these. */
	struct session *session; /* a reference, until it is released */
	struct list link;        /* in the session's queue */
	struct text *prompt;
	struct settings settings;
	enum request_state state;
	bool over;      /* its state is final */
	bool finishing; /* answered; only the store is missing */
	bool in_turn;   /* it has a turn in the conversation */
	int code;
	struct text *error;
	const char *finish;
	uint64_t seed;
	bool seeded;
	struct trace_times times;
	struct trace_usage usage;
	char model_name[TEXT_NAME_SIZE];

	/* The loop's (while rendering: the texts' thread's). */
	enum request_stage stage;
	struct model *model;
	struct model_user user;
	struct request_job *job;
	int render_status;
	struct err render_err;
	struct provider_prompt tokens;
	uint64_t provider_id, checkpoint_ns;
	bool cancel_sent;
	struct store_waiter after;
	struct loop_work work, render_work;

	struct request_inbox *inbox; /* until it is released */
};

/* new; NULL when memory is out. Takes references of prompt and the settings' values. */
struct request *request_new(
	struct gateway *g, struct text *prompt, const struct settings *settings, uid_t uid);
/* new: one that was refused, or restored from the store: over from the start. */
struct request *request_over(struct gateway *g, enum request_state state, int code,
	const char *sentence, struct text *answer, uid_t uid);
struct request *request_ref(struct request *r);
struct request *request_put(struct request *r); /* accepts NULL, returns NULL */

/* On the loop, without locks: its turn has come. */
void request_start(struct request *r);
/* Lets the machine look at its state and inbox. Any thread. */
void request_post(struct request *r);
/* Something ends it. With the session's lock held; any thread. Later ends are ignored; so are all
 * while it is only being stored, unless `even_stored`. */
void request_settle(struct request *r, enum request_state state, int code, const char *sentence,
	bool even_stored);

const char *request_state_word(const struct request *r); /* "queued" ... */

#endif
