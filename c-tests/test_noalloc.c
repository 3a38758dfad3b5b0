/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Event calls allocate nothing, and no lock of the library is held while a callback runs (HS-11, RS-1, ARCHITECTURE.md).
 * This program has malloc() and mmap() of its own, which the library is bound to as well.
 */
#include "test.h"
#include <mmu_notifier/stage.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
	*__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static __thread int armed, allocations, refuse;

#define COUNT(result_if_refused) do {					\
	if (armed)							\
		allocations++;						\
	if (refuse)							\
		return result_if_refused;				\
} while (0)

void *malloc(size_t size)
{
	COUNT(NULL);
	return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
	COUNT(NULL);
	return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
	COUNT(NULL);
	return __libc_realloc(old, size);
}

void *aligned_alloc(size_t align, size_t size)
{
	COUNT(NULL);
	return __libc_memalign(align, size);
}

int posix_memalign(void **place, size_t align, size_t size)
{
	COUNT(ENOMEM);
	*place = __libc_memalign(align, size);
	return *place ? 0 : ENOMEM;
}

void free(void *old)
{
	if (armed && old)
		allocations++;
	__libc_free(old);
}

void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	COUNT(MAP_FAILED);
	return (void *)syscall(SYS_mmap, at, size, prot, flags, fd, offset);
}

int munmap(void *at, size_t size)
{
	if (armed)
		allocations++;
	return syscall(SYS_munmap, at, size);
}

/* The statement allocates and frees nothing. */
#define NO_ALLOCATION(...) do {						\
	allocations = 0;						\
	armed = 1;							\
	__VA_ARGS__;							\
	armed = 0;							\
	if (allocations)						\
		FAIL("%d allocations in: %s", allocations, #__VA_ARGS__); \
} while (0)

static struct mm_struct *mm;
static struct listener A, B;
static struct watch w[64];

static const struct mmu_notifier_ops ops_arch = { .arch_invalidate_secondary_tlbs = on_arch };

static void set_up(int watches)
{
	mm = mm_alloc();
	A = listener("A", &ops_all);
	B = listener("B", &ops_arch);
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	for (int n = 0; n < watches; n++) {
		w[n] = watch("w");
		INSERT(&w[n], mm, 0x1000UL * n, 0x4000);
	}
}

TEST(the_wrappers_see_the_library)
{
	mm = mm_alloc();
	A = listener("A", &ops_all);
	allocations = 0;
	armed = 1;
	REGISTER(&A, mm);			/* RG-3 */
	armed = 0;
	if (!allocations)
		SKIP("the library's allocations do not pass this program's malloc()");
}

TEST(start_and_end_allocate_nothing)
{
	struct mmu_notifier_range range;

	set_up(64);
	range = make_range(mm, 0, 0x100000);
	hold(mm);
	NO_ALLOCATION(mmu_notifier_invalidate_range_start(&range));
	NO_ALLOCATION(mmu_notifier_invalidate_range_end(&range));
	NO_ALLOCATION(ASSERT_EQ(mmu_notifier_invalidate_range_start_nonblock(&range), 0));
	NO_ALLOCATION(mmu_notifier_invalidate_range_end(&range));
	let_go(mm);
}

TEST(refusals_allocate_nothing)
{
	struct mmu_notifier_range range;

	set_up(8);
	range = make_range(mm, 0, 0x100000);
	w[5].refuse = true;
	hold(mm);
	NO_ALLOCATION(ASSERT_EQ(mmu_notifier_invalidate_range_start_nonblock(&range), -EAGAIN));
	w[5].refuse = false;
	A.returns = -EAGAIN;
	NO_ALLOCATION(ASSERT_EQ(mmu_notifier_invalidate_range_start_nonblock(&range), -EAGAIN));
	let_go(mm);
	expect_reports("HS-5");
}

TEST(the_other_events_allocate_nothing)
{
	set_up(4);
	hold(mm);
	NO_ALLOCATION(mmu_notifier_clear_flush_young(mm, 0, 0x1000));
	NO_ALLOCATION(mmu_notifier_clear_young(mm, 0, 0x1000));
	NO_ALLOCATION(mmu_notifier_test_young(mm, 0));
	NO_ALLOCATION(mmu_notifier_change_pte(mm, 0, (pte_t){ .pte = 0 }));
	NO_ALLOCATION(mmu_notifier_arch_invalidate_secondary_tlbs(mm, 0, 0x1000));
	let_go(mm);
}

TEST(an_end_with_deferred_work_allocates_nothing)
{
	struct thread *removers[16];
	struct mmu_notifier_range range;

	set_up(32);
	range = make_range(mm, 0, 0x100000);
	range_start(&range);
	for (int n = 0; n < 16; n++) {
		removers[n] = spawn(do_remove, &w[n]);
		wait_until_blocked(removers[n], MMU_NOTIFIER_WAIT_REMOVE);
	}
	for (int n = 32; n < 64; n++) {
		w[n] = watch("w");
		INSERT(&w[n], mm, 0x1000UL * n, 0x4000);
	}
	NO_ALLOCATION(mmu_notifier_invalidate_range_end(&range));
	let_go(mm);
	for (int n = 0; n < 16; n++)
		join(removers[n]);
	STORE(test_log_end, 0);
	invalidate(mm, 0, 0x100000);
	ASSERT_EQ(LOAD(test_log_end), 48 + 2);
}

/* Whatever the number of members: a table that is exactly full must not grow when a deferred insert takes its place. */
TEST(an_end_with_one_deferred_insert_allocates_nothing)
{
	for (int members = 1; members < 40; members++) {
		struct mm_struct *own = mm_alloc();
		struct mmu_notifier_range range = make_range(own, 0x1000, 0x2000);
		struct watch watches[41];

		for (int n = 0; n <= members; n++) {
			watches[n] = watch("x");
			if (n == members) {
				mmap_read_lock(own);
				mmu_notifier_invalidate_range_start(&range);
			}
			INSERT(&watches[n], own, 0x1000UL, 0x1000);
		}
		NO_ALLOCATION(mmu_notifier_invalidate_range_end(&range));
		mmap_read_unlock(own);
		for (int n = 0; n <= members; n++)
			mmu_interval_notifier_remove(&watches[n].sub);
		STORE(test_log_end, 0);
		mmput(own);
	}
}

static void *first_events(void *arg)
{
	struct mmu_notifier_range range = make_range(mm, 0, 0x2000);

	NO_ALLOCATION(mmu_notifier_test_young(mm, 0));
	NO_ALLOCATION(mmu_notifier_invalidate_range_start(&range));
	NO_ALLOCATION(mmu_notifier_invalidate_range_end(&range));
	return arg;
}

TEST(events_of_a_new_thread_allocate_nothing)
{
	set_up(4);
	join(spawn(first_events, NULL));
}

static bool stop(struct mmu_notifier_live_range *range, const struct mmu_notifier_range *event, unsigned long seq)
{
	(void)event;
	mmu_interval_set_seq(&range->interval, seq);
	return true;
}

static void release_and_allocate(struct mmu_notifier_live_range *range)
{
	(void)range;
	free(malloc(100));
}

/* The invalidate stage, the queue, the wait for the release stage. */
TEST(an_event_of_a_staged_range_allocates_nothing)
{
	static const struct mmu_notifier_live_range_ops ops = { .invalidate = stop, .release = release_and_allocate };
	struct mmu_notifier_live_range ranges[8];
	struct mmu_notifier_range event;

	set_up(0);
	for (int n = 0; n < 8; n++)
		ASSERT_EQ(mmu_notifier_live_range_insert(&ranges[n], mm, 0x1000UL * n, 0x1000, &ops,
							 n % 2 ? 20000 : 0), 0);
	event = make_range(mm, 0, 0x8000);
	hold(mm);
	NO_ALLOCATION(mmu_notifier_invalidate_range_start(&event));
	NO_ALLOCATION(mmu_notifier_invalidate_range_end(&event));
	let_go(mm);
	for (int n = 0; n < 8; n++)
		ASSERT(!mmu_notifier_live_range_remove(&ranges[n]));
}

TEST(read_begin_allocates_nothing)
{
	set_up(1);
	NO_ALLOCATION(READ_BEGIN(&w[0]));
}

/* RG-3, RG-7, II-2: nothing is left behind by a registration that got no memory. */
TEST(RG_3_no_memory)
{
	struct watch a = watch("a");
	int result;

	mm = mm_alloc();
	A = listener("A", &ops_all);
	refuse = 1;
	result = mmu_notifier_register(&A.mn, mm);
	refuse = 0;
	if (result == 0)
		SKIP("registration allocates nothing that malloc() could refuse");
	ASSERT_EQ(result, -ENOMEM);
	ASSERT(!mm_has_notifiers(mm));
	ASSERT_POISON(&A.mn.mm);
	ASSERT_POISON(&A.mn.hlist);
	refuse = 1;
	result = mmu_interval_notifier_insert(&a.sub, mm, 0x1000, 0x1000, &watch_ops);
	refuse = 0;
	ASSERT_EQ(result, -ENOMEM);
	ASSERT_POISON(&a.sub);
	ASSERT_EQ(mm_count(mm), 1);
	REGISTER(&A, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
}

/* --- no lock while a callback runs */

static struct mm_struct *other;
static struct listener K, N;
static struct watch deferred;
static struct gate gate;

static void any_op_at_gate(struct listener *self, const char *op)
{
	(void)self;
	(void)op;
	if (!LOAD(gate.arrived))
		gate_pass(&gate);
}

static void invalidate_at_gate(struct watch *self, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)self;
	(void)range;
	(void)seq;
	gate_pass(&gate);
}

/* All that may be done on the mm of a callback that stands, without waiting. A hang is the failure. */
static void do_everything(void)
{
	struct watch far = watch("far");
	struct mmu_notifier_range range = make_range(mm, 0x9000, 0xa000);

	ASSERT_EQ(mmu_notifier_get(&ops_kept, mm), &K.mn);
	mmu_notifier_put(&K.mn);
	mmu_notifier_put(&N.mn);
	INSERT(&far, mm, 0x20000, 0x1000);
	mmu_interval_read_retry(&far.sub, 1);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	if (mmu_notifier_invalidate_range_start_nonblock(&range) == 0)
		mmu_notifier_invalidate_range_end(&range);
	mmu_notifier_test_young(mm, 0);
	mmu_notifier_clear_young(mm, 0, 1);
	mmu_notifier_clear_flush_young(mm, 0, 1);
	mmu_notifier_change_pte(mm, 0, (pte_t){ .pte = 0 });
	mmu_notifier_arch_invalidate_secondary_tlbs(mm, 0, 1);
	REGISTER(&A, other);
	invalidate(other, 0x1000, 0x2000);
	mmu_notifier_put(&A.mn);
	mmget(mm);
	mmput(mm);
	mmgrab(mm);
	mmdrop(mm);
	mmput(mm_alloc());
	ASSERT(mm_has_notifiers(mm));
	REMOVE(&far);				/* deferred (IR-2), or S is even (IR-4) */
	deferred = watch("deferred");
	INSERT(&deferred, mm, 0x30000, 0x1000);
}

/* `events` runs on a thread that holds no lock; one of its callbacks stands while the case does everything. */
static void everything_during(void *(*events)(void *))
{
	struct thread *thread;

	other = mm_alloc();
	A = listener("A", &ops_kept);
	K = listener("K", &ops_kept);
	N = listener("N", &ops_kept);
	mmgrab(mm);
	REGISTER(&N, mm);
	REGISTER(&K, mm);
	thread = spawn(events, NULL);
	gate_wait(&gate);
	do_everything();
	ASSERT_NOT_DONE(thread);
	gate_open(&gate);
	join(thread);
	mmu_notifier_synchronize();
}

static void *a_pair(void *arg)
{
	struct mmu_notifier_range range = make_range(mm, 0x1000, 0x2000);

	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	return arg;
}

static void *a_young(void *arg)
{
	mmu_notifier_test_young(mm, 0x1000);
	return arg;
}

static void set_up_standing(const struct mmu_notifier_ops *ops)
{
	mm = mm_alloc();
	B = listener("B", ops);
	B.in = any_op_at_gate;
	w[0] = watch("w");
	INSERT(&w[0], mm, 0x1000, 0x1000);
	REGISTER(&B, mm);
}

static const struct mmu_notifier_ops
	ops_start = { .invalidate_range_start = on_start },
	ops_end = { .invalidate_range_end = on_end },
	ops_young = { .test_young = on_test_young },
	ops_release = { .release = on_release };

/* 4.1-1 */
TEST(no_lock_in_invalidate)
{
	set_up_standing(&ops_arch);
	w[0].in = invalidate_at_gate;
	B.in = NULL;
	everything_during(a_pair);
}

/* 4.1-2 */
TEST(no_lock_in_invalidate_range_start) { set_up_standing(&ops_start); everything_during(a_pair); }
/* 4.1-2 */
TEST(no_lock_in_invalidate_range_end) { set_up_standing(&ops_end); everything_during(a_pair); }
/* 4.1-4 */
TEST(no_lock_in_test_young) { set_up_standing(&ops_young); everything_during(a_young); }

static void *an_unregister(void *arg) { UNREGISTER(&B); return arg; }

/* 4.1-3 */
TEST(no_lock_in_release) { set_up_standing(&ops_release); everything_during(an_unregister); }

/* While free_notifier stands, too; it runs on a thread of the library. */
static void free_at_gate(struct mmu_notifier *mn)
{
	(void)mn;
	gate_pass(&gate);
}

static const struct mmu_notifier_ops ops_free = { .free_notifier = free_at_gate };

static void *a_put(void *arg)
{
	mmu_notifier_put(&B.mn);
	WAIT_FOR(LOAD(gate.open));
	return arg;
}

/* 4.1-8 */
TEST(no_lock_in_free_notifier) { set_up_standing(&ops_free); everything_during(a_put); }
