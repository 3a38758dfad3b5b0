/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Only to be a member of a struct. */
#ifndef ENV_LINUX_MUTEX_H
#define ENV_LINUX_MUTEX_H

struct mutex {
	unsigned int word;
};

#endif
