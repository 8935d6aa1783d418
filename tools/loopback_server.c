/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An upstream for benchmarks, which costs next to nothing: it listens on 127.0.0.1, and answers
 * every request with the same three tokens as a stream of OpenAI's chat completions, in one write.
 * Keep-alive, one thread, epoll. It reads of a request where its body ends, and no more.
 *
 *   loopback-server [TOKENS]      prints "port N", then serves until its standard input ends
 *
 * tests/upstream/faulty.py --fast prints the same and does the same, slower.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"

enum { EVENTS = 64, TOKENS = 3, TOKENS_MAX = 100000 };

struct peer {
	int fd;
	struct buf in;
	bool in_body;
	size_t skip; /* bytes of the body that are still to come */
	const char *out;
	size_t out_len; /* what could not be written yet */
	unsigned owed;  /* answers behind that */
};

static struct buf answer;

static int make_answer(long n_tokens)
{
	struct buf body = {0};
	int r = 0;
	for (long i = 0; r == 0 && i < n_tokens; i++)
		r = buf_printf(&body,
			"data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\","
			"\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{"
			"\"content\":\" word\"},\"finish_reason\":null}]}\n\n");
	if (r == 0)
		r = buf_printf(&body,
			"data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\","
			"\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},"
			"\"finish_reason\":\"stop\"}]}\n\n"
			"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,"
			"\"completion_tokens\":%ld}}\n\ndata: [DONE]\n\n",
			n_tokens);
	if (r == 0)
		r = buf_printf(&answer,
			"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
			"content-length: %zu\r\n\r\n",
			body.len);
	if (r == 0)
		r = buf_append(&answer, body.data, body.len);
	buf_free(&body);
	return r;
}

/* Writes what is owed, as far as it goes. False: the peer is gone. */
static bool pay(struct peer *p)
{
	while (p->out_len || p->owed) {
		if (!p->out_len) {
			p->out = answer.data;
			p->out_len = answer.len;
			p->owed--;
		}
		ssize_t n = send(p->fd, p->out, p->out_len, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN;
		p->out += n;
		p->out_len -= (size_t)n;
	}
	return true;
}

/* Takes whole requests away from what came. */
static void take_requests(struct peer *p)
{
	for (;;) {
		if (p->in_body) {
			size_t n = p->skip < p->in.len ? p->skip : p->in.len;
			buf_consume(&p->in, n);
			p->skip -= n;
			if (p->skip)
				return;
			p->in_body = false;
			p->owed++;
		}
		char *end = p->in.len ? strstr(p->in.data, "\r\n\r\n") : NULL;
		if (!end)
			return;
		*end = '\0';
		const char *length = strcasestr(p->in.data, "\ncontent-length:");
		p->skip = length ? strtoul(length + 16, NULL, 10) : 0;
		p->in_body = true;
		buf_consume(&p->in, (size_t)(end + 4 - p->in.data));
	}
}

/* False: the peer is gone. */
static bool serve(struct peer *p)
{
	for (;;) {
		if (buf_reserve(&p->in, 65536) < 0)
			return false;
		ssize_t n = recv(p->fd, p->in.data + p->in.len, 65536, 0);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0)
			return false;
		p->in.len += (size_t)n;
		p->in.data[p->in.len] = '\0';
		take_requests(p);
		if (n < 65536)
			break;
	}
	return pay(p);
}

static void accept_peer(int listener, int epoll)
{
	int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct peer *p = fd >= 0 ? calloc(1, sizeof *p) : NULL;
	if (!p) {
		if (fd >= 0)
			close(fd);
		return;
	}
	p->fd = fd;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = p};
	epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
}

static int listen_somewhere(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 1024) < 0 ||
		getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		return -1;
	printf("port %d\n", ntohs(a.sin_port));
	fflush(stdout);
	return fd;
}

int main(int argc, char **argv)
{
	long n_tokens = argc > 1 ? strtol(argv[1], NULL, 10) : TOKENS;
	struct epoll_event events[EVENTS], e = {.events = EPOLLIN};
	if (argc > 2 || n_tokens < 1 || n_tokens > TOKENS_MAX) {
		fprintf(stderr, "usage: loopback-server [TOKENS], 1 to %d\n", TOKENS_MAX);
		return 2;
	}
	int epoll = epoll_create1(EPOLL_CLOEXEC), listener = listen_somewhere();
	if (make_answer(n_tokens) < 0 || epoll < 0 || listener < 0) {
		perror("loopback-server");
		return 1;
	}
	e.data.ptr = NULL;
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e);
	e.data.ptr = &answer; /* stands for the standard input; a file is never waited for */
	epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &e);
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			char room[64];
			struct peer *p = events[i].data.ptr;
			if (!p) {
				accept_peer(listener, epoll);
			} else if (events[i].data.ptr == &answer) {
				if (read(0, room, sizeof room) <= 0)
					return 0;
			} else if (!serve(p)) {
				close(p->fd);
				buf_free(&p->in);
				free(p);
			}
		}
	}
}
