/* SPDX-License-Identifier: Apache-2.0 */
/* A gateway with an embedding model at a server that fails as told. */
#include "tests/gateway/vec_fixture.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct faulty vec_server;
struct harness vec_h;
const char vec_words[] = VEC_WORDS;

void vec_set(const char *file, const char *value)
{
	struct model *m = gateway_model_find(vec_h.g, "vec");
	harness_model_set(m, file, value);
	model_put(m);
}

void vec_open(void)
{
	char url[96];
	snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", vec_server.port);
	harness_open(&vec_h);
	ck_assert_int_eq(gateway_model_create(vec_h.g, "vec", NULL), 0);
	vec_set("proxy", "none");
	vec_set("endpoint", url);
	harness_price(&vec_h, "vec");
}

void vec_setup(void)
{
	server_reset(&vec_server);
	harness_make(&vec_h, 0);
	vec_open();
}

void vec_teardown(void)
{
	harness_end(&vec_h);
}

struct session *vec_channel(enum gateway_channel kind)
{
	struct session *s = NULL;
	struct err err = {0};
	int r = gateway_channel_open(
		vec_h.g, kind, kind == GATEWAY_EMBED ? "vec" : NULL, getuid(), &s, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	return s;
}

double vec_spent(void)
{
	char *text = harness_account_view(&vec_h, harness_me(&vec_h), ACCOUNT_SPENT);
	double value = strtod(text, NULL);
	free(text);
	return value;
}
