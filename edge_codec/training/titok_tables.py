"""Learn what is expected of a token: the tables of `edge_codec.base.titok.token_prior`.

`python -m edge_codec.training.titok_tables --tokens DUMP.npz --codebook codebook.npy --out
token_model.npz` trains the small network on tokens of training exams and rounds it to integers. It
sees 16 codes around a token, and tells 4,096 tokens apart by the products of one vector with a
vector for each, the first 12 numbers of which begin as the codes themselves: a token that was never
seen at a place is still expected there if one like it was. Every tenth exam is held out; the pass
that codes those best is kept.

A dump holds `tokens` (frames, 32) uint16; `first` (frames,) bool, true where a group begins; and
`exam` (frames,), a number for each exam. `edge_codec.export.titok` writes it.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import logging
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_codec.base.titok import token_prior as form
from edge_codec.base.titok.reading import read_codebook
from edge_codec.base.titok.token_coder import TokenCoder
from edge_codec.errors import SourceError
from edge_codec.io.atomic import atomic_file

log = logging.getLogger(__name__)

CODE_ONE = 127  # of the codebook in integers
HIDDEN_ONE = 512
LOGIT_VECTOR_ONE = form.LOGIT_ONE << form.SCORE_SHIFT
EMBED_MOST = 127
HOLD_OUT = 10

LEARNING_THRIFT = 0.015
"""`TitokModel.thrift` for the tokens that tables are learned from, more than the codec's own: such
tables save more on likely tokens than they lose on the others."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenDump:
    """Tokens of exams, frame after frame as they are coded.

    Attributes
    ----------
    tokens : ndarray, shape (frames, 32), uint16
    first : ndarray, shape (frames,), bool
        Where a group begins.
    exam : ndarray, shape (frames,), integer
    """

    tokens: NDArray[np.uint16]
    first: NDArray[np.bool_]
    exam: NDArray[Any]

    def __post_init__(self) -> None:
        """Refuse what is no dump.

        Raises
        ------
        SourceError
            If shapes or values do not fit.
        """
        n = len(self.tokens)
        if self.tokens.shape != (n, form.TOKENS) or self.first.shape != (n,) or not n:
            raise SourceError(
                f"tokens are {self.tokens.shape}, first {self.first.shape}; expected (frames, "
                f"{form.TOKENS}) and (frames,)"
            )
        if self.exam.shape != (n,) or self.tokens.max() >= form.CODES or not self.first[0]:
            raise SourceError("this is no dump of tokens; edge_codec.export.titok writes one")

    def take(self, chosen: NDArray[np.bool_]) -> TokenDump:
        """Return the frames of some exams; `chosen`, (frames,), is alike within each."""
        return TokenDump(self.tokens[chosen], self.first[chosen], self.exam[chosen])

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Frames of every tenth exam, of the last where they are fewer, shape (frames,)."""
        numbers = np.unique(self.exam, return_inverse=True)[1]
        turn = min(HOLD_OUT, int(numbers.max()) + 1)
        rest: NDArray[np.bool_] = (numbers % turn == turn - 1) & (turn > 1)
        return rest


def read_dump(path: Path) -> TokenDump:
    """Read a dump of tokens.

    Raises
    ------
    SourceError
        If it is none.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return TokenDump(arrays["tokens"], arrays["first"].astype(bool), arrays["exam"])
    except (*form.LOAD_ERRORS, IndexError) as error:
        raise SourceError(f"{path} is no dump of tokens: {error}") from error


class FloatPrior(nn.Module):
    """The network before it is rounded; see `edge_codec.base.titok.token_prior.PriorTables`.

    Parameters
    ----------
    codebook : Tensor, shape (4096, 12)
    hidden, dim : int
        Sizes of the hidden layers and of a token's vector.
    """

    codes: Tensor
    places: Tensor

    def __init__(self, codebook: Tensor, hidden: int, dim: int) -> None:
        super().__init__()
        inputs = form.AROUND * form.CODE_DIM
        self.register_buffer("codes", F.pad(codebook, (0, 0, 0, 1)))
        self.register_buffer("places", torch.from_numpy(form.neighbor_places()))
        self.enter = nn.Linear(inputs, hidden, bias=False)
        self.enter_bias = nn.Parameter(0.05 * torch.randn(form.STAGES, form.TOKENS, hidden))
        self.middle = nn.Linear(hidden, hidden)
        self.leave = nn.Linear(hidden, dim)
        self.across = nn.Linear(inputs, dim, bias=False)
        nn.init.zeros_(self.across.weight)
        extra = 0.3 * torch.randn(form.CODES, dim - form.CODE_DIM)
        self.embed = nn.Parameter(torch.cat([2.0 * codebook, extra], 1))
        self.bias = nn.Parameter(torch.zeros(form.CODES))

    def forward(self, rows: Tensor, stages: Tensor) -> Tensor:
        """Logits in bits, (n, 32, 4096).

        Parameters
        ----------
        rows : Tensor, shape (n, 97), int64
            Tokens of a frame, of the two before it, and none; 4096 stands for none.
        stages : Tensor, shape (n,), int64
        """
        around = self.codes[rows[:, self.places]].flatten(2)
        most = form.HIDDEN_MOST / HIDDEN_ONE
        hidden = (self.enter(around) + self.enter_bias[stages]).clamp(0, most)
        hidden = self.middle(hidden).clamp(0, most)
        vectors = self.leave(hidden) + self.across(around)
        logits: Tensor = vectors @ self.embed.T + self.bias
        return logits

    def tables(self) -> form.PriorTables:
        """Round to integers."""
        with torch.no_grad():
            largest = self.embed.abs().amax(0).clamp(min=1e-6)
            unit = LOGIT_VECTOR_ONE * largest / EMBED_MOST
            down = (1 << form.LEAVE_SHIFT) * unit
            enter = (1 << form.ENTER_SHIFT) * HIDDEN_ONE
            whole: dict[str, tuple[Tensor, type[np.signedinteger[Any]]]] = {
                "codes": (CODE_ONE * self.codes[:-1], np.int8),
                "enter": (enter / CODE_ONE * self.enter.weight.T, np.int16),
                "enter_bias": (enter * self.enter_bias, np.int32),
                "middle": ((1 << form.MIDDLE_SHIFT) * self.middle.weight.T, np.int16),
                "middle_bias": (
                    (HIDDEN_ONE << form.MIDDLE_SHIFT) * self.middle.bias,
                    np.int32,
                ),
                "leave": (self.leave.weight.T * down / HIDDEN_ONE, np.int16),
                "across": (self.across.weight.T * down / CODE_ONE, np.int16),
                "leave_bias": (self.leave.bias * down, np.int32),
                "embed": (EMBED_MOST * self.embed / largest, np.int8),
                "bias": (form.LOGIT_ONE * self.bias, np.int16),
            }
        return form.PriorTables(**{name: _round(*each) for name, each in whole.items()})


def _round(values: Tensor, dtype: type[np.signedinteger[Any]]) -> NDArray[Any]:
    """Round to the nearest integer that the dtype has; a trained weight rarely saturates."""
    limits = np.iinfo(dtype)
    rounded = np.rint(values.double().numpy())
    return np.ascontiguousarray(np.clip(rounded, limits.min, limits.max).astype(dtype))


def rows_of(dump: TokenDump) -> tuple[Tensor, Tensor]:
    """Return each frame's tokens with those before it, (frames, 97), and its stage, (frames,)."""
    n, none = len(dump.tokens), form.CODES
    starts = np.maximum.accumulate(np.where(dump.first, np.arange(n), 0))
    age = np.arange(n) - starts
    rows = np.full((n, 3 * form.TOKENS + 1), none, np.int64)
    rows[:, : form.TOKENS] = dump.tokens
    for back in (1, 2):
        has = np.flatnonzero(age >= back)
        rows[has, back * form.TOKENS : (back + 1) * form.TOKENS] = dump.tokens[has - back]
    return torch.from_numpy(rows), torch.tensor([form.stage_of(int(each)) for each in age])


def train_prior(
    dump: TokenDump,
    codebook: NDArray[np.float32],
    *,
    hidden: int = 128,
    dim: int = 32,
    passes: int = 10,
    batch: int = 16,
    rate: float = 2e-3,
    seed: int = 0,
) -> FloatPrior:
    """Train on all exams but the held-out ones; return the pass that codes those best.

    Parameters
    ----------
    dump : TokenDump
    codebook : ndarray, shape (4096, 12), float32
    hidden, dim : int
        See `FloatPrior`.
    passes, batch : int
        Over all frames; frames of a step.
    rate : float
        Learning rate at first; it falls to zero by a cosine.
    seed : int
    """
    torch.manual_seed(seed)
    model = FloatPrior(torch.from_numpy(codebook), hidden, dim)
    rows, stages = rows_of(dump)
    apart = torch.from_numpy(dump.held_out)
    train, held_out = torch.nonzero(~apart).flatten(), torch.nonzero(apart).flatten()
    steps = passes * math.ceil(len(train) / batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, best_bits = copy.deepcopy(model), math.inf
    for turn in range(passes):
        for chosen in torch.split(train[torch.randperm(len(train))], batch):
            loss = _bits(model, rows[chosen], stages[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        bits = _mean_bits(model, rows, stages, held_out if len(held_out) else train)
        log.info("%s", json.dumps({"pass": turn, "held_out_bits_per_token": round(bits, 3)}))
        if bits < best_bits:
            best, best_bits = copy.deepcopy(model), bits
    return best


def _bits(model: FloatPrior, rows: Tensor, stages: Tensor) -> Tensor:
    logits = model(rows, stages).flatten(0, 1) * math.log(2)
    return F.cross_entropy(logits, rows[:, : form.TOKENS].flatten()) / math.log(2)


@torch.no_grad()
def _mean_bits(model: FloatPrior, rows: Tensor, stages: Tensor, chosen: Tensor) -> float:
    parts = torch.split(chosen, 32)
    sums = [_bits(model, rows[part], stages[part]) * len(part) for part in parts]
    return float(torch.stack(sums).sum() / len(chosen))


def payload_bytes(tables: form.PriorTables, dump: TokenDump) -> float:
    """Return the mean size of a frame's payload in bytes, by coding every frame."""
    coder = TokenCoder(form.TokenPrior(tables))
    frames = zip(dump.tokens, dump.first, strict=True)
    sizes = [len(coder.encode(tokens, bool(first))) for tokens, first in frames]
    return float(np.mean(sizes))


def pack_tables(tables: form.PriorTables) -> bytes:
    """Return the bytes of `token_model.npz`."""
    file = io.BytesIO()
    arrays = {field.name: getattr(tables, field.name) for field in fields(tables)}
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def fit_tables(
    dump: TokenDump, codebook: NDArray[np.float32], passes: int
) -> tuple[form.PriorTables, float]:
    """Train, round, and return the tables with the held-out exams' mean payload in bytes."""
    tables = train_prior(dump, codebook, passes=passes).tables()
    apart = dump.held_out
    return tables, payload_bytes(tables, dump.take(apart) if apart.any() else dump)


def main(argv: list[str] | None = None) -> None:
    """Parse options, fit the tables, write them."""
    parser = argparse.ArgumentParser(
        prog="edge_codec.training.titok_tables", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("--tokens", type=Path, required=True, help="dump of tokens, .npz")
    parser.add_argument("--codebook", type=Path, required=True, help="codebook.npy")
    parser.add_argument("--out", type=Path, required=True, help="token_model.npz to write")
    parser.add_argument("--passes", type=int, default=10, help="over all frames")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    codebook = read_codebook(options.codebook.read_bytes())
    tables, size = fit_tables(read_dump(options.tokens), codebook, options.passes)
    with atomic_file(options.out, force=True) as file:
        file.write(pack_tables(tables))
    log.info("%s", json.dumps({"held_out_payload_bytes_per_frame": round(size, 2)}))


if __name__ == "__main__":
    main()
