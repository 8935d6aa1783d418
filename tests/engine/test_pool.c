/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "engine/pool.h"
#include "tests/run_suite.h"

#define MAX_UNITS 1000

struct work {
	atomic_uint done[MAX_UNITS];
	uint32_t n_threads;
	atomic_bool thread_busy[8];
	const uint32_t *input; /* plain memory the caller wrote */
	uint32_t output[MAX_UNITS];
};

static void do_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	struct work *w = arg;

	ck_assert_uint_lt(thread, w->n_threads);
	ck_assert(!atomic_exchange(&w->thread_busy[thread], true));
	for (uint32_t i = first; i < last; i++) {
		atomic_fetch_add(&w->done[i], 1);
		w->output[i] = w->input[i] + 1;
	}
	atomic_store(&w->thread_busy[thread], false);
}

static void check_once(struct pool *p, uint32_t n, uint32_t grain)
{
	uint32_t input[MAX_UNITS];
	struct work w = {.n_threads = pool_threads(p), .input = input};

	for (uint32_t i = 0; i < n; i++)
		input[i] = i * 3;
	pool_run(p, do_units, &w, n, grain);
	for (uint32_t i = 0; i < MAX_UNITS; i++) {
		ck_assert_uint_eq(atomic_load(&w.done[i]), i < n ? 1 : 0);
		ck_assert_uint_eq(w.output[i], i < n ? i * 3 + 1 : 0);
	}
}

START_TEST(every_unit_is_done_once_whatever_the_threads)
{
	struct pool *p = pool_new((uint32_t)_i);

	srand((unsigned)_i);
	for (int k = 0; k < 150; k++)
		check_once(p, (uint32_t)rand() % MAX_UNITS, 1 + (uint32_t)rand() % 20);
	ck_assert_ptr_null(pool_free(p));
}
END_TEST

START_TEST(threads_that_fell_asleep_wake_for_the_next_work)
{
	struct timespec nap = {0, 3000000};
	struct pool *p = pool_new(4);

	for (int k = 0; k < 20; k++) {
		nanosleep(&nap, NULL);
		check_once(p, MAX_UNITS, 10);
	}
	pool_free(p);
}
END_TEST

struct counter {
	atomic_uint n, threads;
};

static void count_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	struct counter *c = arg;

	atomic_fetch_or(&c->threads, 1u << thread);
	atomic_fetch_add(&c->n, last - first);
}

/* A worker that just finished a unit looks for another while the pool ends. */
START_TEST(pool_ended_right_after_work_does_none_of_it_again)
{
	for (int k = 0; k < 400; k++) {
		struct pool *p = pool_new(2);
		struct counter c = {0};
		unsigned total = 0;
		while (atomic_load(&c.threads) != 3) { /* until the worker takes part */
			pool_run(p, count_units, &c, 20, 1);
			total += 20;
		}
		pool_free(p);
		ck_assert_uint_eq(atomic_load(&c.n), total);
	}
}
END_TEST

START_TEST(pool_that_never_worked_ends)
{
	pool_free(pool_new(3));
	ck_assert_ptr_null(pool_free(NULL));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool");
	TCase *t = tcase_create("pool");

	tcase_add_loop_test(t, every_unit_is_done_once_whatever_the_threads, 1, 7);
	tcase_add_test(t, threads_that_fell_asleep_wake_for_the_next_work);
	tcase_add_test(t, pool_ended_right_after_work_does_none_of_it_again);
	tcase_add_test(t, pool_that_never_worked_ends);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return run_suite(s);
}
