/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Interval insert, remove, read_begin: II-*, IR-*, RB-*, ST-*, RE-3, RE-4, DV-10. */
#include "test.h"

#define IN_TREE(watch) (!RB_EMPTY_NODE(&(watch)->sub.interval_tree.rb))
#define ASSERT_DELETED(node) do {					\
	ASSERT_EQ((node)->next, 0xdead000000000100);			\
	ASSERT_EQ((node)->pprev, 0xdead000000000122);			\
} while (0)

static struct mm_struct *mm;
static struct mmu_notifier_range range;

/* An mm with the interval [0x1000, 0x1fff], and `range` over it. */
static void set_up(struct watch *a)
{
	mm = mm_alloc();
	*a = watch("a");
	INSERT(a, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
}

/* --- insert */

/* II-5, 3.14-7, 3.14-9 */
TEST(II_1_first_insert_registers)
{
	struct watch a = watch("a");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	ASSERT(mm_has_notifiers(mm));
	ASSERT_EQ(mm_count(mm), 2);
	ASSERT_EQ(a.sub.mm, mm);
	ASSERT_EQ(a.sub.ops, &watch_ops);
	REMOVE(&a);
	ASSERT_EQ(mm_count(mm), 1);
	mmput(mm);
}

static void *do_insert(void *watch)
{
	INSERT((struct watch *)watch, mm, 0x1000, 0x1000);
	return NULL;
}

TEST(II_1_first_insert_takes_mmap_lock)
{
	struct watch a = watch("a");
	struct thread *inserter;

	mm = mm_alloc();
	mmap_read_lock(mm);
	inserter = spawn(do_insert, &a);
	wait_until_blocked(inserter, MMU_NOTIFIER_WAIT_MMAP_LOCK);
	mmap_read_unlock(mm);
	join(inserter);
}

/* 4.2-2 */
TEST(II_1_insert_locked)
{
	struct watch a = watch("a"), b = watch("b");

	mm = mm_alloc();
	mmap_write_lock(mm);
	ASSERT_EQ(mmu_interval_notifier_insert_locked(&a.sub, mm, 0x1000, 0x1000, &watch_ops), 0);
	ASSERT_EQ(mmu_interval_notifier_insert_locked(&b.sub, mm, 0x2000, 0x1000, &watch_ops), 0);
	mmap_write_unlock(mm);
	invalidate(mm, 0x1000, 0x3000);
	EXPECT_LOG("a.inv 3", "b.inv 3");
}

/* 3.14-8 */
TEST(II_3_failed_insert_still_turns_intervals_on)
{
	struct watch bad = watch("bad"), good = watch("good");

	mm = mm_alloc();
	ASSERT_EQ(mmu_interval_notifier_insert(&bad.sub, mm, 0x1000, 0, &watch_ops), -EOVERFLOW);
	ASSERT(mm_has_notifiers(mm));
	ASSERT_EQ(mm_count(mm), 1);
	mmap_write_lock(mm);		/* so the next one has no reason to take it (II-11) */
	INSERT(&good, mm, 0x1000, 0x1000);
	mmap_write_unlock(mm);
	REMOVE(&good);
}

static void assert_failed_fields(const struct watch *bad)
{
	ASSERT_EQ(bad->sub.mm, mm);
	ASSERT_EQ(bad->sub.ops, &watch_ops);
	ASSERT(!IN_TREE(bad));
	ASSERT_POISON(&bad->sub.deferred_item);
	ASSERT_POISON(&bad->sub.invalidate_seq);
	ASSERT_POISON(&bad->sub.interval_tree.__subtree_last);
}

/* II-4 */
TEST(DV_10_fields_after_length_0)
{
	struct watch bad = watch("bad");

	mm = mm_alloc();
	ASSERT_EQ(mmu_interval_notifier_insert(&bad.sub, mm, 0x1000, 0, &watch_ops), -EOVERFLOW);
	assert_failed_fields(&bad);
	ASSERT_EQ(bad.sub.interval_tree.start, 0x1000);
	ASSERT_POISON(&bad.sub.interval_tree.last);
	ASSERT_EQ(mm_count(mm), 1);
}

/* II-4 */
TEST(DV_10_fields_after_overflow)
{
	struct watch bad = watch("bad");

	mm = mm_alloc();
	ASSERT_EQ(mmu_interval_notifier_insert(&bad.sub, mm, 0xffffffffffff0000, 0x80000000, &watch_ops), -EOVERFLOW);
	assert_failed_fields(&bad);
	ASSERT_EQ(bad.sub.interval_tree.start, 0xffffffffffff0000);
	ASSERT_EQ(bad.sub.interval_tree.last, 0x7ffeffff);
	ASSERT_EQ(mm_count(mm), 1);
	invalidate(mm, 0, ULONG_MAX);
	EXPECT_LOG();
}

/* II-4 */
TEST(DV_10_fields_after_insert_on_a_dead_mm)
{
	struct watch a, bad = watch("bad");

	set_up(&a);
	mmput(mm);
	EXPECT_LOG("a.inv 3");
	ASSERT_EQ(mmu_interval_notifier_insert(&bad.sub, mm, 0x3000, 0x1000, &watch_ops), -EINVAL);
	expect_reports("II-4 mmu_interval_notifier_insert");
	assert_failed_fields(&bad);
	ASSERT_EQ(bad.sub.interval_tree.start, 0x3000);
	ASSERT_EQ(bad.sub.interval_tree.last, 0x3fff);
	ASSERT_EQ(mm_count(mm), 1);
	/* The length is looked at before the mm is. */
	ASSERT_EQ(mmu_interval_notifier_insert(&bad.sub, mm, 0x3000, 0, &watch_ops), -EOVERFLOW);
	ASSERT_EQ(mmu_interval_notifier_insert(&bad.sub, mm, ULONG_MAX, 2, &watch_ops), -EOVERFLOW);
	ASSERT_EQ(bad.sub.interval_tree.last, 0);
	expect_reports();
	REMOVE(&a);
}

TEST(II_6_edges)
{
	struct watch all = watch("all"), top = watch("top"), odd = watch("odd");

	mm = mm_alloc();
	INSERT(&all, mm, 0, ULONG_MAX);
	ASSERT_EQ(all.sub.interval_tree.last, ULONG_MAX - 1);
	INSERT(&top, mm, ULONG_MAX - 0xfff, 0x1000);
	ASSERT_EQ(top.sub.interval_tree.last, ULONG_MAX);
	INSERT(&odd, mm, 0x1234, 1);
	ASSERT_EQ(odd.sub.interval_tree.start, 0x1234);
	ASSERT_EQ(odd.sub.interval_tree.last, 0x1234);
	invalidate(mm, 0x1234, 0x1235);
	EXPECT_LOG("all.inv 3", "odd.inv 3");
	invalidate(mm, 0x1235, 0x2000);
	EXPECT_LOG("all.inv 5");
}

TEST(II_7a_idle_insert)
{
	struct watch a;

	set_up(&a);
	ASSERT_EQ(SEQ(&a), 1);
	ASSERT(IN_TREE(&a));
	ASSERT_EQ(READ_BEGIN(&a), 1);
}

/* RS-1 counts a range that touches nothing; ST-4, II-8 */
TEST(II_7b_insert_while_partially_excluded)
{
	struct watch a = watch("a"), b = watch("b");
	struct thread *reader;

	mm = mm_alloc();
	INSERT(&b, mm, 0x8000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	INSERT(&a, mm, 0x5000, 0x1000);
	ASSERT(IN_TREE(&a));
	ASSERT_EQ(SEQ(&a), 3);
	/* S is odd now, but that is no concern of b. */
	ASSERT_EQ(READ_BEGIN(&b), 1);
	reader = spawn(do_read_begin, &a);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	range_end(&range);
	ASSERT_EQ(join(reader), 3);
	EXPECT_LOG();
}

/* ST-4; II-9: INSERT() wants 0 */
TEST(II_7c_insert_while_fully_excluded)
{
	struct watch a, b = watch("b");
	struct thread *reader;

	set_up(&a);
	range_start(&range);
	INSERT(&b, mm, 0x8000, 0x1000);
	ASSERT(!IN_TREE(&b));
	ASSERT_EQ(SEQ(&b), 3);
	ASSERT_EQ(mm_count(mm), 3);
	reader = spawn(do_read_begin, &b);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	range_end(&range);
	ASSERT_EQ(join(reader), 3);
	ASSERT(IN_TREE(&b));
	EXPECT_LOG("a.inv 3");			/* II-8: b was not called for it */
}

TEST(II_11_insert_takes_no_lock_once_intervals_are_on)
{
	struct watch a, b = watch("b");

	set_up(&a);
	mmap_write_lock(mm);
	mmu_notifier_rmap_write_lock(mm);
	INSERT(&b, mm, 0x3000, 0x1000);
	mmu_notifier_rmap_write_unlock(mm);
	mmap_write_unlock(mm);
}

static struct watch inserted;

static void insert_another(struct watch *self, const struct mmu_notifier_range *seen, unsigned long seq)
{
	(void)seen;
	self->in = NULL;
	inserted = watch("new");
	INSERT(&inserted, mm, 0x1000, 0x1000);
	ASSERT_EQ(SEQ(&inserted), seq);
}

TEST(II_7c_insert_from_invalidate_is_deferred)
{
	struct watch a;

	set_up(&a);
	a.in = insert_another;
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 3");
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 5", "new.inv 5");
}

TEST(RE_4_deferred_inserts_are_last_in_first_out)
{
	struct watch a, c = watch("c"), d = watch("d"), e = watch("e");

	set_up(&a);
	range_start(&range);
	INSERT(&c, mm, 0x5000, 0x1000);
	INSERT(&d, mm, 0x5000, 0x2000);
	INSERT(&e, mm, 0x5000, 0x3000);
	range_end(&range);
	EXPECT_LOG("a.inv 3");
	invalidate(mm, 0x5000, 0x6000);
	EXPECT_LOG("e.inv 5", "d.inv 5", "c.inv 5");
}

TEST(RE_3_processed_items_are_poisoned)
{
	struct watch a, b = watch("b");
	struct thread *remover;

	set_up(&a);
	range_start(&range);
	INSERT(&b, mm, 0x5000, 0x1000);
	remover = spawn(do_remove, &a);
	wait_until_blocked(remover, MMU_NOTIFIER_WAIT_REMOVE);
	range_end(&range);
	join(remover);
	ASSERT_DELETED(&a.sub.deferred_item);
	ASSERT_DELETED(&b.sub.deferred_item);
}

/* --- remove */

TEST(IR_2_remove_of_a_deferred_insert)
{
	struct watch a, b = watch("b");

	set_up(&a);
	range_start(&range);
	INSERT(&b, mm, 0x1000, 0x1000);
	ASSERT_EQ(mm_count(mm), 3);
	REMOVE(&b);
	ASSERT_EQ(mm_count(mm), 2);
	ASSERT_DELETED(&b.sub.deferred_item);
	POISON(&b.sub);
	range_end(&range);
	ASSERT_POISON(&b.sub);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 3", "a.inv 5");
}

TEST(IR_3_remove_waits_for_the_whole_busy_period)
{
	struct mmu_notifier_range other;
	struct watch a, b = watch("b");
	struct thread *remover;

	set_up(&a);
	INSERT(&b, mm, 0x8000, 0x1000);		/* touched by no range, yet it may not go */
	other = make_range(mm, 0x4000, 0x5000);
	range_start(&range);
	range_start(&other);
	remover = spawn(do_remove, &b);
	wait_until_blocked(remover, MMU_NOTIFIER_WAIT_REMOVE);
	ASSERT_EQ(mm_count(mm), 3);
	range_end(&range);
	ASSERT_NOT_WOKEN(remover);
	range_end(&other);
	join(remover);
	ASSERT_EQ(mm_count(mm), 2);
}

/* ST-4 */
TEST(IR_4_remove_while_even)
{
	struct watch a, b = watch("b");

	set_up(&a);
	INSERT(&b, mm, 0x8000, 0x1000);
	REMOVE(&a);
	range_start(&range);			/* overlaps nothing any more */
	REMOVE(&b);
	POISON(&a.sub);
	POISON(&b.sub);
	range_end(&range);
	invalidate(mm, 0, ULONG_MAX);
	ASSERT_POISON(&a.sub);
	ASSERT_POISON(&b.sub);
	EXPECT_LOG();
}

/* IR-6, IR-8: when remove is back, nothing of the library points to the object, even with others on the deferred list. */
TEST(IR_6_and_IR_8_memory_is_free_after_remove)
{
	struct watch *gone[8], a, stay = watch("stay");
	struct thread *removers[8];

	set_up(&a);
	for (int n = 0; n < 8; n++) {
		gone[n] = malloc(sizeof(**gone));
		*gone[n] = watch("gone");
		INSERT(gone[n], mm, 0x1000 + n, 0x1000);
	}
	range_start(&range);
	EXPECT_LOG("a.inv 3", "gone.inv 3", "gone.inv 3", "gone.inv 3", "gone.inv 3", "gone.inv 3", "gone.inv 3",
		   "gone.inv 3", "gone.inv 3");
	for (int n = 0; n < 8; n++)
		removers[n] = spawn(do_remove, gone[n]);
	for (int n = 0; n < 8; n++)
		wait_until_blocked(removers[n], MMU_NOTIFIER_WAIT_REMOVE);
	INSERT(&stay, mm, 0x1000, 0x1000);
	range_end(&range);
	for (int n = 0; n < 8; n++) {
		join(removers[n]);
		POISON(gone[n]);
		free(gone[n]);
	}
	ASSERT_EQ(mm_count(mm), 3);
	invalidate(mm, 0, ULONG_MAX);
	EXPECT_LOG("a.inv 5", "stay.inv 5");
}

/* IR-1: nothing but the sub is given. ML-3 */
TEST(IR_7_remove_may_drop_the_last_reference)
{
	struct watch a;

	set_up(&a);
	mmput(mm);
	ASSERT_EQ(mm_users(mm), 0);
	ASSERT_EQ(mm_count(mm), 1);
	REMOVE(&a);				/* frees mm */
	EXPECT_LOG("a.inv 3");
}

/* --- read_begin */

TEST(RB_3_no_wait_for_a_period_that_is_not_the_subs)
{
	struct watch a, b = watch("b");

	set_up(&a);
	INSERT(&b, mm, 0x8000, 0x1000);
	range_start(&range);
	ASSERT_EQ(READ_BEGIN(&b), 1);
	ASSERT(!mmu_interval_read_retry(&b.sub, 1));
	ASSERT(!mmu_interval_check_retry(&b.sub, 1));
	range_end(&range);
}

TEST(RB_3_waits_for_ranges_that_do_not_touch_it)
{
	struct mmu_notifier_range other;
	struct watch a;
	struct thread *reader;

	set_up(&a);
	other = make_range(mm, 0x8000, 0x9000);
	range_start(&other);
	invalidate(mm, 0x1000, 0x2000);
	reader = spawn(do_read_begin, &a);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	range_end(&other);
	ASSERT_EQ(join(reader), 3);
	ASSERT(!mmu_interval_read_retry(&a.sub, 3));
}

TEST(RB_4_returns_what_it_read_before_it_slept)
{
	struct watch a;
	struct thread *reader;

	set_up(&a);
	range_start(&range);
	reader = spawn(do_read_begin, &a);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	range_end(&range);
	range_start(&range);
	EXPECT_LOG("a.inv 3", "a.inv 5");
	ASSERT_EQ(join(reader), 3);		/* although a range is active */
	ASSERT(mmu_interval_read_retry(&a.sub, 3));
	ASSERT(mmu_interval_check_retry(&a.sub, 3));
	range_end(&range);
}

TEST(RB_5_an_even_value_sleeps_until_seq_is_odd)
{
	struct watch a, b = watch("b");
	struct thread *reader;

	set_up(&a);
	INSERT(&b, mm, 0x8000, 0x1000);
	mmu_interval_set_seq(&b.sub, 2);	/* what no driver should do */
	reader = spawn(do_read_begin, &b);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	invalidate(mm, 0x8000000, 0x8001000);	/* overlaps nothing */
	ASSERT_NOT_DONE(reader);
	range_start(&range);
	range_end(&range);
	ASSERT_EQ(join(reader), 2);
	EXPECT_LOG("a.inv 3");
}

/* 4.3-6 */
TEST(RB_2_a_skipped_set_seq_does_not_collide)
{
	struct watch a;

	set_up(&a);
	a.keep_seq = true;
	range_start(&range);
	ASSERT_EQ(READ_BEGIN(&a), 1);
	range_end(&range);
	EXPECT_LOG("a.inv 3");
}

TEST(S1_3_retry_and_set_seq_are_plain)
{
	struct watch a;

	set_up(&a);
	mmu_interval_set_seq(&a.sub, 77);
	ASSERT_EQ(SEQ(&a), 77);
	ASSERT(!mmu_interval_read_retry(&a.sub, 77));
	ASSERT(mmu_interval_read_retry(&a.sub, 79));
	ASSERT(!mmu_interval_check_retry(&a.sub, 77));
	ASSERT(mmu_interval_check_retry(&a.sub, 1));
}

TEST(RB_1_a_sub_that_was_never_inserted)
{
	struct watch a = watch("a");

	mm = mm_alloc();
	a.sub.mm = mm;
	EXPECT_BUG("RB-1", mmu_interval_read_begin(&a.sub));
}

/* Whoever collided with an even number is woken by the change itself, not by the end of that busy period. RB-6: a value, no code */
TEST(RB_5_an_overlapping_start_wakes)
{
	struct watch a, b = watch("b");
	struct thread *reader;

	set_up(&a);
	INSERT(&b, mm, 0x8000, 0x1000);
	mmu_interval_set_seq(&b.sub, 2);
	reader = spawn(do_read_begin, &b);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	range_start(&range);
	ASSERT_EQ(join(reader), 2);		/* while the range goes on */
	range_end(&range);
}

TEST(RB_5_an_insert_that_makes_seq_odd_wakes)
{
	struct watch a, b = watch("b"), c = watch("c");
	struct thread *reader;

	set_up(&a);
	INSERT(&b, mm, 0x8000, 0x1000);
	mmu_interval_set_seq(&b.sub, 2);
	reader = spawn(do_read_begin, &b);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	range = make_range(mm, 0x4000, 0x5000);	/* overlaps nothing */
	range_start(&range);
	ASSERT_NOT_WOKEN(reader);
	INSERT(&c, mm, 0x6000, 0x1000);		/* II-7b */
	ASSERT_EQ(join(reader), 2);
	range_end(&range);
}

static struct gate holding;

static void *hold_a_range(void *arg)
{
	struct mmu_notifier_range elsewhere = make_range(mm, 0x40000, 0x41000);

	range_start(&elsewhere);
	gate_pass(&holding);
	range_end(&elsewhere);
	return arg;
}

TEST(RB_3_waits_for_other_threads_that_never_touch_it)
{
	struct watch a;
	struct thread *holder, *reader;

	set_up(&a);
	holder = spawn(hold_a_range, NULL);
	gate_wait(&holding);
	invalidate(mm, 0x1000, 0x2000);
	reader = spawn(do_read_begin, &a);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	invalidate(mm, 0x1000, 0x2000);		/* another end, not the last */
	EXPECT_LOG("a.inv 3", "a.inv 3");
	ASSERT_NOT_WOKEN(reader);
	gate_open(&holding);
	ASSERT_EQ(join(reader), 3);
	join(holder);
}

TEST(II_11_insert_in_the_middle_of_another_threads_range)
{
	struct watch a, b = watch("b");
	struct thread *holder;

	set_up(&a);
	holder = spawn(hold_a_range, NULL);
	gate_wait(&holding);
	INSERT(&b, mm, 0x8000, 0x1000);
	ASSERT(IN_TREE(&b));
	ASSERT_EQ(SEQ(&b), 3);
	gate_open(&holding);
	join(holder);
}

/* RB-3, IR-6: a sleep is not interrupted by a signal; nor is RG-8's wait for the lock (RG-4). */
static int signals_handled;

static void on_signal(int number)
{
	(void)number;
	STORE(signals_handled, LOAD(signals_handled) + 1);
}

static void *remove_and_note(void *watch)
{
	REMOVE((struct watch *)watch);
	note("removed");
	return NULL;
}

static void *read_and_note(void *watch)
{
	void *seq = do_read_begin(watch);

	note("read");
	return seq;
}

static void *register_and_note(void *listener)
{
	REGISTER((struct listener *)listener, mm);
	note("registered");
	return NULL;
}

/* The second signal is handled after the sleeper has come back from the first. */
static void interrupt_twice(struct thread *sleeper)
{
	struct sigaction action = { .sa_handler = on_signal };	/* no SA_RESTART */

	signals_handled = 0;
	sigaction(SIGUSR1, &action, NULL);
	for (int n = 1; n <= 2; n++) {
		ASSERT_EQ(pthread_kill(sleeper->id, SIGUSR1), 0);
		WAIT_FOR(LOAD(signals_handled) == n);
	}
	ASSERT_NOT_DONE(sleeper);
	note("still asleep");
}

TEST(RB_3_a_signal_does_not_end_the_sleep)
{
	struct watch a;
	struct thread *reader;

	set_up(&a);
	range_start(&range);
	reader = spawn(read_and_note, &a);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	interrupt_twice(reader);
	range_end(&range);
	ASSERT_EQ(join(reader), 3);
	EXPECT_LOG("a.inv 3", "still asleep", "read");
}

TEST(IR_6_a_signal_does_not_end_the_sleep)
{
	struct watch a;
	struct thread *remover;

	set_up(&a);
	range_start(&range);
	remover = spawn(remove_and_note, &a);
	wait_until_blocked(remover, MMU_NOTIFIER_WAIT_REMOVE);
	interrupt_twice(remover);
	range_end(&range);
	join(remover);
	EXPECT_LOG("a.inv 3", "still asleep", "removed");
}

TEST(DV_4_a_signal_does_not_end_the_wait_for_a_lock)
{
	struct listener A = listener("A", &ops_all);
	struct thread *registrar;

	mm = mm_alloc();
	mmu_notifier_rmap_read_lock(mm);	/* what mm_take_all_locks would wait for */
	registrar = spawn(register_and_note, &A);
	wait_until_blocked(registrar, MMU_NOTIFIER_WAIT_RMAP_LOCK);
	interrupt_twice(registrar);
	mmu_notifier_rmap_read_unlock(mm);
	join(registrar);
	EXPECT_LOG("still asleep", "registered");
}

static bool invalidate_nothing(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *seen, unsigned long seq)
{
	(void)sub;
	(void)seen;
	(void)seq;
	return true;
}

TEST(II_10_ops_without_invalidate)
{
	static struct mmu_interval_notifier_ops ops = { .invalidate = invalidate_nothing };
	struct watch a = watch("a");

	mm = mm_alloc();
	ASSERT_EQ(mmu_interval_notifier_insert(&a.sub, mm, 0x1000, 0x1000, &ops), 0);
	invalidate(mm, 0x1000, 0x2000);
	ops.invalidate = NULL;
	EXPECT_BUG_IN("II-10", "mmu_notifier_invalidate_range_start", "", invalidate(mm, 0x1000, 0x2000));
}

/* IR-5: holding the lock of the callbacks is reported by lockdep only, which is off (DV-3). */
TEST(IR_5_no_lockdep)
{
	struct watch a;

	set_up(&a);
	pthread_mutex_lock(&a.user_lock);
	REMOVE(&a);
	pthread_mutex_unlock(&a.user_lock);
	expect_reports();
}

/* RS-3: the walk meets neither what a callback inserts to its right, nor does it lose its way by it. */
static struct watch more[8];

static void insert_to_the_right(struct watch *self, const struct mmu_notifier_range *seen, unsigned long seq)
{
	(void)seen;
	(void)seq;
	self->in = NULL;
	for (int n = 0; n < 8; n++) {
		more[n] = watch("more");
		INSERT(&more[n], mm, 0x1800 + n, 0x1000);
	}
}

TEST(RS_3_the_tree_stands_still_under_the_walk)
{
	struct watch a, b = watch("b"), c = watch("c");

	set_up(&a);
	INSERT(&b, mm, 0x1400, 0x1000);
	INSERT(&c, mm, 0x1f00, 0x1000);
	a.in = insert_to_the_right;
	range_start(&range);
	EXPECT_LOG("a.inv 3", "b.inv 3", "c.inv 3");
	range_end(&range);
}

/* --- states */

TEST(ST_2_published_once_and_kept)
{
	struct listener A = listener("A", &ops_all), B = listener("B", &ops_all);
	struct watch a = watch("a");
	void *published;

	mm = mm_alloc();
	mmgrab(mm);
	REGISTER(&A, mm);
	published = mm->notifier_subscriptions;
	UNREGISTER(&A);
	INSERT(&a, mm, 0x1000, 0x1000);
	REGISTER(&B, mm);
	REMOVE(&a);
	mmput(mm);
	UNREGISTER(&B);
	ASSERT_EQ(mm->notifier_subscriptions, published);
	ASSERT(mm_has_notifiers(mm));
}

TEST(ST_3_only_an_insert_turns_intervals_on)
{
	struct listener A = listener("A", &ops_all);
	struct watch a = watch("a");
	struct thread *inserter;

	mm = mm_alloc();
	REGISTER(&A, mm);
	mmap_read_lock(mm);
	inserter = spawn(do_insert, &a);	/* S is there, has_itree is not: II-1 takes the lock */
	wait_until_blocked(inserter, MMU_NOTIFIER_WAIT_MMAP_LOCK);
	mmap_read_unlock(mm);
	join(inserter);
}

TEST(ST_3_intervals_stay_on)
{
	struct watch a, b = watch("b");

	set_up(&a);
	REMOVE(&a);				/* the last one */
	mmap_write_lock(mm);
	INSERT(&b, mm, 0x1000, 0x1000);		/* has no reason to take it (II-11) */
	mmap_write_unlock(mm);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("b.inv 3");
}


TEST(ST_1_seq_begins_at_2)
{
	mm = mm_alloc();
	ASSERT_EQ(idle_seq(mm), 2);
}

TEST(ST_5_insert_during_even_makes_one_period_of_it)
{
	struct watch a = watch("a"), b = watch("b"), c = watch("c");

	mm = mm_alloc();
	ASSERT_EQ(idle_seq(mm), 2);
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	INSERT(&a, mm, 0x5000, 0x1000);		/* 2 -> 3 */
	INSERT(&b, mm, 0x6000, 0x1000);		/* now deferred */
	ASSERT(IN_TREE(&a));
	ASSERT(!IN_TREE(&b));
	INSERT(&c, mm, 0x7000, 0x1000);
	ASSERT_EQ(SEQ(&a) | SEQ(&b) | SEQ(&c), 3);
	range_end(&range);
	ASSERT_EQ(idle_seq(mm), 4);
}

TEST(ST_7_seqs_are_odd_at_every_insert)
{
	struct watch watches[4], a;

	set_up(&a);
	for (int n = 0; n < 4; n++) {
		watches[n] = watch("w");
		if (n & 1)
			range_start(&range);
		INSERT(&watches[n], mm, 0x10000 * n + 0x10000, 0x1000);
		ASSERT_EQ(SEQ(&watches[n]), 2 * (n / 2) + (n & 1 ? 3 : 1));
		if (n & 1)
			range_end(&range);
	}
}

TEST(DV_12_equal_starts_in_insertion_order)
{
	struct watch a = watch("a"), b = watch("b"), c = watch("c");

	mm = mm_alloc();
	INSERT(&b, mm, 0x1000, 0x3000);
	INSERT(&a, mm, 0x1000, 0x1000);
	INSERT(&c, mm, 0x1000, 0x2000);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("b.inv 3", "a.inv 3", "c.inv 3");
	REMOVE(&b);
	INSERT(&b, mm, 0x1000, 0x3000);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 5", "c.inv 5", "b.inv 5");
}
