/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* get and put: GP-*, DV-5, MO-6. */
#include "test.h"

static struct mm_struct *mm;

static struct mmu_notifier *get(const struct mmu_notifier_ops *ops)
{
	struct mmu_notifier *mn = mmu_notifier_get(ops, mm);

	ASSERT(!IS_ERR_OR_NULL(mn));
	return mn;
}

/* 3.14-1, 3.14-5 */
TEST(GP_3_and_GP_4_get_allocates_and_registers)
{
	struct mmu_notifier *mn;

	mm = mm_alloc();
	mn = get(&ops_get);
	EXPECT_LOG("alloc");
	ASSERT_EQ(mn->ops, &ops_get);
	ASSERT_EQ(mn->mm, mm);
	ASSERT_EQ(mn->users, 1);
	ASSERT_EQ(mm_count(mm), 2);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("got.start", "got.end");
	mmu_notifier_put(mn);
	mmu_notifier_synchronize();
	EXPECT_LOG("free");
	ASSERT_EQ(mm_count(mm), 1);
}

/* 3.14-2 */
TEST(GP_1_get_finds_by_ops)
{
	static struct mmu_notifier_ops same_functions;
	struct mmu_notifier *mn, *other;

	mm = mm_alloc();
	mn = get(&ops_get);
	ASSERT_EQ(get(&ops_get), mn);
	ASSERT_EQ(mn->users, 2);
	ASSERT_EQ(mm_count(mm), 2);
	same_functions = ops_get;
	other = get(&same_functions);		/* the pointer counts, not what it points to */
	ASSERT_NE(other, mn);
	ASSERT_EQ(mm_count(mm), 3);
	EXPECT_LOG("alloc", "alloc");
}

TEST(GP_1_get_of_another_mm_is_another)
{
	struct mmu_notifier *mn;

	mm = mm_alloc();
	mn = get(&ops_get);
	mm = mm_alloc();
	ASSERT_NE(get(&ops_get), mn);
	ASSERT_EQ(mn->users, 1);
}

TEST(GP_1_users_do_not_overflow)
{
	struct mmu_notifier *mn;

	mm = mm_alloc();
	mn = get(&ops_get);
	mn->users = UINT_MAX - 1;
	ASSERT_EQ(get(&ops_get), mn);
	ASSERT_EQ(mn->users, UINT_MAX);
	ASSERT_EQ(mmu_notifier_get(&ops_get, mm), -EOVERFLOW);
	ASSERT_EQ(mn->users, UINT_MAX);
	ASSERT_EQ(mm_count(mm), 2);
	mn->users = 1;
	mmu_notifier_put(mn);
	mmu_notifier_synchronize();
	ASSERT_EQ(mm_count(mm), 1);
}

TEST(GP_1_newest_first_GP_2_finds_registered_ones)
{
	struct listener A = listener("A", &ops_kept), B = listener("B", &ops_kept);

	mm = mm_alloc();
	REGISTER(&A, mm);
	ASSERT_EQ(get(&ops_kept), &A.mn);
	ASSERT_EQ(A.mn.users, 2);
	REGISTER(&B, mm);
	ASSERT_EQ(get(&ops_kept), &B.mn);
	ASSERT_EQ(A.mn.users, 2);
	ASSERT_EQ(B.mn.users, 2);
	ASSERT_EQ(mm_count(mm), 3);
}

/* 4.2-2 */
TEST(GP_1_get_locked)
{
	struct mmu_notifier *mn;

	mm = mm_alloc();
	mmap_write_lock(mm);
	mn = mmu_notifier_get_locked(&ops_get, mm);
	ASSERT(!IS_ERR(mn));
	ASSERT_EQ(mmu_notifier_get_locked(&ops_get, mm), mn);
	mmap_write_unlock(mm);
	ASSERT_EQ(mn->users, 2);
}

static struct mmu_notifier *alloc_refuses(struct mm_struct *for_mm)
{
	ASSERT_EQ(for_mm, mm);
	note("refused");
	return ERR_PTR(-ENOSPC);
}

TEST(GP_3_error_of_alloc_comes_through)
{
	static const struct mmu_notifier_ops ops = { .alloc_notifier = alloc_refuses, .free_notifier = on_free };

	mm = mm_alloc();
	ASSERT_EQ(mmu_notifier_get(&ops, mm), -ENOSPC);
	EXPECT_LOG("refused");
	ASSERT_EQ(mm_count(mm), 1);
	ASSERT(mmap_write_trylock(mm));
}

static struct mmu_notifier *alloc_looks(struct mm_struct *for_mm)
{
	mmap_assert_write_locked(for_mm);
	return on_alloc(for_mm);
}

/* 4.1-7 */
TEST(GP_3_alloc_runs_with_the_lock)
{
	static const struct mmu_notifier_ops ops = { .alloc_notifier = alloc_looks, .free_notifier = on_free };

	mm = mm_alloc();
	get(&ops);
	expect_reports();
}

static pthread_t freeing_thread;

static void free_of_unregistered(struct mmu_notifier *mn)
{
	ASSERT_POISON(&mn->mm);
	mmap_assert_write_locked(mm);		/* 4.1-8 */
	freeing_thread = pthread_self();
	on_free(mn);
}

/* 3.14-3 */
TEST(GP_3_failed_registration_frees_at_once)
{
	static const struct mmu_notifier_ops ops = {
		.arch_invalidate_secondary_tlbs = on_arch, .invalidate_range_end = on_end,
		.alloc_notifier = on_alloc, .free_notifier = free_of_unregistered,
	};

	mm = mm_alloc();
	ASSERT_EQ(mmu_notifier_get(&ops, mm), -EINVAL);
	expect_reports("RG-2");
	EXPECT_LOG("alloc", "free");
	ASSERT(pthread_equal(freeing_thread, pthread_self()));
	ASSERT_EQ(mm_count(mm), 1);
	ASSERT(!mm_has_notifiers(mm));
}

/* GP-8, 3.14-4, 3.14-5 */
TEST(GP_5_and_GP_6_only_the_last_put_unlinks)
{
	struct listener A = listener("A", &ops_kept);

	mm = mm_alloc();
	REGISTER(&A, mm);
	get(&ops_kept);
	mmu_notifier_put(&A.mn);
	mmu_notifier_synchronize();
	ASSERT_EQ(A.mn.users, 1);
	ASSERT_EQ(mm_count(mm), 2);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("A.start", "A.end");
	mmu_notifier_put(&A.mn);
	ASSERT(hlist_unhashed(&A.mn.hlist));
	invalidate(mm, 0x1000, 0x2000);
	mmu_notifier_synchronize();
	EXPECT_LOG("A.free");			/* and no release */
	ASSERT_EQ(A.mn.users, 0);
	ASSERT_EQ(mm_count(mm), 1);
}

static void put_in_release(struct listener *self, const char *op)
{
	if (!strcmp(op, "release"))
		mmu_notifier_put(&self->mn);
}

TEST(GP_6_put_from_release)
{
	struct listener A = listener("A", &ops_kept), B = listener("B", &ops_kept);

	mm = mm_alloc();
	mmgrab(mm);
	A.in = B.in = put_in_release;
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	mmput(mm);
	mmu_notifier_synchronize();
	ASSERT_STR(test_log[0], "B.release");
	ASSERT_STR(test_log[1], "A.release");
	ASSERT(logged("A.free"));
	ASSERT(logged("B.free"));
	ASSERT_EQ(mm_count(mm), 1);
}

static struct mmu_notifier *alloc_garbage(struct mm_struct *for_mm)
{
	struct mmu_notifier *mn = on_alloc(for_mm);

	POISON(mn);
	return mn;
}

TEST(GP_3_alloc_need_not_initialise_anything)
{
	static const struct mmu_notifier_ops ops = {
		.alloc_notifier = alloc_garbage, .free_notifier = on_free, .test_young = on_test_young };
	struct mmu_notifier *mn;

	mm = mm_alloc();
	mn = get(&ops);
	ASSERT_EQ(mn->ops, &ops);
	ASSERT_EQ(mn->mm, mm);
	ASSERT_EQ(mn->users, 1);
	mmu_notifier_put(mn);
	mmu_notifier_synchronize();
	EXPECT_LOG("alloc", "free");
}

static struct gate in_release;

static void release_at_gate(struct listener *self, const char *op)
{
	(void)self;
	if (!strcmp(op, "release"))
		gate_pass(&in_release);
}

TEST(GP_2_finds_one_that_an_unregister_has_not_unlinked)
{
	struct listener A = listener("A", &ops_kept);
	struct thread *unregistering;

	mm = mm_alloc();
	A.in = release_at_gate;
	REGISTER(&A, mm);
	unregistering = spawn(do_unregister, &A);
	gate_wait(&in_release);
	ASSERT_EQ(get(&ops_kept), &A.mn);
	ASSERT_EQ(A.mn.users, 2);
	ASSERT_EQ(mm_count(mm), 2);
	gate_open(&in_release);
	join(unregistering);
	ASSERT_EQ(A.mn.users, 2);		/* UN-5 */
	ASSERT_EQ(mm_count(mm), 1);
	EXPECT_LOG("A.release");
}

/* GP-9: a new get does not find it, and makes another. */
TEST(GP_9_get_after_unlinking_makes_another)
{
	struct listener A = listener("A", &ops_get);
	struct mmu_notifier *mn;

	mm = mm_alloc();
	REGISTER(&A, mm);
	mmu_notifier_release(mm);		/* as mm exit does, with users left */
	EXPECT_LOG("A.release");
	ASSERT_EQ(A.mn.users, 1);
	mn = get(&ops_get);
	ASSERT_NE(mn, &A.mn);
	EXPECT_LOG("alloc");
	UNREGISTER(&A);
	mmu_notifier_put(mn);
	mmu_notifier_synchronize();
	EXPECT_LOG("free");
	ASSERT_EQ(mm_count(mm), 1);
}

static int count_in_free;

static void free_counts(struct mmu_notifier *mn)
{
	count_in_free = mm_count(mn->mm);
	on_free(mn);
}

static const struct mmu_notifier_ops ops_counting = { .alloc_notifier = on_alloc, .free_notifier = free_counts };

TEST(GP_7_mmdrop_comes_after_free)
{
	mm = mm_alloc();
	mmu_notifier_put(get(&ops_counting));
	mmu_notifier_synchronize();
	ASSERT_EQ(count_in_free, 2);
	ASSERT_EQ(mm_count(mm), 1);		/* DV-5: the drop is over, too */
}

TEST(GP_7_the_last_reference_is_the_puts)
{
	struct mm_struct *other = mm_alloc();
	struct listener W = listener("W", &ops_kept);
	struct gate gate = { 0 };
	struct thread *walker;

	W.in = stand_at_gate;
	W.arg = &gate;
	REGISTER(&W, other);
	walker = spawn(do_walk, other);		/* holds the grace period up */
	gate_wait(&gate);
	mm = mm_alloc();
	mmu_notifier_put(get(&ops_counting));
	mmput(mm);
	ASSERT_EQ(LOAD(test_frees), 0);
	ASSERT_EQ(mm_count(mm), 1);
	gate_open(&gate);
	join(walker);
	mmu_notifier_synchronize();
	ASSERT_EQ(count_in_free, 1);
}

TEST(GP_9_put_after_mm_exit)
{
	struct listener A = listener("A", &ops_kept);

	mm = mm_alloc();
	mmgrab(mm);
	REGISTER(&A, mm);
	get(&ops_kept);
	mmput(mm);
	EXPECT_LOG("A.release");
	ASSERT_EQ(A.mn.users, 2);
	ASSERT_EQ(mm_count(mm), 2);
	mmu_notifier_put(&A.mn);
	mmu_notifier_put(&A.mn);
	mmu_notifier_synchronize();
	EXPECT_LOG("A.free");
	ASSERT_EQ(mm_count(mm), 1);
}

TEST(DV_5_synchronize_waits_for_what_is_owed)
{
	mm = mm_alloc();
	for (int n = 1; n <= 50; n++) {
		for (int many = 0; many < n % 4; many++)
			mmu_notifier_put(get(&ops_get));
		STORE(test_log_end, 0);
		mmu_notifier_put(get(&ops_get));
		mmu_notifier_synchronize();
		ASSERT_EQ(mm_count(mm), 1);
	}
	ASSERT_EQ(LOAD(test_frees), 50 + 12 * 6 + 1 + 2);
}

static struct gate in_free;

static void free_at_gate(struct mmu_notifier *mn)
{
	(void)mn;
	gate_pass(&in_free);
	note("freed");
}

static void *synchronize_and_note(void *unused)
{
	mmu_notifier_synchronize();
	note("synchronized");
	return unused;
}

/* SY-1, DV-5: a free that is running is waited for, and so is one that is queued behind it, on another mm. */
TEST(DV_5_synchronize_waits_for_frees_of_all_mms)
{
	static const struct mmu_notifier_ops ops = { .free_notifier = free_at_gate };
	struct listener A = listener("A", &ops), B = listener("B", &ops_kept);
	struct mm_struct *other = mm_alloc();
	struct thread *caller;

	mm = mm_alloc();
	REGISTER(&A, mm);
	REGISTER(&B, other);
	mmu_notifier_put(&A.mn);
	gate_wait(&in_free);
	mmu_notifier_put(&B.mn);
	caller = spawn(synchronize_and_note, NULL);
	WAIT_FOR(LOAD(caller->done) || LOAD(caller->reason) != NOT_BLOCKED);
	ASSERT_NOT_DONE(caller);
	gate_open(&in_free);
	join(caller);
	EXPECT_LOG("freed", "B.free", "synchronized");
	ASSERT_EQ(mm_count(mm), 1);
	ASSERT_EQ(mm_count(other), 1);
}

static int allocs;

static struct mmu_notifier *alloc_quietly(struct mm_struct *for_mm)
{
	struct listener *self = malloc(sizeof(*self));

	(void)for_mm;
	*self = listener("got", NULL);
	__atomic_fetch_add(&allocs, 1, __ATOMIC_SEQ_CST);
	return &self->mn;
}

static void free_quietly(struct mmu_notifier *mn)
{
	__atomic_fetch_add(&test_frees, 1, __ATOMIC_SEQ_CST);
	free(container_of(mn, struct listener, mn));
}

static void *get_and_put(void *ops)
{
	for (int n = 0; n < 300; n++)
		mmu_notifier_put(get(ops));
	return NULL;
}

TEST(MO_6_counts_are_exact)
{
	static const struct mmu_notifier_ops ops = { .alloc_notifier = alloc_quietly, .free_notifier = free_quietly };
	struct thread *threads[3];

	mm = mm_alloc();
	for (int n = 0; n < 3; n++)
		threads[n] = spawn(get_and_put, (void *)&ops);
	for (int n = 0; n < 3; n++)
		join(threads[n]);
	mmu_notifier_synchronize();
	ASSERT_EQ(LOAD(test_frees), LOAD(allocs));
	ASSERT_EQ(mm_count(mm), 1);
}

/* A put after unregister owes nothing any more. */
TEST(DV_9_put_after_unregister)
{
	struct listener A = listener("A", &ops_kept);

	mm = mm_alloc();
	mmgrab(mm);
	REGISTER(&A, mm);
	UNREGISTER(&A);
	mmu_notifier_put(&A.mn);
	mmu_notifier_synchronize();
	EXPECT_LOG("A.release");
	ASSERT_EQ(mm_count(mm), 2);
	expect_reports("DV-9 mmu_notifier_put");
}

static struct listener registered;
static struct mmu_notifier *alloc_registered(struct mm_struct *mm) { (void)mm; return &registered.mn; }

/* A get whose alloc_notifier returns a registered notifier leaves that one as it is. */
TEST(DV_9_get_of_a_registered_notifier_changes_nothing)
{
	static const struct mmu_notifier_ops ops = { .alloc_notifier = alloc_registered, .free_notifier = on_free };

	mm = mm_alloc();
	registered = listener("A", &ops_all);
	REGISTER(&registered, mm);
	ASSERT_EQ(PTR_ERR(mmu_notifier_get(&ops, mm)), -EINVAL);
	expect_reports("DV-9");
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("A.start", "A.end");
	UNREGISTER(&registered);
	EXPECT_LOG("A.release");
}
