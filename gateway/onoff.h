/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_ONOFF_H
#define GATEWAY_ONOFF_H

/* Settings that are on or off, whosever they are: these four words, as they stand here. */

#include <stdbool.h>
#include <stddef.h>

#define ONOFF_ALLOWED "1 or on, 0 or off" /* for sentences */

extern const char *const onoff_words[]; /* for PREFIX_WORD */

/* Of a text that is one of them: whether it is on. */
bool onoff_is_on(const char *text, size_t len);

#endif
