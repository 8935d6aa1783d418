/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount takes of TREE what it knows by name, so of a misspelt file nothing would be heard: the
 * budget in `limt` is no budget. Here is the one list of what is told of, for `llmfs --check` and
 * for `status` of a mount. It judges names and kinds alone, and reads no file.
 *
 * Each pass looks at all and compares with what the pass before has found, as sync.c does, so it
 * does not matter which change has caused it. What symlinks and names of rules are reported of
 * elsewhere (sync.c, guards.c) is none of it.
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

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "fs/collection.h"
#include "fs/fs.h"
#include "fs/names.h"
#include "fs/node.h"
#include "fs/scratch.h"
#include "fs/tree.h"
#include "fs/tree_file.h"
#include "gateway/gateway.h"

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
		    STATX_TYPE | STATX_MTIME, &x) < 0)
		return false;
	*out = (struct stat){.st_mode = x.stx_mode};
	out->st_mtim.tv_sec = x.stx_mtime.tv_sec;
	out->st_mtim.tv_nsec = x.stx_mtime.tv_nsec;
	/* Of files an overlay gives the device of the layer. */
	return !S_ISDIR(x.stx_mode) || makedev(x.stx_dev_major, x.stx_dev_minor) == dir_st->st_dev;
}

/* What lies in a directory of TREE ("models/", "" for TREE itself), by calling judge on each. */
static void for_each_entry(const struct look *k, const char *dir, const void *what,
	void (*judge)(const struct look *k, const void *what, const struct entry *e))
{
	char path[COLLECTION_PATH + 256];
	int fd = openat(tree_fd(k->tree), *dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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

/* In TREE itself and in guards/: *what is their place in the table. */
static void judge_fixed(const struct look *k, const void *what, const struct entry *e)
{
	const enum table_place *place = what;
	if ((e->type == S_IFREG || e->type == S_IFDIR) && stray_looks_like_setting(e->name) &&
		!table_row_named(*place, e->name))
		say_no(k, e, e->type == S_IFDIR ? "directory of TREE" : "file of TREE", *place);
}

/* In models/ and budgets/. */
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

/* Whether it was meant to end in .rules: what ends in another manner is people's, and editors'. */
static bool is_nearly_rules(const char *name)
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
	if (e->type == S_IFREG && is_nearly_rules(e->name))
		say(k, e, "not in force: files of rules are called NAME.rules");
	else if (e->type == S_IFDIR && stray_looks_like_setting(e->name))
		say(k, e, "no directory of TREE has that name");
}

/* Else it is most likely another directory that was meant. */
static bool is_tree(const struct tree *tree)
{
	struct stat st;
	bool is = fstatat(tree_fd(tree), "guards", &st, 0) == 0;
	for (size_t i = 0; !is && collections[i]; i++)
		is = fstatat(tree_fd(tree), collections[i]->dir, &st, 0) == 0;
	return is;
}

bool stray_each(const struct tree *tree,
	void (*tell)(void *arg, const char *path, const struct stat *st, const char *sentence),
	void *arg)
{
	static const enum table_place root = TABLE_ROOT, guards = TABLE_GUARDS;
	const struct look k = {tree, tell, arg};
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

/* ---- a pass ---- */

struct found {
	struct fs *fs;
	bool any_scratch;              /* that is told of, or will be when it stays */
	struct names names, sentences; /* of those that are to be told of, in the same order */
	size_t n_more;
	bool again;
};

/* The passes', which never run at the same time. */
static struct names told;
static bool has_scratch; /* the last has seen one */

enum { LOOK_AGAIN_MS = 1000 };
#define STRAY_SCRATCH "on the mount is no setting, and in memory only"

static void find(void *arg, const char *path, const struct stat *st, const char *sentence)
{
	struct found *f = arg;
	if (!f->fs->starting && !names_has(told.list, path) && tree_file_is_young(st)) {
		f->again = true;
	} else if (f->names.n == STRAY_MOST) {
		f->n_more++;
	} else if (names_add(&f->names, path) == 0 && names_add(&f->sentences, sentence) < 0) {
		names_drop(&f->names, path);
	}
}

static bool is_settled(const struct stat *st)
{
	uint64_t ns = (uint64_t)st->st_ctim.tv_sec * 1000000000u + (uint64_t)st->st_ctim.tv_nsec;
	uint64_t now = clock_real_ns();
	return now > ns && now - ns >= (uint64_t)STRAY_SETTLED_MS * 1000000u;
}

/* A file of the mount alone, for editors: one that stays, and has the manner of a setting's name,
 * was to be one. Of sessions nothing is said where others read it. */
static void find_scratch(
	void *arg, const struct node *dir, const char *name, struct scratch *scratch)
{
	struct found *f = arg;
	enum table_place place = node_inside(dir);
	const struct collection *c = collection_inside(place);
	char path[COLLECTION_PATH + FS_NAME_MAX + 1], below[COLLECTION_PATH];
	char sentence[128];
	struct stat st = {0};
	if (!c || !stray_looks_like_setting(name))
		return;
	f->any_scratch = true;
	scratch_stat(scratch, &st);
	collection_path(c, c->single ? "" : c->name(dir->object->theirs), "", below);
	snprintf(path, sizeof path, "%s%s", below, name);
	const char *meant = stray_meant(place, name);
	snprintf(sentence, sizeof sentence, "%s%s%s", STRAY_SCRATCH, meant ? ": did you mean " : "",
		meant ? meant : "");
	if (meant)
		strcat(sentence, "?");
	if ((names_has(told.list, path) || is_settled(&st)) && f->names.n < STRAY_MOST &&
		!names_has(f->names.list, path) && names_add(&f->names, path) == 0 &&
		names_add(&f->sentences, sentence) < 0)
		names_drop(&f->names, path);
}

static void key_of(const char *path, char key[COLLECTION_PATH + 264])
{
	snprintf(key, COLLECTION_PATH + 264, "stray:%s", path);
}

static void report_more(struct fs *fs, size_t n)
{
	char sentence[96];
	snprintf(sentence, sizeof sentence,
		"%zu more names in TREE mean nothing there: llmfs --check TREE has all", n);
	gateway_report(fs->gateway, "stray", n ? sentence : NULL);
}

bool stray_pass(struct fs *fs)
{
	struct found f = {.fs = fs};
	char key[COLLECTION_PATH + 264], line[COLLECTION_PATH + 256 + 256 + 16];
	stray_each(fs->tree, find, &f);
	if (fs->nodes)
		node_scratch_each(fs->nodes, find_scratch, &f);
	has_scratch = f.any_scratch;
	for (size_t i = 0; i < told.n; i++) {
		key_of(told.list[i], key);
		if (!names_has(f.names.list, told.list[i]))
			gateway_report(fs->gateway, key, NULL);
	}
	for (size_t i = 0; i < f.names.n; i++) {
		if (names_has(told.list, f.names.list[i]))
			continue;
		key_of(f.names.list[i], key);
		snprintf(line, sizeof line, "%s%s %s", f.names.list[i],
			strncmp(f.sentences.list[i], STRAY_SCRATCH, strlen(STRAY_SCRATCH))
				? " in TREE:"
				: "",
			f.sentences.list[i]);
		stray_clean(line);
		gateway_report(fs->gateway, key, line);
		if (!fs->starting) /* whose end tells of all faults */
			log_warn("%s", line);
	}
	report_more(fs, f.n_more);
	names_free(told.list);
	told = f.names;
	names_free(f.sentences.list);
	return f.again;
}

int stray_due_ms(void)
{
	return has_scratch ? LOOK_AGAIN_MS : -1;
}
