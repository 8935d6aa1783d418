/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model is tried in four steps: the model's gate lets it in; the model is loaded if need be; the
 * conversation is rendered for it; its provider computes, and what comes of it goes through the
 * outlet.
 *
 * Fallback is only before the first byte: a try that failed without any text, by no fault of the
 * request, is handed to routing_failed, which may have another model. One whose text has begun ends
 * the request. The text of a cascade is held until routing_is_good says that it may be shown.
 */
#include "gateway/attempt.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "gateway/caching.h"
#include "gateway/outlet.h"
#include "gateway/paying.h"
#include "gateway/rendering.h"
#include "gateway/routing.h"
#include "gateway/session.h"
#include "gateway/stages.h"

static const uint64_t checkpoint_interval_ns = 1000000000;

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

static bool may_be_retried(int code)
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

static void leave_gate(struct request *r)
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
	leave_gate(r);
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
			    : rendering_new(&r->session->conversation, r->session->ask, r->prompt,
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

/* ---- GENERATE ---- */

/* On the provider's thread. */
static void provider_event(void *arg, const struct provider_event *e)
{
	struct request *r = arg;
	struct request_news *box = &r->inbox->news;
	uint64_t now = clock_mono_ns();
	pthread_mutex_lock(&r->inbox->lock);
	box->usage = e->usage;
	switch (e->kind) {
	case PROVIDER_STARTED:
		box->started = true;
		box->started_ns = now;
		break;
	case PROVIDER_CANDIDATES:
		break;
	case PROVIDER_TEXT:
		if (!box->text_ns)
			box->text_ns = now;
		if (buf_append(&box->text, e->text, e->len) < 0 && !box->end_status)
			box->end_status = err_set(&box->end_err, -ENOMEM, "out of memory");
		break;
	case PROVIDER_END:
		box->ended = true;
		box->ended_ns = now;
		box->finish = e->finish;
		box->retryable = e->retryable;
		box->mean_logprob = e->mean_logprob;
		if (e->status && !box->end_status)
			box->end_status = err_set(&box->end_err, e->status, "%.*s", (int)e->len,
				e->text ? e->text : "");
		break;
	}
	pthread_mutex_unlock(&r->inbox->lock);
	stages_post(r);
	if (e->kind == PROVIDER_END)
		request_put(r);
}

enum { MAX_STOP = 16 };

/* Cuts the setting's lines; buffer holds them, NUL-terminated. */
static size_t stop_strings(const struct settings *s, char **buffer, const char *stop[MAX_STOP])
{
	size_t len, n = 0;
	const char *value = settings_get(s, SETTING_STOP, &len);
	*buffer = strndup(value, len);
	char *next = *buffer, *line;
	while (*buffer && n < MAX_STOP && (line = strsep(&next, "\n")))
		if (*line)
			stop[n++] = line;
	return n;
}

/* Prefixes are shared among the requests of one user, and of no two: an odd multiplier keeps the
 * salts apart. */
static uint64_t salt_of(uid_t uid)
{
	return ((uint64_t)uid + 1) * 0x9E3779B97F4A7C15u;
}

static uint64_t choose_seed(struct request *r, double temperature)
{
	uint64_t seed = 0;
	size_t len;
	settings_get(&r->settings, SETTING_SEED, &len);
	if (len)
		seed = settings_integer(&r->settings, SETTING_SEED);
	else if (temperature > 0 && getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
		seed = clock_real_ns();
	r->seeded = len || temperature > 0;
	return seed;
}

/* As the session wants, but no more than the model can. */
static uint32_t most_tokens(const struct request *r)
{
	uint64_t wanted = settings_integer(&r->settings, SETTING_MAX_TOKENS);
	uint64_t most = model_max_tokens(r->model);
	return (uint32_t)(most && most < wanted ? most : wanted);
}

/* Takes a reference for the provider's events; the caller puts it when this fails. */
static int submit(struct request *r, const struct provider_prompt *prompt, struct err *err)
{
	const struct settings *s = &r->settings;
	const char *stop[MAX_STOP];
	char *buffer = NULL;
	size_t len;
	double temperature = settings_real(s, SETTING_TEMPERATURE);
	struct provider_request q = {
		.prompt = prompt,
		.temperature = temperature,
		.top_p = settings_real(s, SETTING_TOP_P),
		.min_p = settings_real(s, SETTING_MIN_P),
		.repetition_penalty = settings_real(s, SETTING_REPETITION_PENALTY),
		.presence_penalty = settings_real(s, SETTING_PRESENCE_PENALTY),
		.frequency_penalty = settings_real(s, SETTING_FREQUENCY_PENALTY),
		.top_k = (uint32_t)settings_integer(s, SETTING_TOP_K),
		.max_tokens = most_tokens(r),
		.wants_logprob = routing_holds(r),
		.salt = salt_of(r->uid),
		.ignore_eos = *settings_get(s, SETTING_IGNORE_EOS, &len) == '1',
		.json = *settings_get(s, SETTING_FORMAT, &len) == 'j',
		.stop = stop,
		.event = provider_event,
		.arg = request_ref(r),
	};
	q.n_stop = stop_strings(s, &buffer, stop);
	pthread_mutex_lock(&r->session->lock);
	if (!r->seeded)
		r->seed = choose_seed(r, temperature);
	q.seed = r->seed;
	q.seeded = r->seeded;
	pthread_mutex_unlock(&r->session->lock);
	struct loaded *l = r->user_of_model.loaded;
	int e = buffer ? l->provider->submit(l->handle, &q, &r->provider_id, err)
		       : err_set(err, -ENOMEM, "out of memory");
	free(buffer);
	return e;
}

static void outlet_woke(void *arg)
{
	stages_post(arg);
}

static int open_outlet(struct request *r, struct err *err)
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
	e = e ? e : open_outlet(r, &err);
	if (e == 0)
		caching_check_guards(r);
	e = e ? e : paying_start(r, prompt.n_tok, prompt.most_tok, &err);
	bool paid = e == 0;
	if (paid)
		e = submit(r, &prompt, &err);
	free(prompt.data);
	r->with_provider = e == 0;
	if (e == 0) {
		r->stage = STAGE_GENERATE;
		paying_let_lease_wait(r);
	} else if (e == -EDQUOT || e == -EPERM || (e == -EBUSY && !paid)) {
		refuse(r, e, &err);
	} else {
		failed(r, e == -EAGAIN ? -EBUSY : e, &err);
	}
	if (paid && e < 0)
		request_put(r);
}

/* So that a turn under way is not lost with the daemon. With the session's lock held. */
static void checkpoint(struct request *r, uint64_t now)
{
	if (!r->in_turn || now - r->checkpoint_ns < checkpoint_interval_ns)
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
 * is tried.
 */
static bool take_text(struct request *r, const struct request_news *box)
{
	const struct buf *text = &box->text;
	if (!r->held_is_good && routing_holds(r)) {
		int e = text->len ? buf_append(&r->held, text->data, text->len) : 0;
		struct err err;
		if (e < 0)
			outlet_end(r->outlet, err_set(&err, e, "out of memory"), &err);
		if (!box->ended || box->end_status)
			return true;
		if (!routing_is_good(r, r->held.data, r->held.len, box->finish, box->mean_logprob))
			return false;
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
	if (!box->ended || !box->end_status || !may_be_retried(box->end_status))
		return false;
	bool holds = routing_holds(r), unseen = !box->text_ns || holds;
	bool servers_fault = box->retryable || box->end_status == -EBADMSG;
	return unseen && (servers_fault || holds || r->best.len) &&
	       routing_failed(r, box->end_status, &box->end_err);
}

static void text_came(struct request *r, const struct request_news *box)
{
	if (r->serves_best || !take_news(r, box))
		return;
	if (box->ended && box->end_status == -EBADMSG)
		model_broke(r->model, box->end_status, box->end_err.text);
	if (box->ended && box->end_status == -EACCES)
		model_key_refused(r->model);
	if (try_another(r, box) || !take_text(r, box))
		return;
	if (box->ended)
		outlet_produced(r->outlet, box->usage.output_tok);
	if (box->told && box->told_status < 0)
		outlet_end(r->outlet, box->told_status, &box->told_err);
	else if (box->ended && box->end_status)
		outlet_end(r->outlet, box->end_status, &box->end_err);
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
	int e = open_outlet(r, &err);
	if (e < 0) {
		stages_fail(r, e, &err);
		return;
	}
	outlet_push(r->outlet, r->best.data, r->best.len, 0);
	outlet_end(r->outlet, 0, NULL);
	stages_post(r);
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
		if (gone && may_be_retried(box->told_status))
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
		text_came(r, box);
		if (r->stage == STAGE_GENERATE && !stages_is_over(r))
			move_on(r, box->finish);
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
