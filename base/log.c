/* SPDX-License-Identifier: Apache-2.0 */
/* Where lines for the operator go. Two settings, made before threads start, and no state after
 * that: a daemon's stderr is a terminal until it has let go of it, and then nothing. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>
#include <unistd.h>

static enum log_level max_level = LOG_LEVEL_INFO;
static int use_syslog;

void log_set_level(enum log_level level)
{
	max_level = level;
}

void log_use_syslog(const char *ident)
{
	openlog(ident, LOG_PID, LOG_DAEMON);
	use_syslog = 1;
}

void log_write(enum log_level level, const char *format, ...)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};
	if (level > max_level)
		return;
	char line[1024];
	int n = snprintf(line, sizeof line, "llmfs: %s: ", names[level]);
	int start = n;
	va_list ap;
	va_start(ap, format);
	n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, ap);
	va_end(ap);
	if (n > (int)sizeof line - 2)
		n = (int)sizeof line - 2;
	if (use_syslog) {
		syslog(priorities[level], "%s", line + start);
		if (level > LOG_LEVEL_WARN)
			return;
	}
	line[n] = '\n';
	ssize_t ignored = write(STDERR_FILENO, line, (size_t)n + 1);
	(void)ignored;
}
