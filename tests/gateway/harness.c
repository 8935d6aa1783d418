/* SPDX-License-Identifier: Apache-2.0 */
/* Waits by the gateway's own means: a waiter with a semaphore behind it. */
#include "tests/gateway/harness.h"

#include <check.h>
#include <errno.h>
#include <ftw.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/core.h"
#include "gateway/users.h"
#include "tests/engine/tiny_llama.h"

static void write_model(
	char *path, size_t size, const char *dir, const char *name, unsigned context_tok)
{
	struct tiny_llama p = {.context_tok = context_tok, .seed = 7};
	snprintf(path, size, "%s/%s.gguf", dir, name);
	tiny_llama_write(&p, path);
}

static void add_model(struct harness *h, const char *name, const char *path)
{
	struct err err = {0};
	ck_assert_int_eq(gateway_model_create(h->g, name, &err), 0);
	struct model *m = gateway_model_find(h->g, name);
	ck_assert_int_eq(model_setting_set(m, "path", path, strlen(path), &err), 0);
	model_put(m);
}

void harness_make(struct harness *h, unsigned context_tok)
{
	memset(h, 0, sizeof *h);
	strcpy(h->dir, "/tmp/llmfs-gateway-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(h->dir));
	snprintf(h->state, sizeof h->state, "%s/state", h->dir);
	write_model(h->model, sizeof h->model, h->dir, "tiny", context_tok);
	write_model(h->long_model, sizeof h->long_model, h->dir, "long", 16384);
	h->options.daemon_uid = getuid();
	h->options.daemon_gid = getgid();
	h->options.n_threads = 1;
	h->options.kv_bytes = (size_t)16 << 20;
}

void harness_open(struct harness *h)
{
	struct err err = {0};
	h->options.state_dir = h->state;
	int r = gateway_open(&h->g, &h->options, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	add_model(h, "tiny", h->model);
	add_model(h, "long", h->long_model);
	ck_assert_int_eq(gateway_default_set(h->g, "tiny", &err), 0);
	/* Each question is to be computed. */
	ck_assert_int_eq(gateway_part_setting_set(h->g, GATEWAY_CACHE, "enabled", "0", 1, &err), 0);
}

void harness_close(struct harness *h)
{
	h->g = gateway_free(h->g);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void harness_end(struct harness *h)
{
	harness_close(h);
	nftw(h->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

struct session *harness_session(struct harness *h, const char *id, const char *max_tokens)
{
	struct session *s = NULL;
	struct err err = {0};
	int r = gateway_session_create(h->g, id, getuid(), getgid(), 0700, &s, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	if (max_tokens)
		ck_assert_int_eq(
			session_setting_set(s, "max_tokens", max_tokens, strlen(max_tokens), &err),
			0);
	return s;
}

int harness_say(struct session *s, const char *prompt)
{
	struct draft *d;
	struct err err;
	ck_assert_int_eq(draft_new(&d, s, getuid(), &err), 0);
	int r = draft_write(d, prompt, strlen(prompt), &err);
	ck_assert_int_eq(draft_flush(d, &err), r);
	draft_commit(d);
	return r;
}

static void wake(void *arg)
{
	sem_post(arg);
}

char *harness_read_answer(struct answer *a, int *status)
{
	struct buf text = {0};
	char bytes[512];
	size_t n;
	sem_t told;
	sem_init(&told, 0, 0);
	for (;;) {
		gateway_waiter id;
		int r = answer_read(a, text.len, bytes, sizeof bytes, &n);
		if (r == 1) {
			if (answer_wait(a, text.len, wake, &told, &id) == 0)
				while (sem_wait(&told) < 0)
					;
			continue;
		}
		*status = r;
		if (r < 0 || !n)
			break;
		buf_append(&text, bytes, n);
	}
	sem_destroy(&told);
	buf_append(&text, "", 0);
	return text.data;
}

char *harness_read(struct session *s, int *status)
{
	struct answer *a;
	gateway_waiter id;
	sem_t told;
	sem_init(&told, 0, 0);
	while (session_newest(s, &a, wake, &told, &id) == 1)
		while (sem_wait(&told) < 0)
			;
	sem_destroy(&told);
	*status = 0;
	char *text = a ? harness_read_answer(a, status) : strdup("");
	answer_put(a);
	return text;
}

char *harness_view(struct session *s, enum session_view view)
{
	struct buf out = {0};
	ck_assert_int_eq(session_render(s, view, &out), 0);
	buf_append(&out, "", 0);
	return out.data;
}

bool harness_status(struct session *s, const char *word)
{
	size_t n = strlen(word);
	for (int i = 0; i < 60000; i++) {
		char *now = harness_view(s, SESSION_STATUS);
		bool is = !strncmp(now, word, n) && !strcmp(now + n, "\n");
		free(now);
		if (is)
			return true;
		usleep(1000);
	}
	return false;
}

double harness_usage(struct session *s, const char *name)
{
	char *usage = harness_view(s, SESSION_USAGE), *rest = usage, *line;
	double value = -1;
	size_t n = strlen(name);
	while ((line = strsep(&rest, "\n")))
		if (!strncmp(line, name, n) && line[n] == ' ')
			value = strtod(line + n, NULL);
	free(usage);
	return value;
}

char *harness_whole(struct harness *h, enum gateway_view view)
{
	struct buf out = {0};
	ck_assert_int_eq(gateway_render(h->g, view, &out), 0);
	buf_append(&out, "", 0);
	return out.data;
}

void harness_guard(struct harness *h, const char *file, const char *text)
{
	struct err err = {0};
	int r = gateway_guard_set(h->g, file, text, strlen(text), &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

void harness_price(struct harness *h, const char *model)
{
	static const char *const files[] = {"price_input", "price_cached", "price_output"};
	struct model *m = gateway_model_find(h->g, model);
	for (size_t i = 0; i < 3; i++)
		ck_assert_int_eq(model_setting_set(m, files[i], "1000000", 7, NULL), 0);
	model_put(m);
}

void harness_model_set(struct model *m, const char *file, const char *value)
{
	struct err err = {0};
	int r = model_setting_set(m, file, value, strlen(value), &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

void harness_model_verb(struct model *m, const char *verb)
{
	struct err err = {0};
	int r = model_ctl(m, verb, strlen(verb), &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

bool harness_model_state(struct model *m, const char *word)
{
	bool is = false;
	for (int i = 0; i < 10000 && !is; i++) {
		struct buf out = {0};
		ck_assert_int_eq(model_render(m, MODEL_STATE, &out), 0);
		is = !strncmp(out.data, word, strlen(word));
		buf_free(&out);
		if (!is)
			usleep(1000);
	}
	return is;
}

void harness_account(struct harness *h, const char *name, const char *file, const char *value)
{
	struct err err = {0};
	int r = gateway_account_create(h->g, name, &err);
	ck_assert_msg(r == 0 || r == -EEXIST, "%s", err.text);
	struct account *a = gateway_account_find(h->g, name);
	r = account_setting_set(a, file, value, strlen(value), &err);
	ck_assert_msg(r == 0, "%s", err.text);
	account_put(a);
}

char *harness_account_view(struct harness *h, const char *name, enum account_view view)
{
	struct buf out = {0};
	struct account *a = gateway_account_find(h->g, name);
	ck_assert_ptr_nonnull(a);
	ck_assert_int_eq(account_render(a, view, &out), 0);
	account_put(a);
	buf_append(&out, "", 0);
	return out.data;
}

const char *harness_me(struct harness *h)
{
	static char name[TEXT_NAME_SIZE];
	users_name(h->g->users, getuid(), name);
	return name;
}
