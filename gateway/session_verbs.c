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
#include "gateway/prefix.h"
#include "gateway/session.h"
#include "gateway/session_retry.h"

struct said { /* one line */
	uid_t uid;
	gid_t gid;
	const char *argument;
	bool told; /* why it was refused is the newest request's error */
};

static int do_cancel(struct session *s, struct said *said, struct err *err)
{
	pthread_mutex_lock(&s->lock);
	session_cancel_all(s, "cancelled");
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int do_clear(struct session *s, struct said *said, struct err *err)
{
	pthread_mutex_lock(&s->lock);
	int r = session_is_free(s, err);
	if (r == 0) {
		store_begin(s->g->store);
		while (s->conversation.n)
			session_drop_turn(s);
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
	if (s->ask)
		return err_set(err, -EINVAL, "a channel has no conversation to fork");
	return gateway_session_fork(s, said->argument, said->uid, said->gid, err);
}

static int do_submit(struct session *s, struct said *said, struct err *err)
{
	said->told = true;
	return draft_submit_all(s, err);
}

struct verb {
	const char *name;
	bool has_argument;
	int (*run)(struct session *s, struct said *said, struct err *err);
};

static const struct verb verbs[] = {
	{"submit", false, do_submit},
	{"cancel", false, do_cancel},
	{"clear", false, do_clear},
	{"retry", false, do_retry},
	{"fork", true, do_fork},
};

static const struct verb *find_verb(const char *line, size_t len, const char **argument)
{
	const char *space = memchr(line, ' ', len);
	size_t n = space ? (size_t)(space - line) : len;
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		const struct verb *v = &verbs[i];
		if (strlen(v->name) != n || memcmp(v->name, line, n) || v->has_argument != !!space)
			continue;
		*argument = space ? space + 1 : "";
		return v;
	}
	return NULL;
}

bool session_ctl_is_hopeless(const char *line, size_t len)
{
	const char *words[sizeof verbs / sizeof *verbs + 1] = {NULL};
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		words[i] = verbs[i].name;
	return !prefix_is_verb(words, line, len);
}

/* Why find_verb found none: what the line has is no verb, or one whose argument is missing. */
static int refuse_verb(const char *line, size_t len, struct err *err)
{
	static const char fork[] = "fork";
	size_t n = strlen(fork);
	if (len == n && !memcmp(line, fork, n))
		return err_set(err, -EINVAL, "fork: the ID is missing, as in: fork b");
	return err_set(err, -EINVAL,
		"%.*s: not a verb; they are submit, cancel, clear, retry and fork ID",
		len < 40 ? (int)len : 40, line);
}

int session_ctl(
	struct session *s, uid_t uid, gid_t gid, const char *line, size_t len, struct err *err)
{
	char copy[128];
	struct said said = {.uid = uid, .gid = gid};
	struct err own = {0};
	const struct verb *v = NULL;
	if (len < sizeof copy && !memchr(line, '\0', len)) {
		memcpy(copy, line, len);
		copy[len] = '\0';
		v = find_verb(copy, len, &said.argument);
	}
	int r = v ? v->run(s, &said, &own) : refuse_verb(line, len, &own);
	pthread_mutex_lock(&s->lock);
	if (r < 0 && !said.told)
		session_set_note(s, own.text);
	else if (s->note)
		session_set_note(s, NULL);
	pthread_mutex_unlock(&s->lock);
	return r < 0 ? err_set(err, r, "%s", own.text) : 0;
}
