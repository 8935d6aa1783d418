/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_DIR_H
#define FS_DIR_H

#include "fs/fs.h"

/* Requests about names in directories. */

void dir_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void dir_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n);
void dir_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);

void dir_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void dir_op_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void dir_op_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void dir_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

#endif
