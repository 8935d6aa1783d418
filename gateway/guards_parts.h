/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GUARDS_PARTS_H
#define GATEWAY_GUARDS_PARTS_H

/* What the files named guards* share. */

#include "gateway/guards.h"

enum { GUARDS_SENTENCE = 320, GUARDS_TEXT_MAX = 256 << 10 };
#define GUARDS_HASH_START UINT64_C(0xCBF29CE484222325)

struct guard_file {
	char name[TEXT_NAME_SIZE + 8]; /* "input/x.rules" */
	bool is_judge;
	enum guard_stage stage;
	struct text *text;             /* as it was set last; NULL: only restored */
	struct guard_rules *rules;     /* of the last good text; NULL: there is none */
	struct moderation *moderation; /* likewise, of the judge's file */
	uint64_t hash;                 /* of the text that rules or moderation are of */
	struct guard_rules *clashing;  /* of `text`: good but for a name in another file; or NULL */
	bool mended;                   /* it was clashing, which is still to be reported as over */
	char fault[GUARDS_SENTENCE];   /* of `text`; "" */
	uint64_t gone_ns;              /* renamed away: when it is out of force; 0 */
};

struct guards {
	struct gateway *g;
	pthread_mutex_t set_lock; /* whoever changes files or sets */
	pthread_mutex_t lock;     /* guards what follows */
	struct table files;
	struct guard_set *sets[2];           /* by stage; NULL: closed */
	uint64_t generation[2];              /* of sets */
	uint64_t fingerprints[2];            /* of the texts that sets are of */
	char shut[2][160];                   /* why nothing of a stage can be known; "" */
	char no_room[2][TEXT_NAME_SIZE + 8]; /* a file that could not be taken closes its stage */
	bool stopped;
	struct loop_timer timer;
	struct loop_work drop; /* on the thread for texts */
	uint64_t blocks[N_GUARDS_KINDS][2], findings;
};

/* "input", "output". */
extern const char *const guards_stage_names[];
/* The name of the judge's file. */
extern const char guards_judge_file[];

/* What a text is worth, compiled. */
struct guards_compiled {
	struct guard_rules *rules;
	struct moderation *moderation;
	uint64_t hash; /* of the text */
};

/* guards_file.c. new; NULL when memory is out. The name is one that gateway_guard_name_ok takes. */
struct guard_file *guards_file_new(const char *name);
struct guard_file *guards_file_free(struct guard_file *f); /* accepts NULL, returns NULL */
/* FNV-1a, from h or GUARDS_HASH_START. */
uint64_t guards_file_hash(uint64_t h, const char *bytes, size_t n);
/* What the text would be as that file's: new *c. -EINVAL, with the place; -EFBIG, -ENOMEM. Needs no
 * lock: of f only what never changes is read. */
int guards_file_compile(const struct guard_file *f, const char *text, size_t len,
	struct guards_compiled *c, struct err *err);
/* -EINVAL: a name of those rules stands in another file of the stage. With the lock held. */
int guards_file_check_names(const struct guards *gs, const struct guard_file *f,
	const struct guard_rules *rules, struct err *err);
/* Takes what was compiled. With the lock held. */
void guards_file_take(struct guard_file *f, struct guards_compiled *c);

/* guards_files.c: what is dropped later, in a zeroed object. */
void guards_files_init(struct guards *gs);

/* guards.c: the stage becomes what its files say now. With the set_lock held, and not the lock. */
void guards_put_in_force(struct guards *gs, enum guard_stage stage);

#endif
