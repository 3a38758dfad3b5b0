// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * net - the userfaultfd on watched ranges: what no site announces is noticed, late; what is announced is noticed once; nobody
 * who unmaps waits for ever; where the net cannot be, the status says so. Each case is a process of its own.
 *
 * Usage: net [CASE]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <mmu_notifier/live.h>

enum { PAGE = 4096, PAGES = 16, LENGTH = PAGES * PAGE, DEADLINE = 60, SKIPPED = 77 };

static const char *present;

__attribute__((noreturn)) static void fail(const char *what, int line)
{
	dprintf(STDOUT_FILENO, "FAIL %s: line %d: not so: %s (%s)\n", present, line, what, strerror(errno));
	_exit(1);
}
#define MUST(condition) ((condition) ? (void)0 : fail(#condition, __LINE__))

__attribute__((noreturn)) static void skip(const char *why)
{
	dprintf(STDOUT_FILENO, "SKIP %s: %s\n", present, why);
	_exit(SKIPPED);
}

/* By an instruction of this program: no site sees it. */
static long inline_call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

static int inline_munmap(char *start, size_t length)
{
	return (int)inline_call(SYS_munmap, (long)start, (long)length, 0, 0, 0, 0);
}

static int inline_madvise(char *start, size_t length, int advice)
{
	return (int)inline_call(SYS_madvise, (long)start, (long)length, advice, 0, 0, 0);
}

/* ---- a subscriber ---- */

struct range {
	struct mmu_interval_notifier sub;
	char *start;
	size_t length;
	_Atomic int told, late;
	_Atomic unsigned long from, to;		/* what it was last told */
	_Atomic int event;
	_Atomic bool *stall;
};

static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *event, unsigned long seq)
{
	struct range *range = container_of(sub, struct range, sub);

	mmu_interval_set_seq(sub, seq);
	while (range->stall && *range->stall)
		usleep(1000);
	range->from = event->start;
	range->to = event->end;
	range->event = (int)event->event;
	if (mmu_notifier_live_is_late())
		range->late++;
	range->told++;
	return true;
}

static const struct mmu_interval_notifier_ops ops = { .invalidate = invalidate };

static struct mmu_notifier_live_status status(void)
{
	struct mmu_notifier_live_status known = { .size = sizeof(known) };

	MUST(!mmu_notifier_live_status(&known));
	return known;
}

static bool in_force(void) { return status().mechanisms & MMU_NOTIFIER_LIVE_BY_NET; }

static void enable(void)
{
	MUST(!mmu_notifier_live_enable_with(MMU_NOTIFIER_LIVE_NET));
	if (!in_force())
		skip(status().reason);
	while (strstr(status().reason, "until it was seen elsewhere"))	/* on a busy machine: each look at the epoch finds another one */
		usleep(1000);
}

static char *map(size_t length)
{
	char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(at != MAP_FAILED);
	return at;
}

/* LENGTH bytes of nothing, where no mapping comes by itself. */
static char *nowhere(void)
{
	char *at = mmap((void *)0x10000000, LENGTH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	MUST(at != MAP_FAILED && !munmap(at, LENGTH));
	return at;
}

static void insert(struct range *range, char *start, size_t length)
{
	range->start = start;
	range->length = length;
	MUST(!mmu_interval_notifier_insert(&range->sub, current->mm, (unsigned long)start, length, &ops));
}

static void watch(struct range *range)
{
	insert(range, map(LENGTH), LENGTH);
	memset(range->start, 1, LENGTH);
}

static void no_watch(struct range *range) { mmu_interval_notifier_remove(&range->sub); }

/* The library's thread tells soon. */
static void wait_for(struct range *range, int late)
{
	for (int i = 0; range->late < late && i < DEADLINE * 1000; i++)
		usleep(1000);
	MUST(range->late >= late);
}

/* Until the library's thread has told of what came before: it tells in order. */
static void settle(void)
{
	static struct range bell;

	watch(&bell);
	bell.late = 0;
	MUST(!inline_munmap(bell.start, LENGTH));
	wait_for(&bell, 1);
	no_watch(&bell);
}

/* ---- what is noticed ---- */

static void case_munmap(void)
{
	static struct range range;
	unsigned long epoch;

	enable();
	watch(&range);
	epoch = mmu_notifier_live_epoch();
	MUST(!inline_munmap(range.start + PAGE, 2 * PAGE));
	MUST(mmu_notifier_live_epoch() > epoch);	/* when the call has returned */
	wait_for(&range, 1);
	MUST(range.event == MMU_NOTIFY_UNMAP && range.from == (unsigned long)range.start + PAGE &&
	     range.to == range.from + 2 * PAGE);
	MUST(status().late == 1);
	MUST(!inline_munmap(range.start + 3 * PAGE, PAGE));	/* not what is somebody else's by now */
	wait_for(&range, 2);
	MUST(range.told == 2);
	MUST(!mmu_notifier_live_is_late());
}

static void case_madvise(void)
{
	static struct range range;
	unsigned long epoch;

	enable();
	watch(&range);
	for (int i = 1; i <= 3; i++) {
		epoch = mmu_notifier_live_epoch();
		MUST(!inline_madvise(range.start, LENGTH, MADV_DONTNEED));
		MUST(mmu_notifier_live_epoch() > epoch);
		wait_for(&range, i);
		MUST(range.event == MMU_NOTIFY_CLEAR);
	}
	MUST(!inline_madvise(range.start, LENGTH, MADV_FREE));
	wait_for(&range, 4);
}

static void case_fixed(void)
{
	static struct range range;

	enable();
	watch(&range);
	MUST(inline_call(SYS_mmap, (long)range.start, LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	     (long)range.start);
	wait_for(&range, 1);
}

/* A move: of the source we are told; the destination, where nobody watches, leaves the net again. */
static void case_mremap(void)
{
	static struct range range;
	unsigned long late;
	char *to;

	enable();
	watch(&range);
	to = map(LENGTH);
	MUST(inline_call(SYS_mremap, (long)range.start, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, (long)to, 0) == (long)to);
	wait_for(&range, 1);
	MUST(range.from == (unsigned long)range.start);
	settle();
	late = status().late;
	MUST(!inline_munmap(to, LENGTH));
	MUST(status().late == late);
}

/* Pages that leave a mapping which stays. */
static void case_dontunmap(void)
{
	static struct range range;

	enable();
	watch(&range);
	MUST(inline_call(SYS_mremap, (long)range.start, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0, 0) > 0);
	wait_for(&range, 1);
	MUST(!inline_munmap(range.start, LENGTH));
	wait_for(&range, 2);
}

static void case_brk(void)
{
	static struct range range, first;
	char *end;

	enable();
	watch(&first);		/* what the library needs is allocated now */
	MUST(malloc(1));
	end = sbrk(LENGTH);
	end = (char *)(((unsigned long)end + PAGE - 1) & -(unsigned long)PAGE);
	insert(&range, end, LENGTH / 2);
	MUST(inline_call(SYS_brk, (long)end, 0, 0, 0, 0, 0) == (long)end);
	wait_for(&range, 1);
}

/* ---- what is announced is noticed once ---- */

/* Announced in time, and not late as well. */
#define ANNOUNCED(range, call) do {							\
	int told_ = (range).told;							\
	MUST(call);									\
	MUST((range).told > told_ && !(range).late);					\
} while (0)

static void case_announced(void)
{
	static struct range range;
	unsigned long epoch;
	char *to;

	enable();
	watch(&range);
	to = map(LENGTH);
	epoch = mmu_notifier_live_epoch();
	for (int i = 0; i < 100; i++) {
		ANNOUNCED(range, !madvise(range.start, LENGTH, MADV_DONTNEED));
		ANNOUNCED(range, mmap(range.start, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
				      0) == range.start);
		ANNOUNCED(range, !mprotect(range.start, LENGTH, PROT_READ));
		ANNOUNCED(range, !mprotect(range.start, LENGTH, PROT_READ | PROT_WRITE));
		ANNOUNCED(range, mremap(range.start, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
		ANNOUNCED(range, mremap(to, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, range.start) == range.start);
		ANNOUNCED(range, !mmu_notifier_madvise((unsigned long)range.start, LENGTH, MADV_DONTNEED));
		ANNOUNCED(range, !vm_munmap((unsigned long)range.start, LENGTH));
		MUST(mmap(range.start, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		     range.start);
		ANNOUNCED(range, !munmap(range.start, LENGTH));
		MUST(mmap(range.start, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		     range.start);
		to = map(LENGTH);
	}
	MUST(mmu_notifier_live_epoch() == epoch && !status().late);
	settle();
	MUST(!range.late);
	/* What replaced it is in the net. */
	MUST(!inline_madvise(range.start, LENGTH, MADV_DONTNEED));
	wait_for(&range, 1);
	range.late = 0;
	ANNOUNCED(range, !madvise(range.start, LENGTH, MADV_DONTNEED));
	MUST(!inline_munmap(range.start, LENGTH));
	wait_for(&range, 1);
}

static void case_heap(void)
{
	static struct range range;
	char *volatile buffer = malloc(8 << 20), *volatile top;

#ifdef __SANITIZE_ADDRESS__
	skip("malloc is not libc's with AddressSanitizer");
#endif
	enable();
	insert(&range, (char *)((unsigned long)buffer & -(unsigned long)PAGE), 8 << 20);
	ANNOUNCED(range, (free(buffer), true));
	no_watch(&range);
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	top = malloc(4 << 20);
	insert(&range, (char *)((unsigned long)top & -(unsigned long)PAGE), 4 << 20);
	ANNOUNCED(range, (free(top), malloc_trim(0), true));
	MUST(!status().late && !mmu_notifier_live_epoch());
}

/* A mapping in the net that grows takes the net along: not over what nobody watches. */
static void case_grow(void)
{
	static struct range range;
	char *place;

	enable();
	place = map(3 * LENGTH);
	MUST(!munmap(place + LENGTH, 2 * LENGTH));
	insert(&range, place, LENGTH);
	MUST(mremap(place, LENGTH, 2 * LENGTH, MREMAP_MAYMOVE) == place);
	MUST(!inline_munmap(place + LENGTH, LENGTH));
	MUST(!status().late && !range.told);
	MUST(!inline_munmap(place, LENGTH));
	wait_for(&range, 1);
}

/* ---- who comes and goes ---- */

static void case_remove(void)
{
	static struct range range, other;
	unsigned long late;

	enable();
	watch(&range);
	insert(&other, range.start + LENGTH / 2, LENGTH / 2);
	no_watch(&range);
	late = status().late;
	MUST(!inline_munmap(range.start, LENGTH / 2));		/* nobody's any more */
	MUST(status().late == late);
	MUST(!inline_munmap(other.start + PAGE, PAGE));		/* the other's still */
	MUST(status().late == late + 1);
	wait_for(&other, 1);
	MUST(!range.told);
	no_watch(&other);
	MUST(!inline_munmap(other.start + 2 * PAGE, PAGE));
	MUST(status().late == late + 1);
}

/* Intervals that share a page, and begin and end inside of one. */
static void case_pages(void)
{
	static struct range a, b;
	char *at;

	enable();
	at = map(LENGTH);
	insert(&a, at + 100, PAGE);
	insert(&b, at + PAGE + 2000, 100);
	no_watch(&a);
	MUST(!inline_munmap(at, PAGE) && !status().late);
	MUST(!inline_munmap(at + PAGE, PAGE) && status().late == 1);
	wait_for(&b, 1);
}

/* Inserted before there is anything, and before the net is spread. */
static void case_early(void)
{
	static struct range range, hole;
	char *at;

	watch(&range);
	at = nowhere();
	insert(&hole, at, LENGTH);
	enable();
	MUST(!inline_munmap(range.start, LENGTH));
	wait_for(&range, 1);
	MUST(mmap(at, LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
	MUST(!inline_munmap(at, LENGTH));
	wait_for(&hole, 1);
	MUST(in_force());
}

/* Memory that comes to lie in what is watched, without anything being replaced. */
static void case_filled(void)
{
	static struct range range;
	char *at;

	enable();
	at = nowhere();
	insert(&range, at, LENGTH);
	MUST(mmap(at, LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == at);
	MUST(!inline_munmap(at, LENGTH));
	wait_for(&range, 1);
	MUST(mmap(at, LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == at);
	MUST(!inline_munmap(at, LENGTH));
	wait_for(&range, 2);
}

/* Everything. Some of it the kernel allows no userfaultfd on. */
static void case_everything(void)
{
	static struct range range;
	char *at = map(LENGTH);

	MUST(!mmu_notifier_live_enable_with(MMU_NOTIFIER_LIVE_NET));
	if (!in_force())
		skip(status().reason);
	insert(&range, NULL, ~0UL);
	MUST(!in_force() && strstr(status().reason, "not on all"));
	MUST(!inline_munmap(at, LENGTH));
	wait_for(&range, 1);
	MUST(!mmu_notifier_live_disable());
	MUST(!inline_munmap(map(LENGTH), LENGTH));
}

/* More than may be: the process keeps room for mappings of its own. */
static void case_many(void)
{
	enum { MANY = 40000 };
	static struct range ranges[MANY];
	char *all = map(2UL * MANY * PAGE);
	static void *mapped[2000];

	enable();
	for (int i = 0; i < MANY; i++)
		insert(&ranges[i], all + 2UL * i * PAGE, PAGE);
	MUST(!in_force() && strstr(status().reason, "more intervals"));
	for (int i = 0; i < 2000; i++)		/* each a mapping of its own */
		MUST((mapped[i] = mmap(NULL, PAGE, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED);
	MUST(!inline_munmap(ranges[0].start, PAGE));
	wait_for(&ranges[0], 1);
	for (int i = 0; i < MANY; i++)
		no_watch(&ranges[i]);
	MUST(!mmu_notifier_live_disable());
	enable();
}

/* ---- where it cannot be ---- */

static void filter(int number, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned int)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	MUST(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static void refused(const char *why)
{
	static struct range range;

	MUST(!mmu_notifier_live_enable_with(MMU_NOTIFIER_LIVE_NET));
	MUST(!in_force() && status().enabled && status().mechanisms & MMU_NOTIFIER_LIVE_BY_SITES);
	MUST(strstr(status().reason, why));
	watch(&range);
	MUST(!munmap(range.start, LENGTH) && range.told == 1 && !range.late);
}

static void case_refused(void) { filter(SYS_userfaultfd, EPERM); refused("no net: userfaultfd is refused"); }
static void case_missing(void) { filter(SYS_userfaultfd, ENOSYS); refused("no net: userfaultfd is refused"); }
static void case_no_table(void) { filter(SYS_close_range, ENOSYS); refused("no net: there is no thread for it"); }

static void case_unprivileged(void)
{
	static struct range range;

	MUST(!setresgid(65534, 65534, 65534) && !setresuid(65534, 65534, 65534));
	enable();
	watch(&range);
	MUST(!inline_munmap(range.start, LENGTH));
	wait_for(&range, 1);
}

static void case_not_asked(void)
{
	static struct range range;

	MUST(!mmu_notifier_live_enable());
	MUST(!in_force() && !*status().reason);
	watch(&range);
	MUST(!inline_munmap(range.start, LENGTH));
	usleep(50000);
	MUST(!range.told && !mmu_notifier_live_epoch());
}

/* ---- beside another userfaultfd ---- */

static int other_uffd(char *start, size_t length)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_UNMAP };
	struct uffdio_register all = { { (unsigned long)start, length }, UFFDIO_REGISTER_MODE_WP, 0 };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	MUST(fd >= 0 && !ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &all));
	return fd;
}

static void *unmap_in_thread(void *start)
{
	return (void *)(long)inline_munmap(start, PAGE);
}

/* Has it heard of an unmap, as before we came? */
static void hears(int fd, char *start)
{
	struct uffd_msg message;
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	pthread_t thread;
	void *result;

	MUST(!pthread_create(&thread, NULL, unmap_in_thread, start));
	MUST(poll(&wait, 1, DEADLINE * 1000) == 1);
	MUST(read(fd, &message, sizeof(message)) == sizeof(message) && message.event == UFFD_EVENT_UNMAP);
	MUST(!pthread_join(thread, &result) && !result);
}

static void case_busy(void)
{
	static struct range range;
	char *at = map(LENGTH);
	int fd = other_uffd(at, LENGTH / 2);

	enable();
	insert(&range, at, LENGTH);
	MUST(!in_force() && strstr(status().reason, "another userfaultfd"));
	MUST(!inline_madvise(at + LENGTH / 2, LENGTH / 2, MADV_DONTNEED));	/* the rest is in the net */
	wait_for(&range, 1);
	hears(fd, at);
	no_watch(&range);
	hears(fd, at + PAGE);
	MUST(!mmu_notifier_live_disable());
	hears(fd, at + 2 * PAGE);
	MUST(!close(fd));
	enable();
	MUST(in_force());
}

static void case_kind(void)
{
	static struct range range;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char *at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);

	MUST(at != MAP_FAILED);
	enable();
	insert(&range, at, PAGE);
	MUST(!in_force() && strstr(status().reason, "some kind of memory"));
	ANNOUNCED(range, !munmap(at, PAGE));
}

/* The program closes what it does not know: who unmaps is heard all the same. */
static void case_closed(void)
{
	static struct range range, later;

	enable();
	watch(&range);
	MUST(!close_range(3, ~0U, 0));
	MUST(!inline_madvise(range.start, LENGTH, MADV_DONTNEED));
	wait_for(&range, 1);
	watch(&later);
	MUST(!in_force() && strstr(status().reason, "closed"));
	MUST(!munmap(range.start, LENGTH));
	MUST(!mmu_notifier_live_disable());
	enable();
	MUST(!inline_munmap(later.start, LENGTH));
	wait_for(&later, 1);
}

/* Who has closed the standard files finds them closed, whatever the library opens. */
static void case_standard(void)
{
	static struct range range;

	for (int fd = 0; fd < 2; fd++)
		close(fd);
	enable();
	for (int fd = 0; fd < 2; fd++)
		MUST(fcntl(fd, F_GETFD) < 0);
	watch(&range);
	MUST(!inline_munmap(range.start, LENGTH));
	wait_for(&range, 1);
}

/* Files that the program closes are closed: the library's thread does not keep them. */
static void case_pipe(void)
{
	int fds[2];
	char byte;

	MUST(!pipe(fds));
	enable();
	MUST(!close(fds[1]));
	MUST(read(fds[0], &byte, 1) == 0);
}

/* ---- fork ---- */

/* The child of fork, or of a clone that no handler hears of: it has no net until it enables its own. */
__attribute__((noreturn)) static void child(char *inherited)
{
	static struct range own;

	MUST(!in_force() && !status().enabled);
	MUST(strstr(status().reason, "child of fork"));
	MUST(!inline_munmap(inherited, PAGE));	/* its own copy: nobody hears of it */
	enable();
	watch(&own);
	MUST(!inline_munmap(own.start, LENGTH));
	wait_for(&own, 1);
	MUST(!mmu_notifier_live_disable());
	_exit(0);
}

static void wait_for_child(pid_t child)
{
	int got;

	MUST(child > 0 && waitpid(child, &got, 0) == child && WIFEXITED(got) && !WEXITSTATUS(got));
}

/* The parent's net is not the child's: it stays in force, and is told of nothing that the child does. */
static void check_child_by(pid_t (*new_process)(void))
{
	static struct range range;
	pid_t pid;

	enable();
	watch(&range);
	pid = new_process();
	if (!pid)
		child(range.start);
	wait_for_child(pid);
	MUST(in_force() && !range.late && !status().late);
	MUST(!inline_munmap(range.start, LENGTH));
	wait_for(&range, 1);
}

static pid_t bare_clone(void) { return (pid_t)inline_call(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0); }

static void case_fork(void) { check_child_by(fork); }
static void case_bare_clone(void) { check_child_by(bare_clone); }

static int unmap_in_child(void *data)
{
	struct range *range = data;

	return inline_munmap(range->start, LENGTH);
}

/* Another process that changes our memory. */
static void case_clone_vm(void)
{
	static char stack[64 << 10] __attribute__((aligned(16)));
	static struct range range;
	pid_t child;

	enable();
	watch(&range);
	child = clone(unmap_in_child, stack + sizeof(stack), CLONE_VM | SIGCHLD, &range);
	wait_for_child(child);
	wait_for(&range, 1);
	MUST(!system("true"));
}

/* ---- many ---- */

enum { THREADS = 4, ROUNDS = 3000 };
static _Atomic bool over;

/* Each inline munmap of something watched has raised the epoch when it returns, and is told. */
static void *hammer(void *unused)
{
	struct range *range = calloc(1, sizeof(*range));
	unsigned long epoch;

	(void)unused;
	for (int i = 1; i <= ROUNDS; i++) {
		insert(range, map(LENGTH), LENGTH);
		range->start[0] = 1;
		epoch = mmu_notifier_live_epoch();
		MUST(!inline_munmap(range->start, LENGTH));
		MUST(mmu_notifier_live_epoch() > epoch);
		for (int n = 0; !range->told && n < DEADLINE * 1000; n++)
			usleep(1000);
		MUST(range->told);
		no_watch(range);
		range->told = 0;
	}
	return NULL;
}

static void case_hammer(void)
{
	pthread_t threads[THREADS];

	enable();
	for (int i = 0; i < THREADS; i++)
		MUST(!pthread_create(&threads[i], NULL, hammer, NULL));
	for (int i = 0; i < THREADS; i++)
		MUST(!pthread_join(threads[i], NULL));
	MUST(in_force() && status().late >= THREADS * ROUNDS);
	printf("net: %d changes by inline instructions, all told\n", THREADS * ROUNDS);
}

/* Announced calls in several threads, over the same intervals, beside inserts and removes: none is noticed twice. */
static void *announce(void *shared)
{
	struct range *range = calloc(1, sizeof(*range));

	while (!over) {
		insert(range, shared, LENGTH);
		MUST(!madvise(shared, LENGTH, MADV_DONTNEED));
		MUST(!madvise((char *)shared + PAGE, 2 * PAGE, MADV_DONTNEED));
		no_watch(range);
	}
	MUST(!range->late);
	return NULL;
}

static void case_windows(void)
{
	pthread_t threads[THREADS];
	char *shared = map(LENGTH);
	static struct range last;

	enable();
	for (int i = 0; i < THREADS; i++)
		MUST(!pthread_create(&threads[i], NULL, announce, shared));
	sleep(2);
	over = true;
	for (int i = 0; i < THREADS; i++)
		MUST(!pthread_join(threads[i], NULL));
	MUST(!status().late && in_force());
	insert(&last, shared, LENGTH);
	MUST(!inline_munmap(shared, LENGTH));
	wait_for(&last, 1);
}

/* More than the library can keep while a subscriber sleeps: the callers go on, and everybody is told in the end. */
static void case_flood(void)
{
	enum { FLOOD = 3000 };
	static struct range slow, others[FLOOD];
	static _Atomic bool stall = true;

	enable();
	watch(&slow);
	slow.stall = &stall;
	char *all = map(2UL * FLOOD * PAGE);
	for (int i = 0; i < FLOOD; i++)
		insert(&others[i], all + 2UL * i * PAGE, PAGE);
	MUST(!inline_munmap(slow.start, LENGTH));
	for (int i = 0; i < FLOOD; i++)
		MUST(!inline_munmap(others[i].start, PAGE));
	MUST(status().late == FLOOD + 1);
	stall = false;
	for (int i = 0; i < FLOOD; i++)
		wait_for(&others[i], 1);
}

static _Atomic long unmapped;

static void *unmap_always(void *unused)
{
	static __thread struct range range;

	(void)unused;
	while (!over) {
		insert(&range, map(LENGTH), LENGTH);
		range.start[0] = 1;
		if (unmapped++ % 2)
			MUST(!inline_munmap(range.start, LENGTH));
		else
			MUST(!munmap(range.start, LENGTH));
		no_watch(&range);
	}
	return NULL;
}

/* Whatever comes between, nobody who unmaps is left waiting. */
static void case_rounds(void)
{
	pthread_t threads[THREADS];
	int rounds = 1000;
	int before = (int)syscall(SYS_getpid) ? open("/dev/null", O_RDONLY) : -1;

	MUST(!close(before));
	for (int i = 0; i < THREADS; i++)
		MUST(!pthread_create(&threads[i], NULL, unmap_always, NULL));
	for (int i = 0; i < rounds; i++) {
		enable();
		if (i % 4 == 0)
			sched_yield();
		MUST(!mmu_notifier_live_disable());
		MUST(!in_force());
		if (i % 100 == 0) {
			pid_t child = fork();

			if (!child)
				_exit(0);
			wait_for_child(child);
		}
	}
	over = true;
	for (int i = 0; i < THREADS; i++)
		MUST(!pthread_join(threads[i], NULL));
	int after = open("/dev/null", O_RDONLY);
	MUST(after == before);		/* no descriptor is left open */
	printf("net: %d rounds of enabling and disabling, %ld changes meanwhile\n", rounds, (long)unmapped);
}

/* A callback that is told late may take its time, and call what it likes. */
static bool allocates(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *event, unsigned long seq)
{
	(void)event;
	mmu_interval_set_seq(sub, seq);
	free(malloc(8 << 20));
	container_of(sub, struct range, sub)->late++;
	return true;
}

static void case_callback(void)
{
	static const struct mmu_interval_notifier_ops own = { .invalidate = allocates };
	static struct range range;

	enable();
	range.start = map(LENGTH);
	MUST(!mmu_interval_notifier_insert(&range.sub, current->mm, (unsigned long)range.start, LENGTH, &own));
	MUST(!inline_munmap(range.start, LENGTH));
	wait_for(&range, 1);
}

static const struct { const char *name; void (*run)(void); } cases[] = {
	{ "munmap", case_munmap },
	{ "madvise", case_madvise },
	{ "mmap over it", case_fixed },
	{ "mremap", case_mremap },
	{ "mremap that leaves the mapping", case_dontunmap },
	{ "brk", case_brk },
	{ "announced calls are noticed once", case_announced },
	{ "free is noticed once", case_heap },
	{ "a mapping that grows", case_grow },
	{ "removed, and watched by another", case_remove },
	{ "parts of pages", case_pages },
	{ "inserted before it is spread", case_early },
	{ "memory that comes later", case_filled },
	{ "everything is watched", case_everything },
	{ "more than there is room for", case_many },
	{ "refused", case_refused },
	{ "a kernel without it", case_missing },
	{ "no table of its own", case_no_table },
	{ "without privileges", case_unprivileged },
	{ "not asked for", case_not_asked },
	{ "another userfaultfd", case_busy },
	{ "a kind of memory", case_kind },
	{ "its descriptor is closed", case_closed },
	{ "standard files are closed", case_standard },
	{ "files are not kept open", case_pipe },
	{ "fork", case_fork },
	{ "a bare clone", case_bare_clone },
	{ "another process", case_clone_vm },
	{ "a callback that allocates", case_callback },
	{ "hammered", case_hammer },
	{ "windows that overlap", case_windows },
	{ "a flood", case_flood },
	{ "enabled and disabled", case_rounds },
};

/* 0, or SKIPPED, or what went wrong. */
static int run(size_t index)
{
	int got;
	pid_t child = fork();

	present = cases[index].name;
	if (!child) {
		alarm(4 * DEADLINE);
		cases[index].run();
		fflush(stdout);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &got, 0) != child)
		return printf("FAIL %s: %s\n", present, strerror(errno)), 1;
	if (WIFSIGNALED(got))
		printf("FAIL %s: killed by %s\n", present, strsignal(WTERMSIG(got)));
	return WIFEXITED(got) ? WEXITSTATUS(got) : 1;
}

int main(int argc, char **argv)
{
	int passed = 0, failed = 0, skipped = 0;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int result;

		if (argc > 1 && strcmp(argv[1], cases[i].name))
			continue;
		result = run(i);
		passed += !result;
		skipped += result == SKIPPED;
		failed += result && result != SKIPPED;
		fflush(stdout);
	}
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed || !(passed + skipped);
}
