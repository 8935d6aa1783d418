/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors that are zeros: of which a model is refused, as a download that has not finished leaves
 * it, and which sound models have. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/model.h"
#include "tests/engine/gguf_writer.h"
#include "tests/engine/tiny_llama.h"
#include "tests/run_suite.h"

static struct err err;
static char path[] = "/tmp/test_weights.XXXXXX";
static struct gguf *sound; /* where the tensors are from */
static unsigned char *bytes;
static size_t n_bytes;

static void add(struct gguf_writer *w, const struct gguf_tensor *t)
{
	gguf_writer_add_tensor(w, t->name, t->type, t->n_dims, t->dim, t->data, t->bytes);
}

/* The file, with that tensor behind all others. */
static void write_ending_with(const char *last)
{
	struct gguf_writer *w = gguf_writer_new();

	gguf_writer_add_string(w, "general.architecture", "llama");
	gguf_writer_add_u32(w, "llama.block_count", 2);
	gguf_writer_add_u32(w, "llama.context_length", 64);
	gguf_writer_add_u32(w, "llama.embedding_length", 64);
	gguf_writer_add_u32(w, "llama.feed_forward_length", 128);
	gguf_writer_add_u32(w, "llama.attention.head_count", 4);
	for (size_t i = 0; i < gguf_n_tensors(sound); i++)
		if (strcmp(gguf_tensor_at(sound, i)->name, last) != 0)
			add(w, gguf_tensor_at(sound, i));
	add(w, gguf_tensor(sound, last));
	free(bytes);
	bytes = gguf_writer_bytes(w, &n_bytes);
	gguf_writer_free(w);
}

/* new; the file must be one. */
static struct gguf *parsed(void)
{
	struct gguf *g = NULL;

	ck_assert_msg(gguf_parse(&g, bytes, n_bytes, &err) == 0, "%s", err.text);
	return g;
}

/* Of the tensor, between so many hundredths of it. Where it lies in the file. */
static size_t make_zero(const char *name, size_t from, size_t to)
{
	struct gguf *g = parsed();
	const struct gguf_tensor *t = gguf_tensor(g, name);
	size_t at = (size_t)((const unsigned char *)t->data - bytes);

	memset(bytes + at + t->bytes * from / 100, 0, t->bytes * to / 100 - t->bytes * from / 100);
	gguf_free(g);
	return at;
}

static int opened(void)
{
	const struct model_options o = {
		.n_threads = 1, .max_rows = 4, .max_logit_rows = 4, .kv_blocks = 2};
	struct gguf *g = parsed();
	struct model *m = NULL;

	err.text[0] = '\0';
	int r = model_new(&m, g, &o, &err);
	model_free(m);
	gguf_free(g);
	return r;
}

static void assert_refused(const char *tensor)
{
	ck_assert_int_eq(opened(), -EBADMSG);
	ck_assert_msg(strstr(err.text, tensor) && strstr(err.text, "ends in zeros"), "%s: \"%s\"",
		tensor, err.text);
}

static void assert_taken(void)
{
	ck_assert_msg(opened() == 0, "%s", err.text);
}

static const enum tensor_type types[] = {TENSOR_F32, TENSOR_BF16, TENSOR_Q8_0, TENSOR_Q4_0};

static void make_sound(int i)
{
	const struct tiny_llama shape = {.type = types[i], .seed = 3};

	tiny_llama_write(&shape, path);
	ck_assert_msg(gguf_open(&sound, path, 0, &err) == 0, "%s", err.text);
}

static void teardown(void)
{
	sound = gguf_free(sound);
	free(bytes);
	bytes = NULL;
}

START_TEST(file_is_refused_from_whichever_tensor_on_it_is_zeros)
{
	static const char *const lasts[] = {"output.weight", "output_norm.weight",
		"blk.1.ffn_up.weight", "blk.1.ffn_norm.weight"};

	make_sound(_i);
	for (size_t k = 0; k < sizeof lasts / sizeof lasts[0]; k++) {
		for (size_t i = 0; i < gguf_n_tensors(sound); i++) {
			write_ending_with(lasts[k]);
			assert_taken();
			size_t at = make_zero(gguf_tensor_at(sound, i)->name, 0, 100);
			memset(bytes + at, 0, n_bytes - at);
			assert_refused("weight");
		}
	}
}
END_TEST

/* That may be zeros for less than `part` hundredths of it, and for no more. */
static void assert_may_end_in_zeros(const char *last, size_t part)
{
	size_t from = 100 - part;

	write_ending_with(last);
	make_zero(last, from + 4, 100);
	assert_taken();
	write_ending_with(last);
	make_zero(last, from - 4, 97);
	make_zero(last, 98, 100); /* whatever else: it was written */
	assert_taken();
	make_zero(last, from - 4, 100);
	assert_refused(last);
}

START_TEST(vocabulary_may_end_in_zeros_for_less_than_half_and_others_for_a_quarter)
{
	make_sound(_i);
	assert_may_end_in_zeros("output.weight", 50);
	assert_may_end_in_zeros("token_embd.weight", 50);
	assert_may_end_in_zeros("blk.0.attn_q.weight", 25);
	assert_may_end_in_zeros("blk.1.ffn_gate.weight", 25);
}
END_TEST

START_TEST(norm_or_vocabulary_without_values_is_refused_wherever_it_stands)
{
	static const char *const vital[] = {"blk.0.attn_norm.weight", "blk.1.ffn_norm.weight",
		"output_norm.weight", "token_embd.weight", "output.weight"};

	make_sound(_i);
	for (size_t k = 0; k < sizeof vital / sizeof vital[0]; k++) {
		write_ending_with("blk.0.attn_k.weight");
		make_zero(vital[k], 0, 100);
		assert_refused(vital[k]);
	}
}
END_TEST

/* A layer that was put in to be trained passes on what it gets: its last products are zeros. */
START_TEST(layer_that_adds_nothing_yet_is_taken)
{
	make_sound(_i);
	write_ending_with("blk.1.ffn_down.weight");
	make_zero("blk.1.attn_output.weight", 0, 100);
	make_zero("blk.1.ffn_down.weight", 0, 100);
	make_zero("blk.0.attn_v.weight", 0, 100);
	assert_taken();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("weights");
	TCase *t = tcase_create("zeros");
	int fd = mkstemp(path), n = sizeof types / sizeof types[0];

	if (fd < 0)
		return 1;
	close(fd);
	tcase_add_checked_fixture(t, NULL, teardown);
	tcase_add_loop_test(t, file_is_refused_from_whichever_tensor_on_it_is_zeros, 0, n);
	tcase_add_loop_test(
		t, vocabulary_may_end_in_zeros_for_less_than_half_and_others_for_a_quarter, 0, n);
	tcase_add_loop_test(
		t, norm_or_vocabulary_without_values_is_refused_wherever_it_stands, 0, n);
	tcase_add_loop_test(t, layer_that_adds_nothing_yet_is_taken, 0, n);
	suite_add_tcase(s, t);
	int r = run_suite(s);
	unlink(path);
	return r;
}
