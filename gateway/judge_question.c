/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A question of the router's, as what a judge is asked: one text, not cut into pieces, for half an
 * answer cannot be called complete. Where its words have probabilities, the first word is the
 * answer, and but for a no, which may have a remark on its second line, nothing more is awaited.
 * Where they have none the end of what it writes is awaited, and read.
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

void judge_question_tell(struct judge *j)
{
	struct judge_verdict v = {.said = j->said};
	pthread_mutex_lock(&j->lock);
	if (question_has_remark(j->kind, v.said.choice) && j->news.ended && !j->news.end_status)
		v.said.remark = question_remark(
			j->kind, j->answer.data ? j->answer.data : "", j->answer.len);
	pthread_mutex_unlock(&j->lock);
	judge_tell(j, &v);
}

void judge_question_decide(struct judge *j, const struct judge_news *news)
{
	if (!question_weigh(j->kind, news->p, &j->said))
		return;
	j->decided = true;
	j->unsafe = question_has_remark(j->kind, j->said.choice);
	if (j->unsafe)
		return;
	struct trace_usage usage = news->usage;
	usage.output_tok = usage.output_tok ? usage.output_tok : 1;
	judge_tell_payer(j, &usage);
	judge_question_tell(j);
}

void judge_question_read(struct judge *j)
{
	struct err err;
	pthread_mutex_lock(&j->lock);
	bool any = j->answer.len > 0;
	bool is_one = any && question_read(j->kind, j->answer.data, j->answer.len, &j->said);
	pthread_mutex_unlock(&j->lock);
	if (is_one) {
		judge_question_tell(j);
	} else {
		judge_fail(j,
			any ? err_set(&err, -EIO, "it answers %s", question_else(j->kind))
			    : err_set(&err, -EIO, "it answers nothing"),
			&err);
	}
}
