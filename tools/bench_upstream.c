/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the gateway adds to a request that a server on loopback answers at once (docs/bench.md).
 *
 *	bench-upstream LOOPBACK-SERVER [RULES-DIR [WAY]]
 *
 * Starts that server (tools/loopback_server.c) and opens a gateway of its own with ten models on
 * it. Requests of about 200 bytes from one session at a time, and from 64 at once, in turns, so
 * that all see the same moods of the machine:
 *
 *	bare        the same request by a bare socket, which reads to the answer's last bytes
 *	nothing     a model by its name, with nothing configured and the cache turned off
 *	everything  models/auto among the ten; the rules of RULES-DIR, prices, a budget, all
 *	            limits; temperature 0: the cache looks for each answer, and stores it
 *	alone       the same, and the model answers at once in this process: no server, no libcurl
 *	hit         as everything, and the answer is in the cache
 *	open        a model whose only server's breaker is open
 *
 * With WAY only that and `bare`, one at a time, for a profile. Before each measured batch of
 * requests one at a time are WARM of its own way that are not counted: another way ran before.
 *
 * `write` is the prompt's write and flush, `text` and `end` are from the commit on, `whole` is
 * write and end together. What is added is `whole` less that of `bare` (nothing less, where no
 * server is asked). Metrics, trace,
 * conversation, ledger and store are in the way each time. `cpu` is the processor time of this
 * process for each request, the asking threads included and the server not; `faults` the pages that
 * each touched for the first time. At the end, alone:
 * the router's decision, with the facts of all models gathered for it, and the cache's key.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/heap.h"
#include "bench_asking.h"
#include "bench_null_provider.h"
#include "gateway/caching_key.h"
#include "gateway/guards.h"
#include "gateway/routing.h"
#include "gateway/session.h"

enum { ROUNDS = 5, REQUESTS = 600, WARM = 20, MANY = 64, MODELS = 10 };

enum way { BARE, NOTHING, EVERYTHING, ALONE, HIT, OPEN, N_WAYS };
static const char *const names[N_WAYS] = {"bare", "nothing", "everything", "alone", "hit", "open"};

static struct gateway *g;
static int port;
static pid_t server;
static atomic_uint serial; /* so that no prompt comes twice, but where it shall */

/* ---- the server ---- */

static void start_server(const char *path)
{
	int in[2], out[2];
	char line[64] = "";
	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		exit(1);
	server = fork();
	if (server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl(path, path, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	ssize_t n = read(out[0], line, sizeof line - 1);
	if (n <= 0 || sscanf(line, "port %d", &port) != 1) {
		fprintf(stderr, "bench-upstream: %s does not say its port\n", path);
		exit(1);
	}
}

static void stop_server(void)
{
	kill(server, SIGTERM);
	waitpid(server, NULL, 0);
}

/* ---- ways of asking ---- */

struct asker {
	pthread_t thread;
	struct session *session;
	int fd;
	enum way way;
	unsigned n;
	struct bench_asking_times times[REQUESTS];
};

static int make_prompt(char *out, size_t size, unsigned k)
{
	return snprintf(out, size,
		"Question %u: please explain in a few plain words how a filesystem can stand in "
		"front of a language model, and what a person at a shell gains by it; the shorter "
		"the answer, the better.\n",
		k);
}

static int connect_bare(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
		perror("bench-upstream: connect");
		exit(1);
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

/* One request on that socket; the answer is known to be whole by its last bytes. */
static void ask_bare(int fd, unsigned k, struct bench_asking_times *out)
{
	char prompt[256], body[512], ask[1024], room[8192];
	make_prompt(prompt, sizeof prompt, k);
	prompt[strlen(prompt) - 1] = '\0';
	int body_len = snprintf(body, sizeof body,
		"{\"model\":\"m0\",\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}],"
		"\"stream\":true,\"stream_options\":{\"include_usage\":true},"
		"\"max_tokens\":256,\"temperature\":0,\"top_p\":1}",
		prompt);
	int len = snprintf(ask, sizeof ask,
		"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
		"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
		body_len, body);
	size_t n = 0;
	*out = (struct bench_asking_times){0};
	uint64_t begin_ns = clock_mono_ns();
	if (write(fd, ask, (size_t)len) != len)
		exit(1);
	while (n < 8 || memcmp(room + n - 8, "[DONE]\n\n", 8)) {
		ssize_t got = read(fd, room + n, sizeof room - n);
		if (got <= 0)
			exit(1);
		if (!n)
			out->first_us = (double)(clock_mono_ns() - begin_ns) / 1e3;
		n += (size_t)got;
	}
	out->end_us = (double)(clock_mono_ns() - begin_ns) / 1e3;
}

static void ask_gateway(struct asker *k, struct bench_asking_times *out)
{
	char prompt[256];
	int n = make_prompt(
		prompt, sizeof prompt, k->way == HIT ? 0 : atomic_fetch_add(&serial, 1));
	bench_asking_ask(k->session, prompt, (size_t)n, out);
	if ((out->code < 0) != (k->way == OPEN)) {
		struct buf why = {0};
		session_render(k->session, SESSION_ERROR, &why);
		fprintf(stderr, "bench-upstream: %s: %s: %s\n", names[k->way], strerror(-out->code),
			why.data ? why.data : "");
		exit(1);
	}
	bench_asking_clear(k->session);
}

static void *ask_all(void *arg)
{
	struct asker *k = arg;
	for (unsigned i = 0; i < k->n; i++) {
		if (k->way == BARE)
			ask_bare(k->fd, atomic_fetch_add(&serial, 1), &k->times[i]);
		else
			ask_gateway(k, &k->times[i]);
	}
	return NULL;
}

/* ---- samples ---- */

struct samples {
	double *write, *first, *end, *whole;
	size_t n;
	double cpu_us, faults, wall_us;
};

static double *grow(double *values, size_t n)
{
	values = realloc(values, n * sizeof *values);
	if (!values)
		exit(1);
	return values;
}

static void add(struct samples *s, const struct asker *k)
{
	size_t n = s->n + k->n;
	s->write = grow(s->write, n);
	s->first = grow(s->first, n);
	s->end = grow(s->end, n);
	s->whole = grow(s->whole, n);
	for (unsigned i = 0; i < k->n; i++) {
		const struct bench_asking_times *t = &k->times[i];
		s->write[s->n] = t->write_us;
		s->first[s->n] = t->first_us;
		s->end[s->n] = t->end_us;
		s->whole[s->n++] = t->write_us + t->end_us;
	}
}

static double processor_us(const struct rusage *u)
{
	return 1e6 * (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) +
	       (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec);
}

static void run(
	struct samples *s, struct asker *askers, enum way way, unsigned n_askers, unsigned n)
{
	struct rusage before, after;
	getrusage(RUSAGE_SELF, &before);
	uint64_t begin_ns = clock_mono_ns();
	for (unsigned i = 0; i < n_askers; i++) {
		askers[i].way = way;
		askers[i].n = n;
		pthread_create(&askers[i].thread, NULL, ask_all, &askers[i]);
	}
	for (unsigned i = 0; i < n_askers; i++) {
		pthread_join(askers[i].thread, NULL);
		add(s, &askers[i]);
	}
	getrusage(RUSAGE_SELF, &after);
	s->cpu_us += processor_us(&after) - processor_us(&before);
	s->faults += (double)(after.ru_minflt - before.ru_minflt);
	s->wall_us += (double)(clock_mono_ns() - begin_ns) / 1e3;
}

static void print(unsigned at_once, enum way way, struct samples *s, struct samples *bare)
{
	if (!s->n)
		return;
	double p50 = bench_asking_quantile(s->whole, s->n, 0.5),
	       p99 = bench_asking_quantile(s->whole, s->n, 0.99),
	       bare50 = way == ALONE ? 0 : bench_asking_quantile(bare->whole, bare->n, 0.5),
	       bare99 = way == ALONE ? 0 : bench_asking_quantile(bare->whole, bare->n, 0.99);
	printf("%2u %-10s write %6.1f %7.1f  text %6.1f %7.1f  end %6.1f %7.1f  whole %6.1f %7.1f  "
	       "added %6.1f %7.1f  cpu %5.1f  faults %4.2f  %6.0f/s\n",
		at_once, names[way], bench_asking_quantile(s->write, s->n, 0.5),
		bench_asking_quantile(s->write, s->n, 0.99),
		bench_asking_quantile(s->first, s->n, 0.5),
		bench_asking_quantile(s->first, s->n, 0.99),
		bench_asking_quantile(s->end, s->n, 0.5), bench_asking_quantile(s->end, s->n, 0.99),
		p50, p99, p50 - bare50, p99 - bare99, s->cpu_us / (double)s->n,
		s->faults / (double)s->n, (double)s->n * 1e6 / s->wall_us);
}

/* ---- what is configured ---- */

static void make_models(void)
{
	struct err err = {0};
	char name[16], url[64];
	for (unsigned i = 0; i <= MODELS; i++) {
		bool open = i == MODELS; /* nobody listens there */
		snprintf(name, sizeof name, open ? "down" : "m%u", i);
		snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", open ? 1 : port);
		bench_asking_check(gateway_model_create(g, name, &err), &err, name);
		bench_asking_model(g, name,
			(const char *const[][2]){{"endpoint", url}, {"remote_name", "m"},
				{"proxy", "none"}, {NULL, NULL}});
	}
	bench_asking_model(g, "down",
		(const char *const[][2]){{"breaker_failures", "1"}, {"breaker_open_ms", "3600000"},
			{"retries", "0"}, {"capabilities", "embed"}, {NULL, NULL}});
	bench_asking_check(gateway_default_set(g, "m0", &err), &err, "default");
	gateway_account_create(g, "default", NULL);
}

static void configure(const char *rules, bool on)
{
	char name[16];
	const char *price = on ? "0.5" : "";
	if (rules)
		bench_asking_rules(g, rules, on);
	bench_asking_limits(g, on);
	for (unsigned i = 0; i < MODELS; i++) {
		snprintf(name, sizeof name, "m%u", i);
		bench_asking_model(g, name,
			(const char *const[][2]){{"price_input", price}, {"price_cached", price},
				{"price_output", price}, {NULL, NULL}});
	}
}

static void set_session(struct session *s, const char *model, bool cached)
{
	struct err err = {0};
	bench_asking_check(
		session_setting_set(s, "model", model, strlen(model), &err), &err, "model");
	bench_asking_check(
		session_setting_set(s, "temperature", cached ? "0" : "0.7", cached ? 1 : 3, &err),
		&err, "temperature");
	bench_asking_check(
		session_setting_set(s, "cache", cached ? "auto" : "off", cached ? 4 : 3, &err),
		&err, "cache");
	session_setting_set(s, "max_tokens", "256", 3, &err);
}

static void prepare(struct asker *askers, const char *rules, enum way way)
{
	static const char *const models[N_WAYS] = {"m0", "m0", "auto", "auto", "auto", "down"};
	struct bench_asking_times times;
	if (way == NOTHING || way == EVERYTHING)
		configure(rules, way == EVERYTHING);
	for (unsigned i = 0; i < MANY; i++)
		set_session(askers[i].session, models[way],
			way == EVERYTHING || way == ALONE || way == HIT);
	bench_null_provider(g->loop, way == ALONE);
	askers[0].way = way;
	if (way == HIT)
		ask_gateway(&askers[0], &times);
	else if (way == OPEN) /* its first failure opens the breaker */
		for (int i = 0; i < 2; i++)
			ask_gateway(&askers[0], &times);
}

static void open_all(const char *dir, struct asker *askers)
{
	struct err err = {0};
	struct gateway_options options = {.state_dir = dir, .daemon_uid = getuid()};
	bench_asking_check(gateway_open(&g, &options, &err), &err, "open");
	bench_asking_check(
		gateway_part_setting_set(g, GATEWAY_CACHE, "enabled", "1", 1, &err), &err, "cache");
	make_models();
	for (unsigned i = 0; i < MANY; i++) {
		char id[16];
		snprintf(id, sizeof id, "s%u", i);
		bench_asking_check(gateway_session_create(g, id, getuid(), getgid(), 0700,
					   &askers[i].session, &err),
			&err, "session");
		askers[i].fd = connect_bare();
	}
}

/* ---- where the time goes ---- */

enum { N_STAGES = 7, RECENT = 256 };
static const char *const stages[N_STAGES] = {
	"session", "load", "render", "queue", "prefill", "release", "store"};
static double stage_us[N_STAGES][ROUNDS * RECENT];
static size_t n_stage[N_STAGES];

/* Takes the stages of the last requests from the trace. */
static void take_stages(void)
{
	struct buf text = {0};
	gateway_render(g, GATEWAY_TRACE_RECENT, &text);
	for (size_t i = 0; text.data && i < N_STAGES; i++) {
		char key[32];
		int len = snprintf(key, sizeof key, "\"%s_ms\": ", stages[i]);
		for (const char *at = text.data; (at = strstr(at, key));) {
			at += len;
			if (n_stage[i] < ROUNDS * RECENT)
				stage_us[i][n_stage[i]++] = 1e3 * strtod(at, NULL);
		}
	}
	buf_free(&text);
}

static void print_stages(const char *what)
{
	printf("   stages of %s, one at a time, p50:", what);
	for (size_t i = 0; i < N_STAGES; i++)
		printf(" %s %.0f", stages[i], bench_asking_quantile(stage_us[i], n_stage[i], 0.5));
	printf(" us\n");
}

/* ---- parts of it, alone ---- */

static void measure_router(void)
{
	enum { N = 20000 };
	static double us[N];
	char prompt[256];
	for (unsigned i = 0; i < N; i++) {
		struct err err = {0};
		struct router_decision *d;
		int n = make_prompt(prompt, sizeof prompt, i);
		const struct router_ask ask = {.text = prompt,
			.len = (size_t)n,
			.prompt_tok = 64,
			.max_tokens = 256,
			.capabilities = ROUTER_CHAT,
			.session = "s0"};
		uint64_t begin_ns = clock_mono_ns();
		bench_asking_check(routing_decide(g, &ask, &d, &err), &err, "decide");
		us[i] = (double)(clock_mono_ns() - begin_ns) / 1e3;
		router_decision_free(d);
	}
	printf("   decision among %d models, with their facts: p50 %.2f us, p99 %.2f us\n", MODELS,
		bench_asking_quantile(us, N, 0.5), bench_asking_quantile(us, N, 0.99));
}

/* The cache's key of a request to models/auto, as a request has it made. */
static void measure_key(struct session *session)
{
	enum { N = 20000 };
	static double us[N];
	char bytes[256];
	size_t key_bytes = 0;
	set_session(session, "auto", true);
	for (unsigned i = 0; i < N; i++) {
		struct cache_ask ask;
		struct err err = {0};
		int n = make_prompt(bytes, sizeof bytes, i);
		struct text *prompt = text_new(bytes, (size_t)n);
		uint64_t begin_ns = clock_mono_ns();
		uint64_t age = guards_fingerprint(g->guards, GUARD_OUTPUT);
		int e = caching_key_make(
			&ask, session, &session->settings, prompt, "bench", getuid(), age, &err);
		us[i] = (double)(clock_mono_ns() - begin_ns) / 1e3;
		bench_asking_check(e, &err, "key");
		key_bytes = ask.key.len;
		cache_ask_free(&ask);
		text_put(prompt);
	}
	printf("   the cache's key, %zu bytes: p50 %.2f us, p99 %.2f us\n", key_bytes,
		bench_asking_quantile(us, N, 0.5), bench_asking_quantile(us, N, 0.99));
}

int main(int argc, char **argv)
{
	static struct asker askers[MANY];
	static struct samples one[N_WAYS], many[N_WAYS], warm;
	char dir[] = "/tmp/llmfs-bench-upstream.XXXXXX", command[64];
	const char *rules = argc > 2 ? argv[2] : NULL;
	const char *only = argc > 3 ? argv[3] : NULL;
	if (argc < 2 || argc > 4) {
		fprintf(stderr, "usage: bench-upstream LOOPBACK-SERVER [RULES-DIR [WAY]]\n");
		return 2;
	}
	heap_begin(); /* as the daemon does */
	start_server(argv[1]);
	atexit(stop_server);
	if (!mkdtemp(dir)) {
		perror(dir);
		return 1;
	}
	open_all(dir, askers);
	for (int round = -1; round < ROUNDS; round++) {
		for (enum way way = 0; way < N_WAYS; way++) {
			prepare(askers, rules, way);
			if (only && way != BARE && strcmp(only, names[way]))
				continue;
			run(&warm, askers, way, MANY, 2);
			if (round >= 0) {
				run(&warm, askers, way, 1, WARM);
				run(&one[way], askers, way, 1, REQUESTS);
				if (way == EVERYTHING || (only && way == ALONE))
					take_stages();
				if (!only)
					run(&many[way], askers, way, MANY, REQUESTS / 30);
			}
		}
	}
	printf("us, p50 and p99 each; %d requests one at a time, %d from %d at once\n",
		ROUNDS * REQUESTS, ROUNDS * MANY * (REQUESTS / 30), MANY);
	for (enum way way = 0; way < N_WAYS; way++)
		print(1, way, &one[way], &one[BARE]);
	for (enum way way = 0; way < N_WAYS; way++)
		print(MANY, way, &many[way], &many[BARE]);
	print_stages(only && !strcmp(only, names[ALONE]) ? only : names[EVERYTHING]);
	measure_router();
	measure_key(askers[0].session);
	for (unsigned i = 0; i < MANY; i++)
		session_put(askers[i].session);
	gateway_free(g);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command) != 0;
}
