/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount takes of TREE what it knows by name, so of a misspelt file nothing would be heard: the
 * budget in `limt` is no budget. Here is the one list of what is told of, for `llmfs --check` and
 * for `status` of a mount (stray_pass.c). It judges names and kinds alone, and reads no file. What
 * symlinks and names of rules are reported of elsewhere (sync.c, guards.c) is none of it.
 */
#include "fs/stray.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/utf8.h"
#include "fs/collection.h"
#include "fs/names.h"
#include "fs/tree.h"
#include "fs/tree_file.h"

/* ---- names ---- */

void stray_clean(char *text)
{
	uint32_t c = 0;
	size_t len = strlen(text), n;
	for (size_t i = 0; i < len; i += n ? n : 1) {
		n = utf8_decode(text + i, len - i, &c);
		if (n == 0 || c < ' ' || (c >= 0x7f && c < 0xa0))
			memset(text + i, '?', n ? n : 1);
	}
}

bool stray_looks_like_setting(const char *name)
{
	return !name[strspn(name, "abcdefghijklmnopqrstuvwxyz_-")];
}

enum { NAME_MOST = 32 /* of one that is compared: none that can be meant is longer */, FAR = 3 };

/* Letters to be changed, put in, taken out or exchanged with their neighbours to make b of a. */
static size_t distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	size_t row[3][NAME_MOST + 1]; /* of the letter before the last, the last, this one */
	if (n > NAME_MOST || m > NAME_MOST)
		return FAR;
	for (size_t j = 0; j <= m; j++)
		row[0][j] = j;
	for (size_t i = 1; i <= n; i++) {
		const size_t *last = row[(i - 1) % 3], *before = row[(i + 1) % 3];
		size_t *now = row[i % 3];
		now[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t least = last[j - 1] + (a[i - 1] != b[j - 1]);
			if (last[j] + 1 < least)
				least = last[j] + 1;
			if (now[j - 1] + 1 < least)
				least = now[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
				before[j - 2] + 1 < least)
				least = before[j - 2] + 1;
			now[j] = least;
		}
	}
	return row[n % 3][m];
}

/* Of the mount's files those that TREE has, too. */
static bool can_be_set(const struct table_row *row)
{
	bool in_tree = row->place != TABLE_ROOT || !strcmp(row->name, "guards");
	for (size_t i = 0; !in_tree && collections[i]; i++)
		in_tree = !strcmp(row->name, collections[i]->dir);
	return in_tree && !row->pattern &&
	       (row->kind == TABLE_DIR || row->kind == TABLE_SETTING || row->kind == TABLE_KEY ||
		       row->kind == TABLE_RULES);
}

const char *stray_meant(enum table_place place, const char *name)
{
	const char *meant = NULL;
	size_t least = strlen(name) < FAR ? strlen(name) : FAR;
	for (size_t i = 0; i < table_n_rows; i++) {
		const struct table_row *row = &table_rows[i];
		size_t far =
			row->place == place && can_be_set(row) ? distance(name, row->name) : FAR;
		if (far < least) {
			least = far;
			meant = row->name;
		}
	}
	return meant;
}

/* ---- all that lies there ---- */

struct look {
	const struct tree *tree;
	bool all;
	void (*tell)(void *arg, const char *path, const struct stat *st, const char *sentence);
	void *arg;
};

struct entry {
	const char *path, *name; /* below TREE; its end */
	struct stat st;
	mode_t type;
};

__attribute__((format(printf, 3, 4))) static void say(
	const struct look *k, const struct entry *e, const char *format, ...)
{
	char sentence[256];
	va_list args;
	va_start(args, format);
	vsnprintf(sentence, sizeof sentence, format, args);
	va_end(args);
	k->tell(k->arg, e->path, &e->st, sentence);
}

/* Kind and time alone. The mount point may lie in TREE, and is asked before there is who answers:
 * what is known of it has to do, and what is mounted there is none of TREE's. */
static bool look_at(int dir, const struct stat *dir_st, const char *name, struct stat *out)
{
	struct statx x;
	if (statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC,
		    STATX_TYPE | STATX_MTIME | STATX_BTIME, &x) < 0)
		return false;
	/* The age of one that is written again and again is that of its making, where it is known.
	 */
	struct statx_timestamp made = x.stx_mtime;
	if ((x.stx_mask & STATX_BTIME) && x.stx_btime.tv_sec < made.tv_sec)
		made = x.stx_btime;
	*out = (struct stat){.st_mode = x.stx_mode};
	out->st_mtim.tv_sec = made.tv_sec;
	out->st_mtim.tv_nsec = made.tv_nsec;
	/* Of files an overlay gives the device of the layer. */
	return !S_ISDIR(x.stx_mode) || makedev(x.stx_dev_major, x.stx_dev_minor) == dir_st->st_dev;
}

/* A directory of TREE ("models/"), from one to the next: no symlink is followed. A descriptor, or
 * -errno. */
static int open_dir(const struct tree *tree, const char *dir)
{
	int at = tree_file_dir(tree_fd(tree), ".");
	while (at >= 0 && *dir) {
		char name[COLLECTION_PATH];
		size_t n = strcspn(dir, "/");
		snprintf(name, sizeof name, "%.*s", (int)n, dir);
		int next = tree_file_dir(at, name);
		close(at);
		at = next;
		dir += n + 1;
	}
	return at;
}

/* What lies in a directory of TREE ("models/", "" for TREE itself), by calling judge on each. */
static void for_each_entry(const struct look *k, const char *dir, const void *what,
	void (*judge)(const struct look *k, const void *what, const struct entry *e))
{
	char path[COLLECTION_PATH + 256];
	int fd = open_dir(k->tree, dir);
	struct stat st;
	DIR *d = fd >= 0 && fstat(fd, &st) == 0 ? fdopendir(fd) : NULL;
	if (fd >= 0 && !d)
		close(fd);
	for (struct dirent *one; d && (one = readdir(d));) {
		struct entry e = {.path = path, .name = one->d_name};
		if (*e.name == '.' || !look_at(fd, &st, e.name, &e.st))
			continue;
		e.type = e.st.st_mode & S_IFMT;
		snprintf(path, sizeof path, "%s%s", dir, e.name);
		judge(k, what, &e);
	}
	if (d)
		closedir(d);
}

static void say_no(
	const struct look *k, const struct entry *e, const char *what, enum table_place place)
{
	const char *meant = stray_meant(place, e->name);
	say(k, e, "no %s has that name%s%s%s", what, meant ? ": did you mean " : "",
		meant ? meant : "", meant ? "?" : "");
}

static bool is_setting(const struct collection *c, const char *file)
{
	const char *const *settings = c->settings();
	for (size_t i = 0; settings[i]; i++)
		if (!strcmp(settings[i], file))
			return true;
	return c->key && !strcmp(c->key, file);
}

static void judge_setting(const struct look *k, const void *what, const struct entry *e)
{
	const struct collection *c = what;
	if (!stray_looks_like_setting(e->name) || is_setting(c, e->name) ||
		table_row_named(c->inside, e->name))
		return;
	/* Beside a model's file lies what people please. */
	if (e->type == S_IFREG)
		say_no(k, e, "setting", c->inside);
	else if (e->type == S_IFDIR && c != &collection_models)
		say_no(k, e, "directory of TREE", c->inside);
}

/* Of the interface, and not in this program's table. */
static bool is_live(const char *name)
{
	return !strcmp(name, "evals");
}

/* In TREE itself and in guards/: *what is their place in the table. Beside what makes a TREE lies
 * what a repository has: docs, scripts, a makefile. */
static void judge_fixed(const struct look *k, const void *what, const struct entry *e)
{
	const enum table_place *place = what;
	bool in_root = *place == TABLE_ROOT;
	if (in_root && (is_live(e->name) || (!k->all && !stray_meant(*place, e->name))))
		return;
	if ((e->type == S_IFREG || e->type == S_IFDIR) && stray_looks_like_setting(e->name) &&
		!table_row_named(*place, e->name))
		say_no(k, e, e->type == S_IFDIR ? "directory of TREE" : "file of TREE", *place);
}

/* In models/, budgets/ and keys/. */
static void judge_one(const struct look *k, const void *what, const struct entry *e)
{
	const struct collection *c = what;
	bool is_default = c->default_is_link && !strcmp(e->name, "default");
	if (e->type == S_IFDIR && !is_default && !tree_name_ok(c, e->name))
		say(k, e, "not a name of a %s: 1 to 64 of A-Z a-z 0-9 . _ -", c->one);
	else if (e->type == S_IFREG && stray_looks_like_setting(e->name))
		say(k, e, "not a directory, and thus no %s", c->one);
}

static void look_at_collection(const struct look *k, const struct collection *c)
{
	char dir[COLLECTION_PATH];
	if (tree_dir_check(k->tree, c) < 0)
		return; /* of which there is a fault of its own */
	if (c->single) {
		collection_path(c, "", "", dir);
		for_each_entry(k, dir, c, judge_setting);
		return;
	}
	snprintf(dir, sizeof dir, "%s/", c->dir);
	for_each_entry(k, dir, c, judge_one);
	char **names = tree_names(k->tree, c);
	for (size_t i = 0; names && names[i]; i++) {
		collection_path(c, names[i], "", dir);
		for_each_entry(k, dir, c, judge_setting);
	}
	names_free(names);
}

bool stray_looks_like_rules(const char *name)
{
	static const char *const slips[] = {".rule", ".rules", ".rules.txt"};
	size_t n = strlen(name);
	if (stray_looks_like_setting(name))
		return true;
	for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
		size_t end = strlen(slips[i]);
		if (n > end && !strcasecmp(name + n - end, slips[i]))
			return strcmp(name + n - end, ".rules") != 0;
	}
	return false;
}

/* In a directory of rules. */
static void judge_rules(const struct look *k, const void *what, const struct entry *e)
{
	(void)what;
	if (e->type == S_IFREG && stray_looks_like_rules(e->name))
		say(k, e, "not in force: files of rules are called NAME.rules");
	else if (e->type == S_IFDIR && stray_looks_like_setting(e->name))
		say(k, e, "no directory of TREE has that name");
}

/* Else it is most likely another directory that was meant. */
static bool is_tree(const struct tree *tree)
{
	const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
	struct stat st;
	bool is = fstatat(tree_fd(tree), "guards", &st, flags) == 0;
	for (size_t i = 0; !is && collections[i]; i++)
		is = fstatat(tree_fd(tree), collections[i]->dir, &st, flags) == 0;
	return is;
}

bool stray_each(const struct tree *tree, bool all,
	void (*tell)(void *arg, const char *path, const struct stat *st, const char *sentence),
	void *arg)
{
	static const enum table_place root = TABLE_ROOT, guards = TABLE_GUARDS;
	const struct look k = {tree, all, tell, arg};
	if (!is_tree(tree))
		return false;
	for_each_entry(&k, "", &root, judge_fixed);
	for (size_t i = 0; collections[i]; i++)
		look_at_collection(&k, collections[i]);
	for_each_entry(&k, "guards/", &guards, judge_fixed);
	for_each_entry(&k, "guards/input/", NULL, judge_rules);
	for_each_entry(&k, "guards/output/", NULL, judge_rules);
	return true;
}
