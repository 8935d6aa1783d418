/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_SYNC_H
#define FS_SYNC_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct collection;
struct fs;

/*
 * One pass. Brings the gateway in line with TREE: what is there appears, what is not goes, changed
 * settings and rules are set. A setting that is refused is reported (`status`, the log) and the old
 * one stays in force. deleted is guards_pass's (guards.h). True: another pass is due soon. One
 * thread at a time.
 */
bool sync_all(struct fs *fs, char *const *deleted);

/*
 * Changes that come through the mount: to TREE and to the gateway, for passes and for one another
 * at once (turn.h). They do I/O on TREE. Each returns 0 or -errno.
 */
int sync_make(struct fs *fs, const struct collection *c, const char *name, struct err *err);
int sync_remove(struct fs *fs, const struct collection *c, const char *name, struct err *err);
/* Whether models/default points to the model of that name. */
bool sync_is_default(struct fs *fs, const char *name);
/* NULL removes it. -EINVAL: not a bare name; or it is known that this model answers no prompts, and
 * its `error` says so. */
int sync_default_set(struct fs *fs, const char *name, struct err *err);
/* value without the trailing newline; "" resets. */
int sync_setting_set(struct fs *fs, const struct collection *c, const char *name, const char *file,
	const char *value, size_t len, struct err *err);

#endif
