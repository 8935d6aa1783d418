/* SPDX-License-Identifier: Apache-2.0 */
/* A judge looks at a prompt, if guards/moderation names one, before a model sees it. */
#include "gateway/prompt_judge.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/judge.h"
#include "gateway/paying.h"
#include "gateway/session.h"
#include "gateway/stages.h"

static void unsafe_prompt(
	struct request *r, const struct moderation *m, const struct judge_verdict *v)
{
	static const char *const actions[] = {"block", "replace", "warn"};
	struct guards_subject who = stages_subject(r);
	struct err err = {0};
	enum moderation_action action = m->action;
	guards_tell_judge(
		r->g->guards, &who, GUARD_INPUT, v->categories, "unsafe", actions[action]);
	switch (action) {
	case MODERATION_BLOCK:
		stages_refuse(r,
			err_set(&err, -EPERM, "blocked by the input judge: unsafe%s%s",
				*v->categories ? ", " : "", v->categories),
			&err);
		break;
	case MODERATION_REPLACE:
		stages_answer(r, m->replacement->bytes, m->replacement->len);
		break;
	case MODERATION_WARN:
		stages_judged(r);
		break;
	}
}

static void no_verdict(struct request *r, const struct moderation *m, const struct judge_verdict *v)
{
	bool open = m->allows_on_error && !v->unpaid;
	struct guards_subject who = stages_subject(r);
	struct err err = {0};
	guards_tell_judge(
		r->g->guards, &who, GUARD_INPUT, "", "no verdict", open ? "allow" : "block");
	if (v->unpaid)
		stages_refuse(r, v->status, &v->err);
	else if (open)
		stages_judged(r);
	else
		stages_refuse(r,
			err_set(&err, -EPERM, "blocked: the input judge gave no verdict: %s",
				v->err.text),
			&err);
}

static void prompt_judged(void *arg, const struct judge_verdict *v)
{
	struct request *r = arg;
	struct moderation *m = r->moderation;
	r->judge = judge_cancel(r->judge);
	r->moderation = NULL;
	pthread_mutex_lock(&r->session->lock);
	r->times.judged_ns = clock_mono_ns();
	pthread_mutex_unlock(&r->session->lock);
	if (stages_is_over(r))
		stages_post(r);
	else if (v->status < 0)
		no_verdict(r, m, v);
	else if (v->unsafe)
		unsafe_prompt(r, m, v);
	else
		stages_judged(r);
	moderation_put(m);
}

/* What is judged: the prompt, behind what stands before it that no judge has seen: the system
 * prompt, and turns that came from messages.json or a fork. new reference; NULL when memory is out.
 */
static struct text *text_to_judge(struct request *r)
{
	struct buf all = {0};
	const struct conversation *c = &r->session->conversation;
	size_t len;
	int e = 0;
	pthread_mutex_lock(&r->session->lock);
	const char *system = settings_get(&r->settings, SETTING_SYSTEM, &len);
	if (len)
		e = buf_append(&all, system, len) || buf_append_str(&all, "\n\n");
	for (size_t i = 0; e == 0 && !r->session->alone && i < c->n; i++) {
		const struct turn *t = &c->turns[i];
		if (t->asked || t->state == TURN_RUNNING)
			continue;
		e = buf_append(&all, t->user->bytes, t->user->len) || buf_append_str(&all, "\n\n");
		if (e == 0 && t->assistant)
			e = buf_append(&all, t->assistant->bytes, t->assistant->len) ||
			    buf_append_str(&all, "\n\n");
	}
	pthread_mutex_unlock(&r->session->lock);
	if (e == 0 && !all.len)
		return text_ref(r->prompt);
	struct text *t = NULL;
	if (e == 0 && buf_append(&all, r->prompt->bytes, r->prompt->len) == 0)
		t = text_new(all.data, all.len);
	buf_free(&all);
	return t;
}

void prompt_judge_begin(struct request *r)
{
	struct err err = {0};
	struct judge_verdict v = {0};
	r->stage = STAGE_JUDGE;
	int e = guards_judge(r->g->guards, GUARD_INPUT, &r->moderation, &err);
	if (e < 0) {
		stages_refuse(r, e, &err);
		return;
	}
	if (!r->moderation) {
		stages_judged(r);
		return;
	}
	paying_start_ticket(r);
	struct text *text = text_to_judge(r);
	const struct judge_job job = {
		.g = r->g,
		.moderation = r->moderation,
		.stage = GUARD_INPUT,
		.user = text,
		.uid = r->uid,
		.done = prompt_judged,
		.arg = r,
		.payer = &paying_judges,
		.payer_arg = r,
	};
	v.status = text ? judge_begin(&r->judge, &job, &v.err)
			: err_set(&v.err, -ENOMEM, "out of memory");
	text_put(text);
	if (v.status < 0) {
		struct moderation *m = r->moderation;
		r->moderation = NULL;
		r->judge = NULL;
		no_verdict(r, m, &v);
		moderation_put(m);
	}
}
