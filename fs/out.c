/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sessions/ID/out: the answer to the request that is newest at the handle's first read or poll,
 * from any offset, by any number of readers. While a prompt is closed but not yet submitted the
 * session holds the reader back, so that nobody who wrote before sees the older answer.
 */
#include "fs/handle.h"
#include "fs/out.h"

#include <errno.h>

int out_bytes(struct answer *a, uint64_t offset, size_t size, struct reply *out, struct wait *w)
{
	for (;;) {
		bool ended;
		uint64_t there = answer_size(a, &ended);
		size_t room =
			there > offset && there - offset < size ? (size_t)(there - offset) : size;
		if (there <= offset && room > sizeof out->small)
			room = sizeof out->small;
		if (!reply_room(out, room))
			return -ENOMEM;
		int r = answer_read(a, offset, out->data, room, &out->len);
		if (r != 1)
			return r;
		out->len = 0;
		r = answer_wait(a, offset, w->wake, w->arg, &w->id);
		if (r < 0)
			return r;
		if (r == 0) {
			w->answer = answer_ref(a);
			return 1;
		}
	}
}

static void nobody(void *arg)
{
}

uint64_t out_size(struct session *s)
{
	struct answer *a = NULL;
	gateway_waiter id = 0;
	bool ended;
	if (session_newest(s, &a, nobody, NULL, &id) == 1)
		session_unwatch(s, id);
	uint64_t bytes = a ? answer_size(a, &ended) : 0;
	answer_put(a);
	return bytes;
}

/* The answer this handle belongs to, a reference; NULL when nothing was ever asked. 1: registered
 * to be told when that can be said. */
static int bound(struct handle *h, struct answer **out, struct wait *w)
{
	struct session *s = h->node.object->session;
	*out = NULL;
	pthread_mutex_lock(&h->lock);
	int r = 0;
	if (!h->answer) {
		r = session_newest(s, &h->answer, w->wake, w->arg, &w->id);
		if (r == 1)
			w->session = session_ref(s);
	}
	if (r == 0 && h->answer)
		*out = answer_ref(h->answer);
	pthread_mutex_unlock(&h->lock);
	return r;
}

static int out_read(
	struct handle *h, uint64_t offset, size_t size, struct reply *out, struct wait *w)
{
	struct answer *a;
	int r = bound(h, &a, w);
	if (r == 0 && a)
		r = out_bytes(a, offset, size, out, w);
	answer_put(a);
	return r;
}

static int out_ready(struct handle *h, struct wait *w)
{
	struct answer *a;
	int r = bound(h, &a, w);
	if (r == 1)
		return 0;
	if (r == 0 && a && answer_wait(a, h->position, w->wake, w->arg, &w->id) == 0) {
		w->answer = a;
		return 0;
	}
	answer_put(a);
	return 1;
}

const struct file_ops out_ops = {
	.direct = true,
	.read = out_read,
	.waits = true,
	.ready = out_ready,
};
