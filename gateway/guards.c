/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rule file is its text as it was set last, and the rules of the last text that was good. The
 * rules of a stage are those of all its files; they are replaced as a whole, so a request sees all
 * of a file's change or nothing. A text with a fault changes nothing in force. One that never had a
 * good text, and one that there is no room for, closes its stage: nothing passes until it is mended
 * or gone.
 *
 * A name that two files of a stage have is a fault of the one that was set later. Its text is kept,
 * compiled, and comes into force as soon as the other file has the name no more, so that a rule can
 * be moved from file to file in either order. A file that was renamed away keeps no name from
 * others: it is most likely one of them by now.
 *
 * Good texts are kept in the store (g/FILE), so that a fault that stands in TREE at a start does
 * not put the rules out of force.
 *
 * Compiling takes milliseconds: it happens under set_lock only, which nobody takes who judges a
 * text. Files that were renamed away are dropped by the thread for texts, when the timer says so.
 *
 * Lock: guards->set_lock, outermost; guards->lock, inside draft and session locks, around the
 * loop's and the store's.
 */
#include "gateway/guards_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

static const uint64_t away_ns = 2000000000; /* a file renamed away stays in force so long */
enum { TEXT_MAX = 256 << 10, FILES_MAX = 256 };

const char *const guards_stage_names[] = {"input", "output"};

static void timer_is_due(struct loop_timer *timer);
static void drop_gone(struct loop_work *work);

/* ---- names ---- */

static const uint64_t hash_start = 0xCBF29CE484222325u;
static const char suffix[] = ".rules", judge_file[] = "moderation";

bool gateway_guard_name_ok(const char *file)
{
	if (!strcmp(file, judge_file))
		return true;
	const char *name = NULL;
	for (size_t i = 0; i < 2; i++) {
		size_t n = strlen(guards_stage_names[i]);
		if (!strncmp(file, guards_stage_names[i], n) && file[n] == '/')
			name = file + n + 1;
	}
	size_t len = name ? strlen(name) : 0, end = sizeof suffix - 1;
	return name && text_is_name(name, len) && *name != '.' && len > end &&
	       !strcmp(name + len - end, suffix);
}

/* ---- the object ---- */

static struct guard_file *file_free(struct guard_file *f)
{
	if (!f)
		return NULL;
	text_put(f->text);
	guard_rules_put(f->rules);
	guard_rules_put(f->clashing);
	moderation_put(f->moderation);
	free(f);
	return NULL;
}

struct guards *guards_new(struct gateway *g)
{
	struct guards *gs = calloc(1, sizeof *gs);
	if (!gs)
		return NULL;
	gs->g = g;
	pthread_mutex_init(&gs->set_lock, NULL);
	pthread_mutex_init(&gs->lock, NULL);
	list_init(&gs->timer.link);
	gs->timer.run = timer_is_due;
	list_init(&gs->drop.link);
	gs->drop.run = drop_gone;
	for (size_t i = 0; i < 2; i++)
		gs->sets[i] = guard_set_new(NULL, 0);
	return gs->sets[0] && gs->sets[1] ? gs : guards_free(gs);
}

struct guards *guards_free(struct guards *gs)
{
	if (!gs)
		return NULL;
	for (size_t i = 0; i < gs->files.n; i++)
		file_free(gs->files.rows[i].object);
	table_free(&gs->files);
	for (size_t i = 0; i < 2; i++)
		guard_set_put(gs->sets[i]);
	pthread_mutex_destroy(&gs->set_lock);
	pthread_mutex_destroy(&gs->lock);
	free(gs);
	return NULL;
}

void guards_stop(struct guards *gs)
{
	if (!gs || !gs->g->loop)
		return;
	pthread_mutex_lock(&gs->lock);
	gs->stopped = true;
	pthread_mutex_unlock(&gs->lock);
	loop_disarm(gs->g->loop, &gs->timer);
}

static struct guard_file *file_new(const char *name)
{
	struct guard_file *f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	snprintf(f->name, sizeof f->name, "%s", name);
	f->is_judge = !strcmp(name, judge_file);
	f->stage = *name == 'o' ? GUARD_OUTPUT : GUARD_INPUT;
	return f;
}

/* ---- what is in force ---- */

/* FNV-1a. */
static uint64_t hash(uint64_t h, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)bytes[i]) * 0x100000001B3u;
	return h;
}

/* Of the names and texts that are in force for a stage. With the lock held. */
static uint64_t fingerprint(const struct guards *gs, enum guard_stage stage)
{
	uint64_t h = hash_start;
	for (size_t i = 0; i < gs->files.n; i++) {
		const struct guard_file *f = gs->files.rows[i].object;
		if (f->is_judge || f->stage != stage)
			continue;
		h = hash(h, f->name, strlen(f->name) + 1);
		h = hash(h, (const char *)&f->hash, sizeof f->hash);
	}
	return h;
}

/* With the lock held. */
static uint64_t print_of(struct guards *gs, enum guard_stage stage)
{
	const struct guard_file *judge = table_find(&gs->files, judge_file);
	uint64_t h = gs->fingerprints[stage];
	return judge ? hash(h, (const char *)&judge->hash, sizeof judge->hash) : h;
}

uint64_t guards_fingerprint(struct guards *gs, enum guard_stage stage)
{
	pthread_mutex_lock(&gs->lock);
	uint64_t h = print_of(gs, stage);
	pthread_mutex_unlock(&gs->lock);
	return h;
}

/* References of the rules of a stage's files; -1: the stage is closed. With the lock held. */
static int collect(const struct guards *gs, enum guard_stage stage, struct guard_rules **rules)
{
	int n = 0;
	if (*gs->no_room[stage] || *gs->shut[stage])
		return -1;
	for (size_t i = 0; i < gs->files.n; i++) {
		const struct guard_file *f = gs->files.rows[i].object;
		if (!f->is_judge && f->stage == stage && !f->rules)
			return -1;
	}
	for (size_t i = 0; i < gs->files.n; i++) {
		const struct guard_file *f = gs->files.rows[i].object;
		if (!f->is_judge && f->stage == stage)
			rules[n++] = guard_rules_ref(f->rules);
	}
	return n;
}

/* The stage becomes what its files say now. With the set_lock held, and not the lock. */
static void put_in_force(struct guards *gs, enum guard_stage stage)
{
	struct guard_rules *rules[FILES_MAX];
	pthread_mutex_lock(&gs->lock);
	int n = collect(gs, stage, rules);
	uint64_t print = fingerprint(gs, stage);
	pthread_mutex_unlock(&gs->lock);
	struct guard_set *fresh = n < 0 ? NULL : guard_set_new(rules, (size_t)n);
	for (int i = 0; i < n; i++)
		guard_rules_put(rules[i]);
	pthread_mutex_lock(&gs->lock);
	struct guard_set *old = gs->sets[stage];
	gs->sets[stage] = fresh;
	gs->fingerprints[stage] = print;
	gs->generation[stage]++;
	pthread_mutex_unlock(&gs->lock);
	guard_set_put(old);
}

static int closed(const struct guards *gs, enum guard_stage stage, bool judge, struct err *err)
{
	if (!judge && *gs->shut[stage])
		return err_set(err, -EPERM, "the %s guards are closed: %s",
			guards_stage_names[stage], gs->shut[stage]);
	if (!judge && *gs->no_room[stage])
		return err_set(err, -EPERM,
			"the %s guards are closed: there is no room for guards/%s",
			guards_stage_names[stage], gs->no_room[stage]);
	for (size_t i = 0; i < gs->files.n; i++) {
		const struct guard_file *f = gs->files.rows[i].object;
		if (f->is_judge == judge && (judge || f->stage == stage) && !f->rules && *f->fault)
			return err_set(err, -EPERM,
				"the %s guards are closed: guards/%s has a fault and no earlier "
				"text that was good: %s",
				guards_stage_names[stage], f->name, f->fault);
	}
	return err_set(
		err, -EPERM, "the %s guards are closed: out of memory", guards_stage_names[stage]);
}

int guards_rules(struct guards *gs, enum guard_stage stage, struct guard_set **out,
	uint64_t *generation, struct err *err)
{
	pthread_mutex_lock(&gs->lock);
	int r = gs->sets[stage] ? 0 : closed(gs, stage, false, err);
	if (r == 0)
		*out = guard_set_ref(gs->sets[stage]);
	if (generation)
		*generation = gs->generation[stage];
	pthread_mutex_unlock(&gs->lock);
	return r;
}

/* With the lock held; out NULL: only whether it may be asked. */
static int judge_of(
	struct guards *gs, enum guard_stage stage, struct moderation **out, struct err *err)
{
	struct guard_file *f = table_find(&gs->files, judge_file);
	if (f && !f->moderation)
		return closed(gs, stage, true, err);
	if (out && f && moderation_judges(f->moderation, stage))
		*out = moderation_ref(f->moderation);
	return 0;
}

int guards_judge(
	struct guards *gs, enum guard_stage stage, struct moderation **out, struct err *err)
{
	*out = NULL;
	pthread_mutex_lock(&gs->lock);
	int r = judge_of(gs, stage, out, err);
	pthread_mutex_unlock(&gs->lock);
	return r;
}

int guards_stage(struct guards *gs, enum guard_stage stage, struct guard_set **rules,
	struct moderation **judge, uint64_t *print, struct err *err)
{
	if (judge)
		*judge = NULL;
	pthread_mutex_lock(&gs->lock);
	int r = gs->sets[stage] ? 0 : closed(gs, stage, false, err);
	r = r ? r : judge_of(gs, stage, judge, err);
	if (r == 0 && rules)
		*rules = guard_set_ref(gs->sets[stage]);
	if (print)
		*print = print_of(gs, stage);
	pthread_mutex_unlock(&gs->lock);
	return r;
}

/* ---- setting ---- */

static void store_key(char key[128], const char *file)
{
	snprintf(key, 128, "g/%.100s", file);
}

/* What a text is worth, compiled. */
struct compiled {
	struct guard_rules *rules;
	struct moderation *moderation;
	uint64_t hash; /* of the text */
};

static int fault(const char *file, const struct guard_fault *f, struct err *err)
{
	return err_set(err, -EINVAL, "%s:%u:%u: %s", file, f->line, f->column, f->reason);
}

/* A name may stand in one file of a stage only. With the lock held. */
static int check_names(const struct guards *gs, const struct guard_file *f,
	const struct guard_rules *rules, struct err *err)
{
	for (size_t i = 0; i < gs->files.n; i++) {
		const struct guard_file *other = gs->files.rows[i].object;
		/* One that was renamed away may be the same file under another name. */
		if (other->is_judge || other->stage != f->stage || !other->rules ||
			other->gone_ns || !strcmp(other->name, f->name))
			continue;
		const char *name = guard_rules_clash(rules, other->rules);
		if (name)
			return err_set(err, -EINVAL, "%s:%u:1: the rule %s is in %s too", f->name,
				guard_rules_line(rules, name), name, other->name);
	}
	return 0;
}

static int compile(const struct guard_file *f, const char *text, size_t len, struct compiled *c,
	struct err *err)
{
	struct guard_fault why = {0};
	if (len > TEXT_MAX)
		return err_set(err, -EFBIG, "%s:1:1: a file of rules has at most %d bytes", f->name,
			TEXT_MAX);
	c->hash = hash(hash_start, text, len);
	int r = f->is_judge ? moderation_parse(&c->moderation, text, len, &why)
			    : guard_rules_parse(&c->rules, f->stage, f->name, text, len, &why);
	if (r == -EINVAL)
		return fault(f->name, &why, err);
	return r < 0 ? err_set(err, r, "%s: out of memory", f->name) : 0;
}

/* Takes what was compiled. With the lock held. */
static void take(struct guards *gs, struct guard_file *f, struct compiled *c)
{
	if (f->is_judge) {
		moderation_put(f->moderation);
		f->moderation = c->moderation;
	} else {
		guard_rules_put(f->rules);
		f->rules = c->rules;
	}
	f->hash = c->hash;
	*c = (struct compiled){0};
}

/* The file's row, made when there is none. With the lock held; NULL: too many, or no memory. */
static struct guard_file *row(struct guards *gs, const char *file)
{
	struct guard_file *f = table_find(&gs->files, file);
	if (f || gs->files.n >= FILES_MAX)
		return f;
	f = file_new(file);
	if (f && table_add(&gs->files, f->name, f) < 0)
		f = file_free(f);
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
		if (!f->clashing || f->stage != stage || check_names(gs, f, f->clashing, &err) < 0)
			continue;
		take(gs, f,
			&(struct compiled){.rules = f->clashing,
				.hash = hash(hash_start, f->text->bytes, f->text->len)});
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

static int set_locked(struct guards *gs, const char *file, struct text *text, struct compiled *c,
	int r, struct err *err)
{
	struct guard_file *f = row(gs, file);
	enum guard_stage stage = *file == 'o' ? GUARD_OUTPUT : GUARD_INPUT;
	if (!f) {
		bool full = gs->files.n >= FILES_MAX;
		snprintf(gs->no_room[stage], sizeof *gs->no_room, "%s", file);
		return full ? err_set(err, -ENOSPC, "%s:1:1: guards/ has room for %d files", file,
				      FILES_MAX)
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
		r = check_names(gs, f, c->rules, err);
		if (r < 0) {
			f->clashing = c->rules;
			c->rules = NULL;
		}
	}
	if (r == 0) {
		take(gs, f, c);
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
	struct compiled c = {0};
	if (!gateway_guard_name_ok(file))
		return err_set(err, -ENOENT, "guards/ has no file %s", file);
	struct text *copy = text_new(text, len < TEXT_MAX ? len : TEXT_MAX);
	struct guard_file *like = file_new(file);
	if (!copy || !like) {
		text_put(copy);
		file_free(like);
		return err_set(err, -ENOMEM, "out of memory");
	}
	pthread_mutex_lock(&gs->set_lock);
	int r = compile(like, text, len, &c, &own);
	pthread_mutex_lock(&gs->lock);
	r = set_locked(gs, file, copy, &c, r, &own);
	pthread_mutex_unlock(&gs->lock);
	if (!like->is_judge)
		put_in_force(gs, like->stage);
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
	file_free(like);
	return r < 0 ? err_set(err, r, "%s", own.text) : 0;
}

void gateway_guard_fail(struct gateway *g, const char *file, const char *sentence)
{
	struct guards *gs = g->guards;
	struct compiled none = {0};
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
		put_in_force(gs, stage);
	report(gs, file, err.text);
	pthread_mutex_unlock(&gs->set_lock);
}

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
	file_free(f);
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
	char gone[FILES_MAX][sizeof((struct guard_file *)0)->name];
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
			put_in_force(gs, (enum guard_stage)stage);
	for (size_t i = 0; i < n; i++)
		report(gs, gone[i], NULL);
	report_mended(gs);
	pthread_mutex_unlock(&gs->set_lock);
}

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
		put_in_force(gs, stage);
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
		put_in_force(gs, stage);
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
	struct compiled c = {0};
	size_t n = key_len - 2;
	if (n >= sizeof file)
		return 0;
	memcpy(file, key + 2, n);
	file[n] = '\0';
	struct guard_file *f = gateway_guard_name_ok(file) ? row(gs, file) : NULL;
	if (!f || compile(f, value, value_len, &c, &err) < 0) {
		log_warn("store: rules of an earlier start cannot be used: %s", err.text);
		return 0;
	}
	take(gs, f, &c);
	return 0;
}

int guards_restore(struct guards *gs, struct err *err)
{
	int r = store_scan(gs->g->store, "g/", restore, gs);
	put_in_force(gs, GUARD_INPUT);
	put_in_force(gs, GUARD_OUTPUT);
	return r < 0 ? err_set(err, r, "the guards cannot be restored: %s", strerror(-r)) : 0;
}
