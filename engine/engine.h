/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

/*
 * The door of the engine: one loaded model, its tokenizer, its batch. A model either gives answers
 * (engine_submit) or is an encoder, which gives embeddings (engine_embed). Nothing else of this
 * folder is included from outside. The engine knows tokens; it knows nothing of users, sessions,
 * files or money.
 *
 * Threads: an engine has one worker thread of its own (and a compute pool below it). Every function
 * here may be called from any thread; those that may take long say so. engine_event and
 * engine_embed callbacks come from the worker thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

struct engine;

/* Zeroed memory is a valid set of options: each 0 means the default named here. */
struct engine_options {
	const char *chat_family;  /* "chatml" ...; NULL: recognised from the file's template */
	uint32_t n_threads;       /* compute threads; 0: the online processors, at most 16 */
	uint32_t context_tok;     /* longest sequence; 0: what the file says, at most 32,768 */
	uint32_t step_budget_tok; /* most tokens computed in one step; 0: 512; a GPU: 2,048 */
	uint32_t max_sequences;   /* most sequences in one step; 0: 64; a GPU: 256; more wait */
	uint32_t kv_blocks;       /* size of the KV pool in blocks of 16 tokens; 0: from kv_bytes */
	size_t kv_bytes;          /* most bytes for the KV pool; 0: 2 GiB; a GPU: what is free;
				     never more blocks than max_sequences full contexts */
	dev_t forbidden_device;   /* a file on this device is refused (the daemon's own mount); 0:
				     none */
	const char *cpu_path;     /* "scalar", "avx2", "avx512"; NULL: the best this machine has */
	const char *backend;      /* "cpu"; "cuda": a GPU; "auto", NULL: a GPU if this build and
				     machine can and the model fits, else the processor */
	uint32_t gpu;             /* its number, as the driver counts */
	double memory_share;      /* of the GPU's free memory that may be taken; 0: 0.9 */
	bool fp8, kv_fp8;         /* weights, KV rows as E4M3: a GPU that can */
	/* Told now and then while a file is loaded; fraction in [0, 1]. May be NULL. */
	void (*progress)(void *arg, double fraction);
	void *progress_arg;
};

/*
 * Opens a GGUF file, checks all of it, binds the weights and starts the worker. Takes seconds for a
 * large file; polls *stop (may be NULL) and gives up with -ECANCELED when it becomes true. new
 * *out. Errors, each with a sentence: -ENOENT, -EACCES ...: the file cannot be opened; -EINVAL: not
 * a regular file, or on the forbidden device, or a bad option; -EBADMSG: damaged, truncated or
 * lying; -ENOTSUP: a sound file whose architecture, tensor type, tokenizer or template is not known
 * (the sentence says what is), or a back end that this build or model cannot have; -ENODEV: no such
 * GPU; -EIO: it failed; -ENOMEM.
 */
int engine_open(struct engine **out, const char *path, const struct engine_options *options,
	const volatile bool *stop, struct err *err);

/*
 * What engine_open would say of a file before it reads weights: that it is whole, its sizes, its
 * tokenizer and its chat template. Takes as long as the vocabulary is large, a second at most.
 * *is_encoder: engine_info's. chat_family: of the options. Errors as engine_open, but for what
 * weights, memory and devices show.
 */
int engine_check(const char *path, const char *chat_family, dev_t forbidden_device,
	bool *is_encoder, struct err *err);

/* Ends what runs (each request gets its ENGINE_END with -ECANCELED first), joins the worker, frees.
 * Accepts NULL, returns NULL. Not from a callback. */
struct engine *engine_free(struct engine *e);

struct engine_info {
	const char *name;          /* general.name, or "" */
	const char *architecture;  /* "llama", "bert" */
	const char *file_type;     /* the type of most weights: "Q8_0" */
	const char *tokenizer;     /* "gpt2" (byte-level BPE), "llama" (SentencePiece), "bert"
				      (WordPiece) */
	bool is_encoder;           /* embeddings of n_embd numbers, no answers: no chat, no KV */
	const char *chat_family;   /* "chatml" ...; "" for an encoder */
	const char *template_note; /* why chat_family, which was named, hardly fits; else "" */
	const char *pooling;       /* of an encoder: "mean", "cls"; else "" */
	const char *backend;       /* "cpu/avx512", "cuda/NVIDIA H200" */
	const char *backend_note;  /* why "auto" took no GPU, a sentence; else "" */
	bool fp8, kv_fp8;          /* as E4M3, on a GPU: some of the weights (none of a model whose
				      weights are all quantised), KV rows */
	double memory_share;       /* of its free memory that it might take; 0: no GPU */
	uint64_t n_parameters;
	uint64_t file_bytes;
	uint32_t n_layers, n_embd, n_heads, n_kv_heads, n_vocab;
	uint32_t context_tok;     /* longest sequence this engine computes */
	uint32_t max_token_bytes; /* no token stands for more bytes of text than this */
	uint32_t n_threads;
	uint32_t kv_block_tok, kv_blocks; /* 0, and kv_bytes too, for an encoder */
	uint64_t kv_bytes;
};

/* borrows, valid as long as the engine. */
const struct engine_info *engine_info(const struct engine *e);

/* Appends what answers (vectors of an encoder) depend on beside the file and the options: how this
 * engine renders and samples (engine/identity.h), and what it made of the file: its chat family,
 * the system message of its template, its tokenizer, what computes, the context. A text; whoever
 * keeps answers keeps it with them. e NULL: what is the same for all models. 0 or -ENOMEM. */
int engine_identity(const struct engine *e, struct buf *out);

/* ---- text to tokens ---- */

enum engine_role { ENGINE_SYSTEM, ENGINE_USER, ENGINE_ASSISTANT };

struct engine_message {
	enum engine_role role;
	const char *text; /* valid UTF-8, not NUL-terminated */
	size_t len;
};

struct engine_tokens {
	uint32_t *ids; /* malloc'ed: free() it */
	size_t n;
};

/*
 * Renders a conversation by the model's chat family and tokenises it, behind the system message
 * that the file's own template has for one without (not when a family was named in the options).
 * Control tokens come only from the template: text that looks like one is tokenised as plain text.
 * Ends with the opening of the assistant's turn when add_generation. The rendering of a longer
 * conversation begins with the tokens of the shorter one, so that KV blocks are shared. O(bytes); ~
 * 10 MB/s. new out->ids. -EILSEQ: not UTF-8; -EINVAL: roles in an order the family cannot express;
 * -ENOTSUP: an encoder; -ENOMEM.
 */
int engine_render(struct engine *e, const struct engine_message *messages, size_t n_messages,
	bool add_generation, struct engine_tokens *out, struct err *err);

/* Tokenises plain text as it would stand inside a message: no template, no control tokens. Errors
 * as engine_render. */
int engine_tokenize(
	struct engine *e, const char *text, size_t len, struct engine_tokens *out, struct err *err);

/* Appends the text of the tokens to `text`. Control tokens give nothing. -EINVAL: an id beyond the
 * vocabulary; -ENOMEM. */
int engine_detokenize(struct engine *e, const uint32_t *ids, size_t n, struct buf *text);

/* ---- requests ---- */

struct engine_sampling {
	float temperature; /* 0: greedy; top_k to seed are then without effect */
	uint32_t top_k;    /* 0: off */
	float top_p;       /* 1: off */
	float min_p;       /* 0: off */
	uint64_t seed;     /* the same seed gives the same text whatever else is in the batch */
	/* Penalties on what was said already, greedy or not (engine/sampler.h has the formula).
	 * repetition divides a positive logit, and multiplies another, of every token that is in
	 * the prompt or in the answer; presence is taken off the logit of every token of the
	 * answer, frequency once for each time it came. */
	float repetition_penalty; /* 0.1 to 10; 1, or 0: off */
	float presence_penalty;   /* -2 to 2; 0: off */
	float frequency_penalty;  /* -2 to 2; 0: off */
};

#define ENGINE_BIAS_MAX 300

struct engine_bias {
	uint32_t id;
	float bias; /* -100 to 100: is added to the token's logit */
};

#define ENGINE_LOGPROBS_MAX 20

struct engine_logprob {
	uint32_t id;
	float logprob; /* natural logarithm; -INFINITY: 0 */
};

enum engine_event_kind {
	ENGINE_STARTED,    /* its first token is being computed: it left the queue */
	ENGINE_CANDIDATES, /* candidate_p is known now; before the text of that token */
	ENGINE_LOGPROBS,   /* of the next token; before the text that it sets free */
	ENGINE_TEXT,       /* more of the answer */
	ENGINE_END,        /* exactly one, the last event of a request */
};

enum engine_finish {
	ENGINE_FINISH_STOP, /* end-of-turn token or stop string */
	/* max_tokens or the context's end: a normal end. With `json` the value is whole all the
	 * same, but there was no room for it to go on. */
	ENGINE_FINISH_LENGTH,
	ENGINE_FINISH_CANCEL,
	ENGINE_FINISH_ERROR,
};

struct engine_usage {
	uint32_t prompt_tok;
	uint32_t cached_tok; /* of these, found in the KV cache */
	uint32_t output_tok; /* sampled, including an end token */
	uint32_t preemptions;
	uint64_t queued_ns, prefill_ns, decode_ns; /* time in each stage so far; cached or not */
};

struct engine_event {
	enum engine_event_kind kind;
	const char *text; /* ENGINE_TEXT: whole UTF-8 sequences, borrowed for the call */
	size_t len;
	enum engine_finish finish; /* ENGINE_END */
	int status; /* ENGINE_END: 0, or -errno with a sentence in text: -ECANCELED; -EBADMSG
		       the model's file shrank under us; -ENOMEM; -EIO no token could be
		       sampled, or the GPU failed */
	struct engine_usage usage; /* so far */
	const float *candidate_p;  /* [n_candidates] as asked for, borrowed for the call; NAN as
				      long as they are not known, in ENGINE_END: never came */
	size_t n_candidates;
	/* ENGINE_LOGPROBS: [n_logprobs] the token that was picked, then the most likely ones, of
	 * equals the lower id; borrowed for the call. */
	const struct engine_logprob *logprobs;
	size_t n_logprobs;
};

/* On the worker thread: must not block, nor call engine_submit, engine_cancel or engine_free. */
typedef void engine_event_fn(void *arg, const struct engine_event *event);

#define ENGINE_CANDIDATES_MAX 4

/*
 * Whether a text, as it comes, is one JSON value: what holds answers with `json`, but as wide as
 * RFC 8259, nested 64 deep at most; for answers of others. Zeroed memory is the start; copied by
 * value. No white space may follow the value.
 */
struct engine_json {
	uint64_t state[4];
};
/* Takes text[0..n). How many bytes of it can be: n, or it cannot go on with the next one, and *j is
 * as it was before that. */
size_t engine_json_feed(struct engine_json *j, const char *text, size_t n);
/* The value is whole: the text may end here. */
bool engine_json_may_end(const struct engine_json *j);

struct engine_request {
	const uint32_t *ids; /* the prompt; copied */
	size_t n_ids;
	struct engine_sampling sampling;
	uint32_t max_tokens; /* 0: until the context ends; clamped to it */
	bool ignore_eos;     /* end tokens are not sampled; without effect with json */
	bool json;           /* the answer is one JSON value (RFC 8259), whole within max_tokens */
	const char *const *stop; /* strings that end the answer and are not part of it; copied; at
				    most 64, UTF-8, of 1 to 4,096 bytes */
	size_t n_stop;
	/*
	 * Words whose probabilities as the first one of the answer are wanted (for judges: "safe",
	 * "unsafe"). Each is looked for by the first token of it that is not only white space, as
	 * it stands at the beginning of an answer (engine/candidates.h has the exact word); copied.
	 * The softmax over the whole vocabulary at temperature 1, of the model's own logits, is
	 * taken once, at the first position of the answer whose most likely token is not only white
	 * space. With temperature 0 that is the first token of the answer that says something.
	 */
	const char *const *candidates;
	size_t n_candidates;            /* at most ENGINE_CANDIDATES_MAX */
	const struct engine_bias *bias; /* no token twice; copied */
	size_t n_bias;                  /* at most ENGINE_BIAS_MAX */
	/*
	 * Wanted are the log-probabilities of each token of the answer (ENGINE_LOGPROBS) and of the
	 * n_top_logprobs most likely ones beside it. They are those of the model itself: the
	 * softmax of its own logits at temperature 1, before biases, penalties, bans and filters,
	 * so that they say the same whatever the sampling.
	 */
	bool logprobs;
	uint32_t n_top_logprobs; /* at most ENGINE_LOGPROBS_MAX */
	uint64_t salt;           /* prefixes are shared only among requests of equal salt */
	engine_event_fn *event;
	void *arg;
};

/*
 * Queues a request. *id names it for engine_cancel. The callback may come before this returns.
 * 0. -EMSGSIZE: the prompt leaves no room for one token of answer; -EINVAL: empty prompt, id beyond
 * the vocabulary, a sampling value out of range (temperature 0 to 100, top_p and min_p 0 to 1,
 * penalties and biases as above), too many biases or log-probabilities, a bad stop string, a bad
 * candidate or two with the same first token; -EAGAIN: 65,536 requests wait already; -ESHUTDOWN:
 * the engine is ending; -EBADMSG: the model's file shrank under us; -EIO: the GPU failed, with what
 * it said; -ENOTSUP: an encoder; -ENOMEM.
 */
int engine_submit(
	struct engine *e, const struct engine_request *request, uint64_t *id, struct err *err);

/* Ends a request at the next step: its ENGINE_END comes with -ECANCELED, unless it has come
 * already. That of an encoder (engine_embed): its done comes with -ECANCELED, inside this call
 * unless a text of it is being computed, which is then the last. Unknown ids are ignored. */
void engine_cancel(struct engine *e, uint64_t id);

/* ---- embeddings ---- */

#define ENGINE_EMBED_MAX 1024

struct engine_embed {
	const char *const *texts; /* [n] valid UTF-8, not NUL-terminated; copied. "" is a text */
	const size_t *lens;       /* [n] */
	size_t n;                 /* 1 .. ENGINE_EMBED_MAX */
	/*
	 * Called once for every request that was taken, on the worker thread (or inside
	 * engine_cancel): must not block, nor call engine_embed, engine_cancel or engine_free.
	 * status 0: vectors [n][info.n_embd], row by row, each of length 1 (all zeros if the model
	 * computed no number), borrowed for the call. Else NULL and a sentence: -ECANCELED it was
	 * cancelled, or the engine is ending; -EBADMSG the model's file shrank under us. usage:
	 * prompt_tok counts what was computed, control tokens and all: of one that was cancelled,
	 * the texts that had their turn.
	 */
	void (*done)(void *arg, int status, const char *sentence, const float *vectors,
		const struct engine_usage *usage);
	void *arg;
};

/*
 * Queues texts for an encoder. Each is computed as sentence-transformers does it: [CLS], the
 * tokens, [SEP], of which at most info.context_tok: of a longer text only the beginning counts, and
 * nothing says so. Texts that wait, of whatever requests, are computed together in one step; the
 * numbers of a text do not depend on that, to the bit. *id (may be NULL) names it for
 * engine_cancel; it is set before the callback can come. Tokenising is done here: O(bytes), ~ 20
 * MB/s up to where the text is cut. The callback may come before this returns. 0. -EINVAL: no
 * texts, or too many; -EILSEQ: not UTF-8; -EAGAIN: with these, more than 16,384 texts would wait;
 * -ENOTSUP: not an encoder; -ESHUTDOWN; -EBADMSG; -ENOMEM.
 */
int engine_embed(struct engine *e, const struct engine_embed *q, uint64_t *id, struct err *err);

/* What has become of the model's file since it was opened: 0; 1: another one has its name, or none
 * has; < 0, with a sentence: -EBADMSG it shrank, -EIO it was written to, or touched, and nothing
 * that is computed from now on can be trusted. Never waits: one fstat(2), but of a file on a file
 * system of another machine, which is looked at after each step alone. */
int engine_file(const struct engine *e, struct err *err);

/* 0, or what ended all requests and refuses new ones, with its sentence: -EBADMSG the model's file
 * shrank, -EIO it was written to, or the GPU failed. Opening the model again is the only remedy. */
int engine_fault(const struct engine *e, struct err *err);

struct engine_stats { /* of an encoder: texts, and no KV */
	uint32_t running, waiting;
	uint32_t step_sequences, step_rows; /* in the last step: sequences; tokens of them */
	uint32_t kv_blocks_total, kv_blocks_used,
		kv_blocks_cached; /* cached: free, but their content can be found */
	uint64_t steps, prompt_tok, cached_tok, output_tok, preemptions;
	/* Time in the scheduler's steps; in the model's, of it. Where a model's steps overlap (a
	 * GPU) each counts from the end of the one before it, waiting host or not. */
	uint64_t step_ns, model_ns;
	double output_tok_s; /* tokens a second lately; 0 while nothing runs */
};

void engine_stats(const struct engine *e, struct engine_stats *out);

struct engine_device { /* of a GPU; all 0, and utilisation negative, where there is none */
	uint64_t memory_used, memory_free; /* bytes, by whomever they are used */
	float utilisation;                 /* 0 to 1; negative: not known */
	uint64_t graph_hits, graph_misses; /* steps replayed from a graph; issued one by one */
	const char
		*graphs_off; /* why some are not replayed any more, or NULL; borrows, until close */
};

/* May ask a driver: a millisecond. */
void engine_device(const struct engine *e, struct engine_device *out);

#endif
