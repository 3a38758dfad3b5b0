/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Register, unregister, and who a walk visits: RG-*, UN-*, HS-11, DV-2, DV-4. */
#include "test.h"

static struct mm_struct *mm;

static int register_locked(struct listener *self)
{
	int result;

	mmap_write_lock(mm);
	result = __mmu_notifier_register(&self->mn, mm);
	mmap_write_unlock(mm);
	return result;
}

/* RG-6: listener() leaves 0x5a in all but ops. 3.14-1 */
TEST(RG_5_register_links_counts_and_sets_fields)
{
	struct listener A = listener("A", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	ASSERT(mm_has_notifiers(mm));
	ASSERT_EQ(mm_users(mm), 1);
	ASSERT_EQ(mm_count(mm), 2);
	ASSERT_EQ(A.mn.mm, mm);
	ASSERT_EQ(A.mn.users, 1);
	ASSERT_EQ(A.mn.ops, &ops_all);
	ASSERT(!hlist_unhashed(&A.mn.hlist));
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("A.start", "A.end");
	UNREGISTER(&A);
}

/* 4.2-2 */
TEST(RG_1_register_with_the_lock_held)
{
	struct listener A = listener("A", &ops_all);

	mm = mm_alloc();
	ASSERT_EQ(register_locked(&A), 0);
	ASSERT_EQ(mm_count(mm), 2);
	UNREGISTER(&A);
	ASSERT_EQ(mm_count(mm), 1);
}

/* RG-7, 3.14-3 */
TEST(RG_2_arch_with_start_or_end)
{
	static const struct mmu_notifier_ops
		with_start = { .arch_invalidate_secondary_tlbs = on_arch, .invalidate_range_start = on_start },
		with_end = { .arch_invalidate_secondary_tlbs = on_arch, .invalidate_range_end = on_end },
		alone = { .arch_invalidate_secondary_tlbs = on_arch, .release = on_release };
	struct listener A = listener("A", &with_start), B = listener("B", &with_end), C = listener("C", &alone);

	mm = mm_alloc();
	ASSERT_EQ(mmu_notifier_register(&A.mn, mm), -EINVAL);
	expect_reports("RG-2 mmu_notifier_register");
	ASSERT(!mm_has_notifiers(mm));
	ASSERT_POISON(&A.mn.mm);
	ASSERT_EQ(mmu_notifier_register(&B.mn, mm), -EINVAL);
	ASSERT_EQ(register_locked(&A), -EINVAL);
	expect_reports();			/* once per process */
	ASSERT_EQ(mm_count(mm), 1);
	REGISTER(&C, mm);
	UNREGISTER(&C);
}

static void ignore_signal(int number) { (void)number; }

/* RG-4 */
TEST(DV_4_a_pending_signal_does_not_matter)
{
	struct listener A = listener("A", &ops_all);
	struct watch a = watch("a");
	sigset_t blocked;

	signal(SIGUSR1, ignore_signal);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &blocked, NULL);
	raise(SIGUSR1);
	mm = mm_alloc();
	REGISTER(&A, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	REMOVE(&a);
	UNREGISTER(&A);
}

TEST(RG_8_the_locks_are_free_afterwards)
{
	struct listener A = listener("A", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	ASSERT(mmap_write_trylock(mm));
	mmap_write_unlock(mm);
	mmu_notifier_rmap_write_lock(mm);
	mmu_notifier_rmap_write_unlock(mm);
	UNREGISTER(&A);
}

static void *do_register(void *arg)
{
	REGISTER((struct listener *)arg, mm);
	return NULL;
}

TEST(RG_9_and_DV_2_register_waits_for_either_lock)
{
	struct listener A = listener("A", &ops_all);
	struct mmu_notifier_range range;
	struct thread *registrar;

	mm = mm_alloc();
	range = make_range(mm, 0x1000, 0x2000);
	mmu_notifier_rmap_read_lock(mm);
	range_start(&range);
	registrar = spawn(do_register, &A);
	wait_until_blocked(registrar, MMU_NOTIFIER_WAIT_MMAP_LOCK);
	range_end(&range);
	wait_until_blocked(registrar, MMU_NOTIFIER_WAIT_RMAP_LOCK);
	mmu_notifier_rmap_read_unlock(mm);
	join(registrar);
	EXPECT_LOG();				/* no end without its start */
	UNREGISTER(&A);
}

TEST(RG_10_same_ops_twice)
{
	struct listener A = listener("A", &ops_all), B = listener("B", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("B.start", "A.start", "B.end", "A.end");
	UNREGISTER(&B);
	EXPECT_LOG("B.release");
	UNREGISTER(&A);
	EXPECT_LOG("A.release");
}

/* --- unregister */

/* 3.14-6 */
TEST(UN_2_release_then_unlink)
{
	struct listener A = listener("A", &ops_all), B = listener("B", &ops_none);

	mm = mm_alloc();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	ASSERT_EQ(mm_count(mm), 3);
	UNREGISTER(&A);
	EXPECT_LOG("A.release");
	ASSERT_EQ(mm_count(mm), 2);
	ASSERT_EQ(A.mn.users, 1);		/* UN-5: not its business */
	ASSERT(hlist_unhashed(&A.mn.hlist));
	UNREGISTER(&B);
	ASSERT_EQ(mm_count(mm), 1);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG();
}

TEST(UN_3_no_release_after_mm_exit)
{
	struct listener A = listener("A", &ops_all);

	mm = mm_alloc();
	mmgrab(mm);
	REGISTER(&A, mm);
	mmput(mm);
	EXPECT_LOG("A.release");
	ASSERT_EQ(mm_count(mm), 2);
	UNREGISTER(&A);
	EXPECT_LOG();
	ASSERT_EQ(mm_count(mm), 1);
	mmdrop(mm);
}

/* 4.2-3 */
TEST(UN_5_takes_no_mmap_lock)
{
	struct listener A = listener("A", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	mmap_write_lock(mm);
	mmu_notifier_rmap_write_lock(mm);
	UNREGISTER(&A);
	mmu_notifier_rmap_write_unlock(mm);
	mmap_write_unlock(mm);
}

TEST(UN_6_memory_is_the_callers_again)
{
	struct listener A = listener("A", &ops_all), B = listener("B", &ops_all), C = listener("C", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	REGISTER(&C, mm);
	UNREGISTER(&B);
	EXPECT_LOG("B.release");
	POISON(&B);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("C.start", "A.start", "C.end", "A.end");
	ASSERT_POISON(&B);
	B = listener("B", &ops_all);
	REGISTER(&B, mm);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("B.start", "C.start", "A.start", "B.end", "C.end", "A.end");
}

TEST(UN_7_between_start_and_end)
{
	struct listener A = listener("A", &ops_all), B = listener("B", &ops_all);
	struct mmu_notifier_range range;

	mm = mm_alloc();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	UNREGISTER(&A);
	range_end(&range);
	EXPECT_LOG("B.start", "A.start", "A.release", "B.end");
}

/* UN-4, ML-3 */
TEST(UN_5_last_reference)
{
	struct listener A = listener("A", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	mmput(mm);
	ASSERT_EQ(mm_count(mm), 1);
	UNREGISTER(&A);				/* frees mm */
	EXPECT_LOG("A.release");
}

static void drop_all_references(struct listener *self, const char *op)
{
	if (!strcmp(op, "release"))
		atomic_set(&self->mn.mm->mm_count, 0);
}

TEST(UN_1_references_that_vanish_meanwhile)
{
	struct listener A = listener("A", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	A.in = drop_all_references;
	EXPECT_BUG("UN-1", mmu_notifier_unregister(&A.mn, mm));
}

static const struct mmu_notifier_ops ops_tlb_only = { .arch_invalidate_secondary_tlbs = on_arch, .release = on_release };

static int links_seen;

static void still_listed(struct listener *self, const char *op)
{
	(void)op;
	ASSERT(!hlist_unhashed(&self->mn.hlist));
	links_seen++;
}

/* UN-2: release comes first; an event in it still reaches the sub. */
TEST(UN_2_linked_during_release)
{
	struct listener A = listener("A", &ops_tlb_only);

	mm = mm_alloc();
	REGISTER(&A, mm);
	A.in = still_listed;
	UNREGISTER(&A);
	ASSERT_EQ(links_seen, 1);
}

/* --- HS-11: C stands at a gate in a walk over C, B, A */

static struct listener A, B, C, D;
static struct gate gate;

static struct thread *walk_up_to_C(void)
{
	struct thread *walker;

	mm = mm_alloc();
	A = listener("A", &ops_kept);
	B = listener("B", &ops_kept);
	C = listener("C", &ops_kept);
	D = listener("D", &ops_kept);
	C.in = stand_at_gate;
	C.arg = &gate;
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	REGISTER(&C, mm);
	walker = spawn(do_walk, mm);
	gate_wait(&gate);
	return walker;
}

static void put_and_check(struct listener *self)
{
	mmu_notifier_put(&self->mn);
	ASSERT(hlist_unhashed(&self->mn.hlist));
}

static void *do_young(void *arg)
{
	return (void *)(long)mmu_notifier_test_young(arg, 0x1000);
}

TEST(HS_11_linked_after_the_walk_began)
{
	struct thread *walker;

	mm = mm_alloc();
	C = listener("C", &ops_kept);
	D = listener("D", &ops_kept);
	C.in = stand_at_gate;
	C.arg = &gate;
	REGISTER(&C, mm);
	walker = spawn(do_young, mm);		/* with no lock: register must not wait here */
	gate_wait(&gate);
	REGISTER(&D, mm);
	gate_open(&gate);
	join(walker);
	EXPECT_LOG("C.test_young");
}

TEST(HS_11_unlinked_ahead_of_the_walk)
{
	struct thread *walker = walk_up_to_C();

	put_and_check(&B);
	gate_open(&gate);
	join(walker);
	mmu_notifier_synchronize();
	EXPECT_LOG("C.test_young", "A.test_young", "B.free");
}

TEST(HS_11_unlinked_under_the_walk)
{
	struct thread *walker = walk_up_to_C();

	put_and_check(&C);
	gate_open(&gate);
	join(walker);
	mmu_notifier_synchronize();
	EXPECT_LOG("C.test_young", "B.test_young", "A.test_young", "C.free");
}

TEST(HS_11_a_stale_link_leads_to_one_that_went_later)
{
	struct thread *walker = walk_up_to_C();

	put_and_check(&C);
	put_and_check(&B);			/* C's link still names it */
	gate_open(&gate);
	join(walker);
	mmu_notifier_synchronize();
	ASSERT(logged("B.test_young"));
	ASSERT(logged("A.test_young"));
	ASSERT(logged("B.free"));
	ASSERT(logged("C.free"));
	ASSERT_STR(test_log[1], "B.test_young");
	ASSERT_STR(test_log[2], "A.test_young");
}

TEST(HS_11_the_other_order_skips_it)
{
	struct thread *walker = walk_up_to_C();

	put_and_check(&B);
	put_and_check(&C);			/* C's link names A by now */
	gate_open(&gate);
	join(walker);
	ASSERT(!logged("B.test_young"));
	ASSERT_STR(test_log[1], "A.test_young");
}

TEST(HS_11_an_empty_list_ahead)
{
	struct thread *walker = walk_up_to_C();

	put_and_check(&A);
	put_and_check(&B);
	put_and_check(&C);
	gate_open(&gate);
	join(walker);
	ASSERT(!logged("A.test_young"));
	ASSERT(!logged("B.test_young"));
	mmu_notifier_synchronize();
	ASSERT_EQ(LOAD(test_frees), 3);
	ASSERT_EQ(mm_count(mm), 1);
}
