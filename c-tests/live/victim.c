/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A library to be closed: memory of its own, with and without a file behind it. */
char victim_bss[32 * 4096];
char victim_data[32 * 4096] = { 1 };
