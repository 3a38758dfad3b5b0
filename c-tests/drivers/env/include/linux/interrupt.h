/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ENV_LINUX_INTERRUPT_H
#define ENV_LINUX_INTERRUPT_H

#include <linux/bitops.h>

typedef int irqreturn_t;

#endif
