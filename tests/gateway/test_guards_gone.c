/* SPDX-License-Identifier: Apache-2.0 */
/* Rule files that go or come back, also over a restart; what status says of them; many at once. */
#include "gateway/guards.h"

#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/gateway/force_fixture.h"
#include "tests/run_suite.h"

/* ---- gone ---- */

START_TEST(a_removed_file_is_out_of_force_at_once)
{
	harness_guard(&force_h, "input/a.rules", "redact F /foo/\n");
	harness_guard(&force_h, "input/b.rules", "redact B /bar/\n");
	gateway_guard_remove(force_h.g, "input/a.rules", false);
	force_passes("foo bar", "foo [B]");
	force_names_are("input/b.rules;");
	ck_assert(!gateway_guard_is(force_h.g, "input/a.rules", "redact F /foo/\n", 15));
	gateway_guard_remove(force_h.g, "input/never.rules", false);
	gateway_guard_remove(force_h.g, "input/never.rules", true);
	gateway_guard_remove(force_h.g, "not a name", false);
	harness_close(&force_h);
	harness_open(&force_h);
	force_passes("foo bar", "foo [B]");
}
END_TEST

START_TEST(a_file_renamed_away_stays_in_force_for_two_seconds_unless_it_is_back)
{
	struct err err;
	harness_guard(&force_h, "input/a.rules", "redact F /foo/\n");
	harness_guard(&force_h, "input/b.rules", "redact B /bar/\n");
	harness_guard(&force_h, "input/c.rules", "redact C /car/\n");
	harness_guard(&force_h, "input/d.rules", "redact D /dar/\n");
	uint64_t from = clock_mono_ns();
	gateway_guard_remove(force_h.g, "input/a.rules", true);
	gateway_guard_remove(force_h.g, "input/b.rules", true);
	gateway_guard_remove(force_h.g, "input/c.rules", true);
	gateway_guard_remove(force_h.g, "input/d.rules", true);
	gateway_guard_remove(force_h.g, "input/d.rules", false);
	/* That it is there again has to be said, also with the same text. */
	ck_assert(!gateway_guard_is(force_h.g, "input/b.rules", "redact B /bar/\n", 15));
	harness_guard(&force_h, "input/b.rules", "redact B /bar/\n");
	ck_assert_int_eq(force_set("input/c.rules", "bad\n", &err), -EINVAL);
	force_names_are("input/a.rules;input/b.rules;input/c.rules;");
	for (bool in_force = true; in_force;) {
		char *text = force_passed("foo bar car dar");
		in_force = clock_mono_ns() - from < 2000000000; /* it was when that was judged */
		ck_assert(!in_force || !strcmp(text, "[F] [B] [C] dar"));
		free(text);
		usleep(20000);
	}
	char **names = NULL;
	size_t n = 3;
	while (n == 3 && clock_mono_ns() - from < 60000000000) {
		usleep(20000);
		names = gateway_guard_names(force_h.g);
		for (n = 0; names[n]; n++)
			free(names[n]);
		free(names);
	}
	uint64_t ms = (clock_mono_ns() - from) / 1000000;
	ck_assert_msg(ms >= 2000 && ms < 10000, "%u ms", (unsigned)ms);
	/* Its rules go a moment after its name; a change that comes behind waits for that. */
	gateway_guard_remove(force_h.g, "input/none.rules", false);
	force_passes("foo bar car dar", "foo [B] [C] dar");
	harness_close(&force_h);
	harness_open(&force_h);
	force_passes("foo bar car dar", "foo [B] [C] dar");
}
END_TEST

START_TEST(a_gateway_may_end_while_a_file_is_away_and_has_it_again)
{
	harness_guard(&force_h, "input/a.rules", "redact F /foo/\n");
	gateway_guard_remove(force_h.g, "input/a.rules", true);
	harness_close(&force_h);
	harness_open(&force_h);
	force_passes("foo", "[F]");
}
END_TEST

/* ---- over a restart ---- */

START_TEST(a_fault_set_after_a_restart_leaves_the_text_that_was_good_before_it)
{
	struct err err;
	struct moderation *m;
	harness_guard(&force_h, "input/a.rules", "redact F /foo/\n");
	harness_guard(&force_h, "output/a.rules", "redact F /foo/\n");
	harness_guard(&force_h, "moderation", "model tiny\nthreshold 0.25\n");
	ck_assert_int_eq(force_set("input/a.rules", "bad\n", &err), -EINVAL);
	ck_assert_int_eq(force_set("moderation", "bad\n", &err), -EINVAL);
	for (int i = 0; i < 3; i++) {
		harness_close(&force_h);
		harness_open(&force_h);
		force_passes("foo", "[F]"); /* before anything is set */
		ck_assert_int_eq(force_set("input/a.rules", "bad\n", &err), -EINVAL);
		ck_assert_int_eq(force_set("moderation", "bad\n", &err), -EINVAL);
		force_passes("foo", "[F]");
		ck_assert_int_eq(guards_judge(force_h.g->guards, GUARD_INPUT, &m, &err), 0);
		ck_assert(m->threshold == 0.25);
		moderation_put(m);
		force_names_are("input/a.rules;moderation;output/a.rules;");
		ck_assert(!gateway_guard_is(force_h.g, "output/a.rules", "redact F /foo/\n", 15));
	}
	ck_assert_int_eq(force_set("input/new.rules", "bad\n", &err), -EINVAL);
	harness_close(&force_h);
	harness_open(&force_h);
	force_passes("foo", "[F]"); /* it never had a good text to be kept */
}
END_TEST

/* ---- what is said of it ---- */

START_TEST(status_lists_the_files_and_their_faults)
{
	struct err err;
	force_view_is(GATEWAY_GUARD_STATUS, "");
	harness_guard(&force_h, "input/a.rules", "redact F /foo/\n# no rule\nwarn G /goo/\n");
	harness_guard(&force_h, "output/z.rules", "");
	force_view_is(GATEWAY_GUARD_STATUS, "input/a.rules 2 rules\noutput/z.rules 0 rules\n");
	ck_assert_int_eq(force_set("input/a.rules", "redact F /foo/\nbad F /x/\n", &err), -EINVAL);
	ck_assert_int_eq(force_set("output/b.rules", "bad F /x/\n", &err), -EINVAL);
	harness_guard(&force_h, "moderation", "model tiny\n");
	char *text = harness_whole(&force_h, GATEWAY_GUARD_STATUS);
	const char *a = "input/a.rules 2 rules of an earlier text\ninput/a.rules:2:1: ";
	ck_assert_msg(!strncmp(text, a, strlen(a)), "%s", text);
	ck_assert_msg(strstr(text, "\nmoderation tiny: block at 0.5, ") != NULL, "%s", text);
	ck_assert_msg(
		strstr(text, "\noutput/b.rules closed: nothing passes\noutput/b.rules:1:1: ") !=
			NULL,
		"%s", text);
	free(text);
}
END_TEST

static bool status_has(const char *part)
{
	char *text = harness_whole(&force_h, GATEWAY_STATUS);
	bool has = strstr(text, part);
	free(text);
	return has;
}

START_TEST(the_gateway_is_degraded_while_a_file_has_a_fault)
{
	struct err err;
	force_view_is(GATEWAY_STATUS, "ok\n");
	ck_assert_int_eq(force_set("input/a.rules", "bad F /x/\n", &err), -EINVAL);
	ck_assert(status_has("degraded: guards/input/a.rules:1:1: "));
	harness_guard(&force_h, "input/a.rules", "redact F /x/\n");
	force_view_is(GATEWAY_STATUS, "ok\n");
	ck_assert_int_eq(force_set("input/a.rules", "bad F /x/\n", &err), -EINVAL);
	ck_assert_int_eq(force_set("moderation", "bad\n", &err), -EINVAL);
	ck_assert(status_has("degraded: guards/input/a.rules:1:1: "));
	ck_assert(status_has("degraded: guards/moderation:1:1: "));
	gateway_guard_remove(force_h.g, "moderation", false);
	ck_assert(!status_has("moderation"));
	gateway_guard_remove(force_h.g, "input/a.rules", true);
	ck_assert(status_has("degraded: guards/input/a.rules:1:1: "));
	for (int i = 0; i < 1000 && !status_has("ok\n"); i++)
		usleep(10000);
	force_view_is(GATEWAY_STATUS, "ok\n");
	force_view_is(GATEWAY_GUARD_STATUS, "");
}
END_TEST

/* ---- at once ---- */

enum { WRITERS = 8, PROMPTS = 40 };

static atomic_int n_running, n_said, n_changes;

static void wait_until(const atomic_int *n, int least)
{
	while (atomic_load(n) < least)
		usleep(100);
}

static void *submit_many(void *arg)
{
	struct session *s = arg;
	for (int i = 0; i < PROMPTS; i++) {
		int status;
		if (i == PROMPTS / 2)
			wait_until(&n_changes, 1); /* or all might be over before it */
		ck_assert_int_eq(harness_say(s, "foo and bar"), 0);
		atomic_fetch_add(&n_said, 1);
		free(harness_read(s, &status));
		ck_assert_int_eq(status, 0);
	}
	atomic_fetch_sub(&n_running, 1);
	return NULL;
}

START_TEST(a_prompt_is_judged_by_the_old_rules_or_the_new_ones_never_by_some_of_each)
{
	static const char *const texts[] = {
		"redact one /foo/\nredact two /bar/\n", "redact uno /foo/\nredact dos /bar/\n"};
	pthread_t threads[WRITERS];
	struct session *sessions[WRITERS];
	unsigned n_old = 0, n_new = 0;
	char id[8];
	harness_guard(&force_h, "input/a.rules", texts[0]);
	atomic_store(&n_running, WRITERS);
	for (int i = 0; i < WRITERS; i++) {
		snprintf(id, sizeof id, "s%d", i);
		sessions[i] = harness_session(&force_h, id, "1");
		ck_assert_int_eq(pthread_create(&threads[i], NULL, submit_many, sessions[i]), 0);
	}
	wait_until(&n_said, 1); /* by the old ones */
	harness_guard(&force_h, "input/a.rules", texts[1]);
	atomic_store(&n_changes, 1);
	wait_until(&n_said, atomic_load(&n_said) + WRITERS + 1); /* one of them was begun since */
	for (unsigned i = 2; atomic_load(&n_running); i++) {
		harness_guard(&force_h, "input/a.rules", texts[i % 2]);
		usleep(1000);
	}
	for (int i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
		char *text = harness_view(sessions[i], SESSION_MESSAGES);
		json_t *messages = json_loads(text, 0, NULL), *m;
		size_t at;
		unsigned n = 0;
		json_array_foreach(messages, at, m)
		{
			const char *said = json_string_value(json_object_get(m, "content"));
			if (strcmp(json_string_value(json_object_get(m, "role")), "user") != 0)
				continue;
			bool is_old = !strcmp(said, "[one] and [two]");
			ck_assert_msg(is_old || !strcmp(said, "[uno] and [dos]"), "%s", said);
			n_old += is_old;
			n_new += !is_old;
			n++;
		}
		ck_assert_uint_eq(n, PROMPTS);
		json_decref(messages);
		free(text);
		session_put(sessions[i]);
	}
	ck_assert(n_old && n_new);
}
END_TEST

static void *set_many(void *arg)
{
	const char *file = arg;
	struct err err;
	for (int i = 0; i < 200; i++) {
		switch (i % 4) {
		case 0:
			ck_assert_int_eq(force_set(file, "redact F /foo/\n", &err), 0);
			break;
		case 1:
			ck_assert_int_eq(force_set(file, "bad", &err), -EINVAL);
			break;
		case 2:
			gateway_guard_remove(force_h.g, file, i % 8 == 2);
			break;
		case 3:
			ck_assert_int_eq(
				force_set(file, i == 199 ? "redact F /foo/\n" : "", &err), 0);
			break;
		}
	}
	return NULL;
}

START_TEST(files_that_are_set_and_removed_at_once_end_as_they_were_set_last)
{
	static const char *const files[] = {"input/a.rules", "output/a.rules"};
	pthread_t threads[2];
	for (size_t i = 0; i < 2; i++)
		ck_assert_int_eq(
			pthread_create(&threads[i], NULL, set_many, (void *)(uintptr_t)files[i]),
			0);
	for (size_t i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	force_passes("foo", "[F]");
	force_view_is(GATEWAY_STATUS, "ok\n");
	force_view_is(GATEWAY_GUARD_STATUS, "input/a.rules 1 rule\noutput/a.rules 1 rule\n");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("guards_gone");
	TCase *t = tcase_create("guards_gone");
	tcase_add_checked_fixture(t, force_open, force_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_removed_file_is_out_of_force_at_once);
	tcase_add_test(t, a_file_renamed_away_stays_in_force_for_two_seconds_unless_it_is_back);
	tcase_add_test(t, a_gateway_may_end_while_a_file_is_away_and_has_it_again);
	tcase_add_test(t, a_fault_set_after_a_restart_leaves_the_text_that_was_good_before_it);
	tcase_add_test(t, status_lists_the_files_and_their_faults);
	tcase_add_test(t, the_gateway_is_degraded_while_a_file_has_a_fault);
	tcase_add_test(
		t, a_prompt_is_judged_by_the_old_rules_or_the_new_ones_never_by_some_of_each);
	tcase_add_test(t, files_that_are_set_and_removed_at_once_end_as_they_were_set_last);
	suite_add_tcase(s, t);
	return run_suite(s);
}
