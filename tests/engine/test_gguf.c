/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/gguf.h"
#include "tests/engine/gguf_fixture.h"
#include "tests/engine/tiny_llama.h"
#include "tests/run_suite.h"

START_TEST(values_come_back_as_written)
{
	struct gguf_writer *w = gguf_sample();
	struct gguf *g;
	size_t n, len;
	unsigned char *bytes = gguf_writer_bytes(w, &n);

	ck_assert_int_eq(gguf_parse(&g, bytes, n, &gguf_err), 0);
	ck_assert_uint_eq(gguf_file_bytes(g), n);
	ck_assert_uint_eq(gguf_uint(g, "a.u32", 0), 4000000000u);
	ck_assert_uint_eq(gguf_uint(g, "a.u64", 0), (uint64_t)1 << 40);
	ck_assert_uint_eq(gguf_uint(g, "a.negative", 77), 77);
	ck_assert_uint_eq(gguf_uint(g, "a.absent", 78), 78);
	ck_assert_uint_eq(gguf_uint(g, "a.f32", 79), 79);
	ck_assert_double_eq(gguf_float(g, "a.f32", 0), 2.5);
	ck_assert_double_eq(gguf_float(g, "a.u32", 1.5), 1.5);
	ck_assert(gguf_bool(g, "a.bool", false));
	ck_assert(gguf_bool(g, "a.absent", true));
	ck_assert(gguf_has(g, "a.words") && !gguf_has(g, "a.word"));
	ck_assert_mem_eq(gguf_string(g, "general.architecture", &len), "llama", 5);
	ck_assert_uint_eq(len, 5);
	ck_assert_ptr_null(gguf_string(g, "a.u32", &len));
	ck_assert_uint_eq(gguf_strings(g, "a.words"), 3);
	ck_assert_uint_eq(gguf_strings(g, "a.floats"), 0);
	ck_assert_mem_eq(gguf_string_at(g, "a.words", 2, &len), "three", 5);
	ck_assert_ptr_null(gguf_string_at(g, "a.words", 3, &len));
	float f[2];
	memcpy(f, gguf_floats(g, "a.floats", &n), sizeof(f));
	ck_assert_uint_eq(n, 2);
	ck_assert_float_eq(f[1], -1.25f);
	int32_t v[3];
	memcpy(v, gguf_ints(g, "a.ints", &n), sizeof(v));
	ck_assert_uint_eq(n, 3);
	ck_assert_int_eq(v[1], -8);
	ck_assert_ptr_null(gguf_ints(g, "a.floats", &n));
	ck_assert_uint_eq(n, 0);
	gguf_free(g);
	free(bytes);
	gguf_writer_free(w);
}
END_TEST

START_TEST(tensors_come_back_as_written)
{
	struct gguf_writer *w = gguf_sample();
	struct gguf *g;
	size_t n;
	unsigned char *bytes = gguf_writer_bytes(w, &n);
	float one;

	ck_assert_int_eq(gguf_parse(&g, bytes, n, &gguf_err), 0);
	ck_assert_uint_eq(gguf_n_tensors(g), 2);
	const struct gguf_tensor *t = gguf_tensor(g, "w.first");
	ck_assert_ptr_eq(t, gguf_tensor_at(g, 0));
	ck_assert_str_eq(t->name, "w.first");
	ck_assert_uint_eq(t->dim[0], 4);
	ck_assert_uint_eq(t->dim[1], 2);
	ck_assert_uint_eq(t->dim[3], 1);
	ck_assert_uint_eq(t->bytes, 32);
	memcpy(&one, t->data, sizeof(one));
	ck_assert_float_eq(one, 1);
	ck_assert_uint_eq(gguf_tensor(g, "w.second")->bytes, 8);
	ck_assert_ptr_null(gguf_tensor(g, "w.third"));
	ck_assert_ptr_null(gguf_tensor_at(g, 2));
	gguf_free(g);
	free(bytes);
	gguf_writer_free(w);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
	struct gguf_writer *w = gguf_sample();
	size_t n;
	unsigned char *bytes = gguf_writer_bytes(w, &n);
	struct gguf *g;

	for (size_t i = 0; i < n; i++) {
		unsigned char *copy =
			malloc(i + 1); /* of its own, so that ASan sees one byte too many */

		memcpy(copy, bytes, i);
		ck_assert_int_eq(gguf_parse(&g, copy, i, &gguf_err), -EBADMSG);
		ck_assert_ptr_null(g);
		ck_assert(gguf_err.text[0]);
		free(copy);
	}
	ck_assert_int_eq(gguf_parse(&g, bytes, n, &gguf_err), 0);
	gguf_free(g);
	free(bytes);
	gguf_writer_free(w);
}
END_TEST

/* Reads every byte that the object says is there. */
static unsigned read_all(const struct gguf *g)
{
	unsigned sum = 0;

	for (size_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);
		const unsigned char *p = t->data;

		for (size_t j = 0; j < t->bytes; j++)
			sum += p[j];
	}
	for (size_t i = 0, len; i < gguf_strings(g, "a.words"); i++) {
		const char *s = gguf_string_at(g, "a.words", i, &len);

		for (size_t j = 0; j < len; j++)
			sum += (unsigned char)s[j];
	}
	return sum;
}

START_TEST(every_changed_byte_is_refused_or_harmless)
{
	static const unsigned char masks[] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff};
	struct gguf_writer *w = gguf_sample();
	size_t n, accepted = 0, refused = 0;
	unsigned char *bytes = gguf_writer_bytes(w, &n);
	struct gguf *g;

	for (size_t i = 0; i < n; i++) {
		for (size_t m = 0; m < sizeof(masks); m++) {
			bytes[i] ^= masks[m];
			gguf_err.text[0] = '\0';
			int r = gguf_parse(&g, bytes, n, &gguf_err);
			bytes[i] ^= masks[m];
			if (r == 0) {
				read_all(g);
				accepted++;
			} else {
				ck_assert(r == -EBADMSG || r == -ENOTSUP);
				ck_assert(gguf_err.text[0]);
				refused++;
			}
			gguf_free(g);
		}
	}
	ck_assert_uint_gt(accepted, 0); /* values may change freely */
	ck_assert_uint_gt(refused, accepted / 4);
	free(bytes);
	gguf_writer_free(w);
}
END_TEST

static char *temp_path(void)
{
	static char path[64];
	const char *dir = getenv("TMPDIR");

	snprintf(path, sizeof(path), "%.40s/ggufXXXXXX", dir && strlen(dir) < 40 ? dir : "/tmp");
	int fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	close(fd);
	return path;
}

START_TEST(fifo_is_refused_and_does_not_block)
{
	char *path = temp_path();
	struct gguf *g;

	unlink(path);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(gguf_open(&g, path, 0, &gguf_err), -EINVAL);
	unlink(path);
}
END_TEST

START_TEST(file_on_the_forbidden_device_is_refused)
{
	char *path = temp_path();
	struct gguf_writer *w = gguf_sample();
	struct gguf *g;
	struct stat st;

	gguf_writer_finish(w, path);
	gguf_writer_free(w);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(gguf_open(&g, path, st.st_dev, &gguf_err), -EINVAL);
	ck_assert_int_eq(gguf_open(&g, path, st.st_dev + 1, &gguf_err), 0);
	gguf_free(g);
	unlink(path);
}
END_TEST

START_TEST(file_truncated_while_mapped_is_damaged)
{
	char *path = temp_path();
	struct tiny_llama p = {.seed = 1};
	struct gguf *g;

	tiny_llama_write(&p, path);
	ck_assert_int_eq(gguf_open(&g, path, 0, &gguf_err), 0);
	read_all(g);
	ck_assert_int_eq(gguf_changed(g, "it", "mapped", &gguf_err), 0);
	ck_assert_int_eq(truncate(path, 8192), 0);
	const struct gguf_tensor *t = gguf_tensor_at(g, gguf_n_tensors(g) - 1);
	const unsigned char *last = t->data;
	ck_assert_uint_eq(last[t->bytes - 1], 0);
	ck_assert_int_eq(gguf_changed(g, "it", "mapped", &gguf_err), -EBADMSG);
	ck_assert_str_eq(gguf_err.text, "it was truncated while it was mapped");
	read_all(g); /* all of it can be read now */
	gguf_free(g);
	unlink(path);
}
END_TEST

START_TEST(tiny_llama_is_a_sound_file)
{
	static const enum tensor_type types[] = {TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_Q8_0,
		TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q5_0, TENSOR_Q5_1, TENSOR_Q4_K, TENSOR_Q5_K,
		TENSOR_Q6_K};
	char *path = temp_path();

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct tiny_llama p = {.type = types[i],
			.n_embd = i < 8 ? 64 : 256,
			.tied = i % 2 == 0,
			.n_kv_heads = 2};
		struct gguf *g;

		tiny_llama_write(&p, path);
		ck_assert_msg(gguf_open(&g, path, 0, &gguf_err) == 0, "%s", gguf_err.text);
		ck_assert_uint_eq(gguf_tensor(g, "token_embd.weight")->dim[1], 320);
		ck_assert_int_eq(gguf_tensor(g, "blk.1.ffn_down.weight")->type, types[i]);
		ck_assert((gguf_tensor(g, "output.weight") == NULL) == p.tied);
		gguf_free(g);
	}
	unlink(path);
}
END_TEST

START_TEST(half_floats_are_rounded_to_nearest_even)
{
	ck_assert_uint_eq(gguf_writer_f16(1.0f), 0x3c00);
	ck_assert_uint_eq(gguf_writer_f16(-2.0f), 0xc000);
	ck_assert_uint_eq(gguf_writer_f16(65504.0f), 0x7bff);
	ck_assert_uint_eq(gguf_writer_f16(65520.0f), 0x7c00);
	ck_assert_uint_eq(gguf_writer_f16(0x1p-24f), 0x0001);
	ck_assert_uint_eq(gguf_writer_f16(0x1.ff8p-15f), 0x03ff);
	ck_assert_uint_eq(gguf_writer_f16(0x1.ffcp-15f), 0x0400);
	ck_assert_uint_eq(gguf_writer_f16(0x1.ffep0f), 0x4000);
	ck_assert_uint_eq(gguf_writer_f16(0x1.002p0f), 0x3c00);
	ck_assert_uint_eq(gguf_writer_f16(0x1.006p0f), 0x3c02);
	ck_assert_uint_eq(gguf_writer_bf16(1.0f), 0x3f80);
	ck_assert_uint_eq(gguf_writer_bf16(0x1.01p0f), 0x3f80);
	ck_assert_uint_eq(gguf_writer_bf16(0x1.03p0f), 0x3f82);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gguf");
	TCase *t = tcase_create("gguf");

	tcase_add_test(t, values_come_back_as_written);
	tcase_add_test(t, tensors_come_back_as_written);
	tcase_add_test(t, every_truncation_is_refused);
	tcase_add_test(t, every_changed_byte_is_refused_or_harmless);
	tcase_add_test(t, fifo_is_refused_and_does_not_block);
	tcase_add_test(t, file_on_the_forbidden_device_is_refused);
	tcase_add_test(t, file_truncated_while_mapped_is_damaged);
	tcase_add_test(t, tiny_llama_is_a_sound_file);
	tcase_add_test(t, half_floats_are_rounded_to_nearest_even);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return run_suite(s);
}
