/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork first, load and mount in the child: threads do not survive a fork. A pipe carries the
 * verdict; an empty one means that the child died without a word.
 */
#include "fs/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct verdict {
	int result;
	struct err err;
};

__attribute__((noreturn)) static void parent(int fd, pid_t child)
{
	struct verdict v;
	ssize_t n;
	do
		n = read(fd, &v, sizeof v);
	while (n < 0 && errno == EINTR);
	if (n != sizeof v) {
		int status = 0;
		waitpid(child, &status, 0);
		fprintf(stderr, "llmfs: the daemon died while it started (%s %d)\n",
			WIFSIGNALED(status) ? "signal" : "status",
			WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		_exit(EXIT_FAILURE);
	}
	if (v.result < 0)
		fprintf(stderr, "llmfs: %s\n", v.err.text);
	_exit(v.result < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

int daemon_begin(void)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	fflush(NULL);
	pid_t pid = fork();
	if (pid < 0) {
		int r = -errno;
		close(fds[0]);
		close(fds[1]);
		return r;
	}
	if (pid > 0) {
		close(fds[1]);
		parent(fds[0], pid);
	}
	close(fds[0]);
	setsid();
	if (chdir("/") < 0)
		return fds[1];
	return fds[1];
}

void daemon_ready(int fd, int result, const struct err *err)
{
	struct verdict v = {.result = result};
	if (result < 0)
		v.err = *err;
	else {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);
		for (int i = 0; null >= 0 && i <= 2; i++)
			dup2(null, i);
		if (null > 2)
			close(null);
	}
	ssize_t ignored = write(fd, &v, sizeof v);
	(void)ignored;
	close(fd);
}

void daemon_raise_files(void)
{
	/* Where the hard limit is all there can be, tables by descriptor would be large. */
	static const rlim_t most = 1 << 20;
	struct rlimit l;
	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return;
	rlim_t want = l.rlim_max < most ? l.rlim_max : most;
	if (l.rlim_cur < want) {
		l.rlim_cur = want;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}
