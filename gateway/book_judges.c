/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What judges of a request's texts cost, the vector by which the cache looks for its prompt, and
 * models that the router asks about it, which are paid like a judge and called one below: as a part
 * of its claim.
 *
 * While a prompt is written nobody knows what its judges will take: an estimate is set aside with
 * the claim. Before a judge is asked it is known, and must be covered: by what is set aside, or by
 * more. A vector, or an opinion, is never paid with what is set aside for judges: it can be done
 * without. So the sum of what is spent and reserved never passes a limit here either. What a judge
 * has had stays reserved until the request ends, and is charged then, in a line of its own.
 *
 * A judge that was asked and never answered (it was cancelled, or too slow) is charged for what it
 * was asked: that was computed, or as good as.
 *
 * With the book's lock held, but for the door's functions.
 */
#include <string.h>

#include "gateway/book_parts.h"

/* What is set aside for asides of that kind. */
static money *aside_of(struct book_worst *worst, enum book_aside what)
{
	return what == BOOK_EMBEDDING ? &worst->lookup
	       : what == BOOK_OPINION ? &worst->opinions
				      : &worst->judges;
}

static money set_aside(const struct book_worst *w)
{
	return money_add(w->judges, money_add(w->lookup, w->opinions));
}

money book_judges_cost(const struct claim_judges *j, const struct book_worst *worst)
{
	struct book_worst w = *worst;
	if (!j)
		return set_aside(&w);
	money open = j->is_asked ? money_worst(&j->price, j->prompt_tok, j->output_tok) : 0;
	money *aside = aside_of(&w, j->what);
	*aside = open > *aside ? open : *aside;
	return money_add(j->cost, set_aside(&w));
}

void book_judges_now(const struct claim_judges *j, struct money_tokens *tokens, money *cost)
{
	*tokens = j->tokens;
	*cost = j->cost;
	if (!j->is_asked)
		return;
	const struct money_tokens asked = {.prompt = j->likely_tok};
	tokens->prompt += asked.prompt;
	*cost = money_add(*cost, money_cost(&j->price, &asked));
}

/* What is asked has had that. */
static void judge_had(struct book_claim *c, const struct money_tokens *t)
{
	struct claim_judges *j = &c->judges;
	money cost = money_cost(&j->price, t);
	j->tokens.prompt += t->prompt;
	j->tokens.cached += t->cached;
	j->tokens.output += t->output;
	j->cost = money_add(j->cost, cost);
	j->is_asked = false;
	money *aside = aside_of(&c->worst, j->what);
	*aside = *aside > cost ? *aside - cost : 0;
}

void book_charge_judge(struct book_claim *c, const char *status, uint64_t now_ns)
{
	struct claim_judges *j = &c->judges;
	struct book_bill bill = {
		.request = c->request,
		.user = c->holds[0].a->name,
		.session = c->session,
		.model = j->model,
		.status = status,
		.is_aside = true,
		.what = j->what,
	};
	book_judges_now(j, &bill.tokens, &bill.cost);
	if (!bill.tokens.prompt && !bill.tokens.output)
		return;
	for (size_t i = 0; i < c->n; i++) {
		account_roll(c->holds[i].a, now_ns / 1000000000);
		book_charge(c->holds[i].a, &bill, now_ns);
	}
	struct money_tokens *had = &c->judged[j->what];
	had->prompt += bill.tokens.prompt;
	had->cached += bill.tokens.cached;
	had->output += bill.tokens.output;
	c->judged_cost[j->what] = money_add(c->judged_cost[j->what], bill.cost);
	*j = (struct claim_judges){0};
}

/* What it holds becomes what it may cost now: less, but from a server that overran its cap. */
static void hold_again(struct book_claim *c)
{
	struct account_ask now;
	book_ask_for(c, &c->worst, &now, NULL);
	for (size_t i = 0; i < c->n; i++)
		account_take(&c->holds[i], &c->has, &now);
	c->has = now;
}

/* Another model judges than before, or for another end: that one's part is charged, and not
 * reserved any more. */
static void change_judge(struct book_claim *c, const struct book_judge *ask, uint64_t now_ns)
{
	char name[TEXT_NAME_SIZE];
	book_copy_name(name, ask->model);
	if (*c->judges.model && (strcmp(c->judges.model, name) || c->judges.what != ask->what)) {
		book_charge_judge(c, "done", now_ns);
		hold_again(c);
	}
	c->judges.what = ask->what;
	memcpy(c->judges.model, name, sizeof name);
}

static int judge_locked(struct book_claim *c, const struct book_judge *ask, struct err *err)
{
	struct claim_judges *j = &c->judges;
	struct account_ask want;
	uint64_t retry_ms, now_ns = book_now_ns();
	const struct money_tokens unanswered = {.prompt = j->likely_tok};
	if (j->is_asked)
		judge_had(c, &unanswered);
	change_judge(c, ask, now_ns);
	j->price = ask->price;
	j->prompt_tok = ask->prompt_tok;
	j->output_tok = ask->output_tok;
	j->likely_tok = ask->likely_tok && ask->likely_tok < ask->prompt_tok ? ask->likely_tok
									     : ask->prompt_tok;
	j->is_asked = true;
	int r = book_ask_for(c, &c->worst, &want, err);
	r = r ? r : book_take(c, &c->has, &want, now_ns, &retry_ms, err);
	j->is_asked = r == 0;
	book_store_claim(c);
	return r;
}

int book_claim_judge(struct book_claim *c, const struct book_judge *ask, struct err *err)
{
	pthread_mutex_lock(&c->b->lock);
	store_begin(c->b->store);
	int r = judge_locked(c, ask, err);
	store_end(c->b->store);
	pthread_mutex_unlock(&c->b->lock);
	return r;
}

void book_claim_judged(struct book_claim *c, const struct money_tokens *tokens)
{
	pthread_mutex_lock(&c->b->lock);
	judge_had(c, tokens);
	hold_again(c);
	book_store_claim(c);
	pthread_mutex_unlock(&c->b->lock);
}

money book_claim_judges(const struct book_claim *c, enum book_aside what, struct money_tokens *out)
{
	const struct money_tokens *had = &c->judged[what];
	money cost = 0;
	*out = (struct money_tokens){0};
	pthread_mutex_lock(&c->b->lock);
	if (c->judges.what == what)
		book_judges_now(&c->judges, out, &cost);
	out->prompt += had->prompt;
	out->cached += had->cached;
	out->output += had->output;
	cost = money_add(cost, c->judged_cost[what]);
	pthread_mutex_unlock(&c->b->lock);
	return cost;
}
