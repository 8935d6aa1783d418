/* SPDX-License-Identifier: Apache-2.0 */
/* What a call finds of the ones before it: a handle that is set up for its place, and a connection
 * that is watched. Where it matters what the server does when, the test is the server. */
#include <arpa/inet.h>
#include <check.h>
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

/* Reads until what came ends so. */
static void take_until(int fd, const char *end, char room[4096])
{
	size_t n = 0, n_end = strlen(end);
	do {
		await(fd);
		ssize_t got = read(fd, room + n, 4095 - n);
		ck_assert_int_gt(got, 0);
		n += (size_t)got;
		room[n] = '\0';
	} while (n < n_end || strcmp(room + n - n_end, end));
}

/* A request as fetch_make_url makes them; its first line is left in `line`. */
static void take_request(int fd, char line[128])
{
	char room[4096];
	take_until(fd, "{\"stream\": true}", room);
	snprintf(line, 128, "%.*s", (int)strcspn(room, "\r"), room);
}

static void answer(int fd)
{
	static const char text[] = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
	ck_assert_int_eq(write(fd, text, sizeof text - 1), sizeof text - 1);
}

static void await_watched(int want)
{
	for (int i = 0; i < 50000 && fetch_count_watched() != want; i++)
		usleep(100);
	ck_assert_int_eq(fetch_count_watched(), want);
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
	int alone = fetch_count_watched();
	int fd = call_once(-1);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(fetch_count_watched(), alone + 1);
		call_once(fd);
	}
	fetch_assert_counts(0, 1);
	close(fd);
}
END_TEST

START_TEST(one_that_its_server_closes_meanwhile_is_watched_no_more_and_the_next_call_has_another)
{
	int alone = fetch_count_watched();
	for (int i = 0; i < 3; i++) {
		int fd = call_once(-1);
		ck_assert_int_eq(fetch_count_watched(), alone + 1);
		close(fd);
		await_watched(alone);
	}
	fetch_assert_counts(0, 1);
}
END_TEST

START_TEST(one_on_which_something_comes_unasked_is_watched_no_more)
{
	int alone = fetch_count_watched();
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

/* What a call with that handle sends, to the listener or through it as a proxy; fd: on which
 * connection. */
static int send_once(int fd, const struct http_request *like, const char *end, char room[4096])
{
	struct fetch f = {0};
	fetch_make_url(&f, own_url);
	f.q.method = like->method;
	f.q.headers = like->headers;
	f.q.body = like->body;
	f.q.body_len = like->body ? strlen(like->body) : 0;
	f.q.proxy = like->proxy;
	fetch_on_loop(fetch_begin, &f);
	if (fd < 0)
		fd = take_connection();
	take_until(fd, end, room);
	answer(fd);
	fetch_wait(&f);
	ck_assert_msg(f.fault == HTTP_OK, "%s", f.sentence);
	fetch_drop(&f);
	return fd;
}

START_TEST(a_handle_has_nothing_of_the_call_before_but_where_it_goes)
{
	static const char *const key[] = {"authorization: Bearer first-key", "x-one: 1", NULL};
	static const char *const other[] = {"x-api-key: second-key", NULL};
	char room[4096];
	struct http_request q = {
		.method = "POST", .headers = key, .body = "a body that is long", .proxy = ""};
	int fd = send_once(-1, &q, q.body, room);
	ck_assert_ptr_nonnull(strstr(room, "first-key"));

	q = (struct http_request){.method = "POST", .headers = other, .body = "b", .proxy = ""};
	send_once(fd, &q, "\r\n\r\nb", room);
	ck_assert_ptr_nonnull(strstr(room, "second-key"));
	ck_assert_ptr_null(strstr(room, "first-key"));
	ck_assert_ptr_null(strcasestr(room, "x-one"));
	ck_assert_ptr_nonnull(strcasestr(room, "content-length: 1\r\n"));

	q = (struct http_request){.method = "GET", .proxy = ""};
	send_once(fd, &q, "\r\n\r\n", room);
	ck_assert_int_eq(strncmp(room, "GET ", 4), 0);
	ck_assert_ptr_null(strstr(room, "-key"));
	ck_assert_ptr_null(strcasestr(room, "content-"));

	q = (struct http_request){.method = "POST", .body = "", .proxy = ""};
	send_once(fd, &q, "\r\n\r\n", room);
	ck_assert_int_eq(strncmp(room, "POST ", 5), 0);
	ck_assert_ptr_nonnull(strcasestr(room, "content-length: 0\r\n"));
	assert_handles(1, 1);
	close(fd);
}
END_TEST

START_TEST(the_password_for_one_proxy_is_not_sent_to_another)
{
	char room[4096], with[96], without[96];
	const char *host = own_url + strlen("http://");
	struct http_request q = {.method = "POST", .body = "b"};
	snprintf(with, sizeof with, "http://me:pass@%.*s", (int)strcspn(host, "/"), host);
	snprintf(without, sizeof without, "http://%.*s", (int)strcspn(host, "/"), host);
	for (int i = 0; i < 2; i++) {
		q.proxy = with;
		int fd = send_once(-1, &q, "\r\n\r\nb", room);
		ck_assert_ptr_nonnull(strcasestr(room, "proxy-authorization: Basic bWU6cGFzcw=="));
		close(fd);
		await_watched(1);
		q.proxy = without;
		fd = send_once(-1, &q, "\r\n\r\nb", room);
		ck_assert_int_eq(strncmp(room, "POST http://", 12), 0);
		ck_assert_ptr_null(strcasestr(room, "proxy-authorization"));
		close(fd);
		await_watched(1);
		q.proxy = "";
		fd = send_once(-1, &q, "\r\n\r\nb", room);
		ck_assert_int_eq(strncmp(room, "POST /v1", 8), 0);
		ck_assert_ptr_null(strcasestr(room, "proxy-"));
		close(fd);
		await_watched(1);
		assert_handles(2, 1); /* one for proxies by name, one for the place itself */
	}
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
	tcase_add_test(c, a_handle_has_nothing_of_the_call_before_but_where_it_goes);
	tcase_add_test(c, the_password_for_one_proxy_is_not_sent_to_another);
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
