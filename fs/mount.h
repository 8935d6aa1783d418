/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_MOUNT_H
#define FS_MOUNT_H

#include "fs/options.h"

#include "base/err.h"

/* One mount, from the command line to the unmounted end. */
struct mount;

/*
 * new *out: removes a dead mount of our own that is in the way, opens TREE, the state directory and
 * the gateway, mounts, reads the models and begins to load the default one. On failure nothing is
 * left mounted. Starts threads.
 */
int mount_open(struct mount **out, const struct options *o, struct err *err);

/* Serves until it is unmounted or told to end by a signal; 0 or -errno. */
int mount_serve(struct mount *m);

/* Stops, settles, unmounts, frees. Accepts NULL, returns NULL. */
struct mount *mount_free(struct mount *m);

#endif
