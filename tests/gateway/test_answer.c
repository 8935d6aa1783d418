/* SPDX-License-Identifier: Apache-2.0 */
/* One buffer, many cursors: what readers of an answer get, and when they are told. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/answer.h"
#include "tests/gateway/harness.h"
#include "tests/run_suite.h"

static struct harness h;

static void setup(void)
{
	harness_make(&h, 0);
	harness_open(&h);
}

static void teardown(void)
{
	harness_end(&h);
}

static void wake(void *arg)
{
	sem_post(arg);
}

START_TEST(an_answer_under_way_gives_what_is_there_and_then_says_wait)
{
	struct answer *a = answer_new(h.g);
	char bytes[16];
	size_t n;
	ck_assert_int_eq(answer_read(a, 0, bytes, sizeof bytes, &n), 1);
	answer_append(a, "hello", 5);
	ck_assert_int_eq(answer_read(a, 0, bytes, sizeof bytes, &n), 0);
	ck_assert_uint_eq(n, 5);
	ck_assert_int_eq(answer_read(a, 5, bytes, sizeof bytes, &n), 1);
	answer_end(a, 0, false);
	ck_assert_int_eq(answer_read(a, 5, bytes, sizeof bytes, &n), 0);
	ck_assert_uint_eq(n, 0);
	answer_put(a);
}
END_TEST

START_TEST(a_broken_answer_gives_all_its_bytes_before_the_errno)
{
	struct answer *a = answer_new(h.g);
	char bytes[2];
	size_t n;
	answer_append(a, "abc", 3);
	answer_end(a, -EPROTO, false);
	ck_assert_int_eq(answer_read(a, 0, bytes, 2, &n), 0);
	ck_assert_int_eq(answer_read(a, 2, bytes, 2, &n), 0);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(answer_read(a, 3, bytes, 2, &n), -EPROTO);
	answer_put(a);
}
END_TEST

START_TEST(a_cancelled_answer_is_what_the_furthest_reader_got)
{
	struct answer *a = answer_new(h.g);
	char bytes[16];
	size_t n;
	answer_append(a, "hello world", 11);
	answer_read(a, 0, bytes, 8, &n);
	answer_read(a, 0, bytes, 3, &n);
	answer_end(a, -ECANCELED, true);
	bool ended;
	ck_assert_uint_eq(answer_size(a, &ended), 8);
	ck_assert(ended);
	answer_put(a);
}
END_TEST

START_TEST(bytes_come_in_whole_sequences_when_the_buffer_has_at_least_four)
{
	struct answer *a = answer_new(h.g);
	static const char text[] = "a\xE2\x82\xAC\xF0\x9F\x98\x80z\xC3\xA9";
	char bytes[16];
	answer_append(a, text, sizeof text - 1);
	answer_end(a, 0, false);
	for (size_t size = 1; size < 12; size++) {
		char all[64];
		size_t got = 0, n;
		while (answer_read(a, got, bytes, size, &n) == 0 && n) {
			memcpy(all + got, bytes, n);
			got += n;
			if (size >= 4 && got < sizeof text - 1)
				ck_assert_int_ne((unsigned char)text[got] & 0xC0, 0x80);
		}
		ck_assert_uint_eq(got, sizeof text - 1);
		ck_assert_mem_eq(all, text, got);
	}
	answer_put(a);
}
END_TEST

START_TEST(a_waiter_is_told_once_and_only_when_there_is_more)
{
	struct answer *a = answer_new(h.g);
	sem_t told;
	sem_init(&told, 0, 0);
	gateway_waiter id;
	ck_assert_int_eq(answer_wait(a, 0, wake, &told, &id), 0);
	answer_append(a, "x", 1);
	sem_wait(&told);
	ck_assert_int_eq(answer_wait(a, 0, wake, &told, &id), 1);
	ck_assert_int_eq(answer_wait(a, 1, wake, &told, &id), 0);
	answer_end(a, 0, false);
	sem_wait(&told);
	ck_assert_int_ne(sem_trywait(&told), 0);
	ck_assert(!answer_unwait(a, id));
	answer_put(a);
	sem_destroy(&told);
}
END_TEST

START_TEST(a_withdrawn_waiter_is_not_told_and_its_id_never_names_another)
{
	struct answer *a = answer_new(h.g);
	sem_t one, two;
	sem_init(&one, 0, 0);
	sem_init(&two, 0, 0);
	gateway_waiter first, second;
	answer_wait(a, 0, wake, &one, &first);
	ck_assert(answer_unwait(a, first));
	ck_assert(!answer_unwait(a, first));
	answer_wait(a, 0, wake, &two, &second);
	ck_assert(first != second);
	ck_assert(!answer_unwait(a, first));
	answer_end(a, 0, false);
	sem_wait(&two);
	ck_assert_int_ne(sem_trywait(&one), 0);
	answer_put(a);
}
END_TEST

enum { READERS = 32 };

struct reader {
	struct answer *a;
	char *text;
	int status;
};

static void *read_all(void *arg)
{
	struct reader *r = arg;
	r->text = harness_read_answer(r->a, &r->status);
	return NULL;
}

START_TEST(many_readers_get_the_same_bytes_however_they_are_appended)
{
	struct answer *a = answer_new(h.g);
	struct reader readers[READERS];
	pthread_t threads[READERS];
	for (int i = 0; i < READERS; i++) {
		readers[i] = (struct reader){.a = a};
		pthread_create(&threads[i], NULL, read_all, &readers[i]);
	}
	struct buf want = {0};
	for (int i = 0; i < 500; i++)
		buf_printf(&want, "%d ", i);
	for (size_t i = 0; i < want.len; i += 7)
		answer_append(a, want.data + i, want.len - i < 7 ? want.len - i : 7);
	answer_end(a, 0, false);
	for (int i = 0; i < READERS; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_int_eq(readers[i].status, 0);
		ck_assert_str_eq(readers[i].text, want.data);
		free(readers[i].text);
	}
	buf_free(&want);
	answer_put(a);
}
END_TEST

enum { WAITERS = 5000 };

START_TEST(thousands_of_waiters_are_told_by_one_append)
{
	struct answer *a = answer_new(h.g);
	sem_t told;
	sem_init(&told, 0, 0);
	static gateway_waiter ids[WAITERS];
	for (int i = 0; i < WAITERS; i++)
		ck_assert_int_eq(answer_wait(a, 0, wake, &told, &ids[i]), 0);
	for (int i = 0; i < WAITERS; i += 2)
		ck_assert(answer_unwait(a, ids[i]));
	answer_append(a, "x", 1);
	for (int i = 0; i < WAITERS / 2; i++)
		sem_wait(&told);
	ck_assert_int_ne(sem_trywait(&told), 0);
	answer_end(a, 0, false);
	answer_put(a);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("answer");
	TCase *t = tcase_create("answer");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, an_answer_under_way_gives_what_is_there_and_then_says_wait);
	tcase_add_test(t, a_broken_answer_gives_all_its_bytes_before_the_errno);
	tcase_add_test(t, a_cancelled_answer_is_what_the_furthest_reader_got);
	tcase_add_test(t, bytes_come_in_whole_sequences_when_the_buffer_has_at_least_four);
	tcase_add_test(t, a_waiter_is_told_once_and_only_when_there_is_more);
	tcase_add_test(t, a_withdrawn_waiter_is_not_told_and_its_id_never_names_another);
	tcase_add_test(t, many_readers_get_the_same_bytes_however_they_are_appended);
	tcase_add_test(t, thousands_of_waiters_are_told_by_one_append);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
