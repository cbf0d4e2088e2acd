/* Seeded random numbers for jitter and simulation; never for secrets. */
#ifndef HL_RANDOM_H
#define HL_RANDOM_H

#include <stdint.h>

struct hl_random {
    uint64_t state;
};

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
 * generators, 2014). Any seed is good. */
static inline uint64_t hl_random_next(struct hl_random *r)
{
    uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}
/* 0 … bound-1; bound must not be 0. */
static inline uint64_t hl_random_below(struct hl_random *r, uint64_t bound)
{
    return hl_random_next(r) % bound;
}

#endif /* HL_RANDOM_H */
