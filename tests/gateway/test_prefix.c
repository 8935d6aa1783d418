/* SPDX-License-Identifier: Apache-2.0 */
/* Values that are refused before their end: never one that might have become right. */
#include "gateway/prefix.h"

#include <check.h>
#include <string.h>

#include "gateway/cache.h"
#include "gateway/gateway.h"
#include "gateway/limits.h"
#include "gateway/model_settings.h"
#include "gateway/router.h"
#include "gateway/settings.h"
#include "tests/run_suite.h"

/* As each part has it: the check of a value, and what is asked before its end. */
enum part { SESSION, MODEL, BUDGET, ROUTER, CACHE };

static int check(enum part part, const char *file, const char *value, size_t len)
{
	switch (part) {
	case SESSION:
		return settings_check(settings_find(file), value, len, NULL);
	case MODEL:
		return model_settings_check(model_settings_find(file), value, len, NULL);
	case BUDGET:
		return limits_check(limits_find(file), value, len, NULL);
	case ROUTER:
		return router_setting_check(file, value, len, NULL);
	default:
		return cache_setting_check(file, value, len, NULL);
	}
}

static bool is_hopeless(enum part part, const char *file, const char *value, size_t len)
{
	switch (part) {
	case SESSION:
		return settings_is_hopeless(settings_find(file), value, len);
	case MODEL:
		return model_settings_is_hopeless(model_settings_find(file), value, len);
	case BUDGET:
		return limits_is_hopeless(limits_find(file), value, len);
	case ROUTER:
		return router_setting_is_hopeless(file, value, len);
	default:
		return cache_setting_is_hopeless(file, value, len);
	}
}

struct sample {
	enum part part;
	const char *file, *value;
};

static const struct sample good[] = {
	{SESSION, "model", "..a"},
	{SESSION, "model", ".hidden-1_x"},
	{SESSION, "system", "hot \xc3\xbc\n\nand cold"},
	{SESSION, "temperature", "0"},
	{SESSION, "temperature", "+1.25e-1"},
	{SESSION, "temperature", "2.0e-1"},
	{SESSION, "temperature", ".5"},
	{SESSION, "temperature", "2."},
	{SESSION, "top_p", "0.95"},
	{SESSION, "top_k", "1000000"},
	{SESSION, "top_k", "00040"},
	{SESSION, "repetition_penalty", "9.999999999999999"}, /* its sum is more */
	{SESSION, "presence_penalty", "-2"},
	{SESSION, "presence_penalty", "-.5"},
	{SESSION, "max_tokens", "1000000"},
	{SESSION, "stop", "###\nhot"},
	{SESSION, "seed", "18446744073709551615"},
	{SESSION, "format", "json"},
	{SESSION, "ignore_eos", "1"},
	{SESSION, "truncate", "oldest-turns"},
	{SESSION, "max_cost", "0.000000001"},
	{SESSION, "max_cost", "1000000000"},
	{SESSION, "max_cost", ".25"},
	{SESSION, "cache", "off"},
	{MODEL, "path", "/data/model.gguf"},
	{MODEL, "endpoint", "https://api.example.com/v1"},
	{MODEL, "endpoint", "http://127.0.0.1:1/v1 weight=3\nhttp://127.0.0.1:2/v1\n"},
	{MODEL, "endpoint", "\n \thttp://127.0.0.1:1/v1"},
	{MODEL, "protocol", "anthropic"},
	{MODEL, "remote_name", "org/a model:7b"},
	{MODEL, "template", "llama3"},
	{MODEL, "fp8", "on"},
	{MODEL, "memory_share", "0.9"},
	{MODEL, "price_input", "0.150000001"},
	{MODEL, "quality", "1"},
	{MODEL, "capabilities", "chat json"},
	{MODEL, "fallback", "guide other"},
	{MODEL, "health_interval_ms", "1000"},
	{MODEL, "timeout_ms", "86400000"},
	{MODEL, "proxy", "socks5h://127.0.0.1:9"},
	{BUDGET, "limit", "2.50"},
	{BUDGET, "window", "month"},
	{BUDGET, "requests_per_minute", "999999999999999"},
	{BUDGET, "alerts", "0.5 0.9 1"},
	{BUDGET, "alerts", "off"},
	{BUDGET, "members", "alice\nbob"},
	{BUDGET, "ledger_days", "99999"},
	{ROUTER, "policy", "balanced"},
	{ROUTER, "policy", "# cheap ones\ncost"},
	{ROUTER, "policy", "cost # for now"},
	{ROUTER, "weights", "latency 0.5\ncold 1"},
	{ROUTER, "classes", "length 2"},
	{ROUTER, "threshold", "0.75"},
	{ROUTER, "cascade_judge", "judge"},
	{ROUTER, "classifier_timeout_ms", "600000"},
	{CACHE, "enabled", "0"},
	{CACHE, "ttl", "3153600000"},
	{CACHE, "threshold", "0.999999999"},
	{CACHE, "threshold", "1"},
	{CACHE, "scope", "global"},
	{CACHE, "embedding_model", "mini-lm"},
	{CACHE, "max_disk", "1099511627776"},
};

static const struct sample lost[] = {
	{SESSION, "model", "a/b"},
	{SESSION, "temperature", "hot"},
	{SESSION, "temperature", "0,5"},
	{SESSION, "temperature", "0.5x"},
	{SESSION, "temperature", "1.2.3"},
	{SESSION, "temperature", "1-"},
	{SESSION, "temperature", "7"},
	{SESSION, "temperature", "2.1"},
	{SESSION, "presence_penalty", "-3"},
	{SESSION, "top_p", "1.01"},
	{SESSION, "temperature", "nan"},
	{SESSION, "top_k", "-1"},
	{SESSION, "top_k", "1.5"},
	{SESSION, "top_k", "1000001"},
	{SESSION, "max_tokens", "0x10"},
	{SESSION, "seed", "luck"},
	{SESSION, "format", "xml"},
	{SESSION, "format", "jsonl"},
	{SESSION, "ignore_eos", "yes"},
	{SESSION, "max_cost", "$5"},
	{SESSION, "max_cost", "0.0000000001"},
	{SESSION, "cache", "on"},
	{MODEL, "endpoint", "127.0.0.1:8080/v1"},
	{MODEL, "endpoint", "ftp://example.com"},
	{MODEL, "protocol", "grpc"},
	{MODEL, "quality", "good"},
	{MODEL, "quality", "2"},
	{MODEL, "price_output", "0,60"},
	{MODEL, "requests_max", "many"},
	{MODEL, "backend", "gpu"},
	{BUDGET, "limit", "2.50 dollars"},
	{BUDGET, "window", "minute"},
	{BUDGET, "requests_per_day", "ten"},
	{BUDGET, "ledger_days", "100000"},
	{ROUTER, "policy", "fastest"},
	{ROUTER, "threshold", "high"},
	{ROUTER, "threshold", "1.5"},
	{ROUTER, "classifier_timeout_ms", "600001"},
	{ROUTER, "cascade_judge", "a/b"},
	{CACHE, "enabled", "yes"},
	{CACHE, "ttl", "1h"},
	{CACHE, "ttl", "3153600001"},
	{CACHE, "max_entries", "1000001"},
	{CACHE, "threshold", "2"},
	{CACHE, "scope", "everybody"},
};

START_TEST(no_beginning_of_a_good_value_is_without_hope)
{
	const struct sample *s = &good[_i];
	size_t len = strlen(s->value);
	ck_assert_msg(check(s->part, s->file, s->value, len) == 0, "%s: %s", s->file, s->value);
	for (size_t n = 0; n <= len; n++)
		ck_assert_msg(!is_hopeless(s->part, s->file, s->value, n), "%s: %.*s", s->file,
			(int)n, s->value);
	/* The end of a line from elsewhere comes in two bytes. */
	char line[128];
	int n = snprintf(line, sizeof line, "%s\r", s->value);
	ck_assert_msg(!is_hopeless(s->part, s->file, line, (size_t)n), "%s: %s", s->file, line);
}
END_TEST

START_TEST(an_exponent_that_comes_with_its_digits_brings_a_number_into_its_range)
{
	static const char *const values[] = {"5e-1", "50000.0E-5", "7e"};
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		ck_assert(!is_hopeless(SESSION, "temperature", values[i], strlen(values[i])));
	ck_assert_int_eq(check(SESSION, "temperature", "5e-1", 4), 0);
	ck_assert(is_hopeless(SESSION, "temperature", "5", 1));
}
END_TEST

START_TEST(what_no_bytes_can_mend_is_known_before_its_end)
{
	const struct sample *s = &lost[_i];
	size_t len = strlen(s->value);
	ck_assert_msg(check(s->part, s->file, s->value, len) < 0, "%s: %s", s->file, s->value);
	ck_assert_msg(is_hopeless(s->part, s->file, s->value, len), "%s: %s", s->file, s->value);
}
END_TEST

START_TEST(a_verb_is_known_by_its_beginning)
{
	static const char *const lines[] = {"submit", "cancel\r", "fork my-copy", "retry"};
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		for (size_t n = 0; n <= strlen(lines[i]); n++)
			ck_assert_msg(!session_ctl_is_hopeless(lines[i], n), "%s", lines[i]);
	ck_assert(session_ctl_is_hopeless("frob", 4));
	ck_assert(session_ctl_is_hopeless("cancel!", 7));
	ck_assert(session_ctl_is_hopeless("for b", 5));
	ck_assert(!model_ctl_is_hopeless("unl", 3));
	ck_assert(model_ctl_is_hopeless("unlaod", 6));
	ck_assert(!account_ctl_is_hopeless("credit 2.50", 11));
	ck_assert(account_ctl_is_hopeless("debit", 5));
	ck_assert(!gateway_cache_ctl_is_hopeless("flush alice", 11));
	ck_assert(gateway_cache_ctl_is_hopeless("clear", 5));
}
END_TEST

START_TEST(a_file_that_is_no_setting_is_never_without_hope)
{
	ck_assert(!router_setting_is_hopeless("nothing", "hot", 3));
	ck_assert(!cache_setting_is_hopeless("nothing", "hot", 3));
}
END_TEST

START_TEST(each_setting_of_one_word_or_number_is_known_by_its_beginning)
{
	/* What takes any line, or has lines. A new setting belongs here or among those that are
	 * known; one that has no early check at all ends here, too. */
	static const char *const any[] = {"path", "ca_file", "remote_name", "system", "stop",
		"capabilities", "fallback", "proxy", "alerts", "members", "weights", "classes",
		NULL};
	const char *const *lists[] = {[SESSION] = settings_names(),
		[MODEL] = model_settings_names(),
		[BUDGET] = limits_names(),
		[ROUTER] = router_setting_names(),
		[CACHE] = cache_setting_names()};
	for (int part = SESSION; part <= CACHE; part++)
		for (const char *const *file = lists[part]; *file; file++) {
			const char *const *one = any;
			while (*one && strcmp(*one, *file))
				one++;
			ck_assert_msg(
				is_hopeless((enum part)part, *file, "?!", 2) == !*one, "%s", *file);
		}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gateway/prefix");
	TCase *t = tcase_create("prefix");
	tcase_add_test(t, an_exponent_that_comes_with_its_digits_brings_a_number_into_its_range);
	tcase_add_loop_test(t, no_beginning_of_a_good_value_is_without_hope, 0,
		(int)(sizeof good / sizeof *good));
	tcase_add_loop_test(t, what_no_bytes_can_mend_is_known_before_its_end, 0,
		(int)(sizeof lost / sizeof *lost));
	tcase_add_test(t, a_verb_is_known_by_its_beginning);
	tcase_add_test(t, a_file_that_is_no_setting_is_never_without_hope);
	tcase_add_test(t, each_setting_of_one_word_or_number_is_known_by_its_beginning);
	suite_add_tcase(s, t);
	return run_suite(s);
}
