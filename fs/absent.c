/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of models lie anywhere, also on file systems that do not answer: only the thread of the
 * passes looks for them, and who reads `status` is told what it has found. Nothing watches there,
 * so as long as one is missing it is looked for again. What is in the files is a load's affair, and
 * so is a file that goes while its model is loaded.
 */
#include "fs/absent.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "fs/fs.h"
#include "fs/names.h"
#include "gateway/gateway_models.h"

enum { LOOK_AGAIN_MS = 2000 };

static bool any; /* the last look has missed one; the passes' */

/* 0 or -errno. */
static int look(struct model *m)
{
	struct buf path = {0};
	struct stat st;
	int r = 0;
	if (model_setting_get(m, "path", &path) == 0 && path.len && stat(path.data, &st) < 0)
		r = -errno;
	buf_free(&path);
	return r;
}

void absent_pass(struct fs *fs)
{
	char **names = gateway_model_names(fs->gateway);
	any = false;
	for (size_t i = 0; names && names[i]; i++) {
		struct model *m = gateway_model_find(fs->gateway, names[i]);
		int r = m && !model_is_virtual(m) ? look(m) : 0;
		if (m)
			model_file_found(m, r);
		any = any || r < 0;
		model_put(m);
	}
	names_free(names);
}

int absent_due_ms(void)
{
	return any ? LOOK_AGAIN_MS : -1;
}
