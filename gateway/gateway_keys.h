/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GATEWAY_KEYS_H
#define GATEWAY_GATEWAY_KEYS_H

/* The door of the gateway: API keys, keys/NAME. Who shows one over HTTP asks as its user. */

#include "gateway/gateway.h"

struct api_key; /* reference counted */

/* Names as sessions'. It has no user yet, and lets nobody in; its secret and its last use are those
 * of one of that name that was removed, also before a restart, and is not forgotten. -EEXIST,
 * -EINVAL, -ENAMETOOLONG. */
int gateway_api_key_create(struct gateway *g, const char *name, struct err *err);
/* It lets nobody in from now on. -ENOENT. */
int gateway_api_key_remove(struct gateway *g, const char *name, struct err *err);
/* Of one that was removed: its secret is forgotten, and the next of that name is another one. Does
 * I/O. 0, also where there is none; -EIO, -ENOSPC: to be tried again; it has no secret any more,
 * but a daemon that starts before that finds it. */
int gateway_api_key_forget(struct gateway *g, const char *name, struct err *err);
/* Those that were removed and are not forgotten: whether that is one; all, new, as
 * gateway_session_names. */
bool gateway_api_key_has_left(struct gateway *g, const char *name);
char **gateway_api_key_names_left(struct gateway *g);
struct api_key *gateway_api_key_find(struct gateway *g, const char *name); /* new or NULL */
struct api_key *api_key_ref(struct api_key *k);
struct api_key *api_key_put(struct api_key *k); /* accepts NULL, returns NULL */
const char *api_key_name(const struct api_key *k);
char **gateway_api_key_names(struct gateway *g); /* as gateway_session_names */

/*
 * Settings, by file name: user (a name of the system's user database, or a uid in digits; who pays
 * and whose the requests are; without one the key lets nobody in), scopes (words with spaces: chat
 * completions embeddings models, and model:NAME for models it may name, several of them; "" is all
 * of everything; with scopes but no model:NAME all models), expires (a day, 2026-12-31, at whose
 * end in UTC it is over, or an instant 2026-12-31T18:00:00Z; "" never). Not kept over a restart, as
 * accounts'. -EINVAL with what is allowed; -ENOENT: no such setting.
 */
const char *const *api_key_setting_names(void); /* ends with NULL */
int api_key_setting_check(const char *file, const char *value, size_t len, struct err *err);
bool api_key_setting_is_hopeless(const char *file, const char *value, size_t len);
int api_key_setting_set(
	struct api_key *k, const char *file, const char *value, size_t len, struct err *err);
/* What the file of a setting holds is no value: the key lets nobody in until it is set again. */
void api_key_setting_fail(struct api_key *k, const char *file);
int api_key_setting_get(struct api_key *k, const char *file, struct buf *out);

/*
 * One verb: "new" (a new secret, which replaces the one before; only its digest is kept, in the
 * state directory, and is there before this returns), "revoke" (there is none any more). secret
 * gets that of "new", a line without its newline, and is emptied by "revoke": the caller wipes it.
 * It is told nowhere else and never again; secret NULL: nobody could read it, and "new" is refused
 * with -EINVAL and how it is done. Does I/O. -EINVAL with the verbs; -EIO, -ENOSPC.
 */
#define API_KEY_SECRET 64
int api_key_ctl(struct api_key *k, const char *line, size_t len, char secret[API_KEY_SECRET],
	struct err *err);
/* reads: api_key_ctl is given where the secret goes. Without, "new" itself is hopeless. */
bool api_key_ctl_is_hopeless(const char *line, size_t len, bool reads);
/* Whoever was to read that secret has gone without: nobody knows it. 0: it is revoked; 1: it was
 * the key's no longer. Does I/O. -ENOENT: the key is gone; -EIO, -ENOSPC. */
int api_key_unread(struct api_key *k, const char *secret, struct err *err);

enum api_key_view {
	API_KEY_LAST_USED, /* 2026-11-27T03:12:00Z, to the minute, or nothing. Survives a restart */
	API_KEY_STATE,     /* "ready", "no secret", "no user", "expired", "broken: FILE" */
};
int api_key_render(struct api_key *k, enum api_key_view view, struct buf *out);

/* ---- for who is shown one ---- */

enum api_scope { API_CHAT = 1, API_COMPLETIONS = 2, API_EMBEDDINGS = 4, API_MODELS = 8 };

/* Whoever shows this secret: 0, a new reference in *out, whose use is noted, and *uid; -EACCES: no
 * key has that secret, or it lets nobody in (the sentence says which of these only to who has the
 * secret: revoked and unknown are the same). Takes the same time for all that are unknown. Any
 * thread, waits for nothing, a few microseconds. */
int gateway_api_key_check(struct gateway *g, const char *secret, size_t len, struct api_key **out,
	uid_t *uid, struct err *err);
/* Whether the key may do that (one bit), and name that model (NULL: no model is named). 0; -EPERM
 * with what it may. */
int api_key_allows(struct api_key *k, enum api_scope what, const char *model, struct err *err);

#endif
