"""``sessauth completion``: the script by which a shell asks ``sessauth`` itself for completions."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from ...context import Settings, with_settings
from ...params import examples

SHELLS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(epilog=examples("completion bash", "completion fish"))
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
@with_settings
def completion(settings: Settings, shell: str) -> None:
    """Print the script with which a shell completes commands, options, values and files.

    For this shell: eval "$(sessauth completion bash)".
    """
    root = click.get_current_context().find_root().command
    script = SHELLS[shell](root, {}, "sessauth", "_SESSAUTH_COMPLETE").source()
    settings.show({"shell": shell, "script": script}, [script])
