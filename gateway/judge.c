/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A judge as who begins one sees it: what it is asked, its one verdict, in time, and who pays. How
 * it comes to that is judge_stages.c's.
 *
 * Being over is apart from the stages, as with a request: done may have been called, or the judge
 * cancelled or timed out, while the texts' thread or the engine still works for it. It is released
 * once they have had their last word; until then gateway_free waits.
 *
 * The guards' judges wait in one line, questions of each kind in another (core.h).
 *
 * What a piece took is told to the payer once: with its verdict when that ends it, for the rest is
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

/* ---- the object ---- */

struct judge *judge_ref(struct judge *j)
{
	atomic_fetch_add_explicit(&j->refs, 1, memory_order_relaxed);
	return j;
}

struct judge *judge_put(struct judge *j)
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
struct gate *judge_gate(const struct judge *j)
{
	return j->moderation ? j->g->judges : j->g->questions[j->kind];
}

bool judge_is_over(struct judge *j)
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

void judge_tell_unsafe(struct judge *j)
{
	struct judge_verdict v = {.unsafe = true, .p = j->p};
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
		judge_tell_unsafe(j);
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
		judge_tell_unsafe(j);
	else
		judge_tell(j, &v);
	judge_post(j);
	judge_put(j);
}

/* ---- who pays ---- */

/* 0, or -errno: the payer would not, and the judge has said so. */
int judge_ask_payer(struct judge *j)
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
	if (j->payer && !judge_is_over(j))
		j->payer->took(j->payer_arg, &t);
}

/* ---- the door ---- */

static void init_work(struct judge *j)
{
	j->at_gate.come = turn_came;
	j->timer.run = timed_out;
	list_init(&j->at_gate.link);
	list_init(&j->at_model.link);
	list_init(&j->timer.link);
	judge_stages_init(j);
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
		.user_len = text_len(job->user),
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
	int e = gate_enter(judge_gate(j), &j->at_gate, NULL);
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
