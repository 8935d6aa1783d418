/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A prompt that is asked again, by the guards, limits and prices of now.
 *
 * One that was refused before a model saw it has no turn: the newest request has it, and it is
 * written again, to a draft of its own, by who says so; two who say so at once do not submit it
 * twice. Refused again, it is a newest request with a prompt again.
 * Of a prompt that was written in pieces a refusal has seen some only, perhaps, and then none is
 * kept (draft.c); but who stops at the first error may have had more to write. So the event
 * "retried" has the number of its bytes. None is kept over a restart.
 *
 * Else it is the last turn of the conversation, when its answer is missing or broke off: that turn
 * makes room for the new one. What costs time, the rules and the claim, is done without the
 * session's lock; the turn must be the same one below it in the end.
 */
#include "gateway/session_retry.h"

#include <errno.h>
#include <string.h>

#include "gateway/draft.h"
#include "gateway/session_edit.h"
#include "gateway/users.h"
#include "gateway/worst.h"

struct asker {
	uid_t uid;
	char user[TEXT_NAME_SIZE]; /* of its account */
};

/* ---- a refused prompt ---- */

struct again {
	struct request *request; /* references */
	struct text *prompt;
};

/* Whether the last prompt was refused: 0, or 1 and what is sent again. What is retried of a turn
 * that is still there is that turn. */
static int take_refused(struct session *s, struct again *out, struct err *err)
{
	pthread_mutex_lock(&s->lock);
	struct request *q = session_refused(s);
	int r = session_alive(s, err);
	if (r == 0 && q && !q->retry) {
		if (q->sent_again)
			r = err_set(err, -EBUSY, "it is being sent again");
		else if (!q->prompt)
			r = err_set(err, -ENOENT,
				"nothing to retry: the prompt was refused before all of it was "
				"known, write it again (it was refused: %s)",
				q->error ? q->error->bytes : strerror(-q->code));
		else
			r = 1;
		if (r == 1) {
			*out = (struct again){request_ref(q), text_ref(q->prompt)};
			q->sent_again = true;
			session_event(s, "retried", q);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* What becomes of it is the newest request. Ends `again`. */
static int write_again(struct session *s, struct draft *d, struct again *again, struct err *err)
{
	int r = draft_write_whole(d, again->prompt->bytes, again->prompt->len, err);
	r = r ? r : draft_submit(d, err);
	pthread_mutex_lock(&s->lock);
	again->request->sent_again = false;
	pthread_mutex_unlock(&s->lock);
	request_put(again->request);
	text_put(again->prompt);
	return r < 0 ? r : 0; /* 1: the verb `submit` came first */
}

/* ---- the last turn ---- */

/* The turn that is asked again, or why none is. With the lock held. */
static int find_retry(struct session *s, struct turn **out, struct err *err)
{
	int r = session_alive(s, err);
	r = r ? r : session_is_free(s, err);
	if (r < 0)
		return r;
	struct turn *last = *out = conversation_last(&s->conversation);
	if (last && last->state != TURN_DONE)
		return 0;
	return err_set(err, -ENOENT, "%s",
		s->newest && s->newest->messages ? "messages.json was refused: nothing to retry"
		: last                           ? "nothing to retry: the last answer is complete"
						 : "nothing to retry");
}

/* The turn's prompt, `was`, goes as `prompt`: what the rules of now have let through of it. With
 * the lock held. Takes the claim when it succeeds. */
static int retry_locked(struct session *s, const struct asker *who, uint64_t id,
	const struct text *was, struct text *prompt, struct book_claim *claim, struct err *err)
{
	struct turn *last;
	int r = find_retry(s, &last, err);
	if (r == 0 && last->user != was)
		r = err_set(err, -EBUSY, "the conversation has just changed");
	if (r < 0)
		return r;
	struct request *q = request_new(s->g, id, prompt, &s->settings, who->uid, who->user);
	if (!q)
		return err_set(err, -ENOMEM, "out of memory");
	q->retry = true;
	r = session_submit(s, q, false, 0, err);
	if (r < 0)
		request_put(q);
	else
		q->claim = claim;
	return r;
}

/* What the request may cost on that model: as a prompt's first write does. */
static int claim_retry(struct session *s, const struct asker *who, const char *model,
	size_t prompt_bytes, struct book_claim **out, struct err *err)
{
	struct book_worst worst;
	struct model *m = gateway_model_find(s->g, model);
	if (!m)
		return err_set(err, -EHOSTUNREACH, "there is no model %s", model);
	struct loaded *l = model_peek(m);
	worst_prompt(&worst, s, m, l, prompt_bytes, prompt_bytes / 4);
	loaded_put(l);
	model_put(m);
	return worst_claim(out, s->g, who->user, &worst, NULL, err);
}

static int retry_turn(struct session *s, uid_t uid, struct err *err)
{
	struct asker who = {.uid = uid};
	char model[TEXT_NAME_SIZE] = "";
	struct book_claim *claim = NULL;
	struct text *was = NULL, *prompt = NULL;
	struct turn *last;
	size_t len;
	uint64_t id = request_next_id(s->g);
	users_name(s->g->users, uid, who.user);
	int r = gateway_accepts(s->g, err);
	pthread_mutex_lock(&s->lock);
	r = r ? r : find_retry(s, &last, err);
	if (r == 0) {
		was = text_ref(last->user);
		const char *name = settings_get(&s->settings, SETTING_MODEL, &len);
		memcpy(model, name, len);
	}
	pthread_mutex_unlock(&s->lock);
	r = r ? r : claim_retry(s, &who, model, was->len, &claim, err);
	prompt = text_ref(was);
	r = r ? r : session_edit_guard(s, uid, id, &prompt, err);
	pthread_mutex_lock(&s->lock);
	r = r ? r : retry_locked(s, &who, id, was, prompt, claim, err);
	pthread_mutex_unlock(&s->lock);
	if (r < 0)
		book_claim_return(claim);
	text_put(was);
	text_put(prompt);
	return r;
}

int session_retry(struct session *s, uid_t uid, bool *told, struct err *err)
{
	struct again again = {0};
	struct draft *d = NULL;
	draft_end_cancelled(s);
	int r = draft_new(&d, s, uid, err); /* first: what is taken must not be lost */
	r = r ? r : take_refused(s, &again, err);
	*told = r == 1;
	if (r == 1)
		r = write_again(s, d, &again, err);
	else if (r == 0)
		r = retry_turn(s, uid, err);
	draft_drop(d);
	return r;
}
