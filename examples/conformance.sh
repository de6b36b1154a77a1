#!/usr/bin/env bash
# Test another implementation of the token format against the vectors and 500 generated questions. The judge is
# judge/judge.py, which asks the kernel; replace it with your own program.
#
# Prints:
#
#     valid                        286 asked       0 wrong
#     invalid                      488 asked       0 wrong
#     conditions                   538 asked       0 wrong
#     elements                     236 asked       0 wrong
#     proofs                       145 asked       0 wrong
#     stands                        45 asked       0 wrong
#     ed25519                        7 asked       0 wrong
#     second_implementation         39 asked       0 wrong
#     generated                    500 asked       0 wrong
#     agreed
set -euo pipefail
cd "$(dirname "$0")"
sessauth conformance --run "python judge/judge.py" --cases 500
