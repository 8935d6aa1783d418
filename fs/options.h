/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_OPTIONS_H
#define FS_OPTIONS_H

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_opt.h>

#include "base/err.h"

#include <stdbool.h>

/* The command line. */
struct options {
	char *tree, *mountpoint, *state; /* absolute once options_parse is done */
	char *http;                      /* where to listen; NULL: nowhere */
	bool foreground, debug, help, version, files, check;
	bool checks_example; /* no TREE was named to --check, so tree is the example */
	unsigned max_threads;
	unsigned max_sessions, max_queued, idle_unload_s; /* 0: the gateway's default */
	const char *unknown;   /* the first such option, in argv, or NULL */
	struct err fault;      /* of the first number that is none */
	struct fuse_args args; /* what is libfuse's */
};

/* Fills *o, which is zeroed. -EINVAL and others with a sentence. With help, version or files
 * nothing else is looked at, with check only tree. Ended by options_free in any case. */
int options_parse(struct options *o, int argc, char **argv, struct err *err);
void options_free(struct options *o);

/* Prints the help to standard output. */
void options_help(void);

#endif
