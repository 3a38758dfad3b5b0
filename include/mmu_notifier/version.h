/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The version of the headers, and of the library that is running.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_VERSION_H
#define MMU_NOTIFIER_VERSION_H

#define MMU_NOTIFIER_VERSION "0.1.0"
#define MMU_NOTIFIER_VERSION_MAJOR 0
#define MMU_NOTIFIER_VERSION_MINOR 1
#define MMU_NOTIFIER_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that is running, `"MAJOR.MINOR.PATCH"`. Compare with MMU_NOTIFIER_VERSION, that of the
 * headers. Callable from anywhere.
 */
const char *mmu_notifier_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MMU_NOTIFIER_VERSION_H */
