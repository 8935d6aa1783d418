/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_LAUNCH_H
#define SIMT_LAUNCH_H

/* Dynamic shared memory of a block: without asking, and at most (sm_86, sm_89, sm_120). */
#define LAUNCH_SHARED (48 * 1024)
#define LAUNCH_SHARED_OPTIN (99 * 1024)

#endif
