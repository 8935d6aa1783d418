/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_AGAIN_H
#define FS_AGAIN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Notes that a process unlinks a file. Returns whether it has done so AGAIN_MOST times before, each
 * within a second of the next, and nobody has opened the file since. With very many of them at once
 * it may be later, but it is for each in the end. Any thread.
 */
#define AGAIN_MOST 8
bool again_unlinked(pid_t pid, uint64_t ino);
/* The file is opened: whoever unlinks it then does so for a reason. */
void again_opened(uint64_t ino);

/* The process was refused to unlink a file of that directory. */
void again_refused(pid_t pid, uint64_t dir);
/* Whether it was, or was told this, within a second: it is at all of them, one after another. */
bool again_goes_on(pid_t pid, uint64_t dir);

#endif
