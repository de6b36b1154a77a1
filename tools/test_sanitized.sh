#!/usr/bin/env bash
# Builds the kernel with AddressSanitizer and UndefinedBehaviorSanitizer, in a copy of the tree, and runs
# the tests that feed it the strangest bytes. The first finding of either ends the run.
#
#   tools/test_sanitized.sh PYTHON [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(realpath --no-symlinks "$1")
shift
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
tar --exclude='*.so' --exclude='*.c' --exclude=build.json --exclude=__pycache__ -cf - \
    pyproject.toml setup.py LICENSE README.md docs proto sessauth sessauth_pytest.py tests | tar -xf - -C "$copy"
cd "$copy"
unset PYTHONDONTWRITEBYTECODE

SESSAUTH_DEBUG=1 SESSAUTH_SANITIZE=1 "$python" setup.py --quiet build_ext --inplace --parallel 2
# Tests that weigh this process's memory are left out, since the sanitizer keeps what was freed; one of the time that
# an end takes meanwhile, which is this kernel's and not the product's; and those of the vectors that never call it.
# So are those of races on memory of ours, which get no bytes that a stranger chose.
[ $# -gt 0 ] || set -- tests/vectors tests/adversarial tests/fuzz tests/unit/fast \
    --ignore=tests/adversarial/test_doors.py \
    --ignore=tests/unit/fast/test_nonce_races.py --ignore=tests/unit/fast/test_shared_byte.py \
    --ignore=tests/unit/fast/test_leaks.py --ignore=tests/unit/fast/test_proof_leaks.py \
    --ignore=tests/unit/fast/test_http2_leaks.py \
    --ignore=tests/vectors/test_schema.py --ignore=tests/vectors/test_hexdump.py \
    --ignore=tests/vectors/test_other_signatures.py \
    --deselect=tests/vectors/test_vectors.py::test_oracle_gives_each_outcome \
    --deselect='tests/vectors/test_argument_vectors.py::test_json_has_the_stated_form[oracle]' \
    --deselect=tests/vectors/test_vectors.py::test_files_are_freshly_generated \
    --deselect=tests/unit/fast/test_chain_cache.py::test_it_stays_within_its_bytes \
    --deselect=tests/unit/fast/test_tls_context.py::test_nothing_leaks \
    tests/property/test_kernel_agrees_with_oracle.py tests/property/test_paths_agree_with_oracle.py \
    tests/property/test_proofs_agree_with_oracle.py tests/property/test_arguments_agree_with_oracle.py \
    tests/property/test_scope_text_bytes.py \
    tests/unit/test_arguments.py

# CPython keeps interned objects for ever, so leaks can't be told; its allocator would hide overruns.
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0:halt_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export PYTHONMALLOC=malloc SESSAUTH_CASES="${SESSAUTH_CASES:-2000}"
export SESSAUTH_SHARED_DATA="${SESSAUTH_SHARED_DATA:-$OLDPWD/../shared/data}"
"$python" -m pytest -q -n 2 -p no:cacheprovider "$@"
