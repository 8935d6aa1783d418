/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes of a try: its numbers, and its text on the way to the outlet. That of a cascade is
 * held until cascade.h says that it may be shown; what broke off before anything of it was
 * seen is handed to routing_failed, and else it ends the request with as much as there is.
 *
 * A turn under way is stored once a second, as far as it has come.
 */
#include "gateway/attempt_parts.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/cascade.h"
#include "gateway/outlet.h"
#include "gateway/paying.h"
#include "gateway/routing.h"
#include "gateway/session.h"
#include "gateway/stages.h"

static const uint64_t checkpoint_interval_ns = 1000000000;

static void outlet_woke(void *arg)
{
	stages_post(arg);
}

int attempt_open_outlet(struct request *r, struct err *err)
{
	const struct outlet_job job = {.g = r->g,
		.answer = r->answer,
		.prompt = r->prompt,
		.who = stages_subject(r),
		.wake = outlet_woke,
		.payer = &paying_judges,
		.arg = r};
	return outlet_new(&r->outlet, &job, err);
}

/* So that a turn under way is not lost with the daemon. With the session's lock held. */
static void checkpoint(struct request *r, uint64_t now)
{
	if (!r->in_turn || r->session->unlisted || now - r->checkpoint_ns < checkpoint_interval_ns)
		return;
	r->checkpoint_ns = now;
	struct turn turn = *conversation_last(&r->session->conversation);
	turn.assistant = answer_got(r->answer);
	session_store_turn(r->session, &turn);
	text_put(turn.assistant);
}

static void take_usage(struct request *r, const struct request_news *box)
{
	r->attempt_usage = box->usage;
	r->usage = (struct trace_usage){
		.prompt_tok = r->usage_before.prompt_tok + box->usage.prompt_tok,
		.cached_tok = r->usage_before.cached_tok + box->usage.cached_tok,
		.output_tok = r->usage_before.output_tok + box->usage.output_tok,
	};
	r->times.running_ns = box->started_ns;
	r->times.first_ns = box->text_ns;
	if (box->ended)
		r->times.generated_ns = box->ended_ns;
}

/* False: it is over. */
static bool take_news(struct request *r, const struct request_news *box)
{
	struct session *s = r->session;
	pthread_mutex_lock(&s->lock);
	bool over = r->over;
	if (!over)
		take_usage(r, box);
	if (!over && r->state == REQUEST_QUEUED && box->started) {
		r->state = REQUEST_GENERATING;
		session_event(s, "generating", r);
	}
	if (!over && box->text.len)
		checkpoint(r, clock_mono_ns());
	pthread_mutex_unlock(&s->lock);
	return !over;
}

/* Text goes to the outlet; a cascade's, when it is all there and good enough. False: another model
 * is tried, or a judge is asked.
 */
static bool take_text(struct request *r, const struct request_news *box)
{
	const struct buf *text = &box->text;
	if (!r->held_is_good && cascade_holds(r)) {
		int e = text->len ? buf_append(&r->held, text->data, text->len) : 0;
		struct err err;
		if (e < 0)
			outlet_end(r->outlet, err_set(&err, e, "out of memory"), &err);
		if (!box->ended || box->end_status)
			return true;
		switch (cascade_weigh(r, box->finish, box->mean_logprob)) {
		case CASCADE_GOOD:
			break;
		case CASCADE_WAITS:
			attempt_leave_gate(r); /* nothing is computed there any more */
			return false;
		case CASCADE_NEXT:
			return false;
		}
		r->held_is_good = true;
		text = &r->held;
	}
	if (text->len)
		outlet_push(r->outlet, text->data, text->len, box->usage.output_tok);
	return true;
}

/* It broke off. True: nothing of it was shown, and another model, or what another one gave, takes
 * its place. */
static bool try_another(struct request *r, const struct request_news *box)
{
	if (!box->ended || !box->end_status || !attempt_may_go_on(box->end_status))
		return false;
	bool holds = cascade_holds(r), unseen = !box->text_ns || holds;
	bool servers_fault =
		box->retryable || box->end_status == -EBADMSG || box->end_status == -EIO;
	return unseen && (servers_fault || holds || r->best.len) &&
	       routing_failed(r, box->end_status, &box->end_err);
}

static void news_came(struct request *r, const struct request_news *box)
{
	const struct err *said = &box->end_err;
	struct err why;
	if (r->serves_best || !take_news(r, box))
		return;
	if (box->ended && box->end_status == -EBADMSG)
		model_broke(r->model, box->end_status, box->end_err.text);
	if (box->ended && box->end_status == -EIO) {
		why = box->end_err;
		model_look_at_file(r->model, &why);
		said = &why;
	}
	if (box->ended && box->end_status == -EACCES)
		model_key_refused(r->model);
	if (try_another(r, box) || !take_text(r, box))
		return;
	if (box->ended)
		outlet_produced(r->outlet, box->usage.output_tok);
	if (box->told && box->told_status < 0)
		outlet_end(r->outlet, box->told_status, &box->told_err);
	else if (box->ended && box->end_status)
		outlet_end(r->outlet, box->end_status, said);
	else if (box->ended)
		outlet_end(r->outlet, 0, NULL);
}

/* Releases what may be released, and ends when that was all. */
static void move_on(struct request *r, const char *finish)
{
	int code;
	struct err err;
	paying_lease(r);
	int more = outlet_step(r->outlet);
	bool ended;
	bool any = answer_size(r->answer, &ended) > 0;
	pthread_mutex_lock(&r->session->lock);
	if (any && !r->times.released_ns)
		r->times.released_ns = clock_mono_ns();
	session_poke(r->session, SESSION_CHAT_GREW);
	pthread_mutex_unlock(&r->session->lock);
	if (more)
		return;
	outlet_ended(r->outlet, &code, &err);
	if (code == 0 && !r->serves_best)
		routing_answered(r);
	if (code < 0)
		stages_fail(r, code, &err);
	else
		stages_store(r, finish && *finish ? finish : "stop");
}

/* What ended it is in the inbox still. */
void attempt_show(struct request *r)
{
	r->stage = STAGE_GENERATE;
	r->held_is_good = true;
	outlet_push(r->outlet, r->held.data, r->held.len, r->attempt_usage.output_tok);
	stages_post(r);
}

void attempt_serve_best(struct request *r)
{
	struct err err;
	pthread_mutex_lock(&r->session->lock);
	memcpy(r->model_name, r->best_model, sizeof r->model_name);
	r->provider = r->best_provider;
	pthread_mutex_unlock(&r->session->lock);
	r->stage = STAGE_GENERATE;
	r->serves_best = r->is_makeshift = true;
	r->outlet = outlet_free(r->outlet);
	int e = attempt_open_outlet(r, &err);
	if (e < 0) {
		stages_fail(r, e, &err);
		return;
	}
	outlet_push(r->outlet, r->best.data, r->best.len, 0);
	outlet_end(r->outlet, 0, NULL);
	stages_post(r);
}

void attempt_text_came(struct request *r, const struct request_news *box)
{
	news_came(r, box);
	if (r->stage == STAGE_GENERATE && !stages_is_over(r))
		move_on(r, box->finish);
}
