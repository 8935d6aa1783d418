/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `llmfs --check TREE`: for who edits a TREE and wants to know what a daemon will say, before a
 * commit or a restart. The judges are those of the mount: each setting's own check, and the
 * compilers of rules. Besides, what only shows when it is used: names that are no setting's, and
 * names of models and files that are not there.
 */
#include "fs/check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fs/check_parts.h"
#include "fs/collection.h"
#include "fs/names.h"
#include "fs/stray.h"
#include "fs/tree.h"
#include "fs/tree_file.h"
#include "fs/tree_guards.h"
#include "gateway/gateway_guards.h"

/* new; NULL when memory is out. */
__attribute__((format(printf, 1, 0))) static char *print(const char *format, va_list args)
{
	char *text = NULL;
	return vasprintf(&text, format, args) < 0 ? NULL : text;
}

/* Without a file before it: the sentence has its own. */
__attribute__((format(printf, 2, 3))) static void say_line(struct check *k, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	char *line = print(format, args);
	va_end(args);
	if (line)
		stray_clean(line);
	fprintf(k->out, "%s\n", line ? line : "out of memory");
	k->n++;
	free(line);
}

void check_say(struct check *k, const char *path, size_t line, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	char *sentence = print(format, args);
	va_end(args);
	const char *why = sentence ? sentence : "out of memory";
	if (line)
		say_line(k, "%s:%zu: %s", path, line, why);
	else
		say_line(k, "%s: %s", path, why);
	free(sentence);
}

/* ---- models, budgets, keys, router, cache ---- */

static void check_one(struct check *k, const struct collection *c, const char *name)
{
	const char *const *settings = c->settings();
	for (size_t i = 0; settings[i]; i++)
		check_setting(k, c, name, settings[i]);
	if (c->key)
		check_setting(k, c, name, c->key);
	if (c == &collection_models)
		check_models_file(k, name);
}

static void check_links(struct check *k, const struct collection *c)
{
	char path[COLLECTION_PATH];
	char **links = tree_links(k->tree, c);
	for (size_t i = 0; links && links[i]; i++) {
		snprintf(path, sizeof path, "%s/%s", c->dir, links[i]);
		check_say(k, path, 0, "%s", TREE_LINK);
	}
	names_free(links);
}

static void check_collection(struct check *k, const struct collection *c)
{
	int r = tree_dir_check(k->tree, c);
	if (r < 0) {
		check_say(k, c->dir, 0, "%s", r == -EACCES ? TREE_NO_ACCESS : TREE_NO_DIR);
		return;
	}
	if (c->single) {
		check_one(k, c, "");
		return;
	}
	check_links(k, c);
	char **names = tree_names(k->tree, c);
	for (size_t i = 0; names && names[i]; i++)
		check_one(k, c, names[i]);
	names_free(names);
}

static bool has_models(struct check *k)
{
	char **names = tree_names(k->tree, &collection_models);
	bool has = names && *names;
	names_free(names);
	return has;
}

static void check_default(struct check *k)
{
	static const char *const path = "models/default";
	char target[256];
	ssize_t n = readlinkat(tree_fd(k->tree), path, target, sizeof target - 1);
	if (n < 0 && errno != ENOENT && errno != ENOTDIR)
		check_say(k, path, 0, "must be a symlink to the bare name of a sibling");
	else if (n < 0 && has_models(k))
		check_say(k, path, 0,
			"is not there: ln -s NAME models/default, or name one in each session");
	if (n < 0)
		return;
	target[n] = '\0';
	target[tree_target_length(target)] = '\0';
	if (!tree_name_ok(&collection_models, target))
		check_say(k, path, 0, "must be a symlink to the bare name of a sibling");
	else
		check_models_answers(k, path, "", target);
}

/* ---- guards ---- */

static void told(void *arg, const char *sentence)
{
	say_line(arg, "guards/%s", sentence);
}

static void check_guard(struct check *k, struct guards_check *g, const char *file)
{
	char path[TREE_GUARDS_NAME + 8];
	struct buf text = {0};
	struct err err = {{0}};
	snprintf(path, sizeof path, "guards/%s", file);
	int r = tree_guards_get(k->tree, file, &text);
	if (r < 0) {
		check_say(k, path, 0, "%s", r == -EINVAL ? "not a regular file" : strerror(-r));
	} else if (tree_trusted(k->tree, path, &err) < 0) {
		check_say(k, path, 0, "%s", err.text);
	} else if (text.len == 0) {
		check_say(k, path, 0, "%s", TREE_GUARDS_EMPTY);
	} else if (gateway_guards_check(g, file, text.data, text.len, told, k) < 0) {
		check_say(k, path, 0, "out of memory");
	}
	buf_free(&text);
}

static void check_bad_names(struct check *k)
{
	char **names = tree_guards_bad_names(k->tree);
	for (size_t i = 0; names && names[i]; i++) {
		char path[TREE_GUARDS_NAME + 8];
		snprintf(path, sizeof path, "guards/%s", names[i]);
		check_say(k, path, 0, "%s", TREE_GUARDS_BAD_NAME);
	}
	names_free(names);
}

static void check_guards(struct check *k)
{
	if (tree_guards_dir_check(k->tree, "input") < 0)
		check_say(k, "guards/input", 0, "cannot be read, or is not a directory");
	if (tree_guards_dir_check(k->tree, "output") < 0)
		check_say(k, "guards/output", 0, "cannot be read, or is not a directory");
	struct guards_check *g = gateway_guards_check_new();
	char **names = g ? tree_guards_names(k->tree) : NULL;
	if (!names)
		check_say(k, "guards", 0, "cannot be read");
	for (size_t i = 0; names && names[i]; i++)
		check_guard(k, g, names[i]);
	check_bad_names(k);
	if (names && *gateway_guards_check_judge(g))
		check_models_judges(k, "guards/moderation", gateway_guards_check_judge(g));
	names_free(names);
	gateway_guards_check_free(g);
}

/* ---- all of it ---- */

static void tell_stray(void *arg, const char *path, const struct stat *st, const char *sentence)
{
	(void)st;
	check_say(arg, path, 0, "%s", sentence);
}

/* Its files look like a TREE's, but are not: of each model there is a key that cannot be read. A
 * copy of one that lies on a FUSE filesystem, as those that containers share are, is no mount: its
 * directory is not the root. */
static bool is_a_mount(struct check *k)
{
	struct statfs fs;
	struct stat st;
	return fstatfs(tree_fd(k->tree), &fs) == 0 && fs.f_type == FUSE_SUPER_MAGIC &&
	       fstat(tree_fd(k->tree), &st) == 0 && st.st_ino == FUSE_ROOT_ID &&
	       fstatat(tree_fd(k->tree), "sessions", &st, 0) == 0 &&
	       fstatat(tree_fd(k->tree), "version", &st, 0) == 0;
}

/* auto and cascade are always there. */
static char **models_there_are(struct tree *tree)
{
	struct names all = {0};
	char **names = tree_names(tree, &collection_models);
	int r = names ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && names[i]; i++)
		r = names_add(&all, names[i]);
	r = r ? r : names_add(&all, "auto");
	r = r ? r : names_add(&all, "cascade");
	names_free(names);
	return names_take(&all, r);
}

int check_tree(const char *path, FILE *out)
{
	struct check k = {.out = out};
	struct err err = {{0}};
	int r = tree_open(&k.tree, path, &err);
	if (r == 0) {
		k.models = models_there_are(k.tree);
		r = k.models ? 0 : err_set(&err, -EIO, "%s: models/ cannot be read", path);
	}
	if (r == 0 && is_a_mount(&k)) {
		names_free(k.models);
		r = err_set(&err, -EINVAL,
			"%s is a mount of llmfs, and its TREE is elsewhere: findmnt -n -o SOURCE "
			"-T %s",
			path, path);
	}
	if (r < 0) {
		fprintf(out, "%s\n", err.text);
		tree_free(k.tree);
		return r;
	}
	if (!stray_each(k.tree, true, tell_stray, &k))
		check_say(&k, tree_path(k.tree), 0,
			"not a TREE: it has none of models, budgets, keys, "
			"router, cache and guards");
	for (size_t i = 0; collections[i]; i++)
		check_collection(&k, collections[i]);
	check_default(&k);
	check_guards(&k);
	names_free(k.models);
	tree_free(k.tree);
	return k.n;
}
