/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are written and read in memory. */
#include "tests/engine/gguf_fixture.h"

#include <check.h>
#include <stdlib.h>

struct err gguf_err;

struct gguf_writer *gguf_sample(void)
{
	static const char *const words[] = {"one", "", "three"};
	static const size_t lens[] = {3, 0, 5};
	static const float floats[] = {0.5f, -1.25f};
	static const int32_t ints[] = {7, -8, 9};
	static const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
	static const uint64_t dims[] = {4, 2};
	struct gguf_writer *w = gguf_writer_new();

	gguf_writer_add_string(w, "general.architecture", "llama");
	gguf_writer_add_u32(w, "a.u32", 4000000000u);
	gguf_writer_add_u64(w, "a.u64", (uint64_t)1 << 40);
	gguf_writer_add_i32(w, "a.negative", -5);
	gguf_writer_add_f32(w, "a.f32", 2.5f);
	gguf_writer_add_bool(w, "a.bool", true);
	gguf_writer_add_strings(w, "a.words", words, lens, 3);
	gguf_writer_add_floats(w, "a.floats", floats, 2);
	gguf_writer_add_ints(w, "a.ints", ints, 3);
	gguf_writer_add_tensor(w, "w.first", TENSOR_F32, 2, dims, ones, sizeof(ones));
	gguf_writer_add_tensor(w, "w.second", TENSOR_F16, 1, dims, ones, 8);
	return w;
}

int gguf_parse_writer(struct gguf_writer *w)
{
	struct gguf *g = NULL;
	size_t n;
	unsigned char *bytes = gguf_writer_bytes(w, &n);

	gguf_err.text[0] = '\0';
	int r = gguf_parse(&g, bytes, n, &gguf_err);
	ck_assert((r == 0) == (g != NULL));
	gguf_free(g);
	free(bytes);
	gguf_writer_free(w);
	return r;
}
