/*
 * What the errors of S3 mean in our words (s3_xml.h). Pure, any thread.
 *
 *   "Error responses", Amazon S3 API Reference; those of other servers as they
 *   send them
 */
#include <stdio.h>
#include <string.h>

#include "s3_xml.h"

/* Bytes of a name in a message: what is wrong must stand behind it. */
#define NAME_MAX_SHOWN 150
#define PLACE_MAX_SHOWN 90

struct meaning {
    const char *code; /* of S3 */
    int error;
    const char *why, *hint; /* hint may be NULL */
};

#define HINT_KEYS                                                              \
    "Check the keys (environment, --profile, --credentials), and that "        \
    "--endpoint is the server that they are for."
#define HINT_TOKEN                                                             \
    "Get new keys of the session, with AWS_SESSION_TOKEN, and run the same "   \
    "command again."
#define HINT_REGION "Name the region of the bucket with --region."
#define HINT_LATER "Run the same command again later."
#define HINT_FEWER "Fewer connections may help: --connections 1."

static const struct meaning meanings[] = {
    /* Who asks. */
    {"InvalidAccessKeyId", HAUL_E_AUTH, "the server does not know the key",
     HINT_KEYS},
    {"SignatureDoesNotMatch", HAUL_E_AUTH, "the server refuses the signature",
     "The secret key is wrong, or something on the way changes requests; check "
     "the keys, --region and --endpoint."},
    {"ExpiredToken", HAUL_E_AUTH, "the session of the keys has expired",
     HINT_TOKEN},
    {"TokenRefreshRequired", HAUL_E_AUTH, "the session of the keys has expired",
     HINT_TOKEN},
    {"InvalidToken", HAUL_E_AUTH, "the server refuses the session token",
     HINT_TOKEN},
    {"RequestTimeTooSkewed", HAUL_E_AUTH,
     "the clocks of this machine and the server differ too much",
     "Set the clock of this machine."},
    {"RequestExpired", HAUL_E_AUTH,
     "the clocks of this machine and the server differ too much",
     "Set the clock of this machine."},
    {"AuthorizationHeaderMalformed", HAUL_E_AUTH,
     "the request was signed for another region", HINT_REGION},
    {"IllegalLocationConstraintException", HAUL_E_AUTH,
     "the request was signed for another region", HINT_REGION},
    {"MissingSecurityHeader", HAUL_E_AUTH, "the server wants another signature",
     NULL},
    {"MissingAuthenticationToken", HAUL_E_AUTH,
     "the server did not find a signature", HINT_KEYS},
    {"NotSignedUp", HAUL_E_AUTH, "the account is not signed up for S3",
     HINT_KEYS},
    {"UserSuspended", HAUL_E_AUTH, "the user is suspended", HINT_KEYS},
    {"InvalidSecurity", HAUL_E_AUTH, "the server refuses the keys", HINT_KEYS},
    {"AccessDenied", HAUL_E_REMOTE, "no permission",
     "These keys may not do this there: check the policies of user and "
     "bucket."},
    {"AllAccessDisabled", HAUL_E_REMOTE, "nobody may do this", NULL},
    {"AccountProblem", HAUL_E_REMOTE, "the account has a problem",
     "Whoever runs the server knows more."},

    /* What there is. */
    {"NoSuchBucket", HAUL_E_REMOTE, "there is no such bucket",
     "Make it first, or check its name, --endpoint and --region."},
    {"NoSuchKey", HAUL_E_REMOTE, "not found", "Check the key in the address."},
    {"NoSuchVersion", HAUL_E_REMOTE, "there is no such version", NULL},
    {"NoSuchUpload", HAUL_E_LOST, "the server no longer has the upload",
     "It was completed, aborted or removed as too old there; run the same "
     "command with --resume never to start again."},
    {"InvalidPart", HAUL_E_LOST,
     "the server no longer has a part that it confirmed",
     "Run the same command again; with --resume never if that does not help."},
    {"InvalidBucketName", HAUL_E_REMOTE, "the bucket cannot have this name",
     "3 to 63 lower-case letters, digits, '-' and '.'."},
    {"KeyTooLongError", HAUL_E_REMOTE, "the key is too long",
     "At most 1024 bytes."},
    {"InvalidObjectState", HAUL_E_REMOTE, "the object is archived",
     "Restore it there first."},
    {"PreconditionFailed", HAUL_E_EXISTS, "it exists already",
     "Remove it there, or leave --no-clobber out."},
    {"ConditionalRequestConflict", HAUL_E_REMOTE_BUSY,
     "another write of the same key came between",
     "Look who else writes there, and run the same command again."},
    {"OperationAborted", HAUL_E_REMOTE_BUSY,
     "something else changes the bucket at this time", HINT_LATER},
    {"PermanentRedirect", HAUL_E_REMOTE, "the bucket is in another place",
     HINT_REGION},
    {"TemporaryRedirect", HAUL_E_REMOTE, "the bucket is in another place",
     HINT_REGION},

    /* What is sent. */
    {"BadDigest", HAUL_E_DIGEST,
     "the server got other bytes than what was sent", NULL},
    {"InvalidDigest", HAUL_E_DIGEST, "the server cannot read the checksum",
     NULL},
    {"XAmzContentSHA256Mismatch", HAUL_E_DIGEST,
     "the server got other bytes than what was sent", NULL},
    {"XAmzContentChecksumMismatch", HAUL_E_DIGEST,
     "the server got other bytes than what was sent", NULL},
    {"IncompleteBody", HAUL_E_REMOTE_IO,
     "the server got less than what was sent", NULL},
    {"EntityTooSmall", HAUL_E_REMOTE, "a part is too small for the server",
     "Parts need 5 MiB, all but the last: run the same command with "
     "--resume never."},
    {"EntityTooLarge", HAUL_E_REMOTE, "too large for the server",
     "The server, or what stands before it, has a limit for parts or objects, "
     "or a quota: raise it there."},
    {"InvalidPartOrder", HAUL_E_REMOTE, "the server refuses the list of parts",
     NULL},
    {"MalformedXML", HAUL_E_REMOTE, "the server cannot read the list of parts",
     NULL},
    {"InvalidRange", HAUL_E_CHANGED, "the range is not there any more",
     "The source became shorter: run the same command again when nobody "
     "writes it."},
    {"NotImplemented", HAUL_E_REMOTE, "the server cannot do this",
     "Not every server knows --no-clobber and checksums: leave such options "
     "out."},
    {"MethodNotAllowed", HAUL_E_REMOTE, "the server does not allow this there",
     "Check bucket and key, and that --endpoint speaks S3."},

    /* How the server is. */
    {"SlowDown", HAUL_E_REMOTE_BUSY, "too many requests for the server",
     HINT_FEWER},
    {"TooManyRequests", HAUL_E_REMOTE_BUSY, "too many requests for the server",
     HINT_FEWER},
    {"RequestLimitExceeded", HAUL_E_REMOTE_BUSY,
     "too many requests for the server", HINT_FEWER},
    {"Throttling", HAUL_E_REMOTE_BUSY, "too many requests for the server",
     HINT_FEWER},
    {"ThrottlingException", HAUL_E_REMOTE_BUSY,
     "too many requests for the server", HINT_FEWER},
    {"BandwidthLimitExceeded", HAUL_E_REMOTE_BUSY,
     "too many requests for the server", HINT_FEWER},
    {"ServiceUnavailable", HAUL_E_REMOTE_BUSY, "the server is busy",
     HINT_LATER},
    {"XMinioServerNotInitialized", HAUL_E_REMOTE_BUSY,
     "the server is not ready yet", HINT_LATER},
    {"RequestTimeout", HAUL_E_REMOTE_BUSY,
     "the server waited too long for the request", NULL},
    {"InternalError", HAUL_E_REMOTE_IO, "the server failed",
     "The log of the server says why."},
    {"QuotaExceeded", HAUL_E_REMOTE_FULL, "the quota is used up",
     "Free some space there, or have the quota raised, and run the same "
     "command again."},
    {"XMinioAdminBucketQuotaExceeded", HAUL_E_REMOTE_FULL,
     "the quota is used up",
     "Free some space there, or have the quota raised, and run the same "
     "command again."},
    {"XMinioStorageFull", HAUL_E_REMOTE_FULL, "no space left on the server",
     "Free some space there and run the same command again."},
    {"InsufficientStorage", HAUL_E_REMOTE_FULL, "no space left on the server",
     "Free some space there and run the same command again."},
};

/* What a status means where the code of S3 is missing (HEAD) or not known, and
 * where S3 means more by it than HTTP does. */
static const struct {
    int status;
    struct meaning meaning;
} statuses[] = {
    {301, {NULL, HAUL_E_REMOTE, "the bucket is in another place", HINT_REGION}},
    {307, {NULL, HAUL_E_REMOTE, "the bucket is in another place", HINT_REGION}},
    {400,
     {NULL, HAUL_E_REMOTE, "the server does not understand the request",
      "The region may be wrong (--region), or keys of a session may have "
      "expired."}},
    {401, {NULL, HAUL_E_AUTH, "the server refuses the keys", HINT_KEYS}},
    {403,
     {NULL, HAUL_E_REMOTE, "no permission",
      "The keys may be wrong, or may not do this there, or there is no such "
      "object and they may not list the bucket."}},
    {404,
     {NULL, HAUL_E_REMOTE, "not found",
      "Check bucket, key, --endpoint and --region."}},
    {409,
     {NULL, HAUL_E_REMOTE, "conflict with what is there",
      "Look at what is there on the server."}},
    {412,
     {NULL, HAUL_E_EXISTS, "it exists already",
      "Remove it there, or leave --no-clobber out."}},
    {413,
     {NULL, HAUL_E_REMOTE, "too large for the server",
      "The server, or what stands before it, has a limit for parts or "
      "objects, or a quota: raise it there."}},
    {501,
     {NULL, HAUL_E_REMOTE, "the server cannot do this",
      "Not every server knows --no-clobber and checksums: leave such options "
      "out."}},
};

static bool find_meaning(const char *code, int status, struct meaning *out)
{
    size_t i;

    for (i = 0; i < HL_LEN(meanings); i++) {
        if (strcmp(meanings[i].code, code) != 0)
            continue;
        *out = meanings[i];
        return true;
    }
    for (i = 0; i < HL_LEN(statuses); i++) {
        if (statuses[i].status != status)
            continue;
        *out = statuses[i].meaning;
        if (*code)
            out->hint = NULL; /* the server's own message says more */
        return true;
    }
    return false;
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

/* The right region or endpoint, when the server named one, instead of the
 * meaning's hint. false: it did not. */
static bool hint_place(const struct hl_s3_error *e, struct hl_error *err)
{
    char place[PLACE_MAX_SHOWN];

    if (e->region && *e->region) {
        hl_escape(place, sizeof(place), e->region);
        hl_err_hint(err, "The server says that it is '%s': --region %s.", place,
                    place);
        return true;
    }
    if (e->endpoint && *e->endpoint) {
        hl_escape(place, sizeof(place), e->endpoint);
        hl_err_hint(err,
                    "The server says that it is at '%s': name the region "
                    "with --region, or this with --endpoint.",
                    place);
        return true;
    }
    return false;
}

/* "HTTP status 500, InternalError, request 4442587FB7D0A2F9: MESSAGE" */
static void set_detail(const struct hl_s3_error *e, int status,
                       struct hl_error *err)
{
    const char *code = or_empty(e->code), *id = or_empty(e->request_id);
    const char *text = or_empty(e->message);

    hl_err_detail(err, "HTTP status %d%s%.64s%s%.64s%s%s", status,
                  *code ? ", " : "", code, *id ? ", request " : "", id,
                  *text ? ": " : "", text);
}

int hl_s3_error(const struct hl_s3_error *error, int status,
                const struct hl_http_subject *subject, struct hl_error *err)
{
    static const struct hl_s3_error none;
    struct meaning m = {NULL, HAUL_E_REMOTE, "the server refuses", NULL};
    char name[NAME_MAX_SHOWN];

    error = error ? error : &none;
    if (!find_meaning(or_empty(error->code), status, &m) && status / 100 != 2)
        return hl_http_status_error(
            status, subject, error->message ? error->message : error->code,
            err);
    if (m.error == HAUL_E_EXISTS && strcmp(subject->verb, "write") != 0)
        m = (struct meaning){NULL, HAUL_E_CHANGED,
                             "it has changed on the server",
                             "Run the same command again."};
    if (!err || err->code)
        return m.error;
    hl_escape(name, sizeof(name), subject->name);
    hl_err(err, m.error, 0, "cannot %s '%s': %s", subject->verb, name, m.why);
    err->proto_status = status;
    set_detail(error, status, err);
    if (!(m.hint && strcmp(m.hint, HINT_REGION) == 0 &&
          hint_place(error, err)) &&
        m.hint)
        hl_err_hint(err, "%s", m.hint);
    return m.error;
}
