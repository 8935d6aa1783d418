/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_API_KEYS_H
#define GATEWAY_API_KEYS_H

/* The API keys of a gateway: by name, by the digest of their secrets, and what of them is kept in
 * the state directory. gateway_keys.h is the door to them. */

#include <stdatomic.h>

#include "gateway/api_grant.h"
#include "gateway/api_secret.h"
#include "gateway/gateway_keys.h"
#include "gateway/table.h"
#include "gateway/text.h"

struct api_keys;

/* More there are not. */
#define API_KEYS_MAX 10000

struct api_key {
	/* never changes */
	struct gateway *g; /* a reference */
	char name[TEXT_NAME_SIZE];

	atomic_uint refs;

	/* under the lock of the keys */
	struct api_grant grant;
	bool listed; /* it is the one of its name */
	bool has_secret;
	struct api_digest digest;
	struct api_key *next; /* of those whose digests begin alike */
	int64_t used_min;     /* since 1970; 0: never */
};

/* new *out. dir is made; those that it, or the store, knows of an earlier time are as if they were
 * removed since: a front end says which of them there are still. Before the first write to the
 * store. */
int api_keys_open(struct api_keys **out, struct gateway *g, const char *dir, struct err *err);
/* None is listed any more; nothing is written from now on. Accepts NULL. */
void api_keys_close(struct api_keys *keys);
struct api_keys *api_keys_free(struct api_keys *keys); /* accepts NULL, returns NULL */

void api_keys_lock(struct api_keys *keys);
void api_keys_unlock(struct api_keys *keys);

/* As the functions of the door. */
int api_keys_create(struct api_keys *keys, const char *name, struct err *err);
int api_keys_remove(struct api_keys *keys, const char *name, struct err *err);
bool api_keys_has_left(struct api_keys *keys, const char *name);
char **api_keys_names_left(struct api_keys *keys);
int api_keys_forget(struct api_keys *keys, const char *name, struct err *err);
struct api_key *api_keys_find(struct api_keys *keys, const char *name);
char **api_keys_names(struct api_keys *keys);

/* Of one that is listed, else -ENOENT. They do I/O. A secret that is revoked is out of force from
 * the beginning of the call on, whatever comes of it. */
int api_keys_new_secret(
	struct api_keys *keys, struct api_key *k, char secret[API_KEY_SECRET], struct err *err);
/* only: if that is its secret still, or else 1; NULL: whichever it is. */
int api_keys_revoke(struct api_keys *keys, struct api_key *k, const char *only, struct err *err);

/* Under the lock. borrows: the listed one that has that secret, or NULL. */
struct api_key *api_keys_shown(struct api_keys *keys, const struct api_digest *digest);
/* Under the lock: it was used, in that minute. Written behind, at most once a minute. */
void api_keys_note_use(struct api_keys *keys, struct api_key *k, int64_t now_min);

#endif
