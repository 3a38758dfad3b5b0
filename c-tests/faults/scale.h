/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* FAULTS_SCALE=N: N percent of the full sizes (100). Slow checkers run a few percent. */
#ifndef SCALE_H
#define SCALE_H

#include <stdlib.h>
#include <unistd.h>

/* A long case: four times the harness's deadline, for a machine that is busy with other things. */
static inline void take_time(void) { alarm(120); }

static inline int scaled(int full, int least)
{
	const char *percent = getenv("FAULTS_SCALE");
	long size = full * (percent ? atol(percent) : 100L) / 100;

	return size < least ? least : (int)size;
}

#endif
