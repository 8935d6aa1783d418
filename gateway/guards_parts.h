/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GUARDS_PARTS_H
#define GATEWAY_GUARDS_PARTS_H

/* What guards.c and guards_tell.c share. */

#include "gateway/guards.h"

enum { GUARDS_SENTENCE = 320 };

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

#endif
