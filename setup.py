"""Build the kernel's extensions; everything else is in pyproject.toml.

``SESSAUTH_DEBUG=1`` turns on assertions and bounds checks; ``SESSAUTH_SANITIZE=1`` builds with
AddressSanitizer and UndefinedBehaviorSanitizer.
"""

from __future__ import annotations

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("SESSAUTH_DEBUG") == "1"
SANITIZE = os.environ.get("SESSAUTH_SANITIZE") == "1"

compile_args = ["-O2", "-Wall", "-Wno-unused-function", "-fno-strict-aliasing"]
link_args: list[str] = []
if DEBUG:
    compile_args += ["-O0", "-g"]
if SANITIZE:
    compile_args += ["-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
    link_args += ["-fsanitize=address,undefined"]

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"sessauth._fast.{path.stem}",
                [str(path)],
                extra_compile_args=compile_args,
                extra_link_args=link_args,
            )
            for path in sorted(Path("sessauth/_fast").glob("*.pyx"))
        ],
        compiler_directives={
            "language_level": "3",
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "embedsignature": True,
        },
        nthreads=os.cpu_count() or 1,
    ),
)
