/* --help, made from the tables of commands and options. */
#include <inttypes.h>
#include <string.h>

#include "cli.h"

#define HELP_COLUMN 29

static const char overview[] =
    "Usage: haul COMMAND [options] ...\n"
    "\n"
    "Moves very large files, several streams at once. An interrupted "
    "copy continues\n"
    "when the same command runs again, and every byte is checked.\n"
    "\n"
    "  haul copy SOURCE TARGET          copy one file or pipe\n"
    "  haul verify TARGET [MANIFEST]    read again, compare with the digests\n"
    "  haul jobs list                   transfers that are not finished\n"
    "  haul jobs show|cancel|forget ID  look at one, remove its rest, "
    "or forget it\n"
    "\n"
    "SOURCE, TARGET: PATH, - (standard input or output), user@host:path,\n"
    "  sftp://user@host:port/path, sftp://host/~/path (below the login "
    "folder),\n"
    "  s3://BUCKET/KEY (other services: --endpoint URL), "
    "https://user@host/path,\n"
    "  TARGET also tus+https://, and put+https:// or post+https:// (cannot "
    "resume)\n"
    "\n"
    "  --resume never         start anew      --rate-limit 50m   50 MB "
    "a second\n"
    "  --verify readback      read all back   --identity FILE    private key\n"
    "  --manifest FILE        keep digests    --progress json    for "
    "programs\n"
    "  --host-key accept-new  unknown host    --quiet, --verbose\n"
    "\n"
    "Exit: 0 done, 2 usage, 3 local file, 4 network (run again), 5 "
    "login, host key\n"
    "  or certificate, 6 remote refused, 7 bytes differ, 8 changed, "
    "130 interrupted\n"
    "haul COMMAND --help lists all options; haul(1) explains them.\n";

void help_all(FILE *out)
{
    fputs(overview, out);
}

static void print_default(FILE *out, const struct haul_opt_info *o)
{
    if (o->dflt_text)
        fprintf(out, " [%s]", o->dflt_text);
    else if (o->type != HAUL_OPT_FLAG && o->argument && o->dflt > 0)
        fprintf(out, " [%" PRId64 "]", o->dflt);
    else if (o->type == HAUL_OPT_LIST)
        fputs(" [may be repeated]", out);
}

static void print_option(FILE *out, const struct haul_opt_info *o)
{
    int used = fprintf(out, "  --%s%s%s", o->name, o->argument ? " " : "",
                       o->argument ? o->argument : "");

    if (used > HELP_COLUMN - 2)
        used = fprintf(out, "\n") - 1;
    fprintf(out, "%*s%s", HELP_COLUMN - used, "", o->help);
    print_default(out, o);
    fputc('\n', out);
}

static void print_group(FILE *out, const char *group)
{
    const struct haul_opt_info *o = NULL;

    fprintf(out, "\n%s:\n", group);
    while ((o = args_option_next(o)))
        if (!strcmp(o->group, group))
            print_option(out, o);
}

void help_command(FILE *out, const struct command *c)
{
    char group[32];

    fprintf(out, "Usage: haul %s [options] %s\n\n%s.\n%s", c->name, c->operands,
            c->about, c->more);
    for (const char *s = c->groups; *s; s += strspn(s, " ")) {
        size_t len = strcspn(s, " ");

        snprintf(group, sizeof(group), "%.*s", (int)len, s);
        print_group(out, group);
        s += len;
    }
}
