/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_AGAIN_H
#define FS_AGAIN_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * What a program has just unlinked, of files that are there all the same. `pid` is the thread's, as
 * the kernel counts for us; 0: not known, and nothing is noted of it. Any thread.
 */

/* Texts that are kept are together no more than this; what does not fit is not kept. */
#define AGAIN_MOST_BYTES ((size_t)4 << 20)

/* The thread has unlinked the file. Steals *before, what stood in it, and zeroes it; NULL: nothing
 * that could come back. With very many at once a thread may not be noted. */
void again_unlinked(pid_t pid, uint64_t ino, struct buf *before);
/* Whether that was less than a second ago, and the thread has not made the file anew since: to it
 * the file is not there. */
bool again_is_gone(pid_t pid, uint64_t ino);
/* Whether so, and now the thread does make it anew. *before (zeroed by the caller): what stood in
 * it; the caller's. */
bool again_made(pid_t pid, uint64_t ino, struct buf *before);
/* Those of these numbers have really gone, and stand for nothing any more. */
void again_forget(uint64_t first, uint64_t last);
/* Somebody writes it, or has put another file in its place: it is there to all, as any other file
 * would be. */
void again_written(uint64_t ino);
/* Whether it is gone to some thread: the kernel is to ask for it each time. */
bool again_is_gone_to_any(uint64_t ino);

/* A number, beside those of inodes, for a file that has really gone: by its name. */
uint64_t again_name(const char *file);

/* The process was refused to unlink a file of that directory. */
void again_refused(pid_t pid, uint64_t dir);
/* Whether it was, or was told this, within a second: it is at all of them, one after another. */
bool again_goes_on(pid_t pid, uint64_t dir);

#endif
