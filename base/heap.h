/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

/*
 * malloc for a daemon that answers in microseconds: one heap for all threads, which keeps what was
 * freed, in huge pages where the kernel gives such on advice. To be called once, before other
 * threads are there. Where malloc is not glibc's, or a sanitizer's, nothing happens.
 */
void heap_begin(void);

/* What the heap has grown by since is in huge pages, too. Any thread; costs next to nothing where
 * it has not grown. */
void heap_tend(void);

#endif
