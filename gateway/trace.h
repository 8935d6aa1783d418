/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_TRACE_H
#define GATEWAY_TRACE_H

/* What happened to a request, in numbers, and the last 256 requests as JSON lines. No text of a
 * user is in it. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "gateway/money.h"
#include "gateway/text.h"

/* Times are CLOCK_MONOTONIC; 0: it never came that far. */
struct trace_times {
	uint64_t submitted_ns, started_ns; /* its turn came in its session */
	uint64_t judged_ns;                /* its prompt was, by a judge (0: there is none) */
	uint64_t tried_ns;                 /* its model was, after others (0: it is the first) */
	uint64_t ready_ns;                 /* the model was loaded */
	uint64_t rendered_ns;              /* the conversation was tokens */
	uint64_t running_ns;               /* it left the engine's queue, or was sent to the server
					      that has it now */
	uint64_t first_ns;                 /* its first text was there */
	uint64_t released_ns;              /* its first text was past the guards and the ledger */
	uint64_t generated_ns;             /* its last text was there */
	uint64_t settled_ns;               /* stored, over */
};

struct trace_usage {
	uint64_t prompt_tok, cached_tok, output_tok;
};

/* Both (but for judged_ns, released_ns and tried_ns) in little room, as they are kept with a
 * conversation's turns: microseconds since the submission, plus one; 0: it never came that far. */
enum { TRACE_PACKED_TIMES = 7 };
struct trace_packed {
	uint32_t us[TRACE_PACKED_TIMES];
	uint32_t prompt_tok, cached_tok, output_tok;
	char finish; /* 's'top, 'l'ength, '-' */
};
void trace_pack(struct trace_packed *out, const struct trace_times *times,
	const struct trace_usage *usage, const char *finish);
/* The times are counted from 1 ns, here and in trace_from. */
void trace_unpack(const struct trace_packed *p, struct trace_times *times,
	struct trace_usage *usage, const char **finish);

/* All of them, exactly: nanoseconds since the submission, plus one; 0: it never came that far. */
enum { TRACE_TIMES = TRACE_PACKED_TIMES + 3 };
void trace_since(const struct trace_times *times, uint64_t ns[TRACE_TIMES]);
void trace_from(const uint64_t ns[TRACE_TIMES], struct trace_times *out);

struct trace_record {
	uint64_t id;
	uint64_t real_ns; /* CLOCK_REALTIME of its end */
	uid_t uid;
	const char *status; /* static: "done" ... */
	const char *finish; /* static: "stop", "length", "" */
	int code;           /* 0 or -errno */
	char session[TEXT_NAME_SIZE], model[TEXT_NAME_SIZE];
	struct trace_times times;
	struct trace_usage usage;
	money cost;
};

struct trace;

struct trace *trace_new(void);
struct trace *trace_free(struct trace *t); /* accepts NULL, returns NULL */
void trace_add(struct trace *t, const struct trace_record *record);
/* JSON lines, oldest first. */
int trace_render(struct trace *t, struct buf *out);

/* The stages of one request, "name 1.234 ms" lines; a stage that is under way is not there. */
int trace_render_stages(const struct trace_times *times, struct buf *out);
/* When a reader could have the first text. */
uint64_t trace_first_ns(const struct trace_times *t);
/* Milliseconds between two times; 0 when either is not there. */
double trace_ms(uint64_t from_ns, uint64_t to_ns);
/* Whether so many tokens, the first of them so many milliseconds before the last, are a rate: an
 * answer that came in one burst has none. */
bool trace_has_rate(uint64_t output_tok, double decode_ms);
bool trace_is_burst(uint64_t output_tok, double decode_ms);

#endif
