/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_ENGINE_GGUF_FIXTURE_H
#define TESTS_ENGINE_GGUF_FIXTURE_H

/* Files that are written and read in memory. */

#include "engine/gguf.h"
#include "tests/engine/gguf_writer.h"

extern struct err gguf_err; /* what was wrong with the last one */

/* A small file with one of everything. new */
struct gguf_writer *gguf_sample(void);
/* What gguf_parse says of the file. Steals w. */
int gguf_parse_writer(struct gguf_writer *w);

#endif
