"""Write docs/reference/{cli,hooks,toolkit,options,errors}.md from the code.

    python docs/generate.py            write the pages
    python docs/generate.py --check    exit with 1 and a diff where a page is not what the code says

docs/reference/support.md comes from results, not from the code: see docs/support.py.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType

import click
from modelexport import cli, contract, errors, toolkit
from modelexport.contract import hooks, options
from modelexport.plugins import manager

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
WIDTH = 100
MADE = "<!-- Written by docs/generate.py: edit the code, then run `make docs`. -->\n"

#: what hooks take and return, in the order in which the values flow
VALUES = [
    "Target", "NoDetails", "Check", "Verb", "Source", "LoadOptions", "Captured", "Build", "StandIn", "Artifact",
    "Processing", "Step", "FileEntry", "Parity", "Comparison", "Budget", "Session", "Calibration", "Goal",
    "QuantizationReport", "QuantizedLayer", "Trial", "Score", "CompiledLayer", "TensorSpec", "Dim", "State",
    "Event",
]  # fmt: skip


def prose(docstring: str) -> str:
    """A docstring as Markdown: aligned "`name`  meaning" lines become a list, examples a block."""
    text = inspect.cleandoc(docstring)
    text = re.sub(r"(?m)(?:^`\w+` .*\n?){3,}", lambda run: re.sub(r"(?m)^(`\w+`) +", r"- \1: ", run[0]), text)
    return re.sub(r"(?m)^>>> (.*)\n((?:(?!>>>)\S.*\n?)*)", r"```pycon\n>>> \1\n\2```\n", text)


# --------------------------------------------------------------------------------------- cli


def commands(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command below `group`, subgroups entered."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(
            command, info_name=name, parent=context, terminal_width=WIDTH, max_content_width=WIDTH
        )
        yield inner.command_path, command, inner
        if isinstance(command, click.Group):
            yield from commands(command, inner)


def cli_page() -> str:
    top = click.Context(
        cli.cli, info_name="mx", terminal_width=WIDTH, max_content_width=WIDTH, **cli.cli.context_settings
    )
    parts = ["# Commands\n", "What `--help` says of each.\n", f"```text\n{cli.cli.get_help(top)}\n```\n"]
    for path, command, context in commands(cli.cli, top):
        parts.append(f"## {path}\n\n```text\n{command.get_help(context)}\n```\n")
    parts.append(
        "## All commands\n\n"
        "Results go to stdout, errors and a progress line for each stage to stderr (where that is no terminal, "
        "only work of more than 20 seconds says now and then what it does). With "
        '`--json`, stdout is one JSON value, of an error too: `{"error": {"kind", "exit_code", "message", '
        '"hint"}}`. [Errors](errors.md) lists the exit codes.\n\n'
        "| environment variable | meaning |\n|---|---|\n"
        "| `MX_PLUGIN` | files with a target each, as with `--plugin`; separated like `PATH` |\n"
        "| `MX_TRACE` | if set, print every hook call with its time on stderr |\n"
        "| `MX_REQUIRE` | targets, separated by commas, or `all`: the compliance kit fails where it would skip |\n"
    )
    return "\n".join(parts)


# --------------------------------------------------------------------------------------- hooks


def hook_signature(name: str) -> str:
    """The signature as it stands in the module of the hooks."""
    tree = ast.parse(inspect.getsource(hooks))
    node = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{name}({ast.unparse(node.args)}){returns}"


def hook_names() -> list[str]:
    """In the order of the module."""
    return [name for name in vars(hooks) if name.startswith("mx_")]


def hooks_page() -> str:
    parts = ["# Hooks\n", prose(hooks.__doc__ or "") + "\n"]
    parts.append(
        "```python\nfrom modelexport import hookimpl\n\n\n@hookimpl\ndef mx_target(): ...\n```\n\n"
        "A hook's result is the first that is not `None`. An implementation may leave parameters out, and gives "
        "none of them a default. [A complete target](../tutorial/first-plugin.md) is under 70 lines.\n"
    )
    for name in hook_names():
        parts.append(
            f"## {name}\n\n```python\n{hook_signature(name)}\n```\n\n{prose(getattr(hooks, name).__doc__)}\n"
        )
    parts.append(
        "## Values\n\nIn `modelexport.contract`; those that users of the Python API meet are in `modelexport` "
        "too. All are frozen dataclasses, but for `Session` and the protocols `Calibration` and `State`.\n"
    )
    parts += [value(getattr(contract, name)) for name in VALUES]
    parts.append("## Functions\n\nIn `modelexport.contract` as well; [the toolkit](toolkit.md) has more.\n")
    parts += [function(name, getattr(contract, name)) for name in functions(contract)]
    parts.append("## Types and constants\n\n" + ", ".join(f"`{name}`" for name in others(contract)) + "\n")
    return "\n".join(parts)


def functions(package: ModuleType) -> list[str]:
    """The public functions of a package."""
    return [name for name in package.__all__ if inspect.isfunction(getattr(package, name))]


def others(package: ModuleType) -> list[str]:
    """What a package makes public besides the values and functions that are described."""
    return [name for name in package.__all__ if name not in (*VALUES, *functions(package))]


def function(name: str, made: Callable[..., object]) -> str:
    signature = str(inspect.signature(made)).replace("'", "")
    return f"### {name}\n\n```python\n{name}{signature}\n```\n\n{prose(made.__doc__ or '')}\n"


# --------------------------------------------------------------------------------------- toolkit


def toolkit_page() -> str:
    parts = ["# Toolkit\n", prose(toolkit.__doc__ or "") + "\n"]
    for name in toolkit.__all__:
        made = getattr(toolkit, name)
        if inspect.isclass(made):
            parts.append(value(made).replace("### ", "## ", 1))
        elif inspect.isfunction(made):
            parts.append(function(name, made).replace("### ", "## ", 1))
        else:
            parts.append(f"## {name}\n\n```python\n{name} = {json.dumps(made)}\n```\n")
    return "\n".join(parts)


def value(kind: type) -> str:
    """A dataclass with its fields and defaults, or a class with its constructor; then its docstring."""
    if is_dataclass(kind):
        tree = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
        node = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
        known = {item.name for item in fields(kind)}
        lines = [
            ast.unparse(line).replace("'", '"')
            for line in node.body
            if isinstance(line, ast.AnnAssign) and getattr(line.target, "id", "") in known
        ]
        code = "\n".join([f"class {kind.__name__}:", *(f"    {line}" for line in lines)])
    else:
        parameters = list(inspect.signature(kind).parameters.values())
        code = "\n".join(
            [f"{kind.__name__}(", *(f"    {parameter},".replace("'", "") for parameter in parameters), ")"]
        )
    return f"### {kind.__name__}\n\n```python\n{code}\n```\n\n{prose(kind.__doc__ or '')}\n"


# --------------------------------------------------------------------------------------- options


def targets() -> list[manager.Plugin]:
    """The targets of this repository; every one must be installed."""
    files = [ROOT / "core" / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
    names = [
        re.match(r"[\w-]+", line)
        for file in files
        for section in re.findall(
            r'entry-points\."mx\.targets"\]\n((?:\w.*\n)*)', file.read_text(encoding="utf-8")
        )
        for line in section.splitlines()
    ]
    return [manager.target(name[0]) for name in names if name]


def options_page() -> str:
    parts = [
        "# Options\n",
        "Every option of every target here, given with `-k KEY=VALUE` ([how](../how-to/choose-options.md)). An "
        "installed target shows its own with `mx export -t TARGET -k help` and `mx run ARTIFACT -k help`. "
        "`mx verify` and `mx benchmark` take those of `run`.\n",
    ]
    for plugin in sorted(targets(), key=lambda plugin: plugin.target.name):
        parts.append(f"## {plugin.target.name}\n\n{plugin.target.summary}. Verbs: {', '.join(plugin.verbs)}.\n")
        for verb in plugin.verbs:
            rows = options.describe_options(plugin.target.verb(verb).options)
            if not rows:
                parts.append(f"### {plugin.target.name} {verb}\n\nNo options.\n")
                continue
            table = [f"### {plugin.target.name} {verb}\n", "| option | type | default | |", "|---|---|---|---|"]
            for row in rows:
                kind, default = row.type.replace("|", "\\|"), f"`{row.default}`" if row.default else "–"
                table.append(f"| `{row.key}` | {kind} | {default} | {row.help} |")
            parts.append("\n".join([*table, ""]))
    return "\n".join(parts)


# --------------------------------------------------------------------------------------- errors


def error_classes() -> list[type[errors.MxError]]:
    found = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.MxError) and kind.__module__ == errors.__name__
    ]
    return sorted(found, key=lambda kind: kind.exit_code)


def errors_page() -> str:
    parts = [
        "# Errors\n",
        "Every expected failure is a subclass of `modelexport.MxError` with a message, a hint, and an exit code "
        "of its own. The command prints message and hint; `--debug` adds the trace and the third-party error.\n",
        "| exit code | class | |\n|---|---|---|\n| 0 | | done; and verified, unless `--no-verify` was given |",
    ]
    for kind in error_classes():
        summary = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        parts[-1] += f"\n| {kind.exit_code} | `{kind.__name__}` | {summary} |"
    parts[-1] += "\n| 130 | | interrupted |\n| 141 | | the reader of stdout went away |\n"
    for kind in error_classes():
        if more := inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[2]:
            parts.append(f"## {kind.__name__}\n\n{prose(more)}\n")
    return "\n".join(parts)


# --------------------------------------------------------------------------------------- writing

PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "hooks.md": hooks_page,
    "toolkit.md": toolkit_page,
    "options.md": options_page,
    "errors.md": errors_page,
}


def difference(file: Path, text: str) -> str:
    """A unified diff from what is in the file to the text; empty where they are equal."""
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    name = str(file.relative_to(ROOT))
    lines = difflib.unified_diff(before.splitlines(True), text.splitlines(True), name, f"{name} from the code")
    return "".join(lines)


def main(arguments: list[str]) -> int:
    stale = 0
    for name, page in PAGES.items():
        text = MADE + "\n" + re.sub(r"[ \t]+$", "", page(), flags=re.MULTILINE).strip() + "\n"
        change = difference(REFERENCE / name, text)
        if "--check" in arguments:
            stale += bool(change)
            click.echo(change, nl=False)
        elif change:
            (REFERENCE / name).write_text(text, encoding="utf-8")
            click.echo(f"wrote docs/reference/{name}")
    if stale:
        click.echo("the reference is not what the code says: run `make docs`", err=True)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
