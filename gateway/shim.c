/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server: libmicrohttpd with a few threads, each with a set of connections of its own, and one
 * thread of ours that accepts (shim_sockets.c). None of them waits for a model: a call that has
 * nothing is suspended (shim_call.c).
 *
 * The end, in two steps. shim_stop: nobody is accepted any more, and what is under way goes on, or
 * is ended by the gateway. shim_free: what is under way has a moment to hear of its end, then every
 * call is woken and gives up, so that libmicrohttpd finds none suspended, which it would not bear.
 *
 * Lock: shim->lock, around calls'.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/shim_listen.h"
#include "gateway/shim_parts.h"
#include "gateway/shim_sockets.h"

enum {
	CONNECTIONS = 4096,
	MEMORY = 16 << 10, /* bytes of a connection: its head, and what is being sent */
	LINGER_MS = 2000,  /* how long the end waits for who reads its last bytes */
};

/* ---- connections ---- */

static int take(void *arg, int fd, const struct sockaddr *address, unsigned size)
{
	struct shim *shim = arg;
	return MHD_add_connection(shim->daemon, fd, address, size) == MHD_YES ? 0 : -EAGAIN;
}

static int fd_of(struct MHD_Connection *connection)
{
	return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

static void connection_changed(void *arg, struct MHD_Connection *connection, void **context,
	enum MHD_ConnectionNotificationCode what)
{
	struct shim *shim = arg;
	if (what == MHD_CONNECTION_NOTIFY_CLOSED)
		shim_sockets_gone(shim->sockets, fd_of(connection));
}

/* A quarter of the descriptors, where these are few: http.c takes half, for what is asked here. */
static unsigned connections(const struct shim_options *o)
{
	struct rlimit limit;
	unsigned most = o->max_connections ? o->max_connections : CONNECTIONS;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / 4 >= most)
		return most;
	return limit.rlim_cur < 4 ? 1 : (unsigned)(limit.rlim_cur / 4);
}

/* ---- the start ---- */

static int start_daemon(struct shim *shim, unsigned most)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned threads = n < 2 ? 2 : n > 4 ? 4 : (unsigned)n;
	shim->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC |
						MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET,
		0, NULL, NULL, shim_call_handle, shim, MHD_OPTION_THREAD_POOL_SIZE, threads,
		MHD_OPTION_NOTIFY_COMPLETED, shim_call_completed, shim,
		MHD_OPTION_NOTIFY_CONNECTION, connection_changed, shim,
		/* Whoever accepts keeps to the number; each thread might get all of them. */
		MHD_OPTION_CONNECTION_LIMIT, most * threads, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned)SHIM_IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY,
		MHD_OPTION_END);
	return shim->daemon ? 0 : -EAGAIN;
}

static struct shim *shim_make(struct gateway *g, const struct shim_options *o)
{
	struct shim *shim = calloc(1, sizeof *shim);
	if (!shim)
		return NULL;
	shim->g = g;
	shim->started_s = (int64_t)(clock_real_ns() / 1000000000ULL);
	snprintf(shim->server, sizeof shim->server, "llmfs/%s", o->version ? o->version : "");
	list_init(&shim->calls);
	pthread_mutex_init(&shim->lock, NULL);
	pthread_condattr_t clock;
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&shim->idle, &clock);
	pthread_condattr_destroy(&clock);
	return shim;
}

int shim_open(struct shim **out, struct gateway *g, const struct shim_options *o, struct err *err)
{
	int listener = -1;
	bool open = false;
	unsigned most = connections(o);
	struct shim *shim = shim_make(g, o);
	if (!shim)
		return err_set(err, -ENOMEM, "out of memory");
	int r = shim_listen_open(
		o->address, &listener, shim->address, sizeof shim->address, &open, err);
	if (r == 0) {
		r = start_daemon(shim, most);
		r = r ? r : shim_sockets_new(&shim->sockets, listener, most, take, shim);
		if (!shim->daemon)
			close(listener);
		if (r < 0)
			err_set(err, r, "http=%s: no threads or memory to serve it", o->address);
	}
	if (r < 0) {
		shim_free(shim);
		return r;
	}
	log_info("HTTP on http://%s", shim->address);
	if (open)
		log_warn("http=%s can be reached from other machines, and keys and texts go over "
			 "the network as they are: put a proxy with TLS before it, or listen on "
			 "127.0.0.1",
			o->address);
	*out = shim;
	return 0;
}

const char *shim_address(const struct shim *shim)
{
	return shim->address;
}

/* ---- the end ---- */

void shim_stop(struct shim *shim)
{
	atomic_store(&shim->stopping, true);
	shim_sockets_stop(shim->sockets);
}

/* Until no call is left, or for a moment. */
static void linger(struct shim *shim)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LINGER_MS / 1000;
	pthread_mutex_lock(&shim->lock);
	while (shim->n_calls && pthread_cond_timedwait(&shim->idle, &shim->lock, &until) == 0)
		;
	pthread_mutex_unlock(&shim->lock);
}

static void wake_all(struct shim *shim)
{
	pthread_mutex_lock(&shim->lock);
	list_for_each (link, &shim->calls)
		shim_call_wake(list_entry(link, struct shim_call, link));
	pthread_mutex_unlock(&shim->lock);
}

struct shim *shim_free(struct shim *shim)
{
	if (!shim)
		return NULL;
	if (shim->sockets) {
		shim_stop(shim);
		linger(shim);
		shim_sockets_end(shim->sockets);
	}
	atomic_store(&shim->ending, true);
	wake_all(shim);
	if (shim->daemon)
		MHD_stop_daemon(shim->daemon);
	shim_sockets_free(shim->sockets);
	pthread_cond_destroy(&shim->idle);
	pthread_mutex_destroy(&shim->lock);
	free(shim);
	return NULL;
}
