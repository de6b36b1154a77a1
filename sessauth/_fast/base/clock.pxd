"""The kernel's clock: wall time, and a monotonic one that counts suspend."""

from libc.stdint cimport int64_t

cdef extern from * nogil:
    """
    #include <time.h>
    #include <stdint.h>
    /* Linux: CLOCK_BOOTTIME counts suspend, CLOCK_MONOTONIC does not. macOS: CLOCK_MONOTONIC does. */
    #ifdef CLOCK_BOOTTIME
    #define SESSAUTH_STEADY CLOCK_BOOTTIME
    #else
    #define SESSAUTH_STEADY CLOCK_MONOTONIC
    #endif
    static int64_t sessauth_ms(clockid_t clock) {
        struct timespec t;
        clock_gettime(clock, &t);
        return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
    }
    static int64_t sessauth_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
    }
    static int64_t sessauth_wall_ms(void) { return sessauth_ms(CLOCK_REALTIME); }
    static int64_t sessauth_steady_ms(void) { return sessauth_ms(SESSAUTH_STEADY); }
    """
    int64_t wall_ms "sessauth_wall_ms"()
    int64_t steady_ms "sessauth_steady_ms"()
    int64_t monotonic_ns "sessauth_ns"()
