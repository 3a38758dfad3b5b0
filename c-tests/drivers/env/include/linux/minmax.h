/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ENV_LINUX_MINMAX_H
#define ENV_LINUX_MINMAX_H

#define min(a, b) __extension__ ({ __typeof__(a) a_ = (a); __typeof__(b) b_ = (b); a_ < b_ ? a_ : b_; })
#define max(a, b) __extension__ ({ __typeof__(a) a_ = (a); __typeof__(b) b_ = (b); a_ > b_ ? a_ : b_; })

#endif
