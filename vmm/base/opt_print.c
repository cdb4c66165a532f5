// SPDX-License-Identifier: Apache-2.0
/*
 * Option tables for people: --help text of 80 columns, and the OPTIONS section of a
 * manual page in the man(7) macros.
 *
 * Limits: help is taken for ASCII when lines are filled; a word longer than a line
 * sticks out.
 */
#include <stdarg.h>
#include <string.h>
#include "vmm/base/opt_impl.h"

#define HELP_WIDTH   79
#define HELP_INDENT  26
#define HELP_KEY_TAB 8
#define NOTE_MAX     384
#define ENUM_INLINE  32 /* "a|b|c" up to this length stands for the value itself */

/* Add a part to the remarks in parentheses that end a description. */
static void note_add(char note[NOTE_MAX], const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static void note_add(char note[NOTE_MAX], const char *fmt, ...)
{
	size_t len = strlen(note);
	va_list ap;

	snprintf(note + len, NOTE_MAX - len, "%s", len > 0 ? ", " : "");
	len = strlen(note);
	va_start(ap, fmt);
	vsnprintf(note + len, NOTE_MAX - len, fmt, ap);
	va_end(ap);
}

/* What stands for the value of @key: "SIZE", "off|thp|2M", "on|off". */
static const char *value_text(const struct opt_key *key, char buf[NOTE_MAX])
{
	size_t len = 0;

	if (key->arg != NULL)
		return key->arg;
	if (key->type == OPT_BOOL)
		return "on|off";
	if (key->type != OPT_ENUM)
		return "VALUE";
	for (size_t i = 0; key->values[i] != NULL; i++) {
		if (len + 1 + strlen(key->values[i]) > ENUM_INLINE)
			return "VALUE";
		len += (size_t)snprintf(buf + len, NOTE_MAX - len, "%s%s", i > 0 ? "|" : "",
					key->values[i]);
	}
	return buf;
}

static void key_note(const struct opt *opt, const struct opt_key *key, char note[NOTE_MAX])
{
	const char *def = key->def;
	char text[NOTE_MAX];

	opt_range_text(key, text);
	if (text[0] != '\0')
		note_add(note, "%s", text);
	if (key->type == OPT_ENUM && strchr(value_text(key, text), '|') == NULL) {
		opt_list_text(key->values, text, NOTE_MAX / 2);
		note_add(note, "one of: %s", text);
	}
	if (def == NULL && key->type == OPT_ENUM)
		def = key->values[0];
	/* A flag that is not given is off: that goes without saying. */
	if (def == NULL && key->type == OPT_BOOL && !opt->plain)
		def = "off";
	if (def != NULL && !(opt->plain && key->type == OPT_BOOL && strcmp(def, "off") == 0))
		note_add(note, "default %s", def);
	if (key->required && !opt->plain)
		note_add(note, "required");
}

static void opt_note(const struct opt *opt, char note[NOTE_MAX])
{
	note[0] = '\0';
	if (opt->plain)
		key_note(opt, &opt->keys[0], note);
	if (opt_repeatable(opt))
		note_add(note, "may be given up to %u times", opt->max);
}

static bool is_flag(const struct opt *opt)
{
	return opt->plain && opt->keys[0].type == OPT_BOOL;
}

/* A flag that is on unless one says no: the form worth showing is the negated one. */
static bool is_on_by_default(const struct opt *opt)
{
	return is_flag(opt) && opt->keys[0].def != NULL && strcmp(opt->keys[0].def, "on") == 0;
}

/* Text that is filled between column @indent and HELP_WIDTH. */
struct fill {
	FILE *out;
	int indent, column;
};

static void fill_words(struct fill *fill, const char *text)
{
	for (;;) {
		int len;

		text += strspn(text, " \n");
		len = (int)strcspn(text, " \n");
		if (len == 0)
			return;
		if (fill->column > fill->indent && fill->column + 1 + len > HELP_WIDTH) {
			fputc('\n', fill->out);
			fill->column = 0;
		}
		if (fill->column < fill->indent)
			fill->column += fprintf(fill->out, "%*s", fill->indent - fill->column, "");
		else if (fill->column > fill->indent)
			fill->column += fprintf(fill->out, " ");
		fill->column += fprintf(fill->out, "%.*s", len, text);
		text += len;
	}
}

/* The description beside what stands at the left, which ends at @column. */
static void help_text(FILE *out, int column, const char *text, const char *note)
{
	struct fill fill = { .out = out, .indent = HELP_INDENT, .column = column };
	char remark[NOTE_MAX + 2];

	if (column + 2 > HELP_INDENT) {
		fputc('\n', out);
		fill.column = 0;
	}
	if (text != NULL)
		fill_words(&fill, text);
	if (note[0] != '\0') {
		snprintf(remark, sizeof(remark), "(%s)", note);
		fill_words(&fill, remark);
	}
	fputc('\n', out);
}

static void help_opt(const struct opt *opt, FILE *out)
{
	char buf[NOTE_MAX], note[NOTE_MAX];
	int column;

	if (opt->letter != 0)
		column = fprintf(out, "  -%c, --%s", opt->letter, opt->name);
	else
		column = fprintf(out, "      --%s", opt->name);
	if (opt->alias != NULL)
		column += fprintf(out, ", --%s", opt->alias);
	if (is_on_by_default(opt))
		column += fprintf(out, ", --no-%s", opt->name);
	if (!is_flag(opt))
		column += fprintf(out, " %s%s", opt->stands_alone ? "[" : "",
				  value_text(&opt->keys[0], buf));
	if (!opt->plain && opt->keys[1].name != NULL)
		column += fprintf(out, "[,KEY=VALUE...]");
	if (opt->stands_alone)
		column += fprintf(out, "]");
	opt_note(opt, note);
	help_text(out, column, opt->help, note);
	if (opt->plain)
		return;
	for (const struct opt_key *key = opt->keys; key->name != NULL; key++) {
		bool flag = key->type == OPT_BOOL || key->bare;

		column = fprintf(out, "%*s%s%s=%s%s", HELP_KEY_TAB, "", key->name, flag ? "[" : "",
				 value_text(key, buf), flag ? "]" : "");
		note[0] = '\0';
		key_note(opt, key, note);
		help_text(out, column, key->help, note);
	}
}

void opt_print_help(const struct opt *table, FILE *out)
{
	for (const struct opt *opt = table; opt->name != NULL; opt++) {
		if (opt->section != NULL)
			fprintf(out, "%s%s:\n", opt == table ? "" : "\n", opt->section);
		help_opt(opt, out);
	}
}

/* @text as roff input: nothing in it is a request or an escape, and '-' is a minus. */
static void man_text(FILE *out, const char *text)
{
	/* At the start of a line, these would begin a request. */
	if (*text == '.' || *text == '\'')
		fputs("\\&", out);
	for (; *text != '\0'; text++) {
		switch (*text) {
		case '\\':
			fputs("\\e", out);
			break;
		case '-':
			fputs("\\-", out);
			break;
		case '\'':
			fputs("\\(aq", out);
			break;
		case '`':
			fputs("\\(ga", out);
			break;
		case '^':
			fputs("\\(ha", out);
			break;
		case '~':
			fputs("\\(ti", out);
			break;
		case '"':
			fputs("\\(dq", out);
			break;
		case '\n':
			fputc(' ', out);
			break;
		default:
			fputc(*text, out);
		}
	}
}

static void man_name(FILE *out, const char *before, const char *dashes, const char *name)
{
	fprintf(out, "%s\\fB", before);
	man_text(out, dashes);
	man_text(out, name);
	fputs("\\fR", out);
}

static void man_value(FILE *out, const char *before, const struct opt_key *key, const char *after)
{
	char buf[NOTE_MAX];

	fprintf(out, "%s\\fI", before);
	man_text(out, value_text(key, buf));
	fprintf(out, "\\fR%s", after);
}

/* The line or lines after a tag. */
static void man_body(FILE *out, const char *text, const char *note)
{
	if (text != NULL) {
		man_text(out, text);
		fputc('\n', out);
	}
	if (note[0] != '\0') {
		fputc('(', out);
		man_text(out, note);
		fputs(")\n", out);
	}
}

static void man_opt(const struct opt *opt, FILE *out)
{
	char letter[2] = { opt->letter, '\0' };
	char note[NOTE_MAX];

	fputs(".TP\n", out);
	if (opt->letter != 0)
		man_name(out, "", "-", letter);
	man_name(out, opt->letter != 0 ? ", " : "", "--", opt->name);
	if (opt->alias != NULL)
		man_name(out, ", ", "--", opt->alias);
	if (is_on_by_default(opt))
		man_name(out, ", ", "--no-", opt->name);
	if (!is_flag(opt))
		man_value(out, opt->stands_alone ? " [" : " ", &opt->keys[0], "");
	if (!opt->plain && opt->keys[1].name != NULL)
		fputs("[,\\fIKEY\\fR=\\fIVALUE\\fR...]", out);
	if (opt->stands_alone)
		fputc(']', out);
	fputc('\n', out);
	opt_note(opt, note);
	man_body(out, opt->help, note);
	if (opt->plain)
		return;
	fputs(".RS\n", out);
	for (const struct opt_key *key = opt->keys; key->name != NULL; key++) {
		bool flag = key->type == OPT_BOOL || key->bare;

		fputs(".TP\n", out);
		man_name(out, "", "", key->name);
		man_value(out, flag ? "[=" : "=", key, flag ? "]\n" : "\n");
		note[0] = '\0';
		key_note(opt, key, note);
		man_body(out, key->help, note);
	}
	fputs(".RE\n", out);
}

void opt_print_man(const struct opt *table, FILE *out)
{
	fputs(".SH OPTIONS\n", out);
	for (const struct opt *opt = table; opt->name != NULL; opt++) {
		if (opt->section != NULL) {
			fputs(".SS ", out);
			man_text(out, opt->section);
			fputc('\n', out);
		}
		man_opt(opt, out);
	}
}
