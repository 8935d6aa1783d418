/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC in nanoseconds: for durations and deadlines. */
uint64_t clock_mono_ns(void);
/* CLOCK_REALTIME in nanoseconds since 1970: for what a person or another machine reads. */
uint64_t clock_real_ns(void);

#endif
