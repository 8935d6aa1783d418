/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_SYNC_H
#define FS_SYNC_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct fs;
struct sync;

/* Brings the gateway's models in line with TREE: what is there appears, what is not goes, changed
 * settings are set. A setting that is refused is reported (`status`, the log) and the old one stays
 * in force. */
void sync_all(struct fs *fs);

/* new: a thread that does sync_all whenever TREE changes. NULL when memory or threads are out;
 * without inotify it only serves sync_wake. */
struct sync *sync_new(struct fs *fs);
struct sync *sync_free(struct sync *s); /* ends it; accepts NULL, returns NULL */
/* Reread everything soon (SIGHUP). Any thread. */
void sync_wake(struct sync *s);

/*
 * Changes that come through the mount: TREE first, then the gateway, so that a reread at any moment
 * agrees. Each returns 0 or -errno.
 */
int sync_model_make(struct fs *fs, const char *name, struct err *err);
int sync_model_remove(struct fs *fs, const char *name, struct err *err);
int sync_default_set(struct fs *fs, const char *name, struct err *err); /* NULL removes it */
/* value without the trailing newline; "" resets. */
int sync_setting_set(struct fs *fs, const char *model, const char *file, const char *value,
	size_t len, struct err *err);

#endif
