/*
 * What ssh_config(5) says about a host, as the user's own OpenSSH reads it
 * ("ssh -G", docs/decisions/0001-ssh-config-by-ssh-G.md). libssh's reader is
 * the fallback on machines without the ssh command. Called on the thread that
 * connects.
 */
#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ssh_private.h"

/* The cipher lists that "ssh -G" prints when nobody changed them: OpenSSH
 * 6.7 to 9.9 and later. */
static const char *const default_ciphers[] = {
    "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,"
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com,"
    "aes256-gcm@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr",
};

static void list_fini(struct hl_ssh_list *l)
{
    while (l->count)
        hl_free(l->item[--l->count]);
}

/* Takes item; the list ends quietly at its limit, as no user has so many. */
static int list_take(struct hl_ssh_list *l, char *item, struct hl_error *err)
{
    if (!item)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    if (l->count == HL_SSH_LIST_MAX)
        hl_free(item);
    else
        l->item[l->count++] = item;
    return 0;
}

void hl_ssh_config_fini(struct hl_ssh_config *c)
{
    hl_free(c->name);
    hl_free(c->host);
    hl_free(c->user);
    hl_free(c->alias);
    hl_free(c->ciphers);
    hl_free(c->proxy_jump);
    hl_free(c->proxy_command);
    hl_free(c->agent);
    hl_free(c->file);
    list_fini(&c->identities);
    list_fini(&c->certificates);
    list_fini(&c->known_user);
    list_fini(&c->known_global);
    memset(c, 0, sizeof(*c));
}

static int set_string(char **slot, const char *value, struct hl_error *err)
{
    char *copy = hl_strdup(value);

    if (!copy)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    hl_free(*slot);
    *slot = copy;
    return 0;
}

/* ---- Tokens ------------------------------------------------------------- */

struct text {
    char *data;
    size_t len, cap;
    bool failed;
};

static void text_add(struct text *t, const char *s, size_t n)
{
    size_t cap;
    char *data;

    if (t->failed)
        return;
    if (t->len + n + 1 > t->cap) {
        cap = (t->len + n + 1) * 2;
        data = hl_realloc(t->data, cap);
        if (!data) {
            t->failed = true;
            return;
        }
        t->data = data;
        t->cap = cap;
    }
    memcpy(t->data + t->len, s, n);
    t->len += n;
    t->data[t->len] = '\0';
}

/* Of the account that runs this; "" when it has no entry. */
static const char *account(bool home, char *buf, size_t cap)
{
    struct passwd pw, *found = NULL;
    char room[2048];

    if (getpwuid_r(getuid(), &pw, room, sizeof(room), &found) || !found)
        return "";
    snprintf(buf, cap, "%s", home ? pw.pw_dir : pw.pw_name);
    return buf;
}

/* The account's, as for ssh itself, whatever $HOME says. */
static const char *home_folder(char *buf, size_t cap)
{
    const char *home = account(true, buf, cap);

    if (!*home)
        home = getenv("HOME");
    return home ? home : "";
}

/* Value of token %c, or NULL; buf is for those that are made. */
static const char *token(const struct hl_ssh_config *c, char name, char *buf,
                         size_t cap)
{
    switch (name) {
    case '%':
        return "%";
    case 'h':
        return c->host;
    case 'n':
        return c->name;
    case 'k':
        return c->alias ? c->alias : c->host;
    case 'r':
        return c->user;
    case 'p':
        snprintf(buf, cap, "%u", c->port);
        return buf;
    case 'd':
        return home_folder(buf, cap);
    case 'u':
        return account(false, buf, cap);
    case 'i':
        snprintf(buf, cap, "%lu", (unsigned long)getuid());
        return buf;
    case 'l':
    case 'L':
        if (gethostname(buf, cap))
            return NULL;
        buf[cap - 1] = '\0';
        if (name == 'L')
            buf[strcspn(buf, ".")] = '\0';
        return buf;
    default:
        return NULL;
    }
}

/* "${NAME}" at s: adds the value; returns its length, 0 when it is none. */
static size_t add_variable(struct text *t, const char *s)
{
    const char *end, *value;
    char name[128];
    size_t n;

    if (s[0] != '$' || s[1] != '{')
        return 0;
    end = strchr(s, '}');
    if (!end)
        return 0;
    n = (size_t)(end - s) - 2;
    if (n >= sizeof(name))
        return 0;
    memcpy(name, s + 2, n);
    name[n] = '\0';
    value = getenv(name);
    if (!value)
        return 0;
    text_add(t, value, strlen(value));
    return n + 3;
}

int hl_ssh_config_expand(const struct hl_ssh_config *c, const char *text,
                         bool file, char **out, struct hl_error *err)
{
    struct text t = {0};
    const char *value, *s = text;
    char buf[256];
    size_t n;

    text_add(&t, "", 0);
    if (file && s[0] == '~' && (s[1] == '/' || !s[1])) {
        value = home_folder(buf, sizeof(buf));
        text_add(&t, value, strlen(value));
        s++;
    }
    while (*s) {
        n = file ? add_variable(&t, s) : 0;
        if (n) {
            s += n;
            continue;
        }
        if (*s != '%') {
            text_add(&t, s++, 1);
            continue;
        }
        value = token(c, s[1], buf, sizeof(buf));
        if (!value) {
            hl_free(t.data);
            hl_err(err, HAUL_E_INVAL, 0,
                   "unknown token '%%%.1s' in '%s' of the ssh configuration",
                   s + 1, text);
            return hl_err_hint(err, "Tokens known here: %%%% %%d %%h %%i %%k "
                                    "%%L %%l %%n %%p %%r %%u.");
        }
        text_add(&t, value, strlen(value));
        s += 2;
    }
    if (t.failed) {
        hl_free(t.data);
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    *out = t.data;
    return 0;
}

/* The same characters that OpenSSH refuses in names that go to a shell
 * (ssh.c, valid_hostname() since 9.6). */
bool hl_ssh_config_shell_safe(const char *value)
{
    if (*value == '-')
        return false;
    for (; *value; value++)
        if (strchr("'`\"$\\;&<>|(){}*?!#~", *value) ||
            isspace((unsigned char)*value) || iscntrl((unsigned char)*value))
            return false;
    return true;
}

/* ---- "ssh -G" ----------------------------------------------------------- */

/* Names separated by blanks; ssh -G does not quote, so a name with blanks is
 * recognised by being there. */
static int add_files(struct hl_ssh_list *l, const char *value,
                     struct hl_error *err)
{
    size_t n;
    int rc;

    if (strchr(value, ' ') && !access(value, F_OK))
        return list_take(l, hl_strdup(value), err);
    while (*value) {
        n = strcspn(value, " ");
        if (n) {
            rc = list_take(l, hl_asprintf("%.*s", (int)n, value), err);
            if (rc)
                return rc;
        }
        value += n + (value[n] == ' ');
    }
    return 0;
}

static int set_port(struct hl_ssh_config *c, const char *value,
                    struct hl_error *err)
{
    char *end;
    long n = strtol(value, &end, 10);

    if (end == value || *end || n < 1 || n > 65535)
        return hl_err(err, HAUL_E_INVAL, 0, "bad port '%s' in ssh config",
                      value);
    c->port = (uint16_t)n;
    return 0;
}

static bool is(const char *a, const char *b)
{
    return !strcmp(a, b);
}

static int set_ciphers(struct hl_ssh_config *c, const char *value,
                       struct hl_error *err)
{
    size_t i;

    for (i = 0; i < HL_LEN(default_ciphers); i++)
        if (is(value, default_ciphers[i]))
            return 0;
    return set_string(&c->ciphers, value, err);
}

/* IdentityAgent: "none", "SSH_AUTH_SOCK", "$NAME", or a socket. */
static int set_agent(struct hl_ssh_config *c, const char *value,
                     struct hl_error *err)
{
    if (is(value, "none")) {
        hl_free(c->agent);
        c->agent = NULL;
        return 0;
    }
    if (is(value, "SSH_AUTH_SOCK"))
        value = getenv("SSH_AUTH_SOCK");
    else if (value[0] == '$' && value[1] != '{')
        value = getenv(value + 1);
    if (value && *value)
        return set_string(&c->agent, value, err);
    hl_free(c->agent);
    c->agent = NULL;
    return 0;
}

static void set_word(struct hl_ssh_config *c, const char *key,
                     const char *value)
{
    char *end;
    long n;

    if (is(key, "identitiesonly")) {
        c->identities_only = is(value, "yes");
    } else if (is(key, "hashknownhosts")) {
        c->hash_names = is(value, "yes");
    } else if (is(key, "stricthostkeychecking")) {
        c->accept_new = is(value, "accept-new") || is(value, "no") ||
                        is(value, "off") || is(value, "false");
    } else if (is(key, "addressfamily")) {
        c->family = is(value, "inet")    ? AF_INET
                    : is(value, "inet6") ? AF_INET6
                                         : AF_UNSPEC;
    } else if (is(key, "connecttimeout")) {
        n = strtol(value, &end, 10);
        if (end != value && n > 0 && n < 86400)
            c->connect_timeout_s = (uint32_t)n;
    }
}

static int set_value(struct hl_ssh_config *c, const char *key,
                     const char *value, struct hl_error *err)
{
    bool none = is(value, "none");

    if (is(key, "hostname"))
        return set_string(&c->host, value, err);
    if (is(key, "user"))
        return set_string(&c->user, value, err);
    if (is(key, "port"))
        return set_port(c, value, err);
    if (is(key, "ciphers"))
        return set_ciphers(c, value, err);
    if (is(key, "identityagent"))
        return set_agent(c, value, err);
    if (is(key, "identityfile"))
        return none ? 0 : list_take(&c->identities, hl_strdup(value), err);
    if (is(key, "certificatefile"))
        return none ? 0 : list_take(&c->certificates, hl_strdup(value), err);
    if (is(key, "hostkeyalias"))
        return none ? 0 : set_string(&c->alias, value, err);
    if (is(key, "proxyjump"))
        return none ? 0 : set_string(&c->proxy_jump, value, err);
    if (is(key, "proxycommand"))
        return none ? 0 : set_string(&c->proxy_command, value, err);
    if (is(key, "userknownhostsfile"))
        return none ? 0 : add_files(&c->known_user, value, err);
    if (is(key, "globalknownhostsfile"))
        return none ? 0 : add_files(&c->known_global, value, err);
    set_word(c, key, value);
    return 0;
}

int hl_ssh_config_parse(struct hl_ssh_config *c, const char *text,
                        struct hl_error *err)
{
    char *copy = hl_strdup(text), *line, *next, *value;
    int rc = 0;

    if (!copy)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    for (line = copy; line && !rc; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        line[strcspn(line, "\r")] = '\0';
        value = strchr(line, ' ');
        if (!value)
            continue;
        *value++ = '\0';
        rc = set_value(c, line, value, err);
    }
    hl_free(copy);
    if (!rc && (!c->host || !c->user || !c->port))
        rc = hl_err(err, HAUL_E_INVAL, 0,
                    "'ssh -G' names no hostname, user or port");
    return rc;
}

/* ---- Resolving ---------------------------------------------------------- */

/* 1: done, 0: there is no usable ssh command. */
static int ask_openssh(struct hl_ssh_config *c, const struct hl_url *url,
                       const struct hl_ssh_limit *limit, struct hl_error *err)
{
    char port[8], errtext[256] = "";
    char *argv[12], *out = NULL;
    char ssh[] = "ssh", g[] = "-G", f[] = "-F", p[] = "-p", l[] = "-l";
    char end[] = "--";
    size_t n = 0;
    int rc, status;

    argv[n++] = ssh;
    argv[n++] = g;
    if (c->file) {
        argv[n++] = f;
        argv[n++] = c->file;
    }
    if (url->port) {
        snprintf(port, sizeof(port), "%u", url->port);
        argv[n++] = p;
        argv[n++] = port;
    }
    if (url->user) {
        argv[n++] = l;
        argv[n++] = url->user;
    }
    argv[n++] = end;
    argv[n++] = c->name;
    argv[n] = NULL;
    HL_ASSERT(n < HL_LEN(argv));
    rc = hl_ssh_child_capture(argv, limit, &out, errtext, sizeof(errtext),
                              &status, err);
    if (rc)
        return rc;
    if (!out)
        return 0;
    if (status == 0 && strstr(out, "hostname ")) {
        rc = hl_ssh_config_parse(c, out, err);
        hl_free(out);
        return rc ? rc : 1;
    }
    hl_free(out);
    /* An ssh without -G (dropbear's, OpenSSH before 6.8) prints its usage. */
    if (strstr(errtext, "unknown option") || strstr(errtext, "usage") ||
        strstr(errtext, "Unknown option") || !errtext[0])
        return 0;
    hl_err(err, HAUL_E_INVAL, 0, "ssh configuration for '%s': %s", c->name,
           errtext);
    return hl_err_hint(err,
                       "'ssh -G %s' shows the same; correct the file, or "
                       "leave it out with --ssh-config none.",
                       c->name);
}

/* What libssh's reader passes over without a word. */
static void warn_unread(const struct hl_env *env, const char *file)
{
    static const char *const words[] = {"identitiesonly", "certificatefile",
                                        "hostkeyalias",   "identityagent",
                                        "canonical",      "proxyjump"};
    struct hl_error warning = {0};
    char line[1024], *s;
    size_t i;
    FILE *in = fopen(file, "re");

    if (!in)
        return;
    while (fgets(line, sizeof(line), in)) {
        s = line + strspn(line, " \t");
        for (i = 0; i < HL_LEN(words); i++)
            if (!strncasecmp(s, words[i], strlen(words[i])))
                break;
        if (i == HL_LEN(words) || !env->warn)
            continue;
        s[strcspn(s, " \t=\r\n")] = '\0';
        hl_err(&warning, HAUL_E_NOTSUP, 0, "'%s' in '%s' is not obeyed", s,
               file);
        hl_err_hint(&warning, "Install the OpenSSH client: haul reads the "
                              "configuration with 'ssh -G'.");
        env->warn(env, &warning);
        break;
    }
    fclose(in);
}

static int take_option(ssh_session session, enum ssh_options_e opt, char **slot,
                       struct hl_error *err)
{
    char *value = NULL;
    int rc = 0;

    if (ssh_options_get(session, opt, &value) == SSH_OK && value)
        rc = set_string(slot, value, err);
    ssh_string_free_char(value);
    return rc;
}

/* Defaults, for when there is no file or no ssh command. */
static int fill_defaults(struct hl_ssh_config *c, struct hl_error *err)
{
    static const char *const keys[] = {"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa",
                                       "~/.ssh/id_rsa"};
    char buf[256];
    size_t i;
    int rc = 0;

    if (!c->host)
        rc = set_string(&c->host, c->name, err);
    if (!rc && !c->user)
        rc = set_string(&c->user, account(false, buf, sizeof(buf)), err);
    if (!c->port)
        c->port = 22;
    for (i = 0; !rc && i < HL_LEN(keys) && c->identities.count < 4; i++)
        rc = list_take(&c->identities, hl_strdup(keys[i]), err);
    if (!rc && !c->known_user.count)
        rc = list_take(&c->known_user, hl_strdup("~/.ssh/known_hosts"), err);
    if (!rc && !c->known_global.count)
        rc = list_take(&c->known_global, hl_strdup("/etc/ssh/ssh_known_hosts"),
                       err);
    return rc;
}

static int ask_libssh(const struct hl_env *env, struct hl_ssh_config *c,
                      struct hl_error *err)
{
    ssh_session session = ssh_new();
    char *user_file = NULL, *identity = NULL;
    unsigned port = 0;
    int rc;

    if (!session)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    rc = hl_ssh_config_expand(c, "~/.ssh/config", true, &user_file, err);
    if (!rc && ssh_options_set(session, SSH_OPTIONS_HOST, c->name) < 0)
        rc = hl_err(err, HAUL_E_INVAL, 0, "bad host name '%s'", c->name);
    if (!rc && !(c->file && is(c->file, "none"))) {
        if (ssh_options_parse_config(session, c->file))
            rc = hl_err(err, HAUL_E_INVAL, 0, "ssh configuration: %s",
                        ssh_get_error(session));
        warn_unread(env, c->file ? c->file : user_file);
    }
    if (!rc)
        rc = take_option(session, SSH_OPTIONS_HOST, &c->host, err);
    if (!rc)
        rc = take_option(session, SSH_OPTIONS_USER, &c->user, err);
    if (!rc)
        rc = take_option(session, SSH_OPTIONS_PROXYCOMMAND, &c->proxy_command,
                         err);
    if (!rc)
        rc = take_option(session, SSH_OPTIONS_IDENTITY, &identity, err);
    if (!rc && identity && !strstr(identity, "%d/id_")) {
        rc = list_take(&c->identities, identity, err);
        identity = NULL;
    }
    if (!rc && ssh_options_get_port(session, &port) == SSH_OK)
        c->port = (uint16_t)port;
    hl_free(identity);
    hl_free(user_file);
    ssh_free(session);
    return rc ? rc : fill_defaults(c, err);
}

/* Files are used as they are, so their tokens go now; one whose tokens cannot
 * be known is left out. */
static int expand_list(const struct hl_env *env, const struct hl_ssh_config *c,
                       struct hl_ssh_list *l, struct hl_error *err)
{
    struct hl_error why = {0};
    size_t i, kept = 0;
    char *out;
    int rc;

    for (i = 0; i < l->count; i++) {
        hl_err_clear(&why);
        rc = hl_ssh_config_expand(c, l->item[i], true, &out, &why);
        if (rc == HAUL_E_NOMEM)
            return hl_err(err, rc, 0, "out of memory");
        hl_free(l->item[i]);
        l->item[i] = NULL;
        if (!rc)
            l->item[kept++] = out;
        else if (env->warn)
            env->warn(env, &why);
    }
    l->count = kept;
    return 0;
}

/* URL and options over the configuration. */
static int apply_options(const struct hl_env *env, const struct hl_url *url,
                         struct hl_ssh_config *c, struct hl_error *err)
{
    const char *identity = hl_opts_str(env->opts, HAUL_OPT_IDENTITY);
    const char *known = hl_opts_str(env->opts, HAUL_OPT_KNOWN_HOSTS);
    const char *host_key = hl_opts_str(env->opts, HAUL_OPT_HOST_KEY);
    char *agent = NULL;
    int rc = 0;

    if (url->port)
        c->port = url->port;
    if (url->user)
        rc = set_string(&c->user, url->user, err);
    if (!rc && identity) {
        list_fini(&c->identities);
        c->identities_explicit = c->identities_only = true;
        rc = list_take(&c->identities, hl_strdup(identity), err);
    }
    if (!rc && known) {
        list_fini(&c->known_user);
        rc = list_take(&c->known_user, hl_strdup(known), err);
    }
    if (host_key && hl_opts_is_set(env->opts, HAUL_OPT_HOST_KEY))
        c->accept_new = is(host_key, "accept-new");
    if (!rc && !identity)
        rc = expand_list(env, c, &c->identities, err);
    if (!rc && !known)
        rc = expand_list(env, c, &c->known_user, err);
    if (!rc)
        rc = expand_list(env, c, &c->known_global, err);
    if (!rc)
        rc = expand_list(env, c, &c->certificates, err);
    if (!rc && c->agent) {
        rc = hl_ssh_config_expand(c, c->agent, true, &agent, err);
        hl_free(c->agent);
        c->agent = agent;
    }
    return rc;
}

int hl_ssh_config_resolve(const struct hl_env *env, const struct hl_url *url,
                          const struct hl_ssh_limit *limit,
                          struct hl_ssh_config *out, struct hl_error *err)
{
    const char *file = hl_opts_str(env->opts, HAUL_OPT_SSH_CONFIG);
    const char *agent = getenv("SSH_AUTH_SOCK");
    struct hl_ssh_config c = {0};
    uint64_t start = hl_ssh_now();
    int rc;

    HL_ASSERT(url->host);
    rc = set_string(&c.name, url->host, err);
    if (!rc && file)
        rc = set_string(&c.file, file, err);
    if (!rc && agent && *agent)
        rc = set_string(&c.agent, agent, err);
    if (!rc)
        rc = ask_openssh(&c, url, limit, err);
    if (rc == 0) {
        HL_INFO(env->log, HL_AREA_SSH,
                "no ssh command: libssh reads the configuration");
        rc = ask_libssh(env, &c, err);
    }
    if (rc >= 0)
        rc = apply_options(env, url, &c, err);
    if (rc) {
        hl_ssh_config_fini(&c);
        return rc;
    }
    HL_TRACE(env->log, HL_AREA_SSH,
             "config of '%s': %s@%s port %u, %zu keys%s, took %llu us", c.name,
             c.user, c.host, c.port, c.identities.count,
             c.proxy_jump || c.proxy_command ? ", proxy" : "",
             (unsigned long long)((hl_ssh_now() - start) / 1000));
    *out = c;
    return 0;
}
