/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Other patchers of system calls in our process: UCX's memory hooks (libucm, as Debian has it), before us and after us; and
 * foreign jumps whose hooks do not reach us: over a site, before us and after us, and over the beginning of a site's function. What
 * they do is seen, told, and left alone. (What is covered beside UCX, call by call: table.c.)
 *
 * Usage: patchers foreign | foreign-first | bypass | scrambled | ucx-first LIBUCS | ucx-last LIBUCS; each has a process of its own,
 * as UCX's hooks stay.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/mmu_notifier.h>
#include <linux/sched.h>
#include <mmu_notifier/live.h>

#define MIB	(1UL << 20)

static int passed, failed;

static void check(bool ok, const char *what)
{
	if (ok)
		passed++;
	else
		failed++;
	if (!ok)
		printf("FAIL %s\n", what);
}

/* Without it nothing can be checked. */
static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "patchers: %s: %s\n", what, strerror(errno));
		printf("%d passed, %d failed, 0 skipped\n", passed, failed + 1);
		exit(3);
	}
}

/* ---- what UCX declares in ucm/api/ucm.h ---- */

#define UCM_VM_UNMAPPED	(1 << 17)
union ucm_event {
	struct {
		void *address;
		size_t size;
	} vm_unmapped;
	char room[256];
};
typedef void (*ucm_callback)(int type, union ucm_event *event, void *data);

/* ---- what is watched, and how often who was told ---- */

static struct watch {
	struct mmu_interval_notifier interval;
	unsigned long start, end;
	int ucx, ours;
} watch;

static void ucx_event(int type, union ucm_event *event, void *data)
{
	unsigned long start = (unsigned long)event->vm_unmapped.address;

	(void)type;
	(void)data;
	watch.ucx += start < watch.end && start + event->vm_unmapped.size > watch.start;
}

static bool our_event(struct mmu_interval_notifier *interval, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	mmu_interval_set_seq(interval, seq);
	watch.ours++;
	return true;
}

static void *watched(void *start, size_t size)
{
	static const struct mmu_interval_notifier_ops ops = { .invalidate = our_event };

	watch.start = (unsigned long)start & PAGE_MASK;
	watch.end = watch.start + size;
	watch.ucx = watch.ours = 0;
	must(!mmu_interval_notifier_insert(&watch.interval, current->mm, watch.start, size, &ops), "insert");
	return start;
}

static void watch_end(void)
{
	watch.end = 0;
	mmu_interval_notifier_remove(&watch.interval);
}

/* ---- ways to lose memory ---- */

static void *map(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(at != MAP_FAILED, "mmap");
	return at;
}

static void lose_munmap(void)
{
	munmap(watched(map(MIB), MIB), MIB);
}

static void lose_dontneed(void)
{
	madvise(watched(map(MIB), MIB), MIB, MADV_DONTNEED);
}

static void lose_shrink(void)
{
	char *at = map(2 * MIB);

	watched(at + MIB, MIB);
	must(mremap(at, 2 * MIB, MIB, 0) == at, "mremap");
}

static void lose_free(void)
{
	char *volatile at = malloc(8 * MIB);

	free(watched(at, 8 * MIB));
}

static void lose_syscall(void)
{
	syscall(SYS_munmap, watched(map(MIB), MIB), MIB);
}

static void lose_sbrk(void)
{
	char *old = sbrk(0), *start = (char *)(((unsigned long)old + MIB) & PAGE_MASK);

	must(!brk(start + 2 * MIB), "brk");
	watched(start + MIB, MIB);
	must(sbrk(-MIB) == start + 2 * MIB, "sbrk");
}

static struct mmu_notifier_live_status status(void)
{
	struct mmu_notifier_live_status status = { .size = sizeof(status) };

	must(!mmu_notifier_live_status(&status), "mmu_notifier_live_status");
	return status;
}

static void ucx_on(const char *libucs)
{
	/* libucm cannot do without libucs, and does not say so. */
	void *handle = dlopen(libucs, RTLD_NOW | RTLD_GLOBAL);
	int (*set_event_handler)(int events, int priority, ucm_callback callback, void *data) =
		handle ? (typeof(set_event_handler))dlsym(handle, "ucm_set_event_handler") : NULL;

	must(set_event_handler, handle ? "ucm_set_event_handler" : dlerror());
	must(!set_event_handler(UCM_VM_UNMAPPED, 0, ucx_event, NULL), "UCX has no hooks here");
}

static void ours_on(void)
{
	int err = mmu_notifier_live_enable();

	if (err) {
		errno = -err;
		must(false, status().reason);
	}
}

/* ---- UCX ---- */

/* Each sees the calls that both cover, once. */
static void both_are_told(void)
{
	unsigned long missed = status().missed;
	static void (*const ways[])(void) = { lose_munmap, lose_dontneed, lose_shrink, lose_free, lose_sbrk };
	static const char *const names[] = { "munmap", "madvise", "mremap", "free", "sbrk" };
	char what[80];

	for (int i = 0; i < 5; i++) {
		ways[i]();
		snprintf(what, sizeof(what), "%s: UCX was told %d times, we %d times", names[i], watch.ucx, watch.ours);
		check(watch.ucx == 1 && watch.ours == 1, what);
		watch_end();
	}
	check(status().missed == missed, "something was missed");
}

static void ucx_first(const char *libucs)
{
	ucx_on(libucs);
	ours_on();
	check(status().foreign_sites > 0, "the status does not tell of UCX's sites");
	check(status().lost_sites == 0, "sites that were never ours count as lost");
	check(status().blind_objects == 0, "UCX's own system calls are not covered");
	both_are_told();
}

static void ucx_last(const char *libucs)
{
	unsigned long epoch;
	unsigned int sites;

	ours_on();
	check(status().foreign_sites == 0, "sites are foreign before anybody has come");
	check(status().blind_objects == 0, "an object is blind before anybody has come");
	epoch = mmu_notifier_live_epoch();
	sites = status().sites;
	ucx_on(libucs);
	check(status().lost_sites > 0, "the status does not tell of the sites that UCX took");
	check(mmu_notifier_live_epoch() > epoch, "the epoch did not rise with the sites that UCX took");
	check(status().sites + status().lost_sites > sites, "UCX's own system calls were not taken");
	check(status().blind_objects == 0, "UCX's own system calls are not covered");
	both_are_told();
	check(!mmu_notifier_live_disable() && status().sites == 0, "mmu_notifier_live_disable");
	ours_on();
	check(status().foreign_sites > 0 && status().lost_sites == 0, "what is UCX's now counts as lost");
	both_are_told();
}

/* ---- a patcher that comes later, and whose hook does not reach us ---- */

/* The instruction before the system call of a function of libc: mov $NUMBER, %eax; or, once enabled, a jump. */
static unsigned char *site_of(void *function, int number, bool ours)
{
	unsigned char *at = function, plain[7] = { 0xb8, number, 0, 0, 0, 0x0f, 0x05 };

	for (int i = 0; i < 128; i++)
		if (ours ? at[i] == 0xe9 && at[i + 5] == 0x0f && at[i + 6] == 0x05 : !memcmp(at + i, plain, sizeof(plain)))
			return at + i;
	must(false, "a site");
	return NULL;
}

static void write_code(unsigned char *at, const unsigned char *code, size_t size)
{
	unsigned long page = (unsigned long)at & PAGE_MASK;

	must(!mprotect((void *)page, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC), "mprotect");
	memcpy(at, code, size);
	must(!mprotect((void *)page, 2 * PAGE_SIZE, PROT_READ | PROT_EXEC), "mprotect");
}

static void put_jump(unsigned char *code, const unsigned char *at, const unsigned char *to)
{
	int distance = to - (at + 5);

	code[0] = 0xe9;
	memcpy(code + 1, &distance, sizeof(distance));
}

/* The foreign hook: what the site does without us, then on behind it. In reach of libc. */
static unsigned char *foreign_hook(unsigned char *site, int number)
{
	unsigned char code[10] = { 0xb8, number };

	for (unsigned long hint = ((unsigned long)site & PAGE_MASK) - 64 * MIB; ; hint += PAGE_SIZE) {
		unsigned char *page = mmap((void *)hint, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
					   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		if (page != (void *)hint)
			continue;
		put_jump(code + 5, page + 5, site + 5);
		memcpy(page, code, sizeof(code));
		return page;
	}
}

static void foreign_jump(unsigned char *site, int number)
{
	unsigned char theirs[5];

	put_jump(theirs, site, foreign_hook(site, number));
	write_code(site, theirs, sizeof(theirs));
}

/* Foreign code in place of ours: the status tells it, the epoch rises, and nobody puts our code over theirs. */
static void foreign(void)
{
	unsigned char *site, theirs[5];
	unsigned long epoch;

	ours_on();
	site = site_of(munmap, SYS_munmap, true);
	check(status().lost_sites == 0, "sites are lost before anybody has come");
	epoch = mmu_notifier_live_epoch();
	foreign_jump(site, SYS_munmap);
	memcpy(theirs, site, sizeof(theirs));

	check(status().lost_sites == 1, "the status does not tell of a lost site");
	check(mmu_notifier_live_epoch() > epoch, "the epoch did not rise with a lost site");
	epoch = mmu_notifier_live_epoch();
	check(status().lost_sites == 1 && mmu_notifier_live_epoch() == epoch, "a lost site raises the epoch twice");
	lose_munmap();
	check(watch.ours == 0, "the foreign hook reaches us, so this shows nothing");
	watch_end();
	lose_syscall();
	check(watch.ours == 1, "syscall() is not ours any more");
	watch_end();

	check(!mmu_notifier_live_disable(), "mmu_notifier_live_disable");
	check(!memcmp(site, theirs, sizeof(theirs)), "disable wrote over the foreign code");
	/* Everything else is covered. */
	ours_on();
	check(status().foreign_sites == 1 && status().lost_sites == 0, "a site that is foreign from the beginning counts as lost");
	check(!memcmp(site, theirs, sizeof(theirs)), "enable wrote over the foreign code");
	lose_syscall();
	check(watch.ours == 1, "syscall() is not ours again");
	watch_end();
	check(!mmu_notifier_live_disable(), "mmu_notifier_live_disable, again");
	check(!memcmp(site, theirs, sizeof(theirs)), "disable wrote over the foreign code, the second time");
}

/* The same before live events are enabled for the first time: over a function's first instruction, and inside of one. */
static void foreign_first(void)
{
	foreign_jump(site_of(munmap, SYS_munmap, false), SYS_munmap);
	foreign_jump(site_of(mremap, SYS_mremap, false), SYS_mremap);
	ours_on();
	check(status().foreign_sites == 2 && status().lost_sites == 0, "two sites are foreign");
	check(!*status().reason, "a reason, although all is well");
	lose_munmap();
	check(watch.ours == 0, "the foreign hook reaches us, so this shows nothing");
	watch_end();
	lose_dontneed();
	check(watch.ours == 1, "madvise() is not ours");
	watch_end();
	check(!mmu_notifier_live_disable(), "mmu_notifier_live_disable");
}

/* Foreign code at the beginning of a function whose site stays as it is, but has nobody come by any more. */
static void bypass(void)
{
	/* mov $SYS_mremap, %eax; mov %rcx, %r10; syscall; ret */
	unsigned char code[] = { 0xb8, SYS_mremap, 0, 0, 0, 0x49, 0x89, 0xca, 0x0f, 0x05, 0xc3 };
	unsigned char *entry = (unsigned char *)mremap, *hook;
	unsigned long epoch;
	unsigned int sites;

	ours_on();
	must(site_of(mremap, SYS_mremap, true) >= entry + 5, "mremap's site is behind its first instructions");
	hook = foreign_hook(entry, SYS_mremap);
	memcpy(hook, code, sizeof(code));
	epoch = mmu_notifier_live_epoch();
	sites = status().sites;
	put_jump(code, entry, hook);
	write_code(entry, code, 5);
	lose_shrink();
	check(watch.ours == 0, "the foreign hook reaches us, so this shows nothing");
	watch_end();

	/* The insert was enough to notice. */
	check(mmu_notifier_live_epoch() > epoch, "the epoch did not rise with a function whose site is passed by");
	check(status().sites == sites && status().lost_sites == 1, "a site that is passed by is not lost");
	epoch = mmu_notifier_live_epoch();
	check(status().lost_sites == 1 && mmu_notifier_live_epoch() == epoch, "it raises the epoch twice");
	check(!mmu_notifier_live_disable(), "mmu_notifier_live_disable");
	ours_on();
	check(status().foreign_sites == 1 && status().lost_sites == 0, "it counts as lost the second time");
}

/* A site without a jump and without its instruction: nothing says where its calls go. The reason says so. */
static void scrambled(void)
{
	static const unsigned char theirs[5] = { 0x6a, SYS_munmap, 0x58, 0x66, 0x90 };	/* push, pop %rax, nop: the same */
	unsigned char *site = site_of(munmap, SYS_munmap, false);

	write_code(site, theirs, sizeof(theirs));
	check(mmu_notifier_live_enable() == -ENOTSUP, "a process that is not covered is live");
	check(strstr(status().reason, "somebody") != NULL, status().reason);
	check(!memcmp(site, theirs, sizeof(theirs)), "enable wrote over the foreign code");
	check(status().sites == 0 && !status().enabled, "half of it is enabled");
	lose_munmap();
	check(watch.ours == 0, "something was told");
	watch_end();
}

int main(int argc, char **argv)
{
	const char *who = argc > 1 ? argv[1] : "";

	mallopt(M_MMAP_THRESHOLD, MIB);
	if (!strcmp(who, "foreign"))
		foreign();
	else if (!strcmp(who, "foreign-first"))
		foreign_first();
	else if (!strcmp(who, "bypass"))
		bypass();
	else if (!strcmp(who, "scrambled"))
		scrambled();
	else if (argc == 3 && !strcmp(who, "ucx-first"))
		ucx_first(argv[2]);
	else if (argc == 3 && !strcmp(who, "ucx-last"))
		ucx_last(argv[2]);
	else
		must(false, "arguments");
	printf("%d passed, %d failed, 0 skipped\n", passed, failed);
	return failed > 0;
}
