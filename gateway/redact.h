/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_REDACT_H
#define GATEWAY_REDACT_H

#include <stddef.h>

enum { REDACT_RUN = 6 };

/* Takes a secret out of a text, in place: every occurrence of it, and of any REDACT_RUN or more
 * bytes in a row of it, is "..." afterwards. size: of the text's memory; what does not fit is cut.
 * secret: NULL or "": nothing. O(length of text x length of secret), for sentences. */
void redact(char *text, size_t size, const char *secret);

#endif
