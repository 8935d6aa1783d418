/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Money that was read is printed and read as the same. A setting of an account either says what is
 * allowed, or shows what was written and is within its bounds. The first byte picks the setting.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool claim)
{
	if (!claim)
		abort();
}

static void check_money(const char *text, size_t n)
{
	char room[MONEY_TEXT_SIZE];
	money m, again;
	if (money_parse(text, n, &m) < 0)
		return;
	must(m >= 0);
	money_text(m, room);
	must(money_parse(room, strlen(room), &again) == 0 && again == m);
}

static void check_bounds(const struct limits *l)
{
	for (size_t i = 0; i < l->n_alerts; i++)
		must(l->alert_ppb[i] && l->alert_ppb[i] <= LIMITS_ALERT_ONE &&
			(!i || l->alert_ppb[i] > l->alert_ppb[i - 1]));
	must(l->window > WINDOW_MINUTE && l->window < N_WINDOWS);
	must(l->budget >= 0 && (l->has_budget || !l->budget));
	for (size_t i = 0; i < l->n_members; i++)
		must(limits_has_member(l, l->members[i]) &&
			text_is_name(l->members[i], strlen(l->members[i])));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (!n)
		return 0;
	const char *text = (const char *)data + 1;
	const enum limits_setting i = (enum limits_setting)(*data % N_LIMITS);
	struct limits l;
	struct err err = {0};
	limits_init(&l);
	n--;
	check_money(text, n);
	if (limits_set(&l, i, text, n, &err) == 0) {
		size_t len;
		const char *shown = limits_get(&l, i, &len);
		must(!n || (len == n && !memcmp(shown, text, n)));
	} else {
		must(*err.text);
	}
	check_bounds(&l);
	limits_clear(&l);
	return 0;
}
