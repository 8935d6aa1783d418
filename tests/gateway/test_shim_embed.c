/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/shim_embed.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "tests/run_suite.h"

START_TEST(an_array_of_numbers_is_a_vector)
{
	float *x = NULL;
	size_t n = 0;
	ck_assert_int_eq(shim_embed_vector(" [0.5, -1.25e-2 ,\n3]\n", &x, &n), 0);
	ck_assert_uint_eq(n, 3);
	ck_assert(x[0] == 0.5f && x[1] == -0.0125f && x[2] == 3.0f);
	free(x);
}
END_TEST

START_TEST(what_is_no_array_of_numbers_is_refused)
{
	static const char *const none[] = {"", "[]", "[", "[1", "[1,", "[1,]", "[,1]", "1", "[1]x",
		"[1 2]", "[nan]", "[inf]", "[\"1\"]", "[1e99]", "{}", "[[1]]", "null"};
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		float *x = NULL;
		size_t n = 0;
		ck_assert_msg(shim_embed_vector(none[i], &x, &n) == -EPROTO, "%s", none[i]);
		ck_assert_ptr_null(x);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("shim_embed");
	TCase *c = tcase_create("all");
	tcase_add_test(c, an_array_of_numbers_is_a_vector);
	tcase_add_test(c, what_is_no_array_of_numbers_is_refused);
	suite_add_tcase(s, c);
	return run_suite(s);
}
