/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/shim_head.h"

#include <check.h>
#include <string.h>

#include <microhttpd.h>

#include "gateway/gateway_accounts.h"
#include "tests/run_suite.h"

static void assert_secret(const char *value, const char *want)
{
	size_t len = 99;
	const char *secret = shim_head_secret(value, &len);
	ck_assert_msg((secret == NULL) == (want == NULL), "%s", value ? value : "NULL");
	ck_assert_uint_eq(len, want ? strlen(want) : 0);
	if (want)
		ck_assert_int_eq(memcmp(secret, want, len), 0);
}

START_TEST(the_secret_stands_behind_bearer_in_any_case)
{
	assert_secret("Bearer abc", "abc");
	assert_secret("bEARER   abc  ", "abc");
	assert_secret("bearer\tabc", "abc");
	assert_secret("Bearer a b", "a b");
	assert_secret(NULL, NULL);
	assert_secret("", NULL);
	assert_secret("Bearer", NULL);
	assert_secret("Bearer   ", NULL);
	assert_secret("Bearerabc", NULL);
	assert_secret("Basic abc", NULL);
	assert_secret("abc", NULL);
}
END_TEST

static void assert_span(uint64_t ms, const char *want)
{
	char out[32];
	shim_head_span(out, ms);
	ck_assert_str_eq(out, want);
}

START_TEST(spans_are_written_as_openai_writes_them)
{
	assert_span(0, "0ms");
	assert_span(12, "12ms");
	assert_span(999, "999ms");
	assert_span(1000, "1s");
	assert_span(1050, "1.050s");
	assert_span(59999, "59.999s");
	assert_span(60000, "1m0s");
	assert_span(60001, "1m1s");
	assert_span(360000, "6m0s");
	assert_span(3599001, "1h0m0s");
	assert_span(86399000, "23h59m59s");
}
END_TEST

START_TEST(retry_after_is_never_too_early_and_never_0)
{
	ck_assert_uint_eq(shim_head_retry_s(0), 1);
	ck_assert_uint_eq(shim_head_retry_s(1), 1);
	ck_assert_uint_eq(shim_head_retry_s(1000), 1);
	ck_assert_uint_eq(shim_head_retry_s(1001), 2);
}
END_TEST

START_TEST(only_what_has_a_limit_is_told)
{
	struct gateway_rates rates = {{10, 7, 30000}, {UINT64_MAX, UINT64_MAX, 0}};
	struct MHD_Response *r = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
	ck_assert_ptr_nonnull(r);
	shim_head_rates(r, &rates);
	ck_assert_str_eq(MHD_get_response_header(r, "x-ratelimit-limit-requests"), "10");
	ck_assert_str_eq(MHD_get_response_header(r, "x-ratelimit-remaining-requests"), "7");
	ck_assert_str_eq(MHD_get_response_header(r, "x-ratelimit-reset-requests"), "30s");
	ck_assert_ptr_null(MHD_get_response_header(r, "x-ratelimit-limit-tokens"));
	ck_assert_ptr_null(MHD_get_response_header(r, "x-ratelimit-remaining-tokens"));
	MHD_destroy_response(r);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("shim_head");
	TCase *c = tcase_create("all");
	tcase_add_test(c, the_secret_stands_behind_bearer_in_any_case);
	tcase_add_test(c, spans_are_written_as_openai_writes_them);
	tcase_add_test(c, retry_after_is_never_too_early_and_never_0);
	tcase_add_test(c, only_what_has_a_limit_is_told);
	suite_add_tcase(s, c);
	return run_suite(s);
}
