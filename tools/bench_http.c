/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a call to an upstream costs: http.c and the reading of an answer, against a server that
 * answers at once (tools/loopback_server.c), beside a bare socket that only writes and reads.
 *
 * usage: bench-http PORT [CALLS [AT_ONCE]]
 *
 * Prints microseconds of a call, 50th and 99th percentile, and calls a second.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/http.h"
#include "gateway/protocol.h"

#define BODY                                                                                       \
	"{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"            \
	"\"temperature\":0.7,\"top_p\":1.0,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"

static struct loop *loop;
static struct http *http;
static char url[64];
static size_t n_calls = 20000, at_once = 1, n_begun, n_ended;
static double *took_us;
static atomic_bool over;

struct one {
	struct protocol_reader *reader;
	struct protocol_answer answer;
	struct buf text;
	uint64_t begun_ns;
};

static void fail(const char *what)
{
	fprintf(stderr, "bench-http: %s\n", what);
	exit(1);
}

static void begin(struct one *o);

static bool take_data(void *arg, const struct http_response *head, const char *bytes, size_t len)
{
	static const struct provider_request request;
	struct one *o = arg;
	struct err err;
	if (!o->reader)
		o->reader = protocol_openai.reader_new(&request, head->content_type);
	if (protocol_openai.reader_feed(o->reader, bytes, len, &o->text, &o->answer, &err) < 0)
		fail(err.text);
	return true;
}

static void take_done(
	void *arg, enum http_fault fault, const struct http_response *head, const char *sentence)
{
	struct one *o = arg;
	struct err err;
	if (fault != HTTP_OK || !o->reader)
		fail(sentence);
	if (protocol_openai.reader_end(o->reader, &o->text, &o->answer, &err) < 0)
		fail(err.text);
	o->reader = protocol_openai.reader_free(o->reader);
	took_us[n_ended++] = (double)(clock_mono_ns() - o->begun_ns) / 1e3;
	if (n_begun < n_calls)
		begin(o);
	over = n_ended == n_calls;
}

static void begin(struct one *o)
{
	static const char *const headers[] = {
		"content-type: application/json", "authorization: Bearer key", NULL};
	struct err err = {0};
	struct http_call *call;
	struct http_request q = {
		.url = url,
		.method = "POST",
		.headers = headers,
		.body = BODY,
		.body_len = sizeof BODY - 1,
		.connect_ms = 10000,
		.first_ms = 60000,
		.idle_ms = 60000,
		.total_ms = 600000,
		.proxy = "",
		.data = take_data,
		.done = take_done,
		.arg = o,
	};
	memset(&o->answer, 0, sizeof o->answer);
	buf_clear(&o->text);
	o->begun_ns = clock_mono_ns();
	n_begun++;
	if (http_begin(&call, http, &q, &err) < 0)
		fail(err.text);
}

static void begin_all(struct loop_work *w)
{
	struct one *all = calloc(at_once, sizeof *all);
	if (!all)
		fail("out of memory");
	for (size_t i = 0; i < at_once; i++)
		begin(&all[i]);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void print(const char *what, uint64_t all_ns)
{
	qsort(took_us, n_calls, sizeof *took_us, compare);
	printf("%-16s %8.1f us  %8.1f us  %9.0f a second\n", what, took_us[n_calls / 2],
		took_us[n_calls * 99 / 100], (double)n_calls * 1e9 / (double)all_ns);
}

/* One call after another on one socket; the answer is known to be whole by its last bytes. */
static void run_bare(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	static char room[1 << 20], ask[1024];
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
		fail("nobody listens there");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	int len = snprintf(ask, sizeof ask,
		"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %zu\r\n\r\n%s",
		sizeof BODY - 1, BODY);
	uint64_t begun_ns = clock_mono_ns();
	for (size_t i = 0; i < n_calls; i++) {
		uint64_t before = clock_mono_ns();
		size_t n = 0;
		if (write(fd, ask, (size_t)len) != len)
			fail("cannot write");
		while (n < 8 || memcmp(room + n - 8, "[DONE]\n\n", 8)) {
			ssize_t got = read(fd, room + n, sizeof room - n);
			if (got <= 0)
				fail("cannot read");
			n += (size_t)got;
		}
		took_us[i] = (double)(clock_mono_ns() - before) / 1e3;
	}
	print("a bare socket", clock_mono_ns() - begun_ns);
	close(fd);
}

int main(int argc, char **argv)
{
	struct err err = {0};
	int port = argc > 1 ? atoi(argv[1]) : 0;
	n_calls = argc > 2 ? strtoul(argv[2], NULL, 10) : n_calls;
	at_once = argc > 3 ? strtoul(argv[3], NULL, 10) : at_once;
	if (port <= 0 || !n_calls || !at_once || at_once > n_calls) {
		fprintf(stderr, "usage: bench-http PORT [CALLS [AT_ONCE]]\n");
		return 2;
	}
	took_us = calloc(n_calls, sizeof *took_us);
	snprintf(url, sizeof url, "http://127.0.0.1:%d/v1/chat/completions", port);
	if (!took_us || loop_new(&loop, &err) < 0 || http_new(&http, loop, &err) < 0)
		fail(*err.text ? err.text : "out of memory");
	printf("%zu calls, %zu at once   p50          p99\n", n_calls, at_once);
	run_bare(port);
	struct loop_work work = {.run = begin_all};
	list_init(&work.link);
	uint64_t begun_ns = clock_mono_ns();
	loop_post(loop, &work);
	while (!over)
		usleep(1000);
	print("http.c", clock_mono_ns() - begun_ns);
	loop_close(loop);
	http_free(http);
	loop_free(loop);
	return 0;
}
