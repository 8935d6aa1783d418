/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_NEXT_DEVICE_H
#define ENGINE_CUDA_NEXT_DEVICE_H

/*
 * Letting the next kernel in before this one ends. device_let_next(), always after device_begin():
 * once in all blocks of this kernel a thread has called it, or the block has ended, those of the
 * next may be put in place and ask for their weights; for all else they wait in device_begin()
 * until this one is over. It belongs at the beginning of kernels of a few blocks, which leave the
 * device to others anyway, and behind the loads of those that have many.
 *
 * It is nothing unless the kernels are compiled with -DDEVICE_LET_NEXT, for it was not measured:
 * at the beginning of every kernel it cost a quarter of the speed (docs/bench.md, where the command
 * is that tries it so).
 */

#include "engine/cuda/device.h"

static __device__ __forceinline__ void device_let_next(void)
{
#if defined(DEVICE_LET_NEXT) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#endif
