/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GATEWAY_MODELS_H
#define GATEWAY_GATEWAY_MODELS_H

/* The door of the gateway: models. */

#include "gateway/gateway.h"

struct model; /* reference counted (the gateway's notion: a name, its settings, its state) */

/* Names: [A-Za-z0-9._-]{1,64}, not "." or "..", not "default"; -EEXIST. `auto` and `cascade` are
 * the router's, always there, and have no settings: they can be found, asked and rendered, and
 * `default` may point to them, but not be made or removed (-EEXIST; -EPERM). */
int gateway_model_create(struct gateway *g, const char *name, struct err *err);
/* Whether gateway_model_create takes such a name; says why not. */
int model_name_check(const char *name, struct err *err);
/* Unloads it; running requests end with -ECANCELED. Its key stays for when it is made again.
 * -ENOENT; -EBUSY while `default` points to it. */
int gateway_model_remove(struct gateway *g, const char *name, struct err *err);
/* The key of the model of that name goes, whether the model is there or has gone. Does I/O. 0;
 * -EIO, -ENOSPC. */
int gateway_model_key_forget(struct gateway *g, const char *name, struct err *err);
/* Whether the model of that name has a key, whether it is there or has gone. */
bool gateway_model_has_key(struct gateway *g, const char *name);
/* new reference, or NULL. "default" is resolved. */
struct model *gateway_model_find(struct gateway *g, const char *name);
struct model *model_ref(struct model *m);
struct model *model_put(struct model *m); /* accepts NULL, returns NULL */
const char *model_name(const struct model *m);
/* new: malloc'ed array of malloc'ed names, sorted; NULL-terminated. NULL when memory is out. */
char **gateway_model_names(struct gateway *g);

/* The sibling that `default` points to; NULL removes the link. A name that does not exist (yet) is
 * taken, as symlinks do. -EINVAL: not a bare name. gateway_default appends the name (nothing when
 * there is none). */
int gateway_default_set(struct gateway *g, const char *name, struct err *err);
/* Whether a person should be let: -EINVAL, with the reason, when it is known that the model of that
 * name does not answer prompts. What TREE says is set all the same, and then in `status`. */
int gateway_default_check(struct gateway *g, const char *name, struct err *err);
int gateway_default(struct gateway *g, struct buf *name);

/* Whether it is one of the router's, `auto` or `cascade`. */
bool model_is_virtual(const struct model *m);

/* Settings of a model, by file name; the table is gateway/model_settings.h's. "path" and "ca_file"
 * are already absolute: the front end knows TREE. A change of what a model is made from (its path,
 * its endpoints ...) takes effect with the next request of an upstream, at the next load of a local
 * one; of the rest with the next request. value without the trailing newline; "" resets. -EINVAL
 * with what is allowed; -ENOENT: no such setting; -EPERM: a virtual model. */
const char *const *model_setting_names(void); /* ends with NULL */
int model_setting_check(const char *file, const char *value, size_t len, struct err *err);
bool model_setting_is_hopeless(const char *file, const char *value, size_t len);
/*
 * What a model of such settings could do, as far as that is known without loading or asking it, for
 * `llmfs --check`. get appends the value that a file has (paths absolute; nothing where there is
 * none); 0 or -errno. Of a local model's file all but the weights is read. 0; what is wrong with
 * that file, as its loading would say: -ENOENT ..., -EINVAL, -EBADMSG, -ENOTSUP.
 */
struct model_powers {
	bool answers, embeds; /* both: nobody knows */
	bool chats;           /* it may answer who did not name it */
	bool is_set;          /* it has a path or an endpoint */
};
int model_powers(int (*get)(void *arg, const char *file, struct buf *out), void *arg,
	struct model_powers *out, struct err *err);
int model_setting_set(
	struct model *m, const char *file, const char *value, size_t len, struct err *err);
int model_setting_get(
	struct model *m, const char *file, struct buf *out); /* appends the value, no newline */

/*
 * The model's key, a secret: it can be written and never be read (gateway/secrets.h has the forms:
 * the secret, "env:NAME", "file:/PATH"). Not a setting: it is kept in the state directory, and TREE
 * knows nothing of it, but that a front end may find a reference ("env:..." or "file:...", no
 * secret) in TREE and set it here. "" removes it. In force with the next request. Does I/O.
 * -EINVAL, -EPERM, -EIO, -ENOSPC.
 */
int model_key_set(struct model *m, const char *value, size_t len, struct err *err);
/* Whether it could be set; says why not, and sets nothing. 0 or -EINVAL. */
int model_key_check(const char *value, size_t len, struct err *err);
bool model_key_is_hopeless(const char *value, size_t len); /* as session_setting_is_hopeless */
/* Whether a text is a reference and no secret. */
bool model_key_is_reference(const char *value, size_t len);

/* "load", "unload" (what runs on it ends with -ECANCELED; the next request loads it again), "reset"
 * (of a failed one: unloaded): begins it; progress and failure are in the state. Nothing is loaded
 * by itself but by requests: a front end that wants `default` loaded at its start says so here.
 * -EINVAL with the verbs; -ENOENT: has no path. */
int model_ctl(struct model *m, const char *line, size_t len, struct err *err);
bool model_ctl_is_hopeless(const char *line, size_t len); /* as session_setting_is_hopeless */

enum model_view {
	MODEL_STATE,   /* "unset: sentence" (neither path nor endpoint), "unloaded",
			  "loading 43%", "ready", "failed: sentence"; of upstreams
			  "ready", "open", "half-open", "failed: sentence" (where its key is said
			  to be there is none); of virtual ones "ready" or why not */
	MODEL_INFO,    /* JSON object */
	MODEL_METRICS, /* Prometheus text */
};
int model_render(struct model *m, enum model_view view, struct buf *out);
/* Why the last that this user asked through a channel of the model (GATEWAY_ASK, GATEWAY_EMBED) has
 * failed: appends "ask: sentence\n"; nothing when it went well or there was none. Of nobody else.
 * *changed_ns (may be NULL): CLOCK_REALTIME of its end, or 0. */
int model_ask_error(struct model *m, uid_t uid, struct buf *out, uint64_t *changed_ns);

#endif
