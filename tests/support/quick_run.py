"""`fashionflow ARGUMENTS` whose catalogues are made with `quick_model`: python quick_run.py ARGUMENTS"""

import contextlib
import os
from collections.abc import Iterator

from quick_model import OPENER, PATIENCE

from fashionflow_cli.main import main
from fashionflow_core.catalogue import supervisor
from fashionflow_core.catalogue.jobs import RunSpec


@contextlib.contextmanager
def with_quick_model() -> Iterator[None]:
    """Catalogues that are begun inside are made with `quick_model`."""
    defaults, patience = RunSpec.__init__.__defaults__, supervisor.PATIENCE
    assert defaults is not None and list(RunSpec.__dataclass_fields__)[-1] == "opener"
    RunSpec.__init__.__defaults__ = (*defaults[:-1], OPENER)
    supervisor.PATIENCE = float(os.environ.get(PATIENCE, patience))
    try:
        yield
    finally:
        RunSpec.__init__.__defaults__, supervisor.PATIENCE = defaults, patience


if __name__ == "__main__":
    with with_quick_model():
        main()
