/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sessions/ID/out: the answer to the request that is newest at the handle's first read or poll,
 * from any offset, by any number of readers. While a prompt is closed but not yet submitted the
 * session holds the reader back, so that nobody who wrote before sees the older answer.
 */
#include "fs/handle.h"
#include "fs/out.h"
#include "gateway/gateway_sessions.h"

#include <errno.h>

/* Whether the file has one byte more than the answer: text ends with a newline, and a person's
 * next prompt at a shell stands on a line of its own. Answers that broke off are left as they are.
 */
static bool newline_due(struct answer *a, uint64_t *size)
{
	bool ended;
	char c;
	size_t n;
	*size = answer_size(a, &ended);
	if (!ended || *size == 0)
		return false;
	if (answer_read(a, *size, &c, 1, &n) != 0 || n != 0)
		return false;
	return answer_read(a, *size - 1, &c, 1, &n) == 0 && n == 1 && c != '\n';
}

static void add_newline(struct answer *a, uint64_t offset, size_t room, struct reply *out)
{
	uint64_t size;
	if (out->len < room && newline_due(a, &size) && offset + out->len == size)
		out->data[out->len++] = '\n';
}

int out_bytes(struct answer *a, uint64_t offset, size_t size, struct reply *out, struct wait *w)
{
	for (;;) {
		bool ended;
		uint64_t there = answer_size(a, &ended);
		/* What is there, and one byte for the newline. */
		size_t room = there > offset && there - offset < size ? (size_t)(there - offset) + 1
								      : size;
		if (there <= offset && room > sizeof out->small)
			room = sizeof out->small;
		if (!reply_room(out, room))
			return -ENOMEM;
		int r = answer_read(a, offset, out->data, room, &out->len);
		if (r == 0)
			add_newline(a, offset, room, out);
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
	uint64_t bytes = 0;
	if (session_newest(s, &a, nobody, NULL, &id) == 1)
		session_unwatch(s, id);
	if (a && newline_due(a, &bytes))
		bytes++;
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

int out_answer_ready(struct answer *a, uint64_t position, struct wait *w)
{
	if (answer_wait(a, position, w->wake, w->arg, &w->id) == 0) {
		w->answer = answer_ref(a);
		return 0;
	}
	for (;;) {
		bool ended;
		uint64_t there = answer_size(a, &ended);
		if (ended)
			return 1;
		int r = answer_wait(a, there, w->wake, w->arg, &w->id);
		if (r == 0)
			w->answer = answer_ref(a);
		if (r != 1)
			return 1;
	}
}

static int out_ready(struct handle *h, struct wait *w)
{
	struct answer *a;
	int r = bound(h, &a, w);
	if (r == 1)
		return 0;
	r = r == 0 && a ? out_answer_ready(a, h->position, w) : 1;
	answer_put(a);
	return r;
}

const struct file_ops out_ops = {
	.direct = true,
	.read = out_read,
	.waits = true,
	.ready = out_ready,
};
