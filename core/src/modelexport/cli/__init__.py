"""The `mx` command: one file per subcommand here, and no logic in any of them; other distributions bring more.

A subcommand's file is imported only when it is the one asked for, so `mx --help` costs what click costs.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import click

from ..errors import (
    MxError,
    OutputError,
    RuntimeFailure,
    TargetError,
    UsageError,
    __version__,
    is_disk_error,
    out_of_memory,
)
from ..plugins import commands
from . import stopping

#: subcommand → its line in `mx --help`; its code is in the file of that name
COMMANDS = {
    "export": "Export a model to one or more targets, and verify each.",
    "run": "Run an artifact on arrays, texts or images.",
    "benchmark": "Time artifacts against each other and a baseline.",
    "optimize": "Make an artifact faster or smaller, at the same precision.",
    "quantize": "Make an artifact smaller and faster at a lower precision, within a budget.",
    "verify": "Run the parity gate on an artifact again.",
    "inspect": "Show what is in an artifact.",
    "targets": "List the targets, installed and known.",
    "doctor": "Check the environment, and say what to fix.",
    "plugin": "Start a target of your own, or check one against the contract.",
    "completion": "Print the shell completion script.",
}


#: where a context keeps the entry of a command of another distribution
_FOREIGN = "modelexport.foreign"


class Commands(click.Group):
    """A group whose subcommands are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *commands.installed(COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            command: click.Command = import_module(f".{cmd_name}", __name__).command
            return command
        if ctx.resilient_parsing:  # completion: what is broken completes nothing
            with suppress(TargetError):
                return commands.load(cmd_name, COMMANDS)
            return None
        other = commands.load(cmd_name, COMMANDS)
        if other is None:
            return None
        if ctx is not None:
            ctx.meta[_FOREIGN] = commands.installed(COMMANDS)[cmd_name]
        return _with_debug(other)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what one of another distribution raises unexpectedly is that one's defect."""
        try:
            return super().invoke(ctx)
        except (MxError, click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if _FOREIGN not in ctx.meta:
                raise
            raise commands.failed(ctx.meta[_FOREIGN], error) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = {*COMMANDS, *commands.lines(COMMANDS)}
        if args and args[0] not in known and not args[0].startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            close = get_close_matches(args[0], known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(self.list_commands(ctx))}"
            raise UsageError(f"there is no command {args[0]!r}", hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
        if others := commands.lines(COMMANDS):
            with formatter.section("Commands of other distributions"):
                formatter.write_dl(list(others.items()))


def _with_debug(command: click.Command) -> click.Command:
    """The command with `--debug`, which every command of `mx` has and `main` reads; so have those of a group."""
    if all("--debug" not in option.opts for option in command.params):
        text = "Show the whole trace of an error."
        command.params.append(click.Option(["--debug"], is_flag=True, expose_value=False, help=text))
    if isinstance(command, click.Group):
        find = command.get_command

        def get_command(ctx: click.Context, name: str) -> click.Command | None:
            inner = find(ctx, name)
            return None if inner is None else _with_debug(inner)

        command.get_command = get_command  # type: ignore[method-assign,assignment]
    return command


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `mx targets`, then `mx export --help`.",
)
@click.version_option(__version__, prog_name="mx")
@click.option("--plugin", "files", multiple=True, metavar="FILE.py", help="Load a target from one file as well.")
def cli(files: tuple[str, ...]) -> None:
    """Put one trained model on every runtime, with proof that each copy computes the same thing."""
    if files:
        from ..plugins.entrypoints import add_files

        add_files(files)


#: commands that give model files to runtimes and converters, which may take their process down
GUARDED = ("export", "run", "optimize", "quantize", "verify", "benchmark")


def main() -> NoReturn:
    """Entry point: every expected failure is one line with a hint, and the exit code of its class."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does: a name may be no text, or not its
    stopping.listen()
    arguments = sys.argv[1:]
    if not set(GUARDED) & set(arguments):
        sys.exit(_run(arguments))
    from .guard import guarded

    sys.exit(guarded(lambda: _run(arguments), lambda name: _report(_crash(name), arguments)))


def _crash(name: str) -> MxError:
    """The error for work that died, and could put nothing in order itself; `name` says how."""
    from ..store import scratch

    scratch.clear()
    if name.startswith("exit"):
        return RuntimeFailure(
            f"a runtime or a converter ended the process without a word ({name})",
            "is the disk full? If it is not, try another version of the runtime",
        )
    if name == "SIGKILL":
        return RuntimeFailure("the process was killed (SIGKILL)", "out of memory? Try smaller sizes")
    return RuntimeFailure(
        f"a runtime or a converter took the process down ({name})",
        "the model file may be damaged; if it is not, try another version of the runtime",
    )


def _run(arguments: list[str]) -> int:
    try:
        return _invoke(arguments)
    except (click.Abort, KeyboardInterrupt):
        return _stopped()
    except MxError as error:
        return _stopped() if stopping.was_asked() else _report(error, arguments)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        return _report(_usage(error), arguments)
    except BrokenPipeError:
        _drop_stdout()
        return 141
    except Exception as error:  # noqa: BLE001  the last resort: every error ends in one line
        return _stopped() if stopping.was_asked() else _report(_told(error), arguments)


def _invoke(arguments: list[str]) -> int:
    stdout = sys.stdout
    try:
        code = cli.main(arguments or ["--help"], prog_name="mx", standalone_mode=False)
        if stdout is not None:  # it may be closed
            stdout.flush()
    except SystemExit as error:
        if sys.stdout is not stdout:  # click puts another in its place, and ends, where whoever reads has gone
            raise BrokenPipeError from error
        raise
    return code if isinstance(code, int) else 0


def _told(error: Exception) -> MxError:
    """What an error that nobody translated is to a user: memory, a disk that is full, or a defect of ours."""
    if isinstance(error, MemoryError):
        told = out_of_memory(error)
    elif isinstance(error, OSError) and error.filename is None and is_disk_error(error):
        _drop_stdout()
        told = OutputError(f"can't write to stdout: {error.strerror}", "free some space where it leads")
    else:
        told = MxError(
            f"internal error: {type(error).__name__}: {error}",
            "this is a defect of modelexport: please report it with the output of --debug",
        )
    told.__cause__ = error
    return told


def _drop_stdout() -> None:
    """What is left of stdout is written when Python ends: let it go where that can't fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _stopped() -> int:
    code, said = stopping.reason()
    click.echo(said, err=True)
    return code


def _usage(error: click.ClickException) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "mx"
    return UsageError(" ".join(error.format_message().split()).rstrip("."), f"see `{path} --help`")


def _report(error: MxError, arguments: list[str]) -> int:
    if "--debug" in arguments:
        import traceback

        traceback.print_exception(error)
    if "--json" in arguments:
        import json

        body: dict[str, Any] = {
            "kind": type(error).__name__,
            "exit_code": error.exit_code,
            "message": error.message,
            "hint": error.hint,
        }
        try:
            click.echo(json.dumps({"error": body}, indent=2))
        except OSError:  # nobody reads it, or nothing can be written there: stderr has the error as well
            _drop_stdout()
    click.echo(click.style("error: ", fg="red", bold=True) + _on_one_line(error.message), err=True)
    if error.hint:
        click.echo(click.style("hint: ", fg="cyan") + _on_one_line(error.hint), err=True)
    return error.exit_code


def _on_one_line(text: str) -> str:
    """A text with what would break the line, or move the terminal's cursor, written out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
