/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread, one epoll set, one list of posted work and one list of timers sorted by time.
 *
 * Work is intrusive: an engine's callback posts the request it belongs to, however many events have
 * come, and costs a system call only when the loop sleeps. So nothing between an engine and the
 * loop can fill up, and the memory is bounded by the number of objects.
 *
 * Timers are few kinds with equal delays (a second for a pending draft, a minute for a silent
 * upstream) or are due at once (libcurl's), so that the search for their place, from both ends at
 * the same time, is O(1) in practice.
 *
 * Descriptors come last: what epoll reported is kept in a batch, and between two of its descriptors
 * all posted work runs, so that a post never waits for more than one of them. With timers they take
 * turns, as a timer that is due at once may well be what a descriptor led to (libcurl's, for the
 * next call) and lead to the next one, while others wait. And where work or timers do not end,
 * epoll is asked after each RUN_MAX of them. Who unwatches a descriptor takes it out of the batch,
 * too.
 *
 * Lock: loop->lock is a leaf; it is not held while something runs.
 */
#include "gateway/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/heap.h"

enum { BATCH_MAX = 64, RUN_MAX = 16 };

struct loop {
	pthread_mutex_t lock;
	struct list work;   /* struct loop_work */
	struct list timers; /* struct loop_timer, earliest first */
	bool sleeping;      /* in epoll_wait, or about to be: a post must wake it */
	bool closing, closed;
	bool started;
	int epoll_fd, wake_fd;
	pthread_t thread;

	/* The thread's own: what epoll reported and has not had its turn. data.ptr is the loop_fd,
	 * NULL once it is watched no more. */
	struct epoll_event batch[BATCH_MAX];
	int batch_at, batch_n;
	size_t n_watched;
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

/* Fills the batch. The loop's own descriptor is dealt with here: it only wakes, at each write to
 * it, and is never read (it is edge-triggered, and counts to 2^64). */
static void poll_descriptors(struct loop *loop, int timeout_ms)
{
	loop->batch_at = 0;
	heap_tend();
	int n = epoll_wait(loop->epoll_fd, loop->batch, BATCH_MAX, timeout_ms);
	loop->batch_n = n > 0 ? n : 0;
	for (int i = 0; i < loop->batch_n; i++)
		if (loop->batch[i].data.ptr == loop)
			loop->batch[i].data.ptr = NULL;
}

/* The next descriptor of the batch, with what happened to it; NULL: the batch is over. */
static struct loop_fd *next_descriptor(struct loop *loop, uint32_t *events)
{
	while (loop->batch_at < loop->batch_n) {
		const struct epoll_event *e = &loop->batch[loop->batch_at++];
		*events = e->events;
		if (e->data.ptr)
			return e->data.ptr;
	}
	return NULL;
}

/* Sleeps until there is something to do. The lock is held before and after. */
static void sleep_until_woken(struct loop *loop, uint64_t now)
{
	int timeout_ms = time_left_ms(loop, now);
	loop->sleeping = true;
	pthread_mutex_unlock(&loop->lock);
	poll_descriptors(loop, timeout_ms);
	pthread_mutex_lock(&loop->lock);
	loop->sleeping = false;
}

/* One descriptor's turn. False: none is ready that is known of. The lock is held before and after.
 */
static bool run_descriptor(struct loop *loop)
{
	uint32_t events;
	struct loop_fd *f = next_descriptor(loop, &events);
	if (!f)
		return false;
	pthread_mutex_unlock(&loop->lock);
	f->ready(f, events);
	pthread_mutex_lock(&loop->lock);
	return true;
}

/* The next piece of posted work. False: there is none. The lock is held before and after. */
static bool run_work(struct loop *loop)
{
	struct loop_work *w = next_work(loop);
	if (!w)
		return false;
	pthread_mutex_unlock(&loop->lock);
	w->run(w);
	pthread_mutex_lock(&loop->lock);
	return true;
}

/* The next timer that is due. False: there is none. The lock is held before and after. */
static bool run_timer(struct loop *loop, uint64_t now)
{
	struct loop_timer *t = next_timer(loop, loop->closing ? UINT64_MAX : now);
	if (!t)
		return false;
	pthread_mutex_unlock(&loop->lock);
	t->run(t);
	pthread_mutex_lock(&loop->lock);
	return true;
}

/* One descriptor's turn among work that does not end. The lock is held before and after. */
static void take_turn(struct loop *loop)
{
	if (!loop->n_watched)
		return;
	if (loop->batch_at == loop->batch_n) {
		pthread_mutex_unlock(&loop->lock);
		poll_descriptors(loop, 0);
		pthread_mutex_lock(&loop->lock);
	}
	run_descriptor(loop);
}

static void *loop_main(void *arg)
{
	struct loop *loop = arg;
	sigset_t pipe_signal; /* who writes to a socket that was closed gets EPIPE */
	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_signal, NULL);
	pthread_mutex_lock(&loop->lock);
	for (unsigned run = 0;; run++) {
		if (run >= RUN_MAX && !loop->closing) {
			take_turn(loop);
			run = 0;
		}
		if (run_work(loop))
			continue;
		uint64_t now = clock_mono_ns();
		bool timed = run_timer(loop, now);
		if (loop->closing) {
			if (!timed)
				break;
		} else if (run_descriptor(loop)) {
			run = timed ? run : 0;
		} else if (!timed) {
			sleep_until_woken(loop, now);
			run = 0;
		}
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
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = loop};
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

/* The link behind which a timer belongs: those of the same time keep their order. */
static struct list *place_of(struct loop *loop, uint64_t at_ns)
{
	struct list *head = &loop->timers, *low = head->next, *high = head->prev;
	for (;; low = low->next, high = high->prev) {
		if (high == head || list_entry(high, struct loop_timer, link)->at_ns <= at_ns)
			return high;
		if (list_entry(low, struct loop_timer, link)->at_ns > at_ns)
			return low->prev;
	}
}

static bool arm(struct loop *loop, struct loop_timer *timer, uint64_t at_ns, bool only_earlier)
{
	pthread_mutex_lock(&loop->lock);
	bool taken = !loop->closed && !loop->closing, asleep = loop->sleeping, first = false;
	bool stays = only_earlier && !list_empty(&timer->link) && timer->at_ns <= at_ns;
	if (taken && !stays) {
		list_remove(&timer->link);
		timer->at_ns = at_ns;
		struct list *after = place_of(loop, at_ns);
		list_prepend(after, &timer->link);
		first = after == &loop->timers;
		if (first)
			loop->sleeping = false;
	}
	pthread_mutex_unlock(&loop->lock);
	if (taken && asleep && first)
		wake(loop);
	return taken;
}

bool loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t at_ns)
{
	return arm(loop, timer, at_ns, false);
}

bool loop_arm_earlier(struct loop *loop, struct loop_timer *timer, uint64_t at_ns)
{
	return arm(loop, timer, at_ns, true);
}

bool loop_disarm(struct loop *loop, struct loop_timer *timer)
{
	pthread_mutex_lock(&loop->lock);
	bool armed = !list_empty(&timer->link);
	list_remove(&timer->link);
	pthread_mutex_unlock(&loop->lock);
	return armed;
}

int loop_watch(struct loop *loop, struct loop_fd *fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = fd};
	int op = fd->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	int r = epoll_ctl(loop->epoll_fd, op, fd->fd, &event);
	/* It was closed and opened again behind our back, as libcurl does where it gives up a
	 * connect: epoll has forgotten it. */
	if (r < 0 && errno == ENOENT)
		r = epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd->fd, &event);
	if (r < 0)
		return -errno;
	loop->n_watched += !fd->watched;
	fd->watched = true;
	return 0;
}

void loop_unwatch(struct loop *loop, struct loop_fd *fd)
{
	if (fd->watched)
		epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd->fd, NULL);
	loop_forget(loop, fd);
}

void loop_forget(struct loop *loop, struct loop_fd *fd)
{
	loop->n_watched -= fd->watched;
	fd->watched = false;
	for (int i = loop->batch_at; i < loop->batch_n; i++)
		if (loop->batch[i].data.ptr == fd)
			loop->batch[i].data.ptr = NULL;
	fd->fd = -1;
}

bool loop_inside(const struct loop *loop)
{
	return pthread_equal(pthread_self(), loop->thread);
}
