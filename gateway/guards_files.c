/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files below guards/ as they are set, found faulty, renamed away and removed.
 *
 * A text with a fault changes nothing in force. One that never had a good text, and one that there
 * is no room for, closes its stage: nothing passes until it is mended or gone.
 *
 * A name that two files of a stage have is a fault of the one that was set later. Its text is kept,
 * compiled, and comes into force as soon as the other file has the name no more, so that a rule can
 * be moved from file to file in either order. A file that was renamed away keeps no name from
 * others: it is most likely one of them by now.
 *
 * Good texts are kept in the store (g/FILE), so that a fault that stands in TREE at a start does
 * not put the rules out of force.
 *
 * All of it happens under set_lock. Files that were renamed away are dropped by the thread for
 * texts, when the timer says so.
 */
#include "gateway/guards_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

static const uint64_t away_ns = 2000000000; /* a file renamed away stays in force so long */

static void store_key(char key[128], const char *file)
{
	snprintf(key, 128, "g/%.100s", file);
}

/* The file's row, made when there is none. With the lock held; NULL: too many, or no memory. */
static struct guard_file *row(struct guards *gs, const char *file)
{
	struct guard_file *f = table_find(&gs->files, file);
	if (f || gs->files.n >= GUARDS_FILES_MAX)
		return f;
	f = guards_file_new(file);
	if (f && table_add(&gs->files, f->name, f) < 0)
		f = guards_file_free(f);
	return f;
}

static void report(struct guards *gs, const char *file, const char *sentence)
{
	char key[128], text[GUARDS_SENTENCE + 80];
	store_key(key, file);
	if (sentence)
		snprintf(text, sizeof text, "guards/%s", sentence);
	gateway_report(gs->g, key, sentence ? text : NULL);
}

/* After a change of a stage's files: those whose names are their own now. With the lock held;
 * afterwards, without it: put_in_force, report_mended. */
static void mend(struct guards *gs, enum guard_stage stage)
{
	for (size_t i = 0; i < gs->files.n; i++) {
		struct guard_file *f = gs->files.rows[i].object;
		struct err err;
		char key[128];
		if (!f->clashing || f->stage != stage ||
			guards_file_check_names(gs, f, f->clashing, &err) < 0)
			continue;
		guards_file_take(f, &(struct guards_compiled){.rules = f->clashing,
					    .hash = guards_file_hash(GUARDS_HASH_START,
						    f->text->bytes, f->text->len)});
		f->clashing = NULL;
		*f->fault = '\0';
		f->mended = true;
		store_key(key, f->name);
		store_put(gs->g->store, key, f->text->bytes, f->text->len);
		i = (size_t)-1; /* what it had before may have been in another one's way */
	}
}

static void report_mended(struct guards *gs)
{
	char name[sizeof((struct guard_file *)0)->name];
	bool found;
	do {
		found = false;
		pthread_mutex_lock(&gs->lock);
		for (size_t i = 0; !found && i < gs->files.n; i++) {
			struct guard_file *f = gs->files.rows[i].object;
			found = f->mended;
			f->mended = false;
			if (found)
				memcpy(name, f->name, sizeof name);
		}
		pthread_mutex_unlock(&gs->lock);
		if (found)
			report(gs, name, NULL);
	} while (found);
}

static int set_locked(struct guards *gs, const char *file, struct text *text,
	struct guards_compiled *c, int r, struct err *err)
{
	struct guard_file *f = row(gs, file);
	enum guard_stage stage = *file == 'o' ? GUARD_OUTPUT : GUARD_INPUT;
	if (!f) {
		bool full = gs->files.n >= GUARDS_FILES_MAX;
		snprintf(gs->no_room[stage], sizeof *gs->no_room, "%s", file);
		return full ? err_set(err, -ENOSPC, "%s:1:1: guards/ has room for %d files", file,
				      GUARDS_FILES_MAX)
			    : err_set(err, -ENOMEM, "%s:1:1: out of memory", file);
	}
	if (!strcmp(gs->no_room[stage], file))
		*gs->no_room[stage] = '\0';
	f->gone_ns = 0;
	text_put(f->text);
	f->text = text_ref(text);
	f->clashing = guard_rules_put(f->clashing);
	f->mended = false;
	if (r == 0 && c->rules) {
		r = guards_file_check_names(gs, f, c->rules, err);
		if (r < 0) {
			f->clashing = c->rules;
			c->rules = NULL;
		}
	}
	if (r == 0) {
		guards_file_take(f, c);
		*f->fault = '\0';
		mend(gs, f->stage);
	} else {
		snprintf(f->fault, sizeof f->fault, "%s", err->text);
	}
	return r;
}

int gateway_guard_set(
	struct gateway *g, const char *file, const char *text, size_t len, struct err *err)
{
	struct guards *gs = g->guards;
	struct err own = {0};
	struct guards_compiled c = {0};
	if (!gateway_guard_name_ok(file))
		return err_set(err, -ENOENT, "guards/ has no file %s", file);
	struct text *copy = text_new(text, len < GUARDS_TEXT_MAX ? len : GUARDS_TEXT_MAX);
	struct guard_file *like = guards_file_new(file);
	if (!copy || !like) {
		text_put(copy);
		guards_file_free(like);
		return err_set(err, -ENOMEM, "out of memory");
	}
	pthread_mutex_lock(&gs->set_lock);
	int r = guards_file_compile(like, text, len, &c, &own);
	pthread_mutex_lock(&gs->lock);
	r = set_locked(gs, file, copy, &c, r, &own);
	pthread_mutex_unlock(&gs->lock);
	if (!like->is_judge)
		guards_put_in_force(gs, like->stage);
	if (r == 0) {
		char key[128];
		store_key(key, file);
		store_put(g->store, key, text, len);
	}
	report(gs, file, r < 0 ? own.text : NULL);
	report_mended(gs);
	pthread_mutex_unlock(&gs->set_lock);
	guard_rules_put(c.rules);
	moderation_put(c.moderation);
	text_put(copy);
	guards_file_free(like);
	return r < 0 ? err_set(err, r, "%s", own.text) : 0;
}

void gateway_guard_fail(struct gateway *g, const char *file, const char *sentence)
{
	struct guards *gs = g->guards;
	struct guards_compiled none = {0};
	struct err err;
	if (!gateway_guard_name_ok(file))
		return;
	enum guard_stage stage = *file == 'o' ? GUARD_OUTPUT : GUARD_INPUT;
	int fault = err_set(&err, -EINVAL, "%s:1:1: %s", file, sentence);
	pthread_mutex_lock(&gs->set_lock);
	pthread_mutex_lock(&gs->lock);
	const struct guard_file *f = table_find(&gs->files, file);
	bool news = !f || strcmp(f->fault, err.text);
	if (news)
		set_locked(gs, file, NULL, &none, fault, &err);
	pthread_mutex_unlock(&gs->lock);
	if (news)
		guards_put_in_force(gs, stage);
	report(gs, file, err.text);
	pthread_mutex_unlock(&gs->set_lock);
}

/* ---- renamed away ---- */

/* For the first of those that are to go. With the lock held. */
static void arm(struct guards *gs)
{
	uint64_t first = 0;
	for (size_t i = 0; i < gs->files.n; i++) {
		const struct guard_file *f = gs->files.rows[i].object;
		if (f->gone_ns && (!first || f->gone_ns < first))
			first = f->gone_ns;
	}
	if (first && !gs->stopped)
		loop_arm(gs->g->loop, &gs->timer, first);
}

/* With the lock held. */
static void forget(struct guards *gs, struct guard_file *f)
{
	char key[128];
	store_key(key, f->name);
	store_delete(gs->g->store, key);
	table_remove(&gs->files, f->name);
	guards_file_free(f);
}

/* On the loop. */
static void timer_is_due(struct loop_timer *timer)
{
	struct guards *gs = list_entry(timer, struct guards, timer);
	pthread_mutex_lock(&gs->lock);
	if (!gs->stopped)
		runner_post(gs->g->texts, &gs->drop);
	pthread_mutex_unlock(&gs->lock);
}

/* On the thread for texts: files that were renamed away and are not back. */
static void drop_gone(struct loop_work *work)
{
	struct guards *gs = list_entry(work, struct guards, drop);
	uint64_t now = clock_mono_ns();
	char gone[GUARDS_FILES_MAX][sizeof((struct guard_file *)0)->name];
	size_t n = 0;
	bool changed[2] = {false, false};
	pthread_mutex_lock(&gs->set_lock);
	pthread_mutex_lock(&gs->lock);
	for (size_t i = gs->files.n; i-- > 0;) {
		struct guard_file *f = gs->files.rows[i].object;
		if (!f->gone_ns || f->gone_ns > now)
			continue;
		changed[f->stage] |= !f->is_judge;
		memcpy(gone[n++], f->name, sizeof f->name);
		forget(gs, f);
	}
	for (int stage = 0; stage < 2; stage++)
		if (changed[stage])
			mend(gs, (enum guard_stage)stage);
	arm(gs);
	pthread_mutex_unlock(&gs->lock);
	for (int stage = 0; stage < 2; stage++)
		if (changed[stage])
			guards_put_in_force(gs, (enum guard_stage)stage);
	for (size_t i = 0; i < n; i++)
		report(gs, gone[i], NULL);
	report_mended(gs);
	pthread_mutex_unlock(&gs->set_lock);
}

/* ---- gone, or not to be known ---- */

void gateway_guard_close(struct gateway *g, const char *name, const char *sentence)
{
	struct guards *gs = g->guards;
	enum guard_stage stage = *name == 'o' ? GUARD_OUTPUT : GUARD_INPUT;
	char key[32], whole[256];
	pthread_mutex_lock(&gs->set_lock);
	pthread_mutex_lock(&gs->lock);
	char *shut = gs->shut[stage];
	bool changed = strncmp(shut, sentence ? sentence : "", sizeof gs->shut[0] - 1);
	snprintf(shut, sizeof gs->shut[0], "%s", sentence ? sentence : "");
	pthread_mutex_unlock(&gs->lock);
	if (changed) {
		guards_put_in_force(gs, stage);
		snprintf(key, sizeof key, "guards:%s/", name);
		snprintf(whole, sizeof whole, "the %s guards are closed: %s", name,
			sentence ? sentence : "");
		gateway_report(g, key, sentence ? whole : NULL);
	}
	pthread_mutex_unlock(&gs->set_lock);
}

void gateway_guard_remove(struct gateway *g, const char *file, bool away)
{
	struct guards *gs = g->guards;
	enum guard_stage stage = *file == 'o' ? GUARD_OUTPUT : GUARD_INPUT;
	pthread_mutex_lock(&gs->set_lock);
	pthread_mutex_lock(&gs->lock);
	struct guard_file *f = table_find(&gs->files, file);
	bool changed = f || !strcmp(gs->no_room[stage], file);
	if (!strcmp(gs->no_room[stage], file))
		*gs->no_room[stage] = '\0';
	bool now = f && !away;
	if (now) {
		forget(gs, f);
	} else if (f && !f->gone_ns) {
		f->gone_ns = clock_mono_ns() + away_ns;
		arm(gs);
	}
	if (changed)
		mend(gs, stage);
	pthread_mutex_unlock(&gs->lock);
	if (changed)
		guards_put_in_force(gs, stage);
	if (now)
		report(gs, file, NULL);
	report_mended(gs);
	pthread_mutex_unlock(&gs->set_lock);
}

bool gateway_guard_is(struct gateway *g, const char *file, const char *text, size_t len)
{
	pthread_mutex_lock(&g->guards->lock);
	const struct guard_file *f = table_find(&g->guards->files, file);
	bool same = f && !f->gone_ns && f->text && f->text->len == len &&
		    (!len || !memcmp(f->text->bytes, text, len));
	pthread_mutex_unlock(&g->guards->lock);
	return same;
}

bool gateway_guard_has_rules(struct gateway *g, const char *file)
{
	pthread_mutex_lock(&g->guards->lock);
	const struct guard_file *f = table_find(&g->guards->files, file);
	bool has = f && ((f->rules && guard_rules_count(f->rules)) ||
				(f->moderation && *f->moderation->model));
	pthread_mutex_unlock(&g->guards->lock);
	return has;
}

char **gateway_guard_names(struct gateway *g)
{
	pthread_mutex_lock(&g->guards->lock);
	char **names = table_names(&g->guards->files);
	pthread_mutex_unlock(&g->guards->lock);
	return names;
}

static int restore(void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct guards *gs = arg;
	char file[sizeof((struct guard_file *)0)->name];
	struct err err = {0};
	struct guards_compiled c = {0};
	size_t n = key_len - 2;
	if (n >= sizeof file)
		return 0;
	memcpy(file, key + 2, n);
	file[n] = '\0';
	struct guard_file *f = gateway_guard_name_ok(file) ? row(gs, file) : NULL;
	if (!f || guards_file_compile(f, value, value_len, &c, &err) < 0) {
		log_warn("store: rules of an earlier start cannot be used: %s", err.text);
		return 0;
	}
	guards_file_take(f, &c);
	return 0;
}

int guards_restore(struct guards *gs, struct err *err)
{
	int r = store_scan(gs->g->store, "g/", restore, gs);
	guards_put_in_force(gs, GUARD_INPUT);
	guards_put_in_force(gs, GUARD_OUTPUT);
	return r < 0 ? err_set(err, r, "the guards cannot be restored: %s", strerror(-r)) : 0;
}

void guards_files_init(struct guards *gs)
{
	list_init(&gs->timer.link);
	gs->timer.run = timer_is_due;
	list_init(&gs->drop.link);
	gs->drop.run = drop_gone;
}
