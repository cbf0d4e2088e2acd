/*
 * The command line. Options may stand before and behind operands; "--" ends
 * them; "--name value" and "--name=value" mean the same. The last one counts,
 * but of a list all do.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const struct haul_opt_info own[] = {
    {.name = "progress",
     .argument = "auto|bar|json|none",
     .group = "talk",
     .help = "how progress is shown",
     .dflt_text = "auto",
     .type = HAUL_OPT_WORD,
     .id = CLI_PROGRESS},
    {.name = "progress-fd",
     .argument = "N",
     .group = "talk",
     .help = "show it on this descriptor",
     .dflt = -1,
     .type = HAUL_OPT_COUNT,
     .id = CLI_PROGRESS_FD},
    {.name = "quiet",
     .group = "talk",
     .help = "errors only",
     .type = HAUL_OPT_FLAG,
     .id = CLI_QUIET},
    {.name = "verbose",
     .group = "talk",
     .help = "what was chosen and why, retries, details",
     .type = HAUL_OPT_FLAG,
     .id = CLI_VERBOSE},
    {.name = "all",
     .group = "jobs",
     .help = "list finished transfers too",
     .type = HAUL_OPT_FLAG,
     .id = CLI_ALL},
    {.name = "json",
     .group = "jobs",
     .help = "list and show: one JSON object a line",
     .type = HAUL_OPT_FLAG,
     .id = CLI_JSON},
    {.name = "help",
     .group = "help",
     .help = "this text",
     .type = HAUL_OPT_FLAG,
     .id = CLI_HELP},
    {.name = "version",
     .group = "help",
     .help = "version and drivers",
     .type = HAUL_OPT_FLAG,
     .id = CLI_VERSION},
};
#define OWN_COUNT (sizeof(own) / sizeof(own[0]))

const struct haul_opt_info *args_option_next(const struct haul_opt_info *prev)
{
    const struct haul_opt_info *next;

    for (size_t i = 0; i < OWN_COUNT; i++)
        if (prev == &own[i])
            return i + 1 < OWN_COUNT ? &own[i + 1] : NULL;
    next = haul_opt_next(prev);
    return next ? next : own;
}

static const struct haul_opt_info *find_option(const char *name, size_t len)
{
    const struct haul_opt_info *o = NULL;

    while ((o = args_option_next(o)))
        if (strlen(o->name) == len && !memcmp(o->name, name, len))
            return o;
    return NULL;
}

static int refuse_unknown(const char *word, size_t len)
{
    const struct haul_opt_info *o = NULL, *nearest = NULL;
    unsigned least = 4; /* more edits than this are another word */
    char name[64];

    snprintf(name, sizeof(name), "%.*s", (int)(len < 60 ? len : 60),
             word + strspn(word, "-"));
    while ((o = args_option_next(o))) {
        unsigned distance = text_distance(name, o->name);

        if (distance < least && distance < strlen(o->name)) {
            least = distance;
            nearest = o;
        }
    }
    text_say("unknown option '%.*s'", (int)(len + strspn(word, "-")), word);
    if (nearest)
        text_say("hint: Did you mean --%s?", nearest->name);
    else
        text_say("hint: haul COMMAND --help lists the options.");
    return HAUL_E_INVAL;
}

/* ---- Values of the command's own options ---- */

static int set_progress(struct args *a, const char *text)
{
    static const char *const words[] = {"auto", "bar", "json", "none"};

    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (!strcmp(text, words[i])) {
            a->progress = (enum progress_mode)i;
            return 0;
        }
    text_say("'%s' for option 'progress' is not one of auto|bar|json|none",
             text);
    return HAUL_E_INVAL;
}

static int set_progress_fd(struct args *a, const char *text)
{
    char *end;
    long fd;

    errno = 0;
    fd = strtol(text, &end, 10);
    if (errno || end == text || *end || fd < 0 || fd > 1 << 20) {
        text_say("'%s' for option 'progress-fd' is no descriptor", text);
        return HAUL_E_INVAL;
    }
    if (fcntl((int)fd, F_GETFD) < 0) {
        text_say("descriptor '%s' for option 'progress-fd' is not open", text);
        return HAUL_E_INVAL;
    }
    a->progress_fd = (int)fd;
    return 0;
}

static int set_own(struct args *a, enum cli_option id, const char *text)
{
    switch (id) {
    case CLI_PROGRESS:
        return set_progress(a, text);
    case CLI_PROGRESS_FD:
        return set_progress_fd(a, text);
    case CLI_QUIET:
        a->quiet = true;
        break;
    case CLI_VERBOSE:
        a->verbose = true;
        break;
    case CLI_ALL:
        a->all = true;
        break;
    case CLI_JSON:
        a->json = true;
        break;
    case CLI_HELP:
        a->help = true;
        break;
    case CLI_VERSION:
        a->version = true;
        break;
    }
    return 0;
}

static int set_value(struct args *a, const struct haul_opt_info *o, char *text)
{
    int i = 0;

    if (o >= own && o < own + OWN_COUNT)
        return set_own(a, (enum cli_option)o->id, text);
    if (o->type == HAUL_OPT_LIST)
        i = a->value_count;
    while (i < a->value_count && a->values[i].option != o)
        i++;
    if (i == ARGS_VALUES_MAX) {
        text_say("too many options");
        return HAUL_E_INVAL;
    }
    a->values[i].option = o;
    a->values[i].text = text;
    if (i == a->value_count)
        a->value_count++;
    return 0;
}

/* ---- Words ---- */

/* The option in argv[*i], with its value behind '=' or in the next word. */
static int take_option(struct args *a, int argc, char **argv, int *i)
{
    static char on[] = "1";
    char *word = argv[*i], *name = word + 2;
    size_t len = strcspn(name, "=");
    const struct haul_opt_info *o;

    if (!strcmp(word, "-h"))
        return set_own(a, CLI_HELP, NULL);
    o = word[1] == '-' ? find_option(name, len) : NULL;
    if (!o)
        return refuse_unknown(word, strcspn(word + strspn(word, "-"), "="));
    if (o->type == HAUL_OPT_FLAG) {
        if (!name[len])
            return set_value(a, o, on);
        text_say("option '--%s' takes no value", o->name);
        return HAUL_E_INVAL;
    }
    if (name[len])
        return set_value(a, o, name + len + 1);
    if (*i + 1 < argc)
        return set_value(a, o, argv[++*i]);
    text_say("option '--%s' needs a value: %s", o->name, o->argument);
    return HAUL_E_INVAL;
}

int args_parse(struct args *a, int argc, char **argv)
{
    bool options = true;
    int rc = 0;

    *a = (struct args){.progress_fd = -1};
    for (int i = 1; i < argc && rc == 0; i++) {
        if (options && !strcmp(argv[i], "--")) {
            options = false;
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            rc = take_option(a, argc, argv, &i);
        } else if (a->word_count == ARGS_WORDS_MAX) {
            text_say("too many operands: '%s'", argv[i]);
            rc = HAUL_E_INVAL;
        } else {
            a->words[a->word_count++] = argv[i];
        }
    }
    return rc;
}

bool args_in_groups(const struct haul_opt_info *option, const char *groups)
{
    size_t len = strlen(option->group);

    for (const char *s = groups; *s; s += strspn(s, " ")) {
        size_t word = strcspn(s, " ");

        if (word == len && !memcmp(s, option->group, len))
            return true;
        s += word;
    }
    return false;
}

int args_check_groups(const struct args *a, const char *command,
                      const char *groups)
{
    for (int i = 0; i < a->value_count; i++) {
        const struct haul_opt_info *o = a->values[i].option;

        if (args_in_groups(o, groups))
            continue;
        text_say("haul %s has no option '--%s'", command, o->name);
        text_say("hint: haul %s --help lists its options.", command);
        return HAUL_E_INVAL;
    }
    if ((a->all || a->json) &&
        !args_in_groups(find_option("json", 4), groups)) {
        text_say("haul %s has no option '--%s'", command,
                 a->all ? "all" : "json");
        text_say("hint: %s", a->all ? "It is one of haul jobs list."
                                    : "Events: --progress json.");
        return HAUL_E_INVAL;
    }
    return 0;
}
