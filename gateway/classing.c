/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request asks for its class once. Whatever keeps the model from saying one (it is down, late,
 * cannot be paid, answers something else) is written down in the opinion and costs the request
 * nothing but the time: the rules decide then. The model works for the request, so it is paid by
 * its claim, as a judge of its prompt is.
 *
 * What was said is remembered for the same user, model and prompt (opinions.h); what kept it from
 * saying anything is not.
 */
#include "gateway/classing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "gateway/judge.h"
#include "gateway/opinions.h"
#include "gateway/paying.h"
#include "gateway/session.h"
#include "gateway/stages.h"

static uint64_t now_ms(void)
{
	return clock_mono_ns() / 1000000;
}

static void say_why(struct router_opinion *o, const struct err *err)
{
	snprintf(o->why, sizeof o->why, "%.150s", err->text);
	o->why[utf8_valid_prefix(o->why, strlen(o->why))] = '\0';
}

/* 0: no such model. */
static uint64_t serial_of(struct gateway *g, const char *name)
{
	struct model *m = gateway_model_find(g, name);
	uint64_t serial = m ? model_serial(m) : 0;
	model_put(m);
	return serial;
}

static struct opinions_key key_of(const struct request *r)
{
	return (struct opinions_key){r->uid, r->class_model, r->class_question};
}

static void said(void *arg, const struct judge_verdict *v)
{
	struct request *r = arg;
	struct router_opinion *o = r->opinion;
	r->judge = judge_cancel(r->judge);
	if (v->status < 0) {
		say_why(o, &v->err);
	} else {
		const struct opinions_key key = key_of(r);
		o->has_class = true;
		o->class = (enum classify_class)v->said.choice;
		memcpy(o->share, v->said.share, sizeof o->share);
		opinions_note(r->g->opinions, &key, now_ms(), o);
	}
	r->class_question = text_put(r->class_question);
	if (!stages_is_over(r))
		r->classed(r);
	stages_post(r);
}

static int ask(struct request *r, unsigned timeout_ms, struct err *err)
{
	const struct judge_question q = {
		.kind = QUESTION_CLASS,
		.model = r->opinion->model,
		.timeout_ms = timeout_ms,
		.text = r->class_question,
	};
	const struct judge_job job = {
		.g = r->g,
		.question = &q,
		.uid = r->uid,
		.done = said,
		.arg = r,
		.payer = &paying_opinions,
		.payer_arg = r,
	};
	r->stage = STAGE_CLASS;
	return judge_begin(&r->judge, &job, err);
}

/* False: memory is out. */
static bool make_question(struct request *r)
{
	struct buf text = {.max = QUESTION_BYTES};
	if (r->class_question)
		return true;
	if (question_class(r->prompt->bytes, r->prompt->len, &text) == 0)
		r->class_question = text_new(text.data, text.len);
	buf_free(&text);
	return r->class_question;
}

bool classing_recall(struct request *r)
{
	struct router_opinion o = {0};
	if (r->opinion || !router_classifier(r->g->router, o.model) || !make_question(r))
		return false;
	r->class_model = serial_of(r->g, o.model);
	const struct opinions_key key = key_of(r);
	if (!opinions_find(r->g->opinions, &key, now_ms(), &o))
		return false;
	r->opinion = malloc(sizeof o);
	if (r->opinion)
		*r->opinion = o;
	r->class_question = text_put(r->class_question);
	return r->opinion;
}

bool classing_begin(struct request *r, void (*go_on)(struct request *r))
{
	struct router_opinion o = {0};
	struct err err = {0};
	unsigned timeout_ms = router_classifier(r->g->router, o.model);
	if (!timeout_ms || r->opinion)
		return false;
	r->opinion = malloc(sizeof o);
	if (!r->opinion)
		return false;
	*r->opinion = o;
	r->classed = go_on;
	r->class_model = serial_of(r->g, o.model);
	int e = make_question(r) ? ask(r, timeout_ms, &err)
				 : err_set(&err, -ENOMEM, "out of memory");
	if (e < 0) {
		r->judge = NULL;
		r->class_question = text_put(r->class_question);
		say_why(r->opinion, &err);
	}
	return e == 0;
}

void classing_leave(struct request *r)
{
	r->class_question = text_put(r->class_question);
	free(r->opinion);
	r->opinion = NULL;
}
