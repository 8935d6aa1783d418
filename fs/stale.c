/* SPDX-License-Identifier: Apache-2.0 */
/* A mount without a daemon answers ENOTCONN to everything, and ECONNABORTED to what it was asked
 * while its daemon died; only what is mounted as fuse.llmfs is ours to remove. */
#include "fs/stale.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The type of what is mounted there last. */
static bool mounted_type(const char *mountpoint, char *type, size_t size)
{
	FILE *f = setmntent("/proc/self/mounts", "r");
	bool found = false;
	struct mntent entry;
	char line[8192];
	while (f && getmntent_r(f, &entry, line, sizeof line)) {
		if (strcmp(entry.mnt_dir, mountpoint) == 0) {
			snprintf(type, size, "%s", entry.mnt_type);
			found = true;
		}
	}
	if (f)
		endmntent(f);
	return found;
}

static int detach(const char *mountpoint)
{
	if (umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	char program[] = "fusermount3", unmount[] = "-uzq", end[] = "--", path[4096];
	snprintf(path, sizeof path, "%s", mountpoint);
	char *argv[] = {program, unmount, end, path, NULL};
	pid_t pid;
	int status, r = posix_spawnp(&pid, program, NULL, NULL, argv, environ);
	if (r != 0)
		return -r;
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

/* It is there and answers. */
static int check_free(const char *mountpoint, bool is_dir, struct err *err)
{
	char type[64];
	if (!is_dir)
		return err_set(err, -ENOTDIR, "mount point %s is not a directory", mountpoint);
	if (mounted_type(mountpoint, type, sizeof type) && strcmp(type, "fuse.llmfs") == 0)
		return err_set(err, -EBUSY,
			"mount point %s: llmfs is mounted there already; fusermount3 -u unmounts "
			"it",
			mountpoint);
	return 0;
}

int stale_clear(const char *mountpoint, struct err *err)
{
	/* Several may lie on top of one another, and one may be dying. */
	for (int i = 0; i < 64; i++) {
		struct statx st;
		char type[64];
		/* The kernel would still answer from its cache for a second. */
		if (statx(AT_FDCWD, mountpoint, AT_STATX_FORCE_SYNC, STATX_TYPE, &st) == 0)
			return check_free(mountpoint, S_ISDIR(st.stx_mode), err);
		if (errno == ECONNABORTED) {
			usleep(1000); /* it says ENOTCONN as soon as all of the daemon is gone */
			continue;
		}
		if (errno != ENOTCONN)
			return err_set(
				err, -errno, "mount point %s: %s", mountpoint, strerror(errno));
		if (!mounted_type(mountpoint, type, sizeof type) || strcmp(type, "fuse.llmfs") != 0)
			return err_set(err, -ENOTCONN,
				"mount point %s: a dead mount that is not of llmfs is in the way",
				mountpoint);
		int r = detach(mountpoint);
		if (r < 0)
			return err_set(err, r, "mount point %s: the dead mount there stays: %s",
				mountpoint, strerror(-r));
	}
	return err_set(err, -ENOTCONN, "mount point %s: too many dead mounts", mountpoint);
}
