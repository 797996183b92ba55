#!/usr/bin/env bash
# What to paste into a report about edge-codec on a Jetson: versions, power, clocks, heat, memory,
# what doctor says, and one measurement. Runs on any Linux and says what is missing.
#
#   deploy/jetson/checklist.sh [--no-bench] [INPUT]      (as root: shows more of the clocks)
#
# INPUT is an exam for `edge-codec bench latency`. Nothing here names the machine, its owner, its
# addresses or its serial numbers.
set -uo pipefail
export LC_ALL=C

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
program="${EDGE_CODEC:-edge-codec}"
bench=yes
input="$here/../../examples/sunnybrook_scd0000301_slice.nii.gz"
for argument in "$@"; do
    case "$argument" in
        --no-bench) bench=no ;;
        -*) echo "usage: checklist.sh [--no-bench] [INPUT]" >&2; exit 2 ;;
        *) input="$argument" ;;
    esac
done

missing=()

section() { printf '\n== %s\n' "$1"; }

# show NAME COMMAND...: the command's output, or that it is missing or failed.
show() {
    local name="$1"
    shift
    if ! command -v "$1" >/dev/null 2>&1; then
        missing+=("$name ($1)")
        printf '%s: missing (%s)\n' "$name" "$1"
        return
    fi
    local text status
    text="$(timeout 60 "$@" 2>&1 </dev/null)"
    status=$?
    printf '%s:\n%s\n' "$name" "${text:-(nothing)}"
    if [ "$status" -ne 0 ]; then
        missing+=("$name (status $status)")
        printf '(status %s)\n' "$status"
    fi
}

# value NAME FILE: what a file holds, or that it is missing.
value() {
    if [ -r "$2" ]; then
        printf '%s: %s\n' "$1" "$(tr -d '\0' <"$2" 2>/dev/null | head -c 400)"
    else
        missing+=("$1 ($2)")
        printf '%s: missing (%s)\n' "$1" "$2"
    fi
}

package() {
    local found=""
    if command -v dpkg-query >/dev/null 2>&1; then
        # shellcheck disable=SC2016 # the field is dpkg's, not the shell's
        found="$(dpkg-query -W -f '${Version}' "$1" 2>/dev/null)"
    fi
    [ -n "$found" ] || missing+=("package $1")
    printf 'package %s: %s\n' "$1" "${found:-missing}"
}

section "machine"
date -u +'date: %Y-%m-%dT%H:%M:%SZ'
printf 'kernel: %s\n' "$(uname -srm)"
value "model" /proc/device-tree/model
printf 'cores: %s online\n' "$(nproc)"

section "L4T and JetPack"
value "L4T" /etc/nv_tegra_release
for name in nvidia-l4t-core nvidia-jetpack; do package "$name"; done

section "CUDA and TensorRT"
value "CUDA" /usr/local/cuda/version.json
for name in libnvinfer10 python3-libnvinfer; do package "$name"; done
show "TensorRT in Python" python3 -c 'import tensorrt; print(tensorrt.__version__)'
show "GPU" nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader

section "power mode and clocks"
show "power mode" nvpmodel -q
show "clocks" jetson_clocks --show
for policy in /sys/devices/system/cpu/cpufreq/policy*; do
    [ -d "$policy" ] || { missing+=("CPU frequencies"); break; }
    printf '%s: %s, %s of %s kHz\n' "${policy##*/}" "$(cat "$policy/scaling_governor" 2>/dev/null)" \
        "$(cat "$policy/scaling_cur_freq" 2>/dev/null)" "$(cat "$policy/cpuinfo_max_freq" 2>/dev/null)"
done
for device in /sys/class/devfreq/*; do
    [ -r "$device/cur_freq" ] || continue
    printf '%s: %s of %s Hz\n' "${device##*/}" "$(cat "$device/cur_freq")" "$(cat "$device/max_freq")"
done

section "heat"
for zone in /sys/class/thermal/thermal_zone*; do
    [ -r "$zone/temp" ] || { missing+=("thermal zones"); break; }
    printf '%s: %s mC\n' "$(cat "$zone/type" 2>/dev/null)" "$(cat "$zone/temp" 2>/dev/null)"
done

section "memory"
show "memory, MiB" free -m
value "swap and zram" /proc/swaps

section "being on time"
value "PREEMPT_RT" /sys/kernel/realtime
value "sched_rt_runtime_us" /proc/sys/kernel/sched_rt_runtime_us
printf 'real-time priority allowed here: %s\n' "$(ulimit -r)"
printf 'locked memory allowed here, KiB: %s\n' "$(ulimit -l)"
value "isolated cores" /sys/devices/system/cpu/isolated

section "edge-codec"
show "version" "$program" --version
show "doctor" "$program" doctor --json
if [ "$bench" = no ]; then
    echo "bench latency: left out (--no-bench)"
elif [ ! -e "$input" ]; then
    missing+=("an exam to measure with")
    echo "bench latency: no exam at $input; give one: checklist.sh heart.nii.gz"
else
    show "bench latency, lossless, 30 frames/s" \
        "$program" bench latency "$input" --lossless --rate 30 --frames 900 --quiet --json -
fi

section "missing here"
printf '%s\n' "${missing[@]:-nothing}"
