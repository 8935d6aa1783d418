/* SPDX-License-Identifier: Apache-2.0 */
/* Embeddings through the engine's door. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/engine/engine_harness.h"
#include "tests/engine/tiny_bert.h"
#include "tests/run_suite.h"

#define DIM 64
#define MAX_TEXTS 64

struct vectors {
	int n_done, status;
	char sentence[128];
	size_t n;
	float v[MAX_TEXTS][DIM];
	struct engine_usage usage;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct err err;

static void take(void *arg, int status, const char *sentence, const float *vectors,
	const struct engine_usage *usage)
{
	struct vectors *v = arg;

	pthread_mutex_lock(&lock);
	v->n_done++;
	v->status = status;
	v->usage = *usage;
	snprintf(v->sentence, sizeof(v->sentence), "%s", sentence);
	if (status == 0)
		memcpy(v->v, vectors, v->n * sizeof(v->v[0]));
	else
		ck_assert_ptr_null(vectors);
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static int ask(struct engine *e, struct vectors *v, const char *const *texts, size_t n)
{
	size_t lens[MAX_TEXTS];
	struct engine_embed q = {texts, lens, n, take, v};

	memset(v, 0, sizeof(*v));
	v->n = n;
	for (size_t i = 0; i < n; i++)
		lens[i] = strlen(texts[i]);
	return engine_embed(e, &q, NULL, &err);
}

static void wait_for(struct vectors *v)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 60;
	pthread_mutex_lock(&lock);
	while (v->n_done == 0 && r == 0)
		r = pthread_cond_timedwait(&changed, &lock, &until);
	pthread_mutex_unlock(&lock);
	ck_assert_msg(r == 0, "no vectors within a minute");
}

static void embed(struct engine *e, struct vectors *v, const char *const *texts, size_t n)
{
	ck_assert_msg(ask(e, v, texts, n) == 0, "%s", err.text);
	wait_for(v);
	ck_assert_msg(v->status == 0, "%s", v->sentence);
}

static int open_file(
	struct engine **e, const struct tiny_bert *shape, const struct engine_options *options)
{
	char path[] = "/tmp/tiny-bert-XXXXXX";
	int fd = mkstemp(path), r;

	ck_assert_int_ge(fd, 0);
	close(fd);
	tiny_bert_write(shape, path);
	r = engine_open(e, path, options, NULL, &err);
	unlink(path);
	return r;
}

static struct engine *open_tiny(const struct engine_options *options)
{
	struct tiny_bert shape = {.seed = 11};
	struct engine *e = NULL;

	ck_assert_msg(open_file(&e, &shape, options) == 0, "%s", err.text);
	return e;
}

static const char *const some[] = {"the cat sat on a mat.", "", "Caf\xc3\xa9!", "walking, reading",
	"a", "the the the the the the the the the the the the the the the the the the", "qqq zzz"};

#define N_SOME (sizeof(some) / sizeof(some[0]))

START_TEST(info_says_what_it_is)
{
	struct engine *e = open_tiny(NULL);
	const struct engine_info *i = engine_info(e);

	ck_assert(i->is_encoder);
	ck_assert_str_eq(i->architecture, "bert");
	ck_assert_str_eq(i->tokenizer, "bert");
	ck_assert_str_eq(i->pooling, "mean");
	ck_assert_str_eq(i->chat_family, "");
	ck_assert_str_eq(i->file_type, "F32");
	ck_assert_str_eq(i->name, "tiny encoder");
	ck_assert_uint_eq(i->n_embd, DIM);
	ck_assert_uint_eq(i->context_tok, 48);
	ck_assert_uint_eq(i->kv_blocks, 0);
	ck_assert_uint_eq(i->kv_bytes, 0);
	engine_free(e);

	struct tiny_llama llama = {0};
	e = harness_open(&llama, NULL);
	ck_assert(!engine_info(e)->is_encoder);
	ck_assert_str_eq(engine_info(e)->pooling, "");
	engine_free(e);
}
END_TEST

START_TEST(vectors_have_length_one_and_differ)
{
	struct engine *e = open_tiny(NULL);
	struct vectors v;

	embed(e, &v, some, N_SOME);
	for (size_t i = 0; i < N_SOME; i++) {
		double length = 0;
		for (size_t d = 0; d < DIM; d++)
			length += (double)v.v[i][d] * (double)v.v[i][d];
		ck_assert_double_eq_tol(length, 1, 1e-5);
		for (size_t k = 0; k < i; k++)
			ck_assert(memcmp(v.v[i], v.v[k], sizeof(v.v[i])) != 0);
	}
	ck_assert_uint_eq(v.usage.output_tok, 0);
	engine_free(e);
}
END_TEST

START_TEST(batched_and_single_are_the_same_bits)
{
	/* a step holds 48 rows, the longest text, so one request takes several */
	struct engine_options o = {.step_budget_tok = 48, .max_sequences = 3};
	struct engine *e = open_tiny(&o), *wide = open_tiny(NULL);
	static struct vectors together, again, alone;
	const char *texts[MAX_TEXTS];

	for (size_t i = 0; i < MAX_TEXTS; i++)
		texts[i] = some[i % N_SOME];
	embed(e, &together, texts, MAX_TEXTS);
	embed(wide, &again, texts, MAX_TEXTS);
	ck_assert_mem_eq(together.v, again.v, sizeof(together.v));
	for (size_t i = 0; i < N_SOME; i++) {
		embed(e, &alone, &texts[i], 1);
		ck_assert_mem_eq(together.v[i], alone.v[0], sizeof(alone.v[0]));
		ck_assert_mem_eq(together.v[i + N_SOME], alone.v[0], sizeof(alone.v[0]));
	}
	engine_free(e);
	engine_free(wide);
}
END_TEST

static struct {
	pthread_mutex_t lock;
	int n_done, n_cancelled;
} counted = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void count(void *arg, int status, const char *sentence, const float *vectors,
	const struct engine_usage *usage)
{
	pthread_mutex_lock(&counted.lock); /* held by the test, it holds the worker */
	counted.n_done++;
	counted.n_cancelled += status == -ECANCELED && sentence[0];
	pthread_mutex_unlock(&counted.lock);
}

START_TEST(requests_that_wait_share_steps)
{
	enum { N = 60 };
	struct engine *e = open_tiny(NULL);
	static struct vectors v[N], alone;
	struct engine_stats s;
	size_t len = strlen(some[0]);
	struct engine_embed first = {some, &len, 1, count, NULL};

	pthread_mutex_lock(&counted.lock); /* the worker stops in the first one's callback */
	ck_assert_int_eq(engine_embed(e, &first, NULL, &err), 0);
	for (size_t i = 0; i < N; i++)
		ck_assert_int_eq(ask(e, &v[i], &some[i % N_SOME], 1), 0);
	pthread_mutex_unlock(&counted.lock);
	for (size_t i = 0; i < N; i++)
		wait_for(&v[i]);
	engine_stats(e, &s);
	ck_assert_uint_le(s.steps, 5);
	ck_assert_uint_eq(s.waiting + s.running, 0);
	for (size_t i = 0; i < N; i++) {
		embed(e, &alone, &some[i % N_SOME], 1);
		ck_assert_mem_eq(v[i].v[0], alone.v[0], sizeof(alone.v[0]));
		ck_assert_int_eq(v[i].n_done, 1);
		ck_assert_uint_eq(v[i].usage.prompt_tok, alone.usage.prompt_tok);
	}
	engine_free(e);
}
END_TEST

START_TEST(what_is_cancelled_leaves_the_queue_and_the_rest_goes_on)
{
	struct engine *e = open_tiny(NULL);
	static struct vectors v[3], alone;
	size_t len = strlen(some[0]);
	struct engine_embed first = {some, &len, 1, count, NULL};
	struct engine_embed middle = {some, &len, 1, take, &v[1]};
	uint64_t id;

	pthread_mutex_lock(&counted.lock); /* the worker stops in the first one's callback */
	ck_assert_int_eq(engine_embed(e, &first, NULL, &err), 0);
	ck_assert_int_eq(ask(e, &v[0], some, 1), 0);
	memset(&v[1], 0, sizeof(v[1]));
	ck_assert_int_eq(engine_embed(e, &middle, &id, &err), 0);
	ck_assert_int_eq(ask(e, &v[2], some, 1), 0);
	engine_cancel(e, id);
	engine_cancel(e, id);
	engine_cancel(e, 0);
	pthread_mutex_unlock(&counted.lock);
	for (size_t i = 0; i < 3; i++)
		wait_for(&v[i]);
	ck_assert_int_eq(v[1].status, -ECANCELED);
	ck_assert_str_eq(v[1].sentence, "cancelled");
	embed(e, &alone, some, 1);
	ck_assert_mem_eq(v[0].v[0], alone.v[0], sizeof(alone.v[0]));
	ck_assert_mem_eq(v[2].v[0], alone.v[0], sizeof(alone.v[0]));
	engine_cancel(e, id); /* it is over */
	engine_free(e);
	for (size_t i = 0; i < 3; i++)
		ck_assert_int_eq(v[i].n_done, 1);
}
END_TEST

START_TEST(whenever_it_is_cancelled_it_has_one_end)
{
	struct engine_options o = {.step_budget_tok = 48, .max_sequences = 3};
	struct engine *e = open_tiny(&o);
	static struct vectors v;
	const char *texts[MAX_TEXTS];
	size_t lens[MAX_TEXTS];
	struct engine_stats s;
	int n_cancelled = 0;

	for (size_t i = 0; i < MAX_TEXTS; i++) {
		texts[i] = some[i % N_SOME];
		lens[i] = strlen(texts[i]);
	}
	for (int i = 0; i < 200; i++) {
		struct engine_embed q = {texts, lens, MAX_TEXTS, take, &v};
		uint64_t id;

		memset(&v, 0, sizeof(v));
		v.n = MAX_TEXTS;
		ck_assert_int_eq(engine_embed(e, &q, &id, &err), 0);
		usleep((useconds_t)(i * 10));
		engine_cancel(e, id);
		wait_for(&v);
		ck_assert(v.status == 0 || v.status == -ECANCELED);
		n_cancelled += v.status != 0;
	}
	engine_stats(e, &s);
	ck_assert_uint_eq(s.waiting + s.running, 0);
	engine_free(e);
	ck_assert_int_eq(v.n_done, 1);
	ck_assert_int_gt(n_cancelled, 0);
}
END_TEST

START_TEST(longer_text_is_its_beginning)
{
	struct engine_options o = {.context_tok = 10};
	struct engine *e = open_tiny(&o);
	static struct vectors v;
	static const char *const texts[] = {"the cat sat on a mat. the cat sat",
		"the cat sat on a mat. the", "the cat sat on a mat. the cats ? ! walking",
		"the cat sat on a mat."};

	ck_assert_uint_eq(engine_info(e)->context_tok, 10);
	embed(e, &v, texts, 4); /* eight tokens count */
	ck_assert_mem_eq(v.v[0], v.v[2], sizeof(v.v[0]));
	ck_assert_mem_eq(v.v[0], v.v[1], sizeof(v.v[0]));
	ck_assert(memcmp(v.v[0], v.v[3], sizeof(v.v[0])) != 0);
	ck_assert_uint_eq(v.usage.prompt_tok, 10 + 10 + 10 + 9);
	engine_free(e);
}
END_TEST

START_TEST(what_is_no_request_is_refused)
{
	struct engine *e = open_tiny(NULL);
	static struct vectors v;
	static const char *many[ENGINE_EMBED_MAX + 1];
	static size_t lens[ENGINE_EMBED_MAX + 1];
	const char *bad = "a\xc3";

	ck_assert_int_eq(ask(e, &v, some, 0), -EINVAL);
	ck_assert_int_eq(ask(e, &v, &bad, 1), -EILSEQ);
	for (size_t i = 0; i <= ENGINE_EMBED_MAX; i++)
		many[i] = "a";
	struct engine_embed q = {many, lens, ENGINE_EMBED_MAX + 1, take, &v};
	ck_assert_int_eq(engine_embed(e, &q, NULL, &err), -EINVAL);
	ck_assert_int_eq(v.n_done, 0);
	engine_free(e);
}
END_TEST

START_TEST(queue_has_an_end_and_each_request_one_callback)
{
	struct engine *e = open_tiny(NULL);
	static const char *many[ENGINE_EMBED_MAX];
	static size_t lens[ENGINE_EMBED_MAX];
	struct engine_embed q = {many, lens, ENGINE_EMBED_MAX, count, NULL};
	int n = 0, r = 0;

	for (size_t i = 0; i < ENGINE_EMBED_MAX; i++)
		many[i] = "";
	pthread_mutex_lock(&counted.lock);
	for (; n < 100 && r == 0; n += r == 0)
		r = engine_embed(e, &q, NULL, &err);
	ck_assert_int_eq(r, -EAGAIN);
	ck_assert_msg(strstr(err.text, "wait for this model") != NULL, "%s", err.text);
	ck_assert_int_ge(n, 16);
	pthread_mutex_unlock(&counted.lock);
	engine_free(e);
	ck_assert_int_eq(counted.n_done, n);
	ck_assert_int_ge(counted.n_cancelled, 1);
}
END_TEST

START_TEST(encoder_gives_no_answers_and_decoder_no_embeddings)
{
	struct engine *e = open_tiny(NULL);
	struct engine_message m = {ENGINE_USER, "hi", 2};
	struct engine_tokens t = {0};
	struct answer a;
	static struct vectors v;
	uint32_t ids[] = {2, 3};
	struct engine_request r = harness_request(&a, ids, 2);
	uint64_t id;

	ck_assert_int_eq(engine_render(e, &m, 1, true, &t, &err), -ENOTSUP);
	ck_assert_msg(strstr(err.text, "use its file embed") != NULL, "%s", err.text);
	ck_assert_int_eq(engine_submit(e, &r, &id, &err), -ENOTSUP);
	ck_assert_msg(strstr(err.text, "use its file embed") != NULL, "%s", err.text);
	engine_cancel(e, 7);
	ck_assert_int_eq(engine_tokenize(e, "the cats", 8, &t, &err), 0);
	ck_assert_uint_eq(t.n, 3);
	struct buf text = {0};
	ck_assert_int_eq(engine_detokenize(e, t.ids, t.n, &text), 0);
	ck_assert_str_eq(text.data, " the cats");
	buf_free(&text);
	free(t.ids);
	engine_free(e);

	struct tiny_llama llama = {0};
	e = harness_open(&llama, NULL);
	ck_assert_int_eq(ask(e, &v, some, 1), -ENOTSUP);
	ck_assert_msg(strstr(err.text, "no embeddings") != NULL, "%s", err.text);
	engine_free(e);
}
END_TEST

START_TEST(file_that_lies_is_not_opened)
{
	static const struct {
		struct tiny_bert shape;
		int status;
		const char *says;
	} lies[] = {
		{{.n_tokens = 200}, -EBADMSG, "the tokenizer has 200 tokens"},
		{{.bent = "blk.0.attn_v.weight"}, -EBADMSG, "blk.0.attn_v.weight"},
		{{.pooling = 4}, -ENOTSUP, "bert.pooling_type 4"},
		{{.no_sizes = true}, -EBADMSG, "bert.embedding_length"},
	};
	struct engine *e;

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		ck_assert_int_eq(open_file(&e, &lies[i].shape, NULL), lies[i].status);
		ck_assert_msg(strstr(err.text, lies[i].says) != NULL, "%s", err.text);
		ck_assert_ptr_null(e);
	}
	struct engine_options o = {.context_tok = 2};
	struct tiny_bert shape = {0};
	ck_assert_int_eq(open_file(&e, &shape, &o), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("embed");
	TCase *t = tcase_create("embed");

	tcase_add_test(t, info_says_what_it_is);
	tcase_add_test(t, vectors_have_length_one_and_differ);
	tcase_add_test(t, batched_and_single_are_the_same_bits);
	tcase_add_test(t, requests_that_wait_share_steps);
	tcase_add_test(t, what_is_cancelled_leaves_the_queue_and_the_rest_goes_on);
	tcase_add_test(t, whenever_it_is_cancelled_it_has_one_end);
	tcase_add_test(t, longer_text_is_its_beginning);
	tcase_add_test(t, what_is_no_request_is_refused);
	tcase_add_test(t, queue_has_an_end_and_each_request_one_callback);
	tcase_add_test(t, encoder_gives_no_answers_and_decoder_no_embeddings);
	tcase_add_test(t, file_that_lies_is_not_opened);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return run_suite(s);
}
