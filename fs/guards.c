/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pass compares all of TREE/guards with what the gateway was told last, like the passes over
 * collections (sync_pass.c). A file's name in TREE, what the gateway has of it and which inode
 * stands for it change together, in one turn (turn.h), so that a save that comes late (RELEASE
 * does) never brings back what was unlinked. Nothing is written or made lasting in it. The turn is
 * the same for all, as a file may become another. A pass reads before its turn, and once more in it
 * if a change came since: others may come without end, and how a file went is known to this pass
 * alone.
 *
 * What a pass must not do is take a moment between two steps of an editor for what the user wants.
 * A file that was truncated and not yet written is empty and young, or has an open handle in the
 * mount that will write it (rules.c): it is left alone. One that was renamed away is the gateway's
 * to keep in force for a while.
 *
 * A rule's name may stand in one file only, but one that was renamed away keeps none from others.
 * So when a file's text comes under another name the old one is put aside first, and at every
 * moment one of the two is in force. A text with a fault is set again in each pass: the fault may
 * have been another file's.
 *
 * An editor that fails to save may put its backup back: vim unlinks the file and then renames the
 * backup. So one that is unlinked within GUARDS_AWAY_NS of having been renamed away is taken for
 * renamed away once more.
 *
 * Locks: the turn, around those of nodes, rules.c and the gateway; memory_lock, a leaf.
 */
#include "fs/guards.h"

#include "fs/faults.h"
#include "fs/names.h"
#include "fs/rules.h"
#include "fs/tree_file.h"
#include "fs/turn.h"

#include "base/clock.h"
#include "base/log.h"
#include "gateway/gateway_guards.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static const char *const stages[] = {
	[TABLE_GUARDS_INPUT] = "input/", [TABLE_GUARDS_OUTPUT] = "output/"};

bool guards_at(enum table_place place)
{
	return place == TABLE_GUARDS_INPUT || place == TABLE_GUARDS_OUTPUT;
}

int guards_file(enum table_place place, const char *name, char file[TREE_GUARDS_NAME])
{
	size_t n = strlen(name);
	if (place != TABLE_GUARDS && !guards_at(place))
		return -ENOENT;
	snprintf(file, TREE_GUARDS_NAME, "%s%s", guards_at(place) ? stages[place] : "", name);
	if (gateway_guard_name_ok(file))
		return 0;
	bool like_rules = n >= 6 && strcmp(name + n - 6, ".rules") == 0;
	return guards_at(place) && like_rules && !strchr(".#", *name) ? -EINVAL : -ENOENT;
}

char **guards_names(struct fs *fs, enum table_place place)
{
	size_t n = strlen(stages[place]);
	struct names found = {0};
	int r = 0;
	char **all = tree_guards_names(fs->tree);
	for (size_t i = 0; r == 0 && all && all[i]; i++)
		if (strncmp(all[i], stages[place], n) == 0)
			r = names_add(&found, all[i] + n);
	names_free(all);
	return names_take(&found, r);
}

/* ---- putting in force; in their turn ---- */

/* Files whose text had a fault when it was set last. */
static struct names faulty;
/* The last files that were renamed away through the mount. */
static struct {
	char file[TREE_GUARDS_NAME], kept[TREE_GUARDS_NAME];
	uint64_t ns;
} aside[16];
static size_t next_aside;
static pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER;

static void set_faulty(const char *file, bool is)
{
	pthread_mutex_lock(&memory_lock);
	names_drop(&faulty, file);
	if (is)
		names_add(&faulty, file);
	pthread_mutex_unlock(&memory_lock);
}

bool guards_has_fault(const char *file)
{
	pthread_mutex_lock(&memory_lock);
	bool is = names_has(faulty.list, file);
	pthread_mutex_unlock(&memory_lock);
	return is;
}

static void note_aside(const char *file, const char *kept)
{
	pthread_mutex_lock(&memory_lock);
	snprintf(aside[next_aside].file, sizeof aside->file, "%s", file);
	snprintf(aside[next_aside].kept, sizeof aside->kept, "%s", kept);
	aside[next_aside].ns = clock_mono_ns();
	next_aside = (next_aside + 1) % (sizeof aside / sizeof *aside);
	pthread_mutex_unlock(&memory_lock);
}

/* kept (may be NULL) gets where its text is. */
static bool was_aside(const char *file, char kept[TREE_GUARDS_NAME])
{
	uint64_t now = clock_mono_ns();
	bool was = false;
	pthread_mutex_lock(&memory_lock);
	for (size_t i = 0; i < sizeof aside / sizeof *aside; i++) {
		if (!aside[i].ns || now - aside[i].ns >= GUARDS_AWAY_NS ||
			strcmp(aside[i].file, file) != 0)
			continue;
		was = true;
		if (kept)
			memcpy(kept, aside[i].kept, sizeof aside->kept);
	}
	pthread_mutex_unlock(&memory_lock);
	return was;
}

static int put_in_force(struct fs *fs, const char *file, const struct buf *text, struct err *err)
{
	int r = gateway_guard_set(fs->gateway, file, text->data ? text->data : "", text->len, err);
	set_faulty(file, r < 0);
	return r;
}

static void put_out_of_force(struct fs *fs, const char *file, bool away)
{
	gateway_guard_remove(fs->gateway, file, away);
	set_faulty(file, false);
}

/* ---- a pass ---- */

/* Faults of files that never came as far as the gateway. The names of those that have one are kept,
 * so that a fault ends with its file. */
static struct names reported; /* the passes', which never run at the same time */

static void report(struct fs *fs, const char *file, const struct err *err)
{
	char key[TREE_GUARDS_NAME + 16];
	snprintf(key, sizeof key, "tree:guards/%s", file);
	bool known = names_has(reported.list, file);
	if (err) {
		char sentence[512];
		snprintf(sentence, sizeof sentence, "guards/%s in TREE: %s", file, err->text);
		for (char *c = sentence; *c; c++) /* a name may be of any bytes */
			*c = *c >= ' ' && *c < 0x7f ? *c : '?';
		if (!known) {
			if (!fs->starting)
				log_warn("%s", sentence);
			names_add(&reported, file);
		}
		gateway_report(fs->gateway, key, sentence);
	} else if (known) {
		names_drop(&reported, file);
		gateway_report(fs->gateway, key, NULL);
	}
}

static int too_long(struct buf *text)
{
	int r = buf_reserve(text, TREE_GUARDS_MAX + 1);
	if (r == 0) {
		memset(text->data, '\n', TREE_GUARDS_MAX + 1);
		text->data[text->len = TREE_GUARDS_MAX + 1] = '\0';
	}
	return r;
}

/* The text TREE has. 0; 1: nothing should be done about it now; -errno and the sentence. */
static int wanted(struct fs *fs, const char *file, struct buf *text, bool *again, struct err *err)
{
	struct stat st;
	char above[TREE_GUARDS_NAME + 8], path[TREE_GUARDS_NAME + 8];
	snprintf(above, sizeof above, "guards");
	snprintf(path, sizeof path, "guards/%s", file);
	if (rules_pending(file))
		return 1;
	int r = tree_guards_stat(fs->tree, file, &st);
	if (r == 0)
		r = tree_trusted(fs->tree, above, err);
	if (r == 0)
		r = tree_trusted(fs->tree, path, err);
	if (r == -EPERM)
		return r;
	if (r == 0)
		r = tree_guards_get(fs->tree, file, text);
	if (r == -ENOENT)
		return 1;
	/* The gateway's to refuse, as any other fault. */
	if (r == -EFBIG)
		r = too_long(text);
	if (r < 0)
		return err_set(err, r, "%s", r == -EINVAL ? "not a regular file" : strerror(-r));
	if (text->len == 0 && tree_file_is_young(&st)) {
		*again = true;
		return 1;
	}
	/* What a crash or a full disk has left of a save looks like that. */
	if (text->len == 0 && gateway_guard_has_rules(fs->gateway, file))
		return err_set(err, -EINVAL,
			"the file is empty: its last rules stay in force until it is deleted or "
			"has a line, if only a comment");
	return 0;
}

/* One of no bytes is in force, without rules, and has a fault: nobody saves it for that. */
static int empty_fault(const struct buf *text, struct err *err)
{
	return text->len ? 0 : err_set(err, -EINVAL, "%s", TREE_GUARDS_EMPTY);
}

/* Sets it if it has changed or had a fault. True: it has one that nobody was told of; `last`: tells
 * it. */
static bool pass_file(struct fs *fs, const char *file, bool last, bool *again)
{
	struct err err = {{0}};
	struct buf text = {0};
	struct turn *t = turn_of_guards();
	uint64_t n_changes = turn_count(t);
	int r = wanted(fs, file, &text, again, &err);
	if (!turn_begin_if(t, n_changes)) {
		turn_begin_overtaken(t);
		buf_clear(&text);
		r = wanted(fs, file, &text, again, &err);
	}
	report(fs, file, r < 0 || (r == 0 && empty_fault(&text, &err) < 0) ? &err : NULL);
	if (r < 0)
		gateway_guard_fail(fs->gateway, file, err.text);
	bool news = false;
	if (r == 0) {
		bool is = gateway_guard_is(fs->gateway, file, text.data ? text.data : "", text.len);
		bool known = guards_has_fault(file) && (is || text.len > TREE_GUARDS_MAX);
		if (!is || known)
			news = put_in_force(fs, file, &text, &err) < 0 && (last || !known);
	}
	turn_end(t);
	if (news && last && !fs->starting)
		log_warn("guards/%s", err.text);
	buf_free(&text);
	return news;
}

static bool is_trusted(struct fs *fs, const char *file)
{
	char above[TREE_GUARDS_NAME + 8];
	const char *slash = strchr(file, '/');
	snprintf(above, sizeof above, "guards/%.*s", slash ? (int)(slash - file) : 0, file);
	if (!slash)
		above[strlen("guards")] = '\0';
	return tree_trusted(fs->tree, above, NULL) == 0;
}

/* It is asked again: the file may have come since. Where others can delete, none has gone. */
static bool has_gone(struct fs *fs, const char *file)
{
	struct stat st;
	return is_trusted(fs, file) && tree_guards_stat(fs->tree, file, &st) == -ENOENT;
}

/* What TREE no longer has. */
static void pass_gone(struct fs *fs, char *const *there, char *const *deleted, bool *again)
{
	char **known = gateway_guard_names(fs->gateway);
	struct turn *t = turn_of_guards();
	for (size_t i = 0; known && known[i]; i++) {
		bool away = !names_has(deleted, known[i]);
		if (names_has(there, known[i]))
			continue;
		uint64_t n_changes = turn_count(t);
		bool gone = has_gone(fs, known[i]);
		if (!turn_begin_if(t, n_changes)) {
			turn_begin_overtaken(t);
			gone = has_gone(fs, known[i]);
		}
		if (gone)
			put_out_of_force(fs, known[i], away);
		turn_end(t);
		*again = *again || (gone && away);
	}
	names_free(known);
}

/* Names that look like rules and are none: who wrote them believes them in force. */
static void pass_bad_names(struct fs *fs, char *const *there)
{
	const struct err err = {TREE_GUARDS_BAD_NAME};
	char **bad = tree_guards_bad_names(fs->tree);
	for (size_t i = 0; bad && bad[i]; i++)
		report(fs, bad[i], &err);
	for (size_t i = reported.n; bad && i-- > 0;)
		if (!names_has(there, reported.list[i]) && !names_has(bad, reported.list[i]))
			report(fs, reported.list[i], NULL);
	names_free(bad);
}

/* Directories of rules: where one is none, what rules there are cannot be known, and nothing
 * passes. A look that only failed (-EMFILE, -EIO) leaves a stage as the last one found it; until
 * one has succeeded, nothing passes either. */
static const char *const dirs[] = {"input", "output"};

static void close_dir(struct fs *fs, size_t i, const char *what)
{
	char why[160];
	snprintf(why, sizeof why, "guards/%s in TREE %s", dirs[i], what);
	gateway_guard_close(fs->gateway, dirs[i], why);
}

/* Closes the stage, or says whether it may be open. */
static bool look_at_dir(struct fs *fs, size_t i)
{
	int r = tree_guards_dir_check(fs->tree, dirs[i]);
	if (r == -EACCES)
		close_dir(fs, i, "cannot be read");
	else if (r == -ENOTDIR || r == -ELOOP)
		close_dir(fs, i, "is not a directory (symlinks are not followed)");
	return r == 0;
}

bool guards_pass(struct fs *fs, char *const *deleted)
{
	static atomic_bool was_read;
	bool again = false, good[2];
	struct names news = {0};
	for (size_t i = 0; i < 2; i++)
		good[i] = look_at_dir(fs, i);
	char **there = tree_guards_names(fs->tree);
	for (size_t i = 0; i < 2 && !there && !was_read; i++)
		close_dir(fs, i, "cannot be read");
	if (!there)
		return false;
	was_read = true;
	pass_gone(fs, there, deleted, &again);
	pass_bad_names(fs, there);
	for (size_t i = 0; there[i]; i++)
		if (pass_file(fs, there[i], false, &again))
			names_add(&news, there[i]);
	for (size_t i = 0; i < news.n; i++)
		pass_file(fs, news.list[i], true, &again);
	/* Not before all of its rules are in force. */
	for (size_t i = 0; i < 2; i++)
		if (good[i] && look_at_dir(fs, i))
			gateway_guard_close(fs->gateway, dirs[i], NULL);
	names_free(news.list);
	names_free(there);
	return again;
}

/* ---- changes through the mount ---- */

/* For the file `error`. What is only to be done again, or was not wanted any more, is no fault.
 * In their turn, so that the last change is the last that is told of. */
static void told(struct fs *fs, const char *file, int r, const struct err *err)
{
	if (r != -EAGAIN && r != -ECANCELED && r != -ESTALE && r != -ENOENT)
		faults_note_guard(fs, file, r, err);
}

int guards_save(struct fs *fs, const char *file, const char *text, size_t len,
	int (*still)(const void *arg), const void *arg)
{
	struct tree_file_write w;
	struct err err = {{0}};
	int wrote = tree_guards_write(&w, fs->tree, file, text, len), r = wrote;
	turn_begin(turn_of_guards());
	if (r == 0 && still)
		r = still(arg);
	if (r == 0)
		r = tree_file_write_take(&w);
	if (r == 0) {
		rules_saved(fs, file, !still);
		r = gateway_guard_set(fs->gateway, file, text, len, &err) < 0 ? 1 : 0;
		set_faulty(file, r == 1);
	}
	told(fs, file, r, &err);
	turn_end(turn_of_guards());
	if (wrote == 0)
		tree_file_write_end(&w);
	return r;
}

/* The name is back, though not yet the text: what was renamed away stays in force until that comes,
 * however long it takes to write it. */
int guards_create(struct fs *fs, const char *file, const struct buf *before)
{
	char kept[TREE_GUARDS_NAME];
	struct buf text = {0};
	turn_begin(turn_of_guards());
	int r = tree_guards_create(fs->tree, file);
	if (r == 0 && was_aside(file, kept) && tree_guards_get(fs->tree, kept, &text) == 0)
		put_in_force(fs, file, &text, NULL);
	else if (r == 0 && before)
		put_in_force(fs, file, before, NULL);
	turn_end(turn_of_guards());
	buf_free(&text);
	return r;
}

int guards_put_back(struct fs *fs, const char *kept, const char *file, const char *text, size_t len)
{
	struct buf have = {0};
	struct err err = {{0}};
	turn_begin(turn_of_guards());
	int r = tree_guards_get(fs->tree, kept, &have);
	if (r == 0 && (have.len != len || (len && memcmp(have.data, text, len) != 0)))
		r = -ESTALE;
	if (r == 0)
		r = tree_guards_rename(fs->tree, kept, file);
	if (r == 0) {
		rules_saved(fs, file, true);
		r = put_in_force(fs, file, &have, &err) < 0 ? 1 : 0;
	}
	/* Nothing was written: what was wrong with what stood here meanwhile is still to be read.
	 */
	if (r != 0)
		told(fs, file, r, &err);
	turn_end(turn_of_guards());
	buf_free(&have);
	return r;
}

int guards_delete(struct fs *fs, const char *file)
{
	turn_begin(turn_of_guards());
	int r = tree_guards_remove(fs->tree, file);
	if (r == 0) {
		bool away = was_aside(file, NULL);
		rules_saved(fs, file, true);
		put_out_of_force(fs, file, away);
		/* An editor that was told of the fault and now puts its backup back. */
		if (!away)
			faults_forget_guard(fs, file);
	}
	turn_end(turn_of_guards());
	return r;
}

int guards_rename(struct fs *fs, const char *file, const char *to)
{
	struct buf text = {0};
	struct err err = {{0}};
	bool has_fault = false;
	turn_begin(turn_of_guards());
	int r = tree_guards_get(fs->tree, file, &text);
	if (r == 0)
		r = tree_guards_rename(fs->tree, file, to);
	if (r == 0) {
		rules_saved(fs, file, true);
		rules_saved(fs, to, true);
		put_out_of_force(fs, file, true);
		has_fault = put_in_force(fs, to, &text, &err) < 0;
		put_out_of_force(fs, file, false);
		faults_forget_guard(fs, file);
	}
	told(fs, to, r == 0 && has_fault ? 1 : r, &err);
	turn_end(turn_of_guards());
	buf_free(&text);
	return r;
}

int guards_put_aside(
	struct fs *fs, const char *file, const char *wanted_name, char kept[TREE_GUARDS_NAME])
{
	turn_begin(turn_of_guards());
	int r = tree_guards_put_aside(fs->tree, file, wanted_name, kept);
	if (r == 0) {
		note_aside(file, kept);
		rules_saved(fs, file, true);
		put_out_of_force(fs, file, true);
		faults_forget_guard(fs, file);
	}
	turn_end(turn_of_guards());
	return r;
}
