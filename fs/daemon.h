/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_DAEMON_H
#define FS_DAEMON_H

#include "base/err.h"

/*
 * Going to the background without losing the verdict: the parent waits until the child says how its
 * start went, prints the sentence if it failed, and exits with that status.
 */

/* Forks. Returns in the child only: a descriptor for daemon_ready, or -errno in the one process
 * when that fails. Call it before any thread is started. */
int daemon_begin(void);

/* The start is over: result 0, or -errno with *err. Lets go of the terminal when it succeeded. */
void daemon_ready(int fd, int result, const struct err *err);

/* As many descriptors as this process may have: each connection to a server takes one. Nothing
 * changes where that cannot be. */
void daemon_raise_files(void);

#endif
