/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in force for a stage: the rules of all its files (guards_files.c), and the judge. They
 * are replaced as a whole, so a request sees all of a file's change or nothing; a stage of which a
 * file never had a good text is closed.
 *
 * A set is made of the files under set_lock only, which nobody takes who judges a text.
 *
 * Lock: guards->set_lock, outermost; guards->lock, inside draft and session locks, around the
 * loop's and the store's.
 */
#include "gateway/guards_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the object ---- */

struct guards *guards_new(struct gateway *g)
{
	struct guards *gs = calloc(1, sizeof *gs);
	if (!gs)
		return NULL;
	gs->g = g;
	pthread_mutex_init(&gs->set_lock, NULL);
	pthread_mutex_init(&gs->lock, NULL);
	guards_files_init(gs);
	for (size_t i = 0; i < 2; i++)
		gs->sets[i] = guard_set_new(NULL, 0);
	return gs->sets[0] && gs->sets[1] ? gs : guards_free(gs);
}

struct guards *guards_free(struct guards *gs)
{
	if (!gs)
		return NULL;
	for (size_t i = 0; i < gs->files.n; i++)
		guards_file_free(gs->files.rows[i].object);
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

/* ---- what is in force ---- */

/* Of the names and texts that are in force for a stage. With the lock held. */
static uint64_t fingerprint(const struct guards *gs, enum guard_stage stage)
{
	uint64_t h = GUARDS_HASH_START;
	for (size_t i = 0; i < gs->files.n; i++) {
		const struct guard_file *f = gs->files.rows[i].object;
		if (f->is_judge || f->stage != stage)
			continue;
		h = guards_file_hash(h, f->name, strlen(f->name) + 1);
		h = guards_file_hash(h, (const char *)&f->hash, sizeof f->hash);
	}
	return h;
}

/* With the lock held. */
static uint64_t print_of(struct guards *gs, enum guard_stage stage)
{
	const struct guard_file *judge = table_find(&gs->files, guards_judge_file);
	uint64_t h = gs->fingerprints[stage];
	return judge ? guards_file_hash(h, (const char *)&judge->hash, sizeof judge->hash) : h;
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

void guards_put_in_force(struct guards *gs, enum guard_stage stage)
{
	struct guard_rules *rules[GUARDS_FILES_MAX];
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
	struct guard_file *f = table_find(&gs->files, guards_judge_file);
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
