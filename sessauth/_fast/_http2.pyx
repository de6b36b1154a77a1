"""gRPC over HTTP/2, for checks and the calls of gateways: one event loop a worker, over libnghttp2.

One module of many files: each ``include`` is one subject, and uses those above it. From bottom to top:

- ``library`` and ``openssl`` load what does the work, at run time; ``tls`` and ``tls_endpoint`` wrap the second;
- ``stream`` holds connections and their streams in memory of its own, ``answers`` puts frames on them, ``connection``
  is what nghttp2 calls while it reads, ``timers``, ``closing`` and ``socket_io`` end, free, read and write connections;
- ``commands`` brings what other threads want to the thread of the loop, ``call`` is a call as Python sees it;
- ``admission`` answers a check on the loop or hands its call to Python, ``listeners`` accepts, ``loop`` runs it all.

All but the methods of a NativeCall runs on the thread of the loop, and most of it without the interpreter lock.
nghttp2 is called by no other thread.
"""

include "http2/library.pyx"
include "http2/openssl.pyx"
include "http2/tls.pyx"
include "http2/tls_endpoint.pyx"

include "http2/epoll.pyx"
include "http2/commands.pyx"
include "http2/stream.pxd"
include "http2/stream.pyx"
include "http2/answers.pyx"
include "http2/call.pyx"
include "http2/callers.pyx"
include "http2/connection.pyx"
include "http2/timers.pyx"
include "http2/closing.pyx"
include "http2/socket_io.pyx"
include "http2/admission.pyx"
include "http2/listeners.pyx"
include "http2/loop.pyx"
