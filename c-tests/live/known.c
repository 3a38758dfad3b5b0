// SPDX-License-Identifier: MIT OR Apache-2.0
/* What mmu-notifier-trace is tried with: `known N [fork]` unmaps N pages, one by one; a child does the same and calls _exit(). */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline)) void unmap_one(void);

void unmap_one(void)
{
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED || munmap(at, 4096))
		_exit(1);
	__asm__ volatile("");	/* no tail call */
}

int main(int argc, char **argv)
{
	int nr = argc > 1 ? atoi(argv[1]) : 0, status = 0;
	pid_t child = argc > 2 ? fork() : -1;

	for (int i = 0; i < nr; i++)
		unmap_one();
	if (!child)
		_exit(0);
	if (child > 0 && (waitpid(child, &status, 0) != child || status))
		return 1;
	return 0;
}
