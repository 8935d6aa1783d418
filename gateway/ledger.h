/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_LEDGER_H
#define GATEWAY_LEDGER_H

/* A log of lines: all of it in the store, the newest of it in memory. Not locked: its owner's lock
 * guards it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "gateway/store.h"
#include "gateway/text.h"

#define LEDGER_BYTES                                                                               \
	((size_t)256 << 10) /* in memory at most; at least three quarters once full                \
			     */
#define LEDGER_LINE_MAX ((size_t)1024)

struct ledger {
	struct buf text;      /* whole lines */
	uint64_t first, next; /* serials of text's first line and of the next one */
	uint64_t changed_ns;  /* CLOCK_REALTIME */
	bool trimmed;         /* lines were dropped since somebody cleared this */
	struct list watch;    /* for watch_add */
	size_t prefix_len;
	char key[8 + TEXT_NAME_SIZE + 16]; /* KIND/NAME/SERIAL, NUL-terminated */
};

/* kind: "al", "ae" (store.h). */
void ledger_init(struct ledger *l, const char *kind, const char *name);
/* Gives the memory back; accepts zeroed memory. */
void ledger_free(struct ledger *l);
/* Adds a line (with its newline) here and at the store. */
void ledger_add(
	struct ledger *l, struct store *store, const char *line, size_t len, uint64_t now_ns);
/* Reads the lines [first, next) back from the store. Only before its first write. Lines that cannot
 * be read are left out. 0 or -ENOMEM. */
int ledger_restore(struct ledger *l, struct store *store, uint64_t first, uint64_t next);

#endif
