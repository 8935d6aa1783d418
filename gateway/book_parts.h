/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_BOOK_PARTS_H
#define GATEWAY_BOOK_PARTS_H

/* The book, for the files that it consists of: account*, book*. */

#include "gateway/account.h"

#define BOOK_ACCOUNTS_MAX 10000 /* configured ones, and as many others */

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

	struct list dirty; /* of struct account */
	struct loop_work tell;
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
/* A log of a grew: tells its watchers, soon. */
void book_log_grew(struct account *a, struct ledger *l);
/* Queues the record of an account at the store; later: no hurry, store_put_later. */
void book_store_account(struct account *a, bool later);
/* A ledger line of no request: "reset", "credit". */
void book_note(struct account *a, const char *status, money cost, uint64_t now_ns);

/* Without the lock. */
void book_tell_change(
	struct book *b, enum gateway_change_kind kind, const char *name, const char *file);

/* ---- claims ---- */

struct book_claim {
	struct book *b;
	struct book_worst worst;
	struct account_ask has;
	uint64_t claimed_s;
	bool started;
	uint64_t serial; /* of its record; from the start */
	uint64_t request, prompt_tok, leased_tok;
	struct money_tokens before; /* what models before this one have had, and what it cost */
	money before_cost;
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
};
/* Charges it to one account: money, ledger, record. With the lock held. */
void book_charge(struct account *a, const struct book_bill *bill, uint64_t now_ns);

/* Queues its record. */
void book_store_claim(const struct book_claim *c);
void book_unstore_claim(const struct book_claim *c);
void book_forget_crashes(struct book *b);
/* Reads everything back, charges what a crash left. */
int book_restore(struct book *b, struct err *err);

#endif
