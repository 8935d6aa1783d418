/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_MAPPING_H
#define ENGINE_MAPPING_H

/* A regular file, mapped read-only, that survives being truncated while it is mapped. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

struct mapping;

/*
 * new *out. Opens without blocking and maps the whole file; an empty file maps to size 0. The first
 * call installs the SIGBUS handler. Errors, each with a sentence: those of open(2) and mmap(2);
 * -EINVAL: not a regular file, or on forbidden_device (0: none).
 */
int mapping_open(struct mapping **out, const char *path, dev_t forbidden_device, struct err *err);
/* Accepts NULL, returns NULL. Nothing may read the bytes any more. */
struct mapping *mapping_close(struct mapping *m);

/* borrows, valid until mapping_close. Page-aligned. */
const void *mapping_bytes(const struct mapping *m);
size_t mapping_size(const struct mapping *m);

/* The pages wholly within these bytes may leave our memory; reading them again gets them from the
 * file. */
void mapping_forget(const struct mapping *m, const void *bytes, size_t n);

/* True once a read met a page that the file no longer has: that page and all behind it read as
 * zeros from then on. One atomic load. */
bool mapping_damaged(const struct mapping *m);

/* What has become of the file since it was opened. */
enum mapping_file {
	MAPPING_SAME,
	MAPPING_REPLACED, /* its name is another one's, or no one's: the bytes are those opened */
	MAPPING_SHRANK,   /* some bytes are gone */
	MAPPING_WRITTEN,  /* written to, or touched: the bytes may be others */
};
/* By one fstat(2) of it, which may wait for the file system as reading the bytes may. */
enum mapping_file mapping_file(struct mapping *m);
/* For who may not wait: the same of a file on a local file system (base/local_fs.h), else what
 * mapping_file() said last. */
enum mapping_file mapping_file_now(struct mapping *m);

#endif
