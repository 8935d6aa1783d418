/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_BOOK_PARTS_H
#define GATEWAY_BOOK_PARTS_H

/* The book, for the files that it consists of: account*, book*. */

#include "gateway/account.h"

#define BOOK_ACCOUNTS_MAX 10000 /* configured ones, and as many others */
/* Of all logs in memory, but for LEDGER_IDLE_BYTES of each: those that grew longest ago shrink. */
#define BOOK_LOGS_BYTES ((size_t)64 << 20)

struct book {
	atomic_uint refs; /* of the opener and of each account: on the memory */
	pthread_mutex_t lock;
	bool stopping, closed; /* closed: store, watch and loop are not there any more */
	struct store *store;
	struct watch_table *watch;
	struct loop *loop;
	book_changed_fn *changed;
	void *changed_arg;

	struct table accounts, groups; /* groups: configured ones that have, or had, members */
	size_t n_configured;
	struct account *fallback; /* `default`, when it is configured: borrowed from accounts */
	uint64_t groups_age;      /* counts changes of who is a member of what */
	uint64_t next_claim, last_request;
	struct leftover *crashes; /* what the last crash left: book_store.c */

	struct list big_logs; /* of struct ledger, with more than LEDGER_IDLE_BYTES; by their last
				 change */
	size_t log_bytes;     /* that these have in memory */

	struct list dirty; /* of struct account */
	struct loop_work tell;
	struct loop_timer sweep_timer;
	bool sweeps;     /* a round is under way: */
	size_t sweep_at; /* its next account, and log of it */
};

struct book *book_ref(struct book *b);
void book_put(struct book *b);
uint64_t book_now_ns(void);

/* With the lock held. */
struct account *book_find(struct book *b, const char *name); /* borrows, or NULL */
/* borrows; makes it if there is none. NULL when memory is out. */
struct account *book_have(struct book *b, const char *name);
/* Lets go of one that is neither shown nor of any use. */
void book_forget_if_unused(struct book *b, struct account *a);
/* It may have members from now on: 0 or -ENOMEM. */
int book_add_group(struct book *b, struct account *a);
/* The groups of a user's account are known, a->groups. 0 or -ENOMEM. */
int book_find_groups(struct book *b, struct account *a);
/* A log of a grew: others may have to shrink. */
void book_log_counts(struct book *b, struct ledger *l);
/* The same, and tells its watchers, soon. */
void book_log_grew(struct account *a, struct ledger *l);
/* Queues the record of an account at the store; later: no hurry, store_put_later. */
void book_store_account(struct account *a, bool later);
/* A ledger line of no request: "reset", "credit". */
void book_note(struct account *a, const char *status, money cost, uint64_t now_ns);

/* Without the lock. */
void book_tell_change(
	struct book *b, enum gateway_change_kind kind, const char *name, const char *file);

/* book_sweep.c: of a new book; and, without the lock, before the loop goes. */
void book_sweep_init(struct book *b);
void book_sweep_stop(struct book *b);

/* ---- claims: book_claims.c ---- */

struct book_claim {
	struct book *b;
	struct book_worst worst;
	struct account_ask has;
	uint64_t claimed_s;
	bool started;
	uint64_t serial; /* of its record; from the start */
	uint64_t request, prompt_tok, leased_tok;
	struct money_tokens before; /* what models before this one have had, in the ledger already,
				       but not yet in the rate limits; and what it cost */
	money before_cost;
	struct claim_judges { /* of the model that judges now, not yet in the ledger */
		enum book_aside what;
		char model[TEXT_NAME_SIZE];
		struct money_price price;
		struct money_tokens tokens;
		money cost;
		bool is_asked; /* with so many tokens at most, of the prompt probably likely_tok */
		uint64_t prompt_tok, output_tok, likely_tok;
	} judges;
	struct money_tokens judged[BOOK_ASIDES]; /* what stands in the ledger by now */
	money judged_cost[BOOK_ASIDES];
	char session[TEXT_NAME_SIZE], model[TEXT_NAME_SIZE];
	size_t n;
	struct account_hold holds[]; /* [n]: the user's own, then its groups */
};

/* What is charged: for one claim, or for what a crash left of one. */
struct book_bill {
	uint64_t request;
	const char *user, *session, *model, *status;
	struct money_tokens tokens;
	money cost;
	bool overrun;
	bool is_step;  /* of a model before the last one */
	bool is_aside; /* not of the model that answers, but of */
	enum book_aside what;
};
/* Charges it to one account: money, ledger, record. With the lock held. */
void book_charge(struct account *a, const struct book_bill *bill, uint64_t now_ns);

/* What judges have had, with what is asked and will never be answered. */
void book_judges_now(const struct claim_judges *j, struct money_tokens *tokens, money *cost);

/* What judges have had, and may have: the one that is asked, or what `worst` sets aside for its
 * kind if that is more. j NULL: what is set aside alone. */
money book_judges_cost(const struct claim_judges *j, const struct book_worst *worst);
/* The ledger's line about what the present judge had, if it had anything; then there is none. */
void book_charge_judge(struct book_claim *c, const char *status, uint64_t now_ns);
/* What a claim is, or would be, with that: c NULL is a new one. 0; -EDQUOT, and *want is filled in
 * all the same: more than its max_cost. */
int book_ask_for(const struct book_claim *c, const struct book_worst *worst,
	struct account_ask *want, struct err *err);
/* It takes that in all of its accounts, or in none. had NULL: all of it is new. */
int book_take(struct book_claim *c, const struct account_ask *had, const struct account_ask *want,
	uint64_t now_ns, uint64_t *retry_ms, struct err *err);
/* Copies a name into the ledger's alphabet: it stands in JSON and in a record as it is. */
void book_copy_name(char to[TEXT_NAME_SIZE], const char *from);

/* Queues its record. 0 or -ENOMEM: the one before stands. */
int book_store_claim(const struct book_claim *c);
void book_unstore_claim(const struct book_claim *c);
void book_forget_crashes(struct book *b);
/* Reads everything back, charges what a crash left. */
int book_restore(struct book *b, struct err *err);

#endif
