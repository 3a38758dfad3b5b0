/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Drivers' own grace periods, as in the kernel's rcutorture: a reader that
 * sees a thing of age 2 or more has outlived a grace period.
 *
 * A thing that was replaced is handed from callback to callback, a grace
 * period each, until its age is PIPE.
 */
#include "torture.h"

#define MAGIC 0x7417417417417417ul
enum { DOMAINS = 3, RCU = 2, PENDING = 256 };

struct domain {
	struct srcu_struct srcu;		/* RCU: not used */
	struct thing *thing;			/* what readers get */
	unsigned long called, ran;		/* call_srcu, and its functions that returned */
};

struct thing {
	unsigned long magic;
	int age;
	struct domain *domain;
	struct rcu_head head;
};

static struct domain domains[DOMAINS];

static bool is_rcu(const struct domain *d)
{
	return d == &domains[RCU];
}

static struct thing *thing_new(struct domain *d)
{
	struct thing *t = malloc(sizeof(*t));

	if (!t)
		fail("no memory");
	t->age = 0;
	t->domain = d;
	t->magic = MAGIC;
	return t;
}

/* ---- readers ---- */

static void look(struct actor *a, const struct thing *t, int when)
{
	int age = get(&t->age);

	a->ages[when][age < 0 || age > PIPE ? PIPE : age]++;
	if (get(&t->magic) != MAGIC || age > 1)
		fail("a reader of a driver's domain %s a thing %d grace periods after it was replaced",
		     when ? "still has" : "gets", age - 1);
}

static void section(struct actor *a, struct domain *d, int depth)
{
	int index = 0;
	struct thing *t;

	if (is_rcu(d))
		rcu_read_lock();
	else
		index = srcu_read_lock(&d->srcu);
	t = rcu_dereference(d->thing);
	if (t)
		look(a, t, 0);
	if (depth && one_in(a, 8))
		section(a, &domains[rnd(a) % DOMAINS], depth - 1);
	dawdle(a, true);
	if (t)
		look(a, t, 1);
	if (is_rcu(d))
		rcu_read_unlock();
	else
		srcu_read_unlock(&d->srcu, index);
	count(a, is_rcu(d) ? RCU_READ : SRCU_READ);
}

void domain_read(struct actor *a)
{
	doing(a, "srcu: read section");
	section(a, &domains[rnd(a) % DOMAINS], 3);
}

/* ---- updaters ---- */

static void wait_for(struct actor *a, struct domain *d)
{
	doing(a, is_rcu(d) ? "synchronize_rcu" : "synchronize_srcu");
	if (is_rcu(d))
		synchronize_rcu();
	else
		synchronize_srcu(&d->srcu);
	count(a, is_rcu(d) ? RCU_SYNC : SRCU_SYNC);
}

void domain_wait_inside(struct actor *a)
{
	const char *before = a->op;

	wait_for(a, &domains[rnd(a) % DOMAINS]);
	doing(a, before);
}

static void later(struct actor *a, struct thing *t);

static void grow_older(struct rcu_head *head)
{
	struct thing *t = container_of(head, struct thing, head);
	struct domain *d = t->domain;
	struct actor *a = self();

	if (in_child)
		return;
	count(a, SRCU_RAN);
	if (t->magic != MAGIC)
		fail("a callback of call_srcu runs twice");
	set(&t->age, t->age + 1);
	if (t->age < PIPE && !really_free) {
		later(a, t);
	} else {
		set(&t->magic, 0ul);
		free(t);
	}
	add(&d->ran, 1ul);
}

static void later(struct actor *a, struct thing *t)
{
	struct domain *d = t->domain;

	/* Counted afterwards: what counts is what a barrier has to wait for. */
	count(a, SRCU_CALL);
	if (is_rcu(d))
		call_rcu(&t->head, grow_older);
	else
		call_srcu(&d->srcu, &t->head, grow_older);
	add(&d->called, 1ul);
}

static void barrier_of(struct actor *a, struct domain *d)
{
	unsigned long called = acquire(&d->called), ran;

	doing(a, "srcu_barrier");
	srcu_barrier(&d->srcu);
	ran = acquire(&d->ran);
	/* One function may have returned without having counted so. */
	if (ran + 1 < called)
		fail("srcu_barrier: %lu calls before it, %lu returned after it", called, ran);
	count(a, SRCU_BARRIER);
}

void domain_update(struct actor *a)
{
	struct domain *d = &domains[rnd(a) % DOMAINS];
	struct thing *old;

	if (!is_rcu(d) && one_in(a, 8)) {
		barrier_of(a, d);
		return;
	}
	old = swap(&d->thing, thing_new(d));
	if (!old)
		return;
	set(&old->age, 1);
	if (one_in(a, 2) || acquire(&d->called) - acquire(&d->ran) > PENDING) {
		wait_for(a, d);
		set(&old->age, 2);
	}
	doing(a, "call_srcu");
	later(a, old);
}

/* Nobody else runs: what is owed is paid, and domains end. */
void domains_at_rest(struct actor *a, bool last)
{
	int i;

	if (!last && !one_in(a, 16))
		return;
	for (i = 0; i < DOMAINS; i++) {
		struct domain *d = &domains[i];
		struct thing *t = swap(&d->thing, NULL);

		if (t)
			later(a, t);
		while (acquire(&d->called) != acquire(&d->ran)) {
			if (is_rcu(d))
				usleep(100);
			else
				barrier_of(a, d);
		}
		if (is_rcu(d))
			continue;
		cleanup_srcu_struct(&d->srcu);
		memset(&d->srcu, 0x5a, sizeof(d->srcu));
		if (init_srcu_struct(&d->srcu))
			fail("init_srcu_struct");
		count(a, SRCU_RENEW);
	}
}
