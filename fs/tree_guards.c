/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TREE/guards: two directories of rule files and the file of the judge. A text is never changed in
 * place, and one that is renamed away in the mount is renamed here, never deleted: whatever
 * happens to the daemon or to an editor, what was saved last is in TREE under one name or the
 * other.
 */
#include "fs/tree_guards.h"

#include "fs/names.h"
#include "fs/tree_file.h"

#include "gateway/gateway_guards.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The directory a file lies in, open, or -errno; *base is its name there. */
static int dir_of(const struct tree *t, const char *file, bool make, const char **base)
{
	int (*open_dir)(int, const char *) = make ? tree_file_dir_make : tree_file_dir;
	int guards = open_dir(tree_fd(t), "guards");
	const char *slash = strchr(file, '/');
	*base = slash ? slash + 1 : file;
	if (guards < 0 || !slash)
		return guards;
	char stage[16];
	snprintf(stage, sizeof stage, "%.*s", (int)(slash - file), file);
	int dir = open_dir(guards, stage);
	close(guards);
	return dir;
}

int tree_guards_get(const struct tree *t, const char *file, struct buf *out)
{
	const char *base;
	int dir = dir_of(t, file, false, &base);
	if (dir < 0)
		return dir;
	int r = tree_file_read(dir, base, TREE_GUARDS_MAX, out);
	close(dir);
	return r;
}

int tree_guards_stat(const struct tree *t, const char *file, struct stat *out)
{
	const char *base;
	int dir = dir_of(t, file, false, &base);
	if (dir < 0)
		return dir;
	int r = fstatat(dir, base, out, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	close(dir);
	return r == 0 && !S_ISREG(out->st_mode) ? -EINVAL : r;
}

int tree_guards_write(struct tree_file_write *w, const struct tree *t, const char *file,
	const char *text, size_t len)
{
	const char *base;
	int dir = dir_of(t, file, true, &base);
	return dir < 0 ? dir : tree_file_write(w, dir, base, text, len);
}

int tree_guards_create(const struct tree *t, const char *file)
{
	const char *base;
	int dir = dir_of(t, file, true, &base);
	if (dir < 0)
		return dir;
	int fd = openat(dir, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	int r = fd < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	close(dir);
	return r;
}

int tree_guards_remove(const struct tree *t, const char *file)
{
	const char *base;
	int dir = dir_of(t, file, false, &base);
	if (dir < 0)
		return dir == -ENOENT ? 0 : dir;
	int r = tree_file_remove(dir, base);
	close(dir);
	return r;
}

int tree_guards_rename(const struct tree *t, const char *file, const char *to)
{
	const char *base, *slash = strchr(to, '/');
	int dir = dir_of(t, file, false, &base);
	if (dir < 0)
		return dir;
	int r = renameat(dir, base, dir, slash ? slash + 1 : to) < 0 ? -errno : 0;
	close(dir);
	return r;
}

int tree_guards_put_aside(
	const struct tree *t, const char *file, const char *wanted, char kept[TREE_GUARDS_NAME])
{
	const char *base;
	int dir = dir_of(t, file, false, &base);
	if (dir < 0)
		return dir;
	int above = (int)(base - file), r = -EEXIST;
	for (int i = 0; i < 10 && r == -EEXIST; i++) {
		if (i == 0)
			snprintf(kept, TREE_GUARDS_NAME, "%.*s%s", above, file, wanted);
		else
			snprintf(kept, TREE_GUARDS_NAME, "%.*s%s.%d", above, file, wanted, i);
		r = renameat2(dir, base, dir, kept + above, RENAME_NOREPLACE) < 0 ? -errno : 0;
	}
	close(dir);
	return r;
}

/* ---- what is there ---- */

typedef bool wanted_fn(const char *file, const char *name);

static bool is_good(const char *file, const char *name)
{
	return gateway_guard_name_ok(file);
}

/* Dots and # begin what editors leave. */
static bool is_bad(const char *file, const char *name)
{
	size_t n = strlen(name);
	return !gateway_guard_name_ok(file) && !strchr(".#", *name) && n > 6 &&
	       !strcmp(name + n - 6, ".rules");
}

static int add(struct names *all, const char *above, const char *name, wanted_fn *wanted)
{
	char file[TREE_GUARDS_NAME];
	snprintf(file, sizeof file, "%s%s", above, name);
	return wanted(file, name) ? names_add(all, file) : 0;
}

int tree_guards_dir_check(const struct tree *t, const char *stage)
{
	char below[16];
	const char *base;
	snprintf(below, sizeof below, "%s/", stage);
	int fd = dir_of(t, below, false, &base);
	if (fd >= 0)
		close(fd);
	return fd == -ENOENT || fd >= 0 ? 0 : fd;
}

static int add_all(const struct tree *t, const char *stage, struct names *all, wanted_fn *wanted)
{
	char above[16];
	const char *base;
	snprintf(above, sizeof above, "%s/", stage);
	int fd = dir_of(t, above, false, &base);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
	DIR *dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	int r = 0;
	errno = 0;
	for (struct dirent *e; r == 0 && (e = readdir(dir)); errno = 0)
		r = add(all, above, e->d_name, wanted);
	r = r ? r : -errno;
	closedir(dir);
	return r;
}

char **tree_guards_names(const struct tree *t)
{
	struct names all = {0};
	struct stat st;
	int r = add_all(t, "input", &all, is_good);
	if (r == 0)
		r = add_all(t, "output", &all, is_good);
	if (r == 0 && tree_guards_stat(t, "moderation", &st) != -ENOENT)
		r = names_add(&all, "moderation");
	return names_take(&all, r);
}

char **tree_guards_bad_names(const struct tree *t)
{
	struct names all = {0};
	int r = add_all(t, "input", &all, is_bad);
	if (r == 0)
		r = add_all(t, "output", &all, is_bad);
	return names_take(&all, r);
}
