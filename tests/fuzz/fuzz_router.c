/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Texts that the router is given: a setting either says what is allowed or is shown as it was
 * written and taken again; words of capabilities and fallbacks are taken or refused with a
 * sentence; prompts and answers of any bytes give numbers in their ranges; what is explained is
 * JSON; what a model is asked has its form once, whatever is in the texts. The first byte picks
 * which.
 */

#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/quality.h"
#include "gateway/question.h"
#include "gateway/route.h"
#include "gateway/router.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool claim)
{
	if (!claim)
		abort();
}

static void check_setting(struct router *r, const char *file, const char *text, size_t n)
{
	struct err err = {0};
	struct router_config before, after;
	struct buf shown = {0};
	int checked = router_setting_check(file, text, n, &err);

	router_config(r, &before);
	must(router_setting_set(r, file, text, n, &err) == checked);
	router_config(r, &after);
	must(router_setting_get(r, file, &shown) == 0);
	if (checked < 0) {
		must(*err.text && !memcmp(&before, &after, sizeof before));
	} else {
		must(after.classes.moderate < after.classes.complex);
		must(after.threshold >= 0 && after.threshold <= 1);
		must(!n || (shown.len <= n && !memcmp(shown.data, text, shown.len)));
		must(router_setting_check(file, shown.data ? shown.data : "", shown.len, NULL) ==
			0);
	}
	buf_free(&shown);
}

static void check_prompt(struct router *r, const char *text, size_t n)
{
	static const struct router_facts facts[] = {
		{.name = "a", .capabilities = 1, .weight = 1, .first_ms = 5, .tok_per_s = 7},
		{.name = "b", .capabilities = 3, .context_tok = 9, .health = ROUTER_COLD},
		{.name = "c", .health = ROUTER_DOWN, .why = "x"},
	};
	struct router_ask ask = {.text = text, .len = n, .prompt_tok = n, .capabilities = 1};
	struct router_decision *d;
	struct buf out = {0};
	json_t *json;

	must(router_decide(r, &ask, facts, 3, &d, NULL) == 0);
	for (size_t i = 0; classify_feature_names()[i]; i++) {
		double x = classify_feature(&d->classified.features, i);
		must(x >= 0 && x <= 1);
	}
	must(isfinite(d->classified.score) && d->n + d->n_dropped == 3);
	must(router_decision_json(d, &out) == 0);
	json = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
	must(json);
	json_decref(json);
	buf_free(&out);
	router_decision_free(d);
}

static void check_answer(const char *text, size_t n)
{
	struct quality_reasons why;
	struct quality_answer a = {.text = text, .len = n, .mean_logprob = NAN};

	for (int i = 0; i < 6; i++) {
		a.class = (enum classify_class)(i % 3);
		a.wants_json = i >= 3;
		double x = quality_estimate(&a, &why);
		must(x >= 0 && x <= 1 && (x < 1 || !strcmp(why.why, "ok")));
	}
}

static int give(void *arg, const char *model, struct buf *out)
{
	const struct text *t = arg;
	return buf_append(out, t->bytes, t->len);
}

static void check_fallback(const char *text, size_t n)
{
	struct err err = {0};
	struct text *t = text_new(text, n);
	struct buf out = {0};
	struct route *route = NULL;
	unsigned bits;

	must(t && route_from_model(&route, "a", give, t, NULL) == 0);
	must(route_count(route) >= 1 && route_count(route) <= ROUTE_MODELS_MAX);
	route_step(route, "a", t->bytes, NULL);
	must(route_json(route, &out) == 0);
	json_t *json = json_loadb(out.data, out.len, 0, NULL);
	must(json);
	json_decref(json);
	buf_free(&out);
	route_free(route);
	text_put(t);
	must(route_fallback_check(text, n, &err) == 0 || *err.text);
	err = (struct err){0};
	must(router_capabilities_parse(text, n, &bits, &err) == 0 ? bits > 0 : *err.text != 0);
}

static size_t places_of(const char *text, const char *word)
{
	size_t n = 0;
	for (const char *at = text; (at = strstr(at, word)); at++)
		n++;
	return n;
}

/* As what a model says, and as what one is asked about. */
static void check_question(const char *text, size_t n)
{
	struct buf out = {.max = QUESTION_BYTES};
	struct question_said said;
	for (int i = 0; i < 2; i++) {
		enum question_kind kind = (enum question_kind)i;
		int early = question_read(kind, text, n, false, &said);
		int r = question_read(kind, text, n, true, &said);
		must(r && (!early || early == r));
		if (r > 0)
			must(said.choice < QUESTION_CHOICES_MAX && said.share[said.choice] == 1);
	}
	if (memchr(text, '\0', n) || utf8_valid_prefix(text, n) != n)
		return;
	must(question_quality(text, n, text, n, &out) == 0);
	must(utf8_valid_prefix(out.data, out.len) == out.len);
	must(places_of(out.data, "<END PROMPT>") == 1 && places_of(out.data, "<END ANSWER>") == 1);
	must(places_of(out.data, "<BEGIN ") == 2);
	buf_free(&out);
}

/* Those behind the first four. */
static void check_more_settings(struct router *r, const char *text, size_t n)
{
	for (size_t i = 4; router_setting_names()[i]; i++)
		check_setting(r, router_setting_names()[i], text, n);
	char name[TEXT_NAME_SIZE];
	must(!router_classifier(r, name) || text_is_name(name, strlen(name)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (!n)
		return 0;
	const char *text = (const char *)data + 1;
	struct router *r = router_new();

	must(r);
	n--;
	if (*data % 8 < 4)
		check_setting(r, router_setting_names()[*data % 8], text, n);
	else if (*data % 8 == 4)
		check_answer(text, n);
	else if (*data % 8 == 5)
		check_fallback(text, n);
	else if (*data % 8 == 6)
		check_prompt(r, text, n);
	else {
		check_question(text, n);
		check_more_settings(r, text, n);
	}
	router_free(r);
	return 0;
}
