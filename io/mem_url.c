/* Reads the query of a mem url. Pure. */
#include "mem.h"

#include <string.h>

#define PART_MAX (UINT64_C(1) << 60)

/* Value of a number or size in the query; absent: *out stays. */
static int query_number(const struct hl_url *url, const char *key, uint64_t max,
                        uint64_t *out, struct hl_error *err)
{
    char *text = hl_url_query(url, key);
    uint64_t v = 0;
    int rc = 0;

    if (!text)
        return 0;
    if (hl_parse_size(text, &v) || v > max)
        rc = hl_err(err, HAUL_E_INVAL, 0, "'mem:%s': bad value of '%s'",
                    url->path, key);
    else
        *out = v;
    hl_free(text);
    return rc;
}

static int parse_query(struct mem_knobs *k, const struct hl_url *url,
                       struct hl_error *err)
{
    const struct {
        const char *key;
        uint64_t *value, max;
    } keys[] = {
        {"size", &k->size, INT64_MAX},
        {"seed", &k->seed, UINT64_MAX},
        {"part", &k->part, PART_MAX},
        {"grow", &k->grow, UINT32_MAX},
        {"part_max", &k->part_max, PART_MAX},
        {"streams", &k->streams, 1024},
        {"rtt_us", &k->rtt_ns, 3600 * UINT64_C(1000000)},
        {"runs", &k->runs, PART_MAX},
        {"offer", &k->offer, 2},
        {"text", &k->text, 1},
        {"seek", &k->seek, 1},
        {"unknown", &k->unknown, 1},
        {"weak", &k->weak, 1},
        {"ordered", &k->ordered, 1},
        {"late", &k->late, 1},
        {"durable", &k->durable, 1},
        {"digest", &k->digest, 1},
        {"refuse", &k->refuse, 1},
        {"mute", &k->mute, 1},
        {"blind", &k->blind, 1},
        {"tells", &k->tells, 1},
        {"notes", &k->notes, 1},
        {"forget", &k->forget, INT64_MAX},
        {"report", &k->report, 1},
        {"gone", &k->gone, 1},
        {"claim", &k->claim, INT64_MAX},
    };
    size_t i;
    int rc = 0;

    k->seek = 1;
    k->size = UINT64_MAX;
    for (i = 0; !rc && i < HL_LEN(keys); i++)
        rc = query_number(url, keys[i].key, keys[i].max, keys[i].value, err);
    k->rtt_ns *= 1000;
    return rc;
}

static int parse_kind(struct mem_knobs *k, const struct hl_url *url,
                      enum hl_role role, struct hl_error *err)
{
    bool source = role == HL_ROLE_SOURCE;
    char *id;

    if (!strcmp(url->path, "gen") && source) {
        k->kind = MEM_GEN;
        if (k->size == UINT64_MAX)
            return hl_err(err, HAUL_E_INVAL, 0, "'mem:gen' needs 'size='");
    } else if (!strcmp(url->path, "null") && !source) {
        k->kind = MEM_NULL;
    } else if (!strcmp(url->path, "buf")) {
        k->kind = MEM_BUF;
        id = hl_url_query(url, "id");
        if (!id)
            return hl_err(err, HAUL_E_INVAL, 0, "'mem:buf' needs 'id='");
        hl_free(id);
    } else {
        return hl_err(err, HAUL_E_INVAL, 0, "'mem:%s' is no %s", url->path,
                      source ? "source" : "target");
    }
    return 0;
}

int hl_mem_url_parse(const struct hl_url *url, enum hl_role role,
                     struct mem_knobs *k, struct hl_error *err)
{
    int rc = parse_query(k, url, err);

    return rc ? rc : parse_kind(k, url, role, err);
}
