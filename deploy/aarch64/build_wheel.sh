#!/usr/bin/env bash
# The aarch64 wheel, built on an x86-64 Debian or Ubuntu, and its tests under qemu-user.
#
#   apt-get install qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross
#   deploy/aarch64/build_wheel.sh [--test [PYTEST ARGUMENTS]]
#
# Python is Debian's for arm64, unpacked into a folder: nothing is installed, no root is needed, no
# container. It runs in qemu and starts the cross compiler, which runs natively. The wheel is left in
# $WORK/dist. The tests run against the wheel, not against this checkout.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
work="${WORK:-$root/build/aarch64}"
suite="${SUITE:-bookworm}" # Debian 12: Python 3.11
mirror="${MIRROR:-http://deb.debian.org/debian}"
python="${PYTHON:-python3}" # of this machine, with pip
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# What proves that this processor decodes the same bits; the golden streams first.
tests=(
    tests/test_golden.py tests/entropy tests/base tests/transform tests/test_plain_decoder.py
    tests/test_codec.py tests/bitstream tests/residual
)

for tool in qemu-aarch64-static aarch64-linux-gnu-gcc apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || { echo "build_wheel: $tool is missing" >&2; exit 3; }
done

sysroot="$work/root"
site="$work/site"
mkdir -p "$work"

fetch_python() {
    local apt="$work/apt"
    mkdir -p "$apt"/{lists/partial,cache/archives/partial,etc/apt.conf.d,etc/preferences.d}
    : >"$apt/status"
    echo "deb [arch=arm64 signed-by=$keyring] $mirror $suite main" >"$apt/sources.list"
    local options=(
        -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Acquire::Languages=none
        -o "Dir::State=$apt" -o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status"
        -o "Dir::Cache=$apt/cache" -o "Dir::Etc=$apt/etc" -o Dir::Etc::sourceparts=-
        -o "Dir::Etc::sourcelist=$apt/sources.list" -o Debug::NoLocking=1
    )
    [[ "$(id -u)" -ne 0 ]] || options+=(-o APT::Sandbox::User=root)
    apt-get "${options[@]}" update
    apt-get "${options[@]}" install -y --download-only --no-install-recommends \
        python3 libpython3-dev libstdc++6 libgomp1
    mkdir -p "$sysroot.new"
    local package
    for package in "$apt"/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$sysroot.new"
    done
    # ONNX Runtime asks /proc/cpuinfo what the processor can do, and ends with a fault where that of
    # an x86 machine answers. qemu shows programs this file in its place.
    mkdir -p "$sysroot.new/proc"
    local core
    for core in 0 1; do
        printf 'processor\t: %d\nBogoMIPS\t: 50.00\n' "$core"
        printf 'Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics asimddp\n'
        printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\n'
        printf 'CPU part\t: 0xd0c\nCPU revision\t: 1\n\n'
    done >"$sysroot.new/proc/cpuinfo"
    mv "$sysroot.new" "$sysroot"
}

fetch_packages() {
    local version platforms=() glibc
    version="$(basename "$(ls -d "$sysroot"/usr/include/python3.*)" | sed 's/python//')"
    for glibc in 2014 _2_17 _2_26 _2_27 _2_28; do
        platforms+=(--platform "manylinux${glibc}_aarch64")
    done
    "$python" -m pip install --quiet --disable-pip-version-check --target "$site" \
        "${platforms[@]}" --python-version "$version" --implementation cp \
        --abi "cp${version/./}" --abi abi3 --abi none --only-binary=:all: \
        'setuptools>=77' wheel numpy nibabel pydicom onnxruntime tqdm onnx pytest hypothesis
}

# Runs Python for aarch64; the first argument is its PYTHONPATH.
arm_python() {
    local path="$1"
    shift
    qemu-aarch64-static -L "$sysroot" -E "PYTHONPATH=$path" "$sysroot"/usr/bin/python3 "$@"
}

[[ -d "$sysroot" ]] || fetch_python
[[ -d "$site" ]] || fetch_packages

rm -rf "$work/source" "$work/dist" "$work/installed"
mkdir -p "$work/source" "$work/installed"
(cd "$root" && git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' name; do
    [[ ! -e "$name" && ! -L "$name" ]] || printf '%s\0' "$name"
done | tar --null -T - -cf -) | tar -xf - -C "$work/source"
include="$(ls -d "$sysroot"/usr/include/python3.*)"
(
    cd "$work/source"
    export CC=aarch64-linux-gnu-gcc LDSHARED='aarch64-linux-gnu-gcc -shared'
    export CFLAGS="-I$include -I$sysroot/usr/include"
    arm_python "$site" setup.py -q bdist_wheel -d "$work/dist" 2>"$work/build.log" \
        || { tail -20 "$work/build.log" >&2; exit 1; }
)
wheel="$(ls "$work"/dist/edge_codec-*_aarch64.whl)"
echo "$wheel"

if [[ "${1:-}" == --test ]]; then
    shift
    "$python" -m zipfile -e "$wheel" "$work/installed"
    rm -rf "$work/run"
    mkdir "$work/run"
    cp -r "$work/source"/{tests,examples,docs,pyproject.toml,README.md,CHANGELOG.md} "$work/run/"
    cd "$work/run"
    # The tests that start another Python are left out: the kernel cannot start one for aarch64.
    arm_python "$work/installed:$site" -m pytest -q -p no:cacheprovider \
        --deselect tests/bitstream/test_attacks.py::test_import_is_light \
        "${@:-${tests[@]}}"
fi
