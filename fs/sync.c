/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TREE is the truth about models, the gateway is what runs. One pass compares all of both, so it
 * does not matter which event caused it, in which order events come, or whether one was lost. There
 * are a handful of models with two small files each; a pass costs microseconds.
 *
 * The pass compares with what the gateway has and not with what an earlier pass did. A change
 * through the mount that is overtaken by a pass with the old text is therefore repaired by the
 * next pass, which the very rename that stored the new text has caused.
 */
#include "fs/sync.h"

#include "fs/fs.h"
#include "fs/names.h"
#include "fs/tree.h"

#include "base/log.h"
#include "gateway/gateway.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

static const char *const settings[] = {"path", "template"};
#define N_SETTINGS (sizeof settings / sizeof *settings)

/* A burst of changes (git checkout) is one pass. */
#define SETTLE_MS 50

struct sync {
	struct fs *fs;
	pthread_t thread;
	int inotify, wake; /* inotify: -1 when there is none */
	_Atomic bool stop;
};

/* ---- one pass ---- */

static void report(struct fs *fs, const char *model, const char *file, const struct err *err)
{
	char key[160];
	snprintf(key, sizeof key, "tree:models/%s/%s", model, file);
	if (err) {
		char sentence[512];
		snprintf(sentence, sizeof sentence, "models/%s/%s in TREE: %s", model, file,
			err->text);
		log_warn("%s", sentence);
		gateway_report(fs->gateway, key, sentence);
	} else {
		gateway_report(fs->gateway, key, NULL);
	}
}

/* What the gateway is told for a setting's text: paths are made absolute. */
static int effective(struct fs *fs, const char *model, const char *file, const char *text,
	size_t len, struct buf *out)
{
	if (strcmp(file, "path") == 0)
		return tree_resolve(fs->tree, model, text, len, out);
	return buf_append(out, text, len);
}

static bool same(const struct buf *a, const struct buf *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static int pass_setting(struct fs *fs, struct model *m, const char *file, struct err *err)
{
	const char *name = model_name(m);
	struct buf text = {0}, want = {0}, have = {0};
	int r = tree_setting_get(fs->tree, name, file, &text);
	if (r == -ENOENT)
		r = 0;
	else if (r < 0)
		err_set(err, r, "%s", r == -EINVAL ? "not a regular file" : strerror(-r));
	else
		r = tree_trusted(fs->tree, name, file, err);
	if (r == 0)
		r = effective(fs, name, file, text.data ? text.data : "", text.len, &want);
	if (r == 0)
		r = model_setting_get(m, file, &have);
	if (r == 0 && !same(&want, &have))
		r = model_setting_set(m, file, want.data ? want.data : "", want.len, err);
	buf_free(&text);
	buf_free(&want);
	buf_free(&have);
	return r;
}

static void pass_model(struct fs *fs, const char *name)
{
	struct err err = {{0}};
	int r = 0;
	struct model *m = gateway_model_find(fs->gateway, name);
	if (!m) {
		r = gateway_model_create(fs->gateway, name, &err);
		if (r == -EEXIST)
			r = 0;
		m = gateway_model_find(fs->gateway, name);
	}
	report(fs, name, "", r < 0 ? &err : NULL);
	for (size_t i = 0; m && i < N_SETTINGS; i++) {
		err.text[0] = '\0';
		r = pass_setting(fs, m, settings[i], &err);
		report(fs, name, settings[i], r < 0 ? &err : NULL);
	}
	model_put(m);
}

static void pass_default(struct fs *fs)
{
	struct buf want = {0}, have = {0};
	struct err err = {{0}};
	tree_default_get(fs->tree, &want);
	gateway_default(fs->gateway, &have);
	if (!same(&want, &have) &&
		gateway_default_set(fs->gateway, want.len ? want.data : NULL, &err) < 0)
		log_warn("models/default in TREE: %s", err.text);
	buf_free(&want);
	buf_free(&have);
}

/* Models that TREE no longer has. Asked of TREE after the gateway: mkdir through the mount makes
 * the directory first, so a model that is being made is never taken for one that has gone. */
static void pass_gone(struct fs *fs)
{
	char **known = gateway_model_names(fs->gateway);
	char **names = tree_models(fs->tree);
	if (!names)
		known = names_free(known);
	for (size_t i = 0; known && known[i]; i++) {
		struct err err = {{0}};
		if (names_has(names, known[i]))
			continue;
		int r = gateway_model_remove(fs->gateway, known[i], &err);
		if (r == -EBUSY) {
			/* The link in TREE dangles, which is the user's right. */
			struct buf link = {0};
			gateway_default(fs->gateway, &link);
			gateway_default_set(fs->gateway, NULL, NULL);
			r = gateway_model_remove(fs->gateway, known[i], &err);
			gateway_default_set(fs->gateway, link.len ? link.data : NULL, NULL);
			buf_free(&link);
		}
		if (r < 0 && r != -ENOENT)
			log_warn("models/%s has gone from TREE: %s", known[i], err.text);
	}
	names_free(names);
	names_free(known);
}

/* What was reported of a model goes with it. The names are those of the pass before. */
static void pass_reports(struct fs *fs, char **names)
{
	static char **before; /* passes never run at the same time */
	for (size_t i = 0; before && before[i]; i++) {
		if (names_has(names, before[i]))
			continue;
		report(fs, before[i], "", NULL);
		for (size_t j = 0; j < N_SETTINGS; j++)
			report(fs, before[i], settings[j], NULL);
	}
	names_free(before);
	before = names;
}

void sync_all(struct fs *fs)
{
	char **names = tree_models(fs->tree);
	if (!names)
		return;
	for (size_t i = 0; names[i]; i++)
		pass_model(fs, names[i]);
	pass_default(fs);
	pass_gone(fs);
	pass_reports(fs, names);
}

/* ---- the thread ---- */

static void watch(struct sync *s)
{
	const uint32_t mask = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVE | IN_ONLYDIR;
	if (s->inotify < 0)
		return;
	char path[4096 + 160];
	const char *tree = tree_path(s->fs->tree);
	inotify_add_watch(s->inotify, tree, mask);
	snprintf(path, sizeof path, "%s/models", tree);
	inotify_add_watch(s->inotify, path, mask);
	char **names = tree_models(s->fs->tree);
	for (size_t i = 0; names && names[i]; i++) {
		snprintf(path, sizeof path, "%s/models/%s", tree, names[i]);
		inotify_add_watch(s->inotify, path, mask);
	}
	names_free(names);
}

static void drain(int fd)
{
	char events[4096];
	while (fd >= 0 && read(fd, events, sizeof events) > 0)
		;
}

static void *run(void *arg)
{
	struct sync *s = arg;
	for (;;) {
		struct pollfd fds[2] = {{s->wake, POLLIN, 0}, {s->inotify, POLLIN, 0}};
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return NULL;
		if (s->stop)
			return NULL;
		poll(fds, 1, SETTLE_MS);
		if (s->stop)
			return NULL;
		/* Watch first, so that nothing is missed between the pass and the next event. */
		drain(s->wake);
		drain(s->inotify);
		watch(s);
		/* At the end the gateway refuses everything; that is no fault of TREE. */
		if (atomic_load(&s->fs->serving))
			sync_all(s->fs);
	}
}

struct sync *sync_new(struct fs *fs)
{
	struct sync *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->fs = fs;
	s->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (s->inotify < 0)
		log_warn("changes in TREE are seen at SIGHUP only: inotify: %s", strerror(errno));
	s->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	watch(s);
	if (s->wake < 0 || pthread_create(&s->thread, NULL, run, s) != 0) {
		if (s->wake >= 0)
			close(s->wake);
		if (s->inotify >= 0)
			close(s->inotify);
		free(s);
		return NULL;
	}
	/* What changed between the first pass and the watches. */
	sync_wake(s);
	return s;
}

void sync_wake(struct sync *s)
{
	if (s)
		eventfd_write(s->wake, 1);
}

struct sync *sync_free(struct sync *s)
{
	if (!s)
		return NULL;
	s->stop = true;
	sync_wake(s);
	pthread_join(s->thread, NULL);
	close(s->wake);
	if (s->inotify >= 0)
		close(s->inotify);
	free(s);
	return NULL;
}

/* ---- changes through the mount ---- */

int sync_model_make(struct fs *fs, const char *name, struct err *err)
{
	struct model *known = gateway_model_find(fs->gateway, name);
	if (known || !tree_name_ok(name)) {
		model_put(known);
		return err_set(err, known ? -EEXIST : -EINVAL,
			known ? "model %s exists" : "%s is not a model's name", name);
	}
	/* Before there is a directory in TREE, which a pass might see. */
	int made = model_name_check(name, err);
	if (made < 0)
		return made;
	made = tree_model_make(fs->tree, name);
	if (made < 0 && made != -EEXIST)
		return err_set(err, made, "TREE: %s", strerror(-made));
	int r = gateway_model_create(fs->gateway, name, err);
	if (r == -EEXIST && made == 0)
		r = 0; /* a pass has seen the new directory before we came here */
	if (r < 0 && made == 0)
		tree_model_remove(fs->tree, name);
	return r;
}

int sync_model_remove(struct fs *fs, const char *name, struct err *err)
{
	struct buf link = {0};
	gateway_default(fs->gateway, &link);
	bool is_default = link.len && strcmp(link.data, name) == 0;
	buf_free(&link);
	if (is_default)
		return err_set(err, -EBUSY, "models/default points to %s", name);
	int r = tree_model_remove(fs->tree, name);
	if (r < 0)
		return err_set(err, r, "TREE: %s", strerror(-r));
	r = gateway_model_remove(fs->gateway, name, err);
	return r == -ENOENT ? 0 : r;
}

int sync_default_set(struct fs *fs, const char *name, struct err *err)
{
	if (name && !tree_name_ok(name))
		return err_set(err, -EINVAL, "default must point to the bare name of a sibling");
	int r = tree_default_set(fs->tree, name);
	if (r < 0)
		return err_set(err, r, "TREE: %s", strerror(-r));
	return gateway_default_set(fs->gateway, name, err);
}

int sync_setting_set(struct fs *fs, const char *model, const char *file, const char *value,
	size_t len, struct err *err)
{
	struct model *m = gateway_model_find(fs->gateway, model);
	if (!m)
		return err_set(err, -ENOENT, "no model %s", model);
	struct buf text = {0};
	int r = effective(fs, model, file, value, len, &text);
	const char *real = text.data ? text.data : "";
	if (r == 0)
		r = model_setting_check(file, real, text.len, err);
	if (r == 0) {
		r = tree_setting_set(fs->tree, model, file, value, len);
		if (r < 0)
			err_set(err, r, "TREE: %s", strerror(-r));
	}
	if (r == 0)
		r = model_setting_set(m, file, real, text.len, err);
	buf_free(&text);
	model_put(m);
	return r;
}
