/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of guards judged without a gateway, one after the other: what gateway_guard_set would find,
 * with the names of rules that an earlier file of the stage has. Puts nothing in force. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/gateway_guards.h"
#include "gateway/guards.h"
#include "gateway/moderation.h"

enum { FAULTS_MAX = 100 /* of a file */ };

struct guards_check {
	size_t n_files;                                 /* that were judged, faulty or not */
	struct guard_rules *rules[2][GUARDS_FILES_MAX]; /* by stage, of those that are sound */
	char names[2][GUARDS_FILES_MAX][160];
	size_t n[2];
	char judge[TEXT_NAME_SIZE];
};

struct guards_check *gateway_guards_check_new(void)
{
	return calloc(1, sizeof(struct guards_check));
}

struct guards_check *gateway_guards_check_free(struct guards_check *c)
{
	for (size_t stage = 0; c && stage < 2; stage++)
		for (size_t i = 0; i < c->n[stage]; i++)
			guard_rules_put(c->rules[stage][i]);
	free(c);
	return NULL;
}

/* A file under judgement. A line that has a fault is told and made blank, and the rest is judged
 * again: its own faults are found that way, and not those that follow from the first. */
struct look {
	struct guards_check *c;
	const char *file;
	char *text;    /* a copy */
	size_t len, n; /* faults */
	void (*tell)(void *arg, const char *sentence);
	void *arg;
};

__attribute__((format(printf, 4, 5))) static void say(
	struct look *l, unsigned line, unsigned column, const char *format, ...)
{
	char reason[sizeof(struct err)], sentence[sizeof reason + 200];
	va_list args;
	va_start(args, format);
	vsnprintf(reason, sizeof reason, format, args);
	va_end(args);
	snprintf(sentence, sizeof sentence, "%s:%u:%u: %s", l->file, line, column, reason);
	l->tell(l->arg, sentence);
	l->n++;
}

/* Leaves the newline, so that the others keep their numbers. False: it is blank already, so the
 * fault is not of that line. */
static bool make_blank(struct look *l, unsigned line)
{
	char *at = l->text, *end = l->text + l->len;
	while (--line && at < end) {
		char *stop = memchr(at, '\n', (size_t)(end - at));
		at = stop ? stop + 1 : end;
	}
	char *stop = memchr(at, '\n', (size_t)(end - at));
	stop = stop ? stop : end;
	memmove(at, stop, (size_t)(end - stop) + 1);
	l->len -= (size_t)(stop - at);
	return stop > at;
}

/* Tells a fault of the parser's. False: what is behind it cannot be judged. */
static bool go_on(struct look *l, const struct guard_fault *why)
{
	say(l, why->line, why->column, "%s", why->reason);
	if (why->of_all || !make_blank(l, why->line))
		return false;
	if (l->n < FAULTS_MAX)
		return true;
	say(l, why->line, 1, "there may be more behind it: mend these first");
	return false;
}

static int check_judge(struct look *l)
{
	struct guard_fault why;
	struct moderation *m;
	int r;
	do
		r = moderation_parse(&m, l->text, l->len, &why);
	while (r == -EINVAL && go_on(l, &why));
	if (r < 0)
		return r == -EINVAL ? 0 : r;
	memcpy(l->c->judge, m->model, sizeof l->c->judge);
	moderation_put(m);
	return 0;
}

/* The names of rules that an earlier file of the stage has. */
static void check_names(struct look *l, enum guard_stage stage, const struct guard_rules *rules)
{
	for (size_t i = 0; i < guard_rules_count(rules); i++) {
		const char *name = guard_rules_name(rules, i);
		for (size_t k = 0; k < l->c->n[stage]; k++)
			if (guard_rules_line(l->c->rules[stage][k], name))
				say(l, guard_rules_line(rules, name), 1, "the rule %s is in %s too",
					name, l->c->names[stage][k]);
	}
}

/* Rules that had a fault were made blank, and count when they are mended. */
static void check_count(struct look *l, const struct guard_rules *rules)
{
	size_t n = guard_rules_count(rules), room = GUARD_RULES_MAX - l->n;
	if (n > room)
		say(l, guard_rules_line(rules, guard_rules_name(rules, room)), 1,
			"a file has at most %d rules", GUARD_RULES_MAX);
}

static int check_rules(struct look *l)
{
	struct guards_check *c = l->c;
	enum guard_stage stage = *l->file == 'o' ? GUARD_OUTPUT : GUARD_INPUT;
	struct guard_fault why;
	struct guard_rules *rules;
	int r;
	do
		r = guard_rules_parse(&rules, stage, l->file, l->text, l->len, &why);
	while (r == -EINVAL && go_on(l, &why));
	if (r < 0)
		return r == -EINVAL ? 0 : r;
	check_count(l, rules);
	check_names(l, stage, rules);
	snprintf(c->names[stage][c->n[stage]], sizeof c->names[0][0], "%s", l->file);
	c->rules[stage][c->n[stage]++] = rules;
	return 0;
}

int gateway_guards_check(struct guards_check *c, const char *file, const char *text, size_t len,
	void (*tell)(void *arg, const char *sentence), void *arg)
{
	struct look l = {.c = c,
		.file = file,
		.text = malloc(len + 1),
		.len = len,
		.tell = tell,
		.arg = arg};
	if (!l.text)
		return -ENOMEM;
	memcpy(l.text, text, len);
	l.text[len] = '\0';
	int r = 0;
	if (c->n_files == GUARDS_FILES_MAX)
		say(&l, 1, 1, "guards/ has room for %d files", GUARDS_FILES_MAX);
	else
		r = !strcmp(file, "moderation") ? check_judge(&l) : check_rules(&l);
	c->n_files += c->n_files < GUARDS_FILES_MAX;
	free(l.text);
	return r;
}

const char *gateway_guards_check_judge(const struct guards_check *c)
{
	return c->judge;
}
