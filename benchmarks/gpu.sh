#!/usr/bin/env bash
# Test, measure and train on a machine with a GPU, without network and within a time limit.
#
#   bash benchmarks/gpu.sh OUT [--device cuda|cpu] [--minutes 12] [--photos FOLDER]
#                              [--only test,step,infer,train]
#
# A part that fails or runs out of time does not end the others. OUT holds 8 files at most, 5 after
# training alone, each of 15 MB at most and none with a photograph of the data set: log.txt, tests.xml,
# step.json, infer.json, train.json, source-to-target.jpg, target-to-source.jpg and weights.tar.gz.
# What gpu_pack.sh has written (.gpu/wheels, .gpu/photos.tar) is installed outside the checkout, and
# found there again by a second call that comes without it.
set -uo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
work="${AGIT_GPU_WORK:-${TMPDIR:-/tmp}/agit-gpu}"
out="" device=cuda minutes=12 photos="" only="test,step,infer,train"

fail() {
    echo "error: $*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case "$1" in
        --device | --minutes | --photos | --only)
            [ $# -ge 2 ] || fail "$1 needs a value."
            declare "${1#--}=$2"
            shift 2
            ;;
        -*) fail "there is no option $1: --device, --minutes, --photos, --only." ;;
        *)
            [ -z "$out" ] || fail "one folder for results is enough: $out, $1."
            out="$1"
            shift
            ;;
    esac
done
[ -n "$out" ] || fail "name a folder for the results: bash benchmarks/gpu.sh OUT"
case "$device" in cuda | cpu) ;; *) fail "--device is $device: cuda or cpu." ;; esac
[[ "$minutes" =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "--minutes is $minutes: a number is needed."
for part in ${only//,/ }; do
    case "$part" in test | step | infer | train) ;; *) fail "--only names $part: test, step, infer, train." ;; esac
done

mkdir -p "$out" "$work" || exit 2
out="$(cd "$out" && pwd)"
exec > >(tee -a "$out/log.txt") 2>&1
seconds="$(awk "BEGIN { print int($minutes * 60) }")"
end=$((SECONDS + seconds))
python="$(command -v python3)"
# A CPU shows that everything runs, in two minutes: less to do, but slowly.
tests=6
[ "$device" = cpu ] && tests=3 && export OMP_NUM_THREADS=1

# Of 12 minutes two for each part, and for the last one asked for all that is left.
limit() {
    local left=$((end - SECONDS)) share="$seconds"
    if [ "$1" != "$last" ]; then
        case "$1" in
            test) share=$((seconds / tests)) ;;
            step | infer) share=$((seconds / 6)) ;;
        esac
    fi
    echo $((share < left ? share : left))
}

if compgen -G "$root/.gpu/wheels/*.whl" > /dev/null && [ ! -f "$work/installed" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
        --target "$work/site" "$root"/.gpu/wheels/*.whl && touch "$work/installed"
fi
if [ -f "$root/.gpu/photos.tar" ] && [ ! -d "$work/photos" ]; then
    mkdir -p "$work/photos.part" && tar -xf "$root/.gpu/photos.tar" -C "$work/photos.part" \
        && mv "$work/photos.part" "$work/photos"
fi
[ -n "$photos" ] || { [ -d "$work/photos" ] && photos="$work/photos"; }
export PYTHONPATH="$root:$work/site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 AGIT_GPU_DEVICE="$device"
export TORCHINDUCTOR_CACHE_DIR="$work/kernels" HF_HUB_OFFLINE=1
cd "$root" || exit 2

echo "== $(date -u +%FT%TZ) $("$python" -V 2>&1), $("$python" -c 'import torch; print("torch", torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")')"
failed="" last=""
for part in test step infer train; do
    [[ ",$only," == *",$part,"* ]] && last="$part"
done
for part in test step infer train; do
    [[ ",$only," == *",$part,"* ]] || continue
    given="$(limit "$part")"
    [ "$given" -ge 5 ] || { echo "== $part: no time is left" && failed="$failed $part" && continue; }
    began=$SECONDS
    echo "== $part, $given s at most"
    if [ "$part" = test ]; then
        command=("$python" -m pytest -v -m gpu -p no:cacheprovider --junitxml "$out/tests.xml")
        for name in step run pipeline compile; do command+=("tests/gpu/test_$name.py"); done
    else
        results="$out" && [ "$part" != train ] && results="$out/$part.json"
        command=("$python" -m "benchmarks.gpu.$part" --out "$results" --device "$device"
            --until "$(($(date +%s) + given - 5))")
        [ "$part" = train ] && command+=(--work "$work") && [ -n "$photos" ] && command+=(--photos "$photos")
    fi
    # pytest and Python end tidily at an interrupt; a few seconds later they are killed.
    timeout --signal=INT --kill-after=5 "$((given > 10 ? given - 5 : given))" "${command[@]}"
    code=$?
    echo "== $part ended with $code after $((SECONDS - began)) s"
    [ "$code" -eq 0 ] || failed="$failed $part"
done
ls -l "$out"
[ -z "$failed" ] || { echo "== not all right:$failed" && exit 1; }
