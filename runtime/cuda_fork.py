"""A second branch of the work that is being recorded, which the GPU may run beside the first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_codec.runtime.cuda_context import CudaContext


class CudaFork:
    """A side stream that leaves the stream of a context and comes back to it.

    Parameters
    ----------
    context : CudaContext
    """

    def __init__(self, context: CudaContext) -> None:
        self._context = context
        self._side = context.create_stream(self)
        self._begin, self._end = self._create_event(), self._create_event()

    def _create_event(self) -> Any:
        api, flags = self._context.api, self._context.api.CUevent_flags.CU_EVENT_DISABLE_TIMING
        (event,) = self._context.call(api.cuEventCreate, int(flags))
        self._context.own(self, event, api.cuEventDestroy)
        return event

    def run(self, first: Callable[[], None], second: Callable[[], None]) -> None:
        """Record `first` in the stream and `second` in the side stream."""
        context, main = self._context, self._context.stream
        self._follow(self._side, main, self._begin)
        try:
            first()
            context.stream = self._side
            second()
        finally:
            # Also after an error: a recording cannot end while the branch is away.
            context.stream = main
            self._follow(main, self._side, self._end)

    def _follow(self, later: Any, earlier: Any, event: Any) -> None:
        """Let what comes in one stream wait for what has come in another."""
        self._context.call(self._context.api.cuEventRecord, event, earlier)
        self._context.call(self._context.api.cuStreamWaitEvent, later, event, 0)
