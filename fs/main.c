/* SPDX-License-Identifier: Apache-2.0 */
/* llmfs(1): arguments, foreground or background, and one mount. */
#include "fs/check.h"
#include "fs/daemon.h"
#include "fs/mount.h"
#include "fs/options.h"
#include "fs/table.h"

#include "base/heap.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int serve(const struct options *o)
{
	struct mount *m = NULL;
	struct err err = {{0}};
	int fd = -1;
	daemon_raise_files();
	if (!o->foreground) {
		fd = daemon_begin();
		if (fd < 0) {
			fprintf(stderr, "llmfs: cannot go to the background: %s\n", strerror(-fd));
			return EXIT_FAILURE;
		}
		log_use_syslog("llmfs");
	}
	int r = mount_open(&m, o, &err);
	if (fd >= 0)
		daemon_ready(fd, r, &err);
	else if (r < 0)
		fprintf(stderr, "llmfs: %s\n", err.text);
	if (r == 0)
		r = mount_serve(m);
	mount_free(m);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct options o = {0};
	struct err err = {{0}};
	int status = EXIT_SUCCESS;
	heap_begin();
	if (options_parse(&o, argc, argv, &err) < 0) {
		fprintf(stderr, "llmfs: %s\n", err.text);
		status = EXIT_FAILURE;
	} else if (o.help) {
		options_help();
	} else if (o.version) {
		printf("llmfs %s\n", LLMFS_VERSION);
	} else if (o.check) {
		log_set_level(LOG_LEVEL_ERROR);
		/* Who stands in a TREE may believe that it is the one that is looked at. */
		if (o.checks_example)
			fprintf(stderr,
				"llmfs: no TREE given: checking %s, the example that comes with "
				"llmfs\n",
				o.tree);
		status = check_tree(o.tree, stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
	} else if (o.files) {
		table_print();
	} else {
		log_set_level(o.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
		status = serve(&o);
	}
	options_free(&o);
	return status;
}
