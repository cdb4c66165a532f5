/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer of AML, the byte code of ACPI (ACPI 6.5, chapter 20), into a bounded buffer.
 *
 * Terms are written in the order of the byte stream: an opcode, then its operands.
 * Terms with a PkgLength are opened and closed; what is written in between is their
 * content, and they nest:
 *
 *	size_t dev = aml_device(&aml, "COM1");
 *		aml_name_eisa_id(&aml, "_HID", "PNP0501");
 *		size_t res = aml_name_resources(&aml, "_CRS");
 *			aml_io(&aml, 0x3f8, 8);
 *		aml_resources_end(&aml, res);
 *	aml_end(&aml, dev);
 *
 * The first thing that goes wrong is kept in aml.error and everything after it is
 * ignored, so a caller checks once, at the end.
 */
#ifndef FIRMWARE_AML_H
#define FIRMWARE_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
	uint8_t *buf;
	size_t size;
	size_t len; /* bytes written so far, never more than size */
	int error;  /* 0; -ENOSPC: @buf is full; -EINVAL: not a name, not an id */
};

/* Write into @buf (borrowed), at most @size bytes. */
void aml_init(struct aml *aml, void *buf, size_t size);

/* Bare data, little-endian; also good for tables without AML. */
void aml_byte(struct aml *aml, uint8_t value);
void aml_word(struct aml *aml, uint16_t value);
void aml_dword(struct aml *aml, uint32_t value);
void aml_qword(struct aml *aml, uint64_t value);
void aml_bytes(struct aml *aml, const void *data, size_t len);

/*
 * Names (20.2.2): "\\_SB.PCI0", "^COM1", "EVTS". Segments of one to four of A-Z, 0-9
 * and _, padded with _ here; anything else is -EINVAL.
 */
void aml_path(struct aml *aml, const char *path);

/* Data objects (20.2.3). Integers take the shortest encoding there is. */
void aml_int(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *ascii);
void aml_eisa_id(struct aml *aml, const char *id); /* three letters, four hex digits */
void aml_buffer(struct aml *aml, const void *data, size_t len);

/* Name (path, object): the first one leaves the object to the caller. */
void aml_name(struct aml *aml, const char *path);
void aml_name_int(struct aml *aml, const char *path, uint64_t value);
void aml_name_string(struct aml *aml, const char *path, const char *ascii);
void aml_name_eisa_id(struct aml *aml, const char *path, const char *id);

/* Terms with a PkgLength (20.2.4). Each returns what its aml_end() wants. */
size_t aml_scope(struct aml *aml, const char *path);
size_t aml_device(struct aml *aml, const char *path);
size_t aml_method(struct aml *aml, const char *path, unsigned nargs, bool serialized);
size_t aml_package(struct aml *aml, uint8_t nelements);
size_t aml_if(struct aml *aml);	  /* the predicate comes first */
size_t aml_else(struct aml *aml); /* right after the aml_end() of an If */
void aml_end(struct aml *aml, size_t start);

/* OperationRegion and Field (20.2.5.2). */
enum aml_space { AML_SYSTEM_MEMORY = 0, AML_SYSTEM_IO = 1 };
enum aml_access { AML_BYTE_ACC = 1, AML_WORD_ACC = 2, AML_DWORD_ACC = 3 };

void aml_op_region(struct aml *aml, const char *path, enum aml_space space, uint64_t offset,
		   uint64_t len);
/* A field list over @region, NoLock and Preserve; ends with aml_end(). */
size_t aml_field(struct aml *aml, const char *region, enum aml_access access);
void aml_field_unit(struct aml *aml, const char *name, uint32_t bits);
void aml_field_skip(struct aml *aml, uint32_t bits);

/* Opcodes without a PkgLength (20.2.5.3, 20.2.5.4, 20.2.6); the operands follow. */
enum aml_op {
	AML_NO_TARGET = 0x00, /* the result is not stored */
	AML_LOCAL0 = 0x60,
	AML_ARG0 = 0x68,
	AML_ARG1 = 0x69,
	AML_ARG2 = 0x6a,
	AML_ARG3 = 0x6b,
	AML_STORE = 0x70,	       /* value, target */
	AML_AND = 0x7b,		       /* value, value, target */
	AML_OR = 0x7d,		       /* value, value, target */
	AML_NOTIFY = 0x86,	       /* device, value */
	AML_CREATE_DWORD_FIELD = 0x8a, /* buffer, byte offset, name */
	AML_LNOT = 0x92,	       /* value */
	AML_LEQUAL = 0x93,	       /* value, value */
	AML_RETURN = 0xa4,	       /* value */
};

void aml_op(struct aml *aml, enum aml_op op);

/*
 * Resource templates (6.4): a buffer of descriptors. aml_resources_end() adds the end
 * tag with its checksum.
 */
size_t aml_name_resources(struct aml *aml, const char *path);
void aml_resources_end(struct aml *aml, size_t start);

/* Ports @base to @base + @len - 1, 16-bit decoding. */
void aml_io(struct aml *aml, uint16_t base, uint8_t len);
/* One GSI, edge-triggered, active high, not shared. */
void aml_interrupt(struct aml *aml, uint32_t gsi);
/* Fixed memory the device itself uses, read-write. */
void aml_memory32_fixed(struct aml *aml, uint32_t base, uint32_t len);
/* Bus numbers a bridge passes on. */
void aml_bus_range(struct aml *aml, uint16_t first, uint16_t last);
/*
 * Memory, read-write and uncached, that the device uses (@producer false) or, being a
 * bridge, passes on (true). @len must not be 0 nor reach past the end of the space.
 */
void aml_dword_memory(struct aml *aml, bool producer, uint32_t base, uint32_t len);
void aml_qword_memory(struct aml *aml, bool producer, uint64_t base, uint64_t len);

#endif
