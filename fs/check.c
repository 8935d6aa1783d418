/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `llmfs --check TREE`: for who edits a TREE and wants to know what a daemon will say, before a
 * commit or a restart. The judges are those of the mount: each setting's own check, and the
 * compilers of rules. Besides, what only shows when it is used: names that are no setting's, and
 * names of models and files that are not there.
 */
#include "fs/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/utf8.h"
#include "fs/check_parts.h"
#include "fs/collection.h"
#include "fs/names.h"
#include "fs/tree.h"
#include "fs/tree_file.h"
#include "fs/tree_guards.h"
#include "gateway/gateway_guards.h"

/* Names are of any bytes, and sentences quote them: a line is one line, and nothing in it speaks to
 * a terminal. */
static void clean(char *text)
{
	uint32_t c = 0;
	size_t len = strlen(text), n;
	for (size_t i = 0; i < len; i += n ? n : 1) {
		n = utf8_decode(text + i, len - i, &c);
		if (n == 0 || c < ' ' || (c >= 0x7f && c < 0xa0))
			memset(text + i, '?', n ? n : 1);
	}
}

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
		clean(line);
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
	say_line(k, "%s:%zu: %s", path, line, sentence ? sentence : "out of memory");
	free(sentence);
}

/* ---- what else lies there ---- */

static bool is_setting(const struct collection *c, const char *file)
{
	const char *const *settings = c->settings();
	for (size_t i = 0; settings[i]; i++)
		if (!strcmp(settings[i], file))
			return true;
	return c->key && !strcmp(c->key, file);
}

/* A name in the manner of settings that is none: "limits", "price-input". Others are people's. */
static bool looks_like_one(const char *name)
{
	return !name[strspn(name, "abcdefghijklmnopqrstuvwxyz_-")];
}

/* What lies in a directory of TREE ("models/", "" for TREE itself), by calling judge on each. */
static void for_each_entry(struct check *k, const char *dir, const void *what,
	void (*judge)(
		struct check *k, const void *what, const char *path, const char *name, mode_t type))
{
	char path[COLLECTION_PATH + 256];
	int fd = openat(tree_fd(k->tree), *dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	if (fd >= 0 && !d)
		close(fd);
	for (struct dirent *e; d && (e = readdir(d));) {
		struct stat st;
		if (*e->d_name == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		snprintf(path, sizeof path, "%s%s", dir, e->d_name);
		judge(k, what, path, e->d_name, st.st_mode & S_IFMT);
	}
	if (d)
		closedir(d);
}

static void judge_setting(
	struct check *k, const void *what, const char *path, const char *name, mode_t type)
{
	const struct collection *c = what;
	if (!looks_like_one(name) || is_setting(c, name) || table_row_named(c->inside, name))
		return;
	/* Beside a model's file lies what people please. */
	if (type == S_IFREG || (type == S_IFDIR && c != &collection_models))
		check_say(k, path, 1, "no %s has that name",
			type == S_IFDIR ? "directory of TREE" : "setting");
}

static void check_strangers(struct check *k, const struct collection *c, const char *name)
{
	char dir[COLLECTION_PATH];
	collection_path(c, name, "", dir);
	for_each_entry(k, dir, c, judge_setting);
}

/* In TREE itself and in guards/: *what is their place in the table. */
static void judge_fixed(
	struct check *k, const void *what, const char *path, const char *name, mode_t type)
{
	const enum table_place *place = what;
	if ((type == S_IFREG || type == S_IFDIR) && looks_like_one(name) &&
		!table_row_named(*place, name))
		check_say(k, path, 1, "no %s of TREE has that name",
			type == S_IFDIR ? "directory" : "file");
}

/* In models/ and budgets/. */
static void judge_one(
	struct check *k, const void *what, const char *path, const char *name, mode_t type)
{
	const struct collection *c = what;
	bool is_default = c->default_is_link && !strcmp(name, "default");
	if (type == S_IFDIR && !is_default && !tree_name_ok(c, name))
		check_say(k, path, 1, "not a name of a %s: 1 to 64 of A-Z a-z 0-9 . _ -", c->one);
	else if (type == S_IFREG && looks_like_one(name))
		check_say(k, path, 1, "not a directory, and thus no %s", c->one);
	else if (type == S_IFLNK && !is_default)
		check_say(k, path, 1, "%s", TREE_LINK);
}

static void check_one(struct check *k, const struct collection *c, const char *name)
{
	const char *const *settings = c->settings();
	for (size_t i = 0; settings[i]; i++)
		check_setting(k, c, name, settings[i]);
	if (c->key)
		check_setting(k, c, name, c->key);
	if (c == &collection_models)
		check_models_file(k, name);
	check_strangers(k, c, name);
}

static void check_collection(struct check *k, const struct collection *c)
{
	int r = tree_dir_check(k->tree, c);
	if (r < 0) {
		check_say(k, c->dir, 1, "%s", r == -EACCES ? TREE_NO_ACCESS : TREE_NO_DIR);
		return;
	}
	if (c->single) {
		check_one(k, c, "");
		return;
	}
	char all[32];
	snprintf(all, sizeof all, "%s/", c->dir);
	for_each_entry(k, all, c, judge_one);
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
		check_say(k, path, 1, "must be a symlink to the bare name of a sibling");
	else if (n < 0 && has_models(k))
		check_say(k, path, 1,
			"is not there: ln -s NAME models/default, or name one in each session");
	if (n < 0)
		return;
	target[n] = '\0';
	if (!tree_name_ok(&collection_models, target))
		check_say(k, path, 1, "must be a symlink to the bare name of a sibling");
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
		check_say(k, path, 1, "%s", r == -EINVAL ? "not a regular file" : strerror(-r));
	} else if (tree_trusted(k->tree, path, &err) < 0) {
		check_say(k, path, 1, "%s", err.text);
	} else if (text.len == 0) {
		check_say(k, path, 1, "%s", TREE_GUARDS_EMPTY);
	} else if (gateway_guards_check(g, file, text.data, text.len, told, k) < 0) {
		check_say(k, path, 1, "out of memory");
	}
	buf_free(&text);
}

static void check_bad_names(struct check *k)
{
	char **names = tree_guards_bad_names(k->tree);
	for (size_t i = 0; names && names[i]; i++) {
		char path[TREE_GUARDS_NAME + 8];
		snprintf(path, sizeof path, "guards/%s", names[i]);
		check_say(k, path, 1, "%s", TREE_GUARDS_BAD_NAME);
	}
	names_free(names);
}

/* Whether it was meant to end in .rules: what ends in another manner is people's, and editors'. */
static bool is_nearly_rules(const char *name)
{
	static const char *const slips[] = {".rule", ".rules", ".rules.txt"};
	size_t n = strlen(name);
	if (looks_like_one(name))
		return true;
	for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
		size_t end = strlen(slips[i]);
		if (n > end && !strcasecmp(name + n - end, slips[i]))
			return strcmp(name + n - end, ".rules") != 0;
	}
	return false;
}

/* In a directory of rules. */
static void judge_rules(
	struct check *k, const void *what, const char *path, const char *name, mode_t type)
{
	if (type == S_IFREG && is_nearly_rules(name))
		check_say(k, path, 1, "not in force: files of rules are called NAME.rules");
	else if (type == S_IFDIR && looks_like_one(name))
		check_say(k, path, 1, "no directory of TREE has that name");
}

static void check_guards(struct check *k)
{
	for_each_entry(k, "guards/input/", NULL, judge_rules);
	for_each_entry(k, "guards/output/", NULL, judge_rules);
	if (tree_guards_dir_check(k->tree, "input") < 0)
		check_say(k, "guards/input", 1, "cannot be read, or is not a directory");
	if (tree_guards_dir_check(k->tree, "output") < 0)
		check_say(k, "guards/output", 1, "cannot be read, or is not a directory");
	struct guards_check *g = gateway_guards_check_new();
	char **names = g ? tree_guards_names(k->tree) : NULL;
	if (!names)
		check_say(k, "guards", 1, "cannot be read");
	for (size_t i = 0; names && names[i]; i++)
		check_guard(k, g, names[i]);
	check_bad_names(k);
	if (names && *gateway_guards_check_judge(g))
		check_models_judges(k, "guards/moderation", gateway_guards_check_judge(g));
	names_free(names);
	gateway_guards_check_free(g);
}

/* ---- all of it ---- */

/* Whether a directory of TREE is there: else it is most likely another one that was meant. */
static bool is_a_tree(struct check *k)
{
	struct stat st;
	bool is = fstatat(tree_fd(k->tree), "guards", &st, 0) == 0;
	for (size_t i = 0; !is && collections[i]; i++)
		is = fstatat(tree_fd(k->tree), collections[i]->dir, &st, 0) == 0;
	return is;
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
	static const enum table_place root = TABLE_ROOT, guards = TABLE_GUARDS;
	if (is_a_tree(&k))
		for_each_entry(&k, "", &root, judge_fixed);
	else
		check_say(&k, tree_path(k.tree), 1,
			"not a TREE: it has none of models, budgets, router, "
			"cache and guards");
	for_each_entry(&k, "guards/", &guards, judge_fixed);
	for (size_t i = 0; collections[i]; i++)
		check_collection(&k, collections[i]);
	check_default(&k);
	check_guards(&k);
	names_free(k.models);
	tree_free(k.tree);
	return k.n;
}
