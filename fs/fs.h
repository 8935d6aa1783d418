/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_FS_H
#define FS_FS_H

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct faults;
struct gateway;
struct nodes;
struct notify;
struct shim;
struct sweep;
struct tree;

/* What every handler needs: one per mount, made by mount.c, unchanged while `serving`. */
struct fs {
	struct gateway *gateway;
	struct tree *tree;
	struct nodes *nodes;
	struct notify *notify;
	_Atomic(struct shim *) shim; /* the HTTP front end; NULL: there is none */
	struct faults *faults;       /* may be NULL: nothing is noted */
	struct sweep *sweep;         /* may be NULL: there are no passes but the first */
	struct fuse_session *session;
	uid_t uid;
	gid_t gid;
	_Atomic bool serving; /* mounted; set once all of the above is there */
	/* During the first pass over TREE: what it finds wrong is not logged one by one, but with
	 * all that `status` has, by mount.c. */
	bool starting;
};

static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* How long the kernel may keep what changes only by being written: every change is also announced
 * (notify.h), so this only bounds the harm of a lost announcement. Live files: 0. */
#define FS_CACHE_S 1.0

/* Longest name of a file. */
#define FS_NAME_MAX 255

#endif
