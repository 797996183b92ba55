"""Calibration of files: what `edge-codec calibrate` does."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.token_model import LOAD_ERRORS, load_token_model
from edge_codec.base.tokens import TokenCoder
from edge_codec.calibration import report
from edge_codec.calibration.borders import UNSIGNED
from edge_codec.calibration.chain import Chain, NetworkStage, Rate, token_rate
from edge_codec.calibration.gate import Gate, GateExam, Limits, Verdict
from edge_codec.calibration.observers import rule
from edge_codec.calibration.onnx_file import read_model, sha256
from edge_codec.calibration.pipeline import Result, Settings, apply_table, calibrate, silent
from edge_codec.calibration.run import Feed
from edge_codec.calibration.sampler import Sample, draw
from edge_codec.calibration.sensitivity import Progress
from edge_codec.calibration.table import Table, read_table
from edge_codec.errors import CalibrationError, SourceError
from edge_codec.io.atomic import AtomicFolder, atomic_file
from edge_codec.window import pad

MAX_MODEL_BYTES = 1 << 31
"""Size of an ONNX file that protobuf cannot read any more."""

STRIDE = 8
"""Frames are padded to multiples of it, as the codec does."""

REPORT_FILES = ("report.txt", "report.json", "sensitivity.svg")


@dataclass(frozen=True, slots=True)
class Job:
    """What to calibrate, and how.

    Attributes
    ----------
    model, data, out : Path
        Float ONNX file; file or folder of frames; ONNX file to write.
    table : Path or None
        Calibration table: used where it exists, else written.
    report : Path or None
        Folder for tables, JSON and plot.
    before, after : Path or None
        Networks that make this one's input of frames, and frames of its output.
    codebook : Path or None
        npy file; stands where latents meet a network that takes tokens.
    token_model : Path or None
        npz file; counts the bits of tokens.
    observer, activations : str
        See `edge_codec.calibration.pipeline.Settings`.
    frames : int or None
    seed : int
    pattern : str
        Glob of file names.
    limits : Limits
    strict : bool
        Whether a network that cannot be gated is refused.
    mixed : bool
        Let sensitive layers be fp16 or float32, to keep the limit of PSNR.
    threads : int
    force : bool
        Overwrite files, and calibrate anew where there is a table.
    """

    model: Path
    data: Path
    out: Path
    table: Path | None = None
    report: Path | None = None
    before: Path | None = None
    after: Path | None = None
    codebook: Path | None = None
    token_model: Path | None = None
    observer: str = "mse"
    activations: str = UNSIGNED
    frames: int | None = None
    seed: int = 0
    pattern: str = "*"
    limits: Limits = field(default_factory=Limits)
    strict: bool = False
    mixed: bool = False
    threads: int = 1
    force: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a job gave.

    Attributes
    ----------
    result : Result
    sample : Sample
    verdict : Verdict or None
        None where no frames come out of the network and its neighbors.
    reused : bool
        Whether an existing table was applied.
    held_out : bool
        Whether the gate saw other frames than calibration.
    """

    result: Result
    sample: Sample
    verdict: Verdict | None
    reused: bool
    held_out: bool

    def record(self) -> dict[str, Any]:
        """Return everything for JSON."""
        extra = {"table_reused": self.reused, "gate_on_other_frames": self.held_out}
        return report.record(self.result, self.sample, self.verdict) | extra

    def text(self) -> str:
        """Return everything as tables."""
        parts = [f"{len(self.sample.frames)} frames of {len(self.sample.strata())} strata"]
        if self.result.steps:
            parts.append(report.step_table(self.result))
        parts.append(report.layer_table(self.result))
        parts.append(report.exactness(self.result))
        if self.verdict is None:
            parts.append(
                "not gated: no frames come out; name the networks around it (--before, --after)"
            )
        else:
            frames = "other frames than calibration" if self.held_out else "the same frames"
            losses = ", ".join(
                f"{name.replace('_', ' ')} {value:.4f}"
                for name, value in self.verdict.losses().items()
            )
            parts += [report.gate_table(self.verdict), f"gate passed on {frames}: {losses}"]
        return "\n\n".join(parts)


def run_job(job: Job, progress: Progress = silent) -> Outcome:
    """Calibrate, judge, and write; nothing is left behind where anything fails.

    Raises
    ------
    CalibrationError
        If a file does not fit, or the gate refuses the calibrated model.
    SourceError
        If a file cannot be read, or a target exists.
    """
    _check_targets(job)
    rule(job.observer)
    model = read_bytes(job.model, MAX_MODEL_BYTES)
    read_model(model)
    parts = _Parts(job, model)
    sample = draw(job.data, job.frames, seed=job.seed, pattern=job.pattern, progress=progress)
    table = _existing_table(job, model, sample)
    result = parts.calibrate(sample, progress) if table is None else apply_table(model, table)
    other = None
    if parts.chain.closed and sample.left:
        excluded = sample.places()
        other = draw(
            job.data,
            seed=job.seed + 1,
            pattern=job.pattern,
            exclude=excluded,
            progress=progress,
        )
    verdict = parts.judge(result.model, sample if other is None else other)
    if verdict is not None:
        verdict.require()
    outcome = Outcome(result, sample, verdict, table is not None, other is not None)
    _write(job, outcome)
    return outcome


def exams_of(sample: Sample) -> list[GateExam]:
    """Frames of a sample as exams, one for each file; every frame is a slice of its own."""
    files: dict[str, list[int]] = {}
    for index, frame in enumerate(sample.frames):
        files.setdefault(frame.place.file, []).append(index)
    exams = []
    for name, indices in files.items():
        frames = [sample.frames[index] for index in indices]
        samples = np.stack([frame.samples for frame in frames])[:, None]
        exams.append(GateExam(name, samples, frames[0].window, frames[0].peak))
    return exams


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a file that is not larger than it should be.

    Raises
    ------
    SourceError
        If it cannot be read or is too large.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise SourceError(f"{path} has {size} bytes; at most {limit} are believed")
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error


class _Parts:
    """The network with its neighbors, and how its results are judged."""

    def __init__(self, job: Job, model: bytes) -> None:
        self._job = job
        self._model = model
        self._before = [read_bytes(job.before, MAX_MODEL_BYTES)] if job.before else []
        self._after = [read_bytes(job.after, MAX_MODEL_BYTES)] if job.after else []
        self._codebook = _read_codebook(job.codebook) if job.codebook else None
        self._rate = _read_rate(job.token_model) if job.token_model else None
        self.chain = self._chain(model)
        if not self.chain.closed and (job.strict or job.mixed):
            raise CalibrationError(
                "no frames come out of the network, so no limit can be kept; name the network that "
                "decodes its output with --after"
            )

    def calibrate(self, sample: Sample, progress: Progress) -> Result:
        name = NetworkStage(self._model).input
        feeds: list[Feed] = []
        for frame in progress(sample.frames, len(sample.frames), "inputs"):
            codes = pad(frame.codes, STRIDE)[None, None]
            feeds.append({name: self.chain.inputs(codes, len(self._before))})
        job = self._job
        settings = Settings(
            observer=job.observer,
            activations=job.activations,
            sensitivity=job.report is not None,
            limit=job.limits.psnr_loss_db if job.mixed else None,
            threads=job.threads,
        )
        loss = None
        if self.chain.closed and (job.mixed or job.report is not None):
            gate = self._gate(sample)

            def loss(model: bytes) -> float:
                return gate.judge(self._chain(model)).losses()["psnr_loss_db"]

        return calibrate(self._model, sample.sha256, feeds, settings, loss, progress)

    def judge(self, model: bytes, sample: Sample) -> Verdict | None:
        return self._gate(sample).judge(self._chain(model)) if self.chain.closed else None

    def _gate(self, sample: Sample) -> Gate:
        return Gate(self.chain, exams_of(sample), self._rate, limits=self._job.limits)

    def _chain(self, model: bytes) -> Chain:
        models: Sequence[bytes] = (*self._before, model, *self._after)
        return Chain(models, self._codebook, self._job.threads)


def _existing_table(job: Job, model: bytes, sample: Sample) -> Table | None:
    if job.table is None or job.force or not job.table.exists():
        return None
    table = read_table(read_bytes(job.table, MAX_MODEL_BYTES))
    table.check_belongs(sha256(model), sample.sha256)
    return table


def _check_targets(job: Job) -> None:
    """Refuse targets before any work is done."""
    for path in (job.out, *([job.report] if job.report else [])):
        if path.exists() and not job.force and not (path.is_dir() and not any(path.iterdir())):
            raise SourceError(f"{path} exists; use --force to overwrite it")
    sources = [job.model, job.before, job.after, job.codebook, job.token_model]
    for target in filter(None, (job.out, job.table)):
        if any(path and path.exists() and path.resolve() == target.resolve() for path in sources):
            raise SourceError(f"{target} is an input; choose another target")


def _write(job: Job, outcome: Outcome) -> None:
    """Write report, table and model, the model last: where it is, all is."""
    if job.report is not None:
        folder = AtomicFolder(
            job.report, force=job.force, replaceable=lambda path: path.name in REPORT_FILES
        )
        try:
            _write_report(folder.part, outcome)
        except BaseException:
            folder.abort()
            raise
        folder.commit()
    if job.table is not None and not outcome.reused:
        with atomic_file(job.table, force=job.force) as file:
            file.write(outcome.result.table.to_json())
    with atomic_file(job.out, force=job.force) as file:
        file.write(outcome.result.model)


def _write_report(folder: Path, outcome: Outcome) -> None:
    text, content, plot = (folder / name for name in REPORT_FILES)
    parts = [outcome.text()]
    if outcome.result.sensitivities and importlib.util.find_spec("matplotlib") is None:
        parts.append("no plot: matplotlib is missing; pip install 'edge-codec[plot]'")
    elif outcome.result.sensitivities:
        plot.write_bytes(report.draw_sensitivity(outcome.result.sensitivities))
    text.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    content.write_text(json.dumps(outcome.record(), indent=1) + "\n", encoding="utf-8")


def _read_codebook(path: Path) -> NDArray[Any]:
    data = read_bytes(path, MAX_MODEL_BYTES)
    try:
        codebook = np.load(io.BytesIO(data), allow_pickle=False)
    except LOAD_ERRORS as error:
        raise CalibrationError(f"{path} is no npy file: {error}") from error
    if not isinstance(codebook, np.ndarray):
        raise CalibrationError(f"{path} is no npy file of one array")
    return codebook


def _read_rate(path: Path) -> Rate:
    return token_rate(TokenCoder(load_token_model(read_bytes(path, MAX_MODEL_BYTES))))
