/* SPDX-License-Identifier: Apache-2.0 */
/* Objects, events and errors, as OpenAI's clients read them. */
#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/shim_reply.h"
#include "tests/run_suite.h"

static const struct shim_head chat = {SHIM_CHAT, "chatcmpl-12", "m\"1", 1700000000};
static const struct shim_head completion = {SHIM_COMPLETION, "cmpl-7", "m", 1700000000};
static const struct shim_usage usage = {30, 20, 5};
static struct buf out;

static void forget(void)
{
	buf_free(&out);
}

#define HEAD(object)                                                                               \
	"\"id\":\"chatcmpl-12\",\"object\":\"" object "\",\"created\":1700000000,"                 \
	"\"model\":\"m\\\"1\","
#define CMPL                                                                                       \
	"\"id\":\"cmpl-7\",\"object\":\"text_completion\",\"created\":1700000000,\"model\":\"m\","
#define USAGE                                                                                      \
	"\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":5,\"total_tokens\":35,"             \
	"\"prompt_tokens_details\":{\"cached_tokens\":20}}"

/* What was appended is the same value as `want`. */
static void assert_json(const char *text, size_t len, const char *want)
{
	json_error_t e;
	json_t *a = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
	ck_assert_msg(a != NULL, "%s: %.*s", e.text, (int)len, text);
	json_t *b = json_loads(want, 0, &e);
	ck_assert_msg(b != NULL, "%s: %s", e.text, want);
	ck_assert_msg(json_equal(a, b), "%.*s\nand not\n%s", (int)len, text, want);
	json_decref(a);
	json_decref(b);
}

static void assert_object(const char *want)
{
	assert_json(out.data, out.len, want);
	buf_clear(&out);
}

/* One event, and nothing behind it. */
static void assert_event(const char *want)
{
	ck_assert_uint_gt(out.len, 8);
	ck_assert_mem_eq(out.data, "data: ", 6);
	ck_assert_str_eq(out.data + out.len - 2, "\n\n");
	ck_assert_ptr_eq(strchr(out.data, '\n'), out.data + out.len - 2);
	assert_json(out.data + 6, out.len - 8, want);
	buf_clear(&out);
}

/* ---- not streamed ---- */

START_TEST(a_whole_chat_completion_is_one_object)
{
	static const struct shim_choice one = {0, "a\nb", 3, "stop"};
	ck_assert_int_eq(shim_reply_whole(&out, &chat, &one, 1, &usage), 0);
	assert_object("{" HEAD(
		"chat.completion") "\"choices\":[{\"index\":0,\"message\":{\"role\":"
				   "\"assistant\",\"content\":\"a\\nb\",\"refusal\":null,"
				   "\"annotations\":[]},"
				   "\"logprobs\":null,\"finish_reason\":\"stop\"}]," USAGE "}");
}
END_TEST

START_TEST(choices_are_in_the_order_given)
{
	static const struct shim_choice two[] = {{1, "b", 1, "length"}, {0, "", 0, ""}};
	ck_assert_int_eq(shim_reply_whole(&out, &completion, two, 2, &usage), 0);
	assert_object("{" CMPL "\"choices\":[{\"index\":1,\"text\":\"b\",\"logprobs\":null,"
		      "\"finish_reason\":\"length\"},{\"index\":0,\"text\":\"\",\"logprobs\":null,"
		      "\"finish_reason\":null}]," USAGE "}");
}
END_TEST

/* ---- streamed ---- */

START_TEST(a_chat_stream_has_its_role_first_and_its_reason_last)
{
	ck_assert_int_eq(shim_reply_begin(&out, &chat, 3, false), 0);
	assert_event("{" HEAD("chat.completion.chunk") "\"choices\":[{\"index\":3,\"delta\":{"
						       "\"role\":\"assistant\",\"content\":\"\","
						       "\"refusal\":null},\"logprobs\":null,"
						       "\"finish_reason\":null}]}");
	ck_assert_int_eq(shim_reply_text(&out, &chat, 3, "hi", 2, false), 0);
	assert_event("{" HEAD("chat.completion.chunk") "\"choices\":[{\"index\":3,\"delta\":{"
						       "\"content\":\"hi\"},\"logprobs\":null,"
						       "\"finish_reason\":null}]}");
	ck_assert_int_eq(shim_reply_finish(&out, &chat, 3, "length", false), 0);
	assert_event("{" HEAD(
		"chat.completion.chunk") "\"choices\":[{\"index\":3,\"delta\":{},"
					 "\"logprobs\":null,\"finish_reason\":\"length\"}]}");
	ck_assert_int_eq(shim_reply_finish(&out, &chat, 3, "", false), 0);
	assert_event(
		"{" HEAD("chat.completion.chunk") "\"choices\":[{\"index\":3,\"delta\":{},"
						  "\"logprobs\":null,\"finish_reason\":null}]}");
	ck_assert_int_eq(shim_reply_done(&out), 0);
	ck_assert_str_eq(out.data, "data: [DONE]\n\n");
}
END_TEST

START_TEST(a_stream_of_completions_has_texts)
{
	ck_assert_int_eq(shim_reply_begin(&out, &completion, 0, false), 0);
	ck_assert_uint_eq(out.len, 0);
	ck_assert_int_eq(shim_reply_text(&out, &completion, 4294967295, "hi", 2, false), 0);
	assert_event(
		"{" CMPL "\"choices\":[{\"index\":4294967295,\"text\":\"hi\",\"logprobs\":null,"
		"\"finish_reason\":null}]}");
	ck_assert_int_eq(shim_reply_finish(&out, &completion, 0, "stop", false), 0);
	assert_event("{" CMPL "\"choices\":[{\"index\":0,\"text\":\"\",\"logprobs\":null,"
		     "\"finish_reason\":\"stop\"}]}");
}
END_TEST

START_TEST(a_stream_with_usage_has_null_until_its_last_event)
{
	ck_assert_int_eq(shim_reply_begin(&out, &chat, 0, true), 0);
	assert_event("{" HEAD("chat.completion.chunk") "\"choices\":[{\"index\":0,\"delta\":{"
						       "\"role\":\"assistant\",\"content\":\"\","
						       "\"refusal\":null},\"logprobs\":null,"
						       "\"finish_reason\":null}],\"usage\":null}");
	ck_assert_int_eq(shim_reply_text(&out, &completion, 0, "hi", 2, true), 0);
	assert_event("{" CMPL "\"choices\":[{\"index\":0,\"text\":\"hi\",\"logprobs\":null,"
		     "\"finish_reason\":null}],\"usage\":null}");
	ck_assert_int_eq(shim_reply_finish(&out, &completion, 0, "stop", true), 0);
	assert_event("{" CMPL "\"choices\":[{\"index\":0,\"text\":\"\",\"logprobs\":null,"
		     "\"finish_reason\":\"stop\"}],\"usage\":null}");
	ck_assert_int_eq(shim_reply_usage(&out, &chat, &usage), 0);
	assert_event("{" HEAD("chat.completion.chunk") "\"choices\":[]," USAGE "}");
	ck_assert_int_eq(shim_reply_usage(&out, &completion, &usage), 0);
	assert_event("{" CMPL "\"choices\":[]," USAGE "}");
}
END_TEST

START_TEST(the_largest_numbers_are_written)
{
	static const struct shim_usage large = {UINT64_MAX, 0, 0};
	static const struct shim_head head = {SHIM_CHAT, "i", "m", INT64_MAX};
	ck_assert_int_eq(shim_reply_usage(&out, &head, &large), 0);
	ck_assert_ptr_nonnull(strstr(out.data, "\"created\":9223372036854775807,"));
	ck_assert_ptr_nonnull(strstr(out.data, "\"prompt_tokens\":18446744073709551615,"));
	ck_assert_ptr_nonnull(strstr(out.data, "\"completion_tokens\":0,"));
}
END_TEST

/* ---- texts ---- */

/* The text of an event, as a JSON library reads it. */
static void assert_comes_through(const char *text, size_t len)
{
	buf_clear(&out);
	ck_assert_int_eq(shim_reply_text(&out, &completion, 0, text, len, false), 0);
	json_t *o = json_loadb(out.data + 6, out.len - 8, JSON_ALLOW_NUL, NULL);
	ck_assert_ptr_nonnull(o);
	json_t *t = json_object_get(json_array_get(json_object_get(o, "choices"), 0), "text");
	ck_assert_uint_eq(json_string_length(t), len);
	ck_assert_mem_eq(json_string_value(t), text, len);
	json_decref(o);
}

START_TEST(each_character_comes_through)
{
	char text[5];
	for (uint32_t c = 0; c <= 0x10FFFF; c += c < 0x3000 ? 1 : 0xFF)
		if (c < 0xD800 || c > 0xDFFF) {
			size_t n = utf8_encode(c, text);
			text[n] = 'x'; /* an escape that is too long would take it */
			assert_comes_through(text, n + 1);
		}
}
END_TEST

/* Python's splitlines, which httpx has for them, ends lines at more characters than SSE does. */
START_TEST(no_character_within_an_event_ends_a_line)
{
	static const char text[] = "a\v\f\r\n\x1c\x1d\x1e\xc2\x85 \xe2\x80\xa8 \xe2\x80\xa9"
				   "\xe2\x80\xaa\xc2\x86\xe2\x81\xa8";
	struct buf long_text = {0};
	assert_comes_through(text, sizeof text - 1);
	ck_assert_ptr_nonnull(
		strstr(out.data, "\"a\\u000b\\f\\r\\n\\u001c\\u001d\\u001e\\u0085 \\u2028 \\u2029"
				 "\xe2\x80\xaa\xc2\x86\xe2\x81\xa8\""));
	while (long_text.len < 3 * 4096) /* of which none is cut */
		ck_assert_int_eq(buf_append_str(&long_text, "\xe2\x80\xa8"), 0);
	assert_comes_through(long_text.data, long_text.len);
	ck_assert_ptr_null(strstr(out.data, "\xe2"));
	buf_free(&long_text);
}
END_TEST

START_TEST(long_texts_come_through_whatever_is_in_them)
{
	enum { N = 3 * 4096 + 5 };
	static const char *const pieces[] = {
		"a", "\n", "\x01", "\"", "\xc3\xa9", "ab\xf0\x9f\x98\x80"};
	for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
		struct buf text = {0};
		while (text.len < N)
			ck_assert_int_eq(buf_append_str(&text, pieces[i]), 0);
		assert_comes_through(text.data, text.len);
		buf_free(&text);
	}
}
END_TEST

static int write_one(struct buf *b, int which)
{
	static const float x[] = {1, 2};
	static const struct shim_vector v = {x, 2};
	static const struct shim_choice one = {0, "abc", 3, "stop"};
	static const struct shim_error e = {400, "t", "c", false};
	static const char *const ids[] = {"a", "b"};
	switch (which) {
	case 0:
		return shim_reply_whole(b, &chat, &one, 1, &usage);
	case 1:
		return shim_reply_begin(b, &chat, 0, true);
	case 2:
		return shim_reply_text(b, &chat, 0, "abc", 3, true);
	case 3:
		return shim_reply_finish(b, &chat, 0, "stop", true);
	case 4:
		return shim_reply_usage(b, &chat, &usage);
	case 5:
		return shim_reply_error(b, &e, "sentence", "model");
	case 6:
		return shim_reply_error_event(b, &e, "sentence");
	case 7:
		return shim_reply_models(b, ids, 2, 1);
	case 8:
		return shim_reply_embeddings(b, "m", &v, 1, false, 1);
	case 9:
		return shim_reply_embeddings(b, "m", &v, 1, true, 1);
	case 10:
		return shim_reply_done(b);
	default:
		return shim_reply_model(b, "m", 1);
	}
}

START_TEST(what_does_not_fit_leaves_nothing)
{
	struct buf whole = {0};
	ck_assert_int_eq(write_one(&whole, _i), 0);
	for (size_t max = 3; max < whole.len + 3; max++) {
		struct buf b = {.max = max};
		ck_assert_int_eq(buf_append_str(&b, "old"), 0);
		int r = write_one(&b, _i);
		ck_assert_int_eq(r, -EFBIG);
		ck_assert_str_eq(b.data, "old");
		buf_free(&b);
	}
	buf_free(&whole);
}
END_TEST

/* ---- errors, models ---- */

START_TEST(an_error_is_an_object_and_an_event)
{
	struct shim_error e = {404, "invalid_request_error", "model_not_found", true};
	ck_assert_int_eq(shim_reply_error(&out, &e, "no \"x\"", "model"), 0);
	assert_object("{\"error\":{\"message\":\"no \\\"x\\\"\",\"type\":\"invalid_request_error\","
		      "\"param\":\"model\",\"code\":\"model_not_found\"}}");
	e.code = NULL;
	ck_assert_int_eq(shim_reply_error(&out, &e, "s", ""), 0);
	assert_object("{\"error\":{\"message\":\"s\",\"type\":\"invalid_request_error\",\"param\":"
		      "null,\"code\":null}}");
	ck_assert_int_eq(shim_reply_error_event(&out, &e, "s"), 0);
	assert_event("{\"error\":{\"message\":\"s\",\"type\":\"invalid_request_error\",\"param\":"
		     "null,\"code\":null}}");
}
END_TEST

START_TEST(a_sentence_that_is_not_utf8_is_mended)
{
	static const struct shim_error e = {400, "t", NULL, false};
	ck_assert_int_eq(shim_reply_error(&out, &e, "a\xff\xc3\xa9z\xe2\x80", "\xc3"), 0);
	assert_object("{\"error\":{\"message\":\"a\xef\xbf\xbd\xc3\xa9z\xef\xbf\xbd\xef\xbf\xbd\","
		      "\"type\":\"t\",\"param\":\"\xef\xbf\xbd\",\"code\":null}}");
}
END_TEST

START_TEST(each_errno_is_a_status_and_a_code)
{
	static const struct {
		int code;
		unsigned status;
		const char *type, *name;
		bool no_retry;
	} want[] = {{-EPERM, 400, "invalid_request_error", "content_filter", true},
		{-EDQUOT, 429, "insufficient_quota", "insufficient_quota", true},
		{-EAGAIN, 429, "rate_limit_error", "rate_limit_exceeded", false},
		{-EBUSY, 429, "rate_limit_error", "rate_limit_exceeded", false},
		{-EMSGSIZE, 400, "invalid_request_error", "context_length_exceeded", true},
		{-EFBIG, 413, "invalid_request_error", "request_too_large", true},
		{-EHOSTUNREACH, 503, "server_error", "model_unavailable", false},
		{-ETIMEDOUT, 504, "server_error", "timeout", false},
		{-EPROTO, 502, "server_error", "bad_upstream", true},
		{-EINVAL, 400, "invalid_request_error", "invalid_value", true},
		{-EILSEQ, 400, "invalid_request_error", "invalid_value", true},
		{-ENOENT, 404, "invalid_request_error", "model_not_found", true},
		{-EACCES, 502, "server_error", "bad_upstream", true},
		{-ENOTSUP, 400, "invalid_request_error", "unsupported_value", true},
		{-ESHUTDOWN, 503, "server_error", "shutting_down", false},
		{-ECANCELED, 503, "server_error", "cancelled", false},
		{-ENOMEM, 500, "server_error", NULL, false},
		{-ENOSPC, 500, "server_error", NULL, false},
		{EPERM, 400, "invalid_request_error", "content_filter", true}};
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		struct shim_error e;
		shim_error_of(want[i].code, &e);
		ck_assert_uint_eq(e.status, want[i].status);
		ck_assert_str_eq(e.type, want[i].type);
		ck_assert_pstr_eq(e.code, want[i].name);
		ck_assert_int_eq(e.no_retry, want[i].no_retry);
	}
}
END_TEST

START_TEST(models_are_a_list_of_objects)
{
#define MODEL(id)                                                                                  \
	"{\"id\":\"" id "\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"llmfs\"}"
	static const char *const ids[] = {"a", "b-7B.gguf"};
	ck_assert_int_eq(shim_reply_model(&out, "a", 1700000000), 0);
	assert_object(MODEL("a"));
	ck_assert_int_eq(shim_reply_models(&out, ids, 2, 1700000000), 0);
	assert_object("{\"object\":\"list\",\"data\":[" MODEL("a") "," MODEL("b-7B.gguf") "]}");
	ck_assert_int_eq(shim_reply_models(&out, NULL, 0, 1700000000), 0);
	assert_object("{\"object\":\"list\",\"data\":[]}");
	ck_assert_int_eq(shim_reply_model(&out, "a", -1), 0);
	ck_assert_ptr_nonnull(strstr(out.data, "\"created\":0,"));
}
END_TEST

/* ---- embeddings ---- */

START_TEST(vectors_are_numbers_or_base64)
{
	static const float x[] = {1, -0.5f}, y[] = {0};
	static const struct shim_vector v[] = {{x, 2}, {y, 1}};
	ck_assert_int_eq(shim_reply_embeddings(&out, "e\"", v, 2, false, 9), 0);
	assert_object("{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
		      "\"embedding\":[1,-0.5]},{\"object\":\"embedding\",\"index\":1,"
		      "\"embedding\":[0]}],\"model\":\"e\\\"\",\"usage\":{\"prompt_tokens\":9,"
		      "\"total_tokens\":9}}");
	/* 00 00 80 3f 00 00 00 bf; 00 00 00 00 */
	ck_assert_int_eq(shim_reply_embeddings(&out, "e", v, 2, true, 9), 0);
	assert_object("{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
		      "\"embedding\":\"AACAPwAAAL8=\"},{\"object\":\"embedding\",\"index\":1,"
		      "\"embedding\":\"AAAAAA==\"}],\"model\":\"e\",\"usage\":{\"prompt_tokens\":9,"
		      "\"total_tokens\":9}}");
	static const float z[] = {1, 2, 3};
	static const struct shim_vector three = {z, 3};
	ck_assert_int_eq(shim_reply_embeddings(&out, "e", &three, 1, true, 0), 0);
	ck_assert_ptr_nonnull(strstr(out.data, "\"AACAPwAAAEAAAEBA\"")); /* no padding */
}
END_TEST

START_TEST(numbers_of_a_vector_are_the_same_floats_when_they_are_read)
{
	enum { N = 1000 };
	float x[N];
	uint32_t bits = 12345;
	for (size_t i = 0; i < N; i++) {
		bits = bits * 1664525 + 1013904223;
		memcpy(&x[i], &bits, 4);
		if (!isfinite(x[i]))
			x[i] = 0.1f;
	}
	const struct shim_vector v = {x, N};
	ck_assert_int_eq(shim_reply_embeddings(&out, "e", &v, 1, false, 0), 0);
	json_t *o = json_loadb(out.data, out.len, 0, NULL);
	json_t *e = json_object_get(json_array_get(json_object_get(o, "data"), 0), "embedding");
	ck_assert_uint_eq(json_array_size(e), N);
	for (size_t i = 0; i < N; i++)
		ck_assert((float)json_number_value(json_array_get(e, i)) == x[i]);
	json_decref(o);
}
END_TEST

START_TEST(a_number_that_is_none_is_null)
{
	static const float x[] = {NAN, INFINITY};
	static const struct shim_vector v = {x, 2};
	ck_assert_int_eq(shim_reply_embeddings(&out, "e", &v, 1, false, 0), 0);
	ck_assert_ptr_nonnull(strstr(out.data, "[null,null]"));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("shim_reply");
	TCase *c = tcase_create("shim_reply");
	tcase_add_checked_fixture(c, NULL, forget);
	tcase_add_test(c, a_whole_chat_completion_is_one_object);
	tcase_add_test(c, choices_are_in_the_order_given);
	tcase_add_test(c, a_chat_stream_has_its_role_first_and_its_reason_last);
	tcase_add_test(c, a_stream_of_completions_has_texts);
	tcase_add_test(c, a_stream_with_usage_has_null_until_its_last_event);
	tcase_add_test(c, the_largest_numbers_are_written);
	tcase_add_test(c, each_character_comes_through);
	tcase_add_test(c, no_character_within_an_event_ends_a_line);
	tcase_add_test(c, long_texts_come_through_whatever_is_in_them);
	tcase_add_loop_test(c, what_does_not_fit_leaves_nothing, 0, 12);
	tcase_add_test(c, an_error_is_an_object_and_an_event);
	tcase_add_test(c, a_sentence_that_is_not_utf8_is_mended);
	tcase_add_test(c, each_errno_is_a_status_and_a_code);
	tcase_add_test(c, models_are_a_list_of_objects);
	tcase_add_test(c, vectors_are_numbers_or_base64);
	tcase_add_test(c, numbers_of_a_vector_are_the_same_floats_when_they_are_read);
	tcase_add_test(c, a_number_that_is_none_is_null);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
