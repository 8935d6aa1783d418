/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session as its asker sees it who has no files to look into: how the newest request stands, as
 * numbers, what a split knows it by, and the end of all of it when that asker leaves.
 *
 * A request is over for its readers last: before its answer ends it is charged, has its finish and
 * its code, all in one hold of the session's lock. So who has read the end finds here what is
 * final, and who asks earlier what is so far.
 *
 * Any thread, under the session's lock. Nothing here waits, and nothing is kept.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "gateway/digest.h"
#include "gateway/draft.h"
#include "gateway/session.h"

/* Whether a limit has refused it, so that a time to try again is about it. */
static bool is_of_a_limit(int code)
{
	return code == -EAGAIN || code == -EBUSY || code == -EDQUOT;
}

/* The model that answered, or was to: before one is chosen, the one that the session names. */
static void name_model(
	const struct session *s, const struct request *r, struct session_outcome *out)
{
	_Static_assert(sizeof out->model == TEXT_NAME_SIZE, "names of models");
	size_t len;
	const char *name = settings_get(&s->settings, SETTING_MODEL, &len);
	if (*r->model_name)
		memcpy(out->model, r->model_name, sizeof out->model);
	else if (len < sizeof out->model)
		memcpy(out->model, name, len);
}

void session_outcome(struct session *s, struct session_outcome *out)
{
	*out = (struct session_outcome){.finish = ""};
	pthread_mutex_lock(&s->lock);
	const struct request *r = s->newest;
	if (r) {
		out->id = r->id;
		out->over = r->over;
		out->code = r->code;
		if (r->error)
			err_set(&out->why, 0, "%s", r->error->bytes);
		out->finish = r->finish;
		name_model(s, r, out);
		out->prompt_tok = r->usage.prompt_tok;
		out->cached_tok = r->usage.cached_tok;
		out->output_tok = r->usage.output_tok;
		out->retry_ms = is_of_a_limit(r->code) ? r->retry_ms : 0;
		out->from_cache = r->served_by;
		out->begun = r->times.running_ns;
	}
	pthread_mutex_unlock(&s->lock);
}

void session_arm(struct session *s, const struct text *prompt, char out[TEXT_NAME_SIZE])
{
	struct digest d;
	if (!s->unlisted) {
		memcpy(out, s->id, TEXT_NAME_SIZE);
		return;
	}
	pthread_mutex_lock(&s->lock);
	bool goes_on = !s->alone && s->conversation.n;
	const struct text *first = goes_on ? s->conversation.turns[0].user : prompt;
	digest_of(&d, first->bytes, first->len, "", 0);
	pthread_mutex_unlock(&s->lock);
	snprintf(out, TEXT_NAME_SIZE, "%016" PRIx64 "%016" PRIx64, d.a, d.b);
}

void session_abandon(struct session *s)
{
	pthread_mutex_lock(&s->lock);
	/* A draft that another thread is about to submit finds it so. */
	s->removed = s->removed || s->unlisted;
	session_cancel_all(s, "who asked has left");
	draft_order_cancel(s);
	session_poke(s, SESSION_NEWEST_CHANGED | SESSION_CHAT_CHANGED | SESSION_EVENTS_CHANGED);
	pthread_mutex_unlock(&s->lock);
}
