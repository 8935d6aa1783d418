/* SPDX-License-Identifier: Apache-2.0 */
/* Models come, load, fail and go, with requests on them. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/utf8.h"
#include "gateway/model.h"
#include "tests/gateway/harness.h"
#include "tests/run_suite.h"

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

static int set(struct session *s, const char *file, const char *value)
{
	return session_setting_set(s, file, value, strlen(value), NULL);
}

static struct model *add_model(const char *name, const char *path)
{
	ck_assert_int_eq(gateway_model_create(h.g, name, NULL), 0);
	struct model *m = gateway_model_find(h.g, name);
	ck_assert_int_eq(model_setting_set(m, "path", path, strlen(path), NULL), 0);
	return m;
}

static int verb(struct model *m, const char *name)
{
	return model_ctl(m, name, strlen(name), NULL);
}

/* The errno of a request to a model with that file. */
static int ask_file(const char *name, const char *path)
{
	struct model *m = add_model(name, path);
	struct session *s = harness_session(&h, name, "2");
	int status;
	ck_assert_int_eq(set(s, "model", name), 0);
	ck_assert_int_eq(harness_say(s, "hello\n"), 0);
	free(harness_read(s, &status));
	ck_assert(harness_status(s, status ? "failed" : "done"));
	ck_assert(harness_model_state(m, status ? "failed: " : "ready"));
	char *error = harness_view(s, SESSION_ERROR);
	ck_assert(status == 0 || strlen(error) > 8);
	free(error);
	char *events = harness_view(s, SESSION_EVENTS);
	ck_assert_uint_eq(utf8_valid_prefix(events, strlen(events)), strlen(events));
	free(events);
	session_put(s);
	model_put(m);
	return status;
}

static const char *write_file(const char *name, const char *text, size_t len)
{
	static char path[128];
	snprintf(path, sizeof path, "%s/%s", h.dir, name);
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
	ck_assert_int_eq(write(fd, text, len), (ssize_t)len);
	close(fd);
	return path;
}

START_TEST(the_first_request_loads_a_model_and_fails_with_the_reason_if_it_cannot)
{
	char missing[128];
	snprintf(missing, sizeof missing, "%s/missing.gguf", h.dir);
	ck_assert_int_eq(ask_file("good", h.model), 0);
	ck_assert_int_eq(ask_file("missing", missing), -EHOSTUNREACH);
	snprintf(missing, sizeof missing, "%s/not\xff-utf8.gguf", h.dir);
	ck_assert_int_eq(ask_file("bytes", missing), -EHOSTUNREACH);
	ck_assert_int_eq(ask_file("directory", h.dir), -EHOSTUNREACH);
	ck_assert_int_eq(
		ask_file("garbage", write_file("garbage", "GGUF\3\0\0\0\1\1\1\1", 12)), -EBADMSG);
	ck_assert_int_eq(
		ask_file("old", write_file("old", "GGUF\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20)),
		-ENOTSUP);
}
END_TEST

START_TEST(a_failed_model_is_tried_again_by_the_next_request)
{
	const char *path = write_file("later", "nothing", 7);
	ck_assert_int_lt(ask_file("later", path), 0);
	ck_assert_int_eq(rename(h.model, path), 0);
	struct session *s = gateway_session_find(h.g, "later");
	int status;
	harness_say(s, "hello\n");
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	session_put(s);
}
END_TEST

START_TEST(prices_are_exact_and_a_cached_token_costs_as_a_fresh_one_unless_it_says_otherwise)
{
	static const char *const bad[] = {"-1", "free", "0.0000000001", "1e-6", "1000000001"};
	struct model *m = gateway_model_find(h.g, "tiny");
	struct money_price p;
	struct err err = {0};
	model_price(m, &p);
	ck_assert(p.input == 0 && p.cached == 0 && p.output == 0);
	ck_assert_int_eq(model_setting_set(m, "price_input", "0.15", 4, &err), 0);
	ck_assert_int_eq(model_setting_set(m, "price_output", "0.000000001", 11, &err), 0);
	model_price(m, &p);
	ck_assert(p.input == 150000000 && p.cached == 150000000 && p.output == 1);
	ck_assert_int_eq(model_setting_set(m, "price_cached", "0", 1, &err), 0);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		ck_assert_int_eq(
			model_setting_set(m, "price_input", bad[i], strlen(bad[i]), &err), -EINVAL);
		ck_assert_ptr_nonnull(strstr(err.text, "dollars per million tokens"));
	}
	model_price(m, &p);
	ck_assert(p.input == 150000000 && p.cached == 0 && p.output == 1);
	ck_assert_int_eq(model_setting_set(m, "price_input", "", 0, &err), 0);
	model_price(m, &p);
	ck_assert(p.input == 0 && p.cached == 0 && p.output == 1);
	model_put(m);
}
END_TEST

static void expect_state(struct model *m, const char *word)
{
	struct buf out = {0};
	ck_assert_int_eq(model_render(m, MODEL_STATE, &out), 0);
	ck_assert_msg(!strncmp(out.data, word, strlen(word)), "%s", out.data);
	buf_free(&out);
}

START_TEST(a_failed_model_stays_so_after_a_new_price_and_not_after_a_new_path)
{
	ck_assert_int_lt(ask_file("priced", write_file("nonsense", "nothing", 7)), 0);
	struct model *m = gateway_model_find(h.g, "priced");
	expect_state(m, "failed");
	ck_assert_int_eq(model_setting_set(m, "price_input", "1", 1, NULL), 0);
	expect_state(m, "failed");
	ck_assert_int_eq(model_setting_set(m, "path", h.model, strlen(h.model), NULL), 0);
	expect_state(m, "unloaded");
	model_put(m);
}
END_TEST

START_TEST(a_session_without_a_model_that_could_take_it_is_refused_at_the_write)
{
	struct session *s = harness_session(&h, "a", "2");
	ck_assert_int_eq(gateway_default_set(h.g, NULL, NULL), 0);
	ck_assert_int_eq(harness_say(s, "hello\n"), -EHOSTUNREACH);
	ck_assert_int_eq(gateway_default_set(h.g, "../tiny", NULL), -EINVAL);
	ck_assert_int_eq(gateway_default_set(h.g, "not-yet", NULL), 0);
	ck_assert_int_eq(harness_say(s, "hello\n"), -EHOSTUNREACH);
	ck_assert_int_eq(gateway_model_create(h.g, "not-yet", NULL), 0);
	ck_assert_int_eq(harness_say(s, "hello\n"), -EHOSTUNREACH); /* it has no path */
	ck_assert_int_eq(gateway_default_set(h.g, "tiny", NULL), 0);
	ck_assert_int_eq(harness_say(s, "hello\n"), 0);
	session_put(s);
}
END_TEST

START_TEST(verbs_of_a_model_are_load_unload_and_reset)
{
	struct model *m = gateway_model_find(h.g, "default");
	ck_assert_str_eq(model_name(m), "tiny");
	ck_assert(harness_model_state(m, "unloaded"));
	ck_assert_int_eq(verb(m, "load"), 0);
	ck_assert(harness_model_state(m, "ready"));
	struct buf info = {0};
	ck_assert_int_eq(model_render(m, MODEL_INFO, &info), 0);
	ck_assert_ptr_nonnull(strstr(info.data, "\"architecture\": \"llama\""));
	buf_free(&info);
	ck_assert_int_eq(verb(m, "unload"), 0);
	ck_assert(harness_model_state(m, "unloaded"));
	ck_assert_int_eq(verb(m, "explode"), -EINVAL);
	model_setting_set(m, "path", "", 0, NULL);
	ck_assert_int_eq(verb(m, "load"), -ENOENT);
	model_setting_set(m, "path", "/nowhere", 8, NULL);
	ck_assert_int_eq(verb(m, "load"), 0);
	ck_assert(harness_model_state(m, "failed: "));
	ck_assert_int_eq(verb(m, "reset"), 0);
	ck_assert(harness_model_state(m, "unloaded"));
	model_put(m);
}
END_TEST

START_TEST(names_and_settings_of_models_are_checked)
{
	static const char *const bad[] = {"", "..", "a/b", "default", "a b"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_int_eq(gateway_model_create(h.g, bad[i], NULL), -EINVAL);
	ck_assert_int_eq(gateway_model_create(h.g, "tiny", NULL), -EEXIST);
	ck_assert_int_eq(gateway_model_create(h.g, "auto", NULL), -EEXIST);
	ck_assert_int_eq(gateway_model_create(h.g, "cascade", NULL), -EEXIST);
	ck_assert_int_eq(gateway_model_remove(h.g, "auto", NULL), -EPERM);
	ck_assert_int_eq(gateway_model_remove(h.g, "tiny", NULL), -EBUSY);
	ck_assert_int_eq(gateway_model_remove(h.g, "nobody", NULL), -ENOENT);
	ck_assert_int_eq(model_setting_check("path", "relative", 8, NULL), -EINVAL);
	ck_assert_int_eq(model_setting_check("path", "/a\0b", 4, NULL), -EINVAL);
	ck_assert_int_eq(model_setting_check("template", "jinja", 5, NULL), -EINVAL);
	ck_assert_int_eq(model_setting_check("template", "chatml", 6, NULL), 0);
	ck_assert_int_eq(model_setting_check("color", "red", 3, NULL), -ENOENT);
}
END_TEST

START_TEST(a_model_is_not_its_own_fallback)
{
	struct model *m = gateway_model_find(h.g, "tiny");
	struct err err = {{0}};
	struct buf out = {0};
	ck_assert_int_eq(model_setting_set(m, "fallback", "long tiny", 9, &err), -EINVAL);
	ck_assert_str_eq(err.text, "fallback: tiny is this model itself");
	ck_assert_int_eq(model_setting_get(m, "fallback", &out), 0);
	ck_assert_uint_eq(out.len, 0);
	ck_assert_int_eq(model_setting_set(m, "fallback", "long tiny2", 10, &err), 0);
	buf_free(&out);
	model_put(m);
}
END_TEST

static struct session *busy_session(const char *model)
{
	struct session *s = harness_session(&h, "busy", "15000");
	set(s, "ignore_eos", "1");
	set(s, "model", model);
	harness_say(s, "go on\n");
	ck_assert(harness_status(s, "generating"));
	return s;
}

START_TEST(unloading_ends_what_runs_with_ecanceled)
{
	struct session *s = busy_session("long");
	struct model *m = gateway_model_find(h.g, "long");
	int status;
	ck_assert_int_eq(verb(m, "unload"), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -ECANCELED);
	set(s, "max_tokens", "2");
	harness_say(s, "again\n");
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	model_put(m);
	session_put(s);
}
END_TEST

START_TEST(removing_a_model_ends_what_runs_on_it)
{
	model_put(add_model("other", h.long_model));
	struct session *s = busy_session("other");
	int status;
	ck_assert_int_eq(gateway_model_remove(h.g, "other", NULL), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -ECANCELED);
	ck_assert_int_eq(harness_say(s, "again\n"), -EHOSTUNREACH);
	session_put(s);
}
END_TEST

START_TEST(a_model_file_that_shrinks_fails_its_model_and_not_the_daemon)
{
	struct session *s = busy_session("long");
	struct model *m = gateway_model_find(h.g, "long");
	int status;
	ck_assert_int_eq(truncate(h.long_model, 4096), 0);
	free(harness_read(s, &status));
	if (status == 0) { /* it was faster than we were */
		harness_say(s, "again\n");
		free(harness_read(s, &status));
	}
	ck_assert_int_eq(status, -EBADMSG);
	ck_assert(harness_model_state(m, "failed: "));
	model_put(m);
	session_put(s);
}
END_TEST

START_TEST(a_model_file_that_is_written_to_fails_its_model_until_the_next_load)
{
	static const struct timespec long_ago[2] = {{1000, 0}, {1000, 0}};
	struct session *s = busy_session("long");
	struct model *m = gateway_model_find(h.g, "long");
	int status;
	ck_assert_int_eq(utimensat(AT_FDCWD, h.long_model, long_ago, 0), 0);
	free(harness_read(s, &status));
	if (status == 0) { /* it was faster than we were */
		harness_say(s, "again\n");
		free(harness_read(s, &status));
	}
	ck_assert_int_eq(status, -EIO);
	ck_assert(harness_model_state(m, "failed: the model's file "));
	set(s, "max_tokens", "2");
	harness_say(s, "again\n"); /* loads it */
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert(harness_model_state(m, "ready"));
	ck_assert_int_eq(utimensat(AT_FDCWD, h.long_model, NULL, 0), 0);
	ck_assert(harness_model_state(m, "failed: the model's file "));
	model_put(m);
	session_put(s);
}
END_TEST

START_TEST(an_idle_model_is_unloaded_and_comes_back_by_itself)
{
	harness_close(&h);
	h.options.idle_unload_s = 1;
	harness_open(&h);
	struct session *s = harness_session(&h, "a", "2");
	struct model *m = gateway_model_find(h.g, "tiny");
	int status;
	harness_say(s, "hello\n");
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert(harness_model_state(m, "unloaded"));
	harness_say(s, "hello\n");
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	model_put(m);
	session_put(s);
}
END_TEST

START_TEST(two_users_do_not_share_prefixes)
{
	struct session *s[3];
	static const uid_t uids[3] = {101, 102, 102};
	double cached[3];
	for (int i = 0; i < 3; i++) {
		char id[8];
		int status;
		struct draft *d;
		snprintf(id, sizeof id, "u%d", i);
		s[i] = harness_session(&h, id, "2");
		draft_new(&d, s[i], uids[i], NULL);
		draft_write(
			d, "a prompt that is long enough for two blocks of the cache\n", 57, NULL);
		draft_commit(d);
		free(harness_read(s[i], &status));
		cached[i] = harness_usage(s[i], "cached_tokens");
		session_put(s[i]);
	}
	ck_assert(cached[0] == 0);
	ck_assert(cached[1] == 0);
	ck_assert(cached[2] >= 32);
}
END_TEST

static void add_tests(TCase *t)
{
	tcase_add_test(t, the_first_request_loads_a_model_and_fails_with_the_reason_if_it_cannot);
	tcase_add_test(t, a_failed_model_is_tried_again_by_the_next_request);
	tcase_add_test(t, a_session_without_a_model_that_could_take_it_is_refused_at_the_write);
	tcase_add_test(t, verbs_of_a_model_are_load_unload_and_reset);
	tcase_add_test(t, names_and_settings_of_models_are_checked);
	tcase_add_test(t, a_model_is_not_its_own_fallback);
	tcase_add_test(t, unloading_ends_what_runs_with_ecanceled);
	tcase_add_test(t, removing_a_model_ends_what_runs_on_it);
	tcase_add_test(t, a_model_file_that_shrinks_fails_its_model_and_not_the_daemon);
	tcase_add_test(t, a_model_file_that_is_written_to_fails_its_model_until_the_next_load);
	tcase_add_test(t, an_idle_model_is_unloaded_and_comes_back_by_itself);
	tcase_add_test(t,
		prices_are_exact_and_a_cached_token_costs_as_a_fresh_one_unless_it_says_otherwise);
	tcase_add_test(t, a_failed_model_stays_so_after_a_new_price_and_not_after_a_new_path);
	tcase_add_test(t, two_users_do_not_share_prefixes);
}

int main(void)
{
	Suite *suite = suite_create("models");
	TCase *t = tcase_create("models");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	add_tests(t);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
