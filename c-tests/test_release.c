/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The end of an mm: RL-*, ML-2 to ML-4, DS-1. */
#include "test.h"

static struct mm_struct *mm;

/* An mm that outlives its users by one reference. */
static void set_up(void)
{
	mm = mm_alloc();
	mmgrab(mm);
}

TEST(RL_1_intervals_get_one_range_over_all)
{
	struct watch a = watch("a"), b = watch("b"), top = watch("top");

	set_up();
	INSERT(&top, mm, ULONG_MAX, 1);
	INSERT(&b, mm, 0x2000, 0x1000);
	INSERT(&a, mm, 0x1000, 0x1000);
	mmput(mm);
	EXPECT_LOG("a.inv 3", "b.inv 3");	/* the last address is not reached */
	ASSERT_EQ(a.seen.mm, mm);
	ASSERT_EQ(a.seen.start, 0);
	ASSERT_EQ(a.seen.end, ULONG_MAX);
	ASSERT_EQ(a.seen.flags, MMU_NOTIFIER_RANGE_BLOCKABLE);
	ASSERT_EQ(a.seen.event, MMU_NOTIFY_RELEASE);
	ASSERT_EQ(a.seen.owner, 0);
	ASSERT_EQ(READ_BEGIN(&a), 3);		/* the period is over */
	ASSERT_EQ(mm_count(mm), 4);
	REMOVE(&a);
	REMOVE(&b);
	REMOVE(&top);
	ASSERT_EQ(mm_count(mm), 1);
}

TEST(RL_1_refusal_warns)
{
	struct watch a = watch("a"), b = watch("b");

	set_up();
	INSERT(&a, mm, 0x1000, 0x1000);
	INSERT(&b, mm, 0x2000, 0x1000);
	a.refuse = true;
	mmput(mm);
	EXPECT_LOG("a.inv 3", "b.inv 3");
	expect_reports("RL-1 mmput");
}

TEST(RL_1_without_a_call_seq_stays)
{
	struct watch a = watch("a");

	set_up();
	INSERT(&a, mm, ULONG_MAX, 1);
	mmput(mm);
	EXPECT_LOG();
	invalidate(mm, ULONG_MAX, 0);
	EXPECT_LOG("a.inv 3");
}

TEST(RL_1_inside_an_older_range)
{
	struct watch a = watch("a"), late = watch("late");
	struct mmu_notifier_range range;
	struct thread *reader;

	set_up();
	INSERT(&a, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	INSERT(&late, mm, 0x1000, 0x1000);
	mmput(mm);
	EXPECT_LOG("a.inv 3", "a.inv 3");	/* one seq; the deferred insert is not called */
	reader = spawn(do_read_begin, &a);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	range_end(&range);
	ASSERT_EQ(join(reader), 3);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 5", "late.inv 5");
}

/* 3.14-10 */
TEST(RL_2_intervals_first_then_release_newest_first)
{
	struct listener A = listener("A", &ops_all), B = listener("B", &ops_none), C = listener("C", &ops_all);
	struct watch a = watch("a");

	set_up();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	REGISTER(&C, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	mmput(mm);
	EXPECT_LOG("a.inv 3", "C.release", "A.release");
	ASSERT(hlist_unhashed(&A.mn.hlist));
	ASSERT(hlist_unhashed(&B.mn.hlist));
	ASSERT(hlist_unhashed(&C.mn.hlist));
	ASSERT_EQ(mm_count(mm), 5);		/* RL-4 */
	ASSERT_EQ(A.mn.users, 1);
}

TEST(RL_3_a_second_call)
{
	struct listener A = listener("A", &ops_all);
	struct watch a = watch("a");

	set_up();
	REGISTER(&A, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	mmput(mm);
	mmu_notifier_release(mm);
	EXPECT_LOG("a.inv 3", "A.release", "a.inv 5");
}

TEST(RL_5_after_release_only_intervals_hear)
{
	struct listener A = listener("A", &ops_all);
	struct watch a = watch("a");

	set_up();
	REGISTER(&A, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	mmput(mm);
	EXPECT_LOG("a.inv 3", "A.release");
	invalidate(mm, 0x1000, 0x2000);
	WITH_LOCK(mm, ASSERT_EQ(mmu_notifier_test_young(mm, 0x1000), 0));
	EXPECT_LOG("a.inv 5");
}

static struct gate gate;

static void release_at_gate(struct listener *self, const char *op)
{
	(void)self;
	if (!strcmp(op, "release") && !LOAD(gate.arrived))
		gate_pass(&gate);
}

TEST(RL_6_release_twice_at_once)
{
	struct listener A = listener("A", &ops_all);
	struct thread *unregistering, *putting;

	set_up();
	A.in = release_at_gate;
	REGISTER(&A, mm);
	unregistering = spawn(do_unregister, &A);
	gate_wait(&gate);
	putting = spawn(do_mmput, mm);
	wait_until_blocked(putting, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	EXPECT_LOG("A.release", "A.release");
	gate_open(&gate);
	join(unregistering);
	join(putting);
	ASSERT_EQ(mm_count(mm), 1);
}

TEST(RL_6_unregister_while_mm_exit_releases)
{
	struct listener A = listener("A", &ops_all);
	struct thread *unregistering, *putting;

	set_up();
	A.in = release_at_gate;
	REGISTER(&A, mm);
	putting = spawn(do_mmput, mm);
	gate_wait(&gate);
	unregistering = spawn(do_unregister, &A);
	wait_until_blocked(unregistering, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	EXPECT_LOG("A.release", "A.release");
	gate_open(&gate);
	join(unregistering);
	join(putting);
	ASSERT_EQ(mm_count(mm), 1);
}

TEST(RL_7_only_the_last_user)
{
	struct listener A = listener("A", &ops_all);

	set_up();
	REGISTER(&A, mm);
	mmget(mm);
	mmput(mm);
	EXPECT_LOG();
	ASSERT_EQ(mm_users(mm), 1);
	mmput(mm);
	EXPECT_LOG("A.release");
	ASSERT_EQ(mm_users(mm), 0);
	UNREGISTER(&A);
	EXPECT_LOG();
}

static int released;

static void say_released(struct listener *self, const char *op)
{
	(void)self;
	if (!strcmp(op, "release"))
		STORE(released, 1);
}

TEST(ML_2_mmput_async)
{
	struct listener A = listener("A", &ops_all);

	set_up();
	A.in = say_released;
	REGISTER(&A, mm);
	mmget(mm);
	mmput_async(mm);			/* not the last */
	ASSERT_EQ(mm_users(mm), 1);
	EXPECT_LOG();
	mmput_async(mm);
	ASSERT_EQ(mm_users(mm), 0);
	WAIT_FOR(LOAD(released));
	EXPECT_LOG("A.release");
	UNREGISTER(&A);
	EXPECT_LOG();
}

TEST(ML_2_mmput_async_of_many)
{
	for (int n = 0; n < 20; n++)
		mmput_async(mm_alloc());
	set_up();
	mmput_async(mm);
	while (mm_count(mm) > 1)		/* nothing tells; it takes no time */
		sched_yield();
	mmdrop(mm);
}

/* 3.14-6, 3.14-9 */
TEST(ML_4_life_without_users)
{
	struct listener A = listener("A", &ops_kept), B = listener("B", &ops_all);
	struct watch a = watch("a");

	set_up();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	mmput(mm);
	EXPECT_LOG("a.inv 3", "B.release", "A.release");
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 5");
	ASSERT_EQ(READ_BEGIN(&a), 5);
	ASSERT_EQ(mmu_notifier_clear_young(mm, 0, 0x1000), 0);
	REMOVE(&a);
	mmu_notifier_put(&A.mn);
	UNREGISTER(&B);
	mmu_notifier_synchronize();
	EXPECT_LOG("A.free");
	ASSERT_EQ(mm_count(mm), 1);
	ASSERT(!mmget_not_zero(mm));
	mmdrop(mm);
}

static int users_in_release, count_in_release;

static void look_at_counts(struct listener *self, const char *op)
{
	(void)op;
	users_in_release = mm_users(self->mn.mm);
	count_in_release = mm_count(self->mn.mm);
}

/* ML-2: users are 0 when release runs; their common reference is dropped after it. RL-1: no mmap_lock is held */
TEST(ML_2_order_of_the_last_mmput)
{
	struct listener A = listener("A", &ops_all);

	mm = mm_alloc();
	A.in = look_at_counts;
	REGISTER(&A, mm);
	users_in_release = -1;
	mmput(mm);
	ASSERT_EQ(users_in_release, 0);
	ASSERT_EQ(count_in_release, 2);
	ASSERT_EQ(mm_count(mm), 1);
	UNREGISTER(&A);
}

TEST(ML_2_and_ML_3_no_drop_below_zero)
{
	mm = mm_alloc();
	mmgrab(mm);
	mmput(mm);
	EXPECT_BUG("ML-2", mmput(mm));
	EXPECT_BUG("ML-2", mmput_async(mm));
	atomic_set(&mm->mm_count, 0);
	EXPECT_BUG("ML-3", mmdrop(mm));
}

TEST(DS_1_the_field_is_poisoned)
{
	struct listener A = listener("A", &ops_all);
	struct watch a = watch("a");

	mm = mm_alloc();
	REGISTER(&A, mm);
	UNREGISTER(&A);
	INSERT(&a, mm, 0x1000, 0x1000);		/* the tree is not looked at */
	mmu_notifier_subscriptions_destroy(mm);
	ASSERT_EQ(mm->notifier_subscriptions, 0xdead000000000100);
	ASSERT(mm_has_notifiers(mm));
	expect_reports();
}

TEST(DS_1_destroy_with_subscribers_is_a_bug)
{
	struct listener A = listener("A", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	EXPECT_BUG("DS-1", mmu_notifier_subscriptions_destroy(mm));
	mmdrop(mm);				/* not ours to drop */
	EXPECT_BUG("DS-1", mmdrop(mm));
}

TEST(DS_1_init_and_destroy_inlines)
{
	struct mm_struct *unused = mm_alloc();

	mmu_notifier_subscriptions_destroy(unused);	/* never had any: nothing to do */
	mmu_notifier_subscriptions_init(unused);
	ASSERT(!mm_has_notifiers(unused));
	mmput(unused);
}
