"""Packaging: top-level folders become subpackages of edge_codec; the C coders are built."""

from __future__ import annotations

import platform
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

FOLDERS = ("kernels", "runtime", "calibration", "export")
LINKED = [pattern for folder in FOLDERS for pattern in (folder, f"{folder}.*")]

package_dir = {"edge_codec": "edge_codec"}
# find_packages follows the links edge_codec/<folder> -> ../<folder>; LINKED keeps each file single.
packages = [
    "edge_codec",
    *(f"edge_codec.{name}" for name in find_packages("edge_codec", exclude=LINKED)),
]
for folder in FOLDERS:
    package_dir[f"edge_codec.{folder}"] = folder
    packages += [
        f"edge_codec.{folder}",
        *(f"edge_codec.{folder}.{name}" for name in find_packages(folder)),
    ]

NATIVE = {
    "edge_codec.entropy._rans": "edge_codec/entropy/_rans.c",
    "edge_codec.residual._residual": "edge_codec/residual/_residual.c",
    "edge_codec.base._frame": "edge_codec/base/_frame.c",
    "edge_codec.base._lookup": "edge_codec/base/_lookup.c",
    "edge_codec.base._tokens": "edge_codec/base/_tokens.c",
    "edge_codec.base.hybrid._hybrid": "edge_codec/base/hybrid/_hybrid.c",
    "edge_codec.base.dwt_cal_vae._network": "edge_codec/base/dwt_cal_vae/_network.c",
    "edge_codec.runtime.native._int8": "runtime/native/_int8.c",
}

# Compiled again for processors with more, and chosen when imported.
AVX512 = ("f", "bw", "dq", "vl", "vnni")
MORE = {
    "avx2": ("-mavx2", "-DEDGE_CODEC_AVX2"),
    "avx512": (
        "-mavx2",
        *(f"-mavx512{part}" for part in AVX512),
        "-mprefer-vector-width=256",
        "-DEDGE_CODEC_AVX512",
    ),
}
WITH_MORE = (
    "edge_codec.residual._residual",
    "edge_codec.base.hybrid._hybrid",
    "edge_codec.base.dwt_cal_vae._network",
)
HAS_MORE = platform.machine() in ("x86_64", "AMD64")

NO_COMPILER = """
edge-codec: the entropy coder is C and could not be compiled ({error}).
Install a C compiler and Python's headers, then try again:
  Debian, Ubuntu, JetPack:  apt-get install gcc python3-dev
  Fedora:                   dnf install gcc python3-devel
  macOS:                    xcode-select --install
"""


def extension(name: str, source: str, *flags: str) -> Extension:
    """Return a C extension."""
    return Extension(
        name,
        sources=[source],
        depends=sorted(
            map(str, (*Path("edge_codec").rglob("*.h"), *Path("runtime").glob("*/*.h")))
        ),
        include_dirs=["edge_codec/entropy"],
        optional=bool(flags),  # a compiler may not know these processors
        # Contraction would make floating-point results depend on the processor; wrapping makes
        # integer overflow on hostile input defined.
        extra_compile_args=[
            "-std=c11",
            "-O3",
            "-ffp-contract=off",
            "-fwrapv",
            "-Wno-psabi",
            *flags,
        ],
    )


class BuildNative(build_ext):
    """Builds the C coders, and says what to install where that fails."""

    def run(self) -> None:
        """Compile every extension."""
        try:
            super().run()
        except Exception as error:
            raise SystemExit(NO_COMPILER.format(error=error)) from error


setup(
    packages=packages,
    package_dir=package_dir,
    ext_modules=[
        *(extension(name, source) for name, source in NATIVE.items()),
        *(
            extension(f"{name}_{kind}", NATIVE[name], *flags)
            for name in WITH_MORE
            for kind, flags in MORE.items()
            if HAS_MORE
        ),
    ],
    cmdclass={"build_ext": BuildNative},
)
