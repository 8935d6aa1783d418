/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_ROUTER_H
#define GATEWAY_ROUTER_H

/*
 * Which model takes a request to models/auto or models/cascade: those that cannot are dropped, each
 * with its reason, the others are ordered. It knows nothing of requests, files or how models are
 * reached; its caller tells it facts and does what it decides.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "gateway/classify.h"
#include "gateway/money.h"
#include "gateway/text.h"

/* ---- what is decided upon ---- */

enum router_capability {
	ROUTER_CHAT = 1,
	ROUTER_JSON = 2, /* answers that are sure to be JSON */
	ROUTER_CODE = 4,
	ROUTER_MATH = 8,
	ROUTER_VISION = 16,
	ROUTER_AUDIO = 32,
	ROUTER_TOOLS = 64,
	ROUTER_EMBED = 128
};

/*
 * The file `capabilities` of a model: the words chat, json, code, math, vision, audio, tools, embed
 * with white space between them; "" is "chat json". Another word is -EINVAL, and the sentence names
 * those that are allowed.
 */
int router_capabilities_parse(const char *text, size_t len, unsigned *out, struct err *err);

enum router_health {
	ROUTER_READY,
	ROUTER_COLD, /* not loaded yet: usable, slower */
	ROUTER_DOWN
};

/* One model as it is now. */
struct router_facts {
	char name[TEXT_NAME_SIZE];
	struct money_price price;
	double quality;        /* 0 to 1 */
	bool has_quality;      /* false: counts as 0.5 */
	unsigned capabilities; /* of enum router_capability */
	uint64_t context_tok;  /* 0: unknown, and nothing is too long */
	uint64_t max_tokens;   /* of an answer; 0: what the context has room for */
	uint32_t weight;       /* its share in `split`; 0: takes no part in it */
	enum router_health health;
	/* Its last requests, though it is not down: others come first, but in a cascade. */
	bool failed_lately;
	char why[160]; /* of both: why, as in "down: WHY" */
	/* Measured (gateway/latency.h): time to the first token, tokens a second after it; 0:
	 * never; a rate of INFINITY: answers come in one burst. */
	double first_ms, tok_per_s;
	uint64_t running, waiting; /* requests there */
};

enum router_model { ROUTER_AUTO, ROUTER_CASCADE };

/* What the model of router/classifier_model has to say about a prompt. */
struct router_opinion {
	char model[TEXT_NAME_SIZE];
	bool has_class; /* it said one; else `why` says why not, and the rules decide */
	enum classify_class class;
	double share[CLASSIFY_CLASSES]; /* of the classes, as question_said */
	bool is_remembered;             /* it was asked before, of that very prompt */
	char why[160];
};

struct router_ask {
	enum router_model model;
	const char *text; /* the newest prompt: it is classified */
	size_t len;
	uint64_t prompt_tok;   /* of the whole conversation */
	uint64_t max_tokens;   /* of the answer; 0: what the model takes */
	unsigned capabilities; /* needed, all of them; ROUTER_CHAT for an answer in words */
	bool has_max_cost;
	money max_cost;          /* for the request at its worst; of a cascade: for all its steps */
	uint64_t max_latency_ms; /* for the whole answer, as expected; 0: none. One makes speed
				    matter */
	const char *session;     /* the same session has the same arm of a split */
	const struct router_opinion *opinion; /* NULL: no model was asked for the class */
};

/* ---- how ---- */

enum router_policy { ROUTER_COST, ROUTER_QUALITY, ROUTER_LATENCY, ROUTER_BALANCED, ROUTER_SPLIT };

struct router_weights {
	double quality[CLASSIFY_CLASSES]; /* for a quality of 1 */
	double cost[CLASSIFY_CLASSES];    /* for each 0.01 dollars per 1,000 tokens */
	double latency; /* for each second that the answer is expected to take, when speed matters
			 */
	double load;    /* for each request that runs or waits there */
	double cold;    /* when it has to be loaded first */
	double cold_ms; /* that loading is expected to take */
	double answer_tok; /* that an answer is expected to have, if max_tokens lets it */
};

struct router_config {
	enum router_policy policy;
	double threshold; /* of quality_estimate: a cascade goes on below it */
	struct router_weights weights;
	struct classify_weights classes;
	char cascade_judge[TEXT_NAME_SIZE]; /* "": an answer is only estimated */
	double cascade_judge_timeout_ms;
	char classifier_model[TEXT_NAME_SIZE]; /* "": the rules of classify.h alone */
	double classifier_timeout_ms;
};

struct router;

/* new: all defaults; NULL when memory is out. */
struct router *router_new(void);
struct router *router_free(struct router *r); /* accepts NULL, returns NULL */
/* A copy of what is in force. Any thread. */
void router_config(struct router *r, struct router_config *out);

/* The models that are asked, and how long they have: 0, and nothing else is done, where none is
 * set. Any thread. */
unsigned router_classifier(struct router *r, char model[TEXT_NAME_SIZE]);
/* Whether it makes a difference of which class a prompt is: to the order in `balanced`, and to what
 * an answer of a cascade is held to. Any thread. */
bool router_counts_class(struct router *r, enum router_model model);
unsigned router_cascade_judge(struct router *r, char model[TEXT_NAME_SIZE]);

/*
 * The files of router/, each a value that is in force for the next decision. Any thread.
 *
 *	policy     cost, quality, latency, balanced (the default) or split
 *	threshold  a number from 0 to 1; 0.6
 *	weights    `name value` lines (gateway/numbers.h), each from 0 to 1000000:
 *		quality_simple 0.2   quality_moderate 0.4   quality_complex 0.6
 *		cost_simple 0.5      cost_moderate 0.3      cost_complex 0.1
 *		latency 0.1   load 0.01   cold 0.05   cold_ms 5000   answer_tok 256
 *	classes    `name value` lines: gateway/classify.h
 *	cascade_judge             a model that judges the answers of a cascade; none
 *	cascade_judge_timeout_ms  how long it has for one, 1 to 600000; 10000
 *	classifier_model          a model that is asked for a prompt's class; none
 *	classifier_timeout_ms     how long it has, 1 to 600000; 2000
 *
 * A model is a name below models/, none of the router's own. In the files of one value, too, blank
 * lines and lines that begin with # say nothing. What a table does not name has its default; "" is
 * the default of every file.
 *
 * cost      the one that is cheapest for this request (prompt and expected answer).
 * quality   the one with the highest quality.
 * latency   the one whose answer is expected to be complete first.
 * balanced  the highest sum of: weight × quality, − weight × price, − latency × seconds where the
 *           request has a max_latency_ms, − load × requests there, − cold.
 * split     one by its weight and the session, of those with the capabilities that are asked for:
 *           the session's arm, also while it is down or cannot take a request; behind it, or
 *           without it then, the others as in `balanced`.
 *
 * Of equals the cheaper one, then the better, the one that is loaded, the one with fewer requests,
 * the first by name. A cascade's order is by cost whatever the policy; of models that cost the same
 * the one of less quality is before the better one, or a cascade of free models would have no
 * steps.
 *
 * One whose last requests failed a moment ago is behind all that did not fail, whatever its score;
 * but a split's arm stays what it is.
 *
 * Expected time: first_ms + answer / tok_per_s, + cold_ms where it is cold. One that was never
 * measured is taken for the mean of those that were: it is neither sought nor shunned, and
 * max_latency_ms does not drop it.
 */
const char *const *router_setting_names(void); /* NULL-terminated */
/* Whether the value is allowed. 0; -EINVAL and -EFBIG with what is; -ENOENT: no such file. */
int router_setting_check(const char *file, const char *value, size_t len, struct err *err);
/* As settings_is_hopeless. */
bool router_setting_is_hopeless(const char *file, const char *value, size_t len);
/* Checks and takes it; after an error the value before is in force. -ENOMEM besides. */
int router_setting_set(
	struct router *r, const char *file, const char *value, size_t len, struct err *err);
/* Appends the value as it was written, or the default (of tables: spelled out), without the last
 * newline. -ENOENT; errors as buf_append. */
int router_setting_get(struct router *r, const char *file, struct buf *out);
/* Appends what is the same as long as all settings are, over restarts, too: their texts. */
int router_identity(struct router *r, struct buf *out);

/* ---- the decision ---- */

struct router_candidate {
	char name[TEXT_NAME_SIZE];
	double score; /* the sum of the terms; those that the policy does not count are 0 */
	double quality_term, cost_term, latency_term, load_term;
	money cost;         /* of the prompt and the expected answer */
	money worst;        /* of the prompt and the longest answer it may give */
	double expected_ms; /* 0 when none of all was ever measured */
	bool is_measured;
	char failure[96]; /* why its last requests failed lately; "": they did not */
};

struct router_dropped {
	char name[TEXT_NAME_SIZE];
	char why[192];
};

struct router_decision {
	enum router_model model;
	enum router_policy policy;
	double threshold;
	enum classify_class class;         /* that counts: of the opinion, else of the rules */
	struct classify_result classified; /* by the rules */
	struct router_opinion opinion;     /* model "": none was asked */
	bool wants_opinion; /* none was asked, and the class may change what becomes of it */
	uint64_t prompt_tok, answer_tok; /* expected */
	char arm[TEXT_NAME_SIZE]; /* of a split: tried[0]'s name, or that of one dropped; else "" */
	size_t n, n_dropped;
	struct router_candidate *tried; /* [n] in the order in which they may be tried */
	struct router_dropped *dropped; /* [n_dropped] in the order of the facts; NULL: none */
};

/*
 * new *out. 0; -EHOSTUNREACH when nobody remains: *out then says why of each, and the sentence as
 * many of them as it can hold; -ENOMEM: *out is NULL. The facts are borrowed for the call, in any
 * order: what is decided does not depend on it. Any thread. O(n log n).
 */
int router_decide(struct router *r, const struct router_ask *ask, const struct router_facts *facts,
	size_t n, struct router_decision **out, struct err *err);
struct router_decision *router_decision_free(struct router_decision *d); /* NULL */

/*
 * One JSON object of a few lines, newline at the end:
 *	{"model": "auto" | "cascade", "policy": ..., "class": ..., "score": ..., "language": ...,
 *	 "features": {NAME: 0 to 1, ...},
 *	 "class_by": "model" | "rules", "class_by_rules": ..., (where a model was asked, and:)
 *	 "classifier": {"model": NAME, "class": ... or null, "shares": [...], "remembered": true |
 *		false} or, without a class, "why" in the place of the last two,
 *	 "prompt_tokens": ..., "answer_tokens": expected,
 *	 "chosen": NAME or null, "arm": NAME or null, "threshold": ... (of a cascade),
 *	 "candidates": [{"model", "score", "quality", "cost", "latency", "load" (the terms),
 *		"dollars", "dollars_at_most", "expected_ms" (null: nothing is measured),
 *		"measured": true | false, "failed": WHY (only where it did lately)}],
 *	 "dropped": [{"model", "why"}]}
 * No text of a user is in it. Errors as buf_append.
 */
int router_decision_json(const struct router_decision *d, struct buf *out);

#endif
