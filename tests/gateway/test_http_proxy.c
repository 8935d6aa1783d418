/* SPDX-License-Identifier: Apache-2.0 */
/* Calls through a proxy and over TLS. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gateway/fetch_fixture.h"
#include "tests/gateway/secure_fixture.h"
#include "tests/run_suite.h"

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

/* Whether TLS is said to be what was missing when so much time was over. */
static bool blames_tls(const char *proxy, uint32_t ms)
{
	struct fetch f;
	fetch_make(&f, "ok");
	snprintf(f.url, sizeof f.url, "https://127.0.0.1:%d/v1", fetch_server.mute);
	f.q.proxy = proxy;
	f.q.connect_ms = ms;
	fetch_run(&f);
	ck_assert_int_eq(f.fault, HTTP_TIMEOUT_CONNECT);
	bool blames = strstr(f.sentence, "TLS");
	fetch_drop(&f);
	return blames;
}

/* A proxy that takes the connection and says nothing: the server's TLS is not to blame. */
START_TEST(a_proxy_that_says_nothing_is_no_server_of_http)
{
	char proxy[64];
	uint32_t ms = 150;
	snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", fetch_server.mute);
	setenv("https_proxy", proxy, 1);
	/* Without one it is, as soon as there is a connection: on a busy machine not at once. */
	while (!blames_tls("", ms) && ms < 20000)
		ms *= 4;
	ck_assert_uint_lt(ms, 20000);
	ck_assert(!blames_tls(proxy, ms));
	ck_assert(!blames_tls(NULL, ms));
	unsetenv("https_proxy");
}
END_TEST

static bool has_tls;

START_TEST(tls_goes_through_a_proxys_tunnel)
{
	if (run_suite_skips(!has_tls, "openssl makes no certificate here"))
		return;
	struct fetch f;
	char proxy[64], target[64];
	snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", fetch_server.port);
	snprintf(target, sizeof target, "127.0.0.1:%d", secure_server.tls);
	secure_make(&f);
	f.q.ca = secure_authorities(0);
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

static Suite *make_suite(void)
{
	Suite *s = suite_create("http_proxy");
	TCase *c = tcase_create("proxies and TLS");
	tcase_add_checked_fixture(c, fetch_open, fetch_close);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, a_proxy_is_asked_with_the_whole_url);
	tcase_add_test(c, the_environments_proxy_is_taken_unless_it_is_said_otherwise);
	tcase_add_test(c, a_proxy_that_says_nothing_is_no_server_of_http);
	tcase_add_test(c, tls_goes_through_a_proxys_tunnel);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	if (!fetch_server_start())
		return 77;
	has_tls = secure_start();
	int r = run_suite(make_suite());
	secure_stop();
	faulty_stop(&fetch_server);
	return r;
}
