/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LOCAL_FS_H
#define BASE_LOCAL_FS_H

#include <stdbool.h>

/* Whether the file lies on a file system of which it is known that nobody but this machine's disks
 * or memory is asked for its pages and attributes: of others (NFS, SMB, FUSE) even fstat(2) may
 * wait for ever. False also when it cannot be told. */
bool local_fs_has(int fd);

#endif
