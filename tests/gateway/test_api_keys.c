/* SPDX-License-Identifier: Apache-2.0 */
/* API keys: who is let in, as whom, and until when. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "gateway/api_secret.h"
#include "tests/gateway/key_fixture.h"
#include "tests/run_suite.h"

START_TEST(who_shows_a_secret_asks_as_its_user)
{
	char first[API_KEY_SECRET], second[API_KEY_SECRET];
	struct api_key *a = key_fixture_make("a"), *b = key_fixture_make("b");
	key_fixture_set(b, "user", "bob");
	key_fixture_new_secret(a, first);
	key_fixture_new_secret(b, second);
	key_fixture_let_in(first, KEY_FIXTURE_ALICE);
	key_fixture_let_in(second, KEY_FIXTURE_BOB);
	key_fixture_set(b, "user", "4321");
	key_fixture_let_in(second, 4321);
	for (size_t i = 0; i < API_SECRET_LEN; i++) {
		char other[API_KEY_SECRET];
		memcpy(other, first, sizeof other);
		other[i] = other[i] == 'A' ? 'B' : 'A';
		key_fixture_kept_out(other, key_fixture_unknown);
		snprintf(other, sizeof other, "%.*s", (int)i, first);
		key_fixture_kept_out(other, key_fixture_unknown);
	}
	key_fixture_kept_out("", key_fixture_unknown);
	char *lot = calloc(1, 100001);
	memset(lot, 'a', 100000);
	key_fixture_kept_out(lot, key_fixture_unknown);
	free(lot);
	api_key_put(a);
	api_key_put(b);
}
END_TEST

START_TEST(a_key_lets_nobody_in_without_secret_or_user)
{
	char secret[API_KEY_SECRET];
	ck_assert_int_eq(gateway_api_key_create(key_fixture_h.g, "k", &key_fixture_err), 0);
	struct api_key *k = gateway_api_key_find(key_fixture_h.g, "k");
	key_fixture_state_is(k, "no user\n");
	key_fixture_new_secret(k, secret);
	key_fixture_kept_out(secret, "no user");
	key_fixture_set(k, "user", "alice");
	key_fixture_state_is(k, "ready\n");
	key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	key_fixture_set(k, "user", "");
	key_fixture_kept_out(secret, "no user");
	key_fixture_set(k, "user", "alice");
	ck_assert_int_eq(key_fixture_verb(k, "revoke", NULL), 0);
	key_fixture_state_is(k, "no secret\n");
	key_fixture_kept_out(secret, key_fixture_unknown);
	api_key_put(k);
}
END_TEST

START_TEST(a_new_secret_ends_the_one_before_and_revoke_ends_it)
{
	char first[API_KEY_SECRET], second[API_KEY_SECRET] = "";
	struct api_key *k = key_fixture_make("k");
	key_fixture_new_secret(k, first);
	key_fixture_new_secret(k, second);
	key_fixture_kept_out(first, key_fixture_unknown);
	key_fixture_let_in(second, KEY_FIXTURE_ALICE);
	char kept[API_KEY_SECRET];
	memcpy(kept, second, sizeof kept);
	ck_assert_int_eq(key_fixture_verb(k, "revoke", second), 0);
	ck_assert_str_eq(second, "");
	key_fixture_kept_out(kept, key_fixture_unknown);
	ck_assert(!key_fixture_stored("k"));
	ck_assert_int_eq(key_fixture_verb(k, "revoke", NULL), 0);
	api_key_put(k);
}
END_TEST

START_TEST(new_makes_no_secret_that_nobody_could_read)
{
	char secret[API_KEY_SECRET];
	struct api_key *k = key_fixture_make("k");
	ck_assert_int_eq(key_fixture_verb(k, "new", NULL), -EINVAL);
	ck_assert_ptr_nonnull(strstr(key_fixture_err.text, "3<>ctl"));
	key_fixture_state_is(k, "no secret\n");
	key_fixture_new_secret(k, secret);
	ck_assert_int_eq(key_fixture_verb(k, "new", NULL), -EINVAL);
	key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	ck_assert_int_eq(key_fixture_verb(k, "make", NULL), -EINVAL);
	ck_assert_ptr_nonnull(strstr(key_fixture_err.text, "new and revoke"));
	ck_assert_int_eq(key_fixture_verb(k, "new x", secret), -EINVAL);
	ck_assert(api_key_ctl_is_hopeless("new", 3, false));
	ck_assert(api_key_ctl_is_hopeless("new \r", 5, false));
	ck_assert(!api_key_ctl_is_hopeless("new", 3, true));
	ck_assert(!api_key_ctl_is_hopeless("ne", 2, false));
	ck_assert(!api_key_ctl_is_hopeless("revoke", 6, false));
	ck_assert(api_key_ctl_is_hopeless("x", 1, true));
	api_key_put(k);
}
END_TEST

START_TEST(a_secret_that_nobody_read_is_revoked_but_no_other)
{
	char first[API_KEY_SECRET], second[API_KEY_SECRET];
	struct api_key *k = key_fixture_make("k");
	key_fixture_new_secret(k, first);
	key_fixture_new_secret(k, second);
	ck_assert_int_eq(api_key_unread(k, first, &key_fixture_err), 1);
	key_fixture_let_in(second, KEY_FIXTURE_ALICE);
	ck_assert_int_eq(api_key_unread(k, second, &key_fixture_err), 0);
	key_fixture_kept_out(second, key_fixture_unknown);
	ck_assert(!key_fixture_stored("k"));
	ck_assert_int_eq(api_key_unread(k, second, &key_fixture_err), 1);
	api_key_put(k);
}
END_TEST

START_TEST(a_key_of_the_same_name_later_is_another)
{
	char secret[API_KEY_SECRET], newer[API_KEY_SECRET];
	struct api_key *old = key_fixture_make("k");
	key_fixture_new_secret(old, secret);
	key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	key_fixture_end("k");
	key_fixture_kept_out(secret, key_fixture_unknown);
	ck_assert(!key_fixture_stored("k"));
	ck_assert_int_eq(gateway_api_key_remove(key_fixture_h.g, "k", &key_fixture_err), -ENOENT);
	struct api_key *k = key_fixture_make("k");
	ck_assert_ptr_ne(k, old);
	key_fixture_kept_out(secret, key_fixture_unknown);
	key_fixture_view_is(k, API_KEY_LAST_USED, "");
	key_fixture_new_secret(k, newer);
	/* Who has the old one still can do nothing to the new one. */
	ck_assert_int_eq(key_fixture_verb(old, "new", secret), -ENOENT);
	ck_assert_int_eq(key_fixture_verb(old, "revoke", NULL), -ENOENT);
	ck_assert_int_eq(api_key_unread(old, newer, &key_fixture_err), -ENOENT);
	key_fixture_let_in(newer, KEY_FIXTURE_ALICE);
	api_key_put(old);
	api_key_put(k);
	key_fixture_again();
	api_key_put(key_fixture_make("k"));
	key_fixture_kept_out(secret, key_fixture_unknown);
	key_fixture_let_in(newer, KEY_FIXTURE_ALICE);
	key_fixture_end("k");
	key_fixture_again();
	ck_assert(!gateway_api_key_has_left(key_fixture_h.g, "k"));
}
END_TEST

START_TEST(a_removed_key_lets_nobody_in_and_its_secret_is_that_of_the_next_until_it_is_forgotten)
{
	char secret[API_KEY_SECRET], own[API_KEY_SECRET];
	struct api_key *k = key_fixture_make("k"), *old = k;
	key_fixture_set(k, "scopes", "chat");
	key_fixture_new_secret(k, secret);
	key_fixture_clock_is(0);
	key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	ck_assert(!gateway_api_key_has_left(key_fixture_h.g, "k"));
	ck_assert_int_eq(gateway_api_key_remove(key_fixture_h.g, "k", &key_fixture_err), 0);
	key_fixture_kept_out(secret, key_fixture_unknown);
	ck_assert_ptr_null(gateway_api_key_find(key_fixture_h.g, "k"));
	ck_assert_int_eq(gateway_api_key_remove(key_fixture_h.g, "k", &key_fixture_err), -ENOENT);
	ck_assert(gateway_api_key_has_left(key_fixture_h.g, "k"));
	ck_assert(key_fixture_stored("k"));
	/* A request that it has let in is bound by what it granted. */
	ck_assert_int_eq(api_key_allows(old, API_MODELS, NULL, &key_fixture_err), -EPERM);
	ck_assert_int_eq(key_fixture_verb(old, "new", own), -ENOENT);
	/* It has the secret and no more of it. */
	ck_assert_int_eq(gateway_api_key_create(key_fixture_h.g, "k", &key_fixture_err), 0);
	k = gateway_api_key_find(key_fixture_h.g, "k");
	ck_assert_ptr_ne(k, old);
	key_fixture_kept_out(secret, "no user");
	key_fixture_set(k, "user", "bob");
	key_fixture_let_in(secret, KEY_FIXTURE_BOB);
	ck_assert_int_eq(api_key_allows(k, API_MODELS, NULL, &key_fixture_err), 0);
	key_fixture_view_is(k, API_KEY_LAST_USED, "2030-06-15T12:00:00Z\n");
	ck_assert_int_eq(gateway_api_key_forget(key_fixture_h.g, "k", &key_fixture_err), 0);
	key_fixture_let_in(secret, KEY_FIXTURE_BOB); /* that is for one that was removed */
	key_fixture_end("k");
	ck_assert(!key_fixture_stored("k"));
	api_key_put(key_fixture_make("k"));
	key_fixture_kept_out(secret, key_fixture_unknown);
	api_key_put(old);
	api_key_put(k);
}
END_TEST

START_TEST(a_value_that_is_refused_changes_nothing)
{
	char secret[API_KEY_SECRET];
	struct buf text = {0};
	struct api_key *k = key_fixture_make("k");
	key_fixture_new_secret(k, secret);
	key_fixture_set(k, "scopes", "chat model:a");
	ck_assert_int_eq(api_key_setting_check("scopes", "chats", 5, &key_fixture_err), -EINVAL);
	ck_assert_int_eq(api_key_setting_set(k, "scopes", "chats", 5, &key_fixture_err), -EINVAL);
	ck_assert_int_eq(api_key_setting_get(k, "scopes", &text), 0);
	ck_assert_str_eq(text.data, "chat model:a");
	ck_assert_int_eq(api_key_allows(k, API_CHAT, "a", &key_fixture_err), 0);
	ck_assert_int_eq(api_key_allows(k, API_CHAT, "b", &key_fixture_err), -EPERM);
	ck_assert_int_eq(api_key_setting_set(k, "user", "carol", 5, &key_fixture_err), -EINVAL);
	key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	ck_assert_int_eq(api_key_setting_set(k, "secret", "x", 1, &key_fixture_err), -ENOENT);
	ck_assert(api_key_setting_is_hopeless("scopes", "x", 1));
	buf_free(&text);
	api_key_put(k);
}
END_TEST

START_TEST(a_setting_whose_file_holds_no_value_closes_the_key_until_it_is_set)
{
	char secret[API_KEY_SECRET];
	struct api_key *k = key_fixture_make("k");
	key_fixture_new_secret(k, secret);
	for (const char *const *file = api_key_setting_names(); *file; file++) {
		char state[64];
		snprintf(state, sizeof state, "broken: %s\n", *file);
		api_key_setting_fail(k, *file);
		key_fixture_state_is(k, state);
		key_fixture_kept_out(secret, *file);
		key_fixture_set(k, *file, !strcmp(*file, "user") ? "alice" : "");
		key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	}
	api_key_put(k);
}
END_TEST

START_TEST(a_key_is_over_at_the_end_of_its_day_or_at_its_instant)
{
	char secret[API_KEY_SECRET];
	struct api_key *k = key_fixture_make("k");
	key_fixture_new_secret(k, secret);
	key_fixture_set(k, "expires", "2030-06-15");
	key_fixture_clock_is(0);
	key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	key_fixture_clock_is(12 * 3600 - 60);
	key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	key_fixture_clock_is(12 * 3600);
	key_fixture_kept_out(secret, "expired");
	key_fixture_state_is(k, "expired\n");
	key_fixture_set(k, "expires", "2030-06-16T00:01:00Z");
	key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	key_fixture_clock_is(12 * 3600 + 60);
	key_fixture_kept_out(secret, "expired");
	key_fixture_set(k, "expires", "");
	key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	api_key_put(k);
}
END_TEST

START_TEST(names_are_those_of_sessions)
{
	static const char *const bad[] = {"", ".", "..", "a/b", "a b", "~"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_int_eq(
			gateway_api_key_create(key_fixture_h.g, bad[i], &key_fixture_err), -EINVAL);
	char long_name[80];
	memset(long_name, 'a', 65);
	long_name[65] = '\0';
	ck_assert_int_eq(gateway_api_key_create(key_fixture_h.g, long_name, &key_fixture_err),
		-ENAMETOOLONG);
	long_name[64] = '\0';
	ck_assert_int_eq(gateway_api_key_create(key_fixture_h.g, long_name, &key_fixture_err), 0);
	ck_assert_int_eq(gateway_api_key_create(key_fixture_h.g, "b", &key_fixture_err), 0);
	ck_assert_int_eq(gateway_api_key_create(key_fixture_h.g, "b", &key_fixture_err), -EEXIST);
	char **names = gateway_api_key_names(key_fixture_h.g);
	ck_assert_str_eq(names[0], long_name);
	ck_assert_str_eq(names[1], "b");
	ck_assert_ptr_null(names[2]);
	for (size_t i = 0; names[i]; i++)
		free(names[i]);
	free(names);
}
END_TEST

START_TEST(each_of_many_keys_is_found_and_there_is_a_ceiling)
{
	enum { WITH = 40, MOST = 10000 };
	static char secrets[WITH][API_KEY_SECRET];
	char name[32], uid[16];
	for (unsigned i = 0; i < MOST; i++) {
		snprintf(name, sizeof name, "k%05u", i);
		ck_assert_int_eq(
			gateway_api_key_create(key_fixture_h.g, name, &key_fixture_err), 0);
		if (i >= WITH)
			continue;
		struct api_key *k = gateway_api_key_find(key_fixture_h.g, name);
		snprintf(uid, sizeof uid, "%u", 2000 + i);
		key_fixture_set(k, "user", uid);
		key_fixture_new_secret(k, secrets[i]);
		api_key_put(k);
	}
	ck_assert_int_eq(
		gateway_api_key_create(key_fixture_h.g, "more", &key_fixture_err), -EDQUOT);
	for (unsigned i = 0; i < WITH; i++)
		key_fixture_let_in(secrets[i], 2000 + i);
	for (unsigned i = 0; i < WITH; i += 2) {
		snprintf(name, sizeof name, "k%05u", i);
		key_fixture_end(name);
	}
	for (unsigned i = 0; i < WITH; i++)
		if (i % 2)
			key_fixture_let_in(secrets[i], 2000 + i);
		else
			key_fixture_kept_out(secrets[i], key_fixture_unknown);
}
END_TEST

static char shared[API_KEY_SECRET];
static atomic_bool over;

static void *show_for_ever(void *arg)
{
	while (!over) {
		struct api_key *k = NULL;
		uid_t uid;
		int r = gateway_api_key_check(
			key_fixture_h.g, shared, API_SECRET_LEN, &k, &uid, NULL);
		if (r == 0 &&
			(uid != KEY_FIXTURE_ALICE || api_key_allows(k, API_CHAT, "x", NULL) < 0))
			return arg;
		api_key_put(k);
	}
	return NULL;
}

START_TEST(keys_are_shown_while_they_change)
{
	pthread_t threads[2];
	char secret[API_KEY_SECRET];
	struct api_key *k = key_fixture_make("k");
	key_fixture_new_secret(k, shared);
	for (size_t i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, show_for_ever, &over);
	for (size_t i = 0; i < 30; i++) {
		key_fixture_new_secret(k, secret);
		key_fixture_set(k, "scopes", i % 2 ? "chat" : "chat models");
		ck_assert_int_eq(gateway_api_key_remove(key_fixture_h.g, "k", &key_fixture_err), 0);
		if (i % 4 == 0)
			gateway_api_key_forget(key_fixture_h.g, "k", NULL);
		api_key_put(k);
		k = key_fixture_make("k");
	}
	over = true;
	for (size_t i = 0; i < 2; i++) {
		void *wrong;
		pthread_join(threads[i], &wrong);
		ck_assert_ptr_null(wrong);
	}
	key_fixture_kept_out(shared, key_fixture_unknown);
	api_key_put(k);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api_keys");
	TCase *t = tcase_create("keys");
	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, key_fixture_setup, key_fixture_teardown);
	tcase_add_test(t, who_shows_a_secret_asks_as_its_user);
	tcase_add_test(t, a_key_lets_nobody_in_without_secret_or_user);
	tcase_add_test(t, a_new_secret_ends_the_one_before_and_revoke_ends_it);
	tcase_add_test(t, new_makes_no_secret_that_nobody_could_read);
	tcase_add_test(t, a_secret_that_nobody_read_is_revoked_but_no_other);
	tcase_add_test(t, a_key_of_the_same_name_later_is_another);
	tcase_add_test(t,
		a_removed_key_lets_nobody_in_and_its_secret_is_that_of_the_next_until_it_is_forgotten);
	tcase_add_test(t, a_value_that_is_refused_changes_nothing);
	tcase_add_test(t, a_setting_whose_file_holds_no_value_closes_the_key_until_it_is_set);
	tcase_add_test(t, a_key_is_over_at_the_end_of_its_day_or_at_its_instant);
	tcase_add_test(t, names_are_those_of_sessions);
	tcase_add_test(t, each_of_many_keys_is_found_and_there_is_a_ceiling);
	tcase_add_test(t, keys_are_shown_while_they_change);
	suite_add_tcase(s, t);
	return run_suite(s);
}
