/* haul completion bash|zsh: shell functions, made from the option table. */
#include <string.h>

#include "cli.h"

/* Words of "auto|never|append[=OFFSET]" without what is in brackets. */
static void print_words(const char *argument)
{
    bool inside = false;

    for (const char *s = argument; *s; s++) {
        inside = (inside || *s == '[') && *s != ']';
        if (!inside && *s != ']')
            putchar(*s == '|' ? ' ' : *s);
    }
}

static void print_names(const char *groups)
{
    const struct haul_opt_info *o = NULL;

    while ((o = args_option_next(o)))
        if (args_in_groups(o, groups) || !strcmp(o->group, "help"))
            printf(" --%s", o->name);
}

/* "--header @FILE". Bash hands out '@' as a word of its own, and yet takes it
 * for a part of the word that is replaced. */
static void print_bash_list(void)
{
    fputs("[[ $prev == @ || $cur == @* ]] || return\n"
          "        COMPREPLY=($(compgen -P @ -f -- \"${cur#@}\"))\n"
          "        if [[ ${#COMPREPLY[@]} = 1 && -d ${COMPREPLY#@} ]]; then\n"
          "            COMPREPLY+=/; compopt -o nospace\n"
          "        fi\n"
          "        return ;;\n",
          stdout);
}

static void print_bash_values(void)
{
    const struct haul_opt_info *o = NULL;

    while ((o = args_option_next(o))) {
        if (!o->argument)
            continue;
        printf("    --%s%s) ", o->name, o->type == HAUL_OPT_LIST ? "|@" : "");
        if (o->type == HAUL_OPT_WORD) {
            fputs("COMPREPLY=($(compgen -W '", stdout);
            print_words(o->argument);
            fputs("' -- \"$cur\")); return ;;\n", stdout);
        } else if (o->type == HAUL_OPT_FILE) {
            fputs("compopt -o default; return ;;\n", stdout);
        } else if (o->type == HAUL_OPT_LIST) {
            print_bash_list();
        } else {
            fputs("return ;;\n", stdout);
        }
    }
}

static void print_bash(void)
{
    fputs("# bash completion for haul, made by 'haul completion bash'\n"
          "_haul()\n{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]}\n"
          "    local prev=${COMP_WORDS[COMP_CWORD-1]} word command=\n"
          "    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
          "        case $word in\n        ",
          stdout);
    for (const struct command *c = cli_commands; c->name; c++)
        if (c->about)
            printf("%s%s", c == cli_commands ? "" : "|", c->name);
    fputs(") command=$word; break ;;\n        esac\n    done\n"
          "    COMPREPLY=()\n    case $prev in\n",
          stdout);
    print_bash_values();
    fputs("    esac\n    case $command,$cur in\n    ,*) COMPREPLY=($(compgen "
          "-W '",
          stdout);
    for (const struct command *c = cli_commands; c->name; c++)
        if (c->about)
            printf("%s ", c->name);
    fputs("--help --version' -- \"$cur\")) ;;\n", stdout);
    for (const struct command *c = cli_commands; c->name; c++) {
        if (!c->about)
            continue;
        printf("    %s,-*) COMPREPLY=($(compgen -W '", c->name);
        print_names(c->groups);
        fputs("' -- \"$cur\")) ;;\n", stdout);
    }
    fputs("    jobs,*) COMPREPLY=($(compgen -W 'list show cancel forget' -- "
          "\"$cur\")) ;;\n"
          "    *) compopt -o default ;;\n    esac\n}\n"
          "complete -F _haul haul\n",
          stdout);
}

/* In brackets and quotes of zsh: these have a meaning there. */
static void print_quoted(const char *s)
{
    for (; *s; s++) {
        if (*s == '\'') {
            fputs("'\\''", stdout);
            continue;
        }
        if (strchr("[]:", *s))
            putchar('\\');
        putchar(*s);
    }
}

static void print_zsh_option(const struct haul_opt_info *o)
{
    printf("        '%s--%s%s[", o->type == HAUL_OPT_LIST ? "*" : "", o->name,
           o->argument ? "=" : "");
    print_quoted(o->help);
    putchar(']');
    if (o->argument) {
        printf(":%s:", o->type == HAUL_OPT_WORD ? "word" : o->argument);
        if (o->type == HAUL_OPT_WORD) {
            putchar('(');
            print_words(o->argument);
            putchar(')');
        } else if (o->type == HAUL_OPT_FILE) {
            fputs("_files", stdout);
        } else if (o->type == HAUL_OPT_LIST) {
            fputs("{compset -P @ && _files}", stdout);
        }
    }
    fputs("'\n", stdout);
}

static void print_zsh(void)
{
    const struct haul_opt_info *o;

    fputs("#compdef haul\n# made by 'haul completion zsh'\n_haul()\n{\n"
          "    local -a opts\n    case ${words[(r)(",
          stdout);
    for (const struct command *c = cli_commands; c->name; c++)
        if (c->about)
            printf("%s%s", c == cli_commands ? "" : "|", c->name);
    fputs(")]} in\n", stdout);
    for (const struct command *c = cli_commands; c->name; c++) {
        if (!c->about)
            continue;
        printf("    %s) opts=(\n", c->name);
        o = NULL;
        while ((o = args_option_next(o)))
            if (args_in_groups(o, c->groups) || !strcmp(o->group, "help"))
                print_zsh_option(o);
        printf("        '1:command:' %s) ;;\n",
               strcmp(c->name, "jobs") ? "'*:file:_files'"
                                       : "'2:what:(list show cancel forget)'");
    }
    fputs("    *) opts=('--help[this text]' '--version[version]' '1:command:(",
          stdout);
    for (const struct command *c = cli_commands; c->name; c++)
        if (c->about)
            printf("%s ", c->name);
    fputs(")') ;;\n    esac\n    _arguments $opts\n}\n_haul \"$@\"\n", stdout);
}

int completion_run(struct args *a)
{
    if (!strcmp(a->words[1], "bash")) {
        print_bash();
        return 0;
    }
    if (!strcmp(a->words[1], "zsh")) {
        print_zsh();
        return 0;
    }
    text_say("no completion for '%s'", a->words[1]);
    text_say("hint: There are bash and zsh.");
    return haul_err_exit_status(HAUL_E_INVAL);
}
