/* SPDX-License-Identifier: Apache-2.0 */
/* What each setting takes, and what it says to the rest. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/settings.h"
#include "tests/run_suite.h"

struct sample {
	const char *file, *value;
	int result;
};

static const struct sample samples[] = {
	{"temperature", "0", 0},
	{"temperature", "0.7", 0},
	{"temperature", "2", 0},
	{"temperature", "1e-1", 0},
	{"temperature", "2.1", -EINVAL},
	{"temperature", "-0.1", -EINVAL},
	{"temperature", "nan", -EINVAL},
	{"temperature", "inf", -EINVAL},
	{"temperature", "0x1", -EINVAL},
	{"temperature", "", -EINVAL},
	{"temperature", "warm", -EINVAL},
	{"temperature", "1 ", -EINVAL},
	{"temperature", "1e999", -EINVAL},
	{"top_p", "1", 0},
	{"top_p", "0.5", 0},
	{"top_p", "0", -EINVAL},
	{"top_p", "1.5", -EINVAL},
	{"top_k", "0", 0},
	{"top_k", "40", 0},
	{"top_k", "-1", -EINVAL},
	{"top_k", "1.5", -EINVAL},
	{"top_k", "1000001", -EINVAL},
	{"min_p", "0.05", 0},
	{"min_p", "2", -EINVAL},
	{"repetition_penalty", "1.1", 0},
	{"repetition_penalty", "0.1", 0},
	{"repetition_penalty", "0", -EINVAL},
	{"repetition_penalty", "10.5", -EINVAL},
	{"presence_penalty", "-2", 0},
	{"presence_penalty", "2.1", -EINVAL},
	{"frequency_penalty", "2", 0},
	{"frequency_penalty", "-2.1", -EINVAL},
	{"frequency_penalty", "often", -EINVAL},
	{"max_tokens", "1", 0},
	{"max_tokens", "0", -EINVAL},
	{"max_tokens", "1000000", 0},
	{"max_tokens", "99999999999999999999999", -EINVAL},
	{"max_tokens", "ten", -EINVAL},
	{"seed", "", 0},
	{"seed", "18446744073709551615", 0},
	{"seed", "18446744073709551616", -EINVAL},
	{"seed", "-1", -EINVAL},
	{"format", "json", 0},
	{"format", "text", 0},
	{"format", "xml", -EINVAL},
	{"format", "jso", -EINVAL},
	{"ignore_eos", "1", 0},
	{"ignore_eos", "off", 0},
	{"ignore_eos", "2", -EINVAL},
	{"ignore_eos", "yes", -EINVAL},
	{"truncate", "oldest-turns", 0},
	{"truncate", "middle", 0},
	{"truncate", "off", 0},
	{"truncate", "newest", -EINVAL},
	{"model", "default", 0},
	{"model", "a/b", -EINVAL},
	{"model", "..", -EINVAL},
	{"model", "", -EINVAL},
	{"stop", "", 0},
	{"stop", "END\n\n###", 0},
	{"stop", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n17", -EINVAL},
	{"system", "be brief\nbe kind", 0},
	{"system", "\xFF", -EILSEQ},
	{"stop", "\xC3", -EILSEQ},
};

START_TEST(what_is_on_or_off_is_said_in_two_ways)
{
	static const char *const words[] = {"on", "1", "off", "0"};
	struct settings s = {0};
	ck_assert(!settings_is_on(&s, SETTING_IGNORE_EOS));
	for (size_t i = 0; i < 4; i++) {
		ck_assert_int_eq(
			settings_set(&s, SETTING_IGNORE_EOS, words[i], strlen(words[i]), NULL), 0);
		ck_assert_int_eq(settings_is_on(&s, SETTING_IGNORE_EOS), i < 2);
	}
	settings_clear(&s);
}
END_TEST

START_TEST(each_value_is_taken_or_refused)
{
	const struct sample *x = &samples[_i];
	struct settings s = {0};
	struct err err = {0};
	enum setting i = settings_find(x->file);
	ck_assert_int_ne(i, N_SETTINGS);
	int r = settings_set(&s, i, x->value, strlen(x->value), &err);
	ck_assert_msg(r == x->result, "%s = %s: %d", x->file, x->value, r);
	ck_assert_int_eq(settings_is_set(&s, i), r == 0);
	if (r < 0)
		ck_assert_msg(
			!strncmp(err.text, x->file, strlen(x->file)) && strstr(err.text, "must be"),
			"%s", err.text);
	settings_clear(&s);
}
END_TEST

START_TEST(a_refused_value_leaves_the_old_one)
{
	struct settings s = {0};
	size_t len;
	settings_set(&s, SETTING_TEMPERATURE, "0.5", 3, NULL);
	ck_assert_int_eq(settings_set(&s, SETTING_TEMPERATURE, "hot", 3, NULL), -EINVAL);
	ck_assert_str_eq(settings_get(&s, SETTING_TEMPERATURE, &len), "0.5");
	settings_reset(&s, SETTING_TEMPERATURE);
	ck_assert_str_eq(settings_get(&s, SETTING_TEMPERATURE, &len), "0");
}
END_TEST

START_TEST(a_nul_inside_a_number_is_refused)
{
	ck_assert_int_eq(settings_check(SETTING_MAX_TOKENS, "1\0", 2, NULL), -EINVAL);
	ck_assert_int_eq(settings_check(SETTING_FORMAT, "text\0", 5, NULL), -EINVAL);
	ck_assert_int_eq(settings_check(SETTING_MODEL, "a\0b", 3, NULL), -EINVAL);
}
END_TEST

static int check_stop(const char *value, size_t len)
{
	return settings_check(SETTING_STOP, value, len, NULL);
}

START_TEST(stop_strings_may_end_with_a_nul_and_have_newlines)
{
	char text[16 * 257 + 1];
	ck_assert_int_eq(check_stop("\n", 2), 0);
	ck_assert_int_eq(check_stop("a\nb\0\n\n", 7), 0);
	ck_assert_int_eq(check_stop("a\0b", 3), 0);
	memset(text, '\n', sizeof text);
	for (size_t i = 256; i < sizeof text; i += 257)
		text[i] = '\0';
	ck_assert_int_eq(check_stop(text, sizeof text - 1), 0);
	text[sizeof text - 1] = '\0';
	ck_assert_int_eq(check_stop(text, sizeof text), -EINVAL); /* one more */
	text[sizeof text - 1] = 'x';
	ck_assert_int_eq(check_stop(text, sizeof text), -EINVAL);
	text[256] = 'x';
	ck_assert_int_eq(check_stop(text, 2 * 257), -EINVAL); /* longer */
}
END_TEST

START_TEST(a_system_prompt_has_a_ceiling)
{
	size_t n = ((size_t)1 << 20) + 1;
	char *big = malloc(n);
	memset(big, 'a', n);
	ck_assert_int_eq(settings_check(SETTING_SYSTEM, big, n, NULL), -EFBIG);
	ck_assert_int_eq(settings_check(SETTING_SYSTEM, big, n - 1, NULL), 0);
	free(big);
}
END_TEST

START_TEST(names_are_those_of_the_table_in_order)
{
	const char *const *names = settings_names();
	for (int i = 0; i < N_SETTINGS; i++)
		ck_assert_str_eq(names[i], settings_name((enum setting)i));
	ck_assert_ptr_null(names[N_SETTINGS]);
	ck_assert_int_eq(settings_find("no_such"), N_SETTINGS);
}
END_TEST

START_TEST(every_default_is_a_value_that_would_be_taken)
{
	struct settings s = {0};
	for (int i = 0; i < N_SETTINGS; i++) {
		size_t len;
		const char *value = settings_get(&s, (enum setting)i, &len);
		ck_assert_int_eq(settings_check((enum setting)i, value, len, NULL), 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("settings");
	TCase *t = tcase_create("settings");
	tcase_add_test(t, what_is_on_or_off_is_said_in_two_ways);
	tcase_add_loop_test(
		t, each_value_is_taken_or_refused, 0, (int)(sizeof samples / sizeof *samples));
	tcase_add_test(t, a_refused_value_leaves_the_old_one);
	tcase_add_test(t, a_nul_inside_a_number_is_refused);
	tcase_add_test(t, stop_strings_may_end_with_a_nul_and_have_newlines);
	tcase_add_test(t, a_system_prompt_has_a_ceiling);
	tcase_add_test(t, names_are_those_of_the_table_in_order);
	tcase_add_test(t, every_default_is_a_value_that_would_be_taken);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
