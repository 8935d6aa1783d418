/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_FILE_H
#define FS_FILE_H

#include "fs/fs.h"

/* Requests about open files. */

void file_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void file_op_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void file_op_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
	struct fuse_file_info *fi);
void file_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void file_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void file_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void file_op_poll(
	fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph);
void file_op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t offset_in,
	struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t offset_out,
	struct fuse_file_info *fi_out, size_t size, int flags);

#endif
