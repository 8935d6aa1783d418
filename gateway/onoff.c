/* SPDX-License-Identifier: Apache-2.0 */
/* Sysfs has 1 and 0, people write on and off: each is taken for each such setting, and shown as it
 * was written. */
#include "gateway/onoff.h"

#include <string.h>

const char *const onoff_words[] = {"1", "0", "on", "off", NULL};

bool onoff_is_on(const char *text, size_t len)
{
	return (len == 1 && *text == '1') || (len == 2 && !memcmp(text, "on", 2));
}
