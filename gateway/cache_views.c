/* SPDX-License-Identifier: Apache-2.0 */
/* The cache as files: its settings in force, its numbers, and what it would do with a prompt. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/cache_parts.h"
#include "gateway/model.h"

/* ---- settings ---- */

static void apply(struct cache *c, const char *model, bool other_model,
	const struct cache_disk_limits *limits)
{
	cache_disk_limit(c->disk, limits);
	cache_semantic_limit(c->semantic, limits->max_n);
	if (!other_model)
		return;
	gateway_report(c->g, "cache/embedding_model", NULL);
	cache_semantic_model(c->semantic, model);
	struct model *m = *model ? gateway_model_find(c->g, model) : NULL;
	if (m)
		model_look(m); /* so that `status` can say whether it embeds */
	model_put(m);
	cache_disk_tell_near(c->disk);
}

int cache_setting_set(
	struct cache *c, const char *file, const char *value, size_t len, struct err *err)
{
	enum cache_setting i = cache_settings_find(file);
	if (i == N_CACHE_SETTINGS)
		return cache_setting_check(file, value, len, err);
	char model[TEXT_NAME_SIZE];
	pthread_mutex_lock(&c->setting_lock);
	pthread_mutex_lock(&c->lock);
	struct cache_settings *s = &c->settings;
	memcpy(model, s->model, sizeof model);
	int r = cache_settings_set(s, i, value, len, err);
	bool other_model = strcmp(model, s->model);
	memcpy(model, s->model, sizeof model);
	struct cache_disk_limits limits = {s->max_entries, s->max_disk, s->ttl_s};
	cache_memory_limit(c->memory, s->max_memory);
	pthread_mutex_unlock(&c->lock);
	if (r == 0)
		apply(c, model, other_model, &limits);
	pthread_mutex_unlock(&c->setting_lock);
	return r;
}

int cache_setting_get(struct cache *c, const char *file, struct buf *out)
{
	enum cache_setting i = cache_settings_find(file);
	size_t len;
	if (i == N_CACHE_SETTINGS)
		return -ENOENT;
	pthread_mutex_lock(&c->lock);
	const char *value = cache_settings_get(&c->settings, i, &len);
	int r = buf_append(out, value, len);
	pthread_mutex_unlock(&c->lock);
	return r;
}

void cache_setting_fail(struct cache *c, const char *file)
{
	enum cache_setting i = cache_settings_find(file);
	if (i == N_CACHE_SETTINGS)
		return;
	pthread_mutex_lock(&c->lock);
	c->settings.failed |= 1u << i;
	pthread_mutex_unlock(&c->lock);
}

void cache_saved(struct cache *c, int64_t nanodollars)
{
	pthread_mutex_lock(&c->lock);
	c->numbers.saved += nanodollars;
	pthread_mutex_unlock(&c->lock);
}

void cache_count_embedding(struct cache *c, uint64_t tok)
{
	pthread_mutex_lock(&c->lock);
	c->numbers.embedding_tok += tok;
	pthread_mutex_unlock(&c->lock);
}

/* ---- numbers ---- */

struct counts {
	struct cache_numbers numbers;
	struct cache_memory_counts memory;
	struct cache_disk_counts disk;
	struct cache_known_counts semantic;
};

static void count(struct cache *c, struct counts *out)
{
	pthread_mutex_lock(&c->lock);
	out->numbers = c->numbers;
	cache_memory_count(c->memory, &out->memory);
	pthread_mutex_unlock(&c->lock);
	cache_disk_count(c->disk, &out->disk);
	cache_semantic_count(c->semantic, &out->semantic);
}

int cache_stats(struct cache *c, struct buf *out)
{
	struct counts n;
	char saved[MONEY_TEXT_SIZE];
	count(c, &n);
	const struct {
		const char *name;
		uint64_t value;
	} lines[] = {
		{"hits_l1", n.numbers.hits[CACHE_L1]},
		{"hits_l2", n.numbers.hits[CACHE_L2]},
		{"hits_l3", n.numbers.hits[CACHE_L3]},
		{"hits_flight", n.numbers.hits[CACHE_FLIGHT]},
		{"misses", n.numbers.misses},
		{"passed", n.numbers.passed},
		{"stored", n.numbers.stored},
		{"evicted", n.memory.evicted},
		{"evicted_disk", n.disk.evicted},
		{"expired", n.memory.expired + n.disk.expired},
		{"entries", n.memory.n},
		{"bytes", n.memory.bytes},
		{"disk_entries", n.disk.n},
		{"disk_bytes", n.disk.bytes},
		{"disk_dropped", n.disk.dropped},
		{"disk_damaged", n.disk.damaged},
		{"vectors", n.semantic.n},
		{"vector_bytes", n.semantic.bytes},
		{"near_refused", n.semantic.refused},
		{"embeddings_failed", n.numbers.embeddings_failed},
		{"embedding_tokens", n.numbers.embedding_tok},
	};
	int r = 0;
	for (size_t i = 0; r == 0 && i < sizeof lines / sizeof *lines; i++)
		r = buf_printf(out, "%s %" PRIu64 "\n", lines[i].name, lines[i].value);
	return r ? r : buf_printf(out, "saved_dollars %s\n", money_text(n.numbers.saved, saved));
}

static int by_level(struct buf *out, const char *name, const char *type, const char *help,
	const uint64_t values[], size_t n)
{
	static const char *const levels[] = {"l1", "l2", "l3", "flight"};
	int r = metrics_head(out, name, type, help);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = buf_printf(
			out, "%s{cache_level=\"%s\"} %" PRIu64 "\n", name, levels[i], values[i]);
	return r;
}

int cache_metrics(struct cache *c, struct buf *out)
{
	struct counts n;
	count(c, &n);
	const uint64_t entries[] = {n.memory.n, n.disk.n, n.semantic.n};
	const uint64_t bytes[] = {n.memory.bytes, n.disk.bytes, n.semantic.bytes};
	const uint64_t evicted[] = {n.memory.evicted, n.disk.evicted};
	int r = by_level(out, "llm_cache_hits_total", "counter",
		"Requests that were answered without computing.", &n.numbers.hits[CACHE_L1],
		CACHE_FLIGHT);
	r = r ? r
	      : metrics_head(out, "llm_cache_misses_total", "counter",
			"Requests that were looked for and had to be computed.");
	r = r ? r : buf_printf(out, "llm_cache_misses_total %" PRIu64 "\n", n.numbers.misses);
	r = r ? r : by_level(out, "llm_cache_entries", "gauge", "What is kept.", entries, 3);
	r = r ? r : by_level(out, "llm_cache_bytes", "gauge", "What it takes.", bytes, 3);
	r = r ? r
	      : by_level(out, "llm_cache_evicted_total", "counter",
			"Entries that went because there was no room.", evicted, 2);
	r = r ? r
	      : metrics_head(out, "llm_cache_embedding_tokens_total", "counter",
			"Tokens that cache/embedding_model computed: who asks pays for them.");
	r = r ? r
	      : buf_printf(out, "llm_cache_embedding_tokens_total %" PRIu64 "\n",
			n.numbers.embedding_tok);
	r = r ? r
	      : metrics_head(out, "llm_cache_saved_dollars", "counter",
			"What the hits would have cost.");
	return r ? r
		 : buf_printf(out, "llm_cache_saved_dollars %.9f\n", (double)n.numbers.saved / 1e9);
}

/* ---- what would happen ---- */

enum { N_SHOWN = 5 };

struct lookup {
	const struct cache_ask *ask;
	bool on, hit; /* hit: something is served already */
	double threshold;
	uint64_t oldest_s, now_s;
	struct cache_key key;
};

/* The exact entry: level "" when there is none. Leaves no trace. */
static const char *find_exact(struct cache *c, const struct cache_key *key, uint64_t *stored_s)
{
	struct cache_answer a;
	pthread_mutex_lock(&c->lock);
	bool found = cache_memory_peek(c->memory, key, &a);
	pthread_mutex_unlock(&c->lock);
	if (found)
		*stored_s = a.stored_s;
	return found ? "l1" : cache_disk_has(c->disk, &key->id, 0, stored_s) ? "l2" : "";
}

static int print_exact(struct cache *c, struct lookup *l, struct buf *out)
{
	uint64_t stored_s = 0;
	const char *why = NULL, *level = find_exact(c, &l->key, &stored_s);
	if (!*level)
		return buf_append_str(out, ",\n  \"exact\": null");
	if (!l->on)
		why = "the cache is off";
	else if (!l->ask->store)
		why = "such answers are drawn anew each time";
	else if (stored_s < l->oldest_s)
		why = "it is older than ttl";
	l->hit = !why;
	int r = buf_printf(out,
		",\n  \"exact\": {\"level\": \"%s\", \"age_s\": %" PRIu64 ", \"served\": %s", level,
		l->now_s > stored_s ? l->now_s - stored_s : 0, why ? "false" : "true");
	if (r == 0 && why)
		r = buf_printf(out, ", \"why\": \"%s\"", why);
	return r ? r : buf_append_str(out, "}");
}

/* Why a near one is not served; NULL: it is. */
static const char *why_not(
	struct cache *c, const struct lookup *l, const struct cache_neighbour *n, char room[128])
{
	uint64_t stored_s = 0;
	if (!l->on)
		return "the cache is off";
	if (!l->ask->store)
		return "such answers are drawn anew each time";
	if (!l->ask->semantic)
		return "there is a conversation before the prompt";
	if (!n->same_scope)
		return "it was asked with another model, system prompt or other settings";
	if (n->near.score < l->threshold) {
		snprintf(room, 128, "its score is below the threshold, %g", l->threshold);
		return room;
	}
	if (n->reason != AGREE_OK) {
		snprintf(room, 128, "they do not agree: %s", agree_word(n->reason));
		return room;
	}
	pthread_mutex_lock(&c->lock);
	struct cache_answer a;
	bool found = cache_memory_peek_serial(c->memory, &n->near.id, n->near.serial, &a);
	pthread_mutex_unlock(&c->lock);
	if (found)
		stored_s = a.stored_s;
	else if (!cache_disk_has(c->disk, &n->near.id, n->near.serial, &stored_s))
		return "its answer is not kept any more";
	if (stored_s < l->oldest_s)
		return "it is older than ttl";
	return l->hit ? "another one is served" : NULL;
}

static int print_near(struct cache *c, struct lookup *l, const struct cache_neighbour *n,
	bool first, struct buf *out)
{
	char room[128];
	const char *why = why_not(c, l, n, room);
	l->hit = l->hit || !why;
	int r = buf_printf(out, "%s\n    {\"score\": %.4f, \"agreement\": \"%s\", \"served\": %s",
		first ? "" : ",", n->near.score, agree_word(n->reason), why ? "false" : "true");
	if (r == 0 && why)
		r = buf_printf(out, ", \"why\": \"%s\"", why);
	/* With scope global the entry may be another user's: its text is theirs. */
	if (r == 0 && !strcmp(n->user, l->ask->user)) {
		r = buf_append_str(out, ", \"prompt\": ");
		r = r ? r : text_append_json(out, n->prompt->bytes, n->prompt->len);
	}
	return r ? r : buf_append_str(out, "}");
}

static int print_nearest(struct cache *c, struct lookup *l, const float *vector, size_t dim,
	const char *model, struct buf *out)
{
	struct cache_neighbour near[N_SHOWN];
	struct buf scope = {0};
	size_t n = 0;
	if (vector && l->ask->prompt &&
		cache_near_scope(&scope, l->ask->key.data, l->ask->scope_len, model, &l->key) == 0)
		n = cache_semantic_nearest(c->semantic, &scope, &l->key, l->ask->prompt,
			l->ask->prompt_len, vector, dim, near, N_SHOWN);
	buf_free(&scope);
	int r = buf_append_str(out, ",\n  \"nearest\": [");
	for (size_t i = 0; i < n; i++) {
		r = r ? r : print_near(c, l, &near[i], i == 0, out);
		text_put(near[i].prompt);
	}
	return r ? r : buf_append_str(out, n ? "\n  ]" : "]");
}

int cache_lookup(struct cache *c, const struct cache_ask *ask, const float *vector, size_t dim,
	const char *why, struct buf *out)
{
	struct lookup l = {.ask = ask, .now_s = clock_real_ns() / 1000000000u};
	char model[TEXT_NAME_SIZE];
	pthread_mutex_lock(&c->lock);
	l.on = cache_settings_on(&c->settings);
	l.threshold = c->settings.threshold;
	l.oldest_s = cache_shelf_not_before_s(c->settings.ttl_s);
	bool global = c->settings.global;
	memcpy(model, c->settings.model, sizeof model);
	pthread_mutex_unlock(&c->lock);
	if (ask)
		cache_key_make(&l.key, ask->key.data, ask->key.len, global ? NULL : ask->user);
	size_t before = out->len;
	int r = buf_printf(out, "{\n  \"enabled\": %s,\n  \"threshold\": %g,\n  \"scope\": \"%s\"",
		l.on ? "true" : "false", l.threshold, global ? "global" : "user");
	if (ask) {
		r = r ? r : print_exact(c, &l, out);
		r = r ? r : print_nearest(c, &l, vector, dim, model, out);
	} else if (r == 0) {
		r = buf_append_str(out, ",\n  \"exact\": null,\n  \"nearest\": []");
	}
	if (r == 0 && !vector) {
		r = buf_printf(out, ",\n  \"%s\": ", ask ? "no_vector" : "not_looked_for");
		why = why ? why : "there is no embedding";
		r = r ? r : text_append_json(out, why, strlen(why));
	}
	r = r ? r : buf_printf(out, ",\n  \"outcome\": \"%s\"\n}\n", l.hit ? "hit" : "miss");
	if (r < 0)
		out->len = before;
	return r;
}
