/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A handle: what it was configured with, its servers and the calls that are under way. This file
 * makes and ends it and says what a prompt is; upstream_call.c carries calls, upstream_health.c
 * checks servers.
 *
 * Tokens are estimated here, as the tokenizer is elsewhere; a prompt is JSON, made once and sent as
 * often as it is tried.
 *
 * Lock: upstream->lock, a leaf but for the loop's own. What is said to be the loop's is touched on
 * the loop's thread only.
 */
#include "gateway/upstream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "gateway/secrets.h"
#include "gateway/upstream_parts.h"

enum { MESSAGE_TOK = 4, MESSAGE_MOST_TOK = 16, ANSWER_HEAD_TOK = 3 };

/* ---- the object ---- */

static void free_upstream(struct upstream *u)
{
	for (size_t i = 0; i < u->n; i++) {
		free(u->servers[i].chat_url);
		free(u->servers[i].embed_url);
		free(u->servers[i].health_url);
	}
	if (u->header_bytes.data)
		explicit_bzero(u->header_bytes.data, u->header_bytes.cap);
	buf_free(&u->header_bytes);
	free(u->headers);
	free(u->model);
	free(u->remote_name);
	free(u->proxy);
	secrets_wipe(u->key);
	http_ca_put(u->ca);
	free(u->urls);
	pthread_cond_destroy(&u->closed);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

static char *join(const char *url, const char *path)
{
	char *all = NULL;
	if (path && asprintf(&all, "%s%s", url, path) < 0)
		all = NULL;
	return all;
}

/* "HOST:PORT/PATH" of a URL, with nothing in it that metrics would have to escape. */
static void make_label(struct upstream *u, size_t i)
{
	struct upstream_server *s = &u->servers[i];
	const char *rest = strstr(s->url, "://");
	rest = rest ? rest + 3 : s->url;
	size_t n = 0, same = 1;
	for (; rest[n] && n < sizeof s->label - 4; n++)
		s->label[n] =
			rest[n] > ' ' && rest[n] <= '~' && !strchr("\"\\", rest[n]) ? rest[n] : '_';
	for (size_t j = 0; j < i; j++)
		same += !strncmp(u->servers[j].label, s->label, n);
	if (same > 1)
		snprintf(s->label + n, sizeof s->label - n, "#%zu", same);
}

static int make_servers(struct upstream *u, const struct upstream_config *c)
{
	const struct protocol *p = c->protocol;
	struct breaker breaker;
	size_t bytes = 0;
	breaker_init(&breaker, c->breaker_failures, c->breaker_successes, c->breaker_open_ms);
	for (size_t i = 0; i < c->n_endpoints; i++)
		bytes += strlen(c->endpoints[i].url) + 1;
	char *at = u->urls = malloc(bytes + 1);
	for (size_t i = 0; u->urls && i < c->n_endpoints; i++) {
		struct upstream_server *s = &u->servers[u->n++];
		s->u = u;
		s->url = strcpy(at, c->endpoints[i].url);
		at += strlen(at) + 1;
		make_label(u, i);
		s->chat_url = join(s->url, p->chat_path);
		s->embed_url = join(s->url, p->embed_path);
		s->health_url = join(s->url, p->health_path);
		replicas_add(&u->replicas, c->endpoints[i].weight, &breaker);
		if (!s->chat_url || !s->health_url || (p->embed_path && !s->embed_url))
			return -ENOMEM;
	}
	return u->urls ? 0 : -ENOMEM;
}

static int make_headers(struct upstream *u, const char *key)
{
	u->header_bytes.max = 16 << 10;
	/* It must not grow while the key is in it: what it grows out of is not wiped. */
	int r = buf_reserve(&u->header_bytes, 12 << 10);
	r = r ? r : u->protocol->headers(&u->header_bytes, key);
	size_t n = 0;
	const char *end = r < 0 ? NULL : u->header_bytes.data + u->header_bytes.len;
	for (const char *p = u->header_bytes.data; end && p < end && *p; p += strlen(p) + 1)
		n++;
	u->headers = calloc(n + 1, sizeof *u->headers);
	if (r < 0 || !u->headers)
		return r < 0 ? r : -ENOMEM;
	n = 0;
	for (const char *p = u->header_bytes.data; p < end && *p; p += strlen(p) + 1)
		u->headers[n++] = p;
	return 0;
}

static bool copy_text(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return !from || *to;
}

static int fill(struct upstream *u, const struct upstream_config *c)
{
	if (!copy_text(&u->model, c->model) || !copy_text(&u->remote_name, c->remote_name) ||
		!copy_text(&u->proxy, c->proxy) || !copy_text(&u->key, c->key))
		return -ENOMEM;
	if (c->ca) {
		u->ca = http_ca_new(c->ca, c->ca_len);
		if (!u->ca)
			return -ENOMEM;
	}
	u->protocol = c->protocol;
	u->http = c->http;
	u->loop = c->loop;
	u->connect_ms = c->connect_ms;
	u->first_ms = c->first_ms;
	u->idle_ms = c->idle_ms;
	u->total_ms = c->total_ms;
	u->health_ms = c->health_ms;
	u->retries = c->retries;
	u->context_tok = c->context_tok;
	u->budget.ratio = c->retry_ratio;
	int r = make_servers(u, c);
	return r ? r : make_headers(u, c->key);
}

static void close_on_loop(struct loop_work *work)
{
	struct upstream *u = list_entry(work, struct upstream, close_work);
	upstream_checks_end(u);
	pthread_mutex_lock(&u->lock);
	u->is_closed = true;
	pthread_cond_signal(&u->closed);
	pthread_mutex_unlock(&u->lock);
}

static int upstream_load(void **handle, const struct provider_config *config,
	const volatile bool *stop, struct err *err)
{
	struct upstream *u = calloc(1, sizeof *u);
	if (!u)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&u->lock, NULL);
	pthread_cond_init(&u->closed, NULL);
	for (size_t i = 0; i < UPSTREAM_CHAINS; i++)
		list_init(&u->calls[i]);
	list_init(&u->check_timer.link);
	list_init(&u->close_work.link);
	u->close_work.run = close_on_loop;
	if (getrandom(&u->random, sizeof u->random, GRND_NONBLOCK) != (ssize_t)sizeof u->random)
		u->random = clock_mono_ns();
	u->random |= 1; /* never 0: it is a shift register */
	int r = fill(u, config->upstream);
	if (r < 0) {
		free_upstream(u);
		return err_set(err, r, "models/%s: %s", config->upstream->model, strerror(-r));
	}
	upstream_checks_begin(u);
	*handle = u;
	return 0;
}

static void upstream_unload(void *handle)
{
	struct upstream *u = handle;
	if (loop_post(u->loop, &u->close_work)) {
		pthread_mutex_lock(&u->lock);
		while (!u->is_closed)
			pthread_cond_wait(&u->closed, &u->lock);
		pthread_mutex_unlock(&u->lock);
	}
	free_upstream(u);
}

/* ---- what it is ---- */

static void upstream_limits(void *handle, struct provider_limits *out)
{
	struct upstream *u = handle;
	*out = (struct provider_limits){
		.context_tok = u->context_tok,
		.answers = true,
		.embedding_dim = (uint32_t)atomic_load(&u->embedding_dim),
		.embeds = u->protocol->embed_path,
	};
}

static void upstream_stats(void *handle, struct provider_stats *out)
{
	struct upstream *u = handle;
	pthread_mutex_lock(&u->lock);
	*out = (struct provider_stats){.running = u->n_flying, .waiting = u->n_calls - u->n_flying};
	pthread_mutex_unlock(&u->lock);
}

static int upstream_count(
	void *handle, const char *text, size_t len, size_t *n_tok, struct err *err)
{
	*n_tok = protocol_estimate_tok(text, len);
	return 0;
}

/* ---- prompts ---- */

/* FNV-1a, 64 bits. */
static uint64_t hash(uint64_t h, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)bytes[i]) * 0x100000001B3u;
	return h;
}

/* Of what stays the same while a conversation grows: up to its first question. Never 0. */
static uint64_t affinity_of(const struct provider_message *messages, size_t n)
{
	uint64_t h = 0xCBF29CE484222325u;
	for (size_t i = 0; i < n; i++) {
		char role = (char)('0' + messages[i].role);
		h = hash(h, &role, 1);
		h = hash(h, messages[i].text, messages[i].len);
		if (messages[i].role == PROVIDER_USER)
			break;
	}
	return h ? h : 1;
}

static int upstream_render(void *handle, const struct provider_message *messages, size_t n,
	struct provider_prompt *out, struct err *err)
{
	struct upstream *u = handle;
	char *json = NULL;
	size_t len = 0;
	int r = u->protocol->messages(&json, &len, messages, n, err);
	if (r < 0)
		return r;
	struct upstream_prompt *p = malloc(sizeof *p + len + 1);
	if (p) {
		memcpy(p->json, json, len);
		p->json[len] = '\0';
		p->len = len;
		p->affinity = affinity_of(messages, n);
	}
	free(json);
	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	*out = (struct provider_prompt){.data = p, .n_tok = ANSWER_HEAD_TOK};
	for (size_t i = 0; i < n; i++) {
		out->n_tok +=
			protocol_estimate_tok(messages[i].text, messages[i].len) + MESSAGE_TOK;
		out->most_tok += messages[i].len + MESSAGE_MOST_TOK;
	}
	p->n_tok = out->n_tok;
	return 0;
}

const struct provider upstream_provider = {
	.load = upstream_load,
	.unload = upstream_unload,
	.limits = upstream_limits,
	.stats = upstream_stats,
	.info = upstream_info,
	.count = upstream_count,
	.render = upstream_render,
	.submit = upstream_submit,
	.cancel = upstream_cancel,
	.embed = upstream_embed,
	.cancel_embed = upstream_cancel,
	.health = upstream_health,
};
