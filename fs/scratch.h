/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_SCRATCH_H
#define FS_SCRATCH_H

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/*
 * Memory behind files that editors make beside the one they edit: swap and backup files, temporary
 * files to be renamed over a setting. Also the temporary symlink of `ln -sfn`. Bounded, never
 * stored. Safe for any number of threads.
 */
struct scratch;

#define SCRATCH_MAX_BYTES ((size_t)1 << 20)  /* one file */
#define SCRATCH_MAX_TOTAL ((size_t)64 << 20) /* all of them */

/* new; mode with type (S_IFREG or S_IFLNK). NULL when memory is out. */
struct scratch *scratch_new(mode_t mode, uid_t uid, gid_t gid);
struct scratch *scratch_free(struct scratch *s); /* accepts NULL, returns NULL */

/* Reads as pread(2) does: the number of bytes, 0 at the end. */
size_t scratch_read(struct scratch *s, uint64_t offset, char *bytes, size_t size);
/* size or -EFBIG, -ENOSPC, -ENOMEM; a gap is filled with NULs. */
int scratch_write(struct scratch *s, uint64_t offset, const char *bytes, size_t size);
int scratch_truncate(struct scratch *s, uint64_t size);

/* Fills mode, owner, size and times. */
void scratch_stat(struct scratch *s, struct stat *out);
mode_t scratch_mode(struct scratch *s);
void scratch_chmod(struct scratch *s, mode_t mode);
void scratch_chown(struct scratch *s, uid_t uid, gid_t gid); /* (uid_t)-1: unchanged */
void scratch_utime(struct scratch *s, const struct timespec *mtime);

/* A name below TREE/guards (copied) under which what it was made of is kept; goes with it when it
 * is unlinked. -ENOMEM. */
int scratch_keep(struct scratch *s, const char *name);
/* Appends that name; nothing when there is none. */
int scratch_kept(struct scratch *s, struct buf *out);

#endif
