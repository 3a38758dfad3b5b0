/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a driver that was compiled for one kernel offers to test_versions.c, which knows no kernel. */
#ifndef VERSIONS_UNIT_H
#define VERSIONS_UNIT_H

#include <stdbool.h>

struct mm_struct;

struct unit {
	const char *kernel;
	/* the notifier of the mm, and an interval of one page at 0x10000 */
	int (*register_)(struct mm_struct *mm);
	void (*unregister)(struct mm_struct *mm);
	int (*get)(struct mm_struct *mm);
	void (*put)(void);
	int (*insert)(struct mm_struct *mm);
	void (*remove)(void);
	/* as a producer of that kernel; the range is [start, end) */
	int (*start)(struct mm_struct *mm, unsigned long start, unsigned long end, bool blockable);
	void (*end)(void);
	int (*young)(struct mm_struct *mm);
	void (*secondary)(struct mm_struct *mm);
	int (*mixed)(struct mm_struct *mm);	/* register ops that have both kinds of invalidation */
};

/* By test_versions.c: adds a line "KERNEL WHAT" to the log. */
void noted(const char *kernel, const char *format, ...) __attribute__((__format__(__printf__, 2, 3)));

/* What the next non-blockable start of that unit's interval answers; whether two-pass units leave a finish. */
extern bool answer;

extern const struct unit unit_5_14, unit_6_3, unit_6_6, unit_6_12, unit_7_1;

#endif
