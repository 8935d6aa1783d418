/* SPDX-License-Identifier: Apache-2.0 */
#include "base/local_fs.h"

#include <linux/magic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/vfs.h>

enum { BCACHEFS = 0xca451a4e, ZFS = 0x2fc12fc1 }; /* not in linux/magic.h everywhere */

bool local_fs_has(int fd)
{
	static const uint32_t kinds[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
		F2FS_SUPER_MAGIC, TMPFS_MAGIC, OVERLAYFS_SUPER_MAGIC, BCACHEFS, ZFS};
	struct statfs about;
	bool is = false;

	if (fstatfs(fd, &about) < 0)
		return false;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		is |= (uint32_t)about.f_type == kinds[i];
	return is;
}
