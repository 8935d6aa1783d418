/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_H
#define GATEWAY_CACHE_H

/*
 * Answers that were given before. Three levels: L1, in memory; L2, in a LevelDB of its own below
 * the state directory, which may be lost without harm; L3, the nearest prompt by its embedding
 * (agree.h, vectors.h). And single flight: of equal requests under way, one is computed.
 *
 * A key is a text of every field that can change the answer; entries are found by its hash and
 * believed only when the whole key is the same. Whose an entry is is part of the key, unless
 * `scope` is global.
 *
 * Threads: cache_begin, cache_land and cache_drop from the loop's; the rest any. Nothing waits: L2
 * is read and written by a thread of the cache's. Requests go on without it when it is broken: then
 * `status` says so (gateway_report).
 */

#include "gateway/answer.h"
#include "gateway/core.h"

struct cache;

/* ---- what is asked for ---- */

struct embedding_payer; /* gateway/embedding.h */

struct cache_ask {
	const char *user; /* of the account */
	/* All that can change the answer but whose it is: length-prefixed fields, cache_key_field,
	 * the last prompt last. */
	struct buf key;
	/* So much of it is not that prompt: what must be equal for a semantic hit. */
	size_t scope_len;
	const char *prompt;
	size_t prompt_len;
	uid_t uid;
	bool store; /* such an answer may be stored: it is deterministic, or the session says so */
	bool semantic; /* the newest prompt alone decides: there is no conversation before it */
	const struct embedding_payer *payer; /* of its prompt's vector; NULL: nobody pays */
	void *payer_arg;
};
/* Appends one field. 0 or -ENOMEM. */
int cache_key_field(struct buf *to, const char *name, const char *value, size_t len);
void cache_ask_free(struct cache_ask *ask); /* what is inside; zeroed memory too */

enum cache_outcome {
	CACHE_MISS,   /* compute it; and then cache_land or cache_drop the ticket */
	CACHE_HIT,    /* text is the answer */
	CACHE_FOLLOW, /* the same is being computed: read `leader` */
};
enum cache_level { CACHE_L1 = 1, CACHE_L2, CACHE_L3, CACHE_FLIGHT };

struct cache_ticket; /* a request in the cache's hands */

struct cache_found {
	enum cache_outcome outcome;
	enum cache_level level;
	double score;                    /* L3: the cosine; else 1 */
	struct text *text;               /* HIT: new reference */
	char finish[8];                  /* HIT: "stop", "length" */
	struct answer *leader;           /* FOLLOW: new reference */
	uint64_t prompt_tok, output_tok; /* HIT: what it took when it was computed */
};

/*
 * Looks, takes over what is in *ask (zeroed after it). new *out unless there is nothing to be done
 * with it later: a hit in memory; or the cache is turned off, does not work, or the ask says that
 * its answer may not be stored (it is not looked for either then), the outcome being CACHE_MISS;
 * nothing of this is an error for the request. 0: *found is the outcome. 1: done(arg, found) comes
 * on the loop, unless cache_drop came before. leader: the answer that this request is going to
 * fill, should it be the one that computes (a reference is taken). A ticket whose outcome is HIT or
 * FOLLOW is to be dropped, too.
 */
int cache_begin(struct cache_ticket **out, struct cache *c, struct cache_ask *ask,
	struct answer *leader, struct cache_found *found,
	void (*done)(void *arg, const struct cache_found *found), void *arg);
/* It is turned on, and keeps something. Any thread. */
bool cache_is_on(struct cache *c);
/* Whether an answer to just this is there, in memory or on the disk as far as is known: cache_begin
 * would find it. Leaves no trace. Any thread. */
bool cache_knows(struct cache *c, const struct cache_ask *ask);
/* The outcome was MISS, and this is the answer, whole, past the guards: stores it, if the ask says
 * so. Frees the ticket, returns NULL. Accepts NULL. */
struct cache_ticket *cache_land(struct cache_ticket *t, struct text *text, const char *finish,
	uint64_t prompt_tok, uint64_t output_tok);
/* No answer that may be stored: blocked, broken off, cancelled. Whoever follows asks again, and the
 * first of them computes. Frees, returns NULL. Accepts NULL. */
struct cache_ticket *cache_drop(struct cache_ticket *t);

/* ---- the whole ---- */

/* new *out. dir: state_dir/cache. A store that cannot be opened is set aside (renamed, a new one
 * begun) and reported; the cache then works from memory. */
int cache_open(struct cache **out, struct gateway *g, const char *dir, struct err *err);
/* Writes what is pending, ends the thread. Accepts NULL, returns NULL. */
struct cache *cache_free(struct cache *c);

/*
 * Settings, files below cache/: enabled (1 or on, 0 or off), ttl (seconds, 0: for ever; 86400),
 * threshold (0 to 1; 0.95), scope (user or global), embedding_model (a model's name; empty: no L3),
 * max_memory (bytes; 64 MiB), max_entries (of L3 and in L2; 100000), max_disk (bytes; 1 GiB).
 */
const char *const *cache_setting_names(void); /* ends with NULL */
int cache_setting_check(const char *file, const char *value, size_t len, struct err *err);
/* As settings_is_hopeless. */
bool cache_setting_is_hopeless(const char *file, const char *value, size_t len);
int cache_setting_set(
	struct cache *c, const char *file, const char *value, size_t len, struct err *err);
int cache_setting_get(struct cache *c, const char *file, struct buf *out);
/* What its file in TREE holds is no value: nothing is served or stored until it is set again. */
void cache_setting_fail(struct cache *c, const char *file);
/* "flush": all; "flush USER": that user's. In force at the return. */
int cache_ctl(struct cache *c, const char *line, size_t len, struct err *err);
/* Whether no more bytes make one of it. */
bool cache_ctl_is_hopeless(const char *line, size_t len);

/* A hit spared that much: what its tokens would have cost now. */
void cache_saved(struct cache *c, int64_t nanodollars);
/* Its model for embeddings, or cache/lookup's, used so many tokens. */
void cache_count_embedding(struct cache *c, uint64_t tok);
/* The model by whose vectors it looks for a prompt of so many bytes; false: it does not. Any
 * thread. */
bool cache_embeds(struct cache *c, size_t prompt_len, char model[TEXT_NAME_SIZE]);
/* "name value" lines: hits_l1 hits_l2 hits_l3 hits_flight misses stored evicted expired entries
 * bytes disk_bytes vectors saved_dollars ... */
int cache_stats(struct cache *c, struct buf *out);
/* llm_cache_hits_total{cache_level="l1"} and so on. */
int cache_metrics(struct cache *c, struct buf *out);

/* For cache/lookup: what would happen to this prompt, as JSON: the exact entry, if any, and the
 * nearest entries with their scores, each with whether it would be served and why not. vector may
 * be NULL (no embedding; `why` says why); so may ask: it would not be looked for, and `why` says
 * that. Does not count as a hit, shows no text of another user. */
int cache_lookup(struct cache *c, const struct cache_ask *ask, const float *vector, size_t dim,
	const char *why, struct buf *out);

#endif
