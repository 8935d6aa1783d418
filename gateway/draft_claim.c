/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a draft claims: the first write what the request may cost (book.h), later ones enlarge the
 * claim; a draft that is not submitted gives it back.
 *
 * The vector by which the cache looks for the prompt is reserved with it, but where it cannot be
 * paid the prompt goes on without: the look-up is then refused when it is to begin, and finds
 * nothing.
 *
 * An answer from the cache costs nothing, so a budget that is spent need not refuse the prompt. A
 * draft whose claim cannot be paid goes on `unpaid`, with its ticket alone, if the cache has the
 * answer to just what is written by now; whether it has is asked after the rules, and where more
 * is to come (whole pages) at the flush. If that is gone when its turn comes, the refusal is late.
 */
#include "gateway/draft_parts.h"

#include <errno.h>

#include "gateway/caching_key.h"
#include "gateway/router.h"
#include "gateway/worst.h"

static int claim(struct draft *d, const struct book_worst *worst, struct err *err)
{
	if (d->claim)
		return worst_resize(d->claim, worst, &d->retry_ms, err);
	int r = worst_claim(&d->claim, d->session->g, d->user, worst, &d->retry_ms, err);
	if (r == 0)
		book_note_user(d->session->g->book, d->user, d->uid);
	return r;
}

int draft_claim_cost(struct draft *d, struct model *m, const struct loaded *l, struct err *err)
{
	struct gateway *g = d->session->g;
	struct book_worst worst;
	size_t uncounted = d->text.len - d->counted;
	/* A text to be embedded is never counted: what it can be at most. */
	bool embeds = d->session->channel == GATEWAY_EMBED;
	size_t tok = embeds ? d->text.len + 2 : d->n_tok + uncounted / 4 + 1;
	worst_prompt(&worst, d->session, m, l, d->text.len, tok);
	struct err own = {0};
	int r = claim(d, &worst, &own);
	uint64_t retry_ms = d->retry_ms;
	d->unpaid = false;
	if (r == -EDQUOT && !embeds) {
		/* What the cache has costs nothing but the judge of the prompt. */
		const struct book_worst cached = {
			.judges = worst_judges(g, GUARD_INPUT, d->text.len, 0),
			.has_max_cost = worst.has_max_cost,
			.max_cost = worst.max_cost,
		};
		d->unpaid = claim(d, &cached, NULL) == 0;
		d->unpaid_err = own;
		d->retry_ms = retry_ms;
		r = d->unpaid ? 0 : r;
	}
	if (r < 0)
		err_set(err, 0, "%s", own.text);
	return r;
}

/* Where a model says the class of prompts, that works for it: what cannot be paid is not asked. */
static int claim_explain(struct draft *d, struct err *err)
{
	char name[TEXT_NAME_SIZE];
	const struct book_worst worst = {.opinions = worst_class(d->session->g, d->text.len)};
	if (!d->claim && !router_classifier(d->session->g->router, name))
		return 0;
	return claim(d, &worst, err);
}

/* Such channels cost nothing, but where a model is asked, a judge, one for embeddings or the
 * router's classifier, others wait for it: a ticket. */
int draft_claim_dry(struct draft *d, struct err *err)
{
	struct gateway *g = d->session->g;
	struct moderation *m[2] = {NULL, NULL};
	struct book_worst worst = {0};
	bool looks_up = d->session->channel == GATEWAY_LOOKUP;
	if (d->session->channel == GATEWAY_EXPLAIN)
		return claim_explain(d, err);
	for (int stage = 0; !looks_up && stage < 2; stage++)
		guards_judge(g->guards, (enum guard_stage)stage, &m[stage], NULL);
	bool asks = m[0] || m[1];
	if (asks)
		worst.judges = worst_judges(
			g, m[GUARD_INPUT] ? GUARD_INPUT : GUARD_OUTPUT, d->text.len, 0);
	moderation_put(m[0]);
	moderation_put(m[1]);
	if (looks_up)
		worst.lookup = worst_lookup(g, d->text.len);
	if (d->claim)
		return book_claim_resize(d->claim, &worst, &d->retry_ms, err);
	return asks || looks_up ? book_claim(&d->claim, g->book, d->user, &worst, &d->retry_ms, err)
				: 0;
}

int draft_claim_cached(struct draft *d, struct err *err)
{
	if (!d->unpaid)
		return 0;
	struct text *prompt = draft_rules_so_far(d);
	bool knows = prompt && caching_key_is_known(d->session, prompt, d->user, d->uid);
	text_put(prompt);
	return knows ? 0 : err_set(err, -EDQUOT, "%s", d->unpaid_err.text);
}
