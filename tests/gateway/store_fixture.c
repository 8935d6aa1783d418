/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/store_fixture.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

char store_fixture_dir[64];

void store_fixture_setup(void)
{
	strcpy(store_fixture_dir, "/tmp/llmfs-store-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(store_fixture_dir));
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void store_fixture_teardown(void)
{
	umount2(store_fixture_dir, MNT_DETACH); /* of the full disk */
	nftw(store_fixture_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void store_fixture_done(struct store_waiter *w, int status)
{
	struct store_fixture_after *a = (struct store_fixture_after *)w;
	a->status = status;
	sem_post(&a->told);
}

int store_fixture_wait_by(struct store *s, struct store_fixture_after *a)
{
	sem_init(&a->told, 0, 0);
	store_after(s, &a->w);
	while (sem_wait(&a->told) < 0)
		;
	sem_destroy(&a->told);
	return a->status;
}

int store_fixture_wait(struct store *s)
{
	struct store_fixture_after a = {.w.done = store_fixture_done};
	return store_fixture_wait_by(s, &a);
}

struct store *store_fixture_open(const char *where)
{
	struct store *s = NULL;
	struct err err = {0};
	int r = store_open(&s, where, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	return s;
}

int store_fixture_note(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct store_fixture_found *f = arg;
	size_t used = strlen(f->text);
	snprintf(f->text + used, sizeof f->text - used, "%.*s=%.*s;", (int)key_len, key,
		(int)value_len, value);
	return 0;
}

void store_fixture_expect(const char *text)
{
	struct store *s = store_fixture_open(store_fixture_dir);
	struct store_fixture_found f = {""};
	store_scan(s, "s/", store_fixture_note, &f);
	ck_assert_str_eq(f.text, text);
	store_free(s);
}
