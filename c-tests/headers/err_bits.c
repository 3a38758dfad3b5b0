// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The small things: error pointers, container_of(), READ_ONCE(), warnings,
 * atomic_t, spinlock_t, the inline functions of <linux/mmu_notifier.h>.  The
 * program stands in for the library where those call it.  C and C++.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/mmu_notifier.h>

#include "check.h"

/* ------------------------------------------------ in place of the library */

static int reports, bugs, slow_locks, slow_unlocks, starts, ends, others;
static char last_report[400];
static const void *freed;

#ifdef __cplusplus
extern "C" {
#endif

void mmu_notifier_driver_report(int bug, const char *file, int line,
				const char *function, const char *condition)
{
	reports++;
	bugs += bug;
	CHECK(strcmp(file, __FILE__) == 0 && line > 0);
	snprintf(last_report, sizeof(last_report), "%s: %s", function,
		 condition);
}

void mmu_notifier_null_argument(const char *function)
{
	/* The exit code says whether the name is what the child expects. */
	_exit(strcmp(function, "mmu_notifier_invalidate_range_start") == 0 ? 42 : 43);
}

void mmu_notifier_spin_lock_slow(unsigned int *word)
{
	slow_locks++;
	*word = 2;
}

void mmu_notifier_spin_unlock_slow(unsigned int *word)
{
	CHECK(*word == 0);
	slow_unlocks++;
}

int __mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range)
{
	(void)range;
	starts++;
	return -EAGAIN;
}

void __mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range)
{
	(void)range;
	ends++;
}

int __mmu_notifier_clear_flush_young(struct mm_struct *mm, unsigned long start,
				     unsigned long end)
{
	(void)mm;
	return (int)(end - start);
}

int __mmu_notifier_clear_young(struct mm_struct *mm, unsigned long start,
			       unsigned long end)
{
	(void)mm;
	return (int)((end - start) >> PAGE_SHIFT);
}

int __mmu_notifier_test_young(struct mm_struct *mm, unsigned long address)
{
	(void)mm;
	return (int)address;
}

void __mmu_notifier_change_pte(struct mm_struct *mm, unsigned long address,
			       pte_t pte)
{
	(void)mm;
	others = (int)(address + pte.pte);
}

void __mmu_notifier_arch_invalidate_secondary_tlbs(struct mm_struct *mm,
						   unsigned long start,
						   unsigned long end)
{
	(void)mm;
	others = (int)(end - start);
}

void __mmu_notifier_release(struct mm_struct *mm)
{
	(void)mm;
	others = 1001;
}

void __mmu_notifier_subscriptions_destroy(struct mm_struct *mm)
{
	(void)mm;
	others = 1002;
}

void mmu_notifier_free_rcu(void *object, void (*function)(void *object))
{
	function(object);
}

/* The program's own, which kfree_rcu() must find. */
void kfree(const void *object)
{
	freed = object;
}

#ifdef __cplusplus
}
#endif

/* ---------------------------------------------------------------- the rest */

/* The signal or exit code by which a child ends that runs @body. */
#define CHILD(body) \
	__extension__ ({ \
		pid_t __pid = fork(); \
		int __status = 0; \
		\
		if (__pid == 0) { \
			body; \
			_exit(0); \
		} \
		waitpid(__pid, &__status, 0); \
		WIFSIGNALED(__status) ? WTERMSIG(__status) : \
					WEXITSTATUS(__status); \
	})

static void test_err(void)
{
	const int object = 0;

	CHECK(IS_ERR(ERR_PTR(-1)) && IS_ERR(ERR_PTR(-4095)));
	CHECK(!IS_ERR(ERR_PTR(-4096)) && !IS_ERR(NULL) && !IS_ERR(&object));
	CHECK(IS_ERR_OR_NULL(NULL) && IS_ERR_OR_NULL(ERR_PTR(-ENOMEM)));
	CHECK(!IS_ERR_OR_NULL(&object));
	CHECK(PTR_ERR(ERR_PTR(-EAGAIN)) == -EAGAIN);
	CHECK(PTR_ERR_OR_ZERO(ERR_PTR(-EINVAL)) == -EINVAL);
	CHECK(PTR_ERR_OR_ZERO(&object) == 0);
	CHECK(ERR_CAST(ERR_PTR(-EBUSY)) == ERR_PTR(-EBUSY));
	CHECK(IS_ERR_VALUE((unsigned long)-5L) && !IS_ERR_VALUE(0x1000UL));
	CHECK(IS_ERR(MAP_FAILED));
}

struct outer {
	int before;
	pte_t inner[3];
	const char *name;
	struct rcu_head rcu;
};

static void test_container_of(void)
{
	struct outer outer;
	const struct outer *read_only = &outer;
	const pte_t *inner = &read_only->inner[2];
	void *untyped = &outer.name;

	CHECK(container_of(&outer.inner[1], struct outer, inner[1]) == &outer);
	CHECK(container_of(inner, struct outer, inner[2]) == &outer);
	CHECK(container_of(&read_only->name, struct outer, name) == &outer);
	CHECK(container_of(untyped, struct outer, name) == &outer);
#ifndef __cplusplus
	CHECK(container_of_const(&outer.name, struct outer, name) == &outer);
	CHECK(_Generic(container_of_const(&outer.name, struct outer, name),
		       struct outer *: true, default: false));
	CHECK(_Generic(container_of_const(&read_only->name, struct outer, name),
		       const struct outer *: true, default: false));
	CHECK(_Generic(container_of_const((const void *)untyped, struct outer, name),
		       const struct outer *: true, default: false));
#endif
}

static void test_once(void)
{
	struct outer outer = { 7, { { 1 }, { 2 }, { 3 } }, "x", { NULL, NULL } };
	const struct outer *read_only = &outer;
	const pte_t other = { 9 };
	pte_t pte = READ_ONCE(read_only->inner[1]);

	CHECK(pte.pte == 2);
	WRITE_ONCE(outer.inner[0], other);
	CHECK(READ_ONCE(outer.inner[0]).pte == 9);
	WRITE_ONCE(outer.before, 8);
	CHECK(READ_ONCE(read_only->before) == 8);
	WRITE_ONCE(outer.name, NULL);
	CHECK(!READ_ONCE(outer.name));
	smp_store_release(&outer.name, "y");
	CHECK(*smp_load_acquire(&read_only->name) == 'y');
	CHECK(likely(2) == 1 && unlikely(0) == 0);
	barrier();
	smp_mb();
	smp_rmb();
	smp_wmb();
}

static void test_types(void)
{
	unsigned long long *wide = (u64 *)NULL;

	CHECK(!wide);
	CHECK(sizeof(u8) == 1 && sizeof(s16) == 2 && sizeof(u32) == 4);
	CHECK((s8)-1 < 0 && (s32)-1 < 0 && (s64)-1 < 0 && (u16)-1 > 0);
	CHECK(sizeof(atomic_t) == 4 && sizeof(pte_t) == 8);
	CHECK(sizeof(struct rcu_head) == 16 && sizeof(struct rb_node) == 24);
	CHECK(sizeof(struct interval_tree_node) == 48);
	CHECK(sizeof(struct rw_semaphore) == 32);
	CHECK(PAGE_SIZE == 4096 && PAGE_MASK == ~4095UL);
	CHECK(PMD_SIZE == 2UL << 20 && PMD_MASK == ~(PMD_SIZE - 1));
}

static void test_reports(void)
{
	int i, evaluated = 0;

	CHECK(WARN_ON(0) == 0 && reports == 0);
	CHECK(WARN_ON(evaluated += 2) == 1 && evaluated == 2 && reports == 1);
	CHECK(strcmp(last_report, "test_reports: evaluated += 2") == 0);
	CHECK(WARN(evaluated == 2, "%d of %s", 1, "2") == 1 && reports == 2);
	CHECK(strcmp(last_report, "test_reports: 1 of 2") == 0);
	CHECK(!WARN(0, "%d", evaluated++) && evaluated == 2);
	for (i = 0; i < 3; i++)
		CHECK(WARN_ON_ONCE(i > 0) == (i > 0));
	CHECK(reports == 3);
	for (i = 0; i < 3; i++)
		CHECK(WARN_ONCE(i > 0, "once") == (i > 0));
	CHECK(reports == 4);
	WARN_ON(i == 3);
	WARN_ON_ONCE(i == 3);
	BUG_ON(i == 4);
	CHECK(reports == 6 && bugs == 0);
	CHECK(CHILD(BUG_ON(i == 3)) == SIGABRT);
	CHECK(CHILD(BUG()) == SIGABRT);
}

static void test_atomic(void)
{
	atomic_t v = ATOMIC_INIT(1);

	atomic_inc(&v);
	CHECK(atomic_read(&v) == 2);
	atomic_dec(&v);
	CHECK(atomic_dec_and_test(&v) && !atomic_dec_and_test(&v));
	CHECK(atomic_inc_and_test(&v) && !atomic_inc_not_zero(&v));
	atomic_set(&v, 5);
	CHECK(atomic_inc_not_zero(&v) && atomic_read(&v) == 6);
	atomic_add(3, &v);
	atomic_sub(1, &v);
	CHECK(atomic_add_return(2, &v) == 10 && atomic_inc_return(&v) == 11);
	CHECK(atomic_sub_return(1, &v) == 10 && atomic_dec_return(&v) == 9);
	CHECK(!atomic_add_unless(&v, 1, 9) && atomic_add_unless(&v, 1, 8));
	CHECK(atomic_cmpxchg(&v, 9, 1) == 10 && atomic_read(&v) == 10);
	CHECK(atomic_cmpxchg(&v, 10, 1) == 10 && atomic_xchg(&v, 4) == 1);
	CHECK(atomic_sub_and_test(4, &v));
}

/* What means nothing here, and what is but another name. */
static void test_other_names(void)
{
	static int first, second, *published = &first;
	unsigned int flags = memalloc_noreclaim_save();
	unsigned int nofs = memalloc_nofs_save(), noio = memalloc_noio_save();

	fs_reclaim_acquire(0);
	might_alloc(0);
	fs_reclaim_release(0);
	memalloc_noio_restore(noio);
	memalloc_nofs_restore(nofs);
	memalloc_noreclaim_restore(flags);

	CHECK(rcu_replace_pointer(published, &second, true) == &first);
	CHECK(rcu_dereference(published) == &second);
	CHECK(srcu_dereference_check(published, NULL, true) == &second);
}

static void test_spinlock(void)
{
	static DEFINE_SPINLOCK(fixed);
	struct { spinlock_t lock; } s;
	unsigned long flags;

	spin_lock(&fixed);
	CHECK(fixed.word == 1 && spin_is_locked(&fixed));
	lockdep_assert_held(&fixed);
	spin_unlock(&fixed);

	spin_lock_init(&s.lock);
	CHECK(s.lock.word == 0);
	spin_lock_irqsave(&s.lock, flags);
	CHECK(!spin_trylock(&s.lock) && slow_locks == 0);
	assert_spin_locked(&s.lock);
	spin_unlock_irqrestore(&s.lock, flags);
	CHECK(s.lock.word == 0 && slow_unlocks == 0);

	CHECK(spin_trylock(&s.lock));
	spin_lock_nested(&s.lock, 1);		/* the stand-in makes it 2 */
	CHECK(slow_locks == 1 && s.lock.word == 2);
	spin_unlock(&s.lock);
	CHECK(slow_unlocks == 1 && s.lock.word == 0);
	CHECK(CHILD(assert_spin_locked(&s.lock)) == SIGABRT);
}

static void test_intervals(void)
{
	struct mmu_interval_notifier sub;

	memset(&sub, 0, sizeof(sub));
	mmu_interval_set_seq(&sub, 3);
	CHECK(sub.invalidate_seq == 3);
	CHECK(!mmu_interval_read_retry(&sub, 3));
	CHECK(mmu_interval_read_retry(&sub, 1));
	CHECK(!mmu_interval_check_retry(&sub, 3));
	CHECK(mmu_interval_check_retry(&sub, 5));
}

/* Not a real mm: only notifier_subscriptions matters to the inlines. */
static struct mm_struct mm;

static void test_ranges(void)
{
	struct mmu_notifier_range range;
	int owner, i;

	memset(&range, 0x5a, sizeof(range));
	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 8, &mm, 0x1000,
				0x3000);
	CHECK(range.event == MMU_NOTIFY_CLEAR && range.mm == &mm);
	CHECK(range.start == 0x1000 && range.end == 0x3000);
	CHECK(range.flags == 8);
	CHECK(range.owner == (void *)0x5a5a5a5a5a5a5a5aUL);
	mmu_notifier_range_init_owner(&range, MMU_NOTIFY_MIGRATE, 8, &mm, 0,
				      PAGE_SIZE, &owner);
	CHECK(range.owner == &owner && range.event == MMU_NOTIFY_MIGRATE);

	mmu_notifier_subscriptions_init(&mm);
	CHECK(!mm_has_notifiers(&mm));
	mmu_notifier_invalidate_range_start(&range);
	CHECK(!mmu_notifier_range_blockable(&range) && range.flags == 8);
	CHECK(mmu_notifier_invalidate_range_start_nonblock(&range) == 0);
	mmu_notifier_invalidate_range_end(&range);
	mmu_notifier_change_pte(&mm, 1, range.mm ? (pte_t){ 2 } : (pte_t){ 3 });
	mmu_notifier_arch_invalidate_secondary_tlbs(&mm, 1, 2);
	mmu_notifier_release(&mm);
	mmu_notifier_subscriptions_destroy(&mm);
	CHECK(mmu_notifier_clear_flush_young(&mm, 1, 2) == 0);
	CHECK(mmu_notifier_clear_young(&mm, 0, PAGE_SIZE) == 0);
	CHECK(mmu_notifier_test_young(&mm, 1) == 0);
	CHECK(starts == 0 && ends == 0 && others == 0);

	mm.notifier_subscriptions =
		(struct mmu_notifier_subscriptions *)LIST_POISON1;
	CHECK(mm_has_notifiers(&mm) == 1);
	mmu_notifier_invalidate_range_start(&range);
	CHECK(starts == 1 && range.flags == 9);
	CHECK(mmu_notifier_range_blockable(&range));
	mmu_notifier_invalidate_range_end(&range);
	CHECK(ends == 1 && range.flags == 9);
	i = mmu_notifier_invalidate_range_start_nonblock(&range);
	CHECK(i == -EAGAIN && starts == 2 && range.flags == 8);
	mmu_notifier_change_pte(&mm, 1, (pte_t){ 2 });
	CHECK(others == 3);
	mmu_notifier_arch_invalidate_secondary_tlbs(&mm, 1, 5);
	CHECK(others == 4);
	mmu_notifier_release(&mm);
	CHECK(others == 1001);
	mmu_notifier_subscriptions_destroy(&mm);
	CHECK(others == 1002);
	CHECK(mmu_notifier_clear_flush_young(&mm, 1, 6) == 5);
	CHECK(mmu_notifier_clear_young(&mm, 0, 3 * PAGE_SIZE) == 3);
	CHECK(mmu_notifier_test_young(&mm, 9) == 9);

	range.mm = NULL;
	CHECK(CHILD(mmu_notifier_invalidate_range_start(&range)) == 42);
	CHECK(CHILD(mmu_notifier_release(NULL)) == 43);
}

/* What code with page tables would bring along. */
struct vm_area_struct {
	struct mm_struct *vm_mm;
};

static int test_and_clear(struct vm_area_struct *vma, unsigned long address,
			  pte_t *ptep)
{
	int young = ptep->pte & 16;

	(void)vma;
	(void)address;
	ptep->pte &= ~16UL;
	return young;
}

#define ptep_clear_flush_young		test_and_clear
#define pmdp_clear_flush_young		test_and_clear
#define ptep_test_and_clear_young	test_and_clear
#define pmdp_test_and_clear_young	test_and_clear

static void set_pte_at(struct mm_struct *to, unsigned long address, pte_t *ptep,
		       pte_t pte)
{
	CHECK(to == &mm && others == (int)(address + pte.pte));
	*ptep = pte;
}

static void test_page_tables(void)
{
	struct vm_area_struct area = { &mm }, *vma = &area;
	pte_t pte = { 16 };

	CHECK(ptep_clear_young_notify(vma, 0UL, &pte) == (16 | 1));
	CHECK(ptep_clear_young_notify(vma, PAGE_SIZE, &pte) == 1);
	CHECK(pmdp_clear_young_notify(vma, 0UL, &pte) == 512);
	CHECK(ptep_clear_flush_young_notify(vma, 0UL, &pte) == 4096);
	CHECK(pmdp_clear_flush_young_notify(vma, 0UL, &pte) == 2 << 20);
	set_pte_at_notify(&mm, 100UL, &pte, ((pte_t){ 7 }));
	CHECK(pte.pte == 7);
}

static void test_kfree_rcu(void)
{
	struct outer *outer = (struct outer *)malloc(sizeof(*outer));
	struct outer *none = NULL;

	kfree_rcu(none, rcu);
	CHECK(!freed);
	kfree_rcu(outer, rcu);
	CHECK(freed == outer);
	free(outer);
}

int main(void)
{
	test_err();
	test_container_of();
	test_once();
	test_types();
	test_reports();
	test_atomic();
	test_other_names();
	test_spinlock();
	test_intervals();
	test_ranges();
	test_page_tables();
	test_kfree_rcu();
	return check_result();
}
