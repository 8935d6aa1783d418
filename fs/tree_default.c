/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TREE/models/default, a symlink to the bare name of a sibling. It is made beside the old one and
 * renamed over it, so that there is one at every moment.
 */
#include "fs/tree.h"

#include "fs/collection.h"
#include "fs/tree_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

size_t tree_target_length(const char *target)
{
	size_t len = strlen(target);
	while (len > 1 && target[len - 1] == '/')
		len--;
	return len;
}

int tree_default_get(const struct tree *t, struct buf *out)
{
	char target[80];
	ssize_t n = readlinkat(tree_fd(t), "models/default", target, sizeof target - 1);
	if (n < 0)
		return errno == ENOENT || errno == EINVAL || errno == ENOTDIR ? 0 : -errno;
	target[n] = '\0';
	target[tree_target_length(target)] = '\0';
	return tree_name_ok(&collection_models, target) ? buf_append_str(out, target) : 0;
}

int tree_default_set(const struct tree *t, const char *name)
{
	if (name && !tree_name_ok(&collection_models, name))
		return -EINVAL;
	int models = tree_file_dir_make(tree_fd(t), "models");
	if (models < 0)
		return models;
	int r = 0;
	char temporary[TREE_FILE_BESIDE];
	tree_file_name_beside("default", temporary);
	if (!name) {
		r = unlinkat(models, "default", 0) < 0 && errno != ENOENT ? -errno : 0;
	} else {
		unlinkat(models, temporary, 0);
		if (symlinkat(name, models, temporary) < 0)
			r = -errno;
		else if (renameat(models, temporary, models, "default") < 0)
			r = -errno;
		if (r < 0)
			unlinkat(models, temporary, 0);
	}
	fsync(models);
	close(models);
	return r;
}
