/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is reported, how, and that nothing else happens: DV-3, DV-9, DV-14, DV-17, GP-5, RG-1, II-1, II-4, UN-1. */
#include "test.h"

static struct mm_struct *mm;

/* --- DV-9: once too often, or never */

/* RG-10 */
TEST(DV_9_double_register)
{
	struct listener A = listener("A", &ops_all), B = listener("B", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	ASSERT_EQ(mmu_notifier_register(&A.mn, mm), -EINVAL);
	expect_reports("DV-9 mmu_notifier_register");
	ASSERT_EQ(mmu_notifier_register(&B.mn, mm), -EINVAL);
	expect_reports("DV-9 mmu_notifier_register");
	ASSERT_EQ(mm_count(mm), 3);
	ASSERT_EQ(A.mn.users, 1);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("B.start", "A.start", "B.end", "A.end");
	UNREGISTER(&A);
	UNREGISTER(&B);
	ASSERT_EQ(mm_count(mm), 1);
}

/* Inserting w once more is refused, and w is as it was. */
static void expect_insert_refused(struct watch *w, unsigned long start, unsigned long length)
{
	struct mmu_interval_notifier before = w->sub;
	int count = mm_count(mm);

	ASSERT_EQ(mmu_interval_notifier_insert(&w->sub, mm, start, length, &watch_ops), -EINVAL);
	expect_reports("DV-9 mmu_interval_notifier_insert");
	ASSERT(!memcmp(&w->sub, &before, sizeof(before)));
	ASSERT_EQ(mm_count(mm), count);
}

/* II-10 */
TEST(DV_9_double_insert_same_range)
{
	struct watch a = watch("a"), b = watch("b");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	INSERT(&b, mm, 0x1000, 0x1000);
	expect_insert_refused(&a, 0x1000, 0x1000);
	expect_insert_refused(&b, 0x1000, 0x1000);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 3", "b.inv 3");
	REMOVE(&a);
	REMOVE(&b);
	ASSERT_EQ(mm_count(mm), 1);
}

TEST(DV_9_double_insert_another_range)
{
	struct watch a = watch("a");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	expect_insert_refused(&a, 0x8000, 0x2000);
	invalidate(mm, 0x8000, 0x9000);
	EXPECT_LOG();
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 3");
	REMOVE(&a);
	ASSERT_EQ(mm_count(mm), 1);
}

TEST(DV_9_double_insert_of_a_deferred_one)
{
	struct watch a = watch("a"), b = watch("b");
	struct mmu_notifier_range range;

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	INSERT(&b, mm, 0x5000, 0x1000);
	expect_insert_refused(&b, 0x5000, 0x1000);
	expect_insert_refused(&b, 0x9000, 0x1000);
	range_end(&range);
	invalidate(mm, 0x5000, 0x6000);
	EXPECT_LOG("a.inv 3", "b.inv 5");
}

/* Removing w is reported and does nothing. */
static void expect_remove_ignored(struct watch *w)
{
	int count = mm_count(mm);

	REMOVE(w);
	expect_reports("DV-9 mmu_interval_notifier_remove");
	ASSERT_EQ(mm_count(mm), count);
}

TEST(DV_9_remove_of_a_never_inserted)
{
	struct watch a = watch("a"), zero = watch("zero");

	mm = mm_alloc();
	memset(&zero.sub, 0, sizeof(zero.sub));
	zero.sub.mm = mm;
	expect_remove_ignored(&zero);		/* an mm that has never had one */
	INSERT(&a, mm, 0x1000, 0x1000);
	expect_remove_ignored(&zero);
	invalidate(mm, 0, ULONG_MAX);
	EXPECT_LOG("a.inv 3");
	REMOVE(&a);
}

TEST(DV_9_remove_after_a_failed_insert)
{
	struct watch a = watch("a"), bad = watch("bad");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	ASSERT_EQ(mmu_interval_notifier_insert(&bad.sub, mm, 0xffffffffffff0000, 0x80000000, &watch_ops), -EOVERFLOW);
	expect_remove_ignored(&bad);
	ASSERT_EQ(mmu_interval_notifier_insert(&bad.sub, mm, 0x1000, 0, &watch_ops), -EOVERFLOW);
	expect_remove_ignored(&bad);
	REMOVE(&a);
}

TEST(DV_9_remove_after_a_failed_insert_in_a_busy_period)
{
	struct watch a = watch("a"), bad = watch("bad");
	struct mmu_notifier_range range;

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	ASSERT_EQ(mmu_interval_notifier_insert(&bad.sub, mm, 0x1000, 0, &watch_ops), -EOVERFLOW);
	expect_remove_ignored(&bad);
	range_end(&range);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 3", "a.inv 5");
}

/* IR-9 */
TEST(DV_9_second_remove)
{
	struct watch a = watch("a"), b = watch("b"), c = watch("c");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	INSERT(&b, mm, 0x1000, 0x1000);
	INSERT(&c, mm, 0x3000, 0x1000);
	REMOVE(&b);
	expect_remove_ignored(&b);
	expect_remove_ignored(&b);
	invalidate(mm, 0, ULONG_MAX);
	EXPECT_LOG("a.inv 3", "c.inv 3");
	REMOVE(&a);
	expect_remove_ignored(&a);
	REMOVE(&c);
	expect_remove_ignored(&c);		/* the tree is empty */
}

/* IR-9 */
TEST(DV_9_second_remove_of_a_deferred_insert)
{
	struct watch a = watch("a"), b = watch("b");
	struct mmu_notifier_range range;

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	INSERT(&b, mm, 0x1000, 0x1000);
	REMOVE(&b);
	expect_remove_ignored(&b);
	range_end(&range);
	expect_remove_ignored(&b);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 3", "a.inv 5");
}

/* IR-9 */
TEST(DV_9_second_remove_while_the_first_waits)
{
	struct watch a = watch("a");
	struct mmu_notifier_range range;
	struct thread *remover;

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	remover = spawn(do_remove, &a);
	wait_until_blocked(remover, MMU_NOTIFIER_WAIT_REMOVE);
	expect_remove_ignored(&a);
	range_end(&range);
	join(remover);
	ASSERT_EQ(mm_count(mm), 1);
}

/* UN-3 */
TEST(DV_9_unregister_of_a_never_registered)
{
	struct listener A = listener("A", &ops_all), zero = { .name = "zero" };

	mm = mm_alloc();
	zero.mn.ops = &ops_all;
	mmu_notifier_unregister(&zero.mn, mm);
	expect_reports("DV-9 mmu_notifier_unregister");
	ASSERT_EQ(mm_count(mm), 1);
	REGISTER(&A, mm);
	mmu_notifier_unregister(&zero.mn, mm);
	expect_reports("DV-9 mmu_notifier_unregister");
	ASSERT_EQ(mm_count(mm), 2);
	EXPECT_LOG();
	UNREGISTER(&A);
}

TEST(DV_9_second_unregister)
{
	struct listener A = listener("A", &ops_all), B = listener("B", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	UNREGISTER(&A);
	mmu_notifier_unregister(&A.mn, mm);
	expect_reports("DV-9 mmu_notifier_unregister");
	EXPECT_LOG("A.release");
	ASSERT_EQ(mm_count(mm), 2);
	UNREGISTER(&B);
}

TEST(DV_9_what_mm_exit_unlinked_is_still_there)
{
	struct listener A = listener("A", &ops_kept), B = listener("B", &ops_kept);

	mm = mm_alloc();
	mmgrab(mm);
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	mmput(mm);
	UNREGISTER(&A);
	mmu_notifier_put(&B.mn);
	mmu_notifier_synchronize();
	expect_reports();
	ASSERT_EQ(mm_count(mm), 1);
	mmu_notifier_unregister(&A.mn, mm);	/* but not twice */
	expect_reports("DV-9 mmu_notifier_unregister");
	ASSERT_EQ(mm_count(mm), 1);
}

/* GP-10 */
TEST(GP_5_extra_put)
{
	struct listener A = listener("A", &ops_kept);

	mm = mm_alloc();
	REGISTER(&A, mm);
	mmu_notifier_put(&A.mn);
	mmu_notifier_synchronize();
	mmu_notifier_put(&A.mn);
	expect_reports("GP-5 mmu_notifier_put");
	mmu_notifier_synchronize();
	EXPECT_LOG("A.free");
	ASSERT_EQ(A.mn.users, 0);
	ASSERT_EQ(mm_count(mm), 1);
}

/* --- registration at the wrong time */

TEST(RG_1_register_without_the_lock_warns)
{
	struct listener A = listener("A", &ops_all), B = listener("B", &ops_all);

	mm = mm_alloc();
	ASSERT_EQ(__mmu_notifier_register(&A.mn, mm), 0);
	expect_reports("RG-1 __mmu_notifier_register");
	mmap_read_lock(mm);			/* read is not enough */
	ASSERT_EQ(__mmu_notifier_register(&B.mn, mm), 0);
	expect_reports("RG-1 __mmu_notifier_register");
	mmap_read_unlock(mm);
	ASSERT_EQ(mm_count(mm), 3);
}

/* 4.2-2 */
TEST(GP_1_get_locked_without_the_lock_warns)
{
	struct listener A = listener("A", &ops_kept);

	mm = mm_alloc();
	REGISTER(&A, mm);
	ASSERT_EQ(mmu_notifier_get_locked(&ops_kept, mm), &A.mn);
	expect_reports("GP-1 mmu_notifier_get_locked");
	ASSERT_EQ(A.mn.users, 2);
}

TEST(II_1_insert_locked_without_the_lock_warns)
{
	struct watch a = watch("a"), b = watch("b");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	ASSERT_EQ(mmu_interval_notifier_insert_locked(&b.sub, mm, 0x1000, 0x1000, &watch_ops), 0);
	expect_reports("II-1 mmu_interval_notifier_insert_locked");
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 3", "b.inv 3");
}

TEST(DV_3_mmap_assertions_warn)
{
	mm = mm_alloc();
	mmap_assert_locked(mm);
	expect_reports("DV-3 mmap_assert_locked");
	mmap_assert_write_locked(mm);
	expect_reports("DV-3 mmap_assert_write_locked");
}

/* An mm whose users are gone. */
static void set_up_dead(void)
{
	mm = mm_alloc();
	mmgrab(mm);
	mmput(mm);
}

TEST(RG_1_register_on_a_dead_mm)
{
	struct listener A = listener("A", &ops_all);
	struct watch a = watch("a");

	set_up_dead();
	EXPECT_BUG("RG-1", mmu_notifier_register(&A.mn, mm));
	EXPECT_BUG_IN("RG-1", "mmu_notifier_get_locked", "", (void)!mmu_notifier_get(&ops_get, mm));
	/* II-4: the insert would have to turn intervals on first. */
	EXPECT_BUG("RG-1", mmu_interval_notifier_insert(&a.sub, mm, 0x1000, 0x1000, &watch_ops));
}

static void *do_register(void *listener)
{
	REGISTER((struct listener *)listener, mm);
	return NULL;
}

static void *do_insert(void *watch)
{
	INSERT((struct watch *)watch, mm, 0x1000, 0x1000);
	return NULL;
}

/* The address space ends while the registration waits for its locks. */
static void end_meanwhile(void *(*call)(void *), void *arg)
{
	struct thread *registrar;

	mmu_notifier_rmap_read_lock(mm);
	registrar = spawn(call, arg);
	wait_until_blocked(registrar, MMU_NOTIFIER_WAIT_RMAP_LOCK);
	mmput(mm);
	mmu_notifier_rmap_read_unlock(mm);
	join(registrar);
}

TEST(RG_1_users_that_vanish_meanwhile)
{
	struct listener A = listener("A", &ops_all);
	struct watch a = watch("a");

	mm = mm_alloc();
	mmgrab(mm);
	EXPECT_BUG_IN("RG-1", "mmu_notifier_register", "", end_meanwhile(do_register, &A));
	EXPECT_BUG_IN("RG-1", "mmu_interval_notifier_insert", "", end_meanwhile(do_insert, &a));
}

TEST(II_4_insert_on_a_dead_mm)
{
	struct watch a = watch("a"), b = watch("b");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	mmput(mm);
	ASSERT_EQ(mmu_interval_notifier_insert(&b.sub, mm, 0x1000, 0x1000, &watch_ops), -EINVAL);
	expect_reports("II-4 mmu_interval_notifier_insert");
	ASSERT_EQ(mmu_interval_notifier_insert(&b.sub, mm, 0x1000, 0x1000, &watch_ops), -EINVAL);
	expect_reports("II-4 mmu_interval_notifier_insert");
	ASSERT_EQ(mm_count(mm), 1);
	REMOVE(&a);
}

TEST(RG_2_einval_always_warning_once)
{
	static const struct mmu_notifier_ops ops = {
		.arch_invalidate_secondary_tlbs = on_arch, .invalidate_range_start = on_start };
	struct listener A = listener("A", &ops);

	mm = mm_alloc();
	for (int n = 0; n < 3; n++)
		ASSERT_EQ(mmu_notifier_register(&A.mn, mm), -EINVAL);
	expect_reports("RG-2 mmu_notifier_register");
	ASSERT(mmu_notifier_report_rule_count("RG-2") >= 1);
}

TEST(UN_1_unregister_without_a_reference)
{
	struct listener A = listener("A", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	atomic_set(&mm->mm_count, 0);
	EXPECT_BUG("UN-1", mmu_notifier_unregister(&A.mn, mm));
}

/* --- DV-14 */

TEST(DV_14_null_subscriptions)
{
	mm = mm_alloc();
	EXPECT_BUG("DV-14", mmu_notifier_register(NULL, mm));	/* RG-5's NULL is the library's own */
	EXPECT_BUG("DV-14", mmu_notifier_unregister(NULL, mm));
	EXPECT_BUG("DV-14", mmu_notifier_put(NULL));
	EXPECT_BUG("DV-14", mmu_interval_read_begin(NULL));
	EXPECT_BUG("DV-14", mmu_interval_notifier_remove(NULL));
	EXPECT_BUG("DV-14", mmu_interval_notifier_insert(NULL, mm, 0x1000, 0x1000, &watch_ops));
	mmap_write_lock(mm);
	EXPECT_BUG("DV-14", __mmu_notifier_register(NULL, mm));
	EXPECT_BUG("DV-14", mmu_interval_notifier_insert_locked(NULL, mm, 0x1000, 0x1000, &watch_ops));
	EXPECT_BUG("DV-14", mmu_interval_set_seq(NULL, 1));
	EXPECT_BUG("DV-14", mmu_interval_read_retry(NULL, 1));
	EXPECT_BUG("DV-14", mmu_interval_check_retry(NULL, 1));
}

TEST(DV_14_null_ops)
{
	struct listener A = listener("A", NULL);
	struct watch a = watch("a");

	mm = mm_alloc();
	EXPECT_BUG("DV-14", mmu_notifier_register(&A.mn, mm));
	EXPECT_BUG("DV-14", (void)!mmu_notifier_get(NULL, mm));
	EXPECT_BUG("DV-14", mmu_interval_notifier_insert(&a.sub, mm, 0x1000, 0x1000, NULL));
	mmap_write_lock(mm);
	EXPECT_BUG("DV-14", __mmu_notifier_register(&A.mn, mm));
	EXPECT_BUG("DV-14", (void)!mmu_notifier_get_locked(NULL, mm));
	EXPECT_BUG("DV-14", mmu_interval_notifier_insert_locked(&a.sub, mm, 0x1000, 0x1000, NULL));
}

TEST(DV_14_null_mm_given_to_a_driver_call)
{
	struct listener A = listener("A", &ops_all);
	struct watch a = watch("a");

	EXPECT_BUG("DV-14", mmu_notifier_register(&A.mn, NULL));
	EXPECT_BUG("DV-14", __mmu_notifier_register(&A.mn, NULL));
	EXPECT_BUG("DV-14", mmu_notifier_unregister(&A.mn, NULL));
	EXPECT_BUG("DV-14", (void)!mmu_notifier_get(&ops_get, NULL));
	EXPECT_BUG("DV-14", (void)!mmu_notifier_get_locked(&ops_get, NULL));
	EXPECT_BUG("DV-14", mmu_interval_notifier_insert(&a.sub, NULL, 0x1000, 0x1000, &watch_ops));
	EXPECT_BUG("DV-14", mmu_interval_notifier_insert_locked(&a.sub, NULL, 0x1000, 0x1000, &watch_ops));
}

TEST(DV_14_null_mm_given_to_an_event)
{
	const pte_t pte = { .pte = 0 };

	EXPECT_BUG("DV-14", mm_has_notifiers(NULL));
	EXPECT_BUG("DV-14", __mmu_notifier_release(NULL));
	EXPECT_BUG("DV-14", __mmu_notifier_clear_flush_young(NULL, 0, 1));
	EXPECT_BUG("DV-14", __mmu_notifier_clear_young(NULL, 0, 1));
	EXPECT_BUG("DV-14", __mmu_notifier_test_young(NULL, 0));
	EXPECT_BUG("DV-14", __mmu_notifier_change_pte(NULL, 0, pte));
	EXPECT_BUG("DV-14", __mmu_notifier_arch_invalidate_secondary_tlbs(NULL, 0, 1));
	EXPECT_BUG("DV-14", __mmu_notifier_subscriptions_destroy(NULL));
	EXPECT_BUG("DV-14", mmu_notifier_test_young(NULL, 0));
	EXPECT_BUG("DV-14", mmu_notifier_clear_young(NULL, 0, 1));
	EXPECT_BUG("DV-14", mmu_notifier_clear_flush_young(NULL, 0, 1));
	EXPECT_BUG("DV-14", mmu_notifier_change_pte(NULL, 0, pte));
	EXPECT_BUG("DV-14", mmu_notifier_arch_invalidate_secondary_tlbs(NULL, 0, 1));
}

TEST(DV_14_null_range)
{
	struct mmu_notifier_range range = make_range(NULL, 0x1000, 0x2000);

	EXPECT_BUG("DV-14", __mmu_notifier_invalidate_range_start(NULL));
	EXPECT_BUG("DV-14", __mmu_notifier_invalidate_range_end(NULL));
	EXPECT_BUG("DV-14", __mmu_notifier_invalidate_range_start(&range));
	EXPECT_BUG("DV-14", __mmu_notifier_invalidate_range_end(&range));
	EXPECT_BUG("DV-14", mmu_notifier_invalidate_range_start(NULL));
	EXPECT_BUG("DV-14", mmu_notifier_invalidate_range_end(NULL));
	EXPECT_BUG("DV-14", mmu_notifier_invalidate_range_start(&range));
	EXPECT_BUG("DV-14", (void)!mmu_notifier_invalidate_range_start_nonblock(&range));
	EXPECT_BUG("DV-14", mmu_notifier_invalidate_range_end(&range));
}

TEST(DV_14_null_mm_given_to_the_rest)
{
	EXPECT_BUG("DV-14", mmget(NULL));
	EXPECT_BUG("DV-14", mmget_not_zero(NULL));
	EXPECT_BUG("DV-14", mmput(NULL));
	EXPECT_BUG("DV-14", mmput_async(NULL));
	EXPECT_BUG("DV-14", mmgrab(NULL));
	EXPECT_BUG("DV-14", mmdrop(NULL));
	EXPECT_BUG("DV-14", get_task_mm(NULL));
	EXPECT_BUG("DV-14", kthread_use_mm(NULL));
	EXPECT_BUG("DV-14", mmap_read_lock(NULL));
	EXPECT_BUG("DV-14", mmap_write_lock(NULL));
	EXPECT_BUG("DV-14", mmap_read_unlock(NULL));
	EXPECT_BUG("DV-14", mmap_write_unlock(NULL));
	EXPECT_BUG("DV-14", mmap_assert_locked(NULL));
	EXPECT_BUG("DV-14", mmu_notifier_rmap_read_lock(NULL));
	EXPECT_BUG("DV-14", mmu_notifier_rmap_write_lock(NULL));
}

TEST(DV_14_null_mm_given_to_locks_and_inlines)
{
	struct mmu_notifier_range range;

	EXPECT_BUG("DV-14", (void)!mmap_read_trylock(NULL));
	EXPECT_BUG("DV-14", (void)!mmap_write_trylock(NULL));
	EXPECT_BUG("DV-14", (void)!mmap_write_lock_killable(NULL));
	EXPECT_BUG("DV-14", (void)!mmap_read_lock_killable(NULL));
	EXPECT_BUG("DV-14", mmap_write_downgrade(NULL));
	EXPECT_BUG("DV-14", mmap_assert_write_locked(NULL));
	EXPECT_BUG("DV-14", mmu_notifier_rmap_read_unlock(NULL));
	EXPECT_BUG("DV-14", mmu_notifier_rmap_write_unlock(NULL));
	EXPECT_BUG("DV-14", kthread_unuse_mm(NULL));
	EXPECT_BUG("DV-14", mmu_notifier_release(NULL));
	EXPECT_BUG("DV-14", mmu_notifier_subscriptions_destroy(NULL));
	EXPECT_BUG("DV-14", mmu_notifier_subscriptions_init(NULL));
	EXPECT_BUG("DV-14", mmu_notifier_range_init(NULL, MMU_NOTIFY_CLEAR, 0, NULL, 0, 1));
	EXPECT_BUG("DV-14", (void)!mmu_notifier_range_blockable(NULL));
	memset(&range, 0, sizeof(range));
	EXPECT_BUG("DV-14", mmu_notifier_invalidate_range_start(&range));
}

/* The mm that an object names, where the call takes it from there. */
TEST(DV_14_null_mm_in_an_object)
{
	struct mmu_notifier counted = { .ops = &ops_kept, .users = 1 };
	struct mmu_interval_notifier zero = { .ops = &watch_ops };

	EXPECT_BUG("DV-14", mmu_notifier_put(&counted));
	EXPECT_BUG("DV-14", mmu_interval_notifier_remove(&zero));
	EXPECT_BUG("DV-14", mmu_interval_read_begin(&zero));
}

static const struct mmu_notifier_ops ops_no_alloc = { .free_notifier = on_free_kept }, ops_no_free = { .release = on_release };

TEST(DV_14_ops_that_get_and_put_cannot_do_without)
{
	struct listener A = listener("A", &ops_no_free);

	mm = mm_alloc();
	EXPECT_BUG_IN("DV-14", "mmu_notifier_get_locked", "alloc_notifier is NULL", (void)!mmu_notifier_get(&ops_no_alloc, mm));
	REGISTER(&A, mm);
	EXPECT_BUG_IN("GP-7", "mmu_notifier_put", "free_notifier", mmu_notifier_put(&A.mn));
}

static struct mmu_notifier *alloc_null(struct mm_struct *for_mm)
{
	(void)for_mm;
	return NULL;
}

TEST(DV_14_alloc_notifier_returns_null)
{
	static const struct mmu_notifier_ops ops = { .alloc_notifier = alloc_null, .free_notifier = on_free };

	mm = mm_alloc();
	EXPECT_BUG_IN("DV-14", "mmu_notifier_get_locked", "alloc_notifier", (void)!mmu_notifier_get(&ops, mm));
}

/* --- DV-3, DV-17: the reports themselves */

static void warn_once_more(void)
{
	mm = mm_alloc();
	mmap_assert_locked(mm);
}

TEST(DV_3_default_handler_writes_one_line)
{
	struct capture warning;

	CAPTURE(&warning, warn_once_more());
	ASSERT_EQ(warning.status, 0);
	if (!test_has_line(warning.text, "warning", "DV-3", "mmap_assert_locked", ""))
		FAIL("stderr: %s", warning.text);
	ASSERT_EQ(strchr(warning.text, '\n'), warning.text + strlen(warning.text) - 1);
}

static void refuse_by_default_handler(void)
{
	static const struct mmu_notifier_ops ops = { .invalidate_range_start = on_start };
	struct listener A = listener("A", &ops);
	struct mmu_notifier_range range;

	mm = mm_alloc();
	REGISTER(&A, mm);
	A.returns = -EAGAIN;
	range = make_range(mm, 0x1000, 0x2000);
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);	/* information only (HS-5) */
	A.returns = -ENOMEM;
	ASSERT_EQ(range_start_nonblock(&range), -ENOMEM);	/* and a warning */
}

TEST(DV_3_default_handler_drops_information)
{
	struct capture warning;

	CAPTURE(&warning, refuse_by_default_handler());
	ASSERT_EQ(warning.status, 0);
	if (!test_has_line(warning.text, "warning", "HS-5", "mmu_notifier_invalidate_range_start", "-12"))
		FAIL("stderr: %s", warning.text);
	ASSERT_EQ(strchr(warning.text, '\n'), warning.text + strlen(warning.text) - 1);
}

static void write_to_stderr(const struct mmu_notifier_report *report, void *data)
{
	dprintf(STDERR_FILENO, "%s %s %s %d\n", (const char *)data, report->rule, report->function, report->kind);
}

static void bug_with_a_handler(void)
{
	mmu_notifier_set_report_handler(write_to_stderr, "mine:");
	mmu_notifier_put(NULL);
}

TEST(DV_3_a_bug_goes_to_the_handler_then_aborts)
{
	struct capture bug;

	CAPTURE(&bug, bug_with_a_handler());
	ASSERT(WIFSIGNALED(bug.status) && WTERMSIG(bug.status) == SIGABRT);
	ASSERT_STR(bug.text, "mine: DV-14 mmu_notifier_put 2\n");
}

static void warn_handled_then_default(void)
{
	mmu_notifier_set_report_handler(write_to_stderr, "mine:");
	warn_once_more();
	mmu_notifier_set_report_handler(NULL, NULL);
	warn_once_more();
}

TEST(DV_3_handler_can_be_set_and_reset)
{
	static const char mine[] = "mine: DV-3 mmap_assert_locked 1\n";
	struct capture both;

	CAPTURE(&both, warn_handled_then_default());
	ASSERT_EQ(both.status, 0);
	ASSERT(!strncmp(both.text, mine, sizeof(mine) - 1));
	ASSERT(test_has_line(both.text, "warning", "DV-3", "mmap_assert_locked", ""));
}

TEST(DV_3_counters)
{
	unsigned long warnings = mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN);

	ASSERT_EQ(mmu_notifier_report_rule_count("DV-3"), 0);
	warn_once_more();
	warn_once_more();
	expect_reports("DV-3", "DV-3");
	ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN), warnings + 2);
	ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_BUG), 0);
	ASSERT_EQ(mmu_notifier_report_rule_count("DV-3"), 2);
	ASSERT_EQ(mmu_notifier_report_rule_count("XX-1"), 0);
}

static const struct mmu_notifier_ops ops_start = { .invalidate_range_start = on_start };

TEST(HS_5_information_report)
{
	struct listener A = listener("A", &ops_start);
	struct mmu_notifier_range range;

	mm = mm_alloc();
	REGISTER(&A, mm);
	A.returns = -EAGAIN;
	range = make_range(mm, 0x1000, 0x2000);
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	expect_infos("HS-5 mmu_notifier_invalidate_range_start");
	ASSERT_EQ(last_report()->kind, MMU_NOTIFIER_REPORT_INFO);
	ASSERT_EQ(last_report()->value, -EAGAIN);
	ASSERT_EQ(last_report()->address, on_start);
	ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_INFO), 1);
}

static void misuse_inside(struct listener *self, const char *op)
{
	(void)self;
	(void)op;
	mmu_notifier_put(self->arg);
}

TEST(DV_3_reports_name_the_callback)
{
	struct listener A = listener("A", &ops_kept);
	struct mmu_notifier unused = { .ops = &ops_kept };

	mm = mm_alloc();
	unused.mm = mm;
	REGISTER(&A, mm);
	A.in = misuse_inside;
	A.arg = &unused;
	do_walk(mm);
	expect_reports("GP-5 mmu_notifier_put");
	ASSERT_STR(last_report()->callback, "test_young");
	mmu_notifier_put(&unused);
	expect_reports("GP-5 mmu_notifier_put");
	ASSERT_STR(last_report()->callback, "");
}

static void use_the_library(const struct mmu_notifier_report *report, void *data)
{
	struct watch w = watch("w");

	test_on_report(report, data);
	INSERT(&w, mm, 0x8000, 0x1000);
	ASSERT_EQ(READ_BEGIN(&w) & 1, 1);
	REMOVE(&w);
	if (!data)
		return;
	ASSERT_EQ(mmu_notifier_get(&ops_kept, mm), data);
	mmu_notifier_put(data);
}

TEST(DV_17_a_handler_may_call_the_library)
{
	struct listener A = listener("A", &ops_kept);
	struct watch a = watch("a"), zero = watch("zero");

	mm = mm_alloc();
	REGISTER(&A, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	memset(&zero.sub, 0, sizeof(zero.sub));
	zero.sub.mm = mm;
	mmu_notifier_set_report_handler(use_the_library, &A.mn);
	REMOVE(&zero);
	expect_reports("DV-9");
	mmu_notifier_set_report_handler(use_the_library, NULL);	/* register may report with its mmap_lock held */
	ASSERT_EQ(mmu_notifier_register(&A.mn, mm), -EINVAL);
	expect_reports("DV-9");
	ASSERT_EQ(mm_count(mm), 3);
}

TEST(DV_17_no_lock_of_the_mm_is_held_in_a_report_of_put)
{
	struct listener A = listener("A", &ops_kept);
	struct mmu_notifier unused = { .ops = &ops_kept };

	mm = mm_alloc();
	unused.mm = mm;
	REGISTER(&A, mm);
	mmu_notifier_set_report_handler(use_the_library, &A.mn);
	mmu_notifier_put(&unused);
	expect_reports("GP-5 mmu_notifier_put");
	ASSERT_EQ(A.mn.users, 1);
}

static void misuse_and_step_down(const struct mmu_notifier_report *report, void *data)
{
	test_on_report(report, data);
	if (!data)
		return;
	mmu_notifier_set_report_handler(misuse_and_step_down, NULL);
	mmap_assert_locked(mm);			/* a report inside of a report */
	mmu_notifier_set_report_handler(test_on_report, NULL);
}

TEST(DV_17_a_handler_may_cause_reports_and_replace_itself)
{
	mm = mm_alloc();
	mmu_notifier_set_report_handler(misuse_and_step_down, mm);
	mmap_assert_write_locked(mm);
	expect_reports("DV-3 mmap_assert_write_locked", "DV-3 mmap_assert_locked");
	mmap_assert_locked(mm);
	expect_reports("DV-3 mmap_assert_locked");
}
