#!/usr/bin/env bash
# Regenerates sessauth/v1, sessauth/{gateways,carriers}/*/v1 and sessauth/_fast/codec/schema.py from proto/. The toolchain is old on purpose:
# stubs made by grpcio-tools 1.76 import on every protobuf runtime from 6.31 on, newer ones do not
# import on older runtimes. It lives in an environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

env=${SESSAUTH_PROTO_ENV:-.venv-proto}
if [ ! -x "$env/bin/python" ]; then
    python3 -m venv "$env"
    "$env/bin/pip" install --quiet --disable-pip-version-check 'grpcio-tools==1.76.0'
fi

out=${1:-.}
mkdir -p "$out/sessauth/v1" "$out/sessauth/_fast/codec"
"$env/bin/python" -m grpc_tools.protoc -I proto \
    --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" \
    proto/sessauth/v1/*.proto
printf '"""Generated stubs of proto/sessauth/v1. Nothing here is written by hand."""\n' > "$out/sessauth/v1/__init__.py"
# The messages of others: their RPCs are served and called by path, without stubs of services.
for folder in proto/sessauth/{gateways,carriers}/*/v1; do
    made=$out/${folder#proto/}
    mkdir -p "$made"
    "$env/bin/python" -m grpc_tools.protoc -I proto --python_out="$out" --pyi_out="$out" "$folder"/*.proto
    printf '"""Generated stubs of %s. Nothing here is written by hand."""\n' "$folder" > "$made/__init__.py"
done
"$env/bin/python" -m grpc_tools.protoc -I proto --include_imports \
    --descriptor_set_out="$out/.descriptors.bin" \
    proto/sessauth/v1/token.proto proto/sessauth/v1/record.proto proto/sessauth/v1/log_record.proto proto/sessauth/v1/receipt.proto \
    proto/sessauth/v1/group_record.proto proto/sessauth/v1/caller_statement.proto
"$env/bin/python" tools/generate_schema.py "$out/.descriptors.bin" > "$out/sessauth/_fast/codec/schema.py"
rm "$out/.descriptors.bin"
