/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of bench_shim.c. HTTP/1.1 as servers send it: bodies with a length or in chunks,
 * events that end with an empty line. JSON is not parsed: of an event the value of the first
 * "content" is taken as it stands, for the server's words need no escapes. It must cost little, for
 * it runs on the processors that are measured.
 *
 * Invariant: `bytes` of the expected text have come and were right, or `right` is false.
 */
#include "bench_shim_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

static struct buf expected;

void bench_shim_peer_expect(size_t tokens)
{
	for (size_t i = 0; i < tokens; i++)
		if (buf_printf(&expected, " w%c%c%c", 'a' + (int)(i / 676 % 26),
			    'a' + (int)(i / 26 % 26), 'a' + (int)(i % 26)) < 0)
			exit(1);
}

size_t bench_shim_peer_expected(void)
{
	return expected.len;
}

int bench_shim_peer_open(struct bench_shim_peer *p, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int one = 1;
	*p = (struct bench_shim_peer){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&a, sizeof a) < 0)
		return -errno;
	setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return 0;
}

int bench_shim_peer_ask(struct bench_shim_peer *p, const char *bytes, size_t len, bool streamed)
{
	buf_clear(&p->in);
	buf_clear(&p->body);
	p->state = PEER_HEAD;
	p->streamed = streamed;
	p->is_error = p->done = false;
	p->right = true;
	p->frames = p->bytes = 0;
	p->first_ns = p->end_ns = 0;
	p->sent_ns = clock_mono_ns();
	ssize_t n = send(p->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EAGAIN;
}

/* ---- text ---- */

/* The value of "content" in there, or NULL. */
static const char *find_content(const char *json, size_t *len)
{
	const char *at = strstr(json, "\"content\"");
	if (!at)
		return NULL;
	at += strlen("\"content\"");
	while (*at == ':' || *at == ' ')
		at++;
	if (*at != '"')
		return NULL;
	const char *end = strchr(++at, '"');
	*len = end ? (size_t)(end - at) : 0;
	return end ? at : NULL;
}

static void take_text(struct bench_shim_peer *p, const char *json)
{
	size_t len = 0;
	const char *text = find_content(json, &len);
	if (!text || !len)
		return;
	if (!p->first_ns)
		p->first_ns = clock_mono_ns();
	p->frames++;
	if (p->bytes + len > expected.len || memcmp(expected.data + p->bytes, text, len))
		p->right = false;
	p->bytes += len;
}

static void take_events(struct bench_shim_peer *p)
{
	size_t used = 0;
	char *end;
	while (used < p->body.len && (end = strstr(p->body.data + used, "\n\n"))) {
		*end = '\0';
		if (!strncmp(p->body.data + used, "data: [DONE]", 12))
			p->done = true;
		else
			take_text(p, p->body.data + used);
		used = (size_t)(end + 2 - p->body.data);
	}
	if (used)
		buf_consume(&p->body, used);
}

static int take_body(struct bench_shim_peer *p, const char *bytes, size_t len)
{
	int r = buf_append(&p->body, bytes, len);
	if (r == 0 && p->streamed && !p->is_error)
		take_events(p);
	return r;
}

static int end_body(struct bench_shim_peer *p)
{
	p->state = PEER_IDLE;
	p->end_ns = clock_mono_ns();
	if (p->is_error)
		return -EREMOTEIO;
	if (!p->streamed) {
		p->done = true;
		take_text(p, p->body.len ? p->body.data : "");
	}
	if (p->bytes != expected.len)
		p->right = false;
	return 1;
}

/* ---- HTTP ---- */

static int take_head(struct bench_shim_peer *p)
{
	p->is_error = strncmp(p->in.data, "HTTP/1.1 200", 12) != 0;
	const char *length = strcasestr(p->in.data, "\ncontent-length:");
	const char *coding = strcasestr(p->in.data, "\ntransfer-encoding: chunked");
	if (!length && !coding)
		return -EPROTO;
	p->state = coding ? PEER_SIZE : PEER_LENGTH;
	p->left = coding ? 0 : strtoull(length + 16, NULL, 10);
	return 0;
}

/* The size of the next chunk. Both line ends of a chunk are counted with it, the last one's too. */
static void take_size(struct bench_shim_peer *p)
{
	uint64_t size = strtoull(p->in.data, NULL, 16);
	p->state = size ? PEER_CHUNK : PEER_TAIL;
	p->left = size + 2;
}

/* Lines up to `mark` go to p->in. Returns how much of the bytes that were, and whether it is whole.
 */
static size_t take_until(
	struct bench_shim_peer *p, const char *bytes, size_t len, const char *mark, bool *whole)
{
	size_t mark_len = strlen(mark);
	for (size_t i = 0; i < len; i++) {
		buf_append(&p->in, bytes + i, 1);
		if (p->in.len >= mark_len &&
			!memcmp(p->in.data + p->in.len - mark_len, mark, mark_len)) {
			*whole = true;
			return i + 1;
		}
	}
	*whole = false;
	return len;
}

static int take_lines(struct bench_shim_peer *p, const char *bytes, size_t len, size_t *used)
{
	bool whole;
	int r = 0;
	*used = take_until(p, bytes, len, p->state == PEER_HEAD ? "\r\n\r\n" : "\r\n", &whole);
	if (!whole)
		return 0;
	if (p->state == PEER_HEAD)
		r = take_head(p);
	else
		take_size(p);
	buf_clear(&p->in);
	return r == 0 && p->state == PEER_LENGTH && !p->left ? end_body(p) : r;
}

/* As much of a body's bytes as belongs to it. 0, 1 its end, -errno. */
static int take_bytes(struct bench_shim_peer *p, const char *bytes, size_t len, size_t *used)
{
	size_t n = p->left < len ? (size_t)p->left : len;
	size_t around = p->state == PEER_LENGTH ? 0 : 2; /* the line end behind a chunk */
	size_t text = p->left > around ? (size_t)(p->left - around) : 0;
	int r = p->state == PEER_TAIL ? 0 : take_body(p, bytes, text < n ? text : n);
	p->left -= n;
	*used = n;
	if (r < 0 || p->left)
		return r;
	if (p->state == PEER_CHUNK) {
		p->state = PEER_SIZE;
		return 0;
	}
	return end_body(p);
}

int bench_shim_peer_take(struct bench_shim_peer *p, bool wait)
{
	static char room[65536];
	ssize_t got = recv(p->fd, room, sizeof room, wait ? 0 : MSG_DONTWAIT);
	if (got < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (got == 0)
		return -ECONNRESET;
	size_t at = 0;
	while (at < (size_t)got) {
		size_t used = 0;
		int r;
		if (p->state == PEER_IDLE)
			return -EPROTO;
		if (p->state == PEER_HEAD || p->state == PEER_SIZE)
			r = take_lines(p, room + at, (size_t)got - at, &used);
		else
			r = take_bytes(p, room + at, (size_t)got - at, &used);
		at += used;
		if (r)
			return r;
	}
	return 0;
}

void bench_shim_peer_close(struct bench_shim_peer *p)
{
	close(p->fd);
	buf_free(&p->in);
	buf_free(&p->body);
}
