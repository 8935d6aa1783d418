/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pass does of names that mean nothing: those in TREE (stray.c), and scratch files of the
 * mount that stay. Each pass looks at all and compares with what the pass before has found, as
 * sync.c does, so it does not matter which change has caused it. Of a scratch file nothing says
 * that it stays: the pass after its time is asked for.
 *
 * The passes' thread; who wakes them is any.
 */
#include "fs/stray_pass.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "fs/collection.h"
#include "fs/fs.h"
#include "fs/names.h"
#include "fs/node.h"
#include "fs/scratch.h"
#include "fs/stray.h"
#include "fs/sweep.h"
#include "fs/tree_file.h"
#include "gateway/gateway.h"

struct found {
	struct fs *fs;
	struct names names, lines; /* of those that are to be told of, in the same order */
	size_t n_more, n_scratch;  /* beyond STRAY_PASS_MOST; of them those of the mount */
	bool again;
	int due_ms; /* until a scratch file may have settled, or -1 */
};

/* The passes', which never run at the same time. */
static struct names told;
static int due_ms = -1;

static bool add(struct found *f, const char *path, const char *where, const char *sentence)
{
	char line[COLLECTION_PATH + 256 + 256 + 16];
	if (f->names.n == STRAY_PASS_MOST) {
		f->n_more++;
		return false;
	}
	snprintf(line, sizeof line, "%s %s%s", path, where, sentence);
	stray_clean(line);
	if (names_add(&f->names, path) == 0 && names_add(&f->lines, line) < 0)
		names_drop(&f->names, path);
	return true;
}

static void find(void *arg, const char *path, const struct stat *st, const char *sentence)
{
	struct found *f = arg;
	if (!f->fs->starting && !names_has(told.list, path) && tree_file_is_young(st))
		f->again = true;
	else
		add(f, path, "in TREE: ", sentence);
}

/* In how many milliseconds a scratch file has stayed for long enough; 0: it has. */
static int settles_ms(struct scratch *scratch)
{
	struct stat st = {0};
	scratch_stat(scratch, &st);
	uint64_t ns = (uint64_t)st.st_ctim.tv_sec * 1000000000u + (uint64_t)st.st_ctim.tv_nsec;
	uint64_t now = clock_real_ns();
	uint64_t ms = now > ns ? (now - ns) / 1000000u : 0;
	return ms >= STRAY_PASS_SETTLED_MS ? 0 : (int)(STRAY_PASS_SETTLED_MS - ms);
}

static bool is_of_rules(enum table_place place)
{
	return place == TABLE_GUARDS_INPUT || place == TABLE_GUARDS_OUTPUT;
}

/* Of sessions nothing is said where others read it. */
static bool may_be_slip(enum table_place place, const char *name)
{
	if (is_of_rules(place))
		return stray_looks_like_rules(name);
	return (place == TABLE_GUARDS || collection_inside(place)) &&
	       stray_looks_like_setting(name);
}

static void scratch_path(
	const struct node *dir, const char *name, char path[COLLECTION_PATH + FS_NAME_MAX + 1])
{
	enum table_place place = node_inside(dir);
	const struct collection *c = collection_inside(place);
	char below[COLLECTION_PATH];
	if (c)
		collection_path(c, c->single ? "" : c->name(dir->object->theirs), "", below);
	else
		snprintf(below, sizeof below, "guards/%s",
			place == TABLE_GUARDS_INPUT    ? "input/"
			: place == TABLE_GUARDS_OUTPUT ? "output/"
						       : "");
	snprintf(path, COLLECTION_PATH + FS_NAME_MAX + 1, "%s%s", below, name);
}

/* What TREE keeps of it is told of there. */
static bool is_kept(struct scratch *scratch)
{
	struct buf kept = {0};
	bool is = scratch_kept(scratch, &kept) == 0 && kept.len;
	buf_free(&kept);
	return is;
}

/* A file of the mount alone, for editors: one that stays, and has the manner of a setting's name,
 * was to be one. */
static void find_scratch(
	void *arg, const struct node *dir, const char *name, struct scratch *scratch)
{
	struct found *f = arg;
	enum table_place place = node_inside(dir);
	char path[COLLECTION_PATH + FS_NAME_MAX + 1], sentence[128];
	if (!may_be_slip(place, name) || is_kept(scratch))
		return;
	scratch_path(dir, name, path);
	int ms = names_has(told.list, path) ? 0 : settles_ms(scratch);
	if (ms && (f->due_ms < 0 || ms < f->due_ms))
		f->due_ms = ms;
	if (ms || names_has(f->names.list, path))
		return;
	const char *meant = is_of_rules(place) ? NULL : stray_meant(place, name);
	snprintf(sentence, sizeof sentence, "no setting, and in memory only%s%s%s",
		meant ? ": did you mean " : "", meant ? meant : "", meant ? "?" : "");
	if (is_of_rules(place))
		f->n_scratch += !add(f, path, "on the mount is ",
			"not in force, and in memory "
			"only: files of rules are called NAME.rules");
	else
		f->n_scratch += !add(f, path, "on the mount is ", sentence);
}

void stray_pass_wake(struct fs *fs, const struct node *dir, const char *name)
{
	if (may_be_slip(node_inside(dir), name))
		sweep_wake(fs->sweep);
}

/* A report's key is short, and paths are long. */
static void report_path(struct fs *fs, const char *path, const char *line)
{
	char key[32];
	snprintf(key, sizeof key, "stray:%016" PRIx64, hash_text(HASH_BEGIN, path));
	gateway_report(fs->gateway, key, line);
}

static void report_more(struct fs *fs, const struct found *f)
{
	char sentence[128];
	snprintf(sentence, sizeof sentence,
		"%zu more names in TREE%s mean nothing there: llmfs --check TREE has all%s",
		f->n_more, f->n_scratch ? " and on the mount" : "",
		f->n_scratch ? " of TREE's" : "");
	gateway_report(fs->gateway, "stray", f->n_more ? sentence : NULL);
}

bool stray_pass(struct fs *fs)
{
	struct found f = {.fs = fs, .due_ms = -1};
	stray_each(fs->tree, false, find, &f);
	if (fs->nodes)
		node_scratch_each(fs->nodes, find_scratch, &f);
	due_ms = f.due_ms;
	for (size_t i = 0; i < told.n; i++)
		if (!names_has(f.names.list, told.list[i]))
			report_path(fs, told.list[i], NULL);
	/* All of them: what is wrong with one may be another thing than it was. */
	for (size_t i = 0; i < f.names.n; i++) {
		report_path(fs, f.names.list[i], f.lines.list[i]);
		if (!fs->starting && !names_has(told.list, f.names.list[i]))
			log_warn("%s", f.lines.list[i]); /* at a start its end tells of all */
	}
	report_more(fs, &f);
	names_free(told.list);
	told = f.names;
	names_free(f.lines.list);
	return f.again;
}

int stray_pass_due_ms(void)
{
	return due_ms;
}
