/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is written to a session beside its prompts: the values of its settings, and messages.json,
 * which takes the place of its conversation. All or nothing: what is refused changes nothing but
 * the note, the sentence that `error` shows next.
 *
 * Texts that come to a model by this way, the system prompt and each message, pass the input rules
 * as prompts do. They are judged before the session's lock is taken, since rules may be long; what
 * may have changed until then is looked at again below it.
 */
#include "gateway/session_edit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/draft.h"
#include "gateway/guards.h"
#include "gateway/messages.h"
#include "gateway/users.h"

/* ---- settings ---- */

const char *const *session_setting_names(void)
{
	return settings_names();
}

/* The name of a model must be one that is there, so that a person who mistypes it hears at once. */
static int check_model_exists(
	struct session *s, enum setting i, const char *value, size_t len, struct err *err)
{
	char name[TEXT_NAME_SIZE] = "";
	if (i != SETTING_MODEL || settings_check(i, value, len, NULL) < 0)
		return 0;
	memcpy(name, value, len);
	struct model *m = strcmp(name, "default") ? gateway_model_find(s->g, name) : NULL;
	bool there = m || !strcmp(name, "default");
	model_put(m);
	if (there)
		return 0;
	char list[200] = "";
	char **names = gateway_model_names(s->g);
	for (size_t n = 0; names && names[n]; n++) {
		size_t used = strlen(list);
		snprintf(list + used, sizeof list - used, ", %s", names[n]);
		free(names[n]);
	}
	free(names);
	return err_set(
		err, -EINVAL, "model: there is no model %s; there are default%s", name, list);
}

/* Whether no model is there, and none is meant by "default", whose name begins so. */
static bool is_no_models_beginning(struct session *s, const char *value, size_t len)
{
	bool found = strncmp("default", value, len) == 0;
	char **names = gateway_model_names(s->g);
	for (size_t n = 0; names && names[n]; n++) {
		found |= strncmp(names[n], value, len) == 0;
		free(names[n]);
	}
	found |= !names;
	free(names);
	return !found;
}

bool session_setting_is_hopeless(struct session *s, const char *file, const char *value, size_t len)
{
	enum setting i = settings_find(file);
	size_t n = len && value[len - 1] == '\r' ? len - 1 : len;
	if (i == N_SETTINGS)
		return false;
	return settings_is_hopeless(i, value, len) ||
	       (i == SETTING_MODEL && is_no_models_beginning(s, value, n));
}

static uid_t owner(struct session *s)
{
	struct session_attr a;
	session_attr(s, &a);
	return a.uid;
}

/* Text that comes to a session by another way than its prompts passes the input rules too. Without
 * the lock. */
static int guard_text(struct session *s, uid_t uid, uint64_t request, const char *text, size_t len,
	struct buf *out, struct err *err)
{
	char user[TEXT_NAME_SIZE];
	users_name(s->g->users, uid, user);
	const struct guards_subject who = {uid, user, s->id, request};
	return guards_text(s->g->guards, &who, text, len, out, err);
}

int session_edit_guard(
	struct session *s, uid_t uid, uint64_t request, struct text **text, struct err *err)
{
	struct buf clean = {0};
	int r = *text ? guard_text(s, uid, request, (*text)->bytes, (*text)->len, &clean, err) : 0;
	bool changed = r == 0 && *text &&
		       (clean.len != (*text)->len ||
			       (clean.len && memcmp(clean.data, (*text)->bytes, clean.len)));
	struct text *fresh = changed ? text_new(clean.data, clean.len) : NULL;
	if (changed && !fresh)
		r = err_set(err, -ENOMEM, "out of memory");
	if (fresh) {
		text_put(*text);
		*text = fresh;
	}
	buf_free(&clean);
	return r;
}

/* `error` is left as it is. With the lock held. */
static void setting_changed(struct session *s, enum setting i)
{
	/* What fits may have changed: the window over the conversation is placed anew. */
	if (i == SETTING_MODEL || i == SETTING_TRUNCATE || i == SETTING_SYSTEM)
		s->conversation.head = s->conversation.first = 0;
	session_store_setting(s, i);
	session_touch(s);
}

int session_setting_set(
	struct session *s, const char *file, const char *value, size_t len, struct err *err)
{
	struct err own = {0};
	enum setting i = settings_find(file);
	if (i == N_SETTINGS)
		return err_set(err, -ENOENT, "a session has no setting %s", file);
	struct buf clean = {0};
	int r = check_model_exists(s, i, value, len, &own);
	if (r == 0 && !s->unlisted)
		r = gateway_accepts(s->g, &own);
	if (r == 0 && i == SETTING_SYSTEM)
		r = settings_check(i, value, len, &own);
	if (r == 0 && i == SETTING_SYSTEM) {
		r = guard_text(s, owner(s), 0, value, len, &clean, &own);
		value = clean.data ? clean.data : "";
		len = clean.len;
	}
	pthread_mutex_lock(&s->lock);
	r = r ? r : session_alive(s, &own);
	size_t old_len;
	const char *old = settings_get(&s->settings, i, &old_len);
	/* An editor that was told of the fault puts its backup back so. */
	bool same = old_len == len && memcmp(old, value, len) == 0;
	r = r ? r : settings_set(&s->settings, i, value, len, &own);
	if (r || !same)
		session_set_note(s, r ? own.text : NULL);
	if (r == 0)
		setting_changed(s, i);
	pthread_mutex_unlock(&s->lock);
	buf_free(&clean);
	if (r < 0)
		return err_set(err, r, "%s", own.text);
	session_await_stored(s);
	if (!s->unlisted)
		gateway_tell_change(s->g, GATEWAY_CHANGE_SESSION, s->id, file);
	return 0;
}

/* To a value that was in force already, or (len 0) the default. */
static int put_back(
	struct session *s, const char *file, const char *value, size_t len, bool withdraws_note)
{
	enum setting i = settings_find(file);
	if (i == N_SETTINGS)
		return -ENOENT;
	pthread_mutex_lock(&s->lock);
	int r = session_alive(s, NULL);
	if (r == 0 && len)
		r = settings_set(&s->settings, i, value, len, NULL);
	else if (r == 0)
		settings_reset(&s->settings, i);
	if (r == 0) {
		session_withdraw_note(s, withdraws_note);
		setting_changed(s, i);
	}
	pthread_mutex_unlock(&s->lock);
	if (r == 0)
		session_await_stored(s);
	if (r == 0 && !s->unlisted)
		gateway_tell_change(s->g, GATEWAY_CHANGE_SESSION, s->id, file);
	return r;
}

int session_setting_reset(struct session *s, const char *file)
{
	return put_back(s, file, "", 0, true);
}

int session_setting_undo(struct session *s, const char *file, const char *value, size_t len)
{
	return put_back(s, file, value, len, false);
}

int session_setting_get(struct session *s, const char *file, struct buf *out)
{
	enum setting i = settings_find(file);
	if (i == N_SETTINGS)
		return -ENOENT;
	size_t len;
	pthread_mutex_lock(&s->lock);
	const char *value = settings_get(&s->settings, i, &len);
	int r = buf_append(out, value, len);
	pthread_mutex_unlock(&s->lock);
	return r;
}

bool session_setting_is_set(struct session *s, const char *file)
{
	enum setting i = settings_find(file);
	if (i == N_SETTINGS)
		return false;
	pthread_mutex_lock(&s->lock);
	bool is = settings_is_set(&s->settings, i);
	pthread_mutex_unlock(&s->lock);
	return is;
}

/* ---- messages.json ---- */

static int guard_messages(struct session *s, struct messages *m, struct err *err)
{
	uid_t uid = owner(s);
	int r = session_edit_guard(s, uid, 0, &m->system, err);
	for (size_t i = 0; r == 0 && i < m->turns.n; i++) {
		r = session_edit_guard(s, uid, 0, &m->turns.turns[i].user, err);
		r = r ? r : session_edit_guard(s, uid, 0, &m->turns.turns[i].assistant, err);
	}
	if (r == 0)
		conversation_recount(&m->turns);
	return r;
}

/* The conversation becomes the one that was read. Takes what is in m. With the lock held. */
static void replace(struct session *s, struct messages *m)
{
	store_begin(s->g->store);
	session_drop_turns(s);
	m->turns.next_serial += s->conversation.next_serial;
	for (size_t i = 0; i < m->turns.n; i++)
		m->turns.turns[i].serial += s->conversation.next_serial;
	conversation_free(&s->conversation);
	s->conversation = m->turns;
	m->turns = (struct conversation){0};
	if (m->system) {
		text_put(s->settings.value[SETTING_SYSTEM]);
		s->settings.value[SETTING_SYSTEM] = text_ref(m->system);
	}
	session_set_newest(s, NULL, 0);
	session_event(s, "replaced", NULL);
	session_poke(s, SESSION_CHAT_CHANGED);
	session_store_all(s);
	store_end(s->g->store);
}

/* r, own: of reading them. Takes what is in m. */
static int set_messages(struct session *s, struct messages *m, int r, struct err *own)
{
	r = r ? r : guard_messages(s, m, own);
	draft_end_cancelled(s);
	pthread_mutex_lock(&s->lock);
	r = r ? r : session_alive(s, own);
	r = r ? r : session_is_free(s, own);
	if (r == 0)
		replace(s, m);
	else
		session_set_note(s, own->text);
	pthread_mutex_unlock(&s->lock);
	if (r == 0)
		session_await_stored(s);
	if (r == 0 && m->system && !s->unlisted)
		gateway_tell_change(s->g, GATEWAY_CHANGE_SESSION, s->id, "system");
	messages_free(m);
	return r;
}

int session_messages_set(struct session *s, const char *json, size_t len, struct err *err)
{
	struct err own = {0};
	struct messages m = {.turns = {.next_serial = 1}};
	int r = gateway_accepts(s->g, &own);
	r = r ? r : messages_parse(&m, json, len, &own);
	r = set_messages(s, &m, r, &own);
	return r < 0 ? err_set(err, r, "%s", own.text) : 0;
}

/* Whoever reads messages.json has a ceiling for it; this is the ceiling here. */
static int check_length(
	struct session *s, const struct session_message *messages, size_t n, struct err *err)
{
	size_t left = s->g->options.max_prompt_bytes;
	for (size_t i = 0; i < n; i++) {
		if (messages[i].len > left)
			return err_set(err, -EMSGSIZE, "the conversation is longer than %u bytes",
				(unsigned)s->g->options.max_prompt_bytes);
		left -= messages[i].len;
	}
	return 0;
}

int session_turns_set(
	struct session *s, const struct session_message *messages, size_t n, struct err *err)
{
	struct err own = {0};
	struct messages m = {.turns = {.next_serial = 1}};
	int r = s->unlisted ? 0 : gateway_accepts(s->g, &own);
	r = r ? r : check_length(s, messages, n, &own);
	r = r ? r : messages_take(&m, messages, n, &own);
	if (r == 0 && m.system)
		r = settings_check(SETTING_SYSTEM, m.system->bytes, m.system->len, &own);
	r = r == -EFBIG ? -EMSGSIZE : r;
	r = set_messages(s, &m, r, &own);
	return r < 0 ? err_set(err, r, "%s", own.text) : 0;
}

bool session_messages_is_hopeless(const char *json, size_t len)
{
	return messages_is_hopeless(json, len);
}

void session_messages_unheard(struct session *s, uid_t uid, int code, const char *sentence)
{
	session_refuse(s, &(struct session_refusal){.id = request_next_id(s->g),
				  .uid = uid,
				  .code = code,
				  .sentence = sentence,
				  .messages = true});
}
