/* Intrusive doubly linked list; a node is in one list at most. No locking. */
#ifndef HL_LIST_H
#define HL_LIST_H

#include "base.h"

struct hl_node {
    struct hl_node *prev, *next; /* NULL, NULL: in no list */
};
struct hl_list {
    struct hl_node head;
};

static inline void hl_list_init(struct hl_list *l)
{
    l->head.prev = l->head.next = &l->head;
}
static inline bool hl_list_empty(const struct hl_list *l)
{
    return l->head.next == &l->head;
}
static inline bool hl_node_linked(const struct hl_node *n)
{
    return n->next != NULL;
}
static inline void hl_list_insert(struct hl_node *before, struct hl_node *n)
{
    HL_ASSERT(!hl_node_linked(n));
    n->prev = before->prev;
    n->next = before;
    before->prev->next = n;
    before->prev = n;
}
static inline void hl_list_append(struct hl_list *l, struct hl_node *n)
{
    hl_list_insert(&l->head, n);
}
static inline void hl_list_prepend(struct hl_list *l, struct hl_node *n)
{
    hl_list_insert(l->head.next, n);
}
static inline void hl_list_remove(struct hl_node *n)
{
    HL_ASSERT(hl_node_linked(n));
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->prev = n->next = NULL;
}
static inline struct hl_node *hl_list_first(const struct hl_list *l)
{
    return hl_list_empty(l) ? NULL : l->head.next;
}
static inline struct hl_node *hl_list_next(const struct hl_list *l,
                                           const struct hl_node *n)
{
    return n->next == &l->head ? NULL : n->next;
}
static inline struct hl_node *hl_list_pop(struct hl_list *l)
{
    struct hl_node *n = hl_list_first(l);

    if (n)
        hl_list_remove(n);
    return n;
}

#endif /* HL_LIST_H */
