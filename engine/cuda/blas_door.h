/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_BLAS_DOOR_H
#define ENGINE_CUDA_BLAS_DOOR_H

/* cuBLASLt, looked for when it is first called: a program built with CUDA starts on a machine that
 * has no such library, and says so when a model wants it. Defines the library's own names, as far
 * as the engine uses them; where it is missing each gives CUBLAS_STATUS_NOT_INITIALIZED.
 */

/* Why the library is not there, in a sentence; NULL: it is there. For the life of the process. */
const char *blas_door_missing(void);

#endif
