/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_REQUEST_H
#define GATEWAY_REQUEST_H

/* A request: a state machine on the loop's thread, from its submission to the settled answer. */

#include "gateway/answer.h"
#include "gateway/book.h"
#include "gateway/cache.h"
#include "gateway/caching_wait.h"
#include "gateway/conversation.h"
#include "gateway/embedding.h"
#include "gateway/gate.h"
#include "gateway/model.h"
#include "gateway/quality.h"
#include "gateway/settings.h"

enum request_state {
	REQUEST_QUEUED,
	REQUEST_GENERATING,
	REQUEST_DONE,
	REQUEST_FAILED,
	REQUEST_CANCELLED,
	REQUEST_BLOCKED, /* by a guard */
};

enum { REQUEST_KEPT_MAX = 1 << 20 }; /* bytes of a refused prompt */

enum request_stage {    /* where the machine stands: the loop's */
	STAGE_QUEUED,   /* behind others of its session */
	STAGE_JUDGE,    /* its prompt is being judged */
	STAGE_CACHE,    /* the cache is looking for its answer */
	STAGE_FOLLOW,   /* an equal request is being answered: it gets that answer */
	STAGE_CHANNEL,  /* a channel's own work: a vector */
	STAGE_CLASS,    /* a model says how much its prompt asks */
	STAGE_GATE,     /* waits until its model takes one more */
	STAGE_MODEL,    /* waits for the model to be loaded */
	STAGE_RENDER,   /* its conversation is being rendered */
	STAGE_GENERATE, /* in the provider's hands, and until all of it is released */
	STAGE_WEIGH,    /* a model judges the whole answer, of which nothing is shown */
	STAGE_NEXT,     /* that model could not, or not well enough: the next one, as soon as nobody
			   works     for it any more */
	STAGE_STORE,    /* answered; being stored */
	STAGE_RELEASED, /* nothing is held any more */
};

/* What other threads have to say to the machine. */
struct request_news {
	struct buf text; /* of the answer, not yet in it */
	bool admitted, told, rendered, started, ended, stored, leased;
	int told_status, end_status, stored_status, leased_status;
	struct err told_err, end_err;
	uint64_t started_ns, text_ns, ended_ns; /* text_ns: the first text */
	const char *finish;
	struct trace_usage usage;
	bool retryable;
	float mean_logprob;
};

struct request_inbox {
	pthread_mutex_t lock;
	struct request_news news;
};

/* An answer of a cascade, on its way to be shown or not: cascade.c's. */
struct request_weighed {
	double quality, mean_logprob;
	struct quality_reasons reasons;
	bool is_judged;
	char judge[TEXT_NAME_SIZE];
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
	uint64_t queued_serial;  /* of its record in the store, while it waits there; 0: none */
	struct text *prompt;
	struct settings settings;
	enum request_state state;
	bool over;              /* its state is final */
	bool counted;           /* in the session's sums */
	bool finishing;         /* answered; only the store is missing */
	bool in_turn;           /* it has a turn in the conversation */
	bool refused;           /* before a model saw it: no part of the conversation; its prompt
				   stays, for `retry`, if that is REQUEST_KEPT_MAX or shorter */
	bool sent_again;        /* that prompt, by retry, just now */
	bool messages;          /* no prompt: a messages.json that was refused */
	struct request *behind; /* the newest request was that prompt when messages were refused,
				   which this is; a reference, or NULL */
	uint64_t turn_serial;   /* of its turn, also when it has been settled; 0: it had none */
	struct turn replaced;   /* that its own took the place of; user NULL: none */
	int code;
	struct text *error;
	uint64_t retry_ms; /* refused by a limit: when to try again; 0: that is not known */
	const char *finish;
	uint64_t seed;
	bool seeded;
	struct trace_times times;
	struct trace_usage usage;         /* of all models that had a part in it */
	struct trace_usage attempt_usage; /* of the one that has now */
	char model_name[TEXT_NAME_SIZE];
	const char *provider; /* of it; NULL: none has worked for it. static */
	struct route *route;  /* the models it is tried on, and what came of each; or NULL */
	struct router_decision
		*decision;          /* that the route is from; NULL: the session named a model */
	struct text *said;          /* restored: what `trace` said of both; or NULL */
	enum cache_level served_by; /* the cache gave the answer; 0: it did not */
	struct book_claim *claim;   /* until it is settled; NULL: it costs nothing */
	bool claim_started;
	money cost;                      /* of all of it, once it is settled */
	struct money_tokens judge_usage; /* the judges' part */
	money judge_cost;
	struct money_tokens lookup_usage; /* that of the cache's vector */
	money lookup_cost;
	bool pays_lookup; /* that is being made, and covered */

	/* The loop's. */
	enum request_stage stage;
	struct cache_ticket *ticket;
	struct caching_wait cache_wait;
	uint64_t guards_age;   /* fingerprint of the output guards that its key has */
	struct answer *leader; /* STAGE_FOLLOW */
	uint64_t leader_at;    /* so much of it was taken */
	gateway_waiter leader_id;
	bool is_makeshift; /* a model failed, or the best of a cascade is served: no answer of its
			      key */
	bool serves_best;  /* what the outlet has is all there is: nothing of a provider counts any
			      more */
	bool held_is_good; /* cascade.h has said so */
	struct request_weighed weighed;
	/* What a model said of the prompt's class, NULL: none was asked; and classing.c's. */
	struct router_opinion *opinion;
	struct text *class_question;
	uint64_t class_model;
	void (*classed)(struct request *r);
	bool with_leader,
		asks_again;          /* asks_again: STAGE_CACHE, as soon as the leader has let go */
	struct embedding *embedding; /* STAGE_CHANNEL */
	struct gate *gate;           /* of the model: it runs in there, or waits */
	struct gate_user at_gate;
	struct loop_timer gate_timer;
	uint64_t attempt_ns; /* this model's try began */
	size_t n_tried;      /* models of the route, with the one that is tried now */
	struct err left_err;
	int left_code;   /* STAGE_NEXT: why that one is left; 0: not good enough */
	struct buf held; /* text that a cascade may take back */
	struct buf best; /* the best that it has taken back, and how good that was */
	double best_quality;
	char best_model[TEXT_NAME_SIZE];
	const char *best_provider;
	struct trace_usage usage_before; /* of the models before this one */
	struct model *model;
	struct model_user user_of_model;
	struct judge *judge;           /* of the prompt, its class, or a cascade's answer */
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

/* For a request that comes to be, or for what is refused before: each once, also over restarts. */
uint64_t request_next_id(struct gateway *g);
/* new; NULL when memory is out. Takes references of prompt and the settings' values; user (copied)
 * is the name of the uid's account. */
struct request *request_new(struct gateway *g, uint64_t id, struct text *prompt,
	const struct settings *settings, uid_t uid, const char *user);
/* new: one that was refused, or (id 0) restored from the store: over from the start. */
struct request *request_over(struct gateway *g, uint64_t id, enum request_state state, int code,
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
/* Into the session's sums, once it is charged; stores the session's entry. Once. With the session's
 * lock held. */
void request_count(struct request *r);

/* Accepts NULL, returns NULL. */
struct request_inbox *request_inbox_free(struct request_inbox *box);

const char *request_state_word(const struct request *r); /* "queued" ... */

#endif
