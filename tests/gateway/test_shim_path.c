/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/shim_path.h"

#include <check.h>
#include <string.h>

#include "tests/run_suite.h"

START_TEST(each_url_is_one_path_and_no_other)
{
	static const char *const none[] = {"", "/", "/v1", "/health/", "/healthz", "/v1/models/",
		"/v1/models/a/b", "/v1/chat", "/v1/chat/completions/", "/models", "/V1/models"};
	const char *rest;
	ck_assert_ptr_nonnull(shim_path_find("/health", &rest));
	const struct shim_path *all = shim_path_find("/v1/models", &rest);
	const struct shim_path *one = shim_path_find("/v1/models/tiny", &rest);
	ck_assert(all && one && all != one);
	ck_assert_str_eq(rest, "tiny");
	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		ck_assert_msg(!shim_path_find(none[i], &rest), "%s", none[i]);
}
END_TEST

START_TEST(a_path_takes_what_it_says_it_allows)
{
	static const char *const methods[] = {
		"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "get", ""};
	static const char *const urls[] = {"/ready", "/metrics", "/v1/models", "/v1/models/a",
		"/v1/completions", "/v1/chat/completions", "/v1/embeddings"};
	const char *rest;
	for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
		const struct shim_path *p = shim_path_find(urls[i], &rest);
		ck_assert_ptr_nonnull(p);
		for (size_t k = 0; k < sizeof methods / sizeof *methods; k++)
			ck_assert_int_eq(shim_path_takes(p, methods[k]),
				*methods[k] && strstr(shim_path_allow(p), methods[k]) != NULL);
	}
}
END_TEST

START_TEST(only_what_computes_or_names_models_asks_for_a_key)
{
	const char *rest;
	ck_assert_uint_eq(shim_path_find("/health", &rest)->scope, 0);
	ck_assert_uint_eq(shim_path_find("/ready", &rest)->scope, 0);
	ck_assert_uint_eq(shim_path_find("/metrics", &rest)->scope, 0);
	ck_assert_uint_eq(shim_path_find("/v1/models", &rest)->scope, API_MODELS);
	ck_assert_uint_eq(shim_path_find("/v1/models/x", &rest)->scope, API_MODELS);
	ck_assert_uint_eq(shim_path_find("/v1/chat/completions", &rest)->scope, API_CHAT);
	ck_assert_uint_eq(shim_path_find("/v1/completions", &rest)->scope, API_COMPLETIONS);
	ck_assert_uint_eq(shim_path_find("/v1/embeddings", &rest)->scope, API_EMBEDDINGS);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("shim_path");
	TCase *c = tcase_create("all");
	tcase_add_test(c, each_url_is_one_path_and_no_other);
	tcase_add_test(c, a_path_takes_what_it_says_it_allows);
	tcase_add_test(c, only_what_computes_or_names_models_asks_for_a_key);
	suite_add_tcase(s, c);
	return run_suite(s);
}
