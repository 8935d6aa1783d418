/* SPDX-License-Identifier: Apache-2.0 */
/* malloc as the daemon has it. Each test is a process of its own: what it does to malloc stays. */
#include "base/heap.h"

#include <check.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/run_suite.h"

enum { MIB = 1 << 20, BLOCK = 64 << 10 };

static bool is_glibcs(void)
{
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__ || !defined __GLIBC__
	return false;
#else
	return true;
#endif
}

extern char _end; /* of the program's data: the heap is somewhere behind it */
static uintptr_t end;

static bool is_in_heap(const void *p)
{
	return (uintptr_t)p >= (uintptr_t)&_end && (uintptr_t)p < (uintptr_t)sbrk(0);
}

static void start(void)
{
	uintptr_t before = (uintptr_t)sbrk(0);
	heap_begin();
	end = (uintptr_t)sbrk(0);
	ck_assert_uint_gt(end, before);
}

static void *take(void *arg)
{
	void *volatile small = malloc(100), *volatile large = malloc(MIB);
	bool both = is_in_heap(small) && is_in_heap(large);
	free(small);
	free(large);
	return both ? arg : NULL;
}

START_TEST(all_threads_have_one_heap)
{
	if (run_suite_skips(!is_glibcs(), "malloc is not glibc's here"))
		return;
	start();
	for (int i = 0; i < 16; i++) {
		pthread_t t;
		void *both;
		ck_assert_int_eq(pthread_create(&t, NULL, take, &end), 0);
		pthread_join(t, &both);
		ck_assert_ptr_nonnull(both);
	}
}
END_TEST

static size_t resident_pages(void)
{
	size_t all = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%zu %zu", &all, &resident), 2);
	fclose(f);
	return resident;
}

static void take_and_free(size_t n, size_t each)
{
	void **blocks = malloc(n * sizeof *blocks);
	for (size_t i = 0; i < n; i++) {
		blocks[i] = malloc(each);
		memset(blocks[i], 1, each);
	}
	for (size_t i = 0; i < n; i++)
		free(blocks[i]);
	free(blocks);
}

START_TEST(what_was_freed_stays_but_for_what_is_very_much_or_very_large)
{
	if (run_suite_skips(!is_glibcs(), "malloc is not glibc's here"))
		return;
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	start();
	take_and_free(48 * MIB / BLOCK, BLOCK);
	size_t small = resident_pages();
	ck_assert_uint_ge(small * page, 48 * MIB);
	take_and_free(1, 256 * MIB);
	ck_assert_uint_lt(resident_pages() * page, small * page + 16 * MIB);
	take_and_free(512 * MIB / BLOCK, BLOCK);
	ck_assert_uint_lt(resident_pages() * page, 100 * MIB);
}
END_TEST

/* Whether the kernel was advised that the page there may be part of a huge one. */
static bool is_advised(uintptr_t at)
{
	char line[512];
	uintptr_t from, to;
	bool here = false, advised = false;
	FILE *f = fopen("/proc/self/smaps", "r");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = at >= from && at < to;
		else if (here && !strncmp(line, "VmFlags:", 8))
			advised = strstr(line, " hg");
	}
	fclose(f);
	return advised;
}

START_TEST(it_is_in_huge_pages_also_what_it_grows_by)
{
	if (run_suite_skips(!is_glibcs(), "malloc is not glibc's here") ||
		run_suite_skips(access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK) < 0,
			"this kernel has no huge pages to advise"))
		return;
	heap_tend(); /* before there is one: nothing */
	start();
	ck_assert(is_advised(end - MIB));
	heap_tend();
	uintptr_t grown = end;
	for (int i = 0; i < 1024 && grown == end; i++) {
		void *volatile never_freed = malloc(MIB);
		ck_assert_ptr_nonnull(never_freed);
		grown = (uintptr_t)sbrk(0);
	}
	ck_assert_uint_gt(grown, end);
	heap_tend();
	ck_assert(is_advised(grown - MIB));
	/* It shrinks, and grows again. */
	take_and_free(256 * MIB / BLOCK, BLOCK);
	uintptr_t shrunk = (uintptr_t)sbrk(0);
	void **blocks = malloc(256 * sizeof *blocks);
	for (int i = 0; i < 256; i++)
		blocks[i] = malloc(MIB);
	grown = (uintptr_t)sbrk(0);
	ck_assert_uint_gt(grown, shrunk);
	heap_tend();
	for (uintptr_t at = end; at < grown; at += MIB)
		ck_assert(is_advised(at));
	for (int i = 0; i < 256; i++)
		free(blocks[i]);
	free(blocks);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("heap");
	TCase *t = tcase_create("heap");
	tcase_add_test(t, all_threads_have_one_heap);
	tcase_add_test(t, what_was_freed_stays_but_for_what_is_very_much_or_very_large);
	tcase_add_test(t, it_is_in_huge_pages_also_what_it_grows_by);
	suite_add_tcase(s, t);
	return run_suite(s);
}
