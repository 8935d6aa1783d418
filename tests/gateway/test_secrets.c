/* SPDX-License-Identifier: Apache-2.0 */
/* Keys are kept where only the daemon looks, and no sentence has one. */
#include "gateway/secrets.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/run_suite.h"

static char dir[64], keys[80];
static struct secrets *secrets;
static struct err err;

static void open_it(void)
{
	ck_assert_msg(secrets_open(&secrets, keys, &err) == 0, "%s", err.text);
}

static void setup(void)
{
	strcpy(dir, "/tmp/llmfs-secrets-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(keys, sizeof keys, "%s/keys", dir);
	open_it();
}

static void teardown(void)
{
	char command[128];
	ck_assert_ptr_null(secrets_free(secrets));
	ck_assert_ptr_null(secrets_free(NULL));
	snprintf(command, sizeof command, "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static int set(const char *name, const char *value)
{
	return secrets_set(secrets, name, value, strlen(value), &err);
}

/* Its secret is that; NULL: it has none. */
static void assert_is(const char *name, const char *value)
{
	char *got = NULL;
	ck_assert_msg(secrets_get(secrets, name, true, &got, &err) == 0, "%s", err.text);
	if (value)
		ck_assert_str_eq(got, value);
	else
		ck_assert_ptr_null(got);
	ck_assert_ptr_null(secrets_wipe(got));
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

START_TEST(a_key_is_there_after_a_restart_and_gone_when_it_is_emptied)
{
	assert_is("m", NULL);
	ck_assert(!secrets_has(secrets, "m"));
	ck_assert_int_eq(set("m", "sk-first"), 0);
	ck_assert_int_eq(set("m", "sk-second"), 0);
	ck_assert_int_eq(set("other", "sk-other"), 0);
	assert_is("m", "sk-second");
	secrets_free(secrets);
	open_it();
	ck_assert(secrets_has(secrets, "m"));
	assert_is("m", "sk-second");
	ck_assert_int_eq(set("m", ""), 0);
	ck_assert_int_eq(set("m", ""), 0);
	assert_is("m", NULL);
	secrets_free(secrets);
	open_it();
	assert_is("m", NULL);
	assert_is("other", "sk-other");
}
END_TEST

START_TEST(nobody_else_may_look_into_the_directory_or_a_file_of_it)
{
	struct stat st;
	char path[128];
	mode_t old = umask(0);
	ck_assert_int_eq(set("m", "sk-secret"), 0);
	umask(old);
	ck_assert_int_eq(stat(keys, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0700);
	snprintf(path, sizeof path, "%s/m", keys);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
	chmod(keys, 0755);
	secrets_free(secrets);
	open_it();
	ck_assert_int_eq(stat(keys, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0700);
}
END_TEST

START_TEST(what_is_no_key_is_refused_without_being_repeated)
{
	static const char *const bad[] = {"two\nXYZZY", "tab\tXYZZY", "\xc3\xa9XYZZY", " XYZZY",
		"XYZZY ", "env:", "env:1XYZZY", "env:A-XYZZY", "file:", "file:XYZZY", "XYZZY\x7f"};
	char *longer = malloc(4098);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		ck_assert_msg(set("m", bad[i]) == -EINVAL, "%s", bad[i]);
		ck_assert_ptr_null(strstr(err.text, "XYZZY"));
	}
	memset(longer, 'k', 4097);
	ck_assert_int_eq(secrets_set(secrets, "m", longer, 4097, &err), -EINVAL);
	ck_assert_int_eq(secrets_set(secrets, "m", "a\0b", 3, &err), -EINVAL);
	ck_assert(!secrets_has(secrets, "m"));
	longer[4096] = '\0';
	ck_assert_int_eq(set("m", longer), 0);
	assert_is("m", longer);
	free(longer);
}
END_TEST

START_TEST(only_what_can_become_no_key_is_hopeless)
{
	static const char *const good[] = {
		"sk-a b~!", "env:HOME_2", "environment", "file:/a b/c:d", "filed", "x"};
	char line[64];
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		ck_assert_int_eq(secrets_check(good[i], strlen(good[i]), NULL), 0);
		for (size_t n = 0; n <= strlen(good[i]); n++)
			ck_assert_msg(!secrets_is_hopeless(good[i], n), "%.*s", (int)n, good[i]);
		int n = snprintf(line, sizeof line, "%s\r", good[i]);
		ck_assert_msg(!secrets_is_hopeless(line, (size_t)n), "%s", good[i]);
	}
	static const char *const bad[] = {
		" sk", "s\tk", "s\rk", "k\xc3\xa9", "env:a-b", "env:2", "file:a", "\x7f"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(secrets_is_hopeless(bad[i], strlen(bad[i])), "%s", bad[i]);
	char *most = calloc(1, 4098);
	memset(most, 'k', 4097);
	ck_assert(!secrets_is_hopeless(most, 4096));
	ck_assert(secrets_is_hopeless(most, 4097));
	free(most);
}
END_TEST

START_TEST(a_variable_is_looked_up_when_it_is_asked_for)
{
	char *got = NULL;
	ck_assert_int_eq(set("m", "env:LLMFS_TEST_KEY"), 0);
	unsetenv("LLMFS_TEST_KEY");
	ck_assert_int_eq(secrets_get(secrets, "m", true, &got, &err), -ENOENT);
	ck_assert_ptr_null(got);
	ck_assert_ptr_nonnull(strstr(err.text, "LLMFS_TEST_KEY"));
	ck_assert_ptr_nonnull(strstr(err.text, "models/m/key"));
	setenv("LLMFS_TEST_KEY", "sk-from-variable", 1);
	assert_is("m", "sk-from-variable");
	setenv("LLMFS_TEST_KEY", "sk-hidden\nX-Evil: 1", 1);
	ck_assert_int_eq(secrets_get(secrets, "m", true, &got, &err), -EINVAL);
	ck_assert_ptr_null(strstr(err.text, "sk-hidden"));
	unsetenv("LLMFS_TEST_KEY");
}
END_TEST

START_TEST(a_file_is_read_each_time_and_its_first_line_is_the_key)
{
	char path[96], value[128], *got = NULL;
	snprintf(path, sizeof path, "%s/there", dir);
	snprintf(value, sizeof value, "file:%s", path);
	ck_assert_int_eq(set("m", value), 0);
	ck_assert_int_eq(secrets_get(secrets, "m", false, &got, &err), -EAGAIN);
	ck_assert_int_eq(secrets_get(secrets, "m", true, &got, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, path));
	write_file(path, "sk-one\nsecond line\n");
	assert_is("m", "sk-one");
	write_file(path, "sk-two\r\n");
	assert_is("m", "sk-two");
	write_file(path, "\nsk-hidden\n");
	ck_assert_int_eq(secrets_get(secrets, "m", true, &got, &err), -EINVAL);
	ck_assert_ptr_null(strstr(err.text, "sk-hidden"));
	unlink(path);
	ck_assert_int_eq(mkfifo(path, 0600), 0); /* nobody writes: must not wait */
	ck_assert_int_eq(secrets_get(secrets, "m", true, &got, &err), -EINVAL);
	unlink(path);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_lt(secrets_get(secrets, "m", true, &got, &err), 0);
	ck_assert_ptr_null(got);
}
END_TEST

START_TEST(a_file_of_our_own_mount_is_not_read)
{
	char path[96], value[128], *got = NULL;
	struct stat st;
	snprintf(path, sizeof path, "%s/there", dir);
	snprintf(value, sizeof value, "file:%s", path);
	write_file(path, "sk-one\n");
	ck_assert_int_eq(set("m", value), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	secrets_forbid(secrets, st.st_dev);
	ck_assert_int_eq(secrets_get(secrets, "m", true, &got, &err), -EXDEV);
	ck_assert_ptr_null(got);
	ck_assert_ptr_nonnull(strstr(err.text, "inside this mount"));
}
END_TEST

START_TEST(links_and_files_of_others_among_the_keys_are_none)
{
	char path[128], target[96];
	snprintf(target, sizeof target, "%s/target", dir);
	write_file(target, "sk-elsewhere\n");
	snprintf(path, sizeof path, "%s/linked", keys);
	ck_assert_int_eq(symlink(target, path), 0);
	ck_assert_int_eq(set("mine", "sk-mine"), 0);
	ck_assert_int_eq(set("theirs", "sk-theirs"), 0);
	snprintf(path, sizeof path, "%s/theirs", keys);
	bool given_away = chown(path, 12345, 12345) == 0; /* only root can */
	secrets_free(secrets);
	open_it();
	assert_is("mine", "sk-mine");
	assert_is("linked", NULL);
	assert_is("theirs", given_away ? NULL : "sk-theirs");
}
END_TEST

START_TEST(what_a_crash_left_half_written_is_no_key_and_goes_away)
{
	char path[128];
	snprintf(path, sizeof path, "%s/m~", keys);
	write_file(path, "sk-ha");
	secrets_free(secrets);
	open_it();
	ck_assert(!secrets_has(secrets, "m"));
	ck_assert(!secrets_has(secrets, "m~"));
	ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(references_are_told_from_secrets)
{
	ck_assert(secrets_is_reference("env:KEY", 7));
	ck_assert(secrets_is_reference("file:/x", 7));
	ck_assert(!secrets_is_reference("sk-env:KEY", 10));
	ck_assert(!secrets_is_reference("env", 3));
	ck_assert(!secrets_is_reference("", 0));
}
END_TEST

/* How many copies succeed before one fails; < 0: all do. */
static int copies_left = -1;

char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);

char *__wrap_strdup(const char *text)
{
	if (copies_left == 0)
		return NULL;
	copies_left -= copies_left > 0;
	return __real_strdup(text);
}

static size_t count(char **names)
{
	size_t n = 0;
	for (; names && names[n]; n++)
		free(names[n]);
	free(names);
	return n;
}

START_TEST(all_names_are_told_or_none)
{
	ck_assert_int_eq(set("a", "sk-a"), 0);
	ck_assert_int_eq(set("b", "sk-b"), 0);
	ck_assert_int_eq(set("c", "sk-c"), 0);
	for (int succeed = 0; succeed < 3; succeed++) {
		copies_left = succeed;
		ck_assert_ptr_null(secrets_names(secrets));
		ck_assert_int_eq(copies_left, 0);
	}
	copies_left = 3;
	ck_assert_uint_eq(count(secrets_names(secrets)), 3);
	copies_left = -1;
	ck_assert_uint_eq(count(secrets_names(secrets)), 3);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("secrets");
	TCase *t = tcase_create("secrets");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_key_is_there_after_a_restart_and_gone_when_it_is_emptied);
	tcase_add_test(t, nobody_else_may_look_into_the_directory_or_a_file_of_it);
	tcase_add_test(t, what_is_no_key_is_refused_without_being_repeated);
	tcase_add_test(t, only_what_can_become_no_key_is_hopeless);
	tcase_add_test(t, a_variable_is_looked_up_when_it_is_asked_for);
	tcase_add_test(t, a_file_is_read_each_time_and_its_first_line_is_the_key);
	tcase_add_test(t, a_file_of_our_own_mount_is_not_read);
	tcase_add_test(t, links_and_files_of_others_among_the_keys_are_none);
	tcase_add_test(t, what_a_crash_left_half_written_is_no_key_and_goes_away);
	tcase_add_test(t, references_are_told_from_secrets);
	tcase_add_test(t, all_names_are_told_or_none);
	suite_add_tcase(s, t);
	return run_suite(s);
}
