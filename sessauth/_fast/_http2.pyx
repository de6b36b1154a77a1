"""gRPC over HTTP/2, for checks and the calls of gateways: one event loop a worker, over libnghttp2.

One module of many files: each ``include`` has one subject, and uses those above it. From bottom to top:

- ``library`` loads nghttp2 and OpenSSL at run time; ``tls`` wraps OpenSSL;
- ``stream`` keeps connections and their streams in C memory, and passes commands of other threads to the loop's thread;
- ``call`` is the Python object of a call, and submits the frames of its answer;
- ``connection`` has the callbacks of nghttp2, and reads, writes, closes and frees connections;
- ``admission`` answers a check on the loop or hands its call to Python;
- ``loop`` accepts connections and runs the rest.

Other threads may call only the methods of a NativeCall and ``Loop.wake``. The rest runs on the loop's thread, mostly
without the interpreter lock. No other thread may call nghttp2.
"""

include "http2/library.pyx"
include "http2/tls.pyx"

include "http2/stream.pyx"
include "http2/call.pyx"
include "http2/connection.pyx"
include "http2/admission.pyx"
include "http2/loop.pyx"
