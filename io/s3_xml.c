/*
 * The XML of S3, read with libxml2's SAX interface: nothing is kept but what
 * is asked for, and no tree is made. Pure, any thread.
 *
 * libxml2 gets no DTD (the callback for one ends the parse), no entities but
 * the five of XML, no files, no network, and UTF-8 whatever the declaration
 * says. Its own limits (no XML_PARSE_HUGE) stand behind ours.
 */
#include <libxml/parserInternals.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "s3_xml.h"

#define OPTIONS                                                                \
    (XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |               \
     XML_PARSE_IGNORE_ENC)

#define CHECKSUM "Checksum"

static const char *const roots[] = {
    [HL_S3_ERROR] = "Error",
    [HL_S3_INITIATE] = "InitiateMultipartUploadResult",
    [HL_S3_PARTS] = "ListPartsResult",
    [HL_S3_UPLOADS] = "ListMultipartUploadsResult",
    [HL_S3_COMPLETE] = "CompleteMultipartUploadResult",
};

/* Texts of elements, until their document or item is complete. */
enum text {
    TEXT_NONE,
    TEXT_CHECKSUM, /* not one of them: a list */
    TEXT_UPLOAD_ID,
    TEXT_KEY,
    TEXT_NUMBER,
    TEXT_SIZE,
    TEXT_ETAG,
    TEXT_TRUNCATED,
    TEXT_NEXT_PART,
    TEXT_NEXT_KEY,
    TEXT_NEXT_ID,
    TEXT_ALGORITHM,
    TEXT_TYPE,
    TEXT_CODE,
    TEXT_MESSAGE,
    TEXT_REQUEST_ID,
    TEXT_REGION,
    TEXT_ENDPOINT,
    TEXT_SERVER_TIME,
    TEXT_COUNT
};

static const struct {
    enum hl_s3_kind kind;
    bool in_item; /* of Part or Upload */
    const char *name;
    enum text text;
} elements[] = {
    {HL_S3_ERROR, false, "Code", TEXT_CODE},
    {HL_S3_ERROR, false, "Message", TEXT_MESSAGE},
    {HL_S3_ERROR, false, "RequestId", TEXT_REQUEST_ID},
    {HL_S3_ERROR, false, "Region", TEXT_REGION},
    {HL_S3_ERROR, false, "Endpoint", TEXT_ENDPOINT},
    {HL_S3_ERROR, false, "ServerTime", TEXT_SERVER_TIME},
    {HL_S3_INITIATE, false, "UploadId", TEXT_UPLOAD_ID},
    {HL_S3_PARTS, false, "IsTruncated", TEXT_TRUNCATED},
    {HL_S3_PARTS, false, "NextPartNumberMarker", TEXT_NEXT_PART},
    {HL_S3_PARTS, false, "ChecksumAlgorithm", TEXT_ALGORITHM},
    {HL_S3_PARTS, false, "ChecksumType", TEXT_TYPE},
    {HL_S3_PARTS, true, "PartNumber", TEXT_NUMBER},
    {HL_S3_PARTS, true, "Size", TEXT_SIZE},
    {HL_S3_PARTS, true, "ETag", TEXT_ETAG},
    {HL_S3_UPLOADS, false, "IsTruncated", TEXT_TRUNCATED},
    {HL_S3_UPLOADS, false, "NextKeyMarker", TEXT_NEXT_KEY},
    {HL_S3_UPLOADS, false, "NextUploadIdMarker", TEXT_NEXT_ID},
    {HL_S3_UPLOADS, true, "Key", TEXT_KEY},
    {HL_S3_UPLOADS, true, "UploadId", TEXT_UPLOAD_ID},
    {HL_S3_COMPLETE, false, "ETag", TEXT_ETAG},
    {HL_S3_COMPLETE, false, "ChecksumType", TEXT_TYPE},
};

struct reader {
    xmlParserCtxt *ctxt;
    struct hl_s3_document *doc;
    enum hl_s3_kind want;
    struct hl_error *err;
    int rc;
    size_t depth;   /* 1: the root */
    bool in_item;   /* in Part or Upload, which stand at depth 2 */
    enum text text; /* being read */
    size_t text_depth;
    char checksum[16]; /* its name, for TEXT_CHECKSUM */
    char buf[HL_S3_TEXT_MAX + 1];
    size_t len;
    char *texts[TEXT_COUNT];
    struct hl_s3_checksums checksums;
    size_t room; /* of the document's array */
};

static void checksums_fini(struct hl_s3_checksums *c)
{
    while (c->count)
        hl_free(c->item[--c->count].value);
}

void hl_s3_document_fini(struct hl_s3_document *doc)
{
    struct hl_s3_error *e = &doc->error;
    char *const texts[] = {doc->upload_id,
                           doc->next_key,
                           doc->next_upload_id,
                           doc->checksum_algorithm,
                           doc->checksum_type,
                           doc->etag,
                           e->code,
                           e->message,
                           e->request_id,
                           e->region,
                           e->endpoint,

                           e->server_time};
    size_t i;

    for (i = 0; i < HL_LEN(texts); i++)
        hl_free(texts[i]);
    for (i = 0; i < doc->part_count; i++) {
        hl_free(doc->parts[i].etag);
        checksums_fini(&doc->parts[i].checksums);
    }
    for (i = 0; i < doc->upload_count; i++) {
        hl_free(doc->uploads[i].key);
        hl_free(doc->uploads[i].id);
    }
    hl_free(doc->parts);
    hl_free(doc->uploads);
    checksums_fini(&doc->checksums);
    memset(doc, 0, sizeof(*doc));
}

/* ---- Refusals ----------------------------------------------------------- */

/* The document is none; what: what came. */
static int refuse(struct reader *r, const char *what)
{
    hl_err(r->err, HAUL_E_PROTO, 0, "the S3 server sent %s instead of '%s'",
           what, roots[r->want]);
    return hl_err_hint(r->err, "Check --endpoint: another service, or one "
                               "between, may answer there.");
}

/* The document is broken or hostile; ends the parse. */
static void stop(struct reader *r, const char *what)
{
    if (r->rc)
        return;
    r->rc = hl_err(r->err, HAUL_E_PROTO, 0,
                   "the answer '%s' of the S3 server %s", roots[r->want], what);
    xmlStopParser(r->ctxt);
}

static void stop_memory(struct reader *r)
{
    if (r->rc)
        return;
    r->rc = hl_err(r->err, HAUL_E_NOMEM, 0, "out of memory");
    xmlStopParser(r->ctxt);
}

static char *take_text(struct reader *r, enum text text)
{
    char *s = r->texts[text];

    r->texts[text] = NULL;
    return s;
}

/* ---- Items -------------------------------------------------------------- */

/* The array with room for one more; NULL when out of memory. */
static void *grow(struct reader *r, void *array, size_t count, size_t size)
{
    size_t room = r->room ? r->room * 2 : 64;

    if (count < r->room)
        return array;
    array = hl_realloc(array, room * size);
    if (array)
        r->room = room;
    else
        stop_memory(r);
    return array;
}

static void end_part(struct reader *r)
{
    const char *number = r->texts[TEXT_NUMBER], *size = r->texts[TEXT_SIZE];
    struct hl_s3_document *doc = r->doc;
    struct hl_s3_part part = {0}, *parts;
    uint64_t n;

    if (!number || !size || !r->texts[TEXT_ETAG]) {
        stop(r, "has a part without number, size or ETag");
    } else if (!hl_http_number(number, &n) || n < 1 || n > HL_S3_PARTS_MAX ||
               !hl_http_number(size, &part.size)) {
        stop(r, "has a part with an impossible number or size");
    } else if ((parts = grow(r, doc->parts, doc->part_count, sizeof(part)))) {
        doc->parts = parts;
        part.number = (uint32_t)n;
        part.etag = take_text(r, TEXT_ETAG);
        part.checksums = r->checksums;
        r->checksums.count = 0;
        parts[doc->part_count++] = part;
    }
    hl_free(take_text(r, TEXT_NUMBER));
    hl_free(take_text(r, TEXT_SIZE));
}

static void end_upload(struct reader *r)
{
    struct hl_s3_document *doc = r->doc;
    struct hl_s3_upload upload, *uploads;

    if (!r->texts[TEXT_KEY] || !r->texts[TEXT_UPLOAD_ID]) {
        stop(r, "has an upload without key or id");
    } else if ((uploads =
                    grow(r, doc->uploads, doc->upload_count, sizeof(upload)))) {
        doc->uploads = uploads;
        upload.key = take_text(r, TEXT_KEY);
        upload.id = take_text(r, TEXT_UPLOAD_ID);
        uploads[doc->upload_count++] = upload;
    }
}

/* ---- Elements ----------------------------------------------------------- */

static bool is_name(const char *s)
{
    size_t len = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwx"
                           "yz0123456789");

    return len && !s[len];
}

/* "ChecksumCRC32C", where there may be one. */
static bool is_checksum(const struct reader *r, const char *name)
{
    bool place = r->doc->kind == HL_S3_COMPLETE ||
                 (r->doc->kind == HL_S3_PARTS && r->in_item);
    size_t len = sizeof(CHECKSUM) - 1;

    return place && strncmp(name, CHECKSUM, len) == 0 && is_name(name + len) &&
           strlen(name + len) < sizeof(r->checksum);
}

/* What to do with the text of an element. */
static enum text find_text(struct reader *r, const char *name)
{
    size_t i;

    for (i = 0; i < HL_LEN(elements); i++)
        if (elements[i].kind == r->doc->kind &&
            elements[i].in_item == r->in_item &&
            strcmp(elements[i].name, name) == 0)
            return elements[i].text;
    if (!is_checksum(r, name) || r->checksums.count == HL_S3_CHECKSUMS_MAX)
        return TEXT_NONE;
    snprintf(r->checksum, sizeof(r->checksum), "%s",
             name + sizeof(CHECKSUM) - 1);
    return TEXT_CHECKSUM;
}

static void begin_root(struct reader *r, const char *name)
{
    static const enum hl_s3_kind kinds[] = {HL_S3_ERROR, HL_S3_INITIATE,
                                            HL_S3_PARTS, HL_S3_UPLOADS,
                                            HL_S3_COMPLETE};
    char what[80];
    size_t i;

    for (i = 0; i < HL_LEN(kinds); i++) {
        if (strcmp(name, roots[kinds[i]]) != 0)
            continue;
        r->doc->kind = kinds[i];
        if (kinds[i] == r->want || kinds[i] == HL_S3_ERROR)
            return;
    }
    snprintf(what, sizeof(what), "'%.70s'", name);
    r->rc = refuse(r, strcasecmp(name, "html") == 0 ? "an HTML page" : what);
    xmlStopParser(r->ctxt);
}

/* Part or Upload. */
static bool begin_item(struct reader *r, const char *name)
{
    enum hl_s3_kind kind = r->doc->kind;

    if (!(kind == HL_S3_PARTS && strcmp(name, "Part") == 0) &&
        !(kind == HL_S3_UPLOADS && strcmp(name, "Upload") == 0))
        return false;
    if (r->doc->part_count + r->doc->upload_count == HL_S3_PARTS_MAX)
        stop(r, "has more parts or uploads than there can be");
    r->in_item = true;
    return true;
}

static void on_begin(void *ctx, const xmlChar *local, const xmlChar *prefix,
                     const xmlChar *uri, int ns_count, const xmlChar **ns,
                     int attr_count, int default_count, const xmlChar **attrs)
{
    const char *name = (const char *)local;
    struct reader *r = ctx;

    (void)prefix;
    (void)uri;
    (void)ns_count;
    (void)ns;
    (void)attr_count;
    (void)default_count;
    (void)attrs;
    if (r->rc)
        return;
    if (++r->depth > HL_S3_DEPTH_MAX) {
        stop(r, "is nested too deep");
    } else if (r->depth == 1) {
        begin_root(r, name);
    } else if (r->depth == (r->in_item ? 3 : 2) &&
               (r->in_item || !begin_item(r, name))) {
        r->text = find_text(r, name);
        r->text_depth = r->depth;
        r->len = 0;
    }
}

static void on_text(void *ctx, const xmlChar *text, int len)
{
    struct reader *r = ctx;
    size_t bytes = (size_t)len;

    if (r->rc || !r->text || r->depth != r->text_depth)
        return;
    if (bytes > HL_S3_TEXT_MAX - r->len) {
        if (r->doc->kind != HL_S3_ERROR) {
            stop(r, "has an element that is too long"); /* text is gone now */
            return;
        }
        bytes = HL_S3_TEXT_MAX - r->len; /* enough for people */
    }
    memcpy(r->buf + r->len, text, bytes);
    r->len += bytes;
}

static void end_text(struct reader *r)
{
    struct hl_s3_checksum *c = &r->checksums.item[r->checksums.count];
    char *copy;

    r->buf[r->len] = '\0';
    if (r->text != TEXT_CHECKSUM && r->texts[r->text]) {
        if (r->doc->kind != HL_S3_ERROR)
            stop(r, "has an element twice");
        return;
    }
    copy = hl_strdup(r->buf);
    if (!copy) {
        stop_memory(r);
    } else if (r->text == TEXT_CHECKSUM) {
        memcpy(c->name, r->checksum, sizeof(c->name));
        c->value = copy;
        r->checksums.count++;
    } else {
        r->texts[r->text] = copy;
    }
}

static void on_end(void *ctx, const xmlChar *local, const xmlChar *prefix,
                   const xmlChar *uri)
{
    struct reader *r = ctx;

    (void)local;
    (void)prefix;
    (void)uri;
    if (r->rc)
        return;
    if (r->text && r->depth == r->text_depth) {
        end_text(r);
        r->text = TEXT_NONE;
    } else if (r->in_item && r->depth == 2) {
        if (r->doc->kind == HL_S3_PARTS)
            end_part(r);
        else
            end_upload(r);
        r->in_item = false;
    }
    r->depth--;
}

static void on_doctype(void *ctx, const xmlChar *name, const xmlChar *external,
                       const xmlChar *system)
{
    struct reader *r = ctx;

    (void)external;
    (void)system;
    if (r->rc)
        return;
    r->rc = refuse(r, strcasecmp((const char *)name, "html") == 0
                          ? "an HTML page"
                          : "a document type declaration");
    xmlStopParser(r->ctxt);
}

/* ---- Documents ---------------------------------------------------------- */

static int compare_parts(const void *left, const void *right)
{
    const struct hl_s3_part *a = left, *b = right;

    return (a->number > b->number) - (a->number < b->number);
}

/* false: it says neither yes nor no. */
static bool read_truncated(const struct reader *r, bool *out)
{
    const char *text = r->texts[TEXT_TRUNCATED];

    *out = text && strcasecmp(text, "true") == 0;
    return !text || *out || strcasecmp(text, "false") == 0;
}

static void finish_parts(struct reader *r)
{
    struct hl_s3_document *doc = r->doc;
    const char *next = r->texts[TEXT_NEXT_PART];
    uint64_t marker = 0;
    bool truncated;
    size_t i;

    if (doc->part_count)
        qsort(doc->parts, doc->part_count, sizeof(*doc->parts), compare_parts);
    for (i = 0; i < doc->part_count; i++) {
        if (doc->parts[i].number == marker) {
            stop(r, "has a part twice");
            return;
        }
        marker = doc->parts[i].number;
    }
    doc->checksum_algorithm = take_text(r, TEXT_ALGORITHM);
    doc->checksum_type = take_text(r, TEXT_TYPE);
    if (!read_truncated(r, &truncated))
        stop(r, "does not say whether there is more");
    if (!truncated)
        return;
    if ((next && (!hl_http_number(next, &marker) || marker > HL_S3_PARTS_MAX ||
                  (i && marker < doc->parts[i - 1].number))) ||
        !marker)
        stop(r, "says that there is more and not where");
    else
        doc->next_part = (uint32_t)marker;
}

static void finish_uploads(struct reader *r)
{
    bool truncated;

    if (!read_truncated(r, &truncated))
        stop(r, "does not say whether there is more");
    if (!truncated)
        return;
    r->doc->next_key = take_text(r, TEXT_NEXT_KEY);
    r->doc->next_upload_id = take_text(r, TEXT_NEXT_ID);
    if (!r->doc->next_key || !*r->doc->next_key)
        stop(r, "says that there is more and not where");
}

static void finish_error(struct reader *r)
{
    struct hl_s3_error *e = &r->doc->error;

    e->code = take_text(r, TEXT_CODE);
    e->message = take_text(r, TEXT_MESSAGE);
    e->request_id = take_text(r, TEXT_REQUEST_ID);
    e->region = take_text(r, TEXT_REGION);
    e->endpoint = take_text(r, TEXT_ENDPOINT);
    e->server_time = take_text(r, TEXT_SERVER_TIME);
    if (!e->code && !(e->code = hl_strdup("")))
        stop_memory(r);
}

/* The document came as a whole: is everything there? */
static void finish(struct reader *r)
{
    struct hl_s3_document *doc = r->doc;

    switch (doc->kind) {
    case HL_S3_ERROR:
        finish_error(r);
        break;
    case HL_S3_INITIATE:
        doc->upload_id = take_text(r, TEXT_UPLOAD_ID);
        if (!doc->upload_id || !*doc->upload_id)
            stop(r, "has no upload id");
        break;
    case HL_S3_PARTS:
        finish_parts(r);
        break;
    case HL_S3_UPLOADS:
        finish_uploads(r);
        break;
    case HL_S3_COMPLETE:
        doc->etag = take_text(r, TEXT_ETAG);
        doc->checksum_type = take_text(r, TEXT_TYPE);
        doc->checksums = r->checksums;
        r->checksums.count = 0;
        if (!doc->etag && !(doc->etag = hl_strdup("")))
            stop_memory(r);
        break;
    }
}

static void parse(struct reader *r, const char *data, size_t len)
{
    const xmlSAXHandler handler = {
        .initialized = XML_SAX2_MAGIC, /* or those with names of SAX 1 count */
        .internalSubset = on_doctype,
        .startElementNs = on_begin,
        .endElementNs = on_end,
        .characters = on_text,
        .ignorableWhitespace = on_text,
        .cdataBlock = on_text,
    };
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const xmlError *cause;

    pthread_once(&once, xmlInitParser); /* not safe from several at once */
    r->ctxt = xmlCreateMemoryParserCtxt(data, (int)len);
    if (!r->ctxt) {
        r->rc = hl_err(r->err, HAUL_E_NOMEM, 0, "out of memory");
        return;
    }
    xmlCtxtUseOptions(r->ctxt, OPTIONS);
    *r->ctxt->sax = handler;
    r->ctxt->userData = r;
    xmlParseDocument(r->ctxt);
    cause = xmlCtxtGetLastError(r->ctxt);
    if (!r->ctxt->wellFormed && cause && cause->code == XML_ERR_NO_MEMORY) {
        stop_memory(r);
    } else if (!r->ctxt->wellFormed && !r->rc) {
        stop(r, "is damaged or cut off");
        if (cause && cause->message)
            hl_err_detail(r->err, "libxml2: %.*s",
                          (int)strcspn(cause->message, "\n"), cause->message);
    }
    if (!r->rc)
        finish(r);
    xmlFreeParserCtxt(r->ctxt);
}

/* The bytes before '<': white space, which keeps connections alive, must not
 * stand before a declaration. */
static size_t skip_blank(const char *data, size_t len)
{
    static const char mark[] = "\xef\xbb\xbf"; /* of the byte order */
    size_t i = 0;

    while (i < len && memchr(" \t\r\n", data[i], 4))
        i++;
    if (len - i >= 3 && memcmp(data + i, mark, 3) == 0)
        i += 3;
    return i;
}

int hl_s3_xml_read(const char *data, size_t len, enum hl_s3_kind want,
                   struct hl_s3_document *out, struct hl_error *err)
{
    struct reader r = {.doc = out, .want = want, .err = err};
    size_t blank = skip_blank(data, len), i;

    memset(out, 0, sizeof(*out));
    data += blank;
    len -= blank;
    if (!len)
        r.rc = refuse(&r, "an empty answer");
    else if (data[0] != '<' || memchr(data, '\0', len))
        r.rc = refuse(&r, "no XML");
    else if (len > HL_ANSWER_MAX)
        r.rc = refuse(&r, "a document that is too large");
    else
        parse(&r, data, len);
    for (i = 0; i < TEXT_COUNT; i++)
        hl_free(r.texts[i]);
    checksums_fini(&r.checksums);
    if (r.rc)
        hl_s3_document_fini(out);
    return r.rc;
}

/* ---- Values ------------------------------------------------------------- */

const char *hl_s3_checksum(const struct hl_s3_checksums *c, const char *name)
{
    size_t i;

    for (i = 0; i < c->count; i++)
        if (strcasecmp(c->item[i].name, name) == 0)
            return c->item[i].value;
    return NULL;
}

static const char *unquote(const char *etag, size_t *len)
{
    *len = strlen(etag);
    if (*len > 1 && etag[0] == '"' && etag[*len - 1] == '"') {
        *len -= 2;
        return etag + 1;
    }
    return etag;
}

bool hl_s3_etag_equal(const char *a, const char *b)
{
    size_t a_len, b_len;

    a = unquote(a, &a_len);
    b = unquote(b, &b_len);
    return a_len == b_len && memcmp(a, b, a_len) == 0;
}

/* ---- CompleteMultipartUpload -------------------------------------------- */

#define COMPLETE "CompleteMultipartUpload"
#define COMPLETE_OPEN                                                          \
    "<" COMPLETE " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
#define COMPLETE_CLOSE "</" COMPLETE ">"

/* Written in two passes: data NULL counts. */
struct writer {
    char *data;
    size_t len;
};

static void put_bytes(struct writer *w, const char *text, size_t len)
{
    if (w->data)
        memcpy(w->data + w->len, text, len);
    w->len += len;
}

static void put(struct writer *w, const char *text)
{
    put_bytes(w, text, strlen(text));
}

static void put_escaped(struct writer *w, const char *text)
{
    for (; *text; text++) {
        if (*text == '&')
            put(w, "&amp;");
        else if (*text == '<')
            put(w, "&lt;");
        else if (*text == '>')
            put(w, "&gt;");
        else
            put_bytes(w, text, 1);
    }
}

static void put_element(struct writer *w, const char *prefix, const char *name,
                        const char *text)
{
    put(w, "<");
    put(w, prefix);
    put(w, name);
    put(w, ">");
    put_escaped(w, text);
    put(w, "</");
    put(w, prefix);
    put(w, name);
    put(w, ">");
}

static void put_document(struct writer *w, const struct hl_s3_part *parts,
                         size_t count)
{
    char number[16];
    size_t i, k;

    w->len = 0;
    put(w, COMPLETE_OPEN);
    for (i = 0; i < count; i++) {
        const struct hl_s3_checksums *c = &parts[i].checksums;

        put(w, "<Part>");
        snprintf(number, sizeof(number), "%u", parts[i].number);
        put_element(w, "", "PartNumber", number);
        put_element(w, "", "ETag", parts[i].etag);
        for (k = 0; k < c->count; k++)
            put_element(w, CHECKSUM, c->item[k].name, c->item[k].value);
        put(w, "</Part>");
    }
    put(w, COMPLETE_CLOSE);
}

/* Printable ASCII: tags and base64 are nothing else. */
static bool is_plain(const char *text)
{
    for (; *text; text++)
        if (*text < 0x20 || *text > 0x7e)
            return false;
    return true;
}

static int check_part(const struct hl_s3_part *part, uint32_t after,
                      struct hl_error *err)
{
    const struct hl_s3_checksums *c = &part->checksums;
    bool good = is_plain(part->etag);
    size_t i;

    if (part->number <= after || part->number > HL_S3_PARTS_MAX)
        return hl_err(err, HAUL_E_BUG, 0, "part %u behind part %u",
                      part->number, after);
    for (i = 0; i < c->count; i++)
        good = good && is_name(c->item[i].name) && is_plain(c->item[i].value);
    if (!good)
        return hl_err(err, HAUL_E_PROTO, 0,
                      "the ETag or checksum of part %u cannot be sent back",
                      part->number);
    return 0;
}

int hl_s3_xml_complete(const struct hl_s3_part *parts, size_t count, char **out,
                       struct hl_error *err)
{
    struct writer w = {0};
    uint32_t after = 0;
    size_t i;
    int rc = 0;

    *out = NULL;
    if (!count)
        return hl_err(err, HAUL_E_BUG, 0, "an upload without parts");
    for (i = 0; i < count && !rc; i++) {
        rc = check_part(&parts[i], after, err);
        after = parts[i].number;
    }
    if (rc)
        return rc;
    put_document(&w, parts, count);
    w.data = hl_malloc(w.len + 1);
    if (!w.data)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    put_document(&w, parts, count);
    *out = w.data;
    return 0;
}
