/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/loop.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/run_suite.h"

enum { N = 8, MS = 1000000 };

static struct loop *loop;

/* A descriptor that is ready from the beginning, and what its turn does. */
struct source {
	struct loop_fd f;
	int number;
	atomic_int turns;
	void (*act)(struct source *s);
};
static struct source sources[N];
static atomic_int n_order;
static atomic_int order[64];

static void note(int what)
{
	int i = atomic_fetch_add(&n_order, 1);
	if (i < 64)
		order[i] = what;
}

static void ready(struct loop_fd *f, uint32_t events)
{
	struct source *s = (struct source *)(void *)f;
	ck_assert(events & EPOLLIN);
	ck_assert(loop_inside(loop));
	atomic_fetch_add(&s->turns, 1);
	s->act(s);
}

/* Something to do on the loop, and waiting until it is done. */
struct errand {
	struct loop_work work;
	void (*act)(void);
	atomic_bool done;
};

static void run_errand(struct loop_work *w)
{
	struct errand *e = list_entry(w, struct errand, work);
	e->act();
	e->done = true;
}

static void on_loop(void (*act)(void))
{
	struct errand e = {.work.run = run_errand, .act = act};
	list_init(&e.work.link);
	ck_assert(loop_post(loop, &e.work));
	while (!e.done)
		usleep(100);
}

static void open_loop(void)
{
	struct err err = {0};
	ck_assert_int_eq(loop_new(&loop, &err), 0);
	n_order = 0;
}

static void make_sources(void (*act)(struct source *s))
{
	open_loop();
	for (int i = 0; i < N; i++) {
		sources[i].number = i;
		sources[i].turns = 0;
		sources[i].act = act;
		sources[i].f.ready = ready;
		sources[i].f.fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
		ck_assert_int_ge(sources[i].f.fd, 0);
	}
}

static void watch_all(void)
{
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(loop_watch(loop, &sources[i].f, EPOLLIN), 0);
}

static void end(struct source *s)
{
	int fd = s->f.fd;
	loop_unwatch(loop, &s->f);
	loop_unwatch(loop, &s->f);
	ck_assert_int_eq(s->f.fd, -1);
	if (fd >= 0)
		close(fd);
}

static void end_all(void)
{
	for (int i = 0; i < N; i++)
		end(&sources[i]);
}

static void until(atomic_int *count, int at_least)
{
	for (int i = 0; i < 100000 && *count < at_least; i++)
		usleep(100);
	ck_assert_int_ge(*count, at_least);
}

static void end_this(struct source *s)
{
	note(s->number);
	end(s);
}

START_TEST(each_descriptor_that_is_ready_has_its_turn)
{
	make_sources(end_this);
	on_loop(watch_all);
	until(&n_order, N);
	on_loop(end_all);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(sources[i].turns, 1);
	loop = loop_free(loop);
}
END_TEST

static void nothing(struct source *s)
{
}

START_TEST(a_descriptor_has_turns_as_long_as_it_is_ready)
{
	make_sources(nothing);
	on_loop(watch_all);
	until(&sources[3].turns, 1000);
	on_loop(end_all);
	int before = sources[3].turns;
	usleep(2000);
	ck_assert_int_eq(sources[3].turns, before);
	loop = loop_free(loop);
}
END_TEST

static void end_others(struct source *s)
{
	note(s->number);
	end_all();
}

START_TEST(what_is_unwatched_by_another_of_its_batch_is_not_called)
{
	make_sources(end_others);
	on_loop(watch_all);
	until(&n_order, 1);
	usleep(2000);
	ck_assert_int_eq(n_order, 1);
	loop = loop_free(loop);
}
END_TEST

/* The number is used again at once, by another object. */
static void replace_others(struct source *s)
{
	note(s->number);
	if (n_order > 1) {
		end(s);
		return;
	}
	end_all();
	for (int i = 0; i < N; i++) {
		sources[i].f.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		ck_assert_int_eq(loop_watch(loop, &sources[i].f, EPOLLIN), 0);
	}
}

START_TEST(a_descriptor_with_the_number_of_an_old_one_hears_nothing_of_its_events)
{
	make_sources(replace_others);
	on_loop(watch_all);
	until(&n_order, 1);
	usleep(2000);
	ck_assert_int_eq(n_order, 1);
	on_loop(end_all);
	loop = loop_free(loop);
}
END_TEST

static struct loop_work posted;

static void run_posted(struct loop_work *w)
{
	note(100);
}

static void post_and_end(struct source *s)
{
	note(s->number);
	end(s);
	loop_post(loop, &posted);
}

START_TEST(posted_work_does_not_wait_for_more_than_one_descriptor)
{
	posted.run = run_posted;
	list_init(&posted.link);
	make_sources(post_and_end);
	on_loop(watch_all);
	until(&n_order, 2 * N);
	for (int i = 0; i < 2 * N; i++)
		ck_assert_int_eq(order[i] == 100, i % 2);
	loop = loop_free(loop);
}
END_TEST

static atomic_bool stop;

static void run_again(struct loop_work *w)
{
	if (!stop)
		loop_post(loop, w);
}

START_TEST(work_that_does_not_end_does_not_starve_a_descriptor)
{
	stop = false;
	posted.run = run_again;
	list_init(&posted.link);
	make_sources(nothing);
	loop_post(loop, &posted);
	on_loop(watch_all);
	until(&sources[0].turns, 3);
	until(&sources[N - 1].turns, 3);
	on_loop(end_all);
	stop = true;
	loop = loop_free(loop);
}
END_TEST

static void watch_one(void)
{
	sources[0].f.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ck_assert_int_eq(loop_watch(loop, &sources[0].f, EPOLLIN), 0);
}

static void then_written(void)
{
	uint64_t one = 1;
	ck_assert_int_eq(loop_watch(loop, &sources[0].f, 0), 0);
	ck_assert_int_eq(write(sources[0].f.fd, &one, sizeof one), sizeof one);
}

static void listen_again(void)
{
	ck_assert_int_eq(loop_watch(loop, &sources[0].f, EPOLLIN), 0);
}

START_TEST(what_is_watched_for_can_be_changed)
{
	make_sources(end_this);
	on_loop(end_all);
	on_loop(watch_one);
	on_loop(then_written);
	usleep(2000);
	ck_assert_int_eq(n_order, 0);
	on_loop(listen_again);
	until(&n_order, 1);
	loop = loop_free(loop);
}
END_TEST

struct alarm {
	struct loop_timer t;
	int number;
};
static struct alarm alarms[N];

static void ring(struct loop_timer *t)
{
	note(list_entry(t, struct alarm, t)->number);
}

static void arm_all(void)
{
	static const int at[N] = {5, 1, 3, 3, 9, 0, 3, 9};
	uint64_t now = clock_mono_ns();
	for (int i = 0; i < N; i++) {
		alarms[i] = (struct alarm){.t.run = ring, .number = i};
		list_init(&alarms[i].t.link);
		ck_assert(loop_arm(loop, &alarms[i].t, now + (uint64_t)at[i] * MS));
	}
}

static void open_its_number_again(void)
{
	int fd = sources[0].f.fd, fresh;
	close(fd);
	fresh = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
	ck_assert_int_eq(fresh == fd ? fd : dup2(fresh, fd), fd);
	if (fresh != fd)
		close(fresh);
	ck_assert_int_eq(loop_watch(loop, &sources[0].f, EPOLLIN), 0);
}

START_TEST(a_descriptor_that_was_closed_and_opened_again_can_be_watched_on)
{
	make_sources(end_this);
	on_loop(end_all);
	on_loop(watch_one);
	on_loop(open_its_number_again);
	until(&sources[0].turns, 1);
	loop = loop_free(loop);
}
END_TEST

START_TEST(timers_ring_by_time_and_those_of_one_time_as_they_were_armed)
{
	static const int want[N] = {5, 1, 2, 3, 6, 0, 4, 7};
	open_loop();
	on_loop(arm_all);
	until(&n_order, N);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(order[i], want[i]);
	loop = loop_free(loop);
}
END_TEST

static void move_and_disarm(void)
{
	arm_all();
	uint64_t now = clock_mono_ns();
	ck_assert(loop_arm(loop, &alarms[5].t, now + 20 * MS));
	ck_assert(loop_disarm(loop, &alarms[2].t));
	ck_assert(!loop_disarm(loop, &alarms[2].t));
}

START_TEST(a_timer_can_be_moved_and_disarmed)
{
	static const int want[N - 1] = {1, 3, 6, 0, 4, 7, 5};
	open_loop();
	on_loop(move_and_disarm);
	until(&n_order, N - 1);
	usleep(2000);
	ck_assert_int_eq(n_order, N - 1);
	for (int i = 0; i < N - 1; i++)
		ck_assert_int_eq(order[i], want[i]);
	loop = loop_free(loop);
}
END_TEST

static void move_forward_only(void)
{
	arm_all();
	uint64_t now = clock_mono_ns();
	ck_assert(loop_arm_earlier(loop, &alarms[0].t, now + 50 * MS));
	ck_assert(loop_arm_earlier(loop, &alarms[4].t, 1));
	loop_disarm(loop, &alarms[2].t);
	ck_assert(loop_arm_earlier(loop, &alarms[2].t, now + 20 * MS));
}

START_TEST(a_timer_can_be_moved_to_an_earlier_time_only)
{
	static const int want[N] = {4, 5, 1, 3, 6, 0, 7, 2};
	open_loop();
	on_loop(move_forward_only);
	until(&n_order, N);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(order[i], want[i]);
	loop = loop_free(loop);
}
END_TEST

START_TEST(a_loop_that_closes_runs_what_was_posted_and_calls_no_descriptor_after)
{
	make_sources(nothing);
	on_loop(watch_all);
	until(&sources[0].turns, 1);
	posted.run = run_posted;
	list_init(&posted.link);
	ck_assert(loop_post(loop, &posted));
	loop_close(loop);
	ck_assert_int_eq(n_order, 1);
	ck_assert(!loop_post(loop, &posted));
	end_all();
	loop = loop_free(loop);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loop");
	TCase *c = tcase_create("descriptors");
	tcase_add_test(c, each_descriptor_that_is_ready_has_its_turn);
	tcase_add_test(c, a_descriptor_has_turns_as_long_as_it_is_ready);
	tcase_add_test(c, what_is_unwatched_by_another_of_its_batch_is_not_called);
	tcase_add_test(c, a_descriptor_with_the_number_of_an_old_one_hears_nothing_of_its_events);
	tcase_add_test(c, posted_work_does_not_wait_for_more_than_one_descriptor);
	tcase_add_test(c, work_that_does_not_end_does_not_starve_a_descriptor);
	tcase_add_test(c, what_is_watched_for_can_be_changed);
	tcase_add_test(c, a_descriptor_that_was_closed_and_opened_again_can_be_watched_on);
	tcase_add_test(c, a_loop_that_closes_runs_what_was_posted_and_calls_no_descriptor_after);
	suite_add_tcase(s, c);
	c = tcase_create("timers");
	tcase_add_test(c, timers_ring_by_time_and_those_of_one_time_as_they_were_armed);
	tcase_add_test(c, a_timer_can_be_moved_and_disarmed);
	tcase_add_test(c, a_timer_can_be_moved_to_an_earlier_time_only);
	suite_add_tcase(s, c);
	return run_suite(s);
}
