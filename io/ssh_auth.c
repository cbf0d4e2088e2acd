/*
 * Logging in, in OpenSSH's order: keys that the agent has (those of the
 * configuration first), key files, questions (keyboard-interactive), password.
 * Partial success goes on with what the server still wants. Called on the
 * thread that connects; secrets live in buffers that are wiped.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ssh_private.h"

#define ASK_MAX 3      /* as NumberOfPasswordPrompts */
#define ROUNDS_MAX 16  /* of questions, and of partial successes */
#define PROMPTS_MAX 16 /* in one round */
#define IDENTITY_MAX (3 * HL_SSH_LIST_MAX)

/* Something that may open the door: a key of the agent, a file, or both. */
struct identity {
    const char *path; /* private key; NULL: only the agent has it */
    ssh_key pub;      /* may hold a certificate; NULL: not known */
    char *key64;      /* of pub */
    size_t agent;     /* its place in the agent + 1, or 0 */
    bool certificate;
    bool used; /* tried already */
};

struct login {
    struct hl_ssh *s;
    struct hl_error *err;
    int rc; /* why the login is over, when a step says SSH_AUTH_ERROR */
    struct hl_ssh_agent *agent;
    struct identity identity[IDENTITY_MAX];
    size_t count;
    unsigned agent_tried;  /* keys */
    unsigned agent_usable; /* keys that are, or will be, tried */
    unsigned asked;        /* passwords */
    bool nobody;           /* cannot be asked */
    bool password_bad;     /* the one we have was refused */
    bool once;             /* an answer works only once */
    char password_what[300];
    char tried[200];
};

/* Adds to the list of what was tried, for the error. */
static void HL_PRINTF(2, 3) note(struct login *l, const char *fmt, ...)
{
    size_t len = strlen(l->tried);
    va_list ap;

    if (len + 8 >= sizeof(l->tried))
        return;
    if (len) {
        snprintf(l->tried + len, sizeof(l->tried) - len, ", ");
        len += 2;
    }
    va_start(ap, fmt);
    vsnprintf(l->tried + len, sizeof(l->tried) - len, fmt, ap);
    va_end(ap);
}

/* ---- Requests ----------------------------------------------------------- */

struct request {
    enum {
        ASK_NONE,
        ASK_OFFER, /* would you take key? */
        ASK_KEY,
        ASK_AGENT,
        ASK_PASSWORD,
        ASK_QUESTIONS
    } kind;
    ssh_key key;
    const char *password;
};

static int call(ssh_session session, const struct request *q)
{
    switch (q->kind) {
    case ASK_NONE:
        return ssh_userauth_none(session, NULL);
    case ASK_OFFER:
        return ssh_userauth_try_publickey(session, NULL, q->key);
    case ASK_KEY:
        return ssh_userauth_publickey(session, NULL, q->key);
    case ASK_AGENT:
        return ssh_userauth_agent(session, NULL);
    case ASK_PASSWORD:
        return ssh_userauth_password(session, NULL, q->password);
    case ASK_QUESTIONS:
        return ssh_userauth_kbdint(session, NULL, NULL);
    }
    return SSH_AUTH_ERROR;
}

static int over(struct login *l, int rc)
{
    l->rc = rc;
    return SSH_AUTH_ERROR;
}

static int stalled(struct login *l, int r)
{
    if (r)
        return over(l, hl_err(l->err, r, 0, "interrupted"));
    return over(l, hl_err(l->err, HAUL_E_STALLED, 0,
                          "'%s' does not answer during the login",
                          l->s->host->fixed.config.host));
}

/* SSH_AUTH_SUCCESS, _DENIED, _PARTIAL, _INFO; _ERROR: the login is over. */
static int answer(struct login *l, const struct request *q)
{
    struct hl_ssh *s = l->s;
    uint64_t start = hl_ssh_now();
    uint64_t deadline = start + s->limit.step_ns;
    int r, rc;

    while ((rc = call(s->session, q)) == SSH_AUTH_AGAIN) {
        /* ssh_userauth_agent() says so for ever when the server is gone. */
        if (!ssh_is_connected(s->session))
            return over(l, hl_ssh_failed(s, l->err));
        r = hl_ssh_turn(s->session, s->fd, &s->limit, deadline);
        if (r <= 0)
            return stalled(l, r);
    }
    if (rc == SSH_AUTH_ERROR) {
        if (hl_ssh_stopped(&s->limit))
            return stalled(l, HAUL_E_CANCELED);
        if (!ssh_is_connected(s->session))
            return over(l, hl_ssh_failed(s, l->err));
        /* The key, not the connection: libssh cannot sign with it. */
        HL_TRACE(s->env->log, HL_AREA_SSH, "libssh: %s",
                 ssh_get_error(s->session));
        return SSH_AUTH_DENIED;
    }
    if (q->kind == ASK_NONE || q->kind == ASK_OFFER)
        hl_ssh_saw_answer(s, start);
    return rc;
}

/* The request for the service by itself: the cheapest round trip there is. */
static int request_service(struct login *l)
{
    struct hl_ssh *s = l->s;
    uint64_t start = hl_ssh_now();
    int r, rc;

    while ((rc = ssh_service_request(s->session, "ssh-userauth")) ==
           SSH_AGAIN) {
        if (!ssh_is_connected(s->session))
            return over(l, hl_ssh_failed(s, l->err));
        r = hl_ssh_turn(s->session, s->fd, &s->limit, start + s->limit.step_ns);
        if (r <= 0)
            return stalled(l, r);
    }
    if (rc != SSH_OK)
        return over(l, hl_ssh_failed(s, l->err));
    hl_ssh_saw_answer(s, start);
    return SSH_AUTH_SUCCESS;
}

/* Asks a person. SSH_AUTH_SUCCESS: buf is filled; _DENIED: nobody. */
static int ask(struct login *l, const char *what, bool echo, char *buf)
{
    int rc;

    if (l->nobody)
        return SSH_AUTH_DENIED;
    rc = hl_ssh_ask(l->s->host, what, echo, buf, HL_SSH_SECRET_MAX);
    if (rc == HAUL_E_CANCELED)
        return stalled(l, rc);
    if (rc)
        l->nobody = true;
    return rc ? SSH_AUTH_DENIED : SSH_AUTH_SUCCESS;
}

/* ---- Identities --------------------------------------------------------- */

static void add_identity(struct login *l, const char *path, ssh_key pub,
                         bool certificate)
{
    struct identity *id = &l->identity[l->count];
    char *text = NULL;

    if (l->count == IDENTITY_MAX) {
        ssh_key_free(pub);
        return;
    }
    memset(id, 0, sizeof(*id));
    id->path = path;
    id->pub = pub;
    id->certificate = certificate;
    if (pub && ssh_pki_export_pubkey_base64(pub, &text) == SSH_OK)
        id->key64 = text;
    l->count++;
}

static void add_file(struct login *l, const char *path)
{
    const struct hl_ssh_config *c = &l->s->host->fixed.config;
    char *beside = hl_asprintf("%s-cert.pub", path);
    ssh_key pub, cert;
    struct stat st;
    size_t i;

    /* A pipe would block, and can be read once only. */
    if (!stat(path, &st) && !S_ISREG(st.st_mode)) {
        note(l, "'%s' is no regular file", path);
        hl_free(beside);
        return;
    }
    pub = hl_ssh_key_public(path);
    cert = beside ? hl_ssh_key_certificate(beside) : NULL;
    if (cert)
        add_identity(l, path, cert, true);
    hl_free(beside);
    for (i = 0; pub && i < c->certificates.count; i++) {
        cert = hl_ssh_key_certificate(c->certificates.item[i]);
        if (cert && !ssh_key_cmp(cert, pub, SSH_KEY_CMP_PUBLIC))
            add_identity(l, path, cert, true);
        else
            ssh_key_free(cert);
    }
    if (pub || !access(path, F_OK))
        add_identity(l, path, pub, false);
    else if (c->identities_explicit)
        note(l, "'%s' cannot be read: %s", path, strerror(errno));
}

static void add_agent_keys(struct login *l)
{
    const struct hl_ssh_config *c = &l->s->host->fixed.config;
    size_t i, k, files = l->count, found = 0;
    const char *key64;

    for (i = 0; i < hl_ssh_agent_count(l->agent); i++) {
        key64 = hl_ssh_agent_key64(l->agent, i);
        for (k = 0; k < files; k++)
            if (l->identity[k].key64 && !strcmp(l->identity[k].key64, key64))
                break;
        if (k < files) {
            l->identity[k].agent = i + 1;
            l->agent_usable++;
            found++;
        } else if (!c->identities_only && l->count < IDENTITY_MAX) {
            add_identity(l, NULL, NULL, false);
            l->identity[l->count - 1].agent = i + 1;
            l->agent_usable++;
        }
    }
    HL_TRACE(l->s->env->log, HL_AREA_SSH,
             "agent: %zu keys, %zu of them configured; %zu identities",
             hl_ssh_agent_count(l->agent), found, l->count);
}

static int find_identities(struct login *l)
{
    const struct hl_ssh_config *c = &l->s->host->fixed.config;
    size_t i;
    int rc = 0;

    for (i = 0; i < c->identities.count; i++)
        add_file(l, c->identities.item[i]);
    if (c->agent)
        rc = hl_ssh_agent_open(c->agent, &l->s->limit, &l->agent, l->err);
    if (!rc && l->agent)
        add_agent_keys(l);
    else if (!rc && c->agent)
        note(l, "agent '%s' does not answer", c->agent);
    return rc;
}

/* ---- Key files ---------------------------------------------------------- */

struct passphrase {
    struct login *l;
    char what[300];
    char value[HL_SSH_SECRET_MAX];
    bool wanted; /* the key is encrypted */
    bool recalled;
    int rc; /* SSH_AUTH_* of ask() */
};

/* libssh calls this when a key turns out to be encrypted. */
static int give_passphrase(const char *prompt, char *buf, size_t len, int echo,
                           int verify, void *user)
{
    struct passphrase *p = user;

    (void)prompt;
    (void)echo;
    (void)verify;
    p->recalled = !p->wanted && hl_ssh_recall(p->l->s->host, p->what, p->value,
                                              sizeof(p->value));
    p->wanted = true;
    p->rc =
        p->recalled ? SSH_AUTH_SUCCESS : ask(p->l, p->what, false, p->value);
    if (p->rc != SSH_AUTH_SUCCESS || strlen(p->value) >= len)
        return -1;
    snprintf(buf, len, "%s", p->value);
    return 0;
}

/* *key, or SSH_AUTH_DENIED with a note, or SSH_AUTH_ERROR. */
static int read_private(struct login *l, const char *path, ssh_key *key)
{
    struct passphrase p = {.l = l};
    int i, rc = SSH_ERROR;

    *key = NULL;
    snprintf(p.what, sizeof(p.what), "passphrase for key '%s'", path);
    for (i = 0; i < ASK_MAX + 1 && rc != SSH_OK; i++) {
        p.rc = SSH_AUTH_SUCCESS;
        rc = ssh_pki_import_privkey_file(path, NULL, give_passphrase, &p, key);
        if (rc != SSH_OK)
            *key = NULL;
        if (!p.wanted || p.rc != SSH_AUTH_SUCCESS)
            break;
        /* One more try when the first was with what we remembered. */
        if (i == ASK_MAX - 1 &&
            !hl_ssh_recall(l->s->host, p.what, p.value, sizeof(p.value)))
            break;
    }
    if (rc == SSH_OK && p.wanted)
        hl_ssh_remember(l->s->host, p.what, p.value);
    explicit_bzero(p.value, sizeof(p.value));
    if (rc == SSH_OK)
        return SSH_AUTH_SUCCESS;
    if (p.rc == SSH_AUTH_ERROR)
        return p.rc;
    if (p.wanted)
        note(l,
             p.rc == SSH_AUTH_DENIED ? "'%s' needs a passphrase"
                                     : "'%s' has another passphrase",
             path);
    else if (rc == SSH_EOF)
        note(l, "'%s' cannot be read: %s", path, strerror(errno));
    else
        note(l, "'%s' is no private key that libssh can read", path);
    return SSH_AUTH_DENIED;
}

/* ssh(1): a private key that others can read is not used. */
static bool file_usable(struct login *l, const char *path)
{
    struct stat st;

    if (stat(path, &st)) {
        note(l, "'%s' cannot be read: %s", path, strerror(errno));
        return false;
    }
    if (st.st_uid == getuid() && (st.st_mode & 077)) {
        note(l, "'%s' has permissions 0%o, which are too open", path,
             (unsigned)st.st_mode & 0777);
        return false;
    }
    if (access(path, R_OK)) {
        note(l, "'%s' cannot be read: %s", path, strerror(errno));
        return false;
    }
    return true;
}

static void note_refused(struct login *l, const struct identity *id)
{
    note(l, "'%s'%s refused", id->path,
         id->certificate ? " with certificate" : "");
}

static int try_file(struct login *l, const struct identity *id)
{
    struct request q = {ASK_OFFER, id->pub, NULL};
    ssh_key key;
    int rc = SSH_AUTH_SUCCESS;

    if (!file_usable(l, id->path))
        return SSH_AUTH_DENIED;
    /* An offer first, so that nobody types a passphrase for nothing; without
     * a passphrase it would only cost a round trip. */
    key = hl_ssh_key_plain(id->path);
    if (!key && id->pub) {
        rc = answer(l, &q);
        if (rc == SSH_AUTH_DENIED)
            note_refused(l, id);
        if (rc != SSH_AUTH_SUCCESS)
            return rc;
    }
    if (!key)
        rc = read_private(l, id->path, &key);
    if (rc != SSH_AUTH_SUCCESS)
        return rc;
    if (id->certificate && ssh_pki_copy_cert_to_privkey(id->pub, key)) {
        note(l, "'%s' does not fit its certificate", id->path);
        ssh_key_free(key);
        return SSH_AUTH_DENIED;
    }
    q.kind = ASK_KEY;
    q.key = key;
    rc = answer(l, &q);
    ssh_key_free(key);
    if (rc == SSH_AUTH_DENIED)
        note_refused(l, id);
    return rc;
}

static int try_agent(struct login *l, const struct identity *id)
{
    struct request q = {ASK_OFFER, NULL, NULL};
    int rc;

    l->agent_tried++;
    /* ssh_userauth_agent() offers the key itself, but in libssh 0.10 each
     * call after the first leaks the list of keys: of several keys it gets
     * the one that the server wants. */
    if (l->agent_usable > 1) {
        q.key = hl_ssh_agent_key(l->agent, id->agent - 1);
        rc = answer(l, &q);
        if (rc != SSH_AUTH_SUCCESS)
            return rc;
    }
    rc = hl_ssh_agent_show(l->agent, l->s->session, id->agent - 1, l->err);
    if (rc)
        return over(l, rc);
    q.kind = ASK_AGENT;
    return answer(l, &q);
}

static int try_identity(struct login *l, struct identity *id)
{
    int rc = SSH_AUTH_DENIED;

    id->used = true;
    if (id->agent)
        rc = try_agent(l, id);
    else
        rc = try_file(l, id);
    HL_TRACE(l->s->env->log, HL_AREA_SSH, "key %s%s%s: %s",
             id->path ? id->path : "of the agent",
             id->path && id->agent ? " (agent)" : "",
             id->certificate ? " with certificate" : "",
             rc == SSH_AUTH_SUCCESS   ? "accepted"
             : rc == SSH_AUTH_PARTIAL ? "accepted, more is wanted"
                                      : "no");
    return rc;
}

/* Which identities come first: the configured ones that the agent has, then
 * what else it has, then files. */
static int pass_of(const struct identity *id)
{
    if (id->agent)
        return id->path ? 0 : 1;
    return 2;
}

static int try_keys(struct login *l)
{
    int rc = SSH_AUTH_DENIED, pass;
    size_t i;

    for (pass = 0; pass < 3 && rc == SSH_AUTH_DENIED; pass++)
        for (i = 0; i < l->count && rc == SSH_AUTH_DENIED; i++)
            if (!l->identity[i].used && pass_of(&l->identity[i]) == pass)
                rc = try_identity(l, &l->identity[i]);
    return rc;
}

/* ---- Passwords and questions -------------------------------------------- */

/* The one from the URL or an earlier login, unless it was refused. */
static bool known_password(struct login *l, char *buf)
{
    const struct hl_ssh_host *host = l->s->host;

    if (l->password_bad)
        return false;
    if (hl_ssh_recall(l->s->host, l->password_what, buf, HL_SSH_SECRET_MAX))
        return true;
    if (!host->fixed.url.password)
        return false;
    snprintf(buf, HL_SSH_SECRET_MAX, "%s", host->fixed.url.password);
    return true;
}

static int get_password(struct login *l, char *buf)
{
    if (known_password(l, buf))
        return SSH_AUTH_SUCCESS;
    if (l->asked == ASK_MAX)
        return SSH_AUTH_DENIED;
    l->asked++;
    return ask(l, l->password_what, false, buf);
}

static int try_password(struct login *l)
{
    char value[HL_SSH_SECRET_MAX];
    struct request q = {ASK_PASSWORD, NULL, value};
    int rc;

    for (;;) {
        rc = get_password(l, value);
        if (rc != SSH_AUTH_SUCCESS)
            break;
        rc = answer(l, &q);
        if (rc == SSH_AUTH_SUCCESS || rc == SSH_AUTH_PARTIAL)
            hl_ssh_remember(l->s->host, l->password_what, value);
        if (rc != SSH_AUTH_DENIED)
            break;
        l->password_bad = true;
        if (!strstr(l->tried, "password refused"))
            note(l, "password refused");
    }
    explicit_bzero(value, sizeof(value));
    return rc;
}

/* Is it the login password that the server asks for? What is not clearly so
 * counts as an answer that works only once. */
static bool asks_password(const char *prompt, bool echo)
{
    static const char *const other[] = {"one-time", "one time", "otp",
                                        "code",     "token",    "verif",
                                        "new ",     "again",    "retype"};
    size_t i;

    if (echo || !strcasestr(prompt, "password"))
        return false;
    for (i = 0; i < HL_LEN(other); i++)
        if (strcasestr(prompt, other[i]))
            return false;
    return true;
}

/* "(user@host) Instruction Prompt" in one line of printable characters. */
static void question(struct login *l, const char *prompt, char *what,
                     size_t cap)
{
    const struct hl_ssh_config *c = &l->s->host->fixed.config;
    const char *more = ssh_userauth_kbdint_getinstruction(l->s->session);
    size_t len;
    char *p;

    if (!more)
        more = "";
    snprintf(what, cap, "(%s@%s) %s%s%s", c->user, c->host, more,
             *more ? " " : "", prompt);
    for (p = what; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127)
            *p = ' ';
    for (len = strlen(what);
         len && (what[len - 1] == ' ' || what[len - 1] == ':'); len--)
        what[len - 1] = '\0';
}

struct round {
    char password[HL_SSH_SECRET_MAX]; /* given as an answer */
    bool given;
    unsigned questions; /* so far */
};

static int answer_prompt(struct login *l, unsigned i, struct round *round)
{
    char what[600], value[HL_SSH_SECRET_MAX];
    const char *prompt;
    char echo = 0;
    int rc;

    prompt = ssh_userauth_kbdint_getprompt(l->s->session, i, &echo);
    if (!prompt)
        prompt = "";
    if (asks_password(prompt, echo != 0)) {
        rc = get_password(l, value);
        if (rc == SSH_AUTH_SUCCESS) {
            snprintf(round->password, sizeof(round->password), "%s", value);
            round->given = true;
        }
    } else {
        question(l, prompt, what, sizeof(what));
        rc = ask(l, what, echo != 0, value);
        if (rc == SSH_AUTH_SUCCESS &&
            !(round->given && !strcmp(value, round->password)))
            l->once = true;
    }
    if (rc == SSH_AUTH_SUCCESS &&
        ssh_userauth_kbdint_setanswer(l->s->session, i, value) < 0)
        rc = over(l, hl_err(l->err, HAUL_E_NOMEM, 0, "out of memory"));
    explicit_bzero(value, sizeof(value));
    return rc;
}

static int answer_prompts(struct login *l, struct round *round)
{
    int n = ssh_userauth_kbdint_getnprompts(l->s->session), i;
    int rc = SSH_AUTH_SUCCESS;

    if (n < 0 || n > PROMPTS_MAX)
        return over(l, hl_err(l->err, HAUL_E_PROTO, 0,
                              "'%s' asks %d questions at once",
                              l->s->host->fixed.config.host, n));
    for (i = 0; i < n && rc == SSH_AUTH_SUCCESS; i++)
        rc = answer_prompt(l, (unsigned)i, round);
    round->questions += (unsigned)n;
    return rc;
}

/* One run from the request to yes or no. */
static int questions_once(struct login *l, struct round *round)
{
    struct request q = {ASK_QUESTIONS, NULL, NULL};
    int rc, r, i;

    rc = answer(l, &q);
    for (i = 0; rc == SSH_AUTH_INFO; i++) {
        if (i == ROUNDS_MAX)
            return over(l, hl_err(l->err, HAUL_E_PROTO, 0,
                                  "'%s' does not stop asking",
                                  l->s->host->fixed.config.host));
        r = answer_prompts(l, round);
        if (r != SSH_AUTH_SUCCESS)
            return r;
        rc = answer(l, &q);
    }
    return rc;
}

static int try_questions(struct login *l)
{
    struct round round;
    int i, rc = SSH_AUTH_DENIED;
    bool once = l->once;

    for (i = 0; i < ASK_MAX + 1 && rc == SSH_AUTH_DENIED; i++) {
        memset(&round, 0, sizeof(round));
        l->once = once;
        rc = questions_once(l, &round);
        if (rc == SSH_AUTH_SUCCESS || rc == SSH_AUTH_PARTIAL) {
            if (round.given)
                hl_ssh_remember(l->s->host, l->password_what, round.password);
        } else if (rc == SSH_AUTH_DENIED) {
            l->once = once;
            l->password_bad = l->password_bad || round.given;
            if (l->nobody)
                note(l, "keyboard-interactive without an answer");
            else if (round.questions && !strstr(l->tried, "interactive"))
                note(l, "keyboard-interactive refused");
            if (!round.questions || l->nobody || l->asked == ASK_MAX)
                break;
        }
    }
    explicit_bzero(&round, sizeof(round));
    return rc;
}

/* ---- All of it ---------------------------------------------------------- */

static void list_methods(int methods, char *buf, size_t cap)
{
    static const struct {
        int bit;
        const char *name;
    } names[] = {{SSH_AUTH_METHOD_PUBLICKEY, "publickey"},
                 {SSH_AUTH_METHOD_INTERACTIVE, "keyboard-interactive"},
                 {SSH_AUTH_METHOD_PASSWORD, "password"},
                 {SSH_AUTH_METHOD_HOSTBASED, "hostbased"},
                 {SSH_AUTH_METHOD_GSSAPI_MIC, "gssapi-with-mic"}};
    size_t i, len = 0;

    buf[0] = '\0';
    for (i = 0; i < HL_LEN(names); i++) {
        if (!(methods & names[i].bit))
            continue;
        snprintf(buf + len, cap - len, "%s%s", len ? "," : "", names[i].name);
        len = strlen(buf);
    }
}

static int refused(struct login *l, int methods)
{
    const struct hl_ssh_config *c = &l->s->host->fixed.config;
    char offers[100], agent[40] = "";

    list_methods(methods, offers, sizeof(offers));
    if (l->agent_tried)
        snprintf(agent, sizeof(agent), "agent (%u key%s)%s", l->agent_tried,
                 l->agent_tried == 1 ? "" : "s", l->tried[0] ? ", " : "");
    hl_err(l->err, HAUL_E_AUTH, 0,
           "login as '%s' on '%s' refused; tried: %s%s; server offers %s",
           c->user, c->host, agent,
           l->tried[0] ? l->tried
           : agent[0]  ? ""
                       : "nothing",
           offers[0] ? offers : "nothing");
    if (l->nobody)
        return hl_err_hint(l->err, "A password or passphrase is wanted and "
                                   "nobody can be asked: use an agent, a "
                                   "key without passphrase, or a terminal.");
    if (l->password_bad || l->asked)
        return hl_err_hint(l->err, "Check user name and password.");
    if (!l->tried[0] && !agent[0])
        return hl_err_hint(l->err, "No key was there to offer: name one with "
                                   "--identity FILE or add it to the agent "
                                   "with ssh-add.");
    return hl_err_hint(l->err,
                       "Check the user name, and that the public key "
                       "stands in ~/.ssh/authorized_keys of '%s' on "
                       "the server.",
                       c->user);
}

static int run(struct login *l)
{
    struct request none = {ASK_NONE, NULL, NULL};
    int rc, methods = 0, i;

    rc = request_service(l);
    /* "none" asks for the methods (RFC 4252, 5.2); a refused key tells too. */
    if (rc == SSH_AUTH_SUCCESS)
        rc = l->s->host->fixed.config.identities_explicit && l->count
                 ? try_keys(l)
                 : answer(l, &none);
    for (i = 0; i < ROUNDS_MAX; i++) {
        if (rc != SSH_AUTH_DENIED && rc != SSH_AUTH_PARTIAL)
            break;
        rc = SSH_AUTH_DENIED;
        methods = ssh_userauth_list(l->s->session, NULL);
        if (methods & SSH_AUTH_METHOD_PUBLICKEY)
            rc = try_keys(l);
        if (rc == SSH_AUTH_DENIED && (methods & SSH_AUTH_METHOD_INTERACTIVE))
            rc = try_questions(l);
        if (rc == SSH_AUTH_DENIED && (methods & SSH_AUTH_METHOD_PASSWORD))
            rc = try_password(l);
        if (rc == SSH_AUTH_DENIED)
            break;
        if (rc == SSH_AUTH_PARTIAL)
            note(l, "one step accepted");
    }
    if (rc == SSH_AUTH_SUCCESS)
        return 0;
    return rc == SSH_AUTH_ERROR ? l->rc : refused(l, methods);
}

int hl_ssh_auth(struct hl_ssh *s, struct hl_error *err)
{
    const struct hl_ssh_config *c = &s->host->fixed.config;
    struct login *l = hl_malloc(sizeof(*l));
    size_t i;
    int rc;

    if (!l)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    l->s = s;
    l->err = err;
    snprintf(l->password_what, sizeof(l->password_what), "password for %s@%s",
             c->user, c->host);
    rc = find_identities(l);
    if (!rc)
        rc = run(l);
    if (!rc && l->once)
        atomic_store(&s->host->one_login, true);
    hl_ssh_agent_close(l->agent);
    for (i = 0; i < l->count; i++) {
        ssh_key_free(l->identity[i].pub);
        ssh_string_free_char(l->identity[i].key64);
    }
    hl_free(l);
    return rc;
}
