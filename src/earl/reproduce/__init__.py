"""The paper's comparison, in the world: cells of training and evaluation, tables, and its claims.

`cells` says what there is, `recipes` what each is trained with, `matrix` runs what is missing,
`tables` and `claims` read the scores.
"""

from earl.reproduce.cells import CELLS, Cell, needed
from earl.reproduce.matrix import Matrix

__all__ = ["CELLS", "Cell", "Matrix", "needed"]
