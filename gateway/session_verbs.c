/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verbs of a session, one line of its `ctl` each: a table of words and what they do. They take
 * effect before their call returns, also when an engine is still busy with what they ended. Why a
 * verb was refused is the session's note, which `error` shows until a verb is obeyed, unless what
 * was refused is a prompt: then it is the newest request, and `error` says so by that.
 */
#include <errno.h>
#include <string.h>

#include "gateway/draft.h"
#include "gateway/session.h"
#include "gateway/session_retry.h"
#include "gateway/verbs.h"

struct said { /* one line */
	uid_t uid;
	gid_t gid;
	struct verbs_argument argument;
	bool told; /* why it was refused is the newest request's error */
};

static int do_cancel(struct session *s, struct said *said, struct err *err)
{
	pthread_mutex_lock(&s->lock);
	session_cancel_all(s, "cancelled");
	draft_order_cancel(s);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int do_clear(struct session *s, struct said *said, struct err *err)
{
	draft_end_cancelled(s);
	pthread_mutex_lock(&s->lock);
	int r = session_is_free(s, err);
	if (r == 0) {
		store_begin(s->g->store);
		session_drop_turns(s);
		session_set_newest(s, NULL, 0);
		session_event(s, "cleared", NULL);
		session_poke(s, SESSION_CHAT_CHANGED);
		session_touch(s);
		store_end(s->g->store);
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

static int do_retry(struct session *s, struct said *said, struct err *err)
{
	return session_retry(s, said->uid, &said->told, err);
}

static int do_fork(struct session *s, struct said *said, struct err *err)
{
	if (s->unlisted)
		return err_set(
			err, -EINVAL, "this conversation is of no session that could be forked");
	char id[128] = ""; /* no name is that long */
	const struct verbs_argument *a = &said->argument;
	if (a->len < sizeof id && !memchr(a->text, '\0', a->len))
		memcpy(id, a->text, a->len);
	return gateway_session_fork(s, id, said->uid, said->gid, err);
}

static int do_submit(struct session *s, struct said *said, struct err *err)
{
	said->told = true;
	return draft_submit_all(s, err);
}

enum { SUBMIT, CANCEL, CLEAR, RETRY, FORK, N_VERBS };

static const struct verbs_row verbs[N_VERBS + 1] = {
	[SUBMIT] = {.name = "submit"},
	[CANCEL] = {.name = "cancel"},
	[CLEAR] = {.name = "clear"},
	[RETRY] = {.name = "retry"},
	[FORK] = {"fork", "ID", "the ID is missing, as in: fork b"},
};

static int (*const runs[N_VERBS])(struct session *s, struct said *said, struct err *err) = {
	[SUBMIT] = do_submit,
	[CANCEL] = do_cancel,
	[CLEAR] = do_clear,
	[RETRY] = do_retry,
	[FORK] = do_fork,
};

bool session_ctl_is_hopeless(const char *line, size_t len)
{
	return verbs_is_hopeless(verbs, line, len);
}

int session_ctl(
	struct session *s, uid_t uid, gid_t gid, const char *line, size_t len, struct err *err)
{
	struct said said = {.uid = uid, .gid = gid};
	struct err own = {0};
	int r = verbs_find(verbs, line, len, &said.argument, &own);
	if (r >= 0)
		r = runs[r](s, &said, &own);
	pthread_mutex_lock(&s->lock);
	if (r < 0 && !said.told)
		session_set_note(s, own.text);
	else if (s->note)
		session_set_note(s, NULL);
	pthread_mutex_unlock(&s->lock);
	session_await_stored(s);
	return r < 0 ? err_set(err, r, "%s", own.text) : 0;
}
