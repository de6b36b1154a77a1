"""Commands of other threads to the thread of a loop: nghttp2 is called by no other."""

from collections import deque

from libc.stdint cimport uint64_t

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    Py_ssize_t write(int fd, const void *p, size_t n)

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident()


cdef class Command:
    """A target of commands."""

    # Run on the thread of the loop.
    cdef int run(self, int operation, object first, object second, object third) except -1:
        raise NotImplementedError


cdef class CommandQueue:
    """The commands of one loop, in their order."""

    cdef object waiting
    # A descriptor that is the queue's, of an eventfd that ends the loop's sleep; -1: none.
    cdef int wake
    cdef bint sleeping
    cdef unsigned long thread

    def __cinit__(self):
        self.waiting = deque()
        self.wake = -1

    def __dealloc__(self):
        if self.wake >= 0:
            close(self.wake)

    # Run a command now, on the loop's own thread; else as soon as the loop goes on.
    cdef int post(self, Command target, int operation, object first, object second, object third) except -1:
        cdef uint64_t one = 1
        if PyThread_get_thread_ident() == self.thread and not self.waiting:
            return target.run(operation, first, second, third)
        self.waiting.append((target, operation, first, second, third))
        if self.sleeping and self.wake >= 0:
            # One is enough for all that come before the loop has woken.
            self.sleeping = False
            write(self.wake, &one, sizeof(one))
        return 0

    cdef int run_waiting(self) except -1:
        cdef Command target
        while self.waiting:
            target, operation, first, second, third = self.waiting.popleft()
            target.run(operation, first, second, third)
        return 0
