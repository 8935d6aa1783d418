/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/mapping.h"
#include "tests/run_suite.h"

#define PAGES 64

static struct err err;
static size_t page;

/* new: the path of a file of PAGES pages of 'x', to be unlinked and freed. */
static char *make_file(void)
{
	char *path = strdup("/tmp/mappingXXXXXX");
	int fd = mkstemp(path);

	page = (size_t)sysconf(_SC_PAGESIZE);
	char *bytes = malloc(PAGES * page);
	memset(bytes, 'x', PAGES * page);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, PAGES * page), PAGES * page);
	close(fd);
	free(bytes);
	return path;
}

static void drop_file(char *path)
{
	unlink(path);
	free(path);
}

static struct mapping *open_file(const char *path)
{
	struct mapping *m;

	ck_assert_msg(mapping_open(&m, path, 0, &err) == 0, "%s", err.text);
	return m;
}

START_TEST(missing_pages_read_as_zeros_and_are_reported)
{
	char *path = make_file();
	struct mapping *m = open_file(path);
	const volatile char *bytes = mapping_bytes(m);

	ck_assert_uint_eq(mapping_size(m), PAGES * page);
	ck_assert_int_eq(bytes[PAGES * page - 1], 'x');
	ck_assert_int_eq(truncate(path, (off_t)(10 * page)), 0);
	ck_assert_int_eq(bytes[9 * page], 'x');
	ck_assert(!mapping_damaged(m));
	ck_assert_int_eq(bytes[20 * page + 5], 0);
	ck_assert(mapping_damaged(m));
	for (size_t i = 20 * page; i < PAGES * page; i++)
		ck_assert_int_eq(bytes[i], 0);
	ck_assert_int_eq(bytes[10 * page], 0); /* a second hole, before the first */
	ck_assert_int_eq(bytes[9 * page], 'x');
	mapping_close(m);
	drop_file(path);
}
END_TEST

START_TEST(a_file_that_is_written_to_is_told_from_one_that_is_replaced_or_shrinks)
{
	static const struct timespec long_ago[2] = {{1000, 0}, {1000, 0}};
	char *path = make_file();
	int fd = open(path, O_WRONLY);

	ck_assert_int_eq(futimens(fd, long_ago), 0); /* clocks of file systems are coarse */
	struct mapping *written = open_file(path);
	ck_assert_int_eq(mapping_file(written), MAPPING_SAME);
	ck_assert_int_eq(pwrite(fd, "y", 1, 0), 1);
	ck_assert_int_eq(mapping_file_now(written), MAPPING_WRITTEN);
	ck_assert_int_eq(mapping_file(written), MAPPING_WRITTEN);
	struct mapping *other = open_file(path);
	ck_assert_int_eq(mapping_file(other), MAPPING_SAME);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(mapping_file(other), MAPPING_REPLACED);
	ck_assert_int_eq(ftruncate(fd, (off_t)(10 * page)), 0);
	ck_assert_int_eq(mapping_file(other), MAPPING_SHRANK);
	ck_assert(!mapping_damaged(other));
	mapping_close(written);
	mapping_close(other);
	close(fd);
	free(path);
}
END_TEST

START_TEST(damage_of_one_mapping_is_not_that_of_another)
{
	char *a = make_file(), *b = make_file();
	struct mapping *first = open_file(a), *second = open_file(b);

	ck_assert_int_eq(truncate(a, 0), 0);
	ck_assert_int_eq(((const volatile char *)mapping_bytes(first))[0], 0);
	ck_assert_int_eq(((const volatile char *)mapping_bytes(second))[0], 'x');
	ck_assert(mapping_damaged(first) && !mapping_damaged(second));
	mapping_close(first);
	struct mapping *third = open_file(b); /* takes the slot of the first */
	ck_assert(!mapping_damaged(third));
	mapping_close(second);
	mapping_close(third);
	drop_file(a);
	drop_file(b);
}
END_TEST

static sigjmp_buf jump;

static void former_handler(int signal_number)
{
	siglongjmp(jump, signal_number);
}

/* A mapping that is not ours and whose page is gone. */
static const volatile char *foreign_hole(void)
{
	char *path = make_file();
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	const char *bytes = mmap(NULL, PAGES * page, PROT_READ, MAP_PRIVATE, fd, 0);

	ck_assert_ptr_ne(bytes, MAP_FAILED);
	close(fd);
	ck_assert_int_eq(truncate(path, 0), 0);
	drop_file(path);
	return bytes;
}

START_TEST(faults_of_others_go_to_the_former_handler)
{
	char *path = make_file();
	const volatile char *hole = foreign_hole();

	signal(SIGBUS, former_handler);
	struct mapping *m = open_file(path);
	volatile int got = sigsetjmp(jump, 1);
	if (got == 0) {
		(void)hole[0];
		ck_abort_msg("the fault went unnoticed");
	}
	ck_assert_int_eq(got, SIGBUS);
	ck_assert(!mapping_damaged(m));
	mapping_close(m);
	drop_file(path);
}
END_TEST

START_TEST(fault_of_others_without_a_handler_ends_the_process)
{
	char *path = make_file();
	const volatile char *hole = foreign_hole();
	int status;
	pid_t child = fork();

	if (child == 0) {
		struct mapping *m;

		signal(SIGBUS, SIG_DFL);
		if (mapping_open(&m, path, 0, &err) == 0)
			(void)hole[0];
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGBUS);
	drop_file(path);
}
END_TEST

struct reader {
	const struct mapping *mapping;
	atomic_bool *stop;
	atomic_uint *rounds;
};

/* NULL when all is well. */
static void *read_over_and_over(void *arg)
{
	const struct reader *r = arg;
	const volatile char *bytes = mapping_bytes(r->mapping);

	while (!atomic_load(r->stop)) {
		for (size_t i = 0; i < mapping_size(r->mapping); i += 512)
			if (bytes[i] != 'x' && bytes[i] != 0)
				return arg; /* neither the file nor zeros */
		atomic_fetch_add(r->rounds, 1);
	}
	return NULL;
}

START_TEST(many_threads_survive_the_same_truncation)
{
	char *path = make_file();
	struct mapping *m = open_file(path);
	atomic_bool stop = false;
	atomic_uint rounds = 0;
	struct reader r = {m, &stop, &rounds};
	pthread_t threads[4];

	for (size_t i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, read_over_and_over, &r), 0);
	while (atomic_load(&rounds) < 8)
		usleep(100);
	ck_assert_int_eq(truncate(path, (off_t)page), 0);
	while (!mapping_damaged(m))
		usleep(100);
	atomic_store(&stop, true);
	for (size_t i = 0; i < 4; i++) {
		void *complaint;

		pthread_join(threads[i], &complaint);
		ck_assert_ptr_null(complaint);
	}
	mapping_close(m);
	drop_file(path);
}
END_TEST

START_TEST(empty_file_is_a_mapping_of_nothing)
{
	char *path = make_file();

	ck_assert_int_eq(truncate(path, 0), 0);
	struct mapping *m = open_file(path);
	ck_assert_uint_eq(mapping_size(m), 0);
	ck_assert(!mapping_damaged(m));
	ck_assert_ptr_null(mapping_close(m));
	ck_assert_ptr_null(mapping_close(NULL));
	drop_file(path);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mapping");
	TCase *t = tcase_create("mapping");

	tcase_add_test(t, missing_pages_read_as_zeros_and_are_reported);
	tcase_add_test(t, a_file_that_is_written_to_is_told_from_one_that_is_replaced_or_shrinks);
	tcase_add_test(t, damage_of_one_mapping_is_not_that_of_another);
	tcase_add_test(t, faults_of_others_go_to_the_former_handler);
	tcase_add_test(t, fault_of_others_without_a_handler_ends_the_process);
	tcase_add_test(t, many_threads_survive_the_same_truncation);
	tcase_add_test(t, empty_file_is_a_mapping_of_nothing);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return run_suite(s);
}
