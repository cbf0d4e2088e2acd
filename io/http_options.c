/*
 * Options of a handle: the way to the server, TLS, login, method, headers.
 * Loop's thread.
 */
#include <openssl/ssl.h>
#include <string.h>
#include <strings.h>

#include "http_private.h"

#define CONNECT_MS 30000L

/* Each buffer that OpenSSL frees when a connection is idle for a moment is
 * asked for again with the next record (curl 8.8 stopped it too). */
static CURLcode on_tls(CURL *curl, void *context, void *user)
{
    (void)curl;
    (void)user;
    SSL_CTX_clear_mode(context, SSL_MODE_RELEASE_BUFFERS);
    return CURLE_OK;
}

/* All of TLS 1.3, the fastest here first: AES-128 needs three quarters of the
 * time of AES-256, which OpenSSL prefers, and a processor without AES is at its
 * best with ChaCha20. A server that insists on another gets that. */
static const char *ciphers(void)
{
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("aes"))
        return "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:"
               "TLS_AES_256_GCM_SHA384";
#endif
    return "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
           "TLS_CHACHA20_POLY1305_SHA256";
}

static void set_tls(struct hl_http_easy *e)
{
    struct hl_http_ep *ep = e->req->ep;
    CURL *c = e->curl;

    curl_easy_setopt(c, CURLOPT_SSL_CTX_FUNCTION, on_tls);
    curl_easy_setopt(c, CURLOPT_TLS13_CIPHERS, ciphers());
    if (ep->cacert) {
        curl_easy_setopt(c, CURLOPT_CAINFO, ep->cacert);
        curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
        curl_easy_setopt(c, CURLOPT_PROXY_CAINFO, ep->cacert);
        curl_easy_setopt(c, CURLOPT_PROXY_CAPATH, NULL);
    }
    if (ep->cert && !e->req->foreign) {
        curl_easy_setopt(c, CURLOPT_SSLCERT, ep->cert);
        curl_easy_setopt(c, CURLOPT_SSLKEY, ep->key ? ep->key : ep->cert);
    }
}

/* Credentials are the endpoint's and go nowhere else. */
static void set_login(struct hl_http_easy *e)
{
    struct hl_http_ep *ep = e->req->ep;

    e->sent_secret = false;
    if (e->req->foreign)
        return;
    curl_easy_setopt(e->curl, CURLOPT_NETRC, (long)CURL_NETRC_OPTIONAL);
    if (!ep->user)
        return;
    curl_easy_setopt(e->curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
    curl_easy_setopt(e->curl, CURLOPT_USERNAME, ep->user);
    pthread_mutex_lock(&ep->lock);
    if (ep->password) {
        curl_easy_setopt(e->curl, CURLOPT_PASSWORD, ep->password);
        e->sent_secret = true;
    }
    pthread_mutex_unlock(&ep->lock);
}

static void set_network(struct hl_http_easy *e)
{
    struct hl_http_ep *ep = e->req->ep;
    CURL *c = e->curl;

    if (ep->proxy)
        curl_easy_setopt(c, CURLOPT_PROXY, ep->proxy);
    curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (ep->unix_socket && !e->req->foreign)
        curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, ep->unix_socket);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPIDLE, 30L);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPINTVL, 15L);
    /* Below the keep-alive time of common servers (nginx: 75 s). */
    curl_easy_setopt(c, CURLOPT_MAXAGE_CONN, 60L);
    curl_easy_setopt(c, CURLOPT_FRESH_CONNECT,
                     e->fresh || e->req->once ? 1L : 0L);
    curl_easy_setopt(c, CURLOPT_SHARE, ep->share);
}

static void set_method(struct hl_http_easy *e)
{
    struct hl_http_request *req = e->req;
    CURL *c = e->curl;

    if (req->handler->send) {
        curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE,
                         req->body_len == HL_SIZE_UNKNOWN
                             ? (curl_off_t)-1
                             : (curl_off_t)req->body_len);
        curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, HL_HTTP_UPLOAD_BUFFER);
    } else if (!strcmp(req->method, "HEAD")) {
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
        return;
    }
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, req->method);
}

static bool add_header(struct curl_slist **list, const char *line)
{
    struct curl_slist *more = curl_slist_append(*list, line);

    if (more)
        *list = more;
    return more;
}

int hl_http_request_add(struct hl_http_request *req, const char *line)
{
    return add_header(&req->headers, line) ? 0 : HAUL_E_NOMEM;
}

void hl_http_request_clear(struct hl_http_request *req)
{
    curl_slist_free_all(req->headers);
    req->headers = NULL;
}

/* A header of the user's or the request's own wins over ours of that name. */
static bool has_header(const struct curl_slist *list, const char *name)
{
    while (list && !hl_http_is_field(list->data, name))
        list = list->next;
    return list;
}

/* What a request says of itself and that another origin may know; the rest may
 * be a credential. */
static bool is_neutral(const char *line)
{
    static const char *const names[] = {"Accept",
                                        "Connection",
                                        "Content-Range",
                                        "Content-Type",
                                        "If-None-Match",
                                        "If-Range",
                                        "Range",
                                        "Tus-Resumable",
                                        "Upload-Checksum",
                                        "Upload-Complete",
                                        "Upload-Draft-Interop-Version",
                                        "Upload-Incomplete",
                                        "Upload-Length",
                                        "Upload-Offset",
                                        "Want-Repr-Digest",
                                        "X-HTTP-Method-Override",
                                        NULL};

    return hl_http_is_one_of(line, names);
}

static int set_headers(struct hl_http_easy *e)
{
    struct hl_http_request *req = e->req;
    const struct hl_http_ep *ep = req->ep;
    struct curl_slist *own = req->headers;
    bool ok = true;
    int rc = 0;

    curl_slist_free_all(e->headers);
    e->headers = NULL;
    for (; own; own = own->next)
        if (!req->foreign || is_neutral(own->data))
            ok = ok && add_header(&e->headers, own->data);
    for (size_t i = 0; i < ep->header_count && !req->foreign; i++)
        ok = ok && add_header(&e->headers, ep->headers[i]);
    /* Bytes are wanted as they are stored: lengths, ranges and digests are
     * those of the stored form. */
    if (!has_header(e->headers, "Accept-Encoding"))
        ok = ok && add_header(&e->headers, "Accept-Encoding: identity");
    if (!has_header(e->headers, "User-Agent"))
        ok = ok && add_header(&e->headers, "User-Agent: haul");
    if (req->handler->send)
        ok = ok && add_header(&e->headers,
                              req->expect ? "Expect: 100-continue" : "Expect:");
    if (ok && ep->authorize && !req->foreign)
        rc = ep->authorize(req, &e->headers, &req->error);
    if (has_header(e->headers, "Authorization"))
        e->sent_secret = true;
    curl_easy_setopt(e->curl, CURLOPT_HTTPHEADER, e->headers);
    return ok ? rc : HAUL_E_NOMEM;
}

int hl_http_easy_set_options(struct hl_http_easy *e)
{
    CURL *c = e->curl;

    curl_easy_setopt(c, CURLOPT_PRIVATE, e);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, e->text);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    /* Who cancels does not wait for a name server. */
    curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, HL_HTTP_RECEIVE_BUFFER);
    set_network(e);
    set_tls(e);
    set_login(e);
    set_method(e);
    if (curl_easy_setopt(c, CURLOPT_URL, e->req->url) != CURLE_OK)
        return HAUL_E_NOMEM;
    return set_headers(e);
}
