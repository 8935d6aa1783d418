/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What guards cost: rules of the files given, all in one set, over English prose and program text
 * (and the same sprinkled with addresses, numbers and keys), made here.
 *
 * usage: bench-guard [-i] [-p] [-f] [-u] [-m MiB] [-t TEXT] FILE.rules ...
 *
 * -t: this text instead of one made here, repeated to its length.
 * -u: also texts of German, Russian, Chinese, and English with emoji.
 * -i: the files are of the input stage; -p: without the prefilter; -f: also each rule alone.
 * Prints MB/s of whole texts (of processor time, the best of five), microseconds for 2 KB,
 * nanoseconds for a token of 4 bytes. Warnings and redactions only: rules that block are turned
 * into ones that warn, so that a text goes through.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "gateway/guard_parts.h"

static uint64_t seed = 7;

static unsigned dice(unsigned n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)((seed >> 33) % n);
}

static void fail(const char *what)
{
	fprintf(stderr, "bench-guard: %s\n", what);
	exit(1);
}

/* ---- texts ---- */

static const char *const words[] = {"the", "of", "and", "a", "to", "in", "is", "you", "that", "it",
	"he", "was", "for", "on", "are", "as", "with", "his", "they", "I", "at", "be", "this",
	"have", "from", "or", "one", "had", "by", "word", "but", "not", "what", "all", "were", "we",
	"when", "your", "can", "said", "there", "use", "an", "each", "which", "she", "do", "how",
	"their", "if", "will", "up", "other", "about", "out", "many", "then", "them", "these", "so",
	"some", "her", "would", "make", "like", "him", "into", "time", "has", "look", "two", "more",
	"write", "go", "see", "number", "no", "way", "could", "people", "my", "than", "first",
	"water", "been", "call", "who", "its", "now", "find", "long", "down", "day", "did", "get",
	"come", "made", "may", "part", "system", "previous", "instructions", "model", "answer",
	"question", "ignore", "important", "kitchen", "secret", "password", "account", "telephone",
	"Monday", "Berlin", "London", "however", "although", "because", "between", "through"};

static const char *const code[] = {"for (size_t i = 0; i < n; i++) {\n", "\tif (!p)\n",
	"\t\treturn -ENOMEM;\n", "}\n\n", "def handle(self, request):\n", "    return None\n",
	"let total = items.iter().map(|x| x.price * 3).sum();\n", "x[42] = 0x7f3a;\n",
	"git commit -m 'fix: a fault in line 118'\n",
	"2026-11-25 19:42:45 INFO started in 12.5 ms\n", "#include <stdio.h>\n",
	"version = \"1.4.2\"\n", "https://example.org/a/b?c=d&e=15\n"};

static const char *const personal[] = {"joe.miller@example.com", "+49 30 901820", "078-05-1120",
	"4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "192.168.10.24",
	"2001:db8::8a2e:370:7334", "sk-abcdefghijklmnopqrstuvwx", "AKIAIOSFODNN7EXAMPLE",
	"(555) 867-5309", "ghp_abcdefghijklmnopqrstuvwxyz0123456789"};

#define N(list) (sizeof(list) / sizeof(list[0]))
#define PICK(list) list[dice(N(list))]

/* The first ones are the most frequent, as in a language. */
static const char *pick_word(void)
{
	double x = dice(1 << 20) / (double)(1 << 20);

	return words[(size_t)(x * x * x * N(words))];
}

static void make_text(struct buf *b, size_t bytes, bool with_personal)
{
	*b = (struct buf){.max = bytes + 65536};
	while (b->len < bytes) {
		unsigned n = 5 + dice(14);
		for (unsigned i = 0; i < n; i++) {
			buf_append_str(b, pick_word());
			buf_append_str(b, i + 1 < n ? (dice(12) ? " " : ", ") : ". ");
		}
		if (with_personal && !dice(8)) {
			buf_append_str(b, PICK(personal));
			buf_append_str(b, ". ");
		}
		if (!dice(4))
			buf_append_str(b, "\n\n");
		for (unsigned i = dice(8) ? 0 : 3 + dice(10); i > 0; i--)
			buf_append_str(b, PICK(code));
		if (!dice(40))
			buf_append_str(b, "Überraschung naïve café — 東京 ");
	}
}

/* Other languages: their most frequent words (Chinese: characters), what stands between two of
 * them, and what ends a sentence. */
static const struct language {
	const char *name, *words, *between, *end;
} languages[] = {
	{"German",
		"der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als "
		"auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie "
		"einem "
		"über so zum war haben nur oder aber vor zur bis mehr durch man sein wurde Straße "
		"Größe müssen hätte natürlich schön früher Gespräch Änderung überprüfen Schlüssel "
		"Antwort Frage größer ähnlich",
		" ", ". "},
	{"Russian",
		"и в не на я быть он с что а по это она этот к но они мы весь который из у то за "
		"свой от так о для ты же все тот мочь вы человек такой его сказать только или ещё "
		"бы "
		"себя один как уже до время если сам когда другой вот говорить наш мой знать стать",
		" ", ". "},
	{"Chinese",
		"的 一 是 不 了 在 人 有 我 他 这 个 们 中 来 上 大 为 和 国 地 到 以 说 时 要 就 "
		"出 会 可 也 "
		"你 对 生 能 而 子 那 得 于 着 下 自 之 年 过 发 后 作 里 用 道 行 所 然 家 种 事 "
		"成 方 多 经 么 去 "
		"法 学 如 都 同 现 当 没 动 面 起 看 定 天 分 还 进 好 小 部 其 些 主 样 理 心 她 "
		"本 前 开 但 因 只 "
		"从 想 实 指 令 示 视 忽 略",
		"", "。"},
	{"emoji",
		"the of and a to in is you that it he was for on are as with his they at be this "
		"have from or one had by word but not 😀 😂 🙏 👍 🎉 🔥 🤔 🇩🇪 "
		"✅ "
		"🚀",
		" ", " 😀🎉 "},
};

static void make_language(struct buf *b, size_t bytes, const struct language *l)
{
	char *list = strdup(l->words), *word[256], *rest;
	unsigned n = 0;

	if (!list)
		fail("no memory");
	for (char *w = strtok_r(list, " ", &rest); w && n < 256; w = strtok_r(NULL, " ", &rest))
		word[n++] = w;
	*b = (struct buf){.max = bytes + 65536};
	while (b->len < bytes)
		for (unsigned i = 5 + dice(14); i > 0; i--) {
			buf_append_str(b, word[dice(n)]);
			buf_append_str(b, i > 1 ? l->between : l->end);
		}
	free(list);
}

/* ---- rules ---- */

static void read_file(struct buf *b, const char *path)
{
	FILE *f = fopen(path, "r");
	char part[65536];
	size_t n;

	if (!f)
		fail(path);
	while ((n = fread(part, 1, sizeof(part), f)) > 0)
		buf_append(b, part, n);
	fclose(f);
}

/* The text of a file, over and over. */
static void repeat_text(struct buf *b, const char *path, size_t bytes)
{
	struct buf once = {0};

	read_file(&once, path);
	if (!once.len)
		fail("the text is empty");
	*b = (struct buf){.max = bytes + once.len};
	while (b->len < bytes)
		buf_append(b, once.data, once.len);
	buf_free(&once);
}

/* The text with "block" at the beginning of a line made "warn ". */
static struct guard_rules *parse(const char *path, enum guard_stage stage)
{
	struct guard_rules *rules;
	struct guard_fault fault;
	struct buf b = {0};
	int r;

	read_file(&b, path);
	for (size_t i = 0; i + 5 < b.len; i++)
		if ((i == 0 || b.data[i - 1] == '\n') && !memcmp(b.data + i, "block", 5))
			memcpy(b.data + i, "warn ", 5);
	r = guard_rules_parse(&rules, stage, path, b.data, b.len, &fault);
	if (r < 0) {
		fprintf(stderr, "%s:%u:%u: %s\n", path, fault.line, fault.column, fault.reason);
		exit(1);
	}
	buf_free(&b);
	return rules;
}

/* ---- measuring ---- */

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* Of this thread: others share the machine. */
static uint64_t processor_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* One text in pieces of `piece` bytes; nanoseconds. Each piece's into each[], if not NULL. */
static uint64_t run(struct guard_set *set, const char *text, size_t n, size_t piece, uint64_t *each)
{
	struct buf out = {.max = SIZE_MAX / 2};
	uint64_t begin = processor_ns(), last = clock_mono_ns(), now;
	struct guard_stream *s = guard_stream_new(set);
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i += piece) {
		r = guard_stream_feed(s, text + i, n - i < piece ? n - i : piece, &out);
		buf_clear(&out);
		if (each) {
			now = clock_mono_ns();
			*each++ = now - last;
			last = now;
		}
	}
	if (r == 0)
		r = guard_stream_end(s, &out);
	now = processor_ns();
	if (r == 1)
		fprintf(stderr, "blocked: a rule reached a limit\n");
	else if (r < 0)
		fail("a feed failed");
	guard_stream_free(s);
	buf_free(&out);
	return now - begin;
}

static void quantiles(uint64_t *ns, size_t n, double unit, double *p50, double *p99)
{
	qsort(ns, n, sizeof(*ns), compare);
	*p50 = (double)ns[n / 2] / unit;
	*p99 = (double)ns[n * 99 / 100] / unit;
}

static void measure(struct guard_set *set, const struct buf *text, const char *name)
{
	enum { TOKENS = 262144 };
	static uint64_t ns[TOKENS];
	double p50, p99, sum = 0;
	uint64_t best = UINT64_MAX, t;
	size_t n = 0;

	for (unsigned i = 0; i < 5; i++) {
		t = run(set, text->data, text->len, 1 << 20, NULL);
		best = t < best ? t : best;
	}
	printf("%-9s whole: %6.0f MB/s", name, (double)text->len * 1e3 / (double)best);
	for (size_t i = 0; i + 2048 <= text->len && n < TOKENS; i += 2048) {
		while (utf8_is_inside(text->data[i]))
			i--;
		size_t len = 2048;
		while (utf8_is_inside(text->data[i + len]))
			len--;
		ns[n++] = run(set, text->data + i, len, len, NULL);
	}
	quantiles(ns, n, 1e3, &p50, &p99);
	printf("   2 KB: p50 %5.1f us, p99 %5.1f us", p50, p99);
	n = TOKENS * 4 < text->len ? TOKENS * 4 : text->len;
	while (utf8_is_inside(text->data[n]))
		n--;
	run(set, text->data, n, 4, ns);
	n /= 4;
	for (size_t i = 0; i < n; i++)
		sum += (double)ns[i];
	quantiles(ns, n, 1, &p50, &p99);
	printf("   token: mean %4.0f, p50 %4.0f, p99 %5.0f ns\n", sum / (double)n, p50, p99);
	fflush(stdout);
}

/* Each rule of the set by itself, the slow ones. */
static void measure_each(const struct guard_set *set, const struct buf *text)
{
	for (size_t i = 0; i < set->n_patterns; i++) {
		const struct guard_rule *rule = set->patterns[i];
		struct guard_rules one = {.file = (char *)(uintptr_t)rule->file,
			.rules = (struct guard_rule *)(uintptr_t)rule,
			.n = 1};
		struct guard_rules *files[] = {&one};
		atomic_init(&one.refs, 2);
		struct guard_set *alone = guard_set_new(files, 1);
		size_t n = text->len < 1 << 20 ? text->len : 1 << 20;
		while (utf8_is_inside(text->data[n]))
			n--;
		run(alone, text->data, n, n, NULL);
		uint64_t t = run(alone, text->data, n, n, NULL);
		printf("  %7.3f ns/byte  start %2u need %2u before %4zu  %s\n",
			(double)t / (double)n, rule->filter.n_start, rule->filter.n_need,
			rule->filter.before, rule->name);
		guard_set_put(alone);
	}
}

int main(int argc, char **argv)
{
	struct guard_rules *files[64];
	enum guard_stage stage = GUARD_OUTPUT;
	size_t n = 0, mib = 8;
	bool each = false, others = false;
	const char *path = NULL;
	struct buf text, sprinkled;
	int c;

	while ((c = getopt(argc, argv, "ipfum:t:")) != -1) {
		if (c == 'i')
			stage = GUARD_INPUT;
		else if (c == 'p')
			guard_rules_use_filters(false);
		else if (c == 'f')
			each = true;
		else if (c == 'u')
			others = true;
		else if (c == 't')
			path = optarg;
		else if (c == 'm')
			mib = strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	for (; optind < argc && n < 64; optind++)
		files[n++] = parse(argv[optind], stage);
	if (!n || !mib)
		fail("usage: bench-guard [-i] [-p] [-f] [-u] [-m MiB] [-t TEXT] FILE.rules ...");
	uint64_t begin = clock_mono_ns();
	struct guard_set *set = guard_set_new(files, n);
	double ms = (double)(clock_mono_ns() - begin) / 1e6;
	size_t rules = 0;
	for (size_t i = 0; i < n; i++)
		rules += guard_rules_count(files[i]);
	printf("%zu rules of %zu files; the set took %.1f ms\n", rules, n, ms);
	if (path)
		repeat_text(&text, path, mib << 20);
	else
		make_text(&text, mib << 20, false);
	make_text(&sprinkled, mib << 20, true);
	measure(set, &text, "plain");
	measure(set, &sprinkled, "personal");
	for (size_t i = 0; others && i < N(languages); i++) {
		struct buf other;
		make_language(&other, mib << 20, &languages[i]);
		measure(set, &other, languages[i].name);
		buf_free(&other);
	}
	if (each)
		measure_each(set, &text);
	for (size_t i = 0; i < n; i++)
		guard_rules_put(files[i]);
	guard_set_put(set);
	buf_free(&text);
	buf_free(&sprinkled);
	return 0;
}
