/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets of API keys and their digests. */
#include "gateway/api_secret.h"

#include "tests/run_suite.h"

static struct err err;

START_TEST(a_secret_is_a_mark_and_43_characters_and_no_two_are_alike)
{
	enum { N = 200 };
	static char all[N][API_KEY_SECRET];
	const char *own = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	bool seen[64] = {false};
	for (size_t i = 0; i < N; i++) {
		ck_assert_int_eq(api_secret_make(all[i], &err), 0);
		ck_assert_uint_eq(strlen(all[i]), 9 + 43);
		ck_assert(!strncmp(all[i], "sk-llmfs-", 9));
		ck_assert_uint_eq(strspn(all[i] + 9, own), 43);
		for (const char *c = all[i] + 9; *c; c++)
			seen[strchr(own, *c) - own] = true;
		for (size_t k = 0; k < i; k++)
			ck_assert_str_ne(all[i], all[k]);
	}
	for (size_t i = 0; i < 64; i++)
		ck_assert(seen[i]);
}
END_TEST

START_TEST(a_digest_is_sha_256_and_comes_back_as_it_was_stored)
{
	struct api_digest digest, back;
	char text[API_SECRET_STORED];
	api_secret_digest("abc", 3, &digest);
	api_secret_print(&digest, text);
	ck_assert_str_eq(text, "sha256:ba7816bf8f01cfea414140de5dae2223"
			       "b00361a396177a9cb410ff61f20015ad");
	ck_assert(api_secret_read(text, &back) && api_secret_same(&digest, &back));
	char longer[API_SECRET_STORED + 2];
	snprintf(longer, sizeof longer, "%sx", text);
	ck_assert(!api_secret_read(longer, &back));
	for (size_t i = 0; i < 32; i++) {
		back = digest;
		back.bytes[i] ^= 1;
		ck_assert(!api_secret_same(&digest, &back));
	}
	for (size_t i = 0; text[i]; i++) {
		char damaged[API_SECRET_STORED];
		snprintf(damaged, sizeof damaged, "%.*s%s", (int)i, text, text + i + 1);
		ck_assert(!api_secret_read(damaged, &back));
		memcpy(damaged, text, sizeof damaged);
		damaged[i] = 'x';
		ck_assert(!api_secret_read(damaged, &back));
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api_secret");
	TCase *t = tcase_create("secrets");
	tcase_add_test(t, a_secret_is_a_mark_and_43_characters_and_no_two_are_alike);
	tcase_add_test(t, a_digest_is_sha_256_and_comes_back_as_it_was_stored);
	suite_add_tcase(s, t);
	return run_suite(s);
}
