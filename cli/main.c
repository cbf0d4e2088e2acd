/* The haul command: finds what to do and does it. */
#include <string.h>

#include "cli.h"

#define ENDPOINT "speed patience SSH HTTP talk help"

const struct command cli_commands[] = {
    {"copy", "SOURCE TARGET", "Copies SOURCE to TARGET",
     "Each is a path, - (standard input or output), user@host:path,\n"
     "sftp://user@host:port/path, s3://BUCKET/KEY or https://user@host/path.\n"
     "The same command continues an interrupted copy. A TARGET that is a\n"
     "folder, or ends in /, gets the name of SOURCE.\n"
     "\n"
     "A TARGET s3:// is uploaded in parts, several at once. A TARGET https://\n"
     "is asked first: by tus or the IETF's resumable uploads it continues\n"
     "(tus+https:// insists on tus); a server that speaks neither gets one\n"
     "PUT, as with put+https://. post+https:// is one POST. A PUT or POST is\n"
     "sent from the start each time, unconfirmed until the server answers;\n"
     "with --ranged a put+https:// continues where the server can.\n"
     "\n"
     "A SOURCE https:// or s3:// is read in ranges and continues where the\n"
     "server tells that it is unchanged. http:// is https:// without\n"
     "protection.\n",
     "transfer " ENDPOINT, 2, 2, copy_run},
    {"verify", "TARGET [MANIFEST]",
     "Reads TARGET again and compares it with a manifest",
     "MANIFEST is what copy --manifest wrote; without it, NAME.haul.json "
     "beside a\nlocal TARGET is taken.\n",
     ENDPOINT, 1, 2, verify_run},
    {"jobs", "list | show ID | cancel ID | forget ID",
     "Transfers that earlier runs left unfinished",
     "cancel removes what the transfer left at its target (a temporary file, "
     "an\nunfinished upload); forget drops its state even when the target "
     "cannot be\nreached. Give the options that reach the target, such as "
     "--endpoint.\n",
     "jobs patience SSH HTTP talk help", 1, 2, jobs_run},
    {"completion", "bash|zsh", NULL, "", "help", 1, 1, completion_run},
    {0},
};

static int usage_status(void)
{
    return haul_err_exit_status(HAUL_E_INVAL);
}

static const struct command *find_command(const char *name)
{
    for (const struct command *c = cli_commands; c->name; c++)
        if (!strcmp(c->name, name))
            return c;
    return NULL;
}

static int refuse_command(const char *name)
{
    const struct command *nearest = NULL;
    unsigned least = 3;

    for (const struct command *c = cli_commands; c->name; c++) {
        unsigned distance = text_distance(name, c->name);

        if (c->about && distance < least) {
            least = distance;
            nearest = c;
        }
    }
    text_say("unknown command '%s'", name);
    if (nearest)
        text_say("hint: Did you mean haul %s?", nearest->name);
    else
        text_say("hint: See haul --help.");
    return usage_status();
}

static int check_words(const struct args *a, const struct command *c)
{
    int count = a->word_count - 1;

    if (count >= c->words_min && count <= c->words_max)
        return 0;
    if (count > c->words_max)
        text_say("too many operands: '%s'", a->words[c->words_max + 1]);
    else
        text_say("operands are missing");
    text_say("hint: Usage: haul %s [options] %s", c->name, c->operands);
    return HAUL_E_INVAL;
}

/* What was printed must have arrived: the disk may be full. */
static int flush_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    text_say("cannot write standard output");
    return status ? status : haul_err_exit_status(HAUL_E_WRITE);
}

static int print_version(void)
{
    uint32_t v = haul_version();

    printf("haul %u.%u.%u (%s)\n", v >> 16, v >> 8 & 0xff, v & 0xff,
           haul_features());
    return flush_output(0);
}

static int run_command(struct args *a)
{
    const struct command *c = find_command(a->words[0]);

    if (!c)
        return refuse_command(a->words[0]);
    if (a->help && c->about) {
        help_command(stdout, c);
        return 0;
    }
    if (args_check_groups(a, c->name, c->groups) || check_words(a, c))
        return usage_status();
    return c->run(a);
}

int main(int argc, char **argv)
{
    struct args a;

    /* A line is one write: those of other programs stay whole. */
    setvbuf(stderr, NULL, _IOLBF, BUFSIZ);
    if (args_parse(&a, argc, argv))
        return usage_status();
    if (a.version)
        return print_version();
    if (a.word_count)
        return flush_output(run_command(&a));
    help_all(a.help ? stdout : stderr);
    return a.help ? flush_output(0) : usage_status();
}
