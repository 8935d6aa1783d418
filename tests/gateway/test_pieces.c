/* SPDX-License-Identifier: Apache-2.0 */
/* How a text is cut for a judge, by a provider whose tokens can be counted by hand. */
#include "gateway/pieces.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "tests/run_suite.h"

/* `bytes` of them are a token, but x is one by itself, as are the first 5 of the template. */
struct fake {
	size_t bytes;
	uint32_t context_tok;
	struct buf asked; /* the newest prompt */
	size_t n_rendered, rendered_bytes;
};

static size_t tokens(const struct fake *f, const char *text, size_t len)
{
	size_t n = 0, run = 0;
	for (size_t i = 0; i < len; i++) {
		bool alone = text[i] == 'x';
		run = alone ? 0 : run + 1;
		n += alone || run % f->bytes == 1 || f->bytes == 1;
	}
	return n;
}

static void fake_limits(void *handle, struct provider_limits *out)
{
	struct fake *f = handle;
	*out = (struct provider_limits){
		.context_tok = f->context_tok, .max_token_bytes = (uint32_t)f->bytes};
}

static int fake_count(void *handle, const char *text, size_t len, size_t *n_tok, struct err *err)
{
	*n_tok = tokens(handle, text, len);
	return 0;
}

static int fake_render(void *handle, const struct provider_message *messages, size_t n,
	struct provider_prompt *out, struct err *err)
{
	struct fake *f = handle;
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(messages->role, PROVIDER_USER);
	ck_assert_uint_eq(utf8_valid_prefix(messages->text, messages->len), messages->len);
	buf_clear(&f->asked);
	ck_assert_int_eq(buf_append(&f->asked, messages->text, messages->len), 0);
	f->n_rendered++;
	f->rendered_bytes += messages->len;
	out->n_tok = 5 + tokens(f, messages->text, messages->len);
	out->data = malloc(1);
	return 0;
}

static const struct provider fake_provider = {
	.limits = fake_limits, .count = fake_count, .render = fake_render};

static struct moderation *moderation(void)
{
	struct guard_fault fault;
	struct moderation *m;
	ck_assert_int_eq(moderation_parse(&m, "model j", 7, &fault), 0);
	return m;
}

/* What stands in the newest prompt between two of its words. */
static char *between(const struct fake *f, const char *before, const char *after)
{
	char *from = strstr(f->asked.data, before);
	ck_assert_ptr_nonnull(from);
	from += strlen(before);
	char *to = strstr(from, after);
	ck_assert_ptr_nonnull(to);
	return strndup(from, (size_t)(to - from));
}

/* Characters of 1 to 3 bytes without white space, and no two places alike. */
static char *make_text(size_t len)
{
	struct buf text = {0};
	for (unsigned i = 0; text.len + 12 < len; i++)
		buf_printf(
			&text, "%u%s%s;", i, i % 3 ? "\xC3\xA9" : "a", i % 5 ? "" : "\xE2\x82\xAC");
	while (text.len < len)
		buf_append(&text, ".", 1);
	return text.data;
}

/* Cuts, and checks that the judged text is all there, in order, overlapping, each within the
 * context. The number of pieces. */
static size_t check_pieces(
	struct fake *f, enum guard_stage stage, const char *user, const char *agent)
{
	struct moderation *m = moderation();
	struct pieces p = {.moderation = m,
		.stage = stage,
		.user = user,
		.user_len = strlen(user),
		.agent = agent,
		.agent_len = strlen(agent)};
	struct provider_prompt prompt;
	struct err err = {0};
	const char *whole = stage == GUARD_INPUT ? user : agent;
	size_t n = 0, covered = 0, len = strlen(whole);
	for (;; n++) {
		bool first = n == 0;
		size_t from = p.from;
		int r = pieces_next(&p, &fake_provider, f, &prompt, &err);
		ck_assert_msg(r >= 0, "%s", err.text);
		if (r == 1)
			break;
		ck_assert_uint_le(prompt.n_tok + 16, f->context_tok);
		free(prompt.data);
		char *piece = stage == GUARD_INPUT
				      ? between(f, "\n\nUser: ", "\n\n<END CONVERSATION>")
				      : between(f, "\n\nAgent: ", "\n\n<END CONVERSATION>");
		size_t size = strlen(piece);
		ck_assert(from + size <= len && !memcmp(whole + from, piece, size));
		ck_assert_uint_le(from, covered);
		ck_assert(first || covered - from >= (size < 1024 ? 1 : PIECES_OVERLAP - 3) ||
			  size < 4);
		ck_assert(from + size > covered || len == 0);
		covered = from + size;
		free(piece);
	}
	ck_assert_uint_eq(covered, len);
	ck_assert(p.finished);
	moderation_put(m);
	return n;
}

/* What the form takes of the context without a text. */
static uint32_t form_tok(size_t bytes)
{
	struct moderation *m = moderation();
	struct buf form = {0};
	struct fake f = {.bytes = bytes};
	ck_assert_int_eq(moderation_prompt(m, GUARD_OUTPUT, "", 0, "", 0, &form), 0);
	size_t n = 5 + tokens(&f, form.data, form.len);
	buf_free(&form);
	moderation_put(m);
	return (uint32_t)n;
}

static size_t cut(size_t bytes, uint32_t context_tok, enum guard_stage stage, size_t user_len,
	size_t agent_len, struct fake *f)
{
	char *user = make_text(user_len), *agent = make_text(agent_len);
	*f = (struct fake){.bytes = bytes, .context_tok = context_tok};
	size_t n = check_pieces(f, stage, user ? user : "", agent ? agent : "");
	free(user);
	free(agent);
	return n;
}

START_TEST(a_text_that_fits_is_asked_about_whole)
{
	struct fake f;
	ck_assert_uint_eq(cut(4, 1000, GUARD_INPUT, 100, 0, &f), 1);
	char *text = between(&f, "\n\nUser: ", "\n\n<END");
	ck_assert_uint_eq(strlen(text), 100);
	free(text);
	buf_free(&f.asked);
	ck_assert_uint_eq(cut(4, 1000, GUARD_OUTPUT, 200, 300, &f), 1);
	text = between(&f, "\n\nUser: ", "\n\nAgent: ");
	ck_assert_uint_eq(strlen(text), 200);
	free(text);
	buf_free(&f.asked);
	ck_assert_uint_eq(cut(4, 1000, GUARD_INPUT, 0, 0, &f), 1);
	buf_free(&f.asked);
}
END_TEST

START_TEST(of_a_text_of_any_length_every_byte_is_in_some_piece)
{
	static const size_t bytes[] = {1, 2, 4, 7};
	struct fake f;
	for (int i = 0; i < 4; i++) {
		uint32_t own = form_tok(bytes[i]) + 16;
		for (size_t len = 1; len < 20000; len = len * 3 / 2 + 1) {
			cut(bytes[i], own + 20, GUARD_INPUT, len < 3000 ? len : 3000, 0, &f);
			buf_free(&f.asked);
			cut(bytes[i], own + 700, GUARD_INPUT, len, 0, &f);
			buf_free(&f.asked);
			cut(bytes[i], own + 700, GUARD_OUTPUT, len / 2, len, &f);
			buf_free(&f.asked);
			cut(bytes[i], own + 700, GUARD_OUTPUT, len, 30, &f);
			buf_free(&f.asked);
		}
	}
}
END_TEST

START_TEST(a_long_prompt_is_context_and_its_end_is_kept)
{
	struct fake f;
	ck_assert_uint_gt(cut(4, 1000, GUARD_OUTPUT, 5000, 6000, &f), 1);
	char *user = make_text(5000), *kept = between(&f, "\n\nUser: ", "\n\nAgent: ");
	size_t n = strlen(kept);
	ck_assert_str_eq(user + 5000 - n, kept);
	size_t quarter = 4 * (1000 - 16 - form_tok(4)) / 4; /* in bytes, 4 to a token */
	ck_assert_uint_gt(n, quarter * 7 / 8);
	ck_assert_uint_le(n, quarter);
	free(user);
	free(kept);
	buf_free(&f.asked);
}
END_TEST

START_TEST(where_tokens_are_short_pieces_are_too)
{
	struct fake f = {.bytes = 4, .context_tok = 1000};
	struct buf text = {0};
	/* Eight thousand bytes of four to a token between as many of one to a token. */
	for (int part = 0; part < 3; part++)
		for (int i = 0; i < 2000; i++)
			buf_printf(
				&text, part == 1 ? "%04d" : "xxx%c", part == 1 ? i : 'a' + i % 20);
	struct moderation *m = moderation();
	struct pieces p = {.moderation = m, .user = text.data, .user_len = text.len, .agent = ""};
	struct provider_prompt prompt;
	struct err err;
	size_t n = 0;
	for (; pieces_next(&p, &fake_provider, &f, &prompt, &err) == 0; n++) {
		ck_assert_uint_le(prompt.n_tok + 16, f.context_tok);
		free(prompt.data);
	}
	ck_assert(p.finished);
	/* Three x and one of four are four tokens. */
	size_t room = 1000 - 16 - form_tok(4), sum = 2 * 8000 + 2000;
	ck_assert_uint_ge(n, sum / room);
	ck_assert_uint_le(n, 2 * sum / room);
	/* Little was rendered for nothing. */
	ck_assert_uint_le(f.n_rendered, 3 * n);
	moderation_put(m);
	buf_free(&text);
	buf_free(&f.asked);
}
END_TEST

START_TEST(a_megabyte_is_never_rendered_at_once)
{
	struct fake f;
	size_t n = cut(4, 1000, GUARD_INPUT, 1 << 20, 0, &f);
	ck_assert_uint_gt(n, (1 << 20) / 4 / 1000);
	ck_assert_uint_lt(f.rendered_bytes, 4 << 20);
	buf_free(&f.asked);
}
END_TEST

START_TEST(a_context_too_short_for_the_form_is_said)
{
	struct fake f = {.bytes = 4, .context_tok = 150};
	struct moderation *m = moderation();
	struct pieces p = {.moderation = m, .user = "hm", .user_len = 2, .agent = ""};
	struct provider_prompt prompt;
	struct err err = {0};
	ck_assert_int_eq(pieces_next(&p, &fake_provider, &f, &prompt, &err), -EMSGSIZE);
	ck_assert_ptr_nonnull(strstr(err.text, "150 tokens is too short"));
	ck_assert_ptr_null(prompt.data);
	moderation_put(m);
	buf_free(&f.asked);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pieces");
	TCase *t = tcase_create("pieces");
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_text_that_fits_is_asked_about_whole);
	tcase_add_test(t, of_a_text_of_any_length_every_byte_is_in_some_piece);
	tcase_add_test(t, a_long_prompt_is_context_and_its_end_is_kept);
	tcase_add_test(t, where_tokens_are_short_pieces_are_too);
	tcase_add_test(t, a_megabyte_is_never_rendered_at_once);
	tcase_add_test(t, a_context_too_short_for_the_form_is_said);
	suite_add_tcase(s, t);
	return run_suite(s);
}
