/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sockets that libcurl waits for, watched by the loop; and which of them are connections.
 *
 * Between two requests libcurl does not wait for a connection. The loop goes on watching it all the
 * same, for the next request waits for the same, and so epoll is told nothing at all. Where
 * something happens on it while nobody waits, as the server hangs up, it is watched no more, so
 * that it does not come up again and again; libcurl finds out when it wants to use it, or at a
 * sweep.
 *
 * libcurl closes a socket that never became a connection without a word (of two addresses that are
 * tried, the one that loses), so what counts as one is what a request was sent on. Only of those
 * libcurl says here that it closes them, so only those are watched on.
 *
 * Thread: the loop's.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/http_parts.h"

struct socket { /* one that is watched */
	struct loop_fd f;
	struct http *http;
	struct list link;
	uint32_t events;
	uint64_t cookie; /* the kernel's name for it, where it was no connection; 0: not asked */
};

struct http_socket { /* by descriptor */
	bool is_connection;
	struct socket *idle; /* NULL: libcurl waits for it, or it is not watched */
};

static struct http_socket *find(const struct http *http, int fd)
{
	bool known = (size_t)fd < http->n_sockets && http->sockets[fd].is_connection;
	return known ? &http->sockets[fd] : NULL;
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof cookie;
	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

/* ---- watching ---- */

static void let_go(struct socket *s)
{
	loop_unwatch(s->http->loop, &s->f);
	list_append(&s->http->spare, &s->link);
}

/* A connection's, which libcurl does not wait for, and which is watched no more. */
static void let_idle_go(struct http_socket *connection)
{
	struct socket *s = connection->idle;
	connection->idle = NULL;
	if (s)
		let_go(s);
}

static void ready(struct loop_fd *f, uint32_t events)
{
	struct socket *s = (struct socket *)(void *)f;
	int mask = 0;
	struct http_socket *connection = find(s->http, f->fd);
	if (connection && connection->idle == s) {
		let_idle_go(connection);
		return;
	}
	if (events & EPOLLIN)
		mask |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		mask |= CURL_CSELECT_OUT;
	if (events & (EPOLLERR | EPOLLHUP))
		mask |= CURL_CSELECT_ERR;
	http_act(s->http, f->fd, mask);
}

static struct socket *socket_new(struct http *http, int fd)
{
	struct socket *s = NULL;
	if (list_empty(&http->spare)) {
		s = calloc(1, sizeof *s);
		if (!s)
			return NULL;
		list_init(&s->link);
	} else {
		s = list_entry(http->spare.next, struct socket, link);
		list_remove(&s->link);
	}
	s->http = http;
	s->f = (struct loop_fd){.fd = fd, .ready = ready};
	s->events = 0;
	s->cookie = find(http, fd) ? 0 : cookie_of(fd);
	return s;
}

/* A connect that is given up: libcurl closes the socket first, and then says that it waits for it
 * no more. By then the number may be the descriptor of another thread's file. */
static bool was_closed(const struct socket *s)
{
	return s->cookie && cookie_of(s->f.fd) != s->cookie;
}

static void wait_no_more(struct http *http, struct socket *s)
{
	struct http_socket *connection = find(http, s->f.fd);
	if (connection) {
		connection->idle = s;
	} else if (was_closed(s)) {
		loop_forget(http->loop, &s->f);
		list_append(&http->spare, &s->link);
	} else {
		let_go(s);
	}
}

/* What is watched at that descriptor, or will be. */
static struct socket *take_up(struct http *http, int fd)
{
	struct http_socket *connection = find(http, fd);
	struct socket *s = connection ? connection->idle : NULL;
	if (!s)
		return socket_new(http, fd);
	connection->idle = NULL;
	return s;
}

int http_socket_watch(CURL *easy, curl_socket_t fd, int what, void *arg, void *watched)
{
	struct http *http = arg;
	struct socket *s = watched;
	uint32_t events = 0;
	if (what == CURL_POLL_REMOVE) {
		if (s) {
			wait_no_more(http, s);
			curl_multi_assign(http->multi, fd, NULL);
		}
		return 0;
	}
	if (what & CURL_POLL_IN)
		events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		events |= EPOLLOUT;
	if (!s) {
		s = take_up(http, fd);
		if (s)
			curl_multi_assign(http->multi, fd, s);
	}
	if (s && s->events == events && find(http, fd))
		return 0;
	if (!s || loop_watch(http->loop, &s->f, events) < 0)
		http_call_fail_later(easy);
	else
		s->events = events;
	return 0;
}

/* ---- connections ---- */

void http_socket_connected(struct http *http, int fd)
{
	if ((size_t)fd >= http->n_sockets) {
		size_t n = (size_t)fd + 64;
		struct http_socket *all = realloc(http->sockets, n * sizeof *all);
		if (!all)
			return;
		memset(all + http->n_sockets, 0, (n - http->n_sockets) * sizeof *all);
		http->sockets = all;
		http->n_sockets = n;
	}
	if (http->sockets[fd].is_connection)
		return;
	http->sockets[fd].is_connection = true;
	atomic_fetch_add(&http->first->all_connections, 1);
	http->n_connections++;
	http_sweep_later(http);
}

int http_socket_close(void *arg, curl_socket_t fd)
{
	struct http *http = arg;
	struct http_socket *connection = find(http, fd);
	if (connection) {
		let_idle_go(connection);
		connection->is_connection = false;
		http->n_connections--;
		atomic_fetch_sub(&http->first->all_connections, 1);
	}
	return close(fd);
}

void http_socket_end(struct http *http)
{
	while (!list_empty(&http->spare)) {
		struct socket *s = list_entry(http->spare.next, struct socket, link);
		list_remove(&s->link);
		free(s);
	}
	free(http->sockets);
}
