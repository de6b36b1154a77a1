"""Build the kernel's extensions; everything else is in pyproject.toml.

``SESSAUTH_DEBUG=1`` turns on assertions and bounds checks; ``SESSAUTH_SANITIZE=1`` builds with
AddressSanitizer and UndefinedBehaviorSanitizer. ``SESSAUTH_LINK_ONLY=1`` builds nothing: the Makefile
installs a link to this tree, and builds in place behind it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FAST = Path("sessauth/_fast")
DEBUG = os.environ.get("SESSAUTH_DEBUG") == "1"
SANITIZE = os.environ.get("SESSAUTH_SANITIZE") == "1"
LINK_ONLY = os.environ.get("SESSAUTH_LINK_ONLY") == "1"

# -O3, which Python itself is built with, makes a warm check slower than -O2: it unrolls loops of few turns.
compile_args = ["-O2", "-Wall", "-Wno-unused-function", "-fno-strict-aliasing"]
# GCC for x86 clears a few hundred bytes by an instruction that takes longer to begin than storing them takes.
CLEAR_BY_STORES = "-mmemset-strategy=vector_loop:512:noalign,libcall:-1:noalign"
link_args: list[str] = []
if DEBUG:
    compile_args += ["-O0", "-g"]
if SANITIZE:
    compile_args += ["-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
    link_args += ["-fsanitize=address,undefined"]


class build_ext_and_stamp(build_ext):  # noqa: N801
    """Note beside the extensions what they were built from; importing them compares."""

    def finalize_options(self) -> None:
        """Compile on all cores, unless told otherwise."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        """Build, with what this compiler knows of what helps."""
        if self._accepts(CLEAR_BY_STORES):
            for extension in self.extensions:
                extension.extra_compile_args.append(CLEAR_BY_STORES)
        super().build_extensions()

    def _accepts(self, option: str) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "nothing.c")
            source.write_text("int nothing;\n")
            command = [*self.compiler.compiler_so, option, "-c", str(source), "-o", f"{source}.o"]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def run(self) -> None:
        """Build, then write the stamp."""
        super().run()
        # The package itself can't be imported yet: it would miss the stamp.
        spec = importlib.util.spec_from_file_location("_stamp", FAST / "_stamp.py")
        stamp = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(stamp)
        stamp.write(FAST, FAST if self.inplace else Path(self.build_lib) / FAST)


setup(
    cmdclass={"build_ext": build_ext_and_stamp},
    ext_modules=[]
    if LINK_ONLY
    else cythonize(
        [
            Extension(
                f"sessauth._fast.{path.stem}",
                [str(path)],
                # The stamp covers every .pxd, so each of them makes all extensions stale.
                depends=[str(pxd) for pxd in sorted(FAST.glob("*.pxd"))],
                extra_compile_args=compile_args,
                extra_link_args=link_args,
            )
            for path in sorted(FAST.glob("*.pyx"))
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
        quiet=True,
    ),
)
