/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trial of tests/gateway/semantic_pairs without a model: as if the embedding called everything
 * alike. How that does with one is for tools/semantic/evaluate; see docs/bench.md.
 */
#include "tests/run_suite.h"

#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "gateway/agree.h"

struct half {
	unsigned pairs, passed; /* that mean the same */
	unsigned traps, fallen; /* each look-alike with each line of its group */
	unsigned first;         /* look-alikes with the first line alone: what is called a trap */
};

static struct half halves[2]; /* tuned, held out */

struct group {
	char text[16][512];
	unsigned n;
	struct half *half;
};

static bool agrees(const char *a, const char *b)
{
	struct agree_sign *x = agree_sign_new(a, strlen(a)), *y = agree_sign_new(b, strlen(b));
	bool ok = agree_compare(x, y) == AGREE_OK;

	agree_sign_free(x);
	agree_sign_free(y);
	return ok;
}

static void read_line(struct group *g, const char *line)
{
	if (line[0] == '@') {
		g->n = 0;
		g->half = &halves[strcmp(line, "@ held") == 0];
	}
	if (line[0] != '=' && line[0] != '!')
		return;
	for (unsigned i = 0; i < g->n; i++) {
		const bool ok = agrees(g->text[i], line + 2);
		if (line[0] == '=') {
			g->half->pairs++;
			g->half->passed += ok;
			continue;
		}
		g->half->first += i == 0;
		g->half->traps++;
		g->half->fallen += ok;
		if (ok)
			printf("wrong: %s | %s\n", g->text[i], line + 2);
	}
	if (line[0] == '=') {
		ck_assert_uint_lt(g->n, 16);
		snprintf(g->text[g->n++], sizeof(g->text[0]), "%s", line + 2);
	}
}

static void read_all(void)
{
	glob_t files;

	ck_assert_int_eq(glob(SOURCE "/tests/gateway/semantic_pairs/*.txt", 0, NULL, &files), 0);
	for (size_t i = 0; i < files.gl_pathc; i++) {
		FILE *f = fopen(files.gl_pathv[i], "r");
		struct group g = {0};
		char line[512];
		ck_assert_ptr_nonnull(f);
		while (fgets(line, sizeof(line), f)) {
			line[strcspn(line, "\n")] = 0;
			read_line(&g, line);
		}
		fclose(f);
	}
	globfree(&files);
}

START_TEST(there_are_500_pairs_and_500_traps_and_half_of_them_are_held_out)
{
	ck_assert_uint_ge(halves[0].pairs + halves[1].pairs, 500);
	ck_assert_uint_ge(halves[0].first + halves[1].first, 500);
	ck_assert_uint_ge(halves[1].pairs, 250);
	ck_assert_uint_ge(halves[1].first, 250);
}
END_TEST

/* Of all look-alikes, were the cosine 1: no more than 2 in 1000 share an answer. */
START_TEST(look_alikes_are_refused_whatever_their_cosine)
{
	for (unsigned h = 0; h < 2; h++) {
		const struct half *x = &halves[h];
		printf("%s: %u of %u look-alikes let pass\n", h ? "held out" : "tuned", x->fallen,
			x->traps);
		ck_assert_uint_le(x->fallen * 1000, x->traps * 2);
	}
}
END_TEST

START_TEST(nearly_half_of_the_paraphrases_are_let_pass)
{
	for (unsigned h = 0; h < 2; h++) {
		const struct half *x = &halves[h];
		printf("%s: %u of %u paraphrases let pass\n", h ? "held out" : "tuned", x->passed,
			x->pairs);
		ck_assert_uint_ge(x->passed * 100, x->pairs * 45);
	}
}
END_TEST

static Suite *pairs_suite(void)
{
	Suite *s = suite_create("agree_pairs");
	TCase *t = tcase_create("pairs");

	tcase_add_unchecked_fixture(t, read_all, NULL);
	tcase_add_test(t, there_are_500_pairs_and_500_traps_and_half_of_them_are_held_out);
	tcase_add_test(t, look_alikes_are_refused_whatever_their_cosine);
	tcase_add_test(t, nearly_half_of_the_paraphrases_are_let_pass);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return run_suite(pairs_suite());
}
