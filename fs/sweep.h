/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_SWEEP_H
#define FS_SWEEP_H

struct fs;
struct sweep;

/* new: a thread that does sync_all whenever TREE changes. NULL when memory or threads are out;
 * without inotify it only serves sweep_wake. */
struct sweep *sweep_new(struct fs *fs);
struct sweep *sweep_free(struct sweep *s); /* ends it; accepts NULL, returns NULL */
/* Reread everything soon (SIGHUP). Any thread. */
void sweep_wake(struct sweep *s);

#endif
