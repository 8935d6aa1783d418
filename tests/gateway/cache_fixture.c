/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway is one whose loop, reports and watch table are all there is. */
#include "tests/gateway/cache_fixture.h"

#include <check.h>
#include <ftw.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

void cache_fixture_make(struct cache_fixture *f)
{
	struct err err = {0};
	memset(f, 0, sizeof *f);
	strcpy(f->dir, "/tmp/llmfs-cache-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	snprintf(f->path, sizeof f->path, "%s/cache", f->dir);
	f->g = calloc(1, sizeof *f->g);
	atomic_init(&f->g->refs, 1000000);
	pthread_mutex_init(&f->g->lock, NULL);
	pthread_mutex_init(&f->g->busy_lock, NULL);
	pthread_cond_init(&f->g->idle, NULL);
	f->g->watch = watch_table_new();
	ck_assert_int_eq(loop_new(&f->g->loop, &err), 0);
}

void cache_fixture_open(struct cache_fixture *f)
{
	struct err err = {0};
	int r = cache_open(&f->c, f->g, f->path, &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

void cache_fixture_close(struct cache_fixture *f)
{
	f->c = cache_free(f->c);
}

void cache_fixture_settle(struct cache_fixture *f)
{
	cache_disk_settle(f->c->disk);
	cache_semantic_settle(f->c->semantic);
	cache_disk_settle(f->c->disk);
}

void cache_fixture_reopen(struct cache_fixture *f)
{
	cache_fixture_close(f);
	cache_fixture_open(f);
	cache_fixture_settle(f);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void cache_fixture_end(struct cache_fixture *f)
{
	cache_fixture_close(f);
	loop_free(f->g->loop);
	while (f->g->reports) {
		struct report *r = f->g->reports;
		f->g->reports = r->next;
		free(r);
	}
	watch_table_free(f->g->watch);
	pthread_mutex_destroy(&f->g->lock);
	pthread_mutex_destroy(&f->g->busy_lock);
	pthread_cond_destroy(&f->g->idle);
	free(f->g);
	umount2(f->dir, MNT_DETACH); /* of a full disk */
	nftw(f->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- on the loop ---- */

struct errand {
	struct loop_work work;
	void (*run)(void *arg);
	void *arg;
	sem_t done;
};

static void run_errand(struct loop_work *work)
{
	struct errand *e = list_entry(work, struct errand, work);
	e->run(e->arg);
	sem_post(&e->done);
}

static void wait_for(sem_t *done)
{
	while (sem_wait(done) < 0)
		;
	sem_destroy(done);
}

void cache_fixture_on_loop(struct cache_fixture *f, void (*run)(void *arg), void *arg)
{
	struct errand e = {.work.run = run_errand, .run = run, .arg = arg};
	list_init(&e.work.link);
	sem_init(&e.done, 0, 0);
	ck_assert(loop_post(f->g->loop, &e.work));
	wait_for(&e.done);
}

void cache_fixture_set(struct cache_fixture *f, const char *file, const char *value)
{
	struct err err = {0};
	int r = cache_setting_set(f->c, file, value, strlen(value), &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

void cache_fixture_ctl(struct cache_fixture *f, const char *line)
{
	struct err err = {0};
	int r = cache_ctl(f->c, line, strlen(line), &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

double cache_fixture_stat(struct cache_fixture *f, const char *name)
{
	struct buf out = {0};
	char *rest, *line;
	double value = -1;
	size_t n = strlen(name);
	ck_assert_int_eq(cache_stats(f->c, &out), 0);
	rest = out.data;
	while ((line = strsep(&rest, "\n")))
		if (!strncmp(line, name, n) && line[n] == ' ')
			value = strtod(line + n, NULL);
	buf_free(&out);
	ck_assert_msg(value >= 0, "stats have no %s", name);
	return value;
}

const char *cache_fixture_fault(struct cache_fixture *f, const char *key)
{
	static char sentence[256];
	*sentence = '\0';
	pthread_mutex_lock(&f->g->lock);
	for (const struct report *r = f->g->reports; r; r = r->next)
		if (!strcmp(r->key, key))
			strcpy(sentence, r->sentence);
	pthread_mutex_unlock(&f->g->lock);
	return sentence;
}

/* ---- asking ---- */

static void field(struct buf *to, const char *name, const char *value)
{
	ck_assert_int_eq(cache_key_field(to, name, value, strlen(value)), 0);
}

void cache_fixture_make_ask(struct cache_ask *ask, const struct question *q)
{
	const char *prompt = q->prompt ? q->prompt : "hi";
	*ask = (struct cache_ask){
		.user = q->user ? q->user : "ada",
		.prompt = prompt,
		.prompt_len = strlen(prompt),
		.store = !q->unstored,
		.semantic = q->semantic,
	};
	field(&ask->key, "model", q->model ? q->model : "m");
	field(&ask->key, "system", q->system ? q->system : "");
	if (q->field)
		field(&ask->key, q->field, q->value);
	ask->scope_len = ask->key.len;
	field(&ask->key, "prompt", prompt);
}

struct asking {
	struct cache_fixture *f;
	const struct question *q;
	struct cache_ticket **t;
	struct cache_found found;
	bool waits;
	sem_t told;
};

static void told(void *arg, const struct cache_found *found)
{
	struct asking *a = arg;
	a->found = *found;
	sem_post(&a->told);
}

static void begin(void *arg)
{
	struct asking *a = arg;
	struct cache_ask ask;
	cache_fixture_make_ask(&ask, a->q);
	int r = cache_begin(a->t, a->f->c, &ask, a->q->answer, &a->found, told, a);
	ck_assert_ptr_null(ask.key.data);
	ck_assert(r == 0 || r == 1);
	a->waits = r == 1;
}

struct cache_found cache_fixture_ask(
	struct cache_fixture *f, const struct question *q, struct cache_ticket **t)
{
	struct asking a = {.f = f, .q = q, .t = t};
	sem_init(&a.told, 0, 0);
	cache_fixture_on_loop(f, begin, &a);
	if (a.waits)
		wait_for(&a.told);
	return a.found;
}

struct landing {
	struct cache_ticket *t;
	const char *text;
};

static void land(void *arg)
{
	const struct landing *l = arg;
	struct text *text = text_new(l->text, strlen(l->text));
	ck_assert_ptr_null(cache_land(l->t, text, "stop", 7, 5));
	text_put(text);
}

void cache_fixture_land(struct cache_fixture *f, struct cache_ticket *t, const char *text)
{
	struct landing l = {t, text};
	cache_fixture_on_loop(f, land, &l);
}

static void drop(void *arg)
{
	ck_assert_ptr_null(cache_drop(arg));
}

void cache_fixture_drop(struct cache_fixture *f, struct cache_ticket *t)
{
	cache_fixture_on_loop(f, drop, t);
}

void cache_fixture_store(struct cache_fixture *f, const struct question *q, const char *text)
{
	struct cache_ticket *t;
	struct cache_found found = cache_fixture_ask(f, q, &t);
	ck_assert_int_eq(found.outcome, CACHE_MISS);
	ck_assert_ptr_nonnull(t);
	cache_fixture_land(f, t, text);
}

int cache_fixture_hit(struct cache_fixture *f, const struct question *q, const char *text)
{
	struct cache_ticket *t;
	struct cache_found found = cache_fixture_ask(f, q, &t);
	cache_fixture_drop(f, t);
	ck_assert_int_ne(found.outcome, CACHE_FOLLOW);
	if (found.outcome == CACHE_MISS)
		return 0;
	ck_assert_ptr_nonnull(found.text);
	ck_assert_str_eq(found.text->bytes, text);
	ck_assert_str_eq(found.finish, "stop");
	ck_assert_uint_eq(found.prompt_tok, 7);
	ck_assert_uint_eq(found.output_tok, 5);
	text_put(found.text);
	return (int)found.level;
}

void cache_fixture_forget_memory(struct cache_fixture *f)
{
	cache_fixture_set(f, "max_memory", "0");
	cache_fixture_set(f, "max_memory", "");
	ck_assert_int_eq((int)cache_fixture_stat(f, "entries"), 0);
}

char *cache_fixture_lookup(
	struct cache_fixture *f, const struct question *q, const float *vector, size_t dim)
{
	struct cache_ask ask;
	struct buf out = {0};
	cache_fixture_make_ask(&ask, q);
	ck_assert_int_eq(cache_lookup(f->c, &ask, vector, dim, "it is a test", &out), 0);
	cache_ask_free(&ask);
	buf_append(&out, "", 0);
	return out.data;
}
