/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_DRAFT_PARTS_H
#define GATEWAY_DRAFT_PARTS_H

/* A draft as the files named draft_* see it: its text in draft.c, and what that text has to pass.
 */

#include "gateway/draft.h"
#include "gateway/guards.h"

struct draft {
	atomic_uint refs;
	struct session *session; /* a reference */
	uid_t uid;
	char user[TEXT_NAME_SIZE];
	struct loop_timer timer;

	pthread_mutex_t lock;
	struct buf text;
	size_t valid;   /* bytes that are whole sequences */
	size_t counted; /* bytes whose tokens are in n_tok */
	size_t n_tok;
	size_t flushed;      /* bytes that made it pending */
	uint64_t request_id; /* of what it becomes, or is refused as; 0: nothing is written yet */
	bool whole;          /* as far as is known, that is all of the prompt */
	int poison;          /* 0 or -errno */
	struct err poison_err;
	struct text *refused; /* all of it, as far as is known, when it was refused; or NULL */
	struct guard_stream *rules; /* since the first write; NULL: for guards/test */
	uint64_t generation;        /* of the set it was made of */
	struct buf clean;           /* what passed them */
	size_t told;                /* findings that are audited */
	struct book_claim *claim;
	uint64_t retry_ms; /* when a claim that was refused may be tried again; 0: not known */
	bool unpaid;       /* only the cache can answer it, because of */
	struct err unpaid_err;

	/* under the session's lock */
	bool placed; /* has a place in the queue */
	bool pending, closed;
	bool cancelled; /* by a cancel after its last flush, and nothing was written since */
	bool armed;     /* the timer is, or it is about to run: it has a reference */
	uint64_t pending_since_ns, closed_until_ns;
	uint64_t flush_serial, flushed_ns; /* of the last flush; 0: nothing is flushed */
	struct list link;
};

struct draft *draft_ref(struct draft *d);
struct draft *draft_put(struct draft *d); /* accepts NULL, returns NULL */

/*
 * draft_order.c: its place among those of its session: in the queue, before the readers that wait
 * for it, and in the order of flushes.
 */
void draft_order_init(struct draft *d);
/* It was flushed with new text: readers of the newest answer are held back. Without the session's
 * lock. */
void draft_order_pending(struct draft *d);
/* It was flushed: its place in the order. Without the session's lock. */
void draft_order_stamp(struct draft *d);
/* More of it is written: its file is open, and what was flushed was not all of it. Without the
 * session's lock. */
void draft_order_goes_on(struct draft *d);
/* Whether it was flushed, and readers still wait for its commit. With the session's lock held. */
bool draft_order_is_coming(const struct draft *d);
/* Its last close: true when it has to wait for one that was flushed before it; it is submitted and
 * dropped by itself then. Without the session's lock. */
bool draft_order_waits(struct draft *d);
/* It is a request now, in the place that was kept for it. With the session's lock held. */
void draft_order_submitted(struct draft *d);
/* It is refused: nobody waits for it any more, and its place is free. Without the session's lock.
 */
void draft_order_leave(struct draft *d);
/* The same, and it begins anew, or goes. */
void draft_order_reset(struct draft *d);

/*
 * draft_check.c: what it has to pass but for the rules. With its lock held. 0, or what draft_write
 * refuses with.
 */
/* What can be known before a byte is read. One that passes has a place in the queue. */
int draft_check_session(struct draft *d, struct err *err);
/* What was added; it may end inside a character. */
int draft_check_utf8(struct draft *d, struct err *err);
/* All of it: it may not. */
int draft_check_whole(const struct draft *d, struct err *err);
/* Whether its model can take so much, and whether it can be paid. */
int draft_check_model(struct draft *d, struct err *err);

/* draft_claim.c: what it holds of its user's account. With its lock held; errors as above. */
/* Claims what the request may cost on that model, or so much more. `l`: what is loaded of it, or
 * NULL. */
int draft_claim_cost(struct draft *d, struct model *m, const struct loaded *l, struct err *err);
/* The same for a channel that only looks. */
int draft_claim_dry(struct draft *d, struct err *err);
/* One that cannot be paid: whether the cache has its answer, if it ended here. */
int draft_claim_cached(struct draft *d, struct err *err);

/* draft_rules.c: what the input rules make of it. With its lock held; errors as above. */
/* What was added, the last len bytes of the text. */
int draft_rules_check(struct draft *d, const char *text, size_t len, struct err *err);
/* It ends here: its prompt, less the newline at its end, is in d->clean (d->text when d->rules is
 * NULL). */
int draft_rules_end(struct draft *d, struct err *err);
/* new: what it would be as a prompt, if it ended here; or NULL. */
struct text *draft_rules_so_far(const struct draft *d);
/* What was found is audited, once. */
void draft_rules_tell(struct draft *d);
/* Forgets what they have made of it. */
void draft_rules_drop(struct draft *d);

#endif
