/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GATEWAY_GUARDS_H
#define GATEWAY_GATEWAY_GUARDS_H

/* The door of the gateway: guards. */

#include "gateway/gateway.h"

/*
 * Texts below guards/, by their names there: "input/NAME.rules", "output/NAME.rules", "moderation".
 * NAME: [A-Za-z0-9._-], at most 64 bytes with the suffix, not beginning with a dot.
 */
bool gateway_guard_name_ok(const char *file);
/*
 * `text` is what the file holds now. 0: in force with the next request, all of it at once. -EINVAL:
 * it has a fault, the sentence is "input/pii.rules:3:10: reason", and the last good text of that
 * file stays in force (also over a restart; when there is none, the stage refuses everything).
 * Either way the fault is in guards/status. A rule's name that another file of the stage has is a
 * fault until that file has it no more: then the text comes into force by itself. -EFBIG: more than
 * 256 KiB (as -EINVAL).
 */
int gateway_guard_set(
	struct gateway *g, const char *file, const char *text, size_t len, struct err *err);
/* The file is there, but what it holds cannot be known (not a regular file, not to be trusted): a
 * fault, with that sentence, and the last good text stays in force, as above. */
void gateway_guard_fail(struct gateway *g, const char *file, const char *sentence);
/* What the directory "input" or "output" holds cannot be known: that stage refuses everything, with
 * that sentence, until it is said to be well again (NULL). */
void gateway_guard_close(struct gateway *g, const char *stage, const char *sentence);
/* The file is gone: out of force at once, or, when it was renamed away (`away`), in two seconds
 * unless it is set again. */
void gateway_guard_remove(struct gateway *g, const char *file, bool away);
/* Whether that is the text it was set to last, good or bad. */
bool gateway_guard_is(struct gateway *g, const char *file, const char *text, size_t len);
/* Whether rules, or the judge, of that file are in force. */
bool gateway_guard_has_rules(struct gateway *g, const char *file);
/* new: array of the names that were set and not removed, as gateway_session_names. */
char **gateway_guard_names(struct gateway *g);

/* The same judgement without a gateway, for `llmfs --check`: of all files in turn. new; NULL when
 * memory is out. */
struct guards_check *gateway_guards_check_new(void);
struct guards_check *gateway_guards_check_free(struct guards_check *c);
/* Tells each fault, in a sentence as gateway_guard_set's; what is sound beside them is judged as if
 * they were not there. file is a name that gateway_guard_name_ok takes. 0; -ENOMEM. */
int gateway_guards_check(struct guards_check *c, const char *file, const char *text, size_t len,
	void (*tell)(void *arg, const char *sentence), void *arg);
/* borrows: the model that guards/moderation names, if it was among them; "". */
const char *gateway_guards_check_judge(const struct guards_check *c);

#endif
