/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/disk_fixture.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

struct cache_fixture disk_f;

void disk_open(void)
{
	cache_fixture_make(&disk_f);
}

void disk_close(void)
{
	cache_fixture_end(&disk_f);
}

int disk_stat(const char *name)
{
	return (int)cache_fixture_stat(&disk_f, name);
}

struct question disk_question(int i, char room[64])
{
	snprintf(room, 64, "question %d", i);
	return (struct question){.prompt = room, .user = i % 2 ? "bob" : "ada"};
}

char *disk_answer(int i)
{
	size_t n = 20 + (size_t)i * 7919 % 3000;
	char *text = malloc(n + 1);
	int head = snprintf(text, n, "answer %d ", i);
	for (size_t at = (size_t)head; at < n; at++)
		text[at] = (char)('a' + (i + (int)at) % 26);
	text[n] = '\0';
	return text;
}

void disk_store(int from, int to)
{
	char room[64];
	for (int i = from; i < to; i++) {
		struct question q = disk_question(i, room);
		char *text = disk_answer(i);
		cache_fixture_store(&disk_f, &q, text);
		free(text);
	}
}

int disk_served(int from, int to)
{
	char room[64];
	int n = 0;
	for (int i = from; i < to; i++) {
		struct question q = disk_question(i, room);
		char *text = disk_answer(i);
		n += cache_fixture_hit(&disk_f, &q, text) != 0;
		free(text);
	}
	return n;
}

void disk_assert_well(void)
{
	ck_assert_str_eq(cache_fixture_fault(&disk_f, "cache"), "");
}

void disk_assert_works(void)
{
	disk_store(100000, 100020);
	cache_fixture_settle(&disk_f);
	cache_fixture_forget_memory(&disk_f);
	ck_assert_int_eq(disk_served(100000, 100020), 20);
	cache_fixture_ctl(&disk_f, "flush");
	cache_fixture_settle(&disk_f);
}
