#!/bin/sh
# What peav does on one GPU, in under eight minutes, on a machine that has nothing but Python 3.12, torch and
# transformers: no package registry, no PyAV, no other folder than this one.
#
#   benchmarks/gpu.sh prepare       here, with the network: wheels, 32 clips' features, the CPU's losses, into .gpu/
#   benchmarks/gpu.sh [OUT]         there, with .gpu/ carried along: writes OUT/gpu.json and OUT/gpu.log (out/gpu)
#   benchmarks/gpu.sh --cpu [OUT]   a small form of every part on the CPU, to see that they run
#
# Without a GPU it says so and ends. Each part is measured by itself; one that fails is named in gpu.json and the others
# go on.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if [ "${1:-}" = prepare ]; then
    mkdir -p .gpu/wheels
    "$python" -m pip download --quiet --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d .gpu/wheels pydantic
    PYTHONPATH=src exec "$python" benchmarks/gpu_training.py prepare .gpu
fi
small=
if [ "${1:-}" = --cpu ]; then
    small=--cpu
    shift
fi
out=${1:-out/gpu}
mkdir -p "$out"
if ! "$python" -c "import pydantic" 2>/dev/null; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target .gpu/site .gpu/wheels/*.whl
    export PYTHONPATH=.gpu/site
fi
export PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec "$python" benchmarks/gpu.py $small --out "$out"
