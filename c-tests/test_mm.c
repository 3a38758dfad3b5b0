/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* struct mm_struct: ML-1, ML-5, current, kthread_use_mm, the reverse-map lock. */
#include "test.h"

static struct mm_struct *mm;

/* --- counts */

TEST(ML_1_mm_alloc)
{
	struct mm_struct *other = mm_alloc();

	mm = mm_alloc();
	ASSERT_EQ(mm_users(mm), 1);
	ASSERT_EQ(mm_count(mm), 1);
	ASSERT(!mm_has_notifiers(mm));
	ASSERT_NE(mm, other);
	ASSERT_NE(mm->context.id, other->context.id);
	ASSERT_EQ(mm->pasid, 0xffffffffu);	/* none */
	mmput(mm);
	mmput(other);
}

TEST(ML_1_get_and_grab)
{
	mm = mm_alloc();
	mmget(mm);
	mmgrab(mm);
	ASSERT_EQ(mm_users(mm), 2);
	ASSERT_EQ(mm_count(mm), 2);
	ASSERT(mmget_not_zero(mm));
	ASSERT_EQ(mm_users(mm), 3);
	for (int n = 0; n < 3; n++)
		mmput(mm);
	ASSERT_EQ(mm_users(mm), 0);
	ASSERT_EQ(mm_count(mm), 1);		/* the users' common one is gone */
	ASSERT(!mmget_not_zero(mm));
	ASSERT_EQ(mm_users(mm), 0);
	mmdrop(mm);
}

static void *use_and_drop(void *arg)
{
	for (int n = 0; n < 2000; n++) {
		mmget(mm);
		mmgrab(mm);
		mmput(mm);
		mmdrop(mm);
	}
	return arg;
}

TEST(MO_6_mm_counts_are_exact)
{
	struct thread *threads[3];

	mm = mm_alloc();
	for (int n = 0; n < 3; n++)
		threads[n] = spawn(use_and_drop, NULL);
	for (int n = 0; n < 3; n++)
		join(threads[n]);
	ASSERT_EQ(mm_users(mm), 1);
	ASSERT_EQ(mm_count(mm), 1);
}

/* --- mmap_lock */

static void *write_lock(void *arg)
{
	mmap_write_lock(mm);
	note("writer");
	mmap_write_unlock(mm);
	return arg;
}

static void *read_lock(void *arg)
{
	mmap_read_lock(mm);
	note("reader");
	mmap_read_unlock(mm);
	return arg;
}

TEST(ML_5_readers_share_writers_do_not)
{
	mm = mm_alloc();
	mmap_read_lock(mm);
	ASSERT(mmap_read_trylock(mm));
	ASSERT(!mmap_write_trylock(mm));
	mmap_read_unlock(mm);
	ASSERT(!mmap_write_trylock(mm));
	mmap_read_unlock(mm);
	ASSERT(mmap_write_trylock(mm));
	ASSERT(!mmap_write_trylock(mm));	/* not recursive */
	ASSERT(!mmap_read_trylock(mm));
	mmap_write_unlock(mm);
}

TEST(ML_5_each_mm_has_its_own)
{
	struct mm_struct *other = mm_alloc();

	mm = mm_alloc();
	mmap_write_lock(mm);
	ASSERT(mmap_write_trylock(other));
	mmap_write_unlock(other);
	mmap_write_unlock(mm);
}

TEST(ML_5_writer_waits_for_readers_and_readers_for_it)
{
	struct thread *thread;

	mm = mm_alloc();
	mmap_read_lock(mm);
	thread = spawn(write_lock, NULL);
	wait_until_blocked(thread, MMU_NOTIFIER_WAIT_MMAP_LOCK);
	mmap_read_unlock(mm);
	join(thread);
	mmap_write_lock(mm);
	thread = spawn(read_lock, NULL);
	wait_until_blocked(thread, MMU_NOTIFIER_WAIT_MMAP_LOCK);
	mmap_write_unlock(mm);
	join(thread);
	EXPECT_LOG("writer", "reader");
}

TEST(ML_5_new_readers_do_not_starve_a_writer)
{
	struct thread *writer, *reader;

	mm = mm_alloc();
	mmap_read_lock(mm);
	writer = spawn(write_lock, NULL);
	wait_until_blocked(writer, MMU_NOTIFIER_WAIT_MMAP_LOCK);
	reader = spawn(read_lock, NULL);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_MMAP_LOCK);
	mmap_read_unlock(mm);
	join(writer);
	join(reader);
	EXPECT_LOG("writer", "reader");
}

static void *write_unlock(void *arg) { mmap_write_unlock(mm); return arg; }
static void *read_unlock(void *arg) { mmap_read_unlock(mm); return arg; }

TEST(ML_5_another_thread_may_unlock)
{
	mm = mm_alloc();
	mmap_write_lock(mm);
	join(spawn(write_unlock, NULL));
	mmap_read_lock(mm);
	join(spawn(read_unlock, NULL));
	ASSERT(mmap_write_trylock(mm));
	expect_reports();
}

TEST(ML_5_downgrade)
{
	struct thread *writer;

	mm = mm_alloc();
	mmap_write_lock(mm);
	mmap_write_downgrade(mm);
	ASSERT(mmap_read_trylock(mm));
	mmap_read_unlock(mm);
	ASSERT(!mmap_write_trylock(mm));
	mmap_read_unlock(mm);

	mmap_write_lock(mm);
	writer = spawn(write_lock, NULL);
	wait_until_blocked(writer, MMU_NOTIFIER_WAIT_MMAP_LOCK);
	mmap_write_downgrade(mm);		/* lets no writer in between */
	ASSERT_NOT_WOKEN(writer);
	mmap_assert_locked(mm);
	mmap_read_unlock(mm);
	join(writer);
}

TEST(ML_5_downgrade_lets_readers_in)
{
	struct thread *reader;

	mm = mm_alloc();
	mmap_write_lock(mm);
	reader = spawn(read_lock, NULL);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_MMAP_LOCK);
	mmap_write_downgrade(mm);
	join(reader);
	mmap_read_unlock(mm);
}

TEST(ML_5_killable)
{
	mm = mm_alloc();
	ASSERT_EQ(mmap_read_lock_killable(mm), 0);
	ASSERT(!mmap_write_trylock(mm));
	mmap_read_unlock(mm);
	ASSERT_EQ(mmap_write_lock_killable(mm), 0);
	ASSERT(!mmap_read_trylock(mm));
	mmap_write_unlock(mm);
}

static void *assert_held(void *write)
{
	mmap_assert_locked(mm);
	if (write)
		mmap_assert_write_locked(mm);
	return NULL;
}

TEST(ML_5_assertions_ask_whether_not_by_whom)
{
	mm = mm_alloc();
	mmap_write_lock(mm);
	join(spawn(assert_held, mm));
	mmap_write_unlock(mm);
	mmap_read_lock(mm);
	join(spawn(assert_held, NULL));
	expect_reports();
	mmap_assert_write_locked(mm);
	expect_reports("DV-3 mmap_assert_write_locked");
	mmap_read_unlock(mm);
	mmap_assert_locked(mm);
	expect_reports("DV-3 mmap_assert_locked");
}

/* --- the reverse-map lock */

static void *rmap_write(void *arg)
{
	mmu_notifier_rmap_write_lock(mm);
	note("writer");
	mmu_notifier_rmap_write_unlock(mm);
	return arg;
}

static void *rmap_read(void *arg)
{
	mmu_notifier_rmap_read_lock(mm);
	note("reader");
	mmu_notifier_rmap_read_unlock(mm);
	return arg;
}

TEST(DV_16_rmap_lock)
{
	struct thread *writer;

	mm = mm_alloc();
	mmap_write_lock(mm);			/* another lock */
	mmu_notifier_rmap_read_lock(mm);
	join(spawn(rmap_read, NULL));
	writer = spawn(rmap_write, NULL);
	wait_until_blocked(writer, MMU_NOTIFIER_WAIT_RMAP_LOCK);
	mmu_notifier_rmap_read_unlock(mm);
	join(writer);
	EXPECT_LOG("reader", "writer");
	mmap_write_unlock(mm);
}

/* --- current */

TEST(current_of_the_first_thread)
{
	ASSERT(current);
	ASSERT_EQ(current, current);
	ASSERT(current->mm);
	ASSERT(mm_users(current->mm) >= 1);
	ASSERT_EQ(current->pid, syscall(SYS_gettid));
	ASSERT_EQ(current->tgid, getpid());
	ASSERT_EQ(current->group_leader, current);
}

static struct task_struct *first_thread;
static struct mm_struct *process_mm;

static void *look_around(void *arg)
{
	ASSERT_NE(current, first_thread);
	ASSERT_EQ(current->group_leader, first_thread);
	ASSERT_EQ(current->mm, process_mm);
	ASSERT_EQ(current->pid, syscall(SYS_gettid));
	ASSERT_EQ(current->tgid, getpid());
	current->mm = mm;
	ASSERT_EQ(current->mm, mm);
	return arg;
}

TEST(current_is_per_thread)
{
	first_thread = current;
	process_mm = current->mm;
	mm = mm_alloc();
	join(spawn(look_around, NULL));
	ASSERT_EQ(current->mm, process_mm);
	current->mm = mm;			/* assignable: no count changes */
	ASSERT_EQ(mm_users(mm), 1);
	ASSERT_EQ(mm_count(mm), 1);
	current->mm = process_mm;
}

TEST(get_task_mm_adds_a_user)
{
	struct mm_struct *own = current->mm;
	int users = mm_users(own);

	ASSERT_EQ(get_task_mm(current), own);
	ASSERT_EQ(mm_users(own), users + 1);
	mmput(own);
	ASSERT_EQ(mm_users(own), users);
	current->mm = NULL;
	ASSERT_EQ(get_task_mm(current), NULL);
	current->mm = own;
}

TEST(kthread_use_mm_keeps_the_mm_and_unuse_restores)
{
	struct mm_struct *own = current->mm;

	mm = mm_alloc();
	mmgrab(mm);
	kthread_use_mm(mm);
	ASSERT_EQ(current->mm, mm);
	mmput(mm);				/* the users go, the struct stays */
	mmdrop(mm);
	ASSERT_EQ(mm_users(mm), 0);
	ASSERT(mm_count(mm) >= 1);
	kthread_unuse_mm(mm);			/* frees it */
	ASSERT_EQ(current->mm, own);
}

TEST(kthread_use_mm_gives_back_what_it_took)
{
	struct mm_struct *own = current->mm;

	mm = mm_alloc();
	current->mm = NULL;
	kthread_use_mm(mm);
	ASSERT_EQ(current->mm, mm);
	kthread_unuse_mm(mm);
	ASSERT_EQ(current->mm, NULL);
	ASSERT_EQ(mm_users(mm), 1);
	ASSERT_EQ(mm_count(mm), 1);
	current->mm = own;
}
