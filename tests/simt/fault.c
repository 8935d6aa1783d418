/* SPDX-License-Identifier: Apache-2.0 */
/* Faults of kernels. A test that plants one takes its sentence; one that nobody took ends the
 * process with a status of its own, so that a test which ignores errors cannot pass.
 */
#include "fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/simt/include/simt.h"

#define STATUS_UNTAKEN 98

static int sticky;
static char first[1024], taken[1024];

static void nobody_took_it(void)
{
	if (!first[0])
		return;
	fprintf(stderr, "simt: a fault that no test asked for: %s\n", first);
	fflush(NULL);
	_exit(STATUS_UNTAKEN);
}

void fault_set(int error, const char *sentence)
{
	static int registered;
	if (!registered++)
		atexit(nobody_took_it);
	if (!sticky)
		sticky = error;
	if (!first[0])
		snprintf(first, sizeof first, "%s", sentence);
}

int fault_error(void)
{
	return sticky;
}

void fault_forget(void)
{
	sticky = 0;
}

const char *simt_take_fault(void)
{
	if (!first[0])
		return NULL;
	memcpy(taken, first, sizeof taken);
	first[0] = 0;
	return taken;
}
