/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_FAULT_H
#define ENGINE_CUDA_FAULT_H

/* What CUDA and cuBLASLt answer, as -errno and a sentence: the one place that knows their codes. */

#include <stdbool.h>

#include "base/err.h"

/*
 * 0 for cudaSuccess. Else an -errno and the sentence "the GPU failed while DOING: REASON (NAME)":
 * -ENOMEM; -ENODEV no device, no driver, or one too old; -ENOTSUP nothing in the build for this
 * device; -EIO all else. `code` is a cudaError_t; `doing` completes "while", as in "copying weights
 * to it". Also takes back the thread's record of a fault that does not stick, as the next call
 * would report it otherwise.
 */
int cuda_fault(int code, const char *doing, struct err *err);

/* The same of a cublasStatus_t. */
int cuda_fault_of_blas(int status, const char *doing, struct err *err);

/* Whether a cudaError_t is one after which nothing works in this process until the device is reset
 * (a kernel's bad access, an error of the hardware). */
bool cuda_fault_sticks(int code);

#endif
