/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_FAULT_H
#define SIMT_FAULT_H

/* The sticky error of the device and the sentence that belongs to it. */

/* The first fault counts, until fault_forget(). */
void fault_set(int error, const char *sentence);
int fault_error(void);   /* cudaError, 0 when there is none */
void fault_forget(void); /* the device was reset: no error; the sentence stays to be taken */

#endif
