/* SPDX-License-Identifier: Apache-2.0 */
/* The files of mnt-example/router say what is in force without them, so that a person who reads
 * them reads the truth, and one who deletes them changes nothing. */
#include "gateway/router.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/run_suite.h"

static size_t read_file(const char *name, char *out, size_t size)
{
	char path[4096];
	snprintf(path, sizeof path, SOURCE "/mnt-example/router/%s", name);
	FILE *f = fopen(path, "r");
	ck_assert_msg(f, "%s is not there", path);
	size_t n = fread(out, 1, size, f);
	ck_assert_uint_lt(n, size);
	fclose(f);
	return n;
}

/* "name value" lines and remarks: whether a name begins a line that is not a remark. */
static bool names_it(const char *text, size_t len, const char *name)
{
	size_t n = strlen(name);
	for (size_t at = 0; at + n < len; at++)
		if ((!at || text[at - 1] == '\n') && !memcmp(text + at, name, n) &&
			text[at + n] == ' ')
			return true;
	return false;
}

START_TEST(each_file_says_the_default_in_full)
{
	struct router *r = router_new();
	struct router_config before, after;
	router_config(r, &before);
	for (const char *const *file = router_setting_names(); *file; file++) {
		static char text[65536];
		struct err err = {0};
		struct buf shown = {0};
		ck_assert_int_eq(router_setting_get(r, *file, &shown), 0);
		size_t len = read_file(*file, text, sizeof text);
		ck_assert_msg(router_setting_set(r, *file, text, len, &err) == 0, "%s", err.text);
		for (char *line = shown.data; line && strchr(line, ' ');) {
			char *end = strchr(line, '\n');
			*strchr(line, ' ') = '\0';
			ck_assert_msg(names_it(text, len, line), "%s: no %s", *file, line);
			line = end ? end + 1 : NULL;
		}
		buf_free(&shown);
	}
	router_config(r, &after);
	ck_assert_mem_eq(&before, &after, sizeof before);
	router_free(r);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("shipped_router");
	TCase *t = tcase_create("shipped_router");
	tcase_add_test(t, each_file_says_the_default_in_full);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
