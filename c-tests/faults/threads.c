/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Threads that vanish: in the middle of something, by pthread_cancel(), in the destructors of thread-specific data, and many of
 * them one after the other.
 */
#include "../test.h"
#include "scale.h"

#include <linux/rcupdate.h>
#include <linux/srcu.h>
#include <malloc.h>

static struct mm_struct *mm;
static struct listener A;
static struct watch w;
static struct mmu_notifier_range range;
static struct srcu_struct domain;
static int cookie;

static void set_up(void)
{
	mm = mm_alloc();
	A = listener("A", &ops_kept);
	w = watch("w");
	REGISTER(&A, mm);
	INSERT(&w, mm, 0x1000, 0x1000);
	ASSERT_EQ(init_srcu_struct(&domain), 0);
}

static void tear_down(void)
{
	REMOVE(&w);
	UNREGISTER(&A);
	cleanup_srcu_struct(&domain);
	ASSERT_EQ(mm_count(mm), 1);
	mmput(mm);
}

/* ----------------------------------------------------------------- what a thread leaves open */

static void *leave_open(void *arg)
{
	range = make_range(mm, 0x1000, 0x2000);
	mmap_read_lock(mm);
	mmu_notifier_rmap_read_lock(mm);
	mmu_notifier_invalidate_range_start(&range);
	cookie = srcu_read_lock(&domain);
	return arg;
}

static void *do_write_lock(void *arg)
{
	mmap_write_lock(mm);
	mmu_notifier_rmap_write_lock(mm);
	mmu_notifier_rmap_write_unlock(mm);
	mmap_write_unlock(mm);
	return arg;
}

static void *do_synchronize_domain(void *arg) { synchronize_srcu(&domain); return arg; }

/* ML-5, RE-5: whoever began a range, took a lock, or entered a domain need not be the one who ends it, nor exist. */
TEST(ML_5_another_thread_ends_what_a_dead_one_began)
{
	struct thread *reader, *writer, *updater;

	set_up();
	join(spawn(leave_open, NULL));
	reader = spawn(do_read_begin, &w);
	writer = spawn(do_write_lock, NULL);
	updater = spawn(do_synchronize_domain, NULL);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	wait_until_blocked(writer, MMU_NOTIFIER_WAIT_MMAP_LOCK);
	wait_until_blocked(updater, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	mmu_notifier_invalidate_range_end(&range);
	ASSERT_EQ(join(reader), 3);
	srcu_read_unlock(&domain, cookie);
	join(updater);
	ASSERT_NOT_DONE(writer);
	mmu_notifier_rmap_read_unlock(mm);
	mmap_read_unlock(mm);
	join(writer);
	EXPECT_LOG("w.inv 3", "A.start", "A.end");
	tear_down();
}

/* DV-13: and in the child of a fork there is nothing to end: no thread of it is inside. */
TEST(DV_13_what_a_dead_thread_began_is_over_in_the_child)
{
	set_up();
	join(spawn(leave_open, NULL));
	IN_CHILD({
		ASSERT_EQ(READ_BEGIN(&w), 3);
		do_write_lock(NULL);
		REMOVE(&w);
		UNREGISTER(&A);
		ASSERT_EQ(mm_count(mm), 1);
		mmput(mm);
	});
	mmu_notifier_invalidate_range_end(&range);
	srcu_read_unlock(&domain, cookie);
	mmu_notifier_rmap_read_unlock(mm);
	mmap_read_unlock(mm);
	tear_down();
}

static void *leave_rcu_open(void *arg) { rcu_read_lock(); return arg; }

TEST(DV_13_a_dead_threads_rcu_section_is_over_in_the_child)
{
	struct thread *updater;

	join(spawn(leave_rcu_open, NULL));
	IN_CHILD(synchronize_rcu());
	/* In its own process it stays open, as in the kernel; the notifiers' domain is another one. */
	updater = spawn((void *(*)(void *))(void *)synchronize_rcu, NULL);
	wait_until_blocked(updater, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	set_up();
	tear_down();
	ASSERT_NOT_DONE(updater);
}

/* ------------------------------------------------------------------------------- pthread_cancel() */

/* No sleep of the library is a cancellation point: the call goes on, returns, and has done its work. */
static int returned;

static void *cancelled_in(void *call)
{
	((void (*)(void))call)();
	STORE(returned, 1);
	while (pause())
		;
	return NULL;
}

static void call_read_begin(void) { ASSERT_EQ(READ_BEGIN(&w), 3); }
static void call_remove(void) { REMOVE(&w); }
static void call_write_lock(void) { mmap_write_lock(mm); }
static void call_synchronize_srcu(void) { synchronize_srcu(&domain); }

static struct thread *cancel_in(void (*call)(void), enum mmu_notifier_wait_reason reason)
{
	struct thread *thread = spawn(cancelled_in, (void *)call);

	wait_until_blocked(thread, reason);
	ASSERT_EQ(pthread_cancel(thread->id), 0);
	return thread;
}

static void expect_cancelled_behind(struct thread *thread)
{
	void *result;

	ASSERT_EQ(pthread_join(thread->id, &result), 0);
	ASSERT(result == PTHREAD_CANCELED);
	ASSERT_EQ(LOAD(returned), 1);
	STORE(returned, 0);
}

TEST(a_cancelled_read_begin_goes_on)
{
	struct thread *thread;

	set_up();
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	thread = cancel_in(call_read_begin, MMU_NOTIFIER_WAIT_READ_BEGIN);
	ASSERT_EQ(LOAD(returned), 0);
	range_end(&range);
	expect_cancelled_behind(thread);
	tear_down();
}

TEST(a_cancelled_remove_goes_on)
{
	struct thread *thread;

	set_up();
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	thread = cancel_in(call_remove, MMU_NOTIFIER_WAIT_REMOVE);
	range_end(&range);
	expect_cancelled_behind(thread);
	STORE(test_log_end, 0);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("A.start", "A.end");
	INSERT(&w, mm, 0x1000, 0x1000);
	tear_down();
}

TEST(a_cancelled_lock_and_grace_period_go_on)
{
	struct thread *thread;

	set_up();
	mmap_read_lock(mm);
	thread = cancel_in(call_write_lock, MMU_NOTIFIER_WAIT_MMAP_LOCK);
	mmap_read_unlock(mm);
	expect_cancelled_behind(thread);
	ASSERT(!mmap_read_trylock(mm));		/* the cancelled thread had it */
	mmap_write_unlock(mm);
	cookie = srcu_read_lock(&domain);
	thread = cancel_in(call_synchronize_srcu, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	srcu_read_unlock(&domain, cookie);
	expect_cancelled_behind(thread);
	tear_down();
}

/* A callback must not be unwound, so one that sleeps on a thread that may be cancelled says no for that time. */
static struct gate in_callback;
static void sleep_uncancelled(struct listener *self, const char *op)
{
	int old;

	(void)self;
	if (strcmp(op, "start"))
		return;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	gate_pass(&in_callback);
	usleep(1000);
	pthread_setcancelstate(old, NULL);
}

static void call_pair(void) { invalidate(mm, 0x1000, 0x2000); }

TEST(a_callback_that_disables_cancellation)
{
	struct thread *thread;

	set_up();
	A.in = sleep_uncancelled;
	thread = spawn(cancelled_in, (void *)call_pair);
	gate_wait(&in_callback);
	ASSERT_EQ(pthread_cancel(thread->id), 0);
	gate_open(&in_callback);
	expect_cancelled_behind(thread);
	EXPECT_LOG("w.inv 3", "A.start", "A.end");
	A.in = NULL;
	mmu_notifier_synchronize();
	tear_down();
}

/* --------------------------------------------------------------------------- behind thread-locals */

static pthread_key_t key;
static int destructions;

/* Everything, each round; the first round may be this thread's first use of the library. */
static void use_all(void *first)
{
	struct listener C = listener("C", &ops_kept);
	struct watch x = watch("x");
	struct mm_struct *own = mm_alloc();

	ASSERT_EQ(current->mm, current->group_leader->mm);
	kthread_use_mm(own);
	ASSERT_EQ(current->mm, own);
	REGISTER(&C, own);
	INSERT(&x, own, 0x1000, 0x1000);
	invalidate(own, 0x1000, 0x2000);
	invalidate(mm, 0x5000, 0x6000);
	READ_BEGIN(&x);
	REMOVE(&x);
	mmu_notifier_put(&C.mn);
	kthread_unuse_mm(own);
	rcu_read_lock();
	rcu_read_unlock();
	srcu_read_unlock(&domain, srcu_read_lock(&domain));
	mmu_notifier_synchronize();
	synchronize_rcu();
	mmput(own);
	STORE(test_log_end, 0);
	if (__atomic_add_fetch(&destructions, 1, __ATOMIC_SEQ_CST) % PTHREAD_DESTRUCTOR_ITERATIONS)
		pthread_setspecific(key, first);
}

static void *die_with_key(void *use_before)
{
	if (use_before)
		invalidate(mm, 0x5000, 0x6000);
	pthread_setspecific(key, (void *)1);
	return NULL;
}

TEST(calls_from_destructors_of_thread_specific_data)
{
	set_up();
	ASSERT_EQ(pthread_key_create(&key, use_all), 0);
	for (long n = 0; n < 8; n++)
		join(spawn(die_with_key, (void *)(n & 1)));
	ASSERT_EQ(destructions, 8 * PTHREAD_DESTRUCTOR_ITERATIONS);
	tear_down();
}

/* ------------------------------------------------------------------------------------ many, briefly */

static bool take_seq(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *of, unsigned long seq)
{
	(void)of;
	mmu_interval_set_seq(sub, seq);
	return true;
}

static const struct mmu_interval_notifier_ops take_ops = { .invalidate = take_seq };
static int quiet_start(struct mmu_notifier *mn, const struct mmu_notifier_range *of) { (void)mn; (void)of; return 0; }
static struct mmu_notifier *quiet_alloc(struct mm_struct *of) { (void)of; return malloc(sizeof(struct mmu_notifier)); }
static void quiet_free(struct mmu_notifier *mn) { free(mn); }
static const struct mmu_notifier_ops quiet_ops = { .invalidate_range_start = quiet_start, .alloc_notifier = quiet_alloc,
						   .free_notifier = quiet_free };

static void *live_briefly(void *arg)
{
	struct mmu_interval_notifier sub;

	ASSERT_EQ(mmu_interval_notifier_insert(&sub, mm, 0x5000, 0x1000, &take_ops), 0);
	invalidate(mm, 0x5000, 0x6000);
	mmu_interval_read_begin(&sub);
	mmu_interval_notifier_remove(&sub);
	mmu_notifier_put(mmu_notifier_get(&quiet_ops, mm));
	rcu_read_lock();
	rcu_read_unlock();
	ASSERT(current->mm);
	return arg;
}

static void run_briefly(int threads)
{
	pthread_t ids[4];

	for (int n = 0; n < threads; n += 4) {
		for (int k = 0; k < 4; k++)
			ASSERT_EQ(pthread_create(&ids[k], NULL, live_briefly, NULL), 0);
		for (int k = 0; k < 4; k++)
			ASSERT_EQ(pthread_join(ids[k], NULL), 0);
	}
	mmu_notifier_synchronize();
}

static long resident_pages(void)
{
	long total, resident = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	ASSERT(file && fscanf(file, "%ld %ld", &total, &resident) == 2);
	fclose(file);
	return resident;
}

/*
 * Nothing of a thread stays: not in the heap, not in resident memory. What does would stay of each; so the least of a few rounds
 * counts. Most that one needs more than another is what waits for the worker at most, and that depends on who runs when.
 */
TEST(twenty_thousand_short_threads)
{
	enum { ROUNDS = 5 };
	int threads = scaled(20000, 400);
	long least_pages = LONG_MAX, least_heap = LONG_MAX;

	take_time();
	mm = mm_alloc();
	run_briefly(threads / 10);
	for (int round = 0; round < ROUNDS; round++) {
		long pages = resident_pages(), heap = mallinfo2().uordblks;

		run_briefly(threads / ROUNDS);
		heap = mallinfo2().uordblks - heap;
		pages = resident_pages() - pages;
		least_heap = heap < least_heap ? heap : least_heap;
		least_pages = pages < least_pages ? pages : least_pages;
	}
	printf("%d threads, in %d rounds: at least %ld bytes of heap and %ld pages more than before\n", threads, ROUNDS, least_heap,
	       least_pages);
	ASSERT(least_heap < threads / ROUNDS);
	ASSERT(least_pages < 16 || scaled(100, 0) < 100);	/* a checker's own memory is its business */
	ASSERT_EQ(mm_count(mm), 1);
	mmput(mm);
}
