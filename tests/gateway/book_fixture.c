/* SPDX-License-Identifier: Apache-2.0 */
/* After a kill the claims are still in the test's hands: they are returned to a closed store. */
#include "tests/gateway/book_fixture.h"

#include <check.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

atomic_uint_least64_t book_fixture_clock_ns;

static uint64_t now(void)
{
	return atomic_load(&book_fixture_clock_ns);
}

void book_fixture_set_s(uint64_t now_s)
{
	atomic_store(&book_fixture_clock_ns, now_s * 1000000000u);
}

void book_fixture_open(struct book_fixture *f)
{
	struct err err = {0};
	f->g.watch = watch_table_new();
	ck_assert_ptr_nonnull(f->g.watch);
	ck_assert_msg(store_open(&f->g.store, f->dir, &err) == 0, "%s", err.text);
	ck_assert_msg(loop_new(&f->g.loop, &err) == 0, "%s", err.text);
	int r = book_open(&f->g.book, f->g.store, f->g.watch, f->g.loop, &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

void book_fixture_make(struct book_fixture *f)
{
	memset(f, 0, sizeof *f);
	strcpy(f->dir, "/tmp/llmfs-book-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	book_fixture_set_s(BOOK_FIXTURE_NOON_S);
	book_set_clock(now);
	book_fixture_open(f);
}

void book_fixture_kill(struct book_fixture *f)
{
	loop_close(f->g.loop);
	store_close(f->g.store);
}

void book_fixture_close(struct book_fixture *f)
{
	loop_close(f->g.loop);
	f->g.book = book_free(f->g.book);
	f->g.loop = loop_free(f->g.loop);
	f->g.store = store_free(f->g.store);
	f->g.watch = watch_table_free(f->g.watch);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void book_fixture_end(struct book_fixture *f)
{
	book_fixture_close(f);
	book_set_clock(NULL);
	nftw(f->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void book_fixture_set(struct book_fixture *f, const char *name, const char *file, const char *value)
{
	struct err err = {0};
	int r = gateway_account_create(&f->g, name, &err);
	ck_assert_msg(r == 0 || r == -EEXIST, "%s", err.text);
	struct account *a = gateway_account_find(&f->g, name);
	r = account_setting_set(a, file, value, strlen(value), &err);
	ck_assert_msg(r == 0, "%s", err.text);
	account_put(a);
}

char *book_fixture_view(struct book_fixture *f, const char *name, enum account_view view)
{
	struct buf out = {0};
	struct account *a = gateway_account_find(&f->g, name);
	ck_assert_msg(a != NULL, "there is no account %s", name);
	ck_assert_int_eq(account_render(a, view, &out), 0);
	account_put(a);
	return out.data ? out.data : strdup("");
}

void book_fixture_expect(
	struct book_fixture *f, const char *name, enum account_view view, const char *text)
{
	char *is = book_fixture_view(f, name, view);
	ck_assert_str_eq(is, text);
	free(is);
}

unsigned book_fixture_count(
	struct book_fixture *f, const char *name, enum account_view view, const char *part)
{
	unsigned n = 0;
	char *text = book_fixture_view(f, name, view);
	for (const char *p = text; (p = strstr(p, part)); p++)
		n++;
	free(text);
	return n;
}
