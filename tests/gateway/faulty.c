/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/faulty.h"

#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"

enum { NO_PYTHON = 127 };

static void run_server(const char *cert, const char *key)
{
	execlp("python3", "python3", SOURCE "/tests/upstream/faulty.py", cert ? "--cert" : NULL,
		cert, "--key", key, (char *)NULL);
	_exit(NO_PYTHON);
}

static bool read_ports(struct faulty *f, int out)
{
	char line[256] = "";
	FILE *file = fdopen(out, "r");
	bool got = file && fgets(line, sizeof line, file);
	if (file)
		fclose(file);
	return got && sscanf(line, "port %d deaf %d closed %d mute %d tls %d", &f->port, &f->deaf,
			      &f->closed, &f->mute, &f->tls) >= 4;
}

/* Its exit status, or -1. */
static int end(struct faulty *f)
{
	int status = 0;
	pid_t pid = f->pid;
	f->pid = 0;
	close(f->in);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
									       : -1;
}

bool faulty_start(struct faulty *f, const char *cert, const char *key)
{
	int in[2], out[2];
	memset(f, 0, sizeof *f);
	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		return false;
	f->pid = fork();
	if (f->pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		run_server(cert, key);
	}
	close(in[0]);
	close(out[1]);
	f->in = in[1];
	if (f->pid > 0 && read_ports(f, out[0]))
		return true;
	if (end(f) == NO_PYTHON) {
		printf("skip: there is no python3\n");
		return false;
	}
	fprintf(stderr, "tests/upstream/faulty.py does not start\n");
	exit(EXIT_FAILURE); /* no reason to skip: nobody would see that it is broken */
}

void faulty_stop(struct faulty *f)
{
	if (f->pid > 0)
		end(f);
}

static int connect_to(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

json_t *faulty_ask(const struct faulty *f, const char *method, const char *path, const char *body)
{
	struct buf b = {0};
	int fd = connect_to(f->port);
	ck_assert_int_eq(
		buf_printf(&b, "%s %s HTTP/1.1\r\nhost: x\r\ncontent-length: %zu\r\n\r\n%s", method,
			path, strlen(body), body),
		0);
	ck_assert_int_eq(write(fd, b.data, b.len), (ssize_t)b.len);
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	buf_clear(&b);
	for (;;) {
		ck_assert_int_eq(buf_reserve(&b, 65536), 0);
		ssize_t n = read(fd, b.data + b.len, 65536);
		if (n <= 0)
			break;
		b.len += (size_t)n;
	}
	close(fd);
	b.data[b.len] = '\0';
	char *at = strstr(b.data, "\r\n\r\n");
	ck_assert_ptr_nonnull(at);
	json_t *answer = json_loads(at + 4, JSON_ALLOW_NUL, NULL);
	ck_assert_ptr_nonnull(answer);
	buf_free(&b);
	return answer;
}

int faulty_open(const struct faulty *f)
{
	json_t *all = faulty_ask(f, "GET", "/log", "");
	int n = (int)json_integer_value(json_object_get(all, "open"));
	json_decref(all);
	return n;
}

json_t *faulty_log(const struct faulty *f)
{
	json_t *all = faulty_ask(f, "GET", "/log", "");
	json_t *requests = json_incref(json_object_get(all, "requests"));
	json_decref(all);
	return requests;
}
