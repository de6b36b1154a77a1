"""Search for one text in another, linear whatever the two are."""

cdef extern from * nogil:
    """
    #define _GNU_SOURCE 1
    #include <stdint.h>
    #include <string.h>

    /* glibc declares it under _GNU_SOURCE only. */
    extern void *memmem(const void *, size_t, const void *, size_t);

    enum {
        /* Up to so many bytes of text no table pays. */
        SEARCH_SHORT = 16,
        /* Places that are tried at once: few, since they are tried again if there is a match, but more for long pieces,
           as the parts of the text overlap by a piece. */
        SEARCH_WINDOW = 256,
        SEARCH_LONG_WINDOW = 1024,
        SEARCH_LONG = 16
    };

    /* Shift-Or (Baeza-Yates and Gonnet, 1992): bit i of a state is 0 if the last i + 1 bytes are the first of the piece.
       A state waits for itself at each byte, so parts of the text go on side by side, or the words of one state. */
    static inline __attribute__((always_inline)) int sessauth_window(
        const unsigned char *const *parts, size_t n, const uint64_t *table, int lanes, int words, uint64_t last
    ) {
        uint64_t states[4][4];
        uint64_t seen = ~(uint64_t) 0;
        size_t i;
        int lane, k;
        memset(states, 0xFF, sizeof(states));
        for (i = 0; i < n; i++) {
    #pragma GCC unroll 4
            for (lane = 0; lane < lanes; lane++) {
                const uint64_t *row = table + (size_t) parts[lane][i] * words;
    #pragma GCC unroll 4
                for (k = words - 1; k > 0; k--)
                    states[lane][k] = (states[lane][k] << 1 | states[lane][k - 1] >> 63) | row[k];
                states[lane][0] = states[lane][0] << 1 | row[0];
                seen &= states[lane][words - 1];
            }
        }
        return !(seen & last);
    }

    static const unsigned char *sessauth_first(
        const unsigned char *text, size_t m, const uint64_t *table, int words, uint64_t last
    ) {
        uint64_t states[4];
        size_t i;
        int k;
        memset(states, 0xFF, sizeof(states));
        for (i = 0;; i++) {
            const uint64_t *row = table + (size_t) text[i] * words;
            for (k = words - 1; k > 0; k--)
                states[k] = (states[k] << 1 | states[k - 1] >> 63) | row[k];
            states[0] = states[0] << 1 | row[0];
            if (!(states[words - 1] & last))
                return text + i + 1 - m;
        }
    }

    /* The first place of a piece, or NULL. Up to 256 bytes of it glibc's memmem takes the product of both lengths. */
    static const unsigned char *sessauth_find(
        const unsigned char *text, size_t n, const unsigned char *piece, size_t m
    ) {
        uint64_t table[256 * 4];
        const unsigned char *parts[4];
        const unsigned char *at;
        size_t window = m > SEARCH_LONG ? SEARCH_LONG_WINDOW : SEARCH_WINDOW;
        size_t i, places, length, step;
        int words = (int) (m + 63) / 64;
        int lanes = words == 1 ? 4 : words == 2 ? 2 : 1;
        uint64_t last = (uint64_t) 1 << (m - 1) % 64;
        int filled = 0, found;
        if (m > 256)
            return (const unsigned char *) memmem(text, n, piece, m);
        while (n >= m) {
            at = (const unsigned char *) memchr(text, piece[0], n - m + 1);
            if (at == NULL)
                return NULL;
            n -= at - text;
            text = at;
            if (memcmp(text, piece, m) == 0)
                return text;
            if (n <= SEARCH_SHORT) {
                text++;
                n--;
                continue;
            }
            if (!filled) {
                memset(table, 0xFF, 256 * 8 * (size_t) words);
                for (i = 0; i < m; i++)
                    table[piece[i] * (size_t) words + i / 64] &= ~((uint64_t) 1 << i % 64);
                filled = 1;
            }
            places = n - m + 1 < window ? n - m + 1 : window;
            step = (places + lanes - 1) / lanes;
            length = step + m - 1;
            for (i = 0; i < (size_t) lanes; i++)
                parts[i] = text + (i * step + length <= n ? i * step : n - length);
            if (words == 1)
                found = sessauth_window(parts, length, table, 4, 1, last);
            else if (words == 2)
                found = sessauth_window(parts, length, table, 2, 2, last);
            else if (words == 3)
                found = sessauth_window(parts, length, table, 1, 3, last);
            else
                found = sessauth_window(parts, length, table, 1, 4, last);
            if (found)
                return sessauth_first(text, m, table, words, last);
            text += places;
            n -= places;
        }
        return NULL;
    }
    """
    const unsigned char *find "sessauth_find"(
        const unsigned char *text, size_t n, const unsigned char *piece, size_t m
    )
