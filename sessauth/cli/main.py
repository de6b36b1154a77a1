"""The ``sessauth`` command."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

import click

from ..errors import SessauthError, Unauthenticated, UsageError
from . import output
from .context import Settings, json_option
from .params import PATH

# Names of commands, and their "module:attribute": imported when the command runs.
COMMANDS: Mapping[str, str] = {
    "init": "commands.local.service:init",
    "serve": "commands.local.service:serve",
    "follow": "commands.local.service:follow",
    "status": "commands.local.service:status",
    "doctor": "commands.local.service:doctor",
    "session": "commands.session:session",
    "freeze": "commands.cut_off:freeze",
    "thaw": "commands.cut_off:thaw",
    "token": "commands.token:token",
    "holder-key": "commands.keys:holder_key",
    "check": "commands.check:check",
    "permit": "commands.check:permit",
    "approval": "commands.approval:approval",
    "approver-key": "commands.keys:approver_key",
    "allowed": "commands.check:allowed",
    "keys": "commands.keys:keys",
    "credential": "commands.local.credential:credential",
    "state": "commands.local.service:state",
    "cluster": "commands.local.cluster:cluster",
    "audit": "commands.local.audit:audit",
    "evidence": "commands.local.evidence:evidence",
    "decision": "commands.local.audit:decision",
    "catalogue": "commands.mcp:catalogue",
    "mcp": "commands.mcp:mcp",
    "gateway": "commands.gateway:gateway",
    "conformance": "commands.local.conformance:conformance",
    "console": "commands.approval:console",
    "demo": "commands.local.service:demo",
}

# The same names as the help shows them.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Service": ("init", "serve", "follow", "status", "doctor", "console", "demo"),
    "Sessions": ("session", "freeze", "thaw", "approval", "approver-key", "decision"),
    "Tokens and calls": ("token", "holder-key", "check", "permit", "allowed"),
    "Tools and gateways": ("catalogue", "mcp", "gateway", "conformance"),
    "Evidence": ("audit", "evidence"),
    "Administration": ("keys", "credential", "state", "cluster"),
}


class SessauthGroup(click.Group):
    """The top command: imports subcommands lazily and maps every error to its exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, None for an unknown name."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(f".{module}", __package__), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{place} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section, each with its whole first sentence."""
        for section, names in SECTIONS.items():
            commands = ((name, self.get_command(ctx, name)) for name in names)
            with formatter.section(section):
                formatter.write_dl([(name, each.get_short_help_str(200)) for name, each in commands if each])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command to run; an unknown name is refused with the names that are alike.

        ``help`` in front of a command's words asks for that command's help.
        """
        if args[0] == "help":
            if not args[1:]:
                click.echo(ctx.get_help())
                ctx.exit()
            args = [*args[1:], "--help"]
        alike = [] if args[0] in COMMANDS else difflib.get_close_matches(args[0], COMMANDS)
        if alike:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {' or '.join(map(repr, alike))}?")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run, and exit with one of the documented codes."""
        extra["standalone_mode"] = False
        # gRPC's core reads this when it is loaded. Without it, lines of its own mix with ours on stderr.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        settings = Settings()
        extra["obj"] = settings
        try:
            code = super().main(*args, **extra)
            sys.stdout.flush()
        except click.ClickException as error:
            if settings.json:
                output.report(UsageError(), error.format_message(), as_json=True)
            else:
                error.show()
            code = output.USAGE
        except (click.Abort, KeyboardInterrupt):
            click.echo("sessauth: interrupted", err=True)
            code = output.INTERRUPTED
        except BrokenPipeError:
            # Python flushes stdout again at exit, and would report the same error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = output.BROKEN_PIPE
        except SystemExit as leaving:
            # click leaves with 1 if the output's reader went away. Commands never leave so.
            code = output.BROKEN_PIPE if leaving.code == 1 else leaving.code
        except SessauthError as error:
            options = output.options_of(settings.command)
            message = output.with_option_names(str(error), options)
            if isinstance(error, Unauthenticated):
                message += settings.sent_credential()
            output.report(error, message, as_json=settings.json)
            code = output.exit_code(error)
        except Exception:  # noqa: BLE001 - a mistake of ours must not leave with 1, which means denied
            traceback.print_exc()
            code = output.INTERNAL
        sys.exit(code if isinstance(code, int) else output.OK)


@click.group(
    cls=SessauthGroup,
    epilog=output.EXIT_CODES_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--home", type=PATH, help="Folder of a local service [SESSAUTH_HOME].")
@click.option(
    "--target", help="Socket path or HOST:PORT of the server; of several, with commas [SESSAUTH_TARGET]."
)
@click.option(
    "--credential-file",
    type=PATH,
    help="File with the API key [SESSAUTH_CREDENTIAL_FILE]. Default: the operator's of a local service.",
)
@click.option("--timeout-ms", type=click.IntRange(1, 3_600_000), default=2000, show_default=True)
@click.option("--tls", is_flag=True, help="TLS by the certificates that this machine trusts.")
@click.option("--tls-ca", type=PATH, help="Certificates that may sign the server's.")
@click.option("--tls-certificate", type=PATH, help="Own certificate, for mTLS.")
@click.option("--tls-key", type=PATH, help="Key of the own certificate.")
@click.option("--tls-server-name", default="", help="Name to expect in the server's certificate.")
@click.option("--insecure-tcp", is_flag=True, help="Permit TCP without TLS; tokens travel in the clear.")
@click.version_option(package_name="sessauth")
@json_option
@click.pass_obj
def cli(settings: Settings, /, **options: Any) -> None:
    """Sessions for AI agents: open one, mint tokens, check every call, end it.

    Tokens are read from a file or, with -, from stdin, and never taken as arguments.
    """
    for name, value in options.items():
        setattr(settings, name, value)


def main() -> NoReturn:
    """Run the command line.

    An interrupted command ends without destructors: those of a gRPC call that was cut off can wait forever.
    """
    try:
        cli.main()
    except SystemExit as leaving:
        if leaving.code != output.INTERRUPTED:
            raise
        with suppress(OSError):
            sys.stdout.flush()
        with suppress(OSError):
            sys.stderr.flush()
        os._exit(output.INTERRUPTED)


if __name__ == "__main__":
    main()
