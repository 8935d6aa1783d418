/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The requests we answer. What is absent is absent on purpose: libfuse then says ENOSYS once and
 * the kernel does it alone or never asks again (access: default_permissions; extended attributes:
 * there are none; locks: the kernel's; SEEK_HOLE; ioctl). poll is here for all files, because
 * ENOSYS for one of them would end it for the whole mount.
 */
#include "fs/ops.h"

#include "fs/attr.h"
#include "fs/change.h"
#include "fs/remove.h"
#include "fs/dir.h"
#include "fs/file.h"
#include "fs/tree.h"

#include <string.h>
#include <sys/statvfs.h>

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	/* Writes are judged one by one, and nothing is ever written later than asked. */
	conn->want &= ~(unsigned)FUSE_CAP_WRITEBACK_CACHE;
	conn->want |= conn->capable & (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_PARALLEL_DIROPS);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct statvfs st;
	memset(&st, 0, sizeof st);
	/* Room is the room of the disk below. */
	if (statvfs(tree_path(fs->tree), &st) < 0)
		st.f_bsize = st.f_frsize = 4096;
	st.f_namemax = FS_NAME_MAX;
	fuse_reply_statfs(req, &st);
}

const struct fuse_lowlevel_ops ops_all = {
	.init = op_init,
	.lookup = dir_op_lookup,
	.forget = dir_op_forget,
	.forget_multi = dir_op_forget_multi,
	.getattr = attr_op_getattr,
	.setattr = attr_op_setattr,
	.readlink = change_op_readlink,
	.mknod = change_op_mknod,
	.mkdir = change_op_mkdir,
	.unlink = remove_op_unlink,
	.rmdir = remove_op_rmdir,
	.symlink = change_op_symlink,
	.rename = change_op_rename,
	.link = change_op_link,
	.create = change_op_create,
	.open = file_op_open,
	.read = file_op_read,
	.write = file_op_write,
	.flush = file_op_flush,
	.fsync = file_op_fsync,
	.release = file_op_release,
	.poll = file_op_poll,
	.copy_file_range = file_op_copy_file_range,
	.opendir = dir_op_opendir,
	.readdir = dir_op_readdir,
	.readdirplus = dir_op_readdirplus,
	.releasedir = dir_op_releasedir,
	.statfs = op_statfs,
};
