/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/talker_fixture.h"

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

#include "gateway/store.h"

const char talker_safe_judge[] = "model tiny\nthreshold 1\ntimeout_ms 200000\nwindow_chars 20\n";

struct harness talker_h;

void talker_open(void)
{
	harness_make(&talker_h, 0);
	harness_open(&talker_h);
}

void talker_close(void)
{
	umount2(talker_h.state, MNT_DETACH); /* of the full disk */
	harness_end(&talker_h);
}

void talker_set(struct session *s, const char *file, const char *value)
{
	ck_assert_int_eq(session_setting_set(s, file, value, strlen(value), NULL), 0);
}

struct session *talker_new(const char *id, const char *max_tokens)
{
	struct session *s = harness_session(&talker_h, id, max_tokens);
	talker_set(s, "ignore_eos", "1");
	return s;
}

void talker_ctl(struct session *s, const char *line)
{
	ck_assert_int_eq(session_ctl(s, getuid(), getgid(), line, strlen(line), NULL), 0);
}

char *talker_ask(struct session *s, int *status)
{
	ck_assert_int_eq(harness_say(s, "tell me"), 0);
	return harness_read(s, status);
}

double talker_dollars(enum account_view view)
{
	char *text = harness_account_view(&talker_h, harness_me(&talker_h), view);
	double d = strtod(text, NULL);
	free(text);
	return d;
}

double talker_ledger_sum(size_t *n)
{
	char *text = harness_account_view(&talker_h, harness_me(&talker_h), ACCOUNT_LEDGER),
	     *rest = text, *line;
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

void talker_priced(void)
{
	harness_price(&talker_h, "tiny");
	harness_price(&talker_h, "long");
	harness_account(&talker_h, harness_me(&talker_h), "limit", "100000000");
}

void talker_assert_all_given_back(void)
{
	size_t n;
	double spent = 0, left = 0;
	for (int i = 0; i < 20000; i++) {
		pthread_mutex_lock(&talker_h.g->busy_lock);
		unsigned busy = talker_h.g->n_busy;
		pthread_mutex_unlock(&talker_h.g->busy_lock);
		left = talker_dollars(ACCOUNT_REMAINING);
		spent = talker_dollars(ACCOUNT_SPENT);
		if (left == TALKER_LIMIT - spent && busy <= 2) /* models stay loaded */
			break;
		usleep(1000);
	}
	ck_assert_msg(left == TALKER_LIMIT - spent, "%.0f spent, %.0f left", spent, left);
	ck_assert_msg(talker_ledger_sum(&n) == spent, "%.0f spent, %.0f in the ledger", spent,
		talker_ledger_sum(&n));
	harness_account(&talker_h, harness_me(&talker_h), "requests_in_flight", "1");
	struct session *s = harness_session(&talker_h, "last", "1");
	int status;
	ck_assert_int_eq(harness_say(s, "x"), 0); /* the one that may be in flight */
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(gateway_session_remove(talker_h.g, "last", NULL), 0);
	session_put(s);
	harness_account(&talker_h, harness_me(&talker_h), "requests_in_flight", "");
}

struct written {
	struct store_waiter w;
	sem_t told;
};

static void note_written(struct store_waiter *w, int status)
{
	sem_post(&((struct written *)w)->told);
}

void talker_fill_disk(char path[128])
{
	struct written written = {.w.done = note_written};
	char block[4096];
	sem_init(&written.told, 0, 0);
	store_after(talker_h.g->store, &written.w);
	while (sem_wait(&written.told) < 0)
		;
	sem_destroy(&written.told);
	memset(block, 'x', sizeof block);
	snprintf(path, 128, "%s/filler", talker_h.state);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	while (write(fd, block, sizeof block) > 0)
		;
	close(fd);
}

void talker_make_room(const char *path)
{
	unlink(path);
	for (int i = 0; i < 1000 && store_state(talker_h.g->store, NULL) < 0; i++)
		usleep(50000);
	ck_assert_int_eq(store_state(talker_h.g->store, NULL), 0);
}

void talker_open_on_small_disk(void)
{
	harness_close(&talker_h);
	ck_assert(mkdir(talker_h.state, 0700) == 0 || errno == EEXIST);
	ck_assert_int_eq(mount("none", talker_h.state, "tmpfs", 0, "size=4m,mode=0700"), 0);
	harness_open(&talker_h);
	talker_priced();
}
