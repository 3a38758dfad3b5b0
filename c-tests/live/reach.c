// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * reach - calls that change more, or something else, than their arguments say: other mappings of the same file, what is left of a
 * segment, whole huge pages, the memory of who shares it; calls that fail half-way, and arguments that make no sense.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <mmu_notifier/live.h>

#include "cases.h"

enum { PAGE = 4096, LENGTH = 16 * PAGE, STACK = 64 << 10 };
#define HUGE_PAGE (2UL << 20)

/* ---- one watched place ---- */

static struct mmu_interval_notifier sub;
static _Atomic int told;
static void (*more)(void);

static bool invalidate(struct mmu_interval_notifier *place, const struct mmu_notifier_range *event, unsigned long seq)
{
	(void)event;
	mmu_interval_set_seq(place, seq);
	told++;
	if (more)
		more();
	return true;
}

static const struct mmu_interval_notifier_ops ops = { .invalidate = invalidate };

static void watch(void *at, size_t length)
{
	MUST(!mmu_notifier_live_enable());
	MUST(!mmu_interval_notifier_insert(&sub, current->mm, (unsigned long)at, length, &ops));
	mmu_interval_read_begin(&sub);
	told = 0;
}

/* Told, and the end as well: nobody waits for it. */
static void must_be_told(void)
{
	unsigned long seq = mmu_interval_read_begin(&sub);

	MUST(told && !mmu_interval_read_retry(&sub, seq));
}

static struct mmu_notifier_live_status status(void)
{
	struct mmu_notifier_live_status now = { .size = sizeof(now) };

	MUST(!mmu_notifier_live_status(&now));
	return now;
}

static char *map(int flags, int fd)
{
	char *at = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, flags, fd, 0);

	MUST(at != MAP_FAILED);
	memset(at, 1, LENGTH);
	return at;
}

static char *map_anonymous(void) { return map(MAP_PRIVATE | MAP_ANONYMOUS, -1); }

static bool is_gone(void *at)
{
	unsigned char resident;

	return mincore(at, PAGE, &resident) && errno == ENOMEM;
}

/* ---- System V segments ---- */

static char *attach(void)
{
	int id = shmget(IPC_PRIVATE, LENGTH, IPC_CREAT | 0600);
	char *at;

	if (id < 0)
		skip("no System V shared memory");
	at = shmat(id, NULL, 0);
	shmctl(id, IPC_RMID, NULL);
	MUST(at != (void *)-1);
	return at;
}

/* The fifth page is watched; it goes with the rest. */
static void detach(char *at)
{
	watch(at + 4 * PAGE, PAGE);
	MUST(!shmdt(at) && is_gone(at + 4 * PAGE));
	must_be_told();
}

static void case_segment_without_head(void)
{
	char *at = attach();

	MUST(!munmap(at, PAGE));
	detach(at);
}

static void put_file_over(char *at)
{
	int fd = memfd_create("", 0);

	MUST(fd >= 0 && !ftruncate(fd, PAGE));
	MUST(mmap(at, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == at);
}

static void case_segment_behind_a_file(void)
{
	char *at = attach();

	put_file_over(at);
	detach(at);
}

static void case_segment_with_a_hole(void)
{
	char *at = attach();

	put_file_over(at + 2 * PAGE);
	detach(at);
}

static void case_segment_of_huge_pages(void)
{
	int id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | SHM_HUGETLB | 0600);
	char *at = mmap(NULL, 2 * HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (id < 0)
		skip("no huge page is free");
	MUST(at != MAP_FAILED);
	at += -(unsigned long)at % HUGE_PAGE;
	watch(at + HUGE_PAGE / 2, PAGE);
	at[HUGE_PAGE / 2] = 1;
	MUST(shmat(id, at, SHM_REMAP) == at && !at[HUGE_PAGE / 2]);
	shmctl(id, IPC_RMID, NULL);
	must_be_told();
}

/* ---- MADV_REMOVE takes pages from every mapping of the object ---- */

static char *one, *other;

static void map_twice(void)
{
	int fd = memfd_create("", 0);

	MUST(fd >= 0 && !ftruncate(fd, LENGTH));
	one = map(MAP_SHARED, fd);
	other = map(MAP_SHARED, fd);
	watch(other + PAGE, PAGE);
}

static void other_must_be_told(void)
{
	MUST(!other[PAGE] && other[2 * PAGE]);
	must_be_told();
}

static void case_remove_by_another_mapping(void)
{
	map_twice();
	MUST(!madvise(one + 2 * PAGE, PAGE, MADV_REMOVE) && !told);
	other[2 * PAGE] = 1;
	MUST(!madvise(one, 2 * PAGE, MADV_REMOVE));
	other_must_be_told();
}

static void case_remove_from_a_twin(void)
{
	one = map(MAP_SHARED | MAP_ANONYMOUS, -1);
	other = mremap(one, 0, LENGTH, MREMAP_MAYMOVE);
	MUST(other != MAP_FAILED);
	watch(other + PAGE, PAGE);
	MUST(!madvise(one + PAGE, PAGE, MADV_REMOVE));
	other_must_be_told();
}

/* What is mapped cannot be asked for: too much is told. */
static void case_remove_without_descriptors(void)
{
	static const struct rlimit none;

	map_twice();
	MUST(!setrlimit(RLIMIT_NOFILE, &none));
	MUST(!madvise(one, 2 * PAGE, MADV_REMOVE));
	other_must_be_told();
}

/* The first segment of all has the inode 0. */
static void case_first_segment(void)
{
	int id;

	if (unshare(CLONE_NEWIPC))
		skip("no System V shared memory of one's own");
	id = shmget(IPC_PRIVATE, LENGTH, IPC_CREAT | 0600);
	one = shmat(id, NULL, 0);
	other = shmat(id, NULL, 0);
	MUST(!id && one != (void *)-1 && other != (void *)-1);
	memset(one, 1, LENGTH);
	watch(other + PAGE, PAGE);
	MUST(!madvise(one, 2 * PAGE, MADV_REMOVE));
	other_must_be_told();
	told = 0;
	MUST(!shmdt(other));
	must_be_told();
}

static void case_remove_by_process_madvise(void)
{
	struct iovec vector;
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0);

	map_twice();
	vector = (struct iovec){ one + PAGE, PAGE };
	if (self < 0 || syscall(SYS_process_madvise, self, &vector, 1, MADV_REMOVE, 0) != PAGE)
		skip("process_madvise(MADV_REMOVE) on oneself: Linux 6.13 or newer");
	other_must_be_told();
}

/* ---- other processes with this one's memory, and copies of it ---- */

static _Alignas(16) char stack[STACK];

static int pause_child(void *data)
{
	(void)data;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pause();
}

static void case_advice_to_who_shares_memory(void)
{
	pid_t child = clone(pause_child, stack + STACK, CLONE_VM | SIGCHLD, NULL);
	int fd = (int)syscall(SYS_pidfd_open, child, 0);
	char *at = map_anonymous();
	struct iovec vector = { at, PAGE };

	MUST(child > 0);
	watch(at, PAGE);
	if (fd < 0 || syscall(SYS_process_madvise, fd, &vector, 1, MADV_DONTNEED, 0) != PAGE) {
		kill(child, SIGKILL);
		skip("process_madvise(MADV_DONTNEED): Linux 6.13 or newer");
	}
	MUST(!*at);
	must_be_told();
	kill(child, SIGKILL);
}

static int its_data;
static sigset_t mask_before;

/* Runs where it should, with what it should have, and with the parent's signals. */
static int check_child(void *data)
{
	char here;
	sigset_t now;

	MUST(&here > stack && &here < stack + STACK && data == &its_data && told == 1);
	MUST(!pthread_sigmask(SIG_SETMASK, NULL, &now) && !memcmp(&now, &mask_before, 8));
	free(malloc(1 << 20));
	return 42;
}

static void must_end_with(long child, int value)
{
	int ended;

	MUST(child > 0 && waitpid((pid_t)child, &ended, 0) == child);
	MUST(WIFEXITED(ended) && WEXITSTATUS(ended) == value);
}

static void clone_on_a_stack(void)
{
	must_end_with(clone(check_child, stack + STACK, SIGCHLD, &its_data), 42);
}

static void case_clone_with_a_stack(void)
{
	sigemptyset(&mask_before);
	sigaddset(&mask_before, SIGUSR1);
	pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
	pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
	watch(map_anonymous(), LENGTH);
	clone_on_a_stack();
	must_be_told();
	MUST(told == 1 && !status().epoch);
}

enum { SMALL = 16 << 10 };

static int check_place(void *its)
{
	char here;

	return &here > (char *)its && &here < (char *)its + SMALL ? 42 : 1;
}

static void *clone_often(void *none)
{
	_Alignas(16) char its[SMALL];

	for (int i = 0; i < 200; i++)
		must_end_with(clone(check_place, its + SMALL, SIGCHLD, its), 42);
	return none;
}

static void case_clone_among_threads(void)
{
	pthread_t threads[4];

	watch(map_anonymous(), LENGTH);
	for (int i = 0; i < 4; i++)
		MUST(!pthread_create(&threads[i], NULL, clone_often, NULL));
	for (int i = 0; i < 4; i++)
		MUST(!pthread_join(threads[i], NULL));
	must_be_told();
	MUST(told == 800);
}

__attribute__((noreturn)) static void end_on_a_stack(void)
{
	_exit(check_place(stack + STACK / 2 - SMALL / 2));
}

/* syscall() returns on the new stack, to the word there. */
static void case_clone3_with_a_stack(void)
{
	struct clone_args args = { .exit_signal = SIGCHLD, .stack = (unsigned long)stack, .stack_size = STACK / 2 };

	*(unsigned long *)(stack + STACK / 2) = (unsigned long)end_on_a_stack;
	watch(map_anonymous(), LENGTH);
	must_end_with(syscall(SYS_clone3, &args, sizeof(args)), 42);
	MUST(told == 1);
	must_be_told();
}

/* Thread-local variables of its own: nothing of the library may run there. */
static void case_clone_with_other_variables(void)
{
	static char variables[PAGE];
	pid_t child;

	watch(map_anonymous(), LENGTH);
	child = clone(pause_child, stack + STACK, CLONE_SETTLS | SIGCHLD, NULL, NULL, variables + PAGE / 2, NULL);
	MUST(child > 0 && !kill(child, SIGKILL));
	MUST(!told && status().missed == 1 && mmu_notifier_live_epoch() == 1);
}

static void must_end_well(long child)
{
	if (!child)
		_exit(0);
	must_end_with(child, 0);
}

static struct clone_args plain = { .exit_signal = SIGCHLD };

static void case_clone_and_one_byte(void)
{
	watch(map_anonymous(), 1);
	must_end_well(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0));
	MUST(told == 1 && !status().epoch);
}

/* What clone3() is told cannot be read. */
static void case_clone3_unread(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	watch(map_anonymous(), LENGTH);
	MUST(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		skip("no filters of system calls");
	must_end_well(syscall(SYS_clone3, &plain, sizeof(plain)));
	MUST(!told && status().missed == 1);
}

/* The kernel says of a first thread that has ended, and so of /proc/self, that it has no memory. */
static void *go_on_alone(void *first)
{
	char byte, maps[8];
	int fd;

	MUST(!pthread_join(*(pthread_t *)first, NULL));
	do {
		fd = open("/proc/self/maps", O_RDONLY);
		byte = fd < 0 ? 0 : (char)read(fd, maps, sizeof(maps));
		close(fd);
	} while (byte);
	map_twice();
	MUST(!status().reason[0]);
	MUST(!madvise(one, 2 * PAGE, MADV_REMOVE));
	other_must_be_told();
	told = 0;
	must_end_well(syscall(SYS_clone3, &plain, sizeof(plain)));
	MUST(told == 1 && !status().epoch);
	_exit(0);
}

static void case_without_the_first_thread(void)
{
	static pthread_t first;
	pthread_t thread;

	first = pthread_self();
	MUST(!pthread_create(&thread, NULL, go_on_alone, &first));
	pthread_exit(NULL);
}

static void clone_more(void)
{
	more = NULL;
	pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
	clone_on_a_stack();
}

static void case_clone_in_a_callback(void)
{
	char *at = map_anonymous();

	more = clone_more;
	watch(at, LENGTH);
	MUST(!munmap(at, LENGTH));
	MUST(status().nested == 1 && status().missed == 1);
}

/* ---- what fails ---- */

static void case_half_made(void)
{
	char *at = map_anonymous();

	MUST(!munmap(at + LENGTH / 2, PAGE));
	watch(at, LENGTH);
	MUST(mprotect(at, LENGTH, PROT_READ) && errno == ENOMEM);
	must_be_told();
	told = 0;
	MUST(madvise(at, LENGTH, MADV_DONTNEED) && errno == ENOMEM && !*at);
	must_be_told();
}

static void case_arguments_without_sense(void)
{
	static const long numbers[] = { SYS_munmap, SYS_mprotect, SYS_pkey_mprotect, SYS_mremap, SYS_madvise, SYS_shmdt,
		SYS_remap_file_pages, SYS_process_madvise, SYS_truncate, SYS_clone3 };
	static const long of_files[] = { SYS_fallocate, SYS_ftruncate };
	static const long words[] = { 0, -1, 1, -PAGE, -2 * PAGE, PAGE, 0x7fffffffffffffff, 1L << 62 };
	enum { WORDS = sizeof(words) / sizeof(words[0]) };
	char *at = map_anonymous();

	watch(at, LENGTH);
	for (int a = 0; a < WORDS * WORDS * WORDS; a++) {
		long x = words[a % WORDS], y = words[a / WORDS % WORDS], z = words[a / WORDS / WORDS];

		for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
			syscall(numbers[i], x, y, z, z, z, y);
		for (size_t i = 0; i < sizeof(of_files) / sizeof(of_files[0]); i++)
			syscall(of_files[i], -1, x, y, z);
		syscall(SYS_shmat, -1, x, y);
		syscall(SYS_ioctl, -1, x, y);
	}
	MUST(at[0] && at[LENGTH - 1] && !status().nested);
	mmu_interval_read_begin(&sub);
}

/* The kernel looks at the lower half of a number only. */
static void case_number_with_an_upper_half(void)
{
	char *at = map_anonymous();

	watch(at, LENGTH);
	MUST(!syscall(SYS_munmap | 1L << 32, at, LENGTH) && is_gone(at));
	must_be_told();
	MUST(syscall(-1L) == -1 && errno == ENOSYS);
}

/* ---- objects that are unloaded while their code is looked through ---- */

static volatile bool stop;

static void *load_and_unload(void *name)
{
	while (!stop) {
		void *handle = dlopen(name, RTLD_NOW);

		MUST(handle && !dlclose(handle));
	}
	return NULL;
}

static void case_status_while_objects_go(void)
{
	pthread_t threads[2];

	MUST(!mmu_notifier_live_enable());
	MUST(!pthread_create(&threads[0], NULL, load_and_unload, "./victim.so"));
	MUST(!pthread_create(&threads[1], NULL, load_and_unload, "libutil.so.1"));
	for (int i = 0; i < 20000; i++)
		status();
	stop = true;
	MUST(!pthread_join(threads[0], NULL) && !pthread_join(threads[1], NULL));
}

/* ---- memory of the library itself: nobody's ---- */

static int note_start(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	(void)notifier, (void)range;
	return 0;
}

/* Who watches everything has missed nothing when the library gives up what it does not need. */
static void case_memory_of_the_library(void)
{
	enum { MANY = 200000 };
	static struct mmu_interval_notifier many[MANY];
	static const struct mmu_notifier_ops everything = { .invalidate_range_start = note_start };
	struct mmu_notifier notifier = { .ops = &everything };

	MUST(!mmu_notifier_live_enable());
	MUST(!mmu_notifier_register(&notifier, current->mm));
	for (unsigned long i = 0; i < MANY; i++)
		MUST(!mmu_interval_notifier_insert(&many[i], current->mm, (1UL << 32) + 2 * i * PAGE, PAGE, &ops));
	for (int i = 0; i < MANY; i++)
		mmu_interval_notifier_remove(&many[i]);
	MUST(!status().nested && !status().missed && !mmu_notifier_live_epoch());
}

static const struct { const char *name; void (*run)(void); } cases[] = {
	{ "a segment whose first page is gone", case_segment_without_head },
	{ "a segment behind another file", case_segment_behind_a_file },
	{ "a segment with a hole", case_segment_with_a_hole },
	{ "a segment of huge pages", case_segment_of_huge_pages },
	{ "MADV_REMOVE by another mapping", case_remove_by_another_mapping },
	{ "MADV_REMOVE from a twin", case_remove_from_a_twin },
	{ "MADV_REMOVE without descriptors", case_remove_without_descriptors },
	{ "the first segment", case_first_segment },
	{ "MADV_REMOVE by process_madvise", case_remove_by_process_madvise },
	{ "process_madvise on who shares the memory", case_advice_to_who_shares_memory },
	{ "clone with a stack", case_clone_with_a_stack },
	{ "clone with a stack, among threads", case_clone_among_threads },
	{ "clone3 with a stack", case_clone3_with_a_stack },
	{ "clone with other thread-local variables", case_clone_with_other_variables },
	{ "clone, and one byte is watched", case_clone_and_one_byte },
	{ "clone3 whose arguments cannot be read", case_clone3_unread },
	{ "a process whose first thread has ended", case_without_the_first_thread },
	{ "clone with a stack, in a callback", case_clone_in_a_callback },
	{ "calls that fail half-way", case_half_made },
	{ "arguments without sense", case_arguments_without_sense },
	{ "a number with an upper half", case_number_with_an_upper_half },
	{ "the status while objects are unloaded", case_status_while_objects_go },
	{ "the library's own memory", case_memory_of_the_library },
};

int main(void)
{
	int passed = 0, skipped = 0, nr = sizeof(cases) / sizeof(cases[0]);

	setvbuf(stdout, NULL, _IONBF, 0);
	for (int i = 0; i < nr; i++) {
		int ended = status_of(cases[i].run);
		bool is_skip = WIFEXITED(ended) && WEXITSTATUS(ended) == SKIPPED;

		passed += !ended;
		skipped += is_skip;
		if (ended && !is_skip)
			printf("FAIL %s: wait status %#x\n", cases[i].name, ended);
	}
	printf("%d passed, %d failed, %d skipped\n", passed, nr - passed - skipped, skipped);
	return passed + skipped != nr;
}
