/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's logits against those of the transformers library, on the models of
 * tests/fixtures/logits (tests/engine/test_logits.c does the same with the processor): biases, tied
 * outputs, every scaling of positions. A prompt in one step, then greedy tokens one by one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda_door.h"
#include "engine/gguf.h"
#include "tests/simt/device_models.h"

#define MAX_PROMPT 64
#define MAX_GREEDY 64

/* tolerance: of the largest difference, in parts of the range of all logits. */
static const struct {
	const char *name;
	double tolerance;
	bool greedy; /* the tokens must be the same */
} fixtures[] = {
	{"f32-mha-untied", 1e-4, true},
	{"f32-gqa-tied-bias", 1e-4, true},
	{"f32-gqa-untied-linear", 1e-4, true},
	{"f32-mqa-tied-llama3", 1e-4, true},
	{"f32-gqa-llama3-by-keys", 1e-4, true},
	{"f32-wide-heads-theta", 1e-4, true},
	{"f16-gqa-untied", 2e-3, false},
	{"f16-mha-tied-llama3", 2e-3, false},
	{"bf16-mha-tied-linear", 1.5e-2, false},
	{"bf16-gqa-untied-bias", 1.5e-2, false},
	{"q8_0-gqa-untied", 4e-2, false},
	{"q4_0-mha-tied-bias", 4e-2, false},
};

struct expected {
	uint32_t n_prompt, n_greedy, n_vocab;
	uint32_t prompt[MAX_PROMPT], greedy[MAX_GREEDY];
	float *logits; /* [n_prompt][n_vocab] */
};

/* LLMFS_FIXTURES is where they are when this was built elsewhere. */
static void path_of(char *path, size_t size, const char *name, const char *what)
{
	const char *folder = getenv("LLMFS_FIXTURES");

	snprintf(path, size, "%s/%s.%s", folder ? folder : FIXTURES, name, what);
}

static struct expected read_expected(const char *name)
{
	struct expected e;
	char path[1024];

	path_of(path, sizeof(path), name, "expected");
	FILE *f = fopen(path, "rb");
	EXPECT(f != NULL);
	EXPECT(fread(&e, sizeof(uint32_t), 3, f) == 3);
	EXPECT(e.n_prompt <= MAX_PROMPT && e.n_greedy <= MAX_GREEDY);
	size_t n = (size_t)e.n_prompt * e.n_vocab;
	e.logits = malloc(n * sizeof(*e.logits));
	EXPECT(e.logits != NULL);
	EXPECT(fread(e.prompt, sizeof(uint32_t), e.n_prompt, f) == e.n_prompt);
	EXPECT(fread(e.greedy, sizeof(uint32_t), e.n_greedy, f) == e.n_greedy);
	EXPECT(fread(e.logits, sizeof(float), n, f) == n);
	fclose(f);
	return e;
}

static struct device_models open_fixture(const char *name)
{
	struct model_options o = {
		.n_threads = 1,
		.max_rows = MAX_PROMPT,
		.max_logit_rows = MAX_PROMPT,
		.kv_blocks = 8,
	};
	struct device_models d = {0};
	struct err err = {""};
	char path[1024];

	path_of(path, sizeof(path), name, "gguf");
	int r = gguf_open(&d.gguf, path, 0, &err);
	if (r == 0)
		r = cuda_door_backend(&o.backend, 0, &err);
	if (r == 0)
		r = model_new(&d.gpu, d.gguf, &o, &err);
	if (r < 0)
		kernel_test_fail(__FILE__, __LINE__, "%s", err.text);
	d.n_vocab = model_config(d.gpu)->n_vocab;
	return d;
}

/* How many of the expected greedy tokens come, one after another. */
static uint32_t greedy_tokens(const struct device_models *d, const struct expected *e, uint32_t id,
	const uint32_t *blocks)
{
	uint32_t n = 0;

	for (; n < e->n_greedy && id == e->greedy[n]; n++) {
		struct batch_run run = device_models_run(&id, e->n_prompt + n, 1, 0, 1);

		run.blocks = blocks;
		float *logits = device_models_logits(d, d->gpu, &run, 1);
		id = device_models_best(logits, d->n_vocab);
		free(logits);
	}
	return n;
}

KERNEL_TEST(logits_are_those_of_transformers)
{
	static const uint32_t blocks[] = {7, 2, 5, 0, 6, 1, 4, 3};
	static int n_runs;

	if (n_runs++ > 0) /* the order of threads is tried elsewhere */
		return;
	for (size_t i = 0; i < sizeof(fixtures) / sizeof(fixtures[0]); i++) {
		struct expected e = read_expected(fixtures[i].name);
		struct device_models d = open_fixture(fixtures[i].name);
		struct batch_run run = device_models_run(e.prompt, 0, e.n_prompt, 0, e.n_prompt);

		EXPECT_EQUAL(d.n_vocab, e.n_vocab);
		run.blocks = blocks;
		float *logits = device_models_logits(&d, d.gpu, &run, 1);
		size_t n = (size_t)e.n_prompt * e.n_vocab;
		double off = device_models_difference(logits, e.logits, n);
		uint32_t same = greedy_tokens(
			&d, &e, device_models_best(logits + n - e.n_vocab, e.n_vocab), blocks);
		printf("%-24s largest difference %.1e of the range, %u of %u greedy tokens\n",
			fixtures[i].name, off, same, e.n_greedy);
		EXPECT_NEAR(off, 0, fixtures[i].tolerance);
		EXPECT(same == e.n_greedy || !fixtures[i].greedy);
		free(logits);
		free(e.logits);
		device_models_close(&d);
	}
}
