/* SPDX-License-Identifier: Apache-2.0 */
/*
 * models/NAME/ask and embed, guards/test, router/explain, cache/lookup: write a text, read its
 * answer, again and again. The first read
 * (or poll) after writes submits what was written; that answer is read from its start to its end,
 * whatever offsets the kernel counts. Nothing of it outlives the handle; with the handle goes what
 * still runs.
 */
#include "fs/handle.h"
#include "fs/out.h"
#include "gateway/gateway_models.h"
#include "gateway/gateway_sessions.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* Under the lock: makes what a first write needs. */
static int prepare(struct handle *h)
{
	struct gateway *g = h->fs->gateway;
	int r = 0;
	bool of_model = h->node.object->kind == OBJECT_MODEL;
	if (!h->private)
		r = gateway_channel_open(g, (enum gateway_channel)h->node.row->view,
			of_model ? model_name(h->node.object->model) : NULL, h->uid, &h->private,
			NULL);
	if (r == 0 && !h->draft)
		r = draft_new(&h->draft, h->private, h->uid, NULL);
	return r;
}

static int channel_write(struct handle *h, uint64_t offset, const char *bytes, size_t n)
{
	pthread_mutex_lock(&h->lock);
	int r = prepare(h);
	if (r == 0) {
		h->written = true;
		r = draft_write(h->draft, bytes, n, NULL);
	}
	/* Nobody else can read its answer. It is said here, where a shell hears it; the draft is
	 * kept for the sentence, which its end leaves. */
	if (r >= 0 && (h->flags & O_ACCMODE) == O_WRONLY)
		r = -EINVAL;
	pthread_mutex_unlock(&h->lock);
	return r;
}

/* Under the lock: after writes, submits them. 0; 1: registered to be told when the answer can be
 * named; -errno. */
static int submit(struct handle *h, struct wait *w)
{
	if (h->written) {
		h->written = false;
		h->answer = answer_put(h->answer);
		h->base = 0;
		h->dirty = true;
		int r = draft_submit(h->draft, NULL);
		if (r != 0) {
			h->dirty = false;
			return r < 0 ? r : 0;
		}
	}
	if (!h->dirty)
		return 0;
	int r = session_newest(h->private, &h->answer, w->wake, w->arg, &w->id);
	if (r == 1)
		w->session = session_ref(h->private);
	else
		h->dirty = false;
	return r;
}

static int channel_read(
	struct handle *h, uint64_t offset, size_t size, struct reply *out, struct wait *w)
{
	pthread_mutex_lock(&h->lock);
	int r = h->poison ? h->poison : submit(h, w);
	h->poison = 0;
	if (r == 0 && h->answer) {
		r = out_bytes(h->answer, h->base, size, out, w);
		if (r == 0)
			h->base += out->len;
	}
	pthread_mutex_unlock(&h->lock);
	return r;
}

static int channel_ready(struct handle *h, struct wait *w)
{
	pthread_mutex_lock(&h->lock);
	int r = submit(h, w);
	bool ready = r != 1;
	if (r < 0)
		h->poison = r; /* the read says it */
	else if (r == 0 && h->answer)
		ready = out_answer_ready(h->answer, h->base, w) == 1;
	pthread_mutex_unlock(&h->lock);
	return ready ? 1 : 0;
}

static void channel_release(struct handle *h)
{
	pthread_mutex_lock(&h->lock);
	h->draft = draft_drop(h->draft);
	if (h->private)
		session_ctl(h->private, h->uid, h->gid, "cancel", strlen("cancel"), NULL);
	pthread_mutex_unlock(&h->lock);
}

const struct file_ops channel_ops = {
	.direct = true,
	.read = channel_read,
	.waits = true,
	.ready = channel_ready,
	.write = channel_write,
	.release = channel_release,
};
