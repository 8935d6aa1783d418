/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_MODERATION_H
#define GATEWAY_MODERATION_H

/*
 * The file guards/moderation: which model judges texts, in which words it is asked, and what
 * follows from its verdict. One `name value` a line; blank lines and lines that begin with # say
 * nothing, nor does what follows a # behind white space, but in the text of `replacement`.
 *
 *	model        judge           a name below models/; without this line nothing is judged
 *	threshold    0.5             unsafe when p(unsafe) / (p(safe) + p(unsafe)) is at least this;
 *	                             above 0, at most 1
 *	stages       input output    one of them or both
 *	action       block           block, replace or warn
 *	replacement  Sorry, no.      what stands in place of an answer; with action replace
 *	on_error     block           block or allow: when the judge is missing, slow or broken
 *	timeout_ms   10000           1 to 600000
 *	window_chars 400             an answer is judged each time so much more of it is there;
 *	                             1 to 1000000 characters
 *	category     S1 Violent...   a name and a title; repeated. Without any: Llama Guard 3's
 *
 * The values shown are the defaults. Each line but category stands there once.
 */

#include <stdatomic.h>

#include "gateway/guard.h"
#include "gateway/text.h"

enum moderation_action { MODERATION_BLOCK, MODERATION_REPLACE, MODERATION_WARN };

#define MODERATION_NAME_SIZE 16
#define MODERATION_CATEGORIES_MAX 64

struct moderation_category {
	char name[MODERATION_NAME_SIZE]; /* [A-Za-z0-9._-]{1,15} */
	struct text *title;              /* without the full stop that the prompt has behind it */
};

/* Immutable and reference counted: any thread. */
struct moderation {
	atomic_uint refs;
	char model[TEXT_NAME_SIZE]; /* "": nothing is judged */
	double threshold;
	bool stages[2]; /* by enum guard_stage */
	enum moderation_action action;
	struct text *replacement;
	bool allows_on_error;
	unsigned timeout_ms;
	size_t window_chars;
	size_t n_categories;
	struct moderation_category *categories;
	size_t form_bytes[2]; /* by stage: what is asked about no text at all */
	char summary[160];
};

/* new *out. -EINVAL with *fault; -ENOMEM. */
int moderation_parse(
	struct moderation **out, const char *text, size_t len, struct guard_fault *fault);
struct moderation *moderation_ref(struct moderation *m); /* both accept NULL */
struct moderation *moderation_put(struct moderation *m); /* returns NULL */

/* Whether texts of that stage are judged. */
bool moderation_judges(const struct moderation *m, enum guard_stage stage);
/* "off", or "judge: block at 0.5, input output, 14 categories". borrows. */
const char *moderation_summary(const struct moderation *m);

/*
 * Appends what the judge is asked, as one user message: Llama Guard 3's published prompt, byte for
 * byte. Input: whether the user's text is safe; `agent` is not looked at. Output: whether the
 * agent's is, as an answer to the user's. Both are UTF-8; white space around them is left away, as
 * in the published template.
 *
 * A text must not pass for the form around it: in both, "<BEGIN" and "<END" (in any case) become
 * "< BEGIN" and "< END", and a line that begins with "User:" or "Agent:" gets "> " in front (so
 * that nobody puts harmless last words into the conversation). Other texts are left as they are.
 * Errors as buf_append.
 */
int moderation_prompt(const struct moderation *m, enum guard_stage stage, const char *user,
	size_t user_len, const char *agent, size_t agent_len, struct buf *out);

/*
 * The categories that a judge named in its answer, "S1,S10": names that exist, once each, in its
 * order, as many as there is room for. complete: its last word is whole. out is always terminated.
 */
void moderation_categories(const struct moderation *m, const char *answer, size_t len,
	bool complete, char *out, size_t size);

#endif
