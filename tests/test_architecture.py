"""What a reviewer would otherwise have to remember.

The layers themselves are import-linter's, in `make check`.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sysconfig
import tokenize
from collections import Counter
from pathlib import Path

import pytest

import ota_agent

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ota_agent"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAX_LINES = 300
LIBRARY_NAMES = {"gitlab", "supabase", "systemd", "watchdog", "logging", "types"}
SHAPELESS_NAMES = {"utils", "helpers", "common"}

# The one door to the disk, and the one place where anything may go wrong.
DISK_DOOR = "ota_agent/store/atomic.py"
LOOP = "ota_agent/agent.py"

MOVES = {
    "os": {"rename", "renames", "replace", "symlink"},
    "shutil": {"move"},
}
PATH_MOVES = {"rename", "symlink_to"}
# Called so, and no methods of a path: the copies of a value, and the door itself.
NO_PATH_MOVES = {"dataclasses.replace", "copy.replace", "ota_agent.store.atomic.rename"}

DIRECTIVE = re.compile(
    r"#\s*(?:noqa\b(?::[\s\w,]*\b[A-Z]+\d+)?|type:\s*ignore(?:\[[^]]*\])?|pragma:\s*no cover)"
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), name_of(path))


def dotted(node: ast.expr) -> str:
    """Give `os.path.join` for the expression that reads so, "" for anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr) if base := dotted(value):
            return f"{base}.{attr}"
        case _:
            return ""


def imported_names(tree: ast.Module) -> dict[str, str]:
    """Map what a name means in the module to what it is called where it comes from."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.asname: alias.name for alias in aliases if alias.asname}
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                names |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in aliases}
            case _:
                pass
    return names


def resolved(node: ast.expr, names: dict[str, str]) -> str:
    head, dot, rest = dotted(node).partition(".")
    return names.get(head, head) + dot + rest


def moves(tree: ast.Module) -> list[int]:
    """Tell the lines that rename, replace or link something on the disk."""
    names = imported_names(tree)
    foreign = {f"{module}.{name}" for module, found in MOVES.items() for name in found}
    lines = []
    for node in ast.walk(tree):
        match node:
            case ast.Name() | ast.Attribute() if resolved(node, names) in foreign:
                lines.append(node.lineno)
            case ast.Call(func=ast.Attribute() as func) if resolved(func, names) in NO_PATH_MOVES:
                pass
            case ast.Call(func=ast.Attribute(attr=attr)) if attr in PATH_MOVES:
                lines.append(node.lineno)
            # Path.replace takes one argument, str.replace two, datetime.replace only named ones.
            case ast.Call(func=ast.Attribute(attr="replace"), args=[_], keywords=[]):
                lines.append(node.lineno)
            case _:
                pass
    return lines


def caught(handler: ast.ExceptHandler) -> set[str]:
    match handler.type:
        case None:
            return {"everything"}
        case ast.Tuple(elts=types):
            return {dotted(type_) for type_ in types}
        case type_:
            return {dotted(type_)}


def reraises(handler: ast.ExceptHandler) -> bool:
    match handler.body[-1]:
        case ast.Raise(exc=None):
            return True
        case _:
            return False


def broad_handlers(tree: ast.Module) -> list[int]:
    """Tell the lines that catch everything; to clean up and raise again is no catching."""
    lines = []
    for node in ast.walk(tree):
        match node:
            case ast.ExceptHandler() if caught(node) & {"everything", "Exception"}:
                lines.append(node.lineno)
            case ast.ExceptHandler() if "BaseException" in caught(node) and not reraises(node):
                lines.append(node.lineno)
            case ast.Call(func=func, args=args) if dotted(func).endswith("suppress"):
                if {dotted(argument) for argument in args} & {"Exception", "BaseException"}:
                    lines.append(node.lineno)
    return lines


def error_codes() -> list[str]:
    codes = []
    nodes = [node for file in (PACKAGE / "errors").glob("*.py") for node in ast.walk(parse(file))]
    for node in nodes:
        if not isinstance(node, ast.ClassDef):
            continue
        for statement in node.body:
            match statement:
                case (
                    ast.Assign(targets=[ast.Name("code")], value=ast.Constant(str(code)))
                    | ast.AnnAssign(target=ast.Name("code"), value=ast.Constant(str(code)))
                ):
                    codes.append(code)
                case _:
                    pass
    return codes


def classes(path: Path) -> list[ast.ClassDef]:
    return [node for node in parse(path).body if isinstance(node, ast.ClassDef)]


def bases(class_: ast.ClassDef) -> set[str]:
    # `Port` and `Port[T]` alike.
    plain = [base.value if isinstance(base, ast.Subscript) else base for base in class_.bases]
    return {dotted(base).rpartition(".")[2] for base in plain}


def names_port(class_: ast.ClassDef, port: str) -> bool:
    told = re.findall(r"\w+", ast.get_docstring(class_) or "")
    return port in bases(class_) or port in told or class_.name.endswith(port)


def unexplained_directives(path: Path) -> list[int]:
    lines = []
    source = io.StringIO(path.read_text(encoding="utf-8"))
    for token in tokenize.generate_tokens(source.readline):
        if token.type == tokenize.COMMENT and DIRECTIVE.search(token.string):
            reason = re.findall(r"[A-Za-z]{2,}", DIRECTIVE.sub("", token.string))
            if len(reason) < 2:
                lines.append(token.start[0])
    return lines


def tracked_files() -> list[Path]:
    # The checkout may belong to somebody else than the one who runs the tests.
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", ROOT, "ls-files", "-z"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = [ROOT / name for name in listing.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def test_tests_run_against_the_installed_wheel() -> None:
    installed = Path(sysconfig.get_path("purelib")) / "ota_agent"
    assert Path(ota_agent.__file__).parent == installed


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_module_is_short_enough_to_be_read_at_once(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_module_is_named_for_what_it_holds(module: Path) -> None:
    parts = {part.removesuffix(".py") for part in module.relative_to(PACKAGE).parts}
    assert not parts & (LIBRARY_NAMES | SHAPELESS_NAMES)


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_only_the_door_to_the_disk_moves_and_links(module: Path) -> None:
    assert name_of(module) == DISK_DOOR or moves(parse(module)) == []


def test_door_to_the_disk_is_where_it_is_said_to_be() -> None:
    assert moves(parse(ROOT / DISK_DOOR))


@pytest.mark.parametrize(
    ("code", "is_move"),
    [
        ("import os\nos.rename(a, b)", True),
        ("import os as system\nsystem.replace(a, b)", True),
        ("from os import symlink as link\nlink(a, b)", True),
        ("import os\nretry(os.replace, a, b)", True),
        ("import shutil\nshutil.move(a, b)", True),
        ("path.rename(b)", True),
        ("(base / name).symlink_to(b)", True),
        ("path.replace(b)", True),
        ("text.replace('/', '-')", False),
        ("moment.replace(tzinfo=UTC)", False),
        ("import dataclasses\ndataclasses.replace(value, key=1)", False),
        ("from dataclasses import replace\nreplace(value)", False),
        ("from ota_agent.store import atomic\natomic.rename(a, b)", False),
    ],
)
def test_move_is_told_from_what_is_merely_called_so(code: str, *, is_move: bool) -> None:
    assert bool(moves(ast.parse(code))) == is_move


def test_only_the_loop_catches_every_exception() -> None:
    found = {name_of(module): len(broad_handlers(parse(module))) for module in MODULES}
    assert {module: count for module, count in found.items() if count} == {LOOP: 1}


@pytest.mark.parametrize(
    ("clause", "is_broad"),
    [
        ("except: pass", True),
        ("except Exception: pass", True),
        ("except (OSError, Exception): raise", True),
        ("except BaseException: pass", True),
        ("except BaseException:\n  undo()\n  raise", False),
        ("except OSError: pass", False),
    ],
)
def test_broad_handler_is_told_from_a_narrow_one(clause: str, *, is_broad: bool) -> None:
    assert bool(broad_handlers(ast.parse(f"try: work()\n{clause}"))) == is_broad


def test_suppressing_every_exception_counts_as_catching() -> None:
    assert broad_handlers(ast.parse("with contextlib.suppress(Exception): work()"))


def test_error_codes_are_unique() -> None:
    counted = Counter(error_codes())
    assert counted
    assert [code for code, count in counted.items() if count > 1] == []


def test_every_error_code_is_documented() -> None:
    documented = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    assert [code for code in error_codes() if f"`{code}`" not in documented] == []


def test_every_port_has_a_fake() -> None:
    ports = [class_.name for class_ in classes(PACKAGE / "ports.py") if "Protocol" in bases(class_)]
    fakes = [class_ for path in (ROOT / "tests/fakes").glob("*.py") for class_ in classes(path)]
    assert ports
    assert [port for port in ports if not any(names_port(fake, port) for fake in fakes)] == []


def test_example_configuration_loads() -> None:
    from ota_agent import config

    config.load(str(ROOT / "examples/config.json"), environ={})


@pytest.mark.process
def test_repository_names_no_package_registry_and_no_home() -> None:
    # Put together here, so that this file does not find itself.
    registries = ["pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "deb." + "debian"]
    homes = [
        rf"(?<![\w.<>$}}/-])/{directory}/\w" for directory in ("home", "root", "work", "Users")
    ]
    forbidden = re.compile("|".join([*map(re.escape, registries), *homes]))
    found = {
        name_of(path): match.group()
        for path in tracked_files()
        if (match := forbidden.search(path.read_bytes().decode(errors="replace")))
    }
    assert found == {}


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_every_exemption_carries_its_reason(module: Path) -> None:
    assert unexplained_directives(module) == []


@pytest.mark.parametrize(
    ("comment", "is_explained"),
    [
        ("# noqa: BLE001", False),
        ("# noqa: BLE001, S101", False),
        ("# noqa: BLE001 - the loop goes on whatever happens", True),
        ("# type: ignore[attr-defined]", False),
        ("# type: ignore[attr-defined]  # the stubs lack it", True),
        ("# pragma: no cover", False),
        ("# pragma: no cover - only without libsystemd", True),
    ],
)
def test_reason_is_told_from_its_absence(
    comment: str, tmp_path: Path, *, is_explained: bool
) -> None:
    module = tmp_path / "module.py"
    module.write_text(f"value = 1  {comment}\n", encoding="utf-8")
    assert (unexplained_directives(module) == []) == is_explained
