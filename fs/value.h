/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_VALUE_H
#define FS_VALUE_H

#include <stdbool.h>
#include <stddef.h>

/* The length of a value without the end of its last line: a newline, and a carriage return before
 * it, as editors of other systems write. */
size_t value_length(const char *text, size_t len);
/* Takes that out of the text, at the ends of its other lines, too, and a byte order mark. Its new
 * length. */
size_t value_clean(char *text, size_t len);
/* Of a value of one line: without blanks around it and empty lines behind it, which nobody sees.
 * *text: where it begins; its length. Blanks alone stay: they are not the empty value that resets.
 */
size_t value_trim(const char **text, size_t len);

/* Whether text holds a whole JSON array, or begins with something that can never become one. */
bool value_json_whole(const char *text, size_t len);

#endif
