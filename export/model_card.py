"""The zoo's MODEL_CARD.md, from the same fields as its manifest."""

from __future__ import annotations

from typing import Any

TEMPLATE = """# {name} {version}

VQ-VAE of single-channel cardiac cine MR frames: one token of {n_codes} codes per {stride}x{stride}
pixels. `encoder.onnx` maps uint8 window codes to int8 latents, the nearest rows of `codebook.npy`
are their tokens, `decoder.onnx` maps tokens back to window codes, all in exact integer arithmetic
(power-of-two scales, 7-bit weights, sums below 2^24), and `token_model.npz` holds the integer
tables from which tokens are entropy coded.

**Research only. Not a medical device. Base-layer images are lossy: fine structure can be replaced
by what the network has seen elsewhere. Where voxels matter, use a residual layer (`--lossless`,
`--max-error`).**

## License
{license}. {license_note}
Cite Bernard et al., IEEE TMI 2018 (ACDC) and Radau et al., MIDAS Journal 2009 (Sunnybrook).

## Trained on
{data}
Held out of it for validation: {held_out}. No case of the test split was read.
{note}

## Measured on training-split cases
PSNR in dB: peak = maximum of the exam, mean over exams, error on 8-bit window codes. ACDC and
fullfov: the held-out patients; Sunnybrook: exams that were trained on.

| network | acdc (heart crop) | fullfov | sunnybrook |
|---|---|---|---|
{psnr_rows}

Token cost in bits per token ({stride}x{stride} = {area} pixels each):

| cases | data set | key frames | predicted frames |
|---|---|---|---|
{bits_rows}

## Window
Code 0 is the {low}, code {one} the {high}; codes saturate at 255.

## Made by
```
{commands}
```
"""


def model_card(fields: dict[str, Any]) -> str:
    """Fill the card in from the manifest's fields."""
    training, metrics, window = fields["training"], fields["metrics"], fields["window"]
    psnr_rows = [
        f"| {network} | "
        + " | ".join(_number(values, g) for g in ("acdc", "fullfov", "sunnybrook"))
        + " |"
        for network, values in metrics["psnr_db"].items()
    ]
    bits_rows = [
        f"| {cases.replace('_', ' ')} | {group} | {_number(costs, 'key')} | "
        f"{_number(costs, 'predicted')} |"
        for cases, groups in metrics["bits_per_token"].items()
        for group, costs in groups.items()
    ]
    return TEMPLATE.format(
        **{k: fields[k] for k in ("name", "version", "n_codes", "stride", "license")},
        license_note=fields["license_note"],
        area=fields["stride"] ** 2,
        data="\n".join(f"- {line}" for line in training["data"]),
        note=training["note"],
        held_out=", ".join(training["held_out"]),
        psnr_rows="\n".join(psnr_rows),
        bits_rows="\n".join(bits_rows),
        low=window["low"],
        high=window["high"],
        one=window["one"],
        commands="\n".join(training["commands"]),
    )


def _number(values: dict[str, float], key: str) -> str:
    return f"{values[key]:.2f}" if key in values else "-"
