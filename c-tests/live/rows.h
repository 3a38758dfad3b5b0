/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The ways to lose or to change a mapping, one row each. rows_*.c make them, with nothing but system calls and libc;
 * table.c runs each in a process of its own, with a subscriber that watches.
 */
#ifndef ROWS_H
#define ROWS_H

#include <stdbool.h>
#include <stddef.h>

enum { PAGE = 4096, PAGES = 16 };
#define LENGTH ((size_t)PAGES * PAGE)
#define SENTINEL 0x5e9712e15e9712e1UL

/* What tells the state before the change from the one after it. */
enum state {
	CONTENTS,	/* the word at `probe` is SENTINEL; read from outside, so that no access can fault */
	LAZY,		/* the same, but the kernel takes it away only when it wants to (MADV_FREE) */
	WRITABLE,	/* the word at `probe` can be written */
	EXCLUSIVE,	/* the page at `probe` is mapped here and nowhere else */
	PRESENT,	/* the page table has an entry at `probe` */
	NOTHING,	/* the call changes nothing */
};

/* What is expected of a row. A row that does better fails, too: the table in docs/live.md would be wrong. */
enum want {
	BAW,		/* before, after, and the caller waited for the subscriber */
	NET,		/* by the userfaultfd net only: too late, or not waited for */
	QUIET,		/* no event, for nothing changed */
	SPURIOUS,	/* nothing changed, an event may come */
	UNSEEN,		/* cannot be seen */
};

enum row_flags {
	ANCHOR = 1,	/* one of the 44 ways of docs/live.md that other libraries were measured with */
	EARLY = 2,	/* prepare() runs before live events are enabled */
	EXACT = 4,	/* one of the events is exactly [changed, changed + changed_length) */
};

struct watch {
	char *start;		/* watched: whole pages */
	size_t length;
	char *probe;		/* a word of it that changes; it holds SENTINEL before */
	char *changed;		/* what changes; an event has to cover all of it */
	size_t changed_length;
};

struct row {
	const char *name;
	void (*prepare)(struct watch *watch);
	void (*change)(struct watch *watch);
	enum state state;
	enum want want;
	int event;		/* enum mmu_notifier_event */
	unsigned int flags;
};

/* As in <linux/mmu_notifier.h>, which these files do not include: it comes with the library's own <linux/...>. */
enum { EVENT_UNMAP, EVENT_CLEAR, EVENT_PROTECTION_VMA, EVENT_PROTECTION_PAGE, EVENT_ANY = -1 };

extern const struct row rows_map[], rows_libc[], rows_file[], rows_other[], rows_where[], rows_none[];	/* end with {} */

/* This kernel, or this machine, cannot do the row: ends the process, which counts as a skip with this reason. */
__attribute__((noreturn, format(printf, 1, 2))) void cannot(const char *format, ...);
/* The row itself is broken: ends the process. */
__attribute__((noreturn)) void broken(const char *what);
#define MUST(condition) ((condition) ? (void)0 : broken(#condition))

/* Watches [start, start + length), fills it with SENTINEL, and expects all of it to change. */
void watch_all(struct watch *watch, void *start, size_t length);
/* The same without filling it. The probe is in the middle. */
void watch_only(struct watch *watch, void *start, size_t length);
/* Less of it changes. */
void watch_part(struct watch *watch, char *changed, size_t length);
/* LENGTH bytes of fresh anonymous memory, watched. */
void watch_anonymous(struct watch *watch);
/* LENGTH bytes of an object, mapped with `flags` (MAP_SHARED, MAP_PRIVATE) and watched. */
void watch_object(struct watch *watch, int fd, int flags);

int new_memfd(void);		/* LENGTH bytes of SENTINEL */
int new_file(char path[64]);	/* the same on a disk; unlinked if path is NULL */

/* A system call by an instruction of this program. Returns what the kernel returns. */
long inline_call(long number, long a, long b, long c, long d, long e, long f);

#endif /* ROWS_H */
