/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same intrusive work as the loop's, on a thread that may take its time. Work that is posted
 * while the thread ends (an engine that is freed when its last user lets go) is still run.
 *
 * Lock: runner->lock is a leaf; it is not held while something runs.
 */
#include "gateway/runner.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct runner {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	struct list work;
	bool closing;
	pthread_t thread;
};

static void *runner_main(void *arg)
{
	struct runner *r = arg;
	pthread_mutex_lock(&r->lock);
	for (;;) {
		while (list_empty(&r->work) && !r->closing)
			pthread_cond_wait(&r->filled, &r->lock);
		if (list_empty(&r->work))
			break;
		struct loop_work *w = list_entry(r->work.next, struct loop_work, link);
		list_remove(&w->link);
		w->queued = false;
		pthread_mutex_unlock(&r->lock);
		w->run(w);
		pthread_mutex_lock(&r->lock);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

int runner_new(struct runner **out, const char *name, struct err *err)
{
	struct runner *r = calloc(1, sizeof *r);
	if (!r)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->filled, NULL);
	list_init(&r->work);
	int e = pthread_create(&r->thread, NULL, runner_main, r);
	if (e) {
		free(r);
		return err_set(err, -e, "cannot start a thread: %s", strerror(e));
	}
	pthread_setname_np(r->thread, name);
	*out = r;
	return 0;
}

struct runner *runner_free(struct runner *r)
{
	if (!r)
		return NULL;
	pthread_mutex_lock(&r->lock);
	r->closing = true;
	pthread_cond_signal(&r->filled);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
	pthread_cond_destroy(&r->filled);
	pthread_mutex_destroy(&r->lock);
	free(r);
	return NULL;
}

bool runner_post(struct runner *r, struct loop_work *work)
{
	pthread_mutex_lock(&r->lock);
	bool taken = !work->queued;
	if (taken) {
		work->queued = true;
		list_append(&r->work, &work->link);
		pthread_cond_signal(&r->filled);
	}
	pthread_mutex_unlock(&r->lock);
	return taken;
}
