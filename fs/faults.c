/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shell says "Invalid argument" and no more, so the sentence is kept for who asks. One for each
 * directory of settings, until a write to it is well, the directory goes or the daemon ends; no
 * more than FAULTS_MAX, the oldest go first. They are few, so they stand in a list.
 */
#include "fs/faults.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"

enum { FAULTS_MAX = 1024 };

struct fault {
	struct list link;
	char dir[COLLECTION_PATH];
	char sentence[64 + sizeof(struct err)];
	bool is_withdrawn;
};

struct faults {
	pthread_mutex_t lock;
	struct list all; /* struct fault, oldest first */
	size_t n;
};

struct faults *faults_new(void)
{
	struct faults *f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	pthread_mutex_init(&f->lock, NULL);
	list_init(&f->all);
	return f;
}

struct faults *faults_free(struct faults *f)
{
	if (!f)
		return NULL;
	list_for_each (link, &f->all)
		free(list_entry(link, struct fault, link));
	pthread_mutex_destroy(&f->lock);
	free(f);
	return NULL;
}

/* With the lock held. */
static struct fault *find(struct faults *f, const char *dir)
{
	list_for_each (link, &f->all) {
		struct fault *one = list_entry(link, struct fault, link);
		if (!strcmp(one->dir, dir))
			return one;
	}
	return NULL;
}

static void drop(struct faults *f, struct fault *one)
{
	if (!one)
		return;
	list_remove(&one->link);
	f->n--;
	free(one);
}

static const char guards_dir[] = "guards", default_link[] = "default";

/* Its directory; false: it is in none that has an `error`. */
static bool directory_of(const struct node *node, char dir[COLLECTION_PATH])
{
	const struct collection *c = collection_inside(node->row->place);
	if (node->row->place == TABLE_GUARDS) {
		snprintf(dir, COLLECTION_PATH, "%s", guards_dir);
		return true;
	}
	if (c)
		collection_path(c, c->single ? "" : c->name(node->object->theirs), "", dir);
	return c;
}

/* Sentences about a value name its file already. */
static void print(struct fault *one, const char *file, const char *why)
{
	size_t n = strlen(file);
	bool named = !strncmp(why, file, n) && why[n] == ':';
	snprintf(one->sentence, sizeof one->sentence, "%s%s%s", named ? "" : file,
		named ? "" : ": ", why);
}

static void note(struct faults *f, const char *dir, const char *file, int r, const struct err *err)
{
	struct fault *fresh = r ? calloc(1, sizeof *fresh) : NULL;
	if (fresh) {
		snprintf(fresh->dir, sizeof fresh->dir, "%s", dir);
		print(fresh, file, err && *err->text ? err->text : strerror(-r));
	}
	pthread_mutex_lock(&f->lock);
	drop(f, find(f, dir));
	if (fresh && f->n == FAULTS_MAX)
		drop(f, list_entry(f->all.next, struct fault, link));
	if (fresh) {
		list_append(&f->all, &fresh->link);
		f->n++;
	}
	pthread_mutex_unlock(&f->lock);
}

/* If the fault of that directory is that file's. */
static void forget_of(struct faults *f, const char *dir, const char *file)
{
	size_t n = strlen(file);
	pthread_mutex_lock(&f->lock);
	struct fault *one = find(f, dir);
	if (one && !strncmp(one->sentence, file, n) && one->sentence[n] == ':')
		drop(f, one);
	pthread_mutex_unlock(&f->lock);
}

void faults_note(struct fs *fs, const struct node *node, int r, const struct err *err)
{
	char dir[COLLECTION_PATH];
	if (fs->faults && directory_of(node, dir))
		note(fs->faults, dir, node->row->name, r < 0 ? r : 0, err);
}

void faults_note_guard(struct fs *fs, const char *file, int r, const struct err *err)
{
	if (fs->faults)
		note(fs->faults, guards_dir, file, r, err);
}

void faults_note_default(struct fs *fs, const char *name, int r, const struct err *err)
{
	char dir[COLLECTION_PATH];
	collection_path(&collection_models, name, "", dir);
	if (!fs->faults)
		return;
	if (r < 0)
		note(fs->faults, dir, default_link, r, err);
	else
		forget_of(fs->faults, dir, default_link);
}

static void set_withdrawn(struct fs *fs, const struct node *node, bool is)
{
	char dir[COLLECTION_PATH];
	struct faults *f = fs->faults;
	if (!f || !directory_of(node, dir))
		return;
	pthread_mutex_lock(&f->lock);
	struct fault *one = find(f, dir);
	if (one)
		one->is_withdrawn = is;
	pthread_mutex_unlock(&f->lock);
}

void faults_withdraw(struct fs *fs, const struct node *node)
{
	set_withdrawn(fs, node, true);
}

void faults_tell_again(struct fs *fs, const struct node *node)
{
	set_withdrawn(fs, node, false);
}

int faults_render(struct fs *fs, const struct node *node, struct buf *out)
{
	char dir[COLLECTION_PATH];
	struct faults *f = fs->faults;
	int r = 0;
	if (!f || !directory_of(node, dir))
		return 0;
	pthread_mutex_lock(&f->lock);
	const struct fault *one = find(f, dir);
	if (one && !one->is_withdrawn)
		r = buf_printf(out, "%s\n", one->sentence);
	pthread_mutex_unlock(&f->lock);
	return r;
}

void faults_forget(struct fs *fs, const struct collection *c, const char *name)
{
	char dir[COLLECTION_PATH];
	struct faults *f = fs->faults;
	if (!f)
		return;
	collection_path(c, name, "", dir);
	pthread_mutex_lock(&f->lock);
	drop(f, find(f, dir));
	pthread_mutex_unlock(&f->lock);
}

void faults_forget_guard(struct fs *fs, const char *file)
{
	if (fs->faults)
		forget_of(fs->faults, guards_dir, file);
}
