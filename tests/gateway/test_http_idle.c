/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that end in every way there is, also while nobody uses them, with a server of our own
 * that does it at random: each call has one end, and in the end nothing is watched and nothing is
 * open. */
#include <arpa/inet.h>
#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/http_parts.h"
#include "tests/gateway/fetch_fixture.h"
#include "tests/run_suite.h"

enum { CALLS = 3000, AT_A_TIME = 24, CLIENTS = 256, KINDS = 8 };

static int listener = -1;
static char own_url[64];
static atomic_bool stopping;
static pthread_t server;
static unsigned kinds[KINDS]; /* what was done, of each kind */

/* Of each of the two threads its own; LLMFS_SEED changes both. */
static _Thread_local uint64_t random_state;
static uint64_t seed = 88172645463325252u;

static unsigned dice(unsigned n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)(random_state >> 33) % n;
}

static void say(int fd, const char *text)
{
	ssize_t n = send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)n; /* who has gone hears nothing */
}

static void reset(int fd)
{
	struct linger none = {1, 0};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

#define HEAD "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"

/* To a request; false: and then it hangs up. */
static bool answer(int fd)
{
	unsigned kind = dice(KINDS);
	kinds[kind]++;
	switch (kind) {
	case 0: /* not a word */
		return false;
	case 1: /* half */
		say(fd, HEAD "\r\no");
		return false;
	case 2: /* no HTTP, or reset */
		if (dice(2))
			reset(fd);
		else
			say(fd, "what?\r\n\r\n");
		return false;
	case 3: /* whole, and more that nobody asked for */
		say(fd, HEAD "\r\nokHTTP/1.1 408 late\r\ncontent-length: 0\r\n\r\n");
		return true;
	case 4: /* whole, and it hangs up without having said so */
		say(fd, HEAD "\r\nok");
		if (dice(2))
			reset(fd);
		return false;
	case 5:
		say(fd, HEAD "connection: close\r\n\r\nok");
		return false;
	default:
		say(fd, HEAD "\r\nok");
		return true;
	}
}

/* Something happens on a connection: false: it is to be closed. */
static bool serve(int fd)
{
	char room[4096];
	ssize_t n = recv(fd, room, sizeof room, MSG_DONTWAIT);
	if (n <= 0)
		return false;
	return answer(fd); /* a request is so short that it comes whole */
}

/* Now and then an idle one hears what it has not asked for, or the end. */
static bool tease(int fd)
{
	unsigned kind = dice(40);
	if (kind == 0)
		say(fd, "x");
	if (kind == 1)
		reset(fd);
	return kind != 1 && kind != 2;
}

static void *serve_all(void *arg)
{
	random_state = 77 * seed + 1;
	struct pollfd p[CLIENTS + 1] = {{.fd = listener, .events = POLLIN}};
	nfds_t n = 1;
	while (!stopping) {
		bool quiet = poll(p, n, 2) == 0;
		if (p[0].revents && n <= CLIENTS)
			p[n++] = (struct pollfd){
				accept4(listener, NULL, NULL, SOCK_CLOEXEC), POLLIN, 0};
		for (nfds_t i = n; i-- > 1;) {
			bool stays = p[i].revents ? serve(p[i].fd) : quiet ? tease(p[i].fd) : true;
			if (stays)
				continue;
			close(p[i].fd);
			p[i] = p[--n];
			p[i].revents = 0;
		}
	}
	while (n > 1)
		close(p[--n].fd);
	return NULL;
}

static void open_both(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	fetch_open();
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(listen(listener, 64), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&a, &len), 0);
	snprintf(own_url, sizeof own_url, "http://127.0.0.1:%d/", ntohs(a.sin_port));
	stopping = false;
	ck_assert_int_eq(pthread_create(&server, NULL, serve_all, NULL), 0);
}

static void stop_server(void)
{
	if (!atomic_exchange(&stopping, true))
		pthread_join(server, NULL);
}

static void close_both(void)
{
	stop_server();
	fetch_close();
	close(listener);
}

static struct fetch calls[AT_A_TIME];

/* Breaks off, which is the end of it. */
static bool leave(struct fetch *f)
{
	f->call = NULL;
	atomic_fetch_add(&f->n_done, 1);
	return false;
}

static void begin(struct fetch *f)
{
	memset(f, 0, sizeof *f);
	fetch_make_url(f, own_url);
	f->q.total_ms = 15000;
	if (dice(8) == 0)
		f->on_data = leave;
	fetch_on_loop(fetch_begin, f);
}

static void sweep_soon(struct fetch *f)
{
	http_idle(fetch_http, 1);
}

START_TEST(whatever_ends_a_connection_each_call_has_one_end_and_nothing_is_left)
{
	size_t ok = 0, faults = 0;
	int descriptors = fetch_count_descriptors(), watched = fetch_count_watched();
	random_state = seed;
	for (int i = 0; i < CALLS; i += AT_A_TIME) {
		unsigned n = 1 + dice(AT_A_TIME);
		for (unsigned k = 0; k < n; k++)
			begin(&calls[k]);
		for (unsigned k = 0; k < n; k++) {
			fetch_wait(&calls[k]);
			/* One that is reset before the request is on its way was no connection. */
			ck_assert_msg(calls[k].fault == HTTP_OK || calls[k].fault == HTTP_BROKEN ||
					      calls[k].fault == HTTP_CONNECT,
				"%s", calls[k].sentence);
			ok += calls[k].fault == HTTP_OK;
			faults += calls[k].fault != HTTP_OK;
			fetch_drop(&calls[k]);
		}
		if (dice(4) == 0)
			usleep(1000 * dice(20));
	}
	ck_assert_uint_gt(ok, 200);
	ck_assert_uint_gt(faults, 200);
	stop_server(); /* and with it the last connections: they are found at a sweep */
	for (unsigned k = 0; k < KINDS; k++)
		ck_assert_uint_gt(kinds[k], 0);
	fetch_on_loop(sweep_soon, NULL);
	fetch_assert_counts(0, 0);
	ck_assert_int_eq(fetch_count_watched(), watched);
	ck_assert_int_eq(fetch_count_descriptors(), descriptors);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http_idle");
	TCase *c = tcase_create("ends");
	const char *other = getenv("LLMFS_SEED");
	if (!fetch_server_start())
		return 77;
	if (other && *other)
		seed = strtoull(other, NULL, 10);
	tcase_add_checked_fixture(c, open_both, close_both);
	tcase_set_timeout(c, 240);
	tcase_add_test(c, whatever_ends_a_connection_each_call_has_one_end_and_nothing_is_left);
	suite_add_tcase(s, c);
	int r = run_suite(s);
	faulty_stop(&fetch_server);
	return r;
}
