/*
 * The HTTP driver: endpoints from URL and options, objects, the table of
 * slots. Engine thread; locks of the share are taken by libcurl on any loop's.
 */
#include "http_upload.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "drivers.h"
#include "opts.h"

/* A file of headers that is longer is something else. */
#define HEADER_FILE_MAX (64u << 10)
#define HEADERS_MAX 64u

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* ---- Names -------------------------------------------------------------- */

/* "put+https" is https; the part before the plus says how. */
static const char *base_scheme(const struct hl_url *url)
{
    const char *plus = strchr(url->scheme, '+');

    return plus ? plus + 1 : url->scheme;
}

static bool has_way(const struct hl_url *url, const char *way)
{
    size_t len = strlen(way);

    return !strncmp(url->scheme, way, len) && url->scheme[len] == '+';
}

static enum hl_http_way way_of(const struct hl_url *url)
{
    if (has_way(url, "post"))
        return HL_HTTP_POST;
    if (has_way(url, "tus"))
        return HL_HTTP_TUS;
    return has_way(url, "put") ? HL_HTTP_PUT : HL_HTTP_ANY;
}

static char *make_origin(const struct hl_url *url)
{
    bool brackets = strchr(url->host, ':');
    char port[8] = "";

    if (url->port)
        snprintf(port, sizeof(port), ":%u", (unsigned)url->port);
    return hl_asprintf("%s://%s%s%s%s", base_scheme(url), brackets ? "[" : "",
                       url->host, brackets ? "]" : "", port);
}

/* ---- Options ------------------------------------------------------------ */

/* RFC 9110 5.1, 5.6.2: a token, a colon, a value of one line. */
static bool is_header(const char *line)
{
    size_t n = strcspn(line, ":");

    if (!n || !line[n])
        return false;
    for (size_t i = 0; i < n; i++)
        if (line[i] <= 0x20 || line[i] == 0x7f ||
            strchr("()<>@,;\\\"/[]?={}", line[i]))
            return false;
    for (const char *c = line + n; *c; c++)
        if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
            return false;
    return true;
}

/* They say how the body is sent or what is asked for, which is haul's. */
static bool is_ours(const char *line)
{
    static const char *const names[] = {
        "Content-Length", "Transfer-Encoding", "Range", "If-Range",
        "Expect",         "Connection",        NULL};

    return hl_http_is_one_of(line, names);
}

/* The value is never shown: it may be a credential. */
static int add_header(struct hl_http_ep *ep, const char *line, size_t len,
                      struct hl_error *err)
{
    char **more, *copy;

    while (len && strchr("\r\n \t", line[len - 1]))
        len--;
    if (!len)
        return 0;
    copy = hl_asprintf("%.*s", (int)len, line);
    more = hl_realloc(ep->headers, (ep->header_count + 1) * sizeof(*more));
    if (more)
        ep->headers = more;
    if (!copy || !more) {
        hl_free(copy);
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    ep->headers[ep->header_count++] = copy;
    if (ep->header_count > HEADERS_MAX)
        return hl_err(err, HAUL_E_INVAL, 0, "more than %u headers",
                      HEADERS_MAX);
    if (!is_header(copy)) {
        hl_err(err, HAUL_E_INVAL, 0, "a header is no 'NAME: VALUE'");
        return hl_err_hint(err, "Give --header 'NAME: VALUE', or --header "
                                "@FILE with one a line.");
    }
    if (is_ours(copy))
        return hl_err(err, HAUL_E_INVAL, 0, "the header '%.*s' is haul's own",
                      (int)strcspn(copy, ":"), copy);
    return 0;
}

static int add_file(struct hl_http_ep *ep, const char *path,
                    struct hl_error *err);

/* A line is a header or, where files may be named, '@' and a file of them. */
static int add_lines(struct hl_http_ep *ep, const char *text, bool files,
                     struct hl_error *err)
{
    int rc = 0;

    while (*text && !rc) {
        size_t len = strcspn(text, "\n");

        if (files && text[0] == '@') {
            char *path = hl_asprintf("%.*s", (int)len - 1, text + 1);

            rc = path ? add_file(ep, path, err)
                      : hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
            hl_free(path);
        } else {
            rc = add_header(ep, text, len, err);
        }
        text += len + (text[len] == '\n');
    }
    return rc;
}

static int add_file(struct hl_http_ep *ep, const char *path,
                    struct hl_error *err)
{
    FILE *f = fopen(path, "re");
    char *text = hl_malloc(HEADER_FILE_MAX + 1);
    size_t n = f && text ? fread(text, 1, HEADER_FILE_MAX + 1, f) : 0;
    int rc;

    if (!f)
        rc = hl_err(err, HAUL_E_READ, errno, "cannot read headers from '%s'",
                    path);
    else if (!text)
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    else if (ferror(f))
        rc = hl_err(err, HAUL_E_READ, EIO, "cannot read headers from '%s'",
                    path);
    else if (n > HEADER_FILE_MAX || memchr(text, '\0', n))
        rc = hl_err(err, HAUL_E_INVAL, 0, "'%s' is no list of headers", path);
    else
        rc = add_lines(ep, text, false, err);
    if (f)
        fclose(f);
    if (text)
        explicit_bzero(text, HEADER_FILE_MAX + 1);
    hl_free(text);
    return rc;
}

static int check_file(const char *path, const char *option,
                      struct hl_error *err)
{
    if (!path || access(path, R_OK) == 0)
        return 0;
    hl_err(err, HAUL_E_READ, errno, "cannot read '%s'", path);
    return hl_err_hint(err, "--%s names it.", option);
}

/* The schemes that libcurl knows; none is http. */
static int check_proxy(const char *proxy, struct hl_error *err)
{
    static const char *const schemes[] = {"http",    "https",  "socks4",
                                          "socks4a", "socks5", "socks5h"};
    const char *colon = proxy ? strstr(proxy, "://") : NULL;

    /* Something else before it may be a password. */
    if (!colon || strspn(proxy, "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.") !=
                      (size_t)(colon - proxy))
        return 0;
    for (size_t i = 0; i < HL_LEN(schemes); i++)
        if (strlen(schemes[i]) == (size_t)(colon - proxy) &&
            !strncasecmp(proxy, schemes[i], strlen(schemes[i])))
            return 0;
    hl_err(err, HAUL_E_INVAL, 0, "'%.*s' is no scheme of a proxy",
           (int)hl_min((size_t)(colon - proxy), 64), proxy);
    return hl_err_hint(err, "http, https, socks4, socks4a, socks5 and "
                            "socks5h are.");
}

static int copy_option(const struct hl_env *env, int id, char **out,
                       struct hl_error *err)
{
    const char *value = hl_opts_str(env->opts, id);

    *out = hl_strdup(value);
    if (value && !*out)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    return 0;
}

static int read_options(struct hl_http_ep *ep, struct hl_error *err)
{
    const struct hl_env *env = ep->base.env;
    int64_t connections = hl_opts_i64(env->opts, HAUL_OPT_CONNECTIONS);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const char *headers;

    ep->loop_max =
        (uint32_t)hl_min(cores > 0 ? (uint64_t)cores : 1, HL_HTTP_LOOPS_MAX);
    if (connections > 0)
        ep->loop_max = (uint32_t)hl_min(ep->loop_max, (uint64_t)connections);
    ep->stall_ns =
        (uint64_t)hl_opts_i64(env->opts, HAUL_OPT_STALL_TIMEOUT) * HL_NS_PER_S;
    if (copy_option(env, HAUL_OPT_CACERT, &ep->cacert, err) ||
        copy_option(env, HAUL_OPT_CERT, &ep->cert, err) ||
        copy_option(env, HAUL_OPT_KEY, &ep->key, err) ||
        copy_option(env, HAUL_OPT_PROXY, &ep->proxy, err) ||
        copy_option(env, HAUL_OPT_UNIX_SOCKET, &ep->unix_socket, err) ||
        check_file(ep->cacert, "cacert", err) ||
        check_file(ep->cert, "cert", err) || check_file(ep->key, "key", err) ||
        check_proxy(ep->proxy, err))
        return err->code;
    headers = hl_opts_str(env->opts, HAUL_OPT_HEADER);
    return headers ? add_lines(ep, headers, true, err) : 0;
}

/* ---- Endpoints ---------------------------------------------------------- */

static void lock_share(CURL *curl, curl_lock_data data, curl_lock_access access,
                       void *user)
{
    struct hl_http_ep *ep = user;

    (void)curl;
    (void)access;
    pthread_mutex_lock(&ep->share_locks[data]);
}

static void unlock_share(CURL *curl, curl_lock_data data, void *user)
{
    struct hl_http_ep *ep = user;

    (void)curl;
    pthread_mutex_unlock(&ep->share_locks[data]);
}

static int make_share(struct hl_http_ep *ep, struct hl_error *err)
{
    ep->share = curl_share_init();
    if (!ep->share)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    curl_share_setopt(ep->share, CURLSHOPT_LOCKFUNC, lock_share);
    curl_share_setopt(ep->share, CURLSHOPT_UNLOCKFUNC, unlock_share);
    curl_share_setopt(ep->share, CURLSHOPT_USERDATA, ep);
    curl_share_setopt(ep->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
    curl_share_setopt(ep->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    return 0;
}

static void warn_of_plain(const struct hl_http_ep *ep)
{
    struct hl_error w = {0};

    if (ep->tls || ep->unix_socket)
        return;
    hl_err(&w, HAUL_E_TLS, 0,
           "'%s' is not encrypted: who is on the way can read and change "
           "the bytes",
           ep->origin);
    hl_err_hint(&w, "Use https:// where the server has it.");
    ep->base.env->warn(ep->base.env, &w);
}

struct hl_http_ep *hl_http_ep_new(const struct hl_env *env,
                                  const struct hl_url *url,
                                  struct hl_error *err)
{
    struct hl_http_ep *ep = hl_malloc(sizeof(*ep));

    pthread_once(&once, init_curl);
    if (!ep) {
        hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
        return NULL;
    }
    ep->base.env = env;
    pthread_mutex_init(&ep->lock, NULL);
    for (size_t i = 0; i < HL_LEN(ep->share_locks); i++)
        pthread_mutex_init(&ep->share_locks[i], NULL);
    ep->tls = !strcmp(base_scheme(url), "https");
    ep->origin = make_origin(url);
    ep->user = hl_strdup(url->user);
    ep->password = hl_strdup(url->password);
    if (!ep->origin || (url->user && !ep->user) ||
        (url->password && !ep->password))
        hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    else if (!read_options(ep, err))
        make_share(ep, err);
    if (!ep->share) {
        hl_http_ep_free(ep);
        return NULL;
    }
    warn_of_plain(ep);
    return ep;
}

void hl_http_ep_free(struct hl_http_ep *ep)
{
    if (!ep)
        return;
    for (size_t i = 0; i < HL_LEN(ep->loops); i++)
        hl_http_loop_free(ep->loops[i]);
    if (ep->share)
        curl_share_cleanup(ep->share);
    for (size_t i = 0; i < HL_LEN(ep->share_locks); i++)
        pthread_mutex_destroy(&ep->share_locks[i]);
    pthread_mutex_destroy(&ep->lock);
    for (size_t i = 0; i < ep->header_count; i++)
        hl_free_secret(ep->headers[i]);
    hl_free(ep->headers);
    hl_free(ep->origin);
    hl_free(ep->user);
    hl_free_secret(ep->password);
    hl_free(ep->cacert);
    hl_free(ep->cert);
    hl_free(ep->key);
    hl_free_secret(ep->proxy);
    hl_free(ep->unix_socket);
    hl_free(ep);
}

bool hl_http_ep_sets(const struct hl_http_ep *ep, const char *name)
{
    for (size_t i = 0; i < ep->header_count; i++)
        if (hl_http_is_field(ep->headers[i], name))
            return true;
    return false;
}

static int endpoint_new(const struct hl_env *env, const struct hl_url *url,
                        struct hl_endpoint **out, struct hl_error *err)
{
    struct hl_http_ep *ep = hl_http_ep_new(env, url, err);

    if (!ep)
        return err->code;
    ep->base.driver = &hl_driver_http;
    *out = &ep->base;
    return 0;
}

static struct hl_http_ep *ep_of(struct hl_endpoint *ep)
{
    return HL_CONTAINER(ep, struct hl_http_ep, base);
}

static void endpoint_free(struct hl_endpoint *ep)
{
    hl_http_ep_free(ep_of(ep));
}

static void flow(struct hl_endpoint *base, struct hl_flow *out)
{
    struct hl_http_ep *ep = ep_of(base);

    pthread_mutex_lock(&ep->lock);
    *out = ep->flow;
    pthread_mutex_unlock(&ep->lock);
}

/* ---- Objects ------------------------------------------------------------ */

static struct hl_http_obj *obj_of(struct hl_object *obj)
{
    return HL_CONTAINER(obj, struct hl_http_obj, base);
}

static void close_object(struct hl_object *base)
{
    struct hl_http_obj *obj = obj_of(base);

    hl_http_source_free(obj->source);
    hl_http_upload_free(obj->upload);
    hl_free(obj->speaks);
    hl_free_secret(obj->url); /* its query may be a credential */
    hl_free(obj->display);
    hl_free(obj);
}

static int object_new(struct hl_endpoint *ep, const struct hl_url *url,
                      enum hl_role role, struct hl_object **out,
                      struct hl_error *err)
{
    struct hl_http_obj *obj;

    if (role == HL_ROLE_SOURCE && strchr(url->scheme, '+')) {
        hl_err(err, HAUL_E_INVAL, 0, "'%s://' names a target, not a source",
               url->scheme);
        return hl_err_hint(err, "Read from %s://.", base_scheme(url));
    }
    if (role == HL_ROLE_TARGET && way_of(url) != HL_HTTP_PUT &&
        hl_opts_i64(ep->env->opts, HAUL_OPT_RANGED)) {
        hl_err(err, HAUL_E_INVAL, 0, "--ranged is for put+%s://",
               base_scheme(url));
        return hl_err_hint(err, "Other ways find out by themselves what the "
                                "server can.");
    }
    obj = hl_malloc(sizeof(*obj));
    if (!obj)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    obj->base.driver = &hl_driver_http;
    obj->base.endpoint = ep;
    obj->base.role = role;
    obj->ep = ep_of(ep);
    obj->way = way_of(url);
    obj->url =
        hl_asprintf("%s%s%s%s", obj->ep->origin, url->raw ? url->raw : "/",
                    url->query ? "?" : "", url->query ? url->query : "");
    obj->display = hl_url_display(url);
    if (!obj->url || !obj->display) {
        close_object(&obj->base);
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    *out = &obj->base;
    return 0;
}

static bool is_source(const struct hl_object *obj)
{
    return obj->role == HL_ROLE_SOURCE;
}

static void stat_object(struct hl_object *obj, struct hl_stat *op)
{
    /* Every range that was read had the validator: the bytes are of one
     * version, whatever stands there now. */
    if (is_source(obj))
        hl_op_finish(obj->endpoint->env->loop, &op->op, HAUL_E_NOTSUP);
    else
        hl_http_target_stat(obj_of(obj), op);
}

static void open_object(struct hl_object *obj, struct hl_open *op)
{
    if (is_source(obj))
        hl_http_source_open(obj_of(obj), op);
    else
        hl_http_target_open(obj_of(obj), op);
}

static void read_object(struct hl_object *obj, struct hl_io *op)
{
    if (is_source(obj))
        hl_http_source_read(obj_of(obj), op);
    else
        hl_op_finish(obj->endpoint->env->loop, &op->op, HAUL_E_NOTSUP);
}

static void write_object(struct hl_object *obj, struct hl_io *op)
{
    hl_http_upload_write(obj_of(obj), op);
}

static void commit_object(struct hl_object *obj, struct hl_commit *op)
{
    hl_http_upload_commit(obj_of(obj), op);
}

static void discard(struct hl_object *obj, const char *token, struct hl_op *op)
{
    hl_http_target_discard(obj_of(obj), token, op);
}

static void token_saved(struct hl_object *obj, int rc)
{
    hl_http_upload_token_saved(obj_of(obj), rc);
}

static void note_saved(struct hl_object *obj, uint64_t part, int rc)
{
    hl_http_upload_note_saved(obj_of(obj), part, rc);
}

static void abort_object(struct hl_object *obj, struct hl_op *op)
{
    if (is_source(obj))
        hl_http_source_abort(obj_of(obj), op);
    else
        hl_http_target_abort(obj_of(obj), op);
}

static void unstall_object(struct hl_object *obj)
{
    if (is_source(obj))
        hl_http_source_unstall(obj_of(obj));
    else
        hl_http_upload_unstall(obj_of(obj));
}

static void set_streams(struct hl_object *obj, uint32_t streams)
{
    if (is_source(obj))
        hl_http_source_set_streams(obj_of(obj), streams);
}

static const struct hl_answer *answer(struct hl_object *obj)
{
    return is_source(obj) ? NULL : hl_http_upload_answer(obj_of(obj));
}

static const char *const schemes[] = {"https",     "http",       "put+https",
                                      "put+http",  "post+https", "post+http",
                                      "tus+https", "tus+http",   NULL};

const struct hl_driver hl_driver_http = {
    .name = "http",
    .schemes = schemes,
    .endpoint_new = endpoint_new,
    .endpoint_free = endpoint_free,
    .object_new = object_new,
    .close = close_object,
    .stat = stat_object,
    .open = open_object,
    .read = read_object,
    .write = write_object,
    .commit = commit_object,
    .discard = discard,
    .token_saved = token_saved,
    .note_saved = note_saved,
    .abort = abort_object,
    .unstall = unstall_object,
    .set_streams = set_streams,
    .answer = answer,
    .flow = flow,
};
