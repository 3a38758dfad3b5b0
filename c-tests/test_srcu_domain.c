/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* <linux/srcu.h>: domains of a driver's own, independent of each other and of the notifiers' (HEADERS.md, "What the drivers taught", 4). */
#include "test.h"
#include <linux/srcu.h>

static struct srcu_struct domain, another;
static struct gate gate;

static void set_up(void)
{
	ASSERT_EQ(init_srcu_struct(&domain), 0);
	ASSERT_EQ(init_srcu_struct(&another), 0);
}

static void *do_section(void *arg)
{
	int index = srcu_read_lock(&domain);

	gate_pass(&gate);
	srcu_read_unlock(&domain, index);
	return arg;
}

static void *do_synchronize_domain(void *of)
{
	synchronize_srcu(of);
	return NULL;
}

TEST(srcu_synchronize_waits_for_open_sections)
{
	struct thread *reader, *writer;

	set_up();
	reader = spawn(do_section, NULL);
	gate_wait(&gate);
	writer = spawn(do_synchronize_domain, &domain);
	wait_until_blocked(writer, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	synchronize_srcu(&another);
	mmu_notifier_synchronize();
	gate_open(&gate);
	join(reader);
	join(writer);
	cleanup_srcu_struct(&domain);
	cleanup_srcu_struct(&another);
}

static struct { struct rcu_head head; int called; } item;

static void item_called(struct rcu_head *head)
{
	ASSERT_EQ(head, &item.head);
	STORE(item.called, 1);
}

TEST(srcu_call_and_barrier)
{
	struct thread *reader;

	set_up();
	reader = spawn(do_section, NULL);
	gate_wait(&gate);
	call_srcu(&domain, &item.head, item_called);
	ASSERT_EQ(LOAD(item.called), 0);
	gate_open(&gate);
	join(reader);
	srcu_barrier(&domain);
	ASSERT_EQ(LOAD(item.called), 1);
	cleanup_srcu_struct(&domain);
}

static void synchronize_own(struct listener *self, const char *op)
{
	int index = srcu_read_lock(&another);

	(void)self;
	note("own in %s", op);
	synchronize_srcu(&domain);
	srcu_read_unlock(&another, index);
}

/* HEADERS.md 4: inside ->release, that is inside the notifiers' own section. */
TEST(DV_7_a_drivers_own_domain_in_a_callback)
{
	struct mm_struct *mm = mm_alloc();
	struct listener A = listener("A", &ops_all);

	set_up();
	A.in = synchronize_own;
	REGISTER(&A, mm);
	invalidate(mm, 0x1000, 0x2000);
	UNREGISTER(&A);
	EXPECT_LOG("A.start", "own in start", "A.end", "own in end", "A.release", "own in release");
	mmput(mm);
}

static void free_synchronizes_own(struct mmu_notifier *mn)
{
	synchronize_srcu(&domain);
	on_free_kept(mn);
}

TEST(DV_7_a_drivers_own_domain_in_free_notifier)
{
	static const struct mmu_notifier_ops ops = { .free_notifier = free_synchronizes_own };
	struct mm_struct *mm = mm_alloc();
	struct listener A = listener("A", &ops);

	set_up();
	REGISTER(&A, mm);
	mmu_notifier_put(&A.mn);
	mmu_notifier_synchronize();
	EXPECT_LOG("A.free");
	mmput(mm);
}

TEST(DV_7_a_drivers_own_section_is_no_callback)
{
	struct mm_struct *mm = mm_alloc();
	struct listener A = listener("A", &ops_all);
	int index;

	set_up();
	REGISTER(&A, mm);
	index = srcu_read_lock(&domain);
	mmu_notifier_synchronize();
	UNREGISTER(&A);
	mmput(mm);
	srcu_read_unlock(&domain, index);
	EXPECT_LOG("A.release");
}
