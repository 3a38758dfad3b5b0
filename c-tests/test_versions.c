// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * DV-15: objects compiled for different kernels in one process; each is called
 * in its own layout, and only through the callbacks that its kernel has.
 *
 * LINK: versions/unit.c -DMMU_NOTIFIER_KERNEL=0x050e00 -DUNIT=unit_5_14 -DKERNEL="5.14"
 * LINK: versions/unit.c -DMMU_NOTIFIER_KERNEL=0x060300 -DUNIT=unit_6_3 -DKERNEL="6.3"
 * LINK: versions/unit.c -DMMU_NOTIFIER_KERNEL=0x060600 -DUNIT=unit_6_6 -DKERNEL="6.6"
 * LINK: versions/unit.c -DMMU_NOTIFIER_KERNEL=0x060c00 -DUNIT=unit_6_12 -DKERNEL="6.12"
 * LINK: versions/unit.c -DMMU_NOTIFIER_KERNEL=0x070100 -DUNIT=unit_7_1 -DKERNEL="7.1"
 */
#include "test.h"

#include "versions/unit.h"

static const struct unit *const units[] = { &unit_5_14, &unit_6_3, &unit_6_6, &unit_6_12, &unit_7_1 };
enum { UNITS = sizeof(units) / sizeof(units[0]) };

bool answer = true;

/* Everybody registers; the newest is called first. */
static struct mm_struct *all_registered(void)
{
	struct mm_struct *mm = mm_alloc();

	for (int i = 0; i < UNITS; i++)
		ASSERT_EQ(units[i]->register_(mm), 0);
	return mm;
}

static void all_unregistered(struct mm_struct *mm)
{
	for (int i = 0; i < UNITS; i++)
		units[i]->unregister(mm);
	mmput(mm);
}

void noted(const char *kernel, const char *format, ...)
{
	char what[80];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	note("%s %s", kernel, what);
}

TEST(DV_15_a_range_of_the_reference_reaches_each_layout)
{
	struct mm_struct *mm = all_registered();

	mmap_read_lock(mm);
	unit_6_6.start(mm, 0x1000, 0x2000, true);
	EXPECT_LOG("7.1 start 1000-2000 1", "6.12 start 1000-2000 1", "6.6 start 1000-2000 1",
		   "6.3 start 1000-2000 1", "5.14 start 1000-2000 1");
	unit_6_6.end();
	mmap_read_unlock(mm);
	/* until 6.5, the end of a range reaches secondary TLBs too (SPEC 2.1) */
	EXPECT_LOG("7.1 end 1000-2000", "6.12 end 1000-2000", "6.6 end 1000-2000",
		   "6.3 secondary 1000-2000", "6.3 end 1000-2000",
		   "5.14 secondary 1000-2000", "5.14 end 1000-2000");
	all_unregistered(mm);
}

TEST(DV_15_a_range_of_5_14_reaches_each_layout_and_keeps_its_vma)
{
	struct mm_struct *mm = all_registered();

	mmap_read_lock(mm);
	ASSERT_EQ(unit_5_14.start(mm, 0x1000, 0x2000, false), 0);
	unit_5_14.end();
	mmap_read_unlock(mm);
	EXPECT_LOG("7.1 start 1000-2000 0", "6.12 start 1000-2000 0", "6.6 start 1000-2000 0",
		   "6.3 start 1000-2000 0", "5.14 start 1000-2000 0",
		   "7.1 end 1000-2000", "6.12 end 1000-2000", "6.6 end 1000-2000",
		   "6.3 secondary 1000-2000", "6.3 end 1000-2000",
		   "5.14 secondary 1000-2000", "5.14 end 1000-2000");
	all_unregistered(mm);
}

TEST(DV_15_release_and_unregister)
{
	struct mm_struct *mm = all_registered();

	mmgrab(mm);
	unit_6_12.unregister(mm);
	EXPECT_LOG("6.12 release");
	mmput(mm);
	EXPECT_LOG("7.1 release", "6.6 release", "6.3 release", "5.14 release");
	for (int i = 0; i < UNITS; i++)
		if (units[i] != &unit_6_12)
			units[i]->unregister(mm);
	EXPECT_LOG();
	mmdrop(mm);
}

TEST(DV_15_get_and_put)
{
	struct mm_struct *mm = mm_alloc();

	for (int i = 0; i < UNITS; i++)
		ASSERT_EQ(units[i]->get(mm), 0);
	EXPECT_LOG("5.14 alloc", "6.3 alloc", "6.6 alloc", "6.12 alloc", "7.1 alloc");
	for (int i = 0; i < UNITS; i++)
		units[i]->put();
	mmu_notifier_synchronize();
	EXPECT_LOG("5.14 free", "6.3 free", "6.6 free", "6.12 free", "7.1 free");
	mmput(mm);
}

/* The answers are s >> 4, with bits above the lowest byte: a bool must not be read as an int (SPEC 2.2). */
TEST(DV_15_young_answers_are_ints_or_bools)
{
	struct mm_struct *mm = mm_alloc();

	ASSERT_EQ(unit_7_1.register_(mm), 0);
	ASSERT_EQ(unit_6_6.young(mm), 1);
	ASSERT_EQ(unit_6_12.register_(mm), 0);
	ASSERT_EQ(unit_6_6.young(mm), 0x1001);
	ASSERT_EQ(unit_7_1.young(mm), 1);
	EXPECT_LOG("7.1 clear_young 10000-11000",
		   "6.12 clear_young 10000-11000", "7.1 clear_young 10000-11000",
		   "6.12 clear_young 10000-11000", "7.1 clear_young 10000-11000");
	unit_7_1.unregister(mm);
	unit_6_12.unregister(mm);
	mmput(mm);
}

TEST(DV_15_secondary_tlbs_under_either_name)
{
	struct mm_struct *mm = all_registered();

	unit_5_14.secondary(mm);
	EXPECT_LOG("6.3 secondary 10000-11000", "5.14 secondary 10000-11000");
	unit_7_1.secondary(mm);
	EXPECT_LOG("6.3 secondary 10000-11000", "5.14 secondary 10000-11000");
	all_unregistered(mm);
}

TEST(RG_2_both_kinds_of_invalidation_are_refused_from_6_6_on)
{
	struct mm_struct *mm = mm_alloc();

	ASSERT_EQ(unit_5_14.mixed(mm), 0);
	ASSERT_EQ(unit_6_3.mixed(mm), 0);
	ASSERT_EQ(unit_6_6.mixed(mm), -EINVAL);
	ASSERT_EQ(unit_6_12.mixed(mm), -EINVAL);
	ASSERT_EQ(unit_7_1.mixed(mm), -EINVAL);
	expect_reports("RG-2");
	mmput(mm);
}

TEST(DV_15_intervals_of_every_layout)
{
	struct mm_struct *mm = mm_alloc();

	for (int i = 0; i < UNITS; i++)
		ASSERT_EQ(units[i]->insert(mm), 0);
	mmap_read_lock(mm);
	for (int i = 0; i < UNITS; i++) {
		ASSERT_EQ(units[i]->start(mm, 0x10000, 0x11000, i % 2), 0);
		units[i]->end();
	}
	mmap_read_unlock(mm);
	for (unsigned long seq = 3; seq < 3 + 2 * UNITS; seq += 2) {
		static const char *const kernels[] = { "5.14", "6.3", "6.6", "6.12", "7.1" };
		char line[64];

		for (int i = 0; i < UNITS; i++) {
			snprintf(line, sizeof(line), "%s invalidate%s 10000-11000 seq %lu", kernels[i],
				 i == 4 ? "_start" : "", seq);
			ASSERT(logged(line));
		}
		ASSERT(logged("7.1 invalidate_finish"));
	}
	for (int i = 0; i < UNITS; i++)
		units[i]->remove();
	mmput(mm);
}

/* At the end of an address space: two passes as well (SPEC 2.2); the event is the library's own. */
TEST(RL_1_release_in_two_passes)
{
	struct mm_struct *mm = mm_alloc();

	ASSERT_EQ(unit_7_1.insert(mm), 0);
	ASSERT_EQ(unit_5_14.insert(mm), 0);
	mmput(mm);
	EXPECT_LOG("7.1 invalidate_start 0-ffffffffffffffff seq 3wrong event or owner",
		   "5.14 invalidate 0-ffffffffffffffff seq 3wrong event or owner", "7.1 invalidate_finish");
	unit_7_1.remove();
	unit_5_14.remove();
}

/* The finish comes after the last start, also when a later notifier refuses (SPEC 2.2). */
TEST(RS_4_a_refusal_does_not_lose_a_finish)
{
	struct mm_struct *mm = mm_alloc();

	ASSERT_EQ(unit_7_1.insert(mm), 0);
	ASSERT_EQ(unit_6_6.insert(mm), 0);
	mmap_read_lock(mm);
	unit_6_6.start(mm, 0x10000, 0x11000, true);
	unit_6_6.end();
	EXPECT_LOG("7.1 invalidate_start 10000-11000 seq 3", "6.6 invalidate 10000-11000 seq 3", "7.1 invalidate_finish");
	mmap_read_unlock(mm);
	unit_7_1.remove();
	unit_6_6.remove();

	ASSERT_EQ(unit_6_6.insert(mm), 0);
	ASSERT_EQ(unit_7_1.insert(mm), 0);
	answer = false;
	mmap_read_lock(mm);
	ASSERT_EQ(unit_7_1.start(mm, 0x10000, 0x11000, false), -EAGAIN);
	EXPECT_LOG("6.6 invalidate 10000-11000 seq 5");
	mmap_read_unlock(mm);
	unit_6_6.remove();
	mmap_read_lock(mm);
	/* it refuses: what it left is not queued */
	ASSERT_EQ(unit_7_1.start(mm, 0x10000, 0x11000, false), -EAGAIN);
	EXPECT_LOG("7.1 invalidate_start 10000-11000 seq 7");
	mmap_read_unlock(mm);
	unit_7_1.remove();
	mmput(mm);
}

/* A deferred insert keeps its layout too. */
TEST(II_7c_a_deferred_insert_keeps_its_layout)
{
	struct mm_struct *mm = mm_alloc();

	ASSERT_EQ(unit_6_6.insert(mm), 0);
	mmap_read_lock(mm);
	unit_6_6.start(mm, 0x10000, 0x11000, true);
	ASSERT_EQ(unit_7_1.insert(mm), 0);
	ASSERT_EQ(unit_5_14.insert(mm), 0);
	unit_6_6.end();
	EXPECT_LOG("6.6 invalidate 10000-11000 seq 3");
	unit_6_6.start(mm, 0x10000, 0x11000, true);
	unit_6_6.end();
	mmap_read_unlock(mm);
	/* the deferred list is last in, first out (RE-4) */
	EXPECT_LOG("6.6 invalidate 10000-11000 seq 5", "5.14 invalidate 10000-11000 seq 5",
		   "7.1 invalidate_start 10000-11000 seq 5", "7.1 invalidate_finish");
	unit_5_14.remove();
	unit_6_6.remove();
	unit_7_1.remove();
	mmput(mm);
}
