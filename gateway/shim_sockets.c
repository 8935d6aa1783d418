/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sockets of the HTTP front end, as far as libmicrohttpd does not look at them: the one that
 * listens, and whether the other end of a connection is closed. libmicrohttpd takes a connection
 * that is suspended out of its set, so that a client that leaves meanwhile would be noticed by the
 * first bytes it does not take, when all is computed. And of one that is not, it misses an end that
 * comes together with the last bytes. So all of them are in a set of our own, from their beginning
 * to their end, in which nothing but that is looked for.
 *
 * Who closes only its sending half has left, too: between that and a program that was ended there
 * is no difference until something is sent, and of most answers nothing is sent before their end.
 * A call that waits is told. libmicrohttpd is told by closing our receiving half, which wakes
 * whoever polls the socket and which the client does not see; a reply that is being sent goes on.
 * Once more a moment later: it may have been between accepting and polling.
 *
 * A place in the table, by descriptor, has a number that grows with each use; events carry both, so
 * one that comes late, of a socket that is another's by now, finds another number.
 *
 * Accepting: where as many connections as may be are open, nobody accepts until one closes; who
 * comes waits in the kernel's queue.
 *
 * Lock: sockets->lock, around calls'.
 */
#include "gateway/shim_sockets.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/shim_parts.h"

enum { EVENTS = 64, FD_MOST = 1 << 20, AGAIN_MS = 200 };
static const uint64_t again_ns = AGAIN_MS * 1000000ULL;
static const uint64_t of_listener = 0, of_wake = 1; /* in events; a number of a place is above */

struct place {
	struct shim_call *call; /* borrowed; NULL: none waits */
	uint32_t number;        /* 0: no socket that was taken */
	uint64_t left_ns;       /* 0: it has not */
	bool woken_again;
};

struct shim_sockets {
	int epoll, wake, listener;
	shim_sockets_take *take;
	void *arg;
	unsigned most;
	pthread_t thread;
	bool has_thread;
	atomic_uint n_open;
	atomic_bool stops, ends;
	bool listens; /* the listener is in the set. The thread's */

	pthread_mutex_t lock; /* guards down to `numbers` */
	struct place *places; /* [n_places], by descriptor */
	size_t n_places;
	uint32_t numbers;
	uint64_t wake_ns; /* when some that have left are woken once more; 0: there are none. The
			     thread's */
};

static void poke(struct shim_sockets *s)
{
	uint64_t one = 1;
	ssize_t n = write(s->wake, &one, sizeof one);
	(void)n; /* it is full: it wakes as it is */
}

/* ---- the table ---- */

/* With the lock held. */
static struct place *place_of(struct shim_sockets *s, size_t fd)
{
	if (fd < s->n_places)
		return &s->places[fd];
	if (fd >= FD_MOST)
		return NULL;
	size_t n = s->n_places ? s->n_places : 64;
	while (n <= fd)
		n *= 2;
	struct place *places = realloc(s->places, n * sizeof *places);
	if (!places)
		return NULL;
	for (size_t i = s->n_places; i < n; i++)
		places[i] = (struct place){0};
	s->places = places;
	s->n_places = n;
	return &places[fd];
}

/* It is looked at from now on. Without memory it is not. */
static void enroll(struct shim_sockets *s, int fd)
{
	pthread_mutex_lock(&s->lock);
	struct place *p = place_of(s, (size_t)fd);
	if (p) {
		s->numbers = s->numbers == UINT32_MAX ? 1 : s->numbers + 1;
		*p = (struct place){.number = s->numbers};
		struct epoll_event e = {.events = EPOLLRDHUP | EPOLLONESHOT,
			.data.u64 = (uint64_t)s->numbers << 32 | (uint32_t)fd};
		epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e);
	}
	pthread_mutex_unlock(&s->lock);
}

bool shim_sockets_watch(struct shim_sockets *s, int fd, struct shim_call *c)
{
	pthread_mutex_lock(&s->lock);
	struct place *p = (size_t)fd < s->n_places ? &s->places[fd] : NULL;
	bool left = p && p->left_ns;
	if (p && !left)
		p->call = c;
	pthread_mutex_unlock(&s->lock);
	return left;
}

void shim_sockets_forget(struct shim_sockets *s, int fd)
{
	pthread_mutex_lock(&s->lock);
	if ((size_t)fd < s->n_places)
		s->places[fd].call = NULL;
	pthread_mutex_unlock(&s->lock);
}

/* ---- accepting ---- */

static void listen_if(struct shim_sockets *s, bool wanted)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = of_listener};
	if (wanted == s->listens)
		return;
	if (epoll_ctl(s->epoll, wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, s->listener, &e) == 0)
		s->listens = wanted;
}

static void accept_some(struct shim_sockets *s)
{
	for (int i = 0; i < EVENTS && atomic_load(&s->n_open) < s->most; i++) {
		struct sockaddr_storage a;
		socklen_t n = sizeof a;
		int fd = accept4(s->listener, (struct sockaddr *)(void *)&a, &n,
			SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
			/* The listener stays ready: not again at once. */
			nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
			return;
		}
		if (fd < 0)
			return;
		atomic_fetch_add(&s->n_open, 1);
		enroll(s, fd);
		if (s->take(s->arg, fd, (struct sockaddr *)(void *)&a, n) < 0)
			shim_sockets_gone(s, fd);
	}
}

/* ---- the thread ---- */

/* With the lock held: neither the call nor the socket can end meanwhile. */
static void tell_left(struct shim_sockets *s, uint64_t id)
{
	size_t fd = (uint32_t)id;
	pthread_mutex_lock(&s->lock);
	if (fd < s->n_places && s->places[fd].number == id >> 32) {
		struct place *p = &s->places[fd];
		p->left_ns = clock_mono_ns();
		s->wake_ns = s->wake_ns ? s->wake_ns : p->left_ns + again_ns;
		if (p->call)
			shim_call_lost(p->call);
		shutdown((int)fd, SHUT_RD);
	}
	pthread_mutex_unlock(&s->lock);
}

/* Those that left a moment ago and are still there. */
static void wake_again(struct shim_sockets *s)
{
	uint64_t now_ns = clock_mono_ns();
	if (!s->wake_ns || now_ns < s->wake_ns)
		return;
	s->wake_ns = 0;
	pthread_mutex_lock(&s->lock);
	for (size_t fd = 0; fd < s->n_places; fd++) {
		struct place *p = &s->places[fd];
		if (!p->left_ns || p->woken_again)
			continue;
		p->woken_again = now_ns - p->left_ns >= again_ns;
		if (p->woken_again)
			shutdown((int)fd, SHUT_RD);
		else
			s->wake_ns = now_ns + again_ns;
	}
	pthread_mutex_unlock(&s->lock);
}

static void *look(void *arg)
{
	struct shim_sockets *s = arg;
	struct epoll_event events[EVENTS];
	while (!atomic_load(&s->ends)) {
		bool stops = atomic_load(&s->stops);
		listen_if(s, !stops && atomic_load(&s->n_open) < s->most);
		if (stops && s->listener >= 0) {
			close(s->listener);
			s->listener = -1;
		}
		int n = epoll_wait(s->epoll, events, EVENTS, s->wake_ns ? AGAIN_MS : -1);
		wake_again(s);
		for (int i = 0; i < n; i++) {
			uint64_t id = events[i].data.u64, count;
			if (id == of_listener)
				accept_some(s);
			else if (id != of_wake)
				tell_left(s, id);
			else if (read(s->wake, &count, sizeof count) < 0 && errno != EAGAIN)
				return NULL;
		}
	}
	return NULL;
}

/* ---- its life ---- */

int shim_sockets_new(
	struct shim_sockets **out, int listener, unsigned most, shim_sockets_take *take, void *arg)
{
	struct shim_sockets *s = calloc(1, sizeof *s);
	if (!s) {
		close(listener);
		return -ENOMEM;
	}
	s->listener = listener;
	s->most = most;
	s->take = take;
	s->arg = arg;
	pthread_mutex_init(&s->lock, NULL);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = of_wake};
	int r = s->epoll < 0 || s->wake < 0 ? -EMFILE : 0;
	if (r == 0 && epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->wake, &e) < 0)
		r = -errno;
	*out = s;
	if (r == 0)
		r = -pthread_create(&s->thread, NULL, look, s);
	s->has_thread = r == 0;
	if (s->has_thread)
		pthread_setname_np(s->thread, "http");
	if (r < 0)
		*out = shim_sockets_free(s);
	return r;
}

void shim_sockets_gone(struct shim_sockets *s, int fd)
{
	struct epoll_event e = {0};
	pthread_mutex_lock(&s->lock);
	epoll_ctl(s->epoll, EPOLL_CTL_DEL, fd, &e);
	if ((size_t)fd < s->n_places)
		s->places[fd] = (struct place){0};
	pthread_mutex_unlock(&s->lock);
	if (atomic_fetch_sub(&s->n_open, 1) == s->most)
		poke(s);
}

void shim_sockets_stop(struct shim_sockets *s)
{
	atomic_store(&s->stops, true);
	poke(s);
}

void shim_sockets_end(struct shim_sockets *s)
{
	atomic_store(&s->ends, true);
	if (s->has_thread) {
		poke(s);
		pthread_join(s->thread, NULL);
	}
	s->has_thread = false;
}

struct shim_sockets *shim_sockets_free(struct shim_sockets *s)
{
	if (!s)
		return NULL;
	shim_sockets_end(s);
	if (s->listener >= 0)
		close(s->listener);
	if (s->wake >= 0)
		close(s->wake);
	if (s->epoll >= 0)
		close(s->epoll);
	free(s->places);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return NULL;
}
