/* SPDX-License-Identifier: Apache-2.0 */
/* The log of what guards found, in memory and in its file. */
#include "gateway/audit.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/run_suite.h"

enum { MIB = 1 << 20 };

static char dir[64], path[96], old_path[96];
static struct loop *loop;
static struct watch_table *watch;
static struct audit *a;

static void start(void)
{
	struct err err = {0};
	ck_assert_int_eq(loop_new(&loop, &err), 0);
	watch = watch_table_new();
	int r = audit_open(&a, dir, loop, watch, &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

static void stop(void)
{
	audit_close(a);
	loop_close(loop);
	a = audit_free(a);
	watch = watch_table_free(watch);
	loop = loop_free(loop);
}

static void setup(void)
{
	strcpy(dir, "/tmp/llmfs-audit-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/audit.jsonl", dir);
	snprintf(old_path, sizeof old_path, "%s/audit.jsonl.1", dir);
	start();
}

static int remove_entry(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(name);
}

static void teardown(void)
{
	stop();
	nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* A line that names its number, with a rule as long as that. */
static void add(unsigned i, size_t rule_len)
{
	char session[32], rule[2000];
	snprintf(session, sizeof session, "s%u", i);
	memset(rule, 'r', rule_len);
	rule[rule_len] = '\0';
	audit_add(a, &(struct audit_entry){"me", session, "input", "input/x.rules", rule, "block",
			     "match", 1, 0});
}

static char *text(void)
{
	struct buf out = {0};
	uint64_t bytes, changed_ns;
	ck_assert_int_eq(audit_render(a, &out), 0);
	audit_size(a, &bytes, &changed_ns);
	ck_assert_uint_eq(bytes, out.len);
	buf_append(&out, "", 0);
	return out.data;
}

static char *file(const char *name)
{
	struct buf out = {0};
	char bytes[65536];
	ssize_t n;
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && (n = read(fd, bytes, sizeof bytes)) > 0)
		buf_append(&out, bytes, (size_t)n);
	if (fd >= 0)
		close(fd);
	buf_append(&out, "", 0);
	return out.data;
}

/* All are whole JSON objects, and their numbers count up to `last`. Returns the first. */
static unsigned check_lines(const char *lines, unsigned last)
{
	unsigned first = 0, i = 0;
	size_t len = strlen(lines);
	ck_assert(!len || lines[len - 1] == '\n');
	for (const char *at = lines, *end; *at; at = end + 1) {
		json_error_t error;
		end = strchr(at, '\n');
		json_t *o = json_loadb(at, (size_t)(end - at), 0, &error);
		ck_assert_msg(o != NULL, "%s: %.*s", error.text, (int)(end - at), at);
		const char *session = json_string_value(json_object_get(o, "session"));
		ck_assert_ptr_nonnull(session);
		unsigned n = (unsigned)strtoul(session + 1, NULL, 10);
		if (!first)
			first = i = n;
		ck_assert_uint_eq(n, i);
		i++;
		json_decref(o);
	}
	ck_assert_uint_eq(i, last + 1);
	return first;
}

static off_t size_of(const char *name)
{
	struct stat st;
	return stat(name, &st) == 0 ? st.st_size : -1;
}

static void wake(void *arg)
{
	sem_post(arg);
}

/* Whether it is told within a minute. */
static bool told(sem_t *s)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 60;
	int r;
	while ((r = sem_timedwait(s, &until)) < 0 && errno == EINTR)
		;
	return r == 0;
}

START_TEST(a_line_is_one_json_object_with_whatever_is_in_its_strings)
{
	static const char odd[] = "\"\\\n\t\x01 \xC3\xA9 \xF0\x9F\x98\x80 </x>";
	audit_add(a, &(struct audit_entry){odd, "main", "output", "moderation", "S1,S10", "warn",
			     "no verdict", 1, 0});
	audit_add(a, &(struct audit_entry){
			     "me", odd, "input", "input/x.rules", odd, "redact", "match", 1, 0});
	char *all = text(), *second = strchr(all, '\n') + 1;
	json_t *one = json_loadb(all, (size_t)(second - all), 0, NULL);
	json_t *two = json_loads(second, 0, NULL);
	ck_assert(json_is_object(one) && json_is_object(two));
	ck_assert_str_eq(json_string_value(json_object_get(one, "user")), odd);
	ck_assert_str_eq(json_string_value(json_object_get(one, "session")), "main");
	ck_assert_str_eq(json_string_value(json_object_get(one, "stage")), "output");
	ck_assert_str_eq(json_string_value(json_object_get(one, "guard")), "moderation");
	ck_assert_str_eq(json_string_value(json_object_get(one, "rule")), "S1,S10");
	ck_assert_str_eq(json_string_value(json_object_get(one, "action")), "warn");
	ck_assert_str_eq(json_string_value(json_object_get(one, "why")), "no verdict");
	ck_assert_str_eq(json_string_value(json_object_get(two, "session")), odd);
	ck_assert_str_eq(json_string_value(json_object_get(two, "rule")), odd);
	ck_assert_ptr_null(json_object_get(two, "why")); /* a match is not worth saying */
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	double time = json_real_value(json_object_get(one, "time"));
	ck_assert(time > (double)now.tv_sec - 60 && time < (double)now.tv_sec + 2);
	json_decref(one);
	json_decref(two);
	free(all);
}
END_TEST

START_TEST(the_size_is_exact_after_each_line)
{
	uint64_t bytes, before_ns, after_ns;
	free(text());
	for (unsigned i = 1; i < 200; i++) {
		audit_size(a, &bytes, &before_ns);
		add(i, i * 7);
		audit_size(a, &bytes, &after_ns);
		ck_assert_uint_ge(after_ns, before_ns);
		free(text()); /* compares */
	}
}
END_TEST

START_TEST(the_file_in_the_state_directory_has_the_same_lines_for_its_owner_only)
{
	struct stat st;
	for (unsigned i = 1; i <= 1000; i++)
		add(i, 20);
	audit_close(a);
	char *all = text(), *written = file(path);
	check_lines(all, 1000);
	ck_assert_str_eq(all, written);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	add(1001, 20); /* closed: it is not there any more */
	char *later = text();
	ck_assert_str_eq(all, later);
	free(all);
	free(later);
	free(written);
}
END_TEST

START_TEST(whole_old_lines_are_dropped_when_there_is_a_mebibyte)
{
	unsigned first = 1;
	for (unsigned i = 1; i <= 4000; i++) {
		uint64_t bytes, changed_ns;
		add(i, 700 + i % 97);
		audit_size(a, &bytes, &changed_ns);
		ck_assert_uint_le(bytes, MIB);
		if (i % 400)
			continue;
		char *all = text();
		first = check_lines(all, i);
		ck_assert(first == 1 || strlen(all) > MIB / 4 * 3 - 2048);
		free(all);
	}
	ck_assert_uint_gt(first, 2000);
}
END_TEST

START_TEST(a_restart_shows_the_newest_lines_of_the_file)
{
	for (unsigned i = 1; i <= 50; i++)
		add(i, 20);
	stop();
	start();
	char *all = text();
	ck_assert_uint_eq(check_lines(all, 50), 1);
	free(all);
	for (unsigned i = 51; i <= 2000; i++)
		add(i, 700);
	stop();
	start();
	all = text();
	ck_assert_uint_gt(check_lines(all, 2000), 50);
	ck_assert_uint_gt(strlen(all), MIB / 4 * 3 - 2048);
	free(all);
	add(2001, 20);
	all = text();
	check_lines(all, 2001);
	free(all);
}
END_TEST

/* As a kill -9 leaves it. */
static void cut_in_half(const char *half)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	ck_assert_int_eq(write(fd, half, strlen(half)), (ssize_t)strlen(half));
	close(fd);
}

START_TEST(a_line_cut_by_a_kill_is_dropped_for_good)
{
	for (unsigned i = 1; i <= 10; i++)
		add(i, 20);
	stop();
	cut_in_half("{\"time\": 17, \"user\": \"m");
	start();
	char *all = text();
	check_lines(all, 10);
	free(all);
	add(11, 20);
	all = text();
	check_lines(all, 11);
	free(all);
	stop();
	all = file(path);
	check_lines(all, 11);
	free(all);
	start();
	all = text();
	ck_assert_uint_eq(check_lines(all, 11), 1);
	free(all);
}
END_TEST

START_TEST(the_first_line_ever_cut_by_a_kill_spoils_none_after_it)
{
	cut_in_half("{\"time\": 17");
	stop();
	start();
	char *all = text();
	ck_assert_str_eq(all, "");
	free(all);
	add(1, 20);
	stop();
	start();
	all = text();
	check_lines(all, 1);
	free(all);
}
END_TEST

/* Lines wait in memory for the thread that writes them: not more of them than it keeps up with. */
static void add_and_wait(unsigned from, unsigned to)
{
	for (unsigned i = from; i <= to; i++) {
		add(i, 1850);
		if (i % 500 == 0)
			for (int n = 0; n < 60000; n++) {
				off_t all = size_of(path) +
					    (size_of(old_path) > 0 ? size_of(old_path) : 0);
				if (all > (off_t)i * 1850)
					break;
				usleep(1000);
			}
	}
}

START_TEST(a_file_of_16_mebibytes_becomes_the_old_one_and_no_line_is_lost)
{
	enum { N = 10000 };
	add_and_wait(1, N);
	audit_close(a);
	ck_assert_int_gt(size_of(old_path), 16 * MIB);
	ck_assert_int_lt(size_of(old_path), 21 * MIB);
	char *old = file(old_path), *now = file(path);
	ck_assert(*now);
	const char *last = old + strlen(old) - 2;
	for (; last > old && *last != '\n'; last--)
		;
	last += *last == '\n';
	json_t *o = json_loads(last, 0, NULL);
	ck_assert_ptr_nonnull(o);
	unsigned n =
		(unsigned)strtoul(json_string_value(json_object_get(o, "session")) + 1, NULL, 10);
	json_decref(o);
	ck_assert_uint_eq(check_lines(old, n), 1);
	ck_assert_uint_eq(check_lines(now, N), n + 1);
	free(old);
	free(now);
}
END_TEST

START_TEST(watchers_are_told_of_the_next_line_and_of_the_trimming)
{
	sem_t s;
	gateway_waiter id;
	uint64_t bytes, changed_ns;
	sem_init(&s, 0, 0);
	ck_assert_int_eq(audit_watch(a, 0, wake, &s, &id), 0);
	add(1, 20);
	ck_assert(told(&s));
	ck_assert_int_eq(audit_watch(a, 0, wake, &s, &id), 1);
	audit_size(a, &bytes, &changed_ns);
	ck_assert_int_eq(audit_watch(a, bytes - 1, wake, &s, &id), 1);
	ck_assert_int_eq(audit_watch(a, bytes, wake, &s, &id), 0);
	ck_assert(watch_remove(watch, id));
	/* One who has read all, when all becomes less. */
	for (unsigned i = 2; i <= 1300; i++)
		add(i, 700);
	audit_size(a, &bytes, &changed_ns);
	while (bytes < MIB - 900) {
		add(0, 700);
		audit_size(a, &bytes, &changed_ns);
	}
	ck_assert_int_eq(audit_watch(a, MIB, wake, &s, &id), 0);
	add(0, 700);
	add(0, 700);
	audit_size(a, &bytes, &changed_ns);
	ck_assert_uint_lt(bytes, MIB - 900);
	ck_assert(told(&s));
	ck_assert_int_ne(sem_trywait(&s), 0);
	audit_close(a);
	ck_assert_int_eq(audit_watch(a, MIB, wake, &s, &id), 1);
	sem_destroy(&s);
}
END_TEST

static void *add_many(void *arg)
{
	char user[8];
	snprintf(user, sizeof user, "%zu", (size_t)arg);
	for (unsigned i = 0; i < 500; i++)
		audit_add(a,
			&(struct audit_entry){user, "s", "input", "g", "r", "warn", "match", 1, 0});
	return NULL;
}

START_TEST(lines_of_many_threads_stay_whole_in_memory_and_file)
{
	enum { N = 8 };
	pthread_t threads[N];
	for (size_t i = 0; i < N; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, add_many, (void *)i), 0);
	for (size_t i = 0; i < N; i++)
		pthread_join(threads[i], NULL);
	audit_close(a);
	char *all = text(), *written = file(path);
	ck_assert_str_eq(all, written);
	unsigned n[N] = {0};
	for (char *rest = all, *line; (line = strsep(&rest, "\n")) && *line;) {
		json_t *o = json_loads(line, 0, NULL);
		ck_assert_ptr_nonnull(o);
		n[atoi(json_string_value(json_object_get(o, "user")))]++;
		json_decref(o);
	}
	for (size_t i = 0; i < N; i++)
		ck_assert_uint_eq(n[i], 500);
	free(all);
	free(written);
}
END_TEST

START_TEST(without_a_file_the_lines_are_in_memory)
{
	stop();
	unlink(path);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	start();
	for (unsigned i = 1; i <= 10; i++)
		add(i, 20);
	char *all = text();
	check_lines(all, 10);
	free(all);
}
END_TEST

START_TEST(the_highest_number_of_a_request_is_known_after_a_restart)
{
	ck_assert_uint_eq(audit_last_request(a), 0);
	for (uint64_t id = 9; id < 12; id++)
		audit_add(a, &(struct audit_entry){"me", "s", "input", "input/x.rules",
				     "\"request\": 77", "block", "match", 1, id == 10 ? 4000 : id});
	stop();
	start();
	ck_assert_uint_eq(audit_last_request(a), 4000);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("audit");
	TCase *t = tcase_create("audit");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_line_is_one_json_object_with_whatever_is_in_its_strings);
	tcase_add_test(t, the_size_is_exact_after_each_line);
	tcase_add_test(t, the_file_in_the_state_directory_has_the_same_lines_for_its_owner_only);
	tcase_add_test(t, whole_old_lines_are_dropped_when_there_is_a_mebibyte);
	tcase_add_test(t, a_restart_shows_the_newest_lines_of_the_file);
	tcase_add_test(t, a_line_cut_by_a_kill_is_dropped_for_good);
	tcase_add_test(t, the_first_line_ever_cut_by_a_kill_spoils_none_after_it);
	tcase_add_test(t, a_file_of_16_mebibytes_becomes_the_old_one_and_no_line_is_lost);
	tcase_add_test(t, watchers_are_told_of_the_next_line_and_of_the_trimming);
	tcase_add_test(t, lines_of_many_threads_stay_whole_in_memory_and_file);
	tcase_add_test(t, without_a_file_the_lines_are_in_memory);
	tcase_add_test(t, the_highest_number_of_a_request_is_known_after_a_restart);
	suite_add_tcase(s, t);
	return run_suite(s);
}
