/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our renderings against those of the library `transformers`: conversations, chat templates of each
 * family and vocabularies as tests/reference/make_chat_fixtures.py made them.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chat.h"
#include "tests/run_suite.h"

#define FOLDER FIXTURES "/chat/"
#define MAX_MESSAGES 16

struct file {
	unsigned char *bytes;
	size_t n, at;
};

static struct file read_file(const char *path)
{
	struct file f = {0};
	long n;
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

static unsigned take_byte(struct file *f)
{
	ck_assert_uint_lt(f->at, f->n);
	return f->bytes[f->at++];
}

static size_t varint(struct file *f)
{
	size_t value = 0;

	for (unsigned shift = 0;; shift += 7) {
		unsigned byte = take_byte(f);

		value |= (size_t)(byte & 127) << shift;
		if (byte < 128)
			return value;
	}
}

static const char *take_text(struct file *f, size_t *n)
{
	const char *text;

	*n = varint(f);
	ck_assert_uint_le(*n, f->n - f->at);
	text = (const char *)f->bytes + f->at;
	f->at += *n;
	return text;
}

static struct tokenizer *load(const char *path)
{
	struct gguf *g;
	struct tokenizer *t;
	struct err err;

	ck_assert_msg(gguf_open(&g, path, 0, &err) == 0, "%s", err.text);
	ck_assert_msg(tokenizer_new(&t, g, &err) == 0, "%s", err.text);
	gguf_free(g);
	return t;
}

/* Each time an answer was asked for, the model saw a beginning of what `whole` is. */
static void assert_prefixes(const struct chat_family *family, const struct tokenizer *t,
	const struct engine_message *messages, size_t n, const struct token_list *whole)
{
	struct err err;

	for (size_t i = 0; i + 1 < n; i++) {
		struct token_list part = {0};

		if (messages[i].role != ENGINE_USER)
			continue;
		ck_assert_int_eq(chat_render(family, t, messages, i + 1, true, &part, &err), 0);
		ck_assert_uint_lt(part.n, whole->n);
		ck_assert_mem_eq(part.ids, whole->ids, part.n * sizeof(*part.ids));
		token_list_free(&part);
	}
}

static void assert_case(struct file *f, uint32_t number)
{
	struct engine_message messages[MAX_MESSAGES];
	const struct chat_family *family;
	struct token_list ids = {0};
	char name[32], path[512];
	struct err err;
	size_t n;

	const char *text = take_text(f, &n);
	snprintf(name, sizeof(name), "%.*s", (int)n, text);
	text = take_text(f, &n);
	snprintf(path, sizeof(path), FOLDER "%.*s", (int)n, text);
	bool generation = take_byte(f) != 0;
	size_t n_messages = varint(f);
	ck_assert_uint_le(n_messages, MAX_MESSAGES);
	for (size_t i = 0; i < n_messages; i++) {
		messages[i].role = (enum engine_role)take_byte(f);
		messages[i].text = take_text(f, &messages[i].len);
	}
	struct tokenizer *t = load(path);
	ck_assert_int_eq(chat_family_find(&family, name, NULL, 0, &err), 0);
	ck_assert_int_eq(chat_render(family, t, messages, n_messages, generation, &ids, &err), 0);
	assert_prefixes(family, t, messages, n_messages, &ids);
	n = varint(f);
	for (size_t i = 0; i < n; i++) {
		size_t want = varint(f);

		ck_assert_msg(i < ids.n && ids.ids[i] == want,
			"case %u (%s): id %zu of %zu is %d, not %zu", number, path, i, n,
			i < ids.n ? (int)ids.ids[i] : -1, want);
	}
	ck_assert_msg(ids.n == n, "case %u (%s) has %zu ids, not %zu", number, path, ids.n, n);
	token_list_free(&ids);
	tokenizer_free(t);
}

/* And each begins with the tokens it had one turn earlier. */
START_TEST(renderings_equal_those_of_the_library)
{
	struct file f = read_file(FOLDER "cases.bin");
	uint32_t n;

	memcpy(&n, f.bytes, sizeof(n));
	ck_assert_uint_ge(n, 200);
	f.at = sizeof(n);
	for (uint32_t i = 0; i < n; i++)
		assert_case(&f, i);
	ck_assert_uint_eq(f.at, f.n);
	free(f.bytes);
}
END_TEST

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	Suite *s = suite_create("chat_reference");
	TCase *t = tcase_create("chat_reference");

	tcase_add_test(t, renderings_equal_those_of_the_library);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return run_suite(s);
}
