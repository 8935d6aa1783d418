/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_BOOK_H
#define GATEWAY_BOOK_H

/*
 * The book: all accounts, and the claims that requests hold on them.
 *
 * A claim is one request's: a ticket of each rate limit, a reservation of tokens and money, in the
 * account of its user and in each group the user is a member of; in all of them or in none. What is
 * spent and reserved together never passes a limit.
 *
 * A request's tickets and tokens count in the windows of the clock (UTC) in which they were
 * claimed, also when it ends in a later one; its money in the window in which it ends.
 *
 * What survives a kill -9 (and what does not): reservations are gone. Tickets stay used if the
 * request had begun to be computed, or a second had passed. A request that was being released is
 * charged, at the next start, for its prompt and for the tokens that were leased: never less than
 * what a reader got, at most BOOK_LEASE_TOK tokens more. Settings are not kept here: they are files
 * of TREE, and are set again at each start.
 *
 * Any thread; nothing waits. Lock: book->lock is a leaf but for the store's and the watch table's.
 */

#include "gateway/core.h"
#include "gateway/money.h"

struct book;
struct book_claim;

#define BOOK_LEASE_TOK 64

/* new *out. Reads what is in the store (before the store's first write), charges what a crash left,
 * which is a write: whoever else scans the store comes before. Borrows store, watch and loop until
 * book_free. */
int book_open(struct book **out, struct store *store, struct watch_table *watch, struct loop *loop,
	struct err *err);
/* Claims are over by then; accounts that others hold stay valid memory. Accepts NULL, returns NULL.
 */
struct book *book_free(struct book *b);

/* From now on nobody waits for a log to grow; who does is to be woken after this. */
void book_stop(struct book *b);

/* Whom to tell that accounts appeared or went, or that a setting changed. Called without locks.
 * Once, before others use the book. */
typedef void book_changed_fn(
	void *arg, enum gateway_change_kind kind, const char *name, const char *file);
void book_on_change(struct book *b, book_changed_fn *changed, void *arg);
/* The highest id of a request in any ledger: ids go on behind it, so that they are never used
 * twice. */
uint64_t book_last_request(struct book *b);
/* What a crash left and book_open has charged: the n-th request of it, or false. session is
 * borrowed until book_free. */
struct book_crash {
	uint64_t request;
	const char *session, *model; /* model: that it was started for last */
	struct money_tokens tokens;  /* of all models that had a part in it */
	money cost;
};
bool book_crash(const struct book *b, size_t n, struct book_crash *out);
/* For tests: the clock (nanoseconds since 1970) of all books; NULL is clock_real_ns. While no book
 * is open, or from the only thread that uses one. */
void book_set_clock(uint64_t (*real_ns)(void));

/* Lines of the logs that are older than their account's ledger_days are deleted from the store in
 * the background, a little after the start and then each hour; with this, now. */
void book_sweep(struct book *b);
/* gateway_rates, of that user. */
void book_rates(struct book *b, const char *user, struct gateway_rates *out);
/* Who asks in an account's name: may read what is his there (account_uid). */
void book_note_user(struct book *b, const char *user, uid_t uid);

/* What a request may cost at most. */
struct book_worst {
	uint64_t prompt_tok, output_tok;
	struct money_price price;
	bool has_max_cost;
	money max_cost; /* of one request, the session's own ceiling */
	/* What judges of its texts may cost besides what they have cost already, the vector by
	 * which the cache looks for it, and models that the router asks about it: none is paid with
	 * what is set aside for another. */
	money judges, lookup, opinions;
};

/*
 * new *out. -EAGAIN: a rate limit, the sentence names it and says in how many seconds to try again;
 * -EBUSY: too many in flight, or too many accounts (BOOK_ACCOUNTS_MAX users without one of their
 * own); -EDQUOT: a budget, or max_cost (the sentence has both numbers); -EINVAL: no account can
 * have that name (those of sessions, but not `default`); -ENOMEM. *retry_ms (may be NULL): when to
 * try again, 0: not at all.
 */
int book_claim(struct book_claim **out, struct book *b, const char *user,
	const struct book_worst *worst, uint64_t *retry_ms, struct err *err);
/* More, or less (which is never refused but by max_cost). 0; -EAGAIN, -EDQUOT, and nothing changed.
 * *retry_ms as above. */
int book_claim_resize(
	struct book_claim *c, const struct book_worst *worst, uint64_t *retry_ms, struct err *err);

/* What the ledger says about a request. Borrowed for the call. */
struct book_request {
	uint64_t id;
	const char *session, *model;
};

/* Asides may be asked, and nothing of the request itself is computed: a crash charges what they had
 * and nothing of an answer. Before book_claim_start or instead of it. */
void book_claim_begin(struct book_claim *c, const struct book_request *request);
/* It begins to be computed: from now on a crash charges for prompt_tok tokens and the first lease,
 * BOOK_LEASE_TOK tokens or all that were reserved, if these are fewer (what comes beyond them needs
 * book_claim_lease, as always).
 * Queued at the store: nothing may be released before a store_after queued later is done. */
void book_claim_start(
	struct book_claim *c, const struct book_request *request, uint64_t prompt_tok);
/* The model it was started for has had its part, so many tokens, and another one is to answer: they
 * are charged now, at the price of now, in a line of the ledger of its own that says `"step": true`
 * (none, if they are none); `status` as of book_claim_settle. Tokens still count in the windows in
 * which it was claimed. The claim goes on: resize it to what the next model may cost besides, and
 * start it again. Before the next text is released. */
void book_claim_next(struct book_claim *c, const struct money_tokens *tokens, const char *status);
/* What so many tokens of the model it was started for last cost. */
money book_claim_cost(const struct book_claim *c, const struct money_tokens *tokens);
/* Output tokens up to `output_tok` in all, of this model, are going to be released. True: they are
 * covered by what was queued at the store before. False: more was queued just now: wait for the
 * store. */
bool book_claim_lease(struct book_claim *c, uint64_t output_tok);
/* Tokens that are leased by now. */
uint64_t book_claim_leased(const struct book_claim *c);

/*
 * Judges of its texts, the model that makes the vector by which the cache looks, and those that the
 * router asks (of the prompt's class, of a cascade's answers) are paid by the claim: money only,
 * their tokens count in no rate limit. Of a claim that was begun or started. Below, a judge is any
 * of them.
 */
enum book_aside { BOOK_JUDGE, BOOK_EMBEDDING, BOOK_OPINION, BOOK_ASIDES }; /* stored */
struct book_judge {
	enum book_aside what;
	const char *model;
	struct money_price price;
	uint64_t prompt_tok, output_tok; /* of what is asked now, at most */
	uint64_t likely_tok; /* of its prompt, where that is known better; 0: prompt_tok */
};
/* A judge is to be asked: what that costs at most is covered from now on, and charged for its
 * likely prompt by a crash or by an end before book_claim_judged. What was asked before and never
 * answered is charged for its likely prompt. 0; -EDQUOT: it cannot be paid, and is not to be asked.
 */
int book_claim_judge(struct book_claim *c, const struct book_judge *ask, struct err *err);
/* What was asked last has used that: charged whatever happens. */
void book_claim_judged(struct book_claim *c, const struct money_tokens *tokens);
/* What such have had by now, and what it cost. */
money book_claim_judges(const struct book_claim *c, enum book_aside what, struct money_tokens *out);

/* It is over: `tokens`, of the model it was started for last, are the true number, and charged
 * (whatever was reserved), the ledger gets its line, the rest is given back; in one group of the
 * store. What judges had gets a line of its own before it. `status` is a word: done, cancelled,
 * failed, blocked. Frees c. Returns the cost, with that of models before and of judges. One that
 * was never started has no request in its line. */
money book_claim_settle(
	struct book_claim *c, const struct money_tokens *tokens, const char *status);
/* Nothing of it was computed: tickets and reservation go back; what asides had is charged. Accepts
 * NULL, returns NULL. */
struct book_claim *book_claim_return(struct book_claim *c);

#endif
