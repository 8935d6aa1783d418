/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request costs, on its way: the claim is made exact and started, and text is released once
 * its tokens are written down as spent. When one model could not and another is tried, the first
 * one's part is charged, and the claim goes on.
 */
#include "gateway/paying.h"

#include <errno.h>

#include "gateway/cascade.h"
#include "gateway/outlet.h"
#include "gateway/session.h"
#include "gateway/stages.h"
#include "gateway/worst.h"

/* With the session's lock held. */
static void start(struct request *r, uint64_t prompt_tok)
{
	const struct book_request about = {r->id, r->session->id, r->model_name};
	book_claim_start(r->claim, &about, prompt_tok);
	r->claim_started = true;
}

/* For what is asked on the way to an answer: nothing of that is charged yet. With the session's
 * lock held. */
static void begin(struct request *r)
{
	const struct book_request about = {r->id, r->session->id, r->model_name};
	book_claim_begin(r->claim, &about);
}

void paying_start_ticket(struct request *r)
{
	pthread_mutex_lock(&r->session->lock);
	if (!r->over && r->claim) {
		begin(r);
		r->claim_started = true;
	}
	pthread_mutex_unlock(&r->session->lock);
}

void paying_start_free(struct request *r)
{
	const struct book_worst nothing = {0};
	pthread_mutex_lock(&r->session->lock);
	if (!r->over && r->claim) {
		book_claim_resize(r->claim, &nothing, NULL, NULL); /* less is never refused */
		start(r, 0);
	}
	pthread_mutex_unlock(&r->session->lock);
}

static void leased(struct store_waiter *w, int status)
{
	struct request *r = list_entry(w, struct request, lease);
	pthread_mutex_lock(&r->inbox->lock);
	r->inbox->news.leased = true;
	r->inbox->news.leased_status = status;
	pthread_mutex_unlock(&r->inbox->lock);
	stages_post(r);
	request_put(r);
}

static void wait_for_lease(struct request *r, uint64_t tok)
{
	r->lease_tok = tok;
	r->with_lease = true;
	stages_after_store(r, &r->lease);
}

/* The claim becomes `worst` and is started. used_tok: what is charged of it if nobody says more. */
static int start_at(struct request *r, const struct book_worst *worst, uint64_t prompt_tok,
	uint64_t used_tok, struct err *err)
{
	int e = 0;
	uint64_t lease_tok = 0;
	pthread_mutex_lock(&r->session->lock);
	bool over = r->over;
	if (!over && !r->claim)
		e = err_set(err, -EIO, "the request has no claim on an account");
	if (!over && e == 0)
		e = worst_resize(r->claim, worst, &r->retry_ms, err);
	if (!over && e == 0) {
		start(r, prompt_tok);
		r->usage.prompt_tok += used_tok;
		r->attempt_usage.prompt_tok += used_tok;
		lease_tok = book_claim_leased(r->claim);
	}
	pthread_mutex_unlock(&r->session->lock);
	if (!over && e == 0)
		wait_for_lease(r, lease_tok);
	return e == -EAGAIN ? -EBUSY : e;
}

int paying_start(struct request *r, size_t prompt_tok, uint64_t most_tok, struct err *err)
{
	const struct provider_limits *limits = &r->user_of_model.loaded->limits;
	struct book_worst worst;
	uint64_t room = limits->context_tok > prompt_tok ? limits->context_tok - prompt_tok : 0;
	uint64_t most = model_max_tokens(r->model);
	struct money_price price;
	room = most && most < room ? most : room;
	model_price(r->model, &price);
	worst_exact(&worst, &r->settings, &price, most_tok, room);
	worst.judges = worst_judges(r->g, GUARD_OUTPUT, r->prompt->len, worst.output_tok);
	if (cascade_holds(r))
		worst.opinions = worst_cascade(r->g, r->prompt->len, worst.output_tok);
	return start_at(r, &worst, prompt_tok, 0, err);
}

int paying_start_embedding(struct request *r, struct model *m, uint64_t tok, struct err *err)
{
	struct book_worst worst;
	struct money_price price;
	model_price(m, &price);
	worst_exact(&worst, &r->settings, &price, tok, 0);
	int e = start_at(r, &worst, tok, tok, err);
	return e || r->with_lease ? e : err_set(err, -ECANCELED, "cancelled");
}

/* Of the model that has it now. */
static struct money_tokens tokens_of(const struct request *r)
{
	const struct trace_usage *u = &r->attempt_usage;
	return (struct money_tokens){
		.prompt = u->prompt_tok, .cached = u->cached_tok, .output = u->output_tok};
}

struct route_took paying_took(const struct request *r)
{
	struct route_took took = {.tokens = tokens_of(r)};
	if (r->claim && r->claim_started)
		took.cost = book_claim_cost(r->claim, &took.tokens);
	return took;
}

void paying_next(struct request *r, const char *status)
{
	pthread_mutex_lock(&r->session->lock);
	const struct money_tokens tokens = tokens_of(r);
	if (r->claim && r->claim_started)
		book_claim_next(r->claim, &tokens, status);
	r->usage_before = r->usage;
	r->attempt_usage = (struct trace_usage){0};
	pthread_mutex_unlock(&r->session->lock);
}

/* Has what was produced written down, where it is not yet. Not earlier: a crash charges what is
 * leased, and the text waits until the loop has done what it has to do now, or, where the store has
 * no journal, as long as one of its writes takes. */
void paying_lease(struct request *r)
{
	if (r->with_lease)
		return;
	bool queued = false;
	uint64_t need = 0;
	pthread_mutex_lock(&r->session->lock);
	if (r->claim && r->claim_started && r->attempt_usage.output_tok > r->lease_tok) {
		queued = !book_claim_lease(r->claim, r->attempt_usage.output_tok);
		need = book_claim_leased(r->claim);
	}
	pthread_mutex_unlock(&r->session->lock);
	if (queued)
		wait_for_lease(r, need);
	else
		outlet_cover(r->outlet, need);
}

void paying_why_not_leased(struct request *r, struct err *err)
{
	if (store_state(r->g->store, err) == 0)
		err_set(err, 0, "what the answer costs could not be stored");
}

void paying_leased(struct request *r, const struct request_news *box)
{
	struct err err = {0};
	r->with_lease = false;
	if (!r->outlet)
		return;
	if (box->leased_status == 0) {
		outlet_cover(r->outlet, r->lease_tok);
		return;
	}
	paying_why_not_leased(r, &err);
	outlet_uncover(r->outlet, box->leased_status, &err);
}

/* ---- judges ---- */

static int asked(void *arg, const struct book_judge *most, struct err *err)
{
	struct request *r = arg;
	pthread_mutex_lock(&r->session->lock);
	/* Over: whoever asks is cancelled any moment. */
	int e = r->claim && r->claim_started ? book_claim_judge(r->claim, most, err)
		: r->over                    ? err_set(err, -ECANCELED, "cancelled")
					     : 0;
	pthread_mutex_unlock(&r->session->lock);
	return e;
}

static void judge_took(void *arg, const struct money_tokens *tokens)
{
	struct request *r = arg;
	pthread_mutex_lock(&r->session->lock);
	if (r->claim && r->claim_started)
		book_claim_judged(r->claim, tokens);
	pthread_mutex_unlock(&r->session->lock);
}

const struct judge_payer paying_judges = {asked, judge_took};

/* Its ticket is used once a model is asked, and not by what is remembered, nobody is there for, or
 * the budget does not reach for. */
static int opinion_asked(void *arg, const struct book_judge *most, struct err *err)
{
	struct request *r = arg;
	struct book_judge opinion = *most;
	int e = 0;
	opinion.what = BOOK_OPINION;
	pthread_mutex_lock(&r->session->lock);
	if (r->over)
		e = err_set(err, -ECANCELED, "cancelled");
	if (e == 0 && r->claim) {
		if (!r->claim_started)
			begin(r);
		e = book_claim_judge(r->claim, &opinion, err);
		r->claim_started = r->claim_started || e == 0;
	}
	pthread_mutex_unlock(&r->session->lock);
	return e;
}

const struct judge_payer paying_opinions = {opinion_asked, judge_took};

/* ---- the cache's vectors ---- */

/* More likely than a token a byte. */
static uint64_t likely_tok(const struct request *r)
{
	return r->prompt->len / 4 + 2;
}

/* A model that is free leaves no trace: not a line of the ledger for each prompt that is looked
 * for. */
static int lookup_begins(void *arg, struct model *m, uint64_t tok, struct err *err)
{
	struct request *r = arg;
	struct book_judge most = {
		.what = BOOK_EMBEDDING,
		.model = model_name(m),
		.prompt_tok = tok,
		.likely_tok = likely_tok(r),
	};
	int e = 0;
	model_price(m, &most.price);
	pthread_mutex_lock(&r->session->lock);
	if (r->over)
		e = err_set(err, -ECANCELED, "cancelled");
	if (e == 0 && r->claim && most.price.input) {
		/* Its ticket goes back all the same, should nothing else come of it. */
		if (!r->claim_started)
			begin(r);
		e = book_claim_judge(r->claim, &most, err);
		r->pays_lookup = e == 0;
	}
	pthread_mutex_unlock(&r->session->lock);
	return e;
}

/* Of one that was given up nobody knows: it stays charged for what was asked. */
static void lookup_took(void *arg, int status, const struct trace_usage *usage)
{
	struct request *r = arg;
	bool unknown = !usage->prompt_tok && (status == -ETIMEDOUT || status == -ECANCELED);
	const struct money_tokens tokens = {.prompt = usage->prompt_tok,
		.cached = usage->cached_tok,
		.output = usage->output_tok};
	pthread_mutex_lock(&r->session->lock);
	if (r->pays_lookup && r->claim && !unknown)
		book_claim_judged(r->claim, &tokens);
	r->pays_lookup = false;
	pthread_mutex_unlock(&r->session->lock);
}

const struct embedding_payer paying_lookups = {lookup_begins, lookup_took};

void paying_init(struct request *r)
{
	r->lease.done = leased;
}
