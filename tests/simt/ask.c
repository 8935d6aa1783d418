/* SPDX-License-Identifier: Apache-2.0 */
/* device_ask: nothing comes of it here, as there is no cache, but a list of what was asked for,
 * which tests look at. What is asked for must be there: on a card a prefetch of nobody's memory is
 * a fault too, or a silent waste.
 */
#include <stdint.h>
#include <stdlib.h>

#include "tests/simt/block.h"
#include "tests/simt/include/simt.h"
#include "tests/simt/memory.h"
#include "tests/simt/order.h"
#include "tests/simt/race.h"

#define UNIT 16 /* cp.async.bulk's */

void simt_ask(const void *from, size_t size); /* what device_ask() is */

static struct simt_asked *list;
static size_t n_list, n_room;
static bool watched; /* a test has looked, and will again */
static bool taken;   /* the list: the next one begins anew */

size_t simt_take_asked(const struct simt_asked **out)
{
	size_t n = taken ? 0 : n_list;
	*out = list;
	watched = taken = true;
	return n;
}

static void check(const void *from, size_t size)
{
	if ((uintptr_t)from % UNIT || size % UNIT || !size)
		block_fault(cudaErrorMisalignedAddress,
			"%zu bytes at %p are asked for, not %d by %d", size, from, UNIT, UNIT);
	if (!memory_holds(from, size, MEMORY_DEVICE))
		block_fault(cudaErrorIllegalAddress,
			"%zu bytes at %p are asked for, out of bounds of the device's memory", size,
			from);
	race_ask(from, size);
}

void simt_ask(const void *from, size_t size)
{
	if (block_thread() % BLOCK_WARP)
		return;
	check(from, size);
	if (!watched)
		return;
	n_list = taken ? 0 : n_list;
	taken = false;
	if (n_list == n_room) {
		size_t room = n_room ? 2 * n_room : 256;
		struct simt_asked *grown = realloc(list, room * sizeof *grown);
		if (!grown)
			block_fault(cudaErrorUnknown, "no memory for the emulator");
		list = grown;
		n_room = room;
	}
	unsigned n_blocks, block = block_number(&n_blocks);
	list[n_list++] = (struct simt_asked){
		.from = from,
		.size = size,
		.kernel = block_kernel(),
		.launch = simt_launches(),
		.block = block,
		.n_blocks = n_blocks,
		.early = !order_began(),
	};
}
