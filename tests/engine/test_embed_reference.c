/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: test_embed_reference MODEL.gguf FIXTURES/embed
 *
 * Our embeddings against those of sentence-transformers: the cosine of each of 200 texts is at
 * least 0.9999. What the fixtures are stands in tests/reference/make_embed_fixtures.py; the model
 * is made by tools/minilm/to_gguf.py, which reference.py does before it runs this.
 */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/quant.h"
#include "tests/run_suite.h"

#define MIN_TEXTS 200
#define LEAST_COSINE 0.9999

static const char *model_path, *folder;

struct texts {
	unsigned char *bytes;
	uint32_t n;
	const char **text;
	size_t *len;
};

static unsigned char *read_file(const char *name, size_t *n)
{
	char path[512];
	unsigned char *bytes;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *f = fopen(path, "rb");
	ck_assert_msg(f != NULL, "%s: %s", path, strerror(errno));
	ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
	*n = (size_t)ftell(f);
	rewind(f);
	bytes = malloc(*n + 1);
	ck_assert_uint_eq(fread(bytes, 1, *n, f), *n);
	fclose(f);
	return bytes;
}

static struct texts read_texts(void)
{
	struct texts t = {0};
	size_t n, at = 4;

	t.bytes = read_file("sentences.bin", &n);
	memcpy(&t.n, t.bytes, 4);
	ck_assert_uint_ge(t.n, MIN_TEXTS);
	t.text = calloc(t.n, sizeof(*t.text));
	t.len = calloc(t.n, sizeof(*t.len));
	for (uint32_t i = 0; i < t.n; i++) {
		uint32_t len;

		memcpy(&len, t.bytes + at, 4);
		t.text[i] = (const char *)t.bytes + at + 4;
		t.len[i] = len;
		at += 4 + len;
	}
	ck_assert_uint_eq(at, n);
	return t;
}

/* ---- asking ---- */

struct result {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool over;
	int status;
	float *vectors;
	size_t bytes;
};

static void take(void *arg, int status, const char *sentence, const float *vectors,
	const struct engine_usage *usage)
{
	struct result *r = arg;

	pthread_mutex_lock(&r->lock);
	r->status = status;
	if (vectors)
		memcpy(r->vectors, vectors, r->bytes);
	r->over = true;
	pthread_cond_signal(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static float *embed(struct engine *e, const struct texts *t)
{
	struct result r = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0, NULL,
		(size_t)t->n * engine_info(e)->n_embd * sizeof(float)};
	struct engine_embed q = {t->text, t->len, t->n, take, &r};
	struct err err = {""};

	r.vectors = malloc(r.bytes);
	ck_assert_msg(engine_embed(e, &q, NULL, &err) == 0, "%s", err.text);
	pthread_mutex_lock(&r.lock);
	while (!r.over)
		pthread_cond_wait(&r.changed, &r.lock);
	pthread_mutex_unlock(&r.lock);
	ck_assert_int_eq(r.status, 0);
	return r.vectors;
}

START_TEST(directions_are_those_of_sentence_transformers)
{
	struct err err = {""};
	struct texts t = read_texts();
	struct engine *e = NULL;
	size_t n;
	unsigned char *expected = read_file("vectors.f16", &n);

	ck_assert_msg(engine_open(&e, model_path, NULL, NULL, &err) == 0, "%s", err.text);
	uint32_t dim = engine_info(e)->n_embd, worst_at = 0;
	double worst = 2, sum = 0;
	ck_assert_uint_eq(n, (size_t)t.n * dim * 2);
	float *got = embed(e, &t);
	for (uint32_t i = 0; i < t.n; i++) {
		double dot = 0, a = 0, b = 0;
		for (uint32_t d = 0; d < dim; d++) {
			uint16_t half;
			memcpy(&half, expected + ((size_t)i * dim + d) * 2, 2);
			double x = (double)got[(size_t)i * dim + d],
			       y = (double)quant_f16_to_f32(half);
			dot += x * y;
			a += x * x;
			b += y * y;
		}
		ck_assert_double_eq_tol(a, 1, 1e-5);
		double cosine = dot / sqrt(a * b);
		sum += cosine;
		if (!(cosine >= worst)) {
			worst = cosine;
			worst_at = i;
		}
	}
	printf("%u texts: cosine %.7f on the average, %.7f at least (text %u)\n", t.n, sum / t.n,
		worst, worst_at);
	ck_assert_msg(worst >= LEAST_COSINE, "text %u: cosine %.6f: %.*s", worst_at, worst,
		(int)t.len[worst_at], t.text[worst_at]);
	engine_free(e);
	free(got);
	free(expected);
	free(t.bytes);
	free(t.text);
	free(t.len);
}
END_TEST

int main(int argc, char **argv)
{
	if (argc != 3) {
		fputs("usage: test_embed_reference MODEL.gguf FOLDER\n", stderr);
		return 2;
	}
	if (run_suite_has_one_thread()) /* test_embed has the threads */
		return 77;
	model_path = argv[1];
	folder = argv[2];
	Suite *s = suite_create("embed_reference");
	TCase *t = tcase_create("embed_reference");

	tcase_add_test(t, directions_are_those_of_sentence_transformers);
	tcase_set_timeout(t, 240);
	suite_add_tcase(s, t);
	return run_suite(s);
}
