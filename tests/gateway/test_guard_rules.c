/* SPDX-License-Identifier: Apache-2.0 */
/* Rule files: what is taken, and where exactly a fault is. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/guard.h"
#include "tests/run_suite.h"

static struct guard_rules *good(enum guard_stage stage, const char *text)
{
	struct guard_rules *rules;
	struct guard_fault fault;
	int r = guard_rules_parse(&rules, stage, "a.rules", text, strlen(text), &fault);

	ck_assert_msg(r == 0, "%s\n%u:%u: %s", text, fault.line, fault.column, fault.reason);
	return rules;
}

static const struct {
	const char *text;
	unsigned line, column;
	const char *part; /* of the reason */
	enum guard_stage stage;
} faults[] = {
	{"forbid x /a/", 1, 1, "\"forbid\" is no action", GUARD_INPUT},
	{"  block", 1, 8, "name is missing", GUARD_INPUT},
	{"block /a/", 1, 7, "name is missing", GUARD_INPUT},
	{"block a!b /a/", 1, 8, "letters, digits", GUARD_INPUT},
	{"block \xc3\xa9 /a/", 1, 7, "letters, digits", GUARD_INPUT},
	{"block x", 1, 8, "a /PATTERN/ is missing", GUARD_INPUT},
	{"block x abc", 1, 9, "a /PATTERN/ is missing", GUARD_INPUT},
	{"block x abc", 1, 9, "or json, schema or max_chars", GUARD_OUTPUT},
	{"block x /abc", 1, 9, "closing /", GUARD_INPUT},
	{"block x /abc\\/", 1, 9, "closing /", GUARD_INPUT},
	{"# c\n\n \t\nblock x /a/\nwarn  x /b/", 5, 7, "taken by line 4", GUARD_INPUT},
	{"block x /a(b/", 1, 13, "parenthes", GUARD_INPUT},
	{"block x /\\/\\/[b/", 1, 16, "]", GUARD_INPUT},
	{"block x /a\\/*+?b*/", 1, 15, "quantifier", GUARD_INPUT},
	{"block x /ab/iq", 1, 14, "no such flag", GUARD_INPUT},
	{"block x /ab/ii", 1, 14, "flag i is there twice", GUARD_INPUT},
	{"block x /ab/i check=md5", 1, 21, "no such check", GUARD_INPUT},
	{"block x /ab/i luhn", 1, 15, "may follow a pattern", GUARD_INPUT},
	{"block x /ab/ check=luhn more", 1, 25, "nothing may follow", GUARD_INPUT},
	{"block x /a*/", 1, 10, "can match the empty string", GUARD_INPUT},
	{"block x /(?=a)/", 1, 10, "can match the empty string", GUARD_INPUT},
	{"block x /a|b?/", 1, 10, "can match the empty string", GUARD_INPUT},
	{"block x /foo\\Kbar/", 1, 13, "\\K is not supported", GUARD_INPUT},
	{"block x /\\Gfoo/", 1, 10, "\\G is not supported", GUARD_INPUT},
	{"block x /a\\X/", 1, 11, "\\X is not supported", GUARD_INPUT},
	{"block x /a\\Cb/", 1, 13, "\\C", GUARD_INPUT},
	{"block x /(*UTF)a/", 1, 10, "(*...) is not supported", GUARD_INPUT},
	{"block x /a(*COMMIT)b/", 1, 11, "(*...) is not supported", GUARD_INPUT},
	{"block x /(*LIMIT_MATCH=1)a/", 1, 10, "(*...) is not supported", GUARD_INPUT},
	{"block x /a\\c\\(*COMMIT)b/", 1, 11, "\\c\\", GUARD_INPUT},
	{"block x /(?<=a)b(?1)(c)/", 1, 10, "subroutine call", GUARD_INPUT},
	{"block x /a(?C1)b/", 1, 11, "callouts", GUARD_INPUT},
	{"block x json", 1, 9, "for output only", GUARD_INPUT},
	{"block x schema {}", 1, 9, "for output only", GUARD_INPUT},
	{"block x max_chars 5", 1, 9, "for output only", GUARD_INPUT},
	{"warn x json", 1, 8, "can only block", GUARD_OUTPUT},
	{"redact x max_chars 5", 1, 10, "block or warn", GUARD_OUTPUT},
	{"block x json x", 1, 14, "nothing may follow", GUARD_OUTPUT},
	{"block x max_chars", 1, 18, "number from 1", GUARD_OUTPUT},
	{"block x max_chars 0", 1, 19, "number from 1", GUARD_OUTPUT},
	{"block x max_chars 12a", 1, 19, "number from 1", GUARD_OUTPUT},
	{"block x schema {\"type\": \"strin\"}", 1, 17, "name of a type", GUARD_OUTPUT},
	{"block x schema {\"oneOf\": []}", 1, 17, "supported are type properties", GUARD_OUTPUT},
	{"block x schema {\"items\": {\"format\": \"x\"}}", 1, 27, "not supported", GUARD_OUTPUT},
	{"block x schema", 1, 15, "no JSON object", GUARD_OUTPUT},
	{"block x schema {\"minLength\": -1}", 1, 17, "0 or more", GUARD_OUTPUT},
	{"block x schema {\"pattern\": \"(\"}", 1, 17, "is no pattern", GUARD_OUTPUT},
	{"block ok /a/\nblock x /a\xff/", 2, 11, "not UTF-8", GUARD_INPUT},
	{"block x /\belephants?\b/i", 1, 10,
		"character 0x08: did the echo of sh make it out of \\b? Write the line with "
		"printf '%s\\n' '...'",
		GUARD_INPUT},
	{"block ok /a/\nblock x /a\fb/", 2, 11, "out of \\f?", GUARD_INPUT},
	{"block x /a/\r\r\n", 1, 12, "out of \\r?", GUARD_INPUT},
	{"block x /a\x1b/", 1, 11, "out of \\e?", GUARD_OUTPUT},
	{"block x /a\x01/", 1, 11, "0x01: in a pattern, write \\x01", GUARD_INPUT},
	{"block x /a\x7f/", 1, 11, "0x7f: in a pattern, write \\x7f", GUARD_INPUT},
	{"block x schema {\v}", 1, 17, "out of \\v?", GUARD_OUTPUT},
};

START_TEST(a_fault_has_its_line_and_column)
{
	struct guard_rules *rules = NULL;
	struct guard_fault f;
	const char *text = faults[_i].text;
	int r = guard_rules_parse(&rules, faults[_i].stage, "a", text, strlen(text), &f);

	ck_assert_msg(r == -EINVAL, "taken: %s", text);
	ck_assert_ptr_null(rules);
	ck_assert_msg(f.line == faults[_i].line && f.column == faults[_i].column &&
			      strstr(f.reason, faults[_i].part),
		"%s\n%u:%u: %s", text, f.line, f.column, f.reason);
	ck_assert_uint_eq(utf8_valid_prefix(f.reason, strlen(f.reason)), strlen(f.reason));
}
END_TEST

START_TEST(every_form_of_the_contract_is_taken)
{
	struct guard_rules *r = good(GUARD_OUTPUT,
		"# a comment /x(/\n"
		"#\b\x7f\n"
		"\n"
		"   \t \n"
		"block   ignore-instructions   /ignore\\s+(previous|above)\\s+instructions/i\n"
		"redact  e.mail_1   /\\b[\\w.%+-]+@[\\w.-]+\\.[A-Za-z]{2,}\\b/\r\n"
		"\twarn card /\\b(?:\\d[ -]?){12,18}\\d\\b/ismxu   check=luhn  \n"
		"block iban /[A-Z]{2}\\d{2}\\w+/ check=iban\n"
		"block path /a\\/b/\n"
		"block j json\n"
		"block s schema {\"type\": \"object\", \"description\": \"a b\"}  \n"
		"warn  m max_chars 100\n"
		"block last /[*(]\\(\\*/");

	ck_assert_uint_eq(guard_rules_count(r), 9);
	ck_assert_uint_eq(guard_rules_line(r, "ignore-instructions"), 5);
	ck_assert_uint_eq(guard_rules_line(r, "card"), 7);
	ck_assert_uint_eq(guard_rules_line(r, "last"), 13);
	ck_assert_uint_eq(guard_rules_line(r, "las"), 0);
	guard_rules_put(r);
}
END_TEST

START_TEST(an_empty_file_has_no_rules)
{
	struct guard_rules *r = good(GUARD_INPUT, "");
	ck_assert_uint_eq(guard_rules_count(r), 0);
	guard_rules_put(r);
}
END_TEST

START_TEST(names_that_two_files_share_are_told)
{
	struct guard_rules *a = good(GUARD_INPUT, "block a /a/\nblock b /b/\n");
	struct guard_rules *b = good(GUARD_INPUT, "block c /a/\nwarn b /x/\n");
	struct guard_rules *c = good(GUARD_INPUT, "block d /a/\n");

	ck_assert_str_eq(guard_rules_clash(b, a), "b");
	ck_assert_ptr_null(guard_rules_clash(c, a));
	guard_rules_put(a);
	guard_rules_put(b);
	guard_rules_put(c);
}
END_TEST

START_TEST(a_name_of_64_bytes_is_taken_and_of_65_not)
{
	char text[128];
	struct guard_rules *r;
	struct guard_fault f;

	memset(text, 0, sizeof(text));
	memcpy(text, "warn ", 5);
	memset(text + 5, 'n', 64);
	memcpy(text + 69, " /a/", 4);
	guard_rules_put(good(GUARD_INPUT, text));
	memcpy(text + 69, "n /a/", 5);
	ck_assert_int_eq(guard_rules_parse(&r, GUARD_INPUT, "a", text, strlen(text), &f), -EINVAL);
	ck_assert_uint_eq(f.column, 70);
}
END_TEST

START_TEST(a_nul_byte_is_a_fault)
{
	struct guard_rules *r;
	struct guard_fault f;

	ck_assert_int_eq(guard_rules_parse(&r, GUARD_INPUT, "a", "block x /a\0/", 12, &f), -EINVAL);
	ck_assert_uint_eq(f.column, 11);
}
END_TEST

START_TEST(a_set_keeps_the_rules_of_its_files)
{
	struct guard_rules *files[2] = {good(GUARD_INPUT, "block a /aa/\nwarn b /b/\n"),
		good(GUARD_INPUT, "block c /c/\n")};
	struct guard_set *set = guard_set_new(files, 2);
	struct guard_set *empty = guard_set_new(NULL, 0);
	struct buf out = {0};
	size_t n;

	guard_rules_put(files[0]);
	guard_rules_put(files[1]);
	struct guard_stream *s = guard_stream_new(set);
	ck_assert_int_eq(guard_stream_feed(s, "x b cc", 6, &out), 1);
	const struct guard_finding *both = guard_stream_findings(s, &n);
	ck_assert_uint_eq(n, 2);
	ck_assert_str_eq(both[0].rule, "b");
	ck_assert_str_eq(both[1].rule, "c");
	guard_stream_free(s);
	s = guard_stream_new(set);
	guard_set_put(set);
	ck_assert_int_eq(guard_stream_feed(s, "x aab", 5, &out), 1);
	const struct guard_finding *f = guard_stream_findings(s, &n);
	ck_assert_str_eq(f[n - 1].rule, "a");
	ck_assert_str_eq(f[n - 1].file, "a.rules");
	guard_stream_free(s);
	s = guard_stream_new(empty);
	buf_clear(&out);
	ck_assert_int_eq(guard_stream_feed(s, "x aab", 5, &out), 0);
	ck_assert_uint_eq(out.len, 5);
	ck_assert_int_eq(guard_stream_end(s, &out), 0);
	guard_stream_free(s);
	guard_set_put(empty);
	buf_free(&out);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("guard_rules");
	TCase *c = tcase_create("rules");

	tcase_add_loop_test(
		c, a_fault_has_its_line_and_column, 0, sizeof(faults) / sizeof(faults[0]));
	tcase_add_test(c, every_form_of_the_contract_is_taken);
	tcase_add_test(c, an_empty_file_has_no_rules);
	tcase_add_test(c, names_that_two_files_share_are_told);
	tcase_add_test(c, a_name_of_64_bytes_is_taken_and_of_65_not);
	tcase_add_test(c, a_nul_byte_is_a_fault);
	tcase_add_test(c, a_set_keeps_the_rules_of_its_files);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
