/*
 * Keys, region and endpoint of S3, from where the tools of Amazon keep them.
 * Any thread. No line of a file is ever shown: it may be a secret.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "s3_credentials.h"

#define DEFAULT_REGION "us-east-1"
#define VALUE_MAX 16384 /* bytes; tokens of sessions have a few thousand */

#define HINT_WAYS                                                              \
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write a profile "     \
    "into "                                                                    \
    "~/.aws/credentials, or name such a file with --credentials."
#define HINT_NAME                                                              \
    "Check the name (--profile, AWS_PROFILE). haul reads keys only: 'aws "     \
    "configure export-credentials --format env' gives some for roles and "     \
    "single sign-on."
#define HINT_OTHER_WAYS                                                        \
    "haul reads keys only, no roles, credential_process or single sign-on: "   \
    "'aws configure export-credentials --format env' gives keys for those."

void hl_s3_config_fini(struct hl_s3_config *c)
{
    hl_free_secret(c->id);
    hl_free_secret(c->secret);
    hl_free_secret(c->token);
    hl_free(c->region);
    hl_free(c->endpoint);
    hl_free(c->from);
    memset(c, 0, sizeof(*c));
}

/* ---- Files -------------------------------------------------------------- */

struct file {
    char *data; /* NULL: there is none */
    size_t len;
};

static void file_fini(struct file *f)
{
    if (f->data)
        explicit_bzero(f->data, f->len);
    hl_free(f->data);
    f->data = NULL;
}

static int read_all(int fd, const char *path, struct file *out,
                    struct hl_error *err)
{
    size_t room = HL_S3_FILE_MAX + 1;
    ssize_t n = 1;

    out->data = hl_malloc(room);
    if (!out->data)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    while (n && out->len < room) {
        n = read(fd, out->data + out->len, room - out->len);
        if (n < 0 && errno != EINTR)
            return hl_err(err, HAUL_E_READ, errno, "cannot read '%s'", path);
        out->len += n > 0 ? (size_t)n : 0;
    }
    if (out->len == room || memchr(out->data, '\0', out->len))
        return hl_err(err, HAUL_E_AUTH, 0, "'%s' is no file of profiles", path);
    return 0;
}

/* One that does not exist is none. */
static int file_init(struct file *out, const char *path, struct hl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), rc;

    memset(out, 0, sizeof(*out));
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (fd < 0)
        return hl_err(err, HAUL_E_READ, errno, "cannot read '%s'", path);
    rc = read_all(fd, path, out, err);
    close(fd);
    if (rc)
        file_fini(out);
    return rc;
}

/* ---- Profiles ----------------------------------------------------------- */

struct span {
    const char *p;
    size_t len;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct span trim(struct span s)
{
    while (s.len && is_space(s.p[0])) {
        s.p++;
        s.len--;
    }
    while (s.len && is_space(s.p[s.len - 1]))
        s.len--;
    return s;
}

static bool equals(struct span s, const char *word)
{
    return s.len == strlen(word) && memcmp(s.p, word, s.len) == 0;
}

/* What a profile says; the file's text, NULL what it does not. */
struct profile {
    bool found;
    struct span id, secret, token, region, endpoint;
};

static void set_property(struct profile *p, struct span name, struct span value)
{
    const struct {
        const char *name;
        struct span *slot;
    } properties[] = {{"aws_access_key_id", &p->id},
                      {"aws_secret_access_key", &p->secret},
                      {"aws_session_token", &p->token},
                      {"region", &p->region},
                      {"endpoint_url", &p->endpoint}};
    size_t i;

    for (i = 0; i < HL_LEN(properties); i++)
        if (equals(name, properties[i].name))
            *properties[i].slot = value;
}

/* Is "[NAME]" the profile's? config: "[profile NAME]", but for the default. */
static bool is_profile(struct span section, const char *name, bool config)
{
    static const char word[] = "profile";
    size_t len = sizeof(word) - 1;

    if (config && section.len > len && !memcmp(section.p, word, len) &&
        is_space(section.p[len])) {
        section.p += len;
        section.len -= len;
        section = trim(section);
        if (section.len > 1 && strchr("\"'", section.p[0]) &&
            section.p[section.len - 1] == section.p[0]) {
            section.p++;
            section.len -= 2;
        }
    } else if (config && strcmp(name, "default") != 0) {
        return false;
    }
    return equals(section, name);
}

/* Without a comment at the end, which has a blank before it. */
static struct span strip_comment(struct span s)
{
    size_t i;

    for (i = 1; i < s.len; i++)
        if ((s.p[i] == '#' || s.p[i] == ';') && is_space(s.p[i - 1]))
            s.len = i;
    return trim(s);
}

struct reader {
    struct profile *out;
    const char *name; /* of the profile */
    bool config;
    bool inside; /* the profile */
    bool nested; /* the last property had no value: indented lines are its
                  * own properties, which say nothing here */
};

/* false when it cannot be understood. */
static bool read_line(struct reader *r, struct span line)
{
    bool indented = line.len && is_space(line.p[0]);
    const char *equal;
    struct span name, value;

    line = trim(line);
    if (!line.len || line.p[0] == '#' || line.p[0] == ';')
        return true;
    if (line.p[0] == '[') {
        line = strip_comment(line);
        if (line.p[line.len - 1] != ']')
            return false;
        r->inside = is_profile(trim((struct span){line.p + 1, line.len - 2}),
                               r->name, r->config);
        r->nested = false;
        r->out->found |= r->inside;
        return true;
    }
    equal = memchr(line.p, '=', line.len);
    if (!equal)
        return indented; /* the value of the line before goes on */
    if (indented && r->nested)
        return true;
    name = trim((struct span){line.p, (size_t)(equal - line.p)});
    value.p = equal + 1;
    value.len = line.len - (size_t)(value.p - line.p);
    value = strip_comment(trim(value));
    r->nested = !value.len;
    if (r->inside)
        set_property(r->out, name, value);
    return name.len;
}

static int read_profile(const struct file *f, const char *path,
                        const char *name, bool config, struct profile *out,
                        struct hl_error *err)
{
    static const char mark[] = "\xef\xbb\xbf"; /* of the byte order */
    struct reader r = {.out = out, .name = name, .config = config};
    struct span rest = {f->data, f->len}, line;
    unsigned number = 0;

    memset(out, 0, sizeof(*out));
    if (rest.len >= 3 && memcmp(rest.p, mark, 3) == 0)
        rest = (struct span){rest.p + 3, rest.len - 3};
    while (rest.len) {
        const char *end = memchr(rest.p, '\n', rest.len);

        line = (struct span){rest.p, end ? (size_t)(end - rest.p) : rest.len};
        rest.p += line.len + !!end;
        rest.len -= line.len + !!end;
        number++;
        if (read_line(&r, line))
            continue;
        hl_err(err, HAUL_E_AUTH, 0, "line %u of '%s' cannot be understood",
               number, path);
        return hl_err_hint(err, "It has to be '[PROFILE]', 'NAME = VALUE' or a "
                                "comment after '#'.");
    }
    return 0;
}

/* ---- Values ------------------------------------------------------------- */

struct loader {
    const struct hl_s3_asked *asked;
    hl_s3_getenv_fn *get_env;
    void *user;
    struct hl_s3_config *out;
    struct hl_error *err;
    char *profile;
    bool profile_named;
};

static char *copy(struct span s)
{
    char *text = hl_malloc(s.len + 1);

    if (text)
        memcpy(text, s.p, s.len);
    return text;
}

/* Can it be sent in a header? A secret is not, and has fewer rules. */
static bool is_usable(struct span s, bool secret)
{
    size_t i;

    for (i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < 0x20 || c == 0x7f)
            return false;
        if (!secret && (strchr(" ,\"", c) || c > 0x7f))
            return false;
    }
    return s.len <= VALUE_MAX;
}

/* A key, under its name in the file or the environment, which is all that is
 * shown of it. What is empty leaves the slot as it is. */
static int take(struct loader *l, char **slot, struct span value,
                const char *name)
{
    if (!value.len)
        return 0;
    if (!is_usable(value, slot == &l->out->secret)) {
        hl_err(l->err, HAUL_E_AUTH, 0, "the value of %s cannot be one", name);
        return hl_err_hint(l->err, "It has to be one word of printable ASCII, "
                                   "without quotes around it.");
    }
    *slot = copy(value);
    return *slot ? 0 : hl_err(l->err, HAUL_E_NOMEM, 0, "out of memory");
}

static struct span span_of(const char *text)
{
    return (struct span){text, text ? strlen(text) : 0};
}

/* NULL: not set, or empty. */
static const char *variable(const struct loader *l, const char *name)
{
    const char *value = l->get_env(l->user, name);

    return value && *value ? value : NULL;
}

static const char *option(const char *value)
{
    return value && *value ? value : NULL;
}

static int no_memory(struct loader *l)
{
    return hl_err(l->err, HAUL_E_NOMEM, 0, "out of memory");
}

static int take_variable(struct loader *l, char **slot, const char *name)
{
    return take(l, slot, span_of(variable(l, name)), name);
}

/* The file that a variable names, or NAME in ~/.aws; out NULL without a home.
 */
static int find_file(struct loader *l, const char *from, const char *name,
                     char **out)
{
    const char *path = variable(l, from), *home = variable(l, "HOME");

    *out = NULL;
    if (!path && !home)
        return 0;
    *out = path ? hl_strdup(path) : hl_asprintf("%s/.aws/%s", home, name);
    return *out ? 0 : no_memory(l);
}

/* ---- Keys --------------------------------------------------------------- */

/* Half a pair is an error: whoever has it believes in both. */
static int check_pair(struct loader *l, const char *id, const char *secret,
                      const char *where)
{
    const struct hl_s3_config *c = l->out;

    if (!c->id == !c->secret)
        return 0;
    hl_err(l->err, HAUL_E_AUTH, 0, "%s has %s and not %s", where,
           c->id ? id : secret, c->id ? secret : id);
    return hl_err_hint(l->err, "Give both, or neither.");
}

static int keys_from_environment(struct loader *l)
{
    struct hl_s3_config *c = l->out;
    int rc = take_variable(l, &c->id, "AWS_ACCESS_KEY_ID");

    rc = rc ? rc : take_variable(l, &c->secret, "AWS_SECRET_ACCESS_KEY");
    rc = rc ? rc
            : check_pair(l, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
                         "the environment");
    if (rc || !c->id)
        return rc;
    c->from = hl_strdup("the environment");
    if (!c->from)
        return no_memory(l);
    return take_variable(l, &c->token, "AWS_SESSION_TOKEN");
}

static int keys_of_profile(struct loader *l, const struct profile *p,
                           const char *path)
{
    struct hl_s3_config *c = l->out;
    int rc = take(l, &c->id, p->id, "aws_access_key_id");

    rc = rc ? rc : take(l, &c->secret, p->secret, "aws_secret_access_key");
    rc = rc ? rc : take(l, &c->token, p->token, "aws_session_token");
    rc = rc ? rc
            : check_pair(l, "aws_access_key_id", "aws_secret_access_key",
                         "the profile");
    if (rc) {
        hl_err_detail(l->err, "profile '%s' in '%s'", l->profile, path);
        return rc;
    }
    if (!c->id)
        return 0;
    c->from = hl_asprintf("profile '%s' in '%s'", l->profile, path);
    return c->from ? 0 : no_memory(l);
}

/* required: the file was named by option. */
static int keys_from_file(struct loader *l, const char *path, bool required)
{
    struct profile p = {0};
    struct file f;
    int rc = file_init(&f, path, l->err);

    if (rc)
        return rc;
    if (!f.data && required)
        return hl_err(l->err, HAUL_E_READ, ENOENT, "cannot read '%s'", path);
    if (f.data)
        rc = read_profile(&f, path, l->profile, false, &p, l->err);
    rc = rc ? rc : keys_of_profile(l, &p, path);
    file_fini(&f);
    if (rc || l->out->id || !(required || l->profile_named))
        return rc;
    if (p.found)
        hl_err(l->err, HAUL_E_AUTH, 0, "profile '%s' in '%s' has no keys",
               l->profile, path);
    else
        hl_err(l->err, HAUL_E_AUTH, 0, "there is no profile '%s' in '%s'",
               l->profile, path);
    return hl_err_hint(l->err, "%s", p.found ? HINT_OTHER_WAYS : HINT_NAME);
}

static int load_keys(struct loader *l)
{
    const char *named = option(l->asked->credentials);
    char *path = NULL;
    int rc = 0;

    if (named)
        return keys_from_file(l, named, true);
    /* Who names a profile means it, whatever the shell has set. */
    if (!option(l->asked->profile))
        rc = keys_from_environment(l);
    if (rc || l->out->id)
        return rc;
    rc = find_file(l, "AWS_SHARED_CREDENTIALS_FILE", "credentials", &path);
    if (!rc && path)
        rc = keys_from_file(l, path, false);
    hl_free(path);
    if (rc || l->out->id)
        return rc;
    hl_err(l->err, HAUL_E_AUTH, 0, "there are no S3 keys");
    return hl_err_hint(l->err, HINT_WAYS);
}

/* ---- Region and endpoint ------------------------------------------------ */

/* Letters, digits, '-' and '_': it is part of host names and signatures. */
static int check_region(struct loader *l)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    const char *region = l->out->region;

    if (strlen(region) <= 63 && !region[strspn(region, good)])
        return 0;
    hl_err(l->err, HAUL_E_INVAL, 0, "'%s' is no region", region);
    return hl_err_hint(l->err, "A region is a word like eu-central-1; other "
                               "servers than Amazon's say theirs, often "
                               "us-east-1 or auto.");
}

/* Nobody asked for the one in ~/.aws: whoever runs as another user may not be
 * able to read it. */
static int open_config(struct loader *l, const char *path, struct file *out)
{
    struct hl_error e = {0};
    int rc = file_init(out, path, &e);

    if (rc == HAUL_E_READ && !variable(l, "AWS_CONFIG_FILE"))
        return 0;
    if (rc && l->err && !l->err->code)
        *l->err = e;
    return rc;
}

/* What the profile in the file of settings says, where nobody said more. */
static int load_settings(struct loader *l)
{
    struct hl_s3_config *c = l->out;
    struct profile p = {0};
    struct file f = {0};
    char *path;
    int rc = find_file(l, "AWS_CONFIG_FILE", "config", &path);

    if (!rc && path)
        rc = open_config(l, path, &f);
    if (!rc && f.data)
        rc = read_profile(&f, path, l->profile, true, &p, l->err);
    if (!rc && !c->region && p.region.len && !(c->region = copy(p.region)))
        rc = no_memory(l);
    if (!rc && !c->endpoint && p.endpoint.len &&
        !(c->endpoint = copy(p.endpoint)))
        rc = no_memory(l);
    file_fini(&f);
    hl_free(path);
    return rc;
}

static int load_place(struct loader *l)
{
    const char *region = option(l->asked->region);
    const char *endpoint = option(l->asked->endpoint);
    struct hl_s3_config *c = l->out;
    int rc = 0;

    region = region ? region : variable(l, "AWS_REGION");
    region = region ? region : variable(l, "AWS_DEFAULT_REGION");
    if (region && !(c->region = hl_strdup(region)))
        return no_memory(l);
    endpoint = endpoint ? endpoint : variable(l, "AWS_ENDPOINT_URL_S3");
    endpoint = endpoint ? endpoint : variable(l, "AWS_ENDPOINT_URL");
    if (endpoint && !(c->endpoint = hl_strdup(endpoint)))
        return no_memory(l);
    if (!c->region || !c->endpoint)
        rc = load_settings(l);
    c->region_known = c->region != NULL;
    if (!rc && !c->region && !(c->region = hl_strdup(DEFAULT_REGION)))
        return no_memory(l);
    return rc ? rc : check_region(l);
}

/* ---- All ---------------------------------------------------------------- */

static const char *real_getenv(void *user, const char *name)
{
    (void)user;
    return getenv(name);
}

int hl_s3_config_load(const struct hl_s3_asked *asked, hl_s3_getenv_fn *get_env,
                      void *user, struct hl_s3_config *out,
                      struct hl_error *err)
{
    struct loader l = {.asked = asked,
                       .get_env = get_env ? get_env : real_getenv,
                       .user = user,
                       .out = out,
                       .err = err};
    const char *profile = option(asked->profile);
    int rc;

    memset(out, 0, sizeof(*out));
    profile = profile ? profile : variable(&l, "AWS_PROFILE");
    l.profile_named = profile != NULL;
    l.profile = hl_strdup(profile ? profile : "default");
    rc = l.profile ? load_keys(&l) : no_memory(&l);
    rc = rc ? rc : load_place(&l);
    if (rc)
        hl_s3_config_fini(out);
    hl_free(l.profile);
    return rc;
}
