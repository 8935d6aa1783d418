/* SPDX-License-Identifier: Apache-2.0 */
/* The engine in this process as a provider: a model that gives embeddings, and one that does not.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/provider.h"
#include "tests/engine/tiny_bert.h"
#include "tests/engine/tiny_llama.h"
#include "tests/run_suite.h"

static char path[] = "/tmp/test_local_embed.XXXXXX";
static struct err err;

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int n_done, status;
	size_t dim;
	uint64_t prompt_tok;
	float length[2];
} got = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void done(void *arg, int status, const char *sentence, const float *vectors, size_t dim,
	const struct trace_usage *usage)
{
	pthread_mutex_lock(&got.lock);
	ck_assert_ptr_eq(arg, &got);
	got.status = status;
	got.dim = dim;
	got.prompt_tok = usage->prompt_tok;
	for (size_t i = 0; i < 2 * dim; i++)
		got.length[i / dim] += vectors[i] * vectors[i];
	got.n_done++;
	pthread_cond_signal(&got.changed);
	pthread_mutex_unlock(&got.lock);
}

static void *load(void)
{
	struct provider_config config = {.path = path, .n_threads = 1};
	void *handle = NULL;

	ck_assert_msg(local_provider.load(&handle, &config, NULL, &err) == 0, "%s", err.text);
	unlink(path);
	return handle;
}

static const char *const texts[] = {"the cat", "a mat."};
static const size_t lens[] = {7, 6};
static const struct provider_embed question = {
	.texts = texts, .lens = lens, .n = 2, .done = done, .arg = &got};

START_TEST(encoder_embeds_and_does_not_answer)
{
	struct tiny_bert shape = {.cls = true};
	struct provider_limits limits;
	struct provider_message message = {PROVIDER_USER, "hi", 2};
	struct provider_prompt prompt = {0};
	struct buf info = {0};
	uint64_t id = 0;

	close(mkstemp(path));
	tiny_bert_write(&shape, path);
	void *handle = load();
	local_provider.limits(handle, &limits);
	ck_assert(!limits.answers && limits.embeds && limits.counts);
	ck_assert_uint_eq(limits.embedding_dim, 64);
	ck_assert_uint_eq(limits.context_tok, 48);
	ck_assert_int_eq(local_provider.render(handle, &message, 1, &prompt, &err), -ENOTSUP);
	ck_assert_msg(strstr(err.text, "embedding model") != NULL, "%s", err.text);
	ck_assert_int_eq(local_provider.info(handle, &info), 0);
	ck_assert_msg(strstr(info.data, "\"pooling\": \"cls\"") != NULL, "%s", info.data);
	ck_assert_ptr_null(strstr(info.data, "template"));

	ck_assert_msg(local_provider.embed(handle, &question, &id, &err) == 0, "%s", err.text);
	pthread_mutex_lock(&got.lock);
	while (got.n_done == 0)
		pthread_cond_wait(&got.changed, &got.lock);
	pthread_mutex_unlock(&got.lock);
	ck_assert_int_eq(got.status, 0);
	ck_assert_uint_eq(got.dim, 64);
	ck_assert_uint_eq(got.prompt_tok, 4 + 5);
	ck_assert_float_eq_tol(got.length[0], 1, 1e-5f);
	ck_assert_float_eq_tol(got.length[1], 1, 1e-5f);
	local_provider.cancel_embed(handle, id); /* it is over */
	local_provider.unload(handle);
	ck_assert_int_eq(got.n_done, 1);
	buf_free(&info);
}
END_TEST

START_TEST(decoder_answers_and_does_not_embed)
{
	struct tiny_llama shape = {0};
	struct provider_limits limits;
	uint64_t id;

	close(mkstemp(path));
	tiny_llama_write(&shape, path);
	void *handle = load();
	local_provider.limits(handle, &limits);
	ck_assert(limits.answers && !limits.embeds);
	ck_assert_uint_eq(limits.embedding_dim, 0);
	ck_assert_int_eq(local_provider.embed(handle, &question, &id, &err), -ENOTSUP);
	ck_assert_int_eq(got.n_done, 0);
	local_provider.unload(handle);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("local_embed");
	TCase *t = tcase_create("local_embed");

	tcase_add_test(t, encoder_embeds_and_does_not_answer);
	tcase_add_test(t, decoder_answers_and_does_not_embed);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return run_suite(s);
}
