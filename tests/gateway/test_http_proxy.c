/* SPDX-License-Identifier: Apache-2.0 */
/* Calls through a proxy and over TLS. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "gateway/http_parts.h"
#include "tests/gateway/fetch_fixture.h"
#include "tests/run_suite.h"

static struct faulty secure;
static char tls_dir[] = "/tmp/llmfs-http-XXXXXX";

START_TEST(a_proxy_is_asked_with_the_whole_url)
{
	struct fetch f;
	char proxy[64];
	snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", fetch_server.port);
	fetch_make(&f, "ok");
	snprintf(f.url, sizeof f.url, "http://models.example:8080/v1/chat/completions");
	f.q.proxy = proxy;
	setenv("no_proxy", "*", 1); /* is not for a proxy that was set */
	fetch_run(&f);
	unsetenv("no_proxy");
	ck_assert_int_eq(f.fault, HTTP_OK);
	ck_assert_ptr_nonnull(strstr(f.body.data, "[DONE]"));
	json_t *log = faulty_log(&fetch_server);
	ck_assert_str_eq(json_string_value(json_object_get(json_array_get(log, 0), "target")),
		"http://models.example:8080/v1/chat/completions");
	json_decref(log);
	fetch_drop(&f);
}
END_TEST

START_TEST(the_environments_proxy_is_taken_unless_it_is_said_otherwise)
{
	struct fetch f;
	char proxy[64];
	snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", fetch_server.port);
	setenv("http_proxy", proxy, 1);
	fetch_make(&f, "ok");
	f.q.proxy = NULL;
	fetch_run(&f);
	fetch_drop(&f);
	fetch_make(&f, "ok");
	fetch_run(&f);
	fetch_drop(&f);
	unsetenv("http_proxy");
	json_t *log = faulty_log(&fetch_server);
	const char *first = json_string_value(json_object_get(json_array_get(log, 0), "target"));
	const char *second = json_string_value(json_object_get(json_array_get(log, 1), "target"));
	ck_assert_int_eq(strncmp(first, "http://", 7), 0);
	ck_assert_int_eq(*second, '/');
	json_decref(log);
}
END_TEST

static void make_secure(struct fetch *f)
{
	memset(f, 0, sizeof *f);
	fetch_make_url(f, "");
	snprintf(f->url, sizeof f->url, "https://127.0.0.1:%d/v1/chat/completions", secure.tls);
	f->q.connect_ms = 5000;
}

/* The server's own certificate; other bytes for each number. new */
static struct http_ca *authorities(int number)
{
	static char pem[8192];
	char path[64];
	snprintf(path, sizeof path, "%s/cert.pem", tls_dir);
	FILE *file = fopen(path, "r");
	ck_assert_ptr_nonnull(file);
	size_t len = fread(pem, 1, sizeof pem - 32, file);
	fclose(file);
	len += (size_t)snprintf(pem + len, 32, "# %d\n", number);
	struct http_ca *ca = http_ca_new(pem, len);
	ck_assert_ptr_nonnull(ca);
	return ca;
}

static void trust(struct fetch *f)
{
	f->q.ca = authorities(0);
}

START_TEST(tls_works_with_the_right_certificate_and_only_with_it)
{
	struct fetch f;
	for (int i = 0; i < 2; i++) {
		make_secure(&f);
		trust(&f);
		fetch_run(&f);
		ck_assert_msg(f.fault == HTTP_OK, "%s", f.sentence);
		ck_assert_ptr_nonnull(strstr(f.body.data, "[DONE]"));
		fetch_drop(&f);
		http_ca_put(f.q.ca);
		make_secure(&f);
		fetch_run(&f);
		ck_assert_int_eq(f.fault, HTTP_CONNECT);
		ck_assert_msg(strstr(f.sentence, "certificate"), "%s", f.sentence);
		ck_assert_int_eq(f.head.status, 0);
	}
	make_secure(&f);
	f.q.ca = http_ca_new("no certificate", strlen("no certificate"));
	fetch_run(&f);
	ck_assert_int_eq(f.fault, HTTP_CONNECT);
	ck_assert_msg(strstr(f.sentence, "certificate"), "%s", f.sentence);
	http_ca_put(f.q.ca);
	json_t *log = faulty_log(&secure);
	ck_assert_uint_eq(json_array_size(log), 2);
	json_decref(log);
}
END_TEST

static void connect_with(struct http_ca *ca)
{
	struct fetch f;
	make_secure(&f);
	f.q.ca = ca;
	fetch_run(&f);
	ck_assert_msg(f.fault == HTTP_OK, "%s", f.sentence);
	fetch_drop(&f);
}

/* In front of the C library's, also for libcurl: time goes on, and may have jumped. */
static _Atomic time_t jump_s;

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *now)
{
	int r = (int)syscall(SYS_clock_gettime, clock, now);
	if (r == 0 && clock != CLOCK_REALTIME)
		now->tv_sec += jump_s;
	return r;
}

/* Other libraries for TLS read them for each connection, whatever libcurl is told. */
static bool keeps_authorities(void)
{
	const char *tls = curl_version_info(CURLVERSION_NOW)->ssl_version;
	if (tls && !strncmp(tls, "OpenSSL", 7))
		return true;
	printf("skipped: libcurl uses %s, which keeps no certificates\n", tls ? tls : "no TLS");
	return false;
}

START_TEST(authorities_are_read_once_and_not_for_each_connection_nor_each_day)
{
	struct http_ca *ca = authorities(0);
	char path[320];

	if (!keeps_authorities())
		return;
	json_decref(faulty_ask(&secure, "POST", "/reset", ""));
	json_decref(faulty_ask(&secure, "POST", "/control", "{\"default\": \"ok-close\"}"));
	connect_with(ca);
	/* From now on nobody who read them would find any. */
	ck_assert_int_eq(fetch_ca_files(path, sizeof path), 1);
	ck_assert_int_eq(truncate(path, 0), 0);
	connect_with(ca);
	jump_s = 25 * 60 * 60;
	connect_with(ca);
	jump_s *= 40;
	connect_with(ca);
	/* Each was a connection of its own. */
	json_t *log = faulty_log(&secure);
	json_int_t last = 0;
	for (size_t i = 0; i < json_array_size(log); i++) {
		json_int_t n =
			json_integer_value(json_object_get(json_array_get(log, i), "connection"));
		ck_assert_int_gt(n, last);
		last = n;
	}
	json_decref(log);
	json_decref(faulty_ask(&secure, "POST", "/reset", ""));
	http_ca_put(ca);
}
END_TEST

START_TEST(sets_of_authorities_come_and_go_and_leave_nothing_behind)
{
	struct http_ca *sets[40];
	int descriptors = 0;

	/* Connections are not kept: only what is there for sets is counted. */
	json_decref(faulty_ask(&secure, "POST", "/control", "{\"default\": \"ok-close\"}"));
	for (int i = 0; i < 80; i++) {
		struct http_ca *ca = authorities(i);
		connect_with(ca);
		http_ca_put(ca);
		if (i == 2)
			descriptors = fetch_count_descriptors();
	}
	ck_assert_int_le(fetch_count_descriptors(), descriptors + 2);
	/* More at a time than are remembered. */
	for (int i = 0; i < 40; i++) {
		sets[i] = authorities(100 + i);
		connect_with(sets[i]);
	}
	connect_with(sets[0]);
	connect_with(sets[39]);
	for (int i = 0; i < 40; i++)
		http_ca_put(sets[i]);
	struct http_ca *last = authorities(200);
	connect_with(last);
	http_ca_put(last);
	ck_assert_int_le(fetch_count_descriptors(), descriptors + 2);
	json_decref(faulty_ask(&secure, "POST", "/reset", ""));
}
END_TEST

START_TEST(equal_sets_of_authorities_share_a_connection)
{
	struct http_ca *one = authorities(0), *other = authorities(0);
	char path[320];
	json_decref(faulty_ask(&secure, "POST", "/reset", ""));
	connect_with(one);
	connect_with(other);
	ck_assert_int_eq(fetch_ca_files(path, sizeof path), 2);
	json_t *log = faulty_log(&secure);
	ck_assert_uint_eq(json_array_size(log), 2);
	ck_assert(json_equal(json_object_get(json_array_get(log, 0), "connection"),
		json_object_get(json_array_get(log, 1), "connection")));
	json_decref(log);
	http_ca_put(one);
	http_ca_put(other);
}
END_TEST

START_TEST(tls_goes_through_a_proxys_tunnel)
{
	struct fetch f;
	char proxy[64], target[64];
	snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", fetch_server.port);
	snprintf(target, sizeof target, "127.0.0.1:%d", secure.tls);
	make_secure(&f);
	trust(&f);
	f.q.proxy = proxy;
	fetch_run(&f);
	ck_assert_msg(f.fault == HTTP_OK, "%s", f.sentence);
	ck_assert_str_eq(f.head.content_type, "text/event-stream");
	json_t *log = faulty_log(&fetch_server), *one = json_array_get(log, 0);
	ck_assert_str_eq(json_string_value(json_object_get(one, "method")), "CONNECT");
	ck_assert_str_eq(json_string_value(json_object_get(one, "target")), target);
	/* The proxy does not see what is for the server. */
	ck_assert_ptr_null(json_object_get(json_object_get(one, "headers"), "authorization"));
	json_decref(log);
	fetch_drop(&f);
	http_ca_put(f.q.ca);
}
END_TEST

/* A certificate for 127.0.0.1. False: there is no openssl. */
static bool make_certificate(void)
{
	char command[400];
	if (!mkdtemp(tls_dir))
		return false;
	snprintf(command, sizeof command,
		"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=llmfs-test "
		"-addext subjectAltName=IP:127.0.0.1 -keyout %s/key.pem -out %s/cert.pem "
		">/dev/null 2>&1",
		tls_dir, tls_dir);
	return system(command) == 0;
}

static void end_certificate(void)
{
	char path[64];
	static const char *const names[] = {"/key.pem", "/cert.pem", ""};
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s%s", tls_dir, names[i]);
		remove(path);
	}
}

static Suite *make_suite(bool tls)
{
	Suite *s = suite_create("http_proxy");
	TCase *c = tcase_create("proxies and TLS");
	tcase_add_checked_fixture(c, fetch_open, fetch_close);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, a_proxy_is_asked_with_the_whole_url);
	tcase_add_test(c, the_environments_proxy_is_taken_unless_it_is_said_otherwise);
	if (tls) {
		tcase_add_test(c, tls_works_with_the_right_certificate_and_only_with_it);
		tcase_add_test(
			c, authorities_are_read_once_and_not_for_each_connection_nor_each_day);
		tcase_add_test(c, sets_of_authorities_come_and_go_and_leave_nothing_behind);
		tcase_add_test(c, equal_sets_of_authorities_share_a_connection);
		tcase_add_test(c, tls_goes_through_a_proxys_tunnel);
	}
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	char cert[64], key[64];
	if (!fetch_server_start())
		return 77;
	bool tls = make_certificate();
	snprintf(cert, sizeof cert, "%s/cert.pem", tls_dir);
	snprintf(key, sizeof key, "%s/key.pem", tls_dir);
	tls = tls && faulty_start(&secure, cert, key) && secure.tls;
	if (!tls)
		fprintf(stderr, "skipped: no TLS, as openssl makes no certificate\n");
	int r = run_suite(make_suite(tls));
	faulty_stop(&secure);
	faulty_stop(&fetch_server);
	end_certificate();
	return r;
}
