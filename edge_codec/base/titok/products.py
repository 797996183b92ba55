"""Products with matrices in parts so small that the linear algebra library keeps to one thread.

Its other threads spin while they wait, and the networks need the cores: on two busy ones a product
of some microseconds takes milliseconds. OpenBLAS starts threads for products of more than 2**18
multiplications, and of more than 9,216 where one factor is a vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 1 << 13  # numbers of a part: times 32 rows, 2**18 multiplications


class Parts:
    """A matrix, cut into parts of some columns.

    Parameters
    ----------
    matrix : ndarray, shape (k, n), float
    """

    def __init__(self, matrix: NDArray[Any]) -> None:
        k, n = matrix.shape
        width = max(each for each in range(1, n + 1) if n % each == 0 and each * k <= max(MOST, k))
        parts = matrix.reshape(k, n // width, width).transpose(1, 0, 2)
        self._parts = np.ascontiguousarray(parts)

    def of(self, rows: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the product of up to 32 rows, (m, k), with the matrix, (m, n).

        With `out`, (m, n), it is written there, and cast to its type: parts are small enough to
        come from memory that is warm, where a whole product would be paged in every time.
        """
        if out is None:
            products: NDArray[Any] = np.matmul(rows, self._parts)
            return products.transpose(1, 0, 2).reshape(len(rows), -1)
        width = self._parts.shape[2]
        for number, part in enumerate(self._parts):
            out[:, number * width : (number + 1) * width] = rows @ part
        return out
