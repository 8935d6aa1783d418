/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both rule stages judge the prompt as a whole text, then the judge, if guards/moderation names
 * one, judges it. Nothing is audited or counted: nothing happened. But a judge takes time that
 * others wait for, so where one is asked it takes a ticket of the user's rate limits (draft.c).
 */
#include "gateway/verdict.h"

#include <errno.h>
#include <string.h>

#include "gateway/guards.h"
#include "gateway/judge.h"
#include "gateway/paying.h"
#include "gateway/session.h"
#include "gateway/stages.h"

static const char *const action_names[] = {"warn", "redact", "block"};

/* What one stage's rules say to a text. */
struct said {
	enum said_word { SAID_PASS, SAID_WARN, SAID_REDACT, SAID_BLOCK } word;
	struct buf text;            /* what goes on */
	struct guard_stream *found; /* NULL: the stage is closed, */
	struct err err;             /* and why */
};

static const char *const words[] = {"pass", "warn", "redact", "block"};

static void said_free(struct said *s)
{
	buf_free(&s->text);
	s->found = guard_stream_free(s->found);
}

static enum said_word worst_of(const struct guard_stream *s, int outcome)
{
	static const enum said_word of[] = {
		[GUARD_WARN] = SAID_WARN, [GUARD_REDACT] = SAID_REDACT, [GUARD_BLOCK] = SAID_BLOCK};
	size_t n;
	const struct guard_finding *found = guard_stream_findings(s, &n);
	enum said_word worst = outcome == 1 ? SAID_BLOCK : SAID_PASS;
	for (size_t i = 0; i < n; i++)
		worst = of[found[i].action] > worst ? of[found[i].action] : worst;
	return worst;
}

static int judge_text(
	struct gateway *g, enum guard_stage stage, const char *text, size_t len, struct said *out)
{
	struct guard_set *set = NULL;
	*out = (struct said){0};
	int e = guards_rules(g->guards, stage, &set, NULL, &out->err);
	if (e == -EPERM) {
		out->word = SAID_BLOCK;
		return 0;
	}
	out->found = e == 0 ? guard_stream_new(set) : NULL;
	guard_set_put(set);
	if (!out->found)
		return -ENOMEM;
	int outcome = guard_stream_feed(out->found, text, len, &out->text);
	outcome = outcome ? outcome : guard_stream_end(out->found, &out->text);
	out->word = worst_of(out->found, outcome);
	return outcome < 0 ? outcome : 0;
}

static int print_text(const char *text, size_t len, struct buf *out)
{
	int e = buf_append_str(out, ", \"text\": ");
	return e ? e : text_append_json(out, text ? text : "", len);
}

static int print_stage(const struct said *s, struct buf *out)
{
	size_t n = 0;
	const struct guard_finding *found = s->found ? guard_stream_findings(s->found, &n) : NULL;
	int e = buf_printf(out, "{\"verdict\": \"%s\"", words[s->word]);
	e = e ? e : print_text(s->text.data, s->text.len, out);
	if (e == 0 && !s->found) {
		e = buf_append_str(out, ", \"error\": ");
		e = e ? e : text_append_json(out, s->err.text, strlen(s->err.text));
	}
	e = e ? e : buf_append_str(out, ", \"findings\": [");
	for (size_t i = 0; e == 0 && i < n; i++)
		e = buf_printf(out,
			"%s{\"guard\": \"%s\", \"rule\": \"%s\", \"action\": \"%s\", \"why\": "
			"\"%s\"}",
			i ? ", " : "", found[i].file, found[i].rule, action_names[found[i].action],
			found[i].why);
	return e ? e : buf_append_str(out, "]}");
}

static int print_judge(const struct judge_verdict *v, struct buf *out)
{
	int e = buf_append_str(out, ",\n \"moderation\": ");
	if (e || !v)
		return e ? e : buf_append_str(out, "null}\n");
	if (v->status < 0) {
		e = buf_append_str(out, "{\"verdict\": \"none\", \"error\": ");
		e = e ? e : text_append_json(out, v->err.text, strlen(v->err.text));
		return e ? e : buf_append_str(out, "}}\n");
	}
	return buf_printf(out, "{\"verdict\": \"%s\", \"p\": %.4f, \"categories\": \"%s\"}}\n",
		v->unsafe ? "unsafe" : "safe", v->p, v->categories);
}

/* What follows from the judge's verdict; *instead: the text that is given in place of this one. */
static enum said_word judges_word(
	const struct moderation *m, const struct judge_verdict *v, const struct text **instead)
{
	*instead = NULL;
	if (!v || (v->status == 0 && !v->unsafe))
		return SAID_PASS;
	if (v->status < 0)
		return m && m->allows_on_error && !v->unpaid ? SAID_WARN : SAID_BLOCK;
	if (m->action == MODERATION_REPLACE)
		*instead = m->replacement;
	return m->action == MODERATION_BLOCK     ? SAID_BLOCK
	       : m->action == MODERATION_REPLACE ? SAID_REDACT
						 : SAID_WARN;
}

/* The strictest of them, and what is left of a text that passes all of them, one after the other.
 */
static int print_overall(struct request *r, const struct said *in, const struct said *out,
	const struct judge_verdict *v, struct buf *to)
{
	const struct text *instead;
	struct said both = {0};
	enum said_word word = judges_word(r->moderation, v, &instead);
	word = in->word > word ? in->word : word;
	word = out->word > word ? out->word : word;
	const struct buf *text = &out->text;
	int e = 0;
	if (word != SAID_BLOCK && !instead && in->word == SAID_REDACT) {
		e = judge_text(r->g, GUARD_OUTPUT, in->text.data, in->text.len, &both);
		text = &both.text;
		word = both.word > word ? both.word : word;
	}
	e = e ? e : buf_printf(to, "{\"verdict\": \"%s\"", words[word]);
	if (e == 0 && word == SAID_BLOCK)
		e = print_text("", 0, to);
	else if (e == 0 && instead)
		e = print_text(instead->bytes, instead->len, to);
	else if (e == 0)
		e = print_text(text->data, text->len, to);
	said_free(&both);
	return e;
}

static int print_all(struct request *r, const struct judge_verdict *v, struct buf *to)
{
	struct said in = {0}, out = {0};
	int e = judge_text(r->g, GUARD_INPUT, r->prompt->bytes, r->prompt->len, &in);
	e = e ? e : judge_text(r->g, GUARD_OUTPUT, r->prompt->bytes, r->prompt->len, &out);
	e = e ? e : print_overall(r, &in, &out, v, to);
	e = e ? e : buf_append_str(to, ",\n \"input\": ");
	e = e ? e : print_stage(&in, to);
	e = e ? e : buf_append_str(to, ",\n \"output\": ");
	e = e ? e : print_stage(&out, to);
	e = e ? e : print_judge(v, to);
	said_free(&in);
	said_free(&out);
	return e;
}

static void answer(struct request *r, const struct judge_verdict *v)
{
	struct buf out = {0};
	int e = print_all(r, v, &out);
	if (e == 0)
		e = answer_append(r->answer, out.data, out.len);
	buf_free(&out);
	pthread_mutex_lock(&r->session->lock);
	if (e == 0)
		request_settle(r, REQUEST_DONE, 0, "", true);
	else
		request_settle(r, REQUEST_FAILED, e,
			e == -EILSEQ ? "the text is not UTF-8" : "out of memory", true);
	pthread_mutex_unlock(&r->session->lock);
	stages_post(r);
}

static void judged(void *arg, const struct judge_verdict *v)
{
	struct request *r = arg;
	r->judge = judge_cancel(r->judge);
	answer(r, v);
}

/* As a user's message, or, when only answers are judged, as an answer. */
static int ask(struct request *r, enum guard_stage stage, struct err *err)
{
	bool is_input = stage == GUARD_INPUT;
	const struct judge_job job = {
		.g = r->g,
		.moderation = r->moderation,
		.stage = stage,
		.user = is_input ? r->prompt : NULL,
		.agent = is_input ? NULL : r->prompt->bytes,
		.agent_len = is_input ? 0 : r->prompt->len,
		.uid = r->uid,
		.done = judged,
		.arg = r,
		.payer = &paying_judges,
		.payer_arg = r,
	};
	return judge_begin(&r->judge, &job, err);
}

void verdict_begin(struct request *r)
{
	struct judge_verdict v = {0};
	r->stage = STAGE_JUDGE;
	enum guard_stage stage = GUARD_INPUT;
	v.status = guards_judge(r->g->guards, stage, &r->moderation, &v.err);
	if (v.status == 0 && !r->moderation)
		v.status = guards_judge(r->g->guards, stage = GUARD_OUTPUT, &r->moderation, &v.err);
	if (v.status == 0 && !r->moderation) {
		answer(r, NULL);
		return;
	}
	paying_start_ticket(r);
	if (v.status == 0)
		v.status = ask(r, stage, &v.err);
	if (v.status < 0) {
		r->judge = NULL;
		answer(r, &v);
	}
}
