/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SECRETS_H
#define GATEWAY_SECRETS_H

/*
 * Keys of models: what is written to models/NAME/key. A value is the secret itself, or where it is:
 * "env:NAME" (a variable of the daemon) or "file:/PATH" (its first line; read again at each load).
 * Kept in the state directory, keys/NAME, mode 0600, written to a temporary name, synced, renamed;
 * never in TREE, the store, a log or a sentence. Memory that held one is wiped. API keys keep the
 * digests of their secrets the same way, in api_keys/NAME.
 *
 * Any thread. Setting does I/O on the state directory (as saving rules does on TREE): from a front
 * end's thread only.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

struct secrets;

/* new *out. dir (state_dir/keys, or api_keys) is made with mode 0700. */
int secrets_open(struct secrets **out, const char *dir, struct err *err);
struct secrets *secrets_free(struct secrets *s); /* accepts NULL, returns NULL */
/* Files on that device (the daemon's own mount) are not read. Before the first secrets_get. */
void secrets_forbid(struct secrets *s, dev_t device);

/* Whether secrets_set takes such a value; says what is allowed, never the value. 0 or -EINVAL. */
int secrets_check(const char *value, size_t len, struct err *err);
/* Whether a text without the end of its line can become no such value by more bytes: prefix.h. */
bool secrets_is_hopeless(const char *value, size_t len);
/* Printable ASCII, at most 4,096 bytes, one line; "" removes it. 0; -EINVAL with what is allowed
 * (never with the value); -EIO, -ENOSPC. */
int secrets_set(
	struct secrets *s, const char *name, const char *value, size_t len, struct err *err);
/* Whether there is one. */
bool secrets_has(struct secrets *s, const char *name);
/* new: malloc'ed array of malloc'ed names that have one, NULL-terminated; NULL when memory is out,
 * for one of them or for all. */
char **secrets_names(struct secrets *s);
/* Whether a text says where a secret is, and is none itself: "env:..." or "file:...". */
bool secrets_is_reference(const char *value, size_t len);
/* new *out: the secret itself, to be ended by secrets_wipe; NULL when there is none. -ENOENT,
 * -EACCES ...: the file or variable that it names is not there. may_read: a file: reference is read
 * here, so not on the loop and with no lock held; without it -EAGAIN says that one is to be. */
int secrets_get(struct secrets *s, const char *name, bool may_read, char **out, struct err *err);
/* Overwrites and frees. Accepts NULL, returns NULL. */
char *secrets_wipe(char *secret);

#endif
