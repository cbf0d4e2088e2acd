/*
 * The S3 driver: endpoints from options and credentials, objects, the table of
 * slots. Engine thread; requests run on the threads of the HTTP loops.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "drivers.h"
#include "opts.h"
#include "s3_private.h"

/* ---- Where the bucket is ------------------------------------------------ */

static bool ends_with(const char *s, const char *end)
{
    size_t a = strlen(s), b = strlen(end);

    return a >= b && !strcasecmp(s + a - b, end);
}

static bool is_amazon(const char *host)
{
    return ends_with(host, ".amazonaws.com") ||
           ends_with(host, ".amazonaws.com.cn");
}

/* Can the bucket's name be the first label of a host, below a certificate for
 * '*.' (RFC 1035 2.3.1)? */
static bool is_label(const char *bucket)
{
    size_t len = strlen(bucket);

    return len <= 63 &&
           strspn(bucket, "abcdefghijklmnopqrstuvwxyz0123456789-") == len &&
           bucket[0] != '-' && bucket[len - 1] != '-';
}

/* Google's and Amazon's have a host for each bucket; of others nobody knows. */
static bool is_virtual(const struct hl_env *env, const char *host,
                       const char *bucket)
{
    const char *how = hl_opts_str(env->opts, HAUL_OPT_ADDRESSING);

    if (how && !strcmp(how, "virtual"))
        return true;
    if (how && !strcmp(how, "path"))
        return false;
    return (is_amazon(host) || !strcasecmp(host, "storage.googleapis.com")) &&
           is_label(bucket);
}

static int bad_endpoint(struct hl_error *err)
{
    hl_err_clear(err); /* the text may have a password */
    hl_err(err, HAUL_E_INVAL, 0, "the endpoint is no URL of a service");
    return hl_err_hint(err, "--endpoint https://HOST[:PORT], without user, "
                            "password or query.");
}

static int parse_endpoint(const struct hl_s3_config *config, struct hl_url *out,
                          struct hl_error *err)
{
    const char *text = config->endpoint;
    char *amazon;
    int rc;

    if (!text) {
        bool china = !strncmp(config->region, "cn-", 3);

        amazon = hl_asprintf("https://s3.%s.amazonaws.com%s", config->region,
                             china ? ".cn" : "");
        rc = amazon ? hl_url_parse(amazon, out, err)
                    : hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
        hl_free(amazon);
        return rc;
    }
    rc = hl_url_parse(text, out, err);
    if (rc == HAUL_E_NOMEM)
        return rc;
    if (rc)
        return bad_endpoint(err);
    if ((!strcmp(out->scheme, "https") || !strcmp(out->scheme, "http")) &&
        !out->user && !out->password && !out->query)
        return 0;
    hl_url_fini(out);
    return bad_endpoint(err);
}

/* Makes service the URL of what requests for the bucket go to. */
static int address_bucket(struct hl_s3_ep *s3, const struct hl_env *env,
                          struct hl_url *service, struct hl_error *err)
{
    char *host;

    s3->amazon = is_amazon(service->host);
    s3->equal = ends_with(service->host, ".r2.cloudflarestorage.com");
    if (!is_virtual(env, service->host, s3->bucket))
        return hl_url_append(service, s3->bucket)
                   ? hl_err(err, HAUL_E_NOMEM, 0, "out of memory")
                   : 0;
    host = hl_asprintf("%s.%s", s3->bucket, service->host);
    if (!host)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    hl_free(service->host);
    service->host = host;
    return 0;
}

/* ---- Headers of the user ------------------------------------------------ */

/* Says a field what the object is to be like? Parts must not have it, and
 * nothing else needs it. The rest goes with every request. */
static bool is_of_object(const char *line)
{
    static const char *const every[] = {
        "x-amz-request-payer",
        "x-amz-expected-bucket-owner",
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-server-side-encryption-customer-key",
        "x-amz-server-side-encryption-customer-key-md5",
        NULL};
    static const char *const some[] = {"Cache-Control",
                                       "Content-Type",
                                       "Content-Disposition",
                                       "Content-Encoding",
                                       "Content-Language",
                                       "Expires",
                                       NULL};

    if (!strncasecmp(line, "x-amz-", 6))
        return !hl_http_is_one_of(line, every);
    return hl_http_is_one_of(line, some);
}

static int take_headers(struct hl_s3_ep *s3, struct hl_error *err)
{
    struct hl_http_ep *http = s3->http;
    size_t kept = 0;

    if (!http->header_count)
        return 0;
    s3->creating = hl_calloc(http->header_count, sizeof(*s3->creating));
    if (!s3->creating)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    for (size_t i = 0; i < http->header_count; i++)
        if (is_of_object(http->headers[i]))
            s3->creating[s3->creating_count++] = http->headers[i];
        else
            http->headers[kept++] = http->headers[i];
    http->header_count = kept;
    if (s3->creating_count > HL_S3_HEADERS_MAX - 4)
        return hl_err(err, HAUL_E_INVAL, 0, "more than %d headers of objects",
                      HL_S3_HEADERS_MAX - 4);
    return 0;
}

/* ---- Endpoints ---------------------------------------------------------- */

static void s3_free(struct hl_s3_ep *s3)
{
    hl_http_ep_free(s3->http);
    for (size_t i = 0; i < s3->creating_count; i++)
        hl_free_secret(s3->creating[i]);
    hl_free(s3->creating);
    hl_s3_config_fini(&s3->config);
    hl_free(s3->bucket);
    hl_free(s3->root);
    hl_free(s3);
}

static int load_config(struct hl_s3_ep *s3, const struct hl_env *env,
                       struct hl_error *err)
{
    struct hl_s3_asked asked = {
        .credentials = hl_opts_str(env->opts, HAUL_OPT_CREDENTIALS),
        .profile = hl_opts_str(env->opts, HAUL_OPT_PROFILE),
        .region = hl_opts_str(env->opts, HAUL_OPT_REGION),
        .endpoint = hl_opts_str(env->opts, HAUL_OPT_ENDPOINT),
    };
    int rc = hl_s3_config_load(&asked, NULL, NULL, &s3->config, err);

    s3->who = (struct hl_s3_signer){.id = s3->config.id,
                                    .secret = s3->config.secret,
                                    .token = s3->config.token,
                                    .region = s3->config.region,
                                    .service = "s3"};
    return rc;
}

static int make_root(struct hl_s3_ep *s3, const struct hl_url *service)
{
    char *path = hl_s3_encode_path(service->path);
    size_t len = path ? strlen(path) : 0;

    while (len && path[len - 1] == '/')
        path[--len] = '\0';
    if (path)
        s3->root = hl_asprintf("%s%s", s3->http->origin, path);
    hl_free(path);
    return s3->root ? 0 : HAUL_E_NOMEM;
}

static int connect_to(struct hl_s3_ep *s3, const struct hl_env *env,
                      struct hl_error *err)
{
    struct hl_url service;
    int rc = parse_endpoint(&s3->config, &service, err);

    if (rc)
        return rc;
    rc = address_bucket(s3, env, &service, err);
    if (!rc) {
        s3->http = hl_http_ep_new(env, &service, err);
        rc = s3->http ? 0 : err->code;
    }
    if (!rc && make_root(s3, &service))
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    hl_url_fini(&service);
    return rc;
}

static int endpoint_new(const struct hl_env *env, const struct hl_url *url,
                        struct hl_endpoint **out, struct hl_error *err)
{
    struct hl_s3_ep *s3 = hl_malloc(sizeof(*s3));
    int rc;

    if (!s3)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    s3->bucket = hl_strdup(url->host);
    rc = s3->bucket ? load_config(s3, env, err)
                    : hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    if (!rc)
        rc = connect_to(s3, env, err);
    if (!rc)
        rc = take_headers(s3, err);
    if (rc) {
        s3_free(s3);
        return rc;
    }
    s3->http->base.driver = &hl_driver_s3;
    s3->http->authorize_user = s3;
    s3->http->authorize = hl_s3_authorize;
    HL_INFO(env->log, HL_AREA_NET, "S3 at %s, region %s, keys from %s",
            s3->root, s3->config.region, s3->config.from);
    *out = &s3->http->base;
    return 0;
}

static struct hl_http_ep *http_of(struct hl_endpoint *ep)
{
    return HL_CONTAINER(ep, struct hl_http_ep, base);
}

static void endpoint_free(struct hl_endpoint *ep)
{
    s3_free(hl_s3_of(http_of(ep)));
}

static void flow(struct hl_endpoint *ep, struct hl_flow *out)
{
    struct hl_http_ep *http = http_of(ep);

    pthread_mutex_lock(&http->lock);
    *out = http->flow;
    pthread_mutex_unlock(&http->lock);
}

/* ---- Objects ------------------------------------------------------------ */

static struct hl_s3_obj *s3_obj(struct hl_object *obj)
{
    return HL_CONTAINER(obj, struct hl_s3_obj, http.base);
}

static struct hl_http_obj *http_obj(struct hl_object *obj)
{
    return HL_CONTAINER(obj, struct hl_http_obj, base);
}

static bool is_source(const struct hl_object *obj)
{
    return obj->role == HL_ROLE_SOURCE;
}

static void close_object(struct hl_object *base)
{
    struct hl_s3_obj *obj = s3_obj(base);

    hl_s3_source_free(obj->source);
    hl_http_source_free(obj->http.source);
    hl_http_upload_free(obj->http.upload);
    hl_free(obj->http.url);
    hl_free(obj->http.display);
    hl_free(obj);
}

/* The path is "/" and the key, with its own slashes. */
static int set_names(struct hl_s3_obj *obj, const struct hl_url *url,
                     struct hl_error *err)
{
    char *path = hl_s3_encode_path(url->path);

    if (path)
        obj->http.url = hl_asprintf("%s%s", hl_s3_of(obj->http.ep)->root, path);
    hl_free(path);
    obj->http.display = hl_url_display(url);
    if (!obj->http.url || !obj->http.display)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    return 0;
}

static int object_new(struct hl_endpoint *ep, const struct hl_url *url,
                      enum hl_role role, struct hl_object **out,
                      struct hl_error *err)
{
    struct hl_s3_obj *obj;
    int rc;

    if (role == HL_ROLE_SOURCE && !hl_url_basename(url)[0]) {
        hl_err(err, HAUL_E_INVAL, 0, "'s3://%s%s' names no object", url->host,
               url->path);
        return hl_err_hint(err, "s3://BUCKET/KEY does.");
    }
    obj = hl_malloc(sizeof(*obj));
    if (!obj)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    obj->http.base.driver = &hl_driver_s3;
    obj->http.base.endpoint = ep;
    obj->http.base.role = role;
    obj->http.ep = http_of(ep);
    rc = set_names(obj, url, err);
    if (!rc && role == HL_ROLE_TARGET)
        rc = hl_http_upload_new(&obj->http, &hl_s3_protocol, err);
    if (rc) {
        close_object(&obj->http.base);
        return rc;
    }
    *out = &obj->http.base;
    return 0;
}

static void refuse(struct hl_object *obj, struct hl_op *op)
{
    hl_op_finish(obj->endpoint->env->loop, op, HAUL_E_NOTSUP);
}

/* ---- Slots -------------------------------------------------------------- */

/* Of a source: every range that was read had the ETag, so the bytes are of one
 * version, whatever stands there now. */
static void stat_object(struct hl_object *obj, struct hl_stat *op)
{
    if (is_source(obj))
        refuse(obj, &op->op);
    else
        hl_http_upload_stat(http_obj(obj), op);
}

static void open_object(struct hl_object *obj, struct hl_open *op)
{
    if (is_source(obj))
        hl_s3_source_open(s3_obj(obj), op);
    else
        hl_http_upload_open(http_obj(obj), op);
}

static void read_object(struct hl_object *obj, struct hl_io *op)
{
    if (is_source(obj))
        hl_http_source_read(http_obj(obj), op);
    else
        refuse(obj, &op->op);
}

static void write_object(struct hl_object *obj, struct hl_io *op)
{
    hl_http_upload_write(http_obj(obj), op);
}

static void commit_object(struct hl_object *obj, struct hl_commit *op)
{
    hl_http_upload_commit(http_obj(obj), op);
}

static void discard_object(struct hl_object *obj, const char *token,
                           struct hl_op *op)
{
    hl_http_upload_discard(http_obj(obj), token, op);
}

static void token_saved(struct hl_object *obj, int rc)
{
    hl_http_upload_token_saved(http_obj(obj), rc);
}

static void abort_object(struct hl_object *obj, struct hl_op *op)
{
    if (is_source(obj))
        hl_s3_source_abort(s3_obj(obj), op);
    else
        hl_http_upload_abort(http_obj(obj), op);
}

static void unstall_object(struct hl_object *obj)
{
    if (is_source(obj))
        hl_s3_source_unstall(s3_obj(obj));
    else
        hl_http_upload_unstall(http_obj(obj));
}

static void set_streams(struct hl_object *obj, uint32_t streams)
{
    if (is_source(obj))
        hl_http_source_set_streams(http_obj(obj), streams);
}

static const char *const schemes[] = {"s3", NULL};

const struct hl_driver hl_driver_s3 = {
    .name = "s3",
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
    .discard = discard_object,
    .token_saved = token_saved,
    .abort = abort_object,
    .unstall = unstall_object,
    .set_streams = set_streams,
    .flow = flow,
};
