"""The home of a service of an earlier version, and the folder of a later one: for pages on upgrades."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sessauth.model.change import Head
from sessauth.state import layout
from sessauth.state.host.folder import Owner, pid_namespace
from sessauth.state.lmdb.environment import open_environment
from tests.support.tree import ROOT

LEFT = ROOT / "tests" / "state" / "fixtures" / "state_of_before.tar.xz"
ADD = "sessauth credential add operator --role operator --out operator.credential"


def lay_down(home: Path, env: Mapping[str, str]) -> None:
    """Put the folder of tests/state/fixtures into ``home``, with an operator's credential beside it."""
    home.mkdir(parents=True)
    with tarfile.open(LEFT) as tar:
        tar.extractall(home, filter="data")
    state = home / "state"
    state.chmod(layout.DIR_MODE)
    replace(Owner.read(state), pid_namespace=pid_namespace()).write(state)
    (home / "keys").mkdir(mode=0o700)
    subprocess.run(ADD.split(), env=env, cwd=home, check=True, capture_output=True)


def raise_format(state: Path) -> None:
    """Give a folder the format after this version's: this version then is an earlier one to it."""
    env = open_environment(state, readonly=False, map_size=(state / layout.DATA_FILE).stat().st_size)
    meta = env.open_db(layout.META.encode(), create=False)
    with env.begin(write=True) as txn:
        head = Head.decode(bytes(txn.get(layout.HEAD_KEY, db=meta)))
        txn.put(layout.HEAD_KEY, replace(head, format=layout.FORMAT + 1).encode(), db=meta)
    env.close()
