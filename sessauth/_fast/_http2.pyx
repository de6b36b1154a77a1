"""gRPC over HTTP/2, for checks and the calls of gateways: one event loop a worker, over libnghttp2.

One module of many files: each ``include`` is one subject, and uses those above it. From bottom to top:

- ``library`` loads nghttp2 and OpenSSL, at run time; ``tls`` wraps the second;
- ``stream`` holds connections and their streams in memory of its own, and brings what other threads want to the thread
  of the loop; ``call`` is a call as Python sees it, and puts frames of its answer on the stream;
- ``connection`` is what nghttp2 calls while it reads, and ends, frees, reads and writes connections;
- ``admission`` answers a check on the loop or hands its call to Python, ``loop`` accepts connections and runs it all.

All but the methods of a NativeCall runs on the thread of the loop, and most of it without the interpreter lock.
nghttp2 is called by no other thread.
"""

include "http2/library.pyx"
include "http2/tls.pyx"

include "http2/stream.pyx"
include "http2/call.pyx"
include "http2/connection.pyx"
include "http2/admission.pyx"
include "http2/loop.pyx"
