/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_PLAIN_FILE_H
#define GATEWAY_PLAIN_FILE_H

/* Files that a setting names, by whoever may write settings: opened without waiting for anybody,
 * and only where they are regular ones that are not our own. They may lie on a server that is gone:
 * not on the loop. */

#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

/* A descriptor to be closed; O_RDONLY and O_CLOEXEC are said here, flags (O_NOFOLLOW) besides.
 * -EINVAL: not a regular file; -EXDEV: on the device `forbidden` (0: none); errors of open(2). */
int plain_file_open(int dir_fd, const char *path, int flags, dev_t forbidden, struct stat *st);
/* Reads until there is no more, or size bytes are there: how many, or < 0. */
ssize_t plain_file_read(int fd, char *to, size_t size);
/* What such an error is called. */
const char *plain_file_words(int error);

#endif
