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

/* In memory at most; at least three quarters once full. A byte less, and buf.h's capacity fits. */
#define LEDGER_BYTES (((size_t)256 << 10) - 1)
/* So much of it stays when others need the memory (book_parts.h). */
#define LEDGER_IDLE_BYTES (((size_t)8 << 10) - 1)
#define LEDGER_LINE_MAX ((size_t)1024)

struct ledger {
	struct buf text;      /* whole lines */
	uint64_t first, next; /* serials of text's first line and of the next one */
	uint64_t oldest;      /* of the first line in the store; next: there is none */
	uint64_t oldest_s;    /* CLOCK_REALTIME of it; 0: not known */
	uint64_t changed_ns;  /* CLOCK_REALTIME */
	bool trimmed;         /* lines were dropped since somebody cleared this */
	struct list watch;    /* for watch_add */
	struct list link;     /* the owner's: of those that have much in memory */
	size_t counted;       /* the owner's: bytes of it in a sum */
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
/* Keeps the newest lines in memory, at most LEDGER_IDLE_BYTES, and gives back the rest of it. */
void ledger_shrink(struct ledger *l);
/* Reads the lines [first, next) back from the store. Only before its first write. Lines that cannot
 * be read are left out. 0 or -ENOMEM. */
int ledger_restore(struct ledger *l, struct store *store, uint64_t first, uint64_t next);

/* The key of the first line in the store. borrows, until the next call. */
const char *ledger_oldest_key(struct ledger *l);
/* The serial in a line's key. */
uint64_t ledger_serial(const struct ledger *l, const char *key);
/* When it was written (CLOCK_REALTIME, seconds); 0: that cannot be read. */
uint64_t ledger_line_s(const char *line, size_t len);
/* The store's lines before `oldest` were deleted, of before_s and earlier: the memory's go, too. By
 * their time, not by number: after a kill some may be missing. */
void ledger_forget(struct ledger *l, uint64_t before_s, uint64_t oldest, uint64_t oldest_s);

#endif
