/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic only: the estimate may be wrong in both directions, the exact one never too small. */
#include "gateway/worst.h"

#include <errno.h>
#include <string.h>

#include "gateway/cache.h"
#include "gateway/caching_key.h"
#include "gateway/guards.h"
#include "gateway/question.h"
#include "gateway/router.h"

enum { BYTES_A_TOKEN = 4, TEMPLATE_TOK = 16, VERDICT_TOK = 4, CONTROL_TOK = 2 };

static void common(struct book_worst *out, const struct settings *settings,
	const struct money_price *price, uint64_t room_tok)
{
	*out = (struct book_worst){.output_tok = settings_integer(settings, SETTING_MAX_TOKENS)};
	if (out->output_tok > room_tok)
		out->output_tok = room_tok;
	out->price = *price;
	out->has_max_cost = settings_dollars(settings, SETTING_MAX_COST, &out->max_cost);
}

void worst_exact(struct book_worst *out, const struct settings *settings,
	const struct money_price *price, uint64_t prompt_tok, uint64_t room_tok)
{
	common(out, settings, price, room_tok);
	out->prompt_tok = prompt_tok;
}

static uint64_t history_tok(const struct session *s)
{
	const struct conversation *c = &s->conversation;
	size_t len;
	settings_get(&s->settings, SETTING_SYSTEM, &len);
	if (s->alone || !c->n)
		return len / BYTES_A_TOKEN;
	for (size_t i = c->n; i-- > 0;) {
		const struct trace_packed *t = &c->turns[i].trace;
		if (t->prompt_tok)
			return (uint64_t)t->prompt_tok + t->output_tok;
	}
	return (len + c->settled_bytes) / BYTES_A_TOKEN;
}

void worst_estimate(struct book_worst *out, const struct session *s,
	const struct money_price *price, const struct loaded *l, size_t prompt_tok)
{
	uint64_t history = history_tok(s),
		 most = settings_integer(&s->settings, SETTING_PROMPT_BUDGET);
	uint64_t context = l ? l->limits.context_tok : UINT64_MAX;
	if (most && history + prompt_tok > most)
		history = prompt_tok < most ? most - prompt_tok : 0;
	bool embeds = s->channel == GATEWAY_EMBED;
	uint64_t prompt = embeds ? prompt_tok : history + prompt_tok + TEMPLATE_TOK;
	if (prompt > context)
		prompt = context;
	common(out, &s->settings, price, embeds ? 0 : context - prompt);
	out->prompt_tok = prompt;
}

money worst_judges(
	struct gateway *g, enum guard_stage stage, size_t prompt_bytes, uint64_t output_tok)
{
	static const uint64_t most_windows = 1 << 20; /* so that the sum cannot overflow */
	struct moderation *m = NULL;
	if (guards_judge(g->guards, stage, &m, NULL) < 0 || !m)
		return 0;
	uint64_t form = (m->form_bytes[stage] + prompt_bytes) / BYTES_A_TOKEN + TEMPLATE_TOK, n = 1;
	uint64_t window = m->window_chars / BYTES_A_TOKEN + 1;
	if (stage == GUARD_OUTPUT)
		n = output_tok / window + 1;
	n = n < most_windows ? n : most_windows;
	uint64_t prompt = n * form + (stage == GUARD_OUTPUT ? window * (n * (n + 1) / 2) : 0);
	struct model *judge = gateway_model_find(g, m->model);
	struct money_price price = {0};
	if (judge)
		model_price(judge, &price);
	model_put(judge);
	moderation_put(m);
	return money_worst(&price, prompt, n * VERDICT_TOK);
}

/* A question of about so many bytes. */
static money worst_question(struct gateway *g, const char *name, size_t bytes)
{
	struct money_price price = {0};
	struct model *m = gateway_model_find(g, name);
	bytes = bytes < QUESTION_BYTES ? bytes : QUESTION_BYTES;
	if (m)
		model_price(m, &price);
	model_put(m);
	return money_worst(
		&price, (QUESTION_FORM_BYTES + bytes) / BYTES_A_TOKEN + TEMPLATE_TOK, VERDICT_TOK);
}

money worst_class(struct gateway *g, size_t prompt_bytes)
{
	char name[TEXT_NAME_SIZE];
	return router_classifier(g->router, name) ? worst_question(g, name, prompt_bytes) : 0;
}

money worst_cascade(struct gateway *g, size_t prompt_bytes, uint64_t output_tok)
{
	char name[TEXT_NAME_SIZE];
	if (!router_cascade_judge(g->router, name))
		return 0;
	size_t most = output_tok < QUESTION_BYTES ? output_tok * BYTES_A_TOKEN : QUESTION_BYTES;
	return worst_question(g, name, prompt_bytes + most);
}

money worst_router(struct gateway *g, struct model *m, size_t prompt_bytes, uint64_t output_tok)
{
	if (!model_is_virtual(m))
		return 0;
	bool cascades = !strcmp(model_name(m), "cascade");
	bool counts = router_counts_class(g->router, cascades ? ROUTER_CASCADE : ROUTER_AUTO);
	return money_add(counts ? worst_class(g, prompt_bytes) : 0,
		cascades ? worst_cascade(g, prompt_bytes, output_tok) : 0);
}

money worst_lookup(struct gateway *g, size_t prompt_bytes)
{
	char name[TEXT_NAME_SIZE];
	struct money_price price = {0};
	if (!cache_embeds(g->cache, prompt_bytes, name))
		return 0;
	struct model *m = gateway_model_find(g, name);
	if (m)
		model_price(m, &price);
	model_put(m);
	return money_worst(&price, prompt_bytes + CONTROL_TOK, 0);
}

void worst_prompt(struct book_worst *out, struct session *s, struct model *m,
	const struct loaded *l, size_t prompt_bytes, size_t prompt_tok)
{
	bool embeds = s->channel == GATEWAY_EMBED;
	struct money_price price;
	model_price(m, &price);
	pthread_mutex_lock(&s->lock);
	worst_estimate(out, s, &price, l, prompt_tok);
	bool near = !embeds && caching_key_allows_near(s);
	pthread_mutex_unlock(&s->lock);
	out->judges = worst_judges(s->g, GUARD_INPUT, prompt_bytes, 0);
	if (!embeds)
		out->judges = money_add(out->judges,
			worst_judges(s->g, GUARD_OUTPUT, prompt_bytes, out->output_tok));
	out->opinions = worst_router(s->g, m, prompt_bytes, out->output_tok);
	if (near)
		out->lookup = worst_lookup(s->g, prompt_bytes);
}

/* What can be done without. */
static bool has_more(const struct book_worst *worst)
{
	return worst->lookup || worst->opinions;
}

static struct book_worst without_more(const struct book_worst *worst)
{
	struct book_worst w = *worst;
	w.lookup = w.opinions = 0;
	return w;
}

int worst_claim(struct book_claim **out, struct gateway *g, const char *user,
	const struct book_worst *worst, uint64_t *retry_ms, struct err *err)
{
	const struct book_worst least = without_more(worst);
	int r = book_claim(out, g->book, user, worst, retry_ms, err);
	if (r == -EDQUOT && has_more(worst))
		r = book_claim(out, g->book, user, &least, retry_ms, err);
	return r;
}

int worst_resize(
	struct book_claim *c, const struct book_worst *worst, uint64_t *retry_ms, struct err *err)
{
	const struct book_worst least = without_more(worst);
	int r = book_claim_resize(c, worst, retry_ms, err);
	if (r == -EDQUOT && has_more(worst))
		r = book_claim_resize(c, &least, retry_ms, err);
	return r;
}
