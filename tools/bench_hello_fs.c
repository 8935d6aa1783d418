/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The least filesystem that a read can come from: one file, `hello`, whose bytes are in memory, on
 * libfuse's low-level API with its multi-threaded loop. tools/bench_fs measures a read of it beside
 * a read of an answer, to know what FUSE itself costs here and now.
 *
 *   bench_hello_fs MOUNTPOINT      stays in the foreground until unmounted
 */

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char text[] = "Hello, this text is here already and only has to be handed over.\n";

enum { ROOT_INO = 1, HELLO_INO = 2 };

static int fill(fuse_ino_t ino, struct stat *st)
{
	*st = (struct stat){.st_ino = ino, .st_nlink = 1};
	if (ino == ROOT_INO)
		st->st_mode = S_IFDIR | 0755;
	else if (ino == HELLO_INO)
		st->st_mode = S_IFREG | 0444;
	else
		return -ENOENT;
	return 0;
}

static void hello_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = {.ino = HELLO_INO};

	if (parent != ROOT_INO || strcmp(name, "hello") != 0) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	fill(HELLO_INO, &entry.attr);
	fuse_reply_entry(req, &entry);
}

static void hello_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	if (fill(ino, &st) < 0)
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_attr(req, &st, 0);
}

/* direct_io, as llmfs opens its live files: every read reaches the filesystem. */
static void hello_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (ino != HELLO_INO) {
		fuse_reply_err(req, EISDIR);
		return;
	}
	fi->direct_io = 1;
	fuse_reply_open(req, fi);
}

static void hello_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	size_t len = strlen(text), at = offset < (off_t)len ? (size_t)offset : len;

	fuse_reply_buf(req, text + at, size < len - at ? size : len - at);
}

static const struct fuse_lowlevel_ops operations = {
	.lookup = hello_lookup,
	.getattr = hello_getattr,
	.open = hello_open,
	.read = hello_read,
};

int main(int argc, char **argv)
{
	char *fuse_argv[] = {argv[0]};
	struct fuse_args args = FUSE_ARGS_INIT(1, fuse_argv);
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	struct fuse_session *session;
	int r = 1;

	if (argc != 2) {
		fprintf(stderr, "usage: bench_hello_fs MOUNTPOINT\n");
		return 2;
	}
	session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (session && fuse_set_signal_handlers(session) == 0) {
		if (fuse_session_mount(session, argv[1]) == 0) {
			fuse_loop_cfg_set_clone_fd(config, 1);
			r = fuse_session_loop_mt(session, config) != 0;
			fuse_session_unmount(session);
		}
		fuse_remove_signal_handlers(session);
	}
	if (session)
		fuse_session_destroy(session);
	fuse_loop_cfg_destroy(config);
	fuse_opt_free_args(&args);
	return r;
}
