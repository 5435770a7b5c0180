"""Reading YAML written by people: the line of a syntax error, no doubled keys, all mistakes of a file at once."""

from __future__ import annotations

import io
import reprlib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from .errors import InputError, Problem, did_you_mean

MAX_FILE_BYTES = 2**18
"""No composition or scene comes near this; a larger file is a mistake (a checkpoint, a picture)."""

MAX_VALUES = 2**16
"""Likewise, with everything counted as often as aliases repeat it: a few nested ones can stand for billions."""

_LINE, _WIDTH = 100, 1000

_PNG, _JPEG = b"\x89PNG\r\n", b"\xff\xd8\xff"

# pydantic's kinds of errors, in the words of people who write YAML.
_EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "tuple_type": "a list, such as [1, 2]",
    "list_type": "a list, such as [1, 2]",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
}

# What people are shown of a value that they wrote.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses doubled keys, which YAML would silently resolve to the last one, and what is endless."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _count_values(node, {}) > MAX_VALUES:
            raise yaml.constructor.ConstructorError(
                None, None, f"more than {MAX_VALUES} values, aliases counted every time", node.start_mark
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands here twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    number = int(loader.construct_yaml_int(node))
    if number.bit_length() > 64:
        # Python takes numbers of any length, but neither prints nor converts all of them.
        raise yaml.constructor.ConstructorError(None, None, "a whole number of more than 64 bits", node.start_mark)
    return number


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        InputError: no such file, not text, empty, a syntax error (with its line), or not a mapping.
    """
    try:
        with path.open("rb") as file:
            # Not by its size: a pipe or a device has none.
            content = file.read(MAX_FILE_BYTES + 1)
        if content.startswith((_PNG, _JPEG)):
            hint = "; `amdm rerun` draws a picture again" if content.startswith(_PNG) else ""
            raise InputError([Problem(f"this is a picture, expected a YAML file{hint}", file=str(path))])
        if len(content) > MAX_FILE_BYTES:
            raise InputError([Problem("this file is far too large for YAML written by a person", file=str(path))])
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise InputError([Problem(f"no such file{_neighbour(path)}", file=str(path))]) from None
    except IsADirectoryError:
        raise InputError([Problem("this is a folder, expected a YAML file", file=str(path))]) from None
    except (OSError, ValueError) as error:
        raise InputError([Problem(f"cannot be read as text: {error}", file=str(path))]) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, file: str) -> dict[str, Any]:
    """Parse YAML text that holds a mapping; `file` names its origin in messages.

    Raises:
        InputError: a syntax error (with its line), nothing at all, or not a mapping.
    """
    try:
        content = _load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise InputError([Problem(f"line {line}: not valid YAML: {_reason(error)}", file=file)]) from error
    except yaml.YAMLError as error:
        raise InputError([Problem(f"not valid YAML: {error}", file=file)]) from error
    if content is None:
        raise InputError([Problem("the file is empty, expected keys and values", file=file)])
    if not isinstance(content, dict):
        raise InputError([Problem(f"expected keys and values, found {type(content).__name__}", file=file)])
    return content


def problems_of(
    error: ValidationError,
    model: type[BaseModel],
    file: str = "",
    prefix: Sequence[str | int] = (),
    other_keys: Sequence[str] = (),
) -> list[Problem]:
    """Turn pydantic's errors into problems with dotted keys, and unknown keys into `did you mean`.

    Args:
        error: what pydantic raised.
        model: the model that was validated.
        file: the file the data came from.
        prefix: keys that lead to the validated part.
        other_keys: keys that may stand beside the model's own at its top level.
    """
    problems = []
    for item in error.errors():
        location = item["loc"]
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            known = [*(other_keys if len(location) == 1 else ()), *_fields_at(model, location[:-1])]
            message = f"unknown key.{did_you_mean(str(location[-1]), known)} Known keys: {', '.join(known)}"
        elif item["type"] == "missing":
            message = "is missing"
        elif item["type"] == "string_type" and isinstance(item["input"], bool):
            message = f"expected text, found {item['input']}: YAML reads no, off, yes and on so; put the word in quotes"
        elif item["type"] in _EXPECTED:
            message = f"expected {_EXPECTED[item['type']]}, found {_SHORT.repr(item['input'])}"
        elif item["type"] == "too_short" and item["ctx"]["min_length"] == 1:
            message = "expected at least one, found none"
        elif item["type"] == "string_too_short" and item["input"] == "":
            message = "is empty, expected text"
        elif item["type"] != "value_error":
            message = f"{message[0].lower()}{message[1:]}, found {_SHORT.repr(item['input'])}"
        problems.append(Problem(message, ".".join(str(part) for part in (*prefix, *location)), file))
    return problems


def apply_overrides(content: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set values in parsed YAML from `dotted.key=value` texts, in place; values are YAML.

    In the list of a composition's providers, a member's name stands for its position.

    Raises:
        InputError: an override is not of that form, or its key leads nowhere.
    """
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise InputError([Problem(f"expected KEY=VALUE, found {override!r}", "--set")])
        try:
            value = _load(text)
        except yaml.YAMLError as error:
            raise InputError([Problem(f"{key}: not valid YAML: {_reason(error)}", "--set")]) from error
        *parents, last = key.split(".")
        place: Any = content
        for part in parents:
            place = _descend(place, part, key)
        if isinstance(place, list):
            place[_index(place, last, key)] = value
        elif isinstance(place, dict):
            place[last] = value
        else:
            raise InputError([Problem(f"{key}: there is nothing below {'.'.join(parents)}", "--set")])


def _descend(place: Any, part: str, key: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, key)]
    if isinstance(place, dict):
        return place.setdefault(part, {})
    raise InputError([Problem(f"{key}: {part} is not a key of a mapping or list", "--set")])


def _index(place: Sequence[Any], part: str, key: str) -> int:
    if part.isdigit() and int(part) < len(place):
        return int(part)
    positions = positions_of(place, part)
    if len(positions) == 1:
        return positions[0]
    message = f"{key}: {part!r} is no position in a list of {len(place)}"
    if members := _member_names(place):
        if positions:
            message = f"{key}: several members are called {part!r}, give a position"
        elif not part.isdigit():
            message += ", nor a member's name"
        message += f": {', '.join(f'providers.{position} ({name})' for position, name in members.items())}"
    raise InputError([Problem(message, "--set")])


def positions_of(place: Sequence[Any], name: str) -> list[int]:
    """Return where members of this name stand in the list of a composition's providers; in other lists, nowhere."""
    return [position for position, known in _member_names(place).items() if known == name]


def _member_names(place: Sequence[Any]) -> dict[int, str]:
    blocks = {position: block for position, block in enumerate(place) if isinstance(block, dict) and "use" in block}
    return {position: str(block.get("name") or block["use"]) for position, block in blocks.items()}


def _reason(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return str(error)
    problem = error.problem or "not readable"
    if "<stream end>" in problem:
        return "a bracket is not closed"
    if "end of stream" in problem and "quoted" in (error.context or ""):
        return "a quotation mark is not closed"
    return problem


def _load(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except (RecursionError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        # The library converts values that carry a tag (`!!bool x`) without looking at them.
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error


def _count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in counts:
        # Infinite while it is being counted, which is where something that contains itself comes by again.
        counts[id(node)] = MAX_VALUES + 1
        inner = [child for pair in node.value for child in (pair if isinstance(pair, tuple) else (pair,))]
        counts[id(node)] = 1 + sum(_count_values(child, counts) for child in inner)
    return counts[id(node)]


def _neighbour(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    return "." + hint if (hint := did_you_mean(path.name, names)) else ""


def _fields_at(model: Any, location: Sequence[str | int]) -> list[str]:
    for part in location:
        model = _model_in(model)
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[str(part)].annotation
    model = _model_in(model)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _model_in(annotation: Any) -> Any:
    # Optional[X], tuple[X, ...], dict[str, X] -> X: the first model among the arguments.
    while not isinstance(annotation, type) or typing.get_origin(annotation) is not None:
        models = [argument for argument in typing.get_args(annotation) if argument not in (type(None), Ellipsis, str)]
        if not models:
            break
        annotation = models[0]
    return annotation


class _Dumper(yaml.SafeDumper):
    """Writes what stands in two places twice: nobody would write anchors by hand."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # The library's other styles do not read back equal with these breaks in them.
        style = '"' if any(mark in text for mark in "\n\r\x85\u2028\u2029\ufeff") else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _Dumper.represent_text)


def to_yaml(content: Mapping[str, Any]) -> str:
    """Write plain data as YAML in the order given; what is short takes one line, every mapping of a list its own."""
    node = _Dumper(io.StringIO(), sort_keys=False).represent_data(dict(content))
    _set_flow_styles(node)
    assert isinstance(node, yaml.CollectionNode)
    node.flow_style = False
    return _serialized(node)


def _set_flow_styles(node: yaml.Node) -> None:
    if not isinstance(node, yaml.CollectionNode):
        return
    inner = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
    for part in inner:
        _set_flow_styles(part)
    listed = isinstance(node, yaml.SequenceNode) and any(isinstance(part, yaml.MappingNode) for part in inner)
    node.flow_style = not listed and all(getattr(part, "flow_style", True) for part in inner)
    node.flow_style = node.flow_style and len(_serialized(node)) <= _LINE


def _serialized(node: yaml.Node) -> str:
    return str(yaml.serialize(node, Dumper=_Dumper, allow_unicode=True, width=_WIDTH))
