#!/usr/bin/env bash
# Tests python/ against a real node, in an environment of its own below the target directory.
#
#   scripts/python-test.sh [TEST..]      default: all of python/tests, e.g. tests.test_client
#
# `VYR_BIN` names the binary (default: target/debug/vyr), `PYTHON` the interpreter (python3, 3.9 or
# later). Three parts: the generated code is what the .proto files give, the types hold, the tests
# pass. Packages come from PyPI. What cannot be run says `not run: NAME: reason` and is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
target=${CARGO_TARGET_DIR:-target}
export VYR_BIN=${VYR_BIN:-$target/debug/vyr}
# The version that the committed code was generated with.
generator="grpcio-tools==1.74.0"

if ! command -v "$python" >/dev/null; then
    echo "not run: python: $python is not installed"
    exit 0
fi
if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
    echo "not run: python: $python is older than 3.9, or has no venv"
    exit 0
fi
if [[ ! -x $VYR_BIN ]]; then
    echo "$VYR_BIN is not there: cargo build --package vyr" >&2
    exit 1
fi
VYR_BIN=$(realpath "$VYR_BIN")

mkdir -p "$target/python-test"
work=$(realpath "$target/python-test")
environment=$work/$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[[ -x $environment/bin/python ]] || "$python" -m venv "$environment"
pip() {
    "$environment/bin/python" -m pip --quiet --disable-pip-version-check --retries 1 --timeout 20 \
        install "$@" >"$work/pip.log" 2>&1
}

# A copy, so that building leaves nothing in the repository.
rm -rf "$work/source"
cp -R python "$work/source"
if ! pip "$work/source"; then
    why=$(grep -m 1 -o 'ERROR: .*' "$work/pip.log" || true)
    echo "not run: python: pip cannot install grpcio and protobuf: ${why#ERROR: }"
    exit 0
fi

failed=0
if pip "$generator" setuptools; then
    rm -rf "$work/generated"
    mkdir -p "$work/generated"
    (cd crates/vyr-api/proto && "$environment/bin/python" -m grpc_tools.protoc -I. \
        --python_out="$work/generated" --pyi_out="$work/generated" \
        vyr/control/v0/control.proto vyr/operator/v0/operator.proto)
    for file in $(cd "$work/generated" && find . -type f); do
        if ! cmp -s "$work/generated/$file" "python/$file"; then
            echo "python/$file is not what $generator makes of the .proto files: copy it from" \
                "$work/generated" >&2
            failed=1
        fi
    done
else
    echo "not run: python::generated: pip cannot install $generator"
fi

if pip mypy types-protobuf grpc-stubs; then
    (cd python && "$environment/bin/python" -m mypy --strict --cache-dir "$work/mypy") || failed=1
else
    echo "not run: python::types: pip cannot install mypy"
fi

# From the installed package, not from the sources beside the tests.
rm -rf "$work/tests"
cp -R python/tests "$work/tests"
export VYR_ROOT=$PWD
(cd "$work/tests" && "$environment/bin/python" -W error::ResourceWarning -m unittest "$@") || failed=1
exit $failed
