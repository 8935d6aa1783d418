/* SPDX-License-Identifier: Apache-2.0 */
/* Opened before each test and ended after it. What goes wrong here is the test's to look at: only
 * a prompt that is not taken fails at once. */
#include "tests/gateway/talk_fixture.h"

#include <check.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct harness talk;

void talk_open(void)
{
	harness_make(&talk, 0);
	harness_open(&talk);
}

void talk_close(void)
{
	harness_end(&talk);
}

int talk_ctl(struct session *s, const char *line)
{
	return session_ctl(s, getuid(), getgid(), line, strlen(line), NULL);
}

int talk_set(struct session *s, const char *file, const char *value)
{
	return session_setting_set(s, file, value, strlen(value), NULL);
}

void talk_wake(void *arg)
{
	sem_post(arg);
}

struct session *talk_long_session(const char *id)
{
	struct session *s = harness_session(&talk, id, "15000");
	ck_assert_int_eq(talk_set(s, "model", "long"), 0);
	ck_assert_int_eq(talk_set(s, "ignore_eos", "1"), 0);
	return s;
}

char *talk_ask(struct session *s, const char *prompt, int *status)
{
	ck_assert_int_eq(harness_say(s, prompt), 0);
	return harness_read(s, status);
}

bool talk_view_is(struct session *s, enum session_view view, const char *want)
{
	char *text = harness_view(s, view);
	bool is = !strcmp(text, want);
	if (!is)
		fprintf(stderr, "view: %s\nwant: %s\n", text, want);
	free(text);
	return is;
}

bool talk_view_has(struct session *s, enum session_view view, const char *part)
{
	char *text = harness_view(s, view);
	bool has = strstr(text, part);
	if (!has)
		fprintf(stderr, "view: %s\nwithout: %s\n", text, part);
	free(text);
	return has;
}

struct draft *talk_pending(struct session *s, const char *text)
{
	struct draft *d;
	draft_new(&d, s, getuid(), NULL);
	draft_write(d, text, strlen(text), NULL);
	draft_flush(d, NULL);
	return d;
}

void talk_warm(struct session *s)
{
	int status;
	free(talk_ask(s, "x\n", &status));
	ck_assert_int_eq(status, 0);
}
