/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text passes three gates. The rules (guard.h) let through what can no longer become part of a
 * match; at its end, whole or broken off, that is all but the matches. What they let through is
 * `clean`. A judge, where one is asked, looks at all of `clean` each time there is a window more of
 * it, and at its end, also where the text broke off; with the actions block and replace, nothing is
 * released that it has not seen. The last gate is the ledger: text is released when the tokens that
 * had been produced with it are covered.
 *
 * A judge that says unsafe ends the text: with the replacement, or as a block. What it had passed
 * before stays said.
 */
#include "gateway/outlet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

struct outlet {
	struct outlet_job job;
	struct guard_stream *rules;
	size_t told;                   /* findings that are audited */
	struct moderation *moderation; /* NULL: nobody judges */
	struct judge *judge;           /* is looking */
	size_t looking_at;             /* bytes of clean that it looks at */

	struct buf clean; /* what passed the rules */
	size_t judged;    /* of clean: seen by the judge */
	size_t released;  /* of clean */
	uint64_t produced_tok, covered_tok;

	uint64_t guards_print;
	bool ended, is_makeshift;
	int code;
	struct err err;
};

int outlet_new(struct outlet **out, const struct outlet_job *job, struct err *err)
{
	struct outlet *o = calloc(1, sizeof *o);
	struct guard_set *set = NULL;
	if (!o)
		return err_set(err, -ENOMEM, "out of memory");
	o->job = *job;
	int r = guards_stage(
		job->g->guards, GUARD_OUTPUT, &set, &o->moderation, &o->guards_print, err);
	if (r == 0) {
		o->rules = guard_stream_new(set);
		r = o->rules ? 0 : err_set(err, -ENOMEM, "out of memory");
	}
	guard_set_put(set);
	if (r < 0)
		outlet_free(o);
	else
		*out = o;
	return r;
}

struct outlet *outlet_free(struct outlet *o)
{
	if (!o)
		return NULL;
	judge_cancel(o->judge);
	guard_stream_free(o->rules);
	moderation_put(o->moderation);
	buf_free(&o->clean);
	free(o);
	return NULL;
}

/* ---- the end ---- */

static void end(struct outlet *o, int code, const struct err *err)
{
	if (o->ended)
		return;
	o->ended = true;
	o->code = code;
	if (err)
		o->err = *err;
}

/* What the rules said to a piece: r of guard_stream_feed or _end. */
static void passed_rules(struct outlet *o, int r)
{
	struct err err = {0};
	size_t n;
	guards_tell(o->job.g->guards, &o->job.who, GUARD_OUTPUT, o->rules, &o->told);
	if (r == 1) {
		const struct guard_finding *found = guard_stream_findings(o->rules, &n);
		r = guards_refusal(GUARD_OUTPUT, &found[n - 1], &err);
	} else if (r < 0) {
		err_set(&err, r, "%s",
			r == -EILSEQ  ? "the model's text is not UTF-8"
			: r == -EFBIG ? "the answer is too long to be kept"
				      : "out of memory");
	}
	if (r < 0)
		end(o, r, &err);
}

void outlet_push(struct outlet *o, const char *text, size_t len, uint64_t tok)
{
	if (o->ended)
		return;
	o->produced_tok = tok;
	passed_rules(o, guard_stream_feed(o->rules, text, len, &o->clean));
}

void outlet_produced(struct outlet *o, uint64_t tok)
{
	o->produced_tok = tok;
}

void outlet_end(struct outlet *o, int code, const struct err *err)
{
	if (o->ended)
		return;
	/* What was never said completes no match: also where it breaks off, the rules judge what
	 * they hold as the end of it. A block that they find there comes before the failure. */
	passed_rules(o, code == 0 ? guard_stream_end(o->rules, &o->clean)
				  : guard_stream_break(o->rules, &o->clean));
	end(o, code, err);
}

void outlet_cover(struct outlet *o, uint64_t tok)
{
	if (tok > o->covered_tok)
		o->covered_tok = tok;
}

void outlet_uncover(struct outlet *o, int code, const struct err *err)
{
	bool waits = o->judge || o->released < o->clean.len;
	if (o->ended && !waits)
		return;
	o->judge = judge_cancel(o->judge);
	o->clean.len = o->judged = o->released;
	if (o->code == 0)
		o->ended = false; /* what was complete is not any more; a block stays one */
	end(o, code, err);
}

uint64_t outlet_guards(const struct outlet *o)
{
	return o->guards_print;
}

bool outlet_is_makeshift(const struct outlet *o)
{
	return o->is_makeshift;
}

bool outlet_ended(const struct outlet *o, int *code, struct err *err)
{
	*code = o->code;
	*err = o->err;
	return o->ended;
}

/* ---- the judge ---- */

static bool holds(const struct outlet *o)
{
	return o->moderation && o->moderation->action != MODERATION_WARN;
}

static void replace(struct outlet *o)
{
	const struct text *text = o->moderation->replacement;
	o->clean.len = o->released; /* the rest was never said */
	if (buf_append(&o->clean, text->bytes, text->len) < 0)
		o->clean.len = o->released;
	o->judged = o->clean.len;
}

static void unsafe(struct outlet *o, const struct judge_verdict *v)
{
	static const char *const actions[] = {"block", "replace", "warn"};
	enum moderation_action action = o->moderation->action;
	struct err err = {0};
	guards_tell_judge(o->job.g->guards, &o->job.who, GUARD_OUTPUT, v->categories, "unsafe",
		actions[action]);
	o->is_makeshift = true;
	if (action == MODERATION_WARN)
		return;
	o->ended = false; /* this end comes before that of the text */
	if (action == MODERATION_REPLACE) {
		replace(o);
		end(o, 0, NULL);
		return;
	}
	o->clean.len = o->judged;
	end(o,
		err_set(&err, -EPERM, "blocked by the output judge: unsafe%s%s",
			*v->categories ? ", " : "", v->categories),
		&err);
}

static void no_verdict(struct outlet *o, const struct judge_verdict *v)
{
	bool open = o->moderation->allows_on_error && !v->unpaid;
	struct err err = {0};
	guards_tell_judge(o->job.g->guards, &o->job.who, GUARD_OUTPUT, "", "no verdict",
		open ? "allow" : "block");
	o->is_makeshift = true;
	if (open)
		return;
	o->clean.len = o->judged;
	if (o->ended && o->code < 0)
		return; /* it had broken off: that is the reason */
	o->ended = false;
	if (v->unpaid)
		end(o, v->status, &v->err);
	end(o, err_set(&err, -EPERM, "blocked: the output judge gave no verdict: %s", v->err.text),
		&err);
}

static void judged(void *arg, const struct judge_verdict *v)
{
	struct outlet *o = arg;
	o->judge = judge_cancel(o->judge);
	size_t seen = o->looking_at;
	if (v->status < 0)
		no_verdict(o, v);
	else if (v->unsafe)
		unsafe(o, v);
	if (seen > o->judged && seen <= o->clean.len)
		o->judged = seen;
	o->job.wake(o->job.arg);
}

/* Characters that the judge has not seen. */
static size_t fresh_chars(const struct outlet *o)
{
	size_t n = 0;
	for (size_t i = o->judged; i < o->clean.len; i++)
		n += !utf8_is_inside(o->clean.data[i]);
	return n;
}

/* Has the judge look when there is a window to look at, or the end. */
static void ask_judge(struct outlet *o)
{
	if (!o->moderation || o->judge || o->clean.len == o->judged)
		return;
	if (!o->ended && fresh_chars(o) < o->moderation->window_chars)
		return;
	struct judge_verdict v = {0};
	o->looking_at = o->clean.len;
	const struct judge_job job = {
		.g = o->job.g,
		.moderation = o->moderation,
		.stage = GUARD_OUTPUT,
		.user = o->job.prompt,
		.agent = o->clean.data,
		.agent_len = o->clean.len,
		.uid = o->job.who.uid,
		.done = judged,
		.arg = o,
		.payer = o->job.payer,
		.payer_arg = o->job.arg,
	};
	v.status = judge_begin(&o->judge, &job, &v.err);
	if (v.status < 0) {
		o->judge = NULL;
		no_verdict(o, &v);
		o->judged = o->clean.len;
	}
}

/* ---- releasing ---- */

static size_t releasable(const struct outlet *o)
{
	return holds(o) ? o->judged : o->clean.len;
}

static void release(struct outlet *o)
{
	size_t until = releasable(o);
	if (o->released >= until || o->covered_tok < o->produced_tok)
		return;
	int r = answer_append(o->job.answer, o->clean.data + o->released, until - o->released);
	if (r < 0) {
		struct err err;
		o->ended = false;
		end(o, answer_fault(r, &err), &err);
		o->judged = o->clean.len = o->released;
		return;
	}
	o->released = until;
	/* Without a judge nobody looks back. */
	if (!o->moderation && o->released == o->clean.len) {
		buf_clear(&o->clean);
		o->released = 0;
	}
}

bool outlet_waits(const struct outlet *o)
{
	return o->ended || o->released < o->clean.len;
}

int outlet_step(struct outlet *o)
{
	ask_judge(o);
	release(o);
	bool waits = o->judge || o->released < releasable(o);
	return !o->ended || waits;
}
