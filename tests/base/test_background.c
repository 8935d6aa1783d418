/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of a thread that went into the background. */
#include "base/background.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/run_suite.h"

struct seen {
	int (*begin)(void);
	int first_policy, first_priority; /* what it is given, before */
	int result, policy, priority, nice, nice_before;
	int child_policy, child_nice;
	bool refused; /* the first policy was */
};

static void look(int *policy, int *priority, int *nice)
{
	struct sched_param param;
	*policy = sched_getscheduler(0);
	ck_assert_int_eq(sched_getparam(0, &param), 0);
	*priority = param.sched_priority;
	errno = 0;
	*nice = getpriority(PRIO_PROCESS, (id_t)gettid());
	ck_assert_int_eq(errno, 0);
}

static void *be_child(void *arg)
{
	struct seen *s = arg;
	int priority;
	look(&s->child_policy, &priority, &s->child_nice);
	return NULL;
}

static void *go_behind(void *arg)
{
	struct seen *s = arg;
	const struct sched_param param = {.sched_priority = s->first_priority};
	pthread_t child;
	s->refused = sched_setscheduler(0, s->first_policy, &param) < 0;
	s->nice_before = getpriority(PRIO_PROCESS, (id_t)gettid());
	s->result = s->begin();
	look(&s->policy, &s->priority, &s->nice);
	ck_assert_int_eq(pthread_create(&child, NULL, be_child, s), 0);
	pthread_join(child, NULL);
	return NULL;
}

/* On a thread of its own, which had that policy. */
static struct seen see(int (*begin)(void), int policy, int priority)
{
	struct seen s = {.begin = begin, .first_policy = policy, .first_priority = priority};
	pthread_t thread;
	ck_assert_int_eq(pthread_create(&thread, NULL, go_behind, &s), 0);
	pthread_join(thread, NULL);
	if (!s.refused)
		ck_assert_int_eq(s.result, 0);
	return s;
}

static struct seen behind(int policy, int priority)
{
	return see(background_begin, policy, priority);
}

static int nicer(int nice)
{
	return nice + BACKGROUND_NICE < 19 ? nice + BACKGROUND_NICE : 19;
}

START_TEST(a_thread_falls_behind_and_its_children_with_it_and_nobody_else)
{
	int policy, priority, nice, policy_after, priority_after, nice_after;
	look(&policy, &priority, &nice);
	struct seen s = behind(SCHED_OTHER, 0);
	ck_assert(!s.refused);
	ck_assert_int_eq(s.policy, SCHED_BATCH);
	ck_assert_int_eq(s.nice, nicer(s.nice_before));
	ck_assert_int_eq(s.child_policy, SCHED_BATCH);
	ck_assert_int_eq(s.child_nice, s.nice);
	look(&policy_after, &priority_after, &nice_after);
	ck_assert_int_eq(policy_after, policy);
	ck_assert_int_eq(priority_after, priority);
	ck_assert_int_eq(nice_after, nice);
}
END_TEST

static const char refusal[] = "real-time policies are refused to this user here";

START_TEST(a_real_time_thread_keeps_its_policy_one_priority_below)
{
	static const int policies[] = {SCHED_FIFO, SCHED_RR};
	for (size_t i = 0; i < 2; i++) {
		struct seen s = behind(policies[i], 7);
		if (run_suite_skips(s.refused, refusal))
			return;
		ck_assert_int_eq(s.policy, policies[i]);
		ck_assert_int_eq(s.priority, 6);
		ck_assert_int_eq(s.nice, s.nice_before);
	}
}
END_TEST

START_TEST(a_real_time_thread_of_the_lowest_priority_is_an_ordinary_one_then)
{
	struct seen s = behind(SCHED_FIFO, 1);
	if (run_suite_skips(s.refused, refusal))
		return;
	ck_assert_int_eq(s.policy, SCHED_BATCH);
	ck_assert_int_eq(s.nice, nicer(s.nice_before));
}
END_TEST

START_TEST(one_that_had_only_idle_time_is_left_alone)
{
	struct seen s = behind(SCHED_IDLE, 0);
	ck_assert(!s.refused);
	ck_assert_int_eq(s.policy, SCHED_IDLE);
	ck_assert_int_eq(s.nice, s.nice_before);
}
END_TEST

static void *go_far_behind(void *arg)
{
	int *nice = arg, policy, priority;
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(background_begin(), 0);
	look(&policy, &priority, nice);
	return NULL;
}

START_TEST(nobody_is_further_behind_than_19)
{
	pthread_t thread;
	int nice = 0;
	ck_assert_int_eq(pthread_create(&thread, NULL, go_far_behind, &nice), 0);
	pthread_join(thread, NULL);
	ck_assert_int_eq(nice, 19);
}
END_TEST

START_TEST(a_batch_thread_has_the_share_that_it_had)
{
	struct seen s = see(background_batch, SCHED_OTHER, 0);
	ck_assert(!s.refused);
	ck_assert_int_eq(s.policy, SCHED_BATCH);
	ck_assert_int_eq(s.nice, s.nice_before);
	ck_assert_int_eq(s.child_policy, SCHED_BATCH);
}
END_TEST

START_TEST(batch_is_nothing_for_real_time_and_idle_threads)
{
	struct seen s = see(background_batch, SCHED_IDLE, 0);
	ck_assert_int_eq(s.policy, SCHED_IDLE);
	s = see(background_batch, SCHED_FIFO, 7);
	if (run_suite_skips(s.refused, refusal))
		return;
	ck_assert_int_eq(s.policy, SCHED_FIFO);
	ck_assert_int_eq(s.priority, 7);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("background");
	TCase *t = tcase_create("background");
	tcase_add_test(t, a_thread_falls_behind_and_its_children_with_it_and_nobody_else);
	tcase_add_test(t, a_real_time_thread_keeps_its_policy_one_priority_below);
	tcase_add_test(t, a_real_time_thread_of_the_lowest_priority_is_an_ordinary_one_then);
	tcase_add_test(t, one_that_had_only_idle_time_is_left_alone);
	tcase_add_test(t, nobody_is_further_behind_than_19);
	tcase_add_test(t, a_batch_thread_has_the_share_that_it_had);
	tcase_add_test(t, batch_is_nothing_for_real_time_and_idle_threads);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
