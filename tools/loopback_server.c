/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An upstream for benchmarks, which costs next to nothing: it listens on 127.0.0.1, and answers
 * every request with the same tokens, each another word: " waaa waab waac ...". Who asks for a
 * stream ("stream": true) gets OpenAI's events, all in one write or one each GAP_MS; who does not,
 * one JSON object at once. Keep-alive, one thread, epoll. Of a body it looks for that member only.
 *
 *   loopback-server [TOKENS [GAP_MS]]  prints "port N", then serves until its standard input ends
 *
 * tests/upstream/faulty.py --fast prints the same and does the same, slower.
 *
 * A peer has one answer under way, and its next request waits in `in`. All gaps are equal: the
 * peers whose next token is due are a queue, which is in order by itself.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/list.h"

enum { EVENTS = 64, TOKENS = 3, TOKENS_MAX = 100000, BODY_MAX = 16 << 20 };

struct peer {
	int fd;
	struct buf in;
	const char *out;
	size_t out_len;  /* what could not be written yet */
	size_t next;     /* the token that is due next: n_tokens when none is */
	struct list due; /* in `waiting` */
	uint64_t due_ns;
};

static size_t n_tokens = TOKENS;
static uint64_t gap_ns;
static struct buf whole, stream; /* the two answers, with their heads */
static size_t *ends;             /* [n_tokens] where in `stream` the event of each token ends; the
				    last one's has all that follows */
static struct list waiting = LIST_INIT(waiting);

/* ---- what is answered ---- */

static int add_word(struct buf *b, size_t i)
{
	return buf_printf(b, " w%c%c%c", 'a' + (int)(i / 676 % 26), 'a' + (int)(i / 26 % 26),
		'a' + (int)(i % 26));
}

static int add_events(struct buf *b)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < n_tokens; i++) {
		r = buf_append_str(b,
			"data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\","
			"\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{"
			"\"content\":\"");
		r = r ? r : add_word(b, i);
		r = r ? r : buf_append_str(b, "\"},\"finish_reason\":null}]}\n\n");
		ends[i] = b->len;
	}
	return r ? r
		 : buf_printf(b,
			   "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\","
			   "\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},"
			   "\"finish_reason\":\"stop\"}]}\n\n"
			   "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,"
			   "\"completion_tokens\":%zu}}\n\ndata: [DONE]\n\n",
			   n_tokens);
}

static int add_object(struct buf *b)
{
	int r = buf_append_str(b,
		"{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,"
		"\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
		"\"content\":\"");
	for (size_t i = 0; r == 0 && i < n_tokens; i++)
		r = add_word(b, i);
	return r ? r
		 : buf_printf(b,
			   "\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,"
			   "\"completion_tokens\":%zu,\"total_tokens\":%zu}}",
			   n_tokens, n_tokens + 9);
}

static int make_answer(struct buf *out, const char *type, int (*add)(struct buf *))
{
	struct buf body = {0};
	int r = add(&body);
	if (r == 0)
		r = buf_printf(out,
			"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n"
			"content-length: %zu\r\n\r\n",
			type, body.len);
	if (r == 0)
		r = buf_append(out, body.data, body.len);
	buf_free(&body);
	return r;
}

static int make_answers(void)
{
	ends = calloc(n_tokens, sizeof *ends);
	if (!ends || make_answer(&whole, "application/json", add_object) < 0 ||
		make_answer(&stream, "text/event-stream", add_events) < 0)
		return -1;
	const char *body = strstr(stream.data, "\r\n\r\n") + 4;
	for (size_t i = 0; i < n_tokens; i++)
		ends[i] += (size_t)(body - stream.data);
	ends[n_tokens - 1] = stream.len;
	return 0;
}

/* ---- a peer ---- */

/* Writes what is owed by now, as far as it goes. False: the peer is gone. */
static bool pay(struct peer *p)
{
	while (p->out_len) {
		ssize_t n = send(p->fd, p->out, p->out_len, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN;
		p->out += n;
		p->out_len -= (size_t)n;
	}
	return true;
}

static bool is_busy(const struct peer *p)
{
	return p->out_len || p->next < n_tokens;
}

/* The next token's event is owed from now on, and the one behind it a gap later. */
static void owe_token(struct peer *p)
{
	size_t before = p->next ? ends[p->next - 1] : 0;
	if (!p->out_len)
		p->out = stream.data + before;
	p->out_len += ends[p->next++] - before;
	list_remove(&p->due);
	if (p->next == n_tokens)
		return;
	p->due_ns += gap_ns;
	list_append(&waiting, &p->due);
}

static bool wants_stream(const char *body)
{
	const char *at = strstr(body, "\"stream\"");
	if (!at)
		return false;
	at += strlen("\"stream\"");
	while (*at == ':' || isspace((unsigned char)*at))
		at++;
	return *at == 't';
}

static void answer(struct peer *p, bool streamed)
{
	if (streamed && gap_ns) {
		p->next = 0;
		p->due_ns = clock_mono_ns();
		owe_token(p);
		return;
	}
	p->out = streamed ? stream.data : whole.data;
	p->out_len = streamed ? stream.len : whole.len;
}

/* Takes a whole request away from what came, and answers it. False: there is none. */
static bool take_request(struct peer *p)
{
	char *end = p->in.len ? strstr(p->in.data, "\r\n\r\n") : NULL;
	if (!end)
		return false;
	*end = '\0';
	const char *length = strcasestr(p->in.data, "\ncontent-length:");
	*end = '\r';
	size_t body = length ? strtoul(length + 16, NULL, 10) : 0;
	size_t head = (size_t)(end + 4 - p->in.data);
	if (body > BODY_MAX || p->in.len - head < body)
		return false;
	char *last = p->in.data + head + body, kept = *last;
	*last = '\0';
	bool streamed = wants_stream(p->in.data + head);
	*last = kept;
	buf_consume(&p->in, head + body);
	answer(p, streamed);
	return true;
}

/* False: the peer is gone. */
static bool serve(struct peer *p)
{
	for (;;) {
		if (buf_reserve(&p->in, 16384) < 0)
			return false;
		ssize_t n = recv(p->fd, p->in.data + p->in.len, 16384, 0);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0)
			return false;
		p->in.len += (size_t)n;
		p->in.data[p->in.len] = '\0';
		if (n < 16384)
			break;
	}
	do {
		if (!pay(p))
			return false;
	} while (!is_busy(p) && take_request(p));
	return true;
}

static void end_peer(struct peer *p)
{
	close(p->fd);
	list_remove(&p->due);
	buf_free(&p->in);
	free(p);
}

/* ---- all of them ---- */

/* Gives what is due. Returns the milliseconds until more is, -1 never. */
static int serve_due(void)
{
	while (!list_empty(&waiting)) {
		struct peer *p = list_entry(waiting.next, struct peer, due);
		uint64_t now_ns = clock_mono_ns();
		if (p->due_ns > now_ns)
			return (int)((p->due_ns - now_ns) / 1000000 + 1);
		owe_token(p);
		if (!serve(p))
			end_peer(p);
	}
	return -1;
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
	p->next = n_tokens;
	p->in.max = BODY_MAX + 65536;
	list_init(&p->due);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = p};
	epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
}

static int listen_somewhere(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 4096) < 0 ||
		getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		return -1;
	printf("port %d\n", ntohs(a.sin_port));
	fflush(stdout);
	return fd;
}

static bool read_arguments(int argc, char **argv)
{
	long tokens = argc > 1 ? strtol(argv[1], NULL, 10) : TOKENS;
	long gap_ms = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
	n_tokens = (size_t)tokens;
	gap_ns = (uint64_t)gap_ms * 1000000;
	return argc <= 3 && tokens >= 1 && tokens <= TOKENS_MAX && gap_ms >= 0 && gap_ms <= 60000;
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS], e = {.events = EPOLLIN};
	struct rlimit files;
	if (!read_arguments(argc, argv)) {
		fprintf(stderr, "usage: loopback-server [TOKENS [GAP_MS]], 1 to %d tokens\n",
			TOKENS_MAX);
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	int epoll = epoll_create1(EPOLL_CLOEXEC), listener = listen_somewhere();
	if (make_answers() < 0 || epoll < 0 || listener < 0) {
		perror("loopback-server");
		return 1;
	}
	e.data.ptr = NULL;
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e);
	e.data.ptr = &whole; /* stands for the standard input; a file is never waited for */
	epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &e);
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, serve_due());
		for (int i = 0; i < n; i++) {
			char room[64];
			struct peer *p = events[i].data.ptr;
			if (!p) {
				accept_peer(listener, epoll);
			} else if (events[i].data.ptr == &whole) {
				if (read(0, room, sizeof room) <= 0)
					return 0;
			} else if (!serve(p)) {
				end_peer(p);
			}
		}
	}
}
