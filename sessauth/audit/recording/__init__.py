"""Recording: decisions from the kernel's queue go to the audit stream and to other sinks."""
