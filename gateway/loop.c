/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread, one epoll set, one list of posted work and one list of timers sorted by time.
 *
 * Work is intrusive: an engine's callback posts the request it belongs to, however many events have
 * come, and costs a system call only when the loop sleeps. So nothing between an engine and the
 * loop can fill up, and the memory is bounded by the number of objects.
 *
 * Timers are few kinds with equal delays (a second for a pending draft), so that insertion from the
 * end is O(1) in practice.
 *
 * Lock: loop->lock is a leaf; it is not held while something runs.
 */
#include "gateway/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

struct loop {
	pthread_mutex_t lock;
	struct list work;   /* struct loop_work */
	struct list timers; /* struct loop_timer, earliest first */
	bool sleeping;      /* in epoll_wait, or about to be: a post must wake it */
	bool closing, closed;
	bool started;
	int epoll_fd, wake_fd;
	pthread_t thread;
};

static void wake(struct loop *loop)
{
	uint64_t one = 1;
	ssize_t ignored = write(loop->wake_fd, &one, sizeof one);
	(void)ignored;
}

/* Takes the next thing to run: posted work first, then a due timer. */
static struct loop_work *next_work(struct loop *loop)
{
	if (list_empty(&loop->work))
		return NULL;
	struct loop_work *w = list_entry(loop->work.next, struct loop_work, link);
	list_remove(&w->link);
	w->queued = false;
	return w;
}

static struct loop_timer *next_timer(struct loop *loop, uint64_t now)
{
	if (list_empty(&loop->timers))
		return NULL;
	struct loop_timer *t = list_entry(loop->timers.next, struct loop_timer, link);
	if (t->at_ns > now)
		return NULL;
	list_remove(&t->link);
	return t;
}

/* Milliseconds until the first timer, rounded up; -1 when there is none. */
static int time_left_ms(const struct loop *loop, uint64_t now)
{
	if (list_empty(&loop->timers))
		return -1;
	const struct loop_timer *t = list_entry(loop->timers.next, struct loop_timer, link);
	uint64_t left = t->at_ns > now ? (t->at_ns - now + 999999) / 1000000 : 0;
	return left > 1000000 ? 1000000 : (int)left;
}

static void sleep_until_woken(struct loop *loop, int timeout_ms)
{
	struct epoll_event event;
	int n = epoll_wait(loop->epoll_fd, &event, 1, timeout_ms);
	if (n > 0) {
		uint64_t count;
		ssize_t ignored = read(loop->wake_fd, &count, sizeof count);
		(void)ignored;
	}
}

static void *loop_main(void *arg)
{
	struct loop *loop = arg;
	pthread_mutex_lock(&loop->lock);
	for (;;) {
		struct loop_work *w = next_work(loop);
		uint64_t now = clock_mono_ns();
		struct loop_timer *t =
			w ? NULL : next_timer(loop, loop->closing ? UINT64_MAX : now);
		if (!w && !t) {
			if (loop->closing)
				break;
			int timeout_ms = time_left_ms(loop, now);
			loop->sleeping = true;
			pthread_mutex_unlock(&loop->lock);
			sleep_until_woken(loop, timeout_ms);
			pthread_mutex_lock(&loop->lock);
			loop->sleeping = false;
			continue;
		}
		pthread_mutex_unlock(&loop->lock);
		if (w)
			w->run(w);
		else
			t->run(t);
		pthread_mutex_lock(&loop->lock);
	}
	loop->closed = true;
	pthread_mutex_unlock(&loop->lock);
	return NULL;
}

int loop_new(struct loop **out, struct err *err)
{
	struct loop *loop = calloc(1, sizeof *loop);
	if (!loop)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&loop->lock, NULL);
	list_init(&loop->work);
	list_init(&loop->timers);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct epoll_event event = {.events = EPOLLIN};
	int r = 0;
	if (loop->epoll_fd < 0 || loop->wake_fd < 0 ||
		epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0)
		r = -errno;
	if (r == 0)
		r = -pthread_create(&loop->thread, NULL, loop_main, loop);
	if (r < 0) {
		err_set(err, r, "cannot start the gateway's loop: %s", strerror(-r));
		loop_free(loop);
		return r;
	}
	loop->started = true;
	pthread_setname_np(loop->thread, "gateway");
	*out = loop;
	return 0;
}

void loop_close(struct loop *loop)
{
	if (!loop->started)
		return;
	pthread_mutex_lock(&loop->lock);
	loop->closing = true;
	pthread_mutex_unlock(&loop->lock);
	wake(loop);
	pthread_join(loop->thread, NULL);
	loop->started = false;
}

struct loop *loop_free(struct loop *loop)
{
	if (!loop)
		return NULL;
	loop_close(loop);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
	return NULL;
}

bool loop_post(struct loop *loop, struct loop_work *work)
{
	pthread_mutex_lock(&loop->lock);
	bool taken = !work->queued && !loop->closed, asleep = loop->sleeping;
	if (taken) {
		work->queued = true;
		list_append(&loop->work, &work->link);
		loop->sleeping = false;
	}
	pthread_mutex_unlock(&loop->lock);
	if (taken && asleep)
		wake(loop);
	return taken;
}

bool loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t at_ns)
{
	pthread_mutex_lock(&loop->lock);
	bool taken = !loop->closed && !loop->closing, asleep = loop->sleeping, first = false;
	if (taken) {
		list_remove(&timer->link);
		timer->at_ns = at_ns;
		struct list *after = loop->timers.prev;
		while (after != &loop->timers &&
			list_entry(after, struct loop_timer, link)->at_ns > at_ns)
			after = after->prev;
		list_prepend(after, &timer->link);
		first = after == &loop->timers;
	}
	pthread_mutex_unlock(&loop->lock);
	if (taken && asleep && first)
		wake(loop);
	return taken;
}

bool loop_disarm(struct loop *loop, struct loop_timer *timer)
{
	pthread_mutex_lock(&loop->lock);
	bool armed = !list_empty(&timer->link);
	list_remove(&timer->link);
	pthread_mutex_unlock(&loop->lock);
	return armed;
}

bool loop_inside(const struct loop *loop)
{
	return pthread_equal(pthread_self(), loop->thread);
}
