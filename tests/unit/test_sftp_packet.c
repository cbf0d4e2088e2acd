/* sftp_packet.c: messages byte by byte as in draft-ietf-secsh-filexfer-02, and
 * every length that a peer can get wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sftp_packet.h"

static uint8_t buf[512];
static struct hl_sftp_out out;

static void start(size_t cap)
{
    memset(buf, 0xee, sizeof(buf));
    out = (struct hl_sftp_out){buf, cap, 0};
}

/* The message in buf, written as a string literal. */
#define EXPECT(text)                                                           \
    do {                                                                       \
        assert_int_equal(out.len, sizeof(text) - 1);                           \
        assert_memory_equal(buf, text, sizeof(text) - 1);                      \
    } while (0)

#define BYTES(text)                                                            \
    ((struct hl_sftp_bytes){(const uint8_t *)(text), sizeof(text) - 1})

static int parse(struct hl_sftp_bytes b, struct hl_sftp_reply *r)
{
    return hl_sftp_reply_parse(b.p, b.len, r);
}

/* ---- Requests ----------------------------------------------------------- */

static void init_asks_for_version_3(void **state)
{
    (void)state;
    start(sizeof(buf));
    assert_true(hl_sftp_put_init(&out));
    EXPECT("\0\0\0\5\1\0\0\0\3");
}

static void open_carries_flags_and_mode(void **state)
{
    struct hl_sftp_attrs a = {.flags = HL_ATTR_PERMISSIONS, .mode = 0640};

    (void)state;
    start(sizeof(buf));
    assert_true(hl_sftp_put_open(
        &out, 0x01020304, "ab",
        HL_FXF_READ | HL_FXF_WRITE | HL_FXF_CREAT | HL_FXF_EXCL, &a));
    EXPECT("\0\0\0\x17\3\1\2\3\4\0\0\0\2ab\0\0\0\x2b\0\0\0\4\0\0\1\xa0");
}

static void all_attributes_are_in_the_order_of_the_draft(void **state)
{
    struct hl_sftp_attrs a = {.flags = 15,
                              .size = 0x0102030405060708,
                              .uid = 1,
                              .gid = 2,
                              .mode = 3,
                              .atime = 4,
                              .mtime = 5};

    (void)state;
    start(sizeof(buf));
    assert_true(hl_sftp_put_fsetstat(&out, 9, BYTES("h"), &a));
    EXPECT("\0\0\0\x2a\x0a\0\0\0\x09\0\0\0\1h\0\0\0\x0f"
           "\1\2\3\4\5\6\7\x08\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5");
}

static void only_the_attributes_that_are_set_are_sent(void **state)
{
    struct hl_sftp_attrs a = {
        .flags = HL_ATTR_ACMODTIME, .mode = 0777, .atime = 1, .mtime = 2};

    (void)state;
    start(sizeof(buf));
    assert_true(hl_sftp_put_fsetstat(&out, 9, BYTES("h"), &a));
    EXPECT("\0\0\0\x16\x0a\0\0\0\x09\0\0\0\1h\0\0\0\x08"
           "\0\0\0\1\0\0\0\2");
}

static void close_read_stat_and_rename_are_as_in_the_draft(void **state)
{
    (void)state;
    start(sizeof(buf));
    assert_true(hl_sftp_put_handle(&out, HL_SFTP_CLOSE, 1, BYTES("xy")));
    EXPECT("\0\0\0\x0b\4\0\0\0\1\0\0\0\2xy");
    start(sizeof(buf));
    assert_true(
        hl_sftp_put_read(&out, 2, BYTES("x"), UINT64_C(1) << 32, 0x3fc00));
    EXPECT("\0\0\0\x16\5\0\0\0\2\0\0\0\1x\0\0\0\1\0\0\0\0\0\3\xfc\0");
    start(sizeof(buf));
    assert_true(hl_sftp_put_path(&out, HL_SFTP_STAT, 3, "f"));
    EXPECT("\0\0\0\x0a\x11\0\0\0\3\0\0\0\1f");
    start(sizeof(buf));
    assert_true(hl_sftp_put_rename(&out, 4, "a", "bc"));
    EXPECT("\0\0\0\x10\x12\0\0\0\4\0\0\0\1a\0\0\0\2bc");
}

static void write_head_counts_the_data_that_follows(void **state)
{
    (void)state;
    start(sizeof(buf));
    assert_true(hl_sftp_put_write_head(&out, 5, BYTES("h"), 7, 0x100));
    EXPECT("\0\0\1\x16\6\0\0\0\5\0\0\0\1h\0\0\0\0\0\0\0\7\0\0\1\0");
    assert_true(out.len <= HL_SFTP_WRITE_HEAD);
}

static void extended_has_one_string_or_two(void **state)
{
    struct hl_sftp_bytes none = {NULL, 0};

    (void)state;
    start(sizeof(buf));
    assert_true(hl_sftp_put_extended(&out, 6, "e", BYTES("a"), none));
    EXPECT("\0\0\0\x0f\xc8\0\0\0\6\0\0\0\1e\0\0\0\1a");
    start(sizeof(buf));
    assert_true(hl_sftp_put_extended(&out, 6, "e", BYTES("a"), BYTES("b")));
    EXPECT("\0\0\0\x14\xc8\0\0\0\6\0\0\0\1e\0\0\0\1a\0\0\0\1b");
}

static void what_does_not_fit_is_not_begun(void **state)
{
    size_t cap;

    (void)state;
    for (cap = 0; cap < 14; cap++) {
        start(cap);
        assert_false(hl_sftp_put_path(&out, HL_SFTP_STAT, 3, "f"));
        assert_int_equal(out.len, 0);
        assert_int_equal(buf[cap], 0xee);
    }
    start(14);
    assert_true(hl_sftp_put_path(&out, HL_SFTP_STAT, 3, "f"));
    /* The first message stays when the second does not fit. */
    assert_false(hl_sftp_put_path(&out, HL_SFTP_STAT, 4, "f"));
    assert_int_equal(out.len, 14);
}

static void messages_are_appended(void **state)
{
    (void)state;
    start(sizeof(buf));
    assert_true(hl_sftp_put_init(&out));
    assert_true(hl_sftp_put_path(&out, HL_SFTP_REMOVE, 1, ""));
    EXPECT("\0\0\0\5\1\0\0\0\3\0\0\0\x09\x0d\0\0\0\1\0\0\0\0");
}

static void a_string_longer_than_a_message_is_refused(void **state)
{
    struct hl_sftp_bytes huge = {buf, HL_SFTP_MESSAGE_MAX + 1};

    (void)state;
    start(sizeof(buf));
    assert_false(hl_sftp_put_handle(&out, HL_SFTP_CLOSE, 1, huge));
    assert_int_equal(out.len, 0);
}

/* ---- Replies ------------------------------------------------------------ */

static void status_is_read_with_and_without_text(void **state)
{
    struct hl_sftp_reply r;

    (void)state;
    assert_int_equal(
        parse(BYTES("\x65\0\0\0\x07\0\0\0\4\0\0\0\4Full\0\0\0\0"), &r), 0);
    assert_int_equal(r.type, HL_SFTP_STATUS);
    assert_int_equal(r.id, 7);
    assert_int_equal(r.status, HL_FX_FAILURE);
    assert_int_equal(r.bytes.len, 4);
    assert_memory_equal(r.bytes.p, "Full", 4);
    assert_int_equal(parse(BYTES("\x65\0\0\0\x07\0\0\0\2"), &r), 0);
    assert_int_equal(r.status, HL_FX_NO_SUCH_FILE);
    assert_int_equal(r.bytes.len, 0);
}

static void handle_must_have_1_to_256_bytes(void **state)
{
    uint8_t m[9 + 257] = {0x66, 0, 0, 0, 1, 0, 0, 1, 0};
    struct hl_sftp_reply r;

    (void)state;
    assert_int_equal(parse(BYTES("\x66\0\0\0\1\0\0\0\2ab"), &r), 0);
    assert_memory_equal(r.bytes.p, "ab", 2);
    assert_int_equal(hl_sftp_reply_parse(m, 9 + 256, &r), 0);
    assert_int_equal(r.bytes.len, 256);
    m[8] = 1;
    assert_int_equal(hl_sftp_reply_parse(m, 9 + 257, &r), HAUL_E_PROTO);
    assert_int_equal(parse(BYTES("\x66\0\0\0\1\0\0\0\0"), &r), HAUL_E_PROTO);
}

static void attributes_are_read_as_their_flags_say(void **state)
{
    struct hl_sftp_reply r;

    (void)state;
    assert_int_equal(
        parse(BYTES("\x69\0\0\0\1\0\0\0\x0f\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4"
                    "\0\0\x81\xa4\0\0\0\5\x65\x53\xf1\0"),
              &r),
        0);
    assert_int_equal(r.attrs.size, (UINT64_C(1) << 32) + 2);
    assert_int_equal(r.attrs.uid, 3);
    assert_int_equal(r.attrs.gid, 4);
    assert_int_equal(r.attrs.mode, 0100644);
    assert_int_equal(r.attrs.atime, 5);
    assert_int_equal(r.attrs.mtime, 1700000000);
    assert_int_equal(parse(BYTES("\x69\0\0\0\1\0\0\0\0"), &r), 0);
    assert_int_equal(r.attrs.flags, 0);
    assert_int_equal(r.attrs.size, 0);
}

static void data_name_and_extended_replies_are_told_apart(void **state)
{
    struct hl_sftp_reply r;

    (void)state;
    assert_int_equal(parse(BYTES("\x67\0\0\0\1\0\0\0\3abc"), &r), 0);
    assert_int_equal(r.bytes.len, 3);
    assert_int_equal(parse(BYTES("\x68\0\0\0\1xyz"), &r), 0);
    assert_int_equal(r.type, HL_SFTP_NAME);
    assert_int_equal(parse(BYTES("\xc9\0\0\0\1xyz"), &r), 0);
    assert_int_equal(r.bytes.len, 3);
    assert_int_equal(parse(BYTES("\xca\0\0\0\1xyz"), &r), HAUL_E_PROTO);
}

static void a_cut_reply_is_refused_at_every_length(void **state)
{
    static const struct hl_sftp_bytes whole[] = {
        {(const uint8_t *)"\x65\0\0\0\x07\0\0\0\4\0\0\0\1F", 14},
        {(const uint8_t *)"\x66\0\0\0\1\0\0\0\2ab", 11},
        {(const uint8_t *)"\x67\0\0\0\1\0\0\0\2ab", 11},
        {(const uint8_t *)"\x69\0\0\0\1\0\0\0\x0f\0\0\0\1\0\0\0\2\0\0\0\3"
                          "\0\0\0\4\0\0\x81\xa4\0\0\0\5\0\0\0\6",
         37},
    };
    struct hl_sftp_reply r;
    size_t i, n;

    (void)state;
    for (i = 0; i < HL_LEN(whole); i++) {
        assert_int_equal(parse(whole[i], &r), 0);
        for (n = 0; n < whole[i].len; n++) {
            /* A STATUS that ends behind its code has no text. */
            int want = i == 0 && n == 9 ? 0 : HAUL_E_PROTO;

            assert_int_equal(hl_sftp_reply_parse(whole[i].p, n, &r), want);
        }
    }
}

/* ---- Heads -------------------------------------------------------------- */

static void head_asks_for_what_it_needs(void **state)
{
    static const uint8_t m[] = "\0\0\0\x0c\x67\1\2\3\4\0\0\0\3abc";
    struct hl_sftp_head h;
    size_t n;

    (void)state;
    for (n = 0; n < 5; n++)
        assert_int_equal(hl_sftp_head_parse(m, n, &h), 5);
    for (; n < 13; n++)
        assert_int_equal(hl_sftp_head_parse(m, n, &h), HL_SFTP_DATA_HEAD);
    assert_int_equal(hl_sftp_head_parse(m, n, &h), 0);
    assert_int_equal(h.length, 12);
    assert_int_equal(h.type, HL_SFTP_DATA);
    assert_int_equal(h.id, 0x01020304);
    assert_int_equal(h.data_len, 3);
}

static void head_of_other_messages_needs_five_bytes(void **state)
{
    struct hl_sftp_head h;

    (void)state;
    assert_int_equal(
        hl_sftp_head_parse((const uint8_t *)"\0\0\0\x11\x65", 5, &h), 0);
    assert_int_equal(h.length, 17);
    assert_int_equal(h.type, HL_SFTP_STATUS);
}

static int head(const char *m)
{
    struct hl_sftp_head h;

    return hl_sftp_head_parse((const uint8_t *)m, 13, &h);
}

static void impossible_lengths_are_refused(void **state)
{
    (void)state;
    assert_int_equal(head("\0\0\0\4\x65--------"), HAUL_E_PROTO);
    assert_int_equal(head("\0\0\0\5\x65--------"), 0);
    /* 256 KiB + 1 KiB = 0x40400 */
    assert_int_equal(head("\0\4\4\0\x65--------"), 0);
    assert_int_equal(head("\0\4\4\1\x65--------"), HAUL_E_PROTO);
    assert_int_equal(head("\xff\xff\xff\xff\x67--------"), HAUL_E_PROTO);
    /* DATA without room for its length, and with the wrong one */
    assert_int_equal(head("\0\0\0\x08\x67\0\0\0\1\0\0\0\0"), HAUL_E_PROTO);
    assert_int_equal(head("\0\0\0\x09\x67\0\0\0\1\0\0\0\0"), 0);
    assert_int_equal(head("\0\0\0\x0a\x67\0\0\0\1\0\0\0\2"), HAUL_E_PROTO);
    assert_int_equal(head("\0\0\0\x0a\x67\0\0\0\1\xff\xff\xff\xff"),
                     HAUL_E_PROTO);
}

/* ---- Version and extensions --------------------------------------------- */

static void version_lists_what_the_server_can(void **state)
{
    static const char m[] = "\2\0\0\0\3"
                            "\0\0\0\x18posix-rename@openssh.com\0\0\0\1"
                            "1"
                            "\0\0\0\x14hardlink@openssh.com\0\0\0\1"
                            "1"
                            "\0\0\0\x11"
                            "fsync@openssh.com\0\0\0\1"
                            "1"
                            "\0\0\0\x13statvfs@openssh.com\0\0\0\1"
                            "2"
                            "\0\0\0\x12limits@openssh.com\0\0\0\1"
                            "1"
                            "\0\0\0\x12limitz@openssh.com\0\0\0\0"
                            "\0\0\0\1x\0\0\0\0";
    struct hl_sftp_server s;

    (void)state;
    assert_int_equal(
        hl_sftp_version_parse((const uint8_t *)m, sizeof(m) - 1, &s), 0);
    assert_int_equal(s.version, 3);
    assert_true(s.posix_rename && s.hardlink && s.fsync && s.statvfs &&
                s.limits);
}

static void a_server_without_extensions_has_none(void **state)
{
    struct hl_sftp_server s;
    const uint8_t *m = (const uint8_t *)"\2\0\0\0\3\0\0\0\1x\0\0\0\0";

    (void)state;
    assert_int_equal(hl_sftp_version_parse(m, 5, &s), 0);
    assert_false(s.posix_rename || s.hardlink || s.fsync || s.statvfs ||
                 s.limits);
    assert_int_equal(hl_sftp_version_parse(m, 14, &s), 0);
    assert_false(s.posix_rename || s.hardlink || s.fsync || s.statvfs ||
                 s.limits);
}

static void a_cut_version_is_refused(void **state)
{
    const uint8_t *m = (const uint8_t *)"\2\0\0\0\3\0\0\0\1x\0\0\0\1y";
    struct hl_sftp_server s;
    size_t n;

    (void)state;
    for (n = 0; n < 15; n++)
        assert_int_equal(hl_sftp_version_parse(m, n, &s),
                         n == 5 ? 0 : HAUL_E_PROTO);
    assert_int_equal(hl_sftp_version_parse(m, 15, &s), 0);
    assert_int_equal(
        hl_sftp_version_parse((const uint8_t *)"\3\0\0\0\3", 5, &s),
        HAUL_E_PROTO);
}

static void limits_are_cut_to_what_we_use(void **state)
{
    struct hl_sftp_limits l;

    (void)state;
    /* OpenSSH 9: 256 KiB messages, 255 KiB of data, 1019 handles. */
    assert_int_equal(
        hl_sftp_limits_parse(BYTES("\0\0\0\0\0\4\0\0\0\0\0\0\0\3\xfc\0"
                                   "\0\0\0\0\0\3\xfc\0\0\0\0\0\0\0\3\xfb"),
                             &l),
        0);
    assert_int_equal(l.read_max, 261120);
    assert_int_equal(l.write_max, 261120);
    /* No limit stated: what every server takes. Huge ones: our own. */
    assert_int_equal(
        hl_sftp_limits_parse(BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                   "\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
                             &l),
        0);
    assert_int_equal(l.read_max, 32768);
    assert_int_equal(l.write_max, 261120);
    /* A message of 33 KiB leaves room for 32 KiB. */
    assert_int_equal(
        hl_sftp_limits_parse(BYTES("\0\0\0\0\0\0\x84\0\0\0\0\0\0\3\xfc\0"
                                   "\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\0"),
                             &l),
        0);
    assert_int_equal(l.read_max, 32768);
    assert_int_equal(l.write_max, 4096);
    /* Nonsense is not believed. */
    assert_int_equal(
        hl_sftp_limits_parse(BYTES("\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1"
                                   "\0\0\0\0\0\0\0\1"),
                             &l),
        0);
    assert_int_equal(l.read_max, 1024);
    assert_int_equal(l.write_max, 1024);
}

static void cut_limits_are_refused(void **state)
{
    static const uint8_t m[24] = {0};
    struct hl_sftp_limits l;
    size_t n;

    (void)state;
    for (n = 0; n < 24; n++)
        assert_int_equal(hl_sftp_limits_parse((struct hl_sftp_bytes){m, n}, &l),
                         HAUL_E_PROTO);
}

static void free_space_is_fragment_size_times_available(void **state)
{
    uint8_t m[88] = {0};
    uint64_t room = 0;
    size_t n;

    (void)state;
    m[6] = 0x7f;  /* f_bsize: not this one */
    m[14] = 0x10; /* f_frsize 4096 */
    m[31] = 0x99; /* f_bfree: not this one */
    m[39] = 3;    /* f_bavail */
    assert_int_equal(
        hl_sftp_statvfs_parse((struct hl_sftp_bytes){m, 88}, &room), 0);
    assert_int_equal(room, 3 * 4096);
    for (n = 0; n < 40; n++)
        assert_int_equal(
            hl_sftp_statvfs_parse((struct hl_sftp_bytes){m, n}, &room),
            HAUL_E_PROTO);
    m[32] = 0xff; /* more than 64 bits */
    assert_int_equal(
        hl_sftp_statvfs_parse((struct hl_sftp_bytes){m, 88}, &room), 0);
    assert_int_equal(room, UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_asks_for_version_3),
        cmocka_unit_test(open_carries_flags_and_mode),
        cmocka_unit_test(all_attributes_are_in_the_order_of_the_draft),
        cmocka_unit_test(only_the_attributes_that_are_set_are_sent),
        cmocka_unit_test(close_read_stat_and_rename_are_as_in_the_draft),
        cmocka_unit_test(write_head_counts_the_data_that_follows),
        cmocka_unit_test(extended_has_one_string_or_two),
        cmocka_unit_test(what_does_not_fit_is_not_begun),
        cmocka_unit_test(messages_are_appended),
        cmocka_unit_test(a_string_longer_than_a_message_is_refused),
        cmocka_unit_test(status_is_read_with_and_without_text),
        cmocka_unit_test(handle_must_have_1_to_256_bytes),
        cmocka_unit_test(attributes_are_read_as_their_flags_say),
        cmocka_unit_test(data_name_and_extended_replies_are_told_apart),
        cmocka_unit_test(a_cut_reply_is_refused_at_every_length),
        cmocka_unit_test(head_asks_for_what_it_needs),
        cmocka_unit_test(head_of_other_messages_needs_five_bytes),
        cmocka_unit_test(impossible_lengths_are_refused),
        cmocka_unit_test(version_lists_what_the_server_can),
        cmocka_unit_test(a_server_without_extensions_has_none),
        cmocka_unit_test(a_cut_version_is_refused),
        cmocka_unit_test(limits_are_cut_to_what_we_use),
        cmocka_unit_test(cut_limits_are_refused),
        cmocka_unit_test(free_space_is_fragment_size_times_available),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
