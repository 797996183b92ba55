"""Make the shipped files of `titok`: two float networks, the codebook, the tables of the tokens.

`python -m edge_codec.export.titok --checkpoint C --volumes EXAMS --out edge_codec/zoo/titok` is the
whole of it: networks to ONNX; tokens of the exams, by the exported networks as the codec runs them;
tables learned from these (`edge_codec.training.titok_tables`); what backends differ by; manifest
and card. The exams are those of training: every tenth is held out from the tables.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from edge_codec.base.titok import token_prior as form
from edge_codec.base.titok.conditions import ClinicalFacts, told_cycle
from edge_codec.base.titok.model import TitokModel
from edge_codec.codec.samples import to_samples
from edge_codec.errors import EngineError
from edge_codec.export.titok_agreement import Agreement, compare_backends
from edge_codec.export.titok_card import LICENSE_TEXT, manifest_fields, model_card, write_manifest
from edge_codec.export.titok_graph import titok_models
from edge_codec.io import FrameSource, open_source
from edge_codec.io.statistics import scan
from edge_codec.nn.titok import TiTok
from edge_codec.runtime.float_network import load_network
from edge_codec.runtime.progress import silent
from edge_codec.spec import ModelId, StreamSpec
from edge_codec.training.titok.checkpoint import load_titok
from edge_codec.training.titok_tables import (
    LEARNING_THRIFT,
    TokenDump,
    fit_tables,
    pack_tables,
    read_dump,
)

log = logging.getLogger(__name__)

KEY_INTERVAL = 32
FACTS = {"height": (0, 2), "weight": (2, 4), "phase": (4, 7), "group": (7, 12)}
"""Columns of the clinical vector."""


def load_checkpoint(path: Path, unseen: Sequence[str] = ()) -> TiTok:
    """Load the averaged network of a checkpoint, in evaluation mode.

    Parameters
    ----------
    path : Path
        `averaged.pt` or `checkpoint.pt`, as `edge_codec.training.titok.checkpoint` reads them.
    unseen : sequence of str
        Facts of `FACTS` that training never told: their weights become zero, so that telling them
        changes nothing.

    Raises
    ------
    SourceError
        If it is none of them.
    EngineError
        If its canvas or codebook has another size than the codec's.
    """
    model = load_titok(path)
    config = model.config
    fixed = (config.canvas, config.tokens, config.codes, config.code_dim, config.memory)
    if fixed != (128, form.TOKENS, form.CODES, form.CODE_DIM, 4):
        raise EngineError(
            f"{path.name} has canvas, tokens, codes, code length, memory {fixed}; the codec has "
            f"{(128, form.TOKENS, form.CODES, form.CODE_DIM, 4)}"
        )
    with torch.no_grad():
        for name in unseen:
            first, end = FACTS[name]
            model.encoder.clinical.weight[:, first:end] = 0
            model.decoder.clinical.weight[:, first:end] = 0
    return model


def uniform_tables() -> form.PriorTables:
    """Return tables that expect every token alike, for networks whose tokens nobody knows yet."""
    inputs = form.AROUND * form.CODE_DIM
    return form.PriorTables(
        codes=np.zeros((form.CODES, form.CODE_DIM), np.int8),
        enter=np.zeros((inputs, 1), np.int16),
        enter_bias=np.zeros((form.STAGES, form.TOKENS, 1), np.int32),
        middle=np.zeros((1, 1), np.int16),
        middle_bias=np.zeros(1, np.int32),
        leave=np.zeros((1, 1), np.int16),
        across=np.zeros((inputs, 1), np.int16),
        leave_bias=np.zeros(1, np.int32),
        embed=np.zeros((form.CODES, 1), np.int8),
        bias=np.zeros(form.CODES, np.int16),
    )


def spec_of(source: FrameSource) -> StreamSpec:
    """Describe a source's stream as `edge_codec.runtime.stream_spec` does, without hashes."""
    values = scan(source, silent, None)
    return StreamSpec(
        source.info,
        low=values.low,
        high=values.high,
        model=ModelId.TITOK,
        max_error=None,
        key_interval=KEY_INTERVAL,
        window_low=values.p001,
        window_high=max(values.p999, values.p001 + 1),
        model_data=ClinicalFacts(n_phases=told_cycle(source.info.n_phases)).pack(),
    )


def dump_tokens(model: TitokModel, exams: Sequence[Path]) -> TokenDump:
    """Code exams as the codec does and return their tokens, slice after slice."""
    tokens, first, exam = [], [], []
    bar = tqdm(list(exams), unit="exam", disable=not sys.stderr.isatty())
    for number, path in enumerate(bar):
        source = open_source(path)
        spec = spec_of(source)
        found = np.empty((spec.info.n_phases, spec.info.n_slices, form.TOKENS), np.uint16)
        coders = [model.coder(spec) for _ in range(spec.info.n_slices)]
        for frame in source.frames():
            place = frame.phase_index, frame.slice_index
            key = place[0] % spec.key_interval == 0
            samples = to_samples(frame.samples, spec)
            coder = coders[place[1]]
            coder.encode(samples, place[0], key)
            found[place] = coder.tokens
        tokens.append(found.swapaxes(0, 1).reshape(-1, form.TOKENS))
        phases = np.arange(spec.info.n_phases) % spec.key_interval == 0
        first.append(np.tile(phases, spec.info.n_slices))
        exam.append(np.full(len(first[-1]), number))
        log.info("%s", json.dumps({"exam": number, "frames": len(first[-1])}))
    return TokenDump(np.concatenate(tokens), np.concatenate(first), np.concatenate(exam))


def codec_model(
    models: dict[str, onnx.ModelProto],
    codebook: NDArray[np.float32],
    tables: form.PriorTables | None,
    threads: int,
) -> TitokModel:
    """Put exported networks in the codec's place, where no tables are known with even ones."""
    encoder, decoder = (
        load_network(models[name].SerializeToString(), "auto", threads)
        for name in ("encoder", "decoder")
    )
    if tables is None:
        return TitokModel(decoder, codebook, form.TokenPrior(uniform_tables()), encoder, thrift=0)
    prior = form.TokenPrior(tables)
    return TitokModel(decoder, codebook, prior, encoder, thrift=LEARNING_THRIFT)


def learn_tables(
    options: argparse.Namespace, models: dict[str, onnx.ModelProto], codebook: NDArray[np.float32]
) -> tuple[form.PriorTables, TokenDump, float]:
    """Return tables, the tokens they were learned from, and bytes of a held-out payload.

    In the first round the encoder takes the nearest codes. From then on it prefers tokens that the
    tables of the round before expect, more than the codec will; these become likelier still.
    """
    if options.tokens:
        dump = read_dump(options.tokens)
    else:
        dump = dump_tokens(codec_model(models, codebook, None, options.threads), options.volumes)
    tables, size = fit_tables(dump, codebook, options.passes)
    for _ in range(0 if options.tokens else options.rounds - 1):
        log.info("%s", json.dumps({"held_out_payload_bytes": round(size, 2)}))
        model = codec_model(models, codebook, tables, options.threads)
        dump = dump_tokens(model, options.volumes)
        tables, size = fit_tables(dump, codebook, options.passes)
    return tables, dump, size


def usage(dump: TokenDump) -> float:
    """Return the share of the codes that are used, 0 to 1."""
    return len(np.unique(dump.tokens)) / form.CODES


def write_zoo(
    out: Path,
    models: dict[str, onnx.ModelProto],
    codebook: NDArray[np.float32],
    tables: form.PriorTables,
) -> None:
    """Write networks, codebook, tables and license."""
    out.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        (out / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    array = io.BytesIO()
    np.save(array, codebook)
    (out / "codebook.npy").write_bytes(array.getvalue())
    (out / "token_model.npz").write_bytes(pack_tables(tables))
    (out / "LICENSE-WEIGHTS").write_text(LICENSE_TEXT, encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    """Parse options, make the files, report."""
    parser = argparse.ArgumentParser(
        prog="edge_codec.export.titok", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="of the training")
    parser.add_argument("--out", type=Path, required=True, help="folder of the zoo's files")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--volumes", type=Path, nargs="+", help="training exams to take tokens of")
    source.add_argument("--tokens", type=Path, help="tokens.npz of an earlier run of these weights")
    parser.add_argument("--keep-tokens", type=Path, help="where to write the tokens of the exams")
    parser.add_argument(
        "--rounds", type=int, default=2, help="of tokens and tables, each by the tables before"
    )
    parser.add_argument(
        "--unseen", nargs="*", default=[], choices=sorted(FACTS), help="facts not told in training"
    )
    parser.add_argument("--passes", type=int, default=10, help="of the tables over all frames")
    parser.add_argument("--version", default="1.0.0", help="version of the weights")
    parser.add_argument("--note", default="", help="how the weights were trained, for the records")
    parser.add_argument("--threads", type=int, default=1, help="of networks and torch")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    network = load_checkpoint(options.checkpoint, options.unseen)
    models = titok_models(network)
    codebook = np.ascontiguousarray(network.codebook.vectors.numpy(), np.float32)
    tables, dump, size = learn_tables(options, models, codebook)
    if options.keep_tokens:
        np.savez_compressed(
            options.keep_tokens, tokens=dump.tokens, first=dump.first, exam=dump.exam
        )
    write_zoo(options.out, models, codebook, tables)
    found: Agreement = compare_backends(network, models, codebook, options.threads)
    fields = manifest_fields(
        options.version, network.config, options.note, found, (size, usage(dump)), options.unseen
    )
    write_manifest(options.out, fields)
    (options.out / "MODEL_CARD.md").write_text(model_card(fields), encoding="utf-8")
    log.info("%s", json.dumps(fields["measured"]))


if __name__ == "__main__":
    main()
