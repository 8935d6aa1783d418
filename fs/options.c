/* SPDX-License-Identifier: Apache-2.0 */
/*
 * llmfs [TREE] MOUNTPOINT [-o ...], by hand, from fstab (`mount -t fuse.llmfs`, which hands over
 * words that mean something to mount(8) only) or from a service.
 */
#include "fs/options.h"

#include "base/hash.h"
#include "gateway/gateway_shim.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	KEY_FOREGROUND,
	KEY_DEBUG,
	KEY_HELP,
	KEY_VERSION,
	KEY_FILES,
	KEY_CHECK,
	KEY_NUMBER,
	KEY_IGNORED
};

#define FIELD(template, field)                                                                     \
	{                                                                                          \
		template, offsetof(struct options, field), 0                                       \
	}

/* FUSE_OPT_KEY, with the conversion that clang wants to see. */
#define KEY(template, key)                                                                         \
	{                                                                                          \
		template, (unsigned long)-1U, key                                                  \
	}

static const struct fuse_opt spec[] = {
	KEY("-f", KEY_FOREGROUND),
	KEY("-d", KEY_DEBUG),
	KEY("debug", KEY_DEBUG),
	KEY("-h", KEY_HELP),
	KEY("--help", KEY_HELP),
	KEY("-V", KEY_VERSION),
	KEY("--version", KEY_VERSION),
	KEY("--files", KEY_FILES),
	KEY("--check", KEY_CHECK),
	FIELD("state=%s", state),
	FIELD("http=%s", http),
	KEY("max_threads=", KEY_NUMBER),
	KEY("max_sessions=", KEY_NUMBER),
	KEY("max_queued=", KEY_NUMBER),
	KEY("idle_unload=", KEY_NUMBER),
	/* Of mount(8) and fstab. */
	KEY("-n", KEY_IGNORED),
	KEY("-v", KEY_IGNORED),
	KEY("defaults", KEY_IGNORED),
	KEY("auto", KEY_IGNORED),
	KEY("noauto", KEY_IGNORED),
	KEY("nofail", KEY_IGNORED),
	KEY("_netdev", KEY_IGNORED),
	KEY("user", KEY_IGNORED),
	KEY("nouser", KEY_IGNORED),
	KEY("users", KEY_IGNORED),
	KEY("owner", KEY_IGNORED),
	KEY("group", KEY_IGNORED),
	FUSE_OPT_END,
};

/* Numbers, and what each may be. libfuse would take -1 for four thousand millions. */
static const struct number {
	const char *name, *unit; /* what stands before "=" */
	size_t field;
	unsigned least, most;
} numbers[] = {
	{"max_threads", "threads", offsetof(struct options, max_threads), 1, 1000},
	{"max_sessions", "sessions", offsetof(struct options, max_sessions), 1, 1000000},
	{"max_queued", "requests", offsetof(struct options, max_queued), 1, 1000000},
	/* 0: never */
	{"idle_unload", "seconds", offsetof(struct options, idle_unload_s), 0, 31536000},
};

/* The first that is none is told, when all have been read. */
static void take_number(struct options *o, const char *arg)
{
	const char *value = strchr(arg, '=') + 1;
	size_t n = strlen(value);
	const struct number *row = numbers;
	while (strncmp(row->name, arg, strlen(row->name)) || arg[strlen(row->name)] != '=')
		row++;
	bool is = n && n <= 9 && strspn(value, "0123456789") == n;
	unsigned long x = is ? strtoul(value, NULL, 10) : 0;
	if (is && x >= row->least && x <= row->most)
		*(unsigned *)((char *)o + row->field) = (unsigned)x;
	else if (o->fault.text[0] == '\0')
		err_set(&o->fault, -EINVAL, "%s=%.40s: must be a whole number of %s from %u to %u",
			row->name, value, row->unit, row->least, row->most);
}

static int take(void *data, const char *arg, int key, struct fuse_args *out)
{
	struct options *o = data;
	switch (key) {
	case KEY_FOREGROUND:
		o->foreground = true;
		return 0;
	case KEY_DEBUG:
		o->debug = o->foreground = true;
		return 0;
	case KEY_HELP:
		o->help = true;
		return 0;
	case KEY_VERSION:
		o->version = true;
		return 0;
	case KEY_FILES:
		o->files = true;
		return 0;
	case KEY_CHECK:
		o->check = true;
		return 0;
	case KEY_NUMBER:
		take_number(o, arg);
		return 0;
	case KEY_IGNORED:
		return 0;
	case FUSE_OPT_KEY_NONOPT:
		if (o->tree)
			return -1;
		*(o->mountpoint ? &o->tree : &o->mountpoint) = strdup(arg);
		return 0;
	default:
		/* After -o they have no dash; of others libfuse has this one. */
		if (arg[0] == '-' && strcmp(arg, "-r")) {
			o->unknown = o->unknown ? o->unknown : arg;
			return 0;
		}
		return strncmp(arg, "x-", 2) == 0 ? 0 : 1;
	}
}

/* The first positional argument is TREE if there are two. */
static void order(struct options *o)
{
	if (o->tree) {
		char *first = o->mountpoint;
		o->mountpoint = o->tree;
		o->tree = first;
	}
}

/* ---- defaults ---- */

/* Where the example lies: beside an installed program, or in the source tree it was built in. */
static char *default_tree(void)
{
	char path[PATH_MAX + 32];
	if (access(LLMFS_EXAMPLE_TREE, F_OK) == 0)
		return strdup(LLMFS_EXAMPLE_TREE);
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
	if (n <= 0)
		return NULL;
	path[n] = '\0';
	char *slash = strrchr(path, '/');
	if (!slash)
		return NULL;
	strcpy(slash, "/../mnt-example");
	return realpath(path, NULL);
}

/* Makes the directory and those above it. */
static int make_path(char *path)
{
	for (char *p = path + 1;; p++) {
		if (*p != '/' && *p)
			continue;
		char was = *p;
		*p = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return -errno;
		*p = was;
		if (!was)
			return 0;
	}
}

/* One state directory per TREE: its last name for the person, a hash of its path for the rest. */
static int default_state(struct options *o)
{
	const char *base = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char parent[PATH_MAX], path[PATH_MAX + 300];
	if (geteuid() == 0)
		snprintf(parent, sizeof parent, "/var/lib/llmfs");
	else if (base && *base == '/')
		snprintf(parent, sizeof parent, "%s/llmfs", base);
	else if (home && *home == '/')
		snprintf(parent, sizeof parent, "%s/.local/state/llmfs", home);
	else
		return -ENOENT;
	uint64_t hash = hash_text(HASH_BEGIN, o->tree);
	const char *name = strrchr(o->tree, '/');
	snprintf(path, sizeof path, "%s/%.200s-%016llx", parent,
		name && name[1] ? name + 1 : "root", (unsigned long long)hash);
	o->state = strdup(path);
	return o->state ? make_path(parent) : -ENOMEM;
}

/* new: what `path`, which is not there yet, will be. NULL: the directory that it is to be made in
 * is not there either, and *err says so. */
static char *absolute_missing(char *path, struct err *err)
{
	size_t n = strlen(path);
	char *whole = NULL;
	while (n > 1 && path[n - 1] == '/')
		path[--n] = '\0';
	char *slash = strrchr(path, '/');
	const char *last = slash ? slash + 1 : path;
	char *parent = !slash          ? strdup(".")
		       : slash == path ? strdup("/")
				       : strndup(path, (size_t)(slash - path));
	char *real = parent ? realpath(parent, NULL) : NULL;
	if (!real && parent && errno == ENOENT)
		err_set(err, -ENOENT,
			"state directory %s: there is no directory %s to make it in: of -o "
			"state=DIR "
			"only the last one is made",
			path, parent);
	else if (!real)
		err_set(err, -errno, "state directory %s: %s", path, strerror(errno));
	else if (asprintf(&whole, "%s%s%s", real, real[1] ? "/" : "", last) < 0) {
		whole = NULL;
		err_set(err, -ENOMEM, "out of memory");
	}
	free(parent);
	free(real);
	return whole;
}

/* Makes the directory that a person has named absolute. A slip in its path is to be seen: an empty
 * one in a place that nobody meant would come up without conversations, keys and spending. */
static int absolute(char **path, struct err *err)
{
	char *real = realpath(*path, NULL);
	if (!real && errno == ENOENT)
		real = absolute_missing(*path, err);
	else if (!real)
		err_set(err, -errno, "state directory %s: %s", *path, strerror(errno));
	if (!real)
		return -EINVAL;
	free(*path);
	*path = real;
	return 0;
}

static bool is_within(const char *path, const char *dir, const char *below)
{
	char whole[PATH_MAX + 16];
	size_t n = (size_t)snprintf(whole, sizeof whole, "%s%s", dir, below);
	return !strncmp(path, whole, n) && (path[n] == '/' || !path[n]);
}

/* A daemon that had to ask its own mount for its configuration or store would wait for itself. */
static int check_apart(const struct options *o, struct err *err)
{
	if (is_within(o->tree, o->mountpoint, "") || is_within(o->mountpoint, o->tree, "/models"))
		return err_set(err, -EINVAL, "TREE %s: the mount point %s would hide it", o->tree,
			o->mountpoint);
	if (is_within(o->state, o->mountpoint, ""))
		return err_set(err, -EINVAL, "state directory %s: the mount point %s would hide it",
			o->state, o->mountpoint);
	return 0;
}

static bool has(const char *dir, const char *name)
{
	char path[PATH_MAX + 16];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return access(path, F_OK) == 0;
}

/* And is no mount, which has sessions. */
static bool is_like_a_tree(const char *path)
{
	return (has(path, "models") || has(path, "guards")) && !has(path, "sessions");
}

static int complete(struct options *o, struct err *err)
{
	if (!o->mountpoint)
		return err_set(err, -EINVAL, "no mount point given; see llmfs --help");
	/* The example would be mounted over what somebody has meant as TREE. */
	if (!o->tree && is_like_a_tree(o->mountpoint))
		return err_set(err, -EINVAL,
			"%s is like a TREE, and no mount point is given: llmfs TREE MOUNTPOINT",
			o->mountpoint);
	if (!o->tree)
		o->tree = default_tree();
	if (!o->tree)
		return err_set(err, -ENOENT,
			"no TREE given, and the example that comes with llmfs is not there");
	char *real = realpath(o->tree, NULL);
	if (!real)
		return err_set(err, -errno, "TREE %s: %s", o->tree, strerror(errno));
	free(o->tree);
	o->tree = real;
	real = realpath(o->mountpoint, NULL);
	if (!real)
		return err_set(err, -errno, "mount point %s: %s", o->mountpoint, strerror(errno));
	free(o->mountpoint);
	o->mountpoint = real;
	if (o->state && !*o->state)
		return err_set(err, -EINVAL, "state= needs a directory");
	bool named = o->state;
	int r = named ? absolute(&o->state, err) : default_state(o);
	if (r < 0 && named)
		return r;
	if (r == -ENOENT && !o->state)
		return err_set(err, r,
			"neither XDG_STATE_HOME nor HOME is set: name a state "
			"directory with -o state=DIR");
	if (r < 0)
		return err_set(
			err, r, "state directory %s: %s", o->state ? o->state : "", strerror(-r));
	return check_apart(o, err);
}

/* Its only argument is TREE. */
static int complete_check(struct options *o, struct err *err)
{
	if (o->tree)
		return err_set(err, -EINVAL, "--check takes a TREE and no mount point");
	o->checks_example = !o->mountpoint;
	o->tree = o->mountpoint ? o->mountpoint : default_tree();
	o->mountpoint = NULL;
	return o->tree ? 0 : err_set(err, -ENOENT, "no TREE given; see llmfs --help");
}

int options_parse(struct options *o, int argc, char **argv, struct err *err)
{
	o->args = (struct fuse_args)FUSE_ARGS_INIT(argc, argv);
	o->max_threads = 10;
	if (fuse_opt_parse(&o->args, o, spec, take) < 0)
		return err_set(err, -EINVAL, "bad arguments; see llmfs --help");
	order(o);
	if (o->help || o->version || o->files)
		return 0;
	if (o->unknown)
		return err_set(err, -EINVAL, "unknown option %s; see llmfs --help", o->unknown);
	if (*o->fault.text)
		return err_set(err, -EINVAL, "%s", o->fault.text);
	if (o->http && shim_address_check(o->http, err) < 0)
		return -EINVAL;
	if (o->check)
		return complete_check(o, err);
	return complete(o, err);
}

void options_free(struct options *o)
{
	free(o->tree);
	free(o->mountpoint);
	free(o->state);
	free(o->http);
	fuse_opt_free_args(&o->args);
}

void options_help(void)
{
	puts("usage: llmfs [options] [TREE] MOUNTPOINT\n"
	     "\n"
	     "Mounts the configuration directory TREE (default: the example that comes with\n"
	     "llmfs) as a live stack of language models.\n"
	     "\n"
	     "    -f                  stay in the foreground, log to standard error\n"
	     "    -d                  print each request; implies -f\n"
	     "    -o state=DIR        where conversations, keys and cached answers are kept "
	     "(below\n"
	     "                        ~/.local/state/llmfs; of root: /var/lib/llmfs)\n"
	     "    -o allow_other      let other users in; mode bits decide what they see\n"
	     "    -o http=HOST:PORT   answer OpenAI's clients there, with keys of keys/ (nowhere)\n"
	     "    -o max_threads=N    threads that serve requests (10)\n"
	     "    -o max_sessions=N   sessions a user may have (1000)\n"
	     "    -o max_queued=N     requests that may queue in a session (64)\n"
	     "    -o idle_unload=S    unload a model not used for S seconds (never)\n"
	     "    -o OPTION,...       other options of FUSE, see mount.fuse3(8)\n"
	     "    --check [TREE]      read TREE (default: as above), print its faults, exit\n"
	     "    --files             print the table of files, and exit\n"
	     "    --help, --version\n"
	     "\n"
	     "    cat MOUNTPOINT/README        a tour; llmfs(1) and llmfs-files(7) say all of it\n"
	     "    fusermount3 -u MOUNTPOINT    unmounts");
}
