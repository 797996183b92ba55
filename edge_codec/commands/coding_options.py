"""What compress and serve ask about the coding of frames, in the same words."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_codec.base.titok.conditions import ClinicalFacts
    from edge_codec.runtime.base_rate import BaseRate
    from edge_codec.spec import ModelId

MODELS = "none|vqvae|dwt-cal|video|dwt-cal-vae|titok"


def positive(text: str) -> int:
    """Return a number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def add_model_options(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Declare the base layer; return the group of what it aims at, for more."""
    parser.add_argument(
        "--model", default="none", metavar=MODELS,
        help="base layer: none, tokens of a network, our video codec, or a standard one (extra "
        "'video'); titok: 32 tokens a frame, a preview that takes no promise; with a model and no "
        "promise, a stream holds the base alone",
    )  # fmt: skip
    parser.add_argument(
        "--tokens-per", default="frame", metavar="frame|cine|exam",
        help="what shares 32 tokens of titok: each frame (the default), all phases of a slice, or "
        "the whole exam; cine and exam are blurred, hardly move, and are for files only",
    )  # fmt: skip
    aim = parser.add_mutually_exclusive_group()
    aim.add_argument(
        "--quality", type=int, metavar="Q",
        help="of the base layer of dwt-cal, dwt-cal-vae and video, 0 to 63, the best",
    )  # fmt: skip
    aim.add_argument(
        "--bits-per-frame", type=float, metavar="N",
        help="instead of a quality: bits that a frame of that base layer may take on average",
    )  # fmt: skip
    return aim


def patient_facts(text: str) -> ClinicalFacts:
    """Return facts like height=172,weight=80,group=DCM, for argparse."""
    from edge_codec.base.titok.conditions import ClinicalFacts
    from edge_codec.errors import SpecError

    facts: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name not in ("height", "weight", "group") or name in facts:
            raise argparse.ArgumentTypeError(
                f"'{part}' is no fact; write for example height=172,weight=80,group=DCM"
            )
        facts[name] = value
    try:
        height, weight = (float(facts.get(name, 0)) for name in ("height", "weight"))
        return ClinicalFacts(height, weight, facts.get("group", ""))
    except (ValueError, SpecError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def refuse_groups(options: argparse.Namespace) -> None:
    """Refuse tokens of a whole cine or exam, for a command that codes frames as they come.

    Raises
    ------
    SpecError
        If they are asked for.
    """
    from edge_codec.errors import SpecError
    from edge_codec.runtime.options import parse_tokens_per

    per = parse_tokens_per(options.tokens_per)
    if per:
        raise SpecError(
            f"tokens for each {per.label} are known only when its last frame is; a live stream "
            "takes --tokens-per frame"
        )


def chosen_rate(options: argparse.Namespace) -> BaseRate:
    """Return what the base layer aims at."""
    from edge_codec.runtime.base_rate import BaseRate

    return BaseRate(options.quality, options.bits_per_frame)


def chosen_bound(options: argparse.Namespace, model: ModelId) -> int | None:
    """Return the bound of the residual layer; None for a base layer alone."""
    if options.lossless or (options.max_error is None and not model):
        return 0
    bound: int | None = options.max_error
    return bound
