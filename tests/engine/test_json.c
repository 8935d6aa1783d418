/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/json.h"

#include <jansson.h>
#include <string.h>

#include "tests/engine/engine_harness.h"
#include "tests/run_suite.h"

static bool whole(const char *text)
{
	struct json_state s;

	json_init(&s);
	return json_feed(&s, text, strlen(text)) && json_may_end(&s);
}

START_TEST(values_are_accepted)
{
	static const char *const texts[] = {"0", "-1", "12.5e-7", "1E+9", "true", "false", "null",
		"\"\"", "\"a\\n\\u00e9\\\"\"", "\"\xC3\xA9\xF0\x9F\x98\x80\"", "[]", "[ ]", "{}",
		" {\n\"a\": [1, 2.0, {\"b\":null}],\t\"c\":\"\"}", "[[[]],[0]]", "[0 ,0\n]",
		"{\"\":-0.0}"};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		json_t *j = json_loads(texts[i], JSON_DECODE_ANY, NULL);

		ck_assert_msg(whole(texts[i]), "%s", texts[i]);
		ck_assert_msg(j != NULL, "%s", texts[i]);
		json_decref(j);
	}
}
END_TEST

START_TEST(what_is_no_value_is_refused)
{
	static const char *const texts[] = {"", "01", "-", "1.", ".5", "+1", "1e", "1e5e5", "tru",
		"truee", "nul l", "\"a", "\"\n\"", "\"\\x\"", "\"\\u12g4\"", "\"\\ud800\"",
		"\"\\u0000\"", "\"\xC3(\"", "\"\xED\xA0\x80\"", "\"\xC0\xAF\"", "[1,]", "[,1]",
		"{,}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{1:1}", "[1}", "{\"a\":1]",
		"[1 2]", "[]]", "{} ", "1 ", "'a'", "[1,2", "NaN", "1e999", "12345678901234567890"};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		ck_assert_msg(!whole(texts[i]), "%s", texts[i]);
}
END_TEST

static bool whole_of_others(const char *text)
{
	struct engine_json j = {0};

	return engine_json_feed(&j, text, strlen(text)) == strlen(text) && engine_json_may_end(&j);
}

START_TEST(texts_of_others_may_be_all_that_the_rfc_has)
{
	static const char *const wider[] = {"\"\\ud83d\\ude00\"", "\"\\u0000\"",
		"12345678901234567890", "0.123456789012345678901", "1e1000", "[1e-0001]",
		"[                                                                  1]"};
	static const char *const never[] = {"", "01", "[1,]", "{\"a\"}", "NaN", "\"\\u12g4\"",
		"[1}", "'a'", "{} ", "1 2", "\"\n\"", "\"\xC3(\"", "truE"};
	static const char *const both[] = {"{\"a\": [1, 2.5e-7, {\"b\": null}]}", "true", "\"\""};

	for (size_t i = 0; i < sizeof(wider) / sizeof(*wider); i++)
		ck_assert_msg(whole_of_others(wider[i]) && !whole(wider[i]), "%s", wider[i]);
	for (size_t i = 0; i < sizeof(never) / sizeof(*never); i++)
		ck_assert_msg(!whole_of_others(never[i]), "%s", never[i]);
	for (size_t i = 0; i < sizeof(both) / sizeof(*both); i++)
		ck_assert_msg(whole_of_others(both[i]) && whole(both[i]), "%s", both[i]);
}
END_TEST

START_TEST(a_byte_that_cannot_be_leaves_the_state_before_it)
{
	struct engine_json j = {0};

	ck_assert_uint_eq(engine_json_feed(&j, "[1, x", 5), 4);
	ck_assert(!engine_json_may_end(&j));
	ck_assert_uint_eq(engine_json_feed(&j, "2]", 2), 2);
	ck_assert(engine_json_may_end(&j));
	ck_assert_uint_eq(engine_json_feed(&j, "]", 1), 0);
	ck_assert(engine_json_may_end(&j));
}
END_TEST

START_TEST(nesting_ends_at_its_limit)
{
	char text[2 * JSON_MAX_DEPTH + 3];

	memset(text, '[', JSON_MAX_DEPTH);
	memset(text + JSON_MAX_DEPTH, ']', JSON_MAX_DEPTH);
	text[2 * JSON_MAX_DEPTH] = '\0';
	ck_assert(whole(text));
	memset(text, '[', JSON_MAX_DEPTH + 1);
	memset(text + JSON_MAX_DEPTH + 1, ']', JSON_MAX_DEPTH + 1);
	text[2 * JSON_MAX_DEPTH + 2] = '\0';
	ck_assert(!whole(text));
}
END_TEST

/* A byte after which one byte less is needed, or -1. */
static int nearer(const struct json_state *s)
{
	for (int c = 0; c < 256; c++) {
		struct json_state next = *s;
		char byte = (char)c;

		if (json_feed(&next, &byte, 1) &&
			json_bytes_to_end(&next) + 1 == json_bytes_to_end(s))
			return c;
	}
	return -1;
}

START_TEST(from_every_state_the_end_is_as_near_as_said)
{
	uint32_t random = 1;

	for (int round = 0; round < 3000; round++) {
		struct json_state s;
		char text[512];
		size_t n = 0, length = harness_random(&random) % 60;
		uint32_t to_end;
		json_t *j;

		json_init(&s);
		/* Any bytes that fit, structure more often than others. */
		for (int tries = 0; n < length && tries < 5000; tries++) {
			static const char often[] = "{[\"\\,:]}10tfnu.e- \xC3\xE2\xF0";
			struct json_state next = s;
			char byte = harness_random(&random) % 2
					    ? often[harness_random(&random) % (sizeof(often) - 1)]
					    : (char)harness_random(&random);

			if (!json_feed(&next, &byte, 1))
				continue;
			s = next;
			text[n++] = byte;
		}
		to_end = json_bytes_to_end(&s);
		for (uint32_t i = 0; i < to_end; i++) {
			int c = nearer(&s);
			char byte = (char)c;

			ck_assert_msg(c >= 0, "stuck after %.*s", (int)n, text);
			ck_assert(json_feed(&s, &byte, 1));
			text[n++] = byte;
		}
		ck_assert(json_may_end(&s));
		j = json_loadb(text, n, JSON_DECODE_ANY, NULL);
		ck_assert_msg(j != NULL, "%.*s", (int)n, text);
		json_decref(j);
	}
}
END_TEST

START_TEST(answers_of_a_random_model_are_json_within_every_max_tokens)
{
	static const struct tiny_llama model = {.seed = 5};
	struct engine *e = harness_open(&model, &(struct engine_options){.kv_blocks = 50});
	enum { N = 300 };
	static struct answer answers[N];
	uint32_t ids[20], random = 6, n_long = 0;

	for (int i = 0; i < N; i++) {
		struct engine_request r;

		harness_ids(&random, ids, 20);
		r = harness_request(&answers[i], ids, 20);
		r.json = true;
		r.ignore_eos = i % 5 == 0;
		r.max_tokens = 1 + i % 60;
		r.sampling.temperature = (float)(i % 4) * 3;
		r.sampling.top_k = i % 3 == 0 ? 20 : 0;
		r.sampling.seed = i;
		harness_submit(e, &r, &answers[i]);
	}
	for (int i = 0; i < N; i++) {
		struct answer *a = &answers[i];
		json_t *j;

		harness_wait(a);
		ck_assert_int_eq(a->status, 0);
		ck_assert_uint_le(a->usage.output_tok, 1 + i % 60);
		j = json_loadb(a->text.data, a->text.len, JSON_DECODE_ANY, NULL);
		ck_assert_msg(j != NULL, "answer %d: '%s'", i, a->text.data);
		n_long += a->text.len > 10;
		json_decref(j);
		harness_free(a);
	}
	ck_assert_uint_gt(n_long, 30);
	engine_free(e);
}
END_TEST

/* Whether what there is room for without it has none for the text, where it may come; counts. */
static void check_room(const struct json_state *s, const char *text, size_t len, uint32_t *n_denied)
{
	struct json_state next = *s;

	if (!json_feed(&next, text, len))
		return;
	for (uint32_t n_left = json_bytes_to_end(s); n_left < json_bytes_to_end(&next); n_left++) {
		(*n_denied)++;
		ck_assert_msg(json_is_narrow(s, n_left), "%.*s, %u left", (int)len, text, n_left);
	}
}

START_TEST(room_is_narrow_where_a_token_that_may_come_has_none)
{
	static const char text[] =
		"[{\"a\": [1, -2.5e+7, true, {\"b\\u00e9\": \"c\\n\"}], \"d\": {}}, [[0]]]";
	static const char *const tokens[] = {",\"", ",{\"", ",[", "[{\"", "[[", "{\"", "\":\"",
		"\":{\"", "\":[{\"", "\",\"", "\"},{\"", "},{\"", "},", "\\u", "\\u00"};
	uint32_t n_denied = 0;

	for (size_t n = 0; n < sizeof text - 1; n++) {
		struct json_state s;

		json_init(&s);
		ck_assert(json_feed(&s, text, n));
		for (int c = ' '; c <= '~'; c++)
			check_room(&s, &(char){(char)c}, 1, &n_denied);
		for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++)
			check_room(&s, tokens[i], strlen(tokens[i]), &n_denied);
		ck_assert(!json_is_narrow(&s, json_bytes_to_end(&s) + JSON_MOST_ADDED));
	}
	ck_assert_uint_gt(n_denied, 200);
}
END_TEST

/* The answer with room for so many tokens; harness_free it. */
static void ask_json(struct engine *e, uint32_t seed, uint32_t max_tokens, struct answer *a)
{
	struct engine_request r;
	uint32_t ids[20], random = seed;

	harness_ids(&random, ids, 20);
	r = harness_request(a, ids, 20);
	r.json = true;
	r.max_tokens = max_tokens;
	harness_submit(e, &r, a);
	harness_wait(a);
	ck_assert_int_eq(a->status, 0);
}

static bool is_same(const struct answer *a, const struct answer *b)
{
	return a->text.len == b->text.len && !memcmp(a->text.data, b->text.data, a->text.len);
}

START_TEST(a_value_that_max_tokens_cut_short_ends_with_length)
{
	static const struct tiny_llama model = {.seed = 5};
	struct engine *e = harness_open(&model, &(struct engine_options){.kv_blocks = 50});
	enum { ROOM = 150 };
	uint32_t n_whole = 0, n_cut = 0;

	for (uint32_t seed = 1; seed < 40; seed++) {
		struct answer whole = {0};

		ask_json(e, seed, ROOM, &whole);
		if (whole.finish == ENGINE_FINISH_STOP && whole.usage.output_tok > 3) {
			n_whole++;
			for (uint32_t most = 1; most <= whole.usage.output_tok; most++) {
				struct answer a = {0};

				ask_json(e, seed, most, &a);
				if (!is_same(&a, &whole)) {
					n_cut++;
					ck_assert_int_eq(a.finish, ENGINE_FINISH_LENGTH);
				}
				harness_free(&a);
			}
		}
		harness_free(&whole);
	}
	ck_assert_uint_gt(n_whole, 5);
	ck_assert_uint_gt(n_cut, 30);
	engine_free(e);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("engine/json");
	TCase *t = tcase_create("json");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, values_are_accepted);
	tcase_add_test(t, what_is_no_value_is_refused);
	tcase_add_test(t, texts_of_others_may_be_all_that_the_rfc_has);
	tcase_add_test(t, a_byte_that_cannot_be_leaves_the_state_before_it);
	tcase_add_test(t, nesting_ends_at_its_limit);
	tcase_add_test(t, from_every_state_the_end_is_as_near_as_said);
	tcase_add_test(t, answers_of_a_random_model_are_json_within_every_max_tokens);
	tcase_add_test(t, room_is_narrow_where_a_token_that_may_come_has_none);
	tcase_add_test(t, a_value_that_max_tokens_cut_short_ends_with_length);
	suite_add_tcase(s, t);
	return run_suite(s);
}
