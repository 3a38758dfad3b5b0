/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ENV_ASM_PROCESSOR_H
#define ENV_ASM_PROCESSOR_H

#include <sched.h>

/* In a loop that waits for another thread. */
#define cpu_relax()	sched_yield()

#endif
