/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request moves through its stages on the loop's thread:
 *
 *	QUEUED -> JUDGE -> MODEL -> RENDER -> GENERATE -> STORE -> RELEASED
 *
 * Each stage begins something and returns; whoever ends it (the judge, the loader, the thread for
 * texts, the engine, the store) notes it in the inbox and posts the request, and the machine looks
 * again. It lets go when nobody can write into the inbox any more.
 *
 * When the conversation is tokens, the claim is made exact (it may be refused here, after the write
 * that was only an estimate), and then started: its record is on its way to the store while the
 * prompt is computed. Text goes through the outlet, which releases it once its tokens are leased.
 *
 * A turn is stored when it starts, now and then while it is generated (as far as readers got it),
 * and when it is settled; the end of an answer is told once that is written.
 */
#include "gateway/stages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "gateway/judge.h"
#include "gateway/outlet.h"
#include "gateway/rendering.h"
#include "gateway/session.h"
#include "gateway/verdict.h"
#include "gateway/worst.h"

static const uint64_t checkpoint_interval_ns = 1000000000;

void stages_post(struct request *r)
{
	request_ref(r);
	if (!loop_post(r->g->loop, &r->work))
		request_put(r);
}

/* ---- ends ---- */

static void settle(struct request *r, enum request_state state, int code, const char *sentence)
{
	pthread_mutex_lock(&r->session->lock);
	request_settle(r, state, code, sentence, true);
	pthread_mutex_unlock(&r->session->lock);
}

static void fail(struct request *r, int code, const struct err *err)
{
	enum request_state state = code == -ECANCELED ? REQUEST_CANCELLED
				   : code == -EPERM   ? REQUEST_BLOCKED
						      : REQUEST_FAILED;
	settle(r, state, code, err->text);
}

/* Before a model saw it: it is no part of the conversation. */
static void refuse(struct request *r, int code, const struct err *err)
{
	pthread_mutex_lock(&r->session->lock);
	r->refused = true;
	pthread_mutex_unlock(&r->session->lock);
	fail(r, code, err);
}

static bool is_over(struct request *r)
{
	pthread_mutex_lock(&r->session->lock);
	bool over = r->over;
	pthread_mutex_unlock(&r->session->lock);
	return over;
}

static struct guards_subject subject(const struct request *r)
{
	return (struct guards_subject){r->uid, r->user, r->session->id};
}

/* ---- STORE ---- */

static void stored(struct store_waiter *w, int status)
{
	struct request *r = list_entry(w, struct request, after);
	pthread_mutex_lock(&r->inbox->lock);
	r->inbox->news.stored = true;
	r->inbox->news.stored_status = status;
	pthread_mutex_unlock(&r->inbox->lock);
	stages_post(r);
	request_put(r);
}

/* The answer is complete: the turn is settled and stored, and then its end is told. */
static void stage_store(struct request *r, const char *finish)
{
	bool store = false;
	pthread_mutex_lock(&r->session->lock);
	if (!r->over) {
		r->finish = finish;
		r->finishing = true;
		store = (r->in_turn && !r->session->removed) || r->claim;
		r->state = REQUEST_DONE; /* what the turn becomes */
		request_charge(r, "done");
		request_settle_turn(r);
		r->state = store ? REQUEST_GENERATING : REQUEST_DONE;
	}
	pthread_mutex_unlock(&r->session->lock);
	if (store) {
		r->stage = STAGE_STORE;
		r->with_store = true;
		store_after(r->g->store, &request_ref(r)->after);
	} else {
		settle(r, REQUEST_DONE, 0, "");
	}
}

static void store_ended(struct request *r, int status)
{
	struct err err = {0};
	if (status == 0) {
		settle(r, REQUEST_DONE, 0, "");
		return;
	}
	if (store_state(r->g->store, &err) == 0)
		err_set(&err, status, "the answer could not be stored");
	settle(r, REQUEST_FAILED, status, err.text);
}

/* An answer that no model gave. */
static void answer_with(struct request *r, const char *text, size_t len)
{
	if (answer_append(r->answer, text, len) < 0) {
		struct err err;
		fail(r, err_set(&err, -ENOMEM, "out of memory"), &err);
		return;
	}
	stage_store(r, "stop");
}

/* ---- JUDGE ---- */

static void stage_model(struct request *r);

static void unsafe_prompt(
	struct request *r, const struct moderation *m, const struct judge_verdict *v)
{
	static const char *const actions[] = {"block", "replace", "warn"};
	struct guards_subject who = subject(r);
	struct err err = {0};
	enum moderation_action action = m->action;
	guards_tell_judge(
		r->g->guards, &who, GUARD_INPUT, v->categories, "unsafe", actions[action]);
	switch (action) {
	case MODERATION_BLOCK:
		refuse(r,
			err_set(&err, -EPERM, "blocked by the input judge: unsafe%s%s",
				*v->categories ? ", " : "", v->categories),
			&err);
		break;
	case MODERATION_REPLACE:
		answer_with(r, m->replacement->bytes, m->replacement->len);
		break;
	case MODERATION_WARN:
		stage_model(r);
		break;
	}
}

static void no_verdict(struct request *r, const struct moderation *m, const struct judge_verdict *v)
{
	bool open = m->allows_on_error;
	struct guards_subject who = subject(r);
	struct err err = {0};
	guards_tell_judge(
		r->g->guards, &who, GUARD_INPUT, "", "no verdict", open ? "allow" : "block");
	if (open)
		stage_model(r);
	else
		refuse(r,
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
	if (is_over(r))
		stages_post(r);
	else if (v->status < 0)
		no_verdict(r, m, v);
	else if (v->unsafe)
		unsafe_prompt(r, m, v);
	else
		stage_model(r);
	moderation_put(m);
}

void stages_start_claim(struct request *r)
{
	pthread_mutex_lock(&r->session->lock);
	if (!r->over && r->claim) {
		const struct book_request about = {r->id, r->session->id, r->model_name};
		book_claim_start(r->claim, &about, 0);
		r->claim_started = true;
	}
	pthread_mutex_unlock(&r->session->lock);
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
	for (size_t i = 0; e == 0 && !r->session->ask && i < c->n; i++) {
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

static void stage_judge(struct request *r)
{
	struct err err = {0};
	struct judge_verdict v = {0};
	r->stage = STAGE_JUDGE;
	int e = guards_judge(r->g->guards, GUARD_INPUT, &r->moderation, &err);
	if (e < 0) {
		refuse(r, e, &err);
		return;
	}
	if (!r->moderation) {
		stage_model(r);
		return;
	}
	stages_start_claim(r);
	struct text *text = text_to_judge(r);
	v.status = text ? judge_begin(&r->judge, r->g, r->moderation, GUARD_INPUT, text, NULL, 0,
				  prompt_judged, r, &v.err)
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

static void stage_render(struct request *r);

static void stage_model(struct request *r)
{
	struct err err = {0};
	size_t len;
	r->stage = STAGE_MODEL;
	const char *name = settings_get(&r->settings, SETTING_MODEL, &len);
	r->model = gateway_model_find(r->g, name);
	if (!r->model) {
		fail(r, err_set(&err, -EHOSTUNREACH, "there is no model %s", name), &err);
		return;
	}
	pthread_mutex_lock(&r->session->lock);
	memcpy(r->model_name, model_name(r->model), strlen(model_name(r->model)) + 1);
	pthread_mutex_unlock(&r->session->lock);
	int e = model_use(r->model, &r->user_of_model, &err);
	if (e < 0)
		fail(r, e, &err);
	else if (e == 0)
		stage_render(r);
}

/* ---- RENDER ---- */

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

static void stage_generate(struct request *r);

static void stage_render(struct request *r)
{
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
		struct err err;
		fail(r, err_set(&err, -ENOMEM, "out of memory"), &err);
		return;
	}
	r->stage = STAGE_RENDER;
	if (rendering_is_long(r->rendering)) {
		r->with_texts = true;
		runner_post(r->g->texts, &request_ref(r)->render_work);
		return;
	}
	rendering_run(r->rendering, r->user_of_model.loaded);
	stage_generate(r);
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
		.top_k = (uint32_t)settings_integer(s, SETTING_TOP_K),
		.max_tokens = (uint32_t)settings_integer(s, SETTING_MAX_TOKENS),
		.salt = salt_of(r->uid),
		.ignore_eos = *settings_get(s, SETTING_IGNORE_EOS, &len) == '1',
		.json = *settings_get(s, SETTING_FORMAT, &len) == 'j',
		.stop = stop,
		.event = provider_event,
		.arg = request_ref(r),
	};
	q.n_stop = stop_strings(s, &buffer, stop);
	pthread_mutex_lock(&r->session->lock);
	q.seed = r->seed = choose_seed(r, temperature);
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
		.who = subject(r),
		.wake = outlet_woke,
		.arg = r};
	return outlet_new(&r->outlet, &job, err);
}

/* ---- what it costs ---- */

static void leased(struct store_waiter *w, int status)
{
	struct request *r = list_entry(w, struct request, lease);
	pthread_mutex_lock(&r->inbox->lock);
	r->inbox->news.leased = true;
	r->inbox->news.leased_status = status;
	pthread_mutex_unlock(&r->inbox->lock);
	stages_post(r);
	request_put(r);
}

static void wait_for_lease(struct request *r, uint64_t tok)
{
	r->lease_tok = tok;
	r->with_lease = true;
	store_after(r->g->store, &request_ref(r)->lease);
}

/* The claim becomes what the request may cost at most, now that its prompt is tokens, and is
 * started. 0; -EDQUOT, -EBUSY: a late refusal. */
static int start_claim(struct request *r, size_t prompt_tok, struct err *err)
{
	const struct provider_limits *limits = &r->user_of_model.loaded->limits;
	const struct book_request about = {r->id, r->session->id, r->model_name};
	struct book_worst worst;
	uint64_t room = limits->context_tok > prompt_tok ? limits->context_tok - prompt_tok : 0;
	int e = 0;
	uint64_t lease_tok = 0;
	worst_exact(&worst, &r->settings, r->model, prompt_tok, room);
	pthread_mutex_lock(&r->session->lock);
	bool over = r->over;
	if (!over && !r->claim)
		e = err_set(err, -EIO, "the request has no claim on an account");
	if (!over && e == 0)
		e = book_claim_resize(r->claim, &worst, err);
	if (!over && e == 0) {
		book_claim_start(r->claim, &about, prompt_tok);
		lease_tok = book_claim_leased(r->claim);
		r->claim_started = true;
	}
	pthread_mutex_unlock(&r->session->lock);
	if (!over && e == 0)
		wait_for_lease(r, lease_tok);
	return e == -EAGAIN ? -EBUSY : e;
}

/* Has what was produced written down, where it is not yet. Not earlier: a crash charges what is
 * leased, and the text waits for the store no longer than one of its writes takes. */
static void lease_more(struct request *r)
{
	if (r->with_lease)
		return;
	bool queued = false;
	uint64_t need = 0;
	pthread_mutex_lock(&r->session->lock);
	if (r->claim && r->claim_started && r->usage.output_tok > r->lease_tok) {
		queued = !book_claim_lease(r->claim, r->usage.output_tok);
		need = book_claim_leased(r->claim);
	}
	pthread_mutex_unlock(&r->session->lock);
	if (queued)
		wait_for_lease(r, need);
	else
		outlet_cover(r->outlet, need);
}

static void take_lease(struct request *r, const struct request_news *box)
{
	struct err err = {0};
	r->with_lease = false;
	if (!r->outlet)
		return;
	if (box->leased_status == 0) {
		outlet_cover(r->outlet, r->lease_tok);
		return;
	}
	if (store_state(r->g->store, &err) == 0)
		err_set(&err, 0, "what the answer costs could not be stored");
	outlet_uncover(r->outlet, box->leased_status, &err);
}

/* The rendering is there. */
static void stage_generate(struct request *r)
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
	e = e ? e : start_claim(r, prompt.n_tok, &err);
	bool asked = e == 0;
	if (asked)
		e = submit(r, &prompt, &err);
	free(prompt.ids);
	r->with_provider = e == 0;
	if (e == 0)
		r->stage = STAGE_GENERATE;
	else if (e == -EDQUOT || e == -EBUSY || e == -EPERM)
		refuse(r, e, &err);
	else
		fail(r, e == -EAGAIN ? -EBUSY : e, &err);
	if (asked && e < 0)
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

static void take_times(struct request *r, const struct request_news *box)
{
	r->usage = box->usage;
	r->times.running_ns = box->started_ns;
	r->times.first_ns = box->text_ns;
	if (box->ended)
		r->times.generated_ns = box->ended_ns;
}

/* What the provider has given, into the outlet. */
static void take_text(struct request *r, const struct request_news *box)
{
	struct session *s = r->session;
	pthread_mutex_lock(&s->lock);
	bool over = r->over;
	if (!over)
		take_times(r, box);
	if (!over && r->state == REQUEST_QUEUED && box->started) {
		r->state = REQUEST_GENERATING;
		session_event(s, "generating", r);
	}
	if (!over && box->text.len)
		checkpoint(r, clock_mono_ns());
	pthread_mutex_unlock(&s->lock);
	if (over)
		return;
	if (box->text.len)
		outlet_push(r->outlet, box->text.data, box->text.len, box->usage.output_tok);
	if (box->told && box->told_status < 0)
		outlet_end(r->outlet, box->told_status, &box->told_err);
	else if (box->ended && box->end_status)
		outlet_end(r->outlet, box->end_status, &box->end_err);
	else if (box->ended)
		outlet_end(r->outlet, 0, NULL);
	if (box->ended && box->end_status == -EBADMSG)
		model_broke(r->model, box->end_status, box->end_err.text);
}

/* Releases what may be released, and ends when that was all. */
static void move_on(struct request *r, const char *finish)
{
	int code;
	struct err err;
	lease_more(r);
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
	if (code < 0)
		fail(r, code, &err);
	else
		stage_store(r, finish && *finish ? finish : "stop");
}

/* ---- the machine ---- */

/* What the inbox had when the machine looked. */
static void take_inbox(struct request *r, struct request_news *out)
{
	struct request_inbox *box = r->inbox;
	pthread_mutex_lock(&box->lock);
	*out = box->news;
	box->news.text = (struct buf){0};
	box->news.told = box->news.leased = false;
	pthread_mutex_unlock(&box->lock);
	r->with_texts = r->with_texts && !out->rendered;
	r->with_provider = r->with_provider && !out->ended;
	r->with_store = r->with_store && !out->stored;
	if (out->leased)
		take_lease(r, out);
}

static void advance(struct request *r, struct request_news *box)
{
	switch (r->stage) {
	case STAGE_MODEL:
		if (box->told && box->told_status == 0)
			stage_render(r);
		else if (box->told)
			fail(r, box->told_status, &box->told_err);
		break;
	case STAGE_RENDER:
		if (box->told && box->told_status < 0)
			fail(r, box->told_status, &box->told_err);
		else if (box->rendered)
			stage_generate(r);
		break;
	case STAGE_GENERATE:
		take_text(r, box);
		if (!is_over(r))
			move_on(r, box->finish);
		break;
	case STAGE_STORE:
		if (box->stored)
			store_ended(r, box->stored_status);
		break;
	case STAGE_QUEUED:
	case STAGE_JUDGE:
	case STAGE_RELEASED:
		break;
	}
}

static void record(struct request *r)
{
	struct trace_record c = {
		.id = r->id,
		.real_ns = clock_real_ns(),
		.uid = r->uid,
		.status = request_state_word(r),
		.finish = r->finish,
		.code = r->code,
		.times = r->times,
		.usage = r->usage,
		.cost = r->cost,
	};
	memcpy(c.session, r->session->id, sizeof c.session);
	memcpy(c.model, r->model_name, sizeof c.model);
	trace_add(r->g->trace, &c);
	metrics_add(r->g->metrics, &c);
	if (r->model)
		metrics_add(model_metrics(r->model), &c);
}

/* Lets go of everything but what views show. */
static void release(struct request *r)
{
	struct session *s = r->session;
	struct gateway *g = gateway_ref(r->g);
	r->stage = STAGE_RELEASED;
	r->judge = judge_cancel(r->judge);
	r->moderation = moderation_put(r->moderation);
	r->outlet = outlet_free(r->outlet);
	if (r->model)
		model_unuse(r->model, &r->user_of_model);
	r->rendering = rendering_free(r->rendering);
	pthread_mutex_lock(&s->lock);
	if (!s->verdict)
		record(r);
	r->inbox = request_inbox_free(r->inbox);
	settings_clear(&r->settings);
	r->prompt = text_put(r->prompt);
	r->session = NULL;
	pthread_mutex_unlock(&s->lock);
	r->model = model_put(r->model);
	session_put(s);
	gateway_idle(g);
	gateway_put(g);
}

/* It is over, or its text has ended before the model: whoever works for it may stop. */
static void stop_others(struct request *r)
{
	int code;
	struct err err;
	bool over = is_over(r);
	bool ended = over || (r->outlet && outlet_ended(r->outlet, &code, &err));
	if (over) {
		r->judge = judge_cancel(r->judge);
		r->outlet = outlet_free(r->outlet);
	}
	if (ended && r->with_provider && !r->cancel_sent) {
		struct loaded *l = r->user_of_model.loaded;
		l->provider->cancel(l->handle, r->provider_id);
		r->cancel_sent = true;
	}
	if (over && !r->with_texts && !r->with_provider && !r->with_store && !r->with_lease)
		release(r);
}

static void run(struct loop_work *work)
{
	struct request *r = list_entry(work, struct request, work);
	if (r->stage != STAGE_RELEASED) {
		struct request_news box;
		take_inbox(r, &box);
		if (!is_over(r))
			advance(r, &box);
		stop_others(r);
		buf_free(&box.text);
	}
	request_put(r);
}

void stages_init(struct request *r)
{
	r->user_of_model.told = told;
	r->after.done = stored;
	r->lease.done = leased;
	r->work.run = run;
	r->render_work.run = render_on_thread;
	list_init(&r->user_of_model.link);
	list_init(&r->work.link);
	list_init(&r->render_work.link);
}

void stages_start(struct request *r)
{
	pthread_mutex_lock(&r->session->lock);
	bool over = r->over;
	r->times.started_ns = clock_mono_ns();
	r->checkpoint_ns = r->times.started_ns;
	pthread_mutex_unlock(&r->session->lock);
	if (over)
		return;
	if (r->session->verdict)
		verdict_begin(r);
	else
		stage_judge(r);
}
