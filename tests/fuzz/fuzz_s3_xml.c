/*
 * What an S3 server answers: the first byte says which document is wanted, the
 * rest is the body. Whatever comes, the result keeps its contract (s3_xml.h),
 * fits into what may be sent back, and nothing leaks.
 */
#include <string.h>

#include "base.h"
#include "fuzz.h"
#include "s3_sign.h"
#include "s3_xml.h"

static void check_text(const char *text)
{
    FUZZ_CHECK(!text || strlen(text) <= HL_S3_TEXT_MAX);
}

static void check_checksums(const struct hl_s3_checksums *c)
{
    FUZZ_CHECK(c->count <= HL_S3_CHECKSUMS_MAX);
    for (size_t i = 0; i < c->count; i++) {
        FUZZ_CHECK(c->item[i].name[0] && c->item[i].value);
        check_text(c->item[i].value);
        FUZZ_CHECK(hl_s3_checksum(c, c->item[i].name));
    }
}

static void check_parts(const struct hl_s3_document *doc)
{
    uint32_t last = 0;
    char *body;
    int rc;

    FUZZ_CHECK(doc->part_count <= HL_S3_PARTS_MAX);
    for (size_t i = 0; i < doc->part_count; i++) {
        const struct hl_s3_part *part = &doc->parts[i];

        FUZZ_CHECK(part->number > last && part->number <= HL_S3_PARTS_MAX);
        FUZZ_CHECK(part->size <= INT64_MAX && part->etag);
        FUZZ_CHECK(hl_s3_etag_equal(part->etag, part->etag));
        check_text(part->etag);
        check_checksums(&part->checksums);
        last = part->number;
    }
    FUZZ_CHECK(!doc->next_part || doc->next_part >= last);
    FUZZ_CHECK(doc->next_part <= HL_S3_PARTS_MAX);
    if (!doc->part_count)
        return;
    rc = hl_s3_xml_complete(doc->parts, doc->part_count, &body, NULL);
    FUZZ_CHECK(!rc == !!body && (!rc || rc == HAUL_E_PROTO));
    hl_free(body);
}

static void check_uploads(const struct hl_s3_document *doc)
{
    FUZZ_CHECK(doc->upload_count <= HL_S3_PARTS_MAX);
    for (size_t i = 0; i < doc->upload_count; i++) {
        FUZZ_CHECK(doc->uploads[i].key && doc->uploads[i].id);
        check_text(doc->uploads[i].key);
        check_text(doc->uploads[i].id);
    }
    FUZZ_CHECK(!doc->next_key || *doc->next_key);
}

static void check_error(const struct hl_s3_error *error)
{
    static const int statuses[] = {200, 301, 400, 403, 404, 412, 500, 503};
    const struct hl_http_subject subject = {"s3://b/k", "write"};
    int64_t offset = 5;

    FUZZ_CHECK(error->code);
    check_text(error->code);
    check_text(error->message);
    for (size_t i = 0; i < HL_LEN(statuses); i++) {
        struct hl_error e = {0};

        FUZZ_CHECK(hl_s3_error(error, statuses[i], &subject, &e) < 0);
        FUZZ_CHECK(e.code && e.proto_status == statuses[i]);
        FUZZ_CHECK(!strncmp(e.message, "cannot write 's3://b/k': ", 25));
        FUZZ_CHECK(strcspn(e.detail, "\r\n\x1b") == strlen(e.detail));
        FUZZ_CHECK(strcspn(e.hint, "\r\n\x1b") == strlen(e.hint));
    }
    if (error->server_time &&
        !hl_s3_clock_offset(error->server_time, 1000, &offset))
        FUZZ_CHECK(offset == 5);
}

static void check_document(const struct hl_s3_document *doc,
                           enum hl_s3_kind want)
{
    FUZZ_CHECK(doc->kind == want || doc->kind == HL_S3_ERROR);
    if (doc->kind == HL_S3_ERROR)
        check_error(&doc->error);
    if (doc->kind == HL_S3_INITIATE) {
        FUZZ_CHECK(doc->upload_id && *doc->upload_id);
        check_text(doc->upload_id);
    }
    if (doc->kind == HL_S3_COMPLETE) {
        FUZZ_CHECK(doc->etag);
        check_checksums(&doc->checksums);
    }
    if (doc->kind == HL_S3_PARTS)
        check_parts(doc);
    else
        FUZZ_CHECK(!doc->parts && !doc->part_count);
    if (doc->kind == HL_S3_UPLOADS)
        check_uploads(doc);
    else
        FUZZ_CHECK(!doc->uploads && !doc->upload_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char kinds[] = {[HL_S3_ERROR] = 'e',
                                 [HL_S3_INITIATE] = 'i',
                                 [HL_S3_PARTS] = 'p',
                                 [HL_S3_UPLOADS] = 'u',
                                 [HL_S3_COMPLETE] = 'c'};
    static const struct hl_s3_document none;
    enum hl_s3_kind want = HL_S3_ERROR;
    struct hl_s3_document doc;
    struct hl_error e = {0};
    const char *found;
    int rc;

    if (size == 0)
        return 0;
    found = memchr(kinds, data[0], sizeof(kinds));
    if (found)
        want = (enum hl_s3_kind)(found - kinds);
    rc = hl_s3_xml_read((const char *)data + 1, size - 1, want, &doc, &e);
    FUZZ_CHECK(rc == e.code && (!rc || rc == HAUL_E_PROTO));
    if (rc)
        FUZZ_CHECK(e.message[0] && memcmp(&doc, &none, sizeof(doc)) == 0);
    else
        check_document(&doc, want);
    hl_s3_document_fini(&doc);
    FUZZ_CHECK(hl_mem_live() == 0);
    return 0;
}
