/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_NOTIFY_H
#define FS_NOTIFY_H

#include <stdint.h>

struct fs;
struct gateway_change;
struct notify;

/* Tells the kernel what it must forget. Calls below only queue and never wait, so any thread may
 * make them; when the queue is full an announcement is dropped, and the kernel's own time-out
 * (FS_CACHE_S) does its work a little later. */

/* new, with its thread. NULL when memory or threads are out. */
struct notify *notify_new(struct fs *fs);
/* Ends the thread. Call it while requests are still answered: an announcement may wait for the
 * kernel's lock of a directory. Calls after it do nothing. Accepts NULL. */
void notify_stop(struct notify *n);
/* Frees it; nobody may call it any more. Accepts NULL, returns NULL. */
struct notify *notify_free(struct notify *n);

/* Attributes and cached text of an inode (0 is ignored). */
void notify_inode(struct notify *n, uint64_t ino);
/* A name in a directory, and the attributes of that directory. */
void notify_entry(struct notify *n, uint64_t dir, const char *name);
/* What the gateway says has changed (its callback, with struct fs as arg). */
void notify_change(void *arg, const struct gateway_change *change);

#endif
