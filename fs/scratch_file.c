/* SPDX-License-Identifier: Apache-2.0 */
/* Files of editors: plain bytes in memory, cached by the kernel as any file's are. */
#include "fs/handle.h"
#include "fs/scratch.h"

#include <errno.h>

static int scratch_file_open(struct handle *h)
{
	return h->truncated ? scratch_truncate(h->node.object->scratch, 0) : 0;
}

static int scratch_file_read(
	struct handle *h, uint64_t offset, size_t size, struct reply *out, struct wait *w)
{
	if (size > SCRATCH_MAX_BYTES)
		size = SCRATCH_MAX_BYTES;
	if (!reply_room(out, size))
		return -ENOMEM;
	out->len = scratch_read(h->node.object->scratch, offset, out->data, size);
	return 0;
}

static int scratch_file_write(struct handle *h, uint64_t offset, const char *bytes, size_t n)
{
	int r = scratch_write(h->node.object->scratch, offset, bytes, n);
	return r < 0 ? r : 0;
}

static int scratch_file_truncate(
	struct fs *fs, const struct node *node, struct handle *h, uint64_t size)
{
	return scratch_truncate(node->object->scratch, size);
}

const struct file_ops scratch_file_ops = {
	.open = scratch_file_open,
	.read = scratch_file_read,
	.write = scratch_file_write,
	.truncate = scratch_file_truncate,
};
