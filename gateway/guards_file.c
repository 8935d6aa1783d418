/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file below guards/: its text as it was set last, and the rules, or the judge, of the last text
 * that was good. Whether a text is good is found out here, by compiling it, which takes
 * milliseconds and no lock; whether its rules' names are its own among those of its stage, below
 * the lock, since other files come and go.
 */
#include "gateway/guards_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const guards_stage_names[] = {"input", "output"};
const char guards_judge_file[] = "moderation";

static const char suffix[] = ".rules";

bool gateway_guard_name_ok(const char *file)
{
	if (!strcmp(file, guards_judge_file))
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

struct guard_file *guards_file_free(struct guard_file *f)
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

struct guard_file *guards_file_new(const char *name)
{
	struct guard_file *f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	snprintf(f->name, sizeof f->name, "%s", name);
	f->is_judge = !strcmp(name, guards_judge_file);
	f->stage = *name == 'o' ? GUARD_OUTPUT : GUARD_INPUT;
	return f;
}

uint64_t guards_file_hash(uint64_t h, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)bytes[i]) * 0x100000001B3u;
	return h;
}

static int fault(const char *file, const struct guard_fault *f, struct err *err)
{
	return err_set(err, -EINVAL, "%s:%u:%u: %s", file, f->line, f->column, f->reason);
}

int guards_file_check_names(const struct guards *gs, const struct guard_file *f,
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

int guards_file_compile(const struct guard_file *f, const char *text, size_t len,
	struct guards_compiled *c, struct err *err)
{
	struct guard_fault why = {0};
	if (len > GUARDS_TEXT_MAX)
		return err_set(err, -EFBIG, "%s:1:1: a file of rules has at most %d bytes", f->name,
			GUARDS_TEXT_MAX);
	c->hash = guards_file_hash(GUARDS_HASH_START, text, len);
	int r = f->is_judge ? moderation_parse(&c->moderation, text, len, &why)
			    : guard_rules_parse(&c->rules, f->stage, f->name, text, len, &why);
	if (r == -EINVAL)
		return fault(f->name, &why, err);
	return r < 0 ? err_set(err, r, "%s: out of memory", f->name) : 0;
}

void guards_file_take(struct guard_file *f, struct guards_compiled *c)
{
	if (f->is_judge) {
		moderation_put(f->moderation);
		f->moderation = c->moderation;
	} else {
		guard_rules_put(f->rules);
		f->rules = c->rules;
	}
	f->hash = c->hash;
	*c = (struct guards_compiled){0};
}
