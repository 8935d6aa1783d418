/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_STATE_DIR_H
#define GATEWAY_STATE_DIR_H

/* The state directory: one daemon's at a time. */

#include "base/err.h"

struct state_dir {
	char *path;  /* NULL: not open */
	int lock_fd; /* with path only */
};

/* Makes it, with mode 0700, when it is missing, and locks it. -EBUSY with the other daemon's pid;
 * -ENOTDIR, -EACCES, -EIO, -ENOSPC ...: it cannot be used. state_dir_close in any case. */
int state_dir_open(struct state_dir *d, const char *path, struct err *err);
/* Unlocks it. Accepts a zeroed one; zeroes it. */
void state_dir_close(struct state_dir *d);
/* What the kernel says of a small write in it: 0, -ENOSPC or -EIO. */
int state_dir_probe(const struct state_dir *d);

#endif
