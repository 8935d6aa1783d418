/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_CHANGE_H
#define FS_CHANGE_H

#include "fs/fs.h"

/* Requests that make and rename. */

void change_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void change_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	struct fuse_file_info *fi);
void change_op_mknod(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device);
void change_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void change_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void change_op_readlink(fuse_req_t req, fuse_ino_t ino);
void change_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned flags);

#endif
