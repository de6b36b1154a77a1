"""Masks tokens in the texts of a message that is kept, or told to others than its caller."""

from __future__ import annotations

from google.protobuf.message import Message

from ..._fast.base.token_mask import masked


def mask_texts(message: Message) -> None:
    """Mask the texts of a message and the values of its maps of texts; nothing in the messages inside."""
    for field, value in message.ListFields():
        if isinstance(value, str):
            setattr(message, field.name, masked(value))
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            for name in [name for name, each in value.items() if isinstance(each, str)]:
                value[name] = masked(value[name])
