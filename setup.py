"""Build the kernel's extensions; everything else is in pyproject.toml.

``SESSAUTH_DEBUG=1`` turns on assertions and bounds checks; ``SESSAUTH_SANITIZE=1`` builds with
AddressSanitizer and UndefinedBehaviorSanitizer. ``SESSAUTH_LINK_ONLY=1`` builds nothing: the Makefile
installs a link to this tree, and builds in place behind it.
"""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

from Cython.Build import cythonize
from setuptools import Command, Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import PlatformError

FAST = Path("sessauth/_fast")
VECTORS = Path("tests/vectors")
DEBUG = os.environ.get("SESSAUTH_DEBUG") == "1"
SANITIZE = os.environ.get("SESSAUTH_SANITIZE") == "1"
LINUX = sys.platform == "linux"
LINK_ONLY = os.environ.get("SESSAUTH_LINK_ONLY") == "1"
HOW_TO_GET = (
    "install what Debian calls 'gcc python3-dev', and Fedora 'gcc python3-devel' "
    "(of the version of Python that is used), or name a compiler with CC=..."
)

# -O3, which Python itself is built with, makes a warm check slower than -O2: it unrolls loops of few turns.
compile_args = ["-O2", "-Wall", "-Wno-unused-function", "-fno-strict-aliasing"]
# GCC for x86 clears a few hundred bytes by an instruction that takes longer to begin than storing them takes.
CLEAR_BY_STORES = "-mmemset-strategy=vector_loop:512:noalign,libcall:-1:noalign"
# The functions of a check by a known token, in the order in which it calls them. Side by side, they evict
# each other less often from the processor's cache of instructions: a tenth of a check, which otherwise
# changes with each change of the kernel. A name that is no longer there only loses its place.
IN_ORDER = """
    7Checker_?check 7Checker__judge_call 11StageRunner_clock 11StageRunner_take_box 11StageRunner_judge
    11StageRunner__judge_at 11StageRunner_judge_before_scope 11StageRunner_chain_of 10ChainCache_find
    10ChainCache__hash 10ChainCache__hash_half last_signature 11StageRunner__session 4View_session 4View_key
    4View_is_unchanged check_session_alive 11StageRunner__issuer judge_time judge_audience _among
    split_resource read_document_anew _container utf8_valid match_scopes judge_scope holds
    11StageRunner_new_decision 8Decision_fill Decision
"""
OF_CYTHON = "*(.text.__Pyx_ParseKeywordsTuple*) *(.text.__Pyx_CyFunction_Vectorcall_FASTCALL_KEYWORDS)"
link_args: list[str] = []
if DEBUG:
    compile_args += ["-O0", "-g"]
if SANITIZE:
    compile_args += ["-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
    link_args += ["-fsanitize=address,undefined"]
if not (DEBUG or SANITIZE):
    # Python's own flags ask for debug information, which is three quarters of an extension.
    compile_args += ["-g0"]
    if LINUX:
        # Symbols that only a debugger reads are a sixth of what is left.
        link_args += ["-Wl,-s"]

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
    # Copies of the source are half of the C.
    "emit_code_comments": DEBUG,
}


def load_stamp() -> ModuleType:
    """Return the kernel's ``_stamp``. The package itself can't be imported yet: it would miss the stamp."""
    spec = importlib.util.spec_from_file_location("_stamp", FAST / "_stamp.py")
    stamp = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stamp)
    return stamp


STAMP = load_stamp()
# The files of each module: its own, then those that it includes.
MODULES: dict[str, list[Path]] = STAMP.modules(FAST)


class build_ext_and_stamp(build_ext):  # noqa: N801
    """Translate and compile, say how far that is, and note beside the extensions what they are built from."""

    def finalize_options(self) -> None:
        """Compile on all cores, unless told otherwise."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        """Build, then write the stamp that an import compares. Raises PlatformError without a compiler."""
        if self.extensions:
            require_compiler()
            translate(self.extensions)
        self._counted, self._count = itertools.count(1), len(self.extensions)
        super().run()
        STAMP.write(FAST, FAST if self.inplace else Path(self.build_lib) / FAST)
        if self.inplace:
            remove_orphans()

    def build_extensions(self) -> None:
        """Build, with what this compiler and its linker know of what helps."""
        clear = [CLEAR_BY_STORES] if self._accepts(CLEAR_BY_STORES) else []
        names = (f".text.__pyx_*_8sessauth_5_fast_6_check_{name}" for name in IN_ORDER.split())
        sections = " ".join(f"*({name} {name}.*)" for name in names)
        Path(self.build_temp).mkdir(parents=True, exist_ok=True)
        script = Path(self.build_temp, "in_order.ld")
        script.write_text(
            f"SECTIONS {{ .text.in_order : ALIGN(64) {{ {sections} {OF_CYTHON} }} }} INSERT BEFORE .text;\n"
        )
        place = f"-Wl,-T,{script}"
        placed = LINUX and not (DEBUG or SANITIZE) and self._accepts(place)
        for extension in self.extensions:
            extension.extra_compile_args += clear
            if placed and extension.name.endswith("._check"):
                extension.extra_compile_args += ["-ffunction-sections"]
                extension.extra_link_args += [place]
        super().build_extensions()

    def build_extension(self, extension: Extension) -> None:
        """Build one, then say so if it was not up to date."""
        built = Path(self.get_ext_fullpath(extension.name))
        before = built.stat().st_mtime_ns if built.exists() else 0
        super().build_extension(extension)
        number = next(self._counted)
        if built.stat().st_mtime_ns != before:
            sys.stderr.write(f"[{number:2d}/{self._count}] compiled {extension.name}\n")

    def _accepts(self, option: str) -> bool:
        """Return True if an extension can be compiled and linked with an option."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "nothing.c")
            source.write_text("int nothing;\n")
            compiled = [*self.compiler.compiler_so, *([] if option.startswith("-Wl,") else [option]), "-c"]
            linked = [*self.compiler.linker_so, option, f"{source}.o", "-o", f"{source}.so"]
            return all(
                subprocess.run(command, capture_output=True, check=False).returncode == 0
                for command in ([*compiled, str(source), "-o", f"{source}.o"], linked)
            )


def remove_orphans() -> None:
    """Remove extensions and C files in the tree whose source was moved, removed or included elsewhere."""
    for suffix in (".c", ".so"):
        for path in FAST.rglob(f"*{suffix}"):
            if path.with_name(path.name.split(".")[0]).relative_to(FAST).as_posix() not in MODULES:
                path.unlink()


def require_compiler() -> None:
    """Raise PlatformError, which says what to install, if nothing can be compiled here."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        raise PlatformError(f"the kernel is compiled, and there is no C compiler {compiler!r}: {HOW_TO_GET}")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        raise PlatformError(
            f"the kernel is compiled, and Python's headers are missing ({header}): {HOW_TO_GET}"
        )


def translate(extensions: list[Extension]) -> None:
    """Put C in the place of each extension's source. Shows progress where the C is not up to date."""
    stale, fresh = [], []
    for extension in extensions:
        made = Path(extension.sources[0]).with_suffix(".c")
        needed = max(Path(path).stat().st_mtime for path in extension.depends)
        (fresh if made.exists() and made.stat().st_mtime > needed else stale).append(extension)
    terms = {"compiler_directives": DIRECTIVES, "nthreads": os.cpu_count() or 1}
    made_of = {
        each.name: each.sources
        for each in [*cythonize(fresh, quiet=True, **terms), *cythonize(stale, force=True, **terms)]
    }
    for extension in extensions:
        extension.sources[:] = made_of[extension.name]


class build_py_and_vectors(build_py):  # noqa: N801
    """Bring the vectors along, which ``sessauth conformance`` asks about, compressed to a twentieth."""

    def run(self) -> None:
        """Build, then write them."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "sessauth/conformance/vectors")
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(VECTORS.glob("*.json")):
            # Without a time in it: the same sources make the same file.
            (target / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))


class build_man(Command):  # noqa: N801
    """Have the command line that was built write its manual pages."""

    editable_mode = False

    def initialize_options(self) -> None:
        """Have no folders yet."""
        self.build_base = self.build_lib = ""

    def finalize_options(self) -> None:
        """Take the folders of what was built."""
        build = self.get_finalized_command("build")
        self.build_base, self.build_lib = build.build_base, build.build_lib

    def run(self) -> None:
        """Write the pages, which are data of the wheel."""
        if self.editable_mode or LINK_ONLY:
            return
        folder = Path(self.build_base, "man")
        # An isolated build has its packages on this path alone.
        paths = [*(str(Path(path).absolute()) for path in (self.build_lib, ".")), *filter(None, sys.path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        # Without bytecode, which would be in the wheel.
        subprocess.run([sys.executable, "-B", "tools/generate_man.py", folder], env=environment, check=True)
        pages = sorted(str(path) for path in folder.glob("*.1"))
        self.distribution.data_files = [("share/man/man1", pages)]


build.sub_commands = [*build.sub_commands, ("build_man", None)]

setup(
    cmdclass={"build_ext": build_ext_and_stamp, "build_man": build_man, "build_py": build_py_and_vectors},
    ext_modules=[]
    if LINK_ONLY
    else [
        Extension(
            ".".join(files[0].with_suffix("").parts),
            [str(files[0])],
            # The stamp covers every .pxd, so each of them makes all extensions stale.
            depends=[str(path) for path in [*files, *sorted(FAST.rglob("*.pxd"))]],
            extra_compile_args=list(compile_args),
            extra_link_args=list(link_args),
        )
        for files in MODULES.values()
    ],
)
