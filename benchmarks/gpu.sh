#!/usr/bin/env bash
# Measures services on a GPU beside the same on the CPU of this machine, in at most five minutes:
#
#     benchmarks/gpu.sh [FOLDER]
#
# It needs uv, an NVIDIA driver, and about 12 GB in FOLDER (build/gpu). There it makes an environment
# with the CUDA wheels, emits services for ONNX Runtime and PyTorch, trains their examples, starts
# them with accelerator=cuda and =cpu, compares their answers with the known ones, and measures.
# It prints a table, and FOLDER/results.json has the figures.
set -euo pipefail

LIMIT=300

say() {
    echo "gpu.sh: $*" >&2
}

if [ -z "${INFERPLATE_GPU_WATCHED:-}" ]; then
    if ! gpus=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1) ||
        [ -z "$gpus" ]; then
        say "no NVIDIA GPU: nvidia-smi shows none on this machine; nothing was installed"
        exit 1
    fi
    command -v uv >/dev/null || { say "uv is missing: install it first"; exit 1; }
    export INFERPLATE_GPU_WATCHED="$gpus"
    code=0
    timeout --kill-after=15 "$LIMIT" "$0" "$@" || code=$?
    if [ "$code" = 124 ] || [ "$code" = 137 ]; then
        say "stopped after $LIMIT s; results.json has what was measured until then"
    fi
    exit "$code"
fi

root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/build/gpu}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
python=$folder/environment/bin/python

uv venv --quiet --allow-existing --python 3.12 "$folder/environment"
uv pip install --quiet --python "$python" --editable "$root" "aiohttp>=3.13" "filelock" "numpy>=2.1"
export PYTHONPATH=$root/tools
exec "$python" "$root/benchmarks/gpu.py" "$folder" --gpus "$INFERPLATE_GPU_WATCHED"
