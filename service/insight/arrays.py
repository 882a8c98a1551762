"""Arrays of customers."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Customers:
    """Customers as the model sees them; times in days. ``weight`` is how many are alike."""

    repeats: Floats
    recency: Floats
    age: Floats
    weight: Floats

    @classmethod
    def of(cls, repeats: ArrayLike, recency: ArrayLike, age: ArrayLike) -> Self:
        """Return these customers, with times that the model can bear.

        A publisher's clock may be ahead, so an age may be negative here. Several orders on the only
        day are no repeat, and then the time between them means nothing.
        """
        x = np.asarray(repeats, np.float64)
        t = np.maximum(np.asarray(age, np.float64), 0.0)
        t_x = np.where(x > 0, np.clip(np.asarray(recency, np.float64), 0.0, t), 0.0)
        return cls(x, t_x, t, np.ones_like(x))

    def grouped(self) -> "Customers":
        """Return one customer for all that are alike, with their number as the weight."""
        rows = np.column_stack([self.repeats, self.recency, self.age])
        alike, which = np.unique(rows, axis=0, return_inverse=True)
        weight = np.bincount(which.ravel(), weights=self.weight, minlength=len(alike))
        return Customers(alike[:, 0], alike[:, 1], alike[:, 2], weight.astype(np.float64))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.repeats)
