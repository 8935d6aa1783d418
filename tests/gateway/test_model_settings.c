/* SPDX-License-Identifier: Apache-2.0 */
/* What may stand in the files of a model, and what it means when nothing does. */
#include "gateway/model_settings.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/upstream.h"
#include "tests/run_suite.h"

static struct err err;

static int check(const char *file, const char *value)
{
	enum model_setting i = model_settings_find(file);
	ck_assert_msg(i < N_MODEL_SETTINGS, "%s", file);
	return model_settings_check(i, value, strlen(value), &err);
}

static void set(struct model_settings *s, enum model_setting i, const char *value)
{
	ck_assert_msg(model_settings_check(i, value, strlen(value), &err) == 0, "%s", err.text);
	text_put(s->value[i]);
	s->value[i] = text_new(value, strlen(value));
}

START_TEST(every_setting_is_in_the_list_and_found_by_its_name)
{
	const char *const *names = model_settings_names();
	size_t n = 0;
	for (; names[n]; n++) {
		ck_assert_uint_eq(model_settings_find(names[n]), n);
		ck_assert_int_eq(check(names[n], ""), 0);
	}
	ck_assert_uint_eq(n, N_MODEL_SETTINGS);
	ck_assert_uint_eq(model_settings_find("color"), N_MODEL_SETTINGS);
}
END_TEST

struct value {
	const char *file, *good[6], *bad[8];
};

static const struct value values[] = {
	{"path", {"/a b", "/x\xff"}, {"relative", "/two\nlines"}},
	{"endpoint",
		{"http://localhost:8000/v1", "https://a/v1 weight=3\n\nhttp://b:1 \n",
			"https://[::1]:80/v1/"},
		{"localhost:8000", "ftp://a/", "http://a weight=0", "http://a weight=1001",
			"http://a weight", "http://a weight=1 more", "http://user:pw@a/v1",
			"http://a/v1?x=1"}},
	{"protocol", {"openai", "anthropic"}, {"OpenAI", "gemini"}},
	{"remote_name", {"meta/llama-3 70B", "gpt-4o"}, {"two\nlines", "\xff"}},
	{"template", {"chatml", "plain"}, {"jinja"}},
	{"price_input", {"0.15", "3"}, {"-1", "1e-6", "free"}},
	{"quality", {"0", "0.95", "1"}, {"1.01", "-0.1", "nan", "good"}},
	{"backend", {"auto", "cpu", "cuda"}, {"gpu", "CPU", "cpu/avx2"}},
	{"gpu", {"0", "7", "255"}, {"-1", "256", "first"}},
	{"fp8", {"on", "0"}, {"2", "ON", "e4m3"}},
	{"kv_fp8", {"on", "off"}, {"yes", "on off"}},
	{"memory_share", {"0.01", "0.5", "1"}, {"0", "1.01", "-0.5", "90%", "half"}},
	{"capabilities", {"chat", "chat json\ncode", " embed "}, {"chat,json", "smell"}},
	{"context", {"1", "131072"}, {"0", "1.5", "-1", "100000001", "many"}},
	{"max_tokens", {"4096"}, {"0", "1000001"}},
	{"fallback", {"a", "a b\nc", "a.b_c-d"}, {"a/b", "a,b", "a b a"}},
	{"weight", {"0", "90"}, {"1.5", "-1", "1000001"}},
	{"requests_max", {"1"}, {"0", "100001"}},
	{"queue_max", {"0"}, {"1000001"}},
	{"queue_timeout_ms", {"0", "86400000"}, {"86400001"}},
	{"connect_timeout_ms", {"0", "250"}, {"2.5"}},
	{"first_byte_timeout_ms", {"0"}, {"x"}},
	{"idle_timeout_ms", {"0"}, {"x"}},
	{"timeout_ms", {"0"}, {"x"}},
	{"retries", {"0", "10"}, {"11"}},
	{"retry_ratio", {"0", "0.25"}, {"1.5", "-1"}},
	{"breaker_failures", {"1"}, {"0"}},
	{"breaker_successes", {"1"}, {"0"}},
	{"breaker_open_ms", {"1"}, {"0"}},
	{"health_interval_ms", {"0", "1000", "86400000"}, {"-1", "1", "999", "86400001"}},
	{"proxy", {"none", "http://proxy:3128", "socks5h://p:1", "http://p/@"},
		{"proxy:3128", "file:///x", "http://", "http://a b", "http://user:password@p:1",
			"socks5://u@p"}},
	{"ca_file", {"/etc/ca.pem"}, {"ca.pem"}},
};

START_TEST(values_are_checked_and_what_is_allowed_is_said)
{
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		const struct value *v = &values[i];
		for (size_t k = 0; k < 6 && v->good[k]; k++)
			ck_assert_msg(check(v->file, v->good[k]) == 0, "%s: %s", v->file, err.text);
		for (size_t k = 0; k < 8 && v->bad[k]; k++) {
			ck_assert_msg(
				check(v->file, v->bad[k]) == -EINVAL, "%s: %s", v->file, v->bad[k]);
			ck_assert_ptr_eq(strstr(err.text, v->file), err.text);
		}
		enum model_setting s = model_settings_find(v->file);
		ck_assert_int_eq(model_settings_check(s, "1\0", 2, &err), -EINVAL);
	}
}
END_TEST

START_TEST(what_is_on_or_off_is_said_in_two_ways)
{
	static const struct {
		const char *value;
		bool is_on;
	} cases[] = {{"on", true}, {"1", true}, {"off", false}, {"0", false}, {"", false}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct model_settings s = {0};
		set(&s, MODEL_FP8, cases[i].value);
		ck_assert_int_eq(model_settings_is_on(&s, MODEL_FP8), cases[i].is_on);
		model_settings_clear(&s);
	}
}
END_TEST

START_TEST(what_is_said_of_a_number_begins_with_the_number)
{
	static const char *const numbers[] = {"gpu", "memory_share", "quality", "context",
		"max_tokens", "weight", "requests_max", "queue_max", "queue_timeout_ms",
		"connect_timeout_ms", "first_byte_timeout_ms", "idle_timeout_ms", "timeout_ms",
		"retries", "retry_ratio", "breaker_failures", "breaker_successes",
		"breaker_open_ms", "health_interval_ms"};
	static const char *const begins[] = {
		"a number from ", "a whole number ", "0 (none) or a whole number ", "the number "};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		err.text[0] = 0;
		char head[64];
		bool reads_well = false;
		ck_assert_int_eq(
			model_settings_check(model_settings_find(numbers[i]), "many", 4, &err),
			-EINVAL);
		for (size_t k = 0; k < sizeof begins / sizeof *begins; k++) {
			snprintf(head, sizeof head, "%s: must be %s", numbers[i], begins[k]);
			reads_well |= !strncmp(err.text, head, strlen(head));
		}
		ck_assert_msg(reads_well, "%s", err.text);
	}
}
END_TEST

START_TEST(values_that_are_too_long_are_refused)
{
	const char *const *names = model_settings_names();
	size_t len = 64 << 10;
	char *value = malloc(len);
	memset(value, '1', len);
	value[0] = '/';
	for (size_t i = 0; names[i]; i++)
		ck_assert_msg(
			model_settings_check((enum model_setting)i, value, len, &err) == -EINVAL,
			"%s", names[i]);
	free(value);
}
END_TEST

START_TEST(defaults_are_as_the_manual_has_them)
{
	static const struct {
		enum model_setting i;
		uint64_t value;
	} rows[] = {{MODEL_CONTEXT, 0}, {MODEL_MAX_TOKENS, 0}, {MODEL_WEIGHT, 1},
		{MODEL_REQUESTS_MAX, 256}, {MODEL_QUEUE_MAX, 4096}, {MODEL_QUEUE_TIMEOUT_MS, 60000},
		{MODEL_CONNECT_TIMEOUT_MS, 5000}, {MODEL_FIRST_BYTE_TIMEOUT_MS, 60000},
		{MODEL_IDLE_TIMEOUT_MS, 30000}, {MODEL_TIMEOUT_MS, 600000}, {MODEL_RETRIES, 2},
		{MODEL_BREAKER_FAILURES, 5}, {MODEL_BREAKER_SUCCESSES, 3},
		{MODEL_BREAKER_OPEN_MS, 30000}, {MODEL_HEALTH_INTERVAL_MS, 0}};
	struct model_settings s = {0}, copy;
	struct money_price p;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		ck_assert_uint_eq(model_settings_integer(&s, rows[i].i), rows[i].value);
	ck_assert(fabs(model_settings_real(&s, MODEL_QUALITY) - 0.5) < 1e-9);
	ck_assert(fabs(model_settings_real(&s, MODEL_RETRY_RATIO) - 0.1) < 1e-9);
	set(&s, MODEL_ENDPOINT, "http://a\n");
	ck_assert_uint_eq(model_settings_integer(&s, MODEL_CONTEXT), 131072);
	ck_assert_uint_eq(model_settings_integer(&s, MODEL_HEALTH_INTERVAL_MS), 0);
	set(&s, MODEL_ENDPOINT, "\nhttp://a\n\nhttp://b weight=2\n");
	ck_assert_uint_eq(model_settings_integer(&s, MODEL_HEALTH_INTERVAL_MS), 10000);
	set(&s, MODEL_HEALTH_INTERVAL_MS, "0");
	ck_assert_uint_eq(model_settings_integer(&s, MODEL_HEALTH_INTERVAL_MS), 0);
	set(&s, MODEL_PRICE_INPUT, "2");
	model_settings_price(&s, &p);
	ck_assert(p.input == 2000000000 && p.cached == p.input && p.output == 0);
	model_settings_copy(&copy, &s);
	model_settings_clear(&s);
	ck_assert(!model_settings_is_set(&s, MODEL_ENDPOINT));
	ck_assert_str_eq(model_settings_text(&s, MODEL_PRICE_INPUT), "");
	ck_assert_str_eq(model_settings_text(&copy, MODEL_PRICE_INPUT), "2");
	model_settings_clear(&copy);
}
END_TEST

START_TEST(endpoints_are_a_line_each_with_a_weight)
{
	struct upstream_endpoint e[UPSTREAM_ENDPOINTS_MAX];
	static const char text[] = "http://a/v1/\n\n  https://b:8443/v1\t weight=30 \r\n";
	char *copy, many[17 * 16] = "";
	size_t n;
	ck_assert_int_eq(upstream_endpoints_parse(text, strlen(text), &copy, e, &n, &err), 0);
	ck_assert_uint_eq(n, 2);
	ck_assert_str_eq(e[0].url, "http://a/v1");
	ck_assert_uint_eq(e[0].weight, 1);
	ck_assert_str_eq(e[1].url, "https://b:8443/v1");
	ck_assert_uint_eq(e[1].weight, 30);
	free(copy);
	ck_assert_int_eq(upstream_endpoints_parse(" \n", 2, &copy, e, &n, &err), -EINVAL);
	/* What is copied from a manual has the path of a call behind it. */
	static const char *const calls[] = {"http://a/v1/chat/completions",
		"https://a/v1/messages/ weight=2", "http://a/v1/embeddings",
		"http://a/v1\nhttp://b/v1/chat/completions/"};
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		ck_assert_int_eq(
			upstream_endpoints_parse(calls[i], strlen(calls[i]), &copy, e, &n, &err),
			-EINVAL);
		ck_assert_msg(strstr(err.text, "a URL here ends before /") != NULL, "%s", err.text);
	}
	ck_assert_int_eq(
		upstream_endpoints_parse("http://a/messages.d", 19, &copy, e, &n, &err), 0);
	free(copy);
	ck_assert_int_eq(upstream_endpoints_parse("http://a\0b", 10, &copy, e, &n, &err), -EINVAL);
	for (int i = 0; i < 17; i++)
		sprintf(many + strlen(many), "http://h%d/\n", i);
	ck_assert_int_eq(upstream_endpoints_parse(many, strlen(many), &copy, e, &n, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "16"));
	ck_assert_ptr_null(copy);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("model_settings");
	TCase *t = tcase_create("model_settings");
	tcase_add_test(t, every_setting_is_in_the_list_and_found_by_its_name);
	tcase_add_test(t, values_are_checked_and_what_is_allowed_is_said);
	tcase_add_test(t, what_is_on_or_off_is_said_in_two_ways);
	tcase_add_test(t, what_is_said_of_a_number_begins_with_the_number);
	tcase_add_test(t, values_that_are_too_long_are_refused);
	tcase_add_test(t, defaults_are_as_the_manual_has_them);
	tcase_add_test(t, endpoints_are_a_line_each_with_a_weight);
	suite_add_tcase(s, t);
	return run_suite(s);
}
