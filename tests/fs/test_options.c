/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/options.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

static struct options o;
static struct err err;

static void setup(void)
{
	temporary_make();
	temporary_sh("mkdir tree mnt");
	setenv("XDG_STATE_HOME", temporary, 1);
	ck_assert_int_eq(chdir(temporary), 0);
	memset(&o, 0, sizeof o);
	err.text[0] = '\0';
}

static void teardown(void)
{
	options_free(&o);
	ck_assert_int_eq(chdir("/"), 0);
	temporary_remove();
}

#define PARSE(...)                                                                                 \
	({                                                                                         \
		char *argv[] = {(char[]){"llmfs"}, __VA_ARGS__, NULL};                             \
		options_parse(&o, (int)(sizeof argv / sizeof *argv) - 1, argv, &err);              \
	})
#define WORD(text) ((char[]){text})

static void is_path(const char *path, const char *name)
{
	char want[128];
	snprintf(want, sizeof want, "%s/%s", temporary, name);
	ck_assert_str_eq(path, want);
}

START_TEST(paths_become_absolute)
{
	ck_assert_int_eq(PARSE(WORD("tree"), WORD("mnt"), WORD("-o"), WORD("state=new")), 0);
	is_path(o.tree, "tree");
	is_path(o.mountpoint, "mnt");
	is_path(o.state, "new");
	ck_assert(!o.foreground && !o.debug);
}
END_TEST

START_TEST(words_of_mount_are_dropped_and_others_handed_on)
{
	ck_assert_int_eq(PARSE(WORD("tree"), WORD("mnt"), WORD("-n"), WORD("-o"),
				 WORD("rw,_netdev,noauto,nofail,x-systemd.automount,allow_other,"
				      "max_threads=3,state=s")),
		0);
	ck_assert_uint_eq(o.max_threads, 3);
	char all[256] = "";
	for (int i = 1; i < o.args.argc; i++)
		strcat(strcat(all, o.args.argv[i]), " ");
	ck_assert_str_eq(all, "-o rw,allow_other ");
}
END_TEST

START_TEST(each_tree_has_a_state_directory_of_its_own)
{
	temporary_sh("mkdir -p other/tree");
	if (geteuid() == 0) { /* root's are below /var/lib */
		temporary_sh("chown -R 65534:65534 .");
		ck_assert_int_eq(seteuid(65534), 0);
	}
	ck_assert_int_eq(PARSE(WORD("tree"), WORD("mnt")), 0);
	char *first = strdup(o.state);
	options_free(&o);
	memset(&o, 0, sizeof o);
	ck_assert_int_eq(PARSE(WORD("other/tree"), WORD("mnt")), 0);
	ck_assert_str_ne(first, o.state);
	ck_assert_ptr_nonnull(strstr(first, "/llmfs/tree-"));
	free(first);
	ck_assert_int_eq(seteuid(getuid()), 0);
}
END_TEST

START_TEST(what_is_missing_is_named)
{
	ck_assert_int_lt(PARSE(WORD("nothing"), WORD("mnt")), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "nothing"));
	options_free(&o);
	memset(&o, 0, sizeof o);
	ck_assert_int_lt(PARSE(WORD("tree"), WORD("nowhere")), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "nowhere"));
}
END_TEST

START_TEST(a_tree_alone_is_no_mount_point_for_the_example)
{
	temporary_sh("mkdir -p tree/models mnt/models mnt/sessions");
	ck_assert_int_eq(PARSE(WORD("tree")), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "tree is like a TREE, and no mount point is given"));
	options_free(&o);
	memset(&o, 0, sizeof o);
	/* A mount is told of as one, later; in a build that has no example beside it, of that. */
	err.text[0] = '\0';
	PARSE(WORD("mnt"));
	ck_assert_ptr_null(strstr(err.text, "is like a TREE"));
	options_free(&o);
	memset(&o, 0, sizeof o);
	ck_assert_int_eq(PARSE(WORD("tree"), WORD("mnt"), WORD("-o"), WORD("state=s")), 0);
}
END_TEST

START_TEST(a_mount_point_that_would_hide_what_the_daemon_reads_is_refused)
{
	static const char *const bad[][3] = {{"tree", "tree", "state=s"},
		{"mnt/sub", "mnt", "state=s"}, {"tree", "tree/models", "state=s"},
		{"tree", "mnt", "state=mnt/s"}};
	temporary_sh("mkdir -p mnt/sub tree/models tree/mnt mnt2");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char tree[32], mnt[32], option[32];
		strcpy(tree, bad[i][0]);
		strcpy(mnt, bad[i][1]);
		strcpy(option, bad[i][2]);
		ck_assert_int_eq(PARSE(tree, mnt, WORD("-o"), option), -EINVAL);
		ck_assert_ptr_nonnull(strstr(err.text, "would hide it"));
		options_free(&o);
		memset(&o, 0, sizeof o);
	}
	ck_assert_int_eq(PARSE(WORD("tree"), WORD("tree/mnt"), WORD("-o"), WORD("state=s")), 0);
	options_free(&o);
	memset(&o, 0, sizeof o);
	ck_assert_int_eq(PARSE(WORD("mnt"), WORD("mnt2"), WORD("-o"), WORD("state=mnt/s")), 0);
}
END_TEST

START_TEST(of_a_named_state_directory_only_the_last_name_may_be_missing)
{
	char option[] = "state=missing/there/s", last[] = "state=./mnt/../s/";
	ck_assert_int_lt(PARSE(WORD("tree"), WORD("mnt"), WORD("-o"), option), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "there is no directory missing/there to make it"));
	temporary_sh("test ! -e missing");
	options_free(&o);
	memset(&o, 0, sizeof o);
	ck_assert_int_eq(PARSE(WORD("tree"), WORD("mnt"), WORD("-o"), last), 0);
	char *top = realpath(temporary, NULL);
	ck_assert_str_eq(o.state + strlen(top), "/s");
	ck_assert_int_eq(strncmp(o.state, top, strlen(top)), 0);
	free(top);
}
END_TEST

START_TEST(an_empty_state_directory_is_refused_not_taken_for_the_working_directory)
{
	ck_assert_int_eq(PARSE(WORD("tree"), WORD("mnt"), WORD("-o"), WORD("state=")), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "state="));
}
END_TEST

START_TEST(a_number_that_cannot_be_is_refused_with_what_is_allowed)
{
	static const char *const bad[] = {"max_sessions=0", "max_sessions=-1",
		"max_sessions=1000000000", "max_sessions=", "max_sessions=abc", "max_sessions=1.5",
		"max_sessions=0x10", "max_sessions= 3", "max_sessions=3 ",
		"max_sessions=18446744073709551617", "max_queued=0", "max_queued=1e3",
		"idle_unload=-1", "idle_unload=31536001", "max_threads=0", "max_threads=1001"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char option[64];
		strcpy(option, bad[i]);
		err.text[0] = '\0';
		ck_assert_int_eq(PARSE(WORD("tree"), WORD("mnt"), WORD("-o"), option), -EINVAL);
		ck_assert_msg(strstr(err.text, bad[i]) && strstr(err.text, " from ") &&
				      strstr(err.text, " to "),
			"%s: %s", bad[i], err.text);
		options_free(&o);
		memset(&o, 0, sizeof o);
	}
}
END_TEST

START_TEST(of_two_numbers_that_cannot_be_the_first_is_told)
{
	ck_assert_int_eq(
		PARSE(WORD("tree"), WORD("mnt"), WORD("-o"), WORD("max_sessions=0,max_queued=0")),
		-EINVAL);
	ck_assert_msg(!strncmp(err.text, "max_sessions=0: ", 16), "%s", err.text);
}
END_TEST

START_TEST(numbers_at_their_ends_are_taken)
{
	ck_assert_int_eq(PARSE(WORD("tree"), WORD("mnt"), WORD("-o"),
				 WORD("max_sessions=1,max_queued=1000000,idle_unload=0,max_threads="
				      "1000,state=s")),
		0);
	ck_assert_uint_eq(o.max_sessions, 1);
	ck_assert_uint_eq(o.max_queued, 1000000);
	ck_assert_uint_eq(o.idle_unload_s, 0);
	ck_assert_uint_eq(o.max_threads, 1000);
}
END_TEST

START_TEST(a_third_argument_is_refused)
{
	ck_assert_int_eq(PARSE(WORD("tree"), WORD("mnt"), WORD("more")), -EINVAL);
}
END_TEST

START_TEST(an_option_that_there_is_not_is_named)
{
	static const char *const bad[] = {"--foo", "--check=tree", "-x"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char option[32], sentence[64];
		strcpy(option, bad[i]);
		snprintf(sentence, sizeof sentence, "unknown option %s;", bad[i]);
		ck_assert_int_eq(PARSE(option), -EINVAL);
		ck_assert_ptr_nonnull(strstr(err.text, sentence));
		options_free(&o);
		memset(&o, 0, sizeof o);
		ck_assert_int_eq(PARSE(WORD("tree"), WORD("mnt"), option), -EINVAL);
		ck_assert_ptr_nonnull(strstr(err.text, sentence));
		options_free(&o);
		memset(&o, 0, sizeof o);
	}
}
END_TEST

START_TEST(debugging_stays_in_the_foreground)
{
	ck_assert_int_eq(
		PARSE(WORD("-d"), WORD("tree"), WORD("mnt"), WORD("-o"), WORD("state=s")), 0);
	ck_assert(o.debug && o.foreground);
}
END_TEST

START_TEST(check_takes_a_tree_and_no_mount_point)
{
	ck_assert_int_eq(PARSE(WORD("--check"), WORD("tree")), 0);
	ck_assert(o.check);
	ck_assert_str_eq(o.tree, "tree");
	ck_assert(!o.checks_example);
	options_free(&o);
	memset(&o, 0, sizeof o);
	ck_assert_int_eq(PARSE(WORD("--check"), WORD("tree"), WORD("mnt")), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/options");
	TCase *t = tcase_create("options");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, paths_become_absolute);
	tcase_add_test(t, words_of_mount_are_dropped_and_others_handed_on);
	tcase_add_test(t, each_tree_has_a_state_directory_of_its_own);
	tcase_add_test(t, what_is_missing_is_named);
	tcase_add_test(t, a_tree_alone_is_no_mount_point_for_the_example);
	tcase_add_test(t, a_mount_point_that_would_hide_what_the_daemon_reads_is_refused);
	tcase_add_test(t, an_empty_state_directory_is_refused_not_taken_for_the_working_directory);
	tcase_add_test(t, a_number_that_cannot_be_is_refused_with_what_is_allowed);
	tcase_add_test(t, of_two_numbers_that_cannot_be_the_first_is_told);
	tcase_add_test(t, numbers_at_their_ends_are_taken);
	tcase_add_test(t, a_third_argument_is_refused);
	tcase_add_test(t, an_option_that_there_is_not_is_named);
	tcase_add_test(t, of_a_named_state_directory_only_the_last_name_may_be_missing);
	tcase_add_test(t, debugging_stays_in_the_foreground);
	tcase_add_test(t, check_takes_a_tree_and_no_mount_point);
	suite_add_tcase(s, t);
	return run_suite(s);
}
