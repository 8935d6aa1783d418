/* SPDX-License-Identifier: Apache-2.0 */
/* A call that goes well: what is sent, what comes, what is refused before anything is sent. */
#include "gateway/http.h"

#include <check.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gateway/http_parts.h"
#include "tests/gateway/fetch_fixture.h"
#include "tests/run_suite.h"

START_TEST(a_stream_comes_whole_with_its_head)
{
	struct fetch f;
	fetch_make(&f, "ok");
	fetch_run(&f);
	ck_assert_int_eq(f.fault, HTTP_OK);
	ck_assert_str_eq(f.sentence, "");
	ck_assert_int_eq(f.head.status, 200);
	ck_assert_str_eq(f.head.content_type, "text/event-stream");
	ck_assert_str_eq(f.head.request_id, "req-1");
	ck_assert_ptr_nonnull(strstr(f.body.data, "\" fox\""));
	ck_assert_ptr_nonnull(strstr(f.body.data, "data: [DONE]\n\n"));
	fetch_drop(&f);
}
END_TEST

START_TEST(what_is_sent_is_what_was_asked)
{
	struct fetch f;
	char *body = malloc(300000);
	ck_assert_ptr_nonnull(body);
	memset(body, ' ', 300000);
	memcpy(body, "{}", 2);
	fetch_make(&f, "ok");
	f.q.body = body;
	f.q.body_len = 300000;
	fetch_on_loop(fetch_begin, &f);
	memset(body, 'x', 300000); /* it was only borrowed for the call */
	fetch_wait(&f);
	json_t *log = faulty_log(&fetch_server), *one = json_array_get(log, 0);
	json_t *h = json_object_get(one, "headers");
	ck_assert_str_eq(json_string_value(json_object_get(one, "method")), "POST");
	ck_assert_str_eq(
		json_string_value(json_object_get(h, "authorization")), "Bearer open-sesame-7");
	ck_assert_str_eq(json_string_value(json_object_get(h, "content-type")), "application/json");
	ck_assert_ptr_null(json_object_get(h, "expect"));
	ck_assert_uint_eq(json_string_length(json_object_get(one, "body")), 300000);
	ck_assert_int_eq(strspn(json_string_value(json_object_get(one, "body")) + 2, " "), 299998);
	json_decref(log);
	fetch_drop(&f);
	fetch_make(&f, "ok");
	f.q.method = "GET";
	snprintf(f.url, sizeof f.url, "http://127.0.0.1:%d/v1/models", fetch_server.port);
	fetch_run(&f);
	ck_assert_int_eq(f.head.status, 200);
	ck_assert_str_eq(f.head.content_type, "application/json");
	ck_assert_ptr_nonnull(strstr(f.body.data, "\"list\""));
	fetch_drop(&f);
	free(body);
}
END_TEST

START_TEST(one_connection_serves_calls_one_after_another)
{
	struct fetch f;
	for (int i = 0; i < 50; i++) {
		fetch_make(&f, i % 2 ? "ok" : "503");
		fetch_run(&f);
		ck_assert_int_eq(f.head.status, i % 2 ? 200 : 503);
		fetch_drop(&f);
	}
	json_t *log = faulty_log(&fetch_server);
	json_int_t first =
		json_integer_value(json_object_get(json_array_get(log, 0), "connection"));
	for (size_t i = 0; i < 50; i++)
		ck_assert_int_eq(
			json_integer_value(json_object_get(json_array_get(log, i), "connection")),
			first);
	json_decref(log);
	fetch_assert_counts(0, 1);
}
END_TEST

START_TEST(many_calls_run_at_the_same_time)
{
	enum { N = 100 };
	static struct fetch f[N];
	for (int i = 0; i < N; i++) {
		fetch_make(&f[i], "pace=100");
		fetch_on_loop(fetch_begin, &f[i]);
	}
	fetch_assert_counts(N, N);
	for (int i = 0; i < N; i++) {
		fetch_wait(&f[i]);
		ck_assert_int_eq(f[i].fault, HTTP_OK);
		ck_assert_ptr_nonnull(strstr(f[i].body.data, "data: [DONE]\n\n"));
		fetch_drop(&f[i]);
	}
	fetch_assert_counts(0, N);
}
END_TEST

START_TEST(calls_never_take_more_than_half_of_the_descriptors)
{
	enum { N = 100, FILES = 80 };
	static struct fetch f[N];
	struct rlimit few;
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &few), 0);
	few.rlim_cur = FILES;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	fetch_http = http_free(fetch_http);
	ck_assert_int_eq(http_new(&fetch_http, fetch_loop, NULL), 0);
	for (int i = 0; i < N; i++) {
		fetch_make(&f[i], "pace=100");
		fetch_on_loop(fetch_begin, &f[i]);
	}
	fetch_assert_counts(N, FILES / 2);
	for (int i = 0; i < N; i++) {
		size_t running, connections;
		fetch_wait(&f[i]);
		ck_assert_msg(f[i].fault == HTTP_OK, "%s", f[i].sentence);
		http_count(fetch_http, &running, &connections);
		ck_assert_uint_le(connections, FILES / 2);
		fetch_drop(&f[i]);
	}
}
END_TEST

START_TEST(when_to_come_again_is_read_in_each_form)
{
	struct fetch f;
	fetch_make(&f, "429=3");
	fetch_run(&f);
	ck_assert_int_eq(f.head.status, 429);
	ck_assert_uint_eq(f.head.retry_after_ms, 3000);
	fetch_drop(&f);
	fetch_make(&f, "429-date=5");
	fetch_run(&f);
	ck_assert_uint_ge(f.head.retry_after_ms, 3000);
	ck_assert_uint_le(f.head.retry_after_ms, 6000);
	fetch_drop(&f);
	fetch_make(&f, "429-ms=50");
	fetch_run(&f);
	ck_assert_uint_eq(f.head.retry_after_ms, 50);
	fetch_drop(&f);
}
END_TEST

/* ---- without a server ---- */

START_TEST(what_is_no_url_of_a_server_is_refused)
{
	static const char *const good[] = {"http://a", "https://a/", "HTTP://a.b:1/v1?x=1#y",
		"http://[::1]:80/", "http://my_host:65535", "https://caf\xc3\xa9.example/v1"};
	static const char *const bad[] = {"", "a", "//a", "ftp://a", "http:/a", "http://",
		"http:///v1", "http://:80", "http://a:0", "http://a:65536", "http://a:8o",
		"http://a:", "http://u@a", "http://u:p@a/", "http://a b", "http://a\n",
		"http://a/\r\nx", "file:///etc/passwd", "http://[::1", "http://[]", "http://a;b"};
	struct err err;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		ck_assert_msg(http_url_check(good[i], strlen(good[i]), &err) == 0, "%s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		err.text[0] = '\0';
		ck_assert_msg(
			http_url_check(bad[i], strlen(bad[i]), &err) == -EINVAL, "%s", bad[i]);
		ck_assert_str_ne(err.text, "");
	}
	ck_assert_int_eq(http_url_check("http://a\0b", 10, &err), -EINVAL);
}
END_TEST

START_TEST(bad_headers_are_refused_without_a_word_of_their_value)
{
	static const char *const bad[] = {"x: open sesame\r\ny: z", "x: sesame\n", "sesame",
		": sesame", "x y: sesame", "x\r\n: sesame", "x: sesame\x7f"};
	struct fetch f;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		const char *h[] = {"good: 1", bad[i], NULL};
		fetch_make(&f, "ok");
		f.q.headers = h;
		fetch_on_loop(fetch_begin_badly, &f);
	}
	fetch_make(&f, "ok");
	f.q.method = "DELETE";
	fetch_on_loop(fetch_begin_badly, &f);
	fetch_make(&f, "ok");
	f.q.url = "http://user:sesame@127.0.0.1/";
	fetch_on_loop(fetch_begin_badly, &f);
	fetch_assert_counts(0, 0);
}
END_TEST

static void released(void *arg)
{
	struct fetch *f = arg;
	free(f->lent);
	f->lent = NULL;
	atomic_fetch_add(&f->n_released, 1);
}

static void wait_released(const struct fetch *f)
{
	for (int i = 0; i < 2000 && !f->n_released; i++)
		usleep(5000);
	ck_assert_int_eq(f->n_released, 1);
}

static void lend(struct fetch *f, const char *behaviour)
{
	enum { BYTES = 3 << 20 };
	static const char end[] = "\"stream\": true}";
	fetch_make(f, behaviour);
	f->lent = malloc(BYTES);
	memset(f->lent, ' ', BYTES);
	memcpy(f->lent, "{", 1);
	memcpy(f->lent + BYTES - strlen(end), end, strlen(end));
	f->q.body = f->lent;
	f->q.body_len = BYTES;
	f->q.released = released;
}

static void begin_and_change(struct fetch *f)
{
	fetch_begin(f);
	f->lent[1] = '\n'; /* nothing was sent so far */
}

START_TEST(a_body_that_is_lent_is_not_copied_and_given_back_once)
{
	struct fetch f;
	lend(&f, "ok");
	fetch_on_loop(begin_and_change, &f);
	fetch_wait(&f);
	ck_assert_msg(f.fault == HTTP_OK, "%s", f.sentence);
	ck_assert_ptr_nonnull(strstr(f.body.data, "[DONE]"));
	json_t *log = faulty_log(&fetch_server), *one = json_array_get(log, 0);
	const char *body = json_string_value(json_object_get(one, "body"));
	ck_assert_uint_eq(strlen(body), 3 << 20);
	ck_assert_int_eq(body[1], '\n');
	json_decref(log);
	wait_released(&f);
	fetch_drop(&f);
	/* Where `done` does not come. */
	lend(&f, "ok");
	f.on_data = fetch_cancel_self;
	fetch_on_loop(fetch_begin, &f);
	wait_released(&f);
	fetch_drop(&f);
	lend(&f, "hang-first");
	fetch_on_loop(fetch_begin, &f);
	fetch_on_loop(fetch_cancel, &f);
	ck_assert_int_eq(f.n_released, 1);
	fetch_drop(&f);
	/* Where it does not begin. */
	lend(&f, "ok");
	f.q.url = "ftp://x/";
	fetch_on_loop(fetch_begin_badly, &f);
	ck_assert_int_eq(f.n_released, 0);
	free(f.lent);
	fetch_drop(&f);
}
END_TEST

static struct http_response read_head(const char *const *lines)
{
	struct http_response head;
	memset(&head, 0, sizeof head);
	for (; *lines; lines++)
		http_head_line(&head, *lines, strlen(*lines), 1000000000);
	return head;
}

START_TEST(heads_are_read_as_they_come)
{
	const char *const plain[] = {"HTTP/1.1 100 Continue\r\n", "retry-after: 9\r\n", "\r\n",
		"HTTP/1.1 503\r\n", "Content-Type:  Application/JSON ; charset=utf-8\r\n",
		"RETRY-AFTER: 2.5 \r\n", "Request-Id: abc\r\n", "\r\n", NULL};
	struct http_response h = read_head(plain);
	ck_assert_int_eq(h.status, 503);
	ck_assert_str_eq(h.content_type, "application/json");
	ck_assert_str_eq(h.request_id, "abc");
	ck_assert_uint_eq(h.retry_after_ms, 2500);
	const char *const dates[] = {"HTTP/2 429\r\n",
		"retry-after: Sun, 09 Sep 2001 01:46:50 GMT\r\n", "x-request-id: a b\r\n", NULL};
	h = read_head(dates);
	ck_assert_int_eq(h.status, 429);
	ck_assert_uint_eq(h.retry_after_ms, 10000);
	ck_assert_str_eq(h.request_id, "");
	const char *const both[] = {
		"HTTP/2 429 \r\n", "retry-after-ms: 1500.7\r\n", "retry-after: 60\r\n", NULL};
	ck_assert_uint_eq(read_head(both).retry_after_ms, 1500);
	const char *const bad_ms[] = {"HTTP/2 429 \r\n", "retry-after-ms: x\r\n",
		"retry-after: 30\r\n", "retry-after: soon\r\n", NULL};
	ck_assert_uint_eq(read_head(bad_ms).retry_after_ms, 30000);
	const char *const bad_later[] = {"HTTP/2 429 \r\n", "retry-after: 30\r\n",
		"retry-after-ms: x\r\n", "retry-after-ms: 1e3\r\n", NULL};
	ck_assert_uint_eq(read_head(bad_later).retry_after_ms, 30000);
	const char *const far[] = {"HTTP/2 429\r\n", "retry-after: 99999999999999999999\r\n", NULL};
	ck_assert_uint_eq(read_head(far).retry_after_ms, 24 * 3600 * 1000);
	const char *const nonsense[] = {"HTTP/1.1\r\n", "retry-after: soon\r\n", "content-type\r\n",
		"", "\r\n", "retry-after:\r\n", "content-type:\r\n", NULL};
	h = read_head(nonsense);
	ck_assert_int_eq(h.status, 0);
	ck_assert_uint_eq(h.retry_after_ms, 0);
	ck_assert_str_eq(h.content_type, "");
	const char *const past[] = {
		"HTTP/1.1 503 x\r\n", "retry-after: Sun, 09 Sep 2001 01:46:30 GMT\r\n", NULL};
	ck_assert_uint_eq(read_head(past).retry_after_ms, 0);
}
END_TEST

int main(void)
{
	if (!fetch_server_start())
		return 77;
	Suite *s = suite_create("http");
	TCase *c = tcase_create("calls");
	tcase_add_checked_fixture(c, fetch_open, fetch_close);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, a_stream_comes_whole_with_its_head);
	tcase_add_test(c, what_is_sent_is_what_was_asked);
	tcase_add_test(c, one_connection_serves_calls_one_after_another);
	tcase_add_test(c, many_calls_run_at_the_same_time);
	tcase_add_test(c, calls_never_take_more_than_half_of_the_descriptors);
	tcase_add_test(c, when_to_come_again_is_read_in_each_form);
	tcase_add_test(c, what_is_no_url_of_a_server_is_refused);
	tcase_add_test(c, bad_headers_are_refused_without_a_word_of_their_value);
	tcase_add_test(c, a_body_that_is_lent_is_not_copied_and_given_back_once);
	tcase_add_test(c, heads_are_read_as_they_come);
	suite_add_tcase(s, c);
	int r = run_suite(s);
	faulty_stop(&fetch_server);
	return r;
}
