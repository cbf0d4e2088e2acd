/*
 * Answers of S3: the ones that servers send are read, whatever else comes is
 * refused with a message that says what it was; the document that is sent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "s3_xml.h"

#define DECLARATION "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
#define NS " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

#define INITIATE                                                               \
    DECLARATION "<InitiateMultipartUploadResult" NS ">\n"                      \
                "<Bucket>example-bucket</Bucket><Key>example-object</Key>\n"   \
                "<UploadId>VXBsb2FkIElEIGZvciA2aWWpbmcncyBteS1tb3ZpZS5tMnRz"   \
                "</UploadId>\n</InitiateMultipartUploadResult>\n"

/* As Amazon's documentation has it, with a checksum. */
#define PARTS                                                                  \
    DECLARATION                                                                \
    "<ListPartsResult" NS ">\n"                                                \
    "  <Bucket>example-bucket</Bucket>\n"                                      \
    "  <Key>example-object</Key>\n"                                            \
    "  <UploadId>XXBsb2FkIElEIGZvciBlbHZpbmcncyVcdS1tb3ZpZS5tMnRz</UploadId>"  \
    "\n  <Initiator><ID>initiator</ID><DisplayName>umat</DisplayName>"         \
    "</Initiator>\n"                                                           \
    "  <Owner><ID>owner</ID></Owner>\n"                                        \
    "  <StorageClass>STANDARD</StorageClass>\n"                                \
    "  <PartNumberMarker>1</PartNumberMarker>\n"                               \
    "  <NextPartNumberMarker>3</NextPartNumberMarker>\n"                       \
    "  <MaxParts>2</MaxParts>\n"                                               \
    "  <IsTruncated>true</IsTruncated>\n"                                      \
    "  <ChecksumAlgorithm>CRC32C</ChecksumAlgorithm>\n"                        \
    "  <ChecksumType>COMPOSITE</ChecksumType>\n"                               \
    "  <Part>\n"                                                               \
    "    <PartNumber>2</PartNumber>\n"                                         \
    "    <LastModified>2010-11-10T20:48:34.000Z</LastModified>\n"              \
    "    <ETag>\"7778aef83f66abc1fa1e8477f296d394\"</ETag>\n"                  \
    "    <Size>10485760</Size>\n"                                              \
    "    <ChecksumCRC32C>4waSgw==</ChecksumCRC32C>\n"                          \
    "  </Part>\n"                                                              \
    "  <Part>\n"                                                               \
    "    <ETag>&quot;aaaa18db4cc2f85cedef654fccc4a4x8&quot;</ETag>\n"          \
    "    <PartNumber>3</PartNumber>\n"                                         \
    "    <Size>9223372036854775807</Size>\n"                                   \
    "    <ChecksumXXHASH128>//8=</ChecksumXXHASH128>\n"                        \
    "    <ChecksumSHA256>abc=</ChecksumSHA256>\n"                              \
    "  </Part>\n"                                                              \
    "</ListPartsResult>\n"

#define UPLOADS                                                                \
    DECLARATION "<ListMultipartUploadsResult" NS ">\n"                         \
                "<Bucket>bucket</Bucket><KeyMarker/><UploadIdMarker/>\n"       \
                "<NextKeyMarker>my-movie.m2ts</NextKeyMarker>\n"               \
                "<NextUploadIdMarker>YW55IGlkZWE</NextUploadIdMarker>\n"       \
                "<MaxUploads>3</MaxUploads><IsTruncated>true</IsTruncated>\n"  \
                "<Upload><Key>my-divisor</Key><UploadId>XMgbGlrZSBl"           \
                "</UploadId><Owner><ID>o</ID></Owner></Upload>\n"              \
                "<Upload><Key>my-&lt;movie&gt;</Key><UploadId>VXBsb2Fk"        \
                "</UploadId></Upload>\n</ListMultipartUploadsResult>"

#define COMPLETE                                                               \
    DECLARATION                                                                \
    "<CompleteMultipartUploadResult" NS ">\n"                                  \
    "<Location>here</Location><Bucket>b</Bucket><Key>k</Key>\n"                \
    "<ETag>\"3858f62230ac3c915f300c664312c11f-9\"</ETag>\n"                    \
    "<ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME>\n"                    \
    "<ChecksumType>FULL_OBJECT</ChecksumType>\n"                               \
    "</CompleteMultipartUploadResult>"

/* An answer of Amazon's to a request two days late. */
#define SKEWED                                                                 \
    DECLARATION                                                                \
    "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between " \
    "the request time and the current time is too large.</Message>"            \
    "<RequestTime>20250901T162148Z</RequestTime>"                              \
    "<ServerTime>2025-09-03T16:21:50Z</ServerTime>"                            \
    "<MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>"          \
    "<RequestId>2J8ZFVZVVRA4T7CF</RequestId><HostId>CRaDrKRM91F3</HostId>"     \
    "</Error>"

static int check_no_leak(void **state)
{
    (void)state;
    hl_mem_fail_at(0, false);
    return hl_mem_live() == 0 ? 0 : -1;
}

static void read_text(const char *text, enum hl_s3_kind want,
                      struct hl_s3_document *doc)
{
    struct hl_error e = {0};

    if (hl_s3_xml_read(text, strlen(text), want, doc, &e))
        fail_msg("%s (%s)", e.message, e.detail);
}

/* ---- What servers send -------------------------------------------------- */

static void upload_ids_are_read(void **state)
{
    struct hl_s3_document doc;

    (void)state;
    read_text(INITIATE, HL_S3_INITIATE, &doc);
    assert_int_equal(doc.kind, HL_S3_INITIATE);
    assert_string_equal(doc.upload_id,
                        "VXBsb2FkIElEIGZvciA2aWWpbmcncyBteS1tb3ZpZS5tMnRz");
    hl_s3_document_fini(&doc);
    hl_s3_document_fini(&doc);
    /* without namespace and declaration, or with a prefix */
    read_text("<InitiateMultipartUploadResult><UploadId>a</UploadId>"
              "</InitiateMultipartUploadResult>",
              HL_S3_INITIATE, &doc);
    assert_string_equal(doc.upload_id, "a");
    hl_s3_document_fini(&doc);
    read_text("<x:InitiateMultipartUploadResult xmlns:x='urn:any'>"
              "<x:UploadId>b</x:UploadId></x:InitiateMultipartUploadResult>",
              HL_S3_INITIATE, &doc);
    assert_string_equal(doc.upload_id, "b");
    hl_s3_document_fini(&doc);
}

static void parts_are_read(void **state)
{
    struct hl_s3_document doc;

    (void)state;
    read_text(PARTS, HL_S3_PARTS, &doc);
    assert_int_equal(doc.kind, HL_S3_PARTS);
    assert_int_equal(doc.part_count, 2);
    assert_int_equal(doc.parts[0].number, 2);
    assert_int_equal(doc.parts[0].size, 10485760);
    assert_string_equal(doc.parts[0].etag,
                        "\"7778aef83f66abc1fa1e8477f296d394\"");
    assert_int_equal(doc.parts[0].checksums.count, 1);
    assert_string_equal(hl_s3_checksum(&doc.parts[0].checksums, "CRC32C"),
                        "4waSgw==");
    assert_null(hl_s3_checksum(&doc.parts[0].checksums, "CRC32"));
    assert_int_equal(doc.parts[1].number, 3);
    assert_int_equal(doc.parts[1].size, INT64_MAX);
    assert_string_equal(doc.parts[1].etag,
                        "\"aaaa18db4cc2f85cedef654fccc4a4x8\"");
    assert_int_equal(doc.parts[1].checksums.count, 2);
    assert_string_equal(hl_s3_checksum(&doc.parts[1].checksums, "xxhash128"),
                        "//8=");
    assert_string_equal(hl_s3_checksum(&doc.parts[1].checksums, "SHA256"),
                        "abc=");
    assert_int_equal(doc.next_part, 3);
    assert_string_equal(doc.checksum_algorithm, "CRC32C");
    assert_string_equal(doc.checksum_type, "COMPOSITE");
    assert_null(doc.upload_id);
    hl_s3_document_fini(&doc);
}

#define PART(number, size)                                                     \
    "<Part><PartNumber>" number "</PartNumber><ETag>e</ETag><Size>" size       \
    "</Size></Part>"

static void parts_are_put_in_order(void **state)
{
    struct hl_s3_document doc;

    (void)state;
    read_text("<ListPartsResult>" PART("10000", "1") PART("1", "2")
                  PART("7", "0") "<IsTruncated>false</IsTruncated>"
                                 "<NextPartNumberMarker>7</NextPartNumberMarker"
                                 "></ListPartsResult>",
              HL_S3_PARTS, &doc);
    assert_int_equal(doc.part_count, 3);
    assert_int_equal(doc.parts[0].number, 1);
    assert_int_equal(doc.parts[0].size, 2);
    assert_int_equal(doc.parts[1].number, 7);
    assert_int_equal(doc.parts[2].number, 10000);
    assert_int_equal(doc.next_part, 0);
    hl_s3_document_fini(&doc);
    read_text("<ListPartsResult/>", HL_S3_PARTS, &doc);
    assert_int_equal(doc.part_count, 0);
    assert_int_equal(doc.next_part, 0);
    hl_s3_document_fini(&doc);
    /* the marker that is missing is the last number */
    read_text("<ListPartsResult>" PART("5", "1") PART(
                  "6", "1") "<IsTruncated>TRUE</IsTruncated></ListPartsResult>",
              HL_S3_PARTS, &doc);
    assert_int_equal(doc.next_part, 6);
    hl_s3_document_fini(&doc);
}

static void uploads_are_read(void **state)
{
    struct hl_s3_document doc;

    (void)state;
    read_text(UPLOADS, HL_S3_UPLOADS, &doc);
    assert_int_equal(doc.upload_count, 2);
    assert_string_equal(doc.uploads[0].key, "my-divisor");
    assert_string_equal(doc.uploads[0].id, "XMgbGlrZSBl");
    assert_string_equal(doc.uploads[1].key, "my-<movie>");
    assert_string_equal(doc.uploads[1].id, "VXBsb2Fk");
    assert_string_equal(doc.next_key, "my-movie.m2ts");
    assert_string_equal(doc.next_upload_id, "YW55IGlkZWE");
    hl_s3_document_fini(&doc);
    read_text("<ListMultipartUploadsResult><NextKeyMarker>k</NextKeyMarker>"
              "</ListMultipartUploadsResult>",
              HL_S3_UPLOADS, &doc);
    assert_int_equal(doc.upload_count, 0);
    assert_null(doc.next_key);
    hl_s3_document_fini(&doc);
}

static void completions_are_read(void **state)
{
    struct hl_s3_document doc;

    (void)state;
    read_text(COMPLETE, HL_S3_COMPLETE, &doc);
    assert_string_equal(doc.etag, "\"3858f62230ac3c915f300c664312c11f-9\"");
    assert_int_equal(doc.checksums.count, 1);
    assert_string_equal(hl_s3_checksum(&doc.checksums, "CRC64NVME"),
                        "AAAAAAAAAAA=");
    assert_string_equal(doc.checksum_type, "FULL_OBJECT");
    hl_s3_document_fini(&doc);
    read_text("<CompleteMultipartUploadResult/>", HL_S3_COMPLETE, &doc);
    assert_string_equal(doc.etag, "");
    hl_s3_document_fini(&doc);
}

static void white_space_keeps_a_connection_alive(void **state)
{
    struct hl_s3_document doc;

    (void)state;
    read_text(" \r\n\t   " COMPLETE " \n ", HL_S3_COMPLETE, &doc);
    assert_int_equal(doc.kind, HL_S3_COMPLETE);
    hl_s3_document_fini(&doc);
    read_text(DECLARATION "      \n\n  <Error><Code>SlowDown</Code></Error>",
              HL_S3_COMPLETE, &doc);
    assert_int_equal(doc.kind, HL_S3_ERROR);
    assert_string_equal(doc.error.code, "SlowDown");
    hl_s3_document_fini(&doc);
    read_text("\n\n\xef\xbb\xbf" DECLARATION "<Error/>", HL_S3_COMPLETE, &doc);
    assert_int_equal(doc.kind, HL_S3_ERROR);
    hl_s3_document_fini(&doc);
}

static void errors_come_instead_of_anything(void **state)
{
    static const enum hl_s3_kind wants[] = {HL_S3_ERROR, HL_S3_INITIATE,
                                            HL_S3_PARTS, HL_S3_UPLOADS,
                                            HL_S3_COMPLETE};
    struct hl_s3_document doc;

    (void)state;
    for (size_t i = 0; i < HL_LEN(wants); i++) {
        read_text("   \n" SKEWED, wants[i], &doc);
        assert_int_equal(doc.kind, HL_S3_ERROR);
        assert_string_equal(doc.error.code, "RequestTimeTooSkewed");
        assert_string_equal(doc.error.message,
                            "The difference between the request time and the "
                            "current time is too large.");
        assert_string_equal(doc.error.request_id, "2J8ZFVZVVRA4T7CF");
        assert_string_equal(doc.error.server_time, "2025-09-03T16:21:50Z");
        assert_null(doc.error.region);
        hl_s3_document_fini(&doc);
    }
    read_text("<Error><Code>AuthorizationHeaderMalformed</Code>"
              "<Region>eu-west-1</Region><Endpoint>e</Endpoint></Error>",
              HL_S3_PARTS, &doc);
    assert_string_equal(doc.error.region, "eu-west-1");
    assert_string_equal(doc.error.endpoint, "e");
    assert_null(doc.error.message);
    hl_s3_document_fini(&doc);
    read_text("<Error/>", HL_S3_PARTS, &doc);
    assert_string_equal(doc.error.code, "");
    hl_s3_document_fini(&doc);
}

static void text_may_be_written_in_any_way(void **state)
{
    struct hl_s3_document doc;

    (void)state;
    read_text("<Error><!-- c --><Code>a&amp;b&#60;&#x3e;&quot;&apos;"
              "<![CDATA[<&]]>\xc3\xa4</Code><?pi x?>"
              "<Message>one<b>two</b>three</Message></Error>",
              HL_S3_PARTS, &doc);
    assert_string_equal(doc.error.code, "a&b<>\"'<&\xc3\xa4");
    assert_string_equal(doc.error.message, "onethree");
    hl_s3_document_fini(&doc);
    /* whatever the declaration says: S3 is UTF-8 */
    read_text("<?xml version='1.0' encoding='ISO-8859-1'?>"
              "<Error><Code>\xc3\xa4</Code></Error>",
              HL_S3_PARTS, &doc);
    assert_string_equal(doc.error.code, "\xc3\xa4");
    hl_s3_document_fini(&doc);
}

/* head, count times 'x', tail; hl_free(). */
static char *with_run(const char *head, size_t count, const char *tail)
{
    char *run = hl_malloc(count + 1), *text;

    assert_non_null(run);
    memset(run, 'x', count);
    text = hl_asprintf("%s%s%s", head, run, tail);
    assert_non_null(text);
    hl_free(run);
    return text;
}

/* An error is for people: better half of it than none. */
static void long_errors_are_cut(void **state)
{
    char *text = with_run("<Error><Code>A</Code><Code>B</Code><Message>", 10000,
                          "</Message></Error>");
    struct hl_s3_document doc;

    (void)state;
    read_text(text, HL_S3_PARTS, &doc);
    assert_string_equal(doc.error.code, "A");
    assert_int_equal(strlen(doc.error.message), HL_S3_TEXT_MAX);
    hl_s3_document_fini(&doc);
    hl_free(text);
}

/* ---- What is refused ---------------------------------------------------- */

static const struct hl_s3_document none;

static void check_refused_bytes(const char *data, size_t len,
                                enum hl_s3_kind want, const char *words)
{
    struct hl_error e = {0};
    struct hl_s3_document doc;

    if (hl_s3_xml_read(data, len, want, &doc, &e) != HAUL_E_PROTO)
        fail_msg("accepted: %.*s", (int)len, data);
    assert_int_equal(e.code, HAUL_E_PROTO);
    if (!strstr(e.message, words))
        fail_msg("%.*s: %s", (int)len, data, e.message);
    assert_memory_equal(&doc, &none, sizeof(doc));
}

static void check_refused(const char *text, enum hl_s3_kind want,
                          const char *words)
{
    check_refused_bytes(text, strlen(text), want, words);
}

static void the_message_says_what_came(void **state)
{
    static const char *const cases[][2] = {
        {"", "sent an empty answer instead of 'ListPartsResult'"},
        {" \n\t ", "an empty answer"},
        {"\xef\xbb\xbf", "an empty answer"},
        {"Bad Gateway", "no XML"},
        {"{\"error\":1}", "no XML"},
        {"<!DOCTYPE html><html><body>hi<br></body></html>", "an HTML page"},
        {"<!doctype HTML>", "damaged or cut off"},
        {"<html><head><title>x</title></head></html>", "an HTML page"},
        {"<HTML>", "an HTML page"},
        {INITIATE, "sent 'InitiateMultipartUploadResult' instead of "
                   "'ListPartsResult'"},
        {"<ListBucketResult/>", "'ListBucketResult'"},
        {"<listPartsResult/>", "'listPartsResult'"},
        {"<a\xc2\x9b/>", "damaged or cut off"},
        {"<ListPartsResult></Error>", "damaged or cut off"},
        {"<ListPartsResult/><ListPartsResult/>", "damaged or cut off"},
        {"<ListPartsResult/>x", "damaged or cut off"},
        {"<ListPartsResult>\xff</ListPartsResult>", "damaged or cut off"},
        {"<ListPartsResult>\x01</ListPartsResult>", "damaged or cut off"},
        {"<ListPartsResult>&#1;</ListPartsResult>", "damaged or cut off"},
        {"<ListPartsResult>&nbsp;</ListPartsResult>", "damaged or cut off"},
        {"<?xml version='1.0'?>", "damaged or cut off"},
        {"<", "damaged or cut off"},
    };
    char utf16[] = "<\0E\0r\0r\0o\0r\0/\0>\0";

    (void)state;
    for (size_t i = 0; i < HL_LEN(cases); i++)
        check_refused(cases[i][0], HL_S3_PARTS, cases[i][1]);
    check_refused_bytes(utf16, sizeof(utf16) - 1, HL_S3_PARTS, "no XML");
    check_refused_bytes("<Error/>\0", 9, HL_S3_PARTS, "no XML");
}

static void a_wrong_endpoint_is_hinted_at(void **state)
{
    struct hl_error e = {0};
    struct hl_s3_document doc;

    (void)state;
    assert_int_equal(hl_s3_xml_read("<html/>", 7, HL_S3_PARTS, &doc, &e),
                     HAUL_E_PROTO);
    assert_non_null(strstr(e.hint, "--endpoint"));
}

static void every_cut_is_noticed(void **state)
{
    static const struct {
        const char *text;
        enum hl_s3_kind kind;
    } whole[] = {{INITIATE, HL_S3_INITIATE},
                 {PARTS, HL_S3_PARTS},
                 {UPLOADS, HL_S3_UPLOADS},
                 {COMPLETE, HL_S3_COMPLETE},
                 {SKEWED, HL_S3_COMPLETE}};

    (void)state;
    for (size_t i = 0; i < HL_LEN(whole); i++) {
        size_t end = strlen(whole[i].text);

        while (whole[i].text[end - 1] != '>')
            end--;
        for (size_t len = 0; len < end; len++)
            check_refused_bytes(whole[i].text, len, whole[i].kind, "");
    }
}

#define LAUGHS                                                                 \
    "<!DOCTYPE Error [<!ENTITY a 'aaaaaaaaaa'>"                                \
    "<!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>"                             \
    "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;'>"                             \
    "<!ENTITY d '&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;'>]>"                           \
    "<Error><Code>&d;</Code></Error>"

static void documents_with_a_doctype_are_refused(void **state)
{
    static const char *const bad[] = {
        LAUGHS,
        DECLARATION LAUGHS,
        "<!DOCTYPE Error><Error/>",
        "<!DOCTYPE Error SYSTEM 'file:///etc/passwd'><Error/>",
        "<!DOCTYPE Error PUBLIC 'p' 'http://x.test/dtd'><Error/>",
        "<!DOCTYPE Error [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"
        "<Error><Code>&x;</Code></Error>",
        "<!DOCTYPE Error [<!ENTITY % x SYSTEM 'http://x.test/'> %x;]><Error/>",
        "<!DOCTYPE Error [<!ATTLIST Error Code CDATA 'x'>]><Error/>",
    };

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++)
        check_refused(bad[i], HL_S3_PARTS, "a document type declaration");
}

struct refusal {
    enum hl_s3_kind want;
    const char *text, *words;
};

static void what_must_be_there_is_missed(void **state)
{
    static const struct refusal cases[] = {
        {HL_S3_INITIATE, "<InitiateMultipartUploadResult/>", "no upload id"},
        {HL_S3_INITIATE,
         "<InitiateMultipartUploadResult><UploadId/>"
         "</InitiateMultipartUploadResult>",
         "no upload id"},
        {HL_S3_INITIATE,
         "<InitiateMultipartUploadResult><a><UploadId>x</UploadId></a>"
         "</InitiateMultipartUploadResult>",
         "no upload id"},
        {HL_S3_INITIATE,
         "<InitiateMultipartUploadResult><UploadId>a</UploadId>"
         "<UploadId>b</UploadId></InitiateMultipartUploadResult>",
         "twice"},
        {HL_S3_PARTS, "<ListPartsResult><Part/></ListPartsResult>",
         "without number, size or ETag"},
        {HL_S3_PARTS,
         "<ListPartsResult><Part><PartNumber>1</PartNumber><Size>1</Size>"
         "</Part></ListPartsResult>",
         "without number, size or ETag"},
        {HL_S3_PARTS,
         "<ListPartsResult>" PART("1", "1") "<Part><Size>1</Size><ETag>e</ETag>"
                                            "</Part></ListPartsResult>",
         "without number, size or ETag"},
        {HL_S3_PARTS, "<ListPartsResult>" PART("0", "1") "</ListPartsResult>",
         "impossible number or size"},
        {HL_S3_PARTS,
         "<ListPartsResult>" PART("10001", "1") "</ListPartsResult>",
         "impossible number or size"},
        {HL_S3_PARTS,
         "<ListPartsResult>" PART("4294967297", "1") "</ListPartsResult>",
         "impossible number or size"},
        {HL_S3_PARTS, "<ListPartsResult>" PART("1", "-1") "</ListPartsResult>",
         "impossible number or size"},
        {HL_S3_PARTS,
         "<ListPartsResult>" PART("1", "9223372036854775808") "</"
                                                              "ListPartsResult"
                                                              ">",
         "impossible number or size"},
        {HL_S3_PARTS,
         "<ListPartsResult>" PART("3", "1") PART("3", "1") "</ListPartsResult>",
         "a part twice"},
    };

    (void)state;
    for (size_t i = 0; i < HL_LEN(cases); i++)
        check_refused(cases[i].text, cases[i].want, cases[i].words);
}

static void pages_that_lead_nowhere_are_refused(void **state)
{
    static const struct refusal cases[] = {
        {HL_S3_PARTS,
         "<ListPartsResult><IsTruncated>maybe</IsTruncated></ListPartsResult>",
         "whether there is more"},
        {HL_S3_PARTS,
         "<ListPartsResult><IsTruncated>true</IsTruncated></ListPartsResult>",
         "and not where"},
        {HL_S3_PARTS,
         "<ListPartsResult>" PART("5", "1") "<IsTruncated>true</IsTruncated>"
                                            "<NextPartNumberMarker>4"
                                            "</NextPartNumberMarker>"
                                            "</ListPartsResult>",
         "and not where"},
        {HL_S3_PARTS,
         "<ListPartsResult><IsTruncated>true</IsTruncated>"
         "<NextPartNumberMarker>0</NextPartNumberMarker></ListPartsResult>",
         "and not where"},
        {HL_S3_PARTS,
         "<ListPartsResult><IsTruncated>true</IsTruncated>"
         "<NextPartNumberMarker>10001</NextPartNumberMarker></ListPartsResult>",
         "and not where"},
        {HL_S3_UPLOADS,
         "<ListMultipartUploadsResult><Upload><Key>k</Key></Upload>"
         "</ListMultipartUploadsResult>",
         "without key or id"},
        {HL_S3_UPLOADS,
         "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated>"
         "</ListMultipartUploadsResult>",
         "and not where"},
    };

    (void)state;
    for (size_t i = 0; i < HL_LEN(cases); i++)
        check_refused(cases[i].text, cases[i].want, cases[i].words);
}

/* ---- Limits ------------------------------------------------------------- */

static char *many_parts(unsigned count)
{
    size_t room = 80 * (size_t)count + 100, len;
    char *text = malloc(room);

    assert_non_null(text);
    len = (size_t)snprintf(text, room, "<ListPartsResult>");
    for (unsigned i = 1; i <= count; i++)
        len += (size_t)snprintf(text + len, room - len,
                                "<Part><PartNumber>%u</PartNumber>"
                                "<ETag>%u</ETag><Size>%u</Size></Part>",
                                i, i, i);
    snprintf(text + len, room - len, "</ListPartsResult>");
    return text;
}

static void ten_thousand_parts_are_the_limit(void **state)
{
    char *text = many_parts(HL_S3_PARTS_MAX);
    struct hl_s3_document doc;

    (void)state;
    read_text(text, HL_S3_PARTS, &doc);
    assert_int_equal(doc.part_count, 10000);
    for (uint32_t i = 0; i < 10000; i++) {
        assert_int_equal(doc.parts[i].number, i + 1);
        assert_int_equal(doc.parts[i].size, i + 1);
    }
    hl_s3_document_fini(&doc);
    free(text);
    text = many_parts(HL_S3_PARTS_MAX + 1);
    check_refused(text, HL_S3_PARTS, "more parts");
    free(text);
}

static void strings_have_a_limit(void **state)
{
    static const char head[] = "<InitiateMultipartUploadResult><UploadId>";
    static const char tail[] = "</UploadId></InitiateMultipartUploadResult>";
    char *text = with_run(head, 4096, tail);
    struct hl_s3_document doc;

    (void)state;
    read_text(text, HL_S3_INITIATE, &doc);
    assert_int_equal(strlen(doc.upload_id), 4096);
    hl_s3_document_fini(&doc);
    hl_free(text);
    text = with_run(head, 4097, tail);
    check_refused(text, HL_S3_INITIATE, "too long");
    hl_free(text);
}

static void depth_has_a_limit(void **state)
{
    struct hl_s3_document doc;

    (void)state;
    read_text("<Error><a><a><a><a><a><a><a/></a></a></a></a></a></a></Error>",
              HL_S3_PARTS, &doc);
    hl_s3_document_fini(&doc);
    check_refused("<Error><a><a><a><a><a><a><a><a/></a></a></a></a></a></a>"
                  "</a></Error>",
                  HL_S3_PARTS, "nested too deep");
}

static void documents_have_a_limit(void **state)
{
    size_t size = HL_ANSWER_MAX + 64;
    char *text = malloc(size);

    (void)state;
    assert_non_null(text);
    memset(text, ' ', size);
    memcpy(text, "<Error>", 7);
    memcpy(text + size - 8, "</Error>", 8);
    check_refused_bytes(text, size, HL_S3_PARTS, "too large");
    free(text);
}

static void surplus_checksums_are_left_out(void **state)
{
    struct hl_s3_document doc;

    (void)state;
    read_text("<CompleteMultipartUploadResult>"
              "<Checksum>0</Checksum><ChecksumTooLongAName0000>0"
              "</ChecksumTooLongAName0000><Checksum-X>0</Checksum-X>"
              "<ChecksumX1>1</ChecksumX1><ChecksumX2>2</ChecksumX2>"
              "<ChecksumX3>3</ChecksumX3><ChecksumX4>4</ChecksumX4>"
              "<ChecksumX5>5</ChecksumX5><ChecksumX6>6</ChecksumX6>"
              "<ChecksumX7>7</ChecksumX7></CompleteMultipartUploadResult>",
              HL_S3_COMPLETE, &doc);
    assert_int_equal(doc.checksums.count, HL_S3_CHECKSUMS_MAX);
    assert_string_equal(hl_s3_checksum(&doc.checksums, "X1"), "1");
    assert_string_equal(hl_s3_checksum(&doc.checksums, "X6"), "6");
    assert_null(hl_s3_checksum(&doc.checksums, "X7"));
    assert_null(hl_s3_checksum(&doc.checksums, ""));
    hl_s3_document_fini(&doc);
}

static void check_without_memory(const char *text, enum hl_s3_kind kind)
{
    int rc = HAUL_E_NOMEM;
    int64_t n;

    for (n = 1; rc; n++) {
        struct hl_error e = {0};
        struct hl_s3_document doc;

        assert_true(n < 100);
        hl_mem_fail_at(n, false);
        rc = hl_s3_xml_read(text, strlen(text), kind, &doc, &e);
        hl_mem_fail_at(0, false);
        if (rc) {
            assert_int_equal(rc, HAUL_E_NOMEM);
            assert_memory_equal(&doc, &none, sizeof(doc));
        }
        hl_s3_document_fini(&doc);
        assert_int_equal(hl_mem_live(), 0);
    }
    assert_true(n > 2);
}

static void without_memory_nothing_is_left(void **state)
{
    (void)state;
    check_without_memory(INITIATE, HL_S3_INITIATE);
    check_without_memory(PARTS, HL_S3_PARTS);
    check_without_memory(UPLOADS, HL_S3_UPLOADS);
    check_without_memory(COMPLETE, HL_S3_COMPLETE);
    check_without_memory(SKEWED, HL_S3_COMPLETE);
    check_without_memory("<Error/>", HL_S3_COMPLETE);
}

/* ---- What is sent ------------------------------------------------------- */

static void the_list_of_parts_is_written(void **state)
{
    char tag1[] = "\"a54357aff0632cce46d942af68356b38\"", tag2[] = "<&>'\"";
    char crc[] = "4waSgw==", sha[] = "abc/+=";
    const struct hl_s3_part parts[] = {
        {.number = 1, .etag = tag1},
        {.number = 10000,
         .etag = tag2,
         .checksums = {{{"CRC32C", crc}, {"SHA256", sha}}, 2}},
    };
    char *body;

    (void)state;
    assert_int_equal(hl_s3_xml_complete(parts, 2, &body, NULL), 0);
    assert_string_equal(
        body,
        "<CompleteMultipartUpload" NS ">"
        "<Part><PartNumber>1</PartNumber>"
        "<ETag>\"a54357aff0632cce46d942af68356b38\"</ETag></Part>"
        "<Part><PartNumber>10000</PartNumber><ETag>&lt;&amp;&gt;'\"</ETag>"
        "<ChecksumCRC32C>4waSgw==</ChecksumCRC32C>"
        "<ChecksumSHA256>abc/+=</ChecksumSHA256></Part>"
        "</CompleteMultipartUpload>");
    hl_free(body);
    hl_mem_fail_at(1, false);
    assert_int_equal(hl_s3_xml_complete(parts, 2, &body, NULL), HAUL_E_NOMEM);
    assert_null(body);
}

static void a_wrong_list_of_parts_is_refused(void **state)
{
    char tag[] = "e", bad[] = "e\ne", latin[] = "\xe4";
    struct hl_s3_part parts[2] = {{.number = 2, .etag = tag},
                                  {.number = 2, .etag = tag}};
    char *body;

    (void)state;
    assert_int_equal(hl_s3_xml_complete(parts, 0, &body, NULL), HAUL_E_BUG);
    assert_int_equal(hl_s3_xml_complete(parts, 2, &body, NULL), HAUL_E_BUG);
    parts[1].number = 1;
    assert_int_equal(hl_s3_xml_complete(parts, 2, &body, NULL), HAUL_E_BUG);
    parts[1].number = 10001;
    assert_int_equal(hl_s3_xml_complete(parts, 2, &body, NULL), HAUL_E_BUG);
    parts[0].number = 0;
    assert_int_equal(hl_s3_xml_complete(parts, 1, &body, NULL), HAUL_E_BUG);
    parts[0].number = 1;
    parts[0].etag = bad;
    assert_int_equal(hl_s3_xml_complete(parts, 1, &body, NULL), HAUL_E_PROTO);
    parts[0].etag = latin;
    assert_int_equal(hl_s3_xml_complete(parts, 1, &body, NULL), HAUL_E_PROTO);
    parts[0].etag = tag;
    parts[0].checksums = (struct hl_s3_checksums){{{"CRC><", tag}}, 1};
    assert_int_equal(hl_s3_xml_complete(parts, 1, &body, NULL), HAUL_E_PROTO);
    assert_null(body);
}

static void tags_are_equal_without_their_quotes(void **state)
{
    (void)state;
    assert_true(hl_s3_etag_equal("\"a\"", "a"));
    assert_true(hl_s3_etag_equal("a", "\"a\""));
    assert_true(hl_s3_etag_equal("\"\"", ""));
    assert_true(hl_s3_etag_equal("\"a-2\"", "\"a-2\""));
    assert_false(hl_s3_etag_equal("a", "A"));
    assert_false(hl_s3_etag_equal("a", "ab"));
    assert_false(hl_s3_etag_equal("", "a"));
    assert_false(hl_s3_etag_equal("\"", ""));
    assert_false(hl_s3_etag_equal("\"a", "a"));
}

#define TEST(name) cmocka_unit_test_teardown(name, check_no_leak)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(upload_ids_are_read),
        TEST(parts_are_read),
        TEST(parts_are_put_in_order),
        TEST(uploads_are_read),
        TEST(completions_are_read),
        TEST(white_space_keeps_a_connection_alive),
        TEST(errors_come_instead_of_anything),
        TEST(text_may_be_written_in_any_way),
        TEST(long_errors_are_cut),
        TEST(the_message_says_what_came),
        TEST(a_wrong_endpoint_is_hinted_at),
        TEST(every_cut_is_noticed),
        TEST(documents_with_a_doctype_are_refused),
        TEST(what_must_be_there_is_missed),
        TEST(pages_that_lead_nowhere_are_refused),
        TEST(ten_thousand_parts_are_the_limit),
        TEST(strings_have_a_limit),
        TEST(depth_has_a_limit),
        TEST(documents_have_a_limit),
        TEST(surplus_checksums_are_left_out),
        TEST(without_memory_nothing_is_left),
        TEST(the_list_of_parts_is_written),
        TEST(a_wrong_list_of_parts_is_refused),
        TEST(tags_are_equal_without_their_quotes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
