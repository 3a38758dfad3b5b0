/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Names with the PREFIX of an implementation.  With OTHER, one that is beside
 * the library in the program: what the headers declare is called PREFIX_name.
 */
#define RENAME2(prefix, name) prefix ## _ ## name
#define RENAME1(prefix, name) RENAME2(prefix, name)
#define RENAME(name) RENAME1(PREFIX, name)

#ifdef OTHER
#define __mmu_notifier_invalidate_range_start	RENAME(range_start)
#define __mmu_notifier_invalidate_range_end	RENAME(range_end)
#define __mmu_notifier_test_young		RENAME(test_young)
#define mmu_notifier_register			RENAME(register)
#define mmu_notifier_unregister			RENAME(unregister)
#define mmu_interval_notifier_insert		RENAME(insert)
#define mmu_interval_notifier_remove		RENAME(remove)
#define mmu_interval_read_begin			RENAME(read_begin)
#define mmu_notifier_rcu_read_lock		RENAME(read_lock)
#define mmu_notifier_rcu_read_unlock		RENAME(read_unlock)
#define mmu_notifier_null_argument		RENAME(null_argument)
#define mm_alloc				RENAME(mm_alloc)
#define mmput					RENAME(mmput)
#endif
