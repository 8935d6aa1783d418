/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A question of the router's, as what a judge is asked: one text, not cut into pieces, for half an
 * answer cannot be called complete. Where its words have probabilities, the first word is the
 * answer; where they have none, the first line of what it writes is, as soon as that is complete.
 * Nothing more is awaited, nor computed.
 *
 * On the loop, but for the rendering.
 */
#include <errno.h>
#include <inttypes.h>

#include "gateway/judge_parts.h"

/* With the gate's lock held. */
static void place_came(struct gate_user *u)
{
	struct judge *j = list_entry(u, struct judge, at_model);
	pthread_mutex_lock(&j->lock);
	j->news.has_place = true;
	pthread_mutex_unlock(&j->lock);
	judge_post(j);
}

bool judge_question_enter(struct judge *j)
{
	struct err err;
	j->at_model.uid = j->at_gate.uid;
	j->at_model.come = place_came;
	int e = gate_enter(model_gate(j->model), &j->at_model, &err);
	if (e < 0)
		judge_fail(j, -EBUSY, &err);
	return e == 0;
}

int judge_question_render(struct judge *j, const struct loaded *l)
{
	const struct provider_message message = {
		PROVIDER_USER, j->question->bytes, j->question->len};
	if (!l->limits.answers)
		return err_set(
			&j->render_err, -ENOTSUP, "it gives no answers: it is for embeddings");
	int r = l->provider->render(l->handle, &message, 1, &j->prompt, &j->render_err);
	if (r == 0 && l->limits.counts &&
		j->prompt.n_tok + JUDGE_ANSWER_TOK > l->limits.context_tok)
		return err_set(&j->render_err, -EMSGSIZE,
			"its context of %" PRIu32 " tokens is too short: the question has %zu",
			l->limits.context_tok, j->prompt.n_tok);
	return r;
}

/* What comes behind the answer is not awaited: the judge is over, and so the rest is cut off. */
static void say(struct judge *j, const struct judge_news *news, const struct question_said *said)
{
	struct trace_usage usage = news->usage;
	usage.output_tok = usage.output_tok ? usage.output_tok : 1;
	judge_tell_payer(j, &usage);
	judge_tell(j, &(struct judge_verdict){.said = *said});
}

void judge_question_decide(struct judge *j, const struct judge_news *news)
{
	struct question_said said;
	if (question_weigh(j->kind, news->p, &said))
		say(j, news, &said);
}

void judge_question_read(struct judge *j, const struct judge_news *news)
{
	struct question_said said;
	struct err err;
	pthread_mutex_lock(&j->lock);
	bool any = j->answer.len > 0;
	const char *text = any ? j->answer.data : "";
	bool whole = news->ended && !news->end_status;
	int r = question_read(j->kind, text, j->answer.len, whole, &said);
	pthread_mutex_unlock(&j->lock);
	if (r > 0) {
		say(j, news, &said);
	} else if (r < 0) {
		judge_tell_payer(j, &news->usage);
		judge_fail(j,
			any ? err_set(&err, -EIO, "it answers %s", question_else(j->kind))
			    : err_set(&err, -EIO, "it answers nothing"),
			&err);
	}
}
