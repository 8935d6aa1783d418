/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whatever a client sends, a request is read or refused: what is read is UTF-8 with a NUL behind
 * it, its turns are user and assistant by turns, its settings are those that a session takes; a
 * refusal has a sentence, and makes an object that is JSON. What is read comes out of a reply as it
 * went in. The first byte picks the kind.
 */

#include <errno.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/settings.h"
#include "gateway/shim_reply.h"
#include "gateway/shim_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool claim)
{
	if (!claim)
		abort();
}

static void check_text(const char *text, size_t len)
{
	must(utf8_valid_prefix(text, len) == len && !text[len]);
}

static void check_turns(const struct shim_ask *a)
{
	size_t first = a->n_turns && a->turns[0].role == SESSION_SYSTEM;
	must((a->n_turns - first) % 2 == 0);
	for (size_t i = 0; i < a->n_turns; i++)
		check_text(a->turns[i].text, a->turns[i].len);
	for (size_t i = first; i < a->n_turns; i++)
		must(a->turns[i].role == ((i - first) % 2 ? SESSION_ASSISTANT : SESSION_USER));
}

static void check_settings(const struct shim_ask *a)
{
	for (size_t i = 0; i < a->n_settings; i++) {
		const struct shim_setting *s = &a->settings[i];
		enum setting which = settings_find(s->file);
		must(which < N_SETTINGS && !s->value[s->len]);
		must(settings_check(which, s->value, s->len, NULL) == 0);
	}
}

/* An answer of that text, read again. */
static void check_reply(const struct shim_ask *a, const struct shim_text *t)
{
	struct buf out = {0};
	const struct shim_head head = {SHIM_COMPLETION, "cmpl-1", a->model, 1};
	must(shim_reply_text(&out, &head, 0, t->text, t->len, true) == 0);
	must(!memchr(out.data, '\n', out.len - 2));
	json_t *o = json_loadb(out.data + 6, out.len - 8, JSON_ALLOW_NUL, NULL);
	json_t *text = json_object_get(json_array_get(json_object_get(o, "choices"), 0), "text");
	must(json_string_length(text) == t->len);
	must(!memcmp(json_string_value(text), t->text, t->len));
	must(!strcmp(json_string_value(json_object_get(o, "model")), a->model));
	json_decref(o);
	buf_free(&out);
}

static void check_ask(const struct shim_ask *a, bool chat)
{
	must(*a->model && a->n >= 1 && a->n <= SHIM_CHOICES);
	must(a->n_prompts && a->n_prompts <= (chat ? 1 : SHIM_PROMPTS));
	must(chat ? !a->echo : !a->n_turns);
	for (size_t i = 0; i < a->n_prompts; i++) {
		must(a->prompts[i].len);
		check_text(a->prompts[i].text, a->prompts[i].len);
		check_reply(a, &a->prompts[i]);
	}
	check_turns(a);
	check_settings(a);
}

static void check_embed(const struct shim_embed *e)
{
	must(*e->model && e->n && e->n <= SHIM_TEXTS);
	for (size_t i = 0; i < e->n; i++) {
		must(e->texts[i].len);
		check_text(e->texts[i].text, e->texts[i].len);
	}
}

static void check_fault(int r, const struct shim_fault *fault)
{
	struct buf out = {0};
	struct shim_error e;
	must((r == 0) == !*fault->err.text);
	if (r == 0)
		return;
	must(r == -EINVAL);
	shim_error_of(r, &e);
	e.code = fault->code;
	must(shim_reply_error(&out, &e, fault->err.text, fault->param) == 0);
	json_t *o = json_loadb(out.data, out.len, 0, NULL);
	must(json_is_object(json_object_get(o, "error")));
	json_decref(o);
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct shim_ask ask = {0};
	struct shim_embed embed = {0};
	struct shim_fault fault;
	if (!n)
		return 0;
	int kind = *data % 3, r;
	const char *json = (const char *)data + 1;
	if (kind == 0)
		r = shim_request_chat(&ask, json, n - 1, &fault);
	else if (kind == 1)
		r = shim_request_completion(&ask, json, n - 1, &fault);
	else
		r = shim_request_embed(&embed, json, n - 1, &fault);
	check_fault(r, &fault);
	if (r == 0 && kind < 2)
		check_ask(&ask, kind == 0);
	else if (r == 0)
		check_embed(&embed);
	shim_ask_free(&ask);
	shim_embed_free(&embed);
	return 0;
}
