/* SPDX-License-Identifier: Apache-2.0 */
/* The few macros that every floor uses. */
#ifndef VMM_BASE_UTIL_H
#define VMM_BASE_UTIL_H

#include <stddef.h>

/* The @type whose member @member is at @ptr. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#endif
