#!/bin/bash
# Builds a manylinux wheel for each Python that is here, from one source archive, and tries each where nothing else is.
#
#   build_wheels.sh PYTHON TARGET [NAME ...]
#
# PYTHON has the tools of the group "build"; TARGET is the folder of the wheels. NAMEs of other interpreters are left
# out, and reported, if they are missing, lack headers, or have a version that an earlier one had.
set -euo pipefail
python=$1 target=$2
work=build/wheels
rm -rf "$target" "$work"
mkdir -p "$target" "$work"
"$python" -m build --sdist --outdir "$target" . >"$work/sdist.log" 2>&1 || { cat "$work/sdist.log" >&2; exit 1; }
# Unpacked once: what Cython makes of the sources is the same for each Python.
mkdir "$work/source"
tar -xf "$target"/*.tar.gz -C "$work/source" --strip-components 1

usable='
import os, sys, sysconfig
import ensurepip, venv
if sys.version_info < (3, 11): sys.exit(f"{sys.executable} is older than 3.11")
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")): sys.exit(f"{sys.executable} has no headers")
print(f"{sys.version_info[0]}.{sys.version_info[1]}")
'
built=" "
for name in "$python" "${@:3}"; do
    if ! version=$("$name" -c "$usable" 2>"$work/refusal"); then
        echo "left out: $(grep -m 1 -vE '^( |Traceback)' "$work/refusal" || echo "$name")" >&2
        continue
    fi
    [[ $built != *" $version "* ]] || continue
    built+="$version "
    echo "building for Python $version"
    "$name" -m venv "$work/$version"
    "$work/$version/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-cache-dir \
        --wheel-dir "$work/$version-wheel" "$work/source"
    "$python" tools/bundle_wheel.py "$work/$version-wheel"/*.whl "$target/manylinux" >"$work/$version.log" 2>&1 || {
        cat "$work/$version.log" >&2
        exit 1
    }
    "$python" tools/check_wheel.py "$name" "$target/manylinux"/*-"cp${version/./}"-*.whl
done
