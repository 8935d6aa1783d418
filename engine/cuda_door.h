/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_DOOR_H
#define ENGINE_CUDA_DOOR_H

/* The CUDA back end, if this build has it: engine/cuda/, else no_cuda.c. */

#include <stdint.h>

#include "base/err.h"
#include "engine/backend.h"

/* *out borrows the table for models on this GPU. -ENOTSUP: built without CUDA, the sentence says
 * how to build with it; -ENODEV: no driver, no such GPU, or one too old; -EIO: the GPU is broken.
 */
int cuda_door_backend(const struct backend **out, uint32_t gpu, struct err *err);

#endif
