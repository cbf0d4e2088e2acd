/* What http_upload.c, http_part.c and http_ask.c share. Engine thread. */
#ifndef HL_HTTP_UPLOAD_PRIVATE_H
#define HL_HTTP_UPLOAD_PRIVATE_H

#include "http_upload.h"

static inline struct hl_loop *
hl_http_upload_loop(const struct hl_http_upload *u)
{
    return u->ep->base.env->loop;
}

/* Hands op back; err may be NULL. */
void hl_http_upload_finish(struct hl_http_upload *u, struct hl_op *op, int rc,
                           const struct hl_error *err);
/* Ends the abort when nothing is under way any more. */
void hl_http_upload_check_quiet(struct hl_http_upload *u);

/* NULL: there is none of that index. */
struct hl_http_part *hl_http_part_find(struct hl_http_upload *u,
                                       uint64_t index);
/* The same, made when there is none; NULL: out of memory. After open. */
struct hl_http_part *hl_http_part_get(struct hl_http_upload *u, uint64_t index);
/* Takes the write over, or hands it back. */
void hl_http_part_write(struct hl_http_part *part, struct hl_io *io);
/* Everything of the part that is not at its sender comes home; that comes by
 * itself. */
void hl_http_part_abort(struct hl_http_part *part);
/* Nothing of it is outstanding. */
void hl_http_part_free(struct hl_http_part *part);

/* It comes back soon, with HAUL_E_STALLED unless it was through. */
void hl_http_ask_unstall(struct hl_http_ask *ask);

#endif /* HL_HTTP_UPLOAD_PRIVATE_H */
