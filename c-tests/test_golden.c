/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SPEC section 5, line by line. */
#include "test.h"

static const struct mmu_notifier_ops
	ops_a = { .invalidate_range_start = on_start, .invalidate_range_end = on_end, .release = on_release },
	ops_b = { .invalidate_range_start = on_start, .release = on_release },
	ops_d = { .invalidate_range_end = on_end };

/* A, B, C, D as section 5 registers them. */
static struct listener A, B, C, D;
static struct mm_struct *mm;

static void set_up(void)
{
	mm = mm_alloc();
	A = listener("A", &ops_a);
	B = listener("B", &ops_b);
	C = listener("C", &ops_a);
	D = listener("D", &ops_d);
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	REGISTER(&C, mm);
	REGISTER(&D, mm);
}

TEST(golden_1_nonblock_refusal)
{
	set_up();
	struct mmu_notifier_range range = make_range(mm, 0x1000, 0x2000);

	B.returns = -EAGAIN;
	range.flags = MMU_NOTIFIER_RANGE_BLOCKABLE;
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	EXPECT_LOG("C.start", "B.start", "A.start", "D.end", "C.end", "A.end");
	ASSERT_EQ(range.flags, 0);
	expect_reports();
}

TEST(golden_2_blockable_refusal)
{
	set_up();
	struct mmu_notifier_range range = make_range(mm, 0x1000, 0x2000);

	B.returns = -EAGAIN;
	range_start(&range);
	EXPECT_LOG("C.start", "B.start", "A.start", "D.end", "C.end", "A.end");
	ASSERT_EQ(range.flags, MMU_NOTIFIER_RANGE_BLOCKABLE);
	expect_reports("HS-5");
	range_end(&range);
	EXPECT_LOG("D.end", "C.end", "A.end");
}

TEST(golden_3_refusal_by_one_that_has_an_end)
{
	set_up();
	struct mmu_notifier_range range = make_range(mm, 0x1000, 0x2000);

	C.returns = -EAGAIN;
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	EXPECT_LOG("C.start", "B.start", "A.start", "D.end", "C.end", "A.end");
	expect_reports("HS-5");
}

TEST(golden_4_and_5_release_then_unregister)
{
	set_up();
	mmgrab(mm);
	ASSERT_EQ(mm_count(mm), 6);
	mmput(mm);
	EXPECT_LOG("C.release", "B.release", "A.release");
	ASSERT_EQ(mm_count(mm), 5);
	mmu_notifier_release(mm);
	EXPECT_LOG();
	ASSERT_EQ(mm_count(mm), 5);

	UNREGISTER(&A);
	UNREGISTER(&B);
	UNREGISTER(&C);
	UNREGISTER(&D);
	EXPECT_LOG();
	ASSERT_EQ(mm_count(mm), 1);
	mmdrop(mm);
}

#define IN_TREE(watch) (!RB_EMPTY_NODE(&(watch)->sub.interval_tree.rb))

TEST(golden_intervals_idle_busy_idle)
{
	struct watch a = watch("a"), x = watch("x"), b = watch("b"), c = watch("c");
	struct mmu_notifier_range range, nested;
	struct thread *reader, *remover;

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	ASSERT_EQ(SEQ(&a), 1);
	ASSERT_EQ(READ_BEGIN(&a), 1);
	ASSERT(!mmu_interval_read_retry(&a.sub, 1));
	INSERT(&x, mm, 0x1000, 0x1000);

	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	EXPECT_LOG("a.inv 3", "x.inv 3");
	ASSERT(mmu_interval_read_retry(&a.sub, 1));
	reader = spawn(do_read_begin, &x);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);

	INSERT(&b, mm, 0x5000, 0x1000);
	ASSERT(!IN_TREE(&b));
	ASSERT_EQ(SEQ(&b), 3);
	nested = make_range(mm, 0x5000, 0x6000);
	range_start(&nested);
	range_end(&nested);
	EXPECT_LOG();
	INSERT(&c, mm, 0x5000, 0x1000);
	REMOVE(&c);
	remover = spawn(do_remove, &a);
	wait_until_blocked(remover, MMU_NOTIFIER_WAIT_REMOVE);
	ASSERT_NOT_WOKEN(reader);

	range_end(&range);
	ASSERT_EQ(join(reader), 3);
	join(remover);
	ASSERT(IN_TREE(&b));
	ASSERT_EQ(READ_BEGIN(&b), 3);
	ASSERT_EQ(idle_seq(mm), 4);
}

TEST(golden_intervals_active_but_even)
{
	struct watch a = watch("a"), old = watch("old");
	struct mmu_notifier_range range;
	struct thread *reader;

	mm = mm_alloc();
	INSERT(&old, mm, 0x1000, 0x1000);
	invalidate(mm, 0x1000, 0x2000);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("old.inv 3", "old.inv 5");
	ASSERT_EQ(idle_seq(mm), 6);

	range = make_range(mm, 0x8000, 0x9000);
	range_start(&range);
	REMOVE(&old);
	INSERT(&a, mm, 0x3000, 0x1000);
	ASSERT(IN_TREE(&a));
	ASSERT_EQ(SEQ(&a), 7);
	reader = spawn(do_read_begin, &a);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	range_end(&range);
	ASSERT_EQ(join(reader), 7);
	EXPECT_LOG();
	ASSERT_EQ(idle_seq(mm), 8);
}

TEST(golden_intervals_refusal_right_most)
{
	struct watch a = watch("a"), b = watch("b"), d = watch("d"), z = watch("z");
	struct listener L = listener("L", &ops_all);
	struct mmu_notifier_range range;

	mm = mm_alloc();
	REGISTER(&L, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	INSERT(&b, mm, 0x5000, 0x1000);
	INSERT(&d, mm, 0x5000, 0x1000);
	range_end(&range);
	EXPECT_LOG("a.inv 3", "L.start", "L.end");

	INSERT(&z, mm, 0x6000, 0x1000);
	z.refuse = true;
	range = make_range(mm, 0x5000, 0x7000);
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	EXPECT_LOG("d.inv 5", "b.inv 5", "z.inv 5");
	ASSERT_EQ(idle_seq(mm), 6);
	expect_reports();
}

TEST(golden_insert_like_test_hmm)
{
	struct watch a = watch("a");

	mm = mm_alloc();
	INSERT(&a, mm, 0, 0xfffffffffffff000);
	ASSERT_EQ(a.sub.interval_tree.start, 0);
	ASSERT_EQ(a.sub.interval_tree.last, 0xffffffffffffefff);
	REMOVE(&a);
}
