/* SPDX-License-Identifier: Apache-2.0 */
/* A state directory on a disk that is full, and one with damage in it. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/store.h"
#include "tests/gateway/harness.h"
#include "tests/own_mounts.h"
#include "tests/run_suite.h"

static struct harness h;

static void setup(void)
{
	harness_make(&h, 0);
	harness_open(&h);
}

static void teardown(void)
{
	harness_close(&h);
	umount2(h.state, MNT_DETACH); /* if a small disk is mounted there */
	harness_end(&h);
}

START_TEST(a_full_disk_refuses_requests_and_says_so_until_there_is_room)
{
	if (run_suite_skips(geteuid() != 0, "only root can mount a small disk"))
		return;
	harness_close(&h);
	mkdir(h.state, 0700);
	ck_assert_int_eq(mount("none", h.state, "tmpfs", 0, "size=1m,mode=0700"), 0);
	harness_open(&h);
	struct session *s = harness_session(&h, "a", "2");
	char path[160], block[4096] = {0};
	snprintf(path, sizeof path, "%s/filler", h.state);
	int fd = open(path, O_CREAT | O_WRONLY, 0600), status = 0, r = 0;
	while (write(fd, block, sizeof block) > 0)
		;
	close(fd);
	for (int i = 0; i < 4000 && status == 0 && r == 0; i++) {
		r = harness_say(s, "a prompt that has to be stored somewhere, and is not small\n");
		free(harness_read(s, &status));
	}
	ck_assert_int_eq(r ? r : status, -ENOSPC);
	struct buf out = {0};
	gateway_render(h.g, GATEWAY_STATUS, &out);
	ck_assert_ptr_eq(
		strstr(out.data, "degraded: the state directory cannot be written"), out.data);
	ck_assert_int_eq(harness_say(s, "more\n"), -ENOSPC);
	ck_assert_int_eq(session_setting_set(s, "top_k", "1", 1, NULL), -ENOSPC);
	ck_assert_int_eq(gateway_session_create(h.g, "new", 0, 0, 0700, NULL, NULL), -ENOSPC);
	unlink(path);
	for (int i = 0; i < 100 && (r = harness_say(s, "now\n")); i++)
		usleep(100000);
	ck_assert_int_eq(r, 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	buf_free(&out);
	session_put(s);
	harness_close(&h);
	harness_open(&h);
	s = gateway_session_find(h.g, "a");
	char *chat = harness_view(s, SESSION_CHAT);
	ck_assert_ptr_nonnull(strstr(chat, "> now\n"));
	free(chat);
	session_put(s);
}
END_TEST

START_TEST(damaged_entries_of_the_store_are_skipped_and_the_rest_lives)
{
	struct session *s = harness_session(&h, "good", "2");
	int status;
	harness_say(s, "hello\n");
	free(harness_read(s, &status));
	char *before = harness_view(s, SESSION_CHAT);
	session_put(s);
	harness_close(&h);
	struct store *store = NULL;
	ck_assert_int_eq(store_open(&store, h.state, NULL), 0);
	static const char *const bad[][2] = {{"s/bad", "1 2 x"}, {"s/", ""}, {"s/a/b", ""},
		{"s/\n", "1"}, {"c/good/no-such", "1"}, {"c/good/top_k", "many"},
		{"c/nobody/top_k", "1"}, {"t/good/zz", "D1 1 0 0\nx"},
		{"t/good/0000000000000099", "D1 9 9 9\n"}, {"t/nobody/0000000000000001", "x"},
		{"zzz", "?"}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		store_put(store, bad[i][0], bad[i][1], strlen(bad[i][1]));
	store_free(store);
	harness_open(&h);
	s = gateway_session_find(h.g, "good");
	char *after = harness_view(s, SESSION_CHAT);
	ck_assert_str_eq(before, after);
	ck_assert_ptr_null(gateway_session_find(h.g, "bad"));
	harness_say(s, "again\n");
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	free(before);
	free(after);
	session_put(s);
}
END_TEST

int main(void)
{
	own_mounts();
	Suite *suite = suite_create("state");
	TCase *t = tcase_create("state");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_full_disk_refuses_requests_and_says_so_until_there_is_room);
	tcase_add_test(t, damaged_entries_of_the_store_are_skipped_and_the_rest_lives);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
