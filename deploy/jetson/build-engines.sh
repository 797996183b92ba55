#!/usr/bin/env bash
# Engines for the GPU of this Jetson, built within a limit of memory.
#
#   sudo deploy/jetson/build-engines.sh [triton|tensorrt] [GiB of memory, default 4]
#
# TensorRT tries many ways to compute each layer and keeps what is fastest; the tries, not the
# engine, take the memory, which CPU and GPU share here. A build that takes too much is ended alone,
# instead of the kernel ending whatever it finds. Prefer `triton`: its engines can be built on any
# machine (edge-codec build --target sm87 --out engines) and copied.
# NOT RUN on a Jetson.
set -euo pipefail

backend="${1:-tensorrt}"
limit_gib="${2:-4}"
user="${EDGE_CODEC_USER:-edge-codec}"
cache="${EDGE_CODEC_CACHE:-/var/cache/edge-codec}"
program="${EDGE_CODEC:-/opt/edge-codec/bin/edge-codec}"

case "$backend" in
    triton | tensorrt) ;;
    *) echo "build-engines: backend '$backend' is unknown; use triton or tensorrt" >&2; exit 2 ;;
esac
if ! [[ "$limit_gib" =~ ^[1-9][0-9]*$ ]]; then
    echo "build-engines: '$limit_gib' is no number of GiB" >&2
    exit 2
fi
if ! command -v "$program" >/dev/null; then
    echo "build-engines: $program is not there; set EDGE_CODEC to the program" >&2
    exit 3
fi

available_kib="$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)"
if ((available_kib < limit_gib * 1024 * 1024)); then
    echo "build-engines: $((available_kib / 1024)) MiB of memory are free, fewer than the limit of" \
        "$limit_gib GiB: stop the desktop (systemctl isolate multi-user) and the service first" >&2
fi

# A limit of address space (ulimit -v) would not do: CUDA reserves far more than it uses.
limits=(-p "MemoryMax=${limit_gib}G" -p MemorySwapMax=2G -p OOMPolicy=kill -p Nice=10)
if [[ "$(id -u)" -eq 0 ]] && command -v systemd-run >/dev/null && [[ -d /run/systemd/system ]]; then
    exec systemd-run --quiet --pipe --wait --collect "${limits[@]}" \
        -p "User=$user" -p "SupplementaryGroups=video render" -E "EDGE_CODEC_CACHE=$cache" \
        "$program" build --target this --backend "$backend"
fi
echo "build-engines: no root or no systemd: building without a limit of memory" >&2
exec env "EDGE_CODEC_CACHE=$cache" "$program" build --target this --backend "$backend"
