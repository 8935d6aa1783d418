/* SPDX-License-Identifier: Apache-2.0 */
/* What an API key grants, as its files say it, with a user database of the test's own. */
#include "gateway/api_grant.h"

#include <errno.h>
#include <pwd.h>

#include "tests/run_suite.h"

static struct api_grant g;
static struct err err;
static int database_fault;

int getpwnam_r(
	const char *name, struct passwd *row, char *strings, size_t size, struct passwd **found)
{
	*found = NULL;
	/* That of a user with very much to say about himself. */
	if (!strcmp(name, "alice") && size < 20000)
		return ERANGE;
	if (database_fault || strcmp(name, "alice"))
		return database_fault;
	memset(row, 0, sizeof *row);
	row->pw_uid = 1234;
	*found = row;
	return 0;
}

static void teardown(void)
{
	api_grant_free(&g);
}

static int try(const char *file, const char *value, size_t len)
{
	struct api_grant_value v;
	err = (struct err){{0}};
	int r = api_grant_read(&v, file, value, len, &err);
	if (r == 0)
		api_grant_take(&g, &v);
	else
		ck_assert_ptr_null(v.text);
	api_grant_value_free(&v);
	return r;
}

static void set(const char *file, const char *value)
{
	ck_assert_msg(try(file, value, strlen(value)) == 0, "%s", err.text);
}

static const struct {
	const char *file, *value;
	bool good;
} values[] = {
	{"user", "alice", true},
	{"user", "", true},
	{"user", "0", true},
	{"user", "4294967294", true},
	{"user", "4294967295", false},
	{"user", "99999999999999999999", false},
	{"user", "carol", false},
	{"user", "a b", false},
	{"user", "a:b", false},
	{"user", "../x", false},
	{"scopes", "", true},
	{"scopes", "chat", true},
	{"scopes", " chat  completions embeddings models ", true},
	{"scopes", "model:a", true},
	{"scopes", "chat model:.hidden model:b-2", true},
	{"scopes", "chats", false},
	{"scopes", "model:", false},
	{"scopes", "model:..", false},
	{"scopes", "model:a/b", false},
	{"scopes", "chat,models", false},
	{"scopes", "chat\tmodels", false},
	{"expires", "", true},
	{"expires", "2026-12-31", true},
	{"expires", "2028-02-29", true},
	{"expires", "2026-12-31T18:00:00Z", true},
	{"expires", "2027-02-29", false},
	{"expires", "2026-13-01", false},
	{"expires", "2026-00-10", false},
	{"expires", "2026-12-31T24:00:00Z", false},
	{"expires", "2026-12-31T18:00:60Z", false},
	{"expires", "2026-12-31T18:00:00", false},
	{"expires", "2026-12-31 18:00:00Z", false},
	{"expires", "1960-01-01", false},
	{"expires", "26-12-31", false},
	{"expires", "tomorrow", false},
	{"expires", "2026-12-3", false},
};

START_TEST(a_value_is_taken_or_refused_with_what_is_allowed)
{
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		const char *file = values[i].file, *value = values[i].value;
		int r = try(file, value, strlen(value));
		ck_assert_msg(r == (values[i].good ? 0 : -EINVAL), "%s %s: %d", file, value, r);
		const char *text = g.values[api_grant_find(file, NULL)].text;
		if (r == 0)
			ck_assert_str_eq(text ? text : "", value);
		else
			ck_assert_msg(!strncmp(err.text, file, strlen(file)), "%s", err.text);
	}
	ck_assert_int_eq(try("secret", "x", 1), -ENOENT);
	ck_assert_int_eq(try("scopes", "chat\nchat", 9), -EINVAL);
	ck_assert_int_eq(try("user", "al\0ice", 6), -EINVAL);
	char *lot = calloc(1, 5001);
	memset(lot, ' ', 5000);
	ck_assert_int_eq(try("scopes", lot, 5000), -EINVAL);
	ck_assert_int_eq(try("scopes", lot, 4096), 0);
	free(lot);
}
END_TEST

START_TEST(a_user_is_a_name_of_the_database_or_a_number)
{
	set("user", "alice");
	ck_assert_uint_eq(g.values[API_GRANT_USER].uid, 1234);
	set("user", "4294967294");
	ck_assert_uint_eq(g.values[API_GRANT_USER].uid, 4294967294u);
	database_fault = ETIMEDOUT;
	ck_assert_int_eq(try("user", "bob", 3), -EIO);
	ck_assert_ptr_nonnull(strstr(err.text, "cannot be asked"));
	set("user", "7");
	database_fault = ENOENT; /* as some say "no such user" */
	ck_assert_int_eq(try("user", "bob", 3), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "no user bob"));
	ck_assert_uint_eq(g.values[API_GRANT_USER].uid, 7);
}
END_TEST

START_TEST(no_beginning_of_a_value_is_hopeless)
{
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		for (size_t n = 1; values[i].good && n <= strlen(values[i].value); n++)
			ck_assert_msg(!api_grant_is_hopeless(values[i].file, values[i].value, n),
				"%s: %.*s", values[i].file, (int)n, values[i].value);
	static const char *const hopeless[][2] = {{"user", "a b"}, {"user", "a:"}, {"scopes", "x"},
		{"scopes", "chats"}, {"scopes", "cha models"}, {"scopes", "model:a/"},
		{"expires", "t"}, {"expires", "2026/"}, {"expires", "2026-12-31T18:00:00ZZ"}};
	for (size_t i = 0; i < sizeof hopeless / sizeof *hopeless; i++)
		ck_assert_msg(api_grant_is_hopeless(
				      hopeless[i][0], hopeless[i][1], strlen(hopeless[i][1])),
			"%s: %s", hopeless[i][0], hopeless[i][1]);
	ck_assert(!api_grant_is_hopeless("expires", "2026-12-31\r", 11));
}
END_TEST

static void allows(enum api_scope what, const char *model, int r)
{
	err = (struct err){{0}};
	ck_assert_int_eq(api_grant_allows(&g, what, model, &err), r);
	ck_assert((r == 0) == (*err.text == '\0'));
}

START_TEST(scopes_say_what_a_key_may_do_and_which_models_it_may_name)
{
	allows(API_CHAT, "any", 0);
	allows(API_EMBEDDINGS, NULL, 0);
	set("scopes", "chat models");
	allows(API_CHAT, "any", 0);
	allows(API_MODELS, NULL, 0);
	allows(API_COMPLETIONS, "any", -EPERM);
	ck_assert_ptr_nonnull(strstr(err.text, "chat models"));
	allows(API_EMBEDDINGS, NULL, -EPERM);
	set("scopes", "embeddings model:a model:bb");
	allows(API_EMBEDDINGS, "a", 0);
	allows(API_EMBEDDINGS, "bb", 0);
	allows(API_EMBEDDINGS, NULL, 0);
	allows(API_EMBEDDINGS, "b", -EPERM);
	allows(API_EMBEDDINGS, "bbb", -EPERM);
	allows(API_EMBEDDINGS, "", -EPERM);
	allows(API_CHAT, "a", -EPERM);
	set("scopes", "model:a");
	allows(API_COMPLETIONS, "a", 0);
	allows(API_COMPLETIONS, "embeddings", -EPERM);
	set("scopes", "");
	allows(API_COMPLETIONS, "b", 0);
}
END_TEST

START_TEST(a_key_is_over_at_the_end_of_its_day_or_at_its_instant)
{
	const int64_t noon_s = 1907755200; /* 2030-06-15T12:00:00Z */
	ck_assert(!api_grant_is_over(&g, noon_s));
	set("expires", "2030-06-15");
	ck_assert(!api_grant_is_over(&g, noon_s + 12 * 3600 - 1));
	ck_assert(api_grant_is_over(&g, noon_s + 12 * 3600));
	set("expires", "2030-06-15T12:00:00Z");
	ck_assert(!api_grant_is_over(&g, noon_s - 1));
	ck_assert(api_grant_is_over(&g, noon_s));
	set("expires", "");
	ck_assert(!api_grant_is_over(&g, INT64_MAX));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api_grant");
	TCase *t = tcase_create("grants");
	tcase_add_checked_fixture(t, NULL, teardown);
	tcase_add_test(t, a_value_is_taken_or_refused_with_what_is_allowed);
	tcase_add_test(t, a_user_is_a_name_of_the_database_or_a_number);
	tcase_add_test(t, no_beginning_of_a_value_is_hopeless);
	tcase_add_test(t, scopes_say_what_a_key_may_do_and_which_models_it_may_name);
	tcase_add_test(t, a_key_is_over_at_the_end_of_its_day_or_at_its_instant);
	suite_add_tcase(s, t);
	return run_suite(s);
}
