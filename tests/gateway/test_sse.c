/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/sse.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/run_suite.h"

/* What came, as "event|data;" one behind the other. */
static struct buf seen;

static int take(void *arg, const char *event, const char *data, size_t len)
{
	ck_assert_uint_eq(strlen(data), len);
	return buf_printf(&seen, "%s|%s;", event, data);
}

static int feed_in_pieces(const char *text, size_t len, size_t piece)
{
	struct sse s = {0};
	int r = 0;
	buf_clear(&seen);
	ck_assert_int_eq(buf_append(&seen, "", 0), 0);
	for (size_t i = 0; i < len && r == 0; i += piece)
		r = sse_feed(&s, text + i, len - i < piece ? len - i : piece, take, NULL);
	sse_free(&s);
	return r;
}

static void assert_events(const char *text, const char *want)
{
	size_t len = strlen(text);
	for (size_t piece = 1; piece <= len; piece++) {
		ck_assert_int_eq(feed_in_pieces(text, len, piece), 0);
		ck_assert_str_eq(seen.data, want);
	}
}

START_TEST(events_are_the_same_however_the_bytes_are_split)
{
	assert_events("data: a\n\nevent: x\ndata: b\n\ndata: c\n\n", "|a;x|b;|c;");
	assert_events(": hello\n\ndata: \xf0\x9f\x98\x80 \xe4\xbd\xa0\n\n",
		"|\xf0\x9f\x98\x80 \xe4\xbd\xa0;");
}
END_TEST

START_TEST(each_kind_of_line_end_is_one)
{
	assert_events("data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", "|a\nb;|c;");
	assert_events("data: a\rdata: b\r\rdata: c\r\r", "|a\nb;|c;");
	assert_events("data: a\ndata: b\r\n\rdata: c\n\r\n", "|a\nb;|c;");
}
END_TEST

START_TEST(fields_are_read_as_the_standard_says)
{
	assert_events("data:a\n\ndata:  b\n\ndata\n\ndata:\n\n", "|a;| b;|;|;");
	assert_events("data:YHOO\ndata: +2\ndata: 10\n\n", "|YHOO\n+2\n10;");
	assert_events("dat: a\ndataa: b\n data: c\nid: 1\nretry: 5\nwhat\n\n", "");
	assert_events("event: x\n\ndata: a\n\n", "|a;");
	assert_events("event: x\nevent: y\ndata: a:b: c\n\n", "y|a:b: c;");
	assert_events(": data: a\n:\n\n\n\ndata: b\n: in between\ndata: c\n\n", "|b\nc;");
}
END_TEST

START_TEST(a_byte_order_mark_is_passed_over_only_at_the_beginning)
{
	assert_events("\xef\xbb\xbf"
		      "data: a\n\n",
		"|a;");
	assert_events("data: a\n\n\xef\xbb\xbf"
		      "data: b\n\n",
		"|a;");
}
END_TEST

START_TEST(an_event_without_its_empty_line_comes_when_line_ends_are_fed)
{
	assert_events("data: a\n\ndata: b", "|a;");
	assert_events("data: a\n\ndata: b\n\n", "|a;|b;");
	assert_events("data: a\n\ndata: b\n\n\n", "|a;|b;");
}
END_TEST

static int stop_at_b(void *arg, const char *event, const char *data, size_t len)
{
	int *n = arg;
	(*n)++;
	return *data == 'b' ? -ECANCELED : 0;
}

START_TEST(who_takes_events_can_stop)
{
	struct sse s = {0};
	int n = 0;
	const char text[] = "data: a\n\ndata: b\n\ndata: c\n\n";
	ck_assert_int_eq(sse_feed(&s, text, sizeof text - 1, stop_at_b, &n), -ECANCELED);
	ck_assert_int_eq(n, 2);
	sse_free(&s);
}
END_TEST

START_TEST(what_is_too_long_is_refused_for_good)
{
	char *line = malloc(SSE_EVENT_MAX + 16);
	struct sse s = {0};
	ck_assert_ptr_nonnull(line);
	memset(line, 'x', SSE_EVENT_MAX + 16);
	memcpy(line, "data: ", 6);
	buf_clear(&seen);
	ck_assert_int_eq(sse_feed(&s, line, SSE_EVENT_MAX, take, NULL), 0);
	ck_assert_int_eq(sse_feed(&s, line, 1, take, NULL), -EMSGSIZE);
	ck_assert_int_eq(sse_feed(&s, "\n\n", 2, take, NULL), -EMSGSIZE);
	sse_free(&s);
	/* The same in many lines. */
	int r = 0;
	for (int i = 0; i < 1100 && r == 0; i++) {
		line[1024] = '\n';
		r = sse_feed(&s, line, 1025, take, NULL);
	}
	ck_assert_int_eq(r, -EMSGSIZE);
	ck_assert_uint_eq(seen.len, 0);
	sse_free(&s);
	ck_assert_int_eq(sse_feed(&s, "data: a\n\n", 9, take, NULL), 0);
	ck_assert_str_eq(seen.data, "|a;");
	sse_free(&s);
	free(line);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sse");
	TCase *c = tcase_create("all");
	tcase_add_test(c, events_are_the_same_however_the_bytes_are_split);
	tcase_add_test(c, each_kind_of_line_end_is_one);
	tcase_add_test(c, fields_are_read_as_the_standard_says);
	tcase_add_test(c, a_byte_order_mark_is_passed_over_only_at_the_beginning);
	tcase_add_test(c, an_event_without_its_empty_line_comes_when_line_ends_are_fed);
	tcase_add_test(c, who_takes_events_can_stop);
	tcase_add_test(c, what_is_too_long_is_refused_for_good);
	suite_add_tcase(s, c);
	int r = run_suite(s);
	buf_free(&seen);
	return r;
}
