/* SPDX-License-Identifier: Apache-2.0 */
#include "base/queue.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>

#include "tests/run_suite.h"

static int readable(struct queue *q)
{
	struct pollfd p = {.fd = queue_fd(q), .events = POLLIN};
	return poll(&p, 1, 0) == 1;
}

START_TEST(items_come_out_in_order_and_a_full_queue_refuses)
{
	struct queue *q = queue_new(sizeof(int), 3);
	int x;
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 3; i++)
			ck_assert_int_eq(queue_push(q, &(int){round * 10 + i}), 0);
		ck_assert_int_eq(queue_push(q, &(int){99}), -EAGAIN);
		for (int i = 0; i < 3; i++) {
			ck_assert_int_eq(queue_pop(q, &x), 0);
			ck_assert_int_eq(x, round * 10 + i);
		}
		ck_assert_int_eq(queue_pop(q, &x), -EAGAIN);
	}
	queue_free(q);
}
END_TEST

START_TEST(descriptor_is_readable_exactly_while_there_are_items_or_it_is_closed)
{
	struct queue *q = queue_new(sizeof(int), 4);
	int x = 7;
	ck_assert(!readable(q));
	queue_push(q, &x);
	queue_push(q, &x);
	ck_assert(readable(q));
	queue_pop(q, &x);
	ck_assert(readable(q));
	queue_pop(q, &x);
	ck_assert(!readable(q));
	queue_close(q);
	ck_assert(readable(q));
	ck_assert_int_eq(queue_push(q, &x), -ESHUTDOWN);
	ck_assert_int_eq(queue_pop(q, &x), -ESHUTDOWN);
	queue_free(q);
}
END_TEST

enum { PRODUCERS = 4, PER_PRODUCER = 20000 };

static void *produce(void *arg)
{
	struct queue *q = arg;
	for (int i = 1; i <= PER_PRODUCER;) {
		if (queue_push(q, &i) == 0)
			i++;
		else
			sched_yield();
	}
	return NULL;
}

static void *consume(void *arg)
{
	uint64_t sum = 0;
	int x;
	while (queue_pop_wait(arg, &x) == 0)
		sum += (uint64_t)x;
	return (void *)(uintptr_t)sum;
}

START_TEST(every_item_of_many_threads_arrives_once_also_after_the_close)
{
	struct queue *q = queue_new(sizeof(int), 64);
	pthread_t producers[PRODUCERS], consumers[2];
	for (int i = 0; i < 2; i++)
		pthread_create(&consumers[i], NULL, consume, q);
	for (int i = 0; i < PRODUCERS; i++)
		pthread_create(&producers[i], NULL, produce, q);
	for (int i = 0; i < PRODUCERS; i++)
		pthread_join(producers[i], NULL);
	queue_close(q);
	uint64_t sum = 0;
	for (int i = 0; i < 2; i++) {
		void *part;
		pthread_join(consumers[i], &part);
		sum += (uintptr_t)part;
	}
	ck_assert_uint_eq(sum, (uint64_t)PRODUCERS * PER_PRODUCER * (PER_PRODUCER + 1) / 2);
	queue_free(q);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base/queue");
	TCase *t = tcase_create("queue");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, items_come_out_in_order_and_a_full_queue_refuses);
	tcase_add_test(t, descriptor_is_readable_exactly_while_there_are_items_or_it_is_closed);
	tcase_add_test(t, every_item_of_many_threads_arrives_once_also_after_the_close);
	suite_add_tcase(s, t);
	return run_suite(s);
}
