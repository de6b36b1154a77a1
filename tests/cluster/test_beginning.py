"""The first words of commands of clusters to an operator who took a wrong step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.errors import ConfigError, StateError, StateUnusable
from sessauth.server.cluster.begin import begin, server_key
from sessauth.server.cluster.joining import open_source
from sessauth.server.config import Config, load
from sessauth.server.process.init import initialise
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.replication.membership import found
from tests.support.service import home_folder

SETTINGS = """\
[tcp]
address = "127.0.0.1:1"
insecure_tcp = true

[cluster]
name = "one"
address = "127.0.0.1:1"
engine = ["127.0.0.1:1"]
insecure_engine = true

[follow]
servers = ["127.0.0.1:1"]
credential = "one.credential"
insecure_tcp = true
"""


@pytest.fixture
def config() -> Iterator[Config]:
    """The settings of a home that was not initialised."""
    with home_folder() as home:
        Path(home, "sessauth.toml").write_text(SETTINGS)
        yield load(home, {})


def test_a_cluster_begins_once(config: Config) -> None:
    """A second time it says so, before it asks the engine, which has a log by then."""
    initialise(config.home)
    found(config.state_dir, "one", server_key(config))

    with pytest.raises(StateError, match="belongs to a cluster already"):
        begin(config)


def test_a_credential_that_is_missing_is_named_by_its_setting(config: Config) -> None:
    """Not by the option of commands that call a server."""
    with pytest.raises(ConfigError, match=r"^follow\.credential: can't read .*one\.credential"):
        open_source(config)


def test_a_server_without_a_folder_may_join(config: Config) -> None:
    """``init`` would make a state that the cluster's can't replace."""
    with pytest.raises(StateUnusable, match="for a further server 'cluster join'"):
        StateReader.open(config.state_dir)
