"""The rules of this workspace that a program can check; docs/explanation/architecture.md gives their reasons."""

import ast
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from modelexport import errors
from modelexport.contract import hooks
from modelexport.plugins import entries, known, manager

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core"
PLUGINS = sorted(path for path in (ROOT / "plugins").iterdir() if path.is_dir())
DISTRIBUTIONS = [CORE, *PLUGINS]
HEAVY = [
    "torch",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "tensorflow",
    "transformers",
    "tokenizers",
    "PIL",
    "safetensors",
]
NETWORK = {
    "urllib",
    "urllib3",
    "requests",
    "http",
    "httpx",
    "aiohttp",
    "socket",
    "ftplib",
    "smtplib",
    "webbrowser",
}


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def sources(*folders):
    """The Python files that are shipped, with their trees."""
    for folder in folders:
        for path in sorted((folder / "src").rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower()


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


# --------------------------------------------------------------------------------------- dependencies


def test_core_depends_on_four_packages():
    assert {name_of(line) for line in project(CORE)["dependencies"]} == {"pluggy", "click", "rich", "numpy"}
    assert "pluggy>=1.7" in project(CORE)["dependencies"]  # earlier ones never fill a parameter with a default


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)
def test_no_distribution_depends_hard_on_torch(folder):
    converters = {"torch", "tensorflow", "transformers", "onnxscript", "coremltools", "executorch"}
    assert not converters & {name_of(line) for line in project(folder)["dependencies"]}


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_every_plugin_could_be_lifted_into_a_repository_of_its_own(folder):
    for name in ("pyproject.toml", "README.md", "src", "tests"):
        assert (folder / name).exists(), f"{folder.name} has no {name}"
    wanted = next(line for line in project(folder)["dependencies"] if name_of(line) == "modelexport")
    match = re.fullmatch(r"modelexport>=(\d+)\.\d+,<(\d+)", wanted)
    assert match, wanted
    assert int(match[2]) == int(match[1]) + 1, wanted
    packages = [path.name for path in (folder / "src").iterdir() if (path / "__init__.py").is_file()]
    assert packages == [f"modelexport_{folder.name}"]
    assert project(folder)["name"] == f"modelexport-{folder.name.replace('_', '-')}"
    assert (folder / "src" / packages[0] / "py.typed").is_file()


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)
def test_linters_and_tests_are_configured_at_the_root_only(folder):
    text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    assert not re.search(r"^\[tool\.(ruff|mypy|pytest)", text, re.MULTILINE)


# --------------------------------------------------------------------------------------- imports


def loaded_after(code):
    """Top-level modules in sys.modules after running `code` in a fresh process."""
    code += "\nimport json, sys\nprint('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def running(*arguments):
    return f"from modelexport import cli\nassert cli._run({list(arguments)!r}) == 0"


@pytest.mark.parametrize(
    "code",
    [
        running("--help"),
        running("--version"),
        running("export", "--help"),
        running("run", "--help"),
        running("benchmark", "--help"),
        running("targets"),
        "import modelexport",
        "from modelexport import Artifact, Build, Dim, MxError, Session, Source, Target, TensorSpec, hookimpl",
    ],
    ids=["help", "version", "export-help", "run-help", "benchmark-help", "targets", "import", "types"],
)
def test_startup_imports_nothing_heavy(code):
    assert not loaded_after(code) & {*HEAVY, "numpy", "rich"}


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_importing_a_plugin_imports_nothing_heavy(folder):
    assert not loaded_after(f"import modelexport_{folder.name}") & {*HEAVY, "numpy", "rich"}


def test_help_imports_no_plugin():
    loaded = loaded_after(running("--help"))
    assert not {name for name in loaded if name.startswith("modelexport_")}


def test_asking_every_plugin_what_it_is_imports_no_backend():
    code = "from modelexport.plugins import doctor\nassert doctor.targets()\ndoctor.examine(())"
    assert not loaded_after(code) & set(HEAVY)


def test_pluggy_is_touched_in_two_modules_only():
    users = {path.name for path, tree in sources(CORE) if "pluggy" in set(imports(tree))}
    assert users <= {"hooks.py", "manager.py"}


def test_nothing_reaches_for_the_network():
    found = {str(path): set(imports(tree)) & NETWORK for path, tree in sources(*DISTRIBUTIONS)}
    assert not {path: names for path, names in found.items() if names}


def test_nothing_installs_packages():
    for path, tree in sources(*DISTRIBUTIONS):
        assert not {"pip", "ensurepip"} & set(imports(tree)), path
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            function = ast.unparse(call.func)
            assert function not in ("os.system", "os.popen"), f"{path}:{call.lineno}"
            if function.startswith("subprocess."):
                words = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
                assert not {"pip", "uv", "conda"} & {word for word in words if isinstance(word, str)}, path


# --------------------------------------------------------------------------------------- rooms

#: the rooms of core, from the ground up: one imports only what is on a line before its own
ROOMS = [
    ["errors", "lazy", "parent"],
    ["regular", "typed"],
    ["contract", "usercode", "quiet", "jsontext"],
    ["plugins", "store"],
    ["gate"],
    ["model", "data", "accuracy"],
    ["toolkit", "work", "bench"],
    ["api", "child"],
    ["testing"],
    ["scaffold"],
    ["cli"],
]
LINE = {room: number for number, line in enumerate(ROOMS) for room in line}

#: what a plugin may import of core; what it needs of other rooms, the toolkit hands on
PUBLIC = {"contract", "errors", "toolkit"}


def modules(package):
    """The modules below a package's folder by dotted name, each with its tree; the package itself is ""."""
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        yield (
            ".".join(parts[:-1] if parts[-1] == "__init__" else parts),
            ast.parse(path.read_text(encoding="utf-8")),
        )


def imported(package):
    """(importing module, imported module) below `package`: lazy imports and those for type checkers as well."""
    trees = dict(modules(package))
    packages = {
        path.parent.relative_to(package).as_posix().replace("/", ".") for path in package.rglob("__init__.py")
    }
    for name, tree in trees.items():
        inside = name.split(".") if name in packages else name.split(".")[:-1]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = inside[: len(inside) - node.level + 1] if name else []
                base += node.module.split(".") if node.module else []
                for alias in node.names:
                    full = ".".join([*base, alias.name])
                    yield name, full if full in trees else ".".join(base)
            elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == package.name:
                yield name, node.module.partition(".")[2]
            elif isinstance(node, ast.Import):
                own = [alias.name for alias in node.names if alias.name.split(".")[0] == package.name]
                yield from ((name, full.partition(".")[2]) for full in own)


def upward(package):
    """The imports of core that a room makes of one on its own line or above."""
    found = []
    for name, other in imported(package):
        room, its = name.partition(".")[0], other.partition(".")[0]
        if room and room != its and not (its in LINE and LINE[its] < LINE[room]):
            found.append(f"{name} -> {other}")
    return found


def circles(edges):
    """The modules that import each other, directly or by way of others."""
    after = {}
    for name, other in edges:
        after.setdefault(name, set()).add(other)

    def reachable(start):
        seen, waiting = set(), [start]
        while waiting:
            new = after.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        return seen

    return sorted(name for name in after if name in reachable(name))


CORE_PACKAGE = CORE / "src" / "modelexport"


def test_every_room_imports_only_rooms_below_it():
    assert {name.partition(".")[0] for name, _ in modules(CORE_PACKAGE)} - {""} == set(LINE)
    assert upward(CORE_PACKAGE) == []


def test_an_import_that_is_turned_round_is_found(tmp_path):
    """Lazy, for type checkers or plain; between rooms of one line, too."""
    copy = shutil.copytree(CORE_PACKAGE, tmp_path / "modelexport")
    assert upward(copy) == []
    turned = {
        "gate/cases.py": "def f():\n    from ..work import plan\n",
        "contract/goal.py": "if TYPE_CHECKING:\n    from ..gate.golden import Golden\n",
        "errors.py": "from .contract.tensors import Dim\n",
        "store/digests.py": "from ..plugins import known\n",
    }
    for file, lines in turned.items():
        with (copy / file).open("a", encoding="utf-8") as stream:
            stream.write(lines)
    found = upward(copy)
    assert found == [
        "contract.goal -> gate.golden",
        "errors -> contract.tensors",
        "gate.cases -> work.plan",
        "store.digests -> plugins.known",
    ]


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)
def test_no_modules_import_each_other(folder):
    (package,) = (path for path in (folder / "src").iterdir() if (path / "__init__.py").is_file())
    # A package's own __init__ names its modules, which name what it declares: options, hooks.
    edges = [(name, other) for name, other in imported(package) if name and other]
    assert circles(edges) == []


def test_plugins_import_what_is_public_of_core_and_the_toolkit_of_others():
    found = []
    for path, tree in sources(*PLUGINS):
        own = path.parts[1]
        for node in ast.walk(tree):
            names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for package, _, rest in (name.partition(".") for name in names if name.startswith("modelexport")):
                allowed = PUBLIC if package == "modelexport" else {"toolkit"}
                if package != f"modelexport_{own}" and rest not in allowed:
                    found.append(f"{path}:{node.lineno}: {package}.{rest}")
    assert not found, "\n".join(found)


def test_the_public_paths_are_these():
    """What users and plugins may import; nothing else is promised."""
    import modelexport
    from modelexport import contract, testing, toolkit

    for package in (modelexport, contract, testing, toolkit):
        assert sorted(package.__all__) == sorted(set(package.__all__)), package.__name__
        assert [name for name in package.__all__ if not hasattr(package, name)] == []
    assert set(modelexport.__all__) == {
        "Artifact", "Build", "Dim", "MxError", "Session", "Source", "Target", "TensorSpec", "Verb", "__version__",
        "benchmark", "export", "hookimpl", "load", "optimize", "quantize", "run", "verify",
    }  # fmt: skip
    assert set(testing.__all__) == {"SPECIMENS", "Quirks", "Specimen", "TargetContract", "beside"}
    pages = {
        name: (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
        for name in ("hooks.md", "toolkit.md")
    }
    assert [name for name in contract.__all__ if name not in pages["hooks.md"]] == []
    assert [name for name in toolkit.__all__ if name not in pages["toolkit.md"]] == []


def test_no_name_of_a_package_is_that_of_a_module_in_it():
    """Whoever imports the module first would get the module in place of what it is named after."""
    import modelexport
    from modelexport import contract, testing, toolkit

    for package in (modelexport, contract, testing, toolkit):
        inside = {path.stem for path in Path(package.__file__).parent.iterdir()}
        assert not inside & set(package.__all__), package.__name__


#: files that every target's folder has; a checkpoint has no operators that could be missing
SKELETON = {"__init__", "export", "session", "files", "operators", "backend"}
WITHOUT = {"tensorrt_llm": {"operators"}}

#: other names for the same purposes
OTHERWISE = {"quantization", "optimization", "snippet", "load", "loading", "package", "modelfile", "terminal"}


@pytest.mark.parametrize("name", sorted(known.TARGETS))
def test_every_target_has_the_same_files_for_the_same_purposes(name):
    folder = ROOT / "plugins" / name.replace("-", "_")
    (package,) = (path for path in (folder / "src").iterdir() if (path / "__init__.py").is_file())
    files = {path.stem for path in package.iterdir()}
    assert SKELETON - files <= WITHOUT.get(folder.name, set())
    assert not OTHERWISE & files


# --------------------------------------------------------------------------------------- core knows no target


def strings_and_names(tree):
    """String constants (docstrings left out), names, attributes and arguments, each with its line."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value, line
        elif isinstance(node, ast.Name):
            yield node.id, line
        elif isinstance(node, ast.Attribute):
            yield node.attr, line
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, line
        elif isinstance(node, ast.arg):
            yield node.arg, line
        elif isinstance(node, ast.alias):
            yield node.name, line


def test_no_target_is_named_in_core_but_in_known():
    names = re.compile(rf"(?<![a-z])({'|'.join(map(re.escape, known.TARGETS))})(?![a-z])", re.IGNORECASE)
    found = [
        f"{path}:{line}: {text!r}"
        for path, tree in sources(CORE)
        if path.name != "known.py"
        for text, line in strings_and_names(tree)
        if names.search(text)
    ]
    assert not found, "\n".join(found)


def test_nothing_branches_on_the_name_of_a_target():
    """No comparison of something called target or format with a text: that is what hooks are for."""
    found = []
    for path, tree in sources(CORE):
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.Compare)):
            sides = [node.left, *node.comparators]
            subject = any(re.search(r"(^|\.)(target|format)(\.name)?$", ast.unparse(side)) for side in sides)
            texts = any(isinstance(part, ast.Constant) and isinstance(part.value, str)
                        for side in sides for part in ast.walk(side))  # fmt: skip
            if subject and texts:
                found.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    assert not found, "\n".join(found)


# --------------------------------------------------------------------------------------- code


def test_no_module_has_a_name_that_says_nothing():
    vague = {"utils", "util", "common", "helpers", "helper", "base", "misc", "tools"}
    assert not [
        path
        for path, _ in sources(*DISTRIBUTIONS)
        if {part.lower() for part in path.with_suffix("").parts} & vague
    ]


def test_no_module_is_called_mx():
    assert not [path for path, _ in sources(*DISTRIBUTIONS) if any(part.startswith("mx") for part in path.parts)]


def test_no_exception_is_swallowed():
    """No bare except, and no handler of everything that does nothing."""
    found = []
    for path, tree in sources(*DISTRIBUTIONS):
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)):
            caught = "" if node.type is None else ast.unparse(node.type)
            everything = re.search(r"\b(Exception|BaseException)\b", caught) is not None
            idle = all(
                isinstance(line, (ast.Pass, ast.Continue))
                or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
                for line in node.body
            )
            if not caught or (everything and idle):
                found.append(f"{path}:{node.lineno}")
    assert not found, found


def test_nothing_suppresses_everything():
    calls = [
        f"{path}:{node.lineno}"
        for path, tree in sources(*DISTRIBUTIONS)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and re.fullmatch(r"(contextlib\.)?suppress\((Base)?Exception\)", ast.unparse(node))
    ]
    assert not calls, calls


def test_nothing_unpickles_unasked():
    for path, tree in sources(*DISTRIBUTIONS):
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            function = ast.unparse(call.func)
            assert function not in ("pickle.load", "pickle.loads", "pickle.Unpickler"), f"{path}:{call.lineno}"
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            if function in ("np.load", "numpy.load"):
                assert keywords.get("allow_pickle") == "False", f"{path}:{call.lineno}"
            if function == "torch.load":
                assert keywords.get("weights_only") in ("True", "not allow_pickle"), f"{path}:{call.lineno}"


# --------------------------------------------------------------------------------------- tests

TESTS = [
    path
    for folder in (CORE, ROOT, *PLUGINS)
    for path in sorted((folder / "tests").rglob("*.py"))
    if path.name.startswith("test_") or path.name == "conftest.py"
]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_import_no_backend_at_the_top_and_say_which_error_they_expect(path):
    """A test that is only collected must not cost seconds; and any error at all would pass a bare `raises`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {name for node in tree.body for name in imports(ast.Module([node], []))
           if isinstance(node, (ast.Import, ast.ImportFrom))}  # fmt: skip
    assert not top & {*HEAVY, "coremltools", "executorch", "litert_torch", "ai_edge_litert", "keras", "modelopt"}
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.withitem)):
        if isinstance(node.context_expr, ast.Call) and ast.unparse(node.context_expr.func) == "pytest.raises":
            matched = any(keyword.arg == "match" for keyword in node.context_expr.keywords)
            assert matched or node.optional_vars is not None, ast.unparse(node.context_expr)


# --------------------------------------------------------------------------------------- plugin API

HOOKS = {name: hook for name, hook in vars(hooks).items() if name.startswith("mx_")}


def test_the_hooks_are_those_that_are_documented():
    verbs = {"export", "optimize", "quantize", "run", "benchmark"}
    assert set(HOOKS) == {
        "mx_target",
        "mx_machine",
        "mx_check",
        "mx_load",
        "mx_snippet",
        *(f"mx_{verb}" for verb in verbs),
    }
    assert set(manager.VERBS) == verbs


def test_everything_public_in_the_plugin_api_has_a_docstring():
    from modelexport import contract, toolkit

    public = [(hooks, name) for name in HOOKS]
    public += [(errors, name) for name in vars(errors) if not name.startswith("_")]
    public += [(package, name) for package in (contract, toolkit) for name in package.__all__]
    for package, name in public:
        value = getattr(package, name)
        if not (inspect.isclass(value) or inspect.isfunction(value)) or not value.__module__.startswith(
            "modelexport"
        ):
            continue
        assert inspect.getdoc(value), f"{package.__name__}.{name}"
        assert "\n" not in value.__doc__.strip().splitlines()[0], name
        assert not inspect.getdoc(value).startswith(f"{name}("), f"{name} has no docstring of its own"
    assert all(package.__doc__ for package in (hooks, errors, contract, toolkit))


def test_every_error_has_an_exit_code_of_its_own():
    def below(kind):
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    codes = {}
    for kind in [errors.MxError, *below(errors.MxError)]:
        if kind.__module__ == "modelexport.errors":
            codes.setdefault(kind.exit_code, []).append(kind.__name__)
    assert all(len(names) == 1 for names in codes.values()), codes
    assert not set(codes) & {0, 126, 127, 130}, "codes that shells use themselves"


def own_entries():
    return [
        entry
        for group in (entries.TARGETS, entries.SOURCES, entries.EXTENSIONS)
        for entry in entries.find(group).values()
        if entry.distribution.startswith("modelexport")
    ]


@pytest.mark.parametrize("entry", own_entries(), ids=lambda entry: f"{entry.point.group}-{entry.name}")
def test_hook_implementations_fit_their_specs(entry):
    """No default values, since pluggy would never fill such a parameter; and no parameter that a spec lacks."""
    module = entry.point.load()
    hooks = {name: value for name, value in vars(module).items() if hasattr(value, "mx_impl")}
    assert hooks
    for name, hook in hooks.items():
        parameters = inspect.signature(hook).parameters.values()
        assert all(parameter.default is parameter.empty for parameter in parameters), name
        assert {p.name for p in parameters} <= set(inspect.signature(HOOKS[name]).parameters), name


def test_every_installed_target_is_known_by_the_same_name():
    ours = {path.name.replace("_", "-") for path in PLUGINS}
    installed = {name: entry for name, entry in entries.find(entries.TARGETS).items() if name in ours}
    for name, entry in installed.items():
        assert entry.distribution in known.TARGETS[name][1], f"{name} is installed by {known.TARGETS[name][1]}"


def test_every_option_says_what_it_is_for():
    from modelexport.contract import describe_options

    for name in entries.find(entries.TARGETS):
        for verb in manager.target(name).target.verbs.values():
            assert all(row.help for row in describe_options(verb.options)), verb.options


# --------------------------------------------------------------------------------------- text


def committed():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_committed_file_names_a_place_on_somebodys_machine():
    places = re.compile(rb"(?<![\w.$}])/(work|root|home/[a-z]+)/[\w.]")
    found = [
        f"{path.relative_to(ROOT)}: {match[0].decode()}"
        for path in committed()
        if (match := places.search(path.read_bytes()))
    ]
    assert not found, "\n".join(found)


def test_the_documentation_names_every_hook_and_exit_code():
    page = ROOT / "docs" / "reference" / "hooks.md"
    if page.is_file():
        text = page.read_text(encoding="utf-8")
        assert not [name for name in HOOKS if name not in text]


def test_relative_links_in_the_documentation_lead_somewhere():
    broken = []
    for page in (path for path in committed() if path.suffix == ".md"):
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in link and not link.startswith("mailto:") and not (page.parent / link).exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken, "\n".join(broken)
