/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One text, one vector:
 *
 *	GATE -> MODEL -> (HANDING, a long text) -> ASKED -> let go
 *
 * It waits at its model's gate and for its model as a request does, hands the text to the provider
 * and tells what came of it on the loop, once. When it is not wanted any more (cancelled, late, its
 * model is being unloaded) the provider is told to stop. Its place at the gate and the model are
 * held until the provider has had its word: so those who ask and go do not get past the gate.
 *
 * A long text is handed over on the thread for texts, because that takes as long as the text. What
 * is certainly behind the model's context is not handed over at all.
 *
 * Lock: embedding->lock has the place of a request's inbox; nothing is called with it held.
 */
#include "gateway/embedding.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "gateway/model.h"

enum { LONG_TEXT = 64 << 10, CONTROL_TOK = 2 /* that go around a text */ };

enum stage { AT_GATE, AT_MODEL, HANDING, ASKED };

struct news { /* what others say; the embedding's lock */
	bool admitted, told, handed,
		ended; /* by the gate; the model; the text's thread; the provider */
	int told_status, handed_status, status;
	struct err told_err, handed_err, err;
};

struct embedding {
	atomic_uint refs;
	struct gateway *g; /* a reference */
	struct text *text;
	size_t len; /* of it, that the model can take */

	pthread_mutex_t lock; /* guards down to `usage` */
	struct news news;
	bool given_up;
	uint64_t id;   /* the provider's */
	float *vector; /* [dim] */
	size_t dim;
	struct trace_usage usage;

	/* The loop's. */
	struct embedding_ask how; /* without its texts */
	bool wanted;              /* done is still to come */
	bool over, released, cancel_sent;
	enum stage stage;
	struct model *model;
	struct model_user user;
	struct gate_user at_gate;
	struct loop_timer timer, gate_timer;
	struct loop_work work, hand_work;
};

static struct embedding *embedding_ref(struct embedding *e)
{
	atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
	return e;
}

static struct embedding *embedding_put(struct embedding *e)
{
	if (!e || atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	text_put(e->text);
	free(e->vector);
	pthread_mutex_destroy(&e->lock);
	gateway_put(e->g);
	free(e);
	return NULL;
}

/* Lets the loop look. Any thread. */
static void post(struct embedding *e)
{
	embedding_ref(e);
	if (!loop_post(e->g->loop, &e->work))
		embedding_put(e);
}

/* The last words of this to its caller, if it still listens. On the loop. */
static void tell(struct embedding *e, int status, const char *sentence)
{
	bool wanted = e->wanted;
	e->wanted = false;
	e->over = true;
	if (wanted)
		e->how.done(e->how.arg, status, sentence, status ? NULL : e->vector,
			status ? 0 : e->dim, &e->usage);
}

/* ---- what others say ---- */

/* With the gate's lock held. */
static void admitted(struct gate_user *user)
{
	struct embedding *e = list_entry(user, struct embedding, at_gate);
	pthread_mutex_lock(&e->lock);
	e->news.admitted = true;
	pthread_mutex_unlock(&e->lock);
	post(e);
}

static void model_told(struct model_user *user, int status, const char *sentence)
{
	struct embedding *e = list_entry(user, struct embedding, user);
	pthread_mutex_lock(&e->lock);
	e->news.told = true;
	e->news.told_status = status;
	err_set(&e->news.told_err, 0, "%s", sentence);
	pthread_mutex_unlock(&e->lock);
	post(e);
}

/* On the provider's thread, perhaps inside `embed` or `cancel_embed`. */
static void embedded(void *arg, int status, const char *sentence, const float *vectors, size_t dim,
	const struct trace_usage *usage)
{
	struct embedding *e = arg;
	struct news *n = &e->news;
	float *copy = status == 0 && dim ? malloc(dim * sizeof *copy) : NULL;
	if (copy)
		memcpy(copy, vectors, dim * sizeof *copy);
	pthread_mutex_lock(&e->lock);
	n->ended = true;
	n->status = status;
	err_set(&n->err, 0, "%s", status && sentence ? sentence : "");
	if (status == 0 && !copy)
		n->status = dim ? err_set(&n->err, -ENOMEM, "out of memory")
				: err_set(&n->err, -EIO, "it gave no vector");
	e->vector = copy;
	e->dim = copy ? dim : 0;
	if (usage)
		e->usage = *usage;
	pthread_mutex_unlock(&e->lock);
	post(e);
	embedding_put(e);
}

static void timed_out(struct loop_timer *timer)
{
	struct embedding *e = list_entry(timer, struct embedding, timer);
	struct err err;
	err_set(&err, 0, "model %s gave no embedding within %llu ms", model_name(e->model),
		(unsigned long long)e->how.timeout_ms);
	if (!e->over)
		tell(e, -ETIMEDOUT, err.text);
	post(e);
	embedding_put(e);
}

static void waited_too_long(struct loop_timer *timer)
{
	struct embedding *e = list_entry(timer, struct embedding, gate_timer);
	struct err err;
	err_set(&err, 0, "models/%s was busy for longer than its queue_timeout_ms",
		model_name(e->model));
	if (!e->over && e->stage == AT_GATE)
		tell(e, -ETIMEDOUT, err.text);
	post(e);
	embedding_put(e);
}

/* Its timer has a reference. */
static void arm(struct embedding *e, struct loop_timer *timer, uint64_t ms)
{
	embedding_ref(e);
	if (!ms || !loop_arm(e->g->loop, timer, clock_mono_ns() + ms * 1000000u))
		embedding_put(e);
}

static void disarm(struct embedding *e, struct loop_timer *timer)
{
	if (loop_disarm(e->g->loop, timer))
		embedding_put(e);
}

/* ---- asking ---- */

/* Any thread, once. What comes of it is news. */
static void hand(struct embedding *e)
{
	const struct loaded *l = e->user.loaded;
	const char *text = e->text->bytes;
	struct provider_embed q = {
		.texts = &text,
		.lens = &e->len,
		.n = 1,
		.salt = gateway_salt(e->at_gate.uid),
		.done = embedded,
		.arg = embedding_ref(e),
	};
	struct err err = {0};
	uint64_t id = 0;
	pthread_mutex_lock(&e->lock);
	bool given_up = e->given_up;
	pthread_mutex_unlock(&e->lock);
	int r = given_up ? err_set(&err, -ECANCELED, "cancelled")
			 : l->provider->embed(l->handle, &q, &id, &err);
	if (r < 0)
		embedding_put(e);
	pthread_mutex_lock(&e->lock);
	e->id = id;
	e->news.handed = true;
	e->news.handed_status = r;
	e->news.handed_err = err;
	pthread_mutex_unlock(&e->lock);
}

static void hand_on_thread(struct loop_work *work)
{
	struct embedding *e = list_entry(work, struct embedding, hand_work);
	hand(e);
	post(e);
	embedding_put(e);
}

/* So much of the text is handed over: of what is certainly behind the context, only what costs
 * nothing. */
static size_t useful(const struct text *text, const struct provider_limits *limits)
{
	size_t most = (size_t)limits->context_tok * limits->max_token_bytes; /* 0: not known */
	size_t len = text->len;
	if (!most)
		return len;
	most = most < LONG_TEXT ? LONG_TEXT : most;
	if (len > most)
		for (len = most; len && utf8_is_inside(text->bytes[len]);)
			len--;
	return len;
}

static void ask(struct embedding *e)
{
	const struct loaded *l = e->user.loaded;
	const struct provider_limits *limits = &l->limits;
	struct err err = {0};
	int r = 0;
	e->len = useful(e->text, limits);
	uint64_t tok = e->len + CONTROL_TOK;
	if (limits->context_tok && tok > limits->context_tok)
		tok = limits->context_tok;
	if (!l->provider->embed || !limits->embeds)
		r = err_set(&err, -ENOTSUP, "model %s gives no embeddings", model_name(e->model));
	else if (e->how.begins)
		r = e->how.begins(e->how.arg, e->model, tok, &err);
	if (r < 0) {
		tell(e, r, err.text);
		return;
	}
	e->stage = HANDING;
	if (e->len <= LONG_TEXT)
		hand(e);
	else if (!runner_post(e->g->texts, &embedding_ref(e)->hand_work))
		hand_on_thread(&e->hand_work);
	post(e);
}

static void use_model(struct embedding *e)
{
	struct err err = {0};
	e->stage = AT_MODEL;
	disarm(e, &e->gate_timer);
	int r = model_use(e->model, &e->user, &err);
	if (r < 0)
		tell(e, r, err.text);
	else if (r == 0)
		ask(e);
}

/* ---- the machine ---- */

static void release(struct embedding *e)
{
	struct gateway *g = gateway_ref(e->g);
	e->released = true;
	disarm(e, &e->timer);
	disarm(e, &e->gate_timer);
	gate_leave(model_gate(e->model), &e->at_gate);
	model_unuse(e->model, &e->user);
	e->model = model_put(e->model);
	embedding_put(e); /* the machine's own */
	gateway_idle(g);
	gateway_put(g);
}

static void advance(struct embedding *e, const struct news *n)
{
	if (n->ended)
		tell(e, n->status, n->err.text);
	else if (n->told && n->told_status < 0)
		tell(e, n->told_status, n->told_err.text);
	else if (n->handed && n->handed_status < 0)
		tell(e, n->handed_status, n->handed_err.text);
	else if (e->stage == AT_GATE && n->admitted)
		use_model(e);
	else if (e->stage == AT_MODEL && n->told)
		ask(e);
}

/* It is over: whoever works for it may stop. */
static void stop_others(struct embedding *e, const struct news *n)
{
	const struct loaded *l = e->user.loaded;
	bool works = e->stage == ASKED && n->handed_status == 0 && !n->ended;
	pthread_mutex_lock(&e->lock);
	e->given_up = true;
	uint64_t id = e->id;
	pthread_mutex_unlock(&e->lock);
	if (works && !e->cancel_sent) {
		e->cancel_sent = true;
		l->provider->cancel_embed(l->handle, id);
	}
	if (!works && e->stage != HANDING)
		release(e);
}

static void look(struct embedding *e)
{
	pthread_mutex_lock(&e->lock);
	struct news n = e->news;
	pthread_mutex_unlock(&e->lock);
	if (e->stage == HANDING && n.handed)
		e->stage = ASKED;
	if (!e->over)
		advance(e, &n);
	if (e->over)
		stop_others(e, &n);
}

static void run(struct loop_work *work)
{
	struct embedding *e = list_entry(work, struct embedding, work);
	if (!e->released)
		look(e);
	embedding_put(e);
}

/* ---- the door ---- */

static struct embedding *make(struct gateway *g, const struct embedding_ask *ask)
{
	struct embedding *e = calloc(1, sizeof *e);
	if (!e)
		return NULL;
	e->text = text_new(ask->text, ask->len);
	if (!e->text) {
		free(e);
		return NULL;
	}
	atomic_init(&e->refs, 1); /* the machine's */
	pthread_mutex_init(&e->lock, NULL);
	e->g = gateway_ref(g);
	e->how = *ask;
	e->how.model = e->how.text = NULL;
	e->wanted = true;
	e->at_gate.uid = ask->uid;
	e->at_gate.come = admitted;
	e->user.told = model_told;
	e->timer.run = timed_out;
	e->gate_timer.run = waited_too_long;
	e->work.run = run;
	e->hand_work.run = hand_on_thread;
	struct list *const links[] = {&e->at_gate.link, &e->user.link, &e->timer.link,
		&e->gate_timer.link, &e->work.link, &e->hand_work.link};
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		list_init(links[i]);
	return e;
}

/* It was from the start: nobody else says it. */
static void note_loaded(struct embedding *e)
{
	pthread_mutex_lock(&e->lock);
	e->news.told = true;
	pthread_mutex_unlock(&e->lock);
}

/* At the gate, or behind it and at the model. 0, or < 0: nothing of it is left. */
static int enter(struct embedding *e, struct err *err)
{
	int r = gate_enter(model_gate(e->model), &e->at_gate, err);
	if (r == 0) {
		e->stage = AT_MODEL;
		r = model_use(e->model, &e->user, err);
		if (r < 0)
			gate_leave(model_gate(e->model), &e->at_gate);
		else if (r == 0)
			note_loaded(e);
	} else if (r > 0) {
		arm(e, &e->gate_timer, model_queue_timeout_ms(e->model));
	}
	return r == -EAGAIN ? -EBUSY : r < 0 ? r : 0;
}

int embedding_begin(
	struct embedding **out, struct gateway *g, const struct embedding_ask *ask, struct err *err)
{
	*out = NULL;
	struct model *m = gateway_model_find(g, ask->model);
	if (!m)
		return err_set(err, -EHOSTUNREACH, "there is no model %s", ask->model);
	struct embedding *e = make(g, ask);
	if (!e) {
		model_put(m);
		return err_set(err, -ENOMEM, "out of memory");
	}
	e->model = m;
	int r = enter(e, err);
	if (r < 0) {
		model_put(m);
		embedding_put(e);
		return r;
	}
	gateway_busy(g);
	arm(e, &e->timer, ask->timeout_ms);
	*out = embedding_ref(e); /* the caller's, until its end */
	post(e);
	return 0;
}

struct embedding *embedding_cancel(struct embedding *e)
{
	if (!e)
		return NULL;
	e->wanted = false;
	e->over = true;
	pthread_mutex_lock(&e->lock);
	e->given_up = true; /* a long text need not be handed over */
	pthread_mutex_unlock(&e->lock);
	post(e);
	return embedding_put(e);
}
