"""Commands of other threads to the thread of a loop."""

cdef class Command:
    # Run on the thread of the loop.
    cdef int run(self, int operation, object first, object second, object third) except -1

cdef class CommandQueue:
    cdef object waiting
    # A descriptor that is the queue's, of an eventfd that ends the loop's sleep; -1: none.
    cdef int wake
    cdef bint sleeping
    cdef unsigned long thread

    # Run a command now, on the loop's own thread; else as soon as the loop goes on.
    cdef int post(self, Command target, int operation, object first, object second, object third) except -1
    cdef int run_waiting(self) except -1
