/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server of OpenAI's protocol costs that stands before another one: /v1/chat/completions
 * over kept-alive connections, of several servers in turns, so that all see the same moods of the
 * machine (docs/bench.md; tools/bench_shim.py starts them).
 *
 *	bench-shim [-c AT_ONCE] [-n REQUESTS] [-r ROUNDS] [-t TOKENS] [-g US] [-l SECONDS]
 *		[-m MODEL] [-s] [-h] NAME:PORT[:PID[:KEY]]...
 *
 * The first server is the one behind all others, tools/loopback_server.c with as many TOKENS: what
 * others take more than it is `added`. A round asks each of them REQUESTS times, AT_ONCE at a time,
 * each connection its next one as soon as the one before has ended. Every prompt is another one;
 * with -h always the same one. -s: streamed. -g: one request begins each US microseconds, however
 * many are under way (as many as there are connections). -l: nothing is begun after so long a turn
 * (10 s); a server too slow for REQUESTS is asked fewer.
 *
 * Before each turn are some requests that are not counted: another server ran before. With more
 * than 64 at a time only before the first: then there are as many, so that memory and connections
 * behind are there.
 *
 * `whole` is from the first byte sent to the last one received, `first` to the first text, in
 * microseconds, 50th and 99th percentile; `wrong` counts answers whose text, held against what the
 * server says, was not all of it in order, or that had no end. `cpu` is the processor time of PID
 * for 1,000 requests, `rss` its memory in the middle of a turn, the most of all turns. One thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench_shim_peer.h"

enum { SERVERS = 8, EVENTS = 64, SILENCE_MS = 60000, WARM = 20, WARM_EACH = 64 };

struct server {
	const char *name, *key;
	int port;
	pid_t pid;
	int epoll;
	struct bench_shim_peer *peers; /* [at_once] */
	double *whole_us, *first_us;   /* [rounds * n_requests] */
	size_t n;
	size_t frames, bytes, wrong, most_live;
	uint64_t wall_ns, cpu_ns;
	size_t rss;
};

static size_t at_once = 1, n_requests = 600, rounds = 5, tokens = 3;
static uint64_t gap_ns, turn_ns = 10000000000;
static bool streamed, same_prompt;
static const char *model = "m";
static struct server servers[SERVERS];
static size_t n_servers;

static void fail(const struct server *s, const char *what, const char *more)
{
	fprintf(stderr, "bench-shim: %s: %s%s%s\n", s ? s->name : "", what, more ? ": " : "",
		more ? more : "");
	exit(1);
}

/* ---- one request ---- */

/* A number as letters: digits would be a card's or a telephone's to some rule. */
static const char *letters(uint64_t n, char out[16])
{
	char *at = out + 15;
	for (*at = '\0'; at > out; n /= 26) {
		*--at = (char)('a' + n % 26);
		if (n < 26)
			break;
	}
	return at;
}

static void ask(struct server *s, struct bench_shim_peer *p)
{
	static uint64_t run, serial;
	static char body[1024], request[2048];
	char run_letters[16], serial_letters[16];
	if (!run)
		run = clock_mono_ns() / 1000;
	int len = snprintf(body, sizeof body,
		"{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"Question %s %s: "
		"please explain in a few plain words how a filesystem can stand in front of a "
		"language model, and what a person at a shell gains by it; the shorter the answer, "
		"the better.\"}],\"max_tokens\":%zu,\"temperature\":0%s}",
		model, letters(run, run_letters),
		letters(same_prompt ? 0 : serial++, serial_letters), tokens + 253,
		streamed ? ",\"stream\":true" : "");
	len = snprintf(request, sizeof request,
		"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n"
		"authorization: Bearer %s\r\ncontent-type: application/json\r\n"
		"content-length: %d\r\n\r\n%s",
		s->port, s->key, len, body);
	int r = bench_shim_peer_ask(p, request, (size_t)len, streamed);
	if (r < 0)
		fail(s, "cannot send", strerror(-r));
}

static void count(struct server *s, const struct bench_shim_peer *p)
{
	s->whole_us[s->n] = (double)(p->end_ns - p->sent_ns) / 1e3;
	s->first_us[s->n++] = (double)(p->first_ns - p->sent_ns) / 1e3;
	s->frames += p->frames;
	s->bytes += p->bytes;
	s->wrong += !p->right || !p->done;
}

/* Whether its answer is whole. */
static bool take(struct server *s, struct bench_shim_peer *p, bool wait)
{
	int r = bench_shim_peer_take(p, wait);
	if (r < 0)
		fail(s, strerror(-r), p->body.data);
	return r == 1;
}

/* ---- a turn ---- */

struct turn {
	struct server *server;
	size_t n, begun, ended;
	uint64_t begin_ns;
	bool counted;
};

static size_t resident(pid_t pid)
{
	char path[64];
	size_t size = 0, pages = 0;
	snprintf(path, sizeof path, "/proc/%d/statm", pid);
	FILE *f = pid ? fopen(path, "re") : NULL;
	if (f && fscanf(f, "%zu %zu", &size, &pages) != 2)
		pages = 0;
	if (f)
		fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static uint64_t processor_ns(pid_t pid)
{
	clockid_t clock;
	struct timespec t = {0};
	if (pid && clock_getcpuclockid(pid, &clock) == 0)
		clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void end_one(struct turn *t, const struct bench_shim_peer *p)
{
	struct server *s = t->server;
	if (t->counted)
		count(s, p);
	size_t live = t->begun - t->ended;
	s->most_live = live > s->most_live ? live : s->most_live;
	if (++t->ended == (t->n + 1) / 2) {
		size_t rss = resident(s->pid);
		s->rss = rss > s->rss ? rss : s->rss;
	}
}

/* Whether another request may begin. */
static bool has_more(struct turn *t)
{
	if (t->begun < t->n && clock_mono_ns() - t->begin_ns > turn_ns)
		t->n = t->begun;
	return t->begun < t->n;
}

static void run_alone(struct turn *t)
{
	struct bench_shim_peer *p = &t->server->peers[0];
	while (has_more(t)) {
		t->begun++;
		ask(t->server, p);
		while (!take(t->server, p, true))
			;
		end_one(t, p);
	}
}

/* Begins what is due on connections that have nothing under way. Returns for how many milliseconds
 * nothing more is. */
static int begin_due(struct turn *t, struct bench_shim_peer **idle, size_t *n_idle)
{
	while (*n_idle && has_more(t)) {
		uint64_t due_ns = t->begin_ns + gap_ns * t->begun, now_ns = clock_mono_ns();
		if (due_ns > now_ns)
			return (int)((due_ns - now_ns) / 1000000);
		t->begun++;
		ask(t->server, idle[--*n_idle]);
	}
	return SILENCE_MS;
}

static void run_many(struct turn *t)
{
	struct epoll_event events[EVENTS];
	struct bench_shim_peer **idle = calloc(at_once, sizeof(struct bench_shim_peer *));
	size_t n_idle = 0;
	if (!idle)
		fail(t->server, "out of memory", NULL);
	while (n_idle < at_once) {
		idle[n_idle] = &t->server->peers[at_once - 1 - n_idle];
		n_idle++;
	}
	while (t->ended < t->n) {
		int wait_ms = begin_due(t, idle, &n_idle);
		int n = epoll_wait(t->server->epoll, events, EVENTS, wait_ms);
		if (n == 0 && wait_ms == SILENCE_MS)
			fail(t->server, "nothing came for a minute", NULL);
		for (int i = 0; i < n; i++) {
			struct bench_shim_peer *p = events[i].data.ptr;
			if (!take(t->server, p, false))
				continue;
			end_one(t, p);
			idle[n_idle++] = p;
		}
	}
	free(idle);
}

/* Servers close connections that were idle while others had their turn. */
static void connect_all(struct server *s)
{
	for (size_t i = 0; i < at_once; i++) {
		struct epoll_event e = {.events = EPOLLIN, .data.ptr = &s->peers[i]};
		int r = bench_shim_peer_open(&s->peers[i], s->port);
		if (r < 0)
			fail(s, "connect", strerror(-r));
		epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->peers[i].fd, &e);
	}
}

static void close_all(struct server *s)
{
	for (size_t i = 0; i < at_once; i++)
		bench_shim_peer_close(&s->peers[i]);
}

static void run(struct server *s, size_t n, bool counted)
{
	struct turn t = {.server = s, .n = n, .counted = counted, .begin_ns = clock_mono_ns()};
	uint64_t cpu_ns = processor_ns(s->pid);
	if (at_once == 1)
		run_alone(&t);
	else
		run_many(&t);
	if (!counted)
		return;
	s->wall_ns += clock_mono_ns() - t.begin_ns;
	s->cpu_ns += processor_ns(s->pid) - cpu_ns;
}

static void warm_up(struct server *s)
{
	run(s, at_once < WARM ? WARM : at_once, false);
	if (at_once > WARM_EACH) { /* those that ended first were idle since */
		close_all(s);
		connect_all(s);
	}
}

/* ---- servers, and what is said of them ---- */

static void open_server(char *words)
{
	struct server *s = &servers[n_servers++];
	size_t room = n_requests * rounds;
	s->name = strsep(&words, ":");
	s->port = words ? atoi(strsep(&words, ":")) : 0;
	s->pid = words ? atoi(strsep(&words, ":")) : 0;
	s->key = words ? words : "none";
	s->peers = calloc(at_once, sizeof *s->peers);
	s->whole_us = calloc(room, sizeof *s->whole_us);
	s->first_us = calloc(room, sizeof *s->first_us);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!s->peers || !s->whole_us || !s->first_us || s->epoll < 0)
		fail(s, "out of memory", NULL);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double quantile(double *values, size_t n, double p)
{
	qsort(values, n, sizeof *values, compare);
	return values[(size_t)(p * (double)n)];
}

static void print_times(const char *what, double *us, size_t n, double *base_us, size_t n_base)
{
	double p50 = quantile(us, n, 0.5), p99 = quantile(us, n, 0.99);
	printf("  %s %8.1f %8.1f added %8.1f %8.1f", what, p50, p99,
		p50 - quantile(base_us, n_base, 0.5), p99 - quantile(base_us, n_base, 0.99));
}

static void print(struct server *s, struct server *base)
{
	printf("%-8s", s->name);
	print_times("whole", s->whole_us, s->n, base->whole_us, base->n);
	if (streamed)
		print_times("first", s->first_us, s->n, base->first_us, base->n);
	printf("  %6.0f/s", (double)s->n * 1e9 / (double)s->wall_ns);
	if (s->pid)
		printf("  cpu %.3f s  rss %.1f MB", (double)s->cpu_ns / 1e6 / (double)s->n,
			(double)s->rss / 1e6);
	printf("  %zu answers, %zu at once, %zu frames, %zu bytes, %zu wrong\n", s->n, s->most_live,
		s->frames, s->bytes, s->wrong);
}

static bool read_options(int argc, char **argv)
{
	for (int c; (c = getopt(argc, argv, "c:n:r:t:g:l:m:sh")) >= 0;) {
		size_t n = optarg && c != 'm' ? strtoul(optarg, NULL, 10) : 1;
		if (!n || n > 10000000)
			return false;
		switch (c) {
		case 'c':
			at_once = n;
			break;
		case 'n':
			n_requests = n;
			break;
		case 'r':
			rounds = n;
			break;
		case 't':
			tokens = n;
			break;
		case 'g':
			gap_ns = n * 1000;
			break;
		case 'l':
			turn_ns = n * 1000000000;
			break;
		case 'm':
			model = optarg;
			break;
		case 's':
			streamed = true;
			break;
		case 'h':
			same_prompt = true;
			break;
		default:
			return false;
		}
	}
	return argc - optind >= 1 && argc - optind <= SERVERS;
}

int main(int argc, char **argv)
{
	struct rlimit files;
	if (!read_options(argc, argv)) {
		fprintf(stderr, "usage: bench-shim [-c AT_ONCE] [-n REQUESTS] [-r ROUNDS] "
				"[-t TOKENS] [-g US] [-l SECONDS] [-m MODEL] [-s] [-h] "
				"NAME:PORT[:PID[:KEY]]...\n");
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	bench_shim_peer_expect(tokens);
	for (int i = optind; i < argc; i++)
		open_server(argv[i]);
	for (size_t round = 0; round < rounds; round++) {
		for (size_t i = 0; i < n_servers; i++) {
			connect_all(&servers[i]);
			if (round == 0 || at_once <= WARM_EACH)
				warm_up(&servers[i]);
			run(&servers[i], n_requests, true);
			close_all(&servers[i]);
		}
	}
	size_t wrong = 0;
	for (size_t i = 0; i < n_servers; i++) {
		print(&servers[i], &servers[0]);
		wrong += servers[i].wrong;
	}
	return wrong != 0;
}
