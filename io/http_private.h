/* What http_loop.c, http_request.c and http_options.c share; everything is of
 * the loop's thread, but what is marked "lock". */
#ifndef HL_HTTP_PRIVATE_H
#define HL_HTTP_PRIVATE_H

#include "http.h"

struct hl_http_loop {
    struct hl_http_ep *ep;
    CURLM *multi;
    pthread_t thread;
    pthread_mutex_t lock;
    struct hl_http_job *first, **last; /* lock */
    bool stop;                         /* lock */
    struct hl_list running;            /* hl_http_easy.node */
    uint32_t running_count;
    uint64_t now_ns; /* of this turn */
    uint64_t looked_ns, cpu_ns;
    uint64_t starved_ns, link_ns; /* since looked_ns */
};

/* What becomes of an answer, decided at the end of its header. */
enum hl_http_fate {
    HL_FATE_NONE,     /* no header yet */
    HL_FATE_DELIVER,  /* to the handler */
    HL_FATE_FOLLOW,   /* a redirect */
    HL_FATE_LOGIN,    /* refused; a password is asked for */
    HL_FATE_UNEXPECT, /* tried again without Expect */
    HL_FATE_REFUSE    /* head() gave an error; the body is for its detail */
};

struct hl_http_easy {
    struct hl_node node; /* loop->running */
    CURL *curl;
    struct hl_http_request *req;
    struct hl_http_loop *loop;
    struct curl_slist *headers; /* all of this try */
    char text[CURL_ERROR_SIZE];
    bool running;
    bool counted; /* in the flow, as a connection: while it may be kept */
    bool paused_in, paused_out;
    bool fresh; /* this try wants a new connection */
    bool cut;   /* a body that leads elsewhere was too long to hear out */
    bool sent_secret;
    enum hl_http_fate fate;
    char *location;
    int rc; /* of a callback or a clock: how the try ends */
    uint32_t hops;
    size_t head_bytes, swallowed, answer_room;
    uint64_t start_ns, moved_ns;
    uint64_t acked; /* of the connection, as the kernel said last */
    uint64_t told;  /* of received */
};

/* The transfer of e is through; removes it and goes on. */
void hl_http_easy_ended(struct hl_http_easy *e, CURLcode code);
/* All but the callbacks, on a handle that was reset. */
int hl_http_easy_set_options(struct hl_http_easy *e);
void hl_http_request_subject(const struct hl_http_request *req,
                             struct hl_http_subject *out);
/* Ends e when it is too quiet or takes too long. */
void hl_http_easy_check_time(struct hl_http_easy *e, uint64_t now_ns);

#endif /* HL_HTTP_PRIVATE_H */
