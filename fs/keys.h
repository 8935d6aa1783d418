/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_KEYS_H
#define FS_KEYS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct collection;
struct fs;
struct model;

/*
 * Keys of models: secrets that are written to the mount's models/NAME/key and never come back, and
 * references to secrets ("env:NAME", "file:PATH"), which may also be in TREE's.
 */

/*
 * What is written to the mount: the key of that model from now on, "" removes it. A reference that
 * TREE has goes; none ever comes there. 0 or -errno, and nothing changed; -ENOENT: the model has
 * gone meanwhile. Does I/O.
 */
int keys_set(struct fs *fs, struct model *m, const char *value, size_t len, struct err *err);

/* One of a collection with secrets is being made in the mount, in its turn: the secret that one of
 * its name before it has left goes. 0 or -errno, and it stays. */
int keys_new_one(struct fs *fs, const struct collection *c, const char *name, struct err *err);

/*
 * It is removed, in its turn, and its secret with it: of who removed it in the mount. As
 * sync_pass_remove; -ENOENT: a pass has removed it already, and the secret is gone now.
 */
int keys_remove_one(struct fs *fs, const struct collection *c, const char *name, struct err *err);

/*
 * One pass: references that TREE has are set, one that it no longer has is removed. Anything else
 * that is found there is reported, never with its text, and the key before stays in force. Secrets
 * of what has gone are looked after (keys_seen.h). True: another pass is due soon. Called by one
 * thread at a time.
 */
bool keys_pass(struct fs *fs);

#endif
