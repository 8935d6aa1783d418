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

static int render_findings(const struct guard_stream *s, struct buf *out)
{
	size_t n;
	const struct guard_finding *found = guard_stream_findings(s, &n);
	int r = buf_append_str(out, ", \"findings\": [");
	for (size_t i = 0; r == 0 && i < n; i++)
		r = buf_printf(out,
			"%s{\"guard\": \"%s\", \"rule\": \"%s\", \"action\": \"%s\", \"why\": "
			"\"%s\"}",
			i ? ", " : "", found[i].file, found[i].rule, action_names[found[i].action],
			found[i].why);
	return r ? r : buf_append_str(out, "]}");
}

static const char *word(const struct guard_stream *s, int outcome)
{
	size_t n;
	const struct guard_finding *found = guard_stream_findings(s, &n);
	enum guard_action worst = GUARD_WARN;
	for (size_t i = 0; i < n; i++)
		worst = found[i].action > worst ? found[i].action : worst;
	return outcome == 1 ? "block" : n ? action_names[worst] : "pass";
}

static int render_stage(struct request *r, enum guard_stage stage, struct buf *out)
{
	struct guard_set *set = NULL;
	struct err err = {0};
	struct buf text = {0};
	int e = guards_rules(r->g->guards, stage, &set, NULL, &err);
	if (e == -EPERM) {
		e = buf_append_str(out, "{\"verdict\": \"block\", \"text\": \"\", \"error\": ");
		e = e ? e : text_append_json(out, err.text, strlen(err.text));
		return e ? e : buf_append_str(out, ", \"findings\": []}");
	}
	struct guard_stream *s = e == 0 ? guard_stream_new(set) : NULL;
	guard_set_put(set);
	if (!s)
		return -ENOMEM;
	int outcome = guard_stream_feed(s, r->prompt->bytes, r->prompt->len, &text);
	outcome = outcome ? outcome : guard_stream_end(s, &text);
	e = outcome < 0 ? outcome : 0;
	e = e ? e : buf_printf(out, "{\"verdict\": \"%s\", \"text\": ", word(s, outcome));
	e = e ? e : text_append_json(out, text.data ? text.data : "", text.len);
	e = e ? e : render_findings(s, out);
	buf_free(&text);
	guard_stream_free(s);
	return e;
}

static int render_judge(const struct judge_verdict *v, struct buf *out)
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

static void answer(struct request *r, const struct judge_verdict *v)
{
	struct buf out = {0};
	int e = buf_append_str(&out, "{\"input\": ");
	e = e ? e : render_stage(r, GUARD_INPUT, &out);
	e = e ? e : buf_append_str(&out, ",\n \"output\": ");
	e = e ? e : render_stage(r, GUARD_OUTPUT, &out);
	e = e ? e : render_judge(v, &out);
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
	const struct text *t = r->prompt;
	if (stage == GUARD_INPUT)
		return judge_begin(
			&r->judge, r->g, r->moderation, stage, r->prompt, NULL, 0, judged, r, err);
	return judge_begin(
		&r->judge, r->g, r->moderation, stage, NULL, t->bytes, t->len, judged, r, err);
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
