/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fork() at every moment (DV-13): under load, against single steps of another thread, with the worker in the middle of something,
 * inside of callbacks; and the other ways to start a process.
 */
#include "inject.h"
#include "scale.h"

#include <linux/rcupdate.h>
#include <linux/srcu.h>
#include <spawn.h>

static struct mm_struct *mm, *process;
static struct listener A, B;
static struct watch w;

/* --------------------------------------------------------------- inside of fork, with all locks held */

/*
 * A handler that was registered before the library's runs after it: this program's .preinit_array comes before any library's
 * constructors.
 */
static void (*inside_fork)(void);

static void run_inside_fork(void)
{
	void (*act)(void) = inside_fork;

	inside_fork = NULL;
	if (act)
		act();
}

static void register_early(void) { pthread_atfork(run_inside_fork, NULL, NULL); }

__attribute__((section(".preinit_array"), used)) static void (*const early)(void) = register_early;

static struct gate in_malloc;
static struct thread *other;

static void stand_in_malloc(void) { gate_pass(&in_malloc); }

static void *register_and_stand(void *arg)
{
	arm(0, 0);
	inject.at_allocation = stand_in_malloc;
	REGISTER(&A, mm);
	disarm();
	return arg;
}

/* The other thread gets as far as it can. */
static void let_it_go_on(void)
{
	gate_open(&in_malloc);
	WAIT_FOR(LOAD(other->done) || LOAD(other->reason) == MMU_NOTIFIER_WAIT_LOCK);
	ASSERT(!mm_has_notifiers(mm));
}

/* ST-2: what fork visits before it is what it visits after it. */
TEST(DV_13_fork_against_the_first_publication)
{
	mm = mm_alloc();
	A = listener("A", &ops_kept);
	other = spawn(register_and_stand, NULL);
	gate_wait(&in_malloc);
	inside_fork = let_it_go_on;
	IN_CHILD({
		ASSERT(!mm_has_notifiers(mm));
		B = listener("B", &ops_kept);
		REGISTER(&B, mm);
		invalidate(mm, 0, 0x1000);
		EXPECT_LOG("B.start", "B.end");
		UNREGISTER(&B);
		mmput(mm);
	});
	ASSERT(!inside_fork);
	join(other);
	invalidate(mm, 0, 0x1000);
	EXPECT_LOG("A.start", "A.end");
	UNREGISTER(&A);
	mmput(mm);
}

static int freed_blocks;
static void *drop_last(void *arg)
{
	arm(0, 0);
	mmdrop(mm);
	freed_blocks = inject.frees;
	disarm();
	return arg;
}

static void start_to_drop(void)
{
	void *subscriptions = mm->notifier_subscriptions;

	other = spawn(drop_last, NULL);
	WAIT_FOR(LOAD(other->done) || LOAD(other->reason) == MMU_NOTIFIER_WAIT_LOCK);
	ASSERT_NOT_DONE(other);
	ASSERT_EQ(mm->notifier_subscriptions, subscriptions);
}

TEST(DV_13_fork_against_the_last_drop)
{
	mm = mm_alloc();
	A = listener("A", &ops_kept);
	REGISTER(&A, mm);
	mmgrab(mm);
	mmput(mm);
	UNREGISTER(&A);
	ASSERT_EQ(mm_count(mm), 1);
	inside_fork = start_to_drop;
	IN_CHILD(ASSERT(mm->notifier_subscriptions));
	ASSERT(!inside_fork);
	join(other);
	ASSERT(freed_blocks >= 2);
}

static void *insert_and_stand(void *arg)
{
	arm(0, 0);
	inject.at_allocation = stand_in_malloc;
	INSERT(&w, mm, 0x1000, 0x1000);
	disarm();
	STORE(in_malloc.arrived, 1);		/* it need not allocate */
	return arg;
}

static void *remove_and_stand(void *arg)
{
	arm(0, 0);
	inject.at_allocation = stand_in_malloc;
	REMOVE(&w);
	disarm();
	STORE(in_malloc.arrived, 1);
	return arg;
}

/*
 * Nothing that fork takes is held over an allocation or a free: an allocator with fork handlers of its own, if they were registered
 * behind the library's, is held by the forking thread already.
 */
static void fork_while_in_allocator(void *(*call)(void *))
{
	in_malloc = (struct gate){ 0, 0 };
	other = spawn(call, NULL);
	gate_wait(&in_malloc);
	IN_CHILD(mmput(mm_alloc()));
	gate_open(&in_malloc);
	join(other);
}

TEST(DV_13_fork_does_not_wait_for_an_allocation)
{
	mm = mm_alloc();
	w = watch("w");
	fork_while_in_allocator(insert_and_stand);	/* into a fresh mm */
	fork_while_in_allocator(remove_and_stand);
	fork_while_in_allocator(insert_and_stand);	/* into one with intervals */
	STORE(test_log_end, 0);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("w.inv 3");
	fork_while_in_allocator(remove_and_stand);
	ASSERT_EQ(mm_count(mm), 1);
	mmput(mm);
}

/* ------------------------------------------------------------------------------ the worker is busy */

static struct gate standing;
static pthread_mutex_t drivers_lock = PTHREAD_MUTEX_INITIALIZER;

/* Wants a lock that the forking thread holds: a fork that waited for it would wait for ever. */
static void free_with_lock(struct mmu_notifier *mn)
{
	gate_pass(&standing);
	pthread_mutex_lock(&drivers_lock);
	pthread_mutex_unlock(&drivers_lock);
	on_free_kept(mn);
}

static const struct mmu_notifier_ops ops_locking = { .free_notifier = free_with_lock };

static void own_work(struct mm_struct *of)
{
	struct listener C = listener("C", &ops_kept);
	struct watch x = watch("x");
	struct mmu_notifier *mn = mmu_notifier_get(&ops_get, of);

	ASSERT(!IS_ERR(mn));
	REGISTER(&C, of);
	INSERT(&x, of, 0x1000, 0x1000);
	STORE(test_log_end, 0);
	invalidate(of, 0x1000, 0x2000);
	ASSERT(logged("C.start") && logged("got.start") && logged("C.end"));
	READ_BEGIN(&x);
	REMOVE(&x);
	UNREGISTER(&C);
	STORE(test_log_end, 0);
	mmu_notifier_put(mn);
	mmu_notifier_synchronize();
	ASSERT(logged("free"));
	STORE(test_log_end, 0);
}

TEST(DV_13_fork_does_not_wait_for_the_worker)
{
	mm = mm_alloc();
	A = listener("A", &ops_locking);
	REGISTER(&A, mm);
	pthread_mutex_lock(&drivers_lock);
	mmu_notifier_put(&A.mn);
	gate_wait(&standing);
	gate_open(&standing);
	for (int n = 0; n < 3; n++)
		IN_CHILD({
			mmu_notifier_synchronize();	/* not for what the parent's worker is in the middle of */
			own_work(mm);
			own_work(current->mm);
		});
	pthread_mutex_unlock(&drivers_lock);
	mmu_notifier_synchronize();
	EXPECT_LOG("A.free");
	ASSERT_EQ(mm_count(mm), 1);
	mmput(mm);
}

/* What is owed on another mm is owed in the child, too; each process pays for itself. */
TEST(DV_13_what_is_owed_comes_along)
{
	mm = mm_alloc();
	A = listener("A", &ops_kept);
	B = listener("B", &ops_kept);
	REGISTER(&A, mm);
	REGISTER(&B, current->mm);
	STORE(inject_no_threads, 1);
	mmu_notifier_put(&A.mn);
	mmu_notifier_put(&B.mn);
	IN_CHILD({
		mmu_notifier_synchronize();
		EXPECT_LOG("A.free");
		ASSERT_EQ(mm_count(mm), 1);
		own_work(mm);
	});
	mmu_notifier_synchronize();
	EXPECT_LOG("A.free", "B.free");
	mmput(mm);
}

/* ---------------------------------------------------------------------------------- in callbacks */

static pid_t forked = -1;

static void fork_here(void)
{
	int status;

	if (forked >= 0)
		return;
	forked = fork();
	ASSERT(forked >= 0);
	if (forked) {
		ASSERT_EQ(waitpid(forked, &status, 0), forked);
		ASSERT_EQ(status, 0);
	}
}

static void fork_in_op(struct listener *self, const char *op)
{
	if (!strcmp(op, self->arg))
		fork_here();
}

static void fork_in_op_of(struct mm_struct *of, const char *op)
{
	struct listener F = listener("F", &ops_all);
	bool inherited;

	F.in = fork_in_op;
	F.arg = (void *)op;
	REGISTER(&F, of);
	invalidate(of, 0x1000, 0x2000);
	do_walk(of);
	UNREGISTER(&F);
	inherited = forked == 0;
	ASSERT_NE(forked, -1);
	forked = -1;
	STORE(test_log_end, 0);
	own_work(of);
	if (inherited) {
		expect_reports();
		_exit(0);
	}
}

TEST(DV_13_fork_in_each_callback)
{
	static const char *const ops[] = { "start", "end", "release", "test_young" };

	mm = mm_alloc();
	process = current->mm;
	for (unsigned n = 0; n < 4; n++) {
		fork_in_op_of(mm, ops[n]);
		fork_in_op_of(process, ops[n]);
	}
	ASSERT_EQ(mm_count(mm), 1);
	mmput(mm);
}

/* On the worker's own thread: the child's only thread is inside of free_notifier. */
static void fork_in_free(struct mmu_notifier *mn)
{
	struct watch x = watch("x");

	fork_here();
	if (forked == 0) {
		INSERT(&x, mm, 0x1000, 0x1000);
		invalidate(mm, 0x1000, 0x2000);
		REMOVE(&x);
		expect_reports();
		_exit(0);
	}
	on_free_kept(mn);
}

static const struct mmu_notifier_ops ops_forking = { .free_notifier = fork_in_free };

TEST(DV_13_fork_in_free_notifier)
{
	mm = mm_alloc();
	A = listener("A", &ops_forking);
	REGISTER(&A, mm);
	mmu_notifier_put(&A.mn);
	mmu_notifier_synchronize();
	EXPECT_LOG("A.free");
	own_work(mm);
	mmput(mm);
}

/* ---------------------------------------------------------------------------------- exit handlers */

static struct mmu_notifier *inherited_got;

static void exit_handler(void)
{
	UNREGISTER(&A);
	REMOVE(&w);
	mmu_notifier_put(inherited_got);
	mmu_notifier_synchronize();
	if (mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN))
		_exit(3);
}

TEST(DV_13_exit_handlers)
{
	process = current->mm;
	A = listener("A", &ops_kept);
	w = watch("w");
	REGISTER(&A, process);
	INSERT(&w, process, 0x1000, 0x1000);
	inherited_got = mmu_notifier_get(&ops_get, process);
	atexit(exit_handler);
	EXPECT_LOG("alloc");
	for (int n = 0; n < 3; n++)
		IN_CHILD(exit(0));
	for (int n = 0; n < 3; n++)
		IN_CHILD({
			own_work(current->mm);
			IN_CHILD(exit(0));
			exit(0);
		});
	EXPECT_LOG();
	invalidate(process, 0x1000, 0x2000);
	EXPECT_LOG("w.inv 3", "got.start", "A.start", "got.end", "A.end");
}

/* ---------------------------------------------------------------------------------------- under load */

static int stop, loops[6], gets, freed;

static bool take_seq(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	mmu_interval_set_seq(sub, seq);
	return true;
}

static const struct mmu_interval_notifier_ops take_ops = { .invalidate = take_seq };
static const struct mmu_notifier_ops idle_ops;

static struct mmu_notifier *alloc_counted(struct mm_struct *of)
{
	(void)of;
	__atomic_fetch_add(&gets, 1, __ATOMIC_SEQ_CST);
	return malloc(sizeof(struct mmu_notifier));
}

static void free_counted(struct mmu_notifier *mn) { free(mn); __atomic_fetch_add(&freed, 1, __ATOMIC_SEQ_CST); }
static int young(struct mmu_notifier *mn, struct mm_struct *of, unsigned long at) { (void)mn; (void)of; (void)at; return 0; }
static const struct mmu_notifier_ops counted_ops = { .test_young = young, .alloc_notifier = alloc_counted,
						     .free_notifier = free_counted };

static void one_insert(struct mm_struct *of)
{
	struct mmu_interval_notifier sub;

	ASSERT_EQ(mmu_interval_notifier_insert(&sub, of, 0x2000, 0x1000, &take_ops), 0);
	mmu_interval_read_begin(&sub);
	mmu_interval_notifier_remove(&sub);
}

static void one_get(struct mm_struct *of)
{
	struct mmu_notifier *mn = mmu_notifier_get(&counted_ops, of);

	ASSERT(!IS_ERR(mn));
	mmu_notifier_put(mn);
}

static void one_register(struct mm_struct *of)
{
	struct mmu_notifier mn = { .ops = &idle_ops };

	ASSERT_EQ(mmu_notifier_register(&mn, of), 0);
	mmu_notifier_unregister(&mn, of);
}

static void one_fresh(struct mm_struct *unused)
{
	struct mm_struct *of = mm_alloc();

	(void)unused;
	one_insert(of);
	one_register(of);
	one_get(of);
	mmput(of);
}

static void one_range(struct mm_struct *of) { invalidate(of, 0x1000, 0x3000); }
static void one_walk(struct mm_struct *of) { do_walk(of); }

static void (*const work[])(struct mm_struct *of) = { one_insert, one_get, one_register, one_fresh, one_range, one_walk };
enum { WORKERS = sizeof(work) / sizeof(work[0]) };
static struct thread *threads[WORKERS];

static void *do_work(void *which)
{
	while (!LOAD(stop)) {
		work[(long)which](mm);
		work[(long)which](process);
		__atomic_fetch_add(&loops[(long)which], 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void start_work(void)
{
	take_time();
	mm = mm_alloc();
	process = current->mm;
	for (long n = 0; n < WORKERS; n++)
		threads[n] = spawn(do_work, (void *)n);
	for (int n = 0; n < WORKERS; n++)
		while (!LOAD(loops[n]))
			sched_yield();
}

/* Every count is exact: nothing that a fork took along was counted here. */
static void end_work(void)
{
	STORE(stop, 1);
	for (int n = 0; n < WORKERS; n++)
		join(threads[n]);
	mmu_notifier_synchronize();
	ASSERT_EQ(gets, freed);
	ASSERT_EQ(mm_count(mm), 1);
	ASSERT_EQ(mm_users(mm), 1);
	ASSERT_EQ(mm_users(process), 1);
	ASSERT_EQ(mm_count(process), 1);
	ASSERT_EQ(idle_seq(mm) & 1, 0);
	ASSERT_EQ(idle_seq(process) & 1, 0);
	mmput(mm);
}

static void all_work(struct mm_struct *of)
{
	for (int n = 0; n < WORKERS; n++)
		work[n](of);
}

TEST(DV_13_fork_under_load)
{
	int times = scaled(250, 5), grandchildren = 0;

	start_work();
	for (int n = 0; n < times; n++) {
		grandchildren += n % 8 == 0;
		IN_CHILD({
			ASSERT(!mm_has_notifiers(current->mm));
			all_work(current->mm);
			all_work(mm);
			mmu_notifier_synchronize();
			if (n % 8 == 0)
				IN_CHILD({
					ASSERT(!mm_has_notifiers(current->mm));
					all_work(current->mm);
					mmu_notifier_synchronize();
				});
			mmput(mm);
			ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN), 0);
		});
	}
	end_work();
	printf("%d forks, %d of forks; %d inserts, %d gets, %d mms meanwhile\n", times, grandchildren, loops[0], loops[1], loops[3]);
}

/* Children that share memory, or never ran a handler. */
static pid_t vforked(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(9);
	}
	return pid;
}

static pid_t spawned(void)
{
	static char *const arguments[] = { "true", NULL };
	extern char **environ;
	pid_t pid;

	ASSERT_EQ(posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environ), 0);
	return pid;
}

TEST(vfork_and_posix_spawn_under_load)
{
	int times = scaled(60, 5), status;
	pid_t pid;

	start_work();
	for (int n = 0; n < times; n++) {
		pid = n % 2 ? vforked() : spawned();
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT_EQ(status, 0);
	}
	end_work();
}

/* Two threads fork at once, and both children work. */
static void *fork_some(void *arg)
{
	for (int n = 0; n < scaled(40, 3); n++)
		IN_CHILD({
			one_insert(mm);
			one_get(process);
			mmu_notifier_synchronize();
		});
	return arg;
}

TEST(DV_13_two_threads_fork)
{
	struct thread *forkers[2];

	start_work();
	for (int n = 0; n < 2; n++)
		forkers[n] = spawn(fork_some, NULL);
	for (int n = 0; n < 2; n++)
		join(forkers[n]);
	end_work();
}

/* -------------------------------------------------------------------------- domains of drivers */

static struct srcu_struct *domain;
enum { HEADS = 200 };
static struct ordered { struct rcu_head head; int number; } ordered[HEADS];
static int next_number;

static void expect_order(struct rcu_head *head)
{
	ASSERT_EQ(container_of(head, struct ordered, head)->number, next_number);
	STORE(next_number, next_number + 1);
}

static void *come_and_go(void *arg)
{
	while (!LOAD(stop)) {
		int index = srcu_read_lock(domain);

		sched_yield();
		srcu_read_unlock(domain, index);
	}
	return arg;
}

/* First in, first out, whoever is inside when a callback is queued. */
TEST(call_srcu_order)
{
	static struct srcu_struct of;
	struct thread *readers[3];

	take_time();
	domain = &of;
	ASSERT_EQ(init_srcu_struct(domain), 0);
	for (int n = 0; n < 3; n++)
		readers[n] = spawn(come_and_go, NULL);
	for (int round = 0; round < scaled(20, 2); round++) {
		STORE(next_number, 0);
		for (int n = 0; n < HEADS; n++) {
			ordered[n].number = n;
			call_srcu(domain, &ordered[n].head, expect_order);
		}
		srcu_barrier(domain);
		ASSERT_EQ(LOAD(next_number), HEADS);
	}
	STORE(stop, 1);
	for (int n = 0; n < 3; n++)
		join(readers[n]);
	cleanup_srcu_struct(domain);
}

/* The same, step by step: what comes when nobody is inside any more may not overtake what waits. */
TEST(call_srcu_order_across_grace_periods)
{
	static struct srcu_struct of;
	int first, second;

	domain = &of;
	ASSERT_EQ(init_srcu_struct(domain), 0);
	for (int n = 0; n < 4; n++)
		ordered[n].number = n;
	first = srcu_read_lock(domain);
	call_srcu(domain, &ordered[0].head, expect_order);
	second = srcu_read_lock(domain);
	call_srcu(domain, &ordered[1].head, expect_order);
	call_srcu(domain, &ordered[2].head, expect_order);
	srcu_read_unlock(domain, second);
	call_srcu(domain, &ordered[3].head, expect_order);
	ASSERT_EQ(LOAD(next_number), 0);
	srcu_read_unlock(domain, first);
	srcu_barrier(domain);
	ASSERT_EQ(LOAD(next_number), 4);
	cleanup_srcu_struct(domain);
}

/*
 * The last reader has left and is about to wake the updater, which runs already (a signal woke it), ends the domain, and
 * takes its memory away. The reader may not look at it any more.
 */
static struct gate leaving, gone;
static pthread_t updater;
static __thread bool is_reader;
static struct mmu_notifier_wait_hook stalling;

static void stall_in_wake(void *data, const void *queue, enum mmu_notifier_wait_reason reason)
{
	test_wake(data, queue, reason);
	if (is_reader && reason == MMU_NOTIFIER_WAIT_GRACE_PERIOD) {
		is_reader = false;
		STORE(leaving.arrived, 1);
		pthread_kill(updater, SIGUSR1);
		gate_pass(&gone);
	}
}

static void nothing(int number) { (void)number; }

static void *read_and_leave(void *arg)
{
	int index = srcu_read_lock(domain);

	gate_pass(&standing);
	is_reader = true;
	srcu_read_unlock(domain, index);
	return arg;
}

static void *end_the_domain(void *arg)
{
	updater = pthread_self();
	synchronize_srcu(domain);
	cleanup_srcu_struct(domain);
	ASSERT_EQ(munmap(domain, 4096), 0);
	gate_open(&gone);
	return arg;
}

TEST(a_domain_ends_right_behind_its_last_reader)
{
	struct sigaction act = { .sa_handler = nothing };
	struct thread *reader, *writer;

	sigaction(SIGUSR1, &act, NULL);
	stalling = test_wait_hook;
	stalling.wake = stall_in_wake;
	mmu_notifier_set_wait_hook(&stalling);
	domain = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_EQ(init_srcu_struct(domain), 0);
	reader = spawn(read_and_leave, NULL);
	gate_wait(&standing);
	writer = spawn(end_the_domain, NULL);
	wait_until_blocked(writer, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	gate_open(&standing);
	join(writer);
	join(reader);
	ASSERT(LOAD(leaving.arrived));
}
