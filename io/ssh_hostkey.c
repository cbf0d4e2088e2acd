/*
 * Is this the host that the user means? known_hosts of sshd(8), read here and
 * not by libssh 0.10, which knows one file of each kind, no HostKeyAlias and
 * no @revoked. Called on the thread that connects.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ssh_private.h"

#define HASH_SIZE 20 /* HMAC-SHA1 */
#define HASH_TEXT 28 /* the same in base64 */
#define LINE_SIZE_MAX 65536

/* ---- Names -------------------------------------------------------------- */

static void hash_name(const uint8_t salt[HASH_SIZE], const char *name,
                      uint8_t out[HASH_SIZE])
{
    unsigned len = HASH_SIZE;

    if (!HMAC(EVP_sha1(), salt, HASH_SIZE, (const uint8_t *)name, strlen(name),
              out, &len))
        memset(out, 0, HASH_SIZE);
}

static bool decode_hash(const char *text, size_t len, uint8_t out[HASH_SIZE])
{
    uint8_t buf[HASH_TEXT];

    if (len != HASH_TEXT ||
        EVP_DecodeBlock(buf, (const uint8_t *)text, (int)len) < HASH_SIZE)
        return false;
    memcpy(out, buf, HASH_SIZE);
    return true;
}

/* "|1|SALT|HASH" */
static bool match_hashed(const char *field, const char *name)
{
    uint8_t salt[HASH_SIZE], want[HASH_SIZE], got[HASH_SIZE];
    const char *bar = strchr(field + 3, '|');

    if (!bar || !decode_hash(field + 3, (size_t)(bar - field - 3), salt) ||
        !decode_hash(bar + 1, strlen(bar + 1), want))
        return false;
    hash_name(salt, name, got);
    return !memcmp(want, got, HASH_SIZE);
}

/* '*' and '?'; names are compared without case. Linear: on a mismatch only
 * the last '*' is widened. */
static bool match_pattern(const char *p, size_t len, const char *name)
{
    const char *end = p + len, *star = NULL, *from = NULL;

    while (*name) {
        if (p < end && *p == '*') {
            star = ++p;
            from = name;
        } else if (p < end &&
                   (*p == '?' || tolower((unsigned char)*p) ==
                                     tolower((unsigned char)*name))) {
            p++;
            name++;
        } else if (star) {
            p = star;
            name = ++from;
        } else {
            return false;
        }
    }
    while (p < end && *p == '*')
        p++;
    return p == end;
}

bool hl_ssh_known_match(const char *field, const char *name)
{
    bool found = false;
    size_t n;

    if (!strncmp(field, "|1|", 3))
        return match_hashed(field, name);
    for (; *field; field += n + (field[n] == ',')) {
        n = strcspn(field, ",");
        if (*field == '!') {
            if (match_pattern(field + 1, n - 1, name))
                return false;
        } else if (n && match_pattern(field, n, name)) {
            found = true;
        }
    }
    return found;
}

/* Under this name the key is kept: "host", "[host]:port" or the alias. */
static char *known_name(const struct hl_ssh_config *c, bool with_port)
{
    char *name, *s;

    if (c->alias)
        name = hl_strdup(c->alias);
    else if (with_port && c->port != 22)
        name = hl_asprintf("[%s]:%u", c->host, c->port);
    else
        name = hl_strdup(c->host);
    for (s = name; s && *s; s++)
        *s = (char)tolower((unsigned char)*s);
    return name;
}

/* ---- Files -------------------------------------------------------------- */

struct entry {
    const char *marker; /* "@revoked", "@cert-authority" or "" */
    const char *names, *type, *key64;
};

static char *next_word(char **s)
{
    char *word = *s + strspn(*s, " \t");

    *s = word + strcspn(word, " \t\r\n");
    if (**s)
        *(*s)++ = '\0';
    return word;
}

static bool parse_line(char *line, struct entry *e)
{
    e->marker = "";
    e->names = next_word(&line);
    if (*e->names == '#' || !*e->names)
        return false;
    if (*e->names == '@') {
        e->marker = e->names;
        e->names = next_word(&line);
    }
    e->type = next_word(&line);
    e->key64 = next_word(&line);
    return *e->key64 != '\0';
}

typedef void entry_fn(void *user, const char *file, unsigned line,
                      const struct entry *e);

/* A file that is not there has no entries. */
static int each_entry(const char *file, const char *name, entry_fn *fn,
                      void *user, struct hl_error *err)
{
    struct entry e;
    char *line = NULL;
    size_t cap = 0;
    unsigned count = 0;
    ssize_t n;
    FILE *in = fopen(file, "re");
    struct stat st;

    if (!in && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (!in)
        return hl_err(err, HAUL_E_HOSTKEY, errno,
                      "cannot read known hosts '%s'", file);
    if (fstat(fileno(in), &st) || S_ISDIR(st.st_mode)) {
        fclose(in);
        return hl_err(err, HAUL_E_HOSTKEY, EISDIR,
                      "cannot read known hosts '%s'", file);
    }
    while ((n = getline(&line, &cap, in)) > 0) {
        count++;
        if (n < LINE_SIZE_MAX && parse_line(line, &e) &&
            hl_ssh_known_match(e.names, name))
            fn(user, file, count, &e);
    }
    free(line); /* of getline() */
    fclose(in);
    return 0;
}

struct find {
    const char *type, *key64;
    struct hl_ssh_known_hit *hit;
};

static void find_entry(void *user, const char *file, unsigned line,
                       const struct entry *e)
{
    struct find *f = user;
    struct hl_ssh_known_hit *hit = f->hit;
    bool same = !strcmp(e->key64, f->key64);
    enum hl_ssh_known known;

    if (!strcmp(e->marker, "@cert-authority")) {
        hit->authority = true;
        return;
    }
    if (!strcmp(e->marker, "@revoked")) {
        if (!same)
            return;
        known = HL_SSH_KNOWN_REVOKED;
    } else if (*e->marker) {
        return;
    } else if (same) {
        known = HL_SSH_KNOWN_OK;
    } else {
        known = strcmp(e->type, f->type) ? HL_SSH_KNOWN_OTHER
                                         : HL_SSH_KNOWN_CHANGED;
    }
    /* A revoked key is revoked whatever else is said; one line that fits is
     * enough; a line of the same type says more than one of another. */
    static const int rank[] = {
        [HL_SSH_KNOWN_NO] = 0,      [HL_SSH_KNOWN_OTHER] = 1,
        [HL_SSH_KNOWN_CHANGED] = 2, [HL_SSH_KNOWN_OK] = 3,
        [HL_SSH_KNOWN_REVOKED] = 4,
    };
    if (rank[known] <= rank[hit->known])
        return;
    hit->known = known;
    hit->line = line;
    snprintf(hit->file, sizeof(hit->file), "%s", file);
    hl_free(hit->key64);
    hit->key64 = hl_strdup(e->key64);
}

int hl_ssh_known_find(const struct hl_ssh_list *const lists[], size_t count,
                      const char *name, const char *type, const char *key64,
                      struct hl_ssh_known_hit *hit, struct hl_error *err)
{
    struct find f = {type, key64, hit};
    size_t i, k;
    int rc = 0;

    memset(hit, 0, sizeof(*hit));
    for (i = 0; i < count && !rc; i++)
        for (k = 0; k < lists[i]->count && !rc; k++)
            rc = each_entry(lists[i]->item[k], name, find_entry, &f, err);
    if (rc) {
        hl_free(hit->key64);
        hit->key64 = NULL;
    }
    return rc;
}

/* ---- Which kind to ask the server for ----------------------------------- */

static const struct {
    const char *type, *algorithms;
} kinds[] = {
    {"ssh-ed25519", "ssh-ed25519"},
    {"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"},
    {"ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"},
    {"ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"},
    {"ssh-rsa", "rsa-sha2-512,rsa-sha2-256"},
};

static void mark_kind(void *user, const char *file, unsigned line,
                      const struct entry *e)
{
    bool *known = user;
    size_t i;

    (void)file;
    (void)line;
    for (i = 0; i < HL_LEN(kinds) && !*e->marker; i++)
        if (!strcmp(e->type, kinds[i].type))
            known[i] = true;
}

char *hl_ssh_hostkey_order(const struct hl_ssh_config *c)
{
    const struct hl_ssh_list *lists[] = {&c->known_user, &c->known_global};
    bool known[HL_LEN(kinds)] = {false};
    char *name = known_name(c, true), *order = hl_strdup(""), *longer;
    size_t i, k;
    int pass;

    for (i = 0; name && i < HL_LEN(lists); i++)
        for (k = 0; k < lists[i]->count; k++)
            (void)each_entry(lists[i]->item[k], name, mark_kind, known, NULL);
    hl_free(name);
    for (pass = 1; pass >= 0; pass--) {
        for (i = 0; i < HL_LEN(kinds) && order; i++) {
            if (known[i] != (pass == 1))
                continue;
            longer = hl_asprintf("%s%s%s", order, *order ? "," : "",
                                 kinds[i].algorithms);
            hl_free(order);
            order = longer;
        }
    }
    return order;
}

/* ---- Adding a key ------------------------------------------------------- */

static int make_folder_of(const char *file, struct hl_error *err)
{
    char *folder = hl_strdup(file), *slash;
    int rc = 0;

    if (!folder)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    slash = strrchr(folder, '/');
    if (slash && slash != folder) {
        *slash = '\0';
        if (mkdir(folder, 0700) && errno != EEXIST)
            rc = hl_err(err, HAUL_E_HOSTKEY, errno, "cannot create '%s'",
                        folder);
    }
    hl_free(folder);
    return rc;
}

static char *hashed_field(const char *name)
{
    uint8_t salt[HASH_SIZE], hash[HASH_SIZE];
    uint8_t salt64[HASH_TEXT + 1], hash64[HASH_TEXT + 1];

    if (RAND_bytes(salt, HASH_SIZE) != 1)
        return NULL;
    hash_name(salt, name, hash);
    EVP_EncodeBlock(salt64, salt, HASH_SIZE);
    EVP_EncodeBlock(hash64, hash, HASH_SIZE);
    return hl_asprintf("|1|%s|%s", (char *)salt64, (char *)hash64);
}

/* One write() at the end, so that two at once do not mix their lines. */
static int append_line(const char *file, const char *text, struct hl_error *err)
{
    char last = '\n', *line;
    struct stat st;
    size_t len;
    int fd, rc = 0;

    fd = open(file, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return hl_err(err, HAUL_E_HOSTKEY, errno, "cannot write '%s'", file);
    if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > 0)
        (void)!pread(fd, &last, 1, st.st_size - 1);
    line = hl_asprintf("%s%s\n", last == '\n' ? "" : "\n", text);
    len = line ? strlen(line) : 0;
    if (!line)
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    else if (write(fd, line, len) != (ssize_t)len)
        rc = hl_err(err, HAUL_E_HOSTKEY, errno, "cannot write '%s'", file);
    hl_free(line);
    close(fd);
    return rc;
}

struct presented {
    const char *type;
    char *key64;
    char *fingerprint;
    char *name;
};

static int add_key(struct hl_ssh *s, const struct hl_ssh_config *c,
                   const struct presented *p, struct hl_error *err)
{
    struct hl_error warning = {0};
    char *field, *line;
    const char *file;
    int rc;

    if (!c->known_user.count)
        return hl_err(err, HAUL_E_HOSTKEY, 0,
                      "no known hosts file to keep the key of '%s' in",
                      p->name);
    file = c->known_user.item[0];
    field = c->hash_names ? hashed_field(p->name) : hl_strdup(p->name);
    line = field ? hl_asprintf("%s %s %s", field, p->type, p->key64) : NULL;
    hl_free(field);
    if (!line)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    rc = make_folder_of(file, err);
    if (!rc)
        rc = append_line(file, line, err);
    hl_free(line);
    if (rc || !s->env->warn)
        return rc;
    hl_err(&warning, HAUL_E_HOSTKEY, 0, "host key of '%s' added to '%s': %s",
           p->name, file, p->fingerprint);
    s->env->warn(s->env, &warning);
    return 0;
}

/* ---- The decision ------------------------------------------------------- */

/* "SHA256:…" of a key in base64, or of a parsed one. Caller frees with
 * ssh_string_free_char(). */
static char *fingerprint(ssh_key key)
{
    unsigned char *hash = NULL;
    size_t len = 0;
    char *text;

    if (ssh_get_publickey_hash(key, SSH_PUBLICKEY_HASH_SHA256, &hash, &len))
        return NULL;
    text = ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, len);
    ssh_clean_pubkey_hash(&hash);
    return text;
}

static char *fingerprint64(const char *type, const char *key64)
{
    ssh_key key = NULL;
    char *text = NULL;

    if (key64 && ssh_pki_import_pubkey_base64(
                     key64, ssh_key_type_from_name(type), &key) == SSH_OK)
        text = fingerprint(key);
    ssh_key_free(key);
    return text;
}

static int refuse_changed(const struct hl_ssh_known_hit *hit,
                          const struct presented *p, struct hl_error *err)
{
    char *old = fingerprint64(p->type, hit->key64);

    hl_err(err, HAUL_E_HOSTKEY, 0,
           "the host key of '%s' has changed: '%s' line %u has %s, the "
           "server shows %s",
           p->name, hit->file, hit->line, old ? old : "another",
           p->fingerprint);
    hl_err_hint(err,
                "Somebody may be in between. If the server was "
                "reinstalled, run: ssh-keygen -R '%s' -f '%s'",
                p->name, hit->file);
    ssh_string_free_char(old);
    return HAUL_E_HOSTKEY;
}

static int refuse_other(const struct hl_ssh_known_hit *hit,
                        const struct presented *p, struct hl_error *err)
{
    hl_err(err, HAUL_E_HOSTKEY, 0,
           "'%s' shows a host key of another type than '%s' line %u knows: "
           "%s %s",
           p->name, hit->file, hit->line, p->type, p->fingerprint);
    return hl_err_hint(err,
                       "Somebody may be in between. If the server has "
                       "new keys, run: ssh-keygen -R '%s' -f '%s'",
                       p->name, hit->file);
}

static int refuse_unknown(const struct hl_ssh_config *c,
                          const struct hl_ssh_known_hit *hit,
                          const struct presented *p, struct hl_error *err)
{
    hl_err(err, HAUL_E_HOSTKEY, 0, "the host key of '%s' is unknown: %s %s",
           p->name, p->type, p->fingerprint);
    if (hit->authority)
        hl_err_detail(err, "known hosts has a @cert-authority for it; host "
                           "certificates are not supported");
    return hl_err_hint(err,
                       "Compare the fingerprint, then add the key with "
                       "--host-key accept-new or with: ssh-keyscan -p %u "
                       "'%s' >> '%s'",
                       c->port, c->host,
                       c->known_user.count ? c->known_user.item[0]
                                           : "~/.ssh/known_hosts");
}

static int decide(struct hl_ssh *s, const struct hl_ssh_config *c,
                  const struct hl_ssh_known_hit *hit, const struct presented *p,
                  struct hl_error *err)
{
    switch (hit->known) {
    case HL_SSH_KNOWN_OK:
        HL_TRACE(s->env->log, HL_AREA_SSH, "host key %s %s: '%s' line %u",
                 p->type, p->fingerprint, hit->file, hit->line);
        return 0;
    case HL_SSH_KNOWN_REVOKED:
        hl_err(err, HAUL_E_HOSTKEY, 0,
               "the host key of '%s' is revoked in '%s' line %u: %s", p->name,
               hit->file, hit->line, p->fingerprint);
        return hl_err_hint(err, "The server must get a new host key before "
                                "anything is sent to it.");
    case HL_SSH_KNOWN_CHANGED:
        return refuse_changed(hit, p, err);
    case HL_SSH_KNOWN_OTHER:
        return refuse_other(hit, p, err);
    case HL_SSH_KNOWN_NO:
        break;
    }
    return c->accept_new ? add_key(s, c, p, err)
                         : refuse_unknown(c, hit, p, err);
}

/* Looks under the name with the port; when that says nothing, a key kept for
 * the host itself will do, as in OpenSSH (sshconnect.c). */
static int look_up(const struct hl_ssh_config *c, const struct presented *p,
                   struct hl_ssh_known_hit *hit, struct hl_error *err)
{
    const struct hl_ssh_list *lists[] = {&c->known_user, &c->known_global};
    struct hl_ssh_known_hit plain;
    char *name;
    int rc;

    rc = hl_ssh_known_find(lists, HL_LEN(lists), p->name, p->type, p->key64,
                           hit, err);
    if (rc || hit->known != HL_SSH_KNOWN_NO || c->alias || c->port == 22)
        return rc;
    name = known_name(c, false);
    if (!name)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    rc = hl_ssh_known_find(lists, HL_LEN(lists), name, p->type, p->key64,
                           &plain, err);
    hl_free(name);
    if (rc)
        return rc;
    if (plain.known == HL_SSH_KNOWN_OK || plain.known == HL_SSH_KNOWN_REVOKED)
        *hit = plain;
    else
        hl_free(plain.key64);
    return 0;
}

int hl_ssh_hostkey_check(struct hl_ssh *s, struct hl_error *err)
{
    const struct hl_ssh_config *c = &s->host->fixed.config;
    struct hl_ssh_known_hit hit = {0};
    struct presented p = {0};
    ssh_key key = NULL;
    int rc;

    if (ssh_get_server_publickey(s->session, &key) != SSH_OK)
        return hl_err(err, HAUL_E_PROTO, 0, "'%s' shows no host key", c->host);
    /* Of an ECDSA key libssh tells the curve in ssh_pki_key_ecdsa_name()
     * only. */
    p.type = ssh_pki_key_ecdsa_name(key);
    if (!p.type || strncmp(p.type, "ecdsa-", 6))
        p.type = ssh_key_type_to_char(ssh_key_type(key));
    p.name = known_name(c, true);
    p.fingerprint = fingerprint(key);
    if (!p.name || !p.fingerprint || !p.type ||
        ssh_pki_export_pubkey_base64(key, &p.key64) != SSH_OK)
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    else
        rc = look_up(c, &p, &hit, err);
    if (!rc)
        rc = decide(s, c, &hit, &p, err);
    hl_free(hit.key64);
    hl_free(p.name);
    ssh_string_free_char(p.fingerprint);
    ssh_string_free_char(p.key64);
    ssh_key_free(key);
    return rc;
}
