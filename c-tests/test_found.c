// SPDX-License-Identifier: MIT OR Apache-2.0
/* What tests and reviews have found, one case each; kept so that it stays found. */
#include "test.h"

#include <linux/rcupdate.h>

static int releases, starts[2], ends, frees;

static void count_release(struct mmu_notifier *mn, struct mm_struct *mm) { (void)mn; (void)mm; releases++; }
static void count_free(struct mmu_notifier *mn) { (void)mn; frees++; }
static int count_start_0(struct mmu_notifier *mn, const struct mmu_notifier_range *r) { (void)mn; (void)r; starts[0]++; return 0; }
static int count_start_1(struct mmu_notifier *mn, const struct mmu_notifier_range *r) { (void)mn; (void)r; starts[1]++; return 0; }
static void count_end(struct mmu_notifier *mn, const struct mmu_notifier_range *r) { (void)mn; (void)r; ends++; }

static bool take_seq(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *r, unsigned long seq)
{
	(void)r;
	mmu_interval_set_seq(sub, seq);
	return true;
}

static const struct mmu_interval_notifier_ops interval_ops = { .invalidate = take_seq };

static struct mmu_notifier_range range_of(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	struct mmu_notifier_range range;

	mmu_notifier_range_init_owner(&range, MMU_NOTIFY_CLEAR, 0, mm, start, end, NULL);
	return range;
}

/* A put after unregister owes nothing any more (D26). */
TEST(DV_9_put_after_unregister)
{
	static const struct mmu_notifier_ops ops = { .free_notifier = count_free };
	static struct mmu_notifier mn = { .ops = &ops };
	struct mm_struct *mm = mm_alloc();

	mmgrab(mm);
	ASSERT_EQ(mmu_notifier_register(&mn, mm), 0);
	mmu_notifier_unregister(&mn, mm);
	mmu_notifier_put(&mn);
	mmu_notifier_synchronize();
	ASSERT_EQ(frees, 0);
	ASSERT_EQ(atomic_read(&mm->mm_count), 2);
	expect_reports("DV-9 mmu_notifier_put");
	mmput(mm);
	mmdrop(mm);
}

static struct mmu_notifier registered;
static struct mmu_notifier *alloc_registered(struct mm_struct *mm) { (void)mm; return &registered; }

/* A get whose alloc_notifier returns a registered notifier leaves that one as it is (D28). */
TEST(DV_9_get_of_a_registered_notifier_changes_nothing)
{
	static const struct mmu_notifier_ops own = { .invalidate_range_start = count_start_0 };
	static const struct mmu_notifier_ops other = { .invalidate_range_start = count_start_1,
		.alloc_notifier = alloc_registered, .free_notifier = count_free };
	struct mm_struct *mm = mm_alloc();
	struct mmu_notifier_range range = range_of(mm, 0x1000, 0x2000);

	registered.ops = &own;
	ASSERT_EQ(mmu_notifier_register(&registered, mm), 0);
	ASSERT_EQ(PTR_ERR(mmu_notifier_get(&other, mm)), -EINVAL);
	expect_reports("DV-9");
	mmap_read_lock(mm);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	mmap_read_unlock(mm);
	ASSERT_EQ(starts[0], 1);
	ASSERT_EQ(starts[1], 0);
	ASSERT_EQ(frees, 0);
	mmu_notifier_unregister(&registered, mm);
	mmput(mm);
}

static int end_too_many(struct mmu_notifier *mn, const struct mmu_notifier_range *r)
{
	struct mmu_notifier_range copy = *r;

	(void)mn;
	mmu_notifier_invalidate_range_end(&copy);
	ends = 0;
	return -EAGAIN;
}

/* Somebody's end too many is reported, and does not replace the result of a start, nor its ends (HS-7). */
TEST(DV_8_an_end_too_many_does_not_change_a_refusal)
{
	static const struct mmu_notifier_ops refuses = { .invalidate_range_start = end_too_many };
	static const struct mmu_notifier_ops hears = { .invalidate_range_end = count_end };
	static struct mmu_notifier a = { .ops = &hears }, b = { .ops = &refuses };
	static struct mmu_interval_notifier interval;
	struct mm_struct *mm = mm_alloc();
	struct mmu_notifier_range range = range_of(mm, 0, 0x1000);

	ASSERT_EQ(mmu_notifier_register(&a, mm), 0);
	ASSERT_EQ(mmu_notifier_register(&b, mm), 0);
	ASSERT_EQ(mmu_interval_notifier_insert(&interval, mm, 0x1000, 0x1000, &interval_ops), 0);
	mmap_read_lock(mm);
	ASSERT_EQ(mmu_notifier_invalidate_range_start_nonblock(&range), -EAGAIN);
	ASSERT_EQ(ends, 1);
	mmap_read_unlock(mm);
	expect_reports("DV-8");
	mmu_interval_notifier_remove(&interval);
	mmu_notifier_unregister(&a, mm);
	mmu_notifier_unregister(&b, mm);
	mmput(mm);
}

/* The child registers the same memory anew without ending what it inherited: it is its own registration that ends. */
TEST(DV_13_the_same_memory_anew_in_the_child)
{
	static const struct mmu_notifier_ops ops = { .release = count_release };
	static struct mmu_notifier mn = { .ops = &ops };
	static struct mmu_interval_notifier interval;
	struct mm_struct *mm = current->mm;

	ASSERT_EQ(mmu_notifier_register(&mn, mm), 0);
	ASSERT_EQ(mmu_interval_notifier_insert(&interval, mm, 0x1000, 0x1000, &interval_ops), 0);
	IN_CHILD({
		int count = atomic_read(&mm->mm_count);

		memset(&mn, 0, sizeof(mn));
		memset(&interval, 0, sizeof(interval));
		mn.ops = &ops;
		ASSERT_EQ(mmu_notifier_register(&mn, mm), 0);
		ASSERT_EQ(mmu_interval_notifier_insert(&interval, mm, 0x1000, 0x1000, &interval_ops), 0);
		mmu_notifier_unregister(&mn, mm);
		mmu_interval_notifier_remove(&interval);
		ASSERT_EQ(releases, 1);
		ASSERT_EQ(atomic_read(&mm->mm_count), count);
	});
	mmu_interval_notifier_remove(&interval);
	mmu_notifier_unregister(&mn, mm);
}

/* Exit handlers of drivers that hold references of their own do no harm in the child. */
TEST(DV_13_exit_handlers_that_drop_references)
{
	static const struct mmu_notifier_ops ops;
	static struct mmu_notifier mn[2] = { { .ops = &ops }, { .ops = &ops } };
	struct mm_struct *mm = current->mm;

	for (int i = 0; i < 2; i++) {
		mmgrab(mm);
		ASSERT_EQ(mmu_notifier_register(&mn[i], mm), 0);
	}
	IN_CHILD({
		for (int i = 0; i < 2; i++) {
			mmu_notifier_unregister(&mn[i], mm);
			mmdrop(mm);
		}
		ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN), 0);
	});
	for (int i = 0; i < 2; i++) {
		mmu_notifier_unregister(&mn[i], mm);
		mmdrop(mm);
	}
}

static struct mmu_notifier *alloc_fresh(struct mm_struct *mm)
{
	(void)mm;
	return calloc(1, sizeof(struct mmu_notifier));
}

/* Both puts of a notifier that was gotten twice before the fork are silent. */
TEST(DV_13_two_puts_of_an_inherited_notifier)
{
	static const struct mmu_notifier_ops ops = { .alloc_notifier = alloc_fresh, .free_notifier = count_free };
	struct mmu_notifier *mn = mmu_notifier_get(&ops, current->mm);

	ASSERT(mmu_notifier_get(&ops, current->mm) == mn);
	IN_CHILD({
		mmu_notifier_put(mn);
		mmu_notifier_put(mn);
		ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN), 0);
		ASSERT_EQ(frees, 0);
	});
	mmu_notifier_put(mn);
	mmu_notifier_put(mn);
	mmu_notifier_synchronize();
	free(mn);
}

static int reading;

static void *read_for_ever(void *data)
{
	rcu_read_lock();
	STORE(reading, 1);
	pause();
	return data;
}

/* A reader of another thread does not come along: the child's grace periods end. */
TEST(DV_13_rcu_readers_do_not_come_along)
{
	pthread_t thread;

	ASSERT_EQ(pthread_create(&thread, NULL, read_for_ever, NULL), 0);
	WAIT_FOR(LOAD(reading));
	IN_CHILD(synchronize_rcu());
}

/* A producer's own result comes first (DV-8). */
TEST(DV_16_a_producer_returns_its_own_result)
{
	unsigned long page = sysconf(_SC_PAGESIZE);
	void *memory = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_EQ(mmu_notifier_mprotect((unsigned long)memory, page, 0xffff), -EINVAL);
	ASSERT_EQ(mmu_notifier_mprotect((unsigned long)memory, page, PROT_READ | PROT_GROWSDOWN), -EINVAL);
	ASSERT_EQ(mmu_notifier_mprotect((unsigned long)memory, page, PROT_READ | PROT_WRITE), 0);
}
