"""The ``sessauth`` command."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NoReturn

import click

from .. import __version__
from ..errors import SessauthError, Unauthenticated, UsageError
from . import output
from .context import Settings, json_option
from .params import PATH

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# The commands by section of the help: each with its "module:attribute", which is imported when it runs, and
# its line of the help.
SECTIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Service": {
        "init": ("local.service:init", "Make a service's folders, key and credential; overwrites nothing."),
        "serve": ("local.service:serve", "Serve until SIGTERM or Ctrl-C, then drain."),
        "follow": (
            "local.service:follow",
            "Serve this host from a cluster's log ([follow]) until SIGTERM or Ctrl-C.",
        ),
        "status": (
            "local.service:status",
            "Show a server: whether it is ready, its sessions, checks, free space, certificate, audit.",
        ),
        "doctor": (
            "local.service:doctor",
            "Find everything that is wrong on this host, each with its remedy.",
        ),
        "console": ("approval:console", "Serve a console on loopback until Ctrl-C."),
        "demo": ("local.service:demo", "Run six stories against a real server of their own."),
    },
    "Sessions": {
        "session": ("session:session", "Open, change and end sessions, and see how they were used."),
        "top": (
            "top:top",
            "Show the sessions with the most denied calls of the last ten minutes, live.",
        ),
        "freeze": ("cut_off:freeze", "Deny every check and refuse all new authority, until 'sessauth thaw'."),
        "thaw": ("cut_off:thaw", "End a freeze: sessions that have not ended meanwhile go on."),
        "approval": (
            "approval:approval",
            "Read the calls that wait for an approval, and grant or deny them.",
        ),
        "approver-key": ("keys:approver_key", "Make and show the key that an approver signs with."),
        "decision": ("local.audit:decision", "Explain decisions that were made."),
    },
    "Tokens and calls": {
        "token": ("token:token", "Make, narrow, show and revoke tokens."),
        "holder-key": ("keys:holder_key", "Make a key that tokens are bound to, and show its public half."),
        "check": ("check:check", "Check one call: ACTION on RESOURCE."),
        "permit": ("check:permit", "Use a permit that 'check --permit-ms' gave."),
        "allowed": (
            "check:allowed",
            "Show for each call whether a token could make it now: yes, no, or maybe.",
        ),
        "scope": ("local.scope:scope", "Check, explain, try and compare scopes in files, without a server."),
    },
    "Tools and gateways": {
        "catalogue": (
            "mcp:catalogue",
            "Pin the tools of a server of MCP: which of them read and which write.",
        ),
        "mcp": ("mcp:mcp", "Guard a server of MCP for any client."),
        "gateway": ("gateway:gateway", "Answer gateways that ask before they pass a request on."),
        "conformance": ("local.conformance:conformance", "Ask a judge every vector and generated questions."),
    },
    "Evidence": {
        "audit": ("local.audit:audit", "Verify, search and export the audit log."),
        "evidence": (
            "local.evidence:evidence",
            "Write one file that shows an auditor the actions of sessions, and verify it.",
        ),
    },
    "Administration": {
        "keys": ("keys:keys", "See and change the issuer keys."),
        "credential": (
            "local.credential:credential",
            "See and change the permitted callers: of a local server, or of all hosts of its cluster.",
        ),
        "identity": (
            "local.identity:identity",
            "Try tokens of identity providers, end logins, and see what their streams of events say.",
        ),
        "state": ("local.service:state", "Check and copy the state of a local service."),
        "cluster": ("local.cluster:cluster", "Run several servers on one log."),
        "completion": (
            "local.completion:completion",
            "Print the script with which a shell completes commands, options, values and files.",
        ),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class SessauthGroup(click.Group):
    """The top command: imports subcommands lazily and maps every error to its exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        place, _ = COMMANDS[cmd_name]
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(f".commands.{module}", __package__), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{place} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section, each with its whole first sentence, and import none."""
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, line) for name, (_, line) in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin so, and import no command."""
        from click.shell_completion import CompletionItem

        found = (each for each in COMMANDS.items() if each[0].startswith(incomplete))
        commands = [CompletionItem(name, help=line) for name, (_, line) in found]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command to run; an unknown name is refused with the names that are alike.

        ``help`` in front of a command's words asks for that command's help, before ``exit-codes`` for theirs.
        """
        if args[0] == "help":
            if args[1:] == ["exit-codes"]:
                formatter = ctx.make_formatter()
                formatter.write_dl([(str(code), text) for code, text in output.EXIT_CODES.items()])
                click.echo(formatter.getvalue(), nl=False)
                ctx.exit()
            if not args[1:]:
                click.echo(ctx.get_help())
                ctx.exit()
            args = [*args[1:], "--help"]
        if args[0] not in COMMANDS and (alike := _alike(args[0])):
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
            # An unknown word or option is found before the --json that comes after it.
            words = args[0] if args else extra.get("args") or sys.argv[1:]
            if settings.json or "--json" in takewhile(lambda word: word != "--", words):
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
            import traceback

            traceback.print_exc()
            code = output.INTERNAL
        sys.exit(code if isinstance(code, int) else output.OK)


def _alike(name: str) -> list[str]:
    """Return the names of commands that are like ``name``."""
    import difflib

    return difflib.get_close_matches(name, COMMANDS)


@click.group(
    cls=SessauthGroup,
    epilog="\b\n'sessauth help COMMAND' shows the help of a command,\n"
    "'sessauth help exit-codes' the exit codes.",
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
@click.version_option(__version__)
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
