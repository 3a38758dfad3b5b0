/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Grace periods where membarrier(2) is refused, by a filter of system calls: from the beginning, and after it had been granted.
 * Walks must then fence for themselves. What this shows is that grace periods go on and end; the few nanoseconds in which a missing
 * fence would show are the models' business (models/grace.rs).
 */
#include "test.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* A notifier that is poisoned as soon as its grace period is over, and used again. */
struct victim {
	struct mmu_notifier mn;
	unsigned long alive;
};

static struct mm_struct *mm;
static struct victim victims[2];
static int seen_dead;		/* written by the walker */

static void refuse_membarrier(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = 4, .filter = filter };

	ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ASSERT_EQ(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program), 0);
	ASSERT_EQ(syscall(SYS_membarrier, 0, 0, 0), -1);
}

static int look(struct mmu_notifier *mn, struct mm_struct *of __maybe_unused,
		unsigned long address __maybe_unused)
{
	struct victim *victim = container_of(mn, struct victim, mn);

	for (int n = 0; n < 2000; n++)
		if (__atomic_load_n(&victim->alive, __ATOMIC_RELAXED) != 1)
			seen_dead = 1;
	return 0;
}

static const struct mmu_notifier_ops looking = { .test_young = look };
static int stop;

static void *walk_on(void *unused)
{
	while (!LOAD(stop))
		mmu_notifier_test_young(mm, 0);
	return unused;
}

/* Registers and unregisters while another thread walks: who is unregistered is dead. */
static void come_and_go(int rounds)
{
	for (int n = 0; n < rounds; n++) {
		struct victim *victim = &victims[n % 2];

		victim->mn.ops = &looking;
		STORE(victim->alive, 1);
		ASSERT_EQ(mmu_notifier_register(&victim->mn, mm), 0);
		for (volatile int wait = n % 64; wait > 0; wait--)
			;
		mmu_notifier_unregister(&victim->mn, mm);
		STORE(victim->alive, 0);
	}
	ASSERT(!LOAD(seen_dead));
}

static void with_a_walker(void (*refuse_late)(void))
{
	struct thread *walker;

	mm = mm_alloc();
	walker = spawn(walk_on, NULL);
	come_and_go(300);
	refuse_late();
	come_and_go(20000);
	STORE(stop, 1);
	join(walker);
	mmput(mm);
}

static void not_again(void)
{
}

TEST(DV_6_without_membarrier)
{
	refuse_membarrier();
	with_a_walker(not_again);
}

TEST(DV_6_membarrier_that_is_taken_away)
{
	with_a_walker(refuse_membarrier);
}
