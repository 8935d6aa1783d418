/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_FIBER_H
#define SIMT_FIBER_H

/* Stacks that take turns on one operating-system thread. */

#include <stdbool.h>
#include <stddef.h>

#define FIBER_MAX 1024

struct fiber {
	void *sp;
	char *stack;
	size_t size;
	void *fake; /* address sanitizer's second stack */
	int host;   /* the thread's own stack */
};

/* Makes a fiber whose first turn calls entry(), which never returns; it may be begun anew at any
 * time while it does not run, and stays for the life of the process. Returns 0 or -ENOMEM.
 */
int fiber_begin(struct fiber *f, void (*entry)(void));

/* Whether `at` lies in the stack of some fiber. */
bool fiber_stack(const void *at);

/* Leaves `from`, the one that runs, and goes on with `to`. */
void fiber_switch(struct fiber *from, struct fiber *to);

/* The first thing that entry() calls. */
void fiber_entered(void);

#endif
