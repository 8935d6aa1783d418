/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/key_fixture.h"

#include <errno.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "gateway/api_secret.h"

struct harness key_fixture_h;
struct err key_fixture_err;
const char key_fixture_unknown[] = "no API key is that";
static _Atomic long ahead_s;

int getpwnam_r(
	const char *name, struct passwd *row, char *strings, size_t size, struct passwd **found)
{
	*found = NULL;
	if (strcmp(name, "alice") && strcmp(name, "bob"))
		return 0;
	memset(row, 0, sizeof *row);
	row->pw_uid = *name == 'a' ? KEY_FIXTURE_ALICE : KEY_FIXTURE_BOB;
	*found = row;
	return 0;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
	int r = (int)syscall(SYS_clock_gettime, clock, t);
	t->tv_sec += clock == CLOCK_REALTIME ? ahead_s : 0;
	return r;
}

void key_fixture_setup(void)
{
	harness_make(&key_fixture_h, 0);
	harness_open(&key_fixture_h);
}

void key_fixture_teardown(void)
{
	harness_end(&key_fixture_h);
}

void key_fixture_again(void)
{
	harness_close(&key_fixture_h);
	harness_open(&key_fixture_h);
}

/* ---- small things ---- */

void key_fixture_set(struct api_key *k, const char *file, const char *value)
{
	ck_assert_msg(api_key_setting_set(k, file, value, strlen(value), &key_fixture_err) == 0,
		"%s: %s", file, key_fixture_err.text);
}

/* new, as alice. */
struct api_key *key_fixture_make(const char *name)
{
	ck_assert_msg(gateway_api_key_create(key_fixture_h.g, name, &key_fixture_err) == 0, "%s",
		key_fixture_err.text);
	struct api_key *k = gateway_api_key_find(key_fixture_h.g, name);
	ck_assert_ptr_nonnull(k);
	key_fixture_set(k, "user", "alice");
	return k;
}

void key_fixture_end(const char *name)
{
	ck_assert_int_eq(gateway_api_key_remove(key_fixture_h.g, name, &key_fixture_err), 0);
	ck_assert_int_eq(gateway_api_key_forget(key_fixture_h.g, name, &key_fixture_err), 0);
}

int key_fixture_verb(struct api_key *k, const char *line, char secret[API_KEY_SECRET])
{
	return api_key_ctl(k, line, strlen(line), secret, &key_fixture_err);
}

void key_fixture_new_secret(struct api_key *k, char secret[API_KEY_SECRET])
{
	ck_assert_msg(key_fixture_verb(k, "new", secret) == 0, "%s", key_fixture_err.text);
	ck_assert_uint_eq(strlen(secret), API_SECRET_LEN);
}

/* 0 and whose; -EACCES and why. */
static int show(const char *secret, uid_t *uid)
{
	struct api_key *k = NULL;
	key_fixture_err = (struct err){{0}};
	int r = gateway_api_key_check(
		key_fixture_h.g, secret, strlen(secret), &k, uid, &key_fixture_err);
	ck_assert((r == 0) == (k != NULL));
	ck_assert(strlen(secret) < 16 || !strstr(key_fixture_err.text, secret));
	api_key_put(k);
	return r;
}

void key_fixture_let_in(const char *secret, uid_t as)
{
	uid_t uid = 0;
	ck_assert_msg(show(secret, &uid) == 0, "%s", key_fixture_err.text);
	ck_assert_uint_eq(uid, as);
}

void key_fixture_kept_out(const char *secret, const char *why)
{
	uid_t uid;
	ck_assert_int_eq(show(secret, &uid), -EACCES);
	ck_assert_msg(strstr(key_fixture_err.text, why) != NULL, "%s", key_fixture_err.text);
}

void key_fixture_view_is(struct api_key *k, enum api_key_view view, const char *text)
{
	struct buf out = {0};
	ck_assert_int_eq(api_key_render(k, view, &out), 0);
	ck_assert_str_eq(out.data ? out.data : "", text);
	buf_free(&out);
}

void key_fixture_state_is(struct api_key *k, const char *state)
{
	key_fixture_view_is(k, API_KEY_STATE, state);
}

bool key_fixture_stored(const char *name)
{
	char path[128];
	snprintf(path, sizeof path, "%s/api_keys/%s", key_fixture_h.state, name);
	return access(path, F_OK) == 0;
}

/* 2030-06-15T12:00:00Z and so many seconds. */
void key_fixture_clock_is(long after_s)
{
	struct timespec t;
	syscall(SYS_clock_gettime, CLOCK_REALTIME, &t);
	ahead_s = 1907755200 + after_s - t.tv_sec;
}
