/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model is tried in four steps: the model's gate lets it in; the model is loaded if need be; the
 * conversation is rendered for it; its provider is asked (attempt_ask.c), and what comes of it goes
 * through the outlet (attempt_text.c).
 *
 * Fallback is only before the first byte: a try that failed without any text, by no fault of the
 * request, is handed to routing_failed, which may have another model. One whose text has begun ends
 * the request. The text of a cascade is held until cascade.h says that it may be shown.
 */
#include "gateway/attempt_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/caching.h"
#include "gateway/outlet.h"
#include "gateway/paying.h"
#include "gateway/rendering.h"
#include "gateway/routing.h"
#include "gateway/session.h"
#include "gateway/stages.h"

/* ---- its end ---- */

/* It could not, and nobody has seen anything of it: perhaps another model can. */
static void failed(struct request *r, int code, const struct err *err)
{
	if (!routing_failed(r, code, err))
		stages_fail(r, code, err);
}

/* It may not be asked any more. What there is already is shown all the same: it was paid for. */
static void refuse(struct request *r, int code, const struct err *err)
{
	bool ended;
	if (r->best.len && code != -EPERM)
		attempt_serve_best(r);
	else if (answer_size(r->answer, &ended))
		stages_fail(r, code, err);
	else
		stages_refuse(r, code, err);
}

bool attempt_may_go_on(int code)
{
	return code != -ECANCELED && code != -ESHUTDOWN && code != -EDQUOT && code != -EPERM;
}

bool attempt_is_busy(const struct request *r)
{
	return r->with_texts || r->with_provider || r->with_lease;
}

static void record(struct request *r, const char *status, int code)
{
	struct money_price price;
	struct trace_record c = {
		.id = r->id,
		.real_ns = clock_real_ns(),
		.uid = r->uid,
		.status = status,
		.finish = r->finish,
		.code = code,
		.usage = r->attempt_usage,
	};
	model_price(r->model, &price);
	c.cost = money_cost(&price, &(struct money_tokens){.prompt = c.usage.prompt_tok,
					    .cached = c.usage.cached_tok,
					    .output = c.usage.output_tok});
	c.times = r->times;
	c.times.submitted_ns = r->attempt_ns;
	c.times.settled_ns = clock_mono_ns();
	metrics_add(model_metrics(r->model), &c);
	if (code == 0 && c.times.first_ns && c.times.generated_ns)
		latency_add(model_latency(r->model), trace_ms(r->attempt_ns, c.times.first_ns),
			c.usage.output_tok, trace_ms(r->attempt_ns, c.times.generated_ns));
}

void attempt_leave_gate(struct request *r)
{
	if (r->gate)
		gate_leave(r->gate, &r->at_gate);
	r->gate = NULL;
	loop_disarm(r->g->loop, &r->gate_timer);
}

void attempt_leave(struct request *r, const char *status, int code)
{
	if (!r->model)
		return;
	pthread_mutex_lock(&r->session->lock);
	record(r, status, code);
	pthread_mutex_unlock(&r->session->lock);
	attempt_leave_gate(r);
	model_unuse(r->model, &r->user_of_model);
	r->model = model_put(r->model);
	r->outlet = outlet_free(r->outlet);
	r->rendering = rendering_free(r->rendering);
	buf_free(&r->held);
	r->held_is_good = r->cancel_sent = false;
	pthread_mutex_lock(&r->inbox->lock);
	buf_free(&r->inbox->news.text);
	r->inbox->news = (struct request_news){.stored = r->inbox->news.stored};
	pthread_mutex_unlock(&r->inbox->lock);
}

void attempt_stop(struct request *r)
{
	if (!r->with_provider || r->cancel_sent)
		return;
	struct loaded *l = r->user_of_model.loaded;
	l->provider->cancel(l->handle, r->provider_id);
	r->cancel_sent = true;
}

/* ---- GATE ---- */

static void use_model(struct request *r);

/* With the gate's lock held. */
static void admitted(struct gate_user *user)
{
	struct request *r = list_entry(user, struct request, at_gate);
	pthread_mutex_lock(&r->inbox->lock);
	r->inbox->news.admitted = true;
	pthread_mutex_unlock(&r->inbox->lock);
	stages_post(r);
}

static void waited_too_long(struct loop_timer *timer)
{
	struct request *r = list_entry(timer, struct request, gate_timer);
	struct err err;
	if (r->stage == STAGE_GATE && !stages_is_over(r)) {
		err_set(&err, -ETIMEDOUT, "models/%s was busy for longer than its queue_timeout_ms",
			r->model_name);
		failed(r, -ETIMEDOUT, &err);
		stages_post(r);
	}
}

void attempt_begin(struct request *r, struct model *m)
{
	struct err err = {0};
	r->stage = STAGE_GATE;
	r->model = m;
	r->attempt_ns = clock_mono_ns();
	const char *provider = model_provider(m);
	pthread_mutex_lock(&r->session->lock);
	memcpy(r->model_name, model_name(m), strlen(model_name(m)) + 1);
	r->provider = provider;
	r->attempt_usage = (struct trace_usage){0};
	r->times.ready_ns = r->times.rendered_ns = r->times.running_ns = r->times.first_ns = 0;
	r->times.generated_ns = 0;
	r->times.tried_ns = r->n_tried > 1 ? r->attempt_ns : 0;
	pthread_mutex_unlock(&r->session->lock);
	r->at_gate.uid = r->uid;
	r->gate = model_gate(m);
	int e = gate_enter(r->gate, &r->at_gate, &err);
	uint64_t most_ms = model_queue_timeout_ms(m);
	if (e < 0) {
		r->gate = NULL;
		failed(r, -EBUSY, &err);
	} else if (e == 0) {
		use_model(r);
	} else if (most_ms) {
		loop_arm(r->g->loop, &r->gate_timer, r->attempt_ns + most_ms * 1000000);
	}
}

/* ---- MODEL ---- */

static void told(struct model_user *user, int status, const char *sentence)
{
	struct request *r = list_entry(user, struct request, user_of_model);
	pthread_mutex_lock(&r->inbox->lock);
	r->inbox->news.told = true;
	r->inbox->news.told_status = status;
	err_set(&r->inbox->news.told_err, 0, "%s", sentence);
	pthread_mutex_unlock(&r->inbox->lock);
	stages_post(r);
}

static void render(struct request *r);

static void use_model(struct request *r)
{
	struct err err = {0};
	r->stage = STAGE_MODEL;
	loop_disarm(r->g->loop, &r->gate_timer);
	int e = model_use(r->model, &r->user_of_model, &err);
	if (e < 0)
		failed(r, e, &err);
	else if (e == 0)
		render(r);
}

/* ---- RENDER ---- */

static void rendered(struct request *r);

static void render_on_thread(struct loop_work *work)
{
	struct request *r = list_entry(work, struct request, render_work);
	rendering_run(r->rendering, r->user_of_model.loaded);
	pthread_mutex_lock(&r->inbox->lock);
	r->inbox->news.rendered = true;
	pthread_mutex_unlock(&r->inbox->lock);
	stages_post(r);
	request_put(r);
}

static void render(struct request *r)
{
	struct err err;
	const struct loaded *l = r->user_of_model.loaded;
	if (!l->limits.answers) {
		err_set(&err, -ENOTSUP, "models/%s gives no answers: it is for embeddings",
			r->model_name);
		failed(r, -ENOTSUP, &err);
		return;
	}
	pthread_mutex_lock(&r->session->lock);
	/* Settled meanwhile, its turn may be gone: run() is posted and lets go of it. */
	bool over = r->over;
	r->times.ready_ns = clock_mono_ns();
	r->rendering = over ? NULL
			    : rendering_new(&r->session->conversation, r->session->alone, r->prompt,
				      &r->settings);
	pthread_mutex_unlock(&r->session->lock);
	if (over)
		return;
	if (!r->rendering) {
		stages_fail(r, err_set(&err, -ENOMEM, "out of memory"), &err);
		return;
	}
	r->stage = STAGE_RENDER;
	if (rendering_is_long(r->rendering)) {
		r->with_texts = true;
		runner_post(r->g->texts, &request_ref(r)->render_work);
		return;
	}
	rendering_run(r->rendering, r->user_of_model.loaded);
	rendered(r);
}

static void rendered(struct request *r)
{
	struct provider_prompt prompt;
	struct err err;
	int e = rendering_take(r->rendering, &prompt, &err);
	pthread_mutex_lock(&r->session->lock);
	r->times.rendered_ns = clock_mono_ns();
	struct conversation *c = &r->session->conversation;
	size_t head, first;
	if (e == 0 && r->in_turn && rendering_window(r->rendering, c, &head, &first)) {
		c->head = head;
		c->first = first;
	}
	pthread_mutex_unlock(&r->session->lock);
	r->rendering = rendering_free(r->rendering);
	e = e ? e : attempt_open_outlet(r, &err);
	if (e == 0)
		caching_check_guards(r);
	e = e ? e : paying_start(r, prompt.n_tok, prompt.most_tok, &err);
	bool paid = e == 0;
	if (paid)
		e = attempt_ask(r, &prompt, &err);
	free(prompt.data);
	r->with_provider = e == 0;
	if (e == 0)
		r->stage = STAGE_GENERATE;
	else if (e == -EDQUOT || e == -EPERM || (e == -EBUSY && !paid)) {
		refuse(r, e, &err);
	} else {
		failed(r, e == -EAGAIN ? -EBUSY : e, &err);
	}
	if (paid && e < 0)
		request_put(r);
}

void attempt_advance(struct request *r, const struct request_news *box)
{
	bool gone = box->told && box->told_status < 0;
	switch (r->stage) {
	case STAGE_GATE:
		if (box->admitted)
			use_model(r);
		break;
	case STAGE_MODEL:
		if (gone && attempt_may_go_on(box->told_status))
			failed(r, box->told_status, &box->told_err);
		else if (gone)
			stages_fail(r, box->told_status, &box->told_err);
		else if (box->told)
			render(r);
		break;
	case STAGE_RENDER:
		if (gone)
			stages_fail(r, box->told_status, &box->told_err);
		else if (box->rendered)
			rendered(r);
		break;
	case STAGE_GENERATE:
		attempt_text_came(r, box);
		break;
	default:
		break;
	}
}

void attempt_init(struct request *r)
{
	r->user_of_model.told = told;
	r->at_gate.come = admitted;
	r->gate_timer.run = waited_too_long;
	r->render_work.run = render_on_thread;
	list_init(&r->user_of_model.link);
	list_init(&r->at_gate.link);
	list_init(&r->gate_timer.link);
	list_init(&r->render_work.link);
}
