/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* young, change_pte, arch: YG-*. */
#include "test.h"

static struct mm_struct *mm;
static struct listener A, B, C;

/* A and C have every op, B none. */
static void set_up(void)
{
	mm = mm_alloc();
	A = listener("A", &ops_all);
	B = listener("B", &ops_none);
	C = listener("C", &ops_all);
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	REGISTER(&C, mm);
}

static void assert_seen(const struct listener *self, unsigned long start, unsigned long end)
{
	ASSERT_EQ(self->seen.mm, mm);
	ASSERT_EQ(self->seen.start, start);
	ASSERT_EQ(self->seen.end, end);
}

TEST(YG_1_clear_flush_young_is_the_or_of_all)
{
	set_up();
	A.returns = 4;
	C.returns = 9;
	WITH_LOCK(mm, ASSERT_EQ(mmu_notifier_clear_flush_young(mm, 0x1000, 0x3000), 13));
	EXPECT_LOG("C.clear_flush_young", "A.clear_flush_young");
	assert_seen(&A, 0x1000, 0x3000);
	A.returns = C.returns = 0;
	WITH_LOCK(mm, ASSERT_EQ(mmu_notifier_clear_flush_young(mm, 0x1000, 0x3000), 0));
}

TEST(YG_1_clear_young_is_the_or_of_all)
{
	set_up();
	A.returns = 0x40000000;
	C.returns = -2147483647 - 1;
	WITH_LOCK(mm, ASSERT_EQ(mmu_notifier_clear_young(mm, 0x1000, 0x3000), (int)0xc0000000));
	EXPECT_LOG("C.clear_young", "A.clear_young");
	assert_seen(&C, 0x1000, 0x3000);
}

TEST(YG_2_test_young_stops_at_the_first)
{
	set_up();
	A.returns = 7;
	WITH_LOCK(mm, ASSERT_EQ(mmu_notifier_test_young(mm, 0x1234), 7));
	EXPECT_LOG("C.test_young", "A.test_young");
	assert_seen(&A, 0x1234, 0);
	C.returns = -3;
	WITH_LOCK(mm, ASSERT_EQ(mmu_notifier_test_young(mm, 0x1234), -3));
	EXPECT_LOG("C.test_young");
	A.returns = C.returns = 0;
	WITH_LOCK(mm, ASSERT_EQ(mmu_notifier_test_young(mm, 0x1234), 0));
	EXPECT_LOG("C.test_young", "A.test_young");
}

TEST(YG_3_change_pte)
{
	set_up();
	WITH_LOCK(mm, mmu_notifier_change_pte(mm, 0x5000, (pte_t){ .pte = 0x123456789abcdef0 }));
	EXPECT_LOG("C.change_pte", "A.change_pte");
	assert_seen(&A, 0x5000, 0);
	ASSERT_EQ(A.pte, 0x123456789abcdef0);
	ASSERT_EQ(C.pte, 0x123456789abcdef0);
}

static const struct mmu_notifier_ops ops_arch = { .arch_invalidate_secondary_tlbs = on_arch };

TEST(YG_3_arch_invalidate)
{
	struct listener D = listener("D", &ops_arch), E = listener("E", &ops_arch);

	set_up();
	REGISTER(&D, mm);
	REGISTER(&E, mm);
	WITH_LOCK(mm, mmu_notifier_arch_invalidate_secondary_tlbs(mm, 0, ULONG_MAX));
	EXPECT_LOG("E.arch", "D.arch");
	assert_seen(&D, 0, ULONG_MAX);
	WITH_LOCK(mm, mmu_notifier_arch_invalidate_secondary_tlbs(mm, 0x1000, 0x1000));
	EXPECT_LOG("E.arch", "D.arch");
	assert_seen(&D, 0x1000, 0x1000);
}

TEST(YG_4_intervals_take_no_part)
{
	struct watch a = watch("a");

	set_up();
	INSERT(&a, mm, 0, ULONG_MAX);
	WITH_LOCK(mm, {
		mmu_notifier_clear_flush_young(mm, 0x1000, 0x2000);
		mmu_notifier_clear_young(mm, 0x1000, 0x2000);
		mmu_notifier_test_young(mm, 0x1000);
		mmu_notifier_change_pte(mm, 0x1000, (pte_t){ .pte = 1 });
		mmu_notifier_arch_invalidate_secondary_tlbs(mm, 0x1000, 0x2000);
	});
	ASSERT(!logged("a.inv 3"));
	ASSERT_EQ(idle_seq(mm), 2);
}

TEST(S1_3_nobody_listens)
{
	mm = mm_alloc();
	ASSERT_EQ(mmu_notifier_clear_flush_young(mm, 0, 1), 0);
	ASSERT_EQ(mmu_notifier_clear_young(mm, 0, 1), 0);
	ASSERT_EQ(mmu_notifier_test_young(mm, 0), 0);
	mmu_notifier_change_pte(mm, 0, (pte_t){ .pte = 0 });
	mmu_notifier_arch_invalidate_secondary_tlbs(mm, 0, 1);
	ASSERT(!mm_has_notifiers(mm));
}

#ifdef set_pte_at_notify
static pte_t slot;

static void pte_is_still_old(struct listener *self, const char *op)
{
	if (!strcmp(op, "change_pte"))
		ASSERT_EQ(slot.pte, 1);
	(void)self;
}

#ifndef set_pte_at
#define set_pte_at(mm, address, ptep, value) ((void)(mm), (void)(address), (void)(*(ptep) = (value)))
#endif

TEST(S1_4_set_pte_at_notify_tells_first)
{
	set_up();
	slot.pte = 1;
	A.in = C.in = pte_is_still_old;
	WITH_LOCK(mm, set_pte_at_notify(mm, 0x1000, &slot, ((pte_t){ .pte = 2 })));
	EXPECT_LOG("C.change_pte", "A.change_pte");
	ASSERT_EQ(slot.pte, 2);
	ASSERT_EQ(A.pte, 2);
}
#endif
