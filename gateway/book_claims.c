/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claims: from the first comparison to the line in the ledger.
 *
 * A claim is one allocation: what it reserved, and one hold for each account that pays. Whatever
 * moves a sum does so under the one lock, in all of the claim's accounts, and queues their records
 * at the store before the lock is let go; so the store's order is the order of the decisions, and
 * what a kill leaves is a state the book has been in. The lock is held for a few microseconds and
 * never across I/O.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/book_parts.h"

/* ---- claiming ---- */

int book_ask_for(const struct book_claim *c, const struct book_worst *worst,
	struct account_ask *want, struct err *err)
{
	static const uint64_t most = (uint64_t)1 << 40; /* so that sums of tokens cannot overflow */
	uint64_t prompt = worst->prompt_tok < most ? worst->prompt_tok : most;
	want->tok = prompt + (worst->output_tok < most ? worst->output_tok : most);
	want->cost = money_worst(&worst->price, worst->prompt_tok, worst->output_tok);
	want->cost = money_add(want->cost, book_judges_cost(c ? &c->judges : NULL, worst));
	money all = want->cost;
	if (c) {
		want->tok += c->before.prompt + c->before.output;
		all = money_add(all, c->before_cost);
		for (int what = 0; what < BOOK_ASIDES; what++)
			all = money_add(all, c->judged_cost[what]);
	}
	if (!worst->has_max_cost || all <= worst->max_cost)
		return 0;
	char cost[MONEY_TEXT_SIZE], most_cost[MONEY_TEXT_SIZE];
	return err_set(err, -EDQUOT,
		"this request may cost %s dollars, more than the session's max_cost of %s",
		money_text(all, cost), money_text(worst->max_cost, most_cost));
}

/* The account of a user who asks; *appeared: it is shown from now on. */
static int have_asking(
	struct book *b, const char *user, struct account **out, bool *appeared, struct err *err)
{
	if (!text_is_name(user, strlen(user)) || !strcmp(user, "default"))
		return err_set(err, -EINVAL,
			"this user's name cannot be an account's: it must consist of A-Z a-z 0-9 . "
			"_ -, and default is reserved");
	struct account *a = book_find(b, user);
	if (!a && b->accounts.n - b->n_configured >= BOOK_ACCOUNTS_MAX)
		return err_set(err, -EBUSY,
			"there are %d accounts of users already: mkdir budgets/%s makes room for "
			"one more",
			BOOK_ACCOUNTS_MAX, user);
	a = a ? a : book_have(b, user);
	if (!a || book_find_groups(b, a) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	*appeared = !account_is_shown(a);
	a->asked = true;
	*out = a;
	return 0;
}

static struct book_claim *make_claim(struct book *b, struct account *a)
{
	size_t n = 1 + a->n_groups;
	struct book_claim *c = calloc(1, sizeof *c + n * sizeof c->holds[0]);
	if (!c)
		return NULL;
	c->b = b;
	c->n = n;
	for (size_t i = 0; i < n; i++)
		c->holds[i].a = account_ref(i ? a->groups[i - 1] : a);
	return c;
}

static void free_claim(struct book_claim *c)
{
	for (size_t i = 0; i < c->n; i++)
		account_put(c->holds[i].a);
	free(c);
}

int book_take(struct book_claim *c, const struct account_ask *had, const struct account_ask *want,
	uint64_t now_ns, uint64_t *retry_ms, struct err *err)
{
	for (size_t i = 0; i < c->n; i++) {
		struct account_hold *h = &c->holds[i];
		account_roll(h->a, now_ns / 1000000000);
		int r = account_admits(h->a, h, had, want, now_ns, retry_ms, err);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < c->n; i++)
		account_take(&c->holds[i], had, want);
	c->has = *want;
	return 0;
}

/* Nothing is lost with them in a kill but the request itself, unless it began: and then the record
 * of the claim, queued behind them, does not wait. */
static void store_accounts(const struct book_claim *c)
{
	for (size_t i = 0; i < c->n; i++)
		book_store_account(c->holds[i].a, true);
}

static int claim_locked(struct book_claim **out, struct book *b, const char *user,
	const struct account_ask *want, bool *appeared, uint64_t *retry_ms, struct err *err)
{
	struct account *a = NULL;
	uint64_t now_ns = book_now_ns();
	int r = have_asking(b, user, &a, appeared, err);
	if (r < 0)
		return r;
	struct book_claim *c = make_claim(b, a);
	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	r = book_take(c, NULL, want, now_ns, retry_ms, err);
	if (r < 0) {
		free_claim(c);
		return r;
	}
	c->claimed_s = now_ns / 1000000000;
	store_begin(b->store);
	store_accounts(c);
	store_end(b->store);
	*out = c;
	return 0;
}

int book_claim(struct book_claim **out, struct book *b, const char *user,
	const struct book_worst *worst, uint64_t *retry_ms, struct err *err)
{
	struct account_ask want;
	uint64_t unused;
	bool appeared = false;
	retry_ms = retry_ms ? retry_ms : &unused;
	*retry_ms = 0;
	int r = book_ask_for(NULL, worst, &want, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&b->lock);
	r = claim_locked(out, b, user, &want, &appeared, retry_ms, err);
	pthread_mutex_unlock(&b->lock);
	if (r == 0)
		(*out)->worst = *worst;
	if (appeared)
		book_tell_change(b, GATEWAY_CHANGE_ACCOUNTS, user, NULL);
	return r;
}

int book_claim_resize(
	struct book_claim *c, const struct book_worst *worst, uint64_t *retry_ms, struct err *err)
{
	struct account_ask want;
	uint64_t unused;
	retry_ms = retry_ms ? retry_ms : &unused;
	*retry_ms = 0;
	int r = book_ask_for(c, worst, &want, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&c->b->lock);
	r = book_take(c, &c->has, &want, book_now_ns(), retry_ms, err);
	if (r == 0) {
		c->worst = *worst;
		if (c->started)
			book_store_claim(c);
	}
	pthread_mutex_unlock(&c->b->lock);
	return r;
}

/* ---- under way ---- */

/* Whole leases, but no more than was reserved, if that is enough. */
static uint64_t lease_for(const struct book_claim *c, uint64_t output_tok)
{
	uint64_t leases = output_tok / BOOK_LEASE_TOK + (output_tok % BOOK_LEASE_TOK != 0);
	uint64_t tok = leases > UINT64_MAX / BOOK_LEASE_TOK ? output_tok : leases * BOOK_LEASE_TOK;
	uint64_t most = c->worst.output_tok > output_tok ? c->worst.output_tok : output_tok;
	return tok < most ? tok : most;
}

static void note_begun(struct book_claim *c, const struct book_request *request,
	uint64_t prompt_tok, uint64_t leased_tok)
{
	struct book *b = c->b;
	c->request = request->id;
	book_copy_name(c->session, request->session ? request->session : "");
	book_copy_name(c->model, request->model ? request->model : "");
	c->prompt_tok = prompt_tok;
	c->leased_tok = leased_tok;
	pthread_mutex_lock(&b->lock);
	if (!c->started)
		c->serial = ++b->next_claim;
	c->started = true;
	if (c->request > b->last_request)
		b->last_request = c->request;
	book_store_claim(c);
	pthread_mutex_unlock(&b->lock);
}

void book_claim_begin(struct book_claim *c, const struct book_request *request)
{
	note_begun(c, request, 0, 0);
}

void book_claim_start(struct book_claim *c, const struct book_request *request, uint64_t prompt_tok)
{
	note_begun(c, request, prompt_tok, c->worst.output_tok ? lease_for(c, 1) : 0);
}

/* The step's line; what it cost moves from what is reserved to what is spent. The rest stays
 * reserved, so that nobody takes it before the next model is asked. */
static void charge_step(
	struct book_claim *c, const struct money_tokens *tokens, money cost, const char *status)
{
	struct money_tokens judge_tokens;
	money judges;
	book_judges_now(&c->judges, &judge_tokens, &judges);
	const struct book_bill bill = {
		.request = c->request,
		.user = c->holds[0].a->name,
		.session = c->session,
		.model = c->model,
		.status = status,
		.tokens = *tokens,
		.cost = cost,
		.is_step = true,
		.overrun = money_add(cost, judges) > c->has.cost,
	};
	struct account_ask now = c->has;
	uint64_t now_ns = book_now_ns();
	now.cost -= cost < now.cost ? cost : now.cost;
	now.cost = now.cost > judges ? now.cost : judges; /* theirs is charged later */
	for (size_t i = 0; i < c->n; i++) {
		struct account_hold *h = &c->holds[i];
		account_roll(h->a, now_ns / 1000000000);
		account_take(h, &c->has, &now);
		book_charge(h->a, &bill, now_ns);
	}
	c->has = now;
}

void book_claim_next(struct book_claim *c, const struct money_tokens *tokens, const char *status)
{
	money cost = book_claim_cost(c, tokens);
	pthread_mutex_lock(&c->b->lock);
	store_begin(c->b->store);
	if (tokens->prompt || tokens->output)
		charge_step(c, tokens, cost, status);
	c->before_cost = money_add(c->before_cost, cost);
	c->before.prompt += tokens->prompt;
	c->before.cached += tokens->cached;
	c->before.output += tokens->output;
	c->prompt_tok = c->leased_tok = 0;
	/* Had, and paid: it is not to be covered again when a judge is asked before the next. */
	c->worst.prompt_tok = c->worst.output_tok = 0;
	/* Its old record would charge the step once more. */
	if (c->started && book_store_claim(c) < 0)
		book_unstore_claim(c);
	store_end(c->b->store);
	pthread_mutex_unlock(&c->b->lock);
}

money book_claim_cost(const struct book_claim *c, const struct money_tokens *tokens)
{
	return money_cost(&c->worst.price, tokens);
}

bool book_claim_lease(struct book_claim *c, uint64_t output_tok)
{
	if (output_tok <= c->leased_tok)
		return true;
	pthread_mutex_lock(&c->b->lock);
	c->leased_tok = lease_for(c, output_tok);
	book_store_claim(c);
	pthread_mutex_unlock(&c->b->lock);
	return false;
}

uint64_t book_claim_leased(const struct book_claim *c)
{
	return c->leased_tok;
}

/* ---- the end ---- */

money book_claim_settle(struct book_claim *c, const struct money_tokens *tokens, const char *status)
{
	struct book *b = c->b;
	struct book_bill bill = {
		.request = c->request,
		.user = c->holds[0].a->name,
		.session = c->session,
		.model = c->model,
		.status = status,
		.tokens = *tokens,
		.cost = book_claim_cost(c, tokens),
	};
	const uint64_t tok = c->before.prompt + c->before.output + tokens->prompt + tokens->output;
	struct money_tokens judge_tokens;
	money judges;
	pthread_mutex_lock(&b->lock);
	book_judges_now(&c->judges, &judge_tokens, &judges);
	bill.overrun = money_add(bill.cost, judges) > c->has.cost;
	uint64_t now_ns = book_now_ns();
	store_begin(b->store);
	for (size_t i = 0; i < c->n; i++) {
		account_roll(c->holds[i].a, now_ns / 1000000000);
		account_let_go(&c->holds[i], &c->has, tok);
	}
	book_charge_judge(c, status, now_ns);
	for (size_t i = 0; i < c->n; i++)
		book_charge(c->holds[i].a, &bill, now_ns);
	if (c->started)
		book_unstore_claim(c);
	store_end(b->store);
	pthread_mutex_unlock(&b->lock);
	bill.cost = money_add(bill.cost, c->before_cost);
	for (int what = 0; what < BOOK_ASIDES; what++)
		bill.cost = money_add(bill.cost, c->judged_cost[what]);
	free_claim(c);
	return bill.cost;
}

struct book_claim *book_claim_return(struct book_claim *c)
{
	if (!c)
		return NULL;
	struct book *b = c->b;
	pthread_mutex_lock(&b->lock);
	uint64_t now_ns = book_now_ns();
	store_begin(b->store);
	for (size_t i = 0; i < c->n; i++) {
		account_roll(c->holds[i].a, now_ns / 1000000000);
		account_let_go(&c->holds[i], &c->has, 0);
		account_untake(&c->holds[i]);
	}
	if (c->started)
		book_charge_judge(c, "done", now_ns);
	store_accounts(c);
	if (c->started)
		book_unstore_claim(c);
	store_end(b->store);
	pthread_mutex_unlock(&b->lock);
	free_claim(c);
	return NULL;
}
