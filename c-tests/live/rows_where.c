// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same munmap() from places that are hard to reach. */
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rows.h"

static struct watch *here;

static void unmap(struct watch *watch)
{
	MUST(!munmap(watch->start, LENGTH));
}

/* ---- signal handlers ---- */

static void handler(int signal)
{
	(void)signal;
	unmap(here);
}

static void raise_with(struct watch *watch, bool all_blocked)
{
	struct sigaction action = { .sa_handler = handler };

	here = watch;
	if (all_blocked)
		sigfillset(&action.sa_mask);
	MUST(!sigaction(SIGUSR1, &action, NULL) && !raise(SIGUSR1));
}

static void change_in_handler(struct watch *watch) { raise_with(watch, false); }
static void change_in_blocked_handler(struct watch *watch) { raise_with(watch, true); }

/* ---- threads ---- */

static sem_t go;
static pthread_t thread;

static void *wait_and_unmap(void *data)
{
	sem_wait(&go);
	unmap(data);
	return NULL;
}

static void prepare_old_thread(struct watch *watch)
{
	watch_anonymous(watch);
	sem_init(&go, 0, 0);
	MUST(!pthread_create(&thread, NULL, wait_and_unmap, watch));
}

static void change_in_old_thread(struct watch *watch)
{
	(void)watch;
	sem_post(&go);
	MUST(!pthread_join(thread, NULL));
}

static void change_on_small_stack(struct watch *watch)
{
	pthread_attr_t attr;

	sem_init(&go, 0, 1);
	MUST(!pthread_attr_init(&attr) && !pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN));
	MUST(!pthread_create(&thread, &attr, wait_and_unmap, watch) && !pthread_join(thread, NULL));
}

/* Runs when the thread's own data are already gone. */
static void destructor(void *data) { unmap(data); }

static void *thread_with_data(void *data)
{
	pthread_key_t key;

	MUST(!pthread_key_create(&key, destructor) && !pthread_setspecific(key, data));
	return NULL;
}

static void change_in_destructor(struct watch *watch)
{
	MUST(!pthread_create(&thread, NULL, thread_with_data, watch) && !pthread_join(thread, NULL));
}

/* ---- children: they work, and events still come afterwards ---- */

static void change_after_spawn(struct watch *watch)
{
	char *const args[] = { "true", NULL };
	int status;
	pid_t child;

	MUST(!posix_spawn(&child, "/bin/true", NULL, NULL, args, NULL));
	MUST(waitpid(child, &status, 0) == child && !status);
	unmap(watch);
}

static void change_after_system(struct watch *watch)
{
	MUST(!system("exec /bin/true"));
	unmap(watch);
}

static void change_after_exec(struct watch *watch)
{
	int status;
	pid_t child = fork();

	if (!child)
		_exit(execl("/bin/sh", "sh", "-c", "/bin/true", NULL));
	MUST(child > 0 && waitpid(child, &status, 0) == child && !status);
	unmap(watch);
}

const struct row rows_where[] = {
	{ "munmap() in a signal handler", watch_anonymous, change_in_handler, CONTENTS, BAW, EVENT_UNMAP, EXACT },
	{ "munmap() in a handler that blocks all", watch_anonymous, change_in_blocked_handler, CONTENTS, BAW, EVENT_UNMAP, EXACT },
	{ "munmap() by a thread older than enabling", prepare_old_thread, change_in_old_thread, CONTENTS, BAW, EVENT_UNMAP, EARLY | EXACT },
	{ "munmap() on a stack of 16 KiB", watch_anonymous, change_on_small_stack, CONTENTS, BAW, EVENT_UNMAP, EXACT },
	{ "munmap() in a key's destructor", watch_anonymous, change_in_destructor, CONTENTS, BAW, EVENT_UNMAP, EXACT },
	{ "posix_spawn() works; munmap() after it", watch_anonymous, change_after_spawn, CONTENTS, BAW, EVENT_UNMAP, EXACT },
	{ "system() works; munmap() after it", watch_anonymous, change_after_system, CONTENTS, BAW, EVENT_UNMAP, EXACT },
	{ "fork() and exec work; munmap() after them", watch_anonymous, change_after_exec, CONTENTS, BAW, EVENT_UNMAP, EXACT },
	{ 0 },
};
