/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A host that is not linked with the library: it comes and goes with a driver that dlopen() brings.
 * DRIVER, DRIVER_STATIC (which contains the library) and LIBRARY are paths.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver.h"

static int passed, failed;

#define ASSERT(condition) do {						\
	if (!(condition)) {						\
		fprintf(stderr, "%s:%d: not true: %s (%s)\n", __FILE__, __LINE__, #condition, dlerror() ?: strerror(errno)); \
		_exit(1);						\
	}								\
} while (0)

/* ------------------------------------------------- memory that can be refused, to ld.so as well */

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
static __thread int armed, allocations;

void *malloc(size_t size) { allocations += armed; return __libc_malloc(size); }
void *calloc(size_t number, size_t size) { allocations += armed; return __libc_calloc(number, size); }
void *realloc(void *old, size_t size) { allocations += armed; return __libc_realloc(old, size); }
void *memalign(size_t align, size_t size) { allocations += armed; return __libc_memalign(align, size); }
void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }
int posix_memalign(void **place, size_t align, size_t size) { *place = memalign(align, size); return *place ? 0 : ENOMEM; }

/* ---------------------------------------------------------------------------------------- the driver */

static struct {
	void *handle;
	int (*load)(void);
	void (*event)(void);
	void (*unload)(struct driver_counts *);
	void *(*address)(void);
	int (*process_count)(void);
} driver;

static void open_driver_at(const char *path)
{
	driver.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	ASSERT(driver.handle);
	driver.load = dlsym(driver.handle, "driver_load");
	driver.event = dlsym(driver.handle, "driver_event");
	driver.unload = dlsym(driver.handle, "driver_unload");
	driver.address = dlsym(driver.handle, "driver_address");
	driver.process_count = dlsym(driver.handle, "driver_process_count");
	ASSERT(driver.load && driver.event && driver.unload && driver.address && driver.process_count);
}

static void open_driver(void) { open_driver_at(DRIVER); }

static int is_mapped(const char *path) { void *handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD); if (handle) dlclose(handle); return !!handle; }

/*
 * Threads of the library, by their name. One that was joined may be on its way out of the kernel still, where it is listed; it
 * says so in its flags.
 */
static bool is_worker(const char *thread)
{
	enum { EXITING = 0x4 };		/* PF_EXITING */
	unsigned flags = EXITING;
	char path[300], name[32];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%s/stat", thread);
	file = fopen(path, "r");
	if (!file)
		return false;
	if (fscanf(file, "%*d (%31[^)]) %*c %*d %*d %*d %*d %*d %u", name, &flags) != 2)
		flags = EXITING;
	fclose(file);
	return !(flags & EXITING) && !strcmp(name, "mmu_notifier");
}

static int workers(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	int found = 0;

	while ((entry = readdir(tasks)))
		found += is_worker(entry->d_name);
	closedir(tasks);
	return found;
}

static void expect(const struct driver_counts *counts, int starts, int invalidations)
{
	ASSERT(counts->starts == starts && counts->invalidations == invalidations);
	ASSERT(counts->frees == 1 && counts->releases == 1 && counts->warnings == 0);
}

/* Its module exit synchronizes: then its text may go, at once. The library stays, and serves the next one. */
static void a_driver_comes_and_goes(void)
{
	for (int n = 0; n < 5; n++) {
		struct driver_counts counts;

		open_driver();
		ASSERT(driver.load() == 0);
		driver.event();
		driver.unload(&counts);
		dlclose(driver.handle);
		ASSERT(!is_mapped(DRIVER));
		ASSERT(is_mapped(LIBRARY));
		expect(&counts, 2, 1);
	}
	ASSERT(workers() == 1);
}

/* All handles are closed while its worker runs and its notifiers are registered: nothing of the library goes. */
static void the_library_stays(void)
{
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL), *again;
	Dl_info info;

	open_driver();
	ASSERT(library && driver.load() == 0);
	driver.event();
	for (int n = 0; n < 4; n++)
		ASSERT(dlclose(library) == 0 || n > 1);
	ASSERT(is_mapped(LIBRARY));
	ASSERT(dladdr(driver.address(), &info));
	driver.event();
	again = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	ASSERT(again && dlsym(again, "mmu_notifier_put") == driver.address());
}

/* Threads are inside of the library, or have been, when the last handle is closed. */
static int stop, rounds;
static void *keep_busy(void *event)
{
	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
		((void (*)(void))event)();
		__atomic_fetch_add(&rounds, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* mm_alloc(), mmget() and so on, of the library itself: no driver is in memory. */
static void *(*library_mm_alloc)(void);
static void (*library_mmput)(void *);
static void use_library(void) { library_mmput(library_mm_alloc()); }

static void dlclose_with_live_threads(void)
{
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	pthread_t threads[3];

	ASSERT(library);
	library_mm_alloc = dlsym(library, "mm_alloc");
	library_mmput = dlsym(library, "mmput");
	for (int n = 0; n < 3; n++)
		ASSERT(!pthread_create(&threads[n], NULL, keep_busy, use_library));
	while (__atomic_load_n(&rounds, __ATOMIC_SEQ_CST) < 100)
		usleep(100);
	ASSERT(!dlclose(library));
	ASSERT(is_mapped(LIBRARY));
	__atomic_store_n(&rounds, 0, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&rounds, __ATOMIC_SEQ_CST) < 100)
		usleep(100);
	__atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
	for (int n = 0; n < 3; n++)
		ASSERT(!pthread_join(threads[n], NULL));
	use_library();
}

/* fork handlers and the exit handler are in the library's text, too. */
static void fork_and_exit_behind_dlclose(void)
{
	struct driver_counts counts;
	int status;
	pid_t pid;

	open_driver();
	ASSERT(driver.load() == 0);
	driver.unload(&counts);
	dlclose(driver.handle);
	pid = fork();
	if (pid == 0) {
		open_driver();
		ASSERT(driver.load() == 0);
		driver.event();
		driver.unload(&counts);
		dlclose(driver.handle);
		exit(0);
	}
	ASSERT(waitpid(pid, &status, 0) == pid && status == 0);
	ASSERT(workers() == 1);
	exit(0);
}

/* A library inside of a driver goes with it: its worker, its fork handlers. */
static void a_static_library_goes_with_its_driver(void)
{
	struct driver_counts counts;
	int status;
	pid_t pid;

	for (int n = 0; n < 3; n++) {
		open_driver_at(DRIVER_STATIC);
		ASSERT(driver.load() == 0);
		driver.event();
		driver.unload(&counts);
		expect(&counts, 2, 1);
		ASSERT(workers() == 1);
		dlclose(driver.handle);
		ASSERT(!is_mapped(DRIVER_STATIC));
		ASSERT(workers() == 0);
		pid = fork();
		if (pid == 0)
			exit(0);
		ASSERT(waitpid(pid, &status, 0) == pid && status == 0);
	}
}

/* A thread that was there before the library was, and has used nothing of it: its first event allocates nothing. */
static pthread_barrier_t loaded;
static void *first_event(void *unused)
{
	pthread_barrier_wait(&loaded);
	armed = 1;
	driver.event();
	armed = 0;
	if (allocations)
		fprintf(stderr, "%d allocations\n", allocations);
	return allocations ? &loaded : unused;
}

static void the_first_event_of_an_old_thread_allocates_nothing(void)
{
	pthread_t thread;
	void *result;

	pthread_barrier_init(&loaded, NULL, 2);
	ASSERT(!pthread_create(&thread, NULL, first_event, NULL));
	usleep(1000);
	open_driver();
	ASSERT(driver.load() == 0);
	pthread_barrier_wait(&loaded);
	ASSERT(!pthread_join(thread, &result));
	ASSERT(!result);
}

static void run(const char *name, void (*test)(void))
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		alarm(30);
		test();
		exit(0);
	}
	waitpid(pid, &status, 0);
	printf("%s %s\n", status ? "FAIL" : "PASS", name);
	*(status ? &failed : &passed) += 1;
}

#define RUN(test) run(#test, test)

int main(void)
{
	RUN(a_driver_comes_and_goes);
	RUN(the_library_stays);
	RUN(dlclose_with_live_threads);
	RUN(fork_and_exit_behind_dlclose);
	RUN(a_static_library_goes_with_its_driver);
	RUN(the_first_event_of_an_old_thread_allocates_nothing);
	printf("%d passed, %d failed, 0 skipped\n", passed, failed);
	return failed > 0;
}
