/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/far_fixture.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char far_whole[] = "The quick brown fox jumps over the lazy dog.";
struct faulty far_server;
struct harness far_h;
struct model *far_m;

void far_set(struct model *of, const char *file, const char *value)
{
	struct err err = {0};
	int r = model_setting_set(of, file, value, strlen(value), &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

void far_set_endpoint(const char *path)
{
	char url[96];
	snprintf(url, sizeof url, "http://127.0.0.1:%u%s", far_server.port, path);
	far_set(far_m, "endpoint", url);
}

void far_open(void)
{
	harness_open(&far_h);
	ck_assert_int_eq(gateway_model_create(far_h.g, "far", NULL), 0);
	far_m = gateway_model_find(far_h.g, "far");
	far_set(far_m, "proxy", "none");
	far_set_endpoint("/v1");
}

void far_setup(void)
{
	server_reset(&far_server);
	harness_make(&far_h, 0);
	far_open();
}

void far_teardown(void)
{
	far_m = model_put(far_m);
	harness_end(&far_h);
}

struct session *far_session(const char *id)
{
	struct session *s = harness_session(&far_h, id, NULL);
	ck_assert_int_eq(session_setting_set(s, "model", "far", 3, NULL), 0);
	return s;
}

void far_expect_answer(struct session *s, const char *text)
{
	int status;
	ck_assert_int_eq(harness_say(s, "tell me about foxes\n"), 0);
	char *answer = harness_read(s, &status);
	char *error = harness_view(s, SESSION_ERROR);
	ck_assert_msg(status == 0, "%d: %s", status, error);
	ck_assert_str_eq(answer, text);
	free(answer);
	free(error);
}

void far_expect_failure(struct session *s, const char *prompt, int expected, const char *sentence)
{
	int status;
	ck_assert_int_eq(harness_say(s, prompt), 0);
	free(harness_read(s, &status));
	char *error = harness_view(s, SESSION_ERROR);
	ck_assert_msg(status == expected, "%d: %s", status, error);
	ck_assert_msg(strstr(error, sentence), "%s", error);
	free(error);
}

char *far_view(struct model *of, enum model_view v)
{
	struct buf out = {0};
	ck_assert_int_eq(model_render(of, v, &out), 0);
	return out.data;
}

void far_expect_state(const char *word)
{
	char *state = far_view(far_m, MODEL_STATE);
	ck_assert_msg(!strncmp(state, word, strlen(word)), "%s", state);
	free(state);
}
