/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the filesystem costs beside the model (docs/bench.md). Starts an llmfs of its own on a
 * temporary TREE with one model, and a bare FUSE filesystem beside it, and measures:
 *
 *   overhead  from the return of close(in) to the first byte of an `out` that was open already,
 *             less the engine's own time to first token (queue and prefill of the session's trace)
 *   read      a read of bytes that are there, beside the same read of the bare filesystem, taken in
 *             turns so that both see the same moods of the machine
 *   stat      of a live file, while many readers stream, and while they are parked
 *   memory    of idle sessions
 *
 *   bench_fs --llmfs BIN --hello BIN --model FILE.gguf [--readers N] [--sessions N]
 *
 * Numbers are medians unless they say otherwise; each line is `name value`.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

static char scratch[] = "/tmp/llmfs-bench.XXXXXX";
static char mount_path[128], hello_path[128];
static pid_t llmfs_pid, hello_pid;

/* ---- small things ---- */

static void clean_up(void)
{
	char command[256];

	if (llmfs_pid > 0 && kill(llmfs_pid, SIGTERM) == 0)
		waitpid(llmfs_pid, NULL, 0);
	if (hello_pid > 0 && kill(hello_pid, SIGTERM) == 0)
		waitpid(hello_pid, NULL, 0);
	snprintf(command, sizeof(command), "rm -rf --one-file-system %s", scratch);
	if (system(command) != 0)
		fprintf(stderr, "could not remove %s\n", scratch);
}

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, ": %s\n", strerror(errno));
	exit(1);
}

__attribute__((format(printf, 1, 2))) static const char *path_of(const char *format, ...)
{
	static _Thread_local char path[512];
	int n = snprintf(path, sizeof(path), "%s/", mount_path);
	va_list args;

	va_start(args, format);
	vsnprintf(path + n, sizeof(path) - (size_t)n, format, args);
	va_end(args);
	return path;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	size_t n = strlen(text);

	if (fd < 0 || write(fd, text, n) != (ssize_t)n || close(fd) < 0)
		die("%s", path);
}

static void read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY);
	size_t at = 0;
	ssize_t n = 0;

	while (fd >= 0 && at < size - 1 && (n = read(fd, text + at, size - 1 - at)) > 0)
		at += (size_t)n;
	if (fd < 0 || n < 0)
		die("%s", path);
	close(fd);
	text[at] = '\0';
}

static int order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The p-quantile; sorts the values. */
static double quantile(double *values, size_t n, double p)
{
	qsort(values, n, sizeof(*values), order);
	return n ? values[(size_t)(p * (double)(n - 1) + 0.5)] : 0;
}

/* The number in the line `name NUMBER` of a text; 0 when there is none. */
static double number_of(const char *text, const char *name)
{
	size_t n = strlen(name);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, n) == 0 && line[n] == ' ')
			return strtod(line + n, NULL);
	}
	return 0;
}

static double since_us(uint64_t begin_ns)
{
	return (double)(clock_mono_ns() - begin_ns) / 1e3;
}

/* ---- the two filesystems ---- */

static pid_t start(char *const argv[], const char *mountpoint)
{
	struct stat before, now;
	pid_t pid;

	if (stat(mountpoint, &before) < 0)
		die("%s", mountpoint);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM); /* it unmounts and ends with us, however we end */
		execv(argv[0], argv);
		_exit(127);
	}
	for (int i = 0; i < 1000; i++) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			break;
		if (stat(mountpoint, &now) == 0 && now.st_dev != before.st_dev)
			return pid;
		usleep(10000);
	}
	errno = ETIMEDOUT;
	die("%s did not mount", argv[0]);
}

static void start_both(char *llmfs, char *hello, const char *model)
{
	char tree[128], state[160], path[256], text[512];

	if (!mkdtemp(scratch))
		die("%s", scratch);
	atexit(clean_up);
	snprintf(tree, sizeof(tree), "%s/tree", scratch);
	snprintf(state, sizeof(state), "state=%s/state", scratch);
	snprintf(mount_path, sizeof(mount_path), "%s/mnt", scratch);
	snprintf(hello_path, sizeof(hello_path), "%s/hello", scratch);
	snprintf(path, sizeof(path), "%s/models", tree);
	if (mkdir(tree, 0755) < 0 || mkdir(path, 0755) < 0 || mkdir(mount_path, 0755) < 0 ||
		mkdir(hello_path, 0755) < 0)
		die("%s", scratch);
	snprintf(path, sizeof(path), "%s/models/bench", tree);
	if (mkdir(path, 0755) < 0)
		die("%s", path);
	snprintf(path, sizeof(path), "%s/models/bench/path", tree);
	snprintf(text, sizeof(text), "%s\n", model);
	write_file(path, text);
	snprintf(path, sizeof(path), "%s/models/default", tree);
	if (symlink("bench", path) < 0)
		die("%s", path);

	char foreground[] = "-f", option[] = "-o";
	hello_pid = start((char *[]){hello, hello_path, NULL}, hello_path);
	llmfs_pid = start(
		(char *[]){llmfs, foreground, option, state, tree, mount_path, NULL}, mount_path);
	write_file(path_of("models/bench/ctl"), "load\n");
	for (int i = 0; i < 3000; i++) {
		read_file(path_of("models/bench/state"), text, sizeof(text));
		if (strcmp(text, "ready\n") == 0)
			return;
		usleep(10000);
	}
	errno = ETIMEDOUT;
	die("the model is not ready: %s", text);
}

static void ask(const char *session, const char *prompt)
{
	write_file(path_of("sessions/%s/in", session), prompt);
}

static void set(const char *session, const char *file, const char *value)
{
	write_file(path_of("sessions/%s/%s", session, file), value);
}

static void make_session(const char *session)
{
	if (mkdir(path_of("sessions/%s", session), 0700) < 0)
		die("session %s", session);
}

/* ---- overhead ---- */

enum { ROUNDS = 300 };

/* One question: microseconds from close(in) to the first byte, and the session's trace after it. */
static double first_byte_us(char *trace, size_t size)
{
	char byte[64];
	uint64_t begin;
	double us;

	write_file(path_of("sessions/first/ctl"), "clear\n");
	int out = open(path_of("sessions/first/out"), O_RDONLY);
	int in = open(path_of("sessions/first/in"), O_WRONLY | O_TRUNC);
	if (out < 0 || in < 0 || write(in, "What is a session?\n", 19) != 19 || close(in) < 0)
		die("asking");
	begin = clock_mono_ns();
	if (read(out, byte, sizeof(byte)) <= 0)
		die("no first byte");
	us = since_us(begin);
	while (read(out, byte, sizeof(byte)) > 0)
		;
	close(out);
	read_file(path_of("sessions/first/trace"), trace, size);
	return us;
}

static void measure_overhead(void)
{
	static const char *const stages[] = {
		"session_ms", "load_ms", "render_ms", "queue_ms", "prefill_ms"};
	static double whole[ROUNDS], less_engine[ROUNDS], of_stage[5][ROUNDS];
	char trace[4096];

	make_session("first");
	set("first", "max_tokens", "4\n");
	for (int i = 0; i < 20; i++)
		first_byte_us(trace, sizeof(trace));
	for (int i = 0; i < ROUNDS; i++) {
		whole[i] = first_byte_us(trace, sizeof(trace));
		for (int k = 0; k < 5; k++)
			of_stage[k][i] = 1e3 * number_of(trace, stages[k]);
		less_engine[i] = whole[i] - of_stage[3][i] - of_stage[4][i];
	}
	printf("overhead_close_to_first_byte_us %.1f\n", quantile(whole, ROUNDS, 0.5));
	for (int k = 0; k < 5; k++)
		printf("overhead_stage_%.*s_us %.1f\n", (int)strlen(stages[k]) - 3, stages[k],
			quantile(of_stage[k], ROUNDS, 0.5));
	printf("overhead_less_engine_us %.1f\n", quantile(less_engine, ROUNDS, 0.5));
	printf("overhead_less_engine_p90_us %.1f\n", quantile(less_engine, ROUNDS, 0.9));
}

/* ---- read ---- */

static double one_read_us(int fd)
{
	char bytes[32];
	uint64_t begin = clock_mono_ns();

	if (pread(fd, bytes, sizeof(bytes), 0) <= 0)
		die("read");
	return since_us(begin);
}

/* All threads of a process onto one processor (or, with cpu -1, onto any). */
static void pin(pid_t pid, int cpu)
{
	char path[64];
	struct dirent *entry;
	cpu_set_t set;
	DIR *tasks;

	CPU_ZERO(&set);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (cpu < 0 || i == cpu)
			CPU_SET(i, &set);
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks)) != NULL)
		if (entry->d_name[0] != '.')
			sched_setaffinity(atoi(entry->d_name), sizeof(set), &set);
	if (tasks)
		closedir(tasks);
}

/* Who wakes whom on which processor decides more than what is compared here, so all three sit on
 * one. */
static void pin_all(int cpu)
{
	pin(getpid(), cpu);
	pin(llmfs_pid, cpu);
	pin(hello_pid, cpu);
}

static void measure_read(void)
{
	enum { TURNS = 40, READS = 500 };
	static double ours[TURNS * READS], bare[TURNS * READS], ratio[TURNS];
	char path[256];

	snprintf(path, sizeof(path), "%s/hello", hello_path);
	int hello = open(path, O_RDONLY), out = open(path_of("sessions/first/out"), O_RDONLY);
	if (hello < 0 || out < 0)
		die("read");
	pin_all(0);
	for (int i = 0; i < TURNS; i++) {
		double *a = ours + i * READS, *b = bare + i * READS, copy[READS];
		for (int k = 0; k < READS; k++)
			a[k] = one_read_us(out);
		for (int k = 0; k < READS; k++)
			b[k] = one_read_us(hello);
		memcpy(copy, a, sizeof(copy));
		ratio[i] = quantile(copy, READS, 0.5);
		memcpy(copy, b, sizeof(copy));
		ratio[i] /= quantile(copy, READS, 0.5);
	}
	pin_all(-1);
	close(hello);
	close(out);
	printf("read_there_us %.2f\n", quantile(ours, TURNS * READS, 0.5));
	printf("read_hello_us %.2f\n", quantile(bare, TURNS * READS, 0.5));
	printf("read_ratio %.2f\n", quantile(ratio, TURNS, 0.5));
}

/* ---- stat ---- */

struct reader {
	pthread_t thread;
	int fd;
};

static _Atomic uint64_t bytes_read;

static void *read_all(void *arg)
{
	struct reader *r = arg;
	char bytes[256];
	ssize_t n;

	while ((n = read(r->fd, bytes, sizeof(bytes))) > 0)
		bytes_read += (uint64_t)n;
	close(r->fd);
	return NULL;
}

static int n_threads_of(pid_t pid)
{
	char path[64], text[8192];

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	read_file(path, text, sizeof(text));
	const char *line = strstr(text, "\nThreads:");
	return line ? atoi(line + 9) : 0;
}

/* Stats a file that no reader uses, now and then for some seconds. */
static void stat_for(const char *name, double seconds)
{
	enum { MOST = 4096 };
	static double us[MOST];
	struct stat st;
	size_t n = 0;

	for (uint64_t begin = clock_mono_ns(); n < MOST && since_us(begin) < seconds * 1e6; n++) {
		uint64_t now = clock_mono_ns();
		if (stat(path_of("sessions/first/status"), &st) < 0)
			die("stat");
		us[n] = since_us(now);
		usleep(5000);
	}
	printf("stat_beside_%s_us %.1f\n", name, quantile(us, n, 0.5));
	printf("stat_beside_%s_p99_us %.1f\n", name, quantile(us, n, 0.99));
	printf("stat_beside_%s_max_us %.1f\n", name, quantile(us, n, 1));
}

/* `parked`: the answers wait in their sessions' queues behind one that takes its time. */
static void measure_stat(int n_readers, bool parked)
{
	enum { SESSIONS = 8 };
	struct reader *readers = calloc((size_t)n_readers, sizeof(*readers));
	const char *name = parked ? "parked" : "streaming";
	int threads = n_threads_of(llmfs_pid);
	pthread_attr_t attr;
	char session[32];

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	for (int i = 0; i < SESSIONS; i++) {
		snprintf(session, sizeof(session), "%s%d", name, i);
		make_session(session);
		set(session, "ignore_eos", "1\n");
		set(session, "max_tokens", "100000\n");
		ask(session, "Tell me a long story.\n");
		if (parked)
			ask(session, "And another one.\n");
	}
	bytes_read = 0;
	for (int i = 0; i < n_readers; i++) {
		readers[i].fd = open(path_of("sessions/%s%d/out", name, i % SESSIONS), O_RDONLY);
		if (readers[i].fd < 0 ||
			pthread_create(&readers[i].thread, &attr, read_all, &readers[i]) != 0)
			die("reader %d", i);
	}
	usleep(500000);
	uint64_t begin = clock_mono_ns(), from = bytes_read;
	stat_for(name, 4);
	double seconds = since_us(begin) / 1e6;
	printf("stat_beside_%s_readers %d\n", name, n_readers);
	printf("stat_beside_%s_bytes_per_s %.0f\n", name, (double)(bytes_read - from) / seconds);
	printf("stat_beside_%s_new_threads %d\n", name, n_threads_of(llmfs_pid) - threads);
	for (int i = 0; i < SESSIONS; i++) {
		snprintf(session, sizeof(session), "%s%d", name, i);
		set(session, "ctl", "cancel\n");
		set(session, "ctl", "cancel\n");
	}
	for (int i = 0; i < n_readers; i++)
		pthread_join(readers[i].thread, NULL);
	for (int i = 0; i < SESSIONS; i++)
		rmdir(path_of("sessions/%s%d", name, i));
	pthread_attr_destroy(&attr);
	free(readers);
}

/* ---- memory ---- */

static double kilobytes_of(pid_t pid)
{
	char path[64], text[8192];

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	read_file(path, text, sizeof(text));
	const char *line = strstr(text, "\nRssAnon:");
	return line ? strtod(line + 9, NULL) : 0;
}

static void measure_memory(int n_sessions)
{
	char session[32], bytes[256];

	sleep(1);
	double before = kilobytes_of(llmfs_pid);
	for (int i = 0; i < n_sessions; i++) {
		snprintf(session, sizeof(session), "idle%d", i);
		make_session(session);
	}
	sleep(2);
	double made = kilobytes_of(llmfs_pid);
	printf("memory_sessions %d\n", n_sessions);
	printf("memory_per_new_session_kb %.2f\n", (made - before) / n_sessions);
	for (int i = 0; i < n_sessions; i++) {
		snprintf(session, sizeof(session), "idle%d", i);
		set(session, "max_tokens", "16\n");
		ask(session, "What is a session?\n");
		read_file(path_of("sessions/%s/out", session), bytes, sizeof(bytes));
	}
	sleep(2);
	printf("memory_per_session_after_a_turn_kb %.2f\n",
		(kilobytes_of(llmfs_pid) - before) / n_sessions);
	for (int i = 0; i < n_sessions; i++)
		rmdir(path_of("sessions/idle%d", i));
}

int main(int argc, char **argv)
{
	char *llmfs = NULL, *hello = NULL, *model = NULL;
	int readers = 1000, sessions = 990; /* a user may have 1,000, `main` and ours among them */
	struct rlimit files = {.rlim_cur = 65536, .rlim_max = 65536};

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--llmfs") == 0)
			llmfs = argv[i + 1];
		else if (strcmp(argv[i], "--hello") == 0)
			hello = argv[i + 1];
		else if (strcmp(argv[i], "--model") == 0)
			model = realpath(argv[i + 1], NULL);
		else if (strcmp(argv[i], "--readers") == 0)
			readers = atoi(argv[i + 1]);
		else if (strcmp(argv[i], "--sessions") == 0)
			sessions = atoi(argv[i + 1]);
	}
	if (!llmfs || !hello || !model || readers < 1 || sessions < 1) {
		fprintf(stderr, "usage: bench_fs --llmfs BIN --hello BIN --model FILE.gguf "
				"[--readers N] [--sessions N]\n");
		return 2;
	}
	setrlimit(RLIMIT_NOFILE, &files);
	setvbuf(stdout, NULL, _IOLBF, 0);
	start_both(llmfs, hello, model);
	measure_overhead();
	measure_read();
	measure_memory(sessions);
	measure_stat(readers, true);
	measure_stat(readers, false);
	return 0;
}
