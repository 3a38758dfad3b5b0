/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* DV-6: one grace-period domain for all mms. What waits for a walk of another mm, and what does not. */
#include "test.h"

static struct mm_struct *mm, *other;
static struct listener W, A;		/* W stands in a walk of `other`; A belongs to `mm` */
static struct gate gate;

static void set_up(void)
{
	other = mm_alloc();
	W = listener("W", &ops_kept);
	W.in = stand_at_gate;
	W.arg = &gate;
	REGISTER(&W, other);
	mm = mm_alloc();
	mmgrab(mm);
	A = listener("A", &ops_kept);
	REGISTER(&A, mm);
}

static struct thread *begin_walk(void)
{
	struct thread *walker = spawn(do_walk, other);

	gate_wait(&gate);
	return walker;
}

/* The call blocks for a grace period, until the walk is over. */
static void expect_waits(void *(*call)(void *), void *arg)
{
	struct thread *walker = begin_walk(), *caller = spawn(call, arg);

	wait_until_blocked(caller, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	ASSERT_NOT_DONE(caller);
	gate_open(&gate);
	join(caller);
	join(walker);
}

TEST(DV_6_unregister_waits)
{
	set_up();
	expect_waits(do_unregister, &A);
	EXPECT_LOG("W.test_young", "A.release");
	ASSERT_EQ(mm_count(mm), 2);
}

/* 3.14-6: the reference is dropped after the grace period, not before it. */
TEST(UN_4_the_reference_outlives_the_wait)
{
	struct thread *walker, *caller;

	set_up();
	walker = begin_walk();
	caller = spawn(do_unregister, &A);
	wait_until_blocked(caller, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	ASSERT_EQ(mm_count(mm), 3);
	gate_open(&gate);
	join(caller);
	ASSERT_EQ(mm_count(mm), 2);
	join(walker);
}

TEST(DV_6_mm_exit_waits)
{
	set_up();
	expect_waits(do_mmput, mm);
	EXPECT_LOG("W.test_young", "A.release");
}

/* SY-1: nothing is owed */
TEST(DV_6_synchronize_waits)
{
	set_up();
	expect_waits(do_synchronize, NULL);
}

/* UN-3, UN-4: unlinked by mm exit long ago; unregister waits all the same. */
TEST(DV_6_unregister_of_an_unlinked_one_waits)
{
	set_up();
	mmput(mm);
	expect_waits(do_unregister, &A);
	EXPECT_LOG("A.release", "W.test_young");
}

TEST(DV_6_free_comes_after)
{
	struct thread *walker;

	set_up();
	walker = begin_walk();
	mmu_notifier_put(&A.mn);
	wait_until_worker_blocked(MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	ASSERT_EQ(LOAD(test_frees), 0);
	ASSERT_EQ(mm_count(mm), 3);
	gate_open(&gate);
	WAIT_FOR(LOAD(test_frees) == 1);
	join(walker);
	EXPECT_LOG("W.test_young", "A.free");
}

TEST(DV_6_what_does_not_wait)
{
	struct listener B = listener("B", &ops_kept);
	struct mmu_notifier *mn;
	struct watch a = watch("a");
	struct thread *walker;

	set_up();
	walker = begin_walk();
	REGISTER(&B, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	mn = mmu_notifier_get(&ops_get, mm);
	ASSERT(!IS_ERR(mn));
	ASSERT_EQ(mmu_notifier_get(&ops_get, mm), mn);
	invalidate(mm, 0x1000, 0x2000);
	ASSERT_EQ(READ_BEGIN(&a), 3);
	REMOVE(&a);
	mmu_notifier_put(mn);
	mmu_notifier_put(mn);
	mmu_notifier_put(&B.mn);
	mmget(mm);
	mmput(mm);
	do_walk(mm);
	ASSERT_EQ(LOAD(test_frees), 0);
	gate_open(&gate);
	join(walker);
	mmu_notifier_synchronize();
	ASSERT_EQ(LOAD(test_frees), 2);
}

TEST(DV_6_exit_with_an_empty_list_does_not_wait)
{
	struct mm_struct *plain = mm_alloc(), *intervals = mm_alloc();
	struct watch a = watch("a");
	struct thread *walker;

	set_up();
	INSERT(&a, intervals, 0x1000, 0x1000);
	walker = begin_walk();
	mmput(plain);
	mmput(intervals);
	REMOVE(&a);
	gate_open(&gate);
	join(walker);
	EXPECT_LOG("W.test_young", "a.inv 3");
}

TEST(DV_6_later_walks_are_not_waited_for)
{
	struct mm_struct *third = mm_alloc();
	struct listener L = listener("L", &ops_kept);
	struct gate later = { 0 };
	struct thread *walker, *second, *caller;

	set_up();
	L.in = stand_at_gate;
	L.arg = &later;
	REGISTER(&L, third);
	walker = begin_walk();
	caller = spawn(do_unregister, &A);
	wait_until_blocked(caller, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	second = spawn(do_walk, third);
	gate_wait(&later);
	gate_open(&gate);
	join(walker);
	join(caller);				/* while the second walk stands */
	ASSERT_NOT_DONE(second);
	gate_open(&later);
	join(second);
}

TEST(DV_6_a_walk_that_has_passed_the_sub)
{
	struct listener newer = listener("newer", &ops_kept);
	struct thread *walker, *caller;

	set_up();
	REGISTER(&newer, other);
	walker = begin_walk();
	caller = spawn(do_unregister, &newer);
	wait_until_blocked(caller, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	gate_open(&gate);
	join(walker);
	join(caller);
	EXPECT_LOG("newer.test_young", "W.test_young", "newer.release");
}

/* RL-2, golden 4: one grace period, not two: a walk that begins during the first one is not waited for. */
TEST(RL_2_waits_for_one_grace_period)
{
	struct mm_struct *third = mm_alloc();
	struct listener L = listener("L", &ops_kept);
	struct gate later = { 0 };
	struct thread *walker, *second, *exiting;

	set_up();
	L.in = stand_at_gate;
	L.arg = &later;
	REGISTER(&L, third);
	walker = begin_walk();
	exiting = spawn(do_mmput, mm);
	wait_until_blocked(exiting, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	second = spawn(do_walk, third);
	gate_wait(&later);
	gate_open(&gate);
	join(exiting);				/* while the second walk stands */
	join(walker);
	gate_open(&later);
	join(second);
}

/* MO-5: what a callback did that was running is seen by whoever has waited for it. */
static long done_by_callback;

static void works_after_the_gate(struct listener *self, const char *op)
{
	stand_at_gate(self, op);
	done_by_callback = 1;
}

static void *unregister_and_look(void *listener)
{
	UNREGISTER((struct listener *)listener);
	return (void *)done_by_callback;
}

static void *exit_and_look(void *arg)
{
	mmput(arg);
	return (void *)done_by_callback;
}

static void *synchronize_and_look(void *unused)
{
	(void)unused;
	mmu_notifier_synchronize();
	return (void *)done_by_callback;
}

static void expect_sees(void *(*call)(void *), void *arg)
{
	struct thread *walker = begin_walk(), *caller = spawn(call, arg);

	wait_until_blocked(caller, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	gate_open(&gate);
	ASSERT_EQ(join(caller), 1);
	join(walker);
}

TEST(MO_5_unregister_sees_what_callbacks_did)
{
	set_up();
	W.in = works_after_the_gate;
	expect_sees(unregister_and_look, &A);
}

TEST(MO_5_mm_exit_sees_what_callbacks_did)
{
	set_up();
	W.in = works_after_the_gate;
	expect_sees(exit_and_look, mm);
}

TEST(MO_5_synchronize_sees_what_callbacks_did)
{
	set_up();
	W.in = works_after_the_gate;
	expect_sees(synchronize_and_look, NULL);
}

static long seen_in_free;

static void free_and_look(struct mmu_notifier *mn)
{
	(void)mn;
	seen_in_free = done_by_callback;
}

TEST(MO_5_free_notifier_sees_what_callbacks_did)
{
	static const struct mmu_notifier_ops ops = { .free_notifier = free_and_look };
	struct listener B = listener("B", &ops);
	struct thread *walker;

	set_up();
	W.in = works_after_the_gate;
	REGISTER(&B, mm);
	walker = begin_walk();
	mmu_notifier_put(&B.mn);
	gate_open(&gate);
	join(walker);
	mmu_notifier_synchronize();
	ASSERT_EQ(seen_in_free, 1);
}

static void refuses_at_gates(struct listener *self, const char *op)
{
	struct gate *gates = self->arg;

	gate_pass(&gates[!strcmp(op, "end")]);
}

static void *a_refused_start(void *range)
{
	ASSERT_EQ(range_start_nonblock(range), -EAGAIN);
	return NULL;
}

/* HS-2: no grace period ends between the starts and the ends of a refusal. */
TEST(HS_2_one_section_covers_starts_and_ends)
{
	static struct gate gates[2];
	struct listener R = listener("R", &ops_all);
	struct mmu_notifier_range range;
	struct thread *walker, *caller;

	set_up();
	R.in = refuses_at_gates;
	R.arg = gates;
	R.returns = -EAGAIN;
	REGISTER(&R, other);
	range = make_range(other, 0x1000, 0x2000);
	walker = spawn(a_refused_start, &range);
	gate_wait(&gates[0]);
	caller = spawn(do_synchronize, NULL);
	wait_until_blocked(caller, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	gate_open(&gates[0]);
	gate_wait(&gates[1]);			/* in the end op now */
	ASSERT_NOT_WOKEN(caller);
	ASSERT_NOT_DONE(caller);
	gate_open(&gates[1]);
	join(walker);
	join(caller);
	expect_reports("HS-5");
}

/* --- every kind of walk */

static const char *stand_in;

static void stand_in_op(struct listener *self, const char *op)
{
	(void)self;
	if (!strcmp(op, stand_in) && !LOAD(gate.arrived))
		gate_pass(&gate);
}

static void *walk_start(void *arg)
{
	(void)arg;
	invalidate(other, 0x1000, 0x2000);
	return NULL;
}

static void *walk_refused(void *arg)
{
	struct mmu_notifier_range range = make_range(other, 0x1000, 0x2000);

	W.returns = -EAGAIN;
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	return arg;
}

static void *walk_clear_flush_young(void *arg)
{
	WITH_LOCK(other, mmu_notifier_clear_flush_young(other, 0, 0x1000));
	return arg;
}

static void *walk_clear_young(void *arg)
{
	WITH_LOCK(other, mmu_notifier_clear_young(other, 0, 0x1000));
	return arg;
}

static void *walk_change_pte(void *arg)
{
	WITH_LOCK(other, mmu_notifier_change_pte(other, 0, (pte_t){ .pte = 0 }));
	return arg;
}

static void *walk_arch(void *arg)
{
	WITH_LOCK(other, mmu_notifier_arch_invalidate_secondary_tlbs(other, 0, 0x1000));
	return arg;
}

/* While W stands in `op`, a synchronize blocks. */
static void expect_is_a_walk(const char *op, const struct mmu_notifier_ops *ops, void *(*walk)(void *), void *arg)
{
	struct thread *walker, *caller;

	other = mm_alloc();
	mmgrab(other);
	W = listener("W", ops);
	W.in = stand_in_op;
	stand_in = op;
	REGISTER(&W, other);
	walker = spawn(walk, arg ? arg : other);
	gate_wait(&gate);
	caller = spawn(do_synchronize, NULL);
	wait_until_blocked(caller, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	gate_open(&gate);
	join(walker);
	join(caller);
}

static const struct mmu_notifier_ops ops_arch = { .arch_invalidate_secondary_tlbs = on_arch };

/* 4.1-2 */
TEST(DV_6_walk_of_start) { expect_is_a_walk("start", &ops_all, walk_start, NULL); }
/* 4.1-2 */
TEST(DV_6_walk_of_end) { expect_is_a_walk("end", &ops_all, walk_start, NULL); }
/* 4.1-4 */
TEST(DV_6_walk_of_clear_flush_young) { expect_is_a_walk("clear_flush_young", &ops_all, walk_clear_flush_young, NULL); }
/* 4.1-4 */
TEST(DV_6_walk_of_clear_young) { expect_is_a_walk("clear_young", &ops_all, walk_clear_young, NULL); }
/* 4.1-4 */
TEST(DV_6_walk_of_test_young) { expect_is_a_walk("test_young", &ops_all, do_walk, NULL); }
/* 4.1-5 */
TEST(DV_6_walk_of_change_pte) { expect_is_a_walk("change_pte", &ops_all, walk_change_pte, NULL); }
/* 4.1-6 */
TEST(DV_6_walk_of_arch) { expect_is_a_walk("arch", &ops_arch, walk_arch, NULL); }
/* 4.1-3 */
TEST(DV_6_walk_of_mm_exit) { expect_is_a_walk("release", &ops_all, do_mmput, NULL); }
/* 4.1-3 */
TEST(DV_6_walk_of_unregisters_own_release) { expect_is_a_walk("release", &ops_all, do_unregister, &W); }

TEST(DV_6_walk_of_the_ends_of_a_refusal)
{
	expect_is_a_walk("end", &ops_all, walk_refused, NULL);
	expect_reports("HS-5");
}

/* --- what is no walk */

static void interval_at_gate(struct watch *self, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)self;
	(void)range;
	(void)seq;
	gate_pass(&gate);
}

/* 4.1-1, 4.2-3 */
TEST(RS_2_an_interval_callback_is_no_walk)
{
	struct watch a = watch("a");
	struct thread *walker;

	set_up();
	a.in = interval_at_gate;
	INSERT(&a, other, 0x1000, 0x1000);
	walker = spawn(walk_start, NULL);
	gate_wait(&gate);
	mmu_notifier_synchronize();
	UNREGISTER(&A);
	mmput(mm);
	gate_open(&gate);
	join(walker);
}

TEST(DV_6_between_start_and_end_is_no_walk)
{
	struct mmu_notifier_range range;

	set_up();
	range = make_range(other, 0x1000, 0x2000);
	range_start(&range);
	mmu_notifier_synchronize();
	UNREGISTER(&A);
	range_end(&range);
}
