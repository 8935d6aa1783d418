/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request moves through its stages on the loop's thread:
 *
 *	QUEUED -> MODEL -> RENDER -> GENERATE -> STORE -> RELEASED
 *
 * Each stage begins something and returns; whoever ends it (the loader, the thread for texts, the
 * engine, the store) notes it in the inbox and posts the request, and the machine looks again.
 *
 * Being over is apart from the stages: a cancel at a shell makes a request over at once, from any
 * thread, with its answer ended and its turn settled, while the machine may still have to wait for
 * the engine's last word before it can let go. So a verb is in force when its write returns, and
 * nothing is freed early.
 *
 * A turn is stored when it starts, now and then while it is generated (as far as readers got it),
 * and when it is settled; the end of an answer is told once that is written.
 */
#include "gateway/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "gateway/session.h"
#include "gateway/truncate.h"

static const uint64_t checkpoint_interval_ns = 1000000000;
static const size_t render_inline_bytes = 4096; /* more is rendered off the loop: about 0.4 ms */

/* What is rendered: the texts of the conversation as it was when the turn began. */
struct request_job {
	struct truncate_job plan;
	struct truncate_turn *turns; /* references */
	struct text *system;
	size_t bytes;
};

static void run(struct loop_work *work);
static void render_on_thread(struct loop_work *work);
static void told(struct model_user *user, int status, const char *sentence);
static void stored(struct store_waiter *w, int status);

/* ---- the object ---- */

static struct request_inbox *inbox_new(void)
{
	struct request_inbox *box = calloc(1, sizeof *box);
	if (box)
		pthread_mutex_init(&box->lock, NULL);
	return box;
}

static struct request_inbox *inbox_free(struct request_inbox *box)
{
	if (!box)
		return NULL;
	buf_free(&box->news.text);
	pthread_mutex_destroy(&box->lock);
	free(box);
	return NULL;
}

/* Sentences are cut at a length and may name files: only what is UTF-8 becomes part of JSON. */
static struct text *sentence_text(const char *sentence)
{
	return text_new(sentence, utf8_valid_prefix(sentence, strlen(sentence)));
}

static struct request *make(struct gateway *g, uid_t uid)
{
	struct request *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	atomic_init(&r->refs, 1);
	r->g = g;
	r->uid = uid;
	r->id = atomic_fetch_add(&g->next_request, 1) + 1;
	r->finish = "";
	r->user.told = told;
	r->after.done = stored;
	r->work.run = run;
	r->render_work.run = render_on_thread;
	list_init(&r->link);
	list_init(&r->user.link);
	list_init(&r->work.link);
	list_init(&r->render_work.link);
	return r;
}

struct request *request_new(
	struct gateway *g, struct text *prompt, const struct settings *settings, uid_t uid)
{
	struct request *r = make(g, uid);
	if (!r)
		return NULL;
	r->prompt = text_ref(prompt);
	settings_copy(&r->settings, settings);
	r->inbox = inbox_new();
	r->answer = answer_new(g);
	r->times.submitted_ns = clock_mono_ns();
	return r->inbox && r->answer ? r : request_put(r);
}

struct request *request_over(struct gateway *g, enum request_state state, int code,
	const char *sentence, struct text *answer, uid_t uid)
{
	struct request *r = make(g, uid);
	if (!r)
		return NULL;
	r->state = state;
	r->over = true;
	r->stage = STAGE_RELEASED;
	r->code = code;
	r->error = sentence ? sentence_text(sentence) : NULL;
	r->answer = answer_of(g, answer, code);
	return r->answer ? r : request_put(r);
}

struct request *request_ref(struct request *r)
{
	atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
	return r;
}

struct request *request_put(struct request *r)
{
	if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	inbox_free(r->inbox);
	text_put(r->prompt);
	text_put(r->error);
	settings_clear(&r->settings);
	answer_put(r->answer);
	free(r);
	return NULL;
}

const char *request_state_word(const struct request *r)
{
	static const char *const words[] = {
		[REQUEST_QUEUED] = "queued",
		[REQUEST_GENERATING] = "generating",
		[REQUEST_DONE] = "done",
		[REQUEST_FAILED] = "failed",
		[REQUEST_CANCELLED] = "cancelled",
	};
	return words[r->state];
}

void request_post(struct request *r)
{
	request_ref(r);
	if (!loop_post(r->g->loop, &r->work))
		request_put(r);
}

/* ---- the end ---- */

/* The turn gets what came of it. With the session's lock held. */
static void settle_turn(struct request *r)
{
	struct session *s = r->session;
	/* Cancelled before its turn: it is an unanswered one, so that it can be retried. */
	if (r->state == REQUEST_CANCELLED && !r->in_turn && !r->finishing && !s->ask)
		session_begin_turn(s, r);
	if (!r->in_turn)
		return;
	r->in_turn = false;
	bool cut = r->state == REQUEST_CANCELLED;
	struct text *assistant = answer_seal(r->answer, cut);
	enum turn_state state = r->state == REQUEST_CANCELLED ? TURN_CANCELLED
				: r->state == REQUEST_FAILED  ? TURN_FAILED
							      : TURN_DONE;
	conversation_settle(&s->conversation, state, assistant, r->error);
	text_put(assistant);
	struct trace_times times = r->times;
	times.settled_ns = clock_mono_ns(); /* as good as known: it is being stored */
	trace_pack(&conversation_last(&s->conversation)->trace, &times, &r->usage, r->finish);
	if (r->code == -EMSGSIZE)
		session_drop_turn(s); /* refused, not unanswered */
	else
		session_store_turn(s, conversation_last(&s->conversation));
}

/* With the session's lock held. */
static void leave_session(struct request *r)
{
	struct session *s = r->session;
	bool was_running = s->running == r;
	if (was_running)
		s->running = NULL;
	if (!list_empty(&r->link)) {
		list_remove(&r->link);
		s->n_queued--;
		request_put(r); /* the queue's */
	}
	s->sums.requests++;
	s->sums.prompt_tok += r->usage.prompt_tok;
	s->sums.cached_tok += r->usage.cached_tok;
	s->sums.output_tok += r->usage.output_tok;
	session_touch(s);
	session_event(s, request_state_word(r), r);
	session_poke(s, SESSION_CHAT_CHANGED);
	if (was_running)
		request_put(r);
}

void request_settle(struct request *r, enum request_state state, int code, const char *sentence,
	bool even_stored)
{
	if (r->over || (r->finishing && !even_stored))
		return;
	request_ref(r);
	r->over = true;
	r->state = state;
	r->code = code;
	text_put(r->error);
	r->error = code ? sentence_text(sentence) : NULL;
	r->times.settled_ns = clock_mono_ns();
	settle_turn(r);
	leave_session(r);
	answer_end(r->answer, code, state == REQUEST_CANCELLED);
	request_post(r);
	request_put(r);
}

static void settle(struct request *r, enum request_state state, int code, const char *sentence)
{
	pthread_mutex_lock(&r->session->lock);
	request_settle(r, state, code, sentence, true);
	pthread_mutex_unlock(&r->session->lock);
}

static void fail(struct request *r, int code, const struct err *err)
{
	settle(r, code == -ECANCELED ? REQUEST_CANCELLED : REQUEST_FAILED, code, err->text);
}

/* ---- MODEL ---- */

static void told(struct model_user *user, int status, const char *sentence)
{
	struct request *r = list_entry(user, struct request, user);
	pthread_mutex_lock(&r->inbox->lock);
	r->inbox->news.told = true;
	r->inbox->news.told_status = status;
	err_set(&r->inbox->news.told_err, 0, "%s", sentence);
	pthread_mutex_unlock(&r->inbox->lock);
	request_post(r);
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
	int e = model_use(r->model, &r->user, &err);
	if (e < 0)
		fail(r, e, &err);
	else if (e == 0)
		stage_render(r);
}

/* ---- RENDER ---- */

static struct request_job *job_free(struct request_job *job)
{
	if (!job)
		return NULL;
	for (size_t i = 0; job->turns && i < job->plan.n; i++) {
		text_put(job->turns[i].user);
		text_put(job->turns[i].assistant);
	}
	text_put(job->system);
	free(job->turns);
	free(job);
	return NULL;
}

static enum truncate_mode truncate_mode(const struct settings *settings)
{
	size_t len;
	const char *word = settings_get(settings, SETTING_TRUNCATE, &len);
	return *word == 'm' ? TRUNCATE_MIDDLE : len == 3 ? TRUNCATE_OFF : TRUNCATE_OLDEST_TURNS;
}

/* Shares the texts of the conversation. With the session's lock held. */
static struct request_job *job_new(struct request *r)
{
	const struct conversation *c = &r->session->conversation;
	struct request_job *job = calloc(1, sizeof *job);
	size_t n = r->session->ask ? 1 : c->n;
	if (job)
		job->turns = calloc(n, sizeof *job->turns);
	if (!job || !job->turns)
		return job_free(job);
	job->plan.n = n;
	for (size_t i = 0; i + 1 < n; i++) {
		job->turns[i].user = text_ref(c->turns[i].user);
		job->turns[i].assistant = text_ref(c->turns[i].assistant);
		job->bytes += c->turns[i].user->len;
		job->bytes += c->turns[i].assistant ? c->turns[i].assistant->len : 0;
	}
	job->turns[n - 1].user = text_ref(r->prompt);
	job->system = text_ref(r->settings.value[SETTING_SYSTEM]);
	job->bytes += r->prompt->len + (job->system ? job->system->len : 0);
	job->plan.system = job->system && job->system->len ? job->system : NULL;
	job->plan.turns = job->turns;
	job->plan.mode = truncate_mode(&r->settings);
	job->plan.max_tokens = settings_integer(&r->settings, SETTING_MAX_TOKENS);
	job->plan.head = c->head;
	job->plan.first = c->first;
	return job;
}

static void render(struct request *r)
{
	const struct loaded *l = r->user.loaded;
	r->render_status =
		truncate_render(l->provider, l->handle, &r->job->plan, &r->tokens, &r->render_err);
}

static void render_on_thread(struct loop_work *work)
{
	struct request *r = list_entry(work, struct request, render_work);
	render(r);
	pthread_mutex_lock(&r->inbox->lock);
	r->inbox->news.rendered = true;
	pthread_mutex_unlock(&r->inbox->lock);
	request_post(r);
	request_put(r);
}

static void stage_generate(struct request *r);

static void stage_render(struct request *r)
{
	pthread_mutex_lock(&r->session->lock);
	/* Settled meanwhile, its turn may be gone: run() is posted and lets go of it. */
	bool over = r->over;
	r->times.ready_ns = clock_mono_ns();
	r->job = over ? NULL : job_new(r);
	pthread_mutex_unlock(&r->session->lock);
	if (over)
		return;
	if (!r->job) {
		struct err err;
		fail(r, err_set(&err, -ENOMEM, "out of memory"), &err);
		return;
	}
	r->stage = STAGE_RENDER;
	if (r->job->bytes > render_inline_bytes) {
		runner_post(r->g->texts, &request_ref(r)->render_work);
		return;
	}
	render(r);
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
		break; /* only a judge asks for them */
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
	request_post(r);
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
static int submit(struct request *r, struct err *err)
{
	const struct settings *s = &r->settings;
	const char *stop[MAX_STOP];
	char *buffer = NULL;
	size_t len;
	double temperature = settings_real(s, SETTING_TEMPERATURE);
	struct provider_request q = {
		.prompt = &r->tokens,
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
	struct loaded *l = r->user.loaded;
	int e = buffer ? l->provider->submit(l->handle, &q, &r->provider_id, err)
		       : err_set(err, -ENOMEM, "out of memory");
	free(buffer);
	return e;
}

/* The rendering is there. */
static void stage_generate(struct request *r)
{
	struct err err = r->render_err;
	int e = r->render_status;
	pthread_mutex_lock(&r->session->lock);
	r->times.rendered_ns = clock_mono_ns();
	struct conversation *c = &r->session->conversation;
	if (e == 0 && r->in_turn && r->job->plan.n == c->n) {
		c->head = r->job->plan.head;
		c->first = r->job->plan.first;
	}
	pthread_mutex_unlock(&r->session->lock);
	r->job = job_free(r->job);
	bool asked = e == 0;
	if (asked)
		e = submit(r, &err);
	free(r->tokens.ids);
	r->tokens = (struct provider_prompt){0};
	if (e < 0)
		fail(r, e == -EAGAIN ? -EBUSY : e, &err);
	else
		r->stage = STAGE_GENERATE;
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

/* ---- STORE ---- */

static void stored(struct store_waiter *w, int status)
{
	struct request *r = list_entry(w, struct request, after);
	pthread_mutex_lock(&r->inbox->lock);
	r->inbox->news.stored = true;
	r->inbox->news.stored_status = status;
	pthread_mutex_unlock(&r->inbox->lock);
	request_post(r);
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
		store = r->in_turn && !r->session->removed;
		r->state = REQUEST_DONE; /* what the turn becomes */
		settle_turn(r);
		r->state = store ? REQUEST_GENERATING : REQUEST_DONE;
	}
	pthread_mutex_unlock(&r->session->lock);
	if (store) {
		r->stage = STAGE_STORE;
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

/* ---- the machine ---- */

/* What the inbox had when the machine looked. */
static void take_inbox(struct request *r, struct request_news *out)
{
	struct request_inbox *box = r->inbox;
	pthread_mutex_lock(&box->lock);
	*out = box->news;
	box->news.text = (struct buf){0};
	box->news.told = false;
	pthread_mutex_unlock(&box->lock);
}

static void take_text(struct request *r, const struct request_news *box)
{
	struct session *s = r->session;
	pthread_mutex_lock(&s->lock);
	take_times(r, box);
	if (!r->over && r->state == REQUEST_QUEUED && box->started) {
		r->state = REQUEST_GENERATING;
		session_event(s, "generating", r);
	}
	if (!r->over && box->text.len)
		checkpoint(r, clock_mono_ns());
	pthread_mutex_unlock(&s->lock);
	if (!box->text.len)
		return;
	int e = answer_append(r->answer, box->text.data, box->text.len);
	if (e < 0) {
		struct err err;
		fail(r, err_set(&err, e, "the answer is too long to be kept"), &err);
		return;
	}
	pthread_mutex_lock(&s->lock);
	session_poke(s, SESSION_CHAT_GREW);
	pthread_mutex_unlock(&s->lock);
}

static bool is_over(struct request *r)
{
	pthread_mutex_lock(&r->session->lock);
	bool over = r->over;
	pthread_mutex_unlock(&r->session->lock);
	return over;
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
		if (box->told && box->told_status < 0) {
			fail(r, box->told_status, &box->told_err);
		} else if (box->ended && box->end_status) {
			if (box->end_status == -EBADMSG)
				model_broke(r->model, box->end_status, box->end_err.text);
			fail(r, box->end_status, &box->end_err);
		} else if (box->ended) {
			stage_store(r, box->finish);
		}
		break;
	case STAGE_STORE:
		if (box->stored)
			store_ended(r, box->stored_status);
		break;
	case STAGE_QUEUED:
	case STAGE_RELEASED:
		break;
	}
}

/* Whether somebody may still write into the request. */
static bool outstanding(const struct request *r, const struct request_news *box)
{
	switch (r->stage) {
	case STAGE_RENDER:
		return r->job && r->job->bytes > render_inline_bytes && !box->rendered;
	case STAGE_GENERATE:
		return !box->ended;
	case STAGE_STORE:
		return !box->stored;
	default:
		return false;
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
	if (r->model)
		model_unuse(r->model, &r->user);
	r->job = job_free(r->job);
	free(r->tokens.ids);
	r->tokens = (struct provider_prompt){0};
	pthread_mutex_lock(&s->lock);
	record(r);
	r->inbox = inbox_free(r->inbox);
	settings_clear(&r->settings);
	r->prompt = text_put(r->prompt);
	r->session = NULL;
	pthread_mutex_unlock(&s->lock);
	r->model = model_put(r->model);
	session_put(s);
	gateway_idle(g);
	gateway_put(g);
}

static void run(struct loop_work *work)
{
	struct request *r = list_entry(work, struct request, work);
	if (r->stage != STAGE_RELEASED) {
		struct request_news box;
		take_inbox(r, &box);
		if (!is_over(r))
			advance(r, &box);
		else if (r->stage == STAGE_GENERATE)
			take_text(r, &box);
		if (is_over(r)) {
			if (outstanding(r, &box)) {
				if (r->stage == STAGE_GENERATE && !r->cancel_sent)
					r->user.loaded->provider->cancel(
						r->user.loaded->handle, r->provider_id);
				r->cancel_sent = true;
			} else {
				release(r);
			}
		}
		buf_free(&box.text);
	}
	request_put(r);
}

void request_start(struct request *r)
{
	pthread_mutex_lock(&r->session->lock);
	bool over = r->over;
	r->times.started_ns = clock_mono_ns();
	r->checkpoint_ns = r->times.started_ns;
	pthread_mutex_unlock(&r->session->lock);
	if (!over)
		stage_model(r);
}
