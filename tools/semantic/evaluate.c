/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trial of the semantic cache: of pairs of prompts that mean the same, how many would share an
 * answer; of pairs that only look so, how many would, wrongly.
 *
 * usage: evaluate-semantic -l PAIRS.txt ...                         each text, one a line, sorted
 *        evaluate-semantic -v VECTORS [-h tune|held] PAIRS.txt ...  hits and wrong hits by
 * threshold evaluate-semantic -w ...     also: each wrong hit, and each paraphrase refused at 0.90
 * or above
 *
 * VECTORS has one line of numbers for each line that -l prints, from whatever makes embeddings:
 * tools/semantic/embed.py, or the engine. Without -v the cosine counts as 1: what agree does alone.
 * Pairs are as tests/gateway/semantic_pairs/README.md says.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/agree.h"

enum { TEXTS_MAX = 8192, GROUP_MAX = 32, DIM_MAX = 4096 };

struct text {
	char *text;
	float *vector; /* NULL: none */
};

struct pair {
	char *a, *b;
	bool same, held, first; /* first: with the group's first line */
	float cosine;
	enum agree_reason reason;
};

static struct text texts[TEXTS_MAX];
static struct pair *pairs;
static size_t n_texts, n_pairs, dim;

static void fail(const char *what)
{
	fprintf(stderr, "evaluate-semantic: %s\n", what);
	exit(1);
}

static char *copy(const char *text)
{
	char *s = strdup(text);

	if (!s)
		fail("no memory");
	return s;
}

static void add_pair(char *a, char *b, bool same, bool held, bool first)
{
	pairs = realloc(pairs, (n_pairs + 1) * sizeof(*pairs));
	if (!pairs)
		fail("no memory");
	pairs[n_pairs++] = (struct pair){
		.a = a, .b = b, .same = same, .held = held, .first = first, .cosine = 1};
}

struct group {
	char *same[GROUP_MAX];
	size_t n;
	bool held;
};

static void read_line(struct group *g, const char *line)
{
	if (line[0] == '@') {
		g->n = 0;
		g->held = strcmp(line, "@ held") == 0;
		return;
	}
	if ((line[0] != '=' && line[0] != '!') || line[1] != ' ')
		return;
	if (n_texts == TEXTS_MAX || g->n == GROUP_MAX)
		fail("too many lines");
	char *text = copy(line + 2);
	texts[n_texts++].text = text;
	for (size_t i = 0; i < g->n; i++)
		add_pair(g->same[i], text, line[0] == '=', g->held, i == 0);
	if (line[0] == '=')
		g->same[g->n++] = text;
}

static void read_pairs(const char *path)
{
	FILE *f = fopen(path, "r");
	struct group g = {0};
	char line[4096];

	if (!f)
		fail(path);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		read_line(&g, line);
	}
	fclose(f);
}

static int compare_texts(const void *a, const void *b)
{
	const struct text *x = a, *y = b;

	return strcmp(x->text, y->text);
}

/* Sorted, each once. */
static void sort_texts(void)
{
	size_t n = 0;

	qsort(texts, n_texts, sizeof(*texts), compare_texts);
	for (size_t i = 0; i < n_texts; i++) {
		if (n == 0 || strcmp(texts[n - 1].text, texts[i].text) != 0)
			texts[n++] = texts[i];
	}
	n_texts = n;
}

static void read_vectors(const char *path)
{
	FILE *f = fopen(path, "r");
	char *line = NULL;
	size_t cap = 0, at = 0;

	if (!f)
		fail(path);
	for (; getline(&line, &cap, f) > 0; at++) {
		if (at == n_texts)
			fail("more vectors than texts");
		float *v = calloc(DIM_MAX, sizeof(*v));
		size_t n = 0;
		double sum = 0;
		for (char *p = line, *end; v && n < DIM_MAX; p = end, n++) {
			v[n] = strtof(p, &end);
			if (end == p)
				break;
			sum += (double)v[n] * (double)v[n];
		}
		if (!v || n == 0 || (dim && dim != n) || !(sum > 0))
			fail("vectors are not all of one dimension");
		dim = n;
		for (size_t i = 0; i < n; i++)
			v[i] = (float)(v[i] / sqrt(sum));
		texts[at].vector = v;
	}
	free(line);
	fclose(f);
	if (at != n_texts)
		fail("fewer vectors than texts: are they of the list that -l prints?");
}

static const float *vector_of(char *text)
{
	const struct text key = {.text = text};
	const struct text *t = bsearch(&key, texts, n_texts, sizeof(*texts), compare_texts);

	return t ? t->vector : NULL;
}

static void judge_pairs(void)
{
	for (size_t i = 0; i < n_pairs; i++) {
		struct pair *p = &pairs[i];
		const float *x = vector_of(p->a), *y = vector_of(p->b);
		double sum = 0;
		for (size_t k = 0; x && y && k < dim; k++)
			sum += (double)x[k] * (double)y[k];
		if (dim)
			p->cosine = (float)sum;
		struct agree_sign *a = agree_sign_new(p->a, strlen(p->a));
		struct agree_sign *b = agree_sign_new(p->b, strlen(p->b));
		if (!a || !b)
			fail("no memory");
		p->reason = agree_compare(a, b);
		agree_sign_free(a);
		agree_sign_free(b);
	}
}

struct counts {
	size_t pairs, hits, traps, wrong;
};

static struct counts count(const char *half, float least, bool agree, bool every)
{
	struct counts c = {0};

	for (size_t i = 0; i < n_pairs; i++) {
		const struct pair *p = &pairs[i];
		const bool hit = p->cosine >= least && (!agree || p->reason == AGREE_OK);
		if ((half && p->held != (strcmp(half, "held") == 0)) ||
			(!p->same && !p->first && !every))
			continue;
		*(p->same ? &c.pairs : &c.traps) += 1;
		*(p->same ? &c.hits : &c.wrong) += hit;
	}
	return c;
}

static void tell(const char *half, float least)
{
	printf("%5.2f", (double)least);
	for (int agree = 0; agree < 2; agree++) {
		const struct counts c = count(half, least, agree, false);
		const struct counts all = count(half, least, agree, true);
		const size_t hits = c.hits + c.wrong;
		printf("  | %5.1f %%  %3zu of %3zu  %6.2f %%  (%zu of %zu)",
			100.0 * (double)c.hits / (double)c.pairs, c.wrong, hits,
			hits ? 100.0 * (double)c.wrong / (double)hits : 0, all.wrong, all.traps);
	}
	printf("\n");
}

static void tell_reasons(const char *half)
{
	for (int same = 1; same >= 0; same--) {
		printf("%s, agree alone:", same ? "paraphrases" : "traps");
		for (unsigned r = 0; r < N_AGREE_REASONS; r++) {
			size_t n = 0;
			for (size_t i = 0; i < n_pairs; i++)
				n += pairs[i].same == same && (same || pairs[i].first) &&
				     pairs[i].reason == r &&
				     (!half || pairs[i].held == (strcmp(half, "held") == 0));
			printf(" %s %zu", agree_word((enum agree_reason)r), n);
		}
		printf("\n");
	}
}

static void tell_failures(const char *half)
{
	for (size_t i = 0; i < n_pairs; i++) {
		const struct pair *p = &pairs[i];
		if (half && p->held != (strcmp(half, "held") == 0))
			continue;
		if (p->same ? p->reason != AGREE_OK && p->cosine >= 0.9f : p->reason == AGREE_OK)
			printf("%s %.3f %s\n\t%s\n\t%s\n", p->same ? "refused" : "wrong",
				(double)p->cosine, agree_word(p->reason), p->a, p->b);
	}
}

int main(int argc, char **argv)
{
	const char *half = NULL, *vectors = NULL;
	bool list = false, failures = false;

	for (int c; (c = getopt(argc, argv, "lwv:h:")) != -1;) {
		if (c == 'l')
			list = true;
		else if (c == 'w')
			failures = true;
		else if (c == 'v')
			vectors = optarg;
		else if (c == 'h' && (strcmp(optarg, "tune") == 0 || strcmp(optarg, "held") == 0))
			half = optarg;
		else
			return 2;
	}
	if (optind == argc)
		fail("which pairs?");
	for (int i = optind; i < argc; i++)
		read_pairs(argv[i]);
	sort_texts();
	for (size_t i = 0; list && i < n_texts; i++)
		printf("%s\n", texts[i].text);
	if (list)
		return 0;
	if (vectors)
		read_vectors(vectors);
	judge_pairs();
	const struct counts all = count(half, -2, false, true),
			    first = count(half, -2, false, false);
	printf("%zu paraphrase pairs, %zu traps (%zu with every paraphrase)%s%s\n", all.pairs,
		first.traps, all.traps, half ? ", half: " : "", half ? half : "");
	tell_reasons(half);
	printf("each: hits of paraphrases, wrong of all hits (wrong with every paraphrase)\n");
	printf("least  | cosine alone                                | and agree\n");
	for (int least = vectors ? 80 : 99; least < 100; least++)
		tell(half, (float)least / 100);
	if (failures)
		tell_failures(half);
	return 0;
}
