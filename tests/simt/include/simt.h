/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_H
#define SIMT_H

/* What a test may ask of the emulator beyond the CUDA runtime: the order in which threads run, how
 * much memory the device has, and what went wrong.
 *
 * A fault of a kernel (a barrier that not all reach, lanes that meet at different operations, an
 * access outside of device memory, a race, data read before cp.async has brought it) ends its
 * launch and is from then on the error of every call, as a sticky error of CUDA is, until
 * cudaDeviceReset(). A process with a fault that no test asked for (simt_take_fault) ends with exit
 * status 98, whatever the test thought.
 */

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum simt_order {
	SIMT_NORMAL,   /* lowest thread and lowest block first */
	SIMT_REVERSED, /* highest first */
	SIMT_SHUFFLED  /* at each switch one that can run, by chance */
};

/* From the next launch on. Until it is called: environment SIMT_ORDER = normal | reversed |
 * shuffled:SEED, else normal.
 */
void simt_set_order(enum simt_order order, unsigned seed);

/* Size of device memory, used and unused; 0: as at the start (environment SIMT_MEMORY in MiB, else
 * 256 MiB).
 */
void simt_set_memory(size_t size);

/* The sentence of the first fault since the last call, or NULL. Clears it (not the sticky error).
 * The text is good until the next call.
 */
const char *simt_take_fault(void);

/* The next cudaLaunch… after `skip` others ends with this sticky error: for tests of error paths.
 */
void simt_fail_launch(unsigned skip, int error);

/* Launches of kernels that have run since the start. */
unsigned long long simt_launches(void);

/* What kernels have asked to be brought into the L2 cache (device_ask) since the last call, in the
 * order of asking; returns how many. The first call begins it and gives none. Good until the next
 * launch runs.
 */
struct simt_asked {
	const char *from;
	size_t size;
	const char *kernel;
	unsigned long long launch; /* simt_launches() then */
	unsigned block, n_blocks;  /* its number in the launch, of how many */
	bool early;                /* before device_begin() */
};
size_t simt_take_asked(const struct simt_asked **out);

/* Whether every load and store of kernels is seen (races, bounds): kernels built with hooks. */
bool simt_sees_accesses(void);

#ifdef __cplusplus
}
#endif

#endif
