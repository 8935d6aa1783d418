/* SPDX-License-Identifier: Apache-2.0 */
/* What a call finds of the ones before it: a handle that is set up for its place, and a connection
 * that is watched. Where it matters what the server does when, the test is the server. */
#include <arpa/inet.h>
#include <check.h>
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/http_parts.h"
#include "tests/gateway/fetch_fixture.h"
#include "tests/run_suite.h"

/* ---- a server ---- */

static int listener = -1;
static char own_url[64];

static void listen_here(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(listen(listener, 8), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&a, &len), 0);
	snprintf(own_url, sizeof own_url, "http://127.0.0.1:%d/v1/chat?x=%%41", ntohs(a.sin_port));
}

static void await(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	ck_assert_int_eq(poll(&p, 1, 20000), 1);
}

static int take_connection(void)
{
	await(listener);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	return fd;
}

/* Reads a request to its end, as fetch_make_url makes them; its first line is left in `line`. */
static void take_request(int fd, char line[128])
{
	char room[4096];
	size_t n = 0;
	do {
		await(fd);
		ssize_t got = read(fd, room + n, sizeof room - 1 - n);
		ck_assert_int_gt(got, 0);
		n += (size_t)got;
		room[n] = '\0';
	} while (!strstr(room, "{\"stream\": true}"));
	snprintf(line, 128, "%.*s", (int)strcspn(room, "\r"), room);
}

static void answer(int fd)
{
	static const char text[] = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
	ck_assert_int_eq(write(fd, text, sizeof text - 1), sizeof text - 1);
}

/* The descriptors in the loop's epoll set, its own included. */
static int count_watched(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;
	for (struct dirent *e; (e = readdir(d));) {
		char path[320], text[128];
		snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
		ssize_t len = readlink(path, text, sizeof text - 1);
		text[len > 0 ? len : 0] = '\0';
		if (!strstr(text, "[eventpoll]"))
			continue;
		snprintf(path, sizeof path, "/proc/self/fdinfo/%s", e->d_name);
		FILE *f = fopen(path, "re");
		while (f && fgets(text, sizeof text, f))
			n += !strncmp(text, "tfd:", 4);
		if (f)
			fclose(f);
	}
	closedir(d);
	return n;
}

static void await_watched(int want)
{
	for (int i = 0; i < 50000 && count_watched() != want; i++)
		usleep(100);
	ck_assert_int_eq(count_watched(), want);
}

/* One call that is answered on that connection, or on a new one: the connection. */
static int call_once(int fd)
{
	struct fetch f = {0};
	char line[128];
	fetch_make_url(&f, own_url);
	fetch_on_loop(fetch_begin, &f);
	if (fd < 0)
		fd = take_connection();
	take_request(fd, line);
	ck_assert_str_eq(line, "POST /v1/chat?x=%41 HTTP/1.1");
	answer(fd);
	fetch_wait(&f);
	ck_assert_msg(f.fault == HTTP_OK, "%s", f.sentence);
	ck_assert_int_eq(memcmp(f.body.data, "ok", 2), 0);
	fetch_drop(&f);
	return fd;
}

static void open_both(void)
{
	fetch_open();
	listen_here();
}

static void close_both(void)
{
	fetch_close();
	close(listener);
}

START_TEST(a_connection_that_nobody_uses_is_watched_on)
{
	int alone = count_watched();
	int fd = call_once(-1);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(count_watched(), alone + 1);
		call_once(fd);
	}
	fetch_assert_counts(0, 1);
	close(fd);
}
END_TEST

START_TEST(one_that_its_server_closes_meanwhile_is_watched_no_more_and_the_next_call_has_another)
{
	int alone = count_watched();
	for (int i = 0; i < 3; i++) {
		int fd = call_once(-1);
		ck_assert_int_eq(count_watched(), alone + 1);
		close(fd);
		await_watched(alone);
	}
	fetch_assert_counts(0, 1);
}
END_TEST

START_TEST(one_on_which_something_comes_unasked_is_watched_no_more)
{
	int alone = count_watched();
	int fd = call_once(-1);
	ck_assert_int_eq(write(fd, "x", 1), 1);
	await_watched(alone);
	fetch_assert_counts(0, 1);
	close(fd);
}
END_TEST

START_TEST(a_request_that_is_sent_again_has_the_same_target)
{
	struct fetch f = {0};
	char line[128];
	int fd = call_once(-1);
	fetch_make_url(&f, own_url);
	fetch_on_loop(fetch_begin, &f);
	take_request(fd, line);
	close(fd); /* as a server does that had just given the connection up */
	fd = take_connection();
	take_request(fd, line);
	ck_assert_str_eq(line, "POST /v1/chat?x=%41 HTTP/1.1");
	answer(fd);
	fetch_wait(&f);
	ck_assert_msg(f.fault == HTTP_OK, "%s", f.sentence);
	fetch_drop(&f);
	call_once(fd);
	close(fd);
}
END_TEST

/* ---- handles ---- */

static size_t n_pool, n_places;

static void count_handles(struct fetch *f)
{
	n_pool = fetch_http->n_pool;
	n_places = 0;
	for (size_t i = 0; i < n_pool; i++)
		n_places += fetch_http->pool[i]->url != NULL;
}

static void assert_handles(size_t pool, size_t places)
{
	fetch_on_loop(count_handles, NULL);
	ck_assert_uint_eq(n_pool, pool);
	ck_assert_uint_eq(n_places, places);
}

/* A call to the k-th place, which has to come to the server as that. */
static void call_place(int k, const char *proxy)
{
	struct fetch f;
	char target[128], want[128];
	json_decref(faulty_ask(&fetch_server, "POST", "/reset", ""));
	fetch_make(&f, "ok");
	snprintf(f.url + strlen(f.url), 16, "?%d", k);
	snprintf(want, sizeof want, "%s", proxy && *proxy ? "http://" : "/b/ok/");
	f.q.proxy = proxy;
	fetch_run(&f);
	ck_assert_msg(f.fault == HTTP_OK && f.head.status == 200, "%s", f.sentence);
	json_t *log = faulty_log(&fetch_server);
	snprintf(target, sizeof target, "%s",
		json_string_value(json_object_get(json_array_get(log, 0), "target")));
	json_decref(log);
	ck_assert_msg(!strncmp(target, want, strlen(want)), "%s", target);
	snprintf(want, sizeof want, "?%d", k);
	ck_assert_str_eq(strchr(target, '?'), want);
	fetch_drop(&f);
}

START_TEST(calls_to_one_place_share_a_handle_and_places_have_their_own)
{
	char proxy[64];
	snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", fetch_server.port);
	for (int i = 0; i < 3; i++) {
		call_place(1, "");
		assert_handles(1, 1);
	}
	call_place(2, "");
	call_place(1, "");
	assert_handles(2, 2);
	call_place(1, NULL); /* the environment may name a proxy */
	call_place(1, "");
	assert_handles(3, 3);
	call_place(1, proxy); /* by name: is set up each time, for whatever place */
	call_place(2, proxy);
	call_place(1, "");
	call_place(2, proxy);
	call_place(1, NULL);
	assert_handles(4, 3);
}
END_TEST

START_TEST(of_more_places_than_handles_each_is_asked_as_itself)
{
	for (int k = 0; k < HTTP_POOL_MAX + 3; k++)
		call_place(k, "");
	assert_handles(HTTP_POOL_MAX, HTTP_POOL_MAX);
	call_place(0, "");
	call_place(HTTP_POOL_MAX, "");
	call_place(0, "");
	assert_handles(HTTP_POOL_MAX, HTTP_POOL_MAX);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("http_reuse");
	TCase *c = tcase_create("connections and handles");
	tcase_add_checked_fixture(c, open_both, close_both);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, a_connection_that_nobody_uses_is_watched_on);
	tcase_add_test(c,
		one_that_its_server_closes_meanwhile_is_watched_no_more_and_the_next_call_has_another);
	tcase_add_test(c, one_on_which_something_comes_unasked_is_watched_no_more);
	tcase_add_test(c, a_request_that_is_sent_again_has_the_same_target);
	tcase_add_test(c, calls_to_one_place_share_a_handle_and_places_have_their_own);
	tcase_add_test(c, of_more_places_than_handles_each_is_asked_as_itself);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	if (!fetch_server_start())
		return 77;
	int r = run_suite(make_suite());
	faulty_stop(&fetch_server);
	return r;
}
