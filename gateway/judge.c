/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A judge moves through its stages on the loop's thread, as a request does:
 *
 *	WAITING -> GATE -> MODEL -> RENDER -> ASK -> RELEASED
 *	                               ^-------' the next piece
 *
 * and like there, being over is apart from the stages: done may have been called, or the judge
 * cancelled or timed out, while the texts' thread or the engine still works for it. It is released
 * once they have had their last word; until then gateway_free waits.
 *
 * The engine tells the probabilities of "safe" and "unsafe" with the first word of the answer. A
 * safe piece is cancelled right there: what follows would be an end token. Of an unsafe one the
 * second line is awaited for its categories, and no longer than the time allows.
 *
 * A question of the router's goes the same way as a text of one piece (judge_question.c).
 *
 * The guards' judges wait in one line, questions of each kind in another (core.h), and a question
 * then at its model's own gate (GATE), as requests do. The guards' judges do not: a model that is
 * busy with requests would turn them off.
 *
 * A judge's prompt has the salt of the user whose text it is, as that user's requests have: the
 * payer is told how many tokens were known already, and so would be told what others have asked.
 * The form before the text is thus computed once for each user, and not once for all.
 *
 * What a piece took is told to the payer once: with its verdict when that is safe, for the rest is
 * cut off, else with its end.
 *
 * Locks: judge->lock has the place of a request's inbox, inside the gate's. The loop's fields
 * belong to the texts' thread while that renders.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/judge_parts.h"

enum { ANSWER_BYTES = 1024 };
static const double least_share = 1e-4;  /* of "safe" and "unsafe" among all words */
static const size_t inline_bytes = 4096; /* of a question that is rendered on the loop */
static const char *const guards_words[] = {"safe", "unsafe"};

/* ---- the object ---- */

static struct judge *judge_ref(struct judge *j)
{
	atomic_fetch_add_explicit(&j->refs, 1, memory_order_relaxed);
	return j;
}

static struct judge *judge_put(struct judge *j)
{
	if (!j || atomic_fetch_sub_explicit(&j->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	moderation_put(j->moderation);
	text_put(j->question);
	text_put(j->user_text);
	text_put(j->agent_text);
	buf_free(&j->answer);
	free(j->prompt.data);
	pthread_mutex_destroy(&j->lock);
	pthread_cond_destroy(&j->told_end);
	gateway_put(j->g);
	free(j);
	return NULL;
}

void judge_post(struct judge *j)
{
	judge_ref(j);
	if (!loop_post(j->g->loop, &j->work))
		judge_put(j);
}

/* Where it waits for its turn. */
static struct gate *gate_of(const struct judge *j)
{
	return j->moderation ? j->g->judges : j->g->questions[j->kind];
}

static bool is_over(struct judge *j)
{
	pthread_mutex_lock(&j->lock);
	bool over = j->told || j->cancelled;
	pthread_mutex_unlock(&j->lock);
	return over;
}

static void turn_came(struct gate_user *u)
{
	struct judge *j = list_entry(u, struct judge, at_gate);
	pthread_mutex_lock(&j->lock);
	j->news.admitted = true;
	pthread_mutex_unlock(&j->lock);
	judge_post(j);
}

/* ---- the verdict ---- */

void judge_tell(struct judge *j, const struct judge_verdict *v)
{
	pthread_mutex_lock(&j->lock);
	bool call = !j->told && !j->cancelled;
	j->told = true;
	j->telling = call;
	pthread_mutex_unlock(&j->lock);
	if (!call)
		return;
	j->done(j->arg, v);
	pthread_mutex_lock(&j->lock);
	j->telling = false;
	pthread_cond_broadcast(&j->told_end);
	pthread_mutex_unlock(&j->lock);
}

static void tell_safe(struct judge *j)
{
	judge_tell(j, &(struct judge_verdict){.p = j->p});
}

static void tell_unsafe(struct judge *j)
{
	struct judge_verdict v = {.unsafe = true, .p = j->p};
	if (!j->moderation) {
		judge_question_tell(j);
		return;
	}
	pthread_mutex_lock(&j->lock);
	bool complete = j->news.ended && j->news.end_status == 0;
	moderation_categories(j->moderation, j->answer.data ? j->answer.data : "", j->answer.len,
		complete, v.categories, sizeof v.categories);
	pthread_mutex_unlock(&j->lock);
	judge_tell(j, &v);
}

/* Of the router's models whoever asked says what it is. */
static const char *title(const struct judge *j)
{
	return j->moderation ? "the judge, " : "";
}

void judge_fail(struct judge *j, int status, const struct err *err)
{
	struct judge_verdict v = {.status = status};
	if (j->unsafe) {
		tell_unsafe(j);
		return;
	}
	err_set(&v.err, 0, "%smodel %s: %s", title(j), j->name, err->text);
	judge_tell(j, &v);
}

static void timed_out(struct loop_timer *timer)
{
	struct judge *j = list_entry(timer, struct judge, timer);
	struct judge_verdict v = {.status = -ETIMEDOUT};
	err_set(&v.err, 0, "%smodel %s%s within %u ms", title(j), j->name,
		j->moderation ? ", gave no verdict" : " said nothing", j->timeout_ms);
	if (j->unsafe)
		tell_unsafe(j);
	else
		judge_tell(j, &v);
	judge_post(j);
	judge_put(j);
}

/* ---- who pays ---- */

/* 0, or -errno: the payer would not, and the judge has said so. */
static int ask_payer(struct judge *j)
{
	struct judge_verdict v = {.unpaid = true};
	struct book_judge most = {
		.model = model_name(j->model),
		.prompt_tok = j->prompt.most_tok,
		.likely_tok = j->prompt.n_tok,
		.output_tok = JUDGE_ANSWER_TOK,
	};
	model_price(j->model, &most.price);
	v.status = j->payer ? j->payer->asked(j->payer_arg, &most, &v.err) : 0;
	j->owes = v.status == 0;
	if (v.status < 0)
		judge_tell(j, &v);
	return v.status;
}

void judge_tell_payer(struct judge *j, const struct trace_usage *usage)
{
	const struct money_tokens t = {usage->prompt_tok, usage->cached_tok, usage->output_tok};
	struct money_price price;
	if (!j->owes)
		return;
	j->owes = false;
	model_price(j->model, &price);
	metrics_judged(model_metrics(j->model), usage, money_cost(&price, &t));
	metrics_judged(j->g->metrics, usage, 0);
	if (j->payer && !is_over(j))
		j->payer->took(j->payer_arg, &t);
}

/* ---- MODEL ---- */

static void model_told(struct model_user *user, int status, const char *sentence)
{
	struct judge *j = list_entry(user, struct judge, user);
	pthread_mutex_lock(&j->lock);
	j->news.told = true;
	j->news.told_status = status;
	err_set(&j->news.told_err, 0, "%s", sentence);
	pthread_mutex_unlock(&j->lock);
	judge_post(j);
}

static void stage_render(struct judge *j);

static void stage_model(struct judge *j)
{
	struct err err = {0};
	j->stage = JUDGE_MODEL;
	int e = model_use(j->model, &j->user, &err);
	if (e < 0)
		judge_fail(j, e, &err);
	else if (e == 0)
		stage_render(j);
}

static void stage_gate(struct judge *j)
{
	struct err err = {0};
	j->stage = JUDGE_GATE;
	if (atomic_load(&j->g->stopping)) {
		judge_fail(j, err_set(&err, -ECANCELED, "llmfs is stopping"), &err);
		return;
	}
	j->model = gateway_model_find(j->g, j->name);
	if (!j->model) {
		judge_fail(j, err_set(&err, -EHOSTUNREACH, "there is no such model"), &err);
		return;
	}
	if (!j->moderation && model_is_virtual(j->model)) {
		judge_fail(j, err_set(&err, -EINVAL, "it is the router's own"), &err);
		return;
	}
	if (j->moderation || judge_question_enter(j))
		stage_model(j);
}

/* ---- RENDER ---- */

static void render(struct judge *j)
{
	const struct loaded *l = j->user.loaded;
	if (!j->moderation) {
		j->render_status = judge_question_render(j, l);
		return;
	}
	j->render_status =
		pieces_next(&j->pieces, l->provider, l->handle, &j->prompt, &j->render_err);
}

static void render_on_thread(struct loop_work *work)
{
	struct judge *j = list_entry(work, struct judge, render_work);
	if (!is_over(j))
		render(j);
	pthread_mutex_lock(&j->lock);
	j->news.rendered = true;
	pthread_mutex_unlock(&j->lock);
	judge_post(j);
	judge_put(j);
}

static void stage_ask(struct judge *j);

static void stage_render(struct judge *j)
{
	j->stage = JUDGE_RENDER;
	j->rendering =
		j->moderation ? pieces_are_long(&j->pieces) : j->question->len > inline_bytes;
	if (j->rendering) {
		pthread_mutex_lock(&j->lock);
		j->news.rendered = false;
		pthread_mutex_unlock(&j->lock);
		runner_post(j->g->texts, &judge_ref(j)->render_work);
		return;
	}
	render(j);
	stage_ask(j);
}

/* ---- ASK ---- */

/* On the provider's thread. */
static void provider_event(void *arg, const struct provider_event *e)
{
	struct judge *j = arg;
	bool look = false;
	pthread_mutex_lock(&j->lock);
	switch (e->kind) {
	case PROVIDER_STARTED:
		break;
	case PROVIDER_CANDIDATES:
		j->news.known = look = true;
		memcpy(j->news.p, e->candidate_p, e->n_candidates * sizeof *j->news.p);
		j->news.usage = e->usage;
		break;
	case PROVIDER_TEXT: /* what does not fit is no list of categories */
		buf_append(&j->answer, e->text, e->len);
		break;
	case PROVIDER_END:
		j->news.ended = look = true;
		j->news.end_status = e->status;
		j->news.usage = e->usage;
		if (e->status)
			err_set(&j->news.end_err, 0, "%.*s", (int)e->len, e->text ? e->text : "");
		break;
	}
	pthread_mutex_unlock(&j->lock);
	if (look)
		judge_post(j);
	if (e->kind == PROVIDER_END)
		judge_put(j);
}

static void cancel_ask(struct judge *j)
{
	if (!j->cancel_sent)
		j->user.loaded->provider->cancel(j->user.loaded->handle, j->provider_id);
	j->cancel_sent = true;
}

/* The prompt is there. */
static void stage_ask(struct judge *j)
{
	size_t n_words = 2;
	const char *const *words = j->moderation ? guards_words : question_words(j->kind, &n_words);
	struct provider_request q = {
		.prompt = &j->prompt,
		.top_p = 1,
		.max_tokens = JUDGE_ANSWER_TOK,
		.salt = gateway_salt(j->at_gate.uid),
		.candidates = words,
		.n_candidates = n_words,
		.event = provider_event,
		.arg = j,
	};
	const struct loaded *l = j->user.loaded;
	struct err err = j->render_err;
	int e = j->render_status;
	if (e == 0 && ask_payer(j) < 0)
		return;
	bool asked = e == 0;
	if (asked) {
		j->decided = j->cancel_sent = false;
		pthread_mutex_lock(&j->lock);
		j->news.known = j->news.ended = false;
		buf_clear(&j->answer);
		pthread_mutex_unlock(&j->lock);
		judge_ref(j); /* the events' */
		e = l->provider->submit(l->handle, &q, &j->provider_id, &err);
	}
	free(j->prompt.data);
	j->prompt = (struct provider_prompt){0};
	if (asked && e < 0)
		judge_tell_payer(j, &(struct trace_usage){0});
	if (e < 0)
		judge_fail(j, e == -EAGAIN ? -EBUSY : e, &err);
	else
		j->stage = JUDGE_ASK;
	if (asked && e < 0)
		judge_put(j); /* no events come */
}

/* The first word of an answer. */
static void decide(struct judge *j, const struct judge_news *news)
{
	double safe = (double)news->p[0], bad = (double)news->p[1], p = bad / (safe + bad);
	struct err err;
	j->decided = true;
	if (!(safe + bad >= least_share)) {
		judge_fail(j,
			err_set(&err, -EIO, "it answers neither safe nor unsafe: it is no judge"),
			&err);
		return;
	}
	if (p > j->p)
		j->p = p;
	j->unsafe = p >= j->moderation->threshold;
	struct trace_usage usage = news->usage;
	usage.output_tok = usage.output_tok ? usage.output_tok : 1; /* that word */
	if (!j->unsafe)
		judge_tell_payer(j, &usage);
	if (!j->unsafe && j->pieces.finished)
		tell_safe(j);
	else if (!j->unsafe)
		cancel_ask(j);
}

static void ended(struct judge *j, struct judge_news *news)
{
	struct err err;
	if (j->unsafe) {
		tell_unsafe(j);
	} else if (j->decided) {
		stage_render(j);
	} else if (news->end_status) {
		if (news->end_status == -EBADMSG)
			model_broke(j->model, news->end_status, news->end_err.text);
		judge_fail(j, news->end_status, &news->end_err);
	} else if (!j->moderation) {
		judge_question_read(j);
	} else {
		judge_fail(j, err_set(&err, -EIO, "it answers nothing"), &err);
	}
}

/* ---- the machine ---- */

static void take_news(struct judge *j, struct judge_news *out)
{
	pthread_mutex_lock(&j->lock);
	*out = j->news;
	j->news.told = false;
	pthread_mutex_unlock(&j->lock);
}

static void advance(struct judge *j, struct judge_news *news)
{
	bool gone = news->told && news->told_status < 0; /* the model */
	if (gone && j->stage != JUDGE_WAITING) {
		judge_fail(j, news->told_status, &news->told_err);
		return;
	}
	switch (j->stage) {
	case JUDGE_WAITING:
		if (news->admitted)
			stage_gate(j);
		break;
	case JUDGE_GATE:
		if (news->has_place)
			stage_model(j);
		break;
	case JUDGE_MODEL:
		if (news->told)
			stage_render(j);
		break;
	case JUDGE_RENDER:
		if (news->rendered)
			stage_ask(j);
		break;
	case JUDGE_ASK:
		if (news->known && !j->decided && j->moderation)
			decide(j, news);
		else if (news->known && !j->decided)
			judge_question_decide(j, news);
		if (news->ended && !is_over(j))
			ended(j, news);
		break;
	case JUDGE_RELEASED:
		break;
	}
}

/* Whether somebody may still write into it. */
static bool outstanding(struct judge *j)
{
	pthread_mutex_lock(&j->lock);
	bool is = j->stage == JUDGE_RENDER ? j->rendering && !j->news.rendered
					   : j->stage == JUDGE_ASK && !j->news.ended;
	pthread_mutex_unlock(&j->lock);
	return is;
}

static void release(struct judge *j)
{
	struct gateway *g = gateway_ref(j->g);
	j->stage = JUDGE_RELEASED;
	if (loop_disarm(g->loop, &j->timer))
		judge_put(j);
	if (j->model) {
		gate_leave(model_gate(j->model), &j->at_model);
		model_unuse(j->model, &j->user);
	}
	j->model = model_put(j->model);
	gate_leave(gate_of(j), &j->at_gate);
	judge_put(j); /* the machine's own */
	gateway_idle(g);
	gateway_put(g);
}

static void run(struct loop_work *work)
{
	struct judge *j = list_entry(work, struct judge, work);
	if (j->stage != JUDGE_RELEASED) {
		struct judge_news news;
		take_news(j, &news);
		if (j->stage == JUDGE_ASK && news.ended)
			judge_tell_payer(j, &news.usage);
		if (!is_over(j))
			advance(j, &news);
		if (is_over(j)) {
			if (!outstanding(j))
				release(j);
			else if (j->stage == JUDGE_ASK)
				cancel_ask(j);
		}
	}
	judge_put(j);
}

/* ---- the door ---- */

static void init_work(struct judge *j)
{
	j->at_gate.come = turn_came;
	j->user.told = model_told;
	j->timer.run = timed_out;
	j->work.run = run;
	j->render_work.run = render_on_thread;
	list_init(&j->at_gate.link);
	list_init(&j->at_model.link);
	list_init(&j->user.link);
	list_init(&j->timer.link);
	list_init(&j->work.link);
	list_init(&j->render_work.link);
}

static struct judge *make(const struct judge_job *job)
{
	struct judge *j = calloc(1, sizeof *j);
	if (!j)
		return NULL;
	atomic_init(&j->refs, 1); /* the caller's */
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->told_end, NULL);
	j->g = gateway_ref(job->g);
	if (job->question) {
		j->kind = job->question->kind;
		j->question = text_ref(job->question->text);
		j->timeout_ms = job->question->timeout_ms;
	} else {
		j->moderation = moderation_ref(job->moderation);
		j->timeout_ms = job->moderation->timeout_ms;
	}
	snprintf(j->name, sizeof j->name, "%s",
		job->question ? job->question->model : job->moderation->model);
	j->user_text = text_ref(job->user);
	j->agent_text = text_new(job->agent, job->stage == GUARD_OUTPUT ? job->agent_len : 0);
	j->answer.max = ANSWER_BYTES;
	j->done = job->done;
	j->arg = job->arg;
	j->payer = job->payer;
	j->payer_arg = job->payer_arg;
	j->at_gate.uid = job->uid;
	init_work(j);
	if (!j->agent_text)
		return judge_put(j);
	j->pieces = (struct pieces){
		.moderation = j->moderation,
		.stage = job->stage,
		.user = job->user ? job->user->bytes : "",
		.user_len = job->user ? job->user->len : 0,
		.agent = j->agent_text->bytes,
		.agent_len = j->agent_text->len,
	};
	return j;
}

int judge_begin(struct judge **out, const struct judge_job *job, struct err *err)
{
	struct gateway *g = job->g;
	*out = NULL;
	if (atomic_load(&g->stopping))
		return err_set(err, -ESHUTDOWN, "llmfs is stopping");
	if (!job->question && (!moderation_judges(job->moderation, job->stage) ||
				      (job->stage == GUARD_INPUT && !job->user)))
		return err_set(err, -EINVAL, "there is nothing to judge");
	struct judge *j = make(job);
	if (!j)
		return err_set(err, -ENOMEM, "out of memory");
	judge_ref(j); /* the machine's */
	*out = j;
	gateway_busy(g);
	int e = gate_enter(gate_of(j), &j->at_gate, NULL);
	if (e < 0) {
		judge_put(j);
		*out = judge_put(j);
		gateway_idle(g);
		return job->question ? err_set(err, -EBUSY,
					       "%d questions like it wait for a model already",
					       JUDGE_QUESTIONS_WAITING_MAX)
				     : err_set(err, -EBUSY, "%d texts wait for the judge already",
					       JUDGE_WAITING_MAX);
	}
	if (e == 0)
		turn_came(&j->at_gate);
	judge_ref(j); /* the timer's */
	if (!loop_arm(g->loop, &j->timer, clock_mono_ns() + j->timeout_ms * 1000000ull))
		judge_put(j);
	judge_post(j);
	return 0;
}

struct judge *judge_cancel(struct judge *j)
{
	if (!j)
		return NULL;
	pthread_mutex_lock(&j->lock);
	j->cancelled = true;
	while (j->telling && !loop_inside(j->g->loop))
		pthread_cond_wait(&j->told_end, &j->lock);
	pthread_mutex_unlock(&j->lock);
	judge_post(j);
	return judge_put(j);
}
