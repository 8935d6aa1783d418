/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of guards judged without a gateway, one after the other: what gateway_guard_set would find,
 * with the names of rules that an earlier file of the stage has. Puts nothing in force. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/gateway.h"
#include "gateway/guard.h"
#include "gateway/moderation.h"

enum { FILES_MAX = 256 };

struct guards_check {
	struct guard_rules *rules[2][FILES_MAX]; /* by stage */
	char names[2][FILES_MAX][160];
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

static int fault(const char *file, const struct guard_fault *f, struct err *err)
{
	return err_set(err, -EINVAL, "%s:%u:%u: %s", file, f->line, f->column, f->reason);
}

static int check_judge(
	struct guards_check *c, const char *file, const char *text, size_t len, struct err *err)
{
	struct guard_fault why = {0};
	struct moderation *m;
	int r = moderation_parse(&m, text, len, &why);
	if (r < 0)
		return r == -EINVAL ? fault(file, &why, err) : r;
	memcpy(c->judge, m->model, sizeof c->judge);
	moderation_put(m);
	return 0;
}

int gateway_guards_check(
	struct guards_check *c, const char *file, const char *text, size_t len, struct err *err)
{
	struct guard_fault why = {0};
	struct guard_rules *rules;
	if (!strcmp(file, "moderation"))
		return check_judge(c, file, text, len, err);
	enum guard_stage stage = *file == 'o' ? GUARD_OUTPUT : GUARD_INPUT;
	int r = guard_rules_parse(&rules, stage, file, text, len, &why);
	if (r < 0)
		return r == -EINVAL ? fault(file, &why, err) : r;
	for (size_t i = 0; r == 0 && i < c->n[stage]; i++) {
		const char *name = guard_rules_clash(rules, c->rules[stage][i]);
		if (name)
			r = err_set(err, -EINVAL, "%s:%u:1: the rule %s is in %s too", file,
				guard_rules_line(rules, name), name, c->names[stage][i]);
	}
	if (r == 0 && c->n[stage] == FILES_MAX)
		r = err_set(err, -EINVAL, "%s:1:1: a stage has at most %d files", file, FILES_MAX);
	if (r < 0) {
		guard_rules_put(rules);
		return r;
	}
	snprintf(c->names[stage][c->n[stage]], sizeof c->names[0][0], "%s", file);
	c->rules[stage][c->n[stage]++] = rules;
	return 0;
}

const char *gateway_guards_check_judge(const struct guards_check *c)
{
	return c->judge;
}
