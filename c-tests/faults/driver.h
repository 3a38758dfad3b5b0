/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef DRIVER_H
#define DRIVER_H

struct driver_counts { int starts, releases, frees, invalidations, warnings; };

int driver_load(void);
void driver_event(void);
void driver_unload(struct driver_counts *at_the_end);
void *driver_address(void);
int driver_process_count(void);

#endif
