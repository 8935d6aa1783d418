/* SPDX-License-Identifier: Apache-2.0 */
/* A flush is in force when it returns, whatever is being read, computed or dropped meanwhile. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/gateway/cache_fixture.h"
#include "tests/run_suite.h"

static struct cache_fixture f;

static void setup(void)
{
	cache_fixture_make(&f);
	cache_fixture_open(&f);
}

static void teardown(void)
{
	cache_fixture_end(&f);
}

static int hit(const struct question *q, const char *text)
{
	return cache_fixture_hit(&f, q, text);
}

static void store(const struct question *q, const char *text)
{
	cache_fixture_store(&f, q, text);
}

START_TEST(a_flush_is_in_force_at_its_return_at_every_level)
{
	struct question q = {0}, bob = {.user = "bob"};
	store(&q, "one");
	store(&bob, "two");
	cache_disk_settle(f.c->disk);
	cache_fixture_ctl(&f, "flush ada\n");
	ck_assert_int_eq(hit(&q, ""), 0);
	ck_assert_int_eq(hit(&bob, "two"), CACHE_L1);
	cache_fixture_ctl(&f, "flush");
	ck_assert_int_eq(hit(&bob, ""), 0);
	cache_fixture_reopen(&f);
	ck_assert_int_eq(hit(&q, ""), 0);
	ck_assert_int_eq(hit(&bob, ""), 0);
	store(&q, "three");
	ck_assert_int_eq(hit(&q, "three"), CACHE_L1);
}
END_TEST

START_TEST(an_answer_that_was_being_computed_at_a_flush_is_not_stored)
{
	struct question ada = {.user = "ada"}, bob = {.user = "bob"};
	struct cache_ticket *a, *b;
	ck_assert_int_eq(cache_fixture_ask(&f, &ada, &a).outcome, CACHE_MISS);
	ck_assert_int_eq(cache_fixture_ask(&f, &bob, &b).outcome, CACHE_MISS);
	cache_fixture_ctl(&f, "flush ada");
	for (int i = 0; i < 100; i++) { /* more than are remembered one by one */
		char line[32];
		snprintf(line, sizeof line, "flush user%d", i);
		if (i == 20)
			cache_fixture_land(&f, b, "two");
		cache_fixture_ctl(&f, line);
	}
	cache_fixture_land(&f, a, "one");
	ck_assert_int_eq(hit(&ada, ""), 0);
	ck_assert_int_eq(hit(&bob, "two"), CACHE_L1);
}
END_TEST

struct race {
	struct asked {
		struct cache_ticket *t;
		struct cache_found found;
		atomic_int n;
	} asked;
	int r;
};

static void note(void *arg, const struct cache_found *found)
{
	struct asked *a = arg;
	a->found = *found;
	a->n++;
}

/* On the loop: what is read cannot be delivered before this returns. */
static void flush_while_it_is_read(void *arg)
{
	struct race *r = arg;
	struct cache_ask ask;
	cache_fixture_make_ask(&ask, &(struct question){0});
	r->r = cache_begin(&r->asked.t, f.c, &ask, NULL, &r->asked.found, note, &r->asked);
	cache_ctl(f.c, "flush", 5, NULL);
}

static void nothing(void *arg)
{
}

START_TEST(an_answer_that_was_being_read_at_a_flush_is_not_served)
{
	struct race r = {0};
	store(&(struct question){0}, "one");
	cache_disk_settle(f.c->disk);
	cache_fixture_forget_memory(&f);
	cache_fixture_on_loop(&f, flush_while_it_is_read, &r);
	ck_assert_int_eq(r.r, 1);
	for (int i = 0; i < 1000 && !r.asked.n; i++) {
		usleep(1000);
		cache_fixture_on_loop(&f, nothing, NULL);
	}
	ck_assert_int_eq(r.asked.n, 1);
	ck_assert_int_eq(r.asked.found.outcome, CACHE_MISS);
	cache_fixture_drop(&f, r.asked.t);
}
END_TEST

static void drop_while_it_is_read(void *arg)
{
	struct race *r = arg;
	struct cache_ask ask;
	cache_fixture_make_ask(&ask, &(struct question){0});
	r->r = cache_begin(&r->asked.t, f.c, &ask, NULL, &r->asked.found, note, &r->asked);
	r->asked.t = cache_drop(r->asked.t);
}

START_TEST(a_request_dropped_while_it_is_looked_for_is_not_told)
{
	struct race r = {0};
	store(&(struct question){0}, "one");
	cache_disk_settle(f.c->disk);
	cache_fixture_forget_memory(&f);
	cache_fixture_on_loop(&f, drop_while_it_is_read, &r);
	ck_assert_int_eq(r.r, 1);
	cache_disk_settle(f.c->disk);
	cache_fixture_on_loop(&f, nothing, NULL);
	ck_assert_int_eq(r.asked.n, 0);
}
END_TEST

START_TEST(ctl_says_what_it_knows)
{
	static const char *const bad[] = {"", "flushh", "clear", "flush a/b", "flush ada bob"};
	struct err err;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		ck_assert_int_eq(cache_ctl(f.c, bad[i], strlen(bad[i]), &err), -EINVAL);
		ck_assert_ptr_nonnull(strstr(err.text, "flush"));
	}
}
END_TEST

static atomic_bool over;

static void *meddle(void *arg)
{
	struct buf out = {0};
	for (unsigned i = 0; !atomic_load(&over); i++) {
		cache_setting_set(f.c, "threshold", i % 2 ? "0.9" : "0.8", 3, NULL);
		cache_setting_set(f.c, "max_memory", i % 2 ? "4096" : "", i % 2 ? 4 : 0, NULL);
		if (i % 16 == 0)
			cache_ctl(f.c, i % 32 ? "flush" : "flush ada", i % 32 ? 5 : 9, NULL);
		buf_clear(&out);
		cache_stats(f.c, &out);
		cache_metrics(f.c, &out);
		free(cache_fixture_lookup(&f, &(struct question){.prompt = "question 3"}, NULL, 0));
	}
	buf_free(&out);
	return NULL;
}

START_TEST(settings_and_flushes_from_elsewhere_disturb_no_request)
{
	pthread_t threads[2];
	char room[16];
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, meddle, NULL);
	for (int i = 0; i < 2000; i++) {
		snprintf(room, sizeof room, "question %d", i % 10);
		struct question q = {.prompt = room};
		struct cache_ticket *t;
		struct cache_found found = cache_fixture_ask(&f, &q, &t);
		if (found.outcome == CACHE_HIT) {
			ck_assert_str_eq(found.text->bytes, q.prompt);
			text_put(found.text);
			cache_fixture_drop(&f, t);
		} else {
			cache_fixture_land(&f, t, q.prompt);
		}
	}
	atomic_store(&over, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	ck_assert_str_eq(cache_fixture_fault(&f, "cache"), "");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_flush");
	TCase *t = tcase_create("cache_flush");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_flush_is_in_force_at_its_return_at_every_level);
	tcase_add_test(t, an_answer_that_was_being_computed_at_a_flush_is_not_stored);
	tcase_add_test(t, an_answer_that_was_being_read_at_a_flush_is_not_served);
	tcase_add_test(t, a_request_dropped_while_it_is_looked_for_is_not_told);
	tcase_add_test(t, ctl_says_what_it_knows);
	tcase_add_test(t, settings_and_flushes_from_elsewhere_disturb_no_request);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
