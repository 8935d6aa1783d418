/* SPDX-License-Identifier: Apache-2.0 */
/* Which strings a local model is told to stop at, of what the setting `stop` says. The engine is
 * asked by way of a wrapper that looks at what it is asked for. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "tests/gateway/harness.h"
#include "tests/run_suite.h"

/* What was asked for last, each in brackets. */
static char asked[8192];

int __real_engine_submit(
	struct engine *e, const struct engine_request *request, uint64_t *id, struct err *err);
int __wrap_engine_submit(
	struct engine *e, const struct engine_request *request, uint64_t *id, struct err *err);

int __wrap_engine_submit(
	struct engine *e, const struct engine_request *request, uint64_t *id, struct err *err)
{
	char *to = asked;
	for (size_t i = 0; i < request->n_stop; i++)
		to += sprintf(to, "[%s]", request->stop[i]);
	*to = '\0';
	return __real_engine_submit(e, request, id, err);
}

static struct harness h;

static void setup(void)
{
	harness_make(&h, 0);
	harness_open(&h);
}

static void teardown(void)
{
	harness_end(&h);
}

START_TEST(stop_strings_are_lines_or_end_with_a_nul_each)
{
	static const struct {
		const char *value;
		size_t len;
		const char *want;
	} cases[] = {
#define CASE(value, want) {value, sizeof(value) - 1, want}
		CASE("one", "[one]"),
		CASE("one\n\ntwo words\n", "[one][two words]"),
		CASE("\n\0", "[\n]"),
		CASE("one\0\n\n\0\0a\nb\0", "[one][\n\n][a\nb]"),
		CASE("\0", ""),
		CASE("one\0two\nthree", "[one][two\nthree]"),
		CASE("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16",
			"[1][2][3][4][5][6][7][8][9][10][11][12][13][14][15][16]"),
#undef CASE
	};
	struct session *s = harness_session(&h, "ends", "4");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct err err = {0};
		int status;
		ck_assert_msg(
			session_setting_set(s, "stop", cases[i].value, cases[i].len, &err) == 0,
			"%s", err.text);
		ck_assert_int_eq(harness_say(s, "hello\n"), 0);
		free(harness_read(s, &status));
		ck_assert_int_eq(status, 0);
		ck_assert_str_eq(asked, cases[i].want);
		struct buf shown = {0};
		ck_assert_int_eq(session_setting_get(s, "stop", &shown), 0);
		ck_assert_uint_eq(shown.len, cases[i].len);
		ck_assert_mem_eq(shown.data, cases[i].value, shown.len);
		buf_free(&shown);
	}
	session_put(s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("local_stop");
	TCase *c = tcase_create("stop");
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, stop_strings_are_lines_or_end_with_a_nul_each);
	tcase_set_timeout(c, 60);
	suite_add_tcase(s, c);
	return run_suite(s);
}
