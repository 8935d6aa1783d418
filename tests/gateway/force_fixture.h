/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_FORCE_FIXTURE_H
#define TESTS_GATEWAY_FORCE_FIXTURE_H

/* A real gateway, files of rules that are set in it, and what is in force of them. */

#include "tests/gateway/harness.h"

extern struct harness force_h;

/* The two of a checked fixture. */
void force_open(void);
void force_close(void);
/* What gateway_guard_set returned. */
int force_set(const char *file, const char *text, struct err *err);
/* What the input rules make of a text: it, with redactions; or "!SENTENCE". new. */
char *force_passed(const char *text);
/* What becomes of that text (force_passed). */
void force_passes(const char *text, const char *want);
void force_view_is(enum gateway_view view, const char *want);
/* "a.rules;b.rules;". */
void force_names_are(const char *want);

#endif
