/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts as a front end sees them: who there is, settings, verbs, texts.
 *
 * An account is shown when it is configured, or when its user ever asked something. One that is
 * neither is kept as long as there is anything to remember of it: a group whose directory is
 * removed and made again has spent what it has spent.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/book_parts.h"
#include "gateway/verbs.h"

/* ---- which there are ---- */

static int configure(struct book *b, const char *name, struct err *err)
{
	struct account *a = book_find(b, name);
	if (a && a->configured)
		return err_set(err, -EEXIST, "account %s exists", name);
	if (b->n_configured >= BOOK_ACCOUNTS_MAX)
		return err_set(err, -EDQUOT, "there may be %d accounts", BOOK_ACCOUNTS_MAX);
	a = a ? a : book_have(b, name);
	if (!a)
		return err_set(err, -ENOMEM, "out of memory");
	a->configured = true;
	b->n_configured++;
	if (!strcmp(name, "default"))
		b->fallback = a;
	return 0;
}

int gateway_account_create(struct gateway *g, const char *name, struct err *err)
{
	struct book *b = g->book;
	if (!text_is_name(name, strlen(name)))
		return err_set(err, -EINVAL,
			"the name of an account consists of 1 to %d of A-Z a-z 0-9 . _ -",
			TEXT_NAME_MAX);
	pthread_mutex_lock(&b->lock);
	int r = configure(b, name, err);
	pthread_mutex_unlock(&b->lock);
	if (r == 0)
		book_tell_change(b, GATEWAY_CHANGE_ACCOUNTS, name, NULL);
	return r;
}

int gateway_account_remove(struct gateway *g, const char *name, struct err *err)
{
	struct book *b = g->book;
	pthread_mutex_lock(&b->lock);
	struct account *a = book_find(b, name);
	bool found = a && a->configured;
	if (found) {
		a->configured = false;
		b->n_configured--;
		limits_clear(&a->limits);
		if (a == b->fallback)
			b->fallback = NULL;
		if (table_remove(&b->groups, name))
			b->groups_age++;
		book_forget_if_unused(b, a);
	}
	pthread_mutex_unlock(&b->lock);
	if (!found)
		return err_set(err, -ENOENT, "there is no account %s", name);
	book_tell_change(b, GATEWAY_CHANGE_ACCOUNTS, name, NULL);
	return 0;
}

struct account *gateway_account_find(struct gateway *g, const char *name)
{
	struct book *b = g->book;
	pthread_mutex_lock(&b->lock);
	struct account *a = book_find(b, name);
	a = a && account_is_shown(a) ? account_ref(a) : NULL;
	pthread_mutex_unlock(&b->lock);
	return a;
}

static void free_names(char **names)
{
	for (size_t i = 0; names && names[i]; i++)
		free(names[i]);
	free(names);
}

/* Names of the accounts for which `wanted` holds, sorted. NULL when memory is out. */
static char **names_of(struct book *b, bool (*wanted)(const struct account *a))
{
	pthread_mutex_lock(&b->lock);
	char **names = calloc(b->accounts.n + 1, sizeof *names);
	size_t n = 0;
	bool whole = names;
	for (size_t i = 0; whole && i < b->accounts.n; i++) {
		const struct account *a = b->accounts.rows[i].object;
		if (!wanted(a))
			continue;
		names[n] = strdup(a->name);
		whole = names[n++];
	}
	pthread_mutex_unlock(&b->lock);
	if (whole)
		return names;
	free_names(names);
	return NULL;
}

char **gateway_account_names(struct gateway *g)
{
	return names_of(g->book, account_is_shown);
}

bool account_is_configured(struct account *a)
{
	pthread_mutex_lock(&a->b->lock);
	bool is = a->configured;
	pthread_mutex_unlock(&a->b->lock);
	return is;
}

bool account_uid(struct account *a, uid_t *uid)
{
	pthread_mutex_lock(&a->b->lock);
	bool is = a->uid_1 && a->uid_1 <= UINT32_MAX;
	*uid = is ? (uid_t)(a->uid_1 - 1) : 0;
	pthread_mutex_unlock(&a->b->lock);
	return is;
}

void book_note_user(struct book *b, const char *user, uid_t uid)
{
	pthread_mutex_lock(&b->lock);
	struct account *a = book_find(b, user);
	if (a && a->asked && a->uid_1 != (uint64_t)uid + 1) {
		a->uid_1 = (uint64_t)uid + 1;
		book_store_account(a, true);
	}
	pthread_mutex_unlock(&b->lock);
}

/* ---- settings ---- */

const char *const *account_setting_names(void)
{
	return limits_names();
}

static int find_setting(const char *file, enum limits_setting *i, struct err *err)
{
	*i = limits_find(file);
	return *i == N_LIMITS ? err_set(err, -ENOENT, "an account has no setting %s", file) : 0;
}

int account_setting_check(const char *file, const char *value, size_t len, struct err *err)
{
	enum limits_setting i;
	int r = find_setting(file, &i, err);
	return r ? r : limits_check(i, value, len, err);
}

bool account_setting_is_hopeless(const char *file, const char *value, size_t len)
{
	enum limits_setting i = limits_find(file);
	return i < N_LIMITS && limits_is_hopeless(i, value, len);
}

static bool follows_default(const struct account *a)
{
	return a->asked && !a->configured;
}

/* Tells of a changed setting; that of default is shown by others too. */
static void tell_setting(struct account *a, const char *file)
{
	struct book *b = a->b;
	book_tell_change(b, GATEWAY_CHANGE_ACCOUNT, a->name, file);
	if (strcmp(a->name, "default"))
		return;
	char **names = names_of(b, follows_default);
	for (size_t i = 0; names && names[i]; i++)
		book_tell_change(b, GATEWAY_CHANGE_ACCOUNT, names[i], file);
	free_names(names);
}

/* With the lock held. */
static int set_locked(
	struct account *a, enum limits_setting i, const char *value, size_t len, struct err *err)
{
	struct book *b = a->b;
	if (b->closed)
		return err_set(err, -ESHUTDOWN, "llmfs is stopping");
	if (!a->configured)
		return err_set(err, -ENOENT,
			"account %s follows default: mkdir budgets/%s gives it settings of its own",
			a->name, a->name);
	if (i == LIMITS_MEMBERS && len && a == b->fallback)
		return err_set(err, -EINVAL, "members: default is a template and has none");
	if (i == LIMITS_MEMBERS && book_add_group(b, a) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	int r = limits_set(&a->limits, i, value, len, err);
	if (i == LIMITS_MEMBERS)
		b->groups_age++;
	if (r == 0)
		a->view_ns[ACCOUNT_REMAINING] = book_now_ns();
	return r;
}

int account_setting_set(
	struct account *a, const char *file, const char *value, size_t len, struct err *err)
{
	enum limits_setting i;
	int r = find_setting(file, &i, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&a->b->lock);
	r = set_locked(a, i, value, len, err);
	pthread_mutex_unlock(&a->b->lock);
	if (r == 0)
		tell_setting(a, file);
	return r;
}

void account_setting_fail(struct account *a, const char *file)
{
	enum limits_setting i;
	if (find_setting(file, &i, NULL) < 0)
		return;
	pthread_mutex_lock(&a->b->lock);
	limits_break(&a->limits, i);
	pthread_mutex_unlock(&a->b->lock);
}

int account_setting_get(struct account *a, const char *file, struct buf *out)
{
	enum limits_setting i;
	int r = find_setting(file, &i, NULL);
	if (r < 0)
		return r;
	size_t len;
	pthread_mutex_lock(&a->b->lock);
	const char *value = limits_get(account_limits(a), i, &len);
	r = len ? buf_append(out, value, len) : 0;
	pthread_mutex_unlock(&a->b->lock);
	return r;
}

/* ---- verbs ---- */

enum { RESET, CREDIT };

static const struct verbs_row verbs[] = {
	[RESET] = {.name = "reset"},
	[CREDIT] = {"credit", "DOLLARS", "the DOLLARS are missing, as in: credit 2.50"},
	{0},
};

bool account_ctl_is_hopeless(const char *line, size_t len)
{
	return verbs_is_hopeless(verbs, line, len);
}

/* Its verb; *off is what it takes off what was spent. */
static int read_verb(struct account *a, const char *line, size_t len, money *off, struct err *err)
{
	struct verbs_argument dollars;
	int verb = verbs_find(verbs, line, len, &dollars, err);
	if (verb == RESET)
		*off = account_sum(a)->spent;
	else if (verb == CREDIT && money_parse(dollars.text, dollars.len, off) < 0)
		return err_set(err, -EINVAL, "credit: must be dollars, as in: credit 2.50");
	return verb;
}

static int ctl_locked(struct account *a, const char *line, size_t len, struct err *err)
{
	uint64_t now_ns = book_now_ns();
	money off = 0;
	account_roll(a, now_ns / 1000000000);
	int verb = read_verb(a, line, len, &off, err);
	if (verb < 0)
		return verb;
	if (a == a->b->fallback)
		return err_set(err, -EINVAL, "default is a template: nothing is spent there");
	struct account_sum *sum = account_sum(a);
	if (sum->spent < INT64_MIN / 2)
		return err_set(err, -ERANGE, "that is more credit than can be counted");
	sum->spent -= off;
	if (verb == RESET) {
		a->alert = (struct account_alert){0};
		account_leave_future(a, now_ns / 1000000000);
	}
	a->view_ns[ACCOUNT_SPENT] = a->view_ns[ACCOUNT_REMAINING] = now_ns;
	store_begin(a->b->store);
	book_note(a, verbs[verb].name, -off, now_ns);
	book_store_account(a, false);
	store_end(a->b->store);
	return 0;
}

int account_ctl(struct account *a, const char *line, size_t len, struct err *err)
{
	pthread_mutex_lock(&a->b->lock);
	int r = a->b->closed ? err_set(err, -ESHUTDOWN, "llmfs is stopping")
			     : ctl_locked(a, line, len, err);
	pthread_mutex_unlock(&a->b->lock);
	if (r == 0)
		store_await_groups(a->b->store);
	return r;
}

/* ---- texts ---- */

static struct ledger *log_of(struct account *a, enum account_view view)
{
	return view == ACCOUNT_LEDGER ? &a->ledger : view == ACCOUNT_EVENTS ? &a->events : NULL;
}

static int print_remaining(struct account *a, struct buf *out)
{
	const struct limits *l = account_limits(a);
	if (!l->has_budget)
		return buf_append_str(out, "unlimited");
	__int128 rest = (__int128)l->budget - account_sum(a)->spent - a->reserved;
	return money_print(rest < INT64_MIN   ? INT64_MIN
			   : rest > INT64_MAX ? INT64_MAX
					      : (money)rest,
		out);
}

static int render_locked(struct account *a, enum account_view view, struct buf *out)
{
	const struct ledger *l = log_of(a, view);
	if (l)
		return l->text.len ? buf_append(out, l->text.data, l->text.len) : 0;
	size_t before = out->len;
	account_roll(a, book_now_ns() / 1000000000);
	int r = view == ACCOUNT_SPENT ? money_print(account_sum(a)->spent, out)
				      : print_remaining(a, out);
	r = r ? r : buf_append(out, "\n", 1);
	a->view_bytes[view] = out->len - before;
	return r;
}

int account_render(struct account *a, enum account_view view, struct buf *out)
{
	pthread_mutex_lock(&a->b->lock);
	int r = render_locked(a, view, out);
	pthread_mutex_unlock(&a->b->lock);
	return r;
}

void account_view_size(
	struct account *a, enum account_view view, uint64_t *bytes, uint64_t *changed_ns)
{
	pthread_mutex_lock(&a->b->lock);
	const struct ledger *l = log_of(a, view);
	*bytes = l ? l->text.len : a->view_bytes[view];
	*changed_ns = l ? l->changed_ns : a->view_ns[view];
	pthread_mutex_unlock(&a->b->lock);
}

int account_watch(struct account *a, enum account_view view, uint64_t bytes, gateway_wake_fn *wake,
	void *arg, gateway_waiter *id)
{
	struct ledger *l = log_of(a, view);
	if (!l)
		return -EINVAL;
	pthread_mutex_lock(&a->b->lock);
	int r = a->b->stopping || l->text.len > bytes
			? 1
			: watch_add(a->b->watch, &l->watch, bytes, wake, arg, id);
	pthread_mutex_unlock(&a->b->lock);
	return r;
}

bool account_unwatch(struct account *a, gateway_waiter id)
{
	pthread_mutex_lock(&a->b->lock);
	bool removed = !a->b->closed && watch_remove(a->b->watch, id);
	pthread_mutex_unlock(&a->b->lock);
	return removed;
}
