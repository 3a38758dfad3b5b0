/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* DV-13: the child's process mm is new; other mms come along as memory; the parent notices nothing. */
#include "test.h"

#include <linux/rcupdate.h>

static struct mm_struct *process, *mm;
static struct listener A, B;
static struct watch w, v;
static struct mmu_notifier *got;

/* Everything there is, on the process's mm; the library's worker runs. */
static void set_up(void)
{
	process = current->mm;
	A = listener("A", &ops_kept);
	B = listener("B", &ops_kept);
	w = watch("w");
	REGISTER(&A, process);
	REGISTER(&B, process);
	INSERT(&w, process, 0x1000, 0x1000);
	mmu_notifier_put(&B.mn);
	mmu_notifier_synchronize();
	got = mmu_notifier_get(&ops_get, process);
	ASSERT(!IS_ERR(got));
	EXPECT_LOG("B.free", "alloc");
	STORE(test_frees, 0);
}

static void end_inherited(void)
{
	UNREGISTER(&A);
	REMOVE(&w);
	mmu_notifier_put(got);
	mmu_notifier_synchronize();
}

static void expect_parent_untouched(void)
{
	invalidate(process, 0x1000, 0x2000);
	EXPECT_LOG("w.inv 3", "got.start", "A.start", "got.end", "A.end");
	end_inherited();
	EXPECT_LOG("A.release", "free");
}

TEST(DV_13_the_childs_process_mm_has_no_subscribers)
{
	set_up();
	IN_CHILD({
		ASSERT(!mm_has_notifiers(current->mm));
		invalidate(current->mm, 0x1000, 0x2000);
		do_walk(current->mm);
		EXPECT_LOG();
	});
	expect_parent_untouched();
}

TEST(DV_13_inherited_ones_end_silently)
{
	set_up();
	IN_CHILD({
		int count = mm_count(current->mm);

		end_inherited();
		EXPECT_LOG();
		ASSERT_EQ(LOAD(test_frees), 0);
		ASSERT_EQ(mm_count(current->mm), count);
	});
	expect_parent_untouched();
}

/* Registrations of the child's own, begun and ended. */
static void use_own(void)
{
	struct mmu_notifier *mn = mmu_notifier_get(&ops_get, current->mm);
	struct watch x = watch("x");
	struct listener C = listener("C", &ops_kept);

	EXPECT_LOG("alloc");			/* the inherited one is not found */
	ASSERT_NE(mn, got);
	REGISTER(&C, current->mm);
	INSERT(&x, current->mm, 0x1000, 0x1000);
	invalidate(current->mm, 0x1000, 0x2000);
	EXPECT_LOG("x.inv 3", "C.start", "got.start", "C.end", "got.end");
	REMOVE(&x);
	UNREGISTER(&C);
	mmu_notifier_put(mn);
	mmu_notifier_synchronize();
	EXPECT_LOG("C.release", "free");
}

TEST(DV_13_the_childs_own_work)
{
	set_up();
	IN_CHILD(use_own());
	expect_parent_untouched();
}

TEST(DV_13_inherited_ones_end_among_the_childs_own)
{
	set_up();
	IN_CHILD({
		struct watch x = watch("x");
		struct listener C = listener("C", &ops_kept);

		INSERT(&x, current->mm, 0x1000, 0x1000);
		REGISTER(&C, current->mm);
		end_inherited();
		invalidate(current->mm, 0x1000, 0x2000);
		EXPECT_LOG("x.inv 3", "C.start", "C.end");
		REMOVE(&x);
		UNREGISTER(&C);
		EXPECT_LOG("C.release");
	});
	expect_parent_untouched();
}

TEST(DV_13_the_same_objects_again)
{
	set_up();
	IN_CHILD({
		UNREGISTER(&A);
		REMOVE(&w);
		A = listener("A", &ops_kept);
		w = watch("w");
		REGISTER(&A, current->mm);
		INSERT(&w, current->mm, 0x1000, 0x1000);
		invalidate(current->mm, 0x1000, 0x2000);
		EXPECT_LOG("w.inv 3", "A.start", "A.end");
		UNREGISTER(&A);
		EXPECT_LOG("A.release");
		REMOVE(&w);
	});
	expect_parent_untouched();
}

/* The child registers the same memory anew without ending what it inherited: it is its own registration that ends. */
TEST(DV_13_the_same_memory_anew)
{
	set_up();
	IN_CHILD({
		int count = mm_count(current->mm);

		A = listener("A", &ops_kept);
		w = watch("w");
		REGISTER(&A, current->mm);
		INSERT(&w, current->mm, 0x1000, 0x1000);
		UNREGISTER(&A);
		REMOVE(&w);
		EXPECT_LOG("A.release");
		ASSERT_EQ(mm_count(current->mm), count);
	});
	expect_parent_untouched();
}

/* Exit handlers of drivers that hold references of their own do no harm in the child. */
TEST(DV_13_exit_handlers_that_drop_references)
{
	process = current->mm;
	A = listener("A", &ops_none);
	B = listener("B", &ops_none);
	mmgrab(process);
	mmgrab(process);
	REGISTER(&A, process);
	REGISTER(&B, process);
	IN_CHILD({
		UNREGISTER(&A);
		mmdrop(process);
		UNREGISTER(&B);
		mmdrop(process);
	});
	UNREGISTER(&A);
	mmdrop(process);
	UNREGISTER(&B);
	mmdrop(process);
}

/* Both puts of a notifier that was gotten twice before the fork are silent. */
TEST(DV_13_two_puts_of_an_inherited_notifier)
{
	process = current->mm;
	got = mmu_notifier_get(&ops_get, process);
	ASSERT(mmu_notifier_get(&ops_get, process) == got);
	EXPECT_LOG("alloc");
	IN_CHILD({
		mmu_notifier_put(got);
		mmu_notifier_put(got);
		EXPECT_LOG();
	});
	mmu_notifier_put(got);
	mmu_notifier_put(got);
	mmu_notifier_synchronize();
	EXPECT_LOG("free");
}

TEST(DV_13_a_childs_child)
{
	set_up();
	IN_CHILD({
		struct listener C = listener("C", &ops_kept);

		REGISTER(&C, current->mm);
		IN_CHILD({
			invalidate(current->mm, 0x1000, 0x2000);
			UNREGISTER(&C);
			end_inherited();
			EXPECT_LOG();
			use_own();
		});
		invalidate(current->mm, 0x1000, 0x2000);
		EXPECT_LOG("C.start", "C.end");
		UNREGISTER(&C);
		end_inherited();
		EXPECT_LOG("C.release");
	});
	expect_parent_untouched();
}

/* --- other threads' ranges, walks, locks */

static struct gate started, walking, locked, go_on;

static void *keep_range_open(void *of)
{
	struct mmu_notifier_range range = make_range(of, 0x1000, 0x2000);

	range_start(&range);
	STORE(started.arrived, 1);
	gate_pass(&go_on);
	range_end(&range);
	return NULL;
}

TEST(DV_13_remove_of_an_inherited_one_does_not_wait)
{
	struct thread *thread;

	set_up();
	thread = spawn(keep_range_open, process);
	gate_wait(&started);
	STORE(test_log_end, 0);
	IN_CHILD(end_inherited(); EXPECT_LOG());
	gate_open(&go_on);
	join(thread);
}

/* Another mm, with w in the tree, v deferred, and A on the list; a thread has a range over w open. */
static struct thread *set_up_other(void)
{
	struct thread *thread;

	mm = mm_alloc();
	A = listener("A", &ops_kept);
	w = watch("w");
	v = watch("v");
	REGISTER(&A, mm);
	INSERT(&w, mm, 0x1000, 0x1000);
	thread = spawn(keep_range_open, mm);
	gate_wait(&started);
	INSERT(&v, mm, 0x1000, 0x1000);
	EXPECT_LOG("w.inv 3", "A.start");
	return thread;
}

TEST(DV_13_ranges_of_vanished_threads_are_ended)
{
	struct thread *thread = set_up_other(), *reader;

	IN_CHILD({
		ASSERT_EQ(READ_BEGIN(&w), 3);
		ASSERT(mmap_write_trylock(mm));	/* that thread's lock is gone, too */
		mmap_write_unlock(mm);
		ASSERT_EQ(idle_seq(mm), 4);
		invalidate(mm, 0x1000, 0x2000);
		EXPECT_LOG("w.inv 5", "v.inv 5", "A.start", "A.end");
		REMOVE(&v);
		REMOVE(&w);
		UNREGISTER(&A);
		ASSERT_EQ(mm_count(mm), 1);
		mmput(mm);
	});
	reader = spawn(do_read_begin, &w);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	gate_open(&go_on);
	join(thread);
	ASSERT_EQ(join(reader), 3);
	EXPECT_LOG("A.end");
}

TEST(DV_13_other_mms_can_be_destroyed)
{
	struct thread *thread = set_up_other();

	IN_CHILD({
		mmput(mm);
		EXPECT_LOG("w.inv 5", "v.inv 5", "A.release");
		mmu_notifier_put(&A.mn);
		mmu_notifier_synchronize();
		EXPECT_LOG("A.free");
		REMOVE(&w);
		REMOVE(&v);			/* frees mm */
	});
	gate_open(&go_on);
	join(thread);
}

TEST(DV_13_the_forking_threads_own_range_goes_on)
{
	struct mmu_notifier_range range;
	struct thread *thread = set_up_other();

	range = make_range(mm, 0x8000, 0x9000);
	range_start(&range);
	IN_CHILD({
		struct watch late = watch("late");

		INSERT(&late, mm, 0x5000, 0x1000);
		ASSERT_EQ(SEQ(&late), 3);
		ASSERT(!mmap_write_trylock(mm));
		range_end(&range);
		ASSERT_EQ(READ_BEGIN(&late), 3);
		ASSERT(mmap_write_trylock(mm));
	});
	range_end(&range);
	gate_open(&go_on);
	join(thread);
}

TEST(DV_13_walks_of_vanished_threads_are_over)
{
	struct thread *walker;

	mm = mm_alloc();
	A = listener("A", &ops_kept);
	A.in = stand_at_gate;
	A.arg = &walking;
	REGISTER(&A, mm);
	walker = spawn(do_walk, mm);
	gate_wait(&walking);
	STORE(test_log_end, 0);
	IN_CHILD({
		mmu_notifier_synchronize();
		UNREGISTER(&A);
		mmu_notifier_rmap_write_lock(mm);
		EXPECT_LOG("A.release");
	});
	gate_open(&walking);
	join(walker);
}

static void *keep_locks(void *arg)
{
	mmap_write_lock(mm);
	mmu_notifier_rmap_write_lock(mm);
	mmap_write_lock(current->mm);
	gate_pass(&locked);
	mmap_write_unlock(current->mm);
	mmu_notifier_rmap_write_unlock(mm);
	mmap_write_unlock(mm);
	return arg;
}

TEST(DV_13_locks_of_vanished_threads_are_free)
{
	struct thread *thread;

	mm = mm_alloc();
	thread = spawn(keep_locks, NULL);
	gate_wait(&locked);
	IN_CHILD({
		A = listener("A", &ops_kept);
		REGISTER(&A, mm);
		UNREGISTER(&A);
		REGISTER(&A, current->mm);
		UNREGISTER(&A);
	});
	gate_open(&locked);
	join(thread);
}

static struct gate reads;

static void *read_until_opened(void *data)
{
	rcu_read_lock();
	gate_pass(&reads);
	rcu_read_unlock();
	return data;
}

/* A reader of another thread does not come along: the child's grace periods end. */
TEST(DV_13_rcu_readers_do_not_come_along)
{
	struct thread *reader = spawn(read_until_opened, NULL);

	gate_wait(&reads);
	IN_CHILD(synchronize_rcu());
	gate_open(&reads);
	join(reader);
}

TEST(DV_13_sleepers_do_not_come_along)
{
	struct thread *thread = set_up_other(), *remover = spawn(do_remove, &w), *reader = spawn(do_read_begin, &w);

	wait_until_blocked(remover, MMU_NOTIFIER_WAIT_REMOVE);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	IN_CHILD({
		invalidate(mm, 0x1000, 0x2000);
		EXPECT_LOG("v.inv 5", "A.start", "A.end");	/* w's removal is done */
	});
	gate_open(&go_on);
	join(thread);
	join(reader);
	join(remover);
}

/* --- fork inside of a callback */

static pid_t forked = -1;

static void fork_in_start(struct listener *self, const char *op)
{
	(void)self;
	if (!strcmp(op, "start") && forked < 0)
		forked = fork();
}

static void fork_in_invalidate(struct watch *self, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)self;
	(void)range;
	(void)seq;
	if (forked < 0)
		forked = fork();
}

/* In the child: leaves. In the parent: the child left well. */
static void join_forked(void)
{
	int status;

	ASSERT(forked >= 0);
	if (forked == 0) {
		expect_reports();
		_exit(0);
	}
	ASSERT_EQ(waitpid(forked, &status, 0), forked);
	ASSERT_EQ(status, 0);
}

TEST(DV_13_fork_in_a_callback_of_the_process_mm)
{
	set_up();
	A.in = fork_in_start;
	invalidate(process, 0x1000, 0x2000);
	STORE(test_log_end, 0);
	if (forked == 0) {
		end_inherited();
		EXPECT_LOG();
		use_own();
	}
	join_forked();
	end_inherited();
	EXPECT_LOG("A.release", "free");
}

TEST(DV_13_fork_in_invalidate_of_the_process_mm)
{
	set_up();
	w.in = fork_in_invalidate;
	invalidate(process, 0x1000, 0x2000);
	STORE(test_log_end, 0);
	if (forked == 0) {
		end_inherited();
		EXPECT_LOG();
		use_own();
	}
	join_forked();
	ASSERT_EQ(READ_BEGIN(&w), 3);
	end_inherited();
	EXPECT_LOG("A.release", "free");
}

static void fork_in_callbacks_of_another_mm(bool in_start)
{
	mm = mm_alloc();
	A = listener("A", &ops_kept);
	B = listener("B", &ops_kept);
	w = watch("w");
	if (in_start)
		B.in = fork_in_start;
	else
		w.in = fork_in_invalidate;
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	INSERT(&w, mm, 0x1000, 0x1000);
	invalidate(mm, 0x1000, 0x2000);
	/* Parent and child alike. */
	EXPECT_LOG("w.inv 3", "B.start", "A.start", "B.end", "A.end");
	ASSERT_EQ(READ_BEGIN(&w), 3);
	ASSERT_EQ(idle_seq(mm), 4);
	REMOVE(&w);
	UNREGISTER(&B);
	mmu_notifier_put(&A.mn);
	mmu_notifier_synchronize();
	EXPECT_LOG("B.release", "A.free");
	ASSERT_EQ(mm_count(mm), 1);
	mmput(mm);
	join_forked();
}

TEST(DV_13_fork_in_a_callback_of_another_mm) { fork_in_callbacks_of_another_mm(true); }
TEST(DV_13_fork_in_invalidate_of_another_mm) { fork_in_callbacks_of_another_mm(false); }

/* --- fork while other threads are at it */

static int stop;

static bool quiet_invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	mmu_interval_set_seq(sub, seq);
	return true;
}

static const struct mmu_interval_notifier_ops quiet = { .invalidate = quiet_invalidate };

static int quiet_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	(void)mn;
	(void)range;
	return 0;
}

static void quiet_free(struct mmu_notifier *mn) { free(container_of(mn, struct listener, mn)); }

static struct mmu_notifier *quiet_alloc(struct mm_struct *of)
{
	struct listener *self = malloc(sizeof(*self));

	(void)of;
	*self = listener("quiet", NULL);
	return &self->mn;
}

static const struct mmu_notifier_ops quiet_ops = {
	.invalidate_range_start = quiet_start, .alloc_notifier = quiet_alloc, .free_notifier = quiet_free };

static void *hammer_ranges(void *of)
{
	while (!LOAD(stop))
		invalidate(of, 0x1000, 0x3000);
	return NULL;
}

static void insert_and_remove(struct mm_struct *of)
{
	struct mmu_interval_notifier sub;

	ASSERT_EQ(mmu_interval_notifier_insert(&sub, of, 0x2000, 0x1000, &quiet), 0);
	mmu_interval_read_begin(&sub);
	mmu_interval_notifier_remove(&sub);
}

static void *hammer_intervals(void *of)
{
	while (!LOAD(stop))
		insert_and_remove(of);
	return NULL;
}

static void get_and_put(struct mm_struct *of)
{
	struct mmu_notifier *mn = mmu_notifier_get(&quiet_ops, of);

	ASSERT(!IS_ERR(mn));
	mmu_notifier_put(mn);
}

static void *hammer_list(void *of)
{
	while (!LOAD(stop))
		get_and_put(of);
	return NULL;
}

static void fork_while_hammered(struct mm_struct *of, int times)
{
	void *(*work[])(void *) = { hammer_ranges, hammer_intervals, hammer_list };
	struct thread *threads[3];

	mm = of;
	mmgrab(mm);
	for (int n = 0; n < 3; n++)
		threads[n] = spawn(work[n], mm);
	for (int n = 0; n < times; n++)
		IN_CHILD({
			insert_and_remove(mm);
			get_and_put(mm);
			invalidate(mm, 0x1000, 0x3000);
			mmu_notifier_synchronize();
			if (mm != current->mm)
				mmput(mm);
		});
	STORE(stop, 1);
	for (int n = 0; n < 3; n++)
		join(threads[n]);
	mmu_notifier_synchronize();
	ASSERT(mm_users(mm) >= 1);
	insert_and_remove(mm);
	mmdrop(mm);
}

TEST(DV_13_fork_while_others_work_on_another_mm)
{
	struct mm_struct *other = mm_alloc();

	fork_while_hammered(other, 15);
	ASSERT_EQ(mm_count(other), 1);
	ASSERT_EQ(idle_seq(other) & 1, 0);
}

TEST(DV_13_fork_while_others_work_on_the_process_mm)
{
	fork_while_hammered(current->mm, 15);
}
