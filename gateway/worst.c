/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic only: the estimate may be wrong in both directions, the exact one never too small. */
#include "gateway/worst.h"

enum { BYTES_A_TOKEN = 4, TEMPLATE_TOK = 16 };

static void common(
	struct book_worst *out, const struct settings *settings, struct model *m, uint64_t room_tok)
{
	*out = (struct book_worst){.output_tok = settings_integer(settings, SETTING_MAX_TOKENS)};
	if (out->output_tok > room_tok)
		out->output_tok = room_tok;
	model_price(m, &out->price);
	out->has_max_cost = settings_dollars(settings, SETTING_MAX_COST, &out->max_cost);
}

void worst_exact(struct book_worst *out, const struct settings *settings, struct model *m,
	size_t prompt_tok, uint64_t room_tok)
{
	common(out, settings, m, room_tok);
	out->prompt_tok = prompt_tok;
}

static uint64_t history_tok(const struct session *s)
{
	const struct conversation *c = &s->conversation;
	size_t len;
	settings_get(&s->settings, SETTING_SYSTEM, &len);
	if (s->ask || !c->n)
		return len / BYTES_A_TOKEN;
	for (size_t i = c->n; i-- > 0;) {
		const struct trace_packed *t = &c->turns[i].trace;
		if (t->prompt_tok)
			return (uint64_t)t->prompt_tok + t->output_tok;
	}
	return (len + c->settled_bytes) / BYTES_A_TOKEN;
}

void worst_estimate(struct book_worst *out, const struct session *s, struct model *m,
	const struct loaded *l, size_t prompt_tok)
{
	uint64_t history = history_tok(s),
		 most = settings_integer(&s->settings, SETTING_PROMPT_BUDGET);
	uint64_t context = l ? l->limits.context_tok : UINT64_MAX;
	if (most && history + prompt_tok > most)
		history = prompt_tok < most ? most - prompt_tok : 0;
	uint64_t prompt = history + prompt_tok + TEMPLATE_TOK;
	if (prompt > context)
		prompt = context;
	common(out, &s->settings, m, context - prompt);
	out->prompt_tok = prompt;
}
