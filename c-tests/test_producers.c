/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The library's own makers of events (4.4, DV-2, DV-16): what they announce, and what is mapped at start and at end. */
#include "test.h"

#define PAGE 4096UL
enum { PAGES = 8 };

static char *area;			/* PAGES pages, all bytes 0x5a */
static struct listener L;
static struct watch w;
static int pipe_fds[2];

/* Can the kernel read, or write, the byte for us? Tells without a fault. */
static bool readable(const char *at)
{
	char byte;

	if (write(pipe_fds[1], at, 1) != 1)
		return false;
	ASSERT_EQ(read(pipe_fds[0], &byte, 1), 1);
	return true;
}

static bool writable(char *at)
{
	char byte = *(volatile char *)at;

	ASSERT_EQ(write(pipe_fds[1], &byte, 1), 1);
	if (read(pipe_fds[0], at, 1) == 1)
		return true;
	ASSERT_EQ(read(pipe_fds[0], &byte, 1), 1);
	return false;
}

/* Logs the pages of the range, and what is at its first byte: "+2..+3 rw 5a". */
static void describe(struct listener *self, const char *op)
{
	char *at = (char *)self->seen.start;
	long first = (at - area) / (long)PAGE, last = ((char *)self->seen.end - area) / (long)PAGE;

	(void)op;
	ASSERT_EQ(self->seen.flags, MMU_NOTIFIER_RANGE_BLOCKABLE);
	ASSERT_EQ(self->seen.start % PAGE, 0);
	ASSERT_EQ(self->seen.end % PAGE, 0);
	mmap_assert_locked(current->mm);
	if (!readable(at))
		note("+%ld..+%ld --", first, last);
	else
		note("+%ld..+%ld r%c %02x", first, last, writable(at) ? 'w' : '-', (unsigned char)*at);
}

static void set_up(void)
{
	ASSERT_EQ(pipe(pipe_fds), 0);
	area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(area != MAP_FAILED);
	memset(area, 0x5a, PAGES * PAGE);
	L = listener("L", &ops_all);
	L.in = describe;
	REGISTER(&L, current->mm);
}

#define AT(page) ((unsigned long)area + (page) * PAGE)

/* One event, and no other, in these words. */
#define EXPECT_EVENT(kind, at_start, at_end) do {			\
	EXPECT_LOG("L.start", at_start, "L.end", at_end);		\
	ASSERT_EQ(L.seen.event, kind);					\
} while (0)

TEST(S4_4_vm_munmap)
{
	set_up();
	ASSERT_EQ(vm_munmap(AT(2), 2 * PAGE), 0);
	EXPECT_EVENT(MMU_NOTIFY_UNMAP, "+2..+4 rw 5a", "+2..+4 --");
	ASSERT(readable(area + 2 * PAGE - 1));
	ASSERT(readable(area + 4 * PAGE));
}

TEST(S4_4_vm_munmap_rounds_the_length_up)
{
	set_up();
	ASSERT_EQ(vm_munmap(AT(1), 100), 0);
	EXPECT_EVENT(MMU_NOTIFY_UNMAP, "+1..+2 rw 5a", "+1..+2 --");
}

static void note_invalidate(struct watch *self, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)self;
	(void)seq;
	ASSERT_EQ(range->event, MMU_NOTIFY_UNMAP);
	ASSERT_EQ(range->mm, current->mm);
	ASSERT(readable((char *)range->start));
}

TEST(S4_4_intervals_hear_of_what_touches_them)
{
	set_up();
	w = watch("w");
	w.in = note_invalidate;
	INSERT(&w, current->mm, AT(3) + 0x800, 0x10);
	ASSERT_EQ(vm_munmap(AT(2), PAGE), 0);
	EXPECT_EVENT(MMU_NOTIFY_UNMAP, "+2..+3 rw 5a", "+2..+3 --");
	ASSERT_EQ(vm_munmap(AT(3), PAGE), 0);
	EXPECT_LOG("w.inv 3", "L.start", "+3..+4 rw 5a", "L.end", "+3..+4 --");
	ASSERT_EQ(READ_BEGIN(&w), 3);
}

TEST(S4_4_mapping_elsewhere_makes_no_event)
{
	unsigned long at;
	char *page;

	set_up();
	at = vm_mmap(NULL, 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	ASSERT(!IS_ERR_VALUE(at));
	page = (char *)at;
	ASSERT_EQ(*page, 0);
	ASSERT(writable(page));
	at = mmu_notifier_mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(!IS_ERR_VALUE(at));
	ASSERT(readable((char *)at));
	ASSERT(!writable((char *)at));
	/* An address without MAP_FIXED is a wish. */
	at = mmu_notifier_mmap(AT(0), PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(!IS_ERR_VALUE(at));
	ASSERT_NE(at, AT(0));
	EXPECT_LOG();
}

TEST(DV_16_vm_mmap_takes_no_file)
{
	set_up();
	ASSERT(IS_ERR_VALUE(vm_mmap((struct file *)area, 0, PAGE, PROT_READ, MAP_PRIVATE, 0)));
	EXPECT_LOG();
}

TEST(DV_16_mmap_over_a_mapping)
{
	set_up();
	ASSERT_EQ(mmu_notifier_mmap(AT(1), 2 * PAGE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), AT(1));
	EXPECT_EVENT(MMU_NOTIFY_UNMAP, "+1..+3 rw 5a", "+1..+3 rw 00");
}

TEST(DV_16_mmap_of_a_file)
{
	int fd = memfd_create("test", 0);

	set_up();
	ASSERT_EQ(ftruncate(fd, 2 * PAGE), 0);
	ASSERT_EQ(pwrite(fd, "w", 1, PAGE), 1);
	ASSERT_EQ(mmu_notifier_mmap(AT(1), PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, PAGE), AT(1));
	EXPECT_EVENT(MMU_NOTIFY_UNMAP, "+1..+2 rw 5a", "+1..+2 r- 77");
}

TEST(S4_4_mremap_moves)
{
	unsigned long to;

	set_up();
	/* The pages behind are taken, so it cannot grow where it is. */
	to = mmu_notifier_mremap(AT(1), 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE, 0);
	ASSERT(!IS_ERR_VALUE(to));
	ASSERT_NE(to, AT(1));
	EXPECT_EVENT(MMU_NOTIFY_UNMAP, "+1..+3 rw 5a", "+1..+3 --");
	ASSERT_EQ(*(char *)to, 0x5a);
	ASSERT_EQ(*(char *)(to + 2 * PAGE), 0);
}

TEST(S4_4_mremap_shrinks)
{
	set_up();
	ASSERT_EQ(mmu_notifier_mremap(AT(1), 4 * PAGE, 2 * PAGE, 0, 0), AT(1));
	EXPECT_EVENT(MMU_NOTIFY_UNMAP, "+3..+5 rw 5a", "+3..+5 --");
	ASSERT(readable(area + 3 * PAGE - 1));
	ASSERT(readable(area + 5 * PAGE));
}

TEST(S4_4_mremap_grows_in_place)
{
	set_up();
	ASSERT_EQ(munmap(area + 3 * PAGE, 2 * PAGE), 0);
	ASSERT_EQ(mmu_notifier_mremap(AT(0), 3 * PAGE, 4 * PAGE, 0, 0), AT(0));
	ASSERT_EQ(area[3 * PAGE], 0);
	EXPECT_LOG();
}

TEST(S4_4_mremap_grows_in_place_although_it_may_move)
{
	set_up();
	ASSERT_EQ(munmap(area + 3 * PAGE, 2 * PAGE), 0);
	ASSERT_EQ(mmu_notifier_mremap(AT(0), 3 * PAGE, 4 * PAGE, MREMAP_MAYMOVE, 0), AT(0));
	ASSERT_EQ(area[3 * PAGE], 0);
	EXPECT_LOG();
}

TEST(S4_4_mremap_same_size)
{
	set_up();
	ASSERT_EQ(mmu_notifier_mremap(AT(0), 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE, 0), AT(0));
	EXPECT_LOG();
}

TEST(S4_4_mremap_fixed_replaces_the_destination)
{
	set_up();
	memset(area + 5 * PAGE, 0x77, PAGE);
	ASSERT_EQ(mmu_notifier_mremap(AT(1), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(5)), AT(5));
	ASSERT_EQ(area[5 * PAGE], 0x5a);
	ASSERT(!readable(area + PAGE));
	/* Two ranges; whether they end one by one is nobody's business. */
	ASSERT_EQ(LOAD(test_log_end), 8);
	ASSERT(logged("+1..+2 rw 5a"));
	ASSERT(logged("+1..+2 --"));
	ASSERT(logged("+5..+6 rw 77"));
	ASSERT(logged("+5..+6 rw 5a") || logged("+5..+6 --"));
}

TEST(S4_4_mprotect)
{
	set_up();
	ASSERT_EQ(mmu_notifier_mprotect(AT(1), 2 * PAGE, PROT_READ), 0);
	EXPECT_EVENT(MMU_NOTIFY_PROTECTION_VMA, "+1..+3 rw 5a", "+1..+3 r- 5a");
	ASSERT_EQ(mmu_notifier_mprotect(AT(1), PAGE, PROT_NONE), 0);
	EXPECT_EVENT(MMU_NOTIFY_PROTECTION_VMA, "+1..+2 r- 5a", "+1..+2 --");
}

TEST(S4_4_madvise_dontneed)
{
	set_up();
	ASSERT_EQ(mmu_notifier_madvise(AT(1), 2 * PAGE - 1, MADV_DONTNEED), 0);
	EXPECT_EVENT(MMU_NOTIFY_CLEAR, "+1..+3 rw 5a", "+1..+3 rw 00");
}

TEST(S4_4_madvise_free)
{
	set_up();
	ASSERT_EQ(mmu_notifier_madvise(AT(1), PAGE, MADV_FREE), 0);
	ASSERT_EQ(LOAD(test_log_end), 4);
	ASSERT_STR(test_log[1], "+1..+2 rw 5a");
	ASSERT_EQ(L.seen.event, MMU_NOTIFY_CLEAR);
	ASSERT_EQ(L.seen.start, AT(1));
	ASSERT_EQ(L.seen.end, AT(2));
}

TEST(S4_4_advice_that_clears_nothing)
{
	set_up();
	ASSERT_EQ(mmu_notifier_madvise(AT(1), PAGE, MADV_WILLNEED), 0);
	ASSERT_EQ(mmu_notifier_madvise(AT(1), PAGE, MADV_NORMAL), 0);
	ASSERT_EQ(mmu_notifier_madvise(AT(1), 0, MADV_DONTNEED), 0);
	EXPECT_LOG();
	ASSERT_EQ(area[PAGE], 0x5a);
}

TEST(S4_4_unaligned_addresses)
{
	const int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

	set_up();
	ASSERT_EQ(vm_munmap(AT(1) + 1, PAGE), -EINVAL);
	ASSERT_EQ(vm_munmap(AT(1), 0), -EINVAL);
	ASSERT_EQ(mmu_notifier_mmap(AT(1) + 1, PAGE, PROT_READ, fixed, -1, 0), -EINVAL);
	ASSERT_EQ(mmu_notifier_mmap(AT(1), 0, PROT_READ, fixed, -1, 0), -EINVAL);
	ASSERT_EQ(mmu_notifier_mremap(AT(1) + 1, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0), -EINVAL);
	ASSERT_EQ(mmu_notifier_mremap(AT(1), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(5) + 1), -EINVAL);
	ASSERT_EQ(mmu_notifier_mprotect(AT(1) + 1, PAGE, PROT_READ), -EINVAL);
	ASSERT_EQ(mmu_notifier_madvise(AT(1) + 1, PAGE, MADV_DONTNEED), -EINVAL);
	ASSERT_EQ(mmu_notifier_madvise(AT(1), PAGE, 12345), -EINVAL);
	EXPECT_LOG();
	ASSERT_EQ(area[PAGE], 0x5a);
	ASSERT(writable(area + PAGE));
}

TEST(S4_4_mremap_arguments_that_make_no_sense)
{
	set_up();
	ASSERT_EQ(mmu_notifier_mremap(AT(1), PAGE, PAGE, MREMAP_FIXED, AT(5)), -EINVAL);	/* not without MAYMOVE */
	ASSERT_EQ(mmu_notifier_mremap(AT(1), PAGE, PAGE, 0x100, 0), -EINVAL);
	ASSERT_EQ(mmu_notifier_mremap(AT(1), PAGE, 0, MREMAP_MAYMOVE, 0), -EINVAL);
	EXPECT_LOG();
	ASSERT_EQ(area[PAGE], 0x5a);
}

TEST(S4_4_growth_that_is_impossible)
{
	set_up();
	ASSERT_EQ(mmu_notifier_mremap(AT(1), PAGE, 2 * PAGE, 0, 0), -ENOMEM);
	ASSERT_EQ(area[PAGE], 0x5a);
	EXPECT_LOG();
}

TEST(S4_4_without_subscribers)
{
	unsigned long at = vm_mmap(NULL, 0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);

	ASSERT(!IS_ERR_VALUE(at));
	ASSERT_EQ(mmu_notifier_madvise(at, PAGE, MADV_DONTNEED), 0);
	ASSERT_EQ(mmu_notifier_mprotect(at, PAGE, PROT_READ), 0);
	ASSERT_EQ(mmu_notifier_mremap(at, 2 * PAGE, PAGE, 0, 0), at);
	ASSERT_EQ(vm_munmap(at, PAGE), 0);
	ASSERT(!mm_has_notifiers(current->mm));
}

TEST(S4_4_errors_leave_the_locks_free)
{
	set_up();
	ASSERT_EQ(vm_munmap(AT(1) + 1, PAGE), -EINVAL);
	ASSERT_EQ(mmu_notifier_madvise(AT(1) + 1, PAGE, MADV_DONTNEED), -EINVAL);
	ASSERT_EQ(mmu_notifier_mremap(AT(1), PAGE, 2 * PAGE, 0, 0), -ENOMEM);
	ASSERT(mmap_write_trylock(current->mm));
	mmap_write_unlock(current->mm);
	mmu_notifier_rmap_write_lock(current->mm);
	mmu_notifier_rmap_write_unlock(current->mm);
}

/* A producer's own result comes first (DV-8). */
TEST(DV_16_a_producer_returns_its_own_result)
{
	set_up();
	ASSERT_EQ(mmu_notifier_mprotect(AT(1), PAGE, 0xffff), -EINVAL);
	ASSERT_EQ(mmu_notifier_mprotect(AT(1), PAGE, PROT_READ | PROT_GROWSDOWN), -EINVAL);
	ASSERT_EQ(mmu_notifier_mprotect(AT(1), PAGE, PROT_READ | PROT_WRITE), 0);
}
