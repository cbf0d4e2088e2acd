/* What the two halves of the SQLite store share: store_open.c (path, folders,
 * permissions, migrations, errors, locks) and store_sqlite.c (everything that
 * reads and writes rows). Nobody else includes this but their tests. */
#ifndef HL_STORE_DB_H
#define HL_STORE_DB_H

#include <sqlite3.h>

#include "store.h"

#define HL_STORE_STMT_MAX 40

struct hl_store {
    sqlite3 *db;
    const struct hl_log *log;
    char *path;     /* resolved by SQLite, or ":memory:" */
    int lock_fd;    /* "<path>.lock"; -1 in memory */
    bool sync_full; /* the present level: FULL or NORMAL */
    int64_t *held;  /* ids locked through this store */
    size_t held_count;
    sqlite3_stmt *stmt[HL_STORE_STMT_MAX]; /* prepared at first use */
};

/* Turns what the connection reports last into an hl_error: HAUL_E_NOMEM or
 * HAUL_E_STORE. doing: for the detail, "add chunks". Call it before the
 * statement is reset. */
int hl_store_fail(const struct hl_store *s, const char *doing,
                  struct hl_error *err);
/* The rows cannot have been written by haul. */
int hl_store_damaged(const struct hl_store *s, const char *detail,
                     struct hl_error *err);
/* Runs statements without parameters or rows. */
int hl_store_exec(struct hl_store *s, const char *sql, struct hl_error *err);

#endif /* HL_STORE_DB_H */
