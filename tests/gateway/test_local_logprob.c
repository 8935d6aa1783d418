/* SPDX-License-Identifier: Apache-2.0 */
/* How sure a local model was of its answer: known to a cascade, and paid for by nobody else. The
 * engine is asked by way of a wrapper that looks at what it is asked for. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "gateway/provider.h"
#include "tests/engine/tiny_llama.h"
#include "tests/gateway/harness.h"
#include "tests/run_suite.h"

static atomic_int n_asked, n_with;

int __real_engine_submit(
	struct engine *e, const struct engine_request *request, uint64_t *id, struct err *err);
int __wrap_engine_submit(
	struct engine *e, const struct engine_request *request, uint64_t *id, struct err *err);

int __wrap_engine_submit(
	struct engine *e, const struct engine_request *request, uint64_t *id, struct err *err)
{
	ck_assert_uint_eq(request->n_top_logprobs, 0);
	atomic_fetch_add(&n_asked, 1);
	atomic_fetch_add(&n_with, request->logprobs);
	return __real_engine_submit(e, request, id, err);
}

/* ---- the provider ---- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool ended;
	float before_end, mean;
	uint64_t output_tok;
} got = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void event(void *arg, const struct provider_event *e)
{
	pthread_mutex_lock(&got.lock);
	if (e->kind == PROVIDER_END) {
		ck_assert_int_eq(e->status, 0);
		got.ended = true;
		got.mean = e->mean_logprob;
		got.output_tok = e->usage.output_tok;
		pthread_cond_signal(&got.changed);
	}
	pthread_mutex_unlock(&got.lock);
}

static float mean_of(void *handle, bool wanted)
{
	const struct provider_message message = {PROVIDER_USER, "hi", 2};
	struct provider_prompt prompt = {0};
	struct provider_request q = {.prompt = &prompt,
		.top_p = 1,
		.max_tokens = 12,
		.ignore_eos = true,
		.wants_logprob = wanted,
		.event = event};
	struct err err = {0};
	uint64_t id;

	ck_assert_int_eq(local_provider.render(handle, &message, 1, &prompt, &err), 0);
	got.ended = false;
	ck_assert_msg(local_provider.submit(handle, &q, &id, &err) == 0, "%s", err.text);
	pthread_mutex_lock(&got.lock);
	while (!got.ended)
		pthread_cond_wait(&got.changed, &got.lock);
	pthread_mutex_unlock(&got.lock);
	ck_assert_uint_eq(got.output_tok, 12);
	free(prompt.data);
	return got.mean;
}

START_TEST(mean_log_probability_comes_when_it_is_wanted_and_only_then)
{
	static char path[] = "/tmp/test_local_logprob.XXXXXX";
	struct tiny_llama shape = {.seed = 7};
	struct err err = {0};
	void *handle = NULL;

	close(mkstemp(path));
	tiny_llama_write(&shape, path);
	struct provider_config config = {.path = path, .n_threads = 1};
	ck_assert_msg(local_provider.load(&handle, &config, NULL, &err) == 0, "%s", err.text);
	unlink(path);

	ck_assert(isnan(mean_of(handle, false)));
	ck_assert_int_eq(n_with, 0);
	float mean = mean_of(handle, true);
	ck_assert_int_eq(n_with, 1);
	/* The most likely of 320 tokens each time: more likely than one in 320. */
	ck_assert_msg(mean < 0 && mean > -logf(320), "%g", (double)mean);
	ck_assert(isnan(mean_of(handle, false)));
	local_provider.unload(handle);
}
END_TEST

/* ---- a cascade ---- */

static struct harness h;

static void setup(void)
{
	harness_make(&h, 0);
	harness_open(&h);
	atomic_store(&n_asked, 0);
	atomic_store(&n_with, 0);
}

static void teardown(void)
{
	harness_end(&h);
}

static void set(struct session *s, const char *file, const char *value)
{
	ck_assert_int_eq(session_setting_set(s, file, value, strlen(value), NULL), 0);
}

static void ask(struct session *s)
{
	int status;

	ck_assert_int_eq(harness_say(s, "hello\n"), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert(harness_status(s, "done"));
}

START_TEST(cascade_over_local_models_knows_how_sure_they_were)
{
	struct session *s = harness_session(&h, "sure", "8");

	ck_assert_int_eq(
		gateway_part_setting_set(h.g, GATEWAY_ROUTER, "threshold", "1", 1, NULL), 0);
	set(s, "model", "cascade");
	set(s, "ignore_eos", "1");
	ask(s);
	/* A random model wavers between its tokens: the first answer is not good enough. The last
	 * one's is given whatever it is, so that nobody asks how sure it was. */
	ck_assert_int_eq(n_asked, 2);
	ck_assert_int_eq(n_with, 1);
	char *trace = harness_view(s, SESSION_TRACE);
	ck_assert_msg(strstr(trace, ", mean log-probability -"), "%s", trace);
	ck_assert_msg(strstr(trace, "below the threshold of 1.00"), "%s", trace);
	free(trace);
	session_put(s);
}
END_TEST

START_TEST(plain_request_does_not_pay_for_log_probabilities)
{
	struct session *s = harness_session(&h, "plain", "8");

	ask(s);
	set(s, "model", "auto");
	ask(s);
	ck_assert_int_eq(n_asked, 2);
	ck_assert_int_eq(n_with, 0);
	char *trace = harness_view(s, SESSION_TRACE);
	ck_assert_ptr_null(strstr(trace, "log-probability"));
	free(trace);
	session_put(s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("local_logprob");
	TCase *provider = tcase_create("provider"), *cascade = tcase_create("cascade");

	tcase_add_test(provider, mean_log_probability_comes_when_it_is_wanted_and_only_then);
	tcase_add_checked_fixture(cascade, setup, teardown);
	tcase_add_test(cascade, cascade_over_local_models_knows_how_sure_they_were);
	tcase_add_test(cascade, plain_request_does_not_pay_for_log_probabilities);
	tcase_set_timeout(provider, 60);
	tcase_set_timeout(cascade, 60);
	suite_add_tcase(s, provider);
	suite_add_tcase(s, cascade);
	return run_suite(s);
}
