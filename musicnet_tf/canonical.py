"""SavedModels made equal byte for byte where they are equal in meaning.

TensorFlow takes names from a counter of the process, for functions and for what loops capture, keeps functions and
other maps in the order of salted hashes, and adds `fingerprint.pb`, a checksum of those bytes, which newer releases
mark with a random number besides. Here functions are numbered from 0 in the order in which they were traced, which is
that of the numbers they had; arguments of loops and branches are named by their place; maps are written in the order
of their keys; and the fingerprint is left out, as every loader allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

FINGERPRINT = "fingerprint.pb"
_NAMED_BY_US = "__inference_"
"""Functions that were written as such; TensorFlow makes the others of loops and branches."""
_ARGUMENT = "_user_specified_name"
_COUNTED = re.compile(r"(.*)_(\d+)")


def rewrite(folder: Path) -> None:
    """Writes the graph of a SavedModel anew in its one canonical form, in place. Its variables stay as they are.

    Raises:
        OSError: where the files cannot be read or written.
    """
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    rename(saved)
    path.write_bytes(saved.SerializeToString(deterministic=True))
    (folder / FINGERPRINT).unlink(missing_ok=True)


def rename(saved: saved_model_pb2.SavedModel) -> None:
    """Gives functions, and the arguments of loops and branches, their canonical names and order."""
    for meta_graph in saved.meta_graphs:
        library = meta_graph.graph_def.library
        for function in library.function:
            _forget_counter(function)
        _replace(meta_graph, _numbered_from_zero(function.signature.name for function in library.function))
        functions = sorted(library.function, key=lambda function: function.signature.name)
        gradients = sorted(library.gradient, key=lambda gradient: gradient.function_name)
        del library.function[:], library.gradient[:]
        library.function.extend(functions)
        library.gradient.extend(gradients)


def _numbered_from_zero(names: Iterable[str]) -> dict[str, str]:
    """`base_<count of the process>` → `base_<rank>`, for each name that ends in a number."""
    counted = [match for match in map(_COUNTED.fullmatch, names) if match]
    counted.sort(key=lambda match: (int(match[2]), match[1]))
    return {match[0]: f"{match[1]}_{rank}" for rank, match in enumerate(counted)}


def _forget_counter(function: Any) -> None:
    """Takes what the counter gave out of a FunctionDef's arguments: they are passed by place, and named only within."""
    for argument in function.arg_attr.values():
        if _ARGUMENT in argument.attr and argument.attr[_ARGUMENT].s.isdigit():  # of a tensor that no one named
            del argument.attr[_ARGUMENT]
    signature = function.signature
    if signature.name.startswith(_NAMED_BY_US):
        return
    inputs = {argument.name: f"input_{place}" for place, argument in enumerate(signature.input_arg)}
    outputs = {argument.name: f"output_{place}" for place, argument in enumerate(signature.output_arg)}
    for argument in signature.input_arg:
        argument.name = inputs[argument.name]
    for argument in signature.output_arg:
        argument.name = outputs[argument.name]
    for node in function.node_def:
        node.input[:] = [inputs.get(name, name) for name in node.input]
    returned = {outputs[name]: inputs.get(source, source) for name, source in function.ret.items()}
    function.ret.clear()
    function.ret.update(returned)


def _replace(message: Any, renamed: dict[str, str]) -> None:
    """Puts other names wherever a string anywhere in a message is one of those, be it a value or a key."""
    for field, value in message.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            _replace_in_map(value, renamed, field.message_type.fields_by_name["value"])
        elif field.label == field.LABEL_REPEATED:
            if field.type == field.TYPE_MESSAGE:
                for item in value:
                    _replace(item, renamed)
            elif field.type == field.TYPE_STRING:
                value[:] = [renamed.get(text, text) for text in value]
        elif field.type == field.TYPE_MESSAGE:
            _replace(value, renamed)
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, renamed.get(value, value))


def _replace_in_map(entries: Any, renamed: dict[str, str], kind: Any) -> None:
    """As `_replace`, in a map; all old keys go before any new one comes, as one may be both."""
    if kind.type == kind.TYPE_MESSAGE:
        for value in entries.values():
            _replace(value, renamed)
        for new, value in [(renamed[key], _taken(entries, key)) for key in list(entries) if key in renamed]:
            entries[new].CopyFrom(value)
    elif kind.type == kind.TYPE_STRING:
        replaced = {renamed.get(key, key): renamed.get(value, value) for key, value in entries.items()}
        entries.clear()
        entries.update(replaced)


def _taken(entries: Any, key: str) -> Any:
    value = type(entries[key])()
    value.CopyFrom(entries[key])
    del entries[key]
    return value
