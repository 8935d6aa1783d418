/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_ATTR_H
#define FS_ATTR_H

#include "fs/fs.h"
#include "fs/node.h"

#include <sys/stat.h>

/* What stat(2) says of a node: exact sizes, the owner's uid, honest times. asker: who wants to
 * know, see view_render. */
void attr_stat(struct fs *fs, const struct node *node, uid_t asker, struct stat *out);

/* How long the kernel may keep that, and the name. */
double attr_timeout(const struct table_row *row);
double attr_entry_timeout(const struct table_row *row);

/* The reply to a look-up. */
void attr_entry(struct fs *fs, const struct node *node, uid_t asker, struct fuse_entry_param *out);

void attr_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void attr_op_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi);

#endif
