/* SPDX-License-Identifier: Apache-2.0 */
/* cp.async: the bytes are read when the copy is issued and reach shared memory when the thread that
 * issued it waits for its group, not before. So a kernel that forgets to wait finds the old bytes,
 * and where accesses are seen (race.c) it is caught at once: from issue to wait the target belongs
 * to nobody.
 */
#include "async.h"

#include <stdlib.h>
#include <string.h>

#include "tests/simt/block.h"
#include "tests/simt/race.h"
#include "tests/simt/warp.h"

#define MAX_COPY 16

struct copy {
	char *to;
	size_t size;
	unsigned group;
	char data[MAX_COPY];
};

static struct pending {
	struct copy *copy;
	size_t n, room;
	unsigned groups; /* committed so far: copies of the open group have this number */
} pending[BLOCK_MAX];

void async_block_begins(void)
{
	for (unsigned t = 0; t < BLOCK_MAX; t++)
		pending[t].n = pending[t].groups = 0;
}

void simt_cp_async(void *to, const void *from, size_t size, int valid)
{
	struct pending *p = pending + block_thread();
	if ((uintptr_t)to % size || (valid && (uintptr_t)from % size))
		block_fault(cudaErrorMisalignedAddress, "cp.async from %p to %p", from, to);
	if (valid)
		race_access(from, size, RACE_READ);
	race_in_flight(to, size);
	if (p->n == p->room) {
		size_t room = p->room ? 2 * p->room : 32;
		struct copy *grown = realloc(p->copy, room * sizeof *grown);
		if (!grown)
			block_fault(cudaErrorUnknown, "no memory for the emulator");
		p->copy = grown;
		p->room = room;
	}
	struct copy *c = p->copy + p->n++;
	c->to = to;
	c->size = size;
	c->group = p->groups;
	if (valid)
		memcpy(c->data, from, size);
	else
		memset(c->data, 0, size);
}

void simt_cp_async_commit(void)
{
	pending[block_thread()].groups++;
}

/* All committed groups but the last `may_remain` arrive. */
void simt_cp_async_wait(unsigned may_remain)
{
	struct pending *p = pending + block_thread();
	size_t kept = 0;
	for (size_t i = 0; i < p->n; i++) {
		struct copy *c = p->copy + i;
		if (c->group + may_remain >= p->groups) {
			p->copy[kept++] = *c;
			continue;
		}
		race_arrived(c->to, c->size);
		memcpy(c->to, c->data, c->size);
	}
	p->n = kept;
}
