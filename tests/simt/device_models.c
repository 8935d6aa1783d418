/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/simt/device_models.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/cuda_door.h"
#include "engine/gguf.h"
#include "engine/sampler.h"

/* Their kernels have tests of their own, with all orders; races are found in any. */
bool kernel_test_one_order = true;

static uint32_t identity[4096]; /* blocks k, k + 1, ...: the table of a sequence that begins at k */

static struct gguf *write_file(const struct tiny_llama *file)
{
	char path[] = "/tmp/device-models-XXXXXX";
	struct err err = {""};
	struct gguf *g = NULL;
	int fd = mkstemp(path);

	EXPECT(fd >= 0);
	close(fd);
	tiny_llama_write(file, path);
	int r = gguf_open(&g, path, 0, &err);
	unlink(path);
	if (r < 0)
		kernel_test_fail(__FILE__, __LINE__, "%s", err.text);
	for (uint32_t i = 0; i < sizeof(identity) / sizeof(identity[0]); i++)
		identity[i] = i;
	return g;
}

static struct model_options options_of(const struct model_options *more)
{
	struct model_options o = more ? *more : (struct model_options){0};

	o.n_threads = o.n_threads ? o.n_threads : 2;
	o.max_rows = o.max_rows ? o.max_rows : 96;
	o.max_logit_rows = o.max_logit_rows ? o.max_logit_rows : 96;
	o.max_runs = o.max_runs ? o.max_runs : 24;
	o.context_tok = o.context_tok ? o.context_tok : 256;
	o.kv_blocks = o.kv_blocks ? o.kv_blocks : DEVICE_MODELS_BLOCKS;
	return o;
}

int device_models_try(struct device_models *d, const struct tiny_llama *file,
	const struct model_options *more, struct err *err)
{
	struct model_options o = options_of(more);
	int r;

	*d = (struct device_models){.gguf = write_file(file)};
	r = cuda_door_backend(&o.backend, o.gpu, err);
	if (r == 0)
		r = model_new(&d->gpu, d->gguf, &o, err);
	if (r == 0)
		d->n_vocab = model_config(d->gpu)->n_vocab;
	return r;
}

struct device_models device_models_open(
	const struct tiny_llama *file, const struct model_options *more)
{
	struct model_options o = options_of(more);
	struct device_models d;
	struct err err = {""};
	int r = device_models_try(&d, file, more, &err);

	o.cpu_path = "scalar";
	o.fp8 = o.kv_fp8 = false; /* what the device is measured by has all digits */
	if (r == 0)
		r = model_new(&d.cpu, d.gguf, &o, &err);
	if (r < 0)
		kernel_test_fail(__FILE__, __LINE__, "%s", err.text);
	return d;
}

void device_models_close(struct device_models *d)
{
	model_free(d->cpu);
	model_free(d->gpu);
	gguf_free(d->gguf);
	*d = (struct device_models){0};
}

struct batch_run device_models_run(
	const uint32_t *ids, uint32_t first_pos, uint32_t n, uint32_t from, uint32_t n_logit_rows)
{
	return (struct batch_run){
		.ids = ids,
		.n = n,
		.first_pos = first_pos,
		.blocks = identity + from,
		.n_logit_rows = n_logit_rows,
	};
}

float *device_models_logits(
	const struct device_models *d, struct model *m, const struct batch_run *runs, size_t n_runs)
{
	const float *logits;
	struct err err = {""};
	size_t n = 0;

	for (size_t i = 0; i < n_runs; i++)
		n += runs[i].n_logit_rows;
	if (model_step(m, runs, n_runs, &logits, &err) < 0)
		kernel_test_fail(__FILE__, __LINE__, "%s", err.text);
	float *copy = malloc((n > 0 ? n : 1) * d->n_vocab * sizeof(*copy));
	EXPECT(copy != NULL);
	if (n > 0)
		memcpy(copy, logits, n * d->n_vocab * sizeof(*copy));
	return copy;
}

double device_models_difference(const float *got, const float *expected, size_t n)
{
	double most = 0, lowest = INFINITY, highest = -INFINITY;

	for (size_t i = 0; i < n; i++) {
		double off = fabs((double)got[i] - (double)expected[i]);

		most = off <= most ? most : off; /* a NaN is large */
		lowest = fmin(lowest, (double)expected[i]);
		highest = fmax(highest, (double)expected[i]);
	}
	return most / (highest - lowest);
}

double device_models_prompt(const struct device_models *d, const uint32_t *ids, uint32_t n)
{
	struct batch_run run = device_models_run(ids, 0, n, 3, n);
	float *expected = device_models_logits(d, d->cpu, &run, 1),
	      *got = device_models_logits(d, d->gpu, &run, 1);
	double off = device_models_difference(got, expected, (size_t)n * d->n_vocab);

	free(expected);
	free(got);
	return off;
}

uint32_t device_models_best(const float *logits, uint32_t n)
{
	return sampler_greatest(logits, n);
}

static void begin(const struct device_models *d, struct model *m, const struct batch_run *run,
	const struct model_pick *pick)
{
	struct err err = {""};

	if (model_begin(m, run, 1, d->whole ? NULL : pick, &err) < 0)
		kernel_test_fail(__FILE__, __LINE__, "%s", err.text);
}

static uint32_t finish(struct model *m, struct sampler *sampler, const struct model_pick *pick)
{
	struct model_result result = {0};
	struct err err = {""};

	if (model_finish(m, &result, &err) < 0)
		kernel_test_fail(__FILE__, __LINE__, "%s", err.text);
	return result.logits ? sampler_pick(sampler, result.logits, &pick->how, pick->position)
			     : result.id;
}

void device_models_answer(const struct device_models *d, struct model *m, const uint32_t *prompt,
	uint32_t n_prompt, uint32_t from_block, const struct engine_sampling *how, bool ahead,
	uint32_t *out, uint32_t n)
{
	struct sampler *sampler = sampler_new(d->n_vocab);
	struct batch_run run = device_models_run(prompt, 0, n_prompt, from_block, 1);
	uint32_t known = 0;

	EXPECT(sampler != NULL);
	for (uint32_t i = 0; i < n; i++) {
		struct model_pick pick = {.how = *how, .position = n_prompt + i};

		if (i > 0) {
			bool follows = ahead && known < i;
			run = device_models_run(&out[i - 1], n_prompt + i - 1, 1, from_block, 1);
			run.follows = follows ? 1 : 0;
		}
		begin(d, m, &run, &pick);
		if (ahead && i == 0)
			continue;
		pick.position = n_prompt + known;
		out[known++] = finish(m, sampler, &pick);
	}
	while (known < n)
		out[known++] = finish(m, sampler, &(struct model_pick){.how = *how});
	sampler_free(sampler);
}

int device_models_ask(struct device_models *d, uint32_t tokens[5], struct err *err)
{
	static const uint32_t prompt[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
	struct batch_run run = device_models_run(prompt, 0, 10, 0, 1);
	struct model_pick pick = {.how = {.top_p = 1}, .asked = d->asked};
	struct model_result result;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < 5; i++) {
		r = model_begin(d->gpu, &run, 1, &pick, err);
		if (r == 0)
			r = model_finish(d->gpu, &result, err);
		tokens[i] = r == 0 ? result.id : 0;
		run = device_models_run(&tokens[i], 10 + i, 1, 0, 1);
	}
	return r;
}
