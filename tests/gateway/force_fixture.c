/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/force_fixture.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/guards.h"

struct harness force_h;

void force_open(void)
{
	harness_make(&force_h, 0);
	harness_open(&force_h);
}

void force_close(void)
{
	harness_end(&force_h);
}

int force_set(const char *file, const char *text, struct err *err)
{
	*err = (struct err){0};
	return gateway_guard_set(force_h.g, file, text, strlen(text), err);
}

char *force_passed(const char *text)
{
	const struct guards_subject who = {getuid(), "me", "main", 0};
	struct err err = {0};
	struct buf out = {0};
	int r = guards_text(force_h.g->guards, &who, text, strlen(text), &out, &err);
	if (r < 0) {
		buf_clear(&out);
		buf_printf(&out, "!%s", err.text);
		ck_assert_int_eq(r, -EPERM);
	}
	buf_append(&out, "", 0);
	return out.data;
}

void force_passes(const char *text, const char *want)
{
	char *is = force_passed(text);
	ck_assert_str_eq(is, want);
	free(is);
}

void force_view_is(enum gateway_view view, const char *want)
{
	char *text = harness_whole(&force_h, view);
	ck_assert_str_eq(text, want);
	free(text);
}

void force_names_are(const char *want)
{
	char **names = gateway_guard_names(force_h.g);
	struct buf out = {0};
	for (size_t i = 0; names[i]; i++) {
		buf_printf(&out, "%s;", names[i]);
		free(names[i]);
	}
	free(names);
	buf_append(&out, "", 0);
	ck_assert_str_eq(out.data, want);
	buf_free(&out);
}
