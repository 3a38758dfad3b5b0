// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * fire - live events are switched on and off while threads make every call that is patched, without a pause.
 *
 * Each thread has a range of its own and a subscriber that counts what it is told of it. `phase` says whether live events are
 * on, off, or changing. A call during which the phase was on the whole time has to be told, or it is lost; one during which it
 * was off must not be. What each call does is checked, whatever the phase. In the end the code of libc and ld.so is what is in
 * their files.
 *
 * Usage: fire [ROUNDS]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <mmu_notifier/live.h>

enum { ROUNDS = 10000, PAGE = 4096, PAGES = 8, LENGTH = PAGES * PAGE, WATCHDOG = 600, MiB = 1 << 20, MAX_COPY = 4 * MiB };

/* Even numbers: changing. 4n + 1: on, 4n + 3: off. */
static _Atomic unsigned long phase;
static _Atomic bool stop;
static bool is_on(unsigned long at) { return at % 4 == 1; }
static bool is_off(unsigned long at) { return at % 4 == 3; }

struct hammer {
	struct mmu_interval_notifier sub;
	const char *name;
	void (*round)(struct hammer *self);
	bool no_events;			/* its calls change nothing that is watched */
	pthread_t thread;
	char *range, *other;
	int memfd;
	_Atomic unsigned long told;
	unsigned long calls, on, off;	/* all; those wholly while on; those wholly while off */
	unsigned long lost, spurious;
};

__attribute__((noreturn)) static void fail(const char *what, int line)
{
	dprintf(STDERR_FILENO, "fire: line %d: not so: %s (%s)\n", line, what, strerror(errno));
	_exit(1);
}
#define MUST(condition) ((condition) ? (void)0 : fail(#condition, __LINE__))

static _Atomic unsigned long forks_told, forks_told_while_off;

/* fork() concerns everybody, whatever they do. */
static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, unsigned long seq)
{
	mmu_interval_set_seq(sub, seq);
	if (range->event == MMU_NOTIFY_PROTECTION_PAGE) {
		forks_told++;
		forks_told_while_off += is_off(phase);
	} else
		container_of(sub, struct hammer, sub)->told++;
	return true;
}

static const struct mmu_interval_notifier_ops ops = { .invalidate = invalidate };

/* Around a call that takes something away from the range. */
struct call { unsigned long phase, told; };

static struct call call_begins(struct hammer *self)
{
	return (struct call){ .phase = phase, .told = self->told };
}

static void call_ends(struct hammer *self, struct call call)
{
	bool told = self->told != call.told;

	self->calls++;
	if (phase != call.phase)
		return;
	if (is_on(call.phase)) {
		self->on++;
		self->lost += !told;
	} else if (is_off(call.phase)) {
		self->off++;
		self->spurious += told;
	}
}

#define CALL(condition) do {						\
	struct call call_ = call_begins(self);				\
	MUST(condition);						\
	call_ends(self, call_);						\
} while (0)

static void *map_at(void *at, int flags, int fd)
{
	return mmap(at, LENGTH, PROT_READ | PROT_WRITE, MAP_FIXED | flags, fd, 0);
}
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)

/* ---- what the threads do; each leaves fresh memory behind ---- */

static void round_munmap(struct hammer *self)
{
	CALL(!munmap(self->range, LENGTH));
	MUST(msync(self->range, LENGTH, MS_ASYNC) && errno == ENOMEM);
	MUST(mmap(self->range, LENGTH, PROT_READ | PROT_WRITE, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == self->range);
}

static void round_syscall(struct hammer *self)
{
	CALL(!syscall(SYS_munmap, self->range, LENGTH));
	MUST(syscall(SYS_gettid) == gettid());
	MUST(syscall(SYS_mmap, self->range, LENGTH, PROT_READ | PROT_WRITE, ANONYMOUS | MAP_FIXED, -1, 0) == (long)self->range);
	MUST(syscall(SYS_munmap, self->range + 1, LENGTH) == -1 && errno == EINVAL);
}

static void round_fixed(struct hammer *self)
{
	*self->range = 1;
	CALL(map_at(self->range, ANONYMOUS, -1) == self->range);
	MUST(!*self->range);
}

static void round_madvise(struct hammer *self)
{
	*self->range = 1;
	CALL(!madvise(self->range, LENGTH, MADV_DONTNEED));
	MUST(!*self->range);
	MUST(madvise(self->range + 1, LENGTH, MADV_DONTNEED) && errno == EINVAL);
}

static void round_process_madvise(struct hammer *self)
{
	struct iovec all = { self->range, LENGTH };
	static _Atomic bool missing;
	static __thread int me;

	if (missing)
		return round_madvise(self);
	if (!me)
		me = (int)syscall(SYS_pidfd_open, getpid(), 0);
	*self->range = 1;
	CALL(process_madvise(me, &all, 1, MADV_DONTNEED, 0) == LENGTH || (missing = errno == EINVAL));
	MUST(missing || !*self->range);
}

static void round_mremap(struct hammer *self)
{
	*self->range = 7;
	CALL(mremap(self->range, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, self->other) == self->other);
	MUST(*self->other == 7);
	MUST(map_at(self->range, ANONYMOUS, -1) == self->range);
	CALL(mremap(self->other, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, self->range) == self->range);
	MUST(*self->range == 7);
	CALL(mremap(self->range, LENGTH, LENGTH / 2, 0) == self->range);
	MUST(map_at(self->range, ANONYMOUS, -1) == self->range);
}

static void round_mprotect(struct hammer *self)
{
	CALL(!mprotect(self->range, LENGTH, PROT_READ));
	MUST(read(self->memfd, self->range, 1) == -1 && errno == EFAULT);
	CALL(!pkey_mprotect(self->range, LENGTH, PROT_READ | PROT_WRITE, -1));
	*self->range = 1;
}

static void round_shm(struct hammer *self)
{
	int id = shmget(IPC_PRIVATE, LENGTH, IPC_CREAT | 0600);

	MUST(id >= 0);
	CALL(shmat(id, self->range, SHM_REMAP) == self->range);
	shmctl(id, IPC_RMID, NULL);
	*self->range = 1;
	CALL(!shmdt(self->range));
	MUST(map_at(self->range, ANONYMOUS, -1) == self->range);
}

static void round_file(struct hammer *self)
{
	MUST(map_at(self->range, MAP_SHARED, self->memfd) == self->range);
	*self->range = 1;
	CALL(!fallocate(self->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, LENGTH));
	MUST(!*self->range);
	self->range[PAGE] = 1;
	CALL(!remap_file_pages(self->range, PAGE, 0, 1, 0));
	MUST(*self->range == 1);
	CALL(!ftruncate(self->memfd, 0));
	MUST(!ftruncate(self->memfd, LENGTH));
	MUST(!self->range[PAGE]);
	CALL(map_at(self->range, ANONYMOUS, -1) == self->range);
}

/* The break is the process's: one thread moves it, and leaves the heap where it was. */
static void round_break(struct hammer *self)
{
	char *at = sbrk(4 * PAGE);

	MUST(at != (void *)-1);
	at[2 * PAGE] = 1;
	MUST(sbrk(-4 * PAGE) == at + 4 * PAGE && sbrk(0) == at);
	self->calls += 2;
}

static void *nothing(void *data) { return data; }

static void round_thread(struct hammer *self)
{
	pthread_t thread;

	MUST(!pthread_create(&thread, NULL, nothing, NULL) && !pthread_join(thread, NULL));
	self->calls += 2;
}

/* The child has the patched text, and nobody who listens. */
static void round_fork(struct hammer *self)
{
	pid_t child = fork();
	int status;

	MUST(child >= 0);
	if (!child) {
		unsigned long told = self->told;

		_exit(munmap(self->range, LENGTH) || self->told != told);
	}
	MUST(waitpid(child, &status, 0) == child && !status);
	self->calls++;
	usleep(1000);
}

static struct hammer hammers[] = {
	{ .name = "munmap", .round = round_munmap },
	{ .name = "syscall()", .round = round_syscall },
	{ .name = "mmap(MAP_FIXED)", .round = round_fixed },
	{ .name = "madvise", .round = round_madvise },
	{ .name = "process_madvise", .round = round_process_madvise },
	{ .name = "mremap", .round = round_mremap },
	{ .name = "mprotect, pkey_mprotect", .round = round_mprotect },
	{ .name = "shmat, shmdt", .round = round_shm },
	{ .name = "fallocate, ftruncate, ...", .round = round_file },
	{ .name = "brk", .round = round_break, .no_events = true },
	{ .name = "threads", .round = round_thread, .no_events = true },
	{ .name = "fork", .round = round_fork, .no_events = true },
};
enum { NR_HAMMERS = sizeof(hammers) / sizeof(hammers[0]) };

static void *hammer_thread(void *data)
{
	struct hammer *self = data;

	/*
	 * There are more of them than processors. Switching waits for whoever is inside a call, which may have been preempted
	 * there; so they make room for each other, or each round would take the scheduler's time for all of them.
	 */
	while (!stop) {
		for (int i = 0; i < 4; i++)
			self->round(self);
		usleep(200);
	}
	return NULL;
}

/* Low, where the kernel places nothing by itself: what is unmapped for a moment stays free. */
static void hammer_init(struct hammer *self)
{
	char *place = (char *)0x200000000000UL + (self - hammers) * 4L * LENGTH;

	self->range = map_at(place, ANONYMOUS, -1);
	self->other = map_at(place + 2L * LENGTH, ANONYMOUS, -1);
	self->memfd = memfd_create("fire", MFD_CLOEXEC);
	MUST(self->range != MAP_FAILED && self->other != MAP_FAILED && !ftruncate(self->memfd, LENGTH));
	MUST(!mmu_interval_notifier_insert(&self->sub, current->mm, (unsigned long)self->range, LENGTH, &ops));
}

/* ---- rounds ---- */

static unsigned long all_calls(void)
{
	unsigned long sum = 0;

	for (int i = 0; i < NR_HAMMERS; i++)
		sum += __atomic_load_n(&hammers[i].calls, __ATOMIC_RELAXED);
	return sum;
}

/* Until some calls were made, but not for long. */
static void some_calls(void)
{
	unsigned long before = all_calls();

	for (int i = 0; i < 10 && all_calls() < before + 10; i++)
		usleep(20);
}

static void rounds(unsigned long nr)
{
	int error;

	for (unsigned long n = 0; n < nr; n++) {
		error = mmu_notifier_live_enable();
		if (error)
			errno = -error, fail("mmu_notifier_live_enable", __LINE__);
		phase = 4 * n + 1;
		some_calls();
		phase = 4 * n + 2;
		MUST(!mmu_notifier_live_disable());
		phase = 4 * n + 3;
		some_calls();
		phase = 4 * n + 4;
	}
}

/* ---- the text ---- */

/* Is the executable mapping [start, end) what its file has at `offset`? */
static bool as_in_file(const char *path, const char *start, const char *end, off_t offset)
{
	static char file[MAX_COPY];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = (size_t)(end - start);

	MUST(fd >= 0 && length <= sizeof(file));
	MUST(pread(fd, file, length, offset) == (ssize_t)length);
	close(fd);
	return !memcmp(file, start, length);
}

/* How many of libc's and ld.so's executable mappings were compared; dies if one differs. */
static int check_text(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], path[256], rights[5];
	char *start, *end;
	unsigned long offset;
	int nr = 0;

	MUST(maps);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%p-%p %4s %lx %*s %*s %255s", (void **)&start, (void **)&end, rights, &offset, path) != 5 ||
		    rights[2] != 'x' || (!strstr(path, "/libc.so") && !strstr(path, "/ld-linux")))
			continue;
		MUST(as_in_file(path, start, end, (off_t)offset));
		nr++;
	}
	fclose(maps);
	MUST(nr >= 2);
	return nr;
}

/* ---- main ---- */

static int print(unsigned long nr, double seconds)
{
	unsigned long lost = 0, spurious = 0, on = 0;
	bool idle = false;

	printf("%-26s %10s %10s %8s %10s %8s\n", "", "calls", "while on", "lost", "while off", "told");
	for (int i = 0; i < NR_HAMMERS; i++) {
		const struct hammer *h = &hammers[i];

		printf("%-26s %10lu", h->name, h->calls);
		if (!h->no_events)
			printf(" %10lu %8lu %10lu %8lu", h->on, h->lost, h->off, h->spurious);
		printf("\n");
		on += h->on, lost += h->lost, spurious += h->spurious;
		idle |= !h->calls || (!h->no_events && !h->on);
	}
	printf("%-26s %10lu %37lu\n", "  of fork", forks_told, forks_told_while_off);
	spurious += forks_told_while_off;
	printf("%lu rounds in %.1f s, %lu calls while on, %lu lost, %lu told while off\n", nr, seconds, on, lost, spurious);
	if (idle)
		printf("some calls were never made while live events were on: too few rounds\n");
	return lost || spurious || idle;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	unsigned long nr = argc > 1 ? strtoul(argv[1], NULL, 0) : ROUNDS;
	double start = now();
	char *volatile room;	/* volatile: compilers leave out what is freed at once */
	int failed;

	alarm(WATCHDOG);
	/* The heap keeps room for whoever allocates, so that the break is left to round_break(). */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_TRIM_THRESHOLD, 256 * MiB);
	mallopt(M_MMAP_THRESHOLD, 32 * MiB);
	room = malloc(16 * MiB);
	free(room);
	for (int i = 0; i < NR_HAMMERS; i++)
		hammer_init(&hammers[i]);
	for (int i = 0; i < NR_HAMMERS; i++)
		MUST(!pthread_create(&hammers[i].thread, NULL, hammer_thread, &hammers[i]));
	rounds(nr);
	stop = true;
	for (int i = 0; i < NR_HAMMERS; i++)
		pthread_join(hammers[i].thread, NULL);
	for (int i = 0; i < NR_HAMMERS; i++)
		mmu_interval_notifier_remove(&hammers[i].sub);
	failed = print(nr, now() - start);
	printf("text of libc and ld.so as in their files: %d mappings\n", check_text());
	printf("%d passed, %d failed, 0 skipped\n", !failed, failed);
	return failed;
}
