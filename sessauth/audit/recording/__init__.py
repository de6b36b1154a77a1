"""Recording: what this process decides, taken from the kernel's tap and handed to whoever keeps it."""
