/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_OPS_H
#define FS_OPS_H

#include "fs/fs.h"

/* What libfuse calls; userdata is struct fs. */
extern const struct fuse_lowlevel_ops ops_all;

#endif
