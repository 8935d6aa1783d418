/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept of API keys: over a restart and a kill, and where it cannot be. With a count of what
 * is stored behind. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/api_secret.h"
#include "gateway/store.h"
#include "tests/gateway/key_fixture.h"
#include "tests/run_suite.h"

static atomic_int n_stored;

void __real_store_put_later(struct store *s, const char *key, const char *value, size_t len);
void __wrap_store_put_later(struct store *s, const char *key, const char *value, size_t len);
void __wrap_store_put_later(struct store *s, const char *key, const char *value, size_t len)
{
	n_stored += !strncmp(key, "k/", 2);
	__real_store_put_later(s, key, value, len);
}

static bool state_has(const char *text)
{
	char command[256];
	snprintf(command, sizeof command, "grep -rqF -e '%s' %s", text, key_fixture_h.state);
	return system(command) == 0;
}

START_TEST(of_a_secret_only_its_digest_is_kept)
{
	char secret[API_KEY_SECRET], text[API_SECRET_STORED], path[128];
	struct api_digest digest;
	struct stat st;
	struct api_key *k = key_fixture_make("k");
	key_fixture_new_secret(k, secret);
	key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	api_secret_digest(secret, strlen(secret), &digest);
	api_secret_print(&digest, text);
	ck_assert(state_has(text));
	snprintf(path, sizeof path, "%s/api_keys/k", key_fixture_h.state);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	api_key_put(k);
	harness_close(&key_fixture_h);
	ck_assert(!state_has(secret));
	ck_assert(!state_has(secret + 9));
	harness_open(&key_fixture_h);
}
END_TEST

START_TEST(a_secret_lets_in_after_a_restart_once_the_key_is_there_and_has_its_user)
{
	char secret[API_KEY_SECRET], **names;
	struct api_key *k = key_fixture_make("k");
	key_fixture_new_secret(k, secret);
	api_key_put(k);
	key_fixture_again();
	key_fixture_kept_out(secret, key_fixture_unknown);
	ck_assert_ptr_null(gateway_api_key_find(key_fixture_h.g, "k"));
	names = gateway_api_key_names_left(key_fixture_h.g);
	ck_assert_str_eq(names[0], "k");
	ck_assert_ptr_null(names[1]);
	free(names[0]);
	free(names);
	ck_assert_int_eq(gateway_api_key_create(key_fixture_h.g, "k", &key_fixture_err), 0);
	ck_assert(!gateway_api_key_has_left(key_fixture_h.g, "k"));
	key_fixture_kept_out(secret, "no user");
	k = gateway_api_key_find(key_fixture_h.g, "k");
	key_fixture_set(k, "user", "alice");
	key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	ck_assert_int_eq(key_fixture_verb(k, "revoke", NULL), 0);
	api_key_put(k);
	key_fixture_again();
	key_fixture_kept_out(secret, key_fixture_unknown);
}
END_TEST

/* Its secret, of a daemon that died when it had told it. */
static void secret_of_the_dead(char secret[API_KEY_SECRET])
{
	int ends[2], status;
	harness_close(&key_fixture_h);
	ck_assert_int_eq(pipe(ends), 0);
	pid_t pid = fork();
	if (pid == 0) {
		harness_open(&key_fixture_h);
		struct api_key *k = key_fixture_make("k");
		if (key_fixture_verb(k, "new", secret) < 0 ||
			write(ends[1], secret, API_KEY_SECRET) != API_KEY_SECRET)
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	close(ends[1]); /* a child that says nothing is no reason to wait */
	ck_assert_int_eq(read(ends[0], secret, API_KEY_SECRET), API_KEY_SECRET);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	close(ends[0]);
	harness_open(&key_fixture_h);
}

START_TEST(what_new_was_told_survives_kill_9_at_once)
{
	char secret[API_KEY_SECRET];
	secret_of_the_dead(secret);
	api_key_put(key_fixture_make("k"));
	key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
}
END_TEST

START_TEST(a_damaged_digest_lets_nobody_in_and_stops_nothing)
{
	char secret[API_KEY_SECRET], command[256];
	struct api_key *k = key_fixture_make("k");
	key_fixture_new_secret(k, secret);
	api_key_put(k);
	harness_close(&key_fixture_h);
	static const char *const damage[] = {"sha256:00", "file:/etc/passwd", "", "sha256:%%"};
	for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
		snprintf(command, sizeof command, "printf '%s\\n' > %s/api_keys/k", damage[i],
			key_fixture_h.state);
		ck_assert_int_eq(system(command), 0);
		harness_open(&key_fixture_h);
		k = key_fixture_make("k");
		key_fixture_kept_out(secret, key_fixture_unknown);
		key_fixture_state_is(k, "no secret\n");
		api_key_put(k);
		harness_close(&key_fixture_h);
	}
	harness_open(&key_fixture_h);
}
END_TEST

static void in_state(const char *script)
{
	char command[256];
	snprintf(command, sizeof command, "cd %s/api_keys && %s", key_fixture_h.state, script);
	ck_assert_int_eq(system(command), 0);
}

START_TEST(a_secret_that_cannot_be_stored_is_none_and_the_one_before_stays)
{
	char secret[API_KEY_SECRET], other[API_KEY_SECRET] = "";
	struct api_key *k = key_fixture_make("k");
	key_fixture_new_secret(k, secret);
	in_state("mkdir k~");
	ck_assert_int_eq(key_fixture_verb(k, "new", other), -EIO);
	ck_assert_str_eq(other, "");
	key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	in_state("rmdir k~");
	key_fixture_new_secret(k, other);
	key_fixture_kept_out(secret, key_fixture_unknown);
	api_key_put(k);
}
END_TEST

START_TEST(a_revoked_secret_is_out_of_force_though_its_file_stays)
{
	char secret[API_KEY_SECRET];
	struct api_key *k = key_fixture_make("k");
	key_fixture_new_secret(k, secret);
	in_state("mv k was && mkdir k && touch k/x");
	ck_assert_int_eq(key_fixture_verb(k, "revoke", NULL), -EIO);
	key_fixture_kept_out(secret, key_fixture_unknown);
	api_key_put(k);
}
END_TEST

START_TEST(a_secret_that_cannot_be_forgotten_is_so_the_next_time_and_lets_nobody_in_meanwhile)
{
	char secret[API_KEY_SECRET];
	struct api_key *k = key_fixture_make("k");
	key_fixture_new_secret(k, secret);
	in_state("mv k was && mkdir k && touch k/x");
	ck_assert_int_eq(gateway_api_key_remove(key_fixture_h.g, "k", &key_fixture_err), 0);
	ck_assert_int_eq(gateway_api_key_forget(key_fixture_h.g, "k", &key_fixture_err), -EIO);
	ck_assert(gateway_api_key_has_left(key_fixture_h.g, "k"));
	in_state("rm -r k && mv was k");
	struct api_key *next = key_fixture_make("k");
	key_fixture_state_is(next, "no secret\n");
	key_fixture_kept_out(secret, key_fixture_unknown);
	key_fixture_end("k");
	ck_assert(!key_fixture_stored("k"));
	ck_assert(!gateway_api_key_has_left(key_fixture_h.g, "k"));
	ck_assert_int_eq(gateway_api_key_forget(key_fixture_h.g, "k", &key_fixture_err), 0);
	api_key_put(next);
	api_key_put(k);
}
END_TEST

START_TEST(its_last_use_is_known_to_the_minute_and_after_a_restart)
{
	char secret[API_KEY_SECRET];
	struct api_key *k = key_fixture_make("k");
	key_fixture_new_secret(k, secret);
	key_fixture_view_is(k, API_KEY_LAST_USED, "");
	key_fixture_kept_out("sk-llmfs-x", key_fixture_unknown);
	key_fixture_view_is(k, API_KEY_LAST_USED, "");
	key_fixture_clock_is(5);
	for (size_t i = 0; i < 1000; i++)
		key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	ck_assert_int_eq(n_stored, 1);
	key_fixture_view_is(k, API_KEY_LAST_USED, "2030-06-15T12:00:00Z\n");
	key_fixture_clock_is(61);
	key_fixture_let_in(secret, KEY_FIXTURE_ALICE);
	ck_assert_int_eq(n_stored, 2);
	key_fixture_set(k, "user", "");
	key_fixture_clock_is(121);
	key_fixture_kept_out(secret, "no user");
	ck_assert_int_eq(key_fixture_verb(k, "revoke", NULL), 0);
	api_key_put(k);
	key_fixture_again();
	k = key_fixture_make("k"); /* though it has no secret */
	key_fixture_view_is(k, API_KEY_LAST_USED, "2030-06-15T12:01:00Z\n");
	api_key_put(k);
	key_fixture_end("k");
	key_fixture_again();
	ck_assert(!gateway_api_key_has_left(key_fixture_h.g, "k"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api_keys_kept");
	TCase *t = tcase_create("kept");
	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, key_fixture_setup, key_fixture_teardown);
	tcase_add_test(t, a_secret_lets_in_after_a_restart_once_the_key_is_there_and_has_its_user);
	tcase_add_test(t, what_new_was_told_survives_kill_9_at_once);
	tcase_add_test(t, a_damaged_digest_lets_nobody_in_and_stops_nothing);
	tcase_add_test(t, of_a_secret_only_its_digest_is_kept);
	tcase_add_test(t, a_secret_that_cannot_be_stored_is_none_and_the_one_before_stays);
	tcase_add_test(t, a_revoked_secret_is_out_of_force_though_its_file_stays);
	tcase_add_test(t,
		a_secret_that_cannot_be_forgotten_is_so_the_next_time_and_lets_nobody_in_meanwhile);
	tcase_add_test(t, its_last_use_is_known_to_the_minute_and_after_a_restart);
	suite_add_tcase(s, t);
	return run_suite(s);
}
