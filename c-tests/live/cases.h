/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Cases that each run in a process of their own: ends.c, hard.c. */
#ifndef CASES_H
#define CASES_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEADLINE = 60, SKIPPED = 77 };	/* seconds; a status */

__attribute__((noreturn)) static inline void fail(const char *what, const char *file, int line)
{
	dprintf(STDOUT_FILENO, "%s: line %d: not so: %s\n", file, line, what);
	_exit(1);
}
#define MUST(condition) ((condition) ? (void)0 : fail(#condition, __FILE__, __LINE__))

/* This machine cannot do the case: ends its process, which counts as a skip. */
__attribute__((noreturn)) static inline void skip(const char *why)
{
	dprintf(STDOUT_FILENO, "SKIP %s\n", why);
	_exit(SKIPPED);
}

/* Runs `body` in a child, which ends by itself or by a signal. Returns its wait status. */
static inline int status_of(void (*body)(void))
{
	int status = -1;
	pid_t child = fork();

	if (!child) {
		alarm(DEADLINE);
		body();
		_exit(0);
	}
	return child < 0 || waitpid(child, &status, 0) != child ? -1 : status;
}

/* Did it end as it should: by `signal`, or, if that is 0, well? */
static inline bool ended_by(int status, int signal)
{
	return signal ? WIFSIGNALED(status) && WTERMSIG(status) == signal : !status;
}

#endif /* CASES_H */
