/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the programs in this directory share.  CHECK() survives NDEBUG. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

static int check_failures;

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			printf("%s:%d: %s: failed: %s\n", __FILE__, __LINE__, \
			       __func__, #condition); \
			check_failures++; \
		} \
	} while (0)

/* The exit code. */
static inline int check_result(void)
{
	if (check_failures)
		printf("%d checks failed\n", check_failures);
	return check_failures != 0;
}

/* A small generator, for the same numbers everywhere. */
static inline unsigned long check_random(unsigned long below)
{
	static unsigned long long state = 20240607;

	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned long)(state >> 33) % below;
}

#endif
