/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our ids against those of the libraries `tokenizers` and `sentencepiece`: every line of
 * tests/fixtures/tokenizer/lines.bin with every vocabulary there. What the files are and how they
 * were made stands in tests/reference/make_tokenizer_fixtures.py.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer.h"
#include "tests/run_suite.h"

#define FOLDER FIXTURES "/tokenizer/"
#define MIN_LINES 2000
#define NOT_COMPARED 1000000 /* ids: signs that the library's older Unicode does not know */
#define MAX_NOT_COMPARED 80

static const struct vocabulary {
	const char *file, *ids;
	bool at_start;
} vocabularies[] = {
	{"gpt2.gguf", "gpt2.ids", true}, {"llama3.gguf", "llama3.ids", true},
	{"qwen2.gguf", "qwen2.ids", true}, {"smollm.gguf", "smollm.ids", true},
	{"tekken.gguf", "tekken.ids", true}, {"spm.gguf", "spm.ids", true},
	{"spm.gguf", "spm.in.ids", false}, {"spm-phrases.gguf", "spm-phrases.ids", true},
	{"spm-phrases.gguf", "spm-phrases.in.ids", false},
	{"bert.gguf", "bert.ids", true}, /* the last: does not give the text back */
};

#define N_VOCABULARIES ((int)(sizeof(vocabularies) / sizeof(vocabularies[0])))

struct file {
	unsigned char *bytes;
	size_t n, at;
};

static struct file read_file(const char *name)
{
	char path[512];
	struct file f = {0};
	long n;

	snprintf(path, sizeof(path), FOLDER "%s", name);
	FILE *stream = fopen(path, "rb");
	ck_assert_msg(stream != NULL, "%s: %s", path, strerror(errno));
	ck_assert_int_eq(fseek(stream, 0, SEEK_END), 0);
	n = ftell(stream);
	rewind(stream);
	f.n = (size_t)n;
	f.bytes = malloc(f.n + 1);
	ck_assert_uint_eq(fread(f.bytes, 1, f.n, stream), f.n);
	fclose(stream);
	return f;
}

static size_t varint(struct file *f)
{
	size_t value = 0;

	for (unsigned shift = 0;; shift += 7) {
		ck_assert_uint_lt(f->at, f->n);
		unsigned char byte = f->bytes[f->at++];
		value |= (size_t)(byte & 127) << shift;
		if (byte < 128)
			return value;
	}
}

static struct tokenizer *load(const char *name)
{
	char path[512];
	struct gguf *g;
	struct tokenizer *t;
	struct err err;

	snprintf(path, sizeof(path), FOLDER "%s", name);
	ck_assert_msg(gguf_open(&g, path, 0, &err) == 0, "%s", err.text);
	ck_assert_msg(tokenizer_new(&t, g, &err) == 0, "%s", err.text);
	gguf_free(g);
	return t;
}

static uint32_t read_lines(struct file *f)
{
	uint32_t n;

	*f = read_file("lines.bin");
	memcpy(&n, f->bytes, sizeof(n));
	f->at = sizeof(n);
	ck_assert_uint_ge(n, MIN_LINES);
	return n;
}

START_TEST(ids_equal_those_of_the_libraries)
{
	const struct vocabulary *v = &vocabularies[_i];
	struct tokenizer *t = load(v->file);
	struct file lines, expected = read_file(v->ids);
	struct token_list ids = {0};
	uint32_t n_lines = read_lines(&lines), n_left_out = 0;

	for (uint32_t line = 0; line < n_lines; line++) {
		size_t n = varint(&lines);

		ids.n = 0;
		ck_assert_int_eq(
			tokenizer_encode(t, (char *)lines.bytes + lines.at, n, v->at_start, &ids),
			0);
		lines.at += n;
		size_t n_ids = varint(&expected);
		if (n_ids == NOT_COMPARED && ++n_left_out <= MAX_NOT_COMPARED)
			continue;
		ck_assert_msg(ids.n == n_ids, "%s: line %u has %zu ids, not %zu", v->ids, line,
			ids.n, n_ids);
		for (size_t i = 0; i < n_ids; i++) {
			size_t id = varint(&expected);

			ck_assert_msg(ids.ids[i] == id, "%s: line %u: id %zu is %u, not %zu",
				v->ids, line, i, ids.ids[i], id);
		}
	}
	ck_assert_uint_eq(expected.at, expected.n);
	token_list_free(&ids);
	tokenizer_free(t);
	free(lines.bytes);
	free(expected.bytes);
}
END_TEST

/* In a SentencePiece vocabulary U+2581 is the space: it comes back as one. */
static size_t with_plain_spaces(const char *text, size_t n, char *out)
{
	size_t to = 0;

	for (size_t i = 0; i < n; i++) {
		bool space = n - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0;

		out[to++] = space ? ' ' : text[i];
		i += space ? 2 : 0;
	}
	return to;
}

START_TEST(text_of_the_ids_is_the_line)
{
	const struct vocabulary *v = &vocabularies[_i];
	struct tokenizer *t = load(v->file);
	struct file lines;
	struct token_list ids = {0};
	uint32_t n_lines = read_lines(&lines);
	bool spm = strcmp(tokenizer_model(t), "llama") == 0;
	char *want = malloc(lines.n);
	struct buf got = {0};

	for (uint32_t line = 0; line < n_lines; line++) {
		size_t n = varint(&lines), len;
		char *text = (char *)lines.bytes + lines.at;

		lines.at += n;
		ids.n = 0;
		ck_assert_int_eq(tokenizer_encode(t, text, n, false, &ids), 0);
		buf_clear(&got);
		for (size_t i = 0; i < ids.n; i++) {
			const char *piece = tokenizer_text(t, ids.ids[i], &len);

			ck_assert_int_eq(buf_append(&got, piece, len), 0);
		}
		memcpy(want, text, n);
		if (spm)
			n = with_plain_spaces(text, n, want);
		ck_assert_msg(got.len == n && (n == 0 || memcmp(got.data, want, n) == 0),
			"%s: line %u comes back changed", v->file, line);
	}
	buf_free(&got);
	token_list_free(&ids);
	tokenizer_free(t);
	free(want);
	free(lines.bytes);
}
END_TEST

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	Suite *s = suite_create("tokenizer_reference");
	TCase *t = tcase_create("tokenizer_reference");

	tcase_add_loop_test(t, ids_equal_those_of_the_libraries, 0, N_VOCABULARIES);
	tcase_add_loop_test(t, text_of_the_ids_is_the_line, 0, N_VOCABULARIES - 1);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return run_suite(s);
}
