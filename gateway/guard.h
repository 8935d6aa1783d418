/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GUARD_H
#define GATEWAY_GUARD_H

/*
 * Rules and what they find in a text: compiled from the text of rule files, applied to texts that
 * come in pieces. Knows nothing of files, requests or users.
 *
 * A rule file has one rule a line; blank lines and lines whose first character is # say nothing.
 *
 *	block   NAME   /PATTERN/FLAGS   [check=luhn|iban]
 *	redact  NAME   /PATTERN/FLAGS   [check=luhn|iban]
 *	warn    NAME   /PATTERN/FLAGS   [check=luhn|iban]
 *	block   NAME   json             output only: the whole text is one JSON value
 *	block   NAME   schema {...}     output only: and it is valid against this schema
 *	block   NAME   max_chars N      output only (also warn)
 *
 * NAME: [A-Za-z0-9._-]{1,64}, unique in its stage. PATTERN is PCRE2's, always UTF; a / in it is
 * written \/. FLAGS: i s m x u (u: \d \w \s \b by Unicode properties). A pattern that can match the
 * empty text is refused, and what depends on more than the text around a match: (*...), \K \G \X
 *\C, callouts, a subroutine call beside a look-behind. json and schema judge the text as it came,
 * before redaction.
 *
 * What a set finds is a function of the whole text and not of its pieces:
 *  - each rule finds its leftmost matches that do not overlap one another, as if it searched the
 *    whole text alone, a match that fails its `check` not counting: the search goes on one
 *    character behind its start;
 *  - redact: matches of all redact rules that overlap one another become one, replaced by
 *    "[NAME]" of the one that begins first (of equals: the first rule);
 *  - block: the text ends before the match, at the first piece of text by which any block rule has
 *    certainly matched.
 * Only bytes that cannot become part of a block or redact match are released. At most
 * GUARD_HOLD_MAX bytes are held back for a pattern: a rule that has tried so many from one start
 * without a decision ("hold limit"), or that takes more than a million steps from one ("step
 * limit"), or more than four million and 128 for each byte of the text so far from all of them
 * ("step budget"), fails closed (blocks); one that only warns gives those bytes up, with a finding.
 * A start that is decided in some 64 steps within 128 bytes costs nothing: ordinary rules never
 * spend any. So a rule costs 64 KiB of text some 150 ms at the most, whatever is in it. Steps are
 * counted the same way for every split. Rules of json and schema hold back everything.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define GUARD_HOLD_MAX ((size_t)4096)

enum guard_stage { GUARD_INPUT, GUARD_OUTPUT };
enum guard_action { GUARD_WARN, GUARD_REDACT, GUARD_BLOCK };

/* One file's rules, compiled. Immutable and reference counted: any thread. */
struct guard_rules;

struct guard_fault {
	unsigned line, column; /* from 1; column in bytes */
	char reason[200];      /* valid UTF-8 */
	bool of_all;           /* of the file up to there, not of that line alone */
};

#define GUARD_RULES_MAX 2000 /* of a file */

/* new *out. `file` (copied) names it in findings. -EINVAL with *fault; -ENOMEM. */
int guard_rules_parse(struct guard_rules **out, enum guard_stage stage, const char *file,
	const char *text, size_t len, struct guard_fault *fault);
struct guard_rules *guard_rules_ref(struct guard_rules *r);
struct guard_rules *guard_rules_put(struct guard_rules *r); /* accepts NULL, returns NULL */
size_t guard_rules_count(const struct guard_rules *r);
/* borrows: the name of its i-th rule. */
const char *guard_rules_name(const struct guard_rules *r, size_t i);
/* The line of the rule of that name, or 0. */
unsigned guard_rules_line(const struct guard_rules *r, const char *name);
/* The first name of `r` that `other` has too, or NULL. borrows. */
const char *guard_rules_clash(const struct guard_rules *r, const struct guard_rules *other);

/* The rules of a stage, in the order of the files given. Immutable and reference counted. */
struct guard_set;

/* new, with references of the files; NULL when memory is out. n may be 0. */
struct guard_set *guard_set_new(struct guard_rules *const *files, size_t n);
struct guard_set *guard_set_ref(struct guard_set *s);
struct guard_set *guard_set_put(struct guard_set *s); /* accepts NULL, returns NULL */

/* One text under judgement. One thread at a time. */
struct guard_stream;

struct guard_finding {
	enum guard_action action; /* of the rule; GUARD_BLOCK also for one that failed closed */
	const char *file, *rule;  /* borrowed from the set */
	const char *why;          /* static: "match", "step budget", "hold limit", "invalid" ... */
	size_t offset, len;       /* in the text as it came; never shown to anybody */
};

/* new, with a reference of the set; NULL when memory is out. */
struct guard_stream *guard_stream_new(struct guard_set *set);
struct guard_stream *guard_stream_free(struct guard_stream *s); /* accepts NULL, returns NULL */

/* More text, split anywhere. Appends to *out what may be released now. 0; 1: blocked (by the last
 * finding; nothing more may be fed); -EILSEQ: not UTF-8, what stood before it was released;
 * -ENOMEM; -EFBIG: rules of json or schema would have to hold more than BUF_MAX_DEFAULT, or *out is
 * full. After an error the same is said again. */
int guard_stream_feed(struct guard_stream *s, const char *text, size_t len, struct buf *out);
/* The text is complete: the rest. As guard_stream_feed. */
int guard_stream_end(struct guard_stream *s, struct buf *out);
/* It breaks off here, and no more of it will come: patterns are judged as at an end, and what is
 * held back for them is given. What json and schema would judge is not there, and all of it stays
 * back; so does a character that was cut in two. As guard_stream_feed, but for -EILSEQ. */
int guard_stream_break(struct guard_stream *s, struct buf *out);
/* 1 and *finding: it would be blocked if it ended here. 0: not. The stream goes on as it was. */
int guard_stream_peek(struct guard_stream *s, struct guard_finding *finding);
/* borrows until the next call: what was found so far and nothing can be found before any more, by
 * where it begins (of equals: the first rule), a block last; only ever appended to. Of 10,000 and
 * more the first, and the block. */
const struct guard_finding *guard_stream_findings(const struct guard_stream *s, size_t *n);
/* Bytes that were fed and neither released nor replaced yet: what tests hold against
 * GUARD_HOLD_MAX.
 */
size_t guard_stream_held(const struct guard_stream *s);

#endif
