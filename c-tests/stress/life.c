/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The life of mms: users and references come and go while members are
 * registered, released by the end of the mm, and taken down, in any order
 * (RL-6, UN-6, ML-1 to ML-4).  And fork, in the middle of all that (DV-13).
 *
 * Where the program's own free() is the library's too, the end of each mm is
 * seen.  At rest all counts are exact.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#define VALGRIND_COUNT_ERRORS 0
#endif

#include "torture.h"

enum { LIVES = 3, TRACKED = 4096 };

static struct life {
	pthread_mutex_t lock;
	struct mm_struct *mm;		/* with a user and a reference */
} lives[LIVES];
static struct mm_struct *pending;	/* a user of it is for a callback to drop */
static const void *tracked[TRACKED];
static unsigned long n_tracked;

/* ---- the end of mms ---- */

static const void **place_of(const void *memory)
{
	return &tracked[((unsigned long)memory >> 4) * 0x9e3779b97f4a7c15ul >> 52];
}

static void track(const void *mm)
{
	const void *none = NULL;

	if (__atomic_compare_exchange_n(place_of(mm), &none, mm, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		add(&n_tracked, 1ul);
}

void mm_freed(const void *memory)
{
	const void **place = place_of(memory);

	if (get(place) != memory)
		return;
	set(place, NULL);
	add(&n_tracked, -1ul);
	count(self(), MM_FREE);
}

/* ---- operations ---- */

void mmput_inside(struct actor *a)
{
	struct mm_struct *mm = get(&pending) ? swap(&pending, NULL) : NULL;

	if (!mm)
		return;
	mmput_async(mm);
	count(a, MM_ASYNC);
	count(a, MM_INSIDE);
}

static void drop_user(struct actor *a, struct mm_struct *mm)
{
	unsigned int how = rnd(a) % 4;

	if (how == 0) {
		mm = swap(&pending, mm);	/* a callback's; whose it was is ours */
		if (!mm)
			return;
	}
	doing(a, "mmput_async");
	if (how == 1) {
		mmput_async(mm);
		count(a, MM_ASYNC);
	} else {
		end_users(a, mm);
	}
}

static void end_members(struct actor *a, struct elem *e, struct ival *i, struct mmu_notifier *mn)
{
	unsigned int order;

	for (order = rnd(a) % 3; e || i || mn; order = (order + 1) % 3) {
		if (order == 0 && e) {
			if (one_in(a, 3))
				elem_put(a, e);
			else
				elem_unregister(a, e);
			e = NULL;
		} else if (order == 1 && i) {
			ival_remove(a, i);
			i = NULL;
		} else if (order == 2 && mn) {
			doing(a, "put of a get");
			mmu_notifier_put(mn);
			mn = NULL;
		}
	}
}

/* The caller holds a reference. */
static void use(struct actor *a, struct mm_struct *mm)
{
	struct mmu_notifier *mn = NULL;
	struct elem *e = NULL;
	struct ival *i = NULL;
	bool early = one_in(a, 2);

	doing(a, "mmget_not_zero");
	if (!mmget_not_zero(mm)) {
		count(a, MM_LOST);
		return;
	}
	if (!one_in(a, 4)) {
		e = elem_new(a, mm, rnd(a) % GOT);
		elem_register(a, e, false);
	}
	if (one_in(a, 2)) {
		i = ival_new(a, mm);
		ival_insert(a, i, false);
	}
	if (one_in(a, 4))
		get_for(a, mm, &mn);
	if (one_in(a, 2))
		plain_range(a, mm);
	if (one_in(a, 4))
		sched_yield();
	if (early) {
		drop_user(a, mm);
		if (!atomic_read(&mm->mm_users))
			count(a, LATE_END);
		if (one_in(a, 2))
			plain_range(a, mm);
	}
	end_members(a, e, i, mn);
	if (!early)
		drop_user(a, mm);
}

static void end_life(struct actor *a, struct life *l, struct mm_struct *mm)
{
	bool mine;

	pthread_mutex_lock(&l->lock);
	mine = l->mm == mm;
	if (mine)
		l->mm = NULL;
	pthread_mutex_unlock(&l->lock);
	if (!mine)
		return;
	drop_user(a, mm);
	mmdrop(mm);
}

static struct mm_struct *grab(struct actor *a, struct life *l)
{
	struct mm_struct *mm;

	pthread_mutex_lock(&l->lock);
	mm = l->mm;
	if (!mm) {
		mm = mm_alloc();
		if (!mm)
			fail("mm_alloc");
		if (SEES_FREE)
			track(mm);
		count(a, MM_ALLOC);
		mmgrab(mm);
		l->mm = mm;
	}
	mmgrab(mm);
	pthread_mutex_unlock(&l->lock);
	return mm;
}

void live(struct actor *a)
{
	struct life *l = &lives[rnd(a) % LIVES];
	struct mm_struct *mm = grab(a, l);
	unsigned int n, what = rnd(a) % 8;

	doing(a, "mm life");
	if (one_in(a, 4))
		sched_yield();
	if (what == 0) {
		end_life(a, l, mm);
	} else if (what == 1 && mmget_not_zero(mm)) {
		for (n = rnd(a) % 64; n; n--) {
			mmget(mm);
			mmgrab(mm);
			end_users(a, mm);
			mmdrop(mm);
		}
		drop_user(a, mm);
	} else {
		use(a, mm);
	}
	mmdrop(mm);
}

/* ---- at rest ---- */

/* The worker may still be ending an mm for mmput_async(). */
static void until_equal(unsigned long (*have)(struct mm_struct *), struct mm_struct *mm,
			unsigned long want, const char *what)
{
	int ms;

	for (ms = 0; have(mm) != want; ms++) {
		if (ms == 5000)
			fail("%s: %lu at rest instead of %lu", what, have(mm), want);
		usleep(1000);
	}
}

static unsigned long counts(struct mm_struct *mm)
{
	return ((unsigned long)atomic_read(&mm->mm_users) << 16) + atomic_read(&mm->mm_count);
}

static unsigned long still_tracked(struct mm_struct *mm)
{
	(void)mm;
	return acquire(&n_tracked);
}

void life_at_rest(struct actor *a, bool last)
{
	unsigned long alive = 0;
	int i;

	if (pending) {
		mmput(pending);
		pending = NULL;
	}
	mmu_notifier_synchronize();
	for (i = 0; i < LIVES; i++) {
		if (!lives[i].mm)
			continue;
		until_equal(counts, lives[i].mm, (1ul << 16) + 2, "mm_users << 16 + mm_count");
		if (last)
			end_life(a, &lives[i], lives[i].mm);
		else
			alive += get(place_of(lives[i].mm)) == lives[i].mm;
	}
	if (pending) {
		mmput(pending);
		pending = NULL;
	}
	if (SEES_FREE)
		until_equal(still_tracked, NULL, alive, "mms alive");
}

/* ---- fork ---- */

static struct mm_struct *process;
static struct elem *inherited_elem;
static struct ival *inherited_ival;
static struct mmu_notifier *inherited_got;
static int child_frees;

static void child_free(struct mmu_notifier *mn)
{
	(void)mn;
	child_frees++;
}

static void count_run(struct rcu_head *head)
{
	(void)head;
	child_frees++;
}

static const struct mmu_notifier_ops child_ops = { .free_notifier = child_free };

#define WANT(condition) do { if (!(condition)) fail("in the child: not %s", #condition); } while (0)

static void child_range(struct mm_struct *mm)
{
	struct mmu_notifier_range range;

	mmap_read_lock(mm);
	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, mm, 0, PAGES * PAGE);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	mmap_read_unlock(mm);
}

/* An mm of the child's own, from begin to end. */
static void child_life(void)
{
	struct mmu_notifier kept = { .ops = &child_ops }, put = { .ops = &child_ops };
	struct mm_struct *mm = mm_alloc();
	struct ival *i = ival_new(self(), mm);

	ival_insert(self(), i, false);
	WANT(!mmu_notifier_register(&kept, mm));
	WANT(!mmu_notifier_register(&put, mm));
	child_range(mm);
	mmu_notifier_put(&put);
	mmu_notifier_synchronize();
	WANT(child_frees == 1);
	mmu_notifier_unregister(&kept, mm);
	mmu_interval_notifier_remove(&i->sub);
	WANT(atomic_read(&mm->mm_count) == 1 && atomic_read(&mm->mm_users) == 1);
	mmput(mm);
	free(i);
}

static void child_domains(void)
{
	static DEFINE_SRCU(fresh);
	struct rcu_head head;
	int index = srcu_read_lock(&fresh);

	rcu_read_lock();
	srcu_read_unlock(&fresh, index);
	synchronize_srcu(&fresh);
	rcu_read_unlock();
	synchronize_rcu();
	call_srcu(&fresh, &head, count_run);
	srcu_barrier(&fresh);
	WANT(child_frees == 2);
}

/* No lock of the program: a thread that is gone may hold it. */
static void child_main(pid_t parent)
{
	unsigned int errors = VALGRIND_COUNT_ERRORS;	/* the parent's */
	int i;

	in_child = true;
	alarm(120);
	prctl(PR_SET_PDEATHSIG, SIGKILL);	/* it is one thread's, which waits */
	if (getppid() != parent)
		_exit(1);
	WANT(!mm_has_notifiers(process));
	child_range(process);
	mmu_notifier_unregister(&inherited_elem->mn, process);
	mmu_interval_notifier_remove(&inherited_ival->sub);
	mmu_notifier_put(inherited_got);
#ifdef __SANITIZE_ADDRESS__
	/* Its allocator does not know of fork: a thread that is gone may hold one of its locks. */
	_exit(0);
#endif
	mmu_notifier_synchronize();
	for (i = 0; i < SPACES; i++)
		child_range(spaces[i].mm);
	child_life();
	child_domains();
	(void)errors;
	/* What threads that are gone held in registers is no leak: leave before valgrind looks for any. */
	if (RUNNING_ON_VALGRIND) {
		if (VALGRIND_COUNT_ERRORS != errors)
			_exit(1);
		execl("/bin/true", "true", NULL);
	}
	_exit(0);
}

void fork_one(struct actor *a)
{
	static int forking;
	static unsigned long last;
	pid_t pid, parent = getpid();
	int status;

	if (now_ms() - get(&last) < 200 || !change(&forking, 0, 1))
		return;
	doing(a, "fork");
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (!pid)
		child_main(parent);
	doing(a, "fork: waitpid");
	if (waitpid(pid, &status, 0) != pid || status)
		fail("the child of a fork ended with status %#x", status);
	count(a, FORK);
	set(&last, now_ms());
	release(&forking, 0);
}

void life_begin(struct actor *a)
{
	int i;

	for (i = 0; i < LIVES; i++)
		pthread_mutex_init(&lives[i].lock, NULL);
	process = current->mm;
	inherited_elem = elem_new(a, process, FULL);
	elem_register(a, inherited_elem, false);
	inherited_ival = ival_new(a, process);
	ival_insert(a, inherited_ival, false);
	get_for(a, process, &inherited_got);
}
