/* SPDX-License-Identifier: Apache-2.0 */
/* What stands in the ledger, and that it is never less than what was leased, whatever a crash left.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/gateway/claim_fixture.h"
#include "tests/run_suite.h"

/* ---- the ledger ---- */

START_TEST(a_line_of_the_ledger_says_it_all)
{
	struct book_claim *c = claim_admitted("alice", 200, 3);
	claim_start(c, 200);
	const struct money_tokens tokens = {200, 50, 2};
	ck_assert_int_eq(book_claim_settle(c, &tokens, "cancelled"), 2000175000);
	char *text = book_fixture_view(&claim_f, "alice", ACCOUNT_LEDGER), expected[512];
	snprintf(expected, sizeof expected,
		"{\"time\": 1795608000.000, \"request\": %" PRIu64
		", \"user\": \"alice\", \"session\": \"s\", \"model\": \"m\", \"status\": "
		"\"cancelled\", \"prompt_tokens\": 200, \"cached_tokens\": 50, \"output_tokens\": "
		"2, \"cost\": 2.000175, \"spent\": 2.000175}\n",
		claim_last_id);
	ck_assert_str_eq(text, expected);
	json_error_t error;
	json_t *line = json_loads(text, 0, &error);
	ck_assert_msg(line != NULL, "%s", error.text);
	json_decref(line);
	free(text);
}
END_TEST

START_TEST(more_than_was_reserved_is_charged_and_said)
{
	claim_set("alice", "limit", "5");
	struct book_claim *c = claim_admitted("alice", 0, 2);
	claim_start(c, 0);
	ck_assert_int_eq(claim_settle(c, 0, 7), 7000000000);
	ck_assert_uint_eq(book_fixture_count(&claim_f, "alice", ACCOUNT_LEDGER,
				  "\"cost\": 7, \"spent\": 7, \"overrun\": true}\n"),
		1);
	book_fixture_expect(&claim_f, "alice", ACCOUNT_REMAINING, "-2\n");
	claim_settle(claim_admitted("alice", 0, 0), 0, 0);
	ck_assert_uint_eq(book_fixture_count(&claim_f, "alice", ACCOUNT_LEDGER, "overrun"), 1);
}
END_TEST

START_TEST(names_that_would_break_a_line_do_not)
{
	struct book_claim *c = claim_admitted("alice", 0, 1);
	const struct book_request request = {++claim_last_id, "a\"b\\c\nd\x80", NULL};
	book_claim_start(c, &request, 0);
	claim_settle(c, 0, 1);
	ck_assert_uint_eq(
		book_fixture_count(&claim_f, "alice", ACCOUNT_LEDGER, "\"session\": \"a?b?c?d?\""),
		1);
	struct book_claim *d = NULL;
	ck_assert_int_eq(claim_try(&d, "a\nb", 0, 0, NULL, NULL), -EINVAL);
	ck_assert_int_eq(claim_try(&d, "", 0, 0, NULL, NULL), -EINVAL);
	ck_assert_int_eq(claim_try(&d, "..", 0, 0, NULL, NULL), -EINVAL);
}
END_TEST

START_TEST(request_ids_go_on_behind_those_of_the_ledger)
{
	struct book_claim *c = claim_admitted("alice", 0, 1), *d;
	const struct book_request high = {4711, "s", "m"}, higher = {4712, "s", "m"};
	book_claim_start(c, &high, 0);
	claim_settle(c, 0, 1);
	book_fixture_close(&claim_f);
	book_fixture_open(&claim_f);
	ck_assert_uint_eq(book_last_request(claim_f.g.book), 4711);
	book_claim_start(d = claim_admitted("bob", 0, 1), &higher, 0);
	book_fixture_kill(&claim_f);
	book_claim_return(d);
	book_fixture_close(&claim_f);
	book_fixture_open(&claim_f);
	ck_assert_uint_eq(book_last_request(claim_f.g.book), 4712);
}
END_TEST

START_TEST(there_is_a_ceiling_on_users_without_an_account)
{
	char name[32];
	for (int i = 0; i < BOOK_ACCOUNTS_MAX; i++) {
		snprintf(name, sizeof name, "u%d", i);
		book_claim_return(claim_admitted(name, 0, 0));
	}
	struct book_claim *c;
	struct err err = {0};
	ck_assert_int_eq(claim_try(&c, "late", 0, 0, NULL, &err), -EBUSY);
	ck_assert_ptr_nonnull(strstr(err.text, "mkdir budgets/late"));
	book_claim_return(claim_admitted("u0", 0, 0));
	ck_assert_int_eq(gateway_account_create(&claim_f.g, "late", NULL), 0);
	book_claim_return(claim_admitted("late", 0, 0));
}
END_TEST

/* ---- crashes ---- */

START_TEST(what_a_crash_left_is_charged_as_it_was_leased)
{
	claim_set("staff", "members", "alice");
	claim_set("alice", "tokens_per_minute", "1000");
	struct book_claim *waiting = claim_admitted("alice", 0, 3);
	struct book_claim *begun = claim_admitted("alice", 0, 200),
			  *capped = claim_admitted("alice", 0, 70);
	claim_start(begun, 0);
	ck_assert(book_claim_lease(begun, 1));
	ck_assert(book_claim_lease(begun, BOOK_LEASE_TOK));
	ck_assert(!book_claim_lease(begun, BOOK_LEASE_TOK + 1));
	ck_assert(book_claim_lease(begun, 2 * BOOK_LEASE_TOK));
	claim_start(capped, 500000);
	ck_assert(!book_claim_lease(capped, 65));
	ck_assert(book_claim_lease(capped, 70)); /* all that was reserved */
	claim_settle(claim_admitted("alice", 0, 1), 0, 1);
	book_fixture_kill(&claim_f);
	book_claim_return(waiting);
	book_claim_return(begun);
	book_claim_return(capped);
	for (int again = 0; again < 2; again++) {
		book_fixture_close(&claim_f);
		book_fixture_open(&claim_f);
		claim_set("staff", "members", "alice");
		for (int i = 0; i < 2; i++) {
			const char *name = i ? "staff" : "alice";
			book_fixture_expect(&claim_f, name, ACCOUNT_SPENT, "199.5\n");
			ck_assert_uint_eq(
				book_fixture_count(&claim_f, name, ACCOUNT_LEDGER, "\n"), 3);
			ck_assert_uint_eq(book_fixture_count(&claim_f, name, ACCOUNT_LEDGER,
						  "\"status\": \"crashed\", \"prompt_tokens\": 0, "
						  "\"cached_tokens\": 0, \"output_tokens\": 128, "
						  "\"cost\": 128, "),
				1);
		}
	}
	/* 128 + 500,070 + 1 tokens of this minute are gone. */
	claim_set("alice", "tokens_per_minute", "500200");
	claim_settle(claim_admitted("alice", 1, 0), 1, 0);
	struct book_claim *c;
	ck_assert_int_eq(claim_try(&c, "alice", 1, 0, NULL, NULL), -EAGAIN);
}
END_TEST

/* A claim's record, of that form. */
static void put_claim(char form, const uint64_t *numbers, size_t n)
{
	static const char names[] = "s\0m\0j\0alice";
	char value[1 + 8 * 16 + sizeof names] = {form};
	for (size_t i = 0; i < 8 * n; i++)
		value[1 + i] = (char)(numbers[i / 8] >> (8 * (i % 8)));
	memcpy(value + 1 + 8 * n, names, sizeof names);
	book_claim_return(claim_admitted("alice", 0, 0));
	store_put(claim_f.g.store, "ac/000000000000000a", value, 1 + 8 * n + sizeof names);
}

/* After a start, and after one more. */
static void expect_crashed(const char *spent, const char *line, const char *aside)
{
	for (int again = 0; again < 2; again++) {
		book_fixture_close(&claim_f);
		book_fixture_open(&claim_f);
		book_fixture_expect(&claim_f, "alice", ACCOUNT_SPENT, spent);
		ck_assert_uint_eq(book_fixture_count(&claim_f, "alice", ACCOUNT_LEDGER, aside), 1);
		ck_assert_uint_eq(book_fixture_count(&claim_f, "alice", ACCOUNT_LEDGER, line), 1);
		ck_assert_uint_eq(book_fixture_count(&claim_f, "alice", ACCOUNT_LEDGER, "\n"), 2);
	}
	ck_assert_uint_eq(book_last_request(claim_f.g.book), 9);
}

/* A dollar for a token of the answer; before it, another model that cost 7, and a judge that
 * cost 3. */
static const uint64_t crashed_claim[16] = {[0] = 9, /* the request */
	[3] = 1000000000000000,
	[4] = 5,
	[5] = 64,
	[7] = 20,
	[8] = 10,
	[9] = 6,
	[10] = 7000000000,
	[11] = 4,
	[14] = 3000000000,
	[15] = BOOK_EMBEDDING};

/* Its claims had 15 numbers, and no word of what the other model was asked for. */
START_TEST(what_a_crash_of_an_older_build_left_is_charged)
{
	uint64_t numbers[15];
	memcpy(numbers, crashed_claim, sizeof numbers);
	numbers[7] = numbers[8] = numbers[9] = numbers[10] = 0;
	put_claim('3', numbers, 15);
	expect_crashed("67\n",
		"\"status\": \"crashed\", \"prompt_tokens\": 5, \"cached_tokens\": 0, "
		"\"output_tokens\": 64, \"cost\": 64, ",
		"\"judge\": true");
}
END_TEST

/* That one charged no steps: models before are in the record only. */
START_TEST(a_crash_of_a_build_without_steps_is_charged_with_the_models_before)
{
	put_claim('4', crashed_claim, 16);
	expect_crashed("74\n",
		"\"model\": \"m\", \"status\": \"crashed\", \"prompt_tokens\": 25, "
		"\"cached_tokens\": 10, \"output_tokens\": 70, \"cost\": 71, ",
		"\"embedding\": true");
}
END_TEST

START_TEST(a_crash_is_charged_without_the_steps_that_were)
{
	struct book_crash crash;
	put_claim('5', crashed_claim, 16);
	book_fixture_close(&claim_f);
	book_fixture_open(&claim_f);
	ck_assert(book_crash(claim_f.g.book, 0, &crash));
	ck_assert_uint_eq(crash.tokens.prompt, 25);
	ck_assert_uint_eq(crash.tokens.output, 70);
	ck_assert_int_eq(crash.cost, 74000000000);
	expect_crashed("67\n",
		"\"model\": \"m\", \"status\": \"crashed\", \"prompt_tokens\": 5, "
		"\"cached_tokens\": 0, \"output_tokens\": 64, \"cost\": 64, ",
		"\"embedding\": true");
}
END_TEST

START_TEST(damaged_entries_are_left_out_and_the_rest_lives)
{
	claim_settle(claim_admitted("alice", 0, 2), 0, 2);
	store_put(claim_f.g.store, "a/bob", "1short", 6);
	store_put(claim_f.g.store, "a/..", "", 0);
	store_put(claim_f.g.store, "ac/0000000000000009", "1garbage", 8);
	char claim_value[1 + 120 + 14] = "3";
	memcpy(claim_value + 121, "s\0m\0-\0a\"b\0bob\0", 14);
	store_put(claim_f.g.store, "ac/000000000000000a", claim_value, sizeof claim_value);
	store_put(claim_f.g.store, "al/alice/0000000000000000", "two\nlines\n", 10);
	book_fixture_close(&claim_f);
	book_fixture_open(&claim_f);
	book_fixture_expect(&claim_f, "alice", ACCOUNT_SPENT, "2\n");
	book_fixture_expect(&claim_f, "alice", ACCOUNT_LEDGER, "");
	ck_assert_ptr_null(gateway_account_find(&claim_f.g, "bob"));
	claim_settle(claim_admitted("alice", 0, 2), 0, 2);
	ck_assert_uint_eq(book_fixture_count(&claim_f, "alice", ACCOUNT_LEDGER, "\n"), 1);
}
END_TEST

/* What the child showed a reader, told through a pipe after the store had it. */
struct shown {
	uint64_t request, output_tok;
};

struct stored {
	struct store_waiter w;
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool is;
};

static void note_stored(struct store_waiter *w, int status)
{
	struct stored *s = (struct stored *)w;
	pthread_mutex_lock(&s->lock);
	s->is = true;
	pthread_cond_signal(&s->done);
	pthread_mutex_unlock(&s->lock);
}

static void wait_stored(void)
{
	struct stored s = {.w.done = note_stored};
	pthread_mutex_init(&s.lock, NULL);
	pthread_cond_init(&s.done, NULL);
	store_after(claim_f.g.store, &s.w);
	pthread_mutex_lock(&s.lock);
	while (!s.is)
		pthread_cond_wait(&s.done, &s.lock);
	pthread_mutex_unlock(&s.lock);
	pthread_cond_destroy(&s.done);
	pthread_mutex_destroy(&s.lock);
}

/* Asks and answers until it is killed. */
static void serve(int out)
{
	unsigned x = (unsigned)getpid();
	uint64_t id = book_last_request(claim_f.g.book);
	for (;;) {
		struct book_claim *c = NULL;
		if (claim_try(&c, "alice", 0, 300, NULL, NULL) < 0)
			_exit(1);
		const struct book_request request = {++id, "s", "m"};
		book_claim_start(c, &request, 0);
		wait_stored();
		x = x * 1103515245 + 12345;
		uint64_t total = (x >> 16) % 300;
		for (uint64_t tok = 1; tok <= total; tok++) {
			if (!book_claim_lease(c, tok))
				wait_stored();
			struct shown s = {id, tok};
			if (write(out, &s, sizeof s) != sizeof s)
				_exit(1);
		}
		claim_settle(c, 0, total);
	}
}

/* Kills a server at some point, and notes in shown[id] what its readers got. */
static void serve_and_kill(uint64_t *shown, size_t n_shown, unsigned after_us)
{
	int ends[2];
	ck_assert_int_eq(pipe(ends), 0);
	pid_t child = fork();
	if (!child) {
		close(ends[0]);
		book_fixture_open(&claim_f);
		serve(ends[1]);
	}
	close(ends[1]);
	struct shown s;
	bool armed = false;
	while (read(ends[0], &s, sizeof s) == sizeof s) {
		if (s.request < n_shown)
			shown[s.request] = s.output_tok;
		if (!armed) {
			armed = true;
			pid_t killer = fork();
			if (!killer) {
				usleep(after_us);
				kill(child, SIGKILL);
				_exit(0);
			}
			waitpid(killer, NULL, 0);
		}
	}
	close(ends[0]);
	waitpid(child, NULL, 0);
}

START_TEST(the_ledger_is_never_less_than_what_was_shown_after_kill_9)
{
	enum { N = 20000, ROUNDS = 20 };
	static uint64_t shown[N], charged[N];
	book_fixture_close(&claim_f);
	for (unsigned round = 0; round < ROUNDS; round++)
		serve_and_kill(shown, N, 500 + round * 777 % 9000);
	book_fixture_open(&claim_f);
	char *text = book_fixture_view(&claim_f, "alice", ACCOUNT_LEDGER), *rest = text, *line;
	unsigned n = 0, crashed = 0;
	uint64_t first = 0, last = 0, sum = 0;
	while ((line = strsep(&rest, "\n")) && *line) {
		json_t *o = json_loads(line, 0, NULL);
		ck_assert_msg(o != NULL, "%s", line);
		uint64_t id = (uint64_t)json_integer_value(json_object_get(o, "request"));
		ck_assert_uint_gt(id, last); /* never used twice, in order */
		last = id;
		first = first ? first : id;
		ck_assert_uint_lt(id, N);
		charged[id] = (uint64_t)json_integer_value(json_object_get(o, "output_tokens"));
		crashed += !strcmp(json_string_value(json_object_get(o, "status")), "crashed");
		sum += charged[id];
		n++;
		json_decref(o);
	}
	free(text);
	ck_assert_uint_ge(n, ROUNDS);
	ck_assert_uint_gt(crashed, 0);
	ck_assert_uint_le(crashed, ROUNDS);
	for (uint64_t id = first; id < N; id++) {
		ck_assert_msg(charged[id] >= shown[id],
			"request %" PRIu64 ": %" PRIu64 " < %" PRIu64, id, charged[id], shown[id]);
		ck_assert_uint_le(charged[id], shown[id] + 2 * BOOK_LEASE_TOK);
	}
	if (first == 1) {
		char expected[32];
		snprintf(expected, sizeof expected, "%" PRIu64 "\n", sum);
		book_fixture_expect(&claim_f, "alice", ACCOUNT_SPENT, expected);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gateway/book_ledger");
	TCase *t = tcase_create("book_ledger");
	tcase_add_checked_fixture(t, claim_open, claim_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_line_of_the_ledger_says_it_all);
	tcase_add_test(t, more_than_was_reserved_is_charged_and_said);
	tcase_add_test(t, names_that_would_break_a_line_do_not);
	tcase_add_test(t, request_ids_go_on_behind_those_of_the_ledger);
	tcase_add_test(t, there_is_a_ceiling_on_users_without_an_account);
	tcase_add_test(t, what_a_crash_left_is_charged_as_it_was_leased);
	tcase_add_test(t, what_a_crash_of_an_older_build_left_is_charged);
	tcase_add_test(t, a_crash_of_a_build_without_steps_is_charged_with_the_models_before);
	tcase_add_test(t, a_crash_is_charged_without_the_steps_that_were);
	tcase_add_test(t, damaged_entries_are_left_out_and_the_rest_lives);
	tcase_add_test(t, the_ledger_is_never_less_than_what_was_shown_after_kill_9);
	suite_add_tcase(s, t);
	return run_suite(s);
}
