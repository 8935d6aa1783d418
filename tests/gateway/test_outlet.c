/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a model's text on its way to a reader, and of the money it costs, whatever ends
 * it. The model is random, but greedy: what it says is known from having asked before. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/core.h"
#include "gateway/outlet.h"
#include "gateway/store.h"
#include "tests/gateway/harness.h"
#include "tests/run_suite.h"

static const char safe_judge[] = "model tiny\nthreshold 1\ntimeout_ms 200000\nwindow_chars 20\n";

static struct harness h;

static void setup(void)
{
	harness_make(&h, 0);
	harness_open(&h);
}

static void teardown(void)
{
	umount2(h.state, MNT_DETACH); /* of the full disk */
	harness_end(&h);
}

static void set(struct session *s, const char *file, const char *value)
{
	ck_assert_int_eq(session_setting_set(s, file, value, strlen(value), NULL), 0);
}

/* One that gives all of its tokens. */
static struct session *talker(const char *id, const char *max_tokens)
{
	struct session *s = harness_session(&h, id, max_tokens);
	set(s, "ignore_eos", "1");
	return s;
}

static void ctl(struct session *s, const char *line)
{
	ck_assert_int_eq(session_ctl(s, getuid(), getgid(), line, strlen(line), NULL), 0);
}

static char *ask(struct session *s, int *status)
{
	ck_assert_int_eq(harness_say(s, "tell me"), 0);
	return harness_read(s, status);
}

/* What is said when nothing is in its way. */
static char *plain_answer(struct session *s)
{
	int status;
	char *text = ask(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_gt(strlen(text), 40);
	ctl(s, "clear");
	return text;
}

/* Six bytes or some more of the middle, whole characters, that stand there first. */
static size_t phrase_of(const char *text, char phrase[32])
{
	size_t len = strlen(text);
	for (size_t at = len / 2; at + 16 < len; at++) {
		if ((text[at] & 0xC0) == 0x80)
			continue;
		size_t n = 6;
		while ((text[at + n] & 0xC0) == 0x80)
			n++;
		memcpy(phrase, text + at, n);
		phrase[n] = '\0';
		if (strstr(text, phrase) == text + at)
			return at;
	}
	ck_abort_msg("the model says the same again and again: %s", text);
	return 0;
}

/* A file with one rule for those bytes. */
static void guard_phrase(const char *file, const char *action, const char *phrase)
{
	struct buf rule = {0};
	buf_printf(&rule, "%s P /", action);
	for (const char *p = phrase; *p; p++)
		if (*p & 0x80)
			buf_append(&rule, p, 1);
		else
			buf_printf(&rule, "\\x%02x", (unsigned)*p);
	buf_append_str(&rule, "/\n");
	harness_guard(&h, file, rule.data);
	buf_free(&rule);
}

/* ---- rules ---- */

START_TEST(a_reader_sees_the_redacted_answer_and_so_does_the_conversation)
{
	struct session *s = talker("a", "100");
	char *plain = plain_answer(s), phrase[32];
	size_t at = phrase_of(plain, phrase);
	int status;
	guard_phrase("output/x.rules", "redact", phrase);
	char *text = ask(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_mem_eq(text, plain, at);
	ck_assert_mem_eq(text + at, "[P]", 3);
	ck_assert_ptr_null(strstr(text, phrase));
	char *view = harness_view(s, SESSION_MESSAGES);
	json_t *messages = json_loads(view, 0, NULL);
	json_t *last = json_array_get(messages, json_array_size(messages) - 1);
	ck_assert_str_eq(json_string_value(json_object_get(last, "content")), text);
	json_decref(messages);
	free(view);
	char *chat = harness_view(s, SESSION_CHAT);
	ck_assert_ptr_null(strstr(chat, phrase));
	ck_assert(harness_usage(s, "output_tokens") == 100);
	free(chat);
	free(text);
	free(plain);
	session_put(s);
}
END_TEST

START_TEST(a_reader_sees_all_that_stands_before_a_blocked_match_and_not_a_byte_of_it)
{
	struct session *s = talker("a", "100");
	char *plain = plain_answer(s), phrase[32];
	size_t at = phrase_of(plain, phrase);
	int status;
	guard_phrase("output/x.rules", "block", phrase);
	char *text = ask(s, &status);
	ck_assert_int_eq(status, -EPERM);
	ck_assert_uint_eq(strlen(text), at);
	ck_assert_mem_eq(text, plain, at);
	ck_assert(harness_status(s, "blocked"));
	ck_assert(harness_usage(s, "output_tokens") <= 100);
	char *error = harness_view(s, SESSION_ERROR);
	ck_assert_str_eq(error, "blocked by the output guard P (guards/output/x.rules)\n");
	free(error);
	free(text);
	/* Its beginning would be enough for a match that is longer: that is held back as well. */
	char *longer = plain + at + 12;
	while ((*longer & 0xC0) == 0x80)
		longer++;
	*longer = '\0';
	ctl(s, "clear");
	guard_phrase("output/x.rules", "block", plain + at);
	text = ask(s, &status);
	ck_assert_int_eq(status, -EPERM);
	ck_assert_uint_eq(strlen(text), at);
	free(text);
	free(plain);
	session_put(s);
}
END_TEST

START_TEST(the_rules_of_an_answer_are_those_of_its_beginning)
{
	struct session *s = talker("a", "1500");
	char *plain = plain_answer(s), phrase[32], bytes[64];
	int status;
	struct answer *a;
	gateway_waiter id;
	size_t n;
	phrase_of(plain, phrase);
	ck_assert_int_eq(harness_say(s, "tell me"), 0);
	ck_assert_int_eq(session_newest(s, &a, NULL, NULL, &id), 0);
	while (answer_read(a, 0, bytes, sizeof bytes, &n) == 1)
		usleep(100);
	guard_phrase("output/x.rules", "block", phrase);
	char *text = harness_read_answer(a, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_str_eq(text, plain);
	free(text);
	free(plain);
	answer_put(a);
	session_put(s);
}
END_TEST

/* ---- the judge ---- */

START_TEST(a_judged_answer_is_the_same_and_one_found_unsafe_is_not_shown)
{
	struct session *s = talker("a", "100");
	char *plain = plain_answer(s), *text;
	int status;
	harness_guard(&h, "moderation", safe_judge);
	text = ask(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_str_eq(text, plain);
	free(text);
	ctl(s, "clear");
	harness_guard(&h, "moderation",
		"model tiny\nthreshold 0.000001\nstages output\nwindow_chars 20\n"
		"timeout_ms 200000\n");
	text = ask(s, &status);
	ck_assert_int_eq(status, -EPERM);
	ck_assert_str_eq(text, "");
	free(text);
	ck_assert(harness_status(s, "blocked"));
	ctl(s, "clear");
	harness_guard(&h, "moderation",
		"model tiny\nthreshold 0.000001\nstages output\naction replace\n"
		"replacement Let us talk of cats.\nwindow_chars 20\ntimeout_ms 200000\n");
	text = ask(s, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_str_eq(text, "Let us talk of cats.");
	free(text);
	free(plain);
	session_put(s);
}
END_TEST

START_TEST(a_judge_sees_what_the_rules_let_through_and_a_block_shows_the_safe_prefix)
{
	struct session *s = talker("a", "100");
	char *plain = plain_answer(s), phrase[32];
	size_t at = phrase_of(plain, phrase);
	int status;
	harness_guard(&h, "moderation", safe_judge);
	guard_phrase("output/x.rules", "block", phrase);
	char *text = ask(s, &status);
	ck_assert_int_eq(status, -EPERM);
	/* What the judge has not seen of it is not shown either. */
	ck_assert_uint_le(strlen(text), at);
	ck_assert_mem_eq(text, plain, strlen(text));
	ck_assert(harness_status(s, "blocked"));
	free(text);
	free(plain);
	session_put(s);
}
END_TEST

/* ---- the ledger ---- */

static double dollars(enum account_view view)
{
	char *text = harness_account_view(&h, harness_me(&h), view);
	double d = strtod(text, NULL);
	free(text);
	return d;
}

static double ledger_sum(size_t *n)
{
	char *text = harness_account_view(&h, harness_me(&h), ACCOUNT_LEDGER), *rest = text, *line;
	double sum = 0;
	*n = 0;
	while ((line = strsep(&rest, "\n")) && *line) {
		json_t *o = json_loads(line, 0, NULL);
		ck_assert_ptr_nonnull(o);
		sum += json_number_value(json_object_get(o, "cost"));
		json_decref(o);
		++*n;
	}
	free(text);
	return sum;
}

enum { LIMIT = 100000000 };

static void priced(void)
{
	harness_price(&h, "tiny");
	harness_price(&h, "long");
	harness_account(&h, harness_me(&h), "limit", "100000000");
}

/* Nothing is reserved any more and nothing is in flight. */
static void assert_all_given_back(void)
{
	size_t n;
	double spent = 0, left = 0;
	for (int i = 0; i < 20000; i++) {
		pthread_mutex_lock(&h.g->busy_lock);
		unsigned busy = h.g->n_busy;
		pthread_mutex_unlock(&h.g->busy_lock);
		left = dollars(ACCOUNT_REMAINING);
		spent = dollars(ACCOUNT_SPENT);
		if (left == LIMIT - spent && busy <= 2) /* models stay loaded */
			break;
		usleep(1000);
	}
	ck_assert_msg(left == LIMIT - spent, "%.0f spent, %.0f left", spent, left);
	ck_assert_msg(
		ledger_sum(&n) == spent, "%.0f spent, %.0f in the ledger", spent, ledger_sum(&n));
	harness_account(&h, harness_me(&h), "requests_in_flight", "1");
	struct session *s = harness_session(&h, "last", "1");
	int status;
	ck_assert_int_eq(harness_say(s, "x"), 0); /* the one that may be in flight */
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(gateway_session_remove(h.g, session_id(s), NULL), 0);
	session_put(s);
	harness_account(&h, harness_me(&h), "requests_in_flight", "");
}

struct written {
	struct store_waiter w;
	sem_t told;
};

static void note_written(struct store_waiter *w, int status)
{
	sem_post(&((struct written *)w)->told);
}

/* The store has nothing left to write then, and does not find out before it is asked to. */
static void fill_disk(char path[128])
{
	struct written written = {.w.done = note_written};
	char block[4096];
	sem_init(&written.told, 0, 0);
	store_after(h.g->store, &written.w);
	while (sem_wait(&written.told) < 0)
		;
	sem_destroy(&written.told);
	memset(block, 'x', sizeof block);
	snprintf(path, 128, "%s/filler", h.state);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	while (write(fd, block, sizeof block) > 0)
		;
	close(fd);
}

static void make_room(const char *path)
{
	unlink(path);
	for (int i = 0; i < 1000 && store_state(h.g->store, NULL) < 0; i++)
		usleep(50000);
	ck_assert_int_eq(store_state(h.g->store, NULL), 0);
}

/* The disk is full without the store knowing it yet: what is asked is taken. */
static void ask_while_disk_is_full(struct session *s, const char *prompt)
{
	char path[128];
	int status;
	fill_disk(path);
	ck_assert_int_eq(harness_say(s, prompt), 0);
	char *text = harness_read(s, &status);
	ck_assert_int_eq(status, -ENOSPC);
	ck_assert_str_eq(text, "");
	free(text);
	ck_assert_int_eq(harness_say(s, prompt), -ENOSPC); /* by now it does */
	make_room(path);
}

static void open_on_small_disk(void)
{
	harness_close(&h);
	ck_assert(mkdir(h.state, 0700) == 0 || errno == EEXIST);
	ck_assert_int_eq(mount("none", h.state, "tmpfs", 0, "size=4m,mode=0700"), 0);
	harness_open(&h);
	priced();
}

START_TEST(nothing_is_released_while_the_store_cannot_write_and_the_next_answer_is_when_it_can)
{
	static const char *const most[] = {"1", "300"};
	char prompt[6001];
	open_on_small_disk();
	struct session *s = talker("a", "2");
	set(s, "model", "long");
	int status;
	free(ask(s, &status)); /* loads it */
	ck_assert_int_eq(status, 0);
	memset(prompt, 'p', 6000); /* more than what is left of the last page */
	prompt[6000] = '\0';
	for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
		set(s, "max_tokens", most[i]);
		ctl(s, "clear");
		ask_while_disk_is_full(s, prompt);
		char *text = ask(s, &status);
		ck_assert_int_eq(status, 0);
		ck_assert(*text);
		free(text);
	}
	session_put(s);
	assert_all_given_back();
}
END_TEST

/* Without a model: more than the machine can be made to do at a certain moment. */
struct alone {
	struct outlet *o;
	struct answer *a;
	struct text *prompt;
};

static void woken(void *arg)
{
}

static struct alone alone(void)
{
	struct alone x = {.a = answer_new(h.g), .prompt = text_new("x", 1)};
	const struct outlet_job job = {.g = h.g,
		.answer = x.a,
		.prompt = x.prompt,
		.who = {getuid(), "me", "main", 0},
		.wake = woken};
	ck_assert_int_eq(outlet_new(&x.o, &job, NULL), 0);
	return x;
}

static void let_go(struct alone *x, int want_code, const char *want_text)
{
	struct err err;
	int code;
	char bytes[100];
	size_t n = 0;
	ck_assert_int_eq(outlet_step(x->o), 0);
	ck_assert(outlet_ended(x->o, &code, &err));
	ck_assert_int_eq(code, want_code);
	ck_assert(!code || *err.text);
	if (*want_text)
		ck_assert_int_eq(answer_read(x->a, 0, bytes, sizeof bytes, &n), 0);
	ck_assert_uint_eq(n, strlen(want_text));
	ck_assert_mem_eq(bytes, want_text, n);
	ck_assert_uint_eq(answer_size(x->a, &(bool){false}), n);
	outlet_free(x->o);
	answer_put(x->a);
	text_put(x->prompt);
}

START_TEST(text_is_released_when_its_tokens_are_written_down_and_not_before)
{
	struct alone x = alone();
	bool ended;
	outlet_push(x.o, "one ", 4, 1);
	ck_assert_int_eq(outlet_step(x.o), 1);
	ck_assert_uint_eq(answer_size(x.a, &ended), 0);
	outlet_cover(x.o, 2);
	ck_assert_int_eq(outlet_step(x.o), 1);
	ck_assert_uint_eq(answer_size(x.a, &ended), 4);
	outlet_push(x.o, "two ", 4, 3);
	outlet_end(x.o, 0, NULL);
	ck_assert_int_eq(outlet_step(x.o), 1);
	ck_assert_uint_eq(answer_size(x.a, &ended), 4);
	outlet_cover(x.o, 3);
	let_go(&x, 0, "one two ");
}
END_TEST

START_TEST(what_was_counted_too_high_is_not_waited_for)
{
	struct alone x = alone();
	outlet_push(x.o, "one two", 7, 9);
	outlet_cover(x.o, 5);
	ck_assert_int_eq(outlet_step(x.o), 1);
	outlet_produced(x.o, 6);
	outlet_end(x.o, 0, NULL);
	ck_assert_int_eq(outlet_step(x.o), 1);
	outlet_produced(x.o, 5);
	let_go(&x, 0, "one two");
}
END_TEST

START_TEST(text_whose_tokens_cannot_be_written_down_breaks_off_also_when_it_had_ended)
{
	struct err err = {"no space"};
	struct alone x = alone();
	outlet_push(x.o, "one", 3, 1);
	outlet_uncover(x.o, -ENOSPC, &err);
	let_go(&x, -ENOSPC, "");

	x = alone();
	outlet_push(x.o, "one", 3, 1);
	outlet_end(x.o, 0, NULL);
	ck_assert_int_eq(outlet_step(x.o), 1);
	outlet_uncover(x.o, -ENOSPC, &err);
	let_go(&x, -ENOSPC, "");

	x = alone();
	outlet_push(x.o, "one", 3, 1);
	outlet_cover(x.o, 1);
	outlet_end(x.o, 0, NULL);
	ck_assert_int_eq(outlet_step(x.o), 0);
	outlet_uncover(x.o, -ENOSPC, &err); /* of tokens that were never produced */
	let_go(&x, 0, "one");

	harness_guard(&h, "output/x.rules", "block T /two/\n");
	x = alone();
	outlet_push(x.o, "one two", 7, 1);
	ck_assert_int_eq(outlet_step(x.o), 1);
	outlet_uncover(x.o, -ENOSPC, &err);
	let_go(&x, -EPERM, "");
}
END_TEST

START_TEST(an_answer_that_was_computed_before_the_store_failed_ends_too)
{
	char path[128];
	int status, r = 0, n = 0;
	open_on_small_disk();
	struct session *s = talker("a", "1");
	free(ask(s, &status)); /* loads it */
	fill_disk(path);
	/* Until what is left of the last page is used up. */
	for (status = 0; r == 0 && status == 0 && n < 200; n++) {
		r = harness_say(s, "x");
		if (r == 0)
			free(harness_read(s, &status));
	}
	ck_assert_msg(r == -ENOSPC || status == -ENOSPC, "%d %d", r, status);
	make_room(path);
	session_put(s);
	assert_all_given_back();
}
END_TEST

/* ---- any moment ---- */

/* Something of its waiting and computing, at random. */
static void a_moment(unsigned *seed, int i)
{
	usleep((useconds_t)(rand_r(seed) % (i % 10 ? 12000 : 60000)));
}

/* So that some moments are after the judge and the load, however slow these are. */
static void wait_while_queued(struct session *s)
{
	for (int i = 0; i < 60000; i++) {
		char *now = harness_view(s, SESSION_STATUS);
		bool is = !strcmp(now, "queued\n");
		free(now);
		if (!is)
			break;
		usleep(1000);
	}
}

/* Until a reader has something of its answer, or it has ended. */
static void wait_for_text(struct session *s)
{
	struct answer *a;
	gateway_waiter id;
	char byte[4];
	size_t n;
	ck_assert_int_eq(session_newest(s, &a, NULL, NULL, &id), 0);
	for (int i = 0; i < 60000 && answer_read(a, 0, byte, sizeof byte, &n) == 1; i++)
		usleep(1000);
	answer_put(a);
}

START_TEST(cancelled_at_any_moment_it_is_charged_once_for_what_was_computed)
{
	enum { N = 4, ROUNDS = 40 };
	struct session *s[N];
	unsigned seed = 11;
	double costs = 0, charged = 0;
	char id[8];
	priced();
	harness_guard(&h, "moderation", safe_judge);
	harness_guard(&h, "output/x.rules", "redact D /[0-9]+/\n");
	for (int i = 0; i < N; i++) {
		snprintf(id, sizeof id, "s%d", i);
		s[i] = talker(id, i % 2 ? "25" : "200");
	}
	for (int round = 0; round < ROUNDS; round++) {
		int status;
		for (int i = 0; i < N; i++)
			ck_assert_int_eq(harness_say(s[i], "tell me"), 0);
		for (int i = 0; i < N; i++) {
			if (round % 4 == 0 && i % 2 == 0)
				wait_for_text(s[i]);
			else
				a_moment(&seed, round);
			ctl(s[i], "cancel");
			free(harness_read(s[i], &status)); /* it may be being stored */
			double cost = harness_usage(s[i], "cost");
			charged += cost > 0;
			if (round % 8 == 0)
				ctl(s[i], "clear");
		}
	}
	for (int i = 0; i < N; i++) {
		costs += harness_usage(s[i], "session_cost");
		session_put(s[i]);
	}
	ck_assert_msg(costs == dollars(ACCOUNT_SPENT), "%.0f in sessions, %.0f spent", costs,
		dollars(ACCOUNT_SPENT));
	ck_assert(charged > 10);
	assert_all_given_back();
	size_t n;
	ledger_sum(&n);
	/* A line each at most, and one for its judge; and the last one's. */
	ck_assert_uint_le(n, 2 * ((size_t)N * ROUNDS + 1));
}
END_TEST

START_TEST(cancelled_while_the_store_cannot_write_it_is_charged_once_as_well)
{
	enum { N = 6 };
	struct session *s[N];
	unsigned seed = 15, taken = 0;
	double costs = 0;
	char id[8], path[128];
	int status;
	open_on_small_disk();
	for (int i = 0; i < N; i++) {
		snprintf(id, sizeof id, "s%d", i);
		s[i] = talker(id, i % 2 ? "25" : "200");
		free(ask(s[i], &status));
		ck_assert_int_eq(status, 0);
	}
	bool asked[N];
	fill_disk(path);
	for (int i = 0; i < N; i++)
		taken += asked[i] = harness_say(s[i], "tell me") == 0;
	for (int i = 0; i < N; i++) {
		usleep((useconds_t)(rand_r(&seed) % 4000));
		ctl(s[i], "cancel");
		free(harness_read(s[i], &status));
		ck_assert(!asked[i] || status == 0 || status == -ECANCELED || status == -ENOSPC);
	}
	make_room(path);
	ck_assert_uint_gt(taken, 0);
	for (int i = 0; i < N; i++) {
		costs += harness_usage(s[i], "session_cost");
		session_put(s[i]);
	}
	ck_assert_msg(costs == dollars(ACCOUNT_SPENT), "%.0f in sessions, %.0f spent", costs,
		dollars(ACCOUNT_SPENT));
	assert_all_given_back();
	/* What could not be written then was written later. */
	double spent = dollars(ACCOUNT_SPENT);
	harness_close(&h);
	harness_open(&h);
	ck_assert(dollars(ACCOUNT_SPENT) == spent);
}
END_TEST

START_TEST(a_session_removed_at_any_moment_leaves_its_costs_in_the_ledger)
{
	unsigned seed = 12;
	char id[16];
	priced();
	harness_guard(&h, "moderation", safe_judge);
	for (int i = 0; i < 100; i++) {
		snprintf(id, sizeof id, "s%d", i);
		struct session *s = talker(id, i % 2 ? "25" : "200");
		ck_assert_int_eq(harness_say(s, "tell me"), 0);
		ck_assert_int_eq(harness_say(s, "and more"), 0);
		struct draft *d;
		ck_assert_int_eq(draft_new(&d, s, getuid(), NULL), 0);
		ck_assert_int_eq(draft_write(d, "more", 4, NULL), 0);
		if (i % 10 == 5)
			wait_while_queued(s);
		a_moment(&seed, i);
		ck_assert_int_eq(gateway_session_remove(h.g, id, NULL), 0);
		draft_commit(d);
		session_put(s);
	}
	assert_all_given_back();
	ck_assert(dollars(ACCOUNT_SPENT) > 0);
}
END_TEST

START_TEST(a_model_unloaded_at_any_moment_is_charged_once_for_what_was_computed)
{
	unsigned seed = 13;
	double costs = 0;
	struct session *s[2];
	priced();
	harness_guard(&h, "moderation", safe_judge);
	s[0] = talker("a", "25");
	s[1] = talker("b", "200");
	struct model *m = gateway_model_find(h.g, "tiny");
	for (int i = 0; i < 60; i++) {
		int status;
		for (int k = 0; k < 2; k++)
			ck_assert_int_eq(harness_say(s[k], "tell me"), 0);
		if (i % 4 == 0)
			wait_while_queued(s[1]);
		a_moment(&seed, i);
		ck_assert_int_eq(model_ctl(m, "unload", 6, NULL), 0);
		for (int k = 0; k < 2; k++) {
			free(harness_read(s[k], &status));
			/* EPERM: the judge had no verdict */
			ck_assert_msg(status == 0 || status == -ECANCELED || status == -EPERM, "%d",
				status);
			if (i % 8 == 0)
				ctl(s[k], "clear");
		}
	}
	for (int k = 0; k < 2; k++) {
		costs += harness_usage(s[k], "session_cost");
		session_put(s[k]);
	}
	model_put(m);
	ck_assert_msg(costs == dollars(ACCOUNT_SPENT), "%.0f in sessions, %.0f spent", costs,
		dollars(ACCOUNT_SPENT));
	ck_assert(costs > 0);
	assert_all_given_back();
}
END_TEST

START_TEST(a_gateway_stopped_at_any_moment_has_charged_all_once_when_it_is_back)
{
	unsigned seed = 14;
	harness_guard(&h, "moderation", safe_judge);
	for (int i = 0; i < 12; i++) {
		char id[16];
		priced();
		for (int k = 0; k < 3; k++) {
			snprintf(id, sizeof id, "s%d-%d", i, k);
			struct session *s = talker(id, k % 2 ? "25" : "200");
			ck_assert_int_eq(harness_say(s, "tell me"), 0);
			if (k == 2 && i % 2)
				wait_while_queued(s);
			session_put(s);
		}
		a_moment(&seed, i);
		if (i % 3 == 0)
			gateway_stop(h.g);
		harness_close(&h);
		harness_open(&h);
		double costs = 0;
		size_t n;
		for (int all = 0; all <= i; all++)
			for (int k = 0; k < 3; k++) {
				snprintf(id, sizeof id, "s%d-%d", all, k);
				struct session *s = gateway_session_find(h.g, id);
				ck_assert_ptr_nonnull(s);
				double cost = harness_usage(s, "session_cost");
				costs += cost > 0 ? cost : 0;
				session_put(s);
			}
		struct account *a = gateway_account_find(h.g, harness_me(&h));
		if (!a) { /* all were over before they began */
			ck_assert(costs == 0);
			continue;
		}
		account_put(a);
		double spent = dollars(ACCOUNT_SPENT);
		ck_assert_msg(costs == spent && ledger_sum(&n) == spent,
			"round %d: %.0f in sessions, %.0f in the ledger, %.0f spent", i, costs,
			ledger_sum(&n), spent);
	}
	priced();
	ck_assert(dollars(ACCOUNT_SPENT) > 0);
	assert_all_given_back();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("outlet");
	TCase *t = tcase_create("outlet");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 100);
	tcase_add_test(t, a_reader_sees_the_redacted_answer_and_so_does_the_conversation);
	tcase_add_test(
		t, a_reader_sees_all_that_stands_before_a_blocked_match_and_not_a_byte_of_it);
	tcase_add_test(t, the_rules_of_an_answer_are_those_of_its_beginning);
	tcase_add_test(t, a_judged_answer_is_the_same_and_one_found_unsafe_is_not_shown);
	tcase_add_test(
		t, a_judge_sees_what_the_rules_let_through_and_a_block_shows_the_safe_prefix);
	tcase_add_test(t, text_is_released_when_its_tokens_are_written_down_and_not_before);
	tcase_add_test(t, what_was_counted_too_high_is_not_waited_for);
	tcase_add_test(
		t, text_whose_tokens_cannot_be_written_down_breaks_off_also_when_it_had_ended);
	if (geteuid() == 0) { /* they mount a small disk */
		tcase_add_test(t,
			nothing_is_released_while_the_store_cannot_write_and_the_next_answer_is_when_it_can);
		tcase_add_test(t, an_answer_that_was_computed_before_the_store_failed_ends_too);
		tcase_add_test(
			t, cancelled_while_the_store_cannot_write_it_is_charged_once_as_well);
	}
	tcase_add_test(t, cancelled_at_any_moment_it_is_charged_once_for_what_was_computed);
	tcase_add_test(t, a_session_removed_at_any_moment_leaves_its_costs_in_the_ledger);
	tcase_add_test(t, a_model_unloaded_at_any_moment_is_charged_once_for_what_was_computed);
	tcase_add_test(t, a_gateway_stopped_at_any_moment_has_charged_all_once_when_it_is_back);
	suite_add_tcase(s, t);
	return run_suite(s);
}
