/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine when its device breaks, or has too little memory. Only for the emulator.
 */
#include <errno.h>
#include <string.h>

#include "tests/simt/device_engine.h"
#include "tests/simt/include/simt.h"

static const struct tiny_llama f32 = {.type = TENSOR_F32, .n_layers = 1};
static const uint32_t ids[] = {40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51};

KERNEL_TEST(a_fault_ends_all_requests_with_its_reason_and_a_reload_recovers)
{
	static struct device_answer answers[3], late;
	struct err err = {""};
	struct engine *e = device_engine_open(&f32, NULL, "cuda"),
		      *other = device_engine_open(&f32, NULL, "cuda"), *again;
	struct engine_request r;

	simt_fail_launch(60, cudaErrorIllegalAddress);
	for (uint32_t i = 0; i < 3; i++) {
		r = device_engine_request(&answers[i], ids + i, 8, 100);
		r.logprobs = i > 0;
		EXPECT_EQUAL(device_engine_submit(e, &r, &answers[i], &err), 0);
	}
	for (uint32_t i = 0; i < 3; i++) {
		device_engine_wait(&answers[i]);
		EXPECT_EQUAL(answers[i].finish, ENGINE_FINISH_ERROR);
		EXPECT_EQUAL(answers[i].status, -EIO);
		EXPECT(strstr(answers[i].sentence, "an illegal memory access") != NULL);
	}
	/* The engine hears of it when the step that failed is over. */
	int status = 0;
	for (int i = 0; i < 1000 && status == 0; i++) {
		r = device_engine_request(&late, ids, 8, 10);
		status = device_engine_submit(e, &r, &late, &err);
		if (status == 0)
			device_engine_wait(&late);
	}
	EXPECT_EQUAL(status, -EIO);
	EXPECT(strstr(err.text, "an illegal memory access") != NULL);

	/* The other model of the process is lost as well, and says so. */
	r = device_engine_request(&late, ids, 8, 10);
	EXPECT_EQUAL(device_engine_submit(other, &r, &late, &err), 0);
	device_engine_wait(&late);
	EXPECT_EQUAL(late.status, -EIO);
	EXPECT(strstr(late.sentence, "an illegal memory access") != NULL);

	engine_free(e);
	again = device_engine_open(&f32, NULL, "cuda");
	r = device_engine_request(&late, ids, 8, 10);
	device_engine_ask(again, &r, &late);
	EXPECT_EQUAL(late.status, 0);
	EXPECT(late.len > 0);
	engine_free(again);
	engine_free(other);
}

KERNEL_TEST(auto_takes_the_processor_when_the_device_is_too_small_and_says_why)
{
	static struct device_answer a;
	struct engine_options o = {.n_threads = 1, .context_tok = 64};
	struct err err = {""};
	int status;

	simt_set_memory((size_t)1 << 20);
	struct engine *e = device_engine_try(&f32, &o, &status, &err);
	EXPECT(e != NULL);
	EXPECT(strncmp(engine_info(e)->backend, "cpu/", 4) == 0);
	EXPECT(strstr(engine_info(e)->backend_note, "GB free of") != NULL);
	struct engine_request r = device_engine_request(&a, ids, 8, 5);
	device_engine_ask(e, &r, &a);
	EXPECT_EQUAL(a.status, 0);
	engine_free(e);

	o.backend = "cuda";
	e = device_engine_try(&f32, &o, &status, &err);
	EXPECT(e == NULL);
	EXPECT_EQUAL(status, -ENOMEM);
	EXPECT(strstr(err.text, "GB free of") != NULL);
	simt_set_memory(0);
}

KERNEL_TEST(fp8_is_the_devices_and_refused_by_the_processor_and_info_says_what_is_in_force)
{
	static const struct tiny_llama bf16 = {.type = TENSOR_BF16, .n_layers = 1};
	static struct device_answer a;
	struct engine_options o = {.n_threads = 1,
		.context_tok = 64,
		.backend = "cuda",
		.fp8 = true,
		.kv_fp8 = true,
		.memory_share = 0.5};
	struct err err = {""};
	int status;

	struct engine *e = device_engine_try(&bf16, &o, &status, &err);
	EXPECT(e != NULL);
	EXPECT(engine_info(e)->fp8 && engine_info(e)->kv_fp8);
	EXPECT_NEAR(engine_info(e)->memory_share, 0.5, 0);
	struct engine_request r = device_engine_request(&a, ids, 8, 5);
	device_engine_ask(e, &r, &a);
	EXPECT_EQUAL(a.status, 0);
	engine_free(e);

	static const struct tiny_llama quantised = {.type = TENSOR_Q8_0, .n_layers = 1};
	o.memory_share = 0; /* what the test's device has is little */
	e = device_engine_try(&quantised, &o, &status, &err);
	EXPECT(e != NULL);
	EXPECT(!engine_info(e)->fp8 && engine_info(e)->kv_fp8);
	engine_free(e);

	o.backend = "cpu";
	e = device_engine_try(&bf16, &o, &status, &err);
	EXPECT(e == NULL);
	EXPECT_EQUAL(status, -ENOTSUP);
	EXPECT(strcmp(err.text, "the processor does not compute in FP8") == 0);

	simt_set_memory((size_t)1 << 20);
	o.backend = "auto";
	e = device_engine_try(&bf16, &o, &status, &err);
	EXPECT(e != NULL);
	EXPECT(!engine_info(e)->fp8 && !engine_info(e)->kv_fp8);
	EXPECT_NEAR(engine_info(e)->memory_share, 0, 0);
	EXPECT(strstr(engine_info(e)->backend_note, "GB free of") != NULL);
	engine_free(e);
	simt_set_memory(0);
}
