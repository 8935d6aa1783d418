/* SPDX-License-Identifier: Apache-2.0 */
/* Files that say what is not so of themselves are refused, each with the reason. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/engine/gguf_fixture.h"
#include "tests/run_suite.h"

static void assert_refused(struct gguf_writer *w, int code, const char *words)
{
	ck_assert_int_eq(gguf_parse_writer(w), code);
	ck_assert_msg(strstr(gguf_err.text, words) != NULL, "%s", gguf_err.text);
}

START_TEST(model_with_lying_tensor_offset_is_refused)
{
	static const uint64_t lies[] = {32, 64, 1024, 1u << 31, UINT64_MAX - 31, (uint64_t)1 << 63};
	static const char *const words[] = {
		"overlap", "beyond", "beyond", "beyond", "beyond", "beyond"};

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct gguf_writer *w = gguf_sample();

		gguf_writer_lie_about_offset(w, i == 0 ? 0 : lies[i]);
		assert_refused(w, -EBADMSG, words[i]);
	}
}
END_TEST

START_TEST(model_with_unaligned_tensor_is_refused)
{
	struct gguf_writer *w = gguf_sample();

	gguf_writer_lie_about_offset(w, 33);
	assert_refused(w, -EBADMSG, "multiple");
}
END_TEST

static struct gguf_writer *with_shape(uint32_t type, uint32_t n_dims, const uint64_t *dims)
{
	static const char data[64];
	struct gguf_writer *w = gguf_writer_new();

	gguf_writer_add_tensor(w, "t", type, n_dims, dims, data, sizeof(data));
	return w;
}

START_TEST(model_with_lying_shape_is_refused)
{
	const uint64_t zero[] = {4, 0}, huge[] = {(uint64_t)1 << 33, (uint64_t)1 << 33};
	const uint64_t bytes_overflow[] = {(uint64_t)1 << 62}, large[] = {17};
	const uint64_t odd[] = {33}, part[] = {288}, five[] = {1, 1, 1, 1, 1}, fits[] = {16};

	ck_assert_int_eq(gguf_parse_writer(with_shape(TENSOR_F32, 1, fits)), 0);
	assert_refused(with_shape(TENSOR_F32, 2, zero), -EBADMSG, "impossible shape");
	assert_refused(with_shape(TENSOR_F32, 2, huge), -EBADMSG, "impossible shape");
	assert_refused(with_shape(TENSOR_F32, 1, bytes_overflow), -EBADMSG, "impossible shape");
	assert_refused(with_shape(TENSOR_F32, 1, large), -EBADMSG, "beyond");
	assert_refused(with_shape(TENSOR_Q8_0, 1, odd), -EBADMSG, "multiple of the 32");
	assert_refused(with_shape(TENSOR_Q4_K, 1, part), -EBADMSG, "multiple of the 256");
	assert_refused(with_shape(TENSOR_Q5_K, 1, part), -EBADMSG, "multiple of the 256");
	assert_refused(with_shape(TENSOR_Q6_K, 1, part), -EBADMSG, "multiple of the 256");
	assert_refused(with_shape(TENSOR_F32, 5, five), -EBADMSG, "dimensions");
	assert_refused(with_shape(TENSOR_F32, 0, five), -EBADMSG, "dimensions");
}
END_TEST

START_TEST(tensor_type_we_cannot_compute_is_not_supported)
{
	const uint64_t dims[] = {16};

	assert_refused(with_shape(10, 1, dims), -ENOTSUP, "Q2_K");
	assert_refused(with_shape(4, 1, dims), -ENOTSUP, "unknown type 4");
	assert_refused(with_shape(UINT32_MAX, 1, dims), -ENOTSUP, "unknown type");
}
END_TEST

START_TEST(tensor_or_key_named_twice_is_refused)
{
	const uint64_t dims[] = {16};
	struct gguf_writer *w = with_shape(TENSOR_F32, 1, dims);
	static const char data[64];

	gguf_writer_add_tensor(w, "t", TENSOR_F32, 1, dims, data, sizeof(data));
	assert_refused(w, -EBADMSG, "twice");
	w = gguf_writer_new();
	gguf_writer_add_u32(w, "key", 1);
	gguf_writer_add_bool(w, "key", true);
	assert_refused(w, -EBADMSG, "twice");
}
END_TEST

/* Puts a 64-bit number into the file's bytes at a place. */
static int parse_patched(size_t at, uint64_t value)
{
	struct gguf_writer *w = gguf_sample();
	size_t n;
	unsigned char *bytes = gguf_writer_bytes(w, &n);
	struct gguf *g;

	memcpy(bytes + at, &value, sizeof(value));
	int r = gguf_parse(&g, bytes, n, &gguf_err);
	gguf_free(g);
	free(bytes);
	gguf_writer_free(w);
	return r;
}

START_TEST(lying_counts_are_refused_without_allocating)
{
	static const uint64_t lies[] = {
		12, 1000, 65536, 1u << 31, (uint64_t)1 << 32, UINT64_MAX / 8, UINT64_MAX};

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		ck_assert_int_eq(parse_patched(8, lies[i]), -EBADMSG);  /* tensors */
		ck_assert_int_eq(parse_patched(16, lies[i]), -EBADMSG); /* pairs */
	}
	/* The length of the first key, and of its string value. */
	ck_assert_int_eq(parse_patched(24, 0), -EBADMSG);
	ck_assert_int_eq(parse_patched(24, UINT64_MAX), -EBADMSG);
	ck_assert_int_eq(parse_patched(24, 129), -EBADMSG);
	ck_assert_int_eq(parse_patched(24 + 8 + 20 + 4, UINT64_MAX - 7), -EBADMSG);
	ck_assert_int_eq(parse_patched(24 + 8 + 20 + 4, (uint64_t)1 << 32), -EBADMSG);
}
END_TEST

START_TEST(names_that_are_not_printable_are_refused)
{
	static const char *const bad[] = {"", "two words", "\033[2J", "nul\x01", "caf\xc3\xa9"};
	const uint64_t dims[] = {1};
	const float one = 1;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct gguf_writer *w = gguf_writer_new();

		gguf_writer_add_u32(w, bad[i], 1);
		assert_refused(w, -EBADMSG, "printable");
		w = gguf_writer_new();
		gguf_writer_add_tensor(w, bad[i], TENSOR_F32, 1, dims, &one, sizeof(one));
		assert_refused(w, -EBADMSG, "printable");
	}
}
END_TEST

START_TEST(name_with_a_nul_byte_is_refused)
{
	/* "w.first" becomes "w\0first". */
	struct gguf_writer *w = gguf_sample();
	size_t n;
	unsigned char *bytes = gguf_writer_bytes(w, &n);
	struct gguf *g;
	unsigned char *name = memmem(bytes, n, "w.first", 7);

	name[1] = '\0';
	ck_assert_int_eq(gguf_parse(&g, bytes, n, &gguf_err), -EBADMSG);
	free(bytes);
	gguf_writer_free(w);
}
END_TEST

START_TEST(bad_alignment_is_refused)
{
	static const uint32_t bad[] = {0, 1, 4, 24, 33, 1u << 31};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct gguf_writer *w = gguf_sample();

		gguf_writer_add_u32(w, "general.alignment", bad[i]);
		assert_refused(w, -EBADMSG, "alignment");
	}
	struct gguf_writer *w = gguf_sample();
	gguf_writer_add_string(w, "general.alignment", "32");
	assert_refused(w, -EBADMSG, "alignment");
	w = gguf_sample();
	gguf_writer_add_u32(w, "general.alignment", 32);
	ck_assert_int_eq(gguf_parse_writer(w), 0);
}
END_TEST

START_TEST(other_files_are_refused_by_name)
{
	struct gguf *g;

	ck_assert_int_eq(gguf_parse(&g, "", 0, &gguf_err), -EBADMSG);
	ck_assert_int_eq(gguf_parse(&g, "PK\3\4aaaaaaaaaaaaaaaaaaaaaaaa", 28, &gguf_err), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(gguf_err.text, "not a GGUF"));
	ck_assert_int_eq(gguf_parse(&g, "GGUF\2\0\0\0aaaaaaaaaaaaaaaa", 24, &gguf_err), -ENOTSUP);
	ck_assert_int_eq(gguf_parse(&g, "GGUF\0\0\0\3aaaaaaaaaaaaaaaa", 24, &gguf_err), -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(gguf_err.text, "big-endian"));
	ck_assert_int_eq(gguf_open(&g, "/dev/null", 0, &gguf_err), -EINVAL);
	ck_assert_int_eq(gguf_open(&g, "/", 0, &gguf_err), -EINVAL);
	ck_assert_int_eq(gguf_open(&g, "/nonexistent/x", 0, &gguf_err), -ENOENT);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gguf_lies");
	TCase *t = tcase_create("gguf_lies");

	tcase_add_test(t, model_with_lying_tensor_offset_is_refused);
	tcase_add_test(t, model_with_unaligned_tensor_is_refused);
	tcase_add_test(t, model_with_lying_shape_is_refused);
	tcase_add_test(t, tensor_type_we_cannot_compute_is_not_supported);
	tcase_add_test(t, tensor_or_key_named_twice_is_refused);
	tcase_add_test(t, lying_counts_are_refused_without_allocating);
	tcase_add_test(t, names_that_are_not_printable_are_refused);
	tcase_add_test(t, name_with_a_nul_byte_is_refused);
	tcase_add_test(t, bad_alignment_is_refused);
	tcase_add_test(t, other_files_are_refused_by_name);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return run_suite(s);
}
