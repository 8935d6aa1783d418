/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What decides on answers is told: openings, families, what computes; and the revision, of which
 * the second half makes sure that nobody forgets it.
 */
#include "engine/identity.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "engine/chat_opening.h"
#include "engine/sampler.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/token_fixture.h"
#include "tests/run_suite.h"

/* ---- of models ---- */

/* new: the identity of a model whose template has that opening (NULL: none). */
static char *identity_of(const char *opening, const struct engine_options *o)
{
	static const struct tiny_llama tiny = {.seed = 4};
	char path[] = "/tmp/identity-XXXXXX";
	struct buf out = {0};
	struct engine *e;
	struct err err;

	close(mkstemp(path));
	tiny_llama_write(&tiny, path);
	if (opening)
		tiny_llama_put_opening(path, opening);
	ck_assert_msg(engine_open(&e, path, o, NULL, &err) == 0, "%s", err.text);
	unlink(path);
	ck_assert_int_eq(engine_identity(e, &out), 0);
	engine_free(e);
	return out.data;
}

START_TEST(openings_that_differ_make_identities_that_differ)
{
	const struct engine_options named = {.chat_family = "chatml"},
				    other = {.chat_family = "plain"};
	char *kind = identity_of("Be kind.", NULL), *again = identity_of("Be kind.", NULL),
	     *brief = identity_of("Be wise.", NULL), *none = identity_of(NULL, NULL),
	     *left_out = identity_of("Be kind.", &named), *plain = identity_of("Be kind.", &other);

	ck_assert_str_eq(kind, again);
	ck_assert_str_ne(kind, brief);
	ck_assert_str_ne(kind, none);
	ck_assert_str_eq(left_out, none);
	ck_assert_str_ne(plain, none);
	free(kind);
	free(again);
	free(brief);
	free(none);
	free(left_out);
	free(plain);
}
END_TEST

START_TEST(paths_of_the_processor_are_one)
{
	const struct engine_options scalar = {.cpu_path = "scalar", .backend = "cpu"},
				    best = {.backend = "cpu"};
	char *one = identity_of(NULL, &scalar), *other = identity_of(NULL, &best);

	ck_assert_str_eq(one, other);
	free(one);
	free(other);
}
END_TEST

START_TEST(contexts_that_differ_make_identities_that_differ)
{
	const struct engine_options small = {.kv_blocks = 1}, large = {.kv_blocks = 4};
	char *one = identity_of(NULL, &small), *other = identity_of(NULL, &large);

	ck_assert_str_ne(one, other);
	free(one);
	free(other);
}
END_TEST

START_TEST(all_begin_with_what_is_known_without_a_model)
{
	struct buf out = {0};
	char *own = identity_of(NULL, NULL);

	ck_assert_int_eq(engine_identity(NULL, &out), 0);
	ck_assert_ptr_nonnull(strstr(out.data, IDENTITY_REVISION));
	ck_assert_int_eq(strncmp(own, out.data, out.len), 0);
	ck_assert_uint_gt(strlen(own), out.len);
	buf_free(&out);
	free(own);
}
END_TEST

/* ---- the revision ---- */

/* These three change together. */
static const char revision[] = "1";
static const uint64_t rendered = 0xf4e67d598647609f, sampled = 0x67e323d951035e0f;

static void expect(const char *what, uint64_t got, uint64_t want)
{
	ck_assert_msg(got == want && strcmp(revision, IDENTITY_REVISION) == 0,
		"What is %s has another digest, 0x%016llx, or another revision, %s: raise "
		"IDENTITY_REVISION by one for a change of this kind (engine/identity.h says why), "
		"and write both into this test.",
		what, (unsigned long long)got, IDENTITY_REVISION);
}

#define MESSAGE(role, text)                                                                        \
	{                                                                                          \
		role, text, sizeof(text) - 1                                                       \
	}

static const struct engine_message talk[] = {
	MESSAGE(ENGINE_SYSTEM, "Be brief, and kind.\n"),
	MESSAGE(ENGINE_USER,
		" It's 1234 o'clock;  isn't it?\n\n\tcafé\u3000日本語 <|im_end|>[/INST]"),
	MESSAGE(ENGINE_ASSISTANT, "No, it isn't. \n"),
	MESSAGE(ENGINE_USER, "the tea at ten\r\n</s>"),
};

static uint64_t hash_rendering(uint64_t hash, const struct tokenizer *t, const char *name,
	size_t from, size_t n, const char *opening)
{
	const struct chat_family *family;
	struct token_list ids = {0};
	struct err err;

	ck_assert_int_eq(chat_family_find(&family, name, NULL, 0, &err), 0);
	ck_assert_msg(chat_opening_render(
			      opening, family, t, talk + from, n - from, true, &ids, &err) == 0,
		"%s", err.text);
	hash = hash_bytes(hash, &ids.n, sizeof(ids.n));
	hash = hash_bytes(hash, ids.ids, ids.n * sizeof(*ids.ids));
	token_list_free(&ids);
	return hash;
}

START_TEST(what_is_rendered_is_that_of_the_revision)
{
	static const char *const names[] = {
		"chatml", "llama2", "llama3", "mistral", "zephyr", "gemma", "plain"};
	uint64_t hash = HASH_BEGIN;

	for (int kind = 0; kind < TINY_VOCAB_KINDS; kind++) {
		struct tokenizer *t = token_tiny(kind);

		for (size_t f = 0; f < sizeof(names) / sizeof(names[0]); f++) {
			hash = hash_rendering(hash, t, names[f], 0, 4, NULL);
			hash = hash_rendering(hash, t, names[f], 1, 4, NULL);
			hash = hash_rendering(hash, t, names[f], 1, 2, "Be wise.");
		}
		tokenizer_free(t);
	}
	expect("rendered", hash, rendered);
}
END_TEST

START_TEST(what_is_sampled_is_that_of_the_revision)
{
	enum { N = 500, N_POSITIONS = 64 };
	static const struct engine_sampling ways[] = {
		{.temperature = 0, .top_p = 1},
		{.temperature = 0, .top_p = 1, .repetition_penalty = 1.3f},
		{.temperature = 1, .top_p = 1, .seed = 7},
		{.temperature = 0.7f, .top_k = 40, .top_p = 0.9f, .min_p = 0.02f, .seed = 8},
		{.temperature = 1.5f,
			.top_p = 0.5f,
			.presence_penalty = 0.5f,
			.frequency_penalty = 0.3f,
			.seed = 9},
	};
	static const uint32_t said[] = {3, 3, 400, 17, 250, 17, 17, 499};
	const struct engine_bias bias = {11, 2.5f};
	const struct sampler_history history = {said, 4, 8, &bias, 1};
	struct sampler *s = sampler_new(N);
	uint64_t hash = HASH_BEGIN;
	uint32_t random = 5;
	float logits[N];

	for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++)
		for (uint64_t position = 0; position < N_POSITIONS; position++) {
			for (int i = 0; i < N; i++) /* of few bits: there are equals */
				logits[i] = (float)(harness_random(&random) >> 14) / 64 - 8;
			sampler_adjust(s, logits, &ways[w], &history);
			uint32_t id = sampler_pick(s, logits, &ways[w], position);
			hash = hash_bytes(hash, &id, sizeof(id));
		}
	sampler_free(s);
	expect("sampled", hash, sampled);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("identity");
	TCase *t = tcase_create("identity");

	tcase_add_test(t, openings_that_differ_make_identities_that_differ);
	tcase_add_test(t, paths_of_the_processor_are_one);
	tcase_add_test(t, contexts_that_differ_make_identities_that_differ);
	tcase_add_test(t, all_begin_with_what_is_known_without_a_model);
	tcase_add_test(t, what_is_rendered_is_that_of_the_revision);
	tcase_add_test(t, what_is_sampled_is_that_of_the_revision);
	suite_add_tcase(s, t);
	return run_suite(s);
}
