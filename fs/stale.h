/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_STALE_H
#define FS_STALE_H

#include "base/err.h"

#include <sys/types.h>

/* Removes what a daemon that was killed has left at that path ("Transport endpoint is not
 * connected"), if it was one of ours. 0: the way is free. -EBUSY: a living one is there, and
 * another on top of it would hide it. */
int stale_clear(const char *mountpoint, struct err *err);

#endif
