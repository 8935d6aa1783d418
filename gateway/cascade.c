/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cascade holds every answer but the last one's back until it is complete and weighed: shown, it
 * could not be taken back. One that is not good enough is kept as long as it is the best: should
 * all models behind it fail, it is better than nothing.
 *
 * A judge is asked only about what would be shown: an estimate is a product, and what is below the
 * threshold already no verdict lifts above it. A judge that is down, late or answers something else
 * has no say: the estimate decides alone, the trace says why, and the answer is not kept for
 * others, who may have a judge.
 */
#include "gateway/cascade.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gateway/attempt.h"
#include "gateway/judge.h"
#include "gateway/paying.h"
#include "gateway/route.h"
#include "gateway/router.h"
#include "gateway/session.h"
#include "gateway/stages.h"

bool cascade_holds(const struct request *r)
{
	return r->decision && r->decision->model == ROUTER_CASCADE && r->route &&
	       route_model(r->route, r->n_tried);
}

/* ---- what is said of it ---- */

static void say_quality(struct request *r)
{
	const struct request_weighed *w = &r->weighed;
	char certain[48] = "", judge[32] = "", outcome[160];
	double threshold = r->decision->threshold;
	if (!isnan(w->mean_logprob))
		snprintf(certain, sizeof certain, ", mean log-probability %.2f", w->mean_logprob);
	if (w->is_judged)
		snprintf(judge, sizeof judge, ", judge %.2f", w->reasons.judge);
	snprintf(outcome, sizeof outcome, "quality %.2f (%s%s%s), %s the threshold of %.2f",
		w->quality, w->reasons.why, certain, judge,
		w->quality >= threshold ? "not below" : "below", threshold);
	pthread_mutex_lock(&r->session->lock);
	const struct route_took took = paying_took(r);
	route_step(r->route, r->model_name, outcome, &took);
	pthread_mutex_unlock(&r->session->lock);
}

static void say_verdict(struct request *r, const struct judge_verdict *v)
{
	char outcome[160];
	const struct question_said *said = &v->said;
	if (v->status < 0)
		snprintf(outcome, sizeof outcome, "no verdict: %.140s", v->err.text);
	else
		snprintf(outcome, sizeof outcome, "judges the answer of %s: %s, %.3f",
			r->model_name, said->choice == QUESTION_YES ? "good" : "bad",
			said->share[QUESTION_YES]);
	pthread_mutex_lock(&r->session->lock);
	route_step(r->route, r->weighed.judge, outcome, NULL);
	pthread_mutex_unlock(&r->session->lock);
}

/* ---- what becomes of it ---- */

static void keep_if_best(struct request *r)
{
	if (!r->held.len || r->weighed.quality < r->best_quality)
		return;
	buf_free(&r->best);
	r->best = r->held;
	r->held = (struct buf){0};
	r->best_quality = r->weighed.quality;
	memcpy(r->best_model, r->model_name, sizeof r->best_model);
	r->best_provider = r->provider;
}

static enum cascade_word decide(struct request *r)
{
	say_quality(r);
	if (r->weighed.quality >= r->decision->threshold)
		return CASCADE_GOOD;
	keep_if_best(r);
	r->left_code = 0;
	r->stage = STAGE_NEXT;
	stages_post(r);
	return CASCADE_NEXT;
}

/* ---- the judge ---- */

static void judged(void *arg, const struct judge_verdict *v)
{
	struct request *r = arg;
	struct request_weighed *w = &r->weighed;
	r->judge = judge_cancel(r->judge);
	if (stages_is_over(r)) {
		stages_post(r);
		return;
	}
	say_verdict(r, v);
	w->is_judged = v->status == 0;
	if (w->is_judged)
		w->quality = quality_judged(w->quality, v->said.share[QUESTION_YES], &w->reasons);
	else
		r->is_makeshift = true;
	if (decide(r) == CASCADE_GOOD)
		attempt_show(r);
}

static int ask(struct request *r, unsigned timeout_ms, struct err *err)
{
	struct buf text = {.max = QUESTION_BYTES};
	int e = question_quality(
		r->prompt->bytes, r->prompt->len, r->held.data, r->held.len, &text);
	struct text *question = e == 0 ? text_new(text.data, text.len) : NULL;
	buf_free(&text);
	if (!question)
		return err_set(err, -ENOMEM, "out of memory");
	const struct judge_question q = {
		.kind = QUESTION_QUALITY,
		.model = r->weighed.judge,
		.timeout_ms = timeout_ms,
		.text = question,
	};
	const struct judge_job job = {
		.g = r->g,
		.question = &q,
		.uid = r->uid,
		.done = judged,
		.arg = r,
		.payer = &paying_opinions,
		.payer_arg = r,
	};
	e = judge_begin(&r->judge, &job, err);
	text_put(question);
	return e;
}

/* Whether a model judges it: its verdict comes later. */
static bool ask_judge(struct request *r)
{
	struct judge_verdict v = {0};
	unsigned timeout_ms = router_cascade_judge(r->g->router, r->weighed.judge);
	if (!timeout_ms)
		return false;
	v.status = ask(r, timeout_ms, &v.err);
	if (v.status < 0) {
		r->judge = NULL;
		r->is_makeshift = true;
		say_verdict(r, &v);
		return false;
	}
	r->stage = STAGE_WEIGH;
	return true;
}

enum cascade_word cascade_weigh(struct request *r, const char *finish, double mean_logprob)
{
	size_t unused;
	const struct quality_answer a = {
		.text = r->held.data,
		.len = r->held.len,
		.class = r->decision->class,
		.was_cut = finish && *finish == 'l',
		.wants_json = *settings_get(&r->settings, SETTING_FORMAT, &unused) == 'j',
		.mean_logprob = mean_logprob,
	};
	struct request_weighed *w = &r->weighed;
	*w = (struct request_weighed){.mean_logprob = mean_logprob};
	w->quality = quality_estimate(&a, &w->reasons);
	if (w->quality >= r->decision->threshold && ask_judge(r))
		return CASCADE_WAITS;
	return decide(r);
}
