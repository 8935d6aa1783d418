/* SPDX-License-Identifier: Apache-2.0 */
/* The door to the CUDA back end of a build that has none. */
#include <errno.h>
#include <stddef.h>

#include "engine/cuda_door.h"

int cuda_door_backend(const struct backend **out, uint32_t gpu, struct err *err)
{
	*out = NULL;
	return err_set(err, -ENOTSUP,
		"this llmfs was built without CUDA: meson configure build -Dcuda=enabled && "
		"ninja -C build makes one with it, and needs nvcc");
}
