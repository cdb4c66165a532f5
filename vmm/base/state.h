/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved state: named, versioned fields; one function per device, used in both
 * directions.
 *
 *	static int rtc_state(struct rtc *rtc, struct state *s)
 *	{
 *		state_begin(s, "rtc", 1);
 *		state_u8(s, "index", &rtc->index);
 *		state_bytes(s, "cmos", rtc->cmos, sizeof(rtc->cmos));
 *		return state_end(s);
 *	}
 *
 * Saving appends to a buffer. Loading finds each field by name within its
 * section, whatever the order; a field that is missing keeps the value it had
 * (so a new field gets its default when an old file is loaded), a field that is
 * there but was not asked for, one of another type or size, a section twice, or a
 * version above the one this program knows is an error that names it. The first
 * error sticks: later calls do nothing, so callers check once, at the end.
 * Sections may be nested. The bytes are hostile: every length is checked against
 * what is left, nesting (8 deep) and the number of fields and sections in a section
 * (4096) are bounded, nothing is allocated by a length in the file.
 *
 * Names are unique in their section, so the elements of an array need numbers
 * ("queue0"), and printable ASCII without blanks, at most 255 characters. They are
 * copied. Fields are found fastest in the order in which they were saved.
 *
 * Format, all integers little-endian: "VMMSTATE", u32 format version, then
 * sections; last a CRC-64/XZ over everything before it. A section: u8 kind, u8 name
 * length, name, u32 version, u32 payload length, payload (fields and sections).
 * A field: u8 kind, u8 name length, name, u32 payload length, payload. Kinds: 1 section,
 * 2 u8, 3 u16, 4 u32, 5 u64, 6 bool (0 or 1), 7 bytes, 8 blob.
 */
#ifndef VMM_BASE_STATE_H
#define VMM_BASE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "vmm/base/err.h"

struct state;

/* A state to save into, or NULL when out of memory. */
struct state *state_new_save(void);
/* A state to load from @data (borrowed until state_free), or NULL with @err filled. */
struct state *state_new_load(const void *data, size_t len, struct err *err);
void state_free(struct state *s);

bool state_loading(const struct state *s);

/*
 * Open section @name. Returns the version in the file (saving: @version), 0 on error.
 * A section that is missing is an error: ask state_has() first for one that may be.
 */
uint32_t state_begin(struct state *s, const char *name, uint32_t version);
/* Close it. Returns 0 or -code of the first error so far. */
int state_end(struct state *s);

void state_u8(struct state *s, const char *name, uint8_t *v);
void state_u16(struct state *s, const char *name, uint16_t *v);
void state_u32(struct state *s, const char *name, uint32_t *v);
void state_u64(struct state *s, const char *name, uint64_t *v);
void state_bool(struct state *s, const char *name, bool *v);
/* Exactly @len bytes. */
void state_bytes(struct state *s, const char *name, void *buf, size_t len);
/* At most @cap bytes; *@len says how many (in and out). */
void state_blob(struct state *s, const char *name, void *buf, size_t *len, size_t cap);

/* No error so far: what was loaded may be used. */
bool state_ok(const struct state *s);
/* Is there a field or section @name in the section being loaded? Saving: false. */
bool state_has(struct state *s, const char *name);
/* Bytes of blob @name in the section being loaded; 0: there is none. Saving: 0. */
size_t state_blob_size(struct state *s, const char *name);
/*
 * Save the sections of @from that were not asked for, as they are: for who changes one section of a
 * file that was saved by somebody else. No section may be open.
 */
void state_copy(struct state *to, struct state *from);
/*
 * Save all that is in the section of @from that is open, as it is, in the one of @to that is: for
 * who was saved by somebody else.
 */
void state_splice(struct state *to, struct state *from);
/* The device's own objection to what it loaded. */
void state_fail(struct state *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * Finish. Saving: seals the buffer and gives it to the caller (*@data is the
 * state's own until state_free). Loading: checks that everything was asked for.
 * Returns 0 or -code with the first error. Nothing may be saved or loaded after it.
 */
int state_finish(struct state *s, const void **data, size_t *len, struct err *err);

#endif
