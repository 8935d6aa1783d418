/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_TABLE_H
#define FS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * The one table that is the tree. Each file and each directory is one row; lookup, getattr,
 * readdir, open, the permissions and the check of the man page all read it.
 */

/* Directories, as places in which rows stand. */
enum table_place {
	TABLE_NOWHERE, /* the root's own row, and the row that stands for scratch files */
	TABLE_ROOT,
	TABLE_MODELS,
	TABLE_MODEL,
	TABLE_VIRTUAL_MODEL, /* auto and cascade: models that the router stands for */
	TABLE_SESSIONS,
	TABLE_SESSION,
	TABLE_GUARDS,
	TABLE_GUARDS_INPUT,
	TABLE_GUARDS_OUTPUT,
	TABLE_BUDGETS,
	TABLE_ACCOUNT,
	TABLE_KEYS,
	TABLE_API_KEY,
	TABLE_ROUTER,
	TABLE_CACHE,
	TABLE_METRICS,
	TABLE_TRACE,
};

/* What a row is; each kind but the first two has its operations in one file of this folder. */
enum table_kind {
	TABLE_DIR,
	TABLE_LINK,    /* models/default */
	TABLE_VIEW,    /* rendered when it is read from its start */
	TABLE_LOG,     /* grows at its end, exact size, pollable: chat, events */
	TABLE_SETTING, /* one value, written whole */
	TABLE_KEY,     /* a secret, written and never read */
	TABLE_RULES,   /* a text of TREE/guards, edited as files are */
	TABLE_IN,
	TABLE_OUT,
	TABLE_CTL,
	TABLE_CHANNEL, /* models/NAME/ask, guards/test, router/explain ... */
	TABLE_SCRATCH, /* what editors leave beside a file they edit; in memory only */
};

/* Texts that the front end itself renders; the others are the gateway's enumerations. */
enum table_own_view { TABLE_README = 100, TABLE_VERSION, TABLE_HTTP, TABLE_FAULT, TABLE_ASK_FAULT };

struct table_row {
	const char *name;  /* of a pattern: what the manual calls it */
	const char *about; /* one line for `llmfs --files` and the manual */
	enum table_place place;
	enum table_kind kind;
	mode_t mode; /* type and bits; below a session: what its directory's bits allow */
	int view; /* TABLE_VIEW, TABLE_LOG: which text. TABLE_DIR: the place inside. TABLE_CHANNEL:
		     which channel of the gateway */
	bool pattern; /* stands for many names */
	bool lines;   /* TABLE_SETTING: the value may have several lines */
};

extern const struct table_row table_rows[];
extern const size_t table_n_rows;

/* The rows that others name. */
const struct table_row *table_root(void);
const struct table_row *table_scratch(void);

/* The row of that fixed name in that place, or NULL. */
const struct table_row *table_row_named(enum table_place place, const char *name);
/* The pattern row of a place (NAME, ID, ...), or NULL. */
const struct table_row *table_pattern(enum table_place place);
/* The directory row whose inside is `place`; of several (models/auto, models/cascade) the first. */
const struct table_row *table_dir_of(enum table_place place);

/* Writes "path mode about" lines, in the table's order, to standard output: what the manual page is
 * held against. */
void table_print(void);

#endif
