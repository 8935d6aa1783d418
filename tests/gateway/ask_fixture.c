/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/ask_fixture.h"

#include <check.h>

const char ask_whole[] = "The quick brown fox jumps over the lazy dog.";
struct faulty ask_server;
struct ups ask_ups;

void ask_open(void)
{
	server_reset(&ask_server);
	ups_open(&ask_ups);
}

void ask_close(void)
{
	ups_close(&ask_ups);
}

void ask_load(void)
{
	ups_endpoint(&ask_ups, ask_server.port, "/v1", 1);
	ups_load(&ask_ups);
}

const char *ask_text(const struct asked *a)
{
	return a->text.data ? a->text.data : "";
}

void ask_well(void)
{
	struct asked a;
	ups_ask(&ask_ups, &a);
	ck_assert_msg(a.status == 0, "%s", a.sentence);
	ck_assert_str_eq(ask_text(&a), ask_whole);
	ck_assert_uint_eq(a.n_ended, 1);
	ck_assert_uint_ge(a.n_started, 1);
	asked_free(&a);
}

void ask_for(int status)
{
	struct asked a;
	ups_ask(&ask_ups, &a);
	ck_assert_msg(a.status == status, "%d: %s", a.status, a.sentence);
	asked_free(&a);
}

size_t ask_count(void)
{
	return server_count(&ask_server, "\"method\": \"POST\"");
}

const char *ask_health(struct err *why)
{
	const char *word = NULL;
	upstream_provider.health(ask_ups.handle, &word, why);
	return word;
}
