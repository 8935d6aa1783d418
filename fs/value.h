/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_VALUE_H
#define FS_VALUE_H

#include <stdbool.h>
#include <stddef.h>

/* The length of a value without the end of its last line: a newline, and a carriage return before
 * it, as editors of other systems write. */
size_t value_length(const char *text, size_t len);
/* Bytes of a byte order mark, which they may write before it: 0 or 3. */
size_t value_begin(const char *text, size_t len);
/* Whether so few bytes may be the beginning of one. */
bool value_may_begin(const char *text, size_t len);
/* Takes all that out of the text, at the ends of its other lines, too. Its new length. */
size_t value_clean(char *text, size_t len);

/* Whether text holds a whole JSON array, or begins with something that can never become one. */
bool value_json_whole(const char *text, size_t len);

#endif
