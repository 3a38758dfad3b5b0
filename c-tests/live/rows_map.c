// SPDX-License-Identifier: MIT OR Apache-2.0
/* munmap, mremap, mmap, madvise, mprotect: through libc's functions, through syscall(), and by an instruction. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rows.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static char *other;	/* a second place of LENGTH bytes */

static void prepare_two(struct watch *watch)
{
	watch_anonymous(watch);
	other = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(other != MAP_FAILED);
}

static void prepare_middle(struct watch *watch)
{
	watch_anonymous(watch);
	watch_part(watch, watch->start + 5 * PAGE, PAGE);
}

static void prepare_tail(struct watch *watch)
{
	watch_anonymous(watch);
	watch_part(watch, watch->start + LENGTH / 2, LENGTH / 2);
}

/* Something is right behind it, so that it cannot grow in place. */
static void prepare_hemmed(struct watch *watch)
{
	char *place = mmap(NULL, 2 * LENGTH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(place != MAP_FAILED && !mprotect(place, LENGTH, PROT_READ | PROT_WRITE));
	watch_all(watch, place, LENGTH);
}

/* The watched range is where something will be moved to. */
static void prepare_destination(struct watch *watch)
{
	prepare_two(watch);
}

static void change_munmap(struct watch *watch)
{
	MUST(!munmap(watch->changed, watch->changed_length));
}

static void change_munmap_syscall(struct watch *watch)
{
	MUST(!syscall(SYS_munmap, watch->changed, watch->changed_length));
}

static void change_munmap_inline(struct watch *watch)
{
	MUST(!inline_call(SYS_munmap, (long)watch->changed, watch->changed_length, 0, 0, 0, 0));
}

static void change_move(struct watch *watch)
{
	MUST(mremap(watch->start, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, other) == other);
	MUST(*(unsigned long *)(other + PAGE) == SENTINEL);
}

static void change_move_syscall(struct watch *watch)
{
	MUST(syscall(SYS_mremap, watch->start, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, other) == (long)other);
}

static void change_move_over(struct watch *watch)
{
	MUST(mremap(other, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, watch->start) == watch->start);
}

static void change_dontunmap(struct watch *watch)
{
	void *to = mremap(watch->start, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);

	if (to == MAP_FAILED && errno == EINVAL)
		cannot("MREMAP_DONTUNMAP: Linux 5.7 or newer");
	MUST(to != MAP_FAILED);
}

static void change_shrink(struct watch *watch)
{
	MUST(mremap(watch->start, LENGTH, LENGTH / 2, 0) == watch->start);
}

static void change_grow_away(struct watch *watch)
{
	void *to = mremap(watch->start, LENGTH, 4 * LENGTH, MREMAP_MAYMOVE);

	MUST(to != MAP_FAILED && to != watch->start);
}

static void change_fixed(struct watch *watch)
{
	MUST(mmap(watch->start, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	     watch->start);
}

static void change_fixed_syscall(struct watch *watch)
{
	MUST(syscall(SYS_mmap, watch->start, LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	     (long)watch->start);
}

static void change_dontneed(struct watch *watch)
{
	MUST(!madvise(watch->start, LENGTH, MADV_DONTNEED));
}

static void change_dontneed_syscall(struct watch *watch)
{
	MUST(!syscall(SYS_madvise, watch->start, LENGTH, MADV_DONTNEED));
}

static void change_free(struct watch *watch)
{
	MUST(!madvise(watch->start, LENGTH, MADV_FREE));
}

static void change_dontneed_locked(struct watch *watch)
{
	if (madvise(watch->start, LENGTH, MADV_DONTNEED_LOCKED))
		cannot("MADV_DONTNEED_LOCKED: Linux 5.18 or newer");
}

static void change_guard(struct watch *watch)
{
	if (madvise(watch->start, LENGTH, MADV_GUARD_INSTALL))
		cannot("MADV_GUARD_INSTALL: Linux 6.13 or newer");
}

static void change_process_madvise(struct watch *watch)
{
	struct { void *start; size_t length; } vector = { watch->start, LENGTH };
	int self = syscall(SYS_pidfd_open, getpid(), 0);

	if (self < 0 || syscall(SYS_process_madvise, self, &vector, 1, MADV_DONTNEED, 0) != (long)LENGTH)
		cannot("process_madvise(MADV_DONTNEED) on oneself: Linux 6.13 or newer");
}

static void change_mprotect_none(struct watch *watch)
{
	MUST(!mprotect(watch->start, LENGTH, PROT_NONE));
}

static void change_mprotect_read(struct watch *watch)
{
	MUST(!mprotect(watch->start, LENGTH, PROT_READ));
}

static void change_pkey_mprotect(struct watch *watch)
{
	MUST(!pkey_mprotect(watch->start, LENGTH, PROT_READ, -1));
}

static void change_mprotect_syscall(struct watch *watch)
{
	MUST(!syscall(SYS_mprotect, watch->start, LENGTH, PROT_READ));
}

static void change_mprotect_inline(struct watch *watch)
{
	MUST(!inline_call(SYS_mprotect, (long)watch->start, LENGTH, PROT_READ, 0, 0, 0));
}

const struct row rows_map[] = {
	{ "munmap()", watch_anonymous, change_munmap, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "munmap() of one page in the middle", prepare_middle, change_munmap, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "mremap(FIXED): the source", prepare_two, change_move, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "mremap(FIXED): the destination", prepare_destination, change_move_over, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "mremap(DONTUNMAP): pages leave", watch_anonymous, change_dontunmap, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "mremap() that shrinks: the tail", prepare_tail, change_shrink, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "mremap(MAYMOVE) that grows, and moves", prepare_hemmed, change_grow_away, CONTENTS, BAW, EVENT_UNMAP, EXACT },
	{ "mmap(MAP_FIXED) over it", watch_anonymous, change_fixed, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "madvise(DONTNEED)", watch_anonymous, change_dontneed, CONTENTS, BAW, EVENT_CLEAR, ANCHOR | EXACT },
	{ "madvise(FREE)", watch_anonymous, change_free, LAZY, BAW, EVENT_CLEAR, ANCHOR | EXACT },
	{ "madvise(DONTNEED_LOCKED)", watch_anonymous, change_dontneed_locked, CONTENTS, BAW, EVENT_CLEAR, ANCHOR | EXACT },
	{ "madvise(GUARD_INSTALL)", watch_anonymous, change_guard, CONTENTS, BAW, EVENT_CLEAR, ANCHOR | EXACT },
	{ "process_madvise(DONTNEED) on oneself", watch_anonymous, change_process_madvise, CONTENTS, BAW, EVENT_CLEAR, ANCHOR | EXACT },
	{ "mprotect(PROT_NONE)", watch_anonymous, change_mprotect_none, CONTENTS, BAW, EVENT_PROTECTION_VMA, ANCHOR | EXACT },
	{ "mprotect(PROT_READ)", watch_anonymous, change_mprotect_read, WRITABLE, BAW, EVENT_PROTECTION_VMA, ANCHOR | EXACT },
	{ "pkey_mprotect(PROT_READ)", watch_anonymous, change_pkey_mprotect, WRITABLE, BAW, EVENT_PROTECTION_VMA, EXACT },
	{ "syscall(SYS_munmap)", watch_anonymous, change_munmap_syscall, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "syscall(SYS_madvise, DONTNEED)", watch_anonymous, change_dontneed_syscall, CONTENTS, BAW, EVENT_CLEAR, ANCHOR | EXACT },
	{ "syscall(SYS_mremap, FIXED)", prepare_two, change_move_syscall, CONTENTS, BAW, EVENT_UNMAP, EXACT },
	{ "syscall(SYS_mmap, MAP_FIXED)", watch_anonymous, change_fixed_syscall, CONTENTS, BAW, EVENT_UNMAP, EXACT },
	{ "syscall(SYS_mprotect)", watch_anonymous, change_mprotect_syscall, WRITABLE, BAW, EVENT_PROTECTION_VMA, EXACT },
	{ "munmap by an inline instruction", watch_anonymous, change_munmap_inline, CONTENTS, NET, EVENT_ANY, ANCHOR },
	{ "mprotect by an inline instruction", watch_anonymous, change_mprotect_inline, WRITABLE, UNSEEN, EVENT_ANY, 0 },
	{ 0 },
};
