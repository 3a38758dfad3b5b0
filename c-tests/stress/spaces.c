/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Spaces: mms that live from one rest to some later one.
 *
 * At rest mm_users and mm_count are exact.  Now and then a space ends, before
 * or after its members: then mm exit has called each of them once (RL-1, RL-2),
 * and every sequence number up to the highest was told to somebody: a busy
 * period's is 2 more than the last one's (ST-5).
 */
#include "torture.h"

struct space spaces[SPACES];

static void space_make(struct space *s)
{
	int p;

	s->mm = mm_alloc();
	if (!s->mm)
		fail("mm_alloc");
	mmgrab(s->mm);
	for (p = 0; p < PAGES; p++)
		s->table[p] = 1;
	memset(s->seen, 0, SEQS / 8);
	s->seen[0] = 1;			/* 1: what an insert into a fresh mm stores */
	s->top = 1;
	s->itree = false;
	if (s->lockless) {
		/* Ranges under no lock need intervals to be turned on before (DV-2). */
		struct ival *first = ival_new(self(), s->mm);

		first->space = s;
		ival_insert(self(), first, false);
		ival_remove(self(), first);
	}
}

void spaces_make(void)
{
	int i;

	for (i = 0; i < SPACES; i++) {
		struct space *s = &spaces[i];

		s->lists = i != 2;
		s->lockless = i == 2;
		s->seen = malloc(SEQS / 8);
		if (!s->seen)
			fail("no memory");
		space_make(s);
	}
}

/* All numbers up to the highest were seen: each period's is 2 more than the last one's. */
static void check_seqs(struct space *s)
{
	unsigned long seq;

	for (seq = 1; seq <= s->top; seq += 2)
		if (!(s->seen[seq / 16] & 1u << (seq / 2 % 8)))
			fail("nobody was ever told the sequence number %lu of %lu (ST-5)", seq, s->top);
}

static int members(struct space *s)
{
	int i, n = 0;

	for (i = 0; i < ELEMS; i++)
		n += s->elems[i].state == LIVE;
	for (i = 0; i < IVALS; i++)
		n += s->ivals[i].state == LIVE;
	return n;
}

/* mm exit with everything in place: each is released once; then all is taken down. */
static void end_space(struct actor *a, struct space *s, bool exit_first)
{
	int i;

	if (exit_first) {
		a->n_called = 0;
		mmput(s->mm);
		if (mmget_not_zero(s->mm))
			fail("mmget_not_zero after the last mmput");
	}
	for (i = 0; i < ELEMS; i++) {
		struct elem_slot *slot = &s->elems[i];

		if (slot->state != LIVE)
			continue;
		if (exit_first && slot->elem->mn.ops->release && slot->elem->releases != 1)
			fail("mm exit: release ran %lu times (RL-2)", slot->elem->releases);
		if (i % 2)
			elem_unregister(a, slot->elem);
		else
			elem_put(a, slot->elem);
		slot->state = EMPTY;
	}
	for (i = 0; i < IVALS; i++) {
		if (s->ivals[i].state != LIVE)
			continue;
		if (exit_first && s->ivals[i].ival->releases != 1)
			fail("mm exit: invalidate ran %lu times (RL-1)", s->ivals[i].ival->releases);
		ival_remove(a, s->ivals[i].ival);
		s->ivals[i].state = EMPTY;
	}
	mmu_notifier_synchronize();
	if (!exit_first)
		mmput(s->mm);
	if (atomic_read(&s->mm->mm_count) != 1 || atomic_read(&s->mm->mm_users) != 0)
		fail("mm_count %d, mm_users %d at the end of an mm", atomic_read(&s->mm->mm_count),
		     atomic_read(&s->mm->mm_users));
	mmdrop(s->mm);
	count(a, RENEW);
}

/* Nobody else runs. */
void spaces_at_rest(struct actor *a, bool last)
{
	int i;

	for (i = 0; i < SPACES; i++) {
		struct space *s = &spaces[i];
		int expected = 2 + members(s), have = atomic_read(&s->mm->mm_count);

		if (have != expected)
			fail("mm_count is %d at rest, %d references exist", have, expected);
		if (atomic_read(&s->mm->mm_users) != 1)
			fail("mm_users is %d at rest", atomic_read(&s->mm->mm_users));
		if (!last && !one_in(a, 16) && s->top < SEQS)
			continue;
		check_seqs(s);
		end_space(a, s, one_in(a, 2));
		if (!last)
			space_make(s);
	}
}
