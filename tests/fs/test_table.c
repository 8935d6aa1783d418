/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/table.h"

#include "fs/collection.h"

#include "gateway/gateway_sessions.h"

#include <string.h>
#include <sys/stat.h>

#include "tests/run_suite.h"

START_TEST(the_root_is_the_first_row_and_fits_the_inode_number)
{
	ck_assert_ptr_eq(table_root(), &table_rows[0]);
	ck_assert(table_root()->kind == TABLE_DIR && table_root()->view == TABLE_ROOT);
	ck_assert_uint_lt(table_n_rows, 255);
}
END_TEST

START_TEST(names_are_unique_within_their_directory)
{
	for (size_t i = 2; i < table_n_rows; i++)
		for (size_t k = i + 1; k < table_n_rows; k++)
			ck_assert_msg(table_rows[i].place != table_rows[k].place ||
					      strcmp(table_rows[i].name, table_rows[k].name) != 0,
				"%s twice", table_rows[i].name);
}
END_TEST

START_TEST(type_bits_and_kind_agree)
{
	for (size_t i = 0; i < table_n_rows; i++) {
		const struct table_row *row = &table_rows[i];
		mode_t mode = row->mode;
		ck_assert_msg(S_ISDIR(mode) == (row->kind == TABLE_DIR), "%s", row->name);
		ck_assert_msg(S_ISLNK(mode) == (row->kind == TABLE_LINK), "%s", row->name);
		if (S_ISREG(mode))
			ck_assert_msg((mode & 0111) == 0, "%s is executable", row->name);
		if (row->kind == TABLE_VIEW || row->kind == TABLE_LOG || row->kind == TABLE_OUT)
			ck_assert_msg((mode & 0222) == 0, "%s is writable", row->name);
		if (row->kind == TABLE_KEY)
			ck_assert_msg((mode & 0444) == 0, "%s is readable", row->name);
		/* Empty to who may write it, so that a copy does not fail. */
		if (row->kind == TABLE_IN || row->kind == TABLE_CTL)
			ck_assert_msg((mode & 0444) >> 1 == (mode & 0222), "%s", row->name);
	}
}
END_TEST

START_TEST(every_session_setting_of_the_gateway_has_a_row)
{
	const char *const *names = session_setting_names();
	for (size_t i = 0; names[i]; i++) {
		const struct table_row *row = table_row_named(TABLE_SESSION, names[i]);
		ck_assert_msg(row != NULL, "%s", names[i]);
		ck_assert_msg(row->kind == TABLE_SETTING, "%s", names[i]);
	}
}
END_TEST

START_TEST(every_setting_of_a_collection_has_a_row)
{
	for (size_t i = 0; collections[i]; i++) {
		const char *const *names = collections[i]->settings();
		for (size_t k = 0; names[k]; k++) {
			const struct table_row *row =
				table_row_named(collections[i]->inside, names[k]);
			ck_assert_msg(row && row->kind == TABLE_SETTING, "%s/%s",
				collections[i]->dir, names[k]);
		}
	}
}
END_TEST

START_TEST(what_is_about_all_users_or_money_is_not_for_others)
{
	static const struct {
		enum table_place place;
		const char *name;
	} secret[] = {{TABLE_GUARDS, "audit"}, {TABLE_ACCOUNT, "ledger"}};
	ck_assert_uint_eq(table_row_named(TABLE_MODEL, "key")->mode & 07777, 0200);
	for (size_t i = 0; i < sizeof secret / sizeof *secret; i++)
		ck_assert_uint_eq(
			table_row_named(secret[i].place, secret[i].name)->mode & 07777, 0400);
	for (size_t i = 0; i < table_n_rows; i++)
		if (table_rows[i].place == TABLE_ACCOUNT)
			ck_assert_uint_eq(table_rows[i].mode & 0022, 0);
}
END_TEST

START_TEST(every_place_but_nowhere_is_inside_one_directory)
{
	for (int place = TABLE_ROOT; place <= TABLE_TRACE; place++)
		ck_assert_ptr_nonnull(table_dir_of((enum table_place)place));
}
END_TEST

START_TEST(a_setting_stands_in_one_collection_or_in_a_session)
{
	for (size_t i = 0; i < table_n_rows; i++) {
		const struct collection *c = collection_inside(table_rows[i].place);
		if (table_rows[i].kind != TABLE_SETTING)
			continue;
		ck_assert_msg((c != NULL) != (table_rows[i].place == TABLE_SESSION), "%s",
			table_rows[i].name);
		bool known = !c;
		const char *const *names = c ? c->settings() : session_setting_names();
		for (size_t k = 0; names[k]; k++)
			known = known || strcmp(names[k], table_rows[i].name) == 0;
		ck_assert_msg(known, "%s has a row and is no setting", table_rows[i].name);
	}
}
END_TEST

START_TEST(single_collections_are_found_by_their_directory_and_hold_no_directories)
{
	ck_assert_ptr_eq(collection_single("router"), &collection_router);
	ck_assert_ptr_eq(collection_single("cache"), &collection_cache);
	ck_assert_ptr_null(collection_single("models"));
	ck_assert_ptr_null(collection_at(TABLE_NOWHERE));
	ck_assert_ptr_null(collection_of(OBJECT_FIXED));
	ck_assert_ptr_eq(collection_inside(TABLE_CACHE), &collection_cache);
	ck_assert_ptr_null(collection_inside(TABLE_VIRTUAL_MODEL));
}
END_TEST

START_TEST(paths_of_settings_are_those_below_tree)
{
	char path[COLLECTION_PATH];
	collection_path(&collection_models, "gpt", "endpoint", path);
	ck_assert_str_eq(path, "models/gpt/endpoint");
	collection_path(&collection_router, "", "policy", path);
	ck_assert_str_eq(path, "router/policy");
}
END_TEST

START_TEST(a_pattern_is_never_found_by_its_name)
{
	ck_assert_ptr_null(table_row_named(TABLE_MODELS, "NAME"));
	ck_assert_ptr_null(table_row_named(TABLE_SESSIONS, "ID"));
	ck_assert_ptr_null(table_row_named(TABLE_NOWHERE, "*"));
	ck_assert_str_eq(table_pattern(TABLE_SESSIONS)->name, "ID");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/table");
	TCase *t = tcase_create("table");
	tcase_add_test(t, the_root_is_the_first_row_and_fits_the_inode_number);
	tcase_add_test(t, names_are_unique_within_their_directory);
	tcase_add_test(t, type_bits_and_kind_agree);
	tcase_add_test(t, every_session_setting_of_the_gateway_has_a_row);
	tcase_add_test(t, every_setting_of_a_collection_has_a_row);
	tcase_add_test(t, what_is_about_all_users_or_money_is_not_for_others);
	tcase_add_test(t, every_place_but_nowhere_is_inside_one_directory);
	tcase_add_test(t, a_setting_stands_in_one_collection_or_in_a_session);
	tcase_add_test(t, single_collections_are_found_by_their_directory_and_hold_no_directories);
	tcase_add_test(t, paths_of_settings_are_those_below_tree);
	tcase_add_test(t, a_pattern_is_never_found_by_its_name);
	suite_add_tcase(s, t);
	return run_suite(s);
}
