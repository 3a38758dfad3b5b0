/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Signals: no sleep ends early, no call reports one, with and without SA_RESTART; and what a handler may do. */
#include "../test.h"
#include "scale.h"

#include <linux/rcupdate.h>
#include <linux/srcu.h>
#include <sys/time.h>

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

/* -------------------------------------------------------------- every sleep, under a rain of signals */

static int handled;
static void count_signal(int number) { (void)number; __atomic_fetch_add(&handled, 1, __ATOMIC_SEQ_CST); changed(); }

static void handle(int number, void (*handler)(int), int flags)
{
	struct sigaction act = { .sa_handler = handler, .sa_flags = flags };

	ASSERT_EQ(sigaction(number, &act, NULL), 0);
}

/* It sleeps on through each signal: not done, and not awake for good. */
static void rain_on(struct thread *sleeper, enum mmu_notifier_wait_reason reason)
{
	for (int n = 0; n < 20; n++) {
		int before = LOAD(handled);

		wait_until_blocked(sleeper, reason);
		ASSERT_EQ(pthread_kill(sleeper->id, SIGUSR1), 0);
		WAIT_FOR(LOAD(handled) > before);
	}
	wait_until_blocked(sleeper, reason);
	ASSERT_NOT_WOKEN(sleeper);
}

static void begin_range(void) { range = make_range(mm, 0x1000, 0x2000); range_start(&range); }
static void finish_range(void) { range_end(&range); }
static void lock(void) { mmap_write_lock(mm); }
static void unlock(void) { mmap_write_unlock(mm); }
static void enter_domain(void) { cookie = srcu_read_lock(&domain); }
static void leave_domain(void) { srcu_read_unlock(&domain, cookie); }

/* A walk that stands keeps a grace period from ending. */
static struct gate walking;
static struct thread *walker;
static void begin_walk(void)
{
	walking = (struct gate){ 0, 0 };
	A.in = stand_at_gate;
	A.arg = &walking;
	walker = spawn(do_walk, mm);
	gate_wait(&walking);
}

static void finish_walk(void) { gate_open(&walking); join(walker); A.in = NULL; }

static void *do_read_lock(void *arg) { mmap_read_lock(mm); mmap_read_unlock(mm); return arg; }
static void *do_write_lock(void *arg) { mmap_write_lock(mm); mmap_write_unlock(mm); return arg; }
static void *do_killable(void *arg)
{
	ASSERT_EQ(mmap_read_lock_killable(mm), 0);
	mmap_read_unlock(mm);
	ASSERT_EQ(mmap_write_lock_killable(mm), 0);
	mmap_write_unlock(mm);
	return arg;
}
static void *do_register_and_unregister(void *arg)
{
	struct listener B = listener("B", &ops_none);

	ASSERT_EQ(mmu_notifier_register(&B.mn, mm), 0);		/* DV-4 */
	UNREGISTER(&B);
	return arg;
}
static void *do_unregister_new(void *arg)
{
	UNREGISTER((struct listener *)arg);
	return arg;
}
static void *do_synchronize_domain(void *arg) { synchronize_srcu(&domain); return arg; }
static struct rcu_head head;
static void ran(struct rcu_head *of) { (void)of; note("ran"); }
static void *do_barrier(void *arg) { call_srcu(&domain, &head, ran); srcu_barrier(&domain); return arg; }
static void *do_put_and_synchronize(void *listener)
{
	mmu_notifier_put(&((struct listener *)listener)->mn);
	mmu_notifier_synchronize();
	return NULL;
}

static struct listener other;
static const struct sleep {
	const char *name;
	void (*close)(void), (*open)(void);
	void *(*run)(void *);
	void *arg;
	enum mmu_notifier_wait_reason reason;
} sleeps[] = {
	{ "read_begin", begin_range, finish_range, do_read_begin, &w, MMU_NOTIFIER_WAIT_READ_BEGIN },
	{ "read lock", lock, unlock, do_read_lock, NULL, MMU_NOTIFIER_WAIT_MMAP_LOCK },
	{ "write lock", lock, unlock, do_write_lock, NULL, MMU_NOTIFIER_WAIT_MMAP_LOCK },
	{ "killable locks", lock, unlock, do_killable, NULL, MMU_NOTIFIER_WAIT_MMAP_LOCK },
	{ "register", lock, unlock, do_register_and_unregister, NULL, MMU_NOTIFIER_WAIT_MMAP_LOCK },
	{ "synchronize", begin_walk, finish_walk, do_synchronize, NULL, MMU_NOTIFIER_WAIT_GRACE_PERIOD },
	{ "unregister", begin_walk, finish_walk, do_unregister_new, &other, MMU_NOTIFIER_WAIT_GRACE_PERIOD },
	{ "put, synchronize", begin_walk, finish_walk, do_put_and_synchronize, &other, MMU_NOTIFIER_WAIT_GRACE_PERIOD },
	{ "synchronize_srcu", enter_domain, leave_domain, do_synchronize_domain, NULL, MMU_NOTIFIER_WAIT_GRACE_PERIOD },
	{ "srcu_barrier", enter_domain, leave_domain, do_barrier, NULL, MMU_NOTIFIER_WAIT_FREE },
	/* Last: it removes what the first one reads. */
	{ "remove", begin_range, finish_range, do_remove, &w, MMU_NOTIFIER_WAIT_REMOVE },
};

static void sleep_through_signals(int flags)
{
	set_up();
	handle(SIGUSR1, count_signal, flags);
	for (unsigned n = 0; n < sizeof(sleeps) / sizeof(sleeps[0]); n++) {
		const struct sleep *sleep = &sleeps[n];
		struct thread *sleeper;

		if (sleep->arg == &other) {
			other = listener("other", &ops_kept);
			REGISTER(&other, mm);
		}
		sleep->close();
		sleeper = spawn(sleep->run, sleep->arg);
		rain_on(sleeper, sleep->reason);
		sleep->open();
		join(sleeper);
		STORE(test_log_end, 0);
	}
	UNREGISTER(&A);
	cleanup_srcu_struct(&domain);
	ASSERT_EQ(mm_count(mm), 1);
	mmput(mm);
}

TEST(DV_4_no_sleep_is_interrupted) { sleep_through_signals(0); }
TEST(DV_4_no_sleep_is_interrupted_with_SA_RESTART) { sleep_through_signals(SA_RESTART); }

/* ------------------------------------------------------------------------------- what a handler does */

static struct mmu_notifier_range in_handler;
static struct mm_struct *handlers_mm;

/* The interrupted thread stands in a callback, so it is in no call of the library but in a section and a range. */
static void pair_in_handler(int number)
{
	(void)number;
	in_handler = make_range(handlers_mm, 0x1000, 0x2000);
	mmu_notifier_invalidate_range_start(&in_handler);
	mmu_notifier_invalidate_range_end(&in_handler);
	mmu_notifier_test_young(handlers_mm, 0);
}

static void raise_in_start(struct listener *self, const char *op)
{
	if (strcmp(op, "start"))
		return;
	self->in = NULL;		/* the handler's own pair calls it again */
	note("raise");
	raise(SIGUSR2);
}

TEST(a_handler_runs_a_pair_inside_of_a_callback)
{
	set_up();
	handlers_mm = mm;
	A.in = raise_in_start;
	handle(SIGUSR2, pair_in_handler, 0);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("w.inv 3", "A.start", "raise", "w.inv 3", "A.start", "A.end", "A.test_young", "A.end");
	ASSERT_EQ(READ_BEGIN(&w), 3);
	mmu_notifier_synchronize();		/* no section was left open */
	REMOVE(&w);
	UNREGISTER(&A);
	mmput(mm);
}

/* The same in an rcu section and in a domain's, on another mm. */
TEST(a_handler_runs_a_pair_inside_of_a_section)
{
	set_up();
	handlers_mm = mm;
	handle(SIGUSR2, pair_in_handler, SA_RESTART);
	rcu_read_lock();
	cookie = srcu_read_lock(&domain);
	raise(SIGUSR2);
	srcu_read_unlock(&domain, cookie);
	rcu_read_unlock();
	EXPECT_LOG("w.inv 3", "A.start", "A.end", "A.test_young");
	synchronize_rcu();
	synchronize_srcu(&domain);
	mmu_notifier_synchronize();
	REMOVE(&w);
	UNREGISTER(&A);
	mmput(mm);
}

/* What the manual lets a handler call, at any moment of the interrupted thread. */
static void ask_in_handler(int number)
{
	(void)number;
	mmu_interval_check_retry(&w.sub, 1);
	mmu_interval_read_retry(&w.sub, 1);
	ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN), 0);
	ASSERT_EQ(mmu_notifier_report_rule_count("RS-5"), 0);
	__atomic_fetch_add(&handled, 1, __ATOMIC_SEQ_CST);
}

/* ------------------------------------------------------------------------------------ a storm of them */

static int stop;
static long pairs;

static bool take_seq(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *of, unsigned long seq)
{
	(void)of;
	mmu_interval_set_seq(sub, seq);
	return true;
}

static const struct mmu_interval_notifier_ops take_ops = { .invalidate = take_seq };
static int quiet_start(struct mmu_notifier *mn, const struct mmu_notifier_range *of) { (void)mn; (void)of; return 0; }
static int gets, frees;
static struct mmu_notifier *quiet_alloc(struct mm_struct *of)
{
	(void)of;
	__atomic_fetch_add(&gets, 1, __ATOMIC_SEQ_CST);
	return malloc(sizeof(struct mmu_notifier));
}
static void quiet_free(struct mmu_notifier *mn) { free(mn); __atomic_fetch_add(&frees, 1, __ATOMIC_SEQ_CST); }
static const struct mmu_notifier_ops quiet_ops = { .invalidate_range_start = quiet_start, .alloc_notifier = quiet_alloc,
						   .free_notifier = quiet_free };

static void one_round(void)
{
	struct mmu_interval_notifier sub;
	struct mmu_notifier *mn;
	unsigned long seq;

	ASSERT_EQ(mmu_interval_notifier_insert(&sub, mm, 0x1000, 0x1000, &take_ops), 0);
	seq = mmu_interval_read_begin(&sub);
	ASSERT_EQ(seq & 1, 1);
	mmu_interval_notifier_remove(&sub);
	mn = mmu_notifier_get(&quiet_ops, mm);
	ASSERT(!IS_ERR(mn));
	mmu_notifier_put(mn);
	invalidate(mm, 0x1000, 0x2000);
	__atomic_fetch_add(&pairs, 1, __ATOMIC_RELAXED);
}

static void *do_rounds(void *arg)
{
	while (!LOAD(stop))
		one_round();
	return arg;
}

static void expect_all_in_order(void)
{
	mmu_notifier_synchronize();
	ASSERT_EQ(gets, frees);
	ASSERT_EQ(mm_count(mm), 2);		/* its user's, and w's */
	REMOVE(&w);
	ASSERT_EQ(idle_seq(mm) & 1, 0);
	mmput(mm);
}

static void storm(int flags)
{
	struct itimerval every_ms = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct thread *threads[4];

	mm = mm_alloc();
	w = watch("w");
	INSERT(&w, mm, 0x100000, 0x1000);
	handle(SIGALRM, ask_in_handler, flags);
	for (int n = 0; n < 4; n++)
		threads[n] = spawn(do_rounds, NULL);
	ASSERT_EQ(setitimer(ITIMER_REAL, &every_ms, NULL), 0);
	while (LOAD(handled) < scaled(600, 20)) {
		one_round();
		mmu_notifier_synchronize();
	}
	setitimer(ITIMER_REAL, &never, NULL);
	STORE(stop, 1);
	for (int n = 0; n < 4; n++)
		join(threads[n]);
	handle(SIGALRM, SIG_DFL, 0);
	alarm(TEST_DEADLINE);
	expect_all_in_order();
	printf("%d signals, %ld rounds\n", handled, pairs);
}

TEST(a_timer_storm) { storm(0); }
TEST(a_timer_storm_with_SA_RESTART) { storm(SA_RESTART); }

/* Stopped at any moment, sleepers included, and continued. */
TEST(stop_and_continue)
{
	int status;
	pid_t pid = fork();

	ASSERT(pid >= 0);
	if (pid == 0) {
		struct thread *threads[3];

		alarm(20);
		mm = mm_alloc();
		w = watch("w");
		INSERT(&w, mm, 0x100000, 0x1000);
		for (int n = 0; n < 3; n++)
			threads[n] = spawn(do_rounds, NULL);
		handle(SIGTERM, count_signal, 0);
		WAIT_FOR(LOAD(handled));
		STORE(stop, 1);
		for (int n = 0; n < 3; n++)
			join(threads[n]);
		expect_all_in_order();
		_exit(0);
	}
	usleep(20000);
	for (int n = 0; n < scaled(40, 5); n++) {
		ASSERT_EQ(kill(pid, SIGSTOP), 0);
		ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
		ASSERT(WIFSTOPPED(status));
		ASSERT_EQ(kill(pid, SIGCONT), 0);
		usleep(1000 + n * 37);
	}
	kill(pid, SIGTERM);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}

/* The worker takes no signal, whatever it is doing. */
static struct gate in_free;
static pid_t worker;
static void stand_in_free(struct mmu_notifier *mn)
{
	sigset_t mask;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	for (int number = 1; number < 32; number++)
		if (number != SIGKILL && number != SIGSTOP)
			ASSERT(sigismember(&mask, number));
	worker = gettid();
	gate_pass(&in_free);
	on_free_kept(mn);
}

static const struct mmu_notifier_ops ops_standing = { .free_notifier = stand_in_free };

static pid_t handled_by;
static void note_thread(int number) { (void)number; handled_by = gettid(); STORE(handled, 1); }

TEST(the_worker_takes_no_signal)
{
	sigset_t usr1;

	mm = mm_alloc();
	A = listener("A", &ops_standing);
	handle(SIGUSR1, note_thread, 0);
	REGISTER(&A, mm);
	mmu_notifier_put(&A.mn);
	gate_wait(&in_free);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &usr1, NULL);
	kill(getpid(), SIGUSR1);		/* nobody else could take it */
	gate_open(&in_free);
	mmu_notifier_synchronize();
	ASSERT_EQ(LOAD(handled), 0);
	pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
	ASSERT_EQ(LOAD(handled), 1);
	ASSERT_EQ(handled_by, gettid());
	ASSERT_NE(worker, gettid());
	EXPECT_LOG("A.free");
	mmput(mm);
}
