/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sessions/ID/in: one open is one draft of a prompt. Offsets are ignored (`>>` appends, and so does
 * everything else) and truncation means nothing. The gateway judges each write and remembers a
 * refusal; FLUSH comes once per closed descriptor and only says that more may follow; RELEASE, the
 * last close, submits. The user is who opened the file.
 */
#include "fs/handle.h"
#include "gateway/gateway_sessions.h"

#include <errno.h>

static int in_open(struct handle *h)
{
	if (!handle_writes(h))
		return 0;
	return draft_new(&h->draft, h->node.object->session, h->uid, NULL);
}

static int in_read(
	struct handle *h, uint64_t offset, size_t size, struct reply *out, struct wait *w)
{
	return 0;
}

static int in_write(struct handle *h, uint64_t offset, const char *bytes, size_t n)
{
	pthread_mutex_lock(&h->lock);
	h->written = true;
	int r = draft_write(h->draft, bytes, n, NULL);
	pthread_mutex_unlock(&h->lock);
	return r;
}

static int in_flush(struct handle *h)
{
	pthread_mutex_lock(&h->lock);
	/* Every redirection of a shell flushes once before the first write. */
	int r = h->written ? draft_flush(h->draft, NULL) : 0;
	pthread_mutex_unlock(&h->lock);
	return r;
}

static void in_release(struct handle *h)
{
	pthread_mutex_lock(&h->lock);
	h->draft = draft_commit(h->draft);
	pthread_mutex_unlock(&h->lock);
}

const struct file_ops in_ops = {
	.direct = true,
	.open = in_open,
	.read = in_read,
	.write = in_write,
	.flush = in_flush,
	.release = in_release,
};
