/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_OWN_MOUNTS_H
#define TESTS_OWN_MOUNTS_H

/* For programs whose tests mount a small disk, at the head of main: what is mounted is theirs alone
 * and goes with them, also where a test fails before it unmounts. For others than root nothing. */
#include <sched.h>
#include <stddef.h>
#include <sys/mount.h>

static inline void own_mounts(void)
{
	if (unshare(CLONE_NEWNS) == 0)
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

#endif
