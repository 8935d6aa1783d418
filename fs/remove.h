/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_REMOVE_H
#define FS_REMOVE_H

#include "fs/fs.h"

/* Requests that remove. */

void remove_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void remove_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);

#endif
