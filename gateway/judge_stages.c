/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A judge moves through its stages on the loop's thread, as a request does:
 *
 *	WAITING -> GATE -> MODEL -> RENDER -> ASK -> RELEASED
 *	                               ^-------' the next piece
 *
 * The engine tells the probabilities of "safe" and "unsafe" with the first word of the answer. A
 * safe piece is cancelled right there: what follows would be an end token. Of an unsafe one the
 * second line is awaited for its categories, and no longer than the time allows.
 *
 * A question of the router's goes the same way as a text of one piece (judge_question.c). It waits
 * at its model's own gate, too (GATE), as requests do. The guards' judges do not: a model that is
 * busy with requests would turn them off.
 *
 * A judge's prompt has the salt of the user whose text it is, as that user's requests have: the
 * payer is told how many tokens were known already, and so would be told what others have asked.
 * The form before the text is thus computed once for each user, and not once for all.
 *
 * Locks: judge.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/judge_parts.h"

static const double least_share = 1e-4;  /* of "safe" and "unsafe" among all words */
static const size_t inline_bytes = 4096; /* of a question that is rendered on the loop */
static const char *const guards_words[] = {"safe", "unsafe"};

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
	if (!judge_is_over(j))
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
		look = !j->moderation && e->len && memchr(e->text, '\n', e->len);
		if (look) {
			j->news.has_line = true;
			j->news.usage = e->usage;
		}
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
	if (e == 0 && judge_ask_payer(j) < 0)
		return;
	bool asked = e == 0;
	if (asked) {
		j->decided = j->cancel_sent = false;
		pthread_mutex_lock(&j->lock);
		j->news.known = j->news.has_line = j->news.ended = false;
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
		judge_tell(j, &(struct judge_verdict){.p = j->p});
	else if (!j->unsafe)
		cancel_ask(j);
}

static void ended(struct judge *j, struct judge_news *news)
{
	struct err err;
	if (j->unsafe) {
		judge_tell_unsafe(j);
	} else if (j->decided) {
		stage_render(j);
	} else if (news->end_status) {
		if (news->end_status == -EBADMSG)
			model_broke(j->model, news->end_status, news->end_err.text);
		if (news->end_status == -EIO)
			model_look_at_file(j->model, &news->end_err);
		judge_fail(j, news->end_status, &news->end_err);
	} else if (!j->moderation) {
		judge_question_read(j, news);
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
		else if (news->known && !j->moderation)
			judge_question_decide(j, news);
		if (news->has_line && !judge_is_over(j))
			judge_question_read(j, news);
		if (news->ended && !judge_is_over(j))
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
	gate_leave(judge_gate(j), &j->at_gate);
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
		if (!judge_is_over(j))
			advance(j, &news);
		if (judge_is_over(j)) {
			if (!outstanding(j))
				release(j);
			else if (j->stage == JUDGE_ASK)
				cancel_ask(j);
		}
	}
	judge_put(j);
}

void judge_stages_init(struct judge *j)
{
	j->user.told = model_told;
	j->work.run = run;
	j->render_work.run = render_on_thread;
	list_init(&j->user.link);
	list_init(&j->work.link);
	list_init(&j->render_work.link);
}
