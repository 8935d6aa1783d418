/* SPDX-License-Identifier: Apache-2.0 */
/* Answers are found by whole keys, belong to somebody, grow old, and go when they are told to. */
#include <check.h>
#include <errno.h>
#include <jansson.h>
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
	cache_key_mask = UINT64_MAX;
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

static int stat_of(const char *name)
{
	return (int)cache_fixture_stat(&f, name);
}

/* ---- keys ---- */

START_TEST(an_answer_is_found_at_once_with_its_numbers)
{
	struct question q = {.prompt = "why?"};
	store(&q, "because");
	ck_assert_int_eq(hit(&q, "because"), CACHE_L1);
	ck_assert_int_eq(stat_of("hits_l1"), 1);
	ck_assert_int_eq(stat_of("misses"), 1);
	ck_assert_int_eq(stat_of("stored"), 1);
	ck_assert_int_eq(stat_of("entries"), 1);
}
END_TEST

static void assert_no_other_field_hits(void)
{
	static const struct question others[] = {
		{.prompt = "other"},
		{.user = "bob"},
		{.model = "n"},
		{.system = "be short"},
		{.field = "temperature", .value = "0.1"},
		{.field = "max_tokens", .value = "9"},
		{.field = "stop", .value = "x"},
		{.field = "seed", .value = "1"},
		{.field = "format", .value = "json"},
	};
	struct question q = {0};
	store(&q, "mine");
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		ck_assert_int_eq(hit(&others[i], ""), 0);
	cache_disk_settle(f.c->disk);
	cache_fixture_forget_memory(&f);
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		ck_assert_int_eq(hit(&others[i], ""), 0);
	ck_assert_int_eq(hit(&q, "mine"), CACHE_L2);
}

START_TEST(another_user_or_prompt_or_setting_never_hits)
{
	assert_no_other_field_hits();
}
END_TEST

START_TEST(another_key_with_the_same_digest_never_hits)
{
	cache_key_mask = 0;
	assert_no_other_field_hits();
	/* In memory both have their place. */
	struct question q = {0}, p = {.prompt = "second"};
	store(&p, "yours");
	ck_assert_int_eq(hit(&q, "mine"), CACHE_L1);
	ck_assert_int_eq(hit(&p, "yours"), CACHE_L1);
}
END_TEST

START_TEST(fields_that_are_cut_elsewhere_make_another_key)
{
	struct buf a = {0}, b = {0};
	cache_key_field(&a, "x", "ab", 2);
	cache_key_field(&a, "y", "c", 1);
	cache_key_field(&b, "x", "a", 1);
	cache_key_field(&b, "y", "bc", 2);
	ck_assert(a.len != b.len || memcmp(a.data, b.data, a.len));
	buf_clear(&b);
	cache_key_field(&b, "xa", "b", 1);
	cache_key_field(&b, "y", "c", 1);
	ck_assert(a.len != b.len || memcmp(a.data, b.data, a.len));
	buf_free(&a);
	buf_free(&b);
}
END_TEST

START_TEST(scope_global_shares_answers_and_shows_none_of_those_from_before)
{
	struct question ada = {.user = "ada"}, bob = {.user = "bob"};
	store(&ada, "private");
	cache_fixture_set(&f, "scope", "global");
	ck_assert_int_eq(hit(&bob, ""), 0);
	ck_assert_int_eq(hit(&ada, ""), 0);
	store(&bob, "shared");
	ck_assert_int_eq(hit(&ada, "shared"), CACHE_L1);
	cache_fixture_set(&f, "scope", "user");
	ck_assert_int_eq(hit(&ada, "private"), CACHE_L1);
	ck_assert_int_eq(hit(&bob, ""), 0);
}
END_TEST

START_TEST(what_may_not_be_stored_is_neither_stored_nor_served)
{
	struct question sampled = {.unstored = true}, q = {0};
	struct cache_ticket *t;
	store(&q, "drawn");
	struct cache_found found = cache_fixture_ask(&f, &sampled, &t);
	ck_assert_int_eq(found.outcome, CACHE_MISS);
	ck_assert_ptr_null(t);
	cache_fixture_land(&f, t, "drawn again");
	ck_assert_int_eq(hit(&q, "drawn"), CACHE_L1);
	ck_assert_int_eq(stat_of("passed"), 1);
}
END_TEST

START_TEST(a_dropped_request_leaves_nothing)
{
	struct question q = {0};
	struct cache_ticket *t;
	ck_assert_int_eq(cache_fixture_ask(&f, &q, &t).outcome, CACHE_MISS);
	cache_fixture_drop(&f, t);
	ck_assert_int_eq(hit(&q, ""), 0);
	ck_assert_int_eq(stat_of("stored"), 0);
}
END_TEST

START_TEST(an_empty_answer_or_a_key_beyond_the_ceiling_is_not_kept)
{
	struct question q = {0};
	store(&q, "");
	ck_assert_int_eq(hit(&q, ""), 0);
	char *big = malloc(CACHE_KEY_MAX + 1);
	memset(big, 'x', CACHE_KEY_MAX);
	big[CACHE_KEY_MAX] = '\0';
	struct question long_one = {.prompt = big};
	struct cache_ticket *t;
	ck_assert_int_eq(cache_fixture_ask(&f, &long_one, &t).outcome, CACHE_MISS);
	ck_assert_ptr_null(t);
	free(big);
}
END_TEST

/* ---- age and room ---- */

START_TEST(an_answer_older_than_ttl_is_gone_from_every_level)
{
	struct question q = {0};
	store(&q, "old");
	cache_disk_settle(f.c->disk);
	cache_fixture_set(&f, "ttl", "1");
	ck_assert_int_eq(hit(&q, "old"), CACHE_L1);
	usleep(2100000);
	ck_assert_int_eq(hit(&q, ""), 0);
	ck_assert_int_eq(stat_of("expired"), 1);
	ck_assert_int_eq(stat_of("entries"), 0);
	cache_fixture_set(&f, "ttl", "0");
	ck_assert_int_eq(hit(&q, "old"), CACHE_L2); /* it had not been deleted yet */
	cache_fixture_set(&f, "ttl", "1");
	cache_fixture_reopen(&f);
	cache_fixture_set(&f, "ttl", "1");
	ck_assert_int_eq(hit(&q, ""), 0);
}
END_TEST

/* Some 1100 bytes each. */
static const char *numbered(int i, char room[64])
{
	snprintf(room, 64, "question %d", i);
	return room;
}

static char *thousand_bytes(void)
{
	char *text = malloc(1001);
	memset(text, 'a', 1000);
	text[1000] = '\0';
	return text;
}

START_TEST(memory_keeps_to_its_ceiling_and_what_was_used_last)
{
	char room[64], *text = thousand_bytes();
	cache_fixture_set(&f, "max_disk", "0");
	cache_fixture_set(&f, "max_memory", "20000");
	for (int i = 0; i < 100; i++) {
		store(&(struct question){.prompt = numbered(i, room)}, text);
		ck_assert_int_eq(
			hit(&(struct question){.prompt = numbered(0, room)}, text), CACHE_L1);
		ck_assert_int_le(stat_of("bytes"), 20000);
	}
	ck_assert_int_eq(stat_of("entries") + stat_of("evicted"), 100);
	ck_assert_int_gt(stat_of("entries"), 5);
	ck_assert_int_eq(hit(&(struct question){.prompt = numbered(99, room)}, text), CACHE_L1);
	ck_assert_int_eq(hit(&(struct question){.prompt = numbered(50, room)}, text), 0);
	free(text);
}
END_TEST

START_TEST(an_answer_too_large_for_memory_is_kept_on_disk_only)
{
	char *text = thousand_bytes();
	struct question q = {0};
	cache_fixture_set(&f, "max_memory", "4000");
	store(&q, text);
	ck_assert_int_eq(stat_of("entries"), 0);
	ck_assert_int_eq(hit(&q, text), CACHE_L2);
	free(text);
}
END_TEST

/* ---- settings ---- */

START_TEST(a_cache_that_is_off_neither_serves_nor_stores)
{
	struct question q = {0}, p = {.prompt = "other"};
	struct cache_ticket *t;
	store(&q, "kept");
	cache_fixture_set(&f, "enabled", "0");
	ck_assert_int_eq(cache_fixture_ask(&f, &q, &t).outcome, CACHE_MISS);
	ck_assert_ptr_null(t);
	cache_fixture_set(&f, "enabled", "1");
	ck_assert_int_eq(hit(&q, "kept"), CACHE_L1);
	/* Turned off while it is computed. */
	ck_assert_int_eq(cache_fixture_ask(&f, &p, &t).outcome, CACHE_MISS);
	cache_fixture_set(&f, "enabled", "off");
	cache_fixture_land(&f, t, "late");
	cache_fixture_set(&f, "enabled", "on");
	ck_assert_int_eq(hit(&p, ""), 0);
	ck_assert_int_eq(hit(&q, "kept"), CACHE_L1);
}
END_TEST

START_TEST(a_setting_whose_file_holds_no_value_stops_all_until_it_is_set)
{
	struct question q = {0};
	struct cache_ticket *t;
	store(&q, "kept");
	cache_setting_fail(f.c, "scope");
	ck_assert_int_eq(cache_fixture_ask(&f, &q, &t).outcome, CACHE_MISS);
	ck_assert_ptr_null(t);
	cache_fixture_set(&f, "ttl", "5"); /* another one */
	ck_assert_int_eq(hit(&q, ""), 0);
	cache_fixture_set(&f, "scope", "user");
	ck_assert_int_eq(hit(&q, "kept"), CACHE_L1);
}
END_TEST

START_TEST(settings_say_what_is_allowed_and_show_what_is_in_force)
{
	static const struct {
		const char *file, *standard, *good, *bad[4];
	} rows[] = {
		{"enabled", "1", "off", {"2", "yes", "ON"}},
		{"ttl", "86400", "60", {"-1", "1.5", "99999999999", "x"}},
		{"threshold", "0.95", "0.9", {"1.1", "-0.5", "nan", "1e-1"}},
		{"scope", "user", "global", {"all", "User", "global "}},
		{"embedding_model", "", "minilm", {"a/b", "..", "a b"}},
		{"max_memory", "67108864", "0", {"1k", "-1", "1099511627777"}},
		{"max_entries", "100000", "1000000", {"1000001", " 1"}},
		{"max_disk", "1073741824", "5", {"x", "18446744073709551617"}},
	};
	const char *const *names = cache_setting_names();
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct buf out = {0};
		struct err err = {0};
		ck_assert_str_eq(names[i], rows[i].file);
		for (size_t b = 0; b < 4 && rows[i].bad[b]; b++) {
			ck_assert_int_eq(cache_setting_set(f.c, rows[i].file, rows[i].bad[b],
						 strlen(rows[i].bad[b]), &err),
				-EINVAL);
			ck_assert_ptr_nonnull(strstr(err.text, rows[i].file));
		}
		ck_assert_int_eq(cache_setting_get(f.c, rows[i].file, &out), 0);
		ck_assert_str_eq(out.data, rows[i].standard);
		cache_fixture_set(&f, rows[i].file, rows[i].good);
		buf_clear(&out);
		ck_assert_int_eq(cache_setting_get(f.c, rows[i].file, &out), 0);
		ck_assert_str_eq(out.data, rows[i].good);
		cache_fixture_set(&f, rows[i].file, "");
		buf_clear(&out);
		ck_assert_int_eq(cache_setting_get(f.c, rows[i].file, &out), 0);
		buf_append(&out, "", 0);
		ck_assert_str_eq(out.data, rows[i].standard);
		buf_free(&out);
	}
	ck_assert_ptr_null(names[sizeof rows / sizeof *rows]);
	ck_assert_int_eq(cache_setting_check("nope", "1", 1, NULL), -ENOENT);
	struct err err = {0};
	ck_assert_int_eq(cache_setting_check("enabled", "yes", 3, &err), -EINVAL);
	ck_assert_str_eq(err.text, "enabled: must be 1 or on, 0 or off, or nothing (1)");
}
END_TEST

/* ---- views ---- */

START_TEST(lookup_tells_what_would_happen_and_leaves_no_trace)
{
	struct question q = {0}, other = {.prompt = "other"}, bob = {.user = "bob"};
	store(&q, "secret words");
	for (int i = 0; i < 3; i++) {
		const struct question *asked = i == 0 ? &q : i == 1 ? &other : &bob;
		char *text = cache_fixture_lookup(&f, asked, NULL, 0);
		ck_assert_ptr_null(strstr(text, "secret"));
		json_t *j = json_loads(text, 0, NULL);
		ck_assert_ptr_nonnull(j);
		ck_assert_str_eq(
			json_string_value(json_object_get(j, "outcome")), i == 0 ? "hit" : "miss");
		json_t *exact = json_object_get(j, "exact");
		ck_assert_int_eq(json_is_object(exact), i == 0);
		if (i == 0)
			ck_assert_str_eq(json_string_value(json_object_get(exact, "level")), "l1");
		ck_assert_str_eq(
			json_string_value(json_object_get(j, "no_vector")), "it is a test");
		json_decref(j);
		free(text);
	}
	ck_assert_int_eq(stat_of("hits_l1"), 0);
	ck_assert_int_eq(stat_of("misses"), 1);
}
END_TEST

START_TEST(metrics_are_prometheus_text_by_level)
{
	struct question q = {0};
	struct buf out = {0};
	store(&q, "x");
	hit(&q, "x");
	hit(&q, "x");
	cache_saved(f.c, 1500000000);
	ck_assert_int_eq(cache_metrics(f.c, &out), 0);
	ck_assert_ptr_nonnull(strstr(out.data, "llm_cache_hits_total{cache_level=\"l1\"} 2\n"));
	ck_assert_ptr_nonnull(strstr(out.data, "llm_cache_hits_total{cache_level=\"flight\"} 0\n"));
	ck_assert_ptr_nonnull(strstr(out.data, "llm_cache_misses_total 1\n"));
	ck_assert_ptr_nonnull(strstr(out.data, "llm_cache_saved_dollars 1.500000000\n"));
	buf_free(&out);
	ck_assert(cache_fixture_stat(&f, "saved_dollars") == 1.5);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *t = tcase_create("cache");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, an_answer_is_found_at_once_with_its_numbers);
	tcase_add_test(t, another_user_or_prompt_or_setting_never_hits);
	tcase_add_test(t, another_key_with_the_same_digest_never_hits);
	tcase_add_test(t, fields_that_are_cut_elsewhere_make_another_key);
	tcase_add_test(t, scope_global_shares_answers_and_shows_none_of_those_from_before);
	tcase_add_test(t, what_may_not_be_stored_is_neither_stored_nor_served);
	tcase_add_test(t, a_dropped_request_leaves_nothing);
	tcase_add_test(t, an_empty_answer_or_a_key_beyond_the_ceiling_is_not_kept);
	tcase_add_test(t, an_answer_older_than_ttl_is_gone_from_every_level);
	tcase_add_test(t, memory_keeps_to_its_ceiling_and_what_was_used_last);
	tcase_add_test(t, an_answer_too_large_for_memory_is_kept_on_disk_only);
	tcase_add_test(t, a_cache_that_is_off_neither_serves_nor_stores);
	tcase_add_test(t, a_setting_whose_file_holds_no_value_stops_all_until_it_is_set);
	tcase_add_test(t, settings_say_what_is_allowed_and_show_what_is_in_force);
	tcase_add_test(t, lookup_tells_what_would_happen_and_leaves_no_trace);
	tcase_add_test(t, metrics_are_prometheus_text_by_level);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
