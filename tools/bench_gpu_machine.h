/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TOOLS_BENCH_GPU_MACHINE_H
#define TOOLS_BENCH_GPU_MACHINE_H

/* What a GPU can do at most: for bench_gpu.c. */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct bench_gpu_machine {
	double copy;  /* bytes read and written a second, by a copy within the device */
	double dense; /* operations a second, of a product of bf16 matrices */
};

/* Measures both and prints them and what the device is. small: in the emulator. */
void bench_gpu_machine_measure(struct bench_gpu_machine *m, uint32_t gpu, bool small);
/* Prints the sentence and ends the program. */
void bench_gpu_machine_die(const struct err *err);

#endif
