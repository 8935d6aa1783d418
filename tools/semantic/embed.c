/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's vectors for evaluate.c: reads one text a line from stdin, and writes one vector a
 * line, numbers with spaces between, of length one.
 *
 * usage: embed-texts MODEL.gguf < texts > vectors
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

enum { BATCH = 64 };

struct batch {
	char *text[BATCH];
	size_t len[BATCH];
	size_t n;
	uint32_t dim;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool over;
	int status;
};

static void print(const float *v, uint32_t dim)
{
	for (uint32_t i = 0; i < dim; i++)
		printf(i ? " %.7g" : "%.7g", (double)v[i]);
	putchar('\n');
}

/* On the engine's thread; the other one waits. */
static void done(void *arg, int status, const char *sentence, const float *vectors,
	const struct engine_usage *usage)
{
	struct batch *b = arg;

	(void)usage;
	if (status != 0)
		fprintf(stderr, "embed-texts: %s\n", sentence);
	for (size_t i = 0; status == 0 && i < b->n; i++)
		print(vectors + i * b->dim, b->dim);
	pthread_mutex_lock(&b->lock);
	b->status = status;
	b->over = true;
	pthread_cond_signal(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

static int embed(struct engine *e, struct batch *b)
{
	struct engine_embed q = {(const char *const *)b->text, b->len, (uint32_t)b->n, done, b};
	struct err err = {""};

	b->over = false;
	uint64_t id;
	if (engine_embed(e, &q, &id, &err) != 0) {
		fprintf(stderr, "embed-texts: %s\n", err.text);
		return 1;
	}
	pthread_mutex_lock(&b->lock);
	while (!b->over)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
	for (size_t i = 0; i < b->n; i++)
		free(b->text[i]);
	b->n = 0;
	return b->status != 0;
}

static int embed_all(struct engine *e)
{
	struct batch b = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	char *line = NULL;
	size_t cap = 0;
	int bad = 0;

	b.dim = engine_info(e)->n_embd;
	while (!bad && getline(&line, &cap, stdin) > 0) {
		line[strcspn(line, "\n")] = 0;
		b.text[b.n] = strdup(line);
		if (!b.text[b.n])
			bad = 1;
		else
			b.len[b.n++] = strlen(line);
		if (b.n == BATCH)
			bad = embed(e, &b);
	}
	if (!bad && b.n > 0)
		bad = embed(e, &b);
	free(line);
	return bad;
}

int main(int argc, char **argv)
{
	struct engine *e = NULL;
	struct err err = {""};

	if (argc != 2) {
		fputs("usage: embed-texts MODEL.gguf < texts > vectors\n", stderr);
		return 2;
	}
	if (engine_open(&e, argv[1], NULL, NULL, &err) != 0) {
		fprintf(stderr, "embed-texts: %s: %s\n", argv[1], err.text);
		return 1;
	}
	int bad = engine_info(e)->is_encoder ? embed_all(e) : 2;
	if (bad == 2)
		fprintf(stderr, "embed-texts: %s gives no embeddings\n", argv[1]);
	engine_free(e);
	return bad || fflush(stdout) != 0;
}
