/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/choice_fixture.h"

#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const char choice_simple[] = "hi";
const char choice_moderate[] = "Explain the difference between TCP and UDP.";
const char choice_complex[] =
	"Prove that the algorithm is correct, derive its complexity and justify each assumption.";

const struct router_facts choice_three[N_MODELS] = {
	{.name = "small",
		.price = {CHOICE_DOLLAR / 5, CHOICE_DOLLAR / 5, CHOICE_DOLLAR * 3 / 5},
		.quality = 0.5,
		.has_quality = true,
		.capabilities = ROUTER_CHAT | ROUTER_JSON,
		.context_tok = 4096,
		.weight = 1,
		.first_ms = 100,
		.tok_per_s = 100},
	{.name = "mid",
		.price = {CHOICE_DOLLAR * 2, CHOICE_DOLLAR * 2, CHOICE_DOLLAR * 8},
		.quality = 0.7,
		.has_quality = true,
		.capabilities = ROUTER_CHAT | ROUTER_JSON | ROUTER_TOOLS,
		.context_tok = 32768,
		.weight = 1,
		.first_ms = 200,
		.tok_per_s = 200},
	{.name = "big",
		.price = {CHOICE_DOLLAR * 10, CHOICE_DOLLAR * 10, CHOICE_DOLLAR * 30},
		.quality = 0.98,
		.has_quality = true,
		.capabilities = ROUTER_CHAT | ROUTER_JSON | ROUTER_TOOLS | ROUTER_VISION,
		.context_tok = 131072,
		.weight = 1,
		.first_ms = 500,
		.tok_per_s = 50},
};

struct router *choice_router;
struct router_facts choice_facts[4];
struct router_ask choice_ask;
struct err choice_err;

void choice_set(const char *file, const char *value)
{
	int r = router_setting_set(choice_router, file, value, strlen(value), &choice_err);
	ck_assert_msg(r == 0, "%s", choice_err.text);
}

void choice_ask_for(const char *text)
{
	choice_ask.text = text;
	choice_ask.len = strlen(text);
}

void choice_open(void)
{
	choice_router = router_new();
	ck_assert_ptr_nonnull(choice_router);
	memcpy(choice_facts, choice_three, sizeof choice_three);
	memset(&choice_facts[3], 0, sizeof choice_facts[3]);
	choice_ask = (struct router_ask){.prompt_tok = 1000,
		.max_tokens = 1000,
		.capabilities = ROUTER_CHAT,
		.session = "main"};
	choice_ask_for(choice_moderate);
	choice_err = (struct err){0};
	choice_set("weights", "answer_tok 1000\n");
}

void choice_close(void)
{
	choice_router = router_free(choice_router);
	ck_assert_ptr_null(router_free(NULL));
}

/* "a b c": who may be tried, in order. */
static void choice_expect_of(size_t n, const char *order)
{
	struct router_decision *d;
	char got[512] = "";
	int r = router_decide(choice_router, &choice_ask, choice_facts, n, &d, &choice_err);
	ck_assert_ptr_nonnull(d);
	ck_assert_int_eq(r, *order ? 0 : -EHOSTUNREACH);
	for (size_t i = 0; i < d->n; i++) {
		strcat(got, i ? " " : "");
		strcat(got, d->tried[i].name);
	}
	ck_assert_str_eq(got, order);
	ck_assert_uint_eq(d->n + d->n_dropped, n);
	ck_assert_ptr_null(router_decision_free(d));
}

void choice_expect(const char *order)
{
	choice_expect_of(N_MODELS, order);
}

struct router_decision *choice_decided(size_t n)
{
	struct router_decision *d;
	ck_assert_int_eq(
		router_decide(choice_router, &choice_ask, choice_facts, n, &d, &choice_err), 0);
	return d;
}

const struct router_candidate *choice_candidate(const struct router_decision *d, const char *name)
{
	for (size_t i = 0; i < d->n; i++)
		if (!strcmp(d->tried[i].name, name))
			return &d->tried[i];
	ck_abort_msg("no candidate %s", name);
	return NULL;
}

void choice_near(double x, double y)
{
	ck_assert_msg(fabs(x - y) < 1e-9, "%.12g, not %.12g", x, y);
}

const char *choice_why(const char *name)
{
	static char text[192];
	struct router_decision *d;
	*text = '\0';
	router_decide(choice_router, &choice_ask, choice_facts, N_MODELS, &d, &choice_err);
	for (size_t i = 0; i < d->n_dropped; i++)
		if (!strcmp(d->dropped[i].name, name))
			snprintf(text, sizeof text, "%s", d->dropped[i].why);
	router_decision_free(d);
	return text;
}
