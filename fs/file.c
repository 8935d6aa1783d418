/* SPDX-License-Identifier: Apache-2.0 */
/* From libfuse's requests to the operations of a kind. */
#include "fs/file.h"

#include "fs/again.h"
#include "fs/handle.h"
#include "fs/park.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

void file_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	const struct fuse_ctx *who = fuse_req_ctx(req);
	struct node node;
	struct handle *h = NULL;
	int r = node_of_ino(fs->nodes, ino, &node);
	if (r == 0) {
		r = handle_open(&h, fs, &node, fi->flags, who->uid, who->gid);
		if (r == 0 && (fi->flags & O_ACCMODE) != O_RDONLY)
			again_written(ino);
		node_put(fs->nodes, &node);
	}
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	h->pid = who->pid;
	fi->fh = (uintptr_t)h;
	fi->direct_io = h->ops->direct;
	fi->noflush = !handle_writes(h);
	if (fuse_reply_open(req, fi) < 0)
		handle_put(h);
}

void file_op_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	if (h->ops->waits) {
		park_read(h, req, (uint64_t)offset, size, (fi->flags & O_NONBLOCK) != 0);
		return;
	}
	struct reply reply;
	reply.data = NULL;
	reply.len = 0;
	int r = h->ops->read(h, (uint64_t)offset, size, &reply, NULL);
	if (r < 0) {
		fuse_reply_err(req, -r);
	} else {
		h->position = (uint64_t)offset + reply.len;
		fuse_reply_buf(req, reply.data, reply.len);
	}
	reply_end(&reply);
}

void file_op_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
	struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	int r = h->ops->write ? h->ops->write(h, (uint64_t)offset, bytes, size) : -EBADF;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_write(req, size);
}

/* Whether the close is that of another process than the one that opened the file, while that one is
 * still there to close it as well. What cannot be found out is the opener's own. */
static bool is_heir(const struct handle *h, pid_t pid)
{
	char path[64];
	if (pid == h->pid || pid <= 0 || h->pid <= 0)
		return false;
	snprintf(path, sizeof path, "/proc/%d", (int)h->pid);
	if (access(path, F_OK) < 0)
		return false;
	snprintf(path, sizeof path, "/proc/%d/task/%d", (int)h->pid, (int)pid);
	return access(path, F_OK) < 0;
}

void file_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	int (*flush)(struct handle *) = h->ops->flush;
	if (h->ops->flush_heir && is_heir(h, fuse_req_ctx(req)->pid))
		flush = h->ops->flush_heir;
	int r = handle_writes(h) && flush ? flush(h) : 0;
	fuse_reply_err(req, -r);
}

void file_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	int r = handle_writes(h) && h->ops->fsync ? h->ops->fsync(h) : 0;
	fuse_reply_err(req, -r);
}

void file_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	park_forget_poll(h);
	if (h->ops->release && (handle_writes(h)))
		h->ops->release(h);
	handle_put(h);
	fuse_reply_err(req, 0);
}

void file_op_poll(
	fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
	park_poll(handle_of(fi), req, ph, fi->poll_events);
}

/* Tools fall back to reading and writing. Any other answer would have the kernel copy through its
 * page cache, which ends with the first token. */
void file_op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t offset_in,
	struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t offset_out,
	struct fuse_file_info *fi_out, size_t size, int flags)
{
	fuse_reply_err(req, EINVAL);
}
