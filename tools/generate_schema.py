"""Print the table of messages that the kernel's strict codec encodes and decodes.

Read from a descriptor set of the protos that are signed, digested or stored, so that the kernel
needs no protobuf at run time. Run by ``tools/generate_stubs.sh``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.protobuf import descriptor_pb2

KINDS = {
    descriptor_pb2.FieldDescriptorProto.TYPE_UINT32: "uint32",
    descriptor_pb2.FieldDescriptorProto.TYPE_UINT64: "uint64",
    descriptor_pb2.FieldDescriptorProto.TYPE_SINT64: "sint64",
    descriptor_pb2.FieldDescriptorProto.TYPE_BOOL: "bool",
    descriptor_pb2.FieldDescriptorProto.TYPE_ENUM: "enum",
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING: "string",
    descriptor_pb2.FieldDescriptorProto.TYPE_BYTES: "bytes",
    descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE: "message",
}

HEADER = '''"""Generated from proto/ by tools/generate_schema.py. Nothing here is written by hand.

``MESSAGES[name]`` is a tuple of fields in ascending number:
``(number, name, kind, repeated, in_oneof, message)``.
"""

from __future__ import annotations

Field = tuple[int, str, str, bool, bool, str]

MESSAGES: dict[str, tuple[Field, ...]] = {'''


def main() -> None:
    """Print the module."""
    descriptors = descriptor_pb2.FileDescriptorSet()
    descriptors.ParseFromString(Path(sys.argv[1]).read_bytes())
    print(HEADER)
    for file in descriptors.file:
        for message in file.message_type:
            print(f'    "{message.name}": (')
            for field in sorted(message.field, key=lambda field: field.number):
                row = (
                    field.number,
                    field.name,
                    KINDS[field.type],
                    field.label == field.LABEL_REPEATED,
                    field.HasField("oneof_index"),
                    field.type_name.rpartition(".")[2] if field.type == field.TYPE_MESSAGE else "",
                )
                cells = ", ".join(f'"{cell}"' if isinstance(cell, str) else str(cell) for cell in row)
                print(f"        ({cells}),")
            print("    ),")
    print("}")


if __name__ == "__main__":
    main()
