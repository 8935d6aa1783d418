/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GUARDS_H
#define GATEWAY_GUARDS_H

/* The rule files below guards/ and what is in force of them. */

#include "gateway/core.h"
#include "gateway/guard.h"
#include "gateway/moderation.h"

enum { GUARDS_FILES_MAX = 256 }; /* of both stages, with or without faults, and moderation */

/* new; NULL when memory is out. */
struct guards *guards_new(struct gateway *g);
struct guards *guards_free(struct guards *gs); /* accepts NULL, returns NULL */
/* The last good texts, from the store, before its first write. 0 or -errno. */
int guards_restore(struct guards *gs, struct err *err);
/* Nothing is dropped later any more. Before the thread for texts and the loop end. */
void guards_stop(struct guards *gs);

/* The rules of a stage: new reference in *out; -EPERM: there is a file without a good text, so
 * everything is refused. generation (may be NULL): another number each time they change. */
int guards_rules(struct guards *gs, enum guard_stage stage, struct guard_set **out,
	uint64_t *generation, struct err *err);
/* The judge of a stage: new reference in *out, NULL when none is asked. -EPERM as above. */
int guards_judge(
	struct guards *gs, enum guard_stage stage, struct moderation **out, struct err *err);

/* All of a stage at one moment: rules, judge (NULL: none) and fingerprint. The pointers may be
 * NULL. -EPERM as above, and then nothing is given but the fingerprint. */
int guards_stage(struct guards *gs, enum guard_stage stage, struct guard_set **rules,
	struct moderation **judge, uint64_t *print, struct err *err);
/* A number that is another one when other rules or another judge are in force for a stage; the same
 * over restarts. For caches: 64 bits, not made to withstand people who write rule files. */
uint64_t guards_fingerprint(struct guards *gs, enum guard_stage stage);

/* A whole text before it becomes part of a session: `*out` gets it with redactions. -EPERM:
 * blocked, with the sentence; -EILSEQ, -ENOMEM. Findings are audited as of that user and session.
 */
struct guards_subject { /* whose text it is; borrowed */
	uid_t uid;
	const char *user, *session;
	uint64_t request; /* 0: of none */
};
int guards_text(struct guards *gs, const struct guards_subject *who, const char *text, size_t len,
	struct buf *out, struct err *err);

/* Writes what a stream has found since `*told` findings into the audit and the counters. */
void guards_tell(struct guards *gs, const struct guards_subject *who, enum guard_stage stage,
	const struct guard_stream *stream, size_t *told);
void guards_tell_one(struct guards *gs, const struct guards_subject *who, enum guard_stage stage,
	const struct guard_finding *f);
/* What a judge said, or (status) why it said nothing. action: "block", "replace", "warn", "allow".
 */
void guards_tell_judge(struct guards *gs, const struct guards_subject *who, enum guard_stage stage,
	const char *categories, const char *why, const char *action);
/* The sentence of a blocking finding. */
int guards_refusal(enum guard_stage stage, const struct guard_finding *f, struct err *err);

/* Findings that blocked, by kind. */
enum guards_kind { GUARDS_RULE, GUARDS_JUDGE, N_GUARDS_KINDS };
uint64_t guards_blocks(struct guards *gs, enum guards_kind kind, enum guard_stage stage);
uint64_t guards_findings(struct guards *gs);
/* "llm_guardrail_blocks_total{guard_type,stage}". */
int guards_render_metrics(struct guards *gs, struct buf *out);
/* A sentence when a judge is named that is not there, or is known to give no answers, else "". */
void guards_missing_judge(struct guards *gs, char *sentence, size_t size);
/* guards/status. */
int guards_render_status(struct guards *gs, struct buf *out);

#endif
