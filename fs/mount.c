/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a mount and its threads: libfuse's workers, one that waits for signals, one that
 * watches TREE (sync.c), one that tells the kernel what to forget (notify.c).
 *
 * The end, in this order: nothing is accepted any more, over HTTP neither, and every parked request
 * is answered (gateway_stop); invalidations end while requests are still served, because they may
 * wait for them; the workers leave; unmounted; connections of HTTP end; the gateway settles and
 * stores; memory goes.
 *
 * libfuse's workers leave when the mount is gone or when fuse_session_exit() was called, but in the
 * second case the thread in fuse_session_loop_mt() sleeps in sem_wait() and has to be interrupted
 * by a signal of its own: the signal thread repeats that until the loop has returned.
 */
#include "fs/mount.h"

#include "fs/faults.h"
#include "fs/fs.h"
#include "fs/handle.h"
#include "fs/node.h"
#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/park.h"
#include "fs/stale.h"
#include "fs/sweep.h"
#include "fs/sync.h"
#include "fs/tree.h"

#include "base/log.h"
#include "gateway/gateway_models.h"
#include "gateway/gateway_shim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define KICK SIGUSR1

struct mount {
	struct fs fs;
	unsigned max_threads;
	bool mounted;
	pthread_t main, signals;
	bool has_signals;
	_Atomic bool loop_ended, ending;
};

static void sleep_ms(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&t, NULL);
}

/* ---- what libfuse has to say ---- */

static char last_message[256];
static bool unfinished; /* libfuse prints some sentences in pieces */

__attribute__((format(printf, 2, 0))) static void log_fuse(
	enum fuse_log_level level, const char *format, va_list ap)
{
	char line[1024];
	vsnprintf(line, sizeof line, format, ap);
	bool ends = strchr(line, '\n') != NULL;
	line[strcspn(line, "\n")] = '\0';
	if (level == FUSE_LOG_DEBUG) {
		log_debug("%s", line);
		return;
	}
	/* Faults of the start are told in the sentence of mount_open. */
	size_t n = unfinished ? strlen(last_message) : 0;
	snprintf(last_message + n, sizeof last_message - n, "%.*s",
		(int)(sizeof last_message - n - 1), line);
	unfinished = !ends;
	log_debug("libfuse: %s", line);
}

/* ---- the end ---- */

/* Nothing new, and what waits is answered; requests are still served when this returns. */
static void wind_down(struct mount *m)
{
	if (atomic_exchange(&m->ending, true))
		return;
	struct shim *shim = atomic_load(&m->fs.shim);
	if (shim)
		shim_stop(shim);
	gateway_stop(m->fs.gateway);
	atomic_store(&m->fs.serving, false);
	notify_stop(m->fs.notify);
	for (int i = 0; i < 100 && park_count(); i++)
		sleep_ms(10);
}

static void *wait_for_signals(void *arg)
{
	struct mount *m = arg;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	for (;;) {
		int signal_number = 0;
		if (sigwait(&set, &signal_number) != 0)
			continue;
		if (atomic_load(&m->loop_ended))
			return NULL;
		if (signal_number == SIGHUP)
			sweep_wake(m->fs.sweep);
		else
			break;
	}
	wind_down(m);
	fuse_session_exit(m->fs.session);
	while (!atomic_load(&m->loop_ended)) {
		pthread_kill(m->main, KICK);
		sleep_ms(10);
	}
	return NULL;
}

static void nothing(int signal_number)
{
}

static int start_signals(struct mount *m)
{
	struct sigaction kick = {.sa_handler = nothing}, ignore = {.sa_handler = SIG_IGN};
	sigaction(KICK, &kick, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	m->main = pthread_self();
	m->has_signals = pthread_create(&m->signals, NULL, wait_for_signals, m) == 0;
	return m->has_signals ? 0 : -EAGAIN;
}

/* In the thread that starts the others: they inherit it. */
static void block_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* ---- the start ---- */

static int open_gateway(struct mount *m, const struct options *o, struct err *err)
{
	struct gateway_options g = {
		.state_dir = o->state,
		.max_sessions_per_user = o->max_sessions,
		.max_queued = o->max_queued,
		.idle_unload_s = o->idle_unload_s,
		.daemon_uid = m->fs.uid,
		.daemon_gid = m->fs.gid,
		.changed = notify_change,
		.changed_arg = &m->fs,
	};
	/* umount returns before the daemon that served has stored everything: give it a moment. */
	for (int i = 0;; i++) {
		int r = gateway_open(&m->fs.gateway, &g, err);
		if (r != -EBUSY || i == 20)
			return r;
		sleep_ms(100);
	}
}

/* The mount's source is TREE, as a line of fstab has it: so `mount -a` knows what is mounted, and
 * findmnt(8) where the configuration is. */
static int add_source(struct fuse_args *args, const char *tree)
{
	char *source = NULL, *escaped = NULL;
	int r = asprintf(&source, "fsname=%s", tree) < 0 ? -1 : 0;
	r = r ? r : fuse_opt_add_opt_escaped(&escaped, source);
	r = r ? r : fuse_opt_add_arg(args, "-o");
	r = r ? r : fuse_opt_add_arg(args, escaped);
	free(escaped);
	free(source);
	return r;
}

static int open_session(struct mount *m, const struct options *o, struct err *err)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int r = 0;
	/* fsname first, so that the user's own is the one that counts. */
	r |= fuse_opt_add_arg(&args, "llmfs");
	r |= fuse_opt_add_arg(&args, "-osubtype=llmfs,default_permissions");
	r |= add_source(&args, o->tree);
	for (int i = 1; i < o->args.argc; i++)
		r |= fuse_opt_add_arg(&args, o->args.argv[i]);
	if (o->debug)
		r |= fuse_opt_add_arg(&args, "-d");
	if (r == 0)
		m->fs.session = fuse_session_new(&args, &ops_all, sizeof ops_all, &m->fs);
	fuse_opt_free_args(&args);
	if (!m->fs.session)
		return err_set(err, -EINVAL, "%s",
			*last_message ? last_message : "libfuse refused the options");
	return 0;
}

/* The device number of our own mount, without asking ourselves for it: nobody answers yet. */
static int mount_device(const char *mountpoint, dev_t *out)
{
	struct statx st;
	if (statx(AT_FDCWD, mountpoint, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &st) < 0)
		return -errno;
	*out = makedev(st.stx_dev_major, st.stx_dev_minor);
	return 0;
}

static int do_mount(struct mount *m, const struct options *o, struct err *err)
{
	dev_t device;
	if (fuse_session_mount(m->fs.session, o->mountpoint) != 0)
		return err_set(err, -EIO, "cannot mount at %s: %s", o->mountpoint,
			*last_message ? last_message : "libfuse gave no reason");
	m->mounted = true;
	int r = mount_device(o->mountpoint, &device);
	if (r < 0)
		return err_set(err, r, "%s: %s", o->mountpoint, strerror(-r));
	gateway_set_mount_device(m->fs.gateway, device);
	return 0;
}

/* A limit on how long a request may take aborts the mount under every parked reader. */
static void check_kernel(struct mount *m)
{
	static const char *const files[] = {"/proc/sys/fs/fuse/max_request_timeout",
		"/proc/sys/fs/fuse/default_request_timeout"};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		unsigned seconds = 0;
		FILE *f = fopen(files[i], "re");
		if (f && fscanf(f, "%u", &seconds) == 1 && seconds) {
			char sentence[256];
			snprintf(sentence, sizeof sentence,
				"%s is %u: the kernel ends the mount when a reader waits that "
				"long; "
				"set it to 0",
				files[i], seconds);
			gateway_report(m->fs.gateway, "fuse-timeout", sentence);
		}
		if (f)
			fclose(f);
	}
}

static void load_default(struct mount *m)
{
	struct model *model = gateway_model_find(m->fs.gateway, "default");
	/* Its failure is in models/NAME/state. */
	if (model)
		model_ctl(model, "load", strlen("load"), NULL);
	model_put(model);
}

/* Once TREE is in force: who asks first is to be asked by its rules. */
static int open_shim(struct mount *m, const struct options *o, struct err *err)
{
	const struct shim_options s = {.address = o->http, .version = LLMFS_VERSION};
	struct shim *shim = NULL;
	int r = o->http ? shim_open(&shim, m->fs.gateway, &s, err) : 0;
	atomic_store(&m->fs.shim, shim);
	return r;
}

static int start(struct mount *m, const struct options *o, struct err *err)
{
	int r = stale_clear(o->mountpoint, err);
	if (r == 0)
		r = tree_open(&m->fs.tree, o->tree, err);
	if (r == 0)
		r = open_session(m, o, err);
	if (r == 0)
		r = open_gateway(m, o, err);
	if (r < 0)
		return r;
	tree_sweep(m->fs.tree); /* now that no other daemon has the state: it may be writing */
	m->fs.nodes = nodes_new(m->fs.gateway, m->fs.tree);
	m->fs.notify = notify_new(&m->fs);
	m->fs.faults = faults_new();
	if (!m->fs.nodes || !m->fs.notify)
		return err_set(err, -ENOMEM, "out of memory or threads");
	r = do_mount(m, o, err);
	if (r < 0)
		return r;
	atomic_store(&m->fs.serving, true);
	m->fs.starting = true;
	sync_all(&m->fs, NULL);
	m->fs.starting = false;
	check_kernel(m);
	gateway_tell_faults(m->fs.gateway);
	load_default(m);
	r = open_shim(m, o, err);
	if (r < 0)
		return r;
	m->fs.sweep = sweep_new(&m->fs);
	if (!m->fs.sweep || start_signals(m) < 0)
		return err_set(err, -ENOMEM, "out of memory or threads");
	return 0;
}

int mount_open(struct mount **out, const struct options *o, struct err *err)
{
	struct mount *m = calloc(1, sizeof *m);
	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	block_signals();
	fuse_set_log_func(log_fuse);
	m->fs.uid = geteuid();
	m->fs.gid = getegid();
	m->max_threads = o->max_threads;
	int r = start(m, o, err);
	if (r < 0) {
		mount_free(m);
		return r;
	}
	*out = m;
	return 0;
}

int mount_serve(struct mount *m)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_max_threads(config, m->max_threads);
	fuse_loop_cfg_set_idle_threads(config, m->max_threads);
	int r = fuse_session_loop_mt(m->fs.session, config);
	fuse_loop_cfg_destroy(config);
	/* The kernel says so instead of ENODEV to a worker that reads while the last file of a
	 * mount that was detached is closed: it is gone, and that is how it should end. */
	return r > 0 || r == -ECONNABORTED ? 0 : r;
}

static void end_signals(struct mount *m)
{
	atomic_store(&m->loop_ended, true);
	if (m->has_signals) {
		pthread_kill(m->signals, SIGHUP);
		pthread_join(m->signals, NULL);
	}
}

struct mount *mount_free(struct mount *m)
{
	if (!m)
		return NULL;
	end_signals(m);
	if (m->fs.gateway)
		wind_down(m);
	park_end();
	handle_end_all();
	if (m->mounted)
		fuse_session_unmount(m->fs.session);
	sweep_free(m->fs.sweep);
	shim_free(atomic_load(&m->fs.shim));
	gateway_free(m->fs.gateway);
	notify_free(m->fs.notify);
	nodes_free(m->fs.nodes);
	faults_free(m->fs.faults);
	if (m->fs.session)
		fuse_session_destroy(m->fs.session);
	tree_free(m->fs.tree);
	free(m);
	return NULL;
}
