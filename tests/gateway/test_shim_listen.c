/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/shim_listen.h"

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/gateway_shim.h"
#include "tests/run_suite.h"

static void assert_parsed(const char *address, const char *host, const char *port)
{
	struct shim_listen_at at;
	struct err err = {0};
	ck_assert_msg(shim_listen_parse(address, &at, &err) == 0, "%s: %s", address, err.text);
	ck_assert_str_eq(at.host, host);
	ck_assert_str_eq(at.port, port);
	ck_assert_int_eq(shim_address_check(address, &err), 0);
}

START_TEST(hosts_ports_and_brackets_are_read)
{
	assert_parsed("127.0.0.1:8080", "127.0.0.1", "8080");
	assert_parsed("localhost:0", "localhost", "0");
	assert_parsed("my-host.example:65535", "my-host.example", "65535");
	assert_parsed(":80", "", "80");
	assert_parsed("[::1]:8080", "::1", "8080");
	assert_parsed("[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", "1");
}
END_TEST

START_TEST(what_is_no_address_is_refused_with_what_is_allowed)
{
	static const char *const none[] = {"", ":", "8080", "localhost", "localhost:", "a:b",
		"a:-1", "a:+1", "a: 1", "a:65536", "a:655350", "::1", "::1:80", "1::80", "[::1]",
		"[::1]80", "[::1]:", "[]:80", "[::1:80", "::1]:80", "[::1]x:80", "[host]:80",
		"http://a:80", "a/b:80", "a b:80", "u@a:80", "[::1]:80:90", "a:80/"};
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		struct err err = {0};
		ck_assert_msg(shim_address_check(none[i], &err) == -EINVAL, "%s", none[i]);
		ck_assert_ptr_nonnull(strstr(err.text, "HOST:PORT"));
	}
}
END_TEST

START_TEST(a_host_of_any_length_is_refused_or_fits)
{
	char address[600];
	struct err err = {0};
	for (size_t n = 1; n < sizeof address - 4; n++) {
		memset(address, 'a', n);
		memcpy(address + n, ":80", 4);
		ck_assert_int_eq(shim_address_check(address, &err), n < 256 ? 0 : -EINVAL);
	}
}
END_TEST

/* The port that it said. */
static unsigned port_of(const char *name)
{
	return (unsigned)strtoul(strrchr(name, ':') + 1, NULL, 10);
}

START_TEST(port_0_is_one_that_is_free_and_told)
{
	int fd = -1, other = -1;
	char name[96], again[96];
	bool open = true;
	struct err err = {0};
	int r = shim_listen_open("127.0.0.1:0", &fd, name, sizeof name, &open, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	ck_assert(!open);
	ck_assert(strncmp(name, "127.0.0.1:", 10) == 0 && port_of(name) > 0);
	/* And what is taken is refused, with its address. */
	ck_assert_int_eq(
		shim_listen_open(name, &other, again, sizeof again, &open, &err), -EADDRINUSE);
	ck_assert_int_eq(other, -1);
	ck_assert_ptr_nonnull(strstr(err.text, name));
	close(fd);
}
END_TEST

START_TEST(a_name_is_listened_on_and_connections_do_not_delay)
{
	int fd = -1, value = 0;
	socklen_t size = sizeof value;
	char name[96];
	bool open = true;
	struct err err = {0};
	int r = shim_listen_open("localhost:0", &fd, name, sizeof name, &open, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	ck_assert(!open);
	ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
	ck_assert_int_ne(value, 0);
	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &size), 0);
	ck_assert_int_ne(value, 0);
	close(fd);
}
END_TEST

START_TEST(all_addresses_are_known_to_be_open_to_others)
{
	int fd = -1;
	char name[96];
	bool open = false;
	struct err err = {0};
	ck_assert_int_eq(shim_listen_open(":0", &fd, name, sizeof name, &open, &err), 0);
	ck_assert(open);
	close(fd);
}
END_TEST

START_TEST(an_address_that_is_not_ours_is_refused_with_a_sentence)
{
	int fd = -1;
	char name[96];
	bool open = false;
	struct err err = {0};
	int r = shim_listen_open("192.0.2.1:0", &fd, name, sizeof name, &open, &err);
	ck_assert_int_eq(r, -EADDRNOTAVAIL);
	ck_assert_ptr_nonnull(strstr(err.text, "192.0.2.1:0"));
	ck_assert_int_eq(fd, -1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("shim_listen");
	TCase *c = tcase_create("all");
	tcase_add_test(c, hosts_ports_and_brackets_are_read);
	tcase_add_test(c, what_is_no_address_is_refused_with_what_is_allowed);
	tcase_add_test(c, a_host_of_any_length_is_refused_or_fits);
	tcase_add_test(c, port_0_is_one_that_is_free_and_told);
	tcase_add_test(c, a_name_is_listened_on_and_connections_do_not_delay);
	tcase_add_test(c, all_addresses_are_known_to_be_open_to_others);
	tcase_add_test(c, an_address_that_is_not_ours_is_refused_with_a_sentence);
	suite_add_tcase(s, c);
	return run_suite(s);
}
