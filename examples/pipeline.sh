#!/usr/bin/env bash
# A deployment pipeline: when it ends, its token and all tokens attenuated from it are denied.
#
# Prints:
#
#     stage deploys: 0
#     stage deploys elsewhere: 1
#     after the pipeline: 1
set -euo pipefail
umask 077

work=$(mktemp -d)
session=$(sessauth session open --subject ci:deploy --purpose "build 812" --ttl 10m \
    --ceiling 'deploy:cluster/web/**' --json | sed -n 's/^  "id": "\(.*\)",$/\1/p')
# From here on the session ends with the pipeline, also after an error.
trap 'sessauth session end "$session" --reason "pipeline left" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

sessauth token mint "$session" --scope 'deploy:cluster/web/**' --audience cluster --open --out "$work/held" >/dev/null
sessauth token attenuate "$work/held" --scope 'deploy:cluster/web/staging' --label staging --out "$work/stage" >/dev/null

# Exit code 0: allowed, 1: denied.
may() { sessauth check "$work/stage" deploy "$1" --audience cluster >/dev/null && echo 0 || echo $?; }

echo "stage deploys: $(may cluster/web/staging)"
echo "stage deploys elsewhere: $(may cluster/web/production)"
sessauth session end "$session" >/dev/null
echo "after the pipeline: $(may cluster/web/staging)"
