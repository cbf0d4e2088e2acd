/* The tests of test_file.c that write, and its main(); included by it. */

/* ---- Writing ------------------------------------------------------------ */

#define OUT_SIZE (5 * MIB + 1234)

static void write_out(struct hl_object *obj)
{
    assert_int_equal(write_at(obj, 4 * MIB, MIB + 1234, NULL), 0);
    assert_int_equal(write_at(obj, 0, 4 * MIB, NULL), 0);
}

static void a_target_appears_complete_at_commit_only(void **state)
{
    struct hl_open o = {.size = OUT_SIZE, .mode = 0600};
    struct hl_commit c = {
        .size = OUT_SIZE, .mode = 0640, .mtime_ns = 1000000000000000007};
    struct hl_op sync = {0};
    struct hl_object *obj = target(path_of("out"), &o);
    struct stat st;

    (void)state;
    assert_int_equal(o.op.rc, 0);
    assert_int_equal(o.layout.existing, 0);
    assert_false(o.layout.fresh);
    assert_string_equal(fx->token, ".out.haul-01234567.part");
    assert_false(fx->temp_was_there); /* when the token was made durable */
    assert_true(there(fx->token));
    write_out(obj);
    RUN(&sync, hl_driver_sync(obj, &sync));
    assert_int_equal(sync.rc, 0);
    assert_int_equal(fx->acked, OUT_SIZE);
    assert_false(there("out"));
    RUN(&c.op, hl_driver_commit(obj, &c));
    assert_int_equal(c.op.rc, 0);
    assert_true(c.durable);
    assert_true(c.size_checked);
    expect_file("out", OUT_SIZE);
    assert_false(there(fx->token));
    assert_int_equal(stat(path_of("out"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(st.st_mtim.tv_sec, 1000000000);
    assert_int_equal(st.st_mtim.tv_nsec, 7);
    drop(obj);
}

static void nothing_is_created_before_the_token_is_durable(void **state)
{
    struct hl_open o = {.size = OUT_SIZE};
    struct hl_object *obj;

    (void)state;
    fx->token_rc = HAUL_E_STORE;
    obj = target(path_of("out"), &o);
    fx->token_rc = 0;
    assert_int_equal(o.op.rc, HAUL_E_STORE);
    assert_false(there(fx->token));
    drop(obj);
}

static void abort_ends_an_open_that_waits_for_its_token(void **state)
{
    struct hl_object *obj = object(path_of("out"), HL_ROLE_TARGET);
    struct hl_open o = {.size = 1, .id = ID, .op.done = done};
    unsigned count = 0;

    (void)state;
    fx->hold_token = true;
    fx->token[0] = '\0';
    o.op.user = &count;
    hl_driver_open(obj, &o);
    while (!fx->token[0])
        hl_loop_step(fx->env.loop, 100);
    fx->hold_token = false;
    drop(obj);
    assert_int_equal(count, 1);
    assert_int_equal(o.op.rc, HAUL_E_CANCELED);
    assert_false(there(fx->token));
}

static void resume_goes_on_with_the_temporary_file(void **state)
{
    struct hl_open o = {.size = OUT_SIZE};
    struct hl_suspend s = {0};
    char token[NAME_MAX + 1];
    struct hl_object *obj = target(path_of("out"), &o);

    (void)state;
    assert_int_equal(write_at(obj, 0, 4 * MIB, NULL), 0);
    RUN(&s.op, hl_driver_suspend(obj, &s));
    assert_int_equal(s.op.rc, 0);
    drop(obj);
    snprintf(token, sizeof(token), "%s", fx->token);
    memset(&o, 0, sizeof(o));
    o.size = OUT_SIZE;
    o.resume = true;
    o.token = token;
    obj = target(path_of("out"), &o);
    assert_int_equal(o.op.rc, 0);
    assert_int_equal(o.layout.existing, 4 * MIB);
    assert_false(o.layout.fresh);
    assert_int_equal(write_at(obj, 4 * MIB, MIB + 1234, NULL), 0);
    assert_int_equal(commit(obj, OUT_SIZE).op.rc, 0);
    expect_file("out", OUT_SIZE);
    drop(obj);
}

static void resume_without_its_file_is_fresh(void **state)
{
    struct hl_open o = {
        .size = 10, .resume = true, .token = ".out.haul-01234567.part"};
    struct hl_object *obj = target(path_of("out"), &o);

    (void)state;
    assert_int_equal(o.op.rc, 0);
    assert_true(o.layout.fresh);
    assert_int_equal(o.layout.existing, 0);
    assert_true(there(".out.haul-01234567.part"));
    drop(obj);
}

static void a_token_that_leaves_the_folder_is_refused(void **state)
{
    struct hl_open o = {
        .size = 10, .resume = true, .token = "../../tmp/xxxxxxxxxxxxxxx.part"};
    struct hl_object *obj = target(path_of("out"), &o);

    (void)state;
    assert_int_equal(o.op.rc, HAUL_E_RESUME);
    drop(obj);
}

static void two_writers_of_one_temporary_file_are_refused(void **state)
{
    struct hl_open a = {.size = 10}, b = {.size = 10};
    struct hl_object *first = target(path_of("out"), &a);
    struct hl_object *second = target(path_of("out"), &b);

    (void)state;
    assert_int_equal(a.op.rc, 0);
    assert_int_equal(b.op.rc, HAUL_E_BUSY);
    drop(second);
    drop(first);
}

static void no_clobber_refuses_at_open_and_at_commit(void **state)
{
    struct hl_open o = {.size = 100, .no_clobber = true};
    struct hl_commit c = {.size = 100, .no_clobber = true};
    struct hl_object *obj;

    (void)state;
    obj = target(path_of("out"), &o);
    assert_int_equal(write_at(obj, 0, 100, NULL), 0);
    make_file("out", 7);
    RUN(&c.op, hl_driver_commit(obj, &c));
    assert_int_equal(c.op.rc, HAUL_E_EXISTS);
    expect_file("out", 7);
    assert_true(there(fx->token));
    drop(obj);
    memset(&o, 0, sizeof(o));
    o.no_clobber = true;
    obj = target(path_of("out"), &o);
    assert_int_equal(o.op.rc, HAUL_E_EXISTS);
    drop(obj);
    memset(&o, 0, sizeof(o));
    o.size = 100;
    obj = target(path_of("out"), &o); /* without it: replaced */
    assert_int_equal(write_at(obj, 0, 100, NULL), 0);
    assert_int_equal(commit(obj, 100).op.rc, 0);
    expect_file("out", 100);
    drop(obj);
}

static void a_target_of_the_wrong_size_does_not_appear(void **state)
{
    struct hl_open o = {.size = 100};
    struct hl_object *obj = target(path_of("out"), &o);
    struct hl_commit c;

    (void)state;
    assert_int_equal(write_at(obj, 0, 99, NULL), 0);
    c = commit(obj, 100);
    assert_int_equal(c.op.rc, HAUL_E_WRITE);
    assert_non_null(strstr(c.op.error.message, "99 bytes instead of 100"));
    assert_false(c.size_checked);
    assert_false(there("out"));
    drop(obj);
}

/* 254 bytes: "aa" and 126 letters of two bytes. 1 + 235 + 19 would be 255, but
 * byte 235 is the second of a letter. */
static void a_long_name_is_cut_between_characters(void **state)
{
    char name[NAME_MAX + 1] = "aa";
    struct hl_open o = {.size = 1};
    struct hl_object *obj;

    (void)state;
    for (int i = 2; i < 254; i += 2)
        memcpy(name + i, "\xc3\xa4", 3);
    obj = target(path_of(name), &o);
    assert_int_equal(o.op.rc, 0);
    assert_int_equal(strlen(fx->token), 254);
    assert_string_equal(fx->token + 235, ".haul-01234567.part");
    assert_int_equal((uint8_t)fx->token[234], 0xa4);
    assert_int_equal(write_at(obj, 0, 1, NULL), 0);
    assert_int_equal(commit(obj, 1).op.rc, 0);
    assert_true(there(name));
    drop(obj);
}

static void a_link_stays_and_its_file_is_replaced(void **state)
{
    struct hl_open o = {.size = 100};
    struct hl_object *obj;
    struct stat st;

    (void)state;
    assert_int_equal(mkdir(path_of("other"), 0755), 0);
    make_file("other/real", 7);
    assert_int_equal(symlink("other/real", path_of("link")), 0);
    obj = target(path_of("link"), &o);
    assert_true(there("other/.real.haul-01234567.part"));
    assert_int_equal(write_at(obj, 0, 100, NULL), 0);
    assert_int_equal(commit(obj, 100).op.rc, 0);
    assert_int_equal(lstat(path_of("link"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    expect_file("other/real", 100);
    drop(obj);
    assert_int_equal(symlink("nowhere", path_of("dangling")), 0);
    memset(&o, 0, sizeof(o));
    obj = target(path_of("dangling"), &o);
    expect_error(&o.op, HAUL_E_WRITE, 0, "symbolic link");
    drop(obj);
}

static void a_folder_as_target_is_refused(void **state)
{
    struct hl_open o = {.size = 1};
    struct hl_object *obj;

    (void)state;
    assert_int_equal(mkdir(path_of("folder"), 0755), 0);
    obj = target(path_of("folder"), &o);
    expect_error(&o.op, HAUL_E_WRITE, EISDIR, "folder'");
    assert_true(o.op.error.hint[0]);
    drop(obj);
}

static void append_goes_on_with_the_final_file(void **state)
{
    struct hl_open o = {.size = 5000, .append = true};
    struct hl_object *obj;

    (void)state;
    make_file("out", 3000);
    obj = target(path_of("out"), &o);
    assert_int_equal(o.op.rc, 0);
    assert_int_equal(o.layout.existing, 3000);
    assert_true(o.layout.caps & HL_CAP_IN_PLACE);
    assert_string_equal(fx->token, "=");
    assert_int_equal(write_at(obj, 3000, 2000, NULL), 0);
    assert_int_equal(commit(obj, 5000).op.rc, 0);
    expect_file("out", 5000);
    drop(obj);
}

static void in_order_is_cut_to_the_contiguous_mark(void **state)
{
    struct hl_open o = {.size = 9000, .in_order = true};
    struct hl_suspend s = {.contiguous = 3000};
    struct hl_object *obj;

    (void)state;
    make_file("out", 20000);
    obj = target(path_of("out"), &o);
    assert_int_equal(o.layout.existing, 0); /* begun anew */
    assert_true(o.layout.caps & HL_CAP_ORDERED);
    assert_int_equal(write_at(obj, 0, 3000, NULL), 0);
    assert_int_equal(write_at(obj, 6000, 3000, NULL), 0);
    RUN(&s.op, hl_driver_suspend(obj, &s));
    drop(obj);
    expect_file("out", 3000);
    memset(&o, 0, sizeof(o));
    o.size = 9000;
    o.in_order = o.resume = true;
    o.token = "=";
    obj = target(path_of("out"), &o);
    assert_int_equal(o.layout.existing, 3000);
    assert_false(o.layout.fresh);
    drop(obj);
    o.no_clobber = true; /* the file that stands there is ours */
    obj = target(path_of("out"), &o);
    assert_int_equal(o.op.rc, 0);
    drop(obj);
}

static void a_folder_that_refuses_new_files_means_in_place(void **state)
{
    struct hl_open o = {.size = 100};
    struct hl_object *obj;
    struct hl_commit c;

    (void)state;
    assert_int_equal(mkdir(path_of("closed"), 0755), 0);
    make_file("closed/out", 7);
    assert_int_equal(chmod(path_of("closed/out"), 0666), 0);
    assert_int_equal(chmod(path_of("closed"), 0555), 0);
    if (getuid() == 0)
        assert_int_equal(seteuid(NOBODY), 0);
    obj = target(path_of("closed/out"), &o);
    assert_int_equal(o.op.rc, 0);
    assert_true(o.layout.caps & HL_CAP_IN_PLACE);
    assert_string_equal(fx->token, "=");
    assert_int_equal(write_at(obj, 0, 100, NULL), 0);
    c = commit(obj, 100);
    if (getuid() == 0)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(c.op.rc, 0);
    expect_file("closed/out", 100);
    drop(obj);
}

static void discard_removes_the_temporary_file(void **state)
{
    struct hl_open o = {.size = 100};
    struct hl_op op = {0};
    struct hl_object *obj = target(path_of("out"), &o);
    char token[NAME_MAX + 1];

    (void)state;
    assert_true(there(fx->token));
    drop(obj);
    snprintf(token, sizeof(token), "%s", fx->token);
    obj = object(path_of("out"), HL_ROLE_TARGET);
    for (int i = 0; i < 2; i++) { /* gone already is no error */
        RUN(&op, hl_driver_discard(obj, token, &op));
        assert_int_equal(op.rc, 0);
        assert_false(there(token));
    }
    drop(obj);
}

static void a_target_can_be_read_back(void **state)
{
    struct hl_open o = {.size = OUT_SIZE};
    struct hl_object *obj = target(path_of("out"), &o);
    uint8_t *data = aligned(OUT_SIZE);

    (void)state;
    assert_true(o.layout.caps & HL_CAP_READBACK);
    write_out(obj);
    assert_int_equal(read_at(obj, 0, OUT_SIZE, data).done, OUT_SIZE);
    assert_true(filled(data, 0, OUT_SIZE));
    free(data);
    drop(obj);
}

static void stat_tells_missing_file_and_folder_apart(void **state)
{
    struct hl_object *obj = object(path_of("x"), HL_ROLE_TARGET);
    struct hl_stat s = {.exists = true};

    (void)state;
    RUN(&s.op, hl_driver_stat(obj, &s));
    assert_int_equal(s.op.rc, 0);
    assert_false(s.exists);
    make_file("x", 77);
    RUN(&s.op, hl_driver_stat(obj, &s));
    assert_true(s.exists);
    assert_false(s.is_folder);
    assert_int_equal(s.size, 77);
    assert_int_equal(unlink(path_of("x")), 0);
    assert_int_equal(mkdir(path_of("x"), 0755), 0);
    RUN(&s.op, hl_driver_stat(obj, &s));
    assert_true(s.exists);
    assert_true(s.is_folder);
    drop(obj);
}

/* ---- A full disk -------------------------------------------------------- */

static void too_large_a_target_is_refused_before_it_starts(void **state)
{
    struct hl_open o = {.size = UINT64_C(1) << 60};
    struct hl_object *obj = target(path_of("out"), &o);

    (void)state;
    assert_int_equal(o.op.rc, HAUL_E_FULL);
    assert_non_null(strstr(o.op.error.detail, "1152921504606846976 bytes"));
    assert_true(o.op.error.hint[0]);
    assert_string_equal(fx->token, "");
    drop(obj);
}

/* A tmpfs of 1 MiB, or else a limit on the size of files. */
static void a_full_disk_is_told_as_such(void **state)
{
    struct rlimit old, small = {MIB, 0};
    struct hl_open o = {.size = HL_SIZE_UNKNOWN};
    struct hl_object *obj;
    struct hl_error err;
    char path[PATH_MAX];
    bool mounted;
    int rc;

    (void)state;
    assert_int_equal(mkdir(path_of("small"), 0755), 0);
    mounted = mount("tmpfs", path_of("small"), "tmpfs", 0, "size=1m") == 0;
    snprintf(path, sizeof(path), "%s/out", path_of("small"));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    if (!mounted)
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    obj = target(path, &o);
    rc = write_at(obj, 0, 2 * MIB, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    drop(obj);
    hl_driver_file.endpoint_free(fx->ep);
    assert_int_equal(hl_driver_file.endpoint_new(&fx->env, NULL, &fx->ep, NULL),
                     0);
    if (mounted)
        assert_int_equal(umount(path_of("small")), 0);
    assert_int_equal(rc, mounted ? HAUL_E_FULL : HAUL_E_WRITE);
    assert_int_equal(err.sys_errno, mounted ? ENOSPC : EFBIG);
    assert_true(err.hint[0]);
    assert_int_equal(fx->acked, 0);
}

/* ---- The two ways ------------------------------------------------------- */

static void refusing_io_uring_is_said_with_its_reason(void **state)
{
    struct hl_object *obj;
    struct hl_open o;

    (void)state;
    make_file("in", 5);
    obj = source("in", &o);
    if (getenv("HAUL_NO_URING"))
        assert_non_null(strstr(fx->logged, "HAUL_NO_URING is set"));
    else if (fx->logged[0])
        print_message("note: %s\n", fx->logged);
    drop(obj);
}

/* No thread may touch anything there. */
static void in_virtual_time_the_loop_does_the_work(void **state)
{
    struct hl_loop *real = fx->env.loop;
    struct hl_endpoint *ep = fx->ep;
    uint8_t data[1000];
    struct hl_object *obj;
    struct hl_open o;

    (void)state;
    make_file("in", 1000);
    fx->env.virtual_time = true;
    assert_int_equal(hl_loop_new(true, &fx->env.loop, NULL), 0);
    assert_int_equal(hl_driver_file.endpoint_new(&fx->env, NULL, &fx->ep, NULL),
                     0);
    obj = source("in", &o);
    assert_int_equal(o.op.rc, 0);
    assert_int_equal(read_at(obj, 0, 1000, data).done, 1000);
    assert_true(filled(data, 0, 1000));
    drop(obj);
    hl_driver_file.endpoint_free(fx->ep);
    hl_loop_free(fx->env.loop);
    fx->env.loop = real;
    fx->env.virtual_time = false;
    fx->ep = ep;
}

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    char sub[PATH_MAX];

    while (d && (e = readdir(d))) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name) < PATH_MAX &&
            unlink(sub))
            remove_tree(sub);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

static int begin(void **state)
{
    const char *tmp = getenv("TMPDIR");

    *state = fx = calloc(1, sizeof(*fx));
    fx->open_fds = count_fds();
    fx->allocations = hl_mem_live();
    snprintf(fx->folder, sizeof(fx->folder), "%s/haul-test-XXXXXX",
             tmp ? tmp : "/tmp");
    if (!mkdtemp(fx->folder) || chmod(fx->folder, 0755))
        return -1;
    fx->log = (struct hl_log){
        .fn = on_log, .level = HAUL_LOG_TRACE, .areas = UINT32_MAX};
    fx->env.log = &fx->log;
    if (hl_loop_new(false, &fx->env.loop, NULL))
        return -1;
    return hl_driver_file.endpoint_new(&fx->env, NULL, &fx->ep, NULL);
}

/* Nothing is left: memory, descriptors. */
static int end(void **state)
{
    int64_t live;
    int fds, rc;

    (void)state;
    hl_driver_file.endpoint_free(fx->ep);
    hl_loop_free(fx->env.loop);
    chmod(path_of("closed"), 0755);
    remove_tree(fx->folder);
    fds = count_fds() - fx->open_fds;
    live = hl_mem_live() - fx->allocations;
    free(fx);
    rc = live != 0 || fds != 0;
    if (rc)
        print_error("left: %lld allocations, %d descriptors\n", (long long)live,
                    fds);
    return rc;
}

static int without_ring(void **state)
{
    (void)state;
    return setenv("HAUL_NO_URING", "1", 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(several_reads_in_any_order_bring_the_bytes),
        T(an_unaligned_place_and_buffer_are_read),
        T(identity_names_size_time_inode_and_mode),
        T(a_source_that_cannot_be_read_says_why),
        T(a_source_without_permission_says_why),
        T(a_file_cut_while_it_is_read_ends_there),
        T(reading_leaves_the_page_cache_as_it_was),
        T(no_locked_memory_is_needed),
        T(abort_brings_every_read_back_once),
        T(standard_input_is_read_full_and_left_alone),
        T(a_fifo_that_nobody_writes_can_be_aborted),
        T(a_fifo_target_waits_for_its_reader),
        T(a_target_appears_complete_at_commit_only),
        T(nothing_is_created_before_the_token_is_durable),
        T(abort_ends_an_open_that_waits_for_its_token),
        T(resume_goes_on_with_the_temporary_file),
        T(resume_without_its_file_is_fresh),
        T(a_token_that_leaves_the_folder_is_refused),
        T(two_writers_of_one_temporary_file_are_refused),
        T(no_clobber_refuses_at_open_and_at_commit),
        T(a_target_of_the_wrong_size_does_not_appear),
        T(a_long_name_is_cut_between_characters),
        T(a_link_stays_and_its_file_is_replaced),
        T(a_folder_as_target_is_refused),
        T(append_goes_on_with_the_final_file),
        T(in_order_is_cut_to_the_contiguous_mark),
        T(a_folder_that_refuses_new_files_means_in_place),
        T(discard_removes_the_temporary_file),
        T(a_target_can_be_read_back),
        T(stat_tells_missing_file_and_folder_apart),
        T(too_large_a_target_is_refused_before_it_starts),
        T(a_full_disk_is_told_as_such),
        T(in_virtual_time_the_loop_does_the_work),
        T(refusing_io_uring_is_said_with_its_reason),
    };
    int failed;

    unsetenv("HAUL_NO_URING");
    failed = cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
    failed += cmocka_run_group_tests_name("threads", tests, without_ring, NULL);
    return failed;
}
