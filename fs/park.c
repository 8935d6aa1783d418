/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three sides race for a parked request: the gateway's thread that wakes it, the FUSE worker that
 * carries an INTERRUPT, and the worker that is still parking it. They know it by an id only.
 * Whoever finds it not `busy` makes it busy and thereby owns it; the others leave a note (`woken`,
 * `interrupted`) that the owner reads before it lets go. finish() takes the request out of the
 * table and answers it, and is the only place that does.
 *
 * libfuse may call interrupted() from within fuse_req_interrupt_func() with the request locked;
 * the parking worker owns the request then, so this only leaves a note, and nothing is answered
 * there.
 *
 * Lock order: the request's lock of libfuse, then ours. Ours is a leaf: neither the gateway nor
 * libfuse is called with it held. One table per process, because an id is all that fits into the
 * gateway's callback.
 */
#include "fs/park.h"

#include "base/list.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>

#define N_BUCKETS 1024

struct parked {
	/* never changes */
	uint64_t id;
	struct handle *handle;
	fuse_req_t req;             /* a read */
	struct fuse_pollhandle *ph; /* or a poll */
	uint64_t offset;
	size_t size;
	bool nonblock;

	struct list link; /* under the lock, as all that follows */
	bool busy, woken, interrupted;
	struct wait wait;
	bool armed; /* the owner's */
};

static struct {
	pthread_mutex_t lock;
	uint64_t next_id;
	unsigned n;
	bool ready;
	struct list buckets[N_BUCKETS];
} park = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- the table ---- */

static struct list *bucket(uint64_t id)
{
	return &park.buckets[id % N_BUCKETS];
}

/* Under the lock. */
static struct parked *find(uint64_t id)
{
	if (!park.ready)
		return NULL;
	list_for_each (link, bucket(id)) {
		struct parked *p = list_entry(link, struct parked, link);
		if (p->id == id)
			return p;
	}
	return NULL;
}

/* new, owned by the caller (busy), with a reference to h. */
static struct parked *enter(struct handle *h)
{
	struct parked *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->handle = handle_ref(h);
	p->busy = true;
	pthread_mutex_lock(&park.lock);
	if (!park.ready) {
		for (size_t i = 0; i < N_BUCKETS; i++)
			list_init(&park.buckets[i]);
		park.ready = true;
	}
	p->id = ++park.next_id;
	park.n++;
	list_append(bucket(p->id), &p->link);
	pthread_mutex_unlock(&park.lock);
	return p;
}

/* The owner's: takes it out and frees it; nothing is answered. */
static void leave(struct parked *p)
{
	pthread_mutex_lock(&park.lock);
	list_remove(&p->link);
	park.n--;
	pthread_mutex_unlock(&park.lock);
	wait_end(&p->wait);
	if (p->ph)
		fuse_pollhandle_destroy(p->ph);
	handle_put(p->handle);
	free(p);
}

/* Becomes the owner, or leaves a note for who is. */
static struct parked *claim(uint64_t id, bool interrupt)
{
	pthread_mutex_lock(&park.lock);
	struct parked *p = find(id);
	if (p && p->busy) {
		if (interrupt)
			p->interrupted = true;
		else
			p->woken = true;
		p = NULL;
	} else if (p) {
		p->busy = true;
	}
	pthread_mutex_unlock(&park.lock);
	return p;
}

/* The owner lets go, unless there is a note. */
static bool let_go(struct parked *p, const struct wait *w)
{
	pthread_mutex_lock(&park.lock);
	bool noted = p->woken || p->interrupted;
	p->woken = false;
	if (!noted) {
		p->wait = *w;
		p->busy = false;
	}
	pthread_mutex_unlock(&park.lock);
	return !noted;
}

static bool is_interrupted(struct parked *p)
{
	pthread_mutex_lock(&park.lock);
	bool is = p->interrupted;
	pthread_mutex_unlock(&park.lock);
	return is;
}

unsigned park_count(void)
{
	pthread_mutex_lock(&park.lock);
	unsigned n = park.n;
	pthread_mutex_unlock(&park.lock);
	return n;
}

/* ---- reads ---- */

/* Answers a read, once. */
static void finish(struct parked *p, int error, const struct reply *r)
{
	fuse_req_t req = p->req;
	if (error == 0)
		p->handle->position = p->offset + r->len;
	leave(p);
	if (error < 0)
		fuse_reply_err(req, -error);
	else
		fuse_reply_buf(req, r->data, r->len);
}

static void wake(void *arg);

static void interrupted(fuse_req_t req, void *arg)
{
	struct parked *p = claim((uintptr_t)arg, true);
	if (p)
		finish(p, -EINTR, NULL);
}

/* The owner's: answers it or parks it (again). */
static void run(struct parked *p)
{
	wait_end(&p->wait);
	for (;;) {
		struct reply r;
		r.data = NULL;
		r.len = 0;
		struct wait w = {.wake = wake, .arg = (void *)(uintptr_t)p->id};
		int got = p->handle->ops->read(p->handle, p->offset, p->size, &r, &w);
		if (got != 1 || p->nonblock || is_interrupted(p)) {
			wait_end(&w);
			finish(p, got != 1 ? got : p->nonblock ? -EAGAIN : -EINTR, &r);
			reply_end(&r);
			return;
		}
		reply_end(&r);
		if (!p->armed) {
			p->armed = true;
			fuse_req_interrupt_func(p->req, interrupted, (void *)(uintptr_t)p->id);
		}
		if (let_go(p, &w))
			return;
		wait_end(&w);
	}
}

void park_read(struct handle *h, fuse_req_t req, uint64_t offset, size_t size, bool nonblock)
{
	struct parked *p = enter(h);
	if (!p) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	p->req = req;
	p->offset = offset;
	p->size = size;
	p->nonblock = nonblock;
	run(p);
}

/* ---- polls ---- */

static void poll_woken(struct parked *p)
{
	struct fuse_pollhandle *ph = p->ph;
	p->ph = NULL;
	leave(p);
	fuse_lowlevel_notify_poll(ph);
	fuse_pollhandle_destroy(ph);
}

static void forget(uint64_t id)
{
	struct parked *p = id ? claim(id, true) : NULL;
	if (p)
		leave(p);
}

void park_forget_poll(struct handle *h)
{
	forget(atomic_exchange(&h->poll_id, 0));
}

void park_poll(struct handle *h, fuse_req_t req, struct fuse_pollhandle *ph, unsigned events)
{
	unsigned revents = handle_writes(h) ? POLLOUT | POLLWRNORM : 0;
	park_forget_poll(h);
	struct parked *p = h->ops->ready ? enter(h) : NULL;
	if (!p) {
		if (ph)
			fuse_pollhandle_destroy(ph);
		fuse_reply_poll(req, revents | POLLIN | POLLRDNORM);
		return;
	}
	p->ph = ph;
	forget(atomic_exchange(&h->poll_id, p->id)); /* of another thread, which was here at once */
	bool ready;
	for (;;) {
		struct wait w = {.wake = wake, .arg = (void *)(uintptr_t)p->id};
		ready = h->ops->ready(h, &w) == 1;
		/* Interrupted: replaced by a newer poll, which serves the same sleepers. */
		bool last = !ph || !w.id || is_interrupted(p);
		if (!last && let_go(p, &w))
			break;
		wait_end(&w);
		if (last) {
			leave(p);
			break;
		}
	}
	fuse_reply_poll(req, revents | (ready ? POLLIN | POLLRDNORM : 0));
}

/* From the gateway's thread. */
static void wake(void *arg)
{
	struct parked *p = claim((uintptr_t)arg, false);
	if (p && p->req)
		run(p);
	else if (p)
		poll_woken(p);
}

/* One that nobody owns; *busy when there are only others. */
static struct parked *take_any(struct list *head, bool *busy)
{
	struct parked *p = NULL;
	pthread_mutex_lock(&park.lock);
	*busy = false;
	for (struct list *link = head->next; park.ready && link != head && !p; link = link->next) {
		p = list_entry(link, struct parked, link);
		if (p->busy) {
			*busy = true;
			p = NULL;
		}
	}
	if (p)
		p->busy = true;
	pthread_mutex_unlock(&park.lock);
	return p;
}

void park_end(void)
{
	for (size_t i = 0; i < N_BUCKETS; i++) {
		for (;;) {
			bool busy;
			struct parked *p = take_any(&park.buckets[i], &busy);
			if (p && p->req)
				finish(p, -ENODEV, NULL);
			else if (p)
				leave(p);
			else if (busy)
				sched_yield(); /* the gateway's thread answers it now */
			else
				break;
		}
	}
}
