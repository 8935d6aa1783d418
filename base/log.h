/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Lines above this level are dropped. Default: INFO. Call before threads start. */
void log_set_level(enum log_level level);

/* From now on lines go to syslog (facility daemon), and only errors and warnings to stderr, too:
 * for a daemon in the background, which has a terminal there until its start is over and /dev/null
 * afterwards. Call before threads start. */
void log_use_syslog(const char *ident);

/* One line, written with one write(2), so lines of several threads do not mix. Never put a secret
 * or a user's text into it. */
__attribute__((format(printf, 2, 3))) void log_write(enum log_level level, const char *format, ...);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
