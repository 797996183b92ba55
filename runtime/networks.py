"""Which models have networks, for a backend to run."""

from __future__ import annotations

from edge_codec.errors import SpecError
from edge_codec.spec import ModelId

WITH_NETWORKS = (ModelId.VQVAE, ModelId.TITOK)


def check_backend(backend: str, model: ModelId) -> None:
    """Refuse a backend that was chosen for a model without networks: it would have no effect.

    Parameters
    ----------
    backend : str
        Its name; 'auto' is no choice.
    model : ModelId
        Model of the base layer.

    Raises
    ------
    SpecError
        If the model has no networks.
    """
    if backend != "auto" and model not in WITH_NETWORKS:
        known = ", ".join(each.label for each in WITH_NETWORKS)
        raise SpecError(
            f"model '{model.label}' has no networks for backend '{backend}' to run; leave it out, "
            f"or use model {known}"
        )
