// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A burst of puts for strace: what the calling thread asks of the kernel
 * between the two writes to no file is counted.  The first burst starts the
 * worker and is not counted.
 */
#include <stdlib.h>
#include <unistd.h>
#include "subject.h"

extern const struct subject static_subject;

static void mark(const char *name)
{
	if (write(-1, name, 5) >= 0)
		abort();
}

int main(int argc, char **argv)
{
	void *burst = static_subject.burst_new(argc > 1 ? strtoul(argv[1], NULL, 10) : 1000);

	static_subject.burst_puts(burst);
	static_subject.burst_settle(burst);
	mark("begin");
	static_subject.burst_puts(burst);
	mark("ended");
	static_subject.burst_settle(burst);
	static_subject.burst_free(burst);
	return 0;
}
