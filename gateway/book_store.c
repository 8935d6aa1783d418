/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the book keeps in the store (store.h names the keys), and how it comes back.
 *
 *	a/NAME	a letter for its form, then numbers of 8 bytes, least first (struct account, in
 *		the order of record_of): windows and counts, sums, alerts, which lines of the two
 *		logs are the newest
 *	ac/ID	a letter, numbers (the request, prices, prompt and leased tokens, when it was
 *		claimed, tokens and cost of the models before, and of judges, and what these are),
 *		then names, each with a NUL: session, model, the judges' model ("-": none), the
 *		accounts that pay. In the forms before, the models before are not yet in the
 *		ledger, and, in the first of them, what judges are is missing: `judge`
 *
 * A record is written whole whenever it changes: 220 bytes. Reservations are not in it: after a
 * kill nothing is under way. A claim that is there at a start is what a kill left: it is charged
 * as it stands, in the window that is open now, its tokens in the one it was made in.
 *
 * The sums of all kinds of windows are kept, because the setting `window` is not known yet when the
 * store is read.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "gateway/book_parts.h"

static const char form = '1', claim_form = '5', steps_form = '4', judges_form = '3';
enum { RECORD_NUMBERS = 2 * N_RATES + 2 * (N_WINDOWS - WINDOW_DAY) + 4 + 1 + 4 + 1 + 3 };
enum { LATER_NUMBERS = 3 }; /* records of before had not these: the last ones */
enum { CLAIM_NUMBERS = 16, JUDGES_NUMBERS = 15 /* all but what: judges */ };
enum { CLAIM_KEY_SIZE = 3 + TEXT_SERIAL_LEN + 1 };

/* ---- numbers ---- */

static char *put_number(char *p, uint64_t x)
{
	for (int i = 0; i < 8; i++)
		*p++ = (char)(x >> (8 * i));
	return p;
}

static uint64_t get_number(const char *p)
{
	uint64_t x = 0;
	for (int i = 8; i--;)
		x = x << 8 | (unsigned char)p[i];
	return x;
}

/* ---- accounts ---- */

/* Pointers to the numbers of a record, in its order; a window is stored by its beginning. */
static size_t record_of(
	struct account *a, uint64_t *spent, uint64_t *asked, uint64_t *numbers[RECORD_NUMBERS])
{
	size_t n = 0;
	for (int r = 0; r < N_RATES; r++) {
		numbers[n++] = &a->rates[r].w.begin_s;
		numbers[n++] = &a->rates[r].used;
	}
	for (int k = WINDOW_DAY; k < N_WINDOWS; k++) {
		numbers[n++] = &a->sums[k].w.begin_s;
		numbers[n++] = &spent[k];
	}
	numbers[n++] = &a->alert.kind;
	numbers[n++] = &a->alert.begin_s;
	numbers[n++] = &a->alert.limit;
	numbers[n++] = &a->alert.ppb;
	numbers[n++] = &a->last_request;
	numbers[n++] = &a->ledger.first;
	numbers[n++] = &a->ledger.next;
	numbers[n++] = &a->events.first;
	numbers[n++] = &a->events.next;
	numbers[n++] = asked;
	numbers[n++] = &a->ledger.oldest;
	numbers[n++] = &a->events.oldest;
	numbers[n++] = &a->uid_1;
	return n;
}

void book_store_account(struct account *a, bool later)
{
	uint64_t spent[N_WINDOWS], asked = a->asked, *numbers[RECORD_NUMBERS];
	for (int k = WINDOW_DAY; k < N_WINDOWS; k++)
		spent[k] = (uint64_t)a->sums[k].spent;
	size_t n = record_of(a, spent, &asked, numbers);
	char value[1 + 8 * RECORD_NUMBERS], *p = value;
	*p++ = form;
	for (size_t i = 0; i < n; i++)
		p = put_number(p, *numbers[i]);
	if (later)
		store_put_later(a->b->store, a->key, value, (size_t)(p - value));
	else
		store_put(a->b->store, a->key, value, (size_t)(p - value));
}

/* The windows of a restored account, from their beginnings. */
static void reopen_windows(struct account *a)
{
	for (int r = 0; r < N_RATES; r++) {
		bool minute = r == REQUESTS_MINUTE || r == TOKENS_MINUTE;
		struct window *w = &a->rates[r].w;
		*w = window_at(minute ? WINDOW_MINUTE : WINDOW_DAY, w->begin_s);
	}
	for (int k = WINDOW_DAY; k < N_WINDOWS; k++)
		a->sums[k].w = window_at((enum window_kind)k, a->sums[k].w.begin_s);
}

static int restore_account(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct book *b = arg;
	uint64_t spent[N_WINDOWS], asked, *numbers[RECORD_NUMBERS];
	char name[TEXT_NAME_SIZE] = "";
	bool older = value_len == 1 + 8 * (RECORD_NUMBERS - LATER_NUMBERS);
	if (key_len < 3 || !text_is_name(key + 2, key_len - 2) ||
		(value_len != 1 + 8 * RECORD_NUMBERS && !older) || *value != form)
		return store_skip(key, key_len);
	memcpy(name, key + 2, key_len - 2);
	struct account *a = book_have(b, name);
	if (!a)
		return -ENOMEM;
	size_t n = record_of(a, spent, &asked, numbers);
	for (size_t i = 0; i < n - (older ? LATER_NUMBERS : 0); i++)
		*numbers[i] = get_number(value + 1 + 8 * i);
	for (int k = WINDOW_DAY; k < N_WINDOWS; k++)
		a->sums[k].spent = (money)spent[k];
	a->asked = asked;
	reopen_windows(a);
	if (a->last_request > b->last_request)
		b->last_request = a->last_request;
	return 0;
}

static int restore_logs(struct book *b)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < b->accounts.n; i++) {
		struct account *a = b->accounts.rows[i].object;
		r = ledger_restore(&a->ledger, b->store, a->ledger.first, a->ledger.next);
		r = r ? r : ledger_restore(&a->events, b->store, a->events.first, a->events.next);
		book_log_counts(b, &a->ledger);
		book_log_counts(b, &a->events);
	}
	return r;
}

/* ---- the ledger ---- */

static char *add_word(char *p, const char *head, const char *word, size_t most)
{
	size_t n = strnlen(word, most);
	return (char *)mempcpy(stpcpy(p, head), word, n);
}

static char *add_number(char *p, const char *head, uint64_t x)
{
	return text_number(stpcpy(p, head), x);
}

/* One line; more: `step`, `judge` or `embedding`, `overrun`. Not by printf: each request has one.
 */
static void add_line(struct account *a, const struct book_bill *bill, uint64_t now_ns)
{
	static const char *const asides[] = {[BOOK_JUDGE] = ", \"judge\": true",
		[BOOK_EMBEDDING] = ", \"embedding\": true",
		[BOOK_OPINION] = ", \"judge\": true",
		[BOOK_ASIDES] = ""};
	char line[LEDGER_LINE_MAX], room[MONEY_TEXT_SIZE], *p = text_time(line, now_ns);
	p = add_number(p, ", \"request\": ", bill->request);
	p = add_word(p, ", \"user\": \"", bill->user, TEXT_NAME_MAX);
	p = add_word(p, "\", \"session\": \"", bill->session, TEXT_NAME_MAX);
	p = add_word(p, "\", \"model\": \"", bill->model, TEXT_NAME_MAX);
	p = add_word(p, "\", \"status\": \"", bill->status, 32);
	p = add_number(p, "\", \"prompt_tokens\": ", bill->tokens.prompt);
	p = add_number(p, ", \"cached_tokens\": ", bill->tokens.cached);
	p = add_number(p, ", \"output_tokens\": ", bill->tokens.output);
	p = stpcpy(stpcpy(p, ", \"cost\": "), money_text(bill->cost, room));
	p = stpcpy(stpcpy(p, ", \"spent\": "), money_text(account_sum(a)->spent, room));
	p = stpcpy(p, bill->is_step ? ", \"step\": true" : "");
	p = stpcpy(p, asides[bill->is_aside ? bill->what : BOOK_ASIDES]);
	p = stpcpy(stpcpy(p, bill->overrun ? ", \"overrun\": true" : ""), "}\n");
	ledger_add(&a->ledger, a->b->store, line, (size_t)(p - line), now_ns);
	book_log_grew(a, &a->ledger);
}

void book_charge(struct account *a, const struct book_bill *bill, uint64_t now_ns)
{
	account_spend(a, bill->cost, now_ns);
	if (bill->request > a->last_request)
		a->last_request = bill->request;
	add_line(a, bill, now_ns);
	book_store_account(a, false);
}

void book_note(struct account *a, const char *status, money cost, uint64_t now_ns)
{
	char line[LEDGER_LINE_MAX], change[MONEY_TEXT_SIZE], spent[MONEY_TEXT_SIZE];
	char *p = text_time(line, now_ns);
	p += sprintf(p, ", \"status\": \"%.32s\", \"cost\": %s, \"spent\": %s}\n", status,
		money_text(cost, change), money_text(account_sum(a)->spent, spent));
	ledger_add(&a->ledger, a->b->store, line, (size_t)(p - line), now_ns);
	book_log_grew(a, &a->ledger);
}

/* ---- claims ---- */

void book_copy_name(char to[TEXT_NAME_SIZE], const char *from)
{
	size_t n = 0;
	for (; n < TEXT_NAME_MAX && from[n]; n++) {
		bool plain = from[n] > ' ' && from[n] < 0x7F && from[n] != '"' && from[n] != '\\';
		to[n] = plain ? from[n] : '?';
	}
	to[n] = '\0';
}

static void claim_key(char key[CLAIM_KEY_SIZE], uint64_t serial)
{
	text_serial(stpcpy(key, "ac/"), serial);
}

static int put_name(struct buf *value, const char *name)
{
	return buf_append(value, name, strlen(name) + 1);
}

int book_store_claim(const struct book_claim *c)
{
	const struct money_price *price = &c->worst.price;
	struct money_tokens judges;
	money judges_cost;
	book_judges_now(&c->judges, &judges, &judges_cost);
	const uint64_t numbers[CLAIM_NUMBERS] = {c->request, (uint64_t)price->input,
		(uint64_t)price->cached, (uint64_t)price->output, c->prompt_tok, c->leased_tok,
		c->claimed_s, c->before.prompt, c->before.cached, c->before.output,
		(uint64_t)c->before_cost, judges.prompt, judges.cached, judges.output,
		(uint64_t)judges_cost, c->judges.what};
	char key[CLAIM_KEY_SIZE], head[1 + 8 * CLAIM_NUMBERS], *p = head;
	*p++ = claim_form;
	for (size_t i = 0; i < CLAIM_NUMBERS; i++)
		p = put_number(p, numbers[i]);
	struct buf value = {0};
	int r = buf_append(&value, head, sizeof head);
	r = r ? r : put_name(&value, c->session);
	r = r ? r : put_name(&value, c->model);
	r = r ? r : put_name(&value, *c->judges.model ? c->judges.model : "-");
	for (size_t i = 0; r == 0 && i < c->n; i++)
		r = put_name(&value, c->holds[i].a->name);
	claim_key(key, c->serial);
	if (r == 0)
		store_put(c->b->store, key, value.data, value.len);
	else
		log_error("out of memory: a crash would not charge request %" PRIu64, c->request);
	buf_free(&value);
	return r;
}

void book_unstore_claim(const struct book_claim *c)
{
	char key[CLAIM_KEY_SIZE];
	claim_key(key, c->serial);
	store_delete(c->b->store, key);
}

/* ---- what a crash left ---- */

struct leftover {
	struct leftover *next;
	uint64_t numbers[CLAIM_NUMBERS];
	char key[CLAIM_KEY_SIZE];
	bool has_steps;             /* models before are in the ledger */
	struct money_tokens tokens; /* once it is charged, of all models */
	money cost;
	size_t len;
	char names[]; /* [len], each with its NUL: session, model, judge, accounts */
};

struct leftovers {
	struct book *b;
	struct leftover *first, **end;
};

bool book_crash(const struct book *b, size_t n, struct book_crash *out)
{
	const struct leftover *l = b->crashes;
	while (l && n--)
		l = l->next;
	if (!l)
		return false;
	*out = (struct book_crash){.request = l->numbers[0],
		.session = l->names,
		.model = l->names + strlen(l->names) + 1,
		.tokens = l->tokens,
		.cost = l->cost};
	return true;
}

void book_forget_crashes(struct book *b)
{
	while (b->crashes) {
		struct leftover *l = b->crashes;
		b->crashes = l->next;
		free(l);
	}
}

/* Names that may stand in a ledger's line: it is from a disk. */
static bool names_fit(const char *names, size_t len)
{
	size_t n = 0, start = 0;
	for (size_t i = 0; i < len; i++) {
		if (names[i] && (names[i] <= ' ' || names[i] >= 0x7F || names[i] == '"' ||
					names[i] == '\\'))
			return false;
		if (names[i])
			continue;
		if (i - start > TEXT_NAME_MAX || (n > 2 && !text_is_name(names + start, i - start)))
			return false;
		start = i + 1;
		n++;
	}
	return n > 3 && start == len;
}

static int note_leftover(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct leftovers *all = arg;
	bool older = value_len && *value == judges_form;
	const size_t n = older ? JUDGES_NUMBERS : CLAIM_NUMBERS, head = 1 + 8 * n;
	if (key_len != CLAIM_KEY_SIZE - 1 || value_len <= head ||
		(*value != claim_form && *value != steps_form && !older) ||
		!names_fit(value + head, value_len - head))
		return store_skip(key, key_len);
	struct leftover *l = calloc(1, sizeof *l + value_len - head);
	if (!l)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		l->numbers[i] = get_number(value + 1 + 8 * i);
	memcpy(l->key, key, key_len);
	l->len = value_len - head;
	l->has_steps = *value == claim_form;
	memcpy(l->names, value + head, l->len);
	*all->end = l;
	all->end = &l->next;
	return 0;
}

/* Its tokens, if the windows it was claimed in are still the last ones. */
static void count_tokens(struct account *a, uint64_t claimed_s, uint64_t tok)
{
	for (int r = TOKENS_MINUTE; r <= TOKENS_DAY; r++) {
		enum window_kind kind = r == TOKENS_MINUTE ? WINDOW_MINUTE : WINDOW_DAY;
		if (window_at(kind, claimed_s).begin_s == a->rates[r].w.begin_s)
			a->rates[r].used += tok;
	}
}

/* Charges a bill of it to all who pay; of its tokens, tok count in rate limits. 0 or -ENOMEM. */
static int charge_all(struct book *b, const struct leftover *l, const struct book_bill *bill,
	uint64_t tok, uint64_t now_ns)
{
	for (const char *name = bill->user; name < l->names + l->len; name += strlen(name) + 1) {
		struct account *a = book_have(b, name);
		if (!a)
			return -ENOMEM;
		count_tokens(a, l->numbers[6], tok);
		account_roll(a, now_ns / 1000000000);
		book_charge(a, bill, now_ns);
	}
	return 0;
}

static int charge_leftover(struct book *b, struct leftover *l, uint64_t now_ns)
{
	const char *session = l->names, *model = session + strlen(session) + 1;
	const char *judge = model + strlen(model) + 1, *user = judge + strlen(judge) + 1;
	const struct money_price price = {
		(money)l->numbers[1], (money)l->numbers[2], (money)l->numbers[3]};
	struct book_bill bill = {
		.request = l->numbers[0],
		.user = user,
		.session = session,
		.model = model,
		.status = "crashed",
		.tokens = {.prompt = l->numbers[4], .output = l->numbers[5]},
	};
	struct book_bill judges = bill;
	judges.model = judge;
	judges.is_aside = true;
	judges.what = l->numbers[15] < BOOK_ASIDES ? (enum book_aside)l->numbers[15] : BOOK_JUDGE;
	judges.tokens = (struct money_tokens){l->numbers[11], l->numbers[12], l->numbers[13]};
	judges.cost = (money)l->numbers[14];
	bill.cost = money_cost(&price, &bill.tokens);
	l->tokens = bill.tokens;
	l->tokens.prompt += l->numbers[7];
	l->tokens.cached += l->numbers[8];
	l->tokens.output += l->numbers[9];
	const money all = money_add(bill.cost, (money)l->numbers[10]);
	l->cost = money_add(all, judges.cost);
	if (!l->has_steps) {
		bill.tokens = l->tokens;
		bill.cost = all;
	}
	bool judged = judges.tokens.prompt || judges.tokens.output;
	int r = judged ? charge_all(b, l, &judges, 0, now_ns) : 0;
	r = r ? r : charge_all(b, l, &bill, l->tokens.prompt + l->tokens.output, now_ns);
	if (r < 0)
		return r;
	if (bill.request > b->last_request)
		b->last_request = bill.request;
	store_delete(b->store, l->key);
	return 0;
}

int book_restore(struct book *b, struct err *err)
{
	struct leftovers all = {.b = b};
	all.end = &all.first;
	int r = store_scan(b->store, "a/", restore_account, b);
	r = r ? r : restore_logs(b);
	r = r ? r : store_scan(b->store, "ac/", note_leftover, &all);
	uint64_t now_ns = book_now_ns();
	store_begin(b->store);
	b->crashes = all.first;
	for (struct leftover *l = all.first; r == 0 && l; l = l->next)
		r = charge_leftover(b, l, now_ns);
	store_end(b->store);
	return r ? err_set(err, r, "the accounts cannot be restored: %s", strerror(-r)) : 0;
}
